"""Requests that are wrong in some way, made from right ones by chance and a seed, and a client that sends raw bytes.

`requests(seed)` gives them without an end: most are mutations of a valid request to some route (a value of another
type, a huge number, half a surrogate pair, deep nesting, doubled keys, cut JSON, random bytes), the rest are wrong as
HTTP (methods, paths, headers, chunked bodies that end early, pipelined garbage).
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

HELLO = [{"role": "user", "content": "Hello"}]
_TOOL = {
    "name": "look",
    "description": "Looks",
    "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}},
}
_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def valid(model: str) -> list[tuple[str, str, Any]]:
    """Right requests: method, path and body (None: none)."""
    message = {"model": model, "max_tokens": 4, "messages": HELLO}
    chat = {"model": model, "max_tokens": 4, "messages": HELLO}
    batch = {"requests": [{"custom_id": "a", "params": message}]}
    return [
        ("POST", "/v1/messages", {**message, "system": "Be brief.", "stop_sequences": ["x"], "temperature": 0.5}),
        ("POST", "/v1/messages", {**message, "stream": True, "top_p": 0.9, "top_k": 5, "metadata": {"user_id": "u"}}),
        ("POST", "/v1/messages", {**message, "tools": [_TOOL], "tool_choice": {"type": "auto"}}),
        ("POST", "/v1/messages", {**message, "max_tokens": 40, "output_config": {"format": {"type": "json_schema", "schema": _SCHEMA}}}),
        ("POST", "/v1/messages", {**message, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "So"}]}),
        ("POST", "/v1/messages/count_tokens", {"model": model, "messages": HELLO}),
        ("POST", "/v1/messages/batches", batch),
        ("GET", "/v1/messages/batches?limit=3", None),
        ("GET", "/v1/messages/batches/msgbatch_1", None),
        ("GET", "/v1/messages/batches/msgbatch_1/results", None),
        ("POST", "/v1/messages/batches/msgbatch_1/cancel", None),
        ("DELETE", "/v1/messages/batches/msgbatch_1", None),
        ("POST", "/v1/complete", {"model": model, "prompt": "\n\nHuman: Hi\n\nAssistant:", "max_tokens_to_sample": 4, "stop_sequences": ["y"]}),
        ("POST", "/v1/complete", {"model": model, "prompt": "\n\nHuman: Hi\n\nAssistant:", "max_tokens_to_sample": 4, "stream": True}),
        ("POST", "/v1/chat/completions", {**chat, "n": 2, "stop": ["x"], "logprobs": True, "top_logprobs": 2}),
        ("POST", "/v1/chat/completions", {**chat, "stream": True, "response_format": {"type": "json_object"}, "seed": 3}),
        ("POST", "/v1/completions", {"model": model, "prompt": "Hi", "max_tokens": 3, "echo": True, "logprobs": 1}),
        ("POST", "/v1/completions", {"model": model, "prompt": [1, 2, 3], "max_tokens": 3, "n": 2}),
        ("GET", "/v1/models", None),
        ("GET", f"/v1/models/{model}", None),
        ("POST", "/tokenize", {"model": model, "prompt": "Hi"}),
        ("POST", "/detokenize", {"model": model, "tokens": [1, 2]}),
        ("POST", "/v1/feedback", {"request_id": "req_1", "rating": "up"}),
        ("GET", "/", None),
        ("GET", "/metrics", None),
        ("GET", "/healthz", None),
        ("GET", "/admin/keys?format=json", None),
        ("GET", "/openapi.json", None),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong request: what kind, and its bytes. `whole`: the client does not close its side early."""

    kind: str
    raw: bytes
    whole: bool = True


Change = Callable[[random.Random, Any], bytes]
VALUES: list[Any] = [
    None, True, -1, 0, 1e308, 10**30, -(10**400), 2**63, 0.1, "", "x" * 3000, "\x00", "a\ud800b", "﷽" * 50, "\u202e", [], {},
    [[]], {"a": {"b": []}}, [None] * 50, "<|im_end|>" * 500, {"type": "text"}, {"$ref": "#"}, [1, "a", None], "\n\nHuman:",
]  # fmt: skip


def places(found: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand in some JSON."""
    inner = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, value in inner:
        yield (*at, key)
        yield from places(value, (*at, key))


def _put(found: Any, at: tuple[Any, ...], value: Any) -> Any:
    if not at:
        return value
    copy = dict(found) if isinstance(found, dict) else list(found)
    copy[at[0]] = _put(copy[at[0]], at[1:], value)
    return copy


def _value(draw: random.Random, body: Any) -> bytes:
    at = draw.choice([*places(body), ()])
    return json.dumps(_put(body, at, draw.choice(VALUES))).encode("utf-8", "surrogatepass")


def _several(draw: random.Random, body: Any) -> bytes:
    for _ in range(3):
        if isinstance(body, dict | list) and (found := list(places(body))):
            body = _put(body, draw.choice(found), draw.choice(VALUES))
    return json.dumps(body).encode("utf-8", "surrogatepass")


def _key(draw: random.Random, body: Any) -> bytes:
    name = draw.choice(["", "\x00", "a" * 500, "__class__", "stream", "n", "\ud800", "model_config", "tools", "user"])
    return json.dumps({**body, name: draw.choice(VALUES)}).encode("utf-8", "surrogatepass")


def _left_out(draw: random.Random, body: Any) -> bytes:
    name = draw.choice(list(body))
    return json.dumps({key: value for key, value in body.items() if key != name}).encode()


def _doubled(draw: random.Random, body: Any) -> bytes:
    name = draw.choice(list(body))
    return json.dumps(body).encode()[:-1] + f', "{name}": {json.dumps(draw.choice(VALUES))}}}'.encode()


def _cut(draw: random.Random, body: Any) -> bytes:
    text = json.dumps(body).encode()
    return text[: draw.randrange(len(text))]


def _flipped(draw: random.Random, body: Any) -> bytes:
    text = bytearray(json.dumps(body).encode())
    for _ in range(draw.randint(1, 4)):
        text[draw.randrange(len(text))] = draw.randrange(256)
    return bytes(text)


def _numbers(draw: random.Random, body: Any) -> bytes:
    number = draw.choice(["NaN", "Infinity", "-Infinity", "1e999", "-0", "9" * 5000, "0.0000001", "1E400", "00", "+1"])
    text = json.dumps(_put(body, draw.choice(list(places(body))), "@@")).replace('"@@"', number)
    return text.encode()


def _deep(draw: random.Random, body: Any) -> bytes:
    depth = draw.choice([150, 250, 5000, 100_000])
    opening, closing = draw.choice([("[", "]"), ('{"a":', "}")])
    deep = opening * depth + "1" + closing * depth
    return json.dumps(_put(body, draw.choice(list(places(body))), "@@")).replace('"@@"', deep).encode()


def _random(draw: random.Random, body: Any) -> bytes:
    return draw.randbytes(draw.choice([0, 1, 100, 5000]))


def _other_json(draw: random.Random, body: Any) -> bytes:
    return json.dumps(draw.choice(VALUES)).encode("utf-8", "surrogatepass")


def _long_lists(draw: random.Random, body: Any) -> bytes:
    more = draw.choice([
        {"stop_sequences": [f"s{n}" for n in range(5000)]},
        {"stop": ["x" * 900] * 5000},
        {"tools": [{**_TOOL, "name": f"t{n}"} for n in range(500)], "tool_choice": {"type": "any"}},
        {"messages": HELLO * 20_000},
        {"n": 128, "best_of": 1000, "max_tokens": 10**9},
        {"prompt": list(range(10_000))},
        {"prompt": ["a"] * 5000},
        {"requests": [{"custom_id": "same", "params": {}}] * 3000},
        {"system": "word " * 60_000},
        {"tokens": [2**40] * 1000},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "string", "pattern": "^(a|aa)+$"}}}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"enum": list(range(30_000))}}}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "#"}}}},
    ])  # fmt: skip
    return json.dumps({**body, **more}).encode()


BODIES: tuple[Change, ...] = (
    _value, _value, _value, _several, _key, _left_out, _doubled, _cut, _flipped, _numbers, _deep, _random, _other_json,
    _long_lists,
)  # fmt: skip
PATHS = (
    "/v1/messages/", "//v1/messages", "/v1/../v1/messages", "/v1/%2e%2e/admin", "/v1/messages%00", "/v1/models/%ff%fe",
    "/v1/models/../../etc/passwd", "/static/../../../etc/passwd", "/static/%2e%2e%2fapp.py", "/v1/messages/batches/%00",
    "/v1/messages/batches/" + "a" * 3000, "/v1/messages/batches/%F0%9F%98%80/results", "*", "/%", "/v1/models/a%2Fb",
    "/v1/messages/batches?limit=-1", "/v1/messages/batches?limit=%00&after_id=%00", "/v1/messages/batches?before_id=%ED%A0%80",
    "/v1/models?limit=99999999999999999999", "/v1/models?after_id=%00", "/admin/%00", "/admin?format=json&x=" + "y" * 5000,
    "/report?request=%00", "/v1/messages;a=b", "/V1/MESSAGES", "/v1/models/\u00e9", "/docs?model=%00", "http://other/v1/models",
)  # fmt: skip
METHODS = ("PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "FOO", "get", "G\x00T", "POST" * 50, "DELETE", "GET")
HEADERS = (
    "x-api-key: ", "x-api-key: \xff\xfe", "x-api-key: " + "k" * 8000, "authorization: Bearer", "authorization: Basic QTpC",
    "authorization: Bearer \x80", "anthropic-version: 1999-01-01", "anthropic-version: ", "anthropic-version: \xff" + "9" * 500,
    "content-type: text/plain", "content-type: application/json; charset=utf-16", "content-type: multipart/form-data",
    "content-encoding: gzip", "transfer-encoding: gzip, chunked", "content-length: -1", "content-length: 5\r\ncontent-length: 6",
    "host: [bad", "host: a b", "host: ", "host: \xff", "host: x:99999999", "expect: 100-continue", "expect: magic",
    "connection: upgrade\r\nupgrade: websocket", "upgrade: h2c\r\nconnection: upgrade", "x-forwarded-for: " + "1," * 900,
    "accept: */*;q=\x80", "accept-language: " + "de," * 500, "cookie: session=\xff; " + "a=b;" * 500, "sec-fetch-site: \xff",
    "range: bytes=0-", "bad header", ": nameless", "a" * 5000 + ": b", "x: " + "y" * 64 * 1024, "\r\n".join(f"h{n}: v" for n in range(3000)),
    "if-none-match: *", "x-forwarded-proto: \x80", "anthropic-beta: " + "b," * 2000,
)  # fmt: skip


def request_bytes(method: str, path: str, body: bytes | None, *headers: str, length: int | None = None) -> bytes:
    """A request as it goes over the wire; the connection is to be closed behind the answer."""
    found = [f"{method} {path} HTTP/1.1"]
    if not any(header.startswith("host:") for header in headers):
        found.append("host: localhost")
    if not any(header.startswith("connection:") for header in headers):
        found.append("connection: close")
    if body is not None:
        found += ["content-type: application/json", f"content-length: {len(body) if length is None else length}"]
    return "\r\n".join((*found, *headers, "", "")).encode("latin-1", "replace") + (body or b"")


def requests(seed: int, model: str, key: str) -> Iterator[Wrong]:
    """Wrong requests without an end, the same for the same seed."""
    draw, right = random.Random(seed), valid(model)
    bodies = [one for one in right if one[2] is not None]
    known = (f"x-api-key: {key}", "anthropic-version: 2023-06-01")
    while True:
        method, path, body = draw.choice(bodies)
        about = (
            known
            if draw.random() < 0.8
            else (f"authorization: Bearer {key}", f"anthropic-version: {draw.choice(['2023-01-01', '2026-10-21'])}")
        )
        if draw.random() < 0.6:
            change = draw.choice(BODIES)
            yield Wrong(change.__name__[1:], request_bytes(method, path, change(draw, body), *about))
        else:
            yield _wrong_http(draw, right, (method, path, json.dumps(body).encode()), about)


def _wrong_http(
    draw: random.Random, right: list[tuple[str, str, Any]], good: tuple[str, str, bytes], known: tuple[str, ...]
) -> Wrong:
    method, path, body = good
    kind = draw.choice(
        ["method", "path", "header", "header", "chunked", "short", "pipelined", "no_body", "expect", "line", "gzip"]
    )
    if kind == "method":
        method, path, found = draw.choice(right)
        return Wrong(
            kind, request_bytes(draw.choice(METHODS), path, json.dumps(found).encode() if found else None, *known)
        )
    if kind == "path":
        return Wrong(
            kind,
            request_bytes(
                draw.choice(["GET", "POST", "DELETE"]), draw.choice(PATHS), draw.choice([None, body]), *known
            ),
        )
    if kind == "header":
        method, path, found = draw.choice(right)
        raw = json.dumps(found).encode() if found is not None else None
        header = draw.choice(HEADERS)
        kept = [one for one in known if one.split(":")[0] != header.split(":")[0]]
        return Wrong(kind, request_bytes(method, path, raw, *kept, header))
    if kind == "chunked":
        raw = request_bytes(method, path, None, *known, "content-type: application/json", "transfer-encoding: chunked")
        size = draw.choice([f"{len(body):x}", "zz", "ffffffffffffffff", "-1", f"{len(body) + 9:x}"])
        return Wrong(kind, raw + f"{size}\r\n".encode() + body[: draw.randrange(len(body))], whole=False)
    if kind == "short":
        return Wrong(
            kind,
            request_bytes(method, path, body, *known, length=len(body) + draw.choice([1, 1000, 10**7])),
            whole=False,
        )
    if kind == "pipelined":
        raw = request_bytes(method, path, body, *known, "connection: keep-alive")
        return Wrong(
            kind,
            raw + draw.choice([b"\x00" * 500, b"GET / HTTP/9.9\r\n\r\n", draw.randbytes(300), raw[:40]]),
            whole=False,
        )
    if kind == "no_body":
        return Wrong(kind, request_bytes(method, path, None, *known))
    if kind == "expect":
        return Wrong(kind, request_bytes(method, path, body, *known, "expect: 100-continue"))
    if kind == "gzip":
        return Wrong(kind, request_bytes(method, path, body, *known, "content-encoding: gzip"))
    line = draw.choice([b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n\r\n",
                        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"GET /\r\n\r\n", b"A" * 70_000])  # fmt: skip
    return Wrong("line", line, whole=False)


def connected(port: int, seconds: float = 60.0) -> socket.socket:
    """A connection to this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=seconds)


def send(port: int, wrong: Wrong, seconds: float = 60.0, keep: int = 4000) -> tuple[int, str]:
    """The last status that came, 0 for a connection that was closed without one, -1 for a hang; and what it said."""
    found = bytearray()
    end = time.monotonic() + seconds
    try:
        with connected(port, seconds) as sock:
            try:
                sock.sendall(wrong.raw)
                if not wrong.whole:
                    sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the server closed first; what it said may still be there
            while time.monotonic() < end:
                if not (more := sock.recv(65536)):
                    break
                found += more
            else:
                return -1, ""
    except TimeoutError:
        return -1, ""
    except OSError:
        pass
    return status_of(bytes(found)), bytes(found[:keep]).decode("latin-1")


def status_of(answer: bytes) -> int:
    """The status of an answer, that of 100-continue passed over; 0 for none."""
    while answer.startswith(b"HTTP/1.1 1"):
        answer = answer.partition(b"\r\n\r\n")[2]
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.") and answer[9:12].isdigit() else 0
