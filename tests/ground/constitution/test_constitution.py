"""Reading, checking and drawing principles."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.constitution import PAPER_COUNT, check, load, select_by_tags, shipped_constitution

GOOD: dict[str, Any] = {
    "name": "small",
    "version": 2,
    "critiques": [
        {"key": "harm", "tags": ["harmless"], "critique": "What is harmful?", "revision": "Make it safe."},
        {"key": "dull", "tags": ["helpful"], "critique": "What is dull?", "revision": "Make it lively."},
    ],
    "comparisons": [{"key": "less", "tags": ["harmless", "evasion"], "principle": "Which does less\n harm?"}],
}


def write(path: Path, value: Any) -> Path:
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def changed(**fields: Any) -> dict[str, Any]:
    return GOOD | fields


def test_principles_are_read(tmp_path: Path) -> None:
    c = load(write(tmp_path / "c.yaml", GOOD))
    assert (c.name, c.version) == ("small", 2)
    assert c.critique("harm").revision == "Make it safe."
    assert c.comparison("less").principle == "Which does less harm?"
    with pytest.raises(CharterError, match="no principle 'more'; its keys are less"):
        c.comparison("more")


def test_the_digest_follows_content_only(tmp_path: Path) -> None:
    one = load(write(tmp_path / "a.yaml", GOOD))
    (tmp_path / "b.yaml").write_text("# a comment\n" + yaml.safe_dump(GOOD, sort_keys=True))
    assert load(tmp_path / "b.yaml").digest == one.digest
    assert load(write(tmp_path / "c.yaml", changed(version=3))).digest != one.digest


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "must hold name"),
        (changed(name=""), "name is missing"),
        (changed(version="one"), "version is 'one'"),
        (changed(rules=[]), "unknown field 'rules'; the fields are name"),
        (changed(critiques=[]), "critiques is missing or empty"),
        (changed(critiques=["x"]), "critiques entry 1 is str"),
        (changed(critiques=[{"key": "a", "critique": "x?"}]), r"critiques entry 1 \(a\): revision is missing"),
        (changed(comparisons=[{"key": "a", "principle": 3}]), r"comparisons entry 1 \(a\): principle is missing"),
        (changed(comparisons=[{"principle": "x?"}]), "comparisons entry 1: key is missing"),
        (changed(comparisons=[{"key": "a", "tags": "harmless", "principle": "x?"}]), "tags must be a list"),
        (changed(comparisons=GOOD["comparisons"] * 2), "the key 'less' more than once"),
        (changed(comparisons=[{**GOOD["comparisons"][0], "weight": 2}]), "unknown field 'weight'"),
    ],
)
def test_errors_name_entry_and_field(tmp_path: Path, value: Any, problem: str) -> None:
    path = write(tmp_path / "c.yaml", value)
    with pytest.raises(CharterError, match=problem) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_broken_yaml_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: [")
    with pytest.raises(CharterError, match="not YAML") as caught:
        load(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(CharterError, match="there is no constitution"):
        load(tmp_path / "none.yaml")


def test_check_warns_of_thin_and_one_sided_sets(tmp_path: Path) -> None:
    twice = [*GOOD["comparisons"], {"key": "same", "tags": [], "principle": "which does LESS harm?"}]
    twice.append({"key": "plain", "tags": ["honest"], "principle": "The truthful reply."})
    result = check(load(write(tmp_path / "c.yaml", changed(comparisons=twice))))
    assert "2 critiques" in result.summary and "3 comparisons" in result.summary
    warnings = "\n".join(result.warnings)
    for warning in (
        f"3 comparisons, the paper has {PAPER_COUNT}",
        "no principle of critiques is tagged evasion",
        "no principle of comparisons is tagged preachiness",
        "same asks the same as less",
        "plain is no question",
        "same has no tags",
    ):
        assert warning in warnings
    assert "no principle of comparisons is tagged evasion" not in warnings


def test_the_shipped_constitution_has_nothing_to_warn_of() -> None:
    result = check(shipped_constitution())
    assert result.warnings == ()
    assert (
        len(shipped_constitution().critiques) >= PAPER_COUNT and len(shipped_constitution().comparisons) >= PAPER_COUNT
    )


def test_tags_choose_principles(tmp_path: Path) -> None:
    c = load(write(tmp_path / "c.yaml", GOOD))
    assert {p.key for p in c.critiques_of("own")} == {"harm", "dull"}
    assert {p.key for p in c.critiques_of("own", ["helpful"])} == {"dull"}
    assert [p.key for p in select_by_tags(c.comparisons, {"evasion"})] == ["less"]
    with pytest.raises(CharterError, match=r"no principle has a tag of \['honest'\]; the tags are"):
        select_by_tags(c.comparisons, {"honest"})
