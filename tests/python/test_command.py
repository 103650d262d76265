"""Bad input on the command line: a sentence that names what was given, an exit code that is not 0, and
nothing half-written."""

import os
import subprocess

import pytest
from library import BUILD

CASE = "bench --filter b4-hq1-sq128-d64 --no-peers --seconds 1"


def fovea(text):
    return subprocess.run([BUILD / "bin/fovea", *text.split()], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=100)


@pytest.mark.parametrize("arguments, named", [
    ("no_such", "no_such"),
    ("check --kernel no_such", "no_such"),
    ("check --implementation no/such", "no/such"),
    ("check --seed abc", "abc"),
    ("check --no-such-option", "no-such-option"),
    ("info no_such", "no_such"),
    ("route no_such", "no_such"),
    ("route attention --dtype f99", "f99"),
    ("route attention --shape b=-1", "b=-1"),
    ("route attention --shape zz=1", "zz=1"),
    ("route attention --shape hq=3,hkv=2,sq=4,d=8", "q has 3 heads"),
    ("route attention --causal sideways", "sideways"),
    ("route attention", "Hq"),
    ("tune --kernel no_such", "no_such"),
    ("bench --suite no_such", "no_such"),
    ("bench --filter no_such", "no_such"),
    ("bench --threads 0", "0"),
    ("bench --threads abc", "abc"),
    ("bench --seconds -1", "-1"),
    ("bench --peers no_such", "no_such"),
    ("bench --device 3", "--device=3"),
    ("route map_exp --shape n=1 --device 3", "--device=3"),
    ("check --exhaustive --every 1024 --kernel map_relu --json /no/such/file", "/no/such/file"),
    ("check --exhaustive --every 1024 --kernel map_relu --table /dev/null", "/dev/null"),
    (CASE + " --json /no/such/file.json", "/no/such"),
    (CASE + " --json /dev/full", "/dev/full"),
    ("report /no/such/file.json", "/no/such/file.json"),
    ("report /dev/null", "/dev/null"),
])
def test_refuses_by_name(arguments, named):
    done = fovea(arguments)
    assert done.returncode in (1, 2), done.returncode
    assert f"fovea {arguments.split()[0]}" in done.stderr or "fovea: " in done.stderr
    assert named in done.stderr
    assert done.stdout == ""


def test_report_refuses_random_bytes(tmp_path):
    file = tmp_path / "bytes.json"
    file.write_bytes(os.urandom(4096))
    done = fovea(f"report {file} --output {tmp_path}/report.html")
    assert done.returncode != 0 and str(file) in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_routes_of_random_bytes_are_refused_when_named(tmp_path):
    file = tmp_path / "routes"
    file.write_bytes(os.urandom(4096))
    done = fovea(f"route attention --shape hq=1,sq=64,d=64 --routes {file}")
    assert done.returncode != 0 and str(file) in done.stderr


def test_a_full_disk_is_reported():
    with open("/dev/full", "w") as full:
        done = subprocess.run([BUILD / "bin/fovea", "info", "--kernels"], stdout=full,
                              stderr=subprocess.PIPE, text=True)
    assert done.returncode != 0 and "No space left" in done.stderr
