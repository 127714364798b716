"""Figures of an evaluation against counting by hand and by brute force; and the program, on the real sets too."""

import contextlib
import itertools
import json
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch
from processes import free_port
from tiny import make_model, make_tokenizer

import config
import data
import eval as evaluation
import metrics
import policy
import tools.compare
import tools.rescore
import toy
from metrics import FIGURES, majority, pass_at_k, summary, table
from sampler import Sampler
from tools.compare import compare, comparison_table

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n):
    for correct in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(itertools.combinations([i < correct for i in range(n)], k))
            assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    with pytest.raises(ValueError):
        pass_at_k(n, 0, n + 1)


def response(problem, correct, reflects=False, finished=True, tokens=10, final=None):
    """A row as rollouts.Response.row makes it."""
    row = {"problem": problem, "text": "", "correct": correct, "reflects": reflects}
    return row | {"finished": finished, "tokens": tokens, "final": final}


def test_summary_by_hand():
    given = [
        response(0, True, False), response(0, True, True), response(0, False, True),
        response(0, False, False, finished=False, tokens=50),
        response(1, False, True), response(1, False, False), response(1, False, False), response(1, True, False),
    ]  # fmt: skip
    figures = summary(given, ks=(1, 2, 4))
    assert figures["pass@1"] == pytest.approx((0.5 + 0.25) / 2)
    assert figures["se"] == pytest.approx(0.125)  # sqrt((0.125^2 + 0.125^2) / (2 - 1) / 2)
    assert figures["pass@2"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert figures["pass@4"] == 1
    assert figures["reflecting"] == 3 / 8
    assert figures["direct"] == 2 / 5  # of 5 that do not reflect, 2 are right
    assert figures["dsr"] == pytest.approx(2 / 3)  # of 3 right ones, 2 hold no reflection
    assert figures["err"] == pytest.approx(1 / 3)  # of 3 that reflect, 1 ends right
    assert figures["cut"] == 1 / 8 and figures["tokens"] == 15
    nothing = summary([response(0, False, False)])
    assert nothing["dsr"] is None and nothing["err"] is None and nothing["se"] is None
    shown = table({"a": figures, "b": nothing | {"pass@2": None, "pass@4": None}})
    assert "37.5 %" in shown and "37.5 % +- 12.5" in shown
    assert sum(line.endswith(" -") for line in table({"b": nothing}).splitlines()) == 2


def test_majority_vote():
    def vote(*answers, cut=()):
        return majority(
            [response(0, a in ("5", "5.0", "\\frac{10}{2}"), finished=a not in cut, final=a) for a in answers]
        )

    assert vote("5", "7", "5.0", "7", "\\frac{10}{2}") == 1  # three ways to write 5 outvote two 7s
    assert vote("7", "5", "7") == 0
    assert vote("7", "5", "5", "7", "8") == 0.5  # a tie of a right and a wrong answer
    assert vote("7", "7", "5", cut=("7",)) == 1  # a cut response has no vote
    assert vote("7", cut=("7",)) == vote(None) == 0


def test_compare_gives_the_interval_of_the_binomial():
    """Ten problems, two of them gained: the resampled difference is a binomial (10, 0.2) over 10, whose quantiles at
    2.5 % and 97.5 % are 0 and 5 (P(X = 0) = 0.107, P(X <= 4) = 0.967, P(X <= 5) = 0.994)."""
    a = [response(i, i < 3, tokens=5) for i in range(10)]
    b = [response(i, i < 5, reflects=i == 4, tokens=7) for i in reversed(range(10))]
    found = compare(a, b)
    assert found["pass@1"] == (0.3, 0.5, pytest.approx(0.2), 0.0, pytest.approx(0.5))
    assert found["tokens"] == (5, 7, 2, 2, 2)
    assert found["dsr"][:3] == (1, 0.8, pytest.approx(-0.2)) and found["err"] == (None, 1, None, None, None)
    assert compare(a, a)["pass@1"] == (0.3, 0.3, 0, 0, 0)  # paired: against itself there is no doubt
    assert compare(a, b) == found  # seeded
    shown = comparison_table(found)
    assert "+20.0   [+0.0, +50.0]" in shown and FIGURES["dsr"] in shown
    with pytest.raises(ValueError, match="same problems"):
        compare(a, b[1:])


# Eight responses to two problems, with verdicts that are known.
STORED = [
    (0, "It is \\boxed{4}.", True, True, False),
    (0, "It is 5. Wait, \\boxed{4}.", True, True, True),
    (0, "Wait, \\boxed{5}.", True, False, True),
    (0, "It is \\boxed{4}", False, False, False),  # cut
    (1, "\\boxed{0.5}", True, True, False),
    (1, "\\boxed{\\frac{2}{4}} or so", True, True, False),
    (1, "Hold on: \\boxed{1/2}", True, True, True),
    (1, "no idea", True, False, False),
]


def store(path, change=lambda row: row):
    golds = [("2 + 2?", "4"), ("Half?", "\\frac{1}{2}")]
    with open(path, "w") as file:
        for i, (problem, text, finished, correct, reflects) in enumerate(STORED):
            question, answer = golds[problem]
            row = {"data": "set", "question": question, "answer": answer, "problem": problem, "sample": i % 4}
            row |= {"text": text, "finished": finished, "tokens": 10, "correct": correct, "reflects": reflects}
            file.write(json.dumps(change(row)) + "\n")
    return str(path)


def run(monkeypatch, capsys, *argv, program=evaluation):
    monkeypatch.setattr("sys.argv", ["program", *map(str, argv)])
    program.main()
    return capsys.readouterr().out


def refused(monkeypatch, capsys, *argv, program=evaluation):
    monkeypatch.setattr("sys.argv", ["program", *map(str, argv)])
    with pytest.raises(SystemExit) as stopped:
        config.run(program.main)
    printed = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and "Traceback" not in printed
    assert printed.replace("\r", "\n").split("\n")[-1].startswith("error: ")  # after a progress bar, perhaps
    return printed


def test_rescoring_gives_figures_by_hand(tmp_path, monkeypatch, capsys):
    store(tmp_path / "right.jsonl")
    turned = store(
        tmp_path / "turned.jsonl", lambda r: r | {"correct": not r["correct"], "reflects": not r["reflects"]}
    )
    for name in ("load", "load_model", "load_tokenizer"):
        monkeypatch.setattr(policy, name, None)  # no model is loaded
    printed = run(monkeypatch, capsys, turned, "--out", tmp_path / "again.jsonl", program=tools.rescore)
    assert "8 of 8 verdicts changed" in printed
    assert "0 of 8 verdicts changed" in run(monkeypatch, capsys, tmp_path / "again.jsonl", program=tools.rescore)
    rows = metrics.read(tmp_path / "again.jsonl")
    assert [(r["correct"], r["reflects"]) for r in rows] == [(c, r) for _, _, _, c, r in STORED]
    assert [r["final"] for r in rows[:5]] == ["4", "4", "5", "4", "0.5"]
    figures = metrics.figures_of(rows)["set"]
    assert figures["pass@1"] == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert figures["pass@2"] == pytest.approx((1 - 1 / 6 + 1) / 2)  # C(2, 2) / C(4, 2) = 1/6
    assert figures["pass@4"] == 1 and figures["majority"] == 1  # 4, 4 against 5; three ways to write a half
    assert figures["dsr"] == 3 / 5 and figures["err"] == 2 / 3 and figures["direct"] == 3 / 5
    assert figures["cut"] == 1 / 8 and figures["se"] == pytest.approx(0.125)
    for line in ("62.5 % +- 12.5", "91.7 %", "60.0 %", "66.7 %", "12.5 %"):
        assert line in printed
    given = [turned, "--out", tmp_path / "again.jsonl"]
    assert "exists already" in refused(monkeypatch, capsys, *given, program=tools.rescore)
    assert "required: PATH" in refused(monkeypatch, capsys, program=tools.rescore)


def test_two_evaluations_compared(tmp_path, monkeypatch, capsys):
    one = store(tmp_path / "one.jsonl")
    two = store(tmp_path / "two.jsonl", lambda r: r | {"correct": r["problem"] == 0, "problem": 7 - r["problem"]})
    printed = run(monkeypatch, capsys, one, two, program=tools.compare)
    # pass@1 differs by 1 - 2/4 and by 0 - 3/4: a resample of the two gives 0.5, -0.125 or -0.75, at 1/4, 1/2 and 1/4
    assert "set: 2 problems\n" in printed and "62.5 %    50.0 %     -12.5   [-75.0, +50.0]" in printed
    other = store(tmp_path / "other.jsonl", lambda r: r | {"question": r["question"].replace("Half", "A half")})
    assert "1 problems in both, 2 in one only" in run(monkeypatch, capsys, one, other, program=tools.compare)
    third = store(tmp_path / "third.jsonl", lambda r: r | {"data": "else"})
    assert "no set with the same name" in refused(monkeypatch, capsys, one, third, program=tools.compare)
    assert "holds no responses" in refused(monkeypatch, capsys, one, tmp_path / "absent", program=tools.compare)
    (tmp_path / "bad.jsonl").write_text('{"data": "a"}\n')
    assert "line 1: question, answer" in refused(monkeypatch, capsys, tmp_path / "bad.jsonl", program=tools.rescore)
    (tmp_path / "bad.jsonl").write_text("{\n" + Path(one).read_text())
    assert "line 1: no JSON" in refused(monkeypatch, capsys, tmp_path / "bad.jsonl", program=tools.rescore)


def test_what_else_differs_between_two_evaluations_is_told(tmp_path, monkeypatch, capsys):
    sampling = {"temperature": 1.0, "max_new_tokens": 9, "seed": 0}
    for name, change, kept in [
        ("a", {}, {"reward": None, "prompt": "Q: {question}", "model": "x"}),
        ("b", {"temperature": 0.6, "seed": 1}, {"reward": "own.py:reward", "prompt": "{question}", "model": "y"}),
        ("c", {}, {"reward": None, "model": "z"}),
    ]:
        (tmp_path / name).mkdir()
        store(tmp_path / name / "responses.jsonl", lambda row, change=change: row | {"sampling": sampling | change})
        kept = json.dumps({"settings": kept | {"n": 4} | sampling | change})
        (tmp_path / name / "config.json").write_text(kept)
    told = "beside the model they differ in temperature: 1.0 and 0.6; reward: None and own.py:reward; "
    told += "prompt: Q: {question}"
    printed = run(monkeypatch, capsys, tmp_path / "a", tmp_path / "b", program=tools.compare)
    assert f"\n{told} and {{question}}\n" in printed
    files = [tmp_path / name / "responses.jsonl" for name in "ab"]
    assert f"\n{told} and {{question}}\n" in run(monkeypatch, capsys, *files, program=tools.compare)
    assert "beside the model" not in run(monkeypatch, capsys, tmp_path / "a", tmp_path / "c", program=tools.compare)
    fewer = (tmp_path / "c" / "responses.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "fewer.jsonl").write_text("".join(row for row in fewer if '"sample": 3' not in row))
    printed = run(monkeypatch, capsys, tmp_path / "a", tmp_path / "fewer.jsonl", program=tools.compare)
    assert "\nbeside the model they differ in n: 4 and 3\n" in printed
    (tmp_path / "d").mkdir()
    assert "d holds no responses yet" in refused(monkeypatch, capsys, files[0], tmp_path / "d", program=tools.compare)


@pytest.fixture
def toy_path(tmp_path):
    torch.manual_seed(0)
    policy.save(toy.model(), toy.tokenizer(), tmp_path / "model")
    (tmp_path / "set.jsonl").write_text('{"question": "2 * x + 1 = 5", "answer": 2}\n' * 3)
    return tmp_path


def test_the_program(toy_path, monkeypatch, capsys):
    given = ["--model", toy_path / "model", "--data", f"mine={toy_path / 'set.jsonl'}", "toy", "-n", 2]
    given += ["--max-new-tokens", 5, "--seed", 3]
    out = toy_path / "out"
    printed = run(monkeypatch, capsys, *given, "--out", out)
    assert "pass@1" in printed and "DSR" in printed and "mine" in printed and "toy" in printed
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "responses.jsonl", "summary.json"]
    rows = [json.loads(line) for line in (out / "responses.jsonl").open()]
    assert [(r["data"], r["problem"], r["sample"]) for r in rows] == [
        (name, i, s) for name, size in (("mine", 3), ("toy", toy.HELD_OUT)) for i in range(size) for s in range(2)
    ]
    assert rows[0]["question"] == "2 * x + 1 = 5" and rows[0]["answer"] == "2" and rows[0]["tokens"] <= 5
    assert rows[0]["sampling"] == {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 5, "seed": 3}
    assert [r["text"] for r in rows[:2]] == [r["text"] for r in rows[2:4]]  # equal prompts share their responses
    told = json.loads((out / "summary.json").read_text())
    assert told["figures"].keys() == {"mine", "toy"} and told["figures"]["toy"] == metrics.figures_of(rows)["toy"]
    assert told["settings"]["n"] == 2 and "<user>" in told["settings"]["prompt"]

    before = (out / "responses.jsonl").read_bytes()
    monkeypatch.setattr(Sampler, "sample", None)  # nothing is left to sample
    assert "163 problems are done" in run(monkeypatch, capsys, *given, "--out", out)
    assert (out / "responses.jsonl").read_bytes() == before
    assert "was begun with seed 3, not 4" in refused(monkeypatch, capsys, *given[:-1], 4, "--out", out)
    assert "something else than an evaluation" in refused(monkeypatch, capsys, *given, "--out", toy_path)
    monkeypatch.undo()
    monkeypatch.setattr("checkpoint.append", lambda *_: None)  # as if another process had removed what was sampled
    assert "lacks responses" in refused(monkeypatch, capsys, *given, "--out", toy_path / "lost")


def test_verdicts_of_two_rewards_are_not_mixed(toy_path, monkeypatch, capsys):
    reward = toy_path / "rewards.py"
    reward.write_text("def reward(text, problem):\n    return 1\n")
    given = ["--model", toy_path / "model", "--data", toy_path / "set.jsonl", "-n", 1, "--max-new-tokens", 2]
    given += ["--reward", f"{reward}:reward", "--out", toy_path / "out"]
    run(monkeypatch, capsys, *given)
    assert "3 problems are done" in run(monkeypatch, capsys, *given)
    reward.write_text("def reward(text, problem):\n    return 0\n")
    assert "was begun with reward_digest" in refused(monkeypatch, capsys, *given)


def test_a_stopped_evaluation_goes_on_where_it_was(toy_path, monkeypatch, capsys):
    monkeypatch.chdir(toy_path)
    given = ["--model", "model", "--data", "toy", "-n", 2, "--slots", 16, "--max-new-tokens", 4]
    run(monkeypatch, capsys, *given, "--out", "whole")
    sampled = []

    def stopping(self, prompts, *more, **settings):
        sampled.append(len(prompts))
        if len(sampled) == 3:
            raise KeyboardInterrupt
        return original(self, prompts, *more, **settings)

    original = Sampler.sample
    monkeypatch.setattr(Sampler, "sample", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, capsys, *given)
    folder = toy_path / "runs" / f"eval-{toy_path.name}-1"  # --model .../NAME/model
    folder = folder if folder.exists() else next((toy_path / "runs").iterdir())
    part = (folder / "part-0.jsonl").read_bytes()
    assert part.count(b"\n") == 2 * 2 * 32
    (folder / "part-0.jsonl").write_bytes(part[:-150])  # as if killed while it wrote: the last problem's lines are torn
    run(monkeypatch, capsys, *given)
    assert sum(sampled[3:]) == toy.HELD_OUT - 64 + 1
    assert (folder / "responses.jsonl").read_bytes() == Path("whole/responses.jsonl").read_bytes()
    assert len(list((toy_path / "runs").iterdir())) == 1
    run(monkeypatch, capsys, *given[:-1], 5)  # other settings, another folder
    assert len(list((toy_path / "runs").iterdir())) == 2


def as_rank(rank, port, argv, log):
    """One process of torchrun's, in this folder."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.argv = argv
    with open(log, "w") as file, contextlib.redirect_stdout(file):
        evaluation.main()


def test_two_processes_sample_what_one_does(toy_path, monkeypatch, capsys):
    """Uneven shares of 163 problems; and what one process began, two can end."""
    monkeypatch.chdir(toy_path)
    given = ["--model", "model", "--data", "toy", "set.jsonl", "-n", "2", "--max-new-tokens", "6", "--out"]
    run(monkeypatch, capsys, *given, "one")
    one, two = toy_path / "one", toy_path / "two"
    rows = (one / "responses.jsonl").read_text().splitlines(keepends=True)
    two.mkdir()
    (two / "part-0.jsonl").write_text("".join(rows[:20]))
    (two / "config.json").write_text((one / "config.json").read_text())
    port = free_port()
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=as_rank, args=(r, port, ["eval.py", *given, "two"], f"log-{r}")) for r in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=60)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    printed = [Path(f"log-{rank}").read_text() for rank in range(2)]
    assert "10 problems are done" in printed[0] and "pass@2" in printed[0] and printed[1] == ""
    assert (two / "responses.jsonl").read_text() == "".join(rows)
    assert (two / "summary.json").read_text() == (one / "summary.json").read_text()


def test_defaults_come_from_the_generation_config_and_flags_win(tmp_path, monkeypatch, capsys):
    template = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|assistant|>"
    template += "{% if enable_thinking is defined and not enable_thinking %}brief{% endif %}"
    tokenizer = make_tokenizer(["Reason step by step"])
    tokenizer.chat_template = template
    model = make_model(vocab=len(tokenizer), context=256)
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.95, top_k=20, max_new_tokens=999)
    policy.save(model, tokenizer, tmp_path / "model")
    (tmp_path / "set.jsonl").write_text('{"problem": "1 + 1?", "answer": 2}')
    given = ["--model", tmp_path / "model", "--data", tmp_path / "set.jsonl", "-n", 1]

    def settings(*flags):
        out = tmp_path / "-".join(map(str, ["out", *flags])).replace("/", "")
        run(monkeypatch, capsys, *given, *flags, "--out", out)
        return json.loads((out / "config.json").read_text())["settings"]

    found = settings("--max-new-tokens", 3, "--thinking", "off", "--system", "Be kind.")
    assert (found["temperature"], found["top_p"], found["top_k"], found["max_new_tokens"]) == (0.6, 0.95, 20, 3)
    assert found["prompt"].startswith("<|user|>Be kind.<|user|>{question}") and found["prompt"].endswith("brief")
    found = settings("--temperature", 0, "--top-k", 0)
    assert (found["temperature"], found["top_p"], found["top_k"]) == (0, 0.95, 0)
    prompt = data.prompt_ids(tokenizer, [data.TEMPLATES.plain.format(question="1 + 1?")])[0]
    assert found["max_new_tokens"] == 256 - len(prompt)  # the config's limit, lowered to what fits the context
    (tmp_path / "t.jinja").write_text("Q: {{ messages[0].content }} A:")
    assert settings("--max-new-tokens", 2, "--chat-template", tmp_path / "t.jinja")["prompt"].startswith(
        "Q: {question}"
    )
    kept = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    kept |= {"do_sample": False, "repetition_penalty": 1.3, "suppress_tokens": [5], "typical_p": 1.0}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(kept))
    assert settings("--max-new-tokens", 4)["temperature"] == 0
    assert settings("--max-new-tokens", 4, "--temperature", 0.5)["temperature"] == 0.5
    told = "not applied of the model's generation config: repetition_penalty 1.3, suppress_tokens [5]\n"
    assert told in refused(monkeypatch, capsys, *given, "-n", 2)  # because do_sample false is greedy
    (tmp_path / "t.jinja").write_text("{{ messages[0].content")
    for flags, said in [
        (["--chat-template", tmp_path / "t.jinja"], "the chat template cannot be used"),
        (["--temperature", 0, "-n", 2], "would be the same"),
        (["--temperature", -1], "--temperature must be at least 0"),
        (["--max-new-tokens", 256], "context holds 256"),
        (["-n", 0], "-n must be above 0"),
        (["--slots", 0], "--slots must be above 0"),
        (["--top-p", 1.5], "top_p"),
        (["--data", tmp_path / "set.jsonl", tmp_path / "set.jsonl"], "same name"),
    ]:
        assert said in refused(monkeypatch, capsys, *given, *flags, "--out", tmp_path / "no")
    assert "required: --data" in refused(monkeypatch, capsys, "--model", "toy")
    assert "required: --model" in refused(monkeypatch, capsys, "--data", "toy")
    assert not (tmp_path / "no").exists()


@pytest.mark.skipif(not SHARED.exists(), reason="the data sets are not beside the repository")
def test_aime_and_hmmt_end_to_end(tmp_path, monkeypatch, capsys):
    """The real sets with a checkpoint made on the spot, which knows nothing: every gold is read, every response
    verified. Then the same rows with texts that hold the gold: all of them are right."""
    names = ("aime24", "aime25", "hmmt25")
    rows = [json.loads(line) for name in names for line in (SHARED / f"{name}.jsonl").open(encoding="utf-8")]
    tokenizer = make_tokenizer([row["problem"] for row in rows])
    policy.save(make_model(vocab=len(tokenizer), context=4096), tokenizer, tmp_path / "model")
    sets = [f"{name}={SHARED / name}.jsonl" for name in names]
    printed = run(
        monkeypatch, capsys, "--model", tmp_path / "model", "--data", *sets, "-n", 2, "--max-new-tokens", 8,
        "--out", tmp_path / "out",
    )  # fmt: skip
    kept = metrics.read(tmp_path / "out")
    assert [(r["question"], r["answer"]) for r in kept[::2]] == [(r["problem"].strip(), r["answer"]) for r in rows]
    figures = metrics.figures_of(kept)
    assert printed.splitlines()[2].split() == list(names) and list(figures) == list(names)
    assert all(figures[name]["pass@1"] < 0.1 and 1 <= figures[name]["tokens"] <= 8 for name in names)
    with open(tmp_path / "gold.jsonl", "w") as file:
        for row in kept:
            said = f"So it is $\\boxed{{{row['answer'] if row['sample'] else '-12345'}}}$."
            file.write(json.dumps(row | {"text": said, "finished": True}) + "\n")
    printed = run(monkeypatch, capsys, tmp_path / "gold.jsonl", program=tools.rescore)
    assert printed.splitlines()[1].count("50.0 % +- 0.0") == 3 and "90 of 180 verdicts changed" in printed
    printed = run(monkeypatch, capsys, tmp_path / "out", tmp_path / "gold.jsonl", program=tools.compare)
    assert printed.count("30 problems\n") == 3
