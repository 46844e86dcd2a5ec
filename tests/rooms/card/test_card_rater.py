"""The card of a run with a rater: its numbers, its calibration, its verdict, and what verifying finds."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import card_world
import pytest
from card_world import SETTINGS

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.store import read_manifest
from charter.ground.judge.rater import KEPT, RaterVerdict
from charter.ground.measure.calibration import Prediction
from charter.ground.measure.metrics import HARM, LOOK
from charter.rooms.card.plots import bin_ratings, bins
from charter.runner.verify import artifact_problems, verify


def add_rater(run: Path, noise: float) -> None:
    """A rater whose scores miss by `noise`, and the ratings that it gave to the final model's replies."""
    rng = random.Random(3)
    card_world.checkpoint(run / "rater")
    rows: list[dict[str, Any]] = [
        {"id": f"t{n // 2}", "conversation": f"c{n}", "topic": "theft", "rating": n % 9 / 2, "tokens": 20 + n % 7}
        for n in range(80)
    ]
    rows = [row | {"score": row["rating"] + rng.gauss(0, noise)} for row in rows]
    card_world.write_rows(run / "rater" / KEPT, rows)
    (run / "rater/counts.json").write_text(json.dumps({"train_ratings": 300, "heldout_ratings": 80}))
    rater = card_world.finish(run, "rater", "rating", "checkpoint", variant="rating",
                             parents=(("policy", "taught"),), external=(("ratings", "shipped:ratings.train"),))  # fmt: skip
    final = run / "eval_3"
    for file in (HARM, LOOK):
        path = final / "samples" / file
        card_world.write_rows(path, [row | {"harm_rating": rng.uniform(-0.2, 3)} for row in read_objects(path)])
    card_world.write_rows(final / "samples/rater.jsonl", rows)
    verdict = RaterVerdict(rows)
    report = json.loads((final / "report.json").read_text())
    report["rater"] = {"name": "rater", "id": rater.id, "fit": verdict.fit, "why": verdict.why}
    (final / "report.json").write_text(json.dumps(report))
    manifest = read_manifest(final)
    card_world.finish(run, "eval_3", "evaluate", "report",
                      parents=(*((p.role, p.path) for p in manifest.parents), ("rater", "rater")),
                      external=tuple((e.role, e.ref) for e in manifest.external), resolved=manifest.resolved)  # fmt: skip


@pytest.mark.parametrize("fit", [pytest.param(True, marks=pytest.mark.slow), False])
def test_the_card_shows_ratings_and_greys_those_of_an_unfit_rater(run: Path, fit: bool) -> None:
    add_rater(run, 0.8 if fit else 4.0)
    folder = card_world.make_card(run, SETTINGS)
    page, words = (folder / "card.html").read_text(), (folder / "card.md").read_text()
    numbers = card_world.shown(folder)
    assert {"eval_3/harm_rating", "eval_3/harm_rating_lookalikes", "rater/rating_error_ratio"} <= numbers.keys()
    assert "eval_2/harm_rating" not in numbers
    assert f"`rater` is {'fit' if fit else '**not fit**'}: squared error" in words
    assert ("**Unfit grader:** `rater`" in words) is not fit
    cell = re.search(rf"\| RL-CAI \|.*?{numbers['eval_3/harm_rating']['value']:.3f}( †)? \(", words)
    assert cell and (cell[1] is None) is fit
    assert ("Harm rater: rater (unfit)" in page) is not fit and (folder / "plots/rater.svg").is_file()
    assert verify(run, deep=False) == []


def test_calibration_stands_in_the_captions(finished: Path) -> None:
    card = json.loads((finished / "card/card.json").read_text())
    captions = {f["key"]: f["caption"] for f in card["figures"]}
    shown = {n["key"] for n in card["numbers"]}
    for key, prefix in (
        ("preference-pm_grader", "pm_grader/pair"),
        ("labeller", "labels/label"),
        ("choices", "eval_3/hhh_policy"),
        ("choices", "eval_3/hhh_preference"),
    ):
        assert "Calibration error" in captions[key]
        assert {f"{prefix}_calibration_error", f"{prefix}_overconfidence"} <= shown


def test_a_raters_verdict_and_counts_follow_from_its_rows(run: Path) -> None:
    add_rater(run, 0.8)
    report = run / "eval_3/report.json"
    report.write_text(report.read_text().replace('"fit": true, "why": "squared', '"fit": false, "why": "squared'))
    card_world.remeasure(run, "eval_3")
    assert artifact_problems(run / "eval_3", read_manifest(run / "eval_3")) == [
        "report.json calls its rater unfit; the kept ratings say otherwise"
    ]
    (run / "rater/counts.json").write_text(json.dumps({"train_ratings": 300, "heldout_ratings": 79}))
    card_world.remeasure(run, "rater")
    assert artifact_problems(run / "rater", read_manifest(run / "rater")) == [
        "counts.json: heldout_ratings is 79.0; the rows beside it give 80.0"
    ]


def test_bins_of_a_calibration_curve_by_hand() -> None:
    """A bin of nineteen is left out, one of twenty is drawn."""
    sure = [Prediction("a", 0.55, 1.0), Prediction("b", 0.57, 0.0)] * 10 + [Prediction("c", 1.0, 1.0)] * 20
    (low, low_point, low_n), (high, high_point, high_n) = bins([*sure, *[Prediction("d", 0.75, 1.0)] * 19])
    assert (low, low_point.value, low_n) == (pytest.approx(0.56), 0.5, 20)
    assert (high, high_point.value, high_n) == (1.0, 1.0, 20)
    beyond = [Prediction("a", -1.0, 0.0), Prediction("b", 0.5, 1.0)] * 10 + [Prediction("c", 9.0, 4.0)] * 20
    (first, point, n), (last, end, _) = bin_ratings([*beyond, *[Prediction("d", 2.0, 1.0)] * 19])
    assert (first, point.value, n) == (0.25, 0.5, 20), "beyond the scale, drawn at its end"
    assert (last, end.value, end.low) == (4.0, 4.0, None)
