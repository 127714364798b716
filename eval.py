"""Evaluation: sample responses to the problems of some sets, judge them, print their figures (metrics.py).

    python eval.py --model runs/NAME/model --data toy -n 16
    python eval.py --model Qwen/Qwen3-8B --data aime24 aime25 hmmt25 --max-new-tokens 32768
    torchrun --standalone --nproc-per-node 8 eval.py --model ...    # each process samples every eighth problem

How to sample is by default what the model's generation config says; how to prompt, what the run that made the model did
(its config.json). An evaluation has a folder:

    config.json         settings, with the prompt around a question, commit and versions
    responses.jsonl     every response: its text, final answer, verdict, tokens, seed and sampling settings
    summary.json        the figures
    part-RANK.jsonl     until the end, what each process has sampled so far

The same command goes on where it was stopped; tools.rescore judges kept responses again, tools.compare compares two
evaluations. Equal prompts in a set are sampled once and share their responses; so a response depends on weights,
prompt, seed and its number alone, not on processes, slots or interruptions (up to floating point: see sampler.py).
"""

import config

if __name__ == "__main__":
    config.importing()

import json
import sys
from pathlib import Path

from tqdm import tqdm

import checkpoint
import data
import metrics
import parallel
import policy
import toy
from rollouts import CodeError, evaluate, fitting, load_reward, problems_of, prompted_as_made, prompting_of
from sampler import NotFinite, Sampler

# In a generation config: values without effect, and names that are no matter of sampling, or are looked at.
NOTHING, KNOWN = (None, False, 0, 1, [], {}), {"do_sample", "transformers_version", "cache_implementation"}


class Evaluation:
    """A model, the sets to measure it on, and the settings of it all. Loading finds whatever is wrong with them."""

    def __init__(self, given: dict):
        """`given`: the flags that were given. Raises ValueError."""
        policy.trust(given.get(config.TRUST, False))
        path = toy.folder(given["model"])
        self.tokenizer = policy.load_tokenizer(path)
        otherwise = toy.SETTINGS if toy.speaks(self.tokenizer) else None
        if otherwise:
            toy.few_threads()
        s, _, prompting = config.settle(config.Evaluation, prompted_as_made(given, path), otherwise)
        self.settings = s
        self.reward, self.reward_digest = load_reward(s.reward), checkpoint.code_digest(s.reward)
        self.sets = {data.label(name): problems_of(name, True, s.reward) for name in s.data}
        if len(self.sets) < len(s.data):
            raise ValueError("two of the sets have the same name: tell them apart with NAME=PATH")
        self.templates, self.chat = prompting_of(self.tokenizer, prompting)
        self.prompts = {name: self.prompts_of(problems) for name, problems in self.sets.items()}
        model, _ = policy.load_to_sample(path)
        self.weights = policy.fingerprint(model)
        self.sampler = Sampler(model, eos_ids=policy.eos_ids(model, self.tokenizer), slots=s.slots)
        self.sampling = how = self.how_to_sample(model, max(len(p) for of in self.prompts.values() for p in of))
        if prompting.drop_long_prompts and s.max_new_tokens is None:
            raise ValueError("--drop-long-prompts needs --max-new-tokens: else the limit is what fits every prompt")
        for name in self.sets:
            given = self.sets[name], self.prompts[name], how["max_new_tokens"], model, prompting, name
            self.sets[name], self.prompts[name] = fitting(*given)
        every = [prompt for prompts in self.prompts.values() for prompt in prompts]
        self.sampler.check(every, s.n, how["max_new_tokens"], how["temperature"], how["top_p"], how["top_k"])
        if how["temperature"] == 0 and s.n > 1:
            told = f"at temperature 0, or do_sample false in the generation config, all {s.n} responses of a problem"
            raise ValueError(f"{told} would be the same: say -n 1, or another --temperature")

    def prompts_of(self, problems: list[data.Problem]) -> list[list[int]]:
        """The ids of their prompts."""
        return data.prompts_of(problems, self.tokenizer, self.templates, **self.chat)

    def how_to_sample(self, model, longest_prompt: int) -> dict:
        """The flags; where they say nothing, the model's generation config, in which do_sample false is temperature 0;
        else plain sampling. What else that config asks for is not applied, which is told on stderr. A limit that is no
        flag is lowered to what fits the context."""
        found, plain = {}, {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8192}
        configured = model.generation_config.to_diff_dict() if model.generation_config else {}
        if configured.get("do_sample") is False:
            configured["temperature"] = 0.0
        for name, otherwise in plain.items():
            choices = getattr(self.settings, name), configured.get(name), otherwise
            found[name] = next(choice for choice in choices if choice is not None)
        rest = [(name, value) for name, value in configured.items() if name not in KNOWN and value not in NOTHING]
        rest = [f"{name} {value}" for name, value in rest if name not in plain and not name.endswith("token_id")]
        if rest and parallel.rank() == 0:
            print(f"not applied of the model's generation config: {', '.join(rest)}", file=sys.stderr)
        context = getattr(model.config, "max_position_embeddings", None)
        if context and self.settings.max_new_tokens is None:
            found["max_new_tokens"] = max(1, min(found["max_new_tokens"], context - longest_prompt))
        return found | {"seed": self.settings.seed}

    def begun_with(self) -> dict:
        """What the responses depend on, and the model's name, on which they do not."""
        shown = [data.Problem("{question}", "")]
        return {
            "model": self.settings.model,
            "weights": self.weights,
            "data": {
                name: f"{len(problems)} problems, {data.digest(problems)}" for name, problems in self.sets.items()
            },
            "prompt": self.tokenizer.decode(self.prompts_of(shown)[0]),
            "compute": str(parallel.precision()).removeprefix("torch."),
            "reward": self.settings.reward,
            "reward_digest": self.reward_digest,
            "n": self.settings.n,
            **self.sampling,
        }

    def run(self, folder: Path, done: set[tuple[str, int]]):
        """Sample this process's share of the problems that are not done, some at a time, and keep each batch."""
        s, rank = self.settings, parallel.rank()
        at_once = max(1, 4 * self.sampler.slots // s.n)  # more would lose more to a kill, fewer leave slots idle
        for name, problems in self.sets.items():
            mine = [i for i in range(len(problems)) if (name, i) not in done][rank :: parallel.size()]
            bar = tqdm(total=len(mine), desc=name, unit="problem", leave=False, disable=rank > 0 or not mine)
            with bar:
                for start in range(0, len(mine), at_once):
                    batch = mine[start : start + at_once]
                    checkpoint.append(folder / f"part-{rank}.jsonl", self.sample(name, batch))
                    bar.update(len(batch))

    def sample(self, name: str, batch: list[int]) -> list[dict]:
        """The rows of n responses to each problem of a batch."""
        problems, prompts = ([of[name][i] for i in batch] for of in (self.sets, self.prompts))
        responses = evaluate(
            self.sampler, self.tokenizer, problems, prompts, self.settings.n, self.reward,
            progress="" if parallel.rank() else "responses", **self.sampling,
        )  # fmt: skip
        rows = []
        for i, response in enumerate(responses):
            problem = problems[response.query]
            row = {"data": name, "question": problem.question, "answer": problem.answer} | response.row()
            row |= {"problem": batch[response.query], "sample": i % self.settings.n, "sampling": self.sampling}
            rows.append(row)
        return rows


def folder_for(out: str | None, model: str, settings: dict) -> Path:
    """The folder of this evaluation: --out, or the first runs/eval-MODEL-N that is free or holds just this one. Raises
    ValueError when --out holds something else."""
    path = Path(toy.folder(model))
    name = path.parent.name if path.name == "model" else path.name
    for folder in [Path(out)] if out else checkpoint.numbered(f"eval-{name}"):
        try:
            if not checkpoint.empty(folder) and not (folder / "config.json").is_file():
                raise ValueError(f"{folder} holds something else than an evaluation: name another folder with --out")
            checkpoint.lock(folder / ".lock")
            checkpoint.begin(folder / "config.json", settings, free=("model",))
            return folder
        except ValueError:
            if out:
                raise


def collect(folder: Path, n: int) -> list[dict]:
    """Merge what all processes sampled into responses.jsonl, in order, and remove the parts. A problem of which a kill
    tore lines, so that it has fewer than n responses, is dropped: it will be sampled again."""
    rows = metrics.read(folder)
    complete = {(row["data"], row["problem"]) for row in rows if row["sample"] == n - 1}
    rows = [row for row in rows if (row["data"], row["problem"]) in complete]
    checkpoint.rewrite(folder / "responses.jsonl", rows)
    for part in folder.glob("part-*.jsonl"):
        part.unlink()
    return rows


def main():
    """The program; see the module's docstring and --help."""
    given = config.read(config.Evaluation, "Evaluate a model on problem sets.", toy.SETTINGS)
    parallel.start()
    with config.bad_input():
        evaluation = Evaluation(given)
        s, folder, done = evaluation.settings, Path(), set()
        if parallel.rank() == 0:
            folder = folder_for(s.out, s.model, evaluation.begun_with())
            done = {(row["data"], row["problem"]) for row in collect(folder, s.n)}
            print(f"into {folder}, {len(done)} problems are done; stopped, the same command goes on", flush=True)
        folder, done = parallel.gather((folder, done))[0]
    with config.bad_input(OSError, CodeError, NotFinite):  # a full disk, a reward that fails, weights that are broken
        evaluation.run(folder, done)
        parallel.gather("done")
        if parallel.rank() == 0:
            report(evaluation, folder)
    checkpoint.unlock(folder / ".lock")
    parallel.stop()


def report(evaluation: Evaluation, folder: Path):
    """Collect what all processes sampled, and print and keep its figures."""
    rows, n = collect(folder, evaluation.settings.n), evaluation.settings.n
    if len(rows) != n * sum(map(len, evaluation.sets.values())):
        config.fail(f"{folder} lacks responses, as if two evaluations had written to it: run the command again")
    figures = metrics.figures_of(rows)
    told = {"settings": evaluation.begun_with(), "figures": figures}
    checkpoint.write(folder / "summary.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    print(", ".join(f"{name} {value}" for name, value in {"n": n, **evaluation.sampling}.items()))
    print(metrics.table(figures))


if __name__ == "__main__":
    config.run(main)
