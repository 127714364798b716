"""OPSD: on-policy self-distillation (arXiv 2601.18734), the implicit alignment that TAPO is measured against.

One network plays two parts. The student sampled a response y from the plain prompt x. The teacher is the same network,
now with a right response y+ of the same group in its context, x+; it writes nothing, it scores y:

    P_S = p(. | x, y_<t)        P_T = p(. | x+, y_<t), a constant for the gradient

and the loss of token t is the generalised Jensen-Shannon divergence of the two over the whole vocabulary (GKD, arXiv
2306.13649):

    JSD_beta(P_T || P_S) = beta KL(P_T || M) + (1 - beta) KL(P_S || M),    M = beta P_T + (1 - beta) P_S

At both ends that is 0. So, as is usual, the ends are defined as what JSD / beta and JSD / (1 - beta) tend to:

    beta = 0    forward KL, KL(P_T || P_S)
    beta = 1    reverse KL, KL(P_S || P_T)

The gradient is that of the divergence at the given tokens; that y was sampled from the student is left out, as in GKD.

Memory is that of policy.py: both sides' last hidden states pass through the output layer in chunks, which backward
computes again. For a chunk some tables of chunk x vocabulary numbers are alive.

Ours, not the paper's: y+ is a response of the policy's own, as TAPO has it, where OPSD takes the data's solution.
"""

import math

import torch
from torch.utils.checkpoint import checkpoint

from policy import Policy


class StudentTeacher(Policy):
    """Wraps a causal LM as student and teacher in one forward, so that it owns every use of a parameter."""

    def forward(
        self,
        prompts: list[list[int]],
        teacher_prompts: list[list[int]],
        responses: list[list[int]],
        temperature: float = 1.0,
        beta: float = 0.5,
    ):
        """For each response token in turn its divergence, its log-probability under the plain prompt, and the entropy
        there: three [N], float32, N = total response tokens. The first two carry a gradient, through the student.

        `prompts` are x and `teacher_prompts` x+, whose lengths may differ; both distributions are taken under
        `temperature`. Raises ValueError unless 0 <= beta <= 1."""
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be from 0 (forward KL) to 1 (reverse KL), not {beta}")
        with torch.no_grad():
            teacher_ND, _ = self.hidden(teacher_prompts, responses)
        student_ND, target_N = self.hidden(prompts, responses)
        chunks = zip(*(x.split(self.chunk) for x in (student_ND, teacher_ND, target_N)))
        parts = [checkpoint(self._compare, *chunk, temperature, beta, use_reentrant=False) for chunk in chunks]
        return tuple(torch.cat(x) for x in zip(*parts))

    def _compare(self, student_CD, teacher_CD, target_C, temperature, beta):
        with torch.no_grad():  # here, too: backward comes through here again
            teacher_CV = self.log_distribution(teacher_CD, temperature)
        student_CV = self.log_distribution(student_CD, temperature)
        with torch.no_grad():
            entropy_C = -(student_CV.exp() * student_CV).sum(-1)
        logprobs_C = student_CV.gather(-1, target_C[:, None])[:, 0]
        return divergence(teacher_CV, student_CV, beta), logprobs_C, entropy_C


def divergence(teacher_CV: torch.Tensor, student_CV: torch.Tensor, beta: float) -> torch.Tensor:
    """JSD_beta(teacher || student) [C], in nats, of log-probabilities [C, V]; forward KL at 0, reverse KL at 1."""
    if beta == 0:
        return _kl(teacher_CV, student_CV)
    if beta == 1:
        return _kl(student_CV, teacher_CV)
    mixture_CV = torch.logaddexp(teacher_CV + math.log(beta), student_CV + math.log(1 - beta))
    return beta * _kl(teacher_CV, mixture_CV) + (1 - beta) * _kl(student_CV, mixture_CV)


def _kl(p_CV, q_CV):
    return (p_CV.exp() * (p_CV - q_CV)).sum(-1)


class OPSD:
    """The algorithm, as train.py asks for it (grpo.GRPO says what each part means)."""

    ablations, constructs, outputs, teaches = (), False, False, True
    network = StudentTeacher

    def __init__(self, settings, selection=None):
        """`settings` are config.Objective, or anything with its fields."""
        self.settings = settings

    def select(self, correct_QK, seed):
        """Nothing is constructed."""
        return []

    def advantages(self, rewards_QK, ref_rewards_M, ref_query_M, taught_QK):
        """What is learnt from, 1, or not, 0: the responses that have a teacher."""
        return taught_QK.float(), ref_rewards_M

    def forward(self, network, prompts, teachers, responses, temperature):
        """Log-probabilities, entropies and divergences [N]. A response without a teacher has its own prompt for one."""
        teachers = [teacher or prompt for teacher, prompt in zip(teachers, prompts)]
        divergence_N, logprobs_N, entropy_N = network(
            prompts, teachers, responses, temperature, self.settings.opsd_beta
        )
        return logprobs_N, entropy_N, divergence_N

    def weights(self, logprobs_N, entropy_N):
        """There is no G_ref to weight."""
        return torch.ones_like(logprobs_N)

    def loss(self, tokens):
        """The divergence from the teacher, on the scale of GRPO's loss."""
        loss = (tokens.coefficients * tokens.advantages * tokens.divergence).sum()
        return loss, {"loss_orig": loss.detach()}
