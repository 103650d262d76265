"""`sageattn` of the package sageattention on Fovea's kernels, on the CPU: the products of query and
key in 8-bit integers. It is approximate (cosine 0.9995 and relative L1 0.02 against exact attention)
and is never chosen unless it is called. Beyond upstream, float32, any head size and unequal lengths
are served; causal masks are aligned to the first key."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import fovea

from .torch._registry import DTYPES

__all__ = ["sageattn"]


def sageattn(q: Tensor, k: Tensor, v: Tensor, tensor_layout: str = "HND", is_causal: bool = False,
             sm_scale: float | None = None, return_lse: bool = False, *, smooth_k: bool = True,
             **kwargs: Any) -> Any:
    """Attention of tensors [B, H, S, D] (tensor_layout "HND") or [B, S, H, D] ("NHD"); with
    return_lse also the log-sum-exp [B, H, S]. smooth_k takes the mean of the keys away before they
    are rounded. Other keyword arguments name upstream's CUDA variants; they are accepted and change
    nothing. There is no gradient, as upstream."""
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if not isinstance(tensor, Tensor):
            raise fovea.InvalidType(f"{name} is a {type(tensor).__name__}, not a torch.Tensor")
    if tensor_layout not in ("HND", "NHD"):
        raise fovea.InvalidValue(f"tensor_layout is {tensor_layout!r}; it is 'HND' or 'NHD'")
    if not (q.dtype == k.dtype == v.dtype and q.dtype in DTYPES):
        raise _WrongTensors(f"q is {q.dtype}, k {k.dtype} and v {v.dtype}; all three are one of "
                            "float16, bfloat16 and float32")
    if any(tensor.device.type != "cpu" for tensor in (q, k, v)):
        raise fovea.Unsupported("served are tensors on the CPU")
    with torch.no_grad():
        return fovea.attention(q.detach(), k.detach(), v.detach(), lse=return_lse or None,
                               layout="bhsd" if tensor_layout == "HND" else "bshd",
                               causal="top_left" if is_causal else "none", scale=sm_scale,
                               algorithm="sage", smooth_k=smooth_k)


class _WrongTensors(fovea.InvalidValue, AssertionError):
    """What upstream refuses with an assertion."""
