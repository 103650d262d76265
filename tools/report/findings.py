"""What the measurements say: rows gathered into cases, cases into groups, and the answer of each.

An arm that is not verified, or was not timed, is kept for the tables and never ranked. The baseline
of a case is its fastest verified peer; a ratio within the noise floor is a tie, whoever leads."""

import re
import statistics
from collections import Counter
from dataclasses import dataclass, field

PEER_NAMES = {"numpy": "NumPy", "torch": "PyTorch", "pytorch": "PyTorch", "openvino": "OpenVINO",
              "onnxruntime": "ONNX Runtime", "jax": "JAX", "mlx": "MLX", "fftw": "FFTW"}

LOUD_FLAGS = {
    "less-accurate": ("note", "beyond our bound, within the peers' own"),
    "above-ceiling": ("note", "above its ceiling: a cache effect or a fault"),
    "throttled": ("bad", "throttled"),
}


def arm_name(row):
    """Peers by the name that their users know; ours by the name that the library takes."""
    if not row["peer"]:
        return row["arm"]
    parts = row["arm"].removeprefix("peer/").split("/")
    if parts[0] == "cuda" and len(parts) > 1:  # "cuda/torch-cudnn": a library, and its way
        name, _, way = parts[1].partition("-")
        return " ".join(filter(None, [PEER_NAMES.get(name, name), way, "on CUDA"]))
    return " ".join([PEER_NAMES.get(parts[0], parts[0]), *parts[1:]])


def on_device(row):
    return row["backend"] == "cuda"


def place(rows, threads):
    """Where rows were computed, in words."""
    if rows and all(map(on_device, rows)):
        return "a CUDA device"
    return f"{threads} thread{'' if threads == 1 else 's'}"


def is_numpy(row):
    return row["peer"] and row["arm"].removeprefix("peer/").split("/")[0] == "numpy"


def ranked(row):
    return row["verified"] and row["median"] is not None


def wrong(row):
    """It gave a result, and that was compared; without one there is a reason only."""
    return not row["verified"] and not (row["error"] is None and row["bound"] is None)


def in_steps(row):
    """The work of a fused kernel by one kernel after another: what fusion is measured against."""
    return row["arm"].split("/")[-1] == "steps"


def approximate(row):
    """Judged by its quality as a whole; never compared with exact arms as their equal."""
    return "approximate" in row["flags"]


def fastest(rows):
    return min(filter(ranked, rows), key=lambda row: row["median"], default=None)


def cold_text(row):
    """How its calls came to find nothing in the last cache."""
    if row["cold_by"] == "rotation" and row["sets"]:
        return f"cold, over {row['sets']} sets of tensors"
    return "cold, after a flush" if row["cold_by"] == "flush" else "cold"


def error_share(row):
    """The error as a share of its bound; None where either is unknown."""
    if row["error"] is None or row["bound"] is None:
        return None
    if row["error"] == 0:
        return 0.0
    return row["error"] / row["bound"] if row["bound"] > 0 else float("inf")


def size_of(name):
    """The N of a case of the catalogue, which its name ends with; None: it has one size."""
    found = re.search(r"-n([0-9]{1,15})$", name)
    return int(found[1]) if found and int(found[1]) > 0 else None


@dataclass
class Case:
    name: str
    rows: list
    ceilings: dict

    def __post_init__(self):
        self.rows.sort(key=lambda row: (not ranked(row), row["median"] or 0, row["arm"]))
        self.ours = fastest(row for row in self.rows if not row["peer"] and not approximate(row)
                            and not in_steps(row))
        routed = [row for row in self.rows if "routed" in row["flags"] and ranked(row)]
        self.chosen = routed[0] if routed else self.ours
        self.steps = fastest(row for row in self.rows if not row["peer"] and in_steps(row))
        self.peer = fastest(row for row in self.rows if row["peer"])
        self.numpy = fastest(row for row in self.rows if is_numpy(row))
        self.hot_peer = min((row for row in self.rows if row["peer"] and row["verified"] and row["hot"]),
                            key=lambda row: row["hot"]["median"], default=None)
        self.size = size_of(self.name)
        self.approximate = any(map(approximate, self.rows))
        self.flash = self.of_algorithm("flash")
        self.textbook = self.of_algorithm("textbook")
        named = [row["ceiling"] for row in self.rows if row["ceiling"]]
        self.ceiling = self.ceilings[named[0]] if named else None
        moved = [row["memory"] for row in self.rows if row["memory"]]
        self.memory = moved[0] if moved else None
        if self.ceiling:
            self.counts_bytes = self.ceiling["unit"] == "B/s"
        else:
            self.counts_bytes = not any(row["flops"] for row in self.rows)

    def of_algorithm(self, name):
        return fastest(row for row in self.rows
                       if not row["peer"] and row["arm"].endswith("/" + name))

    @property
    def limit(self):
        """What no rate exceeds: that of moving the case's tensors, or the ceiling of the run; or None."""
        if self.memory:
            return self.memory["bytes"] / self.memory["median"]
        return self.ceiling["value"] if self.ceiling else None

    def rate(self, row):
        """In FLOP/s or B/s, whichever the case is bound by; None if it was not timed or counted."""
        work = row["bytes" if self.counts_bytes else "flops"]
        return work / row["median"] if work and row["median"] else None

    def ratio(self, row, baseline):
        """How many times faster the row is than the baseline."""
        if row is None or baseline is None or not ranked(row):
            return None
        return baseline["median"] / row["median"]

    @property
    def speedup(self):
        return self.ratio(self.ours, self.peer)

    def hot_remark(self, row):
        """What a row of a device does after much of the same, beside the best peer there."""
        hot = row["hot"]["median"]
        against = ""
        if self.hot_peer is not None and row is not self.hot_peer:
            against = f", {self.hot_peer['hot']['median'] / hot:.2f}× the best peer"
        return "flag", f"hot: {hot / row['median']:.2f}× the time{against}"

    def remarks(self, row):
        """(kind, words) of everything that a reader of the row should know."""
        reason = f": {row['reason']}" if row["reason"] else ""
        share = error_share(row)
        said = {flag: LOUD_FLAGS[flag] for flag in row["flags"] if flag in LOUD_FLAGS}
        if share is not None and share > 1 and row["verified"]:
            said["less-accurate"] = LOUD_FLAGS["less-accurate"]
        if row["share"] is not None and row["share"] > 1:
            said["above-ceiling"] = LOUD_FLAGS["above-ceiling"]
        if wrong(row):
            said["wrong"] = ("bad", "wrong" + reason)
        elif not row["verified"]:
            said["absent"] = ("flag", "not verified" + reason)
        elif row["median"] is None:
            said["untimed"] = ("note", "not timed" + reason)
        quiet = [("flag", cold_text(row) if flag == "cold" else flag) for flag in row["flags"] if flag not in said]
        hot = [self.hot_remark(row)] if row["hot"] and ranked(row) else []
        return [*said.values(), *hot, *quiet]


@dataclass
class Group:
    """The cases of one kernel, dtype and thread count within a suite."""

    kernel: str
    dtype: str
    threads: int
    floor: float
    cases: list = field(default_factory=list)
    domain: str = None

    @property
    def place(self):
        return place([row for case in self.cases for row in case.rows], self.threads)

    def conclude(self):
        compared = [case for case in self.cases if case.speedup is not None]
        against_numpy = [case.ratio(case.ours, case.numpy) for case in self.cases]
        self.speedups = [case.speedup for case in compared]
        self.numpy_speedups = [ratio for ratio in against_numpy if ratio is not None]
        self.speedup = statistics.median(self.speedups) if self.speedups else None
        self.numpy_speedup = statistics.median(self.numpy_speedups) if self.numpy_speedups else None
        self.outcomes = Counter(self.outcome(ratio) for ratio in self.speedups)
        self.choices = Counter(case.ours["arm"] for case in self.cases if case.ours).most_common()
        self.rivals = Counter(arm_name(case.peer) for case in compared).most_common()
        self.losses = [case for case in compared if self.outcome(case.speedup) == "loss"]
        self.winners = Counter(arm_name(case.peer) for case in self.losses).most_common()
        if self.speedup is not None:
            self.verdict = self.outcome(self.speedup)
        elif self.choices:
            self.verdict = "alone"
        else:
            self.verdict = "peers only" if any(case.peer for case in self.cases) else "nothing"
        self.wrong = [(case, row) for case in self.cases for row in case.rows if wrong(row)]
        return self

    @property
    def faults(self):
        """What was wrong, by arm, the worst first."""
        by_arm = {}
        for case, row in self.wrong:
            by_arm.setdefault(arm_name(row), []).append((case, row))
        for faults in by_arm.values():
            faults.sort(key=lambda fault: -(error_share(fault[1]) or 0))
        return by_arm.items()

    def outcome(self, ratio):
        if ratio > self.floor:
            return "win"
        return "loss" if ratio < 1 / self.floor else "tie"

    @property
    def answer(self):
        """The arm to use; for a group that peers win, the peer that wins most of it."""
        if self.verdict == "loss":
            return self.winners[0][0] if self.winners else self.rivals[0][0]
        if self.choices:
            return self.choices[0][0]
        peers = Counter(arm_name(case.peer) for case in self.cases if case.peer).most_common()
        return peers[0][0] if peers else None


@dataclass
class Suite:
    """The rows of one suite in a file, of the processor or of a device."""

    name: str
    device: bool
    rows: list
    ceilings: dict
    floor: float

    def __post_init__(self):
        gathered = {}
        for row in self.rows:
            group = (row["kernel"], row["dtype"], row["threads"])
            gathered.setdefault(group, {}).setdefault(row["case"], []).append(row)
        self.groups = []
        for key, cases in gathered.items():
            group = Group(*key, self.floor)
            group.cases = [Case(name, rows, self.ceilings) for name, rows in cases.items()]
            group.domain = next((row["domain"] for case in group.cases for row in case.rows
                                 if row["domain"]), None)
            self.groups.append(group.conclude())
        speedups = [ratio for group in self.groups for ratio in group.speedups]
        against_numpy = [ratio for group in self.groups for ratio in group.numpy_speedups]
        chosen = [(group, case.ratio(case.chosen, case.peer))
                  for group in self.groups for case in group.cases if case.speedup is not None]
        self.chosen_outcomes = Counter(group.outcome(ratio) for group, ratio in chosen)
        self.chosen_speedup = statistics.median(ratio for _, ratio in chosen) if chosen else None
        self.cases = sum(len(group.cases) for group in self.groups)
        self.compared = len(speedups)
        self.outcomes = sum((group.outcomes for group in self.groups), Counter())
        self.speedup = statistics.median(speedups) if speedups else None
        self.numpy_speedup = statistics.median(against_numpy) if against_numpy else None


@dataclass
class Pair:
    """A case on the processor and on a device: with its tensors there, and with them in the host's memory."""

    here: Case
    there: Case

    @property
    def travelled(self):
        row = self.there.chosen
        return row["with_transfers"]["median"] if row and row["with_transfers"] else None

    @property
    def moved(self):
        transfers = self.there.chosen["transfers"] if self.there.chosen else None
        return transfers["sent_bytes"] + transfers["fetched_bytes"] if transfers else None

    def over_processor(self, seconds):
        """How many times faster that is than ours on the processor."""
        return self.here.chosen["median"] / seconds if self.here.chosen and seconds else None


@dataclass
class Measurement:
    """One file: its suites, measured in one environment with one noise floor."""

    document: dict
    path: str

    def __post_init__(self):
        self.environment = self.document["environment"]
        floor = self.document["noise_floor"]
        self.noise = None
        if floor["ratio"] and floor["pairs"]:
            self.noise = max(floor["ratio"], 1 / floor["ratio"])
        suites = {}
        for row in self.document["rows"]:
            suites.setdefault((row["suite"], on_device(row)), []).append(row)
        self.suites = [Suite(*key, rows, self.document["ceilings"], self.noise or 1.0)
                       for key, rows in suites.items()]

    @property
    def pairs(self):
        """By suite, the cases that were measured on the processor and on a device."""
        found = {}
        for suite in self.suites:
            for group in suite.groups:
                for case in group.cases:
                    key = suite.name, case.name
                    found.setdefault(key, {})[suite.device] = case
        by_suite = {}
        for (name, _), places in found.items():
            if len(places) == 2:
                by_suite.setdefault(name, []).append(Pair(places[False], places[True]))
        return by_suite

    @property
    def warnings(self):
        """What makes the figures of this file less certain."""
        rows = self.document["rows"]
        found = list(self.environment["warnings"] or [])
        if self.document["interrupted"]:
            found.append("the run was interrupted: some arms have few samples or none")
        if self.noise is None:
            found.append("the noise floor was not measured: small differences may be noise")
        elif self.noise > 1.1:
            found.append(f"the noise floor is {self.noise:.2f}×: the machine was not quiet")
        throttled = sum("throttled" in row["flags"] for row in rows)
        if throttled:
            found.append(f"{throttled} of {len(rows)} rows have throttled samples")
        return found


@dataclass
class Accuracy:
    """The table of `fovea check --exhaustive`."""

    document: dict
    path: str

    def __post_init__(self):
        self.functions = self.document["functions"]
        self.every, self.scalar_every = self.document["every"], self.document["scalar_every"]
        self.machine = self.document["cpu_model"]
        self.tiers = list(dict.fromkeys(each["tier"] for function in self.functions
                                        for each in function["implementations"]))


def sorted_out(document, path):
    """What a document is, by its kind."""
    return (Accuracy if document.get("kind") == "accuracy" else Measurement)(document, path)
