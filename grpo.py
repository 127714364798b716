"""GRPO: Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300), as a sum over tokens.

For a query with K responses of rewards r_1 .. r_K, every token of response i has the advantage (section 4.1.2,
outcome supervision)

    A_i = (r_i - mean(r)) / (std(r) + eps)

and with the ratio rho_t = exp(log p(y_t) - log p_old(y_t)) the token's loss is the clipped surrogate of PPO,

    l_t = - min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A)   [ + kl * k3_t, see `k3_kl` ]

The step's loss is sum_i c_i sum_t l_it, where the coefficients c_i are fixed before the first backward
(`sequence_coefficients`). So micro-batches simply add up, whatever their sizes.

Where we depart from the paper:
1. The two sides of the clip have their own width (DAPO, arXiv 2503.14476); equal widths give the paper's.
2. The default average is over all tokens of the step; the paper's is `sequence` (see `sequence_coefficients`).
3. kl defaults to 0 for real models: no reference policy is kept. (On the toy it is 0.05.)
"""

from typing import NamedTuple

import torch

EPS = 1e-6  # keeps a group of nearly equal rewards from exploding; groups of equal rewards are exactly 0
AVERAGES = ("token", "active", "sequence", "constant")


def group_advantages(rewards_QK: torch.Tensor) -> torch.Tensor:
    """Rewards [Q, K] to advantages [Q, K]: each query's group centred, and scaled by its (population) deviation.

    A group of equal rewards gets exactly 0. Raises ValueError when K = 1: a group of one has no baseline."""
    if rewards_QK.shape[1] < 2:
        raise ValueError("GRPO needs at least 2 responses a query (K >= 2): a group of one is its own baseline")
    rewards_QK = rewards_QK.float()
    mean_Q1, std_Q1 = group_moments(rewards_QK)
    return torch.where(std_Q1 > 0, (rewards_QK - mean_Q1) / (std_Q1 + EPS), 0.0)


def group_moments(rewards_QK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and population deviation of each group, [Q, 1] both; the deviation of equal rewards is exactly 0."""
    mean_Q1 = rewards_QK.mean(1, keepdim=True)
    std_Q1 = rewards_QK.std(1, keepdim=True, correction=0)
    equal_Q1 = rewards_QK.amax(1, keepdim=True) == rewards_QK.amin(1, keepdim=True)
    return mean_Q1, std_Q1.masked_fill(equal_Q1, 0.0)


def sequence_coefficients(lengths: list[int], average: str, max_tokens: int, over: list[int] | None = None):
    """What a token of each response counts in the step's loss, float32 [len(lengths)].

    The average is taken over the n responses of lengths `over` (by default `lengths`): all those of the optimiser step,
    whatever its micro-batches and ranks.

    token     1 / sum(over)          every token alike: long responses weigh more (DAPO)
    active    1 / sum(over)          as token, where `over` is only of groups that have an advantage (see `active`)
    sequence  1 / (n * length_i)     every response alike: a token of a long one counts less (the GRPO paper)
    constant  1 / (n * max_tokens)   tokens alike, and the step's size does not depend on lengths (Dr. GRPO, 2503.20783)
    """
    over = lengths if over is None else over
    lengths_n = torch.tensor(lengths, dtype=torch.float32)
    if average in ("token", "active"):
        return torch.full_like(lengths_n, 1 / sum(over))
    if average == "sequence":
        return 1 / (len(over) * lengths_n)
    if average == "constant":
        return torch.full_like(lengths_n, 1 / (len(over) * max_tokens))
    raise ValueError(f"unknown average '{average}': {', '.join(AVERAGES)}")


def active(advantages: list[float], groups: list[int]) -> list[int]:
    """Which of some responses the average `active` is over, given the advantage and the group of each: those of groups
    whose advantages are not all 0. Where no group has one, all of them.

    A group whose rewards are all equal pushes nothing, and yet its tokens are part of N in the average `token`: the
    fewer groups have an advantage, the smaller the step (trl's issue 6367). `active` leaves such a group out, with its
    KL, as though it had not been sampled."""
    pushing = {group for advantage, group in zip(advantages, groups) if advantage}
    return [i for i, group in enumerate(groups) if group in pushing or not pushing]


def clipped_surrogate(logprobs_N, old_logprobs_N, advantages_N, clip_low: float, clip_high: float):
    """The loss of each token [N], and whether the clip took its gradient [N] (bool)."""
    ratio_N = (logprobs_N - old_logprobs_N).exp()
    free_N = ratio_N * advantages_N
    held_N = ratio_N.clamp(1 - clip_low, 1 + clip_high) * advantages_N
    return -torch.minimum(free_N, held_N), held_N < free_N


def k3_kl(logprobs_N, reference_logprobs_N):
    """The estimate k3 of KL(policy || reference) at each sampled token, [N]: exp(d) - d - 1 with d = log ref - log p.
    Unbiased for samples of the policy and never negative (GRPO eq. 4). Its gradient is that of the estimate."""
    d_N = reference_logprobs_N - logprobs_N
    return d_N.exp() - d_N - 1


class Tokens(NamedTuple):
    """What a loss is made of: a micro-batch's N response tokens, a column for each thing known of them, [N] each."""

    logprobs: torch.Tensor  # under the policy; carries the gradient
    old: torch.Tensor  # ... before the first optimiser step of the batch
    entropy: torch.Tensor
    advantages: torch.Tensor
    coefficients: torch.Tensor  # of `sequence_coefficients`
    group: torch.Tensor  # which group a token's response belongs to (tapo.py)
    weights: torch.Tensor  # OTS weights (tapo.py)
    divergence: torch.Tensor | None  # from a teacher (opsd.py)


class GRPO:
    """The algorithm, as train.py asks for it: what it needs beside G_orig, its advantages, its loss. The others are
    objects with the same methods."""

    ablations = ()  # the settings that take a part of it away
    constructs = False  # whether it needs constructed trajectories, G_ref
    outputs = False  # whether it learns from the outputs that those were made of, G_syn
    suppresses = False  # whether its loss counts the tokens of G_ref by their OTS weights
    teaches = False  # whether it needs a teacher's prompt for each response
    network = None  # what it wraps the model in, if not in policy.Policy

    def __init__(self, settings, selection=None):
        """`settings` and `selection` are config.Objective and config.Selection, or anything with their fields."""
        self.settings, self.selection = settings, selection

    def select(self, correct_QK, seed: str) -> list[tuple[int, int, int]]:
        """(query, index of y-, index of y+) of each trajectory to construct."""
        return []

    def advantages(self, rewards_QK, ref_rewards_M, ref_query_M, taught_QK):
        """Advantages [Q, K] of G_orig and [M] of G_ref. taught_QK: which responses have a teacher. What has none (0) is
        not trained on; it still counts in the loss's denominator, and with --kl in the KL."""
        return group_advantages(rewards_QK), torch.zeros_like(ref_rewards_M)

    def forward(self, network, prompts, teachers, responses, temperature: float):
        """Log-probabilities and entropies [N] of the response tokens, and their divergences or None."""
        return *network(prompts, responses, temperature), None

    def weights(self, logprobs_N, entropy_N) -> torch.Tensor:
        """OTS weights [N], to log, and to count by where it `suppresses`."""
        return torch.ones_like(logprobs_N)

    def loss(self, tokens: Tokens) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """A micro-batch's loss; detached, for the metrics, its parts of loss_orig, loss_ref, loss_syn and clipped."""
        clip = self.settings.clip_low, self.settings.clip_high
        token_loss_N, clipped_N = clipped_surrogate(tokens.logprobs, tokens.old, tokens.advantages, *clip)
        loss = (tokens.coefficients * token_loss_N).sum()
        return loss, {"loss_orig": loss.detach(), "clipped": clipped_N.sum()}
