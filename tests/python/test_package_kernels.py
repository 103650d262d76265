"""Every kernel as a function of Python: what it takes, returns, documents and refuses. The results
themselves are checked by `fovea check`; here a few of each shape are compared with NumPy."""

import inspect
import re

import numpy as np
import pytest
from library import BUILD, Library, needs

fovea = needs("fovea")
needs("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

HEADER = (BUILD / "generated/fovea/kernels.h").read_text()
FUNCTIONS = sorted(set(re.findall(r"FOVEA_API fovea_status fovea_(\w+)\(", HEADER)))
GENERATOR = np.random.default_rng(9)


def normal(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def test_every_function_of_c_is_there():
    assert [n for n in FUNCTIONS if not callable(getattr(fovea, n, None))] == []
    assert set(fovea.kernels()) <= set(FUNCTIONS)
    assert fovea.kernels() == tuple(Library().kernels())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature_and_documentation(name):
    function = getattr(fovea, name)
    signature = inspect.signature(function)
    options = set(re.findall(r"FOVEA_API fovea_status fovea_%s\(.*, const fovea_(\w+)_options" % name, HEADER))
    body = re.search(r"typedef struct fovea_%s_options \{(.*?)\}" % options.pop(), HEADER, re.S)[1]
    fields = set(re.findall(r"(\w+);", re.sub(r"/\*.*?\*/", "", body, flags=re.S))) - {"size"}
    keywords = {p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    fixed = fields - keywords  # presets fix a parameter
    assert keywords - {"out", "dtype"} <= fields and len(fixed) <= (name not in fovea.kernels())
    assert all(p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_ONLY) for p in signature.parameters.values())
    for text in ("t is one of", "Returns", "Tolerance", "Raises", *keywords):
        assert text in function.__doc__
    assert function.__module__ == "fovea"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_are_refused(name):
    function = getattr(fovea, name)
    positional = [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_ONLY]
    x = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="takes"):
        function(*[x] * (len(positional) + 1))
    with pytest.raises(TypeError, match="has no option 'no_such'"):
        function(*[x] * len(positional), no_such=1)
    with pytest.raises(fovea.Error):
        function(*["text"] * len(positional), out=3)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_bin_counts_more_than_small_counters_hold(threads):
    x, counts = np.zeros(1_000_003, np.float32), np.empty(4, np.int64)
    x[-1] = 1
    with fovea.use(threads=threads):
        fovea.reduce_histogram(x, out=counts)
    assert counts.tolist() == [1_000_002, 0, 0, 1]


def test_batch_norm_of_channels_that_begin_elsewhere():
    """Where the mean of the first rows is far from that of all, one pass of sums would lose twelve bits."""
    x = normal(200_000, 16)
    x[:32] += 1e5
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    y, var = fovea.batch_norm(x), np.empty(16, np.float32)
    assert np.abs(y / exact - 1)[:32].max() < 2e-5
    fovea.batch_norm(x, mean=np.empty(16, np.float32), var=var)
    assert np.abs(var / x.astype(np.float64).var(0) - 1).max() < 2e-5


@pytest.mark.parametrize("p, q", [(1, 1e-43), (1e-43, 1), (1e-6, 3e38), (3e38, 2e38), (1e-30, 1e-43)])
def test_divergence_whose_quotients_are_no_normal_numbers(p, q):
    p, q = np.full((3, 100), p, np.float32), np.full((3, 100), q, np.float32)
    p[0, :7] = 0
    terms = p.astype(float) * np.log(np.where(p > 0, p, 1).astype(float) / q) * (p > 0)
    wanted = terms.sum() if abs(terms.sum()) < 3.4e38 else np.inf
    assert fovea.loss_kl_div(p, q) == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(fovea.loss_kl_div(p, q, reduction="none"), terms, rtol=1e-5, atol=1e-45)


def test_shapes_of_results():
    x = normal(3, 5, 7)
    for axis, expected in [(None, ()), (0, (5, 7)), (-1, (3, 5)), (1, (3, 7))]:
        result = fovea.reduce_sum(x, axis=axis)
        assert result.shape == expected
        np.testing.assert_allclose(result, x.sum(axis), rtol=1e-5, atol=1e-5)
    index, value = fovea.reduce_argmax(x, axis=1, value=True)
    np.testing.assert_array_equal(index, x.argmax(1))
    np.testing.assert_array_equal(value, x.max(1))
    assert index.dtype == np.int64


def test_attentions_results_in_every_layout():
    q, k, v = normal(2, 4, 3, 8), normal(2, 2, 5, 8), normal(2, 2, 5, 6)
    out, lse = fovea.attention(q, k, v, lse=True)
    assert out.shape == (2, 4, 3, 6) and lse.shape == (2, 4, 3)
    swapped, same = fovea.attention(*(x.swapaxes(1, 2) for x in (q, k, v)), lse=True, layout="bshd")
    assert swapped.shape == (2, 3, 4, 6)
    np.testing.assert_array_equal(swapped.swapaxes(1, 2), out)
    np.testing.assert_array_equal(lse, same)
    packed = [np.concatenate(list(x.swapaxes(1, 2))) for x in (q, k, v)]
    ragged, lses = fovea.attention(*packed, cu_seqlens_q=np.array([0, 3, 6], np.int32),
                                   cu_seqlens_k=np.array([0, 5, 10], np.int32), lse=True)
    assert ragged.shape == (6, 4, 6) and lses.shape == (4, 6)
    np.testing.assert_allclose(ragged[3:], out[1].swapaxes(0, 1), atol=1e-6)
    np.testing.assert_allclose(lses[:, :3], lse[0], atol=1e-6)


def test_gradients_have_the_shapes_of_what_they_are_of():
    q, k, v = normal(1, 4, 3, 8), normal(1, 2, 5, 8), normal(1, 2, 5, 8)
    bias, sinks = normal(4, 1, 5), normal(4)
    out, lse = fovea.attention(q, k, v, lse=True, bias=bias, sinks=sinks)
    gradients = fovea.attention_backward(q, k, v, out, lse, normal(1, 4, 3, 8), bias=bias, sinks=sinks,
                                         dbias=True, dsinks=True)
    assert [g.shape for g in gradients] == [x.shape for x in (q, k, v, bias, sinks)]
    dq = np.empty_like(q)
    given = fovea.attention_backward(q, k, v, out, lse, out, bias=bias, sinks=sinks, out=(dq, None, None))
    assert given[0] is dq and len(given) == 3
    with pytest.raises(ValueError, match="out has 2 entries; attention_backward has 3 results"):
        fovea.attention_backward(q, k, v, out, lse, out, out=(dq, None))
    with pytest.raises(TypeError, match="out is a ndarray"):
        fovea.attention_backward(q, k, v, out, lse, out, out=dq)


def test_in_place_kernels_return_nothing_and_write():
    p, g, m, v = normal(9), normal(9), np.zeros(9, np.float32), np.zeros(9, np.float32)
    before = p.copy()
    assert fovea.opt_adamw(p, g, m, v, lr=0.1, step=1) is None
    np.testing.assert_allclose(p, before * (1 - 0.1 * 0.01) - 0.1 * np.sign(g), atol=1e-5)
    p.flags.writeable = False
    with pytest.raises(ValueError, match="p is read-only"):
        fovea.opt_adamw(p, g, m, v)


def test_results_whose_dtype_is_chosen():
    assert fovea.quantize_f32_to_f16(normal(3)).dtype == np.float16
    assert fovea.quantize_f32_to_f16(normal(3), dtype="bf16").dtype.name == "bfloat16"
    with pytest.raises(ValueError, match="names none"):
        fovea.quantize_f32_to_f16(normal(3), dtype="f99")
    with pytest.raises(ValueError, match="y is f32; it may be"):
        fovea.quantize_f32_to_f16(normal(3), dtype="f32")


def test_what_has_no_inputs_needs_out():
    y = np.empty((3, 4), np.float32)
    assert fovea.prng_uniform(out=y, seed=3) is y and (0 <= y).all() and (y < 1).all()
    with pytest.raises(fovea.Error):
        fovea.prng_uniform(seed=3)


@pytest.mark.parametrize("options, error, sentence", [
    ({"causal": "sideways"}, ValueError, "causal is 'sideways'; it is one of none,top_left,bottom_right"),
    ({"causal": True}, TypeError, "causal is a bool; it takes a str"),
    ({"scale": "large"}, TypeError, "scale is a str; it takes a float or None"),
    ({"seed": 0.5}, TypeError, "seed is a float; it takes an int or None"),
    ({"seed": 1 << 64}, ValueError, "it has to fit into 64 bits"),
    ({"smooth_k": 1}, TypeError, "smooth_k is a int; it takes a bool"),
    ({"mask": normal(2, 2)}, ValueError, "mask is f32; it may be"),
    ({"dropout": 2.0}, ValueError, "dropout"),
    ({"algorithm": "sage", "sinks": np.full(1, 1e30, np.float64)}, ValueError, "sinks is f64; it may be f32")])
def test_sentences(options, error, sentence):
    q = normal(1, 1, 4, 8)
    with pytest.raises(error, match=re.escape(sentence)) as caught:
        fovea.attention(q, q, q, **options)
    assert isinstance(caught.value, fovea.Error)


def test_what_nothing_serves_is_not_implemented():
    q = np.zeros((1, 1, 1, 65537), np.float32)
    with pytest.raises(NotImplementedError, match="no implementation of attention serves this: ") as caught:
        fovea.attention(q, q, q, algorithm="sage")
    assert isinstance(caught.value, fovea.Unsupported)


def test_none_is_the_default():
    q = normal(1, 1, 4, 8)
    np.testing.assert_array_equal(fovea.attention(q, q, q, scale=None, mask=None, lse=None, seed=None, softcap=None),
                                  fovea.attention(q, q, q))


def test_route_explains_without_running():
    q = normal(1, 1, 4, 8)
    calls = fovea.statistics().get("attention", (0,))[0]
    route = fovea.route("attention", q, q, q, causal="top_left")
    assert route.implementation in fovea.implementations("attention")
    assert "reference/scalar/double" in route.declined and route.implementation in str(route)
    assert fovea.statistics().get("attention", (0,))[0] == calls
    fovea.attention(q, q, q, causal="top_left")
    assert fovea.last_call().implementation == route.implementation
    with pytest.raises(ValueError, match="there is no kernel 'attention_to_detail'"):
        fovea.route("attention_to_detail", q)


# ---- Properties ----------------------------------------------------------------------------------


@st.composite
def problems(draw):
    """Shapes, options and layouts of attention in memory."""
    heads = draw(st.integers(1, 3))
    shape = {"b": draw(st.integers(0, 2)), "hkv": heads, "hq": heads * draw(st.integers(1, 3)),
             "sq": draw(st.integers(0, 40)), "sk": draw(st.integers(0, 40)),
             "d": draw(st.sampled_from([1, 7, 16, 33, 64])), "dv": draw(st.sampled_from([1, 8, 40]))}
    return shape, {"causal": draw(st.sampled_from(["none", "top_left", "bottom_right"])),
                   "softcap": draw(st.sampled_from([None, 5.0])), "layout": draw(st.sampled_from(["bhsd", "bshd"])),
                   "mask": draw(st.booleans()), "step": draw(st.sampled_from([1, 2, -1])),
                   "seed": draw(st.integers(0, 1 << 30))}


def expected_attention(q, k, v, mask, causal, softcap):
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat(group, 1), v.repeat(group, 1)
    s = np.einsum("bhqd,bhkd->bhqk", q, k) / np.sqrt(q.shape[-1])
    s = s if softcap is None else softcap * np.tanh(s / softcap)
    sq, sk = s.shape[2:]
    allowed = np.ones((sq, sk), bool)
    if causal != "none":
        allowed = np.tri(sq, sk, 0 if causal == "top_left" else sk - sq, dtype=bool)
    s = np.where(allowed & mask, s, -np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.exp(s - s.max(-1, keepdims=True, initial=-1e300))
        return np.nan_to_num(p / p.sum(-1, keepdims=True)) @ v


@settings(max_examples=150, deadline=None)
@given(problems())
def test_attention_of_any_shape_is_that_of_numpy(problem):
    n, o = problem
    random = np.random.default_rng(o["seed"])

    def tensor(b, h, s, d):
        shape = (b, h, s, d) if o["layout"] == "bhsd" else (b, s, h, d)
        whole = random.standard_normal((*shape[:-1], shape[-1] * abs(o["step"]))).astype(np.float32)
        return whole[..., ::o["step"]]

    q, k = tensor(n["b"], n["hq"], n["sq"], n["d"]), tensor(n["b"], n["hkv"], n["sk"], n["d"])
    v = tensor(n["b"], n["hkv"], n["sk"], n["dv"])
    mask = random.random((n["sq"], n["sk"])) < 0.7 if o["mask"] else np.ones((n["sq"], n["sk"]), bool)
    out = fovea.attention(q, k, v, causal=o["causal"], softcap=o["softcap"], layout=o["layout"],
                          mask=mask if o["mask"] else None)
    q, k, v, out = (x if o["layout"] == "bhsd" else x.swapaxes(1, 2) for x in (q, k, v, out))
    np.testing.assert_allclose(out, expected_attention(q, k, v, mask, o["causal"], o["softcap"]), atol=2e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=5), st.sampled_from([None, 0, -1, 1, 4, -5]), st.integers(0, 1 << 30))
def test_sums_of_any_shape_and_axis_are_those_of_numpy(shape, axis, seed):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32).transpose()
    if axis is not None and not -x.ndim <= axis < x.ndim:
        with pytest.raises(ValueError, match="axis"):
            fovea.reduce_sum(x, axis=axis)
        return
    np.testing.assert_allclose(fovea.reduce_sum(x, axis=axis), x.sum(axis), atol=1e-4)
