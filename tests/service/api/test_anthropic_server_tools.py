"""Anthropic's own client, unmodified, with tools that the server runs: plain, streamed, and sent back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lobby import MODEL, Hall
from tool_bench import ASKED, CALCULATOR, DOCUMENTS, SCOPES, SQL, WEB, InTurn, call, open_tool_hall, tool_settings

from web_double import searx_answer, send, web_server

anthropic = pytest.importorskip("anthropic")
ROUNDS = (
    f"I look.{call('web_search', query='tower')}",
    call("document_search", query="tower"),
    call("sql_query", statement="SELECT 1"),
    call("calculator", expression="70 + 4"),
    "It is 74 metres tall.",
)
KINDS = [
    "text",
    *("server_tool_use", "web_search_tool_result"),
    *("server_tool_use", "document_search_tool_result"),
    *("server_tool_use", "sql_query_tool_result"),
    *("server_tool_use", "calculator_tool_result"),
    "text",
]


@pytest.fixture
def said() -> InTurn:
    return InTurn(*ROUNDS)


@pytest.fixture
def hall(tmp_path: Path, said: InTurn) -> Iterator[Hall]:
    result = {"url": "https://a.example/", "title": "Tower", "content": "74 metres"}
    with (
        web_server(lambda handler: send(handler, searx_answer(result))) as searx,
        open_tool_hall(tmp_path, said, tool_settings(tmp_path, searx)) as hall,
    ):
        yield hall


def asked() -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 1000, "messages": ASKED, "tools": [WEB, DOCUMENTS, SQL, CALCULATOR]}


def check(message: Any) -> None:
    assert [block.type for block in message.content] == KINDS
    assert message.stop_reason == "end_turn"
    assert message.usage.server_tool_use.web_search_requests == 1
    (result,) = message.content[2].content
    assert (result.type, result.url, result.title) == ("web_search_result", "https://a.example/", "Tower")
    assert message.content[1].input == {"query": "tower"}
    assert message.content[1].id == message.content[2].tool_use_id


def test_plain_and_sent_back(hall: Hall, said: InTurn) -> None:
    with anthropic.Anthropic(base_url=hall.url, api_key=hall.key(scopes=SCOPES), max_retries=0) as ours:
        message = ours.messages.create(**asked())
        check(message)
        turns = [*ASKED, message.to_param(), {"role": "user", "content": "Thanks."}]
        again = ours.messages.create(**asked() | {"messages": turns})
    assert again.content[0].text == ROUNDS[-1]
    assert said.asked[-1].prompt[: len(said.asked[-2].prompt)] == said.asked[-2].prompt


def test_streamed(hall: Hall) -> None:
    with (
        anthropic.Anthropic(base_url=hall.url, api_key=hall.key(scopes=SCOPES), max_retries=0) as ours,
        ours.messages.stream(**asked()) as stream,
    ):
        kinds = [event.content_block.type for event in stream if event.type == "content_block_start"]
        check(stream.get_final_message())
    assert kinds == KINDS


def test_a_key_without_the_scope_gets_a_typed_error(hall: Hall) -> None:
    with (
        anthropic.Anthropic(base_url=hall.url, api_key=hall.key(), max_retries=0) as ours,
        pytest.raises(anthropic.PermissionDeniedError, match="scope tools"),
    ):
        ours.messages.create(**asked())
