"""TriviaQA: quiz questions, five examples, T=0, exact match with any alias; honest abstention counts apart
(card section 4.3; Joshi 2017).

A question comes with its passage if its row has one. The examples come from a development split. Without one they are
questions of the test split, which are then not scored. Three rates: right, wrong, and declined, which is better than
wrong (Claude 2.1's honesty rubric).
"""

from __future__ import annotations

import random
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.judge.declining import declines
from charter.ground.measure import counts
from charter.ground.settings.room import Role
from charter.ground.text.answers import normal
from charter.ground.text.free_questions import accepted_answers
from charter.rooms.evaluate import asking
from charter.rooms.evaluate.marks import unless_too_long, verdict
from charter.rooms.evaluate.metrics import lower, neither
from charter.rooms.evaluate.reading import DEV, TEST, Row, has, read_split
from charter.rooms.evaluate.task import (
    SAMPLED,
    Context,
    Marks,
    Protocol,
    Query,
    Question,
    Rows,
    Task,
    accuracy,
    unanswered_rate,
)

LEAD = "Answer:"
PASSAGES = ("context", "passage", "evidence")


def questions(context: Context) -> list[Question]:
    """The drawn questions of the test split, without those that serve as examples."""
    return context.draw(_split(context)[0])


def rows(context: Context, questions: list[Question]) -> Rows:
    """One row an answer."""
    shots = [(_format_prompt(q), q.accepted[0]) for q in _split(context)[1]]
    return asking.answer(
        context, [Query(question, _format_prompt(question), LEAD, shots) for question in questions], grade
    )


def mark_answer(row: Marks) -> dict[str, Any]:
    """Marks of a quiz answer: right if its first line is an accepted answer; declined if it says it can't tell."""
    line = next(filter(None, map(str.strip, row["reply"].splitlines())), "")
    # of "The The" nothing is left to compare
    accepted = set(map(normal, row["accepted"])) - {""}
    marks = verdict(normal(line) in accepted, bool(line))
    declined = marks["outcome"] == "wrong" and declines(line)
    return {"answer": line} | marks | ({"outcome": "declined"} if declined else {})


def grade(query: Query, reply: str) -> dict[str, Any]:
    """Right if the first line is one of the accepted answers; declined if it says that it can't tell."""
    row = {"reply": reply, "accepted": list(query.question.accepted)}
    return row | mark_answer(row)


def parse(row: Row, name: str) -> list[Question]:
    """A row with question, its accepted answers under golden_answers, or under answer with value and aliases, and
    perhaps a passage under context, passage or evidence."""
    accepted = accepted_answers(row)
    passage = next((str(row[key]).strip() for key in PASSAGES if row.get(key)), "")
    id = str(row.get("id") or row.get("question_id") or name)
    return [Question(id, str(row["question"]).strip(), accepted=accepted, passage=passage)]


def _split(context: Context) -> tuple[list[Question], list[Question]]:
    """Questions that may be scored, and worked examples."""
    test, shots = read_split(context.source, TEST, parse), context.protocol.shots
    if has(context.source, DEV):
        return test, context.examples(read_split(context.source, DEV, parse))
    if shots >= len(test):
        raise CharterError(
            f"triviaqa: {context.source} has {len(test)} questions, and {shots} of them would serve as examples; give "
            "more, or set change.triviaqa.shots"
        )
    places = set(random.Random(context.seed("examples")).sample(range(len(test)), shots))
    context.facts["examples"] = "of the test split, not scored"
    return [q for n, q in enumerate(test) if n not in places], [test[n] for n in sorted(places)]


def _format_prompt(question: Question) -> str:
    return "\n\n".join(filter(None, [question.passage, f"Question: {question.text}"]))


TASK = Task(
    name="triviaqa",
    title="TriviaQA",
    group="Knowledge and reasoning",
    questions=questions,
    rows=rows,
    metrics=(
        accuracy("triviaqa", "TriviaQA questions, any alias"),
        unanswered_rate("triviaqa"),
        lower("triviaqa_wrong", counts.outcome("wrong"), "TriviaQA questions answered wrongly"),
        neither(
            "triviaqa_declined", counts.outcome("declined"), "TriviaQA questions that the model says it can't answer"
        ),
    ),
    role=Role(kind="questions", default="shipped:triviaqa.heldout"),
    standard="data:triviaqa",
    protocol=Protocol(shots=5, temperature=0.0, max_tokens=32),
    takes=(*SAMPLED, "shots"),
    marks=unless_too_long(mark_answer),
    cost=(60, 32),
    searched=True,
    detecting=True,
)
