"""Over-refusal: harmless prompts that look harmful. A good assistant answers them all."""

from __future__ import annotations

from typing import Any

from charter.evaluate.context import Context


def rows(context: Context) -> list[dict[str, Any]]:
    """Replies to every look-alike, with the detectors' verdicts."""
    prompts = context.prompts("lookalikes", context.settings.counts.lookalikes)
    return context.replies("lookalikes", prompts, context.settings.other_samples, lambda part: None)
