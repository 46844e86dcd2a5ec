"""A person's own pages: standing and appeal, data to download or delete, and, for admins, the people of the chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Select, func, select
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response, StreamingResponse

from charter_service.chat.attached import select_files
from charter_service.chat.file_reading import blobs_of
from charter_service.chat.files import new_draft
from charter_service.chat.portable import Budget, import_file, pieces_of_chat
from charter_service.chat.sharing import list_shares
from charter_service.chat.site import Visit, close_chat, done, number_of, show
from charter_service.chat.storage import check_room, held
from charter_service.chat.tree import running_of
from charter_service.people.entrance import gone
from charter_service.people.members import actor_of, check_may_remove, suspend
from charter_service.people.tables import BLOBS, CHATS, FILES, MESSAGES, PEOPLE
from charter_service.people.workers import data_of, forget, invite
from charter_service.web.audit import note_act
from charter_service.web.database import reading, writing
from charter_service.web.refusal import Refusal
from charter_service.web.site import see

SURE = "yes"
MOST_INVITED = 100
NOTICES = {"appealed": "Your appeal is sent; people decide about it.", "imported": "The chats are imported."}
WORDS = {  # what a level of standing means for the person
    "warned": "Some of your requests were stopped. Nothing else changes; please read what the policy allows.",
    "enhanced": "Several of your requests were stopped, so yours are checked more strictly for a while.",
    "throttled": "Many of your requests were stopped, so you can send fewer for a while.",
    "suspended": "So many of your requests were stopped that you can send none until people have looked at them.",
}


async def me_page(visit: Visit) -> HTMLResponse:
    """What is stored of the person, where the account stands, and the links that were shared."""
    standing = await visit.service.api.standing(visit.user)
    return await run_in_threadpool(_me_page, visit, standing)


def _me_page(visit: Visit, standing: dict[str, str] | None) -> HTMLResponse:
    with reading(visit.service.database) as connection:
        counted = select(func.count()).select_from(MESSAGES.join(CHATS, CHATS.c.id == MESSAGES.c.chat))
        messages = connection.execute(counted.where(CHATS.c.person == visit.person.id)).scalar_one()
        chats = connection.execute(
            select(func.count()).select_from(CHATS).where(CHATS.c.person == visit.person.id)
        ).scalar_one()
        shares = list_shares(connection, visit.person)
        others = connection.execute(select(func.count()).select_from(PEOPLE)).scalar_one() > 1
        size = held(connection, visit.person.id)
    counts = {"chats": chats, "messages": messages, "characters": size.characters}
    counts |= {"bytes": size.bytes, "most": visit.service.config.storage}
    notice = NOTICES.get(visit.request.query_params.get("done", ""), "")
    level = standing["level"] if standing else ""
    standing_words = {
        "level": level,
        "words": WORDS.get(level, standing["message"] if standing else ""),
        "shown": others or level not in ("", "good"),  # one person alone has nobody to stand well with
    }
    return show(visit, "me", "You", counts=counts, standing=standing_words, shares=shares, notice=notice)


async def appeal(visit: Visit) -> Response:
    """Asks people to look at the account's standing."""
    words = visit.form.text("words").strip()
    if not words:
        raise Refusal("say in a few words why; nothing was sent")
    await visit.service.api.ask("POST", "/v1/appeals", {"words": words[:4000], "user_id": visit.user})
    return done(visit, "/me?done=appealed")


def my_data(visit: Visit) -> Response:
    """All that is stored of the person: the account, and every chat with all its branches. It is sent as it is read,
    chat by chat, so that it takes little memory however much there is."""
    database = visit.service.database
    with reading(database) as connection:
        data = data_of(connection, visit.person.id) | {"draft": new_draft(connection, visit.person)}
        mine = select(CHATS.c.id).where(CHATS.c.person == visit.person.id, CHATS.c.deleted.is_(None))
        chats = list(connection.execute(mine.order_by(CHATS.c.touched.desc(), CHATS.c.id)).scalars())
        loose = select_files(connection, FILES.c.person == visit.person.id, FILES.c.message.is_(None))

    budget = Budget()

    def pieces() -> Iterator[str]:
        yield json.dumps(data).removesuffix("}") + ', "chats": ['
        between = ""
        for chat in chats:
            for piece in pieces_of_chat(database, visit.person, chat, budget):
                yield between + piece
                between = ""
            between = ","
        with reading(database) as connection:
            files = budget.take(connection, loose)
        yield f'], "files": {json.dumps(files)}}}'

    headers = {"content-disposition": 'attachment; filename="my-chats.json"'}
    return StreamingResponse(pieces(), media_type="application/json", headers=headers)


def forget_me(visit: Visit) -> Response:
    """Deletes the person with all their data; the form says `sure=yes`."""
    if visit.form.text("sure") != SURE:
        raise Refusal("nothing was deleted: tick that you are sure, and send it again")
    with writing(visit.service.database) as connection:
        check_may_remove(connection, visit.person, visit.person.id)
    _stop_all(visit, visit.person.id)
    with writing(visit.service.database) as connection:
        check_may_remove(connection, visit.person, visit.person.id)
        blobs = blobs_of(connection, BLOBS.c.person == visit.person.id)
        forget(connection, visit.person.id)
    visit.service.files.store.remove(blobs)
    return gone(visit, "forgotten")


def _stop_all(visit: Visit, person: int) -> None:
    """Ends all replies that are being written for a person, and the person's temporary chats."""
    with reading(visit.service.database) as connection:
        running = running_of(connection, person)
    for reply in running:
        visit.service.replies.stop(reply)
    for chat in visit.service.temporary.of(person):
        close_chat(visit, chat)


def take_in(visit: Visit) -> Response:
    """Reads chats from a file that this chat, ChatGPT or Claude exported, pasted as text."""
    model, files = visit.service.model(""), visit.service.files
    with files.taking(visit.person) as intake:
        count = import_file(files, intake, visit.form.text("text"), model.id if model else "")
        check_room(intake.connection, visit.person.id, visit.service.config.storage)
    return done(visit, "/me?done=imported", count=count)


def people_page(visit: Visit) -> HTMLResponse:
    """The people of the chat, with counts and without a word of what they wrote."""
    counted = select(CHATS.c.person, func.count().label("chats"), func.max(CHATS.c.touched).label("touched"))
    chats = counted.group_by(CHATS.c.person).subquery()
    query: Select[Any] = (
        select(*PEOPLE.c, chats.c.chats, chats.c.touched)
        .outerjoin(chats, chats.c.person == PEOPLE.c.id)
        .order_by(PEOPLE.c.id)
    )
    with reading(visit.service.database) as connection:
        people = connection.execute(query).all()
    links = visit.service.links.take(visit.owner)
    return show(visit, "people", "People", people=people, links=links)


def invite_people(visit: Visit) -> Response:
    """Makes invitations, whose links the next page shows once."""
    count = visit.form.number("count") or 1
    if not 1 <= count <= MOST_INVITED:
        raise Refusal(f"choose a number from 1 to {MOST_INVITED}")
    with writing(visit.service.database) as connection:
        tokens = [invite(connection, "member") for _ in range(count)]
        after = {"role": "member", "count": count}
        note_act(connection, actor_of(visit.person), "member.invite", "", after=after)
    visit.service.links.put(visit.owner, [f"{visit.address}/join/{token}" for token in tokens])
    return see("/people")


def lock_out(visit: Visit) -> Response:
    """Keeps somebody out, or lets them in again; their chats stay."""
    person, out = number_of(visit.id), visit.form.text("out") == "yes"
    if person == visit.person.id:
        raise Refusal("you can't lock yourself out")
    with writing(visit.service.database) as connection:
        suspend(connection, actor_of(visit.person), person, out, visit.person)
    if out:
        _stop_all(visit, person)
    return see("/people")
