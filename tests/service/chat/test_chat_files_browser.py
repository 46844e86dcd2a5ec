"""Files of the chat in a real browser: chosen, dropped and pasted ones, their progress, waiting, removing, quotations;
by the keyboard alone, on narrow screens, without scripts, and by axe's rules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from company import Upstream, chat, file_of
from test_chat_browser import entered

from browsers import faults, open_browser
from charter.ground.documents.document import Document, Limits, Unreadable
from charter_service.chat.attached import Allowance
from charter_service.chat.service import Config, Service

TEXT = "The river rose by four metres.\nNobody was hurt in that night.\n"
STARTS = (0, 31)
QUOTING = "First a word.\n\nIt says “Nobody was hurt in that night”.\n\nAnd “nothing of the kind stands here”."


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def gate() -> threading.Event:
    """While it isn't set, files whose name begins with `slow` aren't read."""
    return threading.Event()


@pytest.fixture
def served_chat(tmp_path: Path, gate: threading.Event) -> Iterator[tuple[str, Service]]:
    upstream = Upstream()
    upstream.words = lambda _: QUOTING
    config = Config(allowance=Allowance(3, 10_000, 100_000))
    with chat(file_of(tmp_path), upstream, config) as (home, service):

        def read(data: bytes, name: str, limits: Limits) -> Document:
            if name.startswith("slow"):
                gate.wait(20)
            if name.startswith("bad"):
                raise Unreadable("This PDF holds pictures of pages; no text could be read.")
            text = TEXT if len(data) < 5000 else "w " * 3000
            return Document(name, "pdf", len(data), "x", text, STARTS)

        service.files.read = read
        yield home, service
        gate.set()


def upload(name: str, data: bytes = b"%PDF") -> dict[str, Any]:
    return {"name": name, "mimeType": "application/pdf", "buffer": data}


def choose(page: Any, *files: dict[str, Any]) -> None:
    page.set_input_files("#files", list(files))


def test_files_are_sent_at_once_counted_and_quoted(browser: Any, served_chat: Any) -> None:
    page, complaints = entered(browser, served_chat)
    page.click("summary >> text=Attach files")
    choose(page, upload("report.pdf"))
    page.wait_for_selector("[data-state=ready] >> text=report.pdf")
    page.wait_for_selector("[data-counted]:has-text('of the window')")
    page.wait_for_selector(".file .note:has-text('tokens')")
    before = page.locator("[data-counted]").inner_text()
    page.reload()
    page.wait_for_selector("[data-state=ready] >> text=report.pdf")
    page.fill("#text", "What does it say about the night?")
    page.wait_for_function(
        "before => !document.querySelector('[data-counted]').textContent.includes(before)", arg=before
    )
    page.keyboard.press("Enter")
    page.wait_for_selector(".said.assistant[data-state=done]")
    assert page.locator(".said.user .file a").text_content() == "report.pdf"
    assert page.locator("#composer .file").count() == 0
    assert page.locator(".said.assistant a.quoted").count() == 1
    page.click("a.quoted")
    page.wait_for_selector("mark#passage")
    assert page.locator("mark").inner_text() == "Nobody was hurt in that night"
    assert "is on page 2" in page.content() and page.url.endswith("#passage")
    assert complaints == []


def test_send_waits_and_says_for_which_file(browser: Any, served_chat: Any, gate: threading.Event) -> None:
    page, _ = entered(browser, served_chat)
    page.click("summary >> text=Attach files")
    choose(page, upload("slow.pdf"))
    page.wait_for_selector("#composer .file >> text=slow.pdf")
    page.fill("#text", "And now?")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-counted]:has-text('as soon as slow.pdf can be read')")
    assert page.locator("#spoken:has-text('slow.pdf')").count() == 1
    gate.set()
    page.wait_for_selector(".said.assistant[data-state=done]")
    assert page.locator(".said.user .file a").text_content() == "slow.pdf"


def test_what_is_refused_is_said_beside_the_field(browser: Any, served_chat: Any) -> None:
    page, _ = entered(browser, served_chat)
    page.click("summary >> text=Attach files")
    choose(page, upload("large.pdf", b"x" * 10_001))
    page.wait_for_selector("[data-problem]:has-text('Large.pdf is larger than 9.8 kB')")
    choose(page, upload("bad.pdf"))
    page.wait_for_selector(".file[data-state=refused]:has-text('holds pictures of pages')")
    page.click("#composer .file >> text=Remove")
    page.wait_for_selector("#composer .file", state="detached")
    choose(page, *(upload(f"{n}.pdf", f"{n}".encode()) for n in range(4)))
    page.wait_for_selector("[data-problem]:has-text('at most 3 files')")
    page.wait_for_selector(".file[data-state=ready] >> nth=2")
    page.click("#composer .file >> nth=0 >> text=Remove")
    page.wait_for_selector("#composer .file >> nth=2", state="detached")
    choose(page, upload("long.pdf", b"x" * 6000))
    page.wait_for_selector("[data-problem]:has-text('remove long.pdf')")
    page.fill("#text", "too long")
    page.wait_for_selector("[data-problem]:has-text('remove long.pdf')")
    assert page.locator(".said").count() == 0


def test_dropped_and_pasted_files_arrive(browser: Any, served_chat: Any) -> None:
    page, _ = entered(browser, served_chat)
    page.wait_for_selector("[data-attach]", state="hidden")
    give = """([name, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File(["%PDF"], name, { type: "application/pdf" }));
        const options = { bubbles: true, cancelable: true };
        const event = kind === "drop"
            ? new DragEvent("drop", { ...options, dataTransfer: data })
            : new ClipboardEvent("paste", { ...options, clipboardData: data });
        document.querySelector("#text").dispatchEvent(event);
    }"""
    page.evaluate(give, ["dropped.pdf", "drop"])
    page.wait_for_selector("[data-state=ready] >> text=dropped.pdf")
    page.evaluate(give, ["pasted.pdf", "paste"])
    page.wait_for_selector("[data-state=ready] >> text=pasted.pdf")


def test_by_the_keyboard_alone(browser: Any, served_chat: Any) -> None:
    page, _ = entered(browser, served_chat)
    page.focus("summary:has-text('Attach files')")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.wait_for_selector("#files:focus")
    choose(page, upload("report.pdf"))  # the dialog is the browser's own
    page.wait_for_selector("[data-state=ready] >> text=report.pdf")
    page.focus("#composer .file button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#composer .file", state="detached")
    page.wait_for_selector("summary:focus:has-text('Attach files')")


def test_without_scripts(browser: Any, served_chat: Any) -> None:
    page, _ = entered(browser, served_chat, scripts=False)
    page.locator("summary >> text=Attach files").click()
    choose(page, upload("report.pdf"))
    page.click("[data-attach]")
    page.wait_for_selector("#composer .file[data-state=ready] >> text=report.pdf")
    page.wait_for_selector("[data-counted]:has-text('of the window')")
    page.click("#composer .file button")
    page.wait_for_selector("#composer .file", state="detached")
    page.fill("#text", "What is it?")
    page.locator("summary >> text=Attach files").click()
    choose(page, upload("report.pdf"))
    page.click("#composer button >> text=Send")
    page.wait_for_selector(".said.assistant[data-state=done]")
    assert page.locator(".said.user .file a").text_content() == "report.pdf"
    assert page.locator("a.quoted").count() == 1


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (320, "light")])
def test_no_rule_is_broken(browser: Any, served_chat: Any, gate: threading.Event, width: int, scheme: str) -> None:
    page, _ = entered(browser, served_chat)
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    broken = list[str]()

    def look(state: str) -> None:
        broken.extend(faults(page, state))

    page.click("summary >> text=Attach files")
    look("attach")
    name = "a-very-long-name-" * 10
    choose(page, upload(f"{name}.pdf"), upload("bad.pdf", b"bad"), upload("slow.pdf", b"slow"))
    page.wait_for_selector(".file[data-state=refused]")
    page.wait_for_selector("#composer .file >> nth=2")
    page.wait_for_selector("#composer .file:has-text('is being read')")
    look("draft")
    gate.set()
    page.wait_for_selector(".file[data-state=ready]:has-text('slow.pdf')")
    page.click("#composer .file:has-text('bad.pdf') button")
    page.wait_for_selector("#composer .file[data-state=refused]", state="detached")
    page.fill("#text", "What is it?")
    page.click("#composer button >> text=Send")
    page.wait_for_selector(".said.assistant[data-state=done]")
    look("sent")
    page.click("a.quoted")
    page.wait_for_selector("mark#passage")
    look("text")
    assert broken == []
