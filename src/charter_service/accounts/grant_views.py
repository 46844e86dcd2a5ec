"""The commands of `charter conduct` for grants: releases and exemptions."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from charter.terminal.tables import console, plain_table
from charter_service.accounts import grants
from charter_service.accounts.conduct_views import add, opened, organisation_of, print_json, when
from charter_service.accounts.grants import Grant
from charter_service.accounts.organisations import organisation_names
from charter_service.accounts.standings import kept_ladder
from charter_service.web.audit import at_shell, note_act
from charter_service.web.database import reading, writing


def release(place: str, stopped: str, by: str, reason: str, hours: float) -> None:
    """Lets a blocked request pass once."""
    with opened(place) as engine, writing(engine) as c:
        grant = grants.release(c, stopped, by, reason, time.time(), hours)
        note_act(c, at_shell(by), "grant.release", stopped, after={"hours": hours})
    print(
        f"{grant.id}: the same {grant.side} passes once until {when(grant.until)} (UTC), by decision of {grant.by}"
    )


def exempt(
    place: str, organisation: str, categories: Sequence[str], until: datetime, by: str, reason: str
) -> None:
    """Exempts an organisation from categories, from all of them or none."""
    end = until.replace(tzinfo=UTC).timestamp()
    with opened(place) as engine, writing(engine) as c:
        mine, ladder, now = organisation_of(c, organisation), kept_ladder(c), time.time()
        wanted = [grants.exemption(mine, category, end, by, reason, now) for category in categories]
        exemptions = [grants.exempt(c, one, ladder) for one in wanted]
        after = {"category": ", ".join(categories)[:1000], "until": until.date().isoformat()}
        note_act(c, at_shell(by), "grant.exempt", mine, after=after)
    for one in exemptions:
        what = one.category or "all that isn't severe"
        print(f"{one.id}: {organisation} is exempt from {what} until {when(one.until)} (UTC)")


def revoke(place: str, id: str, by: str, reason: str) -> None:
    """Revokes a grant."""
    with opened(place) as engine, writing(engine) as c:
        ended = grants.revoke(c, id, by, reason, time.time())
        note_act(c, at_shell(by), "grant.revoke", id)
    print(f"{ended.id} was revoked by {ended.revoked_by}")


def print_grants(place: str, organisation: str, everything: bool, as_json: bool) -> None:
    """Prints releases and exemptions."""
    now = time.time()
    with opened(place) as engine, reading(engine) as c:
        mine = organisation_of(c, organisation) if organisation else ""
        rows, names = grants.grants_of(c, mine, None if everything else now), organisation_names(c)
    if as_json:
        print_json([one.row() | {"state": one.state(now)} for one in rows])
        return
    if not rows:
        print("there are no releases or exemptions" if everything else "no release or exemption is in force")
        return
    table = plain_table(("id", "organisation", "lets pass", "state", "until", "by", "reason"))
    for one in rows:
        who = names.get(one.organisation, one.organisation)
        add(table, one.id, who, _what(one), one.state(now), when(one.until), one.by, one.reason)
    console().print(table)


def _what(grant: Grant) -> str:
    if grant.kind == grants.RELEASE:
        return f"{grant.side} of {grant.request} ({grant.category})"
    return grant.category or "all that isn't severe"
