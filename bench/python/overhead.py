#!/usr/bin/env python3
"""What a call from Python costs beyond the call in C: time of a loop of calls, less what the library
itself took for those calls (its own clock, around the whole of the C function).

usage: bench/python/overhead.py [--json FILE] [--rounds N] [--calls N]

Kinds that are not installed are left out. Rounds of all cases are interleaved; a line gives the median
of the rounds and the distance between their quartiles, in microseconds a call."""

import argparse
import importlib
import json
import platform
import statistics
import sys
import time

import fovea


def numpy_case():
    import numpy as np
    return lambda *shape: np.ones(shape, np.float32)


def torch_case():
    import torch
    torch.set_grad_enabled(False)
    return lambda *shape: torch.ones(shape)


def jax_case():
    import jax.numpy as jnp
    return lambda *shape: jnp.ones(shape, jnp.float32)


def mlx_case():
    import mlx.core as mx
    return lambda *shape: mx.ones(shape)


KINDS = {"numpy": numpy_case, "torch": torch_case, "jax": jax_case, "mlx": mlx_case}


def calls(ones):
    """The cases: tensors so small that the work is nothing."""
    q, x, y = ones(1, 1, 4, 16), ones(16), ones(16)
    yield "map_add(x, x)", lambda: fovea.map_add(x, x)
    yield "attention(q, k, v)", lambda: fovea.attention(q, q, q)
    yield "attention(q, k, v, causal=, scale=, lse=)", lambda: fovea.attention(
        q, q, q, causal="top_left", scale=0.25, lse=True)
    if type(x).__module__.split(".")[0] in ("numpy", "torch"):
        out = ones(1, 1, 4, 16)
        yield "map_add(x, x, out=)", lambda: fovea.map_add(x, x, out=y)
        yield "attention(q, k, v, out=)", lambda: fovea.attention(q, q, q, out=out)


def in_the_library():
    return sum(s.seconds for s in fovea.statistics().values())


def measure(function, count):
    """Seconds a call beyond the library's."""
    inside = in_the_library()
    start = time.perf_counter()
    for _ in range(count):
        function()
    whole = time.perf_counter() - start
    return (whole - (in_the_library() - inside)) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", help="a file for all samples")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    cases = []
    for kind, make in KINDS.items():
        try:
            cases += [(kind, name, function, []) for name, function in calls(make())]
        except ImportError:
            print(f"without {kind}", file=sys.stderr)
    for _, _, function, _ in cases:
        measure(function, options.calls)  # to warm up
    for _ in range(options.rounds):
        for _, _, function, samples in cases:
            samples.append(1e6 * measure(function, options.calls))
    for kind, name, _, samples in cases:
        low, middle, high = statistics.quantiles(samples, n=4)
        print(f"{kind:<6} {name:<42} {middle:6.2f} us  ± {(high - low) / 2:.2f}")
    if options.json:
        versions = {kind: getattr(importlib.import_module(kind), "__version__", "") for kind in KINDS
                    if kind in {case[0] for case in cases}}
        with open(options.json, "w") as file:
            json.dump({"unit": "microseconds a call beyond C", "fovea": fovea.__version__,
                       "python": platform.python_version(), "processor": platform.processor(),
                       "versions": versions, "calls": options.calls,
                       "cases": [{"kind": kind, "call": name, "samples": samples}
                                 for kind, name, _, samples in cases]}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
