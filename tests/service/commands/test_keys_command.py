"""`charter keys`: create, list, limit, revoke and count; it prints the secret once, and errors are one line."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from charter_service.accounts.keys import find_caller
from charter_service.accounts.store import open_accounts
from charter_service.accounts.usage import Counts, Meter
from charter_service.web.database import reading

Charter = Callable[..., tuple[int, str, str]]


def create_key(charter: Charter, *words: object) -> dict[str, Any]:
    code, out, err = charter("keys", "create", "--json", *words)
    assert (code, err) == (0, "")
    key: dict[str, Any] = json.loads(out)
    return key


def run_json(charter: Charter, *words: object) -> Any:
    code, out, err = charter("keys", *words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_key_is_made_and_opens_what_it_may(charter: Charter, tmp_path: Path) -> None:
    words = ("keys", "create", "--org", "acme", "--name", "ci", "--models", "tiny, small")
    code, out, err = charter(*words)
    assert code == 0 and err.endswith(f"opens a service started with --database {tmp_path / 'serve.sqlite'}\n")
    assert charter(*words)[2] == "", "the second key goes to the database that is there"
    line, secret = out.splitlines()
    assert "of acme may use messages, batches, feedback for good; its secret, shown only once:" in line
    engine = open_accounts("serve.sqlite", tmp_path, new=False)
    with reading(engine) as c:
        caller = find_caller(c, secret)
    engine.dispose()
    assert caller.name == "ci" and caller.models == ("tiny", "small") and caller.key in line


def test_the_secret_is_shown_once(charter: Charter, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = create_key(charter, "--org", "acme")
    body = key["secret"].removeprefix("sk-charter-")
    for words in (("list",), ("list", "--json"), ("limits", key["id"]), ("usage",), ("revoke", key["id"])):
        code, out, err = charter("keys", *words)
        assert code == 0 and body not in out + err
    assert body not in caplog.text
    assert all(body.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_lists_show_states_and_are_whole_in_a_pipe(charter: Charter) -> None:
    first = create_key(charter, "--org", "acme", "--name", "[red]ci[/red]", "--expires-days", "2", "--scopes", "admin")
    second = create_key(charter, "--org", "other")
    assert first["scopes"] == ["admin"] and first["expires"] > first["created"] and second["expires"] is None
    run_json(charter, "revoke", second["id"])
    rows = run_json(charter, "list")
    assert [(row["id"], row["state"], row["organisation"]["name"]) for row in rows] == [
        (first["id"], "usable", "acme"),
        (second["id"], "revoked", "other"),
    ]
    assert [row["id"] for row in run_json(charter, "list", "--org", "other")] == [second["id"]]
    _, out, _ = charter("keys", "list")
    assert all(row["id"] in out and row["hint"] in out for row in rows) and "[red]ci[/red]" in out


def test_limits_are_shown_and_changed_one_by_one(charter: Charter) -> None:
    key = create_key(charter, "--requests-per-minute", 60, "--concurrency", 2)["id"]
    changed = run_json(charter, "limits", key, "--output-tokens-per-minute", 900, "--concurrency", 0)
    assert changed == {
        "id": key,
        "requests_per_minute": 60,
        "input_tokens_per_minute": 0,
        "output_tokens_per_minute": 900,
        "concurrency": 0,
    }
    _, out, _ = charter("keys", "limits", key)
    assert "requests per minute: 60\n" in out and "concurrency: the default of the service" in out


def test_usage_is_shown_by_day_and_added_up(charter: Charter, tmp_path: Path) -> None:
    a, b = create_key(charter, "--org", "acme")["id"], create_key(charter, "--org", "other")["id"]
    assert "nothing was used" in charter("keys", "usage")[1]
    engine = open_accounts("serve.sqlite", tmp_path, new=False)
    meter, noon = Meter(engine), datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    meter.record(a, "tiny", Counts(2, 1, 1_500, 200, 30), noon)
    meter.record(b, "tiny", Counts(1, 0, 10, 0, 5), noon + 86_400)
    meter.close()
    engine.dispose()
    days = ("--since", "2026-03-01", "--until", "2026-03-02")
    rows = run_json(charter, "usage", *days)
    assert rows[0] == {
        "day": "2026-03-01",
        "organisation": "acme",
        "key": a,
        "name": "key",
        "model": "tiny",
        "requests": 2,
        "refused": 1,
        "input_tokens": 1_500,
        "cached_tokens": 200,
        "output_tokens": 30,
    }
    assert [row["key"] for row in rows] == [a, b]
    assert (
        run_json(charter, "usage", *days, "--org", "other") == run_json(charter, "usage", *days, "--key", b) == rows[1:]
    )
    assert run_json(charter, "usage", "--until", "2026-03-01")[0] == rows[0]
    together = charter("keys", "usage", *days)[1].splitlines()[-1].split()
    assert together == ["together", "3", "1", "1,510", "200", "35"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("create", "--scopes", "everything"), "no scope 'everything'; expected some of messages"),
        (("create", "--expires-days", "0"), "--expires-days must be a number over 0"),
        (("create", "--expires-days", "nan"), "--expires-days must be a number over 0"),
        (("create", "--org", "local"), "choose another name"),
        (("create", "--database", "no/such/s.sqlite"), "there is no folder"),
        (("list", "--org", "nobody"), "no organisation 'nobody'"),
        (("revoke", "key_x"), "no key key_x"),
        (("limits", "key_x", "--concurrency", "3"), "no key key_x"),
        (("usage", "--key", "key_x"), "no key key_x"),
        (("usage", "--since", "yesterday"), "--since 'yesterday' is not a day; write it as 2026-11-26"),
        (("usage", "--since", "2026-02-02", "--until", "2026-01-01"), "swap them"),
    ],
)
def test_errors_are_one_line(charter: Charter, words: tuple[str, ...], expected: str) -> None:
    create_key(charter)
    code, out, err = charter("keys", *words)
    assert code == 1 and out == ""
    assert err.count("\n") == 1 and expected in err


def test_a_refused_key_leaves_no_organisation(charter: Charter) -> None:
    create_key(charter)
    charter("keys", "create", "--org", "acme", "--scopes", "everything")
    assert "no organisation 'acme'" in charter("keys", "list", "--org", "acme")[2]


def test_all_keys_are_revoked_or_none(charter: Charter) -> None:
    key = create_key(charter)["id"]
    assert charter("keys", "revoke", key, "key_x")[0] == 1
    assert run_json(charter, "list")[0]["state"] == "usable"


def test_nothing_but_create_begins_a_database(charter: Charter, tmp_path: Path) -> None:
    for words in (("list",), ("usage",), ("revoke", "key_x"), ("limits", "key_x")):
        code, _, err = charter("keys", *words)
        assert code == 1 and "there is no database serve.sqlite; name one that charter serve or charter keys" in err
    assert not list(tmp_path.iterdir())
