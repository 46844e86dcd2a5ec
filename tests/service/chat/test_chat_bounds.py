"""Drafts, storage, sign-ups and links: what is kept while it is typed, and where each bound lies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from company import Person, Upstream, browse, chat, file_of
from sqlalchemy import func, select, text

from charter_service.chat.service import Config
from charter_service.chat.storage import held
from charter_service.people.tables import CHATS, DRAFTS, PEOPLE
from charter_service.people.words import MOST_BYTES, keys_of
from charter_service.web.database import reading
from charter_service.web.entrance import Limiter
from charter_service.web.guard import network_of


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def ann(database: str, upstream: Upstream) -> Iterator[Person]:
    with chat(database, upstream, Config(storage=10_000, address="https://chat.example.org")) as (home, service):
        yield Person(home, service, "ann", "admin")


def talked(person: Person, text: str = "Hello") -> dict[str, str]:
    sent = person.begin(text)
    person.finished(sent["reply"])
    return sent


# Drafts


def test_drafts_are_kept_on_the_server_until_they_are_sent(ann: Person) -> None:
    ann.send("/draft", text="Half a thought\r\nand more")
    other = browse(ann.home, follow_redirects=True)
    other.post("/enter", data={"key": ann.key})
    assert "Half a thought\nand more</textarea>" in other.get("/").text  # another device
    bob = Person(ann.home, ann.service, "bob")
    assert "Half a thought" not in bob.page("/")
    sent = ann.begin("A whole thought", client="abc")
    ann.finished(sent["reply"])
    ann.send("/draft", text="Half a thought", client="abc")  # it was slower than the message
    assert "Half a thought" not in ann.page("/")
    place = f"/c/{sent['chat']}"
    ann.send(f"{place}/draft", text="Next <one>")
    assert "Next &lt;one&gt;</textarea>" in ann.page(place)
    assert bob.send(f"{place}/draft", text="x").status_code == 404
    ann.ask(sent["chat"], sent["reply"], "Next one", client="def")
    ann.send(f"{place}/draft", text="Next <one>", client="def")
    assert "Next &lt;one&gt;" not in ann.page(place)
    assert json.loads(ann.page("/me/data.json"))["draft"] == ""


def test_a_blank_draft_deletes_and_forgetting_takes_it_along(ann: Person) -> None:
    ann.send("/draft", text="x")
    ann.send("/draft", text=" ")
    with reading(ann.service.database) as c:
        assert c.execute(select(DRAFTS.c.text)).all() == []
    ann.send("/draft", text="x")
    ann.send("/me/forget", sure="yes")
    with reading(ann.service.database) as c:
        assert c.execute(select(DRAFTS.c.text)).all() == []


# Storage


def test_what_a_person_keeps_is_counted_and_bounded(ann: Person) -> None:
    sent = talked(ann, "é" * 100)
    with reading(ann.service.database) as c:
        size = held(c, 1)
    reply = ann.message(sent["reply"]).text
    assert size.characters == 100 + len(reply) and size.bytes == 200 + len(reply.encode())
    assert "of the 0.0 MB" in ann.page("/me")  # 10,000 bytes
    with reading(ann.service.database) as c:
        before = c.execute(select(func.count()).select_from(CHATS)).scalar_one()
    full = "x" * 10_000
    for place, more in (
        ("/c", {}),
        (f"/c/{sent['chat']}/messages", {"parent": sent["reply"]}),
        (f"/m/{sent['question']}/edit", {}),
        (f"/m/{sent['reply']}/edit", {}),
        ("/draft", {}),
        (f"/c/{sent['chat']}/draft", {}),
    ):
        answer = ann.send(place, text=full, **more)
        assert answer.status_code == 413 and "delete chats" in answer.text, place
    imported = {"form": "charter-chat-1", "leaf": "a", "messages": [{"id": "a", "role": "user", "text": full}]}
    assert ann.send("/me/import", text=json.dumps(imported)).status_code == 413
    with reading(ann.service.database) as c:
        assert c.execute(select(func.count()).select_from(CHATS)).scalar_one() == before
        assert held(c, 1) == size


def test_copies_count_until_they_are_gone(ann: Person) -> None:
    sent = talked(ann, "x" * 1500)
    ann.send(f"/c/{sent['chat']}/share")  # 3 kB of text, and as much again
    assert ann.send(f"/m/{sent['reply']}/fork").status_code == 200
    assert ann.send(f"/m/{sent['reply']}/fork").status_code == 413
    ann.send(f"/c/{sent['chat']}/delete")
    with reading(ann.service.database) as c:
        assert held(c, 1).bytes > 9000  # it can still come back


def test_all_data_comes_in_pieces_and_whole(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charter_service.chat.portable.AT_A_TIME", 2)
    sent = talked(ann)
    for n in range(3):
        more = ann.ask(sent["chat"], sent["reply"], f"Question {n} “ü”")
        ann.finished(more["reply"])
    talked(ann, "Another")
    data = json.loads(ann.page("/me/data.json"))
    assert [len(one["messages"]) for one in data["chats"]] == [2, 8]
    assert data["person"]["name"] == "ann" and data["chats"][1]["messages"][6]["text"] == "Question 2 “ü”"
    assert json.loads(ann.page(f"/c/{sent['chat']}/export.json")) == data["chats"][1]


# Links


def test_links_begin_with_the_address_that_is_set_and_not_with_the_host_that_is_named(ann: Person) -> None:
    sent = talked(ann)
    csrf, evil = ann.csrf, {"host": "evil.example.org", "accept": "text/html"}
    for place in (f"/c/{sent['chat']}/share", "/people/invite"):
        page = ann.client.post(place, data={"csrf": csrf}, headers=evil, follow_redirects=False)
        shown = ann.page(page.headers["location"])
        assert "evil" not in shown and "evil" not in page.headers["location"]
        assert re.search(r"https://chat\.example\.org/(s|join)/[\w-]{43}", shown)


# Sign-ups


def test_so_many_join_in_a_day_and_no_more(tmp_path: Path, upstream: Upstream) -> None:
    config = Config(sign_up=True, sign_ups=6, sign_ups_of_one=3)
    with chat(file_of(tmp_path), upstream, config) as (home, service):
        service.entries = Limiter(1e9, 1e9)
        answers = [browse(home).post("/join", data={"name": f"guest {n}"}) for n in range(5)]
        assert [one.status_code for one in answers] == [303, 303, 303, 429, 429]
        assert "retry-after" in answers[-1].headers
        assert Person(home, service, "invited").page("/")  # an invitation is no sign-up
        service.sign_ups = Limiter(1e9, 1e9)  # from many addresses
        answers = [browse(home).post("/join", data={"name": f"other {n}"}) for n in range(250)]
        assert sum(one.status_code == 303 for one in answers) == 2
        assert {one.status_code for one in answers} == {303, 429}
        assert "nobody else can until tomorrow" in answers[-1].text
        with reading(service.database) as c:
            assert c.execute(select(func.count()).select_from(PEOPLE)).scalar_one() == 6


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a socket", "a socket"),
    ],
)
def test_a_customers_addresses_are_one_network(address: str, network: str) -> None:
    assert network_of({"type": "http", "client": (address, 1)}) == network


# Reports by people without an account


def test_a_stranger_reports_a_shared_copy(ann: Person, upstream: Upstream) -> None:
    sent = talked(ann, "A question")
    page = ann.send(f"/c/{sent['chat']}/share").text
    place = re.search(r"/s/[\w-]{43}", page)
    assert place
    stranger = browse(ann.home, follow_redirects=True)
    assert "Report" in stranger.get(place[0]).text
    answer = stranger.post(f"{place[0]}/report", data={"words": "It is a lie"})
    assert answer.status_code == 200 and "will look at it" in answer.text
    (told,) = [body for kind, body in upstream.told if kind == "feedback"]
    assert told["request_id"] == "req_1" and told["thumb"] == "down"
    assert told["words"] == "Reported from a shared link: It is a lie"
    assert told["content"]["messages"][0] == {"role": "user", "content": "A question"}
    assert stranger.post("/s/wrong/report", data={"words": "x"}).status_code == 404
    headers = {"sec-fetch-site": "cross-site"}
    assert stranger.post(f"{place[0]}/report", data={"words": "x"}, headers=headers).status_code == 403
    codes = [stranger.post(f"{place[0]}/report", data={"words": "x"}).status_code for _ in range(6)]
    assert codes[-1] == 429 and len([1 for kind, _ in upstream.told if kind == "feedback"]) == 5


def test_a_copy_without_a_models_reply_has_nobody_to_tell(ann: Person) -> None:
    rows = [{"id": "a", "role": "user", "text": "Hi"}, {"id": "b", "parent": "a", "role": "assistant", "text": "Ho"}]
    imported = {"form": "charter-chat-1", "leaf": "b", "messages": rows}
    ann.send("/me/import", text=json.dumps(imported))
    with reading(ann.service.database) as c:
        id = c.execute(select(CHATS.c.id)).scalar_one()
    place = re.search(r"/s/[\w-]{43}", ann.send(f"/c/{id}/share").text)
    assert place and "/report" not in ann.page(place[0])
    assert browse(ann.home).post(f"{place[0]}/report", data={"words": "x"}).status_code == 400


# Words


def test_long_messages_are_found_by_their_first_words(database: str, upstream: Upstream) -> None:
    with chat(database, upstream, Config()) as (home, service):
        ann = Person(home, service, "ann")
        text = "Anfang " + " ".join(f"wort{n:06d}" for n in range(85_000)) + " Schluss"
        upstream.words = lambda _: "Yes."
        sent = talked(ann, text)
        assert sent["chat"] in ann.page("/") and "<mark>Anfang</mark>" in ann.page("/search?q=anfang")
    keys = keys_of(1, text)
    assert sum(len(key.encode()) + 1 for key in keys) <= MOST_BYTES and keys[0] == "00000001anfang"


def test_the_index_of_words_has_no_word_of_what_is_deleted(tmp_path: Path, upstream: Upstream) -> None:
    with chat(file_of(tmp_path), upstream) as (home, service):
        ann = Person(home, service, "ann")
        talked(ann, "Zwetschge")
        bob = Person(home, service, "bob")
        talked(bob, "Zwetschge")
        ann.send("/me/forget", sure="yes")
        with reading(service.database) as c:
            rows: list[Any] = list(c.execute(text("SELECT words FROM words_of_messages")).scalars())
        assert rows and all("00000001" not in row for row in rows)
        assert "Zwetschge" in bob.page("/search?q=zwetsch")


# Names of this machine


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8800", 200),
        ("127.0.0.1", 200),
        ("[::1]:8800", 200),
        ("10.0.0.7", 200),  # a number: nobody leads it elsewhere
        ("chat.example.org", 200),
        ("evil.example.com", 421),
        ("127.0.0.1.evil.example.com:8800", 421),
        ("[evil", 421),
        ("", 421),
    ],
)
def test_a_name_that_was_led_here_reads_no_page(database: str, upstream: Upstream, host: str, status: int) -> None:
    config = Config(sign_up=True, hosts=("localhost", "127.0.0.1", "::1", "chat.example.org"))
    with chat(database, upstream, config) as (home, _):
        answer = browse(home).get("/join", headers={"host": host})
        assert answer.status_code == status and ("--address" in answer.text) == (status == 421)
