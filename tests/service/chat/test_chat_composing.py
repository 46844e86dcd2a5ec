"""Writing and rewriting messages in a real browser, on a desktop and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from company import Person, Upstream, chat, file_of, until

from browsers import open_browser, open_page
from charter_service.chat.service import Service
from charter_service.people.workers import invite
from charter_service.web.database import writing

LONG = "A first line.\n\n" + "\n\n".join(f"Paragraph {n} of a long reply." for n in range(40))
LEAST_TARGET = 44  # pixels
LEANEST = 150  # pixels that the composer may take of a phone


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def made(tmp_path: Path, upstream: Upstream) -> Iterator[tuple[str, Service]]:
    with chat(file_of(tmp_path), upstream) as both:
        yield both


def entered(browser: Any, made: tuple[str, Service], size: str) -> Any:
    """A new person's page."""
    page = open_page(browser, size, [])
    with writing(made[1].database) as c:
        token = invite(c, "member")
    page.goto(f"{made[0]}/join/{token}")
    page.fill("#name", f"ann {size}")
    page.click("text=Join")
    page.click("text=I have saved it")
    return page


def talked(page: Any, text: str) -> None:
    page.fill("#text", text)
    page.click("#composer button:has-text('Send')")
    page.wait_for_selector(f".said.user >> text={text}")
    page.wait_for_selector("[data-state=running]", state="detached")


def test_an_edit_takes_the_bubble_s_place_and_gives_it_back(browser: Any, made: tuple[str, Service]) -> None:
    page = entered(browser, made, "desktop")
    talked(page, "Hello")
    question = page.locator(".said.user")
    page.locator(".said.user a >> text=Edit").click()
    field = page.locator(".edit textarea")
    field.wait_for()
    row = [page.locator(f".edit >> text={name}").bounding_box() for name in ("Save", "Cancel")]
    assert abs(row[0]["y"] - row[1]["y"]) < 8
    assert field.bounding_box()["width"] > 0.95 * question.bounding_box()["width"]
    assert question.locator(".text, .acts").count() == 0
    low = field.bounding_box()["height"]
    page.keyboard.type(" one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert field.bounding_box()["height"] > low and field.input_value() == "Hello one\n\ntwo"
    field.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
    assert field.count() == 1  # Enter within a word of an input method sends nothing
    page.click(".edit >> text=Cancel")
    page.wait_for_selector(".said.user a:focus >> text=Edit")
    assert question.locator(".text").text_content() == "Hello"
    page.keyboard.press("Enter")
    page.wait_for_selector(".edit textarea:focus")
    page.keyboard.type(" again")
    page.keyboard.press("Enter")
    page.wait_for_selector(".said.user >> text=Hello again")
    page.wait_for_selector("text=2 of 2")


def test_two_tabs_that_edit_one_message_lose_nothing(browser: Any, made: tuple[str, Service]) -> None:
    page = entered(browser, made, "desktop")
    talked(page, "Hello")
    other = page.context.new_page()
    other.goto(page.url)
    for tab, text in ((page, "From here"), (other, "From there")):
        tab.locator(".said.user a >> text=Edit").click()
        tab.fill(".edit textarea", text)
    for tab, text in ((page, "From here"), (other, "From there")):
        tab.click(".edit >> text=Save")
        tab.wait_for_selector(f".said.user >> text={text}")
    other.wait_for_selector("text=3 of 3")


def test_a_phone_s_composer_is_lean_and_its_targets_are_large(
    browser: Any, made: tuple[str, Service], upstream: Upstream
) -> None:
    upstream.words = lambda _: LONG + "\n\n```python\n" + "x = 1  # " + "long " * 60 + "\n```\n"
    page = entered(browser, made, "phone")
    talked(page, "Hello")
    assert page.locator("#composer").bounding_box()["height"] < LEANEST
    targets = page.locator(
        ".acts button, .acts a, #composer button, #composer select, .bar button, .bar a.quiet-button"
    )
    low = [
        (one.inner_text(), one.bounding_box()["height"])
        for one in targets.all()
        if one.is_visible() and one.bounding_box()["height"] < LEAST_TARGET
    ]
    assert low == []
    code = page.locator(".code pre")
    assert code.evaluate("pre => pre.scrollWidth > pre.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_chat_opens_at_its_last_message(browser: Any, made: tuple[str, Service], upstream: Upstream) -> None:
    upstream.words = lambda _: LONG
    page = entered(browser, made, "phone")
    for text in ("One", "Two", "Three"):
        talked(page, text)
    page.goto(made[0])
    page.goto(page.evaluate("document.querySelector('.chats a').href.replace(/#.*/, '')"))
    until(lambda: page.evaluate("scrollY") > 1000)
    assert page.evaluate("document.querySelector('.said:last-child').getBoundingClientRect().top < innerHeight")


def test_the_model_is_switched_beside_send_and_holds_for_another_try(
    browser: Any, made: tuple[str, Service], upstream: Upstream
) -> None:
    page = entered(browser, made, "desktop")
    talked(page, "Hello")
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.select_option("#model", "large")
    page.wait_for_selector("#spoken >> text=large writes the next replies.")
    page.click(".said.assistant button:has-text('Try again')")
    page.wait_for_selector("text=2 of 2")
    page.wait_for_selector(".said.assistant [data-by] >> text=large")
    assert upstream.bodies[-1]["model"] == "large"


def test_settings_and_edits_work_without_scripts(browser: Any, made: tuple[str, Service]) -> None:
    page = open_page(browser, "desktop", [], scripts=False)
    ann = Person(*made, "ann")
    sent = ann.begin("Hello")
    ann.finished(sent["reply"])
    page.goto(f"{made[0]}/enter")
    page.fill("#key", ann.key)
    page.keyboard.press("Enter")
    page.wait_for_selector(".hello")
    page.goto(f"{made[0]}/c/{sent['chat']}")
    page.click("summary:has-text('This chat')")
    page.fill("#instructions", "Be brief.")
    page.fill("#temperature", "0.5")
    page.click("text=Save for the next replies")
    page.click("summary:has-text('This chat')")
    assert page.locator("#instructions").input_value() == "Be brief."
    page.click("summary:has-text('This chat')")
    page.locator(".said.user a >> text=Edit").click()
    page.click(".edit >> text=Cancel")
    page.wait_for_selector("#composer")
    page.locator(".said.user a >> text=Edit").click()
    page.fill(".edit textarea", "Goodbye")
    page.click(".edit >> text=Save")
    page.wait_for_selector(".said.user >> text=Goodbye")
