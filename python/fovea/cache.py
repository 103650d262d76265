"""A cache of keys and values in pages, for decoding many sequences of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import _fovea


class KVCache:
    """Keys and values of sequences that grow, in pages of one pool of memory on the CPU.

        cache = fovea.KVCache(pages=256, page_size=16, heads=8, head_size=64)
        sequence = cache.add()
        cache.append([sequence], k, v)              # k, v: [1, 8, tokens, 64]
        out = cache.attention([sequence], q)        # q: [1, 32, tokens, 64], the last tokens

    dtype is that of the pool: "f32", "f16" or "bf16" (that of k, v and q then), or "i8" or "e4m3": 8-bit
    numbers with an f32 scale for each token and head, half or a quarter of the memory.
    k and v of the pool are [pages, page_size, heads, size], as fovea.attention takes them."""

    def __init__(self, *, pages: int, page_size: int, heads: int, head_size: int,
                 value_size: int | None = None, dtype: str = "f32") -> None:
        extents = {"pages": pages, "page_size": page_size, "heads": heads, "head_size": head_size}
        for name, extent in extents.items():
            if extent < 1:
                raise _fovea.InvalidValue(f"{name} is {extent}; it is at least 1")
        if dtype not in ("f32", "f16", "bf16", "i8", "e4m3"):
            raise _fovea.InvalidValue(f"dtype is {dtype!r}; it is f32, f16, bf16, i8 or e4m3")
        self.page_size = page_size
        rows = (pages, page_size, heads)
        self.k = _fovea._memory((*rows, head_size), dtype)
        self.v = _fovea._memory((*rows, head_size if value_size is None else value_size), dtype)
        self._scales: dict[str, Any] = {}
        if dtype in ("i8", "e4m3"):
            self._scales = {name: _fovea._memory((*rows, 1), "f32") for name in ("k_scale", "v_scale")}
        self._free = list(range(pages))[::-1]
        self._pages: dict[int, list[int]] = {}
        self._lengths: dict[int, int] = {}
        self._next = 0

    @property
    def free_pages(self) -> int:
        return len(self._free)

    def add(self) -> int:
        """A new, empty sequence. It takes pages when it grows."""
        self._next += 1
        self._pages[self._next] = []
        self._lengths[self._next] = 0
        return self._next

    def remove(self, sequence: int) -> None:
        """Ends a sequence and frees its pages."""
        self.length(sequence)
        self._free += self._pages.pop(sequence)
        del self._lengths[sequence]

    def truncate(self, sequence: int, length: int) -> None:
        """Forgets all tokens from `length` on."""
        if not 0 <= length <= self.length(sequence):
            raise _fovea.InvalidValue(
                f"length is {length}; sequence {sequence} has {self.length(sequence)} tokens")
        keep = -(-length // self.page_size)
        self._free += self._pages[sequence][keep:]
        del self._pages[sequence][keep:]
        self._lengths[sequence] = length

    def length(self, sequence: int) -> int:
        """Tokens of a sequence."""
        if sequence not in self._lengths:
            raise _fovea.InvalidValue(f"there is no sequence {sequence} in the cache")
        return self._lengths[sequence]

    def _table(self, pages: list[list[int]]) -> _fovea.Memory:
        longest = max([1, *map(len, pages)])
        return _fovea._integers([page for row in pages for page in row + [0] * (longest - len(row))],
                                (len(pages), longest))

    def _take(self, sequences: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
        """The pages that sequences will have, the missing ones from the free ones, which stay free."""
        missing = [-(-(self.length(s) + n) // self.page_size) - len(self._pages[s])
                   for s, n in zip(sequences, counts)]
        if sum(missing) > len(self._free):
            raise _fovea.OutOfMemory(
                f"{sum(missing)} more pages of the cache are needed; {len(self._free)} are free")
        rest = iter(reversed(self._free))
        return [self._pages[s] + [next(rest) for _ in range(m)] for s, m in zip(sequences, missing)]

    def append(self, sequences: Sequence[int], k: Any, v: Any, *, counts: Sequence[int] | None = None,
               layout: str = "bhsd", **options: Any) -> None:
        """Appends new tokens to sequences, one for each of the batch. k and v are [B, heads, T, size], or
        [B, T, heads, size] with layout bshd. counts: how many of the T tokens of each sequence there
        are, the rest is left out. Options are those of kv_append (rope, cos, sin). If it fails, the
        lengths are as before."""
        tokens = k.shape[1 if layout == "bshd" else 2]
        counts = [tokens] * len(sequences) if counts is None else counts
        if len(set(sequences)) != len(sequences) or len(counts) != len(sequences):
            raise _fovea.InvalidValue("sequences are named twice, or counts are not one for each")
        if not all(0 <= count <= tokens for count in counts):
            raise _fovea.InvalidValue(f"counts are {list(counts)}; k has {tokens} tokens")
        pages = self._take(sequences, counts)
        positions = [self.length(s) + t if t < n else -1
                     for s, n in zip(sequences, counts) for t in range(tokens)]
        _fovea.kv_append(k, v, _fovea._integers(positions, (len(sequences), tokens)), self.k, self.v,
                         block_table=self._table(pages), layout=layout,  # type: ignore[arg-type]
                         **self._scales, **options)
        taken = 0
        for s, n, row in zip(sequences, counts, pages):
            taken += len(row) - len(self._pages[s])
            self._pages[s] = row
            self._lengths[s] += n
        del self._free[len(self._free) - taken:]

    def attention(self, sequences: Sequence[int], q: Any, *, causal: str = "bottom_right",
                  **options: Any) -> Any:
        """fovea.attention of q over the keys and values of the sequences, one for each of the batch.
        The queries are the last tokens unless causal says otherwise. Options are those of attention."""
        lengths = [self.length(s) for s in sequences]
        return _fovea.attention(
            q, self.k, self.v, block_table=self._table([self._pages[s] for s in sequences]),
            seqused_k=_fovea._integers(lengths, (len(lengths),)), causal=causal,  # type: ignore[call-overload]
            **self._scales, **options)
