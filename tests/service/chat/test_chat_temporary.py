"""Temporary chats: they work as others do, and no byte of them is anywhere once they are over."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from company import Person, Upstream, browse, chat, file_of, until

from charter_service.chat import temporary
from charter_service.chat.service import Config
from charter_service.chat.temporary import TemporaryChats
from charter_service.web.refusal import NotFound, Refusal

CANARY = "Zwetschgenkuchen"


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def ann(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    (tmp_path / "tmp").mkdir()
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with chat(file_of(tmp_path), upstream, Config(log=True)) as (home, service):
        yield Person(home, service, "ann", "admin")


def begun(person: Person, text: str, place: str = "/temporary", **fields: str) -> dict[str, str]:
    sent = person.client.post(
        place, data={"csrf": person.csrf, "text": text, **fields}, headers={"accept": "application/json"}
    )
    assert sent.status_code == 201, sent.text
    answer: dict[str, str] = sent.json()
    return answer


def ended(person: Person, sent: dict[str, str], state: str = "done") -> str:
    return str(until(lambda: f'data-state="{state}"' in (p := person.page(f"/temporary/m/{sent['reply']}")) and p))


def test_it_streams_goes_on_and_is_tried_again(ann: Person, upstream: Upstream) -> None:
    sent = begun(ann, CANARY)
    with ann.client.stream("GET", f"/temporary/m/{sent['reply']}/events") as answer:
        events = "".join(answer.iter_text())
    assert "event: state" in events
    assert f"You said “{CANARY}”" in ended(ann, sent)
    more = begun(ann, "More", f"/temporary/{sent['chat']}/messages")
    ended(ann, more)
    assert [turn["role"] for turn in upstream.bodies[-1]["messages"]] == ["user", "assistant", "user"]
    upstream.words = lambda _: "Another one."
    ann.send(f"/temporary/m/{more['reply']}/retry")
    page = until(lambda: "Another one." in (p := ann.page(f"/temporary/{sent['chat']}")) and p)
    assert page.count("<article") == 4 and "never written to disk" in page and "policy" in page
    assert upstream.bodies[-1]["metadata"]["user_id"].startswith("chat-")


def test_no_byte_of_it_is_on_disk_in_lists_or_in_the_log(
    ann: Person, upstream: Upstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    kept = ann.begin("An ordinary Streuselschnecke")
    ann.finished(kept["reply"])
    sent = begun(ann, CANARY * 50)
    ended(ann, sent)
    for place in ("/", "/me", "/me/data.json", f"/search?q={CANARY}", "/archived", "/people"):
        page = ann.client.get(place).text.replace(f'value="{CANARY}"', "")
        assert CANARY not in page and sent["chat"] not in page
    upstream.gate = threading.Event()
    upstream.gate.set()
    going_on = begun(ann, CANARY, f"/temporary/{sent['chat']}/messages")
    ended(ann, going_on, "running")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(b"Streuselschnecke" in content for content in files.values())  # the look finds what is there
    assert not [path for path, content in files.items() if CANARY.encode() in content]
    log = [record.getMessage() for record in caplog.records if record.name.startswith("charter")]
    assert any("/temporary/[token]" in line for line in log)
    assert not [line for line in log if CANARY in line or sent["chat"] in line]
    upstream.gate.clear()
    ann.send(f"/temporary/{sent['chat']}/close")
    for place in (f"/temporary/{sent['chat']}", f"/temporary/m/{sent['reply']}"):
        assert ann.client.get(place).status_code == 404
    until(lambda: not ann.service.replies._live)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()]


def test_it_is_the_sessions_alone_and_ends_with_it(ann: Person, upstream: Upstream) -> None:
    sent = begun(ann, CANARY)
    ended(ann, sent)
    bob = Person(ann.home, ann.service, "bob")
    other: httpx.Client = browse(ann.home, follow_redirects=True)  # Ann's other device
    other.post("/enter", data={"key": ann.key})
    for client in (bob.client, other):
        for place in (f"/temporary/{sent['chat']}", f"/temporary/m/{sent['reply']}"):
            assert client.get(place).status_code == 404
    for place in (f"/temporary/{sent['chat']}/close", f"/temporary/m/{sent['reply']}/stop"):
        assert bob.send(place).status_code == 404
    assert len(ann.service.temporary.of(1)) == 1
    ann.send("/leave")
    assert ann.service.temporary.of(1) == []


def test_stop_and_a_lock_end_it(ann: Person, upstream: Upstream) -> None:
    upstream.gate = threading.Event()
    upstream.gate.set()
    sent = begun(ann, CANARY)
    ann.send(f"/temporary/m/{sent['reply']}/stop")
    assert "You stopped it here." in ended(ann, sent, "stopped")
    bob = Person(ann.home, ann.service, "bob")
    begun(bob, CANARY)
    ann.send("/people/2/lock", out="yes")
    assert ann.service.temporary.of(2) == []
    until(lambda: not ann.service.replies._live)


def test_a_refusal_of_the_policy_is_shown(ann: Person, upstream: Upstream) -> None:
    upstream.refusal = "This is not allowed."
    sent = begun(ann, CANARY)
    assert "This is not allowed." in ended(ann, sent, "refused")


def test_the_same_sending_counts_once_and_running_replies_count(ann: Person, upstream: Upstream) -> None:
    upstream.gate = threading.Event()
    upstream.gate.set()
    sent = begun(ann, "One", client="abc")
    assert begun(ann, "One", client="abc") == sent
    begun(ann, "Two")
    begun(ann, "Three")
    assert ann.send("/temporary", text="Four").status_code == 429
    ann.begin("Five")
    answer = ann.send("/c", text="Six")
    assert answer.status_code == 429 and "4 replies are being written" in answer.text
    upstream.gate.clear()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_hour_ends_it_and_its_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = Clock()
    chats = TemporaryChats(clock)
    chat = chats.begin(1, "session", "small", "Hello", "")
    with pytest.raises(Refusal, match="at most"):
        chats.begin(2, "s", "small", "x" * (temporary.LONGEST + 1), "")
    assert chats.of(2) == []
    clock.now = temporary.HOUR - 1
    assert chats.find("session", chat.id) is chat
    clock.now += 2
    assert chats.sweep() == [chat.messages[-1].id]
    with pytest.raises(NotFound, match="over"):
        chats.find("session", chat.id)
    monkeypatch.setattr(temporary, "MOST", 2)
    chats.begin(1, "s", "small", "x", "")
    chats.begin(2, "s", "small", "x", "")
    with pytest.raises(Refusal, match="as many temporary chats as it can"):
        chats.begin(3, "s", "small", "x", "")
