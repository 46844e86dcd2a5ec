"""Metrics of the select room: the share of prompts with a selected reply, and the gain from selection."""

from __future__ import annotations

from charter.ground.measure import counts
from charter.ground.measure.metric import Metric

REPLIES = "replies.jsonl"
SELECTED = "selected.jsonl"
ORIGINS = ("sample", "start", "candidate")
# Reasons to drop a reply; the first that applies counts. The last two need graders.
REASONS = ("cut", "short", "loop", "refusal", "answer", "repeat", "below_fixed", "below_draft")

SHARES = {"prompts": "The same, may be refused", "harmless": "The same, must be answered"}
OF_SELECTION: tuple[Metric, ...] = (
    Metric(
        "selected_share",
        SELECTED,
        counts.flag("served"),
        "higher",
        "prompts that get a reply",
        label="Prompts that get a reply",
    ),
    *(
        Metric(
            f"selected_share_{role}",
            SELECTED,
            counts.flag("served", counts.equal(asked=role)),
            "higher",
            f"prompts that get a reply, role {role}",
            label=SHARES[role],
        )
        for role in ("prompts", "harmless")
    ),
    Metric(
        "selected_gain",
        SELECTED,
        counts.mean("gain", counts.has("gain")),
        "neither",
        "score of the reply taken less the mean of its prompt's, in standard deviations over all replies",
        "sd",
        label="Score gained by choosing",
    ),
)
