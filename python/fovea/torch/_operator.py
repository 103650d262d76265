"""Attention and its gradient as operators of torch.library: `fovea::attention` and
`fovea::attention_backward`, with fake implementations, so that torch.compile and torch.export pass
through them, and with autograd. The drop-ins for PyTorch are thin layers over `attend`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import fovea

from ._registry import DTYPES as DTYPES
from ._registry import Context, is_eager, is_plain, library, wants_gradient
from ._registry import InvalidCall as InvalidCall
from ._registry import InvalidIndex as InvalidIndex

# What both operators take after their tensors of numbers, in one order, and defaults.
_TENSORS = ("mask", "bias", "slopes", "sinks", "cu_seqlens_q", "cu_seqlens_k", "seqused_k",
            "block_table", "seed")
_OPTIONS = {"scale": None, "softcap": None, "dropout": 0.0, "query_offset": 0, "window_left": -1,
            "window_right": -1, "causal": "none"}
_SETTINGS = (", ".join(f"Tensor? {name}" for name in _TENSORS) +
             ", float? scale, float? softcap, float dropout, int query_offset, int window_left, "
             "int window_right, str causal")
_DIFFERENTIABLE = ("bias", "sinks")

Settings = dict[str, Any]  # keyword arguments of fovea.attention and its gradient

# Called after each attention that a kernel served, in whatever thread.
observers: list[Callable[[], None]] = []


def _settings(values: tuple[Any, ...]) -> Settings:
    """Of what an operator was called with after its tensors of numbers."""
    return {name: value for name, value in zip((*_TENSORS, *_OPTIONS), values) if value is not None}


def _arguments(settings: Settings) -> list[Any]:
    """The settings as an operator takes them."""
    return [*(settings.get(name) for name in _TENSORS),
            *(settings.get(name, default) for name, default in _OPTIONS.items())]


def _keywords(settings: Settings) -> Settings:
    """As the kernel takes them, to which a seed is a number."""
    seed = settings.get("seed")
    return settings if seed is None else {**settings, "seed": int(seed)}


def result_like(q: Tensor, v: Tensor) -> Tensor:
    """Room for the result of attention: in the order in memory of q, as PyTorch makes it."""
    if q.shape[-1] == v.shape[-1]:
        return torch.empty_like(q)
    return q.new_empty((*q.shape[:-1], v.shape[-1]))


def _lse_shape(q: Tensor, need_lse: bool) -> tuple[int, ...]:
    if not need_lse:
        return (0,)
    return (q.shape[1], q.shape[0]) if q.ndim == 3 else q.shape[:-1]


def _forward(q: Tensor, k: Tensor, v: Tensor, settings: Settings,
             need_lse: bool) -> tuple[Tensor, Tensor | None]:
    out = result_like(q, v)
    lse = q.new_empty(_lse_shape(q, True), dtype=torch.float32) if need_lse else None
    fovea.attention(q, k, v, out=out, lse=lse, **_keywords(settings))
    for observe in observers:
        observe()
    return out, lse


# ---- The operators ----------------------------------------------------------------------------

library.define(f"attention(Tensor q, Tensor k, Tensor v, {_SETTINGS}, bool need_lse) "
               "-> (Tensor, Tensor)", tags=[torch.Tag.pt2_compliant_tag])
library.define(f"attention_backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
               f"Tensor dout, {_SETTINGS}, bool need_dbias, bool need_dsinks) "
               "-> (Tensor, Tensor, Tensor, Tensor, Tensor)", tags=[torch.Tag.pt2_compliant_tag])


def _attention(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        out, lse = _forward(q, k, v, _settings(rest[:-1]), rest[-1])
    return out, q.new_empty((0,), dtype=torch.float32) if lse is None else lse


def _fake_attention(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return result_like(q, v), q.new_empty(_lse_shape(q, rest[-1]), dtype=torch.float32)


def _gradients_like(q: Tensor, k: Tensor, v: Tensor, settings: Settings, need_dbias: bool,
                    need_dsinks: bool) -> tuple[Tensor, ...]:
    bias, sinks = (settings[name] if need else q.new_empty((0,))
                   for name, need in (("bias", need_dbias), ("sinks", need_dsinks)))
    return (torch.empty_like(q), torch.empty_like(k), torch.empty_like(v),
            bias.new_empty(bias.shape), sinks.new_empty(sinks.shape))


def _backward(q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dout: Tensor,
              settings: Settings, need_dbias: bool, need_dsinks: bool) -> tuple[Tensor, ...]:
    made = _gradients_like(q, k, v, settings, need_dbias, need_dsinks)
    more = _keywords(settings)
    if need_dbias:
        more = {**more, "dbias": made[3]}
    if need_dsinks:
        more = {**more, "dsinks": made[4]}
    fovea.attention_backward(q, k, v, out, lse, dout, out=made[:3], **more)
    return made


def _attention_backward(q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dout: Tensor,
                        *rest: Any) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return _backward(q, k, v, out, lse, dout, _settings(rest[:-2]), *rest[-2:])


def _fake_backward(q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dout: Tensor,
                   *rest: Any) -> tuple[Tensor, ...]:
    return _gradients_like(q, k, v, _settings(rest[:-2]), *rest[-2:])


library.impl("attention", _attention, "CPU")
library.impl("attention_backward", _attention_backward, "CPU")
torch.library.register_fake("fovea::attention", _fake_attention, lib=library)
torch.library.register_fake("fovea::attention_backward", _fake_backward, lib=library)
_dispatched = torch.ops.fovea.attention.default
_dispatched_backward = torch.ops.fovea.attention_backward.default


# ---- Their gradients --------------------------------------------------------------------------


def _remember(ctx: Context, tensors: tuple[Tensor, ...], settings: Settings,
              output: tuple[Tensor, Tensor | None]) -> None:
    """tensors are q, k and v; those among the settings are saved, too."""
    kept = {name: settings[name] for name in _TENSORS if settings.get(name) is not None}
    ctx.names = tuple(kept)
    ctx.settings = {name: value for name, value in settings.items() if name in _OPTIONS}
    ctx.save_for_backward(*tensors, *output, *kept.values())


def _gradient(ctx: Context, dout: Tensor, need_dbias: bool,
              need_dsinks: bool) -> tuple[Tensor, ...]:
    """Of q, k, v, bias and sinks, from what _remember kept."""
    q, k, v, out, lse, *kept = ctx.saved_tensors
    settings = {**ctx.settings, **dict(zip(ctx.names, kept))}
    needs = need_dbias, need_dsinks
    made: tuple[Tensor, ...]
    if not is_eager((q, dout)):
        made = _dispatched_backward(q, k, v, out, lse, dout, *_arguments(settings), *needs)
    elif torch.is_grad_enabled() or not is_plain((q, dout)):
        made = _EagerBackward.apply(q, k, v, out, lse, dout, settings, *needs)
    else:
        made = _backward(q, k, v, out, lse, dout, settings, *needs)
    return made


def _remember_call(ctx: Context, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.has_lse = inputs[-1]
    _remember(ctx, inputs[:3], _settings(inputs[3:-1]), output)


def _gradient_of_call(ctx: Context, dout: Tensor, dlse: Tensor) -> tuple[Tensor | None, ...]:
    """Of the arguments of the operator."""
    if not ctx.has_lse:
        raise fovea.Unsupported("this call of fovea::attention was made with need_lse=False and "
                                "has no gradient; need_lse=True gives one")
    needs = {name: ctx.needs_input_grad[3 + _TENSORS.index(name)] for name in _DIFFERENTIABLE}
    dq, dk, dv, *more = _gradient(ctx, dout, *needs.values())
    given = {name: g for name, g in zip(_DIFFERENTIABLE, more) if needs[name]}
    return dq, dk, dv, *(given.get(name) for name in _TENSORS), *[None] * (len(_OPTIONS) + 1)


def _no_second_gradient(ctx: Context, *gradients: Tensor) -> None:
    raise fovea.Unsupported("attention_backward has no gradient of its own: differentiating twice "
                            "through Fovea's attention is not served")


torch.library.register_autograd("fovea::attention", _gradient_of_call,
                                setup_context=_remember_call, lib=library)
torch.library.register_autograd("fovea::attention_backward", _no_second_gradient, lib=library)


def _gradient_of_eager(ctx: Context, *gradients: Any) -> tuple[Tensor | None, ...]:
    if gradients[0] is None:
        return (None,) * 6
    needs = ctx.needs_input_grad[3:5]
    dq, dk, dv, *more = _gradient(ctx, gradients[0], *needs)
    return dq, dk, dv, *(g if need else None for g, need in zip(more, needs)), None


class _Eager(torch.autograd.Function):
    """The operator without PyTorch's dispatcher, which takes a hundred microseconds where gradients
    are asked for. What has no gradient comes in one argument, since each costs."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None,
                sinks: Tensor | None, settings: Settings) -> tuple[Tensor, Tensor | None]:
        output = _forward(q, k, v, settings, True)
        _remember(ctx, (q, k, v), settings, output)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        return _gradient_of_eager(ctx, *gradients)


class _Transformed(torch.autograd.Function):
    """The same for torch.func, which knows no operators made in Python. PyTorch looks at the signatures
    of such functions in each call, which takes twenty microseconds."""

    generate_vmap_rule = True

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, sinks: Tensor | None,
                settings: Settings) -> Any:
        if is_plain((q, k, v)):
            return _forward(q, k, v, settings, True)
        return _dispatched(q, k, v, *_arguments({**settings, "bias": bias, "sinks": sinks}), True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, bias, sinks, settings = inputs
        _remember(ctx, tuple(tensors), {**settings, "bias": bias, "sinks": sinks}, output)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        return _gradient_of_eager(ctx, *gradients)


class _EagerBackward(torch.autograd.Function):
    """The gradient where it may be asked for a gradient of its own, and for torch.func."""

    generate_vmap_rule = True

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dout: Tensor,
                settings: Settings, *needs: bool) -> Any:
        if is_plain((q, dout)):
            return _backward(q, k, v, out, lse, dout, settings, *needs)
        return _dispatched_backward(q, k, v, out, lse, dout, *_arguments(settings), *needs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> None:
        _no_second_gradient(ctx, *gradients)


# ---- What the drop-ins call -------------------------------------------------------------------


def draw_seed() -> Tensor:
    """A seed for dropout, from PyTorch's generator."""
    return torch.randint(2**62, (), dtype=torch.int64)


def attend(q: Tensor, k: Tensor, v: Tensor, *, need_lse: bool = False,
           **settings: Any) -> tuple[Tensor, Tensor | None]:
    """(out, lse) of attention on [B, H, S, D] or packed [total, H, D], with the keywords of
    fovea.attention; lse is None or empty unless asked for or needed by autograd. The seed of dropout
    comes from PyTorch's generator if none is given."""
    if settings.get("dropout") and settings.get("seed") is None:
        settings["seed"] = draw_seed()
    bias, sinks = settings.get("bias"), settings.get("sinks")
    numbers = (q, k, v, bias, sinks)
    with_gradient = wants_gradient(numbers)
    if not is_eager(numbers):
        made: tuple[Tensor, Tensor] = _dispatched(q, k, v, *_arguments(settings),
                                                  need_lse or with_gradient)
        return made
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    if with_gradient or transformed:
        run = _Transformed if transformed else _Eager
        both: tuple[Tensor, Tensor] = run.apply(q, k, v, bias, sinks, settings)
        return both
    return _forward(q, k, v, settings, need_lse)
