"""A small collection that is served to the tests: toy models, people in every role, and short words for what they do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from sqlalchemy import select
from starlette.testclient import TestClient

from charter.ground.artifact.inputs import Input
from charter.ground.generate.engine import Completion
from charter.ground.text.dialogue import Message
from charter_service.arena.app import make_app
from charter_service.arena.config import Config
from charter_service.arena.service import Service, open_service
from charter_service.people.tables import TURNS
from charter_service.people.workers import invite
from charter_service.web.database import reading, writing

HOME = "http://127.0.0.1:8760"
PLAIN = {"gold_share": 0, "repeat_share": 0}
SECRET = "MODEL-NAME"  # whatever a model is called, its name begins with this


class Said:
    """A speaker double: answers at once, or when `hold` is lifted, or fails."""

    def __init__(self, name: str, say: Callable[[Sequence[Message], int], str] | None = None) -> None:
        self.name, self.asked = name, list[tuple[Sequence[Message], int]]()
        self.words = say or (lambda messages, seed: f"A reply to “{messages[-1]['content']}”, number {seed % 97}.")
        self.failing: Exception | None = None
        self.held: list[Callable[[], None]] | None = None

    def say(self, messages: Sequence[Message], n: int, seed: int) -> Future[list[Completion]]:
        self.asked.append((messages, seed))
        future: Future[list[Completion]] = Future()

        def answer() -> None:
            if self.failing is not None:
                future.set_exception(self.failing)
            else:
                future.set_result([Completion(text=self.words(messages, seed + k)) for k in range(n)])

        if self.held is None:
            answer()
        else:
            self.held.append(answer)
        return future

    def close(self) -> None:
        """Nothing to close."""


def configuration(**more: Any) -> Config:
    """All three tasks, two models, limits that no test meets by accident."""
    models = [{"name": f"{SECRET}-{name}", "model": name} for name in ("start", "rl")]
    facts: dict[str, Any] = {
        "name": "Try-out",
        "models": models,
        "tasks": {"helpful": PLAIN, "honest": PLAIN, "harmless": {**PLAIN, "turns": 2, "pairing": "same"}},
        "pace": {"fastest": 0, "turns_per_hour": 1000},
        "limits": dict.fromkeys(
            ("person_rate", "person_burst", "address_rate", "address_burst", "entry_rate", "entry_burst"), 10000
        ),
    }
    return Config.model_validate(facts | more)


def sources(config: Config) -> dict[str, Input]:
    """Inputs whose ids are those of their references."""
    return {
        shown.name: Input("policy", shown.model, "checkpoint", "policy", None, shown.model, f"id-{shown.model}")
        for shown in config.models
    }


@dataclass
class Hall:
    """A service with its application, whose requests are answered on one loop of its own."""

    service: Service
    models: dict[str, Said]
    loop: BlockingPortal

    @cached_property
    def app(self) -> Any:
        return make_app(self.service)

    def client(self) -> TestClient:
        """A browser of somebody new; it follows no redirect."""
        client = TestClient(self.app, base_url=HOME, follow_redirects=False)
        client.portal = self.loop
        return client

    def person(self, name: str = "ann", role: str = "worker", **more: Any) -> Guest:
        """Somebody who has joined by an invitation."""
        with writing(self.service.database) as connection:
            token = invite(connection, role, **more)
        guest = Guest(self, self.client())
        assert guest.client.post(f"/join/{token}", data={"name": name}).status_code == 303
        return guest

    def rows(self, table: Any) -> list[Any]:
        """All rows of a table."""
        with reading(self.service.database) as connection:
            return list(connection.execute(select(table)).all())


@dataclass
class Guest:
    """A person in a browser."""

    hall: Hall
    client: TestClient
    _proofs: dict[str | None, str] = field(default_factory=dict, init=False)

    def get(self, place: str, status: int = 200) -> str:
        """A page's text."""
        answer = self.client.get(place)
        assert answer.status_code == status, (place, answer.status_code, answer.text)
        return answer.text

    @property
    def csrf(self) -> str:
        """What every form of this session carries; read off a page once."""
        session = self.client.cookies.get("charter_session")
        if session not in self._proofs:
            self._proofs[session] = hidden(self.get("/me"), "csrf")
        return self._proofs[session]

    def post(self, place: str, status: int = 303, **fields: Any) -> Any:
        """Sends a form as its page would."""
        answer = self.client.post(place, data={"csrf": self.csrf, **fields})
        assert answer.status_code == status, (place, answer.status_code, answer.text)
        return answer

    def agree(self, *tasks: str) -> Guest:
        for task in tasks:
            self.post(f"/task/{task}/consent")
        return self

    def begin(self, axis: str = "helpful", plan: str = "") -> str:
        """The page of a new conversation."""
        self.agree(axis)
        return str(self.post(f"/task/{axis}/begin", plan=plan).headers["location"])

    def ask(self, talk: str, text: str = "hello", number: int = 1) -> str:
        """Asks, waits for the replies, and returns the turn's id."""
        self.post(f"{talk}/ask", number=number, text=text)
        return self.wait(talk)

    def wait(self, talk: str, until: tuple[str, ...] = ("ready", "failed")) -> str:
        id = talk.rpartition("/")[2]
        turn = [row for row in self.hall.rows(TURNS) if row.conversation == id][-1].id
        for _ in range(400):
            if self.client.get(f"/turn/{turn}/state").json()["state"] in until:
                return str(turn)
            time.sleep(0.02)
        raise AssertionError("no reply came")

    def vote(self, talk: str, turn: str, choice: str = "-3", status: int = 303, **more: Any) -> Any:
        """Chooses as the form on the page would."""
        return self.post(f"/turn/{turn}/vote", status, nonce=hidden(self.get(talk), "nonce"), choice=choice, **more)


def hidden(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, f"no {name} on the page"
    return found[1]


@contextmanager
def open_hall(folder: Path, config: Config | None = None, models: dict[str, Said] | None = None) -> Iterator[Hall]:
    """A hall whose models answer until it is closed."""
    config = config or configuration()
    models = models or {shown.name: Said(shown.name) for shown in config.models}
    service = open_service(config, folder, sources(config), models)
    service.answers.start()
    try:
        with start_blocking_portal() as loop:
            yield Hall(service, models, loop)
    finally:
        service.answers.close()
        service.database.dispose()
