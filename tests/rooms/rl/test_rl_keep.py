"""The best round is kept: a planted fall of the held-out reward, bounds, patience, kills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import toys
from charter.ground.artifact.curves import last_logged, read_log
from charter.ground.artifact.inputs import Inputs
from charter.ground.learn import checkpoint
from charter.ground.settings.frozen import Lora
from charter.ground.text.dialogue import Dialogue, user
from charter.rooms.rl import run as room
from charter.rooms.rl.keep import Tally
from charter.rooms.rl.ppo import adapt
from charter.rooms.rl.prompts import Prompt, read_round_prompts
from charter.rooms.rl.reward import Graders
from charter.rooms.rl.rollout import Episode, Reply, all_replies
from charter.rooms.rl.sampler import Sampler
from charter.rooms.rl.settings import Keep, Kl, Rewards, Rollout, Rules, Settings, Steer
from toys import dialogue

SETTINGS = Settings(
    steps=7,
    lr=1e-3,
    baseline="others",
    rollout=Rollout(prompts=2, replies=2, max_tokens=5),
    microbatch_tokens=128,
    keep=Keep(round="best", every=2),
    save_every=1,
)


@pytest.fixture
def inputs(checkpoints: Path, tmp_path: Path) -> Inputs:
    files = {
        role: toys.rows_file(
            tmp_path / f"{role}.jsonl", [dialogue(f"{role}{n}", f"Ask {role} {n}?", "Unused.") for n in range(3)]
        )
        for role in ("prompts", "harmless", "heldout_prompts", "heldout_harmless")
    }
    return Inputs(
        [
            toys.policy(checkpoints / "policy"),
            toys.preference(checkpoints / "reward", "reward"),
            toys.preference(checkpoints / "other_reward", "reward"),
            toys.preference(checkpoints / "grader", "heldout_reward"),
            *(toys.given(role, path) for role, path in files.items()),
        ]
    )


@pytest.fixture
def checkpoints(checkpoints: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("policy", "reward", "grader"):
        (folder / name).symlink_to(checkpoints / name)
    toys.preference_folder(folder / "other_reward", 9)
    return folder


def of_roles(inputs: Inputs, *left_out: str) -> Inputs:
    return Inputs([i for i in inputs if i.role not in left_out])


def plain(inputs: Inputs) -> Inputs:
    return of_roles(inputs, "heldout_prompts", "heldout_harmless")


def run_room(settings: Settings, inputs: Inputs, folder: Path, progress: Any = None) -> dict[str, str]:
    out = toys.workspace(folder, progress=progress)
    room.run(settings, inputs, out)
    return toys.files_of(out.path)


def plant(monkeypatch: pytest.MonkeyPatch, height: Callable[[int], float], refused_after: int | None = None) -> None:
    """A held-out model whose scores follow the round alone. After a round all replies may be refusals."""
    real, rounds = Sampler.sample, []

    def sample(self: Sampler, policy: Any, critic: Any, prompts: Any, step: int) -> list[Episode]:
        rounds.append(step)
        return real(self, policy, critic, prompts, step)

    def score(self: Graders, episodes: Sequence[Episode]) -> None:
        for reply in all_replies(episodes):
            reply.heldout = height(rounds[-1])
            if refused_after is not None:
                reply.refused = rounds[-1] > refused_after

    monkeypatch.setattr(Sampler, "sample", sample)
    monkeypatch.setattr(Graders, "score_heldout", score)


def weights(files: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if name not in ("log.jsonl", "counts.json")}


def test_a_reward_that_falls_after_a_round_keeps_that_round(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda step: -abs(step - 3.5))
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS, plain(inputs), out)
    log = read_log(out.path)
    assert [row.get("check_reward") for row in log] == [None, None, -2.0, None, -0.5, None, -2.0, -3.5]
    assert [row.get("kept_round") for row in log if "kept_round" in row] == [2, 4, 4, 4]
    metrics = {m.name: m.value for m in out.metrics}
    assert metrics["kept_round"] == 4 and metrics["stopped_on_patience"] == 0 and metrics["rounds"] == 7
    for name in ("reward", "kl", "entropy"):
        assert metrics[name] == log[4][name] == last_logged(out.path, name) != log[-1].get(name)
    shorter = SETTINGS.model_copy(update={"steps": 4, "keep": Keep()})
    kept, last = toys.files_of(out.path), run_room(shorter, plain(inputs), tmp_path / "four")
    assert weights(kept) == weights(last), "the product is what four rounds make"
    whole = run_room(SETTINGS.model_copy(update={"keep": Keep()}), plain(inputs), tmp_path / "seven")
    assert kept["model.safetensors"] != whole["model.safetensors"]


def test_patience_ends_training_and_the_best_comes_out(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda step: -step)
    settings = SETTINGS.model_copy(update={"keep": Keep(round="best", every=1, patience=2)})
    out = toys.workspace(tmp_path / "out")
    room.run(settings, plain(inputs), out)
    log = read_log(out.path)
    assert [row["step"] for row in log] == [0, 1, 2, 3] and "loss" not in log[-1]
    metrics = {m.name: m.value for m in out.metrics}
    assert metrics["kept_round"] == 1 and metrics["stopped_on_patience"] == 1 and metrics["stopped_on_kl"] == 0


def test_bounds_count_before_reward(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reward rises to the end, but so do refusals on harmless prompts: the last round within the bound is kept."""
    plant(monkeypatch, float, refused_after=4)
    settings = SETTINGS.model_copy(update={"keep": Keep(round="best", every=2, most_refusal=0.3)})
    run_room(settings, of_roles(plain(inputs), "prompts"), tmp_path / "out")
    log = read_log(tmp_path / "out/files")
    assert [row["check_refused"] for row in log if "check_refused" in row] == [0, 0, 1, 1]
    assert log[-1]["kept_round"] == 4 and log[-1]["check_reward"] == 7


def test_held_out_prompts_are_answered_by_the_policy_as_it_is(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, list[Episode]]] = []
    real = Sampler.answer_heldout

    def answer(self: Sampler, prompts: Any, step: int) -> list[Episode]:
        seen.append((step, real(self, prompts, step)))
        again = real(self, prompts, 99)
        assert [r.ids for r in all_replies(again)] == [r.ids for r in all_replies(seen[-1][1])]
        return seen[-1][1]

    monkeypatch.setattr(Sampler, "answer_heldout", answer)
    run_room(SETTINGS, inputs, tmp_path / "out")
    assert [step for step, _ in seen] == [2, 4, 6, 7]
    log = read_log(tmp_path / "out/files")
    for step, episodes in seen:
        assert len(episodes) == 6 and all(len(e.replies) == 1 for e in episodes)
        rewards = [r.heldout for r in all_replies(episodes)]
        assert log[step]["check_reward"] == pytest.approx(sum(filter(None, rewards)) / 6)
        harmless = [r.refused for e in episodes if e.prompt.harmless for r in e.replies]
        assert len(harmless) == 3 and log[step]["check_refused"] == pytest.approx(sum(harmless) / 3)
    best = max(seen, key=lambda one: log[one[0]]["check_reward"])[0]
    assert log[-1]["kept_round"] == best


def test_held_out_prompts_are_answered_at_the_checkpoint_s_own_decoding(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A greedy checkpoint answers alike whatever the seed; one that says nothing samples."""
    alike: list[bool] = []
    real = Sampler.answer_heldout

    def answer(self: Sampler, prompts: Any, step: int) -> list[Episode]:
        for generation in ({"do_sample": False}, {}):
            self.engine.model.generation = generation
            first = real(self, prompts, step)
            second = real(replace(self, seed=self.seed + 1), prompts, step)
            alike.append([r.ids for r in all_replies(first)] == [r.ids for r in all_replies(second)])
        return first

    monkeypatch.setattr(Sampler, "answer_heldout", answer)
    run_room(SETTINGS, inputs, tmp_path / "out")
    assert alike == [True, False] * 4


def test_a_tally_by_hand() -> None:
    prompt = Prompt(Dialogue("a", (user("Ask?"),)), "look", 0.0)
    cut, refused = Reply([1], "Yes", "length", [], []), Reply([1], "No.", "end", [], [], refused=True)
    cut.rules, refused.rules, tally = -1.0, 0.5, Tally()
    tally.add([Episode(prompt, [1], [cut, refused]), Episode(Prompt(prompt.dialogue, "red"), [1], [refused])])
    assert tally.figures() == pytest.approx({"check_reward": 0, "check_cut": 1 / 3, "check_refused": 0.5})
    refused.heldout = 3.0
    tally.add([Episode(Prompt(prompt.dialogue, "red"), [1], [refused])])
    assert tally.figures()["check_reward"] == pytest.approx(3 / 4), "a held-out score counts before the rules"


MODES: dict[str, dict[str, Any]] = {
    "others": {"keep": Keep()},
    "others, KL by token": {"keep": Keep(), "kl": Kl(form="token", coefficient=0.3)},
    "best": {},
    "best, states far apart": {"save_every": 3},
    "best, critic": {"baseline": "critic"},
    "best, lora": {"lora": Lora(rank=2, alpha=4.0)},
    "least of two, rules, prices": {
        "reward": Rewards(
            join="min",
            whiten="prompt",
            rules=Rules(refusal=0.3, cut=0.2, length=1.0),
            steer=(Steer(side="least", target=0.5), Steer(source="prompts", target=0.1)),
        ),
        "kl": Kl(adaptive_target=0.5),
    },
}


HELDOUT = ("best", "least of two, rules, prices")


@pytest.mark.parametrize(("mode", "heldout"), [*((mode, False) for mode in MODES), *((mode, True) for mode in HELDOUT)])
def test_killed_and_resumed_is_bit_equal_to_unbroken(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, heldout: bool
) -> None:
    settings = SETTINGS.model_copy(update={"steps": 5, **MODES[mode]})
    chosen = inputs if heldout else plain(inputs)
    whole = run_room(settings, chosen, tmp_path / "whole")
    real = room.update
    for deadly in (5, 1):  # the update of round 4, whose check has just been made; then the first after a resume
        calls: list[int] = []

        def dying(*words: Any, calls: list[int] = calls, deadly: int = deadly) -> float:
            calls.append(1)
            if len(calls) == deadly:
                raise toys.Interrupted
            return real(*words)

        monkeypatch.setattr(room, "update", dying)
        with pytest.raises(toys.Interrupted):
            run_room(settings, chosen, tmp_path / "broken")
    monkeypatch.undo()
    state = sorted(p.name for p in (tmp_path / "broken/state").glob("step-*"))
    assert state == [f"step-{4 // settings.save_every * settings.save_every:08d}"]
    assert run_room(settings, chosen, tmp_path / "broken") == whole


def test_a_policy_is_kept_until_no_resume_can_need_it(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, float)
    seen = []
    real = checkpoint.Saver.maybe

    def watched(self: Any, step: int, extra: Any) -> None:
        real(self, step, extra)
        seen.append(sorted(p.name for p in self.folder.glob("best-*")))
        best = extra["keep"]["best"]
        assert best is None or f"best-{best:06d}" in seen[-1]

    monkeypatch.setattr(checkpoint.Saver, "maybe", watched)
    run_room(SETTINGS.model_copy(update={"save_every": 3}), plain(inputs), tmp_path / "out")
    assert max(map(len, seen)) <= 3 and ["best-000002", "best-000004"] in seen


def test_the_adaptive_coefficient_acts_over_four_rounds_unless_told(inputs: Inputs, tmp_path: Path) -> None:
    notes: list[str] = []

    class Told(toys.StoppingProgress):
        def note(self, text: str) -> None:
            notes.append(text)

    settings = SETTINGS.model_copy(update={"steps": 3, "keep": Keep(), "kl": Kl(adaptive_target=0.5)})
    run_room(settings, plain(inputs), tmp_path / "out", Told(0))
    for before, after in pairwise(read_log(tmp_path / "out/files")):
        expected = adapt(before["kl_coefficient"], before["kl"], 0.5, 16.0, 4)
        assert after["kl_coefficient"] == pytest.approx(expected)
    assert any("by a factor of 1.16 at most in 3 rounds; set kl.horizon below 16" in note for note in notes)
    assert settings.model_copy(update={"steps": 14}).kl_reach == pytest.approx(0.7)


def test_each_logged_metric_stands_in_the_readme(inputs: Inputs, tmp_path: Path) -> None:
    page = (Path(str(room.__file__)).parent / "README.md").read_text()
    chosen = Rewards(rules=Rules(refusal=1.0), steer=(Steer(),))
    for changes in ({"reward": chosen}, {"baseline": "critic"}):
        out = toys.workspace(tmp_path / "-".join(changes))
        room.run(SETTINGS.model_copy(update={"steps": 2, **changes}), inputs, out)
        sources = {p.source for p in read_round_prompts(inputs)}
        for row in read_log(out.path):
            for name in row.keys() - {"step"}:
                for source in sources | {"harmless"}:
                    name = name.replace(f"_of_{source}", "_of_<source>")
                for model in ("reward", "other_reward"):
                    name = name.removesuffix(f"_by_{model}") + "_by_<model>" * name.endswith(f"_by_{model}")
                assert f"`{name}`" in page, name
        for metric in out.metrics:
            assert f"`{metric.name}`" in page, metric.name
