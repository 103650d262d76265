"""Norms of torch.nn.functional on Fovea's kernels. Their gradients are PyTorch's own formulas, in
float32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import fovea

from ._registry import Context, InvalidCall, InvalidIndex, check, define

_aten = torch.ops.aten


def _wide(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float().contiguous()


def _narrow(gradients: Sequence[Tensor | None],
            tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients in the dtypes of what they are of."""
    return [None if g is None or t is None else g.to(t.dtype) for g, t in zip(gradients, tensors)]


def _check_weights(input: Tensor, shape: Sequence[int], **weights: Tensor | None) -> None:
    for name, weight in weights.items():
        if weight is None:
            continue
        check(name, weight)
        if tuple(weight.shape) != tuple(shape):
            raise InvalidCall(f"{name} has shape {list(weight.shape)}, not {list(shape)}")
        if weight.dtype not in (input.dtype, torch.float32):
            raise InvalidCall(f"{name} is {weight.dtype}; with an input of {input.dtype} it is that "
                              "or float32")


# ---- Over the last axes -----------------------------------------------------------------------


def _rows(tensor: Tensor, axes: int) -> Tensor:
    """The last axes as one: the rows that a norm is of."""
    if axes == 1:
        return tensor
    return tensor.reshape(*tensor.shape[:tensor.ndim - axes], math.prod(tensor.shape[-axes:]))


def _flat(weight: Tensor | None) -> Tensor | None:
    return weight if weight is None or weight.ndim == 1 else weight.reshape(-1)


def _over(x: Tensor, axes: int) -> list[int]:
    return list(range(x.ndim - axes, x.ndim))


def _run_layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, axes: int,
                    eps: float) -> Tensor:
    result: Tensor = fovea.layer_norm(_rows(x, axes), gamma=_flat(weight), beta=_flat(bias), eps=eps)
    return result if axes == 1 else result.reshape(x.shape)


def _contiguous_like(x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape)


def _remember_rows(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.axes, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _layer_norm_gradient(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias = ctx.saved_tensors
    wide = x.float().contiguous()
    variance, mean = torch.var_mean(wide, _over(x, ctx.axes), correction=0, keepdim=True)
    gradients = _aten.native_layer_norm_backward(
        _wide(gradient), wide, x.shape[x.ndim - ctx.axes:], mean, torch.rsqrt(variance + ctx.eps),
        _wide(weight), _wide(bias), list(ctx.needs_input_grad[:3]))
    return *_narrow(gradients, (x, weight, bias)), None, None


_layer_norm = define(
    "layer_norm(Tensor x, Tensor? weight, Tensor? bias, int axes, float eps) -> Tensor",
    _run_layer_norm, _contiguous_like, _layer_norm_gradient, _remember_rows)


def _run_rms_norm(x: Tensor, weight: Tensor | None, axes: int, eps: float) -> Tensor:
    result: Tensor = fovea.rms_norm(_rows(x, axes), gamma=_flat(weight), eps=eps)
    return result if axes == 1 else result.reshape(x.shape)


def _rms_norm_gradient(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    over, wide, outer = _over(x, ctx.axes), x.float(), gradient.float()
    root = torch.rsqrt(wide.square().mean(over, keepdim=True) + ctx.eps)
    unit = wide * root
    weighted = outer if weight is None else outer * weight.float()
    dx = root * (weighted - unit * (weighted * unit).mean(over, keepdim=True))
    dweight = None
    if weight is not None and ctx.needs_input_grad[1]:
        dweight = (outer * unit).sum_to_size(weight.shape)
    return *_narrow((dx, dweight), (x, weight)), None, None


_rms_norm = define("rms_norm(Tensor x, Tensor? weight, int axes, float eps) -> Tensor",
                   _run_rms_norm, _contiguous_like, _rms_norm_gradient, _remember_rows)


def _check_rows(input: Tensor, normalized_shape: Sequence[int], **weights: Tensor | None) -> int:
    shape = tuple(normalized_shape)
    check("input", input)
    if not shape or tuple(input.shape[-len(shape):]) != shape:
        raise InvalidCall(f"input has shape {list(input.shape)}; its last axes are not the "
                          f"normalized_shape {list(shape)}")
    _check_weights(input, shape, **weights)
    return len(shape)


def layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-05) -> Tensor:
    """weight (x - mean)/sqrt(variance + eps) + bias over the last axes"""
    axes = _check_rows(input, normalized_shape, weight=weight, bias=bias)
    result: Tensor = _layer_norm(input, weight, bias, axes, eps)
    return result


def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
             eps: float | None = None) -> Tensor:
    """weight x / sqrt(mean(x^2) + eps) over the last axes; eps is the dtype's epsilon if None"""
    axes = _check_rows(input, normalized_shape, weight=weight)
    result: Tensor = _rms_norm(input, weight, axes,
                               torch.finfo(input.dtype).eps if eps is None else eps)
    return result


# ---- Over channels ----------------------------------------------------------------------------


def _laid_out_like(x: Tensor) -> Tensor:
    """Room for a result: contiguous, or with the channels inside where the input has them there."""
    inside = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if inside is None or x.is_contiguous() or not x.is_contiguous(memory_format=inside):
        inside = torch.contiguous_format
    return torch.empty_like(x, memory_format=inside)


def _check_several(size: Sequence[int]) -> None:
    """PyTorch trains on more than one value a channel."""
    if math.prod(size[2:]) * size[0] == 1:
        raise fovea.InvalidValue("more than one value a channel is needed in training; the input "
                                 f"has shape {list(size)}")


def _run_batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None,
                    var: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """With the batch's own statistics, which it returns, unless mean and var are given."""
    if mean is None or var is None:
        own = x.new_empty((2, x.shape[1]), dtype=torch.float32)
        y = fovea.batch_norm(x, gamma=weight, beta=bias, mean=own[0], var=own[1], eps=eps,
                             out=_laid_out_like(x))
        return y, own[0].clone(), own[1].clone()
    y = fovea.batch_norm(x, gamma=weight, beta=bias, mean=mean.float().clone(),
                         var=var.float().clone(), eps=eps, statistics="given",
                         out=_laid_out_like(x))
    return y, x.new_empty((0,), dtype=torch.float32), x.new_empty((0,), dtype=torch.float32)


def _fake_batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None,
                     var: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    shape = (x.shape[1],) if mean is None or var is None else (0,)
    return (_laid_out_like(x), x.new_empty(shape, dtype=torch.float32),
            x.new_empty(shape, dtype=torch.float32))


def _remember_batch_norm(ctx: Context, inputs: tuple[Any, ...],
                         output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, mean, var, ctx.eps = inputs
    ctx.own = mean is None or var is None
    ctx.save_for_backward(x, weight, bias, *(output[1:] if ctx.own else (mean, var)))
    ctx.mark_non_differentiable(*output[1:])


def _batch_norm_gradient(ctx: Context, gradient: Tensor, *unused: Tensor) -> tuple[Any, ...]:
    x, weight, bias, mean, var = ctx.saved_tensors
    mean, root = mean.float(), torch.rsqrt(var.float() + ctx.eps)
    given = (None, None) if ctx.own else (mean, var.float())
    gradients = _aten.native_batch_norm_backward(
        _wide(gradient), _wide(x), _wide(weight), *given, mean, root, ctx.own, ctx.eps,
        list(ctx.needs_input_grad[:3]))
    return *_narrow(gradients, (x, weight, bias)), None, None, None


_batch_norm = define(
    "batch_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? mean, Tensor? var, float eps) "
    "-> (Tensor, Tensor, Tensor)", _run_batch_norm, _fake_batch_norm, _batch_norm_gradient,
    _remember_batch_norm)


def _follow(running: Tensor | None, seen: Tensor, momentum: float) -> None:
    if running is not None:
        with torch.no_grad():
            running.mul_(1 - momentum).add_(seen.to(running.dtype), alpha=momentum)


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
               weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
               momentum: float = 0.1, eps: float = 1e-05) -> Tensor:
    """weight (x - mean)/sqrt(variance + eps) + bias for each channel, axis 1: in training of the batch,
    and the running statistics follow it (the variance with divisor n - 1), else of those"""
    check("input", input)
    if eps < 0 or (training and eps == 0):
        raise fovea.InvalidValue(f"eps is {eps}; it is at least 0, and above 0 in training")
    if input.ndim < 2:
        raise InvalidIndex(f"input has shape {list(input.shape)}; it has at least two axes")
    if training:
        _check_several(input.shape)
    elif running_mean is None or running_var is None:
        raise InvalidCall("running_mean and running_var are given where training is False")
    channels = (input.shape[1],)
    _check_weights(input, channels, weight=weight, bias=bias)
    _check_weights(input, channels, running_mean=running_mean, running_var=running_var)
    given = (None, None) if training else (running_mean, running_var)
    result: Tensor
    result, mean, var = _batch_norm(input, weight, bias, *given, eps)
    if training:
        count = input.numel() // max(input.shape[1], 1)
        _follow(running_mean, mean, momentum)
        _follow(running_var, var * (count / (count - 1)) if count > 1 else var, momentum)
    return result


def _run_group_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int,
                    eps: float) -> Tensor:
    result: Tensor = fovea.group_norm(x, gamma=weight, beta=bias, groups=groups, eps=eps,
                                      out=_laid_out_like(x))
    return result


def _remember_groups(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.groups, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _group_norm_gradient(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias = ctx.saved_tensors
    wide = x.float().contiguous()
    batch, channels = x.shape[:2]
    inside = math.prod(x.shape[2:])
    variance, mean = torch.var_mean(wide.reshape(batch, ctx.groups, -1), 2, correction=0)
    gradients = _aten.native_group_norm_backward(
        _wide(gradient), wide, mean, torch.rsqrt(variance + ctx.eps), _wide(weight), batch, channels,
        inside, ctx.groups, list(ctx.needs_input_grad[:3]))
    return *_narrow(gradients, (x, weight, bias)), None, None


_group_norm = define(
    "group_norm(Tensor x, Tensor? weight, Tensor? bias, int groups, float eps) -> Tensor",
    _run_group_norm, lambda x, *rest: _laid_out_like(x), _group_norm_gradient, _remember_groups)


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-05) -> Tensor:
    """weight (x - mean)/sqrt(variance + eps) + bias over num_groups groups of channels of a sample"""
    check("input", input)
    if input.ndim < 2:
        raise InvalidCall(f"input has shape {list(input.shape)}; it has at least two axes")
    _check_several((input.shape[0] * input.shape[1] // num_groups, num_groups, *input.shape[2:]))
    if num_groups < 0 or input.shape[1] % num_groups:
        raise InvalidCall(f"num_groups is {num_groups}; it divides the {input.shape[1]} channels")
    _check_weights(input, (input.shape[1],), weight=weight, bias=bias)
    result: Tensor = _group_norm(input, weight, bias, num_groups, eps)
    return result


def instance_norm(input: Tensor, running_mean: Tensor | None = None,
                  running_var: Tensor | None = None, weight: Tensor | None = None,
                  bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1,
                  eps: float = 1e-05) -> Tensor:
    """group_norm with a group for each channel; without use_input_stats batch_norm of the running
    statistics. Running statistics that follow the input are not served."""
    check("input", input)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if running_mean is not None or running_var is not None:
        raise fovea.Unsupported("running statistics of instance_norm that follow the input")
    if math.prod(input.shape[2:]) == 1:
        raise fovea.InvalidValue("more than one element a channel is needed in training; the input "
                                 f"has shape {list(input.shape)}")
    return group_norm(input, input.shape[1], weight, bias, eps)
