"""Coming in: invitations, keys, sessions, forms that were not made here, limits, headers, and what the log holds."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hall import Hall, configuration, hidden, open_hall
from starlette.testclient import TestClient

from charter_service.arena import talk
from charter_service.arena.app import make_app
from charter_service.people.tables import TOKENS
from charter_service.people.workers import invite
from charter_service.web.database import writing
from charter_service.web.guard import POLICY, shown_path


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with open_hall(tmp_path) as found:
        yield found


def token(hall: Hall, role: str = "worker", **more: Any) -> str:
    with writing(hall.service.database) as connection:
        return invite(connection, role, **more)


def key_on(page: str) -> str:
    return page.split('<code id="key">')[1].split("<")[0]


def test_an_invitation_makes_a_person_with_a_key_that_is_shown_once(hall: Hall) -> None:
    client, link = hall.client(), f"/join/{token(hall)}"
    assert "You are invited" in client.get(link).text
    assert client.post(link, data={"name": "<b>"}).status_code == 400
    answer = client.post(link, data={"name": "ann"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/welcome")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie and "Secure" not in cookie
    key = key_on(client.get("/welcome").text)
    assert client.get("/welcome").headers["location"] == "/"
    assert client.get(link).status_code == 403 and client.post(link, data={"name": "eve"}).status_code == 403
    assert key not in str(hall.rows(TOKENS)) and cookie.split("=")[1].split(";")[0] not in str(hall.rows(TOKENS))

    other = hall.client()
    assert other.get("/").headers["location"] == "/enter"
    assert other.post("/enter", data={"key": "wrong"}).status_code == 403
    assert other.post("/enter", data={"key": f" {key} "}).headers["location"] == "/"
    page = other.get("/me").text
    assert "ann" in page
    assert other.post("/leave", data={"csrf": hidden(page, "csrf")}).headers["location"] == "/enter?done=left"
    assert other.get("/me").status_code == 303 and client.get("/me").status_code == 200
    assert "Sign in again with your key" in other.get("/enter?done=left").text
    assert "notice" not in other.get("/enter?done=<script>").text


def test_a_name_that_wont_do_is_asked_for_again(hall: Hall) -> None:
    hall.person("ann")
    client, link = hall.client(), f"/join/{token(hall, 'reviewer')}"
    for name, status, words in (
        ("Ann", 409, "That name is taken; choose another."),
        ('<i>"x', 400, "A name has 1 to 40 letters"),
    ):
        answer = client.post(link, data={"name": name})
        assert answer.status_code == status and words in answer.text and "review conversations" in answer.text
        assert f'action="{link}"' in answer.text and 'aria-invalid="true"' in answer.text
    assert 'value="&lt;i&gt;&#34;x"' in answer.text
    asked = client.post(link, data={"name": "Ann"}, headers={"accept": "application/json"})
    assert asked.json() == {"error": "that name is taken; choose another"}
    assert client.post(link, data={"name": "rita"}).status_code == 303
    answer = client.post(link, data={"name": "<b>"})  # the invitation is used up
    assert answer.status_code == 403 and "What shall we call you?" not in answer.text


def test_errors_lead_to_a_place_that_there_is(tmp_path: Path) -> None:
    with open_hall(tmp_path, configuration(contact="Ms Ear, room 12")) as hall:
        stranger, ann = hall.client(), hall.person()
        for answer in (
            stranger.get(f"/join/{'x' * 43}"),
            stranger.post("/enter", data={"key": "wrong"}),
            stranger.post("/me/forget", data={"sure": "yes"}),
            stranger.get("/nothing"),
        ):
            assert answer.status_code in (401, 403, 404) and "Ms Ear, room 12" in answer.text
            assert "Sign in with your key" in answer.text and "Go to your tasks" not in answer.text
        for page in (ann.get("/nothing", 404), ann.get("/admin", 403), ann.get(f"/join/{'x' * 43}", 403)):
            assert "Go to your tasks" in page and "Sign in with your key" not in page
    with open_hall(tmp_path) as hall:
        assert "Questions" not in hall.client().get("/nothing").text


def test_cookies_go_over_https_alone_where_people_come_by_it(tmp_path: Path) -> None:
    with open_hall(tmp_path, configuration(url="https://arena.example.org")) as hall:
        answer = hall.client().post(f"/join/{token(hall)}", data={"name": "ann"})
        assert "Secure" in answer.headers["set-cookie"]


def test_every_answer_is_strict_with_browsers(hall: Hall) -> None:
    client = hall.person().client
    for place in ("/", "/me", "/me/data.json", "/nothing", "/health", "/static/arena.css", "/static/app.py"):
        headers = client.get(place).headers
        assert headers["content-security-policy"] == POLICY and "unsafe" not in POLICY
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == (
            "max-age=31536000, immutable" if place == "/static/arena.css" else "no-store"
        )
        assert "server" not in headers


def test_pages_hold_nothing_inline_and_nothing_from_elsewhere(hall: Hall) -> None:
    boss = hall.person("boss", "admin").agree("review")
    for place in ("/", "/me", "/admin", "/task/harmless", "/task/review", "/review", "/nothing"):
        page = boss.client.get(place).text
        assert (
            "<style" not in page
            and "style=" not in page
            and " onclick" not in page
            and "//" not in page.replace("http://127.0.0.1", "")
        )
        assert page.count("<script src=") == page.count("<script") == page.count("</script>") == 2


def test_errors_are_pages_or_json(hall: Hall) -> None:
    client = hall.person().client
    page = client.get("/talk/" + "0" * 32)
    assert page.status_code == 404 and "<h1>Nothing here</h1>" in page.text
    for place in ("/talk/nothing", "/talk/" + "0" * 33, "/static/arena.py", "/nothing", "/join"):
        assert client.get(place).status_code == 404, place
    asked = client.get("/nothing", headers={"accept": "application/json"})
    assert asked.json() == {"error": "there is no such page, or it isn't yours"}
    assert client.get("/turn/" + "0" * 32 + "/state").json()["error"]
    assert client.put("/me").status_code == 405 and client.get("/leave").status_code == 405


def test_a_failure_is_told_without_its_words_and_logged_without_text(
    hall: Hall, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the words of ann")

    ann = hall.person()
    ann.agree("helpful")
    talked = ann.begin()
    csrf, link = ann.csrf, token(hall)
    monkeypatch.setattr(talk.work, "ask", broken)
    with caplog.at_level(logging.INFO, "charter_service.arena"):
        answer = ann.client.post(f"{talked}/ask", data={"csrf": csrf, "number": 1, "text": "my own words"})
        hall.client().get(f"/join/{link}?who=ann")
    assert answer.status_code == 500 and "words of ann" not in answer.text and "Traceback" not in answer.text
    log = caplog.text
    assert "RuntimeError in" in log and f"POST {talked}/ask 500" in log and "GET /join/[token] 200" in log
    for secret in ("words of ann", "own words", link, "who=ann", csrf):
        assert secret not in log


def test_an_unreachable_database_is_no_secret_told(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    client = hall.client()
    assert client.get("/health").json() == {"status": "ok"}
    hall.service.database.dispose()
    monkeypatch.setattr(hall.service.database, "connect", lambda: 1 / 0)
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "no database"})


def test_paths_are_logged_on_one_line_without_secrets() -> None:
    assert shown_path("/join/abc/def") == "/join/[token]"
    assert shown_path("/talk/x\n2026 GET /") == "/talk/x?2026?GET?/"
    assert len(shown_path("/" + "x" * 900)) == 120


def test_the_first_and_the_last_cookie_that_are_none(hall: Hall) -> None:
    for value in ("", "x" * 5000, "%00", "\xe9"):
        client = TestClient(make_app(hall.service), follow_redirects=False)  # type: ignore[arg-type]
        answer = client.get("/", headers={"cookie": f"charter_session={value}".encode("latin-1")})
        assert answer.status_code == 303


def test_json_of_a_person_is_a_file(hall: Hall) -> None:
    answer = hall.person().client.get("/me/data.json")
    assert "attachment" in answer.headers["content-disposition"]
    assert set(json.loads(answer.text)) >= {"person", "votes", "turns", "reviews", "consents", "events"}
