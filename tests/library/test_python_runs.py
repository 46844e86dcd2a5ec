"""Plans, runs and artifacts in Python: the numbers of manifests, kept rows, parents, and small escaped HTML."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import charter
from charter.ground.artifact.store import read_manifest
from charter.library.recipes import changes_of

Recipe = dict[str, Any]
Error = charter.CharterError


def test_a_plan_says_what_will_run_and_starts_nothing(here: Path, recipe: Recipe) -> None:
    plan = charter.plan(recipe, out="elsewhere")
    assert plan.path == Path("elsewhere") and not plan.path.exists()
    assert [(row["name"], row["status"]) for row in plan.steps] == [("asked", "run"), ("again", "run")]
    assert plan.reused == [] and plan.minutes is not None and plan.memory_gib is not None
    assert repr(plan).startswith("<Plan elsewhere: 2 of 2 steps to run, under a minute")
    done = charter.plan(recipe)
    assert done.reused == ["asked", "again"] and done.minutes is None
    assert [row["name"] for row in charter.plan(recipe, until="asked").steps] == ["asked"]


def test_a_recipe_is_a_file_a_folder_or_its_content(tmp_path: Path, here: Path, recipe: Recipe) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    shutil.copy(here / "asked.jsonl", tmp_path)
    ids = [[row["id"] for row in charter.plan(form).steps] for form in (recipe, tmp_path, tmp_path / "recipe.yaml")]
    assert ids[0] == ids[1] == ids[2]


def test_changes_are_those_of_the_command_line(here: Path, recipe: Recipe) -> None:
    values = {"rl.steps": 20, "rl.lr": 1e-05, "a.b": "yes", "a.c": [True, None], "a.d": Path("x")}
    assert changes_of(values) == ["rl.steps=20", "rl.lr=1e-05", 'a.b="yes"', "a.c=[true, null]", 'a.d="x"']
    (row,) = charter.plan(recipe, set={"recipe.seed": 4}, until="asked").steps
    assert row["status"] == "run"
    with pytest.raises(Error, match="there is no step 'askd'; did you mean asked"):
        charter.plan(recipe, set={"askd.limit": 1})
    with pytest.raises(Error, match="expected numbers, texts, true or false"):
        charter.plan(recipe, set={"asked.limit": {1, 2}})


def test_a_run_has_its_steps_numbers_rows_and_parents(here: Path) -> None:
    run = charter.open("small")
    assert isinstance(run, charter.Run) and run.path == Path("runs/small")
    assert repr(run) == "<Run runs/small: 2 of 2 steps done>"
    asked, again = run.steps
    assert (asked["name"], asked["room"], asked["status"]) == ("asked", "prompts", "done")
    assert again["parents"] == {"unsafe": ["asked"]}
    metrics = read_manifest(here / "runs/small/again").metrics
    numbers = [row for row in run.metrics() if row["step"] == "again"]
    assert [(row["name"], row["value"]) for row in numbers] == [(m.name, m.value) for m in metrics]
    artifact = run["again"]
    assert (artifact.name, artifact.kind, artifact.id) == ("again", "dialogues", again["id"])
    ((role, parents),) = artifact.parents.items()
    assert role == "unsafe" and [parent.id for parent in parents] == [asked["id"]]
    assert artifact.tables == ["dialogues"] and artifact.log() == []
    (kept,) = artifact.rows("dialogues")
    assert kept["messages"][0]["content"] in (here / "asked.jsonl").read_text()


def test_everything_on_disk_opens_as_what_it_is(here: Path, checkpoints: Path) -> None:
    for place in ("runs/small/again", "small/again", here / "runs" / "small" / "again"):
        assert type(charter.open(place)) is charter.Artifact
    with pytest.raises(Error, match=r"there is no run or card nothing; runs here"):
        charter.open("nothing")
    with pytest.raises(Error, match="has no step 'agian'; did you mean again"):
        charter.Run("runs/small")["agian"]
    with pytest.raises(Error, match="keeps no rows named 'dialogue'; did you mean dialogues"):
        charter.Run("runs/small")["again"].rows("dialogue")
    with pytest.raises(Error, match="has no finished card"):
        charter.Run("runs/small").card


def test_an_unfinished_step_is_not_handed_out(tmp_path: Path, here: Path, recipe: Recipe) -> None:
    run = charter.run(recipe, out=tmp_path / "half", until="asked")
    assert [row["status"] for row in run.steps] == ["done", "pending"]
    with pytest.raises(Error, match=r"step again of .* is pending; run its recipe until it is done"):
        run["again"]


def test_a_failing_step_is_one_error_and_jobs_are_counted(tmp_path: Path, here: Path, recipe: Recipe) -> None:
    with pytest.raises(Error, match="jobs is 0; expected a whole number from 1"):
        charter.run(recipe, jobs=0)
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "messages": [{"role": "user", "content": "hi"}]}\nnot JSON\n')
    bad = {"name": "bad", "steps": [{"name": "s", "room": "prompts", "from": {"unsafe": str(tmp_path / "bad.jsonl")}}]}
    variables = dict(os.environ)
    with pytest.raises(Error, match=r"bad.jsonl:2: not JSON"):
        charter.run(bad, out=tmp_path / "bad")
    assert dict(os.environ) == variables, "a run leaves the environment as it was"


def test_frames_need_pandas_and_say_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    rows = charter.open("small").metrics()
    frame = rows.frame()
    assert list(frame["name"]) == [row["name"] for row in rows]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Error, match="a frame needs pandas, which the extra frames brings"):
        rows.frame()


def test_rows_print_as_a_table_without_pandas(here: Path) -> None:
    rows = charter.open("small").metrics()
    head, *lines = repr(rows).splitlines()
    assert head.split()[:2] == ["step", "name"] and all(len(line) <= 118 for line in lines[:20])
    assert lines[0].split()[:2] == [rows[0]["step"], rows[0]["name"]]
    long = charter.Rows({"text": "a\nb " * 40, "none": None} for _ in range(25))
    assert "…" in repr(long) and "the first 20 of 25 rows" in repr(long) and "none" not in repr(long)
    assert repr(charter.Rows()) == "no rows"


def test_html_is_small_and_escaped(here: Path, tmp_path: Path, recipe: Recipe) -> None:
    table = charter.Rows({"<b>": "<script>", "n": 0.123456} for _ in range(30))._repr_html_()
    assert "<script>" not in table and "&lt;script&gt;" in table and "0.123" in table
    assert "The first 20 of 30 rows." in table and table.count("<tr>") == 21
    shutil.copytree(here / "runs" / "small", tmp_path / "<i>run")
    pages = [charter.Run(tmp_path / "<i>run"), charter.Run("runs/small")["asked"], charter.plan(recipe)]
    for page in pages:
        html = page._repr_html_()
        assert html.startswith("<p><b>") and "<i>" not in html and len(html) < 4000
        assert "http" not in html


def test_a_toy_is_evaluated_and_its_report_compared(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoints)
    model = charter.load("policy")
    report = charter.evaluate(model, ["arc"], limit=2, out=tmp_path / "run")
    assert type(report) is charter.Report and report.manifest.environment.precision == model.precision
    assert report.tables == ["arc"] and len(report.rows("arc")) == 2
    html = report._repr_html_()
    assert html.startswith("<p><b>Report on ") and "ARC-Challenge</td>" in html
    comparison = charter.compare(report, report.path)
    assert [row["metric"] for row in comparison.rows] == [row["name"] for row in report.metrics()]
    with pytest.raises(Error, match="no evaluation 'arcc'; did you mean arc"):
        charter.evaluate(model, "arcc")
    with pytest.raises(Error, match="there is no run or card nowhere"):
        charter.compare(report, "nowhere")


def test_the_command_line_shows_the_same_plan(here: Path, recipe: Recipe, tmp_path: Path, capsys: Any) -> None:
    from charter.cli.main import execute

    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    shutil.copy(here / "asked.jsonl", tmp_path)
    assert execute(["plan", str(tmp_path), "--set", "recipe.seed=5", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["steps"]
    assert [row["id"] for row in shown] == [row["id"] for row in charter.plan(tmp_path, {"recipe.seed": 5}).steps]
