"""The package as others see it: types, the installed copy, the command, the documents, the overhead."""

import json
import os
import pathlib
import re
import subprocess
import sys
import venv

import pytest
from library import BUILD, ROOT, needs

fovea = needs("fovea")

PACKAGE = BUILD / "python" / "fovea"


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


# ---- Types ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """Where mypy keeps what it knows; and the path of the package."""
    needs("mypy")
    return {"cwd": tmp_path_factory.mktemp("mypy"), "env": {**os.environ, "MYPYPATH": str(BUILD / "python")}}


def test_package_is_typed_strictly(typed):
    """With the drop-ins, and so with what the frameworks say of their types."""
    for module in ("torch", "transformers", "jax", "mlx.core"):
        needs(module)
    run(sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--package", "fovea",
        **typed)


def test_stubs_are_what_the_extension_has(typed):
    run(sys.executable, "-m", "mypy.stubtest", "fovea._fovea", **typed)


def test_types_of_calls(typed):
    (typed["cwd"] / "calls.py").write_text("""
from typing import Any
import fovea
class Array:
    def __dlpack__(self, *, stream: int | None = None, max_version: Any = None) -> Any: ...
x = Array()
reveal_type(fovea.map_exp(x))
reveal_type(fovea.attention(x, x, x, causal="top_left", scale=0.5))
reveal_type(fovea.attention_backward(x, x, x, x, x, x))
fovea.attention(x, x, x, causal="sideways")
fovea.map_exp([1.0])
fovea.map_exp()
""")
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "calls.py"], capture_output=True,
                          text=True, **typed)
    assert re.findall(r'Revealed type is "(?:calls\.)?([^"]*)"', done.stdout.replace("calls.Array", "Array")) == [
        "Array", "Array", "tuple[Array, Array, Array]"]
    assert [int(n) for n in re.findall(r"calls\.py:(\d+): error", done.stdout)] == [10, 11, 12]


# ---- The installed copy --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A virtual environment with the package and nothing else."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    packages = next(place.glob("lib/python*/site-packages"))
    run("cmake", "--install", BUILD, "--prefix", packages, "--component", "python")
    return place / "bin/python"


def clean():
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


def test_installed_package_runs_without_any_other(installed):
    run(installed, "-c", "import fovea; assert len(fovea.kernels()) > 50; print(fovea.version())", env=clean())


def test_installed_package_carries_the_command(installed):
    assert "fovea" in run(installed, "-m", "fovea", "--version", env=clean())
    report = run(installed, "-m", "fovea", "info", "--kernels", env=clean())
    assert all(name in report for name in fovea.kernels())


def test_installed_copy_has_all_modules(installed):
    there = next(installed.parent.parent.glob("lib/python*/site-packages/fovea"))
    wanted = {p.relative_to(ROOT / "python/fovea") for p in (ROOT / "python/fovea").rglob("*.py")}
    assert not [p for p in wanted | {pathlib.Path("_fovea.pyi"), pathlib.Path("py.typed")} if not (there / p).is_file()]


def test_extension_exports_its_door_alone():
    dynamic = run("nm", "-D", PACKAGE / "_fovea.abi3.so")
    exported = re.findall(r"^[0-9a-f]+ [TDB] (\w+)", dynamic, re.M)
    assert exported == ["PyInit__fovea"]


# ---- Documents and figures -----------------------------------------------------------------------


def examples():
    for document in ("README.md", "docs/python.md"):
        for i, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.S)):
            yield pytest.param(block, id=f"{document}-{i}")


@pytest.mark.parametrize("block", list(examples()))
def test_examples_of_the_documents_run(block, tmp_path):
    (tmp_path / "example.py").write_text(block)
    run(sys.executable, tmp_path / "example.py")


def test_overhead_is_reported(tmp_path):
    for module in ("torch", "jax", "mlx.core"):
        needs(module)
    out = run(sys.executable, ROOT / "bench/python/overhead.py", "--rounds", 2, "--calls", 20, "--json",
              tmp_path / "overhead.json", "--table", tmp_path / "overhead.md")
    report = json.loads((tmp_path / "overhead.json").read_text())
    assert {c["kind"] for c in report["cases"]} == {
        "numpy", "torch", "fovea.torch", "jax", "mlx"}
    assert all(len(c["samples"]) == 2 and c["call"] in out for c in report["cases"])
    assert report["fovea"] == fovea.__version__
    assert len((tmp_path / "overhead.md").read_text().splitlines()) == 2 + len(report["cases"])
