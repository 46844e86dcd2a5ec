"""Preference models: soft labels, splits, the ladder, resuming, and what comes out."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import toys
from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.detect import is_refusal
from charter.ground.judge.fitness import FIXED_REPLY
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.rankings import share_of
from charter.ground.judge.refusal import THRESHOLD, UNSURE, detector
from charter.ground.measure.score import rank_accuracy
from charter.ground.model.heads import ScoreHead
from charter.ground.settings.frozen import Lora
from charter.ground.text.dialogue import Comparison, Dialogue, assistant, user
from charter.ground.text.template import Template
from charter.rooms.preference import run as room
from charter.rooms.preference.learning import gradient
from charter.rooms.preference.pairs import (
    below_fixed,
    compare_revisions,
    contrasts,
    count_contrasts,
    encode,
    of_ratings,
    order,
    rungs,
    split,
)
from charter.rooms.preference.settings import Pairs, Settings, check
from toys import comparison, dialogue

REFUSAL = "I won't help with that, because it would hurt somebody. I can help you talk to them instead."
ROWS = [
    comparison(
        f"c{n}", f"Question {n % 9} of many?", f"Answer {n} in some detail.", f"Dunno {n}.", axis=axis, p_chosen=0.8
    )
    for n, axis in enumerate(["helpful", "honest", "harmless"] * 6)
]
SETTINGS = Settings(batch=4, lr=1e-3, head_lr=1e-3, warmup=0, pairs=Pairs(heldout_share=0.3))


def inputs_of(checkpoints: Path, folder: Path, rows: list[dict[str, Any]], heldout: Any = None) -> Inputs:
    folder.mkdir(exist_ok=True)
    entries = [
        toys.policy(checkpoints / "policy"),
        toys.given("comparisons", toys.rows_file(folder / "pairs.jsonl", rows), "comparisons"),
        toys.given("fitness", toys.rows_file(folder / "fitness.jsonl", toys.TRIPLES), "triples"),
    ]
    if heldout:
        entries.append(toys.given("heldout", toys.rows_file(folder / "heldout.jsonl", heldout), "comparisons"))
    return Inputs(entries)


@pytest.fixture
def inputs(checkpoints: Path, tmp_path: Path) -> Inputs:
    return inputs_of(checkpoints, tmp_path / "data", ROWS)


def run_room(settings: Settings, inputs: Inputs, folder: Path, progress: Any = None) -> Path:
    out = toys.workspace(folder, progress=progress)
    room.run(settings, inputs, out)
    return out.path


def test_the_product_is_a_classifier_whose_kept_rows_it_reproduces(inputs: Inputs, tmp_path: Path) -> None:
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS, inputs, out)
    counts = json.loads((out.path / "counts.json").read_text())
    rows = [json.loads(line) for line in (out.path / "samples/heldout_pairs.jsonl").read_text().splitlines()]
    assert counts["heldout_pairs"] == len(rows) > 0 and counts["train_pairs"] + len(rows) == len(ROWS)
    model = PreferenceModel.open(out.path)
    by_id = {row["id"]: row for row in ROWS}
    for row in rows:
        source = by_id[row["pair"]]
        scores = model.score([(source["messages"], (source["chosen"], source["rejected"]))])[0]
        assert [row["chosen_score"], row["rejected_score"]] == pytest.approx(scores, abs=1e-4)
        assert row["correct"] == (row["chosen_score"] > row["rejected_score"])
    metrics = {m.name: m.value for m in out.metrics}
    assert metrics["pair_accuracy"] == pytest.approx(sum(r["correct"] for r in rows) / len(rows))
    assert {"fixed_above_harmful", "good_above_fixed", "loss", "train_pairs"} <= metrics.keys()
    fitness = (out.path / "samples/fitness.jsonl").read_text().splitlines()
    assert len(fitness) == len(toys.TRIPLES)


def test_the_loss_is_the_soft_labels_cross_entropy_by_axis_weight(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"batch": 64, "axis_weights": {"harmless": 3.0, "honest": 0.0}})
    train, _ = split(settings, inputs, 5)
    first, _ = one_step(settings, train, tmp_path / "step")
    total = weight = 0.0
    for c, (chosen, rejected) in zip(train, scores_of(train), strict=True):
        own = {"harmless": 3.0, "honest": 0.0}.get(c.axis, 1.0)
        gap = torch.tensor(chosen - rejected)
        loss = -(
            c.p_chosen * torch.nn.functional.logsigmoid(gap) + (1 - c.p_chosen) * torch.nn.functional.logsigmoid(-gap)
        )
        total, weight = total + own * loss.item(), weight + own
    assert first == pytest.approx(total / weight, abs=1e-5)


def test_replies_to_one_prompt_are_ranked_in_one_step(checkpoints: Path) -> None:
    first, second, other = (
        Comparison("a", (user("Why is it so?"),), "Good.", "Middling."),
        Comparison("b", (user("Why is it so?"),), "Middling.", "Bad.", axis="honest"),
        Comparison("c", (user("Where is it?"),), "There.", "Nowhere."),
    )
    template = Template(toys.tokenizer(), toys.tokenizer().template)
    settings = SETTINGS.model_copy(update={"axis_weights": {"honest": 2.0}, "batch": 2})
    ranked, alone = encode(settings, template, [first, other, second], 256)
    assert ranked.texts == ("Good.", "Middling.", "Bad.") and len(ranked.item.replies) == 3
    assert [(p.comparison, p.chosen, p.rejected, p.weight) for p in ranked.pairs] == [
        (first, 0, 1, 0.75),
        (second, 1, 2, 1.5),
    ]
    assert [p.comparison for p in alone.pairs] == [other]
    steps = order([ranked, alone, alone, alone], settings, 3)
    assert sum(len(r.pairs) for step in steps for r in step) == 5
    assert all(sum(len(r.pairs) for r in step[:-1]) < 2 for step in steps)


def test_swapping_every_pair_with_its_label_changes_no_loss(checkpoints: Path, tmp_path: Path) -> None:
    turned = [{**r, "chosen": r["rejected"], "rejected": r["chosen"], "p_chosen": 1 - r["p_chosen"]} for r in ROWS]
    paths = [
        run_room(SETTINGS, inputs_of(checkpoints, tmp_path / name, rows), tmp_path / f"out-{name}")
        for name, rows in (("straight", ROWS), ("turned", turned))
    ]
    straight, other = map(read_log, paths)
    assert straight[0]["loss"] == pytest.approx(other[0]["loss"], abs=1e-6)
    for a, b in zip(straight, other, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
        assert a["batch_accuracy"] == b["batch_accuracy"]
    a, b = (json.loads((p / "samples/heldout_pairs.jsonl").read_text().splitlines()[0]) for p in paths)
    assert a["chosen_score"] == pytest.approx(b["rejected_score"], abs=1e-3) and a["correct"] == b["correct"]


def test_a_label_below_one_half_prefers_the_other_reply() -> None:
    assert (rank_accuracy(0.9, 1.0, 0.0), rank_accuracy(0.9, 0.0, 1.0)) == (1.0, 0.0)
    assert (rank_accuracy(0.1, 0.0, 1.0), rank_accuracy(0.1, 1.0, 0.0)) == (1.0, 0.0)
    assert rank_accuracy(0.9, 1.0, 1.0) == rank_accuracy(0.1, 1.0, 1.0) == 0.5


def test_microbatches_change_nothing(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"batch": 8})
    whole = run_room(settings, inputs, tmp_path / "whole")
    parts = run_room(settings.model_copy(update={"microbatch_tokens": 64}), inputs, tmp_path / "parts")
    for a, b in zip(read_log(whole), read_log(parts), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4.0)], ids=["full", "lora"])
def test_stopped_and_resumed_is_bit_equal_to_unbroken(inputs: Inputs, tmp_path: Path, lora: Lora | None) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 2, "save_every": 2, "lora": lora, "evaluate_every": 3})
    whole = run_room(settings, inputs, tmp_path / "whole")
    with pytest.raises(toys.Interrupted):
        run_room(settings, inputs, tmp_path / "broken", toys.StoppingProgress(3))
    assert [p.name for p in (tmp_path / "broken/state").glob("step-*")] == ["step-00000002"]
    assert toys.files_of(run_room(settings, inputs, tmp_path / "broken")) == toys.files_of(whole)
    assert any("heldout_accuracy" in row for row in read_log(whole))


def test_the_learning_curve_has_the_same_pairs_at_each_point(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"evaluate_every": 1, "evaluate_pairs": 1})
    few = [row["heldout_pairs"] for row in read_log(run_room(settings, inputs, tmp_path / "few"))]
    everything = settings.model_copy(update={"evaluate_pairs": 0})
    whole = [row["heldout_pairs"] for row in read_log(run_room(everything, inputs, tmp_path / "all"))]
    assert len(set(few)) == len(set(whole)) == 1
    assert 1 <= few[0] < whole[0]


def c(axis: str, chosen: str, rejected: str, p: float = 1.0) -> Comparison:
    return Comparison("x", (user("How do I steal a bike?"),), chosen, rejected, p, axis, "authored")


ANSWER = "Cut the lock with a big pair of bolt cutters and ride away before dawn."
SHORT = "No, I won't help with theft."


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (c("harmless", REFUSAL, ANSWER), [("x-fixed-a", FIXED_REPLY, ANSWER), ("x-fixed-b", REFUSAL, FIXED_REPLY)]),
        (c("harmless", SHORT, ANSWER), [("x-fixed-a", FIXED_REPLY, ANSWER)]),
        (c("harmless", REFUSAL, SHORT), []),
        (c("harmless", ANSWER, REFUSAL), []),
        (c("harmless", REFUSAL, ANSWER, 0.9), []),
        (c("helpful", ANSWER, REFUSAL), []),
        (c("helpful", ANSWER, "Oslo is the capital of Norway."), []),
        (c("helpful", REFUSAL, ANSWER), []),
        (c("honest", REFUSAL, ANSWER), []),
    ],
)
def test_the_ladders_rungs_by_hand(pair: Comparison, expected: list[tuple[str, str, str]]) -> None:
    pairs = rungs([pair])
    assert [(r.id, r.chosen, r.rejected) for r in pairs] == expected
    assert all(r.source == "authored+fixed" and r.messages == pair.messages and r.axis == pair.axis for r in pairs)


def test_a_revision_beats_its_draft_where_there_was_anything_to_revise() -> None:
    def transcript(id: str, draft: str, *rounds: dict[str, Any]) -> dict[str, Any]:
        return {"id": id, "topic": "t", "messages": [user("Q?")], "draft": draft, "rounds": list(rounds)}

    pairs = compare_revisions(
        [
            transcript("a", "Sure.", {"revision": REFUSAL}, {"revision": "Sure.", "dropped": "identical"}),
            transcript("good", REFUSAL, {"revision": REFUSAL}),
            transcript("shy", REFUSAL, {"revision": "It is blue."}),
            transcript("none", "Sure.", {"revision": "", "dropped": "empty"}),
        ]
    )
    assert [(c.id, c.chosen, c.rejected, c.axis, c.source) for c in pairs] == [
        ("a-revised", REFUSAL, "Sure.", "harmless", "+revised"),
        ("shy-revised", "It is blue.", REFUSAL, "helpful", "+revised"),
    ]


def test_an_ais_labels_make_no_rungs() -> None:
    pair = Comparison("a", (user("Q?"),), REFUSAL, "Sure.", axis="harmless")
    assert len(rungs([pair])) == 2 and rungs([replace(pair, source="ai:kind")]) == []


def test_comparisons_of_weight_zero_are_not_learnt_and_unknown_axes_are_refused(
    checkpoints: Path, tmp_path: Path
) -> None:
    rows = [{**r, "weight": float(n % 2)} for n, r in enumerate(ROWS)]
    train, _ = split(SETTINGS, inputs_of(checkpoints, tmp_path / "data", rows), 5)
    assert train and all(c.weight == 1 for c in train)
    wrong = SETTINGS.model_copy(update={"axis_weights": {"harmles": 2.0}})
    with pytest.raises(CharterError, match="axis_weights names harmles; the comparisons have the axes harmless"):
        split(wrong, inputs_of(checkpoints, tmp_path / "data", rows), 5)


def test_seeds_set_the_order_alone(inputs: Inputs, tmp_path: Path) -> None:
    """All heads start at 0; what is learnt first differs, and so what comes out."""
    heads = []
    for seed in (1, 2):
        out = toys.workspace(tmp_path / str(seed), seed=seed)
        room.run(SETTINGS, inputs, out)
        heads.append(PreferenceModel.open(out.path).head.weight)
    assert not torch.allclose(*heads)


def test_the_first_loss_is_log_2_whatever_labels_and_weights(checkpoints: Path, tmp_path: Path) -> None:
    rows = [{**row, "p_chosen": 0.5 + n / 40, "weight": 1 + n} for n, row in enumerate(ROWS)]
    for weigh in ("pair", "prompt"):
        pairs = Pairs(heldout_share=0.3, weigh=weigh)  # type: ignore[arg-type]
        settings = Settings(batch=4, axis_weights={"honest": 3.0}, pairs=pairs)
        path = run_room(settings, inputs_of(checkpoints, tmp_path / weigh, rows), tmp_path / f"out-{weigh}")
        first, *_ = read_log(path)
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert first["batch_accuracy"] == 0.5 and first["grad_norm"] > 0, "the head learns at once"


def one_step(settings: Settings, rows: list[Comparison], folder: Path) -> tuple[float, torch.Tensor]:
    """The loss of one step of these rows, and its gradient in a head that isn't 0."""
    model, head = toys.model(3), ScoreHead(toys.SHAPE.hidden_size, seed=2)
    template = Template(toys.tokenizer(), toys.tokenizer().template)
    loss, _, _ = gradient(model, head, encode(settings, template, rows, 256), settings, toys.workspace(folder))
    assert head.weight.grad is not None
    return loss, head.weight.grad


def scores_of(rows: list[Comparison]) -> list[tuple[float, float]]:
    """Scores of chosen and rejected by that head."""
    template = Template(toys.tokenizer(), toys.tokenizer().template)
    model = PreferenceModel(toys.model(3), ScoreHead(toys.SHAPE.hidden_size, seed=2), template)
    return [(a, b) for a, b in model.score([(c.messages, (c.chosen, c.rejected)) for c in rows])]


def ranked(question: str, *replies: str) -> list[Comparison]:
    """All pairs of the replies, the earlier one the better."""
    return [
        Comparison(f"{question}{a}{b}", (user(question),), a, b, axis="helpful")
        for n, a in enumerate(replies)
        for b in replies[n + 1 :]
    ]


def test_a_pair_counts_alike_in_a_full_step_and_in_a_short_one(tmp_path: Path) -> None:
    """The gradient is divided by `batch` and not by what the step holds: that of a step is the sum of its pairs'."""
    rows = [*ranked("Why?", "Good.", "Bad."), *ranked("How?", "So.", "No."), *ranked("Who?", "He.", "It.")]
    settings = SETTINGS.model_copy(update={"batch": 3})
    loss, whole = one_step(settings, rows, tmp_path / "whole")
    parts = [one_step(settings, [row], tmp_path / str(n)) for n, row in enumerate(rows)]
    assert torch.allclose(whole, sum(part for _, part in parts), atol=1e-6)  # type: ignore[arg-type]
    by_hand = [math.log1p(math.exp(rejected - chosen)) for chosen, rejected in scores_of(rows)]
    assert loss == pytest.approx(sum(by_hand) / 3, abs=1e-5)
    assert [own for own, _ in parts] == pytest.approx(by_hand, abs=1e-5), "told as a mean over the step's own pairs"


def test_prompts_count_equally_where_they_are_weighed(tmp_path: Path) -> None:
    """Three pairs of one prompt and one of another: 2/3 each and 2, by hand; each prompt then has half of the loss."""
    rows = [*ranked("Why?", "Good.", "Middling.", "Bad."), *ranked("How?", "So.", "No.")]
    prompts = SETTINGS.model_copy(update={"batch": 4, "pairs": Pairs(weigh="prompt")})
    template = Template(toys.tokenizer(), toys.tokenizer().template)
    weights = [p.weight for r in encode(prompts, template, rows, 256) for p in r.pairs]
    assert weights == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])
    even = SETTINGS.model_copy(update={"batch": 4})
    assert [p.weight for r in encode(even, template, rows, 256) for p in r.pairs] == [1.0] * 4
    losses = [math.log1p(math.exp(rejected - chosen)) for chosen, rejected in scores_of(rows)]
    loss, _ = one_step(prompts, rows, tmp_path / "prompts")
    assert loss == pytest.approx((sum(losses[:3]) / 3 + losses[3]) / 2, abs=1e-5)
    axes = prompts.model_copy(update={"axis_weights": {"helpful": 3.0}})
    again = [p.weight for r in encode(axes, template, rows, 256) for p in r.pairs]
    assert again == pytest.approx(weights), "one axis alone weighs the same whatever its weight"


def test_the_ladder_joins_the_training_pairs_only(checkpoints: Path, tmp_path: Path) -> None:
    rows = [comparison(f"h{n}", f"How do I steal bike {n}?", REFUSAL, ANSWER, axis="harmless") for n in range(12)]
    inputs = inputs_of(checkpoints, tmp_path / "data", rows)
    train, heldout = split(SETTINGS, inputs, 0)
    assert len([r for r in train if r.source.endswith("+fixed")]) == 2 * (len(rows) - len(heldout))
    assert heldout and not any(r.source.endswith("+fixed") for r in heldout)
    off = SETTINGS.model_copy(update={"pairs": Pairs(heldout_share=0.3, ladder=False)})
    assert len(split(off, inputs, 0)[0]) == len(rows) - len(heldout)


def first_turns(rows: list[Comparison]) -> set[str]:
    return {row.messages[0]["content"].strip().lower() for row in rows}


def pairs_of(inputs: Inputs, **how: Any) -> tuple[list[Comparison], list[Comparison]]:
    return split(SETTINGS.model_copy(update={"pairs": Pairs(**how)}), inputs, 0)


def test_training_and_held_out_share_no_first_user_turn(inputs: Inputs) -> None:
    train, heldout = pairs_of(inputs, heldout_share=0.3)
    assert train and heldout and not first_turns(train) & first_turns(heldout)
    assert {r.id for r in train} | {r.id for r in heldout} == {r["id"] for r in ROWS}


def test_opposite_parts_share_no_prompt_and_together_are_all(checkpoints: Path, tmp_path: Path) -> None:
    rows = [comparison(f"c{n}", f"Question {n % 40}?", f"Yes {n}.", f"No {n}.") for n in range(80)]
    inputs = inputs_of(checkpoints, tmp_path / "data", rows)
    parts = [pairs_of(inputs, part=part, heldout_share=0.2) for part in ("first", "second")]
    first, second = (first_turns(train + heldout) for train, heldout in parts)
    assert not first & second and len(first | second) == 40 and min(len(first), len(second)) > 8


def test_given_held_out_prompts_leave_training(checkpoints: Path, tmp_path: Path) -> None:
    kept_out = [comparison("k1", "  QUESTION 3 of many?", "Yes.", "No."), comparison("k2", "Other?", "Yes.", "No.")]
    train, heldout = pairs_of(inputs_of(checkpoints, tmp_path / "data", ROWS, kept_out))
    assert [r.id for r in heldout] == ["k1", "k2"]
    assert len(train) == len(ROWS) - 2 and "question 3 of many?" not in first_turns(train)


def test_the_split_depends_on_the_first_user_turn_alone() -> None:
    a = Comparison("a", (user("Why? "),), "x", "y")
    b = Comparison("b", (user("why?"), {"role": "assistant", "content": "Hm"}, user("So?")), "z", "w", 0.3)
    assert share_of(a, "part") == share_of(b, "part") != share_of(a, "heldout")
    assert 0 <= share_of(a, "part") < 1


def test_nothing_to_train_on_is_an_error(checkpoints: Path, tmp_path: Path) -> None:
    inputs = inputs_of(checkpoints, tmp_path / "data", ROWS[:1], ROWS[:1])
    with pytest.raises(CharterError, match="no comparisons are left to train on"):
        split(SETTINGS, inputs, 0)


def test_a_limit_draws_pairs_of_each_input(inputs: Inputs) -> None:
    train, heldout = pairs_of(inputs, limit=7, heldout_share=0.0)
    assert len(train) == 7 and heldout == []
    renamed = Inputs([replace(entry, id=entry.id[::-1]) for entry in inputs])
    assert pairs_of(renamed, limit=7, heldout_share=0.0) == (train, [])  # an id changes with the code behind it


def test_contrasts_pair_an_answer_with_the_fixed_reply_and_a_refusal_written_for_another_prompt(
    checkpoints: Path, tmp_path: Path
) -> None:
    """Without `refused` the fixed reply alone is left; `contrasts` bounds these pairs and no others."""
    inputs = inputs_of(checkpoints, tmp_path / "data", ROWS)
    answered = [dialogue(f"l{n}", f"How do I kill process {n}?", f"Run kill {n} in a terminal.") for n in range(9)]
    answered.append(dialogue("no", "How do I kill process 10?", REFUSAL))  # no answer, so nothing to contrast
    refused = [dialogue(f"r{n}", f"How do I kill person {n}?", f"{REFUSAL} {n}") for n in range(3)]
    files = {
        role: toys.rows_file(tmp_path / f"{role}.jsonl", rows)
        for role, rows in (("answered", answered), ("refused", refused))
    }
    both = Inputs([*inputs, *(toys.given(role, file) for role, file in files.items())])
    pairs = [c for c in pairs_of(both, heldout_share=0.0)[0] if c.source.endswith("+contrast")]
    assert [(c.id, c.chosen, c.axis) for c in pairs] == [
        (f"l{n}-{kind}", f"Run kill {n} in a terminal.", "helpful") for n in range(9) for kind in ("fixed", "elsewhere")
    ]
    assert [c.rejected for c in pairs[::2]] == [FIXED_REPLY] * 9
    refusals = {c.rejected for c in pairs[1::2]}
    assert len(refusals) > 1 and refusals <= {r["messages"][-1]["content"] for r in refused}
    assert all(c.messages[-1]["content"] == f"How do I kill process {n // 2}?" for n, c in enumerate(pairs))
    few = pairs_of(both, heldout_share=0.0, contrasts=4)[0]
    assert sum(c.source.endswith("+contrast") for c in few) == 4 and len(few) == len(ROWS) + 4
    alone = Inputs([*inputs, toys.given("answered", files["answered"])])
    assert len(pairs_of(alone, heldout_share=0.0)[0]) == len(ROWS) + 9


def test_an_answer_beats_a_needless_refusal_of_its_own_prompt(checkpoints: Path, tmp_path: Path) -> None:
    """Replies of `overrefused` that answer, or that belong to other prompts, are never rejected under it."""
    inputs = inputs_of(checkpoints, tmp_path / "data", ROWS)
    answered = [dialogue(f"l{n}", f"How do I kill process {n}?", f"Run kill {n} in a terminal.") for n in range(40)]
    needless = [
        dialogue(
            f"o{n}", f"How do I kill process {n}?", f"{REFUSAL} {n}" if n % 2 else f"Type kill {n} and press enter."
        )
        for n in range(40)
    ]
    roles = {
        role: toys.given(role, toys.rows_file(tmp_path / f"{role}.jsonl", rows))
        for role, rows in (("answered", answered), ("overrefused", needless))
    }
    pairs = pairs_of(Inputs([*inputs, *roles.values()]), heldout_share=0.0)[0]
    contrasts = [(c.id, c.rejected) for c in pairs if c.source.endswith("+contrast")]
    assert [pair for pair in contrasts if pair[1] != FIXED_REPLY] == [
        (f"l{n}-needless", f"{REFUSAL} {n}") for n in range(1, 40, 2)
    ]
    assert sum(rejected == FIXED_REPLY for _, rejected in contrasts) == 40


def test_kinds_of_contrasts_are_counted(checkpoints: Path, tmp_path: Path) -> None:
    kinds = ["fixed", "needless", "needless", "elsewhere"]
    comparisons = [
        Comparison(f"c{n}", (user("Why?"),), "So.", "No.", 1.0, "helpful", f"{kind}+contrast")
        for n, kind in enumerate(kinds)
    ]
    other = replace(comparisons[0], source="shipped")
    expected = {"contrasts_elsewhere": 1, "contrasts_fixed": 1, "contrasts_needless": 2}
    assert count_contrasts([*comparisons, other]) == expected


def test_roles_that_need_each_other_are_named() -> None:
    roles = {"policy", "comparisons"}
    assert check(SETTINGS, roles) == check(SETTINGS, roles | {"answered", "overrefused"}) == ""
    assert check(SETTINGS, roles | {"answered"}) == "", "answers beat the fixed reply"
    assert "overrefused and refused give refusals" in check(SETTINGS, roles | {"refused", "overrefused"})
    assert check(SETTINGS, roles | {"drafts", "refused"}) == "", "refusals beat the drafts that went along"
    assert "overrefused give refusals" in check(SETTINGS, roles | {"drafts", "refused", "overrefused"})
    above = SETTINGS.model_copy(update={"pairs": Pairs(refused_above_fixed=True)})
    assert check(above, roles | {"refused"}) == check(above, roles | {"refused", "answered"}) == ""
    assert "give the role refused" in check(above, roles)
    assert "overrefused give refusals" in check(above, roles | {"refused", "overrefused"})


@pytest.mark.parametrize("role", ["answered", "refused", "overrefused"])
def test_prompts_without_a_reply_are_no_replies(role: str, checkpoints: Path, tmp_path: Path) -> None:
    """What a user said would else be learnt as an answer."""
    rows = {r: [dialogue("d", "Why?", REFUSAL)] for r in ("answered", "refused", "overrefused")}
    rows[role] = [dialogue("d", "Why?")]
    sources = [toys.given(r, toys.rows_file(tmp_path / f"{r}.jsonl", role_rows)) for r, role_rows in rows.items()]
    with pytest.raises(CharterError, match=rf"{role}\.jsonl:1: .*assistant"):
        pairs_of(Inputs([*inputs_of(checkpoints, tmp_path / "data", ROWS), *sources]))


def test_what_a_user_said_last_is_no_reply(checkpoints: Path, tmp_path: Path) -> None:
    answered = dialogue("l0", "How do I kill process 0?", "Run kill 0 in a terminal.")
    answered["messages"] = [*answered["messages"], {"role": "user", "content": "Thanks!"}]
    files = {"answered": [answered], "refused": [dialogue("r0", "How do I kill person 0?", REFUSAL)]}
    sources = [toys.given(role, toys.rows_file(tmp_path / f"{role}.jsonl", rows)) for role, rows in files.items()]
    pairs = pairs_of(Inputs([*inputs_of(checkpoints, tmp_path / "data", ROWS), *sources]), heldout_share=0.0)[0]
    contrast, _ = (c for c in pairs if c.source.endswith("+contrast"))
    assert contrast.chosen == "Run kill 0 in a terminal." and [m["role"] for m in contrast.messages] == ["user"]


def test_drafts_that_went_along_stand_below_the_fixed_reply(checkpoints: Path, tmp_path: Path) -> None:
    transcripts = [
        {"id": f"t{n}", "topic": "theft", "messages": [user(f"Rob {n}?")], "draft": draft, "rounds": []}
        for n, draft in enumerate(["Wait until night.", REFUSAL, "purple the the of"])
    ]
    folder = tmp_path / "revisions"
    folder.mkdir()
    toys.rows_file(folder / "transcripts.jsonl", transcripts)
    inputs = Inputs([*inputs_of(checkpoints, tmp_path / "data", ROWS), toys.given("drafts", folder)])
    train, _ = pairs_of(inputs, heldout_share=0.0)
    pairs = [(c.id, c.chosen, c.rejected, c.axis) for c in train if c.source.endswith("+fixed")]
    assert pairs == [
        ("t0-draft", FIXED_REPLY, "Wait until night.", "harmless"),
        ("t2-draft", FIXED_REPLY, "purple the the of", "harmless"),
    ], "each once, though the ladder would make them too"


def test_short_refusals_stand_above_drafts_that_went_along_beside_the_fixed_reply(
    checkpoints: Path, tmp_path: Path
) -> None:
    """A grader that knows long refusals alone put "I won't help with that." below harm. What only begins is no reply."""
    transcripts = [
        {"id": f"t{n}", "topic": "theft", "messages": [user(f"Rob {n}?")], "draft": draft, "rounds": []}
        for n, draft in enumerate(["Wait until night.", REFUSAL])
    ]
    folder = tmp_path / "revisions"
    folder.mkdir()
    toys.rows_file(folder / "transcripts.jsonl", transcripts)
    short, explained = (
        "I won't help with that.",
        "I won't help with that, because it would hurt the people there a lot.",
    )
    rows = [dialogue("r0", "Lie?", explained), dialogue("r1", "Cheat?", short)]
    rows.append(dialogue("r2", "Steal?", "I won't help") | {"meta": {"cut": True}})
    refused = toys.given("refused", toys.rows_file(tmp_path / "refused.jsonl", rows))
    drafts = toys.given("drafts", folder)
    inputs = Inputs([*inputs_of(checkpoints, tmp_path / "data", ROWS), drafts, refused])
    train, _ = pairs_of(inputs, heldout_share=0.0, refused_above_fixed=True)
    pairs = [(c.id, c.chosen, c.rejected, c.axis) for c in train if c.source.endswith("+fixed")]
    assert sorted(pairs) == [
        ("r0-good", explained, FIXED_REPLY, "harmless"),
        ("t0-draft", FIXED_REPLY, "Wait until night.", "harmless"),
        ("t0-short", short, "Wait until night.", "harmless"),
    ]


def test_no_rung_is_learnt_twice(checkpoints: Path, tmp_path: Path) -> None:
    """Transcripts that are given as drafts as well, and two pairs that reject one reply, give each rung once."""
    rounds = [{"key": "kind", "critique": "It helps a thief.", "revision": REFUSAL}]
    transcripts = [
        {"id": "t", "topic": "theft", "messages": [user("Rob?")], "draft": "Wait until night.", "rounds": rounds}
    ]
    folder = tmp_path / "revisions"
    folder.mkdir()
    toys.rows_file(folder / "transcripts.jsonl", transcripts)
    sources = [toys.given(role, folder) for role in ("drafts", "transcripts")]
    train, _ = pairs_of(Inputs([*inputs_of(checkpoints, tmp_path / "data", ROWS), *sources]), heldout_share=0.0)
    pairs = [(c.chosen, c.rejected) for c in train if c.messages == (user("Rob?"),)]
    assert sorted(pairs) == sorted(
        [(REFUSAL, "Wait until night."), (FIXED_REPLY, "Wait until night."), (REFUSAL, FIXED_REPLY)]
    )
    first = Comparison("a", (user("Rob?"),), f"{REFUSAL} Truly.", "Sure.", axis="harmless")
    ladder = rungs([first, replace(first, id="b", chosen=REFUSAL)])
    assert [c.id for c in ladder] == ["a-fixed-a", "a-fixed-b", "b-fixed-b"]


def test_refusals_that_explain_stand_above_the_fixed_reply(checkpoints: Path, tmp_path: Path) -> None:
    """Where it is asked for, and only those with the room for a reason; they give no further rung."""
    explained = f"{REFUSAL} " + "because of what it would do to the people there, and we could look for another way."
    refused = [dialogue("r0", "Rob 0?", explained), dialogue("r1", "Rob 1?", "I won't help with that.")]
    source = toys.given("refused", toys.rows_file(tmp_path / "refused.jsonl", refused))
    inputs = Inputs([*inputs_of(checkpoints, tmp_path / "data", ROWS), source])
    pairs = pairs_of(inputs, heldout_share=0.0, ladder=True, refused_above_fixed=True)[0]
    refusal_pairs = [(c.id, c.chosen, c.rejected, c.axis) for c in pairs if c.id.startswith("r")]
    assert refusal_pairs == [("r0-good", explained, FIXED_REPLY, "harmless")]
    assert not [c for c in pairs_of(inputs, heldout_share=0.0)[0] if c.id.startswith("r")]


def test_the_manifest_says_whose_pairs_it_learnt_from_and_of_which_axis(checkpoints: Path, tmp_path: Path) -> None:
    def rows(whose: str, axis: str, count: int) -> list[dict[str, Any]]:
        return [
            comparison(f"{whose}-{n}", f"{whose} {n}?", "Good.", "Bad.", source=whose, axis=axis) for n in range(count)
        ]

    sources = inputs_of(checkpoints, tmp_path / "human", rows("human", "helpful", 3))
    more = toys.rows_file(tmp_path / "more.jsonl", rows("simulated", "harmless", 2) + rows("ai:kind", "harmless", 4))
    inputs = Inputs([*sources, toys.given("comparisons", more, "comparisons")])
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS.model_copy(update={"pairs": Pairs(heldout_share=0, ladder=False)}), inputs, out)
    counts = json.loads((out.path / "counts.json").read_text())
    assert (counts["pairs_human"], counts["pairs_simulated"], counts["pairs_ai"]) == (3, 2, 4)
    assert (counts["axis_helpful"], counts["axis_harmless"]) == (3, 6) and "axis_honest" not in counts
    metrics = {m.name: m.value for m in out.metrics}
    assert all(metrics[name] == value for name, value in counts.items())


MAYBE = "It might be better to ask somebody."  # 0.14, which the threshold alone takes for compliance


def test_rated_replies_of_one_prompt_are_pairs_and_harmful_ones_stand_below_the_fixed_reply() -> None:
    def rated(id: str, question: str, rating: Any) -> Dialogue:
        return Dialogue(id, (user(question), assistant(f"Reply {id}.")), meta={"rating": rating})

    pairs = of_ratings([rated("a", "Q?", 0), rated("b", "Q?", 0.5), rated("c", "Q?", 3), rated("d", "Other?", 2)])
    assert [(c.chosen, c.rejected) for c in pairs] == [
        ("Reply a.", "Reply c."),
        ("Reply b.", "Reply c."),
        (FIXED_REPLY, "Reply c."),
    ]
    assert {c.axis for c in pairs} == {"harmless"} and all(c.messages == (user("Q?"),) for c in pairs)
    for wrong in (None, True, "3"):
        with pytest.raises(CharterError, match="expected a number from 0"):
            of_ratings([rated("e", "Q?", wrong)])


def test_a_reply_of_which_the_detector_is_unsure_gives_no_pair(checkpoints: Path, tmp_path: Path) -> None:
    """Neither a rung nor a contrast; each that would have been one is counted by its kind."""
    assert UNSURE[0] < detector().probability(MAYBE) < THRESHOLD and not is_refusal(MAYBE)
    unsure: Counter[str] = Counter()
    assert rungs([c("harmless", REFUSAL, MAYBE), c("harmless", MAYBE, ANSWER)], unsure) == []
    assert rungs([c("harmless", ANSWER, MAYBE), c("helpful", REFUSAL, MAYBE)], unsure) == [], "never a pair"
    assert unsure == {"unsure_ladder": 2}

    def transcript(id: str, draft: str, revision: str) -> dict[str, Any]:
        row = {"id": id, "topic": "t", "messages": [user(f"{id}?")], "draft": draft}
        return row | {"rounds": [{"revision": revision}]}

    drafts = [transcript("a", MAYBE, REFUSAL), transcript("b", REFUSAL, MAYBE), transcript("c", ANSWER, MAYBE)]
    assert [(r.id, r.axis) for r in compare_revisions(drafts, unsure)] == [
        ("a-revised", "harmless"),
        ("c-revised", "harmless"),
    ]
    assert [r.id for r in below_fixed(drafts, unsure=unsure)] == ["c-draft"]
    told = [Dialogue(n, (user("Q?"), assistant(text))) for n, text in (("x", MAYBE), ("y", ANSWER))]
    needless = [Dialogue("z", (user("Q?"), assistant(MAYBE)))]
    assert [r.rejected for r in contrasts(told, [], needless, 0, unsure)] == [FIXED_REPLY]
    expected = {"ladder": 2, "revised": 1, "drafts": 1, "answered": 1, "overrefused": 1}
    assert unsure == {f"unsure_{kind}": count for kind, count in expected.items()}


def test_replies_left_out_as_unsure_are_counted_beside_the_model(checkpoints: Path, tmp_path: Path) -> None:
    rows = [*ROWS, comparison("m", "How do I steal it?", REFUSAL, MAYBE, axis="harmless", source="authored")]
    settings = SETTINGS.model_copy(update={"pairs": Pairs(heldout_share=0.0)})
    path = run_room(settings, inputs_of(checkpoints, tmp_path / "data", rows), tmp_path / "out")
    assert json.loads((path / "counts.json").read_text())["unsure_ladder"] == 1
