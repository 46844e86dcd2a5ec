"""Quotations in replies: those that stand word for word in a file of the branch become links to where they stand.

A link is only made for a passage that was found in the file's text, and only as long as the reply still reads as it
did when the passage was looked up. What is found is kept in the shape of the API's citations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from html.parser import HTMLParser
from itertools import islice
from typing import Any

from charter.ground.documents.document import Document
from charter.ground.documents.quotes import Folded, fold_text, quoted, quotes_in
from charter_service.chat.attached import File
from charter_service.chat.letters import mapping_of

MOST_QUOTES = 200  # that are looked up for one reply
_NO_WORDS = {"a", "pre", "math", "button"}  # nothing in them becomes a link
_BREAKS = frozenset("p br hr h1 h2 h3 h4 h5 h6 div blockquote ul ol li table tr th td pre".split())  # noqa: SIM905
_EMPTY = {"br", "hr"}
_NO_LETTER = "\ufffc"  # stands in for what isn't looked up


@dataclass(frozen=True)
class Source:
    """A file and what it says."""

    file: File
    document: Document

    @cached_property
    def folded(self) -> Folded:
        """The text, prepared for the search when a reply first quotes."""
        return fold_text(self.document.text)


@dataclass
class Cited:
    """What was found in a reply: citations as JSON values, and how many quotations stand in no file."""

    citations: list[dict[str, Any]] = field(default_factory=list)
    unfound: int = 0
    looked_up: int = 0

    def add(self, number: int, html: str, sources: Sequence[Source]) -> None:
        """Looks up the quotations of block `number`."""
        plain = _Plain(html).text
        words = list(islice(quoted(plain), MOST_QUOTES - self.looked_up + 1))
        if not words or len(words) > MOST_QUOTES - self.looked_up:
            return
        self.looked_up += len(words)
        passages = quotes_in(plain, [source.document for source in sources], [source.folded for source in sources])
        for passage in passages:
            document_index, start, end = passage.document, passage.start, passage.end
            place = {"block": number, "start": start, "end": end, "words": plain[start:end]}
            quote = passage.quote
            self.citations.append(_citation(document_index, sources[document_index], quote.start, quote.end) | place)
        self.unfound += sum(
            not any(start < passage.end and passage.start < end for passage in passages) for start, end, _ in words
        )


def cite(blocks: Iterable[str], sources: Sequence[Source]) -> Cited:
    """The quotations of a reply, given as blocks of HTML, that stand in the files of its branch."""
    cited = Cited()
    for number, html in enumerate(blocks):
        cited.add(number, html, sources)
    return cited


def linked(blocks: Sequence[str], citations: str, files: Mapping[str, File]) -> list[str]:
    """The blocks of a reply with its citations, JSON, as links; `files`: those of its chat, by digest."""
    per_block = dict[int, list[dict[str, Any]]]()
    for citation in json.loads(citations):
        if mapping_of(citation).get("sha256") in files:
            per_block.setdefault(citation["block"], []).append(citation)
    return [link(html, per_block[number], files) if number in per_block else html for number, html in enumerate(blocks)]


def link(html: str, citations: Iterable[Mapping[str, Any]], files: Mapping[str, File]) -> str:
    """One block with links; a citation whose words don't stand in it any more is left out."""
    plain = _Plain(html)
    for citation in citations:
        start, end = citation["start"], citation["end"]
        if plain.text[start:end] == citation["words"]:
            plain.mark(start, end, _opening(citation, files[citation["sha256"]]))
    return plain.html()


def _opening(citation: Mapping[str, Any], file: File) -> str:
    page = citation.get("start_page_number")
    title = f"{file.name}, page {page}" if page else file.name
    place = f"/f/{file.id}?from={citation['start_char_index']}&to={citation['end_char_index']}#passage"
    return f'<a class="quoted" href="{escape(place)}" title="{escape(title)}">'


def _citation(index: int, source: Source, start: int, end: int) -> dict[str, Any]:
    """A citation in the API's shape, with the digest of the file's content."""
    document = source.document
    first, last = document.page_of(start), document.page_of(max(start, end - 1))
    return {
        "type": "char_location" if first is None else "page_location",
        "cited_text": document.text[start:end],
        "document_index": index,
        "document_title": document.name,
        "start_char_index": start,
        "end_char_index": end,
        **({} if first is None or last is None else {"start_page_number": first, "end_page_number": last + 1}),
        "sha256": source.file.sha256,
    }


class _Plain(HTMLParser):
    """A block of cleaned HTML as its text, in which block quotes look as Markdown writes them, and back as HTML with
    links."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self._html = html
        self._pieces: list[tuple[str, bool]] = []  # tags as they stand, and texts: (piece, whether it is text)
        self._places: list[tuple[int, int, int]] = []  # of texts: where they begin in `text`; piece; offset in it
        self._marks: dict[int, list[tuple[int, int, str]]] = {}
        self._text: list[str] = []
        self._length = self._quotes = self._skipped = 0
        self._fresh = True  # a line begins
        self.feed(html)
        self.close()
        self.text = "".join(self._text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """A tag opens."""
        self._pieces.append((self.get_starttag_text() or "", False))
        self._break(tag)
        if tag == "blockquote":
            self._quotes += 1
        if tag in _NO_WORDS and tag not in _EMPTY:
            self._skipped += 1

    def handle_endtag(self, tag: str) -> None:
        """A tag closes."""
        self._pieces.append((f"</{tag}>", False))
        if tag in _NO_WORDS:
            self._skipped = max(0, self._skipped - 1)
            self._write(_NO_LETTER)
        self._break(tag)
        if tag == "blockquote":
            self._quotes = max(0, self._quotes - 1)
            self._write("\n")
            self._fresh = True

    def handle_data(self, data: str) -> None:
        """Text between tags."""
        piece, offset = len(self._pieces), 0
        self._pieces.append((data, True))
        if self._skipped:
            return
        for line in data.splitlines(keepends=True):
            if line.strip("\r\n"):
                self._begin_line()
            self._places.append((self._length, piece, offset))
            self._write(line)
            offset += len(line)
            self._fresh = line[-1] in "\r\n"

    def mark(self, start: int, end: int, opening: str) -> None:
        """Makes `text[start:end]` a link, which `opening` begins."""
        for number, (place, piece, offset) in enumerate(self._places):
            following = self._places[number + 1] if number + 1 < len(self._places) else None
            length = len(self._pieces[piece][0]) - offset
            if following is not None and following[1] == piece:
                length = following[2] - offset
            first, last = max(start, place), min(end, place + length)
            if first < last and self.text[first:last].strip():
                marks = self._marks.setdefault(piece, [])
                marks.append((offset + first - place, offset + last - place, opening))

    def html(self) -> str:
        """The block with its links."""
        if not self._marks:
            return self._html
        return "".join(
            self._linked(number, piece) if text else piece for number, (piece, text) in enumerate(self._pieces)
        )

    def _linked(self, number: int, text: str) -> str:
        parts, done = list[str](), 0
        for first, last, opening in sorted(self._marks.get(number, ())):
            parts += escape(text[done:first], False), opening, escape(text[first:last], False), "</a>"
            done = last
        return "".join((*parts, escape(text[done:], False)))

    def _break(self, tag: str) -> None:
        if tag in _BREAKS and not self._fresh:
            self._write("\n")
            self._fresh = True

    def _begin_line(self) -> None:
        if self._fresh and self._quotes:
            self._write("> ")
        self._fresh = False

    def _write(self, text: str) -> None:
        self._text.append(text)
        self._length += len(text)
