"""Policies as data: the shipped one, identity by content, and one clear line for each thing that may be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from charter.ground.artifact.errors import CharterError
from charter.ground.moderation.actions import LEVELS, SIDES
from charter.ground.moderation.classifiers.examples import CATEGORY_OF, HARMLESS, prompts, replies
from charter.ground.moderation.policy import check_policy, open_policy, read_policy, shipped_policy
from charter.ground.settings.sources import shipped
from charter.ground.text.jsonl import read_jsonl

JULY_2023 = 13  # headings of the two published lists (spec: acceptable use)
JUNE_2024 = 12


def raw() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(shipped("acceptable_use").read_text("utf-8"))
    return content


def written(folder: Path, policy: dict[str, Any]) -> Path:
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(policy), encoding="utf-8")
    return path


def test_the_shipped_policy_answers_to_every_heading_of_both_lists() -> None:
    policy = shipped_policy()
    assert policy.name == "charter-aup" and not list(policy.warnings())
    entries = (*policy.categories, *policy.high_risk)
    july = {h for e in entries for h in e.headings.july_2023}
    june = {h for e in entries for h in e.headings.june_2024}
    assert len(july) == JULY_2023
    assert len(june - {"high-risk use requirements"}) == JUNE_2024
    for category in policy.categories:
        actions = {category.action(side, level) for side in SIDES for level in LEVELS}
        assert actions and (category.severity != "severe" or category.action("reply", "standard") == "block")


def test_training_rows_have_the_classes_of_the_shipped_policy_and_enough_of_each() -> None:
    policy = shipped_policy()
    known = {c.id for c in policy.categories}
    rules = {r.id for r in policy.high_risk}
    assert set(CATEGORY_OF.values()) <= known
    training = prompts()
    labels = {e.label for e in training}
    assert labels == known | rules | {HARMLESS}
    for label in labels:
        assert sum(e.label == label for e in training) >= 15, label
    for category in known:
        rows = read_jsonl(shipped("acceptable_use.train"))
        own = [r["label"] for r in rows if r["topic"] == category]
        assert min(own.count("violates"), own.count("harmless")) >= 15, category
    assert {e.label for e in replies()} >= {HARMLESS, "fraud", "cyber"}
    assert all(e.messages[-1]["role"] == "user" for e in (*training, *replies()))


def test_identity_follows_from_content_alone(tmp_path: Path) -> None:
    policy, again = shipped_policy(), read_policy(written(tmp_path, dict(reversed(raw().items()))))
    assert again == policy and again.id == policy.id
    changed = raw()
    changed["categories"][0]["covers"] += " And more."
    assert read_policy(written(tmp_path, changed)).id != policy.id
    assert open_policy("charter-aup") is policy


def broken(change: str, policy: dict[str, Any]) -> None:
    first = policy["categories"][0]
    if change == "unknown key":
        first["sevrity"] = "high"
    elif change == "twice":
        policy["categories"].append(dict(first))
    elif change == "no text":
        first["actions"]["prompt"]["standard"] = "safety_prompt"
    elif change == "reply":
        first["actions"]["reply"]["enhanced"] = "safety_prompt"
    elif change == "action":
        first["actions"]["prompt"]["standard"] = "shout"
    elif change == "empty":
        first["title"] = "  "
    elif change == "missing":
        del first["examples"]
    elif change == "id":
        first["id"] = "Illegal Goods"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("unknown key", "unknown key categories.0.sevrity; did you mean severity"),
        ("twice", "the id illegal_goods occurs more than once"),
        ("no text", "illegal_goods has the action safety_prompt and no safety_prompt to add"),
        ("reply", "a reply is already written"),
        ("action", "categories.0.actions.prompt.standard: must be 'allow', 'flag'"),
        ("empty", "categories.0.title: .*must be text, and not empty"),
        ("missing", "categories.0.examples is missing"),
        ("id", "categories.0.id"),
    ],
)
def test_each_mistake_is_one_line_that_names_the_file_and_the_key(tmp_path: Path, change: str, words: str) -> None:
    policy = raw()
    broken(change, policy)
    with pytest.raises(CharterError, match=words) as caught:
        read_policy(written(tmp_path, policy))
    assert "policy.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_reader_should_know_is_no_error(tmp_path: Path) -> None:
    policy = raw()
    policy["categories"][1]["actions"] = {
        "prompt": {"standard": "block", "enhanced": "flag"},
        "reply": {"standard": "flag", "enhanced": "block"},
    }
    policy["high_risk"] = []
    _, warnings = check_policy(written(tmp_path, policy))
    assert len(warnings) == 3 and "milder" in warnings[0] and "severe" in warnings[1]
    with pytest.raises(CharterError, match=r"no category 'drug'; .*allowed:"):
        shipped_policy().category("drug")


def test_reasons_name_the_category_and_how_to_appeal() -> None:
    policy = shipped_policy()
    reason = policy.reason(policy.category("weapons"), "block", "prompt")
    assert "Weapons" in reason and "weapons" in reason and policy.appeal in reason and "\n" not in reason
