"""Modes of one model compared by simulated raters: names say the mode, rejection is what the ranker likes best."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import toys
from charter.ground.artifact.errors import CharterError, Waiting
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.progress import SilentProgress
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.sampling_strategy import SamplingStrategy
from charter.ground.settings.execution import Execution
from charter.ground.settings.recipe import load_recipe
from charter.ground.text.records import read_comparisons
from charter.runner.execute import execute
from charter.runner.plan import make_plan
from charter_service.arena import pairs as pairs_module
from charter_service.arena import run as room
from charter_service.arena.settings import Settings, check
from charter_service.people.simulation import Simulated

FOUR = (
    SamplingStrategy(),
    SamplingStrategy(mode="prompted", examples=1),
    SamplingStrategy(mode="rejection", samples=4),
    SamplingStrategy(mode="median", samples=5),
)
NAMES = ["policy", "policy (prompted, 1 example)", "policy (rejection, 4 samples)", "policy (median, 5 samples)"]
EXACT = Simulated(raters=3, noise=0, position_bias=0, length_bias=0, lapse=0, spread=0)
SETTINGS = Settings(comparisons=24, overlap=0, max_tokens=8, simulated=EXACT, show={"policy": FOUR})
# samples 0 to 4 of the model, and what it says behind examples; the judge likes long replies
SAMPLES = ["ooo", "o", "ooooo", "oo", "oooo"]
PROMPTED = "oooooo"
LIKED = dict(zip(NAMES, [3, 6, 5, 3], strict=True))


@pytest.fixture
def inputs(tmp_path: Path, checkpoints: Path) -> Inputs:
    asked = [toys.dialogue(f"p{n}", f"Question {n}?") for n in range(4)]
    return Inputs(
        [
            toys.policy(checkpoints / "policy", "models"),
            toys.given("prompts", toys.rows_file(tmp_path / "prompts.jsonl", asked)),
            toys.preference(checkpoints / "grader", "judge"),
            toys.preference(checkpoints / "grader", "ranker"),
        ]
    )


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> toys.Scripted:
    def say(asked: Any, k: int) -> str:
        return PROMPTED if isinstance(asked, str) else SAMPLES[k]

    class Length:
        def score(self, items: Any) -> list[list[float]]:
            return [[float(len(text)) for text in replies] for _, replies in items]

    made = toys.Scripted(say)
    made.capabilities |= {"text"}
    monkeypatch.setattr(pairs_module, "open_assistant", lambda source, device, precision: made)
    monkeypatch.setattr(PreferenceModel, "open", lambda *given: Length())
    return made


def votes_of(settings: Settings, inputs: Inputs, folder: Path) -> list[dict[str, Any]]:
    out = toys.workspace(folder)
    room.run(settings, inputs, out)
    return [json.loads(line) for line in (out.path / "votes.jsonl").read_text().splitlines()]


def test_four_modes_of_one_model_are_compared_under_names_of_their_own(
    inputs: Inputs, tmp_path: Path, scripted: toys.Scripted
) -> None:
    votes = votes_of(SETTINGS, inputs, tmp_path / "out")
    met = Counter(name for vote in votes for name in (vote["model_a"], vote["model_b"]))
    assert set(met) == set(NAMES)
    for vote in votes:
        a, b = (LIKED[vote[side]] for side in ("model_a", "model_b"))
        assert vote["winner"] == ("tie" if a == b else "a" if a > b else "b"), vote


RECIPE = """
name: modes
size: tiny
steps:
  - name: votes
    room: arena
    from: {{models: ["{policy}"], judge: ["{grader}"], ranker: "{grader}", prompts: ["{prompts}"]}}
    settings:
      comparisons: 48
      overlap: 0
      max_tokens: 8
      simulated: {{noise: 0, position_bias: 0, length_bias: 0, lapse: 0, spread: 0}}
      show:
        "{policy}": [{{mode: policy}}, {{mode: plain}}, {{mode: prompted}}, {{mode: rejection}}]
"""


def test_a_recipe_compares_four_modes_and_rejection_is_no_worse_to_the_one_that_ranks(
    tmp_path: Path, checkpoints: Path
) -> None:
    prompts = toys.rows_file(tmp_path / "prompts.jsonl", [toys.dialogue(f"p{n}", f"Question {n}?") for n in range(6)])
    policy, grader = checkpoints / "policy", checkpoints / "grader"
    recipe = tmp_path / "modes.yaml"
    recipe.write_text(RECIPE.format(policy=policy, grader=grader, prompts=prompts))
    plan = make_plan(load_recipe(recipe, []), tmp_path, tmp_path / "run", Execution())
    execute(plan, SilentProgress())
    made = tmp_path / "run" / "votes"
    votes = {vote["id"]: vote for vote in map(json.loads, (made / "votes.jsonl").read_text().splitlines())}
    judge = PreferenceModel.open(grader)
    utilities: dict[str, list[float]] = defaultdict(list)
    for c in read_comparisons(made):
        vote = votes[c.id]
        sides = ("model_a", "model_b") if vote["winner"] == "a" else ("model_b", "model_a")
        scores = judge.score([(c.messages, [c.chosen, c.rejected])])[0]
        assert scores[0] > scores[1], "exact raters choose the better reply"
        for side, score in zip(sides, scores, strict=True):
            utilities[vote[side].removeprefix(str(policy)).strip()].append(score)
    means = {name: sum(found) / len(found) for name, found in utilities.items()}
    assert set(means) == {"", "(plain)", "(prompted)", "(rejection)"}
    assert means["(rejection)"] >= means[""] and means["(rejection)"] == max(means.values())


def test_two_replies_of_one_ranked_model_come_from_the_same_samples(
    inputs: Inputs, tmp_path: Path, scripted: toys.Scripted
) -> None:
    settings = SETTINGS.model_copy(update={"show": {"policy": FOUR[2:3]}, "pairing": "same", "comparisons": 4})
    out = toys.workspace(tmp_path / "out")
    room.run(settings, inputs, out)
    assert [(c.chosen, c.rejected) for c in read_comparisons(out.path)] == [("ooooo", "ooo")] * 4
    assert len(scripted.asked) == 4, "one request a pair"


def test_a_stopped_comparison_of_modes_equals_one_never_stopped(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"comparisons": 6, "chunk": 2, "show": {"policy": FOUR[::2]}})
    room.run(settings, inputs, toys.workspace(tmp_path / "whole"))
    stopped = tmp_path / "stopped"
    with pytest.raises(toys.Interrupted):
        room.run(settings, inputs, toys.workspace(stopped, progress=toys.StoppingProgress(4)))
    room.run(settings, inputs, toys.workspace(stopped))
    assert toys.files_of(stopped / "files") == toys.files_of(tmp_path / "whole/files")


def test_people_are_asked_about_the_modes_too(inputs: Inputs, tmp_path: Path) -> None:
    asked = Inputs([entry for entry in inputs if entry.role != "judge"])
    out = toys.workspace(tmp_path / "votes")
    out.people = tmp_path / "run.people" / "votes"
    settings = SETTINGS.model_copy(update={"simulated": None, "base": NAMES[0]})
    assert check(settings, {"models", "ranker"}) == ""
    with pytest.raises(Waiting, match="waits for 24 of 24 comparisons"):
        room.run(settings, asked, out)
    model, ranker = (asked.one(role).ref for role in ("models", "ranker"))
    assert yaml.safe_load((out.people / "arena.yaml").read_text())["models"] == [
        {"name": NAMES[0], "model": model},
        {"name": NAMES[1], "model": model, "mode": "prompted", "examples": 1},
        {"name": NAMES[2], "model": model, "mode": "rejection", "samples": 4, "grader": ranker},
        {"name": NAMES[3], "model": model, "mode": "median", "samples": 5, "grader": ranker},
    ]
    known = json.loads((out.people / "models.json").read_text())
    assert known[NAMES[0]] == asked.one("models").id and len(set(known.values())) == 4
    other = Inputs([asked.one("models"), toys.preference(checkpoint(tmp_path), "ranker")])
    with pytest.raises(CharterError, match=r"^policy \(rejection, 4 samples\) was another model"):
        room.run(settings, other, out)


def checkpoint(folder: Path) -> Path:
    return toys.preference_folder(folder / "another")


@pytest.mark.parametrize(
    ("ways", "roles", "problem"),
    [
        ((SamplingStrategy(mode="rejection"),), ["judge"], "go together"),
        ((SamplingStrategy(mode="plain"),), ["judge", "ranker"], "go together"),
        ((SamplingStrategy(mode="median", grader="x"),), ["judge", "ranker"], "is the role ranker"),
        ((SamplingStrategy(mode="median"),), ["judge", "ranker"], ""),
        ((SamplingStrategy(mode="plain"),), ["judge"], ""),
    ],
)
def test_modes_and_roles_that_do_not_fit(ways: Sequence[SamplingStrategy], roles: list[str], problem: str) -> None:
    found = check(SETTINGS.model_copy(update={"show": {"policy": ways}}), {"models", *roles})
    assert problem in found and bool(problem) == bool(found) and "\n" not in found


def test_modes_that_cannot_be_shown_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    lost = SETTINGS.model_copy(update={"show": {"polcy": FOUR}})
    with pytest.raises(CharterError, match=r"show names 'polcy', which is not a model here; .*policy"):
        room.run(lost, inputs, toys.workspace(tmp_path / "a"))
    twice = SETTINGS.model_copy(update={"show": {"policy": (FOUR[2], FOUR[2])}})
    with pytest.raises(CharterError, match=r"two of the name policy \(rejection, 4 samples\)"):
        room.run(twice, inputs, toys.workspace(tmp_path / "b"))
