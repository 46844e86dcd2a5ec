"""What a recipe may not do across its steps: debias after or beside reinforcement learning, or on evaluation data.

The card of Claude 2, section 3.2: the samples are made and learnt before the RL phase starts. So the policy of some rl
step must come out of each debias step, and no debias step's policy out of an rl step. Lineage here is that of weights:
from policy to policy.
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
    """What these rules need to know of a planned step."""

    @property
    def name(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def room(self) -> Room[Any]: ...
    @property
    def inputs(self) -> tuple[Input, ...]: ...


def check_debias(steps: Sequence[Planned]) -> None:
    """Raises CharterError for a debias step that trains on BBQ, comes out of an rl step, or goes into none where the
    recipe has one."""
    debiased = {step.id for rl in steps if rl.room.name == "rl" for step in _before(rl, steps)}
    reinforces = any(step.room.name == "rl" for step in steps)
    for step in (s for s in steps if s.room.name == "debias"):
        where = f"step {step.name} (room debias): "
        for entry in step.inputs:
            if entry.role == "templates" and entry.path is not None and holds_bbq(entry.path):
                raise CharterError(
                    f"{where}{entry.name} holds BBQ, and evaluation data is never trained on; write templates of "
                    "your own, as shipped:debias.train"
                )
        if (after := _reinforced(step, steps)) is not None:
            raise CharterError(
                f"{where}its policy comes out of {after} (room rl), and debias goes before reinforcement learning; "
                "debias the policy that is given to rl"
            )
        if reinforces and step.id not in debiased:
            raise CharterError(
                f"{where}no rl step starts from it, and debias goes before reinforcement learning; name it, or a "
                "step whose policy it is, as the policy of rl"
            )


def _before(step: Planned, steps: Sequence[Planned]) -> Iterator[Planned]:
    """The steps of the recipe that a step's policy comes out of, latest first."""
    by_id = {other.id: other for other in steps}
    entry = _policy(step)
    while entry is not None and (made := by_id.get(entry.id)) is not None:
        yield made
        entry = _policy(made)


def _reinforced(step: Planned, steps: Sequence[Planned]) -> str | None:
    """The name of the rl step that a step's policy comes out of, of this recipe or of another run; None without."""
    line = [step, *_before(step, steps)]
    for made in line[1:]:
        if made.room.name == "rl":
            return made.name
    entry = _policy(line[-1])
    return None if entry is None or entry.path is None else _reinforced_artifact(entry.path)


def _reinforced_artifact(folder: Path) -> str | None:
    """The same of an artifact of another run, as far as those that it was made of can be found."""
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
