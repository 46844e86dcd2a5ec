"""A job of several processes that is killed, resumed in another number of them, or fails in one of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from launching import alone, apart, log_of, recipe, started, together, wait_for, workers

import toys

LOSSES = Path(__file__).with_name("failing.py")


def _finetune(**settings: Any) -> list[dict[str, Any]]:
    taught = {"batch": 4, "epochs": 4, "limit": 60, "lr": 1e-3, "microbatch_tokens": 512, "save_every": 3}
    sources = {"policy": "./policy", "dialogues": "shipped:helpful.train"}
    return [{"name": "finetune", "room": "finetune", "from": sources, "settings": taught | settings}]


def _state_of(out: Path, step: int) -> bool:
    states = (out / ".partial" / "finetune" / "state").glob("step-*")
    return any(int(state.name.split("-")[1]) >= step for state in states)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    toys.policy_folder(tmp_path / "policy")
    return recipe(tmp_path, _finetune())


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_ends_equal(path: Path, tmp_path: Path) -> None:
    labels = {
        "name": "labels",
        "room": "feedback",
        "from": {"policy": "finetune", "labeller": "finetune", "prompts": "shipped:red_team.train"},
        "settings": {"limit": 4, "shots": 0, "chunk": 2, "max_tokens": 4, "known_limit": 4},
    }
    path = recipe(tmp_path, [*_finetune(), labels])  # whose chunks look whether another process has failed
    alone(path, tmp_path / "one")
    with started(path, tmp_path / "two", 2, restarts=1) as made:
        wait_for(made, lambda: _state_of(tmp_path / "two", 6))
        workers(made)[1].kill()
        said, _ = made.communicate(timeout=240)
    assert made.returncode == 0, said
    assert "finetune (step 1 of 2): resumed" in said
    assert apart(tmp_path / "one", tmp_path / "two", "finetune") < 1e-5
    assert (tmp_path / "two" / "labels" / "comparisons.jsonl").is_file()


@pytest.mark.slow
def test_a_state_of_two_processes_goes_on_in_one_and_in_three(path: Path, tmp_path: Path) -> None:
    never, one, three = tmp_path / "never", tmp_path / "one", tmp_path / "three"
    alone(path, never)
    with started(path, one, 2) as made:
        wait_for(made, lambda: _state_of(one, 6))
    state = max((one / ".partial" / "finetune" / "state").glob("step-*"))
    note = json.loads((state / "state.json").read_text())
    assert len(note["starts"]) == 2 and len(list(state.glob("rank-*"))) == 2
    assert note["shapes"]["weight.model.embed"] == [toys.VOCABULARY, 32]
    assert [starts["exp_avg.model.embed"] for starts in note["starts"]] == [0, toys.VOCABULARY // 2]
    shutil.copytree(one, three)
    said = alone(path, one)
    assert any("began with 2 processes and resumes with 1" in line for line in said)
    assert "finetune (step 1 of 1): resumed" in " ".join(said)
    assert apart(never, one, "finetune") < 1e-5
    assert "began with 2 processes and resumes with 3" in together(path, three, 3)
    assert apart(never, three, "finetune") < 1e-5
    assert len(log_of(three, "finetune")[-1]["tokens_of_each"]) == 3


@pytest.mark.slow
def test_an_error_in_one_process_ends_all_with_one_line(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(path, out, 2, program=(str(LOSSES),)) as made:
        said, _ = made.communicate(timeout=240)  # not PATIENCE
    assert made.returncode == 1
    lines = [line for line in said.splitlines() if "charter: error" in line or "Traceback" in line.split("torch")[0]]
    assert [line for line in said.splitlines() if "charter: error" in line] == [
        "charter: error: step finetune: only this process fails"
    ], lines
    assert not (out / "finetune").exists()
    manifest = json.loads((out / ".partial" / "finetune" / "manifest.json").read_text())
    assert manifest["error"] in (None, "only this process fails")
