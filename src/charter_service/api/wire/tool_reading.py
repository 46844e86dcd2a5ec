"""Reads a reply as it is written: its free text, and the calls in it, piece by piece.

A call's input is passed on as it comes. Text is held back while it might be the beginning of the marker, and blanks
while a call might follow: blanks before the first word and before a call are dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from charter_service.api.wire.tool_words import OPEN

_HEAD = re.compile(r'[\[},\s]*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)')
_HELD = re.compile(r"\s*(?:" + "|".join(re.escape(OPEN[:length]) for length in range(len(OPEN) - 1, 0, -1)) + r")?\Z")


@dataclass(frozen=True, slots=True)
class Heard:
    """Text of the reply; a call's tool, by its name; a part of its input's JSON; the end of the call."""

    kind: Literal["text", "call", "input", "called"]
    text: str = ""


class Reader:
    """Reads one reply that may use tools."""

    def __init__(self) -> None:
        self._rest = ""  # not passed on yet
        self._calls: Calls | None = None
        self._worded = False  # whether a word was passed on

    def feed(self, text: str) -> Iterator[Heard]:
        """The parts in more text."""
        if self._calls is not None:
            yield from self._calls.feed(text)
            return
        self._rest += text
        at = self._rest.find(OPEN)
        if at >= 0:
            yield from self._tell(self._rest[:at].rstrip())
            self._calls = Calls()
            yield from self._calls.feed(self._rest[at + len(OPEN) :])
            self._rest = ""
            return
        beginning = _HELD.search(self._rest)
        cut = beginning.start() if beginning else len(self._rest)
        text_before, self._rest = self._rest[:cut], self._rest[cut:]
        yield from self._tell(text_before)

    def end(self) -> Iterator[Heard]:
        """The text held back at the end of a reply without a call."""
        if self._calls is None:
            yield from self._tell(self._rest if self._worded or self._rest.strip() else "")

    def _tell(self, text: str) -> Iterator[Heard]:
        if not self._worded:
            text = text.lstrip()
        if text:
            self._worded = True
            yield Heard("text", text)


class Calls:
    """Reads the list of calls after the marker, each {"name": ..., "arguments": {...}}."""

    def __init__(self) -> None:
        self._head = ""  # of a call whose name is not known yet
        self._depth = 0  # of brackets in an input
        self._quoted = self._escaped = False

    def feed(self, text: str) -> Iterator[Heard]:
        """The parts in more of the list."""
        while text:
            if not self._depth:
                self._head += text
                head = _HEAD.match(self._head)
                if head is None:
                    return
                yield Heard("call", json.loads(head[1]))
                text, self._head = self._head[head.end() :], ""
            end = self._input_end(text)
            yield Heard("input", text[:end])
            text = text[end:]
            if not self._depth:
                yield Heard("called")

    def _input_end(self, text: str) -> int:
        """The end of the input in this text, or the text's length if the input continues."""
        for at, letter in enumerate(text):
            if self._quoted:
                self._escaped, self._quoted = (letter == "\\" and not self._escaped, letter != '"' or self._escaped)
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if not self._depth:
                    return at + 1
        return len(text)
