"""Loads rooms: the one place that imports by name, so that no command loads what it doesn't use."""

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from charter import building
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.extras import extra_of, need
from charter.ground.settings.problems import suggest
from charter.ground.settings.room import Room


class Setting(NamedTuple):
    """A setting of a room: its dotted name, its default, whether it has none and needs a value, and its meaning."""

    name: str
    default: object
    needed: bool
    meaning: str


def list_settings(room: Room[Any]) -> list[Setting]:
    """All settings of a room in their order; those of a part follow it, with dotted names."""
    return list(_settings(room.settings, ""))


def _settings(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _settings(type(default), f"{prefix}{name}.")
            continue
        yield Setting(f"{prefix}{name}", default, field.is_required(), field.description or "")
        parts = [a for a in get_args(field.annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
        if parts:
            yield from _settings(parts[0], f"{prefix}{name}.")


def load_module(name: str) -> ModuleType:
    """Imports a module by name. Raises CharterError if it, or a module that it needs, isn't installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        extra = extra_of(error.name)
        if extra is not None and error.name is not None:
            raise CharterError(need(name, extra, error.name)) from error
        raise CharterError(f"{name} cannot be loaded: {error}; install what is missing") from error


def open_room(name: str, place: str = "") -> Room[Any]:
    """Reads a room's declaration. Raises CharterError for an unknown room."""
    package = building.ROOMS.get(name)
    if package is None:
        raise CharterError(f"{place}there is no room {name!r}; {suggest(name, building.ROOMS)}")
    declared: Room[Any] = load_module(f"{package}.settings").ROOM
    return replace(declared, name=name, package=package)


def room_runner(room: Room[Any]) -> Callable[[BaseModel, Inputs, Workspace], None]:
    """The room's run function. This loads the room's libraries, such as torch."""
    run: Callable[[BaseModel, Inputs, Workspace], None] = load_module(f"{room.package}.run").run
    return run


def room_tool(room: str, module: str) -> ModuleType:
    """A further module of a room, such as the card's `verify`."""
    return load_module(f"{building.ROOMS[room]}.{module}")


def has_tool(room: str, module: str) -> bool:
    """Whether a room has a further module of that name."""
    return importlib.util.find_spec(f"{building.ROOMS[room]}.{module}") is not None


def room_folder(package: str) -> Path:
    """The folder of a package's sources, such as a room's."""
    return Path(inspect.getfile(load_module(package))).parent
