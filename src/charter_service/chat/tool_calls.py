"""Tools in a chat: which are switched on, and what a model called in a reply.

Tools are off in each new chat. What is switched on is kept with the chat, and only what the API offers now is asked
for. A call is stored as soon as its result is there, so a crash loses none that was shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select, update

from charter_service.chat.letters import mapping_of, storable_text
from charter_service.people.tables import CHAT_TOOLS, CHATS, MESSAGES, TOOL_CALLS
from charter_service.web.refusal import Refusal

MOST_CALLS = 100  # of a reply
LONGEST = 50_000  # characters of a result as JSON; what is longer is stored without its content
LONGEST_ARGUMENTS = 5000
RESULT = "_tool_result"
TOO_LONG = {"note": "The result is too long to be kept."}
BY_QUESTION = ("web_search", "document_search", "calculator")
SEALED = "encrypted_content"  # of a page of the web
TITLES = {
    "web_search": "Search the web",
    "document_search": "Search documents",
    "sql_query": "Ask the database",
    "calculator": "Calculate",
}


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool that the API runs: its name, how a request names it, and its title for people."""

    name: str
    type: str

    @property
    def title(self) -> str:
        """What people read on its switch."""
        return TITLES.get(self.name, self.name.replace("_", " "))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in a reply: the tool, its input, and the content of its result."""

    name: str
    arguments: Mapping[str, Any]
    result: Any
    failed: bool

    @property
    def title(self) -> str:
        """What people read above it."""
        return TITLES.get(self.name, self.name.replace("_", " "))

    @property
    def asked(self) -> str:
        """The query, statement or expression."""
        return next((str(value) for value in self.arguments.values() if isinstance(value, str)), "")

    @property
    def problem(self) -> str:
        """Why it failed, "" if it didn't."""
        words = mapping_of(self.result)
        return str(words.get("message") or words.get("error_code") or "it failed") if self.failed else ""

    @property
    def rows(self) -> Mapping[str, Any]:
        """Columns and rows of a query, nothing for other tools."""
        result = mapping_of(self.result)
        is_table = all(isinstance(result.get(name), list) for name in ("columns", "rows"))
        rows = is_table and all(isinstance(row, list) for row in result["rows"])
        return result if rows else {}

    @property
    def value(self) -> str:
        """The value of an expression, "" for other tools."""
        return str(mapping_of(self.result).get("value") or "")

    @property
    def sources(self) -> list[dict[str, str]]:
        """Passages and pages: title, text, and the address of a page of the web, else ""."""
        rows = self.result if isinstance(self.result, list) else ()
        return [_source(row) for row in rows if isinstance(row, dict)]


def _source(row: Mapping[str, Any]) -> dict[str, str]:
    url, page = str(row.get("url") or ""), row.get("page")
    title = str(row.get("title") or row.get("file") or url)
    facts = {"title": f"{title}, page {page}" if page else title, "text": str(row.get("text") or "")}
    return facts | {"url": url if url.startswith(("http://", "https://")) else ""}


@dataclass(slots=True)
class Listening:
    """The calls in the events of a reply."""

    calls: dict[str, tuple[str, str]] = field(default_factory=dict)  # name and input by id
    _open: str = ""

    def take(self, event: Mapping[str, Any]) -> ToolCall | None:
        """The call that an event completes. Events of another form are passed over."""
        block, delta = mapping_of(event.get("content_block")), mapping_of(event.get("delta"))
        kind, id = str(block.get("type")), str(block.get("tool_use_id") or block.get("id") or "")
        if event.get("type") == "content_block_stop":
            self._open = ""
        elif delta.get("type") == "input_json_delta" and self._open:
            name, text = self.calls[self._open]
            self.calls[self._open] = (name, (text + str(delta.get("partial_json") or ""))[:LONGEST_ARGUMENTS])
        elif kind == "server_tool_use" and len(self.calls) < MOST_CALLS:
            self._open = id
            self.calls[id] = (storable_text(str(block.get("name")))[:64], "")
        elif kind.endswith(RESULT) and id in self.calls:
            name, text = self.calls.pop(id)
            return _call(name, text, block.get("content"))
        return None


def _call(name: str, arguments: str, content: Any) -> ToolCall:
    try:
        call_input = mapping_of(json.loads(arguments or "{}"))
    except (ValueError, RecursionError):
        call_input = {}
    failed = str(mapping_of(content).get("type")).endswith("_error")
    content = _clean(content)
    if len(json.dumps(content)) > LONGEST:
        content = TOO_LONG
    return ToolCall(name, _clean(call_input), content, failed)


def _clean(value: Any, depth: int = 5) -> Any:
    """A value of JSON with texts that a database can keep, and not too deep."""
    if isinstance(value, dict) and depth:
        return {storable_text(str(name)): _clean(item, depth - 1) for name, item in value.items()}
    if isinstance(value, list) and depth:
        return [_clean(item, depth - 1) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else storable_text(str(value))


def tools_of(answer: Mapping[str, Any]) -> list[ServerTool]:
    """The tools in the API's list."""
    rows = answer.get("data")
    return [
        ServerTool(storable_text(str(row.get("name")))[:64], storable_text(str(row.get("type")))[:64])
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict) and row.get("name") and row.get("type")
    ]


def chosen_in(connection: Connection, chat: str) -> set[str]:
    """The names of the tools that are on in a chat."""
    return set(connection.execute(select(CHAT_TOOLS.c.name).where(CHAT_TOOLS.c.chat == chat)).scalars())


def check_names(names: Iterable[str], tools: Iterable[ServerTool]) -> None:
    """Raises Refusal if one of the names is no tool's."""
    if not set(names) <= {tool.name for tool in tools}:
        raise Refusal("there is no such tool here now; reload the page to see which there are")


def switch_on(connection: Connection, chat: str, names: Iterable[str]) -> None:
    """Switches tools on in a chat."""
    for name in set(names) - chosen_in(connection, chat):
        connection.execute(insert(CHAT_TOOLS).values(chat=chat, name=name))


def named(tools: Iterable[ServerTool], names: Iterable[str]) -> list[dict[str, str]]:
    """Tools as a request names them. Searches and the calculator take the question as it is: small models
    write poor queries, and call nothing."""
    chosen_names = set(names)
    return [
        {"type": tool.type, "name": tool.name} | ({"query": "question"} if tool.name in BY_QUESTION else {})
        for tool in tools
        if tool.name in chosen_names
    ]


def store_call(connection: Connection, message: str, call: ToolCall) -> None:
    """Stores a call of a reply after those that it has."""
    query = select(TOOL_CALLS.c.place).where(TOOL_CALLS.c.message == message)
    last = connection.execute(query.order_by(TOOL_CALLS.c.place.desc()).limit(1)).scalar()
    place = 0 if last is None else last + 1
    if place >= MOST_CALLS:
        return
    arguments, result = json.dumps(call.arguments), json.dumps(call.result)
    values = {"arguments": arguments, "result": result, "failed": call.failed}
    connection.execute(insert(TOOL_CALLS).values(message=message, place=place, name=call.name, **values))
    size = len(arguments) + len(result)  # JSON is ASCII
    chat = select(MESSAGES.c.chat).where(MESSAGES.c.id == message).scalar_subquery()
    connection.execute(update(CHATS).where(CHATS.c.id == chat).values(bytes=CHATS.c.bytes + size))


def calls_of(connection: Connection, messages: Sequence[str]) -> dict[str, list[ToolCall]]:
    """The calls of messages, by message and in order."""
    calls: dict[str, list[ToolCall]] = {}
    query = select(TOOL_CALLS).where(TOOL_CALLS.c.message.in_(messages))
    for row in connection.execute(query.order_by(TOOL_CALLS.c.message, TOOL_CALLS.c.place)):
        call = ToolCall(row.name, json.loads(row.arguments), json.loads(row.result), row.failed)
        calls.setdefault(row.message, []).append(call)
    return calls


def as_data(call: ToolCall) -> dict[str, Any]:
    """A call in an export or a shared copy; the text of a page of the web is the model's affair, its address is the
    source."""
    result = call.result
    if isinstance(result, list):
        result = [
            {key: value for key, value in row.items() if key != SEALED} for row in result if isinstance(row, dict)
        ]
    return {"name": call.name, "arguments": call.arguments, "result": result, "failed": call.failed}


def call_as_markdown(call: ToolCall) -> str:
    """A call in an export as Markdown."""
    lines = [f"Tool: {call.title}: {call.asked}"]
    if call.problem:
        lines.append(call.problem)
    elif call.rows:
        lines += [_cells(call.rows["columns"]), "|---" * len(call.rows["columns"]) + "|"]
        lines += [_cells(row) for row in call.rows["rows"]]
        lines = [lines[0], "\n".join(lines[1:])]
    elif call.value:
        lines.append(call.value)
    for number, source in enumerate(call.sources, 1):
        words = " ".join(source["text"].split())
        lines.append(f"{number}. " + ": ".join(part for part in (source["title"], source["url"], words) if part))
    return "\n\n".join(_quoted(line) for line in lines)


def _cells(row: Sequence[Any]) -> str:
    words = ("" if value is None else " ".join(str(value).split()).replace("|", "\\|") for value in row)
    return f"| {' | '.join(words)} |"


def _quoted(text: str) -> str:
    """A stranger's text as a quotation, so that it ends no message of the export."""
    return "\n".join(f"> {line}" for line in text.split("\n"))


def blocks_of(calls: Sequence[ToolCall], message: str) -> list[dict[str, Any]]:
    """The calls of a message as the API gave them, to be sent back; those whose results were too long to be kept are
    left out."""
    blocks = list[dict[str, Any]]()
    for place, call in enumerate(calls):
        if call.result == TOO_LONG:
            continue
        id = f"srvtoolu_{message}_{place}"
        result = {"type": f"{call.name}{RESULT}", "tool_use_id": id, "content": call.result}
        blocks += [{"type": "server_tool_use", "id": id, "name": call.name, "input": call.arguments}, result]
    return blocks


def from_data(data: Any) -> list[ToolCall]:
    """The calls of a shared copy."""
    rows = data if isinstance(data, list) else ()
    return [
        ToolCall(str(row.get("name")), mapping_of(row.get("arguments")), row.get("result"), bool(row.get("failed")))
        for row in rows
        if isinstance(row, dict)
    ]
