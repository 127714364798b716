"""The offline filter for the zone of proximal development: problems that the model neither masters nor always fails.

    python zpd.py --model PATH --data FILE.jsonl --out kept.jsonl        # then: train.py --data kept.jsonl

Every problem's accuracy is estimated from n samples; those from --low to --high are kept (paper: 12.5 % to 87.5 %, so
of 8 samples at least one is right and one wrong). Estimates are written to kept.estimates.jsonl as they come, and are
never made twice: the same command goes on after an interruption, with more problems, or with other bounds.
"""

from pathlib import Path

from tqdm import tqdm

import cli
import data
import eval as evaluation
import jsonl
import parallel
import policy
import toy
from sampler import Sampler

CHUNK = 64  # problems between two saves


def estimate(sampler, tokenizer, problems: list[data.Problem], file: Path, settings: dict):
    """Append to `file` the estimate of every problem that has none there: a row with problem, answer, right, accuracy
    and `settings` (n, max_new_tokens, temperature, seed, and weights, which tell the model apart)."""
    done, rows = set(), jsonl.read(file)
    for row in rows:
        for name, value in settings.items():
            if row.get(name) != value:
                raise ValueError(
                    f"{file} holds estimates with {name} {row.get(name)}, not {value}: give the same flags, or another "
                    "--out"
                )
        done.add((row["problem"], row["answer"]))
    if file.exists():
        jsonl.rewrite(file, rows)  # without a line that was torn
    todo = [p for p in dict.fromkeys(problems) if (p.question, p.answer) not in done]
    sampling = {name: settings[name] for name in ("max_new_tokens", "temperature", "seed")}
    templates = evaluation.templates_for(tokenizer)
    with tqdm(total=len(todo), desc="estimating", unit="problem") as bar:
        for first in range(0, len(todo), CHUNK):
            chunk = todo[first : first + CHUNK]
            responses = evaluation.evaluate(sampler, tokenizer, templates, chunk, settings["n"], **sampling)
            right = [sum(r.correct for r in responses if r.problem == i) for i in range(len(chunk))]
            rows = [
                {"problem": p.question, "answer": p.answer, "right": k, "accuracy": k / settings["n"]} | settings
                for p, k in zip(chunk, right)
            ]
            with cli.uninterrupted():
                jsonl.append(file, rows)
            bar.update(len(chunk))


def keep(file: Path, out: Path, problems: list[data.Problem], low: float, high: float) -> str:
    """Write to `out` the rows of `file` that are about `problems` and within the bounds; returns what became of all."""
    wanted = {(p.question, p.answer) for p in problems}
    rows = [row for row in jsonl.read(file) if (row["problem"], row["answer"]) in wanted]
    kept = [row for row in rows if low <= row["accuracy"] <= high]
    jsonl.rewrite(out, kept)
    too_hard, too_easy = (
        sum(map(test, rows)) for test in (lambda r: r["accuracy"] < low, lambda r: r["accuracy"] > high)
    )
    return f"kept {len(kept)} of {len(rows)} problems in {out}: {too_hard} are too hard, {too_easy} too easy"


def main():
    """The program; see the module's docstring and --help."""
    parser = cli.Parser("Keep the problems whose accuracy under a model is neither too low nor too high.")
    parser.add_argument("--model", required=True, help="a model folder, a hub id, or toy (its cold start)")
    parser.add_argument("--data", required=True, help="problems, as for train.py")
    parser.add_argument("--out", required=True, help="the JSON-lines file for the problems that are kept")
    parser.add_argument("-n", type=int, default=8, help="samples a problem (default 8)")
    parser.add_argument("--low", type=float, default=0.125, help="keep from this accuracy (default 0.125)")
    parser.add_argument("--high", type=float, default=0.875, help="... to this (default 0.875)")
    parser.add_argument("--temperature", type=float, default=1.0, help="sampling temperature (default 1.0)")
    parser.add_argument("--max-new-tokens", type=int, help="limit of a response (default: toy 60, else 8192)")
    parser.add_argument("--slots", type=int, default=64, help="responses sampled side by side (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling (default 0)")
    args = parser.parse_args()
    out = Path(args.out)
    if not 0 <= args.low <= args.high <= 1:
        cli.fail(f"--low {args.low} and --high {args.high} must be shares from 0 to 1, the lower first")
    if out.suffix != ".jsonl" or not out.parent.is_dir():
        cli.fail(f"--out {out} must be a .jsonl file in a folder that exists")
    estimates = out.with_suffix(".estimates.jsonl")
    if out.exists() and not estimates.exists():
        cli.fail(f"{out} exists already, and no estimates beside it: name another file with --out")
    with cli.bad_input():
        parallel.alone()
        problems = evaluation.load_problems(args.data, held_out=False)
        model, tokenizer = policy.load(toy.folder(args.model), parallel.device(), parallel.precision())
        limit = args.max_new_tokens or (toy.MAX_NEW_TOKENS if toy.speaks(tokenizer) else 8192)
        sampler = Sampler(model, eos_ids=policy.eos_ids(model, tokenizer), slots=args.slots)
        prompts = evaluation.prompts_of(problems, tokenizer, evaluation.templates_for(tokenizer))
        sampler.check(prompts, args.n, limit, args.temperature)
        settings = {"n": args.n, "max_new_tokens": limit, "temperature": args.temperature, "seed": args.seed}
        estimate(sampler, tokenizer, problems, estimates, settings | {"weights": evaluation.fingerprint(model)})
        print(keep(estimates, out, problems, args.low, args.high))


if __name__ == "__main__":
    cli.run(main)
