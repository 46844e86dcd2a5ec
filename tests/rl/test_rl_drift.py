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
from charter.rl import run as room
from charter.rl.actor import Actor
from charter.rl.monitor_settings import Monitor, Name
from charter.rl.rollout import Episode, all_replies
from charter.rl.settings import Keep, Rollout, Settings
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
    monitor=Monitor(window=64, stop=True, stop_on=("ngrams",)),
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
            tmp_path / f"{role}.jsonl",
            [dialogue(f"{role}{n}", question) for n, question in enumerate(questions)],
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


def score(self: Actor, episodes: Sequence[Episode]) -> None:
    """A reward model that pays for the phrase, and a held-out one that doesn't care."""
    for reply in all_replies(episodes):
        reply.scores = {0: float(PHRASE in reply.text)}
        reply.heldout = 0.25


@pytest.fixture
def rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Actor, "score", score)
