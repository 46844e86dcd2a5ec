"""The bytes behind a vocabulary: what grammars read, and how to write a text in the fewest tokens.

Grammars read bytes, models write tokens. An alphabet gives every ordinary token its bytes and hands the vocabulary to
llguidance, with a second one of 256 single bytes for the search for endings. Special tokens have no bytes: text never
spells one, and no grammar can reach one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
from llguidance import LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from charter.ground.artifact.errors import CharterError
from charter.ground.text.tokenizer import Tokenizer

BYTE_END = 256  # the end token of the vocabulary of bytes
# decoders that spell tokens byte by byte, or as pieces of text; a tokenizer needs one of them
_SPELLING = frozenset({"ByteLevel", "ByteFallback", "Metaspace", "Replace"})


class _Vocabulary:
    """The interface that llguidance expects of a tokenizer; it cuts the bytes that a grammar forces."""

    def __init__(
        self, tokens: list[bytes], end: int, special: Collection[int], cut: Callable[[bytes], list[int]]
    ) -> None:
        self.tokens, self.eos_token_id, self.bos_token_id = tokens, end, None
        self.special_token_ids = sorted(special)
        self._cut = cut

    def __call__(self, text: bytes) -> list[int]:
        return self._cut(text)


class Alphabet:
    """A tokenizer's tokens as bytes. `ends` end a reply; `end` stands for all of them in a grammar."""

    def __init__(self, tokenizer: Tokenizer, ends: Collection[int] = ()) -> None:
        self.ends = frozenset(tokenizer.ends) | frozenset(ends)
        self.end = tokenizer.eos_id
        special = frozenset(tokenizer.special.values()) | self.ends
        self.tokens = _token_bytes(tokenizer, special)
        self.size = len(self.tokens)
        first_ids: dict[bytes, int] = {}
        for token, spelled in enumerate(self.tokens):
            if spelled:
                first_ids.setdefault(spelled, token)
        self._ids, self._encode = first_ids, tokenizer.encode
        self._opening: dict[bytes, NDArray[np.bool_]] = {}
        self._longest = max(map(len, first_ids), default=1)
        words = _Vocabulary(self.tokens, self.end, special, self._usual)
        self.vocabulary = LLTokenizer(TokenizerWrapper(words), n_vocab=self.size)

    def cut(self, text: bytes) -> list[int] | None:
        """The fewest tokens that spell these bytes; None if a byte has no token. Shortest path from the left."""
        length = len(text)
        cost: list[int] = [0] + [length + 1] * length
        last: list[int] = [0] * (length + 1)
        for start in range(length):
            reached = cost[start] + 1
            for stop in range(min(length, start + self._longest), start, -1):
                if cost[stop] > reached and (token := self._ids.get(text[start:stop])) is not None:
                    cost[stop], last[stop] = reached, token
        if cost[length] > length:
            return None
        ids: list[int] = []
        while length:
            ids.append(last[length])
            length -= len(self.tokens[last[length]])
        return ids[::-1]

    def _usual(self, text: bytes) -> list[int]:
        """These bytes as the tokenizer itself cuts them, which is how models know them; else in the fewest tokens."""
        tokens = self._encode(text.decode(errors="replace"))
        if all(token < self.size for token in tokens) and self.spell(tokens) == text:
            return tokens
        return self.cut(text) or []

    def spell(self, tokens: Sequence[int]) -> bytes:
        """The bytes of ordinary tokens."""
        return b"".join(self.tokens[token] for token in tokens)

    def forbidden(self, bits: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Tokens whose bit is not set, as booleans [vocabulary]."""
        allowed: NDArray[np.uint8] = np.unpackbits(bits.view(np.uint8), count=self.size, bitorder="little")
        return np.logical_not(allowed)

    def opening_with(self, first: bytes) -> NDArray[np.bool_]:
        """Tokens that begin with a byte of `first`, as booleans [vocabulary]."""
        if first not in self._opening:
            opens = [spelled[:1] in first if spelled else False for spelled in self.tokens]
            self._opening[first] = np.array(opens, dtype=np.bool_)
        return self._opening[first]

    def mask(self) -> NDArray[np.int32]:
        """An empty mask with one bit a token."""
        return np.zeros((self.size + 31) // 32, dtype=np.int32)


_known: WeakKeyDictionary[Tokenizer, dict[frozenset[int], Alphabet]] = WeakKeyDictionary()
_lock = threading.Lock()


def alphabet_of(tokenizer: Tokenizer, ends: Collection[int] = ()) -> Alphabet:
    """The alphabet of a tokenizer, built once (about 0.2 s for 50,000 tokens)."""
    with _lock:
        alphabets = _known.setdefault(tokenizer, {})
        key = frozenset(ends)
        if key not in alphabets:
            alphabets[key] = Alphabet(tokenizer, key)
        return alphabets[key]


@lru_cache(maxsize=1)
def bytes_vocabulary() -> LLTokenizer:
    """The vocabulary of single bytes: token b is byte b, and BYTE_END ends."""
    tokens = [bytes([value]) for value in range(256)] + [b"<end>"]
    return LLTokenizer(TokenizerWrapper(_Vocabulary(tokens, BYTE_END, [BYTE_END], list)), slices=[])


def _token_bytes(tokenizer: Tokenizer, special: frozenset[int]) -> list[bytes]:
    """Bytes by token; none for special ones. Raises CharterError if the bytes of tokens are unknown."""
    if not tokenizer.decoders & _SPELLING:
        raise CharterError(
            "the bytes of this tokenizer's tokens are unknown "
            f"(decoder: {', '.join(sorted(tokenizer.decoders)) or 'none'}); "
            "structured output needs a byte-level or SentencePiece-like tokenizer"
        )
    spelled = (tokenizer.spelling(token) for token in range(tokenizer.vocab_size))
    return [b"" if token in special else text or b"" for token, text in enumerate(spelled)]
