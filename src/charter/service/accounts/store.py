"""The database of a served model's accounts, opened with its schema up to date."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from charter.ground.artifact.errors import CharterError
from charter.service.accounts.tables import METADATA, MIGRATIONS
from charter.service.web.database import Holding, migrate, open_database
from charter.service.web.room import Room

ACCOUNTS = Holding("service", "charter serve or charter keys create", "serve.sqlite", "organisations")


def open_accounts(place: str, folder: Path | None = None, new: bool = True, serving: bool = False) -> Engine:
    """The database of a service's accounts; with `new` one is begun where there is none. A service that is
    `serving` begins even on a disk that is full.

    Raises CharterError where it can't be opened, where it holds something else, and without `new` where there is none.
    """
    engine = open_database(place, folder, new, ACCOUNTS)
    if serving:
        Room(engine, held=False).make_way()
    try:
        migrate(engine, MIGRATIONS, METADATA, new, ACCOUNTS)
    except CharterError:
        engine.dispose()
        raise
    return engine
