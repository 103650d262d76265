"""Optimizers of torch.optim whose step runs on Fovea's kernels. Constructors, parameter groups and
state dictionaries are PyTorch's own, so that checkpoints pass between the two. Served are dense
float32 parameters on the CPU; others raise fovea.Unsupported at the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import fovea

__all__ = ["SGD", "Adam", "AdamW"]

_Group = dict[str, Any]


def _gradient(parameter: Tensor, group: _Group) -> Tensor | None:
    """The gradient to descend along, or None."""
    gradient = parameter.grad
    if gradient is None:
        return None
    for name, tensor in (("a parameter", parameter), ("a gradient", gradient)):
        if tensor.layout is not torch.strided or not tensor.is_cpu:
            raise fovea.Unsupported(f"{name} is {tensor.layout} on {tensor.device}; Fovea's "
                                    "optimizers serve dense tensors on the CPU")
        if tensor.dtype != torch.float32:
            raise fovea.Unsupported(f"{name} is {tensor.dtype}; Fovea's optimizers serve "
                                    "torch.float32")
    return -gradient if group["maximize"] else gradient


def _step(optimizer: torch.optim.Optimizer, closure: Callable[[], Any] | None,
          not_served: tuple[str, ...],
          update: Callable[[Tensor, Tensor, dict[str, Any], _Group], None]) -> Any:
    """What the step of all of them is; update does one parameter."""
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    with torch.no_grad():
        for group in optimizer.param_groups:
            for option in not_served:
                if group[option]:
                    raise fovea.Unsupported(f"{option}=True is not served by Fovea's optimizers")
            for parameter in group["params"]:
                gradient = _gradient(parameter, group)
                if gradient is not None:
                    update(parameter.detach(), gradient.detach(), optimizer.state[parameter], group)
    return loss


def _adapt(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: _Group) -> None:
    if not state:
        state["step"] = torch.tensor(0.0, dtype=torch.float32)
        state["exp_avg"] = torch.zeros_like(parameter)
        state["exp_avg_sq"] = torch.zeros_like(parameter)
    state["step"] += 1
    beta1, beta2 = group["betas"]
    kernel = fovea.opt_adamw if group["decoupled_weight_decay"] else fovea.opt_adam
    kernel(parameter, gradient, state["exp_avg"], state["exp_avg_sq"], lr=float(group["lr"]),
           beta1=float(beta1), beta2=float(beta2), eps=group["eps"],
           weight_decay=group["weight_decay"], step=int(state["step"]))


def _descend(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: _Group) -> None:
    common = {"lr": float(group["lr"]), "weight_decay": float(group["weight_decay"])}
    if not group["momentum"]:
        fovea.opt_sgd(parameter, gradient, **common)
        return
    velocity = state.get("momentum_buffer")
    first = velocity is None
    if first:
        velocity = state["momentum_buffer"] = torch.zeros_like(parameter)
    fovea.opt_sgd_momentum(parameter, gradient, velocity, momentum=group["momentum"],
                           dampening=group["dampening"], nesterov=group["nesterov"],
                           step=1 if first else 2, **common)


_NOT_OF_ADAM = ("amsgrad", "capturable", "differentiable")


class Adam(torch.optim.Adam):
    """torch.optim.Adam; amsgrad, capturable and differentiable are not served."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return _step(self, closure, _NOT_OF_ADAM, _adapt)


class AdamW(torch.optim.AdamW):
    """torch.optim.AdamW; amsgrad, capturable and differentiable are not served."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return _step(self, closure, _NOT_OF_ADAM, _adapt)


class SGD(torch.optim.SGD):
    """torch.optim.SGD; differentiable is not served."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return _step(self, closure, ("differentiable",), _descend)
