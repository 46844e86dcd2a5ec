"""Blocks of server tools: calls that the server ran, and their results, as answers give them and requests send them
back (Anthropic's reference, "server tools").

A result is a stranger's text. What a model reads of it is written here, from the block alone, so that a conversation
sent back reads the same as when it was written.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from charter_service.api.errors import invalid
from charter_service.tools.asked_arithmetic import expression_in

ID = r"^[a-zA-Z0-9_-]{1,200}$"
MOST_RESULTS = 100
SEARCHES = ("document_search", "web_search")
BY_QUESTION = (*SEARCHES, "calculator")  # those that the server may run before the model is asked
LONGEST_QUESTION = 400  # characters of a question that is a query
Code = Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ServerToolUseBlock(_Shape):
    """A call of a server tool that the model made."""

    type: Literal["server_tool_use"]
    id: str = Field(pattern=ID)
    name: str = Field(min_length=1, max_length=200)
    input: dict[str, Any]
    caller: Any = None
    cache_control: Any = None


class _Problem(_Shape):
    error_code: Code
    message: str | None = None

    def words(self) -> str:
        """What the model reads."""
        return self.message or self.error_code


class WebSearchProblem(_Problem):
    """Why a search of the web failed."""

    type: Literal["web_search_tool_result_error"]


class DocumentSearchProblem(_Problem):
    """Why a search in the documents failed."""

    type: Literal["document_search_tool_result_error"]


class SqlQueryProblem(_Problem):
    """Why a query failed."""

    type: Literal["sql_query_tool_result_error"]


class CalculatorProblem(_Problem):
    """Why an expression can't be computed."""

    type: Literal["calculator_tool_result_error"]


class WebSearchResult(_Shape):
    """A result of the web; `encrypted_content` holds its text in base64."""

    type: Literal["web_search_result"]
    url: str
    title: str
    encrypted_content: str
    page_age: str | None = None

    def words(self) -> str:
        """What the model reads."""
        return f"{self.title}\n{self.url}\n{self._text}".strip()

    def plain(self) -> str:
        """The same without a head."""
        return f"{self._text} ({self.title}, {self.url})".strip()

    @property
    def _text(self) -> str:
        try:
            return base64.b64decode(self.encrypted_content, validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            return ""


class DocumentSearchResult(_Shape):
    """A passage of a document."""

    type: Literal["document_search_result"]
    file: str
    page: int | None = None
    score: float
    text: str

    def words(self) -> str:
        """What the model reads."""
        return f"{self._source}\n{self.text}"

    def plain(self) -> str:
        """The same without a head."""
        return f"{self.text} ({self._source})"

    @property
    def _source(self) -> str:
        return f"{self.file}, page {self.page}" if self.page else self.file


class SqlQueryResult(_Shape):
    """Rows of a query."""

    type: Literal["sql_query_result"]
    statement: str
    columns: list[str]
    rows: list[list[Any]] = Field(max_length=1000)
    truncated: bool

    def words(self) -> str:
        """What the model reads."""
        lines = [json.dumps(row, ensure_ascii=False) for row in (self.columns, *self.rows)]
        end = "there are more rows" if self.truncated else f"{len(self.rows)} rows"
        return "\n".join([*lines, end])


class CalculatorResult(_Shape):
    """The value of an expression."""

    type: Literal["calculator_result"]
    expression: str
    value: str

    def words(self) -> str:
        """What the model reads."""
        return f"{self.expression} = {self.value}"


class _Result(_Shape):
    tool_use_id: str = Field(pattern=ID)
    caller: Any = None
    cache_control: Any = None


class WebSearchToolResultBlock(_Result):
    """What a search of the web gave."""

    type: Literal["web_search_tool_result"]
    content: Annotated[list[WebSearchResult], Field(max_length=MOST_RESULTS)] | WebSearchProblem


class DocumentSearchToolResultBlock(_Result):
    """What a search in the documents gave."""

    type: Literal["document_search_tool_result"]
    content: Annotated[list[DocumentSearchResult], Field(max_length=MOST_RESULTS)] | DocumentSearchProblem


class SqlQueryToolResultBlock(_Result):
    """What a query gave."""

    type: Literal["sql_query_tool_result"]
    content: SqlQueryResult | SqlQueryProblem


class CalculatorToolResultBlock(_Result):
    """What the calculator gave."""

    type: Literal["calculator_tool_result"]
    content: CalculatorResult | CalculatorProblem


RESULTS = (WebSearchToolResultBlock, DocumentSearchToolResultBlock, SqlQueryToolResultBlock, CalculatorToolResultBlock)
ResultBlock = (
    WebSearchToolResultBlock | DocumentSearchToolResultBlock | SqlQueryToolResultBlock | CalculatorToolResultBlock
)
ServerBlock = ServerToolUseBlock | ResultBlock
NO_MATCH = "Nothing matches."


def words_of(block: ResultBlock) -> tuple[str, bool]:
    """What a model reads of a result, and whether the tool failed."""
    content: Any = block.content
    if not isinstance(content, list):
        return content.words(), isinstance(content, _Problem)
    numbered = (f"[{number}] {result.words()}" for number, result in enumerate(content, 1))
    return "\n\n".join(numbered) or NO_MATCH, False


def is_question(call: ServerToolUseBlock, question: str) -> bool:
    """Whether a call is one that the server makes for a question as it stands, as a request may ask for it."""
    return bool(question) and call.name in BY_QUESTION and call.input == input_for(call.name, question)


def input_for(name: str, question: str) -> dict[str, str]:
    """The input of a call for a question; empty if the calculator has nothing to compute in it."""
    if name in SEARCHES:
        return {"query": question}
    expression = expression_in(question)
    return {"expression": expression} if expression else {}


def as_query(text: str) -> str:
    """A user's words as the query of a search: its last words if they are many, since the question mostly ends it."""
    return " ".join(text.replace("\0", " ").split())[-LONGEST_QUESTION:].strip()


def plain_words_of(block: ResultBlock) -> str:
    """What a model reads of a search for the question: passages with their sources behind them, without numbers or
    heads, which small models repeat."""
    content: Any = block.content
    if not isinstance(content, list):
        return str(content.words())
    return "\n\n".join(result.plain() for result in content) or NO_MATCH


def result_block(name: str, call: str, content: Any) -> dict[str, Any]:
    """The block of what a tool gave."""
    if name == "web_search":
        content = [_web_result(row) for row in content]
    return {"type": f"{name}_tool_result", "tool_use_id": call, "content": content}


def problem_block(name: str, call: str, code: str, message: str) -> dict[str, Any]:
    """The block of a tool that failed."""
    kind = f"{name}_tool_result"
    problem = {"type": f"{kind}_error", "error_code": code, "message": message}
    return {"type": kind, "tool_use_id": call, "content": problem}


def _web_result(result: Mapping[str, Any]) -> dict[str, Any]:
    text = base64.b64encode(result["text"].encode()).decode()
    facts = {name: result[name] for name in ("url", "title", "page_age")}
    return {"type": "web_search_result", **facts, "encrypted_content": text}


def check_server_blocks(role: str, blocks: Sequence[tuple[str, Any]]) -> None:
    """Checks a turn, with the place of each block: calls of server tools and their results stand together in the
    assistant's. Raises ApiError."""
    calls, results = dict[str, tuple[str, str]](), set[str]()
    for at, block in blocks:
        if not isinstance(block, (ServerToolUseBlock, *RESULTS)):
            continue
        if role == "user":
            raise invalid(f"{at}: `{block.type}` blocks can only be in `assistant` messages", "messages")
        if isinstance(block, ServerToolUseBlock):
            if block.id in calls:
                raise invalid(f"{at}: `server_tool_use` ids must be unique", "messages")
            calls[block.id] = (at, block.name)
            continue
        if calls.get(block.tool_use_id, ("", ""))[1] != block.type.removesuffix("_tool_result"):
            raise invalid(
                f"{at}: `{block.type}` has no `server_tool_use` block of this id before it: {block.tool_use_id}",
                "messages",
            )
        if block.tool_use_id in results:
            raise invalid(f"{at}: more than one result for {block.tool_use_id}", "messages")
        results.add(block.tool_use_id)
    if lost := [place for id, (place, _) in calls.items() if id not in results]:
        raise invalid(f"{lost[0]}: this `server_tool_use` block has no result in its message", "messages")
