"""The pages of the chat by axe's rules (WCAG 2.2 A and AA), in light and dark, at three widths, in the states that
people meet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from company import Upstream, chat, file_of

from browsers import LONGEST_WAIT, faults, open_browser, rules_broken
from charter_service.chat.service import Service
from charter_service.people.workers import invite
from charter_service.web.database import writing

WORDS = """A paragraph with `code` and a [link](https://example.org).

## A head

- one
- two

| a | b |
|---|--:|
| 1 | 2 |

```python
def square(n):
    return n * n  # a comment
```

> said

\\( x^2 \\)
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def served_chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service, Upstream]]:
    upstream = Upstream()
    upstream.words = lambda _: WORDS
    with chat(file_of(tmp_path_factory.mktemp("chat")), upstream) as (home, service):
        yield home, service, upstream


SLOW = pytest.mark.slow
LOOKS = [(1280, "light"), (390, "dark"), pytest.param(320, "light", marks=SLOW)]
LOOKS += [pytest.param(width, scheme, marks=SLOW) for width, scheme in ((1280, "dark"), (390, "light"), (320, "dark"))]


def test_the_rules_see_something(browser: Any) -> None:
    page = browser.new_page()
    page.set_content("<title>x</title><img src='x.png'><p style='color:#eee'>Hardly to be read</p>")
    broken = rules_broken(page)
    assert {"image-alt", "color-contrast", "html-has-lang"} <= broken.keys()


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_no_rule_is_broken(browser: Any, served_chat: tuple[str, Service, Upstream], width: int, scheme: str) -> None:
    home, service, upstream = served_chat
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(LONGEST_WAIT)
    page, broken, looks = context.new_page(), list[str](), 0

    def look(state: str) -> None:
        nonlocal looks
        looks += 1
        broken.extend(faults(page, state))

    page.goto(f"{home}/enter")
    look("enter")
    page.goto(f"{home}/join/wrong")
    look("refused")
    with writing(service.database) as c:
        token = invite(c, "admin")
    page.goto(f"{home}/join/{token}")
    look("join")
    page.fill("#name", f"ann {width} {scheme}")
    page.click("text=Join")
    page.wait_for_selector("#key")
    look("welcome")
    page.click("text=I have saved it")
    page.wait_for_selector("#text")
    look("new chat")
    page.fill("#text", "How does it work?")
    page.click("#composer button")
    page.wait_for_selector(".said.assistant[data-state=done]")
    look("chat")
    for words in ("This chat", "Rate", "Edit"):
        page.locator(f":is(summary, [data-unfold]):has-text('{words}')").last.click()
        page.wait_for_selector("details.drop[open], .edit textarea:focus")
        look(f"open: {words}")
        page.keyboard.press("Escape")
    page.click(":is(summary, [data-unfold]):has-text('Rate')")
    page.click("button:has-text('Good')")
    page.wait_for_selector("summary:focus >> text=Rated good")
    page.click(".said.assistant button:has-text('Try again')")
    page.wait_for_selector("text=2 of 2")
    look("versions")
    upstream.gate = threading.Event()
    upstream.gate.set()
    page.fill("#text", "And now?")
    page.click("#composer button")
    page.wait_for_selector("[data-state=running]")
    look("writing")
    page.click("[data-state=running] button:has-text('Stop')")
    page.wait_for_selector("[data-state=stopped]")
    upstream.gate = None
    look("stopped")
    page.click("summary:has-text('This chat')")
    page.click("text=Make a link")
    page.wait_for_selector("#link")
    look("shared")
    page.goto(page.locator("#link").inner_text())
    look("share")
    for place in (
        "me",
        "limits",
        "models",
        "policy",
        "constitution/abc",
        "temporary",
        "archived",
        "search?q=work",
        "search?q=zebra",
        "people",
        "nothing",
    ):
        page.goto(f"{home}/{place}")
        look(place)
    if width < 900:
        page.goto(home)
        page.click("button:has-text('Chats')")
        look("list")
    context.close()
    assert broken == [] and looks >= 20
