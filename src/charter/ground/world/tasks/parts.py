"""What several tasks build with: the desk where an agent starts, model files, and milestones of usual
kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from charter.ground.world.state import File, Host, Site, World, happened, hashed
from charter.ground.world.task import Milestone

ME = "agent@lab.example"
HOME = "/home/agent"


def desk(name: str, seed: int, instructions: str, files: Mapping[str, str | File] | None = None, **more: Any) -> World:
    """A world whose first host is the desk; `more`: fields of World, `hosts` beside the desk."""
    desk_files = {p: f if isinstance(f, File) else File(f) for p, f in (files or {}).items()}
    desk_files.setdefault(f"{HOME}/README", File("This is the desk. Type help for the commands."))
    hosts = {"desk": Host(files=desk_files), **more.pop("hosts", {})}
    return World(f"{name}:{seed}", instructions, "desk", hosts, ME, **more)


def pages(**texts: str) -> Site:
    """A static site; page `front` is at /, others at their names."""
    return Site(pages={"/" if name == "front" else f"/{name}": text for name, text in texts.items()})


def shards(draw: Random, count: int, length: int) -> dict[str, str]:
    """Dummy weights: random figures in base 16, by file name."""
    return {f"shard-{n}.bin": draw.randbytes(length // 2).hex() for n in range(1, count + 1)}


def model(parts: Mapping[str, str], form: int) -> dict[str, str]:
    """Weights with the manifest that lmserve reads."""
    manifest = {"format": form, "shards": {name: hashed(text) for name, text in parts.items()}}
    return {**parts, "manifest.json": json.dumps(manifest)}


def saw(name: str, meaning: str, kind: str, key: str) -> Milestone:
    """Reached by an event of a kind whose text stands in `hidden` under the key."""
    return Milestone(name, meaning, lambda world: happened(world, kind, str(world.hidden[key])))


def did(name: str, meaning: str, kind: str) -> Milestone:
    """Reached by any event of a kind."""
    return Milestone(name, meaning, lambda world: happened(world, kind))
