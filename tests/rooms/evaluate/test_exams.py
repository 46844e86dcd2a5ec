"""Exam tasks: what the model reads, how each kind is scored, what was not asked, and what guessing earns."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import desk
import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.measure.reporting import compute_metrics
from charter.ground.settings.places import data_folder
from charter.ground.settings.sources import shipped
from charter.ground.text.exam_items import read_items
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate.catalogue import METRICS, SUITES
from charter.rooms.evaluate.exam import against_guessing, always_third, guess, longest, reader
from charter.rooms.evaluate.exam_scale import scale
from charter.rooms.evaluate.marks import TOO_LONG
from charter.rooms.evaluate.reading import DEV, TEST, read_split
from charter.rooms.evaluate.settings import ROOM, Settings
from charter.rooms.evaluate.tasks import gre_writing, mbe, usmle

Row = dict[str, Any]
SIX = ["calm", "loud", "quiet", "red", "old", "odd"]


def item(id: str, kind: str, key: Any, **more: Any) -> Row:
    return {"id": id, "exam": "Own paper", "kind": kind, "question": f"Question {id}?", "key": key, **more}


VERBAL = [
    item("one", "completion", "B", blanks=[["glad", "sad", "mad", "bad", "fad"]]),
    item("two", "completion", ["A", "E"], blanks=[["up", "down", "in"], ["hot", "cold", "wet"]]),
    item("pair", "equivalence", "AC", options=SIX),
    item("read", "single", "C", options=["x", "y", "z", "w", "v"], passage="A short passage."),
    item("all", "select_all", "AC", options=["first", "second", "third"], passage="A short passage."),
]
REPLIES = {
    "one": "The answer is (B).",
    "two": "The answer is (A), (F).",  # one of two blanks
    "pair": "Both mean still. The answer is (A), (C).",
    "read": "I don't know",
    "all": "The answer is (A), (C).",
}


def say(prompt: Any, _: int) -> str:
    asked = [m["content"] for m in prompt if m["role"] == "user"][-1]
    return next(text for key, text in REPLIES.items() if f"Question {key}?" in asked)


def values(folder: Path, task: str, rows: list[Row]) -> dict[str, float]:
    """The task's metrics of kept rows."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    toys.rows_file(folder / "samples" / f"{task}.jsonl", rows)
    own = [metric for metric in METRICS if metric.task == task]
    return {score.name: score.value for score in compute_metrics(folder, own).scores}


def test_verbal_items_are_asked_after_five_worked_ones_and_scored_by_kind(tmp_path: Path) -> None:
    model = toys.Scripted(say=say)
    context = desk.context("gre_verbal", tmp_path, model, {"test": VERBAL})
    rows = desk.run_task(context)
    assert [(r["item"], r["outcome"]) for r in rows] == [
        ("one", "right"),
        ("two", "wrong"),
        ("pair", "right"),
        ("read", "unparsed"),
        ("all", "right"),
    ]
    assert [m["role"] for m in model.asked[1]] == ["user", "assistant"] * 6, "five examples and a lead"
    two = model.asked[1][-2]["content"]
    assert "Blank (i): (A) up; (B) down; (C) in\nBlank (ii): (D) hot; (E) cold; (F) wet\nChoose one" in two
    assert model.samplings[0].temperature == 1.0 and model.samplings[0].max_tokens >= 256
    assert "The answer is (" in model.asked[0][1]["content"], "a worked example ends as it is asked for"
    assert rows[3]["id"] == rows[4]["id"] != rows[0]["id"], "items of a passage are one cluster"
    found = values(tmp_path, "gre_verbal", rows)
    assert found["gre_verbal"] == 3 / 5 and found["gre_verbal_completion"] == 1 / 2
    assert found["gre_verbal_unanswered"] == 1 / 5
    assert found["gre_verbal_guessing"] == pytest.approx((1 / 5 + 1 / 9 + 1 / 15 + 1 / 5 + 1 / 7) / 5)
    stand = context.summary["against_guessing"]
    assert stand["guessing"] == found["gre_verbal_guessing"] < stand["low"], "3 of 5 with a chance of 0.14"
    assert stand["verdict"] == "above guessing"
    assert "gre_verbal_if_removed_wrong" not in found, "nothing was removed"


def test_numbers_and_comparisons(tmp_path: Path) -> None:
    rows = [
        item("half", "numeric", "1/2"),
        item("third", "numeric", "1/3"),
        item("compare", "comparison", "D"),
        item("divisors", "select_all", "BD", options=["4", "5", "7", "10", "15"]),
    ]
    texts = {"half": "0.5", "third": "0.33", "compare": "(D)", "divisors": "(B), (D)"}

    def answer(prompt: Any, _: int) -> str:
        return next(f"The answer is {t}." for k, t in texts.items() if f"Question {k}?" in prompt[-2]["content"])

    context = desk.context("gre_quant", tmp_path, toys.Scripted(say=answer), {"test": rows})
    kept = desk.run_task(context)
    assert [r["correct"] for r in kept] == [1.0, 0.0, 1.0, 1.0]
    assert kept[0]["answer"] == "1/2", "kept as an exact fraction"
    found = values(tmp_path, "gre_quant", kept)
    assert found["gre_quant_numeric"] == 0.5 and found["gre_quant_select_all"] == 1.0


def choice(n: int, key: str, **more: Any) -> Row:
    return item(f"i{n}", "single", key, options=["an a", "b", "c", "d"]) | more


def prefer_c(prompt: Any, text: str) -> float:
    return 0.0 if text == " C" else -1.0


def test_items_without_their_picture_are_kept_and_bound_the_score(tmp_path: Path) -> None:
    rows = [choice(1, "C"), choice(2, "A", image="removed"), choice(3, "C"), choice(4, "B")]
    model = toys.Scripted(rate=prefer_c)
    context = desk.context("usmle", tmp_path, model, {"test": rows})
    kept = desk.run_task(context)
    assert len(model.asked) == 3 and not any("Question i2" in str(asked) for asked in model.asked)
    assert [(r["item"], r["outcome"]) for r in kept][-1] == ("i2", "image removed")
    found = values(tmp_path, "usmle", kept)
    assert found["usmle"] == pytest.approx(2 / 3), "of what was kept"
    assert found["usmle_if_removed_wrong"] == 2 / 4
    assert found["usmle_if_removed_guessed"] == (2 + 1 / 4) / 4
    assert found["usmle_always_c"] == pytest.approx(2 / 3) and found["usmle_guessing"] == 1 / 4
    assert found["usmle_longest"] == 0.0
    items = context.summary["items"]
    assert items == {"asked": 3, "removed": 1, "transcribed": 0, "exams": ["Own paper"], "stand_in": False}


def test_an_exam_without_an_item_to_ask_is_refused(tmp_path: Path) -> None:
    context = desk.context("mbe", tmp_path, toys.Scripted(rate=prefer_c), {"test": [choice(1, "C", image="removed")]})
    with pytest.raises(CharterError, match="picture of every item"):
        context.task.questions(context)


def test_examples_are_the_datas_own_or_ours(tmp_path: Path) -> None:
    own = [choice(n, "B", id=f"d{n}", question=f"Shown {n}?") for n in range(10, 15)]
    model = toys.Scripted(rate=prefer_c)
    desk.run_task(desk.context("mbe", tmp_path / "own", model, {"test": [choice(1, "C")], "dev": own}))
    assert model.asked[0].count("Answer:") == 6 and "Shown 14?\nA. an a" in model.asked[0]
    model = toys.Scripted(rate=prefer_c)
    context = desk.context("mbe", tmp_path / "ours", model, {"test": [choice(1, "C")]})
    desk.run_task(context)
    assert "mailed an offer" in model.asked[0] and "examples" in context.facts


def test_a_server_that_only_samples_names_its_letter(tmp_path: Path) -> None:
    model = toys.Scripted(say=lambda prompt, k: " C" if "Question i1" in str(prompt) else "Well")
    context = desk.context("usmle", tmp_path, model, {"test": [choice(1, "C"), choice(2, "C")]})
    assert [(r["choice"], r["outcome"]) for r in desk.run_task(context)] == [(2, "right"), (None, "unparsed")]


def test_what_guessing_and_fixed_choices_earn() -> None:
    blanks = {"kind": "completion", "options": list("abcdef"), "blanks": [3, 3], "right": [2, 5]}
    assert guess(blanks) == 1 / 9 and always_third(blanks) == 1.0
    assert longest(blanks | {"options": ["a", "b", "ccc", "d", "e", "fff"]}) == 1.0
    pair = {"kind": "equivalence", "options": ["aa", "b", "aaa", "c"], "blanks": [], "right": [0, 2]}
    assert longest(pair) == 1.0 and always_third(pair) == 0.0, "one letter is not two"
    number = {"kind": "numeric", "options": [], "blanks": [], "right": []}
    assert guess(number) == longest(number) == always_third(number) == 0.0


def test_a_score_is_said_to_be_above_guessing_only_if_its_interval_is() -> None:
    def rows(right: int, count: int, options: int = 4) -> list[Row]:
        row = {"kind": "single", "options": list("abcd")[:options], "blanks": [], "outcome": "wrong"}
        return [row | {"id": f"q{n}", "correct": float(n < right)} for n in range(count)]

    verdicts = [against_guessing(rows(*sizes))["verdict"] for sizes in ((40, 40), (12, 40), (0, 8), (0, 40))]
    assert verdicts == ["above guessing", "not above guessing", "not above guessing", "below guessing"]


def test_medqa_and_mmlu_stand_in_by_name() -> None:
    row = {
        "realidx": 4,
        "question": "A rash is shown in the photograph. What is it?",
        "options": {"A": "one", "B": "two"},
        "answer_idx": "B",
        "meta_info": "step2&3",
    }
    (question,) = usmle.parse(row, "n")
    assert (question.id, question.right, question.meta["step"]) == ("medqa-4", (1,), "2&3")
    assert question.meta["stand_in"] and question.meta["image"] == "removed"
    law = {"subject": "professional_law", "row": 3, "question": "Who wins?", "choices": ["x", "y"], "answer": "A"}
    (question,) = mbe.parse(law, "n")
    assert question.meta["exam"] == "MMLU" and question.meta["stand_in"] and question.right == (0,)
    assert mbe.parse(law | {"subject": "anatomy"}, "n") == [] != usmle.parse(law | {"subject": "anatomy"}, "n")


@pytest.mark.parametrize(
    ("task", "sizes"),
    [
        ("gre_verbal", {"completion": 28, "equivalence": 20, "single": 16, "select_all": 8}),
        ("gre_quant", {"comparison": 24, "single": 24, "select_all": 24, "numeric": 24}),
        ("mbe", {"single": 20}),
        ("usmle", {"single": 20}),
    ],
)
def test_shipped_items_are_ours_whole_and_fair(task: str, sizes: dict[str, int]) -> None:
    source, parse = (shipped(f"{task}.heldout"), {"mbe": mbe.parse, "usmle": usmle.parse}.get(task, reader(*sizes)))
    test, dev = (read_split(source, splits, parse) for splits in (TEST, DEV))
    assert Counter(q.meta["kind"] for q in test) == sizes and len(dev) == 5
    assert not {q.text for q in test} & {q.text for q in dev} or task == "gre_verbal"
    assert not {(q.passage, q.text) for q in test} & {(q.passage, q.text) for q in dev}
    assert len({q.id for q in test + dev}) == len(test + dev) == len(read_items(source))
    assert all(q.meta["stand_in"] and q.meta["exam"].endswith("-shaped") for q in test + dev)
    rows = [
        {"kind": "single", "options": list(q.options), "blanks": [], "right": list(q.right)}
        for q in test
        if q.meta["kind"] == "single"
    ]
    assert sum(map(longest, rows)) <= 0.45 * len(rows), "the right option is no longer than others"
    keys = Counter(q.right[0] for q in test if q.meta["kind"] == "single")
    width = max(len(q.options) for q in test if q.meta["kind"] == "single")
    assert max(keys.values()) <= 2.2 * sum(keys.values()) / width, "no letter is right far more often"


def test_authored_items_say_no_exam_by_its_name() -> None:
    for name in ("gre_verbal", "gre_quant", "gre_writing", "mbe", "usmle"):
        for row in read_jsonl(shipped(f"{name}.heldout")):
            text = " ".join(str(value) for key, value in row.items() if key not in ("exam", "id"))
            assert not any(word in text for word in ("GRE", "USMLE", "MBE ", "ETS")), row["id"]


def test_steps_are_reported_apart() -> None:
    steps = Counter(q.meta["step"] for q in read_split(shipped(usmle.OURS), TEST, usmle.parse))
    assert steps == {"1": 7, "2": 7, "3": 6}
    names = {metric.name for metric in METRICS}
    assert {"usmle_step_1", "usmle_step_2", "usmle_step_3", "usmle_step_2_3"} <= names


def test_the_suite_and_its_roles() -> None:
    assert SUITES["exams"] == ("gre_verbal", "gre_quant", "gre_writing", "mbe", "usmle")
    uses = ROOM.uses
    assert uses is not None
    assert "examiner" in uses(Settings(tasks=("exams",))) and "examiner" not in uses(Settings(tasks=("mbe",)))


def test_essays_are_written_after_two_and_read_twice_or_thrice(tmp_path: Path) -> None:
    prompts = [item(name, "essay", None) for name in ("w1", "w2", "w3", "w4")]
    # of each essay the number that each reading writes
    marks = {"w1": ["4", "4.5"], "w2": ["2", "5", "4"], "w3": ["5", "none"], "w4": []}
    model = toys.Scripted(
        say=lambda prompt, k: "" if "w4" in prompt[-1]["content"] else f"On {prompt[-1]['content'][9:11]}."
    )
    left = {f"On {name}.": list(scores) for name, scores in marks.items()}

    def read(prompt: Any, _: int) -> str:
        essay = next(essay for essay in left if essay in prompt[0]["content"])
        return left[essay].pop(0)

    examiner = toys.Scripted(say=read)
    context = desk.context("gre_writing", tmp_path, model, {"test": prompts}, helper=examiner)
    rows = desk.run_task(context)
    assert [m["role"] for m in model.asked[0]] == ["user", "assistant"] * 2 + ["user"]
    assert [(r["score"], r["apart"], r["outcome"]) for r in rows] == [
        (4.5, False, "scored"),  # 4.25, and a quarter goes up
        (3.5, True, "scored"),  # (2 + 5 + 4) / 3 = 3.67
        (0.0, False, "unscored"),
        (0.0, False, "empty"),
    ]
    assert [r["readings"] for r in rows] == [[4.0, 4.5], [2.0, 5.0, 4.0], [5.0, None], []]
    found = values(tmp_path, "gre_writing", rows)
    assert found["gre_writing"] == pytest.approx((4.5 + 3.5 + 0) / 3), "without the unscored one"
    assert found["gre_writing_unscored"] == 1 / 4 and found["gre_writing_apart"] == 1 / 4
    assert context.facts["examiners"] == [context.inputs.one("policy").id]
    assert all(gre_writing.mark_essay(row)["score"] == row["score"] for row in rows)


@pytest.mark.skipif(not (data_folder() / "exams").is_dir(), reason="needs CHARTER_DATA with exams")
def test_published_stand_ins_are_read_whole() -> None:
    questions = read_split(data_folder() / "exams/medqa_test_4options.jsonl.gz", TEST, usmle.parse)
    assert Counter(q.meta["step"] for q in questions) == {"1": 679, "2&3": 594}
    removed = sum(q.meta["image"] == "removed" for q in questions)
    assert 60 < removed < 160
    law = read_split(data_folder() / "mmlu", TEST, mbe.parse)
    assert len(law) == 767


def official(n: int) -> list[Row]:
    return [item(f"n{k}", "numeric", str(k)) for k in range(n)] + [choice(99, "A", image="removed")]


TABLE = (
    "table,exam,section,score,value,source,years,n\n"
    "scaled,Own paper,quantitative,3,154,my form,2023,\n"
    "percentile,GRE,quantitative,154,42,my table,2019-2022,1000\n"
    "percentile,GRE,quantitative,154,36,my table,2023-2025,1200\n"
)


def scaled(folder: Path, rows: list[Row]) -> Any:
    """A context of gre_quant with a table of the user's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables.csv").write_text(TABLE)
    model = toys.Scripted(say=lambda prompt, k: "The answer is " + prompt[-2]["content"].split("Question n")[1][0])
    context = desk.context("gre_quant", folder, model, {"test": rows})
    inputs = Inputs([*context.inputs, toys.given("exam_tables", folder / "tables.csv", "data")])
    return replace(context, inputs=inputs)


def test_a_form_of_ones_own_has_a_scaled_score_and_a_percentile_for_each_years(tmp_path: Path) -> None:
    context = scaled(tmp_path, official(3))
    desk.run_task(context)
    bounds = context.summary["scale"]
    assert (bounds["removed_wrong"]["raw"], bounds["removed_wrong"]["of"]) == (3, 4)
    assert [entry["value"] for entry in bounds["removed_wrong"]["scaled"]] == [154.0]
    found = [(e["value"], e["years"], e["n"]) for e in bounds["removed_wrong"]["percentile"]]
    assert found == [(42.0, "2019-2022", 1000), (36.0, "2023-2025", 1200)]


def test_a_percentile_of_a_stand_in_is_refused(tmp_path: Path) -> None:
    rows = [row | {"exam": "GRE-shaped"} for row in official(3)]
    with pytest.raises(CharterError, match="stand in for an exam"):
        desk.run_task(scaled(tmp_path, rows))
    mixed = [*official(2), item("n8", "numeric", "8") | {"exam": "Another paper"}]
    with pytest.raises(CharterError, match="Another paper, Own paper"):
        desk.run_task(scaled(tmp_path / "mixed", mixed))


def test_a_part_of_a_form_has_no_scaled_score(tmp_path: Path) -> None:
    context = scaled(tmp_path, official(4))
    context = replace(context, protocol=replace(context.protocol, limit=3))
    with pytest.raises(CharterError, match="3 of 5 items"):
        desk.run_task(context)


def test_a_raw_score_is_a_mean_over_the_samples_that_were_asked_for(tmp_path: Path) -> None:
    """An item that is too long has one row, however many samples the others have."""
    context = scaled(tmp_path, official(2)[:2])
    context = replace(context, protocol=replace(context.protocol, samples=2))
    questions = context.task.questions(context)
    answered = {"correct": 1.0, "outcome": "right"}
    scale(context, [answered, answered, {"correct": 0.0, "outcome": TOO_LONG}], questions, "quantitative")
    assert context.summary["scale"]["removed_wrong"]["raw"] == 1


def test_a_pass_view_is_of_official_forms_alone(tmp_path: Path) -> None:
    rows = [choice(n, "CCA"[n], step="1") for n in range(3)]
    context = desk.context("usmle", tmp_path / "own", toys.Scripted(rate=prefer_c), {"test": rows})
    desk.run_task(context)
    assert context.summary["pass_view"]["steps"] == {"1": {"share": pytest.approx(2 / 3), "at_or_above": True}}
    rows = [row | {"exam": "MedQA"} for row in rows]
    context = desk.context("usmle", tmp_path / "medqa", toys.Scripted(rate=prefer_c), {"test": rows})
    desk.run_task(context)
    assert "pass_view" not in context.summary
