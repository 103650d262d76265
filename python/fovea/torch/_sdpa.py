"""torch.nn.functional.scaled_dot_product_attention on Fovea's kernels, and `enabled`, which puts it
in the place of PyTorch's own."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import fovea

from ._operator import attend, observers
from ._registry import DTYPES, InvalidCall, InvalidIndex

_upstream = torch.nn.functional.scaled_dot_product_attention


def _require_tensors(**arguments: Any) -> None:
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise fovea.InvalidType(f"{name} is a {type(value).__name__}, not a torch.Tensor")


def _why_not(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> str | None:
    """Why Fovea does not serve tensors of this kind; None where it does."""
    for tensor in (query, key, value, attn_mask):
        if tensor is None:
            continue
        if tensor.is_nested:
            return "nested tensors"
        if tensor.layout is not torch.strided:
            return f"layout {tensor.layout}"
        if not tensor.is_cpu:
            return f"device {tensor.device.type}"
    if query.dtype not in DTYPES:
        return f"dtype {query.dtype}"
    return None


def _shapes(query: Tensor, key: Tensor, value: Tensor) -> str:
    return (f"query has shape {list(query.shape)}, key {list(key.shape)}, "
            f"value {list(value.shape)}")


def _check(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, dropout_p: float,
           is_causal: bool) -> None:
    if not query.dtype == key.dtype == value.dtype:
        raise InvalidCall(f"query is {query.dtype}, key {key.dtype} and value {value.dtype}; "
                          "all three have one dtype")
    if not query.device == key.device == value.device:
        raise InvalidCall(f"query is on {query.device}, key on {key.device} and value on "
                          f"{value.device}; all three are on one device")
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise InvalidCall(f"{_shapes(query, key, value)}; each has at least two axes")
    if query.shape[-1] != key.shape[-1]:
        raise InvalidCall(f"{_shapes(query, key, value)}; the last axes of query and key are equal")
    if key.shape[-2] != value.shape[-2]:
        raise InvalidCall(f"{_shapes(query, key, value)}; key and value have equally many rows")
    if not 0 <= dropout_p <= 1:
        raise InvalidCall(f"dropout_p is {dropout_p}; it lies between 0 and 1")
    if attn_mask is None:
        return
    if is_causal:
        raise InvalidCall("attn_mask is given and is_causal is True; it is one or the other")
    if attn_mask.dtype not in (torch.bool, torch.float32, query.dtype):
        raise InvalidCall(f"attn_mask is {attn_mask.dtype}; it is bool, float32 or query's "
                          f"{query.dtype}")
    if attn_mask.dtype == torch.float32 and query.dtype == torch.float64:
        raise InvalidCall("attn_mask is float32 where query is float64")
    if attn_mask.ndim < 2:
        raise InvalidIndex(f"attn_mask has shape {list(attn_mask.shape)}; it has at least two axes")


def _broadcast(first: Sequence[int], *others: Sequence[int]) -> Sequence[int]:
    if all(shape == first for shape in others):
        return first
    try:
        return tuple(torch.broadcast_shapes(first, *others))
    except RuntimeError:
        shapes = " and ".join(str(list(shape)) for shape in (first, *others))
        raise InvalidCall(f"the axes {shapes} of query, key and value, before their last "
                          "two, do not broadcast") from None


def _agree_heads(query: Tensor, key: Tensor, value: Tensor,
                 enable_gqa: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The tensors, of at least three axes, with head counts that attention takes."""
    heads = [tensor.shape[-3] for tensor in (query, key, value)]
    if enable_gqa:
        if any(n == 0 or heads[0] % n for n in heads[1:]):
            raise InvalidCall(f"query has {heads[0]} heads, key {heads[1]} and value {heads[2]}; "
                              "with enable_gqa those of query are a multiple of the others")
        if heads[1] != heads[2]:
            key = key.repeat_interleave(heads[0] // heads[1], -3)
            value = value.repeat_interleave(heads[0] // heads[2], -3)
        return query, key, value
    if heads[0] == heads[1] == heads[2]:
        return query, key, value
    (count,) = _broadcast(*((n,) for n in heads))
    if heads[0] != count:
        query = query.expand(*query.shape[:-3], count, *query.shape[-2:])
    if heads[1] != heads[2]:  # otherwise one head of both serves all of query
        key = key.expand(*key.shape[:-3], count, *key.shape[-2:])
        value = value.expand(*value.shape[:-3], count, *value.shape[-2:])
    return query, key, value


def _to_batch(tensor: Tensor, lead: Sequence[int]) -> Tensor:
    """[..., H, S, D] to [B, H, S, D], B the product of the leading axes."""
    if tensor.ndim == 4 and tensor.shape[:1] == lead:
        return tensor
    tensor = tensor.expand(*lead, *tensor.shape[-3:])
    return tensor if len(lead) == 1 else tensor.reshape(math.prod(lead), *tensor.shape[-3:])


def _mask_to_batch(mask: Tensor, lead: Sequence[int], rows: Sequence[int]) -> Tensor:
    """The mask with at most four axes; rows is [H, L, S]."""
    full = (*lead, *rows)
    shape = mask.shape
    fits = len(shape) <= len(full) and all(
        mine in (1, its) for mine, its in zip(reversed(shape), reversed(full)))
    if not fits:
        raise InvalidCall(f"attn_mask has shape {list(shape)}, which does not broadcast to "
                          f"{list(full)}")
    if mask.ndim <= 4 and len(lead) <= 1:
        return mask
    if mask.ndim <= 3:
        return mask
    return mask.expand(*lead, *shape[-3:]).reshape(math.prod(lead), *shape[-3:])


def _quick(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float | None,
           enable_gqa: bool) -> Tensor | None:
    """The result of the most usual calls, whose tensors are as the kernel takes them, by the shortest
    way; the kernel itself checks them. None of others, which the long way serves or refuses."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return None
    if type(is_causal) is not bool or type(enable_gqa) is not bool or not query.is_cpu:
        return None
    q, k, v = query.shape, key.shape, value.shape
    if not (len(q) == len(k) == len(v) == 4 and q[0] == k[0] == v[0] and k[1] == v[1]
            and q[3] == v[3]):
        return None
    if q[1] != k[1] and not (enable_gqa and k[1] > 0 and q[1] % k[1] == 0):
        return None
    try:
        return attend(query, key, value, scale=scale, causal="top_left" if is_causal else "none")[0]
    except (fovea.Error, RuntimeError):
        return None


def _serve(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, dropout_p: float,
           is_causal: bool, scale: float | None, enable_gqa: bool) -> Tensor:
    rank = max(query.ndim, key.ndim, value.ndim)
    if enable_gqa and rank < 3:
        raise InvalidIndex("enable_gqa needs an axis of heads: the tensors have two axes")
    q, k, v = (t if t.ndim >= 3 else t.unsqueeze(0) for t in (query, key, value))
    q, k, v = _agree_heads(q, k, v, enable_gqa)
    lead = _broadcast(q.shape[:-3], k.shape[:-3], v.shape[:-3])
    batch = lead or (1,)
    q, k, v = (_to_batch(t, batch) for t in (q, k, v))
    if attn_mask is not None:
        rows = (q.shape[1], q.shape[2], k.shape[2])
        attn_mask = _mask_to_batch(attn_mask, lead, rows)
    options: dict[str, Any] = {"causal": "top_left"} if is_causal else {}
    if attn_mask is not None:
        options["mask" if attn_mask.dtype == torch.bool else "bias"] = attn_mask
    if dropout_p == 1:  # nothing is kept: nothing is attended
        options = {"mask": torch.zeros((1, 1), dtype=torch.bool)}
        dropout_p = 0.0
    out, _ = attend(q, k, v, scale=scale, dropout=dropout_p, **options)
    if rank == 4 and len(lead) == 1:
        return out
    if rank == 2:
        return out[0, 0]
    return out.reshape(*lead, *out.shape[1:])


def _autocast(*tensors: Tensor | None) -> tuple[Any, ...]:
    """What autocast makes of the arguments: PyTorch lists its attention among the operators that
    run in the lower precision."""
    dtype = torch.get_autocast_dtype("cpu")

    def lower(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or tensor.dtype not in DTYPES:
            return tensor
        return tensor.to(dtype)

    return tuple(map(lower, tensors))


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor,
                                 attn_mask: Tensor | None = None, dropout_p: float = 0.0,
                                 is_causal: bool = False, *, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """torch.nn.functional.scaled_dot_product_attention, computed by Fovea.

    Arguments, broadcasting, result and types of errors are PyTorch's. Served are strided float32,
    float16 and bfloat16 tensors on the CPU; others raise fovea.Unsupported. Key and value heads are
    never repeated in memory. The random bits of dropout are Fovea's own, seeded by PyTorch's
    generator. The gradient is deterministic; it cannot be differentiated again."""
    if (attn_mask is None and dropout_p == 0 and type(query) is Tensor and type(key) is Tensor
            and type(value) is Tensor):
        quick = _quick(query, key, value, is_causal, scale, enable_gqa)
        if quick is not None:
            return quick
    arguments = (query, key, value, attn_mask)
    if torch.overrides.has_torch_function(arguments):
        return torch.overrides.handle_torch_function(
            scaled_dot_product_attention, arguments, query, key, value, attn_mask=attn_mask,
            dropout_p=dropout_p, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa)
    _require_tensors(query=query, key=key, value=value)
    if attn_mask is not None:
        _require_tensors(attn_mask=attn_mask)
    for name, flag in (("is_causal", is_causal), ("enable_gqa", enable_gqa)):
        if not isinstance(flag, bool):
            raise fovea.InvalidType(f"{name} is a {type(flag).__name__}, not a bool")
    if scale is not None and isinstance(scale, str):
        raise fovea.InvalidType("scale is a str, not a number")
    if torch.is_autocast_enabled("cpu"):
        query, key, value, attn_mask = _autocast(query, key, value, attn_mask)
    _check(query, key, value, attn_mask, dropout_p, is_causal)
    reason = _why_not(query, key, value, attn_mask)
    if reason:
        raise fovea.Unsupported(f"Fovea does not serve this attention: {reason}")
    return _serve(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)


class enabled:
    """Puts Fovea's attention in the place of PyTorch's inside a block, in whatever model runs there:

        with fovea.torch.enabled() as calls:
            model(tokens)
        print(calls)

    `calls.served` counts the calls that Fovea's kernels served, also those of compiled graphs;
    `calls.declined` says of each reason how many calls went to PyTorch for it. Every module that
    holds PyTorch's function by a name sees Fovea's inside the block, in all threads. The fused
    path of torch.nn.MultiheadAttention, which calls no attention function, is off inside."""

    _lock = threading.Lock()
    _active: list[enabled] = []
    _replaced: list[tuple[Any, str]] = []
    _fast_path = True

    def __init__(self) -> None:
        self.served = 0
        self.declined: dict[str, int] = {}

    def __enter__(self) -> enabled:
        with self._lock:
            if not self._active:
                self._replace()
            self._active.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._active.remove(self)
            if not self._active:
                self._restore()
        logging.getLogger("fovea").info("%s", self)

    def __str__(self) -> str:
        text = f"Fovea served {self.served} calls of attention"
        if self.declined:
            reasons = ", ".join(f"{reason}: {n}" for reason, n in sorted(self.declined.items()))
            text += f" and left {sum(self.declined.values())} to PyTorch ({reasons})"
        return text

    @classmethod
    def _replace(cls) -> None:
        """In every module, since models import the function by name, but those of PyTorch's C
        code: torch.compile finds there what it knows."""
        cls._fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        observers.append(cls._count_served)
        for module_name, module in list(sys.modules.items()):
            names = getattr(module, "__dict__", None)
            inside = module_name == __name__ or module_name.startswith("torch._C")
            if inside or not isinstance(names, dict):
                continue
            for name, value in list(names.items()):
                if value is _upstream:
                    cls._replaced.append((module, name))
        for module, name in cls._replaced:
            setattr(module, name, _in_place_of_upstream)

    @classmethod
    def _restore(cls) -> None:
        for module, name in cls._replaced:
            setattr(module, name, _upstream)
        cls._replaced.clear()
        observers.remove(cls._count_served)
        torch.backends.mha.set_fastpath_enabled(cls._fast_path)

    @classmethod
    def _count_served(cls) -> None:
        with cls._lock:
            for report in cls._active:
                report.served += 1

    @classmethod
    def _count_declined(cls, reason: str) -> None:
        for report in cls._active:
            report.declined[reason] = report.declined.get(reason, 0) + 1


def _in_place_of_upstream(query: Tensor, key: Tensor, value: Tensor,
                          attn_mask: Tensor | None = None, dropout_p: float = 0.0,
                          is_causal: bool = False, *, scale: float | None = None,
                          enable_gqa: bool = False) -> Tensor:
    """What stands in PyTorch's modules inside `enabled`: what Fovea does not serve is counted, and
    served by PyTorch."""
    arguments = (query, key, value, attn_mask)
    options: dict[str, Any] = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale,
               "enable_gqa": enable_gqa}
    reason = None
    if torch.overrides.has_torch_function(arguments):
        kinds = {type(t).__name__ for t in arguments if torch.overrides.has_torch_function((t,))}
        reason = f"tensors of class {' and '.join(sorted(kinds))}" if kinds else None
    elif all(isinstance(tensor, Tensor) for tensor in arguments[:3]):
        reason = _why_not(*arguments)
    if reason is None:
        return scaled_dot_product_attention(query, key, value, attn_mask, **options)
    enabled._count_declined(reason)
    return _upstream(query, key, value, attn_mask, **options)
