"""What whoever runs a server is to be woken by stands in its figures: a disk that fills, queues and threads that stand
still, and what was refused for which reason."""

from __future__ import annotations

import asyncio
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lobby import MODEL, Hall, Said, configuration, open_hall, until
from malformed import HELLO

from charter.ground.generate.engine_limits import Overloaded
from charter_service.api.alarms import STALL_SECONDS
from charter_service.web import room

BODY = {"model": MODEL, "max_tokens": 4, "messages": HELLO}


def asked(hall: Hall, secret: str, path: str, body: Any = None) -> httpx.Response:
    given = {"x-api-key": secret, "anthropic-version": "2023-06-01"}
    return httpx.request("GET" if body is None else "POST", hall.url + path, headers=given, json=body, timeout=60)


def figure(hall: Hall, name: str, **labels: str) -> float | None:
    """A figure of the server; None where it has none."""
    named = "{" + ",".join(f'{k}="{v}"' for k, v in sorted(labels.items())) + "}" if labels else ""
    found = re.search(rf"^{re.escape(name + named)} (\S+)$", httpx.get(f"{hall.url}/metrics").text, re.M)
    return float(found[1]) if found else None


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with open_hall(tmp_path_factory.mktemp("hall")) as hall:
        yield hall


def test_the_disk_and_its_floor_are_told(hall: Hall) -> None:
    free, floor = figure(hall, "charter_disk_free_bytes"), figure(hall, "charter_disk_floor_bytes")
    assert free and free > 0 and floor == hall.service.room.floor


def test_a_step_over_a_quarter_of_a_second_is_counted(hall: Hall) -> None:
    driver = hall.service.registry.served[0].backend._driver
    before = figure(hall, "charter_slow_steps_total", model=MODEL)
    driver.call(lambda engine: time.sleep(0.3)).result()
    driver.call(lambda engine: None).result()
    assert figure(hall, "charter_slow_steps_total", model=MODEL) == before + 1


def test_who_waits_for_an_engine_that_stands_still_is_seen(hall: Hall) -> None:
    driver, held, begun = (hall.service.registry.served[0].backend._driver, threading.Event(), threading.Event())
    driver.call(lambda engine: (begun.set(), held.wait()))
    assert begun.wait(60)
    secret = hall.key()
    paths = {
        "/v1/messages": BODY,
        "/v1/completions": {"model": MODEL, "prompt": "a b", "max_tokens": 0, "echo": True, "logprobs": 1},
    }
    threads = [threading.Thread(target=asked, args=(hall, secret, *one)) for one in paths.items()]
    for thread in threads:
        thread.start()
    try:
        until(lambda: (figure(hall, "charter_oldest_wait_seconds", queue="replies") or 0) > 0.2)
        until(lambda: (figure(hall, "charter_oldest_wait_seconds", queue="scoring") or 0) > 0.2)
    finally:
        held.set()
        for thread in threads:
            thread.join()
    for queue in ("replies", "scoring"):
        assert figure(hall, "charter_oldest_wait_seconds", queue=queue) == 0


@pytest.mark.parametrize(
    ("queue", "threads"), [("bodies", "_aside"), ("writes", "_writing"), ("classifiers", "_judging")]
)
def test_who_waits_beside_the_event_loop_is_seen(hall: Hall, queue: str, threads: str) -> None:
    held, lane = threading.Event(), getattr(hall.service, threads)

    async def fill() -> None:
        works = [asyncio.ensure_future(lane.do(f"org_{n}", lambda: held.wait() and None)) for n in range(6)]
        await asyncio.to_thread(until, lambda: (figure(hall, "charter_oldest_wait_seconds", queue=queue) or 0) > 0.2)
        held.set()
        await asyncio.gather(*works)

    asyncio.run(fill())
    assert figure(hall, "charter_oldest_wait_seconds", queue=queue) == 0


def test_forms_that_wait_are_seen(hall: Hall) -> None:
    assert figure(hall, "charter_oldest_wait_seconds", queue="compiling") == 0


class Blocking(Said):
    """Counts where nothing may take long, in the event loop."""

    async def count(self, prompt: Any) -> int:
        time.sleep(2 * STALL_SECONDS)
        return await super().count(prompt)


def test_an_event_loop_that_stood_still_is_counted(tmp_path: Path) -> None:
    with open_hall(tmp_path, said=Blocking("One")) as hall:
        before = figure(hall, "charter_loop_stalls_total")
        assert before is not None
        assert asked(hall, hall.key(), "/v1/messages", BODY).status_code == 200
        until(lambda: (figure(hall, "charter_loop_stalls_total") or 0) > before)


def test_what_was_refused_is_counted_by_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said(failing=Overloaded("5 requests", own=False))
    with open_hall(tmp_path, said=said) as hall:
        secret = hall.key()
        assert asked(hall, secret, "/v1/messages", BODY).status_code == 529
        assert figure(hall, "charter_refused_total", status="529", reason="replies") == 1
        monkeypatch.setattr(room, "FLOOR", 2**60)
        monkeypatch.setattr(room, "SHARE", 1)
        batch = {"requests": [{"custom_id": "a", "params": BODY}]}
        assert asked(hall, secret, "/v1/messages/batches", batch).status_code == 529
        assert figure(hall, "charter_refused_total", status="529", reason="disk") == 1


def test_a_locked_database_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charter_service.web.database.BUSY_SECONDS", 0.1)
    with open_hall(tmp_path, said=Said("One")) as hall:
        secret = hall.key()
        request = asked(hall, secret, "/v1/messages", BODY).headers["request-id"]
        assert asked(hall, secret, f"/v1/requests/{request}").status_code == 200
        holder = sqlite3.connect(tmp_path / "serve.sqlite", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        answer = asked(hall, secret, "/v1/feedback", {"request_id": request, "thumb": "up"})
        holder.execute("ROLLBACK")
        holder.close()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert figure(hall, "charter_refused_total", status="503", reason="database_locked") == 1


@pytest.mark.parametrize(
    "names", [("content-length: 4", "transfer-encoding: chunked"), ("Transfer-Encoding: chunked", "Content-Length: 0")]
)
def test_a_body_that_ends_in_two_ways_is_refused(hall: Hall, names: tuple[str, str]) -> None:
    """A proxy that believes the length takes what follows for the next request of the connection, perhaps another's."""
    port = int(hall.url.rpartition(":")[2])
    lines = ("POST /v1/messages HTTP/1.1", "host: localhost", f"x-api-key: {hall.key()}", *names, "", "")
    smuggled = b"0\r\n\r\nGET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall("\r\n".join(lines).encode() + smuggled)
        found = b""
        while more := sock.recv(65536):
            found += more
    assert found.startswith(b"HTTP/1.1 400 ") and b"transfer-encoding" in found
    assert found.count(b"HTTP/1.1 ") == 1, "what follows is nobody's request"


def test_counting_has_a_limit_of_its_own(tmp_path: Path) -> None:
    config = configuration(limits={"counts_per_request": 2})
    with open_hall(tmp_path, config) as hall:
        secret, other = (hall.key(name, limits={"requests_per_minute": 2}) for name in ("acme", "other"))
        calls = [
            ("/v1/messages/count_tokens", {"model": MODEL, "messages": HELLO}),
            ("/tokenize", {"model": MODEL, "prompt": "a b"}),
            ("/detokenize", {"model": MODEL, "tokens": [1]}),
        ]
        found = [asked(hall, secret, *calls[n % 3]) for n in range(4)]
        assert [one.status_code for one in found] == [200] * 4
        assert [one.headers["anthropic-ratelimit-requests-remaining"] for one in found] == ["3", "2", "1", "0"]
        assert {one.headers["anthropic-ratelimit-requests-limit"] for one in found} == {"4"}
        refused = asked(hall, secret, *calls[0])
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) in range(1, 16)
        assert "4 requests a minute" in refused.json()["error"]["message"]
        assert asked(hall, secret, "/v1/messages", BODY).status_code == 200, "it takes nothing from requests"
        assert asked(hall, other, *calls[0]).status_code == 200
