"""The ladder of enforcement as data and as one pure function from an account's history to its level.

Violations are weighed by the severity of their category and added up over a window of days. The sum raises an account
from good over warned, enhanced (stricter filters) and throttled (a fraction of its limits) to suspended. A clean period
without a violation lifts one level, and the next one another. An upheld violation weighs more, a dismissed one nothing.
From those that nobody has judged, the expected number of false alarms in as many harmless requests is subtracted: else
an account with many requests would be throttled by classifiers' errors alone. This counts each request that a
classifier has read so far, once. It subtracts a share at most, and nothing of severe violations: harmless requests
don't excuse harmful ones.

A stored level falls only by a clean period, a person's decision or a dismissed flag.

An end user named by requests climbs by separate rules, which act first: only that user is warned, filtered, throttled
and suspended. The user adds at most a share to the organisation's sum, so that one user of a platform can't get all of
it suspended; a caller that names a new user in each request adds as many shares.

No machine punishes alone where it matters: an administrator's account is lowered by people alone, and before a
suspension the rule asks a person, unless severe violations with high scores repeat (`suspend_severe`).

A person's decision holds for one clean period: until then the rule only asks, and earlier violations no longer count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

from pydantic import Field, model_validator

from charter.ground.moderation.policy import Policy, Severity
from charter.ground.settings.frozen import Frozen

Level = Literal["good", "warned", "enhanced", "throttled", "suspended"]
LEVELS: tuple[Level, ...] = get_args(Level)
ENHANCED, THROTTLED, SUSPENDED = (LEVELS.index("enhanced"), LEVELS.index("throttled"), LEVELS.index("suspended"))
DAY = 86_400.0
ROUNDING = 1e-6  # error of a sum after adding and subtracting weights


class Weights(Frozen):
    """What one violation weighs, by the severity of its category."""

    low: float = Field(0.5, ge=0, description="of low severity")
    medium: float = Field(1.0, ge=0, description="of medium severity, and of categories that no policy names now")
    high: float = Field(2.0, ge=0, description="of high severity")
    severe: float = Field(4.0, ge=0, description="of severe ones")


class Steps(Frozen):
    """The rules by which an account rises and falls: the weights of violations, and the levels of their sum."""

    window_days: float = Field(30.0, gt=0, description="days over which violations add up")
    clean_days: float = Field(30.0, gt=0, description="days without a violation after which one level is lifted")
    warned: float = Field(5.0, gt=0, description="sum of weights at which there is a warning")
    enhanced: float = Field(10.0, gt=0, description="sum at which the stricter filters apply")
    throttled: float = Field(20.0, gt=0, description="sum at which limits shrink")
    suspended: float = Field(40.0, gt=0, description="sum at which requests are to be refused")
    weights: Weights = Field(Weights(), description="what violations weigh")
    forgiven: float = Field(
        0.01, ge=0, description="weight taken off for each request that was checked, for classifiers' errors"
    )
    forgiven_most: float = Field(
        0.25, ge=0, le=1, description="the largest share of the sum that is taken off; of severe ones none is"
    )
    throttle: float = Field(0.25, gt=0, le=1, description="share of the limits that is left when throttled")
    suspend_alone: bool = Field(False, description="suspend without asking a person")
    suspend_severe: int = Field(
        0,
        ge=0,
        description="severe violations in prompts, each with at least suspend_score, after which the rule may suspend "
        "without asking a person; 0: never",
    )
    suspend_score: float = Field(0.99, ge=0, le=1, description="score from which such a violation counts")

    @model_validator(mode="after")
    def _steps_rise(self) -> Steps:
        steps = (self.warned, self.enhanced, self.throttled, self.suspended)
        if list(steps) != sorted(steps):
            raise ValueError(
                "the sums must not fall from warned over enhanced and throttled to suspended; got "
                + ", ".join(f"{step:g}" for step in steps)
            )
        return self


class UserSteps(Steps):
    """The rules for one end user of an organisation, named by its requests. They act before the organisation's
    rules."""

    warned: float = Field(3.0, gt=0, description="sum of weights at which an end user is warned")
    enhanced: float = Field(6.0, gt=0, description="sum at which the stricter filters apply to the user")
    throttled: float = Field(10.0, gt=0, description="sum at which the user's limits shrink")
    suspended: float = Field(16.0, gt=0, description="sum at which the user's requests are refused")
    throttle: float = Field(
        0.05, gt=0, le=1, description="share of the key's limits that a throttled end user may take"
    )
    suspend_severe: int = Field(
        10, ge=0, description="as for organisations: so many severe violations of one end user suspend it"
    )
    share: float = Field(4.0, gt=0, description="the most that one end user adds to the sum of the organisation")


class Ladder(Steps):
    """The rules of a service, for organisations, and for their end users."""

    state: Literal["on", "off"] = Field("on", description="off: violations are logged, and no account has a standing")
    users: UserSteps = Field(UserSteps(), description="of end users, by metadata.user_id or user")
    severities: dict[str, Severity] = Field({}, description="severity by category; the service fills it in")
    permitted: tuple[str, ...] = Field((), description="high-risk uses, which are no violations; filled in too")
    reply: float = Field(0.5, ge=0, le=1, description="what a violation in a reply counts of one in a prompt")
    upheld: float = Field(2.0, ge=1, description="how often a violation counts that a person upheld")

    def for_users(self) -> Ladder:
        """The same with the rules for one end user."""
        return self.model_copy(update={name: getattr(self.users, name) for name in Steps.model_fields})

    def under(self, policy: Policy) -> Ladder:
        """This ladder with the severities of a policy's categories."""
        severities = {category.id: category.severity for category in policy.categories}
        permitted = tuple(rule.id for rule in policy.high_risk)
        return self.model_copy(update={"severities": severities, "permitted": permitted})

    def severity(self, category: str) -> Severity | Literal[""]:
        """The severity of a category of the policy in force; "" if it has none."""
        return self.severities.get(category, "")

    def weight(self, category: str, side: str, upheld: bool = False, severity: str = "") -> float:
        """The weight of one violation. `severity`: its category's at that time; default: the present one."""
        if category in self.permitted:
            return 0.0
        by_severity: float = getattr(self.weights, severity or self.severity(category) or "medium")
        return by_severity * (self.reply if side == "reply" else 1.0) * (self.upheld if upheld else 1.0)

    def reached(self, total: float) -> int:
        """The place in LEVELS that a sum of weights reaches."""
        steps = (self.warned, self.enhanced, self.throttled, self.suspended)
        return sum(total >= step - ROUNDING for step in steps)


@dataclass(frozen=True, slots=True)
class Violation:
    """A violation of an account: its time, its weight, and whether a person upheld it. `user`: the end user who did it,
    whose violations together weigh at most a share; "" if none is named. `severe`: whether its category is. `score`: of
    a prompt, by the classifier; 0 of a reply."""

    at: float
    weight: float
    upheld: bool = False
    user: str = ""
    severe: bool = False
    score: float = 0.0

    @property
    def stands(self) -> bool:
        """Whether none of it is forgiven."""
        return self.upheld or self.severe


@dataclass(frozen=True, slots=True)
class Ruling:
    """A level set at a time."""

    at: float
    level: Level


@dataclass(frozen=True, slots=True)
class History:
    """Everything that an account's level depends on, in any order. `rulings`: of people. `requests`: times, and how
    many requests a classifier read then. `stood`: the level that the rule stored last, None if a person has set one
    since; it doesn't count if a flag was `dismissed` since. `spared`: the account is an administrator's, which the rule
    never lowers: it asks a person."""

    violations: Sequence[Violation] = ()
    rulings: Sequence[Ruling] = ()
    requests: Sequence[tuple[float, int]] = ()
    stood: Ruling | None = None
    dismissed: bool = False
    spared: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """An account's standing: its level, the sum of the window less what is forgiven, when one level is lifted if
    nothing happens (None at good), the level that the rule would set but needs a person for (None if it asks nothing),
    and until when the last person's decision holds."""

    level: Level
    total: float
    lifts: float | None
    asks: Level | None
    held: float | None = None


class _Climb:
    """An account on the ladder while its history is replayed."""

    def __init__(self, ladder: Ladder, requests: Sequence[tuple[float, int]], spared: bool) -> None:
        self.spared = spared
        self.ladder, self.clean, self.window = ladder, ladder.clean_days * DAY, ladder.window_days * DAY
        self.level, self.since, self.asks = 0, 0.0, 0
        self.held: float | None = None
        self.recent: deque[Violation] = deque()
        self.sums = {
            True: 0.0,
            False: 0.0,
        }  # of upheld or severe violations, and of those that may be a classifier's error
        self.by_user: dict[str, dict[bool, float]] = {}  # the same of each end user, before its share is cut
        in_order = sorted(requests)
        self.times = [at for at, _ in in_order]
        self.counts = [0, *accumulate(count for _, count in in_order)]

    def pass_to(self, now: float) -> None:
        """Lifts a level for each clean period since the last event."""
        while self.level and self.since + self.clean <= now:
            self.level, self.since, self.asks = self.level - 1, self.since + self.clean, 0
        if self.held is not None and self.held <= now:
            self.held = None
        while self.recent and self.recent[0].at <= now - self.window:
            violation = self.recent.popleft()
            self._add(violation, -violation.weight)

    def total(self, now: float) -> float:
        """The sum of the window that ends now, less what its requests forgive."""
        requests = self.counts[bisect_right(self.times, now)] - self.counts[bisect_right(self.times, now - self.window)]
        doubtful = max(0.0, self.sums[False])
        forgiven = min(self.ladder.forgiven * requests, self.ladder.forgiven_most * doubtful)
        return self.sums[True] + doubtful - forgiven

    def violate(self, violation: Violation) -> None:
        if not violation.weight:
            return
        self.recent.append(violation)
        self._add(violation, violation.weight)
        self.since = violation.at
        reached = self.ladder.reached(self.total(violation.at))
        may = 0 if self.spared else reached if self._may_suspend() else min(reached, THROTTLED)
        if self.held is None:
            self.level = max(self.level, may)
        self.asks = reached if reached > self.level else 0

    def _may_suspend(self) -> bool:
        """Whether the rule may suspend without a person."""
        rules = self.ladder
        clear = sum(violation.severe and violation.score >= rules.suspend_score for violation in self.recent)
        return rules.suspend_alone or 0 < rules.suspend_severe <= clear

    def rule(self, ruling: Ruling) -> None:
        self.level, self.since, self.asks = LEVELS.index(ruling.level), ruling.at, 0
        self.held = ruling.at + self.clean
        self.recent.clear()
        self.sums, self.by_user = {True: 0.0, False: 0.0}, {}

    def stand(self, stood: Ruling) -> None:
        """Keeps the stored level, whatever the history gives now."""
        if LEVELS.index(stood.level) > self.level and not self.spared:
            self.level, self.since = LEVELS.index(stood.level), max(self.since, stood.at)

    def _add(self, violation: Violation, weight: float) -> None:
        """Adds a weight to the sums, as far as it changes its user's share."""
        if not violation.user:
            self.sums[violation.stands] += weight
            return
        user_sums = self.by_user.setdefault(violation.user, {True: 0.0, False: 0.0})
        before = _cut(user_sums, self.ladder.users.share)
        user_sums[violation.stands] += weight
        for kind, share in _cut(user_sums, self.ladder.users.share).items():
            self.sums[kind] += share - before[kind]


def _cut(sums: Mapping[bool, float], most: float) -> dict[bool, float]:
    """The part of one end user's sums that counts: `most` in all, standing violations first."""
    stands = min(most, sums[True])
    return {True: stands, False: min(most - stands, sums[False])}


def next_standing(ladder: Ladder, history: History, now: float) -> Outcome:
    """The standing of an account with this history at a time; later events don't count.

    One more violation never gives a lower level, and one less never a higher one.
    """
    if ladder.state == "off":
        return Outcome(LEVELS[0], 0.0, None, None)
    climb = _Climb(ladder, history.requests, history.spared)
    stood = None if history.dismissed else history.stood
    for event in _in_order(history.violations, history.rulings, stood):
        if event.at > now:
            break
        climb.pass_to(event.at)
        if isinstance(event, Violation):
            climb.violate(event)
        elif event is stood:
            climb.stand(event)
        else:
            climb.rule(event)
    climb.pass_to(now)
    return Outcome(
        LEVELS[climb.level],
        round(climb.total(now), 6),
        climb.since + climb.clean if climb.level else None,
        LEVELS[climb.asks] if climb.asks > climb.level else None,
        climb.held,
    )


def _in_order(
    violations: Iterable[Violation], rulings: Iterable[Ruling], stood: Ruling | None
) -> list[Violation | Ruling]:
    """By time; what happened in the instant of a person's decision was before it, and what stood comes last."""
    events = (*violations, *rulings, *([stood] if stood else ()))
    return sorted(events, key=lambda event: (event.at, isinstance(event, Ruling), event is stood))
