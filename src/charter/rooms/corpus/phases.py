"""The phases before tokens: cut the input into pieces, examine all of them, find copies.

Each phase leaves whole files in the state folder, and a resume starts after the last one. The pieces are the same ones
in every attempt, so that a resume is exact. Consecutive small files of a source form a stretch; a large file is a
stretch by itself. A stretch gives pieces of records of about `batch_mib`, and each piece becomes a batch file. When a
stretch has all its batches, a mark records their number. A resume skips marked stretches without reading them, and
existing batches of the others.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.inputs import Input
from charter.ground.artifact.store import atomic_write
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.texts import Listing, TextFile, check_names, list_files, plain_source, read_sources
from charter.rooms.corpus.batch import ENDING
from charter.rooms.corpus.crew import Crew, run_apart
from charter.rooms.corpus.decontamination import Decontamination
from charter.rooms.corpus.examine import Examiner, Piece
from charter.rooms.corpus.reading import Meter, Record, records
from charter.rooms.corpus.selection import Table, find_copies
from charter.rooms.corpus.settings import Reading, Settings

MIB = 1 << 20
MARK = ".whole"
_MOST_FILES = 512  # of a stretch
_MOST_RECORDS = 4096  # of a piece
BENCHMARKS, EXAMINED, COPIES = "benchmarks", "examined", "copies.npy"
_SMALL = 2 << 20  # bytes of benchmarks, about those of the shipped ones, that this process reads itself


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
            file_size = file.path.stat().st_size
            if files and (size + file_size > reading.batch_mib * MIB or len(files) == _MOST_FILES):
                stretches.append(Stretch(len(stretches), source, tuple(files), size))
                files, size = [], 0
            files.append(file)
            size += file_size
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
    return [folder / f"{number:06d}-{n:06d}{ENDING}" for number, count in counts.items() for n in range(count)]


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


def index_benchmarks(paths: Sequence[Path], out: Workspace) -> Decontamination:
    """Reads the items of all benchmarks once. Large ones get their own process, because they need much memory."""
    folder = out.state / BENCHMARKS
    mark = out.state / f"{BENCHMARKS}{MARK}"
    if not mark.exists():
        files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else (path,))]
        small = sum(file.stat().st_size for file in files) < _SMALL
        with out.progress(BENCHMARKS, 1) as bar:
            if small:
                Indexer(folder)(list(paths))
            else:
                run_apart(Indexer, (folder,), list(paths))
            bar.advance()
        atomic_write(mark, "")
    return Decontamination.open(folder)


class Indexer:
    """Builds the index of benchmarks in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, paths: list[Path]) -> None:
        """Reads all items and saves their runs."""
        Decontamination(paths).save(self.folder)


def examine_all(
    listings: Sequence[Listing], stretches: Sequence[Stretch], settings: Settings, out: Workspace
) -> list[Path]:
    """Makes the batch files of all pieces, unless they exist. Returns them in order."""
    folder = out.state / EXAMINED
    folder.mkdir(exist_ok=True)
    remaining = [stretch for stretch in stretches if not is_whole(stretch, folder)]
    total = sum(stretch.bytes for stretch in stretches)
    done = total - sum(stretch.bytes for stretch in remaining)
    # Stretches that ended since the last piece, each with the number of its pieces.
    finished: list[tuple[Stretch, int]] = []

    def missing() -> Iterator[tuple[Piece, tuple[int, tuple[tuple[Stretch, int], ...]]]]:
        """Each missing piece with its bytes on disk and the stretches that ended before it."""
        for stretch in remaining:
            count = 0
            for piece in pieces(stretch, listings[stretch.source], settings.reading, folder):
                count += 1
                if piece.path.exists():
                    bar.advance(piece.disk)
                else:
                    before = tuple(finished)
                    finished.clear()
                    yield piece, (piece.disk, before)
            finished.append((stretch, count))

    with out.progress("reading", total, done) as bar:
        if remaining:
            count = crew_size(settings, total)
            with Crew[Piece, int](count, Examiner, settings, out.state / BENCHMARKS, out.seed) as crew:
                for (disk, before), _ in crew.results(missing()):  # results come in order, so these stretches are whole
                    for stretch, batches in before:
                        mark_whole(stretch, folder, batches)
                    bar.advance(disk)
            for stretch, batches in finished:
                mark_whole(stretch, folder, batches)
    return batch_paths(stretches, folder)


def copies_of(table: Table, settings: Settings, out: Workspace) -> npt.NDArray[np.uint8]:
    """Which documents are copies. The first call stores the result."""
    path = out.state / COPIES
    if not path.exists():
        with out.progress("copies", len(table.paths)) as bar:
            copies = find_copies(table, settings, out.state / "near", bar)
        file = io.BytesIO()
        np.save(file, copies, allow_pickle=False)
        atomic_write(path, file.getvalue())
    kinds: npt.NDArray[np.uint8] = np.load(path, allow_pickle=False)
    assert len(kinds) == len(table)
    return kinds


def crew_size(settings: Settings, size: int) -> int:
    """The number of processes: one for little work, because starting others takes longer."""
    return settings.workers if settings.workers or size > settings.reading.batch_mib * (1 << 20) else 1
