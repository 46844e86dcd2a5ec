"""Uploaded files of organisations: their rows, the quota, and their end.

A file is `arriving` from before its first byte until its blob is on disk; nobody sees it before it is `ready`. A
deleted, expired or forgotten one is `gone`: from then on nobody sees it, its blob is removed, and its row last. What a
kill leaves arriving or gone is removed by the next `clear`.

A file's id names its blob. Equal files of two uploads are two blobs. So nobody learns from an upload's time or size
that another organisation has the same file, and deleting a file removes its bytes without counting who else has them.
A blob begins after its row and ends before it, so a row leads to every blob, and the folder is never searched.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, case, delete, func, or_, select, tuple_, update

from charter_service.accounts.tables import FILES
from charter_service.web.blobs import Blobs
from charter_service.web.database import SQLITE, alone, reading, writing
from charter_service.web.refusal import NotFound, Refusal
from charter_service.web.tokens import new_id

ARRIVING, READY, GONE = "arriving", "ready", "gone"
LEAST_BYTES = 4096  # that a file counts: a block of the disk, so that a quota bounds the number of files too
MOST_LISTED, MOST_IDS = 1_000, 100
PIECE = 200  # files removed at a time
MIB = 2**20
_ID = re.compile(r"file_[0-9a-f]{32}")
_F = FILES.c
_COUNTED = case((_F.bytes < LEAST_BYTES, LEAST_BYTES), else_=_F.bytes)


@dataclass(frozen=True, slots=True)
class File:
    """A stored file; times are seconds since 1970, `expires` None if it stays until it is deleted."""

    id: str
    organisation: str
    name: str
    mime: str
    bytes: int
    sha256: str
    created: float
    expires: float | None


@dataclass(frozen=True, slots=True)
class FilePage:
    """A page of files, newest first, and whether there are more in the requested direction."""

    files: list[File]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """What an organisation stores: files, and bytes as its quota counts them."""

    organisation: str
    files: int
    bytes: int


class OverQuota(Refusal):
    """The organisation's files would hold more than its quota."""


def begin_file(connection: Connection, organisation: str) -> str:
    """The id of a new file, which arrives from now on."""
    id = f"file_{new_id()}"
    facts = {"name": "", "mime": "", "bytes": 0, "sha256": ""}
    connection.execute(
        FILES.insert().values(
            id=id, organisation=organisation, state=ARRIVING, created=time.time(), expires=None, **facts
        )
    )
    return id


def check_quota(connection: Connection, organisation: str, quota: int, size: int) -> None:
    """Raises OverQuota if the organisation's files and one of `size` bytes would count more than `quota` bytes, 0 for
    no files at all."""
    if not quota:
        raise OverQuota("this service stores no files; send documents in the request", 403)
    alone(connection)  # of two that end at once, the second counts the first
    conditions = (_F.organisation == organisation, _F.state == READY)
    stored = int(connection.execute(select(func.coalesce(func.sum(_COUNTED), 0)).where(*conditions)).scalar_one())
    if stored + max(size, LEAST_BYTES) > quota:
        this = f", and this one has {size:,}" if size else ""
        raise OverQuota(f"your organisation's files hold {stored:,} of {quota:,} bytes{this}; delete files first", 403)


def keep_file(connection: Connection, file: File, quota: int) -> File:
    """Makes an arrived file, whose blob is on disk, visible. Raises OverQuota if the organisation's files would then
    count more than `quota` bytes; Refusal, 503, if it was swept away meanwhile."""
    check_quota(connection, file.organisation, quota, file.bytes)
    facts = {"name": file.name, "mime": file.mime, "bytes": file.bytes, "sha256": file.sha256}
    arriving = (_F.id == file.id, _F.state == ARRIVING)
    ready = update(FILES).where(*arriving).values(state=READY, expires=file.expires, **facts)
    if not connection.execute(ready.values(created=file.created)).rowcount:
        raise Refusal("the file was not stored; upload it again", 503)
    return file


def find_file(connection: Connection, organisation: str, id: str) -> File:
    """A file of an organisation. Raises NotFound, also for another organisation's file."""
    if not _ID.fullmatch(id):
        raise NotFound(f"there is no file {id[:80]!r}")
    row = connection.execute(select(FILES).where(_F.id == id, *_visible(organisation))).first()
    if row is None:
        raise NotFound(f"there is no file {id[:80]!r}")
    return _file(row)


def list_files(
    connection: Connection, organisation: str, *, before: str | None = None, after: str | None = None, limit: int = 20
) -> FilePage:
    """An organisation's files, newest first: those directly after a file (older), or before it (newer).

    Raises Refusal for a limit that isn't from 1 to 1,000, for both cursors at once, and for an unknown cursor.
    """
    if not 1 <= limit <= MOST_LISTED:
        raise Refusal(f"limit is a number from 1 to {MOST_LISTED:,}")
    if before is not None and after is not None:
        raise Refusal("before_id and after_id can't be given together; send one of them")
    query, place = select(FILES).where(*_visible(organisation)), tuple_(_F.created, _F.id)
    if (cursor := after if before is None else before) is not None:
        try:
            at = find_file(connection, organisation, cursor)
        except NotFound as error:
            raise Refusal(f"{error} to list from; begin again without a cursor") from None
        mark = tuple_(at.created, at.id)
        query = query.where(place < mark if before is None else place > mark)
    order = (_F.created.desc(), _F.id.desc()) if before is None else (_F.created, _F.id)
    rows = connection.execute(query.order_by(*order).limit(limit + 1)).all()
    page = rows[:limit] if before is None else rows[:limit][::-1]
    return FilePage([_file(row) for row in page], len(rows) > limit)


def files_of(connection: Connection, organisation: str, ids: Collection[str]) -> list[File]:
    """Those of some files that the organisation has, newest first. Raises Refusal for more than 100."""
    if len(set(ids)) > MOST_IDS:
        raise Refusal(f"ids: at most {MOST_IDS} ids at a time, found {len(set(ids)):,}")
    wellformed = [id for id in set(ids) if _ID.fullmatch(id)]
    rows = select(FILES).where(_F.id.in_(wellformed), *_visible(organisation))
    return [_file(row) for row in connection.execute(rows.order_by(_F.created.desc(), _F.id.desc()))]


def delete_file(connection: Connection, organisation: str, id: str) -> File:
    """Hides a file for good; its bytes are removed by `clear`. Raises NotFound."""
    file = find_file(connection, organisation, id)
    if not _hide(connection, _F.id == id, _F.state == READY):
        raise NotFound(f"there is no file {id[:80]!r}")
    return file


def drop_file(connection: Connection, id: str) -> None:
    """Gives up a file that was arriving."""
    _hide(connection, _F.id == id, _F.state == ARRIVING)


def forget_files(connection: Connection, organisation: str) -> int:
    """Hides all files of an organisation for good; returns their number."""
    return _hide(connection, _F.organisation == organisation, _F.state == READY)


def hide_old(connection: Connection, now: float, before: float | None) -> bool:
    """Hides some files that have expired, or were uploaded `before` a time; False if there were none."""
    ended: ColumnElement[bool] = _F.expires <= now
    if before is not None:
        ended = or_(ended, _F.created <= before)
    query = select(_F.id).where(_F.state == READY, ended).limit(PIECE)
    return bool(_hide(connection, _F.id.in_(connection.execute(query).scalars().all())))


def clear(engine: Engine, blobs: Blobs, started: float) -> int:
    """Removes the bytes and rows of all gone files, and of those that have been arriving since before `started`;
    returns their number. Raises the database's and the disk's errors; what is removed stays removed."""
    removed = 0
    leftover = or_(_F.state == GONE, and_(_F.state == ARRIVING, _F.created < started))
    while True:
        with reading(engine) as connection:
            ids = connection.execute(select(_F.id).where(leftover).limit(PIECE)).scalars().all()
        if not ids:
            return removed
        removed += len(ids)
        blobs.remove(ids)
        with writing(engine) as connection:
            connection.execute(delete(FILES).where(_F.id.in_(ids)))


def blobs_of(engine: Engine, beside: Path = Path()) -> Blobs:
    """The blobs of a database: in a folder beside SQLite's file; for PostgreSQL in the folder `beside`."""
    if engine.url.get_backend_name() == SQLITE and engine.url.database:
        file = Path(engine.url.database)
        return Blobs(file.with_name(f"{file.name}.files"))
    return Blobs(beside / "serve.files")


def clear_beside(engine: Engine) -> None:
    """Removes what is gone, by a command. The blobs of PostgreSQL lie where its service knows, which removes them
    within a minute."""
    if engine.url.get_backend_name() == SQLITE:
        clear(engine, blobs_of(engine), started=0.0)


def stored(connection: Connection) -> list[Stored]:
    """What each organisation with files stores, the largest first."""
    total = func.sum(_COUNTED).label("total")
    sums = select(_F.organisation, func.count(), total).where(_F.state == READY).group_by(_F.organisation)
    rows: Sequence[Any] = connection.execute(sums.order_by(total.desc(), _F.organisation)).all()
    return [Stored(organisation, int(files), int(size)) for organisation, files, size in rows]


def _visible(organisation: str) -> tuple[ColumnElement[bool], ...]:
    unexpired = or_(_F.expires.is_(None), _F.expires > time.time())
    return _F.organisation == organisation, _F.state == READY, unexpired


def _hide(connection: Connection, *conditions: ColumnElement[bool]) -> int:
    """Hides files, and empties what was told about them."""
    return connection.execute(update(FILES).where(*conditions).values(state=GONE, name="", mime="")).rowcount


def _file(row: Any) -> File:
    facts = {name: value for name, value in row._mapping.items() if name != "state"}
    return File(**facts)
