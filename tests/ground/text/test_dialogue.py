"""The order of turns, and one line for each way of breaking it."""

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.text.dialogue import assistant, check_messages, duplicates, mend_text, system, user


def test_good_orders_pass() -> None:
    for messages in ([user("a")], [system("s"), user("a")], [user("a"), assistant("b"), user("c"), assistant("")]):
        assert check_messages(messages) == tuple(messages)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "empty"),
        ("hello", "a list"),
        (None, "a list"),
        ([assistant("a")], "message 1 is a turn of 'assistant'"),
        ([user("a"), user("b")], "message 2 is a turn of 'user' where assistant was expected"),
        ([user("a"), system("s")], "message 2 is a turn of 'system'"),
        ([system("s")], "only a system message"),
        ([{"role": "tool", "content": "x"}], "unknown role 'tool'"),
        ([{"role": "user"}], "content of NoneType"),
        ([{"role": "user", "content": ["x"]}], "content of list"),
        (["x"], "message 1 is str"),
        ([user("\ud800")], "half a surrogate pair at character 0"),
    ],
)
def test_bad_messages_get_one_line(messages: object, said: str) -> None:
    with pytest.raises(CharterError, match=said) as caught:
        check_messages(messages)
    assert "\n" not in str(caught.value)


def test_the_last_role_can_be_asked_for() -> None:
    with pytest.raises(CharterError, match="last message is a turn of 'assistant', expected 'user'"):
        check_messages([user("a"), assistant("b")], last="user")


def test_other_keys_of_messages_are_dropped() -> None:
    assert check_messages([{"role": "user", "content": "a", "name": "x"}]) == (user("a"),)


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("plain, \ufeff and 🙂", "plain, \ufeff and 🙂"),
        ("cut \ud83d", "cut \ufffd"),
        ("\ude42 late", "\ufffd late"),
        ("in two parts: \ud83d" + "\ude42", "in two parts: 🙂"),
    ],
)
def test_half_a_surrogate_pair_is_replaced(text: str, mended: str) -> None:
    assert mend_text(text) == mended


def test_duplicates() -> None:
    assert duplicates(["a", "b", "a", "c", "b"]) == ["a", "b"]
