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
pytest.importorskip("matplotlib")

REPORT = Path(__file__).parents[2] / "tools" / "report"
sys.path.insert(0, str(REPORT))
import findings  # noqa: E402
from document import DocumentError, load  # noqa: E402

CASE = "b4-hq1-sq512-d64"


def row(arm, median, error=1e-7, verified=True, **changed):
    samples = [median * 0.99, median, median * 1.01]
    return {
        "suite": "sdpa", "case": CASE, "kernel": "attention", "dtype": "f32", "shape": {"b": 4},
        "threads": 2, "arm": arm, "peer": arm.startswith("peer/"), "verified": verified,
        "reason": None, "error": error, "bound": 1e-6, "bound_kind": "attention",
        "samples": samples, "median": median, "mad": median * 0.01, "p10": samples[0],
        "p90": samples[2], "minimum": samples[0], "outliers": 0, "flops": 2e8, "bytes": 1e6,
        "ceiling": "fma", "share": 0.5, "scratch_bytes": 4096, "block": {}, "arithmetic": "f32",
        "flags": [],
    } | changed


def document(*rows, **changed):
    return {
        "format": 1, "fovea": {"version": "0.1.0", "commit": "abc", "build": "release"},
        "suite": "sdpa", "started": "2026-01-01T00:00:00Z", "seconds": 1.5,
        "environment": {"cpu_model": "A CPU", "threads": 2, "warnings": [], "peers": {},
                        "missing_peers": {"mlx": "not installed"}},
        "ceilings": {"fma": {"value": 4e11, "unit": "FLOP/s", "threads": 2, "backend": "cpu",
                             "tier": "avx2"}},
        "noise_floor": {"ratio": 1.05, "arm": "cpu/avx2/flash", "case": CASE, "pairs": [{}]},
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
    noise = {"ratio": 1 / 1.05, "arm": "a", "case": CASE, "pairs": [{}]}
    group = group_of(row("cpu/a", 1e-3), row("peer/torch", 1.04e-3), noise_floor=noise)
    assert group.verdict == "tie"


def test_a_tie_is_worded_as_one(tmp_path):
    content = document(row("cpu/avx2/flash", 1e-3), row("peer/torch", 1.03e-3))
    words = words_of(page_of(tmp_path, content))
    assert "tie: no difference above the noise floor" in words
    assert "faster than the best peer in 0 of 1 case" in words


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
                       noise_floor={"ratio": 1.4, "arm": "a", "case": CASE, "pairs": [{}]})
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
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    targets = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert all(target[0] == "#" or target == "data:," for target in targets)
    assert page.count("<svg") == 2 and "currentColor" in page and "#000001" not in page


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
    "rows[0].arm: the field is missing": lambda d: d["rows"][0].pop("arm"),
    "rows[0].case: the string holds": lambda d: d["rows"][0].update(case="\ud800"),
    "rows[0].kernel: the string has": lambda d: d["rows"][0].update(kernel="x" * 10000),
    "rows[0].flags: dict is not a list": lambda d: d["rows"][0].update(flags={}),
    "noise_floor.ratio: 0 is out": lambda d: d["noise_floor"].update(ratio=0),
    "environment.cpu_model: the field": lambda d: d["environment"].pop("cpu_model"),
    "environment.warnings[0]: 1": lambda d: d["environment"].update(warnings=[1]),
    "environment.a.b.c.d: it is nested": lambda d: d["environment"].update(
        a={"b": {"c": {"d": {"e": 1}}}}),
    "ceilings.fma.value": lambda d: d["ceilings"]["fma"].update(value=-1),
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
        "import page, matplotlib.font_manager\n"
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
