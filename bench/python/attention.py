"""Measures the drop-ins for PyTorch beside PyTorch's own attention, in one process, interleaved: forward,
forward and backward, a prefill of one layer of TinyLlama's shape, and memory. Prints a table.

usage: python bench/python/attention.py [--only TEXT] [--seconds N] [--threads N] [--json FILE]
                                        [--table FILE]

--json FILE   all figures
--table FILE  the table, in Markdown
--only TEXT   runs the cases with TEXT in their names
--seconds N   for each case (default 3)"""

import argparse
import json
import platform
import statistics
import time
import tracemalloc

import torch

import fovea
import fovea.torch

UPSTREAM = torch.nn.functional.scaled_dot_product_attention
OURS = fovea.torch.scaled_dot_product_attention


def interleaved(arms, seconds):
    """Medians, in seconds, of arms called in turns that start with each of them equally often."""
    names = list(arms)
    for name in names:
        arms[name]()
    samples = {name: [] for name in names}
    end = time.perf_counter() + seconds
    turn = 0
    while time.perf_counter() < end or turn < 5:
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            start = time.perf_counter()
            arms[name]()
            samples[name].append(time.perf_counter() - start)
        turn += 1
    return {name: {"median_s": statistics.median(times), "least_s": min(times),
                   "samples": len(times)} for name, times in samples.items()}


def attention_arms(length, dtype, backward):
    shape = (1, 8, length, 64)
    torch.manual_seed(0)
    q, k, v = (torch.randn(shape).to(dtype).requires_grad_(backward) for _ in range(3))
    dout = torch.randn(shape).to(dtype)

    def run(function):
        out = function(q, k, v, is_causal=True)
        if backward:
            torch.autograd.grad(out, (q, k, v), dout)

    return {"torch": lambda: run(UPSTREAM), "fovea": lambda: run(OURS)}


def prefill_arms(length, hidden, heads, groups):
    import fovea.transformers
    from transformers.models.llama import LlamaConfig, LlamaModel
    fovea.transformers.register()
    config = LlamaConfig(vocab_size=1000, hidden_size=hidden, intermediate_size=hidden * 11 // 4,
                         num_hidden_layers=1, num_attention_heads=heads,
                         num_key_value_heads=groups)
    torch.manual_seed(0)
    model = LlamaModel(config).eval()
    tokens = torch.randint(0, 1000, (1, length))
    spent = {"sdpa": [], "fovea": []}
    timed(spent)

    def run(implementation):
        model.set_attn_implementation(implementation)
        with torch.no_grad():
            model(tokens, use_cache=False)

    return {"torch": lambda: run("sdpa"), "fovea": lambda: run("fovea")}, spent


def timed(spent):
    """Puts a clock around the attention functions of transformers."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    for name, times in spent.items():
        function = ALL_ATTENTION_FUNCTIONS[name]
        function = getattr(function, "under_the_clock", function)

        def clocked(*arguments, function=function, times=times, **options):
            start = time.perf_counter()
            result = function(*arguments, **options)
            times.append(time.perf_counter() - start)
            return result

        clocked.under_the_clock = function
        ALL_ATTENTION_FUNCTIONS.register(name, clocked)


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def memory(length):
    """Bytes beyond the result: of Python (tracemalloc), of the process (its highest resident size),
    and the workspace that the library says it uses."""
    q, k, v = (torch.randn(1, 8, length, 64) for _ in range(3))
    OURS(q[:, :, :64], k[:, :, :64], v[:, :, :64], is_causal=True)
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")  # the highest resident size starts anew
    before = resident()
    tracemalloc.start()
    out = OURS(q, k, v, is_causal=True)
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"length": length, "result_bytes": out.numel() * 4, "python_bytes": python,
            "workspace_bytes": fovea.last_call().scratch_bytes,
            "resident_bytes_beyond_result": resident() - before - out.numel() * 4,
            "scores_would_be_bytes": 8 * length * length * 4}


def cases():
    for length in (512, 1024, 2048, 4096):
        for dtype in (torch.float32, torch.bfloat16):
            for backward in (False, True):
                name = f"causal-{str(dtype)[6:]}-s{length}" + ("-backward" if backward else "")
                yield name, lambda seconds, a=(length, dtype, backward): {
                    "arms": interleaved(attention_arms(*a), seconds)}
    for name, shape in (("prefill-tinyllama-s512", (512, 2048, 32, 4)),
                        ("prefill-tinyllama-s2048", (2048, 2048, 32, 4)),
                        ("prefill-tiny-s128", (128, 64, 4, 2))):
        def prefill(seconds, shape=shape):
            arms, spent = prefill_arms(*shape)
            result = {"arms": interleaved(arms, seconds)}
            result["attention_part"] = {name: statistics.median(times[1:])
                                        for name, times in zip(("torch", "fovea"), spent.values())}
            return result
        yield name, prefill
    for length in (1024, 4096):
        yield f"memory-s{length}", lambda seconds, length=length: memory(length)


def lines(results):
    """The table: PyTorch's time, ours, how many times faster; of a prefill also its attention alone."""
    for name, result in results.items():
        if "arms" not in result:
            continue
        parts = {name: {arm: times["median_s"] for arm, times in result["arms"].items()}}
        if "attention_part" in result:
            parts[f"{name}, attention"] = result["attention_part"]
        for part, times in parts.items():
            yield (part, f"{1e3 * times['torch']:.2f}", f"{1e3 * times['fovea']:.2f}",
                   f"{times['torch'] / times['fovea']:.2f}",
                   f"{result['arms']['fovea']['samples']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json")
    parser.add_argument("--table")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        fovea.set_threads(arguments.threads)
    results = {}
    for name, run in cases():
        if arguments.only not in name:
            continue
        result = results[name] = run(arguments.seconds)
        if "arms" in result:
            result["speed_up"] = (result["arms"]["torch"]["median_s"] /
                                  result["arms"]["fovea"]["median_s"])
    for name, theirs, ours, ratio, samples in lines(results):
        print(f"{name:<44} PyTorch {theirs:>8} ms  Fovea {ours:>8} ms  {ratio:>5}x  of {samples}")
    for name, result in results.items():
        if "arms" not in result:
            print(name, *(f"{key} {value}" for key, value in result.items()))
    if arguments.table:
        with open(arguments.table, "w") as file:
            file.write("| case | PyTorch, ms | Fovea, ms | ratio | samples of each |\n"
                       "|---|---|---|---|---|\n")
            file.writelines("| " + " | ".join(line) + " |\n" for line in lines(results))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": platform.processor() or platform.machine(),
                       "threads": torch.get_num_threads(), "torch": torch.__version__,
                       "fovea": fovea.version(), "cases": results}, file, indent=1)


if __name__ == "__main__":
    main()
