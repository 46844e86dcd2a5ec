"""The end of a run and `charter show`: eight lines at most, from manifests and the card's own record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from charter.cli.run_lines import MOST_LINES, headline, run_lines, run_tree, spell_metric, spell_seconds
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.kinds import Kind
from charter.ground.artifact.lineage import seal_of
from charter.ground.artifact.manifest import Manifest, Metric, Timing
from charter.runner.show import StepParent, StepView
from charter.runner.summary import summarise

Charter = Callable[..., tuple[int, str, str]]
HARM = Metric(name="harm", value=0.6, low=0.5, high=0.7, n=40, unit="share", label="Harm rate", better="lower")
BITS = Metric(name="bits", value=0.9, low=0.8, high=1.0, n=40, unit="bits/byte", label="Bits", better="lower")
BIAS = Metric(name="bias", value=0.4, low=0.3, high=0.5, n=40, unit="share", label="Bias", better="zero")
FEW = Metric(name="few", value=0.1, low=0.0, high=0.3, n=9, unit="share", label="Few rows", better="higher")


def view(
    run: Path, name: str, kind: str, *metrics: Metric, variant: str | None = None, seconds: float = 60.0
) -> StepView:
    manifest = Manifest(
        kind=cast(Kind, kind), variant=variant, id="1" * 64, status="done", step=name, room="some",
        recipe="r", metrics=list(metrics), timing=Timing(seconds=seconds),
    )  # fmt: skip
    return StepView(name, "some", kind, "1" * 64, run / name, "done", (), manifest)


def number(key: str, value: float, low: float = 0.0, high: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"key": key, "name": key.rpartition("/")[2], "value": value, "low": low, "high": high, "n": 40, "p": None, "p_holm": None, "unit": "share", **more}  # fmt: skip


def write_card(run: Path, *numbers: dict[str, Any], stages: int = 2, fit: bool = True) -> None:
    record = {
        "settings": {"headline": ["harm", "bias", "few", "bits"]},
        "stages": [
            {"stage": label, "step": step, "model": {"name": model}}
            for label, step, model in (("start", "eval_0", "first"), ("RL", "eval_1", "rl"))
        ][-stages:],
        "grader": {"fit": fit},
        "unfit": [] if fit else ["harm"],
        "numbers": [
            number("eval_0/harm", 0.975),
            number("eval_1/harm", 0.6),
            number("eval_0..eval_1/harm", -0.375, -0.5, -0.2, p_holm=0.009),
            number("eval_0/bits", 0.8, unit="bits/byte"),
            number("eval_1/bits", 0.9, unit="bits/byte"),
            number("eval_0..eval_1/bits", 0.1, 0.05, 0.15, p=0.03, p_holm=0.2, unit="bits/byte"),
            *numbers,
        ],
    }
    (run / "card").mkdir(exist_ok=True)
    (run / "card" / "card.json").write_text(json.dumps(record))
    (run / "card" / "card.html").write_text("<p>")


@pytest.fixture
def views(tmp_path: Path) -> list[StepView]:
    return [
        view(tmp_path, "first", "checkpoint", variant="policy"),
        view(tmp_path, "rl", "checkpoint", variant="policy"),
        view(tmp_path, "last", "checkpoint", variant="preference"),
        view(tmp_path, "eval_0", "report", HARM),
        view(tmp_path, "eval_1", "report", HARM, BITS, BIAS, FEW),
        view(tmp_path, "card", "card", seconds=1080.0),
    ]


def test_a_card_gives_its_headlines_what_got_worse_and_what_to_do_next(tmp_path: Path, views: list[StepView]) -> None:
    worse = [
        number("eval_0/bias", 0.1),
        number("eval_1/bias", 0.4),
        number("eval_0..eval_1/bias", 0.3, 0.1, 0.5, p_holm=0.01),
        number("eval_0..eval_1/noise", 0.3, 0.1, 0.5, n=9),  # on too few rows, and of no direction
    ]
    write_card(tmp_path, *worse, fit=False)
    lines = run_lines(summarise(tmp_path, views), elapsed=30.0)
    (seal,) = (seal_of(view.manifest) for view in views if view.kind == "card" and view.manifest)
    assert (
        lines
        == [
            f"{tmp_path.name}: 6 of 6 steps done in 30 s (23 minutes of work); start → RL; the grader is not fit (†)",
            "  Bias →0        10.0 % → 40.0 % (+30.0 points)  worse",
            "  Bits ↓         0.800 → 0.900 (+0.100)          not significant",  # corrected over all, p is above 0.05
            "  Harm rate † ↓  97.5 % → 60.0 % (−37.5 points)  better",
            "  Got worse: Bias",
            f"  Card: {(tmp_path / 'card' / 'card.html').as_uri()} (seal {seal[:12]})",
            f"  Talk: charter chat {tmp_path / 'rl'}",
            f"  Next: charter compare {tmp_path}",
        ]
    )
    write_card(tmp_path, *worse, number("eval_1/few", 0.1))
    assert len(run_lines(summarise(tmp_path, views))) == MOST_LINES


def test_a_card_of_one_stage_has_values_and_no_changes(tmp_path: Path, views: list[StepView]) -> None:
    write_card(tmp_path, stages=1)
    lines = run_lines(summarise(tmp_path, views))
    assert lines[0].endswith("; RL") and lines[1] == "  Harm rate ↓  60.0 %"
    assert not any("→" in line or "worse" in line or "compare" in line for line in lines)


def test_a_damaged_record_of_a_card_is_one_clear_line(tmp_path: Path, views: list[StepView]) -> None:
    write_card(tmp_path)
    for text in ("{", '{"stages": []}', '{"stages": [{"step": "x"}]}'):
        (tmp_path / "card" / "card.json").write_text(text)
        with pytest.raises(CharterError, match="make its step again with charter run"):
            summarise(tmp_path, views)


def test_without_a_card_or_a_model_the_end_says_what_makes_sense(tmp_path: Path, views: list[StepView]) -> None:
    def last(*shown: StepView) -> str:
        return run_lines(summarise(tmp_path, shown))[-1].strip()

    first, rl, grader, start, final, _ = views
    assert last(start, final, rl) == f"Next: charter compare {tmp_path / 'eval_0'} {tmp_path / 'eval_1'}"
    assert last(first, rl) == f"Next: charter eval {tmp_path / 'rl'}"
    assert last(grader) == f"Next: charter show {tmp_path / 'last'}"
    pending = StepView("x", "some", "report", "2" * 64, tmp_path / "x", "pending", (), None)
    assert last(first, pending) == "Next: charter run with the same recipe, which does the rest"


def test_a_step_is_shown_by_a_metric_in_words_of_enough_rows(tmp_path: Path) -> None:
    count, loss = Metric(name="rows", value=7.0), Metric(name="loss", value=1.25)
    assert headline([FEW]) is None and headline([]) is None
    assert headline([FEW, count, HARM]) == headline([HARM, BITS]) == HARM
    assert headline([HARM, BITS], unfit=["harm"]) == BITS and headline([HARM], unfit=["harm"]) == HARM
    assert headline([count, Metric(name="share", value=0.5), loss]) == loss
    assert headline([FEW, count]) == count
    assert spell_metric(HARM) == "Harm rate 60.0 % (50.0 to 70.0), n 40"
    assert spell_metric(Metric(name="kept_share", value=0.5625, unit="x")) == "kept share 0.562 x"


def test_no_line_of_the_tree_is_wrapped_at_100_columns(tmp_path: Path) -> None:
    steps = [view(tmp_path, "a", "checkpoint", HARM, seconds=100.0)]
    for n in range(8):
        step = view(tmp_path, f"a_rather_long_name_{n}", "checkpoint", HARM)
        parents = tuple(StepParent(role, s.name) for role, s in zip("pq" * 8, reversed(steps), strict=False))
        steps.append(StepView(**{**vars(step), "parents": parents}))
    screen = Console(width=100)
    with screen.capture() as captured:
        screen.print(run_tree("a run", steps), highlight=False)
    lines = captured.get().splitlines()
    assert len(lines) == 1 + len(steps) and max(map(len, lines)) <= 100
    assert "a some → checkpoint done  2 minutes  Harm rate 60.0 %" in lines[1]


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (45.0, "45 s"), (1380.0, "23 minutes")])
def test_seconds_in_words(seconds: float, words: str) -> None:
    assert spell_seconds(seconds) == words


@pytest.mark.usefixtures("fake_rooms")
def test_run_and_show_end_and_begin_with_the_summary(charter: Charter) -> None:
    code, out, err = charter("run", "recipe.yaml")
    assert code == 0 and out == ""
    first, last = err.splitlines()[-3], err.splitlines()[-1]
    assert first.startswith("small: 3 of 3 steps done in ") and last == "  Next: charter eval runs/small/taught"
    shown = charter("show", "small")[1].splitlines()
    assert shown[0].startswith("small: 3 of 3 steps done, ") and shown[2] == last
