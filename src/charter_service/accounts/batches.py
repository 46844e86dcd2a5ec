"""Batches of requests, answered within a day and stored so that no accepted request is lost.

The life cycle is that of Anthropic's Message Batches (platform.claude.com/docs/en/build-with-claude/batch-processing,
and the types of their client): a batch is `in_progress`, then `ended`; a cancelled one is `canceling` in between, while
running requests may still finish. Each request ends as succeeded, errored, canceled or expired, and the batch ends when
none waits. A day after its creation, waiting requests expire. Results can be read for 29 days after its creation, or as
long as the service keeps them (`retention`); after that the batch is listed without them. Until a batch has ended,
Anthropic counts all of its requests as processing: so does `request_counts`; `counts` has the present numbers.

A large batch is written in pieces, so that others can write in between; until its last request is there it is
`arriving`, and nobody sees it. If a kill leaves it so, the next start removes it (`batch_work.resume`).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, case, delete, exists, func, select, tuple_, update

from charter_service.accounts.keys import Caller
from charter_service.accounts.made_once import Once, claim, release
from charter_service.accounts.tables import BATCH_ITEMS, BATCHES
from charter_service.web.database import alone, reading, writing
from charter_service.web.refusal import NotFound, Refusal
from charter_service.web.tokens import new_id

MOST_REQUESTS = 100_000
MOST_BYTES = 256 * 2**20  # of all params together
DAY = 86_400.0
EXPIRY = DAY
KEPT = 29 * DAY  # for results, from the creation of the batch
MOST_LISTED = 1_000
WAITING = "waiting"
ENDS = ("succeeded", "errored", "canceled", "expired")
ARRIVING, IN_PROGRESS, CANCELING, ENDED = "arriving", "in_progress", "canceling", "ended"
PIECE, PIECE_BYTES = 1_000, 2**21  # requests written at a time, and characters of their params
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_B, _I = BATCHES.c, BATCH_ITEMS.c


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: ids of itself, its organisation and the key that made it; times are seconds since 1970."""

    id: str
    organisation: str
    key: str
    state: str  # in_progress, canceling or ended
    size: int
    bytes: int  # of its requests, while they are stored
    created: float
    expires: float
    canceled: float | None  # when somebody asked for it
    ended: float | None
    removed: float | None  # when its results were removed
    counts: dict[str, int]  # processing, succeeded, errored, canceled, expired: at present

    @property
    def request_counts(self) -> dict[str, int]:
        """The counts in Anthropic's way: all are processing until the batch has ended."""
        return self.counts if self.state == ENDED else {"processing": self.size, **dict.fromkeys(ENDS, 0)}

    def archived(self, now: float | None = None) -> float | None:
        """When its results were removed; None while they are stored."""
        if self.removed is not None:
            return self.removed
        removal = self.created + KEPT
        return removal if self.state == ENDED and removal <= (time.time() if now is None else now) else None


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of an organisation's batches: requests in unfinished ones, and bytes of requests in all stored ones."""

    requests: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of batches, newest first, and whether there are more in the requested direction."""

    batches: list[Batch]
    has_more: bool

    @property
    def first_id(self) -> str | None:
        """The cursor of the page before."""
        return self.batches[0].id if self.batches else None

    @property
    def last_id(self) -> str | None:
        """The cursor of the page after."""
        return self.batches[-1].id if self.batches else None


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a request; `body` is the JSON of a message, or of an error, or None."""

    custom_id: str
    state: str
    body: str | None

    def line(self) -> str:
        """Its line in the file of results, without the line's end."""
        names = {"succeeded": "message", "errored": "error"}
        body = f',"{names[self.state]}":{self.body}' if self.state in names else ""
        return f'{{"custom_id":{json.dumps(self.custom_id)},"result":{{"type":"{self.state}"{body}}}}}'


def make_batch(
    engine: Engine,
    caller: Caller,
    items: Iterable[tuple[str, str]],
    pause: Callable[[float], None] = time.sleep,
    quota: Quota | None = None,
    wanted: Once | None = None,
) -> str:
    """A new batch's id; `items` are custom ids, and params as JSON. Once this returns, the batch is safe; if it raises,
    nothing of it is stored.

    It is written in pieces, each in its own transaction. After each it `pause`s as long as that one took, since others
    who wait for SQLite's one write lock try only now and then.

    Raises Refusal for no or too many items, for malformed or repeated custom ids, and, 429, if the organisation's
    `quota` would be exceeded. If it is `wanted` once, raises as `made_once.claim`.
    """
    requests = list(islice(items, MOST_REQUESTS + 1))
    size = _check(requests)
    id, now = f"msgbatch_{new_id()}", time.time()
    owner = {"organisation": caller.organisation, "key": caller.key}
    times = {"created": now, "expires": now + EXPIRY}
    batch = BATCHES.insert().values(id=id, **owner, **times, state=ARRIVING, size=len(requests), bytes=size)
    try:
        for last, rows in _pieces(id, requests):
            began = time.monotonic()
            with writing(engine) as connection:
                if rows[0]["number"] == 0:
                    if wanted is not None:
                        alone(connection)  # of two at once, the second sees the first one's batch
                        claim(connection, caller.organisation, wanted, id, now)
                    if quota is not None:
                        _check_quota(connection, caller.organisation, quota, len(requests), size)
                    connection.execute(batch)
                connection.execute(BATCH_ITEMS.insert(), rows)
                if last:
                    connection.execute(update(BATCHES).where(_B.id == id).values(state=IN_PROGRESS))
            if not last:
                pause(time.monotonic() - began)
    except BaseException:
        with suppress(Exception), writing(engine) as connection:
            connection.execute(delete(BATCHES).where(_B.id == id))  # its items with it
            release(connection, [id])
        raise
    return id


def get_batch(connection: Connection, organisation: str, batch: str) -> Batch:
    """A batch of an organisation. Raises NotFound, also for another organisation's batch."""
    return _batches(connection, [_owned(connection, _batch_query(organisation, batch), batch)])[0]


def list_batches(
    connection: Connection, organisation: str, *, before: str | None = None, after: str | None = None, limit: int = 20
) -> Page:
    """An organisation's batches, newest first: those directly after a batch (older), or before it (newer).

    Raises Refusal for a limit that isn't from 1 to 1,000, for both cursors at once, and for an unknown cursor.
    """
    if not 1 <= limit <= MOST_LISTED:
        raise Refusal(f"limit is a number from 1 to {MOST_LISTED:,}")
    if before is not None and after is not None:
        raise Refusal("before_id and after_id can't be given together; send one of them")
    place = tuple_(_B.created, _B.id)
    query = select(BATCHES).where(_B.organisation == organisation, _B.state != ARRIVING)
    if (cursor := after if before is None else before) is not None:
        at = connection.execute(_batch_query(organisation, cursor)).first()
        if at is None:
            raise Refusal(f"{'after_id' if before is None else 'before_id'}: there is no batch {cursor[:80]!r}")
        mark = tuple_(at.created, at.id)
        query = query.where(place < mark if before is None else place > mark)
    forward = before is None
    order = (_B.created.desc(), _B.id.desc()) if forward else (_B.created, _B.id)
    rows = connection.execute(query.order_by(*order).limit(limit + 1)).all()
    page = rows[:limit] if forward else rows[:limit][::-1]
    return Page(_batches(connection, page), len(rows) > limit)


def cancel_batch(
    connection: Connection, organisation: str, batch: str, under_way: Collection[tuple[str, int]] = ()
) -> Batch:
    """Cancels the waiting requests of a batch, except those `under_way` (ids of batches and numbers), which may still
    finish. Calling it again changes nothing.

    Raises NotFound, and Refusal for a batch that has ended.
    """
    row = _owned(connection, _batch_query(organisation, batch).with_for_update(), batch)
    if row.state == ENDED:
        raise Refusal(f"the batch {batch} has ended; there is nothing left to cancel")
    if row.state == IN_PROGRESS:
        now = time.time()
        connection.execute(update(BATCHES).where(_B.id == batch).values(state=CANCELING, canceled=now))
        busy = [number for id, number in under_way if id == batch]
        close_waiting(connection, batch, "canceled", busy)
        end_if_done(connection, batch, now)
    return get_batch(connection, organisation, batch)


def delete_batch(connection: Connection, organisation: str, batch: str) -> None:
    """Deletes an ended batch with its results. Raises NotFound, and Refusal if it hasn't ended."""
    row = _owned(connection, _batch_query(organisation, batch).with_for_update(), batch)
    if row.state != ENDED:
        raise Refusal(f"the batch {batch} has not ended; cancel it first, and delete it when it has ended")
    connection.execute(delete(BATCHES).where(_B.id == batch))  # its items with it


def results(engine: Engine, organisation: str, batch: str, size: int = 200) -> Iterator[list[Result]]:
    """The results of a batch, `size` at a time, each in its own transaction, so a slow reader blocks nobody.

    Raises NotFound, before reading anything, if the batch doesn't exist, hasn't ended, or is too old.
    """
    with reading(engine) as connection:
        finished = get_batch(connection, organisation, batch)
    if finished.state != ENDED:
        raise NotFound(f"the batch {batch} has not ended; its results are available then")
    if finished.archived() is not None:
        raise NotFound(f"the results of the batch {batch} are gone: this service keeps results for a limited time")
    return _results(engine, finished, size)


def _check_quota(connection: Connection, organisation: str, quota: Quota, requests: int, size: int) -> None:
    alone(connection)  # of two batches at once, the second counts the first
    sums = select(func.sum(case((_B.state != ENDED, _B.size), else_=0)), func.sum(_B.bytes))
    waiting, stored = connection.execute(sums.where(_B.organisation == organisation)).one()
    if (waiting or 0) + requests > quota.requests:
        raise Refusal(
            f"your organisation's batches have {waiting or 0:,} unfinished requests, the limit is {quota.requests:,}; "
            "send these when some batches have ended",
            429,
        )
    if (stored or 0) + size > quota.bytes:
        raise Refusal(
            f"your organisation's batches hold {(stored or 0) // 2**20} MiB of requests, and {quota.bytes // 2**20} "
            "MiB are allowed; delete batches that have ended",
            429,
        )


def _check(items: Sequence[tuple[str, str]]) -> int:
    """The bytes of all params."""
    if not items:
        raise Refusal("requests: a batch needs at least 1 request")
    if len(items) > MOST_REQUESTS:
        raise Refusal(f"requests: a batch may have {MOST_REQUESTS:,} requests; send several batches")
    first_places: dict[str, int] = {}
    room = MOST_BYTES
    for number, (custom_id, params) in enumerate(items):
        try:
            room -= len(params.encode())
        except UnicodeEncodeError:
            raise Refusal(f"requests.{number}.params: expected text, found half a surrogate pair") from None
        if room < 0:
            raise Refusal(f"a batch may have {MOST_BYTES // 2**20} MB; send several batches", 413)
        if not _CUSTOM_ID.fullmatch(custom_id):
            raise Refusal(
                f"requests.{number}.custom_id: expected 1 to 64 letters of a-z and A-Z, digits, hyphens or underscores"
            )
        if (first := first_places.setdefault(custom_id, number)) != number:
            raise Refusal(
                f"requests.{number}.custom_id: requests.{first} already has {custom_id!r}; each request needs its own"
            )
    return MOST_BYTES - room


def _batch_query(organisation: str, batch: str) -> Select[Any]:
    return select(BATCHES).where(_B.id == batch, _B.organisation == organisation, _B.state != ARRIVING)


def _owned(connection: Connection, query: Select[Any], batch: str) -> Row[Any]:
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no batch {batch[:80]!r}")
    return row


def _batches(connection: Connection, rows: Sequence[Row[Any]]) -> list[Batch]:
    counts = {row.id: dict.fromkeys(("processing", *ENDS), 0) for row in rows}
    tally = (
        select(_I.batch, _I.state, func.count().label("n"))
        .where(_I.state.in_((WAITING, *ENDS)), _I.batch.in_(list(counts)))
        .group_by(_I.state, _I.batch)
    )
    for row in connection.execute(tally):
        counts[row.batch]["processing" if row.state == WAITING else row.state] = row.n
    return [Batch(**row._mapping, counts=counts[row.id]) for row in rows]


def _results(engine: Engine, batch: Batch, size: int) -> Iterator[list[Result]]:
    last, columns = -1, (_I.number, _I.custom_id, _I.state, _I.result)
    while last < batch.size - 1:
        conditions = (_I.batch == batch.id, _I.number > last)
        with reading(engine) as connection:
            rows = connection.execute(select(*columns).where(*conditions).order_by(_I.number).limit(size)).all()
        if not rows:  # else a part would look like the whole
            raise NotFound(f"the batch {batch.id} was deleted while its results were read")
        last = rows[-1].number
        yield [Result(custom_id, state, body) for _, custom_id, state, body in rows]


def _pieces(batch: str, items: Sequence[tuple[str, str]]) -> Iterator[tuple[bool, list[dict[str, Any]]]]:
    """Rows to write together, and whether they are the last."""
    rows: list[dict[str, Any]] = []
    size = 0
    for number, (custom_id, params) in enumerate(items):
        if len(rows) == PIECE or (rows and size + len(params) > PIECE_BYTES):
            yield False, rows
            rows, size = [], 0
        size += len(params)
        row = {"batch": batch, "number": number, "custom_id": custom_id, "params": params, "state": WAITING}
        rows.append(row)
    yield True, rows


def close_waiting(
    connection: Connection, batch: str, state: str, but: Sequence[int] = (), result: str | None = None
) -> None:
    """Ends all waiting requests of a batch, except some numbers, with the same result."""
    waits = (_I.state == WAITING, _I.batch == batch, _I.number.not_in(but))
    connection.execute(update(BATCH_ITEMS).where(*waits).values(state=state, result=result))


def end_if_done(connection: Connection, batch: str, now: float) -> None:
    """Ends a batch without waiting requests."""
    waits = exists().where(_I.state == WAITING, _I.batch == batch)
    done = update(BATCHES).where(_B.id == batch, _B.state != ENDED, ~waits)
    connection.execute(done.values(state=ENDED, ended=now))
