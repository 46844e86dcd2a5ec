"""A server of toy models on a loopback port, as programs meet it, and keys to it.

The real application runs under uvicorn in a thread of its own, with the settings that `charter serve` gives it; tests
reach it over TCP as strangers do, and see its parts in `hall.service`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import uvicorn
from sqlalchemy import select

import toys
from charter.ground.artifact.inputs import Input
from charter.ground.model.generation import Decoding
from charter.ground.moderation.classifiers.classifier import Scores
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.screen import Screen
from charter.ground.moderation.thresholds import Levels, Threshold, Thresholds
from charter.ground.settings.execution import Execution
from charter_service.accounts.keys import USUAL, KeyLimits, make_key
from charter_service.accounts.organisations import find_organisation, make_organisation
from charter_service.api.app import make_app
from charter_service.api.batching import Batching
from charter_service.api.config import Config
from charter_service.api.guard import Guard
from charter_service.api.model_request import End, ModelRequest, Part, Piece, Stop
from charter_service.api.opening import open_model, open_service
from charter_service.api.registry import Registry, Served
from charter_service.api.service import Service, open_database
from charter_service.console.routes import ROUTES
from charter_service.forms.grammars import Compiled, Form, compile_form
from charter_service.web.database import reading, writing
from charter_service.web.listening import listen
from charter_service.web.refusal import NotFound
from quick_server import QuickServer

MODEL, OTHER = "toy-2", "toy-1"  # and their aliases
ALIAS = "toy-latest"
HALF = Threshold(value=0.5, target=0.01, n=100, hits=0, low=0.0, high=0.04)


def configuration(**more: Any) -> Config:
    """Two models, no policy, limits that no test meets by accident."""
    facts: dict[str, Any] = {
        "name": "Try-out",
        "models": [
            {"id": MODEL, "source": "policy", "aliases": [ALIAS], "title": "Toy 2"},
            {"id": OTHER, "source": "other"},
        ],
        "engine": {"slots": 8},
        "policy": {"state": "off"},  # doubles say anything; tests of the policy name a screen
    }
    return Config.model_validate(facts | more)


class Said:
    """A backend double: says `pieces`, each when the gate is open; or fails. It keeps what it was asked, and counts
    the replies that were given up."""

    capabilities = frozenset({"text", "count"})
    version = ""
    decoding = Decoding()
    slow_steps = 0
    waits: ClassVar[dict[str, float]] = {}

    def __init__(
        self, *pieces: str, stop: Stop = "end", stopped_by: str | None = None, failing: Exception | None = None
    ) -> None:
        self.pieces, self.stop, self.stopped_by, self.failing = list(pieces), stop, stopped_by, failing
        self.context = 1024
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[ModelRequest] = []
        self.under_way = self.given_up = self.cached = self.kept = 0

    async def count(self, prompt: Any) -> int:
        text = prompt if isinstance(prompt, str) else "".join(m["content"] for m in prompt)
        return 3 + len(text.split())

    async def stream(self, asked: ModelRequest, account: str, background: bool) -> AsyncIterator[Part]:
        self.asked.append(asked)
        if self.failing is not None and not self.pieces:
            raise self.failing
        self.under_way, ended = self.under_way + 1, False
        try:
            for sample in range(asked.n):
                for number, piece in enumerate(self.pieces, 1):
                    while not self.gate.is_set():
                        await asyncio.sleep(0.01)
                    yield Piece(sample, piece, (), number)
                if self.failing is not None:
                    raise self.failing
                ended = sample == asked.n - 1
                yield End(sample, self.stop, self.stopped_by, len(self.pieces) + 1, self.cached, self.kept)
        finally:
            self.under_way -= 1
            self.given_up += not ended

    async def compile(self, form: Form, account: str, background: bool) -> Compiled:
        return compile_form(form, toys.tokenizer())

    def figures(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        """Nothing to close."""


class Watch:
    """A classifier double: a text violates the policy, in the first category that is blocked, where it has `word`."""

    name, version, sides = "watch", "watch-1", frozenset({"prompt", "reply"})

    def __init__(self, word: str) -> None:
        self.word = word
        levels = Levels(standard=HALF, enhanced=HALF)
        self.thresholds = Thresholds(classifier=self.version, prompt=levels, reply=levels)

    def _scores(self, text: str) -> Scores:
        return Scores(0.9 if self.word in text else 0.1)

    def prompts(self, conversations: Any) -> list[Scores]:
        return [self._scores(messages[-1]["content"]) for messages in conversations]

    def replies(self, items: Any) -> list[Scores]:
        return [self._scores(text) for _, text in items]


def watching(word: str) -> Screen:
    """The shipped policy, watched over by a classifier that knows one word."""
    return Screen(shipped_policy(), [Watch(word)])


@dataclass
class Hall:
    """A server that runs, and how to reach it."""

    service: Service
    url: str
    batching: Batching
    organisations: dict[str, str] = field(default_factory=dict)  # ids by name
    desk: Any = None  # what the pages share

    def key(
        self,
        organisation: str = "acme",
        scopes: tuple[str, ...] = USUAL,
        limits: Mapping[str, int] | None = None,
        **more: Any,
    ) -> str:
        """The secret of a new key."""
        with writing(self.service.database) as connection:
            try:
                found = find_organisation(connection, organisation)
            except NotFound:
                found = make_organisation(connection, organisation)
            self.organisations[organisation] = found
            kept = KeyLimits(**(limits or {}))
            return make_key(connection, found, "test", scopes, limits=kept, **more)[1]

    def rows(self, table: Any) -> list[Any]:
        """All rows of a table."""
        with reading(self.service.database) as connection:
            return list(connection.execute(select(table)).all())


def until(true: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `true` gives once it gives something; fails where that takes too long."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)
    return found


def toy_sources(config: Config, folder: Path, checkpoints: Mapping[str, Path]) -> dict[str, Input]:
    """The model of each id: its folder, or a toy that is made."""
    found = {}
    for number, model in enumerate(config.models):
        if not model.backend:
            place = checkpoints.get(model.source)
            found[model.id] = toys.policy(place or toys.policy_folder(folder / model.source, 3 * number))
    return found


@contextmanager
def open_hall(
    folder: Path,
    config: Config | None = None,
    screen: Screen | None = None,
    checkpoints: Mapping[str, Path] | None = None,
    said: Said | None = None,
) -> Iterator[Hall]:
    """A server for as long as the context lasts. `checkpoints`: folders by the sources that the configuration names;
    those it names and that aren't there are made as toys. `said` speaks for all models instead."""
    config = config or configuration()
    sources = {} if said else toy_sources(config, folder, checkpoints or {})
    if said is None and screen is None:
        service = open_service(config, folder, sources, Execution())
    else:
        served = [
            Served(model, said, "digest", 0.0)  # type: ignore[arg-type]
            if said
            else open_model(model, sources[model.id], config, Execution())
            for model in config.models
        ]
        service = Service(config, open_database(config, folder), Registry(served), screen)
    app = make_app(service, ROUTES)
    with running(app, service) as url:
        state = app._app.state  # type: ignore[attr-defined]
        yield Hall(service, url, state.batching, desk=state.desk)


@contextmanager
def running(app: Guard, service: Service) -> Iterator[str]:
    """Serves until the context is left; gives the address."""
    with listen("127.0.0.1", 0) as bound:
        settings = uvicorn.Config(
            app, access_log=False, log_level="warning", server_header=False, lifespan="on", timeout_graceful_shutdown=1
        )
        server = QuickServer(settings)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])), name="hall")
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            assert server.started, "the server did not start"
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
            service.close()
