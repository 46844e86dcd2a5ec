"""Local assistants: dialogues in, completions and scores out, assistant turns continued."""

import math
from pathlib import Path

import pytest
import torch

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input
from charter.ground.constitution.wording import OPTIONS
from charter.ground.generate.assistant import LocalAssistant, check_prompts, open_assistant
from charter.ground.generate.engine import Engine
from charter.ground.generate.remote import RemoteAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.learn.loss import token_logprobs
from charter.ground.model.layout import documents
from charter.ground.text.dialogue import Dialogue, assistant, user

PLAIN = [user("Name the capital of Peru.")]
OPENED = [user("Is fire hot or cold?"), assistant("The answer is:")]


@pytest.fixture(scope="module")
def local(checkpoints: Path) -> LocalAssistant:
    return LocalAssistant.open(checkpoints / "policy", slots=4)


def test_a_reply_is_the_engines_continuation_of_the_encoded_prompt(local: LocalAssistant) -> None:
    how = Sampling(max_tokens=8)
    replies = local.reply([PLAIN, OPENED], how, n=2, seeds=[4, 9])
    for messages, seed, samples in zip((PLAIN, OPENED), (4, 9), replies, strict=True):
        ids = local.template.encode_prompt(messages)
        direct = local.engine.generate([ids], how, n=2, seeds=[seed])[0]
        assert [c.ids for c in samples] == [c.ids for c in direct]


def test_an_opened_turn_is_continued_not_closed(local: LocalAssistant) -> None:
    ids = local.template.encode_prompt(OPENED)
    text = local.engine.tokenizer.decode(ids, skip_special=False)
    assert text.endswith("<|im_start|>assistant\nThe answer is:")
    assert local.template.end_id not in ids[-4:]


@pytest.mark.parametrize("messages", [PLAIN, OPENED])
def test_scores_are_summed_log_probabilities_of_the_continuation(local: LocalAssistant, messages: list) -> None:  # type: ignore[type-arg]
    model, tokenizer = local.engine.model, local.engine.tokenizer
    texts = [*OPTIONS, " a longer answer, with more words"]
    ((*scores,),) = local.score([(messages, texts)])
    prompt = local.template.encode_prompt(messages)
    for text, value in zip(texts, scores, strict=True):
        own = tokenizer.encode(text)
        row = torch.tensor([*prompt, *own])
        with torch.no_grad():
            states = model.hidden(row, documents([len(row)]))[len(prompt) - 1 : -1]
            expected = token_logprobs(states, model.head_weight(), torch.tensor(own))[0].sum().item()
        assert value == pytest.approx(expected, abs=1e-4)
    assert sum(math.exp(v) for v in scores[:2]) < 1


def test_items_are_scored_the_same_together_and_alone(local: LocalAssistant) -> None:
    items = [(PLAIN, ["Lima", " Cusco"]), (OPENED, list(OPTIONS)), ([user("Hi " * 40)], ["Hello."])]
    together = local.score(items)
    for item, scores in zip(items, together, strict=True):
        assert local.score([item])[0] == pytest.approx(scores, abs=1e-4)


def test_plain_text_is_continued_and_scored_without_a_template(local: LocalAssistant) -> None:
    text, how = "Question: Is fire hot?\nAnswer:", Sampling(max_tokens=8)
    model, encode = local.engine.model, local.engine.tokenizer.encode
    assert local.encode(text) == encode(text)
    mixed = local.reply([text, PLAIN], how, n=2, seeds=[4, 9])
    for ids, seed, samples in zip((encode(text), local.encode(PLAIN)), (4, 9), mixed, strict=True):
        assert [c.ids for c in samples] == [c.ids for c in local.engine.generate([ids], how, n=2, seeds=[seed])[0]]
    ((yes, no),) = local.score([(text, [" Yes", " No"])])
    for word, value in ((" Yes", yes), (" No", no)):
        prompt, own = encode(text), encode(word)
        row = torch.tensor([*prompt, *own])
        with torch.no_grad():
            states = model.hidden(row, documents([len(row)]))[len(prompt) - 1 : -1]
            expected = token_logprobs(states, model.head_weight(), torch.tensor(own))[0].sum().item()
        assert value == pytest.approx(expected, abs=1e-4)


def test_the_end_of_turn_of_the_template_ends_replies(tmp_path: Path) -> None:
    model, tokenizer, how = toys.model(0), toys.tokenizer(), Sampling(max_tokens=4)
    prompt = tokenizer.encode("Hello there")
    free = Engine(model, tokenizer, 2).generate([prompt], how, seeds=[3])[0][0]
    second = free.ids[1]
    ended = Engine(model, tokenizer, 2, ends=[second]).generate([prompt], how, seeds=[3])[0][0]
    assert len(free.ids) == 4 and ended.ids == free.ids[: free.ids.index(second) + 1] and ended.stop == "end"
    chat = LocalAssistant.open(toys.policy_folder(tmp_path / "policy"))
    assert chat.template.end_id in chat.engine.ends


def test_prompts_that_leave_no_room_are_refused_by_name(local: LocalAssistant) -> None:
    short, long = (Dialogue(name, (user("Why? " * n),)) for name, n in (("short", 3), ("long", 600)))
    check_prompts(local, [short])
    with pytest.raises(CharterError, match=r"^prompt long: the prompt has \d+ tokens, the context holds 1024"):
        check_prompts(local, [short, long])
    check_prompts(RemoteAssistant("openai:http://127.0.0.1:9#m"), [long])
    broken = Dialogue("broken", (assistant("I begin."),))
    with pytest.raises(CharterError, match=r"^prompt broken: message 1 is a turn of 'assistant'"):
        check_prompts(local, [broken])


def test_a_role_is_opened_by_what_fills_it(checkpoints: Path) -> None:
    assert isinstance(open_assistant(toys.policy(checkpoints / "policy")), LocalAssistant)
    ref = "openai:http://127.0.0.1:9#m"
    remote = open_assistant(Input("policy", ref, "assistant", None, None, ref, "0"))
    assert isinstance(remote, RemoteAssistant)
    assert "score" not in remote.capabilities and "score" in LocalAssistant.capabilities
