"""PyTorch, eager, as its manual writes these calls: on the processor, or on a CUDA device."""

import time

import numpy as np
import torch
from case import (append_places, attention_parameters, BACKWARD, Call, reduction_axis, refuse_lse,
                  Unserved)
from device import Device, samples

WAYS = {"attention": ["cudnn", "flash", "efficient", "math"]}  # on a device, each forced by name
LARGEST_SCORES = 8e9  # bytes that the way «math» may take for one tensor of scores
on_device = None  # the Cuda below, where that is the place


def versions():
    return {"torch": torch.__version__}


class Cuda(Device):
    def __init__(self):
        torch.set_default_device("cuda")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.flushed = None
        self.forget()

    def forget(self):
        self.tensors = {}  # by set, address and dtype: a tensor of the processor, and its copy
        torch.cuda.empty_cache()

    def copy(self, array):
        address = array.__array_interface__["data"][0]
        what = address, array.dtype.name, array.shape
        key = self.set, *what
        if key not in self.tensors:
            if self.set:
                here, there = self.tensors[0, *what]
                there = there.clone()
            else:
                here = host_tensor(array)
                there = self.poison(here) if address in self.poisoned else here.to("cuda")
            self.tensors[key] = here, there
        return self.tensors[key][1]

    @staticmethod
    def poison(here):
        if here.nbytes < 1 << 20 or not here.is_contiguous():
            return here.to("cuda")
        there = torch.full((here.nbytes,), 0xA5, dtype=torch.uint8, device="cuda")
        return there.view(here.dtype).view(here.shape)

    def bring_back(self, array):
        for key, (here, there) in self.tensors.items():
            if key[:2] == (0, array.__array_interface__["data"][0]):
                here.copy_(there)

    def repeated(self, run, count):
        # As torch.cuda.graph does, but that gives all memory back before, which takes a tenth of a second.
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        torch.cuda.synchronize()
        try:
            with torch.cuda.stream(stream):
                graph.capture_begin()
                try:
                    for _ in range(count):
                        run()
                finally:
                    graph.capture_end()
        except RuntimeError:  # it waits for the device, so it cannot be captured
            torch.cuda.synchronize()
            return super().repeated(run, count)
        return graph.replay

    def synchronize(self):
        torch.cuda.synchronize()

    def event(self):
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start, end):
        return start.elapsed_time(end) / 1e3

    def flush(self, count):
        if self.flushed is None or self.flushed.numel() != count:
            self.flushed = torch.empty(count, dtype=torch.uint8)
        self.flushed.zero_()


def device():
    global on_device
    on_device = Cuda()
    return on_device


def ceilings(device):
    """What matrix products of 8192 rows and columns reach, of normal numbers, after a rest."""
    reached = {}
    for name, dtype in (("matmul_bf16", torch.bfloat16), ("matmul_f16", torch.float16)):
        a, b = (torch.randn(8192, 8192).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        for _ in range(3):
            torch.matmul(a, b, out=out)
        torch.cuda.synchronize()
        time.sleep(0.2)
        best = min(samples(device, lambda: torch.matmul(a, b, out=out), 20, 0))
        reached[name] = 2 * 8192**3 / best
    return reached


def tensor(array):
    """A tensor over the same memory, or its copy on the device, of which there is one."""
    return on_device.copy(array) if on_device else host_tensor(array)


def host_tensor(array):
    if array.dtype.name == "float8_e4m3fn":
        return torch.from_numpy(array.view(np.uint8)).view(torch.float8_e4m3fn)
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


def forced(way, function):
    """Attention by one of its backends, which declines by an error."""
    from torch.nn.attention import sdpa_kernel, SDPBackend
    backend = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION,
               "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}[way]

    def call(*tensors, **options):
        try:
            with sdpa_kernel(backend):
                return function(*tensors, **options)
        except RuntimeError as error:
            if "No available kernel" in str(error):
                raise Unserved(f"{way} takes other calls") from None
            raise
    return call


def attention(case):
    causal, scale = attention_parameters(case, ("k_scale", "v_scale"))
    q, k, v, out = ready(case, "q", "k", "v", "out")
    options = {"is_causal": causal, "scale": scale}
    if q.shape[1] != k.shape[1]:
        options["enable_gqa"] = True
    function = torch.nn.functional.scaled_dot_product_attention
    if case.way == "math" and 4 * q.shape[:3].numel() * k.shape[2] > LARGEST_SCORES:
        raise Unserved("its scores would not fit")
    if case.way:
        function = forced(case.way, function)
    if k.dtype == q.dtype and v.dtype == q.dtype:
        return Kept(lambda: function(q, k, v, **options), out).call()

    # It has no attention over a quantised cache: what its users write is a conversion before it.
    def wide(name):
        stored = tensor(case[name])
        if name + "_scale" not in case.tensors:
            return stored.to(q.dtype)
        factor = tensor(case[name + "_scale"])
        if factor.shape[-1] != 1:
            raise Unserved("scales of parts of a row")
        return stored.to(q.dtype).mul_(factor.to(q.dtype))
    return Kept(lambda: function(q, wide("k"), wide("v"), **options), out).call()


def kv_append(case):
    places = append_places(case)
    k, v, k_cache, v_cache = ready(case, "k", "v", "k_cache", "v_cache")
    batch, position, token = (torch.from_numpy(index).to(k.device) for index in places)

    def run():
        k_cache[batch, :, position] = k[batch, :, token]
        v_cache[batch, :, position] = v[batch, :, token]
    return Call(torch.inference_mode()(run))


def attention_backward(case):
    """Autograd through scaled_dot_product_attention; the forward pass is not timed."""
    causal, scale = attention_parameters(case, BACKWARD)
    q, k, v, dout, *targets = ready(case, "q", "k", "v", "dout", "dq", "dk", "dv")
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(
        *inputs, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    kept = {}

    def run():
        kept["gradients"] = torch.autograd.grad(out, inputs, dout, retain_graph=True)

    def store():
        for target, gradient in zip(targets, kept["gradients"]):
            target.copy_(gradient)
    return Call(run, store)


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


softmax_online = softmax_stable


def log_softmax(case):
    x, y = ready(case, "x", "y")
    return Call(lambda: torch.log_softmax(x, -1, out=y))


def rms_norm(case):
    x, y = ready(case, "x", "y")
    gamma = tensor(case["gamma"]) if "gamma" in case.tensors else None
    shape, epsilon = x.shape[-1:], case.parameters["eps"]
    function = torch.nn.functional.rms_norm
    return Kept(lambda: function(x, shape, gamma, epsilon), y).call()


def layer_norm(case):
    x, y = ready(case, "x", "y")
    gamma, beta = (tensor(case[name]) if name in case.tensors else None
                   for name in ("gamma", "beta"))
    shape, epsilon = x.shape[-1:], case.parameters["eps"]
    function = torch.nn.functional.layer_norm
    return Kept(lambda: function(x, shape, gamma, beta, epsilon), y).call()


def weights(case):
    return (tensor(case[name]) if name in case.tensors else None for name in ("gamma", "beta"))


def batch_norm(case):
    if "mean" in case.tensors or "var" in case.tensors:
        raise Unserved("its running variance has the divisor n-1")
    case.refuse_options(statistics="training")
    x, y = ready(case, "x", "y")
    gamma, beta = weights(case)
    function, epsilon = torch.nn.functional.batch_norm, case.parameters["eps"]
    return Kept(lambda: function(x, None, None, gamma, beta, True, 0.0, epsilon), y).call()


def group_norm(case):
    x, y = ready(case, "x", "y")
    gamma, beta = weights(case)
    function, epsilon = torch.nn.functional.group_norm, case.parameters["eps"]
    return Kept(lambda: function(x, int(case.parameters["groups"]), gamma, beta, epsilon), y).call()


def fused_layernorm_dropout_residual(case):
    if "mask" not in case.tensors or "kept" in case.tensors:
        raise Unserved("draws other masks")
    x, residual, y, mask = ready(case, "x", "residual", "y", "mask")
    gamma, beta = weights(case)
    shape, epsilon = x.shape[-1:], case.parameters["eps"]
    function, kept = torch.nn.functional.layer_norm, mask.view(torch.bool)
    factor = 1 / case.parameters["keep"]
    return Kept(lambda: torch.addcmul(residual, function(x, shape, gamma, beta, epsilon), kept,
                                      value=factor), y).call()


# ---- Losses ------------------------------------------------------------------------------------


def loss(function, second="y"):
    """function(p, y, reduction, parameters); its gradient by autograd, in the timer."""
    def line(case):
        p, y, result = ready(case, "p", second, "loss")
        reduction = case.parameters["reduction"]
        if "gradient" in case.tensors:
            raise Unserved("gradients")
        return Kept(lambda: function(p, y, reduction, case.parameters), result).call()
    return line


def kl_div(p, q, reduction, parameters):
    return torch.nn.functional.kl_div(q.log(), p, reduction=reduction)


def bce(p, y, reduction, parameters):
    functional = torch.nn.functional
    name = "binary_cross_entropy_with_logits" if parameters["from_logits"] else "binary_cross_entropy"
    return getattr(functional, name)(p, y, reduction=reduction)


loss_mse = loss(lambda p, y, r, _: torch.nn.functional.mse_loss(p, y, reduction=r))
loss_mae = loss(lambda p, y, r, _: torch.nn.functional.l1_loss(p, y, reduction=r))
loss_huber = loss(lambda p, y, r, o: torch.nn.functional.huber_loss(p, y, r, o["delta"]))
loss_kl_div = loss(kl_div, "q")
loss_bce = loss(bce)


def loss_cross_entropy(case):
    z, target, result = ready(case, "z", "target", "loss")
    if target.dtype != torch.int64:
        raise Unserved("targets of int32")
    options = {"reduction": case.parameters["reduction"],
               "ignore_index": int(case.parameters["ignore_index"]),
               "label_smoothing": case.parameters.get("label_smoothing", 0.0)}
    function = torch.nn.functional.cross_entropy
    if "gradient" not in case.tensors:
        return Kept(lambda: function(z, target, **options), result).call()
    gradient, logits = tensor(case["gradient"]), z.detach().requires_grad_()
    ones = torch.ones_like(result)
    kept = {}

    def run():
        value = function(logits, target, **options)
        kept["loss"] = value.detach()
        kept["gradient"], = torch.autograd.grad(value, logits, ones.to(value.dtype))

    def store():
        result.copy_(kept["loss"])
        gradient.copy_(kept["gradient"])
    return Call(run, store)


fused_softmax_cross_entropy = loss_cross_entropy


# ---- Positions ---------------------------------------------------------------------------------


def rope_tables(case):
    """Over the whole row, as the models of its users keep them."""
    if "cos" not in case.tensors:
        raise Unserved("computes no tables here")
    case.refuse_options(pairing="half")
    return (torch.cat([table, table], -1) for table in ready(case, "cos", "sin"))


def turn(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos.to(x.dtype) + torch.cat([-x[..., half:], x[..., :half]], -1) * sin.to(x.dtype)


def rope_apply(case):
    cos, sin = rope_tables(case)
    x, y = ready(case, "x", "y")
    if x.dtype != torch.float32:
        raise Unserved("rounds every product to the half")
    return Kept(lambda: turn(x, cos, sin), y).call()


def rope_precompute(case):
    cos, sin = ready(case, "cos", "sin")
    rows, pairs = cos.shape
    base, offset = case.parameters["base"], case.parameters["offset"]

    def run():
        turns = base ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        angles = torch.outer(torch.arange(rows, dtype=torch.float64) + offset, turns)
        cos.copy_(angles.cos())
        sin.copy_(angles.sin())
    return Call(torch.inference_mode()(run))


def alibi_bias(case):
    if "slopes" in case.tensors:
        raise Unserved("slopes of one's own")
    scores, = ready(case, "scores")
    if scores.dtype != torch.float32:
        raise Unserved("rounds the bias to the half")
    heads, queries, keys = scores.shape[-3:]
    offset = case.parameters["offset"]

    def run():
        slopes = 2.0 ** (-8 * torch.arange(1, heads + 1, dtype=torch.float32) / heads)
        distance = torch.arange(keys, dtype=torch.float32) - torch.arange(
            offset, queries + offset, dtype=torch.float32)[:, None]
        scores.add_(slopes[:, None, None] * distance)
    return Call(torch.inference_mode()(run))


def fused_rope_attention_mask(case):
    cos, sin = rope_tables(case)
    q, k, scores = ready(case, "q", "k", "A")
    if q.dtype != torch.float32:
        raise Unserved("rounds every product to the half")
    above = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    scale = q.shape[-1] ** -0.5

    def run():
        torch.matmul(turn(q, cos, sin) * scale, turn(k, cos, sin).transpose(-1, -2), out=scores)
        scores.masked_fill_(above, -torch.inf)
    return Call(torch.inference_mode()(run))


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


# ---- Optimizers --------------------------------------------------------------------------------


def optimizer(make, *states):
    """One step of make(parameters, options), whose state are the tensors of these arguments."""
    def line(case):
        p, g = ready(case, "p", "g")
        p = torch.nn.Parameter(p)
        p.grad = g
        instance = make([p], case.parameters)
        for name, key in states:
            instance.state[p][key] = tensor(case[name])
        if "step" in case.parameters:
            instance.state[p]["step"] = torch.tensor(float(case.parameters["step"] - 1))
        return Call(instance.step)
    return line


def sgd(parameters, p):
    return torch.optim.SGD(parameters, p["lr"], weight_decay=p["weight_decay"], fused=True)


def momentum(parameters, p):
    if p["step"] == 1:
        raise Unserved("the first step")
    return torch.optim.SGD(parameters, p["lr"], p["momentum"], p["dampening"], p["weight_decay"],
                           p["nesterov"], fused=True)


def adam(which):
    def make(parameters, p):
        return which(parameters, p["lr"], (p["beta1"], p["beta2"]), p["eps"], p["weight_decay"],
                     fused=True, capturable=on_device is not None)
    return make


opt_sgd = optimizer(sgd)
opt_sgd_momentum = optimizer(momentum, ("v", "momentum_buffer"))
opt_adam = optimizer(adam(torch.optim.Adam), ("m", "exp_avg"), ("v", "exp_avg_sq"))
opt_adamw = optimizer(adam(torch.optim.AdamW), ("m", "exp_avg"), ("v", "exp_avg_sq"))


def fused_adam_clip_update(case):
    """Clips a copy, since the gradient is only read, and then steps."""
    p, g = ready(case, "p", "g")
    p, clipped, c = torch.nn.Parameter(p), torch.empty_like(g), case.parameters["c"]
    p.grad = clipped
    instance = adam(torch.optim.AdamW)([p], case.parameters)
    state = instance.state[p]
    state["exp_avg"], state["exp_avg_sq"] = ready(case, "m", "v")
    state["step"] = torch.tensor(float(case.parameters["step"] - 1))

    def run():
        torch.clamp(g, -c, c, out=clipped)
        instance.step()
    return Call(run)


def grad_clip_norm(case):
    g, norm = ready(case, "g", "norm")
    p = torch.nn.Parameter(torch.empty_like(g))
    p.grad = g
    clip, most = torch.nn.utils.clip_grad_norm_, case.parameters["max_norm"]
    return Kept(lambda: clip([p], most), norm).call()


def grad_clip_value(case):
    g, = ready(case, "g")
    c = case.parameters["c"]
    return Call(lambda: g.clamp_(-c, c))


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


def quantize_f16_to_i8(case):
    case.refuse_options(granularity="tensor")
    x, q, scale = ready(case, "x", "q", "scale")

    def run():
        least, most = torch.aminmax(x)
        scale[0] = torch.maximum(-least, most).float() / 127
        q.copy_(x.float().div_(scale).round_().clamp_(-127, 127))
    return Call(torch.inference_mode()(run))


def dequantize_i8_to_f16(case):
    case.refuse_options(granularity="tensor")
    q, scale, y = ready(case, "q", "scale", "y")
    return Call(torch.inference_mode()(lambda: y.copy_(q.float().mul_(scale))))


def quantize_f32_to_f16(case):
    x, y = ready(case, "x", "y")
    return Call(lambda: y.copy_(x))


def reduce_covariance_matrix(case):
    x, c = ready(case, "x", "c")
    if x.dim() != 2 and x.shape[:-2].numel() != 1:
        raise Unserved("batches")
    matrix, correction = x.reshape(x.shape[-2:]), case.parameters["correction"]
    return Kept(lambda: torch.cov(matrix.T, correction=int(correction)).reshape(c.shape), c).call()


def reduce_pearson_pairwise(case):
    x, r = ready(case, "x", "r")
    if x.dim() != 2 and x.shape[:-2].numel() != 1:
        raise Unserved("batches")
    matrix = x.reshape(x.shape[-2:])
    return Kept(lambda: torch.corrcoef(matrix.T).reshape(r.shape), r).call()


# ---- Linear algebra and simulation ---------------------------------------------------------------


def spmv_csr(case):
    value, column, rowptr, x, y = ready(case, "value", "column", "rowptr", "x", "y")
    matrix = torch.sparse_csr_tensor(rowptr, column, value, (y.numel(), x.numel()),
                                     check_invariants=False)
    return Kept(lambda: matrix @ x, y).call()


def matvec(case):
    a, x, y = ready(case, "a", "x", "y")
    a = a.mT if case.parameters["transpose"] else a
    if a.shape[:-2].numel() == 1:
        matrix, vector, to = a.reshape(a.shape[-2:]), x.flatten(), y.view(-1)
        return Call(lambda: torch.mv(matrix, vector, out=to))
    return Call(lambda: torch.matmul(a, x[..., None], out=y[..., None]))


def outer_product(case):
    a, b, y = ready(case, "a", "b", "y")
    return Call(lambda: torch.mul(a[..., :, None], b[..., None, :], out=y))


def matmul_batched(case):
    p, (a, b, y) = case.parameters, ready(case, "a", "b", "y")
    a, b = (m.mT if p[flag] else m for m, flag in ((a, "transpose_a"), (b, "transpose_b")))
    if p["alpha"] == 1 and (p["beta"] == 0 or "c" not in case.tensors):
        return Call(lambda: torch.matmul(a, b, out=y))
    if "c" not in case.tensors or a.dim() != 3:
        raise Unserved("a factor without batches of one dimension")
    c = tensor(case["c"])
    return Call(lambda: torch.baddbmm(c, a, b, beta=p["beta"], alpha=p["alpha"], out=y))


def triangular_solve(case):
    p, (l, b, x) = case.parameters, ready(case, "l", "b", "x")
    solve, upper = torch.linalg.solve_triangular, p["triangle"] == "upper"
    return Kept(lambda: solve(l, b, upper=upper, unitriangular=bool(p["unit_diagonal"])), x).call()


def others(u, dimensions):
    return sum(torch.roll(u, shift, axis) for axis in range(-dimensions, 0) for shift in (1, -1))


def periodic_alone(case):
    if case.parameters["boundary"] != "periodic":
        raise Unserved("edges that are held")


def sim_heat_equation(case):
    periodic_alone(case)
    p, (u, y) = case.parameters, ready(case, "u", "y")

    def function():
        field = u
        for _ in range(p["steps"]):
            field = torch.add(field, torch.sub(others(field, 2), field, alpha=4), alpha=p["r"])
        return field
    return Kept(function, y).call()


def sim_wave_equation(case):
    periodic_alone(case)
    p = case.parameters
    u, previous, y = ready(case, "u", "previous", "y")
    if p["steps"] != 1 or "before" in case.tensors:
        raise Unserved("several steps")
    return Kept(lambda: torch.add(2 * u - previous, torch.sub(others(u, 2), u, alpha=4),
                                  alpha=p["c2"]), y).call()


def sim_stencil(dimensions):
    def line(case):
        u, y = ready(case, "u", "y")
        return Kept(lambda: others(u, dimensions) / (2 * dimensions), y).call()
    return line


sim_stencil_2d = sim_stencil(2)
sim_stencil_3d = sim_stencil(3)


def integrate_rk4(case):
    p, (y, out) = case.parameters, ready(case, "y", "out")
    k, dt = -p["k"], p["dt"]

    def function():
        x = y
        for _ in range(p["steps"]):
            k1 = k * x
            k2 = k * torch.add(x, k1, alpha=dt / 2)
            k3 = k * torch.add(x, k2, alpha=dt / 2)
            k4 = k * torch.add(x, k3, alpha=dt)
            x = torch.add(x, k1 + 2 * (k2 + k3) + k4, alpha=dt / 6)
        return x
    return Kept(function, out).call()


def integrate_verlet(case):
    p, (x, v) = case.parameters, ready(case, "x", "v")
    k, dt = -p["k"], p["dt"]

    def run():
        a = k * x
        for _ in range(p["steps"]):
            x.add_(v, alpha=dt).add_(a, alpha=dt * dt / 2)
            after = k * x
            v.add_(a + after, alpha=dt / 2)
            a = after
    return Call(torch.inference_mode()(run))


# ---- Layout, scans, sorting --------------------------------------------------------------------


def ready_words(case, *names):
    """PyTorch has hardly any function of unsigned words; signed ones have the same sums."""
    torch.set_num_threads(case.threads)
    signed = {"uint32": np.int32, "uint64": np.int64}
    arrays = case.arrays(*names)
    return [tensor(a.view(signed[a.dtype.name]) if a.dtype.name in signed else a) for a in arrays]


def refuse_unsigned(case):
    if case.dtype == "u32":
        raise Unserved("no order of u32")


def transpose_2d(case):
    x, y = ready(case, "x", "y")
    return Call(torch.inference_mode()(lambda: y.copy_(x.mT)))


repack_aos_to_soa = repack_soa_to_aos = transpose_2d


def flat_if_all(case, *tensors):
    return [t.view(-1) for t in tensors] if case.parameters["over"] == "all" else tensors


def scan_inclusive(case):
    x, y = flat_if_all(case, *ready_words(case, "x", "y"))
    return Call(torch.inference_mode()(lambda: torch.cumsum(x, -1, dtype=x.dtype, out=y)))


def scan_exclusive(case):
    x, y = flat_if_all(case, *ready_words(case, "x", "y"))

    def run():
        y[..., 0] = 0
        torch.cumsum(x[..., :-1], -1, dtype=x.dtype, out=y[..., 1:])
    return Call(torch.inference_mode()(run))


def compaction(mask_of):
    def line(case):
        x, y, count = ready_words(case, "x", "y", "count")
        mask = mask_of(case)

        def run():
            kept = torch.masked_select(x, mask(x))
            y[:kept.numel()] = kept
            count.fill_(kept.numel())
        return Call(torch.inference_mode()(run))
    return line


def given_mask(case):
    mask = tensor(case["mask"]).view(torch.bool)
    return lambda x: mask


def above(case):
    refuse_unsigned(case)
    threshold = case.parameters["threshold"]
    return lambda x: x > threshold


compact_mask = compaction(given_mask)
compact_if = fused_scan_compact = compaction(above)


def sort_with(stable):
    def line(case):
        refuse_unsigned(case)
        if "payload" in case.tensors:
            raise Unserved("a payload")
        x, y = ready(case, "x", "y")
        index = torch.empty(x.shape, dtype=torch.int64)
        return Call(torch.inference_mode()(
            lambda: torch.sort(x, dim=-1, stable=stable, out=(y, index))))
    return line


sort_bitonic, sort_radix = sort_with(False), sort_with(True)


def sort_bitonic_kv(case):
    refuse_unsigned(case)
    keys, values, sorted_keys, sorted_values = ready_words(case, "keys", "values", "sorted_keys",
                                                           "sorted_values")
    index = torch.empty(keys.shape, dtype=torch.int64)

    def run():
        torch.sort(keys, dim=-1, out=(sorted_keys, index))
        torch.gather(values, -1, index, out=sorted_values)
    return Call(torch.inference_mode()(run))


def topk_select(case):
    refuse_unsigned(case)
    x, values, index = ready(case, "x", "values", "index")
    k = values.shape[-1]
    return Call(torch.inference_mode()(lambda: torch.topk(x, k, dim=-1, out=(values, index))))


def quantiles(case, q):
    """torch.quantile takes 16 million elements at most, of floats."""
    if case.dtype not in ("f32", "f64"):
        raise Unserved(f"{case.dtype}")
    x, y = ready(case, "x", "y")
    if x.numel() > 1 << 24:
        raise Unserved("more elements than quantile takes")
    axis = reduction_axis(case)

    def function():
        result = torch.quantile(x, q(x), dim=axis)
        return result.movedim(0, -1) if result.dim() > y.dim() - 1 and q(x).dim() else result
    return Kept(function, y).call()


def median_select(case):
    return quantiles(case, lambda x: torch.tensor(0.5, dtype=x.dtype))


def percentile_select(case):
    q, = ready(case, "q")
    return quantiles(case, lambda x: (q / 100).to(x.dtype))


def reduce_histogram(case):
    x, counts = ready(case, "x", "counts")
    lo, hi = case.parameters["lo"], case.parameters["hi"]
    if "edges" in case.tensors or (lo is None) != (hi is None):
        raise Unserved("edges, or one of two bounds")

    def function():
        least, largest = (lo, hi) if lo is not None else (t.item() for t in torch.aminmax(x))
        return torch.histc(x, counts.numel(), least, largest)
    return Kept(function, counts).call()


# ---- Transforms and signals --------------------------------------------------------------------


def transform(source, target, function):
    def line(case):
        x, y = ready(case, source, target)
        chosen = function(case.parameters)
        return Call(torch.inference_mode()(lambda: chosen(x, out=y)))
    return line


fft = transform("z", "Z", lambda p: torch.fft.ifft if p["direction"] == "inverse" else torch.fft.fft)
fft_real = transform("x", "X", lambda _: torch.fft.rfft)


def spectral_power(case):
    z, p = ready(case, "Z", "P")
    return Call(torch.inference_mode()(
        lambda: torch.mul(z.real, z.real, out=p).addcmul_(z.imag, z.imag)))


def convolution(taps, target, padding, flipped=False):
    """conv1d with `padding` zeros on both sides; what it has beyond the output is left out."""
    def line(case):
        x, h, y = ready(case, "x", taps, target)
        rows = x.reshape(-1, 1, x.shape[-1])
        weight = (h.flip(0) if flipped else h).reshape(1, 1, -1)
        sides = padding(case.parameters, h.numel())
        function = torch.nn.functional.conv1d
        return Kept(lambda: function(rows, weight, padding=sides)[..., :y.shape[-1]].reshape(
            y.shape), y).call()
    return line


conv1d = convolution(
    "h", "y", lambda p, taps: {"valid": 0, "same": taps // 2, "full": taps - 1}[p["mode"]])
fir_filter = convolution("b", "y", lambda _, taps: taps - 1, flipped=True)


def window_apply(case):
    x, y = ready(case, "x", "y")
    make = getattr(torch, case.parameters["window"] + "_window")
    return Call(torch.inference_mode()(
        lambda: torch.mul(x, make(x.shape[-1], periodic=False), out=y)))


def correlation_by_transforms(x, h, count, conjugate, shift):
    length = 1 << (x.shape[-1] + h.shape[-1] - 2).bit_length()
    a = torch.fft.rfft(x, length)
    b = a if h is x else torch.fft.rfft(h, length)
    full = torch.fft.irfft(a * (b.conj() if conjugate else b), length)
    return torch.roll(full, shift, -1)[..., :count]


def fft_conv1d(case):
    x, h, y = ready(case, "x", "h", "y")
    return Kept(lambda: correlation_by_transforms(x, h, y.shape[-1], False, 0), y).call()


def autocorrelation(case):
    x, r = ready(case, "x", "r")
    return Kept(lambda: correlation_by_transforms(x, x, r.shape[-1], True, 0), r).call()


def cross_correlation(case):
    x, y, r = ready(case, "x", "y", "r")
    return Kept(lambda: correlation_by_transforms(
        x, y, r.shape[-1], True, y.shape[-1] - 1), r).call()
