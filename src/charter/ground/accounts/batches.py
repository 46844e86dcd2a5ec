"""Batches of requests that are answered within a day, kept so that nothing that was accepted is lost.

The life cycle is that of Anthropic's Message Batches (platform.claude.com/docs/en/build-with-claude/batch-processing,
and the types of their client): a batch is `in_progress`, then `ended`; one that was cancelled is `canceling` in
between, while requests under way may still finish. Each request ends as succeeded, errored, canceled or expired, and
the batch ends when none waits. A day after it was made, what still waits expires. Results can be read for 29 days after
it was made; then the batch is still shown, without them. Until a batch has ended, Anthropic counts all of its requests
as processing: so does `request_counts`; `counts` says how far it is.

Which requests are under way is known to the worker alone, in memory: it says so when it takes more. Killed, it takes
them again, since they still wait; each is finished once, whoever comes first.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, delete, exists, func, select, tuple_, update

from charter.ground.accounts.keys import Caller
from charter.ground.accounts.tables import BATCH_ITEMS, BATCHES
from charter.ground.service.database import reading
from charter.ground.service.refusal import NotFound, Refusal
from charter.ground.service.tokens import new_id

MOST_REQUESTS = 100_000
MOST_BYTES = 256 * 2**20  # of all params together
DAY = 86_400.0
EXPIRY = DAY
KEPT = 29 * DAY  # results, from when the batch was made
MOST_LISTED = 1_000
WAITING = "waiting"
ENDS = ("succeeded", "errored", "canceled", "expired")
IN_PROGRESS, CANCELING, ENDED = "in_progress", "canceling", "ended"
CHUNK = 1_000  # rows written at a time
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
    created: float
    expires: float
    canceled: float | None  # when it was asked for
    ended: float | None
    counts: dict[str, int]  # processing, succeeded, errored, canceled, expired: as it is now

    @property
    def request_counts(self) -> dict[str, int]:
        """The counts as Anthropic gives them: all are processing until the batch has ended."""
        return self.counts if self.state == ENDED else {"processing": self.size, **dict.fromkeys(ENDS, 0)}

    def archived(self, now: float | None = None) -> float | None:
        """When its results went away; None while they are here."""
        gone = self.created + KEPT
        return gone if self.state == ENDED and gone <= (time.time() if now is None else now) else None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of batches, newest first, and whether there are more in the direction that was asked for."""

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
class Item:
    """A request to work on; `params` is the JSON that was handed in."""

    batch: str
    number: int
    custom_id: str
    params: str
    organisation: str
    key: str
    expires: float


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a request; `body` is the JSON of a message, or of an error, or None."""

    custom_id: str
    state: str
    body: str | None

    def line(self) -> str:
        """Its line in the file of results, without the line's end."""
        names = {"succeeded": "message", "errored": "error"}
        body = f',"{names[self.state]}":{self.body}' if self.state in names else ""
        return f'{{"custom_id":{json.dumps(self.custom_id)},"result":{{"type":"{self.state}"{body}}}}}'


def make_batch(connection: Connection, caller: Caller, items: Iterable[tuple[str, str]]) -> str:
    """A new batch's id; `items` are custom ids, and params as JSON. Once the transaction is committed nothing of it is
    lost.

    Raises Refusal for no items or too many, and for custom ids that are none or that come twice.
    """
    taken = list(islice(items, MOST_REQUESTS + 1))
    _check(taken)
    id, now = f"msgbatch_{new_id()}", time.time()
    owner = {"organisation": caller.organisation, "key": caller.key}
    times = {"created": now, "expires": now + EXPIRY}
    connection.execute(BATCHES.insert().values(id=id, **owner, **times, state=IN_PROGRESS, size=len(taken)))
    for start in range(0, len(taken), CHUNK):
        rows = [
            {"batch": id, "number": number, "custom_id": custom_id, "params": params, "state": WAITING}
            for number, (custom_id, params) in enumerate(taken[start : start + CHUNK], start)
        ]
        connection.execute(BATCH_ITEMS.insert(), rows)
    return id


def get_batch(connection: Connection, organisation: str, batch: str) -> Batch:
    """A batch of an organisation. Raises NotFound, for another organisation's as well."""
    return _batches(connection, [_owned(connection, _one(organisation, batch), batch)])[0]


def list_batches(
    connection: Connection,
    organisation: str,
    *,
    before: str | None = None,
    after: str | None = None,
    limit: int = 20,
) -> Page:
    """An organisation's batches, newest first: those right after a batch (older), or right before it (newer).

    Raises Refusal for a limit that isn't from 1 to 1,000, for both cursors at once, and for a cursor that is no batch.
    """
    if not 1 <= limit <= MOST_LISTED:
        raise Refusal(f"limit is a number from 1 to {MOST_LISTED:,}")
    if before is not None and after is not None:
        raise Refusal("before_id and after_id can't be given together; send one of them")
    place, wanted = tuple_(_B.created, _B.id), select(BATCHES).where(_B.organisation == organisation)
    if (cursor := after if before is None else before) is not None:
        at = connection.execute(_one(organisation, cursor)).first()
        if at is None:
            raise Refusal(
                f"{'after_id' if before is None else 'before_id'}: there is no batch {cursor[:80]!r}"
            )
        mark = tuple_(at.created, at.id)
        wanted = wanted.where(place < mark if before is None else place > mark)
    forward = before is None
    order = (_B.created.desc(), _B.id.desc()) if forward else (_B.created, _B.id)
    rows = connection.execute(wanted.order_by(*order).limit(limit + 1)).all()
    shown = rows[:limit] if forward else rows[:limit][::-1]
    return Page(_batches(connection, shown), len(rows) > limit)


def cancel_batch(
    connection: Connection,
    organisation: str,
    batch: str,
    under_way: Collection[tuple[str, int]] = (),
) -> Batch:
    """Cancels what waits of a batch, but for the requests that are `under_way` (ids of batches and numbers): those may
    still finish. Again, it changes nothing.

    Raises NotFound, and Refusal for a batch that has ended.
    """
    found = _owned(connection, _one(organisation, batch).with_for_update(), batch)
    if found.state == ENDED:
        raise Refusal(f"the batch {batch} has ended; there is nothing left to cancel")
    if found.state == IN_PROGRESS:
        now = time.time()
        connection.execute(update(BATCHES).where(_B.id == batch).values(state=CANCELING, canceled=now))
        busy = [number for id, number in under_way if id == batch]
        _close(connection, batch, "canceled", busy)
        _end_if_done(connection, batch, now)
    return get_batch(connection, organisation, batch)


def delete_batch(connection: Connection, organisation: str, batch: str) -> None:
    """Deletes a batch that has ended, with its results. Raises NotFound, and Refusal for one that hasn't ended."""
    found = _owned(connection, _one(organisation, batch).with_for_update(), batch)
    if found.state != ENDED:
        raise Refusal(f"the batch {batch} has not ended; cancel it first, and delete it when it has ended")
    connection.execute(delete(BATCHES).where(_B.id == batch))  # its items with it


def results(engine: Engine, organisation: str, batch: str, size: int = 200) -> Iterator[list[Result]]:
    """The results of a batch, `size` at a time, each time in a transaction of its own: a slow reader holds nothing up.

    Raises NotFound, before anything is read, for a batch that isn't there, hasn't ended, or is too old.
    """
    with reading(engine) as connection:
        found = get_batch(connection, organisation, batch)
    if found.state != ENDED:
        raise NotFound(f"the batch {batch} has not ended; its results come then")
    if found.archived() is not None:
        raise NotFound(f"the results of the batch {batch} were kept for 29 days, and are gone")
    return _results(engine, found, size)


def take(connection: Connection, n: int, under_way: Collection[tuple[str, int]] = ()) -> list[Item]:
    """Up to `n` requests to work on next, besides those that are `under_way` (ids of batches and numbers).

    Organisations get equal shares of what is under way, chance deciding where shares are equal; within an organisation
    the oldest batch comes first, in its order.
    """
    rows = connection.execute(select(BATCHES).where(_B.state != ENDED).order_by(_B.created, _B.id)).all()
    under_way = frozenset(under_way)
    busy = Counter(batch for batch, _ in under_way)
    shares: Counter[str] = Counter()
    queues: dict[str, list[Row[Any]]] = {}
    for row in rows:
        shares[row.organisation] += busy[row.id]
        if row.state == IN_PROGRESS and row.expires > time.time():
            queues.setdefault(row.organisation, []).append(row)
    # enough at a time to pass over all that is under way at once
    size = n + max(busy.values(), default=0)
    waiting = {owner: _waiting(connection, queue, under_way, size) for owner, queue in queues.items()}
    found: list[Item] = []
    while len(found) < n and waiting:
        owner = min(waiting, key=lambda name: (shares[name], random.random()))
        if (item := next(waiting[owner], None)) is None:
            del waiting[owner]
        else:
            found.append(item)
            shares[owner] += 1
    return found


def finish(connection: Connection, batch: str, number: int, state: str, result: str | None = None) -> bool:
    """Keeps what became of a request, and ends its batch when none waits any more. Returns False, and changes nothing,
    where the request ended before, or its batch is gone.

    `state` is succeeded (`result`: a message), errored (an error), canceled or expired; `result` is JSON on one line.
    Whoever finishes requests of several batches in one transaction takes them in the order of the batches' ids.
    """
    if state not in ENDS:
        raise ValueError(f"a request ends as one of {', '.join(ENDS)}, not {state!r}")
    # one at a time for each batch: else two that finish the last two requests would each see the other's waiting
    connection.execute(select(_B.id).where(_B.id == batch).with_for_update())
    mine = (_I.batch == batch, _I.number == number, _I.state == WAITING)
    if not connection.execute(update(BATCH_ITEMS).where(*mine).values(state=state, result=result)).rowcount:
        return False
    _end_if_done(connection, batch, time.time())
    return True


def expire(connection: Connection, now: float) -> int:
    """Ends all batches whose day is over: what waits of them expires. Returns how many batches."""
    late = select(_B.id).where(_B.state != ENDED, _B.expires <= now).order_by(_B.id).with_for_update()
    return _end_all(connection, late, "expired", now)


def resume(connection: Connection) -> int:
    """Ends the batches that were being cancelled when the worker before this one ended: nothing of them is under way
    now. Returns how many batches."""
    left = select(_B.id).where(_B.state == CANCELING).order_by(_B.id).with_for_update()
    return _end_all(connection, left, "canceled", time.time())


def remove_results(connection: Connection, now: float) -> int:
    """Removes requests and results of batches that were made 29 days ago; the batches stay, with their counts. Returns
    how many batches."""
    here = exists().where(_I.batch == _B.id, _I.number == 0, _I.params != "")
    old = (
        connection.execute(select(_B.id).where(_B.state == ENDED, _B.created + KEPT <= now, here))
        .scalars()
        .all()
    )
    for batch in old:
        connection.execute(update(BATCH_ITEMS).where(_I.batch == batch).values(params="", result=None))
    return len(old)


def _check(items: Sequence[tuple[str, str]]) -> None:
    if not items:
        raise Refusal("requests: a batch has 1 request at least")
    if len(items) > MOST_REQUESTS:
        raise Refusal(f"requests: a batch has {MOST_REQUESTS:,} requests at most; send several batches")
    seen: dict[str, int] = {}
    room = MOST_BYTES
    for number, (custom_id, params) in enumerate(items):
        try:
            room -= len(params.encode())
        except UnicodeEncodeError:
            raise Refusal(f"requests.{number}.params: expected text, found half a surrogate pair") from None
        if room < 0:
            raise Refusal(f"a batch has {MOST_BYTES // 2**20} MB at most; send several batches", 413)
        if not _CUSTOM_ID.fullmatch(custom_id):
            raise Refusal(
                f"requests.{number}.custom_id: expected 1 to 64 letters of a-z and A-Z, digits, hyphens or underscores"
            )
        if (first := seen.setdefault(custom_id, number)) != number:
            raise Refusal(
                f"requests.{number}.custom_id: {custom_id!r} is requests.{first}'s already; each has its own"
            )


def _one(organisation: str, batch: str) -> Select[Any]:
    return select(BATCHES).where(_B.id == batch, _B.organisation == organisation)


def _owned(connection: Connection, wanted: Select[Any], batch: str) -> Row[Any]:
    found = connection.execute(wanted).first()
    if found is None:
        raise NotFound(f"there is no batch {batch[:80]!r}")
    return found


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


def _waiting(
    connection: Connection, batches: Iterable[Row[Any]], under_way: Collection[tuple[str, int]], size: int
) -> Iterator[Item]:
    """What waits of batches, in order, read a little at a time."""
    for batch in batches:
        last, columns = -1, (_I.number, _I.custom_id, _I.params)
        while True:
            mine = (_I.state == WAITING, _I.batch == batch.id, _I.number > last)
            rows = connection.execute(select(*columns).where(*mine).order_by(_I.number).limit(size)).all()
            if not rows:
                break
            for number, custom_id, params in rows:
                if (batch.id, number) not in under_way:
                    owner = (batch.organisation, batch.key, batch.expires)
                    yield Item(batch.id, number, custom_id, params, *owner)
            last = rows[-1].number


def _results(engine: Engine, batch: Batch, size: int) -> Iterator[list[Result]]:
    last, columns = -1, (_I.number, _I.custom_id, _I.state, _I.result)
    while last < batch.size - 1:
        mine = (_I.batch == batch.id, _I.number > last)
        with reading(engine) as connection:
            rows = connection.execute(select(*columns).where(*mine).order_by(_I.number).limit(size)).all()
        if not rows:  # or a part would look like the whole
            raise NotFound(f"the batch {batch.id} was deleted while its results were read")
        last = rows[-1].number
        yield [Result(custom_id, state, body) for _, custom_id, state, body in rows]


def _close(connection: Connection, batch: str, state: str, but: Sequence[int] = ()) -> None:
    """Ends all that waits of a batch, but for some numbers."""
    waits = (_I.state == WAITING, _I.batch == batch, _I.number.not_in(but))
    connection.execute(update(BATCH_ITEMS).where(*waits).values(state=state))


def _end_if_done(connection: Connection, batch: str, now: float) -> None:
    waits = exists().where(_I.state == WAITING, _I.batch == batch)
    done = update(BATCHES).where(_B.id == batch, _B.state != ENDED, ~waits)
    connection.execute(done.values(state=ENDED, ended=now))


def _end_all(connection: Connection, wanted: Select[Any], state: str, now: float) -> int:
    found = connection.execute(wanted).scalars().all()
    for batch in found:
        _close(connection, batch, state)
        _end_if_done(connection, batch, now)
    return len(found)
