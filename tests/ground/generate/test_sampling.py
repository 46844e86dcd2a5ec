"""The draw of a token: inverse cumulative distribution by hand, cuts, temperature, greedy."""

import math

import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from charter.ground.artifact.errors import CharterError
from charter.ground.generate.sampling import Sampling, _cut, likeliest, pick, uniforms

PROBABILITIES = [0.1, 0.2, 0.3, 0.4]


def draw(how: Sampling, uniform: float, probabilities: list[float] = PROBABILITIES) -> tuple[int, float]:
    logits = torch.log(torch.tensor([probabilities])) + 3.0  # a constant changes nothing
    tokens, log_probs = pick(logits, [how], [uniform])
    return tokens[0], log_probs[0]


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.09, 0), (0.11, 1), (0.29, 1), (0.31, 2), (0.59, 2), (0.61, 3), (0.9999999, 3)]
)
def test_a_uniform_number_becomes_the_token_of_the_inverse_distribution(uniform: float, token: int) -> None:
    choice, log_prob = draw(Sampling(), uniform)
    assert choice == token
    assert log_prob == pytest.approx(math.log(PROBABILITIES[token]), abs=1e-6)


def test_temperature_sharpens_and_its_log_probability_is_returned() -> None:
    squared = [p * p for p in PROBABILITIES]
    shares = [p / sum(squared) for p in squared]  # 1/30, 4/30, 9/30, 16/30
    assert draw(Sampling(temperature=0.5), 4.9 / 30)[0] == 1
    token, log_prob = draw(Sampling(temperature=0.5), 5.1 / 30)
    assert (token, log_prob) == (2, pytest.approx(math.log(shares[2]), abs=1e-6))


def test_greedy_takes_the_likeliest_whatever_the_uniform_and_reports_temperature_one() -> None:
    for uniform in (0.0, 0.5, 0.99):
        assert draw(Sampling(temperature=0), uniform) == (3, pytest.approx(math.log(0.4), abs=1e-6))


def test_top_k_renormalises_the_draw_but_not_the_log_probability() -> None:
    how = Sampling(top_k=2)  # tokens 2 and 3, 3/7 and 4/7
    assert draw(how, 0.0)[0] == draw(how, 2.9 / 7)[0] == 2
    assert draw(how, 3.1 / 7) == (3, pytest.approx(math.log(0.4), abs=1e-6))


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    how = Sampling(top_p=0.5)  # 0.4 falls short, so 0.3 stays too
    assert {draw(how, u)[0] for u in (0.0, 0.2, 0.4, 0.45, 0.7, 0.999)} == {2, 3}
    assert draw(how, 0.0) == (2, pytest.approx(math.log(0.3), abs=1e-6))
    assert {draw(Sampling(top_p=0.39), u)[0] for u in (0.0, 0.5, 0.999)} == {3}


def test_top_p_counts_shares_among_the_tokens_that_top_k_left() -> None:
    shares = [0.4, 0.35, 0.25]
    how = Sampling(top_k=2, top_p=0.5)  # 0.4 is 8/15 of what top_k leaves
    assert {draw(how, u, shares)[0] for u in (0.0, 0.5, 0.6, 0.999)} == {0}
    assert {draw(Sampling(top_p=0.5), u, shares)[0] for u in (0.0, 0.5, 0.6, 0.999)} == {0, 1}


@pytest.mark.parametrize("temperature", [0.2, 1.0, 1.7])
@pytest.mark.parametrize(
    ("top_k", "top_p"),
    [(0, 0.9), (0, 0.97), (5, 1.0), (5, 0.9), (40, 0.3), (2, 0.5), (1, 0.1), (300, 0.99), (300, 1.0)],
)
@pytest.mark.parametrize("vocabulary", [50, 900])  # 900: some nuclei reach beyond the tokens put in order first
def test_cuts_are_those_of_transformers(temperature: float, top_k: int, top_p: float, vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.linspace(0.3, 3, 200)[:, None] * torch.randn(200, vocabulary, generator=generator)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    theirs = torch.softmax(warpers(torch.zeros(200, 1, dtype=torch.long), logits), -1)
    how = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    kept = _cut(torch.softmax(logits / temperature, -1), [how] * 200)
    assert torch.equal(kept > 0, theirs > 0)
    assert torch.allclose(kept / kept.sum(-1, keepdim=True), theirs, atol=1e-6)


def test_the_likeliest_token_stays_whatever_is_cut() -> None:
    assert draw(Sampling(top_k=1, top_p=1e-9), 0.999)[0] == 3


def test_tokens_of_no_probability_are_never_drawn() -> None:
    for uniform in (0.0, 0.49999999, 0.5, 1.0 - 1e-16):
        token, log_prob = draw(Sampling(), uniform, [0.0, 0.5, 0.0, 0.5])
        assert token in (1, 3) and log_prob == pytest.approx(math.log(0.5), abs=1e-6)


def test_weights_too_small_to_count_are_none_at_all() -> None:
    logits = torch.tensor([[0.0, -86.0, -88.0, -math.inf, -1e6]])
    tokens, log_probs = pick(logits, [Sampling()], [0.5])
    assert (tokens, log_probs) == ([0], [0.0])
    assert pick(logits, [Sampling(temperature=0.01)], [1 - 1e-16])[0] == [0]
    assert pick(torch.full((1, 3), -1e3), [Sampling()], [0.5]) == ([1], [pytest.approx(-math.log(3), abs=1e-4)])


def test_rows_are_drawn_each_in_its_own_way() -> None:
    how = [Sampling(), Sampling(temperature=0), Sampling(top_k=1), Sampling(temperature=0.5), Sampling(top_p=0.5)]
    numbers = [0.05, 0.05, 0.05, 0.05, 0.05]
    logits = torch.log(torch.tensor([PROBABILITIES] * 5))
    together = pick(logits, how, numbers)
    for i in range(5):
        alone = pick(logits[i : i + 1], how[i : i + 1], numbers[i : i + 1])
        assert (together[0][i], together[1][i]) == (alone[0][0], pytest.approx(alone[1][0], abs=1e-6))
    assert together[0] == [0, 3, 3, 1, 2]


def test_frequencies_follow_the_distribution() -> None:
    numbers = uniforms(7, 4000)
    logits = torch.log(torch.tensor(PROBABILITIES)).expand(4000, 4)
    tokens, _ = pick(logits, [Sampling()] * 4000, numbers)
    for token, share in enumerate(PROBABILITIES):
        assert tokens.count(token) / 4000 == pytest.approx(share, abs=0.03)


def test_uniforms_depend_on_the_seed_alone_and_longer_ones_begin_alike() -> None:
    assert uniforms(1, 4) == uniforms(1, 9)[:4] != uniforms(2, 4)
    assert all(0 <= u < 1 for u in uniforms(3, 100))


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}, {"max_tokens": 0}]
)
def test_senseless_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(CharterError, match="sampling needs"):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_the_likeliest_tokens_come_with_the_log_probabilities_of_the_draw() -> None:
    logits = torch.log(torch.tensor([PROBABILITIES, PROBABILITIES, PROBABILITIES]))
    logits[2, 3] = -math.inf
    how = [Sampling(top_logprobs=2), Sampling(), Sampling(temperature=0.5, top_logprobs=20)]
    two, none, all_left = likeliest(logits, how)
    assert [token for token, _ in two] == [3, 2] and none == []
    assert [value for _, value in two] == pytest.approx([math.log(0.4), math.log(0.3)], abs=1e-6)
    squares = 0.01 + 0.04 + 0.09
    assert [token for token, _ in all_left] == [2, 1, 0], "a token that can't come isn't listed"
    assert [math.exp(value) for _, value in all_left] == pytest.approx([s / squares for s in (0.09, 0.04, 0.01)])


def test_more_than_twenty_likeliest_tokens_are_refused() -> None:
    with pytest.raises(CharterError, match="top_logprobs must be 0 to 20; got 21"):
        Sampling(top_logprobs=21)
