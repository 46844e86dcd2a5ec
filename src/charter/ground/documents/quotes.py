"""Quotes: passages of a reply that stand word for word in a document.

Both sides are compared without whitespace, with accents decomposed and with plain quotation marks, dashes and
ligatures. Where such a comparison finds a passage, its spaces and hyphens are compared too: a line break of the
document may stand inside a word or after its hyphen, and nothing else may differ. All searches take linear time.
"""

import bisect
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from charter.ground.documents.document import Document

LEAST = 12  # characters without whitespace: shorter ones stand in a text by chance
_MOST = 500  # quotations of one reply that are looked up, the longest first
_LONGEST = 20_000  # characters of one quote
_BLOCK = 4096  # characters of a document that are folded at once
_CHECKED = 400_000  # characters of candidates whose spaces are compared, for one quote
_HYPHENS = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_SOFT = "\u00ad\u200b\u200c\u200d\u2060\ufeff\ufffe\x02"  # they mark where a word may break, or nothing
_SPACES = "".join(char for char in map(chr, range(0x3001)) if char.isspace())
_FOLDED = str.maketrans(
    dict.fromkeys(_HYPHENS + _SOFT + _SPACES, "")
    | dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u2039\u203a`\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st"}
    | {"\ufb06": "st", "\u2026": "..."}
)
_QUOTED = (
    re.compile(r'"([^"\n]+)"'),
    re.compile("\u201c([^\u201c\u201d]+)\u201d"),
    re.compile("\u201e([^\u201e\u201c\u201d]+)[\u201c\u201d]"),
    re.compile("\u00ab([^\u00ab\u00bb]+)\u00bb"),
)
_BLOCK_QUOTE = re.compile(r"^ {0,3}>[^\n]*(?:\n {0,3}>[^\n]*)*", re.MULTILINE)
_MARKER = re.compile(r"^ {0,3}(?:> ?)+", re.MULTILINE)
_FENCE = re.compile(r"^ {0,3}(```|~~~).*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)
_EDGES = " \t\r\n.,;:!?\u2026"


@dataclass(frozen=True, slots=True)
class Quote:
    """Where a passage stands in a document's text: offsets, and the page counted from 1 if there are pages."""

    start: int
    end: int
    page: int | None


class Passage(NamedTuple):
    """A quoted passage of a reply, `reply[start:end]` without its quotation marks; the document that holds it, by its
    place in the list, and where."""

    start: int
    end: int
    document: int
    quote: Quote


class Folded(NamedTuple):
    """A text prepared for the search: its folded characters, and where the fold of each block begins in them."""

    text: str
    starts: list[int]


def find_quote(words: str, document: Document, folded: Folded | None = None) -> Quote | None:
    """Where the words first stand in a document; None if they don't, are shorter than `LEAST` characters without
    whitespace, or are longer than 20,000 characters. `folded`: the document's text, prepared by `fold_text`."""
    needle = _fold(words)
    if len(needle) < LEAST or len(words) > _LONGEST:
        return None
    characters, starts = folded or fold_text(document.text)
    gaps = _gaps(words)
    place = characters.find(needle)
    for _ in range(1 + _CHECKED // len(needle)):
        if place < 0:
            return None
        start = _original(document.text, starts, place)
        end = _original(document.text, starts, place + len(needle) - 1) + 1
        if _same_gaps(gaps, _gaps(document.text[start:end])):
            return Quote(start, end, document.page_of(start))
        place = characters.find(needle, place + 1)
    return None


def quotes_in(reply: str, documents: Sequence[Document], prepared: Sequence[Folded] | None = None) -> list[Passage]:
    """The quoted passages of a reply that stand in a document, in order and apart from each other. Of two that
    overlap, a quotation inside a block quote for instance, the longer one counts. 500 quotations are looked up.
    `prepared`: the documents' texts by `fold_text`."""
    passages, folded = list[Passage](), prepared
    for start, end, words in sorted(quoted(reply), key=lambda span: span[0] - span[1])[:_MOST]:
        if any(start < passage.end and passage.start < end for passage in passages):
            continue
        if folded is None:
            folded = [fold_text(document.text) for document in documents]
        for index, (document, text) in enumerate(zip(documents, folded, strict=True)):
            quote = find_quote(words, document, text) or find_quote(words.strip(_EDGES), document, text)
            if quote is not None:
                passages.append(Passage(start, end, index, quote))
                break
    return sorted(passages)


def quoted(reply: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and words of what a reply quotes, outside fenced code: text between quotation marks, and Markdown's
    block quotes, whose markers are no words. Quotations shorter than `LEAST` characters are left out."""
    fences = [match.span() for match in _FENCE.finditer(reply)]

    def in_code(place: int) -> bool:
        before = bisect.bisect_right(fences, (place, len(reply) + 1)) - 1
        return before >= 0 and place < fences[before][1]

    for pattern in (*_QUOTED, _BLOCK_QUOTE):
        for match in pattern.finditer(reply):
            start, end = match.span(match.lastindex or 0)
            words = match[match.lastindex or 0]
            if pattern is _BLOCK_QUOTE:
                first = _MARKER.match(words)
                start += first.end() if first else 0
                words = _MARKER.sub("", words)
            if len(_fold(words)) >= LEAST and not in_code(start):
                yield start, end, words


def _fold(text: str) -> str:
    """The characters that are compared. Each character of `text` gives its own, whatever stands beside it."""
    return unicodedata.normalize("NFD", text).translate(_FOLDED)


def fold_text(text: str) -> Folded:
    """A document's text prepared for the search, which takes a second for millions of characters: keep it for several
    searches."""
    blocks = [_fold(text[place : place + _BLOCK]) for place in range(0, len(text), _BLOCK)]
    starts = [0]
    for block in blocks:
        starts.append(starts[-1] + len(block))
    return Folded("".join(blocks), starts)


def _original(text: str, starts: list[int], place: int) -> int:
    """The offset in a text of the character that gave the folded one at `place`."""
    block = bisect.bisect_right(starts, place) - 1
    remaining = place - starts[block]
    for offset, char in enumerate(text[block * _BLOCK : (block + 1) * _BLOCK]):
        remaining -= len(_fold(char))
        if remaining < 0:
            return block * _BLOCK + offset
    raise IndexError(f"no character of the text gave the folded one at {place}")


class _Gap(NamedTuple):
    """What stands between two characters that are compared."""

    hyphen: bool
    space: bool
    broken: bool  # a line or a page ends here, or a word may


_NO_GAP = _Gap(False, False, False)


def _gaps(words: str) -> dict[int, _Gap]:
    """What stands between the folded characters of a text, by the place of the later one."""
    gaps, place = dict[int, _Gap](), 0
    for char in words:
        width = len(_fold(char))
        if not width:
            old = gaps.get(place, _NO_GAP)
            broken = char in "\n\r\f\v\x85\u2028\u2029" or char in _SOFT
            gaps[place] = _Gap(old.hyphen or char in _HYPHENS, old.space or char.isspace(), old.broken or broken)
        place += width
    last = place
    return {at: gap for at, gap in gaps.items() if 0 < at < last}


def _same_gaps(quote: dict[int, _Gap], original: dict[int, _Gap]) -> bool:
    for place in quote.keys() | original.keys():
        gap_told, gap_there = quote.get(place, _NO_GAP), original.get(place, _NO_GAP)
        if gap_told.hyphen != gap_there.hyphen and not (gap_there.hyphen and gap_there.broken):
            return False
        if not gap_there.hyphen and gap_told.space != gap_there.space and not (gap_there.broken and not gap_told.space):
            return False
    return True
