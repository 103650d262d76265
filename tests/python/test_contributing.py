"""The walk through adding a kernel in CONTRIBUTING.md, taken: its steps are applied to a copy of the
source, which is built, and the new kernel is checked and compared with NumPy."""

import platform
import re
import shutil
import subprocess

import numpy as np
import pytest
from library import ROOT

KERNEL = "map_square"
TIERS = "scalar;neon" if platform.machine() in ("aarch64", "arm64") else "scalar;avx2"


STEP = re.compile(r"`([^`]+)`,\s+before\s+the\s+line\s+`([^`]+)`:\n\n```(?:c|python)\n(.*?)```", re.S)


def steps():
    """(file, line, code) of each step."""
    return STEP.findall((ROOT / "CONTRIBUTING.md").read_text())


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    place = tmp_path_factory.mktemp("walk") / "fovea"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns("build", ".*", "__pycache__"))
    for file, line, code in steps():
        text = (place / file).read_text()
        assert text.count(line + "\n") == 1, f"{file} has not exactly one line «{line}»"
        (place / file).write_text(text.replace(line + "\n", code + line + "\n"))
    build = place / "build"
    run("cmake", "-S", place, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
        f"-DFOVEA_ONLY_TIERS={TIERS}", "-DFOVEA_WERROR=ON", "-DFOVEA_CUDA=OFF", "-DFOVEA_PYTHON=OFF")
    run("cmake", "--build", build, "--target", "fovea-command", "fovea", "manual")
    return place


def test_the_walk_has_its_steps():
    files = [file for file, _, _ in steps()]
    assert files == ["src/catalogue/rows/elementwise.c", "src/reference/elementwise.c",
                     "src/reference/elementwise.c", "src/cpu/elementwise.c",
                     "src/cpu/elementwise.c", "bench/peers/numpy_peer.py"]


def test_the_new_kernel_is_right(copy):
    output = run(copy / "build/bin/fovea", "check", "--kernel", KERNEL)
    assert re.search(r"cpu/\w+/direct +[1-9]\d* cases +0 failed", output)


def test_everything_that_follows_from_the_row_is_there(copy):
    assert f"fovea_{KERNEL}(" in (copy / "build/generated/fovea/kernels.h").read_text()
    assert KERNEL in (copy / "build/generated/kernels.md").read_text()
    assert KERNEL in run(copy / "build/bin/fovea", "info", "--kernels")


def test_the_new_kernel_can_be_called(copy):
    program = ("import os, numpy as np\nfrom library import Library\n"
               "x, y = np.arange(6, dtype=np.float32), np.empty(6, np.float32)\n"
               f"Library().call('{KERNEL}', x, y, implementation=None)\nprint(y.tolist())")
    python = ROOT / "build/venv/bin/python"
    assert run(python, "-c", program, cwd=ROOT / "tests/python",
               env={"FOVEA_BUILD": str(copy / "build"), "PATH": "/usr/bin:/bin"}
               ).strip() == str((np.arange(6.0) ** 2).tolist())
