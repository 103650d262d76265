"""A language model of transformers with PyTorch's attention and with Fovea's: logits, tokens, times.
The weights are random; nothing is downloaded.

usage: python examples/compare_model.py [--length N] [--layers N] [--width N]"""

# %% The model, of TinyLlama's shape but for its depth
import argparse
import time

import torch
from transformers.models.llama import LlamaConfig, LlamaForCausalLM

import fovea.torch
import fovea.transformers

parser = argparse.ArgumentParser()
parser.add_argument("--length", type=int, default=512)
parser.add_argument("--layers", type=int, default=2)
parser.add_argument("--width", type=int, default=2048)
arguments = parser.parse_args()

torch.manual_seed(0)
config = LlamaConfig(vocab_size=1000, hidden_size=arguments.width,
                     intermediate_size=arguments.width * 11 // 4,
                     num_hidden_layers=arguments.layers, num_attention_heads=32,
                     num_key_value_heads=4, pad_token_id=0, eos_token_id=None)
model = LlamaForCausalLM(config).eval()
tokens = torch.randint(1, 1000, (1, arguments.length))


# %% One prefill, timed
def prefill():
    with torch.no_grad():
        model(tokens)  # the first call makes what later ones reuse
        start = time.perf_counter()
        logits = model(tokens).logits
    return logits, 1e3 * (time.perf_counter() - start)


model.set_attn_implementation("sdpa")
right, before = prefill()
print(f"PyTorch's attention: {before:.1f} ms")

# %% The same with Fovea, by name
fovea.transformers.register()
model.set_attn_implementation("fovea")
logits, after = prefill()
print(f'attn_implementation="fovea": {after:.1f} ms')
print(f"largest difference of a logit: {(logits - right).abs().max():.2g} "
      f"of {right.abs().max():.2g}")

# %% Decoding through the cache
made = {}
for implementation in ("sdpa", "fovea"):
    model.set_attn_implementation(implementation)
    made[implementation] = model.generate(tokens, max_new_tokens=8, do_sample=False)
print("greedy tokens equal:", "yes" if torch.equal(made["sdpa"], made["fovea"]) else "no")

# %% The same with Fovea, without the model knowing
model.set_attn_implementation("sdpa")
with fovea.torch.enabled() as calls:
    logits, _ = prefill()
print(calls)
