"""Console pages of persons: who has a console role, and the people of the chat and the arena, without a word of what
they wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from sqlalchemy import Engine
from starlette.responses import Response, StreamingResponse

from charter_service.api.admin_entrance import TAG, AdminRoutes, Done, Shown, Visit
from charter_service.api.errors import ApiError, invalid
from charter_service.api.rendering import ADMIN
from charter_service.api.wire.reading import address_of_server
from charter_service.console.filters import Filters, Input, check_sure, is_sure, number
from charter_service.console.listing import timed
from charter_service.people import members
from charter_service.people.members import Member
from charter_service.people.workers import CONSOLE_ROLES, NOBODY
from charter_service.web.database import reading

ROUTES = AdminRoutes(TAG)
MEMBERS, PEOPLE = f"{ADMIN}/members", f"{ADMIN}/people"
DAYS, MOST_DAYS = 7, 365  # of an invitation
NO_ROLE = "none"  # in forms: no console role


@ROUTES.page("GET", MEMBERS, "Members and their roles", "own")
def members_page(visit: Visit) -> Shown:
    """Persons with a console role, and forms to invite and change them."""
    links = visit.desk.links.take(visit.owner) if visit.session else []
    facts = _listed(visit, console=True)
    roles = {role: sorted(rights) for role, rights in CONSOLE_ROLES.items()}
    return Shown("admin_members", "Members", {**facts, "roles": roles, "links": links})


@ROUTES.page("GET", PEOPLE, "People of the chat and the arena", "own")
def people_page(visit: Visit) -> Shown:
    """Everybody who has joined, with counts of their chats and no word of them."""
    return Shown("admin_people", "People", {**_listed(visit, console=False), "roles": list(CONSOLE_ROLES)})


class MemberFilters(Filters):
    """Whose names to show."""

    name: Annotated[str, Input("Name", most=40, id="search")]
    after: Annotated[int, number("the number of a person")]


def _listed(visit: Visit, console: bool) -> dict[str, Any]:
    filters, database = MemberFilters.of(visit), visit.service.people.existing()
    name = filters.name[: members.LONGEST_SEARCH]
    page, following, totals = list[Member](), 0, {"joined": 0, "suspended": 0, "invited": 0}
    if database is not None:
        with reading(database) as connection:
            page, following = members.list_members(connection, name, filters.after, console)
            totals = members.totals(connection)
    rows = [member_row(member) for member in page]
    return {"members": rows, "after": following or None, "totals": totals, "asked": {"name": name}}


def member_row(member: Member) -> dict[str, Any]:
    """A person as JSON."""
    return timed(asdict(member), "created", "touched")


@ROUTES.page("POST", f"{MEMBERS}/invite", "Invite a member", "own")
def invite(visit: Visit) -> Done:
    """Makes an invitation with a console role; its link is shown once."""
    role, days = _role(visit), visit.form.number("days")
    days = DAYS if days is None else days
    if not 1 <= days <= MOST_DAYS:
        raise invalid(f"days: expected 1 to {MOST_DAYS}", "days")
    token = visit.write_people(lambda connection: members.invite_member(connection, visit.actor, role, days))
    link = f"{address_of_server(visit.request)}{ADMIN}/join/{token}"
    if visit.session:
        visit.desk.links.put(visit.owner, [link])
    return Done(MEMBERS, {"role": role, "days": days, "link": link})


def _role(visit: Visit) -> str:
    """The console role in a form; NOBODY for none."""
    role = visit.form.text("role")
    if role != NO_ROLE and role not in CONSOLE_ROLES:
        raise invalid(f"role: expected {', '.join(CONSOLE_ROLES)} or {NO_ROLE}", "role")
    return NOBODY if role == NO_ROLE else role


@ROUTES.page("POST", f"{MEMBERS}/{{person}}/role", "Change a member's role", "own")
def change_role(visit: Visit) -> Done:
    """Gives a person a console role, or takes it; open sessions have it from their next request on. `was`: the role
    that the page showed."""
    person, role = _person(visit), _role(visit)
    was = visit.form.text("was").removeprefix(NO_ROLE)
    member = visit.write_people(lambda connection: members.set_console_role(connection, visit.actor, person, role, was))
    return Done(MEMBERS, member_row(member))


@ROUTES.page("POST", f"{MEMBERS}/{{person}}/sign-out", "Sign a person out everywhere", "own")
def sign_out(visit: Visit) -> Done:
    """Ends all sessions of a person."""
    person = _person(visit)
    ended = visit.write_people(lambda connection: members.sign_out(connection, visit.actor, person))
    return Done(MEMBERS, {"id": person, "ended": ended})


@ROUTES.page("POST", f"{PEOPLE}/{{person}}", "Suspend a person or let them in", "own")
def suspend(visit: Visit) -> Done:
    """Keeps a person out of all services that share the database, or lets them in again; their data stays."""
    person, suspended = _person(visit), is_sure(visit, "suspended")
    if suspended and visit.person is not None and visit.person.id == person:
        raise ApiError(409, "you can't suspend yourself; another owner can")
    member = visit.write_people(
        lambda connection: members.suspend(connection, visit.actor, person, suspended, visit.person)
    )
    return Done(PEOPLE, member_row(member))


@ROUTES.page("POST", f"{PEOPLE}/{{person}}/export", "All data of a person", "own")
def export(visit: Visit) -> Response:
    """All data of a person with their chats as lines of JSON, to hand over on request."""
    person = _person(visit)
    visit.write_people(lambda connection: members.note_export(connection, visit.actor, person))
    headers = {"content-disposition": f'attachment; filename="person-{person}.jsonl"'}
    lines = _lines(visit.service.people.engine(), person)
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


def _lines(database: Engine, person: int) -> Iterator[bytes]:
    with reading(database) as connection:
        for table, row in members.member_data(connection, person):
            line = json.dumps({"table": table, **row}, ensure_ascii=False)
            yield f"{line}\n".encode("utf-8", "replace")


@ROUTES.page("POST", f"{PEOPLE}/{{person}}/forget", "Delete a person", "own")
def forget(visit: Visit) -> Done:
    """Deletes a person with all their data; the form says `sure=yes`."""
    person = _person(visit)
    check_sure(visit)
    visit.write_people(lambda connection: members.forget_member(connection, visit.actor, person, visit.person))
    return Done(PEOPLE, {"id": person, "deleted": True})


def _person(visit: Visit) -> int:
    """The number of a person in the address. Raises ApiError."""
    number = visit.part("person")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise ApiError(404, "there is no such person")
    return int(number)
