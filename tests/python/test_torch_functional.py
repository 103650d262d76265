"""fovea.torch.functional and fovea.torch.optim against torch.nn.functional and torch.optim."""

import copy
import warnings

import numpy as np
import pytest
from dropins import STEP, Shares, require, seeded, settings, torch_dtypes  # noqa: F401

torch = require("torch")
hypothesis = require("hypothesis")
fovea = require("fovea")
import fovea.torch  # noqa: E402
import torch.nn.functional as theirs  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

ours = fovea.torch.functional
HALF = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def agree(name, arguments, keywords=None, dtype=torch.float32, slack=1.0):
    """Values, and gradients to every argument that has them, are PyTorch's."""
    results = []
    gradient = None
    for module in (theirs, ours):
        given = [a.detach().clone().requires_grad_(a.requires_grad) if isinstance(
            a, torch.Tensor) else a for a in arguments]
        out = getattr(module, name)(*given, **(keywords or {}))
        if gradient is None:
            gradient = torch.randn(out.shape).to(out.dtype)
        out.backward(gradient)
        results.append([out.detach(), *(a.grad for a in given if isinstance(a, torch.Tensor)
                                        and a.requires_grad)])
    for right, mine in zip(*results):
        assert mine.shape == right.shape and mine.dtype == right.dtype
        scale = max(1.0, right.float().abs().max().item())
        torch.testing.assert_close(mine, right, rtol=HALF[dtype] * slack,
                                   atol=HALF[dtype] * slack * scale)


def leaf(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype).requires_grad_()


ACTIVATIONS = [("relu", {}), ("leaky_relu", {"negative_slope": 0.2}), ("elu", {"alpha": 0.7}),
               ("gelu", {}), ("gelu", {"approximate": "tanh"}), ("silu", {}), ("mish", {}),
               ("sigmoid", {}), ("tanh", {}), ("softplus", {}), ("relu6", {}),
               ("hardtanh", {"min_val": -0.5, "max_val": 1.5})]


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name, keywords", ACTIVATIONS)
def test_activations(name, keywords, dtype):
    x = (3 * torch.randn(7, 33)).to(dtype)
    agree(name, [x.requires_grad_()], keywords, dtype)
    agree(name, [x.detach().t().requires_grad_()], keywords, dtype)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "silu", "mish", "hardtanh", "relu6"])
def test_activations_in_place(name):
    x = leaf(5, 7)
    with torch.no_grad():
        y = x.clone()
        assert getattr(ours, name)(y, inplace=True) is y
        torch.testing.assert_close(y, getattr(theirs, name)(x))
    gradients = []
    for module in (theirs, ours):
        y = x * 2
        getattr(module, name)(y, inplace=True)
        gradients.append(torch.autograd.grad(y.square().sum(), x)[0])
    torch.testing.assert_close(*gradients)
    with pytest.raises(RuntimeError):  # a leaf is not overwritten
        getattr(ours, name)(x, inplace=True)


@pytest.mark.parametrize("name", ["silu", "mish", "elu", "relu", "leaky_relu", "hardtanh", "gelu", "tanh",
                                  "sigmoid", "softplus", "softmax"])
def test_gradients_of_activations_have_gradients(name):
    x, second = leaf(5, 7), []
    keywords = {"dim": 1} if name == "softmax" else {}
    for module in (theirs, ours):
        y = getattr(module, name)(x, **keywords)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        second.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("call", [
    lambda x: ours.layer_norm(x, [7]), lambda x: ours.mse_loss(x, torch.zeros(5, 7)),
    lambda x: ours.batch_norm(x, None, None, training=True)])
def test_gradients_of_norms_and_losses_have_none_and_say_so(call):
    x = leaf(5, 7)
    (first,) = torch.autograd.grad(call(x).sum() * 2, x, create_graph=True)
    with pytest.raises(fovea.Unsupported, match="differentiating twice"):
        first.sum().backward()


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, dim, dtype):
    agree(name, [leaf(5, 9, 4, dtype=dtype)], {"dim": dim}, dtype)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("shape", [(33,), (4, 33)])
def test_norms(shape, dtype):
    x = leaf(6, 4, 33, dtype=dtype)
    weight, bias = leaf(*shape, dtype=dtype), leaf(*shape, dtype=dtype)
    agree("layer_norm", [x, list(shape), weight, bias], None, dtype, 4)
    agree("layer_norm", [x, list(shape)], {"eps": 0.1}, dtype, 4)
    agree("rms_norm", [x, list(shape), weight], {"eps": 1e-6}, dtype, 4)
    agree("rms_norm", [x, list(shape)], None, dtype, 4)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("shape", [(9, 6), (4, 6, 7), (3, 6, 4, 5), (2, 6, 3, 2, 4)])
def test_norms_of_channels(shape, dtype):
    x = leaf(*shape, dtype=dtype)
    layouts = [x, x.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_()]
    if len(shape) == 4:
        layouts.append(x.detach().to(memory_format=torch.channels_last).requires_grad_())
    running = [torch.randn(6), torch.rand(6) + 0.5]
    weight, bias = (leaf(6, dtype=dtype) for _ in range(2))
    more = {"eps": 0.1}
    for x in layouts:
        agree("batch_norm", [x, None, None, weight, bias], {"training": True, **more}, dtype, 8)
        agree("batch_norm", [x, *running], more, dtype, 8)
        agree("group_norm", [x, 3, weight, bias], more, dtype, 8)
        agree("group_norm", [x, 2], more, dtype, 8)
        calls = [lambda f: f.batch_norm(x, *running), lambda f: f.group_norm(x, 2)]
        if len(shape) > 2:
            agree("instance_norm", [x], {"weight": weight, **more}, dtype, 8)
            agree("instance_norm", [x, *running], {"use_input_stats": False}, dtype, 8)
        for call in calls:
            assert call(ours).stride() == call(theirs).stride()


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0])
def test_running_statistics_follow_the_batch(momentum):
    followed = []
    for module in (theirs, ours):
        torch.manual_seed(3)
        running = [torch.zeros(6), torch.ones(6)]
        for _ in range(3):
            module.batch_norm(torch.randn(5, 6, 4) + 2, *running, training=True, momentum=momentum)
        followed.append(running)
    for mine, right in zip(*followed):
        torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-6)


def test_empty_batches():
    x, running = torch.zeros(0, 6), [torch.zeros(6), torch.ones(6)]
    for call in (lambda f: f.batch_norm(x, *running), lambda f: f.group_norm(x, 2),
                 lambda f: f.layer_norm(x, [6]), lambda f: f.gelu(x), lambda f: f.softmax(x, 1),
                 lambda f: f.mse_loss(x, x), lambda f: f.mse_loss(x, x, reduction="sum"),
                 lambda f: f.binary_cross_entropy(x, x),
                 lambda f: f.kl_div(x, x, reduction="sum")):
        torch.testing.assert_close(call(ours), call(theirs), equal_nan=True)


@pytest.mark.filterwarnings("ignore")
def test_autocast_chooses_the_dtypes_that_pytorch_chooses():
    x, y = (torch.rand(4, 6).clamp(0.1, 0.9).bfloat16() for _ in range(2))
    weight, classes = torch.ones(6), torch.randint(6, (4,))
    with torch.autocast("cpu", torch.bfloat16):
        for call in (lambda f: f.gelu(x), lambda f: f.softmax(x, 1),
                     lambda f: f.layer_norm(x, [6], weight), lambda f: f.group_norm(x, 2),
                     lambda f: f.mse_loss(x, y), lambda f: f.huber_loss(x, y.float()),
                     lambda f: f.kl_div(x.log(), y), lambda f: f.binary_cross_entropy(x, y),
                     lambda f: f.binary_cross_entropy(x.float(), y),
                     lambda f: f.binary_cross_entropy_with_logits(x, y),
                     lambda f: f.cross_entropy(x, classes), lambda f: f.cross_entropy(x, y)):
            mine, right = call(ours), call(theirs)
            torch.testing.assert_close(mine, right, rtol=2e-2, atol=2e-2)


def test_compiled_whole():
    def function(module, x, weight):
        x = module.group_norm(module.gelu(x), 4)
        x = module.batch_norm(x, None, None, training=True)
        loss = module.mse_loss(x, torch.zeros(5, 16))
        return loss + module.rms_norm(x, [16], weight).softmax(-1).square().sum()

    results = []
    for run in (lambda x, w: function(theirs, x, w),
                torch.compile(lambda x, w: function(ours, x, w), fullgraph=True,
                              backend="aot_eager")):
        torch.manual_seed(4)
        x, weight = leaf(5, 16), leaf(16)
        run(x, weight).backward()
        results.append((x.grad, weight.grad))
    for mine, right in zip(*results):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-5)


FUNC = [("gelu", {}), ("softmax", {"dim": 0}), ("layer_norm", {"normalized_shape": [7]}),
        ("group_norm", {"num_groups": 1}), ("mse_loss", {"target": torch.zeros(5, 7)})]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name, keywords", FUNC)
def test_inside_torch_func(name, keywords):
    x = torch.randn(3, 5, 7)

    def gradients(module):
        one = torch.func.grad(lambda x: getattr(module, name)(x, **keywords).square().sum())
        return [torch.stack([one(part) for part in x]), torch.func.vmap(one)(x)]

    for mine, right in zip(gradients(ours), gradients(theirs)):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-5)


P = torch.rand(4, 6)
CLASSES = torch.zeros(4, dtype=torch.int64)
BAD = {
    "approximate": lambda f: f.gelu(P, approximate="rough"),
    "dim": lambda f: f.softmax(P, dim=2),
    "limits": lambda f: f.hardtanh(P, 2, 1),
    "a list": lambda f: f.relu([1.0]),
    "softmax of integers": lambda f: f.softmax(CLASSES, 0),
    "shape of a norm": lambda f: f.layer_norm(P, [4]),
    "no shape": lambda f: f.layer_norm(P, []),
    "shape that is a number": lambda f: f.layer_norm(P, 6),
    "shape of a weight": lambda f: f.layer_norm(P, [6], torch.zeros(3)),
    "dtype of a weight": lambda f: f.layer_norm(P, [6], torch.ones(6).bfloat16()),
    "one axis, batch": lambda f: f.batch_norm(P[0], None, None, training=True),
    "no statistics": lambda f: f.batch_norm(P, None, None),
    "no variance": lambda f: f.batch_norm(P, torch.ones(6), None),
    "shape of statistics": lambda f: f.batch_norm(P, torch.ones(5), torch.ones(5)),
    "weight of batch_norm": lambda f: f.batch_norm(P, None, None, torch.ones(5), training=True),
    "one value a channel": lambda f: f.batch_norm(P[:1], None, None, training=True),
    "eps in training": lambda f: f.batch_norm(P, None, None, training=True, eps=0),
    "eps below 0": lambda f: f.batch_norm(P, torch.ones(6), torch.ones(6), eps=-1.0),
    "groups": lambda f: f.group_norm(P, 4),
    "no groups": lambda f: f.group_norm(P, 0),
    "one axis, groups": lambda f: f.group_norm(P[0], 2),
    "one value a group": lambda f: f.group_norm(P[:1], 6),
    "weight of group_norm": lambda f: f.group_norm(P, 2, torch.ones(5)),
    "no space": lambda f: f.instance_norm(P),
    "input beyond 1": lambda f: f.binary_cross_entropy(P + 1, P),
    "target beyond 1": lambda f: f.binary_cross_entropy(P, P + 1),
    "input NaN": lambda f: f.binary_cross_entropy(P * torch.nan, P),
    "two dtypes": lambda f: f.binary_cross_entropy(P, P.double()),
    "target of integers": lambda f: f.binary_cross_entropy(P, CLASSES[:, None].expand(4, 6)),
    "shapes of a binary loss": lambda f: f.binary_cross_entropy(P, P[:, :5]),
    "weight of a binary loss": lambda f: f.binary_cross_entropy(P, P, weight=torch.ones(3)),
    "shapes of logits": lambda f: f.binary_cross_entropy_with_logits(P, P[:, :5]),
    "positive weight": lambda f: f.binary_cross_entropy_with_logits(P, P, pos_weight=torch.ones(5)),
    "shapes of a divergence": lambda f: f.kl_div(P.log(), P[:, :5]),
    "reduction": lambda f: f.kl_div(P.log(), P, reduction="median"),
    "batchmean elsewhere": lambda f: f.mse_loss(P, P, reduction="batchmean"),
    "shape of weights": lambda f: f.mse_loss(P, P, weight=torch.ones(4)),
    "loss of integers": lambda f: f.mse_loss(CLASSES, CLASSES),
    "delta": lambda f: f.huber_loss(P, P, delta=0),
    "beta": lambda f: f.smooth_l1_loss(P, P, beta=-1.0),
    "class": lambda f: f.cross_entropy(P, CLASSES + 6),
    "class below 0": lambda f: f.cross_entropy(P, CLASSES - 1),
    "classes in int32": lambda f: f.cross_entropy(P, CLASSES.int()),
    "classes in floats": lambda f: f.cross_entropy(P, CLASSES.float()),
    "smoothing": lambda f: f.cross_entropy(P, CLASSES, label_smoothing=1.5),
    "weights of classes": lambda f: f.cross_entropy(P, CLASSES, weight=torch.ones(5)),
    "weights of probable classes": lambda f: f.cross_entropy(P, P, weight=torch.ones(5)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BAD)
def test_what_pytorch_refuses_is_refused_with_its_type(name):
    with pytest.raises(Exception) as its:
        BAD[name](theirs)
    with pytest.raises(its.type) as mine:
        BAD[name](ours)
    assert str(mine.value)


@pytest.mark.parametrize("name", ours.__all__)
def test_signatures_are_pytorchs(name):
    import inspect
    upstream = getattr(theirs, name)
    if not inspect.isfunction(upstream):  # made in C
        return
    mine, its = (list(inspect.signature(f).parameters.values()) for f in (getattr(ours, name), upstream))
    assert [(p.name, p.default, p.kind) for p in mine] == [(p.name, p.default, p.kind) for p in its]


# ---- Losses -------------------------------------------------------------------------------------

REDUCTIONS = ["none", "mean", "sum"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_elementwise_losses(reduction, dtype):
    x, y = leaf(6, 33, dtype=dtype), torch.randn(6, 33).to(dtype)
    wide = dtype is torch.float32
    for name, more in (("mse_loss", {}), ("l1_loss", {}), ("huber_loss", {"delta": 0.7}),
                       ("smooth_l1_loss", {"beta": 0.6}), ("smooth_l1_loss", {}),
                       ("binary_cross_entropy_with_logits", {})):
        target = (y > 0).to(dtype) if "binary" in name else y
        agree(name, [x, target.requires_grad_(wide)], {"reduction": reduction, **more}, dtype, 4)
    p, target = torch.rand(6, 33).clamp(0.01, 0.99).to(dtype), torch.rand(6, 33).to(dtype)
    agree("binary_cross_entropy", [p.requires_grad_(), target], {"reduction": reduction}, dtype, 12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_of_losses(reduction):
    x, y, weight = leaf(6, 5), torch.rand(6, 5), torch.rand(6, 5)
    keywords = {"reduction": reduction, "weight": weight}
    for name in ("mse_loss", "l1_loss", "huber_loss"):
        agree(name, [x, y], keywords, slack=4)
    agree("binary_cross_entropy_with_logits", [x, y.requires_grad_()],
          {**keywords, "pos_weight": 3 * torch.rand(5)}, slack=8)
    agree("binary_cross_entropy_with_logits", [x, (y > 0.5).float()],
          {"reduction": reduction, "pos_weight": torch.tensor([0, 1, 2, 0.5, 0.0])}, slack=8)
    agree("binary_cross_entropy", [torch.rand(6, 5, requires_grad=True), y],
          {**keywords, "weight": weight[:1]}, slack=8)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy_at_the_ends(reduction):
    p = torch.tensor([0.0, 1e-9, 1e-8, 0.3, 1 - 2.0**-24, 1.0, 0.0, 1.0, 1e-30])
    y = torch.tensor([1.0, 1.0, 0.25, 0.5, 0.0, 0.0, 0.0, 1.0, 1.0])
    agree("binary_cross_entropy", [p.requires_grad_(), y], {"reduction": reduction}, slack=4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
def test_kl_div(reduction, log_target):
    keywords = {"reduction": reduction, "log_target": log_target}
    for shape in ((6, 33), (4, 5, 3), (7,), ()):
        x, target = leaf(*shape), torch.randn(shape)
        target = target if log_target else target.exp()
        agree("kl_div", [x, target.requires_grad_()], keywords, slack=4)
    x = torch.tensor([[-200.0, -3.0, -90.0], [-1e4, 70.0, 0.0]], requires_grad=True)
    target = torch.tensor([[0.2, 0.5, 0.0], [0.0, 1e-30, 1.0]])
    agree("kl_div", [x, target.log().clamp(min=-150) if log_target else target], keywords, slack=4)
    agree("kl_div", [leaf(6, 5), torch.rand(5)], keywords | {"log_target": False}, slack=4)


def test_nothing_of_nothing_is_no_divergence():
    x, none = torch.tensor([-torch.inf, 0.0]), torch.tensor([0.0, 1.0])
    assert ours.kl_div(x, none, reduction="sum") == 0


@pytest.mark.filterwarnings("ignore")
def test_losses_broadcast_and_promote():
    x = leaf(6, 5)
    agree("mse_loss", [x, torch.randn(5)], slack=4)
    agree("mse_loss", [x, torch.randint(3, (6, 5))], slack=4)
    agree("l1_loss", [x, torch.randn(6, 5).bfloat16()], slack=4)
    with pytest.warns(UserWarning, match="broadcast"):
        ours.mse_loss(x, torch.zeros(5))
    for old in ({"size_average": False}, {"reduce": False}):
        agree("mse_loss", [x, torch.randn(6, 5)], old, slack=4)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy(reduction, smoothing):
    target = torch.randint(0, 11, (6, 5))
    target[0, 2] = -100
    keywords = {"reduction": reduction, "label_smoothing": smoothing}
    agree("cross_entropy", [leaf(6, 11, 5), target], keywords, slack=4)
    agree("cross_entropy", [leaf(6, 11), target[:, 0]], keywords, slack=4)
    agree("cross_entropy", [leaf(11), target[1, 0]], keywords, slack=4)
    target[1, 1] = 7
    for weight in (None, torch.rand(11)):
        for kind in (target, torch.rand(6, 11, 5).softmax(1)):
            agree("cross_entropy", [leaf(6, 11, 5), kind], {**keywords, "weight": weight}, slack=8)
    agree("cross_entropy", [leaf(6, 11), target[:, 0]], {**keywords, "ignore_index": 7}, slack=4)


# ---- Any call -----------------------------------------------------------------------------------

SIMPLE = [name for name, _ in ACTIVATIONS]
LOSSES = ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy",
          "binary_cross_entropy_with_logits", "kl_div", "cross_entropy"]


@st.composite
def calls(draw):
    """(name, tensors, keywords): the tensors are those that may have gradients."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from(list(torch_dtypes().values())))
    shape = draw(st.lists(st.integers(2, 9), min_size=2, max_size=4))
    kind = draw(st.sampled_from(["activation", "softmax", "rows", "channels", "loss"]))
    x = 3 * torch.randn(shape)
    if draw(st.booleans()):
        x = torch.randn([n + 1 for n in reversed(shape)]).permute(*reversed(range(len(shape))))[
            tuple(slice(1, None) for _ in shape)]
    x, keywords = x.to(dtype), {}
    if kind == "activation":
        return draw(st.sampled_from(SIMPLE)), [x], keywords
    if kind == "softmax":
        return draw(st.sampled_from(["softmax", "log_softmax", "softmin"])), [x], {
            "dim": draw(st.integers(-len(shape), len(shape) - 1))}
    if kind == "rows":
        axes = draw(st.integers(1, len(shape) - 1))
        weight = torch.rand(shape[-axes:]).to(dtype)
        name = draw(st.sampled_from(["layer_norm", "rms_norm"]))
        return name, [x, weight], {"normalized_shape": shape[-axes:], "eps": 1e-3}
    if kind == "channels":
        weight = torch.rand(shape[1]).to(dtype)
        if draw(st.booleans()):
            groups = draw(st.sampled_from([g for g in range(1, shape[1] + 1) if shape[1] % g == 0]))
            groups = 1 if len(shape) == 2 and groups == shape[1] else groups
            return "group_norm", [x, weight], {"num_groups": groups, "eps": 1e-3}
        return "batch_norm", [x, weight], {"running_mean": None, "running_var": None,
                                           "training": True, "eps": 1e-3}
    name = draw(st.sampled_from(LOSSES))
    keywords["reduction"] = draw(st.sampled_from(REDUCTIONS))
    if name == "cross_entropy":
        return name, [x], keywords | {"target": torch.randint(shape[1], (shape[0], *shape[2:])),
                                      "label_smoothing": draw(st.sampled_from([0.0, 0.3]))}
    if name == "kl_div":
        return name, [x.log_softmax(-1)], keywords | {"target": torch.rand(shape).to(dtype)}
    if name == "binary_cross_entropy":
        x = torch.rand(shape).clamp(0.02, 0.98).to(dtype)
    return name, [x], keywords | {"target": torch.rand(shape).to(dtype)}


def exactly(name, tensors, keywords):
    """The arguments in double precision."""
    wide = {key: value.double() if isinstance(value, torch.Tensor) and value.is_floating_point()
            else value for key, value in keywords.items()}
    return name, [t.detach().double().requires_grad_() for t in tensors], wide


def called(module, name, tensors, keywords):
    names = ["input", "weight"]
    return getattr(module, name)(**dict(zip(names, tensors)), **keywords)


@pytest.mark.filterwarnings("ignore")
def test_any_call_is_exact_within_a_bound(record_property):
    """The bound: 64 eps of f32 times the largest number that took part, sums having at most a few
    thousand terms, and of halves one rounding of the result besides."""
    shares = Shares()

    @settings(240)
    @hypothesis.given(calls())
    def compare(call):
        name, tensors, keywords = call
        tensors = [t.detach().requires_grad_() for t in tensors]
        mine, right = called(ours, name, tensors, keywords), called(theirs, *exactly(*call))
        assert mine.dtype == tensors[0].dtype and mine.shape == right.shape
        outer = torch.randn(right.shape).to(mine.dtype)
        wide = exactly(*call)
        right = called(theirs, *wide)
        right.backward(outer.double())
        mine.backward(outer)
        step = STEP[str(mine.dtype)[6:]]
        pairs = [("y", mine, right), *(("gradient", m.grad, r.grad) for m, r in zip(tensors, wide[1]))]
        for what, a, b in pairs:
            exact = b.detach().numpy()
            largest = max(1.0, *(t.detach().abs().max().item() for t in (outer, b, *wide[1])))
            bound = 64 * 2.0**-23 * largest + (0 if step < 1e-6 else 2 * step * np.abs(exact)
                                               + step * largest / 8)
            shares.compare(f"{name} {keywords}: {what}", a.detach().double().numpy(), exact, bound)
        shares.cases += 1

    compare()
    shares.report(record_property, "fovea.torch.functional")


# ---- Optimizers ---------------------------------------------------------------------------------

OPTIMIZERS = [("AdamW", {}), ("AdamW", {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.1}),
              ("AdamW", {"maximize": True}), ("Adam", {}), ("Adam", {"weight_decay": 0.1}),
              ("SGD", {}), ("SGD", {"weight_decay": 0.1}),
              ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.8, "nesterov": True}),
              ("SGD", {"momentum": 0.7, "dampening": 0.3, "weight_decay": 0.1, "maximize": True})]


def train(module, name, options, steps, start=None, state=None):
    parameters = [torch.nn.Parameter(p.clone()) for p in start]
    optimizer = getattr(module, name)(parameters, **options)
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))  # which it would share
    for step in steps:
        optimizer.zero_grad()
        generator = torch.Generator().manual_seed(step)
        for p in parameters:
            ((p - torch.randn(p.shape, generator=generator)) ** 2).sum().backward()
        optimizer.step()
    return parameters, optimizer


@pytest.mark.parametrize("name, options", OPTIMIZERS)
def test_optimizers_follow_and_share_checkpoints(name, options):
    start = [torch.randn(7, 33), torch.randn(5), torch.randn(6, 4).t()]
    right, its = train(torch.optim, name, options, range(10), start)
    mine, optimizer = train(fovea.torch.optim, name, options, range(10), start)
    for a, b in zip(mine, right):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-6)
    assert optimizer.state_dict()["param_groups"] == its.state_dict()["param_groups"]
    further, _ = train(torch.optim, name, options, range(10, 20), right, its.state_dict())
    crossed, _ = train(fovea.torch.optim, name, options, range(10, 20), right, its.state_dict())
    back, _ = train(torch.optim, name, options, range(10, 20), right, optimizer.state_dict())
    for a, b, c in zip(crossed, back, further):
        torch.testing.assert_close(a, c, rtol=2e-5, atol=2e-6)
        torch.testing.assert_close(b, c, rtol=2e-5, atol=2e-5)


def test_optimizers_refuse_what_they_do_not_serve():
    for options in ({"amsgrad": True}, {}):
        p = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64 if not options else
                                           torch.float32))
        p.grad = torch.ones_like(p)
        with pytest.raises(fovea.Unsupported):
            fovea.torch.optim.AdamW([p], **options).step()


def test_a_step_runs_the_closure():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = fovea.torch.optim.SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p ** 2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    assert torch.equal(p.detach(), torch.zeros(3))
