"""The package in a process that forks, has threads, is interrupted, and ends."""

import gc
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from library import needs

fovea = needs("fovea")
x = np.random.default_rng(8).standard_normal((2048, 1024)).astype(np.float32)


def run(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, **options)


# ---- Fork ----------------------------------------------------------------------------------------


def call(i):
    return float(fovea.map_exp(x)[i, 0]), fovea.last_call().threads


def test_forked_processes_call_on_as_many_threads():
    fovea.map_exp(x)
    threads = fovea.last_call().threads
    pool = multiprocessing.get_context("fork").Pool(2)
    try:
        results = pool.map_async(call, range(8)).get(60)  # what hangs fails
    finally:
        pool.terminate()
    assert results == [(float(np.exp(x[i, 0])), threads) for i in range(8)] or \
        np.allclose([r[0] for r in results], np.exp(x[:8, 0])) and {r[1] for r in results} == {threads}
    fovea.map_exp(x)


def test_children_of_a_thread_and_of_children():
    code = """
import fovea, numpy as np, os, threading
x = np.ones((2048, 1024), np.float32)
fovea.map_exp(x)
def fork(depth):
    fovea.map_exp(x)
    child = os.fork()
    if child == 0:
        fovea.map_exp(x)
        if depth: fork(depth - 1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
fork(1)
thread = threading.Thread(target=fork, args=(1,))
thread.start(); thread.join(60)
assert not thread.is_alive()
fovea.map_exp(x)
assert fovea.statistics()["map_exp"].calls == 4
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("first", ["torch", "fovea"])
def test_data_loader_of_torch(first, tmp_path):
    needs("torch")
    script = tmp_path / "loader.py"
    script.write_text(f"import {first}\n" + """
import fovea, torch
class Squares(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return fovea.map_exp(torch.zeros(1024, 512))[i]
torch.randn(800, 800) @ torch.randn(800, 800)
fovea.map_exp(torch.zeros(1024, 512))
for batch in torch.utils.data.DataLoader(Squares(), batch_size=4, num_workers=2, multiprocessing_context="fork"):
    assert batch.shape == (4, 512) and (batch == 1).all()
fovea.map_exp(torch.zeros(1024, 512))
""")
    done = subprocess.run([sys.executable, "-W", "ignore", script], timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- Threads -------------------------------------------------------------------------------------


def test_threads_call_at_once_each_with_its_own_choices():
    before = fovea.statistics().get("map_exp", fovea.Statistics(0, 0, 0, 0, None)).calls
    expected = np.exp(x[:256])
    wrong = []

    def work(number):
        with fovea.use("cpu/scalar/direct" if number % 2 else None, threads=1 + number % 2):
            for _ in range(20):
                result = fovea.map_exp(x[:256])
                if not np.allclose(result, expected, rtol=1e-6):
                    wrong.append(number)
                if number % 2 and fovea.last_call().implementation != "cpu/scalar/direct":
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert not wrong
    assert fovea.statistics()["map_exp"].calls == before + 160  # those of ended threads count


def test_the_lock_of_python_is_free_during_a_call():
    q = np.ones((1, 8, 1024, 64), np.float32)
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    with fovea.use("cpu/scalar/textbook", threads=1):
        start = time.monotonic()
        fovea.attention(q, q, q)
        end = time.monotonic()
    done.set()
    thread.join()
    assert sum(start < t < end for t in ticks) >= 2


def test_use_nests_and_is_undone_after_errors():
    v = x[:4]
    with fovea.use("cpu/scalar/direct"):
        with fovea.use("reference/scalar/double", kernel="map_exp"):
            fovea.map_exp(v)
            assert fovea.last_call().implementation == "reference/scalar/double"
        fovea.map_exp(v)
        assert fovea.last_call().implementation == "cpu/scalar/direct"
        with pytest.raises(ValueError, match="no such|has no implementation"):
            with fovea.use("cpu/no/such", kernel="map_exp", threads=1):
                pass
    with pytest.raises(ValueError, match="kernel is 'map_exp', but no implementation"):
        fovea.use(kernel="map_exp", threads=1)
    with pytest.raises(ZeroDivisionError):
        with fovea.use(threads=1):
            assert fovea.threads() == 1
            raise ZeroDivisionError
    fovea.map_exp(v)
    assert fovea.last_call().implementation != "cpu/scalar/direct"


def test_set_threads_holds_for_all_threads():
    before = fovea.threads()
    seen = []
    try:
        fovea.set_threads(3)
        thread = threading.Thread(target=lambda: seen.append(fovea.threads()))
        thread.start(), thread.join()
        assert fovea.threads() == 3 and seen == [3]
        for wrong in (-1, 4097, 2**70):
            with pytest.raises(ValueError, match=f"threads is {wrong}; it is at least 0 and at most 4096"):
                fovea.set_threads(wrong)
            with pytest.raises(ValueError, match=f"threads is {wrong}; it is at least 0 and at most 4096"):
                with fovea.use(threads=wrong):
                    pass
        assert fovea.threads() == 3
    finally:
        fovea.set_threads(0)
    assert fovea.threads() == before


def test_what_ends_with_a_thread_may_still_call():
    code = '''
import ctypes, fovea, numpy as np, threading
x, seen = np.ones(8, np.float32), []
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def at_end(value):
    seen.append(float(fovea.map_relu(x)[0]))
libc, key = ctypes.CDLL(None), ctypes.c_uint()
def work():
    fovea.map_relu(x)
    libc.pthread_setspecific(key, ctypes.c_void_p(1))
assert libc.pthread_key_create(ctypes.byref(key), at_end) == 0
for i in range(1, 9):
    thread = threading.Thread(target=work)
    thread.start(); thread.join()
    while len(seen) < i: pass
assert seen == [1] * 8 and fovea.statistics()["map_relu"].calls == 16
'''
    done = run(code)
    assert done.returncode == 0, done.stderr


# ---- Interrupts, exit, leaks ---------------------------------------------------------------------


def test_an_interrupt_leaves_a_usable_state():
    q = np.ones((1, 4, 512, 64), np.float32)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    end = time.monotonic() + 30
    with pytest.raises(KeyboardInterrupt):
        while time.monotonic() < end:
            with fovea.use("cpu/scalar/textbook"):
                fovea.attention(q, q, q)
    timer.join()
    signal.signal(signal.SIGINT, before)
    np.testing.assert_allclose(fovea.attention(q, q, q), q, rtol=1e-5)
    assert fovea.last_call().implementation != "cpu/scalar/textbook"


def test_the_interpreter_ends_cleanly_in_the_middle_of_calls():
    code = """
import fovea, numpy as np, threading
x = np.ones((512, 512), np.float32)
def work():
    while True: fovea.map_exp(x)
for _ in range(3): threading.Thread(target=work, daemon=True).start()
fovea.map_exp(x)
print("end")
"""
    for _ in range(3):
        done = run(code)
        assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_nothing_leaks_in_a_hundred_thousand_calls():
    small, wrong = x[0, :16], [1.0]
    memory = fovea._fovea._memory((16,), "f32")
    torch = needs("torch")
    tensor = torch.zeros(16)

    def calls(count):
        for _ in range(count):
            fovea.map_exp(small)
            fovea.map_exp(tensor)
            fovea.map_exp(memory)
            fovea.reduce_argmax(small, value=True)
            try:
                fovea.map_exp(wrong)
            except TypeError:
                pass
            try:
                fovea.map_add(small, small[:3])
            except ValueError:
                pass

    calls(1000)
    gc.collect()
    objects, bytes_before = len(gc.get_objects()), resident()
    references = [sys.getrefcount(o) for o in (small, memory, tensor, wrong)]
    calls(16700)
    gc.collect()
    assert [sys.getrefcount(o) for o in (small, memory, tensor, wrong)] == references
    assert len(gc.get_objects()) - objects < 100
    assert resident() - bytes_before < 2 << 20  # 20 bytes a call would be seen


def test_contexts_go_with_their_threads():
    def work():
        fovea.map_exp(x[:8])

    def threads(count):
        for _ in range(count):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    threads(50)
    before = resident()
    threads(500)
    assert resident() - before < 4 << 20  # a context has about 16 KiB
