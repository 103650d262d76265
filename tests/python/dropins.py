"""What the tests of the drop-ins share: exact attention and its gradient in double precision with the
bounds of the catalogue, the mask of dropout by its definition, and the settings of property tests."""

import importlib
import os

import numpy as np
import pytest

EXAMPLES = int(os.environ.get("FOVEA_EXAMPLES", "60"))  # cases of a property test


def require(module):
    """The module; without it the tests are not run, but in CI, which installs it, they fail."""
    return importlib.import_module(module) if os.environ.get("CI") else pytest.importorskip(module)


def settings(examples=EXAMPLES):
    hypothesis = require("hypothesis")
    return hypothesis.settings(max_examples=examples, deadline=None, derandomize=True, database=None,
                               suppress_health_check=list(hypothesis.HealthCheck))


class Shares:
    """Counts comparisons and keeps the worst share of a bound."""

    def __init__(self):
        self.cases, self.worst = 0, 0.0

    def compare(self, what, actual, exact, bound):
        actual = np.asarray(actual, dtype=np.float64)
        assert actual.shape == exact.shape, f"{what}: {actual.shape}, not {exact.shape}"
        assert np.array_equal(np.isinf(actual), np.isinf(exact)), what
        finite = np.isfinite(exact)
        error = np.where(finite, np.abs(actual - np.where(finite, exact, 0)), 0)
        assert not np.isnan(error).any(), f"{what} has a NaN"
        share = float(np.max(error / np.where(finite, bound, 1), initial=0.0))
        assert share <= 1, f"{what}: {share:.3g} of the bound"
        self.worst = max(self.worst, share)

    def report(self, record_property, name, least=EXAMPLES // 2):
        assert self.cases >= least
        record_property(name, f"{self.cases} cases, worst share of the bound {self.worst:.2f}")
        print(f"{name}: {self.cases} cases, worst share of the bound {self.worst:.2f}")


STEP = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def _grouped(array, heads):
    return np.repeat(array, heads // array.shape[1], axis=1)


def _ungrouped(array, heads):
    b, h, s, d = array.shape
    return array.reshape(b, heads, h // heads, s, d).sum(2)


def _rounded(array, dtype):
    import ml_dtypes
    kind = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}[dtype]
    return array.astype(np.float32).astype(kind).astype(np.float64)


def _unbroadcast(array, shape):
    array = array.sum(tuple(range(array.ndim - len(shape))))
    return array.sum(tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


class Attention:
    """Attention of [B, H, S, D] arrays in double precision. mask: true may attend; keep: what dropout
    multiplies p by. The bounds are those of `attention` and `attention_backward`: for halves twice
    the error of a textbook computation in that dtype, whose probabilities and result are rounded."""

    def __init__(self, q, k, v, dtype, *, mask=None, bias=None, scale=None, softcap=None, sinks=None,
                 keep=None, dout=None):
        self.inputs = q, k, v = [np.asarray(a, dtype=np.float64) for a in (q, k, v)]
        self.dtype, self.mask, self.bias, self.keep = dtype, mask, bias, keep
        self.scale = 1 / np.sqrt(max(q.shape[-1], 1)) if scale is None else scale
        self.softcap, self.sinks = softcap, sinks
        self._forward(np.asarray)
        step = 0 if dtype == "float32" else STEP[dtype]
        unit = 4e-6 * max(1, self.largest / 8)
        most = np.max(np.abs(v), initial=0)
        self.out_bound = np.full(self.out.shape, unit * most + 1e-37)
        self.lse_bound = (2e-6 * np.abs(np.where(np.isfinite(self.lse), self.lse, 0)) + 2e-6) * max(
            1, self.largest / 8)
        exact = self.out, self.lse
        if dout is not None:
            self._backward(np.asarray(dout, dtype=np.float64), unit)
        if step:
            gradients = getattr(self, "gradients", None), getattr(self, "gradient_bounds", None)
            self._forward(lambda a: _rounded(a, dtype))
            worst = np.max(np.abs(self.out - exact[0]), initial=0)
            self.out_bound += 2 * worst + step * np.abs(exact[0])
            if dout is not None:
                self._backward(np.asarray(dout, dtype=np.float64), unit, True)
                for name, right in gradients[0].items():
                    worst = np.max(np.abs(self.gradients[name] - right), initial=0)
                    # `fovea check` allows twice; of few elements one computation's error says less.
                    gradients[1][name] += 3 * worst + step * np.abs(right)
                self.gradients, self.gradient_bounds = gradients
            self.out, self.lse = exact

    def _forward(self, rounded):
        q, k, v = self.inputs
        heads = q.shape[1]
        s = self.scale * (q @ _grouped(k, heads).swapaxes(-1, -2))
        self.largest = np.max(np.abs(s), initial=0)
        self.slope = 1.0
        if self.softcap is not None:
            t = np.tanh(s / self.softcap)
            s, self.slope = self.softcap * t, 1 - t * t
        if self.bias is not None:
            s = s + np.asarray(self.bias, dtype=np.float64)
            self.largest = max(self.largest, np.max(np.abs(s), initial=0, where=np.isfinite(s)))
        if self.mask is not None:
            s = np.where(self.mask, s, -np.inf)
        top = np.max(s, axis=-1, keepdims=True, initial=-np.inf)
        sinks = None
        if self.sinks is not None:
            sinks = np.asarray(self.sinks, dtype=np.float64)[None, :, None, None]
            top = np.maximum(top, sinks)
        top = np.where(np.isfinite(top), top, 0)
        e = np.exp(s - top)
        total = e.sum(-1, keepdims=True) + (0 if sinks is None else np.exp(sinks - top))
        with np.errstate(divide="ignore"):
            self.lse = (np.log(total) + top)[..., 0]
        self.p = e / np.where(total > 0, total, 1)
        kept = self.p if self.keep is None else self.p * self.keep
        self.kept = rounded(kept)
        self.out = rounded(self.kept @ _grouped(v, heads))

    def _backward(self, dout, unit, halves=False):
        rounded = (lambda a: _rounded(a, self.dtype)) if halves else np.asarray
        q, k, v = self.inputs
        heads, groups = q.shape[1], k.shape[1]
        keys, values = _grouped(k, heads), _grouped(v, heads)
        keep = 1.0 if self.keep is None else self.keep
        delta = (dout * self.out).sum(-1, keepdims=True)
        ds = self.p * (keep * (dout @ values.swapaxes(-1, -2)) - delta)
        size = self.p * (keep * (np.abs(dout) @ np.abs(values).swapaxes(-1, -2)) +
                         (np.abs(dout) * np.abs(self.out)).sum(-1, keepdims=True))
        inner, inner_size = rounded(ds * self.slope), size * np.abs(self.slope)
        turned, turned_size = inner.swapaxes(-1, -2), inner_size.swapaxes(-1, -2)
        scale = abs(self.scale)
        self.gradients = {
            "dq": rounded(self.scale * inner @ keys),
            "dk": rounded(_ungrouped(self.scale * turned @ q, groups)),
            "dv": rounded(_ungrouped(self.kept.swapaxes(-1, -2) @ dout, groups))}
        self.gradient_bounds = {
            "dq": unit * scale * inner_size @ np.abs(keys) + 1e-37,
            "dk": unit * scale * _ungrouped(turned_size @ np.abs(q), groups) + 1e-37,
            "dv": unit * _ungrouped(np.abs(self.kept).swapaxes(-1, -2) @ np.abs(dout), groups)
            + 1e-37}
        if self.bias is not None:
            shape = np.shape(self.bias)
            self.gradients["dbias"] = _unbroadcast(ds, shape)
            self.gradient_bounds["dbias"] = unit * _unbroadcast(size, shape) + 1e-37


# ---- Tensors of PyTorch -------------------------------------------------------------------------


def torch_dtypes():
    """Those that are served, by their names."""
    torch = require("torch")
    return {name: getattr(torch, name) for name in STEP}


def double(tensor):
    return tensor.detach().double().numpy()


def normal(*shape, dtype=None):
    torch = require("torch")
    return torch.randn(*shape).to(dtype or torch.float32)


@pytest.fixture(autouse=True)
def seeded():
    """A test module that imports it begins each test with the same random numbers."""
    require("torch").manual_seed(0)


# ---- Dropout ------------------------------------------------------------------------------------


def philox(counter, key):
    """Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011): counters
    [..., 4] and the two words of a key, to words [..., 4]."""
    words = [counter[..., i].astype(np.uint64) for i in range(4)]
    low, high = np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)
    mask = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * words[0], np.uint64(0xCD9E8D57) * words[2]
        words = [(b >> np.uint64(32)) ^ words[1] ^ low, b & mask,
                 (a >> np.uint64(32)) ^ words[3] ^ high, a & mask]
        low = low + np.uint64(0x9E3779B9) & mask
        high = high + np.uint64(0xBB67AE85) & mask
    return np.stack(words, -1)


def dropout_keep(shape, probability, seed):
    """What dropout multiplies p [B, H, Sq, Sk] by: 0, or 1/(1 - probability), by the definition of
    the catalogue: word j mod 4 of the counter (floor(j/4), i, b H + h, 0) with the seed as key."""
    batch, heads, rows, keys = shape
    groups = (keys + 3) // 4
    j, i, bh = np.meshgrid(np.arange(groups), np.arange(rows), np.arange(batch * heads),
                           indexing="ij")
    words = philox(np.stack((j, i, bh, np.zeros_like(j)), -1), seed)  # [groups, rows, bh, 4]
    words = words.transpose(2, 1, 0, 3).reshape(batch, heads, rows, groups * 4)[..., :keys]
    uniform = (words >> np.uint64(8)).astype(np.float64) * 2.0**-24
    kept = uniform < np.float32(1) - np.float32(probability)
    return kept / (1 - probability)
