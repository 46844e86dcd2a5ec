"""Requests in pieces: spread over turns, over strings and variables, over the first letters of lines, or word by word
from the end. Each is put together again, and counts if it reads like English.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from charter.ground.moderation import vocabulary

JOINED = 1_000  # characters, the last ones of all user turns
STRINGS = 64  # quoted strings, and variables, of one text
LINES = 12  # least lines whose first letters may be a request
ROWS, COLUMNS = 3, 8  # least rows and most columns of a table that is read by columns
MOST_WORDS = 80  # of a part that is read from its last word
_QUOTED = r"""(?<!\w)(?:"([^"\n]{1,300})"|'((?:[^'\n]|(?<=\w)'(?=\w)){1,300})'(?!\w)|`([^`\n]{1,300})`)"""
_STRING = re.compile(rf"{_QUOTED}(?!\s{{0,3}}:)")
_IS = r"\s{0,3}(?::=|=|:|->|\bis\b|\bbe\b|\bmeans\b|\bstands for\b)\s{0,3}"
_ASSIGNED = re.compile(rf"(?<!\w)([A-Za-z_]\w{{0,20}}){_IS}{_QUOTED}[;,]?")
_NAMED = re.compile(
    rf"(?:\b(?i:let|set|define|say|var|const)\s{{1,3}}(\w{{1,20}})|(?<!\w)([$\[<{{]\w{{1,20}}[\]>}}]?|[A-Za-z]\d?)){_IS}"
    r"([A-Za-z][A-Za-z' -]{1,120})[;.,\n]?"
)
_LAST, _FIRST = re.compile(r"[A-Za-z]+$"), re.compile(r"[A-Za-z]+")
_NO_WORD = re.compile(r"[^\w\s.,?!'-]|(?<=\s)[-+.]+(?=\s)")
_LABEL = re.compile(
    r"^\W{0,3}(?:part|piece|step|chunk|fragment|line|word)?\s{0,2}\d{1,2}\s{0,2}[.:)=-]\s", re.IGNORECASE
)
_CELL = re.compile(r"[ \t]*[|,;\t][ \t]*")
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")
_REQUEST = re.compile(
    r"(?:how|write|give|tell|explain|create|make|build|provide|show|teach|describe|help)\b", re.I
)


def join_turns(turns: Sequence[str], most: int = JOINED) -> str:
    """The end of texts, such as all user turns, as one text of at most `most` characters without line ends; a word that
    two share is one word."""
    parts: list[str] = []
    size = 0
    for text in reversed([" ".join(_LABEL.sub("", turn[-2 * most :]).split()) for turn in turns]):
        parts.insert(0, text[-most:])
        size += len(text) + 1
        if size > most:
            break
    return _join(parts)[-most:]


def assemble(text: str) -> list[str]:
    """The texts that the pieces of a text make."""
    candidates = [_join(_strings(text)), _with_values(text), *_columns(text), *_from_the_end(text)]
    candidates = [c for c in dict.fromkeys(candidates) if vocabulary.reads(c)]
    initials = re.findall(r"^[ \t]*[-*\d.)]*[ \t]*([A-Za-z])", text, re.MULTILINE)
    if LINES <= len(initials) <= vocabulary.MOST:
        candidates += [words for words in [vocabulary.divide("".join(initials))] if words]
    return [candidate[:JOINED] for candidate in candidates]


def _join(parts: Sequence[str]) -> str:
    """Parts as one text, with a space between two unless they are halves of a known word."""
    text = ""
    for part in (part.strip() for part in parts):
        left, right = _LAST.search(text), _FIRST.match(part)
        halves = left is not None and right is not None and _are_halves(left[0], right[0])
        text += ("" if halves or not text else " ") + part
    return text


def _are_halves(left: str, right: str) -> bool:
    """Whether two runs of letters are one known word, and not two."""
    return vocabulary.is_known(left + right) and not (
        vocabulary.is_known(left) and vocabulary.is_known(right)
    )


def _strings(text: str) -> list[str]:
    """The quoted strings of a text that are no keys, if there are several."""
    strings = ["".join(groups) for groups in _STRING.findall(text)[:STRINGS]]
    return strings if len(strings) > 1 else []


def _with_values(text: str) -> str:
    """The rest of a text with the values of its variables in their places; "" without variables."""
    values: dict[str, str] = {}

    def note(match: re.Match[str]) -> str:
        groups = [group for group in match.groups() if group]
        if len(values) < STRINGS:
            values[groups[0]] = groups[-1].strip()
        return " \n"

    rest = _NAMED.sub(note, _ASSIGNED.sub(note, text))
    if not values:
        return ""
    names = "|".join(re.escape(name) for name in sorted(values, key=len, reverse=True))
    form = re.compile(rf"(?<!\w)(?:{names})(?!\w)")
    lines = [line for line in rest.split("\n") if form.search(line)]
    chosen = "\n".join(lines)[: 2 * JOINED]
    parts = [_NO_WORD.sub(" ", piece) for piece in _pieces(form, values, chosen)]
    return " ".join(_join([part for part in parts if part.strip()]).split())


def _pieces(form: re.Pattern[str], values: dict[str, str], text: str) -> Iterator[str]:
    """The text between variables, and their values."""
    at = 0
    for match in form.finditer(text):
        yield text[at : match.start()]
        yield values[match[0]]
        at = match.end()
    yield text[at:]


def _columns(text: str) -> Iterator[str]:
    """The columns of a table of several rows, from the top."""
    rows = [
        _CELL.split(line.strip(" |\t")) for line in text.split("\n")[: 2 * STRINGS] if line.strip(" |\t:-")
    ]
    width = max(map(len, rows), default=0)
    rows = [row for row in rows if len(row) == width]
    if len(rows) >= ROWS and 2 <= width <= COLUMNS:
        for n in range(width):
            # with and without the head of the column
            yield from (" ".join(row[n] for row in rows[start:]) for start in (0, 1))


def _from_the_end(text: str) -> Iterator[str]:
    """Parts that begin with their last word: only there is a capital, and it asks for something."""
    for part in _SENTENCE.split(text)[: STRINGS * 2]:
        words = part.strip(" .?!").split()
        if not 4 <= len(words) <= MOST_WORDS or words[0][:1].isupper():
            continue
        if words[-1][:1].isupper() and _REQUEST.match(words[-1]):
            yield " ".join(reversed(words))
