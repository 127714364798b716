"""What is known of a response, its reward and whether it reflects: each decided once, by whatever decides it."""

import json
from collections import Counter
from dataclasses import FrozenInstanceError

import pytest
import test_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_coldstart import PROBLEMS, TOKENIZER, Scripted
from test_eval import refused, run
from tiny import logprobs_one_at_a_time, make_model

import config
import data
import metrics
import parallel
import policy
import reflect
import rollouts
import toy
import train
from reflect import REFLECTIONS, reflects
from rollouts import Actor, CodeError, Response, load_reward
from tools import rescore
from verifier import verify

SAID = {  # what the scripted policy says to the first two problems; their answers are 2 and 4
    "2": ["It is \\boxed{2}.", "Wait, \\boxed{3}.", "good good", "good..."],
    "4": ["no", "\\boxed{4}", "bad", "bad and so on..."],
}


def respond(prompt, index):
    return SAID[next(p.answer for p in PROBLEMS if p.question in prompt)][index]


def an_actor(monkeypatch, reward=rollouts.exact, respond=respond):
    monkeypatch.setattr(rollouts, "Sampler", Scripted(respond))
    sampling = config.Sampling(k=4, max_new_tokens=60, max_synthesis_tokens=60, slots=4)
    model = make_model(vocab=len(TOKENIZER), context=2048)
    return Actor(model, TOKENIZER, PROBLEMS[:2], sampling, seed=0, reward=reward, constructs=False)


@pytest.fixture
def reward_in(tmp_path):
    """Writes a file of this text, and names the function `reward` in it as --reward does."""

    def write(text, name="rewards.py"):
        (tmp_path / name).write_text(text)
        return f"{tmp_path / name}:reward"

    return write


# ----------------------------------------------------------------------------------------------------------- the reward

SHARES = """
from data import Problem

def reward(text, problem):
    assert isinstance(problem, Problem) and not text.endswith("..."), "a cut response is not looked at"
    return text.count("good") / 4 if problem.answer == "2" else text == "bad"
"""


def test_a_reward_from_a_file_is_what_the_actor_rewards_by(monkeypatch, reward_in):
    """Above 0 is right; floats are kept as they are, bools become 0 and 1, and a cut response gets 0 unseen."""
    groups = an_actor(monkeypatch, load_reward(reward_in(SHARES))).sample([0, 1], 0)
    assert [[r.reward for r in group] for group in groups] == [[0, 0, 0.5, 0], [0, 0, 1, 0]]
    assert [[r.correct for r in group] for group in groups] == [[False, False, True, False]] * 2
    assert all(type(r.reward) is float for group in groups for r in group)
    assert [[r.finished for r in group] for group in groups] == [[True, True, True, False]] * 2


def test_evaluation_rewards_by_the_same(reward_in):
    prompts = data.prompts_of(PROBLEMS[:2], TOKENIZER, data.TEMPLATES)
    given = (TOKENIZER, PROBLEMS[:2], prompts, 4)
    responses = rollouts.evaluate(Scripted(respond), *given, load_reward(reward_in(SHARES)), max_new_tokens=60)
    assert [r.reward for r in responses] == [0, 0, 0.5, 0, 0, 0, 1, 0]
    assert [r.query for r in responses] == [0] * 4 + [1] * 4 and responses[4].prompt == prompts[1]
    assert metrics.summary([r.row() for r in responses])["pass@1"] == 1 / 4


def test_without_one_the_verifier_decides(monkeypatch):
    assert load_reward(None) is rollouts.exact
    for group, problem in zip(an_actor(monkeypatch).sample([0, 1], 0), PROBLEMS):
        assert [r.reward for r in group] == [float(r.finished and verify(r.text, problem.answer)) for r in group]
        assert sum(r.correct for r in group) == 1


def test_a_reward_below_0_is_not_right(monkeypatch, reward_in):
    place = reward_in(f"{HEAD}return -0.5\n")
    [group] = an_actor(monkeypatch, load_reward(place)).sample([0], 0)
    assert [(r.reward, r.correct) for r in group] == [(-0.5, False)] * 3 + [(0, False)]


HEAD = "def reward(text, problem):\n    "
IN_USE = {  # what is wrong: the file, what is said when the function is called, and the line: its first if none failed
    "raises": (f"\n{HEAD}return 1 / 0\n", "ZeroDivisionError", 3),
    "raises within a library": (f"import json\n{HEAD}return json.loads(text)\n", "JSONDecodeError", 3),
    "raises within a helper": (f"{HEAD}return f()\n\ndef f():\n    raise ValueError('two\\nlines')\n", "two lines", 5),
    "no Python in a text": (f"import ast\n{HEAD}return ast.literal_eval(text + '(')\n", "SyntaxError", 3),
    "NaN": (f"{HEAD}return float('nan')\n", "nan, not a finite number", 1),
    "infinite": (f"{HEAD}return -float('inf')\n", "-inf, not a finite number", 1),
    "a string": (f"{HEAD}return '1'\n", "not str", 1),
    "nothing": (f"{HEAD}pass\n", "not NoneType", 1),
    "too large": (f"{HEAD}return 10**400\n", "too large", 1),
    "one parameter": ("def reward(text):\n    return 1\n", "2 were given", 1),
}
AT_ONCE = {  # ... what is said when it is loaded
    "syntax": ("x = 1\ndef reward(text problem):\n    return 1\n", "SyntaxError: ", 2),
    "indentation": (f"{HEAD}x = 1\n      return 1\n", "IndentationError: ", 3),
    "an import": ("x = 1\n\nimport nothing_of_this_name\n", "nothing_of_this_name", 3),
    "another name": ("def other(text, problem):\n    return 1\n", "reward", None),
    "no function": ("reward = 3\n", "reward", None),
}


@pytest.fixture(params=["absolute", "relative"])
def named(request, tmp_path, monkeypatch, reward_in):
    """`reward_in`, and the file is named with its whole path, or as in the folder where the program runs."""

    def write(text):
        place = reward_in(text)
        if request.param == "relative":
            monkeypatch.chdir(tmp_path)
            place = "rewards.py:reward"
        return place

    return write


def one_sentence(error, place, said, line):
    sentence = str(error.value)
    assert sentence.startswith(f"--reward {place}: ") and said in sentence and "\n" not in sentence
    if line:
        assert sentence.endswith(f"rewards.py, line {line})") and sentence.count(", line ") == 1


@pytest.mark.parametrize("wrong", IN_USE)
def test_a_reward_that_fails_is_told_with_file_and_line(wrong, named, monkeypatch):
    text, *told = IN_USE[wrong]
    place = named(text)
    reward = load_reward(place)
    with pytest.raises(CodeError) as error:
        reward("text", PROBLEMS[0])
    one_sentence(error, place, *told)
    with pytest.raises(CodeError) as error:
        an_actor(monkeypatch, reward).sample([0], 0)
    one_sentence(error, place, *told)


def test_a_reward_that_swallows_a_stop_is_stopped_all_the_same(reward_in, monkeypatch):
    monkeypatch.setattr(config, "_asked", 1.0)
    with pytest.raises(KeyboardInterrupt):
        load_reward(reward_in(f"{HEAD}return 1\n"))


@pytest.mark.parametrize("wrong", AT_ONCE)
def test_a_file_without_a_reward_is_told_before_anything_is_sampled(wrong, named):
    text, *told = AT_ONCE[wrong]
    place = named(text)
    with pytest.raises(CodeError) as error:
        load_reward(place)
    one_sentence(error, place, *told)


def test_a_mistake_in_a_file_that_is_imported_is_told_with_that_file(tmp_path, monkeypatch, reward_in):
    (tmp_path / "helper_of_rewards.py").write_text("x = 1\n\ny = (\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CodeError) as error:
        load_reward(reward_in("import helper_of_rewards\n"))
    assert "SyntaxError: " in str(error.value) and str(error.value).endswith("helper_of_rewards.py, line 3)")


def test_what_names_no_file_is_told(tmp_path):
    (tmp_path / "rewards.txt").write_text("def reward(text, problem):\n    return 1\n")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "rewards.py").write_text("def reward(text, problem):\n    return 1\n")
    for name in ("absent.py:reward", "rewards.txt:reward", "folder.py:reward", "rewards.py", "rewards.py:", ":reward"):
        with pytest.raises(CodeError, match=r"a Python file that exists and a function in it") as error:
            load_reward(f"{tmp_path}/{name}")
        assert str(error.value).startswith(f"--reward {tmp_path}/{name}: ") and "\n" not in str(error.value)


def test_a_reward_file_may_hold_whatever_a_module_holds(reward_in):
    """Such as dataclasses, which look their module up."""
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Weights:\n"
    text += f"    right: float = 0.75\n\n\n{HEAD}return Weights().right * (text == problem.answer)\n"
    reward = load_reward(reward_in(text))
    assert reward("2", PROBLEMS[0]) == 0.75 and reward("3", PROBLEMS[0]) == 0
    other = load_reward(reward_in(f"{HEAD}return True\n", "others.py"))
    assert other("3", PROBLEMS[0]) == 1 and reward("3", PROBLEMS[0]) == 0  # two files do not get into each other's way


# ------------------------------------------------------------------------------------------------- the reward, programs


@pytest.fixture
def training(real_path, tmp_path):
    given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", "--out", tmp_path / "run"]
    return [*given, "--algo", "grpo", "--queries", 2, "--steps", 1, "--max-new-tokens", 60]


def test_train_ends_with_the_sentence_of_a_reward_that_fails(training, tmp_path, monkeypatch, capsys, reward_in):
    place = reward_in("def reward(text, problem)\n    return 1\n")
    said = refused(monkeypatch, capsys, *training, "--reward", place, program=train)
    assert "SyntaxError" in said and "rewards.py, line 1)" in said
    absent = tmp_path / "absent.py:reward"
    assert "a Python file that exists" in refused(monkeypatch, capsys, *training, "--reward", absent, program=train)
    assert not (tmp_path / "run").exists()  # it was told before anything was begun

    reward_in(f"{HEAD}return {{}}[problem.answer]\n")
    said = refused(monkeypatch, capsys, *training, "--reward", place, program=train)
    assert f"error: --reward {place}: KeyError" in said and said.endswith("rewards.py, line 2)")
    reward_in(f"{HEAD}return 1\n")  # it was mended
    run(monkeypatch, capsys, "--resume", "--out", tmp_path / "run", program=train)
    [figures] = map(json.loads, (tmp_path / "run" / "metrics.jsonl").open())
    assert figures["accuracy"] == 1 - figures["cut"] > 0


def test_a_run_keeps_the_reward_that_it_was_begun_with(training, tmp_path, monkeypatch, capsys, reward_in):
    place = reward_in(f"{HEAD}return 0.25 * text.startswith('The sum gives')\n")
    run(monkeypatch, capsys, *training, "--reward", place, program=train)
    [figures] = map(json.loads, (tmp_path / "run" / "metrics.jsonl").open())
    assert 0 < figures["reward_mean"] == 0.25 * figures["accuracy"]
    more = ["--resume", "--out", tmp_path / "run", "--steps", 2, "--reward"]
    said = refused(monkeypatch, capsys, *more, other := reward_in(f"{HEAD}return 1\n", "others.py"), program=train)
    assert f"--reward {other} contradicts" in said and place in said


def test_eval_judges_by_it_and_rescore_judges_again(tmp_path, monkeypatch, capsys, reward_in):
    torch.manual_seed(0)
    policy.save(toy.model(), toy.tokenizer(), tmp_path / "model")
    (tmp_path / "set.jsonl").write_text('{"question": "2 * x + 1 = 5", "answer": 2}\n')
    right = reward_in(f"{HEAD}return problem.answer == '2'\n")
    wrong = reward_in(f"{HEAD}return 0.0\n", "others.py")
    fails = reward_in(f"\n\n{HEAD}return text + 1\n", "fails.py")
    given = ["--model", tmp_path / "model", "--data", tmp_path / "set.jsonl", "-n", 16, "--out", tmp_path / "out"]

    monkeypatch.setattr(policy, "eos_ids", lambda *_: set(range(60)))  # so that most responses end
    run(monkeypatch, capsys, *given, "--reward", right)
    rows = metrics.read(tmp_path / "out")
    assert [row["correct"] for row in rows] == [row["finished"] for row in rows]
    assert (ended := sum(row["finished"] for row in rows)) > 0
    assert f"was begun with reward {right}, not {wrong}" in refused(monkeypatch, capsys, *given, "--reward", wrong)
    again = {"program": rescore}
    assert f"{ended} of 16 verdicts changed" in run(monkeypatch, capsys, tmp_path / "out", "--reward", wrong, **again)
    assert "0 of 16 verdicts changed" in run(monkeypatch, capsys, tmp_path / "out", "--reward", right, **again)
    for said in (
        refused(monkeypatch, capsys, *given[:-1], tmp_path / "new", "--reward", fails),
        refused(monkeypatch, capsys, tmp_path / "out", "--reward", fails, **again),
    ):
        assert f"error: --reward {fails}: TypeError" in said and said.endswith("fails.py, line 4)")


# ----------------------------------------------------------------------------------------------------------- the record


def test_a_response_and_what_a_log_keeps_of_it():
    known = {"query": 3, "prompt": [5, 6], "text": "Wait, \\boxed{ 7 }", "reward": 0.5, "reflects": True}
    response = Response([8, 9, 1], [-0.5, -0.25, 0.0], True, **known)
    assert response.row() == {
        "problem": 3, "text": "Wait, \\boxed{ 7 }", "correct": True, "reflects": True, "finished": True, "tokens": 3,
        "final": "7",
    }  # fmt: skip
    assert Response([8], [0.0], False, **known | {"text": "", "reward": 0.0}).row()["final"] is None
    assert response.row().keys() == test_eval.response(0, True).keys()  # the figures are tested on such rows
    for name in (*known, "ids", "logprobs", "finished"):
        with pytest.raises(FrozenInstanceError):
            setattr(response, name, None)


def test_a_response_holds_what_was_sampled(monkeypatch):
    groups = an_actor(monkeypatch).sample([1, 0], 0)
    for i, (group, answer) in enumerate(zip(groups, ("4", "2"))):
        assert [r.text for r in group] == SAID[answer] and all(r.query == i for r in group)
        for r in group:
            ids = TOKENIZER(r.text, add_special_tokens=False).input_ids
            assert r.ids == ids + [TOKENIZER.eos_token_id] * r.finished
            assert PROBLEMS[1 - i].question in TOKENIZER.decode(r.prompt) and r.reflects == ("Wait" in r.text)


def test_text_is_decoded_and_looked_at_once_a_response(monkeypatch):
    decoded, looked_at, rewarded = Counter(), Counter(), Counter()

    class Counting:
        def decode(self, ids, **how):
            decoded[tuple(ids)] += 1
            return TOKENIZER.decode(ids, **how)

    def reward(text, problem):
        rewarded[text] += 1
        return 1.0

    actor = an_actor(monkeypatch, reward)
    actor.tokenizer = Counting()
    monkeypatch.setattr(rollouts, "reflects", lambda text: looked_at.update([text]) or reflects(text))
    responses = [r for group in actor.sample([0, 1], 0) for r in group]
    metrics.of_groups([responses[:4], responses[4:]])
    assert [r.row()["reflects"] for r in responses] == [reflects(r.text) for r in responses]
    assert decoded == Counter(tuple(r.said) for r in responses) and max(decoded.values()) == 1
    assert looked_at == Counter(r.text for r in responses)
    assert rewarded == Counter(r.text for r in responses if r.finished)


# ---------------------------------------------------------------------------------------------------- several processes


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(0, 12), max_size=40), st.integers(1, 5))
def test_prompts_are_dealt_evenly_and_equal_ones_together(things, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "size", lambda: size)
        shares = []
        for rank in range(size):
            patch.setattr(parallel, "rank", lambda rank=rank: rank)
            shares.append(parallel.deal(things))
    assert sorted(sum(shares, [])) == list(range(len(things))) and all(share == sorted(share) for share in shares)
    different = [{things[i] for i in share} for share in shares]
    assert sum(map(len, different)) == len(set(things))  # nothing is on two processes
    assert max(map(len, different)) - min(map(len, different)) <= 1


# ----------------------------------------------------------------------------------------------------------- reflection


def naive_reflects(text):
    """One phrase after the other, character by character."""

    def same(c, wanted):
        low = c.lower()
        return wanted in (low if len(low) == 1 else c, "'" if c == "\u2019" else None)

    def in_a_word(at):
        return 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum()

    return any(
        all(same(text[at + i], phrase[i]) for i in range(len(phrase)))
        and not in_a_word(at)
        and not in_a_word(at + len(phrase))
        for phrase in REFLECTIONS
        for at in range(len(text) - len(phrase) + 1)
    )


def torn(phrase):
    """A phrase as it is, or as it may just about be written, or not."""
    written = [phrase, phrase.upper(), phrase.title(), phrase.replace("'", "\u2019"), phrase[:-1], phrase[1:]]
    return st.sampled_from([*written, phrase.replace("k", "\u212a"), phrase.replace("i", "\u0130"), phrase + phrase])


GROWS = "\u0130"  # a letter whose lower case is two characters, of which the second is no letter
PIECES = st.sampled_from(REFLECTIONS).flatmap(torn) | st.just(GROWS)
PIECES |= st.text(f"aBwt {GROWS}\u00df\u03a3\u01c5'\u2019.1-\n", max_size=4)


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(st.lists(PIECES, max_size=6).map("".join) | st.lists(PIECES, max_size=4).map(" ".join))
def test_reflection_is_that_of_a_search_phrase_by_phrase(text):
    assert reflects(text) == naive_reflects(text)


def test_phrases_are_found_and_within_words_they_are_not():
    """In both; so the comparison above is not one of two functions that always say no."""
    for phrase in REFLECTIONS:
        for answer in (reflects, naive_reflects):
            assert answer(phrase) and answer(f"{GROWS} {phrase.upper()}!")
            assert not answer(f"x{phrase}") and not answer(f"{GROWS}{phrase}")


def test_a_text_is_lowered_once_not_once_a_phrase(monkeypatch):
    folded, texts = reflect._folded, []
    monkeypatch.setattr(reflect, "_folded", lambda text: texts.append(text) or folded(text))
    assert not reflects("So it goes on. " * 2000) and len(texts) == 1


# ----------------------------------------------------------------------------------------------------- whether it turns


def rewrites(prompt, index):
    """Right by turns; and what it rewrites is its own."""
    answer = next(p.answer for p in PROBLEMS if p.question in prompt)
    if "Wrong attempt" not in prompt:
        return f"It is \\boxed{{{answer if index % 2 else 99}}}."
    return f"<analysis>No.</analysis><reconstruction>It is Wait, \\boxed{{{answer}}}.</reconstruction>"


def test_a_start_is_measured_on_what_it_constructs(monkeypatch):
    """Against a forward of each construction by itself, in float64; of no more of them than are needed."""
    actor = an_actor(monkeypatch, respond=rewrites)
    made, said = rollouts.constructions(actor, [0, 1]), []
    assert len(made) == 4 and all(prompt == actor.prompts[i // 2] for i, (prompt, *_) in enumerate(made))
    monkeypatch.setattr(metrics, "turning", lambda count, figures: said.append((count, figures)))
    rollouts.turning(actor, made)
    [(count, figures)] = said
    turns = []
    for prompt, ids, kept in made:
        logprobs, entropy = logprobs_one_at_a_time(actor.model, prompt, ids, 1.0)
        assert TOKENIZER.decode(ids[:kept]).strip() == "It is"
        turns.append(((logprobs + entropy).exp().clamp(0.01, 10)[kept].item(), logprobs[kept].exp().item()))
    expected = [sum(column) / 4 for column in zip(*turns)]
    assert count == 4 and [figures["turn_weight"], figures["turn_probability"]] == pytest.approx(expected, rel=1e-3)
    monkeypatch.setattr(rollouts, "ENOUGH", 3)
    assert rollouts.constructions(actor, [0, 1]) == made[:3]
    assert rollouts.constructions(an_actor(monkeypatch), [0, 1]) == rollouts.constructions(actor, []) == []


@pytest.mark.parametrize(
    "weight, means",
    [(0.0101, "never turns by itself, so TAPO will hardly"), (0.033, "seldom turns"), (0.134, ": TAPO can begin")],
)
def test_what_a_start_s_figures_mean(weight, means):
    figures = {"turn_weight": weight, "turn_probability": 2e-6, "floor_share": 0.081}
    said = metrics.turning(48, figures | {"floor_tokens": {" Wait": 48, "\n": 2}})
    head = f"of 48 constructions the turn's first token has a mean OTS weight of {weight:.2g} (probability 2e-06), and "
    assert said.startswith(head + "8 % of the tokens stand at the floor (Wait, \\n): ") and means in said
    assert ("coldstart.py --turning" in said) == (weight < 0.1)
    assert "the floor: " in metrics.turning(48, figures | {"floor_share": 0.0, "floor_tokens": {}})
