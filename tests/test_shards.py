"""Models are read, written and gone on with shard by shard, by any number of processes (invariants 9 to 11, 13)."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from shards import ROWS
from test_parallel import HERE, finish, processes
from test_policy import SMALL
from tiny import make_model, make_tokenizer
from transformers import AutoModelForCausalLM, Cohere2Config

import checkpoint
import policy


def shards(count, out, *given, local=None):
    """What tests/shards.py found in `count` processes."""
    out.mkdir()
    finish(processes(count, HERE / "shards.py", out, *given, local=local))
    return torch.load(out / "found.pt", weights_only=True)


def change(folder, name, how):
    """A copy of a model folder whose weights were changed."""
    shutil.copytree(folder, folder.with_name(name))
    weights = load_file(folder.with_name(name) / "model.safetensors")
    how(weights)
    save_file(weights, folder.with_name(name) / "model.safetensors", metadata={"format": "pt"})


def said(file):
    """What a JSON object says, but for what is false."""
    return {name: value for name, value in json.loads(file.read_text()).items() if value is not False}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Model folders of several kinds, in files as they are found in the wild, and a cache of the hub."""
    home = tmp_path_factory.mktemp("models")
    tokenizer = make_tokenizer(["one two"], vocab=264)
    for name, kind, given in [
        ("tied", "qwen3", {}), ("untied", "qwen3", {"tied": False}), ("odd", "qwen2", {"vocab": 271, "hidden": 40}),
        ("rotary", "gpt_oss", {}), ("windows", "gemma3", {}), ("experts", "qwen3_moe", {}),
        ("buffers", "deepseek_v3", {"layers": 3}),
    ]:  # fmt: skip
        model = make_model(kind, **({"vocab": 268} | given), sharp=1.0)
        if name == "buffers":
            dict(model.named_buffers())["model.layers.2.mlp.gate.e_score_correction_bias"].fill_(0.5)
        policy.save(model, tokenizer, home / name)
    model = AutoModelForCausalLM.from_pretrained(home / "untied", dtype=torch.bfloat16)
    model.save_pretrained(home / "halves", max_shard_size="60KB")  # bfloat16, in several files, with an index
    tokenizer.save_pretrained(home / "halves")
    (home / "halves" / "generation_config.json").unlink()
    snapshot = home / "hub" / "models--own--tiny" / "snapshots" / "abc"
    shutil.copytree(home / "halves", snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    AutoModelForCausalLM.from_config(Cohere2Config(**SMALL | {"vocab_size": 268})).save_pretrained(home / "scaled")
    tokenizer.save_pretrained(home / "scaled")
    change(home / "tied", "missing", lambda w: w.pop("model.norm.weight"))
    change(home / "tied", "more", lambda w: w.update({"model.other.weight": torch.ones(2)}))
    change(home / "tied", "shapes", lambda w: w.update({"model.norm.weight": torch.ones(2)}))
    change(home / "tied", "nan", lambda w: w["model.norm.weight"][-1:].fill_(float("nan")))
    change(home / "tied", "no-file", lambda w: None)
    (home / "no-file" / "model.safetensors").unlink()
    change(home / "tied", "cut", lambda w: None)
    (home / "cut" / "model.safetensors").write_bytes((home / "tied" / "model.safetensors").read_bytes()[:-9])
    return home


GOOD = ["tied", "untied", "odd", "rotary", "windows", "experts", "buffers", "halves", "own/tiny"]
BAD = ["missing", "more", "shapes", "nan", "scaled", "no-file", "cut"]


@pytest.mark.parametrize("count, local, good, bad", [(2, None, GOOD, BAD), (4, 2, ["odd", "experts"], ["nan"])])
def test_a_model_in_shards_is_the_model(models, tmp_path, monkeypatch, count, local, good, bad):
    """Its weights and log-probabilities, the copy to sample with, and every byte that is written of it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(models / "hub"))
    paths = [str(models / name) if "/" not in name else name for name in good + bad]
    study = shards(count, tmp_path / "out", "study", *paths, local=local)
    for number, (name, path) in enumerate(zip(good, paths)):
        found = study["found"][path]
        plain, tokenizer = policy.load(str(models / "halves") if name == "own/tiny" else path)
        weights = plain.state_dict()
        for kind in ("weights", "whole", "sampled"):
            assert found[kind].keys() == weights.keys()
            assert all(torch.equal(found[kind][key], weights[key]) for key in weights), (name, kind)
        with torch.no_grad():
            assert torch.equal(found["logits"], plain(torch.tensor([[5, 6, 7, 8]])).logits)
            assert torch.allclose(found["logprobs"], policy.Policy(plain)(*ROWS)[0], atol=1e-5)
        policy.save(plain, tokenizer, tmp_path / name)
        plain.save_pretrained(tmp_path / f"{name}-theirs")
        written = tmp_path / "out" / str(number)
        for file in (tmp_path / name).iterdir():
            if file.name == "generation_config.json":  # made of config.json where there is none: with what is false
                assert said(file) == said(written / file.name)
            elif file.name != "tokenizer_config.json" or name != "own/tiny":  # which says where it came from
                assert file.read_bytes() == (written / file.name).read_bytes(), (name, file.name)
        theirs = tmp_path / f"{name}-theirs" / "model.safetensors"
        assert theirs.read_bytes() == (written / "model.safetensors").read_bytes()
        sizes = [size[path] for size in study["sizes"]]
        each = sum(p.nbytes for p in plain.parameters()) / (local or count)
        assert max(sizes) < 1.1 * each + 4096 and sum(sizes) >= each  # rows that cannot be dealt out evenly
    for path in paths[len(good) :]:
        with pytest.raises(ValueError) as refused:
            policy.load(path)
        assert study["found"][path] == str(refused.value)


def test_a_checkpoint_of_two_processes_goes_on_with_one_and_with_four(models, tmp_path):
    """Whoever writes it again writes the same bytes."""
    names = ["odd", "experts"]
    shards(2, tmp_path / "two", "begin", *(models / name for name in names))
    saved = [checkpoint.newest(tmp_path / "two" / str(i)) for i in range(len(names))]
    for count, local in ((1, None), (4, 2), (4, None)):
        out = tmp_path / f"{count}{local}"
        shards(count, out, "again", *saved, local=local)
        for number, first in enumerate(saved):
            second = checkpoint.newest(out / str(number))
            assert first.name == second.name == "step-000002"
            for name in ("model/model.safetensors", "optimizer.safetensors"):
                assert (first / name).read_bytes() == (second / name).read_bytes()
    moments = load_file(saved[0] / "optimizer.safetensors")
    assert moments["model.norm.weight.step"] == 2 and moments["model.norm.weight.exp_avg_sq"].gt(0).all()
    assert load_file(saved[0] / "model" / "model.safetensors").keys() <= {n.rpartition(".")[0] for n in moments}
