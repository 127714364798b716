"""Problem sets and prompts.

A problem is a question and the answer that a response is verified against. A set is a JSON-lines file, one object a
line.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import reflect

QUESTION_FIELDS = ("problem", "question")
ANSWER_FIELDS = ("answer",)


@dataclass(frozen=True)
class Problem:
    """A question and its gold answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Templates:
    """How prompts are worded: `plain` has the field {question}, `synthesis` {question}, {wrong} and {right}, `teacher`
    (OPSD's) {question} and {right}."""

    plain: str
    synthesis: str
    teacher: str = field(repr=False)  # no part of a cold start, whose recipe is this object's repr


TEMPLATES = Templates(
    plain="{question}\n\nReason step by step, and put your final answer within \\boxed{{}}.",
    synthesis=reflect.SYNTHESIS,
    teacher="{question}\n\nAn attempt at this problem that ends right:\n\n{right}\n\nNow solve it yourself, with this "
    "attempt in mind. Reason step by step, and put your final answer within \\boxed{{}}.",
)


def load(path: str) -> list[Problem]:
    """The problems of a JSON-lines file. Raises ValueError naming file, line and reason when a row cannot be used."""
    file = Path(path)
    if not file.is_file():
        raise ValueError(
            f"there is no data file '{path}': give a JSON-lines file with a problem and an answer a line, or toy"
        )
    problems = []
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: byte {error.start} cannot be read") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                problems.append(_problem(json.loads(line)))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    if not problems:
        raise ValueError(f"{path} holds no problems")
    return problems


def _problem(row) -> Problem:
    if not isinstance(row, dict):
        raise ValueError("a row must be a JSON object")
    question, answer = _field(row, QUESTION_FIELDS), _field(row, ANSWER_FIELDS)
    if isinstance(answer, int) and not isinstance(answer, bool):
        answer = str(answer)
    for name, value in (("/".join(QUESTION_FIELDS), question), ("/".join(ANSWER_FIELDS), answer)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"the field {name} is missing, empty or no text")
    return Problem(question.strip(), answer.strip())


def _field(row, names):
    return next((row[name] for name in names if name in row), None)


def prompt_ids(tokenizer, texts: list[str]) -> list[list[int]]:
    """Each text as a user's turn in the tokeniser's chat template, up to where the response begins. A tokeniser without
    a template (a base model's) gets the text and a line break."""
    if not texts:
        return []
    if not tokenizer.chat_template:
        return tokenizer([text + "\n" for text in texts]).input_ids
    turns = [[{"role": "user", "content": text}] for text in texts]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return tokenizer(rendered, add_special_tokens=False).input_ids
