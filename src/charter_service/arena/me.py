"""A person's own page: their data, to download or delete."""

from __future__ import annotations

from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from charter_service.arena.sessions import Member
from charter_service.arena.talk import show
from charter_service.people.members import check_may_remove
from charter_service.people.visits import drop_session, see
from charter_service.people.workers import data_of, forget
from charter_service.web.database import reading, writing
from charter_service.web.refusal import Refusal

SURE = "yes"


def me_page(visit: Member) -> HTMLResponse:
    """How much data there is on the person."""
    with reading(visit.service.database) as connection:
        data = data_of(connection, visit.person.id)
    counts = {name: len(rows) for name, rows in data.items() if name != "person"}
    return show(visit, "me", "Your data", counts=counts, contact=visit.service.config.contact)


def my_data(visit: Member) -> JSONResponse:
    """All data of the person."""
    with reading(visit.service.database) as connection:
        return attached(data_of(connection, visit.person.id), "my-data.json")


def forget_me(visit: Member) -> RedirectResponse:
    """Deletes the person with all their data; the form says `sure=yes`."""
    if visit.form.text("sure") != SURE:
        raise Refusal("nothing was deleted: tick that you are sure, and send it again")
    with writing(visit.service.database) as connection:
        check_may_remove(connection, visit.person, visit.person.id)
        forget(connection, visit.person.id)
    answer = see("/enter?done=forgotten")
    drop_session(answer, visit.service.config.secure)
    return answer


def attached(data: object, name: str) -> JSONResponse:
    """Data as a download."""
    return JSONResponse(data, headers={"content-disposition": f'attachment; filename="{name}"'})
