"""Times cuDNN's attention forward at the cells of suite hopper, cool and hot as bench_hopper.cu does."""
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

only_d = int(sys.argv[2]) if len(sys.argv) > 2 else 0
only_s = int(sys.argv[3]) if len(sys.argv) > 3 else 0
hot_too = len(sys.argv) > 1 and sys.argv[1] == "hot"


def timed(call, hot):
    events = [torch.cuda.Event(enable_timing=True) for _ in range(21)]
    if not hot:
        time.sleep(0.1)
    for _ in range(5):
        call()
    if hot:
        torch.cuda.synchronize()
        start = time.monotonic()
        while time.monotonic() - start < 0.3:
            for _ in range(10):
                call()
            torch.cuda.synchronize()
    for i in range(20):
        events[i].record()
        call()
    events[20].record()
    torch.cuda.synchronize()
    times = sorted(events[i].elapsed_time(events[i + 1]) for i in range(20))
    return (times[9] + times[10]) * 5e-4


with torch.no_grad(), sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
    for d in (64, 128, 256):
        if only_d and d != only_d:
            continue
        for causal in (False, True):
            s = 512
            while s <= 16384:
                if not only_s or s == only_s:
                    shape = (16384 // s, 2048 // d, s, d)
                    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(3))
                    call = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
                    flops = 4e-12 * 16384 * 2048 * s / (2 if causal else 1)
                    cool = flops / timed(call, False)
                    hot = flops / timed(call, True) if hot_too else 0
                    print(f"cell {d} {'causal' if causal else 'full'} {s}\n  cudnn {cool:6.1f} {hot:6.1f}", flush=True)
                s *= 2
