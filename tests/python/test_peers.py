"""Every peer that is installed runs every kernel it has an adapter for, as the tool would ask it to,
and is compared with NumPy in double precision. Also: how workers answer what they cannot do."""

import importlib.util
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

WORKER = pathlib.Path(__file__).resolve().parents[2] / "bench" / "peers" / "worker.py"
PEERS = ["numpy", "torch", "openvino", "onnxruntime", "mlx", "jax", "fftw"]
SIZES = {"f32": 4, "f16": 2, "bf16": 2, "f64": 8, "c64": 8}


def module_of(peer):
    return {"fftw": "pyfftw"}.get(peer, peer)


class Peer:
    """The tool's side of the protocol."""

    def __init__(self, name, threads=2):
        self.memory = os.memfd_create("peer")
        request_read, request_write = os.pipe()
        reply_read, reply_write = os.pipe()
        fds = (request_read, reply_write, self.memory)
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), name, *map(str, fds)], pass_fds=fds,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)})
        os.close(request_read)
        os.close(reply_write)
        self.requests = os.fdopen(request_write, "w")
        self.replies = os.fdopen(reply_read)

    def ask(self, do, **fields):
        self.requests.write(json.dumps({"do": do, **fields}) + "\n")
        self.requests.flush()
        line = self.replies.readline()
        assert line, "the worker is gone"
        return json.loads(line)

    def prepare(self, kernel, dtype, arrays, parameters, outputs):
        """arrays: name -> array (inputs), outputs: name -> (shape, dtype). Keeps the layout."""
        import ml_dtypes
        types = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16,
                 "c64": np.complex64}
        names = {np.dtype(v): k for k, v in types.items()}
        offset, arguments, content = 0, {}, b""
        for name, array in arrays.items():
            arguments[name] = {"offset": len(content), "shape": array.shape,
                               "dtype": names[array.dtype]}
            content += array.tobytes() + b"\0" * (-array.nbytes % 64)
        for name, (shape, kind) in outputs.items():
            arguments[name] = {"offset": len(content), "shape": shape, "dtype": kind}
            content += b"\xa5" * (math.prod(shape) * SIZES[kind])
        os.ftruncate(self.memory, len(content))
        os.pwrite(self.memory, content, 0)
        self.outputs = {name: (arguments[name]["offset"], shape, types[kind])
                        for name, (shape, kind) in outputs.items()}
        return self.ask("prepare", kernel=kernel, dtype=dtype, threads=2, parameters=parameters,
                        memory_bytes=len(content), sets=[arguments])

    def output(self, name):
        offset, shape, kind = self.outputs[name]
        size = math.prod(shape) * np.dtype(kind).itemsize
        return np.frombuffer(os.pread(self.memory, size, offset), kind).reshape(shape)

    def close(self):
        self.requests.close()
        self.process.wait(timeout=20)
        self.replies.close()
        os.close(self.memory)


def attention(q, k, v, causal=False):
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    s = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[3])
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ v


def softmax(x):
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, gamma, beta):
    x = x.astype(np.float64)
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5) * gamma + beta


def gelu_tanh(x):
    x = x.astype(np.float64)
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def gelu_none(x):
    x = x.astype(np.float64)
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


RANDOM = np.random.default_rng(7)


def normal(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


def attention_backward(q, k, v, dout, causal):
    """dq, dk, dv in double, with out and lse beside them."""
    group = q.shape[1] // k.shape[1]
    q, k, v, dout = (x.astype(float) for x in (q, k, v, dout))
    keys, values = np.repeat(k, group, 1), np.repeat(v, group, 1)
    s = q @ np.swapaxes(keys, 2, 3) / math.sqrt(q.shape[3])
    if causal:
        s += np.triu(np.full(s.shape[2:], -np.inf), 1)
    lse = np.log(np.exp(s).sum(-1))
    p = np.exp(s - lse[..., None])
    out = p @ values
    ds = p * (dout @ np.swapaxes(values, 2, 3) - (dout * out).sum(-1, keepdims=True))
    ds /= math.sqrt(q.shape[3])

    def of_group(x):
        return x.reshape(k.shape[0], k.shape[1], group, *k.shape[2:]).sum(2)
    return {"dq": ds @ keys, "dk": of_group(np.swapaxes(ds, 2, 3) @ q),
            "dv": of_group(np.swapaxes(p, 2, 3) @ dout), "out": out, "lse": lse}


def half_case(kind):
    import ml_dtypes
    return {"f16": np.float16, "bf16": ml_dtypes.bfloat16}[kind]


def case(name):
    """kernel, dtype, inputs, parameters, outputs, expected, absolute tolerance"""
    if name.startswith("attention"):
        dtype = "bf16" if "bf16" in name else "f16" if "f16" in name else "f32"
        numpy_type = np.float32 if dtype == "f32" else half_case(dtype)
        hkv = 2 if "gqa" in name else 4
        q = normal(2, 4, 65, 64).astype(numpy_type)
        k, v = (normal(2, hkv, 65, 64).astype(numpy_type) for _ in "kv")
        causal = "causal" in name
        return ("attention", dtype, {"q": q, "k": k, "v": v},
                {"layout": "bhsd", "causal": "top_left" if causal else "none", "scale": None},
                {"out": (q.shape, dtype)}, attention(q, k, v, causal),
                {"f32": 2e-5, "f16": 2e-2, "bf16": 5e-2}[dtype])
    if name == "backward":
        q, dout = normal(2, 4, 65, 32), normal(2, 4, 65, 32)
        k, v = normal(2, 2, 65, 32), normal(2, 2, 65, 32)
        given = attention_backward(q, k, v, dout, True)
        inputs = {"q": q, "k": k, "v": v, "dout": dout}
        inputs |= {name: given.pop(name).astype(np.float32) for name in ("out", "lse")}
        return ("attention_backward", "f32", inputs,
                {"layout": "bhsd", "causal": "top_left", "scale": None},
                {name: (x.shape, "f32") for name, x in given.items()}, given, 2e-5)
    if name == "attention_merge":
        parts, lses = normal(3, 2, 4, 33, 32), normal(3, 2, 4, 33)
        weights = np.exp(lses.astype(float))
        weights /= weights.sum(0)
        return (name, "f32", {"parts": parts, "part_lses": lses}, {},
                {"out": (parts.shape[1:], "f32")}, (weights[..., None] * parts).sum(0), 2e-6)
    x = normal(37, 129)
    if name == "softmax_stable":
        return name, "f32", {"x": x}, {}, {"y": (x.shape, "f32")}, softmax(x), 1e-6
    if name == "layer_norm":
        gamma, beta = normal(129), normal(129)
        return (name, "f32", {"x": x, "gamma": gamma, "beta": beta}, {"eps": 1e-5},
                {"y": (x.shape, "f32")}, layer_norm(x, gamma, beta), 2e-5)
    if name in ("gelu_none", "gelu_tanh"):
        expected = gelu_none(x) if name == "gelu_none" else gelu_tanh(x)
        return ("map_gelu", "f32", {"x": x}, {"approximate": name[5:]}, {"y": (x.shape, "f32")},
                expected, 3e-6)
    if name == "map_clamp":
        return (name, "f32", {"x": x}, {"lo": -0.5, "hi": 1}, {"y": (x.shape, "f32")},
                np.clip(x, -0.5, 1), 0)
    if name == "map_add":
        b = normal(37, 129)
        return name, "f32", {"a": x, "b": b}, {}, {"y": (x.shape, "f32")}, x + b, 0
    if name == "reduce_sum":
        return name, "f32", {"x": x}, {"axis": None}, {"y": ((), "f32")}, x.sum(dtype=float), 1e-3
    if name == "reduce_sum_axis":
        return ("reduce_sum", "f32", {"x": x}, {"axis": -1}, {"y": ((37,), "f32")},
                x.sum(-1, dtype=float), 1e-4)
    if name in ("fft", "ifft"):
        z = (normal(1000) + 1j * normal(1000)).astype(np.complex64)
        expected = (np.fft.fft if name == "fft" else np.fft.ifft)(z.astype(complex))
        return ("fft", "c64", {"z": z}, {"direction": "forward" if name == "fft" else "inverse"},
                {"Z": (z.shape, "c64")}, expected, 1e-4)
    if name == "conv1d":
        h = normal(8)
        expected = np.convolve(x[0], h[::-1].astype(float), "full")[3:132]
        return (name, "f32", {"x": x[0], "h": h}, {"mode": "same"}, {"y": ((129,), "f32")},
                expected, 1e-5)
    if name == "autocorrelation":
        expected = np.correlate(x[0].astype(float), x[0].astype(float), "full")[128:]
        return name, "f32", {"x": x[0]}, {}, {"r": ((129,), "f32")}, expected, 1e-3
    kind = name.split("_")[-1]
    return ("quantize_f32_to_f16", "f32", {"x": x}, {}, {"y": (x.shape, kind)},
            x.astype(half_case(kind)).astype(float), 0)


CASES = ["attention", "attention_causal", "attention_gqa", "attention_f16", "attention_bf16",
         "backward", "attention_merge", "softmax_stable", "layer_norm", "gelu_none", "gelu_tanh", "map_clamp", "map_add",
         "reduce_sum", "reduce_sum_axis", "fft", "ifft", "conv1d", "autocorrelation", "quantize_f16", "quantize_bf16"]
# What a peer declines, and nothing else.
TRANSFORMS = {"fft", "ifft", "conv1d", "autocorrelation"}
UNSERVED = {
    "numpy": {"attention_bf16", "gelu_none", "quantize_bf16"},
    "torch": set(), "openvino": {"backward"} | TRANSFORMS, "mlx": {"backward"} | TRANSFORMS,
    "jax": TRANSFORMS, "onnxruntime": {"attention_bf16", "backward", "quantize_bf16"} | TRANSFORMS,
    "fftw": set(CASES) - {"fft", "ifft"},
}


@pytest.fixture(scope="module", params=PEERS)
def peer(request):
    if importlib.util.find_spec(module_of(request.param)) is None:
        pytest.skip(f"{request.param} is not installed")
    worker = Peer(request.param)
    worker.name = request.param
    yield worker
    worker.close()


def test_versions(peer):
    answer = peer.ask("hello")
    assert answer["ok"] and answer["peer"] == peer.name and answer["versions"][peer.name]


@pytest.mark.parametrize("name", CASES)
def test_kernel(peer, name):
    kernel, dtype, inputs, parameters, outputs, expected, tolerance = case(name)
    answer = peer.prepare(kernel, dtype, inputs, parameters, outputs)
    if name in UNSERVED[peer.name]:
        assert not answer["ok"] and answer["unserved"]
        return
    assert answer["ok"], answer
    started = time.monotonic()
    samples = peer.ask("run", count=3, inner=2)["seconds"]
    elapsed = time.monotonic() - started
    assert len(samples) == 3 and 0 < sum(samples) * 2 <= elapsed
    assert peer.ask("result")["ok"]
    for output in outputs:
        actual = peer.output(output)
        actual = actual.astype(complex if actual.dtype.kind == "c" else float)
        right = expected[output] if isinstance(expected, dict) else expected
        assert np.abs(actual - right).max() <= tolerance


def test_unknown_kernel(peer):
    x = normal(8)
    answer = peer.prepare("no_such_kernel", "f32", {"x": x}, {}, {"y": (x.shape, "f32")})
    assert not answer["ok"] and "no_such_kernel" in answer["unserved"]


def test_option_that_no_peer_has(peer):
    if "attention" in UNSERVED[peer.name]:
        pytest.skip("it has no attention")
    q = normal(1, 1, 8, 32)
    answer = peer.prepare("attention", "f32", {"q": q, "k": q, "v": q},
                          {"layout": "bhsd", "causal": "none", "softcap": 5.0},
                          {"out": (q.shape, "f32")})
    assert not answer["ok"] and "softcap" in answer["unserved"]


def test_run_before_prepare_is_an_error():
    worker = Peer("numpy")
    answer = worker.ask("run", count=1)
    worker.close()
    assert not answer["ok"] and answer["error"]


def test_worker_ends_with_its_pipe():
    worker = Peer("numpy")
    assert worker.ask("hello")["ok"]
    worker.requests.close()
    assert worker.process.wait(timeout=20) == 0


def test_stopped_worker_goes_on():
    worker = Peer("numpy")
    worker.process.send_signal(signal.SIGSTOP)
    worker.process.send_signal(signal.SIGCONT)
    assert worker.ask("hello")["ok"]
    worker.close()


# ---- Turns on a device --------------------------------------------------------------------------


def turns():
    """The module of turns, which needs no library; as `device` others may have one."""
    found = importlib.util.spec_from_file_location("turns", WORKER.parent / "device.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class NoDevice:
    """Calls take 2 ms of a clock of its own, 3 ms after a flush; what happens is written down."""

    least_sample = 0.0

    def __init__(self):
        self.now, self.log, self.flushed = 0.0, [], False

    def run(self):
        self.now += 3e-3 if self.flushed else 2e-3
        self.flushed = False
        self.log.append("call")

    def repeated(self, run, count):
        def launch():
            self.log.append(f"graph of {count}")
            for _ in range(count):
                run()
        return launch

    def synchronize(self):
        self.log.append("wait")

    def event(self):
        return self.now

    def seconds(self, start, end):
        return end - start

    def flush(self, count):
        self.flushed = True
        self.log.append(f"flush {count}")


def turn_of(**changed):
    device = NoDevice()
    turn = {"rest": 0, "heat": 0, "warm": 1, "count": 3, "inner": 4, "flush": 0, "estimate": 2e-3}
    return device, turns().Launches(device, [device]).take({**turn, **changed})


def test_a_turn_on_a_device_takes_its_samples_between_events():
    device, taken = turn_of()
    assert taken["seconds"] == pytest.approx([2e-3] * 3)
    assert device.log.count("graph of 4") == 4 and device.log.count("call") == 16
    assert taken["began"] <= taken["ended"]


def test_a_cold_turn_flushes_before_each_sample():
    device, taken = turn_of(flush=1000)
    assert taken["seconds"] == pytest.approx([3e-3] * 3)
    assert device.log.count("flush 1000") == 3 and not any("graph" in line for line in device.log)


class Named:
    """The call of a set."""

    def __init__(self, device, name):
        self.device, self.name = device, name

    def run(self):
        self.device.run()
        self.device.log.append(self.name)


def test_calls_take_turns_over_sets():
    device = NoDevice()
    calls = [Named(device, name) for name in "abc"]
    turn = {"rest": 0, "heat": 0, "warm": 0, "count": 2, "inner": 6, "flush": 0, "estimate": 2e-3}
    taken = turns().Launches(device, calls).take(turn)
    assert taken["seconds"] == pytest.approx([2e-3] * 2)
    assert [name for name in device.log if name in "abc"] == list("abcabc" * 2)


def test_a_coarse_clock_takes_each_set_as_often():
    device = NoDevice()
    device.least_sample = 40e-3
    turn = {"rest": 0, "heat": 0, "warm": 0, "count": 1, "inner": 3, "flush": 0, "estimate": 2e-3}
    turns().Launches(device, [Named(device, name) for name in "abc"]).take(turn)
    assert device.log.count("a") == device.log.count("c") == 7


def test_a_turn_rests_and_heats_as_it_is_told():
    start = time.monotonic()
    _, rested = turn_of(rest=0.2)
    assert rested["began"] - start >= 0.2
    start = time.monotonic()
    device, heated = turn_of(heat=0.2)
    assert heated["began"] - start >= 0.2 and device.log.count("wait") > 3
    assert heated["seconds"] == pytest.approx([2e-3] * 3)


def test_a_coarse_clock_gets_longer_samples():
    device = NoDevice()
    device.least_sample = 40e-3
    turn = {"rest": 0, "heat": 0, "warm": 0, "count": 2, "inner": 1, "flush": 0, "estimate": 2e-3}
    taken = turns().Launches(device, [device]).take(turn)
    assert taken["seconds"] == pytest.approx([2e-3] * 2) and "graph of 21" in device.log
