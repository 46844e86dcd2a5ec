"""TruthfulQA: the helper never receives the question, the options are shuffled, MC1 and MC2 by hand."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections import Counter
from pathlib import Path
from typing import Any

import desk
import pytest

import toys
from charter.ground.measure.reporting import compute_metrics
from charter.ground.settings.places import data_folder
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl
from charter.rooms.evaluate import mapping
from charter.rooms.evaluate.identity import identity
from charter.rooms.evaluate.mapping import Mapping, find_closest
from charter.rooms.evaluate.reading import TEST, read_split
from charter.rooms.evaluate.tasks import truthfulqa

FLAT = {
    "question": "Is the planet Quorl flat?",
    "mc1_targets": {"It is round.": 1, "It is a disc.": 0, "It is a cube.": 0},
    "mc2_targets": {"It is round.": 1, "It has the shape of a ball.": 1, "It is a disc.": 0, "It is a cube.": 0},
}
TALL = {
    "question": "Are zibbles taller than vorps?",
    "mc1_targets": {"They are shorter.": 1, "They are taller.": 0},
    "mc2_targets": {"They are shorter.": 1, "No.": 1, "They are taller.": 0},
}
MAPPINGS = 30


def helping(prompt: Any, text: str) -> float:
    """Maps by words: the option with the most words of the answer."""
    lines = prompt[0]["content"].split("\n")
    answer = set(next(x for x in lines if x.startswith("Answer: ")).lower().split()[1:])
    option = next(x for x in lines if x.startswith(f"{text.strip()})"))
    return float(len(answer & set(option.lower().split())))


def free(rows: list[dict[str, Any]], mode: str = "free") -> list[dict[str, Any]]:
    return [r for r in rows if r["mode"] == mode]


def test_what_reaches_the_helper_has_no_field_for_the_question() -> None:
    assert [f.name for f in dataclasses.fields(Mapping)] == ["answer", "options"]
    with pytest.raises(TypeError):
        Mapping("a", ("b",), question="c")  # type: ignore[call-arg]
    with pytest.raises((AttributeError, TypeError)):  # frozen, and with slots: none can be hung on it
        Mapping("a", ("b",)).question = "c"  # type: ignore[attr-defined]
    assert list(inspect.signature(find_closest).parameters) == ["helper", "mappings"]
    assert "Question" not in vars(mapping) and "Query" not in vars(mapping)


def test_no_word_of_a_question_reaches_the_helper(tmp_path: Path) -> None:
    answers = {"Quorl": "It is a disc.", "zibbles": "They are shorter."}
    model = toys.Scripted(say=lambda p, k: next(a for w, a in answers.items() if w in p[0]["content"]))
    helper = toys.Scripted(rate=helping)
    rows = desk.run_task(desk.context("truthfulqa", tmp_path, model, {"mc_task": [FLAT, TALL]}, helper))
    texts = " ".join(m["content"] for prompt in helper.asked for m in prompt)
    assert len(helper.asked) == 4 + MAPPINGS + 2 and "It is a disc." in texts
    for word in ("Quorl", "planet", "flat", "zibbles", "vorps", "taller than", "Are "):
        assert word not in texts
    assert [(r["outcome"], r["mc2_correct"]) for r in free(rows)] == [("wrong", 0.0), ("right", 1.0)]


def test_each_question_stands_alone_and_is_answered_freely(tmp_path: Path) -> None:
    model = toys.Scripted(say=lambda p, k: "It is round.", rate=helping)
    context = desk.context("truthfulqa", tmp_path, model, {"mc_task": [FLAT]}, toys.Scripted(rate=helping))
    model.capabilities = frozenset({"sample"})
    rows = desk.run_task(context)
    assert model.asked == [[{"role": "user", "content": "Is the planet Quorl flat?"}]]
    assert (model.samplings[0].temperature, model.samplings[0].stops) == (1.0, ())
    (row,) = free(rows)
    assert row["options"][row["choice"]] == "It is round." and row["correct"] == 1.0
    assert not free(rows, "choice") and "left out" in identity(context)["choices"]


def test_options_are_shuffled_by_seed(tmp_path: Path) -> None:
    many = [FLAT | {"id": f"q{n}", "question": f"Is planet {n} flat?"} for n in range(40)]
    model = toys.Scripted(say=lambda p, k: "It is round.")
    helper = toys.Scripted(rate=helping)
    places = []
    for name in ("one", "two"):
        rows = desk.run_task(desk.context("truthfulqa", tmp_path / name, model, {"mc_task": many}, helper))
        places.append([r["right"][0] for r in free(rows)])
        assert all(r["correct"] == 1.0 for r in free(rows)), "found wherever it stands"
    assert places[0] == places[1] and {places[0].count(n) > 5 for n in range(3)} == {True}
    other = desk.context("truthfulqa", tmp_path / "three", model, {"mc_task": many}, helper, draw_seed=9)
    assert [r["right"][0] for r in free(desk.run_task(other))] != places[0]


def test_a_helper_that_only_samples_names_a_letter(tmp_path: Path) -> None:
    helper = toys.Scripted(say=lambda p, k: " (B), I think")
    assert find_closest(helper, [Mapping("x", ("a", "b"))]) == [1]
    assert helper.samplings[0].temperature == 0.0
    assert find_closest(toys.Scripted(say=lambda p, k: "none of them"), [Mapping("x", ("a", "b"))]) == [None]
    assert find_closest(toys.Scripted(say=lambda p, k: "(C)"), [Mapping("x", ("a", "b"))]) == [None]


def test_an_answer_that_cannot_be_mapped_is_counted(tmp_path: Path) -> None:
    answers = iter(["", "I don't know."])
    model = toys.Scripted(say=lambda p, k: next(answers))
    helper = toys.Scripted(say=lambda p, k: "neither")
    rows = free(desk.run_task(desk.context("truthfulqa", tmp_path, model, {"mc_task": [FLAT, TALL]}, helper)))
    assert [(r["outcome"], r["correct"], r["declined"]) for r in rows] == [("unparsed", 0.0, True)] * 2


def test_mc1_and_mc2_by_hand(tmp_path: Path) -> None:
    """FLAT: round 0.2, ball 0.1, disc 0.15, cube 0.05, so MC1 = 1, MC2 = 0.3 / 0.5. TALL: shorter 0.1, no 0.4, taller
    0.3: the true one that counts for MC1 is less likely than a false one, MC2 = 0.5 / 0.8."""
    p = {"It is round.": 0.2, "It has the shape of a ball.": 0.1, "It is a disc.": 0.15, "It is a cube.": 0.05}
    p |= {"They are shorter.": 0.1, "No.": 0.4, "They are taller.": 0.3}
    model = toys.Scripted(say=lambda q, k: "No.", rate=lambda q, text: math.log(p[text]))
    helper = toys.Scripted(rate=helping)
    rows = free(desk.run_task(desk.context("truthfulqa", tmp_path, model, {"mc_task": [FLAT, TALL]}, helper)), "choice")
    assert [r["mc1"] for r in rows] == [1.0, 0.0] and [r["outcome"] for r in rows] == ["right", "wrong"]
    assert [r["mc2"] for r in rows] == [pytest.approx(0.6), pytest.approx(0.625)]


def test_the_helper_is_examined_on_known_mappings(tmp_path: Path) -> None:
    model = toys.Scripted(say=lambda p, k: "It is round.")
    right = {c["answer"]: "ABCD"[c["right"]] for c in read_jsonl(shipped(truthfulqa.MAPPINGS))}

    def knows(prompt: Any, text: str) -> float:
        answer = prompt[0]["content"].split("Answer: ")[1].split("\n")[0]
        return float(text == f" ({right.get(answer, 'A')}")

    for n, (rate, share) in enumerate(((knows, 1.0), (lambda p, t: -float(ord(t[-1])), 6 / 30))):
        helper = toys.Scripted(rate=rate)
        rows = desk.run_task(desk.context("truthfulqa", tmp_path / str(n), model, {"mc_task": [FLAT]}, helper))
        examined = free(rows, "helper")[:MAPPINGS]
        assert [r["item"] for r in examined] == [f"mapping-{k:02d}" for k in range(MAPPINGS)]
        assert sum(r["correct"] for r in examined) / MAPPINGS == share


def test_known_mappings_come_from_the_sets_own_answers(tmp_path: Path) -> None:
    """A third each: the best answer, another true one that doesn't decline, a false one."""
    many = [FLAT | {"id": f"q{n}", "question": f"Is planet {n} flat?"} for n in range(30)]
    many[0] = many[0] | {"mc2_targets": {"It is round.": 1, "I have no comment.": 1, "It is a disc.": 0}}
    context = desk.context("truthfulqa", tmp_path, toys.Scripted(say=lambda p, k: ""), {"mc_task": many})
    cases = truthfulqa._known_mappings(context)
    assert len({case["id"] for case in cases}) == 30
    answers = [case["answer"] for case in cases]
    assert answers[::3] == ["It is round."] * 10
    assert set(answers[1::3]) <= {"It has the shape of a ball.", "It is round."} and "I have no comment." not in answers
    assert set(answers[2::3]) == {"It is a disc.", "It is a cube."}
    for case in cases:
        mapped = case["options"][case["right"]]
        assert mapped == (case["answer"] if "ball" not in case["answer"] else "It is round.")
    assert cases == truthfulqa._known_mappings(context), "seeded"


@pytest.mark.parametrize(("right", "of", "given"), [(9, 10, True), (89, 100, False), (0, 0, False)])
def test_no_mapped_score_by_a_helper_that_failed(right: int, of: int, given: bool, tmp_path: Path) -> None:
    """Two of three free answers are right; the score is there only if the helper passed."""
    origin = {"type": "adversarial", "outcome": "right", "declined": False, "mc2_correct": 1.0}
    rows = [origin | {"mode": "free", "id": f"q{n}", "correct": float(n < 2)} for n in range(3)]
    choice = {"mode": "choice", "id": "q0", "type": "", "mc1": 1.0, "mc2": 0.5, "mc3": 0.0}
    rows.append(choice)
    rows += [{"mode": "helper", "id": f"m{n}", "correct": float(n < right)} for n in range(of)]
    (tmp_path / "samples").mkdir()
    toys.rows_file(tmp_path / "samples/truthfulqa.jsonl", rows)
    reported = compute_metrics(tmp_path, truthfulqa.TASK.numbers)
    found = {score.name: score.value for score in reported.scores}
    mapped = {"truthfulqa", "truthfulqa_mc2_mapped", "truthfulqa_adversarial", "truthfulqa_mc2_mapped_adversarial"}
    assert mapped & found.keys() == (mapped if given else set())
    assert {"truthfulqa_mc1", "truthfulqa_mc2", "truthfulqa_mc3", "truthfulqa_declined"} <= found.keys()
    assert not given or (found["truthfulqa"], found["truthfulqa_adversarial"]) == (2 / 3, 2 / 3)


@pytest.mark.parametrize("right", [9, 8])
def test_scores_by_category(right: int) -> None:
    """MC1 of Law is 1 of 2. Mapped scores are there only if the helper mapped nine tenths of ten cases."""
    free = [("Law", 1.0), ("Law", 1.0), ("Fiction", 0.0)]
    choice = [("Law", 1.0), ("Law", 0.0), ("Fiction", 1.0)]
    rows: list[dict[str, Any]] = [
        {"mode": "helper", "id": f"h{n}", "group": "", "correct": float(n < right)} for n in range(10)
    ]
    rows += [
        {"mode": "free", "id": f"q{n}", "group": group, "correct": hit, "mc2_correct": hit}
        for n, (group, hit) in enumerate(free)
    ]
    rows += [
        {"mode": "choice", "id": f"q{n}", "group": group, "mc1": hit, "mc2": hit, "mc3": hit}
        for n, (group, hit) in enumerate(choice)
    ]
    fiction, law = truthfulqa.by_category(rows)
    assert (fiction["group"], law["group"], law["truthfulqa_mc1"]["value"]) == ("Fiction", "Law", 0.5)
    assert law["truthfulqa_mc1"]["n"] == 2 and fiction["truthfulqa_mc3"]["value"] == 1.0
    assert ("truthfulqa" in law) == (right == 9)


def test_mc3_counts_the_true_options_above_every_false_one() -> None:
    """True: 0.3, 0.1 and 0.2, false: 0.15 and 0.05: two of three are above."""
    logs = {k: math.log(p) for k, p in {"a": 0.3, "b": 0.1, "c": 0.2, "x": 0.15, "y": 0.05}.items()}
    second = [["a", True], ["b", True], ["c", True], ["x", False], ["y", False]]
    marks = truthfulqa.mark_options(
        {"logprobs": logs, "mc1_options": [["b", True], ["x", False]], "mc2_options": second}
    )
    assert (marks["mc1"], marks["mc3"]) == (0.0, pytest.approx(2 / 3)) and marks["mc2"] == pytest.approx(0.6 / 0.8)


def test_a_stopped_run_goes_on_with_the_very_same_rows(tmp_path: Path) -> None:
    model = toys.Scripted(say=lambda p, k: "It is a disc.", rate=lambda p, t: -float(len(t)))
    helper = toys.Scripted(rate=helping)
    whole = desk.context("truthfulqa", tmp_path / "whole", model, {"mc_task": [FLAT, TALL]}, helper, chunk=1)
    rows = desk.run_task(whole)
    cut = desk.context("truthfulqa", tmp_path / "cut", model, {"mc_task": [FLAT, TALL]}, helper, chunk=1)
    stopping = toys.workspace(tmp_path / "cut" / "out", progress=toys.StoppingProgress(1))
    with pytest.raises(toys.Interrupted):
        desk.run_task(dataclasses.replace(cut, out=stopping))
    before = len(model.samplings)
    assert desk.run_task(cut) == rows and len(model.samplings) == before + 1, "one of two questions was left"


def test_the_layouts_of_the_data(tmp_path: Path) -> None:
    hub = {"question": FLAT["question"]} | {
        key: {"choices": list(FLAT[key]), "labels": list(FLAT[key].values())}  # type: ignore[attr-defined]
        for key in ("mc1_targets", "mc2_targets")
    }
    (plain,), (hubs,) = truthfulqa.parse(FLAT, "x"), truthfulqa.parse(hub, "x")
    assert plain == hubs
    csv = {
        "Category": "Astronomy",
        "Question": FLAT["question"],
        "Best Answer": "It is round.",
        "Correct Answers": "It is round.; It has the shape of a ball.",
        "Incorrect Answers": "It is a disc.; It is a cube.;",
    }
    (question,) = truthfulqa.parse(csv, "x")
    assert (question.meta["mc1"], question.meta["mc2"], question.group) == (
        plain.meta["mc1"],
        plain.meta["mc2"],
        "Astronomy",
    )


def test_categories_come_from_the_csv_beside_it(tmp_path: Path) -> None:
    model = toys.Scripted(say=lambda p, k: "It is round.")
    context = desk.context("truthfulqa", tmp_path, model, {"mc_task": [FLAT, TALL]}, toys.Scripted(rate=helping))
    text = "\ufeffType,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    text += "Adversarial,Astronomy,Is the planet Quorl flat?,It is round.,It is round.,It is a disc.,x\n"
    (context.source / "TruthfulQA.csv").write_text(text, "utf-8")
    assert [(r["question"], r["group"], r["type"]) for r in free(desk.run_task(context))] == [
        ("Is the planet Quorl flat?", "Astronomy", "adversarial"),
        ("Are zibbles taller than vorps?", "", ""),
    ]


def test_the_published_set_is_read_whole() -> None:
    folder = data_folder() / "truthfulqa"
    if not folder.is_dir():
        pytest.skip("CHARTER_DATA has no truthfulqa")
    questions = read_split(folder, TEST, truthfulqa.parse)
    without_csv = [q for q in questions if not q.meta["csv"]]
    assert len(without_csv) == 817 and all(sum(true for _, true in q.meta["mc1"]) == 1 for q in without_csv)
    groups = {q.text: q.group for q in questions if q.group}
    assert sum(q.text in groups for q in without_csv) == 817 and len(set(groups.values())) == 38
    kinds = {q.text: q.meta["type"] for q in questions if q.meta["csv"]}
    assert Counter(kinds[q.text] for q in without_csv) == {"adversarial": 437, "non-adversarial": 380}
    ours = {q.text for q in read_split(shipped("truthfulqa.heldout"), TEST, truthfulqa.parse)}
    assert not ours & {q.text for q in questions}


def test_the_shipped_sets_can_be_asked() -> None:
    questions = read_split(shipped("truthfulqa.heldout"), TEST, truthfulqa.parse)
    assert len({q.id for q in questions}) == len(questions) == 32 and all(q.group for q in questions)
    assert all(sum(true for _, true in q.meta["mc1"]) == 1 for q in questions)
    cases = read_jsonl(shipped(truthfulqa.MAPPINGS))
    assert len({c["id"] for c in cases}) == len(cases) == MAPPINGS
    assert all(0 <= c["right"] < len(c["options"]) <= 4 for c in cases)
