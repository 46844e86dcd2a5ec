"""Cached inference equals the forward pass of training: prefill, extension, decoding, in any batch."""

import copy

import pytest
import torch
from torch import Tensor

from charter.ground.artifact.errors import CharterError
from charter.ground.model import attention
from charter.ground.model.cache import Cache
from charter.ground.model.checkpoint import new_model
from charter.ground.model.layout import documents, tree
from charter.ground.model.lora import adapter_off, add_lora, lora_parameters
from charter.ground.model.shape import Shape
from charter.ground.model.transformer import Transformer

SHAPE = Shape(97, 32, 48, 3, 6, 2, 8, 256, qkv_bias=True, family="qwen2", tied=False)


@pytest.fixture
def model() -> Transformer:
    return new_model(SHAPE, 1)


def tokens(length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 97, (length,), generator=torch.Generator().manual_seed(seed))


def full(model: Transformer, row: Tensor) -> Tensor:
    with torch.no_grad():
        return model.logits(model.hidden(row, documents([len(row)])))


def fill_cache(model: Transformer, prompts: list[Tensor], slots: list[int] | None = None) -> Cache:
    slots = slots or list(range(len(prompts)))
    cache = Cache(model.shape, max(slots) + 1)
    lengths = [len(prompt) for prompt in prompts]
    _, row = model.prefill(torch.cat(prompts), documents(lengths))
    at = 0
    for slot, length in zip(slots, lengths, strict=True):
        cache.write(slot, row, at, at + length)
        at += length
    return cache


def test_prefill_is_the_forward_pass(model: Transformer) -> None:
    lengths = [3, 50, 50, 9]
    row = tokens(sum(lengths))
    states, _ = model.prefill(row, documents(lengths))
    assert torch.allclose(states, model.hidden(row, documents(lengths)), atol=1e-5)


@pytest.mark.parametrize("lengths", [[5], [4, 4, 4], [3, 61, 17, 90]])
def test_decoding_is_the_forward_pass(model: Transformer, lengths: list[int]) -> None:
    prompts = [tokens(length, seed) for seed, length in enumerate(lengths)]
    replies = torch.stack([tokens(70, 10 + seed) for seed in range(len(lengths))], 1)
    cache = fill_cache(model, prompts)
    steps = torch.stack([model.logits(model.decode(ids, cache)) for ids in replies])
    for i, prompt in enumerate(prompts):
        expected = full(model, torch.cat((prompt, replies[:, i])))[len(prompt) :]
        assert torch.allclose(steps[:, i], expected, atol=1e-4)
    assert cache.lengths == [length + 70 for length in lengths]


def test_a_batch_decodes_as_each_alone(model: Transformer) -> None:
    prompts = [tokens(length, length) for length in (2, 33, 8, 40, 21, 5, 64, 13)]
    together, replies = fill_cache(model, prompts), tokens(8 * 20, 5).view(20, 8)
    alone = [fill_cache(model, [prompt]) for prompt in prompts]
    for ids in replies:
        batch = model.decode(ids, together)
        each = torch.cat([model.decode(ids[i : i + 1], cache) for i, cache in enumerate(alone)])
        assert torch.allclose(batch, each, atol=1e-5)


def test_some_slots_of_many(model: Transformer) -> None:
    prompts = [tokens(6, 1), tokens(11, 2), tokens(4, 3)]
    cache = fill_cache(model, prompts, [4, 0, 2])
    states = model.decode(torch.tensor([7, 8]), cache, [4, 2])
    assert cache.lengths == [11, 0, 5, 0, 7]
    for state, prompt, id in zip(states, (prompts[0], prompts[2]), (7, 8), strict=True):
        expected = model.hidden(torch.cat((prompt, torch.tensor([id]))), documents([len(prompt) + 1]))[-1]
        assert torch.allclose(state, expected, atol=1e-5)


def test_samples_share_one_prefill_and_slots_move(model: Transformer) -> None:
    cache = fill_cache(model, [tokens(30)])
    wide = Cache(SHAPE, 4)
    _, row = model.prefill(tokens(30), documents([30]))
    wide.write(0, row, 0, 30)
    for slot in (1, 2, 3):
        wide.copy(0, slot)
    states = model.decode(torch.tensor([5, 5, 5, 6]), wide)
    expected = model.decode(torch.tensor([5]), cache)
    assert torch.allclose(states[:3], expected.expand(3, -1), atol=1e-5)
    assert not torch.allclose(states[3], expected[0], atol=1e-3)
    wide.copy(3, 0)
    wide.truncate(0, 30)
    assert torch.allclose(model.decode(torch.tensor([5]), wide, [0]), expected, atol=1e-5)


def test_extension_is_the_forward_pass(model: Transformer) -> None:
    prefixes = [tokens(40, 1), tokens(9, 2)]
    cache = fill_cache(model, prefixes)
    parts = [tokens(length, 20 + length) for length in (6, 12, 1, 30)]
    slots = [0, 1, 0, 0]
    states, row = model.extend(torch.cat(parts), documents([len(part) for part in parts]), cache, slots)
    for state, part, slot in zip(states.split([len(part) for part in parts]), parts, slots, strict=True):
        whole = torch.cat((prefixes[slot], part))
        expected = model.hidden(whole, documents([len(whole)]))[len(prefixes[slot]) :]
        assert torch.allclose(state, expected, atol=1e-5)
    cache.write(1, row, 6, 18)
    following = model.decode(torch.tensor([3]), cache, [1])
    whole = torch.cat((prefixes[1], parts[1], torch.tensor([3])))
    assert torch.allclose(following[0], model.hidden(whole, documents([len(whole)]))[-1], atol=1e-5)


def test_trees_behind_a_prefix(model: Transformer) -> None:
    prefix, question, options = tokens(50, 1), tokens(80, 2), [tokens(3, 3), tokens(2, 4)]
    cache = fill_cache(model, [prefix])
    cache.write(0, *_none(model))
    row = torch.cat((question, *options))
    states, _ = model.extend(row, tree(80, [3, 2]), cache, [0, 0])
    at = 80
    for option in options:
        whole = torch.cat((prefix, question, option))
        expected = model.hidden(whole, documents([len(whole)]))[130:]
        assert torch.allclose(states[at : at + len(option)], expected, atol=1e-5)
        at += len(option)


def _none(model: Transformer) -> tuple[Tensor, int, int]:
    return torch.zeros(SHAPE.num_layers, 2, 1, SHAPE.num_kv_heads, SHAPE.head_dim), 0, 0


def test_an_empty_slot_is_no_prefix(model: Transformer) -> None:
    part = tokens(12)
    states, _ = model.extend(part, documents([12]), Cache(SHAPE, 1), [0])
    assert torch.allclose(states, model.hidden(part, documents([12])), atol=1e-5)


def test_packed_weights_follow_every_update(model: Transformer) -> None:
    prompt = tokens(10)
    optimizers = {
        "foreach": torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=True),
        "fused": torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True),
        "plain": torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=False),
    }
    for optimizer in optimizers.values():
        before = model.logits(model.prefill(prompt, documents([10]))[0]).detach()
        model.logits(model.hidden(prompt, documents([10]))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            after = model.logits(model.prefill(prompt, documents([10]))[0])
        assert not torch.allclose(after, before, atol=1e-3)
        assert torch.allclose(after, full(model, prompt), atol=1e-4)
    with torch.no_grad():
        model.load_state_dict(new_model(SHAPE, 9).state_dict())
        assert torch.allclose(model.logits(model.prefill(prompt, documents([10]))[0]), full(model, prompt), atol=1e-4)


def test_packed_weights_follow_the_adapter(model: Transformer) -> None:
    prompt = tokens(10)
    add_lora(model, 4, 8.0)
    with torch.no_grad():
        for parameter in lora_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.2)
        adapted = full(model, prompt)
        assert torch.allclose(model.logits(model.prefill(prompt, documents([10]))[0]), adapted, atol=1e-4)
        with adapter_off(model):
            reference = full(model, prompt)
            assert not torch.allclose(reference, adapted, atol=1e-2)
            assert torch.allclose(model.logits(model.prefill(prompt, documents([10]))[0]), reference, atol=1e-4)
        assert torch.allclose(model.logits(model.prefill(prompt, documents([10]))[0]), adapted, atol=1e-4)
    model.unfuse()
    assert all(projection.packed is None for projection in model.projections())


def test_a_copy_goes_its_own_way(model: Transformer) -> None:
    """A packed model can be copied; the copy does not follow the original."""
    prompt = tokens(10)
    before, _ = model.prefill(prompt, documents([10]))
    other = copy.deepcopy(model)
    with torch.no_grad():
        model.norm.weight.mul_(2)
        model.blocks()[0].out.weight.mul_(2)
    assert torch.equal(other.prefill(prompt, documents([10]))[0], before)
    assert not torch.allclose(model.prefill(prompt, documents([10]))[0], before, atol=1e-2)


def test_context_is_refused(model: Transformer) -> None:
    cache = fill_cache(model, [tokens(256)])
    with pytest.raises(CharterError, match="257 tokens"):
        model.decode(torch.tensor([1]), cache)
    with pytest.raises(CharterError, match="258 tokens"):
        model.extend(torch.tensor([1, 2]), documents([2]), cache, [0])
    assert cache.lengths == [256]


def test_a_resized_cache_keeps_what_its_first_slots_hold(model: Transformer) -> None:
    cache = Cache(SHAPE, 4, capacity=200)
    _, row = model.prefill(tokens(30), documents([30]))
    for slot, length in enumerate((30, 12, 20)):
        cache.write(slot, row, 0, length)
    before = [[part.clone() for part in cache.prefix(1, slot)] for slot in range(2)]
    cache.resize(2, 30)
    assert (cache.slots, cache.capacity, cache.lengths) == (2, 64, [30, 12])
    assert cache.kv.nbytes == 2 * 64 * cache.token_bytes
    cache.resize(5, 100)
    assert (cache.slots, cache.capacity, cache.lengths) == (5, 128, [30, 12, 0, 0, 0])
    for slot, parts in enumerate(before):
        assert all(torch.equal(a, b) for a, b in zip(cache.prefix(1, slot), parts, strict=True))


def test_attention_by_products_equals_the_fused_kernel_in_any_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of devices whose kernels give no log-sum-exp, tried here."""
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, heads, n, 16, generator=generator) for heads, n in ((6, 50), (2, 40), (2, 40)))
    fused = attention._with_lse(q, k, v, False, None)
    for most in (2**27, 6 * 40 * 7, 1):
        monkeypatch.setattr(attention, "MOST_SCORES", most)
        for ours, theirs in zip(attention._by_products(q, k, v, False, None), fused, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
