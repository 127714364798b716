"""Evaluation: sample responses to the problems of some sets, verify them, print their figures (scores.py).

    python eval.py --model runs/NAME/model --data toy -n 16
    python eval.py --model Qwen/Qwen3-8B --data aime24 aime25 hmmt25 --max-new-tokens 32768
    torchrun --standalone --nproc-per-node 8 eval.py --model ...    # each process samples every eighth problem
    python eval.py --rescore FOLDER                                 # verify kept responses again: no model is loaded
    python eval.py --compare FOLDER FOLDER                          # two models on the same problems

How to sample is by default what the model's generation config says. An evaluation has a folder:

    config.json         settings, with the prompt around a question, commit and versions
    responses.jsonl     every response: its text, final answer, verdict, tokens, seed and sampling settings
    summary.json        the figures
    part-RANK.jsonl     until the end, what each process has sampled so far

The same command goes on where it was stopped. Equal prompts in a set are sampled once and share their responses; so a
response depends on weights, prompt, seed and its number alone, not on processes, slots or interruptions (up to floating
point: see sampler.py).
"""

import json
import platform
from hashlib import blake2b
from itertools import count
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

import cli
import data
import jsonl
import parallel
import policy
import toy
from checkpoint import commit
from reflect import reflects
from responses import collect, compare_kept, ks_of, read, response_of
from sampler import Sampler
from scores import Response, summary, table
from verifier import extract_answer, verify

# ------------------------------------------------------------------------------------------------- sampling and judging


def judge(completion, tokenizer, answer: str, problem: int) -> Response:
    """Decode a sampler's completion and verify it."""
    text = tokenizer.decode(completion.ids, skip_special_tokens=True)
    return _judged(problem, text, answer, completion.finished, len(completion.ids))


def _judged(problem: int, text: str, answer: str, finished: bool, tokens: int) -> Response:
    correct = finished and verify(text, answer)
    return Response(problem, text, correct, reflects(text), finished, tokens, extract_answer(text))


def prompts_of(problems, tokenizer, templates, **chat) -> list[list[int]]:
    """The ids of each problem's plain prompt. `chat` goes to `data.prompt_ids`."""
    return data.prompt_ids(tokenizer, [templates.plain.format(question=p.question) for p in problems], **chat)


def evaluate(
    sampler, tokenizer, templates, problems, n: int, *, chat: dict | None = None, **sampling
) -> list[Response]:
    """n judged responses to each problem, problem by problem. `chat` goes to `data.prompt_ids`, `sampling` to
    `Sampler.sample`."""
    prompts = [tuple(prompt) for prompt in prompts_of(problems, tokenizer, templates, **chat or {})]
    distinct = list(dict.fromkeys(prompts))
    groups = dict(zip(distinct, sampler.sample([list(prompt) for prompt in distinct], n, **sampling)))
    return [
        judge(completion, tokenizer, problem.answer, i)
        for i, (problem, prompt) in enumerate(zip(problems, prompts))
        for completion in groups[prompt]
    ]


def load_problems(name: str, held_out: bool = True) -> list[data.Problem]:
    """The problems of a set; of the toy those held out, or those to train on."""
    return toy.problems()[1 if held_out else 0] if name == "toy" else data.load(name)


def templates_for(tokenizer) -> data.Templates:
    """How this model is prompted: the toy's terse wording for the toy, plain English for every other."""
    return toy.TEMPLATES if toy.speaks(tokenizer) else data.TEMPLATES


def figures_of(rows: list[dict]) -> dict[str, dict]:
    """The summary of each set in what `responses.read` gave."""
    sets: dict[str, list[Response]] = {}
    for row in rows:
        sets.setdefault(row["data"], []).append(response_of(row))
    return {name: summary(responses, ks_of(responses)) for name, responses in sets.items()}


def rescore(path: str, out: str | None) -> str:
    """Verify kept responses again: the table, and how many verdicts changed. The rows go to `out`, if given."""
    if out and Path(out).exists():
        raise ValueError(f"{out} exists already: name another file with --out")
    rows, changed = read(path), 0
    if not rows:
        raise ValueError(f"{path} holds no responses yet")
    for row in tqdm(rows, desc="verifying", unit="response", delay=3, leave=False):
        again = _judged(row["problem"], row["text"], row["answer"], row["finished"], row["tokens"])
        changed += again.correct != row["correct"]
        row |= {"final": again.final, "correct": again.correct, "reflects": again.reflects}
    if out:
        jsonl.rewrite(Path(out), rows)
    return f"{table(figures_of(rows))}\n{changed} of {len(rows)} verdicts changed"


# ---------------------------------------------------------------------------------------------------------- the program


class Evaluation:
    """A model, the sets to measure it on, and the settings of it all. Loading finds whatever is wrong with them."""

    def __init__(self, args):
        self.args, self.rank, self.size = args, parallel.rank(), parallel.size()
        self.sets = {data.label(name): load_problems(name) for name in args.data}
        if len(self.sets) < len(args.data):
            raise ValueError("two of the sets have the same name: tell them apart with NAME=PATH")
        dtype = parallel.precision()
        template = Path(args.chat_template).read_text(encoding="utf-8") if args.chat_template else None
        model, self.tokenizer = policy.load(toy.folder(args.model), parallel.device(), dtype)
        self.tokenizer.chat_template = template or self.tokenizer.chat_template
        self.templates = templates_for(self.tokenizer)
        self.chat = {"enable_thinking": args.thinking == "on"} if args.thinking else {}
        self.chat |= {"system": args.system} if args.system else {}
        self.sampler = Sampler(model, eos_ids=policy.eos_ids(model, self.tokenizer), slots=args.slots)
        prompts = [p for problems in self.sets.values() for p in self.prompts(problems)]
        self.sampling = self.settle(model, max(map(len, prompts)))
        s = self.sampling
        self.sampler.check(prompts, args.n, s["max_new_tokens"], s["temperature"], s["top_p"], s["top_k"])
        if s["temperature"] == 0 and args.n > 1:
            raise ValueError(f"at temperature 0 all {args.n} responses of a problem would be the same: say -n 1")
        shown = [data.Problem("{question}", "")]
        self.settings = {
            "model": args.model,
            "weights": fingerprint(model),
            "data": {name: f"{len(problems)} problems, {digest(problems)}" for name, problems in self.sets.items()},
            "prompt": self.tokenizer.decode(self.prompts(shown)[0]),
            "compute": str(dtype).removeprefix("torch."),
            "n": args.n,
            **self.sampling,
        }

    def prompts(self, problems):
        return prompts_of(problems, self.tokenizer, self.templates, **self.chat)

    def settle(self, model, longest_prompt: int) -> dict:
        """How to sample: the flags; where they say nothing, the model's generation config; else plain sampling. A limit
        that is no flag is lowered to what fits the context."""
        otherwise = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
        otherwise["max_new_tokens"] = toy.MAX_NEW_TOKENS if toy.speaks(self.tokenizer) else 8192
        settled = {}
        for name, plain in otherwise.items():
            choices = getattr(self.args, name), getattr(model.generation_config, name, None), plain
            settled[name] = next(choice for choice in choices if choice is not None)
        context = getattr(model.config, "max_position_embeddings", None)
        if context and self.args.max_new_tokens is None:
            settled["max_new_tokens"] = max(1, min(settled["max_new_tokens"], context - longest_prompt))
        return settled | {"seed": self.args.seed}

    def run(self, folder: Path, done: set[tuple[str, int]]):
        """Sample this process's share of the problems that are not done, some at a time, and keep each batch."""
        at_once = max(1, 4 * self.args.slots // self.args.n)  # more would lose more to a kill, fewer leave slots idle
        for name, problems in self.sets.items():
            mine = [i for i in range(len(problems)) if (name, i) not in done][self.rank :: self.size]
            bar = tqdm(total=len(mine), desc=name, unit="problem", leave=False, disable=self.rank > 0 or not mine)
            with bar:
                for start in range(0, len(mine), at_once):
                    batch = mine[start : start + at_once]
                    self.sample(folder / f"part-{self.rank}.jsonl", name, batch)
                    bar.update(len(batch))

    def sample(self, part: Path, name: str, batch: list[int]):
        problems = [self.sets[name][i] for i in batch]
        responses = evaluate(
            self.sampler, self.tokenizer, self.templates, problems, self.args.n, chat=self.chat,
            progress="" if self.rank else "responses", **self.sampling,
        )  # fmt: skip
        rows = []
        for i, response in enumerate(responses):
            problem = problems[response.problem]
            row = {"data": name, "question": problem.question, "answer": problem.answer} | vars(response)
            row |= {"problem": batch[response.problem], "sample": i % self.args.n, "sampling": self.sampling}
            rows.append(row)
        jsonl.append(part, rows)


def folder_for(args, settings: dict) -> Path:
    """The folder of this evaluation: --out, or the first runs/eval-MODEL-N that is free or holds just this one. Raises
    ValueError when --out holds something else."""
    path = Path(toy.folder(args.model))
    name = path.parent.name if path.name == "model" else path.name
    for folder in [Path(args.out)] if args.out else (Path("runs") / f"eval-{name}-{i}" for i in count(1)):
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            folder.mkdir(parents=True, exist_ok=True)
            versions = {p.__name__: p.__version__ for p in (torch, transformers)}
            config = {"settings": settings, "commit": commit(), "python": platform.python_version()} | versions
            jsonl.write(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
            return folder
        try:
            kept = json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            kept = None
        if not isinstance(kept, dict):
            other = "holds something else than an evaluation"
        elif differing := [key for key in settings if key != "model" and settings[key] != kept.get(key)]:
            other = f"holds an evaluation with other settings ({', '.join(differing)})"
        else:
            return folder
        if args.out:
            raise ValueError(f"{folder} {other}: name another folder with --out")


def fingerprint(model) -> str:
    """Eight bytes that tell weights apart, as hex: of the first numbers of every parameter, any update changes some."""
    heads = [p.detach().flatten()[:64].float().cpu().numpy().tobytes() for p in model.parameters()]
    return blake2b(b"".join(heads), digest_size=8).hexdigest()


def digest(problems: list[data.Problem]) -> str:
    """Eight bytes that tell problem sets apart, as hex."""
    return blake2b(repr(problems).encode("utf-8", "replace"), digest_size=8).hexdigest()


def parse():
    """The flags."""
    parser = cli.Parser("Evaluate a model on problem sets, verify kept responses again, or compare two evaluations.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="sample from this model: a folder, a hub id, or toy (its cold start)")
    what.add_argument("--rescore", metavar="PATH", help="verify the responses of an evaluation again")
    what.add_argument("--compare", nargs=2, metavar="PATH", help="compare two evaluations problem by problem")
    sets = ", ".join(data.SETS)
    parser.add_argument(
        "--data", nargs="+", help=f"problem sets: toy, files, {sets}, hub ids (owner/name:split), NAME=PATH"
    )
    parser.add_argument("-n", type=int, default=16, help="responses a problem (default: 16)")
    config = "(default: the model's generation config"
    parser.add_argument("--temperature", type=float, help=f"0 takes the likeliest token {config}, else 1)")
    parser.add_argument("--top-p", type=float, help=f"keep the likeliest tokens of this mass {config}, else 1)")
    parser.add_argument("--top-k", type=int, help=f"keep so many likeliest tokens, 0 all {config}, else 0)")
    parser.add_argument("--max-new-tokens", type=int, help=f"limit of a response {config}, else toy 60, others 8192)")
    parser.add_argument(
        "--thinking", choices=("on", "off"), help="enable_thinking of the chat template (default: its own)"
    )
    parser.add_argument("--system", help="a system message (default: none)")
    parser.add_argument("--chat-template", metavar="FILE", help="a Jinja template (default: the tokeniser's)")
    parser.add_argument("--slots", type=int, default=64, help="responses sampled side by side (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling (default: 0)")
    parser.add_argument("--out", help="the evaluation's folder (default: runs/eval-MODEL-N); of --rescore, a file")
    args = parser.parse_args()
    if args.model and not args.data:
        parser.error("--model needs --data: the problem sets to measure it on")
    if args.n < 1 or args.slots < 1:
        parser.error("-n and --slots must be at least 1")
    return args


def main():
    """The program; see the module's docstring and --help."""
    args = parse()
    with cli.bad_input():
        if not args.model:
            print(compare_kept(*args.compare) if args.compare else rescore(args.rescore, args.out))
            return
        parallel.start()
        evaluation = Evaluation(args)
        folder, done = Path(), set()
        if parallel.rank() == 0:
            folder = folder_for(args, evaluation.settings)
            done = {(row["data"], row["problem"]) for row in collect(folder, args.n)}
            print(f"into {folder}, {len(done)} problems are done; stopped, the same command goes on", flush=True)
        folder, done = parallel.gather((folder, done))[0]
    with cli.bad_input(OSError):  # a full disk
        evaluation.run(folder, done)
        parallel.gather("done")
        if parallel.rank() == 0:
            rows = collect(folder, args.n)
            if len(rows) != args.n * sum(map(len, evaluation.sets.values())):
                cli.fail(f"{folder} lacks responses, as if two evaluations had written to it: run the command again")
            figures = figures_of(rows)
            report = {"settings": evaluation.settings, "figures": figures}
            jsonl.write(folder / "summary.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
            print(", ".join(f"{name} {value}" for name, value in {"n": args.n, **evaluation.sampling}.items()))
            print(table(figures))
    parallel.stop()


if __name__ == "__main__":
    cli.run(main)
