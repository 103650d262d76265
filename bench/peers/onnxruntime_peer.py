"""ONNX Runtime on the processor: a model of one operation, its tensors bound in place."""

import time

import numpy as np
import onnx
import onnxruntime as ort
from case import attention_parameters, Call, fastest, reduction_axis, refuse_lse, Unserved
from onnx import helper, TensorProto

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16,
         "bfloat16": TensorProto.BFLOAT16, "float64": TensorProto.DOUBLE,
         "int64": TensorProto.INT64}


def versions():
    return {"onnxruntime": ort.__version__}


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def session(nodes, inputs, output, constants, threads):
    """inputs and output are (name, array)."""
    def info(name, array):
        return helper.make_tensor_value_info(name, TYPES[array.dtype.name], array.shape)
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "one", [info(*i) for i in inputs], [info(*output)],
                              initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23),
                                                    helper.make_opsetid("com.microsoft", 1)],
                              ir_version=11)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def model(case, nodes, inputs, output, constants={}, target=None):
    """Binds arrays in place; `target` is the shared output where the operation's layout differs."""
    for name, array in [*inputs, output]:
        if array.dtype.name not in TYPES or array.dtype.name == "bfloat16":
            raise Unserved(f"no adapter for {array.dtype.name}")
    try:
        ready = session(nodes, inputs, output, constants, case.threads)
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error) or "Could not find an implementation" in str(error):
            raise Unserved(f"no {nodes[0].op_type} in {case.dtype} on the processor") from error
        raise
    binding = ready.io_binding()
    values = [ort.OrtValue.ortvalue_from_numpy(array) for _, array in inputs]
    for (name, _), value in zip(inputs, values):
        binding.bind_ortvalue_input(name, value)
    result = ort.OrtValue.ortvalue_from_numpy(output[1])
    binding.bind_ortvalue_output(output[0], result)
    call = Call(lambda: ready.run_with_iobinding(binding),
                (lambda: target(output[1])) if target else None)
    call.keep = (ready, binding, values, result, inputs, output)
    return call


def attention(case):
    causal, scale = attention_parameters(case)
    q, k, v, out = case.arrays("q", "k", "v", "out")
    b, hq, sq, d = q.shape
    candidates, reasons = [], []

    def standard():
        node = helper.make_node("Attention", ["q", "k", "v"], ["out"], is_causal=int(causal),
                                scale=float(scale))
        return model(case, [node], [("q", q), ("k", k), ("v", v)], ("out", out))

    def multi_head():
        """Its own operation, which takes and gives heads innermost; the layout change is not timed."""
        packed = np.ascontiguousarray(q.transpose(0, 2, 1, 3)).reshape(b, sq, hq * d)
        result = np.empty((b, sq, hq * v.shape[3]), out.dtype)
        node = helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["out"],
                                domain="com.microsoft", num_heads=hq, scale=float(scale),
                                unidirectional=int(causal))

        def write(value):
            out[...] = value.reshape(b, sq, hq, -1).transpose(0, 2, 1, 3)
        return model(case, [node], [("q", packed), ("k", k), ("v", v)], ("out", result),
                     target=write)

    for build in [standard] + ([multi_head] if k.shape[1] == hq else []):
        try:
            build().run()
            candidates.append(build)
        except Exception as error:
            reasons.append(str(error))
    if not candidates:
        raise Unserved("; ".join(reasons)[:200])
    return candidates[0]() if len(candidates) == 1 else fastest(case, candidates, seconds)


def attention_merge(case):
    refuse_lse(case)
    nodes = [helper.make_node("Softmax", ["lses"], ["w"], axis=0),
             helper.make_node("Unsqueeze", ["w", "last"], ["wide"]),
             helper.make_node("Mul", ["parts", "wide"], ["product"]),
             helper.make_node("ReduceSum", ["product", "first"], ["out"], keepdims=0)]
    axes = {"last": np.array([4], np.int64), "first": np.array([0], np.int64)}
    return model(case, nodes, [("parts", case["parts"]), ("lses", case["part_lses"])],
                 ("out", case["out"]), axes)


def softmax_stable(case):
    x, y = case.arrays("x", "y")
    return model(case, [helper.make_node("Softmax", ["x"], ["y"], axis=-1)], [("x", x)], ("y", y))


def layer_norm(case):
    x, y = case.arrays("x", "y")
    affine = [(name, case[name]) for name in ("gamma", "beta") if name in case.tensors]
    if ("gamma" not in case.tensors):
        raise Unserved("LayerNormalization needs gamma")
    node = helper.make_node("LayerNormalization", ["x", *(name for name, _ in affine)], ["y"],
                            axis=-1, epsilon=case.parameters["eps"])
    return model(case, [node], [("x", x), *affine], ("y", y))


def map_gelu(case):
    x, y = case.arrays("x", "y")
    node = helper.make_node("Gelu", ["x"], ["y"], approximate=case.parameters["approximate"])
    return model(case, [node], [("x", x)], ("y", y))


def map_clamp(case):
    x, y = case.arrays("x", "y")
    limits = {name: np.array(case.parameters[name], x.dtype) for name in ("lo", "hi")}
    node = helper.make_node("Clip", ["x", "lo", "hi"], ["y"])
    return model(case, [node], [("x", x)], ("y", y), limits)


def map_add(case):
    a, b, y = case.arrays("a", "b", "y")
    return model(case, [helper.make_node("Add", ["a", "b"], ["y"])], [("a", a), ("b", b)], ("y", y))


def reduce_sum(case):
    x, y = case.arrays("x", "y")
    axis = reduction_axis(case)
    axes = np.array(list(range(x.ndim)) if axis is None else [axis], np.int64)
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    return model(case, [node], [("x", x)], ("y", y), {"axes": axes})


def quantize_f32_to_f16(case):
    x, y = case.arrays("x", "y")
    node = helper.make_node("Cast", ["x"], ["y"], to=TYPES.get(y.dtype.name, 0))
    return model(case, [node], [("x", x)], ("y", y))
