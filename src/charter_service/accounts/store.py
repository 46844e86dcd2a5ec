"""The database of a served model's accounts, opened with its schema up to date."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.tables import METADATA, MIGRATIONS
from charter_service.web.database import Holding, migrate, open_database
from charter_service.web.room import Room

ACCOUNTS = Holding("service", "charter serve or charter keys create", "serve.sqlite", "organisations")


def open_accounts(place: str, folder: Path | None = None, new: bool = True, serving: bool = False) -> Engine:
    """The database of a service's accounts; with `new` a missing one is created. A service that is `serving`
    starts even on a full disk.

    Raises CharterError if it can't be opened, if it holds something else, and without `new` if there is none.
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
