#!/usr/bin/env python3
"""What a call from Python costs beyond the call in C: time of a loop of calls, less what the library
itself took for those calls (its own clock, around the whole of the C function).

usage: bench/python/overhead.py [--json FILE] [--table FILE] [--rounds N] [--calls N]

Kinds that are not installed are left out. Rounds of all cases are interleaved; a line gives the median
of the rounds and half the distance between their quartiles, in microseconds a call. What PyTorch's own
attention takes for the same tensors is given whole."""

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
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_platforms", "cpu")
    return lambda *shape: jnp.ones(shape, jnp.float32)


def mlx_case():
    import mlx.core as mx
    return lambda *shape: mx.ones(shape)


def drop_ins():
    """fovea.torch, through torch.library's dispatcher and past it, and PyTorch's own."""
    import fovea.torch
    import torch
    q = torch.ones(1, 1, 4, 16)
    g = q.clone().requires_grad_()
    ours, theirs = (module.scaled_dot_product_attention
                    for module in (fovea.torch, torch.nn.functional))
    settings = [None] * 9 + [None, None, 0.0, 0, -1, -1, "none"]
    operator = torch.ops.fovea.attention.default

    def with_gradient(function):
        with torch.enable_grad():
            return function()

    yield "scaled_dot_product_attention", lambda: ours(q, q, q)
    yield "torch.ops.fovea.attention", lambda: operator(q, q, q, *settings, False)
    yield "PyTorch's own, whole", lambda: theirs(q, q, q)
    yield "scaled_dot_product_attention, gradient wanted", lambda: with_gradient(
        lambda: ours(g, g, g))
    yield "torch.ops.fovea.attention, gradient wanted", lambda: with_gradient(
        lambda: operator(g, g, g, *settings, True))
    yield "PyTorch's own, whole, gradient wanted", lambda: with_gradient(lambda: theirs(g, g, g))
    x, w = torch.ones(16, 16), torch.ones(16)
    functional = fovea.torch.functional
    yield "functional.gelu(x)", lambda: functional.gelu(x)
    yield "functional.layer_norm(x, [16], w, w)", lambda: functional.layer_norm(x, [16], w, w)
    yield "functional.mse_loss(x, x)", lambda: functional.mse_loss(x, x)


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
    parser.add_argument("--table", help="a file for the table, in Markdown")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    cases = []
    for kind, make in KINDS.items():
        try:
            cases += [(kind, name, function, []) for name, function in calls(make())]
            if kind == "torch":
                cases += [("fovea.torch", name, function, []) for name, function in drop_ins()]
        except ImportError:
            print(f"without {kind}", file=sys.stderr)
    for _, _, function, _ in cases:
        measure(function, options.calls)  # to warm up
    for _ in range(options.rounds):
        for _, _, function, samples in cases:
            samples.append(1e6 * measure(function, options.calls))
    lines = []
    for kind, name, _, samples in cases:
        low, middle, high = statistics.quantiles(samples, n=4)
        lines.append((kind, name, f"{middle:.2f}", f"{(high - low) / 2:.2f}"))
        print(f"{kind:<11} {name:<46} {middle:6.2f} us  ± {(high - low) / 2:.2f}")
    if options.table:
        with open(options.table, "w") as file:
            file.write("| arrays | call | µs beyond C | ± |\n|---|---|---|---|\n")
            file.writelines(f"| {kind} | `{name}` | {middle} | {spread} |\n"
                            for kind, name, middle, spread in lines)
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
