"""A browser for tests of pages: Chromium without a window, in the sizes of a desktop and of a phone. A module that imports
this one is skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: no browser to try the pages in"
)

CHROMIUM = (
    os.environ.get("CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)
if not CHROMIUM or not Path(CHROMIUM).exists():
    pytest.skip("no chromium is found: apt-get install chromium, or set CHROMIUM", allow_module_level=True)

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}  # of axe
LONGEST_WAIT = 20_000  # milliseconds, for whatever a test waits for in a page


@contextmanager
def open_browser() -> Iterator[Any]:
    """A browser for as long as the context lasts."""
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


def open_page(browser: Any, size: str, complaints: list[str], scripts: bool = True) -> Any:
    """A page of a new visitor, whom nobody knows. What the browser complains of joins `complaints`."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, java_script_enabled=scripts, has_touch=size == "phone"
    )
    context.set_default_timeout(LONGEST_WAIT)
    page = context.new_page()

    def heard(said: Any) -> None:
        if said.type in ("error", "warning") or "Content Security Policy" in said.text:
            complaints.append(said.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page


def rules_broken(page: Any) -> dict[str, list[str]]:
    """The rules of axe (WCAG 2.2 A and AA) that a page breaks, with the elements that break them."""
    from axe_playwright_python.sync_playwright import Axe

    page.wait_for_load_state()
    page.evaluate("scrollTo(0, 0)")  # what is half below a bar has half its size
    try:
        found = Axe().run(page, "html", RULES)
    except playwright.Error:  # another page took this one's place meanwhile
        page.wait_for_load_state()
        found = Axe().run(page, "html", RULES)
    return {one["id"]: [node["html"][:120] for node in one["nodes"]] for one in found.response["violations"]}


def faults(page: Any, state: str) -> list[str]:
    """The rules that a page breaks, and whether it is wider than its window; each with the state that it is in."""
    found = [f"{state}: {rule}: {nodes}" for rule, nodes in rules_broken(page).items()]
    if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
        found.append(f"{state} is too wide")
    return found
