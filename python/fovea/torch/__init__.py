"""Drop-ins for PyTorch: attention (`scaled_dot_product_attention`, `enabled`), functions of
torch.nn.functional (`fovea.torch.functional`) and optimizers (`fovea.torch.optim`)."""

from . import functional, optim
from ._sdpa import enabled, scaled_dot_product_attention

__all__ = ["enabled", "functional", "optim", "scaled_dot_product_attention"]
