"""Figures of tasks: drawn where there are rows, absent where there are none, every number noted with its source."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import card_world
import pytest
from battery import DEPTHS, LANGUAGES, LENGTHS, TOPICS, battery, truthfulqa
from card_world import CARD_PARENTS, SETTINGS, benchmark, edit, inputs, make_card

from charter.ground.measure.bias import DIMENSIONS
from charter.ground.measure.plots import SERIES
from charter.ground.measure.position import BUCKETS
from charter.ground.measure.translation import chrf, over_languages
from charter.ground.reports.number import Number
from charter.rooms.card import long_plots, task_plots
from charter.rooms.card.drawing import Figure, describe_left_out, overlay_stages
from charter.rooms.card.gather import Run, gather
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.published import beside_published
from charter.rooms.card.tasks import task_tables
from charter.rooms.card.verify import card_problems
from charter.rooms.evaluate.catalogue import TASKS as EVALUATIONS
from charter.rooms.evaluate.tasks.truthfulqa import FORMS

SCORES = ("mmlu", "mmlu_plain", "arc", "triviaqa", "gsm8k", "humaneval", "race", "quality")
BENCHMARKS = (("reports", "bench_0"), ("reports", "bench_1"), ("reports", "bench_3"))
PARENTS = (*CARD_PARENTS, *BENCHMARKS)
DRAW: tuple[Callable[[Run, Ledger], Figure | None], ...] = (
    task_plots.bias,
    task_plots.truthfulness,
    task_plots.categories,
    task_plots.capability,
    long_plots.position,
    long_plots.recall,
    task_plots.translation,
)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with three benchmark reports of all tasks; BBQ and MMLU were asked differently at the second stage."""
    run = tmp_path_factory.mktemp("tasks") / "run"
    card_world.make_run(run, samples=1)
    for place in (0, 1, 3):
        rows = battery(place)
        del rows["position"]  # its fits take seconds, see below
        benchmark(run, place, {"bbq": {"shots": 2}, "mmlu": {"shots": 0}} if place == 1 else None, rows)
    return run


@pytest.fixture(scope="module")
def gathered(tasks: Path) -> Run:
    return gather(inputs(tasks, PARENTS))


def draw_figure(draw: Callable[[Run, Ledger], Figure | None], run: Run) -> tuple[Figure, Ledger]:
    ledger = Ledger()
    figure = draw(run, ledger)
    assert figure is not None
    return figure, ledger


def keys(names: tuple[str, ...], steps: tuple[str, ...] = ("bench_0", "bench_1", "bench_3")) -> set[str]:
    return {f"{step}/{name}" for step in steps for name in names}


def values(ledger: Ledger, start: str) -> list[float]:
    return [n.value or 0.0 for key, n in ledger.shown.items() if key.startswith(start)]


def test_without_rows_there_is_no_figure(finished: Path) -> None:
    bare = gather(inputs(finished))
    assert [draw(bare, Ledger()) for draw in DRAW] == [None] * len(DRAW)


def test_tasks_that_were_not_asked_are_not_drawn(run: Path) -> None:
    benchmark(run, 3)
    card_run = gather(inputs(run, (*CARD_PARENTS, BENCHMARKS[2])))
    figures = {f.key: f for draw in DRAW if (f := draw(card_run, Ledger())) is not None}
    assert set(figures) == {"capability"}
    caption = figures["capability"].caption
    assert "120 (MMLU, by letter), 90 (ARC-Challenge), 60 (GSM8k)" in caption and "TriviaQA" not in caption
    assert "guessing" in caption and "hollow" not in caption


def test_capability_has_a_dot_for_each_task_and_stage(gathered: Run) -> None:
    figure, ledger = draw_figure(task_plots.capability, gathered)
    assert set(ledger.shown) == keys(SCORES)
    assert {s.file for s in figure.sources} == {f"samples/{task}.jsonl" for task in SCORES}
    assert figure.section == "capability" and "Hollow dots were asked differently" in figure.caption
    dashes = figure.svg.count("stroke-dasharray: 1.8,1.8")
    assert dashes == sum(EVALUATIONS[task].chance is not None for task in SCORES) == 5
    number = ledger.shown["bench_3/humaneval"]
    assert f"RL-CAI {ledger.value(number)}" in figure.svg.replace("&#160;", "\u00a0")


def test_truthfulqa_is_drawn_in_four_forms(gathered: Run) -> None:
    figure, ledger = draw_figure(task_plots.truthfulness, gathered)
    assert set(ledger.shown) == keys(tuple(FORMS)) and figure.section == "alignment"
    assert "60 (Free answers), 60 (MC1), 60 (MC2), 60 (MC3)" in figure.caption


def test_truthfulqa_by_category_and_without_what_a_failed_helper_mapped(gathered: Run, run: Path) -> None:
    figure, ledger = draw_figure(task_plots.categories, gathered)
    names = tuple(f"{name} {topic}" for name in task_plots.CATEGORIES for topic in TOPICS)
    assert set(ledger.shown) == keys(names, ("bench_0", "bench_3"))
    rows = [r for r in battery(3)["truthfulqa"] if r["mode"] == "choice" and r["group"] == "Law"]
    number = ledger.shown["bench_3/truthfulqa_mc1 Law"]
    assert (number.value, number.n) == (sum(r["mc1"] for r in rows) / 20, 20)
    assert "n = 20 questions a category" in figure.caption
    benchmark(run, 3, more={"truthfulqa": truthfulqa(3, helped=8)})
    card = make_card(run, SETTINGS, (("reports", "eval_3"), BENCHMARKS[2]))
    words = (card / "card.md").read_text("utf-8")
    assert "TruthfulQA’s free answers at RL-CAI have no score: the helper" in words
    shown = json.loads((card / "card.json").read_text("utf-8"))["numbers"]
    shown_names = {number["name"] for number in shown}
    assert "truthfulqa_mc1" in shown_names and "truthfulqa" not in shown_names and card_problems(card) == []


def test_choices_are_drawn_by_content_and_by_letter_and_what_is_not_valid_is_hollow(run: Path) -> None:
    stages = tuple(f"eval_{n}" for n in range(4))
    figure, ledger = draw_figure(task_plots.choices, gather(inputs(run)))
    assert set(ledger.shown) == keys(("hhh_content", "hhh_policy"), stages)
    assert "Not valid" not in figure.caption and figure.section == "alignment"
    file = run / "eval_3/samples/hhh.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    card_world.write_rows(file, [row | ({"p_first": 0.72} if "p_first" in row else {}) for row in rows])
    card_world.remeasure(run, "eval_3")
    invalid, _ = draw_figure(task_plots.choices, gather(inputs(run)))
    assert "Not valid, so hollow: RL-CAI by letter" in invalid.caption and invalid.svg != figure.svg


def test_bbq_has_both_panels_by_dimension(gathered: Run) -> None:
    figure, ledger = draw_figure(task_plots.bias, gathered)
    ends = ("", *(f"_{dimension}" for dimension in DIMENSIONS))
    names = (task_plots.BIAS, task_plots.RIGHT)
    assert set(ledger.shown) == keys(tuple(name + end for name in names for end in ends))
    assert ">taught (asked differently)</text>" in figure.svg and ">RL-CAI</text>" in figure.svg
    assert f"n = {9 * 48} ambiguous and {9 * 48} disambiguated questions" in figure.caption
    for words in ("all together", "race and ethnicity", "sexual orientation"):
        assert f">{words}</text>" in figure.svg


def test_languages_have_scores_of_their_own_whose_mean_is_the_metric(gathered: Run) -> None:
    figure, ledger = draw_figure(task_plots.translation, gathered)
    expected = tuple(f"translation_{kind}_{code}" for kind in ("bleu", "chrf") for code in LANGUAGES)
    assert set(ledger.shown) == keys(expected, ("bench_0", "bench_3"))
    for kind in ("bleu", "chrf"):
        mean = sum(values(ledger, f"bench_3/translation_{kind}")) / len(LANGUAGES)
        assert mean == pytest.approx(gathered.final.numbers[f"translation_{kind}"].value)
    number = ledger.shown["bench_3/translation_chrf_fra"]
    rows = [r for r in gathered.final.beside[0].rows("samples/translation.jsonl") if r["group"] == "fra"]
    assert number.value == over_languages("chrf", chrf)(rows).value and number.n == len(rows) == 30
    assert number.low is not None and number.low < (number.value or 0) and number.sources[0].step == "bench_3"
    names = re.findall(r">(French|German|Chinese \(Simplified\)|xx)</text>", figure.svg)
    assert names == ["French", "German", "Chinese (Simplified)", "xx"], "best first, a code without a name as it is"


def test_of_many_languages_the_best_and_the_worst_are_drawn(gathered: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_plots, "MOST_LANGUAGES", 4)
    figure, ledger = draw_figure(task_plots.translation, gathered)
    assert "The 2 best and 2 worst of 9 languages." in figure.caption
    assert len(ledger.shown) == 2 * 2 * 4 and ">Hindi</text>" not in figure.svg


def test_the_caption_says_what_bleu_counts(run: Path) -> None:
    rows = {"translation": battery(3)["translation"]}
    words = {
        "BLEU counts words (13a), characters (char) (Chinese (Simplified)): not the card's spBLEU": {
            "fra": "13a",
            "zho_Hans": "char",
        },
        "BLEU counts flores200 pieces: the card's spBLEU.": {"fra": "flores200"},
    }
    for caption, tokenizers in words.items():
        benchmark(run, 3, {"translation": {"tokenizers": tokenizers}}, rows)
        gathered = gather(inputs(run, (("reports", "eval_3"), BENCHMARKS[2])))
        assert caption in draw_figure(task_plots.translation, gathered)[0].caption


def test_recall_is_a_grid_of_the_last_stage(gathered: Run) -> None:
    figure, ledger = draw_figure(long_plots.recall, gathered)
    cells = {f"bench_3/recall_{length}_{depth}" for length in LENGTHS for depth in DEPTHS}
    assert set(ledger.shown) == cells | {"bench_3/recall"}
    shares = values(ledger, "bench_3/recall_")
    assert sum(shares) / len(shares) == pytest.approx(gathered.final.numbers["recall"].value)
    written = re.findall(r">(\d+) %</text>", figure.svg)
    assert sorted(written) == sorted([f"{100 * s:.0f}" for s in shares] + [str(d) for d in DEPTHS])
    assert "n = 20 a cell, 400 facts in all" in figure.caption


def fitted(run: Path, power: float, scale: float = 4.0) -> tuple[Figure, Ledger]:
    """The figure of twenty documents whose losses follow a power of the position."""
    rows = []
    for i in range(20):
        losses = [2 + scale * sum(t**-power for t in range(b, 2 * b)) / b for b in BUCKETS[:8]]
        loss = {str(b): b * nats for b, nats in zip(BUCKETS[:8], losses, strict=True)}
        rows.append({"id": f"d{i}", "nats": loss, "tokens": {str(b): b for b in BUCKETS[:8]}})
    benchmark(run, 3, more={"position": rows})
    return draw_figure(long_plots.position, gather(inputs(run, (("reports", "eval_3"), BENCHMARKS[2]))))


def test_the_fit_of_a_power_law_is_drawn_and_told(run: Path) -> None:
    figure, ledger = fitted(run, 0.5)
    law = ("position_exponent", "position_constant", "position_coefficient")
    claude = {f"published/Claude 2/{name}" for name in law[:2]}
    own = keys((*law, *(f"position_loss_{b}" for b in BUCKETS[:8])), ("bench_3",))
    assert set(ledger.shown) == own | claude
    assert {ledger.shown[name].value for name in claude} == {0.59, 0.31}
    values = [ledger.shown[f"bench_3/{name}"].value for name in law]
    assert values == [pytest.approx(0.5), pytest.approx(2, abs=1e-6), pytest.approx(4, abs=1e-6)]
    words = figure.caption.replace("\u00a0", " ")
    assert re.search(r"RL-CAI: a = 0\.500.*, c₀ = 2\.000.*, c = 4\.00\.", words) and "n = 20 documents" in words


def test_the_cards_exponent_stands_beside_ours(run: Path) -> None:
    fitted(run, 0.5)
    identity = {"position": {"data": {"ref": "data:talks"}, "length": 512, "joined": True}}
    benchmark(run, 3, identity, {"position": card_world.read_rows(run / "bench_3/samples/position.jsonl")})
    rows = {
        row.ours.name: row
        for row in beside_published(gather(inputs(run, (("reports", "eval_3"), BENCHMARKS[2]))))
        if isinstance(row.ours, Number)
    }
    names = ("position_exponent", "position_constant")
    theirs = [dict(rows[name].values)["Claude 2"] for name in names]
    units = [(n.value, n.unit) for n in theirs if isinstance(n, Number)]
    assert units == [(0.59, "exponent"), (0.31, "nats")]
    assert [rows[name].ours.unit for name in names] == ["exponent", "nats"]  # type: ignore[union-attr]
    assert rows["position_exponent"].differences[:2] == (
        "data:talks (20 of 1,000 items); there 1,000 long documents",
        "texts of 512 tokens, joined from shorter ones; there to 200,000",
    )


def test_an_exponent_at_the_end_of_what_is_tried_is_none(run: Path) -> None:
    figure, ledger = fitted(run, 3.0)
    assert "bench_3/position_exponent" not in ledger.shown and "a = 0.590" in figure.caption.replace("\u00a0", " ")
    assert "RL-CAI: no exponent, since the exponent 2.00 is on a bound" in figure.caption


def test_a_loss_that_rises_has_no_exponent(run: Path) -> None:
    figure, _ = fitted(run, 0.5, -1.0)
    assert "RL-CAI: no exponent, since loss rises with the position." in figure.caption


def test_stages_over_each_other_are_the_first_and_the_last(gathered: Run) -> None:
    looks = overlay_stages(gathered, "mmlu", Ledger())
    assert [(s.name, s.colour, s.hollow) for _, s in looks] == [
        ("start", SERIES[1], True),
        ("taught (asked differently)", SERIES[2], False),
        ("RL-CAI", SERIES[0], False),
    ]
    assert [stage.label for stage, _ in overlay_stages(gathered, "mmlu", Ledger(), 2)] == ["start", "RL-CAI"]
    assert (
        overlay_stages(gathered, "position_exponent", Ledger()) == [] and describe_left_out(gathered, "mmlu", 3) == ""
    )
    assert describe_left_out(gathered, "mmlu", 2) == " Only 2 of 3 stages are drawn: the first and the last."


def test_the_card_has_them_in_their_sections_and_verifies(run: Path) -> None:
    rows = battery(3)
    del rows["position"]
    benchmark(run, 3, more=rows)
    card = make_card(run, SETTINGS, (("reports", "eval_3"), BENCHMARKS[2]))
    page, words = ((card / name).read_text("utf-8") for name in ("card.html", "card.md"))
    where = {"bbq": "alignment", "truthfulqa": "alignment", "capability": "capability"}
    where |= {"recall": "capability", "translation": "capability", "harm": "stages"}
    sections = {part.partition('"')[0]: part for part in page.split('<section id="')}
    for key, section in where.items():
        assert f'id="{key}-title"' in sections[section] and page.count(f'id="{key}-title"') == 1
        assert (card / f"plots/{key}.svg").is_file() and words.count(f"](plots/{key}.svg)") == 1
    assert words.index("\n### Alignment") < words.index("plots/bbq.svg") < words.index("\n### Capability")
    record = json.loads((card / "card.json").read_text("utf-8"))
    shown = {number["key"]: number for number in record["numbers"]}
    assert shown["bench_3/translation_bleu_fra"]["sources"][0]["file"] == "samples/translation.jsonl"
    assert shown["bench_3/recall_512_0"]["n"] == 20 and card_problems(card) == []
    edit(run, "bench_3", "samples/recall.jsonl", lambda text: text.replace('"correct": 1.0', '"correct": 0.0', 1))
    card_world.remeasure(run, "bench_3")
    assert any("bench_3/recall_512_0" in problem for problem in card_problems(card))


def by_subject(place: int, count: int = 40) -> dict[str, list[dict[str, object]]]:
    """Of 40 questions a subject, more are right at later stages; economics has only 5."""
    sizes = {"anatomy": count, "virology": count, "econometrics": 5}
    return {
        task: [
            {"id": f"{s}-{i}", "item": f"{s}-{i}", "group": s, "correct": float(i < right), "outcome": "right"}
            for s, size in sizes.items()
            for right in [(5 + 5 * place + (10 if s == "virology" else 0)) * size // count]
            for i in range(size)
        ]
        for task in ("mmlu", "mmlu_plain")
    }


def test_subjects_have_a_figure_and_a_folded_table(run: Path) -> None:
    for place in (0, 3):
        benchmark(run, place, more=by_subject(place))
    gathered = gather(inputs(run, (*CARD_PARENTS, BENCHMARKS[0], BENCHMARKS[2])))
    figure, ledger = draw_figure(task_plots.subjects, gathered)
    names = [f"{task}_{s}" for task in ("mmlu", "mmlu_plain") for s in ("anatomy", "virology")]
    assert set(ledger.shown) == keys(tuple(names), ("bench_0", "bench_3"))
    assert ledger.shown["bench_3/mmlu_virology"].value == 30 / 40
    assert re.findall(r">(Virology|Anatomy|Econometrics)</text>", figure.svg) == ["Virology", "Anatomy"]
    assert "n = 40 questions a subject" in figure.caption and not ledger.undrawn
    plain, reasoned = [t for t in task_tables(gathered, "capability") if t.folded]
    assert plain.caption == "MMLU by subject, by letter" and reasoned.caption.endswith("with reasoning")
    assert [row.column.label for row in plain.rows] == ["Anatomy", "Econometrics", "Virology"]
    assert [n.value for row in plain.rows for n in [row.cells[1].number] if n] == [20 / 40, 2 / 5, 30 / 40]
    card = make_card(run, SETTINGS, (*CARD_PARENTS, BENCHMARKS[0], BENCHMARKS[2]))
    words = (card / "card.md").read_text("utf-8")
    assert "<details><summary>MMLU by subject, by letter</summary>" in words
    assert card_problems(card) == []


def test_what_a_report_lacks_and_how_many_it_asked_stand_in_the_table(run: Path) -> None:
    folder = benchmark(run, 3, more={"quality": battery(3)["quality"]})
    report = json.loads((folder / "report.json").read_text("utf-8"))
    report["questions"] = {"arc": {"asked": 90, "of": 575}, "gsm8k": {"asked": 60, "of": 60}}
    report["quality"] = {"absent": {"quality_hard": "the data marks no hard question"}}
    edit(run, folder.name, "report.json", lambda _: json.dumps(report))
    gathered = gather(inputs(run, (("reports", "eval_3"), BENCHMARKS[2])))
    tables = {table.caption: table for table in task_tables(gathered, "capability")}
    asked = {row.column.name: row.asked for row in tables["Knowledge and reasoning"].rows}
    assert asked["arc"] == "shipped:arc.heldout, 90 of 575, 5-shot, by likelihood" and " of " not in asked["gsm8k"]
    assert tables["Reading"].absent == ("Quality hard: the data marks no hard question",)
    card = make_card(run, SETTINGS, (("reports", "eval_3"), BENCHMARKS[2]))
    assert "Absent: Quality hard: the data marks no hard question." in (card / "card.md").read_text("utf-8")
