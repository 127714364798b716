"""The paper in miniature on a real language model: cold start, zone of proximal development, GRPO and TAPO.

    python bench/real.py --model PATH_OR_HUB_ID                    # e.g. HuggingFaceTB/SmolLM2-135M-Instruct
    python bench/real.py --model PATH_OR_HUB_ID --seeds 0 1 2 --keep docs/real     # writes real.json and real.png, too
    python bench/real.py --table docs/real.json                    # the tables again, from that file: runs nothing

The task is arithmetic in words (bench/arithmetic.py). The stages, each of which goes on where it was stopped:

    problems    to train on; held out by their numbers; and a kind of which nothing is ever shown
    cold        coldstart.py: learns to answer, and to construct, from written demonstrations, then from its own
    kept        tools.zpd: the problems that this model gets right sometimes
    runs        train.py: GRPO and TAPO from the cold start, with the same Q, K, learning rate and seeds
    hours       eval.py: the kind held out whole, before and after
    pages       tools.report: OUT/tapo-0.html and so on, what each run sampled and constructed
    tables      at equal steps, and at equal generated tokens, for which GRPO runs longer

Seeds are those of training: all share the cold start.
"""

import itertools
import json
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import algorithms
import arithmetic
import study

import checkpoint
import coldstart
import config
import metrics

# Short prompts: a model of a hundred million weights spends most of its time on them.
PROMPTING = [
    "--system", "Reckon.",
    "--prompt-template", "{question}",
    "--synthesis-template", "{question}\nWrong attempt: {wrong}\nRight attempt: {right}\n"
    "Rewrite the wrong attempt up to its error, then turn.",
]  # fmt: skip
LIMITS = ["--max-new-tokens", 80]
OUTPUTS = ["--max-synthesis-tokens", 128]
COLD = ["--batch", 16, "--epochs", 1, "--lr", 1e-4, "--m-max", 2, "--micro-batch-tokens", 2048]
LEARN = "--lr 2e-5 --warmup 3 --n-neg 2 --eval-samples 4 --micro-batch-tokens 2048 --save-every 5"
SIDES = {"GRPO": "--algo grpo", "TAPO": "--algo tapo"}
OTHERS = {"TAPO without OTS": "--no-ots"}


def write(file: Path, rows):
    """Write rows, unless they were written before."""
    if not file.exists():
        checkpoint.rewrite(file, list(rows))


def problems(folder: Path, args):
    """The files of problems and demonstrations, made by numbers."""

    def some(seed: str, count: int, held_out: bool, kinds=None) -> list[arithmetic.Exercise]:
        return list(itertools.islice(arithmetic.exercises(seed, held_out, kinds), count))

    def rows(exercises):
        return ({"problem": e.question, "answer": e.answer, "kind": e.kind} for e in exercises)

    shown, rng = some("demonstrations", 4 * args.demonstrations, False), random.Random(0)
    constructions = (arithmetic.construction(one, rng) for one in shown[: args.demonstrations])
    solutions = map(arithmetic.solution, shown[args.demonstrations :])
    write(folder / "demonstrations.jsonl", [*solutions, *constructions])
    write(folder / "train.jsonl", rows(some("problems", args.problems, False)))
    write(folder / "numbers.jsonl", rows(some("held out", args.held_out, True)))
    write(folder / "hours.jsonl", rows(some("held out", args.held_out // 3, True, [arithmetic.HELD_OUT])))


def made(args) -> dict:
    """The results of all stages, those that were made before included."""
    folder, processes = Path(args.out).resolve(), []
    folder.mkdir(parents=True, exist_ok=True)
    problems(folder, args)
    model = Path(args.model).resolve() if Path(args.model).is_dir() else args.model
    threads = args.threads or os.cpu_count()

    def program(place: Path, *words):
        print(" ".join(str(word).split("\n")[0] for word in words[:5]), "...", flush=True)
        algorithms.program(place, [*words], processes, threads)

    cold, kept, train = folder / "cold", folder / "kept.jsonl", folder / "train.jsonl"
    if not (cold / "model").exists():
        program(
            cold, "coldstart.py", "--model", model, "--data", train, "--out", cold, "--skill", args.skill, *LIMITS,
            *OUTPUTS, *COLD, *PROMPTING, "--demonstrations", folder / "demonstrations.jsonl",
        )  # fmt: skip
    if not kept.exists():
        program(kept, "-m", "tools.zpd", "--model", cold / "model", "--data", train, "--out", kept, *LIMITS)
    results = {"model": args.model, "seeds": args.seeds, "steps": args.steps, "evaluations": {}, "hours": {}}
    results["rounds"] = [json.loads(file.read_text()) for file in sorted(cold.glob("round-*/counts.json"))]
    results["kept"] = [sum(1 for _ in file.open()) for file in (kept, train)]

    def hours(place: Path, model: Path) -> dict:
        """The figures on the kind held out whole."""
        if not (place / "summary.json").exists():
            how = ["-n", 4, "--temperature", 1, *LIMITS]
            program(
                place, "eval.py", "--model", model, "--data", f"hours={folder / 'hours.jsonl'}", "--out", place, *how
            )
        return json.loads((place / "summary.json").read_text())["figures"]["hours"]

    results["hours"]["cold start"] = [hours(folder / "hours-cold", cold / "model")]
    places = {}
    sides = SIDES | {name: OTHERS[name] for name in args.also}
    for seed, (name, flags) in itertools.product(args.seeds, sides.items()):
        label, steps = f"{name.lower().replace(' ', '-')}-{seed}", args.grpo_steps if name == "GRPO" else args.steps
        place = folder / label
        places[name, seed] = place
        if not algorithms.ended(place, steps):
            given = f"--model {cold / 'model'} --data {kept} --eval-data {folder / 'numbers.jsonl'} --seed {seed} "
            given += f"--queries {args.queries} --k {args.k} --eval-every {args.every} {flags} {LEARN} "
            print(f"{name}, seed {seed}", flush=True)
            algorithms.train(place, steps, given + " ".join(map(str, LIMITS + OUTPUTS)), processes, threads)
        if not (page := place.with_suffix(".html")).exists():
            program(page, "-m", "tools.report", place, "--page", page)
        rows = algorithms.evaluations(place)
        results["evaluations"].setdefault(name, []).append(rows)
        results["hours"].setdefault(name, []).append(hours(folder / f"hours-{label}", place / "model"))
    results["turns"] = turns([place for (name, _), place in places.items() if name != "GRPO"])
    results["where"] = algorithms.where(places.values(), threads)
    return results


def turns(runs: list[Path]) -> dict[str, int]:
    """Where the constructions turn that were trained on, as far as trajectories.jsonl kept them."""
    rows = [row for run in runs for row in checkpoint.read(run / "trajectories.jsonl") if row["outcome"] == "kept"]
    found = [arithmetic.truths(row["prefix"]) for row in rows]
    return {
        "kept": len(rows),
        "that end right": sum(row["reward"] > 0 for row in rows),
        "that turn at their only false equation": sum(arithmetic.turns_at_its_error(row["prefix"]) for row in rows),
        "that turn where nothing is false": sum(all(truths) for truths in found),
        "that turn later": sum(not all(truths[:-1]) for truths in found),
    }


def told(results: dict, every: int) -> str:
    """All tables."""
    counts, (kept, of) = results["rounds"], results["kept"]
    lost = list(dict.fromkeys(name for count in counts for name in coldstart.lost(count)))
    rounds = [["round", "tried", "valid", "of them right", *lost]]
    for number, c in enumerate(counts):
        share = f"{coldstart.valid(c)} ({100 * coldstart.skill(c):.0f} %)"
        rounds.append(
            [str(number), str(c["tried"]), share, str(c["ift"]), *(str(c[f"output_{name}"]) for name in lost)]
        )
    at = list(range(every, results["steps"] + 1, every))[-2:]
    hours = metrics.table({name: mean(figures) for name, figures in results["hours"].items()})
    return "\n\n".join([
        f"{results['model']}; seeds {' '.join(map(str, results['seeds']))}; {results['where']}",
        f"Constructions after each round of the cold start:\n\n{algorithms.markdown(rounds)}",
        f"tools.zpd kept {kept} of {of} problems.",
        f"Constructions in training: {', '.join(f'{count} {name}' for name, count in results['turns'].items())}.",
        f"Held out by numbers:\n\n{study.table(results, at)}",
        f"The kind held out whole:\n\n{hours}",
    ])  # fmt: skip


def mean(figures: list[dict]) -> dict:
    """The mean of each figure over seeds; None where one of them is."""
    return {
        name: None if any(f[name] is None for f in figures) else sum(f[name] for f in figures) / len(figures)
        for name in figures[0]
    }


def main():
    """The program; see the module's docstring and --help."""
    parser = config.Parser("GRPO and TAPO on a real language model, from a pretrained checkpoint on.")
    parser.add_argument("--model", help="a model folder or hub id")
    for name, default, text in (
        ("steps", 30, "training steps"),
        ("grpo-steps", 40, "steps of GRPO, for equal tokens"),
        ("every", 10, "steps between evaluations"),
        ("queries", 4, "Q"),
        ("k", 8, "K"),
        ("demonstrations", 160, "written constructions, and three times as many solutions"),
        ("problems", 96, "problems to train on, before the filter"),
        ("held-out", 72, "held-out problems; and a third as many of the kind held out whole"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default {default})")
    parser.add_argument("--skill", type=float, default=0.6, help="share of valid constructions to reach (default 0.6)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of training (default 0)")
    parser.add_argument(
        "--also", nargs="+", default=[], choices=OTHERS, metavar="NAME", help=f"and: {', '.join(OTHERS)}"
    )
    parser.add_argument("--threads", type=int, help="threads of each program (default: all cores)")
    parser.add_argument("--out", default="runs/real", help="where everything is kept (default runs/real)")
    parser.add_argument("--keep", metavar="NAME", help="write NAME.json, the raw results, and NAME.png")
    parser.add_argument("--table", metavar="FILE.json", help="instead: print the tables of what --keep wrote")
    args = parser.parse_args()
    if args.table:
        results = algorithms.kept(args.table, "model", "rounds", "kept", "evaluations", "hours")
    elif not args.model:
        config.fail("--model is missing: name a model folder, or a hub id")
    else:
        results = made(args)
    print(told(results, args.every))
    if args.keep:
        algorithms.keep(f"{args.keep}.json", results)
        study.draw(f"{args.keep}.png", results["evaluations"])


if __name__ == "__main__":
    config.run(main)
