"""Refused templates, refused messages, and the text around a reply."""

import pytest

from charter.ground.artifact.errors import CharterError
from charter.ground.text.dialogue import Message, assistant, system, user
from charter.ground.text.template import CLAUDE_2023, Template
from charter.ground.text.tokenizer import CHATML, Tokenizer, train_tokenizer

OWN: Tokenizer = train_tokenizer(["Human: Assistant: hello there, how are you?"] * 3, 320)
TALK: list[Message] = [user("q"), assistant("a")]


def test_claude_2023_is_the_form_of_the_api() -> None:
    ours = Template(OWN, CLAUDE_2023)
    messages = [system("Be brief."), user("hi"), assistant("hello"), user("bye")]
    text = OWN.decode(ours.encode_prompt(messages), skip_special=False)
    assert text == "Be brief.\n\nHuman: hi\n\nAssistant: hello<|im_end|>\n\nHuman: bye\n\nAssistant:"
    prompt, reply = ours.encode_reply(messages, "Good bye.")
    assert OWN.decode(reply, skip_special=False) == " Good bye.<|im_end|>"
    assert prompt == ours.encode_prompt(messages)


@pytest.mark.parametrize(
    ("jinja", "said"),
    [
        ("", "no chat template"),
        ("{% for m in messages %}", "not valid Jinja"),
        ("{{ messages[-1]['content'] }}<|im_end|>", "not a prefix of the whole"),
        (CHATML.replace("{% if add", "{{ messages | length }}{% if add"), "not a prefix of the whole"),
        (CHATML.replace("add_generation_prompt", "false"), "generation prompt lacks"),
        (CHATML.replace("<|im_end|>", " end"), "no special token ends an assistant turn"),
        ("{{ raise_exception('never') }}", "refuses these messages: never"),
        ("{{ messages.pop() }}" + CHATML, "refuses these messages|not a prefix of the whole"),
        ("{{ messages.__class__.__mro__ }}" + CHATML, "refuses these messages: access to attribute '__class__'"),
        ("{% for i in range(999999999) %}{% endfor %}" + CHATML, "refuses these messages"),
    ],
)
def test_templates_that_cannot_be_used_are_refused_in_one_line(jinja: str, said: str) -> None:
    with pytest.raises(CharterError, match=said) as caught:
        Template(OWN, jinja)
    assert "\n" not in str(caught.value)


def test_a_template_that_rewrites_history_is_refused_where_it_does() -> None:
    # as in some Mistral templates the system text goes to the last user turn
    moving = (
        "{% set head = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
        "{% for m in messages if m['role'] != 'system' %}"
        "{{ '<|im_start|>' + (head if loop.revindex0 < 2 else '') + m['content'] + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    ours = Template(OWN, moving)
    assert ours.encode([*TALK, *TALK]).mask
    with pytest.raises(CharterError, match="changes the text before turn 3"):
        ours.encode([system("s"), *TALK, *TALK])


@pytest.mark.parametrize(
    "messages",
    [[], [assistant("a")], [user("a"), user("b")], [user("a"), system("s")], [{"role": "tool", "content": "x"}]],
)
def test_messages_out_of_order_are_refused_in_one_line(messages: list[Message]) -> None:
    ours = Template(OWN, OWN.template)
    for call in (ours.encode, ours.encode_prompt, lambda m: ours.encode_reply(m, "x")):
        with pytest.raises(CharterError) as caught:
            call(messages)
        assert "\n" not in str(caught.value)


def test_a_dialogue_without_a_reply_has_nothing_to_learn() -> None:
    assert not any(Template(OWN, OWN.template).encode([user("q")]).mask)


def test_an_empty_reply_teaches_to_end_the_turn() -> None:
    ours = Template(OWN, OWN.template)
    encoded = ours.encode([user("q"), assistant("")])
    assert [i for i, learnt in zip(encoded.ids, encoded.mask, strict=True) if learnt] == [OWN.eos_id]
    assert ours.encode_reply([user("q")], "")[1] == [OWN.eos_id]


def test_private_use_characters_of_a_user_are_kept() -> None:
    ours = Template(OWN, OWN.template)
    text = "\U000f0000<|im_end|>\U000f0001"
    assert text in OWN.decode(ours.encode([user(text), assistant("a")]).ids, skip_special=False)


def test_a_reply_that_would_merge_with_its_header_is_tokenised_by_itself() -> None:
    ours = Template(OWN, OWN.template)
    for reply in ("\n\nhello", " hello", "\n"):
        prompt, answer = ours.encode_reply([user("q")], reply)
        assert prompt == ours.encode_prompt([user("q")])
        assert OWN.decode(answer, skip_special=False) == reply + "<|im_end|>"


def test_results_are_the_callers_own() -> None:
    ours = Template(OWN, OWN.template)
    first = ours.encode_prompt([user("q")])
    expected = list(first)
    first.clear()
    assert ours.encode_prompt([user("q")]) == expected
