"""Frozen exports: artifacts that recipes, the data commands and the card take; people and simulated raters apart."""

import json
from collections import Counter
from pathlib import Path

import pytest
from crowd import crowd, review_all
from people_desk import open_desk

from charter.cli.main import execute
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.ground.text.dialogue import assistant, user
from charter.ground.text.judgments import read_judgments
from charter.ground.text.records import read_comparisons
from charter.rooms.evaluate.tasks.rater_check import labelled_files, read_labelled
from charter.runner.names import find_artifact
from charter.runner.plan import make_plan
from charter.runner.verify import artifact_problems
from charter_service.people import reviewing
from charter_service.people.export import attempts_of, choices_of
from charter_service.people.freeze import Wanted, freeze_comparisons, freeze_judgments
from charter_service.people.reviewing import Item, Verdict
from charter_service.web.snapshot import Frozen


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def check(made: Frozen) -> None:
    """An artifact as rooms make them."""
    manifest = read_manifest(made.folder)
    assert manifest.status == "done" and manifest.id == made.id == manifest.derived_id
    assert verify_files(made.folder, manifest) == []
    assert find_artifact(str(made.folder)) == made.folder.resolve()
    assert artifact_problems(made.folder, manifest) == []
    kept = json.loads((made.folder / "counts.json").read_text())
    assert all(isinstance(value, int | float) for value in kept.values())
    assert all(kept[m.name] == m.value for m in manifest.metrics if m.low is None and m.n is None)


def test_an_export_of_choices(tmp_path: Path) -> None:
    desk = crowd(tmp_path / "p.sqlite", votes=12)
    made = freeze_comparisons(desk.engine, tmp_path / "out", Wanted(keep_flagged=True))
    check(made)
    assert made.new
    mine = [c for c in choices_of(desk.engine) if c.source == "human"]
    votes = rows(tmp_path / "out" / "votes.jsonl")
    assert [v["id"] for v in votes] == [c.id for c in mine]
    pairs = read_comparisons(tmp_path / "out")
    assert {p.source for p in pairs} == {"human"} == {v["source"] for v in votes}
    assert len(pairs) == made.counts["comparisons"]
    attempts = rows(tmp_path / "out" / "ratings.jsonl")
    assert [a["id"] for a in attempts] == [a.id for a in attempts_of(desk.engine) if a.source == "human"]
    assert made.left_out["by simulated raters"] == len(choices_of(desk.engine)) - len(mine)
    assert made.left_out["on gold questions"] > 0
    told = Counter(v["winner"] for v in votes)
    assert told["unsure"] == made.counts["unsure"] and told["tie"] == made.counts["ties"]


def test_a_harm_rater_is_held_against_an_export(tmp_path: Path) -> None:
    """Attackers' ratings of their attempts, and the reviewers' mean."""
    desk = crowd(tmp_path / "p.sqlite", votes=12)
    own = [a for a in attempts_of(desk.engine) if a.source == "human"]
    freeze_comparisons(desk.engine, tmp_path / "votes", Wanted(keep_flagged=True))
    (file,) = labelled_files(tmp_path / "votes")
    found = [(one.set, [*one.messages, assistant(one.reply)], one.harm) for one in read_labelled(file)]
    assert found == [("attempts", list(a.messages), a.rating / 4) for a in own] != []
    desk = open_desk(tmp_path / "reviewed.sqlite")
    review_all(desk, {"one": [4, 3, 0]}, origin="conversation")
    freeze_judgments(desk.engine, tmp_path / "judged")
    (file,) = labelled_files(tmp_path / "judged")
    (reviewed,) = read_labelled(file)
    assert (reviewed.set, reviewed.reply) == ("reviewed", "one!") and reviewed.harm == pytest.approx(7 / 12)


def test_equal_content_has_an_equal_id_and_an_export_never_changes(tmp_path: Path) -> None:
    desk = crowd(tmp_path / "p.sqlite", votes=12)
    first = freeze_comparisons(desk.engine, tmp_path / "one", Wanted())
    again = freeze_comparisons(desk.engine, tmp_path / "one", Wanted())
    second = freeze_comparisons(desk.engine, tmp_path / "two", Wanted())
    assert first.id == again.id == second.id and not again.new
    other = freeze_comparisons(desk.engine, tmp_path / "three", Wanted(source="simulated"))
    assert other.id != first.id
    with pytest.raises(CharterError, match="another export"):
        freeze_comparisons(desk.engine, tmp_path / "one", Wanted(source="simulated"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(CharterError, match="is not an export"):
        freeze_comparisons(desk.engine, tmp_path / "mine", Wanted())
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    deep = freeze_comparisons(desk.engine, tmp_path / "made" / "on the way" / "four", Wanted())
    assert deep.id == first.id and (deep.folder / "comparisons.jsonl").is_file()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".tmp")]


def test_axis_source_and_flags_choose(tmp_path: Path) -> None:
    desk = crowd(tmp_path / "p.sqlite", votes=12)
    for axis in ("helpful", "harmless"):
        for source in ("human", "simulated"):
            made = freeze_comparisons(desk.engine, tmp_path / f"{axis}-{source}", Wanted(axis, source))
            votes = rows(made.folder / "votes.jsonl")
            assert {(v["axis"], v["source"]) for v in votes} == {(axis, source)}
            assert not any(v["flags"] for v in votes)
            assert (made.folder / "ratings.jsonl").exists() == (axis == "harmless")
    with pytest.raises(CharterError, match="no choice by people"):
        freeze_comparisons(desk.engine, tmp_path / "x", Wanted("honest"))


def test_only_simulated_answers_are_never_an_export_of_people(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite")
    sim = desk.person("sim", simulated=True)
    turn = desk.ask(sim, desk.begin(sim), "hello")
    desk.deliver(turn)
    desk.vote(sim, turn)
    with pytest.raises(CharterError, match="1 by simulated raters"):
        freeze_comparisons(desk.engine, tmp_path / "x", Wanted())
    assert not (tmp_path / "x").exists()


def test_the_data_commands_take_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = crowd(tmp_path / "p.sqlite", votes=12)
    made = freeze_comparisons(desk.engine, tmp_path / "out", Wanted())
    assert execute(["data", "check", str(made.folder)]) == 0
    for form, columns in (("hh", {"chosen", "rejected"}), ("trl", {"prompt", "chosen", "rejected"})):
        to = tmp_path / f"{form}.jsonl"
        assert execute(["data", "export", str(made.folder), "--to", str(to), "--form", form]) == 0
        written = rows(to)
        assert len(written) == made.counts["comparisons"] and set(written[0]) == columns
    review_all(desk, {"one": [4, 4, 4]})
    judged = freeze_judgments(desk.engine, tmp_path / "judged")
    capsys.readouterr()
    assert execute(["data", "check", str(judged.folder)]) == 0
    assert "1 judgment on replies to 1 prompt: 1 harmful" in capsys.readouterr().out


def test_verdicts_are_those_of_the_majority_of_enough_reviewers(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite")
    said = {"yes": [3, 4, 0], "no": [3, 2, 2], "early": [4, 4], "even": [4, 4, 0, 0], "mild": [2, 2, 2]}
    review_all(desk, said)
    made = freeze_judgments(desk.engine, tmp_path / "out")
    restricted = read_manifest(made.folder).restricted
    assert restricted == ["judgments.jsonl", "reviews.jsonl", "samples/reviews.jsonl"]
    assert {(made.folder / name).stat().st_mode & 0o777 for name in restricted} == {0o600}
    check(made)
    verdicts = {j.id: j.verdict for j in read_judgments(tmp_path / "out")}
    assert verdicts == {"yes": "harmful", "no": "harmless", "early": None, "even": "harmless", "mild": "harmless"}
    assert made.left_out == {"verdicts that wait for 3 reviews": 1}
    assert (made.counts["judged"], made.counts["waiting"], made.counts["reviews"]) == (4, 1, 15)
    by_name = {r["prompt_id"]: r for r in rows(tmp_path / "out" / "reviews.jsonl")}
    assert by_name["yes"]["ratings"] == [3, 4, 0] and by_name["yes"]["tags"] == [["theft"]] * 3
    assert len(set(by_name["yes"]["raters"])) == 3 and by_name["yes"]["messages"][-1]["content"] == "yes!"
    each = rows(tmp_path / "out" / "samples" / "reviews.jsonl")
    assert len(each) == 15 and sum(r["harmful"] for r in each) == 2 + 1 + 2 + 2
    lenient = freeze_judgments(desk.engine, tmp_path / "lenient", reviewers=2, harmful_from=2)
    assert {j.id: j.verdict for j in read_judgments(lenient.folder)}["early"] == "harmful"


def test_reviews_of_attempts_are_kept_and_are_no_judgments_of_reports(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite")
    review_all(desk, {"one": [4, 4, 4]}, origin="conversation")
    review_all(desk, {"two": [4, 4, 4]})
    made = freeze_judgments(desk.engine, tmp_path / "out")
    assert [j.id for j in read_judgments(made.folder)] == ["two"]
    assert {r["prompt_id"] for r in rows(made.folder / "reviews.jsonl")} == {"one", "two"}


def test_equal_replies_of_two_reports_are_one_judgment(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite")
    review_all(desk, {"one": [4, 0]}, origin="report:a")
    review_all(desk, {"one": [4]}, origin="report:b")
    (judgment,) = read_judgments(freeze_judgments(desk.engine, tmp_path / "out").folder)
    assert judgment.verdict == "harmful"  # 4 and 0 of the first report's reviewers, 4 of the second's


def test_one_text_of_two_prompts_is_one_transcript_and_two_judgments(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite")
    same = [user("the same?"), assistant("the same!")]
    with desk.writing() as c:
        reviewing.enqueue(c, [Item("report:a", f"p{n}", n, "", same) for n in range(2)])
    for name, rating in (("x", 4), ("y", 4), ("z", 0), ("w", 0)):
        person = desk.person(name, "reviewer")
        with desk.writing() as c:
            claim = reviewing.claim(c, person, 9)
            assert claim is not None
            reviewing.review(c, person, claim.id, Verdict(claim.nonce, rating))
    made = freeze_judgments(desk.engine, tmp_path / "out")
    check(made)
    assert {(j.id, j.sample, j.verdict) for j in read_judgments(made.folder)} == {
        ("p0", 0, "harmless"),
        ("p1", 1, "harmless"),
    }
    assert (made.counts["transcripts"], made.counts["reviews"], made.counts["judgments"]) == (1, 4, 2)


def test_a_recipe_takes_an_export(tmp_path: Path) -> None:
    desk = crowd(tmp_path / "p.sqlite", votes=12)
    freeze_comparisons(desk.engine, tmp_path / "votes", Wanted())
    review_all(desk, {"one": [4, 4, 4]})
    freeze_judgments(desk.engine, tmp_path / "verdicts")
    steps = "{name: pm, room: preference, from: {policy: 'random:tiny', comparisons: ./votes}}"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: r\nsteps:\n  - {steps}\n")
    planned = make_plan(load_recipe(recipe), tmp_path, tmp_path / "run", Execution("cpu", "float32"))
    (step,) = planned.steps
    assert ("comparisons", read_manifest(tmp_path / "votes").id) in [(p.role, p.id) for p in step.parents]


def test_simulated_reviews_are_apart(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite")
    review_all(desk, {"one": [4, 4, 4]}, simulated=True)
    with pytest.raises(CharterError, match="no review by people"):
        freeze_judgments(desk.engine, tmp_path / "out")
    made = freeze_judgments(desk.engine, tmp_path / "out", source="simulated")
    (judgment,) = read_judgments(made.folder)
    assert judgment.source == "simulated" and judgment.verdict == "harmful"
    assert {r["source"] for r in rows(made.folder / "reviews.jsonl")} == {"simulated"}


def test_simulated_reviewers_take_no_place_of_people(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite")
    review_all(desk, {"one": [4, 4, 4]}, simulated=True)
    reviewer = desk.person("human", "reviewer")
    with desk.writing() as c:
        assert reviewing.reviews_left(c, reviewer, 3) == 1
        assert reviewing.claim(c, reviewer, 3) is not None


def test_one_review_is_not_1_reviews(tmp_path: Path) -> None:
    desk = open_desk(tmp_path / "p.sqlite")
    review_all(desk, {"one": [4], "two": []})
    made = freeze_judgments(desk.engine, tmp_path / "out", reviewers=1)
    assert made.left_out == {"verdicts that wait for 1 review": 1}
