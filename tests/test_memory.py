"""The plan of memory against counted bytes of small models, and against what a review computed of large ones."""

import json
import logging

import pytest
import torch
from processes import start
from tiny import CLASSES, WINDOWED, Alive, make_model, make_tokenizer
from transformers import Qwen3Config

import config
import lora
import parallel
import policy
import train
from policy import Policy
from sampler import PAGE, Sampler, windows
from tools import memory, plan
from tools.memory import GIB, Plan

QWEN3 = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960}
SIZES = {  # of Qwen3: hidden size, intermediate size, layers, heads, tied
    "0.6B": (1024, 3072, 28, 16, True),
    "1.7B": (2048, 6144, 28, 16, True), "4B": (2560, 9728, 36, 32, True), "8B": (4096, 12288, 36, 32, False),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet():
    """transformers warns of its tiny gpt-oss."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def qwen3(size):
    hidden, intermediate, layers, heads, tied = SIZES[size]
    return Qwen3Config(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        tie_word_embeddings=tied, **QWEN3,
    )  # fmt: skip


def planned(model_config, processes=1, memory_of=80 * GIB, gpu=True, prompt=512, **given):
    return Plan(model_config, config.settle(config.Training, given), processes, memory_of, prompt, gpu)


# ------------------------------------------------------------------------------------------------------- counted bytes


@pytest.mark.parametrize("kind", CLASSES)
def test_the_cache_takes_what_is_said(kind):
    model = make_model(kind)
    sampler = Sampler(model, slots=3)
    assert memory.position_bytes(model.config, 4) == sampler.position_bytes
    sampler.sample([[5], [6], [7]], 2, max_new_tokens=9)  # prompts of one token: nothing to prefill
    assert sampler.stats.cache_bytes == 3 * 9 * memory.position_bytes(model.config, 4)


@pytest.mark.parametrize("kind", ["qwen3", "llama", "qwen2"])
def test_weights_gradients_and_moments(kind):
    model = make_model(kind)
    optimizer = torch.optim.AdamW(model.parameters())
    Policy(model)([[1, 2]], [[3, 4]])[0].sum().backward()
    optimizer.step()
    moments = sum(v.nbytes for state in optimizer.state.values() for v in state.values())
    said = planned(model.config, gpu=False)
    assert said.update["weights"] == sum(p.nbytes for p in model.parameters())
    assert said.update["gradients"] == sum(p.grad.nbytes for p in model.parameters())
    assert said.update["moments"] == pytest.approx(moments, rel=0.01)  # beside them each has counted its steps


def saved(model, tokens):
    """What a forward of one row of `tokens` tokens saves for its backward, without weights: the bytes of each decoder
    layer, and of the rest."""
    layers, place, found, seen = policy.decoder_layers(model), [-1], {}, set()
    weights = {p.untyped_storage()._cdata for p in model.parameters()}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in seen | weights:
            seen.add(storage._cdata)
            found.setdefault(place[0], []).append(storage)  # kept, so that no other gets its address
        return tensor

    for i, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda *_, i=i: place.__setitem__(0, i))
        layer.register_forward_hook(lambda *_: place.__setitem__(0, -1))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = model.base_model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=False)  # noqa: F841
        sizes = {i: sum(storage.nbytes() for storage in some) for i, some in found.items()}
    return [sizes[i] for i in range(len(layers))], sizes[-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["qwen3", "llama", "qwen2", "qwen3_moe", "deepseek_v3", *WINDOWED])
def test_what_is_saved_for_the_backward(kind, dtype):
    """Layer by layer, of a forward on the CPU, with tokens beyond the windows."""
    model, tokens, c = make_model(kind, hidden=64).to(dtype), 192, dtype.itemsize
    layers, rest = saved(model, tokens)
    if kind == "deepseek_v3":  # whose keys and values differ in size: a CPU keeps the scores of 4 heads, in float32
        layers = [layer - 4 * 4 * tokens**2 for layer in layers]
    for layer, window, counted in zip(policy.decoder_layers(model), windows(model.config), layers):
        said = tokens * memory.layer_bytes(model.config, layer, tokens, c, window)
        assert said == pytest.approx(counted, rel=0.25)
    said = memory.activation_bytes(model, tokens, tokens, c, False)
    assert said == pytest.approx(sum(layers) + rest, rel=0.25)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("kind", ["qwen3", "llama", "qwen2", "mistral"])
def test_the_peak_of_an_update(kind, again):
    """All that is alive at once, of a forward and backward on the CPU: activations, gradients and a chunk's logits."""
    model = make_model(kind, vocab=997, hidden=64, layers=4, sharp=1.0)
    if again:
        policy.recompute(model)
    with Alive(997) as alive:
        Policy(model, 16)([[1, 2]], [[3] * 298])[0].sum().backward()
    table = 4 * 16 * 997
    assert alive.table == memory.TABLES * table
    said = memory.activation_bytes(model, 300, 300, 4, again) + memory.TABLES * table
    said += 4 * sum(p.numel() for p in model.parameters())
    assert said == pytest.approx(alive.peak, rel=0.1)


def gathered(folder, tied, half, rank, again):
    """In one of two processes: the peak of a forward and backward with hardly any tokens, and what is said of it."""
    model = make_model(vocab=1000, hidden=128, layers=4, tied=bool(tied), sharp=1.0)
    dtype, kind = torch.bfloat16 if half else torch.float32, parallel.MixedPrecisionPolicy
    if half:  # as on a GPU
        parallel.MixedPrecisionPolicy = lambda: kind(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    if rank:
        lora.adapt(model, rank, dtype)
        lora.begin(model, 0)
    said = memory.gathered_bytes(model, dtype.itemsize)
    network = policy.sharded(Policy(model), again)

    def backward():
        network([[1, 2]], [[3, 4, 5]])[0].sum().backward()

    def unseen(collective):
        """What gloo copies is no FSDP's, and no GPU's."""

        def work(*given, **more):
            with torch.utils._python_dispatch._disable_current_modes():
                return collective(*given, **more)

        return work

    for name in {"reduce_scatter_single", "reduce_scatter_tensor"} & {*dir(torch.distributed)}:
        setattr(torch.distributed, name, unseen(getattr(torch.distributed, name)))
    backward()  # now gradients have their memory
    known = [parallel.rows(x)[0] for p in model.parameters() for x in (p, p.grad) if x is not None]
    with Alive(known=known) as alive:
        backward()
    (folder / f"{parallel.rank()}.json").write_text(json.dumps([alive.peak, said]))


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(("tied", "half", "rank"), [(1, 1, 0), (0, 1, 0), (1, 0, 0), (1, 1, 4), (1, 0, 4)])
def test_what_a_backward_gathers(tmp_path, tied, half, rank, again):
    """In float32 as on CPUs, in bfloat16 as on GPUs; all of the model and adapters; with gradient checkpointing."""
    assert start(2, gathered, tmp_path, tied, half, rank, again) == [0, 0]
    for number in range(2):
        counted, said = json.loads((tmp_path / f"{number}.json").read_text())
        assert said == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize(("given", "enough"), [(2**30, True), (2**22, False)])
def test_the_pages_are_the_sampler_s(given, enough):
    """As many as all rows take at their longest, or as its memory holds."""
    model = make_model(context=4096)
    said = planned(model.config, memory_of=given, prompt=700, max_new_tokens=837, queries=3, k=8, slots=64, algo="grpo")
    sampler = Sampler(model, slots=64, memory=int(memory.SHARE * (said.usable - sum(said.held.values()))))
    sampler.page, sampler.position_bytes = PAGE, memory.position_bytes(model.config, 2)
    cache = sampler._cache(24, 1536)
    assert (said.most, said.slots["responses"]) == (cache.rows, cache.pages // 6) and said.most == 24
    assert said.sampling["cache"] == (1 + cache.pages) * PAGE * sampler.position_bytes
    assert said.rows["responses"] == 6 * PAGE * sampler.position_bytes
    assert (cache.pages == 24 * 6) == enough
    told = said.row("responses")
    assert told.startswith(f"{cache.pages // 6} responses of full length") and ("shorter" in told) != enough


# -------------------------------------------------------------------------------------------------------- large models


@pytest.mark.parametrize(("size", "kib"), [("1.7B", 110), ("4B", 166), ("8B", 210)])
def test_activations_of_large_models(size, kib):
    """A token and layer, as measured on a CPU."""
    model = policy.skeleton(qwen3(size), torch.bfloat16)
    said = memory.layer_bytes(model.config, policy.decoder_layers(model)[0], 64, 2)
    assert said / 1024 == pytest.approx(kib, rel=0.01)


@pytest.mark.parametrize(("size", "rank", "measured"), [("0.6B", 0, 13.216395776), ("8B", 32, 41.496024576)])
def test_an_update_on_a_gpu(size, rank, measured):
    """GB at the peak, as docs/bench/gpu.txt has them of an H100: updates of 8,192 tokens, four rows of 2,048."""
    given = {"algo": "grpo", "queries": 4, "k": 2, "max_new_tokens": 64, "kl": 0.0, "lora": rank}
    said = planned(qwen3(size), prompt=8, micro_batch_tokens=8192, gradient_checkpointing=True, **given)
    assert said.peak / 1e9 == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize(
    ("size", "processes", "sampling", "update", "again"),  # GB a GPU, the update by 16,384 tokens
    [
        ("1.7B", 1, 24, 89, 41), ("1.7B", 8, 6, 65, 17), ("4B", 1, 56, 180, 86), ("4B", 8, 14, 124, 29),
        ("8B", 4, 41, 191, 73), ("8B", 8, 29, 175, 56),
    ],
)  # fmt: skip
def test_large_models_beside_a_table_that_was_computed_elsewhere(size, processes, sampling, update, again):
    """It gathered more than FSDP2 turned out to do: 8 bytes for what is in no layer, 10 for those of one layer."""
    said = planned(qwen3(size), processes)
    layers = policy.decoder_layers(policy.skeleton(qwen3(size), torch.bfloat16))
    each = sum(p.numel() for p in layers[0].parameters())
    more = 8 * (said.parameters - len(layers) * each) + 10 * each - said.update["gathered"]
    assert 0 < more < 7e9
    assert sum(said.held.values()) / 1e9 == pytest.approx(sampling, rel=0.05)
    assert (more + sum(said.update.values())) / 1e9 == pytest.approx(again, rel=0.1)
    said = said.changed(gradient_checkpointing=False)
    assert (more + sum(said.update.values())) / 1e9 == pytest.approx(update, rel=0.1)


def test_what_makes_a_model_fit():
    eight = qwen3("8B")
    assert planned(eight, 8).fits
    assert planned(eight, 8, gradient_checkpointing=False).advice() == "; it fits with --gradient-checkpointing"
    small = planned(eight, 8, 46 * GIB, max_new_tokens=4096)
    assert small.advice() == "; it fits with --micro-batch-tokens 5120" and small.changed(micro_batch_tokens=5120).fits
    assert not planned(eight, 1).fits
    assert planned(eight, 1).advice() == "; it fits with --lora 32, or with 4 GPUs --micro-batch-tokens 9216"
    one = planned(eight, 1, lora=32)
    assert one.fits and one.slots["responses"] > 20  # 8 B on one GPU
    assert one.trained == sum(
        32 * (i + o) * 36 for i, o in [(4096, 4096)] * 2 + [(4096, 1024)] * 2 + [(4096, 12288)] * 3
    )
    for found in (planned(eight, 8), planned(eight, 1)):
        assert found.fits == (found.needed <= found.usable)
    reference = planned(eight, 8, kl=0.1).held
    assert not planned(eight, 8, kl=0.1, lora=8).held["reference"]
    assert reference["reference"] == reference["weights"]


# ------------------------------------------------------------------------------------------------------- the programs


def test_the_program_needs_a_config_alone(tmp_path, run_program):
    qwen3("8B").save_pretrained(tmp_path)
    for model in (tmp_path, tmp_path / "config.json"):
        code, said = run_program(plan.main, "--model", model, "--gpus", 8, "--memory", 80)
        assert code == 0 and said.strip().endswith("it fits")
        assert "8.4 GiB" in said or "8.2 GiB" in said  # of activations
    code, said = run_program(plan.main, "--model", tmp_path, "--gpus", 1, "--memory", 80)
    assert code == 0 and "it does not fit" in said and "4 GPUs" in said
    code, said = run_program(plan.main, "--model", tmp_path, "--prompt-tokens", 99999999999)
    assert code == 2 and "the model's context holds 40960 tokens: lower --prompt-tokens and" in said
    code, said = run_program(plan.main, "--model", tmp_path / "absent.json")
    assert code == 2 and "no model could be loaded" in said


def test_training_says_its_memory_and_refuses_what_cannot_fit(tmp_path, run_program, monkeypatch):
    model = make_model(vocab=600, context=256)
    policy.save(model, make_tokenizer(["one two"]), tmp_path / "model")
    (tmp_path / "problems.jsonl").write_text(json.dumps({"problem": "1 + 1?", "answer": "2"}) + "\n")
    given = ["--model", tmp_path / "model", "--data", tmp_path / "problems.jsonl", "--algo", "grpo", "--steps", 1]
    given += ["--queries", 1, "--k", 2, "--max-new-tokens", 5]
    for number, (gpu, room, code, words) in enumerate([
        (False, GIB, 0, "memory, GiB: of a process's 0.9 GiB"),
        (False, 2**10, 0, "warning: 0.3 GiB of memory are needed, and 0.0 are there"),
        (True, 2**10, 2, "error: 0.3 GiB of memory are needed"),
    ]):  # fmt: skip
        monkeypatch.setattr(parallel, "memory", lambda gpu=gpu, room=room: (gpu, room))
        ended, said = run_program(train.main, *given, "--out", tmp_path / str(number))
        assert ended == code and words in said and said.count("memory, GiB: ") == 3
        assert ("are needed" in said) == (room < GIB)
