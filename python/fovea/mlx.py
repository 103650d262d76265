"""mlx.core.fast.scaled_dot_product_attention on Fovea's kernels, on the CPU. MLX is lazy and the
kernel is not: the arguments are evaluated when the function is called. mx.grad and mx.vjp work, with
the gradient of Fovea's attention_backward; inside mx.compile and mx.vmap, which evaluate nothing, MLX
itself refuses the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

import fovea

__all__ = ["scaled_dot_product_attention"]

_DTYPES = (mx.float32, mx.float16, mx.bfloat16)


def _check(q: mx.array, k: mx.array, v: mx.array, mask: Any) -> None:
    shapes = f"q has shape {q.shape}, k {k.shape} and v {v.shape}"
    if not q.ndim == k.ndim == v.ndim == 4:
        raise fovea.InvalidValue(f"{shapes}; all three have four axes")
    if q.shape[0] != k.shape[0] or q.shape[0] != v.shape[0]:
        raise fovea.InvalidValue(f"{shapes}; they have one batch size")
    if q.shape[3] != k.shape[3]:
        raise fovea.InvalidValue(f"{shapes}; the last axes of q and k are equal")
    if k.shape[1] != v.shape[1] or k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise fovea.InvalidValue(f"{shapes}; k and v have equally many heads, q a multiple of them")
    if isinstance(mask, str) and mask not in ("", "causal"):
        raise fovea.InvalidValue(f"mask is {mask!r}; the only mask with a name is 'causal'")
    if isinstance(mask, mx.array) and mask.ndim > 4:
        raise fovea.InvalidValue(f"mask has shape {mask.shape}; it has at most four axes")


def _together(q: mx.array, k: mx.array, v: mx.array) -> tuple[mx.array, ...]:
    """The three in the dtype that they promote to."""
    dtype = (mx.zeros((), q.dtype) + mx.zeros((), k.dtype) + mx.zeros((), v.dtype)).dtype
    if dtype not in _DTYPES:
        raise fovea.Unsupported(f"q, k and v promote to {dtype}; served are float32, float16 and "
                                "bfloat16")
    return tuple(a if a.dtype == dtype else a.astype(dtype) for a in (q, k, v))


def _with_gradient(options: dict[str, Any]) -> Callable[..., Any]:
    """Attention of (q, k, v, bias, sinks) as a function of MLX; options are the constants."""
    kept: dict[str, mx.array] = {}

    def named(bias: mx.array, sinks: mx.array) -> dict[str, Any]:
        return {"bias": bias if bias.ndim else None, "sinks": sinks if sinks.ndim else None}

    @mx.custom_function
    def attention(q: mx.array, k: mx.array, v: mx.array, bias: mx.array,
                  sinks: mx.array) -> Any:
        mx.eval(q, k, v, bias, sinks)
        more = {**options, **named(bias, sinks)}
        out, kept["lse"] = fovea.attention(q, k, v, lse=True, **more)
        return out

    @attention.vjp
    def gradient(primals: Any, dout: mx.array, out: mx.array) -> tuple[mx.array, ...]:
        q, k, v, bias, sinks = primals
        mx.eval(*primals, dout, out)
        more = named(bias, sinks)
        given: dict[str, Any] = {f"d{name}": True for name, array in more.items() if array is not None}
        dq, dk, dv, *rest = fovea.attention_backward(q, k, v, out, kept["lse"], dout, **options,
                                                     **more, **given)
        found = dict(zip(given, rest))
        return (dq, dk, dv, found.get("dbias", mx.zeros_like(bias)),
                found.get("dsinks", mx.zeros_like(sinks)))

    return attention


def scaled_dot_product_attention(q: mx.array, k: mx.array, v: mx.array, *, scale: float,
                                 mask: str | mx.array | None = None,
                                 sinks: mx.array | None = None, force_fused: bool = False,
                                 stream: Any = None) -> mx.array:
    """mx.fast.scaled_dot_product_attention, computed by Fovea: q [B, Hq, Tq, D], k and v [B, Hkv,
    Tk, D]; mask is None, "causal" (aligned to the last key), boolean or additive. A row that may
    attend nothing gives 0. `force_fused` and `stream` change nothing."""
    for name, array in (("q", q), ("k", k), ("v", v)):
        if not isinstance(array, mx.array):
            raise fovea.InvalidType(f"{name} is a {type(array).__name__}, not an mlx.core.array")
    _check(q, k, v, mask)
    q, k, v = _together(q, k, v)
    options: dict[str, Any] = {"scale": float(scale)}
    bias = none = mx.zeros(())
    if isinstance(mask, str) and mask:
        options["causal"] = "bottom_right"
    elif isinstance(mask, mx.array) and mask.dtype == mx.bool_:
        mx.eval(mask)
        options["mask"] = mask
    elif isinstance(mask, mx.array):
        if mask.dtype not in (*_DTYPES, q.dtype) or (q.dtype != mx.float32 and
                                                     mask.dtype != q.dtype):
            raise fovea.InvalidValue(f"mask is {mask.dtype}, which does not promote to {q.dtype}")
        bias = mask if mask.ndim else mask.reshape(1)
    result: mx.array = _with_gradient(options)(
        q, k, v, bias, none if sinks is None else sinks.astype(mx.float32))
    return result
