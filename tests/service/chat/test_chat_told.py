"""What a screen reader is told (names, roles, states), drafts as they are typed, and how small our scripts are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from company import Upstream, chat, file_of, until

from browsers import open_browser, open_page
from charter_service.chat.service import Service
from charter_service.chat.site import PAGES
from charter_service.people.workers import invite
from charter_service.web.database import writing

MOST_SCRIPT = 40_000  # bytes of our own scripts


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def served_chat(tmp_path: Path, upstream: Upstream) -> Iterator[tuple[str, Service]]:
    with chat(file_of(tmp_path), upstream) as made:
        yield made


def invited(made: tuple[str, Service]) -> str:
    with writing(made[1].database) as c:
        return f"{made[0]}/join/{invite(c, 'admin')}"


def test_a_screen_reader_is_told_names_roles_and_states(
    browser: Any, served_chat: tuple[str, Service], upstream: Upstream
) -> None:
    page = open_page(browser, "desktop", [])
    page.goto(invited(served_chat))
    page.fill("#name", "ann")
    page.click("text=Join")
    page.click("text=I have saved it")
    upstream.words, upstream.pause = lambda _: "First part.\n\nSecond part.\n\nThird part.", 0.05
    upstream.gate = threading.Event()
    upstream.gate.set()
    page.fill("#text", "Hello")
    page.keyboard.press("Enter")
    page.wait_for_selector(".said.assistant [role=status]")
    upstream.gate.clear()  # only now, or a busy machine says the first part before the page is there
    page.wait_for_selector(".said.assistant[data-state=done]")
    page.wait_for_selector("#spoken >> text=The reply is complete.")
    spoken = page.locator("#spoken p").all_inner_texts()
    assert [one.strip() for one in spoken] == [
        "First part.",
        "Second part.",
        "Third part.",
        "The reply is complete.",
    ]  # each finished block once, and the end
    tree = page.locator("body").aria_snapshot()
    for line in (
        '- navigation "Chats":',
        '- searchbox "Search in your chats"',
        '- region "Messages":',
        '- article "You":',
        '- article "Reply":',
        '- log "New text":',
        '- textbox "Your message"',
        '- button "Send"',
        '- button "Try again"',
        '- button "New chat from here"',
    ):
        assert line in tree, (line, tree)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, summary")]
          .filter((e) => e.checkVisibility() && !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
          .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("[aria-current=page]").count() == 1
    page.click(".said.assistant a >> text=Rate")
    page.wait_for_selector(".said.assistant details[open]")  # a details tells its state by itself
    page.goto(f"{served_chat[0]}/temporary")
    tree = page.locator("main").aria_snapshot()
    assert "never written to disk" in tree and '- textbox "Your message"' in tree


def test_of_a_stopped_reply_a_screen_reader_hears_what_the_page_shows(
    browser: Any, tmp_path: Path, upstream: Upstream
) -> None:
    upstream.refusal, upstream.gate = "This request was stopped. Appeal on your own page.", threading.Event()
    upstream.gate.set()
    with chat(file_of(tmp_path), upstream) as made:
        page = open_page(browser, "desktop", [])
        page.goto(invited(made))
        page.fill("#name", "ann")
        page.click("text=Join")
        page.click("text=I have saved it")
        page.fill("#text", "Hello")
        page.keyboard.press("Enter")
        page.wait_for_selector(".said.assistant [role=status]")
        upstream.gate.clear()
        page.wait_for_selector("#spoken >> text=The reply is complete.")
        spoken = page.locator("#spoken p").all_inner_texts()
        assert [one.strip() for one in spoken] == ["This request was stopped.", "The reply is complete."]


def test_what_is_typed_is_on_the_server_before_it_is_sent(browser: Any, served_chat: tuple[str, Service]) -> None:
    page = open_page(browser, "desktop", [])
    page.goto(invited(served_chat))
    page.fill("#name", "ann")
    page.click("text=Join")
    page.click("text=I have saved it")
    with page.expect_response("**/draft"):
        page.type("#text", "Half a thought")
    page.reload()
    assert page.locator("#text").input_value() == "Half a thought"
    page.type("#text", " more")
    page.reload()  # at once: the page sends it as it goes
    other = page.context.new_page()
    until(lambda: other.goto(served_chat[0]) and "more" in other.locator("#text").input_value())
    other.close()
    page.reload()
    page.keyboard.press("Enter")
    page.wait_for_selector(".said.assistant[data-state=done]")
    page.goto(served_chat[0])
    assert page.locator("#text").input_value() == ""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.click("text=Temporary chat")
    page.type("#text", "A secret")
    page.wait_for_timeout(1000)  # longer than the pause after which a draft is kept
    page.click("#composer button:has-text('Send')")
    page.wait_for_selector(".said.assistant[data-state=done]")
    assert "A secret" in page.locator(".said.assistant .blocks").text_content()
    page.click("button:has-text('Close')")
    page.wait_for_selector("text=nothing of it is left here")
    assert asked and not [url for url in asked if url.endswith("/draft")]


def test_without_scripts_a_draft_is_kept_by_a_button(
    browser: Any, served_chat: tuple[str, Service], upstream: Upstream
) -> None:
    page = open_page(browser, "phone", [], scripts=False)
    page.goto(invited(served_chat))
    page.fill("#name", "ann")
    page.click("text=Join")
    page.click("text=I have saved it")
    page.fill("#text", "Half a thought")
    page.click("button[formaction='/draft']")
    page.goto(served_chat[0])
    assert page.locator("#text").input_value() == "Half a thought"
    page.goto(f"{served_chat[0]}/temporary")
    page.fill("#text", "Hello")
    upstream.gate = threading.Event()
    upstream.gate.set()  # words are held back
    page.click("#composer button")
    page.wait_for_selector(".said.assistant[data-state=running]")
    upstream.gate.clear()
    page.wait_for_selector(".said.assistant[data-state=done]")  # the page looks again by itself


def test_our_scripts_are_small() -> None:
    assert sum(len(PAGES.read(name)) for name in PAGES.files if name.endswith(".js")) <= MOST_SCRIPT
