"""The checkpoint that a card ends with, and the compute behind it: FLOPs of all learning on the way to it, as far as
its lineage records them.

    C = C of the model before it + 6 P T        P weights that multiply, T tokens that its step learnt from

Pretraining records its FLOPs itself (`ground/learn/flops.py`). Sampling for RL, graders and helpers don't count. A
model from outside has an unknown C: `before` says it, if somebody knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import find_parent, run_of, seal_of, walk
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.release import digest_checkpoint
from charter.ground.artifact.store import verify_files
from charter.ground.learn.flops import multiplying
from charter.ground.model.folder import read_config
from charter.ground.model.shape import from_config
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.stages import POLICY
from charter.ground.settings.purpose import refuse
from charter.ground.settings.sources import resolve_again
from charter.release.rules import ReleaseRules
from charter.release.sign_offs import Older, Subject

COMPUTE, TOKENS, EACH = "compute", "tokens_read", "tokens_of_each"
MERGE = "merge"


def compute_behind(manifest: Manifest, folder: Path, before: float = 0.0) -> float:
    """FLOPs of the learning behind a checkpoint. Raises CharterError if a step doesn't record how much it learnt."""
    flops = _compute_of(manifest, folder)
    parents = [find_parent(run_of(folder), parent) for parent in manifest.parents if parent.role == POLICY]
    return flops + (max(compute_behind(m, place, before) for m, place in parents) if parents else before)


def times(later: float, earlier: float) -> float:
    """How many times the compute of an earlier checkpoint a later one has. Raises CharterError if none is known of the
    earlier one."""
    if not earlier:
        raise CharterError("no compute is known of the model before it; give compute_before in the rules")
    return later / earlier


def _compute_of(manifest: Manifest, folder: Path) -> float:
    """FLOPs of one step's learning."""
    counts = {metric.name: metric.value for metric in manifest.metrics}
    if (recorded := counts.get(COMPUTE)) is not None:
        return recorded
    if manifest.room == MERGE:
        return 0.0
    # a count of a step that logs tokens is that of its last round alone
    tokens = _logged(read_log(folder))
    tokens = counts.get(TOKENS) if tokens is None else tokens
    if tokens is None:
        raise CharterError(f"{manifest.step} doesn't record how many tokens it learnt from; run it again")
    return 6.0 * multiplying(from_config(read_config(folder))) * tokens


def _logged(rows: Iterable[dict[str, object]]) -> float | None:
    """The tokens of all steps of a log; None if it has none."""
    tokens = [
        sum(map(float, each)) if isinstance(each := row.get(EACH), list) else float(str(row[TOKENS]))
        for row in rows
        if row.get(TOKENS) is not None
    ]
    return sum(tokens) if tokens else None


@dataclass(frozen=True)
class Checkpoint:
    """The model that a card ends with; `ref`: of one that no run made. `lineage`: its ancestors and itself."""

    id: str
    digest: str
    step: str
    folder: Path
    ref: str = ""
    lineage: tuple[Manifest, ...] = ()

    @property
    def subject(self) -> Subject:
        """The checkpoint as people sign it off."""
        seal = next((seal_of(m) for m in self.lineage if m.id == self.id), "")
        return Subject(self.id, self.digest, frozenset({self.id, *(m.id for m in self.lineage)}), seal)


def find_checkpoint(reports: Sequence[Artifact]) -> Checkpoint:
    """The one model that all reports of a stage are on. Raises CharterError if there are several, if it is no folder on
    this disk, or if it was changed since it was made."""
    ids = {identity for report in reports for identity in report.manifest.inputs.get(POLICY, ())}
    if len(ids) != 1:
        steps = ", ".join(report.step for report in reports)
        raise CharterError(f"{steps}: these reports are on {len(ids)} checkpoints, a release is of one")
    report, identity = reports[0], ids.pop()
    run = run_of(report.path)
    refuse(report.path, "it is not released")
    for parent in (parent for parent in report.manifest.parents if parent.role == POLICY):
        manifest, folder = find_parent(run, parent)
        problems = verify_files(folder, manifest)
        if problems or manifest.status != "done":
            problem = problems[0] if problems else f"it is {manifest.status}"
            raise CharterError(f"the checkpoint {folder} is not what its step made: {problem}")
        refuse(folder, "it is not released")
        return Checkpoint(identity, digest_checkpoint(folder), manifest.step, folder, "", _lineage(folder))
    outside = next(external for external in report.manifest.external if external.role == POLICY)
    source = resolve_again(outside, run)
    if source.path is None or not source.path.is_dir():
        raise CharterError(
            f"{outside.ref} is no folder on this disk, so its weights can't be pinned; evaluate a folder with them"
        )
    if source.digest != outside.digest:
        raise CharterError(f"{outside.ref} has changed since the report on it was made; evaluate it again")
    refuse(source.path, "it is not released")
    return Checkpoint(identity, digest_checkpoint(source.path), source.path.name, source.path, outside.ref)


def ancestors(checkpoint: Checkpoint, rules: ReleaseRules) -> tuple[Older, ...]:
    """The ancestors of a checkpoint that it was trained from, with how many times their compute it has."""
    older: list[Older] = []
    at = (checkpoint.lineage[-1], checkpoint.folder) if checkpoint.lineage else None
    while at is not None:
        manifest, folder = at
        parent = next((parent for parent in manifest.parents if parent.role == POLICY), None)
        at = find_parent(run_of(folder), parent) if parent else None
        if at is None:
            break
        subject = Checkpoint(at[0].id, digest_checkpoint(at[1]), at[0].step, at[1], "", _lineage(at[1])).subject
        try:
            mine, theirs = (
                compute_behind(m, place, rules.compute_before)
                for m, place in ((checkpoint.lineage[-1], checkpoint.folder), at)
            )
            older.append(Older(at[0].step, subject, times(mine, theirs)))
        except CharterError as error:
            older.append(Older(at[0].step, subject, why=str(error)))
    return tuple(older)


def _lineage(folder: Path) -> tuple[Manifest, ...]:
    return tuple(manifest for manifest, _ in walk(folder))
