"""Numbers of folders that tests fill by hand: by the metrics of every room, as the rooms themselves record them."""

from __future__ import annotations

from pathlib import Path

from charter.ground.measure.metrics import OF_LABELLERS, OF_PREFERENCE, OF_TEXT
from charter.ground.measure.ratings import OF_RATERS
from charter.ground.measure.reporting import Reported, Score, compute_metrics, write_tables
from charter.ground.measure.reviews import OF_REVIEWS
from charter.ground.measure.scaling import OF_SCALING
from charter.ground.measure.selection import OF_SELECTION
from charter.rooms.attack.metrics import METRICS as OF_ATTACKS
from charter.rooms.audit.metrics import METRICS as OF_AUDITS
from charter.rooms.debias.metrics import OF_DEBIAS
from charter.rooms.evaluate.catalogue import METRICS

OTHERS = (*OF_TEXT, *OF_PREFERENCE, *OF_LABELLERS, *OF_RATERS, *OF_REVIEWS, *OF_DEBIAS, *OF_SELECTION, *OF_SCALING)
# what a report says of a number, and what a step of another room says of one of the same name
EVERY = tuple({metric.name: metric for metric in (*OTHERS, *METRICS)}.values())
ELSEWHERE = tuple({metric.name: metric for metric in (*METRICS, *OTHERS)}.values())
BY_NAME = {metric.name: metric for metric in EVERY}


def reported(folder: Path) -> Reported:
    """What the kept rows of a folder give."""
    if (folder / "curve.jsonl").exists():
        return compute_metrics(folder, OF_ATTACKS)
    if (folder / "samples" / "tries.jsonl").exists():
        return compute_metrics(folder, OF_AUDITS)
    return compute_metrics(folder, EVERY if (folder / "report.json").exists() else ELSEWHERE)


def scores(folder: Path) -> list[Score]:
    """The numbers of `reported`."""
    return reported(folder).scores


def keep_tables(folder: Path) -> list[Score]:
    """Writes tables.json as a room does; the numbers in it."""
    found = reported(folder)
    if found.metrics:
        write_tables(folder, found)
    return found.scores
