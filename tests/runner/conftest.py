"""A small pipeline of fake rooms: words -> model -> grade."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from charter import building
from charter.ground.artifact.progress import SilentProgress
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.runner.execute import Crew, execute
from charter.runner.plan import Plan, make_plan

ROOMS = {name: f"rooms_for_test.{name}" for name in ("words", "model", "grade", "votes")}

RECIPE = """
name: small
seed: 3
steps:
  - {name: report, room: grade, from: {policy: taught}}
  - {name: taught, room: model, from: {dialogues: made}}
  - {name: made, room: words, from: {prompts: [./mine.jsonl]}, settings: {count: 6}}
"""


@pytest.fixture(autouse=True)
def rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "ROOMS", ROOMS)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for name in ("FAULT", "CALLS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the recipe and a prompts file."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "mine.jsonl").write_text('{"id": "a", "messages": [{"role": "user", "content": "hi"}]}\n')
    return tmp_path


PlanOf = Callable[..., Plan]


@pytest.fixture
def plan_of(folder: Path) -> PlanOf:
    """Plans the recipe with changes."""

    def plan(*changes: str, execution: Execution = Execution(), text: str | None = None) -> Plan:  # noqa: B008
        if text is not None:
            (folder / "recipe.yaml").write_text(text)
        recipe = load_recipe(folder / "recipe.yaml", changes)
        return make_plan(recipe, folder, folder / "run", execution)

    return plan


class Notes(SilentProgress):
    """Keeps the runner's notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def run_plan(plan: Plan, until: str | None = None, crew: Crew | None = None) -> list[str]:
    notes = Notes()
    execute(plan, notes, until, crew=crew)
    return notes.lines


@pytest.fixture
def run() -> Callable[..., list[str]]:
    """Runs a plan and returns the notes."""
    return run_plan


@pytest.fixture
def recipe_of() -> Callable[..., str]:
    """A recipe with some of its steps changed or added."""

    def change(**steps: dict[str, object]) -> str:
        content = yaml.safe_load(RECIPE)
        by_name = {step["name"]: step for step in content["steps"]}
        for name, fields in steps.items():
            if name not in by_name:
                by_name[name] = {"name": name}
                content["steps"].append(by_name[name])
            by_name[name].update(fields)
        return yaml.safe_dump(content)

    return change
