"""The commands of `charter conduct` on a service's database: cases, standings, decisions, grants, and the check of the
logs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from charter.ground.artifact.errors import CharterError
from charter.terminal.tables import counted
from charter_service.accounts import cases, decisions, export, feedback, files, grants, ladder, organisations, standings
from charter_service.accounts.retention import Keep
from charter_service.accounts.store import open_accounts
from charter_service.console.listing import Listing, Row, named, plain, print_json, short, when
from charter_service.web.audit import at_shell, audit_tip, holds_act, note_act, verify_acts
from charter_service.web.database import open_database, reading, writing
from charter_service.web.refusal import NotFound
from charter_service.web.tokens import digest_of


def _time_of(name: str) -> Callable[[Row], str]:
    return lambda row: when(row[name])


def _owner(row: Row) -> str:
    return str(row["organisation_name"] or row["organisation"])


def _score_of(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:.3f}" if row["checked"] else "-"


def _passes(row: Row) -> str:
    if row["kind"] == grants.RELEASE:
        return f"{row['side']} of {row['request']} ({row['category']})"
    return row["category"] or "all that isn't severe"


CASES = Listing(
    "there is no such case",
    {
        "case": "id",
        "kind": "kind",
        "severity": lambda row: row["severity"] or "-",
        "organisation": _owner,
        "category": "category",
        "opened": _time_of("created"),
        "verdict": lambda row: f"{row['verdict']} by {row['by']}" if row["verdict"] else "",
        "words": lambda row: short(row["words"]),
    },
)
DECISIONS = Listing(
    "there is no decision",
    {
        "row": "number",
        "at": _time_of("at"),
        "side": lambda row: f"{row['side']}, {row['unscreened']} not screened" if row["unscreened"] else row["side"],
        "action": "said",
        "category": "category",
        "score": _score_of("score"),
        "threshold": _score_of("threshold"),
        "filter": lambda row: row["sensitivity"] if row["checked"] else "-",
        "model": "model",
        "policy": "policy",
    },
)
_CHANGE: dict[str, Any] = {"level": "level", "since": _time_of("at"), "by": "by", "reason": "reason"}
CHANGES = Listing("all accounts are in good standing", {"organisation": _owner, **_CHANGE})
USERS = Listing("", {"user": "user", **_CHANGE})
GRANTS = Listing(
    "no release or exemption is in force",
    {
        "id": "id",
        "organisation": _owner,
        "lets pass": _passes,
        "state": "state",
        "until": _time_of("until"),
        "by": "by",
        "reason": "reason",
    },
)
AUDIT = Listing(
    "there are no flags and no upheld reports yet",
    {
        "category": "category",
        "upheld": "upheld",
        "dismissed": "dismissed",
        "waiting": "waiting",
        "precision": lambda row: "-" if row["precision"] is None else f"{row['precision']:.2f}",
        "95 %": lambda row: "-" if row["precision"] is None else f"{row['low']:.2f} to {row['high']:.2f}",
        "missed": "missed",
    },
)


@dataclass(frozen=True)
class Wanted:
    """The cases to list."""

    kind: cases.Kind | None = None
    state: cases.State = "open"
    organisation: str = ""
    after: str = ""
    limit: int = 50
    severity: str = ""


@contextmanager
def opened(place: str) -> Iterator[Engine]:
    """A service's database. Raises CharterError if there is none."""
    engine = open_accounts(place, new=False)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _read(place: str) -> Iterator[Connection]:
    with opened(place) as engine, reading(engine) as connection:
        yield connection


@contextmanager
def _write(place: str) -> Iterator[Connection]:
    with opened(place) as engine, writing(engine) as connection:
        yield connection


def print_queue(place: str, wanted: Wanted, as_json: bool) -> None:
    """Prints cases."""
    with _read(place) as c:
        owner = organisation_of(c, wanted.organisation) if wanted.organisation else ""
        page = cases.queue(c, wanted.kind, wanted.state, owner, wanted.after, wanted.limit, wanted.severity)
        names = organisations.organisation_names(c)
    if as_json:
        print_json({"cases": [case.row() for case in page.cases], "after": page.after})
    elif not page.cases and wanted.state == "open":
        print("no case waits")
    else:
        CASES.show([named(case.row(), names) for case in page.cases])
        if page.after:
            print(f"more follow: --after {page.after}")


def close(place: str, id: str, verdict: cases.CaseVerdict, by: str, note: str) -> None:
    """Closes a case, and applies the consequences by the service's rules."""
    with _write(place) as c:
        standings.settle(c, id, verdict, by, note, standings.kept_ladder(c), time.time())
        note_act(c, at_shell(by), "case.close", id, {"verdict": None}, {"verdict": verdict})


def print_case(place: str, id: str, as_json: bool) -> None:
    """Prints a case, the decisions about its request, and the standing of the account."""
    with _read(place) as c:
        case = cases.find_case(c, id)
        logged = decisions.decisions_of(c, case.request, case.organisation) if case.request else []
        newest = standings.newest_of(c, case.organisation)
        name = organisations.organisation_names(c).get(case.organisation, case.organisation)
    level = newest.level if newest else ladder.LEVELS[0]
    if as_json:
        rows = [decision.row() for decision in logged]
        print_json({"case": case.row(), "decisions": rows, "standing": level})
        return
    for line in _case_lines(case, name, level):
        print(plain(line))
    if logged:
        DECISIONS.show(_decided(logged))


def _case_lines(case: cases.Case, name: str, level: ladder.Level) -> Iterator[str]:
    yield f"{case.id}: {case.kind} of {name}, opened {when(case.created)}"
    yield f"  account   {level}"
    category = f"{case.category} ({case.severity})" if case.severity else case.category
    facts = (("request", case.request), ("category", category), ("user", case.user), ("words", case.words))
    for label, value in facts:
        if value:
            yield f"  {label:9} {value}"
    if case.content:
        yield f"  content   {json.dumps(json.loads(case.content), ensure_ascii=False)}"
    if case.verdict and case.closed is not None:
        note = f": {case.note}" if case.note else ""
        yield f"  {case.verdict} by {case.by}, {when(case.closed)}{note}"


def _decided(rows: Sequence[decisions.Decision]) -> list[dict[str, Any]]:
    return [{**d.row(), "checked": d.entry.checked, "said": d.entry.said} for d in rows]


def decide(place: str, organisation: str, user: str, level: ladder.Level, by: str, reason: str) -> None:
    """Sets the level of an account, or of one of its end users."""
    with _write(place) as c:
        account = account_of(c, organisation, user)
        change = standings.decide(c, account, level, by, reason, time.time())
        owner, mark = standings.parts_of(account)
        note_act(c, at_shell(by), "standing.set", owner, after={"level": level, "user": mark})
    print(f"{_whose(organisation, user)} is {change.level} by decision of {change.by}")


def print_standings(place: str, as_json: bool) -> None:
    """Prints the newest change of each account that isn't in good standing."""
    with _read(place) as c:
        names = organisations.organisation_names(c)
        changes = [change.row() for change in standings.changes_since(c, 0) if change.level != ladder.LEVELS[0]]
    if as_json:
        print_json(changes)
    else:
        CHANGES.show([named(row, names) for row in changes])


def print_standing(place: str, organisation: str, user: str, as_json: bool) -> None:
    """Prints the standing of one organisation, or of one of its end users."""
    with _read(place) as c:
        names, users, account = (
            organisations.organisation_names(c),
            list[standings.Change](),
            account_of(c, organisation, user),
        )
        changes = [change.row() for change in standings.changes_of(c, account)]
        outcome = standings.outcome_of(c, account, standings.kept_ladder(c), time.time())
        users = [] if user else standings.users_of(c, account)
    of_users = [change.row() for change in users]
    if as_json:
        print_json({"changes": changes, "users": of_users, **asdict(outcome)})
        return
    lifts = f"; one level is lifted on {when(outcome.lifts)} if nothing happens" if outcome.lifts else ""
    asks = f"; the rule asks people to make it {outcome.asks}" if outcome.asks else ""
    whose = _whose(organisation, user)
    print(plain(f"{whose} is {outcome.level}: violations weigh {outcome.total:g}{lifts}{asks}"))
    if changes:
        CHANGES.show([named(row, names) for row in changes])
    if of_users:
        print("its end users that aren't in good standing, by their mark in decisions:")
        USERS.show(of_users)


def appeal(place: str, organisation: str, user: str, words: str) -> None:
    """Puts an appeal into the queue."""
    with _write(place) as c:
        owner, mark = standings.parts_of(account_of(c, organisation, user))
        print(cases.appeal(c, owner, words, time.time(), mark))


def release(place: str, stopped: str, by: str, reason: str, hours: float) -> None:
    """Lets a blocked request pass once."""
    with _write(place) as c:
        grant = grants.release(c, stopped, by, reason, time.time(), hours)
        note_act(c, at_shell(by), "grant.release", stopped, after={"hours": hours})
    print(f"{grant.id}: the same {grant.side} passes once until {when(grant.until)} (UTC), by decision of {grant.by}")


def exempt(place: str, organisation: str, categories: Sequence[str], until: datetime, by: str, reason: str) -> None:
    """Exempts an organisation from categories, from all of them or none."""
    end = until.replace(tzinfo=UTC).timestamp()
    with _write(place) as c:
        owner, rules, now = organisation_of(c, organisation), standings.kept_ladder(c), time.time()
        requested = [grants.exemption(owner, category, end, by, reason, now) for category in categories]
        exemptions = [grants.exempt(c, grant, rules) for grant in requested]
        after = {"category": ", ".join(categories)[:1000], "until": until.date().isoformat()}
        note_act(c, at_shell(by), "grant.exempt", owner, after=after)
    for exemption in exemptions:
        scope = exemption.category or "all that isn't severe"
        print(f"{exemption.id}: {organisation} is exempt from {scope} until {when(exemption.until)} (UTC)")


def revoke(place: str, id: str, by: str, reason: str) -> None:
    """Revokes a grant."""
    with _write(place) as c:
        ended = grants.revoke(c, id, by, reason, time.time())
        note_act(c, at_shell(by), "grant.revoke", id)
    print(f"{ended.id} was revoked by {ended.revoked_by}")


def print_grants(place: str, organisation: str, everything: bool, as_json: bool) -> None:
    """Prints releases and exemptions."""
    now = time.time()
    with _read(place) as c:
        owner, names = (organisation_of(c, organisation) if organisation else "", organisations.organisation_names(c))
        rows = [
            grant.row() | {"state": grant.state(now)}
            for grant in grants.grants_of(c, owner, None if everything else now)
        ]
    if as_json:
        print_json(rows)
    elif everything and not rows:
        print("there are no releases or exemptions")
    else:
        GRANTS.show([named(row, names) for row in rows])


def print_decisions(place: str, request: str, as_json: bool) -> None:
    """Prints the decisions about a request, and the thumbs on it. Raises NotFound."""
    with _read(place) as c:
        stored, thumbs = decisions.decisions_of(c, request), feedback.thumbs_of(c, request)
    if not stored:
        raise NotFound(f"there is no decision about {request}; expected the id of a request, req_...")
    if as_json:
        print_json({"decisions": [decision.row() for decision in stored], "feedback": thumbs})
        return
    DECISIONS.show(_decided(stored))
    for thumb in thumbs:
        print(plain(f"thumb {thumb['thumb']} by {thumb['key']}{': ' * bool(thumb['words'])}{thumb['words']}"))


def print_audit(place: str, as_json: bool) -> None:
    """Prints people's verdicts on the classifiers."""
    with _read(place) as c:
        rows = [asdict(verdicts) for verdicts in cases.audit(c)]
    if as_json:
        print_json(rows)
    else:
        AUDIT.show(rows)


def freeze(place: str, out: Path, content: bool) -> None:
    """Freezes feedback and closed cases."""
    with opened(place) as engine:
        frozen = export.freeze_conduct(engine, out, content)
    counts = ", ".join(f"{value:g} {name.replace('_', ' ')}" for name, value in frozen.counts.items())
    print(f"{frozen.folder} ({frozen.id[:12]}, {'written' if frozen.new else 'already there, and equal'}): {counts}")
    for reason, count in frozen.left_out.items():
        print(f"  left out: {count} {reason}")


def hand_out(place: str, organisation: str, out: Path) -> None:
    """Writes all data of an organisation, a row a line, to a new file that only its owner can read."""
    with _write(place) as c:
        note_act(c, at_shell(), "organisation.export", organisation_of(c, organisation))
    with _read(place) as c:
        id, count = organisation_of(c, organisation), 0
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.fdopen(os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8")
        except FileExistsError:
            raise CharterError(f"{out} exists already; name a new file") from None
        with file:
            for table, row in export.organisation_data(c, id):
                file.write(json.dumps({"table": table, **row}, ensure_ascii=False) + "\n")
                count += 1
    print(f"{out} has all data of {organisation}: {counted(count, 'rows')}")


def forget(place: str, organisation: str, user: str) -> None:
    """Deletes the texts of an organisation, or of one of its users."""
    with opened(place) as engine:
        with writing(engine) as c:
            id = organisation_of(c, organisation)
            counts = export.forget_user(c, id, digest_of(user)) if user else export.forget_organisation(c, id)
            note_act(c, at_shell(), "user.forget" if user else "organisation.forget", id, after=asdict(counts))
        files.clear_beside(engine)
    print(f"deleted: {_forgotten_words(counts)}; decisions stay; they hold no text")


def expire(place: str, days: float) -> None:
    """Deletes old texts."""
    with _write(place) as c:
        print(f"emptied: {_forgotten_words(export.expire(c, days, time.time()))}")


def _forgotten_words(forgotten: export.Forgotten) -> str:
    feedback = f"{counted(forgotten.feedback, 'pieces')} of feedback"
    batches = f", {forgotten.batches} {'batch' if forgotten.batches == 1 else 'batches'}" if forgotten.batches else ""
    files = f", {forgotten.files} uploaded {'file' if forgotten.files == 1 else 'files'}" if forgotten.files else ""
    return f"{feedback}, the texts of {counted(forgotten.cases, 'cases')}{batches}{files}"


def _whose(organisation: str, user: str) -> str:
    return f"the user {user} of {organisation}" if user else organisation


def account_of(connection: Connection, organisation: str, user: str) -> str:
    """An organisation by its name or id, or one of its end users by the organisation's id for it. Raises NotFound."""
    id = organisation_of(connection, organisation)
    return standings.account_of(id, decisions.user_mark(id, digest_of(user)) if user else "")


def organisation_of(connection: Connection, name: str) -> str:
    """The id of an organisation, by its name or its id. Raises NotFound."""
    return (
        name
        if name in organisations.organisation_names(connection)
        else organisations.find_organisation(connection, name)
    )


def verify(
    place: str, known: str, keep_days: float | None, as_json: bool, people: str = "", known_act: str = ""
) -> None:
    """Checks the chains of the log of decisions and of the audit log; with `people` also of the audit log in the
    people's database. Raises CharterError if one is broken, if rows are missing that are too young to be removed, and
    if a tip can't be checked."""
    days = Keep().decisions_days if keep_days is None else keep_days
    before, tip = time.time() - days * ladder.DAY, decisions.parse_tip(known) if known else None
    with _read(place) as c:
        broken, newest, (removed, _) = decisions.verify_chain(c), decisions.told_tip(c), decisions.anchor(c)
        changed, young = grants.verify_grants(c, before), decisions.removed_young(c, tip, before)
        tip_held = decisions.holds(c, tip.number, tip.chain) if tip else True
        act = _checked_acts(c, "the audit log", known_act)
    if broken is not None:
        raise CharterError(
            f"the log of decisions is broken at row {broken}: it was changed, or rows before it are gone"
        )
    if young:
        raise CharterError(
            f"younger than {days:g} days and removed from the log of decisions: {young}; where the service keeps it "
            "for fewer days (keep.decisions_days), give --keep-days"
        )
    if changed is not None:
        raise CharterError(f"{changed} differs from the log of decisions: a release or exemption was changed")
    if tip_held is False:
        raise CharterError(f"the log no longer holds {known}: its end was cut off, or the whole log was rewritten")
    if tip_held is None:
        raise CharterError(
            f"can't check whether the log held {known}: its row was removed for its age; keep a newer tip"
        )
    act_of_people = _check_people(people) if people else None
    if as_json:
        facts = {"whole": True, "rows_to": newest.number, "removed_to": removed, "tip": str(newest)}
        facts |= {"audit_tip": act, "people_audit_tip": act_of_people}
        print_json({**facts, "tip_held": tip_held} if known else facts)
    else:
        if removed:
            print(f"rows up to {removed} were removed for their age; their digest remains")
        print(f"the log is intact; keep this tip elsewhere and pass it to --tip later: {newest}")
        print(f"the audit log is intact; keep this tip elsewhere and pass it to --audit-tip later: {act}")
        if act_of_people is not None:
            print(f"the audit log of {people} is intact; its tip: {act_of_people}")


def _checked_acts(connection: Connection, name: str, known: str = "") -> str:
    """The tip of an audit log that is intact. Raises CharterError."""
    if (broken := verify_acts(connection)) is not None:
        raise CharterError(f"{name} is broken at row {broken}: it was changed, or rows before it are gone")
    if known and not holds_act(connection, known):
        raise CharterError(f"{name} no longer holds {known}: its end was cut off, or it was rewritten")
    return audit_tip(connection)


def _check_people(place: str) -> str:
    engine = open_database(place, None, new=False)
    try:
        with reading(engine) as connection:
            return _checked_acts(connection, f"the audit log of {place}")
    finally:
        engine.dispose()
