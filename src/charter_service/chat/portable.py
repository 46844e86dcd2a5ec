"""Chats as files: Markdown and JSON, and reading back what this chat, ChatGPT or Claude exported."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import dropwhile, islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, select
from starlette.responses import Response, StreamingResponse

from charter_service.chat.attached import File, by_message, document_of, text_length
from charter_service.chat.branches import DONE, Chat, Message, branch, chat_of
from charter_service.chat.file_reading import Files, Intake
from charter_service.chat.letters import mapping_of, storable_text
from charter_service.chat.reply_options import USUAL, settings_from
from charter_service.chat.site import Visit
from charter_service.chat.tool_calls import as_data, call_as_markdown, calls_of
from charter_service.chat.tree import LONGEST_TEXT, copy
from charter_service.people.tables import MESSAGES
from charter_service.people.workers import Person
from charter_service.web.database import reading
from charter_service.web.refusal import NotFound, Refusal

FORM = "charter-chat-1"
AT_A_TIME = 20  # messages that are read for an export at once
MOST_CHATS = 1000
MOST_MESSAGES = 5000  # of an imported chat
MOST_AT_ONCE = 20_000  # messages of a file
MOST_FILES = 200  # of all imported messages
MOST_CHARACTERS = 20_000_000  # of all files of an export
NO_CHATS = (
    "the file holds no chats in a known form; expected an export of this chat, of ChatGPT (conversations.json) or of "
    "Claude"
)


class Budget:
    """How many characters of files an export still takes; the texts of further files are left out."""

    def __init__(self, characters: int = MOST_CHARACTERS) -> None:
        self.left = characters

    def take(self, connection: Connection, files: Iterable[File]) -> list[dict[str, Any]]:
        """Files as an export holds them: names, digests, texts and where their pages begin."""
        return [self._file_facts(connection, file) for file in files]

    def _file_facts(self, connection: Connection, file: File) -> dict[str, Any]:
        facts = {"name": file.name, "kind": file.kind, "size": file.size, "sha256": file.sha256}
        if text_length(connection, file) > self.left:
            return {**facts, "left_out": f"its text is at /f/{file.id}"}
        document = document_of(connection, file)
        self.left -= len(document.text)
        return {**facts, "text": document.text, "pages": list(document.pages)}


def pieces_of_chat(database: Engine, person: Person, id: str, budget: Budget) -> Iterator[str]:
    """A chat with all its branches as JSON, in pieces: each message names its parent, and has its files. No transaction
    is open between two pieces, since a reader may take any time. A chat that was deleted meanwhile is nothing."""
    columns = [c for c in MESSAGES.c if c.name not in ("serial", "chat", "client")]
    query = select(*columns).where(MESSAGES.c.chat == id).order_by(MESSAGES.c.number).limit(AT_A_TIME)
    last, between = 0, ""
    try:
        with reading(database) as connection:
            chat = chat_of(connection, person, id)
    except NotFound:
        return
    facts = {"form": FORM, "draft": chat.draft, **chat.settings.facts}
    facts |= {name: getattr(chat, name) for name in ("id", "title", "model", "created", "leaf")}
    yield json.dumps(facts).removesuffix("}") + ', "messages": ['
    while True:
        with reading(database) as connection:
            rows = connection.execute(query.where(MESSAGES.c.number > last)).all()
            calls = calls_of(connection, [row.id for row in rows])
            files = by_message(connection, id)
        for row in rows:
            with reading(database) as connection:
                texts = budget.take(connection, files.get(row.id, ()))
            facts = dict(row._mapping) | {
                "citations": json.loads(row.citations),
                "calls": [as_data(call) for call in calls.get(row.id, ())],
                "files": texts,
            }
            yield between + json.dumps(facts)
            last, between = row.number, ","
        if len(rows) < AT_A_TIME:
            break
    yield "]}"


def as_json(visit: Visit) -> Response:
    """One chat as JSON."""
    with reading(visit.service.database) as connection:
        chat = chat_of(connection, visit.person, visit.id)
    pieces = pieces_of_chat(visit.service.database, visit.person, chat.id, Budget())
    return StreamingResponse(pieces, media_type="application/json", headers=_attached(chat, "json"))


def as_markdown(visit: Visit) -> Response:
    """The shown branch of a chat as Markdown."""
    with reading(visit.service.database) as connection:
        chat = chat_of(connection, visit.person, visit.id)
        line = branch(connection, chat.leaf)
    parts = [f"# {chat.title}\n"]
    if chat.settings.instructions:
        parts.append(f"## Instructions\n\n{chat.settings.instructions}\n")
    for message in line:
        writer = "You" if message.role == "user" else message.written_by
        names = "".join(f"File: {file.name} (sha256 {file.sha256})\n\n" for file in message.files)
        calls = "".join(f"{call_as_markdown(call)}\n\n" for call in message.calls)
        parts.append(f"## {writer}\n\n{names}{calls}{message.text.strip()}\n")
    return Response("\n".join(parts), media_type="text/markdown; charset=utf-8", headers=_attached(chat, "md"))


def _attached(chat: Chat, ending: str) -> dict[str, str]:
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in chat.title)
    name = "-".join(part for part in name.split("-") if part)[:60] or "chat"
    return {"content-disposition": f'attachment; filename="{name}.{ending}"'}


class Turn(NamedTuple):
    """A message of an exported chat, with the facts of those of its files that have a text."""

    role: str
    text: str
    files: Sequence[Mapping[str, Any]] = ()


def import_file(files: Files, intake: Intake, text: str, model: str) -> int:
    """Stores the chats of an exported file as new chats; returns how many. Of a tree, the last branch is taken.
    Messages have their files: of each its text, which then is its content.

    Raises Refusal if the text is not JSON, or no known form, or for files over a limit.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal("the file is not JSON; export it again, and choose the .json file") from None
    chats = data.get("chats", [data]) if isinstance(data, dict) else data
    if not isinstance(chats, list) or len(chats) > MOST_CHATS:
        raise Refusal(NO_CHATS)
    parsed = [(chat, _turns(chat)) for chat in chats if isinstance(chat, dict)]
    nonempty = [(chat, turns) for chat, turns in parsed if turns]
    if not nonempty:
        raise Refusal(NO_CHATS)
    if sum(len(turns) for _, turns in nonempty) > MOST_AT_ONCE:
        raise Refusal(f"the file holds more than {MOST_AT_ONCE:,} messages; bring them in by parts", 413)
    if sum(len(turn.files) for _, turns in nonempty for turn in turns) > MOST_FILES:
        raise Refusal(f"the chats have more than {MOST_FILES} files; bring them in by parts", 413)
    for chat, turns in nonempty:
        messages = [_message(turn, _store_files(files, intake, turn)) for turn in turns]
        settings = settings_from(chat) if chat.get("form") == FORM else USUAL
        copy(intake.connection, intake.person, _title_of(chat), model, messages, settings)
    return len(nonempty)


def _store_files(files: Files, intake: Intake, turn: Turn) -> tuple[File, ...]:
    """The files of an exported message, stored anew."""
    return tuple(
        files.take_text(intake, str(file.get("name") or ""), file["text"], file.get("pages"))
        for file in turn.files[: files.allowance.a_message]
    )


def _with_text(files: Any) -> list[Mapping[str, Any]]:
    """Those of an exported message's files that have a text."""
    return [
        file
        for file in (files if isinstance(files, list) else ())
        if isinstance(file, dict) and isinstance(file.get("text"), str) and file["text"].strip()
    ]


def _title_of(chat: Mapping[str, Any]) -> str:
    return storable_text(str(chat.get("title") or chat.get("name") or "Imported chat"))


def _turns(chat: Mapping[str, Any]) -> list[Turn]:
    """The messages of an exported chat, from its first question on."""
    turns = (Turn(*facts) for facts in _turns_of(chat))
    nonempty = (turn._replace(text=storable_text(turn.text)) for turn in turns if turn.text.strip())
    return list(islice(dropwhile(lambda turn: turn.role != "user", nonempty), MOST_MESSAGES))


def _turns_of(chat: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
    """Roles and texts of one exported chat, and files if it is one of ours."""
    if isinstance(mapping := chat.get("mapping"), dict):
        return _of_chatgpt(mapping, str(chat.get("current_node") or ""))
    if isinstance(messages := chat.get("chat_messages"), list):
        return [
            ("user" if message.get("sender") == "human" else "assistant", str(message.get("text") or ""))
            for message in messages
            if isinstance(message, dict)
        ]
    if isinstance(rows := chat.get("messages"), list) and chat.get("form") == FORM:
        by_id = {str(row.get("id")): row for row in rows if isinstance(row, dict)}
        line: list[tuple[Any, ...]] = []
        id = str(chat.get("leaf"))
        while id in by_id:
            row = by_id.pop(id)
            files = _with_text(row.get("files")) if row.get("role") == "user" else ()
            line.append((str(row.get("role")), str(row.get("text") or ""), files))
            id = str(row.get("parent") or "")
        return line[::-1]
    return ()


def _of_chatgpt(mapping: dict[str, Any], leaf: str) -> Iterable[tuple[str, str]]:
    line, visited = list[tuple[str, str]](), set[str]()
    while leaf in mapping and leaf not in visited and isinstance(mapping[leaf], dict):
        visited.add(leaf)
        message = mapping[leaf].get("message")
        if isinstance(message, dict):
            role = str(mapping_of(message.get("author")).get("role"))
            parts = mapping_of(message.get("content")).get("parts")
            parts = parts if isinstance(parts, list) else ()
            words = "\n".join(part for part in parts if isinstance(part, str))
            if role in ("user", "assistant"):
                line.append((role, words))
        leaf = str(mapping[leaf].get("parent") or "")
    return reversed(line)


def _message(turn: Turn, files: tuple[File, ...]) -> Message:
    role, text = "user" if turn.role == "user" else "assistant", turn.text
    author = "person" if role == "user" else "edited"  # nobody knows that a model wrote it
    facts: dict[str, Any] = dict.fromkeys(("id", "chat", "parent", "request", "stop", "reason", "thumb"), "")
    facts |= dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens"), 0)
    facts |= {"text": text[:LONGEST_TEXT], "model": "", "created": time.time(), "files": files}
    return Message(role=role, author=author, state=DONE, **facts)
