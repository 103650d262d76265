"""jax.nn.dot_product_attention on Fovea's kernels, on the CPU.

Arrays that are at hand go to the kernel by DLPack. Inside jax.jit, jax.grad and jax.vmap the compiled
program calls the kernel through XLA's FFI, by the handler for Python that JAX brings
(jax.experimental.buffer_callback): it hands over the program's own buffers, in and out, so nothing is
copied, and the kernel needs nothing of JAX while the program runs. jax.pure_callback would make JAX
arrays of its arguments inside the running program, and copy the results."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback

import fovea

__all__ = ["dot_product_attention"]

_DTYPES = ("float32", "float16", "bfloat16")
_INPUTS = ("mask", "bias", "seqused_k")
_Arrays = tuple[Any, ...]  # q, k, v and the optional inputs
_Options = tuple[tuple[str, Any], ...]


def _named(arrays: _Arrays) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """q, k and v, and the optional inputs by name, as NumPy sees them."""
    q, k, v, *rest = (None if a is None else np.asarray(a) for a in arrays)
    return (q, k, v), dict(zip(_INPUTS, rest))


def _host(options: _Options, context: Any, results: Any, arrays: _Arrays) -> None:
    """Attention of the program's buffers [B, S, H, D]: results are out and lse [B, H, S]."""
    out, lse = (np.asarray(result) for result in results)
    tensors, inputs = _named(arrays)
    fovea.attention(*tensors, out=out, lse=lse, layout="bshd", **dict(options), **inputs)


def _host_gradient(options: _Options, context: Any, results: Any, arrays: _Arrays, out: jax.Array,
                   lse: jax.Array, dout: jax.Array) -> None:
    dq, dk, dv, *dbias = (np.asarray(result) for result in results)
    tensors, inputs = _named(arrays)
    fovea.attention_backward(*tensors, *(np.asarray(a) for a in (out, lse, dout)),
                             out=(dq, dk, dv), dbias=dbias[0] if dbias else None, layout="bshd",
                             **dict(options), **inputs)


def _like(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(options: _Options, arrays: _Arrays) -> Any:
    q = arrays[0]
    batch, length, heads, _ = q.shape
    lse = jax.ShapeDtypeStruct((batch, heads, length), jnp.float32)
    run = buffer_callback(functools.partial(_host, options), (_like(q), lse),
                          vmap_method="sequential")
    return run(arrays)


def _forward(options: _Options, arrays: _Arrays) -> Any:
    out, lse = _attention(options, arrays)
    return (out, lse), (arrays, out, lse)


def _no_gradient(array: Any) -> Any:
    return None if array is None else np.zeros(array.shape, jax.dtypes.float0)


def _backward(options: _Options, kept: Any, cotangents: Any) -> Any:
    arrays, out, lse = kept
    q, k, v, mask, bias, lengths = arrays
    shapes = [_like(q), _like(k), _like(v)] + ([] if bias is None else [_like(bias)])
    run = buffer_callback(functools.partial(_host_gradient, options), tuple(shapes),
                          vmap_method="sequential")
    dq, dk, dv, *dbias = run(arrays, out, lse, cotangents[0])
    return ((dq, dk, dv, _no_gradient(mask), dbias[0] if dbias else None,
             _no_gradient(lengths)),)


_attention.defvjp(_forward, _backward)


def _call(options: _Options, arrays: _Arrays) -> Any:
    if any(isinstance(array, jax.core.Tracer) for array in arrays if array is not None):
        return _attention(options, arrays)
    q, k, v, *rest = arrays
    return fovea.attention(q, k, v, lse=True, layout="bshd", **dict(options),
                           **dict(zip(_INPUTS, rest)))


def _four(array: Any, name: str) -> Any:
    if array is None:
        return None
    array = jnp.asarray(array)
    if array.ndim > 4:
        raise fovea.InvalidValue(f"{name} has shape {list(array.shape)}; it has at most four axes")
    return array.reshape((1,) * (4 - array.ndim) + array.shape)


def _check(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None,
           lengths: dict[str, jax.Array | None]) -> None:
    batch, _, heads, size = k.shape
    if v.shape != k.shape or v.dtype != k.dtype:
        raise fovea.InvalidValue(f"value is {v.dtype} of shape {list(v.shape)}, key {k.dtype} of "
                                 f"shape {list(k.shape)}; they are equal")
    if q.dtype != k.dtype or (q.shape[0], q.shape[3]) != (batch, size):
        raise fovea.InvalidValue(f"query is {q.dtype} of shape {list(q.shape)}, which does not go "
                                 f"with key, {k.dtype} of shape {list(k.shape)}")
    if heads == 0 or q.shape[2] % heads:
        raise fovea.InvalidValue(f"query has {q.shape[2]} heads, not a multiple of the {heads} of "
                                 "key")
    if q.dtype.name not in _DTYPES:
        raise fovea.Unsupported(f"query is {q.dtype}; served are {', '.join(_DTYPES)}")
    if mask is not None and mask.dtype != bool:
        raise fovea.InvalidValue(f"mask is {mask.dtype}; it is bool")
    for name, array in lengths.items():
        if array is not None and (array.dtype != jnp.int32 or array.shape != (batch,)):
            raise fovea.InvalidValue(f"{name} is {array.dtype} of shape {list(array.shape)}; it "
                                     f"is int32 of [{batch}]")


def dot_product_attention(query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, *,
                          scale: float | None = None, is_causal: bool = False,
                          query_seq_lengths: Any = None, key_value_seq_lengths: Any = None,
                          local_window_size: int | tuple[int, int] | None = None,
                          implementation: str | None = None,
                          return_residual: bool = False) -> Any:
    """jax.nn.dot_product_attention, computed by Fovea: query [B, T, N, H] or [T, N, H], key and
    value [B, S, K, H] or [S, K, H]. Arguments, results and types of errors are JAX's; a row that may
    attend nothing gives 0 (JAX: the mean of the values). `implementation` chooses among JAX's own
    and is None here."""
    if implementation is not None:
        raise fovea.Unsupported(f"implementation is {implementation!r}, one of JAX's own; Fovea's "
                                "is chosen by None")
    shape = jnp.shape(query)
    q, k, v, bias, mask = (_four(a, name) for a, name in
                           ((query, "query"), (key, "key"), (value, "value"), (bias, "bias"),
                            (mask, "mask")))
    lengths = {name: None if array is None else jnp.asarray(array) for name, array in
               (("query_seq_lengths", query_seq_lengths),
                ("key_value_seq_lengths", key_value_seq_lengths))}
    _check(q, k, v, mask, lengths)
    options: dict[str, Any] = {"scale": 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)}
    if is_causal:
        options["causal"] = "top_left"
    if local_window_size is not None:
        window = local_window_size
        options["window_left"], options["window_right"] = (
            (window, window) if isinstance(window, int) else window)
    out, lse = _call(tuple(options.items()),
                     (q, k, v, mask, bias, lengths["key_value_seq_lengths"]))
    if query_seq_lengths is not None:
        known = jnp.arange(q.shape[1]) < jnp.asarray(query_seq_lengths)[:, None]
        out = out * known[:, :, None, None].astype(out.dtype)
    out = out.reshape(shape)
    if not return_residual:
        return out
    residual = jax.lax.stop_gradient(lse.swapaxes(1, 2).astype(k.dtype))
    return out, residual.reshape(shape[:-1])
