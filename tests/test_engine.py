"""Other engines in place of the sampler: transformers' continuous batching, and one with weights of its own."""

import pytest
import torch
from test_sampler import ids, ragged_prompts
from test_train import toy_trainer
from tiny import make_model

import train
from rollouts import CodeError, load_engine
from sampler import Sampler
from tools.continuous import ContinuousBatching

ELSEWHERE = """
import copy
from sampler import Engine, Sampler

class Elsewhere(Engine):
    def __init__(self, model, **given):
        super().__init__(model, **given)
        self.own, self.refreshed = Sampler(copy.deepcopy(model), **given), 0

    def sample(self, prompts, n=1, **how):
        return self.own.sample(prompts, n, **how)

    def refresh(self):
        self.own.model.load_state_dict(self.model.state_dict())
        self.refreshed += 1

def function(model):
    pass
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "engines.py").write_text(ELSEWHERE)
    return str(tmp_path / "engines.py")


def continuous(model, **given):
    """Of a size that a CPU warms up quickly."""
    return ContinuousBatching(model, num_blocks=32, page_size=32, max_batch_tokens=64, **given)


def test_continuous_batching_samples_greedily_what_the_sampler_does():
    model, prompts, ends = make_model(tied=False), ragged_prompts(4, longest=20), range(1, 97, 8)
    how = {"max_new_tokens": [12, 3, 9, 1], "temperature": 0}
    theirs = continuous(model, eos_ids=ends, slots=3).sample(prompts, 2, **how)
    ours = Sampler(model, eos_ids=ends).sample(prompts, 2, **how)
    assert ids(theirs) == ids(ours)
    for their, our in zip(sum(theirs, []), sum(ours, [])):
        assert their.finished == our.finished
        assert torch.allclose(torch.tensor(their.logprobs), torch.tensor(our.logprobs), atol=1e-4)
    assert ids(Sampler(model, eos_ids=ends).sample(prompts, 2, **how)) == ids(ours)  # the model is as it was


def test_continuous_batching_keeps_the_temperature_but_not_the_seeds():
    """Its log-probabilities are those under the temperature; a completion depends on the order of the prompts."""
    model, prompts = make_model(tied=False), ragged_prompts(3, longest=9)
    engine, how = continuous(model, eos_ids=()), {"max_new_tokens": 6, "temperature": 0.7, "seed": 3}
    groups = engine.sample(prompts, 2, **how)
    assert ids(engine.sample(prompts, 2, **how)) == ids(groups)
    assert ids(engine.sample(prompts[::-1], 2, **how)[::-1]) != ids(groups)
    with torch.no_grad():
        for prompt, group in zip(prompts, groups):
            for one in group:
                table = (model(torch.tensor([prompt + one.ids])).logits[0, len(prompt) - 1 : -1] / 0.7).log_softmax(-1)
                exact = table.gather(-1, torch.tensor(one.ids)[:, None])[:, 0]
                assert torch.allclose(torch.tensor(one.logprobs), exact, atol=1e-4)
    with pytest.raises(ValueError, match="top_p < 1"):
        engine.sample(prompts, max_new_tokens=6, top_p=0.9)
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        engine.sample([[1], []], max_new_tokens=6)
    assert engine.sample([], max_new_tokens=6) == []


def test_training_on_an_engine_with_weights_of_its_own_is_the_same(file):
    """Steps on its completions give the same weights, to the bit: so after each update it has the new ones."""
    flags = ["--algo", "grpo", "--queries", "2", "--k", "4", "--max-new-tokens", "12", "--lr", "0.01", "--warmup", "1"]
    plain, other = toy_trainer(*flags), toy_trainer(*flags, "--engine", f"{file}:Elsewhere")
    for trainer in (plain, other):
        rewards = iter(range(1000))
        trainer.actor.reward = lambda text, problem, rewards=rewards: float(next(rewards) % 3 == 0)
        trainer.actor.sampler.eos_ids = frozenset(range(0, 120, 5))  # an untrained model would seldom end
    other.actor.sampler.own.eos_ids = plain.actor.sampler.eos_ids
    start = [p.clone() for p in plain.model.parameters()]
    for number in range(3):
        plain.step(number)
        other.step(number)
    assert all(map(torch.equal, plain.model.parameters(), other.model.parameters()))
    assert not any(map(torch.equal, plain.model.parameters(), start)) and other.actor.sampler.refreshed == 3


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("absent.py:One", "name a Python file that exists and a class in it, FILE.py:CLASS"),
        ("{file}", "name a Python file that exists"),
        ("{file}:Absent", "AttributeError: .*Absent"),
        ("{file}:function", "TypeError: function is no subclass of sampler.Engine"),
        ("{file}:copy", "TypeError: copy is no subclass"),
    ],
)
def test_what_is_no_engine_is_refused(place, says, file):
    with pytest.raises(ValueError, match=f"^--engine [^\n]*{says}[^\n]*$"):
        load_engine(place.format(file=file))


def test_engines_are_found(file):
    assert load_engine(None) is Sampler
    assert load_engine("tools/continuous.py:ContinuousBatching").__name__ == "ContinuousBatching"
    assert load_engine(f"{file}:Elsewhere").__name__ == "Elsewhere"


OWN = """
import math
from dataclasses import replace
from sampler import Sampler

class Own(Sampler):
    def sample(self, prompts, n=1, **how):
        groups = super().sample(prompts, n, **how)
        one, size = groups[0][0], len(groups[0][0].ids)
        {}
        groups[0][0] = one
        return groups
"""
UNKEPT = {  # what an engine does, what is said, and the line: where it failed, or where `sample` is
    "raise ConnectionError('refused')": ("ConnectionError: refused", 10),
    "raise RuntimeError": ("RuntimeError", 10),
    "return None": ("it did not give 2 completions of each of 2 prompts", 7),
    "return groups[1:]": ("it did not give 2 completions", 7),
    "groups[1].pop()": ("it did not give 2 completions", 7),
    "one = None": ("AttributeError: 'NoneType' object has no attribute 'ids'", 7),
    "one = replace(one, ids=[], logprobs=[])": (
        "prompt 0 has 0 ids and 0 log-probabilities, where it may have 1 to 5",
        7,
    ),
    "one = replace(one, ids=[5] * 9, logprobs=[0.0] * 9)": ("has 9 ids", 7),
    "one = replace(one, logprobs=one.logprobs[1:])": ("log-probabilities, where", 7),
    "one = replace(one, logprobs=[math.nan] * size)": ("a log-probability that cannot be one", 7),
    "one = replace(one, logprobs=[0.5] * size)": ("a log-probability that cannot be one", 7),
    "one = replace(one, ids=[97] * size)": ("an id that is none of the model's 97", 7),
    "one = replace(one, ids=[-1] * size)": ("an id that is none", 7),
    "one = replace(one, ids=[5.0] * size)": ("an id that is none", 7),
    "one = replace(one, ids=[5] * size, finished=True)": ("the last id 5 and finished=True", 7),
}


@pytest.mark.parametrize("does", UNKEPT)
def test_what_an_engine_does_not_keep_is_told_with_file_and_line(tmp_path, does):
    (tmp_path / "own.py").write_text(OWN.format(does))
    engine = load_engine(f"{tmp_path}/own.py:Own")(make_model(), eos_ids=[1])
    says, line = UNKEPT[does]
    with pytest.raises(CodeError) as error:
        engine.sample([[5, 6], [7]], 2, max_new_tokens=5)
    assert str(error.value).startswith(f"--engine {tmp_path}/own.py:Own: ") and says in str(error.value)
    assert str(error.value).endswith(f"({tmp_path}/own.py, line {line})") and "\n" not in str(error.value)


def test_a_run_whose_engine_fails_is_saved(tmp_path, real_path, run_program):
    """In its third call; once that is mended the run goes on."""
    failing = OWN.format("Own.calls = getattr(Own, 'calls', 0) + 1\n        if Own.calls == 3: one = None")
    (tmp_path / "own.py").write_text(failing)
    given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", "--algo", "grpo", "--queries", 3]
    given += ["--max-new-tokens", 30, "--steps", 4, "--engine", f"{tmp_path}/own.py:Own", "--out", tmp_path / "run"]
    code, said = run_program(train.main, *given)
    assert code == 2 and "saved step 2" in said and "Traceback" not in said
    assert said.splitlines()[-1].endswith(f"no attribute 'ids' ({tmp_path}/own.py, line 7)")
    (tmp_path / "own.py").write_text(OWN.format("pass"))
    code, said = run_program(train.main, "--resume", "--out", tmp_path / "run")
    assert code == 0 and "2 of 4 steps done" in said and "saved step 4" in said
