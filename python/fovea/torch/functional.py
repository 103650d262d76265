"""Functions of torch.nn.functional on Fovea's kernels: activations, softmax, norms and losses, with
the arguments, defaults and results of PyTorch's. The forward pass runs on our kernels; gradients are
PyTorch's own formulas, but those of losses, which the kernels give; second gradients are not served.
Served are float32, float16 and bfloat16 on the CPU; what is not served raises fovea.Unsupported. All
are operators of torch.library, so that torch.compile and torch.export pass through them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import fovea

from ._operator import DTYPES, InvalidCall, InvalidIndex

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "elu", "gelu", "huber_loss",
           "l1_loss", "layer_norm", "leaky_relu", "log_softmax", "mish", "mse_loss", "relu",
           "rms_norm", "scaled_dot_product_attention", "sigmoid", "silu", "softmax", "softplus",
           "tanh"]

from ._sdpa import scaled_dot_product_attention

_aten = torch.ops.aten
_library = torch.library.Library("fovea", "FRAGMENT")


def _operator(schema, kernel, fake, gradient, remember):
    """Defines fovea::NAME with its implementation for the CPU, its shapes and its gradient."""
    name = schema.partition("(")[0]
    _library.define(schema, tags=[torch.Tag.pt2_compliant_tag])

    def run(*arguments):
        with torch.no_grad():
            return kernel(*arguments)

    _library.impl(name, run, "CPU")
    torch.library.register_fake(f"fovea::{name}", fake, lib=_library)
    torch.library.register_autograd(f"fovea::{name}", gradient, setup_context=remember,
                                    lib=_library)
    return getattr(torch.ops.fovea, name)


def _check(**tensors):
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise fovea.InvalidType(f"{name} is a {type(tensor).__name__}, not a torch.Tensor")
        if tensor.device.type != "cpu":
            raise fovea.Unsupported(f"{name} is on {tensor.device}; served are tensors on the CPU")
        if tensor.layout is not torch.strided or tensor.is_nested:
            raise fovea.Unsupported(f"{name} is not a strided tensor")
        if tensor.dtype not in DTYPES:
            raise fovea.Unsupported(f"{name} is {tensor.dtype}; served are float32, float16 and "
                                    "bfloat16")


# ---- Activations ------------------------------------------------------------------------------

# Of each kernel: its keyword arguments and its gradient, from the option, x, y and the gradient of y.
_ACTIVATIONS = {
    "map_relu": (lambda option: {}, lambda g, x, y, option: _aten.threshold_backward(g, y, 0)),
    "map_leaky_relu": (
        lambda option: {"slope": option},
        lambda g, x, y, option: _aten.leaky_relu_backward(g, x, option, False)),
    "map_elu": (lambda option: {"alpha": option},
                lambda g, x, y, option: _aten.elu_backward(g, option, 1, 1, False, x)),
    "map_gelu": (
        lambda option: {"approximate": "tanh" if option else "none"},
        lambda g, x, y, option: _aten.gelu_backward(
            g, x, approximate="tanh" if option else "none")),
    "map_silu": (lambda option: {}, lambda g, x, y, option: _aten.silu_backward(g, x)),
    "map_mish": (lambda option: {}, lambda g, x, y, option: _aten.mish_backward(g, x)),
    "map_sigmoid": (lambda option: {}, lambda g, x, y, option: _aten.sigmoid_backward(g, y)),
    "map_tanh": (lambda option: {}, lambda g, x, y, option: _aten.tanh_backward(g, y)),
    "map_softplus": (lambda option: {},
                     lambda g, x, y, option: _aten.softplus_backward(g, x, 1, math.inf)),
}


def _run_activation(x, kernel, option):
    keywords, _ = _ACTIVATIONS[kernel]
    return getattr(fovea, kernel)(x, out=torch.empty_like(x), **keywords(option))


def _remember_activation(ctx, inputs, output):
    x, ctx.kernel, ctx.option = inputs
    ctx.save_for_backward(x, output)


def _activation_gradient(ctx, gradient):
    _, backward = _ACTIVATIONS[ctx.kernel]
    return backward(gradient, *ctx.saved_tensors, ctx.option), None, None


_activation = _operator("activation(Tensor x, str kernel, float option) -> Tensor",
                        _run_activation, lambda x, kernel, option: torch.empty_like(x),
                        _activation_gradient, _remember_activation)


def _apply(input, kernel, option=0.0, inplace=False):
    _check(input=input)
    result = _activation(input, kernel, float(option))
    return input.copy_(result) if inplace else result


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)"""
    return _apply(input, "map_relu", inplace=inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope x"""
    return _apply(input, "map_leaky_relu", negative_slope, inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (e^x - 1)"""
    return _apply(input, "map_elu", alpha, inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x; approximate="tanh" is the formula with tanh"""
    if approximate not in ("none", "tanh"):
        raise InvalidCall(f"approximate is {approximate!r}; it is 'none' or 'tanh'")
    return _apply(input, "map_gelu", approximate == "tanh")


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x)"""
    return _apply(input, "map_silu", inplace=inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x))"""
    return _apply(input, "map_mish", inplace=inplace)


def sigmoid(input: Tensor) -> Tensor:
    """1/(1 + e^-x)"""
    return _apply(input, "map_sigmoid")


def tanh(input: Tensor) -> Tensor:
    """tanh x"""
    return _apply(input, "map_tanh")


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + e^x). PyTorch returns x itself above the threshold; from 20 on the two are equal."""
    if beta != 1 or threshold < 20:
        raise fovea.Unsupported(f"softplus with beta {beta} and threshold {threshold}: served are "
                                "beta 1 and thresholds from 20 on")
    return _apply(input, "map_softplus")


# ---- Softmax ----------------------------------------------------------------------------------


def _run_softmax(x, dim, log):
    out = torch.empty_like(x)
    kernel = fovea.log_softmax if log else fovea.softmax_stable
    kernel(x.transpose(dim, -1), out=out.transpose(dim, -1))
    return out


def _remember_softmax(ctx, inputs, output):
    _, ctx.dim, ctx.log = inputs
    ctx.save_for_backward(output)


def _softmax_gradient(ctx, gradient):
    (y,) = ctx.saved_tensors
    backward = _aten._log_softmax_backward_data if ctx.log else _aten._softmax_backward_data
    return backward(gradient, y, ctx.dim, y.dtype), None, None


_softmax = _operator("softmax(Tensor x, int dim, bool log) -> Tensor", _run_softmax,
                     lambda x, dim, log: torch.empty_like(x), _softmax_gradient,
                     _remember_softmax)


def _along(input, dim, dtype, log):
    if dim is None:
        raise fovea.Unsupported("dim is not given; PyTorch's choice for it is deprecated")
    if dtype is not None:
        input = input.to(dtype)
    _check(input=input)
    rank = max(input.ndim, 1)
    if not -rank <= dim < rank:
        raise InvalidIndex(f"dim is {dim}; the tensor has {input.ndim} axes")
    if input.ndim == 0:
        return _softmax(input.reshape(1), 0, log).reshape(())
    return _softmax(input, dim % rank, log)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
            dtype: torch.dtype | None = None) -> Tensor:
    """e^x / sum e^x along dim"""
    return _along(input, dim, dtype, False)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
                dtype: torch.dtype | None = None) -> Tensor:
    """x - ln sum e^x along dim"""
    return _along(input, dim, dtype, True)


# ---- Norms ------------------------------------------------------------------------------------


def _rows(tensor, axes):
    """The last axes as one: the rows that a norm is of."""
    return tensor.reshape(*tensor.shape[:tensor.ndim - axes], math.prod(tensor.shape[-axes:]))


def _run_layer_norm(x, weight, bias, axes, eps):
    flat = [None if t is None else t.reshape(-1) for t in (weight, bias)]
    return fovea.layer_norm(_rows(x, axes), gamma=flat[0], beta=flat[1], eps=eps).reshape(x.shape)


def _contiguous_like(x, *rest):
    return x.new_empty(x.shape)


def _remember_norm(ctx, inputs, output):
    *tensors, ctx.axes, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _layer_norm_gradient(ctx, gradient):
    x, weight, bias = ctx.saved_tensors
    over = list(range(x.ndim - ctx.axes, x.ndim))
    wide, dy, gamma, beta = (None if t is None else t.float().contiguous()
                             for t in (x, gradient, weight, bias))
    variance, mean = torch.var_mean(wide, over, correction=0, keepdim=True)
    gradients = _aten.native_layer_norm_backward(
        dy, wide, x.shape[x.ndim - ctx.axes:], mean, torch.rsqrt(variance + ctx.eps), gamma, beta,
        [ctx.needs_input_grad[i] for i in range(3)])
    return *(None if g is None else g.to(t.dtype)
             for g, t in zip(gradients, (x, weight, bias))), None, None


_layer_norm = _operator(
    "layer_norm(Tensor x, Tensor? weight, Tensor? bias, int axes, float eps) -> Tensor",
    _run_layer_norm, _contiguous_like, _layer_norm_gradient, _remember_norm)


def _run_rms_norm(x, weight, axes, eps):
    gamma = None if weight is None else weight.reshape(-1)
    return fovea.rms_norm(_rows(x, axes), gamma=gamma, eps=eps).reshape(x.shape)


def _rms_norm_gradient(ctx, gradient):
    x, weight = ctx.saved_tensors
    over = list(range(x.ndim - ctx.axes, x.ndim))
    wide = x.float()
    root = torch.rsqrt(wide.square().mean(over, keepdim=True) + ctx.eps)
    unit = wide * root
    weighted = gradient.float() if weight is None else gradient.float() * weight.float()
    dx = root * (weighted - unit * (weighted * unit).mean(over, keepdim=True))
    dweight = None
    if weight is not None and ctx.needs_input_grad[1]:
        dweight = (gradient.float() * unit).sum_to_size(weight.shape).to(weight.dtype)
    return dx.to(x.dtype), dweight, None, None


_rms_norm = _operator("rms_norm(Tensor x, Tensor? weight, int axes, float eps) -> Tensor",
                      _run_rms_norm, _contiguous_like, _rms_norm_gradient, _remember_norm)


def _check_norm(input, normalized_shape, **weights):
    shape = tuple(normalized_shape)
    _check(input=input, **{name: t for name, t in weights.items() if t is not None})
    if not shape or tuple(input.shape[-len(shape):]) != shape:
        raise InvalidCall(f"input has shape {list(input.shape)}; its last axes are not the "
                          f"normalized_shape {list(shape)}")
    for name, weight in weights.items():
        if weight is not None and tuple(weight.shape) != shape:
            raise InvalidCall(f"{name} has shape {list(weight.shape)}, not {list(shape)}")
    return len(shape)


def layer_norm(input: Tensor, normalized_shape: list[int], weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-05) -> Tensor:
    """weight (x - mean)/sqrt(variance + eps) + bias over the last axes"""
    axes = _check_norm(input, normalized_shape, weight=weight, bias=bias)
    return _layer_norm(input, weight, bias, axes, eps)


def rms_norm(input: Tensor, normalized_shape: list[int], weight: Tensor | None = None,
             eps: float | None = None) -> Tensor:
    """weight x / sqrt(mean(x^2) + eps) over the last axes; eps is the dtype's epsilon if None"""
    axes = _check_norm(input, normalized_shape, weight=weight)
    return _rms_norm(input, weight, axes, torch.finfo(input.dtype).eps if eps is None else eps)


# ---- Losses -----------------------------------------------------------------------------------


def _loss_shape(x, target, kernel, reduction):
    if reduction != "none":
        return ()
    return target.shape


def _run_loss(x, target, kernel, reduction, options, need_gradient):
    keywords = {"reduction": reduction}
    if kernel == "loss_cross_entropy":
        keywords |= {"ignore_index": int(options[0]), "label_smoothing": options[1]}
        known = target[target != int(options[0])]
        if known.numel() and (known.min() < 0 or known.max() >= x.shape[1]):
            raise InvalidIndex(f"a target lies between {int(known.min())} and {int(known.max())}; "
                               f"there are {x.shape[1]} classes")
    elif kernel == "loss_huber":
        keywords["delta"] = options[0]
    elif kernel == "loss_bce":
        keywords["from_logits"] = True
    if need_gradient:
        loss, gradient = getattr(fovea, kernel)(x, target, gradient=True, **keywords)
        return loss.to(x.dtype), gradient
    return getattr(fovea, kernel)(x, target, **keywords).to(x.dtype), x.new_empty((0,))


def _fake_loss(x, target, kernel, reduction, options, need_gradient):
    return (x.new_empty(_loss_shape(x, target, kernel, reduction)),
            x.new_empty(x.shape if need_gradient else (0,)))


def _remember_loss(ctx, inputs, output):
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _loss_gradient(ctx, dloss, unused):
    (gradient,) = ctx.saved_tensors
    scale = dloss.reshape(*dloss.shape, *[1] * (gradient.ndim - dloss.ndim))
    return gradient * scale, None, None, None, None, None


_loss = _operator("loss(Tensor x, Tensor target, str kernel, str reduction, float[] options, "
                  "bool need_gradient) -> (Tensor, Tensor)", _run_loss, _fake_loss,
                  _loss_gradient, _remember_loss)


def _reduction(reduction, size_average, reduce):
    if size_average is not None or reduce is not None:
        raise fovea.Unsupported("size_average and reduce are deprecated; reduction says it")
    if reduction not in ("none", "mean", "sum"):
        raise fovea.InvalidValue(f"{reduction} is not a valid value for reduction; it is 'none', "
                                 "'mean' or 'sum'")
    return reduction


def _call_loss(input, target, kernel, reduction, options=()):
    need = torch.is_grad_enabled() and input.requires_grad
    return _loss(input, target, kernel, reduction, list(options), need)[0]


def _elementwise_loss(input, target, kernel, reduction, weight, options=()):
    _check(input=input, target=target)
    if weight is not None:
        raise fovea.Unsupported("weight is not served")
    if target.requires_grad and torch.is_grad_enabled():
        raise fovea.Unsupported("the gradient to target is not served")
    if input.dtype != target.dtype:
        raise fovea.Unsupported(f"input is {input.dtype}, target {target.dtype}; served is one "
                                "dtype")
    try:
        input, target = torch.broadcast_tensors(input, target)
    except RuntimeError as error:
        raise InvalidCall(str(error)) from None
    return _call_loss(input, target, kernel, reduction, options)


def mse_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
             reduce: bool | None = None, reduction: str = "mean",
             weight: Tensor | None = None) -> Tensor:
    """(x - y)^2"""
    reduction = _reduction(reduction, size_average, reduce)
    return _elementwise_loss(input, target, "loss_mse", reduction, weight)


def l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
            reduce: bool | None = None, reduction: str = "mean",
            weight: Tensor | None = None) -> Tensor:
    """|x - y|"""
    reduction = _reduction(reduction, size_average, reduce)
    return _elementwise_loss(input, target, "loss_mae", reduction, weight)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               weight: Tensor | None = None) -> Tensor:
    """d^2/2 where d = |x - y| <= delta, else delta (d - delta/2)"""
    reduction = _reduction(reduction, None, None)
    return _elementwise_loss(input, target, "loss_huber", reduction, weight, [delta])


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                     size_average: bool | None = None,
                                     reduce: bool | None = None, reduction: str = "mean",
                                     pos_weight: Tensor | None = None) -> Tensor:
    """max(x, 0) - x y + ln(1 + e^-|x|)"""
    reduction = _reduction(reduction, size_average, reduce)
    if pos_weight is not None:
        raise fovea.Unsupported("pos_weight is not served")
    if isinstance(input, Tensor) and isinstance(target, Tensor) and input.shape != target.shape:
        raise fovea.InvalidValue(f"target has shape {list(target.shape)}, input "
                                 f"{list(input.shape)}; they are equal")
    return _elementwise_loss(input, target, "loss_bce", reduction, weight)


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None,
                  size_average: bool | None = None, ignore_index: int = -100,
                  reduce: bool | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log_softmax(x)[target], of classes along axis 1; targets are class numbers"""
    reduction = _reduction(reduction, size_average, reduce)
    _check(input=input)
    if weight is not None:
        raise fovea.Unsupported("weight is not served")
    if target.dtype != torch.int64:
        raise fovea.Unsupported(f"target is {target.dtype}; served are class numbers in int64")
    if input.ndim == 0:
        raise InvalidCall("input has no axis of classes")
    classes = input.shape[0 if input.ndim == 1 else 1]
    rows = input.reshape(1, classes) if input.ndim == 1 else input.movedim(1, -1)
    if rows.shape[:-1] != (target.shape if input.ndim > 1 else (1,)) or (
            input.ndim == 1 and target.ndim):
        kind = fovea.InvalidValue if input.ndim <= 2 else InvalidCall
        raise kind(f"target has shape {list(target.shape)}; input of shape {list(input.shape)} "
                   f"has targets of shape {list(input.shape[:1] + input.shape[2:])}")
    loss = _call_loss(rows.reshape(-1, classes), target.reshape(-1), "loss_cross_entropy",
                      reduction, [ignore_index, label_smoothing])
    return loss.reshape(target.shape) if reduction == "none" else loss
