"""The policy in force: the published one, if people published any on the admin pages, else the configured one."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from charter.ground.artifact.errors import CharterError
from charter.ground.moderation.changing import under
from charter.ground.moderation.policy import Policy
from charter.ground.moderation.screen import Screen
from charter.ground.settings.placed import read_placed
from charter_service.accounts.policies import Published, newest_policy
from charter_service.accounts.policies import text_of as yaml_of
from charter_service.api.wire.answers import rfc3339
from charter_service.web.database import reading


def in_force(database: Engine, configured: Screen) -> tuple[Screen, Published | None]:
    """The screen of the newest published policy, and that version; else the configured screen. Raises CharterError if
    this Charter can't read it."""
    with reading(database) as connection:
        newest = newest_policy(connection)
    return (configured, None) if newest is None else (screen_of(newest, configured), newest)


def screen_of(published: Published, screen: Screen) -> Screen:
    """The screen of a published version, with the classifiers of `screen`. Thresholds of classifiers that are no longer
    configured are left out. Raises CharterError."""
    policy, problems = read_placed(published.text, Policy)
    if policy is None:
        first = problems[0]
        raise CharterError(
            f"the published policy {published.name} version {published.version} can't be read (line {first.line}: "
            f"{first.words}); serve it with the Charter that published it"
        )
    names = {classifier.name for classifier in screen.classifiers}
    return under(screen, policy, {name: sides for name, sides in published.values.items() if name in names})


def in_words(policy: Policy, published: Published | None) -> str:
    """Which policy is in force, in one line."""
    name = f"policy: {policy.name} version {policy.version}"
    if published is None:
        return f"{name}, as configured"
    day = datetime.fromtimestamp(published.at, UTC).date().isoformat()
    return f"{name}, published by {published.by} on {day}"


def text_of(policy: Policy, published: Published | None) -> str:
    """The text of the policy in force, to begin a draft from."""
    return published.text if published is not None else yaml_of(policy)


def base_of(configured: Screen | None, screen: Screen) -> Screen:
    """The screen with the configured thresholds, from which all published ones are made."""
    return configured if configured is not None else screen


def version_row(version: Published) -> dict[str, Any]:
    """A published version for lists, without its text."""
    facts = asdict(version)
    text, values = facts.pop("text"), facts.pop("values")
    return {**facts, "at": rfc3339(version.at), "lines": text.count("\n") + 1, "thresholds": values}
