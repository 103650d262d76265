#!/usr/bin/env python3
"""What it costs that the threads of others wait beside ours: calls of PyTorch or NumPy and calls of Fovea in
turns, beside as many of each alone. A share of 1 says that the two do not fight for the cores.

usage: bench/python/pools.py [--json FILE] [--table FILE] [--rounds N] [--seconds N]

--rounds N    of all cases, interleaved (default 9)
--seconds N   of each of the three loops of a round (default 0.03)"""

import argparse
import json
import os
import statistics
import sys
import time

import numpy as np

import fovea


def attention_of(ones, length):
    q = ones(1, 4, length, 64)
    return lambda: fovea.attention(q, q, q)


def cases():
    """(name, their call, our call)"""
    def array(*shape):
        return np.ones(shape, np.float32)

    sizes = {"small": (32, 128), "middle": (128, 384), "large": (512, 1024)}
    for size, (length, width) in sizes.items():
        a = array(width, width)
        yield f"numpy, {size}", lambda a=a: a @ a, attention_of(array, length)
    try:
        import torch
        import fovea.torch
    except ImportError:
        print("without torch", file=sys.stderr)
        return
    torch.set_grad_enabled(False)
    for size, (length, width) in sizes.items():
        a = torch.ones(width, width)
        yield f"torch, {size}", lambda a=a: a @ a, attention_of(torch.ones, length)
        q = torch.ones(1, 4, length, 64)
        yield (f"torch, layer, {size}", lambda a=a: torch.nn.functional.gelu(a @ a),
               lambda q=q: fovea.torch.scaled_dot_product_attention(q, q, q, is_causal=True))


def seconds_of(calls, count):
    start = time.perf_counter()
    for _ in range(count):
        for call in calls:
            call()
    return (time.perf_counter() - start) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", help="a file for all samples")
    parser.add_argument("--table", help="a file for the table, in Markdown")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.03)
    options = parser.parse_args()
    rows = []
    for name, theirs, ours in cases():
        both = seconds_of((theirs, ours), 3)
        count = max(1, int(options.seconds / min(both, seconds_of((theirs, ours), 3))))
        rows.append((name, theirs, ours, count, []))
    for _ in range(options.rounds):
        for _, theirs, ours, count, samples in rows:
            samples.append((seconds_of((theirs,), count), seconds_of((ours,), count),
                            seconds_of((theirs, ours), count)))
    lines = []
    for name, _, _, _, samples in rows:
        alone = [[sample[i] for sample in samples] for i in range(3)]
        low, share, high = statistics.quantiles([c / (a + b) for a, b, c in samples], n=4)
        lines.append((name, *(f"{1e6 * statistics.median(times):.0f}" for times in alone),
                      f"{share:.2f}", f"{(high - low) / 2:.2f}"))
        print("{:<22} theirs {:>7} us  ours {:>7} us  in turns {:>7} us  share {} ± {}".format(*lines[-1]))
    if options.table:
        with open(options.table, "w") as file:
            file.write("| beside | theirs, µs | ours, µs | in turns, µs | share | ± |\n"
                       "|---|---|---|---|---|---|\n")
            file.writelines("| " + " | ".join(line) + " |\n" for line in lines)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"processors": os.cpu_count(), "threads": fovea.threads(),
                       "fovea": fovea.__version__,
                       "cases": [{"case": row[0], "samples": row[4]} for row in rows]}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
