"""`charter chat`: finds the model; the conversation itself is in chat_session, which loads torch."""

import sys
from threading import Timer
from typing import Annotated

import typer

from charter.cli.chat_files import Style, read_file
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.execution import choose_execution
from charter.runner.models import find_model, find_room
from charter.runner.names import complete_model
from charter.terminal.launch import relaunch
from charter.terminal.options import Device, Json, Threads

LATE_SECONDS = 2.0  # of loading, after which a line says so
_CONTINUES = "it continues text and was not taught to answer; --plain leaves the chat template out"


def chat(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A step (demo/threshold), a folder, hf:, pkg: or a server's reference.",
            autocompletion=complete_model,
        ),
    ],
    system: Annotated[str, typer.Option("--system", metavar="TEXT", help="System prompt.")] = "",
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", min=0.0, help="0: always the likeliest token; default: the model's own."),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", min=0.001, max=1.0, help="Draw from this share of the likeliest.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=0, help="Draw from this many likeliest tokens; 0: all.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest reply.")] = 256,
    file: Annotated[
        list[str] | None, typer.Option("--file", metavar="PATH", help="A document to talk about; may be repeated.")
    ] = None,
    ask: Annotated[
        list[str] | None,
        typer.Option("--ask", metavar="TEXT", help="Send this, print the reply and exit; may be repeated."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Without a chat template: for models that were not finetuned.")
    ] = False,
    loops: Annotated[bool, typer.Option("--loops", help="Let a reply that repeats itself go on.")] = False,
    as_json: Json = False,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Talk with a model in the terminal: /help lists its commands, such as /reset, /limits and /quit."""
    if any(not question.strip() for question in ask or ()):
        raise CharterError("--ask: there is no text in it; write a question")
    source = find_model(checkpoint, "chat")
    execution = choose_execution(device)
    files = [read_file(path) for path in file or ()]
    relaunch(threads=threads, adapts=True)
    if not plain and find_room(source) == "pretrain":
        print(f"({source.name} was pretrained and not finetuned: {_CONTINUES})", file=sys.stderr)
    style = Style(system, temperature, max_tokens, plain, as_json, top_p, top_k, loops)
    late = Timer(LATE_SECONDS, lambda: print(f"(loading {source.name} ...)", file=sys.stderr, flush=True))
    late.daemon = True
    late.start()
    try:
        from charter.cli.chat_session import converse

        converse(source, execution, style, files, ask or (), ready=late.cancel)
    finally:
        late.cancel()
