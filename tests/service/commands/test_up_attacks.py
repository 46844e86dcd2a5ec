"""`charter up` and `charter chat serve` attacked: a second one on the same files, servers that never start, no disk."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from charter.ground.artifact.errors import CharterError
from charter_service.accounts import keys
from charter_service.accounts.organisations import find_organisation
from charter_service.accounts.store import open_accounts
from charter_service.chat.app import people_alone
from charter_service.commands import up
from charter_service.web.database import reading
from charter_service.web.lock import serve_alone

SAYS_NOTHING = "import sys; print('no such model', file=sys.stderr); sys.exit(1)"
# is reached the first time alone
ONCE = """
import pathlib, sys
starts = pathlib.Path(sys.argv[1])
before = len(starts.read_text()) if starts.exists() else 0
with starts.open("a") as file:
    file.write(".")
if not before:
    print("{}", flush=True)
"""


def states_of(database: Path) -> list[str]:
    engine = open_accounts(str(database))
    try:
        with reading(engine) as connection:
            organisation = find_organisation(connection, up.ORGANISATION)
            return [key.state() for key in keys.list_keys(connection, organisation)]
    finally:
        engine.dispose()


def test_a_second_one_on_the_same_database_leaves_the_key_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "END_SECONDS", 0.2)
    database = tmp_path / "serve.sqlite"
    up._make_key(str(database))
    engine = open_accounts(str(database))
    serve_alone(engine)
    with pytest.raises(CharterError, match="is already served by process"):
        up._make_key(str(database))
    engine.dispose()
    assert states_of(database) == ["usable"]
    up._make_key(str(database))
    assert sorted(states_of(database)) == ["revoked", "usable"]


def test_a_server_that_never_starts_is_told_and_not_started_again() -> None:
    keeper = up._Keeper([sys.executable, "-c", SAYS_NOTHING], log=False)
    with pytest.raises(CharterError, match="what it said stands above"):
        keeper.wait()
    keeper._keeping.join(60)
    assert not keeper._keeping.is_alive()
    keeper.end()


def test_a_server_that_ends_again_and_again_is_started_after_longer_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(up, "PAUSE", 0.01)
    monkeypatch.setattr(up, "LONGEST_PAUSE", 0.05)
    pauses: list[float] = []
    keeper = up._Keeper([sys.executable, "-c", ONCE, str(tmp_path / "starts")], log=False)

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) > 9

    monkeypatch.setattr(keeper._ending, "wait", wait)
    keeper.wait()
    keeper._keeping.join(60)
    keeper.end()
    assert pauses == [0.01, 0.02, 0.04, *[0.05] * 7]
    assert "the model's server ended; it is started again in" in capfd.readouterr().err


def serve(folder: Path, *options: str, most: int = resource.RLIM_INFINITY) -> subprocess.CompletedProcess[str]:
    """`charter chat serve` that can't start, with at most so many bytes a file."""
    command = [sys.executable, "-m", "charter", "chat", "serve", "--api", "http://127.0.0.1:9", "--port", "0"]

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, timeout=120, preexec_fn=bound, check=False
    )


def test_a_full_disk_and_a_served_database_are_one_line_each(tmp_path: Path) -> None:
    full = serve(tmp_path, most=50_000)
    assert full.returncode == 1 and full.stderr.count("\n") == 1, full.stderr
    assert "can't be used" in full.stderr and "has the disk room?" in full.stderr
    (tmp_path / "people.sqlite").unlink()
    for left in tmp_path.glob("people.sqlite-*"):
        left.unlink()
    with people_alone(str(tmp_path / "people.sqlite")):
        served = serve(tmp_path)
    assert served.returncode == 1 and "is already served by process" in served.stderr, served.stderr
