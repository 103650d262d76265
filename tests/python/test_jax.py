"""fovea.jax.dot_product_attention against exact attention and jax.nn's own: values, gradients, lengths
and windows, at hand and inside jax.jit, jax.grad and jax.vmap, and the types of errors."""

import functools

import numpy as np
import pytest
from dropins import EXAMPLES, Attention, Shares, require, settings

jax = require("jax")
hypothesis = require("hypothesis")
fovea = require("fovea")
import fovea.jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

upstream = jax.nn.dot_product_attention
ours = fovea.jax.dot_product_attention


def normal(seed, *shape, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def double(array):
    return np.asarray(array).astype(np.float64)


@st.composite
def problems(draw):
    seed, dtype = draw(st.integers(0, 2**31)), draw(st.sampled_from(["float32", "float16",
                                                                     "bfloat16"]))
    group, heads = draw(st.sampled_from([1, 2, 3])), draw(st.integers(1, 2))
    batch, size = draw(st.integers(1, 2)), draw(st.sampled_from([8, 16, 40]))
    rows, keys = draw(st.sampled_from([1, 7, 33])), draw(st.sampled_from([5, 33]))
    q = normal(seed, batch, rows, heads * group, size, dtype=dtype)
    k, v = (normal(seed + i, batch, keys, heads, size, dtype=dtype) for i in (1, 2))
    random = np.random.default_rng(seed)
    shape = tuple(n if draw(st.booleans()) else 1 for n in (batch, heads * group, rows)) + (keys,)
    options = {"is_causal": draw(st.booleans())}
    if draw(st.booleans()):
        mask = random.random(shape) < 0.8
        mask[..., 0] = True  # JAX averages the values where nothing may be attended
        options["mask"] = jnp.asarray(mask)
    if draw(st.booleans()):
        options["bias"] = normal(seed + 3, *shape)
    if draw(st.booleans()):
        options["scale"] = 0.2
    if draw(st.booleans()):
        options["local_window_size"] = draw(st.sampled_from([3, (40, 1), (40, 40)]))
    if draw(st.booleans()):
        options["query_seq_lengths"] = jnp.asarray(random.integers(0, rows + 1, batch), jnp.int32)
        options["key_value_seq_lengths"] = jnp.asarray(random.integers(1, keys + 1, batch),
                                                       jnp.int32)
    return dtype, (q, k, v), options


def exact(arrays, dtype, options, dout):
    q, k, v = (double(a).swapaxes(1, 2) for a in arrays)
    batch, heads, rows, _ = q.shape
    keys = k.shape[2]
    i, j = np.arange(rows)[:, None], np.arange(keys)
    mask = np.ones((batch, heads, rows, keys), dtype=bool)
    if options["is_causal"]:
        mask &= j <= i
    if "local_window_size" in options:
        window = options["local_window_size"]
        left, right = (window, window) if isinstance(window, int) else window
        mask &= (j >= i - left) & (j <= i + right)
    if "mask" in options:
        mask &= np.asarray(options["mask"])
    dout = double(dout).swapaxes(1, 2)
    if "query_seq_lengths" in options:
        mask &= j < np.asarray(options["key_value_seq_lengths"])[:, None, None, None]
        dout = dout * (i < np.asarray(options["query_seq_lengths"])[:, None, None, None])
    bias = None if "bias" not in options else np.broadcast_to(double(options["bias"]), mask.shape)
    return Attention(q, k, v, dtype, mask=mask, bias=bias, scale=options.get("scale"), dout=dout)


def test_values_and_gradients(record_property):
    shares = Shares()

    @settings(EXAMPLES // 6)  # each is compiled
    @hypothesis.given(problems())
    def compare(problem):
        dtype, arrays, options = problem
        out, lse = ours(*arrays, return_residual=True, **options)
        its = jax.eval_shape(functools.partial(upstream, return_residual=True, **options), *arrays)
        assert (out.shape, out.dtype, lse.shape, lse.dtype) == (
            its[0].shape, its[0].dtype, its[1].shape, its[1].dtype)
        dout = normal(9, *out.shape, dtype=dtype)
        again, pull = jax.vjp(lambda *a: ours(*a, **options), *arrays)
        assert jnp.array_equal(again, out, equal_nan=True)
        right = exact(arrays, dtype, options, dout)
        if "query_seq_lengths" in options:
            rows = np.arange(out.shape[1])[:, None]
            right.out = right.out * (rows < np.asarray(options["query_seq_lengths"])
                                     [:, None, None, None])
        shares.compare("out", double(out).swapaxes(1, 2), right.out, right.out_bound)
        for name, gradient in zip(("dq", "dk", "dv"), pull(dout)):
            shares.compare(name, double(gradient).swapaxes(1, 2), right.gradients[name],
                           right.gradient_bounds[name])
        shares.cases += 1

    compare()
    shares.report(record_property, "fovea.jax", EXAMPLES // 12)


def test_inside_transformations():
    arrays = [normal(i, 2, 33, 4, 16) for i in range(3)]
    bias = normal(3, 1, 4, 33, 33)

    def loss(function):
        return lambda q, k, v, bias: (function(q, k, v, bias, is_causal=True) ** 2).sum()

    mine, right = (jax.jit(jax.value_and_grad(loss(f), argnums=(0, 1, 2, 3)))(*arrays, bias)
                   for f in (ours, upstream))
    np.testing.assert_allclose(mine[0], right[0], rtol=1e-5)
    for a, b in zip(mine[1], right[1]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    mapped = [jax.vmap(f)(*(a[:, None] for a in arrays)) for f in (ours, upstream)]
    np.testing.assert_allclose(*mapped, rtol=0, atol=4e-6)


def test_three_axes_are_one_sequence():
    arrays = [normal(i, 9, 2, 16) for i in range(3)]
    np.testing.assert_allclose(ours(*arrays), upstream(*arrays), rtol=0, atol=4e-6)


def test_compiled_programs_that_wait_for_each_other_end():
    arrays = [normal(i, 1, 512, 4, 64) for i in range(3)]
    step = jax.jit(lambda q, k, v: ours(jnp.sin(q), k, v, is_causal=True))
    results = []
    q = arrays[0]
    for _ in range(6):  # enqueued before the first has ended
        q = step(q, *arrays[1:])
        results.append(q.sum())
    assert np.isfinite([float(r) for r in results]).all()


BAD = {
    "value": lambda f, q: f(q, q, q[:, :3]),
    "dtype": lambda f, q: f(q, q.astype(jnp.bfloat16), q.astype(jnp.bfloat16)),
    "heads": lambda f, q: f(q, jnp.concatenate((q, q[:, :, :1]), 2)[:, :, :3],
                            jnp.concatenate((q, q[:, :, :1]), 2)[:, :, :3]),
    "mask": lambda f, q: f(q, q, q, mask=jnp.ones((1, 1, 5, 5))),
    "lengths": lambda f, q: f(q, q, q, key_value_seq_lengths=jnp.ones(3, jnp.int32)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_jax_refuses_is_refused_with_its_type(name):
    q = normal(0, 2, 5, 2, 8)
    with pytest.raises(Exception) as its:
        BAD[name](upstream, q)
    with pytest.raises(its.type):
        BAD[name](ours, q)


def test_implementation_of_jax_is_not_served():
    q = normal(0, 2, 5, 2, 8)
    with pytest.raises(fovea.Unsupported, match="cudnn"):
        ours(q, q, q, implementation="cudnn")
