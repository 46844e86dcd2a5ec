"""`charter arena status`, `export`, `person` and `simulate`: a collection's data, and simulated people to try it."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from charter.ground.artifact.errors import CharterError
from charter.terminal.options import Axis, Json, Yes


class Rater(StrEnum):
    """Whose answers."""

    human = "human"
    simulated = "simulated"


class What(StrEnum):
    """What an export holds."""

    comparisons = "comparisons"
    judgments = "judgments"


Place = Annotated[
    str,
    typer.Argument(metavar="CONFIG|DB", help="A service's configuration, or its database: a file or a URL."),
]


def status(place: Place, as_json: Json = False) -> None:
    """Show the progress of a collection, and how carefully each person works."""
    from charter_service.arena import views

    views.print_status(place, as_json)


def export(
    place: Place,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the artifact.")],
    what: Annotated[What, typer.Option("--what", help="Choices, or reviews.")] = What.comparisons,
    axis: Annotated[Axis | None, typer.Option("--axis", help="For choices: only this task.")] = None,
    source: Annotated[
        Rater, typer.Option("--source", help="Whose answers; an export never has both.")
    ] = Rater.human,
    keep_flagged: Annotated[
        bool, typer.Option("--keep-flagged", help="Keep choices marked as suspicious.")
    ] = False,
) -> None:
    """Freeze people's answers as an artifact for recipes, `charter data` and the card."""
    from charter_service.arena import views

    if what is What.comparisons:
        frozen = views.frozen_comparisons(place, out, axis.value if axis else "", source.value, keep_flagged)
    elif axis is not None or keep_flagged:
        raise CharterError("--axis and --keep-flagged are for comparisons; leave them out")
    else:
        frozen = views.frozen_judgments(place, out, source.value)
    print(views.told_frozen(frozen))


def person(
    place: Place,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person's name in the service.")],
    to: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write all data of the person, in JSON."),
    ] = None,
    forgotten: Annotated[
        bool, typer.Option("--forget", help="Delete the person with all their data.")
    ] = False,
    locked: Annotated[
        bool | None, typer.Option("--lock/--unlock", help="Disable the person, or enable them again.")
    ] = None,
    key: Annotated[bool, typer.Option("--new-key", help="Show a new key, once; the old one ends.")] = False,
    yes: Yes = False,
) -> None:
    """Export or delete the data of one person, disable the person, or give them a new key."""
    from charter_service.arena import views

    if [to is not None, forgotten, locked is not None, key].count(True) != 1:
        raise CharterError("give one of --export FILE, --forget, --lock, --unlock and --new-key")
    with views.opened(place) as collection:
        who, data, size = views.person_with_data(collection, name)
        if to is not None:
            views.hand_out(data, to)
            print(f"{to} has all data of {who.name}: {size}")
        elif forgotten:
            if not yes and not sys.stdin.isatty():
                raise CharterError(f"this deletes {who.name} with {size}: confirm with --yes")
            question = f"Delete {who.name} with {size}? Earlier exports keep their copies."
            if not yes and not typer.confirm(question):
                print("nothing was deleted")
                raise typer.Exit(1)
            views.delete(collection, who.id)
            print(f"{who.name} is deleted")
        elif key:
            print(f"{who.name} can sign in at /enter with the key {views.new_key(collection, who.id)}")
        elif locked is not None:
            views.lock(collection, who.id, locked)
            print(f"{who.name} is {'disabled' if locked else 'enabled again'}")


def simulate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration of a running service.")],
    url: Annotated[str, typer.Option("--url", help="Address of the service.")] = "http://127.0.0.1:8760",
    workers: Annotated[int, typer.Option("--workers", min=1, max=500, help="Workers at once.")] = 20,
    votes: Annotated[int, typer.Option("--votes", min=1, help="Votes in all.")] = 200,
    judge: Annotated[
        str, typer.Option("--judge", metavar="MODEL", help="A preference model whose scores they follow.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the workers and their choices.")] = 0,
    pause: Annotated[float, typer.Option("--pause", min=0, help="Seconds of reading before a choice.")] = 0,
) -> None:
    """Let simulated workers use a running service through its pages; their answers are marked as simulated.

    Each has a taste, slightly prefers longer replies and the left side, and follows a preference model's scores, or
    without one the number of different words. Choices faster than the configuration's `fastest` are marked.
    """
    from charter_service.arena.simulated import Load
    from charter_service.arena.simulated import simulate as use_service
    from charter_service.arena.views import opened

    with opened(str(config)) as collection:
        outcome = use_service(
            collection.engine, Load(url, workers, votes, seed, pause=pause, config=str(config)), judge
        )
    print(outcome.in_words())
