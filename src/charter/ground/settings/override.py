"""`--set step.field=value`: the only way in which the command line changes a recipe."""

import yaml

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.notation import read_yaml
from charter.ground.settings.problems import suggest

RECIPE = "recipe"


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


def _own(value: object) -> object:
    """A deep copy without sharing: parts that YAML's aliases share are copied for each use."""
    if isinstance(value, dict):
        return {key: _own(inner) for key, inner in value.items()}
    return [_own(inner) for inner in value] if isinstance(value, list) else value


def apply_overrides(recipe: dict[str, object], overrides: list[str]) -> dict[str, object]:
    """A copy of a recipe (as read from YAML) with the overrides applied.

    `step.field=value` sets a setting of a step, `step.from.role=ref` one of its inputs, `step.room=name` its
    room; `recipe.seed=1` a field of the recipe itself. Raises CharterError for a step that doesn't exist.
    """
    copy = {key: _own(value) for key, value in recipe.items()}
    entries = copy.get("steps")
    steps = {
        step["name"]: step
        for step in (entries if isinstance(entries, list) else [])
        if isinstance(step, dict) and isinstance(step.get("name"), str)
    }
    for text in overrides:
        name, path, value = parse_override(text)
        if name == RECIPE:
            here: dict[str, object] = copy
        elif name in steps:
            here = steps[name]
            if path[0] not in ("from", "room"):
                path = ["settings", *path]
        else:
            raise CharterError(f"--set {text}: there is no step {name!r}; {suggest(name, [*steps, RECIPE])}")
        for part in path[:-1]:
            inner = here.get(part)
            if inner is None:
                inner = here[part] = {}
            if not isinstance(inner, dict):
                raise CharterError(f"--set {text}: {part} is a value and has no field below it")
            here = inner
        here[path[-1]] = value
    return copy
