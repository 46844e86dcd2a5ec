"""The lineage of an artifact: where its parents lie, and the seals that say what they were.

Parents are siblings in the run directory, or have a relative path. An id follows from what an artifact was asked to be;
its bytes may be changed later, together with the hashes in its own manifest. So each manifest keeps a seal of every
parent as it was:

    seal = sha256 of id, digests of all files, day of reports and cards, and the seals of the parents

A seal covers the whole lineage. Whoever may write all of a run can make all seals anew: then only the seal of the last
artifact, kept elsewhere, tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest, Parent, canonical_json, digest_text
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


DATED = frozenset({"report", "card", "judgments"})  # kinds whose age counts
Broken = tuple[str, ...]


def seal_of(manifest: Manifest) -> str:
    """The seal of a finished artifact, by what its manifest says of its files."""
    facts = {
        "id": manifest.id,
        "files": {file.path: file.sha256 for file in manifest.files},
        "started": manifest.timing.started if manifest.kind in DATED else "",
        "parents": sorted((one.role, one.id, one.seal) for one in manifest.parents),
    }
    return digest_text(canonical_json(facts))


def sealed(run: Path, parents: Iterable[Parent]) -> list[Parent]:
    """The parents with their seals as they are now. Raises CharterError if one is gone."""
    return [one.model_copy(update={"seal": seal_of(find_parent(run, one)[0])}) for one in parents]


def check_seals(folder: Path) -> tuple[Broken, Broken]:
    """(parents that are not what they were, a line each; steps that keep no seal of a parent) in a whole lineage.
    Raises CharterError if a parent is gone."""
    changed, unsealed = [], []
    for manifest, place in walk(folder):
        for parent in manifest.parents:
            now = seal_of(find_parent(run_of(place), parent)[0])
            if not parent.seal:
                unsealed.append(manifest.step)
            elif parent.seal != now:
                changed.append(
                    f"{parent.step} is not what {manifest.step} was made from: it was changed, or made again"
                )
    return tuple(dict.fromkeys(changed)), tuple(dict.fromkeys(unsealed))


def seal_problem(folder: Path) -> str:
    """What is wrong with the seals of an artifact's lineage; "" if nothing is, or none is kept."""
    try:
        changed, _ = check_seals(folder)
    except CharterError as error:
        return str(error)
    return changed[0] if changed else ""
