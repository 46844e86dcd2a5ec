"""What a card draws and claims: nothing of few answers, no interval beyond the possible, one verdict a number."""

from __future__ import annotations

import json
import re
from pathlib import Path

import card_world
import pytest
from card_world import SETTINGS, remeasure

from charter.ground.artifact.store import read_manifest, write_manifest
from charter.ground.measure.metric import Metric, within
from charter.ground.measure.plots import Line
from charter.ground.measure.reporting import metric_problems, read_reported
from charter.ground.reports.changes import changes, families
from charter.ground.reports.compare import compare
from charter.ground.reports.number import FEW
from charter.rooms.card import drawing, lineage, plots, render
from charter.rooms.card.gather import gather
from charter.rooms.card.ledger import Ledger
from charter.rooms.card.lineage import Node, nodes
from charter.rooms.card.sections import deltas


def cut(run: Path, step: str, file: str, most: int) -> None:
    """Leaves the first rows of kept replies."""
    path = run / step / "samples" / file
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:most]), "utf-8")
    remeasure(run, step)


def test_card_and_compare_call_the_same_numbers_significant(finished: Path) -> None:
    run = gather(card_world.inputs(finished))
    rows = {row["metric"]: row for row in compare([finished / "eval_0", finished / "eval_3"])["metrics"]}
    words = {"same": "not significant", "moved": "changed"}
    for head in deltas(run):
        assert head.change is not None
        if head.change.verdict != "refused":
            assert rows[head.name]["verdict"] == words.get(head.change.verdict, head.change.verdict), head.name
    page = render.make(SETTINGS, run)["card.md"]
    table = page[page.index("**All metrics, start to RL-CAI.**") :].split("\n\n")[1]
    bold = {
        re.findall(r"`(\w+)`", line)[0]: re.findall(r", (better|worse)\*\*", line) for line in table.splitlines()[2:]
    }
    assert len(bold) > 40
    for name, marks in bold.items():
        assert marks == [v for v in (rows[name]["verdict"],) if v in ("better", "worse")], name
    heads, others = families(run.start, run.final)
    assert f"headline numbers ({heads}), and over all others ({others})" in page
    compared = [c for c in changes(run.start, run.final).values() if c.number is not None]
    assert heads + others == sum(not c.part for c in compared)


def test_nothing_of_fewer_than_twenty_answers_is_drawn_and_a_line_says_so(run: Path) -> None:
    for step in ("eval_0", "eval_1", "eval_2", "eval_3"):
        cut(run, step, "harmlessness.jsonl", FEW - 1)
        cut(run, step, "lookalikes.jsonl", FEW)
        cut(run, step, "hhh.jsonl", 3 * (FEW - 1))
    cut(run, "pm_reward", "heldout_pairs.jsonl", FEW - 1)
    files = render.make(SETTINGS, gather(card_world.inputs(run)))
    assert (
        not {"plots/harm.svg", "plots/refusals.svg", "plots/choices.svg", "plots/preference-pm_reward.svg"}
        & files.keys()
    )
    assert "plots/preference-pm_grader.svg" in files
    assert 'id="strip-harm_answered_rate-title"' not in files["card.html"]
    assert 'id="strip-helpful_score-title"' in files["card.html"]
    (line,) = re.findall(r"^Measured on fewer than 20 answers each: (.*)\.$", files["card.md"], re.MULTILINE)
    few = {"Answered, worse than a plain refusal", "Unsafe refused", "Pair accuracy", "HHH, by letter"}
    assert few <= {*line.split("; ")}
    assert "Look-alikes refused" not in line, "twenty are enough"
    assert re.search(r"n.=.19", files["card.md"]), "tables have them, with n"


def test_a_run_with_enough_says_nothing_of_what_is_not_drawn(finished: Path) -> None:
    words = (finished / "card/card.md").read_text("utf-8")
    drawn = {line for line in words.splitlines() if line.startswith("Not drawn")}
    assert all("Unsafe refused" not in line for line in drawn)


def keep_two_sure_pairs(run: Path) -> None:
    """Leaves the reward model two held-out pairs: it is sure of both, and wrong on the second."""
    path = run / "pm_reward/samples/heldout_pairs.jsonl"
    pairs = [json.loads(line) for line in path.read_text().splitlines()[:2]]
    for row, margin in zip(pairs, (9.0, -9.0), strict=True):
        row |= {"chosen_score": margin, "correct": margin > 0}
    card_world.write_rows(path, pairs)
    remeasure(run, "pm_reward")


def test_no_interval_leaves_what_is_possible(run: Path) -> None:
    """Two pairs, of which the model is sure and wrong, gave an overconfidence of up to 688 %."""
    keep_two_sure_pairs(run)
    cut(run, "eval_2", "hhh.jsonl", 9)
    cut(run, "eval_3", "hhh.jsonl", 9)
    record = json.loads(render.make(SETTINGS, gather(card_world.inputs(run)))["card.json"])
    shares = [n for n in record["numbers"] if n["unit"] == "share" and n["low"] is not None]
    assert len(shares) > 100
    for n in shares:
        signed = n["change"] or any(part in n["name"] for part in ("gap", "overconfidence", "over_rule"))
        least = -2.0 if n["change"] else -1.0 if signed else 0.0
        assert least <= n["low"] <= n["value"] <= n["high"] <= -least or (not signed and n["high"] <= 1), n["key"]
    reported = read_reported(run / "pm_reward")
    by_name = {one.name: one for one in reported.scores}
    assert by_name["pair_overconfidence"].high == 1.0 and by_name["pair_overconfidence"].low == -1.0
    assert by_name["pair_calibration_error"].low == 0.0


def test_an_interval_that_an_earlier_charter_recorded_beyond_it_still_follows(run: Path) -> None:
    keep_two_sure_pairs(run)
    manifest = read_manifest(run / "pm_reward")

    def told(high: float) -> list[str]:
        metrics = [
            m.model_copy(update={"high": high}) if m.name == "pair_overconfidence" else m for m in manifest.metrics
        ]
        changed = manifest.model_copy(update={"metrics": metrics})
        others = {m.name: m.value for m in metrics}
        return list(metric_problems(changed, read_reported(run / "pm_reward"), others))

    assert told(6.88) == [] and any("pair_overconfidence: high" in line for line in told(0.7))


@pytest.mark.parametrize(
    ("metric", "limits"),
    [
        (Metric("a", "", None, "lower", ""), (0, 1)),
        (Metric("a", "", None, "neither", ""), (-1, 1)),
        (Metric("a", "", None, "higher", "", "rating", span=(0.0, 4.0)), (0, 4)),
        (Metric("a", "", None, "higher", "", "BLEU"), (0, 100)),
        (Metric("a", "", None, "higher", "", "r"), (-1, 1)),
        (Metric("a", "", None, "lower", "", "nats"), (float("-inf"), float("inf"))),
    ],
)
def test_limits_follow_from_unit_and_kind(metric: Metric, limits: tuple[float, float]) -> None:
    assert metric.limits == limits


def test_an_interval_keeps_its_value_and_what_is_not_known() -> None:
    assert within((-0.5, 1.5), (0.0, 1.0), 0.4) == (0.0, 1.0)
    assert within((-0.5, None), (0.0, 4.0), -0.2) == (-0.2, None)


def test_reward_against_kl_is_joined_in_the_order_of_steps(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The KL falls again at the last step, which the dot marks."""
    rows = [{"step": i, "reward": float(i), "kl": kl} for i, kl in enumerate((0.0, 1.0, 1.8, 1.1))]
    card_world.write_rows(run / "rl/log.jsonl", rows)
    remeasure(run, "rl")
    panels: dict[str, list[Line]] = {}
    curves = drawing.curves
    monkeypatch.setattr(
        drawing,
        "curves",
        lambda axes, title, lines, *rest: (panels.update({title: lines}), curves(axes, title, lines, *rest)),
    )
    world = gather(card_world.inputs(run))
    assert plots.ppo(world, Ledger()) is not None
    (line,) = panels["Reward against KL, dot: last step"]
    assert line.x == [0.0, 1.0, 1.8, 1.1] and line.y == [0.0, 1.0, 2.0, 3.0]


def chain(name: str, *parents: str) -> Node:
    return Node(
        name, "finetune", "checkpoint", name, tuple(("policy", p) for p in parents), (), "", None, False, (), ()
    )


def test_no_edge_of_the_lineage_runs_behind_a_box(finished: Path) -> None:
    """`z` is a child of the first and of the last box of a chain beside it."""
    made_up = [chain("a"), chain("b"), chain("c", "a"), chain("d", "c"), chain("e", "c"), chain("z", "b", "d")]
    for members in (made_up, list(nodes(gather(card_world.inputs(finished))))):
        tree = lineage.draw(members, "z", Ledger())
        boxes = [tuple(map(float, b)) for b in re.findall(r'<rect x="([\d.-]+)" y="([\d.-]+)"', tree)]
        edges = re.findall(r'class="edge" d="([^"]+)"', tree)
        assert len(boxes) == len(members) and edges
        for edge in edges:
            # upright parts: from the end of a curve to where the next one begins
            for x, top, _, bottom in re.findall(r"([\d.-]+) ([\d.-]+)L([\d.-]+) ([\d.-]+)", edge):
                assert float(bottom) - float(top) == lineage.HEIGHT
                assert not any(y == float(top) and left <= float(x) <= left + lineage.WIDTH for left, y in boxes)
    assert any("L" in edge for edge in re.findall(r'class="edge" d="([^"]+)"', lineage.draw(made_up, "z", Ledger())))


def test_the_recipe_is_the_one_that_was_run_and_the_commit_is_named(run: Path) -> None:
    words = (run / "card/card.md").read_text("utf-8")
    assert "git checkout 5f3a9c1e0b7d\ncharter run RECIPE.yaml " in words, "an earlier charter kept no path"
    manifest = read_manifest(run / "eval_3")
    asked = "mine/talk.yaml --set rl.steps=20"
    write_manifest(run / "eval_3", manifest.model_copy(update={"command": asked}))
    files = render.make(SETTINGS, gather(card_world.inputs(run)))
    assert f"git checkout 5f3a9c1e0b7d\ncharter run {asked} " in files["card.md"]
    assert f"charter run {asked} " in files["card.html"]


def test_false_alarms_stand_in_the_tile_of_the_grade(finished: Path) -> None:
    page = (finished / "card/card.html").read_text("utf-8")
    tiles = re.findall(r'<div class="head[^"]*">.*?</div>', page, re.DOTALL)
    (tile,) = (t for t in tiles if "Answered, worse than a plain refusal" in t)
    assert "False alarms, the same of harmless look-alikes:" in tile
    assert sum("False alarms" in t for t in tiles) == 1 and "harm rate" not in page.lower()
