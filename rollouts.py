"""What the policy does before it learns: it samples responses, which are judged, and rewrites its wrong ones.

    G_orig   K responses to each query
    G_ref    constructed trajectories y_ref: a wrong response y- up to its error, and a turn (reflect.py)
    G_syn    the synthesis outputs that those were made of

One record a response, frozen, from the sampler to the log: a `Response` is a sampler's completion with its text and
what is known of it. Text is decoded once, and reward and reflection are decided once, by the process that sampled it.

The reward is a parameter, reward(text, problem) -> float or bool: by default 1 where verifier.py finds the problem's
answer. Above 0 is right. A response that was cut at its limit gets 0 without being looked at.

Several processes share the prompts; each gets the records of all.
"""

import contextlib
import importlib.util
import inspect
import math
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from textwrap import shorten

import torch

import checkpoint
import config
import data
import metrics
import parallel
import policy
import toy
from config import Prompting, Sampling
from data import Problem
from reflect import Construction, construct, reflects
from sampler import Completion, Engine, NotFinite, Sampler
from tapo import ORIG, REF, SYN, ots_weights, select_candidates
from verifier import extract_answer, verify

Reward = Callable[[str, Problem], float]


@dataclass(frozen=True)
class Response(Completion):
    """A completion, judged. A constructed trajectory is one that was never sampled: it has no log-probabilities."""

    query: int  # of its problem: the number among the step's queries; in an evaluation, in the set
    prompt: list[int]
    text: str
    reward: float
    reflects: bool

    @property
    def correct(self) -> bool:
        """Whether it counts as right."""
        return self.reward > 0

    def row(self) -> dict:
        """What a log keeps of it."""
        row = {"problem": self.query, "text": self.text, "correct": self.correct, "reflects": self.reflects}
        return row | {"finished": self.finished, "tokens": len(self.ids), "final": extract_answer(self.text)}


@dataclass(frozen=True)
class Attempt:
    """A construction that was tried: of what, and what became of it."""

    problem: Problem
    wrong: Response  # y-
    right: Response  # y+
    task: str  # the synthesis task, as it was put to the policy
    construction: Construction
    output: Response | None = None  # of the synthesis task; its reward is that of y_ref, or 0 if there is none
    trajectory: Response | None = None  # y_ref, when it was kept


# -------------------------------------------------------------------------------------------------------------- judging


def exact(text: str, problem: Problem) -> float:
    """The default reward: 1 where the final answer of the text is the problem's, else 0."""
    return float(verify(text, problem.answer))


class CodeError(ValueError):
    """Code of the user's (a reward, an engine) cannot be used, or failed; the message is one sentence with file and
    line."""


def load_reward(place: str | None) -> Reward:
    """The reward function of FILE.py:FUNCTION, or `exact` where there is none. Raises CodeError when it cannot be
    loaded; the function raises it whenever it fails, or gives something else than a finite number or a bool."""
    if not place:
        return exact
    function = _named("--reward", place, "function", callable)

    def reward(text: str, problem: Problem) -> float:
        with _users("--reward", place, function):
            value = function(text, problem)
            if not math.isfinite(value):
                raise ValueError(f"it gave {value}, not a finite number")
            return float(value)

    return reward


def load_engine(place: str | None) -> type[Engine]:
    """The engine of FILE.py:CLASS, a subclass of `sampler.Engine`, or `Sampler` where there is none. Raises CodeError
    when it cannot be loaded; the engine raises it when it fails, or gives what `Engine.sample` does not promise."""
    if not place:
        return Sampler
    found = _named("--engine", place, "class", lambda made: isinstance(made, type) and issubclass(made, Engine))

    class Checked(found):
        def __init__(self, *given, **named):
            with _users("--engine", place, found.__init__):
                super().__init__(*given, **named)

        def sample(self, prompts, n=1, *, max_new_tokens, **how):
            limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
            with _users("--engine", place, found.sample):
                groups = super().sample(prompts, n, max_new_tokens=max_new_tokens, **how)
                _as_promised(groups, n, limits, self)
            return groups

    Checked.__name__ = found.__name__
    return Checked


def _as_promised(groups: list[list[Completion]], n: int, limits: list[int], engine: Engine):
    """Raises ValueError about completions that are not what `Engine.sample` says."""
    if groups is None or [*map(len, groups)] != [n] * len(limits):
        raise ValueError(f"it did not give {n} completions of each of {len(limits)} prompts")
    vocabulary = engine.model.get_input_embeddings().weight.shape[0]
    for i, (group, limit) in enumerate(zip(groups, limits)):
        for one in group:
            ids, logprobs = one.ids, one.logprobs
            if not 0 < len(ids) <= limit or len(logprobs) != len(ids):
                wrong = f"{len(ids)} ids and {len(logprobs)} log-probabilities, where it may have 1 to {limit} of both"
            elif not all(type(id_) is int and 0 <= id_ < vocabulary for id_ in ids):
                wrong = f"an id that is none of the model's {vocabulary}"
            elif not all(-math.inf < logprob < 1e-3 for logprob in logprobs):  # rounding may bring one above 0
                wrong = "a log-probability that cannot be one"
            elif one.finished != (ids[-1] in engine.eos_ids):
                wrong = f"the last id {ids[-1]} and finished={one.finished}"
            else:
                continue
            raise ValueError(f"a completion of prompt {i} has {wrong}")


def _named(flag: str, place: str, kind: str, fits: Callable):
    """What a flag names as FILE.py:NAME. Raises CodeError with one sentence where there is none, or it does not fit."""
    file, _, name = place.rpartition(":")
    if not file.endswith(".py") or not Path(file).is_file() or not name:
        told = f"name a Python file that exists and a {kind} in it, FILE.py:{kind.upper()}"
        raise CodeError(f"{flag} {place}: {told}")
    module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location(f"{flag} {file}", file))
    sys.modules[spec.name] = module  # a dataclass looks its module up there
    with _users(flag, place):
        spec.loader.exec_module(module)
        if not fits(found := getattr(module, name)):
            raise TypeError(f"{name} is no {kind if kind != 'class' else 'subclass of sampler.Engine'}")
    return found


@contextlib.contextmanager
def _users(flag: str, place: str, function: Callable | None = None):
    """In this block code of the user's runs: `function`, or a file as a whole. What it raises becomes a CodeError. But
    broken weights are not its fault."""
    try:
        with config.parent_only():
            yield
    except NotFinite:
        raise
    except (Exception, SystemExit) as error:
        raise CodeError(f"{flag} {place}: {_where(error, place.rpartition(':')[0], function)}") from None


def _where(error: Exception, file: str, function: Callable | None) -> str:
    """An error in one sentence, with the last line of `file` that led to it; if none did, that of the function."""
    told = str(error.msg) if isinstance(error, SyntaxError) else str(error)  # str() of a SyntaxError adds its place
    said = f"{type(error).__name__}: {' '.join(told.split())}"
    if isinstance(error, SyntaxError) and Path(error.filename or "").is_file():  # `file`, or one that it imports
        return f"{said} ({error.filename}, line {error.lineno})"
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if code := getattr(inspect.unwrap(function), "__code__", None) if function else None:
        places.insert(0, (code.co_filename, code.co_firstlineno))
    lines = [line for name, line in places if Path(name).resolve() == Path(file).resolve()]
    return f"{said} ({file}, line {lines[-1]})" if lines else said


def judge(
    completion: Completion, tokenizer, query: int, prompt: list[int], problem: Problem, reward: Reward
) -> Response:
    """Decode a completion and decide what is known of it."""
    text = decode(tokenizer, completion.said)
    value = reward(text, problem) if completion.finished else 0.0
    return Response(**vars(completion), query=query, prompt=prompt, text=text, reward=value, reflects=reflects(text))


def decode(tokenizer, ids: list[int]) -> str:
    """The text that ids spell, to the letter; special tokens spell nothing."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def evaluate(
    sampler: Engine, tokenizer, problems: list[Problem], prompts: list[list[int]], n: int, reward: Reward, **sampling
) -> list[Response]:
    """n responses to each problem, problem by problem. Equal prompts share their completions. `sampling` goes to
    `Engine.sample`."""
    distinct = list(dict.fromkeys(map(tuple, prompts)))
    groups = dict(zip(distinct, sampler.sample([list(prompt) for prompt in distinct], n, **sampling)))
    return [
        judge(completion, tokenizer, i, prompt, problem, reward)
        for i, (problem, prompt) in enumerate(zip(problems, prompts))
        for completion in groups[tuple(prompt)]
    ]


def problems_of(name: str, held_out: bool = False, reward: str | None = None) -> list[Problem]:
    """The problems of a set; of the toy those to train on, or those held out. For a `reward` of the user's, with their
    rows."""
    return toy.problems()[held_out] if name == "toy" else data.load(name, whole=reward is not None)


# ------------------------------------------------------------------------------------------------------------ prompting


def prompting_of(tokenizer, how: Prompting) -> tuple[data.Templates, dict]:
    """How a model is prompted, in whatever program: its templates, and what goes to the chat template beside each text
    (`data.prompt_ids`). A chat template that was given becomes the tokeniser's own, with which it is saved."""
    templates = toy.TEMPLATES if toy.speaks(tokenizer) else data.TEMPLATES
    if how.prompt_template:
        plain = data.worded(how.prompt_template, *config.HOLES["prompt_template"])
        templates = replace(templates, plain=plain)
    if how.synthesis_template:
        task = data.worded(how.synthesis_template, *config.HOLES["synthesis_template"])
        templates = replace(templates, synthesis=task, anew=task)
    if how.chat_template:
        tokenizer.chat_template = how.chat_template
    chat = {"enable_thinking": how.thinking == "on"} if how.thinking else {}
    return templates, chat | ({"system": how.system} if how.system else {})


def prompted_as_made(given: dict, model: str) -> dict:
    """`given`, and the prompting of the run or cold start that made `model` where none is given. What is taken over,
    and what is given and differs, is told on stderr."""
    made, place = made_with(model)
    names = [one.name for one in fields(Prompting) if one.default is None]
    made = config.typed(Prompting, {name: made.get(name) or None for name in names if place}, place)
    taken = [name for name, value in made.items() if value and name not in given]
    differ = [name for name, value in made.items() if name in given and (given[name] or None) != value]
    for some, told in ((taken, "prompting as in {}: {}"), (differ, "{}, which made the model, had another {}")):
        if some and parallel.rank() == 0:
            print(told.format(place, ", ".join(map(config.flag_of, some))), file=sys.stderr)
    return given | {name: made[name] for name in taken}


def context_of(model) -> int:
    """How many tokens a prompt and its response may have together."""
    return getattr(model.config, "max_position_embeddings", None) or sys.maxsize


def fitting(
    problems: list[Problem], prompts: list[list[int]], limit: int, model, how: Prompting, name: str
) -> tuple[list[Problem], list[list[int]]]:
    """The problems of a set, and their prompts, that leave room for a response of `limit` tokens. Raises ValueError
    about the first other one; or if such ones are to be dropped, a sentence on stderr tells how many there are."""
    context = context_of(model)
    fits = [len(prompt) + limit <= context for prompt in prompts]
    if all(fits):
        return problems, prompts
    first = fits.index(False)
    words = f"'{shorten(problems[first].question, 50, placeholder=' ...')}'"
    told = f"problem {first + 1} of {name}, {words}, has a prompt of {len(prompts[first])} tokens"
    beside = f"a response may get {limit} more, and the model's context holds {context}"
    if not how.drop_long_prompts:
        raise ValueError(f"{told}; {beside}: lower --max-new-tokens, or drop such problems with --drop-long-prompts")
    if not any(fits):
        raise ValueError(f"no problem of {name} fits the model: {told}; {beside}: lower --max-new-tokens")
    if parallel.rank() == 0:
        print(f"{name}: dropped {fits.count(False)} of {len(fits)} problems: {told}; {beside}", file=sys.stderr)
    kept = [i for i, fit in enumerate(fits) if fit]
    return [problems[i] for i in kept], data.Prompts(prompts[i] for i in kept)


def made_with(model: str) -> tuple[dict, Path | None]:
    """The settings of the run or cold start that made a model's folder, and their file; ({}, None) where none did.
    Raises ValueError when a run has a file that cannot be read."""
    folder, run = Path(model), Path(model).resolve().parent.parent.parent  # RUN/model is a link to a checkpoint's
    if (run / "checkpoints").is_dir() and (run / "config.json").is_file():
        return checkpoint.begun(run / "config.json"), run / "config.json"
    for place in (folder.parent / "config.json", folder.parent / "data.json"):
        with contextlib.suppress(ValueError, OSError):  # none, or somebody else's
            return checkpoint.begun(place), place
    return {}, None


# --------------------------------------------------------------------------------------------------------------- acting


class Actor:
    """A policy that answers problems and rewrites its wrong answers."""

    def __init__(
        self,
        model,
        tokenizer,
        problems: list[Problem],
        sampling: Sampling,
        *,
        seed: int,
        prompting: Prompting | None = None,
        name: str = "the problems",
        reward: Reward = exact,
        engine: type[Engine] | None = None,
        constructs: bool = True,
        anew: bool = False,
        worked: str = "",
    ):
        """`engine`: what samples (default: that of `sampling`); `constructs`: whether it will be asked to construct;
        `anew`: the ablation "full reconstruction"; `worked` is put in front of the synthesis task; `name` is the set's.
        Raises ValueError when a prompt does not fit, unless such problems are to be dropped: self.problems are the
        others."""
        self.model, self.tokenizer, self.sampling = model, tokenizer, sampling
        self.prompting = prompting or Prompting()
        self.seed, self.reward, self.anew, self.worked = seed, reward, anew, worked
        self.templates, self.chat = prompting_of(tokenizer, self.prompting)
        self.task = self.templates.anew if anew else self.templates.synthesis
        self.context = context_of(model)
        engine = engine or load_engine(sampling.engine)
        self.sampler = engine(model, eos_ids=policy.eos_ids(model, tokenizer), slots=sampling.slots)
        self.problems, self.prompts = self.fitting(problems, name)
        self.sampler.check(self.prompts, sampling.k, sampling.max_new_tokens, sampling.temperature)
        if constructs:
            self._check_synthesis()

    def _check_synthesis(self):
        shortest = min(self.problems, key=lambda problem: len(problem.question))
        task = self.worked + self.task.format(question=shortest.question, wrong="", right="")
        [prompt], limit = self.prompt_ids([task]), self.sampling.max_synthesis_tokens
        if len(prompt) + limit > self.context:
            raise ValueError(
                f"no synthesis task fits: the shortest prompt has {len(prompt)} tokens, --max-synthesis-tokens are "
                f"{limit}, and the model's context holds {self.context}: lower the limit"
            )

    def fitting(self, problems: list[Problem], name: str) -> tuple[list[Problem], list[list[int]]]:
        """The problems of a set that fit, and their prompts: see `fitting`."""
        prompts = data.prompts_of(problems, self.tokenizer, self.templates, **self.chat)
        return fitting(problems, prompts, self.sampling.max_new_tokens, self.model, self.prompting, name)

    def prompt_ids(self, texts: list[str]) -> list[list[int]]:
        """Texts as this model is prompted with them: a problem's, a synthesis task, a teacher's."""
        return data.prompt_ids(self.tokenizer, texts, **self.chat)

    def sample(self, queries: list[int], step: int) -> list[list[Response]]:
        """G_orig, [Q][K]: K responses to each of some problems, given by their numbers."""
        prompts, limit = [self.prompts[q] for q in queries], self.sampling.max_new_tokens

        def judged(i: int, completions: list[Completion]) -> list[Response]:
            problem = self.problems[queries[i]]
            return [judge(c, self.tokenizer, i, prompts[i], problem, self.reward) for c in completions]

        return self._share(prompts, self.sampling.k, limit, step, "rollouts", judged)

    def construct(
        self, queries: list[int], groups: list[list[Response]], pairs: list[tuple[int, int, int]], step: int
    ) -> list[Attempt]:
        """G_ref and G_syn: what becomes of each pair (query, index of y-, index of y+) of `groups`."""
        if not pairs:
            return []
        attempts = []
        for query, negative, positive in pairs:
            problem, wrong, right = self.problems[queries[query]], groups[query][negative], groups[query][positive]
            task = self.task.format(question=problem.question, wrong=wrong.text, right=right.text)
            attempts.append(Attempt(problem, wrong, right, task, Construction("too_long_prompt")))
        prompts = self.prompt_ids([self.worked + attempt.task for attempt in attempts])
        limit = self.sampling.max_synthesis_tokens
        fitting = [i for i, prompt in enumerate(prompts) if len(prompt) + limit <= self.context]

        def spliced(i: int, outputs: list[Completion]) -> tuple:
            return self._splice(attempts[fitting[i]], prompts[fitting[i]], outputs[0])

        made = self._share([prompts[i] for i in fitting], 1, limit, step, "constructions", spliced)
        for i, (construction, output, trajectory) in zip(fitting, made):
            attempts[i] = replace(attempts[i], construction=construction, output=output, trajectory=trajectory)
        return attempts

    def _splice(self, tried: Attempt, prompt: list[int], output: Completion):
        """Parse, check and splice a synthesis output; what is kept is judged like any response. What becomes of an
        attempt: its construction, its output, and y_ref or None."""
        wrong, said, trajectory = tried.wrong, decode(self.tokenizer, output.said), None
        made = construct(
            wrong.said,
            said,
            finished=output.finished,
            decode=lambda ids: decode(self.tokenizer, ids),
            encode=lambda text: self.tokenizer(text, add_special_tokens=False).input_ids,
            eos_id=tried.right.ids[-1],  # a right response ended, and so
            max_tokens=self.sampling.max_new_tokens,
            verbatim=not self.anew,
        )

        def response(of: Completion, prompt: list[int], text: str, reward: float) -> Response:
            known = {"query": wrong.query, "prompt": prompt, "text": text, "reward": reward}
            return Response(**vars(of), **known, reflects=reflects(text))

        if made.outcome == "kept":
            text = made.prefix + made.turn
            reward = self.reward(text, tried.problem)
            trajectory = response(Completion(made.ids, [], True), wrong.prompt, text, reward)
        return made, response(output, prompt, said, trajectory.reward if trajectory else 0.0), trajectory

    def attempts(self, queries: list[int], m_max: int, step: int) -> tuple[list[list[Response]], list[Attempt]]:
        """Responses to some problems, [Q][K]; and what becomes of rewriting up to m_max wrong ones of each that has a
        right one: as in training, but for the queries that DCS would leave out."""
        groups = self.sample(queries, step)
        correct_QK = [[response.correct for response in group] for group in groups]
        pairs = select_candidates(correct_QK, 1, 1, m_max, f"{self.seed} {step}")
        return groups, self.construct(queries, groups, pairs, step)

    def teach(self, queries: list[int], groups: list[list[Response]], step: int) -> list[list[list[int] | None]]:
        """OPSD's teachers, [Q][K]: the prompt that holds another right response of the group, drawn at random. None for
        a response of a group without one, or whose prompt does not fit the context."""
        taught, texts = [[None] * len(group) for group in groups], {}
        for i, group in enumerate(groups):
            rng, question = random.Random(f"{self.seed} {step} {i}"), self.problems[queries[i]].question
            for j, response in enumerate(group):
                if right := [other for other in group if other.correct and other is not response]:
                    texts[i, j] = self.templates.teacher.format(question=question, right=rng.choice(right).text)
        for (i, j), prompt in zip(texts, self.prompt_ids(list(texts.values()))):
            if len(prompt) + len(groups[i][j].ids) <= self.context:
                taught[i][j] = prompt
        return taught

    def _share(self, prompts, n: int, limit: int, step: int, progress: str, made: Callable) -> list:
        """What `made(i, completions)` makes of n completions of each prompt, prompt by prompt, on every process; each
        makes its share. Raises parallel.Stopped when one of them was told to stop."""

        def work() -> dict:
            mine = parallel.deal(list(map(tuple, prompts)))
            sampled = self.sampler.sample(
                [prompts[i] for i in mine], n, max_new_tokens=limit, temperature=self.sampling.temperature,
                seed=(self.seed << 32) + step, progress=progress if parallel.heard() else "",
            )  # fmt: skip
            return {i: made(i, completions) for i, completions in zip(mine, sampled)}

        whole = {i: one for part in parallel.together(work) for i, one in part.items()}
        return [whole[i] for i in range(len(prompts))]


# ------------------------------------------------------------------------------------------------- does a start turn?

ENOUGH, ASKED = 48, 64  # constructions to measure a start on; problems to make them of, at most
Made = tuple[list[int], list[int], int]  # a construction: the plain prompt, y_ref, and how many of its ids are y-'s


def constructions(actor: Actor, problems: Sequence[int]) -> list[Made]:
    """Some constructions that a policy makes of its own responses to some problems, given by their numbers: ENOUGH, if
    they come of ASKED."""
    made = []
    for first in range(0, min(ASKED, len(problems)), 16):
        if len(made) >= ENOUGH:
            break
        _, attempts = actor.attempts(problems[first : first + 16], 4, first)
        made += [(a.trajectory.prompt, a.trajectory.ids, a.construction.kept) for a in attempts if a.trajectory]
    return made[:ENOUGH]


def turning(actor: Actor, made: list[Made]) -> str:
    """What the figures of some constructions (metrics.of_turns) say of a start: whether it turns by itself."""

    @torch.no_grad()
    def work() -> str:
        network, columns = policy.Policy(actor.model), ({}, {})
        for rows in policy.micro_batches([len(prompt) + len(ids) for prompt, ids, _ in made], 16384):
            lengths = [len(made[i][1]) for i in rows]
            logprobs_N, entropy_N = network(*zip(*(made[i][:2] for i in rows)), actor.sampling.temperature)
            for column, values_N in zip(columns, (logprobs_N, ots_weights(logprobs_N, entropy_N))):
                column.update(zip(rows, (part.tolist() for part in values_N.split(lengths))))
        ordered = ([column[i] for i in range(len(made))] for column in columns)
        return metrics.turning(len(made), metrics.of_turns([one[1:] for one in made], *ordered, actor.tokenizer))

    return parallel.first(work)


# --------------------------------------------------------------------------------------------- what an update trains on


class Batch:
    """What an update trains on: B rows, which are responses, and what the update adds to each of them: columns, [B].
    The last row is idle: it stands in where a process has no micro-batch while others have, and counts nothing."""

    def __init__(self, orig: list[Response], ref: list[Response], syn: list[Response], advantages, teachers=()):
        """`advantages`, of the rows of the three groups in turn; `teachers`: prompts, or None, of those of G_orig."""
        idle = Response([0], [0.0], True, query=-1, prompt=[0], text="", reward=0.0, reflects=False)
        self.rows = [*orig, *ref, *syn, idle]
        nothing = [None] * len(self.rows)
        self.length = [len(row.ids) for row in self.rows]
        self.group = [ORIG] * len(orig) + [REF] * len(ref) + [SYN] * len(syn) + [ORIG]
        self.advantage = [*torch.as_tensor(advantages, dtype=torch.float32).tolist(), 0.0]
        self.coefficient = [0.0] * len(self.rows)  # what one of its tokens counts in the loss
        self.teachers: list[list[int] | None] = [*teachers, *nothing[len(teachers) :]]
        self.old: list[list[float] | None] = [*nothing]  # log-probabilities before the update: G_ref's, or all frozen
        self.weights: list[list[float] | None] = [*nothing]  # OTS weights
        self.idle = [len(self.rows) - 1]

    def parts(self, count: int) -> list[list[int]]:
        """The rows, by their queries, in `count` parts."""
        return [[i for i, row in enumerate(self.rows[:-1]) if row.query % count == part] for part in range(count)]

    def of(self, group: int, among: Iterable[int] | None = None) -> list[int]:
        """The rows of one group, all or those `among` some."""
        return [i for i in (range(len(self.rows) - 1) if among is None else among) if self.group[i] == group]

    def each_token(self, column: list, rows: list[int]) -> torch.Tensor:
        """A column's values [N], one for each token of these rows."""
        lengths = torch.tensor([self.length[i] for i in rows])
        return torch.tensor([column[i] for i in rows]).repeat_interleave(lengths)

    def keep(self, rows: list[int], **values_N: torch.Tensor):
        """Keep, row by row, values over the tokens of these rows."""
        for name, values in values_N.items():
            for i, part in zip(rows, values.split([self.length[i] for i in rows])):
                getattr(self, name)[i] = part.tolist()

    def share(self):
        """Let all processes know what each of them kept."""
        mine = {i: (self.old[i], self.weights[i]) for i, kept in enumerate(self.weights) if kept}
        for part in parallel.gather(mine if parallel.size() > 1 else {}):
            for i, kept in part.items():
                self.old[i], self.weights[i] = kept
