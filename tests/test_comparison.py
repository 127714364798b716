"""Every side of the comparison: what each algorithm and each ablation changes in a step, and nothing else."""

import copy
from collections import Counter
from dataclasses import FrozenInstanceError

import pytest
import torch
from test_train import toy_settings
from tiny import logprobs_one_at_a_time

import data
import metrics
import toy
from grpo import GRPO
from opsd import divergence
from sampler import Completion
from tapo import ORIG, REF, SYN, contaminated_advantages, reflective_advantages
from train import OBJECTIVES, Trainer

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


class Script:
    """Stands in for a sampler, and says what it is told: RIGHT, and `construct` as synthesis task."""

    def __init__(self, actor, construct):
        self.actor, self.construct = actor, construct

    def refresh(self):
        pass

    def completion(self, text: str) -> Completion:
        ids = [*self.actor.tokenizer(text).input_ids, 1]
        return Completion(ids, [0.0] * len(ids), True)

    def sample(self, prompts, n, *, max_new_tokens, temperature, seed, progress):
        if progress == "constructions":
            said = []
            for text in map(self.actor.tokenizer.decode, prompts):
                question, rest = text.removeprefix("<user> ").removesuffix(" <assistant>").split(" wrong ")
                said.append([self.completion(self.construct(question, *rest.split(" right ")))])
            return said
        groups = []
        for prompt in prompts:
            problem, count = next((p, c) for p, c, q in zip(PROBLEMS, RIGHT, self.actor.prompts) if q == prompt)
            said = [right(problem)] * count + [wrong(problem, miss) for miss in range(4 - count)]
            groups.append([self.completion(text) for text in said])
        return groups


class Scripted:
    """A step of an untrained toy model whose responses are scripted: its figures, its attempts, and the batch that it
    was trained on, with the gradient."""

    def __init__(self, *argv, construct=rewritten):
        settings = toy_settings(
            "--queries", "3", "--k", "4", "--n-pos", "1", "--kl", "0", "--max-grad-norm", "1e9", *argv
        )
        torch.manual_seed(0)
        self.trainer = Trainer(settings, toy.model(), toy.tokenizer(), list(PROBLEMS))
        self.actor = self.trainer.actor
        self.actor.sampler = self.script = Script(self.actor, construct)
        self.start = copy.deepcopy(self.trainer.model).double()
        step = self.trainer.optimizer.step
        self.trainer.optimizer.step = lambda: (self.keep_gradient(), step())
        self.figures, self.attempts, self.batch = self.trainer.step(0)

    def keep_gradient(self):
        grads = [p.grad for p in self.trainer.model.parameters()]
        self.gradient = torch.cat([g.flatten() for g in grads]).double()

    def exact_gradient(self, loss):
        loss.backward()
        return torch.cat([p.grad.flatten() for p in self.start.parameters()])

    def rows(self, *groups, right=None):
        """(response, its advantage, its teacher) of each row of these groups: all, or those of the query that got so
        many right responses."""
        batch, counts = self.batch, {tuple(p): count for p, count in zip(self.actor.prompts, RIGHT)}
        rows = [(batch.rows[i], batch.advantage[i], batch.teachers[i]) for group in groups for i in batch.of(group)]
        return [row for row in rows if right in (None, counts.get(tuple(row[0].prompt)))]

    def advantages(self, group, right):
        return [advantage for _, advantage, _ in self.rows(group, right=right)]

    def tokens(self) -> int:
        """Of G_orig, over which every loss is averaged."""
        return sum(len(row.ids) for row, _, _ in self.rows(ORIG))


def test_the_script_is_a_tapo_step():
    """Of the query with one right response two of three wrong ones are eligible (n_neg 2); all is kept and right."""
    made = Scripted("--m-max", "2")
    assert {count: len(made.rows(REF, right=count)) for count in RIGHT} == {1: 2, 3: 0, 0: 0}
    assert made.figures["kept"] == made.figures["correct"] == len(made.rows(SYN)) == 2
    assert made.advantages(ORIG, 1) == pytest.approx([3**0.5, *[-(3**-0.5)] * 3], abs=1e-4)


def test_without_dcs_every_wrong_response_beside_a_right_one_is_rewritten():
    made = Scripted("--m-max", "2", "--no-dcs")
    assert {count: len(made.rows(REF, right=count)) for count in RIGHT} == {1: 3, 3: 1, 0: 0}
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
    apart = reflective_advantages(ref_rewards, query, rewards, "query")
    assert apart.tolist() == pytest.approx([3**0.5, 0, -1, 3**0.5], abs=1e-4)


def test_without_dae_constructions_move_the_advantages_of_their_query():
    made = Scripted("--no-dae")  # 1 0 0 0 with 1 1 1: mean 4/7, deviation sqrt(12) / 7
    expected = [3 / 12**0.5, *[-4 / 12**0.5] * 3]
    assert made.advantages(ORIG, 1) == pytest.approx(expected, abs=1e-4)
    assert made.advantages(REF, 1) == pytest.approx([3 / 12**0.5] * 3, abs=1e-4)
    apart = Scripted()
    for count in (0, 3):
        assert made.advantages(ORIG, count) == apart.advantages(ORIG, count) and len(made.advantages(ORIG, count)) == 4


def test_without_ots_every_token_counts_alike():
    plain, uniform = Scripted("--mu", "0"), Scripted("--mu", "0", "--no-ots")
    assert uniform.figures["ots_weight"] == plain.figures["ots_weight"] != 1  # what a token would weigh
    assert [row.ids for row, _, _ in plain.rows(REF)] == [row.ids for row, _, _ in uniform.rows(REF)]
    assert len(uniform.rows(REF)) == 3
    expected = 0.0
    for row, advantage, _ in uniform.rows(ORIG, REF):
        logprobs, _ = logprobs_one_at_a_time(uniform.start, row.prompt, row.ids, 1.0)
        expected = expected - advantage * logprobs.sum() / uniform.tokens()
    wanted = uniform.exact_gradient(expected)
    assert (uniform.gradient - wanted).norm() / wanted.norm() < 1e-4
    assert (plain.gradient - wanted).norm() / wanted.norm() > 0.01


@pytest.mark.parametrize("flags", [[], ["--epochs", "2", "--minibatches", "2"], ["--no-ots"], ["--algo", "sft"]])
def test_the_turn_and_the_floor_are_those_of_before_the_update(flags, monkeypatch):
    """Against a forward of each construction by itself, in float64 with the weights that the step began with."""
    make = toy.model

    def sharp():  # an untrained model gives each token about the same probability, and nothing stands at the floor
        model = make()
        with torch.no_grad():
            model.lm_head.weight.mul_(6)
        return model

    monkeypatch.setattr(toy, "model", sharp)
    made = Scripted("--lr", "1e-2", "--warmup", "1", "--temperature", "0.8", *flags)
    turns, floor, count = [], Counter(), 0
    for attempt in made.attempts:
        row, kept = attempt.trajectory, attempt.construction.kept
        logprobs, entropy = logprobs_one_at_a_time(made.start, row.prompt, row.ids, 0.8)
        weights = (logprobs + entropy).exp().clamp(0.01, 10)
        assert row.ids[kept] == toy.VOCABULARY["wait"]
        turns.append((weights[kept].item(), logprobs[kept].exp().item()))
        floor.update(toy.tokenizer().decode([i]) for i, w in zip(row.ids, weights) if w == 0.01)
        count += len(row.ids)
    assert len(turns) == made.figures["kept"] == 3 and len({*floor.values()}) > 1
    names = ("turn_weight", "turn_probability", "floor_share")
    expected = [sum(weight for weight, _ in turns) / 3, sum(p for _, p in turns) / 3, floor.total() / count]
    assert [made.figures[name] for name in names] == pytest.approx(expected, rel=1e-3)
    most = sorted(floor.items(), key=lambda one: (-one[1], one[0]))[:8]
    assert list(made.figures["floor_tokens"].items()) == most
    assert f"turn's weight {expected[0]:.2g}, at the floor {100 * expected[2]:.0f} %" in metrics.headline(made.figures)


def test_there_is_no_turn_where_nothing_is_constructed():
    nothing = {"turn_weight": None, "turn_probability": None, "floor_share": None, "floor_tokens": {}}
    for made in (Scripted("--algo", "grpo"), Scripted(construct=lambda *_: "nothing")):
        assert {name: made.figures[name] for name in nothing} == nothing
        assert "floor" not in metrics.headline(made.figures)


def test_a_full_reconstruction_need_not_keep_a_word():
    def anew(question, bad, good):
        return f"<analysis> {bad.split()[1]} is wrong </analysis> <reconstruction> {good} </reconstruction>"

    assert "own words" in data.TEMPLATES.anew and "word for word" not in data.TEMPLATES.anew

    assert Scripted(construct=anew).figures["outcomes"]["no_turn"] == 3
    made = Scripted("--full-reconstruction", construct=anew)
    assert made.figures["outcomes"]["kept"] == made.figures["correct"] == 3
    for attempt in made.attempts:
        assert attempt.construction.kept == 0 and attempt.construction.prefix == ""
        assert attempt.trajectory.ids == made.script.completion(attempt.right.text).ids
    assert made.figures["turn_weight"] is made.figures["turn_probability"] is None
    assert made.figures["floor_share"] == 0


def test_sft_learns_the_right_constructions_and_nothing_else():
    def half(question, bad, good):  # of one wrong response in three the construction ends wrong
        said = rewritten(question, bad, good)
        answer = good.split()[-2]
        return said if bad != wrong(PROBLEMS[0], 0) else said.replace(f"{{ {answer} }}", "{ 0 }")

    made = Scripted("--algo", "sft", "--mu", "0.3", construct=half)
    assert [sorted(row.reward for row, _, _ in made.rows(REF)), made.rows(SYN)] == [[0, 1, 1], []]
    expected = 0.0
    for row, _, _ in made.rows(REF):
        if row.reward:
            logprobs, _ = logprobs_one_at_a_time(made.start, row.prompt, row.ids, 1.0)
            expected = expected - logprobs.sum() / made.tokens()
    wanted = made.exact_gradient(expected)
    assert (made.gradient - wanted).norm() / wanted.norm() < 1e-4
    assert made.figures["loss_ref"] == pytest.approx(expected.item(), rel=1e-4)
    assert made.figures["loss_orig"] == 0


@pytest.mark.parametrize("beta", ["0", "0.5", "1"])
def test_opsd_learns_from_another_right_response_of_the_group(beta):
    made = Scripted("--algo", "opsd", "--opsd-beta", beta, "--temperature", "0.8")
    assert not made.rows(REF, SYN)
    taught = {count: [teacher is not None for *_, teacher in made.rows(ORIG, right=count)] for count in RIGHT}
    assert taught[1] == [False, True, True, True]  # the only right one has no other
    assert taught[3] == [True] * 4 and taught[0] == [False] * 4
    expected = 0.0
    for row, _, teacher_prompt in made.rows(ORIG):
        if teacher_prompt:
            problem = PROBLEMS[made.actor.prompts.index(row.prompt)]
            text = toy.TEMPLATES.teacher.format(question=problem.question, right=right(problem))
            assert [teacher_prompt] == data.prompt_ids(made.trainer.tokenizer, [text])
            distributions = []
            for prompt in (teacher_prompt, row.prompt):
                logits = made.start(torch.tensor([prompt + row.ids])).logits[0, len(prompt) - 1 : -1]
                distributions.append((logits / 0.8).log_softmax(-1))
            teacher, student = distributions
            expected = expected + divergence(teacher.detach(), student, float(beta)).sum() / made.tokens()
    wanted = made.exact_gradient(expected)
    assert (made.gradient - wanted).norm() / wanted.norm() < 1e-4
    assert made.figures["loss_orig"] == pytest.approx(expected.item(), rel=1e-3)


def test_a_teacher_s_prompt_longer_than_the_context_is_no_teacher():
    made = Scripted("--algo", "opsd")
    group = [row for row, _, _ in made.rows(ORIG, right=3)]
    [*_, teacher], *_ = made.rows(ORIG, right=3)
    made.actor.context = len(teacher) + len(group[0].ids)
    [taught] = made.actor.teach([1], [group], 0)
    assert len(taught) == 4 and all(taught)
    made.actor.context -= 1
    [taught] = made.actor.teach([1], [group], 0)
    assert len(taught) == 4 and not any(taught)


def test_lambda_and_mu_of_0_make_a_grpo_step():
    """Whole steps, bit for bit: what was constructed is looked at, and moves nothing."""
    silent, grpo = Scripted("--lam", "0", "--mu", "0"), Scripted("--algo", "grpo")
    assert silent.figures["kept"] == 3 and not grpo.attempts
    weights = [torch.cat([p.flatten() for p in run.trainer.model.parameters()]) for run in (silent, grpo)]
    assert torch.equal(silent.gradient, grpo.gradient) and torch.equal(*weights)
    assert not torch.equal(Scripted("--mu", "0").gradient, grpo.gradient)


class RejectionSampling(GRPO):
    """An algorithm that the library does not have: the likelihood of what was sampled and is right."""

    def advantages(self, rewards_QK, ref_rewards_M, ref_query_M, taught_QK):
        return (rewards_QK > 0).float(), ref_rewards_M

    def loss(self, tokens):
        loss = -(tokens.coefficients * tokens.advantages * tokens.logprobs).sum()
        return loss, {"loss_orig": loss.detach()}


def test_another_algorithm_is_an_object_and_an_entry_in_a_table(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "rejection", RejectionSampling)
    made, expected = Scripted("--algo", "rejection"), 0.0
    assert [made.advantages(ORIG, count) for count in RIGHT] == [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    for row, _, _ in made.rows(ORIG):
        if row.correct:
            logprobs, _ = logprobs_one_at_a_time(made.start, row.prompt, row.ids, 1.0)
            expected = expected - logprobs.sum() / made.tokens()
    wanted = made.exact_gradient(expected)
    assert (made.gradient - wanted).norm() / wanted.norm() < 1e-4
    assert made.figures["loss_orig"] == pytest.approx(expected.item(), rel=1e-4)
    assert made.figures["tried"] == 0 and made.figures["grad_norm"] == pytest.approx(wanted.norm().item(), rel=1e-4)


def test_one_record_a_response_from_the_sampler_to_the_update():
    """Frozen, and never copied: what was sampled and constructed is what the batch and the attempts hold."""
    made = Scripted()
    trainer, actor, queries = made.trainer, made.actor, [2, 0, 1]
    groups = actor.sample(queries, 0)
    pairs = trainer.objective.select([[r.correct for r in group] for group in groups], "0 0")
    attempts = actor.construct(queries, groups, pairs, 0)
    batch = trainer.batch(queries, groups, attempts, 0)
    records = sum(groups, []) + [a.trajectory for a in attempts] + [a.output for a in attempts]
    assert len(records) == 12 + 3 + 3 and all(
        row is record for row, record in zip(batch.rows[:-1], records, strict=True)
    )
    for attempt, (query, negative, positive) in zip(attempts, pairs, strict=True):
        assert attempt.wrong is groups[query][negative] and attempt.right is groups[query][positive]
    with pytest.raises(FrozenInstanceError):
        records[0].reward = 1.0
    with pytest.raises(FrozenInstanceError):
        attempts[0].trajectory = None


def test_flags_that_contradict_each_other():
    def complaint(*argv):
        with pytest.raises(ValueError) as refused:
            toy_settings(*argv)
        return str(refused.value)

    assert "--no-ots takes a part of TAPO away" in complaint("--algo", "grpo", "--no-ots")
    assert "--opsd-beta must be from 0" in complaint("--algo", "opsd", "--opsd-beta", "1.2")
    assert "raise --k" in complaint("--algo", "sft", "--k", "3", "--n-neg", "4")
    toy_settings("--k", "3", "--n-neg", "4", "--no-dcs")
