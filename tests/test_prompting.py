"""How a model is prompted is the same in training, cold start, filter and evaluation, and a run remembers it."""

import json
import shlex
import shutil
import sys
from dataclasses import replace

import pytest
import transformers
from tiny import make_model, make_tokenizer

import coldstart
import config
import data
import eval as evaluation
import policy
import train
from config import Prompting, Sampling
from reflect import SYNTHESIS
from rollouts import Actor
from tools import zpd

CHAT = (
    "{% for m in messages %}<|user|>{{ m.role }}: {{ m.content }}{% endfor %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}brief {% endif %}"
)
MENDING = "{question} {x}: {wrong}, or {right}?"
WORDING = "Solve {question} within \\boxed{} and {braces}."
PROGRAMS = {"train": train, "eval": evaluation, "coldstart": coldstart, "zpd": zpd}
SIZES = ["--max-new-tokens", 30]


def spelt(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False)


def test_every_prompt_goes_through_the_chat_template_with_the_system_message():
    tokenizer = make_tokenizer(["Reason step by step", SYNTHESIS])
    tokenizer.chat_template = CHAT
    model = make_model(vocab=len(tokenizer), context=4096, eos=(tokenizer.eos_token_id,))
    problems, sampling = [data.Problem("1 + 1?", "2")], Sampling(max_new_tokens=40, max_synthesis_tokens=40)
    how = Prompting(system="Be kind.", thinking="off", prompt_template=WORDING, synthesis_template=MENDING)
    actor = Actor(model, tokenizer, problems, sampling, seed=0, prompting=how, worked="Like this. ")
    front, asked = "<|user|>system: Be kind.<|user|>user: ", "Solve 1 + 1? within \\boxed{} and {braces}."
    assert [spelt(tokenizer, p) for p in actor.prompts] == [f"{front}{asked}<|assistant|>brief "]

    wrong, right, *_ = (replace(r, text=t) for r, t in zip(actor.sample([0], 0)[0], ("WRONG", "RIGHT")))
    right = replace(right, reward=1.0)
    [attempt] = actor.construct([0], [[wrong, right]], [(0, 0, 1)], 0)
    task = "1 + 1? {x}: WRONG, or RIGHT?"
    assert spelt(tokenizer, attempt.output.prompt) == f"{front}Like this. {task}<|assistant|>brief "
    [[teacher, none]] = actor.teach([0], [[wrong, right]], 0)
    task = data.TEMPLATES.teacher.format(question="1 + 1?", right="RIGHT")
    assert spelt(tokenizer, teacher) == f"{front}{task}<|assistant|>brief " and none is None


@pytest.fixture
def begin(real_path, tmp_path, monkeypatch, run_program):
    """Runs a program in `tmp_path`, on the real path where no model is named; returns exit code and output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chat.jinja").write_text(CHAT + "\n")
    (tmp_path / "wording.txt").write_text(WORDING + "\n")

    def start(name, *argv, model=real_path / "model"):
        given = ["--model", model, "--data", real_path / "problems.jsonl"] if model else []
        return run_program(PROGRAMS[name].main, *given, *argv)

    return start


def settings_of(file):
    return json.loads(file.read_text())["settings"]


PROMPTED = ["--system", "Be kind.", "--thinking", "off", "--chat-template", "chat.jinja"]
PROMPTED += ["--prompt-template", "wording.txt", "--synthesis-template", MENDING]
RUN = ["--algo", "grpo", "--queries", 2, "--steps", 1, *SIZES]
RENDERED = "<|user|>system: Be kind.<|user|>user: Solve {question} within \\boxed{} and {braces}.<|assistant|>brief "
NAMES = {"system": "Be kind.", "thinking": "off", "chat_template": CHAT, "prompt_template": WORDING}
NAMES["synthesis_template"] = MENDING


def test_an_evaluation_prompts_as_the_run_did(begin, tmp_path):
    code, said = begin("train", *RUN, "--out", "run", *PROMPTED)
    assert code == 0 and "had another" not in said
    kept = settings_of(tmp_path / "run" / "config.json")
    assert {name: kept[name] for name in NAMES} == NAMES  # the texts themselves: files may change and go
    (tmp_path / "chat.jinja").unlink()
    (tmp_path / "best").symlink_to("run/model")
    command = next(line for line in said.splitlines() if line.startswith("sample again"))
    assert "--temperature 1.0 --max-new-tokens 30 --top-p 1 --top-k 0" in command and "--model run/model" in command
    for i, model in enumerate(["run/model", "best", "run/checkpoints/step-000001/model"]):
        code, said = begin("eval", "-n", 1, *SIZES, "--out", f"eval-{i}", model=model)
        assert code == 0 and "prompting as in" in said and "run/config.json: --system, --thinking" in said
        assert settings_of(tmp_path / f"eval-{i}" / "config.json")["prompt"] == RENDERED

    code, said = begin("eval", "-n", 1, *SIZES, "--out", "other", "--system", "", "--thinking", "on", model="best")
    assert code == 0 and said.count("which made the model, had another --system, --thinking") == 1
    prompt = settings_of(tmp_path / "other" / "config.json")["prompt"]
    assert prompt == RENDERED.replace("system: Be kind.<|user|>", "").replace("brief ", "")
    same = ["--system", "Be kind.", "--thinking", "off"]
    assert "had another" not in begin("eval", "-n", 1, *SIZES, "--out", "same", *same, model="best")[1]

    code, said = begin("train", *RUN, "--out", "next", model="run/model")  # so does whatever trains it further
    assert code == 0 and "prompting as in" in said
    kept = settings_of(tmp_path / "next" / "config.json")
    assert {name: kept[name] for name in NAMES} == NAMES
    (tmp_path / "run" / "config.json").write_text('{"settings": {"thinking": "of"}}')
    code, said = begin("eval", "-n", 1, *SIZES, "--out", "no", model="best")
    assert code == 2 and 'run/config.json: thinking must be one of on, off, not "of"' in said
    (tmp_path / "run" / "config.json").write_text("{")
    code, said = begin("eval", "-n", 1, *SIZES, "--out", "no", model="best")
    assert code == 2 and "run/config.json cannot be read" in said


def test_the_printed_command_samples_the_very_responses_of_training(begin, real_path, tmp_path):
    """Although the generation config of the model says otherwise."""
    model = policy.load_model(str(real_path / "model"))
    model.generation_config.update(do_sample=True, temperature=0.2, top_p=0.5, top_k=2)
    policy.save(model, policy.load_tokenizer(str(real_path / "model")), tmp_path / "start")
    prompted, problems = ["--prompt-template", "{question} Reason step by step."], real_path / "problems.jsonl"
    measured = ["--eval-data", f"mine={problems}", "--eval-samples", 8, "--temperature", 1.3, "--lr", 1e-9]
    code, said = begin("train", *RUN, *measured, "--out", "a run", *prompted, model=tmp_path / "start")
    assert code == 0, said
    command = shlex.split(next(line for line in said.splitlines() if line.startswith("sample again"))[15:])
    assert command[1:6] == ["eval.py", "--model", "a run/model", "--data", f"mine={problems}"]
    code, said = begin("eval", *command[2:], "-n", 8, "--out", "again", model=None)
    assert code == 0, said
    figures = json.loads((tmp_path / "again" / "summary.json").read_text())["figures"]["mine"]
    [_, after] = map(json.loads, (tmp_path / "a run" / "evaluations.jsonl").open())
    assert figures["tokens"] == after["tokens"] and figures["cut"] == after["cut"] < 1
    assert figures["pass@1"] == after["pass@1"]


@pytest.mark.parametrize("program", ["train", "eval", "zpd"])
def test_what_is_measured_is_prompted_so_too(begin, real_path, monkeypatch, program):
    asked, tokenizer = [], policy.load_tokenizer(str(real_path / "model"))
    real = PROGRAMS[program].evaluate

    def evaluate(sampler, tokenizer, problems, prompts, *more, **named):
        asked.extend(prompts)
        return real(sampler, tokenizer, problems, prompts, *more, **named)

    monkeypatch.setattr(PROGRAMS[program], "evaluate", evaluate)
    given = [*RUN, "--eval-data", real_path / "problems.jsonl"] if program == "train" else ["-n", 1, *SIZES]
    assert begin(program, *given, "--out", "new.jsonl", *PROMPTED)[0] == 0
    before, after = RENDERED.split("{question}")
    assert len(asked) >= 3
    assert all(spelt(tokenizer, p).startswith(before) and spelt(tokenizer, p).endswith(after) for p in asked)


def test_a_changed_text_is_noticed_when_a_run_goes_on(begin, tmp_path):
    assert begin("train", *RUN, "--out", "run", *PROMPTED)[0] == 0
    go_on = ["--resume", "--out", "run", "--steps", 2]
    for file, flag in (("wording.txt", "--prompt-template"), ("chat.jinja", "--chat-template")):
        kept = (tmp_path / file).read_text()
        (tmp_path / file).write_text(kept + "Now.\nPlease.")
        code, said = begin("train", *go_on, *PROMPTED, model=None)
        last = said.strip().splitlines()[-1]
        assert code == 2 and last.startswith(f"error: {flag} ") and "contradicts the run in run" in last
        (tmp_path / file).write_text(kept)
    (tmp_path / "wording.txt").unlink()
    assert begin("train", *go_on, model=None)[0] == 0  # with the texts that it was begun with


def test_cold_start_and_filter_prompt_alike_and_remember_it(begin, tmp_path):
    sizes = [*SIZES, "--max-synthesis-tokens", 120]
    code, said = begin("coldstart", "--out", "cold", *sizes, "--data-only", *PROMPTED)
    assert code == 0
    assert {n: v for n, v in settings_of(tmp_path / "cold" / "data.json").items() if n in NAMES} == NAMES
    rows = [json.loads(line) for line in (tmp_path / "cold" / "sft.jsonl").open()]
    assert all(row["prompt"].startswith("Solve ") for row in rows)
    code, said = begin("coldstart", "--out", "cold", *sizes, "--data-only", *PROMPTED[2:])
    assert code == 2 and "was begun with system Be kind., not None" in said

    begin("zpd", "--out", "kept.jsonl", "-n", 2, *SIZES, *PROMPTED)
    assert {n: v for n, v in settings_of(tmp_path / "kept.config.json").items() if n in NAMES} == NAMES
    (tmp_path / "wording.txt").write_text("{question}\nThink.")
    code, said = begin("zpd", "--out", "kept.jsonl", "-n", 2, *SIZES, *PROMPTED)
    last = said.strip().splitlines()[-1]
    assert code == 2 and "was begun with prompt_template" in last and "not {question} Think." in last


def test_a_cold_start_s_model_is_prompted_as_its_examples_were(begin, real_path, tmp_path, monkeypatch):
    learnt = []
    monkeypatch.setattr(coldstart, "finetune", lambda model, batches, *_, **__: learnt.extend(next(iter(batches))))
    sizes = [*SIZES, "--max-synthesis-tokens", 120]
    assert begin("coldstart", "--out", "cold", *sizes, "--data-only", *PROMPTED)[0] == 0
    for name in ("sft", "ift"):
        row = coldstart.example(0, f"An {name}.", "Yes.", [5, 1])
        (tmp_path / "cold" / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    model, problems = str(real_path / "model"), str(real_path / "problems.jsonl")
    given = {"model": model, "data": problems, "out": "cold", "mixture": 1.0} | NAMES
    settings = config.settle(config.ColdStart, given)
    coldstart.learn(settings, model, coldstart.own_examples(settings, tmp_path / "cold"), tmp_path / "cold")
    tokenizer = policy.load_tokenizer("cold/model")
    assert tokenizer.chat_template == CHAT
    front = "<|user|>system: Be kind.<|user|>user: "
    assert {spelt(tokenizer, p) for p, _ in learnt} == {f"{front}An {n}.<|assistant|>brief " for n in ("sft", "ift")}
    code, said = begin("eval", "-n", 1, *SIZES, "--out", "eval", model="cold/model")
    assert code == 0 and "prompting as in cold/data.json" in said
    assert settings_of(tmp_path / "eval" / "config.json")["prompt"] == RENDERED


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_cannot_be_is_one_sentence(begin, tmp_path, program):
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    (tmp_path / "plain.txt").write_text("Reason step by step.")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "open.txt").write_text("{{ messages[0].content")
    for flags, complaint in [
        (["--chat-template", "absent.jinja"], "argument --chat-template: absent.jinja cannot be read: No such file"),
        (["--prompt-template", "bad.txt"], "argument --prompt-template: bad.txt cannot be read: it is no UTF-8 text"),
        (["--prompt-template", "."], ". cannot be read: Is a directory"),
        (["--prompt-template", "plain.txt"], "--prompt-template has no {question} in it"),
        (["--prompt-template", "empty.txt"], "--prompt-template has no {question} in it"),
        (["--chat-template", "plain.txt"], "--chat-template does not mention messages"),
        (["--chat-template", "open.txt"], "the chat template cannot be used"),
        (["--system", "Be kind."], "knows no system message"),
        (["--system", "Be \udcff."], "--system is no UTF-8 text"),
        (["--prompt-template", "x" * 999], "x... (999 characters) cannot be read: File name too long"),
        (["--thinking", "off"], "knows no enable_thinking"),
    ]:
        code, said = begin(program, "--out", "new.jsonl", *SIZES, *flags)
        last = said.strip().splitlines()[-1]
        assert code == 2 and last.startswith("error: ") and complaint in last and not (tmp_path / "new.jsonl").exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_long_prompts_are_refused_or_dropped(begin, real_path, tmp_path, program):
    """The one that is refused is named as a user finds it; the others of its set are used."""
    rows = (real_path / "problems.jsonl").read_text().splitlines()
    rows[1:1] = [json.dumps({"problem": "Add\n these:" + " 1 +" * 900, "answer": "900"})] * 2
    (tmp_path / "some.jsonl").write_text("\n".join(rows))
    only = json.dumps({"problem": "How long is " + "a very " * 900 + "long text?", "answer": "1"})
    (tmp_path / "long.jsonl").write_text(only)
    given = [*SIZES, "--out", "new.jsonl"]
    given += {"eval": ["-n", 1], "zpd": ["-n", 1], "coldstart": ["--data-only", "--max-synthesis-tokens", 99]}.get(
        program, [*RUN, "--eval-data", "some.jsonl", "--eval-samples", 1]
    )
    code, said = begin(program, *given, "--data", "some.jsonl")
    last = said.strip().splitlines()[-1]
    assert code == 2 and "error: problem 2 of some.jsonl, 'Add these: 1 + 1 +" in last and "has a prompt of " in last
    assert "a response may get 30 more, and the model's context holds 2048: lower --max-new-tokens" in last
    assert last.endswith("or drop such problems with --drop-long-prompts") and not (tmp_path / "new.jsonl").exists()
    code, said = begin(program, *given, "--data", "long.jsonl", "--drop-long-prompts")
    assert code == 2 and "no problem of long.jsonl fits the model: problem 1 of long.jsonl, 'How long is a" in said

    code, said = begin(program, *given, "--data", "some.jsonl", "--drop-long-prompts")
    assert code == 0, said
    dropped = [line for line in said.splitlines() if line.startswith("some.jsonl: dropped ")]
    assert len(dropped) == (2 if program == "train" else 1)  # of what it is trained and of what it is measured on
    assert all("dropped 2 of 5 problems: problem 2 of some.jsonl, 'Add these: 1 + 1 +" in line for line in dropped)
    if program == "train":
        assert "3 problems, 0 of 1 steps done" in said and "--top-k 0 --drop-long-prompts\n" in said
        assert begin("train", "--resume", "--out", "new.jsonl", "--steps", 2, model=None)[0] == 0
        assert settings_of(tmp_path / "new.jsonl" / "config.json")["drop_long_prompts"] is True


OWN = """
open(__file__ + ".ran", "w").close()
from transformers import Qwen3Config, Qwen3ForCausalLM

class OwnConfig(Qwen3Config):
    model_type = "own"

class Own(Qwen3ForCausalLM):
    config_class = OwnConfig
"""
MAKE = {"zpd": ["-n", 1, *SIZES], "eval": ["-n", 1, *SIZES], "train": RUN}
MAKE["coldstart"] = ["--data-only", *SIZES, "--max-synthesis-tokens", 99]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_model_s_own_code_runs_when_it_is_asked_for_each_time(begin, real_path, tmp_path, monkeypatch, program):
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(policy, "_trusted", False)
    own = shutil.copytree(real_path / "model", tmp_path / "own")
    about = json.loads((own / "config.json").read_text()) | {"model_type": "own", "architectures": ["Own"]}
    about |= {"auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}}
    (own / "config.json").write_text(json.dumps(about))
    (own / "own.py").write_text(OWN)

    def refused(program, *argv, model):
        code, said = begin(program, *argv, model=model)
        ran = [*tmp_path.rglob("*.ran")]
        return code == 2 and said.endswith("read it, and add --trust-remote-code\n") and not ran

    def ran(program, *argv, model):
        code, said = begin(program, *argv, "--trust-remote-code", model=model)
        marks = [*(tmp_path / "modules").rglob("*.ran")]
        for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
            del sys.modules[name]
        for mark in marks:
            mark.unlink()
        return code == 0 and marks and said

    assert refused(program, *MAKE[program], "--out", "run.jsonl", model=own)
    said = ran(program, *MAKE[program], "--out", "run.jsonl", model=own)
    assert said
    if program == "train":
        assert said.count("--trust-remote-code") == 3  # in each command to go on with
        saved = tmp_path / "run.jsonl" / "model"
        for again, argv, model in [
            ("train", ["--resume", "--out", "run.jsonl", "--steps", 2], None),
            ("train", ["--config", "run.jsonl/config.json", "--out", "again"], None),
            ("train", [*RUN, "--out", "next"], saved),
            ("eval", [*MAKE["eval"], "--out", "eval"], saved),
        ]:
            assert refused(again, *argv, model=model)
            assert ran(again, *argv, model=model)


def test_what_fits_is_not_what_is_dropped_when_no_limit_is_given(begin, tmp_path):
    code, said = begin("eval", "-n", 1, "--out", "new", "--drop-long-prompts")
    assert code == 2 and "--drop-long-prompts needs --max-new-tokens" in said and not (tmp_path / "new").exists()
