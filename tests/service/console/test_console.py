"""Persons on the admin pages: one login with the chat, what each role may do, and attacks on it."""

from __future__ import annotations

import csv
import io
import json
import re
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall, until, watching

from charter_service.accounts.tables import CASES
from charter_service.api.admin_entrance import Desk
from charter_service.console.listing import csv_of
from charter_service.console.routes import ROUTES
from charter_service.people import members, workers
from charter_service.people.tables import CHATS, PEOPLE, TOKENS
from charter_service.people.workers import CONSOLE_ROLES, allows
from charter_service.web.audit import Wanted, search_acts, verify_acts
from charter_service.web.database import reading, writing
from charter_service.web.tokens import proof_of

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
get, post = partial(httpx.get, verify=CONTEXT), partial(httpx.post, verify=CONTEXT)
BODY = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "poison, please"}]}
VERSION = {"anthropic-version": "2023-06-01"}
READ = ("/admin", "/admin/organisations", "/admin/keys", "/admin/limits", "/admin/usage", "/admin/policy")
REVIEW = ("/admin/decisions", "/admin/queue", "/admin/standings")
OWN = ("/admin/members", "/admin/people", "/admin/audit")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    config = configuration(policy={"state": "on", "keep_content": True})
    with open_hall(tmp_path_factory.mktemp("hall"), config, watching("poison"), said=Said("Hello", " there")) as opened:
        yield opened


@pytest.fixture
def hall(served: Hall) -> Hall:
    served.desk.entries = Desk().entries
    return served


class Person:
    """A person with a browser; `key`: their personal key."""

    serial = 0

    def __init__(self, hall: Hall, console: str = "", enter: bool = True) -> None:
        Person.serial += 1
        self.hall, self.name = hall, f"person {Person.serial}"
        with writing(hall.service.people.engine()) as c:
            role = "admin" if console == "owner" else "member"
            who, self.key = workers.join(c, workers.invite(c, role, console=console), self.name)
        self.id, self.cookie = who.id, dict[str, str]()
        if enter:
            answer = post(f"{hall.url}/admin/enter", data={"key": self.key})
            assert answer.status_code == 303, answer.text
            (said,) = [one for one in answer.headers.get_list("set-cookie") if "charter_session" in one]
            assert "path=/;" in said.lower() and "httponly" in said.lower() and "strict" in said.lower()
            self.cookie = {"cookie": said.partition(";")[0]}

    @property
    def session(self) -> str:
        return self.cookie["cookie"].partition("=")[2]

    def get(self, path: str, **headers: str) -> httpx.Response:
        return get(self.hall.url + path, headers={**self.cookie, **headers}, timeout=30)

    def data(self, path: str) -> Any:
        answer = self.get(f"{path}{'&' if '?' in path else '?'}format=json")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def proof(self, page: str = "/admin") -> dict[str, str]:
        """A proof of one of this session's pages, which any form of the session may carry."""
        return {"csrf": re.findall(r'name="csrf" value="([^"]*)"', self.get(page).text)[0]}

    def send(self, action: str, **fields: Any) -> httpx.Response:
        data = {**self.proof(), **fields}
        return post(self.hall.url + action, data=data, headers=self.cookie, timeout=30)


def acts(hall: Hall, log: str = "server") -> list[Any]:
    database = hall.service.database if log == "server" else hall.service.people.engine()
    with reading(database) as c:
        assert verify_acts(c) is None
        return [row.act for row in reversed(search_acts(c, Wanted(), 10_000)[0])]


def test_each_route_has_its_right_and_each_role_its_routes(hall: Hall) -> None:
    for role in CONSOLE_ROLES:
        person = Person(hall, role)
        for right, places in (("read", READ), ("review", REVIEW), ("own", OWN)):
            for place in places:
                answer = person.get(place)
                assert answer.status_code == (200 if allows(role, right) else 403), (role, place)
                assert person.get(f"{place}?format=json").status_code == answer.status_code
        made = person.send("/admin/keys", name="k", new_organisation=f"of {role}", scopes="messages")
        assert made.status_code == (303 if allows(role, "operate") else 403), role
        upheld = person.send("/admin/queue/case_none", verdict="upheld")
        assert upheld.status_code == (404 if allows(role, "review") else 403), role
        invited = person.send("/admin/members/invite", role="owner")
        assert invited.status_code == (303 if allows(role, "own") else 403), role


def test_no_admin_route_is_open_to_strangers_or_people_without_a_role(hall: Hall) -> None:
    """Each route of the admin pages, whatever it is; also those that others add later."""
    member = Person(hall)
    open_to_all = {"/admin/enter", "/admin/join/{token}", "/admin/joined"}
    routes = [one for one in ROUTES if one.path.startswith("/admin")]
    assert len(routes) > 30
    for one in routes:
        if one.path in open_to_all:
            continue
        path = re.sub(r"{\w+}", "1", one.path)
        wanted = {"accept": "application/json"}
        stranger = httpx.request(one.method, hall.url + path, headers=wanted, verify=CONTEXT)
        assert stranger.status_code == 401, (one.method, path)
        inside = httpx.request(one.method, hall.url + path, headers=member.cookie | wanted, verify=CONTEXT)
        assert inside.status_code == 403 and "no role" in inside.text, (one.method, path)


def test_the_chat_and_these_pages_have_one_session(hall: Hall) -> None:
    """A session that the chat opens enters here, one opened here is known there, and leaving ends it for both."""
    ann = Person(hall, "analyst", enter=False)
    with writing(hall.service.people.engine()) as c:
        session = workers.open_session(c, ann.id)  # as the chat does
    ann.cookie = {"cookie": f"charter_session={session}"}
    page = ann.get("/admin")
    assert page.status_code == 200 and f"as {ann.name}, analyst" in page.text
    bob = Person(hall, "analyst")
    with reading(hall.service.people.engine()) as c:
        known = workers.person_of(c, bob.session)
    assert known and known.name == bob.name
    assert bob.send("/admin/leave").status_code == 303
    with reading(hall.service.people.engine()) as c:
        assert workers.person_of(c, bob.session) is None
    assert bob.get("/admin").status_code == 303


def test_signing_out_everywhere_ends_all_sessions_of_one_person(hall: Hall) -> None:
    ann, other = Person(hall, "analyst"), Person(hall, "analyst")
    with writing(hall.service.people.engine()) as c:
        elsewhere = workers.open_session(c, ann.id)
    assert ann.send("/admin/leave/everywhere").status_code == 303
    assert ann.get("/admin").status_code == 303 and other.get("/admin").status_code == 200
    with reading(hall.service.people.engine()) as c:
        assert workers.person_of(c, elsewhere) is None
    key = hall.key("house", ("admin",))
    cookies = []
    for _ in range(2):
        said = post(f"{hall.url}/admin/enter", data={"key": key}).headers["set-cookie"]
        cookies.append({"cookie": said.partition(";")[0]})
    page = get(f"{hall.url}/admin", headers=cookies[0]).text
    proof = {"csrf": re.findall(r'name="csrf" value="([^"]*)"', page)[0]}
    assert post(f"{hall.url}/admin/leave/everywhere", data=proof, headers=cookies[0]).status_code == 303
    assert [get(f"{hall.url}/admin", headers=one).status_code for one in cookies] == [303, 303]


def test_a_change_of_role_holds_in_open_sessions_at_once(hall: Hall) -> None:
    owner, bob = Person(hall, "owner"), Person(hall, "operator")
    proof = bob.proof()
    assert owner.send(f"/admin/members/{bob.id}/role", role="analyst", was="operator").status_code == 303
    stale = post(
        f"{hall.url}/admin/keys",
        data={**proof, "name": "k", "new_organisation": "late", "scopes": "messages"},
        headers=bob.cookie,
    )
    assert stale.status_code == 403 and bob.get("/admin").status_code == 200
    assert owner.send(f"/admin/members/{bob.id}/role", role="none", was="analyst").status_code == 303
    refused = bob.get("/admin")
    assert refused.status_code == 403 and "no role" in refused.text
    again = owner.send(f"/admin/members/{bob.id}/role", role="owner", was="analyst")
    assert again.status_code == 409, "the page that it was sent from is out of date"
    owner.send(f"/admin/members/{bob.id}/role", role="analyst", was="none")
    assert bob.get("/admin").status_code == 200
    assert owner.send(f"/admin/people/{bob.id}", suspended="yes").status_code == 303
    assert bob.get("/admin").status_code == 303, "suspended: the session has ended"


def test_a_deleted_persons_open_session_ends(hall: Hall) -> None:
    owner, bob = Person(hall, "owner"), Person(hall, "operator")
    proof = bob.proof()
    assert owner.send(f"/admin/people/{bob.id}/forget").status_code == 400, "not sure"
    assert owner.send(f"/admin/people/{bob.id}/forget", sure="yes").status_code == 303
    assert bob.get("/admin").status_code == 303
    late = post(f"{hall.url}/admin/organisations", data={**proof, "name": "late 2"}, headers=bob.cookie)
    assert late.status_code == 401
    with reading(hall.service.people.engine()) as c, pytest.raises(Exception, match="no person"):
        members.find_member(c, bob.id)
    assert bob.key not in json.dumps([one.before + one.after for one in acts(hall, "people")])


def test_nobody_raises_a_role(hall: Hall) -> None:
    """Forged fields, the own role, keys that own, and requests of others."""
    operator, reviewer = Person(hall, "operator"), Person(hall, "reviewer")
    for person, was in ((operator, "operator"), (reviewer, "reviewer")):
        for target in (person, operator):
            answer = person.send(f"/admin/members/{target.id}/role", role="owner", was=was)
            assert answer.status_code == 403
        forged = person.send("/admin/organisations", name=f"by {was}", role="owner", console="owner", by="ann")
        assert forged.status_code == (303 if was == "operator" else 403)
    made = operator.send("/admin/keys", name="k", new_organisation="up", scopes=["messages", "admin"])
    assert made.status_code == 403 and "owner" in made.text
    hall.key("house", ("admin",))
    keys = operator.data("/admin/keys")["keys"]
    (admins, *_) = [one["id"] for one in keys if "admin" in one["scopes"] and one["state"] == "usable"]
    for action, fields in (("rotate", {"hours": "0"}), ("revoke", {}), ("limits", {"concurrency": "1"})):
        assert operator.send(f"/admin/keys/{admins}/{action}", **fields).status_code == 403, action
    for place in ("export", "forget"):
        id = hall.organisations["house"]
        assert operator.send(f"/admin/organisations/{id}/{place}", sure="yes").status_code == 403
    owner = Person(hall, "owner")
    unknown = owner.send(f"/admin/members/{operator.id}/role", role="root", was="operator")
    assert unknown.status_code == 400 and "expected owner" in unknown.text
    with reading(hall.service.people.engine()) as c:
        assert members.find_member(c, operator.id).console == "operator"
    assert "ann" not in {one.by for one in acts(hall)}, "who acts is the session's person"


def test_only_an_owner_stops_or_throttles_who_holds_admin_keys(hall: Hall) -> None:
    secret, plain = hall.key("holders", ("admin",)), hall.key("without")
    place = f"/admin/organisations/{hall.organisations['holders']}"
    operator, reviewer, owner = (Person(hall, role) for role in ("operator", "reviewer", "owner"))
    for action, fields in ((place, {"disabled": "yes"}), (f"{place}/limits", {"concurrency": "1"})):
        refused = operator.send(action, **fields)
        assert refused.status_code == 403 and "ask an owner" in refused.text
    standing = f"/admin/standings/{hall.organisations['holders']}"
    assert reviewer.send(standing, level="suspended", reason="no").status_code == 403
    assert reviewer.send(standing, level="good", reason="they did nothing").status_code == 303
    shown = operator.get(place).text
    assert "only an owner" in shown and "<form" not in shown.partition("only an owner")[2]
    assert get(f"{hall.url}/admin", headers={"x-api-key": secret}).status_code == 200
    logged = [one.what for one in acts(hall) if one.whose == hall.organisations["holders"]]
    assert logged == ["standing.set"], "what was refused is in no log"

    other = f"/admin/organisations/{hall.organisations['without']}"
    assert operator.send(other, disabled="yes").status_code == 303
    assert get(f"{hall.url}/v1/models", headers={"x-api-key": plain}).status_code == 401
    assert owner.send(place, disabled="yes").status_code == 303
    assert get(f"{hall.url}/admin", headers={"x-api-key": secret}).status_code == 401
    assert operator.send(place, disabled="no").status_code == 403, "nor lets an admin key in again"
    assert owner.send(place, disabled="no").status_code == 303


def test_forms_from_elsewhere_and_other_sessions_are_refused(hall: Hall) -> None:
    owner, other = Person(hall, "owner"), Person(hall, "owner")
    action, fields = f"{hall.url}/admin/members/invite", {"role": "owner"}
    proof = owner.proof("/admin/members")
    cross = {**owner.cookie, "sec-fetch-site": "cross-site"}
    assert post(action, data={**fields, **proof}, headers=cross).status_code == 403
    assert post(action, data=fields, headers=owner.cookie).status_code == 403
    assert post(action, data={**fields, **proof}, headers=other.cookie).status_code == 403
    # the chat's own proof is of the same session and another purpose
    chats = {"csrf": proof_of(owner.session, "csrf")}
    assert post(action, data={**fields, **chats}, headers=owner.cookie).status_code == 403
    assert post(action, data={**fields, **proof}, headers=owner.cookie).status_code == 303
    assert post(action, data={**fields, **proof}, headers=owner.cookie).status_code == 409, "sent twice"
    signing = post(f"{hall.url}/admin/enter", data={"key": owner.key}, headers={"sec-fetch-site": "cross-site"})
    assert signing.status_code == 403


def test_names_and_numbers_tell_nothing_to_those_without_the_right(hall: Hall) -> None:
    analyst, owner = Person(hall, "analyst"), Person(hall, "owner")
    for path in (f"/admin/members/{owner.id}/role", "/admin/members/99999/role", "/admin/people/99999/export"):
        answer = analyst.send(path, role="owner", was="none")
        assert answer.status_code == 403 and owner.name not in answer.text
    wrong = [post(f"{hall.url}/admin/enter", data={"key": key}) for key in ("x" * 43, owner.name, "person_1")]
    texts = {re.sub(r"req_\w+", "", one.text) for one in wrong}
    assert {one.status_code for one in wrong} == {401} and len(texts) == 1
    assert all(owner.name not in one for one in texts)
    for path in ("../keys", "%2e%2e", "1%00", "-1", "1e3", "٣", "9" * 40, "1;2"):
        assert owner.send(f"/admin/people/{path}/forget", sure="yes").status_code in (404, 405), path
    guesses = [post(f"{hall.url}/admin/enter", data={"key": f"{n}" * 43}).status_code for n in range(12)]
    assert 429 in guesses, "guessing is slowed down"


def test_members_join_by_a_link_that_is_shown_once(hall: Hall) -> None:
    owner = Person(hall, "owner")
    assert owner.send("/admin/members/invite", role="reviewer", days="3").headers["location"] == "/admin/members"
    page = owner.get("/admin/members").text
    (link,) = re.findall(r"http://\S+/admin/join/[\w-]{43}", page)
    assert link not in owner.get("/admin/members").text
    assert get(link).status_code == 200
    taken = post(link, data={"name": owner.name})
    assert taken.status_code == 409 and "taken" in taken.text
    assert post(link, data={"name": "<b>"}).status_code == 400
    joined = post(link, data={"name": "rita"})
    assert joined.headers["location"] == "/admin/joined"
    (said,) = [one for one in joined.headers.get_list("set-cookie") if "charter_session" in one]
    cookie = {"cookie": said.partition(";")[0]}
    key_page = get(f"{hall.url}/admin/joined", headers=cookie)
    (key,) = re.findall(r'<code id="secret">([\w-]{43})</code>', key_page.text)
    assert get(f"{hall.url}/admin/joined", headers=cookie).headers["location"] == "/admin", "shown once"
    assert get(f"{hall.url}/admin/queue", headers=cookie).status_code == 200
    assert get(f"{hall.url}/admin/members", headers=cookie).status_code == 403
    assert post(link, data={"name": "second"}).status_code == 403, "used up"
    assert get(f"{hall.url}/admin/join/{'x' * 43}").status_code == 403
    stored = str(hall.rows(CASES)) + str(_people_rows(hall, PEOPLE)) + str(_people_rows(hall, TOKENS))
    assert key not in stored and link.rpartition("/")[2] not in str(acts(hall, "people"))


def _people_rows(hall: Hall, table: Any) -> list[Any]:
    with reading(hall.service.people.engine()) as c:
        return list(c.execute(table.select()).all())


def test_decisions_are_signed_and_reading_a_case_is_an_act(hall: Hall) -> None:
    reviewer, key = Person(hall, "reviewer"), hall.key("watched")
    post(f"{hall.url}/v1/messages", json=BODY, headers={"x-api-key": key, **VERSION})
    watched = hall.organisations["watched"]
    case = until(lambda: reviewer.data(f"/admin/queue?organisation={watched}")["cases"])[0]["id"]
    before = len(acts(hall))
    page = reviewer.get(f"/admin/queue/{case}")
    assert "poison, please" in page.text
    assert [(one.what, one.whose, one.role) for one in acts(hall)[before:]] == [("case.read", case, "reviewer")]
    closed = reviewer.send(f"/admin/queue/{case}", verdict="dismissed", note="a private remark")
    assert closed.status_code == 303
    row = reviewer.data(f"/admin/queue/{case}")["case"]
    assert row["by"] == f"{reviewer.name} (person {reviewer.id})"
    upheld = reviewer.send(f"/admin/queue/{case}", verdict="upheld")
    assert upheld.status_code == 409
    last = [one for one in acts(hall) if one.what == "case.close"]
    assert len(last) == 1 and json.loads(last[0].after) == {"verdict": "dismissed"}, "a refused act has no row"
    everything = str(acts(hall))
    assert "poison" not in everything and "private remark" not in everything


def test_acts_stand_in_the_log_with_who_what_and_the_states(hall: Hall) -> None:
    owner = Person(hall, "owner")
    owner.send("/admin/keys", name="robot", new_organisation="audited", scopes="messages")
    (secret,) = re.findall(r"sk-charter-[\w-]{43}", owner.get("/admin/keys/made").text)
    (id,) = [one["id"] for one in owner.data("/admin/keys")["keys"] if one["organisation"] == "audited"]
    owner.send(f"/admin/keys/{id}/limits", requests_per_minute="7")
    owner.send(f"/admin/keys/{id}/revoke", sure="yes")
    found = owner.data(f"/admin/audit?whose={id}")["acts"]
    assert [one["what"] for one in found] == ["key.revoke", "key.limits", "key.create"]
    assert {one["by"] for one in found} == {f"{owner.name} (person {owner.id})"}
    assert found[1]["before"]["limits"]["requests_per_minute"] == 0
    assert found[1]["after"]["limits"]["requests_per_minute"] == 7
    assert found[0]["after"]["state"] == "revoked"
    assert secret not in str(acts(hall))
    assert owner.send(f"/admin/keys/{id}/rotate").status_code == 409, "revoked"
    assert len(owner.data(f"/admin/audit?whose={id}")["acts"]) == 3
    page = owner.get("/admin/audit?verify=yes")
    assert "intact" in page.text and "key.revoke" in page.text
    people = owner.data("/admin/audit?log=people&verify=yes")
    assert people["checked"]["intact"] and people["tip"].partition(":")[0].isdigit()
    assert owner.data("/admin/audit?what=nothing")["acts"] == []
    assert owner.get("/admin/audit?log=x").status_code == 400


def test_an_export_holds_no_formula(hall: Hall) -> None:
    owner = Person(hall, "owner")
    owner.send("/admin/organisations", name="=HYPERLINK(1)")
    owner.send("/admin/organisations", name='@cmd, "two"')
    with writing(hall.service.people.engine()) as c:
        workers.note(c, None, "=x")
    answer = owner.get("/admin/audit?what=organisation&format=csv")
    assert answer.headers["content-disposition"].startswith("attachment")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert any("HYPERLINK" in row["after"] for row in rows)
    assert all(not (value or "").startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for value in row.values())
    text = "".join(csv_of(["a"], [{"a": cell} for cell in ("=1", "\t=1", " =1", "\r-1", -5, "fine")]))
    assert [row["a"] for row in csv.DictReader(io.StringIO(text, newline=""))] == [
        "'=1",
        "'\t=1",
        "' =1",
        "'\r-1",
        "-5",
        "fine",
    ]


def test_people_are_counted_exported_and_forgotten(hall: Hall) -> None:
    owner, bob = Person(hall, "owner"), Person(hall)
    listed = owner.data(f"/admin/people?name={bob.name}")["members"]
    (row,) = [one for one in listed if one["id"] == bob.id]
    assert row["console"] == "" and row["chats"] == 0
    chat = {"id": "c_export", "person": bob.id, "title": "Half an emoji", "titled": False, "model": "m"}
    chat |= {"leaf": "", "draft": "", "pinned": False, "archived": False, "created": 1.0, "touched": 2.0}
    with writing(hall.service.people.engine()) as c:
        c.execute(CHATS.insert().values(**chat))
    data = owner.send(f"/admin/people/{bob.id}/export")
    rows = [json.loads(line) for line in data.text.splitlines()]
    assert {"person", "events", "chats"} <= {row["table"] for row in rows} and bob.key not in data.text
    assert [row["name"] for row in rows if row["table"] == "person"] == [bob.name]
    assert [row["title"] for row in rows if row["table"] == "chats"] == ["Half an emoji"]
    assert "attachment" in data.headers["content-disposition"]
    assert owner.send("/admin/people/99999/export").status_code == 404
    assert owner.send(f"/admin/people/{owner.id}", suspended="yes").status_code == 409, "oneself"
    noted = [one.what for one in acts(hall, "people") if one.whose == f"person_{bob.id}"]
    assert noted == ["member.export"]
    assert owner.data("/admin/people?name=nobody-is-called-so")["members"] == []
    assert "Nobody matches" in owner.get("/admin/people?name=nobody-is-called-so").text


def test_programs_with_a_key_do_the_same(hall: Hall) -> None:
    """A key with the scope admin owns, whichever models it may use."""
    headers = {"x-api-key": hall.key("house", ("admin",), models=(MODEL,))}
    person = Person(hall)
    invited = post(f"{hall.url}/admin/members/invite", json={"role": "analyst"}, headers=headers)
    assert invited.status_code == 200 and "/admin/join/" in invited.json()["link"]
    changed = post(f"{hall.url}/admin/members/{person.id}/role", json={"role": "analyst", "was": ""}, headers=headers)
    assert changed.json()["console"] == "analyst"
    assert person.get("/admin").status_code == 200
    plain = {"x-api-key": hall.key("house", ("messages",))}
    refused = post(f"{hall.url}/admin/members/invite", json={"role": "owner"}, headers=plain)
    assert refused.status_code == 403
    with_both = {**plain, **Person(hall, "owner").cookie}
    assert get(f"{hall.url}/admin/members", headers=with_both).status_code == 403, "a sent key decides alone"


def test_without_a_database_of_people_keys_open_the_pages(tmp_path: Path) -> None:
    with open_hall(tmp_path, configuration(), said=Said("Hello")) as hall:
        headers = {"x-api-key": hall.key("house", ("admin",))}
        for place in ("/admin/members", "/admin/people", "/admin/audit?log=people"):
            assert get(f"{hall.url}{place}", headers=headers).status_code == 200, place
        stray = get(f"{hall.url}/admin", headers={"cookie": f"charter_session={'x' * 43}"})
        assert stray.status_code == 303
        assert post(f"{hall.url}/admin/enter", data={"key": "y" * 43}).status_code == 401
        assert not (tmp_path / "people.sqlite").exists(), "nothing was made that nobody needs"
        (tmp_path / "people.sqlite").write_bytes(b"this is no database" * 100)
        broken = get(f"{hall.url}/admin", headers={"cookie": f"charter_session={'x' * 43}"})
        assert broken.status_code == 503 and "people" in broken.text
        assert get(f"{hall.url}/admin", headers=headers).status_code == 200
