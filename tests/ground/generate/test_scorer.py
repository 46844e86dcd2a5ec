"""The scorer and what it shares: continuations behind a common prefix score as they do alone."""

import pytest
import torch

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.prefill import (
    SHORTEST_SHARED,
    Prefix,
    common_prefix,
    prefill,
    prefix_groups,
    read_prefixes,
)
from charter.ground.generate.scorer import _rows, score, score_text, score_tokens
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
    items = [(prefix + own, conts) for own, conts in zip(rest, ([a, b], [c], [d, a, []], [b, d]), strict=True)]
    scores = score(model, items, row_tokens)
    for (prompt, continuations), logs in zip(items, scores, strict=True):
        assert [len(one) for one in logs] == [len(c) for c in continuations]
        for continuation, own in zip(continuations, logs, strict=True):
            if continuation:
                assert own == pytest.approx(alone(model, prompt, continuation), abs=1e-4)


def test_items_that_share_nothing_score_as_alone(model: Transformer) -> None:
    x, y, z = tokens(5, 40, 1)
    scores = score(model, [(x, [z, y]), (y, [x])])
    for (prompt, continuations), logs in zip([(x, [z, y]), (y, [x])], scores, strict=True):
        for continuation, own in zip(continuations, logs, strict=True):
            assert own == pytest.approx(alone(model, prompt, continuation), abs=1e-4)


def test_a_prompt_that_is_all_prefix_of_another_scores_right(model: Transformer) -> None:
    prompt, more, continuation = tokens(50, 6, 4)
    scores = score(model, [(prompt, [continuation]), (prompt + more, [continuation]), (prompt, [continuation])])
    assert scores[0][0] == pytest.approx(alone(model, prompt, continuation), abs=1e-4)
    assert scores[1][0] == pytest.approx(alone(model, prompt + more, continuation), abs=1e-4)
    assert scores[2][0] == pytest.approx(scores[0][0], abs=1e-4)


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
    assert common_prefix([start, start]) == 0, "each keeps a token of its own, and one less is too short to pay"
    assert common_prefix([[*start, 7], [*start, 7]]) == SHORTEST_SHARED
    assert common_prefix([[*start, 1]]) == common_prefix([]) == 0
    assert common_prefix([[1, *start], [2, *start]]) == 0


def test_groups_by_hand() -> None:
    head, first, second = list(range(30)), list(range(100, 160)), list(range(200, 300))
    a = [head + first + [n, 1] for n in range(3)]
    b = [head + second + [n] for n in range(2)]
    lone = [*head, 400, 401]
    inputs = [a[0], b[0], lone, a[1], b[1], a[2]]
    assert sorted(prefix_groups(inputs)) == [(0, [2]), (90, [0, 3, 5]), (130, [1, 4])]
    assert prefix_groups([[*head, n] for n in (7, 5, 6)]) == [(30, [1, 2, 0])]
    assert prefix_groups([[1, 2], [3, 4], [1, 5]]) == [(0, [0, 2, 1])]
    assert prefix_groups([]) == []


def test_prefill_gives_each_prompts_last_state(model: Transformer) -> None:
    start, a, b = tokens(40, 3, 5)
    inputs = [start + a, start + b]
    kept = Prefix(start, read_prefixes(model, [start]))
    for reads in (prefill(model, inputs), prefill(model, inputs, kept)):
        for prompt, read in zip(inputs, reads, strict=True):
            row = torch.tensor(prompt)
            with torch.no_grad():
                expected = model.hidden(row, documents([len(row)]))[-1]
                _, whole = model.prefill(row, documents([len(row)]))
            assert torch.allclose(read.last_hidden, expected, atol=1e-4)
            joined = torch.cat([held[:, :, begin:end] for held, (begin, end) in read.parts], 2)
            assert torch.allclose(joined, whole, atol=1e-4)
    assert prefill(model, []) == []


def lettered(subjects: int, questions: int, seed: int = 8) -> list[tuple[list[int], list[list[int]]]]:
    """Questions behind one few-shot part a subject, answered by one of four single tokens or by longer texts."""
    heads = tokens(*range(60, 60 + 7 * subjects, 7), seed=seed)
    letters = [[11], [12], [13], [14]]
    longer = tokens(3, 1, 6, seed=seed + 1)
    rows = tokens(*[5 + n % 9 for n in range(subjects * questions)], seed=seed + 2)
    return [(heads[n % subjects] + own, letters if n % 5 else longer) for n, own in enumerate(rows)]


def test_subjects_are_grouped_and_their_prefix_is_read_once(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    fill = Transformer._fill

    def spy(self: Transformer, ids_T: torch.Tensor, *rest: object) -> object:
        read.append(len(ids_T))
        return fill(self, ids_T, *rest)  # type: ignore[arg-type]

    items = lettered(3, 8)
    expected = [[alone(model, prompt, c) for c in conts] for prompt, conts in items]
    monkeypatch.setattr(Transformer, "_fill", spy)
    scores = score(model, items)
    for ours, theirs in zip(scores, expected, strict=True):
        assert [pytest.approx(c, abs=1e-4) for c in theirs] == ours
    longer, own = 2 + 0 + 5, sum(len(prompt) for prompt, _ in items) - 8 * (60 + 67 + 74)
    assert read == [60 + 67 + 74, own + longer * 5], "the last token of a continuation is not read"


@pytest.mark.parametrize("together", [1, 7, 32])
@pytest.mark.parametrize("row_tokens", [64, 2048])
def test_scores_depend_on_no_batch(model: Transformer, together: int, row_tokens: int) -> None:
    items = lettered(4, 9)
    whole = score(model, items)
    scores = [
        one for at in range(0, len(items), together) for one in score(model, items[at : at + together], row_tokens)
    ]
    for ours, theirs in zip(scores, whole, strict=True):
        assert ours == [pytest.approx(c, abs=1e-4) for c in theirs]
        sums, others = [sum(c) for c in ours], [sum(c) for c in theirs]
        first, second, *_ = sorted(others, reverse=True)
        if first - second > 1e-3:
            assert sums.index(max(sums)) == others.index(max(others))


def test_rows_are_about_equally_full() -> None:
    assert _rows([10] * 21, 100) == [list(range(7)), list(range(7, 14)), list(range(14, 21))]
    assert _rows([500, 20, 20], 100) == [[0], [1, 2]]
    assert _rows([], 100) == _rows([0], 100) == []


@pytest.mark.parametrize("piece", [1, 7, 49, 50, 64, 4096])
def test_a_text_read_piece_by_piece_scores_as_at_once(model: Transformer, piece: int) -> None:
    (text,) = tokens(50)
    scores = score_text(model, text, 3, piece)
    assert [value for value, _ in scores] == pytest.approx(alone(model, text[:1], text[1:]), abs=1e-4)
    at_once = score_text(model, text, 3)
    for (_, some), (_, others) in zip(scores, at_once, strict=True):
        assert [token for token, _ in some] == [token for token, _ in others]
        assert [value for _, value in some] == pytest.approx([value for _, value in others], abs=1e-4)
    assert score_text(model, text[:1], 3, piece) == []
