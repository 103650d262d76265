"""OpenVINO on the processor: a graph of one operation, compiled for latency, with bound tensors."""

import numpy as np
import openvino as ov
from case import attention_parameters, Call, reduction_axis, refuse_lse, Unserved
from openvino import opset13 as op

core = ov.Core()
TYPES = {"float32": ov.Type.f32, "float16": ov.Type.f16, "bfloat16": ov.Type.bf16}


def versions():
    return {"openvino": ov.__version__.split("-")[0]}


def bound(array):
    if array.dtype.name not in TYPES:
        raise Unserved(f"no adapter for {array.dtype.name}")
    if array.dtype.name == "bfloat16":
        return ov.Tensor(array.view(np.uint16), ov.Shape(array.shape), ov.Type.bf16)
    return ov.Tensor(array, shared_memory=True)


def graph(case, inputs, output, build):
    """Compiles build(nodes) and binds the case's tensors; the output is written in place."""
    tensors = [bound(case[name]) for name in inputs]
    nodes = [op.parameter(case[name].shape, TYPES[case[name].dtype.name]) for name in inputs]
    model = ov.Model([build(*nodes)], nodes)
    # Halves: the wish is their own arithmetic; where the machine has none, the plugin's choice.
    precision = {"f32": "f32", "f16": "f16", "bf16": "bf16"}[case.dtype]
    compiled = core.compile_model(model, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": case.threads,
        "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": "1", "ENABLE_CPU_PINNING": False})
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    request = compiled.create_infer_request()
    for i, item in enumerate(tensors):
        request.set_input_tensor(i, item)
    target = bound(case[output])
    in_place = list(compiled.outputs[0].shape) == list(case[output].shape)
    if in_place:
        request.set_output_tensor(0, target)

    def store():
        if not in_place:
            case[output][...] = request.get_output_tensor(0).data.reshape(case[output].shape)
    call = Call(lambda: request.infer(), store, "" if used == case.dtype else used)
    call.keep = (tensors, target, request, compiled)
    return call


def attention(case):
    causal, scale = attention_parameters(case)
    heads, groups = case["q"].shape[1], case["k"].shape[1]

    def build(q, k, v):
        if heads != groups:
            k, v = (repeat(t, heads // groups) for t in (k, v))
        attributes = {"causal": causal}
        if abs(scale - case["q"].shape[3] ** -0.5) > 1e-12:
            type_ = TYPES[case["q"].dtype.name]
            zero = op.convert(op.constant(np.zeros((1, 1), np.float32)), type_)
            attributes |= {"attention_mask": zero,
                           "scale": op.convert(op.constant(np.float32(scale)), type_)}
        return op.scaled_dot_product_attention(q, k, v, **attributes)

    def repeat(t, times):
        """The pattern that the plugin folds into the attention operation."""
        b, h, s, d = t.output(0).shape
        t = op.unsqueeze(t, op.constant(np.array([2])))
        t = op.broadcast(t, op.constant(np.array([b, h, times, s, d])))
        return op.reshape(t, op.constant(np.array([b, h * times, s, d])), False)
    return graph(case, ["q", "k", "v"], "out", build)


def attention_merge(case):
    refuse_lse(case)

    def build(parts, lses):
        weights = op.unsqueeze(op.softmax(lses, 0), op.constant(np.array([4])))
        return op.reduce_sum(op.multiply(parts, weights), op.constant(np.array([0])))
    return graph(case, ["parts", "part_lses"], "out", build)


def softmax_stable(case):
    return graph(case, ["x"], "y", lambda x: op.softmax(x, -1))


def layer_norm(case):
    epsilon = case.parameters["eps"]
    affine = [name for name in ("gamma", "beta") if name in case.tensors]

    def build(x, *given):
        y = op.mvn(x, op.constant(np.array([-1])), True, epsilon, "inside_sqrt")
        given = dict(zip(affine, given))
        y = op.multiply(y, given["gamma"]) if "gamma" in given else y
        return op.add(y, given["beta"]) if "beta" in given else y
    return graph(case, ["x", *affine], "y", build)


def map_gelu(case):
    mode = {"none": "erf", "tanh": "tanh"}[case.parameters["approximate"]]
    return graph(case, ["x"], "y", lambda x: op.gelu(x, mode))


def map_clamp(case):
    low, high = case.parameters["lo"], case.parameters["hi"]
    return graph(case, ["x"], "y", lambda x: op.clamp(x, low, high))


def map_add(case):
    return graph(case, ["a", "b"], "y", op.add)


def reduce_sum(case):
    axis = reduction_axis(case)
    axes = list(range(case["x"].ndim)) if axis is None else [axis]
    return graph(case, ["x"], "y", lambda x: op.reduce_sum(x, op.constant(np.array(axes))))


def quantize_f32_to_f16(case):
    target = TYPES[case["y"].dtype.name]
    return graph(case, ["x"], "y", lambda x: op.convert(x, target))
