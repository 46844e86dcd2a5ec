"""The Human/Assistant form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.text.dialogue import Message, assistant, system, user
from charter.ground.text.parsing import format_transcript, parse_transcript

texts = (
    st.text(st.characters(codec="utf-8")).map(str.strip).filter(lambda t: "Human:" not in t and "Assistant:" not in t)
)


@given(st.lists(st.tuples(texts, texts.filter(bool)), min_size=1, max_size=3), texts)
def test_transcripts_come_back(turns: list[tuple[str, str]], head: str) -> None:
    messages: list[Message] = [system(head)] if head else []
    messages += [m for question, answer in turns for m in (user(question), assistant(answer))]
    assert parse_transcript(format_transcript(messages)) == tuple(messages)


def test_the_form_is_the_published_one() -> None:
    messages = [user("hi"), assistant("hello"), user("bye")]
    assert format_transcript(messages) == "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: bye"


def test_an_open_last_turn_is_left_out() -> None:
    assert parse_transcript("\n\nHuman: hi\n\nAssistant:") == (user("hi"),)


def test_names_within_a_line_are_text() -> None:
    assert parse_transcript("\n\nHuman: what does Human: mean\nAssistant: x") == (
        user("what does Human: mean\nAssistant: x"),
    )


@pytest.mark.parametrize("content", ["a\n\nHuman: b", "a\n\nAssistant: b"])
def test_text_that_looks_like_turns_is_not_written(content: str) -> None:
    for messages in ([user(content)], [system(content), user("x")], [user("x"), assistant(content)]):
        with pytest.raises(CharterError, match="starts a turn"):
            format_transcript(messages)


def test_turns_out_of_order_are_refused() -> None:
    with pytest.raises(CharterError, match="message 2"):
        parse_transcript("\n\nHuman: a\n\nHuman: b")
