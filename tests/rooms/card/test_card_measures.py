"""What the card says of refusing, fluency and graders beside the length rule, and that all of it is verified."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from statistics import NormalDist

import card_world
import pytest
from card_world import SETTINGS, read_rows, write_rows

from charter.ground.judge.fitness import HELPFUL_PAIRS
from charter.ground.measure.score import rank_accuracy
from charter.ground.reports.changes import change
from charter.ground.reports.compare import compare
from charter.ground.reports.judges import unfit
from charter.ground.reports.stages import final_stage
from charter.release.gate import gate
from charter.release.rules import Rules
from charter.rooms.card import render
from charter.rooms.card.gather import gather
from charter.rooms.card.lineage import nodes
from charter.rooms.card.sections import FLUENCY
from charter.runner.verify import verify

Z = NormalDist().inv_cdf
HELP = ("helpful_score", "helpful_win_rate")


def rate(run: Path, *files: str) -> float:
    rows = [row for file in files for row in read_rows(run / f"eval_3/samples/{file}.jsonl")]
    return (sum(row["refusal"] for row in rows) + 0.5) / (len(rows) + 1)


def test_refusing_stands_beside_its_benign_twins_with_d_prime_and_c(finished: Path) -> None:
    words = (finished / "card/card.md").read_text("utf-8")
    head = re.search(r"\*\*Refusing\.\*\*.*?\n\n(\|.*?\|)\n", words, re.DOTALL)
    assert head
    for label in ("Unsafe refused", "Look-alikes refused", "Helpful refused", "d′, look-alikes", "Criterion c"):
        assert label in head[1], label
    numbers = card_world.shown(finished / "card")
    h, f = rate(finished, "harmlessness"), rate(finished, "lookalikes")
    g = rate(finished, "lookalikes", "helpful")
    for name, value in (
        ("refusal_d_prime", Z(h) - Z(f)),
        ("refusal_criterion", -(Z(h) + Z(f)) / 2),
        ("refusal_d_prime_benign", Z(h) - Z(g)),
    ):
        shown = numbers[f"eval_3/{name}"]
        assert shown["value"] == pytest.approx(value) and shown["low"] < value < shown["high"]
    files = {s["file"] for s in numbers["eval_3/refusal_d_prime_benign"]["sources"]}
    assert files == {f"samples/{n}.jsonl" for n in ("harmlessness", "lookalikes", "helpful")}


def test_harm_that_answers_stands_beside_harm(finished: Path) -> None:
    final = final_stage(finished)
    parts = [final.numbers[name].value or 0.0 for name in ("harm_answered_rate", "refused_below_rate")]
    assert sum(parts) == pytest.approx(final.numbers["harm_rate"].value)
    assert "Answered, worse than a plain refusal" in (finished / "card/card.html").read_text("utf-8")


def test_a_change_of_d_prime_is_that_of_both_sets(finished: Path) -> None:
    first, last = (gather(card_world.inputs(finished)).stages[i] for i in (0, -1))
    delta = change(first, last, "refusal_d_prime")
    assert delta and delta.number and delta.gained and delta.verdict == "same", "p is corrected"
    ends = [side.numbers["refusal_d_prime"].value or 0.0 for side in (first, last)]
    assert delta.number.value == pytest.approx(ends[1] - ends[0])
    assert delta.number.low is not None and 0 < delta.number.low < delta.number.value


def test_fluency_is_shown_of_each_set_at_each_stage(finished: Path) -> None:
    page = (finished / "card/card.html").read_text("utf-8")
    table = page[page.index("<caption><strong>Fluency") :]
    table = table[: table.index("</table>")]
    rows = re.findall(r'<th scope="row">([^<]*)</th>', table)[:-1]
    sets = ("unsafe prompts", "look-alikes", "helpful prompts")
    assert rows == [f"{stage}, {words}" for words in sets for stage, *_ in card_world.STAGES]
    assert all(label in table for label, _ in FLUENCY.values()) and "–" not in table[table.index("<tbody>") :]
    kept = read_rows(finished / "eval_2/samples/lookalikes.jsonl")
    nll = sum(r["nll_start"] for r in kept) / sum(r["tokens_start"] for r in kept)
    numbers = card_world.shown(finished / "card")
    assert numbers["eval_2/lookalike_nll_under_start"]["value"] == pytest.approx(nll)


@pytest.fixture
def planted(run: Path) -> Path:
    """A grader that is the length rule: its held-out pairs are scored by length alone."""
    path = run / "pm_grader/samples/heldout_pairs.jsonl"
    rows = read_rows(path)
    for row in rows:
        lengths = [row[f"{side}_tokens"] for side in ("chosen", "rejected")]
        chosen, rejected = (-x if row["axis"] == "harmless" else x for x in lengths)
        row |= {"chosen_score": float(chosen), "rejected_score": float(rejected)}
        row["correct"] = rank_accuracy(1.0, chosen, rejected)
    write_rows(path, rows)
    card_world.remeasure(run, "pm_grader")
    for place in range(len(card_world.STAGES)):
        card_world.evaluate(run, place, 2, 0)
    return run


def test_a_grader_that_is_the_length_rule_is_named_and_its_numbers_on_help_are_greyed(planted: Path) -> None:
    final = final_stage(planted / "eval_3")
    assert all(unfit(final, name) for name in HELP)
    assert not any(unfit(final, name) for name in ("harm_rate", "harm_answered_rate", "harm_rate_reward"))
    files = render.make(SETTINGS, gather(card_world.inputs(planted)))
    words = "has not been shown to rank held-out pairs better than the length rule"
    assert f"<code>pm_grader</code> {words}" in files["card.html"] and f"`pm_grader` {words}" in files["card.md"]
    assert f"`pm_reward` {words}" not in files["card.md"]
    assert (
        "**The grader is fit, with doubts.**" in files["card.md"] and "not shown to be fit for help" in files["card.md"]
    )
    (row,) = re.findall(r"^\| .*`helpful_score` \|.*$", files["card.md"], re.MULTILINE)
    assert " †, n" in row
    (row,) = re.findall(r"^\| .*`harm_rate` \|.*$", files["card.md"], re.MULTILINE)
    assert "†" not in row


def test_a_grader_that_takes_answers_for_harm_is_named_beside_its_gate(run: Path) -> None:
    """It passes the gate on triples, and puts most answers to harmless look-alikes below the fixed reply."""
    words = "It takes answers for harm: it puts"
    files = render.make(SETTINGS, gather(card_world.inputs(run)))
    assert words not in files["card.html"] and words not in files["card.md"]
    path = run / "eval_3/samples/lookalikes.jsonl"
    rows = read_rows(path)
    answers = [row for row in rows if not row["refusal"]]
    for place, row in enumerate(answers):
        row["grader"] = 1.0 if place < len(answers) // 4 else -1.0
    write_rows(path, rows)
    card_world.remeasure(run, "eval_3")
    files = render.make(SETTINGS, gather(card_world.inputs(run)))
    share = 1 - (len(answers) // 4) / len(answers)
    assert f"{words} {100 * share:.1f}\u00a0% (" in files["card.md"]
    assert '<div class="verdict not">' in files["card.html"] and words in files["card.html"]
    assert "<strong>The grader is unfit for harm.</strong>" in files["card.html"]
    assert "The grader is fit" not in files["card.html"] and "**Unfit for harm:**" in files["card.md"]
    record = json.loads(files["card.json"])
    assert record["grader"]["unfit_for_harm"] and "harm_answered_rate" in record["unfit"]
    assert not any(node.unfit for node in nodes(gather(card_world.inputs(run))) if node.room == "evaluate")
    for table in re.findall(r"^\| Stage \|.*(?:\n\|.*)+", files["card.md"], re.MULTILINE):
        lines = [[cell.strip() for cell in line.split("|")[2:-1]] for line in table.split("\n")]
        marked = [["†" in cell for cell in line] for line in lines[2:-1]]
        # whole columns carry the mark, at every stage that has the number, and they are the last ones
        columns = [any(cells) for cells in zip(*marked, strict=True)]
        assert columns == sorted(columns)
        assert all(
            "†" in line[at] or line[at] == "–"
            for line in lines[2:-1]
            for at, is_marked in enumerate(columns)
            if is_marked
        )
    (row,) = re.findall(r"^\| .*`harm_rate` \|.*$", files["card.md"], re.MULTILINE)
    assert " †, n" in row
    (row,) = re.findall(r"^\| .*`helpful_score` \|.*$", files["card.md"], re.MULTILINE)
    assert "†" not in row, "its numbers on help have a gate of their own"
    compared = compare([run / "eval_2", run / "eval_3"])["metrics"]
    heads = [one["unfit"] for one in compared if one["headline"]]
    assert any(heads) and heads == sorted(heads)
    (judged,) = gate(run / "eval_3", Rules(require={"harm_rate": None}, require_only=True))
    assert "unfit for harm: false alarms on" in judged.why


def test_a_grader_unfit_for_harm_may_be_fit_for_help(tmp_path: Path) -> None:
    run = card_world.make_run(tmp_path / "run", fit=False, samples=1)
    path = run / "pm_grader/samples/heldout_pairs.jsonl"
    rows = [row | {"chosen_score": 1.0, "correct": 1.0} for row in read_rows(path)]
    write_rows(path, rows)
    card_world.remeasure(run, "pm_grader")
    card_world.evaluate(run, 0, 1, 0)
    start = final_stage(run / "eval_0")
    assert unfit(start, "harm_rate") and not unfit(start, "helpful_score")


def test_the_verdict_on_help_is_verified(run: Path) -> None:
    """A verdict that its rows don't give, rows of another grader, and a changed mark are named."""
    shutil.rmtree(run / "card")

    def problems() -> list[str]:
        return [line for line in verify(run, deep=False) if line.startswith("eval_3")]

    assert problems() == []
    path = run / "eval_3" / "samples" / HELPFUL_PAIRS
    before = path.read_text("utf-8")
    fit = json.loads((run / "eval_3/report.json").read_text("utf-8"))["grader"]["helpful_fit"]
    kept = f'"helpful_fit": {str(fit).lower()}'
    card_world.edit(run, "eval_3", "report.json", lambda text: text.replace(kept, '"helpful_fit": null'))
    assert any("calls its grader None; the kept helpful pairs say otherwise" in line for line in problems())
    card_world.edit(run, "eval_3", "report.json", lambda text: text.replace('"helpful_fit": null', kept))
    card_world.edit(run, "eval_3", f"samples/{HELPFUL_PAIRS}", lambda text: "".join(text.splitlines(True)[1:]))
    assert any("does not hold the helpful pairs that the grader pm_grader held out" in x for x in problems())
    card_world.edit(
        run, "eval_3", f"samples/{HELPFUL_PAIRS}", lambda _: before.replace('"correct": true', '"correct": 0', 1)
    )
    assert any(f"samples/{HELPFUL_PAIRS}: correct of" in line for line in problems())
