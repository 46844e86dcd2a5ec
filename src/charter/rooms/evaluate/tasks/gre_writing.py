"""GRE-shaped writing: an essay to each of two prompts after two worked essays, at T=1, scored from 0 to 6 (card 4.3.1).

Two readings by the role `examiner`, a third if they differ by more than one (`measure/essays.py`). The prompts and
worked essays are ours. Without the role, the helper reads, else the model itself: report.json says who did, and
whether `essay_grader` found it fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.measure import counts
from charter.ground.measure.essays import HIGHEST, apart, combine
from charter.ground.measure.metric import PLAIN
from charter.ground.settings.room import Role
from charter.rooms.evaluate import asking
from charter.rooms.evaluate.exam import draw, examples, origin, reader
from charter.rooms.evaluate.exam_scale import check_scale, scale_essays
from charter.rooms.evaluate.marks import TOO_LONG
from charter.rooms.evaluate.metrics import higher, lower, neither
from charter.rooms.evaluate.task import SAMPLED, Context, Marks, Protocol, Query, Question, Rows, Task

OURS = "gre_writing.heldout"
HEADER = "Write an essay of about 400 words for each task."
UNSCORED, EMPTY, SCORED = "unscored", "empty", "scored"
parse = reader("essay")


def questions(context: Context) -> list[Question]:
    """The drawn prompts."""
    context.facts["examiners"] = context.models.examiner_ids
    drawn = draw(context, parse)
    check_scale(context, drawn)
    return drawn


def rows(context: Context, questions: Sequence[Question]) -> Rows:
    """One row an essay, with its readings."""
    worked_examples = examples(context, parse, OURS, lambda q: bool(q.meta["essay"]))
    shots = [(q.text, str(q.meta["essay"])) for q in worked_examples]
    queries = [Query(q, q.text, "", shots, HEADER) for q in questions]
    asking.show(context, queries[0])

    def produce(part: Sequence[Query], _: int) -> Rows:
        each = zip(part, asking.complete(context, part), strict=True)
        essays = [
            (query.question, sample, c) for query, completions in each for sample, c in enumerate(completions or [None])
        ]
        written = [n for n, (_, _, c) in enumerate(essays) if c is not None and c.text.strip()]
        requests = [(essays[n][0].text, str(essays[n][2].text)) for n in written]  # type: ignore[union-attr]
        readings = dict(zip(written, context.models.read_essays(requests), strict=True))
        essay_rows = []
        for n, (question, sample, c) in enumerate(essays):
            reply, stop = (c.text, c.stop) if c is not None else ("", TOO_LONG)
            row = origin(question) | {"sample": sample, "reply": reply, "stop": stop}
            row |= {"readings": readings.get(n, []), "words": len(reply.split())}
            essay_rows.append(row | mark_essay(row))
        return essay_rows

    essay_rows = context.out.chunks(context.task.name, queries, context.chunk, produce, context.title)
    scale_essays(context, essay_rows)
    return essay_rows


def mark_essay(row: Marks) -> dict[str, Any]:
    """Marks of an essay: its score, whether two readings were apart. An empty essay, or one whose prompt didn't fit,
    has the score 0 and needs no reading."""
    readings = row["readings"]
    if row["stop"] == TOO_LONG and not row["reply"]:
        return {"score": 0.0, "apart": False, "outcome": TOO_LONG}
    if not row["reply"].strip():
        return {"score": 0.0, "apart": False, "outcome": EMPTY}
    score = combine(readings)
    outcome = UNSCORED if score is None else SCORED
    return {"score": score or 0.0, "apart": apart(*readings[:2]), "outcome": outcome}


def _scored(row: Marks) -> bool:
    return bool(row["outcome"] != UNSCORED)


TASK = Task(
    name="gre_writing",
    title="GRE-shaped writing",
    group="Exams",
    questions=questions,
    rows=rows,
    metrics=(
        higher(
            "gre_writing",
            counts.mean("score", _scored),
            "essays to GRE-shaped prompts, score from 0 to 6",
            unit=PLAIN,
            judge="examiner",
            span=(0.0, float(HIGHEST)),
        ),
        lower(
            "gre_writing_unscored",
            counts.outcome(UNSCORED),
            "essays that the examiner gave no readable score",
            kind="fault",
        ),
        lower(
            "gre_writing_apart",
            counts.flag("apart"),
            "essays whose first two readings differ by more than one",
            about="judge",
        ),
        neither("gre_writing_words", counts.mean("words"), "words of an essay", unit="words"),
    ),
    role=Role(kind="questions", default=f"shipped:{OURS}"),
    reads=("examiner", "second_examiner", "third_examiner", "exam_tables"),
    protocol=Protocol(shots=2, max_tokens=768),
    takes=(*SAMPLED, "shots"),
    marks=mark_essay,
    cost=(2500, 500),
    searched=True,
)
