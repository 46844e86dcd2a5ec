"""Frees disk in a run directory: unfinished work, superseded artifacts and remembered answers, never what the recipe
uses."""

from pathlib import Path

from charter.ground.artifact.lineage import SUPERSEDED
from charter.ground.artifact.store import folder_bytes, remove_folder
from charter.runner.directory import CACHE, PARTIAL, RunDirectory
from charter.runner.step_runner import disk_errors


def sweep(
    run: Path, *, partial: bool, superseded: bool, answers: bool = False, dry_run: bool = False
) -> list[tuple[Path, int]]:
    """Removes the folders of the named kinds; returns each with its bytes.

    Takes the run's lock, so that it removes nothing that another process uses.
    """
    directory = RunDirectory(run)
    shelves = [run / PARTIAL] * partial + [run / SUPERSEDED] * superseded
    removed = []
    with disk_errors(run), directory.lock():
        folders = [path for shelf in shelves for path in sorted(shelf.glob("*")) if path.is_dir()]
        for folder in folders + [run / CACHE] * (answers and (run / CACHE).is_dir()):
            removed.append((folder, folder_bytes(folder)))
            if not dry_run:
                remove_folder(folder)
    return removed
