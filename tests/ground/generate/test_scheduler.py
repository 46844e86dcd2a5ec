"""Turns: first come first served within an account, by work done between accounts, bounds that one can't use up."""

from collections.abc import Sequence
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.ground.generate.engine_limits import Bounds, Overloaded
from charter.ground.generate.requests import Request
from charter.ground.generate.sampling import Sampling
from charter.ground.generate.scheduler import REMEMBERED, Turns

numbers = iter(range(1, 1_000_000))


def request(account: str = "", tokens: int = 10, background: bool = False) -> Request:
    return Request(next(numbers), [7] * tokens, Sampling(), [0], tokens + 9, account=account, background=background)


def queue(*requests: Request, **bounds: float) -> Turns:
    turns = Turns(Bounds(**bounds))  # type: ignore[arg-type]
    for one in requests:
        turns.add(one, 0)
    return turns


def serve(turns: Turns, most: int) -> list[str]:
    """Accounts in the order in which their prompts are read, one at a time."""
    accounts = []
    while turns and len(accounts) < most:
        one = next(iter(turns))
        turns.charge(one, len(one.prompt))
        turns.take(one)
        accounts.append(one.account)
    return accounts


def test_one_account_waits_in_line() -> None:
    requests = [request(tokens=n) for n in (9, 1, 50, 3)]
    assert list(queue(*requests)) == requests


def test_a_thousand_requests_of_one_account_delay_anothers_by_one_turn() -> None:
    turns = queue(*(request("many") for _ in range(1000)))
    serve(turns, 100)
    turns.add(request("few"), 0)
    assert "few" in serve(turns, 2)


def test_the_order_is_told_before_anything_is_read() -> None:
    turns = queue(*(request("a") for _ in range(4)), *(request("b") for _ in range(4)))
    told = [one.account for one in islice(turns, 8)]
    assert told == serve(turns, 8) and told[:4] in (["a", "b"] * 2, ["b", "a"] * 2)


def test_turns_are_shared_by_tokens_not_by_requests() -> None:
    turns = queue(*(request("long", 100) for _ in range(9)), *(request("short", 10) for _ in range(99)))
    first = serve(turns, 44)
    assert first.count("long") == 4, "ten short prompts for each long one"


def test_what_was_written_counts_too() -> None:
    a, b = request("a"), request("b")
    turns = queue(a, b)
    turns.charge(a, 4000)
    assert list(turns) == [b, a]


def test_nobody_saves_up_turns_by_being_away() -> None:
    turns = queue(*(request("busy") for _ in range(60)))
    serve(turns, 30)
    for _ in range(30):
        turns.add(request("new"), 0)
    assert abs(serve(turns, 20).count("new") - 10) <= 1


def test_who_was_served_much_and_comes_back_waits_for_the_others() -> None:
    turns = queue(*(request("a") for _ in range(9)), *(request("b") for _ in range(9)))
    greedy = request("greedy")
    turns.add(greedy, 0)
    turns.charge(greedy, 35)
    turns.take(greedy)
    turns.add(request("greedy"), 0)
    assert serve(turns, 7).count("greedy") == 0


def test_the_background_begins_where_the_rest_ends() -> None:
    turns = queue(request("a", background=True), request("b"), request("a"))
    assert [(one.account, one.background) for one in turns] == [("b", False), ("a", False), ("a", True)]


def test_too_many_are_refused_and_leave_no_trace() -> None:
    turns = queue(request("a"), request("b"), waiting=3, share=0.5)
    turns.add(request("c"), 0)
    with pytest.raises(Overloaded, match="3 requests wait already, as many as there may be") as refused:
        turns.add(request("d"), 0)
    assert not refused.value.own and len(turns) == 3 and turns.tokens == 30
    turns.add(request("d"), 1)  # a slot is free
    turns.add(request("a", background=True), 0)  # has a line of its own


def test_one_account_cannot_fill_the_queue() -> None:
    turns = queue(*(request("a") for _ in range(5)), waiting=10)
    with pytest.raises(Overloaded, match="5 requests of yours wait already, your share") as refused:
        turns.add(request("a"), 0)
    assert refused.value.own
    turns.add(request("b"), 0)
    for _ in range(4):
        turns.add(request(), 0)  # nobody's account: no share


def test_tokens_are_bounded_but_one_long_prompt_may_wait() -> None:
    turns = queue(request("a", 500), waiting_tokens=100)
    with pytest.raises(Overloaded, match="prompts of 500 tokens wait already"):
        turns.add(request("b", 1), 0)
    turns = queue(request("a", 40), waiting_tokens=100)
    with pytest.raises(Overloaded, match="prompts of 40 tokens of yours"):
        turns.add(request("a", 11), 0)
    turns.add(request("b", 60), 0)


def test_dropped_requests_make_room() -> None:
    first, second = request("a"), request("a")
    turns = queue(first, second, waiting=2, share=1)
    assert turns.drop(first.number) is first and turns.drop(first.number) is None
    turns.add(request("b"), 0)
    assert [one.account for one in turns] == ["a", "b"] and turns.tokens == 20


def test_accounts_that_wait_for_nothing_are_forgotten() -> None:
    turns = Turns(Bounds())
    for n in range(3 * REMEMBERED):
        one = request(f"account {n}")
        turns.add(one, 0)
        turns.charge(one, 10)
        turns.take(one)
    assert len(turns._lines[False].served) <= REMEMBERED + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.booleans()), max_size=40))
def test_everyone_is_served_once(requests: Sequence[tuple[str, int, bool]]) -> None:
    all_asked = [request(*one) for one in requests]
    turns = queue(*all_asked)
    assert set(turns) == set(all_asked) and len(turns) == len(all_asked)
    assert turns.tokens == sum(tokens for _, tokens, _ in requests)
    for account in "abc":
        mine = [one.number for one in turns if one.account == account and not one.background]
        assert mine == sorted(mine)
    assert len(serve(turns, 99)) == len(all_asked) and turns.tokens == 0
