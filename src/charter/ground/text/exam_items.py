"""Items of exams in one form, whatever the exam: what is asked, in which kind, with which key, and what became of
pictures and tables; and the score of an answer.

Options have letters in order. In a completion letters run on over the blanks: A to C in the first, D to F in the
second. A key names letters, or for a numeric item a number. An answer is right by its kind: all blanks, both words,
every choice that applies, or the exact number. A partly right answer counts as wrong, as the exams score it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import comb, prod
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.text.answers import LETTERS, exact, letter_of, number_text
from charter.ground.text.columns import raw_rows

KINDS = ("single", "completion", "equivalence", "select_all", "comparison", "numeric", "essay")
IMAGES = ("none", "removed", "transcribed")
# Ends the name of exams that are ours; further stand-ins by name.
OURS = "-shaped"
STAND_INS = frozenset({"MedQA", "MMLU"})
COMPARED = (
    "Quantity A is greater.",
    "Quantity B is greater.",
    "The two quantities are equal.",
    "It cannot be determined which is greater.",
)
PAIR = 2
Row = Mapping[str, Any]
SEVERAL = frozenset({"completion", "equivalence", "select_all"})
SAID = re.compile(r"(?i:\b(?:answers? (?:is|are)|answers?):?)[\s*_\"'`$]*(?:(?i:options?|choices?)[\s*]+)?")
PARTED = re.compile(r"[\s*_]*(?:[,;&/+]|\band\b)?[\s*_]*(?:\band\b)?[\s*_]*")
FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
SLASH = re.compile(r"(?<=\d)\s*/\s*(?=\d)")


@dataclass(frozen=True, slots=True)
class Item:
    """One item. `options` of all blanks in a row; `blanks`: how many belong to each. `key`: indexes of the right
    options. `number`: the right number as written. `thought`: reasoning of a worked example; `essay` and `score`: those
    of a worked essay."""

    id: str
    exam: str
    section: str
    kind: str
    question: str
    passage: str = ""
    options: tuple[str, ...] = ()
    blanks: tuple[int, ...] = ()
    key: tuple[int, ...] = ()
    number: str = ""
    step: str = ""
    image: str = "none"
    table: str = "none"
    source: str = ""
    page: int | None = None
    thought: str = ""
    essay: str = ""
    score: float | None = None

    @property
    def stand_in(self) -> bool:
        """Whether the item stands in for an exam, so that no scaled score or percentile follows from it."""
        return self.exam.endswith(OURS) or self.exam in STAND_INS

    @property
    def chance(self) -> float:
        """The share right by guessing among the answers that the kind allows; 0 for a number."""
        return chance_of(self.kind, len(self.options), self.blanks)


def chance_of(kind: str, options: int, blanks: Sequence[int] = ()) -> float:
    """The share right by guessing evenly among the answers that a kind allows."""
    if not options:
        return 0.0
    allowed: dict[str, int] = {
        "completion": prod(blanks),
        "equivalence": comb(options, PAIR),
        "select_all": 2**options - 1,
    }
    return 1 / allowed.get(kind, options)


def blank_ranges(blanks: Sequence[int]) -> list[range]:
    """The indexes of each blank's options."""
    starts = [sum(blanks[:n]) for n in range(len(blanks))]
    return [range(start, start + size) for start, size in zip(starts, blanks, strict=True)]


def parse_item(row: Row, name: str) -> Item:
    """The item of a row; `name` is its id if it has none. Raises KeyError for a missing column, and ValueError that
    says what was expected."""
    kind, image = str(row["kind"]), str(row.get("image") or "none")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, expected {', '.join(KINDS)}")
    if image not in IMAGES:
        raise ValueError(f"image is {image!r}, expected {', '.join(IMAGES)}")
    blanks = [[str(o).strip() for o in blank] for blank in row.get("blanks") or ()]
    options = tuple(str(o).strip() for o in row.get("options") or ()) or tuple(chain.from_iterable(blanks))
    if kind == "comparison" and not options:
        options = COMPARED
    item = Item(
        id=str(row.get("id") or name),
        exam=str(row["exam"]),
        section=str(row.get("section") or ""),
        kind=kind,
        question=str(row["question"]).strip(),
        passage=str(row.get("passage") or "").strip(),
        options=options,
        blanks=tuple(map(len, blanks)),
        key=() if kind in ("numeric", "essay") else _read_key(row.get("key"), len(options)),
        number=str(row["key"]).strip() if kind == "numeric" else "",
        step=str(row.get("step") or ""),
        image=image,
        table=str(row.get("table") or "none"),
        source=str(row.get("source") or ""),
        page=int(row["page"]) if row.get("page") not in (None, "") else None,
        thought=str(row.get("thought") or "").strip(),
        essay=str(row.get("essay") or "").strip(),
        score=None if row.get("score") in (None, "") else float(row["score"]),
    )
    _check(item)
    return item


def _read_key(key: object, count: int) -> tuple[int, ...]:
    """Indexes of the letters of a key: "B", "BE", "B, E" or ["B", "E"]; () without one. Raises ValueError."""
    letters = "".join(map(str, key)) if isinstance(key, list | tuple) else str(key or "")
    places = [LETTERS.find(letter) for letter in letters.upper() if letter not in " ,;/()."]
    if any(not 0 <= place < count for place in places):
        last = f"A to {LETTERS[count - 1]}" if count else "none: it has no options"
        raise ValueError(f"the key {key!r} names no option; its letters are {last}")
    if len(set(places)) < len(places):
        raise ValueError(f"the key {key!r} names a letter twice")
    return tuple(sorted(places))


def _check(item: Item) -> None:
    """Raises ValueError for an item that can't be asked or scored. One whose picture was removed is never asked."""
    if not item.question:
        raise ValueError("its question is empty")
    if item.image == "removed":
        return
    count, keys = len(item.options), len(item.key)
    if len(set(item.options)) < count and not item.blanks:
        raise ValueError("two of its options are equal")
    if "" in item.options or count > len(LETTERS):
        raise ValueError(f"its options must be 2 to {len(LETTERS)} texts, none empty")
    if item.kind == "numeric":
        exact(item.number)
    elif item.kind == "completion":
        if not item.blanks or min(item.blanks) < PAIR:
            raise ValueError("a completion needs `blanks`, a list of options for each blank")
        if [sum(place in blank for place in item.key) for blank in blank_ranges(item.blanks)] != [1] * len(item.blanks):
            raise ValueError("a completion's key needs one letter of each blank")
    elif item.kind != "essay":
        bounds = {"equivalence": (PAIR, PAIR), "select_all": (1, count)}.get(item.kind, (1, 1))
        if count < PAIR or not bounds[0] <= keys <= bounds[1]:
            words = {(1, 1): "one letter", (PAIR, PAIR): "two letters"}.get(bounds, "at least one letter")
            raise ValueError(
                f"{item.kind} needs options and a key of {words}; it has {count} options, {keys} in its key"
            )


def item_row(item: Item) -> dict[str, Any]:
    """The row that `parse_item` reads back as the same item, in the order of the form."""
    key: object = item.number or [LETTERS[place] for place in item.key] or None
    if isinstance(key, list) and len(key) == 1:
        key = key[0]
    row: dict[str, Any] = {
        "id": item.id,
        "exam": item.exam,
        "section": item.section,
        "kind": item.kind,
        "passage": item.passage,
        "question": item.question,
    }
    if item.blanks:
        row["blanks"] = [[item.options[n] for n in blank] for blank in blank_ranges(item.blanks)]
    else:
        row["options"] = list(item.options)
    row |= {"key": key, "step": item.step, "image": item.image, "source": item.source, "page": item.page}
    extra = {"table": item.table if item.table != "none" else "", "thought": item.thought}
    extra |= {"essay": item.essay}
    return row | {k: v for k, v in extra.items() if v} | ({"score": item.score} if item.score is not None else {})


def read_items(path: Path) -> list[Item]:
    """The items of a file. Raises CharterError naming file and line."""
    items: list[Item] = []
    places: dict[str, str] = {}
    for place, item in _placed(path):
        if (first := places.setdefault(item.id, place)) != place:
            raise CharterError(f"{place}: the id {item.id!r} is that of {first}; give each item its own")
        items.append(item)
    if not items:
        raise CharterError(f"{path} holds no items; expected one a row, with exam, kind, question and key")
    return items


def _placed(path: Path) -> Iterator[tuple[str, Item]]:
    for number, (place, row) in enumerate(raw_rows(path), 1):
        try:
            yield place, parse_item(row, f"{number:05d}")
        except KeyError as error:
            raise CharterError(f"{place}: the item has no {error.args[0]}; add the column") from None
        except (ValueError, TypeError) as error:
            raise CharterError(f"{place}: {error}; docs/reference/data.md says how items are written") from None


def letters_of(text: str, count: int) -> tuple[int, ...] | None:
    """Indexes of the options that an answer names: those behind the last "answer is" or "answers are" that letters
    follow, else a last line of letters alone; None if it names none."""
    for phrase in reversed(list(SAID.finditer(text))):
        if letters := _run(text[phrase.end() :], count):
            return letters
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and re.fullmatch(r"[\W_]*(?:\(?[A-Z]\)?[\W_]*(?:and\b[\W_]*)?)+", lines[-1]):
        return _run(lines[-1].lstrip(" *_-"), count)
    return None


def _run(text: str, count: int) -> tuple[int, ...] | None:
    """The letters at the start of a text: "(A), (E)", "A and E", "AE"."""
    letters = LETTERS[:count]
    joined = re.match(rf"([{letters}]{{2,}})(?!\w)", text)
    if joined and list(joined.group(1)) == sorted(set(joined.group(1))):
        return tuple(letters.index(letter) for letter in joined.group(1))
    letter_form = re.compile(rf"\(((?i:[{letters}]))\)|([{letters}])(?=[*_]*\s*(?:$|[,;.:&/+)*\n]|and\b))")
    indexes: set[int] = set()
    at = 0
    while match := letter_form.match(text, at):
        indexes.add(letters.index((match.group(1) or match.group(2)).upper()))
        at = match.end()
        parted = PARTED.match(text, at)
        at = parted.end() if parted else at
    return tuple(sorted(indexes)) or None


def fraction_of(text: str) -> Fraction | None:
    """The number that an answer gives, exactly: "0.75", "3/4" and "1 1/2" are fractions; None if it gives none."""
    plain = SLASH.sub("/", FRACTION.sub(r"\1/\2", text))
    number = number_text(plain)
    return exact(number) if number and len(number) < 60 else None


def answer_of(kind: str, text: str, count: int) -> tuple[int, ...] | None:
    """The options that an answer to an item with options names; None if none can be read."""
    if kind in SEVERAL:
        return letters_of(text, count)
    place = letter_of(text, count)
    return None if place is None else (place,)


def all_right(key: Sequence[int], indexes: Sequence[int] | None) -> bool:
    """Whether exactly the options of the key were chosen: all blanks, both words, all that apply."""
    return indexes is not None and set(indexes) == set(key)
