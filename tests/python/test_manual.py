"""The pages for man: one for the command, and one for each function of a kernel, that troff takes without a
warning."""

import re
import shutil
import subprocess

import pytest
from library import BUILD, ROOT

PAGES = sorted((BUILD / "generated/man/man3").glob("*.3"))
COMMAND = ROOT / "docs/fovea.1"


def warnings_of(page):
    return subprocess.run(["groff", "-man", "-Tutf8", "-k", "-ww", "-z", page],
                          capture_output=True, text=True).stderr


def test_every_function_of_a_kernel_has_a_page():
    header = (BUILD / "generated/fovea/kernels.h").read_text()
    functions = set(re.findall(r"FOVEA_API fovea_status (fovea_\w+)\(", header))
    assert {p.stem for p in PAGES} == functions


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff here")
def test_pages_have_no_warnings():
    bad = {page.name: said for page in [COMMAND, *PAGES] if (said := warnings_of(page))}
    assert not bad


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff here")
def test_a_wrong_page_is_noticed(tmp_path):
    page = tmp_path / "wrong.1"
    page.write_text(".TH WRONG 1\n.SH NAME\nwrong \\- a page\n.NO_SUCH macro\n")
    assert warnings_of(page)


def test_pages_show_what_they_document():
    text = (BUILD / "generated/man/man3/fovea_map_clamp.3").read_text()
    for wanted in [".SH NAME", "fovea_map_clamp", ".SH SYNOPSIS", ".B lo", ".B hi", "lower bound"]:
        assert wanted in text


def test_the_page_of_the_command_names_all_commands():
    usage = subprocess.run([BUILD / "bin/fovea", "--help"], capture_output=True, text=True).stdout
    text = COMMAND.read_text()
    for name in re.findall(r"^  (\w+) ", usage, re.M):
        assert f"fovea {name}" in text
