"""The trainer's log-probabilities and entropies, loading and saving (invariants 2, 6, 7, 10, 11)."""

import copy
import random

import pytest
import torch
from tiny import CLASSES, WINDOWED, Alive, WidestTable, logprobs_one_at_a_time, make_model, make_tokenizer
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    Cohere2Config,
    Gemma2Config,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MambaConfig,
    T5Config,
    T5ForConditionalGeneration,
)

import policy
from policy import Policy, micro_batches

SMALL = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
}  # fmt: skip


def rows(count=7, seed=0):
    rng = random.Random(seed)

    def ids(low, high):
        return [rng.randrange(97) for _ in range(rng.randint(low, high))]

    return [ids(1, 30) for _ in range(count)], [ids(1, 20) for _ in range(count)]


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("chunk", [7, 1024])
def test_logprobs_and_entropy_are_those_of_one_plain_forward_a_row(kind, chunk):
    """Of models with windows (6 positions), the rows are up to 50 tokens long."""
    model, (prompts, responses) = make_model(kind), rows()
    logprobs, entropy = Policy(model, chunk)(prompts, responses, 0.7)
    reference = copy.deepcopy(model)
    wanted = [logprobs_one_at_a_time(reference, p, r, 0.7) for p, r in zip(prompts, responses)]
    assert torch.allclose(logprobs.double(), torch.cat([w[0] for w in wanted]), atol=1e-4)
    assert torch.allclose(entropy.double(), torch.cat([w[1] for w in wanted]), atol=1e-4)
    assert not entropy.requires_grad


def gradient(model, prompts, responses, coefficients, batches, chunk=1024):
    model.zero_grad()
    network = Policy(model, chunk)
    for batch in batches:
        logprobs, _ = network([prompts[i] for i in batch], [responses[i] for i in batch], 0.7)
        lengths = torch.tensor([len(responses[i]) for i in batch])
        weights = torch.tensor([coefficients[i] for i in batch]).repeat_interleave(lengths)
        (weights * logprobs).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("kind", ["qwen3", *WINDOWED])
def test_the_gradient_does_not_depend_on_micro_batches_padding_or_order(kind):
    model, (prompts, responses) = make_model(kind, sharp=1.0), rows(12)
    rng = random.Random(1)
    coefficients = [rng.gauss(0, 1) for _ in prompts]
    every = list(range(12))
    one_by_one = gradient(model, prompts, responses, coefficients, [[i] for i in every])
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses)]
    shuffled = rng.sample(every, 12)
    for batches, chunk in (
        ([every], 1024),
        ([every], 5),
        ([shuffled[:5], shuffled[5:]], 1024),
        (micro_batches(lengths, 60), 1024),
    ):
        other = gradient(model, prompts, responses, coefficients, batches, chunk)
        assert (other - one_by_one).norm() / one_by_one.norm() < 1e-5


def passing(model) -> list[int]:
    """How many tokens each forward of the model lets through from now on."""
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda layer, given, out: seen.append(given[0].numel()))
    return seen


def packing(model, chunk=None) -> Policy:
    network = Policy(model, chunk)
    network.packs = policy.packs(model)
    assert network.packs
    return network


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("kind", CLASSES)
def test_prompts_that_rows_share_go_through_once_and_padding_never(kind, again):
    """And yet log-probabilities and gradient are those of one row at a time. One prompt is a single token. With `again`
    layers are computed again in the backward, when another forward has come in between."""
    model, (prompts, responses) = make_model(kind, sharp=1.0), rows(9)
    prompts = [prompts[i] for i in (0, 1, 0, 2, 2, 0)] + [[5], [5], [6]]
    rng = random.Random(1)
    coefficients = [rng.gauss(0, 1) for _ in prompts]
    expected = gradient(model, prompts, responses, coefficients, [[i] for i in range(9)])
    wanted = [logprobs_one_at_a_time(copy.deepcopy(model), p, r, 0.7) for p, r in zip(prompts, responses)]
    if again:
        policy.recompute(model)
    network = packing(model)
    seen = passing(model)
    logprobs, entropy = network(prompts, responses, 0.7)
    assert seen == [sum(len(prompts[i]) - 1 for i in (0, 1, 3)) + sum(map(len, responses))]
    assert torch.allclose(logprobs.double(), torch.cat([w[0] for w in wanted]), atol=1e-4)
    assert torch.allclose(entropy.double(), torch.cat([w[1] for w in wanted]), atol=1e-4)
    model.zero_grad()
    with torch.no_grad():
        network(prompts[1:3], responses[:2])
        network(prompts[:1], responses[:1])
    weights = torch.tensor(coefficients).repeat_interleave(torch.tensor([len(r) for r in responses]))
    (weights * logprobs).sum().backward()
    got = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert (got - expected).norm() / expected.norm() < 1e-5


def test_rows_are_padded_where_packing_spares_little_or_dropout_would_be_shared():
    model, shared = make_model(), ([[5, 6, 7]] * 4, [[8, 9]] * 4)
    network = packing(model)
    seen = passing(model)
    network(*shared)
    network([[5, 6], [7, 6]], [[8] * 20] * 2)
    model.train()
    network(*shared)
    assert seen == [2 + 4 * 2, 2 * 22, 4 * 5]


def test_models_whose_attention_cannot_be_replaced_are_not_packed(monkeypatch):
    """One that hands nothing over to it, and others: of a cap on the scores, with a state, without causality."""
    for config in (
        Gemma2Config(**SMALL), MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=1),
        BertConfig(**SMALL, attn_implementation="sdpa"),
    ):  # fmt: skip
        assert not policy.packs(AutoModelForCausalLM.from_config(config).eval())
    model = make_model("llama")
    assert policy.packs(model)
    forward = type(model.base_model).forward
    monkeypatch.setattr(type(model.base_model), "forward", lambda *given, packed, **more: forward(*given, **more))
    assert not policy.packs(model)


def test_the_gradient_is_the_same_each_time_on_several_threads():
    """Bit for bit: a run that is resumed needs it. Many rows share a prompt, so sums have an order to lose."""
    model, threads, found = make_model(hidden=64, sharp=1.0), torch.get_num_threads(), set()
    tokens = random.Random(0).choices(range(97), k=64 * 40)
    prompts, responses = [tokens[:60]] * 64, [tokens[i : i + 40] for i in range(0, len(tokens), 40)]
    torch.set_num_threads(2)
    try:
        for _ in range(6):
            model.zero_grad()
            packing(model)(prompts, responses)[0].sum().backward()
            found.add(torch.cat([p.grad.flatten() for p in model.parameters()]).numpy().tobytes())
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


def test_packing_takes_less_memory_than_padding():
    model, sizes = make_model(hidden=64, layers=4), []
    for prompts in ([[5] * 40] * 8, [[5 + i] * 40 for i in range(8)]):
        with Alive(97) as alive:
            packing(model, 16)(prompts, [[7] * 40] * 8)[0].sum().backward()
        sizes.append(alive.peak)
    assert sizes[0] < 0.75 * sizes[1]


def test_every_response_token_is_learnt_the_end_token_too_and_nothing_of_the_prompt():
    """The pad id is the end id here, as in many models: a mask of ids != pad would lose the first end token."""
    model = make_model(eos=(0,))
    prompts, responses = [[5, 0, 7], [4]], [[9, 3, 0], [8, 0]]
    logprobs, _ = Policy(model)(prompts, responses)
    assert logprobs.shape == (5,)
    for place, (prompt, response, t) in enumerate(
        [(prompts[i], responses[i], t) for i in range(2) for t in range(len(responses[i]))]
    ):
        logits = model(torch.tensor([prompt + response[:t]])).logits[0, -1]
        assert torch.isclose(logprobs[place], logits.log_softmax(-1)[response[t]], atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
def test_logits_of_bfloat16_weights_are_in_float32_with_their_gradient(bias):
    """They are those of float64 on the same hidden states and weights; the gradient is that of one in bfloat16."""
    model = make_model(tied=False, sharp=20.0).bfloat16()
    model.lm_head = torch.nn.Linear(32, 97, bias, dtype=torch.bfloat16)
    hidden = torch.randn(50, 32, generator=torch.Generator().manual_seed(0)).mul_(20).bfloat16().requires_grad_()
    target, network = torch.arange(50), Policy(model, 16)
    logprobs, entropy = network.head(hidden, target, 0.7)
    exact, wide = copy.deepcopy(model.lm_head).double(), hidden.detach().double().requires_grad_()
    table = (exact(wide) / 0.7).log_softmax(-1)
    expected = table.gather(-1, target[:, None])[:, 0]
    assert (logprobs - expected).abs().max() < 1e-5 and logprobs.dtype == torch.float32
    assert (entropy + (table.exp() * table).sum(-1)).abs().max() < 1e-4
    (logprobs * torch.linspace(-1, 1, 50)).sum().backward()
    (expected * torch.linspace(-1, 1, 50)).sum().backward()
    for ours, theirs in [(hidden, wide), *zip(model.lm_head.parameters(), exact.parameters())]:
        assert ours.grad.dtype == torch.bfloat16 and (ours.grad - theirs.grad).norm() < 0.02 * theirs.grad.norm()


def test_peak_memory_is_one_chunk_of_logits():
    """No tensor with a vocabulary axis and more rows than a chunk is ever made, forward or backward."""
    vocab, chunk = 997, 16
    model = make_model(vocab=vocab)
    prompts, responses = [[1, 2]] * 4, [[3] * 50] * 4
    with WidestTable(vocab) as watch:
        logprobs, _ = Policy(model, chunk)(prompts, responses)
        logprobs.sum().backward()
    assert watch.rows == 32  # the weights' transpose, [hidden 32, vocab]; a chunk has 16
    with watch:
        model(torch.tensor([[1] * 50] * 4))
    assert watch.rows >= 200  # the plain way: what the watch would have seen


def test_micro_batches_hold_every_row_once_within_the_budget():
    rng = random.Random(0)
    lengths = [rng.randint(1, 50) for _ in range(200)] + [500]
    batches = micro_batches(lengths, 128)
    assert sorted(i for batch in batches for i in batch) == list(range(201))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 128 for b in batches)
    groups = [rng.randrange(3) for _ in lengths]
    apart = micro_batches(lengths, 128, groups)
    assert sorted(i for batch in apart for i in batch) == list(range(201))
    assert all(len({groups[i] for i in batch}) == 1 for batch in apart)
    for some in (batches, apart):
        padded = [len(b) * max(lengths[i] for i in b) for b in some]
        assert padded[0] == 500 and padded == sorted(padded, reverse=True)  # memory runs out at once, or not at all
    assert sum(len(b) * max(lengths[i] for i in b) for b in batches) < 1.15 * sum(lengths)


def test_bfloat16_computes_over_float32_weights():
    model, (prompts, responses) = make_model(sharp=1.0), rows(2)
    exact, _ = Policy(model)(prompts, responses)
    with torch.autocast("cpu", torch.bfloat16):
        logprobs, entropy = Policy(model)(prompts, responses)
    logprobs.sum().backward()
    assert logprobs.dtype == entropy.dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    assert 0 < (logprobs - exact).abs().max() < 0.1


@pytest.mark.parametrize("tied", [True, False])
def test_save_and_load(tmp_path, tied):
    model, tokenizer = make_model(vocab=600, tied=tied), make_tokenizer(["some text to merge"])
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(0.1)  # as training would move it
    policy.save(model, tokenizer, tmp_path / "model")
    loaded, loaded_tokenizer = policy.load(str(tmp_path / "model"))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for other in (loaded, theirs):
        assert (other.get_input_embeddings().weight is other.get_output_embeddings().weight) == tied
        for (name, p), (other_name, q) in zip(model.named_parameters(), other.named_parameters()):
            assert name == other_name and torch.equal(p, q) and q.dtype == torch.float32
    assert loaded_tokenizer("some text").input_ids == tokenizer("some text").input_ids
    assert policy.eos_ids(loaded, loaded_tokenizer) == {1}
    with pytest.raises(FileExistsError):
        policy.save(model, tokenizer, tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["gpt_oss", "gemma3", "qwen3_moe"])
def test_other_architectures_load_with_the_attention_they_have(tmp_path, kind):
    model, ids = make_model(kind), torch.tensor([[5, 6, 7, 8] * 5])
    model.save_pretrained(tmp_path)
    loaded = policy.load_model(str(tmp_path))
    assert loaded.config._attn_implementation == ("eager" if kind == "gpt_oss" else "sdpa")
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_all_end_tokens_count_those_of_the_generation_config_the_tokeniser_and_the_template():
    model, tokenizer = make_model(eos=(1, 7)), make_tokenizer(["x"])
    assert policy.eos_ids(model, tokenizer) == {1, 7}
    model.generation_config.eos_token_id = 9
    assert policy.eos_ids(model, tokenizer) == {9, tokenizer.eos_token_id}
    tokenizer.add_tokens(["</turn>"])  # added, and not special
    for end, counts in [("<|user|>", {2}), (" <pad>\n", {0}), ("</turn>", {len(tokenizer) - 1}), ("<end>", set())]:
        tokenizer.chat_template = "{% for m in messages %}{{ m.content }}" + end + "{% endfor %}"
        assert policy.eos_ids(model, tokenizer) == {9, tokenizer.eos_token_id} | counts
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    assert policy.eos_ids(model, tokenizer) == {9, tokenizer.eos_token_id}
    model.generation_config.eos_token_id = tokenizer.eos_token = None
    with pytest.raises(ValueError, match="names no end-of-sequence token"):
        policy.eos_ids(model, tokenizer)


def test_what_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no model"):
        policy.load(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no model could be loaded"):
        policy.load(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "config", "says"),
    [
        (AutoModelForCausalLM.from_config, Cohere2Config(**SMALL), "logits are not those of its output layer"),
        (Llama4ForCausalLM, Llama4TextConfig(**SMALL, num_local_experts=2), "logits are not those of its output layer"),
        (T5ForConditionalGeneration, T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=32, num_layers=1), "T5Config"),
    ],
)
def test_models_that_the_policy_does_not_know_are_refused_in_a_sentence(tmp_path, make, config, says):
    make(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"^[^\n]*{says}[^\n]*$"):
        policy.load_model(str(tmp_path))


@pytest.mark.parametrize("kind", ["qwen3", "deepseek_v3"])
def test_every_number_of_a_model_counts_in_its_fingerprint(tmp_path, kind):
    """The last of each tensor, buffers that a router chooses by, and a config that uses the same weights otherwise; but
    neither the folder nor how it was read."""
    model = make_model(kind, vocab=600)
    first = policy.fingerprint(model)
    with torch.no_grad():
        for name, tensor in policy.stored(model).items():
            last = tensor.view(-1)[-1]
            before = last.clone()
            last += 1
            assert policy.fingerprint(model) != first, name
            last.copy_(before)
    assert policy.fingerprint(model) == first
    policy.save(model, make_tokenizer(["some text"]), tmp_path / "model")
    loaded = policy.load_model(str(tmp_path / "model"))
    (tmp_path / "model").rename(tmp_path / "moved")
    outlined = policy.outline(str(tmp_path / "moved"))
    outlined.to_empty(device="cpu").tie_weights()
    policy.fill(outlined, str(tmp_path / "moved"))
    assert policy.fingerprint(loaded) == policy.fingerprint(outlined)
    loaded.config.rms_norm_eps *= 2
    assert policy.fingerprint(loaded) != policy.fingerprint(outlined)
