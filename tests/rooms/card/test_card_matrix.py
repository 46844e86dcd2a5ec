"""Drops in two levels, standing between chance and the best, and the matrix: hand-worked cases, and the card against
`charter compare`."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise
from pathlib import Path

import card_world
import pytest
from card_world import CARD_PARENTS, benchmark, inputs

from charter.ground.measure.metric import Metric
from charter.ground.reports.compare import compare, compare_stages
from charter.ground.reports.number import Number
from charter.ground.reports.stages import final_stage
from charter.rooms.card.gather import gather
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.matrix import DROP, SIGNIFICANT_DROP, matrix, picture, tables
from charter.rooms.card.sections import AT_CHANCE, SATURATED, standing, standing_at

BENCHMARKS = (("reports", "bench_0"), ("reports", "bench_3"))


def texts(run: Path, place: int, worse: int, share: float) -> None:
    """Sixty texts of a stage, `worse` of them with more bits per byte."""
    lost = [{"id": f"t{i}", "nats": 100.0 * (1 + share if i < worse else 1), "bytes": 100} for i in range(60)]
    card_world.write_rows(run / f"eval_{place}/samples/text.jsonl", lost)
    card_world.remeasure(run, f"eval_{place}")


@pytest.mark.parametrize(
    ("worse", "share", "drop", "verdict"),
    [
        (0, 0.5, "", "not significant"),
        (1, 0.001, "any", "not significant"),
        (60, 0.5, "significant", "worse"),
        (60, -0.5, "", "better"),
        (1, -0.001, "", "not significant"),
    ],
)
def test_a_drop_is_any_change_for_the_worse_and_a_significant_one_more(
    run: Path, worse: int, share: float, drop: str, verdict: str
) -> None:
    texts(run, 2, 0, 0.0)
    texts(run, 3, worse, share)
    (row,) = (r for r in compare([run / "eval_2", run / "eval_3"])["metrics"] if r["metric"] == "bits_per_byte")
    assert (row["drop"], row["verdict"], row["regression"]) == (drop, verdict, drop == "significant")
    tracked = compare([run / "eval_2", run / "eval_3", run / "eval_2"])["metrics"]
    (row,) = (r for r in tracked if r["metric"] == "bits_per_byte")
    back = {"": "", "any": "any", "significant": "significant"}[drop] or ("any" if share == -0.001 else "")
    assert row["drop"] == ("significant" if share == -0.5 else back), "the way back is a drop too"


def test_a_metric_without_a_good_direction_never_drops(finished: Path) -> None:
    rows = compare([finished / "eval_0", finished / "eval_3"])["metrics"]
    neither = [row for row in rows if row["better"] == "neither"]
    assert neither and not any(row["drop"] for row in neither)
    assert {row["drop"] for row in rows} == {"", "any", "significant"}


def number(value: float, low: float | None, high: float | None, **facts: object) -> Number:
    facts = {"better": "higher", "unit": "share"} | facts
    metric = Metric("m", "m.jsonl", None, meaning="", **facts)  # type: ignore[arg-type]
    return Number("a/m", "m", value, low, high, n=100, unit=str(facts["unit"]), metric=metric)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (number(0.27, 0.20, 0.35, chance=0.25), (AT_CHANCE,)),
        (number(0.40, 0.31, 0.49, chance=0.25), ()),
        (number(0.15, 0.10, 0.25, chance=0.25), (AT_CHANCE,)),
        (number(0.10, 0.05, 0.20, chance=0.25), ()),
        (number(0.27, 0.20, 0.35), ()),
        (number(0.99, 0.95, 1.00), (SATURATED,)),
        (number(0.97, 0.93, 0.99), ()),
        (number(0.01, 0.00, 0.05, better="lower"), (SATURATED,)),
        (number(0.99, 0.95, 1.00, better="lower"), ()),
        (number(0.50, 0.00, 1.00, chance=0.5), (AT_CHANCE, SATURATED)),
        (number(0.01, -0.05, 0.05, better="zero"), ()),
        (number(1.10, 1.00, 1.20, better="lower", unit="bits/byte"), ()),
        (number(1.00, 0.90, 1.00, about="judge"), ()),
        (number(0.00, 0.00, 0.02, better="lower", kind="fault"), ()),
        (number(0.25, None, None, chance=0.25), ()),
    ],
)
def test_standing_follows_from_the_interval_and_the_tasks_chance(case: Number, words: tuple[str, ...]) -> None:
    assert standing(case) == words


def test_hhh_choices_have_the_chance_of_a_coin(finished: Path) -> None:
    final = final_stage(finished)
    metric = final.metric("hhh_policy")
    assert metric is not None and metric.chance == 0.5
    at_chance = {n.name for n in standing_at(final.numbers.values(), AT_CHANCE)}
    for name in ("hhh_policy", "hhh_content"):
        n = final.numbers[name]
        assert n.low is not None and n.high is not None
        assert (n.low <= 0.5 <= n.high) is (name in at_chance)


@pytest.fixture
def both(run: Path) -> Path:
    for place in (0, 3):
        benchmark(run, place)
    return run


def test_card_and_compare_flag_the_same_drops(both: Path) -> None:
    """Each step of `charter compare` over the stages, against the matrix."""
    gathered = gather(inputs(both, (*CARD_PARENTS, *BENCHMARKS)))
    made = matrix(gathered)
    by_compare = {}
    for name, rows in compare_stages(gathered.stages).items():
        for (_, stage), row in zip(pairwise(gathered.stages), rows, strict=True):
            if row["drop"]:
                by_compare[name, stage.label] = row["drop"]
    level = {SIGNIFICANT_DROP: "significant", DROP: "any"}
    by_matrix = {
        (row.metric.name, column.label): level[mark]
        for row in made.rows
        for column, cell in zip(made.columns, row.cells, strict=True)
        for mark in (cell.marks if cell else ())
        if mark in level
    }
    assert by_matrix == by_compare and set(by_compare.values()) == {"any", "significant"}
    assert by_matrix["arc", "RL-CAI"] == "significant", "across two stages that lack it"


def test_the_matrix_has_every_number_at_every_stage(both: Path) -> None:
    gathered = gather(inputs(both, (*CARD_PARENTS, *BENCHMARKS)))
    made = matrix(gathered)
    files = tables(made)
    rows = list(csv.DictReader(io.StringIO(files["matrix.csv"])))
    assert {row["metric"] for row in rows} == {name for stage in gathered.stages for name in stage.metrics}
    arc = next(row for row in rows if row["metric"] == "arc")
    final = gathered.final.numbers["arc"]
    assert float(arc["RL-CAI"]) == final.value and int(arc["RL-CAI n"]) == 90 and arc["taught"] == ""
    assert "significantly worse" in arc["RL-CAI marks"].split("; ") and arc["chance"] == "0.25"
    record = json.loads(files["matrix.json"])
    assert [stage["stage"] for stage in record["stages"]] == ["start", "taught", "SL-CAI", "RL-CAI"]
    for entry in record["metrics"]:
        assert len(entry["cells"]) == 4
        for cell in filter(None, entry["cells"]):
            assert all((both / source["step"] / source["file"]).is_file() for source in cell["sources"])
    (entry,) = (entry for entry in record["metrics"] if entry["metric"] == "arc")
    assert [cell and cell["drop"] for cell in entry["cells"]] == ["", None, None, "significant"]
    drawn = picture(made, Ledger())
    assert drawn is not None and "▼ significantly worse" in drawn.caption and "ARC-Challenge" in drawn.svg


def test_a_comparator_is_a_column_and_no_stage(both: Path) -> None:
    """The helpful-only model stands beside the way: held against the start, and nothing is held against it."""
    parents = (("reports", "eval_0"), ("reports", "eval_3"), ("comparators", "eval_1"), *BENCHMARKS)
    gathered = gather(inputs(both, parents))
    assert [stage.label for stage in gathered.stages] == ["start", "RL-CAI"]
    made = matrix(gathered)
    assert [column.label for column in made.columns] == ["start", "RL-CAI", "taught"]
    (row,) = (row for row in made.rows if row.metric.name == "bits_per_byte")
    beside = row.cells[2]
    assert beside is not None and beside.change is not None and beside.change.number is not None
    assert beside.change.number.key == "eval_0..eval_1/bits_per_byte"
    card = card_world.make_card(both, card_world.SETTINGS, parents)
    from charter.rooms.card.verify import card_problems

    assert card_problems(card) == []
    assert "start; RL-CAI; taught as columns" in (card / "card.md").read_text("utf-8")
    lineage = {node["step"] for node in json.loads((card / "card.json").read_text("utf-8"))["lineage"]}
    assert "eval_1" in lineage
