"""Whether the time of an answer tells that another organisation asked for the same before: pairs of hits and misses.

One organisation asks for something; another one asks for the same (a hit) and for something as long that nobody asked
for (a miss), in a random order. The area under the curve is the share of pairs of a hit and a miss in which the hit was
faster; 0.5 says nothing. The first organisation asks again as well: what it remembers of itself shows that the times
would tell.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from attacks import MESSAGES, raw_request, words
from key_first import wait_for

RESAMPLES = 1000
Floats = npt.NDArray[np.float64]


def _text(draw: random.Random) -> dict[str, Any]:
    return _asked(words(draw, 150))


def _prefix(draw: random.Random) -> dict[str, Any]:
    return _asked(words(draw, 330))


def _asked(content: str, tokens: int = 1, **more: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": content}]
    return {"model": "load", "max_tokens": tokens, "messages": said, "temperature": 0.0, **more}


def _object(draw: random.Random) -> dict[str, Any]:
    kinds = [{"type": "boolean"}, {"type": "integer"}, {"type": "string", "maxLength": 4}]
    fields = {f"{draw.randrange(16**6):06x}": draw.choice(kinds) for _ in range(12)}
    return {"type": "object", "properties": fields, "required": list(fields)[:1], "additionalProperties": False}


def _schema(draw: random.Random) -> dict[str, Any]:
    held = {"type": "json_schema", "schema": _object(draw)}
    return _asked("Say it.", 24, output_config={"format": held})


def _tool(draw: random.Random) -> dict[str, Any]:
    tool = {"name": "say", "description": "says it", "input_schema": _object(draw)}
    return _asked("Say it.", 64, tools=[tool], tool_choice={"type": "tool", "name": "say"})


MADE: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "text": _text,
    "prefix": _prefix,
    "schema": _schema,
    "tool": _tool,
}


def told_by_time(
    port: int, first: str, second: str, kinds: Sequence[str], pairs: int, seed: int = 5
) -> Iterator[dict[str, Any]]:
    """A row for each kind, from two organisations' keys. Raises RuntimeError where a request fails."""
    for kind in kinds:
        draw, make = random.Random(seed), MADE[kind]
        times: dict[str, list[float]] = {"hit": [], "miss": [], "own": [], "fresh": []}

        def seconds(key: str, body: dict[str, Any]) -> float:
            found, answer = wait_for(port, raw_request(MESSAGES, key, json.dumps(body).encode()), b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"a request of the times failed: {answer[:60]!r} {answer[-200:]!r}")
            return found

        for _ in range(pairs):
            known, unknown = make(draw), make(draw)
            times["fresh"].append(seconds(first, known))
            both = [("hit", known), ("miss", unknown)]
            draw.shuffle(both)
            for name, body in both:
                times[name].append(seconds(second, body))
            times["own"].append(seconds(first, known))
        hit, miss = np.array(times["hit"]), np.array(times["miss"])
        low, high = interval(hit, miss)
        yield {
            "kind": kind,
            "pairs": pairs,
            "hit_ms": round(1000 * float(np.median(hit)), 2),
            "miss_ms": round(1000 * float(np.median(miss)), 2),
            "auc": round(auc(hit, miss), 3),
            "low": low,
            "high": high,
            "own_auc": round(auc(np.array(times["own"]), np.array(times["fresh"])), 3),
        }


def auc(hits: Floats, misses: Floats) -> float:
    """The share of pairs in which the hit was faster, half of those that are level; below 0.5 it says as much the other
    way round, and is turned."""
    found = float(np.mean(hits[:, None] < misses) + 0.5 * np.mean(hits[:, None] == misses))
    return max(found, 1 - found)


def interval(hits: Floats, misses: Floats, seed: int = 1) -> tuple[float, float]:
    """95 % by resampling pairs."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        taken = draw.integers(0, len(hits), len(hits))
        found.append(auc(hits[taken], misses[taken]))
    low, high = np.quantile(found, [0.025, 0.975])
    return round(float(low), 3), round(float(high), 3)
