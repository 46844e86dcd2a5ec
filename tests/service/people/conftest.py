"""Whatever opens a database here is tested on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import people_desk as desk
import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"desk", "tmp_path"} & set(metafunc.fixturenames) and "database" not in metafunc.fixturenames:
        metafunc.parametrize("backend", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Which database `open_desk` opens."""
    kind: str = getattr(request, "param", "sqlite")
    if kind == "postgresql":
        new: Callable[[], str] = request.getfixturevalue("new_postgres_database")
        monkeypatch.setattr(desk, "place_of", lambda path: new())
    yield kind
    while desk.OPENED:
        desk.OPENED.pop().dispose()
