"""`charter init`: a folder to start from."""

import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from charter.ground.artifact.errors import CharterError
from charter.ground.settings.sources import shipped_folder

STARTER = Path(__file__).parent / "starter"
# Files whose text names the folder.
WORDED = ("recipe.yaml", "README.md")


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one without a recipe.")],
) -> None:
    """Write a recipe, a constitution and example data to start from."""
    conflicts = [name for name in (*WORDED, "constitution.yaml", "data") if (folder / name).exists()]
    if conflicts:
        raise CharterError(
            f"{folder} has {conflicts[0]} already, and nothing is overwritten: choose another folder"
        )
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_") or "pipeline"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CharterError(
            f"{folder} can't be made ({error.strerror}): choose a place where you can write"
        ) from None
    for file in WORDED:
        text = (STARTER / file).read_text("utf-8").format(name=name, path=folder / "recipe.yaml")
        (folder / file).write_text(text, "utf-8")
    shutil.copyfile(shipped_folder() / "constitution.yaml", folder / "constitution.yaml")
    shutil.copytree(STARTER / "data", folder / "data", copy_function=shutil.copyfile)
    print(
        f"{folder} has recipe.yaml, constitution.yaml and data/; next: charter plan {folder / 'recipe.yaml'}"
    )
