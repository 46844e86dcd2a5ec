"""The line under a plan: what runs, what it costs, and what is unknown."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from charter.cli.run_lines import plan_total
from charter.ground.settings.room import Estimate, Sizes

Charter = Callable[..., tuple[int, str, str]]
RECIPE = """
name: small
steps:
  - {name: start, room: finetune, from: {policy: "random:tiny", dialogues: shipped:helpful.train}}
  - {name: pm, room: preference, from: {policy: start, comparisons: shipped:comparisons.train}}
  - {name: rl, room: rl, from: {policy: start, reward: pm, prompts: shipped:red_team.train}}
"""


def total(minutes: Sequence[float | None], of: int) -> str:
    lines = [
        SimpleNamespace(
            status="run" if n < len(minutes) else "reused",
            planned=SimpleNamespace(name=f"s{n}"),
            estimate=Estimate(minutes[n]) if n < len(minutes) and minutes[n] is not None else None,
        )
        for n in range(of)
    ]
    return plan_total(cast(Any, lines))


@pytest.mark.parametrize(
    ("minutes", "of", "words"),
    [
        ([0.05], 1, "1 of 1 step to run, under a minute"),
        ([1.0], 3, "1 of 3 steps to run, about 1 minute"),
        ([17.2, 3, None], 3, "3 of 3 steps to run, about 20 minutes without s2, which has no estimate"),
        ([200, *[None] * 5], 6, "6 of 6 steps to run, about 3.3 hours without s1, s2, s3 and 2 more, which have no estimate"),
        ([None], 4, "1 of 4 steps to run"),
        ([], 4, "nothing to do: every step is reused"),
    ],
)  # fmt: skip
def test_the_total_is_in_plain_words(minutes: Sequence[float | None], of: int, words: str) -> None:
    assert total(minutes, of) == words


def test_random_models_are_as_large_as_their_shape(charter: Charter, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    code, out, err = charter("plan", "recipe.yaml", "--json")
    assert code == 0, err
    assert all(step["minutes"] > 0 for step in json.loads(out)["steps"])


def test_what_people_are_asked_stands_in_a_note(charter: Charter, tmp_path: Path) -> None:
    steps = """  - {name: votes, room: arena, from: {models: [start, "random:tiny"]}, settings: {comparisons: 50}}
"""
    (tmp_path / "recipe.yaml").write_text(RECIPE + steps)
    code, out, err = charter("plan", "recipe.yaml")
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("votes")]
    assert line.rstrip().endswith("asks people: 50 comparisons") and out.count("asks people") == 1
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    assert "note" not in charter("plan", "recipe.yaml")[1]


@pytest.mark.parametrize("load", [0.0, 99.0])
def test_a_plan_says_that_the_machine_is_busy(
    charter: Charter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: float
) -> None:
    monkeypatch.setattr("psutil.getloadavg", lambda: (load, 0.0, 0.0))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    assert ("this machine is busy now" in charter("plan", "recipe.yaml")[1]) == (load > 0)


def test_speed_follows_size_and_threads_and_small_models_gain_less() -> None:
    assert Sizes(threads=2).speed(134_500_000) == 1.0
    assert Sizes(threads=1).speed(269_000_000) == pytest.approx(0.5 / 1.6, rel=0.02)
    assert Sizes(threads=2).speed(1_000_000) == 30.0
    assert Sizes(threads=2, precision="bfloat16").speed(134_500_000) == 1.5
