"""Console roles: who may give them, the last owner, two owners at once, and lists of ten thousand people."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from people_desk import Desk, open_desk
from sqlalchemy import event, insert, select

from charter_service.people import members, workers
from charter_service.people.tables import CHATS, INVITATIONS, MESSAGES, PEOPLE
from charter_service.people.workers import CONSOLE_ROLES, NOBODY, RIGHTS, Person, allows
from charter_service.web.audit import Wanted, search_acts, verify_acts
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal, Stale


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return open_desk(tmp_path / "people.sqlite")


def join(desk: Desk, name: str, console: str = NOBODY) -> Person:
    with writing(desk.engine) as c:
        role = "admin" if console == "owner" else "member"
        return workers.join(c, workers.invite(c, role, console=console), name)[0]


def acts(desk: Desk) -> list[str]:
    with reading(desk.engine) as c:
        assert verify_acts(c) is None
        return [row.act.what for row in reversed(search_acts(c, Wanted(), 1000)[0])]


def test_rights_of_roles() -> None:
    assert all(allows("owner", right) for right in RIGHTS)
    assert {role for role in CONSOLE_ROLES if allows(role, "own")} == {"owner"}
    assert not any(allows(role, right) for role in (NOBODY, "root", "admin") for right in RIGHTS)
    assert allows("reviewer", "review") and not allows("reviewer", "operate")
    assert allows("operator", "operate") and not allows("operator", "review")


def test_the_first_to_join_owns_the_pages_and_later_invitations_say_it(desk: Desk) -> None:
    token = workers.first_invitation(desk.engine)
    assert token
    with writing(desk.engine) as c:
        ann, _ = workers.join(c, token, "ann")
        assert ann.console == "owner" and ann.may("reviewer")
        invited = members.invite_member(c, members.actor_of(ann), "reviewer")
        bob, _ = workers.join(c, invited, "bob")
        plain, _ = workers.join(c, workers.invite(c, "admin"), "carl")
        with pytest.raises(Refusal, match="no console role"):
            members.invite_member(c, members.actor_of(ann), "root")
        assert invited not in str(c.execute(select(INVITATIONS)).all())
    assert (bob.console, bob.role) == ("reviewer", "member")
    assert plain.console == NOBODY, "who runs the arena isn't given the admin pages"
    assert acts(desk) == ["member.invite"]


def test_a_role_is_changed_from_what_was_seen(desk: Desk) -> None:
    ann, bob = join(desk, "ann", "owner"), join(desk, "bob")
    actor = members.actor_of(ann)
    with writing(desk.engine) as c:
        session = workers.open_session(c, bob.id)
        assert members.set_console_role(c, actor, bob.id, "operator", NOBODY).console == "operator"
        again = workers.person_of(c, session)
        assert again and again.console == "operator", "an open session has the role at once"
    with pytest.raises(Stale), writing(desk.engine) as c:
        members.set_console_role(c, actor, bob.id, "owner", NOBODY)
    with pytest.raises(NotFound), writing(desk.engine) as c:
        members.set_console_role(c, actor, 999, "owner", NOBODY)
    with writing(desk.engine) as c:
        raised = members.set_console_role(c, actor, bob.id, "owner", "operator")
        lowered = members.set_console_role(c, actor, bob.id, "analyst", "owner")
        assert (raised.role, lowered.role) == ("admin", "member")
        members.set_console_role(c, actor, bob.id, NOBODY, "analyst")
        members.set_console_role(c, actor, bob.id, NOBODY, NOBODY)  # no change, no row
    assert acts(desk) == ["member.role"] * 4


def test_the_last_owner_stays(desk: Desk) -> None:
    ann, bob = join(desk, "ann", "owner"), join(desk, "bob", "owner")
    actor = members.actor_of(ann)
    with writing(desk.engine) as c:
        members.suspend(c, actor, bob.id, True, ann)
    for work in (
        lambda c: members.set_console_role(c, actor, ann.id, NOBODY, "owner"),
        lambda c: members.suspend(c, actor, ann.id, True, ann),
        lambda c: members.forget_member(c, actor, ann.id, ann),
        lambda c: members.check_may_remove(c, ann, ann.id),
    ):
        with pytest.raises(Refusal, match="last owner"), writing(desk.engine) as c:
            work(c)
    with writing(desk.engine) as c:
        members.suspend(c, actor, bob.id, False)
        members.set_console_role(c, actor, ann.id, NOBODY, "owner")
    assert acts(desk) == ["member.suspend", "member.admit", "member.role"]


def test_two_owners_who_remove_each_other_leave_one(desk: Desk) -> None:
    pair = (join(desk, "ann", "owner"), join(desk, "bob", "owner"))
    start, outcomes = threading.Barrier(2), list[str]()

    def remove(me: Person, other: Person) -> None:
        start.wait()
        try:
            with writing(desk.engine) as c:
                members.check_still(c, me, "own")
                members.set_console_role(c, members.actor_of(me), other.id, NOBODY, "owner")
            outcomes.append("removed")
        except Refusal as refusal:
            outcomes.append(str(refusal))

    threads = [threading.Thread(target=remove, args=two) for two in (pair, pair[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=len)[0] == "removed" and len(set(outcomes)) == 2
    with reading(desk.engine) as c:
        owners = [one for one in members.list_members(c)[0] if one.console == "owner"]
    assert len(owners) == 1


def test_who_has_no_right_to_own_touches_nobody_with_a_role(desk: Desk) -> None:
    ann, bob, carl = join(desk, "ann", "owner"), join(desk, "bob", "reviewer"), join(desk, "carl")
    with writing(desk.engine) as c:  # an admin of the chat, whom somebody invited by the arena's pages
        dora, _ = workers.join(c, workers.invite(c, "admin"), "dora")
    for person in (ann, bob):
        for work in (members.suspend, members.forget_member):
            more = (True,) if work is members.suspend else ()
            with pytest.raises(Refusal, match="only an owner"), writing(desk.engine) as c:
                work(c, members.actor_of(dora), person.id, *more, dora)  # type: ignore[operator]
    with writing(desk.engine) as c:
        members.suspend(c, members.actor_of(dora), carl.id, True, dora)
        members.forget_member(c, members.actor_of(dora), carl.id, dora)
    assert acts(desk) == ["member.suspend", "member.forget"]


def test_deleted_people_are_gone_with_their_sessions(desk: Desk) -> None:
    ann, bob = join(desk, "ann", "owner"), join(desk, "bob", "operator")
    with writing(desk.engine) as c:
        session = workers.open_session(c, bob.id)
        members.forget_member(c, members.actor_of(ann), bob.id, ann)
        assert workers.person_of(c, session) is None
        with pytest.raises(Refusal, match="role has changed"):
            members.check_still(c, bob, "read")
        with pytest.raises(NotFound):
            members.note_export(c, members.actor_of(ann), bob.id)


def test_an_export_is_read_while_others_write(desk: Desk) -> None:
    ann, bob = join(desk, "ann", "owner"), join(desk, "bob")
    actor = members.actor_of(ann)
    with writing(desk.engine) as c:
        members.note_export(c, actor, bob.id)
    with reading(desk.engine) as c:
        rows = members.member_data(c, bob.id)
        table, row = next(rows)
        with writing(desk.engine) as other:  # nobody waits for the reader
            members.sign_out(other, actor, bob.id)
        assert {name for name, _ in rows} >= {"events"}
    assert (table, row["name"]) == ("person", "bob")
    assert acts(desk) == ["member.export", "member.sign_out"]


def test_ten_thousand_people_are_listed_by_one_query_a_page(desk: Desk) -> None:
    row = {"role": "member", "simulated": False, "quota": 0, "disabled": False, "created": 0.0}
    people = [{**row, "name": f"person {n}", "console": "analyst" if n % 100 == 0 else ""} for n in range(10_000)]
    with writing(desk.engine) as c:
        c.execute(insert(PEOPLE), people)
        (owner,) = c.execute(select(PEOPLE.c.id).where(PEOPLE.c.name == "person 150")).scalars().all()
        chat = {"id": "c", "person": owner, "title": "t", "titled": False, "model": "m", "leaf": "", "draft": ""}
        chat |= {"pinned": False, "archived": False, "created": 1.0, "touched": 2.0}
        c.execute(insert(CHATS).values(**chat))
        message = {"id": "m", "chat": "c", "parent": "", "number": 1, "role": "user", "author": "person"}
        message |= dict.fromkeys(("model", "request", "stop", "reason", "thumb"), "")
        message |= dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens"), 0)
        c.execute(insert(MESSAGES).values(**message, state="done", text="äbc", created=1.0))
    statements = list[str]()
    event.listen(desk.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    seen, after, pages = set[int](), 0, 0
    with reading(desk.engine) as c:
        while pages == 0 or after:
            statements.clear()
            page, after = members.list_members(c, after=after)
            assert len(statements) == 1, "one query a page"
            seen |= {one.id for one in page}
            pages += 1
        assert len(seen) == 10_000 and pages == 100
        (found,) = members.list_members(c, "SON 150")[0][:1]
        assert (found.name, found.chats, found.messages, found.characters) == ("person 150", 1, 1, 3)
        assert found.touched == 2.0
        assert not members.list_members(c, "%")[0] and not members.list_members(c, "_erson 1")[0]
        assert len(members.list_members(c, console=True, limit=1000)[0]) == 100
        assert members.totals(c)["joined"] == 10_000
