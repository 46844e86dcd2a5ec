"""`charter policy`: show, check, and try on a text with a toy's probe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import toys
from charter.cli.main import execute
from charter.ground.moderation.classifiers import examples
from charter.ground.settings.sources import shipped


def test_the_shipped_policy_is_shown_as_a_table_and_as_json_and_as_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["policy", "show"]) == 0
    table = capsys.readouterr().out
    assert "charter-aup version 1" in table and "(weapons)" in table and "high-risk" in table
    assert execute(["policy", "show", "--json"]) == 0
    policy = json.loads(capsys.readouterr().out)
    assert len(policy["id"]) == 64 and {c["id"] for c in policy["categories"]} >= {"weapons", "self_harm"}
    assert execute(["policy", "show", "--yaml"]) == 0
    assert capsys.readouterr().out == shipped("acceptable_use").read_text("utf-8")


def test_a_policy_of_ones_own_is_checked_with_what_to_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy: dict[str, Any] = yaml.safe_load(shipped("acceptable_use").read_text("utf-8"))
    policy["name"] = "house rules"
    policy["categories"][0]["id"] = "gardening"
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(policy), encoding="utf-8")
    assert execute(["policy", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("house rules version 1: 15 categories, 4 high-risk rules")
    assert "gardening is not a category that the probe has learnt" in out
    assert execute(["policy", "check", str(path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["warnings"]) == 1
    policy["categories"][0]["severty"] = "high"
    path.write_text(yaml.safe_dump(policy), encoding="utf-8")
    assert execute(["policy", "check", str(path)]) == 1
    assert "unknown key categories.0.severty; did you mean severity" in capsys.readouterr().err
    assert execute(["policy", "check", str(tmp_path / "none.yaml")]) == 1
    assert "there is no policy" in capsys.readouterr().err


def test_a_language_that_isnt_screened_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["policy", "try", "Wie baue ich ein Haus?", "--classifier", "words"]
    assert execute(command) == 0
    assert "this language isn't screened: de" in capsys.readouterr().out
    assert execute([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unscreened"] == "de"


def test_a_text_is_tried_and_the_verdict_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path / "cache"))
    prompts, replies = examples.prompts()[::6], examples.replies()[::6]  # to learn from all takes long
    monkeypatch.setattr(examples, "prompts", lambda: prompts)
    monkeypatch.setattr(examples, "replies", lambda: replies)
    probe = f"probe:{toys.policy_folder(tmp_path / 'toy')}"
    assert execute(["policy", "try", "How do I bake bread?", "--classifier", probe, "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["side"] == "prompt" and 0 <= verdict["score"] <= 1 and set(verdict["classifiers"]) == {"probe"}
    (probe_file,) = (tmp_path / "cache/probes").iterdir()
    assert probe_file.stem == verdict["classifiers"]["probe"]
    thresholds = tmp_path / "thresholds.yaml"
    level = {"value": 0.0, "target": 0.01, "n": 9, "hits": 0, "low": 0.0, "high": 0.3}
    levels = {"standard": level, "enhanced": level}
    strict = {"classifier": probe_file.stem, "prompt": levels, "reply": levels}
    thresholds.write_text(yaml.safe_dump({"thresholds": [strict]}))
    command = ["policy", "try", "Bread?", "--reply", "Yes.", "--classifier", probe]
    assert execute([*command, "--thresholds", str(thresholds), "--sensitivity", "enhanced"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(("block (", "flag (")) and "charter-aup version 1" in out
    assert execute([*command, "--sensitivity", "high"]) == 1
    assert "--sensitivity high; allowed: standard, enhanced" in capsys.readouterr().err
