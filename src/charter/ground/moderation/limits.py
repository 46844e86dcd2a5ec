"""The limits of any model here, as data: shown by servers, their pages and their documentation, and by `charter chat`
(those named in the card of Claude 2, worded for any model)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

SHORT = "A model makes things up: check what matters."


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


def limits_with(tools: Sequence[str]) -> tuple[Limit, ...]:
    """The limits on a server that runs tools with these names."""
    if not tools:
        return LIMITS
    words = (
        f"A request may let this server use its tools while a reply is written: {', '.join(tools)}. Without them a "
        "model reads the prompt and nothing else. It can misread what they bring, and what they find can be wrong."
    )
    title = "It searches the web only with a tool" if "web search" in tools else "It doesn't search the web"
    return tuple(replace(limit, title=title, words=words) if limit.id == "no_web" else limit for limit in LIMITS)


def in_words(limits: Sequence[Limit] = LIMITS) -> str:
    """Limits as Markdown."""
    return "\n".join(f"- **{limit.title}.** {limit.words}" for limit in limits)


def in_lines() -> str:
    """The limits as plain text, a paragraph each."""
    return "\n".join(f"{limit.title}. {limit.words}" for limit in LIMITS)
