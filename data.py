"""Problem sets and prompts.

A problem is a question and the answer that a response is verified against. A set is named in one of four ways:

    data/problems.jsonl                     a file of this machine
    aime24                                  a short name (SETS)
    owner/name/data/train-*.parquet@0123ab  a file of the Hugging Face hub, or all that a pattern names; @ and a
                                            revision may be left out, and so may the file where a set has but one
    aime24=data/problems.jsonl              a file of this machine under a name of your choice

A file holds JSON lines, a JSON array, CSV, TSV or Parquet (needs pyarrow), each of them gzipped or not: told by its
content, CSV and TSV by their names. A row has a question (QUESTION_FIELDS) and an answer (ANSWER_FIELDS); the first
field that is not empty counts, in capitals or not. Of an answer that is a worked text, what stands in the last
`\\boxed{}` or after a final `####` is taken. Of a prompt that is a list of messages, the user's turn is the question,
behind what the system says. A row that cannot be used stops the program, with its place and the reason.
"""

import csv
import functools
import gzip
import io
import json
import math
import os
import random
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from tqdm import tqdm

import reflect

SETS = {
    "aime24": "HuggingFaceH4/aime_2024/data/train-00000-of-00001.parquet",
    "aime25": "math-ai/aime25/test.jsonl",
    "hmmt25": "MathArena/hmmt_feb_2025/data/train-00000-of-00001.parquet",
    "math500": "HuggingFaceH4/MATH-500/test.jsonl",
    "gsm8k": "openai/gsm8k/main/test-00000-of-00001.parquet",
    "gsm8k_train": "openai/gsm8k/main/train-00000-of-00001.parquet",
    "deepscaler": "agentica-org/DeepScaleR-Preview-Dataset/deepscaler.json",
}
QUESTION_FIELDS = ("problem", "question", "prompt")
ANSWER_FIELDS = ("answer", "final_answer", "expected_answer", "reward_model.ground_truth", "solution")
USED = {name.partition(".")[0] for name in QUESTION_FIELDS + ANSWER_FIELDS}
ENDINGS = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".gz")
FOREIGN = {  # how files begin that are not read
    b"PK\x03\x04": "is an .xlsx or .zip file: save the table as CSV, or unpack the file",
    b"BZh": "is compressed by bzip2: unpack it, or use gzip",
    b"\xff\xff\xff\xff": "is an Arrow file, as save_to_disk writes them: write the set as Parquet or JSON lines",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: fetch that with git lfs pull",
}
MAX_BARE = 80  # characters of a solution without a mark that is taken for the answer itself


@dataclass(frozen=True)
class Problem:
    """A question and its gold answer."""

    question: str
    answer: str
    source: str = field(default="", repr=False)  # the row as JSON, where it was asked for

    @property
    def row(self) -> dict:
        """All fields of its row in the file, for a reward function; none where the row was not asked for."""
        return json.loads(self.source or "{}")


@dataclass(frozen=True)
class Templates:
    """How prompts are worded: `plain` has the field {question}, `synthesis` {question}, {wrong} and {right}, and so has
    `anew` (the ablation "full reconstruction"); `teacher` (OPSD's) has {question} and {right}."""

    plain: str
    synthesis: str
    anew: str = field(repr=False)  # these two are no part of a cold start, whose recipe is this object's repr
    teacher: str = field(repr=False)


TEMPLATES = Templates(
    plain="{question}\n\nReason step by step, and put your final answer within \\boxed{{}}.",
    synthesis=reflect.SYNTHESIS,
    anew=reflect.ANEW,
    teacher="{question}\n\nAn attempt at this problem that ends right:\n\n{right}\n\nNow solve it yourself, with this "
    "attempt in mind. Reason step by step, and put your final answer within \\boxed{{}}.",
)


def worded(text: str, *holes: str) -> str:
    """A wording with {question} and other `holes` in it, as `Templates` has it: any other brace stands for itself."""
    text = text.replace("{", "{{").replace("}", "}}")
    for hole in holes:
        text = text.replace(f"{{{{{hole}}}}}", f"{{{hole}}}")
    return text


# ---------------------------------------------------------------------------------------------------------------- files


def load(name: str, whole: bool = False) -> list[Problem]:
    """The problems of a set, named as the module's docstring says; if `whole`, each with its row. Raises ValueError
    with one sentence that names the set, or the file and its row. Repeated questions are kept, and told on stderr."""
    problems = []
    rows = (found for file, shown in _files(name) for found in _rows(file, shown, whole))
    for place, row in _bar(rows, f"reading {name}", "row"):
        try:
            problems.append(_problem(row, whole))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    if not problems:
        raise ValueError(f"{name} holds no problems")
    asked = [hash(" ".join(problem.question.split())) for problem in problems]
    repeats = len(asked) - (distinct := len(set(asked)))
    if repeats and _first():
        others = len({(question, problem.answer) for question, problem in zip(asked, problems)}) - distinct
        changed = f", {others} of them with another answer" if others else ""
        print(f"{name}: {repeats} of {len(problems)} rows repeat a question{changed}; all are kept", file=sys.stderr)
    return problems


def label(name: str) -> str:
    """What to call a set in a table: NAME of NAME=FILE, else its name as given."""
    return name if Path(name).exists() else name.partition("=")[0]


def _files(name: str) -> list[tuple[Path, str]]:
    """The files of a set, fetched from the hub where it is there, and what to call each."""
    path = name.partition("=")[2] or name
    for here in (name, path):
        if Path(here).is_file():
            return [(Path(here), here)]
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: name the data file in it")
    address, _, revision = path.partition("@")
    owner, title, *inside = (SETS.get(address, address) + "/").split("/", 2)
    file = "".join(inside).removesuffix("/")
    local = path != name or owner in ("", ".", "..", "~") or (title.endswith(ENDINGS) and not file)
    if local or not title or ":" in path:
        raise ValueError(
            f"there is no data file '{path}': give a file (JSON lines, JSON, CSV, TSV, Parquet), one of "
            f"{', '.join(SETS)}, a file of the hub (owner/name/FILE or owner/name/FILE@REVISION), or toy"
        )
    try:
        return _from_hub(f"{owner}/{title}", file, revision or None)
    except Exception as error:  # of many kinds: no network, no such set, no access, a name the hub does not allow
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"there is no file '{path}', and it could not be read from the hub: {reason}") from None


def _from_hub(repo: str, file: str, revision: str | None) -> list[tuple[Path, str]]:
    """Fetch what `_files` is to read. Without a network, a file or pattern that was fetched before is used."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    where = {"repo_type": "dataset", "revision": revision}
    if not file:
        files = [name for name in HfApi().list_repo_files(repo, **where) if name.endswith(ENDINGS)]
        if len(files) != 1:
            some = ", ".join(files[:8]) or "none that can be read"
            raise ValueError(f"name a file, as in {repo}/FILE; it has {some}")
        [file] = files
    if "*" not in file:
        return [(Path(hf_hub_download(repo, file, **where)), f"{repo}/{file}")]
    kept = Path(snapshot_download(repo, allow_patterns=file, **where))
    return [(path, f"{repo}/{path.relative_to(kept)}") for path in sorted(kept.glob(file))]


def _rows(file: Path, shown: str, whole: bool) -> Iterator[tuple[str, object]]:
    """Each row of a file with its place: the file, and the line or row, from 1."""
    content = file.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{shown} is a broken gzip file: {error}") from None
    for beginning, message in FOREIGN.items():
        if content.startswith(beginning):
            raise ValueError(f"{shown} {message}")
    kind = Path(shown.lower().removesuffix(".gz")).suffix
    if content.startswith(b"PAR1"):
        yield from _parquet_rows(content, shown, whole)
    elif kind in (".csv", ".tsv"):
        yield from _table_rows(content, shown, "\t" if kind == ".tsv" else ",")
    elif content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        yield from ((f"{shown}, row {number}", row) for number, row in enumerate(_json(content, shown), 1))
    else:
        for number, line in enumerate(io.BytesIO(content), 1):  # only a line feed ends a line
            if line.strip():
                yield (place := f"{shown}, line {number}"), _json(line, place)


def _json(content: bytes, place: str):
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is no UTF-8 text: byte {error.start} cannot be read") from None
    except json.JSONDecodeError as error:
        wanted = "one object a line, an array of them, or a table whose name ends in .csv or .tsv"
        raise ValueError(f"{place}: no JSON: {error} (wanted: {wanted})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise ValueError(f"{place}: {error}") from None


def _unique(fields: Iterable[tuple[str, object]]) -> dict:
    """A row of these fields. Raises ValueError when one is named twice."""
    row = {}
    for name, value in fields:
        if name in row:
            raise ValueError(f"the field {name} is named twice")
        row[name] = value
    return row


def _table_rows(content: bytes, shown: str, apart: str) -> Iterator[tuple[str, dict]]:
    """The rows of CSV or TSV, whose first line names the columns."""
    lines = (line.decode("utf-8-sig") for line in content.splitlines(keepends=True))
    reader, columns, begins = csv.reader(lines, delimiter=apart, skipinitialspace=True, strict=True), [], 1
    try:
        for cells in reader:
            if not columns:
                columns = [name.strip() for name in cells]
                _unique((name, None) for name in columns if name)
                if columns and not any(name.lower() in QUESTION_FIELDS for name in columns):
                    wanted = f"the first line must name the columns, as in 'problem{apart}answer'"
                    raise ValueError(f"{wanted}; it is {apart.join(cells)!r:.80}")
            elif len(cells) > len(columns):
                raise ValueError(f"{len(cells)} fields in {len(columns)} columns: a field with {apart!r} needs quotes")
            elif cells:
                yield f"{shown}, line {begins}", {name: cell for name, cell in zip(columns, cells) if name}
            begins = reader.line_num + 1
    except (csv.Error, ValueError) as error:  # in search of a closing quote the reader goes on, so where the row begins
        quotes = ": a quote is never closed here, or one within a field is not doubled"
        message = f"{shown}, line {begins}: {error}{quotes if isinstance(error, csv.Error) else ''}"
        raise ValueError(message) from None


def _parquet_rows(content: bytes, shown: str, whole: bool) -> Iterator[tuple[str, object]]:
    """The rows of Parquet: the columns that are used, or all."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(f"{shown} is a Parquet file, and pyarrow is not installed: pip install pyarrow") from None
    try:
        table = parquet.ParquetFile(io.BytesIO(content))
        columns = [name for name in table.schema_arrow.names if whole or name.strip().lower() in USED]
        rows = (row for batch in table.iter_batches(columns=columns) for row in batch.to_pylist())
        yield from ((f"{shown}, row {number}", row) for number, row in enumerate(rows, 1))
    except (ArrowException, OSError) as error:
        raise ValueError(f"{shown} is a broken Parquet file: {error}") from None


def _problem(row, whole: bool) -> Problem:
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object")
    held = _unique((key.strip().lower(), value) for key, value in row.items() if key.strip().lower() in USED)
    judged = held.get("reward_model")
    held["reward_model.ground_truth"] = judged.get("ground_truth") if isinstance(judged, dict) else None
    held = {name: value for name, value in held.items() if value is not None and str(value).strip()}
    question = next((held[name] for name in QUESTION_FIELDS if name in held), None)
    if isinstance(question, list):  # of messages
        turns = [turn if isinstance(turn, dict) else {} for turn in question]
        roles = [str(turn.get("role")) for turn in turns]
        if roles not in (["user"], ["system", "user"]):
            wanted = "a prompt may be one message of the user, or one of the system and one of the user"
            raise ValueError(f"{wanted}; this has {', '.join(roles) or 'none'}")
        texts = [turn.get("content") for turn in turns]
        said = all(isinstance(text, str) for text in texts) and texts[-1].strip()
        question = "\n\n".join(text.strip() for text in texts) if said else None
    name, answer = next(((name, held[name]) for name in ANSWER_FIELDS if name in held), ("", None))
    if type(answer) is int or (type(answer) is float and math.isfinite(answer)):
        answer = str(answer)
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"the field {'/'.join(QUESTION_FIELDS)} is missing, empty or no text")
    if not isinstance(answer, str):
        raise ValueError(
            f"the field answer is missing, empty or no text (and there is no {', '.join(ANSWER_FIELDS[1:])})"
        )
    for what, text in (("question", question), ("answer", answer)):
        if text.encode("utf-8", "ignore").decode() != text:
            raise ValueError(f"the {what} holds half a character (a lone surrogate)")
    final = unwrap(answer)
    if name == "solution" and final == answer.strip() and ("\n" in final or len(final) > MAX_BARE):
        raise ValueError("there is no answer, and the solution holds neither \\boxed{} nor ####")
    if not final:
        raise ValueError(f"the field {name} holds an empty answer")
    return Problem(question.strip(), final, json.dumps(row, default=str) if whole else "")


def unwrap(text: str) -> str:
    """The answer within a text: in the last `\\boxed{}` whose braces close; else after a `####` in the last line; else
    the text itself."""
    at = len(text)
    while (at := text.rfind("\\boxed{", 0, at)) >= 0:
        depth, i = 0, at + 6
        while i < len(text):
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            if depth == 0:
                return text[at + 7 : i].strip()
            i += 2 if text[i] == "\\" else 1  # an escaped brace is no brace
    _, mark, last = text.rpartition("####")
    return last.strip() if mark and "\n" not in last.strip() else text.strip()


def digest(rows: list) -> str:
    """Eight bytes, as hex, that tell apart what is listed: problems, with all that is known of them, or other rows."""
    hashed = blake2b(digest_size=8)
    for row in rows:  # a million of them as one text would take a gigabyte
        hashed.update((repr(row) + getattr(row, "source", "")).encode("utf-8", "replace"))
    return hashed.hexdigest()


def queries_of_step(problems: int, queries: int, seed: int, step: int) -> list[int]:
    """Which of the problems step number `step` samples: every epoch goes through all of them in an order of its own."""
    places = range(step * queries, (step + 1) * queries)
    return [_order(problems, seed, place // problems)[place % problems] for place in places]


@functools.lru_cache(maxsize=2)  # a million problems are not shuffled again for every step
def _order(problems: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"{seed} epoch {epoch}").sample(range(problems), problems)


# -------------------------------------------------------------------------------------------------------------- prompts


class Prompts(Sequence):
    """Many prompts in little memory: their ids one after the other, 4 bytes each. One that is asked for is a list."""

    def __init__(self, prompts: Iterable[list[int]] = ()):
        self.ids, self.ends = array("i"), array("q", [0])
        for ids in prompts:
            self.ids.extend(ids)
            self.ends.append(len(self.ids))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> list[int]:
        i = range(len(self))[i]  # or an IndexError
        return self.ids[self.ends[i] : self.ends[i + 1]].tolist()


def prompts_of(problems: list[Problem], tokenizer, templates: Templates, **chat) -> Prompts:
    """The ids of each problem's plain prompt. `chat` goes to `prompt_ids`."""
    chunks = [problems[start : start + 1000] for start in range(0, len(problems), 1000)]
    texts = ([templates.plain.format(question=problem.question) for problem in chunk] for chunk in chunks)
    made = _bar((prompt_ids(tokenizer, some, **chat) for some in texts), "tokenising", "k problems", len(chunks))
    return Prompts(ids for some in made for ids in some)


def _bar(of: Iterable, what: str, unit: str, total: int | None = None) -> tqdm:
    """What goes through `of`, with a progress bar where that takes long."""
    return tqdm(of, what, total, unit=unit, unit_scale=True, delay=3, leave=False, disable=not _first())


def _first() -> bool:
    """Whether this is the first of the processes that torchrun may have started: it speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def prompt_ids(tokenizer, texts: list[str], *, system: str | None = None, **template) -> list[list[int]]:
    """Each text as a user's turn in the tokeniser's chat template, up to where the response begins, after a `system`
    message if one is given. `template`: further variables of the chat template, such as enable_thinking. A template
    writes all special tokens itself, so the tokeniser adds none. A tokeniser without a template (a base model's) gets
    the text and a line break, behind what it puts in front of any text. Raises ValueError when the template has no
    place for what is given."""
    if not texts:
        return []
    for variable in (*template, *(["a system message"] if system else [])):
        if not tokenizer.chat_template or (variable in template and variable not in str(tokenizer.chat_template)):
            raise ValueError(f"this model's chat template knows no {variable.removeprefix('a ')}: leave it out")
    if not tokenizer.chat_template:
        whole = tokenizer([text + "\n" for text in texts]).input_ids
        return [ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids for ids in whole]  # some end any text, too
    first = [{"role": "system", "content": system}] if system else []
    turns = [[*first, {"role": "user", "content": text}] for text in texts]
    try:
        rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **template)
    except Exception as error:  # the template's own complaints, and whatever is wrong in it
        raise ValueError(f"the chat template cannot be used: {error}") from None
    if system and not all(system.strip() in said and text.strip() in said for said, text in zip(rendered, texts)):
        raise ValueError("this model's chat template knows no system message: leave it out")
    return tokenizer(rendered, add_special_tokens=False).input_ids
