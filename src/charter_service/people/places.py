"""Where the services that share a database of people were last served: their sign-in pages lead to each other."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError

from charter_service.people.tables import ADDRESS, FACTS
from charter_service.web.database import writing
from charter_service.web.listening import LOOPBACK

ARENA, CHAT, CONSOLE = ADDRESS, "chat_address", "console_address"
NAMES = {CHAT: "Chat", ARENA: "Arena", CONSOLE: "Admin pages"}


def note_place(engine: Engine, place: str, address: str) -> None:
    """Stores where a service is now served; a database that can't be written keeps what it had."""
    with suppress(SQLAlchemyError), writing(engine) as connection:
        connection.execute(delete(FACTS).where(FACTS.c.name == place))
        connection.execute(insert(FACTS).values(name=place, value=address))


def other_places(connection: Connection, own_place: str, host: str) -> list[tuple[str, str]]:
    """Names and addresses of the other services. A session of this host holds only on the same host, so that others are
    left out, and an address of this machine alone is shown only to those who are on it."""
    addresses = dict(connection.execute(select(FACTS.c.name, FACTS.c.value).where(FACTS.c.name.in_(NAMES))).all())
    places = []
    for place, name in NAMES.items():
        address = addresses.get(place, "")
        if place == own_place or not address:
            continue
        other_host = urlsplit(address).hostname or ""
        if other_host == host or (other_host in LOOPBACK and host in LOOPBACK):
            # the name in the visitor's address bar, to which the cookie belongs
            spelled = f"[{host}]" if ":" in host else host
            port = urlsplit(address).port
            link = f"{urlsplit(address).scheme}://{spelled}{f':{port}' if port else ''}"
            places.append((name, f"{link}/admin" if place == CONSOLE else f"{link}/"))
    return places
