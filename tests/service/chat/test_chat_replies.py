"""Replies that outlive pages, broken connections and processes: what was acknowledged is kept, and the reply ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from company import Person, Upstream, chat, file_of, running, served, until
from sqlalchemy import select

from charter_service.chat import replies as module
from charter_service.people.tables import MESSAGES
from charter_service.web.database import reading

LONG = " ".join(f"word{n}" for n in range(60)) + "."


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def ann(tmp_path: Path, upstream: Upstream) -> Iterator[Person]:
    with chat(file_of(tmp_path), upstream) as (home, service):
        yield Person(home, service, "ann")


def test_a_reply_is_written_with_what_it_cost(ann: Person, upstream: Upstream) -> None:
    sent = ann.begin("Hello", model="large")
    row = ann.finished(sent["reply"])
    assert (row.state, row.text, row.model, row.stop) == ("done", upstream.words("Hello"), "large", "end_turn")
    assert (row.input_tokens, row.cached_tokens, row.output_tokens, row.request) == (7, 2, 3, "req_1")
    body = upstream.bodies[0]
    assert body["metadata"] == {"user_id": f"chat-{1}"} and body["model"] == "large" and body["stream"]
    assert body["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}


def test_a_further_question_brings_the_whole_branch(ann: Person, upstream: Upstream) -> None:
    first = ann.begin("Hello")
    ann.finished(first["reply"])
    second = ann.ask(first["chat"], first["reply"], "More")
    ann.finished(second["reply"])
    said = [(turn["role"], turn["content"][0]["text"]) for turn in upstream.bodies[-1]["messages"]]
    assert said == [("user", "Hello"), ("assistant", upstream.words("Hello")), ("user", "More")]


def test_a_broken_answer_goes_on_where_it_broke(ann: Person, upstream: Upstream) -> None:
    upstream.words, upstream.breaks = lambda _: LONG, [7, 1, 20]
    row = ann.finished(ann.begin("Hello")["reply"])
    assert (row.state, row.text) == ("done", LONG)
    begun = [b["messages"][-1]["content"] for b in upstream.bodies if b["messages"][-1]["role"] == "assistant"]
    assert len(begun) >= 2 and all(LONG.startswith(text) and text == text.rstrip() for text in begun)


def test_a_process_that_ends_leaves_the_reply_to_the_next_one(tmp_path: Path, upstream: Upstream) -> None:
    upstream.words, upstream.pause = lambda _: LONG, 0.03
    with served(upstream.app) as api:
        with running(file_of(tmp_path), api) as (home, service):
            ann = Person(home, service, "ann")
            sent = ann.begin("Hello")
            seen = until(lambda: ann.message(sent["reply"]).text)
            assert ann.message(sent["reply"]).state == "running"
        with running(file_of(tmp_path), api) as (home, service):
            ann.service = service
            row = ann.finished(sent["reply"])
    assert (row.state, row.text) == ("done", LONG) and LONG.startswith(seen)


def test_a_server_that_is_away_is_waited_for(ann: Person, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    upstream.status = 529
    sent = ann.begin("Hello")
    until(lambda: len(upstream.bodies) >= 2)
    assert ann.message(sent["reply"]).state == "running"
    upstream.status = 200
    assert ann.finished(sent["reply"]).text == upstream.words("Hello")
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    upstream.status = 503
    row = ann.finished(ann.begin("Again")["reply"])
    assert row.state == "failed" and "failed" in row.reason


def test_a_request_that_the_server_refuses_fails_in_its_words(ann: Person, upstream: Upstream) -> None:
    upstream.status = 400
    row = ann.finished(ann.begin("Hello")["reply"])
    assert (row.state, row.reason) == ("failed", "it is out of order") and len(upstream.bodies) == 1


def test_a_refusal_of_the_policy_says_why(ann: Person, upstream: Upstream) -> None:
    upstream.refusal = "This asks for harm."
    sent = ann.begin("Hello")
    row = ann.finished(sent["reply"])
    assert (row.state, row.reason) == ("refused", "This asks for harm.")
    page = ann.page(f"/c/{sent['chat']}")
    assert "This asks for harm." in page and f"/m/{sent['reply']}/appeal" in page


def test_stop_keeps_what_is_written_and_continue_goes_on(ann: Person, upstream: Upstream) -> None:
    upstream.words, upstream.pause = lambda _: LONG, 0.02
    sent = ann.begin("Hello")
    until(lambda: ann.message(sent["reply"]).text)
    ann.send(f"/m/{sent['reply']}/stop")
    row = ann.finished(sent["reply"])
    assert row.state == "stopped" and 0 < len(row.text) < len(LONG) and LONG.startswith(row.text)
    upstream.pause = 0.0
    page = ann.send(f"/m/{sent['reply']}/continue").text
    assert "2 of 2" in page
    with reading(ann.service.database) as c:
        last = c.execute(select(MESSAGES.c.id).order_by(MESSAGES.c.number.desc())).scalars().first()
    assert last and ann.finished(last).text == LONG
    assert ann.message(sent["reply"]).text == row.text  # the first one is as it was


def test_a_reply_that_the_server_pauses_can_go_on(ann: Person, upstream: Upstream) -> None:
    upstream.stop = "pause_turn"
    sent = ann.begin("Hello")
    assert ann.finished(sent["reply"]).stop == "pause_turn"
    page = ann.page(f"/c/{sent['chat']}")
    assert f"/m/{sent['reply']}/continue" in page and "paused the reply here" in page
    upstream.stop = "end_turn"
    assert "2 of 2" in ann.send(f"/m/{sent['reply']}/continue").text


def events_of(ann: Person, reply: str, known: int = 0, last: str = "") -> list[tuple[str, str, str]]:
    """Kind, id and data of each event until the reply is complete."""
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
    found, fields = list[tuple[str, str, str]](), dict[str, str]()
    with ann.client.stream("GET", f"/m/{reply}/events?known={known}", headers=headers) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if not line and "event" in fields:
                found.append((fields["event"], fields.get("id", ""), fields.get("data", "")))
            if not line:
                fields = {}
            name, _, value = line.partition(": ")
            if name:
                fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
    return found


def replay(events: list[tuple[str, str, str]], blocks: list[str]) -> list[str]:
    """What a page shows after these events."""
    for kind, id, data in events:
        if kind == "block":
            blocks[int(id) : int(id) + 1] = [data]
        elif kind == "cut":
            del blocks[int(data) :]
    return blocks


def test_a_page_that_joins_late_or_comes_back_shows_the_stored_text(ann: Person, upstream: Upstream) -> None:
    upstream.words = lambda _: "First part.\n\n- a list\n- of two\n\nLast part."
    upstream.gate = threading.Event()
    upstream.gate.set()
    sent = ann.begin("Hello")
    found: list[list[tuple[str, str, str]]] = []
    early = threading.Thread(target=lambda: found.append(events_of(ann, sent["reply"])))
    early.start()
    until(lambda: upstream.bodies and ann.service.streams)
    upstream.gate.clear()
    early.join(20)
    ann.finished(sent["reply"])
    assert found[0][-1][0] == "state"
    shown = replay(found[0], [])
    page = ann.page(f"/m/{sent['reply']}")
    assert shown and all(block in page for block in shown) and len(shown) == page.count("data-block=")
    assert [kind for kind, _, _ in events_of(ann, sent["reply"], last="1")] == ["state"]


def test_four_replies_at_once_are_enough(ann: Person, upstream: Upstream) -> None:
    upstream.gate = threading.Event()
    upstream.gate.set()
    for number in range(4):
        ann.begin(f"Question {number}")
    refused = ann.send("/c", text="One more")
    assert refused.status_code == 429 and "One more" in refused.text  # the text isn't lost
    upstream.gate.clear()


def test_nobody_else_sees_or_stops_a_reply(ann: Person, upstream: Upstream) -> None:
    upstream.gate = threading.Event()
    upstream.gate.set()
    sent = ann.begin("Hello")
    bob = Person(ann.home, ann.service, "bob")
    for place in (f"/m/{sent['reply']}", f"/m/{sent['reply']}/events", f"/c/{sent['chat']}"):
        assert bob.client.get(place).status_code == 404
    assert bob.send(f"/m/{sent['reply']}/stop").status_code == 404
    stranger = httpx.get(f"{ann.home}/m/{sent['reply']}/events", headers={"accept": "text/event-stream"})
    assert stranger.status_code == 401
    upstream.gate.clear()
    assert ann.finished(sent["reply"]).state == "done"
