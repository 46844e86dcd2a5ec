"""What a parser gives back, from inside its sandbox: a text with its pages, or one sentence that refuses the file.

The modules of this folder run in the sandbox, which shows them no other part of Charter: they import only each other
and libraries.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

_DROPPED = dict.fromkeys([*range(9), 11, *range(14, 32), 127, 0xFFFE, 0xFFFF])
_SURROGATES = re.compile("[\ud800-\udfff]")


class Refused(Exception):
    """A file that isn't read; the message is one sentence for the person who sent it."""


class Damaged(Refused):
    """A file that breaks off, or breaks the rules of its format."""

    def __init__(self, kind: str = "") -> None:
        super().__init__(
            f"This {kind}{' ' if kind else ''}file is damaged or cut off; save it again and send the new one."
        )


class Locked(Refused):
    """A file that only a password opens."""

    def __init__(self, kind: str = "") -> None:
        super().__init__(
            f"This {kind}{' ' if kind else ''}file is locked with a password; save it without one and send that."
        )


@dataclass(frozen=True)
class Bounds:
    """What a file may hold: bytes unpacked, times that a member may be larger than packed, members, pages, and
    characters of text."""

    unpacked: int
    ratio: int
    members: int
    pages: int
    characters: int


class Text:
    """The text of a document as it grows. It holds no control characters but tabs and line ends, and no lone
    surrogates. Raises Refused as soon as there is too much of it."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.pieces, self.pages, self.length = list[str](), list[int](), 0
        self.end = ""  # its last two characters

    def add(self, piece: str) -> None:
        """Append characters."""
        if _SURROGATES.search(piece):  # pairs become one character, the others a mark of loss
            piece = piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        piece = piece.translate(_DROPPED)
        self.length += len(piece)
        if self.length > self.bounds.characters:
            raise Refused(
                f"This file holds over {self.bounds.characters:,} characters, and no more can be read; "
                "send a part of it."
            )
        self.pieces.append(piece)
        self.end = (self.end + piece[-2:])[-2:]

    def gap(self) -> None:
        """End a paragraph or a list: an empty line follows it, and not two."""
        if self.length and self.end != "\n\n":
            self.add("\n" if self.end.endswith("\n") else "\n\n")

    def line(self, line: str) -> None:
        """Append a line, unless it is blank."""
        if line.strip():
            self.add(f"{line.rstrip()}\n")

    def block(self, words: str) -> None:
        """Append a paragraph with an empty line before and after it, unless it is blank."""
        if words.strip():
            self.gap()
            self.add(f"{words.strip()}\n\n")

    def page(self, mark: str) -> None:
        """Begin a page, whose first line is the mark."""
        self.gap()
        self.pages.append(self.length)
        self.add(f"{mark}\n")

    def check_pages(self, count: int, what: str = "pages") -> None:
        """Raises Refused for more pages than may be read."""
        if count > self.bounds.pages:
            raise Refused(
                f"This file has {count:,} {what}, and at most {self.bounds.pages:,} can be read; send a part of it."
            )


def row(cells: list[str]) -> str:
    """A row of a table as a line."""
    return f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |" if any(map(str.strip, cells)) else ""


def answer(read: Callable[[bytes, Text], str]) -> None:
    """Read the file of the descriptor that the first argument names, within the bounds of the second, and print the
    outcome as JSON: {"kind", "text", "pages"}, or {"refused": sentence}."""
    with open(int(sys.argv[1]), "rb") as file:
        data = file.read()
    text = Text(Bounds(**json.loads(sys.argv[2])))
    try:
        kind = read(data, text)
        outcome = {"kind": kind, "text": "".join(text.pieces).rstrip() + "\n", "pages": text.pages}
    except Refused as refusal:
        outcome = {"refused": str(refusal)}
    with open(sys.stdout.fileno(), "wb", closefd=False) as file:
        file.write(json.dumps(outcome, ensure_ascii=False).encode())
    sys.stdout.flush()
    os._exit(0)  # what a library has still open is not worth a crash at the end
