"""Models in Python, on toys: they reply as the engine does, stream the same, and score what they say they score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import charter
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.text.dialogue import assistant, system, user

ASKED = "Which bridge is the oldest?"


@pytest.fixture(scope="module")
def policy(checkpoints: Path) -> charter.Model:
    return charter.load(checkpoints / "policy")


def test_a_reply_is_what_its_stream_says_and_follows_its_seed(policy: charter.Model) -> None:
    whole = policy.reply(ASKED, max_tokens=12, seed=4)
    pieces = list(policy.stream(ASKED, max_tokens=12, seed=4))
    assert "".join(pieces) == whole and len(pieces) > 1
    assert policy.reply(ASKED, max_tokens=12, seed=5) != whole
    assert len({policy.reply(ASKED, max_tokens=12) for _ in range(4)}) > 1, "without a seed each is new"


def test_text_and_messages_are_the_same_prompt(policy: charter.Model) -> None:
    reply = policy.reply(ASKED, system="Be brief.", max_tokens=8, seed=1)
    assert reply == policy.reply([system("Be brief."), user(ASKED)], max_tokens=8, seed=1)
    assert reply != policy.reply(ASKED, max_tokens=8, seed=1)
    longer = [user("Hello."), assistant("Hi."), user(ASKED)]
    assert policy.reply(longer, max_tokens=8, seed=1) != policy.reply(ASKED, max_tokens=8, seed=1)


def test_the_models_own_decoding_is_the_default(checkpoints: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints / "policy", tmp_path / "greedy")
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_sample": False}))
    model = charter.load(folder)
    greedy = model.reply(ASKED, max_tokens=8, temperature=0)
    assert model.reply(ASKED, max_tokens=8, seed=1) == model.reply(ASKED, max_tokens=8, seed=2) == greedy
    drawn = {model.reply(ASKED, max_tokens=8, top_p=0.999, seed=seed) for seed in range(3)}
    assert len(drawn) == 3, "top_p alone means temperature 1"


def test_a_stream_that_is_left_early_leaves_a_model_that_answers(policy: charter.Model) -> None:
    for _ in policy.stream(ASKED, max_tokens=40, seed=2):
        break
    whole = policy.reply(ASKED, max_tokens=8, seed=3)
    assert whole == policy.reply(ASKED, max_tokens=8, seed=3)


def test_scores_are_those_of_the_engine_and_of_the_preference_model(policy: charter.Model, checkpoints: Path) -> None:
    replies = ["The one in town.", "Nobody knows."]
    local = LocalAssistant.open(checkpoints / "policy", policy.device, 1, policy.precision)
    assert policy.score(ASKED, replies) == local.score_replies([([user(ASKED)], replies)])[0]
    grader = charter.load(checkpoints / "grader")
    model = PreferenceModel.open(checkpoints / "grader", grader.device, grader.precision)
    rewards = model.score([([user(ASKED)], replies)])[0]
    assert grader.score(ASKED, replies) == rewards and grader.variant == "preference"
    assert policy.score(ASKED, []) == []
    assert all(score < 0 for score in policy.score(ASKED, replies)), "a mean of log-probabilities, in nats"


def test_what_is_wrong_is_said_in_one_line(policy: charter.Model, checkpoints: Path, here: Path) -> None:
    error = charter.CharterError
    with pytest.raises(error, match="there is no model runs/small/rl"):
        charter.load("runs/small/rl")
    with pytest.raises(error, match=r"is dialogues; charter.load needs checkpoint"):
        charter.load("runs/small/asked")
    with pytest.raises(error, match="unknown precision 'half'"):
        charter.load(checkpoints / "policy", precision="half")
    grader = charter.load(checkpoints / "grader")
    with pytest.raises(error, match="is a preference model: it scores replies and writes none"):
        grader.stream(ASKED)
    with pytest.raises(error, match="message 1, the user's, is empty"):
        policy.reply("  ")
    with pytest.raises(error, match="the last message is a turn of 'assistant'"):
        policy.reply([user("a"), assistant("b")])
    with pytest.raises(error, match="two system prompts"):
        policy.reply([system("a"), user("b")], system="c")
    with pytest.raises(error, match="the context holds 1024 with the reply"):
        policy.stream("word " * 2000)
    with pytest.raises(error, match="sampling needs temperature >= 0"):
        policy.reply(ASKED, temperature=-1)
    with pytest.raises(error, match=r"write model.score\(prompt, \[reply, other\]\)"):
        policy.score(ASKED, "one reply")
    server = charter.load("openai:http://127.0.0.1:9#small")
    with pytest.raises(error, match="is on a server, which can't score given texts"):
        server.score(ASKED, ["a"])


def test_a_model_says_what_it_is(policy: charter.Model, checkpoints: Path) -> None:
    place = checkpoints / "policy"
    assert repr(policy) == f"<Model {place}: policy, {policy.precision} on {policy.device}>"
