"""The loop: its gradient against a float64 reference, learning, and the real path end to end."""

import copy
import json
import random
import shutil

import pytest
import torch
from tiny import logprobs_one_at_a_time
from transformers import AutoModelForCausalLM, AutoTokenizer

import checkpoint
import coldstart
import config
import data
import metrics
import policy
import toy
import train
from checkpoint import Run
from data import queries_of_step
from reflect import reflects
from rollouts import Batch, Response
from tools import report
from train import Trainer
from verifier import verify


def toy_settings(*argv) -> config.Training:
    """The settings of train.py on the toy, with these flags given."""
    given = config.read(config.Training, "", toy.SETTINGS, list(argv), algo=train.OBJECTIVES)
    settings = config.settle(config.Training, given, toy.SETTINGS)
    train.check(settings)
    return settings


def toy_trainer(*argv, seed=0, problems=None):
    """A trainer of an untrained toy model, without dropout of anything: steps are small and exact."""
    settings = toy_settings("--queries", "8", *argv)
    torch.manual_seed(seed)
    return Trainer(settings, toy.model(), toy.tokenizer(), problems or toy.problems()[0])


def response(prompt, ids, constructed=False, query=0) -> Response:
    """A response of these ids; if it was sampled, each had a probability of 1 / e."""
    logprobs = [] if constructed else [-1.0] * len(ids)
    return Response(ids, logprobs, True, query=query, prompt=prompt, text="", reward=1.0, reflects=False)


def made_up(count, constructed, seed) -> tuple[list[Response], list[float]]:
    """Responses to as many queries, and an advantage of each."""
    rng = random.Random(seed)
    responses, advantages = [], []
    for i in range(count):
        prompt = [rng.randrange(2, 120) for _ in range(rng.randint(2, 9))]
        ids = [rng.randrange(2, 120) for _ in range(rng.randint(1, 20))] + [1]
        responses.append(response(prompt, ids, constructed, query=i))
        advantages.append(rng.choice([-1.5, 0.0, 0.7]))
    return responses, advantages


NOTHING = [], []  # an empty group


def batch_of(orig, ref=NOTHING, syn=NOTHING, teachers=()) -> Batch:
    """A batch of G_orig, G_ref and G_syn, each given as `made_up` gives it."""
    return Batch(orig[0], ref[0], syn[0], orig[1] + ref[1] + syn[1], teachers)


@pytest.mark.parametrize("average", ["token", "active", "sequence", "constant"])
def test_the_update_s_gradient_is_that_of_the_equations(average):
    """Policy, OTS weights, both losses and the KL, one row at a time in float64 (invariant 1; temperature 0.8)."""
    flags_given = ["--average", average, "--lam", "0.6", "--mu", "0.2", "--kl", "0.3", "--temperature", "0.8"]
    trainer = toy_trainer(*flags_given, "--micro-batch-tokens", "90", "--max-grad-norm", "1e9")
    start = copy.deepcopy(trainer.model).double()
    with torch.no_grad():
        for p in trainer.model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    exact = copy.deepcopy(trainer.model).double()
    orig, ref, syn = made_up(9, False, 0), made_up(5, True, 1), made_up(4, False, 5)

    counted = [r for r, a in zip(*orig) if a or average != "active"]  # each is a group of its own
    assert (len(counted) < len(orig[0])) == (average == "active")

    def coefficient(row):
        if average in ("token", "active"):
            return 1 / sum(len(r.ids) for r in counted)
        return 1 / len(orig[0]) / (len(row.ids) if average == "sequence" else toy.LIMITS["max_new_tokens"])

    expected, losses = 0.0, [0.0, 0.0, 0.0]
    for which, group in enumerate((orig, ref, syn)):
        for row, advantage in zip(*group):
            logprobs, entropy = logprobs_one_at_a_time(exact, row.prompt, row.ids, 0.8)
            surrogate = -(logprobs - logprobs.detach()).exp() * advantage
            if which == 1:
                surrogate = surrogate * (logprobs + entropy).detach().exp().clamp(0.01, 10)
            losses[which] += coefficient(row) * surrogate.sum().item()
            expected = expected + (1.0, 0.6, 0.2)[which] * coefficient(row) * surrogate.sum()
            if which == 0 and any(row is r for r in counted):
                reference, _ = logprobs_one_at_a_time(start, row.prompt, row.ids, 0.8)
                difference = reference.detach() - logprobs
                expected = expected + 0.3 * coefficient(row) * (difference.exp() - difference - 1).sum()
    expected.backward()
    wanted = torch.cat([p.grad.flatten() for p in exact.parameters()])

    got = []
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda: (got.extend(p.grad.flatten() for p in trainer.model.parameters()), step())
    figures = trainer.update(batch_of(orig, ref, syn), 0)
    assert (torch.cat(got).double() - wanted).norm() / wanted.norm() < 1e-5
    assert figures["loss_orig"] == pytest.approx(losses[0], abs=1e-5)
    assert figures["loss_ref"] == pytest.approx(losses[1], abs=1e-5)
    assert figures["loss_syn"] == pytest.approx(losses[2], abs=1e-5)
    assert figures["grad_norm"] == pytest.approx(wanted.norm().item(), rel=1e-4)


def weights_after(orig, ref, *argv, syn=NOTHING):
    trainer = toy_trainer(*argv)
    trainer.update(batch_of(orig, ref, syn), 9)
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_lambda_0_and_nothing_constructed_are_grpo_exactly():
    orig, ref = made_up(6, False, 2), made_up(4, True, 3)
    grpo = weights_after(orig, NOTHING, "--algo", "grpo")
    assert torch.equal(grpo, weights_after(orig, NOTHING))
    silent = weights_after(orig, ref, "--lam", "0", "--mu", "0")
    assert torch.equal(silent, grpo)
    assert torch.equal(grpo, weights_after(orig, NOTHING, "--mu", "0", syn=made_up(3, False, 4)))
    assert (weights_after(orig, ref) - grpo).abs().max() > 1e-5


def test_a_turn_is_learnt_from_constructions_and_only_from_them():
    """The heart of TAPO: a continuation that the policy never samples becomes likely under the plain prompt."""
    torch.manual_seed(0)
    model, tokenizer = toy.model(), toy.tokenizer()
    problem = toy.problems()[0][0]
    answer = int(problem.answer)
    wrong, fixed = (
        toy.solution(problem.question, guesses) for guesses in ([answer % 10 + 1], [answer % 10 + 1, answer])
    )
    [prompt] = data.prompt_ids(tokenizer, [problem.question])
    wrong_ids, fixed_ids = (tokenizer(text).input_ids + [1] for text in (wrong, fixed))
    coldstart.finetune(model, [[(prompt, wrong_ids)]] * 10, 10, 3e-3, 1)
    kept = len(wrong_ids) - 4

    def turn_probability(trainer):
        with torch.no_grad():
            return trainer.network([prompt], [fixed_ids])[0][kept].exp().item()

    probabilities = {}
    for lam in ("1", "0"):
        trainer = toy_trainer("--lam", lam, "--lr", "1e-3", "--kl", "0")
        trainer.model.load_state_dict(model.state_dict())
        before = turn_probability(trainer)
        for step in range(80):
            orig, ref = ([response(prompt, wrong_ids)], [0.0]), ([response(prompt, fixed_ids, True)], [1.0])
            trainer.update(batch_of(orig, ref), 10 + step)
        probabilities[lam] = before, turn_probability(trainer)
    assert probabilities["0"][0] < 0.02
    assert probabilities["1"][1] > 0.5
    assert probabilities["0"][1] == pytest.approx(probabilities["0"][0], rel=1e-3)


def test_gradient_checkpointing_is_for_gradients(monkeypatch):
    """In one process the sampler shares the trained model's layers: they are checkpointed in the update only."""
    calls, weights = [], []
    real = policy.checkpoint
    monkeypatch.setattr(policy, "checkpoint", lambda *a, **k: calls.append(1) or real(*a, **k))
    for flag in ([], ["--gradient-checkpointing"]):
        trainer = toy_trainer("--micro-batch-tokens", "100000", "--kl", "0", *flag)
        groups = trainer.actor.sample([0, 1], 0)
        trainer.actor.construct([0, 1], groups, [(0, 0, 1)], 0)
        assert not calls
        trainer.update(batch_of(made_up(6, False, 2), made_up(4, True, 3)), 0)
        weights.append(torch.cat([p.flatten() for p in trainer.model.parameters()]))
        assert len(calls) == (2 * toy.SHAPE["num_hidden_layers"] if flag else 0)  # G_orig and G_ref
    assert torch.equal(*weights)


def test_the_largest_micro_batch_comes_first():
    """Whatever its group: so an update that does not fit runs out of memory at once."""
    trainer = toy_trainer("--micro-batch-tokens", "60")
    batch = batch_of(made_up(9, False, 0), made_up(5, True, 1), made_up(4, False, 5))
    rows = list(range(len(batch.rows) - 1))
    made = [mine for mine, _ in trainer.micro_batches(batch, rows)]
    assert sorted(sum(made, [])) == rows and all(len({batch.group[i] for i in mine}) == 1 for mine in made)
    lengths = [[len(batch.rows[i].prompt) + len(batch.rows[i].ids) for i in mine] for mine in made]
    padded = [len(some) * max(some) for some in lengths]
    assert len(made) > 5 and padded == sorted(padded, reverse=True) and padded[0] <= 60


def test_grpo_learns():
    """One answer is right for every question. From one in ten, 16 steps make it likelier than not; a loss with a
    wrong sign, scale or mask does not get there."""
    problems = [data.Problem(f"{i} * x + 1 = 1", "3") for i in range(2, 10)]
    tokenizer, rng = toy.tokenizer(), random.Random(0)

    def answers():
        while True:
            texts = [(p.question, f"\\boxed{{ {rng.randint(1, 10)} }}") for p in problems for _ in range(4)]
            prompts = data.prompt_ids(tokenizer, [q for q, _ in texts])
            yield [(prompt, [*tokenizer(a).input_ids, 1]) for prompt, (_, a) in zip(prompts, texts)]

    trainer = toy_trainer("--algo", "grpo", "--lr", "1e-3", "--kl", "0", problems=problems)
    coldstart.finetune(trainer.model, answers(), 40, 3e-3, 10)
    accuracies = [trainer.step(number)[0]["accuracy"] for number in range(16)]
    assert accuracies[0] < 0.3
    assert accuracies[-1] > 0.7


def test_every_problem_comes_once_an_epoch_and_again_the_same_for_the_same_seed():
    seen = [q for number in range(5) for q in queries_of_step(20, 8, 3, number)]
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert seen[:20] != seen[20:]
    assert queries_of_step(20, 8, 3, 4) == seen[32:] != queries_of_step(20, 8, 4, 4)


def run_train(monkeypatch, capsys, *argv):
    monkeypatch.setattr("sys.argv", ["train.py", *map(str, argv)])
    train.main()
    return capsys.readouterr().out


def test_the_real_path(real_path, tmp_path, monkeypatch, capsys):
    """Sampling, verifying, two TAPO steps with constructions, saving, loading the result as any transformers model."""
    out, again, real = tmp_path / "run", [], policy.checkpoint
    monkeypatch.setattr(policy, "checkpoint", lambda *a, **k: again.append(1) or real(*a, **k))
    sizes = ["--queries", 6, "--k", 8, "--n-neg", 2, "--max-new-tokens", 60, "--max-synthesis-tokens", 120]
    printed = run_train(
        monkeypatch, capsys, "--model", real_path / "model", "--data", real_path / "problems.jsonl", "--out", out,
        "--eval-data", real_path / "problems.jsonl", "--steps", 2, "--lr", 1e-4, *sizes,
    )  # fmt: skip
    assert "DSR" in printed and str(out) in printed
    assert again  # a real model's activations are computed again

    metrics = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    assert [m["step"] for m in metrics] == [1, 2]
    for m in metrics:
        assert m["tried"] >= m["parsed"] >= m["verbatim"] >= m["kept"] >= m["correct"] > 0
        assert m["nonzero_advantage"] > 0 and m["gap_max"] < 1e-4 and m["grad_norm"] > 0
        assert sum(m["outcomes"].values()) == m["tried"] and m["outcomes"]["kept"] == m["kept"]
        needed = (
            "reward_mean accuracy zero_variance eligible_queries ots_weight loss_orig loss_ref entropy clip_fraction"
        )
        needed += " length_mean length_max cut gap_mean seconds_sampling seconds_training tokens_sampled tokens_trained"
        assert all(isinstance(m[name], (int, float)) for name in needed.split())

    begun = json.loads((out / "config.json").read_text())
    assert begun["settings"]["steps"] == 2 and begun["torch"] == torch.__version__ and "commit" in begun
    answers = {p.question: p.answer for p in data.load(str(real_path / "problems.jsonl"))}
    kept = [row for row in map(json.loads, (out / "trajectories.jsonl").open()) if row["outcome"] == "kept"]
    for row in kept:
        assert row["wrong"].startswith(row["prefix"])
        if "\ufffd" not in row["turn"]:  # else a character's bytes are in several tokens, each no text by itself
            assert "".join(row["tokens"]).startswith(row["prefix"] + row["turn"])
        assert len(row["tokens"]) == len(row["ots_weights"]) and all(0.01 <= w <= 10 for w in row["ots_weights"])
        assert row["reward"] == verify(row["prefix"] + row["turn"], answers[row["question"]])
        assert verify(row["right"], answers[row["question"]]) and not verify(row["wrong"], answers[row["question"]])

    assert [m["lr"] for m in metrics] == pytest.approx([1e-5, 2e-5])  # the first two of ten steps of warm-up
    sampled = [json.loads(line) for line in (out / "rollouts.jsonl").open()]
    assert [row["step"] for row in sampled] == [1] * 4 + [2] * 4
    for those in (sampled[:4], sampled[4:]):
        assert [row["correct"] for row in those] in ([True, False] * 2, [False, True] * 2)
        assert len({row["question"] for row in those}) > 1 and any(row["advantage"] for row in those)
    for row in sampled:
        assert row["answer"] == answers[row["question"]] and row["reward"] == row["correct"]
        assert row["correct"] == (row["finished"] and verify(row["text"], row["answer"])) and 1 < row["tokens"] <= 60
        assert row["reflects"] == reflects(row["text"]) and row["advantage"] * (row["reward"] - 0.5) >= 0

    before = AutoModelForCausalLM.from_pretrained(real_path / "model")
    after, tokenizer = AutoModelForCausalLM.from_pretrained(out / "model"), AutoTokenizer.from_pretrained(out / "model")
    assert after.get_input_embeddings().weight is after.get_output_embeddings().weight
    assert any(not torch.equal(p, q) for p, q in zip(before.parameters(), after.parameters()))
    assert all(p.dtype == torch.float32 for p in after.parameters())
    assert tokenizer.chat_template

    monkeypatch.setattr("sys.argv", ["report.py", str(out), "-n", "1"])
    report.main()
    shown = capsys.readouterr().out
    parts = [kept[-1]["prefix"].strip(), *report.split_turn(kept[-1]["turn"])]
    assert parts[1].startswith("Wait, that is too much") and " ".join(f"[{part}]" for part in parts) in shown

    rerun = tmp_path / "again"
    run_train(
        monkeypatch, capsys, "--model", real_path / "model", "--data", real_path / "problems.jsonl", "--out", rerun,
        "--steps", 2, "--lr", 1e-4, *sizes,
    )  # fmt: skip
    weights = (out / "model" / "model.safetensors").read_bytes()
    assert weights == (rerun / "model" / "model.safetensors").read_bytes()  # the seed decides everything


def refused(monkeypatch, capsys, *argv, program=train):
    monkeypatch.setattr("sys.argv", ["program", *map(str, argv)])
    with pytest.raises(SystemExit) as stopped:
        config.run(program.main)
    assert stopped.value.code == 2
    printed = capsys.readouterr().err.strip()
    said = printed.split("\n")[-1]  # a progress bar may stand before it
    assert said.startswith("error: ") and "Traceback" not in printed
    return said


def test_a_full_reconstruction_is_asked_for_in_other_words(real_path):
    model, tokenizer = policy.load(str(real_path / "model"))
    for flag, task in ((), data.TEMPLATES.synthesis), (("--full-reconstruction",), data.TEMPLATES.anew):
        argv = ["--max-new-tokens", "60", "--max-synthesis-tokens", "99", *flag]
        settings = config.settle(config.Training, config.read(config.Training, "", toy.SETTINGS, argv))
        assert Trainer(settings, model, tokenizer, [data.Problem("1 + 1?", "2")]).actor.task == task


def test_bad_input_gets_one_sentence(real_path, tmp_path, monkeypatch, capsys):
    model, problems = real_path / "model", real_path / "problems.jsonl"

    def says(*argv):
        return refused(monkeypatch, capsys, "--model", model, "--out", tmp_path / "new", *argv)

    assert "no data file" in says("--data", tmp_path / "absent.jsonl")
    for text, complaint in [
        ("", "holds no problems"),
        ('{"problem": "1+1?", "answer": "2"}\n{"problem": "2+2?"}\n', "line 2: the field answer is missing"),
        ('{"problem": "1+1?", "answer": ["2"]}\n', "line 1: the field answer"),
        ('{"problem": "1+1?", "answer": ""}\n', "line 1: the field answer"),
        ('{"answer": "2"}\n', "line 1: the field problem/question"),
        ("[1]\n", "row 1"),
        ("{\n", "line 1"),
    ]:
        (tmp_path / "bad.jsonl").write_text(text)
        assert complaint in says("--data", tmp_path / "bad.jsonl")
    assert "raise --k" in says("--data", problems, "--k", 5, "--n-pos", 2, "--n-neg", 4)
    assert "at least 2" in says("--data", problems, "--k", 1)
    assert "invalid choice: 'ppo'" in says("--data", problems, "--algo", "ppo")
    assert "--lr must be above 0" in says("--data", problems, "--lr", 0)
    assert "context holds 2048" in says("--data", problems, "--max-new-tokens", 2040)
    limits = ("--max-new-tokens", 60, "--max-synthesis-tokens", 2040)
    assert "no synthesis task fits" in says("--data", problems, *limits)
    long = json.dumps({"problem": "1 + " * 900 + "1", "answer": "901"})
    (tmp_path / "long.jsonl").write_text(long)
    assert "context holds 2048" in says(
        "--data", problems, "--eval-data", tmp_path / "long.jsonl", "--max-new-tokens", 99
    )
    (tmp_path / "bad.jsonl").write_bytes(b'{"problem": "\xff", "answer": "2"}')
    assert "no UTF-8" in says("--data", tmp_path / "bad.jsonl")
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:1000])
    assert "no model could be loaded" in says("--data", problems, "--model", broken)
    assert "--mu must be at least 0" in says("--data", problems, "--mu", -1)
    assert f"--model {model} needs --data, the problems to train on (--data toy, if" in says()
    assert "holds no model" in says("--data", problems, "--model", tmp_path)
    assert "no model could be loaded" in says("--data", problems, "--model", "no/such-model-anywhere")
    assert "there is no folder" in says("--data", problems, "--model", tmp_path / "absent")
    assert not (tmp_path / "new").exists()


def test_a_forgotten_flag_is_refused_before_the_toy_stands_in(tmp_path, real_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where no cold start of the toy is
    problems = real_path / "problems.jsonl"
    for name in ("--data", "--eval-data"):
        said = refused(monkeypatch, capsys, name, problems)
        assert f"{name} {problems} needs --model, the model to train (--model toy, if the toy's is meant)" in said
    assert "needs --data" in refused(monkeypatch, capsys, "--model", real_path / "model", "--eval-data", problems)
    assert not list(tmp_path.iterdir())
    policy.save(toy.model(), toy.tokenizer(), tmp_path / "a-toy")
    for given in (["--data", "toy"], ["--model", "toy"], [], ["--model", "toy", "--data", problems]):
        monkeypatch.setattr(train, "make_toy_coldstart", lambda *_: 1 / 0)  # all that comes before it was passed
        monkeypatch.setattr("sys.argv", ["train.py", *map(str, given)])
        with pytest.raises(ZeroDivisionError):
            train.main()
    sizes = ["--algo", "grpo", "--queries", 2, "--steps", 1, "--max-new-tokens", 5, "--eval-samples", 1]
    run_train(monkeypatch, capsys, "--model", "a-toy", "--data", "toy", *sizes)


def test_the_reward_is_a_file_of_the_user_s(real_path, tmp_path, monkeypatch, capsys):
    """It decides what is right, in training and in evaluation, and sees the row of the file that a problem comes from;
    where it fails, file and line are told."""
    rewards = tmp_path / "rewards.py"
    rewards.write_text(
        "from verifier import verify\n\n\n"
        "def contrary(text, problem):\n    return 0.5 * (not verify(text, str(problem.row['answer'])))\n\n\n"
        "def broken(text, problem):\n    return len(text) / 0\n\n\n"
        "def endless(text, problem):\n    return float('inf')\n"
    )
    model, problems = real_path / "model", real_path / "problems.jsonl"
    given = ["--model", model, "--data", problems, "--eval-data", problems, "--algo", "grpo", "--steps", 1]
    given += ["--queries", 3, "--max-new-tokens", 30, "--eval-samples", 8]
    run_train(monkeypatch, capsys, *given, "--out", tmp_path / "usual")
    run_train(monkeypatch, capsys, *given, "--out", tmp_path / "contrary", "--reward", f"{rewards}:contrary")
    [[usual, contrary]] = zip(*(checkpoint.read(tmp_path / run / "metrics.jsonl") for run in ("usual", "contrary")))
    assert 0 < usual["accuracy"] < 1 and contrary["cut"] == usual["cut"]
    assert contrary["accuracy"] == pytest.approx(1 - usual["cut"] - usual["accuracy"])
    assert contrary["reward_mean"] == pytest.approx(0.5 * contrary["accuracy"])
    usual, contrary = (checkpoint.read(tmp_path / run / "evaluations.jsonl")[0] for run in ("usual", "contrary"))
    assert contrary["pass@1"] == pytest.approx(1 - usual["cut"] - usual["pass@1"])

    def says(name):
        return refused(monkeypatch, capsys, *given, "--out", tmp_path / name, "--reward", f"{rewards}:{name}")

    assert says("broken").endswith(f":broken: ZeroDivisionError: division by zero ({rewards}, line 9)")
    assert "it gave inf, not a finite number" in says("endless")
    assert "has no attribute 'absent'" in says("absent") and not (tmp_path / "absent").exists()
    assert "name a Python file that exists" in refused(monkeypatch, capsys, *given, "--reward", "nowhere.py:reward")


def test_a_run_is_repeated_from_its_config_json(real_path, tmp_path, monkeypatch, capsys):
    one, two, other = tmp_path / "one", tmp_path / "two", tmp_path / "other"
    given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", "--steps", 1, "--queries", 3]
    given += ["--n-neg", 2, "--max-new-tokens", 30, "--max-synthesis-tokens", 99, "--lr", 1e-3, "--no-dae"]
    printed = run_train(monkeypatch, capsys, *given, "--out", one)
    assert f"train.py --config {one}/config.json --algo grpo\n" in printed
    assert f"train.py --config {one}/config.json --seed 1\n" in printed
    file = ["--config", one / "config.json"]
    run_train(monkeypatch, capsys, *file, "--out", two)
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (one, two)]
    assert weights[0] == weights[1]
    first, second = (json.loads((run / "config.json").read_text())["settings"] for run in (one, two))
    assert second == first | {"out": str(two), "config": str(one / "config.json")}

    run_train(monkeypatch, capsys, *file, "--out", other, "--seed", 1, "--algo", "grpo", "--queries", 2)
    kept = json.loads((other / "config.json").read_text())["settings"]
    changed = {"out": str(other), "seed": 1, "algo": "grpo", "queries": 2, "no_dae": False}
    assert kept == second | changed  # GRPO has no DAE to take away
    (tmp_path / "some.json").write_text(json.dumps({"algo": "ppo", "model": "m"}))
    assert "--algo ppo: there are" in refused(
        monkeypatch, capsys, "--config", tmp_path / "some.json", "--model", real_path / "model", "--data", "toy"
    )
    assert "--model m needs --data" in refused(monkeypatch, capsys, "--config", tmp_path / "some.json")
    assert "leave --config out" in refused(monkeypatch, capsys, *file, "--resume", "--out", two)
    assert "must be above 0" in refused(monkeypatch, capsys, *file, "--k", 0)
    (tmp_path / "some.json").write_text('{"lr": NaN}')
    assert "some.json: lr must be above 0" in refused(monkeypatch, capsys, "--config", tmp_path / "some.json")


def test_another_run_is_never_overwritten(real_path, tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("precious\n")
    given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", "--out", tmp_path / "run"]
    assert "not empty" in refused(monkeypatch, capsys, *given)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["metrics.jsonl"]
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == "precious\n"


def test_a_step_without_a_finite_gradient_leaves_the_policy_alone():
    trainer = toy_trainer("--kl", "0")
    before = [p.detach().clone() for p in trainer.model.parameters()]
    orig, (_, *others) = made_up(3, False, 0)
    figures = trainer.update(batch_of((orig, [float("nan"), *others])), 4)
    assert figures["skipped"] == 1 and figures["grad_norm"] is None and figures["loss_orig"] is None
    json.dumps(figures, allow_nan=False)
    assert all(torch.equal(p, q) for p, q in zip(before, trainer.model.parameters()))
    assert not trainer.optimizer.state  # nor its moments
    assert trainer.update(batch_of((orig, [1.0, *others])), 4)["skipped"] == 0
    assert any(not torch.equal(p, q) for p, q in zip(before, trainer.model.parameters()))


def test_a_full_disk_is_one_sentence(real_path, tmp_path, monkeypatch, capsys):
    original = Run.append

    def append(self, name, rows):
        if name == "metrics.jsonl" and rows[0]["step"] == 2:
            raise OSError(28, "No space left on device")
        original(self, name, rows)

    monkeypatch.setattr(Run, "append", append)
    given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", "--out", tmp_path / "run"]
    sizes = ["--queries", 2, "--n-neg", 2, "--max-new-tokens", 30, "--max-synthesis-tokens", 60, "--save-every", 1]
    assert "No space left" in refused(monkeypatch, capsys, *given, *sizes, "--steps", 3)
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")  # of step 1


def test_a_stale_cold_start_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    policy.save(toy.model(), toy.tokenizer(), toy.COLD_START)
    assert "remove the folder" in refused(monkeypatch, capsys)
    assert "context holds 256" in refused(monkeypatch, capsys, "--max-new-tokens", 300)


def test_two_runs_never_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = Run(None), Run(None)
    one.start("tapo-toy", {})
    two.start("tapo-toy", {})
    assert (one.folder.name, two.folder.name) == ("tapo-toy-1", "tapo-toy-2")


def test_line_separators_within_a_text_are_no_line_ends(tmp_path):
    row = {"problem": "a\u2028b\u0085c", "answer": 2}
    text = json.dumps(row, ensure_ascii=False) + "\n"
    (tmp_path / "set.jsonl").write_text("\ufeff" + text)
    assert data.load(str(tmp_path / "set.jsonl")) == [data.Problem("a\u2028b\u0085c", "2")]
    (tmp_path / "rows.jsonl").write_text(text + '{"half')
    assert checkpoint.read(tmp_path / "rows.jsonl") == [row]


def step_figures(weight, kept, tried):
    lost = {"not_verbatim": tried - kept - tried // 9, "no_turn": tried // 9}
    return {"turn_weight": weight, "kept": kept, "tried": tried, "outcomes": {"kept": kept} | lost}


@pytest.mark.parametrize("suppresses", [True, False])
def test_a_turn_at_the_floor_is_told_once(suppresses):
    """After five steps in a row that constructed; without OTS its weight does no harm."""
    signs = metrics.Signs(suppresses)
    steps = [0.01, 0.012, 0.01, 0.016, 0.01, 0.01, None, 0.01, 0.01, None, 0.014, 0.01, *[1.0] * 3, *[0.01] * 9]
    told = [signs.after(step_figures(weight, 9, 9 if weight else 0)) for weight in steps]
    assert [i for i, some in enumerate(told) if some] == ([10] if suppresses else [])
    if suppresses:
        [sentence] = told[10]
        assert "in 5 steps the turn's first token had a mean OTS weight of 0.011, and 0.01 is the least" in sentence
        assert "coldstart.py --turning" in sentence and "\n" not in sentence


def test_lost_constructions_are_told_once():
    """Below a third in five steps in a row, and of enough constructions."""
    signs = metrics.Signs(True)
    tries = [(3, 10), (4, 10), *[(1, 6)] * 5, (0, 0), (0, 1), (0, 1), *[(9, 9)] * 3, *[(0, 90)] * 9]
    told = [signs.after(step_figures(1.0, *one)) for one in tries]
    assert [i for i, some in enumerate(told) if some] == [9]
    [sentence] = told[9]
    assert sentence.startswith("of 32 constructions in 7 steps 5 were kept (most were lost to not_verbatim: the rec")
    assert "--mu" in sentence and "\n" not in sentence


def test_train_warns(real_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(metrics, "NEVER", 10.0)
    monkeypatch.setattr(metrics, "IN_A_ROW", 2)
    given = ["--model", real_path / "model", "--data", real_path / "problems.jsonl", "--out", tmp_path / "run"]
    sizes = ["--queries", 3, "--n-neg", 2, "--max-new-tokens", 60, "--max-synthesis-tokens", 120, "--steps", 4]
    said = run_train(monkeypatch, capsys, *given, *sizes, "--lr", 1e-5)
    assert said.count("step 2: in 2 steps the turn's first token had") == said.count("never turns by itself") == 1
    assert all(row["turn_weight"] > 0 for row in checkpoint.read(tmp_path / "run" / "metrics.jsonl"))
