"""The sampler against transformers' generate and plain forwards (invariants 3, 4, 5)."""

import copy
import gc
import random

import numpy as np
import pytest
import torch
from tiny import CLASSES, WINDOWED, logprobs_one_at_a_time, make_model
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaForCausalLM,
    MambaConfig,
    Qwen3NextConfig,
)

import sampler
from sampler import Sampler, choose, truncate, uniforms


def ragged_prompts(count=9, longest=70, vocab=97, seed=0):
    rng = random.Random(seed)
    lengths = [1, 2, longest] + [rng.randint(1, longest) for _ in range(count - 3)]
    return [[rng.randrange(2, vocab) for _ in range(length)] for length in lengths]


@pytest.mark.parametrize("kind", CLASSES)
def test_greedy_is_transformers_generate(kind):
    """Of models with windows, prompts and completions reach far beyond them."""
    ends = list(range(1, 97, 8))
    model, prompts = make_model(kind, eos=ends, tied=False), ragged_prompts()
    theirs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        theirs.append(whole[0, len(prompt) :].tolist())
    for slots in (1, 3, 16):
        mine = Sampler(model, eos_ids=ends, slots=slots).sample(prompts, max_new_tokens=24, temperature=0)
        assert [completion.ids for [completion] in mine] == theirs
        assert all(completion.finished == (completion.ids[-1] in ends) for [completion] in mine)
    assert len(set(map(len, theirs))) > 2  # some ended early, so rows were refilled


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind not in ("qwen3", "qwen2", "llama")])
def test_logprobs_of_other_architectures_are_those_of_a_full_forward(kind):
    model, prompts = make_model(kind, tied=False), ragged_prompts()
    groups = Sampler(model, eos_ids={1, 2, 3}, slots=5).sample(prompts, 2, max_new_tokens=20, temperature=0.7)
    reference = copy.deepcopy(model)
    for prompt, group in zip(prompts, groups):
        for completion in group:
            expected, _ = logprobs_one_at_a_time(reference, prompt, completion.ids, 0.7)
            assert np.abs(np.array(completion.logprobs) - expected.detach().numpy()).max() < 1e-4


@pytest.mark.parametrize("kind", WINDOWED)
def test_windows_matter_here(kind):
    """So that the tests above can fail: without its window, the same model says something else."""
    model, prompts = make_model(kind, tied=False), ragged_prompts()
    wider = make_model(kind, tied=False)
    wider.config.sliding_window = 512
    near, far = (Sampler(m, eos_ids=()).sample(prompts, max_new_tokens=9, temperature=0) for m in (model, wider))
    assert near != far


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_logprobs_are_those_of_a_full_forward(temperature):
    model, prompts = make_model(tied=False), ragged_prompts()
    end_ids = set(range(1, 12))  # an end about every tenth token
    groups = Sampler(model, eos_ids=end_ids, slots=5).sample(
        prompts, 3, max_new_tokens=30, temperature=temperature, seed=3
    )
    reference = copy.deepcopy(model)
    finished = 0
    for prompt, group in zip(prompts, groups):
        for completion in group:
            expected, _ = logprobs_one_at_a_time(reference, prompt, completion.ids, temperature)
            assert np.abs(np.array(completion.logprobs) - expected.detach().numpy()).max() < 1e-4
            assert not end_ids & set(completion.ids[:-1])
            finished += completion.finished
    assert finished


def test_a_completion_depends_on_prompt_seed_and_index_alone():
    model, prompts = make_model(tied=False), ragged_prompts()
    arguments = {"max_new_tokens": 20, "temperature": 1.0, "seed": 7}
    wide = Sampler(model, eos_ids={1, 2, 3}, slots=16).sample(prompts, 3, **arguments)
    narrow = Sampler(model, eos_ids={1, 2, 3}, slots=5).sample(prompts, 3, **arguments)
    backwards = Sampler(model, eos_ids={1, 2, 3}, slots=4).sample(prompts[::-1], 3, **arguments)[::-1]
    alone = Sampler(model, eos_ids={1, 2, 3}, slots=4).sample([prompts[4]], 2, **arguments)
    assert [[c.ids for c in g] for g in wide] == [[c.ids for c in g] for g in narrow]
    assert [[c.ids for c in g] for g in wide] == [[c.ids for c in g] for g in backwards]
    assert [c.ids for c in alone[0]] == [c.ids for c in wide[4][:2]]
    other = Sampler(model, eos_ids={1, 2, 3}, slots=16).sample(prompts, 3, **(arguments | {"seed": 8}))
    assert all(a.ids != b.ids for ga, gb in zip(wide, other) for a, b in zip(ga, gb) if len(a.ids) > 5)


def test_repeated_prompts_get_completions_of_their_own():
    model = make_model(tied=False)
    sampler = Sampler(model, eos_ids={1}, slots=3)
    twice = sampler.sample([[5, 6], [7], [5, 6]], 2, max_new_tokens=12, seed=1)
    once = sampler.sample([[5, 6], [7]], 4, max_new_tokens=12, seed=1)
    assert [c.ids for c in twice[0] + twice[2]] == [c.ids for c in once[0]]
    assert len({tuple(c.ids) for c in once[0]}) == 4


def test_a_limit_for_each_prompt():
    model, prompts = make_model(tied=False), ragged_prompts(4)
    limits = [1, 7, 3, 12]
    groups = Sampler(model, eos_ids=(), slots=2).sample(prompts, 2, max_new_tokens=limits)
    assert [[len(c.ids) for c in group] for group in groups] == [[limit] * 2 for limit in limits]
    assert not any(c.finished for group in groups for c in group)


def test_sampled_frequencies():
    """chi-squared over the first token of 4,000 completions: a right sampler fails 1 time in 10,000 (seed fixed)."""
    model, prompt, n = make_model(vocab=40, sharp=2.0, tied=False), [3, 4, 5], 4000
    [group] = Sampler(model, eos_ids=(), slots=500).sample([prompt], n, max_new_tokens=1, temperature=0.8, seed=1)
    with torch.no_grad():
        expected = n * (model(torch.tensor([prompt])).logits[0, -1] / 0.8).softmax(-1).numpy()
    counts = np.bincount([c.ids[0] for c in group], minlength=40)
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    statistic = ((observed - expected) ** 2 / np.maximum(expected, 1e-9)).sum()
    degrees = len(expected) - 1
    assert statistic < degrees + 3.72 * (2 * degrees) ** 0.5 + 10  # Laurent-Massart: P < exp(-9.2) = 1e-4


def test_the_uniform_numbers_are_uniform_and_unrelated():
    keys = [random.Random(i).getrandbits(64) for i in range(300)]
    table = torch.stack([uniforms(keys, [t] * 300) for t in range(100)]).numpy()
    assert table.min() >= 0 and table.max() < 1
    assert abs(table.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(table[:-1].ravel(), table[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(table[:, :-1].ravel(), table[:, 1:].ravel())[0, 1]) < 0.03


def test_a_token_of_probability_zero_is_never_chosen():
    logits = torch.tensor([[0.0, -torch.inf, 0.0, -torch.inf]]).repeat(5, 1)
    uniform = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-53], dtype=torch.float64)
    chosen, _ = choose(logits, uniform, 1.0, 1.0, 0)
    assert chosen.tolist() == [0, 0, 2, 2, 2]


def test_top_k_and_top_p():
    probs = torch.tensor([[0.1, 0.4, 0.3, 0.2]], dtype=torch.float64)
    assert truncate(probs, 1.0, 2).tolist() == [[0, 0.4, 0.3, 0]]
    assert truncate(probs, 0.6, 0).tolist() == [[0, 0.4, 0.3, 0]]
    assert truncate(probs, 0.4, 0).tolist() == [[0, 0.4, 0, 0]]
    assert truncate(probs, 0.5, 3).tolist() == [[0, 0.4, 0.3, 0]]
    model = make_model(tied=False)
    groups = Sampler(model, eos_ids=(), slots=8).sample([[5]], 8, max_new_tokens=5, top_k=1, seed=2)
    greedy = Sampler(model, eos_ids=(), slots=8).sample([[5]], 1, max_new_tokens=5, temperature=0)
    assert all(c.ids == greedy[0][0].ids for c in groups[0])


@pytest.mark.parametrize(
    ("prompts", "more", "says"),
    [
        ([[1], []], {}, "prompt 1 is empty"),
        ([[1] * 500], {"max_new_tokens": 20}, "context holds 512"),
        ([[1]], {"max_new_tokens": 0}, "at least 1"),
        ([[1]], {"max_new_tokens": [3, 4]}, "one limit"),
        ([[1]], {"temperature": -1}, "temperature"),
    ],
)
def test_bad_requests_are_refused_before_any_work(prompts, more, says):
    sampler = Sampler(make_model(tied=False), eos_ids={1})
    with pytest.raises(ValueError, match=says):
        sampler.sample(prompts, **({"max_new_tokens": 4} | more))
    assert sampler.sample([], max_new_tokens=4) == []


SMALL = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
REFUSED = {
    "layers of linear_attention": Qwen3NextConfig(
        **SMALL, layer_types=["linear_attention", "full_attention"], num_experts=4, moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    ),
    "(layers of linear_attention|keep a state)": MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=1),
    "takes softcap": Gemma2Config(**SMALL),
    "does not let its attention be replaced": FalconConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=1, num_attention_heads=4
    ),
    "more than a text model": Gemma3Config(
        text_config=SMALL, vision_config={**VISION, "image_size": 28, "patch_size": 14}, mm_tokens_per_image=4
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_sampler_cannot_run_is_refused_at_once(reason):
    config = REFUSED[reason]
    make = Gemma3ForConditionalGeneration if isinstance(config, Gemma3Config) else AutoModelForCausalLM.from_config
    with pytest.raises(ValueError, match=f"^the sampler cannot run this model .*{reason}[^\n]*$"):
        Sampler(make(config), eos_ids={1})


def test_a_model_that_would_be_sampled_wrongly_is_refused():
    """One that finds its positions by itself: after the prompt, they would be others here than in its own forward."""

    class Counting(LlamaForCausalLM):
        def forward(self, *args, position_ids=None, **given):
            return super().forward(*args, **given)

    model = make_model("llama")
    Sampler(model, eos_ids={1})
    model.__class__ = Counting
    with pytest.raises(ValueError, match="logits are not those of its own forward"):
        Sampler(model, eos_ids={1})


def test_cache_memory_is_what_the_docstring_says():
    model, prompts = make_model(tied=False), ragged_prompts()
    sampler = Sampler(model, eos_ids=(), slots=4)
    sampler.sample(prompts, 2, max_new_tokens=10)
    position = 2 * 2 * 2 * 8 * 4  # keys and values, layers, key heads, head_dim, float32
    longest = max(map(len, prompts))
    widest = max(4 * (max(map(len, prompts[i : i + 4])) - 1) for i in range(0, len(prompts) - 3, 4))
    assert sampler.position_bytes == position
    assert sampler.stats.cache_bytes == position * (4 * (longest + 10 - 1) + widest)
    latent = Sampler(make_model("deepseek_v3"), eos_ids=())
    assert latent.position_bytes == 2 * (8 + 4) * 4  # layers; what a model with latent attention keeps; float32


def test_cache_memory_counts_when_nothing_is_prefilled():
    model = make_model(tied=False)
    sampler = Sampler(model, eos_ids=(), slots=2)
    sampler.sample([[5], [6]], max_new_tokens=10)
    assert sampler.stats.cache_bytes == sampler.position_bytes * 2 * 10


def test_slots_follow_from_memory():
    model = make_model(tied=False)
    row = Sampler(model, eos_ids=()).position_bytes * (3 + 20 - 1)
    sampler = Sampler(model, eos_ids=(), slots=None, memory=5 * row + 1)
    wide = Sampler(model, eos_ids=(), slots=None)
    arguments = {"max_new_tokens": 20, "seed": 4}
    assert [c.ids for c in sampler.sample([[5, 6, 7]], 12, **arguments)[0]] == [
        c.ids for c in wide.sample([[5, 6, 7]], 12, **arguments)[0]
    ]
    assert sampler.stats.slots == 5 and wide.stats.slots == 12
    with pytest.raises(ValueError, match="lower max_new_tokens"):
        Sampler(model, eos_ids=(), memory=row - 1).sample([[5, 6, 7]], max_new_tokens=20)


def test_statistics():
    sampler = Sampler(make_model(tied=False), eos_ids=(), slots=3)
    sampler.sample([[5, 6, 7], [8, 9]], 2, max_new_tokens=[4, 2])
    # steps 1 to 4: rows a a b, the first two of prompt a; b b are refilled as rows end
    assert sampler.stats.decode_tokens == 2 * 4 + 2 * 2
    assert sampler.stats.steps == 4 and sampler.stats.occupancy == 1.0
    assert sampler.stats.prefill_tokens == 2 * 2  # all but the last token of each prompt, padded


@pytest.mark.parametrize(("kind", "implementation"), [("qwen3", "sdpa"), ("gpt_oss", "eager")])
def test_an_interrupt_leaves_the_model_as_it_was(kind, implementation, monkeypatch):
    model = make_model(kind, tied=False).train()
    sampler = Sampler(model, eos_ids=())
    monkeypatch.setattr("sampler.choose", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sampler.sample([[5]], max_new_tokens=3)
    assert model.training and model.config._attn_implementation == implementation
    monkeypatch.undo()
    assert len(sampler.sample([[5]], max_new_tokens=3)[0][0].ids) == 3


def test_end_tokens_are_the_model_s_by_default():
    assert Sampler(make_model(eos=(1, 7))).eos_ids == {1, 7}


def test_steps_replayed_like_graphs_give_the_same_completions(monkeypatch):
    """What a GPU does, without one: steps in padded rows and coarse buckets, recorded once a shape and replayed."""
    recorded = []

    class Graph:
        def __init__(self, decode, rows, attended):
            self.replay = lambda: self.logits.copy_(decode._step(rows, attended))
            self.logits = decode._step(rows, attended).clone()

    class Replaying(sampler._Decode):
        def __init__(self, *args):
            super().__init__(*args)
            self.by_graph, self.bucket = True, 8

        def _record(self, rows, attended):
            recorded.append((rows, attended))
            graph = Graph(self, rows, attended)
            return graph, graph.logits

    model = make_model("qwen3")
    prompts, limits = [[5], [9, 8, 7, 3, 2], list(range(3, 40)), [4, 4]], [3, 20, 11, 17]
    plain = Sampler(model, eos_ids=(2,), slots=6).sample(prompts, 3, max_new_tokens=limits)
    monkeypatch.setattr(sampler, "_Decode", Replaying)
    replayed = Sampler(model, eos_ids=(2,), slots=6).sample(prompts, 3, max_new_tokens=limits)
    assert [[c.ids for c in group] for group in replayed] == [[c.ids for c in group] for group in plain]
    assert len(recorded) == len(set(recorded)) and {rows for rows, _ in recorded} <= {1, 2, 4, 6}
    assert {attended for _, attended in recorded} <= {8, 16, 24, 32, 40, 47}


def test_no_cache_outlives_a_call():
    """Not even until the garbage collector comes: on a GPU a dead cache is what the next call lacks."""
    gc.collect()
    gc.disable()
    try:
        sampler_ = Sampler(make_model(tied=False), eos_ids={1}, slots=3)
        sampler_.sample(ragged_prompts(), 2, max_new_tokens=5)
        assert not [thing for thing in gc.get_objects() if isinstance(thing, sampler.KVCache)]
    finally:
        gc.enable()
    assert sampler_.stats.cache_bytes and not sampler_.sample([], max_new_tokens=5)
    assert sampler_.stats == sampler.Stats()
