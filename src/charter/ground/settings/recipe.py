"""A recipe: a whole pipeline as one YAML file of named steps, each with a room and its inputs. `--set step.field=value`
is the only way in which the command line changes a recipe.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.notation import read_yaml, read_yaml_file
from charter.ground.settings.problems import first_problem, suggest, validate

RECIPE = "recipe"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def parse_override(text: str) -> tuple[str, list[str], object]:
    """Splits 'step.a.b=value' into the step, the path of fields and the value (read as YAML)."""
    target, equals, value = text.partition("=")
    parts = target.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise CharterError(f"--set {text}: write step.field=value, for example --set rl.steps=20")
    try:
        return parts[0], parts[1:], read_yaml(value)
    except yaml.YAMLError:
        raise CharterError(f"--set {text}: {value!r} is not a YAML value") from None


def _unshared(value: object) -> object:
    """A deep copy without sharing: parts that YAML's aliases share are copied for each use."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def apply_overrides(recipe: dict[str, object], overrides: list[str]) -> dict[str, object]:
    """A copy of a recipe (as read from YAML) with the overrides applied.

    `step.field=value` sets a setting of a step, `step.from.role=ref` one of its inputs, `step.room=name` its
    room; `recipe.seed=1` a field of the recipe itself. Raises CharterError for a step that doesn't exist.
    """
    copy = {key: _unshared(value) for key, value in recipe.items()}
    entries = copy.get("steps")
    steps = {
        step["name"]: step
        for step in (entries if isinstance(entries, list) else [])
        if isinstance(step, dict) and isinstance(step.get("name"), str)
    }
    for text in overrides:
        name, path, value = parse_override(text)
        if name == RECIPE:
            target: dict[str, object] = copy
        elif name in steps:
            target = steps[name]
            if path[0] not in ("from", "room"):
                path = ["settings", *path]
        else:
            raise CharterError(f"--set {text}: there is no step {name!r}; {suggest(name, [*steps, RECIPE])}")
        for part in path[:-1]:
            inner = target.get(part)
            if inner is None:
                inner = target[part] = {}
            if not isinstance(inner, dict):
                raise CharterError(f"--set {text}: {part} is a value and has no field below it")
            target = inner
        target[path[-1]] = value
    return copy


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Portion(_Frozen):
    """A source of a mixture: a step's name or a reference, and the passes over it in an epoch."""

    source: str = Field(description="a step's name or a reference")
    share: float = Field(ge=0, allow_inf_nan=False, description="passes over it in an epoch; 0.5: half of its rows")


Sources = str | Portion | list[str | Portion]


class Step(_Frozen):
    """One step: a room, what fills its roles (step names or references), and the room's settings."""

    name: str = Field(description="unique in the recipe; letters, digits, - and _")
    room: str = Field(description="the room that runs the step")
    sources: dict[str, Sources] = Field(
        default_factory=dict,
        alias="from",
        description="role: step name, reference or list of them, each alone or as {source, share}",
    )
    settings: dict[str, object] = Field(default_factory=dict, description="settings of the room")

    @field_validator("name")
    @classmethod
    def _speakable(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or name == RECIPE:
            raise ValueError(f"a step's name is letters, digits, - and _ (and not {RECIPE!r})")
        return name

    @field_validator("sources", "settings", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        # YAML reads `settings:` with only comments below it as null
        return {} if value is None else value

    @field_validator("sources", mode="before")
    @classmethod
    def _portions(cls, value: object) -> object:
        # here and not as a union, whose errors name its types
        if not isinstance(value, dict):
            return value
        return {
            role: [_portion(role, entry) for entry in entries] if isinstance(entries, list) else _portion(role, entries)
            for role, entries in value.items()
        }

    def refs(self, role: str) -> list[str]:
        """What fills a role, without shares."""
        return [entry.source if isinstance(entry, Portion) else entry for entry in self._entries(role)]

    def shares(self, role: str) -> list[float]:
        """The share of each source of a role; 1 if none is written."""
        return [entry.share if isinstance(entry, Portion) else 1.0 for entry in self._entries(role)]

    @property
    def has_shares(self) -> bool:
        """Whether a source is written with its share."""
        return any(isinstance(entry, Portion) for role in self.sources for entry in self._entries(role))

    def _entries(self, role: str) -> list[str | Portion]:
        entries = self.sources.get(role, [])
        return entries if isinstance(entries, list) else [entries]


def _portion(role: object, entry: object) -> object:
    """A mapping as a portion, all else as it is. Raises ValueError for a mapping that is none."""
    if not isinstance(entry, dict):
        return entry
    try:
        return Portion.model_validate(entry)
    except ValidationError as error:
        wrong = first_problem(error, Portion)
        raise ValueError(f"{role}: write a source with its share as {{source: NAME, share: 0.5}}: {wrong}") from None


class Recipe(_Frozen):
    """The whole pipeline; steps may be listed in any order."""

    name: str = Field(description="names the run directory")
    size: str | None = Field(default=None, description="a word for the reader: tiny, demo, ...")
    seed: int = Field(default=0, ge=0, description="the one seed that all others come from")
    steps: list[Step] = Field(min_length=1, description="the steps of the pipeline")

    @field_validator("name")
    @classmethod
    def _speakable(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a recipe's name is letters, digits, - and _, because it names the run directory")
        return name

    @field_validator("steps")
    @classmethod
    def _unique(cls, steps: list[Step]) -> list[Step]:
        twice = [name for name, count in Counter(step.name for step in steps).items() if count > 1]
        if twice:
            raise ValueError(f"two steps are called {twice[0]}; names must be unique")
        return steps

    def step(self, name: str) -> Step | None:
        """The step of that name, or None."""
        return next((step for step in self.steps if step.name == name), None)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads and checks a recipe, with `--set` overrides applied.

    Raises CharterError if the file is missing, is not YAML, or has unknown keys or bad values.
    """
    raw = read_yaml_file(path, "recipe", "name, seed and steps", "charter init DIR")
    raw.setdefault("name", path.stem)
    fields = apply_overrides(raw, list(overrides))
    return validate(Recipe, fields, path)
