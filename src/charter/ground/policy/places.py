"""Where in a conversation something may be asked: each place is screened by itself, and the worst one counts.

Places are every user turn, the last one also behind what was said before it, the system text, a reply that the caller
began, each sentence of these where there are several (a request within a document, or behind words that are to disarm
the model), earlier replies, which a caller may have made up, and what all these say once the usual encodings are
undone.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from charter.ground.text.dialogue import Message, user

SENTENCES = 64  # of one text that are screened by themselves
WORDS = 4  # that a sentence has at least
ROUND = 32  # runs that are decoded
SKIPPED = 5  # digits that may stand before a hexadecimal run
ENCODED = 16  # characters of the shortest run that is taken for encoded text
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")
_BASE64 = re.compile(rf"[A-Za-z0-9+/_-]{{{ENCODED},}}={{0,2}}")
_HEX = re.compile(rf"(?:[0-9a-fA-F]{{2}}[\s:]?){{{ENCODED // 2 - 1},}}[0-9a-fA-F]{{2}}")
_HEX_ALONE = re.compile(rf"(?<!\w){_HEX.pattern}")  # not the "de" of "Decode"
_ESCAPE = re.compile(r"\\(?:u|x|u00)([0-9a-fA-F]{2,4})")
_LEET = str.maketrans("013457@$", "oieastas")
_COMMON = re.compile(
    r"\b(?:an?|and|are|as|for|from|how|in|is|it|of|on|that|the|this|to|what|with|your?)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Place:
    """A text to be screened as what is asked last in `messages`, and where it stands. `turn`: the number of the user
    turn, from 0, where it is the whole turn."""

    name: str
    messages: Sequence[Message]
    turn: int | None = None


def places(messages: Sequence[Message]) -> Iterator[Place]:
    """All places of a conversation, the last user turn first."""
    turns = [m for m in messages if m["role"] != "system"]
    last = max((n for n, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    asked = [n for n, turn in enumerate(turns) if turn["role"] == "user" and turn["content"].strip()]
    for number, n in sorted(enumerate(asked), key=lambda turn: turn[1] != last):
        name = "last turn" if n == last else "earlier turn"
        said = user(undone(turns[n]["content"]))
        if n == last and n:
            # what it means may follow from what was said before
            yield Place(name, [*turns[:n], said], number)
        yield Place(name, [said], number)
        yield from _within(name, turns[n]["content"])
    for message in messages:
        if message["role"] == "system" and message["content"].strip():
            yield Place("system text", [user(undone(message["content"]))])
            yield from _within("system text", message["content"])
    for turn in turns[:-1]:
        if turn["role"] == "assistant" and turn["content"].strip():
            yield Place("earlier reply", [user(undone(turn["content"]))])
            yield from _decoded("earlier reply", turn["content"])
    if turns and turns[-1]["role"] == "assistant" and turns[-1]["content"].strip():
        yield Place("begun reply", [user(undone(turns[-1]["content"]))])
        yield from _within("begun reply", turns[-1]["content"])


def _within(name: str, text: str) -> Iterator[Place]:
    """What stands within a text."""
    parts = [part.strip() for part in _SENTENCE.split(text)]
    if len(parts) > 1:
        for part in _ends([part for part in parts if len(part.split()) >= WORDS]):
            yield Place(f"sentence of the {name}", [user(part)])
    yield from _decoded(name, text)


def _decoded(name: str, text: str) -> Iterator[Place]:
    """What a text says once encodings are undone."""
    plain = plainly(text)
    first = list(dict.fromkeys(([plain] if plain != text else []) + list(decodings(plain))))
    again = [twice for once in first[:ROUND] for twice in decodings(once)]
    for decoded in dict.fromkeys(first + again[:ROUND]):
        if decoded.strip():
            yield Place(f"encoded in the {name}", [user(decoded)])


def undone(text: str) -> str:
    """A text with what base64 and hexadecimal runs say in their place, where that can be read: classifiers make no
    sense of the runs, and the words around them say what is wanted of it."""

    def said(run: re.Match[str], decode: Callable[[str], str]) -> str:
        return next(_readable(decode(run[0])), run[0])

    for form, decode in ((_BASE64, _from_base64), (_HEX_ALONE, _from_hex)):
        text = form.sub(lambda run, decode=decode: said(run, decode), text)  # type: ignore[misc]
    return text


def plainly(text: str) -> str:
    """A text without what is not seen: characters of no width, other forms of letters, entities of HTML, escapes."""
    shown = "".join(
        char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf"
    )
    if "&" in shown:
        shown = html.unescape(shown)
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), shown) if "\\" in shown else shown


def _ends(parts: list[str]) -> list[str]:
    """The first and last ones: what is wanted mostly comes last, and filler may follow it."""
    return (
        parts if len(parts) <= SENTENCES else parts[: SENTENCES // 4] + parts[-(SENTENCES - SENTENCES // 4) :]
    )


def decodings(text: str) -> Iterator[str]:
    """What a text says once an encoding is undone, where that is something that people write."""
    for run in [*_BASE64.findall(text), *_BASE64.findall("".join(text.split()))][:ROUND]:
        for piece in dict.fromkeys((run, *re.split("[/_-]", run))):
            if len(piece) >= ENCODED:
                yield from _readable(_from_base64(piece))
    for run in _HEX.findall(text)[:ROUND]:
        yield from _readable(_from_hex(run))
    parts = [part for part in dict.fromkeys(_SENTENCE.split(text)) if len(part) >= ENCODED]
    for part in _ends(parts):
        if "%" in part and (unquoted := urllib.parse.unquote(part)) != part:
            yield unquoted
        written = _common(part)
        for other in (codecs.encode(part, "rot13"), part[::-1]):
            if _common(other) > written:
                yield other
        if _common(spelled := part.translate(_LEET)) > written + 1:  # a lone 4 is no word
            yield spelled


def _common(text: str) -> int:
    """Words that every English text has."""
    return len(_COMMON.findall(text))


def _readable(found: str) -> Iterator[str]:
    if len(found) >= ENCODED // 2 and sum(c.isalpha() or c.isspace() for c in found) > 0.8 * len(found):
        yield found


def _from_base64(run: str) -> str:
    raw = run.rstrip("=").replace("-", "+").replace("_", "/")
    raw = raw[:-1] if len(raw) % 4 == 1 else raw
    try:
        return base64.b64decode(raw + "=" * (-len(raw) % 4)).decode(errors="ignore")
    except (binascii.Error, ValueError):
        return ""


def _from_hex(run: str) -> str:
    """What a run says, from its first digit on or, where letters before it look like digits, from a later one."""
    digits = re.sub(r"[\s:]", "", run)
    for start in range(SKIPPED):
        rest = digits[start:]
        try:
            return bytes.fromhex(rest[: len(rest) // 2 * 2]).decode()
        except (ValueError, UnicodeDecodeError):
            continue
    return ""
