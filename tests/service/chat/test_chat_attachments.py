"""Files in the chat, without scripts: sending, waiting, counting, the prompt, pages of files, quotations, limits."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from company import Person, Upstream, chat, file_of, tokens_in, until, words_of
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from charter.ground.documents.document import Document, Limits, Unreadable
from charter_service.chat import replies
from charter_service.chat.attached import Allowance, stored_by
from charter_service.chat.service import Config
from charter_service.chat.tree import LONGEST_TEXT
from charter_service.people.tables import BLOBS, FILES
from charter_service.web.database import reading

REPORT = "The river rose by four metres in the night. Nobody was hurt, and the bridge held.\n"
JSON = {"accept": "application/json"}


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def ann(database: str, upstream: Upstream, folder: Path) -> Iterator[Person]:
    config = Config(files=str(folder), allowance=Allowance(3, 10_000, 25_000))
    with chat(database, upstream, config) as (home, service):
        yield Person(home, service, "ann", "admin")


def attach(person: Person, *files: tuple[str, bytes | str], chat: str = "") -> httpx.Response:
    """The answer to files that join a draft, as a script sends them."""
    place = f"/files?chat={chat}" if chat else "/files"
    parts = [("upload", (name, data if isinstance(data, bytes) else data.encode())) for name, data in files]
    return person.client.post(place, data={"csrf": person.csrf}, files=parts, headers=JSON)


def ids_of(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 201, answer.text
    return [file["id"] for file in answer.json()["files"]]


def begin(person: Person, text: str, *files: tuple[str, bytes | str]) -> dict[str, Any]:
    """A new chat whose first message has files; ids as `Person.begin` gives them, and those of the files."""
    ids = ids_of(attach(person, *files))
    answer = person.client.post("/c", data={"csrf": person.csrf, "text": text, "file": ids}, headers=JSON)
    assert answer.status_code == 201, answer.text
    sent: dict[str, Any] = answer.json()
    person.finished(sent["reply"])
    return {**sent, "files": ids}


def rows(person: Person, table: Any) -> list[Any]:
    with reading(person.service.database) as connection:
        return list(connection.execute(select(table)).all())


def kept(folder: Path) -> list[Path]:
    return sorted(place for place in folder.rglob("*") if place.is_file())


def test_a_form_without_scripts_carries_text_and_files(ann: Person, upstream: Upstream) -> None:
    page = ann.page("/")
    assert 'enctype="multipart/form-data"' in page and "Up to 3 files, 9.8 kB each; 24.4 kB in all" in page
    files = [("upload", ("report.txt", REPORT.encode())), ("upload", ("b.csv", b"a,b\n1,2\n"))]
    answer = ann.client.post("/c", data={"csrf": ann.csrf, "text": "What rose?"}, files=files)
    assert answer.status_code == 200 and "/c/" in str(answer.url)
    page = answer.text
    assert "report.txt" in page and "text, 82 bytes, 19 tokens" in words_of(page) and "csv, 8 bytes" in page
    content = until(lambda: upstream.bodies)[0]["messages"][0]["content"]
    assert [block["type"] for block in content] == ["document", "document", "text"]
    assert content[0]["source"] == {"type": "text", "media_type": "text/plain", "data": REPORT}
    assert content[0]["title"] == "report.txt" and content[2]["text"] == "What rose?"


def test_files_of_a_draft_survive_a_reload_and_can_be_removed(ann: Person, folder: Path) -> None:
    (id,) = ids_of(attach(ann, ("a.txt", REPORT)))
    state = ann.client.get(f"/f/{id}/state").json()
    assert state["state"] == "ready"
    page = ann.page("/")
    assert f'name="file" value="{id}"' in page and "tokens, 1 % of the window" in page
    sent = ann.begin("No file here")  # a message takes the files that its form names, and no others
    ann.finished(sent["reply"])
    assert f'name="file" value="{id}"' in ann.page("/") and id not in ann.page(f"/c/{sent['chat']}")
    assert len(kept(folder)) == 1
    ann.send(f"/f/{id}/remove")
    assert id not in ann.page("/") and kept(folder) == [] and rows(ann, BLOBS) == []


def test_without_scripts_attach_keeps_the_text(ann: Person) -> None:
    sent = ann.begin("Hello")
    ann.finished(sent["reply"])
    place = f"/files?chat={sent['chat']}"
    data = {"csrf": ann.csrf, "text": "half a question", "parent": sent["reply"]}
    page = ann.client.post(place, data=data, files={"upload": ("a.txt", REPORT)}).text
    assert "half a question</textarea>" in page and "a.txt" in page and "is being read" not in page
    (file,) = rows(ann, FILES)
    page = ann.client.post(f"/f/{file.id}/remove?chat={sent['chat']}", data={**data, "text": "more"}).text
    assert "more</textarea>" in page and rows(ann, FILES) == []
    answer = ann.client.post(
        place, data={**data, "text": "x" * (LONGEST_TEXT + 1)}, files={"upload": ("a.txt", REPORT)}
    )
    assert answer.status_code == 413 and " draft has at most" in answer.text
    assert "more</textarea>" in ann.page(f"/c/{sent['chat']}")


def test_without_scripts_attach_keeps_the_text_of_a_new_chat(ann: Person, upstream: Upstream) -> None:
    data = {"csrf": ann.csrf, "text": "half a question"}
    page = ann.client.post("/files", data=data, files={"upload": ("a.txt", REPORT)}).text
    assert "half a question</textarea>" in page
    counted = upstream.counts[0]["messages"][0]["content"]
    assert [block["type"] for block in counted] == ["document", "text"]
    (file,) = rows(ann, FILES)
    page = ann.client.post(f"/f/{file.id}/remove", data={**data, "text": "more"}).text
    assert "more</textarea>" in page and rows(ann, FILES) == []


def test_the_count_shown_is_the_count_read(ann: Person, upstream: Upstream) -> None:
    ids = ids_of(attach(ann, ("a.txt", REPORT), ("b.txt", "one two three")))
    for id in ids:
        assert ann.client.get(f"/f/{id}/state").json()["state"] == "ready"
    data = {"csrf": ann.csrf, "text": "What rose?", "file": ids}
    counted = ann.client.post("/files/count", data=data, headers=JSON).json()
    assert counted["words"] == f"{counted['tokens']} tokens, 1 % of the window" and counted["problem"] == ""
    assert "19 tokens" in counted["files"][ids[0]] and "6 tokens" in counted["files"][ids[1]]
    sent = ann.client.post("/c", data=data, headers=JSON).json()
    reply = ann.finished(sent["reply"])
    assert counted["tokens"] == tokens_in(upstream.bodies[0]) == reply.input_tokens
    # a further question: the prompt begins with the first one
    more = ann.ask(sent["chat"], sent["reply"], "And now?")
    ann.finished(more["reply"])
    first, second = (body["messages"] for body in upstream.bodies)
    del first[0]["content"][-1]["cache_control"]
    assert second[0] == first[0] and len(second) == 3
    assert "cached (" in ann.page(f"/c/{sent['chat']}")


def test_one_token_too_many_is_refused_with_both_numbers(ann: Person, upstream: Upstream) -> None:
    room = 2048 - 512  # of the small model, beside the reply
    words = room - 3 - 2 - 1 - 2 - 1  # a message, a document, its title, the small file, the question
    (small,) = ids_of(attach(ann, ("s.txt", "x")))
    (large,) = ids_of(attach(ann, ("large.txt", "w " * (words - 2))))
    data = {"csrf": ann.csrf, "file": [small, large]}
    fits = ann.client.post("/files/count", data={**data, "text": "q"}, headers=JSON).json()
    assert fits["tokens"] == room and fits["problem"] == ""
    counted = ann.client.post("/files/count", data={**data, "text": "q q"}, headers=JSON).json()
    assert counted["tokens"] == room + 1
    answer = ann.client.post("/c", data={**data, "text": "q q"}, headers=JSON)
    assert answer.status_code == 413 and answer.json()["error"] == counted["problem"]
    assert "1,537 tokens" in counted["problem"] and "at most 1,536" in counted["problem"]
    assert counted["problem"].endswith("remove s.txt, which is 4 of them")  # the smallest that is enough
    assert upstream.bodies == [] and len(rows(ann, FILES)) == 2
    page = ann.client.post("/c", data={**data, "text": "q q"}).text
    assert "remove s.txt" in page and "q q</textarea>" in page
    assert ann.client.post("/c", data={**data, "text": "q"}, headers=JSON).status_code == 201
    until(lambda: upstream.bodies)
    assert tokens_in(upstream.bodies[0]) == room


@pytest.mark.parametrize(("answer", "status"), [(404, 201), (503, 201), (400, 400)])
def test_a_server_that_does_not_count(ann: Person, upstream: Upstream, answer: int, status: int) -> None:
    upstream.counting = httpx_error(answer)
    (id,) = ids_of(attach(ann, ("a.txt", REPORT)))
    sent = ann.client.post("/c", data={"csrf": ann.csrf, "text": "q", "file": id}, headers=JSON)
    assert sent.status_code == status, sent.text


def httpx_error(status: int) -> Any:
    return JSONResponse({"type": "error", "error": {"type": "x", "message": "it is not to be had"}}, status)


def test_limits_are_kept_before_anything_is_read(ann: Person, folder: Path) -> None:
    def refused(*files: tuple[str, bytes | str]) -> str:
        answer = attach(ann, *files)
        assert answer.status_code == 413, answer.text
        return str(answer.json()["error"])

    assert "at most 3 files" in refused(*((f"{n}.txt", str(n)) for n in range(4)))
    assert "big.txt is larger than 9.8 kB" in refused(("big.txt", "x" * 10_001))
    assert rows(ann, FILES) == [] and kept(folder) == []
    ids_of(attach(ann, ("exact.txt", "x" * 10_000)))
    ids_of(attach(ann, ("second.txt", "y" * 10_000)))
    assert "take more than 24.4 kB" in refused(("third.txt", "z" * 5_001))
    ids_of(attach(ann, ("third.txt", "z" * 5_000)))
    assert "at most 3 files" in refused(("fourth.txt", ""))
    assert len(kept(folder)) == 3


def test_a_text_that_is_longer_than_its_file_counts(ann: Person, folder: Path) -> None:
    def unfold(data: bytes, name: str, limits: Limits) -> Document:
        return Document(name, "text", len(data), hashlib.sha256(data).hexdigest(), "é" * 8000, ())

    ann.service.files.read = unfold
    (first,) = ids_of(attach(ann, ("a.txt", "a")))
    assert ann.client.get(f"/f/{first}/state").json()["state"] == "ready"
    with reading(ann.service.database) as connection:
        assert stored_by(connection, 1) == 16_000
    (second,) = ids_of(attach(ann, ("b.txt", "b")))
    state = ann.client.get(f"/f/{second}/state").json()
    assert state["state"] == "refused"
    assert state["reason"] == (
        "with the text of b.txt your files would take more than 24.4 kB; delete a chat with files first"
    )
    assert len(kept(folder)) == 1 and {row.text for row in rows(ann, BLOBS)} == {"é" * 8000, ""}
    assert attach(ann, ("c.txt", "c" * 9500)).status_code == 413


def test_the_same_bytes_are_read_and_kept_once(ann: Person, folder: Path) -> None:
    count = 0
    read = ann.service.files.read

    def counting(data: bytes, name: str, limits: Limits) -> Document:
        nonlocal count
        count += 1
        return read(data, name, limits)

    ann.service.files.read = counting
    sent = begin(ann, "One", ("a.txt", REPORT), ("b.txt", REPORT))
    begin(ann, "Two", ("c.txt", REPORT))
    assert count == 1 and len(kept(folder)) == 1 and len(rows(ann, FILES)) == 3
    bob = Person(ann.home, ann.service, "bob")
    begin(bob, "Three", ("a.txt", REPORT))  # nobody learns what others have
    assert count == 2 and len(kept(folder)) == 2
    assert ann.client.get(f"/f/{sent['files'][1]}").status_code == 200


def test_what_cannot_be_read_is_refused_in_one_sentence_and_may_come_again(ann: Person, folder: Path) -> None:
    read, ann.service.files.read = ann.service.files.read, broken
    (id,) = ids_of(attach(ann, ("a.txt", REPORT)))
    state = ann.client.get(f"/f/{id}/state").json()
    assert state["state"] == "refused" and state["reason"] == "This file is locked; unlock it."
    answer = ann.client.post("/c", data={"csrf": ann.csrf, "text": "q", "file": id}, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"] == "a.txt can't be sent (This file is locked; unlock it); remove it, and send again"
    assert "This file is locked" in ann.page("/") and kept(folder) == []
    ann.service.files.read = read
    ids_of(attach(ann, ("a.txt", REPORT)))
    assert ann.client.get(f"/f/{id}/state").json()["state"] == "ready"


def broken(data: bytes, name: str, limits: Limits) -> Document:
    raise Unreadable("This file is locked; unlock it.")


def test_send_waits_for_a_file_that_is_being_read(ann: Person, upstream: Upstream) -> None:
    gate, read = threading.Event(), ann.service.files.read

    def slow(data: bytes, name: str, limits: Limits) -> Document:
        gate.wait(10)
        return read(data, name, limits)

    ann.service.files.read = slow
    (id,) = ids_of(attach(ann, ("a.txt", REPORT)))
    assert "is being read" in ann.page("/") and ann.page("/me")  # pages go on
    answers: list[httpx.Response] = []
    data = {"csrf": ann.csrf, "text": "q", "file": id}
    thread = threading.Thread(target=lambda: answers.append(ann.client.post("/c", data=data, headers=JSON)))
    thread.start()
    thread.join(0.3)
    assert answers == [] and upstream.bodies == []
    gate.set()
    thread.join(10)
    assert answers[0].status_code == 201
    assert until(lambda: upstream.bodies)[0]["messages"][0]["content"][0]["title"] == "a.txt"


def test_retry_edit_fork_export_import_and_share_know_files(ann: Person, upstream: Upstream) -> None:
    sent = begin(ann, "What rose?", ("report.txt", REPORT))
    ann.send(f"/m/{sent['reply']}/retry")
    ann.send(f"/m/{sent['question']}/edit", text="What held?", client="once")
    ann.send(f"/m/{sent['question']}/edit", text="What held?", client="once")
    ann.send(f"/m/{sent['reply']}/fork")
    until(lambda: len(upstream.bodies) == 3)
    titles = [body["messages"][0]["content"][0]["title"] for body in upstream.bodies]
    assert titles == ["report.txt"] * 3 and len(rows(ann, FILES)) == 3 and len(rows(ann, BLOBS)) == 1
    data = ann.client.get(f"/c/{sent['chat']}/export.json").json()
    (file,) = data["messages"][0]["files"]
    assert file["name"] == "report.txt" and file["text"] == REPORT
    assert file["sha256"] == hashlib.sha256(REPORT.encode()).hexdigest()
    markdown = ann.client.get(f"/c/{sent['chat']}/export.md").text
    assert f"File: report.txt (sha256 {file['sha256']})" in markdown
    bob = Person(ann.home, ann.service, "bob")
    answer = bob.send("/me/import", text=json.dumps(data))
    assert answer.status_code == 200, answer.text
    page = bob.page(re.findall(r'href="(/c/\w+)#', bob.page("/"))[0])
    assert "report.txt" in page and "What held?" in page
    mine = bob.client.get("/me/data.json").json()
    assert mine["chats"][0]["messages"][0]["files"][0]["text"] == REPORT
    place = re.findall(r'href="(/f/\w+)"', page)[0]
    assert "The river rose" in bob.page(place) and bob.client.get(f"{place}/original").text == REPORT
    answer = ann.client.post(f"/c/{sent['chat']}/share", data={"csrf": ann.csrf}, headers=JSON)
    shared = httpx.get(answer.json()["link"]).text
    assert "report.txt" in shared and "/f/" not in shared and "metres" not in shared


def test_a_fault_of_citing_ends_the_reply_without_citations(
    ann: Person, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken_cite(*_: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(replies, "cite", broken_cite)
    row = ann.finished(begin(ann, "What rose?", ("report.txt", REPORT))["reply"])
    assert (row.state, row.citations, row.quotes_unfound) == ("done", "[]", 0)
    assert '"citing": "KeyError"' in caplog.text


def test_nul_in_ids_and_names_is_left_out(ann: Person) -> None:
    (id,) = ids_of(attach(ann, ("a.txt", REPORT)))
    data = {"csrf": ann.csrf, "text": "q\x00", "file": f"\x00{id}", "model": "small\x00", "client": "\x00"}
    sent = ann.client.post("/c", data=data, headers=JSON).json()
    ann.finished(sent["reply"])
    answers = [
        ann.client.post("/c", data={**data, "file": "\x00"}, headers=JSON),
        ann.send(f"/c/{sent['chat']}/messages", text="more", parent="\x00", file="\x00"),
        ann.send(f"/c/{sent['chat']}/tools", name="\x00", on="no"),
        ann.send(f"/m/{sent['question']}/edit", text="other\x00", client="\x00"),
    ]
    assert all(answer.status_code < 500 for answer in answers), answers


class Wide(Upstream):
    """A server whose models read 120,000 tokens."""

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"data": [{"id": "wide", "max_input_tokens": 120_000, "max_tokens": 512}]})


def test_a_hundred_thousand_tokens_arrive_whole(tmp_path: Path) -> None:
    upstream = Wide()
    text = " ".join(f"w{n}" for n in range(100_000))
    with chat(file_of(tmp_path), upstream) as (home, service):
        person = Person(home, service, "ann")
        (id,) = ids_of(attach(person, ("book.txt", text)))
        assert person.client.get(f"/f/{id}/state").json()["state"] == "ready"
        data = {"csrf": person.csrf, "text": "Which word?", "file": id}
        counted = person.client.post("/files/count", data=data, headers=JSON).json()
        assert counted["words"] == "100,008 tokens, 83 % of the window"
        sent = person.client.post("/c", data=data, headers=JSON).json()
        reply = person.finished(sent["reply"])
        more = person.ask(sent["chat"], sent["reply"], "And the last?")
        person.finished(more["reply"])
    whole = hashlib.sha256(text.encode()).digest()
    assert reply.input_tokens == counted["tokens"] == 100_008
    for body in upstream.bodies:
        data = body["messages"][0]["content"][0]["source"]["data"]
        assert hashlib.sha256(data.encode()).digest() == whole
