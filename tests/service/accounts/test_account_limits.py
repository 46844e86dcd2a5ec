"""Limits: what is admitted never exceeds a burst and the rate, nothing leaks, and headers say what is left."""

import threading
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter_service.accounts import limits as module
from charter_service.accounts.keys import Caller, KeyLimits
from charter_service.accounts.limits import Admission, Admissions, Limits, TooMany

CALLER = Caller("key_1", "org_1", "ci")
SMALL = Limits(requests_per_minute=60, input_tokens_per_minute=6_000, output_tokens_per_minute=1_200, concurrency=3)
MANY = SMALL.model_copy(update={"concurrency": 10_000})


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def door(defaults: Limits = MANY) -> tuple[Admissions, Clock]:
    clock = Clock()
    return Admissions(defaults, clock), clock


def test_requests_are_admitted_up_to_the_burst_and_then_at_the_rate() -> None:
    admissions, clock = door()
    for _ in range(60):
        admissions.admit(CALLER, 1, 1).settle(1)
    with pytest.raises(TooMany, match=r"limit of 60 requests a minute .* try again in 1 seconds") as refused:
        admissions.admit(CALLER, 1, 1)
    assert refused.value.status == 429 and refused.value.retry_after == pytest.approx(1.0)
    assert refused.value.headers["retry-after"] == "1" and "x-should-retry" not in refused.value.headers
    clock.now += 0.9
    with pytest.raises(TooMany):
        admissions.admit(CALLER, 1, 1)
    clock.now += 0.1
    admissions.admit(CALLER, 1, 1)


def test_the_limit_that_takes_longest_is_the_one_that_is_named() -> None:
    admissions, _ = door()
    admissions.admit(CALLER, 6_000, 1)
    for _ in range(59):
        admissions.admit(CALLER, 0, 1)
    with pytest.raises(TooMany, match=r"6,000 input tokens a minute .* try again in 30 seconds"):
        admissions.admit(CALLER, 3_000, 1)


def test_a_refusal_takes_nothing() -> None:
    admissions, _ = door(SMALL)
    before = admissions.admit(CALLER, 5_000, 1)
    kept = before.openai_headers()
    for _ in range(5):
        with pytest.raises(TooMany):
            admissions.admit(CALLER, 2_000, 1)
    assert before.openai_headers() == kept and admissions.under_way("org_1") == 1


def test_output_counts_as_it_is_written_and_max_tokens_plays_no_part() -> None:
    admissions, clock = door()
    first = admissions.admit(CALLER, 1, 1_000_000)
    first.wrote(1_199)
    second = admissions.admit(CALLER, 1, 1_000_000)  # one token is left
    first.wrote(3_100)
    first.wrote(1_400)  # said late: nothing is taken back
    with pytest.raises(TooMany, match="1,200 output tokens a minute") as refused:
        admissions.admit(CALLER, 1, 1)
    assert refused.value.retry_after == pytest.approx(1_901 / 20)
    assert refused.value.headers["anthropic-ratelimit-output-tokens-remaining"] == "0"
    second.settle(0)
    first.settle()
    first.wrote(9_999)
    clock.now += 1_901 / 20
    admissions.admit(CALLER, 1, 1)


def test_output_may_be_set_aside_instead() -> None:
    admissions, _ = door(MANY.model_copy(update={"set_output_aside": True}))
    first = admissions.admit(CALLER, 1, 1_000)
    with pytest.raises(TooMany, match="1,200 output tokens"):
        admissions.admit(CALLER, 1, 201)
    first.wrote(10)
    with pytest.raises(TooMany):
        admissions.admit(CALLER, 1, 201)
    first.settle(10)
    admissions.admit(CALLER, 1, 1_190)
    with pytest.raises(TooMany, match="counts 1,201 output tokens, and this organisation may use 1,200") as refused:
        admissions.admit(CALLER, 1, 1_201)
    assert refused.value.retry_after is None


def test_a_request_over_the_whole_bucket_is_refused_at_once_with_numbers() -> None:
    admissions, _ = door()
    with pytest.raises(TooMany, match=r"6,001 input tokens, and this organisation may use 6,000 a minute") as refused:
        admissions.admit(CALLER, 6_001, 1)
    assert refused.value.retry_after is None and "\n" not in str(refused.value)
    assert refused.value.headers["x-should-retry"] == "false" and "retry-after" not in refused.value.headers
    admissions.admit(CALLER, 6_000, 1)


def test_only_so_many_are_under_way_at_a_time() -> None:
    admissions, _ = door(SMALL)
    under_way = [admissions.admit(CALLER, 1, 1) for _ in range(3)]
    with pytest.raises(TooMany, match="has 3 requests under way, and may have 3") as refused:
        admissions.admit(CALLER, 1, 1)
    assert refused.value.headers["retry-after"] == "1"
    with pytest.raises(TooMany, match="this organisation has 3"):
        admissions.admit(Caller("key_2", "org_1", "other"), 1, 1)
    admissions.admit(Caller("key_3", "org_2", "another's"), 1, 1)
    for _ in range(3):
        under_way[0].settle(1)
    admissions.admit(CALLER, 1, 1)
    with pytest.raises(TooMany):
        admissions.admit(CALLER, 1, 1)


def test_a_context_settles_whatever_happens() -> None:
    admissions, _ = door(SMALL)
    for _ in range(10):
        with pytest.raises(ZeroDivisionError), admissions.admit(CALLER, 1, 1) as admission:
            admission.wrote(7)
            1 / 0
    assert admissions.under_way("org_1") == 0
    assert admission.openai_headers()["x-ratelimit-remaining-tokens"] == str(6_000 - 10 + 1_200 - 70)


def test_what_a_cache_held_is_given_back() -> None:
    admissions, _ = door()
    admissions.admit(CALLER, 5_000, 1).settle(0, cached_tokens=4_500)
    admissions.admit(CALLER, 5_500, 1).settle(0, cached_tokens=99_999)  # no more than was taken
    assert admissions.admit(CALLER, 5_500, 1).openai_headers()["x-ratelimit-remaining-tokens"] == "1200"


OWN, USUAL = KeyLimits(requests_per_minute=2), KeyLimits()
TWO = (USUAL, OWN)  # the limits of an organisation's keys


def test_a_key_has_its_own_limits_and_a_throttled_one_lower_ones() -> None:
    admissions, _ = door()
    own = Caller("key_2", "org_1", "own", limits=OWN, siblings=TWO)
    admissions.admit(own, 1, 1)
    last = admissions.admit(own, 1, 1)
    assert last.headers["anthropic-ratelimit-input-tokens-limit"] == "6000"
    assert last.headers["anthropic-ratelimit-requests-limit"] == "2"
    with pytest.raises(TooMany, match="limit of 2 requests a minute of this key"):
        admissions.admit(own, 1, 1)
    slowed = Caller("key_3", "org_2", "slowed")
    for _ in range(6):
        admissions.admit(slowed, 1, 1, factor=0.1)
    with pytest.raises(TooMany, match="limit of 6 requests"):
        admissions.admit(slowed, 1, 1, factor=0.1)
    with pytest.raises(TooMany, match="may use 600 a minute"):
        admissions.admit(slowed, 601, 1, factor=0.1)
    admissions.admit(Caller("key_4", "org_3", "least"), 1, 1, factor=0.0)  # each limit is 1 at least


def test_two_keys_have_no_more_than_one() -> None:
    admissions, _ = door()
    keys = [Caller(f"key_{number}", "org_1", "x", siblings=(USUAL,)) for number in range(3)]
    for number in range(60):
        admissions.admit(keys[number % 3], 1, 1)
    for caller in keys:
        with pytest.raises(TooMany, match="limit of 60 requests a minute of this organisation"):
            admissions.admit(caller, 1, 1)
    admissions.admit(Caller("key_9", "org_2", "x"), 1, 1)


def test_what_a_smaller_key_takes_its_organisation_lacks() -> None:
    admissions, _ = door()
    small = Caller("key_2", "org_1", "small", limits=OWN, siblings=TWO)
    large = Caller("key_1", "org_1", "large", siblings=TWO)
    for _ in range(2):
        admissions.admit(small, 1, 1)
    for _ in range(58):
        admissions.admit(large, 1, 1)
    with pytest.raises(TooMany, match="limit of 60 requests a minute of this organisation"):
        admissions.admit(large, 1, 1)


def test_a_larger_key_raises_its_organisations_limits_and_not_its_siblings() -> None:
    admissions, _ = door()
    siblings = (USUAL, KeyLimits(requests_per_minute=100))
    large = Caller("key_1", "org_1", "large", limits=siblings[1], siblings=siblings)
    usual = Caller("key_2", "org_1", "usual", siblings=siblings)
    for _ in range(60):
        admissions.admit(usual, 1, 1)
    with pytest.raises(TooMany, match="limit of 60 requests a minute of this key"):
        admissions.admit(usual, 1, 1)
    for _ in range(40):
        admissions.admit(large, 1, 1)
    with pytest.raises(TooMany, match="limit of 100 requests"):
        admissions.admit(large, 1, 1)


def test_a_refusal_by_a_key_or_user_takes_nothing_from_its_organisation() -> None:
    admissions, _ = door()
    small = Caller("key_2", "org_1", "small", limits=OWN, siblings=TWO)
    for _ in range(2):
        admissions.admit(small, 1, 1)
    for _ in range(9):
        with pytest.raises(TooMany, match="of this key"):
            admissions.admit(small, 1, 1)
        with pytest.raises(TooMany, match="end user"):
            admissions.admit(Caller("key_1", "org_1", "x", siblings=TWO), 9, 1, user="u", share=0.001)
    large = admissions.admit(Caller("key_1", "org_1", "x", siblings=TWO), 1, 1)
    assert large.openai_headers()["x-ratelimit-remaining-requests"] == "57"
    assert admissions.under_way("org_1") == 3


def test_calls_that_count_share_their_organisations_bucket_too() -> None:
    admissions, _ = door(MANY.model_copy(update={"counts_per_request": 1}))
    keys = [Caller(f"key_{number}", "org_1", "x", siblings=(USUAL,)) for number in range(2)]
    for number in range(60):
        admissions.count(keys[number % 2])
    with pytest.raises(TooMany, match="limit of 60 requests"):
        admissions.count(keys[0])
    assert (load := admissions.load(keys[0].key)) and load.refused == 1
    assert admissions.admit(keys[0], 1, 1).headers["anthropic-ratelimit-requests-remaining"] == "59"


def test_headers_have_anthropics_names_and_rounding() -> None:
    admissions, clock = door(MANY.model_copy(update={"output_tokens_per_minute": 1_500}))
    admission = admissions.admit(CALLER, 1_400, 1)
    admission.wrote(100)
    headers = admission.headers
    kinds = ("requests", "tokens", "input-tokens", "output-tokens")
    assert set(headers) == {
        f"anthropic-ratelimit-{kind}-{what}" for kind in kinds for what in ("limit", "remaining", "reset")
    }
    said = {kind: headers[f"anthropic-ratelimit-{kind}-remaining"] for kind in kinds}
    # 59; 6,000; 4,600 and 1,400 to the nearest thousand
    assert said == {"requests": "59", "tokens": "6000", "input-tokens": "5000", "output-tokens": "1000"}
    assert headers["anthropic-ratelimit-tokens-limit"] == "7500"
    reset = headers["anthropic-ratelimit-input-tokens-reset"]
    assert reset.endswith("Z") and datetime.fromisoformat(reset).timestamp() == clock.now + 14
    assert headers["anthropic-ratelimit-tokens-reset"] == reset
    clock.now += 14
    assert datetime.fromisoformat(admission.headers["anthropic-ratelimit-tokens-reset"]).timestamp() == clock.now


def test_headers_have_openais_names() -> None:
    admissions, _ = door()
    admission = admissions.admit(CALLER, 0, 1)
    assert admission.openai_headers() == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-limit-tokens": "7200",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-remaining-tokens": "7200",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-reset-tokens": "0ms",
    }
    admission.wrote(5_000)
    assert admission.openai_headers()["x-ratelimit-reset-tokens"] == "4m10s"
    with pytest.raises(TooMany) as refused:
        admissions.admit(CALLER, 1, 1)
    assert refused.value.openai_headers()["retry-after"] == refused.value.headers["retry-after"] == "191"


def test_a_clock_that_is_set_back_gives_nothing() -> None:
    admissions, clock = door()
    admissions.admit(CALLER, 6_000, 1)
    clock.now -= 3_600
    with pytest.raises(TooMany):
        admissions.admit(CALLER, 10, 1)
    clock.now += 1
    admissions.admit(CALLER, 100, 1)


def test_quiet_keys_are_forgotten_and_busy_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    admissions, _ = door(SMALL)
    busy = admissions.admit(Caller("key_1", "busy", "x"), 1, 1)
    for number in range(10):
        admissions.admit(Caller("key_1", f"org_{number}", "x"), 1, 1).settle(0)
    assert len(admissions._accounts) == 3 and admissions.under_way("busy") == 1
    busy.settle(0)
    assert admissions.under_way("busy") == 0


# so small that a few steps empty each bucket
TINY = Limits(requests_per_minute=6, input_tokens_per_minute=60, output_tokens_per_minute=30, concurrency=7)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from((1, 4, 5, 8, 9, 10, 90)), st.just(0)),
        st.tuples(st.just("admit"), st.integers(0, 70), st.integers(1, 35)),
        st.tuples(st.just("admit"), st.integers(0, 10), st.integers(1, 5)),
        st.tuples(st.just("admit"), st.just(0), st.just(1)),
        st.tuples(st.just("wrote"), st.integers(0, 9), st.integers(0, 35)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 35)),
    ),
    min_size=20,
    max_size=80,
)


class Book:
    """What was admitted and written, kept apart from what is under test."""

    def __init__(self, aside: bool) -> None:
        self.clock, self.aside = Clock(), aside
        self.admissions = Admissions(TINY.model_copy(update={"set_output_aside": aside}), self.clock)
        self.admitted: list[tuple[float, int]] = []  # when, and its input tokens
        self.under_way: dict[Admission, int] = {}  # and its max_tokens
        self.written: dict[Admission, int] = {}
        self.begun = self.clock.now

    def admit(self, read: int, most: int) -> None:
        counted = sum(n for one, n in self.written.items() if not (self.aside and one in self.under_way))
        promised = sum(self.under_way.values()) + most if self.aside else 1
        try:
            admission = self.admissions.admit(CALLER, read, most)
        except TooMany as refused:
            assert refused.retry_after is None or refused.retry_after > 0
            return
        self.under_way[admission], self.written[admission] = most, 0
        now = self.clock.now
        self.admitted.append((now, read))
        for number, (then, _) in enumerate(self.admitted):  # in every stretch of time
            minutes, within = (now - then) / 60, self.admitted[number:]
            assert len(within) <= 6 * (1 + minutes) + 1e-3
            assert sum(tokens for _, tokens in within) <= 60 * (1 + minutes) + 1e-3
        assert counted + promised <= 30 * (1 + (now - self.begun) / 60) + 1e-3
        assert len(self.under_way) <= 7

    def write(self, number: int, tokens: int, end: bool) -> None:
        if not self.under_way:
            return
        admission = list(self.under_way)[number % len(self.under_way)]
        tokens = min(tokens, self.under_way[admission]) if self.aside else tokens
        self.written[admission] = max(self.written[admission], tokens)
        if not end:
            return admission.wrote(tokens)
        del self.under_way[admission]
        for again in (self.written[admission], 0, 99):  # only the first counts
            admission.settle(again)

    def check(self) -> None:
        assert self.admissions.under_way("org_1") == len(self.under_way)
        for admission in list(self.written)[-1:]:
            headers = {**admission.headers, **admission.openai_headers()}
            assert min(int(value) for name, value in headers.items() if "remaining" in name) >= 0


@given(STEPS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_never_more_than_a_burst_and_the_rate(steps: list[tuple[str, float, int]], aside: bool) -> None:
    """Of requests and input, all that was admitted; of output, all that was counted when something was admitted, and
    where it is set aside, all that may be written as well."""
    book = Book(aside)
    for what, size, tokens in steps:
        if what == "wait":
            book.clock.now += size
        elif what == "admit":
            book.admit(int(size), tokens)
        else:
            book.write(int(size), tokens, what == "settle")
        book.check()
    for admission in book.under_way:
        admission.settle()
    assert book.admissions.under_way("org_1") == 0


@given(st.integers(0, 6_000), st.integers(0, 3_000), st.floats(0, 100))
@settings(deadline=None)
def test_what_a_refusal_says_to_wait_is_enough_and_needed(read: int, wrote: int, idle: float) -> None:
    admissions, clock = door()
    admissions.admit(CALLER, read, 1).settle(wrote)
    clock.now += idle
    try:
        admissions.admit(CALLER, 4_000, 1)
    except TooMany as refused:
        wait = refused.retry_after
        assert wait is not None
        clock.now += wait - 1e-3
        if wait > 2e-3:
            with pytest.raises(TooMany):
                admissions.admit(CALLER, 4_000, 1)
        clock.now += 2e-3
        admissions.admit(CALLER, 4_000, 1)


def test_many_threads_take_no_more_than_there_is_and_leak_nothing() -> None:
    clock = Clock()
    admissions = Admissions(MANY.model_copy(update={"concurrency": 5}), clock)
    taken, most, lock = [0, 0], [0], threading.Lock()

    def work() -> None:
        for _ in range(40):
            try:
                with admissions.admit(CALLER, 70, 1) as admission:
                    with lock:
                        taken[0], taken[1] = taken[0] + 1, taken[1] + 70
                        most[0] = max(most[0], admissions.under_way("org_1"))
                    admission.wrote(3)
                    admission.settle(3)
            except TooMany:
                continue

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < taken[0] <= 60 and taken[1] <= 6_000 and most[0] <= 5
    assert admissions.under_way("org_1") == 0
