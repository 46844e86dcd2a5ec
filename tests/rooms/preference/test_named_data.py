"""A preference step whose comparisons are named, not brought: a file below CHARTER_DATA, a data set on the hub."""

import gzip
import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.progress import SilentProgress
from charter.ground.artifact.store import read_manifest
from charter.ground.settings.execution import Execution
from charter.ground.settings.places import data_folder
from charter.ground.settings.recipe import load_recipe
from charter.runner.execute import execute
from charter.runner.plan import Plan, make_plan

COMMIT = "0123456789" * 4
REF = "hf:own/hh#harmless-base/test.jsonl.gz"
RECIPE = """
name: named
steps:
  - name: pm
    room: preference
    from: {policy: "random:tiny", comparisons: ["%s"]}
    settings: {epochs: 1, pairs: {limit: 40}}
"""


def plan_of(folder: Path, ref: str) -> Plan:
    (folder / "recipe.yaml").write_text(RECIPE % ref)
    return make_plan(load_recipe(folder / "recipe.yaml", ()), folder, folder / "run", Execution())


def trained(plan: Plan) -> tuple[list[str], int]:
    """The references of the finished step, and how many pairs it learnt from."""
    execute(plan, SilentProgress())
    counts = json.loads((plan.run / "pm" / "counts.json").read_text())
    return [e.ref for e in read_manifest(plan.run / "pm").external], counts["train_pairs"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path / "cache"))


def test_comparisons_of_the_hub_are_fetched_when_the_step_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    place = tmp_path / "hub" / "datasets--own--hh"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    plan = plan_of(tmp_path, REF)  # nothing is downloaded yet, and planning doesn't mind
    with pytest.raises(CharterError, match=r"step pm: hf:own/hh@.* is not downloaded and the hub cannot be reached"):
        execute(plan, SilentProgress())
    assert read_manifest(tmp_path / "run" / ".partial" / "pm").status == "failed"
    rows = [
        {
            side: f"\n\nHuman: Question {n}?\n\nAssistant: {reply}"
            for side, reply in (("chosen", "Yes."), ("rejected", "No."))
        }
        for n in range(12)
    ]
    folder = place / "snapshots" / COMMIT / "harmless-base"
    folder.mkdir(parents=True)
    (folder / "test.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    refs, pairs = trained(plan)
    assert REF.replace("#", f"@{COMMIT}#") in refs and pairs > 0


@pytest.mark.skipif(
    not (data_folder() / "hh_rlhf").is_dir(), reason="no data sets: set CHARTER_DATA to the folder that holds hh_rlhf"
)
def test_comparisons_below_the_data_folder_need_no_ending(tmp_path: Path) -> None:
    refs, pairs = trained(plan_of(tmp_path, "data:hh_rlhf/harmless-base"))
    assert "data:hh_rlhf/harmless-base" in refs and pairs > 20
