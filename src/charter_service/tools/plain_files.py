"""Reads a plain file of a folder. Links are not followed, whatever takes a file's place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from charter.ground.artifact.errors import CharterError


def read_bytes(folder: Path, name: str, most: int) -> bytes:
    """The bytes of a plain file, reached from the folder without a link. Raises CharterError if it is larger than
    `most` bytes, and OSError."""
    *places, last = Path(name).parts
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in places:
            within = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = within
        file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    finally:
        os.close(place)
    with os.fdopen(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise CharterError("it is not a plain file")
        data = stream.read(most + 1)
    if len(data) > most:
        raise CharterError(f"it has over {most:,} bytes")
    return data
