"""What other packages bring: extras, libraries that a plain install leaves out, and plugins, by their entry points.

An extra has one line that says how to install it. `pyproject.toml` lists the same libraries by the names of their
packages, with versions and reasons; a test compares the two. Plugins add rooms, commands and stores of votes. The lab
names no package of the service; the service names itself in `pyproject.toml`, as anybody's package may.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping
from importlib.metadata import EntryPoint, distributions, entry_points
from urllib.parse import unquote, urlsplit

# Modules by extra. Those of `bench` and `dev` are for working on Charter, so no command asks for them.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "serve": (
        "alembic",
        "cachetools",
        "latex2mathml",
        "nh3",
        "prometheus_client",
        "pygments",
        "python_multipart",
        "sqlalchemy",
        "sse_starlette",
        "starlette",
        "uvicorn",
    ),
    "documents": ("lxml", "pypdfium2", "python_calamine", "striprtf"),
    "corpus": ("py3langid",),
    "parquet": ("pyarrow",),
    "frames": ("pandas",),
    "postgresql": ("psycopg",),
    "ray": ("ray",),
    "lm-eval": ("lm_eval",),
    "inspect": ("inspect_ai",),
}
ROOMS, COMMANDS, VOTES = "charter.rooms", "charter.commands", "charter.votes"


def missing(extra: str) -> tuple[str, ...]:
    """The modules of an extra that aren't installed."""
    return tuple(module for module in EXTRAS[extra] if importlib.util.find_spec(module) is None)


def extra_of(module: str | None) -> str | None:
    """The extra that brings a module or the package around it, None if no extra does."""
    top = (module or "").partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if top in modules), None)


def install(*extras: str) -> str:
    """The command that installs extras: into the clone or folder that Charter was installed from, if it was."""
    names = ",".join(extras)
    # a build may have left a second record, without an origin, in the clone
    records = (record.read_text("direct_url.json") for record in distributions(name="charter"))
    origin = json.loads(next(filter(None, records), "{}"))
    folder = unquote(urlsplit(origin.get("url", "")).path) if "dir_info" in origin else ""
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}'{folder or 'charter'}[{names}]'"


def need(what: str, extra: str, module: str = "") -> str:
    """The line that refuses something because a module of an extra isn't installed; default: its first missing one."""
    module = module or (*missing(extra), *EXTRAS[extra])[0]
    return f"{what} needs {module}, which the extra {extra} brings: {install(extra)}"


@functools.cache
def added(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, each name once, in the order of their names."""
    points = {point.name: point for point in entry_points(group=group)}
    return tuple(points[name] for name in sorted(points))
