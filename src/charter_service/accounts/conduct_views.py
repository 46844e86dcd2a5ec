"""A service's database for the commands of `charter conduct`, and its cases, standings and decisions for a terminal."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection, Engine

from charter.ground.artifact.errors import CharterError
from charter.terminal.tables import console, counted, plain_table
from charter_service.accounts import appeals, cases, standings
from charter_service.accounts.cases import Case, CaseVerdict, Kind, State
from charter_service.accounts.decisions import (
    Decision,
    decisions_of,
    user_mark,
)
from charter_service.accounts.export import (
    Forgotten,
    forget_organisation,
    forget_user,
    freeze_conduct,
    organisation_data,
)
from charter_service.accounts.export import expire as empty_old
from charter_service.accounts.feedback import thumbs_of
from charter_service.accounts.files import clear_beside
from charter_service.accounts.ladder import LEVELS, Level
from charter_service.accounts.organisations import find_organisation, organisation_names
from charter_service.accounts.standings import (
    Change,
    changes_of,
    changes_since,
    kept_ladder,
    outcome_of,
    parts_of,
    settle,
)
from charter_service.accounts.store import open_accounts
from charter_service.web.audit import at_shell, note_act
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound
from charter_service.web.tokens import digest_of

LONG = 60  # characters of a text in a table


@dataclass(frozen=True)
class Wanted:
    """The cases to list."""

    kind: Kind | None = None
    state: State = "open"
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


def print_queue(place: str, wanted: Wanted, as_json: bool) -> None:
    """Prints cases."""
    with opened(place) as engine, reading(engine) as c:
        mine = organisation_of(c, wanted.organisation) if wanted.organisation else ""
        page = cases.queue(c, wanted.kind, wanted.state, mine, wanted.after, wanted.limit, wanted.severity)
        names = organisation_names(c)
    if as_json:
        print_json({"cases": [case.row() for case in page.cases], "after": page.after})
        return
    if not page.cases:
        print("no case waits" if wanted.state == "open" else "there is no such case")
        return
    table = plain_table(
        ("case", "kind", "severity", "organisation", "category", "opened", "verdict", "words")
    )
    for case in page.cases:
        who = names.get(case.organisation, case.organisation)
        verdict = f"{case.verdict} by {case.by}" if case.verdict else ""
        facts = (case.id, case.kind, case.severity or "-", who, case.category, when(case.created))
        add(table, *facts, verdict, _short(case.words))
    console().print(table)
    if page.after:
        print(f"more follow: --after {page.after}")


def close(place: str, id: str, verdict: CaseVerdict, by: str, note: str) -> None:
    """Closes a case, and applies the consequences by the service's rules."""
    with opened(place) as engine, writing(engine) as c:
        settle(c, id, verdict, by, note, kept_ladder(c), time.time())
        note_act(c, at_shell(by), "case.close", id, {"verdict": None}, {"verdict": verdict})


def print_case(place: str, id: str, as_json: bool) -> None:
    """Prints a case, the decisions about its request, and the standing of the account."""
    with opened(place) as engine, reading(engine) as c:
        case = cases.find_case(c, id)
        said = decisions_of(c, case.request, case.organisation) if case.request else []
        standing = standings.newest_of(c, case.organisation)
        name = organisation_names(c).get(case.organisation, case.organisation)
    if as_json:
        level = standing.level if standing else LEVELS[0]
        print_json(
            {"case": case.row(), "decisions": [decision.row() for decision in said], "standing": level}
        )
        return
    for line in _case_lines(case, name, standing):
        print(plain(line))
    if said:
        console().print(_decisions_table(said))


def decide(place: str, organisation: str, user: str, level: Level, by: str, reason: str) -> None:
    """Sets the level of an account, or of one of its end users."""
    with opened(place) as engine, writing(engine) as c:
        account = account_of(c, organisation, user)
        change = standings.decide(c, account, level, by, reason, time.time())
        mine, mark = parts_of(account)
        note_act(c, at_shell(by), "standing.set", mine, after={"level": level, "user": mark})
    print(f"{_whose(organisation, user)} is {change.level} by decision of {change.by}")


def print_standing(place: str, organisation: str, user: str, as_json: bool) -> None:
    """Prints the standing of one organisation, or of one of its end users, or of all that aren't good."""
    with opened(place) as engine, reading(engine) as c:
        names, now, users = organisation_names(c), time.time(), list[Change]()
        if organisation:
            account = account_of(c, organisation, user)
            changes, outcome = changes_of(c, account), outcome_of(c, account, kept_ladder(c), now)
            users = [] if user else standings.users_of(c, account)
        else:
            changes = [change for change in changes_since(c, 0) if change.level != LEVELS[0]]
    if as_json:
        rows, of_users = [change.row() for change in changes], [change.row() for change in users]
        print_json({"changes": rows, "users": of_users, **asdict(outcome)} if organisation else rows)
        return
    if organisation:
        whose = _whose(organisation, user)
        lifts = f"; one level is lifted on {when(outcome.lifts)} if nothing happens" if outcome.lifts else ""
        asks = f"; the rule asks people to make it {outcome.asks}" if outcome.asks else ""
        print(plain(f"{whose} is {outcome.level}: violations weigh {outcome.total:g}{lifts}{asks}"))
    if changes:
        console().print(_changes_table(changes, names))
    elif not organisation:
        print("all accounts are in good standing")
    if users:
        print("its end users that aren't in good standing, by their mark in decisions:")
        console().print(_users_table(users))


def appeal(place: str, organisation: str, user: str, words: str) -> None:
    """Puts an appeal into the queue."""
    with opened(place) as engine, writing(engine) as c:
        mine, mark = parts_of(account_of(c, organisation, user))
        print(appeals.appeal(c, mine, words, time.time(), mark))


def print_decisions(place: str, request: str, as_json: bool) -> None:
    """Prints the decisions about a request, and the thumbs on it. Raises NotFound."""
    with opened(place) as engine, reading(engine) as c:
        decisions, thumbs = decisions_of(c, request), thumbs_of(c, request)
    if not decisions:
        raise NotFound(f"there is no decision about {request}; expected the id of a request, req_...")
    if as_json:
        print_json({"decisions": [decision.row() for decision in decisions], "feedback": thumbs})
        return
    console().print(_decisions_table(decisions))
    for thumb in thumbs:
        print(plain(f"thumb {thumb['thumb']} by {thumb['key']}{': ' * bool(thumb['words'])}{thumb['words']}"))


def print_audit(place: str, as_json: bool) -> None:
    """Prints people's verdicts on the classifiers."""
    with opened(place) as engine, reading(engine) as c:
        audits = cases.audit(c)
    if as_json:
        print_json([asdict(one) for one in audits])
        return
    if not audits:
        print("there are no flags and no upheld reports yet")
        return
    table = plain_table(("category", "upheld", "dismissed", "waiting", "precision", "95 %", "missed"))
    for one in audits:
        share = "-" if one.precision is None else f"{one.precision:.2f}"
        interval = "-" if one.precision is None else f"{one.low:.2f} to {one.high:.2f}"
        add(table, one.category, one.upheld, one.dismissed, one.waiting, share, interval, one.missed)
    console().print(table)


def freeze(place: str, out: Path, content: bool) -> None:
    """Freezes feedback and closed cases."""
    with opened(place) as engine:
        export = freeze_conduct(engine, out, content)
    held = ", ".join(f"{value:g} {name.replace('_', ' ')}" for name, value in export.counts.items())
    print(
        f"{export.folder} ({export.id[:12]}, {'written' if export.new else 'already there, and equal'}): {held}"
    )
    for reason, count in export.left_out.items():
        print(f"  left out: {count} {reason}")


def hand_out(place: str, organisation: str, out: Path) -> None:
    """Writes all data of an organisation, a row a line, to a new file that only its owner can read."""
    with opened(place) as engine, writing(engine) as c:
        note_act(c, at_shell(), "organisation.export", organisation_of(c, organisation))
    with opened(place) as engine, reading(engine) as c:
        id, count = organisation_of(c, organisation), 0
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.fdopen(os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8")
        except FileExistsError:
            raise CharterError(f"{out} exists already; name a new file") from None
        with file:
            for table, row in organisation_data(c, id):
                file.write(json.dumps({"table": table, **row}, ensure_ascii=False) + "\n")
                count += 1
    print(f"{out} has all data of {organisation}: {counted(count, 'rows')}")


def forget(place: str, organisation: str, user: str) -> None:
    """Deletes the texts of an organisation, or of one of its users."""
    with opened(place) as engine:
        with writing(engine) as c:
            id = organisation_of(c, organisation)
            gone = forget_user(c, id, digest_of(user)) if user else forget_organisation(c, id)
            note_act(c, at_shell(), "user.forget" if user else "organisation.forget", id, after=asdict(gone))
        clear_beside(engine)
    print(f"deleted: {_forgotten_words(gone)}; decisions stay; they hold no text")


def expire(place: str, days: float) -> None:
    """Deletes old texts."""
    with opened(place) as engine, writing(engine) as c:
        print(f"emptied: {_forgotten_words(empty_old(c, days, time.time()))}")


def _forgotten_words(gone: Forgotten) -> str:
    feedback = f"{gone.feedback} {'piece' if gone.feedback == 1 else 'pieces'} of feedback"
    batches = f", {gone.batches} {'batch' if gone.batches == 1 else 'batches'}" if gone.batches else ""
    files = f", {gone.files} uploaded {'file' if gone.files == 1 else 'files'}" if gone.files else ""
    return f"{feedback}, the texts of {counted(gone.cases, 'cases')}{batches}{files}"


def _case_lines(case: Case, name: str, standing: Change | None) -> Iterator[str]:
    yield f"{case.id}: {case.kind} of {name}, opened {when(case.created)}"
    yield f"  account   {standing.level if standing else LEVELS[0]}"
    category = f"{case.category} ({case.severity})" if case.severity else case.category
    facts = (("request", case.request), ("category", category), ("user", case.user), ("words", case.words))
    for what, value in facts:
        if value:
            yield f"  {what:9} {value}"
    if case.content:
        yield f"  content   {json.dumps(json.loads(case.content), ensure_ascii=False)}"
    if case.verdict and case.closed is not None:
        note = f": {case.note}" if case.note else ""
        yield f"  {case.verdict} by {case.by}, {when(case.closed)}{note}"


def _decisions_table(decisions: Sequence[Decision]) -> Table:
    table = plain_table(
        ("row", "at", "side", "action", "category", "score", "threshold", "filter", "model", "policy")
    )
    for decision in decisions:
        e = decision.entry
        scores = (f"{e.score:.3f}", f"{e.threshold:.3f}", e.sensitivity) if e.checked else ("-", "-", "-")
        add(
            table,
            decision.number,
            when(e.at),
            f"{e.side}, {e.unscreened} not screened" if e.unscreened else e.side,
            e.said,
            e.category,
            *scores,
            e.model,
            e.policy,
        )
    return table


def _changes_table(changes: Sequence[Change], names: Mapping[str, str]) -> Table:
    table = plain_table(("organisation", "level", "since", "by", "reason"))
    for change in changes:
        who = names.get(change.organisation, change.organisation)
        add(table, who, change.level, when(change.at), change.by, change.reason)
    return table


def _users_table(changes: Sequence[Change]) -> Table:
    table = plain_table(("user", "level", "since", "by", "reason"))
    for change in changes:
        add(table, change.user, change.level, when(change.at), change.by, change.reason)
    return table


def _whose(organisation: str, user: str) -> str:
    return f"the user {user} of {organisation}" if user else organisation


def account_of(connection: Connection, organisation: str, user: str) -> str:
    """An organisation by its name or id, or one of its end users by the organisation's id for it. Raises NotFound."""
    id = organisation_of(connection, organisation)
    return standings.account_of(id, user_mark(id, digest_of(user)) if user else "")


def organisation_of(connection: Connection, name: str) -> str:
    """The id of an organisation, by its name or its id. Raises NotFound."""
    return name if name in organisation_names(connection) else find_organisation(connection, name)


def add(table: Table, *cells: object) -> None:
    """A row of plain text, so that users' text is not read as markup."""
    table.add_row(*(Text(plain(str(cell))) for cell in cells))


def plain(text: str) -> str:
    """A text without control characters for terminals."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONG else line[: LONG - 1] + "…"


def when(at: float) -> str:
    """A time to the minute (UTC)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def print_json(value: Any) -> None:
    """A line of JSON."""
    print(json.dumps(value, ensure_ascii=False))
