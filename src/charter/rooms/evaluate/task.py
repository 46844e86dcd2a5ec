"""What an evaluation is: one frozen declaration, its questions, and the words in which it asks them.

A task is one file in `tasks/` that ends in `TASK = Task(...)`, and one line in `catalogue.py`. Importing it doesn't
load torch: what needs it stands behind `context.models`. `Context` is what a task works with; `asking.py` and
`replying.py` ask the models.

A question with worked examples is one running text, or turns of the model's chat template. In both forms everything
before the answer is the same, so a shared beginning is computed once (card section 4.3; Bai 2022a, appendix E:
examples come from a development split, never from the one that is scored).
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.detect import training_digest
from charter.ground.measure import counts
from charter.ground.measure.metric import GROUPS, VERSION, Metric
from charter.ground.measure.reporting import Reported
from charter.ground.model.generation import Decoding
from charter.ground.settings.room import Role
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, Message, assistant, user
from charter.ground.text.records import read_prompts
from charter.rooms.evaluate.options import Change as Change
from charter.rooms.evaluate.options import Form as Form
from charter.rooms.evaluate.options import Options

if TYPE_CHECKING:
    from charter.ground.generate.assistant import Assistant, LocalAssistant
    from charter.rooms.evaluate.models import Models
    from charter.rooms.evaluate.screening import Screening

T = TypeVar("T")

LETTERS = string.ascii_uppercase
CONTAMINATION = "contamination.jsonl"
UNANSWERED = ("unparsed", "too long", "environment failed")
Prompt = str | list[Message]
Row = dict[str, Any]
Rows = list[Row]
Marks = Mapping[str, Any]
Rule = Callable[[Mapping[str, Any]], Marks]

# The fields of `Change` that alter how a task is asked.
SAMPLED = ("limit", "form", "temperature", "samples", "max_tokens")
# The likeliest letter, or the letter that an answer names.
CHOSEN = ("limit", "form", "temperature", "max_tokens")
# Dialogues are always chats.
REPLIES = ("limit", "temperature", "samples", "max_tokens")
SCORED = ("limit",)


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a task is asked. `max_tokens` 0: nothing is sampled, options are scored. `limit` 0: all questions."""

    shots: int = 0
    form: Form = "chat"
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    samples: int = 1
    max_tokens: int = 0
    limit: int = 0

    def apply_change(self, limit: int, change: Change) -> Protocol:
        """The protocol with the room's limit, if it has one, and the changes of one task."""
        fields = {"limit": limit or self.limit}
        return replace(self, **fields | {k: v for k, v in change.model_dump().items() if v is not None})

    def use_decoding(self, decoding: Decoding, change: Change) -> Protocol:
        """The protocol with the model's own decoding, if it samples free answers and nobody set their temperature."""
        if not (self.temperature and self.max_tokens) or change.temperature is not None:
            return self
        return replace(self, temperature=decoding.temperature, top_p=decoding.top_p, top_k=decoding.top_k)

    @property
    def decoding(self) -> Decoding:
        """How answers are drawn."""
        return Decoding(self.temperature, self.top_p, self.top_k)


@dataclass(frozen=True, slots=True)
class Task:
    """An evaluation.

    `title` and `group`: its name in tables, and the card's table that it stands in, one of `GROUPS`.
    `questions(context)` reads and draws its data before a model answers anything. `rows(context, questions)` asks, and
    returns the rows of samples/<name>.jsonl; `beside(context, rows)` returns further files that follow from these, and
    `after(context, reported)` writes one that follows from the whole report's numbers. `marks` computes the
    marks of a kept row from its answer; `marks_by` gives such a rule from the task's identity. `role`: the role of its
    data, with the default of a recipe that names none; `reads`: roles of further data; `standard`: the path of the
    published set under CHARTER_DATA. `takes`: fields of a change that alter something. `needs`: roles of models that
    it can't run without. `cost`: about how many tokens a question reads and writes. `chunk`: answers sampled together.
    `searched`: the contamination check looks for its questions in the training data. `detecting`: marks depend on what
    the detectors learnt from. `harmful`: its rows may hold harmful text. `chance`: the score of guessing. `version`
    goes up when its words, its parsing or its scorer change.
    """

    name: str
    title: str
    questions: Callable[[Context], Sequence[Any]]
    rows: Callable[[Context, Any], Rows]
    metrics: tuple[Metric, ...]
    role: Role
    group: str = ""
    protocol: Protocol = Protocol()
    takes: tuple[str, ...] = SAMPLED
    marks: Rule | None = None
    marks_by: Callable[[Mapping[str, Any]], Rule] | None = None
    beside: Callable[[Context, Rows], Iterable[tuple[str, Rows]]] | None = None
    after: Callable[[Context, Reported], None] | None = None
    data: str = ""
    standard: str = ""
    reads: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    cost: tuple[int, int] = (200, 0)
    chunk: int = 64
    chance: float | None = None
    searched: bool = False
    detecting: bool = False
    harmful: bool = False
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.group and self.group not in GROUPS:
            raise ValueError(f"{self.name}: a card has no section for the group {self.group!r}; add it to GROUPS")

    @property
    def data_role(self) -> str:
        """The role of its data; tasks with the same questions share one."""
        return self.data or self.name

    @property
    def numbers(self) -> tuple[Metric, ...]:
        """Its metrics, each with the task's own fields filled in."""
        own_metrics = (*self.metrics, *((contamination_rate(self.name),) if self.searched else ()))
        return tuple(
            replace(
                metric,
                file=metric.file or f"{self.name}.jsonl",
                task=self.name,
                group=self.group,
                version=self.version,
                label=metric.label or self._label(metric.name),
                chance=self.chance if metric.name == self.name else metric.chance,
            )
            for metric in own_metrics
        )

    def _label(self, name: str) -> str:
        part = name.removeprefix(self.name).strip("_").replace("_", " ")
        return f"{self.title}, {part}" if part else self.title

    def rule(self, identity: Mapping[str, Any]) -> Rule | None:
        """The rule for the marks of a kept row; None if rows have no marks. `identity`: the task's identity."""
        return self.marks_by(identity) if self.marks_by else self.marks


def accuracy(name: str, meaning: str, label: str = "", **facts: Any) -> Metric:
    """The share of questions answered right; `facts` are further fields of Metric."""
    return Metric(name, "", counts.mean("correct"), "higher", meaning, label=label, **facts)


def unanswered_rate(name: str) -> Metric:
    """The share of questions without a readable answer."""
    words = f"{name}: answers in which no choice could be read, and questions that could not be asked"
    return Metric(f"{name}_unanswered", "", counts.outcome(*UNANSWERED), "lower", words, kind="fault")


def contamination_rate(name: str) -> Metric:
    """The share of a task's questions that occur in the model's training data."""
    words = f"{name}: questions that share 13 words in a row with what the model was taught"
    table = counts.flag("hit", counts.equal(task=name, checked=True))
    return Metric(f"{name}_contaminated", CONTAMINATION, table, "neither", words, about="data")


@dataclass(frozen=True, slots=True)
class Question:
    """One item of a data set.

    `right`: indexes of the right options. `accepted`: right free answers. `cluster`: the passage or template that
    several questions share. `group`: subject, dimension or language. `meta`: what else a scorer needs.
    """

    id: str
    text: str
    options: tuple[str, ...] = ()
    right: tuple[int, ...] = ()
    accepted: tuple[str, ...] = ()
    passage: str = ""
    cluster: str = ""
    group: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """A question as it is asked: `header` comes first, `shots` are pairs of question and answer, `lead` begins the
    answer ("Answer:")."""

    question: Question
    text: str
    lead: str = ""
    shots: Sequence[tuple[str, str]] = ()
    header: str = ""

    def prompt(self, form: Form) -> Prompt:
        """What the model reads; it continues after `lead`."""
        if form == "text":
            blocks = [f"{text}\n{self.lead} {answer}" for text, answer in self.shots]
            return "\n\n".join([*filter(None, [self.header]), *blocks, f"{self.text}\n{self.lead}"])
        turns: list[Message] = []
        for text, answer in self.shots:
            turns += [user(text), assistant(f"{self.lead} {answer}".strip())]
        turns.append(user(self.text))
        if self.header:
            turns[0] = user(f"{self.header}\n\n{turns[0]['content']}")
        return [*turns, assistant(self.lead)] if self.lead else turns


def format_question(question: Question, style: str = "{}.") -> str:
    """The passage, the question, and its options with a letter each: "A. first" """
    options = [f"{style.format(LETTERS[n])} {option}" for n, option in enumerate(question.options)]
    return "\n".join([*filter(None, [question.passage]), question.text, *options])


@dataclass(frozen=True, slots=True)
class Context:
    """One task on one model. `facts`: what the task adds to its score's identity. `summary`: what report.json says of
    the task besides. `drawn`: how many questions of how many in the data were drawn."""

    settings: Options
    inputs: Inputs
    out: Workspace
    models: Models
    task: Task
    protocol: Protocol
    screening: Screening
    facts: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task.detecting:
            self.facts["detectors"] = training_digest()

    @property
    def assistant(self) -> Assistant:
        """The model under test."""
        return self.models.assistant

    @property
    def local(self) -> LocalAssistant | None:
        """The model under test with its engine and template, if it runs on this machine."""
        return self.models.local

    @property
    def sources(self) -> list[Path]:
        """The files or folders of the task's data."""
        return [entry.folder for entry in self.inputs.many(self.task.data_role)]

    @property
    def source(self) -> Path:
        """The one file or folder of the task's data."""
        return self.inputs.one(self.task.data_role).folder

    @property
    def title(self) -> str:
        """The text of progress bars."""
        return f"{self.settings.stage}: {self.task.name}"

    @property
    def answers_together(self) -> int:
        """How many answers are sampled together and saved at once."""
        return self.settings.chunk or self.task.chunk

    @property
    def chunk(self) -> int:
        """How many questions are asked together, so that a chunk has about `answers_together` answers."""
        return max(1, self.answers_together // self.protocol.samples)

    def absent(self, why: str, *metrics: str) -> None:
        """Says in report.json and to the user why the task has no such metric."""
        self.summary.setdefault("absent", {}).update(dict.fromkeys(metrics, why))
        self.out.note(f"{self.task.name}: no {', '.join(metrics)}: {why}")

    def seed(self, *names: str | int) -> int:
        """A seed that depends only on the draw seed, the task and `names`; it is equal for every stage."""
        return derive_seed(self.settings.draw_seed, self.task.name, *names)

    def draw(self, rows: Sequence[T], seed: int | None = None) -> list[T]:
        """At most `limit` rows (0: all) in their order, the same for every stage."""
        limit = self.protocol.limit
        all_of_them = not limit or limit >= len(rows)
        self.drawn.update({"asked": len(rows) if all_of_them else limit, "of": len(rows)})
        if all_of_them:
            return list(rows)
        rng = random.Random(self.seed("draw") if seed is None else seed)
        return [rows[i] for i in sorted(rng.sample(range(len(rows)), limit))]

    def draw_evenly(self, rows: Sequence[T], stratum: Callable[[T], object]) -> list[T]:
        """At most `limit` rows (0: all), as many of each stratum as it has and the limit allows, in their order; the
        same for tasks that share a role."""
        limit = self.protocol.limit
        self.drawn.update({"asked": min(limit or len(rows), len(rows)), "of": len(rows)})
        if not limit or limit >= len(rows):
            return list(rows)
        rng = random.Random(derive_seed(self.settings.draw_seed, "draw", self.task.data_role))
        places: dict[object, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(stratum(row), []).append(place)
        strata = list(places.values())
        for stratum_places in strata:
            rng.shuffle(stratum_places)
        rng.shuffle(strata)
        in_turn = (place for layer in zip_longest(*strata) for place in layer if place is not None)
        return [rows[place] for place in sorted(islice(in_turn, limit))]

    def draw_of_role(self, rows: Sequence[T]) -> list[T]:
        """The same, by the seed of the data's role."""
        return self.draw(rows, derive_seed(self.settings.draw_seed, "draw", self.task.data_role))

    def prompts(self, reader: Callable[[Iterable[Path]], list[Dialogue]] = read_prompts) -> list[Dialogue]:
        """The drawn dialogues of the task's data, by default without the assistant's reference answers. Raises
        CharterError for a broken row, and for a dialogue that is too long for the model under test."""
        prompts = self.draw_of_role(reader(self.sources))
        self.models.check_prompts(prompts)
        return prompts

    def examples(self, pool: Sequence[T], subject: str = "") -> list[T]:
        """The protocol's number of worked examples, drawn from a pool that is not scored.

        Raises CharterError if the pool is too small.
        """
        shots = self.protocol.shots
        if shots > len(pool):
            raise CharterError(
                f"{self.task.name} needs {shots} worked examples and {subject or self.source} has {len(pool)}; "
                f"give more, or set change.{self.task.name}.shots"
            )
        if shots == len(pool):
            return list(pool)
        return random.Random(self.seed("examples", subject)).sample(list(pool), shots)
