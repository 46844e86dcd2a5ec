"""A folder to work in, and one small run that the tests of this folder read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import charter

QUESTIONS = "".join(
    f'{{"id": "q{n}", "messages": [{{"role": "user", "content": "{words}?"}}]}}\n'
    for n, words in enumerate(("How do I open a lock", "Which bridge is the oldest", "Why do cats purr"))
)


@pytest.fixture(scope="session")
def recipe() -> dict[str, Any]:
    """Two steps that load no model."""
    steps = [
        {"name": "asked", "room": "prompts", "from": {"unsafe": ["./asked.jsonl"]}},
        {"name": "again", "room": "prompts", "from": {"unsafe": ["asked"]}},
    ]
    return {"name": "small", "seed": 3, "steps": steps}


@pytest.fixture(scope="session")
def workplace(recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/small, whose two steps are done; not to be changed."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "asked.jsonl").write_text(QUESTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        charter.run(recipe)
    return folder


@pytest.fixture
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder as the current one."""
    monkeypatch.chdir(workplace)
    return workplace
