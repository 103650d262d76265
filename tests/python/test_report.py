"""`fovea report`: the right answer, told honestly, from files believed only when checked."""

import copy
import json
import os
import re
import stat
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("jinja2")

REPORT = Path(__file__).parents[2] / "tools" / "report"
sys.path.insert(0, str(REPORT))
import axes  # noqa: E402
import findings  # noqa: E402
import page as whole_page  # noqa: E402
import plots  # noqa: E402
import study  # noqa: E402
from document import DocumentError, load  # noqa: E402

CASE = "b4-hq1-sq512-d64"
PAIR = {"suite": "sdpa", "case": CASE, "arm": "cpu/avx2/flash", "ratio": 1.05}


def row(arm, median, error=1e-7, verified=True, **changed):
    samples = [median * 0.99, median, median * 1.01]
    return {
        "suite": "sdpa", "case": CASE, "kernel": "attention", "dtype": "f32", "shape": {"b": 4},
        "threads": 2, "arm": arm, "peer": arm.startswith("peer/"), "verified": verified,
        "reason": None, "error": error, "bound": 1e-6, "bound_kind": "attention",
        "samples": samples, "median": median, "mad": median * 0.01, "p10": samples[0],
        "p90": samples[2], "minimum": samples[0], "outliers": 0, "flops": 2e8, "bytes": 1e6,
        "ceiling": "fma", "share": 0.5, "scratch_bytes": 4096, "block": {}, "arithmetic": "f32",
        "flags": [], "domain": None, "backend": None, "hot": None, "bursts": None,
        "memory": None, "transfers": None, "with_transfers": None, "cold_by": None, "sets": None,
    } | changed


def document(*rows, **changed):
    return {
        "format": 1, "fovea": {"version": "0.1.0", "commit": "abc", "build": "release"},
        "suite": "sdpa", "started": "2026-01-01T00:00:00Z", "seconds": 1.5,
        "environment": {"cpu_model": "A CPU", "threads": 2, "warnings": [], "peers": {},
                        "missing_peers": {"mlx": "not installed"}},
        "ceilings": {"fma": {"value": 4e11, "unit": "FLOP/s", "threads": 2, "backend": "cpu",
                             "tier": "avx2"}},
        "noise_floor": {"ratio": 1.05, "arm": "cpu/avx2/flash", "case": CASE, "pairs": [PAIR]},
        "formulas": {"attention": {"flops": "4·B·H·S·S·D", "bytes": "q, k, v, o once"}},
        "rows": list(rows),
    } | changed


def run(*arguments, cwd=None):
    return subprocess.run([sys.executable, str(REPORT), *map(str, arguments)], cwd=cwd,
                          capture_output=True, text=True, timeout=120)


def page_of(tmp_path, *documents):
    files = []
    for index, content in enumerate(documents):
        files.append(tmp_path / f"{index}.json")
        files[-1].write_text(json.dumps(content))
    outcome = run(*files, "--output", tmp_path / "report.html")
    assert outcome.returncode == 0, outcome.stderr
    return (tmp_path / "report.html").read_text()


def words_of(page):
    """What a reader sees, on one line."""

    class Words(HTMLParser):
        def __init__(self):
            super().__init__()
            self.found, self.hidden = [], 0

        def handle_starttag(self, tag, _):
            self.hidden += tag == "style"

        def handle_endtag(self, tag):
            self.hidden -= tag == "style"

        def handle_data(self, data):
            if not self.hidden:
                self.found.append(data)

    words = Words()
    words.feed(page)
    return re.sub(r"\s+", " ", "".join(words.found))


def group_of(*rows, **changed):
    return findings.Measurement(document(*rows, **changed), "sdpa.json").suites[0].groups[0]


def test_the_fastest_verified_implementation_is_the_answer(tmp_path):
    page = page_of(tmp_path, document(row("cpu/avx2/textbook", 4e-3), row("cpu/avx2/flash", 1e-3),
                                      row("peer/torch", 2.5e-3), row("peer/numpy", 7.5e-3)))
    words = words_of(page)
    assert "use cpu/avx2/flash" in words
    assert "2.50× the best peer" in words and "7.50× NumPy" in words
    assert "200 GFLOP/s" in words and "400 GFLOP/s" in words
    assert "mlx (not installed)" in words


def device_row(arm, median, hot=None, **changed):
    more = {"backend": "cuda", "threads": 16, "bursts": [
        {"state": "cool", "count": 3, "at": 1.0, "throttled": False, "held_back_by": "",
         "sm_clock_hz": 1.98e9, "power_watts": 420.5, "temperature_celsius": 41.0}]}
    if hot:
        more["hot"] = {"samples": [hot], "median": hot, "mad": 0.0, "minimum": hot}
    return row(arm, median, **{**more, "dtype": "bf16", **changed})


def test_a_table_of_a_device_has_both_states(tmp_path):
    content = document(device_row("cuda/sm90/flash", 7e-4, 8e-4),
                       device_row("peer/cuda/torch-cudnn", 8.4e-4, 8.8e-4),
                       device_row("peer/cuda/torch-math", 2e-2))
    content["environment"]["device"] = {"name": "NVIDIA H200", "multiprocessors": 132,
                                        "launch_seconds": 6e-7, "no_nvml": None}
    words = words_of(page_of(tmp_path, content))
    assert "sdpa, a CUDA device" in words
    assert "use cuda/sm90/flash" in words and "1.20× the best peer" in words
    assert "PyTorch cudnn on CUDA" in words
    assert "hot: 1.14× the time, 1.10× the best peer" in words
    assert "NVIDIA H200" in words


def test_both_places_stand_in_one_table_with_the_transfers(tmp_path):
    there = {"memory": "pageable", "sent_bytes": 3 << 20, "sent_seconds": 5e-3, "fetched_bytes": 1 << 20,
             "fetched_seconds": 2e-3}
    travelled = {"samples": [8e-3], "median": 8e-3, "mad": 0.0, "minimum": 8e-3}
    content = document(row("cpu/avx2/flash", 4e-3), row("peer/torch", 6e-3),
                       device_row("cuda/sm80/flash", 1e-3, dtype="f32", threads=2, transfers=there,
                                  with_transfers=travelled, flags=["routed"]),
                       device_row("peer/cuda/torch-math", 2e-3, dtype="f32", threads=2))
    words = words_of(page_of(tmp_path, content))
    assert "use cpu/avx2/flash" in words and "use cuda/sm80/flash" in words
    assert "the processor beside the device" in words
    cells = "4 ms PyTorch 6 ms 1 ms PyTorch math on CUDA 2 ms 8 ms 4 MiB 4.00× 0.50×"
    assert cells.replace(" ", "") in words.replace(" ", "")
    alone = words_of(page_of(tmp_path, document(row("cpu/avx2/flash", 4e-3))))
    assert "beside the device" not in alone


def test_a_cold_row_says_how(tmp_path):
    content = document(device_row("cuda/sm90/flash", 7e-4, flags=["cold"], cold_by="rotation", sets=3),
                       device_row("peer/cuda/torch-math", 7e-4, flags=["cold"], cold_by="flush", sets=1))
    words = words_of(page_of(tmp_path, content))
    assert "cold, over 3 sets of tensors" in words and "cold, after a flush" in words


def test_a_hot_state_that_makes_no_sense_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document(device_row("cuda/sm90/flash", 7e-4, hot=-1.0))))
    with pytest.raises(DocumentError, match="hot"):
        load(path)


def test_a_peer_that_wins_is_named(tmp_path):
    content = document(row("cpu/avx2/flash", 2e-3), row("peer/torch", 1e-3))
    words = words_of(page_of(tmp_path, content))
    assert "use PyTorch, a peer" in words
    assert "Peers win 1 of 1 case (PyTorch 1)" in words and "0.50×" in words


VERDICTS = [(1.04e-3, "tie"), (0.97e-3, "tie"), (1.06e-3, "win"), (0.9e-3, "loss")]


@pytest.mark.parametrize("peer, verdict", VERDICTS)
def test_nothing_below_the_noise_floor_is_a_win(peer, verdict):
    assert group_of(row("cpu/avx2/flash", 1e-3), row("peer/torch", peer)).verdict == verdict


def test_a_noise_ratio_below_one_is_a_floor_too():
    noise = {"ratio": 1 / 1.05, "arm": "a", "case": CASE, "pairs": [PAIR]}
    group = group_of(row("cpu/a", 1e-3), row("peer/torch", 1.04e-3), noise_floor=noise)
    assert group.verdict == "tie"


def test_a_tie_is_worded_as_one(tmp_path):
    content = document(row("cpu/avx2/flash", 1e-3), row("peer/torch", 1.03e-3))
    words = words_of(page_of(tmp_path, content))
    assert "tie: no difference above the noise floor" in words
    assert "faster than the best peer in 0 of 1 case" in words


def test_the_lead_says_what_the_library_chose(tmp_path):
    fastest, peer = row("cpu/avx2/flash", 1e-3), row("peer/torch", 2e-3)
    words = words_of(page_of(tmp_path, document(fastest, peer, row("cpu/avx2/fused", 4e-3, flags=["routed"]))))
    assert "The fastest of ours is faster than the best peer in 1 of 1 case" in words
    assert "chose by itself is faster in 0, slower in 1, and in the median 0.50× the best peer" in words
    words = words_of(page_of(tmp_path, document(row("cpu/avx2/flash", 1e-3, flags=["routed"]), peer)))
    assert "chose by itself" not in words


def test_one_sample_has_no_spread(tmp_path):
    words = words_of(page_of(tmp_path, document(row("cpu/avx2/flash", 1e-3, samples=[1e-3], mad=0.0,
                                                    p10=1e-3, p90=1e-3, minimum=1e-3))))
    assert "1 ms– – 1 ms 1 200" in words  # time, no deviation, no quantiles, minimum


def test_a_wrong_arm_is_shown_and_never_ranked(tmp_path):
    rows = [row("cpu/avx2/flash", 1e-3), row("cpu/avx2/broken", 1e-4, error=0.5, verified=False),
            row("peer/openvino", 2e-4, error=4e-3, verified=False, reason="it computes in bf16"),
            row("peer/torch", 2e-3)]
    group = group_of(*copy.deepcopy(rows))
    case = group.cases[0]
    assert case.ours["arm"] == "cpu/avx2/flash" and case.peer["arm"] == "peer/torch"
    assert group.speedup == 2.0
    words = words_of(page_of(tmp_path, document(*rows)))
    assert "use cpu/avx2/flash" in words
    assert "cpu/avx2/broken in 1 case, worst" in words and "error 0.5, bound 1e-06" in words
    assert "wrong: it computes in bf16" in words


def test_only_wrong_arms_give_no_answer(tmp_path):
    wrong = row("cpu/avx2/flash", 1e-3, error=1.0, verified=False)
    assert "nothing was verified and timed" in words_of(page_of(tmp_path, document(wrong)))


def test_a_peer_beyond_our_bound_is_ranked_and_marked(tmp_path):
    peer = row("peer/torch", 2e-3, error=3e-5, bound=6.4e-5, flags=["less-accurate"])
    rows = [row("cpu/avx2/flash", 1e-3), peer]
    words = words_of(page_of(tmp_path, document(*rows)))
    assert "beyond our bound, within the peers' own" in words and "2.00× the best peer" in words


def test_an_arm_that_was_not_timed_is_not_ranked():
    untimed = row("cpu/avx2/flash", 1e-3) | {"samples": [], "median": None, "share": None}
    assert group_of(untimed, row("cpu/avx2/fused", 2e-3)).answer == "cpu/avx2/fused"


def test_a_rate_above_its_ceiling_is_flagged(tmp_path):
    words = words_of(page_of(tmp_path, document(row("cpu/avx2/flash", 1e-3, share=1.3))))
    assert "above its ceiling" in words


def test_throttled_samples_and_noise_are_told(tmp_path):
    content = document(row("cpu/avx2/flash", 1e-3, flags=["throttled"]),
                       noise_floor={"ratio": 1.4, "arm": "a", "case": CASE, "pairs": [PAIR]})
    words = words_of(page_of(tmp_path, content))
    assert "1 of 1 rows have throttled samples" in words and "the noise floor is 1.40×" in words


def test_what_is_missing_from_a_run_is_told(tmp_path):
    content = document(row("cpu/avx2/flash", 1e-3), noise_floor={"ratio": 1.0, "pairs": []},
                       interrupted=True, problems={"big": "no memory"})
    words = words_of(page_of(tmp_path, content))
    assert "the noise floor was not measured" in words
    assert "the run was interrupted" in words and "Not measured: big (no memory)" in words


def test_a_peer_that_did_not_take_part_is_not_called_wrong(tmp_path):
    absent = row("peer/mlx", 1e-3, error=None, verified=False, reason="it has no ragged batch",
                 bound=None) | {"samples": [], "median": None}
    words = words_of(page_of(tmp_path, document(row("cpu/avx2/flash", 1e-3), absent)))
    assert "not verified: it has no ragged batch" in words and "wrong" not in words


def test_suites_of_one_file_are_kept_apart(tmp_path):
    rows = [row("cpu/avx2/flash", 1e-3), row("cpu/avx2/flash", 1e-3, suite="sage")]
    measurement = findings.Measurement(document(*rows), "bench.json")
    assert [(suite.name, suite.cases) for suite in measurement.suites] == [("sdpa", 1), ("sage", 1)]


def test_the_package_runs_as_a_module_of_tools(tmp_path):
    (tmp_path / "good.json").write_bytes(GOOD_BYTES)
    outcome = subprocess.run(
        [sys.executable, "-m", "report", str(tmp_path / "good.json"), "--output",
         str(tmp_path / "report.html")], cwd=REPORT.parent, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr


def test_several_files_make_one_page(tmp_path):
    second = document(row("cpu/avx2/flash", 1e-3), suite="flash")
    words = words_of(page_of(tmp_path, document(row("cpu/avx2/flash", 1e-3)), second))
    assert "sdpa" in words and "flash" in words


def test_markup_in_a_file_stays_text(tmp_path):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>${7*7}{{ 7*7 }} $\\frac$"
    content = document(
        row(f"cpu/{evil}", 1e-3, case=evil, kernel=evil, dtype=evil, flags=[evil], arithmetic=evil),
        row("peer/x" + evil, 1e-3, case=evil, kernel=evil, dtype=evil, verified=False, reason=evil),
        suite=evil, formulas={evil: {"flops": evil, "bytes": evil}},
        fovea={"version": evil, "commit": evil, "build": evil},
    )
    content["environment"] |= {"cpu_model": evil, evil: evil, "warnings": [evil],
                               "missing_peers": {evil: evil}, "peers": {evil: evil}}
    page = page_of(tmp_path, content)
    assert "<script" not in page.lower() and "<img" not in page
    assert "alert(1)" in words_of(page) and "{{ 7*7 }}" in page


def test_the_page_needs_nothing_from_outside(tmp_path):
    page = page_of(tmp_path, document(row("cpu/avx2/flash", 1e-3), row("peer/numpy", 2e-3)))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)
    targets = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert all(target[0] == "#" or target == "data:," for target in targets)
    assert page.count("<svg") == 2


def hostile(change):
    content = document(row("cpu/avx2/flash", 1e-3), row("peer/numpy", 2e-3))
    change(content)
    return content


BAD = {
    "format: the field is missing": lambda d: d.pop("format"),
    "format: version 2": lambda d: d.update(format=2),
    "format: true": lambda d: d.update(format=True),
    "rows: the field is missing": lambda d: d.pop("rows"),
    "rows: 7 is not a list": lambda d: d.update(rows=7),
    "rows[1].median: \"fast\" is not a number": lambda d: d["rows"][1].update(median="fast"),
    "rows[0].median: 0 is out of range": lambda d: d["rows"][0].update(median=0),
    "rows[0].median: it lies outside": lambda d: d["rows"][0].update(median=1e-9),
    "rows[0].samples: it is empty": lambda d: d["rows"][0].update(samples=[]),
    "rows[0].samples[1]": lambda d: d["rows"][0].update(samples=[1e-3, None]),
    "rows[0].error: -1 is out of range": lambda d: d["rows"][0].update(error=-1),
    "rows[0].verified: it is true although": lambda d: d["rows"][0].update(error=1),
    "rows[0].verified: \"yes\"": lambda d: d["rows"][0].update(verified="yes"),
    "rows[0].bytes: the number is not finite": lambda d: d["rows"][0].update(bytes=10**400),
    "rows[0].ceiling: \"sky\"": lambda d: d["rows"][0].update(ceiling="sky"),
    "rows[0].memory.shares[1]: 0 is out of range": lambda d: d["rows"][0].update(
        memory={"bytes": 1e6, "median": 1e-3, "samples": [1e-3], "shares": [0.5, 0]}),
    "rows[0].arm: the field is missing": lambda d: d["rows"][0].pop("arm"),
    "rows[0].case: the string holds": lambda d: d["rows"][0].update(case="\ud800"),
    "rows[0].kernel: the string has": lambda d: d["rows"][0].update(kernel="x" * 10000),
    "rows[0].flags: dict is not a list": lambda d: d["rows"][0].update(flags={}),
    "noise_floor.ratio: 0 is out": lambda d: d["noise_floor"].update(ratio=0),
    "noise_floor.pairs[0].ratio: 0 is out": lambda d: d["noise_floor"].update(
        pairs=[PAIR | {"ratio": 0}]),
    "rows[0].domain: 7 is not": lambda d: d["rows"][0].update(domain=7),
    "environment.cpu_model: the field": lambda d: d["environment"].pop("cpu_model"),
    "environment.warnings[0]: 1": lambda d: d["environment"].update(warnings=[1]),
    "environment.a.b.c.d: it is nested": lambda d: d["environment"].update(
        a={"b": {"c": {"d": {"e": 1}}}}),
    "ceilings.fma.value": lambda d: d["ceilings"]["fma"].update(value=-1),
    "rows[0].ceiling_at_size.value": lambda d: d["rows"][0].update(
        ceiling_at_size={"kind": "copy", "bytes": 8e7, "value": 0}),
}


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_field_is_refused_by_name(tmp_path, problem):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(hostile(BAD[problem])))
    with pytest.raises(DocumentError) as refusal:
        load(path)
    assert str(refusal.value).startswith(f"{path}: {problem}")
    assert "\n" not in str(refusal.value)


GOOD_BYTES = json.dumps(document(row("cpu/avx2/flash", 1e-3))).encode()
BAD_BYTES = {
    "random": bytes((i * 7919 + 13) % 256 for i in range(4096)),
    "truncated": GOOD_BYTES[: len(GOOD_BYTES) // 2],
    "empty": b"",
    "list": b"[1, 2]",
    "nan": GOOD_BYTES.replace(b'"seconds": 1.5', b'"seconds": NaN'),
    "infinite": GOOD_BYTES.replace(b'"seconds": 1.5', b'"seconds": 1e999'),
    "deep": b"[" * 200000,
    "long number": b'{"format": ' + b"1" * 10000 + b"}",
}


@pytest.mark.parametrize("kind", BAD_BYTES)
def test_bytes_that_are_no_document_are_refused(tmp_path, kind):
    (tmp_path / "bad.json").write_bytes(BAD_BYTES[kind])
    outcome = run(tmp_path / "bad.json", "--output", tmp_path / "report.html")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("fovea report: ") and "bad.json: " in outcome.stderr
    assert outcome.stderr.count("\n") == 1 and "Traceback" not in outcome.stderr
    assert os.listdir(tmp_path) == ["bad.json"]


def test_a_file_name_need_not_be_utf8(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff<b>.json"
    with open(name, "wb") as file:
        file.write(GOOD_BYTES)
    outcome = run(os.fsdecode(name), "--output", tmp_path / "report.html")
    assert outcome.returncode == 0, outcome.stderr
    assert "\N{REPLACEMENT CHARACTER}<b>.json" in words_of((tmp_path / "report.html").read_text())


def test_a_missing_file_is_named(tmp_path):
    outcome = run(tmp_path / "none.json", "--output", tmp_path / "report.html")
    assert outcome.returncode == 2 and "none.json: cannot be read" in outcome.stderr


def test_no_file_at_all_says_where_they_come_from(tmp_path):
    outcome = run(cwd=tmp_path)
    assert outcome.returncode == 2 and "`fovea bench` makes them" in outcome.stderr


def test_files_are_found_where_bench_leaves_them(tmp_path):
    folder = tmp_path / "build" / "bench"
    folder.mkdir(parents=True)
    (folder / "sdpa.json").write_bytes(GOOD_BYTES)
    assert run(cwd=tmp_path).returncode == 0
    assert sorted(os.listdir(folder)) == ["report.html", "sdpa.json"]


def test_a_bad_file_leaves_the_old_page(tmp_path):
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "bad.json").write_text("{")
    assert run(tmp_path / "bad.json", "--output", tmp_path / "report.html").returncode == 2
    assert (tmp_path / "report.html").read_text() == "old"


def test_the_page_does_not_replace_what_it_is_made_of(tmp_path):
    (tmp_path / "good.json").write_bytes(GOOD_BYTES)
    outcome = run(tmp_path / "good.json", "--output", tmp_path / "." / "good.json")
    assert outcome.returncode == 2 and "good.json is one of the files" in outcome.stderr
    assert (tmp_path / "good.json").read_bytes() == GOOD_BYTES


def test_an_unwritable_place_is_told(tmp_path):
    (tmp_path / "good.json").write_bytes(GOOD_BYTES)
    outcome = run(tmp_path / "good.json", "--output", tmp_path / "nowhere" / "report.html")
    assert outcome.returncode == 1
    assert "report.html: cannot be written: No such file or directory" in outcome.stderr


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    """A limit on the size of files stands for the full disk: the same write fails half-way."""
    (tmp_path / "good.json").write_bytes(GOOD_BYTES)
    (tmp_path / "report.html").write_text("old")
    program = (
        "import resource, runpy, signal, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import page\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "del sys.argv[0]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program, str(REPORT), str(tmp_path / "good.json"), "--output",
         str(tmp_path / "report.html")], capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 1 and "cannot be written" in outcome.stderr
    assert (tmp_path / "report.html").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["good.json", "report.html"]


def test_the_page_can_be_read_by_others(tmp_path):
    page_of(tmp_path, document(row("cpu/avx2/flash", 1e-3)))
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o666 & ~mask


def test_approximate_arms_have_their_accuracy_and_are_never_the_best(tmp_path):
    accuracy = {"elements": 64, "maximum": 3.5e-3, "mean": 5e-4, "cosine": 0.9999134,
                "relative_l1": 1.3e-2, "rmse": 6.7e-4}
    sage = row("cpu/avx512/sage-pv-i8", 1e-3, error=1.3e-2, bound=3e-2, bound_kind="quality",
               flags=["approximate"], accuracy=accuracy)
    content = document(sage, row("cpu/avx2/flash", 2e-3), row("cpu/avx2/textbook", 4e-3),
                       row("peer/torch", 3e-3))
    case = group_of(*content["rows"]).cases[0]
    assert case.ours["arm"] == "cpu/avx2/flash"
    assert case.ratio(sage, case.flash) == 2 and case.ratio(sage, case.textbook) == 4
    words = words_of(page_of(tmp_path, content))
    assert "0.9999134" in words and "relative L1" in words
    broken = {**sage, "accuracy": {**accuracy, "cosine": "near"}}
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(document(broken)))
    with pytest.raises(DocumentError, match="accuracy.cosine"):
        load(path)


# ---- The study ----------------------------------------------------------------------------------

KERNELS = {"reduce_sum": "reductions", "reduce_max": "reductions", "map_exp": "elementwise",
           "map_add": "elementwise", "scan_inclusive": "scans"}


def catalogue_row(kernel, size, arm, median, **changed):
    """A row of the suite `kernels`, bound by the bandwidth of memory."""
    return row(arm, median, suite="kernels", kernel=kernel, case=f"{kernel}-n{size}", ceiling="copy",
               shape={"n": size}, flops=float(size), bytes=8.0 * size,
               share=8 * size / median / 1e11, domain=KERNELS[kernel]) | changed


def catalogue(sizes=(1000, 100000, 10000000), threads=2, **changed):
    """Ours is twice as fast as PyTorch and four times as fast as NumPy, but for one case."""
    rows = []
    for kernel in KERNELS:
        for size in sizes:
            time = size * 1e-9
            lost = kernel == "reduce_max" and size == 1000
            rows += [catalogue_row(kernel, size, "cpu/avx512/direct", time, threads=threads,
                                   flags=["routed"], **changed),
                     catalogue_row(kernel, size, "peer/torch", time * (0.5 if lost else 2),
                                   threads=threads),
                     catalogue_row(kernel, size, "peer/numpy", time * 4, threads=threads)]
    content = document(*rows, suite="kernels")
    content["ceilings"]["copy"] = {"value": 1e11, "unit": "B/s", "threads": threads}
    return content


def study_of(*contents):
    measurements = [findings.Measurement(content, str(at)) for at, content in enumerate(contents)]
    return list(study.studies_of(measurements).values())


def test_the_study_counts_wins_at_each_size_and_over_each_peer():
    found = study_of(catalogue())[0]
    assert found.columns == [1000, 100000, 10000000]
    over = dict(found.against)
    best = over["the best peer of each case"]
    assert (best.count, best.wins, best.ties, best.losses, best.short) == (15, 14, 0, 1, 1)
    assert best.median == 2 and best.win_rate == 14 / 15
    assert best.geometric == pytest.approx((2**14 / 2) ** (1 / 15))
    assert over["NumPy"].median == 4 and over["NumPy"].wins == 15
    small, _ = found.at(1000)
    large, numpy = found.at(10000000)
    assert small.losses == 1 and large.losses == 0 and numpy.geometric == pytest.approx(4)
    assert found.leaders == [("cpu/avx512", 14, 14 / 15), ("PyTorch", 1, 1 / 15)]


def test_the_study_says_who_wins_a_domain_and_what_fell_short(tmp_path):
    content = catalogue()
    found = study_of(content)[0]
    domains = {domain.name: domain for domain in found.domains}
    assert domains["reductions"].winner == ("cpu/avx512", 5)
    rates, shares = domains["elementwise"].of_bandwidth(10000000)
    assert rates == [8e9, 8e9] and shares == [0.08, 0.08]
    assert [case.name for case in found.slower] == ["reduce_max-n1000"]
    assert found.starved == [] and found.unserved == []
    page = page_of(tmp_path, content)
    words = words_of(page)
    assert "The winner of each domain" in words and "What fell short" in words
    assert "reduce_max-n1000" in words and "below 0.9×" in words and "▼ 0.50×" in words
    targets, places = set(re.findall(r'href="#([^"]*)"', page)), set(re.findall(r' id="([^"]*)"', page))
    assert targets and targets <= places
    assert page.count("<table") == page.count("<caption>")


def test_a_case_with_approximate_arms_alone_may_fall_short(tmp_path):
    content = catalogue()
    for each in content["rows"]:
        if each["case"] == "reduce_max-n1000" and not each["peer"]:
            each["flags"] = ["routed", "approximate"]
    assert "reduce_max-n1000" in words_of(page_of(tmp_path, content))


def test_what_the_library_chose_is_what_counts():
    content = catalogue(sizes=(1000, 1000000))
    for kernel in KERNELS:
        content["rows"].append(catalogue_row(kernel, 1000000, "cpu/avx2/direct", 1e-4))
    found = study_of(content)[0]
    assert dict(found.against)["NumPy"].median == 4


def test_cold_rows_below_the_bandwidth_are_named(tmp_path):
    content = catalogue()
    for each in content["rows"]:
        each["flags"] = [*each["flags"], "cold"]
    found = study_of(content)[0]
    assert len(found.starved) == 5 and found.starved[0].chosen["share"] == pytest.approx(0.08)
    words = words_of(page_of(tmp_path, content))
    assert "below 85 % of the measured bandwidth" in words and "kernels, cold, 2 threads" in words


def test_a_crossover_between_two_of_ours_is_found_between_its_sizes(tmp_path):
    content = catalogue(sizes=(1000, 100000))
    content["rows"] += [catalogue_row("map_exp", 1000, "cpu/avx512/small", 0.5e-6),
                        catalogue_row("map_exp", 100000, "cpu/avx512/small", 2e-4)]
    found = study_of(content)[0]
    plot = found.plots(found.domains[1])[0]
    cross = plot.crossings[0]
    assert (cross.before.arm, cross.after.arm) == ("cpu/avx512/small", "cpu/avx512/direct")
    assert (cross.low, cross.high) == (1000, 100000) and cross.at == pytest.approx(10000)
    assert "From N ≈ 10K on cpu/avx512/direct" in words_of(page_of(tmp_path, content))


def test_what_lies_within_the_noise_is_no_crossover():
    content = catalogue(sizes=(1000, 100000))
    content["rows"] += [catalogue_row("map_exp", 1000, "cpu/avx512/small", 0.98e-6),
                        catalogue_row("map_exp", 100000, "cpu/avx512/small", 2e-4)]
    found = study_of(content)[0]
    assert not found.plots(found.domains[1])[0].crossings


def test_numbers_of_threads_are_lines_of_one_plot():
    one, two = catalogue(sizes=(1000, 100000), threads=1), catalogue(sizes=(1000, 100000))
    for each in one["rows"]:
        if each["shape"]["n"] == 1000 and not each["peer"]:
            each["samples"] = [time / 4 for time in each["samples"]]
            each.update(median=each["median"] / 4, minimum=each["minimum"] / 4)
        elif not each["peer"]:
            each["samples"] = [time * 2 for time in each["samples"]]
            each.update(median=each["median"] * 2)
    found = {each.suite.rows[0]["threads"]: each for each in study_of(one, two)}
    plot = found[2].plots(found[2].domains[0])[0]
    assert {(each.arm, each.threads) for each in plot.series if not each.row["peer"]} == {
        ("cpu/avx512/direct", 1), ("cpu/avx512/direct", 2)}
    assert [(cross.before.threads, cross.after.threads) for cross in plot.crossings] == [(1, 2)]
    dashes = {look[0].threads: look[3] for look in plots.looks_of(plot.series)
              if not look[0].row["peer"]}
    assert dashes == {1: "dashed", 2: "solid"}
    assert not found[1].others


def test_what_fusing_gains_is_over_our_own_steps(tmp_path):
    content = catalogue(sizes=(1000, 100000))
    content["rows"].append(catalogue_row("map_exp", 100000, "cpu/steps", 3e-4))
    found = study_of(content)[0]
    case, gain = found.fusion[0]
    assert case.name == "map_exp-n100000" and gain == pytest.approx(3)
    assert case.ours["arm"] == "cpu/avx512/direct"
    assert "What fusing gains" in words_of(page_of(tmp_path, content))


def test_a_few_kernels_are_no_study():
    assert not study_of(document(row("cpu/avx2/flash", 1e-3)))


def routing_document():
    rows = []
    for index in range(20):
        case = {"suite": "routing", "kernel": "map_exp", "case": f"map_exp-{index + 1}"}
        slow = 1.4e-3 if index == 0 else 1.02e-3 if index == 1 else 1e-3
        rows += [row("cpu/avx512/direct", slow, flags=["routed"], **case),
                 row("cpu/avx2/direct", 1e-3 if slow > 1e-3 else 2e-3, **case)]
    pairs = [{"suite": "routing", "case": "map_exp-1", "arm": "a", "ratio": 0.98}]
    return document(*rows, suite="routing", noise_floor={"ratio": 1.02, "pairs": pairs})


def test_the_regret_of_the_choices_is_shown(tmp_path):
    content = routing_document()
    measurement = findings.Measurement(content, "routing.json")
    regrets = study.Regrets(measurement.suites[0], content["noise_floor"]["pairs"])
    assert len(regrets.values) == 20 and regrets.quantile(regrets.values, 0.5) == 0
    assert regrets.values[-2:] == [pytest.approx(0.02), pytest.approx(0.4)]
    assert regrets.within(0.01) == 0.9 and regrets.noise == [pytest.approx(0.02)]
    words = words_of(page_of(tmp_path, content))
    assert "At 20 shapes that the tuner did not see" in words and "40 %" in words
    assert "The worst choices" in words and "noise of one arm" in words


def test_what_calls_cost_is_shown(tmp_path):
    rows = []
    for index, cost in enumerate((40e-9, 90e-9, 250e-9, 400e-9)):
        for ending in ("ones", "n1"):
            case = {"suite": "calls", "kernel": "map_exp", "case": f"map_{index}-{ending}"}
            rows += [row("cpu/avx512/direct", cost, flags=["routed"], **case),
                     row("cpu/avx512/other", 1e-9, **case), row("peer/numpy", 600e-9, **case)]
    content = document(*rows, suite="calls")
    calls = study.Calls(findings.Measurement(content, "calls.json").suites[0])
    assert [(title, name) for title, name, _ in calls.lines] == [
        ("every extent 1", "ours"), ("every extent 1", "NumPy"), ("N = 1", "ours"), ("N = 1", "NumPy")]
    values = calls.lines[0][2]
    assert (calls.within(values, 100), calls.within(values, 300), len(values)) == (2, 3, 4)
    assert calls.slowest[0][0] == 400e-9
    words = words_of(page_of(tmp_path, content))
    assert "170 ns in the median over 4 kernels, at most 300 ns in 3 of them" in words
    assert "map_3-ones" in words


def test_small_regrets_have_room_on_their_axis():
    across = axes.ShareAxis(1.0, 0, 700)
    assert [words for _, words in across.ticks(6)] == ["0 %", "1 %", "3 %", "10 %", "30 %", "100 %"]
    assert across.place(0) == 0 and across.place(1.0) == 700 and across.place(5.0) == 700
    assert across.place(0.01) > 100 and across.place(0.1) > 350


def test_files_of_one_size_each_are_told_apart():
    titles = []
    for sizes in ((1000,), (1000000,), (1000, 1000000)):
        measurement = findings.Measurement(catalogue(sizes=sizes), "file.json")
        titles.append(whole_page.suite_title(measurement, measurement.suites[0]))
    assert titles == ["kernels at N = 1K, 2 threads", "kernels at N = 1M, 2 threads", "kernels, 2 threads"]


ACCURACIES = {
    "format": 1, "kind": "accuracy", "fovea": {"version": "0.1.0", "commit": "abc"},
    "cpu_model": "A CPU", "every": 1, "scalar_every": 64,
    "functions": [{"function": "map_exp", "dtype": "f32", "bound": "2 ULP", "implementations": [
        {"name": "cpu/scalar/direct", "tier": "scalar", "ulps": 0, "ulps_at": 0, "share": 0, "wrong": 0},
        {"name": "cpu/avx2/direct", "tier": "avx2", "ulps": 1.009, "ulps_at": -27.4, "share": 0.5,
         "wrong": 0},
        {"name": "cpu/avx512/direct", "tier": "avx512", "ulps": 9, "ulps_at": 1, "share": 4.5,
         "wrong": 7}]}]}


def test_the_accuracy_table_of_the_check_is_a_table_of_the_page(tmp_path):
    words = words_of(page_of(tmp_path, ACCURACIES))
    assert "1.009 ULP" in words and "at -27.4, 50 %" in words
    assert "exact" in words and "7 wrong" in words and "2 ULP" in words


def test_the_report_takes_what_the_check_finds(tmp_path):
    command = os.environ.get("FOVEA_COMMAND", str(REPORT.parents[1] / "build" / "fovea"))
    if not os.path.exists(command):
        pytest.skip("the command is not built")
    path = tmp_path / "accuracy.json"
    outcome = subprocess.run([command, "check", "--exhaustive", "--every", "262144", "--kernel",
                              "map_gelu", "--json", str(path)], capture_output=True, text=True,
                             timeout=240)
    assert outcome.returncode == 0, outcome.stderr
    table = load(path)
    assert {each["function"] for each in table["functions"]} == {
        "map_gelu approximate=none", "map_gelu approximate=tanh"}
    assert {each["dtype"] for each in table["functions"]} == {"f32", "f16", "bf16"}
    assert all(each["implementations"] for each in table["functions"])
    assert "map_gelu approximate=tanh" in words_of(page_of(tmp_path, table))


def test_a_bad_accuracy_table_is_refused_by_name(tmp_path):
    path = tmp_path / "bad.json"
    broken = copy.deepcopy(ACCURACIES)
    broken["functions"][0]["implementations"][1]["ulps"] = "few"
    path.write_text(json.dumps(broken))
    with pytest.raises(DocumentError, match=r"functions\[0\].implementations\[1\].ulps"):
        load(path)


@pytest.mark.parametrize("low, high", [(1e-12, 1e12), (1, 1.0001), (0.3, 0.31), (5, 5), (2e-9, 8e-9)])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_axes_have_few_ticks_within_their_limits(low, high, logarithmic):
    axis = plots.Axis(low, high, 0, 100, logarithmic)
    values = [value for value, _ in axis.ticks(6)]
    assert 1 <= len(values) <= 14 and values == sorted(set(values))
    slack = 1e-6 * high
    assert all(low - slack <= value <= high + slack for value in values)
    assert 0 <= axis.place(low) <= axis.place(high) <= 100
