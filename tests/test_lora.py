"""Adapters: the equation, what they leave alone, agreement of sampler and trainer, and what is kept of them."""

import copy
import json
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file
from test_train import batch_of, made_up, toy_trainer
from tiny import make_model
from transformers import AutoModelForCausalLM

import lora
import policy
import train
from policy import Policy
from train import Trainer

IDS = torch.tensor([[5, 6, 7, 8, 9, 3, 2]])


def adapted(kind="qwen3", rank=4, learnt=True):
    """A model with adapters that have learnt something at random, and the model as it was."""
    model = make_model(kind, sharp=1.0)
    before = copy.deepcopy(model)
    lora.adapt(model, rank, torch.float32)
    lora.begin(model, 0)
    torch.manual_seed(1)
    for name, p in lora.weights(model).items() if learnt else ():
        if "lora_B" in name:
            p.data.normal_(std=0.05)
    return model, before


@pytest.mark.parametrize("kind", ["qwen3", "llama", "qwen2", "gemma3", "deepseek_v3"])
def test_each_linear_layer_of_the_decoder_learns_a_difference(kind):
    """W + (32 / r) B A, written out, in a model without adapters."""
    model, before = adapted(kind)
    with torch.no_grad():
        assert (model(IDS).logits - before(IDS).logits).abs().max() > 1e-2
        with lora.off(model):
            assert torch.equal(model(IDS).logits, before(IDS).logits)
        learnt = {name: p.detach() for name, p in lora.weights(model).items()}
        layers = [n for n, m in before.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
        assert {f"base_model.model.{n}.lora_{w}.weight" for n in layers for w in "AB"} == learnt.keys()
        for name in layers:
            a, b = (learnt[f"base_model.model.{name}.lora_{which}.weight"] for which in "AB")
            before.get_submodule(name).weight += 32 / 4 * b @ a
        assert torch.allclose(model(IDS).logits, before(IDS).logits, atol=1e-5)
    state = before.state_dict()
    for name, tensor in lora.merged(model).items():
        assert torch.allclose(tensor, state[name], atol=1e-6), name


def test_it_begins_as_the_model_the_same_for_every_process():
    (model, before), (again, _) = adapted(learnt=False), adapted(learnt=False)
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, before(IDS).logits)
    for p, q in zip(lora.weights(model).values(), lora.weights(again).values()):
        assert torch.equal(p, q)
    assert all(p.abs().max() > 0 for name, p in lora.weights(model).items() if "lora_A" in name)


def test_the_update_moves_adapters_alone_and_the_reference_is_the_model_as_it_was():
    trainer = toy_trainer("--lora", "4", "--kl", "0.3", "--lr", "1e-2")
    frozen = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    as_it_was = copy.deepcopy(trainer.model)
    orig = made_up(6, False, 2)
    assert trainer.update(batch_of(orig), 9)["kl"] == pytest.approx(0, abs=1e-7)
    figures = trainer.update(batch_of(orig), 9)
    assert figures["kl"] > 1e-4
    assert all(torch.equal(p, frozen[n]) for n, p in trainer.model.named_parameters() if n in frozen)
    learnt = list(lora.weights(trainer.model).values())
    assert {id(p) for p in trainer.optimizer.state} == {id(p) for p in learnt}
    prompts, ids = [r.prompt for r in orig[0]], [r.ids for r in orig[0]]
    with torch.no_grad():
        reference, _ = trainer.reference(prompts, ids, 1.0)
        assert torch.allclose(reference, Policy(as_it_was)(prompts, ids)[0], atol=1e-6)
        assert (reference - trainer.network(prompts, ids)[0]).abs().max() > 1e-3


def test_sampler_and_trainer_agree():
    trainer = toy_trainer("--lora", "4", "--queries", "2", "--max-new-tokens", "20")
    for name, p in lora.weights(trainer.model).items():
        if "lora_B" in name:
            p.data.normal_(std=0.05)
    trainer.weights_to_sample.refresh()
    [group] = trainer.actor.sample([3], 0)
    with torch.no_grad():
        logprobs, _ = trainer.network([r.prompt for r in group], [r.ids for r in group], 1.0)
    assert (logprobs - torch.tensor([x for r in group for x in r.logprobs])).abs().max() <= 1e-4


@pytest.fixture
def begin(real_path, run_program):
    """Runs train.py with adapters on the real path."""
    sizes = ["--queries", 3, "--n-neg", 2, "--max-new-tokens", 30, "--max-synthesis-tokens", 99, "--lr", 1e-2]
    given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", *sizes, "--lora", 4]
    return lambda *argv: run_program(train.main, *(() if "--resume" in argv else given), *argv)


def test_a_run_keeps_an_adapter_and_goes_on_bit_for_bit(begin, real_path, tmp_path, monkeypatch):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert begin("--steps", 3, "--out", straight)[0] == 0
    original = Trainer.step
    with monkeypatch.context() as patch:
        patch.setattr(
            Trainer, "step", lambda self, n: (n == 2 and os.kill(os.getpid(), signal.SIGTERM)) or original(self, n)
        )
        assert begin("--steps", 3, "--out", stopped)[0] == 130
    assert (stopped / "adapter").exists() and not (stopped / "model").exists()
    size = sum(p.stat().st_size for p in (stopped / "checkpoints").rglob("*") if p.is_file())
    assert size < 0.5 * (real_path / "model" / "model.safetensors").stat().st_size
    code, said = begin("--resume", "--out", stopped)
    assert code == 0 and "2 of 3 steps done" in said
    adapters = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (straight, stopped)]
    assert adapters[0].keys() == adapters[1].keys()
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    assert any(p.abs().max() > 0 for name, p in adapters[0].items() if "lora_B" in name)

    merged = AutoModelForCausalLM.from_pretrained(straight / "model")
    model = policy.load_model(str(real_path / "model"))
    with torch.no_grad():
        assert (merged(IDS).logits - model(IDS).logits).abs().max() > 1e-4
        said = json.loads((straight / "adapter" / "adapter_config.json").read_text())
        for name, module in model.named_modules():
            if f"base_model.model.{name}.lora_A.weight" in adapters[0]:
                assert name.split(".")[-1] in said["target_modules"]
                a, b = (adapters[0][f"base_model.model.{name}.lora_{which}.weight"] for which in "AB")
                module.weight += said["lora_alpha"] / said["r"] * b @ a
        assert torch.allclose(merged(IDS).logits, model(IDS).logits, atol=1e-5)

    assert (straight / "model").is_symlink()
    weights = (straight / "model" / "model.safetensors").read_bytes()
    assert (stopped / "model" / "model.safetensors").read_bytes() == weights

    shutil.rmtree((straight / "model").resolve())  # as if it had been killed before it wrote that
    ((straight / "adapter").resolve().parent / ".model.123").mkdir()
    assert begin("--resume", "--out", straight)[0] == 0
    assert (straight / "model" / "model.safetensors").read_bytes() == weights
    assert not list((straight / "checkpoints").rglob(".model.*"))
    code, said = begin("--resume", "--out", straight)
    assert code == 2 and "has its 3 steps already" in said
    assert begin("--resume", "--out", straight, "--steps", 4)[0] == 0
    assert (straight / "model" / "model.safetensors").read_bytes() != weights

    peft = pytest.importorskip("peft")
    loaded = peft.PeftModel.from_pretrained(policy.load_model(str(real_path / "model")), straight / "adapter")
    with torch.no_grad():
        assert torch.allclose(loaded(IDS).logits, merged(IDS).logits, atol=1e-5)
