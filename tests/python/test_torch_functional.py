"""fovea.torch.functional and fovea.torch.optim against torch.nn.functional and torch.optim."""

import copy

import pytest
from dropins import require

torch = require("torch")
fovea = require("fovea")
import fovea.torch  # noqa: E402
import torch.nn.functional as theirs  # noqa: E402

ours = fovea.torch.functional
HALF = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


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
    return torch.randn(*shape).to(dtype).requires_grad_()


ACTIVATIONS = [("relu", {}), ("leaky_relu", {"negative_slope": 0.2}), ("elu", {"alpha": 0.7}),
               ("gelu", {}), ("gelu", {"approximate": "tanh"}), ("silu", {}), ("mish", {}),
               ("sigmoid", {}), ("tanh", {}), ("softplus", {})]


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name, keywords", ACTIVATIONS)
def test_activations(name, keywords, dtype):
    x = (3 * torch.randn(7, 33)).to(dtype)
    agree(name, [x.requires_grad_()], keywords, dtype)
    agree(name, [x.detach().t().requires_grad_()], keywords, dtype)


def test_activations_in_place():
    x = torch.randn(5, 7)
    y = x.clone()
    assert ours.relu(y, inplace=True) is y and torch.equal(y, x.relu())


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


def test_compiled_whole():
    def function(module, x, weight):
        return module.rms_norm(module.gelu(x), [16], weight).softmax(-1).sum()

    x, weight = torch.randn(5, 16), torch.rand(16)
    right = function(theirs, x, weight)
    whole = torch.compile(lambda x, weight: function(ours, x, weight), fullgraph=True,
                          backend="aot_eager")
    torch.testing.assert_close(whole(x, weight), right)


@pytest.mark.parametrize("call", [
    lambda f: f.gelu(torch.zeros(3), approximate="rough"),
    lambda f: f.softmax(torch.zeros(3, 4), dim=2),
    lambda f: f.layer_norm(torch.zeros(3, 4), [3]),
    lambda f: f.layer_norm(torch.zeros(3, 4), [4], torch.zeros(3)),
    lambda f: f.relu([1.0]),
])
def test_what_pytorch_refuses_is_refused_with_its_type(call):
    with pytest.raises(Exception) as its:
        call(theirs)
    with pytest.raises(its.type):
        call(ours)


# ---- Losses -------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_elementwise_losses(reduction, dtype):
    x, y = leaf(6, 33, dtype=dtype), torch.randn(6, 33).to(dtype)
    for name, more in (("mse_loss", {}), ("l1_loss", {}), ("huber_loss", {"delta": 0.7}),
                       ("binary_cross_entropy_with_logits", {})):
        target = (y > 0).to(dtype) if "binary" in name else y
        agree(name, [x, target], {"reduction": reduction, **more}, dtype, 4)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy(reduction, smoothing):
    target = torch.randint(0, 11, (6, 5))
    target[0, 2] = -100
    keywords = {"reduction": reduction, "label_smoothing": smoothing}
    agree("cross_entropy", [leaf(6, 11, 5), target], keywords, slack=4)
    agree("cross_entropy", [leaf(6, 11), target[:, 0]], keywords, slack=4)
    agree("cross_entropy", [leaf(11), target[1, 0]], keywords, slack=4)
    for module in (theirs, ours):
        with pytest.raises(IndexError):
            module.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3]))


# ---- Optimizers ---------------------------------------------------------------------------------

OPTIMIZERS = [("AdamW", {}), ("AdamW", {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.1}),
              ("AdamW", {"maximize": True}), ("SGD", {}), ("SGD", {"weight_decay": 0.1}),
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
