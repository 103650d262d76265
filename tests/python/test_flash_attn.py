"""fovea.flash_attn and fovea.sageattention against exact attention by upstream's definitions: layouts,
alignment of masks and windows to the last key, ALiBi, softcap, packed and paged sequences, caches that
are written and rotated."""

import inspect

import numpy as np
import pytest
from dropins import (Attention, Shares, double, dropout_keep, normal, require, seeded,  # noqa: F401
                     settings, torch_dtypes)

torch = require("torch")
hypothesis = require("hypothesis")
fovea = require("fovea")
import fovea.flash_attn as fa  # noqa: E402
import fovea.sageattention  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

DTYPES = torch_dtypes()


def visible(rows, keys, causal, window):
    """What upstream lets query i of `rows` see of `keys`, aligned to the last key."""
    i, j = np.arange(rows)[:, None] + keys - rows, np.arange(keys)[None]
    left, right = window
    right = 0 if causal else right
    return ((j >= i - left) | (left < 0)) & ((j <= i + right) | (right < 0))


def exact(q, k, v, dtype, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None,
          softmax_scale=None, keep=None, dout=None, extra_mask=None):
    """Of [B, S, H, D] tensors."""
    rows, keys = q.shape[1], k.shape[1]
    mask = visible(rows, keys, causal, window_size)
    if extra_mask is not None:
        mask = mask & extra_mask
    bias = None
    if alibi_slopes is not None:
        distance = np.abs(np.arange(rows)[:, None] + keys - rows - np.arange(keys))
        bias = -np.atleast_2d(double(alibi_slopes))[..., None, None] * distance
        bias = np.broadcast_to(bias, (q.shape[0], q.shape[2], rows, keys))
    return Attention(*(double(t).swapaxes(1, 2) for t in (q, k, v)), dtype, mask=mask, bias=bias,
                     scale=softmax_scale, softcap=softcap or None, keep=keep,
                     dout=None if dout is None else double(dout).swapaxes(1, 2))


@st.composite
def scores(draw, heads, batch=None):
    """Keywords that all functions share."""
    options = {"causal": draw(st.booleans())}
    if draw(st.booleans()):
        options["window_size"] = draw(st.tuples(st.integers(-1, 20), st.integers(-1, 20)))
    if draw(st.booleans()):
        options["softcap"] = draw(st.sampled_from([5.0, 30.0]))
    if draw(st.booleans()):
        shape = (heads,) if batch is None or draw(st.booleans()) else (batch, heads)
        options["alibi_slopes"] = torch.rand(shape)
    if draw(st.booleans()):
        options["softmax_scale"] = draw(st.sampled_from([0.05, 0.5]))
    return options


@st.composite
def problems(draw, lengths=1):
    torch.manual_seed(draw(st.integers(0, 2**31)))
    kind = draw(st.sampled_from(list(DTYPES)))
    group, heads = draw(st.sampled_from([1, 2, 3])), draw(st.integers(1, 3))
    size = draw(st.sampled_from([8, 16, 40, 64]))
    rows = [draw(st.integers(1, 50)) for _ in range(lengths)]
    keys = [draw(st.one_of(st.just(n), st.integers(1, 50))) for n in rows]
    return kind, group * heads, heads, size, rows, keys


def test_dense_values_and_gradients(record_property):
    shares = Shares()

    @settings()
    @hypothesis.given(st.data())
    def compare(data):
        kind, heads, groups, size, (rows,), (keys,) = data.draw(problems())
        options = data.draw(scores(heads, 2))
        dtype = DTYPES[kind]
        q = normal(2, rows, heads, size, dtype=dtype).requires_grad_()
        kv = normal(2, keys, 2, groups, size, dtype=dtype).requires_grad_()
        out, lse, probabilities = fa.flash_attn_kvpacked_func(q, kv, return_attn_probs=True,
                                                              **options)
        assert probabilities is None and lse.shape == (2, heads, rows)
        k, v = kv.detach().unbind(2)
        with torch.no_grad():
            alone = fa.flash_attn_func(q, k, v, **options)
        dout = normal(*out.shape, dtype=dtype)
        out.backward(dout)
        right = exact(q, k, v, kind, dout=dout, **options)
        shares.compare("out alone", double(alone).swapaxes(1, 2), right.out, right.out_bound)
        shares.compare("out", double(out).swapaxes(1, 2), right.out, right.out_bound)
        shares.compare("lse", double(lse), right.lse, right.lse_bound)
        for name, gradient in (("dq", q.grad), ("dk", kv.grad[:, :, 0]), ("dv", kv.grad[:, :, 1])):
            shares.compare(name, double(gradient).swapaxes(1, 2), right.gradients[name],
                           right.gradient_bounds[name])
        shares.cases += 1

    compare()
    shares.report(record_property, "fovea.flash_attn, dense")


def offsets(lengths):
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)


def test_packed_and_paged_sequences(record_property):
    shares = Shares()

    @settings()
    @hypothesis.given(st.data())
    def compare(data):
        kind, heads, groups, size, rows, keys = data.draw(problems(lengths=3))
        options = data.draw(scores(heads, 3))
        dtype = DTYPES[kind]
        q = normal(sum(rows), heads, size, dtype=dtype).requires_grad_()
        kv = normal(sum(keys), 2, groups, size, dtype=dtype).requires_grad_()
        lengths = (offsets(rows), offsets(keys), max(rows), max(keys))
        out, lse, _ = fa.flash_attn_varlen_kvpacked_func(q, kv, *lengths, return_attn_probs=True,
                                                         **options)
        assert lse.shape == (heads, sum(rows))
        dout = normal(*out.shape, dtype=dtype)
        out.backward(dout)
        tensors = [t.split(n) for t, n in ((q, rows), (kv, keys), (out, rows), (dout, rows),
                                           (q.grad, rows), (kv.grad, keys))]
        for b, (one, pair, result, dresult, dq, dkv) in enumerate(zip(*tensors)):
            own = dict(options)
            if "alibi_slopes" in own and own["alibi_slopes"].ndim == 2:
                own["alibi_slopes"] = own["alibi_slopes"][b]
            right = exact(one[None], *pair[None].unbind(2), kind, dout=dresult[None], **own)
            start = sum(rows[:b])
            shares.compare("out", double(result).swapaxes(0, 1)[None], right.out, right.out_bound)
            shares.compare("lse", double(lse[:, start:start + rows[b]])[None], right.lse,
                           right.lse_bound)
            for name, gradient in (("dq", dq), ("dk", dkv[:, 0]), ("dv", dkv[:, 1])):
                shares.compare(name, double(gradient).swapaxes(0, 1)[None], right.gradients[name],
                               right.gradient_bounds[name])
        shares.cases += 1

    compare()
    shares.report(record_property, "fovea.flash_attn, packed")


def test_qkvpacked_forms_are_the_plain_ones():
    qkv = normal(2, 9, 3, 4, 16)
    plain = fa.flash_attn_func(*qkv.unbind(2), causal=True)
    assert torch.equal(fa.flash_attn_qkvpacked_func(qkv, causal=True), plain)
    packed = fa.flash_attn_varlen_qkvpacked_func(qkv.flatten(0, 1), offsets([9, 9]), 9, causal=True)
    torch.testing.assert_close(packed.unflatten(0, (2, 9)), plain, rtol=0, atol=4e-6)


def test_varlen_reads_pages():
    rows, keys, size = [3, 5], [7, 12], 4
    q, cache = normal(8, 4, 16), normal(2, 6, size, 2, 16)
    table = torch.tensor([[5, 0, 0], [3, 1, 2]], dtype=torch.int32)
    out = fa.flash_attn_varlen_func(q, *cache, offsets(rows), offsets(keys), 5, 12, causal=True,
                                    block_table=table)
    k, v = (torch.cat([c[table[b].long()].flatten(0, 1)[:n] for b, n in enumerate(keys)])
            for c in cache)
    right = fa.flash_attn_varlen_func(q, k, v, offsets(rows), offsets(keys), 5, 12, causal=True)
    torch.testing.assert_close(out, right, rtol=0, atol=4e-6)


def test_dropout_and_the_probabilities_that_show_it():
    q, k, v = (normal(2, 11, 2, 8) for _ in range(3))
    torch.manual_seed(3)
    seed = int(torch.randint(2**62, (), dtype=torch.int64))
    keep = dropout_keep((2, 2, 11, 11), 0.4, seed)
    torch.manual_seed(3)
    out, _, probabilities = fa.flash_attn_func(q, k, v, 0.4, causal=True, return_attn_probs=True)
    right = exact(q, k, v, "float32", causal=True, keep=keep)
    np.testing.assert_allclose(double(out).swapaxes(1, 2), right.out, rtol=0, atol=2e-5)
    np.testing.assert_allclose(double(probabilities), np.where(keep > 0, right.p, -right.p),
                               rtol=0, atol=2e-6)
    torch.manual_seed(3)
    packed = fa.flash_attn_varlen_func(*(t.flatten(0, 1) for t in (q, k, v)), offsets([11, 11]),
                                       offsets([11, 11]), 11, 11, 0.4, causal=True,
                                       return_attn_probs=True)
    torch.testing.assert_close(packed[0].unflatten(0, (2, 11)), out, rtol=0, atol=2e-5)
    torch.testing.assert_close(packed[2], probabilities, rtol=0, atol=2e-6)


# ---- Caches -------------------------------------------------------------------------------------


def rotated(x, cos, sin, positions, interleaved):
    """Rotary embedding as written in RoFormer (Su et al., 2021), by complex numbers."""
    half = cos.shape[1]
    turned = x[..., :2 * half].copy()
    a, b = (slice(0, None, 2), slice(1, None, 2)) if interleaved else (
        slice(0, half), slice(half, None))
    number = (turned[..., a] + 1j * turned[..., b]) * (cos + 1j * sin)[positions][:, :, None]
    turned[..., a], turned[..., b] = number.real, number.imag
    return np.concatenate((turned, x[..., 2 * half:]), -1)


def test_caches_are_written_and_attended(record_property):
    shares = Shares()

    @settings()
    @hypothesis.given(st.data())
    def compare(data):
        torch.manual_seed(data.draw(st.integers(0, 2**31)))
        heads, groups, size, room, new, batch = 4, 2, 16, 24, data.draw(st.integers(1, 5)), 3
        options = data.draw(scores(heads, batch))
        kind = data.draw(st.sampled_from(["plain", "indexed", "paged", "padded on the left"]))
        q = normal(batch, new, heads, size)
        k, v = normal(2, batch, new, groups, size)
        used = torch.randint(1, room - new + 1, (batch,), dtype=torch.int32)
        full = normal(2, batch, room, groups, size)  # what each sequence sees
        arguments, extra = {}, None
        if kind == "paged":
            caches = full.unflatten(2, (6, 4)).flatten(1, 2)
            order = torch.randperm(18)
            table = torch.argsort(order).to(torch.int32).reshape(3, 6)
            caches = caches[:, order].clone()
            arguments["block_table"] = table
        elif kind == "indexed":
            index = torch.tensor([4, 0, 2])
            caches = normal(2, 5, room, groups, size)
            caches[:, index] = full
            arguments["cache_batch_idx"] = index.to(torch.int32)
        else:
            caches = full.clone()
        if kind == "padded on the left":
            arguments["cache_leftpad"] = torch.minimum(torch.tensor([0, 2, 5]), used - 1).int()
        before = caches.clone()
        append, rotary = data.draw(st.booleans()), data.draw(st.booleans())
        if append:
            arguments |= {"k": k, "v": v}
        tables = np.random.default_rng(0).uniform(-1, 1, (2, room, 6))
        interleaved = data.draw(st.booleans())
        if append and rotary:
            arguments |= {"rotary_cos": torch.from_numpy(tables[0]).float(),
                          "rotary_sin": torch.from_numpy(tables[1]).float(),
                          "rotary_interleaved": interleaved}
        out, lse = fa.flash_attn_with_kvcache(q, *caches, cache_seqlens=used,
                                              return_softmax_lse=True, **arguments, **options)
        local = options["causal"] or max(options.get("window_size", (-1, -1))) >= 0
        seen = double(full)
        queries = double(q)
        places = used.numpy()[:, None] + np.arange(new)
        if append:
            keys = double(k)
            if rotary:
                own = places if local else np.broadcast_to(used.numpy()[:, None], places.shape)
                keys = rotated(keys, *tables.astype(np.float32), places, interleaved)
                queries = rotated(queries, *tables.astype(np.float32), own, interleaved)
            for b in range(batch):
                seen[0, b, places[b]], seen[1, b, places[b]] = keys[b], double(v)[b]
        else:
            assert torch.equal(caches, before)
        for b in range(batch):
            length = int(used[b]) + (new if append else 0)
            own = dict(options)
            if "alibi_slopes" in own and own["alibi_slopes"].ndim == 2:
                own["alibi_slopes"] = own["alibi_slopes"][b]
            if "cache_leftpad" in arguments:
                extra = np.arange(length) >= int(arguments["cache_leftpad"][b])
            right = exact(torch.from_numpy(queries[b:b + 1]),
                          *(torch.from_numpy(t[b:b + 1, :length]) for t in seen), "float32",
                          extra_mask=extra, **own)
            slack = 2 if append and rotary else 1  # the rotation rounds, too
            shares.compare("out", double(out)[b:b + 1].swapaxes(1, 2), right.out,
                           slack * right.out_bound)
            shares.compare("lse", double(lse)[b:b + 1], right.lse, slack * right.lse_bound)
        shares.cases += 1

    compare()
    shares.report(record_property, "fovea.flash_attn, caches")


def test_decoding_appends_step_by_step_as_prefill_sees_it_whole():
    q, k, v = (normal(2, 12, h, 16) for h in (4, 2, 2))
    caches = torch.zeros(2, 2, 16, 2, 16)
    steps = [fa.flash_attn_with_kvcache(q[:, t:t + 1], *caches, k[:, t:t + 1], v[:, t:t + 1],
                                        cache_seqlens=t, causal=True) for t in range(12)]
    torch.testing.assert_close(torch.cat(steps, 1), fa.flash_attn_func(q, k, v, causal=True),
                               rtol=0, atol=4e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
def test_a_cache_on_a_device_is_written_as_here(paged, rotated):
    torch.manual_seed(3)
    q, new = normal(2, 5, 8, 64, dtype=torch.float16), normal(2, 2, 5, 2, 64, dtype=torch.float16)
    cache = normal(2, 8, 64, 2, 64, dtype=torch.float16)
    options = {"cache_seqlens": torch.tensor([100, 7], dtype=torch.int32), "causal": True}
    if paged:
        options["block_table"] = torch.randperm(8).int().view(2, 4)
    else:
        cache = cache.view(2, 2, 256, 2, 64)
    if rotated:
        options["rotary_cos"], options["rotary_sin"] = torch.rand(2, 256, 32)
    written, outs = {}, {}
    for place in ("cpu", "cuda"):
        written[place] = cache.to(place, copy=True)
        there = {name: value.to(place) if isinstance(value, torch.Tensor) else value
                 for name, value in options.items()}
        outs[place] = fa.flash_attn_with_kvcache(q.to(place), *written[place], *new.to(place), **there)
    torch.testing.assert_close(written["cuda"].cpu(), written["cpu"], atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(outs["cuda"].cpu(), outs["cpu"], atol=4e-3, rtol=4e-3)


# ---- Signatures and errors ----------------------------------------------------------------------

PLAIN = ["dropout_p", "softmax_scale", "causal", "window_size", "softcap", "alibi_slopes",
         "deterministic", "return_attn_probs"]
LENGTHS = ["cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"]
SIGNATURES = {
    "flash_attn_func": ["q", "k", "v", *PLAIN],
    "flash_attn_kvpacked_func": ["q", "kv", *PLAIN],
    "flash_attn_qkvpacked_func": ["qkv", *PLAIN],
    "flash_attn_varlen_func": ["q", "k", "v", *LENGTHS, *PLAIN, "block_table"],
    "flash_attn_varlen_kvpacked_func": ["q", "kv", *LENGTHS, *PLAIN],
    "flash_attn_varlen_qkvpacked_func": ["qkv", "cu_seqlens", "max_seqlen", *PLAIN],
    "flash_attn_with_kvcache": [
        "q", "k_cache", "v_cache", "k", "v", "rotary_cos", "rotary_sin", "cache_seqlens",
        "cache_batch_idx", "cache_leftpad", "block_table", "softmax_scale", "causal",
        "window_size", "softcap", "rotary_interleaved", "alibi_slopes", "num_splits",
        "return_softmax_lse"],
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_is_that_of_flash_attn_2(name):
    assert list(inspect.signature(getattr(fa, name)).parameters) == SIGNATURES[name]


@pytest.mark.parametrize("call", [
    lambda q: fa.flash_attn_func(q, q.half(), q),
    lambda q: fa.flash_attn_func(q.double(), q.double(), q.double()),
    lambda q: fa.flash_attn_func(q[0], q[0], q[0]),
    lambda q: fa.flash_attn_func(q, q, q, dropout_p=1.0),
    lambda q: fa.flash_attn_func(q, q, q, alibi_slopes=torch.ones(3)),
    lambda q: fa.flash_attn_varlen_func(q[0], q[0], q[0], offsets([5]).long(), offsets([5]), 5, 5),
    lambda q: fa.flash_attn_with_kvcache(q, q, q, q),
    lambda q: fa.flash_attn_with_kvcache(q, q, q, q, q),
    lambda q: fa.flash_attn_with_kvcache(q, q, q, rotary_cos=torch.ones(5, 4)),
])
def test_wrong_calls_raise_what_upstream_raises(call):
    with pytest.raises(RuntimeError) as raised:
        call(normal(2, 5, 4, 8))
    assert isinstance(raised.value, fovea.Error)


# ---- SageAttention ------------------------------------------------------------------------------


def quality(actual, right):
    actual, right = actual.ravel(), right.ravel()
    cosine = actual @ right / np.sqrt((actual @ actual) * (right @ right))
    return cosine, np.abs(actual - right).sum() / np.abs(right).sum()


@pytest.mark.parametrize("layout", ["HND", "NHD"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_sageattn_is_as_near_as_the_catalogue_says(layout, causal, dtype):
    q, k, v = (normal(2, 200, h, 64) for h in (6, 2, 2))
    k = k + 10 * normal(1, 1, 2, 64)  # an offset a channel, which smoothing takes away
    q, k, v = (t.to(DTYPES[dtype]) for t in (q, k, v))
    given = [t.transpose(1, 2) if layout == "HND" else t for t in (q, k, v)]
    out, lse = fovea.sageattention.sageattn(*given, tensor_layout=layout, is_causal=causal,
                                            return_lse=True)
    out = out if layout == "HND" else out.transpose(1, 2)
    right = exact(q, k, v, "float32", causal=causal)
    cosine, distance = quality(double(out), right.out)
    assert cosine >= 0.9995 and distance <= 0.02
    rows = slice(32 if causal else 0, None)  # the first see few keys, whose errors do not average
    error = np.abs(double(lse) - right.lse) / np.maximum(1, np.abs(right.lse))
    assert np.max(error[:, :, rows]) <= 1e-2
    rough = fovea.sageattention.sageattn(*given, layout, causal, smooth_k=False)
    rough = rough if layout == "HND" else rough.transpose(1, 2)
    assert quality(double(rough), right.out)[1] > distance


def test_sageattn_refuses_as_upstream():
    q = normal(1, 2, 5, 64)
    with pytest.raises(ValueError, match="HDN"):
        fovea.sageattention.sageattn(q, q, q, "HDN")
    with pytest.raises(AssertionError):
        fovea.sageattention.sageattn(q, q.half(), q)
