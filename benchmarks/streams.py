"""Concurrent streams of completions from a server of OpenAI's shape, timed by a client that costs little itself.

Plain sockets and one event loop: at some hundred events a second a full client library would take a good part of a core
from the server beside it. Every stream is one connection; its tokens are what the server's own usage says, else events.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Stream:
    """One stream: when it began, when each event with text came, tokens written."""

    began: float
    times: list[float] = field(default_factory=list)
    tokens: int = 0
    text: str = ""

    @property
    def first(self) -> float:
        """Seconds to the first text."""
        return self.times[0] - self.began


async def _stream(address: str, body: dict[str, Any], path: str) -> Stream:
    place = urlsplit(address)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**22)
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {place.netloc}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\nconnection: close\r\nauthorization: Bearer none\r\n\r\n"
    )
    found = Stream(time.perf_counter())
    writer.write(head.encode() + data)
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"{address}{path} answered {status!r}: {(await reader.read(2000))!r}")
    counted = 0
    async for raw in reader:
        line = raw.strip()
        if not line.startswith(b"data:"):
            continue
        said = line[5:].strip()
        if said == b"[DONE]":
            break
        event = json.loads(said)
        for choice in event.get("choices") or ():
            text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            if text:
                found.times.append(time.perf_counter())
                found.text += text
                counted += 1
        if usage := event.get("usage"):
            found.tokens = usage["completion_tokens"]
    writer.close()
    found.tokens = found.tokens or counted
    return found


async def _together(address: str, bodies: Sequence[dict[str, Any]], path: str) -> list[Stream]:
    return await asyncio.gather(*(_stream(address, body, path) for body in bodies))


def measure(address: str, bodies: Sequence[dict[str, Any]], path: str = "/v1/completions") -> dict[str, float]:
    """All bodies sent at once: output tokens a second over the whole, and seconds to the first text, p50 and p95."""
    began = time.perf_counter()
    found = asyncio.run(_together(address, bodies, path))
    seconds = time.perf_counter() - began
    firsts = sorted(stream.first for stream in found if stream.times)
    return {
        "tokens": float(sum(stream.tokens for stream in found)),
        "seconds": seconds,
        "rate": sum(stream.tokens for stream in found) / seconds,
        "first_p50": firsts[len(firsts) // 2],
        "first_p95": firsts[min(len(firsts) - 1, round(0.95 * (len(firsts) - 1)))],
    }
