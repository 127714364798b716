"""Settings: what --help tells of them, what numbers they refuse, and how a run goes on with those it was begun with."""

import json
import math
import subprocess
import sys
from dataclasses import MISSING, FrozenInstanceError, fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import checkpoint
import coldstart
import config
import eval as evaluation
import toy
import train
from config import (
    ColdStart,
    Evaluation,
    Training,
    flag_of,
    flat,
    free,
    of_file,
    parts_of,
    read,
    settle,
    take_over,
    told_apart,
)
from grpo import AVERAGES
from tapo import BASELINES
from tools import zpd
from tools.zpd import Filter

ROOT = Path(__file__).parents[1]
PROGRAMS = {"train": Training, "eval": Evaluation, "coldstart": ColdStart, "zpd": Filter}
MODULES = {"train": train, "eval": evaluation, "coldstart": coldstart, "zpd": zpd}
REQUIRED = {"train": {}, "eval": {"model": "m", "data": ("d",)}, "coldstart": {}}
REQUIRED["zpd"] = {"model": "m", "data": "d", "out": "o.jsonl", "low": 0}  # so that any --high may be tried
every_program = pytest.mark.parametrize("program", PROGRAMS)


def flags_of(kind):
    """(dataclass, field, type of a value) of each flag of a program."""
    for part in parts_of(kind).values():
        for one in fields(part):
            hint = get_type_hints(part)[one.name]
            yield part, one, (get_args(hint) or (hint,))[0]


def numbers_of(kind):
    return [one for _, one, plain in flags_of(kind) if plain in (int, float)]


def as_arguments(values):
    return [word for name, value in values.items() for word in (flag_of(name), *([value] if name != "data" else "d"))]


# ----------------------------------------------------------------------------------------------------------------- help


def told(program, monkeypatch, capsys):
    """What --help says of each flag, and the whole of it."""
    monkeypatch.setenv("COLUMNS", "10000")  # no wrapped lines
    monkeypatch.setattr("sys.argv", ["program", "--help"])
    with pytest.raises(SystemExit) as stopped:
        MODULES[program].main()
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    entries = [" ".join(entry.split()) for entry in ("-" + rest for rest in printed.split("\n  -")[1:])]
    return {entry.split()[0].rstrip(","): entry for entry in entries}, printed


@every_program
def test_help_tells_every_flag_with_its_default(program, monkeypatch, capsys):
    entries, printed = told(program, monkeypatch, capsys)
    assert "MISSING" not in printed and "default: None" not in printed and "default: False" not in printed
    assert len(entries) == 1 + len(list(flags_of(PROGRAMS[program])))  # and --help
    for part, one, plain in flags_of(PROGRAMS[program]):
        entry, on_the_toy = entries[flag_of(one.name)], toy.SETTINGS.get(part.__name__, {})
        assert one.metadata["help"] in entry and part.__doc__ in printed
        if one.default is True:
            assert entry.split()[1] == f"--no{flag_of(one.name)[1:]}" and "(default: off on the toy, else on)" in entry
        elif one.name in on_the_toy and one.default is not None:
            assert f"(default: {on_the_toy[one.name]} on the toy, else {one.default})" in entry
        elif one.default not in (None, MISSING, ()) and plain is not bool:
            assert f"(default: {one.default})" in entry
        else:
            assert "on the toy, else" not in entry


def test_help_as_it_is_read(monkeypatch, capsys):
    entries, _ = told("train", monkeypatch, capsys)
    for flag, default in {
        "--k": "8", "--steps": "30 on the toy, else 500", "--mu": "0.3 on the toy, else 0.0", "--model": "toy",
        "--lr": "0.0002 on the toy, else 1e-06", "--algo": "tapo", "--seed": "0",
    }.items():  # fmt: skip
        assert f"(default: {default})" in entries[flag]
    assert "--reward FILE.py:FUNCTION" in entries["--reward"]
    entries, _ = told("coldstart", monkeypatch, capsys)  # fine-tuning has settings of its own, on the toy too
    assert "(default: 1e-05)" in entries["--lr"]
    assert "(default: 80 on the toy, else 8192)" in entries["--max-new-tokens"]


@every_program
def test_each_flag_belongs_to_one_part(program):
    names = [one.name for _, one, _ in flags_of(PROGRAMS[program])]
    assert len(names) == len(set(names))


def test_a_required_flag_that_is_missing_is_named(capsys):
    for program, kind in PROGRAMS.items():
        for name in [one.name for _, one, _ in flags_of(kind) if one.default is MISSING]:
            given = {other: value for other, value in REQUIRED[program].items() if other != name}
            with pytest.raises(SystemExit) as stopped:
                read(kind, "", toy.SETTINGS, [str(word) for word in as_arguments(given)])
            assert stopped.value.code == 2 and flag_of(name) in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- choices, numbers


def test_a_name_is_not_empty(capsys):
    for kind, name in [(Training, "--out"), (Training, "--config"), (Training, "--eval-data"), (Evaluation, "--model")]:
        with pytest.raises(SystemExit) as stopped:
            read(kind, "", toy.SETTINGS, ["--model", "m", "--data", "d", name, ""])
        assert stopped.value.code == 2 and f"error: {name} is empty" in capsys.readouterr().err


def test_choices_are_those_of_the_tables_that_are_chosen_from(monkeypatch, capsys):
    entries, _ = told("train", monkeypatch, capsys)
    choices = {flag: entry.split()[1] for flag, entry in entries.items() if entry.split()[1].startswith("{")}
    assert choices.pop("--thinking") == "{on,off}" and choices.pop("--log") == "{tensorboard,wandb}"
    tables = {"--algo": train.OBJECTIVES, "--average": AVERAGES, "--ref-baseline": BASELINES}
    assert {flag: set(some.strip("{}").split(",")) for flag, some in choices.items()} == {
        flag: set(table) for flag, table in tables.items()
    }
    for flag in tables:
        monkeypatch.setattr("sys.argv", ["program", flag, "other"])
        with pytest.raises(SystemExit) as stopped:
            train.main()
        assert stopped.value.code == 2 and f"{flag}: invalid choice: 'other'" in capsys.readouterr().err


def refusal(kind, argv, capsys):
    """The sentence with which a command line is refused."""
    with pytest.raises(SystemExit) as stopped, config.bad_input():
        settle(kind, read(kind, "", toy.SETTINGS, [str(word) for word in argv]), None)
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and printed.startswith("error: ") and printed.count("\n") == 1
    return printed.removeprefix("error: ").strip()


@every_program
def test_numbers_that_cannot_be_are_refused_in_a_sentence_that_names_the_flag(program, capsys):
    kind, given = PROGRAMS[program], REQUIRED[program]
    for one in numbers_of(kind):
        never = ["nan", "inf", "-inf", "-1", "-0.5", "1e999"] + (["0"] if not one.metadata["zero"] else [])
        others = {name: value for name, value in given.items() if name != one.name}
        for text in never:
            said = refusal(kind, [*as_arguments(others), f"{flag_of(one.name)}={text}"], capsys)
            assert flag_of(one.name) in said.replace(":", " ").split()
        for value in (math.nan, math.inf, -math.inf, -1, -0.5):  # nor when they come from elsewhere
            with pytest.raises(ValueError) as refused:
                settle(kind, others | {one.name: value})
            assert str(refused.value).startswith(f"{flag_of(one.name)} must be ") and "\n" not in str(refused.value)


@every_program
def test_0_is_taken_where_it_means_something(program):
    kind, given = PROGRAMS[program], REQUIRED[program]
    for one in numbers_of(kind):
        if one.metadata["zero"]:
            assert flat(settle(kind, given | {one.name: 0}))[one.name] == 0
    may_be_0 = {one.name for one in numbers_of(kind) if one.metadata["zero"]}
    assert may_be_0 == {
        "train": {
            "seed", "lam", "mu", "opsd_beta", "kl", "weight_decay", "keep_trajectories", "keep_rollouts", "eval_every",
            "lora",
        },
        "eval": {"temperature", "top_k", "seed"}, "coldstart": {"seed", "turning"}, "zpd": {"seed", "low", "high"},
    }[program]  # fmt: skip


def checked(kind, given, otherwise=None):
    settings = settle(kind, given, otherwise)
    if kind is Training:
        train.check(settings)
    return settings


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (Training, {"k": 1}, "--k 1: a group needs at least 2"),
        (Training, {"k": 5}, "--k 5 is less than --n-pos 2 plus --n-neg 4"),
        (Training, {"k": 5, "algo": "sft"}, "raise --k"),
        (Training, {"minibatches": 9, "queries": 8}, "--minibatches 9 is more than --queries 8"),
        (Training, {"opsd_beta": 1.5}, "--opsd-beta must be from 0"),
        (Training, {"algo": "grpo", "no_dae": True}, "--no-dae takes a part of TAPO away"),
        (Training, {"algo": "opsd", "no_ots": True}, "--no-ots takes a part of TAPO away"),
        (Training, {"algo": "sft", "no_dcs": True}, "--no-dcs takes a part of TAPO away"),
        (Training, {"algo": "sft", "full_reconstruction": True}, "--full-reconstruction takes a part of TAPO away"),
        (Training, {"lora": 4, "engine": "e.py:E"}, "leave --engine out"),
        (Filter, {"low": 0.9}, "the lower first"),
        (Filter, {"high": 1.5}, "shares from 0 to 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(kind, given, said):
    with pytest.raises(ValueError, match=said) as refused:
        checked(kind, given)
    assert "\n" not in str(refused.value)


def test_what_only_looks_like_a_contradiction_is_taken():
    assert checked(Training, {"k": 2, "algo": "grpo"}).sampling.k == 2
    assert checked(Training, {"k": 2, "no_dcs": True}).selection.no_dcs
    assert checked(Training, {"k": 4}, toy.SETTINGS).selection.n_neg == 2  # 2 + 2 are enough on the toy


# ----------------------------------------------------------------------------------------------------- what is settled


def test_the_toy_s_defaults_are_of_settings_that_exist():
    parts = {part.__name__: part for kind in PROGRAMS.values() for part in parts_of(kind).values()}
    assert toy.SETTINGS.keys() <= parts.keys()
    for name, values in toy.SETTINGS.items():
        known = {one.name: one.default for one in fields(parts[name])}
        assert values.keys() <= known.keys()
        assert all(value != known[of] and type(value) in (int, float, bool) for of, value in values.items())


@every_program
def test_what_is_given_comes_before_the_toy_s_and_that_before_the_default(program):
    kind, given = PROGRAMS[program], REQUIRED[program]
    plain, toys = flat(settle(kind, given)), flat(settle(kind, given, toy.SETTINGS))
    for part, one, _ in flags_of(kind):
        if one.name not in given:
            assert plain[one.name] == one.default
            assert toys[one.name] == toy.SETTINGS.get(part.__name__, {}).get(one.name, one.default)
    assert flat(settle(kind, given | {"slots": 7}, toy.SETTINGS))["slots"] == 7


@pytest.mark.parametrize("kind", [Training, ColdStart])
def test_what_is_on_by_default_can_be_turned_off(kind):
    """A real model computes its activations again, the toy has room for them."""
    for argv, of_a_real_model, of_the_toy in [
        ([], True, False),
        (["--gradient-checkpointing"], True, True),
        (["--no-gradient-checkpointing"], False, False),
    ]:
        given = read(kind, "", toy.SETTINGS, argv)
        assert flat(settle(kind, given))["gradient_checkpointing"] is of_a_real_model
        assert flat(settle(kind, given, toy.SETTINGS))["gradient_checkpointing"] is of_the_toy


def test_settings_are_frozen():
    for program, kind in PROGRAMS.items():
        settings = settle(kind, REQUIRED[program])
        for name, part in parts_of(kind).items():
            one = getattr(settings, name) if name else settings
            assert type(one) is part
            for each in fields(one):
                with pytest.raises(FrozenInstanceError):
                    setattr(one, each.name, 1)
            if name:
                with pytest.raises(AttributeError):
                    setattr(settings, name, one)


def test_settings_import_nothing_heavy_and_nothing_of_ours():
    ours = sorted(path.stem for path in ROOT.glob("*.py"))
    code = f"import sys, config; print([name for name in {[*ours, 'torch', 'tools']} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed == "['config']\n"


# ------------------------------------------------------------------------------------------------ settings from a file


def in_file(tmp_path, content):
    (tmp_path / "some.json").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(tmp_path / "some.json")


def test_a_run_s_settings_are_read_back_from_its_config_json(tmp_path):
    settings = settle(
        Training, {"lr": 0.5, "system": "Hi.", "chat_template": "{{ messages }}", "no_dae": True, "out": "x"}
    )
    checkpoint.begin(tmp_path / "config.json", flat(settings))
    found = of_file(Training, str(tmp_path / "config.json"))
    assert found.keys() == flat(settings).keys() - {"out", "resume", "config", "trust_remote_code"}
    assert settle(Training, found | {"out": "x"}) == settings
    plain = {"k": 4, "temperature": 1, "resume": True, "out": "y", "reward": None}
    assert of_file(Training, in_file(tmp_path, plain)) == {"k": 4, "temperature": 1, "reward": None}
    (tmp_path / "wording.txt").write_text("Solve {question}\n")
    wording = in_file(tmp_path, {"prompt_template": str(tmp_path / "wording.txt")})
    assert of_file(Training, wording) == {"prompt_template": "Solve {question}"}  # a file's name does, too
    assert of_file(Evaluation, in_file(tmp_path, {"data": ["a", "b"], "top_k": None})) == {
        "data": ["a", "b"],
        "top_k": None,
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"kk": 8}, "there is no setting kk"),
        ({"settings": {"algorithm": "grpo"}, "commit": "a"}, "there is no setting algorithm"),
        ({"k": "8"}, 'k must be a whole number, not "8"'),
        ({"k": 8.0}, "k must be a whole number, not 8.0"),
        ({"k": True}, "k must be a whole number, not true"),
        ({"k": None}, "k must be a whole number, not null"),
        ({"lr": "1e-6"}, 'lr must be a number, not "1e-6"'),
        ({"lr": False}, "lr must be a number, not false"),
        ({"no_dae": 1}, "no_dae must be true or false, not 1"),
        ({"model": ["m"]}, 'model must be a text, not ["m"]'),
        ({"average": "tokens"}, 'average must be one of token, active, sequence, constant, not "tokens"'),
        ({"thinking": True}, "thinking must be one of on, off, not true"),
        ({"system": {"a": "\n" * 99}}, 'system must be a text, not {"a": "'),
        ({"prompt_template": "nowhere.txt"}, "nowhere.txt cannot be read"),
        ([], "holds no settings"), ("3", "holds no settings"), ({"settings": []}, "holds no settings"),
        ("", "is no JSON"), ("{", "is no JSON"), ("[" * 100000, "is no JSON"),
    ],
)  # fmt: skip
def test_what_a_file_cannot_say_is_refused_in_a_sentence_that_names_it(content, said, tmp_path):
    with pytest.raises(ValueError, match=r"some\.json|nowhere\.txt") as refused:
        of_file(Training, in_file(tmp_path, content))
    assert said in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_files_that_are_not_there_or_no_text(tmp_path):
    (tmp_path / "bad.json").write_bytes(b"\xff")
    for file, said in (("absent.json", "No such file"), (".", "Is a directory"), ("bad.json", "is no JSON")):
        with pytest.raises(ValueError, match=said):
            of_file(Training, str(tmp_path / file))


@every_program
def test_every_setting_refuses_what_is_not_its_kind(program, tmp_path):
    for _, one, _ in flags_of(PROGRAMS[program]):
        if one.name not in ("out", "resume", "config", "trust_remote_code"):
            with pytest.raises(ValueError, match=f": {one.name} must be "):
                of_file(PROGRAMS[program], in_file(tmp_path, {one.name: {}}))


# --------------------------------------------------------------------------------------- going on with what was begun


def test_what_a_resumed_run_may_change():
    assert free(Training) == {
        "out", "resume", "config", "steps", "slots", "micro_batch_tokens", "gradient_checkpointing", "eval_every",
        "save_every", "save_minutes", "keep_saves", "keep_trajectories", "keep_rollouts", "log", "trust_remote_code",
    }  # fmt: skip


def test_settings_that_differ_are_told_so_that_one_sees_where():
    assert told_apart(1, 2) == ("1", "2") and told_apart("a", None) == ("a", "None")
    one, other = told_apart("x" * 100 + "\nA" + "y" * 100, "x" * 100 + "\nB" + "y" * 100)
    assert one == '..."' + "x" * 19 + "\\nA" + "y" * 19 + '"...' and other == one.replace("A", "B")
    assert told_apart("a b", "a  b") == ('..."a b"...', '..."a  b"...')
    assert told_apart("a", "a\n") == ('..."a"...', '..."a\\n"...')


def test_a_resumed_run_takes_its_settings_over():
    stored = json.loads(json.dumps(flat(settle(Training, {"lr": 0.5, "kl": 0.25, "out": "x"}))))
    asked_anew = stored.pop("trust_remote_code")
    assert asked_anew is False and take_over(Training, {}, stored | {"trust_remote_code": True}, "runs/x") == stored
    assert take_over(Training, {}, stored, "runs/x") == stored
    assert take_over(Training, {"lr": 0.5, "steps": 9}, stored, "runs/x") == stored | {"steps": 9}
    with pytest.raises(ValueError) as refused:
        take_over(Training, {"lr": 0.1}, stored, "runs/x")
    assert str(refused.value) == "--lr 0.1 contradicts the run in runs/x, which has 0.5: leave it out"
    started = {"prompt_template": "{question}\nThink."}
    with pytest.raises(ValueError, match=r"template .*}.n.nThink.* contradicts .* which has .*}.nThink"):
        take_over(Training, {"prompt_template": "{question}\n\nThink."}, started, "runs/x")
    for name in stored:
        if name in free(Training):
            assert take_over(Training, {name: "other"}, stored, "runs/x") == stored | {name: "other"}
        else:
            with pytest.raises(ValueError, match=f"^{flag_of(name)} other contradicts"):
                take_over(Training, {name: "other"}, stored, "runs/x")
    assert take_over(Training, {"lr": 0.1}, {}, None) == {"lr": 0.1}  # nothing was begun


def test_work_goes_on_under_the_settings_that_it_was_begun_with(tmp_path):
    file = tmp_path / "new" / "config.json"
    settings = {"k": 8, "lr": 0.5, "data": ("a", "b"), "reward": None, "out": "x"}
    checkpoint.begin(file, settings, free={"out"})
    written = file.read_bytes()
    kept = json.loads(written)
    assert kept["settings"] == settings | {"data": ["a", "b"]} == checkpoint.begun(file)
    assert {"commit", "python", "torch", "transformers", "tokenizers"} < kept.keys()

    checkpoint.begin(file, settings, free={"out"})
    checkpoint.begin(file, settings | {"out": "y"}, free={"out"})
    checkpoint.begin(file, settings | {"new": None})  # a setting of a later version, which is off
    for others, said in [
        ({"k": 4}, "begun with k 8, not 4:"),
        ({"out": "y"}, "begun with out x, not y:"),
        ({"data": ("a",)}, "begun with data ['a', 'b'], not ['a']:"),
        ({"k": 4, "lr": 0.25}, "begun with k 8, not 4, lr 0.5, not 0.25:"),
        ({"reward": "r.py:f"}, "begun with reward None, not r.py:f:"),
        ({"new": 1}, "begun with new None, not 1:"),
    ]:
        with pytest.raises(ValueError) as refused:
            checkpoint.begin(file, settings | others, free={"steps"})
        assert said in str(refused.value) and str(file.parent) in str(refused.value) and "\n" not in str(refused.value)
    assert file.read_bytes() == written


NO_SETTINGS = [b"", b"{", b"[]", b"{}", b"3", b'{"settings": 3}', b'{"flags": {"k": 8}}', b"\xff"]


@pytest.mark.parametrize("content", NO_SETTINGS)
def test_a_file_without_settings_is_refused_and_kept(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    for ask in (lambda file: checkpoint.begin(file, {"k": 8}), checkpoint.begun):
        with pytest.raises(ValueError, match=r"config\.json(: settings missing| cannot be read: )"):
            ask(tmp_path / "config.json")
    assert (tmp_path / "config.json").read_bytes() == content
