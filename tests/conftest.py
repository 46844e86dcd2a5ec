"""What many tests start from: checkpoints, made once a session, which nobody changes; new databases of both kinds.

What is there before the first test (torch, all test modules, millions of objects) stays until the end: nobody searches
it for garbage, which would take half a second wherever a step or a model gives its memory back.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import toys
from charter.cli.main import execute

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from private_postgres import NoPostgres, private_postgres


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("numprocesses", None):  # who collects; not who only deals tests to others
        gc.disable()


SLOW = frozenset(
    line for line in Path(__file__).with_name("slow.txt").read_text("utf-8").splitlines() if line[:1] != "#"
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the slow ones of slow.txt. The longest come first, so that no process is left alone with them at the end."""
    for item in items:
        if item.nodeid in SLOW:
            item.add_marker("slow")
    items.sort(key=lambda item: not item.get_closest_marker("whole"))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


Charter = Callable[..., tuple[int, str, str]]


@pytest.fixture
def charter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Charter:
    """Runs one command in a folder of its own; returns the exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARTER_LAUNCHED", "1")
    for name in ("FAULT", "CALLS"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = execute([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy policy, another one, and two preference models: policy, other, reward, grader."""
    folder = tmp_path_factory.mktemp("checkpoints")
    toys.policy_folder(folder / "policy", 0)
    toys.policy_folder(folder / "other", 3)
    toys.preference_folder(folder / "reward", 1)
    toys.preference_folder(folder / "grader", 2)
    return folder


@pytest.fixture(scope="session")
def new_postgres_database() -> Iterator[Callable[[], str]]:
    """Makes a new database of PostgreSQL with each call, and returns its URL."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    numbers = itertools.count()
    try:
        with private_postgres(durable=False) as url, psycopg.connect(url.format(name="postgres")) as connection:
            connection.autocommit = True

            def new() -> str:
                name = f"test_{next(numbers)}"
                connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
                return url.format(name=name)

            yield new
    except NoPostgres as missing:
        pytest.skip(str(missing))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The place of a new database: a file of SQLite, or a database of PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'people.sqlite'}"
    new: Callable[[], str] = request.getfixturevalue("new_postgres_database")
    return new()
