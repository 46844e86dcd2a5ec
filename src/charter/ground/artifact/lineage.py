"""The ancestry of an artifact: its parents are siblings in the run directory, or have a relative path."""

from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest, Parent
from charter.ground.artifact.store import read_manifest

SUPERSEDED = ".superseded"


def find_parent(run: Path, parent: Parent) -> tuple[Manifest, Path]:
    """The parent's manifest and folder, at its original place or among superseded artifacts.

    Raises CharterError if no folder there has the parent's id.
    """
    name = f"{parent.step}-{parent.id[:12]}"
    first = run / parent.path
    for folder in (first, run / SUPERSEDED / name, first.parent / SUPERSEDED / name):
        if (folder / "manifest.json").is_file():
            manifest = read_manifest(folder)
            if manifest.id == parent.id:
                return manifest, folder
    raise CharterError(
        f"{parent.step} ({parent.role}, id {parent.id[:12]}) is not in {run} any more; run the recipe again"
    )


def walk(folder: Path) -> list[tuple[Manifest, Path]]:
    """All ancestors of an artifact and itself, ancestors first, each once."""
    artifacts: dict[str, tuple[Manifest, Path]] = {}

    def visit(manifest: Manifest, place: Path) -> None:
        if manifest.id in artifacts:
            return
        run = run_of(place)
        for parent in manifest.parents:
            visit(*find_parent(run, parent))
        artifacts[manifest.id] = (manifest, place)

    visit(read_manifest(folder), folder)
    return list(artifacts.values())


def run_of(folder: Path) -> Path:
    """The run directory that an artifact lies in."""
    place = folder.resolve().parent
    return place.parent if place.name == SUPERSEDED else place
