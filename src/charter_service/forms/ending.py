"""How a document ends: the search for a short text that completes it from its present state.

The grammar is a black box that lists the bytes that may come next; bytes are read one at a time and can be taken back.
A run is greedy: it stops as soon as the document may end, takes a forced byte, prefers a byte that closes something,
then one that has just become possible, then the one it used least, which leads out of loops. If several ways are open
that differ in kind (names, alternatives), a separate run tries each, and the search follows the shortest. The ending
known from the state before is used again: at every place the search checks whether one of its last parts completes
the document.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from llguidance import LLMatcher

BLANKS = b" \n\t\r"
STEPS = 20000  # bytes that the search for a form's first ending may try
WRITING_STEPS = 2000  # the same while a document is written, when all others wait
# of processor time, for a byte on average; in a grammar of thousands of names a byte takes more
STEP_SECONDS = 1e-4
LOOKS = 48  # places of one search at which several ways are compared
WAYS = 12  # ways compared at one place
FREE = 96  # with more ways than this at one place a text counts as free
MOST_DIGITS = 20  # as many as 64 bits take, and more than a double tells apart
MOST_EXPONENT = 2
TAILS = 12  # beginnings of the known ending that may be skipped
_ANY = (1 << 256) - 1
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_LETTERS = bytes(range(ord("a"), ord("z") + 1)) + bytes(range(ord("A"), ord("Z") + 1))
_DIGITS = b"0123456789"


def _order(first: bytes) -> bytes:
    """All bytes, those of `first` first."""
    return first + bytes(value for value in range(256) if value not in first)


# Between the strings of JSON: ends first, then separators, then the cheapest values.
_BETWEEN = _order(b'}],:0123456789"n[{tf-.eE+')
_CLOSERS = b"}])>\"'|;`/<\n"
_WAYS_OUT = (1 << ord(" ")) | sum(1 << value for value in _CLOSERS)
_WITHIN = _order(_LETTERS + _DIGITS + b"_-.:/@,;!?#%&*()=+[]{}<>|~^$' \"")
_PLAIN = _WITHIN[: len(_LETTERS + _DIGITS) + 12]  # taken in turn if nothing tells which one is needed
_BLANK_BITS = sum(1 << value for value in BLANKS)
_BETWEEN_RANK = {value: rank for rank, value in enumerate(_BETWEEN)}
_WITHIN_RANK = {value: rank for rank, value in enumerate(_WITHIN)}


@dataclass(slots=True)
class Quotes:
    """Whether a JSON text is inside a string, followed byte by byte by its quotes."""

    inside: bool = False
    escaped: bool = False

    def feed(self, text: bytes) -> None:
        """Reads the next bytes."""
        for value in text:
            if not self.inside:
                self.inside = value == _QUOTE
            elif self.escaped:
                self.escaped = False
            elif value == _BACKSLASH:
                self.escaped = True
            elif value == _QUOTE:
                self.inside = False

    def copy(self) -> Quotes:
        """An independent copy of this state."""
        return Quotes(self.inside, self.escaped)


@dataclass(slots=True)
class Numbers:
    """The JSON number at the end of a text, kept to a size that every reader can hold: `feed` returns True when it
    has more than `MOST_DIGITS` digits, or `MOST_EXPONENT` digits in its exponent, which is finite as a double."""

    quotes: Quotes = field(default_factory=Quotes)
    digits: int = 0
    exponent: bool = False

    def feed(self, text: bytes) -> bool:
        """Reads the next bytes; returns whether a number has grown too long."""
        long = False
        for value in text:
            self.quotes.feed(bytes([value]))
            if self.quotes.inside:
                self.digits = 0
            elif value in _DIGITS:
                self.digits += 1
                long = long or self.digits > (MOST_EXPONENT if self.exponent else MOST_DIGITS)
            elif value in b"eE" and self.digits:
                self.digits, self.exponent = 0, True
            elif value not in b"+-.":
                self.digits, self.exponent = 0, False
        return long

    def copy(self) -> Numbers:
        """An independent copy of this state."""
        return Numbers(self.quotes.copy(), self.digits, self.exponent)


@dataclass(frozen=True, slots=True)
class Ending:
    """Bytes that complete a document: `fresh`, then the known ending from token `known_from` on (None: none of it)."""

    fresh: bytes
    known_from: int | None = None
    size: int = 0  # bytes of both


@dataclass(frozen=True, slots=True)
class Hints:
    """Knowledge of a form beside its grammar. usual: texts that end its documents at many places. words: texts that
    a pattern requires, which a search that sees only the next byte would not find."""

    usual: tuple[bytes, ...] = ()
    words: tuple[list[int], ...] = ()


class Search:
    """Searches endings from one state of a matcher over bytes, which it leaves as it was.

    `quotes` tells strings apart in JSON; None for other grammars. `known` is the ending before, as pieces. `usual` are
    texts that end such documents at many places, `words` what a text may need before it can be closed. Endings have
    at most `most` bytes, and the search tries at most `steps` bytes: half of them to compare ways, so that with fewer
    steps an ending gets longer rather than missed. With `dice` a run strays now and then, which gives other endings.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        quotes: Quotes | None,
        known: Sequence[bytes],
        hints: Hints,
        most: int,
        steps: int = STEPS,
    ) -> None:
        self._matcher, self._quotes, self._most, self._words = matcher, quotes, most, hints.words
        self._all = steps
        self._tails: list[tuple[int | None, list[int]]] = [(None, list(text)) for text in hints.usual if text]
        self._tails += _tails(known)
        self._looks, self._steps, self._until = 0, 0, 0.0
        self._dice: Random | None = None

    def shortest(self) -> Ending | None:
        """A short ending, not proven to be the shortest."""
        self._looks, self._steps, self._dice = LOOKS, self._all, None
        self._until = time.thread_time() + self._all * STEP_SECONDS
        return self._run(self._quotes.copy() if self._quotes else None, self._most)

    def others(self, tries: int) -> Iterator[Ending]:
        """Different endings, some of them longer: for callers with conditions beyond the grammar."""
        self._until = time.thread_time() + self._all * STEP_SECONDS
        remaining, each = self._all, STEPS // tries
        for attempt in range(tries):
            self._looks, self._steps, self._dice = 0, min(remaining, each), Random(attempt)
            remaining -= self._steps
            ending = self._run(self._quotes.copy() if self._quotes else None, self._most)
            remaining += self._steps  # what it did not need
            if ending is not None:
                yield ending

    def _run(self, quotes: Quotes | None, most: int) -> Ending | None:
        """One way to the end; the matcher is then set back."""
        matcher, out = self._matcher, bytearray()
        used: Counter[int] = Counter()
        before = 0
        try:
            while len(out) <= most and self._steps > 0 and time.thread_time() < self._until:
                self._steps -= 1
                if matcher.is_accepting():
                    return Ending(bytes(out), None, len(out))
                bits = self._next_bytes()
                if not bits:
                    return None
                if (tail := self._tail(bits, most - len(out))) is not None:
                    place, text = tail
                    fresh = bytes(out) + (bytes(text) if place is None else b"")
                    return Ending(fresh, place, len(out) + len(text))
                next_bytes = self._choose(bits, before, used, quotes, most - len(out))
                if matcher.try_consume_tokens(next_bytes) != len(next_bytes):
                    return None
                out += bytes(next_bytes)
                used.update(next_bytes)
                before = bits
                if quotes is not None:
                    quotes.feed(bytes(next_bytes))
            return None
        finally:
            if out:
                matcher.rollback(len(out))

    def _next_bytes(self) -> int:
        """Bytes that may come next, as bits."""
        bits = int.from_bytes(self._matcher.compute_bitmask(), "little") & _ANY
        return 0 if self._matcher.is_error() else bits

    def _tail(self, bits: int, most: int) -> tuple[int | None, list[int]] | None:
        """The shortest part of the known ending that completes the document here: its first token and its bytes."""
        if self._dice is not None:
            return None
        for place, tail in self._tails:
            if bits >> tail[0] & 1 and len(tail) <= most and self._completes(tail):
                return place, tail
        return None

    def _completes(self, tail: list[int]) -> bool:
        accepted = self._matcher.try_consume_tokens(tail)
        complete = accepted == len(tail) and self._matcher.is_accepting()
        if accepted:
            self._matcher.rollback(accepted)
        return complete

    def _choose(self, bits: int, before: int, used: Counter[int], quotes: Quotes | None, most: int) -> list[int]:
        """The next byte of a run, or the bytes of a word."""
        if quotes is not None and not quotes.inside:
            # digits take turns: the same digit again may approach a bound forever and never pass it
            values = _list_bits(bits & ~_BLANK_BITS or bits)
            values.sort(key=lambda v: (_BETWEEN_RANK[ord("0") if v in _DIGITS else v], used[v], v))
            closes = values[0] in b"}]"
        elif bits.bit_count() > FREE:
            if self._dice is None or self._dice.random() < 0.5:
                return self._leave(bits, used, quotes is not None)
            values, closes = [value for value in _WITHIN if bits >> value & 1], True
        else:
            closers = b'"' if quotes is not None else _CLOSERS
            values = _list_bits(bits)
            values.sort(key=lambda v: (v not in closers, before >> v & 1, used[v], _WITHIN_RANK[v]))
            closes = values[0] in closers
        if self._dice is not None:
            return [self._stray(values)]
        return [values[0] if closes or len(values) == 1 else self._compare(values, quotes, most)]

    def _leave(self, bits: int, used: Counter[int], quoted: bool) -> list[int]:
        """A way out of free text: the quote of a string, a word that it lacks, a byte after which little may come, or
        a closing byte that was not allowed before."""
        if quoted and bits >> _QUOTE & 1:
            return [_QUOTE]
        for word in self._words:
            accepted = self._matcher.try_consume_tokens(word)
            ends = accepted == len(word) and self._matcher.is_accepting()
            closes = ends or (accepted == len(word) and bool(self._next_bytes() & ~bits & (_WAYS_OUT | 1 << _QUOTE)))
            if accepted:
                self._matcher.rollback(accepted)
            if closes:
                return word
        plain = min((v for v in _PLAIN if bits >> v & 1), key=used.__getitem__, default=None)
        if quoted and plain is not None:
            return [plain]
        way, best = plain, (2, 0)
        for value in _list_bits(bits & _WAYS_OUT) + _list_bits(bits)[: plain is None]:
            self._matcher.consume_token(value)
            after = self._next_bytes()
            self._matcher.rollback(1)
            score = (0, after.bit_count()) if after.bit_count() <= FREE else (2 - bool(after & ~bits & _WAYS_OUT), 0)
            if score < best or way is None:
                best, way = score, value
        assert way is not None
        return [way]

    def _stray(self, values: list[int]) -> int:
        assert self._dice is not None
        if self._dice.random() < 0.5:
            return values[0]
        return self._dice.choice(values[: 2 * WAYS])

    def _compare(self, values: list[int], quotes: Quotes | None, most: int) -> int:
        """The first of some ways in their order, or the one with the shortest run if they differ in kind."""
        best, ways = values[0], _pick_kinds(values)
        # half of the steps is for the way taken
        if self._looks <= 0 or len(ways) < 2 or self._steps < self._all // 2:
            return best
        looks_left, self._looks = self._looks - 1, 0  # the runs look no further
        for value in ways:
            if self._steps < self._all // 2:
                break
            self._matcher.consume_token(value)
            state = quotes.copy() if quotes is not None else None
            if state is not None:
                state.feed(bytes([value]))
            ending = self._run(state, most - 1)
            self._matcher.rollback(1)
            if ending is not None:
                best, most = value, ending.size  # the next ones must be shorter
        self._looks = looks_left
        return best


def _list_bits(bits: int) -> list[int]:
    """The positions of set bits."""
    values = []
    while bits:
        lowest = bits & -bits
        values.append(lowest.bit_length() - 1)
        bits ^= lowest
    return values


def _pick_kinds(values: list[int]) -> list[int]:
    """One of several digits, one byte of longer characters, and a few others: ways to endings of other lengths."""
    ways: list[int] = []
    met: set[str] = set()
    for value in values:
        kind = "digit" if value in _DIGITS else "wide" if value > 127 else ""
        if kind not in met:
            ways.append(value)
        met.update({kind} - {""})
    return ways[:WAYS] if any(value not in b"0-.eE+" for value in ways) else []


def _tails(known: Sequence[bytes]) -> list[tuple[int, list[int]]]:
    """The last parts of a known ending, shortest first, with the token at which each begins."""
    text = b"".join(known)
    tails, start = [], 0
    for place, piece in enumerate(known[:TAILS]):
        tails.append((place, list(text[start:])))
        start += len(piece)
    return tails[::-1]
