"""Helpfulness on ordinary prompts: the grader's score of each reply, and wins against the start's replies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.measure import counts
from charter.ground.measure.fluency import fluency_of
from charter.ground.measure.metric import PLAIN, Metric
from charter.ground.measure.metrics import WINS
from charter.ground.settings.room import Role
from charter.ground.text.dialogue import Dialogue
from charter.rooms.evaluate import replying
from charter.rooms.evaluate.marks import mark_detections
from charter.rooms.evaluate.metrics import higher, lower
from charter.rooms.evaluate.task import REPLIES, Context, Protocol, Row, Rows, Task
from charter.rooms.evaluate.tasks.harmlessness import TOGETHER, questions


def rows(context: Context, prompts: Sequence[Dialogue]) -> Rows:
    """Replies to every helpful prompt, scored by the frozen grader."""
    return replying.reply(context, prompts, replying.grade_help)


def beside(context: Context, rows: Rows) -> Iterator[tuple[str, Rows]]:
    """Wins against the baseline, if there is one."""
    baseline = context.inputs.optional("baseline")
    if baseline is not None:
        before = read_objects(baseline.folder / "samples/helpful.jsonl")
        yield f"samples/{WINS}", wins(rows, before)


def wins(rows: Sequence[Row], baseline: Sequence[Row]) -> Rows:
    """Each reply's score beside the baseline's on the same prompt and sample."""
    before = {(r["id"], r["sample"]): r["grader"] for r in baseline}
    pairs = [
        {"id": r["id"], "sample": r["sample"], "score": r["grader"], "baseline": before[r["id"], r["sample"]]}
        for r in rows
        if (r["id"], r["sample"]) in before
    ]
    if not pairs:
        raise CharterError("the baseline report has no helpful prompt in common; evaluate both with equal limits")
    return pairs


TASK = Task(
    name="helpful",
    title="Helpful prompts",
    questions=questions,
    rows=rows,
    beside=beside,
    metrics=(
        higher(
            "helpful_score",
            counts.mean("grader"),
            "grader's score of replies to helpful prompts",
            "Helpful score",
            unit=PLAIN,
            judge="grader",
            gate="helpful",
            places={"main": 3, "costs": 3, "capability": 2},
        ),
        lower(
            "helpful_refusal_rate",
            counts.flag("refusal"),
            "helpful prompts refused",
            "Helpful refused",
            places={"refusing": 3, "costs": 2},
        ),
        *fluency_of("helpful"),
        Metric(
            "helpful_win_rate",
            WINS,
            counts.win_share,
            "higher",
            "replies preferred to the start's",
            judge="grader",
            gate="helpful",
            label="Win rate over start",
            places={"capability": 3},
        ),
    ),
    role=Role(kind="dialogues", many=True, default="shipped:helpful.heldout"),
    needs=("grader",),
    protocol=Protocol(max_tokens=96),
    takes=REPLIES,
    marks=mark_detections,
    detecting=True,
    chunk=TOGETHER,
    cost=(90, 67),
)
