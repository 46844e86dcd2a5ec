"""Switches of tools and replies with calls in a browser: by keyboard, without scripts, and by axe's rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from company import chat, file_of
from tooled import RESULTS, Tooled

from browsers import LONGEST_WAIT, faults, open_browser
from charter_service.people.workers import invite
from charter_service.web.database import writing


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.mark.parametrize(
    ("width", "scheme", "scripts"), [(390, "dark", True), pytest.param(1280, "light", False, marks=pytest.mark.slow)]
)
def test_switches_and_calls(browser: Any, tmp_path: Path, width: int, scheme: str, scripts: bool) -> None:
    upstream, broken = Tooled(), list[str]()
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, java_script_enabled=scripts
    )
    context.set_default_timeout(LONGEST_WAIT)
    page = context.new_page()

    def look(state: str) -> None:
        if not scripts:
            return
        broken.extend(faults(page, state))

    with chat(file_of(tmp_path), upstream) as (home, service):
        with writing(service.database) as connection:
            token = invite(connection, "member")
        page.goto(f"{home}/join/{token}")
        page.fill("#name", "ann")
        page.click("text=Join")
        page.click("text=I have saved it")
        look("new chat")
        box = page.get_by_role("checkbox", name="Search documents")
        box.focus()
        page.keyboard.press("Space")
        assert box.is_checked()
        page.fill("#text", "How tall is it?")
        page.click("#composer button")
        page.wait_for_selector(".said.assistant[data-state=done] details.call")
        assert [tool["name"] for tool in upstream.bodies[-1]["tools"]] == ["document_search"]
        look("a reply with a call")
        page.click("details.call summary")
        page.wait_for_selector("details.call[open] blockquote")
        look("an open call")
        for name in ("Ask the database", "Calculate", "Search the web"):
            page.get_by_role("button", name=name, exact=True).press("Enter")
            page.wait_for_selector(f"#tools button[aria-pressed=true]:text-is('{name}')")
        assert page.locator("#tools [aria-pressed=true]").count() == len(RESULTS)
        page.fill("#text", "And now?")
        page.click("#composer button:has-text('Send')")
        page.locator(".said[data-state=done] details.call").nth(4).wait_for()
        for summary in page.locator("details.call:not([open]) > summary").all()[::-1]:
            summary.click()
        look("all calls")
        page.evaluate("() => scrollTo(0, 0)")
        tools, composer = page.locator("#tools").bounding_box(), page.locator("#composer").bounding_box()
        assert tools["y"] > 0 and tools["y"] + tools["height"] <= composer["y"] < 844, "both are in view"
        places = page.locator(".said.assistant .acts").first.locator("> form, > a, > button").all()
        tops = [box["y"] for place in places if place.is_visible() and (box := place.bounding_box())]
        assert len(tops) >= 4 and max(tops) - min(tops) < 10, "buttons of a reply stand in one row"
        page.get_by_role("button", name="Calculate", exact=True).press("Enter")
        page.wait_for_selector("#tools button[aria-pressed=false]:text-is('Calculate')")
        look("switched off")
        context.close()
    assert broken == []
