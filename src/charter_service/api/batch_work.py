"""The worker's side of batches: the next requests, how each one ends, and late or left-over batches.

Only the worker knows, in memory, which requests are running; it passes them when it takes more. After a kill it takes
them again, since they still wait; each is finished only once, by whoever comes first.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, select, update

from charter_service.accounts.batches import (
    ARRIVING,
    CANCELING,
    ENDS,
    IN_PROGRESS,
    WAITING,
    close_waiting,
    end_if_done,
)
from charter_service.accounts.made_once import release
from charter_service.accounts.tables import BATCH_ITEMS, BATCHES

_B, _I = BATCHES.c, BATCH_ITEMS.c
_OPEN = _B.state.in_((IN_PROGRESS, CANCELING))


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
    mine = (_I.batch == batch, _I.number == number, _I.state == WAITING)
    if not connection.execute(update(BATCH_ITEMS).where(*mine).values(state=state, result=result)).rowcount:
        return False
    end_if_done(connection, batch, time.time())
    return True


def expire(connection: Connection, now: float) -> int:
    """Ends all batches whose day is over: their waiting requests expire. Returns the number of batches."""
    late = select(_B.id).where(_OPEN, _B.expires <= now).order_by(_B.id).with_for_update()
    return _end_all(connection, late, "expired", now)


def refuse_rest(
    connection: Connection, batch: str, error: str, under_way: Collection[tuple[str, int]] = ()
) -> None:
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
    left = select(_B.id).where(_B.state == CANCELING).order_by(_B.id).with_for_update()
    return _end_all(connection, left, "canceled", time.time())


def waits(connection: Connection, item: Item) -> bool:
    """Whether a request still waits: its batch may have been cancelled meanwhile."""
    mine = (_I.batch == item.batch, _I.number == item.number)
    return connection.execute(select(_I.state).where(*mine)).scalar() == WAITING


def note_try(connection: Connection, item: Item, tries: int) -> None:
    """Stores the number of failed tries of a request."""
    mine = (_I.batch == item.batch, _I.number == item.number)
    connection.execute(update(BATCH_ITEMS).where(*mine).values(tries=tries))


def _waiting(
    connection: Connection, batches: Iterable[Row[Any]], under_way: Collection[tuple[str, int]], size: int
) -> Iterator[Item]:
    """Waiting requests of batches, in order, read a few at a time."""
    for batch in batches:
        last, columns = -1, (_I.number, _I.custom_id, _I.params, _I.tries)
        while True:
            mine = (_I.state == WAITING, _I.batch == batch.id, _I.number > last)
            rows = connection.execute(select(*columns).where(*mine).order_by(_I.number).limit(size)).all()
            if not rows:
                break
            for number, custom_id, params, tries in rows:
                if (batch.id, number) not in under_way:
                    owner = (batch.organisation, batch.key, batch.expires)
                    yield Item(batch.id, number, custom_id, params, *owner, tries)
            last = rows[-1].number


def _end_all(connection: Connection, wanted: Select[Any], state: str, now: float) -> int:
    batches = connection.execute(wanted).scalars().all()
    for batch in batches:
        close_waiting(connection, batch, state)
        end_if_done(connection, batch, now)
    return len(batches)
