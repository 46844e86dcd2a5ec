"""Does revising help? The frozen grader on drafts and on what each round made of them (Bai 2022b, figure 5).

After a round a prompt's reply is its last revision that the filter kept, so that every round counts all prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.text.examples import read_transcripts
from charter.ground.text.records import check_distinct
from charter.rooms.evaluate.context import Context, graded


def transcripts(context: Context) -> list[dict[str, Any]]:
    """All transcripts. Raises CharterError for a broken row, or an id that stands twice."""
    records = [r for i in context.inputs.many("transcripts") for r in read_transcripts(i.folder)]
    check_distinct("the transcripts", (str(r["id"]) for r in records))
    return records


def rows(context: Context) -> list[dict[str, Any]]:
    """One graded row a prompt and round, 0 being the draft; none without transcripts."""
    records = transcripts(context)

    def produce(part: Sequence[dict[str, Any]], _: int) -> list[dict[str, Any]]:
        made = [row for record in part for row in _rounds(record)]
        for row, score, fixed in graded(context.grader, made, beside=FIXED_REPLY):
            row["grader"], row["grader_fixed"] = score, fixed
        return made

    size, what = context.chunk(1), f"{context.settings.stage}: revisions"
    return context.out.chunks("revisions", records, size, produce, what)


def _rounds(record: dict[str, Any]) -> list[dict[str, Any]]:
    replies = [record["draft"].strip()]
    for made in record["rounds"]:
        replies.append(replies[-1] if made["dropped"] else made["revision"])
    return [
        {"id": record["id"], "topic": record["topic"], "messages": record["messages"], "round": n, "reply": r}
        for n, r in enumerate(replies)
    ]
