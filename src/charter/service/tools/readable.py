"""Reading one file of a folder as text. Links are not followed, whatever takes a file's place."""

from __future__ import annotations

import bisect
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from charter.ground.artifact.errors import CharterError

ENDINGS = (".txt", ".md", ".markdown", ".csv", ".json", ".rst")


@dataclass(frozen=True, slots=True)
class Readable:
    """A document's text, and where its pages begin."""

    text: str
    pages: tuple[int, ...] = ()

    def page_of(self, offset: int) -> int | None:
        """The page, from 1, of a place in the text."""
        return bisect.bisect_right(self.pages, offset) or None


def read_file(folder: Path, name: str, most: int) -> Readable:
    """The text of a file below a folder. Raises CharterError if it can't be read as text, and OSError."""
    data = read_bytes(folder, name, most)
    if not name.lower().endswith(ENDINGS):
        raise CharterError(f"only {', '.join(ENDINGS)} are read")
    if b"\0" in data:
        raise CharterError("it holds NUL bytes, so it is not text")
    return Readable(data.decode("utf-8-sig", "replace").replace("\r\n", "\n"))


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
