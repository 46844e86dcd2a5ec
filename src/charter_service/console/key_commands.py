"""`charter keys`: the keys of a service, their limits and usage."""

from typing import Annotated, Any

import typer

from charter.terminal.options import ACCOUNTS, Database, Json

MOST = 2**31 - 1

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, key_..., as charter keys list shows it.")]
Org = Annotated[str | None, typer.Option("--org", metavar="NAME", help="Only this organisation's.")]


def _at_most(value: int | None) -> int | None:
    """Refuses a number over MOST; as `max` of the option it would fill half of a line of the help."""
    if value is not None and value > MOST:
        raise typer.BadParameter(f"{value} is more than {MOST}, the largest limit")
    return value


def _limit(flag: str, help: str = "0: the service's default.") -> Any:
    return typer.Option(flag, metavar="N", min=0, callback=_at_most, help=help)


Requests = Annotated[int | None, _limit("--requests-per-minute")]
Input = Annotated[int | None, _limit("--input-tokens-per-minute")]
Output = Annotated[int | None, _limit("--output-tokens-per-minute")]
Concurrency = Annotated[int | None, _limit("--concurrency", "Requests at a time; 0: the default.")]


def create(
    org: Annotated[
        str, typer.Option("--org", metavar="NAME", help="Owner of the key; created if it is new.")
    ] = "default",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What the key is for.")] = "key",
    scopes: Annotated[
        str, typer.Option("--scopes", metavar="A,B", help="Some of messages, batches, feedback, admin, weights, tools.")
    ] = "messages,batches,feedback",
    models: Annotated[str, typer.Option("--models", metavar="A,B", help="Models it may use; default: all.")] = "",
    expires_days: Annotated[
        float | None, typer.Option("--expires-days", metavar="N", help="Days until it expires.")
    ] = None,
    requests_per_minute: Requests = None,
    input_tokens_per_minute: Input = None,
    output_tokens_per_minute: Output = None,
    concurrency: Concurrency = None,
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Create a key and show its secret, only this once."""
    limits = (requests_per_minute, input_tokens_per_minute, output_tokens_per_minute, concurrency)
    from charter_service.console import key_terminal

    wanted = key_terminal.Wanted(org, name, _parts(scopes), _parts(models), expires_days, limits)
    key_terminal.create(database, wanted, as_json)


def list_keys(org: Org = None, database: Database = ACCOUNTS, as_json: Json = False) -> None:
    """List all keys, without their secrets."""
    from charter_service.console import key_terminal

    key_terminal.show(database, org, as_json)


def revoke(
    keys: Annotated[list[str], typer.Argument(metavar="KEY_ID...", help="Ids of keys, key_...")],
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Revoke keys for good; a running service applies it within a second."""
    from charter_service.console import key_terminal

    key_terminal.revoke(database, keys, as_json)


def limits(
    key: KeyId,
    requests_per_minute: Requests = None,
    input_tokens_per_minute: Input = None,
    output_tokens_per_minute: Output = None,
    concurrency: Concurrency = None,
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Show a key's limits, or change some; a running service applies them within a second."""
    from charter_service.console import key_terminal

    numbers = (requests_per_minute, input_tokens_per_minute, output_tokens_per_minute, concurrency)
    key_terminal.limits(database, key, numbers, as_json)


def usage(
    org: Org = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY_ID", help="Only this key's.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DAY", help="First day, 2026-11-26 (UTC); default 30 days ago.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="DAY", help="Last day; default today.")] = None,
    database: Database = ACCOUNTS,
    as_json: Json = False,
) -> None:
    """Show requests and tokens by day, key and model."""
    from charter_service.console import key_terminal

    key_terminal.usage(database, org, key, since, until, as_json)


def _parts(words: str) -> tuple[str, ...]:
    return tuple(part for part in (word.strip() for word in words.split(",")) if part)
