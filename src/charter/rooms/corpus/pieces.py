"""Cuts the input into pieces, the same ones in every attempt, so that a resume is exact.

Consecutive small files of a source form a stretch; a large file is a stretch by itself. A stretch gives pieces of
records of about `batch_mib`, and each piece becomes a batch file. When a stretch has all its batches, a mark records
their number. A resume skips marked stretches without reading them, and existing batches of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from charter.ground.artifact.inputs import Input
from charter.ground.artifact.store import atomic_write
from charter.ground.settings.texts import (
    Listing,
    TextFile,
    check_names,
    list_files,
    plain_source,
    read_sources,
)
from charter.rooms.corpus.batch import ENDING
from charter.rooms.corpus.examine import Piece
from charter.rooms.corpus.reading import Meter, Record, records
from charter.rooms.corpus.settings import Reading

MIB = 1 << 20
MARK = ".whole"
_MOST_FILES = 512  # of a stretch
_MOST_RECORDS = 4096  # of a piece


@dataclass(frozen=True)
class Stretch:
    """Consecutive files of a source; `source` is its number, `bytes` the files' size on disk."""

    number: int
    source: int
    files: tuple[TextFile, ...]
    bytes: int


def list_sources(inputs: Sequence[Input]) -> list[Listing]:
    """Lists the files of all sources, in the recipe's order. Raises CharterError for a source without files."""
    listings: list[Listing] = []
    for entry in inputs:
        path = entry.folder
        if entry.kind == "sources":
            listings += [list_files(source, path.parent) for source in read_sources(path)]
        else:
            listings.append(list_files(plain_source(path, entry.name), path.parent))
    check_names((listing.source.name for listing in listings), "the sources of this step")
    return listings


def cut_stretches(listings: Sequence[Listing], reading: Reading) -> list[Stretch]:
    """Cuts the sources into stretches, in order."""
    stretches: list[Stretch] = []
    for source, listing in enumerate(listings):
        files: list[TextFile] = []
        size = 0
        for file in listing.files:
            own = file.path.stat().st_size
            if files and (size + own > reading.batch_mib * MIB or len(files) == _MOST_FILES):
                stretches.append(Stretch(len(stretches), source, tuple(files), size))
                files, size = [], 0
            files.append(file)
            size += own
        if files:
            stretches.append(Stretch(len(stretches), source, tuple(files), size))
    return stretches


def is_whole(stretch: Stretch, folder: Path) -> bool:
    """Whether all batches of a stretch exist."""
    return (folder / f"{stretch.number:06d}{MARK}").is_file()


def mark_whole(stretch: Stretch, folder: Path, count: int) -> None:
    """Marks a stretch as whole, with `count` batches."""
    atomic_write(folder / f"{stretch.number:06d}{MARK}", str(count))


def batch_paths(stretches: Sequence[Stretch], folder: Path) -> list[Path]:
    """The batch files of all stretches in order; the stretches must be whole."""
    counts = {s.number: int((folder / f"{s.number:06d}{MARK}").read_text("utf-8")) for s in stretches}
    return [
        folder / f"{number:06d}-{n:06d}{ENDING}" for number, count in counts.items() for n in range(count)
    ]


def pieces(stretch: Stretch, listing: Listing, reading: Reading, folder: Path) -> Iterator[Piece]:
    """All pieces of a stretch, also those whose batch exists."""
    meter, batch = Meter(), list[Record]()
    number = size = start = 0

    def piece() -> Piece:
        path = folder / f"{stretch.number:06d}-{number:06d}{ENDING}"
        return Piece(path, stretch.source, listing.source, tuple(batch), meter.bytes - start)

    for file in stretch.files:
        for record in records(listing.source, file, int(reading.largest_mib * MIB), meter):
            if batch and (size + len(record.data) > reading.batch_mib * MIB or len(batch) == _MOST_RECORDS):
                yield piece()
                number, start, size = number + 1, meter.bytes, 0
                batch.clear()
            batch.append(record)
            size += len(record.data)
    if batch:
        yield piece()
