"""`fovea tune` from outside: the plan, a signal while it measures, and the run that continues."""

import re
import signal
import subprocess
import time

import pytest
from library import BUILD


def tune(*arguments):
    return subprocess.run([BUILD / "bin/fovea", "tune", *map(str, arguments)], capture_output=True,
                          text=True, stdin=subprocess.DEVNULL, timeout=100)


def points_left(file):
    """Of the kernel's points those that the file does not have."""
    done = tune("--plan", "--kernel", "attention", "--output", file)
    assert done.returncode == 0, done.stderr
    return int(re.search(r"^(\d+) points in all", done.stdout, re.MULTILINE).group(1))


def test_the_plan_is_printed_and_nothing_is_measured(tmp_path):
    file = tmp_path / "routes"
    done = tune("--plan", "--output", file)
    assert done.returncode == 0
    for kernel in ["map_add", "attention", "outer_product", "median_select"]:
        assert re.search(rf"^{kernel} +\d+ points, +[0-9.]+ s", done.stdout, re.MULTILINE)
    assert not file.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_it_has(tmp_path, number):
    """Sent twice, as timeout(1) does."""
    file, output = tmp_path / "routes", tmp_path / "output"
    wanted = points_left(file)
    with open(output, "w") as stream:
        process = subprocess.Popen([BUILD / "bin/fovea", "tune", "--kernel", "attention", "--verbose",
                                    "--output", file], stdout=stream, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while "fastest" not in output.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    process.send_signal(number)
    assert process.wait(timeout=100) == 1
    text = output.read_text()
    assert "measurements;" in text and "interrupted with" in text
    assert re.search(r"^drawing \d+ s, the reference \d+ s", text, re.MULTILINE)
    assert file.read_text().count("\nroute attention ") > 0
    assert [entry.name for entry in tmp_path.iterdir()
            if "routes" in entry.name] == ["routes"]
    left = points_left(file)
    assert 0 < left < wanted
    done = tune("--kernel", "attention", "--output", file, "--seconds", "1")
    assert done.returncode == 0, done.stderr
    assert f"{left} points with their numbers of threads" in done.stdout
    assert points_left(file) <= left
