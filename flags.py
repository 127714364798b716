"""The flags of train.py, as a table."""

import argparse
from typing import NamedTuple

import cli
from grpo import AVERAGES
from tapo import BASELINES


class Either(NamedTuple):
    """A default that depends on the model."""

    toy: object
    real: object


# fmt: off
FLAGS = {
    "what to train, on what, where to": [
        # flag, type or choices, default, help
        ("--model", str, "toy", "toy (its cold start is made by the first run), a model folder, or a hub id"),
        ("--data", str, "toy", "toy, a file, or a set of the hub: data.py tells all names and formats"),
        ("--eval-data", str, None, "problems to measure on before and after; the toy has held-out ones of its own"),
        ("--out", str, None, "the run's folder, which must be new or empty; by default a new one under runs/"),
        ("--seed", int, 0, "seed of everything random"),
        ("--resume", None, False, "go on with the run in --out, from its newest checkpoint; its flags are taken over"),
    ],
    "the algorithm (grpo.py, tapo.py)": [
        ("--algo", ("tapo", "grpo", "opsd", "sft"), "tapo", "grpo is the same loop without constructed trajectories; "
         "opsd distils from the policy itself with a right response in its context; sft learns the right constructed "
         "trajectories by likelihood, without policy gradient"),
        ("--n-pos", int, 2, "reflect on a query when at least so many of its responses are right (DCS)"),
        ("--n-neg", int, Either(2, 4), "... and at least so many are wrong"),
        ("--m-max", int, 4, "rewrite at most so many wrong responses of a query"),
        ("--lam", float, 1.0, "lambda, the weight of the constructed trajectories' loss; with --mu 0, too, 0 is GRPO"),
        ("--ref-baseline", BASELINES, "query", "what a constructed trajectory's reward is compared with: query, its "
         "query's sampled responses; group, its query's other constructions (the paper); batch, all constructions"),
        ("--mu", float, Either(0.3, 0.0), "weight of the synthesis outputs' own policy gradient, which keeps the skill "
         "of constructing alive; 0 is the paper's"),
        ("--opsd-beta", float, 0.5, "OPSD's divergence: 0 is forward KL, 1 reverse KL, between them Jensen-Shannon"),
        ("--average", AVERAGES, "token", "what the loss averages over: token, every token alike; sequence, every "
         "response alike; constant, all tokens over responses times --max-new-tokens (Dr. GRPO)"),
        ("--clip-low", float, 0.2, "a probability ratio below 1 - this earns nothing more"),
        ("--clip-high", float, 0.2, "... or above 1 + this"),
        ("--kl", float, Either(0.05, 0.0), "weight of KL(policy || start) on sampled responses; 0 keeps no reference"),
    ],
    "ablations of TAPO": [
        ("--no-dcs", None, False, "rewrite every wrong response of every query that has a right one"),
        ("--no-dae", None, False, "append constructed trajectories to their query's group before it is normalised"),
        ("--no-ots", None, False, "every token of a constructed trajectory counts alike"),
        ("--full-reconstruction", None, False, "ask for the whole trajectory anew and train on it as it was written, "
         "instead of y-'s own tokens and a turn"),
    ],
    "rollouts (sampler.py)": [
        ("--queries", int, 64, "Q, queries a step"),
        ("--k", int, 8, "K, responses a query"),
        ("--temperature", float, 1.0, "sampling temperature; log-probabilities are taken under it, too"),
        ("--max-new-tokens", int, Either(60, 8192), "limit of a response; a cut one counts as wrong"),
        ("--max-synthesis-tokens", int, Either(96, 12288), "limit of an analysis with its reconstruction"),
        ("--slots", int, Either(512, 64), "responses sampled side by side; lower it if sampling runs out of memory"),
    ],
    "optimisation (policy.py)": [
        ("--steps", int, Either(50, 500), "training steps"),
        ("--epochs", int, 1, "passes over the responses of a step, each with optimiser steps of its own"),
        ("--minibatches", int, 1, "optimiser steps a pass, each on its part of the step's queries"),
        ("--lr", float, Either(1e-4, 1e-6), "AdamW's learning rate"),
        ("--warmup", int, Either(5, 10), "steps in which the learning rate rises to --lr; 1 is none"),
        ("--beta2", float, Either(0.95, 0.999), "AdamW's decay of the second moment"),
        ("--weight-decay", float, 0.0, "AdamW's weight decay"),
        ("--max-grad-norm", float, 1.0, "a longer gradient is scaled down to this norm"),
        ("--micro-batch-tokens", int, Either(4096, 16384), "tokens of one forward and backward, padding included; "
         "lower it if training runs out of memory"),
        ("--gradient-checkpointing", None, False, "compute activations again in backward: less memory, more time"),
    ],
    "what is measured and kept": [
        ("--eval-samples", int, Either(16, 4), "responses to each held-out problem, before and after"),
        ("--eval-every", int, 0, "measure on the held-out problems after every so many steps, too"),
        ("--save-every", int, Either(10, 25), "steps from one checkpoint to the next; a stopped run saves, too"),
        ("--keep-saves", int, 1, "checkpoints that are kept"),
        ("--keep-trajectories", int, 8, "constructions a step that are written to trajectories.jsonl"),
    ],
}
# fmt: on

METAVARS = {int: "N", float: "X", str: "NAME"}
MAY_BE_ZERO = {"seed", "lam", "mu", "opsd_beta", "kl", "weight_decay", "keep_trajectories", "eval_every"}
# What a resumed run may do otherwise: none of it changes what is computed, but for rounding.
MAY_CHANGE = {"out", "resume", "steps", "slots", "micro_batch_tokens", "gradient_checkpointing", "eval_every"}
MAY_CHANGE |= {"save_every", "keep_saves", "keep_trajectories"}


def parse(argv: list[str] | None = None) -> tuple[argparse.Namespace, dict]:
    """The flags of a training run, and those of them that were given. One whose default is `Either` and was not given
    holds it until `settle`."""
    parser = cli.Parser("Train a language model with TAPO, or its baselines, on problems with verifiable answers.")
    defaults = {}
    for title, flags in FLAGS.items():
        group = parser.add_argument_group(title)
        for flag, kind, default, text in flags:
            defaults[flag.removeprefix("--").replace("-", "_")] = default
            shown = f"{default.toy} on the toy, else {default.real}" if isinstance(default, Either) else default
            text += f" (default: {shown})" if default is not None and kind else ""
            reads = {"choices": kind} if isinstance(kind, tuple) else {"type": kind, "metavar": METAVARS.get(kind)}
            reads = reads if kind else {"action": "store_true"}
            group.add_argument(flag, default=argparse.SUPPRESS, help=text.replace("%", "%%"), **reads)
    given = vars(parser.parse_args(argv))
    return argparse.Namespace(**defaults | given), given


def take_over(args: argparse.Namespace, given: dict, stored: dict):
    """Give `args` the flags of the run that is resumed. Raises ValueError when one that was given contradicts it."""
    for name, value in stored.items():
        if name not in given:
            setattr(args, name, value)
        elif given[name] != value and name not in MAY_CHANGE:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} {given[name]} contradicts the run in {args.out}, which has {value}: leave it out")


def settle(args: argparse.Namespace, is_toy: bool):
    """Give the flags that were left out their default for the toy or a real model, and check them all. Raises
    ValueError with a sentence about the first one that cannot be."""
    for name, value in vars(args).items():
        if isinstance(value, Either):
            setattr(args, name, value := value.toy if is_toy else value.real)
        if type(value) in (int, float) and not (value > 0 or (value == 0 and name in MAY_BE_ZERO)):
            least = "at least" if name in MAY_BE_ZERO else "above"
            raise ValueError(f"--{name.replace('_', '-')} must be {least} 0, not {value}")
    if args.minibatches > args.queries:
        raise ValueError(f"--minibatches {args.minibatches} is more than --queries {args.queries}: each needs one")
    if args.k < 2:
        raise ValueError("--k 1: a group needs at least 2 responses, because a single one is its own baseline")
    if args.opsd_beta > 1:
        raise ValueError(f"--opsd-beta must be from 0 (forward KL) to 1 (reverse KL), not {args.opsd_beta}")
    for name in ("no_dcs", "no_dae", "no_ots", "full_reconstruction"):
        if getattr(args, name) and args.algo != "tapo":
            raise ValueError(f"--{name.replace('_', '-')} takes a part of TAPO away: use it with --algo tapo")
    if args.algo in ("tapo", "sft") and not args.no_dcs and args.k < args.n_pos + args.n_neg:
        raise ValueError(
            f"--k {args.k} is less than --n-pos {args.n_pos} plus --n-neg {args.n_neg}, so no query could ever be "
            "reflected on: raise --k or lower the others"
        )
