"""Batches: what is taken in, what becomes of it, and who may see it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall, until
from sqlalchemy import update

from charter_service.accounts.keys import revoke
from charter_service.accounts.organisations import disable_organisation
from charter_service.accounts.tables import BATCH_ITEMS, BATCHES, KEYS, USAGE
from charter_service.api.errors import ApiError
from charter_service.web.database import writing

HELLO = [{"role": "user", "content": "Hello there"}]
PATH = "/v1/messages/batches"


def item(id: str, **more: Any) -> dict[str, Any]:
    return {"custom_id": id, "params": {"model": MODEL, "max_tokens": 5, "messages": HELLO} | more}


class Desk:
    """Somebody with a key."""

    def __init__(self, hall: Hall, organisation: str = "acme", **more: Any) -> None:
        self.url, self.key = hall.url, hall.key(organisation, **more)

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        given = {"x-api-key": self.key, "anthropic-version": "2023-06-01"}
        return httpx.request(method, self.url + path, headers=given, timeout=30, **more)

    def create(self, *items: dict[str, Any], status: int = 200) -> Any:
        answer = self.send("POST", PATH, json={"requests": list(items)})
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, id: str, status: int = 200) -> Any:
        answer = self.send("GET", f"{PATH}/{id}")
        assert answer.status_code == status
        return answer.json()

    def ended(self, id: str) -> Any:
        return until(lambda: (found := self.get(id))["processing_status"] == "ended" and found)

    def results(self, id: str) -> dict[str, Any]:
        answer = self.send("GET", f"{PATH}/{id}/results")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("application/x-jsonl")
        rows = [json.loads(line) for line in answer.text.splitlines()]
        assert len({row["custom_id"] for row in rows}) == len(rows)
        return {row["custom_id"]: row["result"] for row in rows}


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall"), said=Said("One ", "two")) as hall:
        yield hall


def test_a_batch_from_its_beginning_to_its_end(hall: Hall) -> None:
    desk = Desk(hall)
    made = desk.create(item("a"), item("b", system="Be brief."), item("c", max_tokens=0), item("d", stream=True))
    assert made["id"].startswith("msgbatch_")
    assert made["type"] == "message_batch"
    assert made["processing_status"] in ("in_progress", "ended")
    assert sum(made["request_counts"].values()) == 4
    ended = desk.ended(made["id"])
    counts = {"processing": 0, "succeeded": 2, "errored": 2, "canceled": 0, "expired": 0}
    assert ended["request_counts"] == counts
    assert ended["results_url"] == f"{hall.url}{PATH}/{made['id']}/results"
    assert ended["ended_at"] >= ended["created_at"]
    found = desk.results(made["id"])
    assert found["a"]["type"] == "succeeded"
    message = found["a"]["message"]
    assert message["content"] == [{"type": "text", "text": "One two"}]
    assert message["usage"]["service_tier"] == "batch"
    error = found["c"]["error"]
    assert found["c"]["type"] == "errored"
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert error["error"]["message"].startswith("max_tokens: ")
    assert found["d"]["error"]["error"]["message"].startswith("stream: ")


def test_a_batch_is_metered(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("One ", "two")) as hall:
        desk = Desk(hall)
        desk.ended(desk.create(item("a"), item("b"))["id"])
        (row,) = until(lambda: [row for row in hall.rows(USAGE) if row.requests == 2])
    assert row.output_tokens == 6


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"requests": []}, "requests: "),
        ({}, "requests: Field required"),
        ({"requests": [{"custom_id": "a b", "params": {}}]}, "requests.0.custom_id: String should match pattern"),
        ({"requests": [{"custom_id": "a", "params": []}]}, "requests.0.params: Input should be a valid dictionary"),
        ({"requests": [item("a"), item("a")]}, "requests.1.custom_id: "),
        ({"requests": [item("a")], "colour": 1}, "colour: Extra inputs are not permitted"),
    ],
)
def test_what_is_no_batch_is_refused(hall: Hall, body: Any, words: str) -> None:
    answer = Desk(hall).send("POST", PATH, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(words)


def test_a_batch_is_its_organisation_s_alone(hall: Hall) -> None:
    mine, theirs = Desk(hall, "mine"), Desk(hall, "theirs")
    id = mine.create(item("a"))["id"]
    mine.ended(id)
    colleague = Desk(hall, "mine")
    assert colleague.results(id)
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")):
        answer = theirs.send(method, f"{PATH}/{id}{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "not_found_error"
    assert theirs.send("GET", PATH).json()["data"] == []
    assert Desk(hall, "mine", scopes=("messages",)).send("GET", PATH).status_code == 403


def test_batches_are_listed_by_pages(hall: Hall) -> None:
    desk = Desk(hall, "lister")
    made = [desk.create(item("a"))["id"] for _ in range(3)][::-1]
    first = desk.send("GET", PATH, params={"limit": 2}).json()
    assert [batch["id"] for batch in first["data"]] == made[:2]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, made[0], made[1])
    rest = desk.send("GET", PATH, params={"after_id": first["last_id"]}).json()
    assert ([batch["id"] for batch in rest["data"]], rest["has_more"]) == (made[2:], False)
    before = desk.send("GET", PATH, params={"before_id": made[2], "limit": 1}).json()
    assert [batch["id"] for batch in before["data"]] == [made[1]]
    for wrong in ({"limit": "0"}, {"limit": "x"}, {"limit": "1001"}, {"after_id": "msgbatch_x"}):
        assert desk.send("GET", PATH, params=wrong).status_code == 400


def test_a_batch_that_is_cancelled_finishes_what_is_under_way(tmp_path: Path) -> None:
    said = Said("One ", "two")
    said.gate.clear()
    with open_hall(tmp_path, configuration(engine={"slots": 4}, batch_share=0.5), said=said) as hall:
        desk = Desk(hall)
        id = desk.create(*(item(f"r{n}") for n in range(6)))["id"]
        until(lambda: said.under_way == 2)
        early = desk.send("GET", f"{PATH}/{id}/results")
        kept = desk.send("DELETE", f"{PATH}/{id}")
        cancelled = desk.send("POST", f"{PATH}/{id}/cancel").json()
        said.gate.set()
        ended = desk.ended(id)
        found = desk.results(id)
        gone = desk.send("DELETE", f"{PATH}/{id}").json()
        desk.get(id, 404)
    assert early.status_code == 404
    assert kept.status_code == 400
    assert cancelled["processing_status"] == "canceling"
    assert cancelled["cancel_initiated_at"]
    assert ended["request_counts"]["canceled"] == 4
    assert ended["request_counts"]["succeeded"] == 2
    assert sorted(result["type"] for result in found.values()) == ["canceled"] * 4 + ["succeeded"] * 2
    assert gone == {"id": id, "type": "message_batch_deleted"}


def test_what_waits_for_a_day_expires(tmp_path: Path) -> None:
    said = Said("One")
    said.gate.clear()
    with open_hall(tmp_path, configuration(engine={"slots": 2}), said=said) as hall:
        desk = Desk(hall)
        id = desk.create(item("a"), item("b"))["id"]
        until(lambda: said.under_way == 1)
        with writing(hall.service.database) as connection:
            connection.execute(update(BATCHES).values(expires=time.time()))
        hall.batching._next_look = 0.0
        hall.batching.wake()  # from another thread: it is heard when the next request ends
        said.gate.set()
        ended = desk.ended(id)
    assert ended["request_counts"]["expired"] >= 1


def test_a_request_that_must_wait_is_tried_again(tmp_path: Path) -> None:
    said = Said(failing=ApiError(529, "too much waits", retry_after=0.1))
    with open_hall(tmp_path, said=said) as hall:
        desk = Desk(hall)
        id = desk.create(item("a"))["id"]
        until(lambda: len(said.asked) >= 2)
        assert desk.get(id)["processing_status"] == "in_progress"
        said.failing, said.pieces = None, ["One"]
        desk.ended(id)
        assert desk.results(id)["a"]["type"] == "succeeded"


def test_a_batch_takes_nothing_from_its_key_s_other_requests(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("One")) as hall:
        desk = Desk(hall, limits={"requests_per_minute": 2, "concurrency": 1})
        desk.ended(desk.create(item("a"), item("b"))["id"])
        body = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
        statuses = [desk.send("POST", "/v1/messages", json=body).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_what_a_server_left_the_next_one_does(tmp_path: Path) -> None:
    said = Said("One")
    said.gate.clear()
    with open_hall(tmp_path, configuration(engine={"slots": 2}), said=said) as hall:
        desk = Desk(hall)
        id = desk.create(*(item(f"r{n}") for n in range(5)))["id"]
        until(lambda: said.under_way == 1)
        key = desk.key
    with open_hall(tmp_path, said=Said("Two")) as hall:
        desk = Desk(hall)
        desk.key = key
        desk.ended(id)
        texts = [result["message"]["content"][0]["text"] for result in desk.results(id).values()]
        states = {row.state for row in hall.rows(BATCH_ITEMS)}
    assert texts == ["Two"] * 5
    assert states == {"succeeded"}


def revoked(hall: Hall, key: str) -> None:
    with writing(hall.service.database) as connection:
        revoke(connection, key)


def out_of_date(hall: Hall, key: str) -> None:
    with writing(hall.service.database) as connection:
        connection.execute(update(KEYS).where(KEYS.c.id == key).values(expires=time.time() - 1))


def disabled(hall: Hall, key: str) -> None:
    with writing(hall.service.database) as connection:
        disable_organisation(connection, hall.organisations["acme"])


def suspended(hall: Hall, key: str) -> None:
    hall.service.conduct.decide(hall.organisations["acme"], "suspended", "Ms Ear", "as a test")


@pytest.mark.parametrize(
    ("shut_out", "kind", "words"),
    [
        (revoked, "authentication_error", "was revoked"),
        (out_of_date, "authentication_error", "has expired"),
        (disabled, "authentication_error", "disabled"),
        (suspended, "permission_error", "suspended"),
    ],
)
def test_a_batch_ends_with_the_right_to_ask(
    tmp_path: Path, shut_out: Callable[[Hall, str], None], kind: str, words: str
) -> None:
    said = Said("One")
    said.gate.clear()
    with open_hall(tmp_path, configuration(engine={"slots": 4}, batch_share=0.5), said=said) as hall:
        desk, other = Desk(hall), Desk(hall, "other")
        id, theirs = (one.create(*(item(f"r{n}") for n in range(6)))["id"] for one in (desk, other))
        until(lambda: said.under_way == 2)
        shut_out(hall, hall.service.keyring.find_caller(desk.key).key)
        said.gate.set()
        other.ended(theirs)
        until(lambda: [row for row in hall.rows(BATCHES) if row.id == id and row.state == "ended"])
        rows = hall.rows(BATCH_ITEMS)
    mine = [row for row in rows if row.batch == id]
    assert {row.state for row in rows if row.batch == theirs} == {"succeeded"}
    refused = [json.loads(row.result)["error"] for row in mine if row.state == "errored"]
    assert len(refused) >= 4
    assert {row.state for row in mine} <= {"errored", "succeeded"}  # what was under way finished
    assert {error["type"] for error in refused} == {kind}
    assert all(words in error["message"] for error in refused)
    assert sum("One" in row.result for row in rows) == len(said.asked)
