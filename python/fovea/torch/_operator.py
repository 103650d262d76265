"""Attention and its gradient as operators of torch.library: `fovea::attention` and
`fovea::attention_backward`, with fake implementations, so that torch.compile and torch.export pass
through them, and with autograd. The drop-ins for PyTorch are thin layers over `attend`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import fovea

# What both operators take after their tensors of numbers, in one order.
_TENSORS = ("mask", "bias", "slopes", "sinks", "cu_seqlens_q", "cu_seqlens_k", "seqused_k",
            "block_table", "seed")
_OPTIONS = ("scale", "softcap", "dropout", "query_offset", "window_left", "window_right", "causal")
_SETTINGS = (", ".join(f"Tensor? {name}" for name in _TENSORS) +
             ", float? scale, float? softcap, float dropout, int query_offset, int window_left, "
             "int window_right, str causal")
_BIAS, _SINKS, _SEED = (_TENSORS.index(name) for name in ("bias", "sinks", "seed"))

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class InvalidCall(fovea.InvalidValue, RuntimeError):
    """A call that PyTorch would refuse with a RuntimeError."""


class InvalidIndex(fovea.InvalidValue, IndexError):
    """A call that PyTorch would refuse with an IndexError."""


# Called after each attention that a kernel served, in whatever thread.
observers: list[Callable[[], None]] = []


def _settings(tensors, options):
    """The keyword arguments of fovea.attention and its gradient."""
    settings = dict(zip(_OPTIONS, options))
    for name, tensor in zip(_TENSORS, tensors):
        if tensor is not None:
            settings[name] = tensor
    if "seed" in settings:
        settings["seed"] = int(settings["seed"])
    return settings


def result_like(q: Tensor, v: Tensor) -> Tensor:
    """Room for the result of attention: in the order in memory of q, as PyTorch makes it."""
    if q.shape[-1] == v.shape[-1]:
        return torch.empty_like(q)
    return q.new_empty((*q.shape[:-1], v.shape[-1]))


def _lse_shape(q: Tensor, need_lse: bool):
    if not need_lse:
        return (0,)
    return (q.shape[1], q.shape[0]) if q.ndim == 3 else q.shape[:-1]


def _is_plain(tensors) -> bool:
    """Nothing traces, fakes or transforms these tensors: the kernel may be called as it is."""
    if torch.compiler.is_compiling():
        return False
    for tensor in tensors:
        if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
            return False
    return (torch._C._len_torch_dispatch_stack() == 0
            and torch._C._functorch.peek_interpreter_stack() is None
            and torch._C._get_tracing_state() is None)


def _forward(q, k, v, tensors, options, need_lse):
    out = result_like(q, v)
    lse = q.new_empty(_lse_shape(q, True), dtype=torch.float32) if need_lse else None
    fovea.attention(q, k, v, out=out, lse=lse, **_settings(tensors, options))
    for observe in observers:
        observe()
    return out, lse


_library = torch.library.Library("fovea", "DEF")
_library.define(f"attention(Tensor q, Tensor k, Tensor v, {_SETTINGS}, bool need_lse) "
                "-> (Tensor, Tensor)", tags=[torch.Tag.pt2_compliant_tag])
_library.define(f"attention_backward(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
                f"Tensor dout, {_SETTINGS}, bool need_dbias, bool need_dsinks) "
                "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
                tags=[torch.Tag.pt2_compliant_tag])


@torch.library.impl(_library, "attention", "CPU")
def _attention(q, k, v, *rest):
    with torch.no_grad():
        out, lse = _forward(q, k, v, rest[:len(_TENSORS)], rest[len(_TENSORS):-1], rest[-1])
    return out, q.new_empty((0,), dtype=torch.float32) if lse is None else lse


@torch.library.register_fake("fovea::attention", lib=_library)
def _fake_attention(q, k, v, *rest):
    return result_like(q, v), q.new_empty(_lse_shape(q, rest[-1]), dtype=torch.float32)


def _gradients_like(q, k, v, tensors, need_dbias, need_dsinks):
    bias, sinks = tensors[_BIAS], tensors[_SINKS]
    nothing = q.new_empty((0,))
    return (torch.empty_like(q), torch.empty_like(k), torch.empty_like(v),
            bias.new_empty(bias.shape) if need_dbias else nothing,
            sinks.new_empty(sinks.shape) if need_dsinks else q.new_empty((0,)))


def _backward(q, k, v, out, lse, dout, tensors, options, need_dbias, need_dsinks):
    made = _gradients_like(q, k, v, tensors, need_dbias, need_dsinks)
    settings = _settings(tensors, options)
    if need_dbias:
        settings["dbias"] = made[3]
    if need_dsinks:
        settings["dsinks"] = made[4]
    fovea.attention_backward(q, k, v, out, lse, dout, out=made[:3], **settings)
    return made


@torch.library.impl(_library, "attention_backward", "CPU")
def _attention_backward(q, k, v, out, lse, dout, *rest):
    with torch.no_grad():
        return _backward(q, k, v, out, lse, dout, rest[:len(_TENSORS)], rest[len(_TENSORS):-2],
                         *rest[-2:])


@torch.library.register_fake("fovea::attention_backward", lib=_library)
def _fake_backward(q, k, v, out, lse, dout, *rest):
    return _gradients_like(q, k, v, rest[:len(_TENSORS)], *rest[-2:])


def _remember(ctx, inputs, output):
    q, k, v, *rest = inputs
    ctx.options = rest[len(_TENSORS):-1]
    ctx.save_for_backward(q, k, v, *output, *rest[:len(_TENSORS)])
    ctx.has_lse = rest[-1]


def _gradient(ctx, dout, dlse):
    """Of the arguments of the operator, from what _remember kept."""
    if not ctx.has_lse:
        raise fovea.Unsupported("this call of fovea::attention was made with need_lse=False and "
                                "has no gradient; need_lse=True gives one")
    q, k, v, out, lse, *tensors = ctx.saved_tensors
    first = 3  # of the optional tensors among the operator's arguments
    need_dbias = ctx.needs_input_grad[first + _BIAS]
    need_dsinks = ctx.needs_input_grad[first + _SINKS]
    if torch.is_grad_enabled() or not _is_plain((q, dout)):
        run = torch.ops.fovea.attention_backward
        dq, dk, dv, dbias, dsinks = run(q, k, v, out, lse, dout, *tensors, *ctx.options,
                                        need_dbias, need_dsinks)
    else:
        dq, dk, dv, dbias, dsinks = _backward(q, k, v, out, lse, dout, tensors, ctx.options,
                                              need_dbias, need_dsinks)
    optional = [None] * len(_TENSORS)
    optional[_BIAS] = dbias if need_dbias else None
    optional[_SINKS] = dsinks if need_dsinks else None
    return dq, dk, dv, *optional, *[None] * (len(_OPTIONS) + 1)


class _Eager(torch.autograd.Function):
    """The operator without PyTorch's dispatcher, which takes a hundred microseconds where gradients
    are asked for: for tensors that nothing traces, fakes or transforms."""

    @staticmethod
    def forward(ctx, q, k, v, *rest):
        output = _forward(q, k, v, rest[:len(_TENSORS)], rest[len(_TENSORS):-1], True)
        _remember(ctx, (q, k, v, *rest), output)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        return output

    @staticmethod
    def backward(ctx, dout, dlse):
        if dout is None:
            return (None,) * len(ctx.needs_input_grad)
        return _gradient(ctx, dout, dlse)


def _no_second_gradient(ctx, *gradients):
    raise fovea.Unsupported("attention_backward has no gradient of its own: differentiating twice "
                            "through Fovea's attention is not served")


torch.library.register_autograd("fovea::attention", _gradient, setup_context=_remember,
                                lib=_library)
torch.library.register_autograd("fovea::attention_backward", _no_second_gradient, lib=_library)


def draw_seed() -> Tensor:
    """A seed for dropout, from PyTorch's generator."""
    return torch.randint(2**62, (), dtype=torch.int64)


def attend(q, k, v, *, mask=None, bias=None, slopes=None, sinks=None, cu_seqlens_q=None,
           cu_seqlens_k=None, seqused_k=None, block_table=None, scale=None, softcap=None,
           dropout=0.0, query_offset=0, window_left=-1, window_right=-1, causal="none",
           need_lse=False, seed=None):
    """(out, lse) of attention on [B, H, S, D] or packed [total, H, D]; lse is None or empty unless
    asked for or needed by autograd. The seed of dropout comes from PyTorch's generator."""
    if dropout and seed is None:
        seed = draw_seed()
    tensors = (mask, bias, slopes, sinks, cu_seqlens_q, cu_seqlens_k, seqused_k, block_table, seed)
    options = (scale, softcap, dropout, query_offset, window_left, window_right, causal)
    differentiable = [tensor for tensor in (q, k, v, bias, sinks) if tensor is not None]
    with_gradient = False
    if torch.is_grad_enabled():
        for tensor in differentiable:
            with_gradient = with_gradient or tensor.requires_grad
    if not _is_plain(differentiable):
        return torch.ops.fovea.attention(q, k, v, *tensors, *options, need_lse or with_gradient)
    if with_gradient:
        return _Eager.apply(q, k, v, *tensors, *options, True)
    return _forward(q, k, v, tensors, options, need_lse)
