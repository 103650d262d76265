"""What surrounds the code: the library's symbols, the installed copy and those who use it, and the
examples in the documents."""

import os
import re
import subprocess
import tomllib

import pytest
from library import BUILD, ROOT

EXAMPLE = ROOT / "examples" / "attention.c"
EXAMPLES = sorted((ROOT / "examples").glob("*.c"))


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def declared_functions():
    text = "".join(p.read_text() for p in sorted((ROOT / "include/fovea").glob("*.h")))
    text += (BUILD / "generated/fovea/kernels.h").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    return set(re.findall(r"FOVEA_API\s[^;(]*?(fovea_\w+)\s*\(", text))


# ---- The library ---------------------------------------------------------------------------------


def test_shared_library_exports_the_public_functions_alone():
    symbols = run("nm", "-D", "--defined-only", BUILD / "libfovea.so").splitlines()
    exported = {line.split()[-1] for line in symbols}
    assert exported == declared_functions()


def test_shared_library_has_a_soname():
    dynamic = run("readelf", "-d", BUILD / "libfovea.so")
    assert re.search(r"SONAME.*\[libfovea\.so\.\d+\]", dynamic)


def test_static_library_defines_only_prefixed_symbols():
    lines = run("nm", "--defined-only", "-g", BUILD / "libfovea.a").splitlines()
    names = {line.split()[-1] for line in lines if len(line.split()) == 3}
    assert declared_functions() <= names
    assert not [n for n in names if not n.startswith("fovea_")]


# ---- The installed copy --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    place = tmp_path_factory.mktemp("installed")
    run("cmake", "--install", BUILD, "--prefix", place)
    return place


def library_directory(prefix):
    return next(prefix.rglob("libfovea.so")).parent


def environment(prefix):
    directory = library_directory(prefix)
    return {**os.environ, "PKG_CONFIG_PATH": str(directory / "pkgconfig"),
            "LD_LIBRARY_PATH": str(directory)}


def test_installation_is_complete(prefix):
    files = {p.relative_to(prefix).as_posix() for p in prefix.rglob("*") if p.is_file()}
    for wanted in ["bin/fovea", "include/fovea/fovea.h", "include/fovea/explore.h",
                   "include/fovea/kernels.h",
                   "share/fovea/bench/peers/worker.py", "share/fovea/tools/report/__main__.py"]:
        assert wanted in files
    for name in ["kernels.md", "design.md", "rules.md", "README.md", "LICENSE", "fovea.pc",
                 "fovea-config.cmake", "libfovea.a", "libfovea.so"]:
        assert any(f.endswith("/" + name) for f in files), name
    assert not [f for f in files if "__pycache__" in f]


def test_installation_honours_destdir(tmp_path):
    run("cmake", "--install", BUILD, "--prefix", "/opt/fovea",
        env={**os.environ, "DESTDIR": str(tmp_path)})
    assert (tmp_path / "opt/fovea/bin/fovea").is_file()


def test_installed_command_runs(prefix):
    assert "fovea" in run(prefix / "bin/fovea", "--version")
    assert "usage: fovea report" in run(prefix / "bin/fovea", "report", "--help", cwd=prefix,
                                        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})


@pytest.mark.parametrize("source", [ROOT / "tests/consumer/main.c", EXAMPLE], ids=lambda p: p.name)
def test_consumer_by_cmake(prefix, tmp_path, source):
    run("cmake", "-S", ROOT / "tests/consumer", "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DSOURCE={source}")
    run("cmake", "--build", tmp_path)
    for kind in ("fovea", "static"):
        run(tmp_path / f"consumer-{kind}")
    assert "libfovea" in run("ldd", tmp_path / "consumer-fovea")
    assert "libfovea" not in run("ldd", tmp_path / "consumer-static")


def test_consumer_of_a_version_to_come_is_told(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(x LANGUAGES C)\nfind_package(fovea 99 REQUIRED)\n")
    done = subprocess.run(["cmake", "-S", tmp_path, "-B", tmp_path / "b",
                           f"-DCMAKE_PREFIX_PATH={prefix}"], capture_output=True, text=True)
    assert done.returncode != 0 and "version" in done.stderr


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_consumer_by_pkg_config(prefix, tmp_path, kind):
    flags = run("pkg-config", "--cflags", "--libs", *(["--static"] if kind == "static" else []),
                "fovea", env=environment(prefix)).split()
    if kind == "static":
        flags = [str(library_directory(prefix) / "libfovea.a") if f == "-lfovea" else f for f in flags]
    run("cc", "-std=c17", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "example", EXAMPLE, *flags)
    assert " took " in run(tmp_path / "example", env=environment(prefix))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_examples_run(prefix, tmp_path, example):
    flags = run("pkg-config", "--cflags", "--libs", "fovea", env=environment(prefix)).split()
    run("cc", "-std=c17", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "example", example, *flags)
    assert run(tmp_path / "example", env={**environment(prefix), "FOVEA_ROUTES": ""}).strip()


def test_header_is_valid_alone_and_in_cxx(prefix, tmp_path):
    for language in ("c", "c++"):
        source = tmp_path / "header.c"
        source.write_text("#include <fovea/fovea.h>\n")
        done = subprocess.run(["cc", "-x", language, "-Wall", "-Wextra", "-pedantic", "-Werror",
                               "-fsyntax-only", f"-I{prefix}/include", source],
                              capture_output=True, text=True)
        if "cc1plus" in done.stderr and "No such file" in done.stderr:
            pytest.skip("there is no C++ compiler here")
        assert done.returncode == 0, done.stderr


# ---- Documents -----------------------------------------------------------------------------------

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/design.md", "docs/drop-ins.md", "docs/python.md",
             "docs/rules.md"]


def test_readme_shows_the_example():
    blocks = re.findall(r"```c\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks == [EXAMPLE.read_text()]


def test_manual_in_the_header_compiles_and_runs(prefix, tmp_path):
    text = (ROOT / "include/fovea/fovea.h").read_text()
    manual = text[: text.index("#ifndef")]
    code = "".join(line[3:] + "\n" for line in manual.splitlines() if line.startswith(" *     "))
    assert "fovea_context_create" in code
    source = tmp_path / "manual.c"
    source.write_text(
        "#include <fovea/fovea.h>\n#include <stdio.h>\nint main(void) {\n"
        "static float memory[4][64];\nint64_t shape[] = {1, 1, 8, 8};\nDLTensor t[4];\n"
        "for (int i = 0; i < 4; i++) t[i] = (DLTensor){.data = memory[i], .device = {kDLCPU, 0},\n"
        ".ndim = 4, .dtype = {kDLFloat, 32, 1}, .shape = shape};\n"
        "DLTensor q = t[0], k = t[1], v = t[2], out = t[3];\n" + code + "}\n")
    flags = run("pkg-config", "--cflags", "--libs", "fovea", env=environment(prefix)).split()
    run("cc", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "manual", source, *flags)
    done = subprocess.run([tmp_path / "manual"], capture_output=True, text=True,
                          env=environment(prefix))
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_documents_name_exist(document):
    text = (ROOT / document).read_text()
    names = re.findall(r"`((?:src|tools|tests|bench|docs|examples|scripts|include|cmake|\.ci)/[^`\s]*)`", text)
    missing = [n for n in names if "NAME" not in n and not (ROOT / n).exists()]
    assert names and not missing, missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_that_documents_name_exist(document):
    usage = run(BUILD / "bin/fovea", "--help")
    known = set(re.findall(r"^  (\w+) ", usage, re.M))
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M))
    text = (ROOT / document).read_text()
    for name in re.findall(r"(?:`|^    )(?:build/)?fovea (\w+)", text, re.M):
        assert name in known, f"{document}: fovea {name}"
    for name in re.findall(r"(?:`|^    )make (\w+)", text, re.M):
        assert name in targets, f"{document}: make {name}"


def test_breaks_of_kernels_have_their_place():
    """`make mutants` takes long; that each of its texts still stands in the source, once, is seen at once."""
    mutants = tomllib.loads((ROOT / "tests/mutants/table.toml").read_text())["mutant"]
    lost = [f"{m['file']}: {m['breaks']}" for m in mutants
            if (ROOT / m["file"]).read_text().count(m["text"]) != 1 or m["becomes"] == m["text"]]
    assert mutants and not lost, lost


@pytest.mark.parametrize("command", ["", "no_such", "report --no-such-option"])
def test_command_refuses_bad_usage_with_a_sentence(command):
    done = subprocess.run([BUILD / "bin/fovea", *command.split()], capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr.strip()
