"""The ladder: worked by hand, and what holds for every history."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from charter.ground.moderation.policy import shipped_policy
from charter_service.accounts.ladder import DAY, LEVELS, History, Ladder, Ruling, UserSteps, Violation, next_standing

# window 30 days, clean period 10 days; warned at 5, enhanced at 10, throttled at 20, suspended at 40
LADDER = Ladder(window_days=30, clean_days=10)


def sinned(*events: tuple[float, float]) -> list[Violation]:
    """Violations of (day, weight)."""
    return [Violation(day * DAY, weight) for day, weight in events]


def level(day: float, violations=(), rulings=(), ladder: Ladder = LADDER) -> str:
    ruled = [Ruling(at * DAY, to) for at, to in rulings]
    return next_standing(ladder, History(violations, ruled), day * DAY).level


def test_nothing_is_good() -> None:
    outcome = next_standing(LADDER, History(), 5 * DAY)
    assert (outcome.level, outcome.total, outcome.lifts, outcome.asks) == ("good", 0.0, None, None)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (4.9, "good"),
        (5, "warned"),
        (9.9, "warned"),
        (10, "enhanced"),
        (20, "throttled"),
        (40, "throttled"),  # nobody is suspended by the rule alone
    ],
)
def test_each_sum_has_its_level(weight: float, expected: str) -> None:
    assert level(1, sinned((1, weight))) == expected
    # the same in two halves on two days, as one day later the first still counts
    assert level(1, sinned((0, weight / 2), (1, weight / 2))) == expected


def test_suspension_is_asked_for_and_made_alone_only_where_the_rules_say_so() -> None:
    history = History(sinned((1, 45)))
    asked = next_standing(LADDER, history, 1 * DAY)
    assert (asked.level, asked.asks) == ("throttled", "suspended")
    alone = next_standing(LADDER.model_copy(update={"suspend_alone": True}), history, 1 * DAY)
    assert (alone.level, alone.asks) == ("suspended", None)
    # after a clean period nothing is asked any more
    later = next_standing(LADDER, history, 11 * DAY)
    assert (later.level, later.asks) == ("enhanced", None)


def test_what_is_older_than_the_window_doesnt_add_up() -> None:
    assert level(30, sinned((0, 4), (29, 4))) == "warned"
    assert level(30, sinned((0, 4), (30, 4))) == "good"


def test_one_level_is_lifted_in_each_clean_period() -> None:
    history = sinned((0, 20))
    assert [level(day, history) for day in (0, 9.99, 10, 19.99, 20, 29.99, 30, 99)] == [
        *["throttled"] * 2,
        *["enhanced"] * 2,
        *["warned"] * 2,
        *["good"] * 2,
    ]
    outcome = next_standing(LADDER, History(history), 12 * DAY)
    assert outcome.lifts == 20 * DAY


def test_a_violation_begins_the_clean_period_again() -> None:
    # enhanced at 0; a small violation on day 8 puts the lift off to day 18
    history = sinned((0, 10), (8, 0.5))
    assert [level(day, history) for day in (10, 17.9, 18, 27.9, 28)] == [
        "enhanced",
        "enhanced",
        "warned",
        "warned",
        "good",
    ]


def test_a_violation_after_a_lift_raises_by_the_whole_window() -> None:
    # 10 on day 0: enhanced; warned on day 10; 10 more on day 12 make 20
    assert level(12, sinned((0, 10), (12, 10))) == "throttled"


def test_what_a_person_set_stays_for_a_clean_period_and_clears_what_was_before() -> None:
    # 20 on day 0: throttled; a person restores on day 1; 20 more on day 2 change nothing, and are asked about
    history, ruled = sinned((0, 20), (2, 20)), [(1, "good")]
    assert level(2, history, ruled) == "good"
    made = next_standing(LADDER, History(history, [Ruling(DAY, "good")]), 2 * DAY)
    assert (made.asks, made.total, made.held) == ("throttled", 20.0, 11 * DAY)
    # when the decision's period is over the rule goes on, with what came after the decision
    assert level(11, [*history, *sinned((11, 1))], ruled) == "throttled"
    # what was before the decision is settled: 20 of day 0 would make 21
    assert level(11, [*sinned((0, 20)), *sinned((11, 1))], ruled) == "good"
    # and isn't taken off again when it leaves the window
    late = History(sinned((0, 4), (28, 3), (30.5, 5)), [Ruling(DAY, "good")])
    assert next_standing(LADDER, late, 30.5 * DAY).total == 8.0


def test_a_persons_strict_level_is_lifted_by_clean_periods_too() -> None:
    ruled = [(3, "suspended")]
    assert [level(day, (), ruled) for day in (3, 12.9, 13, 23, 33, 43)] == [
        "suspended",
        "suspended",
        "throttled",
        "enhanced",
        "warned",
        "good",
    ]
    assert level(5, (), [*ruled, (4, "warned")]) == "warned"


def test_a_violation_in_the_instant_of_a_decision_was_before_it() -> None:
    assert level(1, sinned((1, 20)), [(1, "good")]) == "good"
    assert level(12, sinned((1, 20), (12, 1)), [(1, "good")]) == "good"


def test_weights_by_category_side_and_what_people_said() -> None:
    ladder = LADDER.under(shipped_policy())
    severe = next(c.id for c in shipped_policy().categories if c.severity == "severe")
    low = next(c.id for c in shipped_policy().categories if c.severity == "low")
    assert ladder.weight(severe, "prompt") == 4.0
    assert ladder.weight(severe, "prompt", upheld=True) == 8.0
    assert ladder.weight(severe, "reply") == 2.0
    assert ladder.weight(low, "prompt") == 0.5
    assert ladder.weight("of_an_older_policy", "prompt") == 1.0
    assert ladder.weight(shipped_policy().high_risk[0].id, "prompt") == 0.0  # permitted, with a disclosure


def test_errors_of_classifiers_are_forgiven_by_the_number_of_requests() -> None:
    ladder = LADDER.model_copy(update={"forgiven": 0.01})
    sins = sinned((1.5, 6))

    def total(requests: list[tuple[float, int]], violations=sins, day=1.5) -> tuple[str, float]:
        made = History(violations, (), [(at * DAY, count) for at, count in requests])
        outcome = next_standing(ladder, made, day * DAY)
        return outcome.level, outcome.total

    assert total([]) == ("warned", 6.0)
    assert total([(1, 100)]) == ("warned", 5.0)
    assert total([(1, 101)]) == ("good", 4.99)
    assert total([(0, 60), (1, 60)]) == ("good", 4.8)
    # a quarter at most
    assert total([(1, 150)]) == total([(1, 9_999)]) == ("good", 4.5)
    assert total([(1.5, 100)]) == ("warned", 5.0) and total([(1.6, 100)]) == ("warned", 6.0)
    # days to come and days out of the window count nothing
    assert total([(2, 9_999), (-28.5, 9_999)]) == ("warned", 6.0)
    # what a person upheld is no error
    assert total([(1, 9_999)], [Violation(1.5 * DAY, 6.0, True)]) == ("warned", 6.0)
    assert total([(1, 100)], [Violation(1.5 * DAY, 2.0, True), *sinned((1.5, 4))]) == ("warned", 5.0)
    # and what is severe weighs what it does
    severe = Violation(1.5 * DAY, 6.0, severe=True)
    assert total([(1, 9_999)], [severe]) == ("warned", 6.0)
    # a quiet month later the level is not made again of what was forgiven then
    assert total([(1, 9_999)], [*sins, *sinned((25, 0.5))], 25) == ("good", 4.875)
    assert total([(1, 9_999)], [*sins, *sinned((31.4, 1))], 31.4) == ("warned", 7.0)


def test_what_was_written_down_falls_by_clean_periods_alone() -> None:
    sins, stood = sinned((1, 6)), Ruling(DAY, "enhanced")

    def found(day: float, **more: object) -> str:
        made = History(sins, (), [(0.5 * DAY, 1000)], **more)  # type: ignore[arg-type]
        return next_standing(LADDER, made, day * DAY).level

    assert found(1) == "good", "what is found now"
    assert [found(day, stood=stood) for day in (1, 10.9, 11, 21)] == ["enhanced", "enhanced", "warned", "good"]
    assert found(5, stood=stood, dismissed=True) == "good"
    assert next_standing(LADDER, History((), (), (), stood), 2 * DAY).lifts == 11 * DAY


def test_an_end_user_adds_no_more_than_a_share() -> None:
    def total(*sins: Violation, requests: int = 0) -> float:
        ladder = LADDER.model_copy(update={"forgiven": 0.01})
        made = History(sins, (), [(0.0, requests)])
        return next_standing(ladder, made, DAY).total

    def of(user: str, weight: float, upheld: bool = False, at: float = 1.0) -> Violation:
        return Violation(at * DAY, weight, upheld, user)

    assert LADDER.users.share == 4.0
    assert total(of("ann", 3)) == 3 and total(of("ann", 3), of("ann", 3)) == 4
    assert total(of("ann", 99), of("bob", 99), of("", 5)) == 13, "who isn't named counts in full"
    assert total(*(of(f"name {n}", 1) for n in range(50))) == 50
    # what people upheld comes first, so that requests forgive no part of it
    assert total(of("ann", 6), of("ann", 3, True), requests=999) == 3.75
    assert total(of("ann", 6, True), requests=999) == 4
    # what leaves the window makes room
    late = [of("ann", 4, at=0), of("ann", 3, at=29.5)]
    assert next_standing(LADDER, History(late), 29.9 * DAY).total == 4
    assert next_standing(LADDER, History(late), 30.5 * DAY).total == 3


def test_a_users_rules_act_before_the_organisations_do() -> None:
    one, own = LADDER, LADDER.for_users()
    assert (own.warned, own.suspended, own.suspend_alone, own.suspend_severe) == (3.0, 16.0, False, 10)
    assert own.severities == one.severities and own.reply == one.reply and own.upheld == one.upheld
    for step in ("warned", "enhanced", "throttled", "suspended"):
        assert getattr(own, step) < getattr(one, step)
    # all that one user can do doesn't even have a whole organisation warned
    assert one.users.share < one.warned
    with pytest.raises(ValidationError, match="must not fall"):
        UserSteps(warned=10, enhanced=5)


def test_sums_that_fall_are_refused() -> None:
    with pytest.raises(ValidationError, match="must not fall"):
        Ladder(warned=10, enhanced=5)


DAYS = st.integers(0, 200).map(lambda quarter: quarter / 4 * DAY)
SINS = st.builds(
    Violation,
    DAYS,
    st.sampled_from([0.0, 0.5, 1.0, 4.0, 8.0, 25.0]),
    st.booleans(),
    st.sampled_from(["", "", "ann", "bob"]),
)
ASKED = st.lists(st.tuples(st.integers(0, 50).map(lambda day: day * DAY), st.integers(0, 2000)), max_size=4)
RULED = st.builds(Ruling, DAYS, st.sampled_from(LEVELS))
HISTORIES = st.builds(History, st.lists(SINS, max_size=12), st.lists(RULED, max_size=3), ASKED)
LADDERS = st.builds(
    Ladder,
    window_days=st.sampled_from([3.0, 10.0, 30.0]),
    clean_days=st.sampled_from([2.5, 10.0, 40.0]),
    suspend_alone=st.booleans(),
    forgiven=st.sampled_from([0.0, 0.01]),
)


def place(ladder: Ladder, history: History, now: float) -> int:
    return LEVELS.index(next_standing(ladder, history, now).level)


@settings(max_examples=300, deadline=None)
@given(LADDERS, HISTORIES, SINS, DAYS)
def test_one_violation_more_never_helps(ladder, history, sin, now) -> None:
    more = History([*history.violations, sin], history.rulings, history.requests)
    assert place(ladder, more, now) >= place(ladder, history, now)


@settings(max_examples=200, deadline=None)
@given(LADDERS, HISTORIES, DAYS)
def test_without_violations_one_level_goes_in_each_clean_period(ladder, history, now) -> None:
    last = max([now, *(e.at for e in (*history.violations, *history.rulings))])
    clean = ladder.clean_days * DAY
    places = [place(ladder, history, last + k * clean) for k in range(6)]
    assert all(a - b == (1 if a else 0) for a, b in itertools.pairwise(places))
    lifts = next_standing(ladder, history, last).lifts
    if lifts is not None:
        assert last < lifts <= last + clean
        assert place(ladder, history, lifts) == places[0] - 1
        assert place(ladder, history, lifts - 1) == places[0]


@settings(max_examples=200, deadline=None)
@given(LADDERS, HISTORIES, RULED, st.floats(0, 0.999), st.lists(SINS, max_size=5))
def test_a_persons_level_stays_until_its_clean_period(ladder, history, ruling, share, later) -> None:
    before = [r for r in history.rulings if r.at < ruling.at]
    now = ruling.at + share * ladder.clean_days * DAY
    held = History([*history.violations, *later], [*before, ruling], history.requests)
    found = next_standing(ladder, held, now)
    assert found.level == ruling.level
    assert found.asks is None or LEVELS.index(found.asks) > LEVELS.index(ruling.level)


@settings(max_examples=200, deadline=None)
@given(LADDERS, HISTORIES, DAYS)
def test_only_people_suspend(ladder, history, now) -> None:
    careful = ladder.model_copy(update={"suspend_alone": False})
    if next_standing(careful, history, now).level == "suspended":
        assert any(r.level == "suspended" and r.at <= now for r in history.rulings)


@settings(max_examples=100, deadline=None)
@given(LADDERS, HISTORIES, DAYS, st.randoms())
def test_the_order_in_which_a_history_is_given_doesnt_matter(ladder, history, now, random) -> None:
    times = [r.at for r in history.rulings]
    if len(set(times)) < len(times):
        return  # two people in one instant: the later row counts
    violations, rulings = list(history.violations), list(history.rulings)
    random.shuffle(violations)
    random.shuffle(rulings)
    shuffled = History(violations, rulings, history.requests)
    assert next_standing(ladder, shuffled, now) == next_standing(ladder, history, now)
