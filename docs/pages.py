"""Pages of the site that no one writes: copies of READMEs, and reference taken from the code.

`hooks.py` gives them to mkdocs; the tests read them without it. A page's name is its path below `docs/`.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from fill import settings_table
from pydantic import BaseModel
from tables import table

from charter.building import ROOMS
from charter.cli.main import make_app
from charter.ground.measure.metric import Metric
from charter.ground.settings.recipe import Recipe, Step
from charter.ground.settings.room import Role
from charter.rooms.evaluate.catalogue import METRICS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
ROOM_PAGES = {room: f"src/{package.replace('.', '/')}/README.md" for room, package in ROOMS.items()}
# page -> the file of the repository that it is a copy of
COPIES = {
    "project/changelog.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/security.md": "SECURITY.md",
    "results/benchmarks.md": "benchmarks/README.md",
    "reference/api.md": "src/charter_service/api/README.md",
    **{f"reference/rooms/{room}.md": source for room, source in ROOM_PAGES.items()},
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def written() -> dict[str, str]:
    """Page -> its text, for every page that is a file below `docs/`."""
    return {path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in sorted(DOCS.rglob("*.md"))}


def generated() -> dict[str, str]:
    """Page -> its text, for every page that is a copy or comes from the code; a room's page ends with its settings."""
    pages = {page: (ROOT / source).read_text("utf-8") for page, source in COPIES.items()}
    for room in ROOMS:
        page = f"reference/rooms/{room}.md"
        pages[page] = f"{pages[page].rstrip()}\n\n{settings_table(room)}\n"
    return pages | {page: write() for page, write in FROM_CODE.items()}


def relink(page: str, text: str) -> str:
    """The text with links between files of the repository made links between pages of the site.

    A link to a file that has no page becomes its words, with the file's path behind them.
    """
    source = COPIES.get(page, f"docs/{page}")
    pages = {of: name for name, of in COPIES.items()}

    def site_link(found: re.Match[str]) -> str:
        image, words, target = found.groups()
        path, hash_mark, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return found[0]
        file = os.path.normpath(os.path.join(os.path.dirname(source), path))
        goal = pages.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        if goal is None:
            return f"{words} (`{file}`)"
        return f"{image}[{words}]({os.path.relpath(goal, os.path.dirname(page) or '.')}{hash_mark}{anchor})"

    parts = FENCED.split(text)
    return "".join(part if at % 2 else LINK.sub(site_link, part) for at, part in enumerate(parts))


def command_page() -> str:
    """Every command with its arguments and options."""
    command = typer.main.get_command(make_app())
    parts = [
        "# Command line",
        "For those who look an option up. Written from the code.",
        *_commands(command, "charter"),
    ]
    return "\n\n".join(parts) + "\n"


def _commands(command: Any, name: str) -> Iterator[str]:
    inner: Mapping[str, Any] | None = getattr(command, "commands", None)
    if inner is not None:
        for word in inner:
            yield from _commands(inner[word], f"{name} {word}")
        return
    yield f"## {name}"
    yield _plain(command.help or "")
    context = typer.Context(command, info_name=name)
    rows = [param.get_help_record(context) or (param.human_readable_name, _help(param)) for param in command.params]
    shown = [row for row in rows if row[0]]
    if shown:
        cells = [(f"`{_cell(left)}`", _cell(right)) for left, right in shown]
        yield table(("argument or option", "meaning"), cells, left=2)


def _help(param: Any) -> str:
    return str(getattr(param, "help", None) or "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _plain(text: str) -> str:
    return " ".join(text.replace("\b", "").split()).replace("<", "&lt;")


def recipe_page() -> str:
    """The form of a recipe, and of each room its roles and settings."""
    parts = [
        "# Recipe",
        "For those who write recipes. Written from the code; one YAML file holds `name`, `seed`, `steps`.",
    ]
    parts += ["## The file", _fields(Recipe), "## A step", _fields(Step)]
    for room, package in ROOMS.items():
        settings = importlib.import_module(f"{package}.settings")
        parts += [f"## {room}", f"[What the step does](rooms/{room}.md).", _roles(settings.ROLES), settings_table(room)]
    return "\n\n".join(parts) + "\n"


def _fields(model: type[BaseModel]) -> str:
    fields = model.model_fields.items()
    rows = [(f"`{field.alias or name}`", str(field.description)) for name, field in fields]
    return table(("key", "meaning"), rows, left=2)


def _roles(roles: Mapping[str, Role]) -> str:
    if not roles:
        return "Takes no input."
    rows = []
    for name, role in roles.items():
        takes = role.wants() + (", one or more" if role.many else "")
        needed = "yes" if role.required and role.default is None else "no"
        rows.append((f"`{name}`", takes, needed, f"`{role.default}`" if role.default else ""))
    return table(("role under `from`", "takes", "needed", "default"), rows, left=4)


def metric_page() -> str:
    """Every metric of an evaluation, a section a task: name, label, unit, direction, meaning."""
    by_task: dict[str, list[Metric]] = {}
    for metric in METRICS:
        by_task.setdefault(metric.task or "refusals", []).append(metric)
    parts = [
        "# Metrics",
        "For those who read reports and cards, or write rules of a gate. Written from the code.",
        ", ".join(f"[{task}](#{slug(task)})" for task in by_task),
    ]
    for task, metrics in by_task.items():
        rows = []
        for metric in metrics:
            cells = (metric.label, metric.unit, metric.better, metric.meaning)
            rows.append([f"`{metric.name}`", *(_cell(str(cell)) for cell in cells)])
        heads = ("metric", "label", "unit", "better", "meaning")
        parts += [f"## {task}", table(heads, rows, left=len(heads))]
    return "\n\n".join(parts) + "\n"


FROM_CODE: dict[str, Callable[[], str]] = {
    "reference/cli.md": command_page,
    "reference/recipe.md": recipe_page,
    "reference/metrics.md": metric_page,
}
