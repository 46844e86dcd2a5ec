"""Turns an exam paper that somebody owns, or rows of another form, into items; says what became of each.

Outcomes: kept; table transcribed (to Markdown); image removed (the item stays in the file and isn't asked); image
transcribed by a person; left out, with a reason. Pictures are found by words (`exam_images.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.text.answers import LETTERS, NUMBER
from charter.ground.text.exam_images import points_at_picture
from charter.ground.text.exam_items import KINDS, Item, parse_item
from charter.ground.text.exam_papers import as_markdown

KEPT, TABLE, REMOVED, TRANSCRIBED, LEFT_OUT = (
    "kept",
    "table transcribed",
    "image removed",
    "image transcribed by a person",
    "left out",
)
OUTCOMES = (KEPT, TABLE, REMOVED, TRANSCRIBED, LEFT_OUT)
PICTURE = "[The picture, as a person describes it: {}]"
QUESTION = ("question", "stem", "text")
KEY = ("key", "answer_idx", "answer", "correct")
SIX = 6
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item, and why."""

    id: str
    page: int | None
    what: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """The items of a paper in order, and the outcome of each, also of those left out."""

    items: Sequence[Item]
    outcomes: Sequence[Outcome]

    @property
    def summary(self) -> str:
        """Counts in words."""
        counts = Counter(outcome.what for outcome in self.outcomes)
        return ", ".join(f"{counts[what]} {what}" for what in OUTCOMES if counts[what])

    def report(self) -> str:
        """A table in Markdown with a line for every item."""
        rows = [["item", "page", "outcome", "why"]]
        rows += [[o.id, str(o.page or ""), o.what, " ".join(o.why.split())] for o in self.outcomes]
        return f"{self.summary}\n\n{as_markdown(rows)}\n"


def import_exam(
    rows: Iterable[tuple[str, Row]], exam: str, described: Mapping[str, str] | None = None
) -> Imported:
    """The items of (place, row); `exam` names rows that name no exam. `described`: by id, what a person says of a
    picture. Raises CharterError at the place of a broken row, and for a description of no item."""
    pictures = dict(described or {})
    items, outcomes = [], []
    seen: dict[str, str] = {}
    for place, row in rows:
        name = _name(row, exam)
        if (first := seen.setdefault(name, place)) != place:
            raise CharterError(f"{place}: the id {name!r} is that of {first}; give each item its own")
        item, outcome = _import(place, row, name, exam, pictures.pop(name, ""))
        items += [item] if item else []
        outcomes.append(outcome)
    if pictures:
        raise CharterError(
            f"the description of {next(iter(pictures))!r} belongs to no item; ids are those of the report"
        )
    if not items:
        raise CharterError(
            "no question with a key was found; docs/reference/data.md says how papers are read"
        )
    return Imported(items, outcomes)


def _name(row: Row, exam: str) -> str:
    parts = [exam, str(row.get("section") or ""), str(row.get("number") or "")]
    return str(
        row.get("id")
        or "-".join("".join(c if c.isalnum() else "-" for c in p).strip("-") for p in parts if p)
    )


def _import(place: str, row: Row, name: str, exam: str, described: str) -> tuple[Item | None, Outcome]:
    page = row.get("page")
    made = _columns(row, name, exam)
    if made["key"] in (None, "", []) and made["kind"] != "essay":
        return None, Outcome(name, page, LEFT_OUT, "no key")
    pointer = points_at_picture(f"{made['passage']} {made['question']}", _options(made))
    if described:
        made["question"] += "\n" + PICTURE.format(described.strip())
        made["image"], what, why = "transcribed", TRANSCRIBED, pointer
    elif made["image"] == "transcribed":
        what, why = TRANSCRIBED, "the row says so"
    elif made["image"] == "removed" or pointer:
        made["image"], what, why = "removed", REMOVED, pointer or "the row says so"
    else:
        what, why = (TABLE, "") if made["table"] == "transcribed" else (KEPT, "")
    try:
        return parse_item(made, name), Outcome(name, page, what, why)
    except (ValueError, TypeError, KeyError) as error:
        raise CharterError(
            f"{place}: item {name}: {error}; docs/reference/data.md says how papers are read"
        ) from None


def _columns(row: Row, name: str, exam: str) -> dict[str, Any]:
    """The columns of an item from a row of ours, a paper's, or another form's: options may be a list, an object by
    letter, or columns A, B, C; a table may be a list of lists."""
    options = (
        row.get("options")
        or row.get("choices")
        or [row[c] for c in LETTERS[:10] if row.get(c) not in (None, "")]
    )
    if isinstance(options, Mapping):
        options = list(options.values())
    table = row.get("table")
    question = str(next((row[c] for c in QUESTION if row.get(c)), ""))
    if isinstance(table, list) and table:
        question += "\n" + as_markdown([[str(cell) for cell in line] for line in table])
    image = row.get("image")
    made = {
        "id": name,
        "exam": str(row.get("exam") or exam),
        "section": row.get("section"),
        "passage": str(row.get("passage") or ""),
        "question": question,
        "options": list(options),
        "blanks": row.get("blanks"),
        "key": next((row[c] for c in KEY if row.get(c) not in (None, "")), None),
        "step": row.get("step"),
        "image": image if image in ("none", "transcribed", None, "") else "removed",
        "table": "transcribed" if table not in (None, "", False, "none", []) else "none",
        "source": row.get("source"),
        "page": row.get("page"),
    }
    if isinstance(made["key"], int) and made["options"] and not isinstance(made["key"], bool):
        made["key"] = LETTERS[made["key"]]
    texts = _options(made)
    if made["key"] in texts:
        made["key"] = LETTERS[texts.index(made["key"])]
    return made | {"kind": row.get("kind") or guess_kind(made)}


def _options(made: Row) -> list[str]:
    return [str(o) for o in made["options"] or [o for blank in made["blanks"] or () for o in blank]]


def guess_kind(made: Row) -> str:
    """The kind of an item that names none, by its options and its key."""
    key = made["key"]
    letters = "".join(key) if isinstance(key, list) else str(key or "")
    several = sum(letter in LETTERS for letter in letters) > 1
    if made["blanks"]:
        return "completion"
    if made["options"]:
        if several and "__" in made["question"] and len(made["options"]) == SIX:
            return "equivalence"
        return "select_all" if several else "single"
    if "Quantity A" in made["question"] and "Quantity B" in made["question"]:
        return "comparison"
    return "numeric" if NUMBER.fullmatch(letters) else "essay" if not letters else KINDS[0]


def with_source(imported: Imported, source: str) -> Imported:
    """The same with the name of the file in every item that names no source."""
    items = [item if item.source else replace(item, source=source) for item in imported.items]
    return replace(imported, items=items)
