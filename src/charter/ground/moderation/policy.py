"""The acceptable use policy as data: prohibited content, permitted look-alikes, and the actions.

A policy is a YAML file. Its id is a digest of its content; verdicts, thresholds and reports name it. We wrote the
shipped policy, `charter-aup`; its `headings` map a category to headings of the published policies of July 2023 and of
2024 (spec: acceptable use and trust & safety).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import canonical_json, digest_text
from charter.ground.moderation.actions import Action, Level, Side
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.notation import read_settings
from charter.ground.settings.problems import suggest
from charter.ground.settings.sources import shipped

SHIPPED = "acceptable_use"
Severity = Literal["low", "medium", "high", "severe"]


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    if not line:
        raise ValueError("must be text, and not empty")
    return line


Line = Annotated[str, AfterValidator(_one_line)]
Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Named = TypeVar("Named", "Category", "Rule")


class ByLevel(Frozen):
    """The action at each sensitivity level."""

    standard: Action = Field(description="action for most accounts")
    enhanced: Action = Field(description="action while an account is under the enhanced filter")


class Actions(Frozen):
    """The action on each side."""

    prompt: ByLevel = Field(description="on what a user writes")
    reply: ByLevel = Field(description="on what the model writes")

    @model_validator(mode="after")
    def _a_reply_has_no_safety_prompt(self) -> Actions:
        if "safety_prompt" in (self.reply.standard, self.reply.enhanced):
            raise ValueError("a reply is already written, so it can't get a safety prompt; choose allow, flag or block")
        return self


class Headings(Frozen):
    """The headings of the published policies that a category corresponds to."""

    july_2023: tuple[Line, ...] = Field((), description="of the policy of July 2023")
    june_2024: tuple[Line, ...] = Field((), description="of the policy of 2024")


class Phrase(Frozen):
    """A verb and its object in one sentence, matched by the classifier `words`. A star at the end of a word stands for
    any ending."""

    verbs: tuple[Line, ...] = Field((), description="verbs; empty: the object alone counts")
    objects: tuple[Line, ...] = Field(min_length=1, description="objects, a few words after the verb")
    excuses: tuple[Line, ...] = Field((), description="words in the sentence that show another meaning")


class Category(Frozen):
    """A kind of content that the policy does not permit."""

    id: Id = Field(description="its name in verdicts, logs and reports")
    title: Line = Field(description="its name for people")
    covers: Line = Field(description="what is not permitted")
    examples: tuple[Line, ...] = Field(min_length=1, description="requests that it covers")
    allowed: tuple[Line, ...] = Field(min_length=1, description="what looks like it and is permitted")
    severity: Severity = Field(description="how much harm is at stake; orders queues")
    actions: Actions = Field(description="the action by side and sensitivity level")
    safety_prompt: Line | None = Field(None, description="text to add if an action is safety_prompt")
    headings: Headings = Field(Headings(), description="headings of published policies that it corresponds to")
    phrases: tuple[Phrase, ...] = Field((), description="phrases that violate it")

    @model_validator(mode="after")
    def _a_safety_prompt_has_a_text(self) -> Category:
        actions = self.actions.prompt
        if "safety_prompt" in (actions.standard, actions.enhanced) and self.safety_prompt is None:
            raise ValueError(f"{self.id} has the action safety_prompt and no safety_prompt to add; write one")
        return self

    def action(self, side: Side, level: Level) -> Action:
        """The action on a side at a sensitivity level."""
        return by_level(self.actions.prompt if side == "prompt" else self.actions.reply, level)


class Rule(Frozen):
    """A high-risk use: permitted with a disclosure, and with a qualified person behind each decision."""

    id: Id = Field(description="its name in verdicts, logs and reports")
    title: Line = Field(description="its name for people")
    covers: Line = Field(description="uses that count as high-risk")
    examples: tuple[Line, ...] = Field(min_length=1, description="requests that it covers")
    allowed: tuple[Line, ...] = Field(min_length=1, description="what looks like it and needs no disclosure")
    disclosure: Line = Field(description="the safety prompt to add: what the reply must say")
    action: ByLevel = Field(
        ByLevel(standard="safety_prompt", enhanced="safety_prompt"), description="the action on a prompt"
    )
    headings: Headings = Field(Headings(), description="headings of published policies that it corresponds to")


class Policy(Frozen):
    """A whole policy. Frozen; `id` depends on all of its content and on nothing else."""

    name: Line = Field(description="its name")
    version: int = Field(ge=1, description="goes up with every change")
    refusal: Line = Field(description="the fixed refusal that replaces a blocked reply")
    appeal: Line = Field(description="how a user objects to a decision; ends every reason")
    categories: tuple[Category, ...] = Field(min_length=1, description="what is not permitted")
    high_risk: tuple[Rule, ...] = Field((), description="uses that are permitted with a disclosure")
    excuses: tuple[Line, ...] = Field((), description="a sentence with one of these words has no phrase that counts")

    @model_validator(mode="after")
    def _ids_differ(self) -> Policy:
        ids = [c.id for c in self.categories] + [r.id for r in self.high_risk]
        if repeated := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"the id {repeated[0]} occurs more than once; ids must differ")
        return self

    @cached_property
    def id(self) -> str:
        """SHA-256 of the content in canonical form."""
        return digest_text(canonical_json(self.model_dump(mode="json")))

    def category(self, id: str) -> Category:
        """The category of an id. Raises CharterError naming the known ids."""
        return _find(self.categories, id, f"the policy {self.name} has no category")

    def rule(self, id: str) -> Rule:
        """The high-risk rule of an id. Raises CharterError naming the known ids."""
        return _find(self.high_risk, id, f"the policy {self.name} has no high-risk rule")

    def reason(self, entry: Category | Rule, action: Action, side: Side) -> str:
        """One line for the user: the action, its heading, and how to object."""
        subject = "This request" if side == "prompt" else "The reply"
        acts = {
            "block": f"{subject} was stopped",
            "safety_prompt": f"{subject} was answered with a note to the model",
            "flag": f"{subject} was noted for review",
            "allow": f"{subject} was allowed",
        }[action]
        return f"{acts} under “{entry.title}” ({entry.id}) of {self.name} version {self.version}. {self.appeal}"

    def warnings(self) -> Iterator[str]:
        """Notes for a reader of the policy that are not errors."""
        for category in self.categories:
            weaker = [
                side
                for side, at in (("prompt", category.actions.prompt), ("reply", category.actions.reply))
                if ORDER[at.enhanced] < ORDER[at.standard]
            ]
            for side in weaker:
                yield f"{category.id}: the enhanced action on a {side} is milder than the standard one"
            if category.severity == "severe" and category.action("reply", "standard") != "block":
                yield f"{category.id} is severe and its replies are not blocked"
        if not self.high_risk:
            yield "there are no high-risk rules: nothing is disclosed in legal, medical or financial matters"


ORDER: dict[Action, int] = {"allow": 0, "flag": 1, "safety_prompt": 2, "block": 3}


def by_level(actions: ByLevel, level: Level) -> Action:
    """The action at a sensitivity level."""
    return actions.standard if level == "standard" else actions.enhanced


def read_policy(path: Path) -> Policy:
    """A policy from a YAML file. Raises CharterError naming the file, the key and what was expected."""
    keys = "name, version, refusal, appeal, categories"
    return read_settings(path, Policy, "policy", keys, "charter policy show --yaml")


@lru_cache(maxsize=1)
def shipped_policy() -> Policy:
    """The policy that comes with charter: charter-aup."""
    return read_policy(shipped(SHIPPED))


def open_policy(path: str | Path | None = None) -> Policy:
    """The policy of a file, else the shipped policy. Raises CharterError."""
    return shipped_policy() if path is None or str(path) == "charter-aup" else read_policy(Path(path))


def check_policy(path: Path) -> tuple[Policy, tuple[str, ...]]:
    """A policy and its warnings. Raises CharterError if the file is malformed."""
    policy = read_policy(path)
    return policy, tuple(policy.warnings())


def _find(entries: tuple[Named, ...], id: str, otherwise: str) -> Named:
    for entry in entries:
        if entry.id == id:
            return entry
    raise CharterError(f"{otherwise} {id!r}; {suggest(id, [entry.id for entry in entries])}")
