"""Reads a written answer: the letter of an option, a number, or words to compare with accepted ones."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from fractions import Fraction

LETTERS = string.ascii_uppercase
# the words before an answer's letter, with marks of emphasis: "the answer is **option B**"
SAID = (
    r"(?i:(?:answer|(?:closest|correct|best|right) option) is:?|answer:)[\s*_\"'`$]*"
    r"(?:(?i:option|choice)[\s*]+)?(?:\\boxed\{)?"
)
# A and I may be words: "the answer is A dog", "option is I'd say"
WORD = r"[AI](?:['\u2019]| (?!because\b|since\b|as\b)[a-z])"
# "-$1,234.50", "3/4", "2 1/2"; a minus after a digit or bracket is an operator, not a sign
NUMBER = re.compile(
    r"(?:(?<![\w)\]])-)?(?:[$€£]-?)?"
    r"(?:(?:\d+ )?\d+/[1-9]\d*|(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
)
REMARK = re.compile(r"\([^()]*[^\W\d_]{2}[^()]*\)")  # words in brackets: "18 (as 16 + 2 = 18)"
ARTICLES = frozenset({"a", "an", "the"})
# "100" and "C" of "100°C", "1,000", "3.5", "co2", "tea" and "bag" of "tea-bag"
TERM = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_][^\W_]*")
THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")
PUNCTUATION = re.compile(rf"[{re.escape(string.punctuation)}‘’“”´`]")


def letter_of(text: str, count: int) -> int | None:
    """The index of the option that an answer names: the last after "answer is", "answer:" or "closest option is"; else
    the last "(B)"; else a bare letter at the start. A letter in parentheses or before a mark may be lower case."""
    letters = LETTERS[:count]
    each = rf"(?i:[{letters}])"
    bare = rf"({each})(?=[*_\"'`$}}]*\s*(?:$|[.,;:)\n]))|(?!{WORD})([{letters}])(?!\w)"
    letters_behind = re.findall(rf"{SAID}(?:\(({each})\)|{bare})", text) or re.findall(rf"\(({each})\)", text)
    if letters_behind:
        return letters.index("".join(letters_behind[-1]).upper())
    first = re.match(rf"\W*({each})(?=\s*$|[.):,\n*])", text)
    return letters.index(first.group(1).upper()) if first else None


def says_yes(text: str) -> bool | None:
    """Whether an answer begins with yes or with no, behind "Answer:" too; None for neither."""
    word = re.match(r"\W*(?:answer\W+)?(yes|no)\b", text, re.IGNORECASE)
    return word.group(1).lower() == "yes" if word else None


def read_number(text: str) -> float | None:
    """The value of the number that an answer gives (`number_text`); None if it has none."""
    text_of_number = number_text(text)
    value = number(text_of_number) if text_of_number else math.inf
    return value if math.isfinite(value) else None  # endless digits overflow


def number_text(text: str) -> str | None:
    """The number in the sentence after the last "answer is" (of "3 + 4 = 7" the last, without remarks in brackets),
    else the last number of the text; None if it has none."""
    text = text.replace("−", "-")
    _, marker, after = text.lower().rpartition("answer is")
    lines = [line for line in after.splitlines() if NUMBER.search(line)] if marker else []
    if lines:
        sentence = re.split(r"[.;]\s", REMARK.sub("", lines[0]))[0]
        part = sentence if NUMBER.search(sentence) else lines[0]
        match = NUMBER.search(part.rpartition("=")[2]) or NUMBER.search(part)
    else:
        match = max(NUMBER.finditer(text), key=re.Match.start, default=None)
    return match.group() if match else None


def number(text: str) -> float:
    """The value of a written number. A fraction is divided; commas for thousands and currency signs are ignored.

    Raises ValueError if it is not a number.
    """
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a number")
    plain = re.sub(r"[,$€£]", "", text)
    integer, _, part = plain.lstrip("-").rpartition(" ")
    above, _, below = part.partition("/")
    value = float(integer or 0) + float(above) / float(below or 1)
    return -value if plain.startswith("-") else value


def exact(text: str) -> Fraction:
    """The same as `number`, as a fraction: "0.75" and "3/4" are equal. Raises ValueError if it is not a number."""
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a number")
    plain = re.sub(r"[,$€£]", "", text)
    integer, _, part = plain.lstrip("-").rpartition(" ")
    value = Fraction(integer or 0) + Fraction(part)
    return -value if plain.startswith("-") else value


def normal(text: str) -> str:
    """Lower case, without punctuation and articles, with single blanks, as the authors compare texts."""
    words = PUNCTUATION.sub(" ", text.lower()).split()
    return " ".join(word for word in words if word not in ARTICLES)


def terms(text: str) -> list[str]:
    """Words and numbers in lower case, without articles. A number is whole ("8" is not in "18", "8.5" or "8,000") and
    separate from its unit ("100°C")."""
    plain = unicodedata.normalize("NFKC", text).lower()
    words = (THOUSANDS.sub("", term) for term in TERM.findall(plain))
    return [term for term in words if term not in ARTICLES]


def occurs(phrase: str, text: str) -> bool:
    """Whether a text contains the words of a phrase, whole and in a row; False for a phrase without words."""
    phrase_terms, text_terms = terms(phrase), terms(text)
    return bool(phrase_terms) and any(
        text_terms[at : at + len(phrase_terms)] == phrase_terms for at in range(len(text_terms) - len(phrase_terms) + 1)
    )
