"""The phases before tokens: examine all pieces, find copies. Each leaves whole files in the state folder, and a resume
begins behind the last of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from charter.ground.artifact.store import atomic_write
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.texts import Listing
from charter.rooms.corpus.crew import Crew, run_apart
from charter.rooms.corpus.decontamination import Decontamination
from charter.rooms.corpus.examine import Examiner, Piece
from charter.rooms.corpus.pieces import MARK, Stretch, batch_paths, is_whole, mark_whole, pieces
from charter.rooms.corpus.selection import Table, find_copies
from charter.rooms.corpus.settings import Settings

BENCHMARKS, EXAMINED, COPIES = "benchmarks", "examined", "copies.npy"
_SMALL = 2 << 20  # bytes of benchmarks that are read here: the shipped ones


def index_benchmarks(paths: Sequence[Path], out: Workspace) -> Decontamination:
    """The items of all benchmarks, read once; large ones in a process of their own, for that takes much memory."""
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
    """Makes the index of benchmarks in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, paths: list[Path]) -> None:
        """Reads all items and saves their runs."""
        Decontamination(paths).save(self.folder)


def examine_all(
    listings: Sequence[Listing], stretches: Sequence[Stretch], settings: Settings, out: Workspace
) -> list[Path]:
    """The batch files of all pieces, in order; those that are there are not made again."""
    folder = out.state / EXAMINED
    folder.mkdir(exist_ok=True)
    remaining = [stretch for stretch in stretches if not is_whole(stretch, folder)]
    total = sum(stretch.bytes for stretch in stretches)
    done = total - sum(stretch.bytes for stretch in remaining)
    # Stretches that ended since a piece was last handed out, each with the count of its pieces.
    finished: list[tuple[Stretch, int]] = []

    def missing() -> Iterator[tuple[Piece, tuple[int, tuple[tuple[Stretch, int], ...]]]]:
        """Each piece with its bytes on disk and the stretches that ended before it."""
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
                for (disk, before), _ in crew.results(missing()):  # in order: what ended before it is whole
                    for stretch, batches in before:
                        mark_whole(stretch, folder, batches)
                    bar.advance(disk)
            for stretch, batches in finished:
                mark_whole(stretch, folder, batches)
    return batch_paths(stretches, folder)


def copies_of(table: Table, settings: Settings, out: Workspace) -> npt.NDArray[np.uint8]:
    """Which documents are copies, found once and kept."""
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
    """Processes: one where there is little to do, for starting others takes longer."""
    return settings.workers if settings.workers or size > settings.reading.batch_mib * (1 << 20) else 1
