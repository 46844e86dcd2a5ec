"""Accounts on SQLite and, where it is installed, on PostgreSQL; the same tests hold for both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from charter_service.accounts.store import open_accounts


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """A new database of accounts; `database` of tests/conftest.py is its place."""
    made = open_accounts(database)
    yield made
    made.dispose()


@pytest.fixture
def file_engine(tmp_path: Path) -> Iterator[Engine]:
    """A new database of accounts on SQLite alone, where what is tested is what stands before any database."""
    made = open_accounts(str(tmp_path / "serve.sqlite"))
    yield made
    made.dispose()
