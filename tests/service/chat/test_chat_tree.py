"""Chats as trees: whatever is sent, edited and chosen, nothing that is complete changes, and nobody sees another's."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, select, update

from charter_service.chat import tree
from charter_service.chat.branches import DONE, branch, chat_of, length_of, list_chats, message_of
from charter_service.people.export import open_people
from charter_service.people.tables import CHATS, MESSAGES
from charter_service.people.workers import Person, forget, invite, join
from charter_service.web.database import reading, writing
from charter_service.web.refusal import NotFound, Refusal, Stale


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    opened = open_people(database)
    yield opened
    opened.dispose()


def somebody(engine: Engine, name: str = "ann") -> Person:
    with writing(engine) as c:
        return join(c, invite(c, "member"), name)[0]


def finish(c: Connection, reply: str, text: str = "A reply.") -> None:
    c.execute(update(MESSAGES).where(MESSAGES.c.id == reply).values(state=DONE, text=text))


def test_a_chat_grows_by_questions_and_replies(engine: Engine) -> None:
    ann = somebody(engine)
    with writing(engine) as c:
        first = tree.begin(c, ann, "small", "How tall\nis Everest?", "")
        with pytest.raises(Stale, match="still being written"):
            tree.ask(c, ann, first.chat, first.reply, "And K2?", "")
        finish(c, first.reply)
        second = tree.ask(c, ann, first.chat, first.reply, "And K2?", "")
        texts = [m.text for m in branch(c, second.reply)]
        assert texts == ["How tall\nis Everest?", "A reply.", "And K2?", ""]
        chat = chat_of(c, ann, first.chat)
        assert chat.title == "How tall" and chat.leaf == second.reply
        assert length_of(c, chat.leaf) == 4
        assert [m.text for m in branch(c, chat.leaf, 2)] == ["And K2?", ""]


def test_the_same_sending_counts_once(engine: Engine) -> None:
    ann = somebody(engine)
    with writing(engine) as c:
        first = tree.begin(c, ann, "small", "Hello", "abc")
        assert tree.begin(c, ann, "small", "Hello", "abc") == first
        finish(c, first.reply)
        second = tree.ask(c, ann, first.chat, first.reply, "More", "def")
        assert tree.ask(c, ann, first.chat, first.reply, "More", "def") == second
        assert tree.retry(c, ann, second.reply).reply == second.reply  # it is still being written
        assert len(list_chats(c, ann)) == 1


def test_edits_and_retries_are_siblings_and_the_first_question_can_be_edited(engine: Engine) -> None:
    ann = somebody(engine)
    with writing(engine) as c:
        first = tree.begin(c, ann, "small", "Hello", "")
        finish(c, first.reply, "one")
        again = tree.retry(c, ann, first.reply)
        finish(c, again.reply, "two")
        other = tree.edit(c, ann, first.question, "Goodbye", "")
        finish(c, other.reply, "three")
        shown = branch(c, chat_of(c, ann, first.chat).leaf)
        assert [m.text for m in shown] == ["Goodbye", "three"]
        assert shown[0].place == 2 and shown[0].siblings == (first.question, other.question)
        assert chat_of(c, ann, first.chat).title == "Goodbye", "a title that nobody wrote follows"
        tree.change(c, ann, first.chat, title="Mine")
        finish(c, tree.edit(c, ann, first.question, "Farewell", "").reply)
        assert chat_of(c, ann, first.chat).title == "Mine"
        tree.choose(c, ann, other.question)
        tree.choose(c, ann, first.question)
        shown = branch(c, chat_of(c, ann, first.chat).leaf)
        assert [m.text for m in shown] == ["Hello", "two"] and shown[1].place == 2
        mended = tree.amend(c, ann, first.reply, "mine")
        shown = branch(c, chat_of(c, ann, first.chat).leaf)
        assert shown[-1].id == mended and shown[-1].author == "edited" and shown[-1].place == 3


def test_a_fork_is_a_chat_of_its_own(engine: Engine) -> None:
    ann = somebody(engine)
    with writing(engine) as c:
        first = tree.begin(c, ann, "small", "Hello", "")
        finish(c, first.reply, "one")
        copied = tree.fork(c, ann, first.reply)
        tree.remove(c, ann, first.chat)
        assert [m.text for m in branch(c, chat_of(c, ann, copied).leaf)] == ["Hello", "one"]


def test_what_is_deleted_can_come_back_and_then_is_gone(engine: Engine) -> None:
    ann = somebody(engine)
    with writing(engine) as c:
        first = tree.begin(c, ann, "small", "Hello", "")
        tree.remove(c, ann, first.chat)
        with pytest.raises(NotFound):
            chat_of(c, ann, first.chat)
        tree.restore(c, ann, first.chat)
        chat_of(c, ann, first.chat)
        tree.remove(c, ann, first.chat)
        assert tree.purge(c, 0.0) == []
        assert tree.purge(c, 1e12) == [first.chat]
        with pytest.raises(NotFound):
            tree.restore(c, ann, first.chat)
        assert c.execute(select(MESSAGES.c.id)).all() == []


def test_nobody_reaches_another_persons_chat(engine: Engine) -> None:
    ann, bob = somebody(engine), somebody(engine, "bob")
    with writing(engine) as c:
        sent = tree.begin(c, ann, "small", "A secret", "x")
        finish(c, sent.reply)
    acts = (
        lambda c: chat_of(c, bob, sent.chat),
        lambda c: message_of(c, bob, sent.reply),
        lambda c: tree.ask(c, bob, sent.chat, sent.reply, "?", ""),
        lambda c: tree.edit(c, bob, sent.question, "?", ""),
        lambda c: tree.retry(c, bob, sent.reply),
        lambda c: tree.amend(c, bob, sent.reply, "?"),
        lambda c: tree.choose(c, bob, sent.question),
        lambda c: tree.fork(c, bob, sent.reply),
        lambda c: tree.change(c, bob, sent.chat, title="?"),
        lambda c: tree.remove(c, bob, sent.chat),
        lambda c: tree.restore(c, bob, sent.chat),
    )
    for act in acts:
        with pytest.raises(NotFound), writing(engine) as c:
            act(c)
    with writing(engine) as c:
        mine = tree.begin(c, bob, "small", "Mine", "x")  # the same id of another sender is another sending
        finish(c, mine.reply)
        with pytest.raises(NotFound):
            tree.ask(c, bob, mine.chat, sent.reply, "?", "")  # a parent in another's chat
        assert [one.title for one in list_chats(c, ann)] == ["A secret"]


def test_forgetting_a_person_deletes_all(engine: Engine) -> None:
    ann = somebody(engine)
    with writing(engine) as c:
        tree.begin(c, ann, "small", "A secret", "")
        forget(c, ann.id)
        assert c.execute(select(CHATS.c.id)).all() == c.execute(select(MESSAGES.c.id)).all() == []


@pytest.mark.parametrize("text", ["", "  \n", "\x00"])
def test_an_empty_message_is_refused(engine: Engine, text: str) -> None:
    ann = somebody(engine)
    with pytest.raises(Refusal, match="empty"), writing(engine) as c:
        tree.begin(c, ann, "small", text, "")


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_done_the_tree_stays_a_tree(engine: Engine, seed: int) -> None:
    """Random operations: no message without its parent, no circle, siblings in the order of their making, and nothing
    that was complete has changed."""
    chance, ann = random.Random(seed), somebody(engine)
    complete: dict[str, str] = {}
    with writing(engine) as c:
        chat = tree.begin(c, ann, "small", "Start", "").chat
        for step in range(150):
            rows = c.execute(select(MESSAGES).where(MESSAGES.c.chat == chat)).all()
            replies = [row for row in rows if row.role == "assistant"]
            one = chance.choice(replies)
            act = chance.choice(("finish", "ask", "retry", "edit", "amend", "choose", "stop"))
            try:
                if act == "finish" and one.state == "running":
                    finish(c, one.id, f"reply {step}")
                elif act == "stop" and one.state == "running":
                    c.execute(update(MESSAGES).where(MESSAGES.c.id == one.id).values(state="stopped"))
                elif act == "ask":
                    tree.ask(c, ann, chat, one.id, f"question {step}", f"c{step}")
                elif act == "retry":
                    tree.retry(c, ann, one.id, chance.random() < 0.5)
                elif act == "edit":
                    questions = [row.id for row in rows if row.role == "user"]
                    tree.edit(c, ann, chance.choice(questions), f"edit {step}", f"e{step}")
                elif act == "amend":
                    tree.amend(c, ann, one.id, f"amended {step}")
                elif act == "choose":
                    tree.choose(c, ann, chance.choice(rows).id)
            except (Stale, Refusal):
                pass
            for row in c.execute(select(MESSAGES).where(MESSAGES.c.chat == chat)):
                if row.state != "running":
                    assert complete.setdefault(row.id, row.text) == row.text
    with reading(engine) as c:
        rows = c.execute(select(MESSAGES).order_by(MESSAGES.c.number)).all()
        numbers = {row.id: row.number for row in rows}
        for row in rows:
            assert row.parent == "" or numbers[row.parent] < row.number
        shown = branch(c, chat_of(c, ann, chat).leaf)
        assert [m.role for m in shown] == ["user", "assistant"] * (len(shown) // 2)
        for message in shown:
            assert list(message.siblings) == sorted(message.siblings, key=numbers.__getitem__)
