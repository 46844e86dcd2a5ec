"""The admin pages of persons, organisations, limits and the audit log by axe's rules (WCAG 2.2 A and AA), and used
without a script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lobby import Hall, Said, configuration, open_hall

from browsers import LONGEST_WAIT, faults, open_browser
from charter_service.people import workers
from charter_service.web.database import writing

SCREENS = ("organisations", "keys", "limits", "members", "people", "audit", "audit?log=people", "audit?verify=yes")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall"), configuration(), said=Said("Hello")) as opened:
        opened.key("acme")
        yield opened


def owner_of(hall: Hall, name: str) -> str:
    """The personal key of a new owner."""
    with writing(hall.service.people.engine()) as c:
        return workers.join(c, workers.invite(c, "admin", console="owner"), name)[1]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_no_rule_is_broken(browser: Any, hall: Hall, width: int, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(LONGEST_WAIT)
    page, broken = context.new_page(), list[str]()

    def look(state: str) -> None:
        broken.extend(faults(page, state))

    page.goto(f"{hall.url}/admin/enter")
    look("enter")
    page.fill("#key", owner_of(hall, f"owner {width}"))
    page.click("main button:has-text('Sign in')")
    page.wait_for_selector("h1:has-text('Overview')")
    for screen in SCREENS:
        page.goto(f"{hall.url}/admin/{screen}")
        look(screen)
    page.goto(f"{hall.url}/admin/people?name=nobody")
    look("nobody matches")
    page.goto(f"{hall.url}/admin/people")
    page.locator("summary").first.click()
    look("person opened")
    page.goto(f"{hall.url}/admin/organisations/{hall.organisations['acme']}")
    look("organisation")
    page.goto(f"{hall.url}/admin/members")
    page.click("button:has-text('Make a link')")
    page.wait_for_selector("#links")
    look("invited")
    link = page.inner_text("#links")
    page.goto(link)
    look("join")
    page.fill("#name", f"guest {width}")
    page.click("button:has-text('Join')")
    page.wait_for_selector("#secret")
    look("joined")
    page.goto(f"{hall.url}/admin/audit")
    look("refused")
    context.close()
    assert broken == []


def test_all_is_done_without_a_script(browser: Any, hall: Hall) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(LONGEST_WAIT)
    page = context.new_page()
    page.goto(f"{hall.url}/admin/enter")
    page.fill("#key", owner_of(hall, "olga"))
    page.click("main button:has-text('Sign in')")
    page.goto(f"{hall.url}/admin/organisations")
    page.fill("#name", "plain ones")
    page.click("button:has-text('Create it')")
    page.fill("#monthly_tokens", "1000")
    page.click("button:has-text('Set limits')")
    page.wait_for_selector("text=of 1 000")
    page.click("button:has-text('Suspend plain ones')")
    page.wait_for_selector("h1 .tag:has-text('suspended')")
    page.goto(f"{hall.url}/admin/members")
    page.select_option("#role", "reviewer")
    page.click("button:has-text('Make a link')")
    link = page.inner_text("#links")
    guest = browser.new_context(java_script_enabled=False).new_page()
    guest.goto(link)
    guest.fill("#name", "gina")
    guest.click("button:has-text('Join')")
    guest.click("text=Continue to the admin pages")
    guest.wait_for_selector("nav >> text=Queue")
    assert guest.locator("nav >> text=Members").count() == 0
    page.goto(f"{hall.url}/admin/members?name=gina")
    row = page.locator("tr", has_text="gina")
    row.locator("select").select_option("analyst")
    row.locator("button:has-text('Set')").click()
    guest.reload()
    assert guest.locator("nav >> text=Queue").count() == 0, "the role holds at once"
    page.goto(f"{hall.url}/admin/audit?log=people")
    page.wait_for_selector("td:has-text('member.role')")
    page.click("button:has-text('Sign out everywhere')")
    page.wait_for_selector("text=You have signed out")
    context.close()
    guest.context.close()
