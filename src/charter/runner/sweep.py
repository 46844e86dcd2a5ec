"""Frees disk in a run directory: unfinished work and superseded artifacts, never what the recipe uses."""

from pathlib import Path

from charter.ground.artifact.lineage import SUPERSEDED
from charter.ground.artifact.store import folder_bytes, remove_folder
from charter.runner.directory import PARTIAL, RunDirectory
from charter.runner.execute import disk_errors


def sweep(run: Path, *, partial: bool, superseded: bool, dry_run: bool = False) -> list[tuple[Path, int]]:
    """Removes the folders of the asked kinds; returns each with its bytes.

    Takes the run's lock, so nothing is removed below a process that uses it.
    """
    directory = RunDirectory(run)
    shelves = [run / PARTIAL] * partial + [run / SUPERSEDED] * superseded
    removed = []
    with disk_errors(run), directory.lock():
        for shelf in shelves:
            for folder in sorted(path for path in shelf.glob("*") if path.is_dir()):
                removed.append((folder, folder_bytes(folder)))
                if not dry_run:
                    remove_folder(folder)
    return removed
