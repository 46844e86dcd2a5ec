"""The parts that all pages of the chat share: the database, the API, the running replies, limits, one-time secrets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import Engine

from charter_service.chat.attached import Allowance
from charter_service.chat.client import Api, ApiProblem, Model, Rules
from charter_service.chat.file_reading import Files, Store
from charter_service.chat.replies import Replies
from charter_service.chat.reply_options import USUAL, ChatSettings, retry_temperature
from charter_service.chat.storage import MEGABYTE
from charter_service.chat.temporary import TemporaryChats
from charter_service.chat.tool_calls import ServerTool, named, tools_of
from charter_service.web.database import SQLITE
from charter_service.web.entrance import Limiter, Once

MODELS_SECONDS = 20.0  # between two looks at the API's models
CAREFUL = {"temperature": 0.2, "top_p": 0.9}
DAY = 86_400.0
AT_ONCE = 3  # requests of one person that are worked on
UPLOADS_AT_ONCE = 2  # of one person
FOLDER = "people.files"


@dataclass(frozen=True, slots=True)
class Config:
    """How the chat is run. `sign_up`: whether anybody may join without an invitation, `sign_ups` of them a day and
    `sign_ups_of_one` from one network address; `secure`: pages are reached by https; `proxy`: a reverse proxy on this
    machine passes on addresses; `address`: where people reach the pages, in links, empty: as each request names it;
    `longest`: tokens of a reply; `storage`: bytes of one person's texts; `log`: a line a request on standard error;
    `files`: the folder of people's files, beside the database of SQLite by default; `allowance`: how many and how large
    they may be; `hosts`: the names of this machine that requests may give, empty: any."""

    name: str = "Charter"
    sign_up: bool = False
    secure: bool = False
    proxy: bool = False
    contact: str = ""
    longest: int = 1024
    system: str = ""
    log: bool = False
    address: str = ""
    storage: int = 200 * MEGABYTE
    sign_ups: int = 200
    sign_ups_of_one: int = 20
    files: str = ""
    allowance: Allowance = field(default_factory=Allowance)
    hosts: tuple[str, ...] = ()


@dataclass
class Service:
    """A chat that is being served."""

    config: Config
    database: Engine
    api: Api
    replies: Replies = field(init=False)
    keys: Once = field(default_factory=Once)
    links: Once = field(default_factory=Once)
    models: list[Model] = field(default_factory=list)
    limits: list[dict[str, str]] = field(default_factory=list)  # what models can't do, in the API's words
    rules: Rules | None = None  # what models are held to; None if the API doesn't say
    tools: list[ServerTool] = field(default_factory=list)  # that the API runs for us
    away: str = ""  # why the API can't be used now
    temporary: TemporaryChats = field(default_factory=TemporaryChats)
    streams: Counter[int] = field(default_factory=Counter)  # of events that are open, by person
    files: Files = field(init=False)
    _turns: WeakValueDictionary[int, asyncio.Semaphore] = field(default_factory=WeakValueDictionary)
    _uploads: WeakValueDictionary[int, asyncio.Semaphore] = field(default_factory=WeakValueDictionary)

    def __post_init__(self) -> None:
        self.replies = Replies(self.database, self.api, self.settings_of, self.tools_named)
        store = Store(_folder(self.config, self.database))
        self.files = Files(self.database, store, self.config.allowance)
        self.by_person = Limiter(10.0, 60)
        self.by_address = Limiter(30.0, 300)
        self.entries = Limiter(0.2, 20)
        most = self.config.sign_ups_of_one
        self.reports, self.reports_of_one = Limiter(50 / DAY, 50), Limiter(5 / DAY, 5)
        self.sign_ups = Limiter(most / DAY, most)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serves replies, and looks at the API's models, while the context lasts."""
        await self.look()
        watch = asyncio.create_task(self._watch())
        try:
            async with self.files.running(), self.replies.running():
                yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            await self.api.close()

    def turns(self, person: int) -> asyncio.Semaphore:
        """What a person's requests wait for, so that those of one don't take all threads."""
        return self._turns.setdefault(person, asyncio.Semaphore(AT_ONCE))

    def uploads(self, person: int) -> asyncio.Semaphore:
        """What a person's uploads wait for, which may be slow and hold up nothing else."""
        return self._uploads.setdefault(person, asyncio.Semaphore(UPLOADS_AT_ONCE))

    async def look(self) -> None:
        """Asks the API for its models and what they can't do; earlier answers stay if it is away."""
        try:
            self.models = await self.api.models()
            if not self.limits:
                self.limits = await self.api.limits()
            self.rules = await self.api.rules()
            self.tools = tools_of(await self.api.tools())
            self.away = ""
        except ApiProblem as problem:
            self.away = str(problem)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(MODELS_SECONDS if not self.away else 1.0)
            for reply in self.temporary.sweep():
                self.replies.stop(reply)
            await self.look()

    def settings_of(self, id: str, chat_settings: ChatSettings = USUAL) -> dict[str, Any]:
        """What a request to a model says besides its messages, with what the person set. Our server tells if a model
        has no decoding of its own: then a careful one is taken, since small models ramble at temperature 1."""
        model, config = self.model(id), self.config
        longest = min(config.longest, model.longest_reply) if model and model.longest_reply else config.longest
        settings: dict[str, Any] = {"max_tokens": min(longest, chat_settings.max_tokens or longest)}
        careful = model is not None and "decoding" in model.facts and model.facts["decoding"] is None
        settings |= CAREFUL if careful else {}
        if chat_settings.temperature is not None:
            settings["temperature"] = chat_settings.temperature
        if system := "\n\n".join(text for text in (config.system, chat_settings.instructions) if text):
            settings["system"] = system
        if (
            chat_settings.instructions and model is not None and model.facts
        ):  # our server screens a person's text as a turn
            settings["system_by"] = "user"
        return settings

    def retried_at(self, id: str) -> float | None:
        """The temperature at which a reply under a model's own decoding is tried again; None: that decoding."""
        model = self.model(id)
        if model is None or "decoding" not in model.facts:
            return None
        return retry_temperature(model.facts["decoding"] or CAREFUL)

    def tools_named(self, names: Iterable[str]) -> list[dict[str, str]]:
        """Tools of given names as a request to a model names them; what isn't offered now is left out."""
        return named(self.tools, names)

    def model(self, id: str) -> Model | None:
        """A served model by its id, the default one for an empty id; None if it isn't served now."""
        if not id:
            return self.models[0] if self.models else None
        return next((model for model in self.models if model.id == id), None)


def _folder(config: Config, database: Engine) -> Path:
    """The folder of people's files: the named one, or one beside the database of SQLite, or one in this folder."""
    if config.files:
        return Path(config.files).expanduser()
    file = database.url.database if database.dialect.name == SQLITE else None
    return Path(file).with_suffix(".files") if file else Path(FOLDER)


def since(moment: float) -> str:
    """How long ago something was, in words."""
    seconds = max(0.0, time.time() - moment)
    for size, word in ((86_400 * 365, "year"), (86_400 * 30, "month"), (86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    return "just now"
