"""A server with tools and a model double that says one thing after another, for tests of server tools."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from lobby import MODEL, Hall, Said, configuration, running
from sqlalchemy import Engine

from charter.ground.moderation.screen import Screen
from charter_service.accounts.keys import USUAL
from charter_service.api.app import make_app
from charter_service.api.model_request import ModelRequest
from charter_service.api.registry import Registry, Served
from charter_service.api.service import Service, open_database
from charter_service.api.wire.tool_words import write_calls
from charter_service.tools.opening import open_tools
from charter_service.tools.tool import Tool

SCOPES = (*USUAL, "tools")
ASKED = [{"role": "user", "content": "How tall is the tower of Brunn?"}]
CALCULATOR = {"type": "calculator_20261201", "name": "calculator"}
DOCUMENTS = {"type": "document_search_20261201", "name": "document_search"}
SQL = {"type": "sql_query_20261201", "name": "sql_query"}
WEB = {"type": "web_search_20250305", "name": "web_search"}
TOWER = "The tower of Brunn is 74 metres tall. It was built in 1511.\n"


class InTurn(Said):
    """Says its replies one after another, the last one again and again."""

    def __init__(self, *replies: str, stop: Any = "end") -> None:
        super().__init__(*replies[0], stop=stop)
        self.replies = list(replies)

    async def stream(self, asked: ModelRequest, account: str, background: bool) -> Any:
        self.pieces = list(self.replies[min(len(self.asked), len(self.replies) - 1)])
        async for part in super().stream(asked, account, background):
            yield part


def call(name: str, **arguments: Any) -> str:
    """A call as a model writes it."""
    return write_calls([(name, arguments)]).read


def tool_settings(folder: Path, searx: str = "", **more: Any) -> dict[str, Any]:
    """All tools: a folder with one document, a database with one table, and a search if there is a server of one."""
    (folder / "papers").mkdir(exist_ok=True)
    (folder / "papers" / "tower.txt").write_text(TOWER)
    with sqlite3.connect(folder / "shop.sqlite") as shop:
        shop.execute("CREATE TABLE IF NOT EXISTS cities(name TEXT, people INTEGER)")
        shop.execute("INSERT INTO cities VALUES ('Bern', 134000), ('Rome', 2800000)")
    shop.close()
    settings: dict[str, Any] = {
        "calculator": True,
        "documents": {"folder": "papers"},
        "sql": {"database": "shop.sqlite"},
    }
    if searx:
        settings["web_search"] = {"url": searx}
    return settings | more


@contextmanager
def open_tool_hall(
    folder: Path,
    said: Said,
    settings: Mapping[str, Any] | None,
    screen: Screen | None = None,
    instead: Mapping[str, Tool] | None = None,
    **more: Any,
) -> Iterator[Hall]:
    """A server whose models say what `said` says, with the tools of `settings`; `instead`: doubles by kind."""
    config = configuration(**({"tools": dict(settings)} if settings is not None else {}), **more)
    tools = open_tools(config.tools, folder) | dict(instead or {})
    served = [Served(model, said, "digest", 0.0) for model in config.models]  # type: ignore[arg-type]
    database: Engine = open_database(config, folder)
    service = Service(config, database, Registry(served), screen, tools=tools)
    app = make_app(service)
    with running(app, service) as url:
        state = app._app.state  # type: ignore[attr-defined]
        yield Hall(service, url, state.batching, desk=state.desk)


def post(hall: Hall, *tools: Mapping[str, Any], key: str = "", **body: Any) -> httpx.Response:
    """The answer to a request that names tools."""
    whole = {"model": MODEL, "max_tokens": 400, "messages": ASKED, "tools": list(tools)} | body
    headers = {"x-api-key": key or hall.key(scopes=SCOPES), "anthropic-version": "2023-06-01"}
    return httpx.post(f"{hall.url}/v1/messages", headers=headers, json=whole, timeout=60)


def told(text: str) -> list[dict[str, Any]]:
    """The events of a stream."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
