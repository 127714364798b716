"""Settings: frozen dataclasses whose fields are flags; errors of one sentence; stopping cleanly.

Each dataclass is a part of a program's settings, and what takes settings takes the part it uses. A field holds a flag's
default (MISSING: it must be given), help and range. A program names its parts once, and the rest is made of them:

    read      its command line: what the user gave
    settle    the instances, checked; the toy has defaults of its own (toy.SETTINGS)
    flat      one dict of everything, for config.json
    take_over what a resumed run does not give again

Nothing here imports torch or a module of ours.
"""

import argparse
import atexit
import contextlib
import importlib.util
import json
import os
import shlex
import signal
import sys
import time
import traceback
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import NamedTuple, get_args, get_origin, get_type_hints

# --------------------------------------------------------------------------------------------------- how a flag is told


MOST = 2**63 - 1  # no number is larger
MANY = 2**16  # of one problem's responses, or of passes over them: more is a slip of the keyboard


def flag(default, text: str, *, zero: bool = False, free: bool = False, most: int = MOST, **more):
    """A field that is a flag. `zero`: a number may be 0, not only above it. `free`: what is computed does not depend on
    it, but for rounding, so that a resumed run may change it. `most`: no number is larger. `more` goes to argparse."""
    return field(default=default, metadata={"help": text, "zero": zero, "free": free, "most": most, "more": more})


def reward_flag():
    """The field --reward, of every program that judges responses."""
    text = "a function that rewards a response, given its text and its problem; above 0 is right (default: 1 where"
    return flag(None, f"{text} verifier.py finds the problem's answer)", metavar="FILE.py:FUNCTION")


def checkpointing_flag():
    """The field --gradient-checkpointing, of every program that trains."""
    return flag(True, "compute activations again in backward: much less memory, more time", free=True)


def slots_flag(**more):
    """The field --slots, of every program that samples."""
    text = "responses sampled side by side, as far as memory goes (default: 64; 512 on GPUs and on the toy)"
    return flag(None, text, **more)


def save_minutes_flag():
    """The field --save-minutes, of every program that trains."""
    return flag(30.0, "... and after so many minutes, however few steps they were", free=True)


HOLES = {"prompt_template": ("question",), "synthesis_template": ("question", "wrong", "right")}  # of each wording
GENERATION = "(default: the model's generation config, else"  # an evaluation's


class Unreadable(ValueError, argparse.ArgumentTypeError):
    """A file that a flag names and that cannot be read; argparse and `bad_input` tell the sentence."""


def text(given: str) -> str:
    """What a flag holds that takes a text from a file: the file's content, so that it is kept with the settings. What
    holds a { is no file's name, but such a text already. Raises Unreadable."""
    if "{" in given:
        return given
    try:
        return Path(given).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise Unreadable(f"{shown(given)} cannot be read: {reason}") from None


# fmt: off
# --------------------------------------------------------------------------------------------- a part of every program


@dataclass(frozen=True)
class Prompting:
    """how the model is prompted, in all programs; by default as the run was that made it"""

    system: str | None = flag(None, "a system message (default: none)", metavar="TEXT")
    thinking: str | None = flag(None, "enable_thinking of the chat template (default: its own)", choices=("on", "off"))
    chat_template: str | None = flag(None, "a Jinja template in place of the tokeniser's; it is saved with the model",
        metavar="FILE", type=text)
    prompt_template: str | None = flag(None, "the wording around a question: a file, or a text itself, with {question} "
        "in it; a run keeps the text, whatever becomes of the file (default: data.TEMPLATES)", metavar="FILE",
        type=text)
    synthesis_template: str | None = flag(None, "the wording of the synthesis task, likewise, with {question}, {wrong} "
        "and {right} in it: a short one serves a small model that has learnt it from demonstrations (default: "
        "reflect.SYNTHESIS)", metavar="FILE", type=text)
    drop_long_prompts: bool = flag(False, "leave out the problems whose prompt does not fit the model's context beside "
        "the limit of a response; without it one such problem is refused")

    def check(self):
        """Raises ValueError with a sentence about what cannot be."""
        for name in ("system", "chat_template", "prompt_template", "synthesis_template"):
            if any("\ud800" <= c <= "\udfff" for c in getattr(self, name) or ""):  # of bytes that are no UTF-8
                raise ValueError(f"{flag_of(name)} is no UTF-8 text")
        if self.chat_template is not None and "messages" not in self.chat_template:
            raise ValueError("--chat-template does not mention messages, so it is no chat template")
        for name, holes in HOLES.items():
            for hole in holes if getattr(self, name) is not None else ():
                if f"{{{hole}}}" not in getattr(self, name):
                    raise ValueError(f"{flag_of(name)} has no {{{hole}}} in it: that is where the {hole} is put")


@dataclass(frozen=True)
class Loading:
    """how the model is loaded, in all programs"""

    trust_remote_code: bool = flag(False, "run the Python code that the model's folder or hub repository brings along: "
        "read it first; no run and no file takes this flag over, it is asked for each time", free=True)


# ------------------------------------------------------------------------------------------------ the parts of train.py


@dataclass(frozen=True)
class Task:
    """what to train, on what, where to"""

    model: str = flag("toy", "toy (its cold start is made by the first run), a model folder, or a hub id")
    data: str = flag("toy", "toy, a file, a short name, or owner/name/FILE of the hub: see data.py")
    eval_data: str | None = flag(None, "problems to measure on before and after; the toy has held-out ones of its own",
        metavar="DATA")
    reward: str | None = reward_flag()
    out: str | None = flag(None, "the run's folder, which must be new or empty; by default a new one under runs/",
        free=True, metavar="DIR")
    seed: int = flag(0, "seed of everything random", zero=True)
    resume: bool = flag(False, "go on with the run in --out, from its newest checkpoint; its flags are taken over",
        free=True)
    config: str | None = flag(None, "a JSON file that says what no flag does: the config.json of a run, to repeat it, "
        "or an object of settings, named as there", free=True, metavar="FILE")


@dataclass(frozen=True)
class Objective:
    """the algorithm (grpo.py, tapo.py, opsd.py)"""

    algo: str = flag("tapo", "grpo is the same loop without constructed trajectories; opsd distils from the policy "
        "itself with a right response in its context; sft learns the right constructed trajectories by likelihood, "
        "without policy gradient")
    lam: float = flag(1.0, "lambda, the weight of the constructed trajectories' loss; 0, and --mu 0, is GRPO",
        zero=True)
    ref_baseline: str = flag("query", "what a constructed trajectory's reward is compared with: query, its query's "
        "sampled responses; group, its query's other constructions; batch, all constructions (the last two are "
        "readings of the paper)", choices=("query", "group", "batch"))
    mu: float = flag(0.0, "weight of the synthesis outputs' own policy gradient, which keeps the skill of constructing "
        "alive; 0 is the paper's", zero=True)
    opsd_beta: float = flag(0.5, "OPSD's divergence: 0 is forward KL, 1 reverse KL, between them Jensen-Shannon",
        zero=True)
    average: str = flag("token", "what the loss averages over: token, every token alike; active, every token alike, of "
        "the groups that have an advantage only; sequence, every response alike; constant, all tokens over responses "
        "times --max-new-tokens (Dr. GRPO)", choices=("token", "active", "sequence", "constant"))
    clip_low: float = flag(0.2, "a probability ratio below 1 - this earns nothing more")
    clip_high: float = flag(0.2, "... or above 1 + this")
    kl: float = flag(0.0, "weight of KL(policy || start) on sampled responses; 0 keeps no reference", zero=True)
    no_dae: bool = flag(False, "ablation: constructed trajectories join their query's group before it is normalised")
    no_ots: bool = flag(False, "ablation: every token of a constructed trajectory counts alike; what it "
        "would weigh is logged all the same")

    def check(self):
        """Raises ValueError with a sentence about what cannot be."""
        if self.opsd_beta > 1:
            raise ValueError(f"--opsd-beta must be from 0 (forward KL) to 1 (reverse KL), not {self.opsd_beta}")
        if self.clip_low >= 1:
            raise ValueError(f"--clip-low must be below 1, not {self.clip_low}: a probability ratio is never below 0")


@dataclass(frozen=True)
class Selection:
    """what is reflected on (tapo.py, reflect.py)"""

    n_pos: int = flag(2, "reflect on a query when at least so many of its responses are right (DCS)")
    n_neg: int = flag(4, "... and at least so many are wrong")
    m_max: int = flag(4, "rewrite at most so many wrong responses of a query")
    no_dcs: bool = flag(False, "ablation: rewrite every wrong response of every query that has a right one")
    full_reconstruction: bool = flag(False, "ablation: ask for the whole trajectory anew and train on it as it was "
        "written, instead of y-'s own tokens and a turn")


@dataclass(frozen=True)
class Sampling:
    """rollouts (sampler.py)"""

    k: int = flag(8, "K, responses a query", most=MANY)
    temperature: float = flag(1.0, "sampling temperature; log-probabilities are taken under it, too")
    max_new_tokens: int = flag(8192, "limit of a response; a cut one counts as wrong")
    max_synthesis_tokens: int = flag(12288, "limit of an analysis with its reconstruction")
    slots: int | None = slots_flag(free=True)
    engine: str | None = flag(None, "what samples in place of sampler.py: a subclass of its Engine, such as "
        "tools/continuous.py:ContinuousBatching", metavar="FILE.py:CLASS")


@dataclass(frozen=True)
class Optimiser:
    """optimisation (policy.py)"""

    steps: int = flag(500, "training steps", free=True)
    queries: int = flag(64, "Q, queries a step")
    epochs: int = flag(1, "passes over the responses of a step, each with optimiser steps of its own", most=MANY)
    minibatches: int = flag(1, "optimiser steps a pass, each on its part of the step's queries")
    lr: float = flag(1e-6, "AdamW's learning rate")
    warmup: int = flag(10, "steps in which the learning rate rises to --lr; 1 is none")
    beta2: float = flag(0.999, "AdamW's decay of the second moment")
    weight_decay: float = flag(0.0, "AdamW's weight decay", zero=True)
    lora: int = flag(0, "train adapters of this rank beside frozen weights (lora.py), which takes far less memory; it "
        "wants about ten times the --lr; 0 trains all weights", zero=True)
    max_grad_norm: float = flag(1.0, "a longer gradient is scaled down to this norm")
    micro_batch_tokens: int = flag(16384, "tokens of one forward and backward, padding included; lower it if training "
        "runs out of memory", free=True)
    gradient_checkpointing: bool = checkpointing_flag()

    def check(self):
        """Raises ValueError with a sentence about what cannot be."""
        if self.minibatches > self.queries:
            raise ValueError(f"--minibatches {self.minibatches} is more than --queries {self.queries}: each needs one")
        if self.beta2 >= 1:
            raise ValueError(f"--beta2 must be below 1, not {self.beta2}: it is the share of the past in a mean")


@dataclass(frozen=True)
class Keeping:
    """what is measured and kept"""

    eval_samples: int = flag(4, "responses to each held-out problem, before and after", most=MANY)
    eval_every: int = flag(0, "measure on the held-out problems after every so many steps, too", zero=True, free=True)
    save_every: int = flag(25, "steps from one checkpoint to the next; a stopped run saves, too", free=True)
    save_minutes: float = save_minutes_flag()
    keep_saves: int = flag(1, "checkpoints that are kept", free=True)
    keep_trajectories: int = flag(8, "constructions a step that are kept in trajectories.jsonl", zero=True, free=True)
    keep_rollouts: int = flag(4, "sampled responses a step that are kept in rollouts.jsonl, right and wrong ones "
        "by turns", zero=True, free=True)
    log: tuple[str, ...] = flag((), "send every figure to these, too: TensorBoard (the run's folder tensorboard/), "
        "Weights & Biases (project tapo, or $WANDB_PROJECT); each needs its package (pip install tensorboard, wandb)",
        free=True, choices=("tensorboard", "wandb"), nargs="+", action="extend")

    def check(self):
        """Raises ValueError with a sentence about a package that is missing."""
        for name in self.log:
            found = importlib.util.find_spec(name)
            if not found or not found.origin:  # a mere folder of this name has no origin
                raise ValueError(f"--log {name} needs a package that is not installed: pip install {name}")


class Training(NamedTuple):
    """The settings of train.py."""

    task: Task
    loading: Loading
    prompting: Prompting
    objective: Objective
    selection: Selection
    sampling: Sampling
    optimiser: Optimiser
    keeping: Keeping


# -------------------------------------------------------------------------------------- the parts of the other programs


@dataclass(frozen=True)
class Measuring:
    """what to measure, on what, and how to sample (eval.py)"""

    model: str = flag(MISSING, "a model folder, a hub id, or toy (its cold start)")
    data: tuple[str, ...] = flag(MISSING, "problem sets: toy, files, short names (data.py), files of "
        "the hub (owner/name/FILE@REVISION), NAME=FILE", nargs="+")
    n: int = flag(16, "responses a problem", most=MANY)
    reward: str | None = reward_flag()
    temperature: float | None = flag(None, f"0 takes the likeliest token {GENERATION} 1)", zero=True)
    top_p: float | None = flag(None, f"keep the likeliest tokens of this mass {GENERATION} 1)")
    top_k: int | None = flag(None, f"keep so many likeliest tokens, 0 all {GENERATION} 0)", zero=True)
    max_new_tokens: int | None = flag(None, f"limit of a response {GENERATION} that of train.py)")
    slots: int | None = slots_flag()
    seed: int = flag(0, "seed of the sampling", zero=True)
    out: str | None = flag(None, "the evaluation's folder (default: runs/eval-MODEL-N)", metavar="DIR")


class Evaluation(NamedTuple):
    """The settings of eval.py."""

    measuring: Measuring
    loading: Loading
    prompting: Prompting


@dataclass(frozen=True)
class Making:
    """what to make examples with, of what (coldstart.py)"""

    model: str = flag("toy", "a model folder, a hub id, or toy, which takes --out, --seed and --plain only")
    data: str | None = flag(None, "problems, as for train.py")
    out: str | None = flag(None, "the folder to write (default: for the toy runs/toy-coldstart)", metavar="DIR")
    seed: int = flag(0, "seed of everything random", zero=True)
    reward: str | None = reward_flag()
    m_max: int = flag(4, "rewrite so many wrong responses of a problem")
    shots: bool = flag(False, "put worked examples in front of the synthesis task")
    demonstrations: str | None = flag(None, "written examples to learn before the model's own, for one that cannot "
        "construct: a JSON object a line, with problem, answer, and either solution, or wrong, right, analysis and "
        "reconstruction (y- up to its error, and a turn)", metavar="FILE.jsonl")
    skill: float = flag(0.6, "with demonstrations: the share of valid constructions to reach")
    rounds: int = flag(3, "... and how many times to fine-tune for it, at most")
    data_only: bool = flag(False, "stop when the examples are made")
    plain: bool = flag(False, "the toy's without the synthesis task: no cold start at all")

    def check(self):
        """Raises ValueError with a sentence about what cannot be."""
        if self.skill > 1:
            raise ValueError(f"--skill {self.skill} must be a share, at most 1")
        if self.demonstrations and self.data_only:
            raise ValueError("--data-only makes examples with the model as it is: leave --demonstrations out")


@dataclass(frozen=True)
class FineTuning:
    """fine-tuning on the examples"""

    mixture: float = flag(2.0, "SFT examples to an IFT example")
    turning: float = flag(0.1, "the share of right constructions among the examples under the plain prompt: a model "
        "that never turns by itself hardly learns to; ours, not the paper's, whose models reflect in half of their "
        "responses before TAPO", zero=True)
    epochs: int = flag(2, "times the mixture is gone through", most=MANY)
    batch: int = flag(64, "examples a step")
    lr: float = flag(1e-5, "AdamW's learning rate; 135 M parameters learnt the synthesis task at 1e-4, with --batch 16 "
        "and one epoch of 640 demonstrations (docs/real.md)")
    micro_batch_tokens: int = flag(16384, "tokens of one forward and backward", free=True)
    gradient_checkpointing: bool = checkpointing_flag()
    save_every: int = flag(100, "steps between checkpoints", free=True)
    save_minutes: float = save_minutes_flag()

    def check(self):
        """Raises ValueError with a sentence about what cannot be."""
        if self.turning >= 1:
            raise ValueError(f"--turning {self.turning} must be a share below 1")


class ColdStart(NamedTuple):
    """The settings of coldstart.py."""

    making: Making
    loading: Loading
    prompting: Prompting
    sampling: Sampling
    finetuning: FineTuning


# fmt: on
# -------------------------------------------------------------------------------------- from a command line to settings


def flag_of(name: str) -> str:
    """How a field is written on the command line."""
    return "-n" if name == "n" else "--" + name.replace("_", "-")


def as_flags(values: dict) -> str:
    """Settings as words of a command line; a False one is left out."""
    words = []
    for name, value in values.items():
        words += [] if value is False else [flag_of(name)] if value is True else [flag_of(name), str(value)]
    return shlex.join(words)


def parts_of(kind: type) -> dict[str, type]:
    """The dataclasses that settings are made of, by name: `kind` is a NamedTuple of them, or a dataclass alone."""
    return get_type_hints(kind) if hasattr(kind, "_fields") else {"": kind}


class Parser(argparse.ArgumentParser):
    """argparse with errors of one sentence (exit code 2)."""

    def __init__(self, description: str):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str):
        """Print the sentence without the usage, which is long, and leave with code 2."""
        fail(f"{message} (see --help)")


def read(kind: type, description: str, toy: dict, argv: list[str] | None = None, **choices) -> dict:
    """The command line of a program whose settings are `kind`: the flags that were given. `toy`: toy.SETTINGS, the
    defaults that are others there, to tell them. `choices`: of settings whose values a table of the program names."""
    parser = Parser(description)
    for part in parts_of(kind).values():
        group, hints = parser.add_argument_group(part.__doc__), get_type_hints(part)
        special = toy.get(part.__name__, {})
        for one in fields(part):
            [plain] = {*(get_args(hints[one.name]) or (hints[one.name],))} - {type(None), Ellipsis}  # int of int | None
            text, default, reads = one.metadata["help"], one.default, {"action": "store_true"}
            if not any(default is nothing for nothing in (None, False, MISSING)) and default != ():
                on_the_toy = f"{_told(special[one.name])} on the toy, else " if one.name in special else ""
                text += f" (default: {on_the_toy}{_told(default)})"
            if default is True:  # --name and --no-name
                reads = {"action": argparse.BooleanOptionalAction}
            if plain is not bool:
                reads = {"type": plain, "required": default is MISSING} | one.metadata["more"]
                reads |= {"choices": tuple(choices[one.name])} if one.name in choices else {}
                if not reads.keys() & {"metavar", "choices"}:
                    reads["metavar"] = {int: "N", float: "X"}.get(plain, one.name.upper())
            kept = {"dest": one.name, "default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
            group.add_argument(flag_of(one.name), **kept, **reads)
    given = vars(parser.parse_args(argv))
    for name in ("model", "data", "eval_data", "out", "config"):
        if given.get(name) in ("", [""]):  # as of a shell's variable that is not set
            parser.error(f"{flag_of(name)} is empty")
    return given


def _told(default) -> str:
    """A default as --help tells it."""
    return {True: "on", False: "off"}[default] if isinstance(default, bool) else str(default)


def settle(kind: type, given: dict, otherwise: dict | None = None):
    """An instance of `kind`: of what was given, else of `otherwise` (toy.SETTINGS, for the toy), else of the defaults.
    Raises ValueError with a sentence about the first value that cannot be."""
    made = {}
    for name, part in parts_of(kind).items():
        values = (otherwise or {}).get(part.__name__, {}) | given
        values = {one.name: values.get(one.name, one.default) for one in fields(part)}
        made[name] = part(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
        hints = get_type_hints(part)
        for one in fields(part):
            _check(one, hints[one.name], getattr(made[name], one.name), flag_of(one.name))
    settings = kind(**made) if "" not in made else made[""]
    for part in (*made.values(), settings):
        getattr(part, "check", lambda: None)()
    return settings


KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _check(one, hint, value, place: str):
    """A value is of its setting's kind, which a file may break; one of the choices, where there are some; and a number
    is finite, and above 0 unless its flag says that it may be 0. Raises ValueError, the sentence begun with `place`."""
    [plain] = {*(get_args(hint) or (hint,))} - {type(None), Ellipsis}
    if value is MISSING or (value is None and one.default is None):
        return
    many, listed = get_origin(hint) is tuple, isinstance(value, (list, tuple))
    choices, kinds = one.metadata["more"].get("choices"), (int, float) if plain is float else (plain,)
    right = all(type(v) in kinds and (not choices or v in choices) for v in (value if listed else [value]))
    if listed != many or not right:
        wanted = f"one of {', '.join(choices)}" if choices else "a list of texts" if many else KINDS[plain]
        raise ValueError(f"{place} must be {wanted}, not {shown(json.dumps(value, ensure_ascii=False))}")
    zero, most = one.metadata["zero"], one.metadata["most"]
    if plain in (int, float) and not (0 < value <= most or (value == 0 and zero)):
        least, limit = "at least" if zero else "above", "below 2^63" if most == MOST else f"up to {most}"
        raise ValueError(f"{place} must be {least} 0 and finite, {limit}, not {value}")


TRUST = "trust_remote_code"  # is asked for each time, also to go on: who wrote a run's config.json is not known
OF_ONE_RUN = ("out", "resume", "config", TRUST)  # settings that no other run takes over


def of_file(kind: type, file: str) -> dict:
    """The settings in a JSON file, but for those OF_ONE_RUN: a run's config.json, or an object of settings alone.
    Raises ValueError with a sentence when it is neither, and as `typed` does."""
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}") from None
    found = found.get("settings", found) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no settings: it should be a run's config.json, or an object of settings")
    return {name: value for name, value in typed(kind, found, file).items() if name not in OF_ONE_RUN}


def typed(kind: type, values: dict, where) -> dict:
    """Settings that come from JSON, in the file `where`. Raises ValueError with a sentence that names the file and the
    first setting that is unknown, or whose value is not of its kind or not one of its choices."""
    parts = [(part, get_type_hints(part)) for part in parts_of(kind).values()]
    known = {one.name: (one, hints[one.name]) for part, hints in parts for one in fields(part)}
    for name in values:
        if name not in known:
            raise ValueError(f"{where}: there is no setting {shown(name)}")
        _check(*known[name], values[name], f"{where}: {name}")
    texts = {name for name, (one, _) in known.items() if one.metadata["more"].get("type") is text}
    return {name: text(value) if name in texts and value else value for name, value in values.items()}


def flat(settings) -> dict:
    """Every setting by its field's name."""
    parts = settings if isinstance(settings, tuple) else (settings,)
    return {name: value for part in parts for name, value in asdict(part).items()}


def free(kind: type) -> set[str]:
    """The settings that a resumed run may change: none of them changes what is computed, but for rounding."""
    return {one.name for part in parts_of(kind).values() for one in fields(part) if one.metadata["free"]}


def take_over(kind: type, given: dict, stored: dict, where) -> dict:
    """What was given, and for the rest what the run in `where` was begun with. Raises ValueError when they contradict
    each other."""
    for name, value in given.items():
        if name in stored and stored[name] != value and name not in free(kind):
            now, then = told_apart(value, stored[name])
            has = f"the run in {where}, which has {then}"
            raise ValueError(f"{flag_of(name)} {now} contradicts {has}: leave it out")
    return {name: value for name, value in stored.items() if name != TRUST} | given


def shown(value) -> str:
    """A setting as a sentence may hold it: in one line, and not too long."""
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:60]}... ({len(str(value))} characters)"


def told_apart(one, other) -> tuple[str, str]:
    """Two settings as `shown`; if that is the same of both, what stands about where they begin to differ."""
    texts = str(one), str(other)
    if shown(one) != shown(other):
        return shown(one), shown(other)
    at = next((i for i, (a, b) in enumerate(zip(*texts)) if a != b), min(map(len, texts)))
    one, other = (json.dumps(text[max(0, at - 20) : at + 20], ensure_ascii=False) for text in texts)
    return f"...{one}...", f"...{other}..."


# -------------------------------------------------------------------------------------------------- errors and stopping


def fail(sentence: str):
    """End the program because of what the user gave it: one sentence on stderr, exit code 2, no traceback."""
    print(f"error: {sentence}", file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def bad_input(*errors: type[Exception]):
    """Within this block `errors` (ValueError and OSError, if none is named) are about what the user gave, or a full
    disk: they end the program by `fail`."""
    errors = errors or (ValueError, OSError)
    try:
        yield
    except errors as error:
        named = isinstance(error, OSError) and error.filename and error.strerror
        fail(f"{error.filename}: {error.strerror}" if named else str(error))


class Unbreakable:
    """An output whose reader may go away (`| tee`, `| head`, a terminal that is closed): what is written is then lost,
    and nothing else is."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write, if anybody listens."""
        self._try(self.stream.write, text)
        return len(text)

    def flush(self):
        """Flush, if anybody listens."""
        self._try(self.stream.flush)

    def _try(self, do, *given):
        try:
            do(*given)
        except (OSError, ValueError):  # a broken pipe; a closed file
            self.stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


_asked: float | None = None  # when Ctrl-C or SIGTERM first came
_held = 0  # blocks of `uninterrupted` that are open


def _on_signal(number, frame):
    global _asked
    first, _asked = _asked is None, _asked or time.monotonic()
    if not _held or time.monotonic() - _asked > 2:  # torchrun passes one Ctrl-C on as several signals
        raise KeyboardInterrupt
    if first:
        print("stopping when this is done; Ctrl-C once more stops at once, and saves nothing", file=sys.stderr)


def stopping() -> bool:
    """Whether Ctrl-C or SIGTERM came."""
    return _asked is not None


@contextlib.contextmanager
def uninterrupted():
    """Hold Ctrl-C and SIGTERM back until the end of this block: for what must happen wholly or not at all."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    if stopping() and not _held:
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible():
    """Within `uninterrupted`: in this block Ctrl-C and SIGTERM raise KeyboardInterrupt at once after all."""
    global _held
    held, _held = _held, 0
    try:
        if stopping():
            raise KeyboardInterrupt
        yield
    finally:
        _held = held


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _on_signals(handler):
    """Have Ctrl-C, SIGTERM and SIGHUP call `handler`."""
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup has it ignored
            signal.signal(number, handler)


@contextlib.contextmanager
def parent_only():
    """In this block code runs that may fork, such as a reward. A child ends where it would leave the block: it would
    train, too. A stop that came in the middle of a fork, or that the code swallowed, is raised at the end."""
    parent, code = os.getpid(), 1
    try:
        yield
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
        raise
    finally:
        if os.getpid() != parent:
            if isinstance(sys.exc_info()[1], Exception):
                traceback.print_exc()
            os._exit(code)
    if stopping() and not _held:
        raise KeyboardInterrupt


def _ours() -> list[int]:
    return [number for number in SIGNALS if signal.getsignal(number) in (_on_signal, _leave)]


def _before_fork():
    """Signals wait: one that reached a child before it has the default handlers would be lost."""
    global _held
    _held += 1  # nothing can be raised in a hook; `parent_only` does it
    signal.pthread_sigmask(signal.SIG_BLOCK, _ours())


def _after_fork(child: bool = False):
    global _held
    numbers = _ours()
    for number in numbers if child else ():
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    _held = max(0, _held - 1)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=lambda: _after_fork(child=True))


def _leave(number, frame):
    with contextlib.suppress(OSError):
        os.write(2, b"stopped\n")
    os._exit(130)


def importing():
    """Until `run`, Ctrl-C, SIGTERM and SIGHUP end the process where it is. A program calls this before its imports, of
    which some take seconds: a KeyboardInterrupt there would be a traceback, or be swallowed by what is imported."""
    _on_signals(_leave)


_abrupt = False  # whether `run` ends the process itself


def end_abruptly():
    """Have `run` end the process as soon as everything is written. For libraries whose threads still run while Python
    takes itself down, and abort the process then: gloo's do, now and then, after all work was done."""
    global _abrupt
    _abrupt = True


def run(main):
    """Run a program: a KeyboardInterrupt (Ctrl-C, SIGTERM, SIGHUP) ends it without a traceback, with code 130."""
    sys.stdout, sys.stderr = Unbreakable(sys.stdout), Unbreakable(sys.stderr)
    _on_signals(_on_signal)
    code = 0
    try:
        main()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    except SystemExit as end:
        code = end.code
    if _abrupt:
        if isinstance(code, str):
            print(code, file=sys.stderr)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if isinstance(code, str) else code or 0)
    if code:
        raise SystemExit(code)
