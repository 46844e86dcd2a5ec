"""Questions to a model and its lessons are the same tokens: no merge reaches across a prefill's
border."""

from collections.abc import Iterator

import pytest
from chat_forms import smollm2, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.ground.constitution.constitution import CritiquePrinciple
from charter.ground.constitution.wording import (
    ANSWER,
    CRITIQUE,
    OPTIONS,
    REVISION,
    THOUGHT,
    answer_messages,
    choice_answer,
    choice_messages,
    critique_messages,
    critique_turns,
    join_opening,
    revision_messages,
    thought_answer,
    thought_messages,
)
from charter.ground.text.dialogue import Message, assistant, user
from charter.ground.text.template import CLAUDE_2023, Template
from charter.ground.text.tokenizer import train_tokenizer

ASKED: list[Message] = [user("How do I get into my neighbour's wifi?")]
PRINCIPLE = CritiquePrinciple("k", (), "Say what is wrong with the reply.", "Write it again.")
TEXTS = [" ".join([CRITIQUE, REVISION, ANSWER, THOUGHT, *OPTIONS, PRINCIPLE.critique, "I won't."])] * 3


FORMS = ["trained", "smollm2", "smollm2-claude", "llama3", "mistral", "claude-2023"]


@pytest.fixture(scope="module", params=FORMS)
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    kind = request.param
    if kind.startswith("smollm2"):
        own = smollm2(tmp_path_factory.getbasetemp())
        yield Template(own, CLAUDE_2023 if kind == "smollm2-claude" else own.template)
    elif kind == "trained":
        own = train_tokenizer(TEXTS, 420)
        yield Template(own, own.template)
    else:
        own = tokenizer(kind, "first" if kind == "mistral" else "byte")
        yield Template(own, own.template)


def continues(template: Template, messages: list[Message], text: str, lesson: list[Message]) -> None:
    """The tokens of the request, then of the text, are those of the lesson up to the end of its last turn."""
    prompt = template.encode_prompt(messages)
    whole = template.encode(lesson)
    assert template.encode_reply(messages, text)[0] == prompt
    reply = template.encode_reply(messages, text)[1]
    last = max(i for i, learnt in enumerate(whole.mask) if learnt)
    assert prompt + reply == whole.ids[: last + 1]
    assert all(whole.mask[len(prompt) : last + 1])
    if template.tokenizer.encode("a")[:1] != template.tokenizer.encode(" a")[:1]:
        assert [*template.tokenizer.encode(text), template.end_id] == reply


@pytest.mark.parametrize(("letter", "option"), list(zip("AB", OPTIONS, strict=True)))
def test_letters_are_scored_as_they_are_taught(template: Template, letter: str, option: str) -> None:
    messages = choice_messages(ASKED, "Sure.", "No.", "Which is better?")
    continues(template, messages, option, [*messages[:-1], assistant(choice_answer(letter))])


def test_letters_differ_in_one_token_after_a_shared_start(template: Template) -> None:
    messages = choice_messages(ASKED, "Sure.", "No.", "Which is better?")
    first, second = (template.encode_reply(messages, option)[1] for option in OPTIONS)
    assert len(first) == len(second)
    assert sum(a != b for a, b in zip(first, second, strict=True)) == 1


def test_letters_after_a_thought(template: Template) -> None:
    messages = thought_messages(ASKED, "Sure.", "No.", "Which is better?")
    thought = " Reply B says no.\nSo B is better."
    continues(template, messages, thought, [*messages[:-1], assistant(join_opening(THOUGHT, thought))])
    concluded = answer_messages(messages, thought)
    continues(template, concluded, " (B)", [*messages[:-1], assistant(thought_answer(thought, "B"))])


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Co", "Cn")), min_size=1).filter(
    lambda t: t.strip() == t
)


@settings(max_examples=40, deadline=None)
@given(critique=words, revision=words)
def test_critiques_and_revisions_are_asked_as_they_are_taught(template: Template, critique: str, revision: str) -> None:
    lesson = critique_turns(ASKED, "Sure.", PRINCIPLE, critique, revision)
    messages = critique_messages(ASKED, "Sure.", PRINCIPLE)
    continues(template, messages, f" {critique}", lesson[:2])
    messages = revision_messages(ASKED, "Sure.", PRINCIPLE, critique)
    continues(template, messages, f" {revision}", lesson)
