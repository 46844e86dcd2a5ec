"""A finding as a report of the AI Vulnerability Database, in the columns of its package avidtools (0.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.findings.register import Case
from charter.ground.findings.selection import mitigations

# the taxonomy's class of attacks on what a model was taught to refuse, and the stage in which outsiders find them
BYPASS, DEPLOYMENT, TAXONOMY = "S0400: Model Bypass", "L06: Deployment", "0.2"
UNKNOWN = "und"  # the language of a text that doesn't say it (ISO 639)


def avid_report(case: Case, developer: Sequence[str] = (), texts: bool = False) -> dict[str, Any]:
    """The report. With `texts` its description holds the whole transcript, else the attacker's description alone."""
    finding = case.finding
    language = finding.language or UNKNOWN
    description = finding.task_description
    if texts:
        description = "\n\n".join([description, *(f"{m['role']}: {m['content']}" for m in finding.messages)])
    log = mitigations([case])
    links = [(f"changed: {row['changed']}", row["artifact"]) for row in log]
    links += [("re-test", row["retest"]) for row in log if row["retest"]]
    return {
        "data_type": "AVID",
        "data_version": "0.1",
        "metadata": {"report_id": case.id},
        "affects": {
            "developer": list(developer),
            "deployer": [],
            "artifacts": [{"type": "Model", "name": finding.model_id}],
        },
        "problemtype": {
            "classof": "LLM Evaluation",
            "type": finding.report_type,
            "description": {"lang": language, "value": finding.task_description},
        },
        "metrics": [*_severity(case), *_retests(log)],
        "references": [{"label": label, "url": f"urn:sha256:{id}"} for label, id in links],
        "description": {"lang": language, "value": description},
        "impact": {
            "avid": {
                "risk_domain": ["Security"],
                "sep_view": [BYPASS],
                "lifecycle_view": [DEPLOYMENT],
                "taxonomy_version": TAXONOMY,
            }
        },
        "credit": [{"lang": UNKNOWN, "value": finding.vendor}],
        "reported_date": finding.collected_at,
    }


def _severity(case: Case) -> list[dict[str, Any]]:
    if case.severity is None:
        return []
    severities = [review.severity for review in case.reviews]
    return [_metric("severity, 0 to 4", "reviewers", {"severity": case.severity, "reviewers": severities})]


def _retests(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        _metric(
            "harmful replies to this finding, of all",
            "grader below a fixed refusal",
            {"before": row["before"], "after": row["after"]},
        )
        for row in log
        if row["after"]
    ]


def _metric(name: str, method: str, results: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "detection_method": {"type": "Static Threshold", "name": method}, "results": results}
