"""Signing in and out: joining by an invitation, entering with a key, leaving."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from charter_service.arena.rendering import page
from charter_service.arena.service import Service
from charter_service.arena.sessions import Member, Sent, Serving, check_entry
from charter_service.people.places import ARENA, other_places
from charter_service.people.visits import COOKIE, drop_session, see, set_session, wants_json
from charter_service.people.workers import close_session, come_back, invitation_of, join, open_session
from charter_service.web.database import reading, writing
from charter_service.web.refusal import Refusal
from charter_service.web.tokens import digest_of

LONGEST_TOKEN, LONGEST_NAME = 100, 40
NOTICES = {
    "left": "You have signed out. Sign in again with your key.",
    "forgotten": "All your data here is deleted. Thank you for your help.",
}


def join_page(request: Request, service: Serving, token: str) -> HTMLResponse:
    """The page where an invited person chooses a name. Raises Refusal if the invitation isn't valid."""
    check_entry(request, service)
    with writing(service.database) as connection:
        role = invitation_of(connection, token[:LONGEST_TOKEN]).role
    return _ask_name(service, token, role)


def join_here(request: Request, service: Serving, form: Sent, token: str) -> Response:
    """Adds the invited person, and shows the key on the next page; asks again if the name isn't accepted.

    Raises Refusal if the invitation isn't valid.
    """
    check_entry(request, service)
    try:
        with writing(service.database) as connection:
            person, key = join(connection, token[:LONGEST_TOKEN], form.text("name"))
            session = open_session(connection, person.id)
    except Refusal as refusal:
        if wants_json(request):
            raise
        with writing(service.database) as connection:
            role = invitation_of(connection, token[:LONGEST_TOKEN]).role
        return _ask_name(service, token, role, form.text("name"), refusal)
    service.keys.put(digest_of(session), [key])
    answer = see("/welcome")
    set_session(answer, session, service.config.secure)
    return answer


def _ask_name(
    service: Service, token: str, role: str, called: str = "", refusal: Refusal | None = None
) -> HTMLResponse:
    """The form that asks for a name, with the problem of the last one."""
    return page(
        "join",
        refusal.status if refusal else 200,
        name=service.config.name,
        title="Welcome",
        member=None,
        token=token,
        role=role,
        called="".join(letter for letter in called if letter.isprintable())[:LONGEST_NAME],
        problem=str(refusal or ""),
    )


def welcome(visit: Member) -> Response:
    """The personal key, shown once."""
    keys = visit.service.keys.take(visit.owner)
    if not keys:
        return see("/")
    return page("welcome", name=visit.service.config.name, title="Your key", member=visit, key=keys[0])


def enter_page(request: Request, service: Serving, done: str = "") -> HTMLResponse:
    """The page that asks for a key."""
    with reading(service.database) as connection:
        places = other_places(connection, ARENA, request.url.hostname or "")
    notice, name = NOTICES.get(done, ""), service.config.name
    return page("enter", name=name, title="Sign in", member=None, notice=notice, places=places)


def enter(request: Request, service: Serving, form: Sent) -> RedirectResponse:
    """Opens a session for the owner of a key. Raises Refusal if the key is unknown."""
    check_entry(request, service)
    with writing(service.database) as connection:
        person = come_back(connection, form.text("key").strip()[:LONGEST_TOKEN])
        session = open_session(connection, person.id)
    answer = see("/")
    set_session(answer, session, service.config.secure)
    return answer


def leave(request: Request, visit: Member) -> RedirectResponse:
    """Closes the session."""
    with writing(visit.service.database) as connection:
        close_session(connection, request.cookies[COOKIE])
    answer = see("/enter?done=left")
    drop_session(answer, visit.service.config.secure)
    return answer
