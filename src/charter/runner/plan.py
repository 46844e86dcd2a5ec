"""From a recipe to a plan: steps in order, roles filled and checked, settings resolved, ids computed.

Planning finds everything that can be wrong with a recipe, before anything starts.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.manifest import External, Parent
from charter.ground.artifact.store import read_manifest
from charter.ground.model.folder import ModelSize, read_size
from charter.ground.model.shape import Shape, from_config, parse_random
from charter.ground.settings.execution import Execution
from charter.ground.settings.packages import package_of
from charter.ground.settings.problems import suggest, validate
from charter.ground.settings.purpose import check_reader, inherited, purpose_of
from charter.ground.settings.recipe import Recipe, Step
from charter.ground.settings.room import Given, Role, Room
from charter.ground.settings.seed import derive_seed
from charter.ground.settings.sources import SCHEMES, Source, is_external, resolve
from charter.runner.identity import step_id
from charter.runner.names import find_artifact
from charter.runner.order import check_debias, check_findings
from charter.runner.rooms import open_room


@dataclass(frozen=True)
class PlannedStep:
    """A step that is ready to run; `inputs` name the folders where parents lie or will lie.

    `context`: tokens that its product, a model, will read at once, None if unknown. `models`: the size of each model
    among the inputs, by its `ref`, as far as a plan can know it. `purpose`: the mark of its product.
    """

    step: Step
    room: Room[Any]
    settings: BaseModel
    resolved: dict[str, object]
    inputs: tuple[Input, ...]
    parents: tuple[Parent, ...]
    external: tuple[External, ...]
    seed: int
    id: str
    context: int | None = None
    purpose: str = ""
    models: Mapping[str, ModelSize] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.name

    def id_under(self, execution: Execution) -> str:
        """The id of the same work on another device or in another precision."""
        return step_id(self.room, self.resolved, self.inputs, self.seed, execution)


@dataclass(frozen=True)
class Plan:
    """All steps of a recipe in the order in which they run; `notes` are on the user's own rows."""

    recipe: Recipe
    run: Path
    execution: Execution
    steps: tuple[PlannedStep, ...]
    notes: tuple[str, ...] = ()
    command: str = ""

    def until(self, name: str | None) -> tuple[PlannedStep, ...]:
        """The step of that name with the steps that it needs; every step for None."""
        if name is None:
            return self.steps
        by_name = {planned.name: planned for planned in self.steps}
        if name not in by_name:
            raise CharterError(f"--until {name}: there is no such step; {suggest(name, by_name)}")
        needed = {name}
        for planned in reversed(self.steps):
            if planned.name in needed:
                needed |= own_parents(planned)
        return tuple(planned for planned in self.steps if planned.name in needed)


def own_parents(planned: PlannedStep) -> set[str]:
    """The steps of the same recipe that a step builds on."""
    return {parent.step for parent in planned.parents if parent.path == parent.step}


@dataclass
class _Planner:
    """What planning a step needs: the recipe, the steps planned so far, and the models read so far, by their `ref`."""

    recipe: Recipe
    folder: Path
    run: Path
    execution: Execution
    steps: dict[str, PlannedStep] = field(default_factory=dict)
    models: dict[str, ModelSize | None] = field(default_factory=dict)

    def plan(self, step: Step) -> PlannedStep:
        """Checks one step whose parents are planned."""
        room = open_room(step.room, f"step {step.name}: ")
        settings = validate(room.settings, _mixed(step, room), f"step {step.name} (room {room.name})")
        inputs: list[Input] = []
        parents: list[Parent] = []
        external: list[External] = []
        filled: dict[str, list[Given]] = {}
        models: dict[str, ModelSize] = {}
        purposes = [room.purpose]
        for role, refs in self._references(step, room, settings):
            for ref in refs:
                entry, record = self._fill(step, role, ref, room.roles[role])
                inputs.append(entry)
                purposes.append(self._purpose(step, entry, room))
                model = self._model(step, entry, isinstance(record, External))
                context = model.shape.context if model is not None else None
                if ref in self.steps:
                    context = self.steps[ref].context
                filled.setdefault(role, []).append(Given(entry.name, context))
                if model is not None:
                    models[entry.ref] = model
                if isinstance(record, Parent):
                    parents.append(record)
                else:
                    external.append(record)
        if room.check is not None and (wrong := room.check(settings, filled)):
            raise CharterError(f"step {step.name} (room {room.name}): {wrong}")
        resolved = settings.model_dump(mode="json")
        seed = derive_seed(self.recipe.seed, step.name)
        return PlannedStep(
            step=step,
            room=room,
            settings=settings,
            resolved=resolved,
            inputs=tuple(inputs),
            parents=tuple(parents),
            external=tuple(external),
            seed=seed,
            id=step_id(room, resolved, inputs, seed, self.execution),
            context=room.context(settings, filled) if room.context else _first(filled.get("policy", ())),
            purpose=inherited(room.product, purposes),
            models=models,
        )

    def _purpose(self, step: Step, entry: Input, room: Room[Any]) -> str:
        """The mark of an input. Raises CharterError if the room may not read it."""
        planned = self.steps.get(entry.name)
        if planned is not None and planned.id == entry.id:
            purpose = planned.purpose
        else:
            purpose = purpose_of(entry.path or Path(entry.ref))
        check_reader(entry, purpose, room.roles[entry.role].kind, room.name, f"step {step.name}: ")
        return purpose

    def _references(self, step: Step, room: Room[Any], settings: BaseModel) -> list[tuple[str, list[str]]]:
        """The references of each role in the room's order, including defaults."""
        for role in step.sources:
            if role not in room.roles:
                hint = suggest(role, room.roles)
                raise CharterError(f"step {step.name}: room {room.name} has no role {role!r}; {hint}")
        roles = room.uses(settings) if room.uses else room.roles
        filled = []
        for name, slot in room.roles.items():
            refs = step.refs(name)
            if name not in step.sources and slot.default is not None and name in roles:
                refs = [slot.default]
            if not refs and slot.required and name in roles:
                raise CharterError(
                    f"step {step.name}: room {room.name} needs the role {name} ({slot.wants()}): "
                    f"write `from: {{{name}: a step or source}}`"
                )
            if len(refs) > 1 and not slot.many:
                raise CharterError(f"step {step.name}: role {name} takes one input and has {len(refs)}")
            filled.append((name, refs))
        return filled

    def _fill(self, step: Step, role: str, ref: str, slot: Role) -> tuple[Input, Parent | External]:
        """One input of a role: a step of this recipe, an artifact of another run, or an external source."""
        parent = self.steps.get(ref)
        artifact = None if parent else find_artifact(ref, (self.folder, Path()))
        record: Parent | External
        if parent is not None:
            kind, variant = parent.room.product, parent.room.variant
            place = (self.run / ref).resolve()
            entry = Input(role, ref, kind, variant, place, str(place), parent.id)
            record = Parent(role=role, step=ref, id=parent.id, path=ref)
        elif artifact is not None:
            manifest = read_manifest(artifact)
            if manifest.status != "done":
                raise CharterError(f"step {step.name}: {artifact} is {manifest.status}, not done")
            kind, variant = manifest.kind, manifest.variant
            entry = Input(role, manifest.step, kind, variant, artifact, str(artifact), manifest.id)
            relative = os.path.relpath(artifact, self.run.resolve())
            record = Parent(role=role, step=manifest.step, id=manifest.id, path=relative)
        else:
            try:
                source = resolve(ref, self.folder, "dataset" if slot.holds_data else "model")
            except CharterError as error:
                raise CharterError(f"step {step.name}: role {role}: {error}") from None
            entry = open_source(source, ref, role)
            path = os.path.relpath(source.path, self.run.resolve()) if source.own and source.path else None
            record = External(role=role, ref=source.ref, digest=source.digest, path=path)
        if not slot.accepts(entry.kind, entry.variant, artifact=isinstance(record, Parent)):
            actual = f"{entry.kind} ({entry.variant})" if entry.variant else entry.kind
            raise CharterError(f"step {step.name}: role {role} takes {slot.wants()}, and {ref} is {actual}")
        return entry, record

    def _model(self, step: Step, entry: Input, external: bool) -> ModelSize | None:
        """The size of the model behind an input, read once a plan. Raises CharterError for an external model that the
        step would refuse. The step finds a damaged artifact when it opens it."""
        if entry.ref not in self.models:
            try:
                self.models[entry.ref] = size_of(entry)
            except CharterError as error:
                if external:
                    raise CharterError(f"step {step.name}: role {entry.role}: {error}") from None
                self.models[entry.ref] = None
        return self.models[entry.ref]


def make_plan(recipe: Recipe, folder: Path, run: Path, execution: Execution) -> Plan:
    """Plans a recipe that lies in `folder` for the run directory `run`.

    Raises CharterError, one line, for the first thing that is wrong: cycles, missing steps, unknown rooms, roles or
    settings, bad values, inputs of the wrong kind, sources that don't exist, debiasing out of order.
    """
    planner = _Planner(recipe, folder, run, execution)
    for step in order_steps(recipe, folder):
        planner.steps[step.name] = planner.plan(step)
    steps = tuple(planner.steps.values())
    check_debias(steps)
    check_findings(steps)
    return Plan(recipe, run, execution, steps)


def order_steps(recipe: Recipe, folder: Path) -> list[Step]:
    """The steps, each after those that it builds on, otherwise in the recipe's order."""
    waiting = {step.name: _needs(step, recipe, folder) for step in recipe.steps}
    order: list[Step] = []
    while waiting:
        ready = next((name for name, needs in waiting.items() if not needs & waiting.keys()), None)
        if ready is None:
            raise CharterError(f"steps depend on each other in a circle: {' -> '.join(_circle(waiting))}")
        del waiting[ready]
        order.extend(step for step in recipe.steps if step.name == ready)
    return order


def open_source(source: Source, name: str, role: str = "") -> Input:
    """An external source as an input. `ref` opens from anywhere. `path` is set if the source can be read in place; a
    model that must be unpacked first, such as a GGUF file, has none."""
    packed = source.kind == "checkpoint" and source.path is not None and source.path.is_file()
    ref = str(source.path) if source.own and source.path is not None else source.ref
    return Input(role, name, source.kind, source.variant, None if packed else source.path, ref, source.digest)


def size_of(entry: Input) -> ModelSize | None:
    """The size of a model, by its name or from its folder's config.json and headers; None for other inputs, and if
    neither says it. Raises CharterError for a folder that a room would refuse."""
    if entry.ref.startswith("random:"):
        return _measure(parse_random(entry.ref)[1])
    in_folder = None
    if entry.kind == "checkpoint" and entry.variant != "labeller" and entry.path is not None:
        in_folder = read_size(entry.path, entry.variant)
    package = package_of(entry.ref)
    return _measure(from_config(package.config)) if package is not None else in_folder


def _mixed(step: Step, room: Room[Any]) -> dict[str, object]:
    """The settings of a step; shares written beside its sources become its `mixture`, in the order of the room's roles.

    Raises CharterError if the room mixes nothing, or another mixture is written as well."""
    if not step.has_shares:
        return step.settings
    if "mixture" not in room.settings.model_fields:
        raise CharterError(
            f"step {step.name}: room {room.name} takes all of its inputs and no `share`; write the source alone"
        )
    mixture = [
        share for role, slot in room.roles.items() if slot.holds_data and slot.many for share in step.shares(role)
    ]
    if step.settings.get("mixture", mixture) != mixture:
        raise CharterError(f"step {step.name}: `mixture` and the shares beside the sources differ; keep one of the two")
    return step.settings | {"mixture": mixture}


def _measure(shape: Shape) -> ModelSize:
    return ModelSize(shape, shape.num_parameters)


def _first(policies: Sequence[Given]) -> int | None:
    return policies[0].context if policies else None


def _needs(step: Step, recipe: Recipe, folder: Path) -> set[str]:
    """The steps that a step builds on. Raises CharterError for a name that is neither step nor source."""
    needs = set()
    for role in step.sources:
        for ref in step.refs(role):
            if recipe.step(ref) is not None:
                needs.add(ref)
            elif not is_external(ref) and find_artifact(ref, (folder, Path())) is None:
                hint = _hint(ref, [sibling.name for sibling in recipe.steps if sibling is not step], folder)
                raise CharterError(f"step {step.name}: {role}: there is no step or source {ref!r}; {hint}")
    return needs


def _hint(ref: str, names: list[str], folder: Path) -> str:
    """What to write instead of a reference that names nothing; a file or folder of that name beside the recipe comes
    first."""
    if ref and (folder / ref).exists():
        return f"write ./{ref} for the {'folder' if (folder / ref).is_dir() else 'file'} of that name"
    if ref and Path(ref).exists():
        place = Path(ref).absolute()
        return f"write {place} for the one of that name here: relative paths start at the recipe's folder"
    if names and "/" not in ref:
        return suggest(ref, names)
    path = f"write ./{ref} for a file or folder, or " if ref else ""
    schemes = ", ".join(f"{scheme}:" for scheme in SCHEMES)
    return f"{path}name a finished step of a run (runs/demo/threshold) or what begins with one of {schemes}"


def _circle(waiting: dict[str, set[str]]) -> list[str]:
    """One circle among steps that all wait for each other."""
    path = [next(iter(waiting))]
    while path[-1] not in path[:-1]:
        path.append(next(name for name in waiting if name in waiting[path[-1]]))
    return path[path.index(path[-1]) :]
