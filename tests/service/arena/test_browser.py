"""The pages in a browser, as people use them: by mouse, by keyboard alone, on a desktop and on a phone, and without
scripts. No page may scroll sideways, and the browser may have nothing to complain about."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from hall import SECRET, Hall, configuration, open_hall

from browsers import SIZES, open_browser, open_page
from charter_service.arena.app import make_app
from charter_service.people.tables import CONVERSATIONS, PEOPLE, REVIEWS, TURNS, VOTES
from charter_service.people.workers import invite
from charter_service.web.database import writing
from charter_service.web.listening import listen
from quick_server import QuickServer

LETTER = (
    "Of course.\n\nDear Ms Weaver,\n\nthank you for the quick repair. "
    + "The heating still stays cold in the mornings. " * 5
)
REPLIES = [LETTER, "You could write to her.", "a" * 120 + " " + "https://example.org/" + "x" * 200]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as found:
        yield found


@dataclass
class Street:
    """A served hall, and the browsers that visit it."""

    hall: Hall
    address: str
    browser: Any
    complaints: list[str] = field(default_factory=list)
    pages: list[Any] = field(default_factory=list)

    def visitor(self, size: str, scripts: bool = True) -> Any:
        """A new browser with nobody in it."""
        page = open_page(self.browser, size, self.complaints, scripts)
        self.pages.append(page)
        return page

    def joins(self, page: Any, name: str, role: str = "worker") -> None:
        """Somebody opens an invitation's link, and keeps the key."""
        with writing(self.hall.service.database) as connection:
            token = invite(connection, role)
        page.goto(f"{self.address}/join/{token}")
        self.fits(page)
        page.get_by_label("What shall we call you?").fill(name)
        page.get_by_role("button", name="Join").click()
        assert re.fullmatch(r"[\w-]{43}", page.locator("#key").inner_text())
        self.fits(page)
        page.get_by_role("link", name="I have saved it").click()
        page.wait_for_url(f"{self.address}/")
        self.fits(page)

    def fits(self, page: Any) -> None:
        """No page is wider than its window, names a model, or has two headings of the first rank."""
        page.wait_for_load_state()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url
        assert SECRET not in page.content() or page.url.endswith("/admin")
        assert page.locator("h1").count() == 1 and page.locator("main").count() == 1


@pytest.fixture
def street(tmp_path: Path, browser: Any) -> Iterator[Street]:
    config = configuration(contact="Ms Ear, room 12", goals={"helpful": 10})
    with open_hall(tmp_path, config) as hall:
        for model in hall.models.values():
            model.words = lambda messages, seed: REPLIES[seed % 3]
        bound = listen("127.0.0.1", 0)
        server = QuickServer(uvicorn.Config(make_app(hall.service), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        until(lambda: server.started)
        found = Street(hall, f"http://127.0.0.1:{bound.getsockname()[1]}", browser)
        try:
            yield found
        finally:
            for page in found.pages:
                page.context.close()
            server.should_exit = True
            thread.join(20)
            bound.close()
        assert found.complaints == []


def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came true")


def agree(street: Street, page: Any, task: str) -> None:
    page.locator(".tasks li", has_text=task).get_by_role("link").click()
    street.fits(page)
    page.get_by_role("button", name="I have read this and want to take part").click()
    street.fits(page)


def ask(street: Street, page: Any, text: str) -> None:
    page.locator("#text").fill(text)
    page.locator("#ask").get_by_role("button", name="Send").click()
    page.locator("#vote").wait_for()
    street.fits(page)


@pytest.mark.parametrize("size", SIZES)
def test_a_helpful_conversation_by_mouse(street: Street, size: str) -> None:
    page = street.visitor(size)
    street.joins(page, "ann")
    agree(street, page, "Helpful conversations")
    page.get_by_role("button", name="Begin").click()
    instructions = page.locator("#how")
    instructions.wait_for()  # they pop up the first time
    assert "more helpful and honest" in instructions.inner_text()
    instructions.get_by_role("button", name="Close").click()
    assert not instructions.is_visible()
    for model in street.hall.models.values():
        model.held = []
    page.locator("#text").fill("Please help me to write a letter.")
    page.locator("#ask").get_by_role("button", name="Send").click()
    page.get_by_role("status").wait_for()
    street.fits(page)
    assert "Two replies are being written" in page.get_by_role("status").inner_text()
    until(lambda: all(model.held for model in street.hall.models.values()))
    for model in street.hall.models.values():
        held, model.held = model.held or [], None
        for answer in held:
            answer()
    page.locator("#vote").wait_for()
    street.fits(page)
    left, right = page.locator("#reply-a").bounding_box(), page.locator("#reply-b").bounding_box()
    assert (left["y"] == right["y"]) == (size == "desktop")
    boxes = [page.locator(".points label").nth(i).bounding_box() for i in range(8)]
    assert all(box["width"] >= 34 and box["height"] >= 44 for box in boxes)
    page.locator(".points label").nth(7).click()
    assert page.locator("#said").inner_text() == "B is much better"
    page.get_by_text("Edit the reply that you choose").click()
    assert page.locator("#edited").input_value() == page.locator("#reply-b .text").text_content()
    page.locator(".points label").nth(1).click()
    assert page.locator("#edited").input_value() == page.locator("#reply-a .text").text_content()
    page.locator("#edited").fill("As I would say it.")
    street.fits(page)
    page.locator("#vote").get_by_role("button", name="Send").click()
    page.locator("#ask").wait_for()
    assert "As I would say it." in page.content() and "Turn 2 of 4" in page.content()
    ask(street, page, "And in a shorter form?")
    page.locator(".neither label").first.click()
    assert page.locator("#edited").is_disabled()
    page.locator("#vote").get_by_role("button", name="Send").click()
    page.get_by_role("button", name="Finish the conversation").click()
    page.get_by_text("Thank you. That helps.").wait_for()
    street.fits(page)
    first, second = street.hall.rows(VOTES)
    assert (first.strength, first.edited, second.outcome) == (3, "As I would say it.", "tie")


def test_only_what_was_written_is_given_back(street: Street) -> None:
    page = street.visitor("desktop")
    street.joins(page, "dan")
    agree(street, page, "Helpful conversations")
    page.get_by_role("button", name="Begin").click()
    page.locator("#how").get_by_role("button", name="Close").click()
    ask(street, page, "hello")
    (turn,) = street.hall.rows(TURNS)
    for words, shown in (("", 0), ("My own words.", 1)):
        with page.expect_request(f"**/turn/{turn.id}/vote") as sent:
            page.evaluate("document.querySelector('#vote [name=nonce]').value = 'none of ours'")
            page.locator(".points label").first.click()
            if words:
                page.get_by_text("Edit the reply that you choose").click()
                page.locator("#edited").fill(words)
            page.locator("#vote").get_by_role("button", name="Send").click()
        page.get_by_role("heading", name="Sorry").wait_for()
        assert ("edited=" in (sent.value.post_data or "")) == bool(words)
        assert page.get_by_text("Your text, so that").count() == shown
        page.go_back()
        page.reload()
    street.complaints[:] = [said for said in street.complaints if "403" not in said]


def tab_to(page: Any, words: str) -> None:
    """Presses Tab until the element with these words has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if words in page.evaluate("document.activeElement.innerText || document.activeElement.id || ''"):
            return
    raise AssertionError(f"Tab never comes to {words}")


def test_an_honest_conversation_by_keyboard_alone(street: Street) -> None:
    page = street.visitor("desktop")
    street.joins(page, "bo")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(2):
        tab_to(page, "Read about it")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Honest answers").wait_for()
    tab_to(page, "I have read this")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Begin").wait_for()
    tab_to(page, "Begin")
    page.keyboard.press("Enter")
    page.locator("#how").wait_for()
    page.keyboard.press("Escape")
    page.locator("#text").focus()
    page.keyboard.type("How many legs has a spider?")
    page.keyboard.press("Control+Enter")
    page.locator("#vote").wait_for()
    for key, words in (
        ("1", "A is much better"),
        ("5", "B is barely better"),
        ("b", "B is barely better"),
        ("a", "B is barely better"),
        ("n", "Both are bad"),
        ("t", "Equally good"),
        ("7", "B is clearly better"),
    ):
        page.keyboard.press(key)
        assert page.locator("#said").inner_text() == words
    page.keyboard.press("ArrowLeft")
    assert page.locator("#said").inner_text() == "B is somewhat better"
    page.keyboard.press("Enter")
    page.locator("#ask").wait_for()
    (vote,) = street.hall.rows(VOTES)
    assert vote.strength == 2
    tab_to(page, "Finish the conversation")
    page.keyboard.press("Enter")
    page.get_by_text("Thank you. That helps.").wait_for()


@pytest.mark.parametrize("size", SIZES)
def test_a_red_team_attempt(street: Street, size: str) -> None:
    page = street.visitor(size)
    street.joins(page, "cat")
    agree(street, page, "Red teaming")
    assert "Ms Ear, room 12" in page.content()
    page.get_by_label("Your plan").fill("Pretend to write a play about a prank.")
    page.get_by_role("button", name="Begin").click()
    page.locator("#how").get_by_role("button", name="Close").click()
    ask(street, page, "Write a scene in which somebody plays a prank.")
    replies = page.locator(".pair .text")
    assert not replies.nth(0).is_visible() and not replies.nth(1).is_visible()
    page.get_by_text("Show reply A").click()
    assert replies.nth(0).is_visible() and not replies.nth(1).is_visible()
    page.keyboard.press("s")
    assert replies.nth(0).is_visible() and replies.nth(1).is_visible()
    page.keyboard.press("s")
    assert not replies.nth(0).is_visible() and not replies.nth(1).is_visible()
    street.fits(page)
    page.locator(".points label").first.click()
    assert page.locator("#said").inner_text() == "A is much more harmful"
    page.locator("#vote").get_by_role("button", name="Send").click()
    assert not page.locator(".talk .theirs .text").is_visible()
    ask(street, page, "Make it ruder.")
    page.locator(".neither label").nth(1).click()
    page.locator("#vote").get_by_role("button", name="Send").click()
    page.get_by_text("How far did the attempt succeed?").wait_for()
    street.fits(page)
    drop = page.get_by_role("button", name="Drop them and skip")
    assert not drop.is_visible()
    page.locator(".drop summary").click()
    assert drop.is_visible() and page.get_by_text("Skip: drops your 2 choices here").is_visible()
    street.fits(page)
    page.locator(".drop summary").click()
    page.locator("label", has=page.locator("input[name=rating][value='2']")).click()
    page.locator("label", has=page.locator("input[name=feeling][value='4']")).click()
    page.get_by_role("button", name="Finish").click()
    page.get_by_text("Thank you. That helps.").wait_for()
    assert "Ms Ear, room 12" in page.content()
    street.fits(page)
    page.get_by_role("link", name="Another attempt").click()
    page.get_by_label("Your plan").fill("Another plan.")
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("button", name="Skip").click()
    page.get_by_text("Skipped. Nothing of it counts.").wait_for()
    first, second = street.hall.rows(CONVERSATIONS)
    assert (first.rating, first.feeling, second.state) == (2, 4, "skipped")


@pytest.mark.parametrize("size", SIZES)
def test_reviews(street: Street, size: str) -> None:
    attacker = street.hall.person("attacker")
    for number in range(2):
        talk = attacker.begin("harmless", "a plan")
        attacker.vote(talk, attacker.ask(talk, f"be rude, number {number}"), "3")
        attacker.post(f"{talk}/finish", rating=1)
    page = street.visitor(size)
    street.joins(page, "rita", "reviewer")
    page.get_by_role("link", name="Review", exact=True).last.click()
    street.fits(page)
    page.get_by_role("button", name="I have read this").click()
    text = page.locator(".talk .judged .text")
    assert not text.is_visible()
    page.get_by_text("Show the conversation").click()
    assert text.is_visible() and "be rude" in page.locator(".talk").inner_text()
    page.keyboard.press("s")
    assert not text.is_visible()
    page.keyboard.press("3")
    page.locator("input[name=intent][value='2']").check(force=True)
    page.get_by_text("In what way? Up to two tags").click()
    street.fits(page)
    for tag in ("theft", "weapons"):
        page.get_by_label(tag, exact=True).check(force=True)
    assert page.get_by_label("other", exact=True).is_disabled()
    page.get_by_text("Add a note").click()
    page.locator("#note").fill("a short note")
    page.locator("#verdict").get_by_role("button", name="Send").click()
    page.get_by_text("0 more waiting").wait_for()
    page.get_by_role("button", name="Skip").click()
    page.get_by_text("Nothing is waiting for you").wait_for()
    street.fits(page)
    done = {row.state: row for row in street.hall.rows(REVIEWS)}
    assert done["done"].rating == 3 and done["done"].note == "a short note" and "weapons" in done["done"].tags
    assert done["skipped"].rating is None


@pytest.mark.parametrize("size", SIZES)
def test_my_page(street: Street, size: str) -> None:
    page = street.visitor(size)
    street.joins(page, "dora")
    page.get_by_role("link", name="My data").click()
    street.fits(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download everything").click()
    assert '"dora"' in Path(download.value.path()).read_text()
    page.get_by_role("button", name="Delete everything about me").click()
    assert page.url.endswith("/me")  # the browser asks for the tick first
    page.get_by_label("I am sure").check()
    page.get_by_role("button", name="Delete everything about me").click()
    page.get_by_text("is deleted").wait_for()
    street.fits(page)
    assert street.hall.rows(PEOPLE) == []


@pytest.mark.parametrize("size", SIZES)
def test_the_page_of_the_collection(street: Street, size: str) -> None:
    for name in ("ann", "a person with a rather long name of forty"[:40]):
        guest = street.hall.person(name)
        for number, choice in enumerate(("-4", "3", "2", "-3"), 1):
            talk = guest.begin()
            guest.vote(talk, guest.ask(talk, f"question {number} of {name}"), choice)
            guest.post(f"{talk}/finish")
    page = street.visitor(size)
    street.joins(page, "boss", "admin")
    page.get_by_role("link", name="Collection", exact=True).click()
    street.fits(page)
    assert f"{SECRET}-start" in page.content() and "of 10" in page.locator("main").inner_text()
    page.locator(".people tr", has_text="ann").locator(".menu summary").click()
    street.fits(page)
    page.get_by_role("button", name="Disable").click()
    page.get_by_text("worker, disabled").wait_for()
    page.get_by_label("People", exact=True).last.fill("2")
    page.get_by_role("button", name="Create links").click()
    assert len(re.findall(r"/join/[\w-]{43}", page.locator("#links").inner_text())) == 2
    street.fits(page)


def test_everything_works_without_scripts(street: Street) -> None:
    page = street.visitor("desktop", scripts=False)
    street.joins(page, "eve")
    page.locator(".tasks li", has_text="Helpful").get_by_role("link").click()
    page.get_by_role("button", name="I have read this").click()
    page.get_by_role("button", name="Begin").click()
    page.locator("#text").fill("hello")
    page.locator("#ask").get_by_role("button", name="Send").click()
    page.locator("#vote").wait_for()  # by the page's own refresh
    page.get_by_role("button", name="Instructions").click()
    assert page.locator("#how").is_visible()
    page.locator("#how").get_by_role("button", name="Close").click()
    page.locator(".points label").nth(3).click()
    page.locator("#vote").get_by_role("button", name="Send").click()
    page.locator("#ask").wait_for()
    (vote,) = street.hall.rows(VOTES)
    assert vote.strength == 1 and vote.edited is None
    assert page.get_by_text("Skip ends here and drops it").is_visible()
    page.locator(".drop summary").click()
    page.get_by_role("button", name="Drop it and skip").click()
    page.get_by_text("Skipped. Nothing of it counts.").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_text("Sign in again with your key").wait_for()
