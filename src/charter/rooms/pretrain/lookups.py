"""Texts that teach looking things up: meaningless facts, each stated once and asked for once later in the text.

A toy model that has read a few million tokens of prose has had little reason to look far back. Here it has one: the
password of a place can't be guessed, and questions come at every distance up to the window. The answer repeats the fact
in its own words, so copying an earlier passage answers it. Places and words come from the corpus. Those of the recall
grid are left out, so that the grid measures looking up and not memory.
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

# tokens per fact; most facts in a text, which must stay distinct
EVERY, MOST = 64, 2048
WORDS = re.compile(r"(?<![\w-])[a-z]{4,9}(?![\w-])")
# tokens of a corpus that are searched for words
READ = 200_000
# words
LEAST = 64


class Lookups:
    """Writes facts into texts, as a function of text and seed."""

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
        for where, own in sorted(inserted):
            # after the boundary that opens the text
            to = 1 + int(where * (room - 1))
            parts += [ids[at:to], np.array(own, dtype=ids.dtype)]
            at = to
        return np.concatenate([*parts, ids[at:room]])

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)
