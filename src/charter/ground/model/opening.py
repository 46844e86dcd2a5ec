"""From a room's input to a checkpoint folder: an artifact's own folder, or a reference made into one."""

from pathlib import Path

from charter.ground.artifact.inputs import Input
from charter.ground.model.source import materialise


def checkpoint_folder(source: Input) -> Path:
    """The folder of a checkpoint input in Hugging Face layout; references are converted and cached."""
    if source.path is not None and source.path.is_dir():
        return source.path
    return materialise(
        str(source.path) if source.path is not None and source.path.suffix == ".gguf" else source.ref
    )
