"""Preference scores: on the last real token, the same alone, in a batch, behind a shared prompt and in stock code."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import toys
from charter.ground.judge.preference_score import Item, PreferenceModel, encode_item, forward_scores, row_of
from charter.ground.model.heads import ScoreHead
from charter.ground.model.layout import documents
from charter.ground.text.dialogue import assistant, user

MESSAGES = [user("How do I boil an egg?"), assistant("For how long?"), user("A soft yolk, please.")]
REPLIES = [
    "Six minutes.",
    "Boil it for six minutes, then cool it in cold water.",
    "No.",
    "<|im_end|> or <|pad|>, who knows",
]
ITEMS = [(MESSAGES, REPLIES), ([user("Hi")], ["Hello!", ""]), ([user("Why? " * 30)], ["Because."])]


@pytest.fixture(scope="module")
def model(checkpoints: Path) -> PreferenceModel:
    return PreferenceModel.open(checkpoints / "reward")


def whole(model: PreferenceModel, messages: list, reply: str) -> list[int]:  # type: ignore[type-arg]
    prompt, ids = model.template.encode_reply(messages, reply)
    return prompt + ids


def test_the_score_stands_on_the_last_real_token(model: PreferenceModel) -> None:
    for messages, replies in ITEMS:
        for reply, score in zip(replies, model.score([(messages, replies)])[0], strict=True):
            ids = whole(model, messages, reply)
            assert ids[-1] == model.template.end_id
            with torch.no_grad():
                states = model.model.hidden(torch.tensor(ids), documents([len(ids)]))
                everywhere = model.head(states)
            assert score == pytest.approx(everywhere[-1].item(), abs=1e-4)
            assert abs(everywhere[-2].item() - score) > 1e-3, "another token would give another score"


def test_a_batch_scores_as_its_parts_alone(model: PreferenceModel) -> None:
    together = model.score(ITEMS)
    for (messages, replies), scores in zip(ITEMS, together, strict=True):
        for reply, score in zip(replies, scores, strict=True):
            assert model.score([(messages, [reply])])[0][0] == pytest.approx(score, abs=1e-4)


def test_the_order_of_items_and_replies_is_kept(model: PreferenceModel) -> None:
    turned = model.score([(m, list(reversed(r))) for m, r in reversed(ITEMS)])
    for scores, other in zip(reversed(model.score(ITEMS)), turned, strict=True):
        assert other == pytest.approx(list(reversed(scores)), abs=1e-4)


def test_a_shared_prompt_is_computed_once(model: PreferenceModel) -> None:
    item = encode_item(model.template, MESSAGES, REPLIES[:2], 1024)
    ids, layout, last = row_of([item], "cpu")
    assert len(ids) == item.tokens == len(item.prompt) + sum(map(len, item.replies))
    ends = [len(item.prompt) + len(item.replies[0]) - 1, item.tokens - 1]
    assert last.tolist() == ends and all(ids[e] == model.template.end_id for e in ends)
    assert [path[0] for path in layout.paths] == [(0, len(item.prompt))] * 2


def test_scores_equal_those_of_stock_transformers_on_a_padded_batch(model: PreferenceModel, checkpoints: Path) -> None:
    stock = AutoModelForSequenceClassification.from_pretrained(checkpoints / "reward").eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoints / "reward")
    pad = stock.config.pad_token_id
    assert tokenizer.pad_token_id == pad != tokenizer.eos_token_id
    pairs = [(m, r) for m, replies in ITEMS for r in replies]
    rows = [whole(model, m, r) for m, r in pairs]
    assert all(pad not in row for row in rows), "no text contains the padding"
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    with torch.no_grad():
        expected = stock(input_ids=ids, attention_mask=(ids != pad).long()).logits[:, 0].tolist()
    ours = [score for scores in model.score(ITEMS) for score in scores]
    assert ours == pytest.approx(expected, abs=1e-4)


def test_items_over_the_context_lose_old_turns_and_far_ends(model: PreferenceModel) -> None:
    prompt, reply = model.template.encode_reply(MESSAGES, REPLIES[1])
    item = encode_item(model.template, MESSAGES, REPLIES[:2], len(reply) + 5)
    assert item.prompt == prompt[-5:] and item.replies[1] == reply
    tight = encode_item(model.template, MESSAGES, [REPLIES[1]], 4)
    assert tight == Item([prompt[-1]], [[*reply[:2], reply[-1]]], True), "the end token stays"
    assert item.shortened and not encode_item(model.template, MESSAGES, REPLIES[:2], 500).shortened


def test_a_grader_with_a_window_shortens_what_its_window_cannot_hold(model: PreferenceModel) -> None:
    shape = replace(toys.SHAPE, family="mistral", sliding_window=48)
    windowed = PreferenceModel(toys.model(1, shape), ScoreHead(shape.hidden_size, 1), model.template)
    (long,) = windowed.score([([user("Why? " * 60)], ["Because."])])
    item = encode_item(model.template, [user("Why? " * 60)], ["Because."], 48)
    assert item.shortened and item.tokens == 48
    with torch.no_grad():
        assert long == pytest.approx(forward_scores(windowed.model, windowed.head, [item], "cpu").tolist())


def test_training_and_scoring_share_one_forward_pass(model: PreferenceModel) -> None:
    items = [encode_item(model.template, m, r, 1024) for m, r in ITEMS]
    flat = forward_scores(model.model, model.head, items, "cpu")
    assert flat.requires_grad
    expected = [score for scores in model.score(ITEMS) for score in scores]
    assert flat.tolist() == pytest.approx(expected, abs=1e-4)
