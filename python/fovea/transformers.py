"""Fovea as an attention implementation of Hugging Face's transformers:

    fovea.transformers.register()
    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="fovea")

Key and value heads are read in place, never repeated. Causal masks and sliding windows are not made
where they are just that: `attention_mask` then stays None, as with flash attention, and the kernel
gets the window from the model. Padding and whatever else a model masks comes as a boolean mask."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import (causal_mask_function, sdpa_mask,
                                        sliding_window_causal_mask_function)

import fovea

from .torch._operator import attend

__all__ = ["attention_forward", "attention_mask", "register"]

_log = logging.getLogger("fovea")


def _cells(function: Any) -> list[Any]:
    return [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]


def _is_window(mask_function: Any, size: int) -> bool:
    """Whether this is the causal sliding window of transformers, of that size, and nothing else."""
    like = _cells(sliding_window_causal_mask_function(size))
    mine = _cells(mask_function)
    if len(like) != 1 or len(mine) != 1 or not isinstance(mine[0], tuple):
        return False
    return (len(mine[0]) == len(like[0]) == 2 and mine[0][1] is causal_mask_function
            and getattr(mine[0][0], "__code__", None) is like[0][0].__code__
            and _cells(mine[0][0]) == [size])


def _is_known(mask_function: Any, local_size: int | None) -> bool:
    if local_size is None:
        return mask_function is causal_mask_function
    return _is_window(mask_function, local_size)


def _nothing_padded(attention_mask: Tensor | None, kv_length: int, kv_offset: int) -> bool:
    if attention_mask is None:
        return True
    if attention_mask.shape[-1] < kv_length + kv_offset:
        return False
    return bool(attention_mask[:, kv_offset:kv_offset + kv_length].all())


def attention_mask(batch_size: int, q_length: int, kv_length: int, q_offset: int = 0,
                   kv_offset: int = 0, mask_function: Any = causal_mask_function,
                   attention_mask: Tensor | None = None, local_size: int | None = None,
                   allow_is_causal_skip: bool = True, **kwargs: Any) -> Tensor | None:
    """None where causality and the window of the model say it all, the queries being the last
    positions; else the boolean mask that transformers makes for PyTorch's attention."""
    if (allow_is_causal_skip and not torch.compiler.is_compiling()
            and isinstance(q_offset, int) and q_offset + q_length == kv_offset + kv_length
            and _is_known(mask_function, local_size)
            and _nothing_padded(attention_mask, kv_length, kv_offset)):
        return None
    return sdpa_mask(batch_size, q_length, kv_length, q_offset, kv_offset, mask_function,
                     attention_mask, local_size, allow_is_causal_skip=False, **kwargs)


def _masks(module: Any, key: Tensor, mask: Tensor | None, is_causal: bool | None,
           sliding_window: int | None, position_bias: Tensor | None) -> dict[str, Any]:
    """The keywords of attend that say what may attend what."""
    options: dict[str, Any] = {}
    if mask is None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        if causal:
            options["causal"] = "bottom_right"
            if sliding_window is not None:
                options["window_left"] = sliding_window - 1
    elif mask.dtype == torch.bool:
        options["mask"] = mask[..., :key.shape[2]]
    else:
        options["bias"] = mask[..., :key.shape[2]]
    if position_bias is not None:
        bias = position_bias[..., :key.shape[2]]
        options["bias"] = options["bias"] + bias if "bias" in options else bias
    return options


def attention_forward(module: Any, query: Tensor, key: Tensor, value: Tensor,
                      attention_mask: Tensor | None, dropout: float = 0.0,
                      scaling: float | None = None, sliding_window: int | None = None,
                      softcap: float | None = None, is_causal: bool | None = None,
                      s_aux: Tensor | None = None, position_bias: Tensor | None = None,
                      cache: object = None, **kwargs: Any) -> tuple[Tensor, None]:
    """What a model calls: query [B, Hq, Sq, D], key and value [B, Hkv, Sk, D]; returns out
    [B, Sq, Hq, D] and, in place of the probabilities, None."""
    if cache is not None:
        raise fovea.Unsupported("the paged cache of continuous batching is not served by "
                                'attn_implementation="fovea"')
    if kwargs.get("output_attentions"):
        _log.warning('attn_implementation="fovea" makes no probabilities: output_attentions gives '
                     "None; eager attention has them")
    options = _masks(module, key, attention_mask, is_causal, sliding_window, position_bias)
    if query.shape[0] != key.shape[0]:  # learned queries, one for the batch
        query = query.expand(key.shape[0], -1, -1, -1)
    out, _ = attend(query, key, value, scale=scaling, softcap=softcap, dropout=dropout,
                    sinks=None if s_aux is None else s_aux.float(), **options)
    return out.transpose(1, 2).contiguous(), None


def register(name: str = "fovea") -> None:
    """Makes `attn_implementation=name` known to transformers."""
    AttentionInterface.register(name, attention_forward)
    AttentionMaskInterface.register(name, attention_mask)
