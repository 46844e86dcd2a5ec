"""The chat in a real browser: streams, reloads, lost connections, the keyboard alone, and pages without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from company import Upstream, chat, file_of

from browsers import open_browser, open_page
from charter_service.chat.service import Service
from charter_service.people.workers import invite
from charter_service.web.database import writing

WORDS = (
    "First part of it.\n\n- a list\n- of two\n\n"
    + " ".join(f"word{n}" for n in range(60))
    + ".\n\n```python\nx = 1\n```\n"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def upstream() -> Upstream:
    double = Upstream()
    double.words, double.pause = lambda _: WORDS, 0.02
    return double


@pytest.fixture
def served_chat(tmp_path: Path, upstream: Upstream) -> Iterator[tuple[str, Service]]:
    with chat(file_of(tmp_path), upstream) as made:
        yield made


def entered(
    browser: Any, made: tuple[str, Service], size: str = "desktop", scripts: bool = True
) -> tuple[Any, list[str]]:
    """A signed-in person's page, and what the browser complains of."""
    home, service = made
    complaints: list[str] = []
    page = open_page(browser, size, complaints, scripts)
    with writing(service.database) as c:
        token = invite(c, "member")
    page.goto(f"{home}/join/{token}")
    page.fill("#name", f"ann {token[:6].strip('-_')}x")
    page.click("text=Join")
    page.click("text=I have saved it")
    return page, complaints


def shown(page: Any) -> str:
    # `inner_text` is empty where a page in the background has yet to be laid out
    return str(page.locator(".said.assistant .blocks").last.text_content())


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_reply_streams_and_ends_as_it_is_stored(browser: Any, served_chat: Any, size: str) -> None:
    page, complaints = entered(browser, served_chat, size)
    page.fill("#text", "Hello")
    page.click("#composer button")
    page.wait_for_selector("[data-state=running] [data-block]")
    assert page.locator("#composer button").first.is_disabled()
    page.wait_for_selector(".said.assistant[data-state=done]")
    assert "word59." in shown(page) and not page.locator("#composer button").first.is_disabled()
    live = page.locator(".said.assistant .blocks").inner_html()
    page.reload()
    assert page.locator(".said.assistant .blocks").text_content() and "word59." in shown(page)
    assert page.locator(".said.assistant .blocks [data-block]").count() == live.count("data-block")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert complaints == []


def test_reloads_and_lost_connections_leave_nothing_out(browser: Any, served_chat: Any, upstream: Upstream) -> None:
    page, _ = entered(browser, served_chat)
    upstream.pause = 0.05
    page.fill("#text", "Hello")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-state=running] [data-block]")
    for _ in range(3):
        page.reload()
        page.wait_for_timeout(150)
    page.context.set_offline(True)
    page.wait_for_timeout(500)
    page.context.set_offline(False)
    page.wait_for_selector(".said.assistant[data-state=done]")
    live = shown(page)
    page.reload()
    assert shown(page) == live and live.count("word7 ") == 1


def test_a_second_tab_sees_the_same_reply_and_stops_it(browser: Any, served_chat: Any, upstream: Upstream) -> None:
    page, _ = entered(browser, served_chat)
    upstream.pause = 0.1
    page.fill("#text", "Hello")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-state=running] [data-block]")
    other = page.context.new_page()
    other.goto(page.url)
    other.click("[data-state=running] >> text=Stop")
    other.wait_for_selector(".said.assistant[data-state=stopped]")
    page.wait_for_selector(".said.assistant[data-state=stopped]")
    assert "You stopped it here." in page.content()
    assert shown(page) == shown(other)


def test_the_keyboard_alone_is_enough(browser: Any, served_chat: Any) -> None:
    page, _ = entered(browser, served_chat)
    page.wait_for_selector("#text:focus")
    page.keyboard.type("Hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-state=running]")
    page.keyboard.press("Escape")
    page.wait_for_selector(".said.assistant[data-state=stopped]")
    assert page.locator(".said.user .text").text_content() == "Hello\nthere"
    page.locator(".said.assistant a >> text=Edit").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".said.assistant .edit textarea:focus")
    page.keyboard.press("Escape")
    assert page.locator(".edit").count() == 0
    page.wait_for_selector(".said.assistant a:focus >> text=Edit")
    page.keyboard.press("Control+k")
    page.wait_for_selector("#q:focus")
    page.keyboard.type("there")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hits mark")
    page.keyboard.press("Control+Shift+O")
    page.wait_for_selector(".hello")


def test_without_scripts_everything_still_works(browser: Any, served_chat: Any, upstream: Upstream) -> None:
    upstream.pause = 0.0
    page, _ = entered(browser, served_chat, scripts=False)
    page.fill("#text", "Hello")
    page.click("#composer button")
    page.wait_for_selector(".said.assistant[data-state=done]")  # the page looks again by itself
    page.click(".said.assistant >> text=Try again")
    page.wait_for_selector("text=2 of 2")
    page.wait_for_selector(".said.assistant[data-state=done]")
    page.locator(".said.user a >> text=Edit").click()
    page.locator(".said.user textarea").fill("Goodbye")
    page.locator(".said.user .edit >> button").click()
    page.wait_for_selector(".said.assistant[data-state=done]")  # the page looks again by itself
    page.locator(".said.assistant a >> text=Rate").click()
    page.locator(".said.assistant button >> text=Good").click()
    page.wait_for_selector(".said.assistant a >> text=Rated good")
    page.locator("summary >> text=This chat").click()
    page.click("button:has-text('Delete')")
    page.click("button:has-text('Bring it back')")
    page.wait_for_selector(".said.user .text >> text=Goodbye")


def test_nothing_is_loaded_from_elsewhere(browser: Any, served_chat: Any) -> None:
    page, complaints = entered(browser, served_chat)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.fill("#text", "Hello")
    page.click("#composer button")
    page.wait_for_selector(".said.assistant[data-state=done]")
    for place in ("/me", "/limits", "/archived", "/search?q=x"):
        page.goto(served_chat[0] + place)
    assert asked and all(url.startswith(served_chat[0]) for url in asked)
    assert complaints == []
