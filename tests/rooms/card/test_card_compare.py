"""Comparison: paired differences, refusals with reasons, Holm's correction, regressions."""

from __future__ import annotations

import json
from pathlib import Path

import card_world
import numpy as np
import pytest
from card_world import edit, remeasure

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest, write_manifest
from charter.ground.measure.multiple_testing import holm
from charter.ground.reports.changes import change, terms
from charter.ground.reports.compare import compare
from charter.ground.reports.permutation import exchange_p
from charter.ground.reports.stages import final_stage
from charter.rooms.card.gather import gather


def rows_of(a: Path, b: Path) -> dict[str, dict[str, object]]:
    return {str(row["metric"]): row for row in compare([a, b])["metrics"]}


def test_first_and_last_report(finished: Path) -> None:
    rows = rows_of(finished / "eval_0", finished / "eval_3")
    assert rows["harm_rate"]["verdict"] == "better" and not rows["harm_rate"]["regression"]
    assert rows["harm_rate"]["paired"] == 40
    assert rows["bits_per_byte"]["verdict"] == "worse" and rows["bits_per_byte"]["regression"]
    assert rows["helpful_win_rate"]["verdict"] == "not compared: only the second has it"
    assert rows["fixed_above_harmful"]["verdict"] == "not significant"
    assert rows["refusal_gap"]["verdict"] == "better"


def test_rows_say_when_a_number_is_an_unfit_graders(finished: Path, tmp_path: Path) -> None:
    assert not any(row["unfit"] for row in rows_of(finished / "eval_0", finished / "eval_3").values())
    run = card_world.make_run(tmp_path / "run", fit=False, samples=1)
    graded = {name for name, row in rows_of(finished / "eval_0", run / "eval_3").items() if row["unfit"]}
    assert {"harm_rate", "harm_rate_reward", "harm_answered_rate", "refused_below_rate"} <= graded
    assert not {"unsafe_refusal_rate", "refusal_gap", "bits_per_byte", "hhh_policy"} & graded
    # a gate of its own, which this grader passes
    assert not {"helpful_score", "helpful_win_rate"} & graded


def test_places_that_stand_for_the_final_stage(finished: Path) -> None:
    for place in (finished, finished / "card", finished / "card/card.json", finished / "eval_3"):
        assert final_stage(place).step == "eval_3"
    assert all(row["difference"] in (0.0, None) for row in rows_of(finished, finished / "card").values())
    with pytest.raises(CharterError, match="is a checkpoint"):
        final_stage(finished / "rl")
    with pytest.raises(CharterError, match="neither a card nor a report"):
        final_stage(finished.parent)


def test_another_grader_refuses_what_it_graded_and_nothing_else(run: Path) -> None:
    def other(text: str) -> str:
        report = json.loads(text)
        report["grader"]["id"] = "e" * 64
        return json.dumps(report)

    edit(run, "eval_2", "report.json", other)
    rows = rows_of(run / "eval_2", run / "eval_3")
    for name in ("harm_rate", "helpful_score", "helpful_win_rate"):
        assert "graded by different models" in str(rows[name]["verdict"])
        assert rows[name]["difference"] is None and rows[name]["a"] is not None
    assert rows["unsafe_refusal_rate"]["difference"] is not None


@pytest.mark.parametrize(
    ("task", "key", "value", "refused", "kept"),
    [
        ("harmlessness", "max_tokens", 8, ("harm_rate", "refusal_gap"), ("lookalike_refusal_rate", "hhh_policy")),
        ("lookalikes", "data", [], ("lookalike_refusal_rate", "refusal_gap"), ("harm_rate", "bits_per_byte")),
        ("helpful", "top_p", 0.5, ("helpful_score", "helpful_win_rate"), ("harm_rate", "refusal_gap")),
        ("text", "novelty", 1, ("bits_per_byte",), ("harm_rate", "hhh_content")),
    ],
)
def test_a_tasks_identity_refuses_its_numbers_and_no_others(
    run: Path, task: str, key: str, value: object, refused: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    def changed(text: str) -> str:
        report = json.loads(text)
        report["identity"][task][key] = value
        return json.dumps(report)

    edit(run, "eval_2", "report.json", changed)
    rows = rows_of(run / "eval_2", run / "eval_3")
    assert all(f"made differently: {task}.{key} differs" in str(rows[name]["verdict"]) for name in refused)
    assert all("made differently" not in str(rows[name]["verdict"]) for name in kept)


def test_other_baseline_refuses_the_win_rate(run: Path) -> None:
    manifest = read_manifest(run / "eval_3")
    parents = [p.model_copy(update={"id": "1" * 64}) if p.role == "baseline" else p for p in manifest.parents]
    write_manifest(run / "eval_3", manifest.model_copy(update={"parents": parents}))
    rows = rows_of(run / "eval_2", run / "eval_3")
    assert rows["helpful_win_rate"]["verdict"] == "not compared: won against different baselines"


def test_the_gap_moves_by_both_rates(finished: Path) -> None:
    run = gather(card_world.inputs(finished))
    first, last = run.start, run.final
    parts = {n: change(first, last, n) for n in ("unsafe_refusal_rate", "lookalike_refusal_rate", "refusal_gap")}
    values = {n: c.number.value for n, c in parts.items() if c and c.number and c.number.value is not None}
    assert values["refusal_gap"] == pytest.approx(values["unsafe_refusal_rate"] - values["lookalike_refusal_rate"])
    ends = first.numbers["refusal_gap"].value, last.numbers["refusal_gap"].value
    assert ends[0] is not None and ends[1] is not None
    assert values["refusal_gap"] == pytest.approx(ends[1] - ends[0])
    gap = parts["refusal_gap"]
    assert gap and gap.number and gap.number.low is not None and gap.number.low < values["refusal_gap"]


def test_another_version_of_the_measures_is_one_line(run: Path) -> None:
    edit(run, "eval_2", "tables.json", lambda text: text.replace('"measures": 7', '"measures": 1'))
    with pytest.raises(CharterError, match="made by version 1 of the measures"):
        compare([run / "eval_2", run / "eval_3"])


def test_a_metric_counted_in_two_ways_is_not_compared_and_others_are(run: Path) -> None:
    def raised(text: str) -> str:
        line = next(line for line in text.split("\n") if '"name": "harm_rate"' in line)
        return text.replace(line, line.replace('"version": 7', '"version": 8'))

    edit(run, "eval_3", "tables.json", raised)
    rows = rows_of(run / "eval_2", run / "eval_3")
    assert rows["harm_rate"]["verdict"] == ("not compared: counted in two ways: versions 7 and 8 of harm_rate")
    assert rows["unsafe_refusal_rate"]["difference"] is not None


def test_reports_without_a_prompt_in_common_have_no_change(run: Path) -> None:
    def renamed(text: str) -> str:
        return text.replace('"id": "', '"id": "other-')

    edit(run, "eval_2", "samples/text.jsonl", renamed)
    remeasure(run, "eval_2")
    assert rows_of(run / "eval_2", run / "eval_3")["bits_per_byte"]["verdict"] == (
        "not compared: they have no prompt in common"
    )


def test_the_card_and_compare_give_one_p(finished: Path) -> None:
    first, last = gather(card_world.inputs(finished)).start, final_stage(finished)
    rows = rows_of(finished / "eval_0", finished / "eval_3")
    changes = {name: change(first, last, name) for name, row in rows.items() if row["difference"] is not None}
    raw = {name: c.number.p for name, c in changes.items() if c and c.number and c.number.p is not None}
    assert raw == {name: exchange_p(terms(first, last, name)) for name in changes}
    heads = {name for name, row in rows.items() if row["headline"]}
    assert len(heads) == 9 and {"harm_rate", "lookalike_refusal_rate", "bits_per_byte"} <= heads
    for family in (heads, raw.keys() - heads):
        own = {name: p for name, p in raw.items() if name in family}
        assert {name: rows[name]["p_holm"] for name in own} == pytest.approx(holm(own))
    assert len(terms(first, last, "refusal_gap")) == 2


def test_four_texts_that_all_got_worse_prove_nothing(run: Path) -> None:
    """Their interval leaves out 0, yet four exchanges give no p below 1/8."""
    for step, factor in (("eval_2", 1.0), ("eval_3", 1.2)):

        def four(text: str, factor: float = factor) -> str:
            rows = [json.loads(line) for line in text.splitlines()[:4]]
            return "".join(json.dumps(r | {"nats": 100.0 * factor, "bytes": 100}) + "\n" for r in rows)

        edit(run, step, "samples/text.jsonl", four)
        card_world.remeasure(run, step)
    inputs = [final_stage(run / step) for step in ("eval_2", "eval_3")]
    delta = change(*inputs, "bits_per_byte")
    assert delta and delta.number and delta.number.low is not None and delta.number.low > 0
    assert delta.number.p == 2 / 2**4 and delta.verdict == "same"


def test_holm() -> None:
    known = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert known == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})
    rng = np.random.default_rng(0)
    raw = {str(i): float(p) for i, p in enumerate(rng.random(20))}
    adjusted = holm(raw)
    assert all(adjusted[k] >= raw[k] for k in raw)
    order = sorted(raw, key=lambda k: raw[k])
    assert [adjusted[k] for k in order] == sorted(adjusted.values())
    assert holm({}) == {}
