"""Rows of public sets that stand in for exams, as rows of items. Each names the set that it is from."""

from __future__ import annotations

from typing import Any

from charter.ground.text.exam_images import points_at_picture
from charter.rooms.evaluate.reading import Row, place_of
from charter.rooms.evaluate.task import LETTERS


def medqa_item(row: Row) -> dict[str, Any]:
    """MedQA's row: question, options by letter, answer_idx, and meta_info (step1 or step2&3)."""
    options = dict(row["options"])
    question = str(row["question"])
    return {
        "id": f"medqa-{row['realidx']}" if "realidx" in row else None,
        "exam": "MedQA",
        "section": str(row["meta_info"]),
        "step": str(row["meta_info"]).removeprefix("step"),
        "kind": "single",
        "question": question,
        "options": list(options.values()),
        "key": LETTERS[list(options).index(str(row["answer_idx"]))],
        "image": picture_of(question, options.values()),
    }


def mmlu_item(row: Row) -> dict[str, Any]:
    """MMLU's row: subject, question, choices, and answer as a letter or a number from 0."""
    options = tuple(map(str, row["choices"]))
    question = str(row["question"])
    return {
        "id": f"{row['subject']}-{row['row']}" if "row" in row else None,
        "exam": "MMLU",
        "section": str(row["subject"]),
        "kind": "single",
        "question": question,
        "options": list(options),
        "key": LETTERS[place_of(row["answer"], options)],
        "image": picture_of(question, options),
    }


def picture_of(question: str, options: Any) -> str:
    """Whether an item's picture is "removed", which its words point at though it isn't there, else "none"."""
    return "removed" if points_at_picture(question, options) else "none"
