"""The worst that one key may ask of a server, again and again, by a process of its own: the other side of fairness.py.

    python benchmarks/attacks.py NAME ADDRESS KEY DATABASE

It reads `go` and `stop` from its standard input, a line each, and answers each with a line of JSON: how many of which
status it was answered so far.
"""

from __future__ import annotations

import base64
import json
import random
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
from load_server import VERSION
from sqlalchemy import Connection, create_engine, text

MESSAGES, BATCHES = "/v1/messages", "/v1/messages/batches"
WORDS = [
    "the",
    "a",
    "of",
    "river",
    "mountain",
    "house",
    "music",
    "water",
    "paper",
    "green",
    "quick",
    "small",
    "seven",
    "letter",
    "garden",
    "window",
    "story",
]
Bodies = Iterator[tuple[str, Any]]  # of requests without end: path, and JSON
KIB, MIB = 2**10, 2**20
HELD = 128  # connections that hold bodies


def words(draw: random.Random, count: int) -> str:
    """So many words, about a token each, and no two texts alike."""
    return " ".join(draw.choice(WORDS) for _ in range(count))


def _message(content: Any, tokens: int = 1, **more: Any) -> dict[str, Any]:
    said = content if isinstance(content, list) else [{"role": "user", "content": content}]
    return {"model": "load", "max_tokens": tokens, "messages": said, **more}


def scoring(draw: random.Random) -> Bodies:
    """Sixteen prompts of 2,000 tokens, scored."""
    while True:
        prompts = [words(draw, 2000) for _ in range(16)]
        asked = {"model": "load", "prompt": prompts, "echo": True, "logprobs": 1, "max_tokens": 0}
        yield "/v1/completions", asked


def long_prompts(draw: random.Random) -> Bodies:
    """Prompts of 8,000 tokens."""
    while True:
        yield MESSAGES, _message(words(draw, 8000))


def long_replies(draw: random.Random) -> Bodies:
    """Replies of 4,000 tokens, more at once than there are slots."""
    while True:
        yield MESSAGES, _message(f"Count from {draw.randrange(1000)} to ten thousand in words.", 4000)


def classifier(draw: random.Random) -> Bodies:
    """Prompts of 434 tokens, 24 at once."""
    while True:
        yield MESSAGES, _message(words(draw, 400))


def pieces(draw: random.Random) -> Bodies:
    """Conversations of 300 turns of several sentences: each is a place that the screen reads."""
    while True:
        turns = [words(draw, 5) + ". " + words(draw, 6) + "." for _ in range(301)]
        roles = ("user", "assistant")
        said = [{"role": roles[n % 2], "content": one} for n, one in enumerate(turns)]
        yield MESSAGES, _message(said)


def encoded(draw: random.Random) -> Bodies:
    """Text in base64, in hexadecimal digits and mirrored, for the screen to undo."""
    while True:
        lines = []
        for _ in range(12):
            plain = words(draw, 40)
            lines += [base64.b64encode(plain.encode()).decode(), words(draw, 30).encode().hex(), plain[::-1]]
        yield MESSAGES, _message("\n".join(lines[:24]))


def _schema(draw: random.Random) -> dict[str, Any]:
    """Slow to compile and to judge, and never the same."""
    name = f"{draw.randrange(10**9):x}"
    slow = {f"{name}{n}": {"type": "string", "pattern": f"^[ab]*a[ab]{{{12 + n % 4}}}{name}$"} for n in range(6)}
    listed = {"type": "array", "items": {"type": "string", "pattern": f"^(a+)+{name}$"}, "uniqueItems": True}
    return {"type": "object", "properties": {**slow, name: {**listed, "maxItems": 3}}, "required": [name]}


def schemas(draw: random.Random) -> Bodies:
    """Schemas whose patterns are slow, as formats of replies and as tools."""
    while True:
        held = {"type": "json_schema", "schema": _schema(draw)}
        yield MESSAGES, _message("Say it.", 60, output_config={"format": held})
        tool = {"name": "say", "description": "says it", "input_schema": _schema(draw)}
        yield MESSAGES, _message("Say it.", 60, tools=[tool], tool_choice={"type": "any"})


def patterns(draw: random.Random) -> Bodies:
    """One pattern of a string, large and always new."""
    while True:
        name = f"{draw.randrange(10**9):x}"
        pattern = f"^(({name}|[a-z]{{1,40}}){{1,40}}[0-9]{{1,60}}){{1,20}}$"
        schema = {
            "type": "object",
            "properties": {"a": {"type": "string", "pattern": pattern}},
            "required": ["a"],
            "additionalProperties": False,
        }
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        said = [{"role": "user", "content": "Say it."}]
        yield ("/v1/chat/completions", {"model": "load", "max_tokens": 60, "messages": said, "response_format": form})


def counting(draw: random.Random) -> Bodies:
    """Texts of 400 KB to be counted."""
    while True:
        content = words(draw, 400 * KIB // 6)
        yield (f"{MESSAGES}/count_tokens", {"model": "load", "messages": [{"role": "user", "content": content}]})


def cutting(draw: random.Random) -> Bodies:
    """Texts of nearly a million characters to be cut into tokens, others of 8 MiB, which are refused, and as many ids to
    be spelled as may be."""
    while True:
        for length in (2**20 - 1, 8 * MIB):
            prompt = (words(draw, 1000) * 1600)[:length]
            yield "/tokenize", {"prompt": prompt, "add_special_tokens": False}
        for most in (100, 900):
            yield "/detokenize", {"tokens": [draw.randrange(1000, 2000) for _ in range(1000)] * most}


@dataclass(frozen=True, slots=True)
class Attack:
    """What is asked, by how many clients at once."""

    bodies: Callable[[random.Random], Bodies]
    clients: int


ASKING = {
    "scoring": Attack(scoring, 8),
    "long prompts": Attack(long_prompts, 24),
    "long replies": Attack(long_replies, 64),
    "classifier": Attack(classifier, 24),
    "many pieces": Attack(pieces, 24),
    "encoded text": Attack(encoded, 24),
    "schemas": Attack(schemas, 24),
    "patterns": Attack(patterns, 24),
    "count_tokens": Attack(counting, 24),
    "tokenize": Attack(cutting, 8),
}


def raw_request(path: str, key: str, body: bytes, length: int | None = None) -> bytes:
    """A POST as it goes over the wire; `length`: another one than the body has."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\n"
    head += f"x-api-key: {key}\r\n" if key else ""
    head += f"anthropic-version: 2023-06-01\r\ncontent-length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


class Attacker:
    """Does one of them while it is told to. `statuses`: of answers so far; 0 where none came."""

    def __init__(self, name: str, address: str, key: str) -> None:
        self.name, self.address, self.key = name, address, key
        self.port = int(address.rpartition(":")[2])
        self.statuses: Counter[int] = Counter()
        self.going = threading.Event()
        self._lock, self._open = threading.Lock(), set[socket.socket]()
        self._threads: list[threading.Thread] = []

    def go(self) -> None:
        """Begins, and waits until it is well under way."""
        self.going.set()
        works = self._works()
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()
        time.sleep(1.0)

    def stop(self) -> None:
        """Hangs up everywhere."""
        self.going.clear()
        with self._lock:
            for sock in self._open:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _works(self) -> list[Callable[[], None]]:
        attack = ASKING[self.name]
        return [lambda n=n: self._ask(attack.bodies(random.Random(time.time_ns() + n))) for n in range(attack.clients)]  # type: ignore[misc]

    def _ask(self, bodies: Bodies) -> None:
        for path, body in bodies:
            if not self.going.is_set():
                return
            status = self.send(raw_request(path, self.key, json.dumps(body).encode()))
            if self.going.is_set():
                self.statuses[status] += 1
                if status in (0, 429, 529):
                    time.sleep(0.05)

    def send(self, raw: bytes) -> int:
        """The status of a request's answer, which is read to its end."""
        with socket.socket() as sock, suppress(OSError):
            self._listed(sock, True)
            try:
                sock.settimeout(120)
                sock.connect(("127.0.0.1", self.port))
                with suppress(OSError):
                    sock.sendall(raw)
                found = sock.recv(65536)
                status = int(found[9:12]) if found.startswith(b"HTTP/1.1 ") else 0
                while sock.recv(2**20):
                    pass
                return status
            finally:
                self._listed(sock, False)
        return 0

    def _listed(self, sock: socket.socket, there: bool) -> None:
        with self._lock:
            (self._open.add if there else self._open.discard)(sock)


class Holder(Attacker):
    """Holds bodies: each connection sends most of one at once and the rest of it a little at a time. Without a key it
    sends 60 KiB, with one 1.9 MiB of 32."""

    def _works(self) -> list[Callable[[], None]]:
        return [self._hold] * HELD

    def _hold(self) -> None:
        while self.going.is_set():
            begun = b'{"model": "load", "messages": "' + b"a" * (1900 * KIB if self.key else 60 * KIB)
            with socket.socket() as sock, suppress(OSError):
                self._listed(sock, True)
                try:
                    sock.settimeout(5)
                    sock.connect(("127.0.0.1", self.port))
                    sock.sendall(raw_request(MESSAGES, self.key, begun, 32 * MIB))
                    while self.going.is_set():
                        sock.sendall(b"a" * 2 * KIB)
                        sock.settimeout(1)
                        with suppress(TimeoutError):
                            self.statuses[int(sock.recv(65536)[9:12] or b"0")] += 1
                            break
                finally:
                    self._listed(sock, False)
            if self.going.is_set():
                time.sleep(0.2)


class Batcher(Attacker):
    """Hands in a batch of as many requests as a key may have, and ends it."""

    count = 100_000

    def go(self) -> None:
        params = _message("Count from one to a hundred in words.", 64)
        asked = [{"custom_id": f"r{n}", "params": params} for n in range(self.count)]
        answer = self._post("", {"requests": asked})
        self.statuses[answer.status_code] += 1
        self._id = answer.json().get("id", "")
        time.sleep(3.0)

    def stop(self) -> None:
        self._post(f"/{self._id}/cancel", {})
        end = time.monotonic() + 120
        while time.monotonic() < end:
            found = httpx.get(f"{self.address}{BATCHES}/{self._id}", headers=self._given, timeout=120).json()
            if found.get("processing_status") == "ended":
                return
            time.sleep(0.2)

    @property
    def _given(self) -> dict[str, str]:
        return {**VERSION, "x-api-key": self.key}

    def _post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(self.address + BATCHES + path, headers=self._given, json=body, timeout=300)


class Thumbs(Attacker):
    """Gives thumbs while somebody else holds the database's lock."""

    def __init__(self, name: str, address: str, key: str, database: str) -> None:
        super().__init__(name, address, key)
        self._engine = create_engine(re.sub(r"^postgresql:", "postgresql+psycopg:", database))
        self._holding: Connection | None = None
        given = {**VERSION, "x-api-key": key}
        asked = _message("Hello")
        answer = httpx.post(address + MESSAGES, headers=given, json=asked, timeout=120)
        self._body = json.dumps({"request_id": answer.headers["request-id"], "thumb": "up"}).encode()

    def go(self) -> None:
        self._holding = self._engine.connect()
        lite = self._engine.url.get_backend_name() == "sqlite"
        self._holding.execute(text("BEGIN IMMEDIATE" if lite else "LOCK TABLE feedback IN ACCESS EXCLUSIVE MODE"))
        super().go()

    def stop(self) -> None:
        self.going.clear()
        assert self._holding is not None
        self._holding.rollback()
        self._holding.close()
        super().stop()

    def _works(self) -> list[Callable[[], None]]:
        return [self._thumb] * 24

    def _thumb(self) -> None:
        while self.going.is_set():
            self.statuses[self.send(raw_request("/v1/feedback", self.key, self._body))] += 1


NAMES = (*ASKING, "bodies that trickle", "bodies without a key", "batch", "thumbs")


def attacker(name: str, address: str, key: str, database: str) -> Attacker:
    """The one of a name."""
    if name == "bodies that trickle":
        return Holder(name, address, key)
    if name == "bodies without a key":
        return Holder(name, address, "")
    if name == "batch":
        return Batcher(name, address, key)
    return Thumbs(name, address, key, database) if name == "thumbs" else Attacker(name, address, key)


def main() -> None:
    """Does what the lines say."""
    one = attacker(*sys.argv[1:])
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        one.go() if line.strip() == "go" else one.stop()
        print(json.dumps(one.statuses), flush=True)


if __name__ == "__main__":
    main()
