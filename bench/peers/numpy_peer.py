"""NumPy: what someone without a framework writes, in place and without temporaries."""

import time

import numpy as np
from case import (append_places, attention_parameters, BACKWARD, Call, fastest, reduction_axis,
                  refuse_lse, Unserved)


try:
    import scipy
    import scipy.fft
    import scipy.signal
    from scipy import linalg as scipy_linalg
    from scipy import sparse as scipy_sparse
except ImportError:
    scipy = scipy_linalg = scipy_sparse = None


def versions():
    return {"numpy": np.__version__, **({"scipy": scipy.__version__} if scipy else {})}


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


def attention_backward(case):
    """A head at a time, with p rebuilt from lse: the lines of the definition, in place."""
    case.serve_only("float32")
    causal, scale = attention_parameters(case, BACKWARD)
    q, k, v, out, lse, dout, dq, dk, dv = case.arrays("q", "k", "v", "out", "lse", "dout", "dq",
                                                      "dk", "dv")
    b, hq, sq, d = q.shape
    hkv, sk = k.shape[1:3]
    scale = np.float32(scale)
    mask = np.triu(np.full((sq, sk), -np.inf, np.float32), 1) if causal else None
    p, ds = np.empty((sq, sk), np.float32), np.empty((sq, sk), np.float32)

    def head(i, h, g):
        np.matmul(q[i, h], k[i, g].T, out=p)
        np.multiply(p, scale, out=p)
        np.subtract(p, lse[i, h, :, None], out=p)
        if mask is not None:
            np.add(p, mask, out=p)
        np.exp(p, out=p)
        np.matmul(dout[i, h], v[i, g].T, out=ds)
        np.subtract(ds, np.einsum("sd,sd->s", dout[i, h], out[i, h])[:, None], out=ds)
        np.multiply(ds, p, out=ds)
        np.multiply(ds, scale, out=ds)
        np.matmul(ds, k[i, g], out=dq[i, h])
        dk[i, g] += ds.T @ q[i, h]
        dv[i, g] += p.T @ dout[i, h]

    def run():
        dk.fill(0)
        dv.fill(0)
        for i in range(b):
            for h in range(hq):
                head(i, h, h * hkv // hq)
    return Call(run)


def kv_append(case):
    batch, position, token = append_places(case)
    k, v, k_cache, v_cache = case.arrays("k", "v", "k_cache", "v_cache")

    def run():
        k_cache[batch, :, position] = k[batch, :, token]
        v_cache[batch, :, position] = v[batch, :, token]
    return Call(run)


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


softmax_online = softmax_stable


def log_softmax(case):
    case.serve_only("float32")
    x, y = case.arrays("x", "y")
    t = np.empty_like(x)

    def run():
        np.subtract(x, x.max(axis=-1, keepdims=True), out=y)
        np.exp(y, out=t)
        np.subtract(y, np.log(t.sum(axis=-1, keepdims=True)), out=y)
    return Call(run)


def rms_norm(case):
    case.serve_only("float32")
    x, y = case.arrays("x", "y")
    epsilon, gamma = np.float32(case.parameters["eps"]), case.tensors.get("gamma")

    def run():
        mean = np.vecdot(x, x)[..., None] / np.float32(x.shape[-1])
        np.divide(x, np.sqrt(mean + epsilon), out=y)
        if gamma is not None:
            np.multiply(y, gamma, out=y)
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


def by_channel(case, name, x):
    """gamma or beta, to be broadcast along x [B, C, ...]; None if it is not given."""
    values = case.tensors.get(name)
    return None if values is None else values.reshape(-1, *[1] * (x.ndim - 2))


def batch_norm(case):
    case.serve_only("float32")
    case.refuse_options(statistics="training")
    if "mean" in case.tensors or "var" in case.tensors:
        raise Unserved("no adapter for mean and var")
    x, y = case.arrays("x", "y")
    axes, epsilon = (0, *range(2, x.ndim)), np.float32(case.parameters["eps"])
    gamma, beta = (by_channel(case, name, x) for name in ("gamma", "beta"))
    square = np.empty_like(x)

    def run():
        np.subtract(x, x.mean(axis=axes, keepdims=True), out=y)
        np.square(y, out=square)
        factor = 1 / np.sqrt(square.mean(axis=axes, keepdims=True) + epsilon)
        np.multiply(y, factor if gamma is None else factor * gamma, out=y)
        if beta is not None:
            np.add(y, beta, out=y)
    return Call(run)


def group_norm(case):
    case.serve_only("float32")
    x, y = case.arrays("x", "y")
    epsilon, groups = np.float32(case.parameters["eps"]), int(case.parameters["groups"])
    gamma, beta = (by_channel(case, name, x) for name in ("gamma", "beta"))
    by_group = (x.shape[0], groups, -1)
    square = np.empty(x.shape, x.dtype).reshape(by_group)

    def run():
        source, target = x.reshape(by_group), y.reshape(by_group)
        np.subtract(source, source.mean(axis=-1, keepdims=True), out=target)
        np.square(target, out=square)
        np.divide(target, np.sqrt(square.mean(axis=-1, keepdims=True) + epsilon), out=target)
        if gamma is not None:
            np.multiply(y, gamma, out=y)
        if beta is not None:
            np.add(y, beta, out=y)
    return Call(run)


def fused_layernorm_dropout_residual(case):
    """With a generator of NumPy's own: the same work, other elements; so only with a mask are the
    results compared."""
    case.serve_only("float32", "uint8")
    if "mask" not in case.tensors or "kept" in case.tensors:
        raise Unserved("draws other masks")
    x, residual, y, mask = case.arrays("x", "residual", "y", "mask")
    epsilon, keep = np.float32(case.parameters["eps"]), np.float32(case.parameters["keep"])
    gamma, beta = case.tensors.get("gamma"), case.tensors.get("beta")
    square, kept = np.empty_like(x), mask.view(np.bool_)

    def run():
        np.subtract(x, x.mean(axis=-1, keepdims=True), out=y)
        np.square(y, out=square)
        np.divide(y, np.sqrt(square.mean(axis=-1, keepdims=True) + epsilon), out=y)
        if gamma is not None:
            np.multiply(y, gamma, out=y)
        if beta is not None:
            np.add(y, beta, out=y)
        np.divide(y, keep, out=y)
        np.multiply(y, kept, out=y)
        np.add(y, residual, out=y)
    return Call(run)


# ---- Losses ------------------------------------------------------------------------------------


REDUCTIONS = {"none": lambda terms: terms, "mean": np.mean, "sum": np.sum}


def loss(second="y"):
    """terms(p, y, t, s, parameters): the terms in t, with s for more; no gradient."""
    def decorate(terms):
        def line(case):
            case.serve_only("float32")
            if "gradient" in case.tensors:
                raise Unserved("gradients")
            p, y, result = case.arrays("p", second, "loss")
            t, s = np.empty_like(p), np.empty_like(p)
            reduce = REDUCTIONS[case.parameters["reduction"]]

            def run():
                terms(p, y, t, s, case.parameters)
                result[...] = reduce(t)
            return Call(run)
        return line
    return decorate


@loss()
def loss_mse(p, y, t, s, parameters):
    np.subtract(p, y, out=t)
    np.square(t, out=t)


@loss()
def loss_mae(p, y, t, s, parameters):
    np.subtract(p, y, out=t)
    np.abs(t, out=t)


@loss()
def loss_huber(p, y, t, s, parameters):
    delta = np.float32(parameters["delta"])
    np.subtract(p, y, out=t)
    np.abs(t, out=t)
    np.minimum(t, delta, out=s)  # s (d - s/2) is both branches
    np.subtract(t, s * np.float32(0.5), out=t)
    np.multiply(t, s, out=t)


@loss("q")
def loss_kl_div(p, q, t, s, parameters):
    np.divide(p, q, out=t)
    np.log(t, out=t)
    np.multiply(t, p, out=t)


@loss()
def loss_bce(p, y, t, s, parameters):
    if parameters["from_logits"]:
        raise Unserved("from_logits")
    np.clip(p, np.float32(1e-7), np.float32(1 - 2.0**-23), out=s)
    np.log(s, out=t)
    np.multiply(t, y, out=t)
    np.subtract(np.float32(1), s, out=s)
    np.log(s, out=s)
    np.multiply(s, np.float32(1) - y, out=s)
    np.add(t, s, out=t)
    np.negative(t, out=t)


def loss_cross_entropy(case):
    case.serve_only("float32", "int64", "int32")
    case.refuse_options(label_smoothing=0)
    z, target, result = case.arrays("z", "target", "loss")
    gradient = case.tensors.get("gradient")
    reduction = case.parameters["reduction"]
    reduce, rows = REDUCTIONS[reduction], np.arange(len(target))
    t = np.empty_like(z) if gradient is None else gradient
    scale = np.float32(1 / len(target) if reduction == "mean" else 1)

    def run():
        maximum = z.max(axis=-1, keepdims=True)
        np.subtract(z, maximum, out=t)
        chosen = t[rows, target]
        np.exp(t, out=t)
        sums = t.sum(axis=-1, keepdims=True)
        result[...] = reduce(np.log(sums[:, 0]) - chosen)
        if gradient is not None:
            np.divide(t, sums, out=t)
            t[rows, target] -= 1
            if scale != 1:
                np.multiply(t, scale, out=t)
    return Call(run)


fused_softmax_cross_entropy = loss_cross_entropy


# ---- Positions ---------------------------------------------------------------------------------


def rope_tables(case):
    if "cos" not in case.tensors:
        raise Unserved("computes no tables here")
    case.refuse_options(pairing="half")
    return case.arrays("cos", "sin")


def turn(x, cos, sin, y, t):
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    np.multiply(a, cos, out=y[..., :half])
    np.multiply(b, sin, out=t)
    np.subtract(y[..., :half], t, out=y[..., :half])
    np.multiply(a, sin, out=y[..., half:])
    np.multiply(b, cos, out=t)
    np.add(y[..., half:], t, out=y[..., half:])


def rope_apply(case):
    case.serve_only("float32")
    x, y = case.arrays("x", "y")
    cos, sin = rope_tables(case)
    t = np.empty((*x.shape[:-1], x.shape[-1] // 2), x.dtype)
    return Call(lambda: turn(x, cos, sin, y, t))


def rope_precompute(case):
    cos, sin = case.arrays("cos", "sin")
    rows, pairs = cos.shape
    base, offset = case.parameters["base"], case.parameters["offset"]

    def run():
        turns = float(base) ** (-np.arange(pairs) / pairs)
        angles = (np.arange(rows)[:, None] + offset) * turns
        cos[...] = np.cos(angles)
        sin[...] = np.sin(angles)
    return Call(run)


def alibi_bias(case):
    case.serve_only("float32")
    if "slopes" in case.tensors:
        raise Unserved("slopes of one's own")
    scores = case["scores"]
    heads, queries, keys = scores.shape[-3:]
    offset = case.parameters["offset"]

    def run():
        slopes = (2.0 ** (-8 * np.arange(1, heads + 1) / heads)).astype(np.float32)
        distance = np.arange(keys, dtype=np.float32) - np.arange(
            offset, queries + offset, dtype=np.float32)[:, None]
        np.add(scores, slopes[:, None, None] * distance, out=scores)
    return Call(run)


def fused_rope_attention_mask(case):
    case.serve_only("float32")
    q, k, scores = case.arrays("q", "k", "A")
    cos, sin = rope_tables(case)
    t = np.empty((*q.shape[:-1], q.shape[-1] // 2), q.dtype)
    turned_q, turned_k = np.empty_like(q), np.empty_like(k)
    above = np.triu(np.full(scores.shape[-2:], -np.inf, np.float32), 1)
    scale = np.float32(q.shape[-1] ** -0.5)

    def run():
        turn(q, cos, sin, turned_q, t)
        turn(k, cos, sin, turned_k, t)
        np.matmul(turned_q, np.swapaxes(turned_k, -1, -2), out=scores)
        np.multiply(scores, scale, out=scores)
        np.add(scores, above, out=scores)
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


def reduction(function):
    """A function that takes axis= and out=."""
    def line(case):
        case.serve_only("float32", "float64")
        x, y = case.arrays("x", "y")
        axis = reduction_axis(case)
        return Call(lambda: function(x, axis=axis, out=y))
    return line


def with_correction(function):
    def line(case):
        case.serve_only("float32", "float64")
        x, y = case.arrays("x", "y")
        axis, correction = reduction_axis(case), case.parameters["correction"]
        return Call(lambda: function(x, axis=axis, out=y, ddof=correction))
    return line


def place(function):
    def line(case):
        case.serve_only("float32", "float64", "int64")
        x, index = case.arrays("x", "index")
        axis = reduction_axis(case)
        return Call(lambda: function(x, axis=axis, out=index))
    return line


def reduce_l2(case):
    case.serve_only("float32", "float64")
    x, y = case.arrays("x", "y")
    axis = reduction_axis(case)

    def run():
        y[...] = np.linalg.norm(x.ravel() if axis is None else x, axis=axis)
    return Call(run)


reduce_sum = reduction(np.sum)
reduce_mean = reduction(np.mean)
reduce_min = reduction(np.min)
reduce_max = reduction(np.max)
reduce_var = with_correction(np.var)
reduce_stddev = with_correction(np.std)
reduce_argmax = place(np.argmax)
reduce_argmin = place(np.argmin)


# ---- Optimizers --------------------------------------------------------------------------------


def settings(case, *names):
    return [np.float32(case.parameters[name]) for name in names]


def opt_sgd(case):
    p, g = case.arrays("p", "g")
    lr, decay = settings(case, "lr", "weight_decay")
    t = np.empty_like(p)

    def run():
        if decay:
            np.multiply(p, decay, out=t)
            np.add(t, g, out=t)
            np.multiply(t, lr, out=t)
        else:
            np.multiply(g, lr, out=t)
        np.subtract(p, t, out=p)
    return Call(run)


def opt_sgd_momentum(case):
    case.refuse_options(nesterov=False, weight_decay=0, dampening=0)
    p, g, v = case.arrays("p", "g", "v")
    lr, momentum = settings(case, "lr", "momentum")
    t = np.empty_like(p)
    if case.parameters["step"] == 1:
        raise Unserved("the first step")

    def run():
        np.multiply(v, momentum, out=v)
        np.add(v, g, out=v)
        np.multiply(v, lr, out=t)
        np.subtract(p, t, out=p)
    return Call(run)


def adam(decoupled):
    def line(case):
        p, g, m, v = case.arrays("p", "g", "m", "v")
        lr, beta1, beta2, eps, decay = (
            case.parameters[name] for name in ("lr", "beta1", "beta2", "eps", "weight_decay"))
        if decay and not decoupled:
            raise Unserved(f"weight_decay = {decay}")
        step, f32 = case.parameters["step"], np.float32
        rate, root = f32(lr / (1 - beta1**step)), f32((1 - beta2**step) ** -0.5)
        t, s = np.empty_like(p), np.empty_like(p)

        def run():
            np.multiply(m, f32(beta1), out=m)
            np.multiply(g, f32(1 - beta1), out=t)
            np.add(m, t, out=m)
            np.multiply(v, f32(beta2), out=v)
            np.multiply(g, g, out=t)
            np.multiply(t, f32(1 - beta2), out=t)
            np.add(v, t, out=v)
            np.sqrt(v, out=t)
            np.multiply(t, root, out=t)
            np.add(t, f32(eps), out=t)
            np.divide(m, t, out=s)
            np.multiply(s, rate, out=s)
            if decoupled:
                np.multiply(p, f32(1 - lr * decay), out=p)
            np.subtract(p, s, out=p)
        return Call(run)
    return line


opt_adam = adam(False)
opt_adamw = adam(True)


def fused_adam_clip_update(case):
    """Clips a copy, since the gradient is only read, and then updates."""
    p, g, m, v = case.arrays("p", "g", "m", "v")
    c, clipped = np.float32(case.parameters["c"]), np.empty_like(g)
    case.tensors["g"] = clipped
    update = opt_adamw(case).run
    case.tensors["g"] = g

    def run():
        np.clip(g, -c, c, out=clipped)
        update()
    return Call(run)


def grad_clip_norm(case):
    g, norm = case.arrays("g", "norm")
    flat = g.ravel()

    def run():
        norm[...] = np.sqrt(np.dot(flat, flat))
        factor = case.parameters["max_norm"] / (norm + np.float32(1e-6))
        if factor < 1:
            np.multiply(g, np.float32(factor), out=g)
    return Call(run)


def grad_clip_value(case):
    g, c = case["g"], np.float32(case.parameters["c"])
    return Call(lambda: np.clip(g, -c, c, out=g))


# ---- Map-reduce, dot products, correlation ----------------------------------------------------


def map_reduce_square_sum(case):
    case.serve_only("float32")
    x, y = case.arrays("x", "y")
    if reduction_axis(case) is not None:
        raise Unserved("one axis")
    flat = x.ravel()

    def run():
        y[...] = np.dot(flat, flat)
    return Call(run)


def map_reduce_abs_sum(case):
    case.serve_only("float32")
    x, y = case.arrays("x", "y")
    t, axis = np.empty_like(x), reduction_axis(case)

    def run():
        np.abs(x, out=t)
        np.sum(t, axis=axis, out=y)
    return Call(run)


def map_reduce_masked_sum(case):
    case.serve_only("float32", "uint8", "bool")
    x, mask, y = case.arrays("x", "mask", "y")
    axis, where = reduction_axis(case), mask.view(np.bool_)
    return Call(lambda: np.sum(x, axis=axis, where=where, out=y))


def map_reduce_threshold_count(case):
    case.serve_only("float32", "int64")
    x, count = case.arrays("x", "count")
    t, axis = np.empty(x.shape, np.bool_), reduction_axis(case)
    threshold = np.float32(case.parameters["threshold"])

    def run():
        np.greater(x, threshold, out=t)
        count[...] = np.count_nonzero(t, axis=axis)
    return Call(run)


def dot_batched(case):
    case.serve_only("float32")
    a, b, y = case.arrays("a", "b", "y")
    return Call(lambda: np.vecdot(a, b, out=y))


def cosine_similarity(case):
    case.serve_only("float32")
    a, b, y = case.arrays("a", "b", "y")
    eps = np.float32(case.parameters["eps"])

    def run():
        norms = (np.maximum(np.sqrt(np.vecdot(v, v)), eps) for v in (a, b))
        np.divide(np.vecdot(a, b), np.multiply(*norms), out=y)
    return Call(run)


def reduce_covariance(case):
    case.serve_only("float32", "float64")
    x, y, c = case.arrays("x", "y", "c")
    axis = reduction_axis(case)
    n = x.size if axis is None else x.shape[axis]
    divisor = max(n - case.parameters["correction"], 0)

    def run():
        dx, dy = (v - v.mean(axis=axis, keepdims=True) for v in (x, y))
        np.multiply(dx, dy, out=dx)
        np.divide(dx.sum(axis=axis), x.dtype.type(divisor), out=c)
    return Call(run)


def reduce_correlation(case):
    case.serve_only("float32", "float64")
    x, y, r = case.arrays("x", "y", "r")
    if reduction_axis(case) is not None:
        raise Unserved("one axis")

    def run():
        r[...] = np.corrcoef(x.ravel(), y.ravel())[0, 1]
    return Call(run)


def reduce_weighted_sum(case):
    case.serve_only("float32", "float64")
    x, w, y = case.arrays("x", "w", "y")
    axis = reduction_axis(case)

    def run():
        if axis is None:
            y[...] = np.dot(x.ravel(), w.ravel())
        else:
            np.sum(x * w, axis=axis, out=y)
    return Call(run)


def reduce_weighted_mean(case):
    case.serve_only("float32", "float64")
    x, w, y = case.arrays("x", "w", "y")
    axis = reduction_axis(case)

    def run():
        y[...] = np.average(x, axis=axis, weights=w)
    return Call(run)


def matrices_of(x):
    """The matrices of the leading axes, one after the other."""
    return x.reshape(-1, *x.shape[-2:])


def reduce_covariance_matrix(case):
    case.serve_only("float32", "float64")
    x, c = case.arrays("x", "c")
    correction = case.parameters["correction"]

    def run():
        for part, to in zip(matrices_of(x), matrices_of(c)):
            to[...] = np.cov(part, rowvar=False, ddof=correction, dtype=x.dtype)
    return Call(run)


def reduce_pearson_pairwise(case):
    case.serve_only("float32", "float64")
    x, r = case.arrays("x", "r")

    def run():
        for part, to in zip(matrices_of(x), matrices_of(r)):
            to[...] = np.corrcoef(part, rowvar=False, dtype=x.dtype)
    return Call(run)


# ---- Linear algebra -----------------------------------------------------------------------------


def spmv_csr(case):
    value, column, rowptr, x, y = case.arrays("value", "column", "rowptr", "x", "y")
    if scipy_sparse is None:
        raise Unserved("SciPy is missing")
    matrix = scipy_sparse.csr_matrix((value, column, rowptr), shape=(y.size, x.size), copy=False)

    def run():
        y[...] = matrix @ x
    return Call(run)


def turned(a, flag):
    return np.swapaxes(a, -1, -2) if flag else a


def matvec(case):
    a, x, y = case.arrays("a", "x", "y")
    a = turned(a, case.parameters["transpose"])
    return Call(lambda: np.matmul(a, x[..., None], out=y[..., None]))


def outer_product(case):
    a, b, y = case.arrays("a", "b", "y")
    return Call(lambda: np.multiply(a[..., :, None], b[..., None, :], out=y))


def matmul_batched(case):
    p, (a, b, y) = case.parameters, case.arrays("a", "b", "y")
    a, b = turned(a, p["transpose_a"]), turned(b, p["transpose_b"])
    alpha, beta = y.dtype.type(p["alpha"]), y.dtype.type(p["beta"])

    def run():
        np.matmul(a, b, out=y)
        if alpha != 1:
            np.multiply(y, alpha, out=y)
        if beta and "c" in case.tensors:
            np.add(y, beta * case["c"], out=y)
    return Call(run)


def triangular_solve(case):
    p, (l, b, x) = case.parameters, case.arrays("l", "b", "x")
    if scipy_linalg is None:
        raise Unserved("SciPy is missing")

    def run():
        for matrix, right, to in zip(matrices_of(l), matrices_of(b), matrices_of(x)):
            to[...] = scipy_linalg.solve_triangular(
                matrix, right, lower=p["triangle"] == "lower",
                unit_diagonal=bool(p["unit_diagonal"]), check_finite=False)
    return Call(run)


# ---- Simulation ---------------------------------------------------------------------------------


def add_neighbours(u, dimensions, out):
    """The sum of the neighbours of every cell along the last dimensions, by slices: np.roll copies."""
    out[...] = 0
    for axis in range(-dimensions, 0):
        there, here = np.moveaxis(u, axis, 0), np.moveaxis(out, axis, 0)
        np.add(here[1:], there[:-1], out=here[1:])
        np.add(here[:1], there[-1:], out=here[:1])
        np.add(here[:-1], there[1:], out=here[:-1])
        np.add(here[-1:], there[:1], out=here[-1:])


def periodic_alone(case):
    if case.parameters["boundary"] != "periodic":
        raise Unserved("edges that are held")


def sim_heat_equation(case):
    periodic_alone(case)
    (u, y), steps = case.arrays("u", "y"), case.parameters["steps"]
    now, bent, r = np.empty_like(u), np.empty_like(u), u.dtype.type(case.parameters["r"])

    def run():
        for step in range(steps):
            if step:
                np.copyto(now, y)
            field = now if step else u
            add_neighbours(field, 2, y)
            np.multiply(field, 4, out=bent)
            np.subtract(y, bent, out=y)
            np.multiply(y, r, out=y)
            np.add(y, field, out=y)
    return Call(run)


def sim_wave_equation(case):
    periodic_alone(case)
    if case.parameters["steps"] != 1 or "before" in case.tensors:
        raise Unserved("several steps")
    u, previous, y = case.arrays("u", "previous", "y")
    part, c2 = np.empty_like(u), u.dtype.type(case.parameters["c2"])

    def run():
        add_neighbours(u, 2, y)
        np.multiply(u, 4, out=part)
        np.subtract(y, part, out=y)
        np.multiply(y, c2, out=y)
        np.multiply(u, 2, out=part)
        np.subtract(part, previous, out=part)
        np.add(y, part, out=y)
    return Call(run)


def sim_stencil(dimensions):
    def line(case):
        u, y = case.arrays("u", "y")
        factor = u.dtype.type(1 / (2 * dimensions))

        def run():
            add_neighbours(u, dimensions, y)
            np.multiply(y, factor, out=y)
        return Call(run)
    return line


sim_stencil_2d = sim_stencil(2)
sim_stencil_3d = sim_stencil(3)


def integrate_rk4(case):
    (y, out), p = case.arrays("y", "out"), case.parameters
    k, dt = y.dtype.type(-p["k"]), y.dtype.type(p["dt"])

    def run():
        x = y
        for _ in range(p["steps"]):
            k1 = k * x
            k2 = k * (x + dt / 2 * k1)
            k3 = k * (x + dt / 2 * k2)
            k4 = k * (x + dt * k3)
            x = x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        np.copyto(out, x)
    return Call(run)


def integrate_verlet(case):
    (x, v), p = case.arrays("x", "v"), case.parameters
    k, dt = x.dtype.type(-p["k"]), x.dtype.type(p["dt"])

    def run():
        a = k * x
        for _ in range(p["steps"]):
            np.add(x, v * dt + a * (dt * dt / 2), out=x)
            after = k * x
            np.add(v, (a + after) * (dt / 2), out=v)
            a = after
    return Call(run)


def one_scale(case):
    case.refuse_options(granularity="tensor")


def quantize_f16_to_i8(case):
    """In f32, since NumPy computes with halves one at a time."""
    case.serve_only("float32", "float16", "int8")
    one_scale(case)
    x, q, scale = case.arrays("x", "q", "scale")
    t = np.empty(x.shape, np.float32)

    def run():
        np.copyto(t, x)
        scale[0] = max(t.max(), -t.min()) / np.float32(127)
        np.divide(t, scale[0], out=t)
        np.rint(t, out=t)
        np.copyto(q, t, casting="unsafe")
    return Call(run)


def dequantize_i8_to_f16(case):
    case.serve_only("float32", "float16", "int8")
    one_scale(case)
    q, scale, y = case.arrays("q", "scale", "y")
    return Call(lambda: np.multiply(q, scale[0], out=y, dtype=np.float32, casting="unsafe"))


def quantize_f32_to_f16(case):
    case.serve_only("float32", "float16")
    x, y = case.arrays("x", "y")
    return Call(lambda: np.copyto(y, x, casting="same_kind"))


# ---- Transforms and signals --------------------------------------------------------------------


class Kept:
    """For functions without out=: keeps the last result, as a program would."""

    def __init__(self, function, target):
        self.function, self.target, self.value = function, target, None

    def run(self):
        self.value = self.function()

    def store(self):
        np.copyto(self.target, self.value, casting="same_kind")

    def call(self):
        return Call(self.run, self.store)


def transform(case, source, target, ours, theirs):
    """NumPy's function into out=, or SciPy's, which may take several threads."""
    x, y = case.arrays(source, target)
    ways = [lambda: Call(lambda: ours(x, out=y))]
    if scipy:
        ways.append(lambda: Kept(lambda: theirs(x, workers=case.threads), y).call())
    return fastest(case, ways, seconds)


def fft(case):
    inverse = case.parameters["direction"] == "inverse"
    return transform(case, "z", "Z", np.fft.ifft if inverse else np.fft.fft,
                     scipy and (scipy.fft.ifft if inverse else scipy.fft.fft))


def fft_real(case):
    return transform(case, "x", "X", np.fft.rfft, scipy and scipy.fft.rfft)


def spectral_power(case):
    z, p = case.arrays("Z", "P")
    t = np.empty_like(p)

    def run():
        np.square(z.real, out=p)
        np.square(z.imag, out=t)
        np.add(p, t, out=p)
    return Call(run)


def one_row(*arrays):
    """The only row of each; NumPy's convolutions are of vectors."""
    for array in arrays:
        if array.size != array.shape[-1]:
            raise Unserved("more than one row")
    return [array.reshape(-1) for array in arrays]


def conv1d(case):
    x, h, y = one_row(*case.arrays("x", "h", "y"))
    mode, taps = case.parameters["mode"], h.size

    def run():
        full = np.convolve(x, h[::-1], "full" if mode != "valid" else "valid")
        start = taps - 1 - taps // 2 if mode == "same" else 0
        np.copyto(y, full[start:start + y.size])
    return Call(run)


def fir_filter(case):
    x, b, y = one_row(*case.arrays("x", "b", "y"))
    one = np.ones(1, np.float32)
    ways = [lambda: Kept(lambda: np.convolve(x, b)[:x.size], y).call()]
    if scipy:
        ways.append(lambda: Kept(lambda: scipy.signal.lfilter(b, one, x), y).call())
    return fastest(case, ways, seconds)


def window_apply(case):
    x, y = case.arrays("x", "y")
    make = {"hann": np.hanning, "hamming": np.hamming, "blackman": np.blackman}
    make = make[case.parameters["window"]]
    return Call(lambda: np.multiply(x, make(x.shape[-1]).astype(np.float32), out=y))


def by_numpy(x, h, conjugate, shift, y):
    """A function that convolves by real transforms of a power of two."""
    length = 1 << (x.size + h.size - 2).bit_length()

    def run():
        a = np.fft.rfft(x, length)
        b = a if h is x else np.fft.rfft(h, length)
        np.multiply(a, np.conj(b) if conjugate else b, out=a)
        full = np.fft.irfft(a, length)
        np.copyto(y, np.roll(full, shift)[:y.size], casting="same_kind")
    return run


def fft_conv1d(case):
    x, h, y = one_row(*case.arrays("x", "h", "y"))
    ways = [lambda: Call(by_numpy(x, h, False, 0, y))]
    if scipy:
        ways.append(lambda: Kept(lambda: scipy.signal.oaconvolve(x, h)[:x.size], y).call())
        ways.append(lambda: Kept(lambda: scipy.signal.fftconvolve(x, h)[:x.size], y).call())
    return fastest(case, ways, seconds)


def autocorrelation(case):
    x, r = one_row(*case.arrays("x", "r"))
    ways = [lambda: Call(by_numpy(x, x, True, 0, r))]
    if scipy:
        ways.append(lambda: Kept(
            lambda: scipy.signal.correlate(x, x, method="fft")[x.size - 1:], r).call())
    return fastest(case, ways, seconds)


def cross_correlation(case):
    x, y, r = one_row(*case.arrays("x", "y", "r"))
    ways = [lambda: Call(by_numpy(x, y, True, y.size - 1, r))]
    if scipy:
        ways.append(lambda: Kept(lambda: scipy.signal.correlate(x, y, method="fft"), r).call())
    return fastest(case, ways, seconds)


# NumPy's own generators have other sequences, so that these are Philox4x32-10 in array arithmetic.

def philox_words(case, count):
    """A function that makes the first `count` words."""
    seed, stream = (int(case.parameters[name]) & (1 << 64) - 1 for name in ("seed", "stream"))
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    mask = np.uint64(0xffffffff)
    words = np.empty((len(blocks), 4), np.uint32)

    def make():
        c = [blocks & mask, blocks >> np.uint64(32), np.uint64(stream) & mask,
             np.uint64(stream >> 32)]
        k = [seed & 0xffffffff, seed >> 32]
        for _ in range(10):
            a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
            c = [b >> np.uint64(32) ^ c[1] ^ np.uint64(k[0]), b & mask,
                 a >> np.uint64(32) ^ c[3] ^ np.uint64(k[1]), a & mask]
            k = [k[0] + 0x9E3779B9 & 0xffffffff, k[1] + 0xBB67AE85 & 0xffffffff]
        for i in range(4):
            words[:, i] = c[i]
        return words.reshape(-1)[:count]
    return make


def uniforms(words):
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def prng_philox(case):
    y, = case.arrays("y")
    words = philox_words(case, y.size)
    return Call(lambda: np.copyto(y, words().reshape(y.shape)))


def prng_uniform(case):
    y, = case.arrays("y")
    case.serve_only("float32")
    words = philox_words(case, y.size)
    return Call(lambda: np.copyto(y, uniforms(words()).reshape(y.shape)))


def prng_normal(case):
    y, = case.arrays("y")
    words = philox_words(case, y.size + y.size % 2)

    def run():
        pairs = words().reshape(-1, 2)
        radius = np.sqrt(-2 * np.log(uniforms(pairs[:, 0]) + np.float32(2**-24)))
        angle = 2 * np.pi * uniforms(pairs[:, 1]).astype(np.float64)  # cosines of f32 lose zeros
        both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        np.copyto(y, both.reshape(-1)[:y.size].reshape(y.shape))
    return Call(run)


def prng_dropout_mask(case):
    y, = case.arrays("y")
    words, keep = philox_words(case, y.size), np.float32(case.parameters["keep"])
    return Call(lambda: np.less(uniforms(words()).reshape(y.shape), keep, out=y.view(bool)))


def monte_carlo_integrate(case):
    n, (estimate, error) = case.parameters["n"], case.arrays("estimate", "error")
    if n < 2:
        raise Unserved("fewer than two points")
    wide = estimate.dtype == np.float64
    words = philox_words(case, 2 * n if wide else n)

    def run():
        w = words()
        if wide:
            x = (w.view(np.uint64) >> np.uint64(11)) * 2.0**-53
        else:
            x = (w >> np.uint32(8)) * np.float32(2**-24)
        f = 4 / (1 + x * x)
        estimate[...] = f.mean()
        error[...] = f.std(ddof=1) / np.sqrt(n)
    return Call(run)


# ---- Layout, scans, sorting --------------------------------------------------------------------


def transpose_2d(case):
    x, y = case.arrays("x", "y")
    return Call(lambda: np.copyto(y, np.swapaxes(x, -1, -2)))


repack_aos_to_soa = repack_soa_to_aos = transpose_2d


def along(case, *arrays):
    """Arrays and the axis of a scan."""
    if case.parameters["over"] == "all":
        arrays = [array.reshape(-1) for array in arrays]
    return arrays


def scan_inclusive(case):
    x, y = along(case, *case.arrays("x", "y"))
    return Call(lambda: np.cumsum(x, axis=-1, dtype=x.dtype, out=y))


def scan_exclusive(case):
    x, y = along(case, *case.arrays("x", "y"))

    def run():
        y[..., 0] = 0
        np.cumsum(x[..., :-1], axis=-1, dtype=x.dtype, out=y[..., 1:])
    return Call(run)


def compact_mask(case):
    x, mask, y, count = case.arrays("x", "mask", "y", "count")
    keep = mask.view(np.bool_)

    def run():
        kept = x[keep]
        y[:kept.size] = kept
        count[...] = kept.size
    return Call(run)


def compact_if(case):
    x, y, count = case.arrays("x", "y", "count")
    threshold = x.dtype.type(case.parameters["threshold"])

    def run():
        kept = x[x > threshold]
        y[:kept.size] = kept
        count[...] = kept.size
    return Call(run)


fused_scan_compact = compact_if


def sorted_by(kind):
    def line(case):
        if "payload" in case.tensors:
            raise Unserved("a payload")
        x, y = case.arrays("x", "y")

        def run():
            np.copyto(y, x)
            y.sort(axis=-1, kind=kind)
        return Call(run)
    return line


# Its stable sort of 32 bits is slower than the other, which a user who needs no stability takes.
sort_bitonic = sort_radix = sorted_by(None)


def sort_bitonic_kv(case):
    keys, values, sorted_keys, sorted_values = case.arrays("keys", "values", "sorted_keys",
                                                           "sorted_values")

    def run():
        order = np.argsort(keys, axis=-1)
        np.copyto(sorted_keys, np.take_along_axis(keys, order, -1))
        np.copyto(sorted_values, np.take_along_axis(values, order, -1))
    return Call(run)


def topk_select(case):
    x, values, index = case.arrays("x", "values", "index")
    k, n = values.shape[-1], x.shape[-1]
    if k == 0:
        raise Unserved("none of the largest")

    def run():
        best = np.argpartition(x, n - k, axis=-1)[..., n - k:]
        kept = np.take_along_axis(x, best, -1)
        order = np.lexsort((best, -kept), axis=-1)
        index[...] = np.take_along_axis(best, order, -1)
        values[...] = np.take_along_axis(kept, order, -1)
    return Call(run)


def median_select(case):
    x, y = case.arrays("x", "y")
    axis = reduction_axis(case)

    def run():
        y[...] = np.median(x, axis=axis)
    return Call(run)


def percentile_select(case):
    x, q, y = case.arrays("x", "q", "y")
    axis = reduction_axis(case)

    def run():
        y[...] = np.moveaxis(np.percentile(x, q, axis=axis), 0, -1)
    return Call(run)


def reduce_histogram(case):
    x, counts = case.arrays("x", "counts")
    lo, hi = case.parameters["lo"], case.parameters["hi"]
    if (lo is None) != (hi is None):
        raise Unserved("one of two bounds")
    bounds, edges = None if lo is None else (lo, hi), case.tensors.get("edges")

    def run():
        counts[...], places = np.histogram(x, counts.size, bounds)
        if edges is not None:
            edges[...] = places
    return Call(run)
