"""GRPO's and TAPO's losses and gradients against plain float64 references (invariants 1 and 8)."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo import AVERAGES, active, clipped_surrogate, group_advantages, k3_kl, sequence_coefficients
from tapo import ORIG, REF, SYN, one_group_advantages, ots_weights, reflective_advantages, select_candidates, tapo_loss

SETTINGS = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def plain_advantages(rewards):
    mean = sum(rewards) / len(rewards)
    deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards))
    return [0.0 if deviation == 0 else (r - mean) / (deviation + 1e-6) for r in rewards]


def plain_loss(sequences, over, average, max_tokens, clip_low, clip_high, weighted):
    """One sequence and token at a time, averaged over `over`; a sequence is (logprobs, old, advantage, weights)."""
    total, tokens, count = 0.0, sum(len(s[0]) for s in over), len(over)
    for logprobs, old, advantage, weights in sequences:
        inner = 0.0
        for t in range(len(logprobs)):
            ratio = torch.exp(logprobs[t] - old[t])
            if advantage >= 0:
                term = torch.clamp(ratio, max=1 + clip_high) * advantage
            else:
                term = torch.clamp(ratio, min=1 - clip_low) * advantage
            inner = inner - term * (weights[t] if weighted else 1.0)
        if average == "token":
            total = total + inner / tokens
        elif average == "sequence":
            total = total + inner / (len(logprobs) * count)
        else:
            total = total + inner / (max_tokens * count)
    return total


def random_sequences(rng, count):
    sequences = []
    for _ in range(count):
        length = rng.randint(1, 9)
        old = torch.tensor([rng.uniform(-3, -0.01) for _ in range(length)], dtype=torch.float64)
        new = (old + torch.tensor([rng.gauss(0, 0.3) for _ in range(length)])).requires_grad_()
        weights = torch.tensor([rng.uniform(0.01, 10) for _ in range(length)], dtype=torch.float64)
        sequences.append((new, old, rng.choice([-1.3, -0.2, 0.0, 0.4, 2.0]), weights))
    return sequences


def ours(orig, ref, syn, average, max_tokens, lam, mu, clip_low, clip_high, over=None):
    lengths = [len(s[0]) for s in orig + ref + syn]
    coefficients = sequence_coefficients(lengths, average, max_tokens, over=over or lengths[: len(orig)])
    each = torch.tensor(lengths)
    loss, _ = tapo_loss(
        torch.cat([s[0] for s in orig + ref + syn]),
        torch.cat([s[1] for s in orig + ref + syn]),
        torch.tensor([s[2] for s in orig + ref + syn], dtype=torch.float64).repeat_interleave(each),
        coefficients.double().repeat_interleave(each),
        torch.tensor([ORIG] * len(orig) + [REF] * len(ref) + [SYN] * len(syn)).repeat_interleave(each),
        torch.cat([s[3] for s in orig + ref + syn]),
        lam=lam,
        mu=mu,
        clip_low=clip_low,
        clip_high=clip_high,
    )
    return loss


@pytest.mark.parametrize("average", ["token", "sequence", "constant"])
@pytest.mark.parametrize("counts", [(6, 4, 3), (5, 0, 0), (1, 1, 0), (2, 0, 2)])
@pytest.mark.parametrize(("lam", "mu"), [(0.0, 0.0), (0.7, 0.2)])
def test_loss_and_gradient_are_those_of_the_reference(average, counts, lam, mu):
    rng = random.Random(f"{average} {counts}")
    orig, ref, syn = (random_sequences(rng, count) for count in counts)
    expected = plain_loss(orig, orig, average, 12, 0.2, 0.28, weighted=False)
    if ref:
        expected = expected + lam * plain_loss(ref, orig, average, 12, 0.2, 0.28, weighted=True)
    if syn:
        expected = expected + mu * plain_loss(syn, orig, average, 12, 0.2, 0.28, weighted=False)
    leaves = [s[0] for s in orig + ref + syn]
    loss = ours(orig, ref, syn, average, 12, lam, mu, 0.2, 0.28)
    assert abs(loss.item() - expected.item()) < 1e-6
    wanted = torch.autograd.grad(expected, leaves, allow_unused=True)
    for leaf, mine, theirs in zip(leaves, torch.autograd.grad(loss, leaves), wanted):
        theirs = torch.zeros_like(leaf) if theirs is None else theirs
        assert (mine - theirs).abs().max() < 1e-6
    if lam == 0:
        grpo = plain_loss(orig, orig, average, 12, 0.2, 0.28, weighted=False)
        assert abs(loss.item() - grpo.item()) < 1e-6


@pytest.mark.parametrize(
    ("rewards", "left"),
    [([[1, 0, 0], [1, 1, 1], [0, 1, 1]], [0, 2]), ([[0, 0], [1, 0]], [1]), ([[1, 0], [0, 1]], [0, 1])],
)
def test_active_is_the_mean_over_the_tokens_of_groups_with_an_advantage(rewards, left):
    """One group after the other, in float64; G_ref and G_syn have the same denominator."""
    rng = random.Random(str(rewards))
    groups = [[(*s[:2], a, s[3]) for s, a in zip(random_sequences(rng, len(g)), plain_advantages(g))] for g in rewards]
    ref, syn = random_sequences(rng, 3), random_sequences(rng, 2)
    counted = [s for group in left for s in groups[group]]
    expected = plain_loss(counted, counted, "token", 12, 0.2, 0.28, weighted=False)
    expected = expected + 0.7 * plain_loss(ref, counted, "token", 12, 0.2, 0.28, weighted=True)
    expected = expected + 0.2 * plain_loss(syn, counted, "token", 12, 0.2, 0.28, weighted=False)
    orig, number = [s for group in groups for s in group], [q for q, group in enumerate(groups) for _ in group]
    chosen = active([s[2] for s in orig], number)
    assert [number[i] for i in chosen] == [q for q in left for _ in rewards[q]]
    loss = ours(orig, ref, syn, "active", 12, 0.7, 0.2, 0.2, 0.28, over=[len(orig[i][0]) for i in chosen])
    assert abs(loss.item() - expected.item()) < 1e-6
    leaves = [s[0] for s in orig + ref + syn]
    wanted = torch.autograd.grad(expected, leaves, allow_unused=True)
    for leaf, mine, theirs in zip(leaves, torch.autograd.grad(loss, leaves), wanted):
        assert (mine - (torch.zeros_like(leaf) if theirs is None else theirs)).abs().max() < 1e-6


@pytest.mark.parametrize("average", AVERAGES)
def test_no_average_divides_by_zero(average):
    """Where no group has an advantage, `active` is over all of them."""
    lengths, chosen = [3, 5, 2], active([0.0, 0.0, 0.0], [0, 0, 1])
    assert chosen == [0, 1, 2]
    table = sequence_coefficients(lengths, average, 9, [lengths[i] for i in chosen])
    assert table.isfinite().all() and (table > 0).all()
    assert average != "active" or torch.equal(table, sequence_coefficients(lengths, "token", 9))


def test_clip_takes_the_gradient_only_on_the_side_that_gains():
    old = torch.zeros(4)
    new = torch.tensor([0.5, 0.5, -0.5, -0.5], requires_grad=True)
    loss, clipped = clipped_surrogate(new, old, torch.tensor([1.0, -1.0, 1.0, -1.0]), 0.2, 0.3)
    loss.sum().backward()
    assert clipped.tolist() == [True, False, False, True]
    assert torch.allclose(loss, torch.tensor([-1.3, math.exp(0.5), -math.exp(-0.5), 0.8]))
    assert (new.grad != 0).tolist() == [False, True, True, False]


@SETTINGS
@given(st.lists(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=4, max_size=4), min_size=1, max_size=5))
def test_advantages(rewards):
    table = group_advantages(torch.tensor(rewards))
    for row, group in zip(table.tolist(), rewards):
        assert row == pytest.approx(plain_advantages(group), abs=1e-4)
        if len(set(group)) == 1:
            assert row == [0.0] * len(group)  # exactly, never NaN


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2 responses"):
        group_advantages(torch.ones(3, 1))


def test_k3_is_unbiased_nonnegative_and_zero_for_equal_policies():
    torch.manual_seed(0)
    p, q = torch.randn(2, 9, dtype=torch.float64).log_softmax(-1)
    estimates = k3_kl(p, q)
    assert (estimates >= 0).all()
    assert torch.isclose((p.exp() * estimates).sum(), (p.exp() * (p - q)).sum())
    assert k3_kl(p, p).abs().max() == 0


def test_ots_weights():
    logprobs = torch.tensor([-0.1, -9.0, -2.0, 0.0], requires_grad=True)
    entropy = torch.tensor([0.1, 0.2, 6.0, 0.0])
    weights = ots_weights(logprobs, entropy)
    assert weights.tolist() == pytest.approx([1.0, 0.01, 10.0, 1.0])
    assert not weights.requires_grad


def test_selection_takes_only_eligible_queries_and_their_own_responses():
    correct = [[True] * 8, [False] * 8, [True] * 2 + [False] * 6, [True] * 7 + [False], [True, False] * 4]
    candidates = select_candidates(correct, 2, 4, 4, "seed 0")
    assert sorted({q for q, _, _ in candidates}) == [2, 4]
    assert len(candidates) == 8
    for query, negative, positive in candidates:
        assert not correct[query][negative] and correct[query][positive]
    assert len({(q, n) for q, n, _ in candidates}) == 8  # no y- twice
    drawn = [pair for i in range(50) for pair in select_candidates([correct[2]], 2, 4, 2, f"seed {i}")]
    assert {n for _, n, _ in drawn} == set(range(2, 8)) and {p for _, _, p in drawn} == {0, 1}


def test_a_query_s_draws_depend_on_the_seed_and_its_number_alone():
    """Not on what the other queries' responses were: so no query's luck moves another's."""
    mixed = [True] * 3 + [False] * 5
    alone = select_candidates([[True] * 8, mixed], 2, 4, 2, "3 7")
    beside = select_candidates([mixed, mixed, mixed], 2, 4, 2, "3 7")
    assert [pair for pair in beside if pair[0] == 1] == alone
    assert len({tuple(pair[1:] for pair in beside if pair[0] == q) for q in range(3)}) > 1  # each draws for itself
    assert select_candidates([mixed] * 3, 2, 4, 2, "3 7") == beside != select_candidates([mixed] * 3, 2, 4, 2, "3 8")


def test_reflective_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    ref_rewards, query = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 1, 1])
    own = reflective_advantages(ref_rewards, query, rewards, "query")
    assert own.tolist() == pytest.approx([0.75 / 3**0.5 * 4, -0.25 / 3**0.5 * 4, 1.0, 1.0], abs=1e-4)
    group = reflective_advantages(ref_rewards, query, rewards, "group")
    assert group.tolist() == pytest.approx([1.0, -1.0, 0.0, 0.0], abs=1e-4)
    assert group.tolist()[2:] == [0.0, 0.0]
    batch = reflective_advantages(ref_rewards, query, rewards, "batch")
    assert batch.tolist() == pytest.approx(plain_advantages([1.0, 0.0, 1.0, 1.0]), abs=1e-4)
    nothing = torch.tensor([]), torch.tensor([], dtype=torch.long)
    for baseline in ("query", "group", "batch"):
        assert reflective_advantages(*nothing, rewards, baseline).shape == (0,)


def test_synthesis_outputs_are_a_group_of_their_own():
    assert one_group_advantages(torch.tensor([1.0, 1, 1, 0])).tolist() == pytest.approx(
        plain_advantages([1.0, 1, 1, 0]), abs=1e-4
    )
    assert one_group_advantages(torch.tensor([1.0, 1.0])).tolist() == [0.0, 0.0]
    assert one_group_advantages(torch.tensor([1.0])).tolist() == [0.0]
    assert one_group_advantages(torch.tensor([])).shape == (0,)
