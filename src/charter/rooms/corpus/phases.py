"""The phases before tokens: examine all pieces, find copies. Each leaves whole files in the state folder, and a resume
starts after the last one.
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
_SMALL = 2 << 20  # bytes of benchmarks, about those of the shipped ones, that this process reads itself


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
                for (disk, before), _ in crew.results(
                    missing()
                ):  # results come in order, so these stretches are whole
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
