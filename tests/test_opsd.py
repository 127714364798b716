"""OPSD's divergence on distributions worked out by hand, and its loss and gradient against a float64 reference."""

import copy
import math
import random

import pytest
import torch
from tiny import WidestTable, make_model

from opsd import StudentTeacher, divergence
from policy import Policy

BETAS = (0.0, 0.3, 0.5, 1.0)


def rows(count=6, vocab=97, seed=0):
    rng = random.Random(seed)

    def ids(least, most):
        return [rng.randrange(vocab) for _ in range(rng.randint(least, most))]

    prompts, responses = [ids(1, 9) for _ in range(count)], [ids(1, 20) for _ in range(count)]
    return prompts, [ids(3, 30) + prompt for prompt in prompts], responses


def distributions(*rows):
    return [torch.tensor([row], dtype=torch.float64).log() for row in rows]


def test_divergences_by_hand():
    teacher, student = distributions([0.5, 0.5], [0.25, 0.75])
    forward, reverse = math.log(2 / math.sqrt(3)), 0.75 * math.log(3) - math.log(2)
    assert divergence(teacher, student, 0.0).item() == pytest.approx(forward, abs=1e-12)
    assert divergence(teacher, student, 1.0).item() == pytest.approx(reverse, abs=1e-12)
    # beta = 1/2: M = (3/8, 5/8)
    to_teacher = 0.5 * math.log(0.5 / 0.375) + 0.5 * math.log(0.5 / 0.625)
    to_student = 0.25 * math.log(0.25 / 0.375) + 0.75 * math.log(0.75 / 0.625)
    assert divergence(teacher, student, 0.5).item() == pytest.approx((to_teacher + to_student) / 2, abs=1e-12)
    # beta = 1/4 leans on the student: M = (5/16, 11/16)
    to_teacher = 0.5 * math.log(0.5 / 0.3125) + 0.5 * math.log(0.5 / 0.6875)
    to_student = 0.25 * math.log(0.25 / 0.3125) + 0.75 * math.log(0.75 / 0.6875)
    assert divergence(teacher, student, 0.25).item() == pytest.approx(0.25 * to_teacher + 0.75 * to_student, abs=1e-12)


def test_known_values_and_ends():
    """Disjoint supports are log 2 apart at beta = 1/2; equal ones 0 at any; the ends are the limits of JSD / beta and
    JSD / (1 - beta)."""
    left, right = distributions([1 - 1e-15, 1e-15], [1e-15, 1 - 1e-15])
    assert divergence(left, right, 0.5).item() == pytest.approx(math.log(2), abs=1e-6)
    p, q = torch.randn(2, 5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    for beta in BETAS:
        assert divergence(p, p, beta).abs().max() < 1e-12
        assert (divergence(p, q, beta) > 1e-3).all()
    assert torch.allclose(divergence(p, q, 1e-6) / 1e-6, divergence(p, q, 0.0), rtol=1e-3)
    assert torch.allclose(divergence(p, q, 1 - 1e-6) / 1e-6, divergence(p, q, 1.0), rtol=1e-3)


def reference(student, teacher, prompts, teacher_prompts, responses, temperature, beta):
    """Token after token in float64: each prefix a forward of its own, KLs as sums of p log(p / q)."""
    found = []
    for prompt, longer, response in zip(prompts, teacher_prompts, responses):
        for t in range(len(response)):
            s = (student(torch.tensor([prompt + response[:t]])).logits[0, -1] / temperature).softmax(-1)
            with torch.no_grad():
                p = (teacher(torch.tensor([longer + response[:t]])).logits[0, -1] / temperature).softmax(-1)
            m = beta * p + (1 - beta) * s
            if beta == 0:
                found.append((p * (p / s).log()).sum())
            elif beta == 1:
                found.append((s * (s / p).log()).sum())
            else:
                found.append(beta * (p * (p / m).log()).sum() + (1 - beta) * (s * (s / m).log()).sum())
    return torch.stack(found)


def flat_gradient(loss, model):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]).double()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("chunk", [7, 1024])
def test_loss_and_gradient_are_those_of_the_reference(beta, chunk):
    """The reference's teacher is another copy of the network: so no gradient can come through it."""
    model, (prompts, longer, responses) = make_model(sharp=12.0), rows()
    student, teacher = copy.deepcopy(model).double(), copy.deepcopy(model).double()
    wanted = reference(student, teacher, prompts, longer, responses, 0.7, beta)
    got, logprobs, entropy = StudentTeacher(model, chunk)(prompts, longer, responses, 0.7, beta)
    assert got.shape == (sum(map(len, responses)),) and wanted.max() > 0.05
    assert torch.allclose(got.double(), wanted, atol=1e-5)
    expected = flat_gradient(wanted.mean(), student)
    assert (flat_gradient(got.mean(), model) - expected).norm() / expected.norm() < 1e-4
    theirs = Policy(model)(prompts, responses, 0.7)
    assert torch.equal(logprobs, theirs[0]) and torch.equal(entropy, theirs[1])


@pytest.mark.parametrize("beta", BETAS)
def test_a_teacher_that_sees_no_more_teaches_nothing(beta):
    model, (prompts, longer, responses) = make_model(sharp=12.0), rows()
    network = StudentTeacher(model)
    found, _, _ = network(prompts, prompts, responses, 0.7, beta)
    taught, _, _ = network(prompts, longer, responses, 0.7, beta)
    assert found.abs().max() < 1e-5 < 0.02 < taught.max()
    nothing, something = flat_gradient(found.mean(), model).norm(), flat_gradient(taught.mean(), model).norm()
    assert nothing < 1e-3 * something


def test_no_gradient_comes_through_the_teacher():
    """The gradient is that of log-probabilities that were written down before."""
    model, (prompts, longer, responses) = make_model(sharp=12.0), rows()
    network = StudentTeacher(model)
    with torch.no_grad():
        hidden, _ = network.hidden(longer, responses)
        constants = network.log_distribution(hidden, 0.7)
    hidden, _ = network.hidden(prompts, responses)
    wanted = flat_gradient(divergence(constants, network.log_distribution(hidden, 0.7), 0.5).mean(), model)
    got = flat_gradient(network(prompts, longer, responses, 0.7, 0.5)[0].mean(), model)
    assert (got - wanted).norm() / wanted.norm() < 1e-5


def test_peak_memory_is_one_chunk_of_logits():
    """No tensor with a vocabulary axis and more rows than a chunk is ever made, forward or backward."""
    vocab, chunk = 997, 16
    model = make_model(vocab=vocab)
    with WidestTable(vocab) as watch:
        found, _, _ = StudentTeacher(model, chunk)([[1, 2]] * 4, [[5, 6, 7, 1, 2]] * 4, [[3] * 50] * 4)
        found.mean().backward()
    assert watch.rows == 32  # the weights' transpose, [hidden 32, vocab]; a chunk has 16


def test_beta_is_between_its_ends():
    with pytest.raises(ValueError, match="beta must be from 0"):
        StudentTeacher(make_model())([[1]], [[1]], [[2]], beta=1.5)
