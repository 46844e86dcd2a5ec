"""bfloat16 on a CPU: close to float32, and resumed as exactly."""

from pathlib import Path

import pytest
import torch

import toys
from charter.finetune import run as finetune
from charter.finetune.settings import Settings
from charter.ground.artifact.inputs import Inputs
from charter.ground.learn.step import autocast
from charter.ground.model.layout import documents

ROWS = [toys.dialogue(f"d{n}", f"What is number {n}?", f"It is the one after {n - 1}.") for n in range(12)]
SETTINGS = Settings(batch=3, lr=1e-3, save_every=1)


def test_hidden_states_are_close_and_not_the_same() -> None:
    model = toys.model(scale=2.0)
    ids = torch.arange(5, 45)
    exact = model.hidden(ids, documents([40])).detach()
    with autocast("cpu", "bfloat16"):
        rounded = model.hidden(ids, documents([40])).detach()
    gap = float((exact - rounded).norm() / exact.norm())
    assert 1e-4 < gap < 0.05


def test_a_resumed_run_is_bit_equal_to_an_unbroken_one(checkpoints: Path, tmp_path: Path) -> None:
    rows = toys.rows_file(tmp_path / "rows.jsonl", ROWS)
    inputs = Inputs([toys.policy(checkpoints / "policy"), toys.given("dialogues", rows), toys.constitution()])

    def made(
        folder: Path, progress: toys.StoppingProgress | None = None, precision: str = "bfloat16"
    ) -> Path:
        out = toys.workspace(folder, progress=progress, precision=precision)
        finetune.run(SETTINGS, inputs, out)
        return out.path

    whole = made(tmp_path / "whole")
    with pytest.raises(toys.Interrupted):
        made(tmp_path / "broken", toys.StoppingProgress(2))
    assert toys.files_of(made(tmp_path / "broken")) == toys.files_of(whole)
    assert toys.files_of(made(tmp_path / "exact", precision="float32")) != toys.files_of(whole)
