"""A card on a policy whose replies drifted: its table, and what verification finds changed."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import card_world
import pytest
from card_world import ANSWERS, BOILER, LOOPS, SETTINGS, make_card, write_rows

from charter.ground.artifact.store import read_manifest
from charter.ground.judge.declining import MARKS
from charter.ground.judge.detect import training_digest
from charter.ground.measure.drift import DRIFT, REPLIES, snapshot_row
from charter.ground.measure.metric import VERSION
from charter.rooms.card.gather import gather
from charter.rooms.card.training import MOST_SNAPSHOTS, drift_table
from charter.rooms.card.verify import card_inputs, card_problems
from charter.runner.verify import artifact_problems

PARENTS = (("reports", "eval_0"), ("rl", "learnt"))


def replies_of(number: int) -> list[dict[str, Any]]:
    """60 replies; from the third snapshot on a quarter are one stock phrase, and a fifth loop."""
    rng = random.Random(number)
    rows = []
    for n in range(60):
        reply = rng.choice(ANSWERS)
        if number > 1 and n % 4 == 0:
            reply = BOILER
        elif number > 1 and n % 5 == 1:
            reply = LOOPS
        row = {"snapshot": number, "round": 2 * number + n // 30, "id": f"p{n % 30}", "sample": 0}
        row |= {"source": "red", "group": "harmless" if n % 30 < 20 else "prompts", "reply": reply}
        row |= {"stop": "end", "tokens": len(reply.split()), "kl": 0.5 * number + rng.random()}
        row |= {"reward": 0.1 * number, "reward_heldout": 0.0}
        rows.append(row | {name: detect(reply) for name, detect in MARKS.items()})
    return rows


def add_policy(run: Path, count: int = 4) -> None:
    """An rl step with some snapshots."""
    card_world.checkpoint(run / "learnt")
    parts = [replies_of(number) for number in range(count)]
    facts = {"version": VERSION, "detectors": training_digest()}
    rows = [snapshot_row(parts[0], part, 0.05) | facts for part in parts]
    write_rows(run / "learnt" / DRIFT, rows)
    write_rows(run / "learnt" / REPLIES, [row for part in parts for row in part])
    write_rows(run / "learnt/log.jsonl", [{"step": n, "reward": 0.1, "kl": 0.1 * n} for n in range(4)])
    counts = {"rounds": 3, "snapshots": count, "drift_alarms": sum(len(row["alarms"]) for row in rows)}
    (run / "learnt/counts.json").write_text(json.dumps(counts))
    card_world.finish(run, "learnt", "rl", "checkpoint", variant="policy", parents=(("policy", "sl"),),
                      resolved={"monitor": {"level": 0.05}})  # fmt: skip


@pytest.fixture(scope="module")
def drifted(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("drift") / "run"
    shutil.copytree(finished, run)
    add_policy(run)
    make_card(run, SETTINGS, PARENTS)
    return run


def table_of(run: Path) -> Any:
    inputs, _ = card_inputs(run / "card", read_manifest(run / "card"))
    return drift_table(gather(inputs))


def test_the_card_lists_the_snapshots_with_alarms_in_bold(drifted: Path) -> None:
    page, words = ((drifted / "card" / name).read_text("utf-8") for name in ("card.html", "card.md"))
    for text in (page, words):
        assert "Drift while learning" in text and "Stock phrases" in text and "Reward less held-out" in text
    assert re.search("<strong><span[^>]*>25.0\u00a0%</span>", page) and "| **25.0\u00a0% (" in words
    assert "**i'm sorry but as** 25.0\u00a0%" in words
    shown = card_world.shown(drifted / "card")
    rate = shown["learnt/snapshot 2 boilerplate"]
    assert rate["value"] == 0.25 and rate["n"] == 60 and rate["sources"][0]["file"] == REPLIES
    assert rate["low"] < 0.25 < rate["high"]
    assert shown["learnt/snapshots of replies"]["value"] == 4
    assert shown["learnt/snapshots with an alarm"]["value"] == 2
    assert artifact_problems(drifted / "learnt", read_manifest(drifted / "learnt")) == []
    assert card_problems(drifted / "card") == []


def test_of_many_snapshots_the_ends_and_some_between_are_listed(drifted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(drifted, run)
    add_policy(run, 40)
    make_card(run, SETTINGS, PARENTS)
    table = table_of(run)
    assert len(table.rows) == MOST_SNAPSHOTS and table.total.value == 40 and table.alarmed.value == 38
    assert [table.rows[n].first.value for n in (0, -1)] == [0, 78]


def test_a_policy_without_snapshots_has_no_table(finished: Path) -> None:
    assert "Drift while learning" not in (finished / "card/card.html").read_text("utf-8")
    assert artifact_problems(finished / "rl", read_manifest(finished / "rl")) == []


def changed(path: Path, number: int, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    rows = card_world.read_rows(path)
    rows[number] = change(rows[number])
    write_rows(path, rows)


def problems(drifted: Path, tmp_path: Path, change: Callable[[Path], None]) -> list[str]:
    """What verification says of the step once its hashes and metrics were made again after a change."""
    run = tmp_path / "run"
    shutil.copytree(drifted, run)
    change(run / "learnt")
    card_world.remeasure(run, "learnt")
    return artifact_problems(run / "learnt", read_manifest(run / "learnt"))


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a mark": (
        lambda folder: changed(folder / REPLIES, 120, lambda row: row | {"boilerplate": False}),
        "samples/drift.jsonl: boilerplate of p0 sample 0 is False; its row gives True",
    ),
    "a reply": (
        lambda folder: changed(folder / REPLIES, 120, lambda row: row | {"reply": "Sure."}),
        "samples/drift.jsonl: boilerplate of p0 sample 0 is True; its row gives False",
    ),
    "a rate": (
        lambda folder: changed(folder / DRIFT, 2, lambda row: row | {"rates": row["rates"] | {"loop": 0.0}}),
        "drift.jsonl: rates of snapshot 2 is",
    ),
    "a length": (
        lambda folder: changed(folder / REPLIES, 70, lambda row: row | {"tokens": 900}),
        "drift.jsonl: tokens of snapshot 1 is",
    ),
    "alarms": (
        lambda folder: changed(folder / DRIFT, 3, lambda row: row | {"alarms": []}),
        "drift.jsonl: alarms of snapshot 3 is []; its replies give",
    ),
    "the count of alarms": (
        lambda folder: changed(folder / DRIFT, 3, lambda row: row | {"alarms": []}),
        "counts.json: drift_alarms is",
    ),
    "n-grams": (
        lambda folder: changed(folder / DRIFT, 3, lambda row: row | {"ngrams": row["ngrams"][1:]}),
        "drift.jsonl: ngrams of snapshot 3 is",
    ),
    "a snapshot less": (
        lambda folder: write_rows(folder / DRIFT, card_world.read_rows(folder / DRIFT)[:3]),
        "drift.jsonl has 3 snapshots; the kept replies are of 4",
    ),
    "other detectors": (
        lambda folder: changed(folder / DRIFT, 0, lambda row: row | {"detectors": "0" * 64}),
        "drift.jsonl was made by other detectors or another version of the measures",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_follow_from_the_replies_is_found(drifted: Path, tmp_path: Path, change: str) -> None:
    edit, line = CHANGES[change]
    lines = problems(drifted, tmp_path, edit)
    assert any(each.startswith(line) for each in lines), lines
