"""Tests need no network, and their tiny models are fastest on one thread. A model folder that several files use."""

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what they expect is a CPU's; bench/gpu.py tests GPUs

import pytest
import torch
from tiny import make_model, make_tokenizer

import coldstart
import config
import data
import policy
from reflect import SYNTHESIS

torch.set_num_threads(1)

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k_train.jsonl"
STAND_IN = [
    {"problem": "Ann has 3 red and 4 blue marbles. How many marbles has she?", "answer": "7"},
    {"problem": "A bus holds 40 people. How many do 3 buses hold?", "answer": 120},
    {"problem": "Ben reads 5 pages a day. How many pages does he read in two weeks?", "answer": "70"},
]


@pytest.fixture(scope="session")
def real_path(tmp_path_factory):
    """A model folder as users have them (Qwen3 architecture, byte-level tokeniser, chat template) and a problem file.
    The model has learnt, of a few problems by heart, to answer rightly or wrongly, and to perform the synthesis
    task."""
    folder = tmp_path_factory.mktemp("real")
    rows = [json.loads(line) for line in GSM8K.open()][:3] if GSM8K.is_file() else STAND_IN
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = data.load(str(folder / "problems.jsonl"))
    template = data.TEMPLATES
    plain = [template.plain.format(question=p.question) for p in problems]
    tokenizer = make_tokenizer([*plain, SYNTHESIS] * 3, vocab=900)
    model = make_model(vocab=len(tokenizer), hidden=64, context=2048, eos=(tokenizer.eos_token_id,), sharp=1.0)

    def learnt(text, response):
        ids = tokenizer(response, add_special_tokens=False).input_ids
        return data.prompt_ids(tokenizer, [text])[0], [*ids, tokenizer.eos_token_id]

    right = [f"The sum gives \\boxed{{{p.answer}}}." for p in problems]
    wrong = [f"The sum gives \\boxed{{{p.answer}0}}." for p in problems]
    examples = [learnt(q, a) for q, r, w in zip(plain, right, wrong) for a in (r, w)]
    for p, r, w in zip(problems, right, wrong):
        rewritten = f"{w} Wait, that is too much. It is \\boxed{{{p.answer}}}."
        output = f"<analysis>Too much.</analysis><reconstruction>{rewritten}</reconstruction>"
        examples.append(learnt(template.synthesis.format(question=p.question, wrong=w, right=r), output))
    coldstart.finetune(model, [examples] * 90, 90, 6e-3, 10)
    policy.save(model, tokenizer, folder / "model")
    return folder


@pytest.fixture
def run_program(monkeypatch, capsys):
    """Runs the main function of a program with some arguments, in this process: its exit code, and what it said."""

    def run(main, *argv):
        monkeypatch.setattr(config, "_asked", None)  # nobody has asked it to stop yet
        monkeypatch.setattr("sys.argv", ["program", *map(str, argv)])
        code = 0
        try:
            config.run(main)
        except SystemExit as stopped:
            code = stopped.code
        said = capsys.readouterr()
        return code, said.out + said.err

    return run
