"""Loads rooms: the one place that imports by name, so that no command loads what it doesn't use."""

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel

from charter import building
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.kinds import KINDS, Kind
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.problems import suggest
from charter.ground.settings.roles import Filled, Role


@dataclass(frozen=True)
class Room:
    """What a room says of itself in its settings.py; loading it leaves torch unloaded. `context`: tokens that the model
    it makes will read at once, where that isn't what its policy reads. `learns`: it shares its optimizer steps among
    processes (`learn/parallel.py`). `processes`: why so many can't run it, or ""."""

    name: str
    package: str
    settings: type[BaseModel]
    product: Kind
    variant: str | None
    roles: dict[str, Role]
    estimate: Callable[[BaseModel, Sizes], Estimate] | None = None
    check: Callable[[BaseModel, Filled], str] | None = None
    context: Callable[[BaseModel, Filled], int | None] | None = None
    learns: bool = False
    processes: Callable[[BaseModel, int], str] | None = None


def load_module(name: str) -> ModuleType:
    """Imports a module by name. Raises CharterError when it, or something that it needs, isn't installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise CharterError(f"{name} cannot be loaded: {error}; install what is missing") from error


def open_room(name: str, where: str = "") -> Room:
    """Reads a room's settings module. Raises CharterError for a room that doesn't exist."""
    package = building.ROOMS.get(name)
    if package is None:
        raise CharterError(f"{where}there is no room {name!r}; {suggest(name, building.ROOMS)}")
    module = load_module(f"{package}.settings")
    product = module.PRODUCT
    if product not in KINDS:
        raise CharterError(f"room {name}: PRODUCT {product!r} is no kind of artifact")
    return Room(
        name=name,
        package=package,
        settings=module.Settings,
        product=product,
        variant=getattr(module, "VARIANT", None),
        roles=dict(module.ROLES),
        estimate=getattr(module, "estimate", None),
        check=getattr(module, "check", None),
        context=getattr(module, "context", None),
        learns=getattr(module, "LEARNS", False),
        processes=getattr(module, "processes", None),
    )


def room_runner(room: Room) -> Callable[[BaseModel, Inputs, Workspace], None]:
    """The room's run function; this loads what the room computes with, such as torch."""
    run: Callable[[BaseModel, Inputs, Workspace], None] = load_module(f"{room.package}.run").run
    return run


def room_tool(room: str, module: str) -> ModuleType:
    """A further module of a room, such as the card's `verify`."""
    return load_module(f"{building.ROOMS[room]}.{module}")


def has_tool(room: str, module: str) -> bool:
    """Whether a room has a further module of that name."""
    return importlib.util.find_spec(f"{building.ROOMS[room]}.{module}") is not None


def room_folder(package: str) -> Path:
    """The folder of a room's sources."""
    return Path(inspect.getfile(load_module(f"{package}.settings"))).parent
