"""From a name on a command line to a model: a step's folder, a folder or file with a model, or a reference."""

from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.artifact.manifest import MANIFEST
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.room import Role
from charter.ground.settings.sources import is_external, resolve
from charter.runner.names import find_artifact, find_place, refuse_model
from charter.runner.plan import open_source

ASSISTANT = Role(kind="assistant")
CHECKPOINT = Role(kind="checkpoint", variant="policy")


def find_model(ref: str, asking: str, role: Role = ASSISTANT) -> Input:
    """The policy checkpoint or remote engine that a reference names; `asking` says in errors what needs it.

    Raises CharterError if it doesn't exist, and if `role` doesn't accept it.
    """
    artifact = find_artifact(ref)
    if artifact is not None:
        manifest = read_manifest(artifact)
        source = Input("policy", manifest.step, manifest.kind, manifest.variant, artifact, str(artifact), manifest.id)
    elif is_external(ref) or Path(ref).exists():
        source = open_source(resolve(ref), ref, "policy")
    else:
        raise refuse_model(ref)
    if not role.accepts(source.kind, source.variant):
        actual = f"{source.kind} ({source.variant})" if source.variant else source.kind
        raise CharterError(f"{ref} is {actual}; {asking} needs {role.wants()}")
    return source


def recipe_reference(ref: str) -> str:
    """The reference of a model as a recipe in the current folder writes it. Raises CharterError if it names nothing."""
    if find_artifact(ref) is not None:
        return str(find_place(ref))
    if is_external(ref):
        return ref
    if Path(ref).exists():
        return f"./{ref}"
    raise refuse_model(ref)


def find_room(source: Input) -> str | None:
    """The room that made a model, None if no run made it."""
    if source.path is None or not (source.path / MANIFEST).is_file():
        return None
    return read_manifest(source.path).room
