"""The paged cache against attention over the same keys and values side by side."""

import numpy as np
import pytest
from library import needs

fovea = needs("fovea")

GENERATOR = np.random.default_rng(7)
HEADS, SIZE, VALUES, PAGE = 2, 16, 8, 4


def normal(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def make(pages=32, dtype="f32"):
    return fovea.KVCache(pages=pages, page_size=PAGE, heads=HEADS, head_size=SIZE, value_size=VALUES,
                         dtype=dtype)


@pytest.mark.parametrize("dtype, close", [("f32", 1e-5), ("i8", 0.06), ("e4m3", 0.25)])
def test_sequences_that_grow_attend_as_if_they_were_whole(dtype, close):
    cache = make(dtype=dtype)
    sequences = [cache.add() for _ in range(3)]
    ks, vs = ([np.zeros((1, HEADS, 0, n), np.float32)] * 3 for n in (SIZE, VALUES))
    for step, tokens in enumerate([5, 1, 1, 6, 1]):
        counts = [tokens, max(0, tokens - 1), tokens][: 3]
        k, v = normal(3, HEADS, tokens, SIZE), normal(3, HEADS, tokens, VALUES)
        cache.append(sequences, k, v, counts=counts)
        ks = [np.concatenate([old, k[b:b + 1, :, :n]], 2) for b, (old, n) in enumerate(zip(ks, counts))]
        vs = [np.concatenate([old, v[b:b + 1, :, :n]], 2) for b, (old, n) in enumerate(zip(vs, counts))]
        q = normal(3, 4, 1, SIZE)
        out = cache.attention(sequences, q)
        for b in range(3):
            expected = fovea.attention(q[b:b + 1], ks[b], vs[b], causal="bottom_right")
            np.testing.assert_allclose(out[b], expected[0], atol=close)
    assert [cache.length(s) for s in sequences] == [14, 9, 14]


def test_both_layouts_are_the_same():
    one, two = make(), make()
    k, v, q = normal(1, HEADS, 7, SIZE), normal(1, HEADS, 7, VALUES), normal(1, 4, 7, SIZE)
    a, b = one.add(), two.add()
    one.append([a], k, v)
    two.append([b], k.swapaxes(1, 2), v.swapaxes(1, 2), layout="bshd")
    np.testing.assert_array_equal(one.attention([a], q), two.attention([b], q))


def test_pages_come_back():
    cache = make(pages=4)
    a, b = cache.add(), cache.add()
    k, v = normal(1, HEADS, 9, SIZE), normal(1, HEADS, 9, VALUES)
    cache.append([a], k, v)
    assert cache.free_pages == 1
    with pytest.raises(MemoryError, match="3 more pages of the cache are needed; 1 are free"):
        cache.append([b], k, v)
    assert cache.length(b) == 0 and cache.free_pages == 1
    cache.truncate(a, 4)
    assert cache.free_pages == 3 and cache.length(a) == 4
    cache.append([b], k, v)
    cache.remove(a)
    assert cache.free_pages == 1
    with pytest.raises(ValueError, match="no sequence"):
        cache.length(a)


def test_what_is_wrong_changes_nothing():
    cache = make()
    s = cache.add()
    k, v = normal(1, HEADS, 3, SIZE), normal(1, HEADS, 3, VALUES)
    for arguments, options in [(([s], k[..., :8], v), {}), (([s, s], k, v), {}), (([s], k, v), {"counts": [4]}),
                               (([99], k, v), {}), (([s], k, v), {"rope": "sideways"})]:
        with pytest.raises(fovea.Error):
            cache.append(*arguments, **options)
        assert cache.length(s) == 0 and cache.free_pages == 32
    with pytest.raises(ValueError, match="pages is 0"):
        make(pages=0)
    with pytest.raises(ValueError, match="dtype is 'f64'; it is"):
        make(dtype="f64")


def test_a_tensor_of_torch_gets_one_back():
    torch = needs("torch")
    cache = make()
    s = cache.add()
    cache.append([s], torch.randn(1, HEADS, 3, SIZE), torch.randn(1, HEADS, 3, VALUES))
    assert isinstance(cache.attention([s], torch.randn(1, 4, 1, SIZE)), torch.Tensor)
