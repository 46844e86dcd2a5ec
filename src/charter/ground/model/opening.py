"""From a room's input to a checkpoint folder: an artifact's own folder, or one made from a reference."""

from pathlib import Path

from charter.ground.artifact.inputs import Input
from charter.ground.model.source import materialise
from charter.ground.settings.packages import package_of
from charter.ground.settings.purpose import refuse


def checkpoint_folder(source: Input, audited: bool = False) -> Path:
    """The folder of a checkpoint input in Hugging Face layout; references are converted and cached. `audited`: the
    caller is the audit. Raises CharterError for a model that only the audit opens (`settings/purpose.py`)."""
    if source.path is not None and source.path.is_dir():
        folder = source.path
    elif source.path is not None and source.path.suffix == ".gguf" and package_of(source.ref) is None:
        folder = materialise(str(source.path))
    else:
        folder = materialise(source.ref)
    if not audited:
        refuse(folder, "nobody talks with it or learns from it")
    return folder
