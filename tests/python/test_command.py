"""Bad input on the command line: a sentence that names what was given, an exit code that is not 0, and
nothing half-written."""

import os
import re
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
    ("check --kernel map_add --jobs 0", "--jobs=0"),
    ("check --kernel map_add --list --case n=3", "--case"),
    ("check --exhaustive --quick --kernel map_relu", "--exhaustive"),
    ("check --exhaustive --every 262144 --kernel map_relu --implementation cuda/streams",
     "cuda/streams"),
    ("route no_such", "no_such"),
    ("route --routes map_add map_exp --shape n=4", "map_exp"),
    ("route map_exp --shape n=4 --seconds 2", "--measure"),
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
    ("bench --peers=", "--peers="),
    ("bench --peers numpy,", "numpy,"),
    ("bench --backend cuda --peers numpy", "numpy"),
    ("bench --seed 99999999999999999999", "99999999999999999999"),
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


@pytest.mark.parametrize("arguments", ["info --kernels", "--version", "--help"])
def test_a_full_disk_is_reported(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run([BUILD / "bin/fovea", *arguments.split()], stdout=full,
                              stderr=subprocess.PIPE, text=True)
    assert done.returncode != 0 and "No space left" in done.stderr


@pytest.mark.parametrize("binding", [{"OMP_PROC_BIND": "true"},
                                     {"OMP_PROC_BIND": "close", "OMP_PLACES": "threads"}])
def test_threads_bound_by_openmp_are_as_many(binding):
    """Each is on a processor of its own, but they are not on one together."""
    said = [subprocess.run([BUILD / "bin/fovea", "info"], capture_output=True, text=True,
                           env=os.environ | more).stdout for more in ({}, binding)]
    threads = [re.search(r"threads (\d+)", text)[1] for text in said]
    assert threads[0] == threads[1]


def test_an_implementation_that_was_not_run_is_no_success():
    done = subprocess.run([BUILD / "bin/fovea", "check", "--quick", "--kernel", "map_add",
                           "--implementation", "cpu/avx512/direct"], capture_output=True, text=True,
                          env=os.environ | {"FOVEA_TIER": "scalar"})
    assert done.returncode == 2 and "nothing was run of cpu/avx512/direct" in done.stderr


def test_exhaustive_counts_what_it_took():
    """Two of the 262144 runs of f32, of 16384 inputs each, and all of two halves."""
    done = fovea("check --exhaustive --every 200000 --kernel map_relu")
    assert done.returncode == 0 and f" {2 * 16384 + 2 * 65536} inputs" in done.stdout


def test_a_routes_file_that_cannot_be_read_is_not_replaced(tmp_path):
    done = fovea(f"tune --seconds 1 --kernel map_add --output {tmp_path}")
    assert done.returncode == 1 and "it is not replaced" in done.stderr
