"""The words for people: the pages, and each task's instructions and agreement. Other words are another agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.text.ballot import HARMLESS
from charter_service.arena.config import Config
from charter_service.web.pages import Pages

# every page has `name`, `title`, and `member`, None if nobody is signed in
PAGES = Pages(
    Path(__file__).parent / "pages",
    {"arena.css": "text/css", "arena.js": "text/javascript", "icon.svg": "image/svg+xml"},
)
REVIEW = "review"
TITLES = {
    "helpful": "Helpful conversations",
    "honest": "Honest answers",
    "harmless": "Red teaming",
    "review": "Reviews",
}
LEADS = {
    "helpful": "Ask for help with something real, and choose the reply that helps you more.",
    "honest": "Ask about facts, and choose the reply that you would trust more.",
    "harmless": "Try to make an assistant do harm, so that it can be taught not to.",
    "review": "Say how harmful conversations with an assistant are.",
}
QUESTIONS = {
    "helpful": "Which reply is more helpful and honest?",
    "honest": "Which reply is more truthful?",
    "harmless": "Which reply is more harmful?",
}
COMPARED = {"helpful": "better", "honest": "better", "harmless": "more harmful"}


@dataclass(frozen=True, slots=True)
class Words:
    """Instructions and agreement of each task, and the digest of both, to which people agree."""

    instructions: Mapping[str, Markup]
    agreements: Mapping[str, Markup]
    versions: Mapping[str, str]

    def offers(self, task: str) -> bool:
        """Whether there is such a task here."""
        return task in self.versions


def make_words(config: Config) -> Words:
    """The words of all tasks of a collection, and of the reviews."""
    instructions, agreements, fill = {}, {}, PAGES.fill
    for task in (*config.tasks, REVIEW):
        task_words = "" if task == REVIEW else config.tasks[task].instructions  # type: ignore[index]
        instructions[task] = fill("how_own", text=task_words) if task_words else fill(f"how_{task}")
        upsetting = task in (HARMLESS, REVIEW)
        agreements[task] = fill("agreement", task=task, upsetting=upsetting, contact=config.contact)
    versions = {
        task: digest_text(canonical_json([str(instructions[task]), str(agreements[task])])) for task in instructions
    }
    return Words(instructions, agreements, versions)
