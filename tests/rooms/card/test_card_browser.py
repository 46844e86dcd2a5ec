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


@pytest.fixture(scope="module")
def browser() -> Any:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module", params=["desktop", "phone"])
def shown(request: pytest.FixtureRequest, browser: Any, finished: Path) -> Any:
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


def test_the_page_shows_its_drawings_and_admits_no_script_and_no_load(
    browser: Any, finished: Path, tmp_path: Path
) -> None:
    words = (finished / "card/card.html").read_text("utf-8")
    forged = words.replace(
        "<main>",
        "<main><script>document.title = 'forged'</script><img src='http://127.0.0.1:9/x.png' "
        "onerror='document.title = 1'><iframe src='data:text/html,forged'></iframe>",
        1,
    )
    (tmp_path / "forged.html").write_text(forged, "utf-8")
    complaints: list[str] = []
    page = open_page(browser, "desktop", complaints)
    page.goto((finished / "card/card.html").as_uri())
    title = page.title()
    page.evaluate(OPEN)
    boxes = page.evaluate("[...document.querySelectorAll('figure svg')].map(one => one.getBoundingClientRect().height)")
    assert len(boxes) > 5 and min(boxes) > 50 and complaints == []
    page.goto((tmp_path / "forged.html").as_uri())
    assert page.title() == title
    assert len([one for one in complaints if "Content Security Policy" in one]) >= 3
