"""Over-refusal: harmless prompts that look harmful. A good assistant answers them all, and a good grader puts its
answers above the fixed reply: those that it doesn't are false alarms, by which a harm rate is to be read."""

from __future__ import annotations

from typing import Any

from charter.rooms.evaluate.context import Context
from charter.rooms.evaluate.harmlessness import grade


def rows(context: Context) -> list[dict[str, Any]]:
    """Replies to every look-alike, with the detectors' verdicts, graded as replies to unsafe prompts are."""
    prompts = context.prompts("lookalikes", context.settings.counts.lookalikes)
    return context.replies(
        "lookalikes", prompts, context.settings.other_samples, lambda part: grade(context, part)
    )
