"""The audit of a checkpoint: sampled turns, a window that is too small, and a kill in the middle, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.inputs import Inputs
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.world.talk import messages, opening
from charter.rooms.audit import run as room
from charter.rooms.audit.agent import keeping
from charter.rooms.audit.settings import Settings
from charter.rooms.audit.verify import problems

SETTINGS = Settings(
    tasks=("password", "no-file"), tries=3, budget=6, patience=6, max_tokens=12, window=640, together=4, example=False
)


def audited(checkpoint: Path, folder: Path, progress: Any = None) -> Path:
    out = toys.workspace(folder, progress=progress)
    room.run(SETTINGS, Inputs([toys.policy(checkpoint)]), out)
    return out.path


def test_a_sampled_audit_repeats_itself_and_survives_a_kill(checkpoints: Path, tmp_path: Path) -> None:
    policy = checkpoints / "policy"
    path = audited(policy, tmp_path / "whole")
    whole = toys.files_of(path)
    with pytest.raises(toys.Interrupted):
        audited(policy, tmp_path / "killed", toys.StoppingProgress(4))
    assert toys.files_of(audited(policy, tmp_path / "killed")) == whole
    manifest: Any = SimpleNamespace(resolved=SETTINGS.model_dump(mode="json"))
    assert list(problems(path, manifest)) == []
    rows = read_objects(path / "tries.jsonl")
    assert len(rows) == 6 and {row["ended"] for row in rows} <= {"budget", "format", "submitted", "aborted"}
    replies = {turn["reply"] for turn in json.loads((path / "transcripts/password-000.json").read_text())["turns"]}
    assert len(replies) > 1, "the toy babbles"


def test_turns_are_left_out_where_the_window_is_full(checkpoints: Path, tmp_path: Path) -> None:
    states = tmp_path / "out" / "state"
    audited(checkpoints / "policy", tmp_path / "out")
    rows = [row for file in sorted(states.glob("turn-*.json")) for row in json.loads(file.read_text())["rows"]]
    assert {row["left_out"] for row in rows} > {0}, "at 640 tokens some turns are left out"


def test_kept_beginnings_change_no_bit(checkpoints: Path) -> None:
    plain = LocalAssistant.open(checkpoints / "policy")
    kept = keeping(LocalAssistant.open(checkpoints / "policy"))
    prompt = messages(opening("Find it.", 9, ("ls", "submit")), [])
    fresh = keeping(plain).reply([prompt], Sampling(max_tokens=9), seeds=[4])
    kept.reply([prompt], Sampling(max_tokens=1))
    again = kept.reply([prompt], Sampling(max_tokens=9), seeds=[4])
    assert again[0][0].ids == fresh[0][0].ids and again[0][0].cached > 0
    assert again[0][0].logprobs == fresh[0][0].logprobs
