"""The long-context stage: the window grows in stages, and texts that fill it are learnt far more often than they occur.

A share of a step's tokens is in texts as long as the window. These begin at the start of a document, or continue a
longer one. If a document ends before the window does, the next one of its source follows after the boundary, and
attention sees both: a book is one source in chapters. Sources shorter than the window are joined. The rest of the step
is unchanged documents, so that the model doesn't forget short texts (Fu et al. 2024).

The texts of a step depend only on its number.
"""

from __future__ import annotations

import random
import re
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
from charter.ground.text.facts import HELD_PLACES, HELD_WORDS, question, statement
from charter.ground.text.shards import TokenShards
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.pretrain.order import Cursor, Ints, Piece, Pieces, Source, permute
from charter.rooms.pretrain.size import Window, share
from charter.rooms.pretrain.start import Start

# tokens per fact; most facts in a text, which must stay distinct
EVERY, MOST = 64, 2048
WORDS = re.compile(r"(?<![\w-])[a-z]{4,9}(?![\w-])")
# tokens of a corpus that are searched for words
READ = 200_000
# words
LEAST = 64


class Lookups:
    """Writes facts into texts, as a function of text and seed, which teach looking things up: meaningless ones, each
    stated once and asked for once later in the text.

    A toy model that has read a few million tokens of prose has had little reason to look far back. Here it has one: the
    password of a place can't be guessed, and questions come at every distance up to the window. The answer repeats the
    fact in its own words, so copying an earlier passage answers it. Places and words come from the corpus. Those of the
    recall grid are left out, so that the grid measures looking up and not memory.
    """

    def __init__(self, words: Sequence[str], tokenizer: Tokenizer) -> None:
        """Raises CharterError if there are too few words."""
        self.words, self.tokenizer = sorted(set(words) - {*HELD_PLACES, *HELD_WORDS}), tokenizer
        if len(self.words) < LEAST:
            raise CharterError(
                f"the corpus has {len(self.words)} words to make facts of, {LEAST} are needed; set window.lookups to 0"
            )

    @classmethod
    def of(cls, parts: Sequence[TokenShards], tokenizer: Tokenizer) -> Lookups:
        """Take words from the first documents of every corpus."""
        words: set[str] = set()
        for part in parts:
            remaining = READ
            for document in range(len(part.lengths)):
                ids = part.read(document, 0, min(remaining, int(part.lengths[document])))
                words.update(WORDS.findall(tokenizer.decode(ids.tolist())))
                remaining -= len(ids)
                if remaining <= 0:
                    break
        return cls(sorted(words), tokenizer)

    def write(self, ids: Ints, seed: int) -> Ints:
        """Write as many facts into the text [n] as fit, and cut it to its length. Raises CharterError if none fits."""
        rng = random.Random(seed)
        count = min(max(1, len(ids) // EVERY), MOST, len(self.words))
        inserted: list[tuple[float, list[int]]] = []
        room = len(ids)
        for place in rng.sample(self.words, count):
            word = f"{rng.choice(self.words)}-{rng.randrange(100, 1000)}"
            first = rng.random()
            behind = first + (1 - first) * rng.random()
            fact = self._encode(f"\n\n{statement(place, word)}\n\n")
            lookup = self._encode(f"\n\n{question(place)}\n{statement(place, word)}\n\n")
            if len(fact) + len(lookup) < room:
                inserted += [(first, fact), (behind, lookup)]
                room -= len(fact) + len(lookup)
        if not inserted:
            raise CharterError(
                f"a text of {len(ids)} tokens has no room for a fact and its question; begin window.stages with a "
                "larger window, or set window.lookups to 0"
            )
        parts, at = list[Ints](), 0
        for share_before, inserted_ids in sorted(inserted):
            # after the boundary that opens the text
            to = 1 + int(share_before * (room - 1))
            parts += [ids[at:to], np.array(inserted_ids, dtype=ids.dtype)]
            at = to
        return np.concatenate([*parts, ids[at:room]])

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)


@dataclass(frozen=True, slots=True)
class LongText:
    """Inputs `start` .. `start + length` of a stream; `seed`: of the facts written into it, None for no facts."""

    stream: int
    start: int
    length: int
    seed: int | None = None


class Stream:
    """Documents of one corpus in sequence, with a boundary before each and after the last."""

    def __init__(self, shards: TokenShards, documents: Ints, boundary: int) -> None:
        self.shards, self.documents, self.boundary = shards, documents, boundary
        self.starts = np.concatenate([[0], np.cumsum(shards.lengths[documents].astype(np.int64) + 1)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def cuts(self, window: int) -> Ints:
        """Starts of texts of a whole window: at a document, or at the last text's end inside a document that holds
        another window. Other remainders of documents are skipped."""
        starts, at = array("q"), 0
        while at + window <= len(self):
            starts.append(at)
            at += window
            document = int(np.searchsorted(self.starts, at, "right")) - 1
            inside = document < len(self.documents) and at > self.starts[document]
            if inside and at + window > self.starts[document + 1]:
                at = int(self.starts[document + 1])
        return np.array(starts, dtype=np.int64)

    def read(self, start: int, count: int) -> Ints:
        """Tokens `start` .. `start + count` of the stream."""
        parts: list[Ints] = []
        document = int(np.searchsorted(self.starts, start, "right")) - 1
        while count > 0:
            if document == len(self.documents):
                parts.append(np.array([self.boundary], dtype=np.int64))
                break
            skip = start - int(self.starts[document])
            opens = int(skip == 0)
            part = self.shards.read(int(self.documents[document]), max(0, skip - 1), count - opens)
            parts += [np.array([self.boundary] * opens, dtype=np.int64), part]
            read_count = len(part) + opens
            start, count, document = start + read_count, count - read_count, document + 1
        return np.concatenate(parts)


def streams(shards: TokenShards, boundary: int, window: int) -> list[Stream]:
    """One stream for each source that fills a window, and one for all other documents, if they fill one."""
    long, small = list[Stream](), list[int]()
    for source in range(len(shards.index.sources)):
        stream = Stream(shards, np.flatnonzero(shards.sources == source), boundary)
        if len(stream) >= window:
            long.append(stream)
        else:
            small.append(source)
    remainder = Stream(shards, np.flatnonzero(np.isin(shards.sources, small)), boundary)
    return long + ([remainder] if len(remainder) >= window else [])


class LongTexts:
    """The texts of one stage: whole windows, and unchanged documents beside them."""

    def __init__(
        self, parts: Sequence[TokenShards], window: int, boundary: int, how: Window, lookups: Lookups | None
    ) -> None:
        """Raises CharterError if the corpus doesn't fill the window once."""
        self.window, self.boundary, self.how, self.lookups = window, boundary, how, lookups
        self.streams = [stream for part in parts for stream in streams(part, boundary, window)]
        self._cuts = [stream.cuts(window) for stream in self.streams]
        self._first = np.cumsum([0, *(len(starts) for starts in self._cuts)])
        self.count = int(self._first[-1])
        if not self.count:
            most = max(int((part.lengths.astype(np.int64) + 1).sum()) for part in parts)
            raise CharterError(
                f"no corpus fills a window of {window} tokens, the largest holds {most}; give more text, or end with a "
                "smaller window"
            )
        self.documents = Pieces(parts, window, boundary)

    def take(self, cursor: Cursor, tokens: int, seed: int) -> tuple[list[Piece | LongText], Cursor]:
        """The texts of step number `cursor.at`."""
        count, short_tokens = share(self.how, self.window, tokens)
        long = [self._long(cursor.at * count + n, seed) for n in range(count)]
        # documents per step; fractions add up over several steps
        a_step = short_tokens * self.documents.count / self.documents.tokens
        first, end = round(cursor.at * a_step), round((cursor.at + 1) * a_step)
        short = [self._document(number, seed) for number in range(first, end)]
        return [*long, *short], Cursor(0, cursor.at + 1)

    def ids(self, piece: Piece | LongText) -> Ints:
        """What a text reads and, one place on, what it learns: [length + 1]."""
        if isinstance(piece, Piece):
            return self.documents.ids(piece)
        text = self.streams[piece.stream].read(piece.start, piece.length + 1)
        if piece.seed is not None and self.lookups is not None:
            return self.lookups.write(text, piece.seed)
        return text

    def _long(self, number: int, seed: int) -> LongText:
        epoch, place = divmod(number, self.count)
        index = int(permute(np.array([place]), self.count, derive_seed(seed, "long", epoch))[0])
        stream = int(np.searchsorted(self._first, index, "right")) - 1
        start = int(self._cuts[stream][index - self._first[stream]])
        facts_seed = derive_seed(seed, "facts", number)
        facts = self.lookups is not None and facts_seed % 1000 < 1000 * self.how.lookups
        return LongText(stream, start, self.window, facts_seed if facts else None)

    def _document(self, number: int, seed: int) -> Piece:
        epoch, place = divmod(number, self.documents.count)
        order = derive_seed(seed, "beside", epoch)
        return self.documents.piece(int(permute(np.array([place]), self.documents.count, order)[0]))


class Reading(NamedTuple):
    """The texts of one stage: those to learn, and held-out ones in pieces of its window."""

    train: Source[Any]
    heldout: Pieces


@dataclass
class Windows:
    """The stages of a run. A run without stages learns every document once an epoch at the model's own window."""

    start: Start
    how: Window
    _readings: dict[int, Reading] = field(default_factory=dict)

    def enter(self, step: int) -> Reading:
        """The texts of a step. Also sets the model's positions to those of the step's stage."""
        number = stage_of(self.how, step)
        if number not in self._readings:
            self._readings = {number: self._reading(number)}
            if self.how.stages:
                self.start.model.take_positions(shape_at(self.start.plan.shape, self.how, number))
        return self._readings[number]

    def _reading(self, number: int) -> Reading:
        start = self.start
        if not self.how.stages:
            context = start.plan.context
            return Reading(Pieces(start.train, context, start.boundary), Pieces(start.heldout, context, start.boundary))
        window = self.how.stages[number].window
        lookups = Lookups.of(start.train, start.tokenizer) if self.how.lookups else None
        texts = LongTexts(start.train, window, start.boundary, self.how, lookups)
        return Reading(texts, Pieces(start.heldout, window, start.boundary))


def stage_of(how: Window, step: int) -> int:
    """The stage of a step; the last one after all stages, 0 without stages."""
    ends = accumulate(stage.steps for stage in how.stages[:-1])
    return sum(step >= end for end in ends)


def parts(how: Window, steps: int, step: int) -> Iterator[tuple[str, int, int]]:
    """(name, first step, end) of every stage that ends after `step`; within a stage steps take equally long."""
    first = 0
    for stage in how.stages:
        end = first + stage.steps
        if step < end:
            yield f"pretrain, window {stage.window:,}", first, end
        first = end
    if not how.stages:
        yield "pretrain", 0, steps


def shape_at(shape: Shape, how: Window, number: int) -> Shape:
    """The shape of the model in a stage. Raises CharterError if it can't be enlarged so."""
    return enlarge(shape, how.stages[number].window, how.method, how.base)
