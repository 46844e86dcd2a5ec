"""`charter chat serve`: the pages of the chat as a client of a server that runs already; and the options that
`charter up` shares with it."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import typer

from charter.ground.artifact.errors import CharterError
from charter.terminal.options import Port

KEY = "CHARTER_API_KEY"
ANYWHERE = ("0.0.0.0", "::", "")

Host = Annotated[str, typer.Option("--host", metavar="H", help="Address to listen on.")]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="URL",
        help="Where people reach the pages, as links begin; https: a proxy on this machine gives them.",
    ),
]
SignUp = Annotated[bool, typer.Option("--sign-up", help="Let anybody join; else people need an invitation.")]
SignUps = Annotated[
    int, typer.Option("--sign-ups", min=1, metavar="N", help="Most who join without an invitation in a day.")
]
SignUpsOfOne = Annotated[
    int, typer.Option("--sign-ups-of-one", min=1, metavar="N", help="Most of them from one network address.")
]
Storage = Annotated[int, typer.Option("--storage", min=1, metavar="MB", help="Most that one person's chats may take.")]
FilesFolder = Annotated[
    str, typer.Option("--files", metavar="DIR", help="Folder of people's files; default: beside their database.")
]
MostFiles = Annotated[int, typer.Option("--most-files", metavar="N", min=1, help="Files of a message.")]
FileMb = Annotated[int, typer.Option("--file-mb", metavar="N", min=1, max=1000, help="MB of a file.")]
FilesMb = Annotated[int, typer.Option("--files-mb", metavar="N", min=1, help="MB of files that a person may keep.")]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="What the pages call the chat.")]
People = Annotated[str, typer.Option("--people", metavar="DB", help="Database of people and chats, a URL or a file.")]
Log = Annotated[bool, typer.Option("--log", help="A line a request on standard error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the address as one line of JSON.")]


@dataclass(frozen=True)
class FileOptions:
    """Where people's files are kept, how many a message may have, and megabytes of one and of all of a person's."""

    folder: str
    most: int
    megabytes: int
    megabytes_of_one: int


@dataclass(frozen=True)
class PageOptions:
    """How the pages are served, as the command line says it."""

    host: str
    port: int
    address: str
    sign_up: bool
    sign_ups: int
    sign_ups_of_one: int
    storage: int
    files: FileOptions
    name: str
    people: str
    log: bool
    as_json: bool


def serve(
    api: Annotated[str, typer.Option("--api", metavar="URL", help=f"The model's server; its key is in ${KEY}.")],
    host: Host = "127.0.0.1",
    port: Port = 8800,
    address: Address = "",
    sign_up: SignUp = False,
    sign_ups: SignUps = 200,
    sign_ups_of_one: SignUpsOfOne = 20,
    storage: Storage = 200,
    files: FilesFolder = "",
    most_files: MostFiles = 5,
    file_mb: FileMb = 10,
    files_mb: FilesMb = 1024,
    name: Name = "Charter",
    people: People = "people.sqlite",
    log: Log = False,
    as_json: AsJson = False,
) -> None:
    """Serve the pages of the chat alone, for models of a server that runs already; Ctrl-C stops them."""
    options = PageOptions(
        host,
        port,
        address,
        sign_up,
        sign_ups,
        sign_ups_of_one,
        storage,
        FileOptions(files, most_files, file_mb, files_mb),
        name,
        people,
        log,
        as_json,
    )
    serve_pages(options, lambda: nullcontext((api, os.environ.get(KEY, ""))))


def serve_pages(options: PageOptions, server: Callable[[], AbstractContextManager[tuple[str, str]]]) -> None:
    """Serves the pages until a signal stops them; `server` opens the address of a model's server and a key for it."""
    from charter_service.chat import app as pages
    from charter_service.chat.attached import MB, Allowance
    from charter_service.chat.client import Api
    from charter_service.chat.service import Config, Service
    from charter_service.chat.storage import MEGABYTE
    from charter_service.people.places import CHAT, note_place
    from charter_service.people.workers import first_invitation
    from charter_service.web import listening
    from charter_service.web.ending import end_in_time

    public = _public(options.address)
    end_in_time()
    with listening.listen(options.host, options.port) as bound:
        local = listening.address_at(options.host, bound)
        public_address = public or ("" if options.host in ANYWHERE else local)
        proxied = public_address.startswith("https://")
        named = urlsplit(public_address).hostname or ""
        hosts = (*listening.LOOPBACK, named) if options.host in listening.LOOPBACK else ()
        config = Config(
            options.name,
            options.sign_up,
            secure=proxied,
            proxy=proxied,
            log=options.log,
            address=public_address,
            storage=options.storage * MEGABYTE,
            sign_ups=options.sign_ups,
            sign_ups_of_one=options.sign_ups_of_one,
            files=options.files.folder,
            allowance=Allowance(options.files.most, options.files.megabytes * MB, options.files.megabytes_of_one * MB),
            hosts=hosts,
        )
        # the database first: a model may take minutes to load
        with pages.people_alone(options.people) as database, server() as (url, key):
            service = Service(config, database, Api(url, key))
            home = public or local
            note_place(service.database, CHAT, home)
            token = first_invitation(service.database)
            place = f"{home}/join/{token}" if token else home
            pages.serve(service, bound, lambda: _say(place, url, options.as_json))
    print("charter: stopped; run the same command again to continue", file=sys.stderr)


def _public(address: str) -> str:
    """An address as links begin with it. Raises CharterError if it is none."""
    if not address:
        return ""
    try:
        parts = urlsplit(address)
        wellformed = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        wellformed = None
    else:
        wellformed = wellformed and not (parts.query or parts.fragment or parts.username) and parts.path in ("", "/")
    if not wellformed or not address.isascii() or any(letter.isspace() for letter in address):
        raise CharterError(f"--address {address}: expected http://HOST or https://HOST, without a path")
    return address.rstrip("/")


def _say(place: str, url: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"address": place, "api": url}), flush=True)
        return
    print(f"open {place}; Ctrl-C stops it\nappeals and reports wait at {url}/admin/queue", flush=True)
