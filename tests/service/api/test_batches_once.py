"""A batch that is sent again with the same key is made once, and requests that fail here are tried a few times."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall, until
from malformed import HELLO
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from charter_service.accounts.batches import make_batch
from charter_service.accounts.keys import Caller, make_key
from charter_service.accounts.made_once import MadeBefore, once
from charter_service.accounts.organisations import make_organisation
from charter_service.accounts.store import open_accounts
from charter_service.accounts.tables import BATCH_ITEMS, BATCHES, MADE_ONCE
from charter_service.api import batching
from charter_service.api.errors import ApiError
from charter_service.web.database import reading, writing
from charter_service.web.refusal import Refusal

PATH = "/v1/messages/batches"
ASKED = {"model": MODEL, "max_tokens": 5, "messages": HELLO}


class PanicException(BaseException):
    """What libraries in Rust raise."""


def send(hall: Hall, secret: str, key: str | None, *ids: str, method: str = "POST", path: str = "") -> httpx.Response:
    given = {"x-api-key": secret, "anthropic-version": "2023-06-01"}
    if key is not None:
        given["Idempotency-Key"] = key
    body = {"requests": [{"custom_id": id, "params": ASKED} for id in ids]} if ids else None
    return httpx.request(method, hall.url + PATH + path, headers=given, json=body, timeout=60)


def test_the_same_key_makes_one_batch_even_over_a_restart(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("One")) as hall:
        secret, colleague, other = hall.key(), hall.key(), hall.key("other")
        first = send(hall, secret, "k-1", "a", "b")
        assert first.status_code == 200 and "idempotent-replayed" not in first.headers
        again = send(hall, colleague, "k-1", "a", "b")
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
        assert again.json()["id"] == first.json()["id"]
        assert send(hall, other, "k-1", "a", "b").json()["id"] != first.json()["id"], "a key is its organisation's"
        assert send(hall, secret, "k-2", "a", "b").json()["id"] != first.json()["id"]
        assert len({send(hall, secret, None, "a").json()["id"] for _ in range(2)}) == 2
        wrong = send(hall, secret, "k-1", "a", "c")
        assert wrong.status_code == 400 and wrong.json()["error"]["message"].startswith("idempotency-key: ")
        for key in ("", "x" * 256):
            assert send(hall, secret, key, "a").status_code == 400
        assert send(hall, secret, "x" * 255, "a").status_code == 200
    with open_hall(tmp_path, said=Said("One")) as hall:
        again = send(hall, secret, "k-1", "a", "b")
        assert (again.json()["id"], again.headers["idempotent-replayed"]) == (first.json()["id"], "true")
        with writing(hall.service.database) as c:
            c.execute(update(MADE_ONCE).values(created=MADE_ONCE.c.created - 86_400))
        assert send(hall, secret, "k-1", "a", "b").json()["id"] != first.json()["id"], "a day later"


def test_the_order_of_keys_makes_no_other_batch(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("One")) as hall:
        given = {"x-api-key": hall.key(), "anthropic-version": "2023-06-01", "idempotency-key": "k"}

        def sent(params: dict[str, Any]) -> httpx.Response:
            body = {"requests": [{"custom_id": "a", "params": params}]}
            return httpx.post(hall.url + PATH, headers=given, json=body, timeout=60)

        params = {**ASKED, "messages": [{"role": "user", "content": "é ☃"}]}
        turned = {name: params[name] for name in sorted(params, reverse=True)}
        turned["messages"] = [dict(reversed(turn.items())) for turn in params["messages"]]
        assert json.dumps(params) != json.dumps(turned)
        first, again = sent(params), sent(turned)
        assert (first.status_code, again.status_code) == (200, 200), again.text
        assert first.json()["id"] == again.json()["id"]
        assert sent({**params, "max_tokens": 6}).status_code == 400


def test_a_batch_that_was_deleted_is_not_made_again(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("One")) as hall:
        secret = hall.key()
        id = send(hall, secret, "k", "a").json()["id"]
        until(lambda: send(hall, secret, None, method="DELETE", path=f"/{id}").status_code == 200)
        assert send(hall, secret, "k", "a").status_code == 404
        assert hall.rows(BATCHES) == []


def test_two_at_once_make_one_batch(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("One")) as hall:
        secret = hall.key()
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: send(hall, secret, "k", *(f"r{n}" for n in range(1500))), range(8)))
        made = [one for one in found if one.status_code == 200]
        assert made and {one.status_code for one in found} <= {200, 409}
        assert len({one.json()["id"] for one in made}) == 1 and len(hall.rows(BATCHES)) == 1


def test_two_at_once_make_one_batch_on_both_databases(database: str) -> None:
    engine = open_accounts(database)
    with writing(engine) as c:
        organisation = make_organisation(c, "acme")
        caller = Caller(make_key(c, organisation, "test")[0], organisation, "test")
    items = [(f"r{n}", "{}") for n in range(1500)]

    def make(_: int) -> str:
        try:
            return make_batch(engine, caller, items, wanted=once("k", items))
        except MadeBefore as before:
            return before.batch
        except Refusal as refused:
            assert refused.status == 409
            return ""

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(make, range(4))) - {""}
    assert len(found) == 1 and make(0) in found
    with pytest.raises(Refusal, match="other requests"):
        make_batch(engine, caller, items, wanted=once("k", items[:5]))
    with reading(engine) as c:
        assert len(c.execute(BATCHES.select()).all()) == 1
    engine.dispose()


def test_a_batch_that_came_to_nothing_frees_its_key(tmp_path: Path) -> None:
    engine = open_accounts("serve.sqlite", tmp_path)
    with writing(engine) as c:
        organisation = make_organisation(c, "acme")
        caller = Caller(make_key(c, organisation, "test")[0], organisation, "test")
    items = [(f"r{n}", "{}") for n in range(1500)]

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_batch(engine, caller, items, interrupted, wanted=once("k", items))
    assert make_batch(engine, caller, items, wanted=once("k", items))
    engine.dispose()


def test_the_python_client_sends_the_key(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("One")) as hall:
        client = anthropic.Anthropic(base_url=hall.url, api_key=hall.key())
        requests: Any = [{"custom_id": "a", "params": ASKED}]
        made = [
            client.messages.batches.create(requests=requests, extra_headers={"Idempotency-Key": "k"}) for _ in range(2)
        ]
    assert made[0].id == made[1].id


@pytest.mark.parametrize("failing", [RuntimeError("broken"), PanicException("gave up")])
def test_a_request_that_fails_here_ends_after_a_few_tries(
    tmp_path: Path, failing: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "FIRST_PAUSE", 0.01)
    said = Said(failing=failing)  # type: ignore[arg-type]
    with open_hall(tmp_path, said=said) as hall:
        secret = hall.key()
        id = send(hall, secret, None, "a").json()["id"]
        until(lambda: hall.rows(BATCHES)[0].state == "ended")
        (item,) = hall.rows(BATCH_ITEMS)
        assert (item.state, item.tries, len(said.asked)) == ("errored", batching.TRIES, batching.TRIES)
        assert json.loads(item.result)["error"]["type"] == "api_error" and "broken" not in item.result
        assert httpx.get(f"{hall.url}/health").status_code == 200 and id


def test_tries_are_kept_over_a_restart_and_the_pause_can_be_cancelled(tmp_path: Path) -> None:
    said = Said(failing=RuntimeError("broken"))
    with open_hall(tmp_path, said=said) as hall:
        secret = hall.key()
        id = send(hall, secret, None, "a").json()["id"]
        until(lambda: hall.rows(BATCH_ITEMS)[0].tries == 1)
    asked = len(said.asked)
    with writing(open_accounts("serve.sqlite", tmp_path)) as c:
        c.execute(update(BATCH_ITEMS).values(tries=batching.TRIES - 1))
    with open_hall(tmp_path, said=said) as hall:
        until(lambda: hall.rows(BATCHES)[0].state == "ended")
        assert len(said.asked) == asked + 1, "one try was left"
        second = send(hall, secret, None, "b").json()["id"]
        until(lambda: any(row.batch == second and row.tries == 1 for row in hall.rows(BATCH_ITEMS)))
        found = send(hall, secret, None, path=f"/{second}/cancel").json()
        assert (found["processing_status"], found["request_counts"]["canceled"]) == ("ended", 1)
        assert id != second


def test_who_waits_for_a_busy_server_can_be_cancelled(tmp_path: Path) -> None:
    said = Said(failing=ApiError(529, "too much waits", retry_after=60))
    with open_hall(tmp_path, said=said) as hall:
        secret = hall.key()
        id = send(hall, secret, None, "a").json()["id"]
        until(lambda: said.asked and hall.batching._pausing)
        assert send(hall, secret, None, path=f"/{id}/cancel").json()["processing_status"] == "ended"


def test_what_was_answered_is_written_once_the_database_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "AFTER_FAILURE", 0.01)
    failures = iter([OperationalError("x", None, Exception("away"))] * 3)
    keep = batching._keep

    def failing(*given: Any, **named: Any) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        keep(*given, **named)

    monkeypatch.setattr(batching, "_keep", failing)
    said = Said("One")
    with open_hall(tmp_path, configuration(), said=said) as hall:
        send(hall, hall.key(), None, "a")
        until(lambda: hall.rows(BATCHES)[0].state == "ended")
        assert hall.rows(BATCH_ITEMS)[0].state == "succeeded" and len(said.asked) == 1
