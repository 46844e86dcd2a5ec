"""Benchmark reports beside a stage's own: matched by model, told apart by task, shown with how they were asked."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import card_world
import pytest
from battery import truthfulqa
from card_world import CARD_PARENTS, SETTINGS, benchmark, edit, inputs, make_card

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest
from charter.ground.measure.metric import GROUPS
from charter.ground.reports.changes import change, why_not_comparable
from charter.ground.reports.compare import compare
from charter.ground.reports.number import Number
from charter.ground.reports.stages import final_stage
from charter.rooms.card import render
from charter.rooms.card.facts import RISKS, USES, list_unmeasured
from charter.rooms.card.gather import Run, gather
from charter.rooms.card.layout import TITLES
from charter.rooms.card.news import whats_new
from charter.rooms.card.published import FACTS, GAIN, Beside, beside_published, published
from charter.rooms.card.tasks import by_group, task_tables
from charter.rooms.card.verify import card_problems
from charter.rooms.evaluate.catalogue import METRICS, TASKS
from charter.runner.verify import artifact_problems, verify

MODELS = ("Claude Instant 1.1", "Claude 1.3", "Claude 2")
BENCHMARKS = (("reports", "bench_0"), ("reports", "bench_3"))


@pytest.fixture(scope="module")
def benchmarked(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with benchmark reports on its first and last stage, and a card of all; not to be changed."""
    run = tmp_path_factory.mktemp("benchmarked") / "run"
    shutil.copytree(finished, run)
    for place in (0, 3):
        benchmark(run, place)
    make_card(run, SETTINGS, (*CARD_PARENTS, *BENCHMARKS))
    return run


@pytest.fixture
def both(benchmarked: Path, tmp_path: Path) -> Path:
    """A copy of it, free to be changed."""
    shutil.copytree(benchmarked, tmp_path / "run")
    return tmp_path / "run"


def gathered(run: Path, parents: tuple[tuple[str, str], ...] = (*CARD_PARENTS, *BENCHMARKS)) -> Run:
    return gather(inputs(run, parents))


def test_every_group_of_a_task_has_a_section_of_the_page() -> None:
    assert {task.group for task in TASKS.values()} - {""} <= GROUPS.keys()
    assert {group.section for group in GROUPS.values()} <= set(TITLES)
    with pytest.raises(ValueError, match="a card has no section for the group 'Weather'; add it to GROUPS"):
        replace(TASKS["arc"], group="Weather")


def test_a_group_that_no_section_has_is_refused_not_taken_for_ability(run: Path) -> None:
    benchmark(run, 3)
    edit(run, "bench_3", "tables.json", lambda text: text.replace("Knowledge and reasoning", "Weather"))
    with pytest.raises(CharterError, match="is of the group 'Weather', which no section of a card has"):
        by_group(gather(card_world.inputs(run, BENCHMARKS[1:])).stages)


def test_a_stage_has_the_numbers_of_both_reports_on_its_model(both: Path) -> None:
    run = gathered(both)
    assert [len(stage.beside) for stage in run.stages] == [1, 0, 0, 1]
    assert {"harm_rate", "arc"} <= run.final.numbers.keys() and "arc" not in run.stages[1].numbers
    assert run.final.of("arc").step == "bench_3" and run.final.of("harm_rate").step == "eval_3"
    rows = card_world.read_rows(both / "bench_3/samples/arc.jsonl")
    assert run.final.numbers["arc"].value == sum(r["correct"] for r in rows) / len(rows)
    assert run.final.numbers["arc"].sources[0].step == "bench_3"


def test_a_report_on_other_tasks_of_a_stages_model_stands_beside_it_whatever_their_order(run: Path) -> None:
    benchmark(run, 0)
    benchmark(run, 3)
    for parents in (("eval_0", "bench_0", "eval_3", "bench_3"), ("bench_0", "eval_3", "eval_0", "bench_3")):
        stages = gathered(run, tuple(("reports", step) for step in parents)).stages
        assert [len(stage.beside) for stage in stages] == [1, 1]
        assert [{"harm_rate", "arc"} <= stage.numbers.keys() for stage in stages] == [True, True]
    alone = gathered(run, (("reports", "eval_0"), ("reports", "bench_3"))).stages
    assert [(stage.step, stage.beside) for stage in alone] == [("eval_0", ()), ("bench_3", ())]


def test_two_reports_on_the_same_tasks_of_a_model_are_two_stages_and_need_two_names(run: Path) -> None:
    benchmark(run, 0)
    with pytest.raises(CharterError, match=r"two reports have the stage 'start'.* must have other tasks"):
        gathered(run, (("reports", "eval_0"), ("reports", "bench_0"), ("reports", "bench_0")))


def test_a_run_a_card_and_reports_alone_are_compared_with_both_rooms(both: Path, tmp_path: Path) -> None:
    assert "arc" in final_stage(both).numbers and "arc" in final_stage(both / "card").numbers
    assert "arc" not in final_stage(both / "eval_3").numbers
    rows = {row["metric"]: row for row in compare([both / "bench_0", both / "bench_3"])["metrics"]}
    assert rows["arc"]["verdict"] == "worse" and rows["arc"]["paired"] == 90 and rows["arc"]["regression"]
    assert rows["gsm8k"]["verdict"] == "not significant"
    verdicts = {row["verdict"] for row in compare([both / "eval_0", both / "bench_3"])["metrics"]}
    assert verdicts == {f"not compared: only the {side} has it" for side in ("first", "second")}
    for step in ("card", "eval_0", "eval_1", "eval_2", "bench_0"):  # two reports on one model and no card
        (both / step).rename(tmp_path / step)
    assert {"arc", "harm_rate"} <= final_stage(both).numbers.keys()
    (tmp_path / "bench_0").rename(both / "bench_0")
    with pytest.raises(CharterError, match=r"has 3 reports; name one: .*bench_0, .*bench_3, .*eval_3"):
        final_stage(both)


def test_a_task_asked_in_another_way_is_not_compared_and_others_are(both: Path) -> None:
    benchmark(both, 0, {"mmlu_plain": {"shots": 0}, "gsm8k": {"data": {"ref": "data:other"}}})
    rows = {row["metric"]: row for row in compare([both / "bench_0", both / "bench_3"])["metrics"]}
    assert rows["mmlu_plain"]["verdict"] == "not compared: made differently: mmlu_plain.shots differs"
    assert rows["mmlu_plain_unanswered"]["verdict"] == rows["mmlu_plain"]["verdict"]
    assert rows["gsm8k"]["verdict"] == "not compared: made differently: gsm8k.data.id differs"
    assert rows["arc"]["difference"] is not None


@pytest.mark.parametrize("key", ["temperature", "max_tokens", "samples", "draw_seed", "template", "text"])
def test_all_that_is_said_of_a_task_decides_it(both: Path, key: str) -> None:
    """Also keys that decide only some rows of an evaluate report."""
    benchmark(both, 0, {"gsm8k": {key: 7}})
    rows = {row["metric"]: row for row in compare([both / "bench_0", both / "bench_3"])["metrics"]}
    assert rows["gsm8k"]["verdict"] == f"not compared: made differently: gsm8k.{key} differs"
    assert rows["arc"]["difference"] is not None


def test_the_tracker_finds_what_dropped_also_across_a_version_that_lacks_it(both: Path) -> None:
    tracked = compare([both])
    assert tracked["versions"] == ["start", "taught", "SL-CAI", "RL-CAI"] and not tracked["same"]
    by_metric = {row["metric"]: row for row in tracked["metrics"]}
    arc = by_metric["arc"]
    assert [value is None for value in arc["values"]] == [False, True, True, False]
    assert [step["verdict"] for step in arc["steps"]] == [
        "not compared: only the first has it",
        "not compared: only the first has it",
        "worse",
    ]
    assert arc["dropped"] and arc["overall"]["difference"] == arc["steps"][2]["difference"]
    assert by_metric["bits_per_byte"]["dropped"] and not by_metric["harm_rate"]["dropped"]
    with pytest.raises(CharterError, match="has one stage"):
        compare([both / "eval_0"])


def test_a_slow_drift_is_a_drop_though_no_step_is(run: Path) -> None:
    """Seven of 60 texts get worse at each of three steps: no step is significant, all of them together are."""
    for place in range(4):
        lost = [{"id": f"t{i}", "nats": 100.0 * (1.5 if i < 7 * place else 1.0), "bytes": 100} for i in range(60)]
        card_world.write_rows(run / f"eval_{place}/samples/text.jsonl", lost)
        card_world.remeasure(run, f"eval_{place}")
    rows = compare([run / f"eval_{place}" for place in range(4)])["metrics"]
    (row,) = (row for row in rows if row["metric"] == "bits_per_byte")
    assert [step["verdict"] for step in row["steps"]] == ["not significant"] * 3
    assert row["overall"]["verdict"] == "worse" and row["dropped"]


def test_the_card_says_what_was_asked_of_whom_and_what_training_met(both: Path) -> None:
    (table,) = task_tables(gathered(both), "capability")
    assert table.stages == ("start", "RL-CAI") and task_tables(gathered(both), "alignment") == ()
    row = next(row for row in table.rows if row.column.name == "arc")
    assert row.asked == "shipped:arc.heldout, 5-shot, by likelihood"
    assert row.overlap is not None and (row.overlap.value, row.overlap.n) == (0.1, 90)
    assert row.overlaps_with == "shipped:helpful.train"
    assert row.cells[1].change is not None and row.cells[1].change.verdict == "worse"
    page = (both / "card/card.html").read_text("utf-8")
    part = page[page.index('id="capability"') : page.index('id="improved"')]
    for words in ("data:gsm8k, 0-shot, T = 1, chat", "shipped:helpful.train", "n\u00a0=\u00a0120", "10.0\u00a0%"):
        assert words in part
    assert verify(both, deep=False) == []
    drawn: list[str] = []
    assert verify(both, True, lambda folder, count: drawn.append(folder.name) or []) == []
    assert set(drawn) == {p.name for p in both.iterdir() if p.name.startswith(("eval_", "bench_"))}


def test_a_changed_answer_fails_the_cards_verification(both: Path) -> None:
    edit(both, "bench_3", "samples/arc.jsonl", lambda t: t.replace('"correct": false', '"correct": true', 1))
    card_world.remeasure(both, "bench_3")
    assert any("bench_3/arc" in problem for problem in card_problems(both / "card"))


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [
        ("arc", "correct", 1.0),
        pytest.param("arc", "choice", 1, marks=pytest.mark.slow),
        pytest.param("mmlu_plain", "outcome", "right", marks=pytest.mark.slow),
        pytest.param("gsm8k", "correct", 1.0, marks=pytest.mark.slow),
        pytest.param("gsm8k", "answer", 1.0, marks=pytest.mark.slow),
        pytest.param("gsm8k", "outcome", "unparsed", marks=pytest.mark.slow),
        ("contamination", "hit", False),
    ],
)
def test_a_changed_mark_is_named_though_metrics_hashes_and_card_were_made_again(
    both: Path, task: str, key: str, value: object
) -> None:
    path = both / f"bench_3/samples/{task}.jsonl"
    rows = card_world.read_rows(path)
    place = next(n for n, row in enumerate(rows) if row[key] != value)
    rows[place][key] = value
    card_world.write_rows(path, rows)
    card_world.remeasure(both, "bench_3")
    make_card(both, SETTINGS, (*CARD_PARENTS, *BENCHMARKS))
    (line,) = verify(both, deep=False)
    assert line.startswith(f"bench_3: samples/{task}.jsonl: {key} of ") and "its row gives" in line


def test_what_other_detectors_declined_is_not_marked_again(both: Path) -> None:
    quiz = {"id": "q", "item": "q", "stop": "end", "reply": "Rome", "accepted": ["Oslo"], "answer": "Rome"}
    quiz |= {"correct": 0.0, "outcome": "declined", "group": "", "sample": 0}
    folder = benchmark(both, 3, {"triviaqa": {"detectors": "0" * 64}}, {"triviaqa": [quiz]})
    (line,) = artifact_problems(folder, read_manifest(folder))
    assert line.startswith("detectors trained on other examples marked triviaqa.jsonl")
    benchmark(both, 3, None, {"triviaqa": [quiz]})
    (line,) = artifact_problems(folder, read_manifest(folder))
    assert "outcome of q sample 0 is declined; its row gives wrong" in line


def test_an_overlap_that_nobody_looked_for_is_not_known(both: Path) -> None:
    """gsm8k has no row in contamination.jsonl, as on a model without a lineage no task has one."""
    for name, end in (("card.html", "</table>"), ("card.md", "\n\n")):
        page = (both / "card" / name).read_text("utf-8")
        table = page[page.index("Met in training") :]
        (row,) = (r for r in re.split(r"</tr>|\n(?=\|)", table[: table.index(end, 900)]) if "sums solved" in r)
        assert row.count("not known") == 1 and "0.0" not in row.rpartition("not known")[2]
        assert "what the first model was pretrained on is not known" in table


def test_a_stage_asked_in_another_way_says_how(both: Path) -> None:
    benchmark(both, 0, {"arc": {"shots": 0}})
    (table,) = task_tables(gathered(both), "capability")
    row = next(row for row in table.rows if row.column.name == "arc")
    assert [cell.protocol for cell in row.cells] == ["shipped:arc.heldout, 0-shot, by likelihood", ""]


def measured(run: Run) -> dict[str, Beside]:
    """The rows in which one of our metrics stands beside a published number, by metric."""
    rows = beside_published(run)
    return {
        one.ours.name: one
        for one in rows
        if isinstance(one.ours, Number) and one.ours.name in run.final.metrics and not one.ours.change
    }


def test_published_numbers_stand_beside_ours_with_what_differs(both: Path) -> None:
    """Items of our own, as of the shipped `arc` and `hhh`, stand beside no number of another's items."""
    rows = measured(gathered(both))
    assert set(rows) == {"gsm8k", "mmlu_plain", "harm_rate_prompts"}
    values = [value.value for _, value in rows["mmlu_plain"].values if isinstance(value, Number)]
    assert values == [0.734, 0.770, 0.785]
    assert rows["gsm8k"].differences == (
        "data:gsm8k (60 of 1,319 items); there the test split of GSM8k",
        "asked as a chat; its words there are not published",
    )
    assert "no chain of thought; there with one" in rows["mmlu_plain"].differences
    model, number = rows["gsm8k"].values[2]
    assert isinstance(number, Number) and number.stage == model == MODELS[2]
    assert number.sources[0].file == "section 4.3"
    shown = card_world.shown(both / "card")
    assert shown["published/Claude 2/gsm8k"]["value"] == 0.88
    public = {"data": {"ref": "data:arc"}, "temperature": 0.5}
    benchmark(both, 3, {"gsm8k": {"shots": 4, "temperature": 0.0}, "arc": public})
    rows = measured(gathered(both))
    assert {"examples: 4; there 0", "temperature: 0; there 1"} <= set(rows["gsm8k"].differences)
    assert "temperature: 0.5; not stated there" in rows["arc"].differences


def test_what_was_published_and_we_lack_says_why(both: Path) -> None:
    rows = {one.row.what: one for one in beside_published(gathered(both))}
    why = {what: one.why for what, one in rows.items()}
    assert all(one.why if one.ours is None else not one.why for one in rows.values())
    assert why["GRE verbal, scaled score"] == "no report on RL-CAI has gre_verbal"
    assert why["ARC-Challenge"] == "arc is of items of our own, shipped:arc.heldout"
    assert why["Output formats taught"] == "no evaluation here asks for a format"
    assert why["Gain on HumanEval"] == "no report on RL-CAI has humaneval"
    assert why["Context trained, tokens"] == "no checkpoint of this run states the context of RL-CAI"
    gain, prompts = rows["Gain on GSM8k"].ours, rows["Harmful and jailbreak prompts"].ours
    delta = change(gathered(both).start, gathered(both).final, "gsm8k")
    assert delta is not None and gain == delta.number
    assert isinstance(prompts, Number) and (prompts.value, prompts.unit) == (40, "count")
    counted = [rows[what].ours for what in ("Replies a prompt", "HHH choices asked")]
    asked = {row["id"] for row in card_world.read_rows(both / "eval_3/samples/hhh.jsonl")}
    assert [n.value for n in counted if isinstance(n, Number)] == [2, len(asked)]
    assert rows["Release"].ours == "2026-11-01"
    page = (both / "card/card.md").read_text("utf-8")
    assert "not measured | no report on RL-CAI has gre_verbal |" in page


def test_a_scaled_score_stands_beside_the_cards_and_a_share_of_items_does_not(both: Path) -> None:
    more = {"kind": "single", "options": ["a", "b"], "blanks": [], "right": [0], "step": "", "outcome": "right"}
    rows = [{"id": f"v{n}", "item": f"v{n}", "group": "", "correct": 1.0, **more} for n in range(30)]
    path = benchmark(both, 3, None, {"gre_verbal": rows}) / "report.json"
    before = {one.row.what: one for one in beside_published(gathered(both))}
    assert before["GRE verbal, scaled score"].why == "the report on RL-CAI has no table for a form of gre_verbal"
    years = [{"value": 80.0, "years": "2019-2022"}, {"value": 75.0, "years": "2023-2025"}]
    found = {"scaled": [{"value": 160.0, "years": "2023"}], "percentile": years}
    report = json.loads(path.read_text("utf-8")) | {"gre_verbal": {"scale": {"removed_wrong": found}}}
    path.write_text(json.dumps(report), "utf-8")
    ours = {one.row.what: one.ours for one in beside_published(gathered(both))}
    scaled, percentile = ours["GRE verbal, scaled score"], ours["GRE verbal, percentile"]
    assert isinstance(scaled, Number) and (scaled.value, scaled.unit) == (160, "count")
    assert isinstance(percentile, Number) and (percentile.value, percentile.unit) == (0.75, "share")


def test_every_name_beside_a_published_number_exists() -> None:
    names = {metric.name for metric in METRICS} | FACTS.keys()
    assert all(name.removeprefix(GAIN) in names for row in published() for name in row.ours)
    assert all(set(row.plain) <= set(row.ours) for row in published())


def test_every_published_number_is_there_once() -> None:
    """By the numbers of the table of section 1 of the notes on the card, and those that it lists below."""
    assert all(row.ours or row.why for row in published())
    assert len({(row.what, *row.values) for row in published()}) == len(published())
    values = {(row.what, model): value for row in published() for model, value in row.values.items()}
    known = {
        "HumanEval, first try right": (0.528, 0.560, 0.712),
        "GSM8k": (0.809, 0.852, 0.880),
        "MMLU": (0.734, 0.770, 0.785),
        "TriviaQA": (0.789, 0.867, 0.875),
        "QuALITY": (0.805, 0.841, 0.832),
        "ARC-Challenge": (0.857, 0.900, 0.910),
        "RACE-H": (0.855, 0.888, 0.883),
        "HHH choices": (0.84, 0.85, 0.86),
    }
    for what, three in known.items():
        assert tuple(values[what, model] for model in MODELS) == three
    later = {what: value for (what, model), value in values.items() if model == MODELS[2]}
    assert later["GRE verbal, scaled score"] == 165 and later["GRE quantitative, scaled score"] == 154
    assert later["GRE analytical writing, 0 to 6"] == 5.0 and later["Bar exam (MBE)"] == 153 / 200
    assert [later[f"USMLE Step {n}"] for n in (1, 2, 3)] == [0.689, 0.633, 0.672]
    assert later["Harmful prompts worse than the fixed reply"] == pytest.approx(4 / 328, abs=5e-4)
    gains = {"Gain on HumanEval": 0.712 - 0.560, "Gain on GSM8k": 0.880 - 0.852}
    gains |= {"Fall on QuALITY": 0.832 - 0.841, "Fall on RACE-H": 0.883 - 0.888}
    assert {what: values[what, "Claude 1.3 to 2"] for what in gains} == pytest.approx(gains)


def test_items_are_counted_and_not_the_passages_that_they_share(both: Path) -> None:
    rows = [
        {"id": f"p{n // 4}", "item": f"p{n // 4}/{n}", "group": "", "correct": 1.0, "outcome": "right"}
        for n in range(40)
    ]
    benchmark(both, 3, {"race": {"data": {"ref": "data:race_high"}}}, {"race": rows})
    differences = {name: one.differences for name, one in measured(gathered(both)).items()}
    assert differences["race"][0] == "data:race_high (40 of 3,498 items); there the test split of RACE-H"


def test_whats_new_is_what_compare_says(both: Path) -> None:
    run = gathered(both)
    news = whats_new(run)
    assert news is not None and (news.before, news.after) == ("start", "RL-CAI")
    make_card(both, SETTINGS, (("reports", "eval_0"), *BENCHMARKS[:1]), step="older")
    rows = {row["metric"]: row["verdict"] for row in compare([both / "older", both / "card"])["metrics"]}
    for group, verdict in (("gains", "better"), ("losses", "worse"), ("same", "not significant")):
        for head in getattr(news, group):
            assert rows[head.name] == verdict
    assert {h.name for h in news.losses} == {"lookalike_refusal_rate", "bits_per_byte", "arc"}
    assert ("only RL-CAI has it", ("helpful_win_rate",)) in news.refused
    page = (both / "card/card.html").read_text("utf-8")
    part = page[page.index('id="improve"') : page.index('id="references"')]
    assert re.findall(r"Regressed:</strong> ([^,]*),", part) == [
        "look-alikes refused",
        "bits per byte",
        "arc-challenge",
    ]


def test_whats_new_against_another_versions_card(both: Path) -> None:
    make_card(both, SETTINGS, (("reports", "eval_2"),), step="older")
    parents = (("reports", "eval_3"), ("reports", "bench_3"), ("previous", "older"))
    news = whats_new(gathered(both, parents))
    assert news is not None and (news.before, news.after) == ("SL-CAI", "RL-CAI")
    names = {run_node.step for run_node in gathered(both, parents).lineage}
    assert "eval_2" not in names, "what the older card was made of is no lineage of this model"
    card = make_card(both, SETTINGS, parents, step="newer")
    assert "From SL-CAI to RL-CAI" in (card / "card.html").read_text("utf-8") and card_problems(card) == []


def test_what_is_not_measured_is_said_by_what_is() -> None:
    assert list_unmeasured(USES, ()) == "search, coding, other languages, long documents and structured output"
    assert list_unmeasured(RISKS, ("truthfulqa", "bbq", "quality", "humaneval", "translation")) == "attacks by machine"


def test_what_was_looked_through_stands_once_a_table(both: Path) -> None:
    (table,) = task_tables(gathered(both), "capability")
    assert table.looked_through == ("shipped:helpful.train",)
    words = "Met in training: the share of items of which a part stands in any of shipped:helpful.train; "
    for name in ("card.html", "card.md"):
        text = (both / "card" / name).read_text("utf-8")
        assert text.count(words) == 1


def test_another_task_or_helper_refuses_only_what_it_decides(run: Path) -> None:
    for place, helper in ((0, "one"), (3, "two")):
        step = benchmark(run, place, {}, {"truthfulqa": truthfulqa(place)}).name
        told = json.dumps({"name": helper, "id": helper})
        edit(
            run,
            step,
            "report.json",
            lambda text, told=told: text.replace('"identity"', f'"helper": {told}, "identity"', 1),
        )
    first, last = (final_stage(run / f"bench_{place}") for place in (0, 3))
    why = {name: why_not_comparable(first, last, name) for name in ("truthfulqa", "truthfulqa_mc1", "arc_contaminated")}
    assert why == {
        "truthfulqa": "mapped by different models (one and two)",
        "truthfulqa_mc1": "",
        "arc_contaminated": "",
    }


def test_a_table_in_which_nothing_was_looked_for_has_no_column_for_it(both: Path) -> None:
    edit(both, "bench_3", "samples/contamination.jsonl", lambda _: "")
    card_world.remeasure(both, "bench_3")
    files = render.make(SETTINGS, gathered(both))
    assert "Met in training" not in files["card.html"] and "Met in training" not in files["card.md"]
    head, line, *made_rows = files["card.md"].split("| Evaluation |")[1].split("\n\n")[0].split("\n")
    assert head.count("|") + 2 == line.count("|") == 4
    assert len(made_rows) >= 2 and {row.count("|") for row in made_rows} == {4}


def test_what_went_wrong_with_the_asking_has_a_row_only_where_it_did(both: Path) -> None:
    """The first question of gsm8k can't be read at one stage; in arc all can."""
    for place in (0, 3):
        for task in ("gsm8k", "arc"):
            path = both / f"bench_{place}/samples/{task}.jsonl"
            rows = [row | {"outcome": "right"} for row in card_world.read_rows(path)]
            if (task, place) == ("gsm8k", 0):
                rows[0] |= {"outcome": "unparsed", "correct": 0.0}
            card_world.write_rows(path, rows)
        card_world.remeasure(both, f"bench_{place}")
    run = gathered(both)
    assert {"gsm8k_unanswered", "arc_unanswered"} <= run.final.numbers.keys()
    names = [row.column.name for table in task_tables(run, "capability") for row in table.rows]
    assert "gsm8k_unanswered" in names and "arc" in names and "arc_unanswered" not in names


def test_the_words_of_choices_are_a_difference_unless_they_are_the_sets_own(both: Path) -> None:
    def identify(words: str) -> tuple[str, ...]:
        def put(text: str) -> str:
            report = json.loads(text)
            facts = {"data": {"ref": "data:438"}, "shots": 5, "form": "chat", "words": words}
            report["identity"]["hhh"] = facts
            return json.dumps(report)

        edit(both, "eval_3", "report.json", put)
        rows = {one.row.what: one for one in beside_published(gathered(both))}
        return rows["HHH choices"].differences

    first = ("data:438 (80 of 438 items); there 438 choices", "examples: 5; there 0")
    own = "the set's own prompt as a chat; not stated there"
    assert identify("the set's own prompt") == (*first, own)
    ours = "asked in charter's words, in both orders; there in the set's own prompt"
    assert identify("charter's words, in both orders") == (*first, ours)


def test_only_an_official_form_stands_beside_the_cards_exams(both: Path) -> None:
    rows = [
        {
            "id": f"l{n}",
            "item": f"l{n}",
            "group": "",
            "correct": float(n < 30),
            "outcome": "right" if n < 30 else "wrong",
        }
        | {"kind": "single", "options": ["a", "b"], "right": [0], "blanks": [], "logprobs": [0.0, -1.0], "choice": 0}
        for n in range(40)
    ]
    for stand_in in (True, False):
        asked = {"shots": 5, "scored": "options", "stand_in": stand_in}
        benchmark(both, 3, {"mbe": asked}, {"mbe": rows})
        found = {one.row.what: one for one in beside_published(gathered(both))}["Bar exam (MBE)"]
        assert (found.ours is None) is stand_in
    assert dict(found.values)["Claude 2"].value == 0.765
    assert found.differences[0] == "data:mbe (40 of 200 items); there the practice exam of 2021"
