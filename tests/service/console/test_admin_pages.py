"""The admin pages by HTTP: who comes in, what forms must prove, what each screen does, and the same as JSON."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lobby import MODEL, Hall, Said, configuration, open_hall, until, watching

from charter_service.accounts.keys import find_key, revoke
from charter_service.accounts.tables import CASES, DECISIONS, SESSIONS
from charter_service.api.admin_entrance import Desk
from charter_service.console.conduct import texts_of
from charter_service.web.database import reading, writing

VERSION = {"anthropic-version": "2023-06-01"}
SCREENS = (
    "/admin",
    "/admin/organisations",
    "/admin/keys",
    "/admin/limits",
    "/admin/usage",
    "/admin/policy",
    "/admin/decisions",
    "/admin/queue",
    "/admin/standings",
    "/admin/engines",
    "/admin/batches",
    "/admin/members",
    "/admin/people",
    "/admin/audit",
)

# a context of its own would be made for each request
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
get, post = partial(httpx.get, verify=CONTEXT), partial(httpx.post, verify=CONTEXT)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    config = configuration(policy={"state": "on", "keep_content": True})
    said = Said("Hello", " there")
    with open_hall(tmp_path_factory.mktemp("hall"), config, watching("poison"), said=said) as found:
        yield found


@pytest.fixture
def hall(served: Hall) -> Hall:
    """The served hall, with nobody's tries counted."""
    served.desk.entries = Desk().entries
    return served


class Admin:
    """A browser that has entered."""

    def __init__(self, hall: Hall, key: str | None = None) -> None:
        self.hall, self.key = hall, key or hall.key("house", ("admin",))
        answer = post(f"{hall.url}/admin/enter", data={"key": self.key})
        assert answer.status_code == 303 and answer.headers["location"] == "/admin"
        self.said = answer.headers["set-cookie"]
        self.cookie = {"cookie": self.said.partition(";")[0]}

    def get(self, path: str, **headers: str) -> httpx.Response:
        return get(self.hall.url + path, headers={**self.cookie, **headers}, timeout=30)

    def form(self, page: str, action: str) -> dict[str, str]:
        """The hidden fields of a form on a page."""
        forms = re.findall(r"<form ([^>]*)>(.*?)</form>", self.get(page).text, re.DOTALL)
        (inner,) = [inner for head, inner in forms if f'action="{action}"' in head and "post" in head][:1]
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', inner))

    def send(self, page: str, action: str, **fields: Any) -> httpx.Response:
        """Sends a form of a page."""
        return self.post(action, **{**self.form(page, action), **fields})

    def post(self, action: str, **fields: Any) -> httpx.Response:
        return post(self.hall.url + action, data=fields, headers=self.cookie, timeout=30)


def program(hall: Hall, scope: str = "admin") -> dict[str, str]:
    return {"x-api-key": hall.key("house", (scope,))}


def ask(hall: Hall, key: str, text: str) -> str:
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
    answer = post(f"{hall.url}/v1/messages", json=body, headers={"x-api-key": key, **VERSION}, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["request-id"])


def test_only_a_key_with_the_scope_admin_enters(hall: Hall) -> None:
    for place in SCREENS:
        assert get(hall.url + place).headers["location"] == "/admin/enter"
        assert get(f"{hall.url}{place}?format=json").status_code == 401
        refused = get(hall.url + place, headers={"x-api-key": hall.key()})
        assert refused.status_code == 403 and "scope admin" in refused.text
    low = hall.key()
    answer = post(f"{hall.url}/admin/enter", data={"key": low})
    assert answer.status_code == 403 and low not in answer.text and "set-cookie" not in answer.headers
    for wrong in ("", "sk-charter-" + "x" * 43, "x" * 5000):
        assert post(f"{hall.url}/admin/enter", data={"key": wrong}).status_code == 401
    site = {"sec-fetch-site": "cross-site"}
    key = hall.key("house", ("admin",))
    assert post(f"{hall.url}/admin/enter", data={"key": key}, headers=site).status_code == 403


def test_who_tries_too_often_waits(hall: Hall) -> None:
    answers = [post(f"{hall.url}/admin/enter", data={"key": "no"}) for _ in range(11)]
    assert [one.status_code for one in answers] == [401] * 10 + [429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    good = post(f"{hall.url}/admin/enter", data={"key": hall.key("house", ("admin",))})
    assert good.status_code == 303, "somebody's guesses keep no owner of a key out"


def test_another_site_s_page_is_known_by_its_origin_too(hall: Hall) -> None:
    """Over plain http to another machine browsers send no Sec-Fetch-Site."""
    key = hall.key("house", ("admin",))
    for origin, status in ((hall.url, 303), ("https://evil.example", 403), ("null", 403), ("http://[", 403)):
        answer = post(f"{hall.url}/admin/enter", data={"key": key}, headers={"origin": origin})
        assert answer.status_code == status, origin


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(JSON | st.fixed_dictionaries({"messages": JSON}, optional={"reply": JSON}))
def test_whatever_is_sent_with_a_report_can_be_shown(content: Any) -> None:
    shown = texts_of(json.dumps(content))
    assert all(isinstance(one["text"], str) and isinstance(one["whose"], str) for one in shown)
    assert shown or content is None or content.get("messages") == []


def test_the_cookie_is_strict_and_ends(hall: Hall) -> None:
    admin = Admin(hall)
    said = admin.said.lower()
    assert "httponly" in said and "samesite=strict" in said and "path=/admin" in said and "secure" not in said
    behind = post(f"{hall.url}/admin/enter", data={"key": admin.key}, headers={"x-forwarded-proto": "https"})
    assert "secure" in behind.headers["set-cookie"].lower()
    token = admin.cookie["cookie"].partition("=")[2]
    assert all(token not in str(row) for row in hall.rows(SESSIONS))
    for place in SCREENS:
        answer = admin.get(place)
        assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
        assert admin.key not in answer.text and token not in answer.text
    assert admin.send("/admin", "/admin/leave").headers["location"] == "/admin/enter?left=1"
    assert admin.get("/admin").status_code == 303
    other = Admin(hall)
    with writing(hall.service.database) as connection:
        id = hall.service.keyring.find_caller(other.key).key
        revoke(connection, id)
    assert other.get("/admin").status_code == 303


def test_forged_and_replayed_forms_are_refused(hall: Hall) -> None:
    admin, other = Admin(hall), Admin(hall)
    fields = {"name": "k", "new_organisation": "forgers", "scopes": "messages"}
    proof = admin.form("/admin/keys", "/admin/keys")
    site = {**admin.cookie, "sec-fetch-site": "cross-site"}
    assert post(f"{hall.url}/admin/keys", data={**fields, **proof}, headers=site).status_code == 403
    assert admin.post("/admin/keys", **fields).status_code == 403
    assert admin.post("/admin/keys", **fields, csrf="0.x.y").status_code == 403
    assert other.post("/admin/keys", **fields, **proof).status_code == 403
    assert admin.post("/admin/leave").status_code == 403
    wrong = admin.post("/admin/keys", **{**fields, "scopes": "none"}, **proof)
    assert wrong.status_code == 400 and "no scope" in wrong.text
    assert admin.post("/admin/keys", **fields, **proof).status_code == 303
    again = admin.post("/admin/keys", **fields, **proof)
    assert again.status_code == 409 and "already sent" in again.text
    keys = admin.get("/admin/keys?format=json").json()["keys"]
    assert len([key for key in keys if key["organisation"] == "forgers"]) == 1


def test_a_key_is_made_shown_once_limited_and_revoked(hall: Hall) -> None:
    admin = Admin(hall)
    fields = {"name": "<i>robot</i>", "new_organisation": "makers", "scopes": ["messages", "feedback"], "days": "30"}
    made = admin.send("/admin/keys", "/admin/keys", **fields, models=MODEL, requests_per_minute="7")
    assert made.headers["location"] == "/admin/keys/made"
    page = admin.get("/admin/keys/made").text
    (secret,) = re.findall(r"sk-charter-[\w-]{43}", page)
    assert "&lt;i&gt;robot" in page and "<i>robot" not in page
    gone = admin.get("/admin/keys/made")
    assert gone.status_code == 404 and secret not in gone.text
    ask(hall, secret, "hello")
    row = key_row(hall, admin, secret)
    assert row["scopes"] == ["messages", "feedback"] and row["models"] == [MODEL] and row["state"] == "usable"
    assert row["limits"]["requests_per_minute"] == 7 and row["expires"] and secret not in str(row)
    place = f"/admin/keys/{row['id']}"
    admin.send("/admin/keys", f"{place}/limits", requests_per_minute="1", concurrency="")
    assert key_row(hall, admin, secret)["limits"]["requests_per_minute"] == 1
    assert admin.send("/admin/keys", f"{place}/limits", concurrency="-3").status_code == 400
    assert admin.send("/admin/keys", f"{place}/revoke").status_code == 303
    refused = post(f"{hall.url}/v1/messages", json={}, headers={"x-api-key": secret, **VERSION})
    assert refused.status_code == 401 and "revoked" in refused.text


def key_row(hall: Hall, admin: Admin, secret: str) -> dict[str, Any]:
    (row,) = [key for key in admin.get("/admin/keys?format=json").json()["keys"] if key["hint"] == secret[-4:]]
    return dict(row)


def test_an_organisation_is_shut_out_and_let_in(hall: Hall) -> None:
    admin, key = Admin(hall), hall.key("shut")
    ask(hall, key, "hello")
    place = f"/admin/organisations/{hall.organisations['shut']}"
    admin.send(place, place)
    refused = get(f"{hall.url}/v1/models", headers={"x-api-key": key})
    assert refused.status_code == 401 and "disabled" in refused.text
    admin.send(place, place)
    assert get(f"{hall.url}/v1/models", headers={"x-api-key": key}).status_code == 200
    own = f"/admin/organisations/{hall.organisations['house']}"
    assert post(hall.url + own, json={"disabled": "yes"}, headers=program(hall)).status_code == 409


def test_usage_is_shown_and_downloaded(hall: Hall) -> None:
    admin, key = Admin(hall), hall.key("=cmd()")
    ask(hall, key, "hello there")
    ask(hall, key, "poison")
    owner = hall.organisations["=cmd()"]
    found = admin.get(f"/admin/usage?organisation={owner}&format=json").json()
    (row,) = found["rows"]
    assert (row["requests"], row["refused"], row["model"]) == (2, 1, MODEL)
    assert row["output_tokens"] == 3 and found["total"]["requests"] == 2
    table = admin.get(f"/admin/usage?organisation={owner}&format=csv")
    assert table.headers["content-disposition"].startswith("attachment")
    (line,) = csv.DictReader(io.StringIO(table.text))
    assert line["organisation"] == "'=cmd()" and line["requests"] == "2"
    page = admin.get(f"/admin/usage?organisation={owner}").text
    assert '<rect class="wrote"' in page and "=cmd()" in page
    assert admin.get("/admin/usage?since=yesterday").status_code == 400
    assert admin.get("/admin/usage?organisation=nobody").status_code == 404


def test_a_flag_goes_through_the_queue(hall: Hall) -> None:
    admin, key = Admin(hall), hall.key("flagged")
    id, owner = ask(hall, key, "where to buy <poison>"), hall.organisations["flagged"]
    (case,) = admin.get(f"/admin/queue?organisation={owner}&format=json").json()["cases"]
    assert (case["kind"], case["request"], case["content"]) == ("flag", id, True)
    assert "&lt;poison&gt;" not in admin.get(f"/admin/queue?organisation={owner}").text
    place = f"/admin/queue/{case['id']}"
    page = admin.get(place).text
    veil = page.index('<details class="veil')
    assert veil < page.index("&lt;poison&gt;") and " open" not in page[veil : veil + 40]
    second = admin.form(place, place)
    assert admin.send(place, place, verdict="perhaps").status_code == 400
    closed = admin.send(place, place, verdict="dismissed", note="They teach chemistry.")
    assert closed.headers["location"] == place
    late = admin.post(place, **second, verdict="upheld")
    assert late.status_code == 409 and "dismissed by test" in late.text
    page = admin.get(place).text
    assert "Dismissed by test" in page and "They teach chemistry." in page and 'name="verdict"' not in page
    one = admin.get(f"/admin/requests/{id}?format=json").json()
    assert [(d["action"], d["side"]) for d in one["decisions"]] == [("block", "prompt")]
    assert admin.get("/admin/requests/req_none").status_code == 404
    assert admin.get("/admin/queue/case_none").status_code == 404
    (audit,) = [a for a in admin.get("/admin/policy?format=json").json()["audit"] if a["category"] == case["category"]]
    assert audit["dismissed"] >= 1


def test_a_language_that_isnt_screened_stands_beside_the_decision_and_weighs_nothing(hall: Hall) -> None:
    admin, key = Admin(hall), hall.key("germans")
    id, english = (ask(hall, key, text) for text in ("Wie spät ist es und wo bin ich?", "What time is it?"))
    for page in (f"/admin/requests/{id}", f"/admin/decisions?request={id}"):
        assert "language not screened: de" in admin.get(page).text
    assert "not screened" not in admin.get(f"/admin/requests/{english}").text
    (row,) = admin.get(f"/admin/requests/{id}?format=json").json()["decisions"]
    assert (row["action"], row["unscreened"]) == ("allow", "de")
    assert not [case for case in hall.rows(CASES) if case.request == id]


def test_decisions_are_found_and_the_chain_is_read(hall: Hall) -> None:
    admin, key = Admin(hall), hall.key("seekers")
    ids = [ask(hall, key, text) for text in ("hello", "poison", "good day")]
    owner = hall.organisations["seekers"]

    def found(query: str) -> list[str]:
        rows = admin.get(f"/admin/decisions?format=json&{query}").json()["decisions"]
        return [row["request"] for row in rows]

    assert found(f"organisation={owner}") == ids[::-1] == found("organisation=seekers")
    assert found("organisation=seekers&acted=yes") == [ids[1]] == found("organisation=seekers&action=block")
    assert found(f"request={ids[2]}") == [ids[2]] and found("category=no_such") == []
    last = max(row.number for row in hall.rows(DECISIONS))
    assert ids[2] not in found(f"before={last}&organisation=seekers")
    assert "was not read yet" in admin.get("/admin/decisions").text or "intact" in admin.get("/admin/decisions").text
    checked = admin.get("/admin/decisions?verify=yes&format=json").json()
    assert checked["checked"]["intact"] is True and checked["checked"]["rows"] == last
    assert "intact" in admin.get("/admin/decisions").text
    assert admin.get("/admin/decisions?before=x").status_code == 400
    assert admin.get("/admin/decisions?category=" + "x" * 300).status_code == 400


def test_what_nobody_checked_is_not_shown_as_allowed(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("Hello")) as hall:
        admin = Admin(hall, hall.key("house", ("admin", "messages", "feedback")))
        body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        headers = {**VERSION, "x-api-key": admin.key}
        id = post(f"{hall.url}/v1/messages", json=body, headers=headers, timeout=30).headers["request-id"]
        (row,) = admin.get(f"/admin/decisions?format=json&request={id}").json()["decisions"]
        assert (row["checked"], row["action"], row["threshold"]) == (False, "allow", 1.0)
        cells = re.findall(r"<td[^>]*>(.*?)</td>", admin.get(f"/admin/decisions?request={id}").text)
        assert cells[-5:] == ["not checked", "–", "–", "–", "–"]
        (decision,) = get(f"{hall.url}/v1/requests/{id}", headers=headers).json()["decisions"]
        assert (decision["action"], decision["score"], decision["threshold"]) == ("allow", None, None)


def test_what_was_checked_and_allowed_is_shown_with_its_score(tmp_path: Path) -> None:
    with open_hall(tmp_path, configuration(policy={"state": "on"}), watching("poison")) as hall:
        admin = Admin(hall, hall.key("house", ("admin", "messages", "feedback")))
        body = {"model": MODEL, "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]}
        headers = {**VERSION, "x-api-key": admin.key}
        id = post(f"{hall.url}/v1/messages", json=body, headers=headers, timeout=30).headers["request-id"]
        (row,) = admin.get(f"/admin/decisions?format=json&request={id}").json()["decisions"]
        assert (row["checked"], row["action"], row["side"]) == (True, "allow", "request")
        assert (row["score"], row["threshold"]) == (0.1, 0.5)


def test_decisions_come_by_pages(hall: Hall) -> None:
    admin, key = Admin(hall), hall.key("many")
    ids = [ask(hall, key, "hello") for _ in range(52)]
    first = admin.get("/admin/decisions?organisation=many&format=json").json()
    assert [row["request"] for row in first["decisions"]] == ids[:1:-1]
    more = admin.get(f"/admin/decisions?organisation=many&format=json&before={first['before']}").json()
    assert [row["request"] for row in more["decisions"]] == ids[1::-1] and more["before"] is None
    assert f"before={first['before']}" in admin.get("/admin/decisions?organisation=many").text


def test_a_level_is_set_with_a_reason(hall: Hall) -> None:
    admin, key = Admin(hall), hall.key("climbers")
    place = f"/admin/standings/{hall.organisations['climbers']}"
    stale = admin.form(place, place)
    assert admin.send(place, place, level="suspended", reason=" ").status_code == 400
    assert admin.send(place, place, level="lost", reason="x").status_code == 400
    assert admin.send(place, place, level="suspended", reason="sold on <b>").headers["location"] == place
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    refused = post(f"{hall.url}/v1/messages", json=body, headers={"x-api-key": key, **VERSION})
    assert refused.status_code == 403 and "sold on" in refused.text
    late = admin.post(place, **stale, level="good", reason="never mind")
    assert late.status_code == 409 and "changed meanwhile" in late.text
    page = admin.get(place).text
    assert "sold on &lt;b&gt;" in page and "test (key_" in page
    first = admin.get("/admin/standings?format=json").json()["standings"][0]
    assert first["level"] == "suspended"
    assert admin.get("/admin/standings/org_none").status_code == 404
    assert admin.send(place, place, level="good", reason="talked to them").status_code == 303
    ask(hall, key, "hello")


def test_programs_do_the_same_with_a_key(hall: Hall) -> None:
    headers = program(hall)
    for place in SCREENS:
        answer = get(hall.url + place, headers=headers)
        assert answer.headers["content-type"] == "application/json" and answer.json()
    made = post(
        f"{hall.url}/admin/keys",
        json={"name": "robot", "organisation": "machines", "scopes": ["messages"], "concurrency": 2},
        headers=headers,
    ).json()
    assert made["secret"].startswith("sk-charter-") and made["limits"]["concurrency"] == 2
    ask(hall, made["secret"], "hello")
    with reading(hall.service.database) as connection:
        assert find_key(connection, made["id"]).organisation == "machines"
    gone = post(f"{hall.url}/admin/keys/{made['id']}/revoke", headers=headers, json={})
    assert gone.json()["state"] == "revoked"
    for body in ([], {"name": {"a": 1}}, {"name": "x"}, {"name": "x", "organisation": "machines", "scopes": []}):
        refused = post(f"{hall.url}/admin/keys", json=body, headers=headers)
        assert refused.status_code == 400 and refused.json()["error"]["message"]
    assert post(f"{hall.url}/admin/keys/key_none/revoke", json={}, headers=headers).status_code == 404
    own = get(f"{hall.url}/admin/keys", headers=headers).json()["keys"]
    (mine,) = [key for key in own if key["hint"] == headers["x-api-key"][-4:]]
    kept = post(f"{hall.url}/admin/keys/{mine['id']}/revoke", json={}, headers=headers)
    assert kept.status_code == 409


def test_batches_in_work_and_engines(hall: Hall) -> None:
    key = hall.key("batchers", ("messages", "batches"))
    params = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    said = hall.service.registry.served[0].backend
    said.gate.clear()  # type: ignore[attr-defined]
    try:
        items = {"requests": [{"custom_id": "a", "params": params}, {"custom_id": "b", "params": params}]}
        answer = post(f"{hall.url}/v1/messages/batches", json=items, headers={"x-api-key": key, **VERSION}, timeout=30)
        admin = Admin(hall)
        (row,) = admin.get("/admin/batches?format=json").json()["batches"]
        assert (row["id"], row["size"], row["state"]) == (answer.json()["id"], 2, "in_progress")
        assert "0 of 2" in admin.get("/admin/batches").text
    finally:
        said.gate.set()  # type: ignore[attr-defined]
    until(lambda: not admin.get("/admin/batches?format=json").json()["batches"])
    models = admin.get("/admin/engines?format=json").json()["models"]
    assert models[0]["id"] == MODEL
    overview = admin.get("/admin?format=json").json()
    assert overview["today"]["requests"] >= 2 and overview["policy"].startswith("charter-aup")


def test_no_secret_is_logged(hall: Hall, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="charter_service.api"):
        admin = Admin(hall)
        made = admin.send("/admin/keys", "/admin/keys", name="k", organisation="house", scopes="admin")
        assert made.status_code == 303
        (secret,) = re.findall(r"sk-charter-[\w-]{43}", admin.get("/admin/keys/made").text)
        admin.get(f"/admin/decisions?request={secret}")
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "/admin/keys/made" in said
    assert secret not in said and admin.key not in said and admin.cookie["cookie"] not in said
