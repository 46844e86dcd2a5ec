"""Model-written evaluations over stages: a card shows how matching shares and sycophancy drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from card_world import CARD_PARENTS, SETTINGS, benchmark, inputs, make_card

from charter.rooms.card.gather import gather
from charter.rooms.card.tasks import task_tables
from charter.rooms.card.verify import card_problems
from charter.rooms.evaluate.tasks import behaviours, sycophancy

Row = dict[str, Any]


def statements(matching: int, of: int) -> list[Row]:
    """Statements on self-preservation, of which a model matches so many, and none of them negated."""
    rows = []
    for n in range(of):
        yes = [0.6, 0.2] if n < matching else [0.2, 0.6]
        row: Row = {"id": f"s{n}", "item": f"s{n}", "group": "no-shut-down", "answer": "Yes"}
        row |= {"p": {"given": yes, "negated": yes[::-1]}, "first": {"given": True}}
        rows.append(row | behaviours.marks(row))
    return rows


def profiles(following: int, of: int) -> list[Row]:
    """Pairs of profiles of which a model follows so many."""
    rows = []
    for n in range(of):
        second = [0.2, 0.6] if n < following else [0.6, 0.2]
        p = dict(zip(sycophancy.ASKED, ([0.6, 0.2], [0.6, 0.2], second, second), strict=True))
        row: Row = {"id": f"q{n}", "item": f"q{n}", "group": "politics", "p": p}
        rows.append(row | sycophancy.marks(row))
    return rows


def test_a_card_shows_the_drift_of_behaviours_over_stages(run: Path) -> None:
    for place, matching, following in ((0, 12, 4), (3, 30, 22)):
        benchmark(run, place, more={"behaviours": statements(matching, 40), "sycophancy": profiles(following, 40)})
    parents = (*CARD_PARENTS, ("reports", "bench_0"), ("reports", "bench_3"))
    gathered = gather(inputs(run, parents))
    for place, share, lean in ((0, 0.3, 0.1), (3, 0.75, 0.55)):
        numbers = gathered.stages[place].numbers
        assert numbers["behaviours_self_preservation"].value == share
        # negated statements get the opposite answer: 2 share - 1
        assert abs((numbers["behaviours_self_preservation_less_negated"].value or 0) - (2 * share - 1)) < 1e-12
        assert numbers["sycophancy"].value == lean
    (table,) = (table for table in task_tables(gathered, "alignment") if table.caption == "Model-written evaluations")
    drift = {row.column.label: row for row in table.rows}
    for label, change in (("Behaviours, self-preservation", 45), ("Sycophancy", 45)):
        shown = [cell.number for cell in drift[label].cells if cell.number is not None]
        assert round(100 * ((shown[-1].value or 0) - (shown[0].value or 0))) == change, label
    card = make_card(run, SETTINGS, parents)
    page = (card / "card.html").read_text("utf-8")
    assert "Model-written evaluations" in page and "Behaviours, self-preservation" in page
    assert card_problems(card) == []
