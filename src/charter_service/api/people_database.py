"""The database of people that a server shares with the chat and the arena: who may open the admin pages.

It is opened when it is first needed, so that a server without persons makes no file, and its API never waits for it.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Engine

from charter.ground.artifact.errors import CharterError
from charter_service.api.errors import ApiError
from charter_service.people.export import open_people
from charter_service.web.database import SQLITE

FILE = "people.sqlite"


class PeopleDatabase:
    """Opens the people's database of a configuration; an empty `place` means a file beside the accounts' database."""

    def __init__(self, place: str, folder: Path, accounts: Engine) -> None:
        self._place, self._folder = place, folder
        self._beside: Path | None = None
        if not place and accounts.url.get_backend_name() == SQLITE and accounts.url.database:
            self._beside = Path(accounts.url.database).with_name(FILE)
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        """The database, created if it is missing. Raises ApiError if none is configured, CharterError if it can't be
        opened."""
        with self._lock:
            if self._engine is None:
                if not (self._place or self._beside):
                    raise ApiError(
                        409,
                        "this server has no database of people; name one by `people` in its configuration",
                    )
                self._engine = open_people(self._place or str(self._beside), self._folder)
            return self._engine

    def existing(self) -> Engine | None:
        """The database if there is one; None if nobody can have joined. Raises ApiError, 503, if it can't be opened."""
        if self._engine is None and not self._place and not (self._beside and self._beside.exists()):
            return None
        try:
            return self.engine()
        except CharterError as error:
            raise ApiError(503, f"the database of people can't be used: {error}") from None

    def close(self) -> None:
        """Closes it if it is open."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None
