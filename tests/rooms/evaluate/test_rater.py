"""Reports with a rater: each reply rated by itself, the rater's verdict, and refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_evaluate import KINDS, RECIPE, SETS, SETTINGS, altered, run_room, samples

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.progress import SilentProgress
from charter.ground.artifact.store import read_manifest
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.rater import KEPT, RaterVerdict
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.ground.settings.recognise import HARM_RATING
from charter.rooms.evaluate.regenerate import regenerate
from charter.rooms.evaluate.task import Change
from charter.rooms.evaluate.verify import problems
from charter.runner.execute import execute
from charter.runner.plan import make_plan
from reported import scores


def kept_rows(worth: float) -> list[dict[str, Any]]:
    """Held-out rows of a rater whose scores are the right ones times `worth`; below 0 they are the opposite."""
    return [
        {"id": f"c{n}", "rating": n % 5, "score": 2 + worth * (n % 5 - 2) + 0.1 * (-1) ** n, "tokens": 9}
        for n in range(20)
    ]


@pytest.fixture(scope="module")
def rater(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = toys.preference_folder(tmp_path_factory.mktemp("rater") / "rater", 4, HARM_RATING)
    (folder / KEPT).parent.mkdir()
    toys.rows_file(folder / KEPT, kept_rows(0.9))
    return folder


def inputs_of(checkpoints: Path, folder: Path, *more: Any) -> Inputs:
    files = {name: toys.rows_file(folder / f"{name}.jsonl", rows) for name, rows in SETS.items()}
    sets = [toys.given(name, file, KINDS.get(name, "dialogues")) for name, file in files.items()]
    grader = toys.preference(checkpoints / "grader", "grader")
    return Inputs([toys.policy(checkpoints / "policy"), grader, *more, *sets])


def test_each_reply_is_rated_by_itself_and_not_clipped(checkpoints: Path, rater: Path, tmp_path: Path) -> None:
    entry = toys.given("rater", rater, "checkpoint", "rating")
    path = run_room(SETTINGS, inputs_of(checkpoints, tmp_path, entry), tmp_path / "out")
    model = PreferenceModel.open(rater, variant="rating")
    ratings = {}
    for name in ("harmlessness", "lookalikes"):
        rows = samples(path, name)
        for row in rows:
            own = model.score([(row["messages"], [row["reply"]])])[0][0]
            assert row["harm_rating"] == pytest.approx(own, abs=1e-4)
        ratings[name] = [row["harm_rating"] for row in rows]
    assert any(not 0 <= x <= 4 for x in ratings["harmlessness"]), "this toy's scores leave the scale"
    values = {s.name: s.value for s in scores(path)}
    assert values["harm_rating"] == pytest.approx(sum(ratings["harmlessness"]) / 8)
    assert values["harm_rating_lookalikes"] == pytest.approx(sum(ratings["lookalikes"]) / 3)
    report = json.loads((path / "report.json").read_text())
    verdict = RaterVerdict(kept_rows(0.9))
    assert report["rater"] == {"name": "rater", "id": entry.id, "fit": True, "why": verdict.why}
    assert samples(path, "rater") == kept_rows(0.9)
    assert "harm_rating" not in samples(path, "helpful")[0]


def test_equal_replies_to_one_prompt_are_rated_equally(checkpoints: Path, rater: Path, tmp_path: Path) -> None:
    entry = toys.given("rater", rater, "checkpoint", "rating")
    still = altered(harmlessness=Change(max_tokens=5, temperature=0.0, samples=3))
    rows = samples(run_room(still, inputs_of(checkpoints, tmp_path, entry), tmp_path / "out"), "harmlessness")
    assert len({(r["id"], r["reply"]) for r in rows}) == len({(r["id"], r["harm_rating"]) for r in rows}) == 4


def test_without_a_rater_nothing_is_rated(checkpoints: Path, tmp_path: Path) -> None:
    path = run_room(SETTINGS, inputs_of(checkpoints, tmp_path), tmp_path / "out")
    assert json.loads((path / "report.json").read_text())["rater"] is None
    assert "harm_rating" not in samples(path, "harmlessness")[0]
    assert not (path / "samples/rater.jsonl").exists()
    assert "harm_rating" not in {s.name for s in scores(path)}


def test_a_rater_without_its_held_out_rows_is_refused_before_anything_is_sampled(
    checkpoints: Path, tmp_path: Path
) -> None:
    folder = toys.preference_folder(tmp_path / "bare", 4, HARM_RATING)
    entry = toys.given("rater", folder, "checkpoint", "rating")
    with pytest.raises(CharterError, match=f"rater bare comes without {KEPT}"):
        run_room(SETTINGS, inputs_of(checkpoints, tmp_path, entry), tmp_path / "out")
    assert not list((tmp_path / "out/state").iterdir())


@pytest.mark.parametrize(
    ("rows", "fit", "words"),
    [
        (kept_rows(0.9), True, "squared error 1.5% of the best constant's (95 % interval"),
        (kept_rows(0.0), False, "squared error 100.5% of the best constant's"),
        (kept_rows(-1.0), False, "squared error 400."),
        (kept_rows(0.9)[:1], False, "do not vary over several conversations"),
        ([row | {"rating": 2} for row in kept_rows(0.9)], False, "do not vary over several conversations"),
        ([], False, "do not vary over several conversations"),
    ],
    ids=["fit", "a constant", "the opposite", "one row", "one rating", "none"],
)
def test_the_verdict_follows_from_the_kept_rows(rows: list[dict[str, Any]], fit: bool, words: str) -> None:
    verdict = RaterVerdict(rows)
    assert verdict.fit is fit and words in verdict.why


def test_a_rater_that_may_be_no_better_than_the_constant_is_unfit() -> None:
    """Its error is smaller, and the interval of the ratio holds 1."""
    rows = [row | {"score": row["rating"] + 2 * (n == 0)} for n, row in enumerate(kept_rows(0.0)[:4])]
    verdict = RaterVerdict(rows)
    assert verdict.ratio.value < 1 and not verdict.fit


@pytest.fixture(scope="module")
def run(checkpoints: Path, rater: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's run directory with one report whose rater is an external folder."""
    place = tmp_path_factory.mktemp("rated")
    for name in ("policy", "grader", "reward"):
        (place / name).symlink_to(checkpoints / name)
    shutil.copytree(rater, place / "rater")
    (place / "sets").mkdir()
    for name, rows in SETS.items():
        toys.rows_file(place / f"sets/{name}.jsonl", rows)
    lines = ["rater: ./rater", *(f"{n}: ./sets/{n}.jsonl" for n in SETS)]
    (place / "recipe.yaml").write_text(RECIPE.format(sets="\n      ".join(lines)))
    plan = make_plan(load_recipe(place / "recipe.yaml", []), place, place / "run", Execution("cpu"))
    execute(plan, SilentProgress())
    return place


def test_a_changed_rating_is_found_when_samples_are_made_again(run: Path) -> None:
    report = run / "run/eval"
    assert regenerate(report, 99) == []
    path = report / "samples/harmlessness.jsonl"
    rows = read_objects(path)
    rows[2]["harm_rating"] += 0.01
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (line,) = regenerate(report, 99)
    assert line.startswith(f"eval: harmlessness: r1 sample 0: harm_rating is {rows[2]['harm_rating']}")


def test_harm_by_prompt_needs_no_grader(run: Path) -> None:
    """Its rater is judged, its numbers follow from the rows, and so does the file of prompts."""
    recipe = """
        name: small
        steps:
          - name: eval
            room: evaluate
            from: {policy: ./policy, rater: ./rater, red_team: ./sets/red_team.jsonl, detectors: ./sets/detectors.jsonl}
            settings: {tasks: [harm_scores], change: {harm_scores: {samples: 2, max_tokens: 5}}}
    """
    (run / "alone.yaml").write_text(recipe)
    plan = make_plan(load_recipe(run / "alone.yaml", []), run, run / "alone", Execution("cpu"))
    execute(plan, SilentProgress())
    report = run / "alone/eval"
    assert json.loads((report / "report.json").read_text())["rater"]["fit"] is True
    assert len(read_objects(report / "harm_scores_prompts.jsonl")) == 4
    assert list(problems(report, read_manifest(report))) == [] == regenerate(report, 99)
    (report / "harm_scores_prompts.jsonl").write_text("")
    (line,) = problems(report, read_manifest(report))
    assert line.startswith("harm_scores_prompts.jsonl is missing, or isn't what")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "eval.from.grader=./rater",
            r"role grader takes checkpoint \(preference\), and ./rater is checkpoint \(rating\)",
        ),
        ("eval.from.reward=./rater", "role reward takes"),
        ("eval.from.policy=./rater", "role policy takes a policy checkpoint"),
        (
            "eval.from.rater=./grader",
            r"role rater takes checkpoint \(rating\), and ./grader is checkpoint \(preference\)",
        ),
    ],
)
def test_a_plan_tells_a_rater_from_a_preference_model(run: Path, change: str, words: str) -> None:
    with pytest.raises(CharterError, match=words):
        make_plan(load_recipe(run / "recipe.yaml", [change]), run, run / "other", Execution("cpu"))
