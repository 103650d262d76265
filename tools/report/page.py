"""The page: findings put into the template, and written in one step or not at all."""

import os
import statistics
import tempfile
from pathlib import Path

import jinja2

import findings
import plots
import study
import svg


def scaled(value, units, base):
    for unit in units[:-1]:
        if value < base:
            break
        value /= base
    else:
        unit = units[-1]
    digits = 0 if value >= 100 or value == int(value) < 10 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def seconds(value):
    if value is None:
        return "–"
    return scaled(value * 1e9, ("ns", "µs", "ms", "s"), 1000)


def memory(value):
    if value is None:
        return "–"
    return scaled(value, ("B", "KiB", "MiB", "GiB", "TiB"), 1024)


def rate(value, unit):
    if value is None:
        return "–"
    value *= 1e-9
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 4
    return f"{value:.{digits}f} G{unit}"


def times(value):
    if value is None:
        return "–"
    if 0 < value < 0.095:
        return f"{value:.2g}×"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}×"


def floor_text(ratio):
    return share(ratio - 1) if ratio < 1.5 else times(ratio)


def share(value):
    if value is None:
        return "–"
    if 0 < value < 0.001:
        return "< 0.1\u00a0%"  # a sign stays with its figure
    if value > 10:
        return f"{value:.0f}×" if value < 1e5 else f"{value:.0e}×"
    return f"{100 * value:.1f}\u00a0%" if value < 0.1 else f"{100 * value:.0f}\u00a0%"


def magnitude(value, digits=2):
    return "–" if value is None else f"{value:.{digits}g}"


def words(name):
    return name.replace("_", " ")


def fact(value, name=""):
    """A value of the environment as a reader writes it; names say their unit."""
    if type(value) in (int, float):
        if name.endswith("_bytes"):
            return memory(value)
        if name.endswith("_share"):
            return share(value)
        if name.endswith("_hz"):
            return f"{value * 1e-9:.2f} GHz"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(fact(item, name) for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {fact(item)}" for name, item in value.items()) or "none"
    return "unknown" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


class Anchors:
    """Names of places on the page, by suite and part: what a file calls them need not make one."""

    def __init__(self):
        self.names = {}

    def __call__(self, of, part):
        suite = getattr(of, "suite", of)
        return self.names.setdefault((id(suite), part), f"part-{len(self.names) + 1}")


def suite_title(measurement, suite):
    """Suites that were measured more than once, at one size each, cold and warm, with one thread and all, are
    told apart."""
    threads = study.most_threads(suite)
    sizes = {case.size for group in suite.groups for case in group.cases if case.size}
    size = f" at N = {study.size_text(*sizes)}" if len(sizes) == 1 else ""
    cold = ", cold" if study.is_cold(suite) else ""
    return f"{suite.name}{size}{cold}, {findings.place(suite.rows, threads)}"


def render(measurements, accuracies=()):
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )
    environment.filters.update(
        floor_text=floor_text, seconds=seconds, memory=memory, rate=rate, times=times, share=share,
        magnitude=magnitude, words=words, fact=fact, median=statistics.median,
    )
    environment.globals.update(
        plots_of=plots.plots_of, domain_plot=plots.domain_plot, crossover_plot=plots.crossover_plot,
        regret_plot=plots.regret_plot, arm_name=findings.arm_name, ranked=findings.ranked,
        error_share=findings.error_share, wrong=findings.wrong, size_text=study.size_text, sample=svg.sample,
        is_routing=study.is_routing, is_calls=study.is_calls, calls_of=study.Calls, anchor=Anchors(), suite_title=suite_title,
        regrets_of=lambda measurement, suite: study.Regrets(
            suite, measurement.document["noise_floor"]["pairs"]),
    )
    machines = {each.environment["cpu_model"] for each in measurements}
    machines |= {each.machine for each in accuracies}
    return environment.get_template("template.html").render(
        measurements=measurements, accuracies=accuracies, studies=study.studies_of(measurements),
        machines=sorted(machines), paths=[each.path for each in (*measurements, *accuracies)],
    )


def write(path, content):
    """Puts the content at the path whole: a reader sees the old file or the new. Raises OSError."""
    directory = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(prefix=".report-", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
