"""Which edits of the sources change ids: those of what a step's room reaches, and no others."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from charter.runner.identity import package_folder

RECIPE = """
name: small
steps:
  - {name: taught, room: finetune, from: {policy: "random:tiny", dialogues: "shipped:helpful.train"}}
  - {name: votes, room: arena, from: {models: ["random:tiny", taught]}}
"""
CHILD = """
import json, sys
from pathlib import Path
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.runner.plan import make_plan
folder = Path(sys.argv[1])
plan = make_plan(load_recipe(folder / "recipe.yaml", []), folder, folder / "run", Execution("cpu", "float32"))
print(json.dumps({step.name: step.id for step in plan.steps}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the sources and a recipe."""
    folder = tmp_path_factory.mktemp("copy")
    for package in ("charter", "charter_service"):
        source, leave = package_folder().parent / package, shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / package, ignore=leave)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def ids(copy: Path) -> dict[str, str]:
    """The ids that the copy plans."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", CHILD, str(copy)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=copy, check=False)
    assert process.returncode == 0, process.stderr
    by_step: dict[str, str] = json.loads(process.stdout)
    return by_step


@pytest.mark.parametrize(
    ("files", "renamed"),
    [
        (("cli/main.py", "runner/plan.py", "terminal/bars.py", "interop/inspect_entry.py"), set()),
        (("../charter_service/api/exchange.py", "../charter_service/accounts/ladder.py"), set()),
        (("../charter_service/people/tables.py",), {"votes"}),
        (("rooms/rl/run.py", "rooms/card/run.py"), set()),
        (("rooms/finetune/run.py",), {"taught", "votes"}),
        (("ground/learn/step.py",), {"taught", "votes"}),
        (("ground/measure/elo.py",), set()),
        (("ground/world/engine.py",), set()),
        (("data/constitution.yaml",), {"taught", "votes"}),
    ],
    ids=["above", "service", "its part", "rooms", "its room", "ground", "Elo", "unused ground", "data"],
)
def test_an_edit_renames_what_stands_on_it(copy: Path, files: tuple[str, ...], renamed: set[str]) -> None:
    before = ids(copy)
    originals = {file: (copy / "charter" / file).read_text() for file in files}
    try:
        for file, text in originals.items():
            (copy / "charter" / file).write_text(f"{text}\n# edited\n")
        after = ids(copy)
    finally:
        for file, text in originals.items():
            (copy / "charter" / file).write_text(text)
    assert {step for step in before if before[step] != after[step]} == renamed
