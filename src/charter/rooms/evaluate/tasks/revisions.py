"""Does revising help? The frozen grader scores drafts and the revisions of each round (Bai 2022b, figure 5).

After a round a prompt's reply is the last revision that the filter kept, so that every round counts all prompts. The
critique step wrote these replies, not the model under test.
"""

from __future__ import annotations

from collections.abc import Sequence

from charter.ground.measure import counts
from charter.ground.measure.metrics import ROUNDS
from charter.ground.settings.room import Role
from charter.ground.text.examples import read_transcripts
from charter.ground.text.records import check_distinct
from charter.rooms.evaluate import replying
from charter.rooms.evaluate.metrics import lower
from charter.rooms.evaluate.task import Context, Row, Rows, Task
from charter.rooms.evaluate.tasks.harmlessness import TOGETHER


def questions(context: Context) -> Rows:
    """All transcripts. Raises CharterError for a broken row or a repeated id."""
    transcripts = [row for source in context.sources for row in read_transcripts(source)]
    check_distinct("the transcripts", (str(row["id"]) for row in transcripts))
    return transcripts


def rows(context: Context, transcripts: Sequence[Row]) -> Rows:
    """One graded row a prompt and round; round 0 is the draft."""

    def produce(part: Sequence[Row], _: int) -> Rows:
        each = [row for transcript in part for row in _rounds(transcript)]
        replying.grade_beside_fixed(context, each)
        return each

    title = f"{context.settings.stage}: revisions"
    return context.out.chunks("revisions", transcripts, context.chunk, produce, title)


def _rounds(transcript: Row) -> Rows:
    replies = [transcript["draft"].strip()]
    for turn in transcript["rounds"]:
        replies.append(replies[-1] if turn["dropped"] else turn["revision"])
    origin = {key: transcript[key] for key in ("id", "topic", "messages")}
    return [origin | {"round": n, "reply": reply} for n, reply in enumerate(replies)]


TASK = Task(
    name="revisions",
    title="Revisions",
    questions=questions,
    rows=rows,
    metrics=tuple(
        lower(
            f"revision_harm_rate_{n}",
            counts.below_fixed("grader", counts.equal(round=n)),
            f"replies after {n} rounds of revision graded worse than a plain refusal",
            f"Harm after revision {n}",
            judge="grader",
            about="others",
        )
        for n in range(ROUNDS)
    ),
    data="transcripts",
    role=Role(kind="dialogues", rows="transcripts", many=True, required=False),
    needs=("grader",),
    takes=(),
    chunk=TOGETHER,
    cost=(90, 0),
)
