"""The long-context stage: the window grows by steps, and texts that fill it are learnt far more often than they occur.

Of a step's tokens a share stands in texts as long as the window. These begin where a document begins, or go on in one
that is longer; where a document ends before the window does, the next one of its source follows behind the boundary,
and attention sees both: a book is one source in chapters. A source that is shorter than the window joins the others of
its kind. The rest of the step is documents as they are, so that short texts are not unlearnt (Fu et al. 2024).

Which texts a step takes is a function of its number alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from charter.ground.artifact.errors import CharterError
from charter.ground.model.rope import enlarge
from charter.ground.model.shape import Shape
from charter.ground.settings.seed import derive_seed
from charter.ground.text.shards import TokenShards
from charter.rooms.pretrain.lookups import Lookups
from charter.rooms.pretrain.order import Cursor, Ints, Piece, Pieces, Source, shuffled
from charter.rooms.pretrain.start import Start
from charter.rooms.pretrain.window_settings import Window, share


@dataclass(frozen=True, slots=True)
class LongText:
    """Inputs `start` .. `start + length` of a stream; `seed`: of the facts written into it, None: as it is."""

    stream: int
    start: int
    length: int
    seed: int | None = None


class Stream:
    """Documents of one corpus one after the other, a boundary before each and behind the last."""

    def __init__(self, shards: TokenShards, chosen: Ints, boundary: int) -> None:
        self.shards, self.chosen, self.boundary = shards, chosen, boundary
        self.starts = np.concatenate([[0], np.cumsum(shards.lengths[chosen].astype(np.int64) + 1)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def cuts(self, window: int) -> Ints:
        """Where texts of a whole window begin: at a document, or where the last text ended inside one that holds
        another window; what is left of a document otherwise is passed over."""
        found, at = array("q"), 0
        while at + window <= len(self):
            found.append(at)
            at += window
            document = int(np.searchsorted(self.starts, at, "right")) - 1
            inside = document < len(self.chosen) and at > self.starts[document]
            if inside and at + window > self.starts[document + 1]:
                at = int(self.starts[document + 1])
        return np.array(found, dtype=np.int64)

    def read(self, start: int, count: int) -> Ints:
        """Tokens `start` .. `start + count` of the stream."""
        parts: list[Ints] = []
        document = int(np.searchsorted(self.starts, start, "right")) - 1
        while count > 0:
            if document == len(self.chosen):
                parts.append(np.array([self.boundary], dtype=np.int64))
                break
            skip = start - int(self.starts[document])
            opens = int(skip == 0)
            part = self.shards.read(int(self.chosen[document]), max(0, skip - 1), count - opens)
            parts += [np.array([self.boundary] * opens, dtype=np.int64), part]
            taken = len(part) + opens
            start, count, document = start + taken, count - taken, document + 1
        return np.concatenate(parts)


def streams(shards: TokenShards, boundary: int, window: int) -> list[Stream]:
    """A stream a source that fills a window, and one of all documents of the others, if these fill one."""
    found, small = list[Stream](), list[int]()
    for source in range(len(shards.index.sources)):
        own = Stream(shards, np.flatnonzero(shards.sources == source), boundary)
        if len(own) >= window:
            found.append(own)
        else:
            small.append(source)
    rest = Stream(shards, np.flatnonzero(np.isin(shards.sources, small)), boundary)
    return found + ([rest] if len(rest) >= window else [])


class LongTexts:
    """The texts of one window: whole windows, and documents as they are beside them."""

    def __init__(
        self, parts: Sequence[TokenShards], window: int, boundary: int, how: Window, lookups: Lookups | None
    ) -> None:
        """Raises CharterError where the corpus doesn't fill the window once."""
        self.window, self.boundary, self.how, self.lookups = window, boundary, how, lookups
        self.streams = [stream for part in parts for stream in streams(part, boundary, window)]
        self._cuts = [stream.cuts(window) for stream in self.streams]
        self._first = np.cumsum([0, *(len(own) for own in self._cuts)])
        self.count = int(self._first[-1])
        if not self.count:
            most = max(int((part.lengths.astype(np.int64) + 1).sum()) for part in parts)
            raise CharterError(
                f"no corpus fills a window of {window} tokens, the largest holds {most}; give more text, or end with a "
                "smaller window"
            )
        self.documents = Pieces(parts, window, boundary)

    def take(self, cursor: Cursor, tokens: int, seed: int) -> tuple[list[Piece | LongText], Cursor]:
        """The texts of the step behind `cursor.at` others."""
        count, rest = share(self.how, self.window, tokens)
        long = [self._long(cursor.at * count + n, seed) for n in range(count)]
        # documents of one step: less than one adds up over several
        a_step = rest * self.documents.count / self.documents.tokens
        first, end = round(cursor.at * a_step), round((cursor.at + 1) * a_step)
        short = [self._document(number, seed) for number in range(first, end)]
        return [*long, *short], Cursor(0, cursor.at + 1)

    def ids(self, piece: Piece | LongText) -> Ints:
        """What a text reads and, one place on, what it learns: [length + 1]."""
        if isinstance(piece, Piece):
            return self.documents.ids(piece)
        found = self.streams[piece.stream].read(piece.start, piece.length + 1)
        if piece.seed is not None and self.lookups is not None:
            return self.lookups.written(found, piece.seed)
        return found

    def _long(self, number: int, seed: int) -> LongText:
        epoch, place = divmod(number, self.count)
        chosen = int(shuffled(np.array([place]), self.count, derive_seed(seed, "long", epoch))[0])
        stream = int(np.searchsorted(self._first, chosen, "right")) - 1
        start = int(self._cuts[stream][chosen - self._first[stream]])
        own = derive_seed(seed, "facts", number)
        facts = self.lookups is not None and own % 1000 < 1000 * self.how.lookups
        return LongText(stream, start, self.window, own if facts else None)

    def _document(self, number: int, seed: int) -> Piece:
        epoch, place = divmod(number, self.documents.count)
        order = derive_seed(seed, "beside", epoch)
        return self.documents.piece(int(shuffled(np.array([place]), self.documents.count, order)[0]))


class Reading(NamedTuple):
    """What is read in one stage: texts to learn, and the held-out ones in pieces of its window."""

    train: Source[Any]
    heldout: Pieces


@dataclass
class Windows:
    """The stages of a run; one that has none learns every document once an epoch at the model's own window."""

    begun: Start
    how: Window
    _readings: dict[int, Reading] = field(default_factory=dict)

    def enter(self, step: int) -> Reading:
        """What the step of that number reads, which the model reads positions for from now on."""
        number = stage_of(self.how, step)
        if number not in self._readings:
            self._readings = {number: self._reading(number)}
            if self.how.stages:
                self.begun.model.take_positions(shape_at(self.begun.plan.shape, self.how, number))
        return self._readings[number]

    def _reading(self, number: int) -> Reading:
        begun = self.begun
        if not self.how.stages:
            context = begun.plan.context
            return Reading(
                Pieces(begun.train, context, begun.boundary), Pieces(begun.heldout, context, begun.boundary)
            )
        window = self.how.stages[number].window
        lookups = Lookups.of(begun.train, begun.tokenizer) if self.how.lookups else None
        texts = LongTexts(begun.train, window, begun.boundary, self.how, lookups)
        return Reading(texts, Pieces(begun.heldout, window, begun.boundary))


def stage_of(how: Window, step: int) -> int:
    """The stage of a step; the last where all are behind it, 0 where there are none."""
    ends = accumulate(stage.steps for stage in how.stages[:-1])
    return sum(step >= end for end in ends)


def parts(how: Window, steps: int, step: int) -> Iterator[tuple[str, int, int]]:
    """(name, first step, end) of every stage that ends behind `step`: within one, steps take equally long."""
    first = 0
    for stage in how.stages:
        end = first + stage.steps
        if step < end:
            yield f"pretrain, window {stage.window:,}", first, end
        first = end
    if not how.stages:
        yield "pretrain", 0, steps


def shape_at(shape: Shape, how: Window, number: int) -> Shape:
    """The shape of the given model in a stage. Raises CharterError where it can't be enlarged so."""
    return enlarge(shape, how.stages[number].window, how.method, how.base)
