"""The worker that answers batches while the server runs: like other requests, but in the background.

Its running requests are only in memory; finished ones are in the database. After a kill it starts again with the
waiting ones. Each is finished only once, by whoever comes first, so that every accepted request ends exactly once. A
request that must wait, for its key's limits or for a busy server, is tried again until its batch's day is over. One
that fails by our fault is tried a few times, counted in the database, and then ends as errored. Between two tries it is
not running, and may be cancelled.

Requests run in the name of the key that sent them. If the key becomes invalid, or its organisation is suspended, all
waiting requests of the batch end with that error; running ones may finish.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, delete, select, update
from sqlalchemy.exc import OperationalError

from charter.ground.artifact.errors import CharterError, is_panic
from charter_service.accounts.batches import ARRIVING, CANCELING, ENDS, IN_PROGRESS, WAITING, close_waiting, end_if_done
from charter_service.accounts.keys import Caller, find_key
from charter_service.accounts.made_once import release
from charter_service.accounts.requests import RequestRow
from charter_service.accounts.tables import BATCH_ITEMS, BATCHES
from charter_service.api.errors import OUT_OF_ORDER, ApiError, anthropic_body, api_error, invalid
from charter_service.api.guard import log_failure
from charter_service.api.model_request import WHOSE, Call
from charter_service.api.service import Service
from charter_service.api.wire.messages import message_of, open_message, with_user
from charter_service.api.wire.messages_body import MessagesBody
from charter_service.api.wire.reading import LARGE, checked, read_json
from charter_service.web.database import reading, writing
from charter_service.web.tokens import new_id

_B, _I = BATCHES.c, BATCH_ITEMS.c
_OPEN = _B.state.in_((IN_PROGRESS, CANCELING))
T = TypeVar("T")
SURFACE = "messages/batches"
LOOK_SECONDS = 30.0  # between two looks for late batches, if nothing else happens
TRIES = 3  # of a request that fails by our fault
FIRST_PAUSE = 1.0  # seconds after the first of them, then twice as long each time
LATER = (429, 503, 529)  # errors that only need waiting
LONGEST_PAUSE = 30.0  # seconds between two tries
AFTER_FAILURE = 5.0


@dataclass(frozen=True, slots=True)
class Item:
    """A request to work on; `params` is the JSON that the client sent."""

    batch: str
    number: int
    custom_id: str
    params: str
    organisation: str
    key: str
    expires: float
    tries: int  # failed ones, by our fault


def take(connection: Connection, n: int, under_way: Collection[tuple[str, int]] = ()) -> list[Item]:
    """Up to `n` next requests, beside those `under_way` (ids of batches and numbers).

    Organisations get equal shares of the running requests, with ties drawn at random; within an organisation the oldest
    batch comes first, in its order.
    """
    rows = connection.execute(select(BATCHES).where(_OPEN).order_by(_B.created, _B.id)).all()
    under_way = frozenset(under_way)
    busy = Counter(batch for batch, _ in under_way)
    shares: Counter[str] = Counter()
    queues: dict[str, list[Row[Any]]] = {}
    for row in rows:
        shares[row.organisation] += busy[row.id]
        if row.state == IN_PROGRESS and row.expires > time.time():
            queues.setdefault(row.organisation, []).append(row)
    # enough to skip all running requests at once
    size = n + max(busy.values(), default=0)
    waiting = {owner: _waiting(connection, queue, under_way, size) for owner, queue in queues.items()}
    items: list[Item] = []
    while len(items) < n and waiting:
        owner = min(waiting, key=lambda name: (shares[name], random.random()))
        if (item := next(waiting[owner], None)) is None:
            del waiting[owner]
        else:
            items.append(item)
            shares[owner] += 1
    return items


def finish(connection: Connection, batch: str, number: int, state: str, result: str | None = None) -> bool:
    """Stores the result of a request, and ends its batch if none waits any more. Returns False, and changes nothing, if
    the request has already ended or its batch is deleted.

    `state` is succeeded (`result`: a message), errored (an error), canceled or expired; `result` is JSON on one line.
    To finish requests of several batches in one transaction, call it in the order of the batches' ids.
    """
    if state not in ENDS:
        raise ValueError(f"a request must end as one of {', '.join(ENDS)}, not {state!r}")
    # one at a time for each batch: else two that finish the last two requests would each see the other's waiting
    connection.execute(select(_B.id).where(_B.id == batch).with_for_update())
    conditions = (_I.batch == batch, _I.number == number, _I.state == WAITING)
    if not connection.execute(update(BATCH_ITEMS).where(*conditions).values(state=state, result=result)).rowcount:
        return False
    end_if_done(connection, batch, time.time())
    return True


def expire(connection: Connection, now: float) -> int:
    """Ends all batches whose day is over: their waiting requests expire. Returns the number of batches."""
    late = select(_B.id).where(_OPEN, _B.expires <= now).order_by(_B.id).with_for_update()
    return _end_all(connection, late, "expired", now)


def refuse_rest(connection: Connection, batch: str, error: str, under_way: Collection[tuple[str, int]] = ()) -> None:
    """Ends all waiting requests of a batch as errored, with the same error (JSON on one line), except those
    `under_way`, which may still finish."""
    connection.execute(select(_B.id).where(_B.id == batch).with_for_update())
    close_waiting(connection, batch, "errored", [number for id, number in under_way if id == batch], error)
    end_if_done(connection, batch, time.time())


def resume(connection: Connection) -> int:
    """Cleans up after the server before this one: ends batches that were being cancelled, since none of their requests
    run now, and removes incomplete ones, whose ids no client has. Returns how many ended."""
    arriving = connection.execute(select(_B.id).where(_B.state == ARRIVING)).scalars().all()
    release(connection, arriving)
    connection.execute(delete(BATCHES).where(_B.state == ARRIVING))  # their items with them
    cancelled = select(_B.id).where(_B.state == CANCELING).order_by(_B.id).with_for_update()
    return _end_all(connection, cancelled, "canceled", time.time())


def waits(connection: Connection, item: Item) -> bool:
    """Whether a request still waits: its batch may have been cancelled meanwhile."""
    conditions = (_I.batch == item.batch, _I.number == item.number)
    return connection.execute(select(_I.state).where(*conditions)).scalar() == WAITING


def note_try(connection: Connection, item: Item, tries: int) -> None:
    """Stores the number of failed tries of a request."""
    conditions = (_I.batch == item.batch, _I.number == item.number)
    connection.execute(update(BATCH_ITEMS).where(*conditions).values(tries=tries))


def _waiting(
    connection: Connection, batches: Iterable[Row[Any]], under_way: Collection[tuple[str, int]], size: int
) -> Iterator[Item]:
    """Waiting requests of batches, in order, read a few at a time."""
    for batch in batches:
        last, columns = -1, (_I.number, _I.custom_id, _I.params, _I.tries)
        while True:
            conditions = (_I.state == WAITING, _I.batch == batch.id, _I.number > last)
            rows = connection.execute(select(*columns).where(*conditions).order_by(_I.number).limit(size)).all()
            if not rows:
                break
            for number, custom_id, params, tries in rows:
                if (batch.id, number) not in under_way:
                    owner = (batch.organisation, batch.key, batch.expires)
                    yield Item(batch.id, number, custom_id, params, *owner, tries)
            last = rows[-1].number


def _end_all(connection: Connection, query: Select[Any], state: str, now: float) -> int:
    batches = connection.execute(query).scalars().all()
    for batch in batches:
        close_waiting(connection, batch, state)
        end_if_done(connection, batch, now)
    return len(batches)


@dataclass(frozen=True, slots=True)
class _Ended:
    """The result of a request: its state, its message or error, and whether all waiting ones of its batch end so."""

    state: str
    body: dict[str, Any]
    rest: bool = False


class Batching:
    """Works on the batches of a service, with a share of the slots. `under_way`: batches' ids and numbers of the
    running requests."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._most = max(1, int(service.config.engine.slots * service.config.batch_share))
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._pausing = set[tuple[str, int]]()  # those of them that are between two tries
        self._news = asyncio.Event()
        self._next_look = 0.0  # for late batches
        # one write at a time: waiting for the database takes no thread from those who wait for an answer
        self._desk = ThreadPoolExecutor(1, "charter-batches")

    @property
    def under_way(self) -> frozenset[tuple[str, int]]:
        """The running requests; call it in the event loop's thread."""
        return frozenset(self._tasks) - self._pausing

    def wake(self) -> None:
        """Wakes the worker for a new batch; call it in the event loop's thread."""
        self._news.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Works as long as the context lasts; unfinished requests wait for the next start."""
        await self._patiently(self._write(resume))  # before a new batch can come
        worker = asyncio.create_task(self._run(), name="charter-batches")
        try:
            yield
        finally:
            tasks = [worker, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._desk.shutdown()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            await self._patiently(self._look())
            await self._wait()

    async def _look(self) -> None:
        """Ends late batches, and takes as many requests as there is room for."""
        if (now := time.time()) >= self._next_look:
            await self._write(lambda connection: expire(connection, now))
            self._next_look = now + LOOK_SECONDS
        busy = frozenset(self._tasks)
        if (room := self._most - len(busy)) > 0:
            for item in await self._read(lambda connection: take(connection, room, busy)):
                task = asyncio.create_task(self._work(item), name=f"{item.batch} {item.number}")
                self._tasks[item.batch, item.number] = task

    async def _wait(self) -> None:
        """Waits for a new batch, the end of a request, or some time."""
        news = asyncio.create_task(self._news.wait())
        try:
            waited = (news, *self._tasks.values())
            await asyncio.wait(waited, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()

    async def _work(self, item: Item) -> None:
        """Answers a request and stores the answer."""
        try:
            ended = await self._answer(item)
            if ended is not None and not await self._store_end(item, ended):
                failed = anthropic_body(ApiError(500, OUT_OF_ORDER), item.batch)
                await self._store_end(item, _Ended("errored", failed))
        except BaseException as error:
            _must_go_on(error)
            log_failure(error, item.batch)
            await asyncio.sleep(AFTER_FAILURE)
        finally:
            del self._tasks[item.batch, item.number]

    async def _store_end(self, item: Item, ended: _Ended) -> bool:
        """Stores the result of a request, and tries again while the database is away; False if it can't be written at
        all."""
        failures = 0
        while True:
            try:
                await self._write(partial(_keep, item=item, ended=ended, under_way=self.under_way))
                return True
            except (OperationalError, CharterError) as error:
                log_failure(error, item.batch)
                failures += 1
                await asyncio.sleep(min(LONGEST_PAUSE, failures * AFTER_FAILURE))
            except Exception as error:
                log_failure(error, item.batch)
                return False

    async def _answer(self, item: Item) -> _Ended | None:
        """The result of a request; None if it no longer waits."""
        request_id, tries = f"req_{new_id()}", item.tries
        while True:
            caller = None
            try:
                if not await self._read(lambda connection: waits(connection, item)):
                    return None
                caller = await self._caller(item)
                return _Ended("succeeded", await self._message(item, caller, request_id))
            except BaseException as error:
                _must_go_on(error)
                problem = api_error(error)
                if problem.status >= 500 and problem.status not in LATER:
                    log_failure(error, request_id)
                    tries += 1
                    await self._note(item, tries)
                pause = _pause(problem, tries)
                if pause is None:
                    shut_out = caller is None and problem.status in (401, 403)
                    return _Ended("errored", anthropic_body(problem, request_id), shut_out)
            await self._pause(item, pause)

    async def _note(self, item: Item, tries: int) -> None:
        """Stores the number of tries, if possible."""
        try:
            await self._write(lambda connection: note_try(connection, item, tries))
        except Exception as error:
            log_failure(error, item.batch)

    async def _pause(self, item: Item, seconds: float) -> None:
        """Waits for the next try; meanwhile the request may be cancelled."""
        place = (item.batch, item.number)
        self._pausing.add(place)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._pausing.discard(place)

    async def _caller(self, item: Item) -> Caller:
        """The caller of a request. Raises Refusal: 401 if the key is no longer valid, 403 for a suspended account."""
        key = await self._read(lambda connection: find_key(connection, item.key))
        standing = self._service.conduct.standing(item.organisation)
        if standing.blocked:
            raise ApiError(403, standing.message)
        self._service.keyring.check(key.caller)
        return key.usable()

    async def _message(self, item: Item, caller: Caller, request_id: str) -> dict[str, Any]:
        raw = item.params.encode()
        WHOSE.set(caller.organisation)
        large = len(raw) > LARGE
        body = await self._service.aside(caller, lambda: _body(raw), True) if large else _body(raw)
        if body.stream:
            raise invalid("stream: a request of a batch can't be streamed", "stream")
        row = RequestRow(request_id, organisation=caller.organisation, key=caller.key, surface=SURFACE)
        call = with_user(Call(caller, request_id, SURFACE, background=True, row=row), body)
        message = await message_of(await open_message(self._service, call, body))
        row.ended(200)
        self._service.meter.note(row)
        return message

    async def _read(self, work: Callable[[Connection], T]) -> T:
        def done() -> T:
            with reading(self._service.database) as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._desk, done)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        def written() -> T:
            with writing(self._service.database) as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._desk, written)

    async def _patiently(self, work: Any) -> None:
        """Runs work whose failure is harmless, since it is tried again later."""
        try:
            await work
        except Exception as error:
            log_failure(error, SURFACE)
            await asyncio.sleep(AFTER_FAILURE)


def _body(raw: bytes) -> MessagesBody:
    return checked(read_json(raw), MessagesBody)


def _keep(connection: Connection, item: Item, ended: _Ended, under_way: frozenset[tuple[str, int]]) -> None:
    body = json.dumps(ended.body, ensure_ascii=False)
    finish(connection, item.batch, item.number, ended.state, body)
    if ended.rest:
        refuse_rest(connection, item.batch, body, under_way)


def _must_go_on(error: BaseException) -> None:
    """Raises errors that must end the worker itself, not a request."""
    if not isinstance(error, Exception) and not is_panic(error):
        raise error


def _pause(error: ApiError, tries: int) -> float | None:
    """Seconds until another try; None if none would help."""
    if error.status in LATER:
        wait = error.retry_after
        return None if wait is None else min(LONGEST_PAUSE, max(0.1, wait))
    return FIRST_PAUSE * 2 ** (tries - 1) if error.status >= 500 and tries < TRIES else None
