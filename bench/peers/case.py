"""What a peer gets: the tensors of one case in shared memory, its parameters, and how to answer."""

import numpy as np

DTYPES = {
    "f32": np.float32, "f16": np.float16, "f64": np.float64, "i8": np.int8, "u8": np.uint8,
    "i32": np.int32, "u32": np.uint32, "i64": np.int64, "u64": np.uint64, "bool": np.bool_,
    "c64": np.complex64, "c128": np.complex128,
}
try:
    import ml_dtypes
    DTYPES["bf16"] = ml_dtypes.bfloat16
    DTYPES["e4m3"] = ml_dtypes.float8_e4m3fn
except ImportError:  # NumPy itself has no bf16
    pass


class Unserved(Exception):
    """This peer does not do this kernel, or not with these parameters; the text says why."""


class Call:
    """A prepared call. `run` is timed. `store` is not: it brings the last result of `run` into the
    shared output, and is left out where `run` writes there itself. `arithmetic` says in what the
    peer computed, where that is not the dtype of the case."""

    def __init__(self, run, store=None, arithmetic=""):
        self.run = run
        self.store = store or (lambda: None)
        self.arithmetic = arithmetic


class Case:
    def __init__(self, message, memory, choice):
        self.choice = choice  # what `fastest` found, shared by all sets of buffers
        self.kernel = message["kernel"]
        self.way = message.get("way")
        self.places = message["arguments"]
        self.dtype = message["dtype"]
        self.threads = message["threads"]
        self.parameters = message["parameters"]
        for t in message["arguments"].values():
            if t["dtype"] not in DTYPES:
                raise Unserved(f"{t['dtype']} needs the package ml_dtypes")
        self.tensors = {
            name: np.ndarray(tuple(t["shape"]), DTYPES[t["dtype"]], memory, t["offset"])
            for name, t in message["arguments"].items()
        }

    def __getitem__(self, name):
        """The tensor as a NumPy array over the shared memory."""
        return self.tensors[name]

    def written(self):
        """The arrays that a call writes."""
        return [self.tensors[name] for name, place in self.places.items() if place.get("written")]

    def poisoned(self):
        """Where arrays begin that hold the byte 0xA5 alone, until a call writes them."""
        return {self.tensors[name].__array_interface__["data"][0]
                for name, place in self.places.items() if place.get("poison")}

    def arrays(self, *names):
        return [self.tensors[name] for name in names]

    def serve_only(self, *dtypes):
        for name, array in self.tensors.items():
            if array.dtype.name not in dtypes:
                raise Unserved(f"no {array.dtype.name} ({name})")

    def refuse_options(self, **neutral):
        """Declines parameters that differ from the value at which they do nothing; null stands for
        an infinity or a NaN."""
        for name, value in neutral.items():
            given = self.parameters.get(name, value)
            if given != value:
                raise Unserved(f"{name} = {given}")


BACKWARD = {"lse", "dout", "dq", "dk", "dv"}  # what attention_backward has besides


def attention_parameters(case, also=()):
    """(causal, scale) of the attention that peers know: dense, no window, no bias, no tensors but
    those of `also`."""
    case.refuse_options(layout="bhsd", window_left=-1, window_right=-1, softcap=None,
                        query_offset=0, dropout=0)
    extra = set(case.tensors) - {"q", "k", "v", "out", *also}
    if extra:
        raise Unserved(f"no adapter for {', '.join(sorted(extra))}")
    q, k = case["q"], case["k"]
    causal = case.parameters.get("causal", "none")
    if causal == "bottom_right" and q.shape[2] == k.shape[2]:
        causal = "top_left"
    if causal == "bottom_right":
        raise Unserved("causal aligned to the bottom right")
    scale = case.parameters.get("scale")
    return causal == "top_left", q.shape[3] ** -0.5 if scale is None else scale


def append_places(case):
    """(sequence, position, token) of each new key in a contiguous cache, as index arrays."""
    case.refuse_options(layout="bhsd", rope="none")
    extra = set(case.tensors) - {"k", "v", "positions", "k_cache", "v_cache"}
    if extra:
        raise Unserved(f"no adapter for {', '.join(sorted(extra))}")
    batch, token = np.nonzero(case["positions"] >= 0)
    return batch, case["positions"][batch, token].astype(np.int64), token


def refuse_lse(case):
    if "lse" in case.tensors:
        raise Unserved("no adapter for lse")


def reduction_axis(case):
    """None for all axes."""
    axis = case.parameters.get("axis")
    return None if axis is None else int(axis)


def fastest(case, builders, seconds, repeats=3):
    """Of several ways to call a library, each a function that makes a Call, the one that is fastest
    here. It is found out once a case: further sets of buffers take the same way."""
    if "way" not in case.choice:
        times = []
        for build in builders:
            call = build()
            call.run()
            times.append(min(seconds(call.run) for _ in range(repeats)))
        case.choice["way"] = times.index(min(times))
    return builders[case.choice["way"]]()
