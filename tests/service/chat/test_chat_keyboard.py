"""The chat by keyboard alone, step by step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from company import Upstream, chat, file_of, until

from browsers import open_browser, open_page
from charter.ground.documents.document import Document
from charter_service.chat.service import Service
from charter_service.people.workers import invite
from charter_service.web.database import writing

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
        passed = list[str]()
        for _ in range(MOST_TABS):
            self.press("Shift+Tab" if back else "Tab")
            where = self.page.evaluate(
                """() => {
                  const e = document.activeElement ?? document.documentElement, style = getComputedStyle(e);
                  const label = e.labels?.length ? e.labels[0].textContent : "";
                  const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
                  const seen = e === document.body || outlined || style.boxShadow !== "none";
                  return {name: (e.getAttribute("aria-label") || label || e.textContent).trim(), seen};
                }"""
            )
            assert where["seen"], f"no focus is visible on {where['name']!r}"
            if where["name"] == name:
                return
            passed.append(where["name"])
        raise AssertionError(f"no Tab leads to {name!r}, only to {passed}")

    def use(self, name: str, back: bool = False) -> None:
        self.go(name, back)
        self.press("Enter")


def test_every_step_is_possible_by_keyboard_alone(
    browser: Any, served_chat: tuple[str, Service], upstream: Upstream
) -> None:
    complaints: list[str] = []
    page = open_page(browser, "desktop", complaints)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
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
    page.wait_for_selector("details[open] summary:focus")
    keys.go("What was good or bad? (optional)")
    keys.type("Well said")
    keys.use("Good")
    page.wait_for_selector("summary:focus >> text=Rated good")
    until(lambda: any(kind == "feedback" for kind, _ in upstream.told))
    # copy
    keys.use("Copy", back=True)
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "You said “Hello”. That is all."
    # edit
    keys.use("Edit", back=True)
    page.wait_for_selector(".edit textarea:focus")
    keys.press("Escape")
    page.wait_for_selector("a:focus >> text=Edit")
    keys.press("Enter")
    page.wait_for_selector(".edit textarea:focus")
    keys.type(" there")
    keys.press("Enter")
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


def test_no_letter_digit_or_sign_is_a_command(browser: Any, served_chat: tuple[str, Service]) -> None:
    page = open_page(browser, "desktop", [])
    page.goto(invited(served_chat))
    page.fill("#name", "ann")
    page.click("text=Join")
    page.click("text=I have saved it")
    page.fill("#text", "Hello")
    page.keyboard.press("Enter")
    page.wait_for_selector(".said.assistant[data-state=done]")
    page.evaluate("document.activeElement.blur()")
    before = page.locator("main").inner_html(), page.url
    page.keyboard.type("abcdefghijklmnopqrstuvwxyz0123456789?/.,#+-")
    assert (page.locator("main").inner_html(), page.url) == before


def test_files_are_attached_and_a_link_is_followed_by_keyboard_alone(
    browser: Any, served_chat: tuple[str, Service]
) -> None:
    page = open_page(browser, "desktop", [])
    choosers = list[Any]()
    page.on("filechooser", lambda one: choosers.append(one))  # early: Chromium tells of them only after a while
    keys = Keys(page)
    read = Document("note.txt", "txt", 4, "x", "four", (0,))
    served_chat[1].files.read = lambda data, name, limits: read
    page.goto(invited(served_chat))
    page.fill("#name", "ann")
    page.click("text=Join")
    page.click("text=I have saved it")
    page.wait_for_selector("#text:focus")
    keys.use("Attach files")
    page.wait_for_selector("details[open] summary:focus")
    page.locator("#files").wait_for(state="visible")
    keys.press("Tab")
    page.wait_for_selector("#files:focus")
    keys.press("Enter")
    until(lambda: choosers or page.wait_for_timeout(20))
    choosers[0].set_files([{"name": "note.txt", "mimeType": "text/plain", "buffer": b"four"}])
    page.wait_for_selector("#composer [data-state=ready] >> text=note.txt")
    keys.press("Escape")
    page.wait_for_selector("summary:focus >> text=Attach files")
    keys.go("Your message", back=True)
    keys.type("What is it?")
    keys.press("Enter")
    page.wait_for_selector(".said.assistant[data-state=done]")
    assert page.locator(".said.user .file a").text_content() == "note.txt"
    keys.press("Control+Shift+O")
    page.wait_for_selector(".hello")
    keys.use("What is it?", back=True)
    page.wait_for_selector("h1 >> text=What is it?")
    assert page.evaluate("location.hash.startsWith('#m-')")  # a chat opens at its end
