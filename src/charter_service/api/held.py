"""What a model has written and nobody has checked yet: it is held back until the reply so far has passed.

It is checked where a sentence or a line ends, so that a reader gets whole sentences, and after `hold` pieces at most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from charter_service.api.leniency import Watch
from charter_service.api.model_request import Part, Piece

FIRST = 16  # most pieces before the first check: a reader waits for it
LEAST = 8  # pieces between two checks, so that lists and abbreviations don't cost one each
_ENDS = re.compile(r"(?:[.!?\u2026\u3002\uff01\uff1f][\"')\]*_\u201d\u2019\u00bb]*\s*|\n\s*)\Z")


@dataclass(slots=True)
class Held:
    """Unchecked pieces of one sample, at most `hold` of them."""

    hold: int
    watch: Watch | None  # None if the policy is off; its memory is freed with the sample
    text: str = ""
    count: int = 0
    checked: int = 0
    pieces: list[Part] = field(default_factory=list)
    ended: bool = False
    refused: bool = False

    def add(self, part: Part) -> None:
        """Holds a part back."""
        self.pieces.append(part)
        if isinstance(part, Piece):
            self.text += part.text
            self.count += 1
        else:
            self.ended = True

    @property
    def due(self) -> bool:
        """Whether the text must be checked now."""
        new = self.count - self.checked
        most = self.hold if self.checked else min(FIRST, self.hold)
        return self.ended or new >= most or (new >= LEAST and bool(_ENDS.search(self.text[-20:])))

    def release(self) -> list[Part]:
        """The pieces that may be sent. A blank reply was not checked: its tokens and their likeliest alternatives,
        which could reveal text, are left out."""
        self.checked = self.count
        pieces, self.pieces = self.pieces, []
        if self.text.strip():
            return pieces
        return [_without_tokens(part) for part in pieces]


def _without_tokens(part: Part) -> Part:
    """A part without its tokens."""
    return replace(part, tokens=()) if isinstance(part, Piece) else replace(part, token=None)
