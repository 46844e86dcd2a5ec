"""What a shell completes that depends on a recipe or on the catalogue of evaluations; names are in `runner.names`.

A completer never fails: what it can't read gives no completion, because a traceback would land in the line that is
being typed.
"""

from pathlib import Path

import typer

import charter
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.notation import read_yaml_file
from charter.ground.settings.recipe import RECIPE
from charter.runner.names import find_recipe
from charter.runner.rooms import list_settings, open_room

TASKS = Path(str(charter.__file__)).parent / "rooms" / "evaluate" / "tasks"
# Suites and tasks without a file of their own.
SUITES = ("battery", "assistant", "exams", "honesty", "national_security", "replies", "topics", "written")
FURTHER = ("adherence_text", "bbq_instructed", "bbq_reasoned", "bbq_sampled")


def complete_setting(ctx: typer.Context, incomplete: str) -> list[str]:
    """`step.` for each step of the recipe on the line, then `step.field=` for each setting and role of its room."""
    rooms = _rooms_of_steps(ctx)
    step, dot, _ = incomplete.partition(".")
    if not dot:
        return [f"{name}." for name in rooms]
    try:
        room = open_room(rooms[step])
    except (KeyError, CharterError):
        return []
    fields = [setting.name for setting in list_settings(room)] + [f"from.{role}" for role in room.roles]
    return [f"{step}.{field}=" for field in fields]


def complete_step(ctx: typer.Context) -> list[str]:
    """The steps of the recipe on the line."""
    return list(_rooms_of_steps(ctx))


def complete_tasks(incomplete: str) -> list[str]:
    """Evaluations and suites; those before the last comma stay. An evaluation is known by its file: to load the
    catalogue takes as long as all the rest."""
    names = [*SUITES, *sorted([*FURTHER, *(path.stem for path in TASKS.glob("[a-z]*.py"))])]
    before, comma, _ = incomplete.rpartition(",")
    tasks = before.split(",")
    return [f"{before}{comma}{name}" for name in names if name not in tasks]


def _rooms_of_steps(ctx: typer.Context) -> dict[str, str]:
    """The room of each step. An option that still waits for its value leaves the recipe among the other words."""
    words = [ctx.params.get("recipe"), *ctx.args]
    try:
        name = next(word for word in words if word)
        recipe = read_yaml_file(find_recipe(name), RECIPE, "steps")
        return {str(step["name"]): str(step["room"]) for step in recipe["steps"]}
    except (CharterError, LookupError, TypeError, StopIteration):
        return {}
