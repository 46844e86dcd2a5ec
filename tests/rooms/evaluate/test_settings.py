"""Settings of the room: contradictions and changes without effect are refused before a model answers."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from charter.ground.model.generation import Decoding
from charter.rooms.evaluate.catalogue import METRICS, SUITES, TASKS
from charter.rooms.evaluate.settings import Settings, check
from charter.rooms.evaluate.task import Change, Protocol


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tasks": ["arc", "bbq", "arc"]}, "tasks names arc twice"),
        ({"tasks": ["arc"], "change": {"bbq": {"limit": 3}}}, "change names bbq, which tasks leaves out"),
        ({"tasks": ["battery"], "change": {"gsm8k": {"shots": 8}}}, "change.gsm8k.shots would change no task"),
        ({"tasks": ["battery"], "change": {"bbq": {"samples": 5}}}, "change.bbq.samples would change no task"),
        (
            {"tasks": ["battery"], "change": {"winogender": {"form": "chat"}}},
            "change.winogender.form would change no task",
        ),
        (
            {"tasks": ["battery"], "change": {"position": {"max_tokens": 9}}},
            "change.position.max_tokens would change no task",
        ),
        (
            {
                "tasks": ["battery"],
                "change": {"arc": {"shots": 0, "form": "chat", "max_tokens": 9, "temperature": 0.5}},
            },
            "",
        ),
        ({"tasks": ["battery"], "change": {"humaneval": {"samples": 10}, "position": {"limit": 2}}}, ""),
        ({"tasks": ["battery"]}, ""),
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any], words: str) -> None:
    problem = check(Settings.model_validate(fields), ())
    assert problem.startswith(words) and bool(problem) == bool(words)


def test_free_answers_are_drawn_as_the_model_says_and_greedy_tasks_stay_greedy() -> None:
    own, none = Decoding(0.2, 0.9, 5, known=True), Change()
    sampled = Protocol(max_tokens=320).use_decoding(own, none)
    assert sampled.decoding.facts == own.facts == {"temperature": 0.2, "top_p": 0.9, "top_k": 5}
    for protocol in (Protocol(temperature=0.0, max_tokens=24), Protocol()):
        assert protocol.use_decoding(own, none) == protocol
    change = Change(temperature=0.7)
    changed = Protocol(max_tokens=320).apply_change(0, change)
    assert changed.use_decoding(own, change).decoding.facts == {"temperature": 0.7}


def test_changes_without_effect_are_those_of_no_task_that_shows_or_samples() -> None:
    def taking(field: str) -> set[str]:
        return {name for name in SUITES["battery"] if field in TASKS[name].takes}

    assert taking("shots") == {"mmlu_plain", "arc", "race", "quality", "mmlu", "triviaqa"}
    assert {*SUITES["battery"]} - taking("form") == {"position", "winogender", "occupations"}
    assert taking("samples") == {
        *("gsm8k", "recall", "humaneval", "mmlu", "triviaqa", "translation", "truthfulqa", "bbq_sampled", "decisions")
    }


def test_a_suite_changes_what_its_tasks_take_and_a_task_has_the_last_word() -> None:
    changes = {"replies": {"max_tokens": 32, "samples": 2}, "helpful": {"max_tokens": 9}, "hhh": {"shots": 5}}
    settings = Settings.model_validate({"tasks": ["assistant", "quiz"], "change": changes})
    assert check(settings, {"grader"}) == ""
    assert settings.change_of("harmlessness") == Change(max_tokens=32, samples=2)
    assert settings.change_of("helpful") == Change(max_tokens=9, samples=2)
    assert settings.change_of("hhh") == Change(shots=5) and settings.change_of("text") == Change()
    assert [task.name for task in settings.evaluations] == [*SUITES["assistant"], "quiz"]


@pytest.mark.parametrize("field", ["tasks", "change"])
def test_a_task_that_is_not_there_is_refused_with_what_was_meant(field: str) -> None:
    fields = {"tasks": ["gsm8"]} if field == "tasks" else {"change": {"gsm8": {"limit": 3}}}
    with pytest.raises(ValidationError, match="did you mean gsm8k"):
        Settings.model_validate(fields)


def test_a_graded_task_needs_its_grader() -> None:
    assert check(Settings(), ()).startswith("role grader is missing")
    assert check(Settings(), {"grader"}) == "" and check(Settings(tasks=("facts",)), ()) == ""


def test_every_task_says_all_that_a_card_needs() -> None:
    for name, task in TASKS.items():
        assert task.name == name and task.title and task.numbers and task.version >= 1
        # attacks are products of a run: no set of them could be shipped or read elsewhere
        assert task.role.default or not task.role.required or task.standard or name == "attacks"
        for metric in task.numbers:
            assert metric.task == name and metric.label and metric.meaning and metric.file.endswith(".jsonl")
    names = [metric.name for metric in METRICS]
    assert len(names) == len({*names})


def test_reading_settings_leaves_torch_unloaded() -> None:
    code = "import sys; import charter.rooms.evaluate.settings; print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"
