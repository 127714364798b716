"""Cold-start examples that a model makes itself, of solving and of the synthesis task (TAPO's SFT and IFT data).

    SFT   sample K responses a problem, verify them: the right ones
    IFT   of a problem with right and wrong ones, let the model rewrite wrong ones as it will in training (reflect.py):
          the outputs that parse, keep y-'s own words up to the error, turn, and end right

A model too weak for the second part may see the task done in front of it (WORKED). What it learns later is the task
without that.

Ours, not the paper's: every distinct right response is an SFT example, and at most m_max outputs a problem are tried.
"""

import argparse
from collections import Counter
from pathlib import Path

from tqdm import tqdm

import cli
import data
import jsonl
import reflect
from rollouts import Actor

CHUNK = 64  # problems between two saves
# The data would never come together: so many outputs tried, or responses sampled, and no more good outputs, or pairs to
# make an output of.
TRIED, SAMPLED, FEW = 512, 4096, 5

# What is counted. A response is `sft`, `repeated` (the same text again), `wrong` or `cut`. One of the `tried` outputs
# is `ift`, or has a reason why not.
COUNTED = "problems responses sft repeated wrong cut tried ift".split()
COUNTED += [f"output_{outcome}" for outcome in reflect.OUTCOMES if outcome != "kept"] + ["output_ends_wrong"]

WORKED = (  # question, wrong attempt, right attempt, output
    (
        "A crate holds 12 bottles. How many bottles are in 5 crates if 4 of them are broken and taken out?",
        "There are 12 * 5 = 50 bottles. Without the broken ones 50 - 4 = 46 are left. \\boxed{46}",
        "In 5 crates there are 5 * 12 = 60 bottles. 4 are taken out, so 60 - 4 = 56 stay. \\boxed{56}",
        "<analysis>\nThe product 12 * 5 is 60, not 50. All that follows uses the 50.\n</analysis>\n<reconstruction>\n"
        "There are 12 * 5 = 50 bottles. Wait, 12 * 5 is more than that: 10 * 5 = 50 and 2 * 5 = 10, so there are 60. "
        "Without the broken ones 60 - 4 = 56 are left. \\boxed{56}\n</reconstruction>",
    ),
    (
        "What is x if 3x + 6 = 21?",
        "Subtract 6 from both sides:\n3x = 15.\nThen x = 15 - 3 = 12.\n\\boxed{12}",
        "3x = 21 - 6 = 15, so x = 15 / 3 = 5. \\boxed{5}",
        "<analysis>\nThe factor 3 was subtracted, where it has to be divided by.\n</analysis>\n<reconstruction>\n"
        "Subtract 6 from both sides:\n3x = 15.\nThen x = 15 - 3 = 12.\nWait, 3x means 3 times x, so I have to divide "
        "by 3, not to subtract it. x = 15 / 3 = 5, and 3 * 5 + 6 = 21 is right.\n\\boxed{5}\n</reconstruction>",
    ),
)


class Maker(Actor):
    """Makes SFT and IFT examples with a model, a chunk of problems at a time. What it makes of a chunk depends on the
    settings and the chunk alone."""

    def __init__(self, args, model, tokenizer, problems: list[data.Problem]):
        """Raises ValueError when a prompt does not fit."""
        everything = {"algo": "tapo", "n_pos": 1, "n_neg": 1, "no_dcs": False, "full_reconstruction": False}
        worked = worked_examples() if args.shots else ""
        super().__init__(argparse.Namespace(**vars(args), **everything), model, tokenizer, problems, worked)

    def make(self, first: int) -> tuple[list[dict], list[dict], Counter]:
        """The SFT and IFT rows of problems first .. first + CHUNK - 1, and what became of everything else. The worked
        examples of --shots help to make an output, but are no part of what is learnt from it."""
        queries = dict(enumerate(range(first, min(first + CHUNK, len(self.problems)))))
        groups = self.sample_groups(queries, first)
        attempts = self.reflect(queries, groups, first)
        sft, ift, counts = [], [], Counter(tried=len(attempts))
        for query, group in groups.items():
            prompt = self.templates.plain.format(question=self.problems[queries[query]].question)
            right = {r.text: r for r in group if r.reward}
            sft += [row(queries[query], prompt, text, rollout.ids) for text, rollout in right.items()]
            counts += Counter(
                problems=1, responses=len(group), sft=len(right),
                repeated=sum(r.reward > 0 for r in group) - len(right), cut=sum(not r.finished for r in group),
                wrong=sum(r.finished and not r.reward for r in group),
            )  # fmt: skip
        for attempt in attempts:
            if not attempt.rollout:
                counts[f"output_{attempt.construction.outcome}"] += 1
            elif not attempt.rollout.reward:
                counts["output_ends_wrong"] += 1
            else:
                counts["ift"] += 1
                ift.append(row(queries[attempt.query], attempt.task, attempt.output.text, attempt.output.ids))
        return sft, ift, counts


def row(problem: int, prompt: str, response: str, ids: list[int]) -> dict:
    """An example as sft.jsonl and ift.jsonl hold it: `prompt` is the user's turn, `ids` are the response's."""
    return {"problem": problem, "prompt": prompt, "response": response, "ids": ids}


def worked_examples() -> str:
    """The synthesis task done, as a text to put in front of it."""
    done = [
        reflect.SYNTHESIS.format(question=question, wrong=wrong, right=right) + "\n\n" + output
        for question, wrong, right, output in WORKED
    ]
    return "\n\n---\n\n".join([*done, ""])


def hopeless(counts: Counter) -> bool:
    """Whether what was made so far shows that nothing will come of it."""
    no_pairs = counts["responses"] >= SAMPLED and counts["tried"] <= FEW
    return no_pairs or (counts["tried"] >= TRIED and counts["ift"] <= FEW)


def make_data(maker: Maker, folder: Path) -> Counter:
    """Make what is not yet there of folder/sft.jsonl and folder/ift.jsonl; returns the counts of all of it.

    progress.jsonl gets a line, the counts of a chunk, when the chunk's rows are on disk: what stands beyond them after
    an interruption is dropped and made again."""
    done = jsonl.read(folder / "progress.jsonl")
    counts = sum(map(Counter, done), Counter())
    for name, length in (("sft", counts["sft"]), ("ift", counts["ift"]), ("progress", len(done))):
        cut(folder / f"{name}.jsonl", length)
    bar = tqdm(total=len(maker.problems), initial=counts["problems"], desc="making examples", unit="problem")
    with bar:
        for first in range(counts["problems"], len(maker.problems), CHUNK):
            if hopeless(counts):
                print(f"gave up after {counts['problems']} of {len(maker.problems)} problems", flush=True)
                break
            sft, ift, found = maker.make(first)
            with cli.uninterrupted():
                for name, rows in (("sft", sft), ("ift", ift), ("progress", [found])):
                    jsonl.append(folder / f"{name}.jsonl", rows)
            counts += found
            bar.update(found["problems"])
            bar.set_postfix(sft=counts["sft"], ift=f"{counts['ift']} of {counts['tried']}")
    return counts


def cut(file: Path, length: int):
    """Leave the first `length` rows of a file. Raises ValueError when it has lost some of them."""
    rows = jsonl.read(file)
    if len(rows) < length:
        raise ValueError(f"{file} has lost rows since it was written: begin anew in another folder")
    jsonl.rewrite(file, rows[:length])
