"""Where a prompt is cut for reading: at places that depend on the place alone.

Attention rounds by how many tokens are read at once, and in int8 a last bit becomes another word. So a server reads
every prompt in the same pieces, whether it comes alone, beside others, in one step or in several; and of what it read
only whole pieces are kept for texts that begin alike. What is known of a token then depends on the tokens before it and
on nothing else, and a kept beginning is, bit for bit, what reading it again would give.

Short pieces leave little of a kept text to be read again, long ones are read faster: a piece is the shortest there is,
or a small part of what stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass

# Tokens of a piece. On a CPU fewer than 768 queries at once go through a kernel that takes three times as long.
SHORTEST, LONGEST = 64, 1024
_SHARE = 128


@dataclass(frozen=True, slots=True)
class Borders:
    """Borders of pieces of `least` to `most` tokens, both powers of two."""

    least: int
    most: int

    def before(self, place: int) -> int:
        """The last border up to a place."""
        return place - place % self._size(place)

    def after(self, place: int) -> int:
        """The first border behind a place."""
        return self.before(place) + self._size(place)

    def _size(self, place: int) -> int:
        """Tokens of the piece in which a place lies."""
        return max(self.least, min(self.most, _power(place // _SHARE)))


def borders(chunk: int, block: int, same: bool) -> Borders:
    """The borders where `chunk` tokens are read at a time (0: any number) and blocks of `block` are kept. `same`:
    whether pieces bring the same bits at all; where they don't, they are as long as they may be."""
    most = max(block, _power(min(chunk or LONGEST, LONGEST)))
    return Borders(min(SHORTEST, most) if same else most, most)


def _power(number: int) -> int:
    """The largest power of two up to a number."""
    return 1 << max(0, number.bit_length() - 1)
