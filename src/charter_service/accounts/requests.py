"""Rows of requests to models: when, whose, which model, how it ended, how long it took; never any text.

They are written with the usage of the same half second, so that a request costs no commit of its own. A search reads at
most `LOOKED` rows of the best index, however few of them match: the next page goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from charter_service.accounts.tables import REQUESTS
from charter_service.web.database import POSTGRESQL

LOOKED = 8_000  # rows that a search reads at most
_R = REQUESTS.c
INDEXED = ("key", "organisation", "status", "model")  # the narrowest first


@dataclass(slots=True)
class RequestRow:
    """A request while it runs, filled as it goes on; `began` is this process's own clock."""

    id: str = ""
    at: float = field(default_factory=time.time)
    organisation: str = ""
    key: str = ""
    model: str = ""
    surface: str = ""
    status: int = 0
    refused: bool = False
    milliseconds: int = 0
    first_milliseconds: int | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    began: float = field(default_factory=time.monotonic)

    def wrote(self) -> None:
        """Notes that the first text of the answer is there; later calls change nothing."""
        if self.first_milliseconds is None:
            self.first_milliseconds = self._elapsed()

    def used(self, input_tokens: int, cached_tokens: int, output_tokens: int, refused: bool) -> None:
        """Adds the tokens of an exchange: a request of several prompts has several."""
        self.refused |= refused
        self.input_tokens += input_tokens
        self.cached_tokens += cached_tokens
        self.output_tokens += output_tokens

    def ended(self, status: int) -> None:
        """Notes the end of the answer."""
        self.status, self.milliseconds = status, self._elapsed()

    @property
    def counts(self) -> bool:
        """Whether it is a request to a model by a known key, whatever came of it."""
        return bool(self.key and self.model)

    def _elapsed(self) -> int:
        return round(1000 * (time.monotonic() - self.began))


COLUMNS = tuple(column.name for column in REQUESTS.columns if column.name != "number")


def add_requests(connection: Connection, rows: Collection[RequestRow]) -> None:
    """Writes rows; one whose id is stored already is left out."""
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == POSTGRESQL else sqlite
    statement = dialect.insert(REQUESTS).on_conflict_do_nothing(index_elements=["id"])
    connection.execute(statement, [{name: getattr(row, name) for name in COLUMNS} for row in rows])


@dataclass(frozen=True, slots=True)
class Sought:
    """The requests to search; an empty field matches all. `status`: a number, or its hundred (4 for 400 to 499).
    `slower`: milliseconds at least; `tokens`: input and output together at least. `before`: at and number of the last
    row of the page before."""

    id: str = ""
    organisation: str = ""
    key: str = ""
    model: str = ""
    status: int = 0
    refused: bool = False
    since: float = 0.0
    until: float = 0.0
    slower: int = 0
    tokens: int = 0
    before: tuple[float, int] | None = None


@dataclass(frozen=True, slots=True)
class Requests:
    """Rows, newest first, and where the next page begins; None at the end. `looked`: whether the search stopped for
    having read enough, so that the next page may hold more."""

    rows: list[dict[str, Any]]
    before: tuple[float, int] | None
    looked: bool = False


def find_requests(connection: Connection, sought: Sought, limit: int = 50) -> Requests:
    """Rows that match."""
    if sought.id:
        row = connection.execute(select(REQUESTS).where(_R.id == sought.id)).one_or_none()
        return Requests([dict(row._mapping)] if row else [], None)
    order = (_R.at.desc(), _R.number.desc())
    rows = _narrowed(sought).order_by(*order)
    if not _conditions(sought, _R):
        return _page(connection.execute(rows.limit(limit + 1)).all(), limit, None)
    looked = rows.limit(LOOKED + 1).subquery()
    place = func.row_number().over(order_by=(looked.c.at.desc(), looked.c.number.desc())).label("place")
    numbered = select(looked, place).subquery()
    beyond = numbered.c.place > LOOKED
    matching = or_(and_(*_conditions(sought, numbered.c)), beyond)
    rows_read = connection.execute(select(numbered).where(matching).order_by(numbered.c.place).limit(limit + 1)).all()
    stopped = rows_read[-1] if rows_read and rows_read[-1].place > LOOKED else None
    return _page(rows_read[:-1] if stopped is not None else rows_read, limit, stopped)


def _page(rows: Sequence[Row[Any]], limit: int, stopped: Row[Any] | None) -> Requests:
    """A page of rows. `stopped`: the first row that the search didn't look at."""
    page = [{name: value for name, value in row._mapping.items() if name != "place"} for row in rows[:limit]]
    if len(rows) > limit:
        return Requests(page, (page[-1]["at"], page[-1]["number"]))
    return Requests(page, None) if stopped is None else Requests(page, (stopped.at, stopped.number + 1), True)


def _narrowed(sought: Sought) -> Select[Any]:
    """The rows of the narrowest index that the search names."""
    rows = select(REQUESTS)
    name = _index_of(sought)
    if name:
        rows = rows.where(_R[name] == getattr(sought, name))
    if sought.since:
        rows = rows.where(_R.at >= sought.since)
    if sought.until:
        rows = rows.where(_R.at < sought.until)
    if sought.before is not None:
        at, number = sought.before
        rows = rows.where(_R.at <= at, or_(_R.at < at, _R.number < number))
    return rows


def _index_of(sought: Sought) -> str:
    """The column whose index a search uses, "" for the time alone."""
    return next((n for n in INDEXED if getattr(sought, n) and (n != "status" or sought.status >= 100)), "")


def _conditions(sought: Sought, columns: Any) -> list[Any]:
    """What the rows of the index must also match."""
    used = _index_of(sought)
    tests: list[Any] = [
        columns[name] == getattr(sought, name)
        for name in ("key", "organisation", "model")
        if name != used and getattr(sought, name)
    ]
    if sought.status and used != "status":
        low, high = (
            (sought.status, sought.status) if sought.status >= 100 else (100 * sought.status, 100 * sought.status + 99)
        )
        tests.append(columns.status.between(low, high))
    if sought.refused:
        tests.append(columns.refused)
    if sought.slower:
        tests.append(columns.milliseconds >= sought.slower)
    if sought.tokens:
        tests.append(columns.input_tokens + columns.output_tokens >= sought.tokens)
    return tests


def prune(connection: Connection, before: float, most: int, piece: int) -> bool:
    """Removes up to `piece` rows that came `before`, or that are beyond the newest `most`. Returns whether there were
    any."""
    newest = connection.execute(select(func.max(_R.number))).scalar() or 0
    oldest = connection.execute(select(_R.number, _R.at).order_by(_R.number).limit(piece)).all()
    numbers = [row.number for row in oldest if row.at < before or row.number <= newest - most]
    connection.execute(delete(REQUESTS).where(_R.number.in_(numbers)))
    return bool(numbers)
