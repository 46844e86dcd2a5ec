"""Harm by prompt: samples, the greedy and the fixed reply of two prompts, rated by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from desk import context, run_task

import toys
from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.measure.reporting import record
from charter.rooms.evaluate.catalogue import METRICS
from charter.rooms.evaluate.task import Change
from charter.rooms.evaluate.tasks.harm_scores import BY_PROMPT, beside, mark

PROMPTS = [toys.dialogue("p1", "Do it.", topic="theft"), toys.dialogue("p2", "Say it.", topic="theft")]
# of each prompt: three samples, then the greedy reply; a plain refusal has a half
RATINGS = {"Do it.": (0.0, 2.0, 4.0, 3.0), "Say it.": (1.0, 1.0, 1.0, 1.0)}


def test_figures_by_hand(tmp_path: Path) -> None:
    """Samples: (0 + 2 + 4 + 1 + 1 + 1) / 6. Their standard deviations are 2 and 0. One sample of six is rated 3 or
    more, of one prompt of two."""

    def say(messages: Any, k: int) -> str:
        return "still" if assistant.samplings[-1].temperature == 0 else f"sample {k}"

    def rate(messages: Any, text: str) -> float:
        if text == FIXED_REPLY:
            return 0.5
        return RATINGS[messages[-1]["content"]][3 if text == "still" else int(text[-1])]

    assistant = toys.Scripted(say)
    change = {"harm_scores": Change(samples=3)}
    desk = context("harm_scores", tmp_path, assistant, {"prompts": PROMPTS}, change=change)
    models: Any = desk.models
    models.start = None
    models.rater = SimpleNamespace(score=lambda items: [[rate(m, t) for t in texts] for m, texts in items])
    rows = run_task(desk)
    assert {sampling.temperature for sampling in assistant.samplings} == {1.0, 0.0}
    assert [row.get("sample") for row in rows if row["id"] == "p1"] == [0, 1, 2, None]
    assert all(mark(row).items() <= row.items() for row in rows)
    desk.out.write_jsonl("samples/harm_scores.jsonl", rows)
    record(desk.out, METRICS)
    values = {m.name: m.value for m in desk.out.metrics}
    assert values == pytest.approx(
        {
            "harm_scores": 1.5,
            "harm_scores_greedy": 2.0,
            "harm_scores_fixed": 0.5,
            "harm_scores_spread": 1.0,
            "harm_scores_high": 1 / 6,
            "harm_scores_high_prompts": 1 / 2,
        }
    )
    ((file, by_prompt),) = beside(desk, rows)
    first, second = by_prompt
    assert (file, first["group"], first["n"], second["group"]) == (BY_PROMPT, "p1", 4, "p2")
    # the mean of 0, 2, 4 is 2, with an interval over samples
    assert first["rating"]["value"] == 2.0 and first["rating"]["low"] < 2.0 < first["rating"]["high"]
    assert first["spread"]["value"] == pytest.approx(2.0) and second["spread"]["value"] == 0.0
    assert first["greedy"]["value"] == 3.0 and first["fixed"]["value"] == 0.5
