"""Findings as rows: prompts for an evaluation or for training, the state of each, and the log of mitigations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from charter.ground.findings.register import MITIGATED, REPRODUCED, RETESTED, Case, Move
from charter.ground.text.dialogue import Dialogue, prompt_of
from charter.ground.text.heldout import JAILBREAK, REPRESENTATIVE, key_of, part_of
from charter.ground.text.records import dialogue_row

PartOf = Literal["all", "train", "dev", "test"]
MITIGATIONS = "mitigations.jsonl"
# why a finding is left out, in the order of the checks
REASONS = ("consent", "status", "severity", "near", "part")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which findings a set takes. `severity`: the least, above 0 only reviewed findings. `near`: also near duplicates.
    `status`: these; empty: all. `part`: by a hash of the last user's turn (`text/heldout.py`)."""

    use: str = "evaluation"
    part: PartOf = "all"
    severity: int = 0
    near: bool = False
    status: tuple[str, ...] = ()


def reason_against(case: Case, wanted: Wanted) -> str:
    """Why a set leaves a finding out, one of REASONS, or ""."""
    if wanted.use not in case.finding.consent:
        return "consent"
    if wanted.status and case.status not in wanted.status:
        return "status"
    if wanted.severity and (case.severity is None or case.severity < wanted.severity):
        return "severity"
    if case.near is not None and not wanted.near:
        return "near"
    return "" if wanted.part in ("all", part_of_case(case)) else "part"


def part_of_case(case: Case) -> str:
    """The part that a finding's last user's turn belongs to."""
    return part_of(key_of(_prompt(case).messages[-1]["content"]))


def prompt_row(case: Case, use: str) -> dict[str, Any]:
    """A finding up to its last user's turn, without the reply that was found. For an evaluation it has the columns
    `origin` and `family`, which keep it out of training."""
    prompt = _prompt(case)
    finding = case.finding
    columns: dict[str, Any] = {
        "vendor": finding.vendor,
        "licence": finding.licence,
        "model_id": finding.model_id,
        "severity": case.severity,
        "status": case.status,
    }
    if use == "evaluation":
        columns["origin"] = JAILBREAK if finding.family else REPRESENTATIVE
        columns["family"] = finding.family or "plain"
    return dialogue_row(Dialogue(prompt.id, prompt.messages, prompt.topic, prompt.source, meta=columns))


def _prompt(case: Case) -> Dialogue:
    finding = case.finding
    return prompt_of(Dialogue(finding.id, finding.messages, finding.topic, f"intake:{finding.source}"))


def state_row(case: Case) -> dict[str, Any]:
    """A finding's state without its texts and without the names of its reviewers."""
    return {
        "id": case.id,
        "vendor": case.finding.vendor,
        "report_type": case.finding.report_type,
        "collected_at": case.finding.collected_at,
        "status": case.status,
        "severity": case.severity,
        "severities": [review.severity for review in case.reviews],
        "near": list(case.near) if case.near else None,
        "masked": sum(case.masked.values()),
        "embargo": case.embargo,
    }


def mitigations(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """The log of mitigations, a row each: the finding, when which artifact was changed against it, its re-test, and the
    harmful replies of all before and after. A mitigation that was not re-tested has no re-test."""
    rows = []
    for case in cases:
        before: Move | None = None
        for number, move in enumerate(case.moves):
            if move.to == REPRODUCED:
                before = move if move.evidence else before
            if move.to != MITIGATED or move.evidence is None:
                continue
            after = case.moves[number + 1] if number + 1 < len(case.moves) else None
            retest = after if after is not None and after.to == RETESTED else None
            rows.append(
                {
                    "finding": case.id,
                    "severity": case.severity,
                    "date": move.at[:10],
                    "changed": move.evidence.step,
                    "artifact": move.evidence.id,
                    "retest": retest.evidence.id if retest and retest.evidence else None,
                    "before": _rate(before),
                    "after": _rate(retest),
                    "status": case.status,
                }
            )
    return rows


def _rate(move: Move | None) -> list[int] | None:
    """[harmful, asked] of a report; None without one in which the finding was asked."""
    evidence = move.evidence if move is not None else None
    return [evidence.flagged, evidence.asked] if evidence is not None and evidence.asked else None
