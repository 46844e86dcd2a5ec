"""What a reply earns: several models, rules, labels, and prices of refusing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import toys
from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.settings.room import Filled, Given
from charter.ground.text.dialogue import Dialogue, user
from charter.rooms.rl import run as room
from charter.rooms.rl.prompts import Prompt, read_round_prompts
from charter.rooms.rl.reward import Reward, check_labels, judges
from charter.rooms.rl.rollout import Episode, Reply, all_replies
from charter.rooms.rl.settings import Keep, Rewards, Rollout, Rules, Settings, Steer, check
from toys import dialogue

ROLLOUT = Rollout(prompts=4, replies=2, max_tokens=6)


def prompt(source: str = "red", p_refuse: float | None = None) -> Prompt:
    return Prompt(Dialogue("a", (user("Ask?"),)), source, p_refuse)


def reply(*scores: float, refused: bool = False, stop: str = "end", text: str = "Yes.", tokens: int = 1) -> Reply:
    episode_reply = Reply([1] * tokens, text, stop, [], [], refused=refused)
    episode_reply.scores = dict(enumerate(scores))
    return episode_reply


def episode(source_prompt: Prompt, *replies: Reply) -> Episode:
    return Episode(source_prompt, [1], list(replies))


def reward(graders: int = 1, kept: dict[str, Any] | None = None, **settings: Any) -> Reward:
    return Reward(Rewards(**settings), 0.0, graders, kept or {})


def test_each_model_is_standardised_by_itself_and_the_least_counts() -> None:
    rounds = [
        episode(prompt(), reply(1.0, 100.0), reply(3.0, 300.0)),
        episode(prompt(), reply(1.0, 300.0), reply(3.0, 100.0)),
    ]
    assert reward(2).of(rounds) == pytest.approx([-1, 1, 0, 0])
    assert reward(2, join="min").of(rounds) == pytest.approx([-1, 1, -1, -1])
    assert reward(2, weights=(3.0, 1.0)).of(rounds) == pytest.approx([-1, 1, -0.5, 0.5])
    assert reward(2, whiten="none", join="min").of(rounds) == [1, 3, 1, 3]


def test_a_source_is_judged_by_the_models_that_are_named_for_it() -> None:
    settings = Rewards(sources={"harmless": (0,), "red": (1,)})
    prompts = [prompt("look", 0.0), prompt("red"), prompt("other")]
    assert [judges(one, settings.sources, 2) for one in prompts] == [[0], [1], [0, 1]]
    assert judges(prompt("red", 0.0), settings.sources, 2) == [1], "the source counts before its group"
    answer, unsafe = reply(5.0), reply(0.0)
    unsafe.scores = {1: 7.0}
    rounds = [episode(prompts[0], answer, reply(3.0)), episode(prompts[1], unsafe)]
    judged = Reward(settings, 0.0, 2, {})
    assert judged.of(rounds) == pytest.approx([1, -1, 0])
    assert [scale.count for scale in judged.scales] == [2, 1], "a model's scale knows only what it judges"


def test_within_prompts_a_prompt_with_equal_scores_gives_nothing() -> None:
    rounds = [
        episode(prompt(), reply(0.1), reply(0.1), reply(0.1)),
        episode(prompt(), reply(8.0), reply(6.0), reply(4.0)),
    ]
    earned = reward(whiten="prompt").of(rounds)
    assert earned[:3] == [0, 0, 0]
    spread = (8 / 6) ** 0.5  # deviations 0, 0, 0, 2, 0, -2
    assert earned[3:] == pytest.approx([2 / spread, 0, -2 / spread])


def test_rules_and_missing_ends_add_up() -> None:
    rules = Rules(refusal=1.0, cut=0.25, loop=2.0, length=0.5, length_over=100)
    looping = reply(stop="length", text="and so on " * 12, tokens=140)
    rounds = [
        episode(prompt("look", 0.0), reply(), reply(refused=True), looping),
        episode(prompt(), reply(refused=True)),
    ]
    earned = Reward(Rewards(rules=rules), 0.125, 0, {}).of(rounds)
    assert earned == pytest.approx([1, -1, 1 - 0.25 - 2 - 0.2 - 0.125, 0])
    assert [r.rules for r in all_replies(rounds)] == pytest.approx([1, -1, 1 - 0.25 - 2 - 0.2, 0])


def refusals(shares: Sequence[tuple[float, float]]) -> list[list[Episode]]:
    """Rounds of four replies to a harmless and four to an unsafe prompt, with such shares of refusals."""

    def four(share: float) -> list[Reply]:
        return [reply(refused=n < 4 * share) for n in range(4)]

    return [[episode(prompt("look", 0.0), *four(a)), episode(prompt("red"), *four(b))] for a, b in shares]


def test_a_price_moves_by_what_the_share_is_off_and_never_below_zero() -> None:
    steer = (Steer(target=0.25, rate=0.5), Steer(source="red", side="least", target=0.75, rate=1.0))
    steered = reward(graders=0, steer=steer)
    paths, earned = [], []
    for episodes in refusals([(1.0, 0.0), (0.5, 0.5), (0.0, 1.0), (0.0, 1.0), (0.75, 1.0)]):
        earned.append(steered.of(episodes))
        steered.move(episodes)
        paths.append(list(steered.mu))
    assert [harmless for harmless, _ in paths] == pytest.approx([0.375, 0.5, 0.375, 0.25, 0.5])
    assert [unsafe for _, unsafe in paths] == pytest.approx([0.75, 1.0, 0.75, 0.5, 0.25])
    assert earned[0] == [0.0] * 8, "prices start at 0"
    assert earned[1] == pytest.approx([-0.375, -0.375, 0, 0, 0.75, 0.75, 0, 0])
    assert steered.figures() == pytest.approx({"mu_of_harmless": 0.5, "mu_of_red": 0.25})
    again = reward(graders=0, kept=steered.state(), steer=steer)
    assert again.mu == steered.mu
    fallen = reward(graders=0, kept={"mu": [0.1]}, steer=(Steer(target=0.5, rate=0.5),))
    fallen.move(refusals([(0.0, 0.0)])[0])
    assert fallen.mu == [0.0]
    fallen.move([episode(prompt("red"), reply(refused=True))])
    assert fallen.mu == [0.0], "without such prompts a price stays"


def test_a_price_may_start_above_zero_and_a_resumed_run_keeps_its_own() -> None:
    steer = (Steer(target=0.25, rate=0.5, start=2.0),)
    (episodes,) = refusals([(0.5, 0.5)])
    steered = reward(graders=0, steer=steer)
    assert steered.of(episodes) == pytest.approx([-2.0, -2.0, 0, 0, 0, 0, 0, 0])
    steered.move(episodes)
    assert steered.mu == pytest.approx([2.125])
    assert reward(graders=0, kept=steered.state(), steer=steer).mu == steered.mu


@pytest.fixture
def inputs(checkpoints: Path, tmp_path: Path) -> Inputs:
    red = [dialogue(f"r{n}", f"Ask red {n}?", "Unused.") for n in range(3)]
    look = [dialogue(f"l{n}", f"Ask look {n}?", "Unused.") for n in range(3)]
    look[1]["p_refuse"] = 0.75
    return Inputs(
        [
            toys.policy(checkpoints / "policy"),
            toys.preference(checkpoints / "reward", "reward"),
            toys.preference(checkpoints / "grader", "reward"),
            toys.given("prompts", toys.rows_file(tmp_path / "red.jsonl", red)),
            toys.given("harmless", toys.rows_file(tmp_path / "look.jsonl", look)),
        ]
    )


def test_labels_come_from_the_role_and_rows_count_before_it(inputs: Inputs, tmp_path: Path) -> None:
    prompts = read_round_prompts(inputs)
    assert [p.p_refuse for p in prompts] == [None, None, None, 0.0, 0.75, 0.0]
    assert [p.group for p in prompts] == ["prompts"] * 3 + ["harmless", "prompts", "harmless"]
    for wrong in (1.5, "no", True):
        row = dialogue("x", "Ask?", p_refuse=wrong)
        bad = Inputs([toys.given("prompts", toys.rows_file(tmp_path / "bad.jsonl", [row]))])
        with pytest.raises(CharterError, match=r"^bad\.jsonl: row x has p_refuse .*; write a probability"):
            read_round_prompts(bad)


def test_a_run_logs_each_model_and_follows_its_prices(inputs: Inputs, checkpoints: Path, tmp_path: Path) -> None:
    chosen = Rewards(
        join="min",
        sources={"look": (1,)},
        rules=Rules(refusal=0.5, cut=0.1),
        steer=(Steer(side="least", target=0.5), Steer(source="red", target=0.01)),
    )
    settings = Settings(steps=3, lr=1e-3, rollout=ROLLOUT, microbatch_tokens=128, reward=chosen)
    out = toys.workspace(tmp_path / "out")
    room.run(settings, inputs, out)
    log = read_log(out.path)
    assert {"reward_by_reward", "reward_by_grader", "rules", "objective", "mu_of_red"} <= log[0].keys()
    assert log[0]["mu_of_harmless"] == log[0]["mu_of_red"] == 0
    moved = 0
    for before, after in pairwise(log):
        if (share := before.get("refused_harmless")) is not None:
            moved += share != 0.5
            expected = max(0.0, before["mu_of_harmless"] + 0.5 * (0.5 - share))
            assert after["mu_of_harmless"] == pytest.approx(expected)
    assert moved
    policy, critic, graders, sampler = room.open_models(settings, inputs, toys.workspace(tmp_path / "w"))
    episodes = sampler.sample(policy, critic, read_round_prompts(inputs), 0)
    graders.score(episodes)
    models = [PreferenceModel.open(checkpoints / name) for name in ("reward", "grader")]
    for one in episodes:
        expected_by = {1} if one.prompt.source == "look" else {0, 1}
        for r in one.replies:
            assert r.scores.keys() == expected_by
            for number, score in r.scores.items():
                exact = models[number].score([(one.dialogue.messages, [r.text])])[0][0]
                assert score == pytest.approx(exact, abs=1e-4)


def test_rules_alone_can_reward(inputs: Inputs, tmp_path: Path) -> None:
    entries = Inputs([i for i in inputs if i.role != "reward"])
    rollout = ROLLOUT.model_copy(update={"max_tokens": 3})
    settings = Settings(steps=1, rollout=rollout, reward=Rewards(rules=Rules(cut=1.0)))
    out = toys.workspace(tmp_path / "out")
    room.run(settings, entries, out)
    row = read_log(out.path)[0]
    assert row["reward"] is None and row["objective"] == row["rules"] == -row["cut"] < 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reward": Rewards(rules=Rules(refusal=1.0))}, r"reward\.rules\.refusal needs prompts with a label"),
        ({"reward": Rewards(steer=(Steer(),))}, r"reward\.steer harmless: there are no such prompts"),
        ({"keep": Keep(round="best", most_refusal=0.1)}, r"keep\.most_refusal needs harmless prompts"),
    ],
)
def test_what_speaks_of_prompts_that_arent_there_is_refused(
    inputs: Inputs, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    unlabelled = Inputs([i for i in inputs if i.role != "harmless"])
    settings = Settings(rollout=ROLLOUT).model_copy(update=changes)
    with pytest.raises(CharterError, match=words):
        room.run(settings, unlabelled, toys.workspace(tmp_path / "out"))


def filled(reward: int = 1, **more: int) -> Filled:
    counts = {"reward": reward, "prompts": 1, **more}
    return {role: [Given(f"{role}{n}") for n in range(count)] for role, count in counts.items()}


@pytest.mark.parametrize(
    ("settings", "roles", "words"),
    [
        ({}, filled(0), "nothing rewards a reply"),
        ({"reward": {"weights": [1.0]}}, filled(2), "has 1 numbers for 2 reward models"),
        ({"reward": {"weights": [0.0, 0.0]}}, filled(2), "are all 0"),
        ({"reward": {"sources": {"prompts0": [2]}}}, filled(2), "names model 2"),
        ({"reward": {"sources": {"prompts0": []}}}, filled(2), "leaves no model that counts"),
        ({"reward": {"sources": {"elsewhere": [0]}}}, filled(), "names elsewhere, which no prompts have"),
        ({"reward": {"steer": {"source": "gone"}}}, filled(), "names gone, which no prompts have"),
        ({"keep": {"round": "best"}}, filled(), "give heldout_reward, or set reward.rules"),
        ({}, filled(heldout_prompts=1), "are read only by checks"),
        ({"keep": {"round": "best"}}, filled(heldout_reward=1, heldout_harmless=1), "give these too"),
    ],
)
def test_settings_and_roles_that_contradict_each_other(settings: dict[str, Any], roles: Filled, words: str) -> None:
    assert words in check(Settings.model_validate(settings), roles)


def test_settings_and_roles_that_agree() -> None:
    sourced = {"weights": [1.0, 2.0], "sources": {"harmless": [0], "prompts0": [1]}, "steer": {"target": 0.1}}
    assert check(Settings.model_validate({"reward": sourced}), filled(2)) == ""
    assert check(Settings.model_validate({"reward": {"rules": {"loop": 1}}}), filled(0)) == ""
    best = {"keep": {"round": "best", "most_refusal": 0.1}}
    assert check(Settings.model_validate(best), filled(1, heldout_reward=1, heldout_prompts=1)) == ""
    assert check(Settings.model_validate(best | {"reward": {"rules": {"refusal": 1}}}), filled(1)) == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"reward": {"join": "min", "weights": [1, 2]}}, "the least score has no weights"),
        ({"reward": {"steer": [{}, {"side": "least"}]}}, "give each source one price"),
        ({"keep": {"patience": 2}}, "patience need checks"),
    ],
)
def test_senseless_rewards_and_checks_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings.model_validate(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"baseline": "others", "rollout": {"replies": 2}},
        {"reward": {"steer": {"target": 0.1}, "sources": {"red": [0]}}, "keep": {"round": "best"}},
    ],
)
def test_settings_read_back_from_a_manifest_are_the_same(settings: dict[str, Any]) -> None:
    validated = Settings.model_validate(settings)
    assert Settings.model_validate(validated.model_dump(mode="json")) == validated


def test_the_answer_rule_reads_the_accepted_answers_of_the_prompt() -> None:
    asked = Prompt(Dialogue("a", (user("Who won?"),), meta={"accepted": ["Hare"]}), "answers")
    judged = reward(0, rules=Rules(answer=2.0, target=0.5))
    rounds = [episode(asked, reply(text="Hare."), reply(text="Fox."), reply(text="I don't know."))]
    assert judged.of(rounds) == [2, -2, 0]
    assert Rules(answer=1.0).any and not Rules(target=0.9).any


def test_the_answer_rule_needs_prompts_with_answers() -> None:
    settings = Settings(reward=Rewards(rules=Rules(answer=1.0)))
    with pytest.raises(CharterError, match=r"reward\.rules\.answer needs prompts with meta\.accepted"):
        check_labels([prompt()], [], settings)
