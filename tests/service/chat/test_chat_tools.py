"""Tools in the chat: off at first, kept per chat, asked for by name; calls are shown, exported and shared."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from company import Person, Upstream, browse, chat, file_of, words_of
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from charter.service.chat.tool_calls import MOST_CALLS, Listening, tools_of

EVIL = "<script>alert(1)</script>"
RESULTS: dict[str, Any] = {
    "sql_query": {
        "type": "sql_query_result",
        "statement": "SELECT name FROM cities",
        "columns": ["name"],
        "rows": [["Bern"], [EVIL], [None]],
        "truncated": False,
    },
    "web_search": [
        {
            "type": "web_search_result",
            "url": "https://a.example/x",
            "title": EVIL,
            "encrypted_content": "eA==",
        },
        {
            "type": "web_search_result",
            "url": "javascript:alert(1)",
            "title": "Bad",
            "encrypted_content": "eA==",
        },
    ],
    "document_search": [
        {"type": "document_search_result", "file": f"{EVIL}.pdf", "page": 3, "score": 1.5, "text": EVIL}
    ],
    "calculator": {"type": "calculator_tool_result_error", "error_code": "unavailable", "message": "not now"},
}
INPUTS = {
    "sql_query": {"statement": "SELECT name FROM cities"},
    "web_search": {"query": "tower of Brunn"},
    "document_search": {"query": "tower"},
    "calculator": {"expression": "1 / 0"},
}


class Tooled(Upstream):
    """The scripted server with tools: it calls those that a request names, each once, before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.app.router.routes.append(Route("/v1/tools", self._tools))

    async def _tools(self, _: Request) -> Response:
        rows = [{"type": f"{name}_1", "name": name, "description": ""} for name in RESULTS]
        return JSONResponse({"data": rows})

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        events = super()._events(body)
        yield await anext(events)
        for tool in body.get("tools", ()):
            name, text = tool["name"], json.dumps(INPUTS[tool["name"]])
            for event in (
                {
                    "type": "content_block_start",
                    "content_block": {"type": "server_tool_use", "id": name, "name": name},
                },
                *(
                    {
                        "type": "content_block_delta",
                        "delta": {"type": "input_json_delta", "partial_json": part},
                    }
                    for part in (text[:5], text[5:])
                ),
                {"type": "content_block_stop"},
                {
                    "type": "content_block_start",
                    "content_block": {
                        "type": f"{name}_tool_result",
                        "tool_use_id": name,
                        "content": RESULTS[name],
                    },
                },
                {"type": "content_block_stop"},
            ):
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        async for event in events:
            yield event


def test_tools_are_switched_shown_exported_and_shared(tmp_path: Path) -> None:
    upstream = Tooled()
    with chat(file_of(tmp_path), upstream) as (home, service):
        ann, bob = Person(home, service, "Ann"), Person(home, service, "Bob")
        sent = ann.begin("How tall is it?")
        ann.finished(sent["reply"])
        assert "tools" not in upstream.bodies[-1]
        page = ann.page(f"/c/{sent['chat']}")
        assert page.count('aria-pressed="false"') == len(RESULTS)
        for name in RESULTS:
            assert ann.send(f"/c/{sent['chat']}/tools", name=name, on="yes").status_code == 200
        assert bob.send(f"/c/{sent['chat']}/tools", name="calculator", on="no").status_code == 404
        assert ann.send(f"/c/{sent['chat']}/tools", name="rm", on="yes").status_code == 400
        assert ann.page(f"/c/{sent['chat']}").count('aria-pressed="true"') == len(RESULTS)
        again = ann.ask(sent["chat"], sent["reply"], "And now?")
        ann.finished(again["reply"])
        assert [tool["name"] for tool in upstream.bodies[-1]["tools"]] == list(RESULTS)
        page = ann.page(f"/c/{sent['chat']}")
        said = words_of(page)
        for words in (
            "Ask the database: SELECT name FROM cities",
            "Bern",
            "tower of Brunn",
            ", page 3",
            "Not now",
        ):
            assert words in said
        assert '<a href="https://a.example/x"' in page
        assert page.count('<details class="card call"><summary>') == len(RESULTS)
        exported = json.loads(ann.page(f"/c/{sent['chat']}/export.json"))
        calls = exported["messages"][-1]["calls"]
        assert [call["name"] for call in calls] == list(RESULTS)
        assert calls[0]["result"] == RESULTS["sql_query"]
        shared = ann.send(f"/c/{sent['chat']}/share", days="3").text
        link = re.search(r'id="link">([^<]+)<', shared)
        assert link
        copy = browse(home).get(link[1].replace(service.config.name, "")).text
        for html in (page, copy):
            assert EVIL not in html
            assert "javascript:" not in html
        assert "Ask the database" in words_of(copy)
        # off again, and off in the next chat
        for name in RESULTS:
            ann.send(f"/c/{sent['chat']}/tools", name=name, on="no")
        third = ann.ask(sent["chat"], again["reply"], "Without?")
        ann.finished(third["reply"])
        assert "tools" not in upstream.bodies[-1]
        other = ann.begin("Another chat")
        ann.finished(other["reply"])
        assert "tools" not in upstream.bodies[-1]


def test_a_server_without_tools_shows_no_switches(tmp_path: Path) -> None:
    with chat(file_of(tmp_path), Upstream()) as (home, service):
        ann = Person(home, service, "Ann")
        sent = ann.begin("Hello")
        ann.finished(sent["reply"])
        assert "aria-pressed" not in ann.page(f"/c/{sent['chat']}")


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"type": "x_tool_result", "tool_use_id": "a", "content": None},
        {"type": "x_tool_result", "tool_use_id": "a", "content": [1, None, {"url": 3}]},
        {"type": "x_tool_result", "tool_use_id": "a", "content": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}},
        {"type": "x_tool_result", "tool_use_id": "a", "content": {"text": "\ud800\0" + "x" * 100_000}},
        {"type": "x_tool_result", "tool_use_id": "b", "content": {}},
    ],
)
@pytest.mark.parametrize("text", ["", "{", "[" * 9000, '{"query": "\\ud800"}', "3"])
def test_odd_events_of_the_api_are_passed_over(block: dict[str, Any], text: str) -> None:
    listening = Listening()
    start = {"type": "server_tool_use", "id": "a", "name": "x\0"}
    assert listening.take({"type": "content_block_start", "content_block": start}) is None
    delta = {"type": "input_json_delta", "partial_json": text}
    assert listening.take({"type": "content_block_delta", "delta": delta}) is None
    call = listening.take({"type": "content_block_start", "content_block": block})
    assert (call is not None) == (block.get("tool_use_id") == "a")
    if call is not None:
        stored = json.dumps([call.name, call.arguments, call.result])
        assert len(stored) < 30_000
        assert "\\ud800" not in stored
        assert "\\u0000" not in stored
        assert (call.rows, call.value) == ({}, "")
        assert call.asked is not None
        assert isinstance(call.sources, list)


def test_calls_without_a_result_and_too_many_are_bounded() -> None:
    listening = Listening()
    for number in range(3 * MOST_CALLS):
        start = {"type": "server_tool_use", "id": str(number), "name": "x"}
        listening.take({"type": "content_block_start", "content_block": start})
    assert len(listening.calls) == MOST_CALLS
    assert tools_of({"data": [3, {}, {"name": "a"}, {"name": "b", "type": "c"}]})[0].name == "b"
    assert tools_of({"data": None}) == []
