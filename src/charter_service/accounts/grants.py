"""Grants by people against the policy: releases of one request, and exemptions of an organisation.

A release lets an organisation send a blocked request once more: the same conversation, by its digest, to the same
model, once, until it expires. An exemption lifts one category, or all that aren't severe, until a date; a severe one is
named by itself and ends sooner. No text is stored. Each grant is also a row of the log of decisions with a digest of
who, why and until when; so is its end, and each use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from sqlalchemy import Connection, and_, func, select

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter_service.accounts.cases import MOST_WORDS, Case, decider_name, find_case, plain_text
from charter_service.accounts.decisions import ASKED_NONE, PERSON, Entry, anchor, append
from charter_service.accounts.keys import check_organisation
from charter_service.accounts.ladder import Ladder
from charter_service.accounts.tables import CASES, DECISIONS, GRANTS
from charter_service.web.database import alone
from charter_service.web.refusal import NotFound, Refusal, Stale
from charter_service.web.tokens import new_id

Kind = Literal["release", "exemption"]
RELEASE, EXEMPTION = get_args(Kind)
SEVERE = "severe"
RELEASED, EXEMPTED = "released", "exempted"  # actions of the log: a grant was used
ACTS = {RELEASE: "release", EXEMPTION: "exempt"}  # actions of the log: a grant was made
REVOKE = "revoke"
HOUR, DAY = 3600.0, 86_400.0
RELEASE_HOURS, MOST_HOURS = 72.0, 720.0  # until an unused release expires
MOST_DAYS = 366.0  # of an exemption
MOST_SEVERE_DAYS = 92.0  # of one from a severe category


@dataclass(frozen=True, slots=True)
class Grant:
    """A release or an exemption. Times are seconds since 1970; `used` is a release's, which is used once. `side`: of a
    release, the blocked one; "severe" of an exemption from a severe category."""

    id: str
    kind: Kind
    organisation: str
    category: str
    side: str
    request: str
    conversation: str
    created: float
    until: float
    by: str
    reason: str
    used: float | None = None
    revoked: float | None = None
    revoked_by: str | None = None
    revoked_reason: str | None = None

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def state(self, now: float) -> str:
        """in force, used, revoked or expired."""
        if self.revoked is not None:
            return "revoked"
        if self.used is not None:
            return "used"
        return "in force" if now < self.until else "expired"

    @property
    def digest(self) -> str:
        """The digest in the log: of who granted what, why and until when."""
        facts = (self.id, self.kind, self.organisation, self.category, self.side, self.request)
        times = (float(self.created), float(self.until))
        return digest_text(canonical_json([*facts, self.conversation, *times, self.by, self.reason]))

    @property
    def revoked_digest(self) -> str:
        """The digest of who revoked it, when and why."""
        at = float(self.revoked or 0.0)
        return digest_text(canonical_json([self.id, at, self.revoked_by or "", self.revoked_reason or ""]))


def release(
    connection: Connection, stopped: str, by: str, reason: str, now: float, hours: float = RELEASE_HOURS
) -> Grant:
    """Lets a blocked request be sent once more. `stopped`: its case, or the request's id.

    Raises NotFound if there is no such case, Refusal if nothing was blocked or its digest is no longer stored, for a
    reply of a severe category, which nobody can see before it is written, and for hours out of range.
    """
    if not 0 < hours <= MOST_HOURS:
        raise Refusal(f"a release holds for more than 0 and at most {MOST_HOURS:g} hours, not {hours:g}")
    name, why = decider_name(by), _why(reason)
    alone(connection)
    case = _case_of(connection, stopped)
    d = DECISIONS.c
    blocked = and_(
        d.request == case.request, d.organisation == case.organisation, d.category == case.category, d.action == "block"
    )
    block = connection.execute(select(d.side, d.severity).where(blocked).order_by(d.number).limit(1)).one_or_none()
    if case.kind != "flag" or block is None:
        raise Refusal(f"nothing of {stopped} was blocked, so there is nothing to release")
    if not case.conversation:
        raise Refusal(
            f"the digest of {stopped}'s conversation is no longer stored, so the request can't be recognised", 409
        )
    if block.side == "reply" and block.severity == SEVERE:
        raise Refusal(
            "a reply of a severe category can't be released: the next reply will differ, and nobody has seen it"
        )
    grant = Grant(
        f"release_{new_id()}",
        RELEASE,
        case.organisation,
        case.category,
        block.side,
        case.request,
        case.conversation,
        now,
        now + hours * HOUR,
        name,
        why,
    )
    return _make(connection, grant)


def exempt(connection: Connection, grant: Grant, ladder: Ladder) -> Grant:
    """Lifts a category, or with "" all that aren't severe, for an organisation, as in `exemption`.

    Raises NotFound for an unknown organisation, Refusal for a category that the policy in force doesn't have, and for a
    date out of range.
    """
    categories = [*ladder.severities, *ladder.permitted]
    if not categories:
        raise Refusal("no policy has been in force here yet, so there is nothing to exempt from")
    if grant.category and grant.category not in categories:
        raise Refusal(f"{grant.category!r} is not a category of the policy; give one of {', '.join(categories)}")
    severe = ladder.severity(grant.category) == SEVERE
    most, kind = (MOST_SEVERE_DAYS, " from a severe category") if severe else (MOST_DAYS, "")
    if not grant.created < grant.until <= grant.created + most * DAY:
        raise Refusal(f"an exemption{kind} must end in the future and within {most:g} days")
    alone(connection)
    check_organisation(connection, grant.organisation)
    return _make(connection, replace(grant, side=SEVERE) if severe else grant)


def exemption(organisation: str, category: str, until: float, by: str, reason: str, now: float) -> Grant:
    """A requested exemption; `exempt` makes it. Raises CharterError without a name or a reason."""
    return Grant(
        f"exempt_{new_id()}", EXEMPTION, organisation, category, "", "", "", now, until, decider_name(by), _why(reason)
    )


def revoke(connection: Connection, id: str, by: str, reason: str, now: float) -> Grant:
    """Revokes a grant. Raises NotFound, and Stale if it is already over."""
    name, why = decider_name(by), _why(reason)
    alone(connection)
    grant = find_grant(connection, id)
    if (state := grant.state(now)) != "in force":
        raise Stale(f"{id} is already {state}")
    ended = replace(grant, revoked=now, revoked_by=name, revoked_reason=why)
    values = {"revoked": now, "revoked_by": name, "revoked_reason": why}
    connection.execute(GRANTS.update().where(GRANTS.c.id == id).values(**values))
    append(connection, [_entry(ended, REVOKE, now, ended.revoked_digest)])
    return ended


def find_grant(connection: Connection, id: str) -> Grant:
    """A grant. Raises NotFound."""
    row = connection.execute(select(GRANTS).where(GRANTS.c.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no release or exemption {id}; charter conduct grants lists them")
    return Grant(**row._mapping)


def grants_of(
    connection: Connection, organisation: str = "", now: float | None = None, limit: int = 200
) -> list[Grant]:
    """Grants of an organisation or of all, newest first; with `now` only those in force then."""
    rows = select(GRANTS).order_by(GRANTS.c.created.desc(), GRANTS.c.id).limit(limit)
    if organisation:
        rows = rows.where(GRANTS.c.organisation == organisation)
    if now is not None:
        rows = rows.where(_in_force(now))
    return [Grant(**row._mapping) for row in connection.execute(rows)]


def exemptions_at(connection: Connection, now: float) -> list[Grant]:
    """All exemptions in force at a time."""
    rows = select(GRANTS).where(GRANTS.c.kind == EXEMPTION, _in_force(now)).order_by(GRANTS.c.created)
    return [Grant(**row._mapping) for row in connection.execute(rows)]


def use_release(connection: Connection, entry: Entry, conversation: str) -> bool:
    """Uses up a release for a request that is being blocked, if there is one, and logs it; returns whether there was.
    Of several simultaneous callers one gets it. `entry`: the log's entry for the block. A release of a prompt covers
    the whole prompt, which a person saw; a release of a reply covers only its category."""
    alone(connection)
    fits = and_(
        GRANTS.c.kind == RELEASE,
        GRANTS.c.organisation == entry.organisation,
        GRANTS.c.conversation == conversation,
        GRANTS.c.side == entry.side,
        _in_force(entry.at),
    )
    if entry.side != "prompt":
        fits = and_(fits, GRANTS.c.category == entry.category)
    grant = connection.execute(select(GRANTS.c.id).where(fits).order_by(GRANTS.c.until).limit(1)).scalar()
    if grant is None or (entry.side != "prompt" and entry.severity == SEVERE):
        return False
    connection.execute(GRANTS.update().where(GRANTS.c.id == grant).values(used=entry.at))
    append(connection, [replace(entry, action=RELEASED, grant_id=grant)])
    return True


def use_exemption(connection: Connection, entry: Entry) -> bool:
    """Logs that an exemption let something pass, if one is in force; returns whether one is. A severe category
    is lifted only by one that a person granted when it was severe."""
    alone(connection)
    fits = and_(
        GRANTS.c.kind == EXEMPTION,
        GRANTS.c.organisation == entry.organisation,
        GRANTS.c.category.in_(("", entry.category)),
        _in_force(entry.at),
    )
    if entry.severity == SEVERE:
        fits = and_(fits, GRANTS.c.side == SEVERE)
    grant = connection.execute(select(GRANTS.c.id).where(fits).order_by(GRANTS.c.until).limit(1)).scalar()
    if grant is None:
        return False
    append(connection, [replace(entry, action=EXEMPTED, grant_id=grant)])
    return True


def verify_grants(connection: Connection, before: float = 0.0) -> str | None:
    """The id of the first grant that differs from the log, or that the log has but the table lacks; None if all agree.
    Acts before the log's oldest row can't be checked, as far as rows noted `before` may have been removed.
    `verify_chain` checks the log itself."""
    logged: dict[tuple[str, str], str] = {}
    d = DECISIONS.c
    rows = select(d.grant_id, d.action, d.added).where(d.grant_id != "").order_by(d.number)
    for id, action, added in connection.execute(rows):
        logged[str(id), str(action)] = str(added)
    removed, _ = anchor(connection)
    oldest = connection.execute(select(func.min(d.at))).scalar() if removed else None
    since = min(before, float(oldest) if oldest is not None else before) if removed else 0.0

    def gone_by(at: float | None) -> bool:
        return at is not None and at < since

    grants = {str(row.id): Grant(**row._mapping) for row in connection.execute(select(GRANTS))}
    for id, grant in grants.items():
        created = gone_by(grant.created) or logged.get((id, ACTS[grant.kind])) == grant.digest
        taken_back = logged.get((id, REVOKE), grant.revoked_digest) == grant.revoked_digest
        as_said = gone_by(grant.revoked) or (grant.revoked is None) == ((id, REVOKE) not in logged)
        used = gone_by(grant.used) or (grant.used is None) == ((id, RELEASED) not in logged)
        spent = grant.kind == EXEMPTION or used
        if not (created and taken_back and as_said and spent):
            return id
    missing = [id for id, _ in logged if id not in grants]
    return missing[0] if missing else None


def _make(connection: Connection, grant: Grant) -> Grant:
    connection.execute(GRANTS.insert().values(**grant.row()))
    append(connection, [_entry(grant, ACTS[grant.kind], grant.created, grant.digest)])
    return grant


def _entry(grant: Grant, action: str, at: float, digest: str) -> Entry:
    """The row of the log for a person's act."""
    return Entry(
        request=grant.request,
        at=at,
        organisation=grant.organisation,
        key="",
        user="",
        model="",
        side=PERSON,
        action=action,
        category=grant.category,
        score=0.0,
        threshold=1.0,
        sensitivity="",
        policy="",
        classifiers=ASKED_NONE,
        added=digest,
        grant_id=grant.id,
    )


def _in_force(now: float) -> Any:
    open_ = and_(GRANTS.c.used.is_(None), GRANTS.c.revoked.is_(None))
    return and_(open_, GRANTS.c.created <= now, GRANTS.c.until > now)


def _why(reason: str) -> str:
    """A reason. Raises CharterError if it is empty."""
    if not reason.strip():
        raise CharterError("a grant, or revoking one, needs a reason; write why")
    return plain_text(reason.strip(), MOST_WORDS, "the reason")


def _case_of(connection: Connection, stopped: str) -> Case:
    """A case by its id, or the flag of a blocked request, or of the one that it repeats. Raises NotFound."""
    if stopped.startswith("case_"):
        return find_case(connection, stopped)
    blocked = select(DECISIONS.c.category).where(DECISIONS.c.request == stopped, DECISIONS.c.action == "block")
    flags = and_(CASES.c.request == stopped, CASES.c.kind == "flag", CASES.c.category.in_(blocked))
    ids: Sequence[str] = connection.execute(select(CASES.c.id).where(flags)).scalars().all()
    if len(ids) > 1:
        raise Refusal(f"{stopped} has several cases, {', '.join(ids)}; name one of them")
    d = DECISIONS.c
    earlier = select(d.repeats).where(d.request == stopped, d.repeats != "").limit(1)
    if not ids and (repeated := connection.execute(earlier).scalar()):
        return _case_of(connection, repeated)
    if not ids:
        raise NotFound(f"there is no case of a blocked request {stopped}; charter conduct queue lists cases")
    return find_case(connection, ids[0])
