"""One synthetic run with its card, made once; tests that change it take a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import card_world
import pytest
from card_world import SETTINGS


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with all artifacts and the card; not to be changed."""
    run = tmp_path_factory.mktemp("card") / "run"
    card_world.make_run(run, samples=2)
    card_world.make_card(run, SETTINGS)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run directory, free to be changed."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"
