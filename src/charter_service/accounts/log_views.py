"""The check of `charter conduct verify`: the log of decisions, the audit logs, and tips that were kept elsewhere."""

import time

from sqlalchemy import Connection

from charter.ground.artifact.errors import CharterError
from charter_service.accounts.conduct_views import opened, print_json
from charter_service.accounts.decisions import (
    anchor,
    holds,
    parse_tip,
    removed_young,
    told_tip,
    verify_chain,
)
from charter_service.accounts.grants import verify_grants
from charter_service.accounts.ladder import DAY
from charter_service.accounts.retention import Keep
from charter_service.web.audit import audit_tip, holds_act, verify_acts
from charter_service.web.database import open_database, reading


def verify(
    place: str,
    known: str,
    keep_days: float | None,
    as_json: bool,
    people: str = "",
    known_act: str = "",
) -> None:
    """Checks the chains of the log of decisions and of the audit log; with `people` also of the audit log in the
    people's database. Raises CharterError if one is broken, if rows are missing that are too young to be removed, and
    if a tip can't be checked."""
    days = Keep().decisions_days if keep_days is None else keep_days
    before, tip = time.time() - days * DAY, parse_tip(known) if known else None
    with opened(place) as engine, reading(engine) as c:
        broken, newest, (removed, _) = verify_chain(c), told_tip(c), anchor(c)
        changed, young = verify_grants(c, before), removed_young(c, tip, before)
        tip_held = holds(c, tip.number, tip.chain) if tip else True
        act = _checked_acts(c, "the audit log", known_act)
    if broken is not None:
        raise CharterError(
            f"the log of decisions is broken at row {broken}: it was changed, or rows before it are gone"
        )
    if young:
        raise CharterError(
            f"younger than {days:g} days and removed from the log of decisions: {young}; where the service keeps it "
            "for fewer days (keep.decisions_days), give --keep-days"
        )
    if changed is not None:
        raise CharterError(f"{changed} differs from the log of decisions: a release or exemption was changed")
    if tip_held is False:
        raise CharterError(
            f"the log no longer holds {known}: its end was cut off, or the whole log was rewritten"
        )
    if tip_held is None:
        raise CharterError(
            f"can't check whether the log held {known}: its row was removed for its age; keep a newer tip"
        )
    act_of_people = _check_people(people) if people else None
    if as_json:
        facts = {"whole": True, "rows_to": newest.number, "removed_to": removed, "tip": str(newest)}
        facts |= {"audit_tip": act, "people_audit_tip": act_of_people}
        print_json({**facts, "tip_held": tip_held} if known else facts)
    else:
        if removed:
            print(f"rows up to {removed} were removed for their age; their digest remains")
        print(f"the log is intact; keep this tip elsewhere and pass it to --tip later: {newest}")
        print(f"the audit log is intact; keep this tip elsewhere and pass it to --audit-tip later: {act}")
        if act_of_people is not None:
            print(f"the audit log of {people} is intact; its tip: {act_of_people}")


def _checked_acts(connection: Connection, name: str, known: str = "") -> str:
    """The tip of an audit log that is intact. Raises CharterError."""
    if (broken := verify_acts(connection)) is not None:
        raise CharterError(f"{name} is broken at row {broken}: it was changed, or rows before it are gone")
    if known and not holds_act(connection, known):
        raise CharterError(f"{name} no longer holds {known}: its end was cut off, or it was rewritten")
    return audit_tip(connection)


def _check_people(place: str) -> str:
    engine = open_database(place, None, new=False)
    try:
        with reading(engine) as connection:
            return _checked_acts(connection, f"the audit log of {place}")
    finally:
        engine.dispose()
