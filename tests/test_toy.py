"""The toy's data: right where it says so, wrong where it says so, and the held-out problems held out."""

import random

import pytest
import torch

import toy
from reflect import reflects
from verifier import verify


def test_every_problem_once_and_never_on_both_sides():
    train, held_out = toy.problems()
    assert (len(train), len(held_out)) == (640, 160)
    assert len({p.question for p in train + held_out}) == 800
    assert toy.problems() == (train, held_out)
    for p in train + held_out:
        a, _, _, _, b, _, c = p.question.split()
        assert int(a) * int(p.answer) + int(b) == int(c)


def checked(problem, made: str):
    """The guess of an attempt, which must be computed and judged rightly."""
    (_, guess, _, product, _, b, _, value, verdict), question = made.split(), problem.question.split()
    assert int(product) == int(question[0]) * int(guess) and b == question[4]
    assert int(value) == int(product) + int(b)
    c = int(question[-1])
    assert verdict == ("ok" if int(value) == c else "low" if int(value) < c else "high")
    return int(guess)


@pytest.mark.parametrize("recipe", [toy.RECIPE, toy.RECIPE._replace(turning=0.0), toy.Recipe(0.15, 0.8, 0.4, 3)])
def test_demonstrations_guess_rightly_and_turn_as_often_as_the_recipe_says(recipe):
    rng, (problems, _) = random.Random(0), toy.problems()
    right = turned = wrong = 0
    for _ in range(3000):
        problem = rng.choice(problems)
        text, response = toy.demonstration(problem, rng, recipe)
        *attempts, boxed = [part for part in response.split(" ; ") if not part.startswith("wait")]
        guesses = [checked(problem, made) for made in attempts]
        assert text == problem.question and boxed == f"\\boxed{{ {guesses[-1]} }}"
        assert reflects(response) == (len(guesses) > 1) and len(guesses) <= recipe.guesses
        answer = int(problem.answer)
        assert answer not in guesses[:-1]  # no turn behind a right guess
        if len(guesses) > 1:  # the second guess is on the side that the first left open
            assert guesses[1] == answer or (guesses[1] < guesses[0]) == (answer < guesses[0])
        right += guesses[0] == answer
        wrong += guesses[0] != answer
        turned += len(guesses) > 1
    assert abs(right / 3000 - recipe.right) < 0.03 and abs(turned / wrong - recipe.turning) < 0.03


def test_wrong_attempts_of_the_synthesis_task_are_as_a_trained_policy_writes_them():
    """Some have several attempts, some a false verdict at their end; y+ is right, and so is every word of the turn."""
    rng, (problems, _) = random.Random(0), toy.problems()
    several = false = 0
    for _ in range(500):
        problem = rng.choice(problems)
        task, output = toy.synthesis(problem, rng)
        y_wrong, y_right = task.removeprefix(f"{problem.question} wrong ").split(" right ")
        assert verify(y_right, problem.answer) and not verify(y_wrong, problem.answer)
        several += y_wrong.count("try") > 1
        false += " ok ; \\boxed" in y_wrong
        kept = y_wrong.rpartition(" ; ")[0]
        turn = output.split("<reconstruction> ")[1].removeprefix(f"{kept} ; ").removesuffix(" </reconstruction>")
        said, correction, boxed = turn.split(" ; ")
        assert checked(problem, correction) == int(problem.answer) and boxed == f"\\boxed{{ {problem.answer} }}"
        guess = int(y_wrong.split()[-2])
        assert said == f"wait {guess} is {'low' if guess < int(problem.answer) else 'high'}"
    assert 200 < several < 300 and 140 < false < 230


def test_solutions_turn_after_each_wrong_attempt():
    text = toy.solution("4 * x + 8 = 44", [10, 9])
    assert text == ("try 10 : 40 + 8 = 48 high ; wait 10 is high ; try 9 : 36 + 8 = 44 ok ; \\boxed{ 9 }")
    assert verify(text, "9") and not verify(toy.solution("4 * x + 8 = 44", [10]), "9")


def test_the_tokeniser_knows_every_word_and_decodes_what_it_encodes():
    tokenizer, rng = toy.tokenizer(), random.Random(0)
    problems = toy.problems()[0] + toy.problems()[1]
    assert toy.speaks(tokenizer)
    for make in (toy.demonstration, toy.synthesis, toy.drill):
        for _ in range(200):
            for text in make(rng.choice(problems), rng):
                ids = tokenizer(text).input_ids
                assert tokenizer.decode(ids) == text and tokenizer.pad_token_id not in ids


def test_cold_start_examples(monkeypatch):
    tokenizer = toy.tokenizer()
    monkeypatch.setattr(toy, "STEPS", 10)
    batches = list(toy.batches(tokenizer, 0))
    assert len(batches) == 10
    assert batches == list(toy.batches(tokenizer, 0)) != list(toy.batches(tokenizer, 1))
    held_out = {p.question for p in toy.problems()[1]}
    longest = 0
    for given, learnt in sum(batches, []):
        assert learnt[-1] == tokenizer.eos_token_id
        assert not any(question in tokenizer.decode(given) for question in held_out)
        longest = max(longest, len(given) + len(learnt))
    assert 100 < longest <= toy.CONTEXT
    turn = tokenizer.convert_tokens_to_ids("wait")
    assert any(turn in learnt for _, learnt in batches[-1])
    tag = tokenizer.convert_tokens_to_ids("<analysis>")
    assert any(tag in learnt for _, learnt in batches[-1])
    assert not any(tag in learnt for batch in toy.batches(tokenizer, 0, plain=True) for _, learnt in batch)


@pytest.mark.parametrize(("cores", "before", "after"), [(1, 1, 1), (2, 2, 1), (8, 8, 4), (64, 32, 4), (64, 2, 2)])
def test_it_leaves_half_of_the_cores_to_others(cores, before, after, monkeypatch):
    told = []
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: before)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    toy.few_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    toy.few_threads()
    assert told == [after]
