"""Makes the artifact of a release, and judges one again from the evidence that it names."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import MANIFEST, External, Manifest, Parent, Source, Timing, digest_file
from charter.ground.artifact.release import (
    RELEASE,
    Ancestor,
    Evidence,
    Release,
    Released,
    Requirement,
    read_release,
    read_time,
    write_time,
)
from charter.ground.artifact.store import publish_made
from charter.ground.reports.signoff import SignOff
from charter.ground.settings.problems import validate
from charter.release.judge import CARD, EVIDENCE, ROLES, Request, Verdict, judge, made_at
from charter.release.rules import ReleaseRules

CHECKPOINT = "checkpoint"


def record_of(request: Request, verdict: Verdict, home: Path, now: datetime.datetime) -> Release:
    """The record of a release whose requirements are all met; `home` is the run directory where it lies. Raises
    CharterError if one is not."""
    if verdict.failed:
        raise CharterError(f"{request.card} may not be released: {verdict.failed[0].why}")
    expiry = {row.name: row.expires for row in verdict.rows}
    ends = [end for end in expiry.values() if end is not None]
    rules = request.rules
    if rules.baseline:
        rules = rules.model_copy(update={"baseline": _relative(Path(rules.baseline), home)})
    checkpoint = verdict.checkpoint
    return Release(
        checkpoint=Released(id=checkpoint.id, digest=checkpoint.digest, step=checkpoint.step),
        lineage=[Ancestor(step=m.step, room=m.room, id=m.id) for m in checkpoint.lineage],
        requirements=[
            Requirement(name=r.name, words=", ".join(r.words), expires=r.expires and write_time(r.expires))
            for r in verdict.rows
        ],
        evidence=[
            Evidence(
                role=role,
                step=manifest.step,
                kind=manifest.kind,
                id=manifest.id,
                manifest=digest_file(folder / MANIFEST),
                made=write_time(made_at(manifest)),
                expires=(end := expiry.get(f"age of {manifest.step}")) and write_time(end),
            )
            for role in ROLES
            for manifest, folder in verdict.rests_on[role]
        ],
        rules=rules.model_dump(mode="json"),
        signoffs=[sign_off.model_dump(mode="json") for sign_off in request.sign_offs],
        findings=list(request.findings),
        made=write_time(now),
        expires=write_time(min(ends)),
    )


def write_release(release: Release, verdict: Verdict, target: Path, source: Source) -> Manifest:
    """Writes the artifact of a release, whole or not at all; `target` must not exist. `source`: the code that made
    it."""
    if target.exists():
        raise CharterError(f"{target} is there already; name another folder with --out")
    target.parent.mkdir(parents=True, exist_ok=True)
    home, checkpoint = target.parent.resolve(), verdict.checkpoint
    parents = [
        Parent(role=role, step=manifest.step, id=manifest.id, path=_relative(folder, home))
        for role in ROLES
        for manifest, folder in verdict.rests_on[role]
    ]
    place = _relative(checkpoint.folder, home)
    external = []
    if checkpoint.ref:
        external = [External(role=CHECKPOINT, ref=checkpoint.ref, digest=checkpoint.id, path=place)]
    else:
        parent = Parent(role=CHECKPOINT, step=checkpoint.step, id=checkpoint.id, path=place)
        parents = [parent, *parents]
    inputs: dict[str, list[str]] = {}
    for role, name in [*((p.role, p.id) for p in parents), *((e.role, e.digest) for e in external)]:
        inputs.setdefault(role, []).append(name)
    manifest = Manifest(
        kind="release",
        id="",
        status="done",
        step=target.name,
        room="release",
        recipe="",
        resolved=release.model_dump(mode="json"),
        inputs=inputs,
        parents=parents,
        external=external,
        source=source,
        timing=Timing(started=release.made),
    )
    return publish_made(target, manifest, {RELEASE: release.model_dump_json(indent=1) + "\n"})


def problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each part of a release that doesn't follow from the evidence it names, judged at the time when it was
    made."""
    try:
        release, _ = read_release(folder)
        again = _judge_again(folder, manifest, release)
    except CharterError as error:
        yield str(error)
        return
    # an older release spells its sign-offs otherwise
    read = release.model_copy(
        update={"signoffs": [sign_off.model_dump(mode="json") for sign_off in _sign_offs(release)]}
    )
    stored, computed = (record.model_dump(mode="json") for record in (read, again))
    for name, value in computed.items():
        if stored[name] != value:
            yield f"{RELEASE}: {name} is not what its evidence gives"


def _sign_offs(release: Release) -> tuple[SignOff, ...]:
    """The sign-offs of a release. Raises CharterError for a broken one."""
    return tuple(validate(SignOff, row, RELEASE) for row in release.signoffs)


def _judge_again(folder: Path, manifest: Manifest, release: Release) -> Release:
    """The record that the evidence gives now, at the time of the release. Raises CharterError if a requirement isn't
    met, or evidence is gone."""
    run = run_of(folder)
    places = {(parent.role, parent.id): find_parent(run, parent)[1] for parent in manifest.parents}
    cards = [place for (role, _), place in places.items() if role == CARD]
    if len(cards) != 1:
        raise CharterError(f"it rests on {len(cards)} cards, expected one")
    rules = ReleaseRules.model_validate(release.rules)
    if rules.baseline:
        rules = rules.model_copy(update={"baseline": str(run / rules.baseline)})
    request = Request(
        cards[0],
        rules,
        _sign_offs(release),
        tuple(release.findings),
        tuple(place for (role, _), place in places.items() if role == EVIDENCE),
    )
    now = read_time(release.made)
    verdict = judge(request, now)
    return record_of(request, verdict, run, now)


def _relative(place: Path, home: Path) -> str:
    """A place relative to a run directory."""
    return Path(os.path.relpath(place.resolve(), home)).as_posix()
