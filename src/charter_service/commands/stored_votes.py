"""The votes of an arena's database or configuration. `charter elo` finds this by the group `charter.votes`."""

from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError


def votes_of_configuration(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The votes of a configuration's database, and the model with Elo 0 ("" if there is none). Raises CharterError if
    the configuration can't be read or there is no database or no vote."""
    from charter_service.arena.config import load_config

    config = load_config(path)
    return votes_of_database(config.database, path.parent), config.zero


def votes_of_database(database: str, folder: Path) -> list[dict[str, Any]]:
    """The votes of a database; a relative path starts at `folder`. Raises CharterError if there is no database or no
    vote."""
    from charter_service.people.export import votes_of

    file = database.removeprefix("sqlite:///").partition("?")[0]
    # opening a missing file would create it
    if "://" not in file and not (folder / Path(file).expanduser()).is_file():
        raise CharterError(f"there is no database {folder / file}; check the path")
    rows = votes_of(database, folder)
    if not rows:
        raise CharterError(f"{database.split('@')[-1]} holds no votes yet; collect some first")
    return rows
