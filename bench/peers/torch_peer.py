"""PyTorch on the processor, eager, as its manual writes these calls."""

import numpy as np
import torch
from case import attention_parameters, Call, reduction_axis, refuse_lse


def versions():
    return {"torch": torch.__version__}


def tensor(array):
    """A tensor over the same memory."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def ready(case, *names):
    torch.set_num_threads(case.threads)
    return [tensor(array) for array in case.arrays(*names)]


class Kept:
    """For functions without out=: keeps the last result, as a program would."""

    def __init__(self, function, target):
        self.function, self.target, self.value = function, target, None

    def run(self):
        self.value = self.function()

    def store(self):
        self.target.copy_(self.value)

    def call(self):
        return Call(torch.inference_mode()(self.run), torch.inference_mode()(self.store))


def attention(case):
    causal, scale = attention_parameters(case)
    q, k, v, out = ready(case, "q", "k", "v", "out")
    options = {"is_causal": causal, "scale": scale}
    if q.shape[1] != k.shape[1]:
        options["enable_gqa"] = True
    function = torch.nn.functional.scaled_dot_product_attention
    return Kept(lambda: function(q, k, v, **options), out).call()


def attention_merge(case):
    refuse_lse(case)
    parts, lses, out = ready(case, "parts", "part_lses", "out")

    def function():
        weights = torch.softmax(lses, 0).to(parts.dtype)
        return torch.einsum("pbhs,pbhsd->bhsd", weights, parts)
    return Kept(function, out).call()


def softmax_stable(case):
    x, y = ready(case, "x", "y")
    return Call(lambda: torch.softmax(x, -1, out=y))


def layer_norm(case):
    x, y = ready(case, "x", "y")
    gamma, beta = (tensor(case[name]) if name in case.tensors else None
                   for name in ("gamma", "beta"))
    shape, epsilon = x.shape[-1:], case.parameters["eps"]
    function = torch.nn.functional.layer_norm
    return Kept(lambda: function(x, shape, gamma, beta, epsilon), y).call()


# ---- Elementwise and activations ---------------------------------------------------------------


def elementwise(function, *inputs):
    """A function that takes the inputs and out=."""
    def line(case):
        *arrays, y = ready(case, *inputs, "y")
        return Call(lambda: function(*arrays, out=y))
    return line


def activation(function):
    """function(x, parameters), which has no out=."""
    def line(case):
        x, y = ready(case, "x", "y")
        return Kept(lambda: function(x, case.parameters), y).call()
    return line


def map_gelu(case):
    x, y = ready(case, "x", "y")
    approximate = case.parameters["approximate"]
    gelu = torch.nn.functional.gelu
    return Call(lambda: gelu(x, approximate=approximate, out=y))


def map_clamp(case):
    x, y = ready(case, "x", "y")
    low, high = case.parameters["lo"], case.parameters["hi"]
    return Call(lambda: torch.clamp(x, low, high, out=y))


map_exp = elementwise(torch.exp, "x")
map_log = elementwise(torch.log, "x")
map_sigmoid = elementwise(torch.sigmoid, "x")
map_tanh = elementwise(torch.tanh, "x")
map_softplus = activation(lambda x, _: torch.nn.functional.softplus(x))
map_abs = elementwise(torch.abs, "x")
map_add = elementwise(torch.add, "a", "b")
map_mul = elementwise(torch.mul, "a", "b")
map_div = elementwise(torch.div, "a", "b")
map_compare = elementwise(torch.gt, "a", "b")
map_fma = elementwise(lambda a, b, c, out: torch.addcmul(c, a, b, out=out), "a", "b", "c")
map_relu = activation(lambda x, _: torch.relu(x))
map_leaky_relu = activation(lambda x, p: torch.nn.functional.leaky_relu(x, p["slope"]))
map_elu = activation(lambda x, p: torch.nn.functional.elu(x, p["alpha"]))
map_silu = activation(lambda x, _: torch.nn.functional.silu(x))
map_mish = activation(lambda x, _: torch.nn.functional.mish(x))


# ---- Reductions --------------------------------------------------------------------------------


def reduction(function):
    """A function that takes axes and out=."""
    def line(case):
        x, y = ready(case, "x", "y")
        axis = reduction_axis(case)
        axes = tuple(range(x.dim())) if axis is None else axis
        return Call(lambda: function(x, axes, out=y))
    return line


def with_correction(function):
    def line(case):
        x, y = ready(case, "x", "y")
        axis, correction = reduction_axis(case), case.parameters["correction"]
        return Call(lambda: function(x, axis, correction=correction, out=y))
    return line


def place(function):
    def line(case):
        x, index = ready(case, "x", "index")
        axis = reduction_axis(case)
        return Call(lambda: function(x, axis, out=index))
    return line


reduce_sum = reduction(torch.sum)
reduce_mean = reduction(torch.mean)
reduce_min = reduction(torch.amin)
reduce_max = reduction(torch.amax)
reduce_l2 = reduction(lambda x, axes, out: torch.linalg.vector_norm(x, 2, axes, out=out))
reduce_var = with_correction(torch.var)
reduce_stddev = with_correction(torch.std)
reduce_argmax = place(torch.argmax)
reduce_argmin = place(torch.argmin)


# ---- Map-reduce, dot products, correlation ----------------------------------------------------


def folded(name, function, *inputs):
    """output = function(inputs, axis, parameters); all axes are None."""
    def line(case):
        *tensors, output = ready(case, *inputs, name)
        axis = reduction_axis(case)
        return Kept(lambda: function(*tensors, axis, case.parameters), output).call()
    return line


def mean_of(x, axis):
    return x.mean() if axis is None else x.mean(axis, keepdim=True)


def covariance(x, y, axis, parameters):
    n = x.numel() if axis is None else x.shape[axis]
    return ((x - mean_of(x, axis)) * (y - mean_of(y, axis))).sum(axis) / max(
        n - parameters["correction"], 0)


def correlation(x, y, axis, parameters):
    if axis is None:
        return torch.corrcoef(torch.stack((x.flatten(), y.flatten())))[0, 1]
    dx, dy = x - mean_of(x, axis), y - mean_of(y, axis)
    return (dx * dy).sum(axis) / (dx.square().sum(axis).sqrt() * dy.square().sum(axis).sqrt())


def norm(order):
    return lambda x, axis, _: torch.linalg.vector_norm(x, order, axis, dtype=torch.float32)


map_reduce_square_sum = folded(
    "y", lambda x, axis, p: torch.dot(x.flatten(), x.flatten())
    if axis is None and x.dtype == torch.float32 else norm(2)(x, axis, p).square(), "x")
map_reduce_abs_sum = folded("y", norm(1), "x")
map_reduce_masked_sum = folded(
    "y", lambda x, mask, axis, _: torch.where(mask.to(torch.bool), x, 0).sum(
        axis, dtype=torch.float32), "x", "mask")
map_reduce_threshold_count = folded(
    "count", lambda x, axis, p: torch.count_nonzero(x > p["threshold"], axis), "x")
dot_batched = folded("y", lambda a, b, axis, _: torch.linalg.vecdot(a.float(), b.float()), "a", "b")
cosine_similarity = folded(
    "y", lambda a, b, axis, p: torch.nn.functional.cosine_similarity(
        a.float(), b.float(), -1, p["eps"]), "a", "b")
reduce_covariance = folded("c", covariance, "x", "y")
reduce_correlation = folded("r", correlation, "x", "y")
reduce_weighted_sum = folded(
    "y", lambda x, w, axis, _: torch.dot(x.flatten(), w.flatten())
    if axis is None else (x * w).sum(axis), "x", "w")
reduce_weighted_mean = folded(
    "y", lambda x, w, axis, _: (x * w).sum(axis) / w.sum(axis), "x", "w")


def quantize_f32_to_f16(case):
    x, y = ready(case, "x", "y")
    return Call(lambda: y.copy_(x))
