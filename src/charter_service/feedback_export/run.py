"""Feedback of users and reviewers on a served model's replies, read from the accounts' database and frozen."""

from __future__ import annotations

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter_service.accounts.export import conduct_of
from charter_service.accounts.store import open_accounts
from charter_service.feedback_export.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: cases.jsonl and feedback.jsonl, with `content` also judgments.jsonl, and counts.json."""
    engine = open_accounts(settings.database or "serve.sqlite", out.people, new=False)
    try:
        export = conduct_of(engine, settings.content)
    finally:
        engine.dispose()
    for file, rows in export.rows.items():
        out.write_jsonl(file, list(rows), restricted=file in export.restricted)
    out.write_json("counts.json", {**export.counts, **export.left_out})
    for name, value in export.counts.items():
        out.metric(name, float(value))
    for metric in export.metrics:
        out.metric(metric.name, metric.value, low=metric.low, high=metric.high, n=metric.n)
