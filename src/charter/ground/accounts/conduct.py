"""The one object by which a server keeps to the acceptable-use policy: what was decided is written down, people are
asked, and accounts go up and down the ladder.

Where an account stands is answered from memory, which a thread of this object makes new each second; the same thread
writes what was noted and lifts levels whose clean period is over. Several servers may share a database: a change that
one makes is seen by the others within a second.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from charter.ground.accounts import cases, feedback
from charter.ground.accounts.cases import ACTED, Case, CaseVerdict, NewCase, open_case
from charter.ground.accounts.decisions import WHOLE, Entry, Log, user_mark
from charter.ground.accounts.export import expire
from charter.ground.accounts.keys import Caller
from charter.ground.accounts.ladder import ENHANCED, LEVELS, SUSPENDED, THROTTLED, Ladder, Level, Outcome
from charter.ground.accounts.standings import (
    Change,
    changes_since,
    decide,
    evaluate,
    keep_ladder,
    kept_ladder,
    newest_of,
    settle,
)
from charter.ground.artifact.manifest import canonical_json
from charter.ground.policy.actions import Level as Sensitivity
from charter.ground.policy.actions import Verdict
from charter.ground.policy.policy import Policy
from charter.ground.service.database import reading, writing
from charter.ground.service.refusal import Refusal

FLUSH, REFRESH, EXPIRY = 0.2, 1.0, 3600.0  # seconds
NO_POLICY = "none"
T = TypeVar("T")
Evaluated = tuple[Change | None, Outcome]
_MESSAGES = {
    "warned": "this account is warned under the acceptable-use policy",
    "enhanced": "stricter filters apply to this account under the acceptable-use policy",
    "throttled": "the limits of this account are reduced under the acceptable-use policy",
    "suspended": "this account is suspended under the acceptable-use policy",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an account stands and what follows: how strict its filters are, the factor of its limits, and whether its
    requests are refused. `message`: one line for the account, "" in good standing. `appeal`: how to object."""

    level: Level = "good"
    sensitivity: Sensitivity = "standard"
    factor: float = 1.0
    blocked: bool = False
    message: str = ""
    appeal: str = ""


class Conduct:
    """What a server holds. Its methods may be called from any thread; those that say so wait for the disk."""

    def __init__(
        self,
        engine: Engine,
        ladder: Ladder | None = None,
        policy: Policy | None = None,
        keep_content: bool = False,
        clock: Callable[[], float] = time.time,
        keep_days: float | None = None,
    ) -> None:
        """keep_content: whether cases hold what was flagged, for people to judge it by. clock: seconds since 1970.
        keep_days: after so many days the words and contents of what is closed are emptied, once an hour."""
        ladder = ladder or Ladder()
        self.ladder = ladder.under(policy) if policy is not None else ladder
        self.policy = f"{policy.name} {policy.version} {policy.id[:16]}" if policy is not None else NO_POLICY
        self.appeal_hint = policy.appeal if policy is not None else "Ask whoever runs this service."
        self.keep_content, self.keep_days = keep_content, keep_days
        self._engine, self._clock = engine, clock
        self.log = Log(engine)
        self._guard = threading.Lock()
        self._changes: dict[str, Change] = {}  # by organisation
        self._lifts: dict[str, float] = {}
        self._seen = 0
        with writing(engine) as connection:
            keep_ladder(connection, self.ladder)
        self.refresh()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="conduct", daemon=True)
        self._thread.start()

    def standing(self, organisation: str) -> Standing:
        """Where an organisation stands, from memory: at most a second old."""
        with self._guard:
            change = self._changes.get(organisation)
        if change is None or change.level == LEVELS[0]:
            return Standing()
        place = LEVELS.index(change.level)
        return Standing(
            change.level,
            "enhanced" if place >= ENHANCED else "standard",
            self.ladder.throttle if place >= THROTTLED else 1.0,
            place >= SUSPENDED,
            f"{_MESSAGES[change.level]}: {change.reason}. {self.appeal_hint}",
            self.appeal_hint,
        )

    def record(
        self,
        caller: Caller,
        request_id: str,
        model: str,
        user_digest: str,
        verdicts: Sequence[Verdict],
        content: Mapping[str, Any] | None = None,
        sensitivity: Sensitivity | None = None,
    ) -> Standing:
        """Writes down what was decided about a request, and where the account stands after it.

        Where every verdict is plainly allow, that is one row, noted and on disk soon. Anything else waits for the disk:
        a row a verdict that is no allow, a case for what was flagged or blocked, and the ladder, in one transaction.
        `content` ({"messages": [...], "reply": ...}) is kept in the case only where this object was told to.
        `user_digest`: `digest_of` the caller's name for its user, "" without one. `sensitivity`: the level that the
        verdicts were made at, if it isn't the account's.

        Raises what the database raises: what can't be written down must not have an effect.
        """
        now = self._clock()
        at_level = sensitivity or self.standing(caller.organisation).sensitivity
        acted = [verdict for verdict in verdicts if verdict.action != "allow"]
        rows = [
            Entry(
                request=request_id,
                at=now,
                organisation=caller.organisation,
                key=caller.key,
                user=user_mark(caller.organisation, user_digest),
                model=model,
                side=verdict.side if acted else WHOLE,
                action=verdict.action,
                category=verdict.category,
                score=verdict.score,
                threshold=verdict.threshold,
                sensitivity=at_level,
                policy=self.policy,
                classifiers=canonical_json(dict(verdict.classifiers)),
            )
            for verdict in acted or [_closest(verdicts)]
        ]
        if not acted:
            self.log.note(rows[0])
            return self.standing(caller.organisation)
        flagged = dict.fromkeys(verdict.category for verdict in acted if verdict.action in ACTED)

        def then(connection: Connection) -> Evaluated | None:
            for category in flagged:
                kept = content if self.keep_content else None
                open_case(
                    connection,
                    NewCase("flag", caller.organisation, request_id, category, content=kept),
                    now,
                )
            return evaluate(connection, caller.organisation, self.ladder, now) if flagged else None

        self._remember(caller.organisation, self.log.note_now(rows, then))
        return self.standing(caller.organisation)

    def give_feedback(
        self,
        caller: Caller,
        request_id: str,
        thumb: feedback.Thumb,
        words: str = "",
        content: Mapping[str, Any] | None = None,
        category: str = "",
    ) -> str:
        """Keeps a thumb, and opens a case for a report; its id. Waits for the disk. Raises as
        `feedback.give_feedback`."""
        if category and self.ladder.severities and category not in self.ladder.severities:
            raise Refusal(
                f"{category!r} is no category of the policy; give one of {', '.join(self.ladder.severities)}"
            )
        self.log.flush()  # the request may be as young as its reply
        opinion = feedback.Opinion(thumb, words, category, content)
        with writing(self._engine) as connection:
            return feedback.give_feedback(connection, caller, request_id, opinion, self._clock())

    def appeal(self, organisation: str, words: str) -> str:
        """The id of a new appeal. Waits for the disk. Raises Refusal for an account in good standing, and as
        `cases.appeal`."""
        with writing(self._engine) as connection:
            change = newest_of(connection, organisation)
            if change is None or change.level == LEVELS[0]:
                raise Refusal(
                    "the account is in good standing, so there is nothing to appeal; report a single decision as "
                    "feedback on its request",
                    409,
                )
            return cases.appeal(connection, organisation, words, self._clock())

    def settle(self, case: str, verdict: CaseVerdict, by: str, note: str = "") -> Case:
        """Closes a case and draws what follows. Waits for the disk. Raises as `standings.settle`."""
        return self._changing(lambda c: settle(c, case, verdict, by, note, self.ladder, self._clock()))

    def decide(
        self, organisation: str, level: Level, by: str, reason: str, seen: int | None = None
    ) -> Change:
        """The level that a person sets. Waits for the disk. Raises as `standings.decide`."""
        return self._changing(lambda c: decide(c, organisation, level, by, reason, self._clock(), seen))

    def refresh(self) -> None:
        """Reads what changed, and lifts what is due. Raises what the database raises.

        The rules are those of whoever began last, so that several servers of one database, of which one has newer
        ones, don't undo each other's changes.
        """
        with reading(self._engine) as connection:
            changed, ladder = changes_since(connection, self._seen), kept_ladder(connection)
        with self._guard:
            self.ladder = ladder
            for change in changed:
                self._learn(change)
                self._seen = max(self._seen, change.number)
                self._lifts[change.organisation] = 0.0 if change.level != LEVELS[0] else math.inf
            now = self._clock()
            due = [organisation for organisation, at in self._lifts.items() if at <= now]
        for organisation in due:
            with writing(self._engine) as connection:
                evaluated = evaluate(connection, organisation, ladder, now)
            self._remember(organisation, evaluated)

    def close(self) -> None:
        """Writes what waits, and ends the thread. Raises what the database raises."""
        self._closing.set()
        self._thread.join()
        self.log.flush()

    def _remember(self, organisation: str, evaluated: Evaluated | None) -> None:
        """Keeps what an evaluation that is on disk found, unless a later one was kept meanwhile."""
        if evaluated is None:
            return
        change, outcome = evaluated
        with self._guard:
            known = self._changes.get(organisation)
            if known is None or (change is not None and change.number >= known.number):
                if change is not None:
                    self._changes[organisation] = change
                self._lifts[organisation] = math.inf if outcome.lifts is None else outcome.lifts

    def _changing(self, act: Callable[[Connection], T]) -> T:
        with writing(self._engine) as connection:
            found = act(connection)
        self.refresh()
        return found

    def _learn(self, change: Change) -> None:
        known = self._changes.get(change.organisation)
        if known is None or change.number >= known.number:
            self._changes[change.organisation] = change

    def _work(self) -> None:
        next_refresh, next_expiry, failing = time.monotonic() + REFRESH, time.monotonic(), False
        while not self._closing.wait(FLUSH):
            try:
                self.log.flush()
                now = time.monotonic()
                if now >= next_refresh:
                    next_refresh = now + REFRESH
                    self.refresh()
                if now >= next_expiry and self.keep_days is not None:
                    next_expiry = now + EXPIRY
                    with writing(self._engine) as connection:
                        expire(connection, self.keep_days, self._clock())
                failing = False
            except Exception as error:
                # whatever it is, the thread goes on and what waits is kept; said once, not five times a second, and in
                # the driver's words alone, since the whole message would hold rows
                if not failing:
                    said = " ".join(str(getattr(error, "orig", error)).split())
                    _log.warning("decisions can't be written: %s: %s", type(error).__name__, said)
                failing = True


def _closest(verdicts: Sequence[Verdict]) -> Verdict:
    """Of verdicts that allow, the one whose score comes nearest to its threshold."""
    return max(verdicts, key=lambda v: v.score - v.threshold, default=Verdict("prompt"))
