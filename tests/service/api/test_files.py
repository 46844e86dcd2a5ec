"""/v1/files: what is stored, who sees it, what is refused, and what a failure leaves."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall, until

from charter_service.accounts.files import clear
from charter_service.accounts.tables import FILES
from charter_service.api import guard as bodies
from charter_service.api.file_store import FileStore

PATH = "/v1/files"
MIB = 2**20
TEXT = b"The heron stands in the shallow water and waits."


class Desk:
    """Somebody with a key."""

    def __init__(self, hall: Hall, organisation: str = "acme", **more: Any) -> None:
        self.hall, self.key = hall, hall.key(organisation, **more)
        self.headers = {"x-api-key": self.key, "anthropic-version": "2023-06-01"}

    def send(self, method: str, path: str = PATH, **more: Any) -> httpx.Response:
        given = self.headers | more.pop("headers", {})
        return httpx.request(method, self.hall.url + path, headers=given, timeout=60, **more)

    def upload(
        self, content: bytes = TEXT, name: str = "a.txt", mime: str = "text/plain", **fields: Any
    ) -> httpx.Response:
        return self.send("POST", files={"file": (name, content, mime)}, data=fields)

    def stored(self, *given: Any, **fields: Any) -> Any:
        answer = self.upload(*given, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, *sources: dict[str, Any], **more: Any) -> httpx.Response:
        blocks = [{"type": "document", "source": source} for source in sources]
        turn = {"role": "user", "content": [*blocks, {"type": "text", "text": "What does it say?"}]}
        return self.send("POST", "/v1/messages", json={"model": MODEL, "max_tokens": 5, "messages": [turn]} | more)


def file_source(id: str) -> dict[str, Any]:
    return {"type": "file", "file_id": id}


def blobs(hall: Hall) -> list[Path]:
    folder = hall.service.files._blobs.folder
    return sorted(folder.iterdir()) if folder.exists() else []


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == "error"
    message: str = answer.json()["error"]["message"]
    return message


@pytest.fixture(scope="module")
def said() -> Said:
    return Said("It waits.")


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, said: Said) -> Iterator[Hall]:
    config = configuration(files={"file_mib": 1, "quota_mib": 3})
    with open_hall(tmp_path_factory.mktemp("hall"), config, said=said) as hall:
        yield hall


def test_a_file_from_its_upload_to_its_end(hall: Hall, said: Said) -> None:
    desk = Desk(hall, "life")
    beta = {"anthropic-beta": "files-api-2025-04-14"}
    file = desk.send("POST", f"{PATH}?beta=true", files={"file": ("a b.txt", TEXT, "text/plain")}, headers=beta).json()
    assert {**file, "id": "", "created_at": ""} == {
        "id": "",
        "type": "file",
        "filename": "a b.txt",
        "mime_type": "text/plain",
        "size_bytes": len(TEXT),
        "created_at": "",
        "expires_at": None,
        "downloadable": False,
    }
    assert desk.send("GET", f"{PATH}/{file['id']}").json() == file
    (blob,) = [path for path in blobs(hall) if path.name == file["id"]]
    assert blob.read_bytes() == TEXT
    assert desk.ask(file_source(file["id"])).status_code == 200
    assert TEXT.decode() in said.asked[-1].prompt[-1]["content"]  # type: ignore[index]
    assert "not downloadable" in problem(desk.send("GET", f"{PATH}/{file['id']}/content"), 400)
    deleted = desk.send("DELETE", f"{PATH}/{file['id']}")
    assert deleted.json() == {"id": file["id"], "type": "file_deleted"}
    assert not blob.exists()
    assert f"messages.0.content.0.source: there is no file '{file['id']}'" == problem(
        desk.ask(file_source(file["id"])), 404
    )
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        assert "there is no file" in problem(desk.send(method, f"{PATH}/{file['id']}{path}"), 404)


def test_another_organisation_gets_404_as_for_no_file(hall: Hall) -> None:
    desk, other = Desk(hall, "mine"), Desk(hall, "theirs")
    id = desk.stored()["id"]
    unknown = "file_" + "0" * 32
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        said = [problem(other.send(method, f"{PATH}/{one}{path}"), 404).replace(one, "") for one in (id, unknown)]
        assert said[0] == said[1]
    assert "there is no file" in problem(other.ask(file_source(id)), 404)
    assert other.send("GET").json()["data"] == []
    assert other.send("GET", f"{PATH}?ids={id}").json()["data"] == []
    assert desk.send("GET", f"{PATH}/{id}").status_code == 200


def test_a_text_read_for_one_organisation_is_not_told_to_another(hall: Hall) -> None:
    """Even of a file with the same bytes, after it was read."""
    first, second = Desk(hall, "first"), Desk(hall, "second")
    a, b = first.stored()["id"], second.stored()["id"]
    assert first.ask(file_source(a)).status_code == 200
    assert first.send("DELETE", f"{PATH}/{a}").status_code == 200
    assert problem(first.ask(file_source(a)), 404)
    assert second.ask(file_source(b)).status_code == 200
    assert {path.name for path in blobs(hall)} >= {b}


def test_lists_by_pages_and_by_ids(hall: Hall) -> None:
    desk = Desk(hall, "lists")
    ids = [desk.stored(name=f"{number}.txt")["id"] for number in range(5)][::-1]
    listed, page = list[str](), ""
    while True:
        answer = desk.send("GET", f"{PATH}?limit=2{page}").json()
        listed += [file["id"] for file in answer["data"]]
        assert answer["has_more"] == (answer["next_page"] is not None)
        if not answer["next_page"]:
            break
        page = f"&page={answer['next_page']}"
    assert listed == ids
    older = desk.send("GET", f"{PATH}?limit=2&after_id={ids[1]}").json()
    assert (older["first_id"], older["last_id"]) == (ids[2], ids[3])
    newer = desk.send("GET", f"{PATH}?limit=2&before_id={ids[3]}").json()
    assert [file["id"] for file in newer["data"]] == ids[1:3]
    some = desk.send("GET", PATH, params={"ids": [ids[0], ids[3], "file_no"]}).json()
    assert [file["id"] for file in some["data"]] == [ids[0], ids[3]]
    assert desk.send("GET", f"{PATH}?scope_id=session_1").json()["data"] == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit is a number from 1"),
        ("limit=x", "limit: expected a whole number"),
        ("limit=1e3", "limit: expected a whole number"),
        ("page=file_1", "page: expected next_page"),
        ("page=page_file_1", "there is no file 'file_1' to list from"),
        ("after_id=%00", "there is no file"),
        ("after_id=a&before_id=b", "before_id and after_id"),
        ("page=page_a&after_id=b", "page: can't be given together"),
        ("ids=a&limit=2", "ids: can't be given together"),
        ("&".join(f"ids={n}" for n in range(101)), "ids: at most 100"),
    ],
)
def test_wrong_questions_for_a_list(hall: Hall, query: str, words: str) -> None:
    assert words in problem(Desk(hall, "lists").send("GET", f"{PATH}?{query}"), 400)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\secret\\a.txt", "a.txt"),
        ("naïve café.txt", "naïve café.txt"),
        ("a\u202etxt.exe", "atxt.exe"),
        ("", "file"),
        ("..", "file"),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
    ],
)
def test_names_are_cleaned(hall: Hall, name: str, kept: str) -> None:
    desk = Desk(hall, "names")
    body = b'--b\r\ncontent-disposition: form-data; name="file"; filename="%s"\r\n\r\nx\r\n--b--\r\n' % name.encode()
    answer = desk.send("POST", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.json()["filename"] == kept
    assert answer.json()["mime_type"] == "application/octet-stream"
    desk.send("DELETE", f"{PATH}/{answer.json()['id']}")


@pytest.mark.parametrize("mime", ["text/html\r\nx-a: b", "x" * 200, "<b>/x", "text/plain; charset=latin-1", ""])
def test_media_types_are_names(hall: Hall, mime: str) -> None:
    desk = Desk(hall, "names")
    body = b'--b\r\ncontent-type: %s\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    answer = desk.send(
        "POST", content=body % mime.encode(), headers={"content-type": "multipart/form-data; boundary=b"}
    ).json()
    assert answer["mime_type"] in ("application/octet-stream", "text/plain", "text/html")
    desk.send("DELETE", f"{PATH}/{answer['id']}")


PART = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n'
END = b"--b--\r\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ended before its last boundary"),
        (PART, "ended before its last boundary"),
        (END, "no part named file"),
        (b"hello", "not multipart/form-data"),
        (PART + PART + END, "two parts named file"),
        (PART.replace(b'; filename="a.txt"', b"") + END, "has no filename"),
        (PART.replace(b'"file"', b'"purpose"') + END, "there is no field 'purpose'"),
        (PART.replace(b"content-disposition", b"x") + END, "there is no field ''"),
        (PART.replace(b"hello", b"") + END, "the file is empty"),
        (PART.replace(b"\r\n\r\n", b"\r\n" + b"x: y\r\n" * 50 + b"\r\n") + END, "maximum header count"),
        (PART.replace(b"a.txt", b"a" * 10_000) + END, "maximum header size"),
        (b'--b\r\ncontent-disposition: form-data; name="expires_in_seconds"\r\n\r\n10\r\n' + PART + END, "from 3,600"),
        (
            b'--b\r\ncontent-disposition: form-data; name="expires_in_seconds"\r\n\r\n' + b"9" * 200 + b"\r\n" + END,
            "at most 100 characters",
        ),
    ],
)
def test_malformed_bodies_leave_nothing(hall: Hall, body: bytes, words: str) -> None:
    desk, before = Desk(hall, "malformed"), blobs(hall)
    answer = desk.send("POST", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert words in problem(answer, 400)
    assert blobs(hall) == before
    assert [row for row in hall.rows(FILES) if row.organisation == hall.organisations["malformed"]] == []


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "", f"multipart/form-data; boundary={'x' * 300}"]
)
def test_bodies_of_another_type_are_refused(hall: Hall, kind: str) -> None:
    answer = Desk(hall, "malformed").send("POST", content=PART + END, headers={"content-type": kind})
    assert "multipart/form-data" in (words := problem(answer, 400)) or "oundary" in words


def test_files_expire(hall: Hall) -> None:
    file = Desk(hall, "expiring").stored(expires_in_seconds=3600)
    assert file["expires_at"] > file["created_at"]


def test_a_file_of_one_byte_too_many_is_refused(hall: Hall) -> None:
    desk, before = Desk(hall, "large"), blobs(hall)
    assert desk.upload(b"x" * MIB).status_code == 200
    assert "over 1 MiB" in problem(desk.upload(b"x" * (MIB + 1)), 413)
    assert "over 1 MiB" in problem(desk.upload(b"x" * 4 * MIB), 413)  # by its length alone
    pieces = iter([PART[:-7], *(b"x" * MIB for _ in range(3))])  # without a length
    with httpx.Client() as web:
        given = {**desk.headers, "content-type": "multipart/form-data; boundary=b"}
        assert "over 1 MiB" in problem(web.post(hall.url + PATH, content=pieces, headers=given), 413)
    assert len(blobs(hall)) == len(before) + 1


def test_the_quota_is_the_organisations(hall: Hall) -> None:
    desk, other = Desk(hall, "full"), Desk(hall, "roomy")
    ids = [desk.stored(b"x" * MIB)["id"] for _ in range(3)]
    said = problem(desk.upload(b"x"), 403)
    assert said == "your organisation's files hold 3,145,728 of 3,145,728 bytes; delete files first"
    assert other.upload().status_code == 200
    assert hall.service.files.refused[hall.organisations["full"], "quota"] == 1
    (mine,) = [one for one in hall.service.files.stored() if one.organisation == hall.organisations["full"]]
    assert (mine.files, mine.bytes) == (3, 3 * MIB)
    desk.send("DELETE", f"{PATH}/{ids[0]}")
    assert desk.upload(b"x").status_code == 200


def test_of_two_uploads_for_the_last_bytes_one_is_stored(hall: Hall) -> None:
    desk = Desk(hall, "racing")
    for _ in range(2):
        desk.stored(b"x" * MIB)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: desk.upload(b"x" * MIB).status_code, range(4)))
    assert sorted(answers)[0] == 200
    assert set(sorted(answers)[1:]) <= {403, 429}
    assert len(desk.send("GET").json()["data"]) == 3
    mine = [row.id for row in hall.rows(FILES) if row.organisation == hall.organisations["racing"]]
    assert len(mine) == 3 == len([path for path in blobs(hall) if path.name in mine])


def test_uploads_under_way_count_as_the_largest_file(hall: Hall) -> None:
    desk, other, files = Desk(hall, "slow"), Desk(hall, "beside"), hall.service.files
    owner = hall.organisations["slow"]
    desk.stored(b"x" * (MIB // 2))
    begun = [files.begin(owner) for _ in range(3)]  # the half, and two others that may be 1 MiB each
    assert "3 uploads of your organisation are under way, which may fill" in problem(desk.upload(), 429)
    assert other.upload().status_code == 200
    for id, blob in begun[:2]:
        blob.close()
        files.drop(id)
        files.drop(id)  # ends once
    assert desk.upload().status_code == 200
    for id, blob in begun[2:]:
        blob.close()
        files.drop(id)
    assert files.refused[owner, "under_way"] == 1


def test_four_uploads_of_an_organisation_at_a_time(tmp_path: Path) -> None:
    with open_hall(tmp_path, configuration(), said=Said("Yes")) as hall:
        desk, files = Desk(hall), hall.service.files
        begun = [files.begin(hall.organisations["acme"]) for _ in range(4)]
        assert "4 uploads of your organisation are under way; wait" in problem(desk.upload(), 429)
        for id, blob in begun:
            blob.close()
            files.drop(id)
        assert desk.upload().status_code == 200


def test_a_key_needs_the_scope_of_messages(hall: Hall) -> None:
    desk = Desk(hall, "scopes", scopes=("feedback",))
    for method, path in (("POST", ""), ("GET", ""), ("GET", "/file_1"), ("DELETE", "/file_1")):
        assert "scope messages" in problem(desk.send(method, PATH + path), 403)
    assert httpx.post(hall.url + PATH, files={"file": b"x"}).status_code == 401


def test_a_client_that_goes_leaves_nothing(hall: Hall) -> None:
    desk, before = Desk(hall, "going"), blobs(hall)
    place = httpx.URL(hall.url)
    head = f"POST {PATH} HTTP/1.1\r\nhost: {place.host}\r\nx-api-key: {desk.key}\r\nanthropic-version: 2023-06-01\r\n"
    head += "content-type: multipart/form-data; boundary=b\r\ncontent-length: 100000\r\n\r\n"
    with socket.create_connection((place.host, place.port or 80)) as web:
        web.sendall(head.encode() + PART + b"x" * 1000)
        until(lambda: len(blobs(hall)) > len(before))
    until(lambda: blobs(hall) == before)
    until(lambda: hall.organisations["going"] not in {row.organisation for row in hall.rows(FILES)})


def test_a_body_that_trickles_is_given_up(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(ours: bodies.Bodies, receive: Any) -> bodies.Body:
        monkeypatch.setattr(ours, "span", 0.1)
        return bodies.Body(ours, receive)

    monkeypatch.setattr(bodies, "SLOWEST", 10.0**9)
    monkeypatch.setattr(bodies.Bodies, "of", impatient)
    desk, before, rest = Desk(hall, "slow"), blobs(hall), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield PART[:-7]
        for _ in range(200):
            rest.wait(0.02)
            yield b"x"

    answer = desk.send("POST", content=pieces(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert "too slowly" in problem(answer, 408)
    assert blobs(hall) == before


def test_a_full_disk_is_told(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FileStore, *_: Any) -> None:
        raise OSError(28, "No space left on device")

    desk, before = Desk(hall, "disk"), blobs(hall)
    monkeypatch.setattr(FileStore, "keep", full)
    assert "disk of this service is full" in problem(desk.upload(), 503)
    assert blobs(hall) == before


def test_a_damaged_blob_is_not_read_as_another_text(hall: Hall) -> None:
    desk = Desk(hall, "damaged")
    for number, damage in enumerate((b"", TEXT.replace(b"heron", b"horse"), None)):
        id = desk.stored(TEXT + bytes([65 + number]))["id"]
        (blob,) = [path for path in blobs(hall) if path.name == id]
        blob.unlink() if damage is None else blob.write_bytes(damage)
        assert "damaged" in problem(desk.ask(file_source(id)), 500)
        assert desk.send("DELETE", f"{PATH}/{id}").status_code == 200


def test_a_file_deleted_while_its_request_runs(hall: Hall, said: Said) -> None:
    desk = Desk(hall, "running")
    id = desk.stored()["id"]
    said.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        try:
            running = threads.submit(desk.ask, file_source(id))
            until(lambda: said.under_way)
            assert desk.send("DELETE", f"{PATH}/{id}").status_code == 200
        finally:
            said.gate.set()
        assert running.result().status_code == 200
    assert problem(desk.ask(file_source(id)), 404)


def test_a_batch_names_files_of_its_organisation(hall: Hall) -> None:
    desk, other = Desk(hall, "batching"), Desk(hall, "stealing")
    id = desk.stored()["id"]

    def result(who: Desk) -> Any:
        block = {"type": "document", "source": file_source(id)}
        turn = {"role": "user", "content": [block, {"type": "text", "text": "Sum it up."}]}
        params = {"model": MODEL, "max_tokens": 5, "messages": [turn]}
        path = "/v1/messages/batches"
        batch = who.send("POST", path, json={"requests": [{"custom_id": "a", "params": params}]}).json()
        place = f"{path}/{batch['id']}"
        until(lambda: who.send("GET", place).json()["processing_status"] == "ended")
        return json.loads(who.send("GET", f"{place}/results").text)["result"]

    assert result(desk)["type"] == "succeeded"
    stolen = result(other)
    assert stolen["type"] == "errored"
    assert stolen["error"]["error"]["type"] == "not_found_error"


def test_a_server_that_was_killed_shows_no_half_file(tmp_path: Path) -> None:
    """A row that is arriving and a blob, as a kill before the answer leaves them."""
    with open_hall(tmp_path, said=Said("Yes")) as hall:
        kept = Desk(hall).stored()["id"]
        id, blob = hall.service.files.begin(hall.organisations["acme"])
        blob.write(b"half")
        blob.close()
        assert [file["id"] for file in Desk(hall).send("GET").json()["data"]] == [kept]
    with open_hall(tmp_path, said=Said("Yes")) as hall:
        until(lambda: [path.name for path in blobs(hall)] == [kept])
        until(lambda: [row.id for row in hall.rows(FILES)] == [kept])
        desk = Desk(hall)
        assert desk.ask(file_source(kept)).status_code == 200
        assert problem(desk.send("GET", f"{PATH}/{id}"), 404)
        assert clear(hall.service.database, hall.service.files._blobs, 0.0) == 0


def test_a_forgotten_organisation_leaves_no_bytes_and_no_texts(hall: Hall) -> None:
    desk, admin = Desk(hall, "leaving"), Desk(hall, "house", scopes=("admin",))
    id, owner = desk.stored(b"canary-11")["id"], hall.organisations["leaving"]
    assert desk.ask(file_source(id)).status_code == 200
    assert [key for key in hall.service.texts._kept if key[0] == owner]
    forgotten = admin.send("POST", f"/admin/organisations/{owner}/forget", json={"sure": "yes"})
    assert forgotten.json()["files"] == 1
    assert id not in [path.name for path in blobs(hall)]
    assert [key for key in hall.service.texts._kept if key[0] == owner] == []


def test_equal_files_are_two_blobs(hall: Hall) -> None:
    desk, other = Desk(hall, "one"), Desk(hall, "two")
    first, second = desk.stored()["id"], other.stored()["id"]
    digests = {row.sha256 for row in hall.rows(FILES) if row.id in (first, second)}
    assert digests == {hashlib.sha256(TEXT).hexdigest()}
    desk.send("DELETE", f"{PATH}/{first}")
    assert other.ask(file_source(second)).status_code == 200


def test_a_suspended_organisation_uploads_and_reads_nothing(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(hall, "bad")
    id = desk.stored()["id"]
    standing = hall.service.conduct.standing(hall.organisations["bad"])
    blocked = type("Blocked", (), {"blocked": True, "message": "suspended", "level": "suspended", "factor": 0.0})()
    assert not standing.blocked

    async def find(call: Any) -> Any:
        return blocked

    monkeypatch.setattr(hall.service, "find_standing", find)
    monkeypatch.setattr(hall.service.texts, "of_file", None)  # nothing is read for it
    assert problem(desk.upload(), 403) == "suspended"
    assert problem(desk.ask(file_source(id)), 403) == "suspended"
    monkeypatch.undo()
    encoded = {"type": "base64", "media_type": "text/plain", "data": base64.b64encode(TEXT).decode()}
    assert desk.ask(encoded).status_code == 200
