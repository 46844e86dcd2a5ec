"""What organisations may use: common limits and a monthly cap that the API then holds; and secrets that rotate."""

from __future__ import annotations

import json
import re
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall, running, until
from sqlalchemy.exc import OperationalError

from charter_service.accounts.allowances import Spending
from charter_service.accounts.keys import Caller, KeyRefused, find_caller, find_key, rotate
from charter_service.accounts.limits import TooMany
from charter_service.accounts.tables import FEEDBACK, KEYS, USAGE
from charter_service.api.app import make_app
from charter_service.api.errors import ApiError
from charter_service.api.registry import Registry
from charter_service.api.service import Service, open_database
from charter_service.console.accounts import revoke_key
from charter_service.web.audit import Wanted, search_acts
from charter_service.web.database import reading, writing
from charter_service.web.refusal import Refusal

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
get, post = partial(httpx.get, verify=CONTEXT), partial(httpx.post, verify=CONTEXT)
VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def said() -> Said:
    return Said("Hello", " there")


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, said: Said) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall"), configuration(), said=said) as opened:
        yield opened


def ask(hall: Hall, key: str, text: str = "hello", url: str = "") -> httpx.Response:
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
    return post(f"{url or hall.url}/v1/messages", json=body, headers={"x-api-key": key, **VERSION}, timeout=30)


class Operator:
    """A program with a key of the scope admin."""

    def __init__(self, hall: Hall) -> None:
        self.hall, self.headers = hall, {"x-api-key": hall.key("house", ("admin",))}

    def get(self, path: str) -> Any:
        answer = get(self.hall.url + path, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **fields: Any) -> httpx.Response:
        return post(self.hall.url + path, json=fields, headers=self.headers)


def limited(hall: Hall, name: str) -> dict[str, Any]:
    rows = Operator(hall).get("/admin/limits")["organisations"]
    (row,) = [one for one in rows if one["name"] == name]
    return dict(row)


def test_an_organisation_is_created_suspended_and_restored(hall: Hall) -> None:
    operator = Operator(hall)
    made = operator.post("/admin/organisations", name="  new   ones ").json()
    assert made["name"] == "new ones" and made["monthly_tokens"] == 0
    assert operator.post("/admin/organisations", name="new ones").status_code == 409
    assert operator.post("/admin/organisations", name=" ").status_code == 400
    key = hall.key("new ones")
    assert ask(hall, key).status_code == 200
    assert operator.post(f"/admin/organisations/{made['id']}", disabled="yes").json()["disabled"]
    assert ask(hall, key).status_code == 401
    operator.post(f"/admin/organisations/{made['id']}", disabled="no")
    assert ask(hall, key).status_code == 200
    assert operator.post("/admin/organisations/org_local", disabled="yes").status_code == 409
    for path in ("org_none", "org_none/limits", "org_none/export"):
        assert operator.post(f"/admin/organisations/{path}").status_code == 404
    (row,) = [one for one in operator.get("/admin/organisations")["organisations"] if one["id"] == made["id"]]
    assert row["keys"] == 1 and row["used"] > 0


def test_all_keys_of_an_organisation_share_its_limits(hall: Hall) -> None:
    first, second, other = hall.key("shared"), hall.key("shared"), hall.key("unshared")
    place = f"/admin/organisations/{hall.organisations['shared']}/limits"
    assert Operator(hall).post(place, requests_per_minute=2).json()["limits"]["requests_per_minute"] == 2
    assert [ask(hall, key).status_code for key in (first, second)] == [200, 200]
    refused = ask(hall, second)
    assert refused.status_code == 429 and "this organisation" in refused.text and "retry-after" in refused.headers
    assert ask(hall, other).status_code == 200
    row = limited(hall, "shared")
    assert row["refused"] == 1 and row["used"]["requests"] > 0.9 and row["last_refused"]
    Operator(hall).post(place)
    until(lambda: ask(hall, second).status_code == 200)  # at 66 a second again
    for wrong in ("-1", "x", "1.5", "9" * 12):
        assert Operator(hall).post(place, requests_per_minute=wrong).status_code == 400, wrong


def test_simultaneous_requests_of_an_organisation(hall: Hall, said: Said) -> None:
    first, second = hall.key("crowd"), hall.key("crowd")
    place = f"/admin/organisations/{hall.organisations['crowd']}/limits"
    Operator(hall).post(place, concurrency=1)
    said.gate.clear()
    thread = threading.Thread(target=ask, args=(hall, first))
    thread.start()
    try:
        until(lambda: limited(hall, "crowd")["under_way"] == 1)
        assert ask(hall, second).status_code == 429
    finally:
        said.gate.set()
        thread.join()
    assert ask(hall, second).status_code == 200


def test_the_monthly_cap_is_enforced_and_survives_a_restart(tmp_path: Path) -> None:
    config = configuration()
    with open_hall(tmp_path, config, said=Said("Hello", " there")) as hall:
        key, free = hall.key("capped"), hall.key("free")
        id = hall.organisations["capped"]
        assert ask(hall, key).status_code == 200
        used = hall.service.spending.used(id)
        assert used > 0
        Operator(hall).post(f"/admin/organisations/{id}/limits", monthly_tokens=2 * used + 1)
        assert ask(hall, key).status_code == 200
        refused = ask(hall, key)
        assert refused.status_code == 429 and f"{2 * used:,}" in refused.text
        assert refused.headers["x-should-retry"] == "false"
        chat = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
        shaped = post(f"{hall.url}/v1/chat/completions", json=chat, headers={"authorization": f"Bearer {key}"})
        assert shaped.status_code == 429 and shaped.json()["error"]["message"]
        assert ask(hall, free).status_code == 200
        row = limited(hall, "capped")
        assert row["month"] == 2 * used and row["monthly_tokens"] == 2 * used + 1
        assert row["keys"][0]["refused"] == 2
        page = Operator(hall).get(f"/admin/organisations/{id}")
        assert page["organisation"]["used"] == 2 * used
    # the next process knows what was used, from the usage by day
    service = Service(config, open_database(config, tmp_path), Registry(hall.service.registry.served))
    with running(make_app(service), service) as url:
        assert ask(hall, key, url=url).status_code == 429
        assert ask(hall, free, url=url).status_code == 200


def test_a_month_begins_at_nothing(tmp_path: Path) -> None:
    engine = open_database(configuration(), tmp_path)
    now = [datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()]
    caller = Caller("key_1", "org_1", "x", monthly_tokens=100)
    spending = Spending(engine, clock=lambda: now[0])
    spending.add("org_1", 95)
    spending.check(caller, 5)
    with pytest.raises(TooMany, match="has used 95"):
        spending.check(caller, 6)
    now[0] += 1
    spending.check(caller, 100)
    assert spending.used("org_1") == 0
    engine.dispose()


def test_only_this_month_counts(tmp_path: Path) -> None:
    engine = open_database(configuration(), tmp_path)
    zero = dict.fromkeys(("requests", "refused", "cached_tokens"), 0)
    with writing(engine) as c:
        for day, tokens in (("2026-11-30", 1000), ("2026-12-01", 3), ("2026-12-31", 4), ("2027-01-01", 500)):
            row = {"key": "key_anonymous", "day": day, "model": "m", "input_tokens": tokens, "output_tokens": 1}
            c.execute(USAGE.insert().values(**row, **zero))
    at = datetime(2026, 12, 15, tzinfo=UTC).timestamp()
    assert Spending(engine, clock=lambda: at).used("org_local") == 9
    engine.dispose()


def test_no_operator_shuts_an_owners_key_by_a_failing_disk(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    hall.key("owners", ("admin",))
    (id,) = [row.id for row in hall.rows(KEYS) if row.organisation == hall.organisations["owners"]]

    def full(work: Any) -> None:
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(hall.service.room, "write", full)
    shut = list[str]()
    monkeypatch.setattr(hall.service.keyring, "shut", shut.append)
    visit: Any = SimpleNamespace(
        service=hall.service,
        part=lambda name: id,
        caller=SimpleNamespace(key="key_mine"),
        may=lambda right: False,
        role="operator",
    )
    with pytest.raises(ApiError, match="scope admin"):
        revoke_key(visit)
    assert shut == []


def test_a_rotated_key_has_two_secrets_for_a_while(hall: Hall) -> None:
    operator, old = Operator(hall), hall.key("turning", limits={"concurrency": 3})
    with reading(hall.service.database) as c:
        id = find_caller(c, old).key
    made = operator.post(f"/admin/keys/{id}/rotate", hours=2).json()
    new = made["secret"]
    assert re.fullmatch(r"sk-charter-[\w-]{43}", new) and new != old and made["limits"]["concurrency"] == 3
    assert [ask(hall, one).status_code for one in (old, new)] == [200, 200]
    with reading(hall.service.database) as c:
        key = find_key(c, id)
    assert key.former_until
    with writing(hall.service.database) as c:  # the overlap is over
        c.execute(KEYS.update().where(KEYS.c.id == id).values(former_until=time.time() - 1))
    hall.service.keyring.forget()
    expired = ask(hall, old)
    assert expired.status_code == 401 and "expired" in expired.text and ask(hall, new).status_code == 200
    newest = operator.post(f"/admin/keys/{id}/rotate", hours=0).json()["secret"]
    assert [ask(hall, one).status_code for one in (old, new, newest)] == [401, 401, 200]
    operator.post(f"/admin/keys/{id}/rotate", hours=5)
    operator.post(f"/admin/keys/{id}/revoke")
    assert ask(hall, newest).status_code == 401, "revoking ends both secrets"
    for hours in (-1, 721, "x"):
        assert operator.post(f"/admin/keys/{id}/rotate", hours=hours).status_code in (400, 409)
    stored = json.dumps([str(row) for row in hall.rows(KEYS)])
    with reading(hall.service.database) as c:
        log = str(search_acts(c, Wanted(whose=id))[0])
    assert not any(secret in stored + log for secret in (old, new, newest))


def test_the_anonymous_caller_has_no_secret_to_rotate(hall: Hall) -> None:
    with pytest.raises(Refusal, match="no secret"), writing(hall.service.database) as c:
        rotate(c, "key_anonymous", 1)
    with pytest.raises(KeyRefused), reading(hall.service.database) as c:
        find_caller(c, "none")


def test_an_organisations_data_is_exported_without_secrets_and_forgotten(hall: Hall) -> None:
    operator, old = Operator(hall), hall.key("leaving")
    id = hall.organisations["leaving"]
    answer = ask(hall, old)
    thumb = {"request_id": answer.headers["request-id"], "thumb": "down", "words": "canary-7"}
    assert post(f"{hall.url}/v1/feedback", json=thumb, headers={"x-api-key": old}).status_code == 200
    with reading(hall.service.database) as c:
        key = find_caller(c, old).key
    operator.post(f"/admin/keys/{key}/rotate", hours=9)
    exported = operator.post(f"/admin/organisations/{id}/export")
    rows = [json.loads(line) for line in exported.text.splitlines()]
    assert {"organisations", "keys", "feedback", "usage"} <= {row["table"] for row in rows}
    assert "canary-7" in exported.text and not any({"digest", "former"} & row.keys() for row in rows)
    assert operator.post(f"/admin/organisations/{id}/forget").status_code == 400
    assert operator.post(f"/admin/organisations/{id}/forget", sure="yes").json()["feedback"] == 1
    assert not [row for row in hall.rows(FEEDBACK) if row.organisation == id]
    with reading(hall.service.database) as c:
        noted = [row.act.what for row in search_acts(c, Wanted(whose=id))[0]]
    assert noted == ["organisation.forget", "organisation.export"]
