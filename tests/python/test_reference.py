"""The double-precision reference against NumPy, by formulas written from the definitions alone."""

import functools
import math

import numpy as np
import pytest
from library import Error, Library

try:
    from ml_dtypes import bfloat16
    from ml_dtypes import float8_e4m3fn as E4M3
except ImportError:
    bfloat16 = E4M3 = None

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


@pytest.fixture(params=["f32", "f64"])
def real(request):
    return request.param


def drawn(shape, name_of_type, seed=0):
    return normal(shape, "f64", seed).astype({"f32": np.float32, "f64": np.float64}[name_of_type])


def test_reduce_covariance_matrix(library, real):
    x = drawn((2, 40, 7), real) + 5
    x[:, :, 3] = 0.1
    c = np.empty((2, 7, 7), x.dtype)
    library.call("reduce_covariance_matrix", x, c, correction=2)
    assert_rounded(c, [np.cov(wide(part), rowvar=False, ddof=2) for part in x], real, 1e-13)
    assert (c[:, 3] == 0).all() and (c == c.transpose(0, 2, 1)).all()


def test_reduce_pearson_pairwise(library, real):
    x = drawn((40, 7), real) + 5
    r = np.empty((7, 7), x.dtype)
    library.call("reduce_pearson_pairwise", x, r)
    assert_rounded(r, np.corrcoef(wide(x), rowvar=False), real, 1e-13)
    assert (np.diag(r) == 1).all()
    x[:, 3] = 0.1
    library.call("reduce_pearson_pairwise", x, r)
    assert np.isnan(r[3]).all() and np.isnan(r[:, 3]).all() and np.isnan(r).sum() == 13


def test_spmv_csr(library, real):
    generator = np.random.default_rng(1)
    value, x = drawn((60,), real), drawn((11,), real, 1)
    column = generator.integers(0, 11, 60).astype(np.int32)
    rowptr = np.sort(np.r_[0, generator.integers(0, 61, 16), 60])
    y = np.empty(17, value.dtype)
    library.call("spmv_csr", value, column, rowptr, x, y)
    dense = np.zeros((17, 11))
    np.add.at(dense, (np.repeat(np.arange(17), np.diff(rowptr)), column), wide(value))
    assert_rounded(y, dense @ wide(x), real, 1e-14)
    with pytest.raises(Error, match="rowptr has extent 0 in dimension 0; it is at least 1"):
        library.call("spmv_csr", value, column, rowptr[:0], x, y)


@pytest.mark.parametrize("transpose", [False, True])
def test_matvec(library, real, transpose):
    a, x = drawn((3, 5, 9), real), drawn((3, 5 if transpose else 9), real, 1)
    y = np.empty((3, 9 if transpose else 5), a.dtype)
    library.call("matvec", a, x, y, transpose=transpose)
    matrices = wide(a).transpose(0, 2, 1) if transpose else wide(a)
    assert_rounded(y, (matrices @ wide(x)[:, :, None])[:, :, 0], real, 1e-14)


def test_outer_product(library, real):
    a, b = drawn((2, 5), real), drawn((2, 7), real, 1)
    y = np.empty((2, 5, 7), a.dtype)
    library.call("outer_product", a, b, y)
    assert_rounded(y, wide(a)[:, :, None] * wide(b)[:, None, :], real, 0)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_matmul_batched(library, real, transpose_a, transpose_b):
    a, b = drawn((2, 5, 9), real), drawn((2, 9, 4), real, 1)
    c, y = drawn((2, 5, 4), real, 2), np.empty((2, 5, 4), a.dtype)
    given = [np.ascontiguousarray(m.transpose(0, 2, 1)) if t else m
             for m, t in ((a, transpose_a), (b, transpose_b))]
    library.call("matmul_batched", *given, y, transpose_a=transpose_a, transpose_b=transpose_b,
                 alpha=0.5, beta=2, c=c)
    assert_rounded(y, 0.5 * (wide(a) @ wide(b)) + 2 * wide(c), real, 1e-14)
    c[:] = np.nan
    library.call("matmul_batched", *given, y, transpose_a=transpose_a, transpose_b=transpose_b, c=c)
    assert_rounded(y, wide(a) @ wide(b), real, 1e-14)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_triangular_solve(library, real, upper, unit):
    l, b = drawn((6, 6), real) + 3 * np.eye(6), drawn((6, 2), real, 1)
    l = l.astype(b.dtype)
    x = np.empty_like(b)
    library.call("triangular_solve", l, b, x, triangle=int(upper), unit_diagonal=unit)
    read = np.triu(wide(l), 1) if upper else np.tril(wide(l), -1)
    read += np.eye(6) if unit else np.diag(np.diag(wide(l)))
    assert_rounded(x, np.linalg.solve(read, wide(b)), real, 1e-12)


# ---- Simulation ----------------------------------------------------------------------------------


def neighbours(u, axes):
    return sum(np.roll(u, shift, axis) for axis in axes for shift in (1, -1))


def held_edges(boundary, before, after):
    """after, with the edges of `before` (copy), of 0 (dirichlet), or its own (periodic)."""
    if boundary == 0:
        return after
    edges = np.ones(after.shape[-2:], bool)
    edges[1:-1, 1:-1] = False
    return np.where(edges, before if boundary == 2 else 0, after)


@pytest.mark.parametrize("boundary", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 5])
def test_sim_heat_equation(library, real, boundary, steps):
    u = drawn((2, 6, 7), real)
    y, expected = np.empty_like(u), held_edges(boundary, wide(u), wide(u))
    library.call("sim_heat_equation", u, y, r=0.125, boundary=boundary, steps=steps)
    for _ in range(steps):
        next_field = expected + 0.125 * (neighbours(expected, (1, 2)) - 4 * expected)
        expected = held_edges(boundary, expected, next_field)
    assert_rounded(y, expected, real, 1e-14)


@pytest.mark.parametrize("boundary", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 5])
def test_sim_wave_equation(library, real, boundary, steps):
    u, previous = drawn((6, 7), real), drawn((6, 7), real, 1)
    y, before = np.empty_like(u), np.empty_like(u)
    library.call("sim_wave_equation", u, previous, y, c2=0.25, boundary=boundary, steps=steps,
                 before=before)
    old, now = (held_edges(boundary, wide(f), wide(f)) for f in (previous, u))
    for _ in range(steps):
        next_field = 2 * now - old + 0.25 * (neighbours(now, (0, 1)) - 4 * now)
        old, now = now, held_edges(boundary, now, next_field)
    assert_rounded(y, now, real, 1e-14)
    assert_rounded(before, old, real, 1e-14)


def test_steps_that_are_none(library):
    u = np.zeros((3, 3), np.float32)
    with pytest.raises(Error, match="options.steps is 0; it is at least 1"):
        library.call("sim_heat_equation", u, np.empty_like(u), steps=0)


def test_integrate_rk4(library, real):
    y, out = drawn((50,), real), drawn((50,), real)
    library.call("integrate_rk4", y, out, k=0.5, dt=0.25, steps=10)
    z = 0.125
    assert_rounded(out, wide(y) * (1 - z + z**2 / 2 - z**3 / 6 + z**4 / 24)**10, real, 1e-14)


def test_integrate_verlet(library, real):
    x, v = drawn((30, 3), real), drawn((30, 3), real, 1)
    k, dt = 0.5, 0.25
    step = np.array([[1 - k * dt * dt / 2, dt], [-k * dt * (1 - k * dt * dt / 4), 1 - k * dt * dt / 2]])
    expected = np.einsum("ij,j...->i...", np.linalg.matrix_power(step, 10), np.stack((wide(x), wide(v))))
    library.call("integrate_verlet", x, v, k=k, dt=dt, steps=10)
    assert_rounded(x, expected[0], real, 1e-14)
    assert_rounded(v, expected[1], real, 1e-14)


def test_monte_carlo_integrate(library, real):
    u = np.empty(1001, {"f32": np.float32, "f64": np.float64}[real])
    estimate, error = np.empty((), u.dtype), np.empty((), u.dtype)
    library.call("prng_uniform", u, seed=5, stream=7)
    library.call("monte_carlo_integrate", estimate, error, n=1001, seed=5, stream=7)
    f = 4 / (1 + wide(u)**2)
    assert_rounded(estimate, f.mean(), real, 1e-14)
    assert_rounded(error, f.std(ddof=1) / np.sqrt(1001), real, 1e-12)
    assert abs(estimate - np.pi) < 4 * error
    library.call("monte_carlo_integrate", estimate, error, n=1)
    assert np.isfinite(estimate) and np.isnan(error)
    with pytest.raises(Error, match="options.n is -1; it is at least 0"):
        library.call("monte_carlo_integrate", estimate, error, n=-1)


def test_sim_stencil_2d(library, real):
    u = drawn((2, 5, 6), real)
    y = np.empty_like(u)
    library.call("sim_stencil_2d", u, y)
    assert_rounded(y, neighbours(wide(u), (1, 2)) / 4, real, 1e-14)


def test_sim_stencil_3d(library, real):
    u = drawn((4, 5, 6), real)
    y = np.empty_like(u)
    library.call("sim_stencil_3d", u, y)
    assert_rounded(y, neighbours(wide(u), (0, 1, 2)) / 6, real, 1e-14)


def test_correlation_of_a_constant(library):
    x, y = np.full(7, 0.1, np.float32), normal((7,), "f32")
    r = np.empty((), np.float32)
    library.call("reduce_correlation", x, y, r)
    assert np.isnan(r)
    library.call("reduce_correlation", y, y, r)
    assert r == 1


# ---- Transforms and signals ----------------------------------------------------------------------

COMPLEX = {"c64": np.complex64, "c128": np.complex128}


def roots(n, m):
    """e^(-2 pi i j k/n) for j < n and k < m, from exact angles."""
    angles = np.outer(np.arange(m), np.arange(n)) % n / np.longdouble(n) * 2 * np.longdouble(np.pi)
    return np.cos(angles) - 1j * np.sin(angles)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 12, 35, 67, 128, 131 * 2, 1000, 2053])
@pytest.mark.parametrize("kind", COMPLEX)
def test_fft_is_the_direct_sum(library, kind, n):
    z = (normal((3, n), "f64") + 1j * normal((3, n), "f64", 1)).astype(COMPLEX[kind])
    forward, inverse = np.empty_like(z), np.empty_like(z)
    library.call("fft", z, forward)
    library.call("fft", z, inverse, direction=1)
    w = roots(n, n)
    slack = {"c64": 2.0**-24, "c128": 3e-16}[kind]
    for actual, expected in ((forward, z @ w.T), (inverse, z @ w.conj().T / n)):
        error = np.abs(actual - expected).max(-1)
        assert (error <= slack * (np.abs(expected).max(-1) + 1e-30) + 1e-15).all()


@pytest.mark.parametrize("n", [1, 2, 9, 64, 130])
@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_fft_real(library, kind, n):
    x = normal((2, n), "f64").astype({"f32": np.float32, "f64": np.float64}[kind])
    y = np.empty((2, n // 2 + 1), np.complex64 if kind == "f32" else np.complex128)
    library.call("fft_real", x, y)
    expected = x @ roots(n, n // 2 + 1).T
    assert np.abs(y - expected).max() <= {"f32": 1e-6, "f64": 2e-14}[kind] * np.sqrt(n)


def test_fft_refuses_what_it_cannot_do(library):
    z = np.zeros(12, np.complex64)
    for radix, power in ((1, 2), (2, 4)):
        with pytest.raises(Error, match=f"z has extent 12; a power of {power} is wanted"):
            library.call("fft", z, np.empty_like(z), radix=radix)
    with pytest.raises(Error, match="z has extent 0 in its last dimension"):
        library.call("fft", z[:0], z[:0].copy())
    with pytest.raises(Error, match="Z is c128, z is c64; they must agree"):
        library.call("fft", z, np.zeros(12, np.complex128))
    with pytest.raises(Error, match="fft_real: M is 6, but M=floor.N/2.[+]1 makes it 7"):
        library.call("fft_real", np.zeros(12, np.float32), np.empty(6, np.complex64))


def test_spectral_power(library):
    z = (normal((5, 7), "f64") + 1j * normal((5, 7), "f64", 1)).astype(np.complex64)
    p = np.empty((5, 7), np.float32)
    library.call("spectral_power", z, p)
    assert_rounded(p, wide(z.real) ** 2 + wide(z.imag) ** 2, "f32")


@pytest.mark.parametrize("taps", [1, 2, 5, 8])
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
def test_conv1d(library, mode, taps):
    x, h = normal((2, 20), "f32"), normal((taps,), "f32", 1)
    left = {"valid": 0, "same": taps // 2, "full": taps - 1}[mode]
    count = {"valid": 21 - taps, "same": 20, "full": 19 + taps}[mode]
    zeros = np.pad(wide(x), ((0, 0), (left, taps)))
    expected = sum(h[k] * zeros[:, k:k + count] for k in range(taps))
    y = np.empty((2, count), np.float32)
    library.call("conv1d", x, h, y, mode=["valid", "same", "full"].index(mode))
    assert_rounded(y, expected, "f32")


def test_conv1d_with_more_taps_than_elements(library):
    with pytest.raises(Error, match="makes it -1"):
        library.call("conv1d", normal((3,), "f32"), normal((5,), "f32"), np.empty(0, np.float32), mode=0)


def test_fir_filter_and_fft_conv1d(library):
    x, h = normal((3, 40), "f32"), normal((7,), "f32", 1)
    expected = np.stack([np.convolve(wide(row), wide(h))[:40] for row in x])
    for kernel in ("fir_filter", "fft_conv1d"):
        y = np.empty_like(x)
        library.call(kernel, x, h, y)
        assert_rounded(y, expected, "f32")


def test_correlations(library):
    x, y = normal((2, 30), "f32"), normal((2, 12), "f32", 1)
    r, own = np.empty((2, 41), np.float32), np.empty((2, 30), np.float32)
    library.call("cross_correlation", x, y, r)
    assert_rounded(r, [np.correlate(wide(a), wide(b), "full") for a, b in zip(x, y)], "f32")
    library.call("autocorrelation", x, own)
    assert_rounded(own, [np.correlate(wide(a), wide(a), "full")[29:] for a in x], "f32")


@pytest.mark.parametrize("n", [1, 2, 9, 64])
@pytest.mark.parametrize("window", ["hann", "hamming", "blackman"])
def test_window_apply(library, window, n):
    x, y = normal((2, n), "f32"), np.empty((2, n), np.float32)
    library.call("window_apply", x, y, window=["hann", "hamming", "blackman"].index(window))
    make = {"hann": np.hanning, "hamming": np.hamming, "blackman": np.blackman}[window]
    assert_rounded(y, wide(x) * make(n), "f32")


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


def check_softmax(library, dtype, name):
    x = 5 * normal((3, 4, 33), dtype)
    x[0, 0, 3] = -np.inf
    y = np.empty_like(x)
    library.call(name, x, y)
    shifted = np.exp(wide(x) - wide(x).max(-1, keepdims=True))
    assert_rounded(y, shifted / shifted.sum(-1, keepdims=True), dtype)
    x[0, 1, 5], x[0, 2, 5], x[0, 3, :] = np.inf, np.nan, -np.inf
    library.call(name, x, y)
    assert np.isnan(wide(y)[0, 1:]).all() and not np.isnan(wide(y)[1:]).any()


def test_softmax_stable(library, dtype):
    check_softmax(library, dtype, "softmax_stable")


def test_softmax_online(library, dtype):
    check_softmax(library, dtype, "softmax_online")


def test_log_softmax(library, dtype):
    x = 5 * normal((3, 4, 33), dtype)
    x[0, 0, 3] = -np.inf
    y = np.empty_like(x)
    library.call("log_softmax", x, y)
    expected = wide(x) - np.logaddexp.reduce(wide(x), axis=-1, keepdims=True)
    assert_rounded(y, expected, dtype)
    x[0, 1, 5], x[0, 2, 5], x[0, 3, :] = np.inf, np.nan, -np.inf
    library.call("log_softmax", x, y)
    assert np.isnan(wide(y)[0, 1:]).all() and not np.isnan(wide(y)[1:]).any()


@pytest.mark.parametrize("weighted", [False, True])
def test_rms_norm(library, dtype, weighted):
    x, gamma = normal((6, 40), dtype), normal((40,), dtype, 1)
    y = np.empty_like(x)
    library.call("rms_norm", x, y, eps=1e-3, **({"gamma": gamma} if weighted else {}))
    expected = wide(x) / np.sqrt((wide(x) ** 2).mean(-1, keepdims=True) + 1e-3)
    assert_rounded(y, expected * wide(gamma) if weighted else expected, dtype)


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


def normalised(x, axes, eps, gamma=1, beta=0):
    """Over those axes; gamma and beta broadcast."""
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * gamma + beta


@pytest.mark.parametrize("shape", [(9, 4), (5, 4, 7), (3, 4, 2, 5)])
def test_batch_norm(library, dtype, shape):
    x, gamma, beta = normal(shape, dtype), normal((4,), dtype, 1), normal((4,), dtype, 2)
    y, mean, var = np.empty_like(x), np.empty(4, np.float32), np.empty(4, np.float32)
    library.call("batch_norm", x, y, gamma=gamma, beta=beta, mean=mean, var=var, eps=1e-3)
    axes, by_channel = (0, *range(2, len(shape))), (4, *[1] * (len(shape) - 2))
    affine = [wide(v).reshape(by_channel) for v in (gamma, beta)]
    assert_rounded(y, normalised(wide(x), axes, 1e-3, *affine), dtype)
    assert_rounded(mean, wide(x).mean(axes), "f32")
    assert_rounded(var, wide(x).var(axes), "f32")
    mean, var = normal((4,), "f32", 3), np.abs(normal((4,), "f32", 4))
    before = mean.copy(), var.copy()
    library.call("batch_norm", x, y, mean=mean, var=var, statistics=1)
    shift, scale = (wide(v).reshape(by_channel) for v in before)
    assert_rounded(y, (wide(x) - shift) / np.sqrt(scale + 1e-5), dtype)
    assert (mean == before[0]).all() and (var == before[1]).all()


def test_batch_norm_refuses_statistics_that_are_not_given(library):
    x = normal((3, 4), "f32")
    with pytest.raises(Error, match="mean and var are not both given"):
        library.call("batch_norm", x, np.empty_like(x), statistics=1)
    with pytest.raises(Error, match=r"gamma has extent 3 in dimension 0, y has 4 there \(C\)"):
        library.call("batch_norm", x, np.empty_like(x), gamma=np.ones(3, np.float32))


@pytest.mark.parametrize("shape", [(9, 12), (5, 12, 7), (3, 12, 2, 5)])
def test_group_norm(library, dtype, shape):
    x, gamma, beta = normal(shape, dtype), normal((12,), dtype, 1), normal((12,), dtype, 2)
    y = np.empty_like(x)
    library.call("group_norm", x, y, gamma=gamma, beta=beta, groups=4, eps=1e-3)
    by_channel = (12, *[1] * (len(shape) - 2))
    groups = wide(x).reshape(shape[0], 4, 3, *shape[2:])
    expected = normalised(groups, tuple(range(2, groups.ndim)), 1e-3).reshape(shape)
    assert_rounded(y, expected * wide(gamma).reshape(by_channel) + wide(beta).reshape(by_channel),
                   dtype)
    with pytest.raises(Error, match="12 channels, which options.groups, 5, does not divide"):
        library.call("group_norm", x, y, groups=5)


def test_fused_layernorm_dropout_residual(library, dtype):
    x, residual = normal((6, 40), dtype), normal((6, 40), dtype, 3)
    gamma, beta = normal((40,), dtype, 1), normal((40,), dtype, 2)
    y, kept = np.empty_like(x), np.empty((6, 40), np.uint8)
    drawn = ((WORDS[:240] // 256) * 2.0**-24 < np.float64(np.float32(0.7))).reshape(6, 40)
    given = np.random.default_rng(5).integers(0, 3, (6, 40)).astype(np.uint8)
    inner = normalised(wide(x), -1, 1e-3, wide(gamma), wide(beta)) / np.float64(np.float32(0.7))
    for mask, options in [(drawn, {}), (given != 0, {"mask": given})]:
        library.call("fused_layernorm_dropout_residual", x, residual, y, gamma=gamma, beta=beta,
                     kept=kept, keep=0.7, eps=1e-3, seed=SEED, stream=STREAM, **options)
        assert (kept == mask).all()
        assert_rounded(y, np.where(mask, inner, 0) + wide(residual), dtype)
        assert (y == residual)[~mask].all()


# ---- Losses --------------------------------------------------------------------------------------


def check_loss(library, dtype, name, terms, slopes, p, y, of_second=False, **options):
    """Terms and slopes are arrays of the expected values."""
    for reduction, reduce in enumerate([np.asarray, np.mean, np.sum]):
        expected = reduce(terms)
        loss, gradient = np.empty(expected.shape, np.float32), np.empty_like(p)
        library.call(name, p, y, loss, gradient=gradient, reduction=reduction, **options)
        assert_rounded(loss, expected, "f32", slack=1e-11)
        divisor = terms.size if reduction == 1 else 1
        assert_rounded(gradient, slopes / divisor, dtype, slack=1e-11)


def pair(dtype):
    p, y = normal((5, 40), dtype), normal((5, 40), dtype, 1)
    p[0, :3] = y[0, :3]
    return p, y, wide(p) - wide(y)


def test_loss_mse(library, dtype):
    p, y, d = pair(dtype)
    check_loss(library, dtype, "loss_mse", d**2, 2 * d, p, y)


def test_loss_mae(library, dtype):
    p, y, d = pair(dtype)
    check_loss(library, dtype, "loss_mae", np.abs(d), np.sign(d), p, y)


def test_loss_huber(library, dtype):
    p, y, d = pair(dtype)
    near = np.abs(d) <= 0.75
    check_loss(library, dtype, "loss_huber", np.where(near, d**2 / 2, 0.75 * (np.abs(d) - 0.375)),
               np.clip(d, -0.75, 0.75), p, y, delta=0.75)


def test_loss_kl_div(library, dtype):
    p, q = np.abs(normal((5, 40), dtype)), np.abs(normal((5, 40), dtype, 1))
    p[1, 0] = p[1, 1] = q[1, 1] = 0
    with np.errstate(all="ignore"):
        terms = np.where(wide(p) == 0, 0, wide(p) * np.log(wide(p) / wide(q)))
        slopes = np.where(wide(p) == 0, 0, -wide(p) / wide(q))
    check_loss(library, dtype, "loss_kl_div", terms, slopes, p, q)
    q[2, 3], loss = 0, np.empty((), np.float32)
    library.call("loss_kl_div", p, q, loss)
    assert loss == np.inf


def test_loss_bce(library, dtype):
    y = (normal((5, 40), dtype, 1) > 0).astype(DTYPES[dtype])
    y[0, 0] = 0.25
    z = 3 * normal((5, 40), dtype)
    terms = np.maximum(wide(z), 0) - wide(z) * wide(y) + np.log1p(np.exp(-np.abs(wide(z))))
    check_loss(library, dtype, "loss_bce", terms, 1 / (1 + np.exp(-wide(z))) - wide(y), z, y,
               from_logits=True)
    p = (0.01 + 0.98 * np.random.default_rng(1).random((5, 40))).astype(DTYPES[dtype])
    p[1, :2] = 0, 1
    held = np.clip(wide(p), np.float64(np.float32(1e-7)), 1 - 2.0**-23)
    terms = -(wide(y) * np.log(held) + (1 - wide(y)) * np.log(1 - held))
    check_loss(library, dtype, "loss_bce", terms, (held - wide(y)) / (held * (1 - held)), p, y)


def cross_entropy(z, target, smoothing, ignored):
    """Losses and gradients of rows."""
    weights = np.full(z.shape, smoothing / z.shape[-1])
    weights[np.arange(len(target)), np.clip(target, 0, z.shape[-1] - 1)] += 1 - smoothing
    logs = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
    losses, gradient = -(weights * logs).sum(-1), np.exp(logs) - weights
    losses[target == ignored], gradient[target == ignored] = 0, 0
    return losses, gradient


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("smoothing", [0, 0.125])
def test_loss_cross_entropy(library, dtype, index, smoothing):
    z = 3 * normal((11, 7), dtype)
    target = np.random.default_rng(2).integers(0, 7, 11).astype(index)
    target[4] = -100
    losses, gradients = cross_entropy(wide(z), target, smoothing, -100)
    for reduction, divisor in enumerate([1, 10, 1]):
        loss, gradient = np.empty((11,) if not reduction else (), np.float32), np.empty_like(z)
        library.call("loss_cross_entropy", z, target, loss, gradient=gradient, reduction=reduction,
                     label_smoothing=smoothing)
        assert_rounded(loss, losses.sum() / divisor if reduction else losses, "f32")
        assert_rounded(gradient, gradients / divisor, dtype)
    target[:] = -100
    library.call("loss_cross_entropy", z, target, loss := np.empty((), np.float32))
    assert np.isnan(loss)


def test_loss_cross_entropy_of_rows_far_apart(library):
    """The implementation that is chosen here sums rows about a maximum of several, or again about their own."""
    z = 3 * normal((61, 100), "f32") + np.float32(40) * (np.arange(61) % 13 - 6)[:, None]
    z = z.astype(np.float32)
    z[20], z[33, 5], z[50, 7] = -np.inf, np.inf, np.nan
    target = np.random.default_rng(2).integers(0, 100, 61)
    expected, got = np.empty(61, np.float32), np.empty(61, np.float32)
    library.call("loss_cross_entropy", z, target, expected, reduction=0)
    library.call("loss_cross_entropy", z, target, got, implementation=None, reduction=0)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


def test_fused_softmax_cross_entropy(library, dtype):
    z = 3 * normal((11, 7), dtype)
    target = np.random.default_rng(2).integers(0, 7, 11)
    target[4], target[5], target[6] = 3, 7, -1
    losses, gradients = cross_entropy(wide(z), target, 0, 3)
    losses[5:7], gradients[5:7] = np.nan, np.nan
    loss, gradient = np.empty(11, np.float32), np.empty_like(z)
    library.call("fused_softmax_cross_entropy", z, target, loss, gradient, ignore_index=3)
    assert_rounded(loss, losses, "f32")
    assert_rounded(gradient, gradients, dtype)
    with pytest.raises(Error, match=r"loss has shape \[11\]; with this reduction it is \[\]"):
        library.call("fused_softmax_cross_entropy", z, target, loss, gradient, reduction=1)


# ---- Positions -----------------------------------------------------------------------------------


def turned(x, cos, sin, interleaved):
    """Complex multiplication of the pairs."""
    half = x.shape[-1] // 2
    pairs = x[..., 0::2] + 1j * x[..., 1::2] if interleaved else x[..., :half] + 1j * x[..., half:]
    pairs = pairs * (cos + 1j * sin)
    if interleaved:
        return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)
    return np.concatenate([pairs.real, pairs.imag], -1)


def angles(rows, pairs, base=10000, offset=0):
    return (np.arange(rows)[:, None] + offset) * float(base) ** (-np.arange(pairs) / pairs)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rope_apply(library, dtype, interleaved):
    x = normal((2, 3, 9, 10), dtype)
    y = np.empty_like(x)
    w = angles(9, 5, 500, 1000)
    library.call("rope_apply", x, y, pairing=interleaved, base=500, offset=1000)
    assert_rounded(y, turned(wide(x), np.cos(w), np.sin(w), interleaved), dtype)
    cos, sin = normal((9, 5), "f32", 1), normal((9, 5), "f32", 2)
    library.call("rope_apply", x, y, pairing=interleaved, cos=cos, sin=sin)
    assert_rounded(y, turned(wide(x), wide(cos), wide(sin), interleaved), dtype)


def test_rope_refuses_what_makes_no_pairs(library):
    x, table = normal((4, 6), "f32"), normal((4, 3), "f32")
    with pytest.raises(Error, match="x has rows of 5 elements; pairs ask for an even number"):
        library.call("rope_apply", x[:, :5], np.empty((4, 5), np.float32))
    with pytest.raises(Error, match="cos is given without sin"):
        library.call("rope_apply", x, np.empty_like(x), cos=table)
    with pytest.raises(Error, match=r"sin has shape \[3, 3\]; it is \[4, 3\]"):
        library.call("rope_apply", x, np.empty_like(x), cos=table, sin=table[:3])
    with pytest.raises(Error, match="options.base is 0; it is above 0"):
        library.call("rope_apply", x, np.empty_like(x), base=0)


def test_rope_precompute(library):
    """Far positions against integers: a turn of pair 0 is 2 pi positions, in 60 digits."""
    cos, sin = np.empty((7, 4), np.float32), np.empty((7, 4), np.float32)
    library.call("rope_precompute", cos, sin, base=500, offset=3)
    w = angles(7, 4, 500, 3)
    assert_rounded(cos, np.cos(w), "f32")
    assert_rounded(sin, np.sin(w), "f32")
    far = 2**24 - 7
    two_pi = 6283185307179586476925286766559005768394338798750211641949  # * 10^57
    library.call("rope_precompute", cos, sin, offset=far)
    rest = [(far + p) * 10**57 % two_pi / 10**57 for p in range(7)]
    assert_rounded(cos[:, 0], np.cos(rest), "f32", slack=1e-8)
    assert_rounded(sin[:, 0], np.sin(rest), "f32", slack=1e-8)


def test_alibi_bias(library, dtype):
    scores = normal((2, 3, 5, 7), dtype)
    distance = np.arange(7) - (np.arange(5)[:, None] + 4)
    slopes = normal((3,), "f32", 1)
    for used, options in [(slopes, {"slopes": slopes}), (2.0 ** (-8 * np.arange(1, 4) / 3), {})]:
        expected = wide(scores) + wide(used)[:, None, None] * distance
        result = scores.copy()
        library.call("alibi_bias", result, offset=4, **options)
        assert_rounded(result, expected, dtype)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_fused_rope_attention_mask(library, dtype, interleaved):
    q, k = normal((2, 9, 10), dtype), normal((2, 9, 10), dtype, 1)
    w = angles(9, 5, offset=3)
    scores = np.empty((2, 9, 9), DTYPES[dtype])
    library.call("fused_rope_attention_mask", q, k, scores, pairing=interleaved, offset=3)
    q, k = (turned(wide(x), np.cos(w), np.sin(w), interleaved) for x in (q, k))
    expected = q @ k.swapaxes(-1, -2) / math.sqrt(10)
    expected[:, np.triu(np.ones((9, 9), bool), 1)] = -np.inf
    assert_rounded(scores, expected, dtype)


# ---- Optimizers ----------------------------------------------------------------------------------


def optimizer_state():
    p, g, m = (normal((7, 11), "f32", k) for k in range(3))
    return p, g, m, m * m


def assert_updated(actual, expected):
    """The constants are f32, so that a formula in doubles is met within their rounding."""
    for a, e in zip(actual, expected):
        np.testing.assert_allclose(wide(a), e, rtol=3e-6, atol=1e-12)


def test_opt_sgd(library):
    p, g, _, _ = optimizer_state()
    expected = wide(p) - 0.1 * (wide(g) + 0.3 * wide(p))
    library.call("opt_sgd", p, g, lr=0.1, weight_decay=0.3)
    assert_updated([p], [expected])


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("nesterov", [False, True])
def test_opt_sgd_momentum(library, step, nesterov):
    p, g, v, _ = optimizer_state()
    gradient = wide(g) + 0.3 * wide(p)
    velocity = gradient if step == 1 else 0.8 * wide(v) + 0.75 * gradient
    expected = wide(p) - 0.1 * (gradient + 0.8 * velocity if nesterov else velocity)
    library.call("opt_sgd_momentum", p, g, v, lr=0.1, momentum=0.8, dampening=0.25,
                 nesterov=nesterov, weight_decay=0.3, step=step)
    assert_updated([p, v], [expected, velocity])


@pytest.mark.parametrize("decoupled", [False, True])
def test_opt_adam(library, decoupled):
    p, g, m, v = optimizer_state()
    lr, beta1, beta2, eps, decay, step = 0.1, 0.8, 0.95, 1e-3, 0.3, 7
    gradient = wide(g) + (0 if decoupled else decay * wide(p))
    mean = beta1 * wide(m) + (1 - beta1) * gradient
    square = beta2 * wide(v) + (1 - beta2) * gradient**2
    start = wide(p) * (1 - lr * decay) if decoupled else wide(p)
    expected = start - lr * (mean / (1 - beta1**step)) / (np.sqrt(square / (1 - beta2**step)) + eps)
    library.call("opt_adamw" if decoupled else "opt_adam", p, g, m, v, lr=lr, beta1=beta1,
                 beta2=beta2, eps=eps, weight_decay=decay, step=step)
    assert_updated([p, m, v], [expected, mean, square])


def test_fused_adam_clip_update(library):
    p, g, m, v = optimizer_state()
    clipped, given = np.clip(g, np.float32(-0.3), np.float32(0.3)), g.copy()
    expected = [x.copy() for x in (p, m, v)]
    library.call("opt_adamw", expected[0], clipped, *expected[1:], lr=0.1, step=7)
    library.call("fused_adam_clip_update", p, g, m, v, lr=0.1, step=7, c=0.3)
    assert (g == given).all()
    for actual, wanted in zip((p, m, v), expected):
        assert (actual == wanted).all()


def test_opt_adamw(library):
    p, g, m, v = optimizer_state()
    with pytest.raises(Error, match="options.step is 0; it counts from 1"):
        library.call("opt_adamw", p, g, m, v, step=0)


@pytest.mark.parametrize("most", [1, 1e3])
def test_grad_clip_norm(library, most):
    _, g, _, _ = optimizer_state()
    length = np.linalg.norm(wide(g))
    expected = wide(g) * min(1, most / (length + 1e-6))
    norm = np.empty((), np.float32)
    library.call("grad_clip_norm", g, norm, max_norm=most)
    assert_rounded(g, expected, "f32")
    assert_rounded(norm, length, "f32")


def test_grad_clip_value(library):
    _, g, _, _ = optimizer_state()
    expected = np.clip(g, -np.float32(0.3), np.float32(0.3))
    library.call("grad_clip_value", g, c=0.3)
    assert (g == expected).all()


# ---- Conversions ---------------------------------------------------------------------------------


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


def blocks_of(x, granularity, group):
    """Slices of the elements that share a scale, by the index of the scale."""
    if granularity == 0:
        return {(0,): ...}
    if granularity == 1:
        return {row: row for row in np.ndindex(x.shape[:-1])}
    return {(*row, j): (*row, slice(j * group, (j + 1) * group))
            for row in np.ndindex(x.shape[:-1]) for j in range(-(-x.shape[-1] // group))}


def scales_of(x, granularity, group):
    shape = [(1,), x.shape[:-1], (*x.shape[:-1], -(-x.shape[-1] // group))][granularity]
    return np.empty(shape, np.float32)


@pytest.mark.parametrize("granularity", [0, 1, 2])
def test_quantize_f16_to_i8(library, dtype, granularity):
    x = 3 * normal((2, 3, 80), dtype)
    x[1, 0, :32], x[1, 1, 40] = 0, np.nan if granularity else 1
    q, scale = np.empty(x.shape, np.int8), scales_of(x, granularity, 32)
    library.call("quantize_f16_to_i8", x, q, scale, granularity=granularity)
    for index, block in blocks_of(x, granularity, 32).items():
        values, codes = wide(x)[block], q[block]
        if np.isnan(values).any():
            assert np.isnan(scale[index]) and (codes == 0).all()
            continue
        assert scale[index] == np.float32(np.abs(values).max() / 127)
        expected = np.rint(values / wide(scale)[index]) if scale[index] else 0 * values
        assert (codes == expected).all()


@pytest.mark.parametrize("granularity", [0, 1, 2])
def test_dequantize_i8_to_f16(library, dtype, granularity):
    q = np.random.default_rng(4).integers(-127, 128, (2, 3, 80)).astype(np.int8)
    y, scale = np.empty(q.shape, DTYPES[dtype]), scales_of(q, granularity, 64)
    scale[...] = normal(scale.shape, "f32")
    library.call("dequantize_i8_to_f16", q, scale, y, granularity=granularity, group=64)
    for index, block in blocks_of(q, granularity, 64).items():
        expected = q[block].astype(np.float32) * scale[index]
        assert (y[block] == expected.astype(DTYPES[dtype])).all()


def test_scales_have_the_shape_of_their_granularity(library):
    x = normal((2, 80), "f32")
    q, scale = np.empty(x.shape, np.int8), np.empty(2, np.float32)
    with pytest.raises(Error, match=r"scale has shape \[2\]; with this granularity it is \[2, 3\]"):
        library.call("quantize_f16_to_i8", x, q, scale, granularity=2)
    with pytest.raises(Error, match="options.group is 48; it is one of 32, 64, 128"):
        library.call("quantize_f16_to_i8", x, q, scale, granularity=2, group=48)


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


@functools.cache
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


def central_differences(function, x, step=1e-4):
    """The gradient of a scalar function at x, in double."""
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        middle = x[place]
        x[place] = middle + step
        above = function()
        x[place] = middle - step
        gradient[place] = (above - function()) / (2 * step)
        x[place] = middle
    return gradient


def numerical_gradients(case, q, k, v, dout, arrays):
    """Of sum(dout out) with respect to q, k, v, bias and sinks."""
    points = {"q": wide(q), "k": wide(k), "v": wide(v)}
    points |= {name: wide(arrays[name]) for name in ("bias", "sinks") if name in arrays}

    def objective():
        given = {**arrays, **{name: points[name] for name in ("bias", "sinks") if name in points}}
        total = 0.0
        for b in range(len(q)):
            out, _ = attention(points["q"][b], points["k"][b], points["v"][b],
                               first_head=b * case["hq"], **formula_options(case, given, b))
            total += (wide(dout[b]) * out).sum()
        return total
    return {name: central_differences(objective, x) for name, x in points.items()}


def assert_gradients(actual, expected):
    """out and lse were rounded to f32 on the way."""
    for name, gradient in expected.items():
        slack = 3e-6 * (1 + np.abs(gradient).max(initial=0))
        np.testing.assert_allclose(wide(actual[name]), gradient, 0, slack, err_msg=name)


def backward(library, q, k, v, dout, arrays, options):
    """The library's gradients by name, from its own forward pass."""
    out, lse = np.empty_like(dout), np.empty(q.shape[:-1], np.float32)
    if "cu_seqlens_q" in options:
        lse = np.empty(lse.T.shape, np.float32)
    elif options.get("layout") == BSHD:
        lse = np.empty((q.shape[0], q.shape[2], q.shape[1]), np.float32)
    library.call("attention", q, k, v, out, lse=lse, **options)
    gradients = {"q": np.full_like(q, 7), "k": np.full_like(k, 7), "v": np.full_like(v, 7)}
    optional = {}
    for name in ("bias", "sinks"):
        if name in arrays:
            gradients[name] = optional["d" + name] = np.full_like(arrays[name], 7)
    library.call("attention_backward", q, k, v, out, lse, dout, *list(gradients.values())[:3],
                 **options, **optional)
    return gradients


@functools.cache
def backward_case(name):
    """The case, its q, k, v, dout, its optional arrays, and what the gradients are."""
    case = {**PLAIN, **CASES[name], "d": 4}
    case["dv"] = 5 if "dv" in CASES[name] else 4
    q = normal((2, case["hq"], case["sq"], case["d"]), "f32", 1)
    k = normal((2, case["hkv"], case["sk"], case["d"]), "f32", 2)
    v = normal((2, case["hkv"], case["sk"], case["dv"]), "f32", 3)
    dout = normal((2, case["hq"], case["sq"], case["dv"]), "f32", 4)
    arrays = optional_arrays(case, "f32")
    return case, [q, k, v, dout], arrays, numerical_gradients(case, q, k, v, dout, arrays)


@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
@pytest.mark.parametrize("name", CASES)
def test_attention_backward(library, name, layout):
    case, operands, arrays, expected = backward_case(name)
    options = library_options(case, arrays)
    if layout == "bshd":
        options["layout"] = BSHD
        operands = [np.ascontiguousarray(a.transpose(0, 2, 1, 3)) for a in operands]
    actual = backward(library, *operands, arrays, options)
    if layout == "bshd":
        actual |= {n: actual[n].transpose(0, 2, 1, 3) for n in "qkv"}
    assert_gradients(actual, expected)


def test_attention_backward_ragged(library):
    """Packed sequences, some keys unused, and rows of k and v that belong to no sequence."""
    q_lengths, k_lengths, used = [3, 0, 5, 1], [4, 2, 0, 9], [4, 1, 0, 6]
    q_ends, k_ends = (np.cumsum([0, *n]).astype(np.int32) for n in (q_lengths, k_lengths))
    q, k, v = (normal((n, h, 4), "f32", n + h) for n, h in ((9, 4), (17, 2), (17, 2)))
    dout = normal(q.shape, "f32", 3)
    options = {"cu_seqlens_q": q_ends, "cu_seqlens_k": k_ends, "causal": BOTTOM_RIGHT,
               "seqused_k": np.array(used, np.int32)}
    actual = backward(library, q, k, v, dout, {}, options)
    case = {**PLAIN, "causal": BOTTOM_RIGHT}
    expected = {"q": np.zeros(q.shape), "k": np.zeros(k.shape), "v": np.zeros(v.shape)}
    for b, count in enumerate(used):
        rows, keys = slice(q_ends[b], q_ends[b + 1]), slice(k_ends[b], k_ends[b] + count)
        alone = [x.transpose(1, 0, 2)[None] for x in (q[rows], k[keys], v[keys], dout[rows])]
        gradients = numerical_gradients(case, *alone, {})
        for name, place in (("q", rows), ("k", keys), ("v", keys)):
            expected[name][place] = gradients[name][0].transpose(1, 0, 2)
    assert_gradients(actual, expected)


def codes(shape, dtype, seed):
    """Numbers that fill the range of a quantised cache."""
    values = 32 * np.random.default_rng([seed, *shape]).standard_normal(shape)
    return np.rint(values).clip(-127, 127).astype(np.int8) if dtype == "i8" else values.astype(E4M3)


@pytest.mark.skipif(bfloat16 is None, reason="ml_dtypes is missing, which NumPy needs for e4m3")
@pytest.mark.parametrize("keys, values", [("i8", "i8"), ("e4m3", "e4m3"), ("i8", "e4m3")])
@pytest.mark.parametrize("scale_shape", [(1, 2, 1, 1), (3, 2, 20, 1), (3, 2, 20, 4), (1, 1, 1, 8)])
def test_attention_quantised(library, dtype, keys, values, scale_shape):
    k, v = codes((3, 2, 20, 8), keys, 1), codes((3, 2, 20, 8), values, 2)
    scales = [np.random.default_rng(i).uniform(0.02, 0.05, scale_shape).astype(np.float32)
              for i in (3, 4)]
    q = normal((3, 4, 2, 8), dtype, 5)
    out = np.zeros_like(q)
    library.call("attention", q, k, v, out, k_scale=scales[0], v_scale=scales[1])
    stands_for = [wide(x) * np.repeat(wide(s), 8 // s.shape[3], axis=3)
                  for x, s in zip((k, v), scales)]
    for b in range(3):
        assert_rounded(out[b], attention(q[b], stands_for[0][b], stands_for[1][b])[0], dtype)


def rotated(x, position, rope):
    """x [..., D] at an angle position * 10000^(-2 j / D), pairs as rope_apply has them."""
    size = x.shape[-1]
    angle = position * 10000.0 ** (-2 * np.arange(size // 2) / size)
    pairs = x.reshape(*x.shape[:-1], *((2, size // 2) if rope == 1 else (size // 2, 2)))
    a, b = np.moveaxis(pairs, -2 if rope == 1 else -1, 0)
    pair = a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)
    return np.stack(pair, -2 if rope == 1 else -1).reshape(x.shape)


@pytest.mark.parametrize("rope", [0, 1, 2])
@pytest.mark.parametrize("page_size", [0, 4])
def test_kv_append(library, dtype, rope, page_size):
    k, v = normal((2, 3, 5, 8), dtype, 1), normal((2, 3, 5, 8), dtype, 2)
    positions = np.array([[0, 3, -1, 4, 11], [6, 7, 8, 9, 10]], np.int32)
    shape, options = (2, 3, 12, 8), {"rope": rope}
    if page_size:
        shape = (7, page_size, 3, 8)
        options["block_table"] = np.array([[5, 0, 6], [3, 1, 2]], np.int32)
    caches = [normal(shape, dtype, 3), normal(shape, dtype, 4)]
    expected = [wide(cache) for cache in caches]
    for b, t in np.argwhere(positions >= 0):
        p = positions[b, t]
        place = ((options["block_table"][b, p // page_size], p % page_size) if page_size
                 else (b, slice(None), p))
        new = wide(k[b, :, t])
        expected[0][place] = rotated(new, p, rope) if rope else new
        expected[1][place] = wide(v[b, :, t])
    library.call("kv_append", k, v, positions, *caches, **options)
    for cache, wanted in zip(caches, expected):
        assert_rounded(cache, wanted, dtype)


@pytest.mark.skipif(bfloat16 is None, reason="ml_dtypes is missing, which NumPy needs for e4m3")
@pytest.mark.parametrize("kind, largest", [("i8", 127), ("e4m3", 448)])
@pytest.mark.parametrize("groups", [1, 2])
def test_kv_append_quantised(library, kind, largest, groups):
    k, v = normal((2, 3, 1, 8), "f32", 1), normal((2, 3, 1, 8), "f32", 2)
    v[0, 0] = 0
    positions = np.array([[4], [0]], np.int32)
    caches = [codes((2, 3, 6, 8), kind, seed) for seed in (3, 4)]
    scales = [np.ones((2, 3, 6, groups), np.float32) for _ in caches]
    expected, factors = [c.copy() for c in caches], [s.copy() for s in scales]
    for b in range(2):
        for cache, scale, new in zip(expected, factors, (k, v)):
            x = new[b, :, 0].reshape(3, groups, -1)
            factor = np.abs(x).max(-1) / np.float32(largest)
            ratio = x / np.where(factor == 0, 1, factor)[..., None]
            stored = np.rint(ratio) if kind == "i8" else ratio
            cache[b, :, positions[b, 0]] = stored.reshape(3, 8).astype(cache.dtype)
            scale[b, :, positions[b, 0]] = factor
    library.call("kv_append", k, v, positions, *caches, k_scale=scales[0], v_scale=scales[1])
    for actual, wanted in zip(caches + scales, expected + factors):
        assert (actual.view(np.int8) == wanted.view(np.int8)).all()


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


# ---- Layout, scans, sorting ----------------------------------------------------------------------

WORD_TYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "u32": np.uint32, "i64": np.int64}


@pytest.fixture(params=WORD_TYPES)
def word(request):
    return WORD_TYPES[request.param]


def numbers(shape, dtype, seed=0, most=None):
    """Normals, or integers of the whole range, or below `most`."""
    random = np.random.default_rng([seed, *shape])
    if np.issubdtype(dtype, np.floating):
        return random.standard_normal(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min if most is None else 0, most or limits.max, shape, dtype)


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def transposition(name, shape):
    def test(library, dtype):
        x = normal(shape, dtype)
        x.view(np.uint16 if x.itemsize == 2 else np.uint32)[1, 2, 3] = 0x7f81 if x.itemsize == 2 else 0x7fa12345
        y = np.empty((shape[0], shape[2], shape[1]), x.dtype)
        library.call(name, x, y)
        assert same_bits(y, np.ascontiguousarray(x.swapaxes(1, 2)))
    return test


test_transpose_2d = transposition("transpose_2d", (2, 5, 7))
test_repack_aos_to_soa = transposition("repack_aos_to_soa", (2, 5, 4))
test_repack_soa_to_aos = transposition("repack_soa_to_aos", (2, 4, 5))


def scan(name, inclusive):
    @pytest.mark.parametrize("over", [0, 1])
    def test(library, word, over):
        x = numbers((3, 4, 50), word)
        y = np.empty_like(x)
        library.call(name, x, y, over=over)
        floating = np.issubdtype(word, np.floating)
        flat = (x.reshape(-1) if over else x).astype(np.longdouble if floating else word)
        sums = np.cumsum(flat, -1, dtype=flat.dtype)
        if not inclusive:
            sums = np.concatenate((np.zeros_like(sums[..., :1]), sums[..., :-1]), -1)
        assert same_bits(y, sums.astype(word).reshape(x.shape))
    return test


test_scan_exclusive = scan("scan_exclusive", False)
test_scan_inclusive = scan("scan_inclusive", True)


def assert_compacted(y, count, kept):
    assert count == kept.size and same_bits(y[:kept.size], kept)
    assert (y[kept.size:] == 1).all(), "what follows is touched"


def test_compact_mask(library, word):
    x, mask = numbers((300,), word), numbers((300,), np.uint32, 1, 3).astype(np.uint8)
    y, count = np.ones_like(x), np.empty((), np.int64)
    library.call("compact_mask", x, mask, y, count)
    assert_compacted(y, count, x[mask != 0])


def compaction(name):
    @pytest.mark.parametrize("threshold", [0, 0.75])
    def test(library, word, threshold):
        x = numbers((300,), word)
        x[:3] = 0, 1, 2
        if np.issubdtype(word, np.floating):
            x[5] = np.nan
        y, count = np.ones_like(x), np.empty((), np.int64)
        library.call(name, x, y, count, threshold=threshold)
        rounded = word(threshold) if np.issubdtype(word, np.floating) else word(round(threshold))
        assert_compacted(y, count, x[x > rounded])
    return test


test_compact_if = compaction("compact_if")
test_fused_scan_compact = compaction("fused_scan_compact")


def sortable(shape, dtype):
    """With ties and, of floats, all that has a place of its own in their order."""
    x = numbers(shape, dtype)
    x[..., 10:30] = x[..., 40:60]
    if np.issubdtype(dtype, np.floating):
        x[..., :7] = 0.0, -0.0, np.nan, np.inf, -np.inf, -np.nan, 5e-324 if dtype == np.float64 else 1e-45
    return x


def order_of(x):
    """Stable, along the last axis: by value, -0 before +0, NaN last."""
    sign = ~np.signbit(x) if np.issubdtype(x.dtype, np.floating) else np.zeros(x.shape, bool)
    sign |= np.isnan(x)
    return np.lexsort((sign, x), axis=-1)


def sorting(name):
    def test(library, word):
        x = sortable((3, 200), word)
        y = np.empty_like(x)
        library.call(name, x, y)
        expected = np.take_along_axis(x, order_of(x), -1)
        nan = np.isnan(expected)
        assert (np.isnan(y) == nan).all() and same_bits(y[~nan], expected[~nan])
    return test


test_sort_bitonic = sorting("sort_bitonic")
sort_radix_alone = sorting("sort_radix")


@pytest.mark.parametrize("payload_type", [None, np.uint32, np.int64])
def test_sort_radix(library, word, payload_type):
    if payload_type is None:
        sort_radix_alone(library, word)
        return
    x, payload = sortable((3, 200), word), numbers((3, 200), payload_type)
    y, carried = np.empty_like(x), np.empty_like(payload)
    library.call("sort_radix", x, y, payload=payload, sorted_payload=carried)
    order = order_of(x)
    assert same_bits(y, np.take_along_axis(x, order, -1))
    assert same_bits(carried, np.take_along_axis(payload, order, -1))


def test_sort_bitonic_kv(library, word):
    keys, values = sortable((3, 200), word), numbers((3, 200), np.uint32)
    sorted_keys, carried = np.empty_like(keys), np.empty_like(values)
    library.call("sort_bitonic_kv", keys, values, sorted_keys, carried)
    order = order_of(keys)
    pairs = [np.take_along_axis(a, order, -1) for a in (keys, values)]
    for r in range(3):
        def of(k, v):
            return sorted(zip((a.tobytes() for a in k[r]), v[r].tolist()))
        assert of(sorted_keys, carried) == of(*pairs)
    nan = np.isnan(pairs[0])
    assert same_bits(sorted_keys[~nan], pairs[0][~nan])


@pytest.mark.parametrize("k", [0, 1, 50, 200])
def test_topk_select(library, word, k):
    x = sortable((3, 200), word)
    values, index = np.empty((3, k), word), np.empty((3, k), np.int64)
    library.call("topk_select", x, values, index)
    reverse = x[:, ::-1]
    expected = (199 - order_of(reverse)[:, ::-1])[:, :k]
    assert (index == expected).all()
    assert same_bits(values, np.take_along_axis(x, expected, -1))


def quantile(name, percentages):
    @pytest.mark.parametrize("axis", [None, 0, -1])
    @pytest.mark.parametrize("n", [6, 7])
    def test(library, word, axis, n):
        x = numbers((n, 5, 7), word)
        floating = np.issubdtype(word, np.floating)
        if floating and axis is not None:
            x[3, 1, 2] = np.nan
        exact = x.astype(np.longdouble)
        q = np.array(percentages, np.float64)
        expected = np.percentile(exact, q.astype(np.longdouble), axis=axis)
        expected = np.moveaxis(expected, 0, -1) if len(q) > 1 else expected[0]
        y = np.empty(expected.shape, word if floating else np.float64)
        library.call(name, x, *([q] if len(q) > 1 else []), y,
                     **({} if axis is None else {"axis": axis}))
        largest = np.nanmax(np.abs(exact)).astype(np.float64)
        # h has a few bits less for its fraction than the exact one here
        slack = (2.0**-22 if word == np.float32 else 2.0**-50) * largest
        same = np.abs(y - expected) <= slack
        assert (same | (np.isnan(y) & np.isnan(expected))).all()
    return test


test_median_select = quantile("median_select", [50])
test_percentile_select = quantile("percentile_select", [25, 50, 75, 90, 99])


def test_percentile_out_of_range(library):
    x, y = np.zeros(4, np.float32), np.zeros(1, np.float32)
    with pytest.raises(Error, match=r"q\[0\] is 101; it is in \[0, 100\]"):
        library.call("percentile_select", x, np.array([101.0]), y)
    with pytest.raises(Error, match="values has room for 5 of the largest; x has 4 in a row"):
        library.call("topk_select", x, np.zeros(5, np.float32), np.zeros(5, np.int64))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("bounds", [None, (-1, 1.5), (2, 2)])
def test_reduce_histogram(library, kind, bounds):
    x = numbers((40, 50), kind)
    x[3, :3] = -1, 1.5, 2
    counts, edges = np.empty(10, np.int64), np.empty(11, kind)
    options = {} if bounds is None else {"lo": bounds[0], "hi": bounds[1]}
    library.call("reduce_histogram", x, counts, edges=edges, **options)
    lo, hi = bounds or (float(x.min()), float(x.max()))
    if lo == hi:
        lo, hi = lo - 0.5, hi + 0.5
    expected = np.append(lo + np.arange(10) * ((hi - lo) / 10), hi).astype(kind)
    assert (edges == expected).all()
    assert (counts == np.histogram(x, expected)[0]).all()


def test_histogram_of_nothing_and_of_no_number(library):
    counts, edges = np.empty(4, np.int64), np.empty(5, np.float32)
    library.call("reduce_histogram", np.empty(0, np.float32), counts, edges=edges)
    assert (counts == 0).all() and (edges == [0, 0.25, 0.5, 0.75, 1]).all()
    library.call("reduce_histogram", np.array([1, np.nan], np.float32), counts, edges=edges)
    assert (counts == 0).all() and np.isnan(edges).all()
    library.call("reduce_histogram", np.array([1, np.nan], np.float32), counts, lo=0, hi=2)
    assert counts.tolist() == [0, 0, 1, 0]
    with pytest.raises(Error, match="options.lo is 3, which is more than options.hi, 2"):
        library.call("reduce_histogram", np.zeros(2, np.float32), counts, lo=3, hi=2)


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
