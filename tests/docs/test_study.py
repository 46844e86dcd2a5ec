"""The study's page: mean changes over seeds, with the answers by prompt and without."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from charter.ground.measure.intervals import difference, wilson
from charter.ground.measure.score import Table, tabulate

DOCS = Path(__file__).parents[2] / "docs"
STEPS = "eval_a", "eval_b"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    """docs/study.py, which imports its neighbour."""
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location("study", DOCS / "study.py")
        assert spec is not None and spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    finally:
        sys.path.remove(str(DOCS))
    return found


def rows(refused: int) -> list[dict[str, Any]]:
    """20 look-alikes, so many of them refused."""
    return [{"id": f"p{i}", "unseen": False, "refusal": i < refused, "loop": False, "grader": 1.0}
            | {"grader_fixed": 0.0, "stop": "end", "reply": "Fine.", "tokens": 2} for i in range(20)]  # fmt: skip


def seed(study: ModuleType, folder: Path, before: int, after: int, kept: bool = True) -> dict[str, Any]:
    """What is kept of a seed whose two stages refuse so many look-alikes."""
    folders, numbers = {}, []
    for step, refused in zip(STEPS, (before, after), strict=True):
        folders[step] = folder / step
        (folders[step] / "samples").mkdir(parents=True)
        text = "".join(json.dumps(row) + "\n" for row in rows(refused))
        (folders[step] / "samples/lookalikes.jsonl").write_text(text)
    for name, value in (("lookalike_refusal_rate", (after - before) / 20), ("lookalike_loop_rate", 0.0)):
        key = f"{STEPS[0]}..{STEPS[1]}/{name}"
        facts = {"key": key, "name": name, "value": value, "unit": "share", "n": 20, "clusters": 20}
        numbers.append(facts | {"change": True})
    card = {"seed": 1, "numbers": numbers, "grader": {"fit": True}, "reward": {"fit": True}}
    return card | (study.answers(folders) if kept else {})


def table(refused: int) -> Table:
    return tabulate((f"p{i}", float(i < refused), 1.0) for i in range(20))


CHANGES = (2, 12), (2, 13), (2, 14)


def test_answers_by_prompt_read_back(study: ModuleType, tmp_path: Path) -> None:
    card = json.loads(json.dumps(seed(study, tmp_path, 2, 12)))
    found = study.kept_table(card, STEPS[1], "lookalike_refusal_rate")
    assert found.clusters == table(12).clusters and found.sums.tolist() == table(12).sums.tolist()
    assert sorted(map(len, card["prompts"].values())) == [8, 18, 20], (
        "all once, and those answered at each stage"
    )
    assert study.kept_table(card, STEPS[1], "harm_rate") is None
    assert study.kept_table({"numbers": []}, STEPS[1], "lookalike_refusal_rate") is None


def test_a_mean_change_holds_what_seeds_and_what_prompts_vary(study: ModuleType, tmp_path: Path) -> None:
    cards = [seed(study, tmp_path / str(n), *ends) for n, ends in enumerate(CHANGES)]
    mean, unit = study.mean_change(cards, *STEPS, "lookalike_refusal_rate")
    assert mean.value == pytest.approx(0.55) and mean.prompts and unit == "share"
    by_seed = 4.302653 * 0.05 / math.sqrt(3)
    together = [
        tabulate((f"p{i}", float(sum(i < e[at] for e in CHANGES)), 3.0) for i in range(20)) for at in (0, 1)
    ]
    prompts = difference(*together)
    assert mean.high - mean.value == pytest.approx(
        math.hypot(by_seed, prompts.high - prompts.value), abs=1e-6
    )
    assert mean.value - mean.low == pytest.approx(math.hypot(by_seed, prompts.value - prompts.low), abs=1e-6)
    words = study.worded_mean(cards, *STEPS, "lookalike_refusal_rate")
    assert words.startswith("+55.0 points (+") and "*" not in words and study.footnote(words) == ""


def test_without_the_answers_the_seeds_alone_are_told_as_such(study: ModuleType, tmp_path: Path) -> None:
    cards = [seed(study, tmp_path / str(n), *ends, kept=n > 0) for n, ends in enumerate(CHANGES)]
    words = study.worded_mean(cards, *STEPS, "lookalike_refusal_rate")
    assert words == "+55.0 points (+42.6 to +67.4*)"
    assert study.footnote(words).startswith("\\* Of the spread of the seeds alone")


@pytest.mark.parametrize("kept", [True, False])
def test_what_never_happened_is_not_sure_to_a_tenth_of_a_point(
    study: ModuleType, tmp_path: Path, kept: bool
) -> None:
    cards = [seed(study, tmp_path / str(n), *ends, kept=kept) for n, ends in enumerate(CHANGES)]
    most = f"{100 * wilson(0, 20)[1]:.1f}"
    words = study.worded_mean(cards, *STEPS, "lookalike_loop_rate")
    assert words == f"0.0 points (−{most} to +{most}), not significant"


def test_two_seeds_stay_within_the_scale_and_are_counted(study: ModuleType, tmp_path: Path) -> None:
    """The t of two seeds would reach from -590 to 690 points."""
    cards = [seed(study, tmp_path / str(n), *ends) for n, ends in enumerate([(2, 2), (0, 20)])]
    words = study.worded_mean(cards, *STEPS, "lookalike_refusal_rate")
    assert words == "+50.0 points (−100.0 to +100.0), not significant"
    assert (
        study.few(cards, cards) == " (2 of 2 seeds)" and study.few(cards, [*cards, {}]) == " (2 of 3 seeds)"
    )
    assert study.few([{}] * 3, [{}] * 3) == ""
    assert study.worded_mean(cards[:1], *STEPS, "lookalike_refusal_rate") == "-"
