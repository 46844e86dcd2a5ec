"""What all routes share: the models, the accounts' database, limits, the policy's screen, and what is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine as Database

from charter.ground.accounts.conduct import Conduct
from charter.ground.accounts.keys import Caller, Keyring, make_anonymous
from charter.ground.accounts.limits import Admissions
from charter.ground.accounts.store import open_accounts
from charter.ground.accounts.usage import Meter
from charter.ground.policy.screen import Screen
from charter.ground.service.apart import apart
from charter.ground.service.database import writing
from charter.ground.service.fair import FairThreads, Steps
from charter.ground.service.sole import serve_alone
from charter.serve.asked import Call
from charter.serve.config import Config
from charter.serve.metrics import Metrics
from charter.serve.registry import Registry

T = TypeVar("T")

LONG_AT_ONCE = 4  # large bodies that are read, and batches that are written


@dataclass
class Service:
    """A server's parts, held together. `screen` None: the policy is off."""

    config: Config
    database: Database
    registry: Registry
    screen: Screen | None = None
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.keyring = Keyring(self.database)
        self.admissions = Admissions(self.config.limits)
        self.meter = Meter(self.database)
        policy = self.screen.policy if self.screen else None
        keeps, days = self.config.policy.keep_content, self.config.policy.keep_days
        self.conduct = Conduct(self.database, self.config.ladder, policy, keeps, keep_days=days)
        # one at a time: two classifiers at once take longer together than one after the other
        self._judging = FairThreads(1, "texts that the policy is to be held against", do=apart)
        # a few at a time: everybody else's short work has threads of its own
        self._aside = FairThreads(LONG_AT_ONCE, "long bodies and batches")

    async def judge(self, call: Call, work: Steps[T]) -> T:
        """What a classifier says, read beside the event loop in steps, in the caller's turn."""
        return await self._judging.do(call.caller.organisation, lambda: work, call.background)

    async def aside(self, caller: Caller, work: Callable[[], T], background: bool = False) -> T:
        """What long work gives, done beside the event loop, in the caller's turn."""
        return await self._aside.do(caller.organisation, work, background)

    def close(self) -> None:
        """Ends models and writers; all that was noted is on disk afterwards."""
        self.registry.close()
        self._judging.close()
        self._aside.close()
        self.meter.close()
        self.conduct.close()
        self.database.dispose()


def open_database(config: Config, folder: Path) -> Database:
    """The accounts' database, for this process alone. Raises CharterError where another one serves it."""
    database = open_accounts(config.database, folder)
    try:
        serve_alone(database)
        with writing(database) as connection:
            make_anonymous(connection)
    except BaseException:
        database.dispose()
        raise
    return database
