"""How likely the start model finds what the model under test says (`measure/fluency.py`).

A reply is scored behind its prompt in the start's own template, without its end, which a cut one lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.scorer import score
from charter.ground.judge.preference_score import encode_item


def under_start(start: LocalAssistant, part: Sequence[dict[str, Any]]) -> None:
    """Add nll_start, the nats of a reply under the start, and tokens_start, the tokens that it has there.

    Beyond the start's context a reply loses its far end, then the prompt its oldest tokens. An empty reply has none.
    """
    items = [
        encode_item(start.template, row["messages"], [row["reply"]], start.engine.context) for row in part
    ]
    found = score(start.engine.model, [(item.prompt, [item.replies[0][:-1]]) for item in items])
    for row, (logprobs,) in zip(part, found, strict=True):
        row["nll_start"], row["tokens_start"] = -sum(logprobs), len(logprobs)
