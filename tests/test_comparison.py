"""Every side of the comparison: what each algorithm and each ablation changes in a step, and nothing else."""

import copy

import pytest
import torch
from tiny import logprobs_one_at_a_time

import data
import flags
import toy
from opsd import divergence
from sampler import Completion
from tapo import contaminated_advantages, reference_advantages
from train import Trainer

PROBLEMS = toy.problems()[0][:3]
# Right responses of each query of the step, of 4; the other ones are wrong.
RIGHT = [1, 3, 0]


def right(problem) -> str:
    return toy.solution(problem.question, [int(problem.answer)])


def wrong(problem, miss: int) -> str:
    return toy.solution(problem.question, [(int(problem.answer) + miss) % 10 + 1])


def rewritten(question: str, bad: str, good: str) -> str:
    """What the synthesis task wants: bad up to its verdict, the turn, good."""
    kept = bad.split(" ; ")[0]
    verdict = f"{kept.split()[1]} is {kept.split()[-1]}"
    return f"<analysis> {verdict} </analysis> <reconstruction> {kept} ; wait {verdict} ; {good} </reconstruction>"


class Scripted:
    """A trainer of an untrained toy model whose sampler says what it is told: RIGHT, and `construct` as synthesis
    task. Holds what a step gave to the update."""

    def __init__(self, *argv, construct=rewritten):
        sizes = ["--queries", "3", "--k", "4", "--n-pos", "1"]
        args, _ = flags.parse([*sizes, "--kl", "0", "--max-grad-norm", "1e9", *argv])
        flags.settle(args, is_toy=True)
        torch.manual_seed(0)
        self.trainer = Trainer(args, toy.model(), toy.tokenizer(), list(PROBLEMS))
        self.trainer.sample, self.construct = self.sample, construct
        self.update, self.trainer.update = self.trainer.update, self.record
        self.start = copy.deepcopy(self.trainer.model).double()
        step = self.trainer.optimizer.step
        self.trainer.optimizer.step = lambda: (self.keep_gradient(), step())
        self.figures, self.attempts = self.trainer.step(0)

    def completion(self, text: str) -> Completion:
        ids = [*self.trainer.tokenizer(text).input_ids, 1]
        return Completion(ids, [0.0] * len(ids), True)

    def sample(self, prompts, n, limit, number, progress):
        if progress == "constructions":
            texts, said = self.trainer.tokenizer.batch_decode(prompts), []
            for text in texts:
                question, rest = text.removeprefix("<user> ").removesuffix(" <assistant>").split(" wrong ")
                said.append([self.completion(self.construct(question, *rest.split(" right ")))])
            return said
        groups = []
        for prompt in prompts:
            problem, count = next((p, c) for p, c, q in zip(PROBLEMS, RIGHT, self.trainer.prompts) if q == prompt)
            said = [right(problem)] * count + [wrong(problem, miss) for miss in range(4 - count)]
            groups.append([self.completion(text) for text in said])
        return groups

    def record(self, orig, ref, syn, number):
        self.orig, self.ref, self.syn = orig, ref, syn
        return self.update(orig, ref, syn, number)

    def keep_gradient(self):
        grads = [p.grad for p in self.trainer.model.parameters()]
        self.gradient = torch.cat([g.flatten() for g in grads]).double()

    def exact_gradient(self, loss):
        loss.backward()
        return torch.cat([p.grad.flatten() for p in self.start.parameters()])

    def by_right(self, rollouts):
        """Rollouts by how many right responses their query got."""
        counts = {tuple(prompt): count for prompt, count in zip(self.trainer.prompts, RIGHT)}
        return {count: [r for r in rollouts if counts[tuple(r.prompt)] == count] for count in RIGHT}


def test_the_script_is_a_tapo_step():
    """Of the query with one right response two of three wrong ones are eligible (n_neg 2); all is kept and right."""
    made = Scripted("--m-max", "2")
    assert {count: len(group) for count, group in made.by_right(made.ref).items()} == {1: 2, 3: 0, 0: 0}
    assert made.figures["kept"] == made.figures["correct"] == len(made.syn) == 2
    advantages = made.by_right(made.orig)
    assert [r.advantage for r in advantages[1]] == pytest.approx([3**0.5, *[-(3**-0.5)] * 3], abs=1e-4)


def test_without_dcs_every_wrong_response_beside_a_right_one_is_rewritten():
    made = Scripted("--m-max", "2", "--no-dcs")
    assert {count: len(group) for count, group in made.by_right(made.ref).items()} == {1: 3, 3: 1, 0: 0}
    assert Scripted("--n-pos", "2", "--no-dcs", "--k", "4").figures["eligible_queries"] == 2


def test_contamination_by_hand():
    rewards = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    ref_rewards, query = torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([0, 3, 1, 0])
    orig, ref = contaminated_advantages(rewards, ref_rewards, query)
    # query 0: 1 0 0 0 with 1 1, mean 1/2, deviation 1/2. Query 1: 1 1 0 0 with 0, mean 2/5, deviation sqrt(6)/5.
    high, low = 3 / 6**0.5, -2 / 6**0.5
    assert orig[0].tolist() == pytest.approx([1, -1, -1, -1], abs=1e-4)
    assert orig[1].tolist() == pytest.approx([high, high, low, low], abs=1e-4)
    assert orig[2].tolist() == [0, 0, 0, 0]
    # query 3: 0 0 0 0 with 1, mean 1/5, deviation 2/5: its own responses are punished because of the construction
    assert orig[3].tolist() == pytest.approx([-0.5] * 4, abs=1e-4)
    assert ref.tolist() == pytest.approx([1, 2, low, 1], abs=1e-4)
    apart = reference_advantages(ref_rewards, query, rewards, "query")
    assert apart.tolist() == pytest.approx([3**0.5, 0, -1, 3**0.5], abs=1e-4)


def test_without_dae_constructions_move_the_advantages_of_their_query():
    made = Scripted("--no-dae")  # 1 0 0 0 with 1 1 1: mean 4/7, deviation sqrt(12) / 7
    expected = [3 / 12**0.5, *[-4 / 12**0.5] * 3]
    assert [r.advantage for r in made.by_right(made.orig)[1]] == pytest.approx(expected, abs=1e-4)
    assert [r.advantage for r in made.by_right(made.ref)[1]] == pytest.approx([3 / 12**0.5] * 3, abs=1e-4)
    apart = Scripted()
    for count in (0, 3):
        same = [[r.advantage for r in run.by_right(run.orig)[count]] for run in (made, apart)]
        assert same[0] == same[1]


def test_without_ots_every_token_counts_alike():
    plain, uniform = Scripted("--mu", "0"), Scripted("--mu", "0", "--no-ots")
    assert uniform.figures["ots_weight"] == 1 != plain.figures["ots_weight"]
    assert [r.ids for r in plain.ref] == [r.ids for r in uniform.ref]
    tokens, expected = sum(len(r.ids) for r in uniform.orig), 0.0
    for r in uniform.orig + uniform.ref:
        logprobs, _ = logprobs_one_at_a_time(uniform.start, r.prompt, r.ids, 1.0)
        expected = expected - r.advantage * logprobs.sum() / tokens
    wanted = uniform.exact_gradient(expected)
    assert (uniform.gradient - wanted).norm() / wanted.norm() < 1e-4
    assert (plain.gradient - wanted).norm() / wanted.norm() > 0.01


def test_a_full_reconstruction_need_not_keep_a_word():
    def anew(question, bad, good):
        return f"<analysis> {bad.split()[1]} is wrong </analysis> <reconstruction> {good} </reconstruction>"

    assert "own words" in data.TEMPLATES.anew and "word for word" not in data.TEMPLATES.anew

    assert Scripted(construct=anew).figures["outcomes"]["no_turn"] == 3
    made = Scripted("--full-reconstruction", construct=anew)
    assert made.figures["outcomes"]["kept"] == made.figures["correct"] == 3
    for attempt in made.attempts:
        assert attempt.construction.kept == 0 and attempt.construction.prefix == ""
        assert attempt.rollout.ids == made.completion(attempt.right.text).ids


def test_sft_learns_the_right_constructions_and_nothing_else():
    def half(question, bad, good):  # of one wrong response in three the construction ends wrong
        said = rewritten(question, bad, good)
        answer = good.split()[-2]
        return said if bad != wrong(PROBLEMS[0], 0) else said.replace(f"{{ {answer} }}", "{ 0 }")

    made = Scripted("--algo", "sft", "--mu", "0.3", construct=half)
    assert [sorted(r.reward for r in made.ref), made.syn] == [[0, 1, 1], []]
    tokens, expected = sum(len(r.ids) for r in made.orig), 0.0
    for r in made.ref:
        if r.reward:
            expected = expected - logprobs_one_at_a_time(made.start, r.prompt, r.ids, 1.0)[0].sum() / tokens
    wanted = made.exact_gradient(expected)
    assert (made.gradient - wanted).norm() / wanted.norm() < 1e-4
    assert made.figures["loss_ref"] == pytest.approx(expected.item(), rel=1e-4)
    assert made.figures["loss_orig"] == 0


@pytest.mark.parametrize("beta", ["0", "0.5", "1"])
def test_opsd_learns_from_another_right_response_of_the_group(beta):
    made = Scripted("--algo", "opsd", "--opsd-beta", beta, "--temperature", "0.8")
    groups, tokens, expected = made.by_right(made.orig), sum(len(r.ids) for r in made.orig), 0.0
    assert not made.ref and not made.syn
    assert [r.teacher is None for r in groups[1]] == [True, False, False, False]  # the only right one has no other
    assert all(r.teacher for r in groups[3]) and not any(r.teacher for r in groups[0])
    for r in made.orig:
        if r.teacher:
            problem = PROBLEMS[made.trainer.prompts.index(r.prompt)]
            text = toy.TEMPLATES.teacher.format(question=problem.question, right=right(problem))
            assert [r.teacher] == data.prompt_ids(made.trainer.tokenizer, [text])
            distributions = []
            for prompt in (r.teacher, r.prompt):
                logits = made.start(torch.tensor([prompt + r.ids])).logits[0, len(prompt) - 1 : -1]
                distributions.append((logits / 0.8).log_softmax(-1))
            teacher, student = distributions
            expected = expected + divergence(teacher.detach(), student, float(beta)).sum() / tokens
    wanted = made.exact_gradient(expected)
    assert (made.gradient - wanted).norm() / wanted.norm() < 1e-4
    assert made.figures["loss_orig"] == pytest.approx(expected.item(), rel=1e-3)


def test_a_teacher_s_prompt_longer_than_the_context_is_no_teacher():
    made = Scripted("--algo", "opsd")
    group = made.by_right(made.orig)[3]
    made.trainer.context = len(group[0].teacher) + len(group[0].ids)
    made.trainer.teach({0: 1}, {0: group}, 0)
    assert all(r.teacher for r in group)
    made.trainer.context -= 1
    made.trainer.teach({0: 1}, {0: group}, 0)
    assert not any(r.teacher for r in group)


def test_flags_that_contradict_each_other():
    def complaint(*argv):
        args, _ = flags.parse(list(argv))
        with pytest.raises(ValueError) as refused:
            flags.settle(args, is_toy=True)
        return str(refused.value)

    assert "--no-ots takes a part of TAPO away" in complaint("--algo", "grpo", "--no-ots")
    assert "--opsd-beta must be from 0" in complaint("--algo", "opsd", "--opsd-beta", "1.2")
    assert "raise --k" in complaint("--algo", "sft", "--k", "3", "--n-neg", "4")
    flags.settle(flags.parse(["--k", "3", "--n-neg", "4", "--no-dcs"])[0], is_toy=True)
