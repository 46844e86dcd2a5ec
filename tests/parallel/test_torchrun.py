"""Processes that torchrun starts learn what one process learns, from shares of the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from launching import alone, apart, as_artifact, log_of, recipe, together
from pretrain_world import corpus_folder, texts

import toys

SIZING = {"layers": 2, "width": 32, "heads": 2, "key_heads": 1, "head_size": 16, "feed_forward": 64, "context": 32}


def _rooms(steps: int) -> list[dict[str, Any]]:
    """Every room that learns: at least `steps` optimizer steps each."""
    passes = 4 if steps > 7 else 1  # over 30 rows in batches of 4
    return [
        {
            "name": "pretrain",
            "room": "pretrain",
            "from": {"corpus": "./corpus"},
            "settings": {
                "sizing": SIZING,
                "learning": {"steps": steps, "batch_tokens": 256, "microbatch_tokens": 128},
                "heldout": {"every": 20, "tokens": 200, "final_tokens": 400},
                "samples": {"prompts": ["the cat"], "tokens": 4},
                "save_every": 8,
            },
        },
        {
            "name": "long",
            "room": "pretrain",
            "from": {"corpus": "./corpus", "policy": "pretrain"},
            "settings": {
                "learning": {"batch_tokens": 256, "microbatch_tokens": 128},
                "window": {"stages": [{"window": 64, "steps": 3}, {"window": 128, "steps": 3}], "method": "yarn"},
                "heldout": {"every": 20, "tokens": 200, "final_tokens": 400},
                "samples": {"prompts": []},
            },
        },
        {
            "name": "finetune",
            "room": "finetune",
            "from": {"policy": "./policy", "dialogues": "shipped:helpful.train"},
            "settings": {"batch": 4, "limit": 4 * steps, "lr": 1e-3, "microbatch_tokens": 512, "lora": {"rank": 2}},
        },
        {
            "name": "anchored",
            "room": "finetune",
            "from": {"policy": "finetune", "dialogues": "shipped:helpful.train", "anchor": "shipped:lookalikes.train"},
            "settings": {
                "batch": 4,
                "limit": 40,
                "lr": 1e-3,
                "microbatch_tokens": 512,
                "frozen_layers": 1,
                "anchors": {"begun": 1, "stress": 3},
            },
        },
        {
            "name": "preference",
            "room": "preference",
            "from": {"policy": "./policy", "comparisons": "shipped:comparisons.train"},
            "settings": {"batch": 4, "epochs": passes, "lr": 1e-4, "evaluate_every": 10, "pairs": {"limit": 30}},
        },
        {
            "name": "averaged",
            "room": "preference",
            "from": {"policy": "./policy", "comparisons": "shipped:comparisons.train"},
            "settings": {"batch": 4, "lr": 1e-4, "members": 2, "lora": {"rank": 2}, "pairs": {"limit": 16}},
        },
        {
            "name": "rating",
            "room": "rating",
            "from": {"policy": "./policy"},
            "settings": {"batch": 4, "epochs": passes, "lr": 1e-4, "limit": 30},
        },
        {
            "name": "dpo",
            "room": "dpo",
            "from": {
                "policy": "./policy",
                "comparisons": "shipped:comparisons.train",
                "replay": "shipped:helpful.train",
            },
            "settings": {
                "batch": 4,
                "epochs": passes,
                "lr": 1e-4,
                "nll": 0.1,
                "evaluate_every": 10,
                "limit": 30,
                "replay_batch": 2,
            },
        },
        {
            "name": "rl",
            "room": "rl",
            "from": {"policy": "./policy", "reward": "preference", "prompts": "shipped:red_team.train"},
            "settings": {
                "steps": steps,
                "lr": 1e-4,
                "kl": {"adaptive_target": 0.5},
                "rollout": {"prompts": 3, "replies": 2, "max_tokens": 6},
            },
        },
        {
            "name": "rloo",
            "room": "rl",
            "from": {"policy": "./policy", "reward": "preference", "prompts": "shipped:red_team.train"},
            "settings": {
                "steps": steps,
                "lr": 1e-4,
                "baseline": "others",
                "frozen_layers": 1,
                "rollout": {"prompts": 3, "replies": 2, "max_tokens": 6},
            },
        },
        {
            "name": "labels",
            "room": "feedback",
            "from": {"policy": "finetune", "labeller": "finetune", "prompts": "shipped:red_team.train"},
            "settings": {"limit": 6, "shots": 0, "chunk": 2, "max_tokens": 6, "known_limit": 4},
        },
    ]


@pytest.mark.parametrize("steps", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_two_processes_learn_what_one_does(steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    toys.policy_folder(tmp_path / "policy")
    as_artifact(corpus_folder(tmp_path / "corpus", texts(300), texts(20, 1)), "corpus")
    path = recipe(tmp_path, _rooms(steps))
    one, two = tmp_path / "one", tmp_path / "two"
    alone(path, one)
    said = together(path, two, 2)
    for step, key in [
        *((name, "loss") for name in ("pretrain", "finetune", "anchored", "preference", "rating", "dpo")),
        ("rl", "reward"),
        ("rloo", "reward"),
    ]:
        rows = log_of(two, step)
        assert len(rows) >= steps, step
        assert apart(one, two, step, key) < 1e-5, step
        assert apart(one, two, step, "grad_norm") < 1e-3 * max(row.get("grad_norm", 0) for row in rows), step
        shares = [row["tokens_of_each"] for row in rows if "loss" in row]
        assert min(sum(own) for own in zip(*shares, strict=True)) > 0.2 * sum(map(sum, shares)), step
        assert f"{step}: 2 processes learnt from" in said
    assert apart(one, two, "rl", "policy_loss") < 1e-5
    assert apart(one, two, "rloo", "policy_loss") < 1e-5
    # the critic's Adam makes part of a step of 1e-3 of a gradient that is nothing but rounding
    assert apart(one, two, "rl") < 5e-5
    assert apart(one, two, "averaged") < 1e-5 and log_of(two, "averaged")[-1]["member"] == 2
    ours, theirs = (_rows(out / "averaged", "samples/heldout_pairs.jsonl") for out in (one, two))
    assert max(abs(a["chosen_score"] - b["chosen_score"]) for a, b in zip(ours, theirs, strict=True)) < 1e-4
    assert apart(one, two, "long") < 1e-5
    ours, theirs = ((out / "long" / "config.json").read_text() for out in (one, two))
    assert ours == theirs and json.loads(ours)["max_position_embeddings"] == 128
    assert not any("tokens_of_each" in row for row in log_of(one, "finetune"))
    first, second = (json.loads((out / "rl" / "manifest.json").read_text()) for out in (one, two))
    assert first["id"] == second["id"]
    assert [made["environment"]["processes"] for made in (first, second)] == [1, 2]
    texts_of = [[(row["chosen"], row["rejected"]) for row in _rows(out / "labels")] for out in (one, two)]
    assert texts_of[0] == texts_of[1]
    assert not list((two / ".partial").iterdir())


def _rows(folder: Path, file: str = "comparisons.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / file).read_text().splitlines()]
