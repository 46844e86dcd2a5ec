"""Reads people's files, two at a time and of one person one after the other, while pages are served.

A file's text is stored once for each of a person's contents. What a killed process had begun is read again at the next
start, and bytes that nobody's row names are deleted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import ColumnElement, Connection, Engine, delete, exists, insert, select, update

from charter.ground.documents.document import Document, Limits, Unreadable, clean_name
from charter.ground.documents.reading import read_document
from charter_service.chat.attached import (
    READING,
    READY,
    RECEIVED,
    REFUSED,
    Allowance,
    File,
    drafted,
    select_files,
    stored_by,
)
from charter_service.chat.letters import storable_text
from charter_service.people.tables import BLOBS, FILES, PEOPLE
from charter_service.people.workers import Person, lock
from charter_service.web.blobs import Blob, Blobs
from charter_service.web.database import reading, writing
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import new_id

LOG = logging.getLogger("charter_service.chat")
AT_ONCE = 2
SWEEP_SECONDS = 10.0
SWEEPS = 60  # from one search for bytes without a row to the next
ORPHAN_SECONDS = 600.0  # for which bytes may be without a row: longer than an upload's transaction
NO_ROOM = "the file can't be kept here now: its disk can't be written; tell whoever runs this"
LOST = "its bytes are no longer here; send it again"
FAULT = "something went wrong here while it was read; send it again"


class Store(Blobs):
    """The bytes of people's files. They arrive in a folder of their own, and get their place once they are whole. What
    a killed process left there is deleted at the next start, as is what no row of the database names."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "whole", NO_ROOM)
        self._arriving = Blobs(folder / "incoming", NO_ROOM)

    def incoming(self, name: str) -> Blob:
        """A new file that arrives. Raises Refusal if the disk can't be written."""
        return self._arriving.create(new_id(), name)

    def clear(self) -> None:
        """Deletes what has not arrived as a whole."""
        self._arriving.remove(self._arriving.ids())


@dataclass
class Intake:
    """Files that an export brings, in one transaction. `stored`: bytes of all files that the person keeps by now;
    `new`: ids of contents whose bytes were kept."""

    connection: Connection
    person: Person
    stored: int
    new: list[str] = field(default_factory=list)


class Files:
    """The files of a chat service: their bytes, and the threads that read them."""

    def __init__(self, database: Engine, store: Store, allowance: Allowance) -> None:
        self.store, self.allowance = store, allowance
        self._database = database
        # the page's limit is the one that counts; reading allows a whole MiB at least
        self._limits = Limits(file_mb=max(1, -(-allowance.each // 2**20)))
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="charter-files")
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._reading: dict[str, asyncio.Task[None]] = {}  # by the id of the content
        self._loop: asyncio.AbstractEventLoop | None = None
        self.read: Callable[[bytes, str, Limits], Document] = read_document

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reads what an earlier process left, and deletes what nobody needs, while the context lasts."""
        self._loop = asyncio.get_running_loop()
        for blob, person in await asyncio.to_thread(self._left_over):
            self._start(blob, person)
        sweep = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            tasks = [sweep, *self._reading.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._threads.shutdown(wait=False, cancel_futures=True)

    def keep(self, person: Person, chat: str, files: Sequence[Blob]) -> list[str]:
        """Gives files that arrived to a draft, and begins to read them; returns their ids. A content that the person
        has already is neither stored nor read again. Raises Refusal if a limit was reached meanwhile."""
        moved, begun, ids = list[str](), list[str](), list[str]()
        try:
            with writing(self._database) as connection:
                lock(connection, person)
                present = drafted(connection, person, chat)
                self.allowance.check_count(len(present) + len(files))
                stored = stored_by(connection, person.id)
                for file in files:
                    blob, new = self._blob(connection, person, file, stored)
                    if new:
                        stored += file.size
                        begun.append(blob)
                        self.store.adopt(file, blob)
                        moved.append(blob)
                    place = max([0, *(other.place + 1 for other in present)]) + len(ids)
                    ids.append(_insert(connection, person, chat, blob, file.name, place))
        except BaseException:
            self.store.remove(moved)
            raise
        finally:
            for file in files:
                file.drop()
        for blob in begun:
            self.begin(blob, person.id)
        return ids

    @contextmanager
    def taking(self, person: Person) -> Iterator[Intake]:
        """A transaction in which an export's files are taken; if it is undone, their bytes are deleted."""
        new = list[str]()
        try:
            with writing(self._database) as connection:
                lock(connection, person)
                yield Intake(connection, person, stored_by(connection, person.id), new)
        except BaseException:
            self.store.remove(new)
            raise

    def take_text(self, intake: Intake, name: str, text: str, pages: Any) -> File:
        """A file of which an export holds the text alone: the text becomes its content. It belongs to no draft or
        message yet. Raises Refusal if a limit is reached."""
        connection, person = intake.connection, intake.person
        name, text = clean_name(name), storable_text(text)
        file = self.store.incoming(name)
        try:
            self.allowance.check_size(name, len(data := text.encode()))
            file.write(data)
            file.end()
            blob, new = self._blob(connection, person, file, intake.stored)
            if new:
                intake.stored += file.size
                intake.new.append(blob)
                self.store.adopt(file, blob)
                pages = pages if isinstance(pages, list) else ()
                page_starts = sorted({place for place in pages if type(place) is int and 0 <= place < len(text)})
                values = {"state": READY, "kind": "text", "text": text, "pages": json.dumps(page_starts)}
                connection.execute(update(BLOBS).where(BLOBS.c.id == blob).values(**values))
        finally:
            file.drop()
        row: dict[str, Any] = {
            "person": person.id,
            "blob": blob,
            "sha256": file.sha256,
            "size": file.size,
            "name": name,
        }
        facts: dict[str, Any] = {
            "chat": None,
            "message": None,
            "place": 0,
            "tokens": 0,
            "model": "",
            "created": time.time(),
        }
        return File(id="", state=READY, reason="", kind="text", pages=0, **row, **facts)

    def _blob(self, connection: Connection, person: Person, file: Blob, stored: int) -> tuple[str, bool]:
        """The content of a file that arrived, and whether its bytes have to be kept and read. `stored`: bytes of all
        files that the person keeps."""
        query = select(BLOBS.c.id, BLOBS.c.state)
        row = connection.execute(query.where(BLOBS.c.person == person.id, BLOBS.c.sha256 == file.sha256)).first()
        if row is not None and row.state != REFUSED:
            return str(row.id), False
        self.allowance.check_stored(file.name, stored + file.size)
        if row is not None:  # it may have been refused for a reason that is gone
            again = update(BLOBS).where(BLOBS.c.id == row.id)
            connection.execute(again.values(state=RECEIVED, reason=""))
            return str(row.id), True
        return _insert_blob(connection, person.id, file.sha256, file.size), True

    def begin(self, blob: str, person: int) -> None:
        """Begins to read a content; from any thread."""
        assert self._loop is not None, "the service is not running"
        self._loop.call_soon_threadsafe(self._start, blob, person)

    async def wait(self, files: Collection[File], seconds: float) -> None:
        """Returns once none of the files is waiting to be read, or after so many seconds."""
        tasks = [task for file in files if (task := self._reading.get(file.blob)) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def sweep(self) -> None:
        """Deletes contents that belong to no file any more, with their bytes."""
        unused = ~exists().where(FILES.c.blob == BLOBS.c.id)
        with reading(self._database) as connection:
            people = connection.execute(select(BLOBS.c.person).where(unused).distinct()).scalars().all()
        for person in people:
            with writing(self._database) as connection:
                # an upload of the same person may be about to use one of them
                _hold(connection, person)
                gone = select(BLOBS.c.id).where(BLOBS.c.person == person, unused)
                ids = connection.execute(gone).scalars().all()
                connection.execute(delete(BLOBS).where(BLOBS.c.id.in_(ids)))
            self.store.remove(ids)

    def sweep_orphans(self) -> None:
        """Deletes bytes whose person was deleted by another process, such as the server with the admin pages."""
        old = self.store.ids(time.time() - ORPHAN_SECONDS)
        with reading(self._database) as connection:
            self.store.remove(old - set(connection.execute(select(BLOBS.c.id)).scalars()))

    def _left_over(self) -> list[tuple[str, int]]:
        """Contents that are still to be read. Bytes without a row are deleted."""
        self.store.clear()
        with reading(self._database) as connection:
            rows = connection.execute(select(BLOBS.c.id, BLOBS.c.person, BLOBS.c.state)).all()
        self.store.remove(self.store.ids() - {row.id for row in rows})
        return [(row.id, row.person) for row in rows if row.state in (RECEIVED, READING)]

    def _start(self, blob: str, person: int) -> None:
        if blob not in self._reading:
            task = self._reading[blob] = asyncio.create_task(self._read(blob, person))
            task.add_done_callback(lambda _: self._reading.pop(blob, None))

    async def _read(self, blob: str, person: int) -> None:
        """Reads one content of a person, when it is their turn."""
        turn = self._turns.setdefault(person, asyncio.Lock())
        async with turn:
            while True:
                try:
                    loop = asyncio.get_running_loop()
                    await loop.run_in_executor(self._threads, self._read_now, blob)
                    return
                except Exception as error:  # a database that is away, a full disk: the next time it may work
                    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                    LOG.error(json.dumps({"at": at, "file": blob, "error": type(error).__name__}))
                    await asyncio.sleep(1.0)

    def _read_now(self, blob: str) -> None:
        self._note(blob, state=READING)
        with reading(self._database) as connection:
            files = select_files(connection, FILES.c.blob == blob)
        if not files:
            return  # it was removed while it waited
        try:
            data = self.store.place(blob).read_bytes()
        except OSError:
            self._refuse(blob, LOST)
            return
        try:
            document = self.read(data, files[0].name, self._limits)
        except Unreadable as problem:
            self._refuse(blob, str(problem))
        except Exception as error:  # a fault of ours: the person and the log are told so
            LOG.error(json.dumps({"file": blob, "error": type(error).__name__}))
            self._refuse(blob, FAULT)
        else:
            try:
                self._keep_text(files[0], document)
            except Refusal as problem:
                self._refuse(blob, str(problem))

    def _keep_text(self, file: File, document: Document) -> None:
        """Keeps the text of a content. Raises Refusal if the person's files would take too much room with it: a small
        file may hold a long text."""
        text = storable_text(document.text)
        pages = document.pages if len(text) == len(document.text) else ()
        values = {"state": READY, "kind": document.kind, "text": text, "pages": json.dumps(pages)}
        with writing(self._database) as connection:
            _hold(connection, file.person)
            connection.execute(update(BLOBS).where(BLOBS.c.id == file.blob).values(**values))
            if len(text.encode()) > file.size:
                stored = stored_by(connection, file.person)
                self.allowance.check_stored(f"the text of {file.name}", stored)

    def _refuse(self, blob: str, reason: str) -> None:
        """Notes why a content can't be read; its bytes are of no use then."""
        self._note(blob, state=REFUSED, reason=storable_text(reason)[:2000])
        self.store.remove([blob])

    def _note(self, blob: str, **values: Any) -> None:
        with writing(self._database) as connection:
            connection.execute(update(BLOBS).where(BLOBS.c.id == blob).values(**values))

    async def _sweep(self) -> None:
        for number in count(1):
            with suppress(Exception):  # the next time it may work
                await asyncio.to_thread(self.sweep)
                if number % SWEEPS == 0:
                    await asyncio.to_thread(self.sweep_orphans)
            await asyncio.sleep(SWEEP_SECONDS)


def _hold(connection: Connection, person: int) -> None:
    """Makes other actions of the same person wait, if that person is still there."""
    connection.execute(select(PEOPLE.c.id).where(PEOPLE.c.id == person).with_for_update())


def _insert_blob(connection: Connection, person: int, sha256: str, size: int) -> str:
    """A new content, still to be read. Returns its id."""
    id = new_id()
    values = {"state": RECEIVED, "reason": "", "kind": "", "text": "", "pages": "[]"}
    row = {"id": id, "person": person, "sha256": sha256, "size": size, "created": time.time()}
    connection.execute(insert(BLOBS).values(**row, **values))
    return id


def _insert(connection: Connection, person: Person, chat: str, blob: str, name: str, place: int) -> str:
    id = new_id()
    row = {"id": id, "person": person.id, "chat": chat or None, "blob": blob, "name": name, "place": place}
    connection.execute(insert(FILES).values(**row, message=None, tokens=0, model="", created=time.time()))
    return id


def blobs_of(connection: Connection, *conditions: ColumnElement[bool]) -> list[str]:
    """The ids of contents that fulfil conditions."""
    return list(connection.execute(select(BLOBS.c.id).where(*conditions)).scalars())
