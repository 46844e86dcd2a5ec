"""The decoding that drew the replies of a report: a card shows a model's own first, the protocol's second.

A report names it in `decoding`. "own" is that of the checkpoint's generation_config.json, "protocol" a temperature
that is the same for all models. Two of them on one model are never compared; each has its own tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charter.rooms.card.artifact import Artifact

OWN, PROTOCOL = "own", "protocol"
SHORT = {"temperature": "T", "top_p": "top-p", "top_k": "top-k"}


def kind_of(report: Artifact) -> str:
    """Whose decoding it is; "" if an older report doesn't say."""
    return str((report.report.get("decoding") or {}).get("kind", ""))


def model_of(report: Artifact) -> str:
    """The id of the model that a report is on, with the way in which it was sampled if not by itself."""
    model = report.report.get("model") or {}
    return " ".join(str(model[key]) for key in ("id", "show") if key in model) or "none"


def words(facts: Mapping[str, Any]) -> str:
    """A decoding in words: "T 0.2, top-p 0.9"; "" if nothing is known of it."""
    settings = (
        (short, facts[key]) for key, short in SHORT.items() if isinstance(facts.get(key), int | float)
    )
    return ", ".join(f"{short} {value:g}" for short, value in settings)


def heading(stages: Sequence[Artifact]) -> str:
    """How the replies of these stages were drawn, to follow "answered"."""
    by_stage = {stage.label: words(_facts(stage)) or "T unknown" for stage in stages}
    kinds = {kind_of(stage) for stage in stages}
    if len(set(by_stage.values())) > 1:
        listed = "; ".join(f"{label} {decoding}" for label, decoding in by_stage.items())
        return (
            f"at each model's own decoding: {listed}" if kinds == {OWN} else f"at several decodings: {listed}"
        )
    decoding = next(iter(by_stage.values()))
    if kinds == {OWN}:
        return f"at the model's own decoding: {decoding}"
    at = f"at temperature {decoding.removeprefix('T ')}"
    return f"{at}, the protocol" if kinds == {PROTOCOL} else at


def _facts(stage: Artifact) -> Mapping[str, Any]:
    identity = (stage.report.get("identity") or {}).values()
    return stage.report.get("decoding") or next((entry for entry in identity if "temperature" in entry), {})
