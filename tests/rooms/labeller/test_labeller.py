"""The labeller: its lessons, a product that scores the same after opening, an order that doesn't count, a stopped run."""

from __future__ import annotations

import json
import random
from itertools import permutations
from pathlib import Path

import pytest
import torch

import toys
from charter.ground.artifact.curves import read_object, read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.lessons import Lesson
from charter.ground.constitution.wording import under_principle
from charter.ground.judge.principle_reader import LARGEST, PrincipleReader
from charter.ground.judge.traits import TRAITS
from charter.ground.model.sentence_encoder import PACKAGE, encoder_folder, is_installed
from charter.ground.text.dialogue import user
from charter.rooms.labeller import lessons as read
from charter.rooms.labeller import run as room
from charter.rooms.labeller.settings import Settings

pytestmark = pytest.mark.skipif(not is_installed(), reason=f"the package {PACKAGE} is not installed")
SETTINGS = Settings(steps=3, batch=4, pairs=2, warmup=0, save_every=1)
FOR, AGAINST = "Prefer the reply that shouts.", "Prefer the reply that is calm."
KIND = "exclamation"


def measured_rows() -> list[dict[str, object]]:
    rows = []
    for n in range(2):
        loud, calm = f"Go on, number {n}!", f"Go on, number {n}."
        for pole, principle, better, worse in (("for", FOR, loud, calm), ("against", AGAINST, calm, loud)):
            row = toys.comparison(f"m{n}-{pole}", f"May I pass, {n}?", better, worse)
            rows.append(
                row
                | {
                    "messages": under_principle([user(f"May I pass, {n}?")], principle),
                    "topic": KIND,
                    "meta": {"pole": pole},
                }
            )
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
        "m0-against", AGAINST, [user("May I pass, 0?")], "Go on, number 0.", "Go on, number 0!", KIND, "against"
    )
    assert written == [Lesson("w1", "Which is kinder?", [user("Well?")], "No, dear.", "No.")]


def test_a_step_has_its_share_of_written_principles_and_each_of_the_others_decides_pairs_of_its_pole(
    inputs: Inputs,
) -> None:
    measured, written = read.read_lessons(inputs)
    settings = Settings(steps=40, batch=4, pairs=2, written_share=0.25)
    steps = read.batches(measured, written, settings, 1)
    assert len(steps) == 40 and all(len(step) == 4 for step in steps)
    assert all(step[0][:2] == ("Which is kinder?", [4]) for step in steps)
    hidden = [asked.hidden for step in steps for asked in step]
    assert 0.15 < sum(hidden) / len(hidden) < 0.45
    asked = [asked for step in steps for asked in step[1:]]
    assert {tuple(sorted(a.lessons)) for a in asked} == {(0, 2), (1, 3)}  # for the trait, against it
    own = [a for a in asked if a.principle in (FOR, AGAINST)]
    assert {(a.principle, a.lessons[0] % 2) for a in own} == {(FOR, 0), (AGAINST, 1)}
    assert 0.6 < 1 - len(own) / len(asked) < 0.9
    assert steps == read.batches(measured, written, settings, 1) != read.batches(measured, written, settings, 2)


def test_pairs_of_a_trait_that_has_no_phrases_are_decided_by_their_own_principle(inputs: Inputs) -> None:
    measured = [lesson._replace(kind="unknown") for lesson in read.read_lessons(inputs)[0]]
    (step,) = read.batches(measured, [], Settings(steps=1, batch=30, pairs=8), 1)
    assert {(a.principle, tuple(sorted(a.lessons))) for a in step} == {(FOR, (0, 2)), (AGAINST, (1, 3))}


def test_a_negation_turns_a_phrase_round() -> None:
    """A principle for a trait prefers more of it or avoids less."""
    listed = read.phrases()
    assert set(listed["traits"]) == set(TRAITS)
    assert all(set(parts) == {"more", "less", "thing", "lack"} for parts in listed["traits"].values())
    has = set[tuple[str, str]]()
    for name, joint, poles in (("prefer", " and ", ("for", "against")), ("avoid", " or ", ("against", "for"))):
        for frames, parts in {"": ("more", "less"), "_thing": ("thing", "lack"), "_to": ("more", "less")}.items():
            for pole, part in zip(poles, parts, strict=True):
                single = listed["traits"][KIND][part]
                if frames == "_to":
                    single = [form for phrase in single if (form := read.base_form(phrase))]
                said = [*single, *(joint.join(two) for two in permutations(single, 2))]
                has |= {(pole, frame.format(text)) for frame in listed["frames"][name + frames] for text in said}
    rng = random.Random(0)
    made = {(pole, read.compose(KIND, pole, rng)) for pole in ("for", "against") for _ in range(3000)}
    assert made <= has and len(made) > 0.4 * len(has)


@pytest.mark.parametrize(
    ("phrase", "base"),
    [
        ("gives its word", "give its word"),
        ("finishes early", "finish early"),
        ("addresses nobody", "address nobody"),
        ("cries out", "cry out"),
        ("is brief", "be brief"),
        ("rambles", "ramble"),
        ("doesn't shout", ""),
        ("never says I", ""),
    ],
)
def test_the_base_form_of_a_phrase(phrase: str, base: str) -> None:
    assert read.base_form(phrase) == base


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


def test_a_score_is_the_traits_asked_for_and_the_cosine_by_hand(inputs: Inputs) -> None:
    measured, _ = read.read_lessons(inputs)
    reader = PrincipleReader.start(encoder_folder(), 5.0, "cpu", "float32")
    with torch.no_grad():
        (of_for, of_against) = reader.principles([FOR, AGAINST])
        traits, states = reader.differences(measured)
        names = list(TRAITS)
        assert {names[n]: float(x) for n, x in enumerate(traits[0]) if x} == {KIND: 1.0}
        assert {names[n]: float(x) for n, x in enumerate(traits[1]) if x} == {KIND: -1.0}
        assert [float(u.norm()) for u in (of_for, of_against)] == pytest.approx([1, 1])
        cosines = [5 * float(u @ state) for u, state in zip((of_for, of_against), states[:2], strict=True)]
        assert reader.score(measured)[:2] == pytest.approx(cosines, abs=1e-5)
        reader.head.of_traits.weight[names.index(KIND)] = 3 * of_for
        reader.head.of_traits.weight[names.index("length")] = 0.5 * of_for  # too little to count
    against = 3 * float(of_for @ of_against)
    assert against > 0.5
    wanted = [cosines[0] + 2.5, cosines[1] - (against - 0.5)]
    assert reader.score(measured)[:2] == pytest.approx(wanted, abs=1e-5)
    with torch.no_grad():
        reader.head.of_traits.weight[names.index(KIND)] = -3 * of_for
    assert reader.score(measured)[0] == pytest.approx(cosines[0] - 2.5, abs=1e-5)


def test_a_large_difference_in_a_trait_counts_up_to_its_bound() -> None:
    reader = PrincipleReader.start(encoder_folder(), 0.0, "cpu", "float32")
    traits, _ = reader.differences([Lesson("l", "", [user("Well?")], "word " * 100, "word.")])
    assert float(traits[0, list(TRAITS).index("length")]) == -LARGEST


def test_pairs_under_opposing_principles_are_learnt_by_reading_the_principle(tmp_path: Path, inputs: Inputs) -> None:
    out = toys.workspace(tmp_path / "labeller")
    room.run(Settings(steps=40, batch=8, warmup=0, phrased_share=0, schedule="constant"), inputs, out)
    measured, written = read.read_lessons(inputs)
    assert all(gap > 0 for gap in PrincipleReader.open(out.path).score([*measured, *written]))
    losses = [row["loss"] for row in read_objects(out.path / "log.jsonl")]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_hidden_traits_teach_the_head_nothing(tmp_path: Path, inputs: Inputs, share: float) -> None:
    out = toys.workspace(tmp_path / "labeller")
    room.run(SETTINGS.model_copy(update={"hidden_share": share}), inputs, out)
    assert bool(PrincipleReader.open(out.path).head.of_traits.weight.any()) is (share == 0)


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


def test_a_product_of_other_traits_is_refused(tmp_path: Path) -> None:
    folder = toys.labeller_folder(tmp_path / "labeller")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"traits": ["length"]}), "utf-8")
    with pytest.raises(CharterError, match="other traits"):
        PrincipleReader.open(folder)
