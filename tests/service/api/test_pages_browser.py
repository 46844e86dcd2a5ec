"""The pages in a browser, as people use them: a key is made and used, usage appears, a flag goes through the queue, an
account appeals and is restored. No page scrolls sideways, and the browser has nothing to complain about."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, configuration, open_hall, watching

from browsers import open_browser, open_page
from charter.ground.moderation.policy import shipped_policy
from charter_service.accounts.decisions import user_mark
from charter_service.accounts.standings import account_of
from charter_service.web.tokens import digest_of

SHOTS = os.environ.get("CHARTER_SHOTS")  # a folder for pictures of all pages, to look at
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# of two colours, after WCAG 2.2: (lighter + 0.05) / (darker + 0.05)
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parts = (colour, under) => {
    canvas.fillStyle = under ? `rgb(${under.join(" ")})` : "white";
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    const chain = [];
    for (let one = node; one; one = one.parentElement) chain.unshift(getComputedStyle(one).backgroundColor);
    return chain.reduce((under, colour) => parts(colour, under), null);
  };
  const poor = [];
  for (const node of document.querySelectorAll("main *, header *, nav *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest(".hidden, .skip")) continue;
    const under = ground(node);
    const two = [light(parts(getComputedStyle(node).color, under)), light(under)].sort((a, b) => b - a);
    const ratio = (two[0] + 0.05) / (two[1] + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${node.outerHTML.slice(0, 80)}`);
  }
  return poor;
}"""
UNNAMED = """() => [...document.querySelectorAll("input:not([type=hidden]):not([hidden]), select, textarea, button")]
  .filter((one) => !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).map((one) => one.outerHTML)"""

COVERED = """() => [...document.querySelectorAll(".code")].filter((one) => one.checkVisibility()).filter((one) => {
  const [button, code] = ["button", "pre"].map((name) => one.querySelector(name).getBoundingClientRect());
  return !button.height || button.bottom > code.top;
}).length"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as found:
        yield found


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    config = configuration(policy={"state": "on", "keep_content": True}, contact="Ms Ear, room 12")
    with open_hall(tmp_path_factory.mktemp("hall"), config, watching("poison")) as found:
        yield found


@dataclass
class Visitor:
    """A browser's window."""

    hall: Hall
    page: Any

    def opens(self, place: str) -> None:
        self.page.goto(self.hall.url + place)
        self.fits()

    def clicks(self, role: str, name: str, exact: bool = True) -> None:
        self.page.get_by_role(role, name=name, exact=exact).click()
        self.fits()

    def fits(self) -> None:
        """No page is wider than its window; it has one heading of the first rank, and a name for each control."""
        self.page.wait_for_load_state()
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), self.page.url
        assert self.page.locator("h1").count() == 1 and self.page.locator("main").count() == 1
        assert self.page.evaluate(UNNAMED) == [], self.page.url

    def enters(self) -> None:
        self.opens("/admin")
        assert self.page.url.endswith("/admin/enter")
        self.page.get_by_label("Your personal key, or an API key with the scope admin").fill(
            self.hall.key("house", ("admin",))
        )
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(f"{self.hall.url}/admin")
        self.fits()


@pytest.fixture(params=["desktop"])
def visitor(request: pytest.FixtureRequest, hall: Hall, browser: Any) -> Iterator[Visitor]:
    complaints: list[str] = []
    page = open_page(browser, request.param, complaints)
    yield Visitor(hall, page)
    page.context.close()
    assert complaints == []


def ask(hall: Hall, key: str, text: str) -> httpx.Response:
    body = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": text}]}
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return httpx.post(f"{hall.url}/v1/messages", json=body, headers=headers, timeout=60, verify=CONTEXT)


def test_from_a_key_to_an_appeal(hall: Hall, visitor: Visitor) -> None:
    page = visitor.page
    visitor.enters()
    visitor.clicks("link", "Keys")
    page.get_by_label("Name", exact=True).fill("weaver")
    house = page.get_by_label("Organisation", exact=True).input_value()
    assert house == hall.organisations["house"], "one that is there is proposed"
    page.get_by_label("New organisation").fill("Acme Weaving")
    visitor.clicks("button", "Create key")
    key = page.locator("#secret").inner_text()
    assert re.fullmatch(r"sk-charter-[\w-]{43}", key)
    visitor.clicks("link", "I have it")
    assert key not in page.content() and page.get_by_text(f"…{key[-4:]}").count() == 1

    assert ask(hall, key, "hello").status_code == 200
    stopped = ask(hall, key, "where is the poison kept")
    assert stopped.json()["stop_reason"] == "refusal"
    visitor.clicks("link", "Usage")
    assert page.locator(".scale span").first.inner_text().isdigit(), "the axis says how high it goes"
    by_day = page.get_by_role("table", name="By day, key and model")
    assert by_day.get_by_role("row", name="Acme Weaving").locator("td").nth(3).inner_text() == "2"
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert "Acme Weaving" in Path(download.value.path()).read_text(encoding="utf-8")

    visitor.clicks("link", "Queue")
    visitor.clicks("link", "flag", exact=False)
    veiled = page.get_by_text("where is the poison kept")
    assert not veiled.is_visible()
    page.get_by_text("Show what the user wrote").click()
    assert veiled.is_visible()
    page.get_by_label("Note").fill("They asked for rat poison.")
    visitor.clicks("button", "Uphold the flag")
    assert "Upheld by test" in page.get_by_role("status").inner_text()

    visitor.clicks("link", "Acme Weaving")
    page.get_by_label("Level").select_option("suspended")
    page.get_by_label("Why").fill("more than once")
    visitor.clicks("button", "Set level")
    refused = ask(hall, key, "hello")
    assert refused.status_code == 403 and "more than once" in refused.text

    visitor.opens("/report")
    page.get_by_label("Your API key").fill(key)
    page.get_by_text("Appeal the account's standing").click()
    page.get_by_label("Your appeal").fill("It was for the rats.")
    visitor.clicks("button", "Appeal")
    assert "waits for a person" in page.get_by_role("status").inner_text()
    assert key not in page.content()

    visitor.opens("/admin/queue?kind=appeal")
    visitor.clicks("link", "appeal", exact=False)
    assert page.get_by_text("It was for the rats.").is_visible()
    visitor.clicks("button", "Uphold the appeal")
    assert ask(hall, key, "hello").status_code == 200
    visitor.clicks("link", "Decisions")
    visitor.clicks("link", "Read it now")
    assert page.get_by_text("intact", exact=True).is_visible()
    visitor.clicks("button", "Sign out")
    assert page.url.endswith("/admin/enter?left=1")
    page.go_back()
    page.wait_for_load_state()
    assert key not in page.content()


@pytest.mark.parametrize("visitor", ["phone"], indirect=True)
def test_all_pages_fit_a_phone_and_are_legible(hall: Hall, visitor: Visitor) -> None:
    """Also in the dark; each page is seen once in each."""
    key = hall.key("readers")
    id = ask(hall, key, "poison for readers").headers["request-id"]
    owner, conduct = hall.organisations["readers"], hall.service.conduct
    reader = account_of(owner, user_mark(owner, digest_of("reader")))
    conduct.decide(reader, "throttled", "Ms Ear", "of what they did")
    conduct.release(id, "Ms Ear", "They asked for rat poison, and a person has read what they wrote.")
    mild = next(one.id for one in shipped_policy().categories if one.severity != "severe")
    conduct.exempt(owner, mild, time.time() + 86_400, "Ms Ear", "They are chemists.")
    visitor.enters()
    with httpx.Client(verify=CONTEXT, headers={"x-api-key": hall.key("house", ("admin",))}) as web:
        cases = web.get(f"{hall.url}/admin/queue?organisation=readers").json()["cases"]
    places = {
        "index": "/",
        "docs": "/docs",
        "docs of messages": "/docs/messages",
        "report": f"/report?request={id}",
        "overview": "/admin",
        "keys": "/admin/keys",
        "usage": "/admin/usage",
        "policy": "/admin/policy",
        "decisions": "/admin/decisions?verify=yes",
        "request": f"/admin/requests/{id}",
        "queue": "/admin/queue?state=all",
        "case": f"/admin/queue/{cases[0]['id']}",
        "standings": "/admin/standings",
        "standing": f"/admin/standings/{owner}",
        "user": f"/admin/standings/{owner}?user={reader.partition('/')[2]}",
        "engines": "/admin/engines",
        "batches": "/admin/batches",
    }
    for name, place in places.items():
        visitor.opens(place)
        assert visitor.page.evaluate(COVERED) == 0, f"{name}: a button lies on its code"
        for scheme in ("light", "dark"):
            visitor.page.emulate_media(color_scheme=scheme)
            assert visitor.page.evaluate(CONTRASTS) == [], (name, scheme)
            if SHOTS:
                visitor.page.screenshot(path=f"{SHOTS}/{name}-{scheme}.png", full_page=True)
