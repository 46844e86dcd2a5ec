"""The scripted server with tools, for tests of the chat."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from company import Upstream
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

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
        {"type": "web_search_result", "url": "https://a.example/x", "title": EVIL, "encrypted_content": "eA=="},
        {"type": "web_search_result", "url": "javascript:alert(1)", "title": "Bad", "encrypted_content": "eA=="},
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
        begun = body["messages"][-1]["role"] == "assistant"
        for tool in () if begun else body.get("tools", ()):
            name, text = tool["name"], json.dumps(INPUTS[tool["name"]])
            for event in (
                {"type": "content_block_start", "content_block": {"type": "server_tool_use", "id": name, "name": name}},
                *(
                    {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": part}}
                    for part in (text[:5], text[5:])
                ),
                {"type": "content_block_stop"},
                {
                    "type": "content_block_start",
                    "content_block": {"type": f"{name}_tool_result", "tool_use_id": name, "content": RESULTS[name]},
                },
                {"type": "content_block_stop"},
            ):
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        async for event in events:
            yield event
