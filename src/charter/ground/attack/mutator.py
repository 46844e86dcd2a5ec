"""A mutator: one family of attacks as a pure function of messages and a seed, and how it writes a text.

It rewrites the last user turn, and may put turns before it. A family has one or more forms; the seed chooses one. It
has an inverse if every form can be read back. Two families write by a model, which a callable stands for.

Every inverse of a writing holds for any valid Unicode text: look-alike letters are exchanged both ways, and what is
reordered is reordered by place alone.
"""

from __future__ import annotations

import base64
import codecs
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, Message, user

_PIECES = 3
_LEET = str.maketrans("oieas", "01345")
_VOWELS = re.compile(r"[aeiouAEIOU]")
_LATIN = "aceopxyABCEHKMOPTX"
_CYRILLIC = (
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443" + "\u0410\u0412\u0421\u0415\u041d\u041a\u041c\u041e\u0420\u0422\u0425"
)
_HOMOGLYPHS = str.maketrans(_LATIN + _CYRILLIC, _CYRILLIC + _LATIN)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_WHO = "(?:i|you|we|one|people|someone)"
_MODAL = "(?:do|can|could|would|should|might)"
# openings of a question about how something is done now, and what asks how it was done
_PAST = (
    (re.compile(f"^how {_MODAL} {_WHO} ", re.I), "How did people "),
    (re.compile(r"^how to ", re.I), "How did people "),
    (re.compile("^(?:what|which) is the (best|easiest|quickest|safest) way to ", re.I), r"What was the \1 way to "),
    (re.compile(f"^where {_MODAL} {_WHO} ", re.I), "Where did people "),
)
_REQUESTED = re.compile(r"^(?:please )?(?:tell|show|teach|explain to) me how to ", re.I)
FAMILY = "family"
SLOT = "{request}"
Messages = tuple[Message, ...]
# the text that a model writes to a request, and a seed for its sampling
Writer = Callable[[str, int], str]
Inverse = Callable[[Sequence[Message]], Messages | None]
# In a chain, words are changed first, then their letters, then the frame around them, then turns are put before.
Kind = Literal["words", "letters", "frame", "turns"]
KINDS: tuple[Kind, ...] = ("words", "letters", "frame", "turns")


def same(text: str) -> str:
    """The text itself."""
    return text


def to_base64(text: str) -> str:
    """The text in base64."""
    return base64.b64encode(text.encode()).decode()


def from_base64(text: str) -> str:
    """The text behind base64."""
    return base64.b64decode(text).decode()


def rot13(text: str) -> str:
    """Latin letters moved by 13 places; twice gives the text again."""
    return codecs.encode(text, "rot13")


def leet(text: str) -> str:
    """Some small letters as digits that look like them. Digits of the text make it ambiguous, so it has no inverse."""
    return text.translate(_LEET)


def disemvowel(text: str) -> str:
    """The text without the vowels a, e, i, o and u."""
    return _VOWELS.sub("", text)


def quote(text: str) -> str:
    """The text as a string of JSON."""
    return json.dumps(text, ensure_ascii=False)


def unquote(text: str) -> str:
    """The text behind a string of JSON. Raises ValueError for anything else."""
    value = json.loads(text)
    if not isinstance(value, str):
        raise ValueError("no string")
    return value


def split(text: str) -> str:
    """The text in three quoted pieces, a line each."""
    cuts = [round(len(text) * n / _PIECES) for n in range(_PIECES + 1)]
    pieces = [text[a:b] for a, b in pairwise(cuts)]
    return "\n".join(f"{name} = {quote(piece)}" for name, piece in zip("abc", pieces, strict=True))


def join(text: str) -> str:
    """The text behind its pieces."""
    return "".join(unquote(line.partition(" = ")[2]) for line in text.split("\n"))


def homoglyphs(text: str) -> str:
    """Latin and Cyrillic letters that look alike, exchanged; twice gives the text again."""
    return text.translate(_HOMOGLYPHS)


def spaced(text: str) -> str:
    """A space after each character."""
    return "".join(character + " " for character in text)


def unspaced(text: str) -> str:
    """Every second character. Raises ValueError if the others aren't spaces."""
    if len(text) % 2 or text[1::2].strip(" "):
        raise ValueError("not spaced")
    return text[::2]


def reverse(text: str) -> str:
    """The characters from last to first; twice gives the text again."""
    return text[::-1]


def odd_even(text: str) -> str:
    """The characters of odd places (first, third, ...), then those of even places."""
    return text[::2] + text[1::2]


def from_odd_even(text: str) -> str:
    """The text behind `odd_even`."""
    half = (len(text) + 1) // 2
    woven = [""] * len(text)
    woven[::2], woven[1::2] = text[:half], text[half:]
    return "".join(woven)


def to_past(text: str) -> str:
    """A question about the past in the third person; a text of another shape is quoted as what people once asked."""
    plain = _REQUESTED.sub("how to ", text.strip())
    for pattern, past in _PAST:
        if pattern.match(plain):
            return pattern.sub(past, plain).rstrip("?.! ") + " in the past?"
    return f"Long ago people asked this: {text} What did others tell them?"


def word_by_word(text: str, phrases: Mapping[str, str]) -> str:
    """Each word by its entry in a table (keys in small letters); other words stay."""
    return _WORD.sub(lambda match: phrases.get(match[0].lower(), match[0]), text)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask: the last user turn with a place for the request, turns before it, how the request is written, and
    how it is read back (None: it isn't)."""

    text: str
    before: Messages = ()
    encode: Callable[[str], str] = same
    decode: Callable[[str], str] | None = same

    def apply(self, request: str) -> Messages:
        """The turns that ask the request in this form."""
        return (*self.before, user(self.text.replace(SLOT, self.encode(request))))

    def invert(self, messages: Sequence[Message]) -> Messages | None:
        """The messages before this form was put on; None if they don't have it."""
        *earlier, last = messages
        head, tail = self.text.split(SLOT)
        content, length = last["content"], len(earlier) - len(self.before)
        fits = content.startswith(head) and content.endswith(tail) and len(head + tail) <= len(content)
        if self.decode is None or not fits or length < 0 or tuple(earlier[length:]) != self.before:
            return None
        try:
            request = self.decode(content[len(head) : len(content) - len(tail)])
        except ValueError:
            return None
        return (*earlier[:length], user(request))


@dataclass(frozen=True, slots=True)
class Mutator:
    """A family: its name, title, what it does, and its forms. With `asks`, a writer gets that request with the text in
    its place, and its answer goes into the form; `needs_writer`: there is no other way."""

    name: str
    title: str
    what: str
    kind: Kind
    forms: tuple[Form, ...]
    asks: str = ""
    needs_writer: bool = False

    @property
    def inverse(self) -> Inverse | None:
        """Reads messages back, None for those that this family didn't make; None for a family that loses words."""
        return None if self.asks or any(form.decode is None for form in self.forms) else self._invert

    def apply(self, messages: Sequence[Message], seed: int, writer: Writer | None = None) -> Messages:
        """The messages with their last turn, a user's, mutated. Raises CharterError without a needed writer."""
        *earlier, last = messages
        if last["role"] != "user":
            raise CharterError(f"{self.name} rewrites a user's turn; the last one is the {last['role']}'s")
        form, request = self.forms[seed % len(self.forms)], last["content"]
        if self.asks and writer is not None:
            form, request = Form(form.text, form.before), _writing_of(self, request, seed, writer)
        elif self.needs_writer:
            raise CharterError(f"the family {self.name} needs a model that writes: give one, or leave it out")
        return (*earlier, *form.apply(request))

    def wrap(self, dialogue: Dialogue, seed: int = 0, writer: Writer | None = None) -> Dialogue:
        """The prompt mutated under a seed of its own; `meta.family` names the family."""
        messages = self.apply(dialogue.messages, derive_seed(seed, self.name, dialogue.id), writer)
        return replace(dialogue, messages=messages, meta={**dialogue.meta, FAMILY: self.name})

    def unwrap(self, dialogue: Dialogue) -> Dialogue | None:
        """The dialogue that `wrap` made this one of; None for one that it didn't make, or that has no inverse."""
        messages = self.inverse(dialogue.messages) if self.inverse is not None else None
        if messages is None:
            return None
        meta = {key: value for key, value in dialogue.meta.items() if key != FAMILY}
        return replace(dialogue, messages=messages, meta=meta)

    def _invert(self, messages: Sequence[Message]) -> Messages | None:
        originals = (form.invert(messages) for form in self.forms)
        return next((inverted for inverted in originals if inverted is not None), None)


def _writing_of(mutator: Mutator, request: str, seed: int, writer: Writer) -> str:
    """The writer's text for a request; an empty one leaves the request as it is."""
    return writer(mutator.asks.replace(SLOT, request), seed).strip() or request
