"""fovea.transformers: small models of five architectures, built from configurations with random
weights, give with attn_implementation="fovea" the logits, gradients and tokens of eager attention."""

import contextlib

import pytest
from dropins import require

torch = require("torch")
transformers = require("transformers")
fovea = require("fovea")
import fovea.torch  # noqa: E402
import fovea.transformers  # noqa: E402
from transformers.models import bert, gpt2, llama, mistral, qwen2  # noqa: E402

fovea.transformers.register()
transformers.logging.set_verbosity_error()

VOCABULARY = 97
COMMON = dict(vocab_size=VOCABULARY, hidden_size=48, num_hidden_layers=2, num_attention_heads=6,
              intermediate_size=64, max_position_embeddings=256, bos_token_id=1, eos_token_id=None,
              pad_token_id=0)
GPT2 = dict(vocab_size=VOCABULARY, n_embd=48, n_layer=2, n_head=6, n_positions=256, bos_token_id=1,
            eos_token_id=None, pad_token_id=0)
MODELS = {
    "llama": lambda **more: (llama.LlamaForCausalLM,
                             llama.LlamaConfig(**COMMON, num_key_value_heads=2, **more)),
    "qwen2": lambda **more: (qwen2.Qwen2ForCausalLM,
                             qwen2.Qwen2Config(**COMMON, num_key_value_heads=3, **more)),
    "mistral": lambda **more: (mistral.MistralForCausalLM,
                               mistral.MistralConfig(**COMMON, num_key_value_heads=2,
                                                     sliding_window=7, **more)),
    "gpt2": lambda **more: (gpt2.GPT2LMHeadModel, gpt2.GPT2Config(**GPT2, **more)),
    "bert": lambda **more: (bert.BertForMaskedLM, bert.BertConfig(**COMMON, **more)),
}
GENERATING = [name for name in MODELS if name != "bert"]


def build(name, implementation, dtype=torch.float32):
    torch.manual_seed(0)
    kind, configuration = MODELS[name]()
    model = kind._from_config(configuration, attn_implementation=implementation)
    return model.to(dtype).eval()


def tokens(batch=3, length=19):
    torch.manual_seed(1)
    return torch.randint(1, VOCABULARY, (batch, length))


def left_padded(ids):
    mask = torch.ones_like(ids)
    mask[0, :5], mask[1, :1] = 0, 0
    return mask


def gradients(model, logits):
    model.zero_grad()
    logits.logsumexp(-1).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@contextlib.contextmanager
def counted():
    """How often Fovea's attention ran."""
    from fovea.torch import _operator
    count = []
    _operator.observers.append(lambda: count.append(1))
    try:
        yield count
    finally:
        _operator.observers.pop()


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_are_those_of_eager_attention(name, padded):
    ids, results = tokens(), {}
    options = {"attention_mask": left_padded(ids)} if padded else {}
    for implementation in ("eager", "fovea"):
        model = build(name, implementation)
        with counted() as count:
            logits = model(ids, **options).logits
        assert len(count) == (2 if implementation == "fovea" else 0)  # one a layer
        if padded:  # what stands at padding means nothing
            logits = logits[options["attention_mask"].bool()]
        results[implementation] = (logits.detach(), gradients(model, logits))
    for mine, right in zip(results["fovea"], results["eager"]):
        torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_logits_in_bf16_are_as_near_as_those_of_eager_attention(name):
    ids = tokens()
    exact = build(name, "eager", torch.float64)(ids).logits
    errors = {}
    for implementation in ("eager", "fovea"):
        logits = build(name, implementation, torch.bfloat16)(ids).logits
        errors[implementation] = (logits.double() - exact).abs().max().item()
    assert errors["fovea"] <= 2 * errors["eager"]


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("name", GENERATING)
def test_greedy_tokens_of_64_steps_are_those_of_eager_attention(name, cache):
    ids = tokens(length=13)
    steps = 64 if cache == "dynamic" else 12
    made = [build(name, implementation).generate(
        ids, attention_mask=left_padded(ids), max_new_tokens=steps, do_sample=False,
        cache_implementation=cache) for implementation in ("eager", "fovea")]
    assert made[0].shape == (3, 13 + steps)
    assert torch.equal(*made)


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_pieces_of_a_prompt_through_the_cache_give_the_logits_of_the_whole(name):
    model, ids = build(name, "fovea"), tokens()
    whole = model(ids).logits
    first = model(ids[:, :10], use_cache=True)
    second = model(ids[:, 10:], past_key_values=first.past_key_values)
    torch.testing.assert_close(torch.cat((first.logits, second.logits), 1), whole, rtol=1e-5,
                               atol=1e-5)


def test_no_mask_is_made_for_causality_and_windows_alone():
    from transformers.masking_utils import (causal_mask_function, chunked_causal_mask_function,
                                            sliding_window_causal_mask_function)
    make = fovea.transformers.attention_mask
    assert make(2, 5, 5) is None
    assert make(2, 1, 9, q_offset=8) is None
    assert make(2, 5, 9, q_offset=4, attention_mask=torch.ones(2, 9) > 0) is None
    window = sliding_window_causal_mask_function(4)
    assert make(2, 9, 9, mask_function=window, local_size=4) is None
    assert make(2, 5, 9, q_offset=4, mask_function=window, local_size=3) is not None
    chunks = chunked_causal_mask_function(4, torch.zeros(2, dtype=torch.int64))
    assert make(2, 9, 9, mask_function=chunks, local_size=4) is not None
    padding = torch.ones(2, 9) > 0
    padding[0, 0] = False
    assert make(2, 9, 9, attention_mask=padding) is not None
    assert make(2, 5, 16, mask_function=causal_mask_function) is not None  # a static cache
    assert make(2, 5, 5, allow_is_causal_skip=False) is not None


def test_training_follows_eager_attention_for_50_steps():
    torch.manual_seed(2)
    data = (torch.randint(VOCABULARY, (50, 4, 1)) + 3 * torch.arange(24)) % VOCABULARY
    curves = []
    for implementation in ("eager", "fovea"):
        model = build("llama", implementation).train()
        optimizer = (fovea.torch.optim if implementation == "fovea" else torch.optim).AdamW(
            model.parameters(), lr=3e-3)
        losses = []
        for batch in data:
            optimizer.zero_grad()
            loss = model(batch, labels=batch).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves.append(torch.tensor(losses))
    assert curves[0][-5:].mean() < curves[0][:5].mean() - 0.1  # it learns
    torch.testing.assert_close(curves[1], curves[0], rtol=2e-3, atol=0)


def test_attention_dropout_of_a_model_in_training_is_served():
    kind, configuration = MODELS["llama"](attention_dropout=0.5)
    model = kind._from_config(configuration, attn_implementation="fovea").train()
    ids = tokens()
    first, second = model(ids).logits, model(ids).logits
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_enabled_serves_an_unmodified_model():
    model, ids = build("llama", "sdpa"), tokens()
    with torch.no_grad():
        right = model(ids).logits
        with fovea.torch.enabled() as served:
            logits = model(ids).logits
    torch.testing.assert_close(logits, right, rtol=1e-5, atol=1e-5)
    assert (served.served, served.declined) == (2, {})


def test_compiles_whole():
    model, ids = build("llama", "fovea"), tokens()
    with torch.no_grad():
        right = model(ids, use_cache=False).logits
        compiled = torch.compile(model, fullgraph=True)
        torch.testing.assert_close(compiled(ids, use_cache=False).logits, right, rtol=1e-5,
                                   atol=1e-5)


class Module:
    is_causal = True


def test_softcap_sinks_and_position_bias_are_served():
    from dropins import Attention
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, 7, 16), torch.randn(1, 2, 9, 16), torch.randn(1, 2, 9, 16)
    sinks, bias = torch.randn(4), torch.randn(1, 4, 7, 9)
    out, _ = fovea.transformers.attention_forward(Module(), q, k, v, None, scaling=0.3, softcap=4.0,
                                                  s_aux=sinks, position_bias=bias)
    causal = torch.ones(7, 9, dtype=torch.bool).tril(2).numpy()
    right = Attention(*(t.double().numpy() for t in (q, k, v)), "float32", mask=causal, scale=0.3,
                      softcap=4.0, sinks=sinks.numpy(), bias=bias.numpy())
    error = abs(out.transpose(1, 2).double().numpy() - right.out)
    assert (error <= right.out_bound).all()


def test_paged_cache_of_continuous_batching_is_refused():
    q = torch.randn(1, 2, 3, 8)
    with pytest.raises(fovea.Unsupported, match="continuous batching"):
        fovea.transformers.attention_forward(Module(), q, q, q, None, cache=object())
