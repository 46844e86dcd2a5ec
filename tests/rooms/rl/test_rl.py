"""RL: ratio 1 and KL 0 at the start, the reference, the critic, stopping, resuming."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from pydantic import ValidationError

import toys
from charter.ground.artifact.curves import read_log
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.learn.loss import token_logprobs
from charter.ground.learn.step import autocast
from charter.ground.model.checkpoint import load_policy, save_policy
from charter.ground.model.generation import read_generation
from charter.ground.model.layout import documents
from charter.ground.model.lora import lora_parameters
from charter.ground.settings.frozen import Lora
from charter.ground.text.dialogue import Dialogue, prompt_of
from charter.ground.text.records import read_dialogues
from charter.rooms.rl import run as room
from charter.rooms.rl.critic import Critic
from charter.rooms.rl.learning import Targets, accumulate, optimizer_of, targets_of
from charter.rooms.rl.policy import Policy
from charter.rooms.rl.ppo import adapt
from charter.rooms.rl.prompts import Prompt, prompts_of_round, read_round_prompts
from charter.rooms.rl.reward import Reward, Scale
from charter.rooms.rl.rollout import Episode, all_replies, batch_of, groups
from charter.rooms.rl.sampler import Sampler
from charter.rooms.rl.settings import Kl, Rewards, Rollout, Settings, Value
from toys import dialogue

ROLLOUT = Rollout(prompts=4, replies=2, max_tokens=6)
SETTINGS = Settings(steps=2, lr=1e-3, rollout=ROLLOUT, microbatch_tokens=128)
CLIP = SETTINGS.clip


@pytest.fixture
def inputs(checkpoints: Path, tmp_path: Path) -> Inputs:
    sets = {
        name: toys.rows_file(
            tmp_path / f"{name}.jsonl", [dialogue(f"{name}{n}", f"Ask {name} {n}?", "Unused.") for n in range(3)]
        )
        for name in ("red", "look")
    }
    return Inputs(
        [
            toys.policy(checkpoints / "policy"),
            toys.preference(checkpoints / "reward", "reward"),
            toys.preference(checkpoints / "grader", "heldout_reward"),
            *(toys.given("prompts", path) for path in sets.values()),
        ]
    )


def run_room(settings: Settings, inputs: Inputs, folder: Path, progress: Any = None) -> Path:
    out = toys.workspace(folder, progress=progress)
    room.run(settings, inputs, out)
    return out.path


def test_the_model_keeps_how_it_is_sampled_and_learns_from_its_whole_distribution(
    inputs: Inputs, checkpoints: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_policy(checkpoints / "policy")
    model.generation = {"do_sample": True, "temperature": 0.3, "top_p": 0.8}
    save_policy(model, tokenizer, tmp_path / "start")
    sharp = Inputs([toys.policy(tmp_path / "start"), *(i for i in inputs if i.role != "policy")])
    settings = SETTINGS.model_copy(update={"steps": 1})
    first, second = (run_room(settings, sources, tmp_path / n) for n, sources in (("a", inputs), ("b", sharp)))
    assert model.generation.items() <= read_generation(second).items()
    drawn = [[row["reward"] for row in read_log(path)] for path in (first, second)]
    assert drawn[0] == drawn[1], "rollouts are drawn as before"


class First(NamedTuple):
    """The models of a run, which has a critic, and its first round."""

    policy: Policy
    critic: Critic
    sampler: Sampler
    episodes: list[Episode]

    def targets(self, scores: Sequence[float] = (1.0, -1.0) * 4) -> Targets:
        return targets_of(self.policy, self.critic, self.episodes, scores, 0.05, kl_by_token=True)


def first_round(settings: Settings, inputs: Inputs, folder: Path, precision: str = "float32") -> First:
    out = toys.workspace(folder, precision=precision)
    policy, critic, graders, sampler = room.open_models(settings, inputs, out)
    assert critic is not None
    prompts = read_round_prompts(inputs)[: settings.rollout.prompts]
    episodes = sampler.sample(policy, critic, prompts, 0)
    graders.score(episodes)
    return First(policy, critic, sampler, episodes)


def reading(policy: Policy, tokens: int) -> Policy:
    """The policy with microbatches of so many tokens."""
    return replace(policy, microbatches=replace(policy.microbatches, most_tokens=tokens))


def weighing(critic: Critic, coefficient: float) -> Critic:
    """The critic with another weight of its loss."""
    return replace(critic, settings=critic.settings.model_copy(update={"coefficient": coefficient}))


def start_logprobs(checkpoints: Path, episodes: list[Episode]) -> torch.Tensor:
    """Of every reply token under the checkpoint that RL starts from, document by document."""
    model, _ = load_policy(checkpoints / "policy")
    logprobs = []
    for episode in episodes:
        for reply in episode.replies:
            row = torch.tensor(episode.prompt_ids + reply.ids)
            with torch.no_grad():
                hidden = model.hidden(row, documents([len(row)]))[len(episode.prompt_ids) - 1 : -1]
                logprobs.append(token_logprobs(hidden, model.head_weight(), torch.tensor(reply.ids))[0])
    return torch.cat(logprobs)


def test_the_product_is_a_checkpoint_with_a_line_a_round(inputs: Inputs, checkpoints: Path, tmp_path: Path) -> None:
    out = toys.workspace(tmp_path / "out")
    room.run(SETTINGS, inputs, out)
    model, tokenizer = load_policy(out.path)
    assert not torch.equal(model.embed, load_policy(checkpoints / "policy")[0].embed)
    assert tokenizer.template == toys.tokenizer().template
    log = read_log(out.path)
    assert [row["step"] for row in log] == [0, 1, 2]
    assert "loss" not in log[2], "the last round measures what comes out"
    expected = {
        "reward",
        "reward_heldout",
        "reward_of_red",
        "reward_of_look",
        "refusal_of_red",
        "refusal_of_look",
        "kl",
        "entropy",
        "loss",
        "grad_norm",
        "lr",
    }
    assert expected <= log[0].keys() and all(math.isfinite(log[0][key]) for key in expected)
    metrics = {m.name: m.value for m in out.metrics}
    assert metrics["rounds"] == 2 and metrics["stopped_on_kl"] == 0 and metrics["kl"] == log[-1]["kl"]


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4.0)], ids=["full", "lora"])
def test_at_step_zero_the_ratio_is_one_and_kl_zero(inputs: Inputs, tmp_path: Path, lora: Lora | None) -> None:
    settings = SETTINGS.model_copy(update={"lora": lora})
    first, second, _ = read_log(run_room(settings, inputs, tmp_path / "out"))
    assert first["kl"] == pytest.approx(0, abs=1e-4)
    assert first["clip_fraction"] == 0 and first["approx_kl"] == pytest.approx(0, abs=1e-4)
    assert abs(second["kl"]) > 1e-3, "a step moves the policy away from its start"


def test_sampling_and_training_agree_or_the_run_is_refused(inputs: Inputs, checkpoints: Path, tmp_path: Path) -> None:
    policy, _, _, episodes = first_round(SETTINGS, inputs, tmp_path / "w")
    old = torch.tensor([p for r in all_replies(episodes) for p in r.log_probs])
    assert torch.allclose(old, start_logprobs(checkpoints, episodes), atol=1e-4)
    policy.check_ratio_one(episodes)
    for reply in all_replies(episodes):
        reply.log_probs = [p + 0.02 for p in reply.log_probs]
    with pytest.raises(CharterError, match=r"disagree by 0\.0\d+ nats on a token"):
        policy.check_ratio_one(episodes)


def test_in_bfloat16_the_first_ratio_is_one_although_sampling_rounds_otherwise(inputs: Inputs, tmp_path: Path) -> None:
    first = first_round(SETTINGS, inputs, tmp_path / "w", "bfloat16")
    policy, critic, _, episodes = first
    plain = all_replies(first_round(SETTINGS, inputs, tmp_path / "x").episodes)
    exact = [p for r in plain for p in r.log_probs]
    assert exact != [p for r in all_replies(episodes) for p in r.log_probs], "sampling rounds too"
    policy.check_ratio_one(episodes)
    targets = first.targets()
    sampled = torch.tensor([p for r in all_replies(episodes) for p in r.log_probs])
    assert float((targets.old - sampled).abs().max()) > 1e-3, "rounding shows"
    assert float(targets.kl.abs().max()) < 0.05
    figures, _ = accumulate(policy, critic, targets, range(4), CLIP)
    assert figures["clip_fraction"] == 0 and abs(figures["approx_kl"]) < 1e-3
    reply = all_replies(episodes)[0]
    reply.log_probs = [reply.log_probs[0] + 0.7, *reply.log_probs[1:]]
    # one token far off
    policy.check_ratio_one(episodes)
    for reply in all_replies(episodes):
        reply.log_probs = [p + 0.2 for p in reply.log_probs]
    with pytest.raises(CharterError, match=r"disagree by 0\.\d+ nats a token in the mean"):
        policy.check_ratio_one(episodes)


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4.0)], ids=["full", "lora"])
def test_the_reference_stays_the_start(inputs: Inputs, checkpoints: Path, tmp_path: Path, lora: Lora | None) -> None:
    first = first_round(SETTINGS.model_copy(update={"lora": lora}), inputs, tmp_path / "w")
    policy, critic, _, episodes = first
    assert (policy.reference is None) == (lora is not None)
    with torch.no_grad():
        for parameter in lora_parameters(policy.model) if lora else policy.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    expected = start_logprobs(checkpoints, episodes)
    assert torch.allclose(policy.reference_logprobs(episodes), expected, atol=1e-4)
    targets = first.targets([0.0] * 8)
    assert torch.allclose(targets.reference, expected, atol=1e-4)
    figures, _ = accumulate(policy, weighing(critic, 0.0), targets, range(4), CLIP)
    assert abs(figures["approx_kl"]) > 1e-3, "with the adapters on, or its own weights, the policy is another one"


def test_frozen_layers_are_computed_once_for_policy_and_reference(
    inputs: Inputs, checkpoints: Path, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"frozen_layers": 1})
    both = []
    for kept in (True, False):
        first = first_round(settings, inputs, tmp_path / str(kept))
        policy, critic, _, episodes = first
        assert policy.reference is not None
        with torch.no_grad():
            for parameter in policy.model.blocks()[1].parameters():
                parameter.mul_(1.1)
        if kept:
            policy.reference_logprobs(episodes)
            with torch.no_grad():  # whoever computed these again would show it
                for model in (policy.model, policy.reference):
                    for parameter in model.blocks()[0].parameters():
                        parameter.fill_(torch.nan)
        reference = policy.reference_logprobs(episodes)
        targets = first.targets()
        for episode in episodes if not kept else ():
            episode.below = None
        figures, _ = accumulate(policy, critic, targets, [3, 1, 0], CLIP)
        both.append((reference, figures["approx_kl"], gradients(policy)))
    (reference, kl, learnt), (alone, expected_kl, expected) = both
    torch.testing.assert_close(reference, alone, atol=1e-5, rtol=1e-5)
    assert torch.allclose(alone, start_logprobs(checkpoints, episodes), atol=1e-4)
    assert kl == pytest.approx(expected_kl, abs=1e-5)
    for gradient, wanted in zip(learnt, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-4)


def test_only_adapters_and_critic_are_trained_with_lora(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"lora": Lora(rank=2, alpha=4.0)})
    policy, critic, _, _ = first_round(settings, inputs, tmp_path / "w")
    optimizer = optimizer_of(policy, critic, settings.lr)
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert moved == {id(p) for p in [*lora_parameters(policy.model), *critic.head.parameters()]}


def gradients(policy: Policy) -> list[torch.Tensor]:
    """The gradients that were accumulated, which are cleared."""
    rows = [p.grad.clone() for p in policy.model.parameters() if p.grad is not None]
    policy.model.zero_grad(set_to_none=True)
    return rows


@pytest.mark.parametrize("trunk", ["shared", "own"])
def test_the_critics_gradient_reaches_the_policy_only_through_a_shared_trunk(
    inputs: Inputs, tmp_path: Path, trunk: Any
) -> None:
    settings = SETTINGS.model_copy(update={"value": Value(trunk=trunk, coefficient=0.0)})
    first = first_round(settings, inputs, tmp_path / "w")
    policy, critic = first.policy, first.critic
    with torch.no_grad():
        critic.head.weight.fill_(0.1)
    targets = first.targets()
    accumulate(policy, critic, targets, range(4), CLIP)
    alone = gradients(policy)
    accumulate(policy, weighing(critic, 5.0), targets, range(4), CLIP)
    if trunk == "own":
        assert critic.trunk is not None
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in critic.trunk.parameters())
    changed = max((a - b).abs().max().item() for a, b in zip(alone, gradients(policy), strict=True))
    assert changed > 1e-3 if trunk == "shared" else changed < 1e-6


@pytest.mark.parametrize("trunk", ["shared", "own"])
def test_values_while_sampling_are_those_of_training(inputs: Inputs, tmp_path: Path, trunk: Any) -> None:
    settings = SETTINGS.model_copy(update={"value": Value(trunk=trunk)})
    policy, critic, sampler, _ = first_round(settings, inputs, tmp_path / "w")
    with torch.no_grad():
        critic.head.weight.normal_(generator=torch.Generator().manual_seed(3))
    messages = prompt_of(read_dialogues(inputs.many("prompts")[0].folder)[0]).messages
    episodes = sampler.sample(policy, critic, [Prompt(Dialogue("x", messages), "red")], 1)
    trunk_model = critic.trunk or policy.model
    for reply in all_replies(episodes):
        row = torch.tensor(episodes[0].prompt_ids + reply.ids)
        with torch.no_grad():
            expected = critic.head(trunk_model.hidden(row, documents([len(row)])))[len(episodes[0].prompt_ids) - 1 : -1]
        assert reply.values == pytest.approx(expected.tolist(), abs=1e-3)


def test_in_bfloat16_a_critic_of_its_own_reads_as_it_learns(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"value": Value(trunk="own")})
    policy, critic, sampler, _ = first_round(settings, inputs, tmp_path / "w", "bfloat16")
    with torch.no_grad():
        critic.head.weight.normal_(generator=torch.Generator().manual_seed(3))
    episodes = sampler.sample(policy, critic, read_round_prompts(inputs)[:4], 0)
    targets = First(policy, critic, sampler, episodes).targets()
    values = []
    for members in groups(episodes, settings.microbatch_tokens):
        batch = batch_of(members, "cpu")
        with torch.no_grad(), autocast("cpu", "bfloat16"):
            hidden = policy.model.hidden(batch.ids, batch.layout)[batch.predicts]
            values.append(critic.values(batch, hidden))
    assert torch.equal(targets.values, torch.cat(values)) and float(targets.values.std()) > 0


def test_a_critic_of_its_own_learns_and_is_not_saved_with_the_policy(inputs: Inputs, tmp_path: Path) -> None:
    path = run_room(SETTINGS.model_copy(update={"value": Value(trunk="own")}), inputs, tmp_path / "out")
    assert load_policy(path)[0].shape == toys.SHAPE
    assert read_log(path)[0]["explained_variance"] == 0, "the head starts at zero"
    assert read_log(path)[1]["explained_variance"] != 0


def test_scores_are_the_reward_models_and_a_cut_reply_pays(inputs: Inputs, checkpoints: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"rollout": ROLLOUT.model_copy(update={"missing_end": 0.75})})
    episodes = first_round(settings, inputs, tmp_path / "w").episodes
    reward, grader = (PreferenceModel.open(checkpoints / name) for name in ("reward", "grader"))
    cut = 0
    for e in episodes:
        for r in e.replies:
            penalty = 0.75 if r.stop == "length" else 0.0
            cut += r.stop == "length"
            item = [(e.dialogue.messages, [r.text])]
            assert r.score == pytest.approx(reward.score(item)[0][0], abs=1e-4)
            assert r.heldout == pytest.approx(grader.score(item)[0][0], abs=1e-4)
            plain = Reward(Rewards(whiten="none"), settings.rollout.missing_end, 1, {})
            assert plain.of([replace(e, replies=[r])]) == pytest.approx([r.score - penalty])
            # of scores s - 4, s - 2, s: mean s - 2, spread 1.633
            kept = {"scales": [Scale(2, r.score - 3, 2.0).state()]}
            earned = Reward(settings.reward, settings.rollout.missing_end, 1, kept).of([replace(e, replies=[r])])
            assert earned == pytest.approx([2 / math.sqrt(8 / 3) - penalty])
    assert cut


def test_white_space_around_a_reply_is_neither_scored_nor_logged(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = toys.workspace(tmp_path / "w")
    policy, critic, graders, sampler = room.open_models(SETTINGS, inputs, out)
    prompts = read_round_prompts(inputs)[:4]
    plain = sampler.sample(policy, critic, prompts, 0)
    graders.score(plain)
    real = sampler.engine.generate

    def padded(*words: Any, **named: Any) -> Any:
        completions = real(*words, **named)
        for completion in (c for samples in completions for c in samples):
            completion.text = f" {completion.text.strip()}\n\n"
        return completions

    monkeypatch.setattr(sampler.engine, "generate", padded)
    episodes = sampler.sample(policy, critic, prompts, 0)
    graders.score(episodes)
    for reply, before in zip(all_replies(episodes), all_replies(plain), strict=True):
        assert reply.text == reply.text.strip() == before.text and reply.ids == before.ids
        assert reply.score == pytest.approx(before.score, abs=1e-4)


def test_microbatches_change_no_gradient(inputs: Inputs, tmp_path: Path) -> None:
    first = first_round(SETTINGS, inputs, tmp_path / "w")
    policy, critic, _, episodes = first
    targets = first.targets()
    whole, tokens = accumulate(reading(policy, 4096), critic, targets, range(4), CLIP)
    a = gradients(policy)
    parts, same = accumulate(reading(policy, 64), critic, targets, range(4), CLIP)
    for x, y in zip(a, gradients(policy), strict=True):
        assert torch.allclose(x, y, atol=1e-5)
    assert parts == pytest.approx(whole, abs=1e-5)
    assert tokens == same == sum(episode.tokens for episode in episodes)


def test_a_minibatch_takes_the_targets_of_its_own_episodes(inputs: Inputs, tmp_path: Path) -> None:
    first = first_round(SETTINGS, inputs, tmp_path / "w")
    targets = first.targets()
    for chosen in ([2], [3, 0]):
        figures, _ = accumulate(first.policy, first.critic, targets, chosen, CLIP)
        assert figures["approx_kl"] == pytest.approx(0, abs=1e-4) and figures["clip_fraction"] == 0


def test_the_adaptive_coefficient_follows_the_logged_kl(inputs: Inputs, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"steps": 3, "kl": Kl(coefficient=0.1, adaptive_target=0.5, horizon=40.0)})
    log = read_log(run_room(settings, inputs, tmp_path / "out"))
    assert log[0]["kl_coefficient"] == 0.1
    assert log[1]["kl_coefficient"] == pytest.approx(0.1 * (1 - 0.2 * 8 / 40))
    for before, after in pairwise(log):
        expected = adapt(before["kl_coefficient"], before["kl"], 0.5, 40.0, 8)
        assert after["kl_coefficient"] == pytest.approx(expected)


STOPPING = SETTINGS.model_copy(update={"steps": 5, "lr": 2e-2, "save_every": 1, "kl": Kl(stop_at=0.5)})


def test_training_ends_early_on_kl_and_stays_ended_after_a_resume(inputs: Inputs, tmp_path: Path) -> None:
    out = toys.workspace(tmp_path / "out")
    room.run(STOPPING, inputs, out)
    log = read_log(out.path)
    assert len(log) < 5 and log[-1]["kl"] > 0.5 >= max(row["kl"] for row in log[:-1])
    metrics = {m.name: m.value for m in out.metrics}
    assert metrics["stopped_on_kl"] == 1 and metrics["rounds"] == len(log) - 1
    assert metrics["kl"] == log[-1]["kl"] and "loss" not in log[-1], "nothing is learnt beyond the limit"
    with pytest.raises(toys.Interrupted):
        run_room(STOPPING, inputs, tmp_path / "broken", toys.StoppingProgress(len(log) - 1))
    assert toys.files_of(run_room(STOPPING, inputs, tmp_path / "broken")) == toys.files_of(out.path)


RESUMED = SETTINGS.model_copy(
    update={"steps": 3, "epochs": 2, "minibatches": 2, "save_every": 1, "kl": Kl(adaptive_target=0.5, horizon=40.0)}
)


@pytest.mark.parametrize(
    "changes",
    [{}, {"lora": Lora(rank=2, alpha=4.0)}, {"value": Value(trunk="own")}, {"save_every": 2}],
    ids=["full", "lora", "own", "every other"],
)
def test_stopped_mid_update_and_resumed_is_bit_equal_to_unbroken(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    settings = RESUMED.model_copy(update=changes)
    whole = run_room(settings, inputs, tmp_path / "whole")
    real, calls = room.update, []

    def stopping(*words: Any) -> float:
        calls.append(1)
        if len(calls) == 11:  # the third of the four updates of the third round
            raise toys.Interrupted
        return real(*words)

    monkeypatch.setattr(room, "update", stopping)
    with pytest.raises(toys.Interrupted):
        run_room(settings, inputs, tmp_path / "broken")
    assert [p.name for p in (tmp_path / "broken/state").glob("step-*")] == ["step-00000002"]
    assert toys.files_of(run_room(settings, inputs, tmp_path / "broken")) == toys.files_of(whole)


def test_stopped_between_rounds_and_resumed_is_bit_equal_to_unbroken(inputs: Inputs, tmp_path: Path) -> None:
    whole = run_room(RESUMED, inputs, tmp_path / "whole")
    with pytest.raises(toys.Interrupted):
        run_room(RESUMED, inputs, tmp_path / "broken", toys.StoppingProgress(2))
    assert toys.files_of(run_room(RESUMED, inputs, tmp_path / "broken")) == toys.files_of(whole)


def test_prompts_are_all_seen_before_any_comes_again(inputs: Inputs) -> None:
    prompts = read_round_prompts(inputs)
    seen = [p.dialogue.id for step in range(3) for p in prompts_of_round(prompts, 4, 7, step)]
    assert len(seen) == 12 and sorted(seen[:6]) == sorted(seen[6:]) == sorted(p.dialogue.id for p in prompts)
    assert seen[:6] != seen[6:], "each pass is shuffled anew"


def test_a_prompt_over_the_context_is_named_before_anything_is_sampled(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sampler, "sample", None)
    long = toys.rows_file(tmp_path / "long.jsonl", [dialogue("long", "Ask this once more. " * 400)])
    with pytest.raises(CharterError, match=r"^prompt long: the prompt has \d+ tokens, the context holds 1024"):
        run_room(SETTINGS, Inputs([*inputs, toys.given("prompts", long)]), tmp_path / "out")


def test_rollouts_come_from_the_policys_own_distribution() -> None:
    for cut in ({"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.9}):
        with pytest.raises(ValidationError):
            Rollout.model_validate(cut)


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="must not exceed the 4 prompts"):
        Settings(minibatches=5, rollout=ROLLOUT)


@pytest.mark.parametrize(("prompts", "minibatches"), [(4, 1), (4, 4), (5, 3), (5, 4)])
def test_a_pass_takes_as_many_optimizer_steps_as_asked_over_all_prompts(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: int, minibatches: int
) -> None:
    seen: list[list[int]] = []
    real = room.accumulate

    def watched(policy: Any, critic: Any, targets: Any, chosen: Any, clip: float) -> Any:
        seen.append(list(chosen))
        return real(policy, critic, targets, chosen, clip)

    monkeypatch.setattr(room, "accumulate", watched)
    rollout = Rollout(prompts=prompts, replies=1, max_tokens=2)
    run_room(Settings(steps=1, minibatches=minibatches, rollout=rollout), inputs, tmp_path / "out")
    assert len(seen) == minibatches and sorted(i for part in seen for i in part) == list(range(prompts))
