"""Every problem of a text with its line, and texts that would fill the memory refused at once."""

from __future__ import annotations

import pytest

from charter.ground.moderation.policy import Policy, shipped_policy
from charter.ground.settings.placed import LARGEST, read_placed
from charter.ground.settings.sources import shipped

SHIPPED = shipped("acceptable_use").read_text("utf-8")


def test_a_good_text_is_read_as_the_reader_of_files_reads_it() -> None:
    policy, problems = read_placed(SHIPPED, Policy)
    assert problems == [] and policy is not None and policy.id == shipped_policy().id


def test_each_problem_names_its_line() -> None:
    text = SHIPPED.replace("severity: severe", "severity: dreadful").replace("refusal:", "refusl:", 1)
    policy, problems = read_placed(text, Policy)
    assert policy is None
    lines = text.splitlines()
    for problem in problems:
        if "severity" in problem.words:
            assert "dreadful" in lines[problem.line - 1]
    assert sum("severity" in problem.words for problem in problems) == text.count("dreadful")
    assert any("refusl" in lines[one.line - 1] and "did you mean refusal" in one.words for one in problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: [*x, *x]", "anchors"),
        ("a: *x", "anchors"),
        ("a: " + "[" * 100_000, "nested deeper"),
        ("a: [" + "1, " * LARGEST + "1]", "more than"),
        ("a: 'x", "not valid YAML"),
        ("\x00", "not valid YAML"),
        ("version: " + "9" * 5000, "not valid YAML"),
        ("", "expected a mapping"),
        ("- 1", "expected a mapping"),
        ("name: a\nname: b", "written twice"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
    ids=lambda value: value[:12].strip() or "empty",
)
def test_hostile_texts_are_refused_in_one_line(text: str, words: str) -> None:
    value, problems = read_placed(text, Policy)
    assert value is None and len(problems) == 1
    assert words in problems[0].words and "\n" not in problems[0].words
