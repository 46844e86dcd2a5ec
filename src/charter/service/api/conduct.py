"""The one object by which a server keeps to the acceptable-use policy: what was decided is written down, people are
asked, and accounts go up and down the ladder.

Where an account stands is answered from memory, which a thread of this object makes new each second; the same thread
writes what was noted and lifts levels whose clean period is over. Several servers may share a database: a change that
one makes is seen by the others within a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.moderation.actions import Level as Sensitivity
from charter.ground.moderation.actions import Verdict
from charter.ground.moderation.policy import Policy
from charter.service.accounts import cases, feedback, grants
from charter.service.accounts.cases import ACTED, Case, CaseVerdict, NewCase, open_case
from charter.service.accounts.decisions import WHOLE, Entry, Log, user_mark
from charter.service.accounts.export import expire
from charter.service.accounts.grants import SEVERE, Grant
from charter.service.accounts.keys import Caller
from charter.service.accounts.ladder import LEVELS, Ladder, Level, Outcome
from charter.service.accounts.remembered import Remembered, Standing, standing_of, stricter
from charter.service.accounts.standings import (
    Change,
    account_of,
    changes_since,
    decide,
    evaluate,
    keep_ladder,
    kept_ladder,
    newest_of,
    newest_row,
    settle,
    user_changes_since,
)
from charter.service.web.database import reading, writing
from charter.service.web.refusal import Refusal
from charter.service.web.tokens import digest_of, proof_of

FLUSH, REFRESH, EXPIRY = 0.2, 1.0, 3600.0  # seconds
NO_POLICY = "none"
T = TypeVar("T")
Evaluated = tuple[str, Change | None, Outcome]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """Whose request it was, for the log. `user`: `digest_of` the caller's name for its user, "" without one.
    `sensitivity`: the level that verdicts were made at, None for the account's. `conversation`: as `conversation_mark`
    makes it, for what is acted on."""

    caller: Caller
    id: str
    model: str
    user: str = ""
    sensitivity: Sensitivity | None = None
    conversation: str = ""

    @property
    def mark(self) -> str:
        """What the log holds of the user."""
        return user_mark(self.caller.organisation, self.user)


def conversation_mark(organisation: str, model: str, asked: Any) -> str:
    """What is kept of what was asked, by which it is known again: a digest of organisation, model and all of the
    conversation as JSON, its system text included."""
    return proof_of(organisation, digest_of(canonical_json([model, asked])))


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
        self.standings = Remembered()
        self._exempt: dict[str, list[Grant]] = {}  # by organisation
        with writing(engine) as connection:
            keep_ladder(connection, self.ladder)
            self._newest = newest_row(connection)
        self.refresh()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="conduct", daemon=True)
        self._thread.start()

    def standing(self, organisation: str, user: str = "") -> Standing:
        """Where an organisation stands, from memory, at most a second old; with `user`, as `RequestFacts` has it, where
        a request of this end user does. One who isn't remembered is read from the database."""
        account = standing_of(self.standings.organisation(organisation), self.ladder, self.appeal_hint)
        if not user:
            return account
        own = standing_of(self._user(organisation, user), self.ladder, self.appeal_hint)
        return stricter(account, own)

    def remembers(self, organisation: str, user: str) -> bool:
        """Whether `standing` answers from memory."""
        return not user or self.standings.user(_account(organisation, user))[0]

    def record(
        self, facts: RequestFacts, verdicts: Sequence[Verdict], content: Mapping[str, Any] | None = None
    ) -> Standing:
        """Writes down what was decided about a request, and where the account stands after it.

        Where every verdict is plainly allow, that is one row, noted and on disk soon. Anything else waits for the disk:
        a row a verdict that is no allow, a case for what was flagged or blocked, and the ladder, in one transaction.
        `content` ({"messages": [...], "reply": ...}) is kept in the case only where this object was told to.

        Raises what the database raises: what can't be written down must not have an effect.
        """
        now, organisation = self._clock(), facts.caller.organisation
        acted = [verdict for verdict in verdicts if verdict.action != "allow"]
        if not acted:
            self.log.note(self._entry(facts, _closest(verdicts), now, WHOLE))
            return self.standing(organisation, facts.user)
        rows = [self._entry(facts, verdict, now) for verdict in acted]
        flagged = {row.category: row.severity for row in rows if row.action in ACTED}
        accounts = dict.fromkeys((organisation, account_of(organisation, facts.mark))) if flagged else ()

        def then(connection: Connection) -> list[Evaluated]:
            for category, severity in flagged.items():
                new = NewCase(
                    "flag",
                    organisation,
                    facts.id,
                    category,
                    content=content if self.keep_content else None,
                    severity=severity,
                    user=facts.mark,
                    conversation=facts.conversation,
                )
                open_case(connection, new, now)
            return [(one, *evaluate(connection, one, self.ladder, now)) for one in accounts]

        for account, change, outcome in self.log.note_now(rows, then) or ():
            self.standings.evaluated(account, change, outcome)
        return self.standing(organisation, facts.user)

    def use_release(self, facts: RequestFacts, verdict: Verdict) -> bool:
        """Whether a person released what this verdict would stop. Then the release is used up, and the log says so
        before this returns. Waits for the disk."""
        entry = self._entry(facts, verdict, self._clock())
        return bool(self.log.note_now((), lambda c: grants.use_release(c, entry, facts.conversation)))

    def exempt_from(self, organisation: str) -> frozenset[str]:
        """Ids of the categories and high-risk uses that an organisation is exempt from, from memory."""
        now, mine = self._clock(), self._exempt.get(organisation, ())
        named = {grant.category for grant in mine if grant.until > now}
        if "" in named:
            named |= {*self.ladder.severities, *self.ladder.permitted}
        return frozenset(one for one in named if one and self.ladder.severity(one) != SEVERE)

    def use_exemption(self, facts: RequestFacts, verdict: Verdict) -> bool:
        """Whether the organisation is exempt from what this verdict acts on. The log says so before this returns. Waits
        for the disk, whose word counts."""
        entry = self._entry(facts, verdict, self._clock())
        return bool(self.log.note_now((), lambda c: grants.use_exemption(c, entry)))

    def release(self, stopped: str, by: str, reason: str, hours: float = grants.RELEASE_HOURS) -> Grant:
        """Lets what was stopped be sent once more. Waits for the disk. Raises as `grants.release`."""
        return self._changing(lambda c: grants.release(c, stopped, by, reason, self._clock(), hours))

    def exempt(self, organisation: str, category: str, until: float, by: str, reason: str) -> Grant:
        """Exempts an organisation. Waits for the disk. Raises as `grants.exempt`."""
        asked = grants.exemption(organisation, category, until, by, reason, self._clock())
        return self._changing(lambda c: grants.exempt(c, asked, self.ladder))

    def revoke(self, id: str, by: str, reason: str) -> Grant:
        """Takes a grant back. Waits for the disk. Raises as `grants.revoke`."""
        return self._changing(lambda c: grants.revoke(c, id, by, reason, self._clock()))

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
        opinion = feedback.Opinion(thumb, words, category, content, self.ladder.severity(category))
        with writing(self._engine) as connection:
            return feedback.give_feedback(connection, caller, request_id, opinion, self._clock())

    def appeal(self, organisation: str, words: str, user: str = "") -> str:
        """The id of a new appeal of an organisation, or for one of its end users. Waits for the disk. Raises Refusal
        for an account in good standing, and as `cases.appeal`."""
        mark = user_mark(organisation, user)
        with writing(self._engine) as connection:
            change = newest_of(connection, account_of(organisation, mark))
            if change is None or change.level == LEVELS[0]:
                raise Refusal(
                    f"the {'user' if user else 'account'} is in good standing, so there is nothing to appeal; report a "
                    "single decision as feedback on its request",
                    409,
                )
            return cases.appeal(connection, organisation, words, self._clock(), mark)

    def settle(self, case: str, verdict: CaseVerdict, by: str, note: str = "") -> Case:
        """Closes a case and draws what follows. Waits for the disk. Raises as `standings.settle`."""
        return self._changing(lambda c: settle(c, case, verdict, by, note, self.ladder, self._clock()))

    def decide(self, account: str, level: Level, by: str, reason: str, seen: int | None = None) -> Change:
        """The level that a person sets, of an organisation or of an end user (`standings.account_of`). Waits for the
        disk. Raises as `standings.decide`."""
        return self._changing(lambda c: decide(c, account, level, by, reason, self._clock(), seen))

    def refresh(self) -> None:
        """Reads what changed, and lifts what is due. Raises what the database raises.

        The rules are those of whoever began last, so that several servers of one database, of which one has newer
        ones, don't undo each other's changes.
        """
        seen, now = self.standings.seen, self._clock()
        with reading(self._engine) as connection:
            changed, ladder = changes_since(connection, seen), kept_ladder(connection)
            # end users are read when they ask, so that those of before need not be known
            changed += user_changes_since(connection, max(seen, self._newest))
            exempt: dict[str, list[Grant]] = {}
            for grant in grants.exemptions_at(connection, now):
                exempt.setdefault(grant.organisation, []).append(grant)
        self.ladder, self._exempt = ladder, exempt
        self.standings.learn(changed)
        self.standings.skip(self._newest)
        for account in self.standings.due(now):
            with writing(self._engine) as connection:
                evaluated = evaluate(connection, account, ladder, now)
            self.standings.evaluated(account, *evaluated)

    def close(self) -> None:
        """Writes what waits, and ends the thread. Raises what the database raises."""
        self._closing.set()
        self._thread.join()
        self.log.flush()

    def _user(self, organisation: str, user: str) -> Change | None:
        """The newest row of an end user."""
        account = _account(organisation, user)
        known, change = self.standings.user(account)
        if not known:
            seen = self.standings.seen
            with reading(self._engine) as connection:
                change = newest_of(connection, account)
            self.standings.keep_user(account, change, seen)
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
            policy=self.policy,
            classifiers=canonical_json(dict(verdict.classifiers)),
            severity=self.ladder.severity(verdict.category),
            added=digest_text(verdict.safety_prompt) if verdict.action == "safety_prompt" else "",
        )

    def _changing(self, act: Callable[[Connection], T]) -> T:
        with writing(self._engine) as connection:
            found = act(connection)
        self.refresh()
        return found

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


def _account(organisation: str, user: str) -> str:
    return account_of(organisation, user_mark(organisation, user))


def _closest(verdicts: Sequence[Verdict]) -> Verdict:
    """Of verdicts that allow, the one whose score comes nearest to its threshold; those that nothing was read for come
    last."""
    return max(
        verdicts, key=lambda v: (bool(v.classifiers), v.score - v.threshold), default=Verdict("prompt")
    )
