"""`charter arena status`, `export`, `person` and `simulate`: what a collection holds; made-up people to try it with."""

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
    """How far a collection is, and how carefully each person works."""
    from charter.service.arena import views

    views.print_status(place, as_json)


def export(
    place: Place,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The artifact's folder.")],
    what: Annotated[What, typer.Option("--what", help="Choices, or reviews.")] = What.comparisons,
    axis: Annotated[Axis | None, typer.Option("--axis", help="Of choices: one task alone.")] = None,
    source: Annotated[Rater, typer.Option("--source", help="Whose answers; never both.")] = Rater.human,
    keep_flagged: Annotated[
        bool, typer.Option("--keep-flagged", help="Keep choices that are marked as suspicious.")
    ] = False,
) -> None:
    """Freeze what people gave as an artifact that recipes, `charter data` and the card take."""
    from charter.service.arena import views

    if what is What.comparisons:
        frozen = views.frozen_comparisons(place, out, axis.value if axis else "", source.value, keep_flagged)
    elif axis is not None or keep_flagged:
        raise CharterError("--axis and --keep-flagged are for comparisons; leave them out")
    else:
        frozen = views.frozen_judgments(place, out, source.value)
    print(views.told_frozen(frozen))


def person(
    place: Place,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the person is called in the service.")],
    to: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write all that is kept of the person, in JSON."),
    ] = None,
    forgotten: Annotated[
        bool, typer.Option("--forget", help="Delete the person with all that the person gave.")
    ] = False,
    locked: Annotated[
        bool | None, typer.Option("--lock/--unlock", help="Lock the person out, or in again.")
    ] = None,
    key: Annotated[
        bool, typer.Option("--new-key", help="Show a new key, once, for who lost theirs; the old one ends.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Hand out or delete what is kept of one person, lock the person out, or give them a new key."""
    from charter.service.arena import views

    if [to is not None, forgotten, locked is not None, key].count(True) != 1:
        raise CharterError("say one of --export FILE, --forget, --lock, --unlock and --new-key")
    with views.opened(place) as kept:
        who, data, size = views.found_person(kept, name)
        if to is not None:
            views.hand_out(data, to)
            print(f"{to} has all that is kept of {who.name}: {size}")
        elif forgotten:
            if not yes and not sys.stdin.isatty():
                raise CharterError(f"{who.name} is deleted with {size} only when you are sure: give --yes")
            asked = f"Delete {who.name} with {size}? Exports made before keep their copies."
            if not yes and not typer.confirm(asked):
                print("nothing was deleted")
                raise typer.Exit(1)
            views.delete(kept, who.id)
            print(f"{who.name} is deleted")
        elif key:
            print(f"{who.name} comes back at /enter with the key {views.new_key(kept, who.id)}")
        elif locked is not None:
            views.lock(kept, who.id, locked)
            print(f"{who.name} is {'locked out' if locked else 'let in again'}")


def simulate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration of a running service.")],
    url: Annotated[str, typer.Option("--url", help="Where it runs.")] = "http://127.0.0.1:8760",
    workers: Annotated[int, typer.Option("--workers", min=1, max=500, help="Workers at once.")] = 20,
    votes: Annotated[int, typer.Option("--votes", min=1, help="Votes of all together.")] = 200,
    judge: Annotated[
        str, typer.Option("--judge", metavar="MODEL", help="A preference model whose scores they follow.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Who they are and what they choose.")] = 0,
    pause: Annotated[float, typer.Option("--pause", min=0, help="Seconds of reading before a choice.")] = 0,
) -> None:
    """Let simulated workers use a running service through its pages; what they give is marked as simulated.

    They have a taste of their own, like longer replies and the left side a little, and follow a preference model's
    scores, or without one the number of different words. Choices faster than the configuration's `fastest` are marked.
    """
    from charter.service.arena.simulated import Load
    from charter.service.arena.simulated import simulate as use_service
    from charter.service.arena.views import opened

    with opened(str(config)) as kept:
        outcome = use_service(
            kept.engine, Load(url, workers, votes, seed, pause=pause, config=str(config)), judge
        )
    print(outcome.told())
