"""Requests that no model may learn from: the set of harmful requests, and the test part of any set of prompts.

A prompt's part follows from a hash of its words in small letters, h = digits 9 to 16 of sha256: test if h mod `test`
is 0, else dev if h mod `dev` is 0, else train. The same words fall into the same part in every set, run and machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Comparison, Dialogue
from charter.ground.text.jsonl import read_jsonl

SHIPPED = "requests.heldout"
TOPICS, SCRIPTS = "topics.heldout", "topic_scripts.heldout"
REPRESENTATIVE, JAILBREAK, BENIGN = ORIGINS = ("representative", "jailbreak", "benign")
# a harmless request in a jailbreak's wrapper; no set holds these, they are made of its harmless ones
TWIN = "twin"
# one prompt in this many is in the test part, and of the others in the dev part
TEST, DEV = 3, 5
Part = Literal["test", "dev", "train"]


def key_of(text: str) -> str:
    """The words of a prompt in small letters, for comparison."""
    return " ".join(text.lower().split())


def part_of(key: str, test: int = TEST, dev: int = DEV) -> Part:
    """The part that a prompt belongs to."""
    number = int(hashlib.sha256(key.encode()).hexdigest()[8:16], 16)
    if number % test == 0:
        return "test"
    return "dev" if number % dev == 0 else "train"


def request_of(row: Mapping[str, Any]) -> str:
    """The plain request of a row of the set: its column `request`, else its last user turn."""
    return str(row.get("request") or row["messages"][-1]["content"])


@lru_cache(maxsize=1)
def held_out_digests() -> frozenset[str]:
    """Digests of the shipped requests, plain and as they are asked, and of every turn of the shipped scripts."""
    rows = [row for name in (SHIPPED, TOPICS, SCRIPTS) for row in read_jsonl(shipped(name))]
    texts = {text for row in rows for text in (request_of(row), *_turns(row))}
    return frozenset(map(_digest, texts))


def _turns(row: Mapping[str, Any]) -> list[str]:
    return list(row["turns"]) if "turns" in row else [row["messages"][-1]["content"]]


def find_held_out(records: Iterable[Dialogue | Comparison | Mapping[str, Any]]) -> str:
    """The id of the first record that is held out: one with `origin` and `family` in its columns, or with a shipped
    request as a user's turn; "" if there is none."""
    digests = held_out_digests()
    for record in records:
        if isinstance(record, Mapping):
            columns, messages, id = record, record.get("messages") or (), str(record.get("id", ""))
        else:
            columns, messages, id = record.meta, record.messages, record.id
        marked = columns.get("origin") in ORIGINS and "family" in columns
        if marked or any(m["role"] == "user" and _digest(m["content"]) in digests for m in messages):
            return id
    return ""


def _digest(text: str) -> str:
    return hashlib.sha256(key_of(text).encode()).hexdigest()[:16]
