"""What all our files in the format of Every Eval Ever share (EvalEval; PyPI package every-eval-ever)."""

from __future__ import annotations

import hashlib
import re
import uuid

SCHEMA, COLLECTION = "0.3.0", "charter"
# OWNER/NAME; a path on this disk is not a hub name.
HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")


def place_of(key: str, model: str) -> str:
    """The path of a record below the data store, without its ending: equal keys give equal names, whoever exports."""
    name = uuid.UUID(bytes=hashlib.sha256(key.encode()).digest()[:16], version=4)
    return f"data/{COLLECTION}/{model}/{name}"


def uncertainty(n: int | None, low: float | None, high: float | None, method: str) -> dict[str, object]:
    """How sure a score is; empty if nothing is known of it."""
    sure: dict[str, object] = {} if n is None else {"num_samples": n}
    if low is not None and high is not None:
        ends = {"lower": low, "upper": high, "confidence_level": 0.95, "method": method}
        sure["confidence_interval"] = ends
    return sure
