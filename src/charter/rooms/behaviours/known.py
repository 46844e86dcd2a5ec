"""The filter's test: rows of known label, some of them flipped. Does what is kept have the right label?"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.measure import counts
from charter.ground.measure.intervals import wilson
from charter.ground.measure.metric import Metric
from charter.ground.measure.question_sets import PEOPLE, writer
from charter.ground.settings.recognise import ROW_ENDINGS
from charter.ground.text.columns import raw_rows
from charter.rooms.behaviours.definition import SIDES, of_name
from charter.rooms.behaviours.writing import Statement

KNOWN, STATEMENTS = "known.jsonl", "statements.jsonl"
FEWEST = 20


def read_known(path: Path, people: bool = False) -> Iterator[Statement]:
    """The statements of a file, or of a folder's files, in the columns of anthropics/evals; rows without a statement
    are skipped, with `people` also those that no person wrote. Raises CharterError that names file and line."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.name.endswith(ROW_ENDINGS))
    for place, row in (entry for file in files for entry in raw_rows(file)):
        try:
            answer, behaviour = str(row["answer_matching_behavior"]).strip(), of_name(str(row["behavior"]))
        except KeyError as error:
            raise CharterError(
                f"{place}: a known row has no {error.args[0]}; expected behavior, statement, answer_matching_behavior"
            ) from None
        is_asked = row.get("statement") and answer in ("Yes", "No")
        if is_asked and (not people or writer(row) == PEOPLE):
            yield Statement(behaviour, SIDES[answer == "No"], str(row["statement"]))


def flip(statements: Sequence[Statement], share: float, seed: int) -> list[tuple[Statement, bool]]:
    """The statements with the sides of a share of them flipped, and whether each side is still right."""
    wrong = set(random.Random(seed).sample(range(len(statements)), round(share * len(statements))))
    return [
        (Statement(s.behaviour, SIDES[1 - SIDES.index(s.side)], s.text), False) if n in wrong else (s, True)
        for n, s in enumerate(statements)
    ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a filter is fit. Of `n` rows with a share `right` it kept `kept`, of these `kept_right` with the right
    label."""

    n: int
    right: int
    kept: int
    kept_right: int
    fit_from: float

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], fit_from: float) -> Verdict:
        """The verdict from the kept rows of the test."""
        kept = [row for row in rows if row["kept"]]
        return cls(len(rows), sum(r["right"] for r in rows), len(kept), sum(r["right"] for r in kept), fit_from)

    @property
    def precision(self) -> float | None:
        """The share of right labels among kept rows; None if none was kept."""
        return self.kept_right / self.kept if self.kept else None

    @property
    def fit(self) -> bool:
        """Whether enough rows were kept, with the wanted precision, and surely more right ones than before."""
        low, _ = wilson(self.kept_right, self.kept)
        enough = self.precision is not None and self.precision >= self.fit_from
        return self.kept >= FEWEST and enough and low > self.right / self.n

    @property
    def why(self) -> str:
        """The verdict in words."""
        if not self.kept:
            return f"filter unfit: it kept none of {self.n} known rows"
        low, high = wilson(self.kept_right, self.kept)
        return (
            f"filter {'fit' if self.fit else 'unfit'}: of {self.n} known rows, {self.right / self.n:.0%} with the "
            f"right label, it kept {self.kept} ({self.kept / self.n:.0%}), of which {self.precision:.0%} ({low:.0%} to "
            f"{high:.0%}) are right; fit from {self.fit_from:.0%} of at least {FEWEST}, surely more than before"
        )


METRICS: tuple[Metric, ...] = (
    Metric(
        "filter_precision",
        KNOWN,
        counts.mean("right", lambda row: bool(row["kept"])),
        "higher",
        "known rows kept by the filter whose label is right",
        about="judge",
        label="Filter, right among kept",
    ),
    Metric(
        "filter_yield",
        KNOWN,
        counts.flag("kept"),
        "neither",
        "known rows that the filter keeps",
        about="judge",
        label="Filter, kept",
    ),
    Metric(
        "filter_base",
        KNOWN,
        counts.flag("right"),
        "neither",
        "known rows whose label is right before the filter",
        about="data",
        label="Filter, right before",
    ),
    Metric(
        "statements_confirmed",
        STATEMENTS,
        counts.flag("confirmed", lambda row: not row["copy"]),
        "neither",
        "written statements, without near copies, whose side both graders confirm",
        about="data",
        label="Statements confirmed",
    ),
    Metric(
        "statements_copied",
        STATEMENTS,
        counts.flag("copy"),
        "lower",
        "written statements that nearly copy an earlier or a gold one",
        about="data",
        label="Statements copied",
    ),
)
