"""Texts that teach looking things up: facts of no meaning, each stated once and asked for once, anywhere behind it.

A model of toy size that has read a few million tokens of prose has had little reason to look far back. Here it has: the
password of a place can't be guessed, and every distance up to the window is asked about. The answer is the fact in its
own words: who has learnt to go on as a text once went on has learnt to answer. Places and words are words of
the corpus; those that the recall grid asks for are left out, so that what the grid shows is looking up and not memory.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import numpy as np

from charter.ground.artifact.errors import CharterError
from charter.ground.text.facts import HELD_PLACES, HELD_WORDS, question, statement
from charter.ground.text.shards import TokenShards
from charter.ground.text.tokenizer import Tokenizer
from charter.rooms.pretrain.order import Ints

EVERY, MOST = 64, 2048  # tokens of a text for each fact in it; facts of a text, so that they are told apart
WORDS = re.compile(r"(?<![\w-])[a-z]{4,9}(?![\w-])")
READ = 200_000  # tokens of a corpus in which words are looked for
LEAST = 64  # words


class Lookups:
    """Writes facts into texts; a function of text and seed."""

    def __init__(self, words: Sequence[str], tokenizer: Tokenizer) -> None:
        """Raises CharterError for too few words."""
        self.words, self.tokenizer = sorted(set(words) - {*HELD_PLACES, *HELD_WORDS}), tokenizer
        if len(self.words) < LEAST:
            raise CharterError(
                f"the corpus has {len(self.words)} words to make facts of, {LEAST} are needed; set window.lookups to 0"
            )

    @classmethod
    def of(cls, parts: Sequence[TokenShards], tokenizer: Tokenizer) -> Lookups:
        """With the words of the first documents of every corpus."""
        words: set[str] = set()
        for part in parts:
            left = READ
            for document in range(len(part.lengths)):
                ids = part.read(document, 0, min(left, int(part.lengths[document])))
                words.update(WORDS.findall(tokenizer.decode(ids.tolist())))
                left -= len(ids)
                if left <= 0:
                    break
        return cls(sorted(words), tokenizer)

    def written(self, ids: Ints, seed: int) -> Ints:
        """The text [n] with as many facts written into it as fit, cut to its own length. Raises CharterError where none
        fits."""
        rng = random.Random(seed)
        count = min(max(1, len(ids) // EVERY), MOST, len(self.words))
        inserted: list[tuple[float, list[int]]] = []
        room = len(ids)
        for place in rng.sample(self.words, count):
            word = f"{rng.choice(self.words)}-{rng.randrange(100, 1000)}"
            first = rng.random()
            behind = first + (1 - first) * rng.random()
            said = self._encoded(f"\n\n{statement(place, word)}\n\n")
            asked = self._encoded(f"\n\n{question(place)}\n{statement(place, word)}\n\n")
            if len(said) + len(asked) < room:
                inserted += [(first, said), (behind, asked)]
                room -= len(said) + len(asked)
        if not inserted:
            raise CharterError(
                f"a text of {len(ids)} tokens has no room for a fact and its question; begin window.stages with a "
                "larger window, or set window.lookups to 0"
            )
        parts, at = list[Ints](), 0
        for where, own in sorted(inserted):
            to = 1 + int(where * (room - 1))  # never before the boundary that opens the text
            parts += [ids[at:to], np.array(own, dtype=ids.dtype)]
            at = to
        return np.concatenate([*parts, ids[at:room]])

    def _encoded(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)
