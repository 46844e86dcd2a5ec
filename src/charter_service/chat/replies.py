"""Replies that are being written: read from the API, kept on disk as they grow, shown to whoever looks.

A reply belongs to the server, not to the page that asked for it: closing the page changes nothing, only `stop` ends it.
One journal writes all running replies, in one transaction five times a second. After a crash each running reply goes on
from its written text, as a begun turn of the assistant; what a reader sees again is at most the last word.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from sqlalchemy import Engine, select, update

from charter_service.chat.attached import texts_of
from charter_service.chat.branches import DONE, FAILED, REFUSED, RUNNING, STOPPED, Message, branch, whose
from charter_service.chat.citing import Source, cite
from charter_service.chat.client import USER, Api, ApiProblem
from charter_service.chat.letters import mapping_of, storable_text, whole_number
from charter_service.chat.live import Change, Live, differences, go_back
from charter_service.chat.markdown import render
from charter_service.chat.prompt import content_of, messages_of
from charter_service.chat.reply_options import USUAL, ChatSettings
from charter_service.chat.storage import keep
from charter_service.chat.tool_calls import ToolCall, blocks_of, chosen_in, store_call
from charter_service.chat.tree import LONGEST_TEXT, UNDO_SECONDS, purge
from charter_service.people.tables import MESSAGES
from charter_service.web.database import reading, writing

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
            blocks = await live.rendered_blocks()
            page_blocks = blocks[:known]
            if known > len(blocks):
                yield Change("cut", len(blocks))
            running = True
            while running:  # once more after the end
                running, waiting = live.state == RUNNING, live.changed
                blocks = await live.rendered_blocks()
                for change in differences(page_blocks, blocks):
                    yield change
                page_blocks = blocks
                if running:
                    await waiting.wait()
                    if page_blocks:  # the first text at once
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
            live.answered_calls = list(row.calls)
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
                    live.answered_calls.append(call)
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
                    live.facts["stop"] = storable_text(str(delta.get("stop_reason") or ""))[:64]
                    details = mapping_of(delta.get("stop_details"))
                    if details.get("type") == REPETITION:
                        live.facts["stop"] = REPETITION
                    reason = storable_text(str(details.get("explanation") or ""))[:LONGEST_REASON]
                    live.facts["category"] = storable_text(str(details.get("category") or ""))[:64]
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
            person, settings = whose(connection, line[-1].chat)
            tools = self._tools(chosen_in(connection, line[-1].chat))
            files = [file for message in line for file in message.files]
            documents = texts_of(connection, files)
        body = self._body(messages_of(line[:-1], documents), line[-1], person, settings)
        sources = tuple(Source(file, documents[file.id]) for file in files)
        return line[-1], body | ({"tools": tools} if tools else {}), sources

    def _body(
        self, messages: list[dict[str, Any]], reply: Message, person: int, settings: ChatSettings
    ) -> dict[str, Any]:
        """The body of the request for the reply to some messages, at the temperature that the reply names."""
        # a mark lets the API tell how much of the prompt it had read before
        messages[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
        about: dict[str, Any] = {"model": reply.model, "messages": messages, "metadata": {"user_id": f"{USER}{person}"}}
        return self._settings(reply.model, replace(settings, temperature=reply.temperature)) | about

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
            statement = update(MESSAGES).where(MESSAGES.c.id == live.id, MESSAGES.c.state == RUNNING)
            if connection.execute(statement.values(**values)).rowcount:
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
                statement = update(MESSAGES).where(MESSAGES.c.id == id, MESSAGES.c.state == RUNNING)
                connection.execute(statement.values(text=text))

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
        query = select(MESSAGES.c.id).where(MESSAGES.c.id.in_(running))
        with reading(self._database) as connection:
            return set(running) - set(connection.execute(query).scalars())


def _continued(body: Mapping[str, Any], live: Live) -> dict[str, Any]:
    """The body of a request for the rest of a reply, with the calls that were made for it."""
    if not live.text and not live.answered_calls:
        return dict(body)
    calls = blocks_of(live.answered_calls, live.id)
    content = [*calls, *content_of((), live.text)] if calls else live.text
    return {**body, "messages": [*body["messages"], {"role": "assistant", "content": content}]}
