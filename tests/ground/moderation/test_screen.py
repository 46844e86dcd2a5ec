"""The screen: thresholds from data, what several classifiers come to, which action stands, and for whom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.steps import drain
from charter.ground.measure.intervals import wilson
from charter.ground.moderation.actions import LEVELS, Side
from charter.ground.moderation.classifiers.classifier import Conversation, Scores
from charter.ground.moderation.policy import Policy, shipped_policy
from charter.ground.moderation.screen import Screen
from charter.ground.moderation.thresholds import RELIEF, Thresholds, choose, choose_levels
from charter.ground.text.dialogue import assistant, system, user


class Said:
    """A classifier whose scores are written down by text."""

    def __init__(
        self, name: str, scores: Mapping[str, Scores], sides: frozenset[Side] = frozenset({"prompt", "reply"})
    ) -> None:
        self.name, self.version, self.scores, self.sides = name, f"{name}-1", scores, sides
        levels = choose_levels([i / 1000 for i in range(1000)])  # 0.99 and 0.95
        self.thresholds = Thresholds(
            classifier=self.version,
            prompt=levels,
            reply=levels,
            high_risk=choose_levels([i / 1000 for i in range(1000)]),
        )

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        return [self.scores[m[-1]["content"]] for m in conversations]

    def replies(self, items: Sequence[tuple[Conversation, str]]) -> list[Scores]:
        return [self.scores[reply] for _, reply in items]


SCORES = {
    "bomb": Scores(0.995, {"weapons": 0.8, "violence": 0.2}),
    "borderline": Scores(0.97, {"weapons": 0.8}),
    "bread": Scores(0.1, {"weapons": 0.8}),
    "cheat": Scores(0.995, {"academic": 1.0}),
    "rash": Scores(0.2, {"weapons": 1.0}, {"medical": 0.999, "legal": 0.1}),
    "bad rash": Scores(0.999, {"academic": 1.0}, {"medical": 0.999}),
    "vague": Scores(0.999),
}


def screen(policy: Policy | None = None) -> Screen:
    return Screen(policy or shipped_policy(), [Said("one", SCORES)])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.sampled_from([0.01, 0.05, 0.2]))
def test_no_more_than_the_target_share_of_harmless_texts_reach_a_threshold(scores: list[float], target: float) -> None:
    threshold = choose(scores, target)
    hits = sum(s >= threshold.value for s in scores)
    assert hits == threshold.hits <= target * len(scores)
    assert (threshold.low, threshold.high) == wilson(hits, len(scores)) and threshold.n == len(scores)
    lower = [s for s in scores if s < threshold.value]
    if lower:  # it is the lowest such: to let in the next score and all that equal it would be too many
        assert sum(s >= max(lower) for s in scores) > target * len(scores)


def test_every_group_keeps_its_target() -> None:
    levels = choose_levels([0.1] * 100, [0.5] * 100, [])
    assert levels.standard.value > 0.5 and levels.enhanced.n == 100
    with pytest.raises(CharterError, match="there are none"):
        choose_levels([], [])


def test_sensitivity_decides_and_the_verdict_says_why() -> None:
    blocked = screen().prompt([user("bomb")])
    assert (blocked.action, blocked.category, blocked.allowed) == ("block", "weapons", False)
    assert blocked.score >= blocked.threshold and "Weapons" in blocked.reason
    assert blocked.classifiers == {"one": "one-1"} and blocked.milliseconds > 0
    assert screen().prompt([user("borderline")]).action == "allow"
    assert screen().prompt([user("borderline")], "enhanced").action == "block"
    harmless = screen().prompt([user("bread")], "enhanced")
    assert (harmless.action, harmless.category, harmless.reason) == ("allow", "", "")


def test_actions_follow_the_policy_by_side_and_level() -> None:
    policy = shipped_policy()
    on_prompt = screen().prompt([user("cheat")])
    assert on_prompt.action == "safety_prompt" and on_prompt.safety_prompt == policy.category("academic").safety_prompt
    assert screen().prompt([user("cheat")], "enhanced").action == "block"
    on_reply = screen().reply([user("x")], "cheat")
    assert (on_reply.action, on_reply.safety_prompt, on_reply.side) == ("flag", "", "reply")


def test_high_risk_uses_get_their_disclosure_on_prompts_alone_and_the_stricter_action_stands() -> None:
    rule = shipped_policy().rule("medical")
    verdict = screen().prompt([user("rash")])
    assert (verdict.action, verdict.category, verdict.safety_prompt) == ("safety_prompt", "medical", rule.disclosure)
    assert screen().reply([user("x")], "rash").action == "allow"
    assert screen().prompt([user("bad rash")], "enhanced").category == "academic"


def test_any_classifier_suffices_each_by_its_own_threshold() -> None:
    second = Said("two", {**SCORES, "bread": Scores(0.9999, {"fraud": 0.9})})
    both = Screen(shipped_policy(), [Said("one", SCORES), second])
    verdict = both.prompt([user("bread")])
    assert verdict.action == "block" and verdict.category == "fraud"
    assert verdict.score == 0.9999 and set(verdict.classifiers) == {"one", "two"}
    of_replies = Said("three", {"bread": Scores(1.0, {"fraud": 1.0})}, frozenset({"reply"}))
    assert Screen(shipped_policy(), [Said("one", SCORES), of_replies]).prompt([user("bread")]).allowed


def test_a_classifier_that_tells_no_category_gets_the_strictest_answer() -> None:
    assert screen().prompt([user("vague")]).action == "block"


def test_what_a_policy_does_not_have_it_permits() -> None:
    policy = shipped_policy()
    without = policy.model_copy(
        update={"categories": tuple(c for c in policy.categories if c.id != "weapons"), "high_risk": ()}
    )
    assert screen(without).prompt([user("bomb")]).action == "allow"
    assert screen(without).prompt([user("rash")]).action == "allow"


def test_what_says_nothing_is_allowed_unread_and_an_opened_reply_is_read() -> None:
    one = screen()
    for verdict in (one.prompt([user(" ")]), one.prompt([]), one.reply([user("x")], "\n")):
        assert (verdict.action, verdict.score, verdict.reason) == ("allow", 0.0, "")
    mixed = one.replies([([user("x")], ""), ([user("x")], "bomb"), ([user("x")], " ")])
    assert [v.action for v in mixed] == ["allow", "block", "allow"]
    opened = Said("one", {**SCORES, "": SCORES["bomb"]})
    prefilled = Screen(shipped_policy(), [opened]).reply([user("x"), assistant("Mix it")], "")
    assert prefilled.action == "block", "what an opened turn says is part of the reply"


def test_a_classifier_that_keeps_nothing_is_followed_by_reading_again() -> None:
    one = screen()
    follow = one.follow([user("x")], "enhanced")
    for text in ("bread", " ", "borderline", "bomb"):
        assert drain(follow(text)) == one.reply([user("x")], text, "enhanced")
    of_prompts = Said("prompts", SCORES, frozenset({"prompt"}))
    assert drain(Screen(shipped_policy(), [of_prompts]).follow([user("x")])("bomb")).allowed


def test_many_at_once_and_from_many_threads_are_the_same_as_one_by_one() -> None:
    texts = list(SCORES) * 20
    one = screen()
    alone = [one.prompt([user(t)]) for t in texts]
    assert one.prompts([[user(t)] for t in texts]) == alone
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda t: one.prompt([user(t)]), texts)) == alone
    assert one.prompts([]) == [] == one.replies([])


def test_a_classifier_without_thresholds_is_refused_with_what_to_do() -> None:
    bare = Said("bare", SCORES)
    bare.thresholds = None  # type: ignore[assignment]
    with pytest.raises(CharterError, match="bare has no thresholds; measure it"):
        Screen(shipped_policy(), [bare])
    given_ones = Said("one", SCORES).thresholds
    assert Screen(shipped_policy(), [bare], {"bare-1": given_ones}).prompt([user("bomb")]).action == "block"
    partial = given_ones.model_copy(update={"reply": None})
    with pytest.raises(CharterError, match="lack reply"):
        Screen(shipped_policy(), [bare], {"bare-1": partial})
    with pytest.raises(CharterError, match="at least one classifier"):
        Screen(shipped_policy(), [])


class Reads(Said):
    """One that reads all turns."""

    def prompts(self, conversations: Sequence[Conversation]) -> list[Scores]:
        return [
            max((self.scores[m["content"]] for m in talk if m["content"].strip()), key=lambda s: s.violation)
            for talk in conversations
        ]


def test_a_blank_last_turn_hides_nothing() -> None:
    one = Screen(shipped_policy(), [Reads("one", SCORES)])
    for talk in ([user("bomb"), assistant("bread"), user(" ")], [system("bomb"), user(" ")], [assistant("bomb")]):
        assert drain(one.steps(talk)).action == "block" == one.prompt(talk).action
    assert drain(one.steps([user(" ")])).allowed and one.prompt([user(" ")]).allowed


def test_a_milder_category_hides_no_stricter_one() -> None:
    """The surest place is of a category that is flagged, another one of a category that is blocked."""
    policy = shipped_policy()
    actions = {c.id: c.action("prompt", "standard") for c in policy.categories}
    flagged = next(id for id, action in actions.items() if action == "flag")
    blocked = next(id for id, action in actions.items() if action == "block")
    worst = Scores(0.999, {flagged: 1.0}, {}, (Scores(0.991, {blocked: 1.0}), Scores(0.5, {blocked: 1.0})))
    verdict = Screen(policy, [Said("one", {"x": worst})]).prompt([user("x")])
    assert (verdict.action, verdict.category, verdict.score) == ("block", blocked, 0.991)
    alone = Scores(0.999, {flagged: 1.0}, {}, (Scores(0.5, {blocked: 1.0}),))
    assert Screen(policy, [Said("one", {"x": alone})]).prompt([user("x")]).action == "flag"


def odds(score: float) -> float:
    return math.log(score / (1 - score))


def test_the_running_score_by_hand() -> None:
    levels = choose_levels([i / 1000 for i in range(1000)])
    at, reference = levels.standard.value, levels.enhanced.value
    assert levels.running_score([0.97]) == pytest.approx(0.97), "a single turn keeps its score"
    assert levels.running_score([0.1, 0.2]) == 0
    two = levels.running_score([0.97, 0.98])
    assert odds(two) == pytest.approx(odds(0.97) + odds(0.98) - odds(reference))
    assert levels.running_score([0.97, 0.1, 0.98]) == pytest.approx(
        1
        / (
            1
            + math.exp(
                -(odds(reference) + max(0, odds(0.97) - odds(reference) - RELIEF) + odds(0.98) - odds(reference))
            )
        )
    ), "idle talk between takes back RELIEF at most"
    assert levels.running_score([0.97] * 4) > at > levels.running_score([0.97])
    assert 0 <= levels.running_score([0.0, 1.0, 1.0]) <= 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1))
def test_a_conversation_scores_no_less_than_its_last_turn_where_that_counts(turns: list[float], last: float) -> None:
    levels = choose_levels([i / 1000 for i in range(1000)])
    score = levels.running_score([*turns, last])
    if last >= levels.enhanced.value:
        assert score >= min(last, 1 - 1e-6) - 1e-9
    assert score <= 1


def test_turns_that_each_stay_below_the_threshold_are_stopped_together() -> None:
    turns = {
        "once": Scores(0.97, {"weapons": 1.0}, turns=(0.97,)),
        "often": Scores(0.97, {"weapons": 1.0}, turns=(0.97, 0.96, 0.97, 0.965)),
        "idle": Scores(0.97, {"weapons": 1.0}, turns=(0.1, 0.2, 0.97)),
    }
    watch = Screen(shipped_policy(), [Said("one", turns)])
    assert watch.prompt([user("once")]).allowed and watch.prompt([user("idle")]).allowed
    verdict = watch.prompt([user("often")])
    assert (verdict.action, verdict.category) == ("block", "weapons") and verdict.score >= verdict.threshold


TRUSTED = {
    "hello": Scores(0.1, {"fraud": 1.0}),
    "rude": Scores(0.991, {"hate": 1.0}),
    "sell": Scores(0.992, {"fraud": 1.0}),
    "sell hello": Scores(0.992, {"fraud": 1.0}),
    "cheat them": Scores(0.999, {"fraud": 1.0}),
    "cheat them hello": Scores(0.5, {"fraud": 1.0}),
    "arm": Scores(0.991, {"weapons": 1.0}),
    "arm hello": Scores(0.5, {"weapons": 1.0}),
    "decoy": Scores(0.992, {"hate": 1.0}, places=(Scores(0.991, {"weapons": 1.0}),)),
    "decoy hello": Scores(0.1, {"hate": 1.0}),
    "law": Scores(0.1, {"fraud": 1.0}, {"legal": 0.999}),
    "law hello": Scores(0.1, {"fraud": 1.0}, {"legal": 0.999}),
    "name": Scores(0.1, {"weapons": 1.0}),
    "name hello": Scores(0.991, {"weapons": 1.0}),
    "begin": Scores(0.1, {"fraud": 1.0}),
    "begin hello": Scores(0.991, {"fraud": 1.0}),
    "sell rude": Scores(0.5, {"fraud": 1.0}),
}


@pytest.mark.parametrize(
    ("trusted", "turn", "category"),
    [
        pytest.param("sell", "hello", "", id="above the threshold, below halfway to 1"),
        pytest.param("cheat them", "hello", "fraud", id="clear"),
        pytest.param("arm", "hello", "weapons", id="severe"),
        pytest.param("decoy", "hello", "weapons", id="a milder one hides no severe one"),
        pytest.param("law", "hello", "", id="no disclosure for an operator's words"),
        pytest.param("name", "hello", "weapons", id="only together with the turn"),
        pytest.param("begin", "hello", "fraud", id="a mild one only together with the turn"),
        pytest.param("sell", "rude", "hate", id="the turn itself counts as ever"),
        pytest.param("", "rude", "hate", id="no system text"),
    ],
)
def test_trusted_text_counts_where_it_is_severe_or_clear(trusted: str, turn: str, category: str) -> None:
    judging = Screen(shipped_policy(), [Said("one", TRUSTED)])
    for level in LEVELS:
        verdict = drain(judging.steps([user(turn)], level, trusted=trusted))
        assert (verdict.category, verdict.allowed) == (category, not category)


def test_another_language_is_judged_at_the_standard_level_and_its_english_lines_as_enhanced() -> None:
    german = "Schreibe mir bitte, wie ich das Haus von einem Freund finde."
    classifier = Said("one", SCORES | {
        german: Scores(0.97, {"weapons": 0.8}), f"{german}\nborderline": Scores(0.97, {"weapons": 0.8}),
        f"{german}\nbread": Scores(0.97, {"weapons": 0.8}), f"bomb\n{german}": Scores(0.995, {"weapons": 0.8}),
        f"bread {german}": Scores(0.97, {"weapons": 0.8}),
    })  # fmt: skip
    one = Screen(shipped_policy(), [classifier])
    for text, stopped in ((german, False), (f"{german}\nborderline", True), (f"{german}\nbread", False),
                          (f"bomb\n{german}", True), ("borderline", True)):  # fmt: skip
        verdict = one.prompt([user(text)], "enhanced")
        assert (verdict.action == "block") == stopped, text
        assert drain(one.steps([user(text)], "enhanced")).action == verdict.action
        assert one.prompt([user(text)]).action == ("block" if "bomb" in text else "allow")
    trusted = drain(one.steps([user(german)], "enhanced", "", "bread"))
    assert trusted.action == "allow", "also behind a trusted system text"
