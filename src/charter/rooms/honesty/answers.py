"""Training questions, the model's sampled answers to them, and which of them it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import Assistant
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.declining import RIGHT, by_accepted
from charter.ground.settings.seed import derive_seed, draw_rows
from charter.ground.text.columns import raw_rows
from charter.ground.text.dialogue import Message, user
from charter.ground.text.free_questions import BRIEFLY, accepted_answers
from charter.ground.text.invented import Fact, fact_of, with_twins
from charter.ground.text.records import check_distinct, files_of
from charter.rooms.honesty.settings import Settings

KNOWN, UNKNOWN, BETWEEN = "known", "unknown", "between"
# Sets that only measure, as words of a reference, and their splits.
MEASURED = ("triviaqa", "truthfulqa")
SCORED = ("test", "heldout", "validation", "dev")
QUESTIONS = "questions.jsonl"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """A training question; without accepted answers nothing can be known of it."""

    id: str
    text: str
    accepted: tuple[str, ...]

    @property
    def messages(self) -> list[Message]:
        """What the model is asked, as the tasks on honesty ask it."""
        return [user(f"{self.text}\n{BRIEFLY}")]


def read_questions(settings: Settings, inputs: Inputs) -> list[Question]:
    """The drawn training questions with invented twins of those that name a thing. Raises CharterError for a set that
    only measures, and naming file:line for a broken row."""
    plain: list[Question | Fact] = []
    for source in inputs.many("questions"):
        if word := next((word for word in MEASURED if word in source.name.lower()), ""):
            raise CharterError(f"{source.name}: {word} measures honesty and must not be trained on; name another set")
        for file in files_of(source.folder, "questions"):
            for place, row in raw_rows(file):
                plain.append(_read(row, place, len(plain) + 1))
    plain = draw_rows(plain, settings.limit, derive_seed(settings.draw_seed, "questions"))
    facts = [item for item in plain if isinstance(item, Fact)]
    groups = with_twins(facts, derive_seed(settings.draw_seed, "names"), settings.twins) if settings.twins else ()
    questions = [item for item in plain if isinstance(item, Question)]
    questions += [
        Question(fact.id, fact.question, fact.accepted) for group in groups or ([f] for f in facts) for fact in group
    ]
    check_distinct("the training questions", (question.id for question in questions))
    return questions


def _read(row: Mapping[str, Any], place: str, number: int) -> Question | Fact:
    """A fact about a named thing, or a question in TriviaQA's columns."""
    if row.get("split") in SCORED:
        raise CharterError(f"{place}: a row of the split {row['split']} measures; train on rows of the train split")
    id = str(row.get("id") or row.get("question_id") or f"question-{number:05d}")
    try:
        return fact_of(row, id) if "kind" in row else Question(id, row["question"].strip(), accepted_answers(row))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise CharterError(
            f"{place}: not a training question ({why}); expected question and golden_answers, and kind and name where "
            "the question has {name} in it"
        ) from None


def sample(settings: Settings, questions: Sequence[Question], model: Assistant, out: Workspace) -> list[Row]:
    """A row a question: its sampled answers, how many are right, and whether it is known."""
    sampling = Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens)

    def produce(part: Sequence[Question], _: int) -> list[Row]:
        seeds = [derive_seed(out.seed, "honesty", question.id) for question in part]
        each = model.reply([question.messages for question in part], sampling, settings.k, seeds)
        return [
            {
                "id": question.id,
                "question": question.text,
                "messages": question.messages,
                "accepted": list(question.accepted),
                "answerable": bool(question.accepted),
                "replies": [{"text": c.text.strip(), "cut": c.stop == "length"} for c in completions],
            }
            for question, completions in zip(part, each, strict=True)
        ]

    rows = out.chunks("answers", questions, settings.chunk, produce, "answers to training questions")
    return [row | judge(row, settings.known, settings.unknown) for row in rows]


def judge(row: Mapping[str, Any], known: float, unknown: float) -> Row:
    """The marks of a question: outcomes of its answers, the share of right ones, and its label."""
    outcomes = [by_accepted(row, reply["text"]) for reply in row["replies"]]
    share = outcomes.count(RIGHT) / len(outcomes) if row["answerable"] else 0.0
    label = KNOWN if share >= known else UNKNOWN if share <= unknown else BETWEEN
    return {"outcomes": outcomes, "share": share, "label": label}
