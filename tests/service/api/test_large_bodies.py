"""Large bodies: read as small ones are, and nobody waits for it."""

from __future__ import annotations

import json
import random
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Said, open_hall, until
from malformed import HELLO

from charter_service.api.app import ROUTES
from charter_service.api.errors import ApiError
from charter_service.api.wire import reading
from charter_service.api.wire.reading import DEEPEST, LARGE, MOST_PARTS, read_json


def told(raw: bytes) -> Any:
    """What comes of reading: the JSON, or what was said against it."""
    try:
        return json.dumps(read_json(raw, 50_000))
    except ApiError as error:
        return str(error)


def nested(deep: int) -> bytes:
    return b"[" * deep + b"1" + b"]" * deep


def texts() -> Iterator[bytes]:
    """Right and wrong JSON, some of it larger than any window."""
    some = {"a": [1, -2.5e3, True, None, "\u00e9\U0001f600"], "b": {"c": ["x" * 9000] * 10, "": []}, "d": "y" * 99_999}
    right = json.dumps([some, [list(range(20_000))], {f"k{n}": {"v": [n]} for n in range(4000)}]).encode()
    yield right
    yield json.dumps(some, ensure_ascii=False, indent=2).encode()
    yield from (b" \n" + right + b"\t ", right + b"]", right + b" {}", b"", b"  ", b"[", b"\xff", right + b"\xc3")
    for piece in (
        b"NaN",
        b"-Infinity",
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',
        b'{"\\udc00": 1}',
        b"01",
        b"'a'",
        b"[1,]",
        b'"\n"',
    ):
        yield piece
        yield b"[" + b"[0, 1], " * 9000 + piece + b"]"
        yield b'{"a": ' + b"[0, " * 3 + piece + b", 7" * 30_000 + b"]" * 3 + b"}"
    for deep in (DEEPEST, DEEPEST + 1, 5000):
        yield nested(deep)
        yield b"[" + b"7, " * 30_000 + nested(deep - 1) + b"]"
    draw = random.Random(7)
    for _ in range(30):
        at = draw.randrange(len(right))
        yield (right[:at] + draw.choice([b"", b'"', b"}", b"]", b",", b":", b"\\", b"\x00", b"{"]) + right[at + 1 :])
        yield right[:at]


@pytest.mark.slow
def test_large_texts_are_read_as_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    given = list(texts())
    monkeypatch.setattr(reading, "LARGE", 10**9)
    at_once = [told(raw) for raw in given]
    monkeypatch.setattr(reading, "LARGE", 0)
    assert [told(raw) for raw in given] == at_once
    assert len({said for said in at_once if "not JSON" in said}) > 20
    assert sum("not JSON" not in said for said in at_once) > 5


def body(stream: bool = False, text: str = "Hello") -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "max_tokens": 5, "messages": messages, "stream": stream}


def test_others_are_answered_while_a_large_body_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()
    real = reading.read_json

    def held(raw: bytes, *given: Any) -> Any:
        if len(raw) > LARGE:
            began.set()
            assert go_on.wait(60)
        return real(raw, *given)

    monkeypatch.setattr(reading, "read_json", held)
    with open_hall(tmp_path, said=Said("One ", "two")) as hall:
        given = {"x-api-key": hall.key(), "anthropic-version": "2023-06-01"}
        found: list[int] = []

        def send(path: str, content: Any) -> None:
            found.append(httpx.post(hall.url + path, headers=given, json=content, timeout=60).status_code)

        item = {"custom_id": "a", "params": {**body(text="x" * LARGE)}}
        large = [("/v1/messages", body(text="long " * LARGE)), ("/v1/messages/batches", {"requests": [item]})]
        threads = [threading.Thread(target=send, args=one) for one in large]
        for thread in threads:
            thread.start()
        assert began.wait(60)
        answer = httpx.post(f"{hall.url}/v1/messages", headers=given, json=body(stream=True), timeout=60)
        assert answer.status_code == 200 and "message_stop" in answer.text and not found
        go_on.set()
        for thread in threads:
            thread.join()
    assert sorted(found) == [200, 400]  # the message is longer than the context


def test_what_is_wrong_in_a_large_batch_is_named(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Said("One")) as hall:
        given = {"x-api-key": hall.key(), "anthropic-version": "2023-06-01"}
        good = [
            {"custom_id": f"r{n}", "params": {"model": MODEL, "max_tokens": 1, "messages": HELLO}} for n in range(9000)
        ]
        for wrong, said in (
            ({"requests": [*good, {"custom_id": "a b", "params": {}}]}, "requests.9000.custom_id: String should"),
            ({"requests": [*good, {"custom_id": "z"}]}, "requests.9000.params: Field required"),
            ({"requests": [*good, 5]}, "requests.9000: "),
            ({"requests": good, "colour": 1}, "colour: Extra inputs"),
            ({"requests": {"x": good}}, "requests: Input should be a valid list"),
        ):
            answer = httpx.post(f"{hall.url}/v1/messages/batches", headers=given, json=wrong, timeout=60)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"].startswith(said)


def test_a_batch_of_many_is_taken_in_whole(tmp_path: Path) -> None:
    said = Said("One")
    said.gate.clear()
    with open_hall(tmp_path, said=said) as hall:
        given = {"x-api-key": hall.key(), "anthropic-version": "2023-06-01"}
        params = {"model": MODEL, "max_tokens": 1, "messages": HELLO}
        asked = [{"custom_id": f"r{n}", "params": params} for n in range(3000)]
        url = f"{hall.url}/v1/messages/batches"
        made = httpx.post(url, headers=given, json={"requests": asked}, timeout=60).json()
        assert (made["processing_status"], made["request_counts"]["processing"]) == ("in_progress", 3000)
        until(lambda: said.under_way)
        ended = httpx.post(f"{url}/{made['id']}/cancel", headers=given, timeout=60).json()
        assert ended["processing_status"] == "canceling"
        said.gate.set()
        until(lambda: httpx.get(f"{url}/{made['id']}", headers=given).json()["processing_status"] == "ended")
        rows = httpx.get(f"{url}/{made['id']}/results", headers=given, timeout=60).text.splitlines()
    assert {json.loads(row)["custom_id"] for row in rows} == {one["custom_id"] for one in asked}


@pytest.mark.slow
def test_a_request_of_too_many_parts_is_refused(tmp_path: Path) -> None:
    def blocks(count: int) -> dict[str, Any]:
        content = [{"type": "text", "text": "a"}] * count
        return {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": content}]}

    with open_hall(tmp_path, said=Said("One")) as hall:
        given = {"x-api-key": hall.key(), "anthropic-version": "2023-06-01"}
        url = f"{hall.url}/v1/messages"
        many = httpx.post(f"{url}/count_tokens", headers=given, json=_counted(blocks(MOST_PARTS - 10)), timeout=60)
        more = httpx.post(url, headers=given, json=blocks(MOST_PARTS), timeout=60)
        items = [{"custom_id": "a", "params": blocks(MOST_PARTS)}, {"custom_id": "b", "params": body()}]
        id = httpx.post(f"{url}/batches", headers=given, json={"requests": items}, timeout=60).json()["id"]
        until(lambda: httpx.get(f"{url}/batches/{id}", headers=given).json()["processing_status"] == "ended")
        rows = httpx.get(f"{url}/batches/{id}/results", headers=given, timeout=60).text.splitlines()
    found = {row["custom_id"]: row["result"] for row in map(json.loads, rows)}
    assert many.status_code == 200 and many.json()["input_tokens"] > MOST_PARTS - 10
    assert more.status_code == 400
    assert more.json()["error"]["message"].startswith("the body has more than 100,000 objects and arrays")
    assert found["b"]["type"] == "succeeded" and found["a"]["type"] == "errored"
    assert "100,000 objects" in found["a"]["error"]["error"]["message"]


def _counted(asked: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if key != "max_tokens"}


def test_lists_of_too_many_values_are_refused_before_they_are_read_whole() -> None:
    raw = b"[" + b"1," * (reading.MOST_STEPS + 10) + b'"never looked at" oops]'
    with pytest.raises(ApiError, match="more than 1,048,576 values in lists; send less at a time"):
        reading.read_json(raw)


def test_a_body_whose_client_is_gone_is_read_no_further() -> None:
    class Leaving(threading.Event):
        looks, stays = 0, 10**9

        def is_set(self) -> bool:
            self.looks += 1
            return self.looks > self.stays

    raw, client = b"[" + b"1," * 900_000 + b"1]", Leaving()
    assert len(reading.read_json(raw, gone=client)) == 900_001 and client.looks > 10
    client.looks, client.stays = 0, 3
    with pytest.raises(ApiError, match="the client went"):
        reading.read_json(raw, gone=client)
    assert client.looks == 4, "it was read further"


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall"), said=Said("One")) as found:
        yield found


@pytest.mark.parametrize(
    ("method", "path"), [(route.method, route.path) for route in ROUTES if not route.open and route.method != "GET"]
)
@pytest.mark.parametrize("key", ["", "x-api-key: sk-charter-wrong\r\n"])
def test_the_key_is_asked_for_before_the_body(hall: Hall, method: str, path: str, key: str) -> None:
    """32 MiB are announced and a little is sent: the answer comes all the same."""
    path = re.sub(r"{\w+}", "some", path)
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{key}content-type: application/json\r\n"
    head += f"anthropic-version: 2023-06-01\r\ncontent-length: {2**25}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(hall.url.rpartition(":")[2]))) as sock:
        sock.settimeout(60)
        sock.sendall(head.encode() + b'{"prompt": [' + b"1, " * 1000)
        assert sock.recv(65536).startswith(b"HTTP/1.1 401 ")
