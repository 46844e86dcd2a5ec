"""Citations: passages that a reply quotes word for word from the request's documents (Anthropic's reference,
"citations").

The model is asked to quote in quotation marks. A quoted passage that stands in a document becomes a text block with the
place where it stands; anything else stays plain text. So every citation is verbatim, whatever a model claims. While a
reply is written, only a passage that may still be a quote is held back: from its opening mark until it ends, or until
its words stand in no document.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from charter.ground.documents.document import Document
from charter.ground.documents.quotes import Quote, find_quote, fold_text

ASKING = (
    "Where your answer relies on a document or a search result, quote a short passage of it word for word in "
    "quotation marks."
)
BETWEEN = "\n\n"  # the texts of a source's blocks, as the prompt has them
APART = "\n\0\n"  # documents: no quote goes from one into another
MARKS = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c\u201d", "\u00ab": "\u00bb"}  # opening: closing
BLOCK = ">"  # begins a block quote of Markdown, which ends with its line
LONGEST = 1_000  # characters of a quote
STEP = 40  # characters after which a passage that is held back is looked up again
EDGES = " \t\r\n.,;:!?\u2026"  # punctuation that a quote may add


@dataclass(frozen=True, slots=True)
class Source:
    """A document or search result that may be cited: its number among those of its kind, its text, where its blocks
    begin in it if it came in blocks, and its id if it is an uploaded file. `origin`: of a search result."""

    index: int
    document: Document
    title: str | None = None
    blocks: tuple[int, ...] = ()
    file_id: str | None = None
    origin: str | None = None

    def citation(self, start: int, end: int) -> dict[str, Any]:
        """The place of a passage, in Anthropic's shape for this kind of source."""
        facts: dict[str, Any] = {"cited_text": self.document.text[start:end]}
        if self.blocks:
            first = bisect.bisect_right(self.blocks, start) - 1
            last = bisect.bisect_right(self.blocks, end - 1)
            stop = self.blocks[last] - len(BETWEEN) if last < len(self.blocks) else None
            # the whole blocks: one is the least that is cited
            facts["cited_text"] = self.document.text[self.blocks[first] : stop]
            facts |= {"start_block_index": first, "end_block_index": last}
        if self.origin is not None:
            place = {"search_result_index": self.index, "source": self.origin, "title": self.title}
            return {"type": "search_result_location", **facts, **place}
        facts |= {"document_index": self.index, "document_title": self.title, "file_id": self.file_id}
        if self.blocks:
            return {"type": "content_block_location", **facts}
        if (page := self.document.page_of(start)) is not None:
            last_page = self.document.page_of(end - 1) or page
            return {"type": "page_location", **facts, "start_page_number": page, "end_page_number": last_page + 1}
        return {"type": "char_location", **facts, "start_char_index": start, "end_char_index": end}


class Citable:
    """The sources of a request, searched as one text, which is prepared once: make it beside the event loop."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources, self._starts, place = sources, list[int](), 0
        for source in sources:
            self._starts.append(place)
            place += len(source.document.text) + len(APART)
        text = APART.join(source.document.text for source in sources)
        self._all = Document("", "text", len(text), "", text)
        self._folded = fold_text(text)

    def find(self, words: str) -> Quote | None:
        """Where words stand in the text of all sources, without punctuation at their ends if they don't with it."""
        edgeless = words.strip(EDGES)
        return find_quote(words, self._all, self._folded) or find_quote(edgeless, self._all, self._folded)

    def cite(self, words: str) -> dict[str, Any] | None:
        """The first place where words stand; None if they stand nowhere."""
        quote = self.find(words)
        if quote is None:
            return None
        number = bisect.bisect_right(self._starts, quote.start) - 1
        begin = self._starts[number]
        return self._sources[number].citation(quote.start - begin, quote.end - begin)


class Said(NamedTuple):
    """Text of a reply; with a citation it is a whole quoted passage."""

    text: str
    citation: dict[str, Any] | None = None


class Quoting:
    """Finds quoted passages in a reply that comes in pieces. The pieces' bounds change nothing but when text is
    passed on."""

    def __init__(self, citable: Citable) -> None:
        self._citable = citable
        self._text, self._before = "", "\n"  # text not passed on, and the character before it
        self._looked = 0  # characters of the passage held back that stand in a document

    def feed(self, text: str) -> list[Said]:
        """What may be passed on, after more text."""
        self._text += text
        return list(self._passed(False))

    def end(self) -> list[Said]:
        """The rest."""
        return list(self._passed(True))

    def _passed(self, ended: bool) -> Iterator[Said]:
        while self._text:
            at = self._opening(ended)
            if at is None:
                yield self._take(len(self._text))
                return
            if at:
                yield self._take(at)
            close = self._closing(ended)
            if close is None:
                return  # it may still become a quote
            words = self._text[1:close]
            if close and (citation := self._citable.cite(words)) is not None:
                yield self._take(close if self._text[0] == BLOCK else close + 1, citation)
            else:
                yield self._take(1)

    def _take(self, length: int, citation: dict[str, Any] | None = None) -> Said:
        text, self._text = self._text[:length], self._text[length:]
        self._before, self._looked = text[-1], 0
        return Said(text, citation)

    def _opening(self, ended: bool) -> int | None:
        """Where a passage may begin: a mark not within a word and not before a space, or a block quote's."""
        text = self._text
        for at, mark in enumerate(text):
            before = text[at - 1] if at else self._before
            if mark == BLOCK and before == "\n":
                return at
            if mark in MARKS and not before.isalnum():
                after = text[at + 1 : at + 2]
                if (not after and not ended) or (after and not after.isspace()):
                    return at
        return None

    def _closing(self, ended: bool) -> int | None:
        """Where the passage at the beginning of the text ends, 0 if it is no quote, None if that is open."""
        text, block = self._text, self._text[0] == BLOCK
        line = text.find("\n", 1)
        if block:
            end = len(text) if line < 0 and ended else line
        else:
            ends = [at for mark in MARKS[text[0]] if (at := text.find(mark, 1)) > 0]
            end = min(ends, default=-1)
            if text[0] == '"' and line > 0 and (end < 0 or line < end):
                return 0  # a plain mark closes in its line
        if 0 < end <= LONGEST:
            return end
        if end > 0 or ended or len(text) > LONGEST:
            return 0
        return None if self._may_be_quote() else 0

    def _may_be_quote(self) -> bool:
        """Whether the words so far stand in a document."""
        if len(self._text) < self._looked + STEP:
            return True
        words = self._text[1:].rpartition(" ")[0]  # the last one may be incomplete
        self._looked = len(self._text)
        return len(words.strip(EDGES)) < STEP // 2 or self._citable.find(words) is not None
