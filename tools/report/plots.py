"""The page's plots. Each shows figures that also stand in a table beside it, and tells its series apart by
shape and line as well as by colour."""

from axes import Axis, ShareAxis, around
from findings import error_share, is_numpy
from study import over_peer, size_text
from svg import CHARACTER, Drawing, sample, shortened

CASES_A_PLOT = 48
SMALLEST_SHARE = 1e-4
NAME_LIMIT = 34
WIDTH = 470
LINE = 20  # between two lines of a dot plot
FOOT = 42  # below them: the axis
ROLES = (("ours", "circle"), ("peer", "diamond"), ("numpy", "square"))
OUR_SHAPES = ("circle", "triangle", "plus", "down", "cross")
PEER_SHAPES = ("diamond", "cross", "triangle", "down", "plus", "bar")
MOST_SERIES = 10


def roles(case):
    """The rows that a plot shows; the best peer gives its place to NumPy where it is NumPy."""
    peer = case.peer if case.peer is not case.numpy else None
    return tuple(zip(ROLES, (case.ours, peer, case.numpy)))


def scale_below(drawing, axis, bottom, title):
    """Ticks, thin lines upwards from them, and what is measured."""
    for value, words in axis.ticks(6):
        x = axis.place(value)
        drawing.line(x, 4, x, bottom, "rule")
        drawing.text(x, bottom + 15, words, "middle", "tick")
    drawing.text((axis.start + axis.end) / 2, bottom + 33, title, "middle", "tick")


def dot_plot(cases, label, title, value, limits, wall, logarithmic=False):
    """One line a case, one mark a role. `wall` gives where a case's ceiling or bound stands."""
    left = 14 + CHARACTER * max(len(shortened(case.name, NAME_LIMIT)) for case in cases)
    bottom = 6 + LINE * len(cases)
    drawing = Drawing(WIDTH, bottom + FOOT, label)
    axis = Axis(*limits, left, WIDTH - 16, logarithmic)
    scale_below(drawing, axis, bottom, title)
    for at, case in enumerate(cases):
        y = 6 + LINE * (at + 0.5)
        drawing.text(left - 10, y + 4, shortened(case.name, NAME_LIMIT), "end")
        drawing.line(left, y, WIDTH - 16, y, "rule")
        if wall(case) is not None:
            x = axis.place(wall(case))
            drawing.line(x, y - LINE / 2, x, y + LINE / 2, "ceiling stroke")
        for (kind, shape), row in roles(case):
            found = row and value(case, row)
            if found is not None:
                drawing.marker(axis.place(found), y, shape, kind, f"{row['arm']}: {found:.4g}")
    return drawing.render()


def rate_plot(cases):
    """Rates in thousand millions a second, and the measured ceiling of each case."""
    unit = "GB/s" if cases[0].counts_bytes else "GFLOP/s"

    def value(case, row):
        rate = case.rate(row)
        return rate and rate * 1e-9

    def wall(case):
        return case.limit and case.limit * 1e-9

    shown = [value(case, row) for case in cases for _, row in roles(case) if row]
    shown += [wall(case) for case in cases]
    high = max((each for each in shown if each), default=1)
    return dot_plot(cases, f"Rates in {unit} against the measured ceiling", unit, value,
                    (0, 1.04 * high), wall)


def error_plot(cases):
    """Errors as shares of the bound; an exact result stands at the left edge."""

    def value(_, row):
        share = error_share(row)
        return None if share is None or share > 1e12 else max(share, SMALLEST_SHARE)

    shown = [value(case, row) for case in cases for _, row in roles(case) if row]
    low, high = around([each for each in shown if each] or [1], (0.05, 2), 1.5)
    return dot_plot(cases, "Errors as shares of their bounds", "error / bound", value,
                    (max(low, SMALLEST_SHARE / 2), high), lambda case: 1, logarithmic=True)


def plots_of(group):
    """Pairs (rates, errors), as many as the number of cases asks for."""
    timed = [case for case in group.cases if case.ours or case.peer]
    kinds = ([case for case in timed if case.counts_bytes is kind] for kind in (False, True))
    return [(rate_plot(cases[at : at + CASES_A_PLOT]), error_plot(cases[at : at + CASES_A_PLOT]))
            for cases in kinds for at in range(0, len(cases), CASES_A_PLOT)]


# ---- The study ----------------------------------------------------------------------------------


def ratio_text(value):
    return f"{value:g}×"


def domain_plot(study):
    """One line a domain, one mark a case: how many times faster ours is than the best peer. Marks of
    cases that a peer wins have another shape than those of ours."""
    domains = [domain for domain in study.domains if domain.peers.count]
    values = [over_peer(case) for domain in domains for case in domain.cases
              if over_peer(case) is not None]
    if not values:
        return None
    width, left = 720, 14 + CHARACTER * max(len(domain.name) for domain in domains)
    bottom = 6 + 22 * len(domains)
    drawing = Drawing(width, bottom + FOOT, "Speed-up of ours over the best peer, by domain")
    axis = Axis(*around(values, (0.8, 1.3)), left, width - 16, True, ratio_text)
    scale_below(drawing, axis, bottom, "times as fast as the best peer, logarithmic")
    drawing.line(axis.place(1), 2, axis.place(1), bottom, "ceiling stroke")
    for at, domain in enumerate(domains):
        y = 6 + 22 * (at + 0.5)
        drawing.text(left - 10, y + 4, domain.name.replace("_", " "), "end")
        drawing.line(left, y, width - 16, y, "rule")
        for case in sorted(domain.cases, key=lambda case: over_peer(case) or 0):
            ratio = over_peer(case)
            if ratio is None:
                continue
            lost = ratio < 1 / study.floor
            drawing.marker(axis.place(ratio), y, "diamond" if lost else "circle",
                           "peer mark" if lost else "ours mark", f"{case.name}: {ratio:.2f}×")
        median = axis.place(domain.peers.median)
        drawing.line(median, y - 8, median, y + 8, "median stroke")
    return drawing.render()


def looks_of(series):
    """(series, colour, shape, line) of each: ours by shape, threads by line, peers each by a shape."""
    ours = [each for each in series if not each.row["peer"]]
    peers = sorted((each for each in series if each.row["peer"]), key=lambda each: each.points[-1][1])
    arms = list(dict.fromkeys(each.arm for each in ours))
    most = max((each.threads for each in series), default=1)
    looks = []
    for each in (*ours, *(peer for peer in peers if peer.threads == most)):
        dash = "solid" if each.threads == most else "dashed"
        if not each.row["peer"]:
            shape = OUR_SHAPES[arms.index(each.arm) % len(OUR_SHAPES)]
            looks.append((each, "ours", shape, dash))
        elif is_numpy(each.row):
            looks.append((each, "numpy", "square", "dotted"))
        else:
            count = sum(kind == "peer" for _, kind, _, _ in looks)
            looks.append((each, "peer", PEER_SHAPES[count % len(PEER_SHAPES)], "mixed"))
    return looks[:MOST_SERIES]


def nanoseconds(value):
    for unit, name in ((1e3, "ms"), (1, "µs")):
        if value >= unit * 1e3:
            return f"{value / unit / 1e3:.3g} {name}"
    return f"{value:.3g} ns" if value >= 0.01 else f"{1e3 * value:.3g} ps"


def crossover_plot(plot):
    """Time an element over the number of elements, both logarithmic: where two lines cross, another
    choice becomes the right one. Returns the drawing and its legend: (mark, name, threads)."""
    looks = looks_of(plot.series)
    points = [point for series, *_ in looks for point in series.points]
    left, right, top, bottom = 58, 376, 8, 190
    drawing = Drawing(390, bottom + FOOT,
                      f"{plot.group.kernel}: time an element over the number of elements")
    across = Axis(*around([size for size, _ in points], margin=1.25), left, right, True)
    up = Axis(*around([1e9 * time for _, time in points], margin=1.25), bottom, top, True,
              nanoseconds)
    for size in sorted({size for size, _ in points}):
        drawing.line(across.place(size), top, across.place(size), bottom, "rule")
        drawing.text(across.place(size), bottom + 15, size_text(size), "middle", "tick")
    for value, words in up.ticks(5):
        drawing.line(left, up.place(value), right, up.place(value), "rule")
        drawing.text(left - 7, up.place(value) + 4, words, "end", "tick")
    drawing.text((left + right) / 2, bottom + 33, "N", "middle", "tick")
    for series, kind, shape, dash in reversed(looks):
        places = [(across.place(size), up.place(1e9 * time)) for size, time in series.points]
        drawing.path(places, kind, dash)
        for (x, y), (size, time) in zip(places, series.points):
            drawing.marker(x, y, shape, kind, f"{series.name}, N = {size_text(size)}: "
                                              f"{nanoseconds(1e9 * time)} an element")
    legend = [(sample(shape, kind, dash), series.name, series.threads)
              for series, kind, shape, dash in looks]
    return drawing.render(), legend


def regret_plot(regrets):
    """Both distributions, sorted: the share of the calls whose regret is no larger."""
    left, right, top, bottom = 58, 700, 8, 230
    drawing = Drawing(720, bottom + FOOT, "Share of the calls whose regret is no larger")
    across = ShareAxis(regrets.values[-1] if regrets.values else 0, left, right)
    up = Axis(0, 1, bottom, top, False, lambda value: f"{100 * value:g} %")
    for value, words in up.ticks(5):
        drawing.line(left, up.place(value), right, up.place(value), "rule")
        drawing.text(left - 7, up.place(value) + 4, words, "end", "tick")
    scale_below(drawing, across, bottom, "slower than the fastest of ours, logarithmic above 1 %")
    for values, kind, dash in ((regrets.noise, "quiet", "dashed"), (regrets.values, "ours", "solid")):
        if values:
            points = [(left, bottom)]
            points += [(across.place(value), up.place((at + 1) / len(values)))
                       for at, value in enumerate(values)]
            drawing.path(points, kind, dash)
    return drawing.render()
