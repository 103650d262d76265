"""The command `fovea bench` from outside: what it writes and prints, and how it ends when it is
interrupted, killed, or loses a peer."""

import importlib.util
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import time
import unicodedata

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = os.environ.get("FOVEA_COMMAND", str(ROOT / "build" / "fovea"))
needs_numpy = pytest.mark.skipif(importlib.util.find_spec("numpy") is None,
                                 reason="NumPy is not installed")


def environment(**extra):
    kept = {name: value for name, value in os.environ.items()
            if name not in ("NO_COLOR", "COLUMNS", "FOVEA_TIER")}
    return {**kept, "FOVEA_PYTHON": sys.executable, "TERM": "xterm", **extra}


def bench(*arguments, **extra):
    return subprocess.run([COMMAND, "bench", *arguments], capture_output=True, text=True,
                          timeout=240, env=environment(**extra))


SHORT = ("--suite", "sdpa", "--filter", "sq128", "--seconds", "1")


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "samples.json"
    result = bench(*SHORT, "--no-peers", "--json", str(path))
    assert result.returncode == 0, result.stderr
    return result.stdout, path


def test_the_file_has_every_field(short_run):
    document = json.loads(short_run[1].read_text())
    assert document["format"] == 1 and document["suite"] == "sdpa" and not document["interrupted"]
    assert document["fovea"].keys() >= {"version", "commit", "build"}
    assert document["environment"].keys() >= {
        "cpu_model", "tier", "threads", "affinity", "memory_bytes", "kernel", "steal_share",
        "load_average", "compiler", "flags", "warnings", "peers", "missing_peers"}
    assert any(name.startswith("fma_f32_") for name in document["ceilings"])
    assert {"read_t1", "copy_t1", "stream_copy_t1"} <= document["ceilings"].keys()
    assert document["formulas"]["attention"].keys() == {"flops", "bytes"}
    rows = document["rows"]
    assert rows
    for row in rows:
        assert row["case"] == "b4-hq1-sq128-d64" and row["verified"], row["reason"]
        assert row["error"] <= row["bound"]
        assert row["shape"] == {"b": 4, "hq": 1, "hkv": 1, "sq": 128, "sk": 128, "d": 64, "dv": 64}
        assert row["flops"] == 4 * 4 * 128 * 128 * 64
        assert min(row["samples"]) == pytest.approx(row["minimum"])
        assert row["minimum"] <= row["p10"] <= row["median"] <= row["p90"] <= max(row["samples"])
        assert row["ceiling"] in document["ceilings"]
    assert document["noise_floor"]["ratio"] >= 1 and document["noise_floor"]["pairs"]


def test_the_report_takes_the_file(short_run):
    sys.path.insert(0, str(ROOT / "tools" / "report"))
    import document
    assert document.load(short_run[1])["rows"]


def test_no_colour_outside_a_terminal(short_run):
    assert "\x1b" not in short_run[0]


def on_a_terminal(**extra):
    """Standard output of a run on a terminal 100 wide."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([COMMAND, "bench", *SHORT, "--no-peers"], stdout=follower,
                               stderr=subprocess.DEVNULL, env=environment(**extra))
    os.close(follower)
    text = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        text += part
    os.close(leader)
    assert process.wait(timeout=60) == 0
    return text.decode()


def test_colour_on_a_terminal_unless_asked_not_to():
    assert "\x1b[" in on_a_terminal()
    assert "\x1b[" not in on_a_terminal(NO_COLOR="1")


@pytest.mark.parametrize("columns", [40, 72, 120])
def test_lines_fit_the_window(columns):
    for line in bench(*SHORT, "--no-peers", COLUMNS=str(columns)).stdout.splitlines():
        width = sum(1 for c in line if not unicodedata.combining(c))
        assert width <= columns, line


@pytest.mark.parametrize("arguments, words", [
    (("--suite", "nonsense"), "nonsense"),
    (("--suite", "training", "--phase", "sideways"), "sideways"),
    (("--filter", "nonsense"), "nonsense"),
    (("--seconds", "-1"), "--seconds=-1"),
    (("--seconds", "nan"), "--seconds=nan"),
    (("--threads", "0"), "--threads=0"),
    (("--threads", "4000"), "--threads=4000"),
    (("--peers", "numpy,nobody"), "nobody"),
    (("--backend", "nonsense"), "--backend=nonsense"),
    (("--backend", "cpu,"), "--backend=cpu,"),
    (("--backend", ""), "no name"),
    (("--device", "64"), "--device=64"),
    (("--json", "/no/such/directory/x.json"), "/no/such/directory"),
    (("nonsense",), "nonsense"),
])
def test_bad_usage_is_a_sentence(arguments, words):
    result = bench(*arguments)
    assert result.returncode not in (0, 130) and result.returncode > 0
    assert words in result.stderr and not result.stdout


def test_list_measures_nothing():
    result = bench("--list", "--suite", "all")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert sum(line.startswith("flash/") for line in lines) == 48
    assert sum(line.startswith("sdpa/") for line in lines) == 7
    assert any(line.startswith("sdpa/b32-hq1-sq1024-d64-causal ") for line in lines)


def test_an_output_that_is_not_filled_is_no_error(tmp_path):
    """Compaction writes what it keeps; the rest of its output is the caller's."""
    path = tmp_path / "samples.json"
    result = bench("--suite", "kernels", "--filter", "compact_if-n1000", "--arms", "cpu/", "--seconds",
                   "0.1", "--no-peers", "--json", str(path))
    assert result.returncode == 0, result.stdout
    assert all(row["verified"] for row in json.loads(path.read_text())["rows"])


def test_calls_of_every_kernel_are_measured(tmp_path):
    listed = bench("--list", "--suite", "calls").stdout.splitlines()
    names = {line.split()[0].removeprefix("calls/") for line in listed if line.startswith("calls/")}
    assert {"map_add-ones", "map_add-n1", "attention-ones", "layer_norm-n1"} <= names
    assert "attention-n1" not in names  # its benchmark case does not hang on N
    path = tmp_path / "calls.json"
    result = bench("--suite", "calls", "--filter", "map_add,covariance-", "--threads", "1", "--seconds",
                   "0.1", "--no-peers", "--json", str(path))
    assert result.returncode == 0, result.stdout
    assert re.search(r"ones, ours( +\d+){9}", result.stdout) and "N = 1, ours" in result.stdout
    rows = json.loads(path.read_text())["rows"]
    assert rows and all(row["verified"] and row["bound"] is not None for row in rows)


def test_training_has_two_phases():
    names = [line.split()[0] for line in bench("--list", "--suite", "training").stdout.splitlines()
             if line.startswith("training/")]
    assert len(names) == 16
    assert sum(name.endswith("-forward") for name in names) == 8
    listed = bench("--list", "--suite", "training", "--phase", "backward").stdout
    assert [line.split()[:2] for line in listed.splitlines() if line.startswith("training/")] == [
        [name, "attention_backward"] for name in names if name.endswith("-backward")]


def test_our_own_steps_stand_beside_the_fused_kernels(tmp_path):
    path = tmp_path / "fused.json"
    found = set()
    for small in ("*-n1000", "*[a-z]"):
        result = bench("--suite", "fused", "--filter", small, "--no-peers", "--seconds", "0.5",
                       "--json", str(path))
        assert result.returncode == 0, result.stderr
        rows = json.loads(path.read_text())["rows"]
        assert rows and all(row["verified"] for row in rows), [row["reason"] for row in rows]
        found |= {row["kernel"] for row in rows if row["arm"] == "cpu/steps"}
    assert len(found) == 6


def test_the_catalogue_is_measured_whole():
    listed = bench("--list", "--suite", "kernels").stdout.splitlines()
    names = {line.split()[0].split("/")[1].rsplit("-n1", 1)[0] for line in listed
             if line.startswith("kernels/")}
    assert len(names - {"fft", "attention_merge"}) == 115  # those two are not numbered
    assert {"reduce_sum", "attention_gqa", "fft_radix4", "fused_attention_softmax_v"} <= names


# ---- Endings ------------------------------------------------------------------------------------


def workers_of(pid):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue
        if stat and stat.rsplit(")", 1)[1].split()[1] == str(pid):
            found.append(int(entry.name))
    return found


def alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def started(tmp_path, *arguments):
    """A run with the peer NumPy, and the worker's process, once it measures."""
    path, output = tmp_path / "samples.json", open(tmp_path / "output", "w+")
    process = subprocess.Popen([COMMAND, "bench", "--peers", "numpy", "--json", str(path),
                                *arguments], stdout=output, stderr=subprocess.DEVNULL,
                               env=environment())
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if "ceiling" in (tmp_path / "output").read_text():
            return process, workers_of(process.pid), path
        time.sleep(0.1)
    process.kill()
    raise AssertionError("it did not begin to measure")


@needs_numpy
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_the_samples(tmp_path, number):
    process, workers, path = started(tmp_path, "--suite", "flash", "--seconds", "200")
    assert workers
    time.sleep(4)
    process.send_signal(number)
    assert process.wait(timeout=60) == 130
    document = json.loads(path.read_text())
    assert document["interrupted"]
    assert any(row["samples"] for row in document["rows"])
    output = (tmp_path / "output").read_text()
    assert "Interrupted" in output and "none of ours serves this" not in output
    assert not any(alive(worker) for worker in workers)
    assert [entry.name for entry in tmp_path.iterdir() if "samples" in entry.name] == [path.name]


@needs_numpy
def test_being_killed_leaves_no_process(tmp_path):
    process, workers, path = started(tmp_path, "--suite", "flash", "--seconds", "200")
    assert workers
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(worker) for worker in workers)
    assert not path.exists()


@needs_numpy
def test_a_crashing_peer_is_named_and_started_again(tmp_path):
    process, workers, path = started(tmp_path, "--suite", "flash", "--filter", "b1-", "--seconds",
                                     "8")
    os.kill(workers[0], signal.SIGSEGV)
    os.kill(workers[0], signal.SIGCONT)
    assert process.wait(timeout=200) == 0
    document = json.loads(path.read_text())
    assert any("numpy crashed" in warning for warning in document["environment"]["warnings"])
    rows = [row for row in document["rows"] if row["arm"] == "peer/numpy"]
    lost = [row for row in rows if not row["verified"]]
    assert len(lost) == 1 and "crashed" in lost[0]["reason"]
    assert len(rows) > 2
