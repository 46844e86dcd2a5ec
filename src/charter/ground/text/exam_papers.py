"""Turns an exam paper that somebody owns, as text or as rows of another form, into items; says what became of each.

Questions count up within a section ("12." or "12)"), options have letters ("A.", "(A)"), blanks have a heading
("Blank (i)"). "Questions 3 to 5" before a text makes it their passage. The key stands behind a line "Answer key". A
text layer has no pictures: only words that point at one tell of it (`exam_images.py`).

Outcomes: kept; table transcribed (to Markdown); image removed (the item stays in the file and isn't asked); image
transcribed by a person; left out, with a reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.text.answers import LETTERS, NUMBER
from charter.ground.text.exam_images import points_at_picture
from charter.ground.text.exam_items import KINDS, Item, parse_item

PAGE = re.compile(r"^\[page (\d+)\]$")
KEY_HEAD = re.compile(r"^\s*(?:answer key|answers|key|correct answers)\s*:?\s*$", re.IGNORECASE)
SECTION = re.compile(r"^\s*((?:section|part|block|step)\s+[\w&]+(?:[:. -].{0,60})?)\s*$", re.IGNORECASE)
GROUP = re.compile(r"^\s*questions?\s+(\d+)\s*(?:to|through|and|[-\u2013])\s*(\d+)\b", re.IGNORECASE)
NUMBERED = re.compile(r"^\s*(\d{1,3})[.)]\s+(\S.*)$")
OPTION = re.compile(r"(?:^|(?<=\s))\(?([A-J])[.)]\s+(?=\S)")
BLANK = re.compile(r"^\s*blank\s*\(?(?:i{1,3}|[1-3])\)?\s*:?\s*(.*)$", re.IGNORECASE)
KEY_ENTRY = re.compile(
    r"(?<![\w.])(\d{1,3})[.):]?\s+"
    r"((?:\(?[A-J]\)?(?![a-z])(?:\s*(?:,|and|&)\s*|(?=[A-J]\b)|))+|-?\$?[\d,]*\.?\d+(?:/\d+)?)(?=\s|$|[;.])"
)
CELLS = re.compile(r"\t+| {2,}")
LEAST = 2  # rows and columns of a table
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


@dataclass(slots=True)
class Found:
    """A question as it stands in a paper: lines of its text, its options, how many belong to each blank."""

    number: int
    section: str
    page: int | None
    lines: list[str]
    options: list[str] = field(default_factory=list)
    blanks: list[int] = field(default_factory=list)
    passage: list[str] = field(default_factory=list)


def read_paper(text: str) -> list[dict[str, Any]]:
    """The questions of a paper as rows: number, section, page, passage, question, options or blanks, table, and key if
    the paper has one for it."""
    lines = text.replace("\r\n", "\n").split("\n")
    head = next((n for n, line in enumerate(lines) if KEY_HEAD.match(line)), len(lines))
    keys = _read_keys(lines[head + 1 :])
    return [_row(entry, keys) for entry in _Reader().read(lines[:head])]


class _Reader:
    """Goes through the lines once."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.section, self.page = "", None  # type: tuple[str, int | None]
        self.last: int | None = None
        self.group: range = range(0)
        self.passage: list[str] = []
        self.in_passage = False

    def read(self, lines: list[str]) -> list[Found]:
        """The questions of these lines."""
        for line in lines:
            if line.strip():
                self._take(line)
        return self.found

    def _take(self, line: str) -> None:
        if page := PAGE.match(line.strip()):
            self.page = int(page.group(1))
        elif section := SECTION.match(line):
            self.section, self.last, self.in_passage = section.group(1).strip(), None, False
            self.group = range(0)
        elif group := GROUP.match(line):
            self.group = range(int(group.group(1)), int(group.group(2)) + 1)
            self.passage, self.in_passage = [], True
        elif (numbered := NUMBERED.match(line)) and self._is_next(int(numbered.group(1))):
            self._begin(int(numbered.group(1)), numbered.group(2))
        elif self.in_passage:
            self.passage.append(line.strip("\n"))
        elif self.found:
            self._continue(line)

    def _is_next(self, number: int) -> bool:
        if self.in_passage:
            return number == self.group.start
        return number == 1 if self.last is None and not self.found else number == (self.last or 0) + 1

    def _begin(self, number: int, text: str) -> None:
        self.last, self.in_passage = number, False
        passage = list(self.passage) if number in self.group else []
        self.found.append(Found(number, self.section, self.page, [text], passage=passage))

    def _continue(self, line: str) -> None:
        question = self.found[-1]
        if blank := BLANK.match(line):
            question.blanks.append(0)
            line = blank.group(1)
        options = list(_options_in(line, len(question.options)))
        if options:
            question.options += options
            if question.blanks:
                question.blanks[-1] += len(options)
        elif question.options and line.strip():
            question.options[-1] += f" {line.strip()}"
        elif line.strip():
            question.lines.append(line)


def _options_in(line: str, count: int) -> Iterator[str]:
    """The options of a line that begins with the next letter; further ones may follow on the line."""
    marks: list[re.Match[str]] = []
    for mark in OPTION.finditer(line):
        if count + len(marks) < len(LETTERS) and mark.group(1) == LETTERS[count + len(marks)]:
            marks.append(mark)
    if not marks or line[: marks[0].start()].strip():
        return
    ends = [mark.start() for mark in marks[1:]] + [len(line)]
    for mark, end in zip(marks, ends, strict=True):
        yield line[mark.end() : end].strip()


def _read_keys(lines: list[str]) -> dict[tuple[str, int], str]:
    """The answer by section and number; a key without sections has the section ""."""
    keys: dict[tuple[str, int], str] = {}
    section = ""
    for line in lines:
        if PAGE.match(line.strip()):
            continue
        if head := SECTION.match(line):
            section = head.group(1).strip()
            continue
        for entry in KEY_ENTRY.finditer(line):
            keys.setdefault((section, int(entry.group(1))), entry.group(2).strip())
    return keys


def _row(entry: Found, keys: dict[tuple[str, int], str]) -> dict[str, Any]:
    question, table = _flow(entry.lines)
    passage, passage_table = _flow(entry.passage)
    row: dict[str, Any] = {
        "number": entry.number,
        "section": entry.section,
        "page": entry.page,
        "passage": passage,
        "question": question,
        "table": table or passage_table,
        "key": keys.get((entry.section, entry.number), keys.get(("", entry.number))),
    }
    if entry.blanks and sum(entry.blanks) == len(entry.options):
        starts = [sum(entry.blanks[:n]) for n in range(len(entry.blanks))]
        row["blanks"] = [entry.options[at : at + size] for at, size in zip(starts, entry.blanks, strict=True)]
    else:
        row["options"] = entry.options
    return row


def _flow(lines: list[str]) -> tuple[str, bool]:
    """Text of lines, with tables in Markdown; and whether there is one. A line that reaches far runs on in the next."""
    widest = max(map(len, lines), default=0)
    text, table, at = "", False, 0
    while at < len(lines):
        rows = _table_at(lines, at)
        if rows:
            text, table, at = f"{text.rstrip()}\n{as_markdown(rows)}\n", True, at + len(rows)
            continue
        after = lines[at + 1].lstrip() if at + 1 < len(lines) else ""
        runs_on = len(lines[at]) > 0.7 * widest and not lines[at].rstrip().endswith(":")
        runs_on = runs_on and not after.startswith("Quantity ")
        text += lines[at].strip() + (" " if runs_on else "\n")
        at += 1
    return text.strip(), table


def _table_at(lines: list[str], start: int) -> list[list[str]]:
    """The rows of a table that begins at a line: lines with equally many cells, parted by tabs or wide gaps."""
    rows: list[list[str]] = []
    for line in lines[start:]:
        cells = [cell.strip() for cell in CELLS.split(line.strip())]
        if len(cells) < LEAST or (rows and len(cells) != len(rows[0])):
            break
        rows.append(cells)
    return rows if len(rows) >= LEAST else []


def as_markdown(rows: list[list[str]]) -> str:
    """A table in Markdown; its first row is the head."""
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


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


def import_exam(rows: Iterable[tuple[str, Row]], exam: str, described: Mapping[str, str] | None = None) -> Imported:
    """The items of (place, row); `exam` names rows that name no exam. `described`: by id, what a person says of a
    picture. Raises CharterError at the place of a broken row, and for a description of no item."""
    pictures = dict(described or {})
    items, outcomes = [], []
    places: dict[str, str] = {}
    for place, row in rows:
        name = _name(row, exam)
        if (first := places.setdefault(name, place)) != place:
            raise CharterError(f"{place}: the id {name!r} is that of {first}; give each item its own")
        item, outcome = _import(place, row, name, exam, pictures.pop(name, ""))
        items += [item] if item else []
        outcomes.append(outcome)
    if pictures:
        raise CharterError(
            f"the description of {next(iter(pictures))!r} belongs to no item; ids are those of the report"
        )
    if not items:
        raise CharterError("no question with a key was found; docs/reference/data.md says how papers are read")
    return Imported(items, outcomes)


def _name(row: Row, exam: str) -> str:
    parts = [exam, str(row.get("section") or ""), str(row.get("number") or "")]
    return str(row.get("id") or "-".join("".join(c if c.isalnum() else "-" for c in p).strip("-") for p in parts if p))


def _import(place: str, row: Row, name: str, exam: str, described: str) -> tuple[Item | None, Outcome]:
    page = row.get("page")
    columns = _columns(row, name, exam)
    if columns["key"] in (None, "", []) and columns["kind"] != "essay":
        return None, Outcome(name, page, LEFT_OUT, "no key")
    pointer = points_at_picture(f"{columns['passage']} {columns['question']}", _options(columns))
    if described:
        columns["question"] += "\n" + PICTURE.format(described.strip())
        columns["image"], outcome, why = "transcribed", TRANSCRIBED, pointer
    elif columns["image"] == "transcribed":
        outcome, why = TRANSCRIBED, "the row says so"
    elif columns["image"] == "removed" or pointer:
        columns["image"], outcome, why = "removed", REMOVED, pointer or "the row says so"
    else:
        outcome, why = (TABLE, "") if columns["table"] == "transcribed" else (KEPT, "")
    try:
        return parse_item(columns, name), Outcome(name, page, outcome, why)
    except (ValueError, TypeError, KeyError) as error:
        raise CharterError(f"{place}: item {name}: {error}; docs/reference/data.md says how papers are read") from None


def _columns(row: Row, name: str, exam: str) -> dict[str, Any]:
    """The columns of an item from a row of ours, a paper's, or another form's: options may be a list, an object by
    letter, or columns A, B, C; a table may be a list of lists."""
    options = row.get("options") or row.get("choices") or [row[c] for c in LETTERS[:10] if row.get(c) not in (None, "")]
    if isinstance(options, Mapping):
        options = list(options.values())
    table = row.get("table")
    question = str(next((row[c] for c in QUESTION if row.get(c)), ""))
    if isinstance(table, list) and table:
        question += "\n" + as_markdown([[str(cell) for cell in line] for line in table])
    image = row.get("image")
    columns = {
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
    if isinstance(columns["key"], int) and columns["options"] and not isinstance(columns["key"], bool):
        columns["key"] = LETTERS[columns["key"]]
    texts = _options(columns)
    if columns["key"] in texts:
        columns["key"] = LETTERS[texts.index(columns["key"])]
    return columns | {"kind": row.get("kind") or guess_kind(columns)}


def _options(columns: Row) -> list[str]:
    return [str(o) for o in columns["options"] or [o for blank in columns["blanks"] or () for o in blank]]


def guess_kind(columns: Row) -> str:
    """The kind of an item that names none, by its options and its key."""
    key = columns["key"]
    letters = "".join(key) if isinstance(key, list) else str(key or "")
    several = sum(letter in LETTERS for letter in letters) > 1
    if columns["blanks"]:
        return "completion"
    if columns["options"]:
        if several and "__" in columns["question"] and len(columns["options"]) == SIX:
            return "equivalence"
        return "select_all" if several else "single"
    if "Quantity A" in columns["question"] and "Quantity B" in columns["question"]:
        return "comparison"
    return "numeric" if NUMBER.fullmatch(letters) else "essay" if not letters else KINDS[0]


def with_source(imported: Imported, source: str) -> Imported:
    """The same with the name of the file in every item that names no source."""
    items = [item if item.source else replace(item, source=source) for item in imported.items]
    return replace(imported, items=items)
