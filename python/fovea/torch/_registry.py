"""What the drop-ins for PyTorch share: errors of PyTorch's types, checks of tensors, and operators of
torch.library, which are called by the shortest way that a call allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

import fovea

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class InvalidCall(fovea.InvalidValue, RuntimeError):
    """A call that PyTorch would refuse with a RuntimeError."""


class InvalidIndex(fovea.InvalidValue, IndexError):
    """A call that PyTorch would refuse with an IndexError."""


class Context(Protocol):
    """What autograd hands to the gradient of an operator."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...

    def mark_non_differentiable(self, *tensors: Tensor) -> None: ...

    def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None: ...


# ---- Checks -----------------------------------------------------------------------------------


def why_not(tensor: Tensor) -> str | None:
    """Why Fovea does not serve a tensor of this kind; None where it does."""
    if tensor.is_nested:
        return "nested tensors"
    if tensor.layout is not torch.strided:
        return f"layout {tensor.layout}"
    if not tensor.is_cpu:
        return f"device {tensor.device.type}"
    return None


def check(name: str, tensor: Any) -> None:
    """Refuses what is no tensor of numbers that the kernels serve."""
    if (type(tensor) is Tensor and tensor.dtype in DTYPES and tensor.is_cpu
            and tensor.layout is torch.strided and not tensor.is_nested):
        return
    if not isinstance(tensor, Tensor):
        raise fovea.InvalidType(f"{name} is a {type(tensor).__name__}, not a torch.Tensor")
    reason = why_not(tensor)
    if reason:
        raise fovea.Unsupported(f"{name} is not served: {reason}; served are strided tensors on "
                                "the CPU")
    if tensor.dtype not in DTYPES:
        raise fovea.Unsupported(f"{name} is {tensor.dtype}; served are float32, float16 and "
                                "bfloat16")


# ---- The shortest way -------------------------------------------------------------------------


def is_plain(arguments: Iterable[Any]) -> bool:
    """Nothing traces, fakes or transforms the tensors among them: a kernel may be called as it is."""
    return is_eager(arguments) and torch._C._functorch.peek_interpreter_stack() is None


def is_eager(arguments: Iterable[Any]) -> bool:
    """Nothing traces or fakes the tensors among them."""
    if torch.compiler.is_compiling():
        return False
    for tensor in arguments:
        kind = type(tensor)
        if kind is not Tensor and kind is not torch.nn.Parameter and isinstance(tensor, Tensor):
            return False
    return (torch._C._len_torch_dispatch_stack() == 0
            and torch._C._get_tracing_state() is None)


def wants_gradient(arguments: Iterable[Any]) -> bool:
    if not torch.is_grad_enabled():
        return False
    for tensor in arguments:
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            return True
    return False


class _Once(torch.autograd.Function):
    """A gradient that cannot be differentiated by what it was made from: says so to whoever tries."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, origin: Tensor, name: str) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.name = inputs[-1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise fovea.Unsupported(f"the gradient of fovea::{ctx.name} has no gradient of its own: "
                                "differentiating twice through it is not served")


def _differentiable_once(name: str, gradient: Callable[..., Any]) -> Callable[..., Any]:
    """The first tensor that was saved is what the operator was called with."""

    def run(ctx: Context, *outer: Tensor | None) -> Any:
        if not torch.is_grad_enabled():
            return gradient(ctx, *outer)
        with torch.no_grad():
            found = gradient(ctx, *outer)
        origin = ctx.saved_tensors[0]
        return tuple(_Once.apply(g, origin, name) if isinstance(g, Tensor) else None for g in found)

    return run


library = torch.library.Library("fovea", "DEF")


def define(schema: str, kernel: Callable[..., Any], fake: Callable[..., Any],
           gradient: Callable[..., Any], remember: Callable[..., None], *,
           twice: bool = False) -> Callable[..., Any]:
    """Defines fovea::NAME with its implementation for the CPU, its shapes and its gradient, which can
    be differentiated again where `twice` says so, and returns the function that calls it. The
    dispatcher of PyTorch takes tens of microseconds for an operator made in Python; where nothing
    needs it, calls go past it."""
    name = schema.partition("(")[0]
    library.define(schema, tags=[torch.Tag.pt2_compliant_tag])
    backward = gradient if twice else _differentiable_once(name, gradient)

    def run(*arguments: Any) -> Any:
        with torch.no_grad():
            return kernel(*arguments)

    library.impl(name, run, "CPU")
    torch.library.register_fake(f"fovea::{name}", fake, lib=library)
    torch.library.register_autograd(f"fovea::{name}", backward, setup_context=remember,
                                    lib=library)
    dispatched = getattr(torch.ops.fovea, name).default

    class Eager(torch.autograd.Function):

        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            output = kernel(*arguments)
            remember(ctx, arguments, output)
            return output

        @staticmethod
        def backward(ctx: Any, *outer: Any) -> Any:
            return backward(ctx, *outer)

    class Transformed(torch.autograd.Function):
        """For torch.func. PyTorch looks at the signatures of such functions in each call, which takes
        twenty microseconds."""

        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments: Any) -> Any:
            return (kernel if is_plain(arguments) else dispatched)(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            remember(ctx, inputs, output)

        @staticmethod
        def backward(ctx: Any, *outer: Any) -> Any:
            return backward(ctx, *outer)

    def call(*arguments: Any) -> Any:
        if not is_eager(arguments):
            return dispatched(*arguments)
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return Transformed.apply(*arguments)
        if wants_gradient(arguments):
            return Eager.apply(*arguments)
        return kernel(*arguments)

    return call

