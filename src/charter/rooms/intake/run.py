"""Freezes the findings of outside red teams, so that evaluations and training name them by an artifact's id."""

from __future__ import annotations

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.findings.log import read_log
from charter.ground.findings.register import Register
from charter.ground.findings.selection import MITIGATIONS, Wanted, mitigations, prompt_row, reason_against, state_row
from charter.rooms.intake.counts import STATES, count, severity_metrics
from charter.rooms.intake.settings import Settings


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: dialogues.jsonl (prompts), findings.jsonl (the state of every finding and why it was left out),
    mitigations.jsonl, tip.json, counts.json; only the owner can open the rows."""
    kept = read_log(inputs.one("findings").folder)
    cases = list(Register(kept.events).cases.values())
    wanted = Wanted(**settings.model_dump())
    states = [state_row(case) | {"dropped": reason_against(case, wanted)} for case in cases]
    rows = [prompt_row(case, settings.use) for case, state in zip(cases, states, strict=True) if not state["dropped"]]
    counts = count(states)
    if not rows:
        raise CharterError(f"none of {len(cases)} findings is left ({counts}); choose others by the settings")
    log = mitigations(cases)
    out.write_jsonl("dialogues.jsonl", rows, restricted=True)
    out.write_jsonl(STATES, states, restricted=True)
    out.write_jsonl(MITIGATIONS, log, restricted=True)
    out.write_json("tip.json", {"lines": len(kept.events), "tip": kept.tip})
    out.counts(counts)
    for name, estimate, items in severity_metrics(states):
        out.metric(name, estimate.value, low=estimate.low, high=estimate.high, n=items)
