"""fovea.torch's attention against PyTorch's: values and gradients against exact attention within the
bounds of the catalogue, shapes, strides and errors as PyTorch has them, compilation, dropout, and the
block that puts it in the place of PyTorch's."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from dropins import (Attention, Shares, double, dropout_keep, normal, require, seeded,  # noqa: F401
                     settings, torch_dtypes)
from library import ROOT

torch = require("torch")
hypothesis = require("hypothesis")
fovea = require("fovea")
import fovea.torch  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

upstream = torch.nn.functional.scaled_dot_product_attention
ours = fovea.torch.scaled_dot_product_attention
DTYPES = torch_dtypes()


# ---- Values -------------------------------------------------------------------------------------


def strided(draw, *shape, dtype):
    """A tensor of this shape with some strides."""
    kind = draw(st.sampled_from(["plain", "heads inside", "sliced", "reversed axes"]))
    if kind == "heads inside" and len(shape) >= 3:
        order = (*shape[:-3], shape[-2], shape[-3], shape[-1])
        return normal(*order, dtype=dtype).transpose(-3, -2)
    if kind == "sliced":
        return normal(*shape[:-1], 2 * shape[-1] + 3, dtype=dtype)[..., 1:2 * shape[-1] + 1:2]
    if kind == "reversed axes":
        return normal(*reversed(shape), dtype=dtype).permute(*reversed(range(len(shape))))
    return normal(*shape, dtype=dtype)


@st.composite
def calls(draw):
    """(query, key, value, keywords)"""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dtype = DTYPES[draw(st.sampled_from(list(DTYPES)))]
    size = st.integers(1, 70)
    rows, keys = draw(size), draw(st.one_of(st.just(0), size, size, size))
    head_size, value_size = draw(st.sampled_from([1, 7, 16, 32, 40, 64])), None
    value_size = draw(st.sampled_from([head_size, head_size, 5]))
    group, heads = draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(1, 3))
    lead = tuple(draw(st.lists(st.integers(1, 2), min_size=0, max_size=2)))
    options = {}
    if group > 1:
        options["enable_gqa"] = True
    q = strided(draw, *lead, heads * group, rows, head_size, dtype=dtype)
    k = strided(draw, *lead, heads, keys, head_size, dtype=dtype)
    v = strided(draw, *lead, heads, keys, value_size, dtype=dtype)
    mask = draw(st.sampled_from(["none", "causal", "boolean", "float", "empty rows"]))
    shape = tuple(n if draw(st.booleans()) else 1 for n in (*lead, heads * group, rows)) + (keys,)
    shape = shape[draw(st.integers(0, len(shape) - 2)):]
    if mask == "causal":
        options["is_causal"] = True
    elif mask in ("boolean", "empty rows"):
        options["attn_mask"] = torch.rand(shape) < (0.7 if mask == "boolean" else 0.1)
    elif mask == "float":
        options["attn_mask"] = normal(*shape, dtype=draw(st.sampled_from([torch.float32, dtype])))
    if draw(st.booleans()):
        options["scale"] = draw(st.sampled_from([0.0, 0.1, -0.3, 1.0]))
    return q, k, v, options


def four(tensor):
    """[..., S, D] as [B, H, S, D]"""
    while tensor.ndim < 4:
        tensor = tensor.unsqueeze(0)
    return tensor.flatten(0, -4)


def exact(q, k, v, dtype, attn_mask=None, is_causal=False, scale=None, keep=None, dout=None, **_):
    full = (*q.shape[:-1], k.shape[-2])
    mask = bias = None
    if is_causal:
        mask = np.tril(np.ones(full[-2:], dtype=bool))
    elif attn_mask is not None:
        wide = four(attn_mask.detach().expand(full)).numpy() if attn_mask.dtype == torch.bool else (
            four(attn_mask.detach().double().expand(full)).numpy())
        mask, bias = (wide, None) if attn_mask.dtype == torch.bool else (None, wide)
    return Attention(*(double(four(t)) for t in (q, k, v)), str(dtype).removeprefix("torch."),
                     mask=mask, bias=bias, scale=scale, keep=keep,
                     dout=None if dout is None else double(four(dout)))


def test_values_and_gradients_are_exact_within_the_bounds(record_property):
    shares = Shares()

    @settings()
    @hypothesis.given(calls())
    def compare(call):
        q, k, v, options = call
        tensors = [t.detach().requires_grad_() for t in (q, k, v)]
        mask = options.get("attn_mask")
        if mask is not None and mask.dtype != torch.bool:
            mask = options["attn_mask"] = mask.detach().requires_grad_()
        result = ours(*tensors, **options)
        plain = upstream(q, k, v, **{**options, "attn_mask": None if mask is None else mask.detach()})
        assert result.shape == plain.shape and result.dtype == plain.dtype
        dout = torch.randn(result.shape).to(result.dtype)
        result.backward(dout)
        right = exact(q, k, v, q.dtype, dout=dout, **options)
        with torch.no_grad():  # another algorithm may serve a call that needs no log-sum-exp
            alone = ours(q, k, v, **options)
        shares.compare("out alone", double(four(alone)), right.out, right.out_bound)
        shares.compare("out", double(four(result)), right.out, right.out_bound)
        for name, tensor in zip(("dq", "dk", "dv"), tensors):
            shares.compare(name, double(four(tensor.grad)), right.gradients[name],
                           right.gradient_bounds[name])
        if mask is not None and mask.dtype != torch.bool:
            assert mask.grad.shape == mask.shape and mask.grad.dtype == mask.dtype
            full = (*q.shape[:-1], k.shape[-2])
            summed = [torch.from_numpy(table["dbias"]).reshape(full).sum_to_size(mask.shape)
                      for table in (right.gradients, right.gradient_bounds)]
            step = {torch.float32: 0, torch.float16: 2**-10, torch.bfloat16: 2**-7}[mask.dtype]
            bound = summed[1] + step * summed[0].abs() + 1e-37
            shares.compare("dbias", double(mask.grad), summed[0].numpy(), bound.numpy())
        shares.cases += 1

    compare()
    shares.report(record_property, "fovea.torch")


@pytest.mark.parametrize("lengths", [(5, 9), (9, 5), (1, 7)])
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3},
                                     {"is_causal": True, "enable_gqa": True}])
def test_usual_calls_are_pytorchs(lengths, options):
    """Those that go the shortest way."""
    heads = 2 if "enable_gqa" in options else 4
    q, k = normal(2, 4, lengths[0], 8), normal(2, heads, lengths[1], 8)
    right = upstream(q, k, k, **options)
    torch.testing.assert_close(ours(q, k, k, **options), right, rtol=0, atol=4e-6)
    result = ours(q.requires_grad_(), k, k, **options)
    torch.testing.assert_close(result, right, rtol=0, atol=4e-6)
    with torch.inference_mode():
        assert torch.equal(ours(q, k, k, **options), result)


def test_result_lies_in_memory_as_pytorch_lays_it():
    for heads_inside in (False, True):
        q = normal(2, 5, 3, 8).transpose(1, 2) if heads_inside else normal(2, 3, 5, 8)
        assert ours(q, q, q).stride() == upstream(q, q, q).stride()


@pytest.mark.parametrize("shapes", [
    [(5, 8), (6, 8), (6, 8)], [(3, 5, 8), (6, 8), (1, 6, 8)], [(2, 4, 5, 8), (4, 6, 8), (6, 9)],
    [(1, 4, 5, 8), (2, 1, 6, 8), (2, 4, 6, 8)], [(2, 1, 5, 8), (1, 4, 6, 8), (1, 4, 6, 8)],
    [(3, 2, 4, 5, 8), (2, 4, 6, 8), (3, 1, 1, 6, 8)], [(0, 4, 5, 8), (0, 4, 6, 8), (0, 4, 6, 8)],
    [(2, 4, 0, 8), (2, 4, 6, 8), (2, 4, 6, 8)], [(2, 4, 5, 8), (2, 4, 0, 8), (2, 4, 0, 8)]])
def test_axes_broadcast_as_pytorch_broadcasts_them(shapes):
    tensors = [normal(*shape) for shape in shapes]
    torch.testing.assert_close(ours(*tensors), upstream(*tensors), rtol=0, atol=4e-6)


def test_key_and_value_may_have_different_groups():
    tensors = normal(2, 8, 5, 8), normal(2, 4, 6, 8), normal(2, 2, 6, 8)
    torch.testing.assert_close(ours(*tensors, enable_gqa=True),
                               upstream(*tensors, enable_gqa=True), rtol=0, atol=4e-6)


def test_autocast_lowers_as_pytorch_lowers():
    q = normal(1, 2, 9, 16)
    with torch.autocast("cpu", torch.bfloat16):
        mine, its = ours(q, q, q), upstream(q, q, q)
    assert mine.dtype == its.dtype == torch.bfloat16
    torch.testing.assert_close(mine, its, rtol=0, atol=0.03)


# ---- Errors -------------------------------------------------------------------------------------

Q = torch.zeros(2, 4, 5, 8)
BAD = {
    "one axis": lambda f: f(torch.zeros(8), Q, Q),
    "heads": lambda f: f(Q, Q[:, :2], Q[:, :2]),
    "groups": lambda f: f(Q, Q[:, :3], Q[:, :3], enable_gqa=True),
    "mask and causal": lambda f: f(Q, Q, Q, attn_mask=torch.ones(5, 5) > 0, is_causal=True),
    "dtypes": lambda f: f(Q, Q.double(), Q),
    "integers": lambda f: f(Q.int(), Q.int(), Q.int()),
    "mask of integers": lambda f: f(Q, Q, Q, attn_mask=torch.ones(5, 5, dtype=torch.int32)),
    "mask of doubles": lambda f: f(Q, Q, Q, attn_mask=torch.ones(5, 5).double()),
    "mask of another half": lambda f: f(*[Q.bfloat16()] * 3, attn_mask=torch.ones(5, 5).half()),
    "shape of the mask": lambda f: f(Q, Q, Q, attn_mask=torch.ones(5, 6) > 0),
    "mask of one axis": lambda f: f(Q, Q, Q, attn_mask=torch.ones(5) > 0),
    "mask of five axes": lambda f: f(Q, Q, Q, attn_mask=torch.ones(1, 1, 1, 5, 5) > 0),
    "head sizes": lambda f: f(Q, Q[..., :7], Q),
    "dropout below 0": lambda f: f(Q, Q, Q, dropout_p=-0.5),
    "dropout above 1": lambda f: f(Q, Q, Q, dropout_p=1.5),
    "devices": lambda f: f(Q.to("meta"), Q, Q),
    "a list": lambda f: f([1], Q, Q),
    "None": lambda f: f(None, Q, Q),
    "too few": lambda f: f(Q, Q),
    "positional scale": lambda f: f(Q, Q, Q, None, 0.0, False, 0.1),
    "unknown keyword": lambda f: f(Q, Q, Q, window=3),
    "flag": lambda f: f(Q, Q, Q, is_causal=1),
    "scale": lambda f: f(Q, Q, Q, scale="large"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_pytorch_refuses_is_refused_with_its_type(name):
    with pytest.raises(Exception) as its:
        BAD[name](upstream)
    with pytest.raises(its.type) as mine:
        BAD[name](ours)
    assert str(mine.value)


def test_what_is_not_served_says_why():
    with pytest.raises(fovea.Unsupported, match="torch.float64"):
        ours(*[Q.double()] * 3)


# ---- Autograd, compilation, export --------------------------------------------------------------


def test_second_gradient_is_refused_with_a_sentence():
    q = normal(1, 2, 5, 8).requires_grad_()
    (first,) = torch.autograd.grad(ours(q, q, q).sum(), q, create_graph=True)
    with pytest.raises(fovea.Unsupported, match="differentiating twice"):
        first.sum().backward()


@pytest.mark.filterwarnings("ignore")  # PyTorch's fallback says that it is slow
@pytest.mark.parametrize("options", [{"is_causal": True}, {"attn_mask": torch.eye(7) > 0}, {"scale": 0.3}])
def test_inside_torch_func(options):
    q = normal(3, 1, 2, 7, 8)

    def gradients(function):
        one = torch.func.grad(lambda q: function(q, q, q, **options).square().sum())
        return [torch.stack([one(part) for part in q]), torch.func.vmap(one)(q),
                torch.func.vmap(lambda q: function(q, q, q, **options))(q)]

    for mine, right in zip(gradients(ours), gradients(upstream)):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-5)
    with pytest.raises(fovea.Unsupported, match="differentiating twice"):
        torch.func.grad(lambda q: torch.func.grad(lambda q: ours(q, q, q).sum())(q).sum())(q[0])


def test_compiled_whole_and_equal():
    def function(q, k, v, mask):
        return ours(q * 2, k, v, is_causal=True) + ours(q, k, v, mask)

    compiled = torch.compile(function, fullgraph=True)
    results = []
    for call in (function, compiled):
        torch.manual_seed(3)
        q, k, v = (normal(2, 3, 33, 16).requires_grad_() for _ in range(3))
        out = call(q, k, v, torch.rand(33, 33) < 0.8)
        out.square().sum().backward()
        results.append((out, q.grad, k.grad, v.grad))
    for eager, whole in zip(*results):
        torch.testing.assert_close(whole, eager, rtol=1e-5, atol=1e-5)


def test_exported_and_equal():
    class Model(torch.nn.Module):
        def forward(self, q):
            return ours(q, q, q, is_causal=True)

    q = normal(1, 2, 9, 16)
    exported = torch.export.export(Model(), (q,))
    assert "fovea.attention" in exported.graph_module.code
    assert torch.equal(exported.module()(q), ours(q, q, q, is_causal=True))


def test_operators_keep_the_rules_of_torch_library():
    q, k = normal(2, 5, 4, 8).transpose(1, 2), normal(2, 2, 6, 8)
    settings_ = [None] * 9 + [None, None, 0.0, 0, -1, -1, "top_left"]
    out, lse = torch.ops.fovea.attention(q, k, k, *settings_, True)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.fovea.attention,
                          (*(t.requires_grad_() for t in (q, k)), k, *settings_, True),
                          test_utils=checks)
    q, k = q.detach(), k.detach()
    torch.library.opcheck(torch.ops.fovea.attention_backward,
                          (q, k, k, out.detach(), lse.detach(), torch.ones_like(out), *settings_, False,
                           False), test_utils=checks)


# ---- Dropout ------------------------------------------------------------------------------------


def drawn_seed(seed):
    """The seed that a call draws from PyTorch's generator after manual_seed."""
    torch.manual_seed(seed)
    drawn = int(torch.randint(2**62, (), dtype=torch.int64))
    torch.manual_seed(seed)
    return drawn


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropout_drops_by_its_definition_forward_and_backward(probability):
    q, k, v = (normal(2, 3, 17, 8).requires_grad_() for _ in range(3))
    keep = dropout_keep((2, 3, 17, 17), probability, drawn_seed(5))
    out = ours(q, k, v, dropout_p=probability)
    dout = normal(*out.shape)
    out.backward(dout)
    right = exact(q, k, v, q.dtype, keep=keep, dout=dout)
    shares = Shares()
    shares.compare("out", double(out), right.out, right.out_bound / (1 - probability))
    for name, tensor in zip(("dq", "dk", "dv"), (q, k, v)):
        shares.compare(name, double(tensor.grad), right.gradients[name],
                       right.gradient_bounds[name])


def test_dropout_keeps_as_many_as_it_should_and_follows_the_seed():
    q, unit = torch.zeros(4, 8, 64, 4), torch.eye(64).expand(4, 8, 64, 64)
    keys = torch.zeros(4, 8, 64, 4)
    torch.manual_seed(7)
    first, second = (ours(q, keys, unit, dropout_p=0.3) != 0 for _ in range(2))
    torch.manual_seed(7)
    assert torch.equal(first, ours(q, keys, unit, dropout_p=0.3) != 0)
    count = first.numel()
    spread = 5 * np.sqrt(0.3 * 0.7 / count)  # five standard deviations
    for mask in (first, second):
        assert abs(mask.double().mean() - 0.7) < spread
    both = (first & second).double().mean()  # independent of each other
    assert abs(both - 0.49) < 5 * np.sqrt(0.49 * 0.51 / count)
    for axis in range(4):  # and of their neighbours
        rolled = (first & first.roll(1, axis)).double().mean()
        assert abs(rolled - 0.49) < 5 * np.sqrt(0.49 * 0.51 / count)


def test_dropout_of_everything_gives_zeros():
    q = normal(1, 2, 5, 8).requires_grad_()
    out = ours(q, q, q, dropout_p=1.0)
    out.sum().backward()
    assert not out.any() and not q.grad.any()


# ---- In the place of PyTorch's -------------------------------------------------------------------


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


def test_enabled_serves_and_counts_what_runs_inside():
    layer, x = Layer(), normal(2, 7, 16)
    for mode in (layer.train(), layer.eval()):
        with torch.no_grad():
            right = mode(x)
            with fovea.torch.enabled() as served:
                torch.testing.assert_close(mode(x), right, rtol=0, atol=1e-5)
        assert (served.served, served.declined) == (1, {})
    assert str(served) == "Fovea served 1 calls of attention"
    assert torch.nn.functional.scaled_dot_product_attention is upstream


def test_enabled_leaves_to_pytorch_what_fovea_does_not_serve():
    functional = torch.nn.functional
    with fovea.torch.enabled() as outer:
        functional.scaled_dot_product_attention(*[normal(1, 2, 5, 8)] * 3)
        with fovea.torch.enabled() as inner:
            q = normal(1, 2, 5, 8).double()
            result = functional.scaled_dot_product_attention(q, q, q)
    assert torch.equal(result, upstream(q, q, q))
    assert inner.declined == outer.declined == {"dtype torch.float64": 1}
    assert (outer.served, inner.served) == (1, 0)
    assert "left 1 to PyTorch (dtype torch.float64: 1)" in str(inner)


def test_enabled_is_over_after_an_error():
    with pytest.raises(RuntimeError), fovea.torch.enabled():
        torch.nn.functional.scaled_dot_product_attention(Q, Q[:, :2], Q[:, :2])
    assert torch.nn.functional.scaled_dot_product_attention is upstream


def test_enabled_reaches_names_that_modules_imported():
    with fovea.torch.enabled() as served:
        upstream(Q, Q, Q)
    assert served.served == 1


def test_enabled_counts_in_compiled_graphs():
    compiled = torch.compile(
        lambda q: torch.nn.functional.scaled_dot_product_attention(q, q, q), fullgraph=True)
    q = normal(1, 2, 5, 8)
    with fovea.torch.enabled() as served:
        compiled(q), compiled(q)
    assert served.served == 2
    compiled(q)
    assert served.served == 2


def test_threads_call_at_once():
    tensors = [[normal(1, 4, 64, 32) for _ in range(3)] for _ in range(4)]
    right = [ours(*three) for three in tensors]
    wrong = []

    def call(i):
        for _ in range(20):
            if not torch.equal(ours(*tensors[i]), right[i]):
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- What it takes besides ----------------------------------------------------------------------


def test_memory_beyond_the_result_is_the_workspace(tmp_path):
    """By tracemalloc, and by the highest resident size of a process of its own."""
    done = subprocess.run([sys.executable, ROOT / "bench/python/attention.py", "--only", "memory-s4096",
                           "--json", tmp_path / "memory.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    memory = json.loads((tmp_path / "memory.json").read_text())["cases"]["memory-s4096"]
    assert memory["python_bytes"] < 4096
    slack = 1 << 20  # of pages, and of what the allocator keeps
    assert memory["resident_bytes_beyond_result"] <= memory["workspace_bytes"] + slack
    assert memory["workspace_bytes"] < memory["scores_would_be_bytes"] / 256
