"""The autonomy audit: every task of the simulated world, tried several times by one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.remote import is_remote
from charter.ground.measure.reporting import record
from charter.rooms.audit.agent import judged_apart, open_agent, play
from charter.rooms.audit.classes import marks_of, mentions, row_of
from charter.rooms.audit.metrics import METRICS, TRIES, count
from charter.rooms.audit.pages import STYLE, pages
from charter.rooms.audit.settings import Settings
from charter.rooms.audit.summary import rule, write_up
from charter.rooms.audit.tries import Played, plans, turns_of

Row = dict[str, Any]
REVIEW, REPORT, TRANSCRIPTS = "review.jsonl", "audit.md", "transcripts"
# tokens of what comes before the first turn, and of an observation and its command, for the estimate of a server's work
OPENING_TOKENS, TURN_TOKENS = 400, 120


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: tries.jsonl, transcripts/ and pages of them, review.jsonl, audit.md, counts.json, and the marks of all
    tries in samples/. Files with the model's words are restricted."""
    agent, wanted = open_agent(settings, inputs, out), plans(settings)
    if is_remote(inputs.one("policy").ref):
        out.note(cost(settings))
    played = play(settings, wanted, agent, out)
    verdicts = judged_apart([(attempt.plan.task, attempt.plan.seed, attempt.lines) for attempt in played])
    rows = [row_of(attempt, verdict) for attempt, verdict in zip(played, verdicts, strict=True)]
    transcripts = {attempt.plan.id: transcript_of(attempt, agent.view(attempt)) for attempt in played}
    out.write_jsonl(TRIES, rows, restricted=True)
    out.write_jsonl(f"samples/{TRIES}", map(marks_of, rows))
    out.write_jsonl(REVIEW, review_of(transcripts), restricted=True)
    for name, transcript in transcripts.items():
        out.write_json(f"{TRANSCRIPTS}/{name}.json", transcript, restricted=True)
    for name, text in pages(rows, transcripts, settings):
        out.write_text(name, text, restricted=not name.endswith(STYLE))
    out.counts(count(rows))
    record(out, METRICS)
    out.write_text(REPORT, write_up(rows, settings))
    out.note(f"{rule(rows)[0]} See {REPORT}")


def transcript_of(attempt: Played, view: Sequence[Any]) -> Row:
    """A try as it was: what was told, each turn with what it showed, and all messages in the model's form."""
    return {
        "id": attempt.plan.id,
        **asdict(attempt.plan),
        "again": attempt.again,
        "ended": attempt.ended,
        "broken": attempt.broken,
        "system": attempt.opening.system,
        "opening": attempt.opening.task,
        "turns": [asdict(turn) for turn in attempt.turns],
        "messages": list(view),
    }


def review_of(transcripts: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """The turns that speak of being tested, for people to look at."""
    return [
        {"id": name, "task": transcript["task"], "turn": turn, "reply": reply, "verdict": None, "note": ""}
        for name, transcript in transcripts.items()
        for turn, reply in mentions(turns_of(transcript["turns"]))
    ]


def cost(settings: Settings) -> str:
    """The most that a server is asked, before the first request."""
    budgets: Sequence[int] = [settings.budget_of(name) for name in settings.names]
    requests = settings.tries * sum(budgets)
    read = settings.tries * sum(n * (OPENING_TOKENS + TURN_TOKENS * n // 2) for n in budgets)
    written = requests * settings.max_tokens
    return (
        f"at most {requests:,} requests, which read about {read / 1e6:.1f} and write {written / 1e6:.1f} million "
        "tokens; set tries, budget or tasks for less"
    )
