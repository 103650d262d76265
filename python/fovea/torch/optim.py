"""Optimizers of torch.optim whose step runs on Fovea's kernels. Constructors, parameter groups and
state dictionaries are PyTorch's own, so that checkpoints pass between the two. Served are dense
float32 parameters on the CPU; others raise fovea.Unsupported at the step."""

from __future__ import annotations

import torch

import fovea

__all__ = ["SGD", "AdamW"]


def _refuse(group, *options):
    for option in options:
        if group[option]:
            raise fovea.Unsupported(f"{option}=True is not served by Fovea's optimizers")


def _gradient(parameter, group):
    """The gradient to descend along, or None."""
    gradient = parameter.grad
    if gradient is None:
        return None
    for name, tensor in (("a parameter", parameter), ("a gradient", gradient)):
        if tensor.layout is not torch.strided or tensor.device.type != "cpu":
            raise fovea.Unsupported(f"{name} is {tensor.layout} on {tensor.device}; Fovea's "
                                    "optimizers serve dense tensors on the CPU")
        if tensor.dtype != torch.float32:
            raise fovea.Unsupported(f"{name} is {tensor.dtype}; Fovea's optimizers serve "
                                    "torch.float32")
    return -gradient if group["maximize"] else gradient


class _OnKernels:
    """The step that both optimizers share; _update does one parameter."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            _refuse(group, *self._not_served)
            for parameter in group["params"]:
                gradient = _gradient(parameter, group)
                if gradient is not None:
                    self._update(parameter.detach(), gradient.detach(), self.state[parameter],
                                 group)
        return loss


class AdamW(_OnKernels, torch.optim.AdamW):
    """torch.optim.AdamW; amsgrad, capturable and differentiable are not served."""

    _not_served = ("amsgrad", "capturable", "differentiable")

    def _update(self, parameter, gradient, state, group):
        if not state:
            state["step"] = torch.tensor(0.0, dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        fovea.opt_adamw(parameter, gradient, state["exp_avg"], state["exp_avg_sq"],
                        lr=float(group["lr"]), beta1=float(beta1), beta2=float(beta2),
                        eps=group["eps"], weight_decay=group["weight_decay"],
                        step=int(state["step"]))


class SGD(_OnKernels, torch.optim.SGD):
    """torch.optim.SGD; differentiable is not served."""

    _not_served = ("differentiable",)

    def _update(self, parameter, gradient, state, group):
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
