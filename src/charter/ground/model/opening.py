"""From a room's input to a checkpoint folder: an artifact's own folder, or one made from a reference."""

from pathlib import Path

from charter.ground.artifact.inputs import Input
from charter.ground.model.source import materialise
from charter.ground.settings.packages import package_of


def checkpoint_folder(source: Input) -> Path:
    """The folder of a checkpoint input in Hugging Face layout; references are converted and cached."""
    if source.path is not None and source.path.is_dir():
        return source.path
    if source.path is not None and source.path.suffix == ".gguf" and package_of(source.ref) is None:
        return materialise(str(source.path))
    return materialise(source.ref)
