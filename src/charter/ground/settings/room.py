"""The declaration of a room, at the end of its settings.py. Reading it doesn't load torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from charter.ground.artifact.kinds import Kind
from charter.ground.settings.estimate import Estimate, Sizes
from charter.ground.settings.roles import Filled, Role

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Room(Generic[S]):
    """A room: the kind of artifact that it makes, its settings, and the roles that a recipe fills.

    `variant`: of a checkpoint. `estimate`: time, memory and disk, if known. `check`: a contradiction between settings
    and roles, or "". `context`: the context of the new model in tokens, if it differs from the policy's. `uses`: the
    roles that these settings need, if not all; other roles need no source and take no default. `learns`: the room
    shares its optimizer steps among processes (`learn/parallel.py`). `processes`: why n processes can't run it, or "".
    `extra`: the extra of the package that it needs, or "" (`settings/extras.py`).
    `purpose`: the mark of its products (`settings/purpose.py`), inherited by what is made of them.
    `method`: what it does, as a phrase of a card. `against_harm`: what that does against harm or needless refusals, as
    a sentence. Manifests of its products have both. `name` and `package`: from `building.ROOMS`; the runner fills them
    in.
    """

    product: Kind
    settings: type[S]
    roles: Mapping[str, Role]
    variant: str | None = None
    estimate: Callable[[S, Sizes], Estimate] | None = None
    check: Callable[[S, Filled], str] | None = None
    context: Callable[[S, Filled], int | None] | None = None
    uses: Callable[[S], Collection[str]] | None = None
    processes: Callable[[S, int], str] | None = None
    learns: bool = False
    extra: str = ""
    purpose: str = ""
    method: str = ""
    against_harm: str = ""
    name: str = ""
    package: str = ""
