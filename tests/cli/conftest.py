"""The command line in this process, over the fake rooms of the runner's tests."""

from pathlib import Path

import pytest

from charter import building

RUNNER_TESTS = Path(__file__).parents[1] / "runner"

RECIPE = """
name: small
steps:
  - {name: report, room: grade, from: {policy: taught}}
  - {name: taught, room: model, from: {dialogues: made}}
  - {name: made, room: words, from: {prompts: [./mine.jsonl]}}
"""


@pytest.fixture
def fake_rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake rooms, and a recipe of them in the current folder."""
    monkeypatch.syspath_prepend(str(RUNNER_TESTS))
    rooms = {name: f"rooms_for_test.{name}" for name in ("words", "model", "grade")}
    monkeypatch.setattr(building, "ROOMS", {**building.ROOMS, **rooms})
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "mine.jsonl").write_text('{"id": "a", "messages": [{"role": "user", "content": "hi"}]}\n')
