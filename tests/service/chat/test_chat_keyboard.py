"""The chat by keyboard alone, step by step, and what a screen reader is told: names, roles and states."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from company import Upstream, chat, file_of, until

from browsers import open_browser, open_page
from charter.service.chat.service import Service
from charter.service.chat.visit import PAGES
from charter.service.people.workers import invite
from charter.service.web.database import writing

MOST_SCRIPT = 40_000  # bytes of our own scripts
MOST_TABS = 80


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


class Keys:
    """A person with a keyboard alone."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def go(self, name: str, back: bool = False) -> None:
        """Tabs to the control of a name. The focus is visible at each step, and never trapped."""
        for _ in range(MOST_TABS):
            self.press("Shift+Tab" if back else "Tab")
            where = self.page.evaluate(
                """() => {
                  const e = document.activeElement, style = getComputedStyle(e);
                  const label = e.labels?.length ? e.labels[0].textContent : "";
                  const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
                  const seen = e === document.body || outlined || style.boxShadow !== "none";
                  return {name: (e.getAttribute("aria-label") || label || e.textContent).trim(), seen};
                }"""
            )
            assert where["seen"], f"no focus is visible on {where['name']!r}"
            if where["name"].lstrip("‹›") == name:
                return
        raise AssertionError(f"no Tab leads to {name!r}")

    def use(self, name: str, back: bool = False) -> None:
        self.go(name, back)
        self.press("Enter")


def test_every_step_is_possible_by_keyboard_alone(
    browser: Any, served_chat: tuple[str, Service], upstream: Upstream
) -> None:
    complaints: list[str] = []
    page = open_page(browser, "desktop", complaints)
    keys = Keys(page)
    page.goto(invited(served_chat))
    keys.go("What shall we call you?")
    keys.type("ann")
    keys.press("Enter")
    page.wait_for_selector("#key")
    key = page.locator("#key").inner_text()
    keys.use("I have saved it: go on")
    page.wait_for_selector("#text:focus")
    # send, stop, retry, versions
    upstream.gate = threading.Event()
    upstream.gate.set()
    keys.type("Hello")
    keys.press("Enter")
    page.wait_for_selector("[data-state=running]")
    keys.press("Escape")
    page.wait_for_selector(".said.assistant[data-state=stopped]")
    upstream.gate.clear()
    keys.use("Try again", back=True)
    page.wait_for_selector("text=2 of 2")
    page.wait_for_selector(".said.assistant[data-state=done]")
    keys.use("Earlier version", back=True)
    page.wait_for_selector("text=1 of 2")
    keys.use("Later version", back=True)
    page.wait_for_selector("text=2 of 2")
    # thumbs with words: the focus returns to what opened the dialog
    keys.use("Rate", back=True)
    keys.go("What was good or wrong? You need not say.")
    keys.type("Well said")
    keys.use("Good")
    page.wait_for_selector("summary:focus >> text=Rated good")
    until(lambda: any(kind == "feedback" for kind, _ in upstream.told))
    # edit
    keys.use("Edit", back=True)
    page.wait_for_selector("details[open] summary:focus")
    keys.press("Escape")
    page.wait_for_selector("summary:focus >> text=Edit")
    keys.press("Enter")
    keys.go("Your message in other words")
    keys.press("Control+End")
    keys.type(" there")
    keys.use("Send")
    page.wait_for_selector(".said.user >> text=Hello there")
    page.wait_for_selector(".said.assistant[data-state=done]")
    # rename
    keys.use("This chat", back=True)
    keys.go("Title")
    keys.press("Control+A")
    keys.type("Greetings")
    keys.press("Enter")
    page.wait_for_selector("h1 >> text=Greetings")
    # share and take back
    keys.use("This chat", back=True)
    keys.use("Make a link")
    page.wait_for_selector("#link")
    keys.use("Take it back")
    page.wait_for_selector("text=You share nothing.")
    # search
    keys.press("Control+k")
    page.wait_for_selector("#q:focus")
    keys.type("there")
    keys.press("Enter")
    page.wait_for_selector(".hits mark")
    keys.use("Greetings")
    page.wait_for_selector("h1 >> text=Greetings")
    # delete and undo
    keys.use("This chat", back=True)
    keys.use("Delete")
    page.wait_for_selector("h1 >> text=Deleted")
    keys.use("Bring it back")
    page.wait_for_selector("h1 >> text=Greetings")
    # sign out, and in again
    keys.use("Sign out", back=True)
    page.wait_for_selector("text=You have signed out")
    keys.go("Your key")
    keys.type(key)
    keys.press("Enter")
    page.wait_for_selector(".hello")
    assert [one for one in complaints if "400" not in one] == []


def test_a_screen_reader_is_told_names_roles_and_states(
    browser: Any, served_chat: tuple[str, Service], upstream: Upstream
) -> None:
    page = open_page(browser, "desktop", [])
    page.goto(invited(served_chat))
    page.fill("#name", "ann")
    page.click("text=Join")
    page.click("text=I have saved it")
    upstream.words, upstream.pause = lambda _: "First part.\n\nSecond part.\n\nThird part.", 0.05
    page.fill("#text", "Hello")
    page.keyboard.press("Enter")
    page.wait_for_selector(".said.assistant [role=status]")
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
    summary = page.locator(".said.assistant summary >> text=Rate")
    summary.click()
    assert page.locator(".said.assistant details[open]").count() == 1  # a details tells its state by itself
    page.goto(f"{served_chat[0]}/temporary")
    tree = page.locator("main").aria_snapshot()
    assert "never written to disk" in tree and '- textbox "Your message"' in tree


def test_what_is_typed_is_on_the_server_before_it_is_sent(
    browser: Any, served_chat: tuple[str, Service]
) -> None:
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
    assert "A secret" in page.locator(".said.assistant .blocks").inner_text()
    page.click("button:has-text('Close')")
    page.wait_for_selector("text=nothing of it is left here")
    assert asked and not [url for url in asked if url.endswith("/draft")]


def test_without_scripts_a_draft_is_kept_by_a_button(browser: Any, served_chat: tuple[str, Service]) -> None:
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
    page.click("#composer button")
    page.wait_for_selector(".said.assistant[data-state=done]")  # the page looks again by itself


def test_our_scripts_are_small() -> None:
    assert sum(len(PAGES.read(name)) for name in PAGES.files if name.endswith(".js")) <= MOST_SCRIPT
