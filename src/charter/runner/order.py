"""Rules across a recipe's steps: no debiasing after or beside reinforcement learning, no learning from evaluation data.

The card of Claude 2, section 3.2: the model learns the debiasing samples before the RL phase starts. So the policy of
some rl step must come from each debias step, and no debias step's policy from an rl step. Lineage here is that of
weights: from policy to policy.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.recognise import holds_bbq
from charter.ground.settings.room import Room


class Planned(Protocol):
    """The parts of a planned step that these rules need."""

    @property
    def name(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def room(self) -> Room[Any]: ...
    @property
    def resolved(self) -> dict[str, object]: ...
    @property
    def inputs(self) -> tuple[Input, ...]: ...


# beginnings of roles whose rows keep others out, or measure
MEASURING = ("apart", "benchmarks", "fitness", "heldout", "known")


def is_learnt_from(step: Planned, role: str) -> bool:
    """Whether the rows of a role reach a model's training: not those of a report, nor those that only measure."""
    return step.room.product not in ("report", "card") and not role.startswith(MEASURING)


def check_findings(steps: Sequence[Planned]) -> None:
    """Raises CharterError for a step that would let a model learn from findings that were frozen for an evaluation."""
    by_id = {step.id: step for step in steps}
    for step in steps:
        for entry in step.inputs:
            parent = by_id.get(entry.id)
            maker, resolved = (parent.room.name, parent.resolved) if parent is not None else _maker_of(entry)
            if maker == "intake" and resolved.get("use") == "evaluation" and is_learnt_from(step, entry.role):
                raise CharterError(
                    f"step {step.name}: role {entry.role}: {entry.name} holds findings for an evaluation, which no "
                    "model may learn from; freeze them by an intake step with use: training"
                )


def _maker_of(entry: Input) -> tuple[str, dict[str, object]]:
    """The room and the settings that made an artifact of another run."""
    if entry.path is None or not (entry.path / MANIFEST).is_file():
        return "", {}
    manifest = read_manifest(entry.path)
    return manifest.room, manifest.resolved


def check_debias(steps: Sequence[Planned]) -> None:
    """Raises CharterError for a debias step that trains on BBQ, comes from an rl step, or leads to none although the
    recipe has one."""
    debiased = {step.id for rl in steps if rl.room.name == "rl" for step in _trace_policy(rl, steps)}
    reinforces = any(step.room.name == "rl" for step in steps)
    for step in (s for s in steps if s.room.name == "debias"):
        prefix = f"step {step.name} (room debias): "
        for entry in step.inputs:
            if entry.role == "templates" and entry.path is not None and holds_bbq(entry.path):
                raise CharterError(
                    f"{prefix}{entry.name} holds BBQ, and no step may train on evaluation data; write templates of "
                    "your own, as in shipped:debias.train"
                )
        if (after := _find_rl(step, steps)) is not None:
            raise CharterError(
                f"{prefix}its policy comes from {after} (room rl), and debias goes before reinforcement learning; "
                "debias the policy of the rl step"
            )
        if reinforces and step.id not in debiased:
            raise CharterError(
                f"{prefix}no rl step starts from it, and debias goes before reinforcement learning; name it, or a "
                "step whose policy it is, as the policy of rl"
            )


def _trace_policy(step: Planned, steps: Sequence[Planned]) -> Iterator[Planned]:
    """The steps of the recipe that a step's policy comes from, latest first."""
    by_id = {other.id: other for other in steps}
    entry = _policy(step)
    while entry is not None and (parent := by_id.get(entry.id)) is not None:
        yield parent
        entry = _policy(parent)


def _find_rl(step: Planned, steps: Sequence[Planned]) -> str | None:
    """The rl step that a step's policy comes from, in this recipe or another run; None if there is none."""
    line = [step, *_trace_policy(step, steps)]
    for parent in line[1:]:
        if parent.room.name == "rl":
            return parent.name
    entry = _policy(line[-1])
    return None if entry is None or entry.path is None else _find_rl_artifact(entry.path)


def _find_rl_artifact(folder: Path) -> str | None:
    """The same for an artifact of another run, as far as its parents can be found."""
    with suppress(CharterError):
        while (folder / MANIFEST).is_file():
            manifest = read_manifest(folder)
            if manifest.room == "rl":
                return str(folder)
            parent = next((p for p in manifest.parents if p.role == "policy"), None)
            if parent is None:
                break
            folder = find_parent(run_of(folder), parent)[1]
    return None


def _policy(step: Planned) -> Input | None:
    return next((entry for entry in step.inputs if entry.role == "policy"), None)
