"""Files of messages and drafts: their facts without their text, and how many and how large they may be."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, case, func, insert, select, update

from charter.ground.documents.document import Document
from charter_service.chat.storage import size_of
from charter_service.people.tables import BLOBS, CHATS, FILES
from charter_service.people.workers import Person
from charter_service.web.refusal import NotFound, Refusal, Stale
from charter_service.web.tokens import new_id

RECEIVED, READING, READY, REFUSED = "received", "reading", "ready", "refused"
NO_FILE = "there is no such file, or it isn't yours"
MB = 2**20


@dataclass(frozen=True, slots=True)
class Allowance:
    """What people may send: files of a message, bytes of each, bytes of all that a person keeps."""

    a_message: int = 5
    each: int = 10 * MB
    stored: int = 1024 * MB

    def check_count(self, count: int) -> None:
        """Raises Refusal if a message would have more files than it may."""
        if count > self.a_message:
            raise Refusal(f"a message takes at most {self.a_message} files; remove one first", 413)

    def check_size(self, name: str, size: int) -> None:
        """Raises Refusal if a file is too large."""
        if size > self.each:
            raise Refusal(f"{name} is larger than {in_words(self.each)}, the limit of a file; send a part of it", 413)

    def check_stored(self, name: str, size: int) -> None:
        """Raises Refusal if a person's files would take too much room."""
        if size > self.stored:
            raise Refusal(
                f"with {name} your files would take more than {in_words(self.stored)}; delete a chat with files first",
                413,
            )


@dataclass(frozen=True, slots=True)
class File:
    """A file of a message or, without one, of a draft. `pages` counts them; `tokens` are those of `model`."""

    id: str
    person: int
    blob: str
    chat: str | None
    message: str | None
    place: int
    name: str
    tokens: int
    model: str
    created: float
    sha256: str
    size: int
    state: str
    reason: str
    kind: str
    pages: int

    @property
    def waiting(self) -> bool:
        """Whether it is still to be read."""
        return self.state in (RECEIVED, READING)

    @property
    def facts(self) -> str:
        """Kind, size, pages and tokens, in words."""
        parts = [self.kind, in_words(self.size)]
        if self.pages:
            parts.append(f"{self.pages:,} page{'s' if self.pages > 1 else ''}")
        if self.tokens:
            parts.append(f"{self.tokens:,} tokens")
        return ", ".join(part for part in parts if part)


_COLUMNS = (*FILES.c, *(BLOBS.c[name] for name in ("sha256", "size", "state", "reason", "kind", "pages")))


def select_files(connection: Connection, *conditions: ColumnElement[bool]) -> list[File]:
    """The files that fulfil conditions, in their order."""
    query = select(*_COLUMNS).join(BLOBS, BLOBS.c.id == FILES.c.blob).where(*conditions)
    rows = connection.execute(query.order_by(FILES.c.place, FILES.c.created, FILES.c.id))
    return [File(**{**row._mapping, "pages": len(json.loads(row.pages))}) for row in rows]


def by_message(connection: Connection, chat: str) -> dict[str, tuple[File, ...]]:
    """The files of a chat's messages, by message."""
    families = dict[str, list[File]]()
    for file in select_files(connection, FILES.c.chat == chat, FILES.c.message.is_not(None)):
        families.setdefault(str(file.message), []).append(file)
    return {message: tuple(files) for message, files in families.items()}


def drafted(connection: Connection, person: Person, chat: str) -> list[File]:
    """The files of the draft in a chat, or, with an empty id, of the next new chat."""
    of_draft = FILES.c.chat == chat if chat else FILES.c.chat.is_(None)
    return select_files(connection, FILES.c.person == person.id, FILES.c.message.is_(None), of_draft)


def file_of(connection: Connection, person: Person, id: str) -> File:
    """A file of a person. Raises NotFound; a file of a deleted chat is not there either."""
    files = select_files(connection, FILES.c.id == id, FILES.c.person == person.id)
    gone = select(CHATS.c.id).where(CHATS.c.id == files[0].chat, CHATS.c.deleted.is_not(None)) if files else None
    if gone is None or connection.execute(gone).first() is not None:
        raise NotFound(NO_FILE)
    return files[0]


def files_of(connection: Connection, message: str) -> list[File]:
    """The files of a message."""
    return select_files(connection, FILES.c.message == message)


def named(connection: Connection, person: Person, ids: Collection[str]) -> list[File]:
    """A person's files of given ids, in the order of their draft. Raises Stale if one of them is gone."""
    files = select_files(connection, FILES.c.id.in_(ids), FILES.c.person == person.id) if ids else []
    if len(files) < len(set(ids)):
        raise Stale("a file of this message was removed meanwhile; look at the message, and send it again")
    return files


def attach(connection: Connection, person: Person, ids: Collection[str], chat: str, question: str) -> None:
    """Gives files of a draft to a question that was just stored. The same sending again changes nothing.

    Raises Stale if one of them is gone or was sent with another message, Refusal if there are too many.
    """
    if not ids:
        return
    if files_of(connection, question):  # the same sending again: what it brought once more isn't needed
        again = FILES.c.id.in_(ids) & FILES.c.message.is_(None) & (FILES.c.person == person.id)
        connection.execute(FILES.delete().where(again))
        return
    for place, file in enumerate(named(connection, person, ids)):
        if file.chat not in (None, chat):
            raise NotFound(NO_FILE)
        mine = update(FILES).where(FILES.c.id == file.id, FILES.c.message.is_(None))
        if not connection.execute(mine.values(chat=chat, message=question, place=place)).rowcount:
            raise Stale(f"{file.name} was sent with another message; attach it again")


def give_copies(connection: Connection, files: Iterable[File], chat: str, question: str) -> None:
    """Gives a question the files that another one has."""
    rows = [
        {
            "id": new_id(),
            "person": file.person,
            "blob": file.blob,
            "chat": chat,
            "message": question,
            "place": place,
            "name": file.name,
            "tokens": file.tokens,
            "model": file.model,
            "created": file.created,
        }
        for place, file in enumerate(files)
    ]
    if rows:
        connection.execute(insert(FILES), rows)


def document_of(connection: Connection, file: File) -> Document:
    """A file with its text. Raises NotFound."""
    row = connection.execute(select(BLOBS.c.text, BLOBS.c.pages).where(BLOBS.c.id == file.blob)).first()
    if row is None:
        raise NotFound(NO_FILE)
    return Document(file.name, file.kind, file.size, file.sha256, row.text, tuple(json.loads(row.pages)))


def text_length(connection: Connection, file: File) -> int:
    """Characters of a file's text."""
    query = select(func.length(BLOBS.c.text)).where(BLOBS.c.id == file.blob)
    return int(connection.execute(query).scalar() or 0)


def stored_by(connection: Connection, person: int) -> int:
    """Bytes of all files that are kept for a person; one whose text is longer than the file counts as its text."""
    text = size_of(connection, BLOBS.c.text)
    larger = case((text > BLOBS.c.size, text), else_=BLOBS.c.size)
    query = select(func.coalesce(func.sum(larger), 0))
    return int(connection.execute(query.where(BLOBS.c.person == person, BLOBS.c.state != REFUSED)).scalar_one())


def in_words(size: int) -> str:
    """A number of bytes, in words."""
    for step, word in ((1024 * MB, "GB"), (MB, "MB"), (1024, "kB")):
        if size >= step:
            return f"{size / step:.1f}".removesuffix(".0") + f" {word}"
    return f"{size} byte{'' if size == 1 else 's'}"


def refused_in_words(file: File) -> str:
    """Why a file can't be sent, in one sentence."""
    return f"{file.name} can't be sent ({file.reason.rstrip('.')}); remove it, and send again"


def texts_of(connection: Connection, files: Iterable[File]) -> Mapping[str, Document]:
    """Files with their texts, by the id of the file."""
    return {file.id: document_of(connection, file) for file in files}
