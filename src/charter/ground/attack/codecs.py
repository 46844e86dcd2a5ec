"""How mutators write a text, each as a pure function, and the way back where there is one.

Every inverse holds for any valid Unicode text: look-alike letters are exchanged both ways, and what is reordered is
reordered by place alone.
"""

from __future__ import annotations

import base64
import codecs
import json
import re
from collections.abc import Mapping
from itertools import pairwise

_PIECES = 3
_LEET = str.maketrans("oieas", "01345")
_VOWELS = re.compile(r"[aeiouAEIOU]")
_LATIN = "aceopxyABCEHKMOPTX"
_CYRILLIC = (
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443"
    + "\u0410\u0412\u0421\u0415\u041d\u041a\u041c\u041e\u0420\u0422\u0425"
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
)  # fmt: skip
_REQUESTED = re.compile(r"^(?:please )?(?:tell|show|teach|explain to) me how to ", re.I)


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
    return _WORD.sub(lambda found: phrases.get(found[0].lower(), found[0]), text)
