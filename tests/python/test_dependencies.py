"""Data flows downwards only: a file may include its own level's directory and what is below it."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEVELS = {"include": 0, "src/runtime": 1, "src/catalogue": 2, "src/reference": 3, "src/cpu": 3, "src/cuda": 3,
          "src/router": 4, "src/api": 5, "tools": 6, "python/extension": 6, "examples": 6, "tests": 7}
SEARCHED = ["src", "include", "tools", "tests/unit"]
GENERATED = {"fovea/kernels.h", "commit.h"}
INCLUDE = re.compile(r"^\s*#\s*include\s+(\S+)", re.M)


def directory_of(path):
    """The directory of LEVELS that a path relative to the root is in."""
    return next((d for d in LEVELS if path.as_posix().startswith(d + "/")), None)


def sources():
    files = [p for d in LEVELS for s in ("*.c", "*.h") for p in (ROOT / d).rglob(s)]
    return sorted({p.relative_to(ROOT) for p in files})


def resolve(name, includer):
    """Where an include of ours leads to, relative to the root; None for the system's."""
    for place in [(ROOT / includer).parent, *(ROOT / s for s in SEARCHED)]:
        if (place / name).is_file():
            return (place / name).resolve().relative_to(ROOT)
    return None


def faults(includer, text):
    """What is wrong with the includes of a file of this text, in sentences."""
    for written in INCLUDE.findall(text):
        name = written.strip('"<>')
        included = resolve(name, includer)
        if included is None:
            if written.startswith('"') and name not in GENERATED:
                yield f"{includer} includes {name}, which does not exist"
            continue
        own, other = directory_of(includer), directory_of(included)
        if other is None:
            yield f"{includer} includes {included}, which has no level"
        elif own != other and LEVELS[other] >= LEVELS[own]:
            yield f"{includer} includes {included} from {other}, which is not below {own}"


@pytest.mark.parametrize("source", sources(), ids=str)
def test_includes_lead_downwards(source):
    assert directory_of(source), f"{source} has no level"
    found = list(faults(source, (ROOT / source).read_text()))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("includer, include", [
    ("include/fovea/fovea.h", '#include "runtime/view.h"'),
    ("src/runtime/view.c", '#include "catalogue/catalogue.h"'),
    ("src/catalogue/case.c", '#include "reference/reference.h"'),
    ("src/reference/softmax.c", '#include "router/choose.h"'),
    ("src/reference/softmax.c", '#include "cpu/tables.h"'),
    ("src/cpu/softmax.c", '#  include "reference/reference.h"'),
    ("src/router/choose.c", '#include "api/context.h"'),
    ("src/api/call.c", '#include "../../tools/commands.h"'),
    ("src/api/call.c", '#include "no_such_file.h"'),
])
def test_the_rule_catches(includer, include):
    assert list(faults(pathlib.Path(includer), include))


def test_every_source_directory_has_a_level():
    for directory in (ROOT / "src").iterdir():
        assert f"src/{directory.name}" in LEVELS, f"src/{directory.name} has no level"
