"""`charter conduct`: decisions of the acceptable-use policy, the queue of cases, and the standing of accounts."""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from charter.ground.artifact.errors import CharterError
from charter.terminal.options import ACCOUNTS, Database, Json, Yes

CaseKind = Literal["flag", "report", "appeal", "standing"]
CaseState = Literal["open", "closed", "all"]
CaseSeverity = Literal["severe", "high", "medium", "low"]
Step = Literal["good", "warned", "enhanced", "throttled", "suspended"]
Account = Annotated[str, typer.Argument(metavar="ORGANISATION", help="Its name, or its id.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides.")]
User = Annotated[str, typer.Option("--user", metavar="ID", help="One of its end users, by metadata.user_id or user.")]


def queue(
    kind: Annotated[CaseKind | None, typer.Option("--kind", help="Only cases of this kind.")] = None,
    state: Annotated[CaseState, typer.Option("--state", help="Open, closed or all.")] = "open",
    organisation: Annotated[
        str, typer.Option("--organisation", metavar="NAME", help="Only cases of this organisation.")
    ] = "",
    severity: Annotated[CaseSeverity | None, typer.Option("--severity", help="Only cases of this severity.")] = None,
    after: Annotated[str, typer.Option("--after", metavar="CASE", help="Only cases after this one.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many.")] = 50,
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """List cases that wait for a person, by severity and then age."""
    from charter_service.console import conduct_terminal

    wanted = conduct_terminal.Wanted(kind, state, organisation, after, limit, severity or "")
    conduct_terminal.print_queue(database, wanted, as_json)


def case(
    id: Annotated[str, typer.Argument(metavar="CASE", help="The case's id.")],
    uphold: Annotated[bool, typer.Option("--uphold", help="Close it: the flag, report or appeal is right.")] = False,
    dismiss: Annotated[bool, typer.Option("--dismiss", help="Close it: the flag, report or appeal is wrong.")] = False,
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
    from charter_service.console import conduct_terminal

    if uphold and dismiss:
        raise CharterError("a case is either upheld or dismissed; give one of --uphold and --dismiss")
    if (by or note) and not (uphold or dismiss):
        raise CharterError("--by and --note go with a verdict; give --uphold or --dismiss as well")
    if uphold or dismiss:
        conduct_terminal.close(database, id, "upheld" if uphold else "dismissed", by, note)
    conduct_terminal.print_case(database, id, as_json)


def decide(
    organisation: Account,
    level: Annotated[Step, typer.Argument(metavar="LEVEL", help="good, warned, enhanced, throttled or suspended.")],
    by: By,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="The reason, which the account sees.")],
    user: User = "",
    database: Database = ACCOUNTS,
) -> None:
    """Set the level of an account, or of one of its end users.

    The level holds for one clean period, whatever the rule says.
    """
    from charter_service.console import conduct_terminal

    conduct_terminal.decide(database, organisation, user, level, by, reason)


def standing(
    organisation: Annotated[
        str,
        typer.Argument(metavar="[ORGANISATION]", help="Its name or id; default: all accounts not in good standing."),
    ] = "",
    user: User = "",
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Show the level of an account, or of one of its end users, its history, and when a level is lifted."""
    from charter_service.console import conduct_terminal

    if user and not organisation:
        raise CharterError("name the end user's organisation first: standing ORGANISATION --user ID")
    if organisation:
        conduct_terminal.print_standing(database, organisation, user, as_json)
    else:
        conduct_terminal.print_standings(database, as_json)


def appeal(
    organisation: Account,
    words: Annotated[str, typer.Argument(metavar="WORDS", help="The words of the appeal.")],
    user: User = "",
    database: Database = ACCOUNTS,
) -> None:
    """Put an account's appeal into the queue, for example one sent by mail."""
    from charter_service.console import conduct_terminal

    conduct_terminal.appeal(database, organisation, user, words)


Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="The reason, which is stored.")]


def release(
    stopped: Annotated[str, typer.Argument(metavar="CASE", help="The case of a blocked request, or the request's id.")],
    by: By,
    reason: Why,
    hours: Annotated[float, typer.Option("--hours", help="Hours until it expires; at most 720.")] = 72.0,
    database: Database = ACCOUNTS,
) -> None:
    """Let a blocked request pass once: the same conversation, organisation and model."""
    from charter_service.console import conduct_terminal

    conduct_terminal.release(database, stopped, by, reason, hours)


def exempt(
    organisation: Account,
    by: By,
    reason: Why,
    until: Annotated[
        datetime, typer.Option("--until", formats=["%Y-%m-%d"], help="The day (UTC) at whose start it ends.")
    ],
    category: Annotated[
        list[str] | None, typer.Option("--category", metavar="ID", help="Exempt from this category; may be repeated.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Exempt from all categories that aren't severe, and all disclosures.")
    ] = False,
    database: Database = ACCOUNTS,
) -> None:
    """Exempt an organisation from a category until a day: within 366 days, a severe one within 92."""
    from charter_service.console import conduct_terminal

    if bool(category) == everything:
        raise CharterError("give --category ID, or --all for all categories that aren't severe")
    conduct_terminal.exempt(database, organisation, category or [""], until, by, reason)


def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="A release_... or exempt_... of grants.")],
    by: By,
    reason: Why,
    database: Database = ACCOUNTS,
) -> None:
    """Revoke a release or an exemption. A running service applies it within a second."""
    from charter_service.console import conduct_terminal

    conduct_terminal.revoke(database, id, by, reason)


def grants(
    organisation: Annotated[str, typer.Argument(metavar="[ORGANISATION]", help="Its name or id; default: all.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also used, revoked and expired ones.")] = False,
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """List releases and exemptions in force."""
    from charter_service.console import conduct_terminal

    conduct_terminal.print_grants(database, organisation, everything, as_json)


def decisions(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id, req_...")],
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Show all decisions about a request, and the feedback on it."""
    from charter_service.console import conduct_terminal

    conduct_terminal.print_decisions(database, request, as_json)


def audit(database: Database = ACCOUNTS, as_json: Json = False) -> None:
    """Show how often people agreed with the classifiers, by category."""
    from charter_service.console import conduct_terminal

    conduct_terminal.print_audit(database, as_json)


def verify(
    tip: Annotated[
        str, typer.Option("--tip", metavar="NUMBER:AT:CHAIN", help="The tip that an earlier verify printed.")
    ] = "",
    keep_days: Annotated[
        float | None,
        typer.Option("--keep-days", min=1, help="Days that the service keeps the log: keep.decisions_days (183)."),
    ] = None,
    people: Annotated[
        str, typer.Option("--people", metavar="DB", help="Also the audit log in this database of people.")
    ] = "",
    audit_tip: Annotated[
        str, typer.Option("--audit-tip", metavar="NUMBER:CHAIN", help="The audit log's tip that it printed.")
    ] = "",
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Check that nobody has changed the log of decisions, releases and exemptions, or the audit log.

    With a tip it also checks that the log still holds its earlier rows. It fails too if it can't check the tip.
    """
    from charter_service.console import conduct_terminal

    conduct_terminal.verify(database, tip, keep_days, as_json, people, audit_tip)


def export(
    out: Annotated[Path, typer.Option("--out", metavar="PLACE", help="Folder for the artifact, or file.")],
    content: Annotated[bool, typer.Option("--content", help="Include words and contents, if they are stored.")] = False,
    organisation: Annotated[
        str, typer.Option("--organisation", metavar="NAME", help="All data of one organisation, as a file.")
    ] = "",
    database: Database = ACCOUNTS,
) -> None:
    """Freeze feedback and closed cases as an artifact, or export an organisation's data."""
    from charter_service.console import conduct_terminal

    if organisation and content:
        raise CharterError("an organisation's data always includes contents; leave out --content")
    if organisation:
        conduct_terminal.hand_out(database, organisation, out)
    else:
        conduct_terminal.freeze(database, out, content)


def forget(
    organisation: Account,
    user: Annotated[str, typer.Option("--user", metavar="ID", help="Only this user, by metadata.user_id.")] = "",
    yes: Yes = False,
    database: Database = ACCOUNTS,
) -> None:
    """Delete the texts of an organisation or one of its users; decisions, which hold no text, stay."""
    from charter_service.console import conduct_terminal

    whom = f"the user {user} of {organisation}" if user else organisation
    if not yes and not sys.stdin.isatty():
        raise CharterError(f"this deletes all texts of {whom}: confirm with --yes")
    if not yes and not typer.confirm(f"Delete all texts of {whom}? Earlier exports keep their copies."):
        print("nothing was deleted")
        raise typer.Exit(1)
    conduct_terminal.forget(database, organisation, user)


def expire(
    days: Annotated[float, typer.Option("--days", min=0, help="Days after which texts are deleted.")],
    database: Database = ACCOUNTS,
) -> None:
    """Delete words and contents of cases closed long ago."""
    from charter_service.console import conduct_terminal

    conduct_terminal.expire(database, days)


COMMANDS: dict[str, Callable[..., None]] = {
    run.__name__: run
    for run in (
        *(queue, case, decide, standing, appeal),
        *(release, exempt, revoke, grants, decisions),
        *(audit, verify, export, forget, expire),
    )
}
