"""A release: what says that one checkpoint, to the byte, met its rules, what that rests on, and until when it holds.

It is an artifact of kind `release`. The record in `release.json` is all of it, and stands in the manifest as the
resolved settings, so that the id covers every field. The checkpoint is named by the digest of its files, not by its
place: a moved folder keeps its release, a changed byte loses it. Whoever may write the folder can make a whole new
release. Only its id, kept elsewhere, and `charter card verify`, which judges its evidence again, tell the two apart.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST, Manifest, Record, canonical_json, digest_tree
from charter.ground.artifact.store import read_manifest, read_record, verify_files

RELEASE = "release.json"
RELEASE_FORMAT = 1
# How far the clock of the machine that made a release may run before that of the one that reads it.
SKEW = datetime.timedelta(minutes=5)
LEAST_DIGITS = 12  # of an id that people write


class Released(Record):
    """The checkpoint: its id, the digest of its files (`digest_checkpoint`), and the step that made it."""

    id: str
    digest: str
    step: str


class Ancestor(Record):
    """An artifact of the checkpoint's lineage."""

    step: str
    room: str
    id: str


class Evidence(Record):
    """An artifact that the release rests on: as what, and the sha256 of its manifest. `made` and `expires`: UTC."""

    role: str
    step: str
    kind: str
    id: str
    manifest: str
    made: str
    expires: str | None = None


class Requirement(Record):
    """A requirement that was met: what met it, and until when that counts."""

    name: str
    words: str
    expires: str | None = None


class Release(Record):
    """release.json. `made` and `expires` are times in UTC (ISO 8601); `signoffs` and `rules` as they were written."""

    format: int = RELEASE_FORMAT
    checkpoint: Released
    lineage: list[Ancestor]
    requirements: list[Requirement]
    evidence: list[Evidence]
    rules: dict[str, object]
    signoffs: list[dict[str, object]]
    findings: list[dict[str, object]]
    made: str
    expires: str


def read_release(folder: Path) -> tuple[Release, Manifest]:
    """A release and its manifest. Raises CharterError if it is none, is unfinished, or doesn't agree with itself."""
    manifest = read_manifest(folder)
    if manifest.kind != "release":
        raise CharterError(f"{folder} is a {manifest.kind}, expected a release; charter release makes one")
    if manifest.status != "done":
        raise CharterError(f"{folder} is {manifest.status}, not done; make the release again")
    again = "make it again: charter release"
    problems = verify_files(folder, manifest)
    if not problems and manifest.derived_id != manifest.id:
        problems = ["its id does not follow from its content"]
    if not problems:
        absent = f"{folder} has no {RELEASE}; {again}"
        release = read_record(folder / RELEASE, Release, RELEASE_FORMAT, absent, again)
        if canonical_json(release.model_dump(mode="json")) != canonical_json(manifest.resolved):
            problems = [f"{RELEASE} is not what its manifest says"]
    if problems:
        raise CharterError(f"the release {folder} was changed: {problems[0]}; {again}")
    if read_time(release.made) >= read_time(release.expires):
        raise CharterError(f"the release {folder} expires before it was made; {again}")
    return release, manifest


def digest_checkpoint(folder: Path) -> str:
    """The digest of all files of a checkpoint's folder, its manifest included. Raises CharterError if it is no folder,
    or holds a link, whose target could change."""
    if not folder.is_dir():
        raise CharterError(f"{folder} is no folder; a release is of a checkpoint's folder on this disk")
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (Path(place) / name).is_symlink():
                raise CharterError(
                    f"{Path(place) / name} is a link, and what it leads to may change: put the file itself there"
                )
    return digest_tree(folder)


def release_problem(release: Release, digest: str, now: datetime.datetime) -> str:
    """Why a release doesn't hold for the checkpoint of a digest at a time; "" if it does."""
    if release.checkpoint.digest != digest:
        return f"is of another checkpoint: {release.checkpoint.digest[:LEAST_DIGITS]}, not {digest[:LEAST_DIGITS]}"
    return untimely(release, now)


def untimely(release: Release, now: datetime.datetime) -> str:
    """Why a release doesn't hold at a time, whatever its checkpoint; "" if it does."""
    if read_time(release.made) > now + SKEW:
        return f"was made at {release.made}, which is still to come: check the clocks of both machines"
    return f"expired at {release.expires}" if now >= read_time(release.expires) else ""


def find_release(
    places: Iterable[Path], digest: str, now: datetime.datetime, only: str = ""
) -> tuple[Release, Manifest]:
    """The release among the folders in `places` that holds for a checkpoint and the longest; `only`: the id that it
    must have, or its first digits. Raises CharterError with the reason against each."""
    holding: list[tuple[Release, Manifest]] = []
    reasons: list[str] = []
    for folder in places:
        try:
            release, manifest = read_release(folder)
            why = release_problem(release, digest, now)
        except CharterError as error:
            reasons.append(str(error))
            continue
        if not why and only and not manifest.id.startswith(only):
            why = f"has the id {manifest.id[:LEAST_DIGITS]}, expected {only[:LEAST_DIGITS]}"
        if why:
            reasons.append(f"{folder} {why}")
        else:
            holding.append((release, manifest))
    if not holding:
        raise CharterError("; ".join(reasons) or "there is none beside it")
    return max(holding, key=lambda pair: read_time(pair[0].expires))


def releases_in(run: Path) -> list[Path]:
    """The folders of releases in a run directory, by name."""
    folders = []
    for path in sorted(run.glob(f"*/{MANIFEST}")):
        try:
            if read_manifest(path.parent).kind == "release":
                folders.append(path.parent)
        except CharterError:
            continue
    return folders


def read_time(text: str) -> datetime.datetime:
    """A time of a manifest, in UTC. Raises CharterError if it is none."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise CharterError(f"{text!r} is not a time such as 2026-11-30T12:00:00Z") from None
    return time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time.astimezone(datetime.UTC)


def write_time(time: datetime.datetime) -> str:
    """A time as manifests write it: UTC, whole seconds."""
    return time.astimezone(datetime.UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
