"""The order in which text is learnt: every token once an epoch, a pure function of seed and epoch, in bounded memory.

A document of n tokens is read as [B, tokens...] and learnt as [tokens..., B], B the boundary token; it is cut into
pieces of at most `context` inputs, each of which is a text of its own to attention. The pieces of all documents are
numbered, and an epoch passes through them in the order of a pseudo-random permutation that is computed, not stored
(a Feistel network with cycle walking: Luby and Rackoff 1988; Black and Rogaway 2002). Memory is 8 bytes a document,
whatever the number of pieces; a run's position in its data is two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.seed import derive_seed
from charter.ground.text.packing import deal
from charter.ground.text.shards import TokenShards

ROUNDS = 6
# pieces computed at once
BLOCK = 256
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


def permute(places: Ints, count: int, seed: int) -> Ints:
    """Images of these places under the permutation of 0 .. count-1 of that seed."""
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    keys = [np.uint64(derive_seed(seed, "round", n)) for n in range(ROUNDS)]
    images = _network(places.astype(np.uint64), half, keys)
    # the network permutes up to 4 * count numbers; those outside go through it again
    while (outside := images >= count).any():
        images[outside] = _network(images[outside], half, keys)
    return images.astype(np.int64)


def _network(words: Words, half: int, keys: Sequence[np.uint64]) -> Words:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    high, low = words >> bits, words & mask
    for key in keys:
        high, low = low, high ^ (_mix(low, key) & mask)
    return (high << bits) | low


def _mix(words: Words, key: np.uint64) -> Words:
    """Mix all bits of the words and the key (the finaliser of SplitMix64: Steele 2014)."""
    x = (words + key) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class Cursor:
    """A run's position in its data: `at` pieces of this epoch are done."""

    epoch: int = 0
    at: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Inputs `start` .. `start + length` of a document of one corpus, counted with the boundary before its tokens."""

    part: int
    document: int
    start: int
    length: int


class Text(Protocol):
    """A text to learn; `length` counts its inputs."""

    @property
    def length(self) -> int: ...


T = TypeVar("T", bound=Text)


class Source(Protocol[T]):
    """A source of texts; `boundary` is the token before and after each."""

    boundary: int

    def take(self, cursor: Cursor, tokens: int, seed: int) -> tuple[list[T], Cursor]:
        """The next texts, of about `tokens` tokens, and the position after them."""
        ...

    def ids(self, piece: T) -> Ints:
        """What a text reads and, one place on, what it learns: [length + 1]."""
        ...


class Pieces:
    """The pieces of the documents of one or several corpora."""

    def __init__(self, parts: Sequence[TokenShards], context: int, boundary: int) -> None:
        """Raises CharterError if there is nothing to read."""
        self.parts, self.context, self.boundary = parts, context, boundary
        lengths = [part.lengths.astype(np.int64) for part in parts]
        counts = np.concatenate(
            [np.zeros(0, np.int64), *(-(-(part_lengths + 1) // context) for part_lengths in lengths)]
        )
        self._first_piece = np.concatenate([[0], np.cumsum(counts)])
        self._first_document = np.cumsum([0, *(len(part_lengths) for part_lengths in lengths)])
        self.count = int(self._first_piece[-1])
        self.tokens = sum(int((part_lengths + 1).sum()) for part_lengths in lengths)
        if not self.count:
            raise CharterError("the corpus holds no text to learn from; its report lists what was dropped")

    def piece(self, number: int) -> Piece:
        """The piece of that number."""
        index = int(np.searchsorted(self._first_piece, number, "right")) - 1
        part = int(np.searchsorted(self._first_document, index, "right")) - 1
        document = index - int(self._first_document[part])
        start = (number - int(self._first_piece[index])) * self.context
        remaining = int(self.parts[part].lengths[document]) + 1 - start
        return Piece(part, document, start, min(self.context, remaining))

    def of(self, part: int, document: int) -> list[Piece]:
        """All pieces of a document."""
        first = self._first_piece[self._first_document[part] + document :][:2]
        return [self.piece(number) for number in range(int(first[0]), int(first[1]))]

    def whole(self, piece: Piece) -> int:
        """Inputs of the document that a piece is cut from."""
        return int(self.parts[piece.part].lengths[piece.document]) + 1

    def ids(self, piece: Piece) -> Ints:
        """What a piece reads and, one place on, what it learns: [length + 1]."""
        text = self.parts[piece.part].read(piece.document, max(0, piece.start - 1), piece.length + 1)
        opening = [[self.boundary]] if piece.start == 0 else []
        return np.concatenate([*opening, text, [self.boundary]])[: piece.length + 1]

    def take(self, cursor: Cursor, tokens: int, seed: int) -> tuple[list[Piece], Cursor]:
        """The next pieces of the run, the fewest that hold at least `tokens` tokens, and the position after them."""
        pieces: list[Piece] = []
        missing, epoch, at = tokens, cursor.epoch, cursor.at
        while missing > 0:
            if at == self.count:
                epoch, at = epoch + 1, 0
            block = np.arange(at, min(self.count, at + BLOCK), dtype=np.int64)
            for number in permute(block, self.count, derive_seed(seed, "epoch", epoch)).tolist():
                piece = self.piece(number)
                pieces.append(piece)
                missing, at = missing - piece.length, at + 1
                if missing <= 0:
                    break
        return pieces, Cursor(epoch, at)


def balance(lengths: Sequence[int], most: int, multiple: int = 1) -> list[list[int]]:
    """Indices in groups of at most `most` tokens, about equally full; longer texts stand alone. The number of groups is
    the smallest multiple of `multiple` at which all fit."""
    most = max([most, *lengths])
    number = -(-max(1, -(-sum(lengths) // most)) // multiple) * multiple
    while True:
        groups = deal(lengths, number)
        if all(sum(lengths[index] for index in group) <= most for group in groups):
            return groups
        number += multiple
