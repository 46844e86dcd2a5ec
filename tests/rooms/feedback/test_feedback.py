"""AI feedback: labels, the labeller's examination and what it costs to fail, equal replies, a stopped run resumed."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.constitution import ComparisonPrinciple, select_by_axis, shipped_constitution
from charter.ground.constitution.wording import OPTIONS
from charter.ground.judge.choice import How
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Comparison, Message, user
from charter.ground.text.records import read_comparisons
from charter.rooms.feedback import run as room
from charter.rooms.feedback.labels import axis_of, draw_known, known_rows, label_weight
from charter.rooms.feedback.settings import Settings, Thought
from toys import Scripted, comparison, dialogue

Asked = Sequence[Message]
SETTINGS = Settings(shots=0, chunk=3)
KNOWN = 24


@pytest.fixture
def inputs(tmp_path: Path, checkpoints: Path) -> Inputs:
    prompts = [dialogue(f"p{n}", f"Do bad thing {n}.", topic="theft") for n in range(7)]
    known = [
        comparison(f"k{n}", f"Known question {n}?", f"KIND known {n}.", f"RUDE known {n}.", axis="helpful")
        for n in range(KNOWN)
    ]
    return Inputs(
        [
            toys.policy(checkpoints / "policy"),
            toys.policy(checkpoints / "other", "labeller"),
            toys.given("prompts", toys.rows_file(tmp_path / "prompts.jsonl", prompts)),
            toys.given("known", toys.rows_file(tmp_path / "known.jsonl", known), "comparisons"),
            toys.constitution(),
            toys.given("shots", shipped("comparison_shots")),
        ]
    )


def talker(equal: str = "") -> Scripted:
    """A policy with a kind reply and a rude one, in an order that depends on the prompt."""

    def say(messages: Asked, k: int) -> str:
        text = messages[-1]["content"]
        if equal and equal in text:
            return "The same words."
        kind = (k == 0) == (int(text.split()[-1].rstrip(".")) % 2 == 0)
        return f" {'KIND' if kind else 'RUDE'} reply to {text} "

    return Scripted(say)


def labeller(p_kind: float, p_known: float | None = None) -> Scripted:
    """Puts p_kind on the kind reply, in either order; on known pairs p_known."""

    def rate(messages: Asked, text: str) -> float:
        question = messages[-2]["content"]
        p = p_known if p_known is not None and "Known question" in question else p_kind
        kind_first = question.index("KIND") < question.index("RUDE") if "KIND" in question else True
        return math.log(p if (text == OPTIONS[0]) == kind_first else 1 - p)

    return Scripted(rate=rate)


def put_in(monkeypatch: pytest.MonkeyPatch, **roles: Scripted) -> None:
    monkeypatch.setattr(room, "open_assistant", lambda source, device, precision: roles[source.role])
    monkeypatch.setattr(room, "open_labeller", lambda source, device, precision: roles[source.role])


def run_room(settings: Settings, inputs: Inputs, folder: Path) -> Path:
    out = toys.workspace(folder)
    room.run(settings, inputs, out)
    return out.path


def counts(path: Path) -> dict[str, Any]:
    counts_json: dict[str, Any] = json.loads((path / "counts.json").read_text())
    return counts_json


def test_labels_read_back_as_comparisons_with_the_likelier_reply_chosen(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, policy=talker(), labeller=labeller(0.8))
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS, inputs, out)
    rows = read_comparisons(out.path)
    assert out.restricted == {"comparisons.jsonl"}
    assert (out.path / "comparisons.jsonl").stat().st_mode & 0o077 == 0
    assert [r.id for r in rows] == [f"ai-p{n}" for n in range(7)]
    for r in rows:
        assert r.chosen.startswith("KIND") and r.rejected.startswith("RUDE") and r.topic == "theft"
        assert r.p_chosen == pytest.approx(0.8) and r.meta["voted"] is False
        assert r.axis == axis_of([shipped_constitution().comparison(r.source.removeprefix("ai:"))])
    metrics = {m.name: m.value for m in out.metrics}
    assert metrics["label_accuracy"] == 1.0 and metrics["label_weight"] == 1.0
    assert metrics["label_first_share"] == pytest.approx(0.5)
    assert metrics["mean_p_chosen"] == pytest.approx(0.8) and metrics["comparisons"] == 7
    assert len((out.path / "samples/known_pairs.jsonl").read_text().splitlines()) == KNOWN


@pytest.mark.parametrize(("p_known", "weight"), [(0.5, 0.25), (0.3, 0.0)])
def test_a_doubtful_labellers_labels_weigh_less_and_say_what_they_said(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, p_known: float, weight: float
) -> None:
    put_in(monkeypatch, policy=talker(), labeller=labeller(0.9, p_known=p_known))
    path = run_room(SETTINGS, inputs, tmp_path / "out")
    assert counts(path)["label_weight"] == weight and SETTINGS.chance_weight == 0.25
    assert [(r.p_chosen, r.weight) for r in read_comparisons(path)] == [(pytest.approx(0.9), weight)] * 7


def test_a_known_pair_may_prefer_its_second_reply_and_a_tie_is_half_right() -> None:
    pair = Comparison("k", (user("Q?"),), "RUDE no", "KIND yes", p_chosen=0.1, axis="helpful")
    principles = shipped_constitution().comparisons
    (row,) = known_rows(labeller(0.8), [("few", pair)], principles, How())
    assert row["correct"] == 1.0 and row["p_correct"] == pytest.approx(0.8)
    assert (row["pair"], row["set"]) == ("k", "few")
    (row,) = known_rows(labeller(0.5), [("few", pair)], principles, How())
    assert row["correct"] == 0.5


def test_the_axis_of_a_label_is_what_its_principle_speaks_of() -> None:
    kind, even, plain = (
        ComparisonPrinciple(k, t, "?") for k, t in (("a", ("evasion", "helpful")), ("b", ()), ("c", ("honest",)))
    )
    assert [axis_of(p) for p in ([kind], [even], [even, plain])] == ["helpful", "harmless", "honest"]


@pytest.mark.parametrize(
    ("right", "weight"), [(0, 0.0), (30, 0.0), (32, 0.25), (40, 0.25), (48, 0.25), (60, 1.0), (80, 1.0)]
)
def test_full_weight_needs_an_accuracy_surely_above_chance(right: int, weight: float) -> None:
    rows = [{"id": f"c{i}", "correct": i < right} for i in range(80)]
    assert label_weight(Settings(), rows) == weight


def test_pairs_of_one_prompt_are_one_cluster_of_the_examination() -> None:
    """50 right of 80 are surely above chance where each stands alone, not where they come from 16 prompts."""
    rows = [{"id": f"c{i // 5}", "correct": i < 50} for i in range(80)]
    assert label_weight(Settings(), rows) == Settings().chance_weight
    assert label_weight(Settings(), [row | {"id": str(i)} for i, row in enumerate(rows)]) == 1.0


def test_of_several_sets_of_known_pairs_the_lowest_weight_counts() -> None:
    """Right on 75 of 96 authored pairs and at chance on 160 of people's: together surely above chance, and still at
    chance in the domain of people's."""
    authored = [{"id": f"a{i}", "set": "authored", "correct": i < 75} for i in range(96)]
    people = [{"id": f"p{i}", "set": "people", "correct": i < 85} for i in range(160)]
    one = [{key: row[key] for key in ("id", "correct")} for row in authored + people]
    assert label_weight(Settings(), authored) == label_weight(Settings(), one) == 1.0
    assert label_weight(Settings(), authored + people) == Settings().chance_weight
    wrong = [{"id": f"w{i}", "set": "worse", "correct": i < 20} for i in range(80)]
    assert label_weight(Settings(), authored + people + wrong) == 0.0
    with pytest.raises(CharterError, match=r"right on 25\.0% of 80 known pairs of worse, refuse_below is 40\.0%"):
        label_weight(Settings(refuse_below=0.4), authored + people + wrong)


def test_known_pairs_are_drawn_as_equally_from_their_sets_as_there_are() -> None:
    def some(name: str, count: int) -> list[Comparison]:
        return [Comparison(f"{name}{n}", (user("Q?"),), "yes", "no") for n in range(count)]

    sets = {"large": some("l", 50), "small": some("s", 4), "middle": some("m", 30)}
    pairs = draw_known(sets, 40, 7)
    assert {name: sum(n == name for n, _ in pairs) for name in sets} == {"large": 18, "small": 4, "middle": 18}
    assert len({c.id for _, c in pairs}) == 40 and pairs == draw_known(sets, 40, 7) != draw_known(sets, 40, 8)
    assert len(draw_known(sets, 1000, 7)) == 84 and draw_known(sets, 0, 7) == []


def test_an_untested_labeller_keeps_full_weight(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert label_weight(Settings(), []) == 1.0
    put_in(monkeypatch, policy=talker(), labeller=labeller(0.9, p_known=0.1))
    path = run_room(SETTINGS.model_copy(update={"known_limit": 0}), inputs, tmp_path / "out")
    assert counts(path)["label_weight"] == 1.0


def test_a_labeller_below_refuse_below_is_refused(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, policy=talker(), labeller=labeller(0.9, p_known=0.2))
    with pytest.raises(
        CharterError, match=r"right on 0\.0% of 24 known pairs of known\.jsonl, refuse_below is 60\.0%; use a stronger"
    ) as caught:
        run_room(SETTINGS.model_copy(update={"refuse_below": 0.6}), inputs, tmp_path / "out")
    assert "\n" not in str(caught.value)
    put_in(monkeypatch, policy=talker(), labeller=labeller(0.9))
    run_room(SETTINGS.model_copy(update={"refuse_below": 0.6}), inputs, tmp_path / "good")
    with pytest.raises(ValidationError, match="refuse_below needs known pairs"):
        Settings(refuse_below=0.6, known_limit=0)


def test_equal_replies_carry_no_preference_and_are_dropped(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, policy=talker(equal="thing 3"), labeller=labeller(0.7))
    path = run_room(SETTINGS, inputs, tmp_path / "out")
    assert [r.id for r in read_comparisons(path)] == [f"ai-p{n}" for n in range(7) if n != 3]
    assert (counts(path)["dropped_equal"], counts(path)["pairs"]) == (1, 7)


def test_labels_after_thoughts_are_clamped(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thinker = labeller(0.99)
    thinker.say = lambda messages, k: "Let me see."
    put_in(monkeypatch, policy=talker(), labeller=thinker)
    path = run_room(SETTINGS.model_copy(update={"thought": Thought(tokens=8)}), inputs, tmp_path / "out")
    assert [r.p_chosen for r in read_comparisons(path)] == pytest.approx([0.6] * 7)


def test_votes_are_marked(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vote(messages: Asked, k: int) -> str:
        question = messages[-2]["content"]
        return " (A)" if question.index("KIND") < question.index("RUDE") else " (B)"

    put_in(monkeypatch, policy=talker(), labeller=Scripted(vote))
    path = run_room(SETTINGS.model_copy(update={"votes": 2}), inputs, tmp_path / "out")
    assert all(r.meta["voted"] is True and r.p_chosen == 1.0 for r in read_comparisons(path))


def test_several_principles_are_drawn_and_averaged(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grader = labeller(0.8)
    put_in(monkeypatch, policy=talker(), labeller=grader)
    path = run_room(SETTINGS.model_copy(update={"principles": 3, "known_limit": 0}), inputs, tmp_path / "out")
    keys = [r.source.removeprefix("ai:").split("+") for r in read_comparisons(path)]
    assert all(len(set(k)) == 3 for k in keys) and len({tuple(k) for k in keys}) > 1
    assert len(grader.asked) == 7 * 3 * 2


def test_known_pairs_are_asked_under_principles_of_their_axis(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grader = labeller(0.8)
    put_in(monkeypatch, policy=talker(), labeller=grader)
    run_room(SETTINGS, inputs, tmp_path / "out")
    principles = shipped_constitution().comparisons
    helpful = [p.principle for p in select_by_axis(principles, "helpful")]
    assert 0 < len(helpful) < len(principles) and len(select_by_axis(principles, "unheard of")) == len(principles)
    known = [m[-2]["content"] for m in grader.asked if "Known question" in m[-2]["content"]]
    assert len(known) == 2 * KNOWN and all(any(p in text for p in helpful) for text in known)


def test_a_prompt_over_the_context_is_named_before_anything_is_sampled(inputs: Inputs, tmp_path: Path) -> None:
    rows = [dialogue("short", "Help me."), dialogue("long", "Help me with this. " * 400)]
    prompts = toys.given("prompts", toys.rows_file(tmp_path / "long.jsonl", rows))
    others = [entry for entry in inputs if entry.role != "prompts"]
    with pytest.raises(CharterError, match=r"^prompt long: the prompt has \d+ tokens"):
        run_room(SETTINGS.model_copy(update={"chunk": 1}), Inputs([*others, prompts]), tmp_path / "out")
    assert not list((tmp_path / "out/state").iterdir())


def test_stopped_and_resumed_is_equal_with_real_models(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"max_tokens": 5, "known_limit": 4, "limit": 5, "chunk": 2})
    whole = run_room(settings, inputs, tmp_path / "whole")
    assert len(read_comparisons(whole)) == 5
    for stop in (1, 4, 6):
        folder = tmp_path / f"broken{stop}"
        with pytest.raises(toys.Interrupted):
            room.run(settings, inputs, toys.workspace(folder, progress=toys.StoppingProgress(stop)))
        assert toys.files_of(run_room(settings, inputs, folder)) == toys.files_of(whole)
