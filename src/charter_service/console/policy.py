"""Console pages of the acceptable-use policy: the one in force; a draft, tried before it is published; versions, and
the way back to an older one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from charter.ground.moderation.actions import LEVELS, Level
from charter.ground.moderation.changing import values_of
from charter.ground.moderation.screen import Screen
from charter_service.accounts import cases
from charter_service.accounts.policies import NewPolicy, Published, Values, find_policy, published_policies
from charter_service.accounts.standings import kept_ladder
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.errors import ApiError, invalid
from charter_service.api.policy_versions import base_of, screen_of, text_of, version_row
from charter_service.api.rendering import ADMIN
from charter_service.console.drafts import (
    REFUSED_SHARE,
    Draft,
    difference,
    facts_of,
    read_draft,
    refused_harmless,
    shown_threshold,
    texts_in,
    tried,
    week_of,
)
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
POLICY = f"{ADMIN}/policy"
DRAFT, VERSIONS = f"{POLICY}/draft", f"{POLICY}/versions"
ACTS = ("check", "try", "publish")
VERSION_LINE = re.compile(r"^version:\s*(\d{1,9})\s*$", re.MULTILINE)


@ROUTES.page("GET", POLICY, "The policy in force")
def policy_page(visit: Visit) -> Shown:
    """The policy in force, the thresholds of its classifiers, and people's verdicts on them."""
    screen = visit.service.screen
    with reading(visit.service.database) as connection:
        audit, ladder = cases.audit(connection), kept_ladder(connection)
    shown = screen.policy.model_dump(mode="json") if screen else None
    data = {
        "policy": shown and {**shown, "id": screen.policy.id if screen else ""},
        "thresholds": _thresholds(screen) if screen else [],
        "audit": [asdict(one) for one in audit],
        "ladder": ladder.model_dump(mode="json", exclude={"severities", "permitted"}),
        "keeps_content": visit.service.config.policy.keep_content,
        "published": version_row(visit.service.published) if visit.service.published else None,
    }
    return Shown("admin_policy", "Policy", data)


def _thresholds(screen: Screen) -> list[dict[str, Any]]:
    """A row for each classifier, side and level: the threshold, and the data that it was chosen on."""
    rows = []
    for one in screen.classifiers:
        thresholds = screen.thresholds[one.version]
        sides = (
            ("prompt", thresholds.prompt),
            ("reply", thresholds.reply),
            ("high-risk use", thresholds.high_risk),
        )
        for side, levels in sides:
            for level in ("standard", "enhanced") if levels else ():
                facts = {"classifier": one.name, "version": one.version, "side": side, "level": level}
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
    return _shown(visit, screen, Draft(text, set_now(visit)), seen_in(visit))


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
        raise invalid(
            "seen: expected the number of the version in force, 0 for the configured policy", "seen"
        )
    draft = read_draft(visit.form, screen, base_of(visit.service.configured, screen), set_now(visit))
    if draft.policy is None or draft.screen is None:
        return _shown(visit, screen, draft, seen)
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
            {**one, "before": before}
            for one, before in zip(
                tried(draft.screen, texts, level), tried(screen, texts, level), strict=True
            )
        ],
    }
    return _shown(visit, screen, draft, seen, **more)


def _level(visit: Visit) -> Level:
    level = visit.form.text("level") or LEVELS[0]
    if level not in LEVELS:
        raise invalid(f"level: expected {' or '.join(LEVELS)}", "level")
    return level


def _publish(visit: Visit, draft: Draft, seen: int) -> Done:
    policy, screen, service = draft.policy, draft.screen, visit.service
    assert policy is not None and screen is not None
    new = NewPolicy(
        policy.id, policy.name, policy.version, draft.text, draft.values, visit.by, visit.form.text("note")
    )
    published = service.publish(new, screen, seen, _noting(visit, "policy.publish"))
    return Done(POLICY, version_row(published))


def _noting(visit: Visit, what: str) -> Callable[[Connection, Published], None]:
    """Adds the change to the audit log: which version was in force, and which is now."""
    screen, before = _screen(visit), seen_in(visit)

    def note(connection: Connection, published: Published) -> None:
        was = {"number": before, "name": screen.policy.name, "version": screen.policy.version}
        now = {"number": published.number, "name": published.name, "version": published.version}
        visit.note(connection, what, f"policy_{published.number}", was, {**now, "note": published.note})

    return note


def _shown(visit: Visit, screen: Screen, draft: Draft, seen: int, **more: Any) -> Shown:
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
    return Shown("admin_policy_versions", "Versions", {"published": [version_row(one) for one in versions]})


@ROUTES.page("GET", f"{VERSIONS}/{{number}}", "One version of the policy")
def version_page(visit: Visit) -> Shown:
    """One version, and its difference from another: by default from the one before. Raises NotFound."""
    number, against = _number(visit.part("number")), visit.query("against")
    with reading(visit.service.database) as connection:
        one = find_policy(connection, number)
        others = published_policies(connection)
        other = (
            _number(against) if against else max((o.number for o in others if o.number < number), default=0)
        )
        before = find_policy(connection, other) if other else None
    text = before.text if before else ""
    names = (f"{before.name} {before.version}" if before else "nothing", f"{one.name} {one.version}")
    data = {
        "version": version_row(one),
        "text": one.text,
        "against": other,
        "difference": difference(text, one.text, names),
        "others": [{"number": o.number, "version": o.version} for o in others if o.number != number],
        "in_force": seen_in(visit) == number,
        "seen": seen_in(visit),
    }
    return Shown("admin_policy_version", f"Version {one.version}", data)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("expected the number of a published version", "number")
    return int(text)


@ROUTES.page("POST", f"{VERSIONS}/{{number}}", "Bring a version back into force", "operate")
def roll_back(visit: Visit) -> Done:
    """Publishes the text and thresholds of an older version again. Raises Stale, NotFound."""
    screen, number, seen = _screen(visit), _number(visit.part("number")), visit.form.number("seen")
    with reading(visit.service.database) as connection:
        old = find_policy(connection, number)
    if seen is None:
        raise invalid("seen: expected the number of the version in force", "seen")
    if number == seen_in(visit):
        raise ApiError(409, f"version {old.version} is in force already")
    back = screen_of(old, base_of(visit.service.configured, screen))
    note = visit.form.text("note").strip()
    new = NewPolicy(
        old.digest, old.name, old.version, old.text, old.values, visit.by, note, copy_of=old.number
    )
    published = visit.service.publish(new, back, seen, _noting(visit, "policy.roll_back"))
    return Done(POLICY, version_row(published))
