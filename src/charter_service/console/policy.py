"""Console pages of the acceptable-use policy: the one in force, a draft, versions, and the way back to an older one.

A draft is read, tried on texts and compared with what was decided, before anybody publishes it.
"""

from __future__ import annotations

import difflib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Connection

from charter.ground.artifact.errors import CharterError
from charter.ground.moderation.actions import LEVELS, Level, Verdict
from charter.ground.moderation.changing import under, values_of
from charter.ground.moderation.classifiers import examples
from charter.ground.moderation.policy import Policy
from charter.ground.moderation.screen import Screen
from charter.ground.settings.placed import Problem, read_placed
from charter.ground.text.dialogue import Message, user
from charter_service.accounts import cases
from charter_service.accounts.policies import (
    NewPolicy,
    Published,
    Values,
    find_policy,
    flagged_since,
    published_policies,
    rows_since,
)
from charter_service.accounts.standings import kept_ladder
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.errors import ApiError, invalid
from charter_service.api.policy_versions import base_of, screen_of, text_of, version_row
from charter_service.api.rendering import ADMIN
from charter_service.api.service import Service
from charter_service.web.database import reading
from charter_service.web.forms import Form

LONGEST_DRAFT = 100_000  # characters
MOST_TEXTS, LONGEST_TEXT = 100, 20_000
WEEK, MOST_JUDGED, MOST_LISTED = 7 * 86_400.0, 300, 100
HARMLESS = 40  # prompts that a usable policy lets pass
REFUSED_SHARE = 0.25  # of them, beyond which publishing asks once more
THRESHOLD = "at:"  # begins the names of a form's fields for thresholds: at:CLASSIFIER:SIDE:LEVEL
POLICY = f"{ADMIN}/policy"
DRAFT, VERSIONS = f"{POLICY}/draft", f"{POLICY}/versions"
ACTS = ("check", "try", "publish")
VERSION_LINE = re.compile(r"^version:\s*(\d{1,9})\s*$", re.MULTILINE)


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
        return sum(change["count"] for change in self.counts)


def read_draft(form: Form, screen: Screen, base: Screen, before: Values) -> Draft:
    """The draft in a form, checked. `screen`: in force, with the thresholds that people set `before`; `base`: as
    configured. Raises ApiError for a draft that is too long to read."""
    text = form.text("text").replace("\r\n", "\n")
    if len(text) > LONGEST_DRAFT:
        raise invalid(f"text: a policy has at most {LONGEST_DRAFT:,} characters; this has {len(text):,}", "text")
    values, wrong = _values(form, screen, before)
    policy, problems = read_placed(text, Policy)
    problems = [*problems, *wrong]
    if policy is None or problems:
        return Draft(text, values, problems=tuple(problems))
    try:
        draft_screen = under(base, policy, values)
    except CharterError as error:
        return Draft(text, values, problems=(Problem(0, str(error)),))
    return Draft(text, values, policy, draft_screen, warnings=tuple(_warnings(policy, screen.policy, draft_screen)))


def _values(form: Form, screen: Screen, before: Values) -> tuple[dict[str, dict[str, dict[str, float]]], list[Problem]]:
    """The thresholds that people set, with a form's changes, and what is wrong with those. A field that is left out or
    as it was changes nothing; an empty one brings back the measured threshold."""
    values = {name: {side: dict(levels) for side, levels in sides.items()} for name, sides in before.items()}
    problems = []
    for name, side, level, now in values_of(screen):
        if (field_name := f"{THRESHOLD}{name}:{side}:{level}") not in form.fields:
            continue
        entry = form.text(field_name).strip()
        if not entry:
            values.get(name, {}).get(side, {}).pop(level, None)
        elif entry != shown_threshold(now):  # a page shows rounded numbers
            try:
                values.setdefault(name, {}).setdefault(side, {})[level] = float(entry)
            except ValueError:
                words = f"threshold of {name}, {side}, {level}: {entry[:40]!r} is not a number"
                problems.append(Problem(0, words))
    return values, problems


def shown_threshold(value: float) -> str:
    """A threshold as a form shows it."""
    return f"{value:.4f}"


def _warnings(policy: Policy, now: Policy, screen: Screen) -> Iterator[str]:
    yield from policy.warnings()
    category_ids = {other.id for other in now.categories}
    for category in policy.categories:
        if category.id not in category_ids:
            yield f"{category.id} is new: a classifier that has not learnt it can't find it"
    for name, side, level, value in values_of(screen):
        if level == "enhanced":
            continue
        levels = getattr(next(screen.thresholds[c.version] for c in screen.classifiers if c.name == name), side)
        if levels.enhanced.value > value:
            yield f"{name}, {side}: the enhanced threshold is above the standard one, so that it acts less often"


def tried(screen: Screen, texts: Sequence[str], level: Level) -> list[dict[str, Any]]:
    """The verdict of a screen on each prompt."""
    verdicts = screen.prompts([[user(text)] for text in texts], level) if texts else []
    return [{"text": text, **_verdict(verdict)} for text, verdict in zip(texts, verdicts, strict=True)]


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "action": verdict.action,
        "category": verdict.category,
        "score": verdict.score,
        "threshold": verdict.threshold,
    }


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
        of_level = [flag for flag in flagged if flag.sensitivity == level]
        prompts = [flag for flag in of_level if flag.side == "prompt"]
        replies = [flag for flag in of_level if flag.side == "reply"]
        verdicts = screen.prompts([_messages(flag.messages) for flag in prompts], level) if prompts else []
        verdicts += (
            screen.replies([(_messages(flag.messages), flag.reply) for flag in replies], level) if replies else []
        )
        for flag, verdict in zip([*prompts, *replies], verdicts, strict=True):
            if (flag.action, flag.category) != (verdict.action, verdict.category):
                after = (verdict.action, flag.category, verdict.category)
                changes.append(Change(flag.request, flag.side, flag.action, *after))
    counts = Counter((change.category, change.before, change.after) for change in changes)
    by_category = [
        {"category": category, "before": before, "after": after, "count": count}
        for (category, before, after), count in sorted(counts.items())
    ]
    return Week(rows, flags, len(flagged), changes[:MOST_LISTED], by_category)


def _messages(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The turns of a kept conversation whose content is text."""
    turns = [turn for turn in messages if isinstance(turn.get("content"), str) and isinstance(turn.get("role"), str)]
    return [cast(Message, {"role": turn["role"], "content": turn["content"]}) for turn in turns] or [user("")]


@lru_cache(maxsize=1)
def harmless_prompts() -> tuple[str, ...]:
    """Harmless prompts that come along, spread over all of them."""
    plain = [
        prompt.messages
        for prompt in examples.prompts()
        if prompt.label == examples.HARMLESS and len(prompt.messages) == 1
    ]
    return tuple(messages[0]["content"] for messages in plain[:: max(1, len(plain) // HARMLESS)][:HARMLESS])


def refused_harmless(screen: Screen) -> tuple[int, int]:
    """How many of the harmless prompts a screen blocks, and their number."""
    verdicts = screen.prompts([[user(text)] for text in harmless_prompts()])
    return sum(not verdict.allowed for verdict in verdicts), len(verdicts)


def difference(before: str, after: str, names: tuple[str, str]) -> list[dict[str, str]]:
    """The lines of a unified difference, each with its kind: head, same, removed or added."""
    kinds = {"-": "removed", "+": "added", "@": "head"}
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, n=2, lineterm="")
    return [
        {"kind": "head" if line[:3] in ("---", "+++") else kinds.get(line[:1], "same"), "text": line} for line in lines
    ]


def facts_of(draft: Draft) -> dict[str, Any]:
    """What a page shows of a draft."""
    return {
        "problems": [asdict(problem) for problem in draft.problems],
        "warnings": list(draft.warnings),
        "version": draft.policy.version if draft.policy else None,
        "id": draft.policy.id if draft.policy else None,
    }


ROUTES = AdminRoutes(TAG)


@ROUTES.page("GET", POLICY, "The policy in force")
def policy_page(visit: Visit) -> Shown:
    """The policy in force, the thresholds of its classifiers, and people's verdicts on them."""
    screen = visit.service.screen
    with reading(visit.service.database) as connection:
        audit, ladder = cases.audit(connection), kept_ladder(connection)
    facts = screen.policy.model_dump(mode="json") if screen else None
    data = {
        "policy": facts and {**facts, "id": screen.policy.id if screen else ""},
        "thresholds": _thresholds(screen) if screen else [],
        "audit": [asdict(category) for category in audit],
        "ladder": ladder.model_dump(mode="json", exclude={"severities", "permitted"}),
        "keeps_content": visit.service.config.policy.keep_content,
        "published": version_row(visit.service.published) if visit.service.published else None,
    }
    return Shown("admin_policy", "Policy", data)


def _thresholds(screen: Screen) -> list[dict[str, Any]]:
    """A row for each classifier, side and level: the threshold, and the data that it was chosen on."""
    rows = []
    for classifier in screen.classifiers:
        thresholds = screen.thresholds[classifier.version]
        sides = (("prompt", thresholds.prompt), ("reply", thresholds.reply), ("high-risk use", thresholds.high_risk))
        for side, levels in sides:
            for level in ("standard", "enhanced") if levels else ():
                facts = {"classifier": classifier.name, "version": classifier.version, "side": side, "level": level}
                rows.append({**facts, **getattr(levels, level).model_dump(mode="json")})
    return rows


def _screen(visit: Visit) -> Screen:
    if visit.service.screen is None:
        raise ApiError(409, "the policy is off; start the server with it to change it", reason="off")
    return visit.service.screen


@ROUTES.page("GET", DRAFT, "A draft of the policy", "operate")
def draft_page(visit: Visit) -> Shown:
    """The policy in force as a draft, with the next version number."""
    screen = _screen(visit)
    text = text_of(screen.policy, visit.service.published)
    text = VERSION_LINE.sub(lambda m: f"version: {int(m[1]) + 1}", text, count=1)
    return _draft_page(visit, screen, Draft(text, set_now(visit)), seen_in(visit))


def set_now(visit: Visit) -> Values:
    """The thresholds in force that people set."""
    return visit.service.published.values if visit.service.published else {}


def seen_in(visit: Visit) -> int:
    """The number of the published version in force; 0 for the configured policy."""
    published = visit.service.published
    return published.number if published else 0


@ROUTES.page("POST", DRAFT, "Check, try or publish a draft", "operate")
def send_draft(visit: Visit) -> Shown | Done:
    """Checks a draft; tries it on texts and on the week's flags; or publishes it. Raises Stale if another version came
    into force meanwhile, and ApiError, 409, for a draft that blocks many harmless prompts until that is confirmed."""
    act, screen = visit.form.text("act") or "check", _screen(visit)
    if act not in ACTS:
        raise invalid(f"act: expected {', '.join(ACTS)}", "act")
    seen = visit.form.number("seen")
    if seen is None:
        raise invalid("seen: expected the number of the version in force, 0 for the configured policy", "seen")
    draft = read_draft(visit.form, screen, base_of(visit.service.configured, screen), set_now(visit))
    if draft.policy is None or draft.screen is None:
        return _draft_page(visit, screen, draft, seen)
    level = _level(visit)
    blocked, of = refused_harmless(draft.screen)
    harmless = {"blocked": blocked, "of": of, "now": refused_harmless(screen)[0]}
    if act == "publish" and (blocked <= REFUSED_SHARE * of or visit.form.text("confirm") == "yes"):
        return _publish(visit, draft, seen)
    week, texts = week_of(visit.service, draft.screen), texts_in(visit.form)
    more = {
        "harmless": harmless,
        "ask": act == "publish",
        "week": {**asdict(week), "changed": week.changed},
        "trial": [
            {**result, "before": before}
            for result, before in zip(tried(draft.screen, texts, level), tried(screen, texts, level), strict=True)
        ],
    }
    return _draft_page(visit, screen, draft, seen, **more)


def _level(visit: Visit) -> Level:
    level = visit.form.text("level") or LEVELS[0]
    if level not in LEVELS:
        raise invalid(f"level: expected {' or '.join(LEVELS)}", "level")
    return level


def _publish(visit: Visit, draft: Draft, seen: int) -> Done:
    policy, screen, service = draft.policy, draft.screen, visit.service
    assert policy is not None and screen is not None
    new = NewPolicy(policy.id, policy.name, policy.version, draft.text, draft.values, visit.by, visit.form.text("note"))
    published = service.publish(new, screen, seen, _noting(visit, "policy.publish"))
    return Done(POLICY, version_row(published))


def _noting(visit: Visit, act: str) -> Callable[[Connection, Published], None]:
    """Adds the change to the audit log: which version was in force, and which is now."""
    screen, before = _screen(visit), seen_in(visit)

    def note(connection: Connection, published: Published) -> None:
        was = {"number": before, "name": screen.policy.name, "version": screen.policy.version}
        now = {"number": published.number, "name": published.name, "version": published.version}
        visit.note(connection, act, f"policy_{published.number}", was, {**now, "note": published.note})

    return note


def _draft_page(visit: Visit, screen: Screen, draft: Draft, seen: int, **more: Any) -> Shown:
    now = text_of(screen.policy, visit.service.published)
    data = {
        "text": draft.text,
        "seen": seen,
        "in_force": {"name": screen.policy.name, "version": screen.policy.version},
        "thresholds": [
            {
                "classifier": name,
                "side": side,
                "level": level,
                "now": value,
                "written": visit.form.text(f"at:{name}:{side}:{level}") or shown_threshold(value),
            }
            for name, side, level, value in values_of(screen)
        ],
        "difference": difference(now, draft.text, ("in force", "draft")),
        "texts": visit.form.text("texts"),
        "note": visit.form.text("note"),
        "level": visit.form.text("level") or LEVELS[0],
        "checked": visit.request.method == "POST",
        "harmless": None,
        "ask": False,
        "week": None,
        "trial": [],
        **facts_of(draft),
        **more,
    }
    return Shown("admin_policy_draft", "Draft of the policy", data)


@ROUTES.page("GET", VERSIONS, "Published versions of the policy")
def versions_page(visit: Visit) -> Shown:
    """All published versions, newest first."""
    with reading(visit.service.database) as connection:
        versions = published_policies(connection)
    return Shown("admin_policy_versions", "Versions", {"published": [version_row(version) for version in versions]})


@ROUTES.page("GET", f"{VERSIONS}/{{number}}", "One version of the policy")
def version_page(visit: Visit) -> Shown:
    """One version, and its difference from another: by default from the one before. Raises NotFound."""
    number, against = _number(visit.part("number")), visit.query("against")
    with reading(visit.service.database) as connection:
        version = find_policy(connection, number)
        others = published_policies(connection)
        other = _number(against) if against else max((o.number for o in others if o.number < number), default=0)
        before = find_policy(connection, other) if other else None
    text = before.text if before else ""
    names = (f"{before.name} {before.version}" if before else "nothing", f"{version.name} {version.version}")
    data = {
        "version": version_row(version),
        "text": version.text,
        "against": other,
        "difference": difference(text, version.text, names),
        "others": [{"number": o.number, "version": o.version} for o in others if o.number != number],
        "in_force": seen_in(visit) == number,
        "seen": seen_in(visit),
    }
    return Shown("admin_policy_version", f"Version {version.version}", data)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("expected the number of a published version", "number")
    return int(text)


@ROUTES.page("POST", f"{VERSIONS}/{{number}}", "Bring a version back into force", "operate")
def roll_back(visit: Visit) -> Done:
    """Publishes the text and thresholds of an older version again. Raises Stale, NotFound."""
    screen, number, seen = _screen(visit), _number(visit.part("number")), visit.form.number("seen")
    with reading(visit.service.database) as connection:
        earlier = find_policy(connection, number)
    if seen is None:
        raise invalid("seen: expected the number of the version in force", "seen")
    if number == seen_in(visit):
        raise ApiError(409, f"version {earlier.version} is in force already")
    back = screen_of(earlier, base_of(visit.service.configured, screen))
    note = visit.form.text("note").strip()
    new = NewPolicy(
        earlier.digest,
        earlier.name,
        earlier.version,
        earlier.text,
        earlier.values,
        visit.by,
        note,
        copy_of=earlier.number,
    )
    published = visit.service.publish(new, back, seen, _noting(visit, "policy.roll_back"))
    return Done(POLICY, version_row(published))
