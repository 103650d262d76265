"""Losses of torch.nn.functional on Fovea's kernels, which give the gradients too. Weights, and targets
of cross entropy that are probabilities, are PyTorch's own operations around them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import _reduction

import fovea

from ._activations import log_softmax
from ._registry import Context, InvalidCall, InvalidIndex, check, define, is_plain, wants_gradient

# ---- The operator -----------------------------------------------------------------------------

_Result = tuple[Tensor, Tensor | None]  # the loss in f32 and the gradient


def _call(kernel: str, x: Tensor, target: Tensor, reduction: str, need: bool,
          **keywords: Any) -> _Result:
    if need:
        loss, gradient = getattr(fovea, kernel)(x, target, gradient=True, reduction=reduction,
                                                **keywords)
        return loss, gradient
    return getattr(fovea, kernel)(x, target, reduction=reduction, **keywords), None


def _share(x: Tensor, reduction: str) -> float:
    """What a term counts in the loss."""
    return 1 / max(x.numel(), 1) if reduction == "mean" else 1.0


def _range(tensor: Tensor) -> tuple[float, float]:
    if tensor.numel() == 0:
        return 0.5, 0.5
    least, most = torch.aminmax(tensor)
    return float(least), float(most)


def _reduced(terms: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return terms
    result: Tensor = (fovea.reduce_sum if reduction == "sum" else fovea.reduce_mean)(terms)
    return result


_LEAST, _MOST = 1e-7, 1 - 2.0**-23  # where the kernel holds probabilities


def _bce(x: Tensor, target: Tensor, reduction: str, need: bool) -> _Result:
    """PyTorch holds logarithms at -100 where the kernel holds probabilities: the two differ at the
    ends of [0, 1], and those terms are PyTorch's."""
    for name, tensor in (("input", x), ("target", target)):
        least, most = _range(tensor)
        if not (least >= 0 and most <= 1):
            raise InvalidCall(f"all elements of {name} lie between 0 and 1; the least is {least}, "
                              f"the largest {most}")
        if name == "input":
            inside = least >= _LEAST and most <= _MOST
    if inside:
        return _call("loss_bce", x, target, reduction, need)
    terms, gradient = _call("loss_bce", x, target, "none", need)
    ends = (x < _LEAST) | (x > _MOST)
    p, y = x[ends].float(), target[ends].float()
    terms[ends] = -(y * p.log().clamp(min=-100) + (1 - y) * (-p).log1p().clamp(min=-100))
    if gradient is not None:
        gradient[ends] = ((p - y) / ((1 - p) * p).clamp(min=1e-12)).to(gradient.dtype)
        gradient *= _share(x, reduction)
    return _reduced(terms, reduction), gradient


_EXPONENTS = 60  # of the logarithms whose exponentials, and their ratios, are ordinary numbers


def _kl_div(x: Tensor, target: Tensor, reduction: str, need: bool, log_target: bool) -> _Result:
    """The kernel takes probabilities; where one does not fit into f32 the term is PyTorch's."""
    logs = x.float()
    shares = fovea.map_exp(target.float()) if log_target else target.float()
    gradient = (shares * -_share(x, reduction)).to(x.dtype) if need else None
    p, q = (t.reshape(1) if t.ndim == 0 else t for t in (shares, fovea.map_exp(logs)))
    least, most = _range(logs)
    if -_EXPONENTS <= least and most <= _EXPONENTS:
        loss = _call("loss_kl_div", p, q, reduction, False)[0]
        return loss.reshape(x.shape if reduction == "none" else ()), gradient
    terms = fovea.loss_kl_div(p, q, reduction="none").reshape(x.shape)
    ends = logs.abs() > _EXPONENTS
    p = shares[ends]
    terms[ends] = torch.xlogy(p, p) - torch.where(p == 0, 0, p * logs[ends])
    return _reduced(terms, reduction), gradient


def _cross_entropy(x: Tensor, target: Tensor, reduction: str, need: bool, ignored: int,
                   smoothing: float) -> _Result:
    loss, gradient = _call("loss_cross_entropy", x, target, reduction, need, ignore_index=ignored,
                           label_smoothing=smoothing)
    if bool(loss.isnan().any()):  # as that of a target that is no class is
        known = target[target != ignored]
        if known.numel() and (known.min() < 0 or known.max() >= x.shape[1]):
            raise InvalidIndex(f"a target lies between {int(known.min())} and {int(known.max())}; "
                               f"there are {x.shape[1]} classes")
    return loss, gradient


_RUN: dict[str, Callable[..., _Result]] = {
    "mse": lambda x, y, r, need: _call("loss_mse", x, y, r, need),
    "l1": lambda x, y, r, need: _call("loss_mae", x, y, r, need),
    "huber": lambda x, y, r, need, delta: _call("loss_huber", x, y, r, need, delta=delta),
    "bce_logits": lambda x, y, r, need: _call("loss_bce", x, y, r, need, from_logits=True),
    "bce": _bce,
    "kl_div": lambda x, y, r, need: _kl_div(x, y, r, need, False),
    "kl_div_log": lambda x, y, r, need: _kl_div(x, y, r, need, True),
    "cross_entropy": lambda x, y, r, need, ignored, smoothing: _cross_entropy(
        x, y, r, need, int(ignored), smoothing),
}


def _run_loss(x: Tensor, target: Tensor, kind: str, reduction: str, options: list[float],
              need_gradient: bool) -> tuple[Tensor, Tensor]:
    loss, gradient = _RUN[kind](x, target, reduction, need_gradient, *options)
    return loss.to(x.dtype), x.new_empty((0,)) if gradient is None else gradient


def _fake_loss(x: Tensor, target: Tensor, kind: str, reduction: str, options: list[float],
               need_gradient: bool) -> tuple[Tensor, Tensor]:
    return (x.new_empty(target.shape if reduction == "none" else ()),
            x.new_empty(x.shape if need_gradient else (0,)))


def _remember_loss(ctx: Context, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, target, ctx.kind, ctx.reduction, _, _ = inputs
    ctx.save_for_backward(x, output[1], None if ctx.kind in _SYMMETRIC else target)
    ctx.mark_non_differentiable(output[1])


_SYMMETRIC = ("mse", "l1", "huber")


def _target_slope(kind: str, x: Tensor, target: Tensor) -> Tensor:
    """Of a term, to the target."""
    if kind == "bce_logits":
        return -x
    if kind == "bce":
        return (-x).log1p().clamp(min=-100) - x.log().clamp(min=-100)
    if kind == "kl_div":
        return target.log() + 1 - x
    return target.exp() * (target - x + 1)


def _loss_gradient(ctx: Context, dloss: Tensor, unused: Tensor) -> tuple[Tensor | None, ...]:
    x, gradient, target = ctx.saved_tensors
    outer = dloss.reshape((*dloss.shape, *[1] * (gradient.ndim - dloss.ndim)))
    of_target = None
    if ctx.needs_input_grad[1]:
        if ctx.kind in _SYMMETRIC:
            of_target = -(gradient * outer)
        else:
            of_target = _target_slope(ctx.kind, x, target) * (outer * _share(x, ctx.reduction))
    of_input = gradient * outer if ctx.needs_input_grad[0] else None
    return of_input, of_target, None, None, None, None


_loss = define("loss(Tensor x, Tensor target, str kind, str reduction, float[] options, "
               "bool need_gradient) -> (Tensor, Tensor)", _run_loss, _fake_loss, _loss_gradient,
               _remember_loss)


# ---- What the functions share -----------------------------------------------------------------


def _reduction_of(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    if size_average is not None or reduce is not None:  # deprecated, with a warning
        reduction = _reduction.legacy_get_string(size_average, reduce)
    if reduction not in ("none", "mean", "sum"):
        raise fovea.InvalidValue(f"{reduction} is not a valid value for reduction; it is 'none', "
                                 "'mean' or 'sum'")
    return reduction


def _together(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The tensors in the dtype that they promote to: float32 under autocast, as PyTorch has it."""
    dtype = input.dtype
    if dtype is not target.dtype:
        dtype = torch.promote_types(dtype, target.dtype)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.promote_types(dtype, torch.float32)
    return (input if input.dtype is dtype else input.to(dtype),
            target if target.dtype is dtype else target.to(dtype))


def _run(kind: str, input: Tensor, target: Tensor, reduction: str, *options: float) -> Tensor:
    check("input", input)
    if not isinstance(target, Tensor):
        check("target", target)
    if kind == "bce" and input.dtype != target.dtype and not torch.is_autocast_enabled("cpu"):
        raise InvalidCall(f"input is {input.dtype}, target {target.dtype}; they have one dtype")
    input, target = _together(input, target)
    check("target", target)
    if input.shape != target.shape:
        try:
            input, target = torch.broadcast_tensors(input, target)
        except RuntimeError as error:
            raise InvalidCall(str(error)) from None
    need = wants_gradient((input, target))
    if not need and is_plain((input, target)):
        plain: Tensor = _RUN[kind](input, target, reduction, False, *options)[0].to(input.dtype)
        return plain
    loss: Tensor = _loss(input, target, kind, reduction, list(options), need)[0]
    return loss


def _warn_of_sizes(input: Any, target: Any) -> None:
    if isinstance(input, Tensor) and isinstance(target, Tensor) and input.shape != target.shape:
        warnings.warn(f"target has shape {list(target.shape)}, input {list(input.shape)}; they are "
                      "broadcast, which is seldom what is meant", stacklevel=3)


def _same_sizes(input: Any, target: Any) -> None:
    if isinstance(input, Tensor) and isinstance(target, Tensor) and input.shape != target.shape:
        raise fovea.InvalidValue(f"target has shape {list(target.shape)}, input "
                                 f"{list(input.shape)}; they are equal")


def _weighted(terms: Tensor, weight: Tensor, reduction: str, divisor: Tensor | None = None) -> Tensor:
    check("weight", weight)
    terms = terms * weight
    if reduction == "none":
        return terms
    if reduction == "sum":
        return terms.sum()
    return terms.mean() if divisor is None else terms.sum() / divisor


def _weighted_by_sample(kind: str, input: Tensor, target: Tensor, reduction: str,
                        weight: Tensor | None, by_weight: bool, *options: float) -> Tensor:
    """Losses whose weight has the shape of the input; by_weight: their mean divides by its sum."""
    if weight is None:
        return _run(kind, input, target, reduction, *options)
    if weight.shape != input.shape:
        raise fovea.InvalidValue(f"weight has shape {list(weight.shape)}, input "
                                 f"{list(input.shape)}; they are equal")
    return _weighted(_run(kind, input, target, "none", *options), weight, reduction,
                     weight.sum() if by_weight else None)


# ---- Of two tensors ---------------------------------------------------------------------------


def mse_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
             reduce: bool | None = None, reduction: str = "mean",
             weight: Tensor | None = None) -> Tensor:
    """(x - y)^2"""
    _warn_of_sizes(input, target)
    reduction = _reduction_of(reduction, size_average, reduce)
    return _weighted_by_sample("mse", input, target, reduction, weight, True)


def l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
            reduce: bool | None = None, reduction: str = "mean",
            weight: Tensor | None = None) -> Tensor:
    """|x - y|"""
    _warn_of_sizes(input, target)
    reduction = _reduction_of(reduction, size_average, reduce)
    return _weighted_by_sample("l1", input, target, reduction, weight, True)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
               weight: Tensor | None = None) -> Tensor:
    """d^2/2 where d = |x - y| <= delta, else delta (d - delta/2)"""
    _warn_of_sizes(input, target)
    if delta <= 0:
        raise InvalidCall(f"delta is {delta}; it is above 0")
    reduction = _reduction_of(reduction, None, None)
    return _weighted_by_sample("huber", input, target, reduction, weight, False, float(delta))


def smooth_l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
                   reduce: bool | None = None, reduction: str = "mean",
                   beta: float = 1.0) -> Tensor:
    """d^2/(2 beta) where d = |x - y| < beta, else d - beta/2: huber_loss / beta"""
    _warn_of_sizes(input, target)
    if beta < 0:
        raise InvalidCall(f"beta is {beta}; it is at least 0")
    reduction = _reduction_of(reduction, size_average, reduce)
    if beta == 0:
        return _run("l1", input, target, reduction)
    loss = _run("huber", input, target, reduction, float(beta))
    return loss if beta == 1 else loss / beta


def kl_div(input: Tensor, target: Tensor, size_average: bool | None = None,
           reduce: bool | None = None, reduction: str = "mean",
           log_target: bool = False) -> Tensor:
    """y (ln y - x): the input holds logarithms, the target probabilities, or with log_target their
    logarithms. Where y is 0 a term is 0, also where x is -inf (PyTorch: NaN)."""
    by_batch = reduction == "batchmean" and size_average is None and reduce is None
    if reduction == "mean" and size_average is None and reduce is None:
        warnings.warn("reduction 'mean' divides by the number of elements; 'batchmean' divides by "
                      "the batch size, as the definition of the divergence does", stacklevel=2)
    reduction = "sum" if by_batch else _reduction_of(reduction, size_average, reduce)
    loss = _run("kl_div_log" if log_target else "kl_div", input, target, reduction)
    return loss / input.shape[0] if by_batch and input.ndim else loss


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None,
                         size_average: bool | None = None, reduce: bool | None = None,
                         reduction: str = "mean") -> Tensor:
    """-(y ln x + (1 - y) ln(1 - x)), the logarithms at least -100"""
    reduction = _reduction_of(reduction, size_average, reduce)
    _same_sizes(input, target)
    if weight is None:
        return _run("bce", input, target, reduction)
    return _weighted(_run("bce", input, target, "none"), weight, reduction)


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                     size_average: bool | None = None,
                                     reduce: bool | None = None, reduction: str = "mean",
                                     pos_weight: Tensor | None = None) -> Tensor:
    """max(x, 0) - x y + ln(1 + e^-|x|); pos_weight multiplies the term of y = 1"""
    reduction = _reduction_of(reduction, size_average, reduce)
    _same_sizes(input, target)
    if pos_weight is not None:
        # p y softplus(-x) + (1 - y) softplus(x) is a multiple of the loss to another target.
        check("pos_weight", pos_weight)
        positive = pos_weight * target
        sum_of_both = positive + (1 - target)
        target = torch.where(sum_of_both == 0, 0, positive / sum_of_both)
        weight = sum_of_both if weight is None else weight * sum_of_both
    if weight is None:
        return _run("bce_logits", input, target, reduction)
    return _weighted(_run("bce_logits", input, target, "none"), weight, reduction)


# ---- Cross entropy ----------------------------------------------------------------------------


def _probable_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str,
                            smoothing: float) -> Tensor:
    """Of targets that are probabilities of the classes."""
    check("target", target)
    axis = 0 if input.ndim == 1 else 1
    classes = input.shape[axis]
    if weight is not None and weight.shape != (classes,):
        raise InvalidCall(f"weight has shape {list(weight.shape)}; it is [{classes}]")
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    terms = log_softmax(input, axis) * target
    if weight is not None:
        terms = terms * weight.reshape(-1, *[1] * (input.ndim - axis - 1))
    loss = -terms.sum(axis)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / max(input.numel() // max(classes, 1), 1)


def _weighted_cross_entropy(rows: Tensor, target: Tensor, weight: Tensor, reduction: str,
                            ignored: int, smoothing: float) -> Tensor:
    """Of rows [N, C] whose classes have weights."""
    check("weight", weight)
    if weight.shape != rows.shape[1:]:
        raise InvalidCall(f"weight has shape {list(weight.shape)}; it is [{rows.shape[1]}]")
    counted = target != ignored
    classes = torch.where(counted, target, 0)
    if bool(((classes < 0) | (classes >= rows.shape[1])).any()):
        raise InvalidIndex(f"a target is outside [0, {rows.shape[1]})")
    logs = log_softmax(rows, 1)
    own = weight[classes] * counted
    loss = -logs.gather(1, classes[:, None])[:, 0] * own
    if smoothing:
        spread = -(logs * weight).sum(1) * counted
        loss = (1 - smoothing) * loss + (smoothing / rows.shape[1]) * spread
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / own.sum()


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None,
                  size_average: bool | None = None, ignore_index: int = -100,
                  reduce: bool | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log_softmax(x)[target], of classes along axis 1; targets are class numbers, or probabilities"""
    reduction = _reduction_of(reduction, size_average, reduce)
    check("input", input)
    if not isinstance(target, Tensor):
        raise fovea.InvalidType(f"target is a {type(target).__name__}, not a torch.Tensor")
    if input.ndim == 0:
        raise InvalidCall("input has no axis of classes")
    if not 0 <= label_smoothing <= 1:
        raise InvalidCall(f"label_smoothing is {label_smoothing}; it lies between 0 and 1")
    if torch.is_autocast_enabled("cpu"):
        input = input.float()
    if target.is_floating_point() and target.shape == input.shape:
        return _probable_cross_entropy(input, target, weight, reduction, label_smoothing)
    if target.dtype == torch.uint8:
        target = target.long()
    if target.dtype != torch.int64:
        raise fovea.Unsupported(f"target is {target.dtype}; served are class numbers in int64, and "
                                "probabilities of the shape of the input")
    classes = input.shape[0 if input.ndim == 1 else 1]
    rows = input.reshape(1, classes) if input.ndim == 1 else input.movedim(1, -1)
    if rows.shape[:-1] != (target.shape if input.ndim > 1 else (1,)) or (
            input.ndim == 1 and target.ndim):
        kind = fovea.InvalidValue if input.ndim <= 2 else InvalidCall
        raise kind(f"target has shape {list(target.shape)}; input of shape {list(input.shape)} "
                   f"has targets of shape {list(input.shape[:1] + input.shape[2:])}")
    flat, classes_of = rows.reshape(math.prod(rows.shape[:-1]), classes), target.reshape(-1)
    if weight is not None:
        loss = _weighted_cross_entropy(flat, classes_of, weight, reduction, ignore_index,
                                       label_smoothing)
    else:
        loss = _loss(flat, classes_of, "cross_entropy", reduction,
                     [float(ignore_index), float(label_smoothing)], wants_gradient((input,)))[0]
    return loss.reshape(target.shape) if reduction == "none" else loss
