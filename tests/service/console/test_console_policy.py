"""The policy on the admin pages: a draft is checked, tried, published and taken back, and the API obeys at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from lobby import Hall, Said, configuration, open_hall, watching
from test_admin_pages import Admin, ask, program

from charter.ground.artifact.errors import CharterError
from charter.ground.moderation.policy import Policy, shipped_policy
from charter.ground.moderation.screen import Screen
from charter_service.accounts.policies import published_policies
from charter_service.accounts.tables import DECISIONS, POLICIES
from charter_service.api.policy_versions import in_force, in_words
from charter_service.console.policy import LONGEST_DRAFT
from charter_service.web.audit import Wanted, search_acts
from charter_service.web.database import reading, writing

DRAFT, VERSIONS = "/admin/policy/draft", "/admin/policy/versions"


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    config = configuration(policy={"state": "on", "keep_content": True})
    with open_hall(tmp_path, config, watching("poison"), said=Said("Hello", " there")) as found:
        yield found


def mild(version: int = 2) -> str:
    """A policy that flags what the shipped one blocks."""
    policy = shipped_policy()
    actions = {side: {"standard": "flag", "enhanced": "flag"} for side in ("prompt", "reply")}
    categories = [
        {**one.model_dump(mode="json"), "actions": actions, "safety_prompt": None} for one in policy.categories
    ]
    values = {**policy.model_dump(mode="json"), "version": version, "categories": categories}
    return str(yaml.safe_dump(Policy.model_validate(values).model_dump(mode="json", exclude_defaults=True)))


def send(hall: Hall, headers: dict[str, str], **fields: Any) -> httpx.Response:
    return httpx.post(hall.url + DRAFT, json=fields, headers=headers, timeout=60)


def publish(hall: Hall, headers: dict[str, str], seen: int = 0, **fields: Any) -> httpx.Response:
    facts = {"act": "publish", "text": mild(), "seen": seen, "note": "too strict", "confirm": "yes"}
    return send(hall, headers, **{**facts, **fields})


def blocked(hall: Hall, key: str, words: str = "poison") -> bool:
    body = {"model": "toy-2", "max_tokens": 9, "messages": [{"role": "user", "content": words}]}
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    answer = httpx.post(f"{hall.url}/v1/messages", json=body, headers=headers, timeout=30).json()
    return answer["stop_reason"] == "refusal"  # type: ignore[no-any-return]


def test_what_is_published_holds_at_once_and_after_a_restart(hall: Hall, tmp_path: Path) -> None:
    key, headers = hall.key(), program(hall)
    assert blocked(hall, key)
    answer = publish(hall, headers)
    assert answer.status_code == 200, answer.text
    assert not blocked(hall, key), "the next request is judged by the new version"
    hall.service.conduct.log.flush()
    assert {one.policy.split()[1] for one in hall.rows(DECISIONS)} == {"1", "2"}
    screen, published = in_force(hall.service.database, watching("poison"))
    assert published is not None and screen.policy.version == 2 and screen.prompt([user("poison")]).action == "flag"
    assert "version 2, published by test" in in_words(screen.policy, published)

    versions = httpx.get(hall.url + VERSIONS, headers=headers).json()["published"]
    assert [(one["number"], one["version"], one["by"][:4]) for one in versions] == [(2, 2, "test"), (1, 1, "conf")]
    back = {"seen": 2, "note": "it let too much pass"}
    answer = httpx.post(f"{hall.url}{VERSIONS}/1", json=back, headers=headers, timeout=30)
    assert answer.json()["copy_of"] == 1 and answer.json()["number"] == 3
    assert blocked(hall, key), "the way back is published, too"
    with reading(hall.service.database) as connection:
        acts, _ = search_acts(connection, Wanted())
    assert [one.act.what for one in acts] == ["policy.roll_back", "policy.publish"]
    assert httpx.post(f"{hall.url}{VERSIONS}/3", json={**back, "seen": 3}, headers=headers).status_code == 409
    assert httpx.post(f"{hall.url}{VERSIONS}/99", json=back, headers=headers).status_code == 404


def user(words: str) -> Any:
    return {"role": "user", "content": words}


def test_a_request_under_way_keeps_its_policy(hall: Hall) -> None:
    """It began under the stricter version: its reply is judged by it, too, and so does the log say."""
    said: Any = hall.service.registry.served[0].backend
    said.pieces, key = ["some", " poison"], hall.key()
    said.gate.clear()
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(blocked(hall, key, "hello")))
    thread.start()
    while not said.under_way:
        pass
    assert publish(hall, program(hall)).status_code == 200
    said.gate.set()
    thread.join()
    assert outcome == [True] and not blocked(hall, key, "hello again")


def test_one_of_two_who_publish_at_once_is_told(hall: Hall) -> None:
    headers, answers = program(hall), list[int]()
    threads = [threading.Thread(target=lambda: answers.append(publish(hall, headers).status_code)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(answers) == [200, 409, 409, 409]
    with reading(hall.service.database) as connection:
        assert [one.version for one in published_policies(connection)] == [2, 1]
    stale = publish(hall, headers, seen=1, text=mild(3))
    assert stale.status_code == 409 and "meanwhile" in stale.text
    again = publish(hall, headers, seen=2)
    assert again.status_code == 409 and "above 2" in again.text


def test_a_draft_that_refuses_everything_is_asked_about_with_counts(hall: Hall) -> None:
    headers, key = program(hall), hall.key()
    strict = mild().replace("flag", "block")
    draft = {"text": strict, "at:watch:prompt:standard": "0", "at:watch:prompt:enhanced": "0"}
    asked = publish(hall, headers, **draft, confirm="").json()
    assert asked["ask"] and asked["harmless"]["blocked"] == asked["harmless"]["of"] > 20
    assert asked["harmless"]["now"] == 0 and not blocked(hall, key, "hello")
    assert publish(hall, headers, **draft).status_code == 200
    assert blocked(hall, key, "hello"), "who confirms it gets it"
    # an empty field brings the measured threshold back
    loose = {"text": mild(3), "at:watch:prompt:standard": "", "at:watch:prompt:enhanced": ""}
    assert publish(hall, headers, seen=2, **loose).status_code == 200
    assert not blocked(hall, key, "hello")


def test_a_draft_is_tried_beside_what_was_decided(hall: Hall) -> None:
    key = hall.key()
    flagged = ask(hall, key, "where is the poison")
    ask(hall, key, "hello")
    shown = send(hall, program(hall), act="check", text=mild(), seen=0, texts='poison\n{"prompt": "tea"}').json()
    assert [(one["before"]["action"], one["action"]) for one in shown["trial"]] == [("block", "flag"), ("allow",) * 2]
    week = shown["week"]
    assert (week["rows"], week["flags"], week["judged"], week["changed"]) == (2, 1, 1, 1)
    assert week["changes"][0]["request"] == flagged and week["counts"][0]["after"] == "flag"
    assert any(one["kind"] == "added" for one in shown["difference"])
    assert blocked(hall, key), "a trial changes nothing"


def test_a_draft_with_problems_names_their_lines(hall: Hall) -> None:
    headers = program(hall)
    shown = send(hall, headers, act="publish", text="name: x\nversion: none\n", seen=0).json()
    assert {"line": 2, "words": "version: must be a whole number (given 'none')"} in shown["problems"]
    bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]"
    assert "anchors" in send(hall, headers, text=bomb, seen=0).json()["problems"][0]["words"]
    for body, status in (
        ({"text": "x" * (LONGEST_DRAFT + 1), "seen": 0}, 400),
        ({"text": "x" * (10 * 2**20), "seen": 0}, 413),
        ({"text": mild()}, 400),
        ({"text": mild(), "seen": 0, "act": "burn"}, 400),
        ({"text": mild(), "seen": 0, "texts": "{broken"}, 400),
        ({"text": mild(), "seen": 0, "texts": "a\n" * 101}, 400),
        ({"text": mild(), "seen": 0, "level": "worst"}, 400),
        ({"act": "publish", "text": mild(), "seen": 0, "confirm": "yes"}, 400),
    ):
        assert send(hall, headers, **body).status_code == status, str(body)[:80]
    values = send(hall, headers, text=mild(), seen=0, **{"at:watch:prompt:standard": "much"}).json()
    assert "not a number" in values["problems"][0]["words"]
    too_high = send(hall, headers, text=mild(), seen=0, **{"at:watch:prompt:standard": "7"}).json()
    assert "from 0 to 1" in too_high["problems"][0]["words"]


def test_the_page_publishes_without_script(hall: Hall) -> None:
    admin = Admin(hall)
    page = admin.get(DRAFT).text
    assert "version: 2" in page and 'name="at:watch:prompt:standard"' in page
    answer = admin.send(DRAFT, DRAFT, text=mild(), act="publish", note="<b>why</b>", confirm="yes")
    assert answer.status_code == 303 and answer.headers["location"] == "/admin/policy"
    listed = admin.get(VERSIONS).text
    assert "&lt;b&gt;why" in listed and "in force" in listed
    version = admin.get(f"{VERSIONS}/2").text
    assert "<ins>" in version and "Bring it back" not in version
    answer = admin.send(f"{VERSIONS}/1", f"{VERSIONS}/1", note="back")
    assert answer.status_code == 303
    assert "back from version 1" in admin.get("/admin/policy").text.replace("&nbsp;", " ")


def test_without_a_policy_there_is_nothing_to_change(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("x")) as hall:
        answer = httpx.get(hall.url + DRAFT, headers=program(hall))
        assert answer.status_code == 409 and "policy is off" in answer.text


def test_a_published_policy_that_cannot_be_read_is_said(hall: Hall) -> None:
    assert publish(hall, program(hall)).status_code == 200
    with writing(hall.service.database) as connection:
        connection.execute(POLICIES.update().values(text="name: x"))
    with pytest.raises(CharterError, match="can't be read"):
        in_force(hall.service.database, watching("poison"))
    assert isinstance(hall.service.screen, Screen)
