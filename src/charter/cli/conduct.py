"""`charter conduct`: what the acceptable-use policy decided, the queue of people, and where accounts stand."""

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from charter.cli.options import ACCOUNTS, Database, Json, Yes
from charter.ground.artifact.errors import CharterError
from charter.runner.rooms import load_module

VIEWS = "charter.cli.conduct_views"  # loaded when it is used: it needs the database


class CaseKind(StrEnum):
    """What a case is about."""

    flag = "flag"
    report = "report"
    appeal = "appeal"
    standing = "standing"


class CaseState(StrEnum):
    """Whether people have decided it."""

    open = "open"
    closed = "closed"
    all = "all"


class Step(StrEnum):
    """A step of the ladder."""

    good = "good"
    warned = "warned"
    enhanced = "enhanced"
    throttled = "throttled"
    suspended = "suspended"


Account = Annotated[str, typer.Argument(metavar="ORGANISATION", help="Its name, or its id.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides.")]


def queue(
    kind: Annotated[CaseKind | None, typer.Option("--kind", help="Cases of one kind alone.")] = None,
    state: Annotated[CaseState, typer.Option("--state", help="Open, closed or all.")] = CaseState.open,
    organisation: Annotated[
        str, typer.Option("--organisation", metavar="NAME", help="Of one organisation alone.")
    ] = "",
    after: Annotated[str, typer.Option("--after", metavar="CASE", help="Those that follow a case.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 50,
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """List cases that wait for a person, the oldest first."""
    views = load_module(VIEWS)
    wanted = views.Wanted(kind.value if kind else None, state.value, organisation, after, limit)
    views.told_queue(database, wanted, as_json)


def case(
    id: Annotated[str, typer.Argument(metavar="CASE", help="The case's id.")],
    uphold: Annotated[bool, typer.Option("--uphold", help="Close it: it is as was said.")] = False,
    dismiss: Annotated[bool, typer.Option("--dismiss", help="Close it: it is not.")] = False,
    by: By = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why.")] = "",
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Show a case with what was decided about its request, or close it.

    An upheld flag weighs more on the ladder, a dismissed one nothing. An upheld appeal restores the account. An upheld
    case of kind standing makes the rise that the rule asks for.
    """
    if uphold and dismiss:
        raise CharterError("a case is upheld or dismissed; give one of --uphold and --dismiss")
    if (by or note) and not (uphold or dismiss):
        raise CharterError("--by and --note go with a verdict; give --uphold or --dismiss as well")
    views = load_module(VIEWS)
    if uphold or dismiss:
        views.close(database, id, "upheld" if uphold else "dismissed", by, note)
    views.told_case(database, id, as_json)


def decide(
    organisation: Account,
    level: Annotated[
        Step, typer.Argument(metavar="LEVEL", help="good, warned, enhanced, throttled or suspended.")
    ],
    by: By,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the account is told.")],
    database: Database = ACCOUNTS,
) -> None:
    """Set where an account stands. It stays so for a clean period, whatever the rule would do."""
    load_module(VIEWS).decided(database, organisation, level.value, by, reason)


def standing(
    organisation: Annotated[
        str, typer.Argument(metavar="[ORGANISATION]", help="Its name, or its id; else all that aren't good.")
    ] = "",
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Show where an account stands, how it came there and when a level is lifted."""
    load_module(VIEWS).told_standing(database, organisation, as_json)


def appeal(
    organisation: Account,
    words: Annotated[str, typer.Argument(metavar="WORDS", help="What the account says.")],
    database: Database = ACCOUNTS,
) -> None:
    """Put an account's appeal into the queue, such as one that came by mail."""
    load_module(VIEWS).appealed(database, organisation, words)


def decisions(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id, req_...")],
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Show all that was decided about a request, and what was said of it."""
    load_module(VIEWS).told_decisions(database, request, as_json)


def audit(database: Database = ACCOUNTS, as_json: Json = False) -> None:
    """Say how often people agreed with the classifiers, by category."""
    load_module(VIEWS).told_audit(database, as_json)


def verify(
    tip: Annotated[
        str, typer.Option("--tip", metavar="NUMBER:CHAIN", help="What an earlier verify printed.")
    ] = "",
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Check that nobody changed the log of decisions; with a tip also that it holds what it held then."""
    load_module(VIEWS).verified(database, tip, as_json)


def export(
    out: Annotated[Path, typer.Option("--out", metavar="PLACE", help="The artifact's folder, or the file.")],
    content: Annotated[
        bool, typer.Option("--content", help="With words and contents, where they are kept.")
    ] = False,
    organisation: Annotated[
        str,
        typer.Option(
            "--organisation", metavar="NAME", help="All that is kept of one organisation, as a file."
        ),
    ] = "",
    database: Database = ACCOUNTS,
) -> None:
    """Freeze feedback and closed cases as an artifact, or hand an organisation its data."""
    if organisation and content:
        raise CharterError("an organisation's data is whole anyway; leave out --content")
    views = load_module(VIEWS)
    if organisation:
        views.handed_out(database, organisation, out)
    else:
        views.frozen(database, out, content)


def forget(
    organisation: Account,
    user: Annotated[
        str, typer.Option("--user", metavar="ID", help="One user alone, by metadata.user_id.")
    ] = "",
    yes: Yes = False,
    database: Database = ACCOUNTS,
) -> None:
    """Delete what an organisation or one of its users wrote; decisions, which hold no words, stay."""
    whom = f"the user {user} of {organisation}" if user else organisation
    if not yes and not sys.stdin.isatty():
        raise CharterError(f"what {whom} wrote is deleted only when you are sure: give --yes")
    if not yes and not typer.confirm(f"Delete what {whom} wrote? Exports made before keep their copies."):
        print("nothing was deleted")
        raise typer.Exit(1)
    load_module(VIEWS).forgotten(database, organisation, user)


def expire(
    days: Annotated[float, typer.Option("--days", min=0, help="Days after which words go.")],
    database: Database = ACCOUNTS,
) -> None:
    """Empty words and contents of what was closed long ago."""
    load_module(VIEWS).expired(database, days)


COMMANDS: dict[str, Callable[..., None]] = {
    "queue": queue,
    "case": case,
    "decide": decide,
    "standing": standing,
    "appeal": appeal,
    "decisions": decisions,
    "audit": audit,
    "verify": verify,
    "export": export,
    "forget": forget,
    "expire": expire,
}
