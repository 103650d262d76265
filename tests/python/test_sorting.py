"""Rows so long that threads deal their keys to buckets, beside NumPy."""

import numpy as np
import pytest
from library import needs

fovea = needs("fovea")


def _contents(kind, n):
    generator = np.random.default_rng(n)
    return {
        "random": lambda: generator.standard_normal(n) * 1000,
        "ascending": lambda: np.arange(n),
        "equal": lambda: np.full(n, 3),
        "few": lambda: generator.integers(0, 5, n),
        "one often": lambda: np.where(generator.random(n) < 0.97, 5, generator.random(n) * 100),
    }[kind]()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u4"])
@pytest.mark.parametrize("kind", ["random", "ascending", "equal", "few", "one often"])
@pytest.mark.parametrize("n", [16385, 140001, 300000])
def test_long_rows(dtype, kind, n):
    x = np.abs(_contents(kind, n)) if dtype == "u4" else _contents(kind, n)
    x = x.astype(dtype)
    if dtype[0] == "f":
        x[:: n // 9] = np.nan
    before = fovea.threads()
    try:
        for threads in (1, 2, 3):
            fovea.set_threads(threads)
            assert np.array_equal(fovea.sort_radix(x), np.sort(x), equal_nan=dtype[0] == "f")
    finally:
        fovea.set_threads(before)
