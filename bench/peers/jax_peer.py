"""JAX: jitted functions, blocked until ready; on a device many of them for one look at the clock."""

import os
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
from case import attention_parameters, BACKWARD, Call, reduction_axis, refuse_lse, Unserved
from device import Device

WAYS = {"attention": ["cudnn", "xla"]}  # on a device, each by the name that the function takes
on_device = None  # the Cuda below, where that is the place


def versions():
    return {"jax": jax.__version__ + (", by the host's clock" if on_device else "")}


class Cuda(Device):
    """It has no events: samples are long, and taken by the host's clock between two waits."""

    least_sample = 5e-3

    def __init__(self):
        if jax.default_backend() != "gpu":
            raise RuntimeError(f"JAX runs on {jax.default_backend()}, not on a GPU")
        jax.config.update("jax_default_matmul_precision", "highest")  # f32 in f32
        self.last = jnp.zeros(1)

    def remember(self, value):
        self.last = value

    def forget(self):
        pass

    def bring_back(self, array):
        pass  # `store` wrote it

    def synchronize(self):
        jax.block_until_ready(self.last)

    def event(self):
        self.synchronize()
        return time.perf_counter()

    def seconds(self, start, end):
        return end - start

    def flush(self, count):
        self.last = jnp.full(count, 1, jnp.uint8)


def device():
    global on_device
    on_device = Cuda()
    return on_device


def wait(value):
    if on_device:
        on_device.remember(value)
    else:
        jax.block_until_ready(value)


def compiled(case, inputs, output, function, before=lambda x: x, after=lambda x: x):
    """A Call of the jitted function; before and after change layouts, untimed."""
    for name in [*inputs, output]:
        if case[name].dtype.itemsize == 8:
            raise Unserved(f"no adapter for {case[name].dtype.name}")
    given = [jax.device_put(before(np.array(case[name]))) for name in inputs]
    jitted = jax.jit(function)
    jax.block_until_ready(given)
    kept = {}

    def run():
        kept["value"] = jitted(*given)
        wait(kept["value"])

    def store():
        case[output][...] = after(np.asarray(kept["value"]))
    return Call(run, store)


def swap_heads(x):
    """[B, H, S, D] to its own [B, S, H, D], and back."""
    return np.ascontiguousarray(np.swapaxes(x, 1, 2))


def attention(case):
    causal, scale = attention_parameters(case)

    wide = case.dtype == "f16" and not on_device  # products of halves do not exist on processors

    def function(q, k, v):
        q, k, v = (x.astype(jnp.float32) if wide else x for x in (q, k, v))
        out = jax.nn.dot_product_attention(q, k, v, scale=scale, is_causal=causal,
                                           implementation=case.way)
        return out.astype(jnp.float16) if wide else out
    call = compiled(case, ["q", "k", "v"], "out", function, swap_heads, swap_heads)
    call.arithmetic = "f32" if wide else ""
    return call


def attention_backward(case):
    """The pullback of dot_product_attention, jitted; the forward pass is not timed."""
    causal, scale = attention_parameters(case, BACKWARD)
    if case.dtype == "f16":
        raise Unserved("no products of halves on processors")
    q, k, v, dout = (jax.device_put(swap_heads(np.array(case[name])))
                     for name in ("q", "k", "v", "dout"))

    def forward(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, scale=scale, is_causal=causal)
    pull = jax.jit(lambda *given: jax.vjp(forward, *given)[1])(q, k, v)
    backward = jax.jit(lambda pull, dout: pull(dout))
    kept = {}

    def run():
        kept["gradients"] = jax.block_until_ready(backward(pull, dout))

    def store():
        for name, gradient in zip(("dq", "dk", "dv"), kept["gradients"]):
            case[name][...] = swap_heads(np.asarray(gradient))
    return Call(run, store)


def attention_merge(case):
    refuse_lse(case)

    def function(parts, lses):
        weights = jax.nn.softmax(lses, axis=0)[..., None]
        return (parts * weights).sum(axis=0).astype(parts.dtype)
    return compiled(case, ["parts", "part_lses"], "out", function)


def softmax_stable(case):
    return compiled(case, ["x"], "y", lambda x: jax.nn.softmax(x, axis=-1))


def layer_norm(case):
    epsilon = case.parameters["eps"]
    affine = [name for name in ("gamma", "beta") if name in case.tensors]

    def function(x, *given):
        given = dict(zip(affine, given))
        y = jax.nn.standardize(x, axis=-1, epsilon=epsilon)
        y = y * given["gamma"] if "gamma" in given else y
        return y + given["beta"] if "beta" in given else y
    return compiled(case, ["x", *affine], "y", function)


def map_gelu(case):
    approximate = case.parameters["approximate"] == "tanh"
    return compiled(case, ["x"], "y", lambda x: jax.nn.gelu(x, approximate=approximate))


def map_clamp(case):
    low, high = case.parameters["lo"], case.parameters["hi"]
    return compiled(case, ["x"], "y", lambda x: jnp.clip(x, low, high))


def map_add(case):
    return compiled(case, ["a", "b"], "y", jnp.add)


def reduce_sum(case):
    axis = reduction_axis(case)
    return compiled(case, ["x"], "y", lambda x: jnp.sum(x, axis=axis))


def quantize_f32_to_f16(case):
    target = {"float16": jnp.float16, "bfloat16": jnp.bfloat16}[case["y"].dtype.name]
    return compiled(case, ["x"], "y", lambda x: x.astype(target))
