"""The kinds of artifacts: every room turns named artifacts into exactly one of these."""

from typing import Literal

Kind = Literal["corpus", "checkpoint", "dialogues", "comparisons", "judgments", "report", "card", "release", "verdict"]
KINDS: tuple[Kind, ...] = (
    "corpus",
    "checkpoint",
    "dialogues",
    "comparisons",
    "judgments",
    "report",
    "card",
    "release",
    "verdict",
)

# what a card is for programs, and for people
CARD_RECORD, CARD_PAGE = "card.json", "card.html"

Status = Literal["started", "waiting", "done", "failed"]
