"""Evaluation: how often is a sampled response right, and does it need a second thought?

pass@k, unbiased (Chen et al., arXiv 2107.03374): with c of n samples correct, 1 - C(n-c, k) / C(n, k).
DSR, direct solution rate (TAPO; definition inferred): of the correct responses, the share that holds no reflection.
ERR, effective reflection rate (TAPO): of the responses that reflect, the share that ends correct.

    python eval.py --model runs/NAME/model --data toy -n 16
"""

import json
from dataclasses import dataclass
from math import comb
from pathlib import Path

import torch
from tqdm import tqdm

import cli
import data
import policy
import toy
from reflect import reflects
from sampler import Sampler
from verifier import verify


@dataclass
class Response:
    """One judged response. `tokens` counts ids, the end token included; a cut response is never correct."""

    problem: int
    text: str
    correct: bool
    reflects: bool
    finished: bool
    tokens: int


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The probability that k responses, drawn without replacement from n of which `correct` are right, hold a right
    one."""
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"needed: 0 <= correct <= n and 1 <= k <= n, not n={n}, correct={correct}, k={k}")
    return 1 - comb(n - correct, k) / comb(n, k)


def judge(completion, tokenizer, answer: str, problem: int) -> Response:
    """Decode a sampler's completion and verify it."""
    text = tokenizer.decode(completion.ids, skip_special_tokens=True)
    correct = completion.finished and verify(text, answer)
    return Response(problem, text, correct, reflects(text), completion.finished, len(completion.ids))


def prompts_of(problems, tokenizer, templates) -> list[list[int]]:
    """The ids of each problem's plain prompt."""
    return data.prompt_ids(tokenizer, [templates.plain.format(question=p.question) for p in problems])


def evaluate(sampler, tokenizer, templates, problems, n: int, **sampling) -> list[Response]:
    """n judged responses to each problem, problem by problem. `sampling` goes to `Sampler.sample`."""
    prompts = prompts_of(problems, tokenizer, templates)
    groups = sampler.sample(prompts, n, **sampling)
    judged = [
        judge(completion, tokenizer, problem.answer, i)
        for i, (problem, group) in enumerate(zip(problems, groups))
        for completion in group
    ]
    return judged


def summary(responses: list[Response], ks: tuple[int, ...] = (1,)) -> dict[str, float | None]:
    """The figures of a set of responses, equally many of each problem. A rate of nothing is None."""
    groups: dict[int, list[Response]] = {}
    for response in responses:
        groups.setdefault(response.problem, []).append(response)
    right = [r for r in responses if r.correct]
    reflecting = [r for r in responses if r.reflects]
    figures = {
        f"pass@{k}": _mean([pass_at_k(len(g), sum(r.correct for r in g), k) for g in groups.values()]) for k in ks
    }
    return figures | {
        "reflecting": _mean([r.reflects for r in responses]),
        "dsr": _mean([not r.reflects for r in right]),
        "err": _mean([r.correct for r in reflecting]),
        "cut": _mean([not r.finished for r in responses]),
        "tokens": _mean([r.tokens for r in responses]),
    }


def _mean(values) -> float | None:
    return sum(values) / len(values) if values else None


def table(rows: dict[str, dict[str, float | None]]) -> str:
    """A text table of summaries, a row each: rates in percent, "-" where there is nothing to take a rate of."""
    columns = list(next(iter(rows.values())))
    width = max(len(name) for name in rows) + 2
    lines = [" " * width + "".join(f"{column:>12}" for column in columns)]
    for name, figures in rows.items():
        lines.append(f"{name:<{width}}" + "".join(f"{_cell(column, figures.get(column)):>12}" for column in columns))
    return "\n".join(lines)


def _cell(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if column == "tokens" else f"{100 * value:.1f} %"


def load_problems(name: str) -> list[data.Problem]:
    """The problems of a file, or the toy's held-out ones."""
    return toy.problems()[1] if name == "toy" else data.load(name)


def templates_for(tokenizer) -> data.Templates:
    """How this model is prompted: the toy's terse wording for the toy, plain English for every other."""
    return toy.TEMPLATES if toy.speaks(tokenizer) else data.TEMPLATES


def main():
    """The program; see the module's docstring and --help."""
    parser = cli.Parser("Evaluate a model: pass@k, DSR and ERR on one or more problem sets.")
    parser.add_argument("--model", required=True, help="a model folder, a hub id, or toy (its cold start)")
    parser.add_argument("--data", nargs="+", required=True, help="problem sets: JSON-lines files, or toy")
    parser.add_argument("-n", type=int, default=16, help="responses a problem (default 16)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest token (default 1.0)")
    parser.add_argument("--top-p", type=float, default=1.0, help="keep the likeliest tokens of this mass (default 1.0)")
    parser.add_argument(
        "--max-new-tokens", type=int, default=None, help="limit of a response (default: toy 60, else 8192)"
    )
    parser.add_argument("--slots", type=int, default=64, help="responses sampled side by side (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling (default 0)")
    parser.add_argument("--out", default=None, help="JSON-lines file for every response (default: none is kept)")
    args = parser.parse_args()
    if args.out and (Path(args.out).exists() or not Path(args.out).parent.is_dir()):
        cli.fail(f"{args.out} exists already, or its folder does not exist: name another file with --out")
    path = toy.COLD_START if args.model == "toy" else args.model
    with cli.bad_input():
        sets = {name: load_problems(name) for name in args.data}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, tokenizer = policy.load(path, device)
        sampler = Sampler(model, eos_ids=policy.eos_ids(model, tokenizer), slots=args.slots)
        templates = templates_for(tokenizer)
        limit = args.max_new_tokens
        if limit is None:
            limit = toy.MAX_NEW_TOKENS if toy.speaks(tokenizer) else 8192
        for problems in sets.values():
            sampler.check(prompts_of(problems, tokenizer, templates), args.n, limit, args.temperature, args.top_p)
    rows = {}
    for name, problems in sets.items():
        with policy.compute_precision(device):
            responses = evaluate(
                sampler, tokenizer, templates, problems, args.n,
                max_new_tokens=limit, temperature=args.temperature, top_p=args.top_p, seed=args.seed, progress=name,
            )  # fmt: skip
        rows[name] = summary(responses, ks=tuple(k for k in (1, 2, 4, 8, 16, 32, 64) if k <= args.n))
        if args.out:
            with open(args.out, "a", encoding="utf-8") as file:
                for response in responses:
                    problem = problems[response.problem]
                    row = {"data": name, "question": problem.question, "answer": problem.answer, **vars(response)}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    tqdm.write(table(rows))


if __name__ == "__main__":
    cli.run(main)
