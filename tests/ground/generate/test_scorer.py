"""The scorer and what it shares: continuations behind a common prefix score as they do alone."""

import pytest
import torch

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.prefill import SHORTEST_SHARED, common_prefix, prefill, shared_row
from charter.ground.generate.scorer import score, score_tokens
from charter.ground.learn.loss import token_logprobs
from charter.ground.model.layout import documents
from charter.ground.model.transformer import Transformer


@pytest.fixture(scope="module")
def model() -> Transformer:
    return toys.model(0)


def tokens(*lengths: int, seed: int = 5) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(10, toys.VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def alone(model: Transformer, prompt: list[int], continuation: list[int]) -> list[float]:
    """Straight from the forward pass of training, without any sharing."""
    row = torch.tensor(prompt + continuation)
    with torch.no_grad():
        states = model.hidden(row, documents([len(row)]))[len(prompt) - 1 : -1]
        return token_logprobs(states, model.head_weight(), row[len(prompt) :])[0].tolist()


@pytest.mark.parametrize("row_tokens", [2048, 256])
def test_continuations_behind_a_shared_prefix_score_as_alone(model: Transformer, row_tokens: int) -> None:
    prefix, *rest = tokens(60, 7, 30, 90, 4)
    a, b, c, d = tokens(1, 3, 20, 50, seed=6)
    items = [
        (prefix + own, conts) for own, conts in zip(rest, ([a, b], [c], [d, a, []], [b, d]), strict=True)
    ]
    found = score(model, items, row_tokens)
    for (prompt, continuations), logs in zip(items, found, strict=True):
        assert [len(one) for one in logs] == [len(c) for c in continuations]
        for continuation, own in zip(continuations, logs, strict=True):
            if continuation:
                assert own == pytest.approx(alone(model, prompt, continuation), abs=1e-4)


def test_items_that_share_nothing_score_as_alone(model: Transformer) -> None:
    x, y, z = tokens(5, 40, 1)
    found = score(model, [(x, [z, y]), (y, [x])])
    for (prompt, continuations), logs in zip([(x, [z, y]), (y, [x])], found, strict=True):
        for continuation, own in zip(continuations, logs, strict=True):
            assert own == pytest.approx(alone(model, prompt, continuation), abs=1e-4)


def test_a_prompt_that_is_all_prefix_of_another_scores_right(model: Transformer) -> None:
    prompt, more, continuation = tokens(50, 6, 4)
    found = score(
        model, [(prompt, [continuation]), (prompt + more, [continuation]), (prompt, [continuation])]
    )
    assert found[0][0] == pytest.approx(alone(model, prompt, continuation), abs=1e-4)
    assert found[1][0] == pytest.approx(alone(model, prompt + more, continuation), abs=1e-4)
    assert found[2][0] == pytest.approx(found[0][0], abs=1e-4)


def test_the_last_token_is_predicted_from_a_full_context(model: Transformer) -> None:
    (row,) = tokens(1025)
    prompt, continuation = row[:1020], row[1020:]
    whole = torch.tensor(row[:-1])
    with torch.no_grad():
        states = model.hidden(whole, documents([1024]))[1019:]
        expected, _ = token_logprobs(states, model.head_weight(), torch.tensor(continuation))
    assert score(model, [(prompt, [continuation])])[0][0] == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_likeliest_token_is_told(model: Transformer) -> None:
    x, y = tokens(30, 40)
    with torch.no_grad():
        after = [model.hidden(torch.tensor(p), documents([len(p)]))[-1] for p in (x, y)]
    best = [int((h @ model.head_weight().t()).argmax()) for h in after]
    other = [(b + 1) % toys.VOCABULARY for b in best]
    items = [(p, [[b], [o], [b, o], []]) for p, b, o in zip((x, y), best, other, strict=True)]
    for first, second, both, none in score_tokens(model, items):
        assert first[0][1] and not second[0][1] and both[0][1] and none == []
        assert both[0] == pytest.approx(first[0], abs=1e-4) and first[0][0] > second[0][0]


def test_too_long_and_empty_items_are_refused(model: Transformer) -> None:
    (long,) = tokens(1020)
    with pytest.raises(CharterError, match="1024"):
        score(model, [(long, [long[:6]])])
    with pytest.raises(CharterError, match="scoring needs a prompt"):
        score(model, [([], [[3]])])


def test_common_prefix_by_hand() -> None:
    start = list(range(100, 100 + SHORTEST_SHARED))
    assert common_prefix([[*start, 1, 2], [*start, 1, 3, 4], [*start, 1]]) == SHORTEST_SHARED
    assert common_prefix([[*start, 1, 2], [*start, 1, 3, 4], [*start, 1, 9]]) == SHORTEST_SHARED + 1
    assert common_prefix([start, start]) == 0, (
        "each keeps a token of its own, and one less is too short to pay"
    )
    assert common_prefix([[*start, 7], [*start, 7]]) == SHORTEST_SHARED
    assert common_prefix([[*start, 1]]) == common_prefix([]) == 0
    assert common_prefix([[1, *start], [2, *start]]) == 0


def test_a_shared_row_holds_the_prefix_once() -> None:
    start, a, b = tokens(40, 3, 5)
    ids, layout = shared_row([start + a, start + b])
    assert ids == start + a + b
    assert layout.paths == (((0, 40), (40, 43)), ((0, 40), (43, 48)))
    assert layout.positions.tolist() == [*range(43), *range(40, 45)]


def test_prefill_gives_each_prompts_last_state(model: Transformer) -> None:
    start, a, b = tokens(40, 3, 5)
    for prompt, read in zip((start + a, start + b), prefill(model, [start + a, start + b]), strict=True):
        row = torch.tensor(prompt)
        with torch.no_grad():
            expected = model.hidden(row, documents([len(row)]))[-1]
        assert torch.allclose(read.last_hidden, expected, atol=1e-4)
    assert prefill(model, []) == []
