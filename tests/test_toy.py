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


def test_demonstrations_are_right_a_third_of_the_time_and_never_reflect():
    rng, (problems, _) = random.Random(0), toy.problems()
    right = 0
    for _ in range(2000):
        problem = rng.choice(problems)
        text, response = toy.demonstration(problem, rng)
        assert text == problem.question and not reflects(response)
        right += verify(response, problem.answer)
        words = response.split()
        guess, product, value, verdict = words[1], words[3], words[7], words[8]
        a, c = int(problem.question.split()[0]), int(problem.question.split()[-1])
        assert int(product) == a * int(guess) and int(value) == int(product) + int(words[5])
        assert verdict == ("ok" if int(value) == c else "low" if int(value) < c else "high")
    assert 0.32 < right / 2000 < 0.38


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
    assert 100 < longest <= toy.CONTEXT - 60
    turn = tokenizer.convert_tokens_to_ids("wait")
    assert any(turn in learnt for _, learnt in batches[-1])
    assert not any(turn in learnt for batch in toy.batches(tokenizer, 0, plain=True) for _, learnt in batch)


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
