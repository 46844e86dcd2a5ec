"""A cache of accounts' standings: all organisations, and the end users of the latest requests.

A caller may name any number of end users, so the cache has a limit for them; others are read from the database. A row
read by a slower thread never replaces a newer one.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from charter.ground.moderation.actions import Level as Sensitivity
from charter_service.accounts.ladder import ENHANCED, LEVELS, SUSPENDED, THROTTLED, Ladder, Level, Outcome
from charter_service.accounts.standings import Change, parts_of

MOST_USERS = 50_000  # cached end users; the least recently used is dropped first
Whose = Literal["account", "user"]
_MESSAGES = {
    "warned": "{} is warned under the acceptable-use policy",
    "enhanced": "stricter filters apply to {} under the acceptable-use policy",
    "throttled": "the limits of {} are reduced under the acceptable-use policy",
    "suspended": "{} is suspended under the acceptable-use policy",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """An account's standing and its consequences: the strictness of its filters, the factor of its limits, and whether
    its requests are refused. `message`: one line for the account, "" in good standing. `appeal`: how to object. `of`:
    the owner, an organisation or an end user. `user_factor`: the factor of the end user's own limits."""

    level: Level = "good"
    sensitivity: Sensitivity = "standard"
    factor: float = 1.0
    blocked: bool = False
    message: str = ""
    appeal: str = ""
    of: Whose = "account"
    user_factor: float = 1.0


def standing_of(change: Change | None, ladder: Ladder, appeal: str) -> Standing:
    """The standing by the newest row of an account. `ladder`: the rules for organisations."""
    if change is None or change.level == LEVELS[0]:
        return Standing()
    place = LEVELS.index(change.level)
    throttled, user = place >= THROTTLED, bool(change.user)
    message = _MESSAGES[change.level].format("this user" if user else "this account")
    return Standing(
        change.level,
        "enhanced" if place >= ENHANCED else "standard",
        ladder.throttle if throttled and not user else 1.0,
        place >= SUSPENDED,
        f"{message}: {change.reason}. {appeal}",
        appeal,
        "user" if user else "account",
        ladder.users.throttle if throttled and user else 1.0,
    )


def stricter(account: Standing, user: Standing) -> Standing:
    """The standing of an end user's request: the stricter of both levels, and each one's limits."""
    chief = max((account, user), key=lambda standing: LEVELS.index(standing.level))
    return Standing(
        chief.level,
        chief.sensitivity,
        account.factor,
        chief.blocked,
        chief.message,
        chief.appeal,
        chief.of,
        user.user_factor,
    )


class Remembered:
    """The newest rows of accounts, and the time at which a level of each is lifted (inf: never). Safe in any thread."""

    def __init__(self, most_users: int = MOST_USERS) -> None:
        self.seen = 0  # number of the newest row read
        self._most_users = most_users
        self._guard = threading.Lock()
        self._organisations: dict[str, Change] = {}
        self._users: OrderedDict[str, Change | None] = OrderedDict()
        self._lifts: dict[str, float] = {}

    def organisation(self, id: str) -> Change | None:
        """The newest row of an organisation."""
        with self._guard:
            return self._organisations.get(id)

    def user(self, account: str) -> tuple[bool, Change | None]:
        """Whether an end user is cached, and the newest row."""
        with self._guard:
            if account not in self._users:
                return False, None
            self._users.move_to_end(account)
            return True, self._users[account]

    def keep_user(self, account: str, change: Change | None, seen: int) -> None:
        """Caches an end user whose row was read after row `seen`, unless a newer row came since, which it may lack."""
        with self._guard:
            if seen != self.seen or account in self._users:
                return
            self._users[account] = change
            if change is not None and change.level != LEVELS[0]:
                self._lifts[account] = 0.0
            while len(self._users) > self._most_users:
                forgotten, _ = self._users.popitem(last=False)
                self._lifts.pop(forgotten, None)

    def learn(self, changes: Sequence[Change]) -> None:
        """Adds newly read rows: of all organisations, and of cached end users."""
        with self._guard:
            for change in changes:
                self.seen = max(self.seen, change.number)
                if change.user and change.account not in self._users:
                    continue
                self._learn(change)
                self._lifts[change.account] = 0.0 if change.level != LEVELS[0] else math.inf

    def skip(self, number: int) -> None:
        """Marks rows up to a number as read, or as not needed."""
        with self._guard:
            self.seen = max(self.seen, number)

    def evaluated(self, account: str, change: Change | None, outcome: Outcome) -> None:
        """Caches the result of a stored evaluation, unless a later one is already cached."""
        user = parts_of(account)[1]
        with self._guard:
            if user and account not in self._users:
                return
            present = self._users.get(account) if user else self._organisations.get(account)
            if present is None or (change is not None and change.number >= present.number):
                if change is not None:
                    self._learn(change)
                self._lifts[account] = math.inf if outcome.lifts is None else outcome.lifts

    def due(self, now: float) -> list[str]:
        """Accounts with a level due to be lifted."""
        with self._guard:
            return [account for account, at in self._lifts.items() if at <= now]

    def __len__(self) -> int:
        """Number of cached end users."""
        with self._guard:
            return len(self._users)

    def _learn(self, change: Change) -> None:
        if change.user:
            present = self._users.get(change.account)
            if present is None or change.number >= present.number:
                self._users[change.account] = change
            return
        present = self._organisations.get(change.organisation)
        if present is None or change.number >= present.number:
            self._organisations[change.organisation] = change
