"""TAPO: Trajectory-Augmented Policy Optimization (arXiv 2606.18844), steps 2, 4, 5 and 6 of its training step.

GRPO learns from the group it sampled, G_orig. TAPO adds G_ref: the policy's own wrong responses y-, kept up to their
error, turned by the policy itself ("Wait, ...") and continued to the answer (reflect.py). This file decides
which responses are worth it (DCS), what a constructed one is worth (DAE), and how much each of its tokens counts (OTS):

    DCS   a query is eligible when it has n_pos correct and n_neg wrong responses; up to m_max of the wrong
          ones are taken, each paired with a correct one drawn from the same group
    DAE   constructed trajectories never enter G_orig's mean and deviation: A of G_orig stays that of GRPO
    OTS   w_t = clamp(exp(log p(y_t) + H_t), 0.01, 10): a token that the policy would hardly emit where it is sure
          of another gets a small weight, an in-distribution token about 1; no gradient flows through w
    loss  L = L_GRPO(G_orig) + lambda * L_ref(G_ref), where L_ref weights each token's clipped surrogate by w_t

Ours, not the paper's:
1. Which baseline measures G_ref is an option. The paper normalises within G_ref; what is at hand does not say whether
   that is a query's constructions or the step's. Our default is neither reading (see `reflective_advantages`).
2. Eligible wrong responses are drawn at random when there are more than m_max (the paper does not say).
3. All losses divide by the size of G_orig (the paper does not say). So a construction always counts like a sampled
   response; were L_ref an average of its own, the one construction of a poor step would push like all of G_orig.
4. The synthesis outputs, rewarded for giving a correct trajectory, may be trained on as a group of their own, G_syn,
   with a weight mu (0 is the paper's): otherwise the skill of constructing fades while the plain task is trained.
"""

import random

import torch

from grpo import EPS, GRPO, Tokens, clipped_surrogate, group_advantages, group_moments

BASELINES = ("query", "group", "batch")  # of G_ref
FLOOR, CEILING = 0.01, 10.0  # of an OTS weight
ORIG, REF, SYN = range(3)  # sampled responses, constructed trajectories, synthesis outputs


def select_candidates(
    correct_QK: list[list[bool]], n_pos: int, n_neg: int, m_max: int, seed: str
) -> list[tuple[int, int, int]]:
    """Difficulty-aware candidate selection: (query, index of y-, index of y+) for each construction to try.

    An eligible query has at least n_pos correct and n_neg wrong responses: neither mastered nor out of reach. Its draws
    depend on `seed` and its number alone."""
    candidates = []
    for query, group in enumerate(correct_QK):
        rng = random.Random(f"{seed} {query}")
        right = [k for k, ok in enumerate(group) if ok]
        wrong = [k for k, ok in enumerate(group) if not ok]
        if len(right) >= max(1, n_pos) and len(wrong) >= n_neg:
            for negative in rng.sample(wrong, min(m_max, len(wrong))):
                candidates.append((query, negative, rng.choice(right)))
    return candidates


def reflective_advantages(
    ref_rewards_M: torch.Tensor, ref_query_M: torch.Tensor, rewards_QK: torch.Tensor, baseline: str
) -> torch.Tensor:
    """Advantages [M] of the constructed trajectories, apart from G_orig (decoupled advantage estimation).

    ref_rewards_M: their rewards; ref_query_M: the query of each; rewards_QK: those of G_orig. Measured against

    group  the constructions of the same query, (r - mean G_ref) / (std G_ref + eps): one reading of the paper (section
           3.4). Where nearly all valid constructions are correct, as on the toy, it is 0 nearly everywhere and TAPO
           learns nothing from G_ref
    batch  the constructions of the whole step, the other reading: centred too, so the turn that all of them share gets
           no net push
    query  the query's own attempts: (r - mean G_orig) / (std G_orig + eps). A correct construction is worth what a
           correct attempt at the same query would be, so hard queries count more. The default.
    """
    ref_rewards_M = ref_rewards_M.float()
    if baseline == "query":
        mean_Q1, std_Q1 = group_moments(rewards_QK.float())
        mean_M, std_M = mean_Q1[ref_query_M, 0], std_Q1[ref_query_M, 0]
        return (ref_rewards_M - mean_M) / (std_M + EPS) * (std_M > 0)
    if baseline not in BASELINES:
        raise ValueError(f"unknown baseline '{baseline}': {', '.join(BASELINES)}")
    scope_M = ref_query_M if baseline == "group" else torch.zeros_like(ref_query_M)
    advantages_M = torch.zeros_like(ref_rewards_M)
    for scope in scope_M.unique():
        advantages_M[scope_M == scope] = one_group_advantages(ref_rewards_M[scope_M == scope])
    return advantages_M


def contaminated_advantages(
    rewards_QK: torch.Tensor, ref_rewards_M: torch.Tensor, ref_query_M: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ablation without DAE: constructed trajectories are appended to their query's group before it is normalised.
    Advantages [Q, K] of the sampled responses and [M] of the constructed ones. Right constructions raise the mean, and
    with it fall the advantages of the query's own responses: the contamination that the paper warns of."""
    K, advantages_QK, ref_advantages_M = rewards_QK.shape[1], [], torch.zeros(len(ref_rewards_M))
    for query, rewards_K in enumerate(rewards_QK.float()):
        mine_M = ref_query_M == query
        advantages = one_group_advantages(torch.cat([rewards_K, ref_rewards_M[mine_M]]))
        advantages_QK.append(advantages[:K])
        ref_advantages_M[mine_M] = advantages[K:]
    return torch.stack(advantages_QK), ref_advantages_M


def one_group_advantages(rewards_M: torch.Tensor) -> torch.Tensor:
    """Advantages [M] of rewards [M] that are one group of any size; a group of one, or of equal rewards, gets 0. For
    the synthesis outputs of a step (reward 1 where one gave a correct trajectory) and the scopes above."""
    return group_advantages(rewards_M[None])[0] if len(rewards_M) > 1 else torch.zeros_like(rewards_M)


def ots_weights(logprobs_N: torch.Tensor, entropy_N: torch.Tensor) -> torch.Tensor:
    """Out-of-distribution token suppression: w_t = clamp(exp(log p(y_t) + H_t), FLOOR, CEILING) [N], constant for the
    gradient.

    E[log p + H] = 0 for a token of the policy's own, so w is about 1 there."""
    return (logprobs_N + entropy_N).detach().exp().clamp(FLOOR, CEILING)


def tapo_loss(
    logprobs_N: torch.Tensor,
    old_logprobs_N: torch.Tensor,
    advantages_N: torch.Tensor,
    coefficients_N: torch.Tensor,
    group_N: torch.Tensor,
    weights_N: torch.Tensor,
    *,
    lam: float = 1.0,
    mu: float = 0.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """L_GRPO(G_orig) + lam * L_ref(G_ref) + mu * L_GRPO(G_syn) over tokens [N], whose group_N is ORIG, REF or SYN.

    coefficients_N come from `grpo.sequence_coefficients`, for all groups over G_orig; weights_N from `ots_weights`
    (only those of G_ref are used). With lam = mu = 0, or G_orig alone, this is GRPO, exactly. Returns the loss and,
    detached, its parts and the number of clipped tokens."""
    token_loss_N, clipped_N = clipped_surrogate(logprobs_N, old_logprobs_N, advantages_N, clip_low, clip_high)
    term_N = coefficients_N * token_loss_N
    loss_orig = term_N[group_N == ORIG].sum()
    loss_ref = (weights_N * term_N)[group_N == REF].sum()
    loss_syn = term_N[group_N == SYN].sum()
    parts = {"loss_orig": loss_orig, "loss_ref": loss_ref, "loss_syn": loss_syn, "clipped": clipped_N.sum()}
    return loss_orig + lam * loss_ref + mu * loss_syn, {name: value.detach() for name, value in parts.items()}


class TAPO(GRPO):
    """The algorithm, as train.py asks for it. An ablation is one line of `select`, `advantages` or `loss`; full
    reconstruction is `verbatim=False` in reflect.construct."""

    ablations = ("no_dcs", "no_dae", "no_ots", "full_reconstruction")
    constructs = True

    @property
    def outputs(self) -> bool:
        """Whether it learns from the synthesis outputs."""
        return self.settings.mu > 0

    @property
    def suppresses(self) -> bool:
        """Whether the OTS weights count in the loss."""
        return not self.settings.no_ots

    def select(self, correct_QK, seed):
        """DCS; without it, every wrong response of every query that has a right one."""
        s, K = self.selection, len(correct_QK[0])
        bounds = (1, 1, K) if s.no_dcs else (s.n_pos, s.n_neg, s.m_max)
        return select_candidates(correct_QK, *bounds, seed)

    def advantages(self, rewards_QK, ref_rewards_M, ref_query_M, taught_QK):
        """DAE; without it, constructions join the group of their query."""
        if self.settings.no_dae:
            return contaminated_advantages(rewards_QK, ref_rewards_M, ref_query_M)
        baseline = self.settings.ref_baseline
        return group_advantages(rewards_QK), reflective_advantages(ref_rewards_M, ref_query_M, rewards_QK, baseline)

    def weights(self, logprobs_N, entropy_N):
        """OTS. Also where it is ablated: what a token would weigh tells what the policy knows of it."""
        return ots_weights(logprobs_N, entropy_N)

    def loss(self, tokens: Tokens):
        """Equation 6, and the loss of the synthesis outputs; without OTS, every token counts alike."""
        s, weights_N = self.settings, tokens.weights if self.suppresses else torch.ones_like(tokens.weights)
        return tapo_loss(
            tokens.logprobs, tokens.old, tokens.advantages, tokens.coefficients, tokens.group, weights_N,
            lam=s.lam, mu=s.mu, clip_low=s.clip_low, clip_high=s.clip_high,
        )  # fmt: skip


class SFT(TAPO):
    """The paper's ablation "SFT on the same trajectories": the likelihood of the right ones, no policy gradient."""

    ablations, outputs, suppresses = (), False, False

    def advantages(self, rewards_QK, ref_rewards_M, ref_query_M, taught_QK):
        """What is learnt from: of G_ref what is right, of G_orig nothing."""
        return torch.zeros_like(rewards_QK), (ref_rewards_M > 0).float()

    def loss(self, tokens: Tokens):
        """Negative log-likelihood, on the scale of TAPO's loss."""
        loss = -self.settings.lam * (tokens.coefficients * tokens.advantages * tokens.logprobs).sum()
        return loss, {"loss_ref": loss.detach()}
