"""fovea.mlx.scaled_dot_product_attention against exact attention and MLX's own."""

import numpy as np
import pytest
from dropins import Attention, Shares, require, settings

mx = require("mlx.core")
hypothesis = require("hypothesis")
fovea = require("fovea")
import fovea.mlx  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

upstream = mx.fast.scaled_dot_product_attention
ours = fovea.mlx.scaled_dot_product_attention
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


def normal(seed, *shape, dtype=mx.float32):
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return mx.array(array).astype(dtype)


def double(array):
    return np.array(array.astype(mx.float32)).astype(np.float64)


@st.composite
def problems(draw):
    seed, kind = draw(st.integers(0, 2**31)), draw(st.sampled_from(list(DTYPES)))
    dtype = DTYPES[kind]
    group, heads = draw(st.sampled_from([1, 2, 3])), draw(st.integers(1, 2))
    batch, size = draw(st.integers(1, 2)), draw(st.sampled_from([8, 16, 40, 64]))
    rows = draw(st.sampled_from([1, 7, 33]))
    keys = rows + draw(st.sampled_from([0, 5]))
    q = normal(seed, batch, heads * group, rows, size, dtype=dtype)
    k, v = (normal(seed + i, batch, heads, keys, size, dtype=dtype) for i in (1, 2))
    if draw(st.booleans()):  # heads inside
        q, k, v = (mx.contiguous(a.swapaxes(1, 2)).swapaxes(1, 2) for a in (q, k, v))
    shape = tuple(n if draw(st.booleans()) else 1 for n in (batch, heads * group, rows)) + (keys,)
    mask = draw(st.sampled_from([None, "causal", "boolean", "additive"]))
    if mask == "boolean":
        table = np.random.default_rng(seed).random(shape) < 0.8
        table[..., 0] = True
        mask = mx.array(table)
    elif mask == "additive":
        mask = normal(seed + 3, *shape, dtype=dtype)
    sinks = normal(seed + 4, heads * group, dtype=dtype) if draw(st.booleans()) else None
    return kind, (q, k, v), mask, sinks


def exact(arrays, kind, mask, sinks, dout):
    q, k, v = map(double, arrays)
    full = (*q.shape[:3], k.shape[2])
    visible = bias = None
    if isinstance(mask, str):
        visible = np.tril(np.ones(full[2:], dtype=bool), full[3] - full[2])
    elif mask is not None and mask.dtype == mx.bool_:
        visible = np.broadcast_to(np.array(mask), full)
    elif mask is not None:
        bias = np.broadcast_to(double(mask), full)
    return Attention(q, k, v, kind, mask=visible, bias=bias, scale=0.3,
                     sinks=None if sinks is None else double(sinks), dout=double(dout))


def test_values_and_gradients(record_property):
    shares = Shares()

    @settings()
    @hypothesis.given(problems())
    def compare(problem):
        kind, arrays, mask, sinks = problem
        out = ours(*arrays, scale=0.3, mask=mask, sinks=sinks)
        its = upstream(*arrays, scale=0.3, mask=mask, sinks=sinks)
        assert (out.shape, out.dtype) == (its.shape, its.dtype)
        dout = normal(9, *out.shape, dtype=DTYPES[kind])
        right = exact(arrays, kind, mask, sinks, dout)
        shares.compare("out", double(out), right.out, right.out_bound)
        _, gradients = mx.vjp(lambda *a: ours(*a, scale=0.3, mask=mask, sinks=sinks), list(arrays),
                              [dout])
        for name, gradient in zip(("dq", "dk", "dv"), gradients):
            shares.compare(name, double(gradient), right.gradients[name],
                           right.gradient_bounds[name])
        shares.cases += 1

    compare()
    shares.report(record_property, "fovea.mlx")


def test_gradients_of_a_bias_and_of_sinks():
    q, k, v, bias = (normal(i, 1, 2, 9, 9 if i == 3 else 8) for i in range(4))
    sinks = normal(5, 2)

    def loss(function):
        return lambda bias, sinks: (function(q, k, v, scale=0.3, mask=bias, sinks=sinks) ** 2).sum()

    mine, right = (mx.grad(loss(f), argnums=(0, 1))(bias, sinks) for f in (ours, upstream))
    for a, b in zip(mine, right):
        np.testing.assert_allclose(double(a), double(b), rtol=1e-4, atol=1e-5)


BAD = {
    "axes": lambda f, q: f(q[0], q[0], q[0], scale=1.0),
    "batch": lambda f, q: f(q, q[:1], q[:1], scale=1.0),
    "head size": lambda f, q: f(q, q[..., :4], q, scale=1.0),
    "heads": lambda f, q: f(q[:, :1], q, q, scale=1.0),
    "name of a mask": lambda f, q: f(q, q, q, scale=1.0, mask="diagonal"),
    "no array": lambda f, q: f(3, q, q, scale=1.0),
    "positional scale": lambda f, q: f(q, q, q, 1.0),
    "promotion": lambda f, q: f(*[q.astype(mx.float16)] * 3, scale=1.0, mask=mx.zeros((5, 5))),
}


@pytest.mark.parametrize("name", BAD)
def test_what_mlx_refuses_is_refused_with_its_type(name):
    q = normal(0, 2, 2, 5, 8)
    with pytest.raises(Exception) as its:
        BAD[name](upstream, q)
    with pytest.raises(its.type):
        BAD[name](ours, q)
