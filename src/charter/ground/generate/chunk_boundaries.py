"""Borders at which a prompt is cut for reading; they depend only on the position in the prompt.

The rounding of attention depends on how many tokens are read at once, and in int8 a different last bit can become a
different word. So a server always reads a prompt in the same pieces: alone or beside others, in one step or in several.
Only whole pieces are kept for texts that begin alike. The state of a token then depends only on the tokens before it,
and a kept beginning equals, bit for bit, a new reading of it.

With short pieces little of a kept text must be read again; long pieces are read faster. So a piece has the least
length, or a small part of the length before it.
"""

from __future__ import annotations

from dataclasses import dataclass

# Tokens of a piece. On a CPU, torch takes a kernel that is three times as slow for fewer than 768 queries.
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
    """The borders if `chunk` tokens are read at a time (0: any number) and blocks of `block` tokens are kept. `same`:
    whether equal pieces give equal bits on this device; if not, pieces have the greatest length."""
    most = max(block, _power(min(chunk or LONGEST, LONGEST)))
    return Borders(min(SHORTEST, most) if same else most, most)


def _power(number: int) -> int:
    """The largest power of two up to a number."""
    return 1 << max(0, number.bit_length() - 1)
