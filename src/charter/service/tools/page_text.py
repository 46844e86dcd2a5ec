"""The visible text of a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from charter.service.tools.guarded_web import Page

HIDDEN = {"script", "style", "noscript", "template", "svg", "head", "iframe", "object"}
BLOCKS = {
    "p",
    "div",
    "li",
    "tr",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "br",
    "section",
    "article",
    "td",
    "th",
    "pre",
}


def text_of_page(page: Page) -> str:
    """The words that a reader sees, lines folded."""
    text = page.data.decode("utf-8", "replace")
    if page.kind in ("text/html", "application/xhtml+xml"):
        reader = _Visible()
        reader.feed(text)
        reader.close()
        text = "".join(reader.parts)
    lines = (" ".join(line.split()) for line in text.replace("\0", " ").splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Visible(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = ""  # the element that hides what comes

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self._hidden and tag in HIDDEN:
            self._hidden = tag
        elif tag in BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden or (self._hidden == "head" and tag == "html"):
            self._hidden = ""
        elif tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)
