"""A request to a site, and the form of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from charter.ground.world.state import Record, World

Answer = tuple[World, int, str]  # status as in HTTP


@dataclass(frozen=True)
class Request:
    method: str
    site: str
    path: str
    values: Mapping[str, str]

    def value(self, name: str) -> str:
        return self.values.get(name, "").strip()

    def record(self, world: World, name: str) -> Record | None:
        return world.sites[self.site].records.get(name)


def unknown(world: World, request: Request) -> Answer:
    return world, 404, "no such page"
