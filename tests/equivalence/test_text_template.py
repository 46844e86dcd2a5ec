"""Token ids against transformers' apply_chat_template, masks against plain reasoning, text against
forgery."""

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from chat_forms import FORMS, LOOSE, SPECIALS, smollm2, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.ground.text.dialogue import Message, assistant, system, user
from charter.ground.text.template import Template

transformers = pytest.importorskip("transformers", reason="the oracle, transformers, is not installed")

KINDS = ("byte", "first", "normalizer")
CASES = [(form, kind) for form in FORMS for kind in KINDS]


@lru_cache(maxsize=32)
def oracle(form: str, kind: str = "byte") -> Any:
    with TemporaryDirectory() as folder:
        tokenizer(form, kind).save(Path(folder))
        return transformers.AutoTokenizer.from_pretrained(folder)


@lru_cache(maxsize=32)
def template(form: str, kind: str = "byte") -> Template:
    own = tokenizer(form, kind)
    return Template(own, own.template)


def theirs(form: str, messages: list[Message], kind: str = "byte", **how: Any) -> list[int]:
    return oracle(form, kind).apply_chat_template(messages, tokenize=True, return_dict=False, **how)


def dialogues(text: st.SearchStrategy[str], ends: str = "assistant") -> st.SearchStrategy[list[Message]]:
    pairs = st.lists(st.tuples(text, text), min_size=1, max_size=3)
    first = st.one_of(st.just([]), text.map(lambda t: [system(t)]))

    def build(head: list[Message], turns: list[tuple[str, str]]) -> list[Message]:
        both = [m for question, answer in turns for m in (user(question), assistant(answer))]
        return [*head, *(both if ends == "assistant" else both[:-1])]

    return st.builds(build, first, pairs)


pieces = st.sampled_from(
    ["hello", " ", "\n", "\n\n", "(A)", "tea", "  ", "Über", "é", "木", "🙂", "<", "|>", "Human:", "0"]
)
plain = st.lists(pieces, max_size=6).map("".join)
forged = st.lists(st.one_of(pieces, st.sampled_from(SPECIALS + LOOSE)), max_size=6).map("".join)


@pytest.mark.parametrize(("form", "kind"), CASES)
@settings(max_examples=25, deadline=None)
@given(messages=dialogues(plain))
def test_ids_equal_transformers(form: str, kind: str, messages: list[Message]) -> None:
    assert template(form, kind).encode(messages).ids == theirs(form, messages, kind)


@pytest.mark.parametrize(("form", "kind"), CASES)
@settings(max_examples=15, deadline=None)
@given(messages=dialogues(plain, ends="user"))
def test_prompts_equal_transformers(form: str, kind: str, messages: list[Message]) -> None:
    expected = theirs(form, messages, kind, add_generation_prompt=True)
    assert template(form, kind).encode_prompt(messages) == expected


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(messages=dialogues(plain))
def test_an_open_turn_equals_transformers_continuation(form: str, messages: list[Message]) -> None:
    if not messages[-1]["content"].strip():
        return
    expected = theirs(form, messages, continue_final_message=True)
    assert template(form).encode_prompt(messages) == expected


@pytest.mark.parametrize(("form", "kind"), CASES)
@settings(max_examples=20, deadline=None)
@given(messages=dialogues(forged))
def test_spelled_special_tokens_never_become_one(form: str, kind: str, messages: list[Message]) -> None:
    ours = template(form, kind)
    harmless = [Message(role=m["role"], content="x") for m in messages]
    special, unknown = set(ours.tokenizer.special.values()), ours.tokenizer.special.get("<unk>")
    kept = [i for i in ours.encode(messages).ids if i in special and i != unknown]
    assert kept == [i for i in ours.encode(harmless).ids if i in special]


@settings(max_examples=25, deadline=None)
@given(messages=dialogues(forged))
def test_spelled_specials_are_read_back_as_they_were_written(messages: list[Message]) -> None:
    ours = template("chatml")
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    assert ours.tokenizer.decode(ours.encode(messages).ids, skip_special=False) == text


def runs(ours: Template, messages: list[Message]) -> list[str]:
    """The text of each run of masked tokens."""
    encoded = ours.encode(messages)
    assert len(encoded.ids) == len(encoded.mask)
    spans: list[list[int]] = []
    for i, (token, learnt) in enumerate(zip(encoded.ids, encoded.mask, strict=True)):
        if learnt and (i == 0 or not encoded.mask[i - 1]):
            spans.append([])
        if learnt:
            spans[-1].append(token)
    return [ours.tokenizer.decode(ids, skip_special=False) for ids in spans]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("head", [[], [system("Be kind.")]])
def test_masks_cover_content_and_end_of_turn_only(form: str, head: list[Message]) -> None:
    ours = template(form)
    messages = [*head, user("how do I make tea?"), assistant("Boil water."), user("then"), assistant("wait")]
    lead = " " if form in ("mistral", "claude-2023") else ""
    assert runs(ours, messages) == [f"{lead}Boil water.{ours.end}", f"{lead}wait{ours.end}"]


@settings(max_examples=40, deadline=None)
@given(messages=dialogues(st.one_of(plain, forged)))
def test_masks_are_exact_for_any_text(messages: list[Message]) -> None:
    ours = template("smollm2")
    if any(m["content"][:1].isspace() for m in messages):
        return
    expected = [m["content"] + "<|im_end|>" for m in messages if m["role"] == "assistant"]
    assert runs(ours, messages) == expected


@pytest.mark.parametrize(("form", "kind"), CASES)
@settings(max_examples=20, deadline=None)
@given(messages=dialogues(st.one_of(plain, forged), ends="user"), reply=st.one_of(plain, forged))
def test_prompt_and_reply_make_the_whole(form: str, kind: str, messages: list[Message], reply: str) -> None:
    ours = template(form, kind)
    reply = f"a{reply}"  # a border without white space: nothing can reach across it
    prompt, answer = ours.encode_reply(messages, reply)
    whole = ours.encode([*messages, assistant(reply)]).ids
    assert prompt == ours.encode_prompt(messages)
    assert prompt + answer == whole[: len(prompt) + len(answer)]
    assert answer[-1] == ours.end_id
    assert not set(whole[len(prompt) + len(answer) :]) - set(ours.tokenizer.encode("\n"))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20, deadline=None)
@given(messages=dialogues(forged, ends="user"), prefill=forged, reply=forged)
def test_replies_behind_a_prefill(form: str, messages: list[Message], prefill: str, reply: str) -> None:
    ours = template(form)
    opened = [*messages, assistant(prefill)]
    prompt, answer = ours.encode_reply(opened, reply)
    assert prompt == ours.encode_prompt(opened)
    special = set(ours.tokenizer.special.values())
    assert [i for i in answer if i in special] == [ours.end_id]


def test_halves_that_spell_a_special_token_together_are_no_special_token() -> None:
    ours = template("chatml")
    prompt, answer = ours.encode_reply([user("x"), assistant("<|im_")], "end|> more")
    assert answer.count(ours.end_id) == 1
    assert ours.tokenizer.decode(answer, skip_special=False) == "end|> more<|im_end|>"
    assert prompt == ours.encode_prompt([user("x"), assistant("<|im_")])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Template, Any]:
    own = smollm2(tmp_path_factory.getbasetemp())
    folder = tmp_path_factory.mktemp("stock")
    own.save(folder)
    return Template(own, own.template), transformers.AutoTokenizer.from_pretrained(folder)


@settings(max_examples=40, deadline=None)
@given(messages=dialogues(st.one_of(plain, st.text(st.characters(codec="utf-8"), max_size=12))))
def test_ids_of_a_real_model_equal_transformers(real: tuple[Template, Any], messages: list[Message]) -> None:
    ours, stock = real
    assert ours.encode(messages).ids == stock.apply_chat_template(messages, return_dict=False)
    expected = stock.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    assert ours.encode_prompt(messages[:-1]) == expected


def test_thoughts_that_only_the_last_turn_has_are_no_content() -> None:
    ours = template("qwen3")
    assert runs(ours, [user("hi"), assistant("hello")]) == ["hello<|im_end|>"]


def test_variables_reach_the_template() -> None:
    own = tokenizer("chatml")
    dated = Template(own, "{{ today }}" + own.template, {"today": "26 Jul 2023"})
    assert own.decode(dated.encode_prompt([user("hi")])).startswith("26 Jul 2023user")
