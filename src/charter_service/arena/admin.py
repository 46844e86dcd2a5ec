"""The admin page: progress of the collection, the people and their work, Elo of the votes, and invitations."""

from __future__ import annotations

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from charter_service.arena.site import Visit, show
from charter_service.arena.talk import SURE, attached
from charter_service.arena.words import TITLES
from charter_service.people.members import actor_of, forget_member, suspend
from charter_service.people.progress import progress_of
from charter_service.people.quality import quality_of_people
from charter_service.people.tables import CONVERSATIONS, TURNS
from charter_service.people.wellbeing import pause, wellbeing_of_people
from charter_service.people.workers import ROLES, data_of, invite, note
from charter_service.web.audit import note_act
from charter_service.web.database import reading, writing
from charter_service.web.listening import LOOPBACK
from charter_service.web.refusal import Refusal
from charter_service.web.site import see

MOST_LINKS, MOST_DAYS, MOST_QUOTA = 100, 365, 1_000_000
PROBLEMS = 5


def admin_page(visit: Visit) -> HTMLResponse:
    """Progress, people, reviews, Elo."""
    service = visit.service
    with reading(service.database) as connection:
        progress = progress_of(connection, service.config.reviewers)
        people = quality_of_people(connection)
        feelings = wellbeing_of_people(connection)
        failed = (
            select(TURNS.c.model_a, TURNS.c.model_b, TURNS.c.problem)
            .join(CONVERSATIONS, CONVERSATIONS.c.id == TURNS.c.conversation)
            .where(TURNS.c.state == "failed", CONVERSATIONS.c.state == "open")
            .order_by(TURNS.c.created.desc())
            .limit(PROBLEMS)
        )
        problems = connection.execute(failed).all()
    return show(
        visit,
        "admin",
        "Collection",
        progress=progress,
        people=people,
        feelings=feelings,
        problems=problems,
        standing=service.standings.now(),
        goals=service.config.goals,
        titles=TITLES,
        roles=ROLES,
        zero=service.config.zero,
        harmful_from=service.config.harmful_from,
        reviewers=service.config.reviewers,
    )


def invite_people(visit: Visit) -> RedirectResponse:
    """Creates invitations, one for each person, and shows their links once."""
    form = visit.form
    count, quota, days = (
        _within(form.number("count") or 1, 1, MOST_LINKS, "count"),
        _within(form.number("quota") or 0, 0, MOST_QUOTA, "quota"),
        _within(form.number("days") or 30, 1, MOST_DAYS, "days"),
    )
    with writing(visit.service.database) as connection:
        tokens = [
            invite(connection, form.text("role"), quota=quota, days=days, simulated=form.text("simulated") == SURE)
            for _ in range(count)
        ]
        after = {"role": form.text("role"), "count": count, "days": days, "quota": quota}
        note_act(connection, actor_of(visit.person), "member.invite", "", after=after)
    start = visit.service.config.url or _own_address(visit.request)
    visit.service.links.put(visit.owner, [f"{start}/join/{token}" for token in tokens])
    return see("/admin/invited")


def _own_address(request: Request) -> str:
    """The server's address as this machine reaches it. Raises Refusal for requests from elsewhere: their name for the
    server would be in the links, which could then lead anywhere."""
    if request.url.hostname not in LOOPBACK:
        raise Refusal("to invite people, set `url` to the address by which they reach this server", 409)
    return str(request.base_url).rstrip("/")


def invited(visit: Visit) -> Response:
    """The links, shown once."""
    links = visit.service.links.take(visit.owner)
    return show(visit, "invited", "Invitations", links=links) if links else see("/admin")


def lock_out(visit: Visit) -> RedirectResponse:
    """Disables a person; their answers stay."""
    if visit.number == visit.person.id:
        raise Refusal("you can't lock yourself out; another admin can")
    return _switch(visit, True)


def let_in(visit: Visit) -> RedirectResponse:
    """Enables a person again."""
    return _switch(visit, False)


def give_break(visit: Visit) -> RedirectResponse:
    """Gives a person a break of some days from the work, or ends it (0 days)."""
    id, days = visit.number, _within(visit.form.number("days") or 0, 0, MOST_DAYS, "days")
    with writing(visit.service.database) as connection:
        pause(connection, id, days)
        note_act(connection, actor_of(visit.person), "member.break", f"person_{id}", after={"days": days})
    return see("/admin#feelings")


def forget_person(visit: Visit) -> RedirectResponse:
    """Deletes a person with all their data; the form says `sure=yes`."""
    id = visit.number
    if visit.form.text("sure") != SURE:
        raise Refusal("nothing was deleted: tick that you are sure, and send it again")
    if id == visit.person.id:
        raise Refusal("delete yourself on your own page")
    with writing(visit.service.database) as connection:
        forget_member(connection, actor_of(visit.person), id, visit.person)
    return see("/admin#people")


def data_of_person(visit: Visit) -> JSONResponse:
    """All data of a person, to hand over on request."""
    id = visit.number
    with writing(visit.service.database) as connection:
        data = data_of(connection, id)
        note(connection, id, "handed out", f"by {visit.person.id}")
        note_act(connection, actor_of(visit.person), "member.export", f"person_{id}")
    return attached(data, f"person-{id}.json")


def _switch(visit: Visit, off: bool) -> RedirectResponse:
    with writing(visit.service.database) as connection:
        suspend(connection, actor_of(visit.person), visit.number, off, visit.person)
    return see("/admin#people")


def _within(value: int, low: int, high: int, name: str) -> int:
    if not low <= value <= high:
        raise Refusal(f"{name} is {value}; expected {low:,} to {high:,}")
    return value
