"""Saves are complete or absent, and resuming is exact (invariants 9, 10)."""

import copy
import errno
import json

import pytest
import torch
from tiny import make_model, make_tokenizer
from transformers import AutoModelForCausalLM

import checkpoint
import parallel


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(["one two three"])


def steps(model, optimizer, numbers):
    """Train on batches that follow from their number."""
    for number in numbers:
        ids = torch.randint(2, 97, (3, 9), generator=torch.Generator().manual_seed(number))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def make(tied=True):
    model = make_model(tied=tied)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


@pytest.mark.parametrize("tied", [True, False])
def test_resuming_is_bit_for_bit_the_uninterrupted_run(tmp_path, tokenizer, tied):
    model, optimizer = make(tied)
    steps(model, optimizer, range(5))
    straight = copy.deepcopy(model.state_dict())

    model, optimizer = make(tied)
    steps(model, optimizer, range(3))
    checkpoint.save(tmp_path, 3, model, tokenizer, optimizer)
    model, optimizer = make(tied)
    assert checkpoint.restore(checkpoint.newest(tmp_path), model, optimizer) == 3
    steps(model, optimizer, range(3, 5))
    assert all(torch.equal(p, straight[name]) for name, p in model.state_dict().items())
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


def test_tied_weights_are_tied_after_loading(tmp_path, tokenizer):
    model, optimizer = make()
    steps(model, optimizer, range(1))
    checkpoint.save(tmp_path, 1, model, tokenizer, optimizer)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "step-000001" / "model")
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), loaded.parameters(), strict=True))


def test_older_checkpoints_go_when_the_next_is_in_place(tmp_path, tokenizer):
    model, optimizer = make()
    for step in (1, 2, 3, 10):
        checkpoint.save(tmp_path, step, model, tokenizer, optimizer, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000003", "step-000010"]
    assert checkpoint.newest(tmp_path).name == "step-000010"
    assert checkpoint.newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("owner, dies_at", [(parallel, "write"), (checkpoint, "_checksums"), (checkpoint, "_sync")])
def test_a_save_that_fails_midway_leaves_the_last_good_one(tmp_path, tokenizer, monkeypatch, owner, dies_at):
    model, optimizer = make()
    checkpoint.save(tmp_path, 1, model, tokenizer, optimizer)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(owner, dies_at, full)
        with pytest.raises(OSError):
            checkpoint.save(tmp_path, 2, model, tokenizer, optimizer)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000001"]
    (tmp_path / ".step-000002" / "model").mkdir(parents=True)  # what a kill leaves
    assert checkpoint.newest(tmp_path).name == "step-000001"
    checkpoint.save(tmp_path, 2, model, tokenizer, optimizer)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000002"]


def test_another_model_s_checkpoint_is_refused(tmp_path, tokenizer):
    model, optimizer = make()
    checkpoint.save(tmp_path, 1, model, tokenizer, optimizer)
    other = make_model(hidden=64)
    with pytest.raises(ValueError, match="another model"):
        checkpoint.restore(checkpoint.newest(tmp_path), other, torch.optim.AdamW(other.parameters()))


def test_a_checkpoint_has_its_own_name(tmp_path, tokenizer):
    """By their names the newest is found, and older ones are removed."""
    model, optimizer = make()
    checkpoint.save(tmp_path, 2, model, tokenizer, optimizer)
    (tmp_path / "step-000002").rename(tmp_path / "step-000009")
    with pytest.raises(ValueError, match="step-000009 holds step 2: rename it to step-000002"):
        checkpoint.restore(checkpoint.newest(tmp_path), model, optimizer)


def test_the_step_is_in_plain_json(tmp_path, tokenizer):
    model, optimizer = make()
    checkpoint.save(tmp_path, 7, model, tokenizer, optimizer)
    state = json.loads((tmp_path / "step-000007" / "state.json").read_text())
    assert state["step"] == 7 and state["moments"] == 0
    assert state["checksums"].keys() >= {"model/model.safetensors", "model/config.json", "optimizer.safetensors"}
