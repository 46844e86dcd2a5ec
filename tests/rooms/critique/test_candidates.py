"""Several candidates a round: how each is asked for, how the labeller's logits are joined, which one is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

import toys
from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.constitution import CritiquePrinciple, load
from charter.ground.constitution.wording import CRITIQUE, REVISION
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Message, user
from charter.ground.text.examples import read_transcripts
from charter.rooms.critique import candidates
from charter.rooms.critique import run as room
from charter.rooms.critique.settings import Settings, check
from toys import Scripted, dialogue

DRAFT = "Sure, here is how you do that."
CALM, LOUD = "Here is a calm and full reply.", "Here is a loud and full reply!"
ALL: tuple[Literal["critique", "revision", "answer"], ...] = ("critique", "revision", "answer")
PRINCIPLE = CritiquePrinciple("calm", ("manner", "calm"), "Where does it shout?", "Write it calmly.")


def work() -> list[tuple[dict[str, object], list[CritiquePrinciple]]]:
    return [({"id": "p0", "messages": [user("May I pass?")], "reply": DRAFT}, [PRINCIPLE])]


def say(messages: Sequence[Message], k: int) -> str:
    """Names by which of the three ways it was asked."""
    if messages[-1]["content"] == CRITIQUE:
        return "It shouts."
    if messages[-1]["content"] == REVISION:
        return f"Here is revision {k} {'after a critique' if len(messages) == 4 else 'alone'}."
    assert messages == [user("May I pass?\n\nWrite it calmly.")]
    return f"Here is answer {k} under the principle."


def test_each_way_makes_a_candidate_as_often_as_it_is_named() -> None:
    (made,) = candidates.make(Scripted(say), Settings(ways=(*ALL, "critique", "revision"), shots=0), (), work(), (1, 0))
    assert [(c["way"], c["critique"], c["revision"]) for c in made] == [
        ("critique", "It shouts.", "Here is revision 0 after a critique."),
        ("critique", "It shouts.", "Here is revision 1 after a critique."),
        ("revision", "", "Here is revision 0 alone."),
        ("revision", "", "Here is revision 1 alone."),
        ("answer", "", "Here is answer 0 under the principle."),
    ]
    critic = Scripted(say)
    (alone,) = candidates.make(critic, Settings(ways=("answer",), shots=0), (), work(), (1, 0))
    assert [c["way"] for c in alone] == ["answer"] and len(critic.asked) == 1, "no critique is made for nothing"


def test_an_answer_stands_under_the_principles_of_kept_rounds_too() -> None:
    critic = Scripted(lambda messages, k: CALM)
    again = CritiquePrinciple("again", ("manner",), "What is left?", "Say it so.", instruction="Say it once more.")
    candidates.make(critic, Settings(ways=ALL, shots=0), (), [(work()[0][0], [PRINCIPLE, again])], (1, 0))
    (answer,) = [m[0]["content"] for m in critic.asked if len(m) == 1]
    assert answer == "May I pass?\n\nWrite it calmly. Say it once more."
    others = [turn["content"] for m in critic.asked if len(m) > 1 for turn in m]
    assert others and not any("calmly" in text for text in others), "others ask for the drawn one alone"


def labeller(calm: float) -> Scripted:
    """Log-odds `calm` for the calm reply over every other, in both orders; a principle of tone weighs three times."""

    def rate(messages: Sequence[Message], letter: str) -> float:
        text = messages[-2]["content"]
        first, second = text.split("Options:\n")[1].split("\n")[:2]
        weight = 3.0 if "official letter" in text else 1.0
        return weight * calm / 2 * ((CALM in first) - (CALM in second)) * (1 if "A" in letter else -1)

    return Scripted(rate=rate)


def test_probabilities_are_averaged_over_all_principles_and_the_best_candidate_is_kept() -> None:
    desk = load(shipped("constitution_desk"))
    assert len(desk.comparisons) == 10
    asked = [(work()[0][0], [desk.critique("formal_tone")])]
    made = [
        [
            {"revision": "No.", "dropped": "empty"},
            {"revision": LOUD, "dropped": None},
            {"revision": CALM, "dropped": None},
        ]
    ]
    candidates.judge(labeller(0.8), asked, made, desk.comparisons)
    # official_letter gives a logit of 2.4, each of the nine others one of 0.8
    assert made[0][2]["better"] == pytest.approx((1 / (1 + math.exp(-2.4)) + 9 / (1 + math.exp(-0.8))) / 10)
    assert made[0][0]["better"] is None and made[0][1]["better"] == 0.5
    step = candidates.keep("formal_tone", made[0])
    assert step["revision"] == CALM and step["dropped"] is None and len(step["candidates"]) == 3
    candidates.judge(labeller(-0.8), asked, made, desk.comparisons)
    worse = candidates.keep("formal_tone", made[0])
    assert worse["revision"] == LOUD and worse["dropped"] == "worse", "no better than the reply before"
    assert candidates.keep("formal_tone", made[0][:1])["dropped"] == "empty"


def test_the_room_keeps_what_the_labeller_prefers(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def speak(messages: Sequence[Message], k: int) -> str:
        if len(messages) == 1 and "\n\n" in messages[0]["content"]:
            return CALM
        return "It shouts." if messages[-1]["content"] == CRITIQUE else LOUD

    monkeypatch.setattr(room, "open_assistant", lambda source, device, precision: Scripted(speak))
    monkeypatch.setattr(room, "open_labeller", lambda source, device, precision: labeller(0.8))
    rows = [dialogue(f"p{n}", f"May I pass, {n}?") for n in range(3)]
    inputs = Inputs(
        [
            toys.policy(checkpoints / "policy", "start"),
            toys.policy(checkpoints / "policy", "critic"),
            toys.policy(checkpoints / "policy", "labeller"),
            toys.given("prompts", toys.rows_file(tmp_path / "prompts.jsonl", rows)),
            toys.given("constitution", shipped("constitution_desk"), "constitution"),
            toys.given("shots", shipped("critique_shots")),
        ]
    )
    out = toys.workspace(tmp_path / "out")
    room.run(Settings(rounds=2, ways=ALL, shots=0, tags=("formal",)), inputs, out)
    for transcript in read_transcripts(out.path):
        first, second = transcript["rounds"]
        assert first["revision"] == CALM and first["way"] == "answer" and len(first["candidates"]) == 3
        assert second["dropped"] == "worse", "the loud ones lose against the calm reply, which is there already"
    counts = json.loads((out.path / "counts.json").read_text())
    assert counts["kept"] == 3 and counts["dropped_worse"] == 3


def test_several_candidates_need_a_labeller() -> None:
    assert "role labeller" in check(Settings(ways=ALL), {"critic"})
    assert not check(Settings(ways=ALL), {"critic", "labeller"})
