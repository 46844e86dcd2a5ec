"""Files of drafts and messages: sent with a form or by a script, counted, waited for, removed, read, downloaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from charter.ground.documents.document import Document, clean_name
from charter_service.chat import tree
from charter_service.chat.attached import (
    REFUSED,
    Allowance,
    File,
    document_of,
    drafted,
    file_of,
    files_of,
    named,
    refused_in_words,
    stored_by,
    texts_of,
)
from charter_service.chat.branches import Message, branch, chat_of, message_of
from charter_service.chat.client import ApiProblem
from charter_service.chat.file_reading import Store
from charter_service.chat.letters import storable_text
from charter_service.chat.prompt import Counted, count, messages_of
from charter_service.chat.reply_options import USUAL, ChatSettings, settings_in
from charter_service.chat.service import Service
from charter_service.chat.site import LARGEST, PAGES, SITE, Visit, done, member, number_of, show
from charter_service.chat.storage import check_room
from charter_service.chat.tool_calls import chosen_in
from charter_service.chat.tree import LONGEST_TEXT
from charter_service.people.entrance import SESSION, visitor_of
from charter_service.people.tables import CHATS, DRAFTS, FILES, MESSAGES
from charter_service.people.workers import Person, lock
from charter_service.web.blobs import Blob
from charter_service.web.database import reading, writing
from charter_service.web.entrance import NotEntered, check_form
from charter_service.web.forms import (
    BROKEN_OFF,
    MOST_FIELDS,
    MULTIPART,
    Form,
    Malformed,
    Part,
    Upload,
    boundary_of,
    check_site,
    content_type,
    pieces_of,
)
from charter_service.web.refusal import NotFound, Refusal, Stale
from charter_service.web.site import Endpoint, wants_json

READING_SECONDS = 60.0  # that a sending waits for its files
COUNT_SECONDS = 2.0  # that a page waits for a count
STATE_SECONDS = 20.0  # that a script waits for a file to be read
LONGEST_FIELD_NAME = 100
UNREADABLE = "the form can't be read; reload the page and send it again"
AROUND = 2**20  # bytes of a form besides its files and texts
MOST_CHARACTERS = 20_000_000  # of all documents that one request carries
Step = Callable[[Visit], Awaitable[Response]]
SHOWN = 400_000  # characters of a file on one page
SANDBOX = "default-src 'none'; sandbox"
Piece = tuple[str, str | int]


def new_draft(connection: Connection, person: Person) -> str:
    """The text that a person began for a new chat."""
    return str(connection.execute(select(DRAFTS.c.text).where(DRAFTS.c.person == person.id)).scalar() or "")


def save_new(connection: Connection, person: Person, text: str) -> None:
    """Keeps the text of a new chat; an empty one deletes it."""
    lock(connection, person)
    connection.execute(delete(DRAFTS).where(DRAFTS.c.person == person.id))
    if text:
        connection.execute(insert(DRAFTS).values(person=person.id, text=text, touched=time.time()))


def keep_new(visit: Visit) -> Response:
    """Keeps what is typed on the page of a new chat."""
    keep_typed(visit, "")
    return done(visit, "/")


def keep_draft(visit: Visit) -> Response:
    """Keeps what is typed as the next message of a chat."""
    keep_typed(visit, visit.id)
    return done(visit, f"/c/{visit.id}")


def keep_typed(visit: Visit, chat: str) -> None:
    """Keeps the text of a form as the draft of a chat, with its model, or, with an empty id, of the next new chat.

    Raises NotFound for a chat of somebody else, Refusal if the text is too long or the person's storage is full.
    """
    text = _checked(visit.form.text("text"))
    with writing(visit.service.database) as connection:
        if chat:
            chat_of(connection, visit.person, chat)
        if _is_sent(connection, visit):
            return
        if chat:
            model = visit.service.model(visit.form.text("model")) if "model" in visit.form.fields else None
            values = {"draft": text} | ({"model": model.id} if model else {})
            connection.execute(update(CHATS).where(CHATS.c.id == chat).values(values))
        else:
            save_new(connection, visit.person, text)
        check_room(connection, visit.person.id, visit.service.config.storage)


def _checked(text: str) -> str:
    text = storable_text(text.replace("\r\n", "\n"))
    if len(text) > LONGEST_TEXT:
        raise Refusal(f"a draft has at most {LONGEST_TEXT:,} characters", 413)
    return text if text.strip() else ""


def _is_sent(connection: Connection, visit: Visit) -> bool:
    """Whether the message of this draft is already sent: a slow request must not bring its draft back."""
    client = visit.form.text("client")[:64]
    query = (
        select(MESSAGES.c.id)
        .join(CHATS, CHATS.c.id == MESSAGES.c.chat)
        .where(CHATS.c.person == visit.person.id, MESSAGES.c.client == client)
    )
    return bool(client) and connection.execute(query.limit(1)).first() is not None


@dataclass(frozen=True, slots=True)
class Draft:
    """The files of a message that is being written, and its tokens if the server could count them."""

    files: Sequence[File] = ()
    counted: Counted | None = None

    @property
    def problem(self) -> str:
        """Why it can't be sent as it is; empty if it can."""
        return self.counted.problem(self.files) if self.counted else ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a message would be sent as: after which line of messages, with which files, to which model, which may call
    which tools, under which settings."""

    line: Sequence[Message]
    files: Sequence[File]
    text: str
    model: str
    tools: Collection[str] = ()
    settings: ChatSettings = USUAL


@dataclass(frozen=True, slots=True)
class Room:
    """What a person may still send: the allowance, files of the draft, bytes that are stored."""

    allowance: Allowance
    drafted: int = 0
    stored: int = 0


class FilesForm(Upload):
    """A form that arrives: its fields, and its files on the disk. `check` raises Refusal if the fields that came before
    the first file don't prove where the form comes from.

    What is refused is refused before anything is read from a file. The rest of a refused form is read and thrown away,
    since a browser shows no answer to a form that it could not send to its end.
    """

    def __init__(self, request: Request, store: Store, room: Room, check: Callable[[Form], None]) -> None:
        boundary = boundary_of(request.headers.get("content-type", ""))
        if not 0 < len(boundary) <= 200:
            raise Refusal(UNREADABLE)
        super().__init__(boundary)
        self.files: list[Blob] = []
        self._request, self._store, self._room, self._check = request, store, room, check
        self._refusal: Refusal | None = None
        self._fields: dict[str, list[str]] = {}
        self._field: bytearray | None = None  # of the part that arrives
        self._file: Blob | None = None
        self._bytes = self._count = 0

    @property
    def form(self) -> Form:
        """The fields so far."""
        return Form(self._fields)

    async def read(self, largest: int) -> None:
        """Reads a form of at most `largest` bytes in all. Raises Refusal; the files are then deleted."""
        too_large = Refusal(f"the limit is {largest:,} bytes for a form with files", 413)
        try:
            async for piece in pieces_of(self._request, largest, too_large, Refusal(BROKEN_OFF)):
                await run_in_threadpool(self.feed, piece)
            if self._refusal is not None or not self.complete:
                raise Refusal(UNREADABLE)
            for file in self.files:
                await run_in_threadpool(file.end)
        except Refusal as refusal:
            self.drop()
            raise self._refusal or refusal from None
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Deletes the files that have no place yet."""
        for file in self.files:
            file.drop()

    def feed(self, data: bytes) -> None:
        """Takes the next bytes, until something is refused."""
        if self._refusal is None:
            try:
                super().feed(data)
            except Malformed:
                raise Refusal(UNREADABLE) from None
            except Refusal as refusal:
                self._refusal = refusal
                self.drop()

    def begin(self, part: Part) -> None:
        """Begins a field, or a file, which the fields before it must allow."""
        self._field = self._file = None
        self._count += 1
        if self._count > MOST_FIELDS:
            raise Refusal(UNREADABLE)
        if part.filename is None:
            self._field = bytearray()
        elif part.filename:  # else a browser says that no file was chosen
            if not self.files:
                self._check(self.form)
            self._room.allowance.check_count(self._room.drafted + len(self.files) + 1)
            self._file = self._store.incoming(clean_name(part.filename[:10_000]))
            self.files.append(self._file)

    def add(self, part: Part, data: bytes) -> None:
        """Adds to the field or the file."""
        if self._field is not None:
            self._bytes += len(data)
            if self._bytes > LARGEST:
                raise Refusal(f"the limit is {LARGEST:,} bytes; shorten your text", 413)
            self._field += data
        elif self._file is not None:
            name, size = self._file.name, self._file.size + len(data)
            self._room.allowance.check_size(name, size)
            others = sum(file.size for file in self.files if file is not self._file)
            self._room.allowance.check_stored(name, self._room.stored + others + size)
            self._file.write(data)

    def end(self, part: Part) -> None:
        """Keeps the field."""
        if self._field is not None:
            try:
                text = self._field.decode("utf-8")
            except UnicodeDecodeError:
                raise Refusal(UNREADABLE) from None
            self._fields.setdefault(part.name[:LONGEST_FIELD_NAME], []).append(text)


def uploading(step: Step) -> Endpoint:
    """An endpoint whose form may carry files, which join the draft of its chat before `step` is done."""
    usual = member(step)

    async def endpoint(request: Request) -> Response:
        if content_type(request) != MULTIPART:
            return await usual(request)
        service: Service = request.app.state.service
        person = await run_in_threadpool(visitor_of, request, service.database)
        if person is None:
            raise NotEntered
        visit, ids = await _received(request, service, person)
        return await step(replace(visit, form=_with_files(visit.form, ids)))

    return endpoint


async def _received(request: Request, service: Service, person: Person) -> tuple[Visit, list[str]]:
    """A request whose files have joined a draft, and their ids. Two of one person are read at a time."""
    chat = _chat_in(request)
    async with service.uploads(person.id):
        room = await run_in_threadpool(_room, service, person, chat)
        session, files = SESSION.of(request), service.files
        check_site(request)
        upload = FilesForm(request, files.store, room, lambda form: check_form(session, form))
        most = files.allowance.a_message * files.allowance.each + LARGEST + AROUND
        try:
            await upload.read(most)
            visit = SITE.visit_of(request, person, upload.form)
            ids = await run_in_threadpool(files.keep, person, chat, upload.files) if upload.files else []
        finally:
            request.state.form = upload.form
            upload.drop()
    return visit, ids


def _chat_in(request: Request) -> str:
    """The chat of a request: in its path or, for what belongs to a draft, in its query; empty for a new chat."""
    path = request.url.path
    id = request.path_params.get("id", "") if path.startswith("/c/") else request.query_params.get("chat", "")
    return str(id)[:64].replace("\x00", "")


def _room(service: Service, person: Person, chat: str) -> Room:
    """What a person may send to the draft of a chat. Raises NotFound for a chat of somebody else."""
    with reading(service.database) as connection:
        if chat:
            chat_of(connection, person, chat)
        count = len(drafted(connection, person, chat))
        return Room(service.files.allowance, count, stored_by(connection, person.id))


def _with_files(form: Form, new: Sequence[str]) -> Form:
    """A form that names the files of its message, the new ones too."""
    return Form({**form.fields, "file": [*form.many("file"), *new], "new": list(new)})


async def add(visit: Visit) -> Response:
    """Files join a draft. A script goes on while they are read; a page waits, and keeps what was written."""
    ids, chat = visit.form.many("new"), _chat_in(visit.request)
    if not ids:
        raise Refusal("no file was chosen; choose one, and send the form again")
    files = await run_in_threadpool(_files_named, visit, ids)
    if wants_json(visit.request):
        return done(visit, _page_of(chat), files=[_state(visit, file) for file in files])
    await visit.service.files.wait(files, READING_SECONDS)
    await run_in_threadpool(_keep_written, visit, chat)
    return done(visit, _page_of(chat))


async def remove(visit: Visit) -> Response:
    """A file leaves a draft. Files of sent messages stay with them."""
    chat = await run_in_threadpool(_remove, visit)
    await run_in_threadpool(_keep_written, visit, chat)
    return done(visit, _page_of(chat))


def _remove(visit: Visit) -> str:
    with writing(visit.service.database) as connection:
        file = file_of(connection, visit.person, visit.id)
        gone = delete(FILES).where(FILES.c.id == file.id, FILES.c.message.is_(None))
        if not connection.execute(gone).rowcount:
            raise Stale(f"{file.name} was sent with a message, and stays with it")
    visit.service.files.sweep()
    return file.chat or ""


def _keep_written(visit: Visit, chat: str) -> None:
    """Keeps what was written in a form that wasn't sent."""
    if "text" in visit.form.fields:
        keep_typed(visit, chat)


def _page_of(chat: str) -> str:
    return f"/c/{chat}" if chat else "/"


async def state(visit: Visit) -> Response:
    """Whether a file is read, for a script, which waits for it; and how a page shows it."""
    file = await run_in_threadpool(_file, visit)
    if file.waiting:
        await visit.service.files.wait([file], STATE_SECONDS)
        file = await run_in_threadpool(_file, visit)
    return JSONResponse(_state(visit, file))


def _file(visit: Visit) -> File:
    with reading(visit.service.database) as connection:
        return file_of(connection, visit.person, visit.id)


def _state(visit: Visit, file: File) -> dict[str, Any]:
    chip = PAGES.fill("file", file=file, member=visit)
    return {"id": file.id, "name": file.name, "state": file.state, "reason": file.reason, "html": str(chip)}


def _files_named(visit: Visit, ids: Sequence[str]) -> list[File]:
    with reading(visit.service.database) as connection:
        return named(connection, visit.person, ids)


def drafting(page: Callable[[Visit], Response]) -> Endpoint:
    """An endpoint of a page with a draft: its files are listed, and counted if that takes no time."""

    async def step(visit: Visit) -> Response:
        draft = await _draft(visit)
        visit.request.state.draft = draft
        async with visit.service.turns(visit.person.id):
            return await run_in_threadpool(page, visit)

    return member(step)


async def _draft(visit: Visit) -> Draft:
    def look() -> Outgoing:
        with reading(visit.service.database) as connection:
            chat = chat_of(connection, visit.person, _chat_in(visit.request)) if visit.request.path_params else None
            files = drafted(connection, visit.person, chat.id if chat else "")
            line = branch(connection, chat.leaf) if chat and files else []
            text = chat.draft if chat else new_draft(connection, visit.person)
            tools = chosen_in(connection, chat.id) if chat else ()
            return Outgoing(line, files, text, chat.model if chat else "", tools, chat.settings if chat else USUAL)

    message = await run_in_threadpool(look)
    counted = None
    if message.files:
        with suppress(Refusal, TimeoutError):
            counted = await asyncio.wait_for(_count(visit, message), COUNT_SECONDS)
            message = await run_in_threadpool(look)  # with the tokens of each file
    return Draft(message.files, counted)


def draft_of(visit: Visit) -> Draft:
    """The files of the draft of a page."""
    draft: Draft = getattr(visit.request.state, "draft", Draft())
    return draft


async def tally(visit: Visit) -> Response:
    """The tokens of a message that is being written, with all that comes before it and its files."""
    message = await run_in_threadpool(_to_send, visit)
    counted = await _count(visit, message)
    if counted is None:
        raise Refusal(visit.service.away or "the model isn't served now; choose another", 503)
    return JSONResponse(
        {
            "tokens": counted.tokens,
            "window": counted.window,
            "words": counted.words,
            "problem": counted.problem(message.files),
            "files": {
                file.id: replace(file, tokens=counted.files[file.id]).facts
                for file in message.files
                if file.id in counted.files
            },
        }
    )


def sending(change: Callable[[Visit], Response]) -> Endpoint:
    """An endpoint that sends a message: its files must be read, and all of it must fit into the model's window."""

    async def step(visit: Visit) -> Response:
        await _check(visit)
        async with visit.service.turns(visit.person.id):
            return await run_in_threadpool(change, visit)

    return uploading(step)


async def _check(visit: Visit) -> None:
    """Raises Refusal if the files of a message aren't read or can't be, or if it is too long with them."""
    message = await run_in_threadpool(_to_send, visit)
    if any(file.waiting for file in message.files):
        await visit.service.files.wait(message.files, READING_SECONDS)
        message = await run_in_threadpool(_to_send, visit)
    for file in message.files:
        if file.state == REFUSED:
            raise Refusal(refused_in_words(file))
        if file.waiting:
            raise Stale(f"{file.name} is still being read; send the message again in a moment")
    if not message.files and not any(turn.files for turn in message.line):
        return
    try:
        counted = await _count(visit, message)
    except ApiProblem as problem:
        if problem.later or problem.status in (404, 405):  # the server checks again when it is back
            return
        raise
    if counted is not None:
        counted.check(message.files)


def _to_send(visit: Visit) -> Outgoing:
    """What a form would send: a first message, a further one, or another wording of one. Raises Refusal."""
    form, path = visit.form, visit.request.url.path
    with reading(visit.service.database) as connection:
        if path.startswith("/m/"):
            first = message_of(connection, visit.person, visit.id)
            chat_row, tools = chat_of(connection, visit.person, first.chat), chosen_in(connection, first.chat)
            if first.role != "user":  # a reply as the person would have it goes nowhere
                return Outgoing((), (), form.text("text"), chat_row.model)
            before, settings = branch(connection, first.parent), chat_row.settings
            return Outgoing(before, files_of(connection, first.id), form.text("text"), chat_row.model, tools, settings)
        files = named(connection, visit.person, form.many("file"))
        visit.service.files.allowance.check_count(len(files))
        chat = _chat_in(visit.request)
        if not chat:
            settings = settings_in(form)
            return Outgoing((), files, form.text("text"), form.text("model"), form.many("tool"), settings)
        chat_row = chat_of(connection, visit.person, chat)
        parent = form.text("parent")
        line = branch(connection, message_of(connection, visit.person, parent).id) if parent else ()
        model = form.text("model") or chat_row.model
        return Outgoing(line, files, form.text("text"), model, chosen_in(connection, chat), chat_row.settings)


async def _count(visit: Visit, message: Outgoing) -> Counted | None:
    """The tokens of a message, None if its model isn't served; those of its files are noted. Raises ApiProblem."""
    model = visit.service.model(message.model)
    if model is None:
        return None
    ready = [file for file in message.files if not file.waiting and file.state != REFUSED]

    def documents() -> tuple[dict[str, Document], list[dict[str, Any]]]:
        with reading(visit.service.database) as connection:
            all_files = [*(file for turn in message.line for file in turn.files), *ready]
            texts = dict(texts_of(connection, all_files))
        if sum(len(document.text) for document in texts.values()) > MOST_CHARACTERS:
            words = f"the files of this chat have more than {MOST_CHARACTERS:,} characters; begin a new chat"
            raise Refusal(words, 413)
        return {file.id: texts[file.id] for file in ready}, messages_of(message.line, texts)

    texts, before = await run_in_threadpool(documents)
    counts = {file.id: file.tokens for file in ready if file.model == model.id and file.tokens}
    settings = visit.service.settings_of(model.id, message.settings)
    settings |= {"tools": visit.service.tools_named(message.tools)}
    text = tree.as_sent(message.text)
    counted = await count(visit.service.api, model, settings, before, text, texts, counts)
    if new := {id: tokens for id, tokens in counted.files.items() if id not in counts}:
        await run_in_threadpool(_note_tokens, visit.service, new, model.id)
    return counted


def _note_tokens(service: Service, tokens: dict[str, int], model: str) -> None:
    with writing(service.database) as connection:
        for id, number in tokens.items():
            connection.execute(update(FILES).where(FILES.c.id == id).values(tokens=number, model=model))


def text_page(visit: Visit) -> Response:
    """The text of a file as a model reads it, with its pages marked, and a passage if the address names one."""
    with reading(visit.service.database) as connection:
        file = file_of(connection, visit.person, visit.id)
        document = document_of(connection, file)
    query = visit.request.query_params
    start, end = number_of(query.get("from", "")), number_of(query.get("to", ""))
    if not start < end <= len(document.text):
        start = end = 0
    page = min(number_of(query.get("page", "")), len(document.pages))
    first = start if end else document.pages[page - 1] if page else SHOWN * number_of(query.get("part", ""))
    part = min(first, max(0, len(document.text) - 1)) // SHOWN
    begin, stop = part * SHOWN, max(end, (part + 1) * SHOWN)
    return show(
        visit,
        "text",
        file.name,
        file=file,
        pieces=passages_of(document, begin, min(stop, len(document.text)), (start, end)),
        part=part,
        count=-(-len(document.text) // SHOWN),
        passage=document.page_of(start) if end else None,
        original=visit.service.files.store.place(file.blob).is_file(),
    )


def passages_of(document: Document, begin: int, stop: int, passage: tuple[int, int]) -> list[Piece]:
    """A part of a document's text for its page: ("page", number), ("text", words), ("passage", words)."""
    cuts = {begin, stop, *(place for place in (*document.pages, *passage) if begin < place < stop)}
    numbers = {place: number for number, place in enumerate(document.pages, 1)}
    pieces, order = list[Piece](), sorted(cuts)
    for position, following in zip(order, [*order[1:], stop], strict=True):
        if position in numbers:
            pieces.append(("page", numbers[position]))
        if position < following:
            kind = "passage" if passage[0] <= position < passage[1] else "text"
            pieces.append((kind, document.text[position:following]))
    return pieces


def original(visit: Visit) -> Response:
    """The bytes of a file as a download, which no browser opens as a page of this service."""
    with reading(visit.service.database) as connection:
        file = file_of(connection, visit.person, visit.id)
    place = visit.service.files.store.place(file.blob)
    if not place.is_file():
        raise NotFound(f"the bytes of {file.name} are not kept here; its text is")
    return FileResponse(
        place,
        media_type="application/octet-stream",
        filename=file.name,
        content_disposition_type="attachment",
        headers={"content-security-policy": SANDBOX},
    )
