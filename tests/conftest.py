"""Checkpoints that many tests start from, made once a session; nobody changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

import toys


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a toy policy, another one, and two preference models: policy, other, reward, grader."""
    folder = tmp_path_factory.mktemp("checkpoints")
    toys.policy_folder(folder / "policy", 0)
    toys.policy_folder(folder / "other", 3)
    toys.preference_folder(folder / "reward", 1)
    toys.preference_folder(folder / "grader", 2)
    return folder
