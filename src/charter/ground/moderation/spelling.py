"""Plain spelling of a text whose spelling hides words: look-alike letters, invisible characters, marks between letters.

Look-alikes are those that Unicode's report 39 calls confusable with a Latin letter, as far as people use them to write:
letters of other scripts are in a table, variants of Latin letters are known by their Unicode names. By the same tables
`person_key` tells when two names are one person's: reviews and sign-offs must come of as many people as they say.
"""

from __future__ import annotations

import html
import re
import sys
import unicodedata
from functools import lru_cache

from charter.ground.moderation.vocabulary import divide, reads

UNDIVIDED = 16  # letters from which a word may be several without spaces
_ESCAPE = re.compile(r"(?<!\\)\\++(?:u([0-9a-fA-F]{4})|[Uu]\{?([0-9a-fA-F]{2,8})\}?|x([0-9a-fA-F]{2})|([0-7]{3}))")
_UNSEEN = frozenset("\u115f\u1160\u3164\uffa0\u034f\u2800")  # fillers, and joiners of graphemes
_ACCENTS = re.compile(r"(?<=[A-Za-z])[\u0300-\u036f\ufe00-\ufe0f]+")
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z]")
# a Latin letter, and the letters that look like it, as hexadecimal code points: Greek, Coptic, Cyrillic, Armenian,
# Hebrew, Georgian, Cherokee, Lisu, Deseret, Tifinagh
_LOOK_ALIKE = (
    "a 28c 391 3b1 410 430 13aa 2c80 a4ee",
    "b 392 412 432 44c 10ee 13cf 13f4 2c82 a4d0",
    "c 3f2 3f9 421 441 13df 2ca4 a4da 10415",
    "d 501 57e 13a0 13e7 2c86 a4d3",
    "e 395 3b5 415 435 4bd 565 13ac 2c88 a4f0",
    "f 13ec a4dd",
    "g 50c 50d 551 581 13c0 13f3 a4d6",
    "h 397 41d 43d 4bb 540 570 13bb 2c8e a4e7",
    "i 131 196 269 399 3b9 406 456 582 5d5 13a5 13c6 2c92 a4f2",
    "j 237 37f 3f3 408 458 575 13ab a4d9",
    "k 39a 3ba 41a 43a 13e6 2c94 a4d7",
    "l 4cf 53c 56c 56f 5df 13de 2d4f a4e1 1041b",
    "m 39c 41c 43c 57f 13b7 2c98 a4df",
    "n 39d 3b7 418 43f 572 578 57c 13c1 2c9a a4e0",
    "o 278 39f 3bf 3c3 41e 43e 47b 555 585 5e1 e50 ed0 13a4 13be 2c9e 2d54 a4f3 10404",
    "p 3a1 3c1 420 440 562 569 584 13e2 2ca2 a4d1",
    "q 51a 51b 563 566",
    "r 42f 433 44f 453 580 13a1 13d2 2c84 a4e3",
    "s 17f 1a8 1bd 283 405 455 54f 579 13d5 13da a4e2 10420",
    "t 3a4 3c4 422 442 13a2 2ca6 a4d4",
    "u 3c5 438 54d 574 576 57d 10e1 a4f4",
    "v 3bd 474 475 13d9 a4e6",
    "w 3c9 461 51c 51d 561 57a 13b3 13d4 2cb0 a4ea",
    "x 3a7 3c7 425 445 573 2cac 2d5d a4eb",
    "y 3a5 3b3 443 4ae 4af 10ff 13a9 13bd 2ca8 a4ec",
    "z 396 13c3 2c8c a4dc",
)
_ALIKE = {int(code, 16): line[0] for line in _LOOK_ALIKE for code in line[2:].split()}
# flags' letters and coloured squares stand alone for a letter, not within a word
_SIGN = re.compile("(?:NEGATIVE (?:CIRCLED|SQUARED)|(?:CROSSED )?NEGATIVE SQUARED) LATIN CAPITAL LETTER ([A-Z])$")
_VARIANT = re.compile(
    "LATIN (?:SMALL |CAPITAL )?(?:LETTER )?(?:SMALL |CAPITAL |TURNED |SCRIPT |DOTLESS |LONG |REVERSED |INVERTED |OPEN |"
    "SIDEWAYS |BARRED |REVERSED OPEN |INSULAR )*(?:LETTER )?([A-Z])(?: WITH [A-Z ]+)?$"
)
_SIGNS = {0x1F1E6 + n: chr(ord("a") + n) for n in range(26)}
# letters that are others upside down; the rest of those are turned by name
_TURNED = str.maketrans(
    "\u0254\u025f\u0183\u0253\u027e\u05dfunpdbq\u2200\u2132\u2141\u017f\u2142\u0500\u2534\u2229\u039b\u2144",
    "cfggjlnudpqbAFGJLPTUVY",
)
_TURNED_LEAST = 3  # letters by which a text is taken for one upside down
_MARKS = re.compile(r"<!--.{0,400}?-->|</?[A-Za-z][^<>]{0,40}>|(?<=\w)[*`~^]+(?=\w)|[*`~^]+")
_NUMBERING = re.compile(r"^[ \t]*(?:\d{1,3}[.):]|[-+\u2022])[ \t]+", re.MULTILINE)
_BETWEEN = re.compile(r"(?<=\w)[/_|+\u00b7\u2022]+(?=\w)|[\"\[\]{}|]+(?:\s*[,:]\s*[\"\[\]{}|]+)*")
_DOTTED = re.compile(r"(?<!\w)[^\W\d_](?:[.,\-'\u2019][^\W\d_](?!\w))+")  # b.o.m.b
_SPACED = re.compile(r"(?<!\S)[^\W\d_](?:[ \n\t][^\W\d_](?!\w)){2,}")  # b o m b, or a letter a line
_NO_LETTER = re.compile(r"\W")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LONG = re.compile(rf"[A-Za-z]{{{UNDIVIDED},}}")
_NAME_PART = re.compile(r"[^\W_]+")


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
    text = _ACCENTS.sub("", text)
    if not text.isascii():
        text = "".join(_SIGNS.get(ord(char)) or _sign(char) for char in text)
        latin = _WORD.sub(_in_latin, text)
        # letters that only look like Latin ones may be a language of their own
        text = latin if _LATIN.search(text) or reads(latin) else text
    text = _NUMBERING.sub("", _MARKS.sub("", text))
    text = _BETWEEN.sub(" ", text)
    for form in (_DOTTED, _SPACED):
        text = form.sub(lambda letters: _NO_LETTER.sub("", letters[0]), text)
    return " ".join(_HUMPS.sub(" ", text).split())


def respace(text: str) -> str:
    """A text with spaces where a long word consists of several English ones."""
    return _LONG.sub(lambda word: divide(word[0]) or word[0], text)


def upright(text: str) -> str:
    """A text that is written upside down, upright and from its beginning; "" if it has few turned letters."""
    turned = sum(not char.isascii() and "TURNED" in unicodedata.name(char, "") for char in text[:2000])
    if turned < _TURNED_LEAST:
        return ""
    return _WORD.sub(_in_latin, text.translate(_TURNED))[::-1]


@lru_cache(maxsize=4096)
def _sign(char: str) -> str:
    """The letter that a sign outside of words shows, else the sign."""
    if char.isascii() or char.isalpha():
        return char
    letter = _SIGN.match(unicodedata.name(char, ""))
    return letter[1].lower() if letter else char


@lru_cache(maxsize=4096)
def _latin(char: str) -> str:
    """The Latin letter, in lower case, that a letter looks like, "" if it looks like none."""
    if char.isascii():
        return char
    alike = _ALIKE.get(ord(char)) or _ALIKE.get(ord(char.upper()) if len(char.upper()) == 1 else 0)
    variant = None if alike else _VARIANT.match(unicodedata.name(char, ""))
    return alike or (variant[1].lower() if variant else "")


def _in_latin(word: re.Match[str]) -> str:
    """A word in Latin letters if all its letters are or look like some, in the case of its own Latin letters."""
    if word[0].isascii():
        return word[0]
    letters = [_latin(char) for char in word[0]]
    if not all(letters):
        return word[0]
    latin = [char for char in word[0] if char.isascii()] or [*word[0]]
    spelled = "".join(letters)
    return spelled.upper() if all(char.isupper() for char in latin) else spelled


def person_key(name: str) -> str:
    """What a name of a person or a house has in common with its other spellings: its words in alphabetical order,
    without case, accents, invisible characters and look-alike letters; "" for a name without a letter or figure."""
    plain = respell(" ".join(word.capitalize() for word in to_plain(name).split()))
    return " ".join(sorted(_NAME_PART.findall(plain.casefold())))
