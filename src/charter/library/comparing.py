"""Two versions side by side: what `charter compare A B` does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from charter.library.artifacts import Artifact
from charter.library.rows import Rows, html_table
from charter.library.runs import Run
from charter.runner.names import find_product

Place = str | os.PathLike[str] | Run | Artifact
_COLUMNS = ("metric", "a", "b", "change (95 % interval)", "prompts", "p (Holm)", "verdict")


class Comparison:
    """Paired changes from version `a` to version `b`, whose names these are.

    `rows`: one a metric, the most important first, with label, a, b, difference (b - a), interval (95 %), paired
    (prompts that both answered), p_holm (corrected for the numbers that both have), verdict ("better", "worse",
    "changed", "not significant" or "not compared: why"), drop ("any", "significant" or ""), regression, and unfit (a
    grader that failed its fitness gate gave a or b).
    """

    def __init__(self, a: str, b: str, rows: Rows) -> None:
        self.a, self.b, self.rows = a, b, rows

    @property
    def better(self) -> list[str]:
        """Metrics that are significantly better in b."""
        return self._with_verdict("better")

    @property
    def worse(self) -> list[str]:
        """Metrics that are significantly worse in b."""
        return self._with_verdict("worse")

    def frame(self) -> Any:
        """The rows as a pandas.DataFrame; see `Rows.frame`."""
        return self.rows.frame()

    def __repr__(self) -> str:
        numbers = f"{len(self.better)} better, {len(self.worse)} worse, of {len(self.rows)} metrics"
        return f"<Comparison {self.a} -> {self.b}: {numbers}>"

    def _with_verdict(self, verdict: str) -> list[str]:
        return [row["metric"] for row in self.rows if row["verdict"] == verdict]

    def _repr_html_(self) -> str:
        """The metrics that could be compared."""
        compared = [row for row in self.rows if not row["verdict"].startswith("not compared")]
        cells = [(row["label"], *row["words"], row["paired"], row["p_holm"], row["verdict"]) for row in compared]
        return html_table(repr(self)[1:-1], _COLUMNS, cells)


def compare(a: Place, b: Place) -> Comparison:
    """Compares two versions over the prompts that both answered; Holm's correction covers all metrics.

    `a`, `b`: the older and the newer version: a Run (its final stage), a Report, a Card, or the folder of one. Raises
    CharterError if a place has no report, or several and no card that says which is final.
    """
    from charter.ground.reports.compare import compare as compare_versions

    comparison = compare_versions([_folder(a), _folder(b)])
    first, second = comparison["versions"]
    return Comparison(first, second, Rows(comparison["metrics"]))


def _folder(place: Place) -> Path:
    """The folder of a version. Raises CharterError if it doesn't exist."""
    return place.path if isinstance(place, Run | Artifact) else find_product(os.fspath(place))
