"""The card in a browser: the length of the front page, nothing wider than a phone, drawings whose words can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browsers import open_browser, open_page

OPEN = "document.querySelectorAll('details').forEach(part => part.open = true)"
WIDTH = "document.documentElement.scrollWidth"
# Of each drawing: its smallest words in pixels of the screen, and whether the frame around it scrolls.
WORDS = """[...document.querySelectorAll('figure svg')].map(drawing => Math.min(
    ...[...drawing.querySelectorAll('text')].map(words => {
        const to = words.getScreenCTM()
        return parseFloat(getComputedStyle(words).fontSize) * Math.hypot(to.a, to.b)
    })))"""
HINTS = """[...document.querySelectorAll('figure .scroll')].filter(frame => frame.scrollWidth > frame.clientWidth + 1)
    .map(frame => getComputedStyle(frame, '::before').content)"""


@pytest.fixture(scope="module", params=["desktop", "phone"])
def shown(request: pytest.FixtureRequest, finished: Path) -> Any:
    with open_browser() as browser:
        complaints: list[str] = []
        page = open_page(browser, request.param, complaints)
        page.goto((finished / "card/card.html").as_uri())
        yield request.param, page
        assert complaints == []


def test_the_front_page_is_four_screens_and_nothing_is_wider_than_the_screen(shown: tuple[str, Any]) -> None:
    size, page = shown
    if size == "desktop":
        assert page.evaluate("document.documentElement.scrollHeight") <= 3600
    assert page.evaluate(WIDTH) <= page.viewport_size["width"]
    page.evaluate(OPEN)
    assert page.evaluate(WIDTH) <= page.viewport_size["width"]


def test_words_of_drawings_can_be_read_and_what_scrolls_says_so(shown: tuple[str, Any]) -> None:
    size, page = shown
    page.evaluate(OPEN)
    assert min(page.evaluate(WORDS)) >= 9.5
    hints = page.evaluate(HINTS)
    assert all("swipe" in hint for hint in hints) and bool(hints) is (size == "phone")
