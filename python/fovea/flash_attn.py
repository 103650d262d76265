"""The functions of the package flash_attn (2.x) on Fovea's kernels, on the CPU and, without gradients,
on CUDA devices where libfovea_cuda is.

Names, arguments, defaults, layouts and return values are upstream's: tensors are [batch, length,
heads, head size], or packed [total, heads, head size] with cu_seqlens; causal masks and windows are
aligned to the last key; softcap 0 is off; the log-sum-exp is [batch, heads, length] or [heads, total].
Beyond upstream, float32 and any head size are served. The random bits of dropout are Fovea's own,
seeded by PyTorch's generator. `deterministic` and `num_splits` change nothing: the result is always
the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import fovea

from .torch._operator import attend, draw_seed
from .torch._registry import DTYPES, InvalidCall

__all__ = ["flash_attn_func", "flash_attn_kvpacked_func", "flash_attn_qkvpacked_func",
           "flash_attn_varlen_func", "flash_attn_varlen_kvpacked_func",
           "flash_attn_varlen_qkvpacked_func", "flash_attn_with_kvcache"]


def _check(**tensors: Any) -> None:
    first = None
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise fovea.InvalidType(f"{name} is a {type(tensor).__name__}, not a torch.Tensor")
        if not (tensor.is_cpu or tensor.is_cuda):
            raise fovea.Unsupported(f"{name} is on {tensor.device}; served are tensors on the CPU and "
                                    "on CUDA devices")
        if tensor.dtype not in DTYPES:
            raise InvalidCall(f"{name} is {tensor.dtype}; it is float16, bfloat16 or float32")
        first = first or (name, tensor)
        if tensor.dtype != first[1].dtype:
            raise InvalidCall(f"{name} is {tensor.dtype}, {first[0]} {first[1].dtype}; they have "
                              "one dtype")
        if tensor.device != first[1].device:
            raise InvalidCall(f"{name} is on {tensor.device}, {first[0]} on {first[1].device}; they "
                              "are on one device")


def _check_rank(rank: int, layout: str, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.ndim != rank:
            raise InvalidCall(f"{name} has shape {list(tensor.shape)}; it is {layout}")


def _check_dropout(dropout_p: float) -> None:
    if not 0 <= dropout_p < 1:
        raise InvalidCall(f"dropout_p is {dropout_p}; it is at least 0 and below 1")


def _distances(slopes: Tensor, length_q: int, length_k: int, extent: int) -> Tensor:
    """ALiBi as upstream defines it for any mask, -slope |i + Sk - Sq - j|, for j below extent."""
    i = torch.arange(length_q, device=slopes.device).unsqueeze(1) + length_k - length_q
    return -slopes[..., None, None] * (i - torch.arange(extent, device=slopes.device)).abs()


class _Scores:
    """What is done to the scores, and with what keywords of `attend`."""

    def __init__(self, heads: int, scale: float | None, causal: bool, window: tuple[int, int],
                 softcap: float, slopes: Tensor | None) -> None:
        left, right = window
        self.causal = causal or right == 0  # a window that ends at the position is causal
        self.common: dict[str, Any] = {"scale": scale, "softcap": softcap or None,
                                       "window_left": max(left, -1)}
        self.slopes = slopes
        if slopes is not None and (slopes.dtype != torch.float32 or slopes.ndim not in (1, 2)
                                   or slopes.shape[-1] != heads):
            raise InvalidCall(f"alibi_slopes is {slopes.dtype} of shape {list(slopes.shape)}; it "
                              f"is float32 of [{heads}] or [batch, {heads}]")
        self.local = self.causal or max(left, right) >= 0
        if self.causal:
            self.common["causal"] = "bottom_right"
        else:
            self.common["window_right"] = max(right, -1)
        # The kernel's ALiBi is slope (j - i), which differs behind the position.
        self.biased = slopes is not None and not (self.causal and slopes.ndim == 1)
        if slopes is not None and not self.biased:
            self.common["slopes"] = slopes

    def by_sequence(self) -> bool:
        """Whether options depend on the lengths of a sequence."""
        return self.biased or (self.local and not self.causal)

    def options(self, length_q: int, length_k: int, extent: int,
                sequence: int | None = None) -> dict[str, Any]:
        """For sequences of these lengths; sequence is the number of the only one."""
        options = dict(self.common)
        if self.local and not self.causal:
            options["query_offset"] = length_k - length_q
        slopes = self.slopes
        if self.biased and slopes is not None:
            if slopes.ndim == 2 and sequence is not None:
                slopes = slopes[sequence]
            options["bias"] = _distances(slopes, length_q, length_k, extent)
        return options


def _signed(kept: Tensor, plain: Tensor) -> Tensor:
    """S_dmask of upstream: the probabilities, negative where dropout dropped them."""
    return torch.where(kept != 0, plain, -plain)


def _attend(q: Tensor, k: Tensor, v: Tensor, dropout_p: float, scores: _Scores,
            want_probs: bool) -> Any:
    """Attention of [B, S, H, D]."""
    _check_dropout(dropout_p)
    options = scores.options(q.shape[1], k.shape[1], k.shape[1])
    seed = draw_seed() if dropout_p else None
    query, keys = q.transpose(1, 2), k.transpose(1, 2)
    out, lse = attend(query, keys, v.transpose(1, 2), dropout=dropout_p, need_lse=want_probs,
                      seed=seed, **options)
    out = out.transpose(1, 2)
    if not want_probs:
        return out
    probabilities = None
    if dropout_p:  # with the unit matrix for values the kernel shows the mask that it drew
        with torch.no_grad():
            unit = torch.eye(k.shape[1], dtype=v.dtype, device=v.device).expand(*keys.shape[:2], -1, -1)
            kept = attend(query, keys, unit, dropout=dropout_p, seed=seed, **options)[0]
            probabilities = _signed(kept, attend(query, keys, unit, **options)[0])
    return out, lse, probabilities


def flash_attn_func(q: Tensor, k: Tensor, v: Tensor,
                    dropout_p: float = 0.0,
                    softmax_scale: float | None = None, causal: bool = False,
                    window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                    alibi_slopes: Tensor | None = None, deterministic: bool = False,
                    return_attn_probs: bool = False) -> Any:
    """Attention of q [B, Sq, Hq, D] with k, v [B, Sk, Hkv, D]: out, or with return_attn_probs
    (out, lse, S_dmask), where S_dmask is None without dropout."""
    _check(q=q, k=k, v=v)
    _check_rank(4, "[batch, length, heads, head size]", q=q, k=k, v=v)
    scores = _Scores(q.shape[2], softmax_scale, causal, window_size, softcap, alibi_slopes)
    return _attend(q, k, v, dropout_p, scores, return_attn_probs)


def flash_attn_kvpacked_func(q: Tensor, kv: Tensor,
                             dropout_p: float = 0.0,
                             softmax_scale: float | None = None, causal: bool = False,
                             window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                             alibi_slopes: Tensor | None = None, deterministic: bool = False,
                             return_attn_probs: bool = False) -> Any:
    """flash_attn_func with kv [B, Sk, 2, Hkv, D]."""
    _check(q=q, kv=kv)
    _check_rank(5, "[batch, length, 2, heads, head size]", kv=kv)
    k, v = kv.unbind(2)
    return flash_attn_func(q, k, v, dropout_p, softmax_scale, causal, window_size,
                           softcap, alibi_slopes, deterministic, return_attn_probs)


def flash_attn_qkvpacked_func(qkv: Tensor,
                              dropout_p: float = 0.0,
                              softmax_scale: float | None = None, causal: bool = False,
                              window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                              alibi_slopes: Tensor | None = None, deterministic: bool = False,
                              return_attn_probs: bool = False) -> Any:
    """flash_attn_func with qkv [B, S, 3, H, D]."""
    _check(qkv=qkv)
    _check_rank(5, "[batch, length, 3, heads, head size]", qkv=qkv)
    q, k, v = qkv.unbind(2)
    return flash_attn_func(q, k, v, dropout_p, softmax_scale, causal, window_size, softcap,
                           alibi_slopes, deterministic, return_attn_probs)


# ---- Packed sequences ---------------------------------------------------------------------------


def _check_offsets(**offsets: Any) -> None:
    for name, tensor in offsets.items():
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.int32 or tensor.ndim != 1:
            raise InvalidCall(f"{name} is an int32 tensor of [batch + 1]")


def _packed_probabilities(q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor,
                          cu_seqlens_k: Tensor, longest_q: int, longest_k: int,
                          run: Callable[[Tensor, bool], Any]) -> Tensor:
    """S_dmask [B, H, longest q, longest k] of packed sequences."""
    lengths = [cu.diff().tolist() for cu in (cu_seqlens_q, cu_seqlens_k)]
    place = torch.cat([torch.arange(n, device=v.device) for n in lengths[1]])
    unit = torch.nn.functional.one_hot(place, longest_k).to(v.dtype)
    unit = unit[:, None].expand(-1, k.shape[1], -1)
    packed = _signed(run(unit, True)[0], run(unit, False)[0])
    padded = packed.new_zeros(len(lengths[0]), q.shape[1], longest_q, longest_k)
    for b, rows in enumerate(packed.split(lengths[0])):
        padded[b, :, :rows.shape[0]] = rows.transpose(0, 1)
    return padded


def _sequence_by_sequence(q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor,
                          cu_seqlens_k: Tensor, dropout_p: float,
                          scores: _Scores) -> tuple[Tensor, Tensor]:
    """Where options depend on a sequence's lengths each is a call of its own."""
    outs, lses = [], []
    parts = (t.split(cu.diff().tolist()) for t, cu in
             ((q, cu_seqlens_q), (k, cu_seqlens_k), (v, cu_seqlens_k)))
    for b, (query, keys, values) in enumerate(zip(*parts)):
        options = scores.options(query.shape[0], keys.shape[0], keys.shape[0], b)
        out, lse = attend(*(t.transpose(0, 1)[None] for t in (query, keys, values)),
                          dropout=dropout_p, need_lse=True, **options)
        assert lse is not None
        outs.append(out[0].transpose(0, 1))
        lses.append(lse[0])
    return torch.cat(outs), torch.cat(lses, dim=1)


def flash_attn_varlen_func(q: Tensor, k: Tensor, v: Tensor,
                           cu_seqlens_q: Tensor, cu_seqlens_k: Tensor,
                           max_seqlen_q: int, max_seqlen_k: int,
                           dropout_p: float = 0.0,
                           softmax_scale: float | None = None, causal: bool = False,
                           window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                           alibi_slopes: Tensor | None = None, deterministic: bool = False,
                           return_attn_probs: bool = False,
                           block_table: Tensor | None = None) -> Any:
    """Attention of packed sequences, q [total q, Hq, D] and k, v [total k, Hkv, D], or k and v in
    pages [pages, page size, Hkv, D] with block_table [B, pages of a sequence]. Non-causal windows
    over unequal lengths, and ALiBi that is not causal or has slopes a sequence, are computed
    sequence by sequence; there, pages and S_dmask are not served."""
    _check(q=q, k=k, v=v)
    _check_dropout(dropout_p)
    _check_offsets(cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k)
    _check_rank(3, "[total, heads, head size]", q=q)
    paged = block_table is not None
    _check_rank(4 if paged else 3, "[pages, page size, heads, head size]" if paged else
                "[total, heads, head size]", k=k, v=v)
    scores = _Scores(q.shape[1], softmax_scale, causal, window_size, softcap, alibi_slopes)
    lengths = [cu.diff() for cu in (cu_seqlens_q, cu_seqlens_k)]
    if scores.by_sequence() and (scores.biased or not torch.equal(*lengths)):
        if paged or (return_attn_probs and dropout_p):
            raise fovea.Unsupported("pages, or S_dmask, with a window that is not causal or with "
                                    "ALiBi that is not causal or has slopes a sequence")
        both = _sequence_by_sequence(q, k, v, cu_seqlens_q, cu_seqlens_k, dropout_p, scores)
        return (*both, None) if return_attn_probs else both[0]
    options = scores.options(0, 0, 0)
    if paged:
        options |= {"block_table": block_table, "seqused_k": lengths[1]}
    else:
        options["cu_seqlens_k"] = cu_seqlens_k
    seed = draw_seed() if dropout_p else None

    def run(values: Tensor, drop: bool) -> tuple[Tensor, Tensor | None]:
        return attend(q, k, values, cu_seqlens_q=cu_seqlens_q, dropout=dropout_p if drop else 0.0,
                      need_lse=return_attn_probs, seed=seed, **options)

    out, lse = run(v, True)
    if not return_attn_probs:
        return out
    probabilities = None
    if dropout_p:
        if paged:
            raise fovea.Unsupported("S_dmask of pages")
        with torch.no_grad():
            probabilities = _packed_probabilities(q, k, v, cu_seqlens_q, cu_seqlens_k,
                                                  max_seqlen_q, max_seqlen_k, run)
    return out, lse, probabilities


def flash_attn_varlen_kvpacked_func(q: Tensor, kv: Tensor,
                                    cu_seqlens_q: Tensor, cu_seqlens_k: Tensor,
                                    max_seqlen_q: int, max_seqlen_k: int,
                                    dropout_p: float = 0.0,
                                    softmax_scale: float | None = None, causal: bool = False,
                                    window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                                    alibi_slopes: Tensor | None = None, deterministic: bool = False,
                                    return_attn_probs: bool = False) -> Any:
    """flash_attn_varlen_func with kv [total k, 2, Hkv, D]."""
    _check(q=q, kv=kv)
    _check_rank(4, "[total, 2, heads, head size]", kv=kv)
    k, v = kv.unbind(1)
    return flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q,
                                  max_seqlen_k, dropout_p, softmax_scale, causal, window_size,
                                  softcap, alibi_slopes, deterministic, return_attn_probs)


def flash_attn_varlen_qkvpacked_func(qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int,
                                     dropout_p: float = 0.0,
                                     softmax_scale: float | None = None, causal: bool = False,
                                     window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                                     alibi_slopes: Tensor | None = None, deterministic: bool = False,
                                     return_attn_probs: bool = False) -> Any:
    """flash_attn_varlen_func with qkv [total, 3, H, D]."""
    _check(qkv=qkv)
    _check_rank(4, "[total, 3, heads, head size]", qkv=qkv)
    q, k, v = qkv.unbind(1)
    return flash_attn_varlen_func(q, k, v, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen,
                                  dropout_p, softmax_scale, causal, window_size, softcap,
                                  alibi_slopes, deterministic, return_attn_probs)


# ---- Caches -------------------------------------------------------------------------------------


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, interleaved: bool) -> Tensor:
    """The first 2 cos.shape[1] elements of each head of x [B, S, H, D], rotated."""
    half = cos.shape[1]
    cos, sin = (table[positions.long()].unsqueeze(2).float() for table in (cos, sin))
    turned = x[..., :2 * half].float()
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
    else:
        a, b = turned[..., :half], turned[..., half:]
        turned = torch.cat((a * cos - b * sin, a * sin + b * cos), -1)
    return torch.cat((turned.to(x.dtype), x[..., 2 * half:]), -1)


def _cache_lengths(cache_seqlens: int | Tensor | None, batch: int, k_cache: Tensor, paged: bool,
                   appending: bool) -> Tensor:
    if cache_seqlens is None:
        if appending or paged:
            raise InvalidCall("cache_seqlens is not given; appending to a cache, and a paged one, "
                              "need it")
        cache_seqlens = k_cache.shape[1]
    if isinstance(cache_seqlens, int):
        return torch.full((batch,), cache_seqlens, dtype=torch.int32, device=k_cache.device)
    if cache_seqlens.dtype != torch.int32 or cache_seqlens.shape != (batch,):
        raise InvalidCall(f"cache_seqlens is {cache_seqlens.dtype} of shape "
                          f"{list(cache_seqlens.shape)}; it is an int or int32 of [{batch}]")
    return cache_seqlens


def _attend_cache(q: Tensor, k_cache: Tensor, v_cache: Tensor, table: Tensor | None,
                  lengths: Tensor, scores: _Scores, mask: Tensor | None) -> Any:
    """Attention of q [B, S, H, D] with a cache in pages, where table is given, or [B, S, H, D]."""
    query = q.transpose(1, 2)
    keys, values = ((k_cache, v_cache) if table is not None else
                    (k_cache.transpose(1, 2), v_cache.transpose(1, 2)))
    extent = keys.shape[2] if table is None else table.shape[1] * k_cache.shape[1]

    def run(rows: slice, **options: Any) -> Any:
        return attend(query[rows], keys if table is not None else keys[rows],
                      values if table is not None else values[rows], need_lse=True,
                      seqused_k=lengths[rows], mask=None if mask is None else mask[rows],
                      block_table=None if table is None else table[rows], **options)

    if not scores.by_sequence():
        return run(slice(None), **scores.options(0, 0, 0))
    parts = [run(slice(b, b + 1), **scores.options(q.shape[1], length, extent, b))
             for b, length in enumerate(lengths.tolist())]
    return tuple(torch.cat(tensors) for tensors in zip(*parts))


@torch.no_grad()
def flash_attn_with_kvcache(q: Tensor, k_cache: Tensor, v_cache: Tensor,
                            k: Tensor | None = None, v: Tensor | None = None,
                            rotary_cos: Tensor | None = None, rotary_sin: Tensor | None = None,
                            cache_seqlens: int | Tensor | None = None,
                            cache_batch_idx: Tensor | None = None,
                            cache_leftpad: Tensor | None = None,
                            block_table: Tensor | None = None,
                            softmax_scale: float | None = None, causal: bool = False,
                            window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
                            rotary_interleaved: bool = True, alibi_slopes: Tensor | None = None,
                            num_splits: int = 0, return_softmax_lse: bool = False) -> Any:
    """Attention of new queries [B, Sq, Hq, D] with a cache [B, S, Hkv, D], or one in pages [pages,
    page size, Hkv, D] with block_table, after k and v, where given, were written into it at
    cache_seqlens, rotated where rotary_cos and rotary_sin [positions, rotary size/2] are given.
    The cache is not copied. Has no gradient, as upstream."""
    _check(q=q, k_cache=k_cache, v_cache=v_cache)
    _check_rank(4, "[batch, length, heads, head size]", q=q, k_cache=k_cache, v_cache=v_cache)
    if (k is None) != (v is None):
        raise InvalidCall("k and v are given together or not at all")
    if rotary_cos is not None and (k is None or rotary_sin is None):
        raise InvalidCall("rotary_cos needs rotary_sin, and new k and v")
    if block_table is not None and (cache_batch_idx is not None or cache_leftpad is not None):
        raise InvalidCall("cache_batch_idx and cache_leftpad do not go with block_table")
    lengths = _cache_lengths(cache_seqlens, q.shape[0], k_cache, block_table is not None,
                             k is not None)
    scores = _Scores(q.shape[2], softmax_scale, causal, window_size, softcap, alibi_slopes)
    table = block_table
    if cache_batch_idx is not None:  # each sequence of the cache is one page
        table = cache_batch_idx.to(torch.int32).unsqueeze(1)
    if k is not None and v is not None:
        _check(q=q, k=k, v=v)
        _check_rank(4, "[batch, length, heads, head size]", k=k, v=v)
        places = lengths.unsqueeze(1) + torch.arange(k.shape[1], dtype=torch.int32, device=k.device)
        if rotary_cos is not None and rotary_sin is not None:
            k = _rotate(k, rotary_cos, rotary_sin, places, rotary_interleaved)
            own = torch.arange(q.shape[1], device=q.device) * scores.local
            q = _rotate(q, rotary_cos, rotary_sin, lengths.unsqueeze(1) + own.to(torch.int32),
                        rotary_interleaved)
        fovea.kv_append(k, v, places, k_cache, v_cache, block_table=table, layout="bshd")
        lengths = lengths + k.shape[1]
    mask = None
    if cache_leftpad is not None:
        mask = (torch.arange(k_cache.shape[1], device=q.device) >= cache_leftpad.unsqueeze(1))[:, None, None]
    out, lse = _attend_cache(q, k_cache, v_cache, table, lengths, scores, mask)
    out = out.transpose(1, 2)
    return (out, lse) if return_softmax_lse else out
