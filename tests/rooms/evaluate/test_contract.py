"""What holds for every evaluation: questions by seed, rows that give their numbers and marks again, resumed runs, and
broken rows that are refused with file and line. A new task is tested here from the moment it stands in `TASKS`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from desk import filled, scripted_reply, short_settings
from valid_rows import NEEDED, WRONG, valid

import toys
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.recount import flag_problems
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.engine import Completion
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.measure.reporting import read_reported
from charter.ground.sandbox.program import Outcome, Verdict
from charter.rooms.evaluate import run as room
from charter.rooms.evaluate.catalogue import SUITES, TASKS
from charter.rooms.evaluate.settings import Settings
from charter.rooms.evaluate.task import Context
from charter.rooms.evaluate.tasks import humaneval
from charter.rooms.evaluate.verify import problems

Refuse = Callable[[str, dict[str, Any]], str]
# Their rows hold nothing that follows from an answer.
UNMARKED = {"position", "text", "revisions", "acceptable_use"}
# The scenarios of adherence, and what a screen reads, have no draw of questions.
ALL_OF_THEM = {"adherence", "adherence_text", "acceptable_use"}


@dataclass(frozen=True)
class Report:
    """A finished report on one task."""

    name: str
    path: Path
    manifest: Manifest

    @property
    def rows(self) -> list[dict[str, Any]]:
        return read_objects(self.path / f"samples/{self.name}.jsonl")


def reply(_: Any, prompts: Any, sampling: Any, n: int = 1, seeds: Any = None) -> list[list[Completion]]:
    asked = zip(prompts, seeds or [0] * len(prompts), strict=True)
    return [[Completion(scripted_reply(p, s, k), stop="end") for k in range(n)] for p, s in asked]


def check_all(_: Any, programs: Sequence[Any], limits: Any, workers: int) -> list[Outcome]:
    """Programs of an odd length pass."""
    passed, failed = Outcome(Verdict.PASSED, "", 0.1), Outcome(Verdict.FAILED, "no", 0.1)
    return [passed if len(program.solution) % 2 else failed for program in programs]


@pytest.fixture(scope="module", autouse=True)
def scripted() -> Any:
    """The model under test scores as a toy does, and says what can be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalAssistant, "open", cache(LocalAssistant.open))
        patch.setattr(PreferenceModel, "open", cache(PreferenceModel.open))
        patch.setattr(LocalAssistant, "reply", reply)
        patch.setattr(humaneval, "sandbox", lambda: None)
        patch.setattr(humaneval, "check_all", check_all)
        yield


@pytest.fixture(scope="module")
def place(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of inputs, with a toy whose context holds five worked examples."""
    folder = tmp_path_factory.mktemp("contract")
    toys.policy_folder(folder / "policy", 0, replace(toys.SHAPE, max_positions=4096))
    (folder / "grader").symlink_to(checkpoints / "grader")
    return folder


def inputs_of(name: str, place: Path, rows: Sequence[dict[str, Any]] = ()) -> Inputs:
    folder = place / name
    folder.mkdir(exist_ok=True)
    return filled(TASKS[name], folder, place, lambda role: toys.policy(place / "policy", role), rows)


def settings_of(name: str, **more: Any) -> Settings:
    return short_settings(name, limit=3, chunk=2, **more)


@pytest.fixture(scope="module")
def report_of(place: Path) -> Callable[[str], Report]:
    """Runs the room on one task, once for all tests of the module."""

    @cache
    def report(name: str) -> Report:
        inputs, settings = inputs_of(name, place), settings_of(name)
        out = toys.workspace(place / name / "whole")
        room.run(settings, inputs, out)
        ids: dict[str, list[str]] = {}
        for entry in inputs:
            ids.setdefault(entry.role, []).append(entry.id)
        facts: dict[str, Any] = {"kind": "report", "id": "", "status": "done", "step": "asked", "recipe": "r"}
        asked = settings.model_dump(mode="json")
        manifest = Manifest(room="evaluate", resolved=asked, inputs=ids, metrics=out.metrics, **facts)
        return Report(name, out.path, manifest)

    return report


def drawn(name: str, place: Path, seed: int, limit: int = 3) -> tuple[Any, dict[str, int]]:
    """The questions of a task by a draw seed, and how many of how many they are."""
    settings = settings_of(name, draw_seed=seed).model_copy(update={"limit": limit})
    out = toys.workspace(place / name / "drawn")
    (context,) = room.open_contexts(settings, inputs_of(name, place), out)
    return context.task.questions(context), context.drawn


@pytest.mark.parametrize("name", [name for name in TASKS if name not in ALL_OF_THEM])
def test_questions_are_drawn_by_seed(name: str, place: Path) -> None:
    first, counted = drawn(name, place, 0)
    again, _ = drawn(name, place, 0)
    assert repr(first) == repr(again) and first
    assert 1 <= counted.get("asked", 1) <= counted.get("of", 1)
    if counted.get("asked", 0) < counted.get("of", 0):
        others = [repr(drawn(name, place, seed)[0]) for seed in (1, 2)]
        assert any(other != repr(first) for other in others), "another seed draws other questions"


@pytest.mark.parametrize("name", TASKS)
def test_rows_give_the_reports_numbers_within_their_limits(name: str, report_of: Callable[[str], Report]) -> None:
    report = report_of(name)
    assert list(problems(report.path, report.manifest)) == []
    reported = {score.name: score for score in read_reported(report.path).scores}
    assert {metric.name: metric.value for metric in report.manifest.metrics} == {
        score.name: pytest.approx(score.value) for score in reported.values()
    }
    rows, clusters, numbers = report.rows, {row["id"] for row in report.rows}, TASKS[name].numbers
    tables = {m.name: m.table(rows) for m in numbers if m.table and m.file == f"{name}.jsonl"}
    counted = {key for key, table in tables.items() if table.n and not math.isnan(table.value)}
    assert counted and counted <= reported.keys(), "each number that the rows give is told"
    scores = [reported[metric.name] for metric in numbers if metric.name in reported]
    for score in scores:
        low, high = score.metric.limits
        assert low <= score.value <= high, score.name
        assert score.low is None or low <= score.low <= score.value <= score.high <= high, score.name
        if score.metric.file == f"{name}.jsonl" and not score.metric.terms:
            assert 1 <= score.clusters <= len(clusters), f"{score.name}: items that share an id count once"
    if name in reported and "correct" in rows[0] and "mode" not in rows[0]:
        headline = reported[name]
        assert headline.clusters == len(clusters) and headline.metric.better in ("higher", "neither")
    assert name not in SUITES["honesty"] or (report.path / f"curves/{name}.jsonl").is_file()


@pytest.mark.parametrize("name", [name for name in TASKS if name not in UNMARKED])
def test_marks_follow_from_the_rows_and_each_changed_one_is_named(
    name: str, report_of: Callable[[str], Report]
) -> None:
    report, file = report_of(name), f"{name}.jsonl"
    identity = read_object(report.path / "report.json")["identity"][name]
    rule, rows = TASKS[name].rule(identity), report.rows
    assert rule is not None and flag_problems(file, rows, rule) == []
    assert ("detectors" in identity) is TASKS[name].detecting
    # the first row of each mode
    first = {row.get("mode"): place for place, row in reversed(list(enumerate(rows)))}
    for place in first.values():
        for key in rule(rows[place]):
            changed = [row | {key: other(row[key])} if n == place else row for n, row in enumerate(rows)]
            wrong = flag_problems(file, changed, rule)
            assert any(line.startswith(f"samples/{file}: {key} of ") for line in wrong), key


def other(value: Any) -> Any:
    """Another value for a mark."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return "right" if value != "right" else "wrong"
    if isinstance(value, list):
        return [*value, 1]
    if isinstance(value, dict):
        return value | {"more": 1}
    return 0 if value is None else value + 0.25


def test_every_task_but_those_without_answers_has_a_rule() -> None:
    assert {name for name, task in TASKS.items() if task.rule({}) is None} == UNMARKED


@pytest.mark.parametrize("name", TASKS)
def test_stopped_anywhere_and_resumed_it_is_the_same(
    name: str, report_of: Callable[[str], Report], place: Path
) -> None:
    whole, folder, stops = report_of(name), place / name / "stopped", 0
    while True:
        out = toys.workspace(folder, progress=toys.StoppingProgress(2**stops))
        try:
            room.run(settings_of(name), inputs_of(name, place), out)
            break
        except toys.Interrupted:
            stops += 1
    assert toys.files_of(out.path) == toys.files_of(whole.path) and stops


@pytest.fixture(scope="module")
def refusal(place: Path) -> Refuse:
    """What is said of a data file whose second row is broken."""

    @cache
    def context_of(name: str) -> Context:
        settings = settings_of(name).model_copy(update={"limit": 0})
        inputs = inputs_of(name, place, [valid(name)])
        (context,) = room.open_contexts(settings, inputs, toys.workspace(place / name / "broken"))
        return context

    def refuse(name: str, row: dict[str, Any]) -> str:
        context = context_of(name)
        toys.rows_file(context.source, [valid(name), row])
        with pytest.raises(CharterError) as told:
            context.task.questions(context)
        return str(told.value)

    return refuse


# What stands in place of a good value.
KINDS: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
    "missing": lambda row, key: {k: v for k, v in row.items() if k != key},
    "number": lambda row, key: row | {key: 7},
    "empty": lambda row, key: row | {key: type(row[key])()},
    "null": lambda row, key: row | {key: None},
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_broken_row_is_refused_with_its_file_and_line(name: str, refusal: Refuse) -> None:
    row = valid(name)
    for entry in NEEDED[name].split(", "):
        key, *kinds = entry.split()
        for kind in kinds or KINDS:
            told = refusal(name, KINDS[kind](row | ({"id": "more"} if key != "id" else {}), key))
            assert "rows.jsonl:2: " in told and "\n" not in told, (key, kind, told)


@pytest.mark.parametrize(("name", "change"), WRONG)
def test_a_wrong_value_is_refused_with_its_file_and_line(name: str, change: dict[str, Any], refusal: Refuse) -> None:
    row = valid(name) | {"id": "more"} | change
    assert "rows.jsonl:2: " in refusal(name, {key: value for key, value in row.items() if value is not ...})


def test_each_parser_is_tried() -> None:
    """Tasks that share a parser, and those that read prose, need no rows of their own."""
    shared = {name for name in TASKS if name.startswith(("agieval_", "bbq_"))} - {"agieval_lsat_ar"}
    shared |= {"mmlu_plain", "known", "sure", "recall", "quiz"}
    assert TASKS.keys() - NEEDED.keys() - shared == ALL_OF_THEM
