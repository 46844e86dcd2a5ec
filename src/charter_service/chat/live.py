"""A reply that is being written, as it stands in memory, and what a page must change to show it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool

from charter_service.chat.branches import RUNNING
from charter_service.chat.citing import Source, cite, link
from charter_service.chat.letters import split_half, storable_text
from charter_service.chat.markdown import Writing
from charter_service.chat.tool_calls import Listening, ToolCall

SHORT = 2000  # characters that are rendered at once; more are rendered in a thread
_LAST_WORD = re.compile(r"\s+\S*\Z|\A\S*\Z")


@dataclass(eq=False)
class Live:
    """A reply that is being written. `changed` is set, and replaced, at every change."""

    id: str
    writing: Writing = field(default_factory=Writing)
    state: str = RUNNING
    facts: dict[str, Any] = field(default_factory=dict)  # of the message's row, as far as they are known
    stopping: bool = False
    started: bool = False
    ending: bool = False  # how it ended is being stored, which nothing interrupts
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    showing: asyncio.Lock = field(default_factory=asyncio.Lock)
    half: str = ""  # of a letter whose other half has yet to come
    sources: tuple[Source, ...] = ()  # the files of its branch, in the order of the prompt
    linked: dict[str, str] = field(default_factory=dict)  # complete blocks, with quotations as links
    calls: Listening = field(default_factory=Listening)
    answered_calls: list[ToolCall] = field(default_factory=list)  # the calls that have a result
    body: dict[str, Any] | None = None  # of the request, if the reply is stored nowhere
    ended: Callable[[Live, str], None] | None = None  # called at the end of such a reply

    @property
    def text(self) -> str:
        """What is written."""
        return self.writing.text

    def tell(self) -> None:
        """Wakes all who follow."""
        self.changed.set()
        self.changed = asyncio.Event()

    def add(self, more: str) -> None:
        """Adds text as it came."""
        more, self.half = split_half(self.half + more)
        self.writing.add(storable_text(more))
        self.tell()

    async def rendered_blocks(self) -> list[str]:
        """The blocks of what is written, rendered once for all who follow. After a long piece of work as much time
        passes as it took, so that a giant block costs others little."""
        async with self.showing:
            writing, ended = self.writing, self.state != RUNNING
            if writing.waiting > SHORT or writing.slow:
                began = time.monotonic()
                await run_in_threadpool(writing.show, ended)
                await asyncio.sleep(time.monotonic() - began)
            elif writing.waiting:
                writing.show(ended)
            blocks, sealed = list(writing.blocks), writing.sealed
            if self.sources and any(html not in self.linked for html in blocks[:sealed]):
                await run_in_threadpool(self._link, blocks[:sealed])
            return [self.linked.get(html, html) for html in blocks[:sealed]] + blocks[sealed:]

    def _link(self, blocks: list[str]) -> None:
        """Makes quotations in complete blocks links to where they stand in a file."""
        files = {source.file.sha256: source.file for source in self.sources}
        for html in blocks:
            if html not in self.linked:
                self.linked[html] = link(html, cite([html], self.sources).citations, files)


@dataclass(frozen=True, slots=True)
class Change:
    """Something for a page: `block` with its number and HTML, `cut` with how many blocks are left, or `state`."""

    kind: str
    number: int = 0
    html: str = ""


def go_back(live: Live) -> None:
    """Cuts a begun reply back to the end of its last whole word: a model that goes on within a word would write another
    one, and the API takes no text that ends in a space."""
    if not live.text.strip():
        live.writing = Writing()
    else:
        whole_words = _LAST_WORD.sub("", live.text)
        live.writing = Writing(whole_words)
    live.tell()


def differences(before: list[str], blocks: list[str]) -> list[Change]:
    """What a page that shows some blocks must change to show others."""
    changes = [Change("cut", len(blocks))] if len(before) > len(blocks) else []
    for number, html in enumerate(blocks):
        if number >= len(before) or (before[number] is not html and before[number] != html):
            changes.append(Change("block", number, html))
    return changes
