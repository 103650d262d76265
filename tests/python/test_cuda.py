"""The library for CUDA devices as the compiler left it: no register spills but in named files, the
instructions that were meant. What it computes is checked where a device is (fovea check --backend cuda)."""

import ctypes
import re
import shutil
import subprocess

import pytest
from library import BUILD, ROOT

REPORTS = sorted((BUILD / "cuda").glob("*.report"))
built = pytest.mark.skipif(not REPORTS, reason="libfovea_cuda was not built (nvcc is missing)")


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def spills(text):
    return [int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", text)]


def cuobjdump():
    found = shutil.which("cuobjdump") or shutil.which("/usr/local/cuda/bin/cuobjdump")
    packaged = (ROOT / "build/venv").glob("lib/python*/site-packages/triton/backends/nvidia/bin/cuobjdump")
    return found or next((str(p) for p in packaged), None)


# Bytes that a kernel may store where more threads were measured to be worth it (src/cuda/NOTES.md).
SPILLED = {"scans": 48, "normalization": 128, "correlation": 96, "loss": 24}


@built
@pytest.mark.parametrize("report", REPORTS, ids=lambda p: p.stem)
def test_no_kernel_spills(report):
    found = spills(report.read_text())
    assert found, "the report names no kernel"
    allowed = SPILLED.get(report.stem.removesuffix(".o"), 0)
    names = re.findall(r"Compiling entry function '(\w+)'", report.read_text())
    assert max(found[::2]) <= allowed, names


def test_spills_are_found():
    assert any(spills("    8 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads"))


@built
def test_the_library_exports_its_entry_alone():
    done = subprocess.run(["nm", "-D", "--defined-only", BUILD / "libfovea_cuda.so"],
                          capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["fovea_cuda_backend_get"]


def disassembled(stem):
    tool = cuobjdump()
    if not tool:
        pytest.skip("there is no cuobjdump here")
    return subprocess.run([tool, "--dump-sass", BUILD / "cuda" / f"{stem}.o"],
                          capture_output=True, text=True, check=True).stdout


@built
@pytest.mark.parametrize("stem, product", [("general_64", "HMMA.16816.F32"), ("general_128", "HMMA.16816.F32"),
                                           ("general_256", "HMMA.16816.F32"), ("split", "HMMA.16816.F32"),
                                           ("split_words", "HMMA.1688.F32.TF32"),
                                           ("f32_products", "HMMA.1688.F32.TF32")])
def test_attention_multiplies_on_the_tensor_cores(stem, product):
    code = disassembled(stem)
    assert code.count(product) > 100
    assert "LDSM" in code and "LDGSTS" in code  # ldmatrix, cp.async
    assert not re.search(r"\b(LDL|STL)\b", code)


@built
@pytest.mark.parametrize("stem, least", [("hopper", 16), ("hopper_varied", 6), ("hopper_f32", 4),
                                         ("hopper_modified", 8)])
def test_hopper_attention_multiplies_by_warpgroups(stem, least):
    report = (BUILD / f"cuda/{stem}.o.report").read_text()
    # The assembler says so where it waits for each product before it begins the next.
    assert "serialized" not in report and "setmaxnreg ignored" not in report
    kernels = [k for k in disassembled(stem).split("Function : ")[1:] if "attention" in k.split()[0]]
    assert len(kernels) >= least
    for kernel in kernels:
        name = kernel.split()[0]
        assert kernel.count("HGMMA") > 20, name
        # Bulk copies, registers moved; but for f32 keys that the kernel's own threads split into terms.
        if not re.search(r"attention_f32_kernel\w+Lb1EEEv", name):
            assert "UTMALDG" in kernel and "USETMAXREG" in kernel, name
        assert not re.search(r"\b(LDL|STL)\b", kernel), name


COMMANDS = [("check",), ("bench",), ("tune",), ("route", "map_add", "--shape", "n=1000")]


@pytest.mark.skipif(has_driver(), reason="there is an NVIDIA driver here")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_without_a_driver_every_command_says_so(command):
    done = subprocess.run([BUILD / "bin/fovea", *command, "--backend", "cuda"], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 2 and not done.stdout
    assert "--backend=cuda: there is no NVIDIA driver here" in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
@pytest.mark.parametrize("option, value", [("--backend", "metal"), ("--device", "-1"),
                                           ("--device", "first")])
def test_a_backend_that_there_is_not_is_refused(command, option, value):
    done = subprocess.run([BUILD / "bin/fovea", *command, option, value], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 2 and not done.stdout
    assert f"{option}={value}" in done.stderr
