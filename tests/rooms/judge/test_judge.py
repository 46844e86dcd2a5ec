"""Judges: verdicts from both orders, habits told from judgement, agreement with people, votes for Elo."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.progress import SilentProgress
from charter.ground.artifact.store import read_manifest
from charter.ground.measure.elo import standings
from charter.ground.measure.reporting import read_reported
from charter.ground.settings.execution import Execution
from charter.ground.settings.places import data_folder
from charter.ground.settings.recipe import Recipe
from charter.ground.settings.sources import shipped
from charter.rooms.judge import run as room
from charter.rooms.judge.metrics import OF_JUDGES, flips, majority, mark, winner
from charter.rooms.judge.pairs import RUBRICS, parse, read_file
from charter.rooms.judge.settings import Settings
from charter.rooms.judge.votes import votes_of
from charter.runner.execute import execute
from charter.runner.plan import make_plan
from charter.runner.verify import artifact_problems

Row = dict[str, Any]
# Twelve pairs: a is better in the even ones. The better reply is the longer one in the first eight.
PAIRS: list[Row] = [
    {
        "id": f"p{n}",
        "prompt": f"Question {n}?",
        "reply_a": ("good" if n % 2 == 0 else "poor") + " words" * (2 if (n % 2 == 0) == (n < 8) else 1),
        "reply_b": ("good" if n % 2 else "poor") + " words" * (2 if (n % 2 == 1) == (n < 8) else 1),
        "model_a": "fine" if n % 2 == 0 else "weak",
        "model_b": "weak" if n % 2 == 0 else "fine",
        "better": "a" if n % 2 == 0 else "b",
    }
    for n in range(12)
]


def shown(prompt: Any) -> dict[str, str]:
    """The replies that a judge sees, by label, in their order."""
    lines = prompt[-2]["content"].rpartition("Options:\n")[2].split("\n")
    return {line[1:4]: line.partition("[[[")[2].partition("]]]")[0] for line in lines}


def knows(prompt: Any, text: str) -> float:
    return 0.0 if shown(prompt)[text.strip()].startswith("good") else -2.0


def takes_first(prompt: Any, text: str) -> float:
    return 0.0 if text.strip() == next(iter(shown(prompt))) else -2.0


def takes_letter(prompt: Any, text: str) -> float:
    return 0.0 if text.strip() == "(A)" else -2.0


def takes_longer(prompt: Any, text: str) -> float:
    return float(len(shown(prompt)[text.strip()]))


def by_wording(prompt: Any, text: str) -> float:
    good = shown(prompt)[text.strip()].startswith("good")
    return 0.0 if good == (RUBRICS["helpful"][0] in prompt[-2]["content"]) else -2.0


def judged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, judges: dict[str, Any], rows: list[Row] = PAIRS, **settings: Any
) -> tuple[Path, dict[str, float]]:
    """The report of scripted judges on a file of pairs, and its numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = [Input("judges", name, "assistant", None, None, name, name) for name in judges]
    inputs += [toys.given("pairs", toys.rows_file(folder / "pairs.jsonl", rows), "data")]
    inputs += [toys.given("shots", shipped("comparison_shots"))]
    monkeypatch.setattr(room, "open_assistant", lambda source, *_, **__: judges[source.name])
    out = toys.workspace(folder / "out")
    room.run(Settings(**settings), Inputs(inputs), out)
    return out.path, {metric.name: metric.value for metric in out.metrics}


@pytest.mark.parametrize(
    ("orders", "expected", "flipped"),
    [
        ((0.9, 0.2), "a", False),
        ((0.4, 0.51), "b", False),
        ((0.9, 0.8), "tie", True),
        ((0.1, 0.2), "tie", True),
        ((0.5, 0.2), "tie", False),
    ],
)
def test_a_verdict_needs_both_orders(orders: tuple[float, float], expected: str, flipped: bool) -> None:
    assert (winner(orders), flips(orders)) == (expected, flipped)


def test_the_majority_of_people() -> None:
    assert [majority(v) for v in ((2, 1, 0), (1, 2, 0), (0, 1, 2), (1, 1, 1), (1, 0, 0))] == [
        "a",
        "b",
        "tie",
        "tie",
        "a",
    ]


def test_habits_are_told_from_judgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected: dict[Any, dict[str, float]] = {
        knows: {
            "judge_agreement": 1,
            "judge_kappa": 1,
            "judge_flipped": 0,
            "judge_reworded": 0,
            "judge_longer": 8 / 12,
        },
        takes_first: {"judge_agreement": 0.5, "judge_kappa": 0, "judge_flipped": 1, "judge_relabelled": 0},
        takes_letter: {"judge_agreement": 0.5, "judge_flipped": 1, "judge_reworded": 0},
        takes_longer: {"judge_agreement": 8 / 12, "judge_longer": 1, "judge_flipped": 0},
        by_wording: {"judge_agreement": 1, "judge_reworded": 1, "judge_relabelled": 0},
    }
    for judge, numbers in expected.items():
        name = judge.__name__
        _, values = judged(tmp_path / name, monkeypatch, {"j": toys.Scripted(rate=judge)})
        assert {key: values[key] for key in numbers} == pytest.approx(numbers), name
        assert values["rule_longer"] == pytest.approx(8 / 12) and values["rule_first"] == 0.5
        on_first = {"takes_first": 0.88, "takes_letter": 0.88}.get(name, 0.5)
        assert values["judge_on_first"] == pytest.approx(on_first, abs=0.01), name


def test_letters_are_exchanged_and_the_order_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toys.Scripted(rate=knows)
    judged(tmp_path, monkeypatch, {"j": model}, PAIRS[:1], checked=1)
    views = [shown(prompt) for prompt in model.asked]
    a, b = PAIRS[0]["reply_a"], PAIRS[0]["reply_b"]
    assert views[:2] == [{"(A)": a, "(B)": b}, {"(A)": b, "(B)": a}]
    assert [list(view.items()) for view in views[2:4]] == [[("(B)", a), ("(A)", b)], [("(B)", b), ("(A)", a)]]
    assert [RUBRICS["helpful"][1] in prompt[-2]["content"] for prompt in model.asked] == [False] * 4 + [True] * 2


def test_votes_become_elo_and_say_whose_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judges = {"long": takes_longer, "lazy": takes_first, "wise": knows}
    folder, values = judged(tmp_path, monkeypatch, {name: toys.Scripted(rate=rate) for name, rate in judges.items()})
    votes = read_objects(folder / "votes.jsonl")
    counted = Counter((v["source"], v["winner"]) for v in votes)
    assert counted["ai:wise", "a"] == counted["ai:wise", "b"] == 6 and counted["ai:lazy", "tie"] == 12
    fits = standings(votes, "weak")
    elo = {r.source: {s.model: s.elo for s in r.standings} for r in fits.values()}
    # 8 wins of 12: 400 log10(2)
    assert elo["ai:long"]["fine"] == pytest.approx(120.4, abs=0.1) and elo["ai:long"]["weak"] == 0
    # nothing but ties, and nothing but wins, determine no Elo
    assert elo["ai:lazy"]["fine"] is None and elo["ai:wise"]["fine"] is None
    assert values["judges_agreement"] == 0 and values["second_judge_flipped"] == 1


def test_a_judge_that_only_samples_votes_in_both_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def say(prompt: Any, k: int) -> str:
        letter = next(label for label, reply in shown(prompt).items() if reply.startswith("good"))
        return letter if k < 3 else "Hm."

    _, values = judged(tmp_path, monkeypatch, {"j": toys.Scripted(say=say)}, votes=4)
    assert (values["judge_agreement"], values["judge_flipped"], values["judge_relabelled"]) == (1, 0, 0)


def test_marks_without_people_or_a_verdict() -> None:
    row = {"orders": None, "relabelled": None, "reworded": None, "people": [1, 1, 0], "length_a": 3, "length_b": 2}
    marks = mark(row)
    assert marks["people_say"] == "tie" and marks["winner"] is marks["agrees"] is marks["longer_right"] is None
    assert votes_of([row | marks | {"model_a": "x", "model_b": "y"}]) == []


def test_stages_are_compared_by_their_replies_to_one_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [Input("judges", "j", "assistant", None, None, "j", "j")]
    for stage, word in (("start", "poor"), ("taught", "good"), ("RL", "good too")):
        folder = tmp_path / stage
        (folder / "samples").mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps({"stage": stage}))
        for file in ("helpful", "harmlessness"):
            rows = [
                {"id": f"q{n}", "sample": k, "messages": [{"role": "user", "content": f"{file} {n}"}], "reply": word}
                for n in range(3)
                for k in range(2)
            ]
            toys.rows_file(folder / f"samples/{file}.jsonl", rows)
        inputs.append(Input("reports", stage, "report", None, folder, str(folder), stage))
    inputs.append(toys.given("shots", shipped("comparison_shots")))
    monkeypatch.setattr(room, "open_assistant", lambda *_, **__: toys.Scripted(rate=knows))
    out = toys.workspace(tmp_path / "out")
    room.run(Settings(checked=0), Inputs(inputs), out)
    votes = read_objects(out.path / "votes.jsonl")
    assert len(votes) == 3 * 3 * 2 and {v["axis"] for v in votes} == {"helpful", "harmless"}
    against_start = [v for v in votes if "start" in (v["model_a"], v["model_b"])]
    assert {v["winner"] for v in against_start} == {"b"} and len(against_start) == 12
    assert {v["winner"] for v in votes if v not in against_start} == {"tie"}
    assert len({v["prompt"] for v in votes}) == 6 and not read_objects(out.path / "samples/people.jsonl")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "x", "reply_a": "y"}, "it has no reply_b"),
        ({"reply_a": "y", "reply_b": "z"}, "it has no prompt"),
        (PAIRS[0] | {"better": "c"}, "the vote 'c' is none of a, b, tie"),
        ({"output_1": "x", "output_2": "y", "label": 3, "subset": "n", "input": "i"}, "the label is 3"),
        (
            {"cmp_key": "onemodel", "annotator1": 1, "annotator2": 1, "annotator3": 1},
            "cmp_key 'onemodel' doesn't name two models",
        ),
    ],
)
def test_a_broken_pair_is_named(tmp_path: Path, row: Row, why: str) -> None:
    path = toys.rows_file(tmp_path / "pairs.jsonl", [PAIRS[0], row])
    with pytest.raises(CharterError, match=rf"pairs\.jsonl:2: not a pair of replies \({why}"):
        read_file(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "p99", "axis": "polite"}, "a pair has the axis 'polite', which has no rubric; give rubrics.polite"),
        ({"id": "p0"}, "the pairs: the id 'p0' occurs more than once"),
    ],
)
def test_a_pair_that_no_judge_can_be_asked_about_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row, message: str
) -> None:
    with pytest.raises(CharterError, match=message):
        judged(tmp_path, monkeypatch, {"judge": toys.Scripted()}, [*PAIRS, PAIRS[0] | row])


def test_the_better_reply_of_a_comparison_has_no_place_of_its_own() -> None:
    pairs = [parse(toys.comparison(f"c{n}", "Hm?", "good", "poor"), "x") for n in range(200)]
    firsts = sum(pair.replies[0] == "good" for pair in pairs)
    assert 70 < firsts < 130 and all(
        pair.people == ((1, 0, 0) if pair.replies[0] == "good" else (0, 1, 0)) for pair in pairs
    )


def test_people_of_the_published_sets_are_read() -> None:
    folder = data_folder() / "pairwise"
    if not folder.is_dir():
        pytest.skip("CHARTER_DATA has no pairwise")
    panda = read_file(folder / "pandalm_human_999.jsonl.gz")
    llmbar = read_file(folder / "llmbar_and_processed.jsonl.gz")
    assert len(panda) == 999 and {sum(pair.people) for pair in panda} == {3}
    assert Counter(pair.group for pair in llmbar) == {
        "llmbar_adversarial": 319,
        "llmbar_natural": 100,
        "llmbar_processed": 466,
    }
    # the published order of the five models, by votes of the majority of people
    votes = [{"model_a": p.models[0], "model_b": p.models[1], "winner": majority(p.people)} for p in panda if p.models]
    (ranking,) = standings(votes).values()
    assert [s.model for s in sorted(ranking.standings, key=lambda s: -(s.elo or 0.0))] == [
        "llama-7b",
        "pythia-6.9b",
        "bloom-7b",
        "opt-7b",
        "cerebras-gpt-6.7B",
    ]


def test_a_run_is_verified_and_what_was_changed_is_found(checkpoints: Path, tmp_path: Path) -> None:
    """A real model, small: its numbers follow from its rows."""
    rows = toys.rows_file(tmp_path / "pairs.jsonl", PAIRS)
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "steps": [
                {
                    "name": "asked",
                    "room": "judge",
                    "from": {"judges": [str(checkpoints / "policy")], "pairs": [str(rows)]},
                    "settings": {"checked": 4, "chunk": 5},
                }
            ],
        }
    )
    execute(make_plan(recipe, tmp_path, tmp_path / "run", Execution("cpu", "float32")), SilentProgress())
    folder = tmp_path / "run/asked"
    manifest = read_manifest(folder)
    assert artifact_problems(folder, manifest) == []
    assert {"judge_agreement", "rule_longer", "judge_flipped"} <= read_reported(folder).metrics.keys()
    path = folder / "votes.jsonl"
    votes = read_objects(path)
    votes[0]["winner"] = "b" if votes[0]["winner"] != "b" else "a"
    path.write_text("".join(json.dumps(v) + "\n" for v in votes))
    assert any("votes.jsonl isn't what" in line for line in artifact_problems(folder, manifest))


def test_stopped_anywhere_and_resumed_it_is_the_same(checkpoints: Path, tmp_path: Path) -> None:
    rows = toys.rows_file(tmp_path / "pairs.jsonl", PAIRS)
    entries = [toys.policy(checkpoints / "policy", "judges"), toys.given("pairs", rows, "data")]
    inputs = Inputs([*entries, toys.given("shots", shipped("comparison_shots"))])
    settings = Settings(checked=4, chunk=3)
    whole = toys.workspace(tmp_path / "whole")
    room.run(settings, inputs, whole)
    stops = 0
    while True:
        out = toys.workspace(tmp_path / "stopped", progress=toys.StoppingProgress(1 + stops % 2))
        try:
            room.run(settings, inputs, out)
            break
        except toys.Interrupted:
            stops += 1
    assert stops > 4 and toys.files_of(whole.path) == toys.files_of(out.path)


def test_numbers_have_names_of_their_own() -> None:
    names = [metric.name for metric in OF_JUDGES]
    assert len(names) == len(set(names)) and all(metric.label and metric.meaning for metric in OF_JUDGES)
