"""attention_backward against PyTorch's autograd through its own attention, in double, where PyTorch has
the option: the reference, and what the library chooses."""

import math

import numpy as np
import pytest
from library import REFERENCE, Library

torch = pytest.importorskip("torch")
NONE, TOP_LEFT = 0, 1
CASES = {
    "plain": {},
    "causal": {"causal": TOP_LEFT},
    "long": {"sq": 130, "sk": 257, "d": 64, "dv": 64},
    "long and causal": {"sq": 257, "sk": 257, "d": 64, "dv": 64, "causal": TOP_LEFT},
    "grouped": {"hkv": 1},
    "scale": {"scale": 0.3},
    "other value size": {"dv": 24},
    "mask": {"mask": (2, 4, 33, 40)},
    "mask of keys": {"mask": (2, 1, 1, 40)},
    "bias": {"bias": (2, 4, 33, 40)},
    "bias of heads": {"bias": (1, 4, 33, 40)},
    "bias of keys": {"bias": (40,)},
    "bias of queries": {"bias": (4, 33, 1)},
}


@pytest.fixture(scope="module")
def library():
    return Library()


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def autograd(q, k, v, dout, case, arrays):
    """Gradients in double by name."""
    inputs = {name: torch.from_numpy(x.astype(float)).requires_grad_()
              for name, x in (("q", q), ("k", k), ("v", v))}
    mask = torch.from_numpy(arrays["mask"]) if "mask" in arrays else None
    if "bias" in arrays:
        inputs["bias"] = mask = torch.from_numpy(arrays["bias"].astype(float)).requires_grad_()
        mask = mask.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    out = torch.nn.functional.scaled_dot_product_attention(
        inputs["q"], inputs["k"], inputs["v"], mask, is_causal=case.get("causal", NONE) == TOP_LEFT,
        scale=case.get("scale"), enable_gqa=q.shape[1] != k.shape[1])
    found = torch.autograd.grad(out, list(inputs.values()), torch.from_numpy(dout.astype(float)))
    return {name: g.numpy() for name, g in zip(inputs, found)}


@pytest.mark.parametrize("implementation", [REFERENCE, None])
@pytest.mark.parametrize("name", CASES)
def test_autograd(library, name, implementation):
    case = {"hkv": 4, "sq": 33, "sk": 40, "d": 16, "dv": 16, **CASES[name]}
    if implementation == REFERENCE and case["sq"] > 64:
        pytest.skip("too long for the reference")
    q, k = normal(2, 4, case["sq"], case["d"]), normal(2, case["hkv"], case["sk"], case["d"])
    v, dout = normal(2, case["hkv"], case["sk"], case["dv"]), normal(2, 4, case["sq"], case["dv"])
    arrays = {}
    if "mask" in case:
        arrays["mask"] = np.random.default_rng(1).random(case["mask"]) < 0.6
        arrays["mask"][..., 0] = True  # PyTorch makes NaN of rows that attend nothing
    if "bias" in case:
        arrays["bias"] = normal(*case["bias"])
    options = {**arrays, "causal": case.get("causal", NONE), "scale": case.get("scale", math.nan)}
    out, lse = np.empty_like(dout), np.empty(q.shape[:3], np.float32)
    library.call("attention", q, k, v, out, implementation=implementation, lse=lse, **options)
    actual = {"q": np.empty_like(q), "k": np.empty_like(k), "v": np.empty_like(v)}
    dbias = {"dbias": np.empty_like(arrays["bias"])} if "bias" in arrays else {}
    library.call("attention_backward", q, k, v, out, lse, dout, *actual.values(),
                 implementation=implementation, **options, **dbias)
    if dbias:
        actual["bias"] = dbias["dbias"]
    for kind, expected in autograd(q, k, v, dout, case, arrays).items():
        # 4e-6 times the magnitudes of the terms, which are above 10 where the sum is 0.
        slack = 2e-5 * (1 + np.abs(expected).max())
        np.testing.assert_allclose(actual[kind].astype(float), expected, 0, slack, err_msg=kind)


@pytest.mark.parametrize("heads", [(4, 4), (4, 1)])
def test_bits_do_not_depend_on_passes(library, heads):
    """One pass for a key head a thread, two where there are fewer: the same bits, by definition. A
    batch of copies takes the other path than one alone."""
    hq, hkv = heads
    q, k, v = normal(1, hq, 200, 64), normal(1, hkv, 200, 64), normal(1, hkv, 200, 64)
    dout = normal(1, hq, 200, 64)
    results = []
    for copies in (1, 8):
        given = [np.repeat(x, copies, 0) for x in (q, k, v, dout)]
        out, lse = np.empty_like(given[3]), np.empty(given[0].shape[:3], np.float32)
        library.call("attention", *given[:3], out, implementation=None, lse=lse, causal=TOP_LEFT)
        gradients = [np.empty_like(x) for x in given[:3]]
        library.call("attention_backward", *given[:3], out, lse, given[3], *gradients,
                     implementation=None, causal=TOP_LEFT)
        results.append([x[0] for x in gradients])
    for alone, among in zip(*results):
        assert (alone == among).all()
