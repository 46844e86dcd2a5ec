"""Requests that are wrong in every way: each is answered by an error of the client's, and nothing is left of them."""

from __future__ import annotations

import itertools
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from lobby import MODEL, Hall, open_hall, until
from malformed import HELLO, request_bytes, requests, send, status_of

from charter_service.api.wire import reading

SOME = 300
SEED = 5


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall")) as hall:
        yield hall


@pytest.fixture(scope="module")
def key(hall: Hall) -> str:
    most = {"requests_per_minute": 10**6, "input_tokens_per_minute": 10**9, "output_tokens_per_minute": 10**9}
    return hall.key(scopes=("messages", "batches", "admin"), limits=most)


def port_of(hall: Hall) -> int:
    return int(hall.url.rpartition(":")[2])


def answer_of(sock: socket.socket) -> bytes:
    """One answer, as long as it says it is."""
    found = b""
    while b"\r\n\r\n" not in found:
        more = sock.recv(65536)
        assert more, found
        found += more
    head, _, body = found.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    while length and len(body) < int(length[1]):
        more = sock.recv(65536)
        assert more, found
        body += more
    return head + b"\r\n\r\n" + body


def engines_idle(hall: Hall) -> bool:
    figures = [served.backend.figures() for served in hall.service.registry.served]
    return all(found["busy"] == found["waiting"] == 0 for found in figures)


def test_no_request_makes_the_server_fail_or_hang(hall: Hall, key: str) -> None:
    asked = list(itertools.islice(requests(SEED, MODEL, key), SOME))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda wrong: send(port_of(hall), wrong), asked))
    failed = [
        (wrong.kind, status, wrong.raw[:200], said[-200:])
        for wrong, (status, said) in zip(asked, found, strict=True)
        if status >= 500 or status < 0
    ]
    assert not failed, failed[:3]
    statuses = {status for status, _ in found}
    assert {200, 400, 404} <= statuses
    until(lambda: engines_idle(hall))
    until(lambda: not hall.batching.under_way)
    account = hall.service.keyring.find_caller(key).organisation
    until(lambda: hall.service.admissions.under_way(account) == 0)


def test_the_same_seed_makes_the_same_requests(key: str) -> None:
    one, other = (list(itertools.islice(requests(3, MODEL, key), 50)) for _ in range(2))
    assert one == other
    assert one != list(itertools.islice(requests(4, MODEL, key), 50))


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes_and_the_connection_lives_on(
    hall: Hall, key: str
) -> None:
    size = reading.LARGEST_BODY + 1
    known = (f"x-api-key: {key}", "anthropic-version: 2023-06-01", "connection: keep-alive")
    with socket.create_connection(("127.0.0.1", port_of(hall)), timeout=60) as sock:
        sock.sendall(request_bytes("POST", "/v1/messages", b"", *known, length=size))
        answer = answer_of(sock)
        assert status_of(answer) == 413, answer
        assert b"32 MiB" in answer
        chunk = b" " * 2**20
        for _ in range(size // len(chunk)):
            sock.sendall(chunk)
        sock.sendall(b" " * (size % len(chunk)))
        sock.sendall(request_bytes("GET", "/v1/models", None, *known))
        assert status_of(answer_of(sock)) == 200


def test_a_long_body_without_a_length_is_refused_on_the_way(
    hall: Hall, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charter_service.api.wire.reading.LARGEST_BODY", 2**20)
    known = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    pieces = (b" " * 2**16 for _ in range(40))
    found = httpx.post(f"{hall.url}/v1/messages", content=pieces, headers=known, timeout=60)
    assert found.status_code == 413
    assert found.json()["error"]["type"] == "request_too_large"


def test_a_body_is_not_sent_before_it_is_wanted(hall: Hall, key: str) -> None:
    body = json.dumps({"model": MODEL, "max_tokens": 2, "messages": HELLO}).encode()
    known = ("anthropic-version: 2023-06-01", "expect: 100-continue")
    for secret, first in ((f"x-api-key: {key}", b"HTTP/1.1 100"), ("x-api-key: wrong", b"HTTP/1.1 401")):
        with socket.create_connection(("127.0.0.1", port_of(hall)), timeout=60) as sock:
            sock.sendall(request_bytes("POST", "/v1/messages", b"", *known, secret, length=len(body)))
            assert sock.recv(65536).startswith(first)
            if first.endswith(b"100"):
                sock.sendall(body)
                assert status_of(answer_of(sock)) == 200


def test_a_wrong_host_is_an_address_that_is_not_served(hall: Hall) -> None:
    for host in ("[bad", "a b", ""):
        with socket.create_connection(("127.0.0.1", port_of(hall)), timeout=60) as sock:
            sock.sendall(request_bytes("GET", "/nowhere", None, f"host: {host}"))
            assert status_of(answer_of(sock)) in (400, 404)


def test_a_text_far_beyond_the_context_is_refused_unread(hall: Hall, key: str) -> None:
    known = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    body = {"model": MODEL, "max_tokens": 2, "messages": [{"role": "user", "content": "long " * 1_000_000}]}
    found = httpx.post(f"{hall.url}/v1/messages", json=body, headers=known, timeout=60)
    assert found.status_code == 400
    assert "prompt is too long: over " in found.json()["error"]["message"]
