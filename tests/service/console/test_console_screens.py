"""The screens of requests, usage, feedback, policy, workbench and evaluations by axe's rules (WCAG 2.2 A and AA), wide
and narrow, light and dark; the workbench streams in a browser, and works without a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import Hall, Said, configuration, open_hall, watching
from test_admin_pages import ask
from test_console_runs import make_run

from browsers import LONGEST_WAIT, faults, open_browser
from charter_service.accounts.evaluations import NewEvaluation, begin, end
from charter_service.web.database import writing

SCREENS = (
    "requests",
    "requests?request=none",
    "requests?slower=99999",
    "usage",
    "usage?since=2001-01-01&until=2001-01-02",
    "feedback",
    "feedback?since=2001-01-01&until=2001-01-02",
    "policy",
    "policy/draft",
    "policy/versions",
    "workbench",
    "files",
    "tools",
    "tools?since=2001-01-01&until=2001-01-02",
    "runs",
    "runs/one",
    "runs/one?require=arc",
    "runs/compare?a=one&b=two",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    folder: Path = tmp_path_factory.mktemp("hall")
    for name in ("one", "two"):
        make_run(folder / "runs", name)
    config = configuration(policy={"state": "on", "keep_content": True}, runs="runs")
    config = config.model_copy(update={"runs": str(folder / "runs")})
    with open_hall(folder, config, watching("poison"), said=Said("Hello", " there")) as opened:
        key = opened.key("acme")
        for words in ("hello", "poison"):
            body = {"request_id": ask(opened, key, words), "thumb": "down", "words": "It was <b>wrong</b>."}
            httpx.post(f"{opened.url}/v1/feedback", json=body, headers={"x-api-key": key})
        with writing(opened.service.database) as connection:
            one = begin(connection, NewEvaluation("toy-2", "", 5, "Ms Ear"), "one")
            end(connection, one.id, "stopped")
        yield opened


def enter(hall: Hall, page: Any) -> None:
    page.goto(f"{hall.url}/admin/enter")
    page.fill("#key", hall.key("house", ("admin",)))
    page.click("main button:has-text('Sign in')")
    page.wait_for_selector("h1:has-text('Overview')")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_new_screens_break_no_rule(browser: Any, hall: Hall, width: int, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(LONGEST_WAIT)
    page, broken = context.new_page(), list[str]()

    def look(state: str) -> None:
        broken.extend(faults(page, state))

    enter(hall, page)
    for screen in SCREENS:
        page.goto(f"{hall.url}/admin/{screen}", timeout=3 * LONGEST_WAIT)  # a gate starts the command line
        assert page.locator("h1").count() == 1, screen
        look(screen)
    page.goto(f"{hall.url}/admin/policy/draft")
    page.fill("#texts", "poison")
    page.click("button:has-text('Check and try')")
    page.wait_for_selector("h2:has-text('The last week')")
    look("draft tried")
    page.fill("#text", "name: x")
    page.click("button:has-text('Check and try')")
    page.wait_for_selector("[role=alert]")
    look("draft refused")
    page.goto(f"{hall.url}/admin/workbench")
    page.fill("#turn1", "tea")
    page.click("button:has-text('Get code')")
    page.wait_for_selector("h2:has-text('Code')")
    look("code")
    page.goto(f"{hall.url}/admin/runs")
    page.click("table >> text=one")
    page.wait_for_selector("button:has-text('Resume')")
    look("evaluation")
    context.close()
    assert broken == []


def test_the_workbench_shows_answers_while_they_are_written(browser: Any, hall: Hall) -> None:
    said: Any = hall.service.registry.served[0].backend
    context = browser.new_context()
    context.set_default_timeout(LONGEST_WAIT)
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    enter(hall, page)
    page.goto(f"{hall.url}/admin/workbench")
    page.fill("#turn1", "tea <b>please</b>")
    page.select_option("#other", "toy-1")
    said.gate.clear()
    page.click("button:has-text('Run')")
    page.wait_for_selector("#answers[aria-busy=true] article:nth-child(2)")
    assert page.locator(".said").all_inner_texts() == ["", ""]
    said.gate.set()
    page.wait_for_selector("article:nth-child(2) .note")
    page.wait_for_selector("#answers:not([aria-busy])")
    assert page.locator(".said").all_inner_texts() == ["Hello there", "Hello there"]
    assert page.url.endswith("/workbench") and complaints == []
    page.click("button:has-text('Run')")  # with the proof that came with the answer
    page.wait_for_selector("article:nth-child(2) .note")
    page.fill("#temperature", "9")
    page.click("button:has-text('Run')")
    page.wait_for_selector("text=temperature")
    context.close()


def test_the_screens_work_without_a_script(browser: Any, hall: Hall) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(LONGEST_WAIT)
    page = context.new_page()
    enter(hall, page)
    page.goto(f"{hall.url}/admin/workbench")
    page.fill("#turn1", "tea")
    page.click("button:has-text('Add a turn')")
    page.fill("#turn2", "with milk?")
    page.fill("#turn3", "no")
    page.click("button:has-text('Run')")
    page.wait_for_selector(".said:has-text('Hello there')")
    page.click("text=Its request")
    page.wait_for_selector("td:has-text('workbench')")
    page.goto(f"{hall.url}/admin/policy/draft")
    page.fill("#texts", "poison")
    page.click("button:has-text('Check and try')")
    page.wait_for_selector("h2:has-text('The last week')")
    context.close()
