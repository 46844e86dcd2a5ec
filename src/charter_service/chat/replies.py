"""Replies that are being written: read from the API, kept on disk as they grow, shown to whoever looks.

A reply belongs to the server, not to the page that asked for it: closing the page changes nothing, only `stop` ends it.
One journal writes all running replies, in one transaction five times a second. After a crash each running reply goes on
from its written text, as a begun turn of the assistant; what a reader sees again is at most the last word.

A reply that is being written, as it stands in memory, and what a page must change to show it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Engine, select, update
from starlette.concurrency import run_in_threadpool

from charter_service.chat.attached import texts_of
from charter_service.chat.branches import DONE, FAILED, REFUSED, RUNNING, STOPPED, Message, branch, whose
from charter_service.chat.citing import Source, cite, link
from charter_service.chat.client import USER, Api, ApiProblem
from charter_service.chat.letters import kept, mapping_of, split_half, whole_number
from charter_service.chat.markdown import Writing, render
from charter_service.chat.prompt import content_of, messages_of
from charter_service.chat.reply_options import USUAL, ChatSettings
from charter_service.chat.storage import keep
from charter_service.chat.tool_calls import Listening, ToolCall, blocks_of, chosen_in, store_call
from charter_service.chat.tree import LONGEST_TEXT, UNDO_SECONDS, purge
from charter_service.people.tables import MESSAGES
from charter_service.web.database import reading, writing

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
    kept: list[ToolCall] = field(default_factory=list)  # the calls that have a result
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
        self.writing.add(kept(more))
        self.tell()

    async def shown(self) -> list[str]:
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
        whole = _LAST_WORD.sub("", live.text)
        live.writing = Writing(whole)
    live.tell()


def differences(shown: list[str], blocks: list[str]) -> list[Change]:
    """What a page that shows some blocks must change to show others."""
    changes = [Change("cut", len(blocks))] if len(shown) > len(blocks) else []
    for number, html in enumerate(blocks):
        if number >= len(shown) or (shown[number] is not html and shown[number] != html):
            changes.append(Change("block", number, html))
    return changes


LOG = logging.getLogger("charter_service.chat")
JOURNAL_SECONDS = 0.2
PATIENCE = 120.0  # seconds without a word after which a reply fails
LONGEST_PAUSE = 2.0
LOOK_SECONDS = 0.05  # between two looks of a page at a reply
LONGEST_REASON = 2000
REPETITION = "repetition"  # the type of the details of a stop, for a reply that repeated itself
PURGE_SECONDS = 10.0


class Replies:
    """All running replies of a chat service. `settings`: what a request to a model says besides its messages;
    `tools`: how it names tools."""

    def __init__(
        self,
        database: Engine,
        api: Api,
        settings: Callable[[str, ChatSettings], dict[str, Any]],
        tools: Callable[[Iterable[str]], list[dict[str, str]]],
    ) -> None:
        self._database, self._api, self._settings, self._tools = database, api, settings, tools
        self._live: dict[str, Live] = {}
        self._dirty: set[Live] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Takes up the replies that an earlier process left, and keeps the journal, while the context lasts."""
        self._loop = asyncio.get_running_loop()
        for id in await asyncio.to_thread(self._left_over):
            self._start(id)
        chores = [asyncio.create_task(self._journal()), asyncio.create_task(self._purge())]
        try:
            yield
        finally:
            tasks = [*chores, *(live.task for live in self._live.values() if live.task)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._write_down()  # what is still running goes on at the next start

    def begin(self, reply: str) -> None:
        """Starts to write a stored reply; from any thread."""
        assert self._loop is not None, "the service is not running"
        self._loop.call_soon_threadsafe(self._start, reply)

    def begin_unstored(self, line: Sequence[Message], person: int, ended: Callable[[Live, str], None]) -> None:
        """Starts to write the last of some messages that are stored nowhere, as it will be; from any thread."""
        assert self._loop is not None, "the service is not running"
        last = line[-1]
        body = self._body(messages_of(line[:-1], {}), last, person, USUAL)
        self._loop.call_soon_threadsafe(self._start, last.id, Live(last.id, body=body, ended=ended))

    def stop(self, reply: str) -> None:
        """Ends a reply; what is written stays. From any thread."""
        assert self._loop is not None, "the service is not running"
        self._loop.call_soon_threadsafe(self._stop, reply)

    async def follow(self, reply: str, known: int = 0) -> AsyncGenerator[Change, None]:
        """The changes of a reply to its end, for a page that knows the blocks before number `known`."""
        live = self._live.get(reply)
        if live is not None:
            blocks = await live.shown()
            shown = blocks[:known]
            if known > len(blocks):
                yield Change("cut", len(blocks))
            running = True
            while running:  # once more after the end
                running, waiting = live.state == RUNNING, live.changed
                blocks = await live.shown()
                for change in differences(shown, blocks):
                    yield change
                shown = blocks
                if running:
                    await waiting.wait()
                    if shown:  # the first text at once
                        await asyncio.sleep(LOOK_SECONDS)
        yield Change("state")

    def text_of(self, reply: str) -> str | None:
        """The text of a running reply so far, which may be newer than the database's; None if it isn't running."""
        live = self._live.get(reply)
        return None if live is None else live.text

    def _start(self, reply: str, live: Live | None = None) -> None:
        if reply not in self._live:
            live = self._live[reply] = live or Live(reply)
            live.task = asyncio.create_task(self._run(live))

    def _stop(self, reply: str) -> None:
        live = self._live.get(reply)
        if live is not None and live.task is not None and not live.stopping:
            live.stopping = True
            if live.started and not live.ending:
                live.task.cancel()

    async def _run(self, live: Live) -> None:
        """Writes a reply to its end, and stores how it ended."""
        live.started = True
        try:
            state = STOPPED if live.stopping else await self._write(live)
        except asyncio.CancelledError:
            if not live.stopping:
                raise  # the process ends; the next one goes on
            state = STOPPED
        except Exception as error:  # a fault of ours: the reply says so, and the log its kind
            self._log(reply=live.id, error=type(error).__name__)
            live.facts["reason"] = "something went wrong here; try again"
            state = FAILED
        live.ending = True
        self._dirty.discard(live)
        while True:
            try:
                await asyncio.to_thread(self._end, live, state)
                break
            except Exception as error:  # a full disk, a database that is away: the next time it may work
                self._log(reply=live.id, end=type(error).__name__)
                await asyncio.sleep(1.0)
        live.state = state
        del self._live[live.id]
        live.tell()

    async def _write(self, live: Live) -> str:
        """Reads a reply from the API, again after failures. Returns the state in which it ended."""
        if live.body is not None:
            body = live.body
        else:
            row, body, live.sources = await asyncio.to_thread(self._request_of, live.id)
            if row is None:
                return DONE
            live.writing.add(row.text)
            live.kept = list(row.calls)
        last_word, pause, furthest = time.monotonic(), 0.1, len(live.text)
        while True:
            if live.text:
                go_back(live)
            try:
                return await self._read(live, _continued(body, live))
            except ApiProblem as problem:
                if len(live.text) > furthest:  # a word that was there before is no progress
                    last_word, pause, furthest = time.monotonic(), 0.1, len(live.text)
                live.facts["request"] = problem.request or live.facts.get("request", "")
                if not problem.later or time.monotonic() - last_word + problem.wait > PATIENCE:
                    live.facts["reason"] = str(problem)
                    return FAILED
                await asyncio.sleep(max(problem.wait, pause))
                pause = min(LONGEST_PAUSE, 2 * pause)

    async def _read(self, live: Live, body: Mapping[str, Any]) -> str:
        """Reads one answer of the API; what has another form than expected is passed over. Raises ApiProblem."""
        reason, live.half = "", ""
        async with aclosing(self._api.stream(body)) as events:
            async for event in events:
                kind = event.get("type")
                if kind == "request":
                    live.facts["request"] = event["id"]
                elif kind == "message_start":
                    self._count(live, mapping_of(mapping_of(event.get("message")).get("usage")))
                elif live.body is None and (call := live.calls.take(event)) is not None:
                    await asyncio.to_thread(self._store_call, live.id, call)
                    live.kept.append(call)
                    live.add("\n\n" if live.text.strip() else "")
                elif kind == "content_block_delta":
                    text = mapping_of(event.get("delta")).get("text")
                    if isinstance(text, str) and text:
                        live.add(text)
                        if live.body is None:
                            self._dirty.add(live)
                    if len(live.text) > LONGEST_TEXT:
                        live.facts["stop"] = "max_tokens"
                        break
                elif kind == "message_delta":
                    delta = mapping_of(event.get("delta"))
                    live.facts["stop"] = kept(str(delta.get("stop_reason") or ""))[:64]
                    details = mapping_of(delta.get("stop_details"))
                    if details.get("type") == REPETITION:
                        live.facts["stop"] = REPETITION
                    reason = kept(str(details.get("explanation") or ""))[:LONGEST_REASON]
                    live.facts["category"] = kept(str(details.get("category") or ""))[:64]
                    self._count(live, mapping_of(event.get("usage")))
        if live.facts.get("stop") == "refusal":
            live.facts["reason"] = reason
            return REFUSED
        return DONE

    @staticmethod
    def _count(live: Live, usage: Mapping[str, Any]) -> None:
        cached = whole_number(usage.get("cache_read_input_tokens"))
        unread = whole_number(usage.get("input_tokens")) + whole_number(usage.get("cache_creation_input_tokens"))
        live.facts |= {
            "input_tokens": whole_number(unread + cached),
            "cached_tokens": cached,
            "output_tokens": whole_number(usage.get("output_tokens")),
        }

    def _request_of(self, reply: str) -> tuple[Message | None, dict[str, Any], tuple[Source, ...]]:
        """A stored reply, the body of its request and the files in it; None if it isn't to be written any more."""
        with reading(self._database) as connection:
            line = branch(connection, reply)
            if not line or not line[-1].running:
                return None, {}, ()
            person, own = whose(connection, line[-1].chat)
            tools = self._tools(chosen_in(connection, line[-1].chat))
            files = [file for one in line for file in one.files]
            documents = texts_of(connection, files)
        body = self._body(messages_of(line[:-1], documents), line[-1], person, own)
        sources = tuple(Source(file, documents[file.id]) for file in files)
        return line[-1], body | ({"tools": tools} if tools else {}), sources

    def _body(self, messages: list[dict[str, Any]], reply: Message, person: int, own: ChatSettings) -> dict[str, Any]:
        """The body of the request for the reply to some messages, at the temperature that the reply names."""
        # a mark lets the API tell how much of the prompt it had read before
        messages[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
        about: dict[str, Any] = {"model": reply.model, "messages": messages, "metadata": {"user_id": f"{USER}{person}"}}
        return self._settings(reply.model, replace(own, temperature=reply.temperature)) | about

    def _left_over(self) -> list[str]:
        """Replies that were running when an earlier process ended."""
        with reading(self._database) as connection:
            return list(connection.execute(select(MESSAGES.c.id).where(MESSAGES.c.state == RUNNING)).scalars())

    def _end(self, live: Live, state: str) -> None:
        """Stores a reply's end."""
        if live.ended is not None:
            live.ended(live, state)
            return
        values = {**live.facts, "text": live.text, "state": state, "ended": time.time()}
        if live.sources:
            values |= self._citations(live)
        with self._lock, writing(self._database) as connection:
            wanted = update(MESSAGES).where(MESSAGES.c.id == live.id, MESSAGES.c.state == RUNNING)
            if connection.execute(wanted.values(**values)).rowcount:
                chat = select(MESSAGES.c.chat).where(MESSAGES.c.id == live.id)
                keep(connection, connection.execute(chat).scalar_one(), {live.id: live.text})

    def _citations(self, live: Live) -> dict[str, Any]:
        """A reply's quotations of files as they are stored; none if a fault of ours keeps them from being found."""
        try:
            cited = cite(render(live.text), live.sources)
        except Exception as error:  # `_end` is tried again for ever, which would end no such reply
            self._log(reply=live.id, citing=type(error).__name__)
            return {"citations": "[]", "quotes_unfound": 0}
        return {"citations": json.dumps(cited.citations), "quotes_unfound": cited.unfound}

    async def _journal(self) -> None:
        """Writes down what was written, again and again."""
        while True:
            await asyncio.sleep(JOURNAL_SECONDS)
            try:
                await self._write_down()
            except Exception as error:  # the next time it may work
                self._log(journal=type(error).__name__)

    async def _write_down(self) -> None:
        """One transaction for all replies that grew."""
        grown = list(self._dirty)
        if not grown:
            return
        texts = {live.id: live.text for live in grown}
        self._dirty.difference_update(grown)
        try:
            await asyncio.to_thread(self._store, texts)
        except BaseException:
            self._dirty.update(live for live in grown if live.state == RUNNING)
            raise

    def _store_call(self, reply: str, call: ToolCall) -> None:
        with self._lock, writing(self._database) as connection:
            alive = select(MESSAGES.c.id).where(MESSAGES.c.id == reply, MESSAGES.c.state == RUNNING)
            if connection.execute(alive).first() is not None:
                store_call(connection, reply, call)

    def _store(self, texts: Mapping[str, str]) -> None:
        with self._lock, writing(self._database) as connection:
            for id, text in texts.items():
                wanted = update(MESSAGES).where(MESSAGES.c.id == id, MESSAGES.c.state == RUNNING)
                connection.execute(wanted.values(text=text))

    async def _purge(self) -> None:
        """Deletes chats whose time to be restored is over."""
        while True:
            with suppress(Exception):  # the next time it may work
                await asyncio.to_thread(self._purge_now)
                stored = [live.id for live in self._live.values() if live.body is None]
                for reply in await asyncio.to_thread(self._gone, stored):
                    self._stop(reply)
            await asyncio.sleep(min(PURGE_SECONDS, UNDO_SECONDS))

    @staticmethod
    def _log(**facts: str) -> None:
        LOG.error(json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **facts}))

    def _purge_now(self) -> None:
        with writing(self._database) as connection:
            purge(connection, time.time())

    def _gone(self, running: list[str]) -> set[str]:
        """Those of the running replies whose rows are deleted."""
        if not running:
            return set()
        wanted = select(MESSAGES.c.id).where(MESSAGES.c.id.in_(running))
        with reading(self._database) as connection:
            return set(running) - set(connection.execute(wanted).scalars())


def _continued(body: Mapping[str, Any], live: Live) -> dict[str, Any]:
    """The body of a request for the rest of a reply, with the calls that were made for it."""
    if not live.text and not live.kept:
        return dict(body)
    calls = blocks_of(live.kept, live.id)
    content = [*calls, *content_of((), live.text)] if calls else live.text
    return {**body, "messages": [*body["messages"], {"role": "assistant", "content": content}]}
