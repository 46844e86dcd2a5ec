"""The service among people who mean harm: whatever they send, it changes only what is theirs, and shows as mere text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hall import PLAIN, SECRET, Guest, Hall, configuration, hidden, open_hall
from sqlalchemy import update

from charter.ground.text.ballot import TAGS
from charter_service.arena.app import ROUTES
from charter_service.people.tables import CONVERSATIONS, EVENTS, METADATA, PEOPLE, REVIEWS, TOKENS, TURNS, VOTES
from charter_service.people.workers import invite
from charter_service.web.database import writing

NOT_MINE = "0123456789abcdef" * 2
FILLED = {"token": "x" * 43, "axis": "helpful", "id": NOT_MINE}
PUBLIC = {"/join/{token}", "/enter"}
POSTS = sorted({place for method, place, _ in ROUTES if method == "POST" and place not in PUBLIC})
HOSTILE = (
    "{{7*7}}${7*7}<%= 7*7 %>{% raw %}",
    "</textarea><script>alert(1)</script>",
    "</div></details></form><form action=https://evil.example method=post><input name=csrf>",
    "\"><img src=x onerror=alert(1)> '><svg/onload=alert(1)>",
    "javascript:alert(1) [click](javascript:alert(1)) ![x](https://evil.example/x.png)",
    "<!-- --><a href='//evil.example'>x</a><base href=//evil.example><meta http-equiv=refresh content=0>",
    "</title></head></body></html><body onload=alert(1)><template><plaintext>",
    "<style>*{display:none}</style><link rel=stylesheet href=//evil.example>&lt;script&gt;&#60;b&#62;",
    "'; DROP TABLE votes; -- \" OR 1=1 /* \\' %s %(x)s :id ? $1",
    "\u202e\u2066reversed\u2069 \u200b\u200d\ufeff \u0301\u0301 \U0001f600 \x01\x1b[31m \x7f \u2028\u2029",
    "../../../../etc/passwd\r\nSet-Cookie: a=b\r\n\r\n<b>x</b>",
)


@pytest.fixture
def hall(tmp_path: Path, database: str) -> Iterator[Hall]:
    with open_hall(tmp_path, configuration(database=database)) as hall:
        yield hall


def filled(place: str, **more: str) -> str:
    return place.format(**FILLED | more) if "people" not in place else place.format(id="1")


def state(hall: Hall, *leave_out: Any) -> dict[str, list[Any]]:
    """All that the database holds."""
    tables = [table for table in METADATA.sorted_tables if table not in leave_out]
    return {table.name: sorted(map(str, hall.rows(table))) for table in tables}


class Skeleton(HTMLParser):
    """The elements and attributes of a page, without what differs from page to page; and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = (f"{name}={re.sub(r'[0-9a-zA-Z_-]{32,}', '*', value or '')}" for name, value in attrs)
        self.parts.append((tag, *values))

    def handle_endtag(self, tag: str) -> None:
        self.parts.append((f"/{tag}",))

    def handle_comment(self, data: str) -> None:
        self.parts.append(("comment", data))

    def handle_decl(self, decl: str) -> None:
        self.parts.append(("decl", decl))

    def handle_data(self, data: str) -> None:
        self.text += data


# --- who may do what


def test_nobody_gets_in_anywhere(hall: Hall) -> None:
    hall.person()
    client, before = hall.client(), state(hall)
    for method, place, _ in ROUTES:
        if place in PUBLIC:
            continue
        answer = client.request(method, filled(place), data={"csrf": "x"} if method == "POST" else None)
        for_people = method == "GET" and not place.endswith((".json", "/state"))
        entered = answer.headers.get("location") if for_people else None
        assert (answer.status_code, entered) == ((303, "/enter") if for_people else (401, None)), (method, place)
    assert state(hall) == before


@pytest.mark.parametrize(("role", "closed"), [("worker", ("/review", "/admin")), ("reviewer", ("/admin",))])
def test_roles_are_kept_on_every_route(hall: Hall, role: str, closed: tuple[str, ...]) -> None:
    guest = hall.person(role=role)
    others = hall.person("bob").begin()
    csrf, before = guest.csrf, state(hall)
    axes = ("review",) if role == "worker" else ("helpful", "honest", "harmless")
    for method, place, _ in ROUTES:
        for axis in axes if "{axis}" in place else ("helpful",):
            where = filled(place, axis=axis, id=others.rpartition("/")[2])
            if not (where.startswith(closed) or "{axis}" in place or "/talk" in where or "/turn" in where):
                continue
            fields = {"csrf": csrf, "nonce": "x", "rating": "4", "choice": "4", "number": "1", "text": "x"}
            answer = guest.client.request(method, where, data=fields if method == "POST" else None)
            sent_on = axis == "review" and place.endswith("/begin")  # to the page of reviews, which is closed
            assert answer.status_code in (403, 404) or sent_on, (method, where, answer.status_code)
    assert state(hall) == before


def test_anothers_work_is_neither_seen_nor_changed(hall: Hall) -> None:
    ann, bob = hall.person("ann"), hall.person("bob", "admin")
    talk = ann.begin()
    turn = ann.ask(talk, "a secret of Ann's")
    mine = bob.begin()
    own = bob.ask(mine, "Bob's")
    before, nonce = state(hall), hidden(ann.get(talk), "nonce")
    for place in (talk, f"/turn/{turn}/state"):
        assert "secret" not in bob.get(place, 404)
    for place, fields in (
        (f"{talk}/ask", {"number": 2, "text": "x"}),
        (f"{talk}/finish", {"rating": 1}),
        (f"{talk}/stop", {}),
        (f"{talk}/skip", {}),
        (f"/turn/{turn}/vote", {"nonce": nonce, "choice": "4"}),
        (f"/turn/{turn}/retry", {}),
    ):
        bob.post(place, 404, **fields)
    bob.post(f"/turn/{own}/vote", 403, nonce=nonce, choice="4")
    assert state(hall) == before


def test_a_review_is_its_reviewers(hall: Hall) -> None:
    _attempt(hall)
    rita, rolf = (hall.person(name, "reviewer").agree("review") for name in ("rita", "rolf"))
    page = rita.get("/review")
    id, nonce = re.search(r'action="/review/([0-9a-f]{32})"', page)[1], hidden(page, "nonce")  # type: ignore[index]
    rolf.get("/review")
    before = state(hall)
    for place in (f"/review/{id}", f"/review/{id}/skip"):
        rolf.post(place, 404, nonce=nonce, rating="4")
    for fields in (
        {"nonce": "x", "rating": "4"},
        {"nonce": nonce, "rating": "5"},
        {"nonce": nonce, "rating": "-1"},
        {"nonce": nonce, "rating": "four"},
        {"nonce": nonce, "rating": ""},
        {"nonce": nonce, "rating": "4", "tags": "no such tag"},
        {"nonce": nonce, "rating": "4", "tags": list(TAGS[:3])},
        {"nonce": nonce, "rating": "4", "note": "x" * 2001},
    ):
        answer = rita.client.post(f"/review/{id}", data={"csrf": rita.csrf, "intent": "2", **fields})
        assert answer.status_code in (400, 403, 413), fields
    assert state(hall) == before
    rita.post(f"/review/{id}", 400, nonce=nonce, rating="4")  # without the intent of the plan
    rita.post(f"/review/{id}", nonce=nonce, rating="4", intent="2", tags=[TAGS[0], TAGS[0]])
    rita.post(f"/review/{id}", nonce=nonce, rating="4", intent="2", tags=[TAGS[0]])
    rita.post(f"/review/{id}", 409, nonce=nonce, rating="3", intent="2")
    rita.post(f"/review/{id}/skip", 409)
    assert [row.rating for row in hall.rows(REVIEWS) if row.state == "done"] == [4]


# --- forms that were not made here


def test_every_form_needs_this_sessions_proof(hall: Hall) -> None:
    ann, bob = hall.person("ann", "admin"), hall.person("bob")
    talk = ann.begin()
    turn = ann.ask(talk)
    nonce = hidden(ann.get(talk), "nonce")
    fields = {"nonce": nonce, "choice": "4", "number": "2", "text": "x", "rating": "1", "sure": "yes", "role": "admin"}
    older, key = hall.client(), None
    with writing(hall.service.database) as connection:
        token = invite(connection, "worker")
    older.post(f"/join/{token}", data={"name": "cat"})
    key = re.search(r'<code id="key">([^<]*)<', older.get("/welcome").text)[1]  # type: ignore[index]
    newer = hall.client()
    newer.post("/enter", data={"key": key})
    wrong = (None, "", "x", "0" * 64, bob.csrf, ann.csrf.upper(), ann.csrf[:-1], ann.csrf + "0")
    before = state(hall)
    for place in POSTS:
        where = filled(place, id=turn if "/turn" in place else talk.rpartition("/")[2])
        for proof in wrong:
            sent = fields if proof is None else {**fields, "csrf": proof}
            assert ann.client.post(where, data=sent).status_code == 403, (where, proof)
            given = f"{where}?csrf={ann.csrf}"  # only the form counts
            assert ann.client.post(given, data=sent).status_code == 403
        elsewhere, good = {"sec-fetch-site": "cross-site"}, {**fields, "csrf": ann.csrf}
        answer = ann.client.post(where, data=good, headers=elsewhere)
        assert answer.status_code == 403 and "another site" in answer.text.lower(), where
    theirs = Guest(hall, older).csrf  # another session of the same person
    assert newer.post("/task/helpful/consent", data={"csrf": theirs}).status_code == 403
    assert state(hall) == before


def test_forms_of_other_sites_and_other_kinds_are_refused(hall: Hall) -> None:
    ann = hall.person()
    csrf, before = ann.csrf, state(hall)
    for site in ("cross-site", "same-site"):
        answer = ann.client.post("/task/helpful/consent", data={"csrf": csrf}, headers={"sec-fetch-site": site})
        assert answer.status_code == 403
        for place in ("/enter", f"/join/{'x' * 43}"):
            assert hall.client().post(place, headers={"sec-fetch-site": site}).status_code == 403
    for kind in ("application/json", "text/plain", "multipart/form-data; boundary=x", "x" * 500):
        answer = ann.client.post("/task/helpful/consent", content=f"csrf={csrf}", headers={"content-type": kind})
        assert answer.status_code == 415, kind
    assert state(hall) == before


def test_answers_are_good_for_their_own_turn_once(hall: Hall) -> None:
    ann = hall.person()
    talk = ann.begin()
    first = ann.ask(talk)
    nonce = hidden(ann.get(talk), "nonce")
    ann.post(f"/turn/{first}/vote", nonce=nonce, choice="-4")
    ann.post(f"/turn/{first}/vote", nonce=nonce, choice="-4")  # replayed: the same answer
    second = ann.ask(talk, "more", 2)
    ann.post(f"/turn/{second}/vote", 403, nonce=nonce, choice="4")  # the first turn's form
    ann.post(f"/turn/{first}/vote", 409, nonce=nonce, choice="4")
    ann.post(f"/turn/{first}/retry", 409)
    ann.post(f"{talk}/ask", 409, number=2, text="other words")
    ann.post(f"{talk}/stop")
    ann.post(f"/turn/{second}/vote", 409, nonce=hidden_nonce(hall, second), choice="4")
    ann.post(f"{talk}/skip", 409)
    ann.post(f"{talk}/finish", 409)
    (vote,) = hall.rows(VOTES)
    assert (vote.turn, vote.strength) == (first, 4)


def hidden_nonce(hall: Hall, turn: str) -> str:
    return next(str(row.nonce) for row in hall.rows(TURNS) if row.id == turn)


# --- sessions and keys


def test_a_session_cant_be_chosen_kept_or_outlived(hall: Hall) -> None:
    with writing(hall.service.database) as connection:
        token = invite(connection, "worker", uses=1)
    client = hall.client()
    client.cookies.set("charter_session", "chosen-by-somebody-else", domain="127.0.0.1")
    joined = client.post(f"/join/{token}", data={"name": "ann"})
    (cookie,) = [c for c in joined.headers.get_list("set-cookie") if c.startswith("charter_session=")]
    session = cookie.partition(";")[0].partition("=")[2]
    assert session != "chosen-by-somebody-else" and len(session) == 43
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    fixed = hall.client()
    fixed.cookies.set("charter_session", "chosen-by-somebody-else")
    assert fixed.get("/").headers["location"] == "/enter"
    mine = hall.client()
    mine.cookies.set("charter_session", session)
    ann = Guest(hall, mine)
    key = re.search(r'<code id="key">([^<]*)<', ann.get("/welcome"))[1]  # type: ignore[index]
    assert key != session
    for name, value in (("key as session", key), ("digest", "0" * 64), ("long", "x" * 5000), ("odd", "'\"<>;")):
        other = hall.client()
        other.cookies.set("charter_session", value)
        assert other.get("/").headers.get("location") == "/enter", name
    assert hall.client().post("/enter", data={"key": session}).status_code == 403
    with writing(hall.service.database) as connection:
        connection.execute(update(TOKENS).where(TOKENS.c.kind == "session").values(expires=1.0))
    assert mine.get("/").headers["location"] == "/enter"
    again = hall.client()
    again.post("/enter", data={"key": key})
    kept = again.cookies["charter_session"]
    Guest(hall, again).post("/leave")
    left = hall.client()
    left.cookies.set("charter_session", kept)
    assert left.get("/").headers["location"] == "/enter"
    assert left.post("/task/helpful/consent", data={"csrf": "x"}).status_code == 401


def test_invitations_are_used_up_and_out_of_date(hall: Hall) -> None:
    with writing(hall.service.database) as connection:
        once, old = invite(connection, "worker"), invite(connection, "admin", days=-1)
    assert hall.client().post(f"/join/{once}", data={"name": "ann"}).status_code == 303
    before = state(hall)
    for token in (once, old, "x" * 43, "x", "%00", "..%2f..", "x" * 5000, "'%20or%201=1"):
        for method in ("GET", "POST"):
            answer = hall.client().request(method, f"/join/{token}", data={"name": "bob"})
            assert answer.status_code in (403, 404, 405), (token, answer.status_code)
    assert state(hall) == before


@pytest.mark.parametrize(
    "name", ["", " ", "<b>x</b>", "a\x00b", "a\r\nSet-Cookie: x=y", "\u202egnp", "x" * 41, "../..", "{{7*7}}", "-"]
)
def test_names_that_are_none(hall: Hall, name: str) -> None:
    with writing(hall.service.database) as connection:
        token = invite(connection, "worker")
    answer = hall.client().post(f"/join/{token}", data={"name": name})
    assert answer.status_code == 400 and "set-cookie" not in answer.headers
    assert hall.rows(PEOPLE) == []


# --- what can't be read, or is too much


def test_bodies_that_are_too_large_or_broken(hall: Hall) -> None:
    ann = hall.person()
    talk = ann.begin()
    csrf, before = ann.csrf, state(hall)

    def pieces() -> Iterator[bytes]:
        yield f"csrf={csrf}&number=1&text=".encode()
        for _ in range(40):
            yield b"x" * 10_000

    form = {"content-type": "application/x-www-form-urlencoded"}
    for content, statuses in (
        (b"text=" + b"x" * 300_000, {413}),
        (pieces(), {413}),
        (f"csrf={csrf}&number=1&text={'x' * 5000}".encode(), {413}),
        (f"csrf={csrf}&number=1&text=%ff%fe".encode(), {400}),
        (f"csrf={csrf}&number=1&text=%ED%A0%80".encode(), {400}),  # half of a surrogate pair
        (f"csrf={csrf}&number=1&text=a%00b".encode(), {400}),
        (b"\xff\xfe\x00", {400, 403}),
        (f"csrf={csrf}&{'a=1&' * 500}".encode(), {400}),
        (f"csrf={csrf}".encode() + b"&=&&;;==%", {400}),
        (b"", {403}),
    ):
        answer = ann.client.post(f"{talk}/ask", content=content, headers=form)
        assert answer.status_code in statuses, (answer.status_code, str(content)[:60])
    assert state(hall) == before


NUMBERS = ("0", "-1", "2", "1.0", "1e3", "0x1", "\uff11", "\u0661", "9" * 30, "one", "", "NaN", "1;2", "1\x00", "[]")


def test_numbers_choices_and_addresses_that_are_none(hall: Hall) -> None:
    ann = hall.person()
    talk, turn, nonce = _ready(ann)
    csrf, before = ann.csrf, state(hall)

    def refused(place: str, **fields: Any) -> None:
        answer = ann.client.post(place, data={"csrf": csrf, **fields})
        assert 400 <= answer.status_code < 500, (place, fields, answer.status_code)

    for number in NUMBERS:
        refused(f"{talk}/ask", number=number, text="hello again")
    for choice in ("", "0", "5", "-5", "a", "b", "left", "tie ", "TIE", "both_bad\x00", "\uff11", "4.0", "+4"):
        refused(f"/turn/{turn}/vote", nonce=nonce, choice=choice)
    for edited in ("x" * 9000, "a\x00b"):
        refused(f"/turn/{turn}/vote", nonce=nonce, choice="4", edited=edited)
    for axis in (
        "",
        "HELPFUL",
        "review",
        "%2e%2e",
        "helpful%00",
        "helpful%2f%2e%2e%2fhonest",
        "x" * 3000,
        "%F0%9F%98%80",
    ):
        for what in ("", "/begin", "/consent"):
            place = f"/task/{axis}{what}"
            answer = ann.client.get(place) if not what else ann.client.post(place, data={"csrf": csrf})
            assert answer.status_code in (403, 404, 405) or answer.headers.get("location") == "/review", place
    for id in ("", "x", turn.upper(), turn[:-1], turn + "0", f"{turn}%0a", f"{turn}%00", "..%2f..", "-1", "1"):
        for place in (f"/talk/{id}", f"/turn/{id}/state", f"/review/{id}", f"/admin/people/{id}/data.json"):
            assert ann.client.get(place).status_code in (403, 404, 405), place
        refused(f"/turn/{id}/vote", nonce=nonce, choice="4")
    assert state(hall) == before


@pytest.mark.parametrize("rating", ["", "5", "-1", "x", "4.0", "9" * 40])
@pytest.mark.parametrize("feeling", ["", "0", "6", "x"])
def test_ratings_that_are_none(hall: Hall, rating: str, feeling: str) -> None:
    ann = hall.person()
    talk = ann.begin("harmless", "a plan")
    ann.vote(talk, ann.ask(talk))
    for given in ({"rating": rating}, {"rating": rating, "feeling": feeling}):
        ann.post(f"{talk}/finish", 400, **given)
    if feeling:
        ann.post(f"{talk}/finish", 400, rating="3", feeling=feeling)
    assert hall.rows(CONVERSATIONS)[0].state == "open"


def test_files_and_headers_are_out_of_reach(hall: Hall) -> None:
    ann = hall.person()
    for place in (
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/static/....//etc/passwd",
        "/static//etc/passwd",
        "/static/talk.html.jinja",
        "/static/arena.css%00",
        "/people.sqlite",
        "/docs",
        "/openapi.json",
        "/redoc",
    ):
        assert ann.client.get(place).status_code == 404, place
    for place in (
        "/enter?done=%0d%0aSet-Cookie:%20a=b",
        "/talk/%0d%0aLocation:%20https:%2f%2fevil.example",
        "//evil.example",
    ):
        answer = ann.client.get(place)
        assert "a=b" not in str(answer.headers) and "evil" not in str(answer.headers), place
        assert "evil" not in answer.text
    for accept in ("application/json", "*/*", "text/html\x0b", "x" * 4000):
        answer = ann.client.get(f"/talk/{NOT_MINE}", headers={"accept": accept})
        assert answer.status_code == 404 and answer.headers["x-content-type-options"] == "nosniff"


def test_methods_are_kept_apart(hall: Hall) -> None:
    boss = hall.person("boss", "admin")
    csrf, before = boss.csrf, state(hall, EVENTS)
    by_place: dict[str, set[str]] = {}
    for method, place, _ in ROUTES:
        by_place.setdefault(place, set()).add(method)
    for place, methods in by_place.items():
        where = filled(place)
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND"} - methods:
            form = {"csrf": csrf, "_method": "POST", "sure": "yes"}
            override = {"x-http-method-override": "POST", "x-method-override": "POST"}
            answer = boss.client.request(method, where, data=form, headers=override)
            assert answer.status_code in (404, 405), (method, where, answer.status_code)
        if methods == {"POST"}:
            got = boss.client.get(
                f"{where}?csrf={csrf}&sure=yes&role=admin", headers={"x-http-method-override": "POST"}
            )
            assert got.status_code in (404, 405), where
    assert state(hall, EVENTS) == before


# --- text that would be more than text


def _ready(guest: Guest, axis: str = "helpful", text: str = "hello", plan: str = "a plan") -> tuple[str, str, str]:
    """A conversation with a turn that waits for a choice, and the nonce of its form."""
    talk = guest.begin(axis, plan)
    turn = guest.ask(talk, text)
    return talk, turn, hidden(guest.get(talk), "nonce")


def _attempt(hall: Hall, text: str = "hello", plan: str = "a plan") -> None:
    """A finished red-team attempt."""
    worker = hall.person(f"attacker {len(hall.rows(PEOPLE))}")
    talk = worker.begin("harmless", plan)
    worker.vote(talk, worker.ask(talk, text))
    worker.post(f"{talk}/finish", rating=4)


def tour(hall: Hall, text: str) -> dict[str, str]:
    """Pages that show a text which somebody wrote or a model said, wherever one can."""
    for model in hall.models.values():
        model.words = lambda messages, seed: text
    ann, boss = hall.person("ann"), hall.person("boss", "admin")
    talk, turn, nonce = _ready(ann, text=text)
    found = {"ready": ann.get(talk)}
    edited = {"edited": f"{text} and more"}
    ann.post(f"/turn/{turn}/vote", nonce=nonce, choice="-4", **edited)
    found["edited"] = ann.get(talk)
    ann.ask(talk, f"{text} again", 2)
    found["second"] = ann.get(talk)
    ann.post(f"{talk}/stop")
    found["closed"] = ann.get(talk)
    talk, turn, nonce = _ready(ann, "harmless", text, text)
    found["attempt"] = ann.get(talk)
    ann.post(f"/turn/{turn}/vote", nonce=nonce, choice="-4")
    ann.post(f"{talk}/finish", rating=4)
    found["finished"] = ann.get(talk)
    found |= {place: ann.get(place) for place in ("/", "/me", "/task/harmless", "/task/helpful")}
    boss.agree("review")
    found["review"] = boss.get("/review")
    id = re.search(r'action="/review/([0-9a-f]{32})"', found["review"])[1]  # type: ignore[index]
    boss.post(f"/review/{id}", nonce=hidden(found["review"], "nonce"), rating="3", worst="1", intent="2", note=text)
    for model in hall.models.values():
        model.failing = ValueError(text)
    talk = ann.begin("honest")
    ann.ask(talk, text)
    found["failed"] = ann.get(talk)
    found["/admin"] = boss.get("/admin")
    return found


@pytest.fixture(scope="module")
def harmless_tour(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Skeleton]:
    """The same pages with a text that can't be anything else."""
    with open_hall(tmp_path_factory.mktemp("plain")) as hall:
        return {name: Skeleton(page) for name, page in tour(hall, "plain words" + " x" * 30).items()}


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_text_never_becomes_an_element_an_attribute_or_a_template(
    hall: Hall, harmless_tour: dict[str, Skeleton], number: int
) -> None:
    text = HOSTILE[number].ljust(71, ".")
    for name, page in tour(hall, text).items():
        found = Skeleton(page)
        assert found.parts == harmless_tour[name].parts, name
        assert found.text.count("49") == harmless_tour[name].text.count("49"), name
        if name in ("ready", "edited", "second", "attempt", "review"):
            shown = text.replace("\r\n", "\n")
            assert shown in found.text.replace("\r\n", "\n"), name
    assert hall.rows(VOTES) and {row.prompt for row in hall.rows(TURNS)} >= {text.replace("\r\n", "\n")}


def test_a_models_null_characters_and_broken_pairs_are_shown_as_such(hall: Hall) -> None:
    for model in hall.models.values():
        model.words = lambda messages, seed: f"null \x00 and half \ud800 pair {seed % 7}"
    ann = hall.person()
    talk, turn, _ = _ready(ann)
    assert "null \ufffd and half ? pair" in ann.get(talk)
    ann.vote(talk, turn)


# --- how fast, and what is never told


def limited(tmp_path: Path, **limits: float) -> Any:
    generous = configuration().limits.model_dump()
    return open_hall(tmp_path, configuration(limits=generous | limits, tasks={"helpful": PLAIN}))


def test_a_person_who_asks_too_fast_waits(tmp_path: Path) -> None:
    with limited(tmp_path, person_rate=0.01, person_burst=20) as hall:
        ann, bob = hall.person("ann"), hall.person("bob")
        statuses = [ann.client.get("/").status_code for _ in range(30)]
        assert statuses[:20] == [200] * 20 and set(statuses[20:]) == {429}
        answer = ann.client.get("/")
        assert int(answer.headers["retry-after"]) > 0 and "A little slower" in answer.text
        assert bob.client.get("/").status_code == 200
        before = state(hall)
        assert ann.client.post("/task/helpful/consent", data={"csrf": "x"}).status_code == 429
        assert state(hall) == before


def test_keys_and_invitations_cant_be_guessed_fast(tmp_path: Path) -> None:
    with limited(tmp_path, entry_rate=0.01, entry_burst=10) as hall:
        client = hall.client()
        statuses = [client.post("/enter", data={"key": "x" * 43}).status_code for _ in range(8)]
        statuses += [client.get(f"/join/{n:043d}").status_code for n in range(8)]
        assert statuses == [403] * 10 + [429] * 6


def test_an_address_that_floods_waits(tmp_path: Path) -> None:
    with limited(tmp_path, address_rate=0.01, address_burst=15) as hall:
        statuses = [hall.client().get("/health").status_code for _ in range(20)]
        assert statuses == [200] * 15 + [429] * 5


def test_nothing_that_workers_and_reviewers_get_tells_a_model(hall: Hall, tmp_path: Path) -> None:
    """Every answer of whole sessions, with its headers and cookies: no name, no reference, no path, no id, no side."""
    heard: list[str] = []

    def listen(guest: Guest) -> Guest:
        def hear(response: Any) -> None:
            response.read()
            heard.append(f"{response.url} {response.status_code} {response.headers} {response.text}")

        guest.client.event_hooks = {"request": [], "response": [hear]}
        return guest

    ann, rita = listen(hall.person("ann")), listen(hall.person("rita", "reviewer"))
    for axis in ("helpful", "honest", "harmless"):
        for choice in ("-4", "tie", "4"):
            talk = ann.begin(axis, "a plan")
            turn = ann.ask(talk, f"hello {axis} {choice}")
            ann.vote(talk, turn, choice, edited="" if axis == "harmless" or choice == "tie" else "edited")
            ann.post(f"{talk}/finish", rating=2)
            ann.get(talk)
    for model in hall.models.values():
        model.failing = RuntimeError(f"{SECRET} at {tmp_path} is away")
    talk = ann.begin()
    turn = ann.ask(talk, "and now?")
    ann.post(f"/turn/{turn}/retry")
    for place in ("/", "/me", "/me/data.json", "/review", "/admin", "/nowhere", f"/talk/{NOT_MINE}", "/health"):
        ann.client.get(place)
        rita.client.get(place)
    rita.agree("review")
    for _ in range(3):
        page = rita.get("/review")
        if found := re.search(r'action="/review/([0-9a-f]{32})"', page):
            rita.post(f"/review/{found[1]}", nonce=hidden(page, "nonce"), rating="3", worst="1", intent="2")
    rita.client.get("/me/data.json")
    assert len(heard) > 100
    for secret in (SECRET, "id-start", "id-rl", str(tmp_path), "model_a", "sqlite", "Traceback"):
        assert not [text[:300] for text in heard if secret in text], secret


def test_the_one_who_runs_it_does_see_the_models(hall: Hall) -> None:
    """So that the test above looks for words that are there."""
    ann = hall.person("ann")
    talk, turn, _ = _ready(ann)
    ann.vote(talk, turn, "4")
    assert SECRET in hall.person("boss", "admin").get("/admin")
