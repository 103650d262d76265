"""Plots as inline SVG. Matplotlib draws in stand-in colours, which become the page's own variables,
so that one drawing serves light and dark; texts stay texts and take the page's font."""

import io
import logging
import re

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from findings import error_share

matplotlib.use("svg")
logging.getLogger("matplotlib").setLevel(logging.ERROR)

COLOURS = {"#000001": "currentColor", "#000002": "var(--ours)", "#000003": "var(--peer)",
           "#000004": "var(--numpy)", "#000005": "var(--ceiling)", "#000006": "var(--rule)"}
INK, OURS, PEER, NUMPY, CEILING, RULE = COLOURS
CASES_A_PLOT = 48
SMALLEST_SHARE = 1e-4
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "fovea", "font.family": "sans-serif",
         "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": RULE,
         "xtick.color": INK, "ytick.color": INK, "text.parse_math": False}


def shortened(name, limit=34):
    return name if len(name) <= limit else f"{name[: limit // 2]}…{name[-(limit // 2 - 1) :]}"


def inline(figure, label):
    """The figure as an <svg> element that needs nothing from outside."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", svg)
    svg = re.sub(r"font: (\S+px) [^;\"]*", r"font-size: \1; font-family: inherit", svg)
    svg = re.sub("|".join(COLOURS), lambda found: COLOURS[found.group()], svg)
    svg = re.sub(r' width="[^"]*pt"| height="[^"]*pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def dot_plot(cases, label, series, axis):
    """One line a case, one dot a series: (colour, marker, values)."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.7, 0.62 + 0.2 * len(cases)), layout="constrained")
        axes = figure.add_subplot()
        positions = range(len(cases))
        axes.set_yticks(positions, [shortened(case.name) for case in cases], parse_math=False)
        axes.set_ylim(len(cases) - 0.5, -0.5)
        axes.grid(axis="y", color=RULE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        for colour, marker, values in series:
            points = [(value, at) for at, value in zip(positions, values) if value is not None]
            if points:
                axes.scatter(*zip(*points), s=26, marker=marker, color=colour, linewidths=0,
                             zorder=3)
        axis(axes)
        return inline(figure, label)


def roles(case):
    """The rows that a plot shows; the best peer gives its place to NumPy where it is NumPy."""
    peer = case.peer if case.peer is not case.numpy else None
    return ((OURS, "o", case.ours), (PEER, "D", peer), (NUMPY, "s", case.numpy))


def series_of(cases, value):
    columns = [[(colour, marker, row and value(case, row)) for colour, marker, row in roles(case)]
               for case in cases]
    return [(each[0][0], each[0][1], [entry[2] for entry in each]) for each in zip(*columns)]


def rate_plot(cases):
    """Rates in thousand millions a second, and the measured ceiling of each case."""
    unit = "GB/s" if cases[0].counts_bytes else "GFLOP/s"
    scale = 1e-9

    def axis(axes):
        for at, case in enumerate(cases):
            if case.ceiling:
                axes.vlines(case.ceiling["value"] * scale, at - 0.5, at + 0.5, color=CEILING,
                            linewidth=1.5)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(unit)

    def value(case, row):
        rate = case.rate(row)
        return rate and rate * scale

    label = f"Rates in {unit} against the measured ceiling"
    return dot_plot(cases, label, series_of(cases, value), axis)


def error_plot(cases):
    """Errors as shares of the bound; an exact result stands at the left edge."""

    def axis(axes):
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(max(min(low, 0.05), SMALLEST_SHARE / 2), max(high, 2))
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:g}")
        axes.minorticks_off()
        axes.axvline(1, color=CEILING, linewidth=1.5)
        axes.set_xlabel("error / bound")

    def value(_, row):
        share = error_share(row)
        return None if share is None or share > 1e12 else max(share, SMALLEST_SHARE)

    return dot_plot(cases, "Errors as shares of their bounds", series_of(cases, value), axis)


def plots_of(group):
    """Pairs (rates, errors), as many as the number of cases asks for."""
    timed = [case for case in group.cases if case.ours or case.peer]
    kinds = ([case for case in timed if case.counts_bytes is kind] for kind in (False, True))
    return [(rate_plot(cases[at : at + CASES_A_PLOT]), error_plot(cases[at : at + CASES_A_PLOT]))
            for cases in kinds for at in range(0, len(cases), CASES_A_PLOT)]
