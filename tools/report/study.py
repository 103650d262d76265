"""What a suite of the catalogue says as a whole: who is faster, how often and by how much, at which sizes
and in which domains, and where one implementation gives way to another. «Ours» is what the library
chose by itself, as a caller gets it; a difference within the noise floor is a tie."""

import math
import statistics
from collections import Counter
from dataclasses import dataclass, field

from findings import approximate, arm_name, fastest, in_steps, ranked

FALLS_SHORT = 0.9
ENOUGH_BANDWIDTH = 0.85
KERNELS_OF_A_STUDY = 4


def size_text(size):
    """N as the suites are named: 1K, 100K, 10M."""
    if size is None:
        return "its one size"
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "K")):
        if size >= unit:
            return f"{size / unit:.3g}{name}"
    return str(size)


class Ratios:
    """Speed-ups over something, and what they come to."""

    def __init__(self, values, floor):
        self.values = sorted(value for value in values if value is not None)
        self.wins = sum(value > floor for value in self.values)
        self.losses = sum(value < 1 / floor for value in self.values)
        self.ties = len(self.values) - self.wins - self.losses
        self.short = sum(value < FALLS_SHORT for value in self.values)

    @property
    def count(self):
        return len(self.values)

    @property
    def win_rate(self):
        return self.wins / self.count

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def mean(self):
        return statistics.fmean(self.values)

    @property
    def geometric(self):
        return math.exp(statistics.fmean(map(math.log, self.values)))


def owner(row):
    """Whose a row is: a peer by its name, ours by backend and tier."""
    return arm_name(row) if row["peer"] else "/".join(row["arm"].split("/")[:2])


def over_peer(case):
    return case.ratio(case.chosen, case.peer)


def over_numpy(case):
    return case.ratio(case.chosen, case.numpy)


def leader(case):
    """The fastest of all that may be ranked: ours as it was chosen, or a peer."""
    rows = [row for row in (case.chosen, case.peer) if row is not None]
    return fastest(rows)


@dataclass
class Domain:
    name: str
    floor: float
    groups: list = field(default_factory=list)

    @property
    def cases(self):
        return [case for group in self.groups for case in group.cases]

    @property
    def peers(self):
        return Ratios(map(over_peer, self.cases), self.floor)

    @property
    def numpy(self):
        return Ratios(map(over_numpy, self.cases), self.floor)

    @property
    def winner(self):
        """(name, how many cases it is fastest in); None without a case that was timed."""
        rows = [leader(case) for case in self.cases]
        found = Counter(owner(row) for row in rows if row is not None).most_common(1)
        return found[0] if found else None

    def of_bandwidth(self, size):
        """Rates and shares of the measured bandwidth of what memory binds, at one size."""
        cases = [case for case in self.cases if case.size == size and case.counts_bytes
                 and case.chosen is not None and case.chosen["share"] is not None]
        return ([case.rate(case.chosen) for case in cases if case.rate(case.chosen)],
                [case.chosen["share"] for case in cases])


@dataclass
class Series:
    """One arm over the sizes of a kernel: (size, seconds an element)."""

    arm: str
    threads: int
    row: dict
    points: list

    @property
    def name(self):
        return arm_name(self.row)


@dataclass
class Crossing:
    """Where the fastest of ours changes between two neighbouring sizes; `at` is interpolated."""

    before: Series
    after: Series
    low: int
    high: int
    at: float


def series_of(groups):
    """All exact arms of one kernel, of ours and of peers, in files of one machine."""
    found = {}
    for group in groups:
        for case in group.cases:
            for row in case.rows:
                if case.size is None or not ranked(row) or approximate(row) or in_steps(row):
                    continue
                key = (row["arm"], row["threads"])
                series = found.setdefault(key, Series(*key, row, []))
                series.points.append((case.size, row["median"] / case.size))
    for series in found.values():
        series.points.sort()
    return [series for series in found.values() if len(series.points) > 1]


def crossings(series, floor):
    """Where one of ours gives way to another one, or one number of threads to another, each ahead by more
    than the noise floor on its side."""
    ours = [each for each in series if not each.row["peer"]]
    sizes = sorted({size for each in ours for size, _ in each.points})
    times = [dict(each.points) for each in ours]

    def best(size):
        return min((i for i in range(len(ours)) if size in times[i]), key=lambda i: times[i][size])

    found = []
    for low, high in zip(sizes, sizes[1:]):
        first, second = best(low), best(high)
        if first == second or low not in times[second] or high not in times[first]:
            continue
        behind = math.log(times[second][low] / times[first][low])
        ahead = math.log(times[first][high] / times[second][high])
        if min(behind, ahead) <= math.log(floor):
            continue
        share = behind / (behind + ahead)
        at = math.exp(math.log(low) + share * math.log(high / low))
        found.append(Crossing(ours[first], ours[second], low, high, at))
    return found


@dataclass
class Plot:
    """The crossover plot of one kernel, and what it shows in words."""

    group: object
    series: list
    crossings: list


class Study:
    """Of one suite in one file; others give it the same kernels with other numbers of threads."""

    def __init__(self, suite, others=()):
        self.suite, self.floor = suite, suite.floor
        self.others = others
        self.cases = [case for group in suite.groups for case in group.cases]
        self.sizes = sorted({case.size for case in self.cases if case.size is not None})
        self.has_one_size = any(case.size is None for case in self.cases)
        self.cold = any("cold" in row["flags"] for row in suite.rows)
        self.domains = []
        named = {}
        for group in suite.groups:
            name = group.domain or "other kernels"
            if name not in named:
                named[name] = Domain(name, self.floor)
                self.domains.append(named[name])
            named[name].groups.append(group)

    @property
    def columns(self):
        return [*self.sizes, *([None] if self.has_one_size else [])]

    def at(self, size):
        cases = [case for case in self.cases if case.size == size]
        return Ratios(map(over_peer, cases), self.floor), Ratios(map(over_numpy, cases), self.floor)

    @property
    def all(self):
        return Ratios(map(over_peer, self.cases), self.floor)

    @property
    def against(self):
        """(name, ratios) over the best peer, over NumPy, then over the other peers by name."""
        names = {owner(row) for case in self.cases for row in case.rows if row["peer"] and ranked(row)}
        table = [("the best peer of each case", self.all)]
        for name in sorted(names, key=lambda name: (name != "NumPy", name)):
            ratios = Ratios((self.over(case, name) for case in self.cases), self.floor)
            table.append((name, ratios))
        return [(name, ratios) for name, ratios in table if ratios.count]

    @staticmethod
    def over(case, name):
        return case.ratio(case.chosen, fastest(row for row in case.rows
                                               if row["peer"] and owner(row) == name))

    @property
    def leaders(self):
        """(name, cases in which it is the fastest of all, share of the cases)."""
        rows = [leader(case) for case in self.cases]
        found = Counter(owner(row) for row in rows if row is not None)
        return [(name, count, count / found.total()) for name, count in found.most_common()]

    @property
    def slower(self):
        """Cases in which a peer is clearly faster than ours, the worst first."""
        found = [case for case in self.cases
                 if over_peer(case) is not None and over_peer(case) < 1 / self.floor]
        return sorted(found, key=over_peer)

    @property
    def starved(self):
        """Cases bound by memory that stay below the bandwidth that they should reach, at the largest
        size and cold: elsewhere a cache or the start of a call tells more."""
        found = [case for case in self.cases
                 if case.size == max(self.sizes, default=0) and case.counts_bytes and case.chosen
                 and "cold" in case.chosen["flags"] and case.chosen["share"] is not None
                 and case.chosen["share"] < ENOUGH_BANDWIDTH]
        return sorted(found, key=lambda case: case.chosen["share"])

    @property
    def unserved(self):
        """Kernels of which nothing of ours was verified and timed."""
        return [group for group in self.suite.groups if not any(case.ours for case in group.cases)]

    @property
    def fusion(self):
        """(case, what fusing gains over separate steps of ours, what ours gains over a peer's)."""
        return [(case, case.ratio(case.chosen, case.steps)) for case in self.cases if case.steps]

    def plots(self, domain):
        """Of the kernels of a domain that were measured at several sizes."""
        found = []
        for group in domain.groups:
            same = [other for suite in self.others for other in suite.groups
                    if (other.kernel, other.dtype) == (group.kernel, group.dtype)]
            series = series_of([group, *same])
            if series:
                found.append(Plot(group, series, crossings(series, self.floor)))
        return found


def is_study(suite):
    """Whether the suite is one of the catalogue: several kernels, each of a domain."""
    kernels = {group.kernel for group in suite.groups if group.domain}
    return len(kernels) >= KERNELS_OF_A_STUDY and not is_routing(suite) and not is_calls(suite)


def is_routing(suite):
    return suite.name == "routing"


def is_calls(suite):
    return suite.name == "calls"


def studies_of(measurements):
    """A study by (path, name of the suite, whether it is of a device). Where files of one machine differ in the number of threads,
    the plots of the one with most threads have the lines of the others beside its own."""
    found = {}
    for measurement in measurements:
        for suite in filter(is_study, measurement.suites):
            others = [other for each in measurements for other in each.suites
                      if other is not suite and (other.name, other.device) == (suite.name, suite.device)
                      and each.environment["cpu_model"] == measurement.environment["cpu_model"]
                      and is_cold(other) == is_cold(suite) and most_threads(other) < most_threads(suite)]
            found[measurement.path, suite.name, suite.device] = Study(suite, others)
    return found


def is_cold(suite):
    return any("cold" in row["flags"] for row in suite.rows)


def most_threads(suite):
    return max(row["threads"] for row in suite.rows)


class Regrets:
    """Of the library's choices at shapes that the tuner did not see: by how much each is slower than the
    fastest of ours, and by how much one and the same arm differed from itself."""

    def __init__(self, suite, noise_pairs):
        self.cases = []
        for group in suite.groups:
            for case in group.cases:
                routed = [row for row in case.rows if "routed" in row["flags"] and ranked(row)]
                if routed and case.ours:
                    regret = routed[0]["median"] / case.ours["median"] - 1
                    self.cases.append((max(0.0, regret), case, routed[0]))
        self.cases.sort(key=lambda each: -each[0])
        self.values = sorted(each[0] for each in self.cases)
        self.noise = sorted(abs(pair["ratio"] - 1) for pair in noise_pairs
                            if pair["suite"] == suite.name)

    @staticmethod
    def quantile(values, share):
        at = share * (len(values) - 1)
        low = values[int(at)]
        high = values[min(int(at) + 1, len(values) - 1)]
        return low + (high - low) * (at - int(at))

    def summary(self, values):
        return [("median", self.quantile(values, 0.5)), ("mean", statistics.fmean(values)),
                ("90th percentile", self.quantile(values, 0.9)),
                ("95th percentile", self.quantile(values, 0.95)), ("worst", values[-1])]

    def within(self, share):
        return sum(value <= share for value in self.values) / len(self.values)


class Calls:
    """What calls cost that compute next to nothing: of each arm the distribution over the kernels."""

    ENDINGS = {"-ones": "every extent 1", "-n1": "N = 1"}
    ARMS = {None: "ours", "peer/numpy": "NumPy", "peer/torch": "PyTorch"}

    def __init__(self, suite):
        self.lines, self.slowest = [], []
        cases = [case for group in suite.groups for case in group.cases]
        for ending, title in self.ENDINGS.items():
            for arm, name in self.ARMS.items():
                found = [(row["median"], case, row) for case in cases if case.name.endswith(ending)
                         for row in case.rows if ranked(row) and self.is_of(row, arm)]
                values = sorted(each[0] for each in found)
                if values:
                    self.lines.append((title, name, values))
                if arm is None:
                    self.slowest += found
        self.slowest.sort(key=lambda each: -each[0])

    @staticmethod
    def is_of(row, arm):
        return row["arm"] == arm if arm else "routed" in row["flags"] and not row["peer"]

    @staticmethod
    def quantile(values, share):
        return Regrets.quantile(values, share)

    @staticmethod
    def within(values, nanoseconds):
        return sum(value <= 1e-9 * nanoseconds for value in values)
