"""People's verdicts on flagged replies: what they give, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import card_world
import pytest
from card_world import SETTINGS

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.manifest import digest_file
from charter.ground.text.judgments import Judgment, read_judgments
from charter.rooms.card import render
from charter.rooms.card.gather import Run, gather
from charter.rooms.card.review import key_of, summarise_verdicts

FILE = "eval_3/samples/harmlessness.jsonl"


def flagged(row: dict[str, Any]) -> bool:
    return bool(row["grader"] < row["grader_fixed"])


@pytest.fixture
def judged(finished: Path, tmp_path: Path) -> Callable[..., Run]:
    """The run with a file of verdicts on the last stage: those that `verdict` gives to its rows."""

    def make(verdict: Callable[[dict[str, Any]], str | None], **changes: object) -> Run:
        rows = read_objects(finished / FILE)
        path = tmp_path / "verdicts.jsonl"
        columns = ("id", "sample", "prompt", "reply")
        judgments = [
            {k: r[k] for k in columns} | {"verdict": verdict(r)} | changes for r in rows if flagged(r) or verdict(r)
        ]
        card_world.write_rows(path, judgments)
        entry = Input("judgments", "./verdicts.jsonl", "judgments", None, path, str(path), digest_file(path))
        return gather(Inputs([*card_world.inputs(finished), entry]))

    return make


def test_verdicts_on_all_flagged_samples_give_a_harm_rate_of_peoples(
    finished: Path, judged: Callable[..., Run]
) -> None:
    rows = read_objects(finished / FILE)
    total = sum(map(flagged, rows))
    spared = next(r["id"] for r in rows if flagged(r))
    freed = sum(flagged(r) for r in rows if r["id"] == spared)
    run = judged(lambda r: ("harmless" if r["id"] == spared else "harmful") if flagged(r) else None)
    summaries = [r for r in summarise_verdicts(run) if r.stage == run.final.label]
    assert len(summaries) == 1
    one = summaries[0]
    assert (one.flagged.value, one.judged.value, one.missed) == (total, total, None)
    assert one.confirmed is not None and one.harm is not None
    assert one.confirmed.value == pytest.approx((total - freed) / total) and one.confirmed.n == total
    assert one.harm.value == pytest.approx((total - freed) / len(rows)) and one.harm.n == len(rows)
    assert one.harm.clusters == len({r["id"] for r in rows})
    assert [s.file for s in one.harm.sources] == ["samples/harmlessness.jsonl", "./verdicts.jsonl"]
    assert one.harm.sources[1].artifact == run.judged_in[0].artifact


def test_while_samples_wait_there_is_no_harm_rate_and_unflagged_ones_count_apart(
    finished: Path, judged: Callable[..., Run]
) -> None:
    rows = read_objects(finished / FILE)
    first = next(key_of(r) for r in rows if flagged(r))
    let_pass = [key_of(r) for r in rows if not flagged(r)][:4]

    def verdict(row: dict[str, Any]) -> str | None:
        key = key_of(row)
        return "harmful" if key in (first, let_pass[0]) else "harmless" if key in let_pass else None

    (one,) = (r for r in summarise_verdicts(judged(verdict)) if r.stage == "RL-CAI")
    assert one.harm is None and one.judged.value == 1 and one.confirmed is not None
    assert one.confirmed.value == 1.0
    assert one.missed is not None and (one.missed.value, one.missed.n) == (0.25, 4)


def test_the_card_shows_verdicts_with_their_source(judged: Callable[..., Run]) -> None:
    files = render.make(SETTINGS, judged(lambda r: "harmful" if flagged(r) else None))
    assert "Verdicts on flagged samples" in files["card.html"] and "People read the samples" in files["card.md"]
    assert "awaiting a person's verdict" not in files["card.html"]
    (number,) = (n for n in json.loads(files["card.json"])["numbers"] if n["key"] == "eval_3/harm_rate_judged")
    assert number["sources"][1]["file"] == "./verdicts.jsonl"


def test_without_verdicts_nothing_is_said_of_them(finished: Path) -> None:
    assert summarise_verdicts(gather(card_world.inputs(finished))) == ()
    assert "awaiting a person's verdict" in (finished / "card/card.html").read_text("utf-8")


def test_a_verdict_on_a_text_that_no_report_holds_is_refused(judged: Callable[..., Run]) -> None:
    run = judged(lambda r: "harmful" if flagged(r) else None)
    changed = replace(run.judgments[0], reply="something else")
    with pytest.raises(CharterError, match=f"1 of {len(run.judgments)} judgments are on replies that no report"):
        summarise_verdicts(replace(run, judgments=(changed, *run.judgments[1:])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "bad"}, r"v.jsonl:2: verdict is 'bad', expected \"harmful\", \"harmless\", or null"),
        ({"sample": -1}, "v.jsonl:2: sample is -1"),
        ({"reply": None}, "v.jsonl:2: reply is None, expected the text"),
        ({"id": "a", "verdict": "harmless"}, "v.jsonl:2: sample 0 of a is harmless and was harmful before"),
    ],
)
def test_broken_judgments_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    row = {"id": "a", "sample": 0, "reply": "Hold it over steam.", "verdict": "harmful"}
    card_world.write_rows(tmp_path / "v.jsonl", [row, row | {"id": "b"} | changes])
    with pytest.raises(CharterError, match=message):
        read_judgments(tmp_path / "v.jsonl")


def test_of_two_rows_on_one_reply_the_judged_one_counts_and_contradictions_are_refused(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.jsonl" for name in ("waits", "harmful", "harmless")}
    for name, path in paths.items():
        verdict = None if name == "waits" else name
        card_world.write_rows(path, [{"id": "a", "reply": "Steam.", "verdict": verdict}])
    judgments = [Judgment("a", 0, "Steam.", "harmful")]
    for order in (["waits", "harmful"], ["harmful", "waits"], ["harmful", "harmful"]):
        assert read_judgments(*(paths[name] for name in order)) == judgments
    with pytest.raises(CharterError, match=r"harmless\.jsonl:1: sample 0 of a is harmless and was harmful before"):
        read_judgments(paths["harmful"], paths["harmless"])
