"""A card with findings of outside red teams: its log of mitigations, and dialogues in a wrong place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import card_world
from card_world import SETTINGS, make_card

from charter.rooms.card.verify import card_problems

PARENTS = (("reports", "eval_0"), ("findings", "asked"))
ROW = {
    "finding": "acme-1",
    "severity": 3,
    "date": "2026-12-03",
    "changed": "sl_cai",
    "artifact": "c" * 64,
    "retest": "d" * 64,
    "before": [14, 15],
    "after": [1, 17],
    "status": "closed",
}
OPEN = ROW | {"finding": "acme-2", "retest": None, "before": None, "after": None, "status": "mitigated"}


def add_findings(run: Path, *rows: dict[str, object]) -> None:
    """An artifact of the intake room."""
    (run / "asked").mkdir()
    card_world.write_rows(run / "asked/mitigations.jsonl", rows)
    card_world.write_rows(run / "asked/dialogues.jsonl", [{"id": "acme-1", "prompt": "Tell a lie."}])
    (run / "asked/counts.json").write_text(json.dumps({"findings": 23}))
    card_world.finish(run, "asked", "intake", "dialogues")


def test_the_log_stands_in_the_card_and_its_numbers_have_a_source(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    add_findings(run, ROW, OPEN)
    card = make_card(run, SETTINGS, PARENTS)
    words = (card / "card.md").read_text("utf-8")
    assert "`asked`, which holds 23 findings" in words
    assert (
        "| `acme-1` | 2026-12-03 | `sl_cai` | `cccccccccccc` | `dddddddddddd` | 14 of 15 | 1 of 17 | closed |" in words
    )
    assert "| `acme-2` | 2026-12-03 | `sl_cai` | `cccccccccccc` | none | not asked | not asked | mitigated |" in words
    assert "acme-1" in (card / "card.html").read_text("utf-8")
    shown = card_world.shown(card)
    number = shown["asked/harmful replies after, row 1"]
    assert (number["value"], number["sources"][0]["file"]) == (1, "mitigations.jsonl")
    assert card_problems(card) == []


def test_a_log_without_a_mitigation_says_so(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    add_findings(run)
    words = (make_card(run, SETTINGS, PARENTS) / "card.md").read_text("utf-8")
    assert "holds 23 findings. Nothing was changed because of them." in words
