"""What a model has written and nobody has checked yet: it is held back until the reply so far has passed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from charter.service.api.leniency import Watch
from charter.service.api.model_request import Part, Piece


@dataclass(slots=True)
class Held:
    """Unchecked pieces of one sample; `next_check`: pieces until the first check."""

    next_check: int
    watch: Watch | None  # None if the policy is off; its memory is freed with the sample
    text: str = ""
    count: int = 0
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
        return self.ended or self.count >= self.next_check

    def release(self, hold: int) -> list[Part]:
        """The pieces that may be sent; the next check comes `hold` pieces later. A blank reply was not checked: its
        tokens and their likeliest alternatives, which could reveal text, are left out."""
        self.next_check = self.count + hold
        pieces, self.pieces = self.pieces, []
        if self.text.strip():
            return pieces
        return [_without_tokens(part) for part in pieces]


def _without_tokens(part: Part) -> Part:
    """A part without its tokens."""
    return replace(part, tokens=()) if isinstance(part, Piece) else replace(part, token=None)
