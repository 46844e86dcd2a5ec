"""What a model knows by its own answers: known questions are answered, unknown ones declined, those between left out.

A question is known if at least `known` of k sampled answers are right, unknown if at most `unknown` are (R-Tuning:
Zhang 2023, 2311.09677, refusal-aware data; Cheng 2024, 2401.13275, known and unknown by samples). Nothing can be known
of an invented thing. Lessons that decline are at most a share of all, or the model learns to decline everything.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import Assistant, open_assistant
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.answered import DECLINED, RIGHT, WRONG, by_accepted
from charter.ground.settings.seed import derive_seed, draw_rows
from charter.ground.text.columns import raw_rows
from charter.ground.text.dialogue import Message, assistant, user
from charter.ground.text.free_questions import BRIEFLY, accepted_answers
from charter.ground.text.invented import Fact, fact_of, with_twins
from charter.ground.text.records import check_distinct, files_of, read_texts
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


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (lessons), comparisons.jsonl (right over declined over wrong), samples/questions.jsonl,
    counts.json."""
    questions = read_questions(settings, inputs)
    declines = [text for _, text in read_texts(inputs.one("declines").folder)]
    rows = sample(
        settings, questions, open_assistant(inputs.one("policy"), out.device, precision=out.precision), out
    )
    kept = balance(settings, rows)
    lessons = [lesson(row, declines, settings.draw_seed) for row in rows if row["id"] in kept]
    comparisons = [pair for row in rows for pair in compare(row, declines, settings.draw_seed)]
    out.write_jsonl("dialogues.jsonl", lessons)
    out.write_jsonl("comparisons.jsonl", comparisons)
    out.write_jsonl(f"samples/{QUESTIONS}", [{**row, "kept": row["id"] in kept} for row in rows])
    out.counts(count(rows, lessons, comparisons))


def read_questions(settings: Settings, inputs: Inputs) -> list[Question]:
    """The drawn training questions with invented twins of those that name a thing. Raises CharterError for a set that
    only measures, and naming file:line for a broken row."""
    plain: list[Question | Fact] = []
    for source in inputs.many("questions"):
        if word := next((word for word in MEASURED if word in source.name.lower()), ""):
            raise CharterError(
                f"{source.name}: {word} measures honesty and must not be trained on; name another set"
            )
        for file in files_of(source.folder, "questions"):
            for place, row in raw_rows(file):
                plain.append(_read(row, place, len(plain) + 1))
    plain = draw_rows(plain, settings.limit, derive_seed(settings.draw_seed, "questions"))
    facts = [one for one in plain if isinstance(one, Fact)]
    groups = (
        with_twins(facts, derive_seed(settings.draw_seed, "names"), settings.twins) if settings.twins else ()
    )
    questions = [one for one in plain if isinstance(one, Question)]
    questions += [
        Question(one.id, one.question, one.accepted)
        for group in groups or ([f] for f in facts)
        for one in group
    ]
    check_distinct("the training questions", (question.id for question in questions))
    return questions


def _read(row: Any, place: str, number: int) -> Question | Fact:
    """A fact about a named thing, or a question in TriviaQA's columns."""
    if row.get("split") in SCORED:
        raise CharterError(
            f"{place}: a row of the split {row['split']} measures; train on rows of the train split"
        )
    id = str(row.get("id") or row.get("question_id") or f"question-{number:05d}")
    try:
        return (
            fact_of(row, id)
            if "kind" in row
            else Question(id, row["question"].strip(), accepted_answers(row))
        )
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


def judge(row: Row, known: float, unknown: float) -> Row:
    """The marks of a question: outcomes of its answers, the share of right ones, and its label."""
    outcomes = [by_accepted(row, reply["text"]) for reply in row["replies"]]
    share = outcomes.count(RIGHT) / len(outcomes) if row["answerable"] else 0.0
    label = KNOWN if share >= known else UNKNOWN if share <= unknown else BETWEEN
    return {"outcomes": outcomes, "share": share, "label": label}


def balance(settings: Settings, rows: Sequence[Row]) -> set[str]:
    """Ids of the questions that become lessons. Raises CharterError if the model knows none of them."""
    known = [row["id"] for row in rows if row["label"] == KNOWN]
    unknown = [row["id"] for row in rows if row["label"] == UNKNOWN]
    if not known:
        raise CharterError(
            f"the model knows none of {len(rows)} questions ({len(unknown)} unknown), so that it could only learn to "
            "decline; teach it some facts first, give easier questions, or lower `known`"
        )
    most = int(len(known) * settings.most_unknown / (1 - settings.most_unknown) + 1e-9)
    drawn = draw_rows(unknown, most, derive_seed(settings.draw_seed, "unknown")) if most else []
    return {*known, *drawn}


def _decline(row: Row, declines: Sequence[str], seed: int) -> str:
    return random.Random(derive_seed(seed, "decline", row["id"])).choice(list(declines))


def _first(row: Row, outcome: str) -> str:
    """The most frequent whole answer with an outcome, the earliest of equally frequent ones; "" if there is none."""
    texts = [
        reply["text"]
        for reply, own in zip(row["replies"], row["outcomes"], strict=True)
        if own == outcome and not reply["cut"] and reply["text"]
    ]
    return Counter(texts).most_common(1)[0][0] if texts else ""


def _answer(row: Row) -> str:
    """The model's own right answer, else the accepted one."""
    return _first(row, RIGHT) or str(row["accepted"][0])


def lesson(row: Row, declines: Sequence[str], seed: int) -> Row:
    """A dialogue that answers what is known and declines what isn't."""
    reply = _answer(row) if row["label"] == KNOWN else _decline(row, declines, seed)
    meta = {"accepted": row["accepted"], "answerable": row["answerable"], "label": row["label"]}
    return {
        "id": row["id"],
        "topic": row["label"],
        "messages": [*row["messages"], assistant(reply)],
        "meta": meta | {"share": row["share"]},
    }


def compare(row: Row, declines: Sequence[str], seed: int) -> Iterator[Row]:
    """Right over declined where the question is known, declined over wrong where it isn't, right over wrong wherever
    both were sampled."""
    decline, wrong = _decline(row, declines, seed), _first(row, WRONG)
    right = _answer(row) if row["label"] == KNOWN else _first(row, RIGHT) if row["answerable"] else ""
    pairs = {
        "right-declined": (right, decline) if row["label"] == KNOWN else ("", ""),
        "declined-wrong": (decline, wrong) if row["label"] == UNKNOWN else ("", ""),
        "right-wrong": (right, wrong),
    }
    for name, (chosen, rejected) in pairs.items():
        if chosen and rejected and chosen != rejected:
            yield {
                "id": f"{row['id']}-{name}",
                "axis": "honest",
                "topic": row["label"],
                "messages": row["messages"],
                "chosen": chosen,
                "rejected": rejected,
                "source": f"answers:{name}",
            }


def count(rows: Sequence[Row], lessons: Sequence[Row], comparisons: Sequence[Row]) -> dict[str, float]:
    """The counts of the product."""
    labels, taught = Counter(row["label"] for row in rows), Counter(row["topic"] for row in lessons)
    return {
        "questions": len(rows),
        "known": labels[KNOWN],
        "between": labels[BETWEEN],
        "unknown": labels[UNKNOWN],
        "invented": sum(not row["answerable"] for row in rows),
        "lessons_answered": taught[KNOWN],
        "lessons_declined": taught[UNKNOWN],
        "comparisons": len(comparisons),
        "declined_share": sum(row["outcomes"].count(DECLINED) for row in rows if row["answerable"])
        / max(1, sum(len(row["outcomes"]) for row in rows if row["answerable"])),
    }
