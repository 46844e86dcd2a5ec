"""Numbers of a task's own rows, by the direction that is better; `facts` are further fields of Metric."""

from __future__ import annotations

from typing import Any

from charter.ground.measure.metric import Measure, Metric


def higher(name: str, table: Measure | None, meaning: str, label: str = "", **facts: Any) -> Metric:
    """A metric of the task's own rows that is better if it is higher."""
    return Metric(name, "", table, "higher", meaning, label=label, **facts)


def lower(name: str, table: Measure | None, meaning: str, label: str = "", **facts: Any) -> Metric:
    """One that is better if it is lower."""
    return Metric(name, "", table, "lower", meaning, label=label, **facts)


def neither(name: str, table: Measure | None, meaning: str, label: str = "", **facts: Any) -> Metric:
    """One that is neither good nor bad by itself."""
    return Metric(name, "", table, "neither", meaning, label=label, **facts)
