"""The places of a conversation that may hold a request: each is screened separately, and the worst one counts.

Places are every user turn (the last one also after the turns before it), the system text, a reply that the caller
began, and each sentence of these if there are several: a request may stand in a document, or follow words meant to
disarm the model. Earlier replies are places too, since a caller may have made them up, and so are the decoded texts of
all these.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import sys
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from charter.ground.text.dialogue import Message, user

SENTENCES = 64  # of one text, screened one by one
LONG = 40  # words from which a sentence is cut at commas
WORDS = 4  # least words of a sentence
ROUND = 32  # most runs decoded
SKIPPED = 5  # digits that may precede a hexadecimal run
ENCODED = 16  # least characters of a run that may be encoded text
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")
_BASE64 = re.compile(rf"[A-Za-z0-9+/_-]{{{ENCODED},}}={{0,2}}")
_HEX = re.compile(rf"(?:[0-9a-fA-F]{{2}}[\s:]?){{{ENCODED // 2 - 1},}}[0-9a-fA-F]{{2}}")
_HEX_ALONE = re.compile(rf"(?<!\w){_HEX.pattern}")  # not the "de" of "Decode"
_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|[Uu]\{?([0-9a-fA-F]{2,8})\}?|x([0-9a-fA-F]{2})|([0-7]{3}))")
_PAUSE = re.compile(r"(?<=[,;])\s+")
_ASKS = re.compile(
    r"^\W*(?:please )?(?:how|what|where|which|write|give|tell|explain|create|make|build|provide|show|teach|list|"
    r"describe|help|i want|i need|can you|could you)\b|\?",
    re.IGNORECASE,
)
_UNSEEN = frozenset("\u115f\u1160\u3164\uffa0\u034f\u2800")  # fillers, and joiners of graphemes
_ACCENTS = re.compile(r"(?<=[A-Za-z])[\u0300-\u036f\ufe00-\ufe0f]+")
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z]")
# letters of Cyrillic and Greek that look like Latin ones, small capitals, flags' letters
_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u03bf\u03b1\u03b5\u03b9\u03ba\u03bd"
    "\u03c1\u03c4\u03c5\u03c7\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u043c\u043a\u0442\u0432\u043d\u044c",
    "aeopcyxijshdqwoaeikvptuxABEKMHOPCTXmktbhb",
)
_CAPITALS = str.maketrans(
    "\u1d00\u0299\u1d04\u1d05\u1d07\ua730\u0262\u029c\u026a\u1d0a\u1d0b\u029f\u1d0d\u0274\u1d0f\u1d18\u0280\ua731\u1d1b"
    "\u1d1c\u1d20\u1d21\u028f\u1d22" + "".join(chr(0x1F1E6 + n) for n in range(26)),
    "abcdefghijklmnoprstuvwyz" + "abcdefghijklmnopqrstuvwxyz",
)
_MARKS = re.compile(r"</?[A-Za-z][^<>]{0,40}>|(?<=\w)[*`~^]+(?=\w)|[*`~^]+")
_NUMBERING = re.compile(r"^\s*(?:\d{1,3}[.):]|[-+])\s+", re.MULTILINE)
_BETWEEN = re.compile(r"(?<=\w)[/_|+\u00b7\u2022]+(?=\w)|[\"\[\]{}|]+(?:\s*[,:]\s*[\"\[\]{}|]+)*")
_DOTTED = re.compile(r"(?<!\w)[^\W\d_](?:[.,\-'\u2019][^\W\d_](?!\w))+")  # b.o.m.b
_SPACED = re.compile(r"(?<!\S)[^\W\d_](?: [^\W\d_](?!\w)){2,}")  # b o m b
_NO_LETTER = re.compile(r"\W")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LEET = str.maketrans("013457@$", "oieastas")
_COMMON = re.compile(
    r"\b(?:an?|and|are|as|for|from|how|in|is|it|of|on|that|the|this|to|what|with|your?)\b", re.IGNORECASE
)


# how a place's text was taken from the conversation: whole, cut out, in plain spelling, decoded, from all user turns
Kind = Literal["turn", "sentence", "respelled", "encoded", "joined"]


@dataclass(frozen=True, slots=True)
class Place:
    """A text to screen, the last message of `messages`, and the name of its place. `turn`: the number of the user
    turn, from 0, if the text is a whole turn. `kind`: how it was taken from a text; `siblings`: number of places of
    that text, this one included. The worst of many is high by chance, so that a threshold may grow with it."""

    name: str
    messages: Sequence[Message]
    turn: int | None = None
    kind: Kind = "turn"
    siblings: int = 1


def places(messages: Sequence[Message]) -> Iterator[Place]:
    """All places of a conversation, the last user turn first."""
    turns = [m for m in messages if m["role"] != "system"]
    last = max((n for n, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    user_turns = [n for n, turn in enumerate(turns) if turn["role"] == "user" and turn["content"].strip()]
    for number, n in sorted(enumerate(user_turns), key=lambda turn: turn[1] != last):
        text = turns[n]["content"]
        if n == last:  # its meaning may depend on the turns before
            yield from _read("last turn", text, number, turns[:n])
        else:
            yield from _read("earlier turn", text, number)
    others = [("system text", message) for message in messages if message["role"] == "system"]
    others += [("earlier reply", turn) for turn in turns[:-1] if turn["role"] == "assistant"]
    others += [("begun reply", turn) for turn in turns[-1:] if turn["role"] == "assistant"]
    for name, message in others:
        if message["content"].strip():
            yield from _read(name, message["content"])


def _read(name: str, text: str, number: int | None = None, before: Sequence[Message] = ()) -> Iterator[Place]:
    """A text, also after the messages `before` it; its sentences, as spelled and respelled; and the texts encoded in
    it."""
    readable = decode_runs(text)
    every = [Place(name, [*before, user(readable)], number)] if before else []
    every.append(Place(name, [user(readable)], number))
    parts = sentences(text)
    if len(parts) > 1:
        every += [Place(f"sentence of the {name}", [user(part)], kind="sentence") for part in parts]
    meant = respell(readable)
    if meant and meant != readable.strip():
        respelled = (meant, *(part for part in sentences(meant) if part not in parts))
        every += [Place(f"respelled {name}", [user(part)], kind="respelled") for part in respelled]
    plain = to_plain(text)
    first = list(dict.fromkeys(([plain] if plain != text else []) + list(decodings(plain))))
    again = [twice for once in first[:ROUND] for twice in decodings(once)]
    decoded = [other for other in dict.fromkeys(first + again[:ROUND]) if other.strip()]
    every += [Place(f"encoded in the {name}", [user(other)], kind="encoded") for other in decoded]
    yield from (replace(place, siblings=len(every)) for place in every)


def sentences(text: str) -> list[str]:
    """Sentences to read one by one: the first and last ones, and those of the others that ask for something."""
    parts = [part.strip() for long in _SENTENCE.split(text) for part in _split(long)]
    return _select([part for part in parts if len(part.split()) >= WORDS])


def _split(sentence: str) -> list[str]:
    """A sentence, or its parts between commas if it is very long."""
    return _PAUSE.split(sentence) if len(sentence.split()) > LONG else [sentence]


def _select(parts: list[str]) -> list[str]:
    """At most SENTENCES of them: a request usually comes first or last, and otherwise reads like a request."""
    if len(parts) <= SENTENCES:
        return parts
    first, middle, last = (
        parts[: SENTENCES // 4],
        parts[SENTENCES // 4 : -SENTENCES // 2],
        parts[-SENTENCES // 2 :],
    )
    # a stable order, requests first
    wished = sorted(middle, key=lambda part: not _ASKS.search(part))
    return [*first, *wished[: SENTENCES - len(first) - len(last)], *last]


def decode_runs(text: str) -> str:
    """A text with its base64 and hexadecimal runs decoded in place, if the result is readable: classifiers can't read
    the runs, and the words around them say what to do with them."""

    def decode_run(run: re.Match[str], decode: Callable[[str], str]) -> str:
        return next(_readable(decode(run[0])), run[0])

    for form, decode in ((_BASE64, _from_base64), (_HEX_ALONE, _from_hex)):
        text = form.sub(lambda run, decode=decode: decode_run(run, decode), text)  # type: ignore[misc]
    return text


def to_plain(text: str) -> str:
    """A text without invisible characters, variant forms of letters, HTML entities and escapes."""
    visible = "".join(
        char
        for char in unicodedata.normalize("NFKC", text)
        if unicodedata.category(char) != "Cf" and char not in _UNSEEN
    )
    if "&" in visible:
        visible = html.unescape(html.unescape(visible))
    return _ESCAPE.sub(_unescape, visible) if "\\" in visible else visible


def _unescape(escape: re.Match[str]) -> str:
    digits = next(group for group in escape.groups() if group)
    number = int(digits, 8 if escape[4] else 16)
    return chr(number) if number < sys.maxunicode and not 0xD800 <= number < 0xE000 else escape[0]


def respell(text: str) -> str:
    """A text in plain spelling, if its spelling hides words: without accents, look-alike letters of other scripts,
    marks within words, and lines between words; single letters in a row become a word."""
    text = unicodedata.normalize("NFKD", to_plain(text))
    text = _ACCENTS.sub("", text).translate(_CAPITALS)
    if _LATIN.search(text):
        text = _WORD.sub(lambda word: word[0].translate(_ALIKE) if _is_mixed(word[0]) else word[0], text)
    text = _NUMBERING.sub(" ", _MARKS.sub("", text))
    text = _BETWEEN.sub(" ", text)
    for form in (_DOTTED, _SPACED):
        text = form.sub(lambda letters: _NO_LETTER.sub("", letters[0]), text)
    return " ".join(_HUMPS.sub(" ", text).split())


def _is_mixed(word: str) -> bool:
    """Whether a word has letters that look like Latin ones, mixed with Latin letters or alone."""
    return any(ord(char) in _ALIKE for char in word) and all(
        char.isascii() or ord(char) in _ALIKE for char in word
    )


def decodings(text: str) -> Iterator[str]:
    """The decoded texts of a text, if they read like natural language."""
    for run in [*_BASE64.findall(text), *_BASE64.findall("".join(text.split()))][:ROUND]:
        for piece in dict.fromkeys((run, *re.split("[/_-]", run), re.sub("[_-]", "", run))):
            if len(piece) >= ENCODED:
                yield from _readable(_from_base64(piece))
    for run in _HEX.findall(text)[:ROUND]:
        yield from _readable(_from_hex(run))
    parts = [part for part in dict.fromkeys(_SENTENCE.split(text)) if len(part) >= ENCODED]
    for part in _select(parts):
        if "%" in part and (unquoted := urllib.parse.unquote(part)) != part:
            yield unquoted
        written = common_words(part)
        for other in (codecs.encode(part, "rot13"), part[::-1]):
            if common_words(other) > written:
                yield other
        if common_words(spelled := part.translate(_LEET)) > written + 1:  # a lone 4 is not a word
            yield spelled


def common_words(text: str) -> int:
    """Number of words that are common in every English text."""
    return len(_COMMON.findall(text))


def _readable(decoded: str) -> Iterator[str]:
    if len(decoded) >= ENCODED // 2 and sum(c.isalpha() or c.isspace() for c in decoded) > 0.8 * len(decoded):
        yield decoded


def _from_base64(run: str) -> str:
    raw = run.rstrip("=").replace("-", "+").replace("_", "/")
    raw = raw[:-1] if len(raw) % 4 == 1 else raw
    try:
        return base64.b64decode(raw + "=" * (-len(raw) % 4)).decode(errors="ignore")
    except (binascii.Error, ValueError):
        return ""


def _from_hex(run: str) -> str:
    """The decoded run, from its first digit, or from a later one if letters before it look like digits."""
    digits = re.sub(r"[\s:]", "", run)
    for start in range(SKIPPED):
        rest = digits[start:]
        try:
            return bytes.fromhex(rest[: len(rest) // 2 * 2]).decode()
        except (ValueError, UnicodeDecodeError):
            continue
    return ""
