"""What a written answer says: the letter of an option, a number, or words to be compared with those accepted."""

from __future__ import annotations

import math
import re
import string

LETTERS = string.ascii_uppercase
# "-$1,234.50", "3/4", "2 1/2"; a minus behind a digit or a bracket takes away and is no sign
NUMBER = re.compile(
    r"(?:(?<![\w)\]])-)?(?:[$€£]-?)?"
    r"(?:(?:\d+ )?\d+/[1-9]\d*|(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
)
ARTICLES = frozenset({"a", "an", "the"})
PUNCTUATION = re.compile(rf"[{re.escape(string.punctuation)}‘’“”´`]")


def letter_of(text: str, count: int) -> int | None:
    """The place of the option that an answer names last as "(B)", as "answer is B", or first as a bare letter; a letter
    that stands alone or in parentheses may be small."""
    letters = LETTERS[:count]
    marked = re.findall(rf"\(((?i:[{letters}]))\)|[Aa]nswer(?: is|:)\s*\(?([{letters}])\b", text)
    if marked:
        return letters.index(next(filter(None, marked[-1])).upper())
    bare = re.match(rf"\W*((?i:[{letters}]))(?=\s*$|[.):,\n])", text)
    return letters.index(bare.group(1).upper()) if bare else None


def letter_after(text: str, count: int) -> int | None:
    """The place of the letter after the last "answer is", which may go on to speak of others; else what `letter_of`
    reads."""
    letters = LETTERS[:count]
    said = re.findall(rf"[Aa]nswer is:?[\s*]*(?:\(([{letters}])\)|([{letters}])\b)", text)
    return letters.index("".join(said[-1])) if said else letter_of(text, count)


def read_number(text: str) -> float | None:
    """The number after the last "answer is" (of "3 + 4 = 7" the last), else the last number of the text; None
    without any."""
    text = text.replace("−", "-")
    _, found, after = text.lower().rpartition("answer is")
    lines = [line for line in after.splitlines() if NUMBER.search(line)] if found else []
    if lines:
        chosen = NUMBER.search(lines[0].rpartition("=")[2]) or NUMBER.search(lines[0])
    else:
        chosen = max(NUMBER.finditer(text), key=re.Match.start, default=None)
    value = number(chosen.group()) if chosen else math.inf
    return value if math.isfinite(value) else None  # digits without end are none


def number(text: str) -> float:
    """A number as written: a fraction is what it comes to; thousands' commas and signs of money are left aside.

    Raises ValueError where it is none.
    """
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no number")
    plain = re.sub(r"[,$€£]", "", text)
    whole, _, part = plain.lstrip("-").rpartition(" ")
    above, _, below = part.partition("/")
    value = float(whole or 0) + float(above) / float(below or 1)
    return -value if plain.startswith("-") else value


def normal(text: str) -> str:
    """Lower case, without punctuation and articles, blanks single: what the authors compare."""
    words = PUNCTUATION.sub(" ", text.lower()).split()
    return " ".join(word for word in words if word not in ARTICLES)
