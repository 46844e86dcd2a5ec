"""Folders on this disk: a home folder, the data folder next to a checkout, and the cache."""

import os
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.recognise import ROW_ENDINGS


def cache_folder() -> Path:
    """The folder of what is worked out once a machine: CHARTER_CACHE, else ~/.cache/charter."""
    return expand_home(os.environ.get("CHARTER_CACHE") or "~/.cache/charter")


def data_folder() -> Path:
    """The folder of `data:` references: CHARTER_DATA, else ../shared/data."""
    return expand_home(os.environ.get("CHARTER_DATA", "../shared/data"))


def expand_home(name: str) -> Path:
    """The path of a name; `~` at its start is a home folder. Raises CharterError if that home doesn't exist."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise CharterError(f"{name}: there is no such home folder; write ./{name} for a file here") from None


def find_data(relative: str, folder: Path | None = None) -> Path:
    """The file or folder of `data:relative`; its ending is optional (hh_rlhf/harmless-base).

    Raises CharterError if there is none or more than one.
    """
    root = data_folder() if folder is None else folder
    exact = root / relative
    if exact.exists():
        return exact
    matches = [place for ending in ROW_ENDINGS if (place := root / f"{relative}{ending}").is_file()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise CharterError(f"data:{relative} could be {', '.join(f.name for f in matches)}; write the ending")
    raise CharterError(
        f"data:{relative}: there is no {exact}, with any known ending; set CHARTER_DATA to the folder that holds it"
    )
