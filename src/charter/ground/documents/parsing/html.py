"""HTML: what a page shows, with its headings, lists, tables and the addresses of links.

The parser reports tags as it meets them and builds no tree, so that no depth of nesting stops it.
"""

import re
from collections.abc import Mapping

from lxml import etree

from charter.ground.documents.parsing.outcome import Refused, Text, row

_UNSEEN = {"script", "style", "template", "head", "noscript", "iframe", "object", "select", "datalist"}
_UNSEEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# fmt: off
_BLOCKS = {
    *_HEADINGS,
    "address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "legend", "li", "main", "nav",
    "ol", "p", "pre", "section", "summary", "table", "td", "th", "tr", "ul",
}
# fmt: on
_TIGHT = {"li", "dt", "dd", "tr", "br", "caption"}  # one line end after them, else an empty line
_DEEPEST = 20  # levels of a list that are indented
_ADDRESS = re.compile(r"(https?|ftp|mailto|tel):", re.IGNORECASE)


class Page:
    """A target of lxml's parsers that writes what a page shows to a text."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.unseen = 0  # open elements, from the first that isn't shown
        self.words = list[str]()  # of the paragraph that is being read
        self.lists = list[int]()  # open lists: the number of the next item; -1 if items have bullets
        self.links = list[tuple[str, int]]()  # open links: the address; how many words stood before
        self.rows = list[list[str]]()  # the open row of each open table
        self.mark, self.preformatted = "", 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        name = _name(tag)
        if self.unseen or name in _UNSEEN or (attributes and _hidden(attributes)):
            self.unseen += 1
            return
        if name == "br":
            self.words.append("\n")
            return
        if name in _BLOCKS:
            self.flush(name in _TIGHT or name in ("ul", "ol"))
        if name in _HEADINGS:
            self.mark = "#" * _HEADINGS[name] + " "
        elif name in ("ul", "ol"):
            self.lists.append(1 if name == "ol" else -1)
        elif name == "li":
            self.mark = self._bullet()
        elif name == "table":
            self.rows.append([])
        elif name == "pre":
            self.preformatted += 1
        elif name == "a":
            self.links.append((attributes.get("href") or "", len(self.words)))
        elif name == "img" and (attributes.get("alt") or "").strip():
            self.words.append(f" [picture: {attributes['alt'].strip()}] ")

    def end(self, tag: str) -> None:
        """An element ends."""
        name = _name(tag)
        if self.unseen:
            self.unseen -= 1
            return
        if name == "a" and self.links:
            self._close_link()
        if name not in _BLOCKS:
            return
        if name in ("td", "th") and self.rows:
            self.rows[-1].append("".join(self.words))
            self.words.clear()
            return
        self.flush(name in _TIGHT)
        if name == "tr" and self.rows:
            self._close_row()
        elif name == "table" and self.rows:
            self._close_row()
            self.rows.pop()
            if not self.rows:
                self.text.gap()
        elif name in ("ul", "ol") and self.lists:
            self.lists.pop()
            if not self.lists:
                self.text.gap()
        elif name == "pre" and self.preformatted:
            self.preformatted -= 1

    def data(self, words: str) -> None:
        """Characters of the page."""
        if not self.unseen and words:
            self.words.append(words if self.preformatted else re.sub(r"\s+", " ", words))

    def comment(self, words: str) -> None:
        """A comment, which a page doesn't show."""

    def close(self) -> None:
        """The page ends."""
        self.unseen = 0
        self.flush(False)

    def flush(self, tight: bool) -> None:
        """Write the paragraph that was read. In a table, blocks of a cell stay words of the cell."""
        if self.rows:
            if self.words and not self.words[-1].isspace():
                self.words.append(" ")
            self.mark = ""
            return
        if not self.words:
            return
        words = "".join(self.words)
        self.words.clear()
        self.links = [(address, 0) for address, _ in self.links]
        words = words.strip("\n") if self.preformatted else re.sub(r" *\n *", "\n", words).strip()
        if words.strip():
            self.text.add(f"{self.mark}{words}\n" if tight or self.lists else f"{self.mark}{words}\n\n")
            self.mark = ""

    def _bullet(self) -> str:
        indent = "  " * min(max(0, len(self.lists) - 1), _DEEPEST)
        number = self.lists[-1] if self.lists else -1
        if number < 0:
            return f"{indent}- "
        self.lists[-1] += 1
        return f"{indent}{number}. "

    def _close_link(self) -> None:
        address, before = self.links.pop()
        words = "".join(self.words[before:]).strip()
        if words and _ADDRESS.match(address) and words != address:
            self.words[before:] = [*self.words[before:], f" ({address.strip()})"]

    def _close_row(self) -> None:
        cells = self.rows[-1]
        unclosed = "".join(self.words)
        self.words.clear()
        self.rows[-1] = []
        cells = [*cells, unclosed] if unclosed.strip() else cells
        if len(self.rows) > 1:  # of a table in a cell, which stays words of the cell
            self.words.append(" ".join(cell.strip() for cell in cells if cell.strip()) + " ")
        else:
            self.text.line(row(cells))


def _hidden(attributes: Mapping[str, str]) -> bool:
    return "hidden" in attributes or bool(_UNSEEN_STYLE.search(attributes.get("style") or ""))


def _name(tag: str) -> str:
    return tag.rpartition("}")[2].lower()


def write_page(data: bytes, text: Text, strict: bool = False) -> None:
    """Append what a page shows to `text`. `data` is UTF-8; `strict` data is read as XML, whose elements may be empty,
    and raises XMLSyntaxError if it isn't."""
    page = Page(text)
    parser: etree.XMLParser | etree.HTMLParser
    if strict:
        parser = etree.XMLParser(target=page, resolve_entities=False, no_network=True, huge_tree=False)
    else:
        parser = etree.HTMLParser(target=page, encoding="utf-8", huge_tree=True, no_network=True)
    try:
        etree.fromstring(data, parser)
    except etree.ParserError:  # there is no element
        page.close()


def read(data: bytes, text: Text) -> str:
    """Append what a page shows to `text`."""
    write_page(data, text)
    if not text.length:
        raise Refused("This HTML page shows no text; send one with text.")
    return "html"
