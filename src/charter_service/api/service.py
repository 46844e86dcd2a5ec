"""The parts that all routes share: the models, the accounts' database, limits, the policy's screen, and counters.

The people's database, which the chat and the arena share, says who may open the admin pages. It is opened when it is
first needed, so that a server without persons makes no file, and its API never waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy import Engine as Database
from sqlalchemy.exc import SQLAlchemyError

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.steps import Steps
from charter.ground.generate.fair import FairThreads, Processor
from charter.ground.moderation.screen import Screen
from charter_service.accounts.allowances import Allowances, Spending
from charter_service.accounts.batches import Quota
from charter_service.accounts.files import blobs_of
from charter_service.accounts.keys import Caller, Keyring, make_anonymous
from charter_service.accounts.limits import Admission, Admissions, TooMany
from charter_service.accounts.policies import NewPolicy, Published, keep_configured, publish
from charter_service.accounts.remembered import Standing
from charter_service.accounts.retention import Sweeping
from charter_service.accounts.standings import keep_ladder
from charter_service.accounts.store import open_accounts
from charter_service.accounts.usage import Meter
from charter_service.api.conduct import Conduct
from charter_service.api.config import Config
from charter_service.api.errors import ApiError
from charter_service.api.evaluating import Evaluating
from charter_service.api.file_store import DocumentTexts, FileStore
from charter_service.api.metrics import Metrics
from charter_service.api.model_request import Call
from charter_service.api.registry import Registry
from charter_service.people.export import open_people
from charter_service.tools.tool import Tool
from charter_service.web.database import SQLITE, writing
from charter_service.web.lock import serve_alone
from charter_service.web.room import Room

FILE = "people.sqlite"
T = TypeVar("T")
LOG = logging.getLogger("charter_service.api")
LONG_AT_ONCE = 4  # large bodies read and batches written at a time
TOOLS_AT_ONCE = 8  # run at a time, for one organisation all but one
WRITERS = 4  # thumbs, appeals: each may wait for the database's lock
KEYS_AT_ONCE = 4  # looked up at a time
MIB = 2**20


class PeopleDatabase:
    """Opens the people's database of a configuration; an empty `place` means a file beside the accounts' database."""

    def __init__(self, place: str, folder: Path, accounts: Engine) -> None:
        self._place, self._folder = place, folder
        self._beside: Path | None = None
        if not place and accounts.url.get_backend_name() == SQLITE and accounts.url.database:
            self._beside = Path(accounts.url.database).with_name(FILE)
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        """The database, created if it is missing. Raises ApiError if none is configured, CharterError if it can't be
        opened."""
        with self._lock:
            if self._engine is None:
                if not (self._place or self._beside):
                    raise ApiError(
                        409, "this server has no database of people; name one by `people` in its configuration"
                    )
                self._engine = open_people(self._place or str(self._beside), self._folder)
            return self._engine

    def existing(self) -> Engine | None:
        """The database if there is one; None if nobody can have joined. Raises ApiError, 503, if it can't be opened."""
        if self._engine is None and not self._place and not (self._beside and self._beside.exists()):
            return None
        try:
            return self.engine()
        except CharterError as error:
            raise ApiError(503, f"the database of people can't be used: {error}") from None

    def close(self) -> None:
        """Closes it if it is open."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None


@dataclass
class Service:
    """A server's parts. `screen` None: the policy is off; `processor`: shared by models and classifiers; `folder`:
    where the configuration's relative paths start, and for uploaded files of a database without a file."""

    config: Config
    database: Database
    registry: Registry
    screen: Screen | None = None
    processor: Processor = field(default_factory=Processor)
    metrics: Metrics = field(default_factory=Metrics)
    folder: Path = Path()
    tools: Mapping[str, Tool] = field(default_factory=dict)  # by kind
    published: Published | None = None  # the policy in force, if it was published on the admin pages
    configured: Screen | None = None  # of the configured policy; None: `screen`

    def __post_init__(self) -> None:
        self.configured = self.configured or self.screen
        blobs = blobs_of(self.database, self.folder)
        self.sweeping = Sweeping(self.database, self.config.keep, blobs)
        self.files = FileStore(
            self.database, blobs, self.config.files.quota_mib * MIB, self.config.files.file_mib * MIB
        )
        self.texts = DocumentTexts(self.files, self.config.files.file_mib)
        self.keyring, self.room = Keyring(self.database), Room(self.database)
        self.quota = Quota(self.config.batch_requests, self.config.batch_mib * MIB)
        self.admissions = Admissions(self.config.limits)
        self._allowances = Allowances(self.database, self.admissions)
        self.meter, self.spending = Meter(self.database), Spending(self.database)
        self.people = PeopleDatabase(self.config.people, self.folder, self.database)
        policy = self.screen.policy if self.screen else None
        keeps, days = self.config.policy.keep_content, self.config.policy.keep_days
        self.conduct = Conduct(self.database, self.config.ladder, policy, keeps, keep_days=days)
        self._publishing = threading.Lock()
        runs = self.folder / Path(self.config.runs).expanduser() if self.config.runs else None
        self.evaluating = Evaluating(self.database, runs.resolve()) if runs is not None else None
        self._judging = FairThreads(1, "texts for the policy to check", name="classifiers", processor=self.processor)
        # a few at a time: short work has its own threads
        rests = self.processor.rests
        self._aside = FairThreads(LONG_AT_ONCE, "long bodies and batches", name="bodies", behind=True, rests=rests)
        self._writing = FairThreads(WRITERS, "changes to write", name="writes")
        self._tools = FairThreads(TOOLS_AT_ONCE if self.tools else 0, "calls of tools", name="tools")
        # waiting for the database's lock doesn't keep others from being admitted
        self._lane = ThreadPoolExecutor(KEYS_AT_ONCE, "charter-keys")

    def publish(
        self,
        new: NewPolicy,
        screen: Screen,
        seen: int,
        note: Callable[[Connection, Published], None] = lambda connection, published: None,
    ) -> Published:
        """Publishes a policy, whose `screen` judges all requests that come from now on; those under way keep theirs.
        `seen`: the number of the version in force when the change was begun, 0 for the configured one. `note` runs in
        the same transaction. Raises Stale if another one is in force now, and Refusal as `policies.publish`."""
        ladder, before = self.conduct.ladder_under(screen.policy), self.screen

        def work(connection: Connection) -> Published:
            keep_ladder(connection, ladder)
            first = seen
            if not seen and before is not None:  # the way back to the configured policy
                first = keep_configured(connection, before.policy)
            published = publish(connection, new, first)
            note(connection, published)
            return published

        with self._publishing:
            published = self.room.write(work)
            self.screen, self.published = screen, published
            self.conduct.adopt(screen.policy)
        return published

    async def judge(self, call: Call, work: Steps[T]) -> T:
        """A classifier's result, computed beside the event loop in steps, in the caller's turn."""
        return await self._judging.do(call.caller.organisation, lambda: work, call.background)

    async def aside(self, caller: Caller, work: Callable[[], T], background: bool = False) -> T:
        """The result of long work, done beside the event loop, in the caller's turn."""
        return await self._aside.do(caller.organisation, work, background)

    async def use_tool(self, call: Call, work: Callable[[], T]) -> T:
        """What a tool gives, run in the caller's turn. Raises ToolFailure, and Overloaded if too much waits."""
        return await self._tools.do(call.caller.organisation, work, call.background)

    async def write(self, caller: Caller, work: Callable[[], T]) -> T:
        """The result of a short change of the database, in the caller's turn."""
        return await self._writing.do(caller.organisation, work)

    async def find_caller(self, secret: str) -> Caller:
        """The caller of a secret, looked up in separate threads. Raises KeyRefused."""
        if (caller := self.keyring.remembered(secret)) is not None:
            return caller
        return await asyncio.get_running_loop().run_in_executor(self._lane, self.keyring.find_caller, secret)

    async def find_standing(self, call: Call) -> Standing:
        """The standing of the caller and of the end user that the request names; one who isn't cached is looked up in
        the threads for keys."""
        organisation, user = call.caller.organisation, call.user
        if self.conduct.remembers(organisation, user):
            return self.conduct.standing(organisation, user)
        lane = asyncio.get_running_loop()
        return await lane.run_in_executor(self._lane, self.conduct.standing, organisation, user)

    def admit(self, call: Call, standing: Standing, tokens: int, most: int) -> Admission:
        """Admits a request by the monthly cap and the limits of its organisation, the limits of its key, and those of
        the end user that it names if one may take less than the key. `most`: output tokens. Raises TooMany."""
        try:
            self.spending.check(call.caller, tokens)
        except TooMany:
            self.admissions.note_refused(call.caller)
            raise
        # background work takes nothing from those who wait for an answer
        return self.admissions.admit(
            call.caller,
            tokens,
            most,
            standing.factor,
            background=call.background,
            user=call.user,
            share=min(self.config.limits.user_share, standing.user_factor),
        )

    @property
    def waits(self) -> dict[str, float]:
        """Seconds that the first in line has waited, by the name of its queue, the longest of all models; background
        work is left out."""
        aside = (
            ("classifiers", self._judging),
            ("bodies", self._aside),
            ("documents", self.texts.threads),
            ("writes", self._writing),
            ("tools", self._tools),
        )
        seconds_by_name = {name: threads.oldest for name, threads in aside}
        for served in self.registry.served:
            for name, seconds in served.backend.waits.items():
                seconds_by_name[name] = max(seconds_by_name.get(name, 0.0), seconds)
        return seconds_by_name

    def close(self) -> None:
        """Ends models and writers; afterwards all noted entries are on disk, or the log names those that aren't."""
        if self.evaluating is not None:
            self.evaluating.close()
        self.registry.close()
        self._judging.close()
        self._aside.close()
        self.texts.close()
        self._writing.close()
        self._tools.close(wait=False)
        self._lane.shutdown()
        self.sweeping.close()
        self.room.make_way()
        ends = (("usage", self.meter.close), ("decisions", self.conduct.close), ("limits", self._allowances.close))
        for part, end in ends:
            try:
                end()
            except (SQLAlchemyError, CharterError) as error:
                problem = " ".join(str(getattr(error, "orig", error)).split())
                LOG.error("the last %s could not be written: %s", part, problem)
        self.people.close()
        self.database.dispose()


def open_database(config: Config, folder: Path) -> Database:
    """The accounts' database, for this process alone. Raises CharterError if another process serves it."""
    database = open_accounts(config.database, folder, serving=True)
    try:
        serve_alone(database)
        with writing(database) as connection:
            make_anonymous(connection)
    except BaseException:
        database.dispose()
        raise
    return database
