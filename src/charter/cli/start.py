"""`charter init`: a folder to start from."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from charter.cli import starter
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.sources import shipped_folder


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one without a recipe.")],
) -> None:
    """Write a recipe, a constitution and example data to start from."""
    taken = [
        name for name in ("recipe.yaml", "constitution.yaml", "README.md", "data") if (folder / name).exists()
    ]
    if taken:
        raise CharterError(
            f"{folder} has {taken[0]} already, and nothing is overwritten: choose another folder"
        )
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-_") or "pipeline"
    (folder / "data").mkdir(parents=True)
    recipe = starter.RECIPE.format(name=name).replace("NAME_HERE", str(folder / "recipe.yaml"))
    (folder / "recipe.yaml").write_text(recipe, "utf-8")
    (folder / "README.md").write_text(starter.README.format(name=name), "utf-8")
    shutil.copyfile(shipped_folder() / "constitution.yaml", folder / "constitution.yaml")
    _rows(folder / "data" / "prompts.jsonl", starter.PROMPTS)
    _rows(folder / "data" / "dialogues.jsonl", starter.DIALOGUES)
    _rows(folder / "data" / "comparisons.jsonl", starter.COMPARISONS)
    print(
        f"{folder} has recipe.yaml, constitution.yaml and data/; next: charter plan {folder / 'recipe.yaml'}"
    )


def _rows(path: Path, rows: Sequence[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
