#!/usr/bin/env python3
"""Files of `fovea bench` as no benchmark writes them, for the reader of `fovea report`: a right file with
values exchanged, fields dropped, lists doubled, or its text cut and spoilt. The reader may take it, and
then the page is made, or refuse it with a sentence; anything else is a finding, and the file is kept.

usage: tests/fuzz/fuzz_report.py [--seconds N] [--seed N] [--keep FOLDER]"""

import argparse
import copy
import json
import math
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "report"))
import page  # noqa: E402
from document import DocumentError, load  # noqa: E402
from findings import Accuracy, sorted_out  # noqa: E402


def row(arm, median, **changed):
    return {
        "suite": "sdpa", "case": "b4-hq1-sq512-d64", "kernel": "attention", "dtype": "f32",
        "shape": {"b": 4}, "threads": 2, "arm": arm, "peer": arm.startswith("peer/"),
        "verified": True, "reason": None, "error": 1e-7, "bound": 1e-6, "bound_kind": "attention",
        "samples": [median], "median": median, "mad": 0.01 * median, "p10": median, "p90": median,
        "minimum": median, "outliers": 0, "flops": 2e8, "bytes": 1e6, "ceiling": "fma",
        "share": 0.5, "scratch_bytes": 4096, "block": {}, "arithmetic": "f32", "flags": ["routed"],
    } | changed


def catalogue_rows():
    """Enough kernels of enough domains for a study, at three sizes, and two routed calls."""
    rows = []
    for kernel, domain in (("reduce_sum", "reductions"), ("map_exp", "elementwise"),
                           ("map_add", "elementwise"), ("fused_scan_compact", "fused_custom")):
        for size in (1000, 100000, 10000000):
            case = {"suite": "kernels", "kernel": kernel, "domain": domain,
                    "case": f"{kernel}-n{size}", "ceiling": "copy"}
            arms = {"cpu/avx512/direct": 1, "cpu/avx512/small": size / 1e5, "peer/numpy": 3,
                    "peer/torch": 0.8, "cpu/steps": 2}
            rows += [row(arm, factor * size * 1e-9, **case) for arm, factor in arms.items()]
    for number in (1, 2):
        case = {"suite": "routing", "kernel": "map_exp", "case": f"map_exp-{number}"}
        rows += [row("cpu/avx512/direct", 1e-3, **case),
                 row("cpu/avx2/direct", 0.9e-3, **case | {"flags": []})]
    return rows


RIGHT = {
    "format": 1, "fovea": {"version": "0.1.0", "commit": "abc", "build": "release"},
    "suite": "sdpa", "started": "2026-01-01T00:00:00Z", "seconds": 1.5,
    "environment": {"cpu_model": "A CPU", "threads": 2, "warnings": [], "peers": {"numpy": "1"},
                    "missing_peers": {"mlx": "not installed"}},
    "ceilings": {"fma": {"value": 4e11, "unit": "FLOP/s", "threads": 2, "backend": "cpu",
                         "tier": "avx2"}, "copy": {"value": 4e10, "unit": "B/s", "threads": 2}},
    "noise_floor": {"ratio": 1.05, "arm": "cpu/avx2/flash", "case": "b4-hq1-sq512-d64",
                    "pairs": [{"suite": "sdpa", "case": "b4-hq1-sq512-d64", "arm": "a", "ratio": 1.05}]},
    "formulas": {"attention": {"flops": "4", "bytes": "q"}},
    "rows": [row("cpu/avx2/flash", 1e-3), row("peer/numpy", 2e-3), row("peer/torch", 1.5e-3),
             *catalogue_rows()],
}

RIGHT_ACCURACY = {
    "format": 1, "kind": "accuracy", "fovea": {"version": "0.1.0"}, "cpu_model": "A CPU",
    "every": 1, "scalar_every": 64,
    "functions": [{"function": "map_exp", "dtype": "f32", "bound": "2 ULP", "implementations": [
        {"name": "cpu/avx2/direct", "tier": "avx2", "ulps": 1.0, "ulps_at": -27.4, "share": 0.5,
         "wrong": 0}]}],
}

ODD = [None, True, False, 0, -1, 1, 2**63, -2**70, 10**400, 1e308, -1e-320, 0.1, math.nan, math.inf,
       "", "x" * 5000, "\x00", "\ud800", "cpu/avx2/flash", "<script>", [], [[]], {}, {"": None},
       [1e-3] * 50, [-1.0], ["routed"], [None], {"b": -1}, {"fma": 1}]


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def change(document, rng):
    path = rng.choice([p for p in places(document) if p])
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    kind = rng.randrange(5)
    if kind == 0:
        del parent[path[-1]]
    elif kind == 1 and isinstance(parent, list):
        parent.append(copy.deepcopy(rng.choice(parent)))
    elif kind == 2:
        other = document
        for key in rng.choice(list(places(document))):
            other = other[key]
        parent[path[-1]] = copy.deepcopy(other)
    else:
        parent[path[-1]] = copy.deepcopy(rng.choice(ODD))


def exaggerate(document, rng):
    """What is believed and hardly ever happens: times, shares and sizes far apart."""
    for each in rng.sample(document.get("rows", []), min(5, len(document.get("rows", [])))):
        factor = 10.0 ** rng.uniform(-20, 20)
        each["samples"] = [time * factor for time in each["samples"]]
        for name in ("median", "mad", "p10", "p90", "minimum"):
            each[name] *= factor
        each["share"] = rng.choice([0, 1e-300, 1e200, None])
        each["flags"] = rng.choice([[], ["routed", "cold"], ["approximate"], ["throttled"]])
        if rng.random() < 0.3:
            each["case"] = f"{each['kernel']}-n{rng.choice([0, 1, 2, 10 ** 14, 10 ** 15])}"
        if rng.random() < 0.2:
            each.update(verified=False, error=None, bound=None, reason="<b>why</b>")


def spoil(data, rng):
    data = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at:at + rng.randrange(1, 9)] = b""
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5)))
        else:
            data[at:at] = rng.choice([b"[" * 100000, b"1e999", b"NaN", b'"\\ud800"', b"{" * 3000])
        if not data:
            break
    return bytes(data)


def make(rng):
    document = copy.deepcopy(RIGHT_ACCURACY if rng.random() < 0.1 else RIGHT)
    if rng.random() < 0.5:
        exaggerate(document, rng)
    else:
        for _ in range(rng.randrange(1, 4)):
            change(document, rng)
    data = json.dumps(document).encode("utf-8", "surrogatepass")
    return spoil(data, rng) if rng.random() < 0.1 else data


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("."))
    options = parser.parse_args()
    rng, end, files, taken = random.Random(options.seed), time.monotonic() + options.seconds, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.json"
        while time.monotonic() < end:
            data = make(rng)
            path.write_bytes(data)
            files += 1
            try:
                found = sorted_out(load(path), "case.json")
                taken += 1
                tables = [found] if isinstance(found, Accuracy) else []
                page.render([] if tables else [found], tables)
            except DocumentError as error:
                assert str(error).strip() and "\n" not in str(error)
            except BaseException:
                kept = options.keep / f"report-{options.seed}-{files}.json"
                kept.write_bytes(data)
                traceback.print_exc()
                print(f"after {files} files; kept as {kept}")
                return 1
    print(f"{files} files, {taken} taken, the others refused with a sentence")
    return 0 if taken else 1


if __name__ == "__main__":
    sys.exit(main())
