"""Which revisions are worth learning from: drops those that say nothing new or are visibly broken."""

from __future__ import annotations

import re

from charter.ground.judge.detect import is_loop

REASONS = ("empty", "identical", "truncated", "loop", "marker")
MARKERS = re.compile(r"\b(?:Critique|Revision|CritiqueRequest|RevisionRequest|Human|Assistant):")
FEWEST_WORDS = 4


def fault(revision: str, before: str, stop: str) -> str | None:
    """Why a revision is dropped, or None. It is too short to be a reply, equal to the reply before, cut at the token
    limit, a loop, or contains the protocol's own markers."""
    if len(revision.split()) < FEWEST_WORDS:
        return "empty"
    if _plain(revision) == _plain(before):
        return "identical"
    if stop == "length":
        return "truncated"
    if is_loop(revision):
        return "loop"
    if MARKERS.search(revision):
        return "marker"
    return None


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()
