"""The limits of a model behind this API, as data: shown on the index page, at /v1/limits and in the API's documentation
(those named in the card of Claude 2, worded for any model served here)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from charter.service.api.registry import Served


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: its id for programs, its name and its words for people."""

    id: str
    title: str
    words: str


LIMITS = (
    Limit(
        "confabulation",
        "It makes things up",
        "A model writes what is likely, not what it has checked. It can state wrong facts, sources, quotations and "
        "figures in the same assured tone as right ones. Check what matters.",
    ),
    Limit(
        "knowledge_cutoff",
        "It knows nothing new",
        "A model knows at most what was in its training texts, and may be out of date or unsure of even that. What "
        "happened since has to stand in the prompt.",
    ),
    Limit(
        "no_web",
        "It doesn't search the web",
        "Nothing is looked up while a reply is written. A model reads the prompt and nothing else, unless your program "
        "hands it results through tools.",
    ),
    Limit(
        "languages",
        "It is weaker in some languages",
        "Replies are best in the languages that made up most of the training texts, English above all, and worst in "
        "those with few texts: expect more errors there, and weaker safety behaviour too.",
    ),
    Limit(
        "high_stakes",
        "It must not decide alone where much is at stake",
        "In law, medicine, finance, safety and decisions about people, a qualified person has to check what a model "
        "says, and whoever is concerned has to know that a model was used. It supports experts and replaces none.",
    ),
    Limit(
        "jailbreaks",
        "Its safeguards can be got around",
        "Training, filters and review make harmful replies rarer. They don't make them impossible, and they sometimes "
        "stop what is harmless. Report both.",
    ),
)


def statement(served: Iterable[Served]) -> dict[str, Any]:
    """The limits, and the end date of each model's training texts, if known."""
    cutoffs = [
        {"model": one.id, "knowledge_cutoff": cutoff.isoformat() if (cutoff := one.model.cutoff) else None}
        for one in served
    ]
    return {"type": "limits", "limits": [asdict(limit) for limit in LIMITS], "models": cutoffs}


def in_words() -> str:
    """The limits as Markdown, for the API's documentation."""
    return "\n".join(f"- **{limit.title}.** {limit.words}" for limit in LIMITS)
