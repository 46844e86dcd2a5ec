"""The normal form of a text, and the text of an HTML page.

Normal form: Unicode NFC. Every line ends in a line feed (CR LF, CR, form feeds and the separators U+2028 and U+2029
become one). Other control characters, byte-order marks, and blank lines at both ends are removed. Blanks at the ends of
lines stay, because they may have a meaning. The text ends without a line feed.
"""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

_LINE_ENDS = re.compile("\r\n?|[\f\v\u0085\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
_HIDDEN = frozenset({"script", "style", "head", "template", "noscript", "svg", "nav"})
_BREAKS = frozenset(
    {
        *("p", "div", "br", "li", "ul", "ol", "dl", "dt", "dd", "tr", "table", "pre", "blockquote", "section"),
        *("article", "header", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "body", "main", "figure"),
        *("figcaption", "caption", "aside", "option", "address", "form", "legend", "details", "summary"),
    }
)
_CELLS = frozenset({"td", "th"})  # of a row, which is a line


def normal_form(text: str) -> str:
    """The normal form, as above. It is idempotent."""
    plain = _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))
    normal = unicodedata.normalize("NFC", plain).rstrip()
    blank = len(normal) - len(normal.lstrip())
    return normal[normal.rfind("\n", 0, blank) + 1 :]


def page_text(page: str) -> str:
    """The visible text of an HTML page, without tags, scripts, styles and navigation; each block is a line."""
    reader = _Page()
    reader.feed(page)
    reader.close()
    lines = (line.strip() for line in "".join(reader.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden: list[str] = []
        self._verbatim = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._hidden.append(tag)
        elif tag == "body" or (tag in _BREAKS and self._hidden == ["head"]):
            self._hidden.clear()  # an unclosed head ends here
        if tag in _BREAKS:
            self.parts.append("\n" if tag in ("br", "li", "tr", "dt", "dd", "option") else "\n\n")
        elif tag in _CELLS:
            self.parts.append(" ")
        self._verbatim += tag == "pre"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:  # with all its unclosed children
            del self._hidden[self._hidden.index(tag) :]
        if tag in _BREAKS:
            self.parts.append("\n")
        self._verbatim -= tag == "pre" and self._verbatim > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data if self._verbatim else re.sub(r"\s+", " ", data))
