"""`charter conduct`: decisions of the acceptable-use policy, the queue of cases, and the standing of accounts."""

import sys
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from charter.ground.artifact.errors import CharterError
from charter.terminal.options import ACCOUNTS, Database, Json, Yes


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


class CaseSeverity(StrEnum):
    """How much harm is at stake."""

    severe = "severe"
    high = "high"
    medium = "medium"
    low = "low"


class Step(StrEnum):
    """A step of the ladder."""

    good = "good"
    warned = "warned"
    enhanced = "enhanced"
    throttled = "throttled"
    suspended = "suspended"


Account = Annotated[str, typer.Argument(metavar="ORGANISATION", help="Its name, or its id.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides.")]
User = Annotated[
    str, typer.Option("--user", metavar="ID", help="One of its end users, by metadata.user_id or user.")
]


def queue(
    kind: Annotated[CaseKind | None, typer.Option("--kind", help="Only cases of this kind.")] = None,
    state: Annotated[CaseState, typer.Option("--state", help="Open, closed or all.")] = CaseState.open,
    organisation: Annotated[
        str, typer.Option("--organisation", metavar="NAME", help="Only cases of this organisation.")
    ] = "",
    severity: Annotated[
        CaseSeverity | None, typer.Option("--severity", help="Only cases of this severity.")
    ] = None,
    after: Annotated[str, typer.Option("--after", metavar="CASE", help="Only cases after this one.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 50,
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """List cases that wait for a person, by severity and then age."""
    from charter_service.accounts import conduct_views

    wanted = conduct_views.Wanted(
        kind.value if kind else None,
        state.value,
        organisation,
        after,
        limit,
        severity.value if severity else "",
    )
    conduct_views.print_queue(database, wanted, as_json)


def case(
    id: Annotated[str, typer.Argument(metavar="CASE", help="The case's id.")],
    uphold: Annotated[
        bool, typer.Option("--uphold", help="Close it: the flag, report or appeal is right.")
    ] = False,
    dismiss: Annotated[
        bool, typer.Option("--dismiss", help="Close it: the flag, report or appeal is wrong.")
    ] = False,
    by: By = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why.")] = "",
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Show a case with the decisions about its request, or close it.

    An upheld flag weighs more on the ladder, a dismissed one nothing. An upheld appeal restores the account; that of
    a stopped request dismisses its flags, and the request may be sent once more. An upheld case of kind standing
    applies the level that the rule asks for.
    """
    from charter_service.accounts import conduct_views

    if uphold and dismiss:
        raise CharterError("a case is either upheld or dismissed; give one of --uphold and --dismiss")
    if (by or note) and not (uphold or dismiss):
        raise CharterError("--by and --note go with a verdict; give --uphold or --dismiss as well")
    if uphold or dismiss:
        conduct_views.close(database, id, "upheld" if uphold else "dismissed", by, note)
    conduct_views.print_case(database, id, as_json)


def decide(
    organisation: Account,
    level: Annotated[
        Step, typer.Argument(metavar="LEVEL", help="good, warned, enhanced, throttled or suspended.")
    ],
    by: By,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="The reason, which the account sees.")
    ],
    user: User = "",
    database: Database = ACCOUNTS,
) -> None:
    """Set the level of an account, or of one of its end users.

    The level holds for one clean period, whatever the rule says.
    """
    from charter_service.accounts import conduct_views

    conduct_views.decide(database, organisation, user, level.value, by, reason)


def standing(
    organisation: Annotated[
        str,
        typer.Argument(
            metavar="[ORGANISATION]", help="Its name or id; default: all accounts not in good standing."
        ),
    ] = "",
    user: User = "",
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Show the level of an account, or of one of its end users, its history, and when a level is lifted."""
    from charter_service.accounts import conduct_views

    if user and not organisation:
        raise CharterError("name the end user's organisation first: standing ORGANISATION --user ID")
    conduct_views.print_standing(database, organisation, user, as_json)


def appeal(
    organisation: Account,
    words: Annotated[str, typer.Argument(metavar="WORDS", help="The words of the appeal.")],
    user: User = "",
    database: Database = ACCOUNTS,
) -> None:
    """Put an account's appeal into the queue, for example one sent by mail."""
    from charter_service.accounts import conduct_views

    conduct_views.appeal(database, organisation, user, words)


Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="The reason, which is stored.")]


def release(
    stopped: Annotated[
        str, typer.Argument(metavar="CASE", help="The case of a blocked request, or the request's id.")
    ],
    by: By,
    reason: Why,
    hours: Annotated[float, typer.Option("--hours", help="Hours until it expires; at most 720.")] = 72.0,
    database: Database = ACCOUNTS,
) -> None:
    """Let a blocked request pass once: the same conversation, organisation and model."""
    from charter_service.accounts import grant_views

    grant_views.release(database, stopped, by, reason, hours)


def exempt(
    organisation: Account,
    by: By,
    reason: Why,
    until: Annotated[
        datetime, typer.Option("--until", formats=["%Y-%m-%d"], help="The day (UTC) at whose start it ends.")
    ],
    category: Annotated[
        list[str] | None,
        typer.Option("--category", metavar="ID", help="Exempt from this category; may be repeated."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Exempt from all categories that aren't severe, and all disclosures."),
    ] = False,
    database: Database = ACCOUNTS,
) -> None:
    """Exempt an organisation from a category until a day: within 366 days, a severe one within 92."""
    from charter_service.accounts import grant_views

    if bool(category) == everything:
        raise CharterError("give --category ID, or --all for all categories that aren't severe")
    grant_views.exempt(database, organisation, category or [""], until, by, reason)


def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="A release_... or exempt_... of grants.")],
    by: By,
    reason: Why,
    database: Database = ACCOUNTS,
) -> None:
    """Revoke a release or an exemption. A running service applies it within a second."""
    from charter_service.accounts import grant_views

    grant_views.revoke(database, id, by, reason)


def grants(
    organisation: Annotated[
        str, typer.Argument(metavar="[ORGANISATION]", help="Its name or id; default: all.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also used, revoked and expired ones.")] = False,
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """List releases and exemptions in force."""
    from charter_service.accounts import grant_views

    grant_views.print_grants(database, organisation, everything, as_json)


def decisions(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id, req_...")],
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Show all decisions about a request, and the feedback on it."""
    from charter_service.accounts import conduct_views

    conduct_views.print_decisions(database, request, as_json)


def audit(database: Database = ACCOUNTS, as_json: Json = False) -> None:
    """Show how often people agreed with the classifiers, by category."""
    from charter_service.accounts import conduct_views

    conduct_views.print_audit(database, as_json)


def verify(
    tip: Annotated[
        str, typer.Option("--tip", metavar="NUMBER:AT:CHAIN", help="The tip that an earlier verify printed.")
    ] = "",
    keep_days: Annotated[
        float | None,
        typer.Option(
            "--keep-days", min=1, help="Days that the service keeps the log: keep.decisions_days (183)."
        ),
    ] = None,
    people: Annotated[
        str, typer.Option("--people", metavar="DB", help="Also the audit log in this database of people.")
    ] = "",
    audit_tip: Annotated[
        str,
        typer.Option("--audit-tip", metavar="NUMBER:CHAIN", help="The audit log's tip that it printed."),
    ] = "",
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Check that nobody has changed the log of decisions, releases and exemptions, or the audit log.

    With a tip it also checks that the log still holds its earlier rows. It fails too if it can't check the tip.
    """
    from charter_service.accounts import log_views

    log_views.verify(database, tip, keep_days, as_json, people, audit_tip)


def export(
    out: Annotated[Path, typer.Option("--out", metavar="PLACE", help="Folder for the artifact, or file.")],
    content: Annotated[
        bool, typer.Option("--content", help="Include words and contents, if they are stored.")
    ] = False,
    organisation: Annotated[
        str,
        typer.Option("--organisation", metavar="NAME", help="All data of one organisation, as a file."),
    ] = "",
    database: Database = ACCOUNTS,
) -> None:
    """Freeze feedback and closed cases as an artifact, or export an organisation's data."""
    from charter_service.accounts import conduct_views

    if organisation and content:
        raise CharterError("an organisation's data always includes contents; leave out --content")
    if organisation:
        conduct_views.hand_out(database, organisation, out)
    else:
        conduct_views.freeze(database, out, content)


def forget(
    organisation: Account,
    user: Annotated[
        str, typer.Option("--user", metavar="ID", help="Only this user, by metadata.user_id.")
    ] = "",
    yes: Yes = False,
    database: Database = ACCOUNTS,
) -> None:
    """Delete the texts of an organisation or one of its users; decisions, which hold no text, stay."""
    from charter_service.accounts import conduct_views

    whom = f"the user {user} of {organisation}" if user else organisation
    if not yes and not sys.stdin.isatty():
        raise CharterError(f"this deletes all texts of {whom}: confirm with --yes")
    if not yes and not typer.confirm(f"Delete all texts of {whom}? Earlier exports keep their copies."):
        print("nothing was deleted")
        raise typer.Exit(1)
    conduct_views.forget(database, organisation, user)


def expire(
    days: Annotated[float, typer.Option("--days", min=0, help="Days after which texts are deleted.")],
    database: Database = ACCOUNTS,
) -> None:
    """Delete words and contents of cases closed long ago."""
    from charter_service.accounts import conduct_views

    conduct_views.expire(database, days)


COMMANDS: dict[str, Callable[..., None]] = {
    "queue": queue,
    "case": case,
    "decide": decide,
    "standing": standing,
    "appeal": appeal,
    "release": release,
    "exempt": exempt,
    "revoke": revoke,
    "grants": grants,
    "decisions": decisions,
    "audit": audit,
    "verify": verify,
    "export": export,
    "forget": forget,
    "expire": expire,
}
