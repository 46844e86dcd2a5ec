"""Settings of the room: what contradicts itself, or would change nothing, is refused before anything is asked."""

from __future__ import annotations

from typing import Any

import pytest

from charter.ground.model.generation import Decoding
from charter.rooms.benchmark.protocol import Protocol
from charter.rooms.benchmark.settings import NO_EFFECT, TASKS, Change, Settings, check


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tasks": ["arc", "bbq", "arc"]}, "tasks names arc twice"),
        ({"tasks": ["arc"], "change": {"bbq": {"limit": 3}}}, "change names bbq, which tasks leaves out"),
        ({"change": {"gsm8k": {"shots": 8}}}, "change.gsm8k.shots would change nothing"),
        ({"change": {"bbq": {"samples": 5}}}, "change.bbq.samples would change nothing"),
        ({"change": {"winogender": {"form": "chat"}}}, "change.winogender.form would change nothing"),
        ({"change": {"position": {"max_tokens": 9}}}, "change.position.max_tokens would change nothing"),
        ({"change": {"arc": {"shots": 0, "form": "chat", "max_tokens": 9, "temperature": 0.5}}}, ""),
        ({"change": {"humaneval": {"samples": 10}, "position": {"limit": 2}}}, ""),
        ({}, ""),
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, Any], words: str) -> None:
    found = check(Settings.model_validate(given), ())
    assert found.startswith(words) and bool(found) == bool(words)


def test_free_answers_are_drawn_as_the_model_says_and_greedy_tasks_stay_greedy() -> None:
    own, none = Decoding(0.2, 0.9, 5, known=True), Change()
    sampled = Protocol(max_tokens=320).sampled(own, none)
    assert sampled.decoding.facts == own.facts == {"temperature": 0.2, "top_p": 0.9, "top_k": 5}
    for kept in (Protocol(temperature=0.0, max_tokens=24), Protocol()):
        assert kept.sampled(own, none) == kept
    asked = Change(temperature=0.7)
    changed = Protocol(max_tokens=320).changed(0, asked)
    assert changed.sampled(own, asked).decoding.facts == {"temperature": 0.7}


def test_changes_without_effect_are_those_of_no_task_that_shows_or_samples() -> None:
    assert {*TASKS} - NO_EFFECT["shots"] == {"mmlu_plain", "arc", "race", "quality", "mmlu", "triviaqa"}
    assert NO_EFFECT["form"] == {"position", "winogender", "occupations"}
    assert {*TASKS} - NO_EFFECT["samples"] == {
        *("gsm8k", "recall", "humaneval", "mmlu", "triviaqa", "translation", "truthfulqa"),
    }
