"""A server's object for the acceptable-use policy: it logs decisions, opens cases for people, and moves accounts up and
down the ladder.

Standings come from memory, which a thread of this object refreshes every second; the same thread writes noted decisions
and lifts levels whose clean period is over. Several servers may share a database: each sees the others' changes within
a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.moderation.actions import Level as Sensitivity
from charter.ground.moderation.actions import Verdict
from charter.ground.moderation.policy import Policy
from charter_service.accounts import cases, feedback, grants
from charter_service.accounts.cases import ACTED, Case, CaseVerdict, NewCase, Stop, open_case, stopped_before
from charter_service.accounts.decisions import WHOLE, Entry, Log, append, user_mark
from charter_service.accounts.export import expire
from charter_service.accounts.grants import SEVERE, Grant
from charter_service.accounts.keys import Caller
from charter_service.accounts.ladder import DAY, LEVELS, Ladder, Level, Outcome
from charter_service.accounts.remembered import Remembered, Standing, standing_of, stricter
from charter_service.accounts.standings import (
    Change,
    account_of,
    changes_since,
    decide,
    evaluate,
    keep_ladder,
    kept_ladder,
    lowered,
    newest_of,
    newest_row,
    settle,
    user_changes_since,
)
from charter_service.web.database import alone, reading, writing
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import digest_of, proof_of

FLUSH, REFRESH, EXPIRY = 0.2, 1.0, 3600.0  # seconds
NO_POLICY = "none"
T = TypeVar("T")
Also = Callable[[Connection], object]  # work in the same transaction, such as a row of the audit log
Evaluated = tuple[str, Change | None, Outcome]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """A request's data for the log. `user`: `digest_of` the caller's name for its user, "" without one. `sensitivity`:
    the level of the verdicts, None for the account's. `conversation`: from `conversation_mark`, for requests with an
    action. `policy`: from `name_of`, the one that judged it; "" for the one in force. `repeats`: an earlier request
    that was stopped for what is stopped of this one, "" if something new is."""

    caller: Caller
    id: str
    model: str
    user: str = ""
    sensitivity: Sensitivity | None = None
    conversation: str = ""
    policy: str = ""
    repeats: str = ""

    @property
    def mark(self) -> str:
        """The user's mark in the log."""
        return user_mark(self.caller.organisation, self.user)


def conversation_mark(organisation: str, model: str, conversation: Any) -> str:
    """A mark to recognise a request: a digest of organisation, model and the whole conversation as JSON, including its
    system text."""
    return proof_of(organisation, digest_of(canonical_json([model, conversation])))


def name_of(policy: Policy | None) -> str:
    """A policy's name in the log: name, version and the beginning of its id."""
    return f"{policy.name} {policy.version} {policy.id[:16]}" if policy is not None else NO_POLICY


class Conduct:
    """One for each server. Its methods may be called from any thread; those that say so wait for the disk."""

    def __init__(
        self,
        engine: Engine,
        ladder: Ladder | None = None,
        policy: Policy | None = None,
        keep_content: bool = False,
        clock: Callable[[], float] = time.time,
        keep_days: float | None = None,
    ) -> None:
        """keep_content: whether cases hold the flagged text, for people to judge. clock: seconds since 1970. keep_days:
        days after which the words and contents of closed cases are emptied, once an hour."""
        self._rules = ladder or Ladder()
        self.ladder = self.ladder_under(policy)
        self.policy = name_of(policy)
        self.appeal_hint = policy.appeal if policy is not None else "Ask the operator of this service."
        self.keep_content, self.keep_days = keep_content, keep_days
        self._engine, self._clock = engine, clock
        self.log = Log(engine)
        self.standings = Remembered()
        self._exempt: dict[str, list[Grant]] = {}  # by organisation
        with writing(engine) as connection:
            keep_ladder(connection, self.ladder)
            for account in lowered(connection):  # the rules may have changed, and verdicts may be withdrawn
                evaluate(connection, account, self.ladder, clock())
            self._newest = newest_row(connection)
        self.refresh()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="conduct", daemon=True)
        self._thread.start()

    def ladder_under(self, policy: Policy | None) -> Ladder:
        """The configured ladder with the severities of a policy."""
        return self._rules.under(policy) if policy is not None else self._rules

    def adopt(self, policy: Policy) -> None:
        """Takes another policy into force, whose ladder the database holds already."""
        self.policy, self.appeal_hint = name_of(policy), policy.appeal
        self.refresh()

    def standing(self, organisation: str, user: str = "") -> Standing:
        """An organisation's standing, from memory, at most a second old; with `user`, as in `RequestFacts`, that of a
        request of this end user. An end user who isn't cached is read from the database."""
        if self.ladder.state == "off":
            return standing_of(None, self.ladder, self.appeal_hint)
        account = standing_of(self.standings.organisation(organisation), self.ladder, self.appeal_hint)
        if not user:
            return account
        user_standing = standing_of(self._user(organisation, user), self.ladder, self.appeal_hint)
        return stricter(account, user_standing)

    def remembers(self, organisation: str, user: str) -> bool:
        """Whether `standing` answers from memory."""
        return not user or self.standings.user(_account(organisation, user))[0]

    def record(
        self, facts: RequestFacts, verdicts: Sequence[Verdict], content: Mapping[str, Any] | None = None
    ) -> Standing:
        """Logs the decisions about a request, and returns the account's standing after it.

        If every verdict is plainly allow, that is one row, noted now and on disk soon. Anything else waits for the
        disk: a row for each other verdict, a case for each flag or block, and the ladder, in one transaction. `content`
        ({"messages": [...], "reply": ...}) is stored in the case only if `keep_content` is set. A prompt that was
        stopped within a day has a case already, and is charged once.

        Raises the database's errors: a decision that can't be logged must have no effect.
        """
        now, organisation = self._clock(), facts.caller.organisation
        acted = [verdict for verdict in verdicts if verdict.action != "allow"]
        if not acted:
            self.log.note(self._entry(facts, _closest(verdicts), now, WHOLE))
            return self.standing(organisation, facts.user)
        rows = [self._entry(facts, verdict, now) for verdict in acted]
        flagged = {row.category: row.severity for row in rows if row.action in ACTED}
        stored_content = content if self.keep_content else None
        judged = flagged and self.ladder.state == "on"
        accounts = dict.fromkeys((organisation, account_of(organisation, facts.mark))) if judged else ()

        def then(connection: Connection) -> list[Evaluated]:
            alone(connection)
            mark = facts.conversation
            if mark and [row.side for row in rows] == ["prompt"]:
                of_it = (organisation, facts.mark, [mark], now - DAY, [*flagged], [rows[0].action])
                same = stopped_before(connection, *of_it).get(mark, "")
                append(connection, [replace(rows[0], repeats=same or facts.repeats)])
                if same:
                    return []
            else:
                append(connection, rows)
            for category, severity in flagged.items():
                about = (facts.id, category, "", stored_content, severity, facts.mark, mark)
                open_case(connection, NewCase("flag", organisation, *about), now)
            return [(account, *evaluate(connection, account, self.ladder, now)) for account in accounts]

        for account, change, outcome in self.log.note_now((), then) or ():
            self.standings.evaluated(account, change, outcome)
        return self.standing(organisation, facts.user)

    def use_release(self, facts: RequestFacts, verdict: Verdict) -> bool:
        """Whether a person released the request that this verdict would block. The release is then used up, and logged
        before this returns. Waits for the disk."""
        entry = self._entry(facts, verdict, self._clock())
        return bool(self.log.note_now((), lambda c: grants.use_release(c, entry, facts.conversation)))

    def exempt_from(self, organisation: str) -> frozenset[str]:
        """Ids of the categories and high-risk uses that an organisation is exempt from, from memory."""
        now, exemptions = self._clock(), self._exempt.get(organisation, ())
        in_force = [grant for grant in exemptions if grant.until > now]
        categories = {grant.category for grant in in_force}
        if "" in categories:
            categories |= {*self.ladder.severities, *self.ladder.permitted}
        severe = {category for category in categories if self.ladder.severity(category) == SEVERE}
        severe -= {grant.category for grant in in_force if grant.side == SEVERE}
        return frozenset(categories - severe - {""})

    def use_exemption(self, facts: RequestFacts, verdict: Verdict) -> bool:
        """Whether the organisation is exempt from this verdict. It is logged before this returns. Waits for the disk,
        whose data decides."""
        entry = self._entry(facts, verdict, self._clock())
        return bool(self.log.note_now((), lambda c: grants.use_exemption(c, entry)))

    def release(
        self, stopped: str, by: str, reason: str, hours: float = grants.RELEASE_HOURS, also: Also | None = None
    ) -> Grant:
        """Lets a blocked request be sent once more. Waits for the disk. Raises as `grants.release`."""
        return self._changing(lambda c: grants.release(c, stopped, by, reason, self._clock(), hours), also)

    def exempt(
        self, organisation: str, category: str, until: float, by: str, reason: str, also: Also | None = None
    ) -> Grant:
        """Exempts an organisation. Waits for the disk. Raises as `grants.exempt`."""
        exemption = grants.exemption(organisation, category, until, by, reason, self._clock())
        return self._changing(lambda c: grants.exempt(c, exemption, self.ladder), also)

    def revoke(self, id: str, by: str, reason: str, also: Also | None = None) -> Grant:
        """Revokes a grant. Waits for the disk. Raises as `grants.revoke`."""
        return self._changing(lambda c: grants.revoke(c, id, by, reason, self._clock()), also)

    def give_feedback(
        self,
        caller: Caller,
        request_id: str,
        thumb: feedback.Thumb,
        words: str = "",
        content: Mapping[str, Any] | None = None,
        category: str = "",
    ) -> str:
        """Stores a thumb, and opens a case for a report; returns its id. Waits for the disk. Raises as
        `feedback.give_feedback`."""
        if category and self.ladder.severities and category not in self.ladder.severities:
            raise Refusal(
                f"{category!r} is not a category of the policy; give one of {', '.join(self.ladder.severities)}"
            )
        self.log.flush()  # the request may be very recent
        opinion = feedback.Opinion(thumb, words, category, content, self.ladder.severity(category))
        with writing(self._engine) as connection:
            return feedback.give_feedback(connection, caller, request_id, opinion, self._clock())

    def appeal(self, organisation: str, words: str, user: str = "", stop: Stop | None = None) -> str:
        """The id of a new appeal of an organisation, for one of its end users, or of a stopped request. Waits for the
        disk. Raises Refusal if the account is in good standing, and as `appeals.appeal`, `appeals.appeal_stop`."""
        self.log.flush()  # a stopped request may be very recent
        mark = user_mark(organisation, user)
        with writing(self._engine) as connection:
            if stop is not None:
                return cases.appeal_stop(connection, organisation, stop, words, self._clock())
            change = newest_of(connection, account_of(organisation, mark))
            if change is None or change.level == LEVELS[0]:
                whose = "user" if user else "account"
                raise Refusal(f"the {whose} is in good standing; appeal a single stop by its request", 409)
            return cases.appeal(connection, organisation, words, self._clock(), mark)

    def settle(self, case: str, verdict: CaseVerdict, by: str, note: str = "", also: Also | None = None) -> Case:
        """Closes a case and applies the consequences. Waits for the disk. Raises as `standings.settle`."""
        return self._changing(lambda c: settle(c, case, verdict, by, note, self.ladder, self._clock()), also)

    def decide(
        self, account: str, level: Level, by: str, reason: str, seen: int | None = None, also: Also | None = None
    ) -> Change:
        """Sets a level by a person, for an organisation or an end user (`standings.account_of`). Waits for the disk.
        Raises as `standings.decide`."""
        return self._changing(lambda c: decide(c, account, level, by, reason, self._clock(), seen), also)

    def refresh(self) -> None:
        """Reads changes, and lifts due levels. Raises the database's errors.

        The rules are those of the server that started last, so that several servers of one database with different
        rules don't undo each other's changes.
        """
        number, now = self.standings.seen, self._clock()
        with reading(self._engine) as connection:
            changes, ladder = changes_since(connection, number), kept_ladder(connection)
            # end users are read on their first request, so earlier ones aren't needed
            changes += user_changes_since(connection, max(number, self._newest))
            exempt: dict[str, list[Grant]] = {}
            for grant in grants.exemptions_at(connection, now):
                exempt.setdefault(grant.organisation, []).append(grant)
        self.ladder, self._exempt = ladder, exempt
        self.standings.learn(changes)
        self.standings.skip(self._newest)
        for account in self.standings.due(now):
            with writing(self._engine) as connection:
                evaluated = evaluate(connection, account, ladder, now)
            self.standings.evaluated(account, *evaluated)

    def close(self) -> None:
        """Writes waiting entries, and ends the thread. Raises the database's errors."""
        self._closing.set()
        self._thread.join()
        self.log.flush()

    def _user(self, organisation: str, user: str) -> Change | None:
        """The newest row of an end user."""
        account = _account(organisation, user)
        remembered, change = self.standings.user(account)
        if not remembered:
            number = self.standings.seen
            with reading(self._engine) as connection:
                change = newest_of(connection, account)
            self.standings.keep_user(account, change, number)
        return change

    def _entry(self, facts: RequestFacts, verdict: Verdict, now: float, side: str = "") -> Entry:
        """The row of the log for a verdict."""
        standing = facts.sensitivity or self.standing(facts.caller.organisation, facts.user).sensitivity
        return Entry(
            request=facts.id,
            at=now,
            organisation=facts.caller.organisation,
            key=facts.caller.key,
            user=facts.mark,
            model=facts.model,
            side=side or verdict.side,
            action=verdict.action,
            category=verdict.category,
            score=verdict.score,
            threshold=verdict.threshold,
            sensitivity=standing,
            policy=facts.policy or self.policy,
            classifiers=canonical_json(dict(verdict.classifiers)),
            severity=self.ladder.severity(verdict.category),
            added=digest_text(verdict.safety_prompt) if verdict.action == "safety_prompt" else "",
            unscreened=verdict.unscreened,
        )

    def _changing(self, act: Callable[[Connection], T], also: Also | None = None) -> T:
        with writing(self._engine) as connection:
            outcome = act(connection)
            if also is not None:
                also(connection)
        self.refresh()
        return outcome

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
                # whatever it is, the thread continues and waiting entries stay; logged once, not every 0.2 s, in
                # the driver's words alone, since the whole message would hold rows
                if not failing:
                    problem = " ".join(str(getattr(error, "orig", error)).split())
                    _log.warning("decisions can't be written: %s: %s", type(error).__name__, problem)
                failing = True


def _account(organisation: str, user: str) -> str:
    return account_of(organisation, user_mark(organisation, user))


def _closest(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict, of several that allow, whose score is nearest to its threshold; those without classifiers come
    last. It keeps the language of any of them that isn't screened."""
    closest = max(verdicts, key=lambda v: (bool(v.classifiers), v.score - v.threshold), default=Verdict("prompt"))
    return replace(closest, unscreened=next((v.unscreened for v in verdicts if v.unscreened), ""))
