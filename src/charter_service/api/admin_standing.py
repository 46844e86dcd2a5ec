"""Admin pages of the standing of accounts and end users, and of grants: releases and exemptions."""

from __future__ import annotations

import datetime
import re
import time

from sqlalchemy import Connection

from charter_service.accounts.decisions import user_mark
from charter_service.accounts.grants import RELEASE_HOURS, SEVERE, find_grant, grants_of
from charter_service.accounts.ladder import LEVELS
from charter_service.accounts.organisations import list_organisations, organisation_names
from charter_service.accounts.standings import (
    account_of,
    changes_of,
    changes_since,
    kept_ladder,
    outcome_of,
    users_of,
)
from charter_service.api.admin_conduct import STANDINGS, grant_row, organisation_in
from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.errors import ApiError, invalid
from charter_service.api.feedback import titles_of
from charter_service.api.rendering import ADMIN
from charter_service.api.wire.reading import user_digest
from charter_service.api.wire.times import rfc3339
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
MARK = re.compile(r"[0-9a-f]{64}")
EVERYTHING = "*"  # of an exemption: all categories that aren't severe


@ROUTES.page("GET", STANDINGS, "Standing of accounts", "review")
def standings_page(visit: Visit) -> Shown:
    """The standing of each account."""
    with reading(visit.service.database) as connection:
        organisations = list_organisations(connection)
        newest = {change.organisation: change for change in changes_since(connection, 0)}
    rows = []
    for one in organisations:
        change = newest.get(one.id)
        rows.append(
            {
                "organisation": one.id,
                "name": one.name,
                "disabled": one.disabled,
                "level": change.level if change else LEVELS[0],
                "since": rfc3339(change.at) if change else None,
                "reason": change.reason if change else "",
                "by": change.by if change else "",
            }
        )
    rows.sort(key=lambda row: (-LEVELS.index(row["level"]), row["name"]))
    return Shown("admin_standings", "Standings", {"standings": rows, "levels": list(LEVELS)})


@ROUTES.page("GET", f"{STANDINGS}/{{organisation}}", "Standing of one account", "review")
def standing_page(visit: Visit) -> Shown:
    """The standing of one account, or of one of its end users, its history, when a level is lifted, and its grants.
    Raises ApiError."""
    id, user = visit.part("organisation"), _user(visit, visit.part("organisation"))
    account, now, policy = account_of(id, user), time.time(), visit.service.screen
    with reading(visit.service.database) as connection:
        names = organisation_names(connection)
        if id not in names:
            raise ApiError(404, f"there is no organisation {id}")
        ladder = kept_ladder(connection)
        changes, outcome = changes_of(connection, account), outcome_of(connection, account, ladder, now)
        users = [] if user else users_of(connection, id)
        let = [] if user else grants_of(connection, id)
    data = {
        "organisation": id,
        "organisation_name": names[id],
        "user": user,
        "users": [{**one.row(), "at": rfc3339(one.at)} for one in users],
        "grants": [grant_row(one) for one in let],
        "exemptible": {
            one: f"{title} (severe)" if ladder.severity(one) == SEVERE else title
            for one, title in titles_of(policy).items()
        },
        "level": changes[-1].level if changes else LEVELS[0],
        "total": outcome.total,
        "lifts": rfc3339(outcome.lifts),
        "asks": outcome.asks,
        "seen": changes[-1].number if changes else 0,
        "changes": [{**one.row(), "at": rfc3339(one.at)} for one in reversed(changes)],
        "levels": list(LEVELS),
    }
    return Shown("admin_standing", "Standing", data)


@ROUTES.page("POST", f"{STANDINGS}/{{organisation}}", "Set its level", "review")
def set_standing(visit: Visit) -> Done:
    """Sets a level, with a reason. Raises Stale if it has changed since the page was loaded."""
    id, level = visit.part("organisation"), visit.form.text("level")
    user = _mark(visit.form.text("user").strip())
    if level not in LEVELS:
        raise invalid(f"level: expected {', '.join(LEVELS)}", "level")
    if not (reason := visit.form.text("reason").strip()):
        raise invalid("reason: write why, for a possible appeal", "reason")
    seen = visit.form.number("seen")

    def also(connection: Connection) -> None:
        if level != LEVELS[0] and not user:
            visit.check_holder(connection, id)
        after = {"level": level, "user": user}
        visit.note(connection, "standing.set", id, {"seen": seen}, after)

    change = visit.service.conduct.decide(account_of(id, user), level, visit.by, reason, seen, also)
    place = f"{STANDINGS}/{id}?user={user}" if user else f"{STANDINGS}/{id}"
    return Done(place, {**change.row(), "at": rfc3339(change.at)})


def _user(visit: Visit, organisation: str) -> str:
    """The mark of the requested end user, from the mark itself or from the organisation's id for the user."""
    if named := visit.query("user_id"):
        return user_mark(organisation, user_digest(named))
    return _mark(visit.query("user"))


def _mark(mark: str) -> str:
    if mark and not MARK.fullmatch(mark):
        raise invalid("user: expected the mark of an end user, 64 hex digits", "user")
    return mark


@ROUTES.page("POST", f"{ADMIN}/releases", "Let a blocked request pass once", "review")
def release(visit: Visit) -> Done:
    """Lets a blocked request pass once."""
    given, stopped = visit.form.number("hours"), visit.form.text("stopped").strip()
    hours = RELEASE_HOURS if given is None else float(given)

    def also(connection: Connection) -> None:
        visit.note(connection, "grant.release", stopped, after={"hours": hours})

    grant = visit.service.conduct.release(stopped, visit.by, _reason(visit), hours, also)
    return Done(f"{STANDINGS}/{grant.organisation}", grant_row(grant))


@ROUTES.page("POST", f"{ADMIN}/exemptions", "Exempt an organisation", "review")
def exempt(visit: Visit) -> Done:
    """Exempts an organisation from a category, or with * from all that aren't severe, until a day."""
    with reading(visit.service.database) as connection:
        id = organisation_in(organisation_names(connection), visit.form.text("organisation").strip())
    if not (category := visit.form.text("category").strip()):
        raise invalid("category: choose one, or * for all that aren't severe", "category")
    try:
        day = datetime.date.fromisoformat(visit.form.text("until").strip())
    except ValueError:
        raise invalid("until: expected a day such as 2026-11-26", "until") from None
    until = datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp()
    what = "" if category == EVERYTHING else category

    def also(connection: Connection) -> None:
        visit.note(connection, "grant.exempt", id, after={"category": category, "until": day.isoformat()})

    grant = visit.service.conduct.exempt(id, what, until, visit.by, _reason(visit), also)
    return Done(f"{STANDINGS}/{id}", grant_row(grant))


@ROUTES.page("POST", f"{ADMIN}/grants/{{grant}}", "Revoke a release or exemption", "review")
def revoke(visit: Visit) -> Done:
    """Revokes a release or an exemption."""
    id = visit.part("grant")

    def also(connection: Connection) -> None:
        visit.check_holder(connection, find_grant(connection, id).organisation)
        visit.note(connection, "grant.revoke", id)

    ended = visit.service.conduct.revoke(id, visit.by, _reason(visit), also)
    return Done(f"{STANDINGS}/{ended.organisation}", grant_row(ended))


def _reason(visit: Visit) -> str:
    if not (reason := visit.form.text("reason").strip()):
        raise invalid("reason: write why; it is stored", "reason")
    return reason
