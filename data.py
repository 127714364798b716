"""Problem sets and prompts.

A problem is a question and the answer that a response is verified against. A set is named in one of four ways:

    data/problems.jsonl                     a file of this machine
    aime24                                  a short name (SETS); gsm8k:train is another split of it
    openai/gsm8k/main:train@0123abc         a set of the Hugging Face hub: owner/name, then, where they are needed,
                                            /file or /folder, :split and @revision
    aime24=data/problems.jsonl              a file under a name of your choice

A file holds JSON lines, a JSON array, CSV, TSV or Parquet (needs pyarrow), each of them gzipped or not: told by its
content, CSV and TSV by their names. A row has a question (QUESTION_FIELDS) and an answer (ANSWER_FIELDS); the first
field that is not empty counts, in capitals or not. Of an answer that is a worked text, what stands in the last
`\\boxed{}` or after a final `####` is taken. Of a prompt that is a list of messages, the last one of the user, with
whatever instructions it holds.

A row that cannot be used stops the program, with its place and the reason. Repeated questions are kept and reported.
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
from itertools import islice, takewhile
from pathlib import Path, PurePosixPath

from tqdm import tqdm

import reflect

SETS = {
    "aime24": "HuggingFaceH4/aime_2024:train",
    "aime25": "math-ai/aime25:test",
    "hmmt25": "MathArena/hmmt_feb_2025:train",
    "math500": "HuggingFaceH4/MATH-500:test",
    "gsm8k": "openai/gsm8k/main:test",
    "deepscaler": "agentica-org/DeepScaleR-Preview-Dataset:train",
}
QUESTION_FIELDS = ("problem", "question", "prompt")
ANSWER_FIELDS = ("answer", "final_answer", "expected_answer", "reward_model.ground_truth", "solution")
FORMATS = (".parquet", ".jsonl", ".json", ".csv")  # of a hub set that comes in several, the first is read
NOT_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json")
MAX_BARE = 80  # characters of a solution without a mark that is taken for the answer itself
MAX_BYTES = 2**30  # that a gzipped file may unfold to


@dataclass(frozen=True)
class Problem:
    """A question and its gold answer."""

    question: str
    answer: str


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


# ------------------------------------------------------------------------------------------------------- where a set is


def load(name: str) -> list[Problem]:
    """The problems of a set, named as the module's docstring says. Raises ValueError with one sentence: where the set
    could not be found, or which row of which file cannot be used, and why. Repeated questions are counted on stderr,
    once for all processes."""
    problems = []
    with _bar(f"reading {name}", "row") as bar:
        for file, shown in _files(name):
            for place, row in _rows(file, shown):
                try:
                    problems.append(_problem(row))
                except ValueError as error:
                    raise ValueError(f"{shown}, {place}: {error}") from None
                bar.update()
    if not problems:
        raise ValueError(f"{name} holds no problems")
    if _first():
        _report_repeats(name, problems)
    return problems


def label(name: str) -> str:
    """What to call a set in a table: NAME of NAME=PATH, else its name as given."""
    return name if Path(name).exists() else name.partition("=")[0]


def _files(name: str) -> list[tuple[Path, str]]:
    """The files of a set on this machine, fetched from the hub when it is there, and what to call each."""
    path = name.partition("=")[2] or name
    for here in (name, path):
        if Path(here).is_file():
            return [(Path(here), here)]
    if Path(path).is_dir():
        if any(Path(path).glob("*.arrow")) or any(Path(path).glob("*/*.arrow")):
            raise ValueError(
                f"{path} was written by save_to_disk: write the set as Parquet or JSON lines, and name that"
            )
        raise ValueError(f"{path} is a folder: name the data file in it")
    repo, inside, split, revision = hub_address(path)
    looks_local = path.endswith((*FORMATS, ".gz")) and not inside
    if not repo or looks_local or path != name or path.startswith(("/", ".", "~")):
        raise ValueError(
            f"there is no data file '{path}': give a file (JSON lines, JSON, CSV, Parquet), one of {', '.join(SETS)}, "
            "a hub id (owner/name:split), or toy"
        )
    try:
        return _from_hub(repo, inside, split, revision)
    except Exception as error:  # of many kinds: no network, no such set, no access, a name the hub does not allow
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"there is no file '{path}', and it could not be read from the hub: {reason}") from None


def hub_address(name: str) -> tuple[str, str, str, str | None]:
    """(owner/name, file or folder within, split, revision) of a set of the hub; what is not given is empty, and all is
    where `name` is neither owner/name nor a short name."""
    path, _, revision = name.partition("@")
    path, _, split = path.partition(":")
    if path in SETS:
        path, _, usual = SETS[path].partition(":")
        split = split or usual
    parts = path.split("/")
    repo = "/".join(parts[:2]) if len(parts) > 1 and all(parts) else ""
    return repo, "/".join(parts[2:]), split, revision or None


def _from_hub(repo: str, inside: str, split: str, revision: str | None) -> list[tuple[Path, str]]:
    """Fetch the files of a hub set. Without a network, what an earlier call fetched is used."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    where = {"repo_type": "dataset", "revision": revision}
    try:
        files = HfApi().list_repo_files(repo, **where)
    except Exception:
        try:
            kept = Path(snapshot_download(repo, local_files_only=True, **where))
        except Exception:
            kept = None
        if kept is None:
            raise
        files = [file.relative_to(kept).as_posix() for file in kept.rglob("*") if file.is_file()]
    chosen = choose_files(files, inside, split)
    return [(Path(hf_hub_download(repo, file, **where)), f"{repo}/{file}") for file in chosen]


def choose_files(files: list[str], inside: str, split: str) -> list[str]:
    """Which files of a hub set to read: those at or below `inside`, of `split`, in one format and one folder. Raises
    ValueError with what there is to choose from when that does not settle it."""
    within = [f for f in sorted(files) if not inside or f == inside or f.startswith(inside + "/")]
    within = [f for f in within if PurePosixPath(f).name not in NOT_DATA]
    kinds = [[f for f in within if f.removesuffix(".gz").endswith(kind)] for kind in FORMATS]
    found = next(filter(None, kinds), [])
    splits = sorted({split_of(file) for file in found})
    if not found or (split and split not in splits):
        raise ValueError(f"it holds no {split or 'data'} files{' in ' + inside if inside else ''}, but {_some(files)}")
    if not split and len(splits) > 1:
        raise ValueError(f"name its split, as in :{splits[0]}; it has {', '.join(splits)}")
    found = [file for file in found if split_of(file) == (split or splits[0])]
    folders = sorted({PurePosixPath(file).parent.as_posix() for file in found})
    if len(folders) > 1:
        raise ValueError(f"name one of its folders, as in owner/name/{folders[0]}; it has {', '.join(folders)}")
    shards = [_shard(file) for file in found]
    if len(found) > 1 and None in shards:
        raise ValueError(f"name one of its files, as in owner/name/{found[0]}; it has {', '.join(found)}")
    if shards[0] and len(found) < shards[0][1] and inside not in found:  # without a network, perhaps a torn download
        raise ValueError(f"only {len(found)} of its {shards[0][1]} files are there")
    return found


def split_of(file: str) -> str:
    """The split that a file of a hub set belongs to: NAME of NAME-00000-of-00001, a word such as test in its path, or
    train, where the hub itself puts all others."""
    words = "".join(c if c.isalnum() else " " for c in file.lower()).split()
    shard = _shard(file)
    return (
        shard[0]
        if shard
        else next((word for word in reversed(words) if word in ("train", "test", "validation")), "train")
    )


def _shard(file: str) -> tuple[str, int] | None:
    """(NAME, 144) of NAME-00003-of-00144.parquet."""
    first, _, last = PurePosixPath(file).name.rpartition("-of-")
    name, _, number = first.rpartition("-")
    total = "".join(takewhile(str.isdecimal, last))
    return (name, int(total)) if number.isdecimal() and total else None


def _some(files: list[str]) -> str:
    return ", ".join(files[:8]) + (", ..." if len(files) > 8 else "")


# ---------------------------------------------------------------------------------------------------- what a file holds


def _rows(file: Path, shown: str) -> Iterator[tuple[str, object]]:
    """Each row of a file with its place (line or row, from 1)."""
    content = file.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = _unzip(content, shown)
    if content.startswith(b"PAR1"):
        yield from _parquet_rows(content, shown)
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{shown} is no UTF-8 text: byte {error.start} cannot be read") from None
    name = shown.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        apart = "\t" if name.endswith(".tsv") else ","
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=apart, strict=True)  # no open quote
        try:
            yield from ((f"line {reader.line_num}", row) for row in reader)
        except csv.Error as error:
            raise ValueError(f"{shown}, {_csv_fault(text, reader.line_num, apart, error)}") from None
    elif text.lstrip().startswith("["):
        rows = _json(text, shown)
        yield from ((f"row {number}", row) for number, row in enumerate(rows, 1))
    else:
        del content  # of a big file, nothing is kept twice
        for number, line in enumerate(_lines(text), 1):
            if line.strip():
                yield f"line {number}", _json(line, f"{shown}, line {number}", "one object a line, or an array of them")


def _csv_fault(text: str, done: int, apart: str, error: csv.Error) -> str:
    """What is wrong with the row of CSV that begins behind `done` lines, and the line where its last quoted field
    begins: the reader's own is another, for it reads on in search of the closing quote."""
    begins, quoted, before, ends = done + 1, False, "\n", f"{apart}\r\n"
    for number, line in enumerate(islice(io.StringIO(text, newline=""), done, None), done + 1):
        for character in line:
            if not quoted and before == '"' and character not in ends + '"':
                return f"line {begins}: behind the quote that closes the field which begins here, text goes on"
            if not quoted and character in "\r\n" and before not in "\r\n":
                return f"line {begins}: {error}"  # the row ends, so quotes are not what is wrong
            if character == '"' and (quoted or before in ends + '"'):  # the second of a doubled one opens again
                begins = begins if quoted or before == '"' else number
                quoted = not quoted
            before = character
    return f"line {begins}: " + ("the quote that opens a field here is never closed" if quoted else str(error))


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, one at a time; only a line feed ends one."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _unzip(content: bytes, shown: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as unzipped:
            content = unzipped.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{shown} is a broken gzip file: {error}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{shown} unfolds to more than {MAX_BYTES / 2**30:g} GiB: unpack it, if that is right")
    return content


def _json(text: str, place: str, wanted: str = ""):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: no JSON: {error}" + (f" (wanted: {wanted})" if wanted else "")) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise ValueError(f"{place}: {error}") from None


def _parquet_rows(content: bytes, shown: str) -> Iterator[tuple[str, object]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{shown} is a Parquet file, and pyarrow is not installed: pip install pyarrow") from None
    fields = {name.partition(".")[0] for name in QUESTION_FIELDS + ANSWER_FIELDS}
    try:
        table = parquet.ParquetFile(pyarrow.BufferReader(content))
        columns = [name for name in table.schema_arrow.names if name.strip().lower() in fields]
        number = 0
        for batch in table.iter_batches(columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{shown} is a broken Parquet file: {error}") from None


# ----------------------------------------------------------------------------------------------------- what a row holds


def _problem(row) -> Problem:
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object")
    row = {key.strip().lower(): value for key, value in row.items() if isinstance(key, str)}
    _, question = _field(row, QUESTION_FIELDS)
    if isinstance(question, list):  # of messages
        said = [m.get("content") for m in question if isinstance(m, dict) and m.get("role") == "user"]
        question = said[-1] if said else None
    if isinstance(question, str) and question.encode("utf-8", "ignore").decode() != question:
        raise ValueError("the question holds half a character (a lone surrogate)")
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"the field {'/'.join(QUESTION_FIELDS)} is missing, empty or no text")
    name, answer = _field(row, ANSWER_FIELDS)
    if type(answer) is int or (type(answer) is float and math.isfinite(answer)):
        answer = str(answer)
    if isinstance(answer, str) and answer.encode("utf-8", "ignore").decode() != answer:
        raise ValueError("the answer holds half a character (a lone surrogate)")
    if not isinstance(answer, str):
        others = f"{', '.join(ANSWER_FIELDS[1:-1])} or {ANSWER_FIELDS[-1]}"
        raise ValueError(f"the field answer is missing, empty or no text (and there is no {others})")
    final = unwrap(answer)
    if name == "solution" and final == answer.strip() and ("\n" in final or len(final) > MAX_BARE):
        raise ValueError("there is no answer, and the solution holds neither \\boxed{} nor ####")
    if not final:
        raise ValueError(f"the field {name} holds an empty answer")
    return Problem(question.strip(), final)


def _field(row: dict, names: tuple[str, ...]) -> tuple[str, object]:
    """The first of these fields that holds something, and what it holds; ("", None) if none does."""
    for name in names:
        outer, _, inner = name.partition(".")
        value = row.get(outer)
        if inner:
            value = value.get(inner) if isinstance(value, dict) else None
        if value is not None and not (isinstance(value, str) and not value.strip()):
            return name, value
    return "", None


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


def _report_repeats(name: str, problems: list[Problem]):
    """Say on stderr how many rows repeat an earlier question, spaces aside, and how many of them change its answer."""
    answers: dict[int, str] = {}  # by the question's hash: of a million questions none is kept twice
    repeats = others = 0
    for problem in problems:
        question = hash(" ".join(problem.question.split()))
        repeats += question in answers
        others += answers.setdefault(question, problem.answer) != problem.answer
    if repeats:
        changed = f", {others} of them with another answer" if others else ""
        print(f"{name}: {repeats} of {len(problems)} rows repeat a question{changed}; all are kept", file=sys.stderr)


def digest(problems: list[Problem]) -> str:
    """Eight bytes that tell problem sets apart, as hex."""
    hashed = blake2b(digest_size=8)
    for problem in problems:  # a million of them as one text would take a gigabyte
        hashed.update(repr(problem).encode("utf-8", "replace"))
    return hashed.hexdigest()


def queries_of_step(problems: int, queries: int, seed: int, step: int) -> list[int]:
    """Which of the problems step number `step` samples: every epoch goes through all of them in an order of its own."""
    places = range(step * queries, (step + 1) * queries)
    epochs = range(places[0] // problems, places[-1] // problems + 1)
    orders = {e: _order(problems, seed, e) for e in epochs}
    return [orders[place // problems][place % problems] for place in places]


@functools.lru_cache(maxsize=2)  # a million problems are not shuffled again for every step
def _order(problems: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"{seed} epoch {epoch}").sample(range(problems), problems)


# -------------------------------------------------------------------------------------------------------------- prompts


class Prompts(Sequence):
    """Many prompts in little memory: their ids one after the other, 4 bytes each. One that is asked for is a list."""

    def __init__(self, prompts: Iterable[list[int]] = ()):
        self.ids, self.ends = array("i"), array("q", [0])
        self.extend(prompts)

    def extend(self, prompts: Iterable[list[int]]):
        """Add some."""
        for ids in prompts:
            self.ids.extend(ids)
            self.ends.append(len(self.ids))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> list[int]:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self.ids[self.ends[i] : self.ends[i + 1]].tolist()


def prompts_of(problems: list[Problem], tokenizer, templates: Templates, **chat) -> Prompts:
    """The ids of each problem's plain prompt. `chat` goes to `prompt_ids`."""
    made = Prompts()
    with _bar("tokenising", "problem", len(problems)) as bar:
        for start in range(0, len(problems), 1024):
            texts = [templates.plain.format(question=p.question) for p in problems[start : start + 1024]]
            made.extend(prompt_ids(tokenizer, texts, **chat))
            bar.update(len(texts))
    return made


def _bar(what: str, unit: str, total: int | None = None) -> tqdm:
    """A progress bar for what may take long, once for all processes."""
    return tqdm(total=total, desc=what, unit=unit, unit_scale=True, delay=3, leave=False, disable=not _first())


def _first() -> bool:
    """Whether this is the first of the processes that torchrun may have started."""
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
