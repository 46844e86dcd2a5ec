"""Reads the text of an exam paper: numbered questions, lettered options, passages of several questions, and the key.

Questions count up within a section ("12." or "12)"), options have letters ("A.", "(A)"), blanks have a heading
("Blank (i)"). "Questions 3 to 5" before a text makes it their passage. The key stands behind a line "Answer key". A
text layer has no pictures: only words that point at one tell of it (`exam_images.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from charter.ground.text.answers import LETTERS

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
    return [_row(found, keys) for found in _Reader().read(lines[:head])]


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


def _row(found: Found, keys: dict[tuple[str, int], str]) -> dict[str, Any]:
    question, table = _flow(found.lines)
    passage, passage_table = _flow(found.passage)
    row: dict[str, Any] = {
        "number": found.number,
        "section": found.section,
        "page": found.page,
        "passage": passage,
        "question": question,
        "table": table or passage_table,
        "key": keys.get((found.section, found.number), keys.get(("", found.number))),
    }
    if found.blanks and sum(found.blanks) == len(found.options):
        starts = [sum(found.blanks[:n]) for n in range(len(found.blanks))]
        row["blanks"] = [found.options[at : at + size] for at, size in zip(starts, found.blanks, strict=True)]
    else:
        row["options"] = found.options
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
