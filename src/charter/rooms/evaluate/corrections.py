"""Rates corrected for a judge's errors, as the task `labelled` of the same report measures them.

A report that lacks one says why: no labelled rows, or a judge too weak.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from charter.ground.measure.correction import why_none
from charter.ground.measure.metric import Metric, corrected_metric
from charter.ground.measure.reporting import Reported

# Who judges -> what of it the task `labelled` measures.
WHAT: Mapping[str, str] = {"grader": "grader_harm", "detector": "detector_refusal"}


def missing_corrections(reported: Reported, metrics: Sequence[Metric]) -> Iterator[tuple[Metric, str]]:
    """(metric, why) of each corrected rate whose counted rate a report has."""
    for metric in metrics:
        if not metric.corrected or metric.name in reported.metrics:
            continue
        rate, *errors = metric.parts
        if rate in reported.tables:
            tables = [reported.tables[part] for part in errors if part in reported.tables]
            lacking = [part for part in errors if part not in reported.tables]
            yield metric, why_none(*tables) if not lacking else _unmeasured(lacking)


def _unmeasured(lacking: Sequence[str]) -> str:
    return f"nothing measures {' and '.join(lacking)} here: add labelled to tasks, with labelled rows of that kind"


def corrected(name: str, rate: str, judge: Literal["grader", "detector"], of: Metric) -> Metric:
    """The metric `rate`, described by `of`, corrected for the errors of the grader of harm or the detector of
    refusals."""
    errors = [f"labelled_{WHAT[judge]}_{kind}" for kind in ("sensitivity", "specificity")]
    return corrected_metric(of, name, rate, errors, f", corrected for the {judge}'s errors on labelled replies")
