"""The labeller: its lessons, a product that scores the same after opening, an order that doesn't count, a stopped run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import toys
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.lessons import Lesson
from charter.ground.constitution.wording import under_principle
from charter.ground.judge.principle_reader import PrincipleReader
from charter.ground.model.sentence_encoder import PACKAGE, encoder_folder, is_installed
from charter.ground.text.dialogue import user
from charter.rooms.labeller import lessons as read
from charter.rooms.labeller import run as room
from charter.rooms.labeller.settings import Settings

pytestmark = pytest.mark.skipif(not is_installed(), reason=f"the package {PACKAGE} is not installed")
SETTINGS = Settings(batch=2, warmup=0, save_every=1, rank=4)
FOR, AGAINST = "Prefer the reply that shouts.", "Prefer the reply that is calm."


def measured_rows() -> list[dict[str, object]]:
    rows = []
    for n in range(2):
        loud, calm = f"Go on, number {n}!", f"Go on, number {n}."
        for pole, principle, better, worse in (("for", FOR, loud, calm), ("against", AGAINST, calm, loud)):
            row = toys.comparison(f"m{n}-{pole}", f"May I pass, {n}?", better, worse)
            rows.append(row | {"messages": under_principle([user(f"May I pass, {n}?")], principle)})
    return rows


def written_row(**change: object) -> dict[str, object]:
    return {
        "id": "w1",
        "kind": "care",
        "principle": "Which is kinder?",
        "prompt": "Well?",
        "replies": ["No.", "No, dear."],
        "better": 1,
    } | change


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    measured = toys.rows_file(tmp_path / "measured.jsonl", measured_rows())
    written = toys.rows_file(tmp_path / "written.jsonl", [written_row()])
    return Inputs([toys.given("lessons", measured, "comparisons"), toys.given("written", written, "questions")])


def test_lessons_have_the_better_reply_first_and_the_principle_apart(inputs: Inputs) -> None:
    measured, written = read.read_lessons(inputs)
    assert measured[1] == Lesson(
        "m0-against", AGAINST, [user("May I pass, 0?")], "Go on, number 0.", "Go on, number 0!"
    )
    assert written == [Lesson("w1", "Which is kinder?", [user("Well?")], "No, dear.", "No.")]


def test_a_pass_takes_each_measured_pair_once_and_each_written_one_several_times(inputs: Inputs) -> None:
    measured, written = read.read_lessons(inputs)
    steps = read.batches(measured, written, Settings(batch=4, epochs=2, written_times=3), 1)
    assert [len(step) for step in steps] == [4, 3, 4, 3]
    names = [lesson.id for step in steps[:2] for lesson in step]
    assert sorted(names) == ["m0-against", "m0-for", "m1-against", "m1-for", "w1", "w1", "w1"]
    assert names != [lesson.id for step in steps[2:] for lesson in step]


@pytest.mark.parametrize("change", [{"better": 2}, {"better": None}, {"replies": ["a"]}, {"principle": 3}])
def test_a_broken_written_row_is_refused_with_its_place(tmp_path: Path, change: dict[str, object]) -> None:
    path = toys.rows_file(tmp_path / "written.jsonl", [written_row(**change)])
    with pytest.raises(CharterError, match=r"written\.jsonl:1: expected principle"):
        list(read.read_written(path))


def test_a_comparison_without_a_principle_is_refused(tmp_path: Path) -> None:
    path = toys.rows_file(tmp_path / "pairs.jsonl", [toys.comparison("c1", "Well?", "Yes.", "No.")])
    with pytest.raises(CharterError, match="c1 names no principle"):
        list(read.read_measured(path))


def test_the_product_scores_as_it_did_and_replies_exchanged_change_the_sign(tmp_path: Path, inputs: Inputs) -> None:
    out = toys.workspace(tmp_path / "labeller")
    room.run(SETTINGS, inputs, out)
    assert read_object(out.path / "counts.json") == {"measured": 4, "written": 1, "steps": 3}
    reader = PrincipleReader.open(out.path)
    measured, written = read.read_lessons(inputs)
    asked = [*measured, *written]
    gaps = reader.score(asked)
    again = tmp_path / "again"
    again.mkdir()
    reader.save(again)
    assert PrincipleReader.open(again).score(asked) == gaps
    turned = reader.score([lesson._replace(first=lesson.second, second=lesson.first) for lesson in asked])
    assert turned == pytest.approx([-gap for gap in gaps], abs=1e-6)
    alone = [reader.score([lesson])[0] for lesson in asked]
    assert alone == pytest.approx(gaps, abs=1e-4)
    assert len({round(abs(gap), 6) for gap in gaps}) > 1


def test_the_cosine_before_teaching_is_added_with_its_weight(tmp_path: Path, inputs: Inputs) -> None:
    measured, _ = read.read_lessons(inputs)
    gaps = []
    for weight in (0.0, 5.0):
        out = toys.workspace(tmp_path / str(weight))
        room.run(Settings(batch=2, rank=4, untaught=weight), inputs, out)
        gaps.append(PrincipleReader.open(out.path).score(measured))
    fresh = PrincipleReader.start(encoder_folder(), 4, "cpu", "float32")
    with torch.no_grad():
        principles, differences = fresh.read(measured)
    last = slice(-385, -1)
    cosines = (principles[:, last] * differences[:, last]).sum(1)
    assert gaps[1] == pytest.approx([a + 5 * float(c) for a, c in zip(gaps[0], cosines, strict=True)], abs=1e-4)
    assert any(abs(a - b) > 1e-3 for a, b in zip(*gaps, strict=True))


def test_pairs_under_opposing_principles_are_learnt_by_reading_the_principle(tmp_path: Path, inputs: Inputs) -> None:
    out = toys.workspace(tmp_path / "labeller")
    room.run(Settings(batch=5, warmup=0, epochs=12, rank=8, schedule="constant"), inputs, out)
    measured, _ = read.read_lessons(inputs)
    assert all(gap > 0 for gap in PrincipleReader.open(out.path).score(measured))
    log = read_objects(out.path / "log.jsonl")
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]


@pytest.mark.parametrize("stop", [1, 2])
def test_a_stopped_run_ends_as_an_uninterrupted_one(tmp_path: Path, inputs: Inputs, stop: int) -> None:
    room.run(SETTINGS, inputs, toys.workspace(tmp_path / "whole"))
    with pytest.raises(toys.Interrupted):
        room.run(SETTINGS, inputs, toys.workspace(tmp_path / "cut", progress=toys.StoppingProgress(stop)))
    room.run(SETTINGS, inputs, toys.workspace(tmp_path / "cut"))
    whole, cut = (toys.files_of(tmp_path / name) for name in ("whole", "cut"))
    assert whole == cut and whole


def test_nothing_to_learn_is_said(tmp_path: Path) -> None:
    with pytest.raises(CharterError, match="nothing to learn"):
        room.run(SETTINGS, Inputs([]), toys.workspace(tmp_path / "out"))


def test_a_damaged_product_is_said_to_be_damaged(tmp_path: Path, inputs: Inputs) -> None:
    out = toys.workspace(tmp_path / "labeller")
    room.run(SETTINGS, inputs, out)
    (out.path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CharterError, match=r"model\.safetensors"):
        PrincipleReader.open(out.path)
