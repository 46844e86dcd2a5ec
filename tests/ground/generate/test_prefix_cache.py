"""What is kept of texts: the longest beginning is found, by its own account alone, and no block without those before."""

import random

import pytest
import torch

import toys
from charter.ground.generate.prefix_cache import BLOCK, KeptTexts
from charter.ground.model.cache import Cache
from charter.ground.model.lora import adapter_off, add_lora
from charter.ground.model.transformer import Transformer


@pytest.fixture
def model() -> Transformer:
    return toys.model(0)


def fill_cache(model: Transformer, tokens: int, seed: int = 0) -> Cache:
    """A cache with one slot of made-up keys and values."""
    cache = Cache(model.shape, 1, tokens)
    cache.kv = torch.randn(cache.kv.shape, generator=torch.Generator().manual_seed(seed))
    cache.lengths[0] = tokens
    return cache


def text(tokens: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(400), k=tokens)


def make_store(model: Transformer, blocks: int) -> KeptTexts:
    cache = fill_cache(model, 1)
    return KeptTexts(model, cache, blocks * BLOCK * cache.token_bytes + 5)


def test_a_prompt_meets_its_longest_beginning_and_keeps_a_token_to_read(model: Transformer) -> None:
    store, ids = make_store(model, 50), text(100)
    store.keep("me", ids, fill_cache(model, 100), 0)
    assert len(store.match("me", ids)) == 6
    assert len(store.match("me", ids[:96])) == 5, "the last token is always read"
    assert len(store.match("me", ids[:97])) == 6
    assert len(store.match("me", [*ids[:40], *text(60, 1)])) == 2
    assert store.match("me", text(60, 1)) == [] == store.match("me", ids[:BLOCK])
    assert store.match("you", ids) == [], "what one account wrote is never found by another"


def test_what_was_kept_is_given_back_bit_by_bit(model: Transformer) -> None:
    store, ids, first = make_store(model, 50), text(90), fill_cache(model, 90)
    store.keep("", ids, first, 0)
    longer, second = [*ids[:64], *text(50, 1)], fill_cache(model, 114, seed=1)
    store.keep("", longer, second, 0)
    cache = Cache(model.shape, 3)
    store.give(store.match("", longer), cache, 2)
    assert cache.lengths == [0, 0, 112]
    assert torch.equal(cache.kv[:, :, 2, :, :64], first.kv[:, :, 0, :, :64]), "the shared part is kept once"
    assert torch.equal(cache.kv[:, :, 2, :, 64:112], second.kv[:, :, 0, :, 64:112])


def test_only_what_the_slot_holds_is_kept(model: Transformer) -> None:
    store = make_store(model, 50)
    store.keep("", text(100), fill_cache(model, 99), 0)  # the last token was drawn and not read
    assert store.nbytes == 6 * store.block_bytes
    store.keep("", text(100, 1), fill_cache(model, 20), 0)
    assert store.nbytes == 7 * store.block_bytes


def test_the_bound_holds_and_a_text_larger_than_it_keeps_its_beginning(model: Transformer) -> None:
    store = make_store(model, 4)
    store.keep("", text(200), fill_cache(model, 200), 0)
    assert store.nbytes == 4 * store.block_bytes and len(store.match("", text(200))) == 4
    assert KeptTexts(model, fill_cache(model, 1), 5).match("", text(50)) == []


def test_what_was_not_used_for_longest_makes_room_ends_first(model: Transformer) -> None:
    store = make_store(model, 6)
    for seed in (1, 2):
        store.keep("", text(50, seed), fill_cache(model, 50), 0)  # three blocks each
    store.match("", text(50, 1))
    store.keep("", text(20, 3), fill_cache(model, 20), 0)
    assert [len(store.match("", text(50, seed))) for seed in (1, 2)] == [3, 2]
    assert len(store.match("", text(20, 3))) == 1


def test_no_block_outlives_those_before_it(model: Transformer) -> None:
    chance, store = random.Random(5), make_store(model, 12)
    stems = [text(48, seed) for seed in range(3)]
    texts: list[list[int]] = []
    for n in range(300):
        ids = [*chance.choice(stems)[: chance.choice((16, 32, 48))], *text(chance.randrange(60), n)]
        if chance.random() < 0.5 and texts:
            store.match("", chance.choice(texts))
        else:
            store.keep("", ids, fill_cache(model, max(1, len(ids))), 0)
            texts.append(ids)
        reached = {place for ids in texts for place in store.match("", [*ids, 0])}
        assert len(reached) == len(store._place), "every kept block is found from the start of a text"
        assert sorted([*store._free, *store._place.values()]) == list(range(12))


def test_other_weights_adapters_or_precision_empty_it(model: Transformer) -> None:
    store, ids = make_store(model, 50), text(100)

    def keeps() -> bool:
        store.keep("", ids, fill_cache(model, 100), 0)
        return bool(store.match("", ids))

    assert keeps()
    store.refresh()
    assert store.match("", ids)
    with torch.no_grad():
        next(iter(model.blocks())).mlp_norm.weight.mul_(1.5)
    store.refresh()
    assert not store.match("", ids) and store.nbytes == 0 and keeps()
    model.precision = "bfloat16"
    store.refresh()
    assert not store.match("", ids) and keeps()
    add_lora(model, 2, 4.0, ("q_proj",), 0)
    store.refresh()
    assert not store.match("", ids) and keeps()
    with adapter_off(model):
        store.refresh()
        assert not store.match("", ids)
