"""A draft of the acceptable-use policy: read, tried on texts, and compared with what was decided, before anybody
publishes it."""

from __future__ import annotations

import difflib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, cast

from charter.ground.artifact.errors import CharterError
from charter.ground.moderation.actions import Level, Verdict
from charter.ground.moderation.changing import under, values_of
from charter.ground.moderation.classifiers import examples
from charter.ground.moderation.policy import Policy
from charter.ground.moderation.screen import Screen
from charter.ground.settings.placed import Problem, read_placed
from charter.ground.text.dialogue import Message, user
from charter_service.accounts.policies import Values, flagged_since, rows_since
from charter_service.api.errors import invalid
from charter_service.api.service import Service
from charter_service.web.database import reading
from charter_service.web.forms import Form

LONGEST_DRAFT = 100_000  # characters
MOST_TEXTS, LONGEST_TEXT = 100, 20_000
WEEK, MOST_JUDGED, MOST_LISTED = 7 * 86_400.0, 300, 100
HARMLESS = 40  # prompts that a usable policy lets pass
REFUSED_SHARE = 0.25  # of them, beyond which publishing asks once more
THRESHOLD = "at:"  # begins the names of a form's fields for thresholds: at:CLASSIFIER:SIDE:LEVEL


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft as it was sent; `policy` and `screen` are None where it has problems."""

    text: str
    values: Values
    policy: Policy | None = None
    screen: Screen | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A stored decision, and what the draft would decide on its text."""

    request: str
    side: str
    before: str
    after: str
    category: str
    category_after: str


@dataclass(frozen=True, slots=True)
class Week:
    """The draft beside the decisions of a week: rows of the log, flags, texts judged anew, and what changes. `counts`:
    by category, action before and after."""

    rows: int
    flags: int
    judged: int
    changes: list[Change] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """How many decisions would be others."""
        return sum(one["count"] for one in self.counts)


def read_draft(form: Form, screen: Screen, base: Screen, before: Values) -> Draft:
    """The draft in a form, checked. `screen`: in force, with the thresholds that people set `before`; `base`: as
    configured. Raises ApiError for a draft that is too long to read."""
    text = form.text("text").replace("\r\n", "\n")
    if len(text) > LONGEST_DRAFT:
        raise invalid(
            f"text: a policy has at most {LONGEST_DRAFT:,} characters; this has {len(text):,}", "text"
        )
    values, wrong = _values(form, screen, before)
    policy, problems = read_placed(text, Policy)
    problems = [*problems, *wrong]
    if policy is None or problems:
        return Draft(text, values, problems=tuple(problems))
    try:
        draft_screen = under(base, policy, values)
    except CharterError as error:
        return Draft(text, values, problems=(Problem(0, str(error)),))
    return Draft(
        text, values, policy, draft_screen, warnings=tuple(_warnings(policy, screen.policy, draft_screen))
    )


def _values(
    form: Form, screen: Screen, before: Values
) -> tuple[dict[str, dict[str, dict[str, float]]], list[Problem]]:
    """The thresholds that people set, with a form's changes, and what is wrong with those. A field that is left out or
    as it was changes nothing; an empty one brings back the measured threshold."""
    values = {name: {side: dict(levels) for side, levels in sides.items()} for name, sides in before.items()}
    problems = []
    for name, side, level, now in values_of(screen):
        if (field_name := f"{THRESHOLD}{name}:{side}:{level}") not in form.fields:
            continue
        written = form.text(field_name).strip()
        if not written:
            values.get(name, {}).get(side, {}).pop(level, None)
        elif written != shown_threshold(now):  # a page shows rounded numbers
            try:
                values.setdefault(name, {}).setdefault(side, {})[level] = float(written)
            except ValueError:
                words = f"threshold of {name}, {side}, {level}: {written[:40]!r} is not a number"
                problems.append(Problem(0, words))
    return values, problems


def shown_threshold(value: float) -> str:
    """A threshold as a form shows it."""
    return f"{value:.4f}"


def _warnings(policy: Policy, now: Policy, screen: Screen) -> Iterator[str]:
    yield from policy.warnings()
    known = {one.id for one in now.categories}
    for category in policy.categories:
        if category.id not in known:
            yield f"{category.id} is new: a classifier that has not learnt it can't find it"
    for name, side, level, value in values_of(screen):
        if level == "enhanced":
            continue
        levels = getattr(
            next(screen.thresholds[c.version] for c in screen.classifiers if c.name == name), side
        )
        if levels.enhanced.value > value:
            yield f"{name}, {side}: the enhanced threshold is above the standard one, so that it acts less often"


def tried(screen: Screen, texts: Sequence[str], level: Level) -> list[dict[str, Any]]:
    """The verdict of a screen on each prompt."""
    verdicts = screen.prompts([[user(text)] for text in texts], level) if texts else []
    return [{"text": text, **_verdict(one)} for text, one in zip(texts, verdicts, strict=True)]


def _verdict(one: Verdict) -> dict[str, Any]:
    return {"action": one.action, "category": one.category, "score": one.score, "threshold": one.threshold}


def texts_in(form: Form) -> list[str]:
    """The texts to try: one a line, plain or a JSON object with `prompt` or `text`. Raises ApiError."""
    texts = []
    for number, line in enumerate(form.text("texts").splitlines(), 1):
        if not line.strip():
            continue
        text = _json_text(line, number) if line.lstrip().startswith("{") else line.strip()
        if len(text) > LONGEST_TEXT:
            raise invalid(f"texts: line {number} has over {LONGEST_TEXT:,} characters", "texts")
        texts.append(text)
    if len(texts) > MOST_TEXTS:
        raise invalid(f"texts: at most {MOST_TEXTS} at a time; these are {len(texts):,}", "texts")
    return texts


def _json_text(line: str, number: int) -> str:
    try:
        row = json.loads(line)
        text = row.get("prompt", row.get("text"))
    except (ValueError, RecursionError):
        raise invalid(f"texts: line {number} begins like JSON and isn't", "texts") from None
    if not isinstance(text, str):
        raise invalid(f'texts: line {number} has no text under "prompt" or "text"', "texts")
    return text


def week_of(service: Service, screen: Screen, now: float | None = None) -> Week:
    """The draft's verdicts on the kept texts of a week, beside what was decided."""
    since = (time.time() if now is None else now) - WEEK
    service.conduct.log.flush()
    with reading(service.database) as connection:
        flagged, flags = flagged_since(connection, since, MOST_JUDGED)
        rows = rows_since(connection, since)
    changes = []
    for level in ("standard", "enhanced"):
        mine = [one for one in flagged if one.sensitivity == level]
        prompts = [one for one in mine if one.side == "prompt"]
        replies = [one for one in mine if one.side == "reply"]
        verdicts = screen.prompts([_messages(one.messages) for one in prompts], level) if prompts else []
        verdicts += (
            screen.replies([(_messages(one.messages), one.reply) for one in replies], level)
            if replies
            else []
        )
        for one, verdict in zip([*prompts, *replies], verdicts, strict=True):
            if (one.action, one.category) != (verdict.action, verdict.category):
                after = (verdict.action, one.category, verdict.category)
                changes.append(Change(one.request, one.side, one.action, *after))
    counts = Counter((one.category, one.before, one.after) for one in changes)
    by_category = [
        {"category": category, "before": before, "after": after, "count": count}
        for (category, before, after), count in sorted(counts.items())
    ]
    return Week(rows, flags, len(flagged), changes[:MOST_LISTED], by_category)


def _messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The turns of a kept conversation whose content is text."""
    turns = [
        one for one in messages if isinstance(one.get("content"), str) and isinstance(one.get("role"), str)
    ]
    return [cast(Message, {"role": one["role"], "content": one["content"]}) for one in turns] or [user("")]


@lru_cache(maxsize=1)
def harmless_prompts() -> tuple[str, ...]:
    """Harmless prompts that come along, spread over all of them."""
    plain = [
        one.messages
        for one in examples.prompts()
        if one.label == examples.HARMLESS and len(one.messages) == 1
    ]
    return tuple(messages[0]["content"] for messages in plain[:: max(1, len(plain) // HARMLESS)][:HARMLESS])


def refused_harmless(screen: Screen) -> tuple[int, int]:
    """How many of the harmless prompts a screen blocks, and their number."""
    verdicts = screen.prompts([[user(text)] for text in harmless_prompts()])
    return sum(not one.allowed for one in verdicts), len(verdicts)


def difference(before: str, after: str, names: tuple[str, str]) -> list[dict[str, str]]:
    """The lines of a unified difference, each with its kind: head, same, removed or added."""
    kinds = {"-": "removed", "+": "added", "@": "head"}
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, n=2, lineterm="")
    return [
        {"kind": "head" if line[:3] in ("---", "+++") else kinds.get(line[:1], "same"), "text": line}
        for line in lines
    ]


def facts_of(draft: Draft) -> dict[str, Any]:
    """What a page shows of a draft."""
    return {
        "problems": [asdict(one) for one in draft.problems],
        "warnings": list(draft.warnings),
        "version": draft.policy.version if draft.policy else None,
        "id": draft.policy.id if draft.policy else None,
    }
