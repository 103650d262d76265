"""MLX on the processor. It is lazy, so every call is evaluated before the clock stops."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from case import attention_parameters, Call, reduction_axis, refuse_lse, Unserved

mx.set_default_device(mx.cpu)


def versions():
    from importlib.metadata import version
    return {"mlx": version("mlx")}


def array(value):
    if value.dtype.name == "bfloat16":
        return mx.array(value.view(np.uint16)).view(mx.bfloat16)
    if value.dtype.name == "float64":
        raise Unserved("no adapter for float64")
    return mx.array(value)


def evaluated(case, inputs, output, function):
    """A Call of function(inputs), forced to finish; the result is copied to the output untimed."""
    given = [array(case[name]) for name in inputs]
    mx.eval(given)
    kept = {}

    def run():
        value = function(*given)
        mx.eval(value)
        kept["value"] = value

    def store():
        value, target = kept["value"], case[output]
        if target.dtype.name == "bfloat16":
            target.view(np.uint16)[...] = np.array(value.view(mx.uint16))
        else:
            target[...] = np.array(value)
    return Call(run, store)


def attention(case):
    causal, scale = attention_parameters(case)
    function, mask = mx.fast.scaled_dot_product_attention, "causal" if causal else None
    sq, sk = case["q"].shape[2], case["k"].shape[2]
    if causal and sq != sk:
        raise Unserved("its causal mask is aligned to the bottom right")
    return evaluated(case, ["q", "k", "v"], "out",
                     lambda q, k, v: function(q, k, v, scale=scale, mask=mask))


def attention_merge(case):
    refuse_lse(case)

    def function(parts, lses):
        weights = mx.softmax(lses, axis=0, precise=True)[..., None]
        return (parts * weights).sum(axis=0).astype(parts.dtype)
    return evaluated(case, ["parts", "part_lses"], "out", function)


def softmax_stable(case):
    return evaluated(case, ["x"], "y", lambda x: mx.softmax(x, axis=-1, precise=True))


def layer_norm(case):
    epsilon = case.parameters["eps"]
    affine = [name for name in ("gamma", "beta") if name in case.tensors]

    def function(x, *given):
        given = dict(zip(affine, given))
        return mx.fast.layer_norm(x, given.get("gamma"), given.get("beta"), epsilon)
    return evaluated(case, ["x", *affine], "y", function)


def map_gelu(case):
    function = {"none": nn.gelu, "tanh": nn.gelu_approx}[case.parameters["approximate"]]
    return evaluated(case, ["x"], "y", function)


def map_clamp(case):
    low, high = case.parameters["lo"], case.parameters["hi"]
    return evaluated(case, ["x"], "y", lambda x: mx.clip(x, low, high))


def map_add(case):
    return evaluated(case, ["a", "b"], "y", mx.add)


def reduce_sum(case):
    axis = reduction_axis(case)
    return evaluated(case, ["x"], "y", lambda x: mx.sum(x, axis=axis))


def quantize_f32_to_f16(case):
    target = {"float16": mx.float16, "bfloat16": mx.bfloat16}[case["y"].dtype.name]
    return evaluated(case, ["x"], "y", lambda x: x.astype(target))
