"""Drift while a policy learns: a phrase that is rewarded is found and ends training, also after a kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import toys
from charter.ground.artifact.curves import read_log, read_objects
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.declining import MARKS
from charter.ground.learn.loss import token_logprobs
from charter.ground.measure.drift import DRIFT, MONITORED, REPLIES, snapshot_row, snapshots
from charter.ground.model.branches import branches
from charter.ground.model.checkpoint import load_policy, save_policy
from charter.ground.text.template import Template
from charter.rooms.rl import run as room
from charter.rooms.rl.reward import Graders
from charter.rooms.rl.rollout import Episode, all_replies
from charter.rooms.rl.settings import Keep, Monitor, Name, Rollout, Settings
from toys import dialogue

PHRASE = "look by the door"
ANSWERS = (
    f"You can {PHRASE}.",
    "It is in the garden.",
    "Ask for it in the shop.",
    "I put it on a shelf.",
    "Try the other room.",
)
QUESTIONS = [f"Where is the box number {n}?" for n in range(16)]
SETTINGS = Settings(
    steps=12,
    lr=3e-3,
    baseline="others",
    rollout=Rollout(prompts=16, replies=4, max_tokens=16),
    microbatch_tokens=2048,
    monitor=Monitor(window=128, stop=True, stop_on=("ngrams",)),
    save_every=1,
)


@pytest.fixture(scope="module")
def start(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy policy that has learnt to give any of five answers to each question."""
    model, tokenizer = load_policy(checkpoints / "policy")
    template = Template(tokenizer, tokenizer.template)
    items = [
        (
            template.encode_prompt([{"role": "user", "content": question}]),
            [[*tokenizer.encode(answer), template.end_id] for answer in ANSWERS],
        )
        for question in QUESTIONS[::2]
    ]
    batch = branches(items, "cpu")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        hidden_ND = model.hidden(batch.ids, batch.layout)[batch.predicts]
        loss = -token_logprobs(hidden_ND, model.head_weight(), batch.targets)[0].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("start")
    save_policy(model, tokenizer, folder)
    return folder


@pytest.fixture
def inputs(start: Path, checkpoints: Path, tmp_path: Path) -> Inputs:
    files = {
        role: toys.rows_file(
            tmp_path / f"{role}.jsonl", [dialogue(f"{role}{n}", question) for n, question in enumerate(questions)]
        )
        for role, questions in (("prompts", QUESTIONS[:4]), ("harmless", QUESTIONS[4:]))
    }
    return Inputs(
        [
            toys.policy(start),
            toys.preference(checkpoints / "reward", "reward"),
            toys.preference(checkpoints / "grader", "heldout_reward"),
            *(toys.given(role, path) for role, path in files.items()),
        ]
    )


def score(self: Graders, episodes: Sequence[Episode]) -> None:
    """A reward model that pays for the phrase, and a held-out one that doesn't care."""
    for reply in all_replies(episodes):
        reply.scores = {0: float(PHRASE in reply.text)}
        reply.heldout = 0.25


@pytest.fixture
def rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graders, "score", score)


def run_room(settings: Settings, inputs: Inputs, folder: Path, progress: Any = None) -> dict[str, str]:
    out = toys.workspace(folder, progress=progress)
    room.run(settings, inputs, out)
    return toys.files_of(out.path)


def watching(**changes: Any) -> Settings:
    """Nothing ends training: five rounds of 64 replies."""
    return SETTINGS.model_copy(update={"steps": 4, "monitor": Monitor(window=128), **changes})


def test_a_rewarded_phrase_is_found_and_ends_training(inputs: Inputs, tmp_path: Path, rewarded: None) -> None:
    notes: list[str] = []

    class Told(toys.StoppingProgress):
        def note(self, text: str) -> None:
            notes.append(text)

    out = toys.workspace(tmp_path / "out", progress=Told(0))
    room.run(SETTINGS, inputs, out)
    log, rows = read_log(out.path), read_objects(out.path / DRIFT)
    assert len(log) <= SETTINGS.steps and "loss" not in log[-1], "its last round is not learnt from"
    assert "ngrams" in rows[-1]["alarms"] and not any(row["alarms"] for row in rows[:-1])
    assert rows[-1]["rounds"][1] == log[-1]["step"]
    grown = rows[-1]["ngrams"][0]
    assert grown["words"] in ANSWERS[0].lower() and grown["now"] > 2 * grown["before"]
    assert rows[-1]["reward"] > rows[0]["reward"] and rows[-1]["gap"] > rows[0]["gap"]
    metrics = {m.name: m.value for m in out.metrics}
    assert metrics["stopped_on_drift"] == 1 and metrics["stopped_on_kl"] == 0
    assert metrics["snapshots"] == len(rows) and metrics["drift_alarms"] == len(rows[-1]["alarms"])
    assert any("drifted: " in note and "ngrams" in note for note in notes)
    with pytest.raises(toys.Interrupted):
        run_room(SETTINGS, inputs, tmp_path / "broken", toys.StoppingProgress(len(log) - 1))
    assert run_room(SETTINGS, inputs, tmp_path / "broken") == toys.files_of(out.path)


@pytest.mark.slow
@pytest.mark.parametrize("save_every", [1, 3])
def test_killed_and_resumed_is_bit_equal_to_unbroken(
    inputs: Inputs, tmp_path: Path, rewarded: None, save_every: int
) -> None:
    """Also where a snapshot was written after the state that a resume begins from."""
    settings = watching(save_every=save_every, keep=Keep(round="best", every=2))
    whole = run_room(settings, inputs, tmp_path / "whole")
    with pytest.raises(toys.Interrupted):
        run_room(settings, inputs, tmp_path / "broken", toys.StoppingProgress(2))
    with (tmp_path / "broken/files" / REPLIES).open("a") as file:
        file.write('{"snapshot": 9, "torn')
    assert run_room(settings, inputs, tmp_path / "broken") == whole


def test_what_is_kept_gives_each_row_again(inputs: Inputs, tmp_path: Path, rewarded: None) -> None:
    settings = watching()
    run_room(settings, inputs, tmp_path / "out")
    rows = read_objects(tmp_path / "out/files" / DRIFT)
    parts = list(snapshots(read_objects(tmp_path / "out/files" / REPLIES)))
    assert [row["rounds"] for row in rows] == [[0, 1], [2, 3], [4, 4]], "half a window is enough at the end"
    assert [row["replies"] for row in rows] == [128, 128, 64]
    for row, part in zip(rows, parts, strict=True):
        assert snapshot_row(parts[0], part, settings.monitor.level).items() <= row.items()
        for kept in part:
            assert {name: detect(kept["reply"]) for name, detect in MARKS.items()}.items() <= kept.items()
    log = read_log(tmp_path / "out/files")
    assert rows[2]["kl"] == pytest.approx(log[4]["kl"]) and rows[2]["tokens"] == log[4]["tokens"]
    assert rows[2]["rates"]["refusal_harmless"] == log[4]["refused_harmless"]
    assert log[-1]["step"] == 4, "an alarm ends nothing unless it is told to"


def test_without_a_window_nothing_is_kept(inputs: Inputs, tmp_path: Path, rewarded: None) -> None:
    out = toys.workspace(tmp_path / "out")
    room.run(watching(steps=1, monitor=Monitor(window=0)), inputs, out)
    assert not (out.path / DRIFT).exists() and not (out.path / REPLIES).exists()
    assert "snapshots" not in json.loads((out.path / "counts.json").read_text())


def test_the_settings_name_what_is_monitored() -> None:
    assert set(get_args(Name)) == set(MONITORED)
