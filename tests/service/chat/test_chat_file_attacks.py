"""What hostile files, names and forms could do to a chat: each of these must never work."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from company import Person, Upstream, chat, file_of, running, served, until, words_of
from sqlalchemy import Connection, update
from test_chat_attachments import JSON, REPORT, attach, begin, ids_of, kept, rows

from charter.ground.documents.document import Document, Limits
from charter_service.chat import file_reading
from charter_service.chat.attached import READY, RECEIVED, Allowance
from charter_service.chat.file_reading import Store
from charter_service.chat.files import passages_of
from charter_service.chat.service import Config
from charter_service.people.tables import BLOBS, FILES
from charter_service.web.database import writing

NAMES = [
    "<script>alert(1)</script>.txt",
    '"><img src=x onerror=alert(1)>.txt',
    "../../../etc/passwd",
    "C:\\Windows\\system32\\x.txt",
    "invoice\u202egpj.txt",
    "zero\u200bwidth\u2066.txt",
    "a" * 10_000 + ".txt",
    "line\nbreak\ttab.txt",
    "\u0000.txt",
    "..",
    "ünï 文 🎉.txt",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def ann(tmp_path: Path, upstream: Upstream, folder: Path) -> Iterator[Person]:
    config = Config(files=str(folder), allowance=Allowance(5, 10_000, 20_000))
    with chat(file_of(tmp_path), upstream, config) as (home, service):
        yield Person(home, service, "ann", "admin")


def test_hostile_names_are_shown_as_text_and_are_no_paths(ann: Person, folder: Path) -> None:
    for name in NAMES:
        # by hand, since a client of today writes no such name
        body = (
            f'--x\r\ncontent-disposition: form-data; name="csrf"\r\n\r\n{ann.csrf}\r\n--x\r\n'
            f'content-disposition: form-data; name="upload"; filename="'.encode()
            + name.replace('"', "%22").replace("\n", "%0A").encode()
            + f'"\r\n\r\n{REPORT}\r\n--x--\r\n'.encode()
        )
        headers = {**JSON, "content-type": "multipart/form-data; boundary=x"}
        answer = ann.client.post("/files", content=body, headers=headers)
        if answer.status_code == 400:  # a header that is too long, or holds what no header may
            continue
        (id,) = ids_of(answer)
        (shown,) = [file["name"] for file in answer.json()["files"]]
        assert len(shown) <= 200 and "/" not in shown and not re.search("[\x00-\x1f\u202e\u200b\u2066]", shown)
        page = ann.page("/") + ann.page(f"/f/{id}")
        assert "<script>alert" not in page and "<img" not in page
        download = ann.client.get(f"/f/{id}/original")
        assert download.headers["content-disposition"].startswith("attachment")
        ann.send(f"/f/{id}/remove")
    assert all(re.fullmatch(r"[0-9a-f]{32}", place.name) for place in kept(folder))
    assert kept(folder.parent / "etc") == []


def test_a_page_of_html_is_never_opened_as_one(ann: Person) -> None:
    sent = begin(ann, "q", ("x.html", "<script>alert(document.cookie)</script><p>hello there</p>"))
    answer = ann.client.get(f"/f/{sent['files'][0]}/original")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "<script>alert" not in ann.page(f"/f/{sent['files'][0]}")


def test_files_of_others_are_not_there(ann: Person) -> None:
    sent = begin(ann, "q", ("a.txt", REPORT))
    (draft,) = ids_of(attach(ann, ("b.txt", "mine alone")))
    bob = Person(ann.home, ann.service, "bob")
    for id in (*sent["files"], draft, "x", "%00"):
        for place in ("", "/state", "/original"):
            assert bob.client.get(f"/f/{id}{place}").status_code == 404, place
        assert bob.send(f"/f/{id}/remove").status_code == 404
        answer = bob.client.post("/c", data={"csrf": bob.csrf, "text": "q", "file": id}, headers=JSON)
        assert answer.status_code == 409
        answer = bob.client.post("/files/count", data={"csrf": bob.csrf, "text": "q", "file": id}, headers=JSON)
        assert answer.status_code == 409
    assert attach(bob, ("c.txt", "x"), chat=sent["chat"]).status_code == 404
    assert len(rows(ann, FILES)) == 2
    stranger = httpx.get(f"{ann.home}/f/{draft}/original", headers=JSON)
    assert stranger.status_code == 401


def test_a_form_without_its_proof_leaves_nothing(ann: Person, folder: Path) -> None:
    files = {"upload": ("a.txt", REPORT)}
    for data in ({}, {"csrf": "x" * 64}):
        answer = ann.client.post("/files", data=data, files=files, headers=JSON)
        assert answer.status_code == 403, answer.text
    other = {**JSON, "origin": "http://elsewhere.example", "sec-fetch-site": "cross-site"}
    answer = ann.client.post("/files", data={"csrf": ann.csrf}, files=files, headers=other)
    assert answer.status_code == 403
    stranger = httpx.post(f"{ann.home}/files", data={"csrf": "x"}, files=files, headers=JSON)
    assert stranger.status_code == 401
    assert kept(folder) == [] and rows(ann, FILES) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x\r\n\r\n--x--",
        b'--x\r\ncontent-disposition: form-data; name="upload"; filename="a.txt"\r\n\r\nhalf',
        b"no boundary at all" * 100,
        b'--x\r\ncontent-disposition: form-data; name="text"\r\n\r\n\xff\xfe\r\n--x--\r\n',
        b"--x\r\n" + b"a: b\r\n" * 1000 + b"\r\n\r\n--x--",
        b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n\r\n' * 1000 + b"--x--",
    ],
)
def test_broken_forms_are_refused_and_leave_nothing(ann: Person, folder: Path, body: bytes) -> None:
    headers = {**JSON, "content-type": "multipart/form-data; boundary=x"}
    answer = ann.client.post("/files", content=body, headers=headers)
    assert answer.status_code in (400, 403), answer.text
    answer = ann.client.post("/files", content=body, headers={**JSON, "content-type": "multipart/form-data"})
    assert answer.status_code == 400
    assert kept(folder) == [] and ann.page("/")


def test_two_uploads_for_the_last_byte_of_the_quota(ann: Person, folder: Path) -> None:
    ids_of(attach(ann, ("first.txt", "x" * 10_000)))
    answers: list[httpx.Response] = []
    proof = ann.csrf

    def send(letter: str) -> None:
        files = {"upload": (f"{letter}.txt", letter * 10_000)}
        answers.append(ann.client.post("/files", data={"csrf": proof}, files=files, headers=JSON))

    threads = [threading.Thread(target=send, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [201, 413, 413, 413]
    assert len(kept(folder)) == 2 and sum(row.size for row in rows(ann, BLOBS)) == 20_000


def test_a_file_that_is_gone_when_the_message_is_sent(ann: Person, upstream: Upstream) -> None:
    ids = ids_of(attach(ann, ("a.txt", REPORT), ("b.txt", "more")))
    data = {"csrf": ann.csrf, "text": "q", "file": ids}
    assert ann.client.post("/files/count", data=data, headers=JSON).json()["tokens"]
    ann.send(f"/f/{ids[0]}/remove")
    answer = ann.client.post("/c", data=data, headers=JSON)
    assert answer.status_code == 409 and "removed meanwhile" in answer.json()["error"]
    assert upstream.bodies == [] and "b.txt" in ann.page("/")
    sent = ann.client.post("/c", data={**data, "file": ids[1]}, headers=JSON).json()
    ann.finished(sent["reply"])
    # sent ones stay, and go with no second message
    assert ann.send(f"/f/{ids[1]}/remove").status_code == 409
    answer = ann.client.post("/c", data={**data, "file": ids[1]}, headers=JSON)
    assert answer.status_code in (404, 409)
    assert len(rows(ann, FILES)) == 1


def test_delete_and_send_at_once(ann: Person, folder: Path) -> None:
    sent = begin(ann, "q", ("a.txt", REPORT))
    ids = ids_of(attach(ann, ("b.txt", "another one"), chat=sent["chat"]))
    gate, read = threading.Event(), ann.service.files.read

    def slow(data: bytes, name: str, limits: Limits) -> Document:
        gate.wait(10)
        return read(data, name, limits)

    until(lambda: all(row.state == READY for row in rows(ann, BLOBS)))
    ann.service.files.read = slow
    ids += ids_of(attach(ann, ("c.txt", "a slow one"), chat=sent["chat"]))
    data = {"csrf": ann.csrf, "text": "q", "file": ids, "parent": sent["reply"]}
    answers: list[httpx.Response] = []
    place = f"/c/{sent['chat']}/messages"
    thread = threading.Thread(target=lambda: answers.append(ann.client.post(place, data=data, headers=JSON)))
    thread.start()
    ann.send(f"/c/{sent['chat']}/delete")
    gate.set()
    thread.join(10)
    assert answers[0].status_code == 404
    assert ann.client.get(f"/f/{sent['files'][0]}").status_code == 404  # a deleted chat's file
    ann.send(f"/c/{sent['chat']}/restore")
    assert ann.client.get(f"/f/{sent['files'][0]}").status_code == 200
    ann.send(f"/c/{sent['chat']}/delete")
    from charter_service.chat.tree import purge

    with writing(ann.service.database) as connection:
        purge(connection, time.time() + 100)
    ann.service.files.sweep()
    assert rows(ann, BLOBS) == [] and kept(folder) == []


def test_forgetting_leaves_no_byte(ann: Person, tmp_path: Path) -> None:
    canary = "canary-in-a-coal-mine-7141"
    begin(ann, "q", ("a.txt", canary + " sang"))
    ids_of(attach(ann, ("b.txt", canary + " stopped")))
    until(lambda: all(row.state == READY for row in rows(ann, BLOBS)))
    assert holds(tmp_path, canary)
    ann.send("/me/forget", sure="yes")
    with ann.service.database.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert holds(tmp_path, canary) == []


def holds(folder: Path, words: str) -> list[Path]:
    return [place for place in folder.rglob("*") if place.is_file() and words.encode() in place.read_bytes()]


def test_a_killed_process_leaves_nothing_half_done(tmp_path: Path, upstream: Upstream, folder: Path) -> None:
    config = Config(files=str(folder))
    with served(upstream.app) as api:
        with running(file_of(tmp_path), api, config) as (home, service):
            person = Person(home, service, "ann")
            ids = ids_of(attach(person, ("a.txt", REPORT), ("b.txt", "a second file"), ("c.txt", "a third one")))
            until(lambda: all(row.state == READY for row in rows(person, BLOBS)))
            blobs = {row.sha256: row.id for row in rows(person, BLOBS)}
            key, first = person.key, next(iter(blobs.values()))
            # as if it had been killed: within an upload, between bytes and row, while reading, with bytes lost
            store = Store(folder)
            half = store.incoming("half.txt")
            half.write(b"half")
            half.close()  # as the system does
            whole = store.incoming("orphan.txt")
            whole.end()
            store.adopt(whole, "f" * 32)
            with writing(service.database) as connection:
                connection.execute(update(BLOBS).values(state=RECEIVED, text="", pages="[]"))
            store.remove([first])
        with running(file_of(tmp_path), api, config) as (home, service):
            from company import browse

            client = browse(home, follow_redirects=True)
            client.post("/enter", data={"key": key})
            states = [client.get(f"/f/{id}/state").json() for id in ids]
            assert sorted(one["state"] for one in states) == ["ready", "ready", "refused"]
            assert [one["reason"] for one in states if one["reason"]] == ["its bytes are no longer here; send it again"]
            names = {place.name for place in kept(folder)}
            assert names == set(blobs.values()) - {first}


def test_pages_stay_quick_while_hostile_files_are_read(ann: Person) -> None:
    """Readers that take their time hold up neither pages nor, for long, the files of somebody else."""
    gate, at_once, most = threading.Event(), [0], [0]
    read = ann.service.files.read

    def stuck(data: bytes, name: str, limits: Limits) -> Document:
        if name.startswith("ok"):
            return read(data, name, limits)
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        gate.wait(20)
        at_once[0] -= 1
        return read(data, name, limits)

    ann.service.files.read = stuck
    bob = Person(ann.home, ann.service, "bob")
    ids_of(attach(ann, *((f"bad{n}.txt", f"hostile {n}") for n in range(5))))
    (id,) = ids_of(attach(bob, ("ok.txt", REPORT)))
    assert bob.client.get(f"/f/{id}/state").json()["state"] == "ready"
    assert all(ann.page(place) for place in ("/", "/me", "/limits"))
    assert most == [1] and not gate.is_set()  # one person's files are read one after the other
    gate.set()
    until(lambda: all(row.state == READY for row in rows(ann, BLOBS)))
    assert len(rows(ann, BLOBS)) == 6 and most == [1]


def test_an_unending_form_is_cut_off(ann: Person, folder: Path) -> None:
    def endless() -> Iterator[bytes]:
        yield f'--x\r\ncontent-disposition: form-data; name="csrf"\r\n\r\n{ann.csrf}\r\n'.encode()
        yield b'--x\r\ncontent-disposition: form-data; name="u"; filename="a.txt"\r\n\r\n'
        for _ in range(1000):
            yield b"x" * 100_000

    headers = {**JSON, "content-type": "multipart/form-data; boundary=x"}
    try:
        answer = ann.client.post("/files", content=endless(), headers=headers)
        assert answer.status_code == 413
    except httpx.TransportError:  # the connection was closed before all was sent
        pass
    assert until(lambda: kept(folder) == [] and rows(ann, FILES) == [])
    assert ann.page("/")


def test_an_import_cannot_bring_in_more_than_uploads_may(ann: Person) -> None:
    file = {"name": "../x", "kind": "pdf", "size": 1, "sha256": "0" * 64, "text": "y" * 10_001, "pages": [5, -1, "z"]}
    row = {"id": "1", "parent": "", "role": "user", "text": "q", "files": [file]}
    data: dict[str, Any] = {"form": "charter-chat-1", "title": "t", "leaf": "1", "messages": [row]}
    assert "larger than" in ann.send("/me/import", text=json.dumps(data)).text
    row["files"] = [{**file, "text": str(n) * 6_000} for n in range(9)]
    assert "take more than" in ann.send("/me/import", text=json.dumps(data)).text
    row["files"] = [{**file, "text": "small\u0000 \ud800 one"}, {"name": 5, "text": 7}, "x", None]
    ann.send("/me/import", text=json.dumps(data))
    (blob,) = rows(ann, BLOBS)
    assert blob.sha256 != "0" * 64 and blob.pages == "[5]" and rows(ann, FILES)[0].name == "x"
    assert ann.client.get("/me/data.json").status_code == 200


def exported(texts: list[list[str]]) -> str:
    """A chat as it is exported, with files of these texts in each message."""
    rows = [
        {
            "id": str(number),
            "parent": str(number - 1),
            "role": "user",
            "text": "q",
            "files": [{"name": "x", "text": text} for text in one],
        }
        for number, one in enumerate(texts)
    ]
    return json.dumps({"form": "charter-chat-1", "leaf": str(len(texts) - 1), "messages": rows})


def test_an_import_of_many_files_is_refused_before_one_is_stored(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [[f"{n} {m}" for m in range(5)] for n in range(41)]
    with monkeypatch.context() as patch:
        patch.setattr(Store, "incoming", None)
        answer = ann.send("/me/import", text=exported(texts))
    assert answer.status_code == 413 and "more than 200 files" in answer.text
    sums: list[int] = []

    def summed(_: Connection, person: int) -> int:
        sums.append(person)
        return 0

    monkeypatch.setattr(file_reading, "stored_by", summed)
    assert ann.send("/me/import", text=exported(texts[:3])).status_code == 200
    assert len(rows(ann, BLOBS)) == 15 and len(sums) == 1


def test_an_import_that_is_undone_leaves_no_byte(ann: Person, folder: Path) -> None:
    assert ann.send("/me/import", text=exported([["a" * 9000], ["b" * 9000], ["c" * 9000]])).status_code == 413
    assert rows(ann, BLOBS) == [] and kept(folder) == []


def test_long_texts_come_in_parts_and_passages_are_marked_whole() -> None:
    document = Document("a", "pdf", 1, "x", "a" * 10 + "b" * 10 + "c" * 10, (0, 10, 20))
    pieces = passages_of(document, 0, 30, (8, 22))
    assert "".join(str(value) for kind, value in pieces if kind != "page") == document.text
    assert [value for kind, value in pieces if kind == "page"] == [1, 2, 3]
    assert "".join(str(value) for kind, value in pieces if kind == "passage") == document.text[8:22]
    assert passages_of(document, 5, 5, (0, 0)) == []


def test_addresses_of_text_pages(ann: Person) -> None:
    sent = begin(ann, "q", ("a.txt", REPORT))
    place = f"/f/{sent['files'][0]}"
    for query in ("?from=9&to=3", "?from=-1&to=99999999", "?page=77", "?part=9999999", "?from=x", "?part=1e9"):
        page = ann.page(place + query)
        assert "The river rose" in page and "<mark" not in page, query
    assert "<mark" in ann.page(f"{place}?from=0&to=9") and words_of(ann.page(place)).count("The river") == 1
