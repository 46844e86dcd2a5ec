"""A chat served to the tests, and the model's server behind it: one whose words, pace and failures a test chooses."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from charter_service.chat.app import make_app, people_alone
from charter_service.chat.client import Api
from charter_service.chat.service import Config, Service
from charter_service.people.tables import MESSAGES
from charter_service.people.workers import invite
from charter_service.web.database import reading, writing
from charter_service.web.listening import listen
from quick_server import QuickServer

WAIT = 20.0
USUAL = Config()
OPEN: list[httpx.Client] = []  # closed with the chat


def browse(home: str, **more: Any) -> httpx.Client:
    """A browser without scripts, and without a session."""
    client = httpx.Client(base_url=home, timeout=WAIT, **more)
    OPEN.append(client)
    return client


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An application on a free port of this machine, in a thread."""
    with listen("127.0.0.1", 0) as bound:
        config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
        server = QuickServer(config)
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(WAIT)


def until(true: Callable[[], Any]) -> Any:
    """Waits for something to be true; fails after a long time."""
    end = time.monotonic() + WAIT
    while not (value := true()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)
    return value


class Upstream:
    """The Messages API by a script. `words`: the reply to a question; `pause`: seconds between two words; `breaks`: the
    next answers break off after so many words; `gate`: while set, words are held back; `refusal`: why all is refused."""

    def __init__(self) -> None:
        self.words: Callable[[str], str] = lambda question: f"You said “{question}”. That is all."
        self.pause, self.refusal, self.status = 0.0, "", 200
        self.stop = "end_turn"  # why replies end
        self.details: dict[str, str] = {}  # of that
        self.deaf = False  # whether feedback and appeals fail
        self.breaks: list[int] = []
        self.gate: threading.Event | None = None
        self.bodies: list[dict[str, Any]] = []
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.counts: list[dict[str, Any]] = []  # bodies of requests for a count
        self.counting: Response | None = None  # instead of a count
        self.standing = {"level": "good", "of": "user", "message": "", "appeal": ""}
        self.decided = "open"  # what became of appeals
        self.facts: dict[str, Any] = {}
        self.rules: Any = {
            "policy": {
                "name": "Our policy",
                "version": 3,
                "appeal": "Appeal on your own page.",
                "categories": [{"title": "Fraud", "covers": "Scams.", "allowed": ["spotting one"]}],
                "high_risk": [{"title": "Law", "covers": "Advice."}],
            },
            "constitutions": [
                {
                    "digest": "abc",
                    "name": "Our constitution",
                    "version": 2,
                    "critiques": [{"critique": "Is it unkind?", "revision": "Make it kind."}],
                    "comparisons": [{"principle": "Which is kinder?"}],
                }
            ],
        }
        routes = [
            Route("/v1/messages", self._messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", self._count, methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/limits", self._limits),
            Route("/v1/rules", self._rules),
            Route("/v1/standing", self._standing),
            Route("/v1/feedback", self._told, methods=["POST"]),
            Route("/v1/appeals", self._told, methods=["POST"]),
            Route("/v1/appeals", self._appeals),
        ]
        self.app = Starlette(routes=routes)

    async def _models(self, _: Request) -> Response:
        models = [
            {"id": name, "display_name": name, "max_input_tokens": 2048, "max_tokens": 512, "charter": self.facts}
            for name in ("small", "large")
        ]
        return JSONResponse({"data": models})

    async def _limits(self, _: Request) -> Response:
        return JSONResponse({"limits": [{"id": "x", "title": "It makes things up", "words": "Check it."}]})

    async def _rules(self, _: Request) -> Response:
        return Response(json.dumps(self.rules), 404 if self.rules is None else 200)

    async def _standing(self, request: Request) -> Response:
        self.told.append(("standing", dict(request.query_params)))
        return JSONResponse(self.standing)

    async def _told(self, request: Request) -> Response:
        if self.deaf:
            return JSONResponse({"error": {"message": "not now"}}, 503)
        self.told.append((request.url.path.rpartition("/")[2], await request.json()))
        return JSONResponse({"id": "x"})

    async def _appeals(self, _: Request) -> Response:
        if self.deaf:
            return JSONResponse({"error": {"message": "not now"}}, 503)
        made = [body["request_id"] for kind, body in self.told if kind == "appeals" and "request_id" in body]
        return JSONResponse({"data": [{"request_id": one, "state": self.decided} for one in made]})

    async def _count(self, request: Request) -> Response:
        body = await request.json()
        self.counts.append(body)
        return self.counting or JSONResponse({"input_tokens": tokens_in(body)})

    async def _messages(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        if self.status != 200:
            error = {"type": "error", "error": {"type": "api_error", "message": "it is out of order"}}
            return JSONResponse(error, self.status)
        headers = {"request-id": f"req_{len(self.bodies)}"}
        return StreamingResponse(self._events(body), media_type="text/event-stream", headers=headers)

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        turns = body["messages"]
        begun = turns[-1]["content"] if turns[-1]["role"] == "assistant" else ""
        if not isinstance(begun, str):  # with calls of tools
            begun = "".join(block["text"] for block in begun if block["type"] == "text")
        asked = [turn for turn in turns if turn["role"] == "user"][-1]["content"]
        whole = self.words("\n\n".join(block["text"] for block in asked if block["type"] == "text"))
        assert whole.startswith(begun), "a reply goes on as it began"
        breaks = self.breaks.pop(0) if self.breaks else None
        yield _event({"type": "message_start", "message": {"usage": {"input_tokens": 7}}})
        while self.gate is not None and self.gate.is_set():
            await asyncio.sleep(0.01)
        if not self.refusal:
            for number, word in enumerate(re.findall(r"\s*\S+\s*?", whole[len(begun) :]) or [""]):
                while self.gate is not None and self.gate.is_set():
                    await asyncio.sleep(0.01)
                if number == breaks:
                    raise ConnectionError
                yield _event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": word}})
                await asyncio.sleep(self.pause)
        delta: dict[str, Any] = {"stop_reason": self.stop}
        if self.refusal:  # the reason is also the text of a reply that has none
            yield _event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": self.refusal}})
            details = {"category": "fraud", "explanation": self.refusal}
            delta = {"stop_reason": "refusal", "stop_details": details}
        delta |= {"stop_details": self.details} if self.details else {}
        usage = {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3}
        if any(block["type"] == "document" for turn in turns for block in turn["content"] if turn["role"] == "user"):
            usage["input_tokens"] = tokens_in(body) - 2  # what was counted is what is read
        yield _event({"type": "message_delta", "delta": delta, "usage": usage})
        yield _event({"type": "message_stop"})


def tokens_in(body: dict[str, Any]) -> int:
    """Tokens of a prompt, as the scripted server counts them: three for each message, two for each document, and one a
    word."""
    count = 3 * len(body["messages"]) + len(body.get("system", "").split())
    for turn in body["messages"]:
        content = turn["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            document = block["type"] == "document"
            words = f"{block['title']} {block['source']['data']}" if document else block.get("text", "")
            count += len(words.split()) + 2 * document
    return count


def _event(value: dict[str, Any]) -> str:
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n"


class Person:
    """Somebody's browser, without scripts."""

    def __init__(self, home: str, service: Service, name: str, role: str = "member") -> None:
        self.home, self.service = home, service
        self.client = browse(home, follow_redirects=True)
        with writing(service.database) as connection:
            token = invite(connection, role)
        page = self.client.post(f"/join/{token}", data={"name": name})
        assert page.status_code == 200, page.text
        match = re.search(r'<code id="key">([^<]+)<', page.text)
        assert match
        self.key = match[1]

    def page(self, place: str) -> str:
        """A page that is there."""
        answer = self.client.get(place)
        assert answer.status_code == 200, (place, answer.status_code, answer.text[:500])
        return answer.text

    @property
    def csrf(self) -> str:
        match = re.search(r'name="csrf" value="(\w+)"', self.page("/"))
        assert match
        return match[1]

    def send(self, place: str, **fields: str) -> httpx.Response:
        """The answer to a form, after redirects."""
        return self.client.post(place, data={"csrf": self.csrf, **fields})

    def begin(self, text: str, **fields: str) -> dict[str, str]:
        """A new chat; ids of the chat, the question and the reply."""
        return self._sent("/c", text=text, **fields)

    def ask(self, chat: str, parent: str, text: str, **fields: str) -> dict[str, str]:
        return self._sent(f"/c/{chat}/messages", parent=parent, text=text, **fields)

    def _sent(self, place: str, **fields: str) -> dict[str, str]:
        headers = {"accept": "application/json"}
        answer = self.client.post(place, data={"csrf": self.csrf, **fields}, headers=headers)
        assert answer.status_code == 201, answer.text
        sent: dict[str, str] = answer.json()
        return sent

    def message(self, id: str) -> Any:
        """The row of a message."""
        with reading(self.service.database) as connection:
            return connection.execute(select(MESSAGES).where(MESSAGES.c.id == id)).one()

    def finished(self, id: str) -> Any:
        """The row of a reply once it is complete."""
        return until(lambda: (row := self.message(id)).state != "running" and row)


def words_of(page: str) -> str:
    """The text of a page without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


@contextmanager
def chat(database: str, upstream: Upstream, config: Config = USUAL) -> Iterator[tuple[str, Service]]:
    """A chat on a database, with the scripted server behind it."""
    with served(upstream.app) as api, running(database, api, config) as made:
        yield made


@contextmanager
def running(database: str, api: str, config: Config = USUAL) -> Iterator[tuple[str, Service]]:
    """A chat that is a client of a server."""
    with people_alone(database) as engine:
        service = Service(config, engine, Api(api, ""))
        try:
            with served(make_app(service)) as home:
                yield home, service
        finally:
            while OPEN:
                OPEN.pop().close()


def file_of(tmp_path: Path) -> str:
    """The place of a database in a test's folder."""
    return f"sqlite:///{tmp_path / 'people.sqlite'}"
