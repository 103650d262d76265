"""Activations and softmax of torch.nn.functional on Fovea's kernels. Their gradients are PyTorch's own
formulas, and can be differentiated again."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import fovea

from ._registry import Context, InvalidCall, InvalidIndex, check, define, wants_gradient

_aten = torch.ops.aten


class _Activation(NamedTuple):
    """The keyword arguments of a kernel, in the order of the options, and the gradient from that of
    y, x, y and the options."""

    keywords: tuple[str, ...]
    gradient: Callable[..., Any]


def _silu_gradient(g: Tensor, x: Tensor, y: Tensor) -> Any:
    if not torch.is_grad_enabled():
        return _aten.silu_backward(g, x)
    share = torch.sigmoid(x)  # the operator has no gradient of its own
    return g * share * (1 + x * (1 - share))


def _mish_gradient(g: Tensor, x: Tensor, y: Tensor) -> Any:
    if not torch.is_grad_enabled():
        return _aten.mish_backward(g, x)
    bent = torch.tanh(torch.nn.functional.softplus(x))
    return g * (bent + x * (1 - bent * bent) * torch.sigmoid(x))


_ACTIVATIONS = {
    "map_relu": _Activation((), lambda g, x, y: _aten.threshold_backward(g, y, 0)),
    "map_leaky_relu": _Activation(
        ("slope",), lambda g, x, y, slope: _aten.leaky_relu_backward(g, x, slope, False)),
    "map_elu": _Activation(
        ("alpha",), lambda g, x, y, alpha: _aten.elu_backward(g, alpha, 1, 1, False, x)),
    "map_clamp": _Activation(
        ("lo", "hi"), lambda g, x, y, lo, hi: _aten.hardtanh_backward(g, x, lo, hi)),
    "map_silu": _Activation((), _silu_gradient),
    "map_mish": _Activation((), _mish_gradient),
    "map_sigmoid": _Activation((), lambda g, x, y: _aten.sigmoid_backward(g, y)),
    "map_tanh": _Activation((), lambda g, x, y: _aten.tanh_backward(g, y)),
    "map_softplus": _Activation(
        (), lambda g, x, y: _aten.softplus_backward(g, x, 1, math.inf)),
    "map_gelu": _Activation(
        (), lambda g, x, y: _aten.gelu_backward(g, x, approximate="none")),
    "map_gelu tanh": _Activation(
        (), lambda g, x, y: _aten.gelu_backward(g, x, approximate="tanh")),
}


def _run_activation(x: Tensor, kernel: str, options: list[float]) -> Any:
    out = torch.empty_like(x)
    if kernel == "map_gelu tanh":
        return fovea.map_gelu(x, out=out, approximate="tanh")
    return getattr(fovea, kernel)(x, out=out, **dict(zip(_ACTIVATIONS[kernel].keywords, options)))


def _remember_activation(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.kernel, ctx.options = inputs
    ctx.save_for_backward(x, output)


def _activation_gradient(ctx: Context, gradient: Tensor) -> tuple[Tensor, None, None]:
    backward = _ACTIVATIONS[ctx.kernel].gradient
    return backward(gradient, *ctx.saved_tensors, *ctx.options), None, None


_activation = define("activation(Tensor x, str kernel, float[] options) -> Tensor", _run_activation,
                     lambda x, kernel, options: torch.empty_like(x), _activation_gradient,
                     _remember_activation, twice=True)


def _apply(input: Tensor, kernel: str, *options: float, inplace: bool = False) -> Tensor:
    check("input", input)
    if not inplace:
        result: Tensor = _activation(input, kernel, list(map(float, options)))
        return result
    # The gradient is of what stood there before.
    before = input.clone() if wants_gradient((input,)) else input
    return input.copy_(_activation(before, kernel, list(map(float, options))))


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)"""
    return _apply(input, "map_relu", inplace=inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)"""
    return _apply(input, "map_clamp", 0, 6, inplace=inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0,
             inplace: bool = False) -> Tensor:
    """min(max(x, min_val), max_val)"""
    if min_val > max_val:
        raise fovea.InvalidValue(f"min_val is {min_val}, greater than max_val, {max_val}")
    return _apply(input, "map_clamp", min_val, max_val, inplace=inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope x"""
    return _apply(input, "map_leaky_relu", negative_slope, inplace=inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (e^x - 1)"""
    return _apply(input, "map_elu", alpha, inplace=inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x; approximate="tanh" is the formula with tanh"""
    if approximate not in ("none", "tanh"):
        raise InvalidCall(f"approximate is {approximate!r}; it is 'none' or 'tanh'")
    return _apply(input, "map_gelu" if approximate == "none" else "map_gelu tanh")


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


def _run_softmax(x: Tensor, dim: int, log: bool) -> Tensor:
    out = torch.empty_like(x)
    kernel = fovea.log_softmax if log else fovea.softmax_stable
    if dim == x.ndim - 1:
        kernel(x, out=out)
    else:
        kernel(x.transpose(dim, -1), out=out.transpose(dim, -1))
    return out


def _remember_softmax(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dim, ctx.log = inputs
    ctx.save_for_backward(output)


def _softmax_gradient(ctx: Context, gradient: Tensor) -> tuple[Tensor, None, None]:
    (y,) = ctx.saved_tensors
    backward = _aten._log_softmax_backward_data if ctx.log else _aten._softmax_backward_data
    return backward(gradient, y, ctx.dim, y.dtype), None, None


_softmax = define("softmax(Tensor x, int dim, bool log) -> Tensor", _run_softmax,
                  lambda x, dim, log: torch.empty_like(x), _softmax_gradient, _remember_softmax,
                  twice=True)


def _along(name: str, input: Tensor, dim: int | None, dtype: torch.dtype | None, log: bool,
           stacklevel: int) -> Tensor:
    check("input", input)
    if dim is None:
        warnings.warn(f"{name} without dim is deprecated: say which", stacklevel=stacklevel)
        dim = 0 if input.ndim in (0, 1, 3) else 1
    if dtype is not None:
        input = input.to(dtype)
        check("input", input)
    rank = max(input.ndim, 1)
    if not -rank <= dim < rank:
        raise InvalidIndex(f"dim is {dim}; the tensor has {input.ndim} axes")
    if input.ndim == 0:
        whole: Tensor = _softmax(input.reshape(1), 0, log).reshape(())
        return whole
    result: Tensor = _softmax(input, dim % rank, log)
    return result


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
            dtype: torch.dtype | None = None) -> Tensor:
    """e^x / sum e^x along dim"""
    return _along("softmax", input, dim, dtype, False, _stacklevel)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
                dtype: torch.dtype | None = None) -> Tensor:
    """x - ln sum e^x along dim"""
    return _along("log_softmax", input, dim, dtype, True, _stacklevel)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3,
            dtype: torch.dtype | None = None) -> Tensor:
    """softmax of -x"""
    check("input", input)
    return _along("softmin", -input, dim, dtype, False, _stacklevel)
