"""The double-precision reference against NumPy, by formulas written from the definitions alone."""

import math

import numpy as np
import pytest
from library import Error, Library

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": bfloat16}
EPSILON = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
LARGEST = {"f64": np.inf, "f32": 2.0**128, "f16": 65520.0, "bf16": 2.0**128}  # and above: inf
SMALLEST = {"f64": 0.0, "f32": 2.0**-149, "f16": 2.0**-24, "bf16": 2.0**-133}
NONE, TOP_LEFT, BOTTOM_RIGHT = range(3)
BSHD = 1


@pytest.fixture(scope="module")
def library():
    return Library()


@pytest.fixture(params=DTYPES)
def dtype(request):
    if DTYPES[request.param] is None:
        pytest.skip("ml_dtypes is missing, which NumPy needs for bf16")
    return request.param


def normal(shape, dtype, seed=0):
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return values.astype(DTYPES.get(dtype, np.float64))


def wide(array):
    return array.astype(np.float64)


def assert_rounded(actual, expected, dtype, slack=1e-12):
    """The output is the exact value rounded once; slack: what double itself may lose."""
    actual, expected = wide(actual), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    allowed = np.abs(expected) * (0.5 * EPSILON[dtype] + slack) + 0.51 * SMALLEST[dtype] + slack
    with np.errstate(invalid="ignore"):
        same = (actual == expected) | (np.abs(actual - expected) <= allowed)
    same |= np.isnan(actual) & np.isnan(expected)
    same |= (actual == np.sign(expected) * np.inf) & (np.abs(expected) >= LARGEST[dtype])
    assert same.all(), f"{actual[~same][:5]} is not {expected[~same][:5]}"


# ---- Streaming kernels ---------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 6.0, -6.0, 30.0, -30.0, np.inf, -np.inf, np.nan]


def reduction(name, formula, **options):
    """A test of y = formula(x, axis) over all axes or one, with an offset and with NaN."""
    @pytest.mark.parametrize("axis", [None, 0, 1, -1])
    @pytest.mark.parametrize("name_of_type", ["f32", "f64"])
    def test(library, name_of_type, axis):
        dtype = {"f32": np.float32, "f64": np.float64}[name_of_type]
        x = (normal((5, 7, 9), "f64") + 3).astype(dtype)
        for special in (False, True):
            if special:
                x[2, 3, 4], x[0, 0, 0], x[4, 6, 8] = np.nan, 10, -10
            with np.errstate(invalid="ignore"):
                expected = np.asarray(formula(wide(x), axis))
            y = np.empty(expected.shape, np.int64 if expected.dtype == np.int64 else dtype)
            library.call(name, x, y, **options, **({} if axis is None else {"axis": axis}))
            if y.dtype == np.int64:
                assert (y == expected).all()
            else:
                assert_rounded(y, expected, name_of_type, slack=1e-15 if dtype == np.float64 else 1e-12)
    return test


test_reduce_sum = reduction("reduce_sum", lambda x, axis: np.sum(x, axis))
test_reduce_mean = reduction("reduce_mean", lambda x, axis: np.mean(x, axis))
test_reduce_min = reduction("reduce_min", lambda x, axis: np.min(x, axis))
test_reduce_max = reduction("reduce_max", lambda x, axis: np.max(x, axis))
test_reduce_l2 = reduction("reduce_l2", lambda x, axis: np.sqrt(np.sum(x * x, axis)))
test_reduce_var = reduction("reduce_var", lambda x, axis: np.var(x, axis, ddof=1), correction=1)
test_reduce_stddev = reduction("reduce_stddev", lambda x, axis: np.std(x, axis))
test_reduce_argmax = reduction("reduce_argmax", lambda x, axis: np.argmax(x, axis))
test_reduce_argmin = reduction("reduce_argmin", lambda x, axis: np.argmin(x, axis))


def test_reductions_of_nothing(library):
    x, y = np.empty((3, 0), np.float32), np.empty(3, np.float32)
    library.call("reduce_sum", x, y, axis=1)
    assert (y == 0).all()
    library.call("reduce_mean", x, y, axis=1)
    assert np.isnan(y).all()
    library.call("reduce_var", x, y, axis=1)
    assert np.isnan(y).all()
    with pytest.raises(Error, match="reduce_max: x has no elements along the axis"):
        library.call("reduce_max", x, y, axis=1)
    library.call("reduce_max", x, np.empty(0, np.float32), axis=0)


def test_places_with_values(library):
    x = np.array([[3, 7, 7], [-0.0, 0.0, -5]], np.float32)
    index, value = np.empty(2, np.int64), np.empty(2, np.float32)
    library.call("reduce_argmax", x, index, axis=1, value=value)
    assert index.tolist() == [1, 0] and value.tolist() == [7, 0]


def map_reduce(name, formula, two_inputs=False, **options):
    """A test of y = formula(x, axis), or formula(x, mask, axis), with f32 or i64 output."""
    @pytest.mark.parametrize("axis", [None, 0, -1])
    def test(library, dtype, axis):
        x = normal((6, 5, 8), dtype)
        mask = (normal((6, 5, 8), "f64", 1) > 0).astype(np.uint8)
        if two_inputs:
            x[mask == 0] = np.nan
        inputs = (x, mask) if two_inputs else (x,)
        expected = np.asarray(formula(*((wide(x), mask) if two_inputs else (wide(x),)), axis))
        y = np.empty(expected.shape, np.int64 if expected.dtype == np.int64 else np.float32)
        library.call(name, *inputs, y, **options, **({} if axis is None else {"axis": axis}))
        assert_rounded(y, expected, "f32")
    return test


test_map_reduce_square_sum = map_reduce("map_reduce_square_sum", lambda x, axis: np.sum(x * x, axis))
test_map_reduce_abs_sum = map_reduce("map_reduce_abs_sum", lambda x, axis: np.sum(np.abs(x), axis))
test_map_reduce_masked_sum = map_reduce(
    "map_reduce_masked_sum", lambda x, mask, axis: np.sum(x, axis, where=mask != 0), True)
test_map_reduce_threshold_count = map_reduce(
    "map_reduce_threshold_count", lambda x, axis: np.sum(x > np.float32(0.3), axis, dtype=np.int64),
    threshold=0.3)


def test_dot_batched(library, dtype):
    a, b = normal((3, 4, 33), dtype, 1), normal((3, 4, 33), dtype, 2)
    y = np.empty((3, 4), np.float32)
    library.call("dot_batched", a, b, y)
    assert_rounded(y, np.einsum("ijk,ijk->ij", wide(a), wide(b)), "f32")


def test_cosine_similarity(library, dtype):
    a, b = normal((5, 33), dtype, 1), normal((5, 33), dtype, 2)
    a[1], b[3], a[4] = 0, 0, a[4] * 1e-3
    y = np.empty(5, np.float32)
    library.call("cosine_similarity", a, b, y, eps=0.05)
    norms = [np.maximum(np.linalg.norm(wide(v), axis=1), 0.05) for v in (a, b)]
    assert_rounded(y, (wide(a) * wide(b)).sum(1) / norms[0] / norms[1], "f32")


def correlation(name, formula, **options):
    """A test of y = formula(x, w) of the rows of two matrices, and of all elements."""
    @pytest.mark.parametrize("name_of_type", ["f32", "f64"])
    def test(library, name_of_type):
        dtype = {"f32": np.float32, "f64": np.float64}[name_of_type]
        x, w = ((normal((4, 50), "f64", k) + 2).astype(dtype) for k in (1, 2))
        y, whole = np.empty(4, dtype), np.empty((), dtype)
        library.call(name, x, w, y, axis=-1, **options)
        assert_rounded(y, [formula(a, b) for a, b in zip(wide(x), wide(w))], name_of_type, 1e-14)
        library.call(name, x, w, whole, **options)
        assert_rounded(whole, formula(wide(x).ravel(), wide(w).ravel()), name_of_type, 1e-14)
    return test


test_reduce_correlation = correlation("reduce_correlation", lambda x, y: np.corrcoef(x, y)[0, 1])
test_reduce_covariance = correlation("reduce_covariance", lambda x, y: np.cov(x, y)[0, 1])
test_reduce_weighted_sum = correlation("reduce_weighted_sum", lambda x, w: np.dot(x, w))
test_reduce_weighted_mean = correlation("reduce_weighted_mean",
                                        lambda x, w: np.average(x, weights=w))


def test_correlation_of_a_constant(library):
    x, y = np.full(7, 0.1, np.float32), normal((7,), "f32")
    r = np.empty((), np.float32)
    library.call("reduce_correlation", x, y, r)
    assert np.isnan(r)
    library.call("reduce_correlation", y, y, r)
    assert r == 1


def test_map_clamp(library, dtype):
    x = np.concatenate([normal((100,), dtype), np.array(SPECIAL, DTYPES[dtype])])
    y = np.empty_like(x)
    library.call("map_clamp", x, y, lo=-0.3, hi=0.7)
    bounds = np.float32(-0.3), np.float32(0.7)
    assert_rounded(y, np.clip(wide(x), *map(float, bounds)), dtype)


def elementwise(name, formula, **options):
    """A test of y = formula(inputs), which is in doubles and takes the parameters by name."""
    def test(library, dtype):
        count = formula.__code__.co_argcount - len(options)
        inputs = [np.concatenate([3 * normal((300,), dtype, k), np.roll(SPECIAL, k).astype(DTYPES[dtype])])
                  for k in range(count)]
        y = np.empty_like(inputs[0])
        library.call(name, *inputs, y, **options)
        rounded = {key: float(np.float32(value)) for key, value in options.items()}
        with np.errstate(all="ignore"):
            assert_rounded(y, formula(*map(wide, inputs), **rounded), dtype)
    return test


def softplus(x):
    return np.logaddexp(x, 0)


def at_limit(x, y):
    """-inf times a factor that is 0 there."""
    return np.where(np.isneginf(x), 0, y)


test_map_exp = elementwise("map_exp", lambda x: np.exp(x))
test_map_log = elementwise("map_log", lambda x: np.log(x))
test_map_sigmoid = elementwise("map_sigmoid", lambda x: 1 / (1 + np.exp(-x)))
test_map_tanh = elementwise("map_tanh", lambda x: np.tanh(x))
test_map_softplus = elementwise("map_softplus", softplus)
test_map_abs = elementwise("map_abs", lambda x: np.abs(x))
test_map_add = elementwise("map_add", lambda a, b: a + b)
test_map_mul = elementwise("map_mul", lambda a, b: a * b)
test_map_div = elementwise("map_div", lambda a, b: a / b)
test_map_compare = elementwise("map_compare", lambda a, b: a > b)
test_map_fma = elementwise("map_fma", lambda a, b, c: a * b + c)
test_map_relu = elementwise("map_relu", lambda x: np.maximum(x, 0))
test_map_leaky_relu = elementwise("map_leaky_relu", lambda x, slope: np.where(x > 0, x, slope * x),
                                  slope=0.3)
test_map_elu = elementwise("map_elu", lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)),
                           alpha=0.7)
test_map_silu = elementwise("map_silu", lambda x: at_limit(x, x / (1 + np.exp(-x))))
test_map_mish = elementwise("map_mish", lambda x: at_limit(x, x * np.tanh(softplus(x))))


def test_map_compare_to_bytes(library, dtype):
    a, b = normal((4, 50), dtype, 1), normal((4, 50), dtype, 2)
    y = np.empty(a.shape, np.uint8)
    library.call("map_compare", a, b, y)
    assert (y == (wide(a) > wide(b))).all()


@pytest.mark.parametrize("approximate", [0, 1])
def test_map_gelu(library, dtype, approximate):
    x = np.concatenate([3 * normal((300,), dtype), np.array(SPECIAL, DTYPES[dtype])])
    y = np.empty_like(x)
    library.call("map_gelu", x, y, approximate=approximate)
    wide_x = wide(x)
    with np.errstate(all="ignore"):
        if approximate:
            # 1 + tanh(u) = 2 / (1 + e^-2u), which keeps the left tail's digits
            u = math.sqrt(2 / math.pi) * (wide_x + 0.044715 * wide_x**3)
            expected = wide_x / (1 + np.exp(-2 * u))
        else:
            expected = wide_x / 2 * np.vectorize(math.erfc)(-wide_x / math.sqrt(2))
    expected[np.isneginf(wide_x)] = 0  # the limit
    assert_rounded(y, expected, dtype, slack=1e-11)


def test_softmax_stable(library, dtype):
    x = 5 * normal((3, 4, 33), dtype)
    x[0, 0, 3] = -np.inf
    y = np.empty_like(x)
    library.call("softmax_stable", x, y)
    shifted = np.exp(wide(x) - wide(x).max(-1, keepdims=True))
    assert_rounded(y, shifted / shifted.sum(-1, keepdims=True), dtype)
    x[0, 1, 5], x[0, 2, 5], x[0, 3, :] = np.inf, np.nan, -np.inf
    library.call("softmax_stable", x, y)
    assert np.isnan(wide(y)[0, 1:]).all() and not np.isnan(wide(y)[1:]).any()


@pytest.mark.parametrize("affine", [False, True])
def test_layer_norm(library, dtype, affine):
    x, gamma, beta = normal((6, 40), dtype), normal((40,), dtype, 1), normal((40,), dtype, 2)
    y = np.empty_like(x)
    library.call("layer_norm", x, y, eps=1e-3, **({"gamma": gamma, "beta": beta} if affine else {}))
    centred = wide(x) - wide(x).mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3)
    if affine:
        expected = expected * wide(gamma) + wide(beta)
    assert_rounded(y, expected, dtype)


@pytest.mark.parametrize("target", ["f16", "bf16"])
def test_quantize_f32_to_f16(library, target):
    if DTYPES[target] is None:
        pytest.skip("ml_dtypes is missing, which NumPy needs for bf16")
    bits = np.random.default_rng(3).integers(0, 2**32, 20000, dtype=np.uint32)
    x = np.concatenate([bits.view(np.float32), np.array(SPECIAL, np.float32), normal((999,), "f32")])
    y = np.empty(x.shape, DTYPES[target])
    library.call("quantize_f32_to_f16", x, y)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(DTYPES[target])
    numbers = ~np.isnan(x)
    assert (y.view(np.uint16)[numbers] == expected.view(np.uint16)[numbers]).all()
    assert np.isnan(wide(y[~numbers])).all()


# ---- Random numbers ------------------------------------------------------------------------------

SEED, STREAM = 0x0123456789abcdef, -5


def philox(block, stream=STREAM, seed=SEED):
    """Four words, in Python's integers (Salmon et al., 2011)."""
    low = 2**32 - 1
    c = [block & low, block >> 32, stream & low, stream >> 32 & low]
    k = [seed & low, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & low, a >> 32 ^ c[3] ^ k[1], a & low]
        k = [k[0] + 0x9E3779B9 & low, k[1] + 0xBB67AE85 & low]
    return c


WORDS = np.array([word for block in range(300) for word in philox(block)], np.uint64)


def draw(library, kernel, count, dtype, **options):
    y = np.empty(count, dtype)
    library.call(kernel, y, seed=SEED, stream=STREAM, **options)
    return y


def test_prng_philox(library):
    assert (draw(library, "prng_philox", 1001, np.uint32) == WORDS[:1001]).all()
    y = np.empty(4, np.uint32)
    library.call("prng_philox", y)  # Random123's first known answer
    assert [f"{word:08x}" for word in y] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_prng_uniform(library):
    single = draw(library, "prng_uniform", 1001, np.float32)
    assert (single.astype(np.float64) * 2**24 == WORDS[:1001] >> np.uint64(8)).all()
    double = draw(library, "prng_uniform", 501, np.float64)
    pairs = WORDS[0:1002:2] + (WORDS[1:1002:2] << np.uint64(32))
    assert (double * 2**53 == pairs >> np.uint64(11)).all()


def test_prng_normal(library):
    y = draw(library, "prng_normal", 1001, np.float32)
    u = ((WORDS[0::2] >> np.uint64(8)) + np.uint64(1)).astype(np.float64) * 2**-24
    v = (WORDS[1::2] >> np.uint64(8)).astype(np.float64) * 2**-24
    z = np.sqrt(-2 * np.log(u)) * np.exp(2j * np.pi * v)
    assert_rounded(y, np.stack([z.real, z.imag], -1).reshape(-1)[:1001], "f32", slack=1e-14)
    many = draw(library, "prng_normal", 100000, np.float32).astype(np.float64)
    assert abs(many.mean()) < 0.02 and abs(many.std() - 1) < 0.01 and abs(many).max() < 5.78


def test_prng_dropout_mask(library):
    kept = (WORDS[:1001] >> np.uint64(8)).astype(np.float64) * 2**-24 < np.float64(np.float32(0.3))
    assert (draw(library, "prng_dropout_mask", 1001, np.uint8, keep=0.3) == kept).all()
    assert draw(library, "prng_dropout_mask", 99, np.uint8, keep=1.0).all()
    assert not draw(library, "prng_dropout_mask", 99, np.uint8, keep=0.0).any()


# ---- Attention -----------------------------------------------------------------------------------


def philox_uniform(seed, offset, head, i, keys):
    """u for each key j: word j mod 4 of Philox4x32-10, counter (j/4, i, head, offset)."""
    uniforms = []
    for block in range((keys + 3) // 4):
        counter, key = [block, i, head, offset], [seed & 0xFFFFFFFF, seed >> 32]
        for _ in range(10):
            a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
            counter = [b >> 32 ^ counter[1] ^ key[0], b & 0xFFFFFFFF,
                       a >> 32 ^ counter[3] ^ key[1], a & 0xFFFFFFFF]
            key = [key[0] + 0x9E3779B9 & 0xFFFFFFFF, key[1] + 0xBB67AE85 & 0xFFFFFFFF]
        uniforms += [(word >> 8) * 2.0**-24 for word in counter]
    return np.array(uniforms[:keys])


def attention(q, k, v, scale=None, softcap=None, bias=None, slopes=None, causal=NONE,
              window=(-1, -1), mask=None, sinks=None, query_offset=0, dropout=0.0, seed=0,
              dropout_offset=0, first_head=0):
    """[H, S, D] of one sequence, in double, from the definition."""
    heads, rows, size = q.shape
    group, keys = heads // k.shape[0], k.shape[1]
    k, v = np.repeat(wide(k), group, 0), np.repeat(wide(v), group, 0)
    s = np.einsum("hid,hjd->hij", wide(q), k) * (1 / math.sqrt(size) if scale is None else scale)
    if softcap:
        s = softcap * np.tanh(s / softcap)
    if bias is not None:
        s = s + wide(bias)
    position = np.arange(rows) + query_offset + (keys - rows if causal == BOTTOM_RIGHT else 0)
    distance = np.arange(keys)[None, :] - position[:, None]
    if slopes is not None:
        s = s + wide(slopes)[:, None, None] * distance
    allowed = np.ones((rows, keys), bool)
    if causal != NONE:
        allowed &= distance <= 0
    if window[0] >= 0:
        allowed &= distance >= -window[0]
    if window[1] >= 0:
        allowed &= distance <= window[1]
    allowed = np.broadcast_to(allowed if mask is None else allowed & mask, s.shape)
    s = np.where(allowed, s, -np.inf)
    logits = s if sinks is None else np.concatenate(
        [s, np.broadcast_to(wide(sinks)[:, None, None], (heads, rows, 1))], -1)
    top = logits.max(-1, initial=-np.inf, keepdims=True)
    top = np.where(np.isneginf(top), 0, top)
    total = np.exp(logits - top).sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (np.log(total) + top)[..., 0]
    p = np.exp(s - top) / np.where(total == 0, 1, total)
    if dropout:
        for h in range(heads):
            for i in range(rows):
                u = philox_uniform(seed, dropout_offset, first_head + h, i, keys)
                p[h, i] *= (u < np.float32(1 - dropout)) / (1 - dropout)
    return p @ v, lse


PLAIN = {"batch": 2, "hq": 4, "hkv": 2, "sq": 7, "sk": 11, "d": 16, "dv": 16}
CASES = {
    "plain": {},
    "one query": {"sq": 1},
    "other value size": {"dv": 5},
    "multi-query": {"hkv": 1},
    "scale": {"scale": 0.37},
    "softcap": {"softcap": 1.5},
    "causal top left": {"causal": TOP_LEFT},
    "causal bottom right": {"causal": BOTTOM_RIGHT},
    "more queries than keys": {"sq": 11, "sk": 4, "causal": BOTTOM_RIGHT},
    "window": {"window": (2, 1)},
    "window and causal": {"window": (3, -1), "causal": BOTTOM_RIGHT},
    "query offset": {"query_offset": 3, "causal": TOP_LEFT},
    "negative query offset": {"query_offset": -3, "causal": TOP_LEFT},
    "mask": {"mask": (2, 4, 7, 11)},
    "broadcast mask": {"mask": (7, 11)},
    "bias": {"bias": (2, 4, 7, 11)},
    "broadcast bias": {"bias": (4, 1, 11)},
    "slopes": {"slopes": True},
    "slopes and causal": {"slopes": True, "causal": BOTTOM_RIGHT},
    "sinks": {"sinks": True},
    "sinks and empty rows": {"sinks": True, "sq": 11, "sk": 4, "causal": BOTTOM_RIGHT},
    "dropout": {"dropout": 0.3, "seed": 2**40 + 7, "dropout_offset": 5},
    "no keys": {"sk": 0},
    "everything": {"softcap": 2.0, "bias": (2, 4, 7, 11), "slopes": True, "sinks": True,
                   "causal": BOTTOM_RIGHT, "window": (5, -1), "mask": (2, 1, 7, 11),
                   "query_offset": 1, "dropout": 0.1, "seed": 3},
}


def optional_arrays(case, dtype):
    arrays = {}
    if case.get("mask"):
        arrays["mask"] = np.random.default_rng(1).random(case["mask"]) < 0.6
    if case.get("bias"):
        arrays["bias"] = normal(case["bias"], dtype, 5)
    if case.get("slopes"):
        arrays["slopes"] = np.array([0.5, 0.25, 0.125, 0.0625], np.float32)
    if case.get("sinks"):
        arrays["sinks"] = normal((4,), "f32", 6)
    return arrays


def of_batch(arrays, b):
    """mask and bias as the one batch sees them."""
    picked = dict(arrays)
    for name in ("mask", "bias"):
        if name in arrays and arrays[name].ndim == 4:
            picked[name] = arrays[name][min(b, arrays[name].shape[0] - 1)]
    return picked


def library_options(case, arrays):
    options = {**arrays, **{n: case[n] for n in ("scale", "softcap", "causal", "query_offset",
                                                 "dropout", "seed", "dropout_offset") if n in case}}
    if "window" in case:
        options["window_left"], options["window_right"] = case["window"]
    return options


def formula_options(case, arrays, b):
    names = ("scale", "softcap", "causal", "query_offset", "window", "dropout", "seed",
             "dropout_offset")
    return {**{n: case[n] for n in names if n in case}, **of_batch(arrays, b)}


@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
@pytest.mark.parametrize("name", CASES)
def test_attention(library, dtype, name, layout):
    case = {**PLAIN, **CASES[name]}
    q = normal((case["batch"], case["hq"], case["sq"], case["d"]), dtype, 1)
    k = normal((case["batch"], case["hkv"], case["sk"], case["d"]), dtype, 2)
    v = normal((case["batch"], case["hkv"], case["sk"], case["dv"]), dtype, 3)
    out = np.empty((*q.shape[:3], case["dv"]), q.dtype)
    lse = np.empty(q.shape[:3], np.float32)
    arrays = optional_arrays(case, dtype)
    options = library_options(case, arrays)
    operands = [q, k, v, out]
    if layout == "bshd":
        options["layout"] = BSHD
        operands = [np.ascontiguousarray(a.transpose(0, 2, 1, 3)) for a in operands]
    library.call("attention", *operands, lse=lse, **options)
    actual = operands[3].transpose(0, 2, 1, 3) if layout == "bshd" else out
    for b in range(case["batch"]):
        expected, expected_lse = attention(q[b], k[b], v[b], first_head=b * case["hq"],
                                           **formula_options(case, arrays, b))
        assert_rounded(actual[b], expected, dtype)
        assert_rounded(lse[b], expected_lse, "f32")


def test_attention_strides(library, dtype):
    base = normal((2, 3, 9, 40), dtype)
    q, k, v = base[:, :, :5, ::2], base[:, ::-1, 1:9, 1::2], base[:, :, 8:0:-1, 20:]
    out = np.zeros((2, 3, 5, 60), q.dtype)[..., 1::3]
    library.call("attention", q, k, v, out)
    for b in range(2):
        assert_rounded(out[b], attention(q[b], k[b], v[b])[0], dtype)


def test_attention_ragged(library, dtype):
    q_lengths, k_lengths = [3, 0, 5, 1], [4, 2, 0, 9]
    q_ends, k_ends = (np.cumsum([0, *n]).astype(np.int32) for n in (q_lengths, k_lengths))
    q, k = normal((9, 4, 8), dtype, 1), normal((15, 2, 8), dtype, 2)
    v, out = normal((15, 2, 8), dtype, 3), np.zeros((9, 4, 8), DTYPES[dtype])
    lse = np.zeros((4, 9), np.float32)
    library.call("attention", q, k, v, out, lse=lse, cu_seqlens_q=q_ends, cu_seqlens_k=k_ends,
                 causal=BOTTOM_RIGHT)
    for b in range(4):
        rows, keys = slice(q_ends[b], q_ends[b + 1]), slice(k_ends[b], k_ends[b + 1])
        expected, expected_lse = attention(*(x.transpose(1, 0, 2) for x in (q[rows], k[keys], v[keys])),
                                           causal=BOTTOM_RIGHT)
        assert_rounded(out[rows], expected.transpose(1, 0, 2), dtype)
        assert_rounded(lse[:, rows], expected_lse, "f32")


@pytest.mark.parametrize("page_size", [1, 3, 16])
def test_attention_paged(library, dtype, page_size):
    used = np.array([7, 0, 16], np.int32)
    columns = -(-16 // page_size)
    table = np.random.default_rng(4).permutation(3 * columns).astype(np.int32).reshape(3, columns)
    cache = [normal((3 * columns, page_size, 2, 8), dtype, seed) for seed in (1, 2)]
    q = normal((3, 4, 2, 8), dtype, 3)
    out = np.zeros_like(q)
    library.call("attention", q, *cache, out, block_table=table, seqused_k=used, causal=BOTTOM_RIGHT)
    for b in range(3):
        k, v = (np.concatenate(pages[table[b]])[:used[b]].transpose(1, 0, 2) for pages in cache)
        assert_rounded(out[b], attention(q[b], k, v, causal=BOTTOM_RIGHT)[0], dtype)


def test_attention_merge(library, dtype):
    parts, lses = normal((3, 2, 2, 4, 8), dtype), 4 * normal((3, 2, 2, 4), "f32", 1)
    lses[1, 0, 0, 0] = lses[:, 1, 1, 1] = -np.inf
    out, lse = np.empty(parts.shape[1:], parts.dtype), np.empty(lses.shape[1:], np.float32)
    library.call("attention_merge", parts, lses, out, lse=lse)
    top = wide(lses).max(0)
    weights = np.exp(wide(lses) - np.where(np.isneginf(top), 0, top))
    total = weights.sum(0)
    mixed = (weights[..., None] * wide(parts)).sum(0) / np.where(total == 0, 1, total)[..., None]
    assert_rounded(out, mixed, dtype)
    with np.errstate(divide="ignore"):
        assert_rounded(lse, np.log(total) + np.where(np.isneginf(top), 0, top), "f32")


# ---- Whole ---------------------------------------------------------------------------------------


def kernel_names():
    try:
        return Library().kernels()
    except OSError:
        return []


@pytest.mark.parametrize("kernel", kernel_names())
def test_kernel_has_a_formula(kernel):
    if f"test_{kernel}" not in globals():
        pytest.skip(f"no NumPy formula of {kernel} is here yet")
