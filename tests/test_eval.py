"""Figures of an evaluation against counting by hand and by brute force."""

import itertools
import json

import pytest
import torch

import cli
import eval as evaluation
import policy
import toy
from eval import Response, pass_at_k, summary, table


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n):
    for correct in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(itertools.combinations([i < correct for i in range(n)], k))
            assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    with pytest.raises(ValueError):
        pass_at_k(n, 0, n + 1)


def response(problem, correct, reflects, finished=True, tokens=10):
    return Response(problem, "", correct, reflects, finished, tokens)


def test_summary_by_hand():
    responses = [
        response(0, True, False), response(0, True, True), response(0, False, True),
        response(0, False, False, finished=False, tokens=50),
        response(1, False, True), response(1, False, False), response(1, False, False), response(1, True, False),
    ]  # fmt: skip
    figures = summary(responses, ks=(1, 2, 4))
    assert figures["pass@1"] == pytest.approx((0.5 + 0.25) / 2)
    assert figures["pass@2"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert figures["pass@4"] == 1
    assert figures["reflecting"] == 3 / 8
    assert figures["dsr"] == pytest.approx(2 / 3)  # of 3 right ones, 2 hold no reflection
    assert figures["err"] == pytest.approx(1 / 3)  # of 3 that reflect, 1 ends right
    assert figures["cut"] == 1 / 8 and figures["tokens"] == 15
    nothing = summary([response(0, False, False)])
    assert nothing["dsr"] is None and nothing["err"] is None
    assert "37.5 %" in table({"a": figures, "b": nothing | {"pass@2": None, "pass@4": None}})
    assert table({"b": nothing}).splitlines()[1].count(" -") == 2


def test_the_program(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    policy.save(toy.model(), toy.tokenizer(), tmp_path / "model")
    (tmp_path / "set.jsonl").write_text('{"question": "2 * x + 1 = 5", "answer": 2}\n' * 3)
    given = ["eval.py", "--model", str(tmp_path / "model"), "--data", str(tmp_path / "set.jsonl"), "toy", "-n", "2"]
    monkeypatch.setattr("sys.argv", [*given, "--max-new-tokens", "5", "--out", str(tmp_path / "out.jsonl")])
    evaluation.main()
    printed = capsys.readouterr().out
    assert "pass@1" in printed and "DSR" in printed.upper() and "toy" in printed
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert len(rows) == 2 * (3 + toy.HELD_OUT)
    assert rows[0]["question"] == "2 * x + 1 = 5" and rows[0]["answer"] == "2" and rows[0]["tokens"] <= 5
    with pytest.raises(SystemExit) as stopped:
        cli.run(evaluation.main)  # the file is there now
    assert stopped.value.code == 2
    assert "exists already" in capsys.readouterr().err
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(rows)
