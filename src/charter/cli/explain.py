"""`charter explain`: what a room, an evaluation, a metric or a word is, from the declarations and pages in the package.

Words of our own stand in words.yaml; what a room logs, in the tables of its README.
"""

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
import yaml

from charter import building
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.problems import near, our_name
from charter.runner.rooms import list_settings, open_room, room_folder
from charter.terminal.options import Json
from charter.terminal.tables import console, plain_table

if TYPE_CHECKING:
    from charter.ground.measure.metric import Metric

WORDS = Path(__file__).parent / "words.yaml"
DIRECTIONS = {
    "higher": "higher is better",
    "lower": "lower is better",
    "zero": "nearer to 0 is better",
    "neither": "no direction is better",
}
UNITS = {"share": "share, 0 to 1", "": "plain number"}
# The heads of the tables in READMEs that explain logged numbers, and evaluations.
LOGGED, TASK = ("logged", "metric"), "task"
_LONGEST_DEFAULT = 40
_CELL = re.compile(r"(?<!\\)\|")


class Meaning(NamedTuple):
    """One meaning of a word: a room, an evaluation, a metric, a logged number or a word; and what is known of it."""

    name: str
    kind: str
    facts: Mapping[str, Any]


class LoggedRow(NamedTuple):
    """A row of a table in a room's README: its names, such as `recall_<tokens>`, and its other cells by their heads."""

    room: str
    head: str
    names: tuple[str, ...]
    cells: Mapping[str, str]


def complete_word(incomplete: str) -> list[str]:
    """Rooms and words that a shell completes; evaluations and metrics would take too long to load."""
    names = [*building.ROOMS, *(word for entry in read_words() for word in entry["words"])]
    return [name for name in names if name.startswith(incomplete)]


def explain(
    word: Annotated[
        str,
        typer.Argument(
            metavar="[ROOM|METRIC|WORD|TASK]",
            help="What to explain; left out: all rooms, evaluations and words.",
            autocompletion=complete_word,
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Explain a room with its settings, an evaluation, a metric, or a word of our own."""
    if not word:
        _print_names(as_json)
        return
    meanings = find_meanings(word)
    if as_json:
        records = [{"name": m.name, "kind": m.kind, **m.facts} for m in meanings]
        print(json.dumps({"word": word, "meanings": records}, indent=1, ensure_ascii=False))
        return
    for meaning in meanings:
        _print_meaning(meaning)


def find_meanings(word: str) -> list[Meaning]:
    """All meanings of a word, also of one that other tools use for ours. Raises CharterError with the nearest name."""
    from charter.rooms.evaluate.catalogue import METRICS, TASKS

    name = word.lower().replace(" ", "_")
    meanings = [_room(name)] if name in building.ROOMS else []
    meanings += [_task(TASKS[name])] if name in TASKS else []
    meanings += [_metric(metric) for metric in METRICS if metric.name == name][:1]
    logged = [row for row in list_logged() if row.head in LOGGED]
    meanings += [_logged(row, name) for row in logged if any(fits(name, n) for n in row.names)]
    spaced = name.replace("_", " ")
    meanings += [
        Meaning(spaced, "word", {"means": entry["idea"], "where": entry["where"]})
        for entry in read_words()
        if {spaced, spaced.removesuffix("s")} & set(entry["words"])
    ]
    if not meanings and (room := our_name(name, building.ROOMS)) is not None:
        meanings = [_room(room)]
    if not meanings:
        metrics = [metric.name for metric in METRICS] + [n for row in logged for n in row.names]
        words = [w for entry in read_words() for w in entry["words"]]
        names = [*building.ROOMS, *TASKS, *words, *metrics]
        guess = our_name(name, names) or near(name, names)
        hint = f"did you mean {guess}?" if guess else "`charter explain` lists what it knows"
        raise CharterError(f"there is no room, evaluation, metric or word {word!r}; {hint}")
    return meanings


def fits(name: str, pattern: str) -> bool:
    """Whether a metric's name is one that a README writes as `recall_<tokens>`."""
    glob = re.sub(r"<[^>]+>", "*", pattern)
    return name == pattern or (len(glob.replace("*", "")) > 2 and fnmatchcase(name, glob))


def read_words() -> list[dict[str, Any]]:
    """The glossary: entries with words, idea and where (files below src)."""
    entries: list[dict[str, Any]] = yaml.safe_load(WORDS.read_text("utf-8"))
    return entries


def first_sentence(page: Path) -> str:
    """The first sentence below the title of a page, without its full stop."""
    _, _, text = page.read_text("utf-8").partition("\n")
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0].rstrip(".")


def list_logged() -> Iterator[LoggedRow]:
    """The rows of all tables in the rooms' READMEs, but those of settings."""
    for room, package in building.ROOMS.items():
        heads: list[str] = []
        for line in (room_folder(package) / "README.md").read_text("utf-8").splitlines():
            cells = [cell.strip() for cell in _CELL.split(line)[1:-1]] if line.startswith("|") else []
            if not cells:
                heads = []
            elif not heads:
                heads = cells
            elif names := re.findall(r"`([^`]+)`", cells[0]):
                columns = zip(heads[1:], cells[1:], strict=False)
                yield LoggedRow(room, heads[0], tuple(names), {k: v.replace("\\|", "|") for k, v in columns if v})


def _room(name: str) -> Meaning:
    room = open_room(name)
    variant = f" ({room.variant})" if room.variant else ""
    roles = [
        {"role": role, "takes": slot.wants(), "default": slot.default or ("needed" if slot.required else "none")}
        for role, slot in room.roles.items()
    ]
    settings = [
        {"setting": s.name, "default": "needed" if s.needed else s.default, "meaning": s.meaning}
        for s in list_settings(room)
    ]
    does = first_sentence(room_folder(room.package) / "README.md")
    return Meaning(name, "room", {"does": does, "makes": room.product + variant, "roles": roles, "settings": settings})


def _task(task: Any) -> Meaning:
    rows = [row for row in list_logged() if row.head == TASK and task.name in row.names]
    facts: dict[str, Any] = {"title": task.title} | {k: v for row in rows for k, v in row.cells.items()}
    facts |= {"data": task.role.default or "none shipped; --data standard or TASK=REFERENCE names some"}
    facts |= {"published": task.standard} if task.standard else {}
    facts |= {"chance": task.chance} if task.chance is not None else {}
    return Meaning(task.name, "evaluation", {**facts, "metrics": [m.name for m in task.numbers if m.kind != "part"]})


def _metric(metric: "Metric") -> Meaning:
    facts: dict[str, Any] = {
        "label": metric.label,
        "means": metric.meaning,
        "unit": UNITS.get(metric.unit, metric.unit),
        "direction": DIRECTIONS[metric.better],
    }
    facts |= {"evaluation": metric.task} if metric.task else {}
    facts |= {"judge": metric.judge} if metric.judge else {}
    facts |= {"chance": metric.chance} if metric.chance is not None else {}
    return Meaning(metric.name, "metric", facts)


def _logged(row: LoggedRow, name: str) -> Meaning:
    return Meaning(name, f"number of the room {row.room}", row.cells)


def _print_meaning(meaning: Meaning) -> None:
    """A heading, then a line for each fact; facts that are rows become a table."""
    screen = console()
    screen.print(f"[bold]{meaning.name}[/]: {meaning.kind}", highlight=False)
    for key, value in meaning.facts.items():
        if not (isinstance(value, list) and value and isinstance(value[0], dict)):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            screen.print(f"  {key}: {text}", highlight=False, markup=False, soft_wrap=True)
            continue
        table = plain_table(list(value[0]))
        for row in value:
            table.add_row(*(_cell(cell) for cell in row.values()))
        screen.print()
        screen.print(table, highlight=False, markup=False)
    screen.print()


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_DEFAULT or " " in text else f"{text[:_LONGEST_DEFAULT]}..."


def _print_names(as_json: bool) -> None:
    from charter.rooms.evaluate.catalogue import TASKS

    names = {
        "rooms": list(building.ROOMS),
        "evaluations": list(TASKS),
        "words": [word for entry in read_words() for word in entry["words"]],
    }
    if as_json:
        print(json.dumps(names, indent=1, ensure_ascii=False))
        return
    for kind, members in names.items():
        print(f"{kind}: {', '.join(members)}")
    print("and every metric of an evaluation or in the log of a room, such as harm_rate or kl")
