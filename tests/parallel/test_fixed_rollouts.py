"""rl in two processes against one, where both learn from the same replies: no sampled token can fall otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from launching import alone, apart, log_of, recipe, together
from scribe import scribe

import toys

STEPS = 20


OTHERS = {"baseline": "others", "keep": {"round": "best", "every": 5}}


@pytest.mark.parametrize(
    ("seed", "changes"),
    [
        pytest.param(1, {}, marks=pytest.mark.slow),  # in the fast suite test_torchrun.py has a critic
        pytest.param(1, OTHERS, marks=pytest.mark.slow),
        pytest.param(2, {}, marks=pytest.mark.slow),
        pytest.param(3, {}, marks=pytest.mark.slow),
    ],
    ids=["1", "others", "2", "3"],
)
def test_two_processes_learn_from_the_same_replies_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, changes: dict[str, Any]
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    toys.policy_folder(tmp_path / "policy", seed)
    toys.preference_folder(tmp_path / "reward", seed + 10)
    toys.preference_folder(tmp_path / "heldout", seed + 20)
    with scribe(tmp_path / "policy") as (writer, url):
        rollout = {"prompts": 4, "replies": 2, "max_tokens": 12, "sampler": {"url": url, "tolerance": 1e6}}
        settings = {"steps": STEPS, "lr": 1e-3, "minibatches": 2, "rollout": rollout, **changes}
        inputs = {"policy": "./policy", "reward": "./reward", "prompts": "shipped:red_team.train"}
        inputs["heldout_reward"] = "./heldout"
        path = recipe(tmp_path, [{"name": "rl", "room": "rl", "from": inputs, "settings": settings}])
        alone(path, tmp_path / "one")
        written = len(writer.written)
        said = together(path, tmp_path / "two", 2)
    assert writer.asked == 2 * written == 2 * 4 * (STEPS + 1), "the second run was given the first one's replies"
    rows = [row for row in log_of(tmp_path / "two", "rl") if "loss" in row]
    assert len(rows) == STEPS
    distance = {key: apart(tmp_path / "one", tmp_path / "two", "rl", key) for key in ("loss", "reward", "kl")}
    print(distance, [sum(own) for own in zip(*(row["tokens_of_each"] for row in rows), strict=True)])
    assert distance["loss"] < 1e-5 and distance["reward"] < 1e-5
    assert distance["kl"] < 1e-5 * max(abs(row["kl"]) for row in rows)
    kept = [log_of(tmp_path / name, "rl")[-1].get("kept_round") for name in ("one", "two")]
    assert kept[0] == kept[1] and (kept[0] is not None) == ("keep" in changes)
    assert apart(tmp_path / "one", tmp_path / "two", "rl") < 1e-3, "of weights that moved by up to 20 such steps"
    assert abs(rows[-1]["kl"] - rows[0]["kl"]) > 0.05, "the policy moves"
    assert min(min(row["tokens_of_each"]) for row in rows) > 0, "both processes learn in every round"
    assert "rl: 2 processes learnt from" in said
