"""Functions of torch.nn.functional on Fovea's kernels: activations, softmax, norms and losses, with
the arguments, defaults and results of PyTorch's. The forward pass runs on our kernels; gradients are
PyTorch's own formulas, but those of losses, which the kernels give. Gradients of activations and
softmax can be differentiated again, those of norms and losses cannot, and say so. Served are float32,
float16 and bfloat16 on the CPU; what is not served raises fovea.Unsupported. All are operators of
torch.library, so that torch.compile and torch.export pass through them."""

from ._activations import (elu, gelu, hardtanh, leaky_relu, log_softmax, mish, relu, relu6, sigmoid,
                           silu, softmax, softmin, softplus, tanh)
from ._losses import (binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy,
                      huber_loss, kl_div, l1_loss, mse_loss, smooth_l1_loss)
from ._norms import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from ._sdpa import scaled_dot_product_attention

__all__ = ["batch_norm", "binary_cross_entropy", "binary_cross_entropy_with_logits",
           "cross_entropy", "elu", "gelu", "group_norm", "hardtanh", "huber_loss", "instance_norm",
           "kl_div", "l1_loss", "layer_norm", "leaky_relu", "log_softmax", "mish", "mse_loss",
           "relu", "relu6", "rms_norm", "scaled_dot_product_attention", "sigmoid", "silu",
           "smooth_l1_loss", "softmax", "softmin", "softplus", "tanh"]
