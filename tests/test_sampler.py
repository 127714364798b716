"""The sampler against transformers' generate and plain forwards (invariants 3, 4, 5)."""

import copy
import gc
import random
import re

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
    assert Sampler(model, eos_ids=(), slots=None).slots == 64
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


# What a GPU does, without one: the cache in pages, and in place of torch's kernel what its documentation says.


class Kernel:
    """torch.nn.attention.varlen.varlen_attn for one query a row over pages, row by row. It refuses what flash attention
    refuses, counts the positions it reads, and `spoilt` may change how many of them a row sees."""

    def __init__(self, spoilt=lambda seen: seen):
        self.spoilt, self.read = spoilt, []

    def __call__(
        self, query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1),
        enable_gqa=False, seqused_k=None, block_table=None, num_splits=None,
    ):  # fmt: skip
        rows, size = len(query), key.shape[1]
        assert cu_seq_q.tolist() == list(range(rows + 1)) and max_q == 1
        assert cu_seq_k.tolist() == [max_k * row for row in range(rows + 1)] and max_k == size * block_table.shape[1]
        assert num_splits == 1 and (enable_gqa or key.shape[2] == query.shape[1])
        for one in (cu_seq_q, cu_seq_k, seqused_k, block_table):
            assert one.dtype == torch.int32 and one.is_contiguous()
        assert query.stride(-1) == key.stride(-1) == 1 and seqused_k.shape == (rows,)
        out = torch.empty_like(query)
        self.read.append(int(seqused_k.sum()))
        for row, (seen, pages) in enumerate(zip(self.spoilt(seqused_k).tolist(), block_table.tolist())):
            k, v = (
                x[pages].flatten(0, 1)[:seen].repeat_interleave(query.shape[1] // x.shape[2], 1) for x in (key, value)
            )
            left, right = window_size
            first = max(0, seen - 1 - left) if left >= 0 else 0
            assert (left, right) == (-1, -1) or right == 0
            weights = (torch.einsum("hd,lhd->hl", query[row], k[first:]) * (scale or query.shape[-1] ** -0.5)).softmax(
                -1
            )
            out[row] = torch.einsum("hl,lhd->hd", weights, v[first:])
        return out


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(sampler, "varlen_attn", kernel := Kernel())
    return kernel


def paged(model, page=8, **given):
    """A sampler that keeps its cache in pages."""
    made = Sampler(model, **given)
    made.page = page
    return made


def ids(groups):
    return [[completion.ids for completion in group] for group in groups]


@pytest.mark.parametrize(("heads", "window", "scaling"), [(4, None, None), (6, 5, 0.3), (2, 1, None), (2, 100, 1.0)])
def test_the_kernel_is_given_what_plain_attention_sees(heads, window, scaling, kernel):
    torch.manual_seed(0)
    size, seen = 4, torch.tensor([1, 4, 5, 11, 12], dtype=torch.int32)
    key, value = torch.randn(2, 20, size, 2, 8)
    table = torch.randperm(20)[:15].view(5, 3).int()
    query = torch.randn(5, heads, 8)
    begin = torch.arange(6, dtype=torch.int32) * torch.tensor([[1], [12]], dtype=torch.int32)
    ours = sampler.paged_attention(query, key, value, table, seen, begin, scaling, window)
    near = torch.arange(12) >= (seen - (window or 12))[:, None]
    mask = torch.where(near & (torch.arange(12) < seen[:, None]), 0.0, -torch.inf)
    rows = [x[table.long()].flatten(1, 2).transpose(1, 2) for x in (key, value)]
    plain, _ = sampler.attention(None, query[:, :, None], *rows, mask[:, None, None], scaling=scaling)
    assert torch.allclose(ours, plain[:, 0], atol=1e-5)


@pytest.mark.parametrize("kind", CLASSES)
def test_pages_give_what_whole_rows_give(kind, kernel, capsys):
    model, prompts = make_model(kind, tied=False), ragged_prompts()
    given, arguments = {"eos_ids": range(1, 97, 8), "slots": 5}, {"max_new_tokens": [30, 9, 17] * 3, "seed": 3}
    whole = Sampler(model, **given).sample(prompts, 3, **arguments)
    pages = paged(model, **given)
    capsys.readouterr()
    assert ids(pages.sample(prompts, 3, **arguments)) == ids(whole)
    because = {"gpt_oss": "no attention sinks", "deepseek_v3": "einsum"}.get(kind)  # the latter keeps no keys
    assert pages.by_kernel == (not because)
    said = capsys.readouterr().err
    assert because in said and said.count("\n") == 1 if because else not said
    gap = [abs(a - b) for g, h in zip(pages.sample(prompts, 3, **arguments), whole) for c, d in zip(g, h)
           for a, b in zip(c.logprobs, d.logprobs)]  # fmt: skip
    assert max(gap) < 1e-4 and not capsys.readouterr().err  # it is said once


def test_a_step_reads_each_row_s_own_positions_and_no_others(kernel):
    model, prompts = make_model(tied=False), ragged_prompts()
    pages = paged(model, eos_ids=(), slots=4)
    groups = pages.sample(prompts, 2, max_new_tokens=20)
    least = sum(len(p) + t for p, group in zip(prompts, groups) for c in group for t in range(len(c.ids)))
    first = kernel.read[0]  # is computed twice, to compare
    assert sum(kernel.read) == 2 * (least + first)  # of two layers


@pytest.mark.parametrize("spare", [0, 3])
def test_rows_that_find_no_pages_wait_and_go_on_later(spare, kernel):
    """Memory for the longest possible row, and `spare` pages more: rows that are short in fact run beside one
    another, and some are put back for the others' sake, even twice. What they say does not change."""
    model, prompts = make_model("qwen3_sliding", tied=False), ragged_prompts(7, longest=30)
    limits, given = [60, 5, 8, 40, 6, 50, 7], {"eos_ids": range(1, 97, 24)}
    roomy = Sampler(model, **given, slots=8)
    longest = max(len(p) + limit - 1 for p, limit in zip(prompts, limits))
    tight = paged(model, page=4, **given, slots=8, memory=(-(-longest // 4) + spare) * 4 * roomy.position_bytes)
    narrow = Sampler(model, **given, slots=8, memory=tight.memory)
    arguments = {"max_new_tokens": limits, "seed": 5}
    assert ids(tight.sample(prompts, 3, **arguments)) == ids(roomy.sample(prompts, 3, **arguments))
    assert tight.stats.cache_bytes <= tight.memory + 4 * tight.position_bytes + 2**17  # page 0; the prompts' batch
    narrow.sample(prompts, 3, **arguments)
    assert tight.stats.put_back > 0 and tight.stats.steps < 0.7 * narrow.stats.steps


def test_a_row_that_cannot_fit_is_refused_and_pages_are_given_back(kernel):
    model = make_model(tied=False)
    pages = paged(model, eos_ids=(), slots=3)
    cache = pages._cache(5, 20)
    assert (cache.rows, len(cache.free)) == (3, 9)
    pages.memory = 3 * 8 * pages.position_bytes - 1
    with pytest.raises(ValueError, match="lower max_new_tokens"):
        pages.sample([[5, 6, 7]], max_new_tokens=22)
    assert len(pages.sample([[5, 6, 7]], 4, max_new_tokens=14)[0]) == 4


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (None, "has none"),
        (Kernel(lambda seen: (seen - 1).clamp_min(1)), "% off those of plain attention"),
        (Kernel(lambda seen: seen + 1), "% off those of plain attention"),
        (lambda query, *_, **__: query * torch.nan, "nan% off"),
        (lambda *_, **__: 1 / 0, "division by zero"),
        (lambda query, key: query, "unexpected keyword|takes 2 positional"),
    ],
)
def test_a_kernel_that_is_missing_or_wrong_is_told_and_not_used(broken, says, monkeypatch, capsys):
    model, prompts = make_model(tied=False), ragged_prompts(4)
    plain = Sampler(model, eos_ids=(), slots=3).sample(prompts, 2, max_new_tokens=6)
    monkeypatch.setattr(sampler, "varlen_attn", broken)
    pages = paged(model, eos_ids=(), slots=3)
    assert ids(pages.sample(prompts, 2, max_new_tokens=6)) == ids(plain) and pages.by_kernel is False
    assert ids(pages.sample(prompts, 2, max_new_tokens=6)) == ids(plain)
    assert re.fullmatch(rf"sampling by plain attention, without [^\n]*({says})[^\n]*\n", capsys.readouterr().err)


def test_a_model_that_keeps_the_pages_to_itself_is_sampled_plainly(kernel, capsys):
    """One whose attention gets nothing but what its own code names: it would see the newest position alone."""

    class Closed(LlamaForCausalLM):
        def forward(self, *args, pages=None, **given):
            return super().forward(*args, **given)

    model = make_model("llama", tied=False)
    plain = ids(Sampler(model, eos_ids=()).sample(ragged_prompts(3), max_new_tokens=6))
    model.__class__ = Closed
    pages = paged(model, eos_ids=())
    assert ids(pages.sample(ragged_prompts(3), max_new_tokens=6)) == plain and pages.by_kernel is False
    assert "does not hand over" in capsys.readouterr().err


@pytest.mark.parametrize("fails", [False, True])
def test_steps_replayed_like_graphs_give_the_same_completions(fails, monkeypatch, kernel, capsys):
    """Steps in padded rows, recorded once for each number of rows and replayed; or not recorded, if that fails."""
    recorded = []

    class Graph:
        def __init__(self, decode, rows):
            self.logits = decode._step(rows, 1).clone()
            self.replay = lambda: self.logits.copy_(decode._step(rows, 1))

    def record(decode, rows):
        recorded.append(rows)
        if fails:
            raise RuntimeError("operation not permitted")
        decode.graphs[rows] = (graph := Graph(decode, rows)), graph.logits

    monkeypatch.setattr(sampler._PagedDecode, "_record", record)
    model = make_model("qwen3")
    prompts, limits = [[5], [9, 8, 7, 3, 2], list(range(3, 40)), [4, 4]], [3, 20, 11, 17]
    plain = Sampler(model, eos_ids=(2,), slots=6).sample(prompts, 3, max_new_tokens=limits)
    pages = paged(model, eos_ids=(2,), slots=6)
    pages.by_graph = True
    assert ids(pages.sample(prompts, 3, max_new_tokens=limits)) == ids(plain)
    said = capsys.readouterr().err
    if fails:
        assert said == "sampling without CUDA graphs: operation not permitted\n" and recorded == [6]
    else:
        assert recorded == [6, 4, 1] and not said


@pytest.mark.parametrize(("kind", "count"), [("qwen3", 9), ("llama", 5), ("gpt_oss", 5), ("gemma3", 0)])
def test_norms_in_one_kernel_give_the_same(kind, count):
    """Those of two layers and the last one; Qwen3's layers have four. Gemma's, which scale by 1 + w, are its own."""
    model, prompts = make_model(kind, tied=False), ragged_prompts(5)
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(weight)))
    plain = Sampler(model, eos_ids=(), slots=3)
    before = plain.sample(prompts, 2, max_new_tokens=12)
    plain.norms = sampler.norms(model)
    assert len(plain.norms) == count
    after = plain.sample(prompts, 2, max_new_tokens=12)
    assert ids(after) == ids(before) and not any("forward" in vars(module) for module in model.modules())
    gap = [abs(a - b) for g, h in zip(after, before) for c, d in zip(g, h) for a, b in zip(c.logprobs, d.logprobs)]
    assert max(gap) < 1e-4


def test_a_norm_of_another_kind_is_left_alone():
    class Doubled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.variance_epsilon = torch.nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, x):
            return 2 * self.weight * x / (x.square().mean(-1, keepdim=True) + self.variance_epsilon).sqrt()

    model = torch.nn.Sequential(Doubled(), torch.nn.RMSNorm(8), torch.nn.Linear(8, 8))
    assert sampler.norms(model) == []


def test_logits_are_not_rounded_to_the_precision_of_the_weights(monkeypatch):
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape).bfloat16() for shape in [(3, 1, 16), (50, 16), (50,)])
    exact = hidden.double() @ weight.double().t() + bias.double()
    assert (sampler.wide_logits(hidden, weight, bias) - exact).abs().max() < 1e-5
    model, seen = make_model(tied=False).bfloat16(), []
    monkeypatch.setattr(sampler, "choose", lambda logits, *more: seen.append(logits) or choose(logits, *more))
    Sampler(model, eos_ids=()).sample([[5, 6, 7]], max_new_tokens=3)
    assert all(not torch.equal(logits, logits.bfloat16().float()) for logits in seen) and len(seen) == 3
    assert model(torch.tensor([[5]])).logits.dtype == torch.bfloat16  # the model is as it was


@pytest.mark.parametrize("page", [None, 8])
def test_no_cache_outlives_a_call(page, kernel):
    """Not even until the garbage collector comes: on a GPU a dead cache is what the next call lacks."""
    gc.collect()
    gc.disable()
    try:
        sampler_ = paged(make_model(tied=False), page, eos_ids={1}, slots=3)
        sampler_.sample(ragged_prompts(), 2, max_new_tokens=5)
        assert not [thing for thing in gc.get_objects() if isinstance(thing, sampler.KVCache)]
    finally:
        gc.enable()
    assert sampler_.stats.cache_bytes and not sampler_.sample([], max_new_tokens=5)
    assert sampler_.stats == sampler.Stats()
