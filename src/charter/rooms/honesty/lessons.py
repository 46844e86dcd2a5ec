"""Lessons and comparisons from what a model knows, balanced so that it doesn't learn to decline everything."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.judge.declining import DECLINED, RIGHT, WRONG
from charter.ground.settings.seed import derive_seed, draw_rows
from charter.ground.text.dialogue import assistant
from charter.rooms.honesty.answers import BETWEEN, KNOWN, UNKNOWN, Row
from charter.rooms.honesty.settings import Settings

Kept = Mapping[str, Any]


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
        for reply, reply_outcome in zip(row["replies"], row["outcomes"], strict=True)
        if reply_outcome == outcome and not reply["cut"] and reply["text"]
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


def count(rows: Sequence[Kept], lessons: Sequence[Kept], comparisons: Sequence[Kept]) -> dict[str, float]:
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
