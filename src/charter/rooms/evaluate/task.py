"""What an evaluation is: one frozen declaration, its questions, and the words in which it asks them.

A task is one file in `tasks/` that ends in `TASK = Task(...)`, and one line in `catalogue.py`. Importing it doesn't
load torch: whatever asks a model is a method of the context (`context.py`).

A question with worked examples is one running text, or turns of the model's chat template. In both forms everything
before the answer is the same, so a shared beginning is computed once (card section 4.3; Bai 2022a, appendix E:
examples come from a development split, never from the one that is scored).
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from charter.ground.measure import counts
from charter.ground.measure.metric import VERSION, Metric
from charter.ground.measure.reporting import Reported
from charter.ground.model.generation import Decoding
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.roles import Role
from charter.ground.text.dialogue import Message, assistant, user

if TYPE_CHECKING:
    from charter.rooms.evaluate.context import Context

LETTERS = string.ascii_uppercase
CONTAMINATION = "contamination.jsonl"
UNANSWERED = ("unparsed", "too long", "environment failed")
Form = Literal["text", "chat"]
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


class Change(Frozen):
    """Changes to a task's protocol; all of them are part of the score's identity."""

    limit: int | None = Field(None, ge=0, description="questions asked, drawn by seed; 0: all")
    shots: int | None = Field(None, ge=0, description="worked examples before each question")
    form: Form | None = Field(
        None, description="text: one running text; chat: turns of the model's chat template"
    )
    temperature: float | None = Field(None, ge=0, description="sampling temperature")
    samples: int | None = Field(None, ge=1, description="answers sampled per question")
    max_tokens: int | None = Field(None, ge=1, description="longest answer")


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

    def use_decoding(self, own: Decoding, change: Change) -> Protocol:
        """The protocol with the model's own decoding, if it samples free answers and nobody set their temperature."""
        if not (self.temperature and self.max_tokens) or change.temperature is not None:
            return self
        return replace(self, temperature=own.temperature, top_p=own.top_p, top_k=own.top_k)

    @property
    def decoding(self) -> Decoding:
        """How answers are drawn."""
        return Decoding(self.temperature, self.top_p, self.top_k)


@dataclass(frozen=True, slots=True)
class Task:
    """An evaluation.

    `title` and `group`: its name in tables, and the card's table that it stands in. `questions(context)` reads and
    draws its data before a model answers anything. `rows(context, questions)` asks, and returns the rows of
    samples/<name>.jsonl; `beside(context, rows)` returns further files that follow from these, and
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

    @property
    def data_role(self) -> str:
        """The role of its data; tasks with the same questions share one."""
        return self.data or self.name

    @property
    def numbers(self) -> tuple[Metric, ...]:
        """Its metrics, each with the task's own fields filled in."""
        own = (*self.metrics, *((contamination_rate(self.name),) if self.searched else ()))
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
            for metric in own
        )

    def _label(self, name: str) -> str:
        part = name.removeprefix(self.name).strip("_").replace("_", " ")
        return f"{self.title}, {part}" if part else self.title

    def rule(self, identity: Mapping[str, Any]) -> Rule | None:
        """The rule for the marks of a kept row; None if rows have no marks. `identity`: the task's identity."""
        return self.marks_by(identity) if self.marks_by else self.marks


def accuracy(name: str, meaning: str, label: str = "") -> Metric:
    """The share of questions answered right."""
    return Metric(name, "", counts.mean("correct"), "higher", meaning, label=label)


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
