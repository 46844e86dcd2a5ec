"""From the place of a run or an artifact to an object with its numbers."""

import os

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import MANIFEST
from charter.library.artifacts import Artifact, artifact_of
from charter.library.runs import Run
from charter.runner.names import RUN_FILE, find_product


def open(place: str | os.PathLike[str]) -> Run | Artifact:
    """A run or an artifact on disk: a Run, Report, Card or Checkpoint, or an Artifact of another kind.

    `place`: a run directory ("runs/demo"), the folder of a step in one ("runs/demo/threshold"), or either below runs/
    ("demo", "demo/threshold"). Raises CharterError if nothing is there, or if its record is damaged.
    """
    name = os.fspath(place)
    folder = find_product(name)
    if (folder / RUN_FILE).is_file():
        return Run(folder)
    if (folder / MANIFEST).is_file():
        return artifact_of(folder)
    raise CharterError(
        f"{name} is neither a run (it has no {RUN_FILE}) nor an artifact (it has no {MANIFEST}); name a run's folder, "
        "such as runs/demo, or a step's in it, such as runs/demo/threshold"
    )
