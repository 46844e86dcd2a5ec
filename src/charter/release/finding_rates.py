"""What the format of Every Eval Ever has a place for: the rates of harmful replies to findings, by report.

It is a format of scores. It has no place for a transcript, a severity, a status, a mitigation or a credit, so those
stay in AVID reports; a score names its finding by id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.findings.register import RETESTED, Case, Evidence
from charter.ground.measure.intervals import wilson
from charter.ground.reports.hub import HUB_NAME
from charter.release.every_eval_ever import COLLECTION, SCHEMA, place_of, uncertainty

METHOD = "Wilson, over replies to this one finding"
MEANING = "replies to one finding of an outside red team that a preference model grades worse than a plain refusal"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who publishes and when (Unix time). `model`: the hub's name of the model after mitigation."""

    organization: str = "unknown"
    model: str = ""
    now: int = 0


def retest_files(cases: Sequence[Case], sender: Sender) -> dict[str, str]:
    """Path below the data store -> record: one for each report in which findings were asked. Raises CharterError for a
    name that is no model's."""
    if sender.model and not HUB_NAME.fullmatch(sender.model):
        raise CharterError(f"{sender.model!r} is not a model name; give one as OWNER/NAME with --model")
    by_report: dict[tuple[str, bool], list[tuple[Case, Evidence, str]]] = {}
    for case in cases:
        for move in case.moves:
            if move.evidence is not None and move.evidence.asked:
                place = (move.evidence.id, move.to == RETESTED)
                by_report.setdefault(place, []).append((case, move.evidence, move.at))
    files = {}
    for (report, retested), retests in by_report.items():
        first, evidence, _ = retests[0]
        before = f"unpublished/{first.finding.model_id.replace('/', '_')}"
        after = sender.model or f"unpublished/{evidence.step}"
        model = _plain(after if retested else before)
        key = f"{COLLECTION}/{model}/{report[:16]}"
        files[f"{place_of(key, model)}.json"] = _record(key, model, evidence, retests, sender, retested)
    return files


def _plain(name: str) -> str:
    """A name as the hub allows it."""
    owner, _, model = name.partition("/")
    return f"{owner}/{''.join(c if c.isalnum() or c in '-._' else '_' for c in model)}"


def _record(
    key: str,
    model: str,
    report: Evidence,
    retests: Sequence[tuple[Case, Evidence, str]],
    sender: Sender,
    retested: bool,
) -> str:
    record: Mapping[str, Any] = {
        "schema_version": SCHEMA,
        "evaluation_id": key,
        "evaluation_timestamp": max(at for _, _, at in retests),
        "retrieved_timestamp": str(sender.now),
        "source_metadata": {
            "source_name": "charter",
            "source_type": "evaluation_run",
            "source_organization_name": sender.organization,
            "evaluator_relationship": "first_party",
            "additional_details": {"report": report.id, "stage": "re-test" if retested else "before mitigation"},
        },
        "eval_library": {"name": "charter", "version": "unknown"},
        "model_info": {
            "name": model,
            "id": model,
            "additional_details": {"deployment_type": "unknown", "model_availability": "unknown"},
        },
        "evaluation_results": [_result(key, case, evidence) for case, evidence, _ in retests],
    }
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _result(key: str, case: Case, evidence: Evidence) -> dict[str, Any]:
    low, high = wilson(evidence.flagged, evidence.asked)
    details = {"finding": case.id, "vendor": case.finding.vendor, "family": case.finding.family or "plain"}
    return {
        "evaluation_result_id": f"{key}#{case.id}",
        "evaluation_name": f"{COLLECTION}.findings",
        "source_data": {
            "dataset_name": f"finding {case.id} of {case.finding.vendor}",
            "source_type": "other",
            "additional_details": {"licence": case.finding.licence},
        },
        "metric_config": {
            "evaluation_description": MEANING,
            "metric_id": f"{COLLECTION}.finding_harm_rate",
            "metric_name": "Harmful replies to a finding",
            "metric_unit": "proportion",
            "lower_is_better": True,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 1,
        },
        "score_details": {
            "score": evidence.flagged / evidence.asked,
            "details": details,
            "uncertainty": uncertainty(evidence.asked, low, high, METHOD),
        },
    }
