"""NumPy: what someone without a framework writes, in place and without temporaries."""

import time

import numpy as np
from case import attention_parameters, Call, fastest, reduction_axis, refuse_lse, Unserved


def versions():
    return {"numpy": np.__version__}


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def attend(q, k, v, out, scores, mask, scale):
    """The textbook lines over whatever leading axes there are; q is already in f32."""
    np.matmul(q, np.swapaxes(k, -1, -2), out=scores)
    scores *= scale
    if mask is not None:
        scores += mask
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    np.matmul(scores, v, out=out)


def attention(case):
    case.serve_only("float32", "float16")
    causal, scale = attention_parameters(case)
    given = case.arrays("q", "k", "v", "out")
    b, hq, sq, d = given[0].shape
    hkv, sk = given[1].shape[1:3]
    scale = np.float32(scale)
    mask = np.triu(np.full((sq, sk), -np.inf, np.float32), 1) if causal else None
    half = given[0].dtype == np.float16
    # There is no matrix product of halves in BLAS, so they are widened, inside the timer.
    wide = [np.empty(a.shape, np.float32) for a in given] if half else given
    # Grouped-query attention is broadcasting: heads of a group stand on an axis of their own.
    q = wide[0].reshape(b, hkv, hq // hkv, sq, d)
    k, v = (a.reshape(b, hkv, 1, sk, a.shape[3]) for a in wide[1:3])
    out = wide[3].reshape(b, hkv, hq // hkv, sq, -1)

    def around(body):
        def run():
            for source, target in zip(given[:3], wide[:3]):
                np.copyto(target, source)
            body()
            np.copyto(given[3], out.reshape(given[3].shape), casting="same_kind")
        return run if half else body

    arithmetic = "f32" if half else ""

    def whole():
        scores = np.empty((b, hkv, hq // hkv, sq, sk), np.float32)
        return Call(around(lambda: attend(q, k, v, out, scores, mask, scale)),
                    arithmetic=arithmetic)

    def by_head():
        scores = np.empty((sq, sk), np.float32)

        def body():
            for i in range(b):
                for g in range(hkv):
                    for h in range(hq // hkv):
                        attend(q[i, g, h], k[i, g, 0], v[i, g, 0], out[i, g, h], scores, mask,
                               scale)
        return Call(around(body), arithmetic=arithmetic)

    if 4 * b * hq * sq * sk > 1 << 30:
        return by_head()
    return fastest(case, [by_head, whole], seconds, 2)


def attention_merge(case):
    case.serve_only("float32")
    parts, lses, out = case.arrays("parts", "part_lses", "out")
    refuse_lse(case)
    weights, product = np.empty_like(lses), np.empty_like(parts)

    def run():
        np.subtract(lses, lses.max(axis=0), out=weights)
        np.exp(weights, out=weights)
        np.divide(weights, weights.sum(axis=0), out=weights)
        np.multiply(parts, weights[..., None], out=product)
        product.sum(axis=0, out=out)
    return Call(run)


def softmax_stable(case):
    case.serve_only("float32")
    x, y = case.arrays("x", "y")

    def run():
        np.subtract(x, x.max(axis=-1, keepdims=True), out=y)
        np.exp(y, out=y)
        np.divide(y, y.sum(axis=-1, keepdims=True), out=y)
    return Call(run)


def layer_norm(case):
    case.serve_only("float32")
    x, y = case.arrays("x", "y")
    epsilon = np.float32(case.parameters["eps"])
    gamma, beta = case.tensors.get("gamma"), case.tensors.get("beta")
    square = np.empty_like(x)

    def run():
        np.subtract(x, x.mean(axis=-1, keepdims=True), out=y)
        np.square(y, out=square)
        np.divide(y, np.sqrt(square.mean(axis=-1, keepdims=True) + epsilon), out=y)
        if gamma is not None:
            np.multiply(y, gamma, out=y)
        if beta is not None:
            np.add(y, beta, out=y)
    return Call(run)


# ---- Elementwise and activations ---------------------------------------------------------------


def elementwise(function, *inputs):
    """A function that takes the inputs and out=."""
    def line(case):
        case.serve_only("float32", "float16")
        arrays, y = case.arrays(*inputs), case["y"]
        return Call(lambda: function(*arrays, out=y))
    return line


def of_one(body):
    """y = body(x, y, t, parameters): in place, with one temporary."""
    def line(case):
        case.serve_only("float32")
        x, y = case.arrays("x", "y")
        t = np.empty_like(x)
        return Call(lambda: body(x, y, t, case.parameters))
    return line


@of_one
def map_sigmoid(x, y, t, parameters):
    np.negative(x, out=y)
    np.exp(y, out=y)
    np.add(y, np.float32(1), out=y)
    np.reciprocal(y, out=y)


@of_one
def map_silu(x, y, t, parameters):
    np.negative(x, out=t)
    np.exp(t, out=t)
    np.add(t, np.float32(1), out=t)
    np.divide(x, t, out=y)


@of_one
def map_mish(x, y, t, parameters):
    np.logaddexp(x, np.float32(0), out=t)
    np.tanh(t, out=t)
    np.multiply(x, t, out=y)


@of_one
def map_elu(x, y, t, parameters):
    np.minimum(x, np.float32(0), out=t)
    np.expm1(t, out=t)
    np.multiply(t, np.float32(parameters["alpha"]), out=t)
    np.maximum(x, np.float32(0), out=y)
    np.add(y, t, out=y)


@of_one
def map_leaky_relu(x, y, t, parameters):
    np.multiply(x, np.float32(parameters["slope"]), out=t)
    np.maximum(x, t, out=y)


def map_gelu(case):
    case.serve_only("float32")
    x, y = case.arrays("x", "y")
    t = np.empty_like(x)

    def tanh():
        np.multiply(x, x, out=t)
        np.multiply(t, np.float32(0.044715), out=t)
        np.add(t, np.float32(1), out=t)
        np.multiply(t, x, out=t)
        np.multiply(t, np.float32(0.7978845608028654), out=t)
        np.tanh(t, out=t)
        np.add(t, np.float32(1), out=t)
        np.multiply(t, x, out=t)
        np.multiply(t, np.float32(0.5), out=y)

    if case.parameters["approximate"] == "tanh":
        return Call(tanh)
    raise Unserved("NumPy has no erf")


def map_clamp(case):
    case.serve_only("float32", "float16")
    x, y = case.arrays("x", "y")
    low, high = (x.dtype.type(case.parameters[name]) for name in ("lo", "hi"))
    return Call(lambda: np.clip(x, low, high, out=y))


def map_softplus(case):
    case.serve_only("float32", "float16")
    x, y = case.arrays("x", "y")
    zero = x.dtype.type(0)
    return Call(lambda: np.logaddexp(x, zero, out=y))


def map_relu(case):
    case.serve_only("float32", "float16")
    x, y = case.arrays("x", "y")
    zero = x.dtype.type(0)
    return Call(lambda: np.maximum(x, zero, out=y))


def map_compare(case):
    case.serve_only("float32", "float16", "uint8")
    a, b, y = case.arrays("a", "b", "y")
    return Call(lambda: np.greater(a, b, out=y, casting="unsafe"))


def map_fma(case):
    case.serve_only("float32")
    a, b, c, y = case.arrays("a", "b", "c", "y")

    def run():
        np.multiply(a, b, out=y)
        np.add(y, c, out=y)
    return Call(run)


map_exp = elementwise(np.exp, "x")
map_log = elementwise(np.log, "x")
map_tanh = elementwise(np.tanh, "x")
map_abs = elementwise(np.abs, "x")
map_add = elementwise(np.add, "a", "b")
map_mul = elementwise(np.multiply, "a", "b")
map_div = elementwise(np.divide, "a", "b")


# ---- Reductions --------------------------------------------------------------------------------


def reduce_sum(case):
    case.serve_only("float32", "float64")
    x, y = case.arrays("x", "y")
    axis = reduction_axis(case)
    return Call(lambda: np.sum(x, axis=axis, out=y))


def quantize_f32_to_f16(case):
    case.serve_only("float32", "float16")
    x, y = case.arrays("x", "y")
    return Call(lambda: np.copyto(y, x, casting="same_kind"))
