"""Policy gradients against preference models and rules, with a KL penalty to the starting policy (Bai 2022a section
4.1, Bai 2022b 4.2): PPO with a critic, or leave-one-out among the replies to a prompt.

A round: sample replies from the policy's own distribution, score them, charge lambda * KL to the frozen start,
estimate advantages, and take clipped policy-gradient steps. A held-out preference model watches for over-optimisation,
and may choose the round that is kept."""

from __future__ import annotations

import random
from itertools import pairwise

import torch

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import LocalAssistant, check_prompts
from charter.ground.learn.checkpoint import Saver
from charter.ground.learn.parallel import Work, distribute
from charter.ground.learn.step import check_finite, update
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.rooms.rl.critic import Critic
from charter.rooms.rl.drift import DriftMonitor
from charter.rooms.rl.keep import Keeper
from charter.rooms.rl.learning import Targets, accumulate, learning_modules, optimizer_of, targets_of
from charter.rooms.rl.policy import Policy
from charter.rooms.rl.ppo import adapt
from charter.rooms.rl.prompts import prompts_of_round, read_round_prompts
from charter.rooms.rl.reward import Graders, Reward, check_labels
from charter.rooms.rl.rollout import Microbatches, all_replies
from charter.rooms.rl.sampler import Sampler, whole
from charter.rooms.rl.settings import Settings, Updates
from charter.rooms.rl.watch import final_metrics, names_of, note_kl_reach, round_log_row


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy's checkpoint; log.jsonl has one line per round, the last one without an update."""
    prompts = read_round_prompts(inputs)
    heldout = read_round_prompts(inputs, "heldout_prompts", "heldout_harmless")
    check_labels(prompts, heldout, settings)
    note_kl_reach(settings, out)
    policy, critic, graders, sampler = open_models(settings, inputs, out)
    check_prompts(LocalAssistant(sampler.engine, policy.template), [p.dialogue for p in [*prompts, *heldout]])
    optimizer = optimizer_of(policy, critic, settings.lr)
    saver = Saver(out.state, learning_modules(policy, critic), optimizer, settings.save_every)
    first_round, saved = saver.load()
    out.log_truncate(first_round)
    coefficient = float(saved.get("coefficient", settings.kl.coefficient))
    names, work = names_of([entry.name for entry in inputs.many("reward")]), Work()
    reward = Reward(settings.reward, settings.rollout.missing_end, len(names), saved.get("reward", {}))
    keeper = Keeper(settings.keep, reward, heldout, out, saved.get("keep", {}))
    monitor = DriftMonitor(settings.monitor, settings.steps, out, saved.get("drift", {}))

    with out.progress("ppo", settings.steps, first_round) as bar:
        for step in range(first_round, settings.steps + 1):
            with whole(policy, critic, sampler) as (acting, valuing, sampling):
                round_prompts = prompts_of_round(prompts, settings.rollout.prompts, out.seed, step)
                episodes = sampling.sample(acting, valuing, round_prompts, step)
                graders.score(episodes)
                earned, weights_N = reward.of(episodes), sampling.importance(episodes)
                by_token = settings.kl_by_token
                targets = targets_of(acting, valuing, episodes, earned, coefficient, by_token, weights_N)
                if step == 0:
                    acting.check_ratio_one(episodes)
                kl = targets.mean_kl
                stopped = step < settings.steps and 0 < settings.kl.stop_at < kl
                monitor.add(targets, step)
                last = stopped or monitor.stopped or step == settings.steps
                checked = keeper.check(acting, sampling, graders, episodes, step, last)
            # copies of all weights, if they are sharded over processes
            del acting, valuing, sampling
            # the last round only measures the product
            last = last or keeper.out_of_patience
            figures, tokens = ({}, 0) if last else _learn(policy, critic, optimizer, targets, settings, out.seed, step)
            row = round_log_row(targets, figures | checked | reward.figures(), settings, names)
            out.log(step=step, **row, kl_coefficient=coefficient, tokens_read=tokens, **work.add(tokens))
            if last:
                break
            if settings.kl.adaptive_target:
                replies = len(all_replies(episodes))
                coefficient = adapt(coefficient, kl, settings.kl.adaptive_target, settings.kl_horizon, replies)
            reward.move(episodes)
            state = {"coefficient": coefficient, "reward": reward.state(), "keep": keeper.state()}
            saver.maybe(step + 1, state | {"drift": monitor.state()})
            bar.advance(1, objective=row["objective"], kl=kl)
    work.say(out)
    monitor.finish()
    keeper.write_product(policy)
    final_metrics(out, {"stopped_on_kl": int(stopped), **keeper.counts(), **monitor.counts()})


def open_models(settings: Settings, inputs: Inputs, out: Workspace) -> tuple[Policy, Critic | None, Graders, Sampler]:
    """All models of a run. Trained models are sharded over the processes; each process has its own copy of the
    others."""
    folder = checkpoint_folder(inputs.one("policy"))
    microbatches = Microbatches(out.device, out.precision, settings.microbatch_tokens)
    policy = Policy.open(folder, settings, microbatches, settings.rollout.temperature, out.seed)
    critic = None
    if settings.has_critic:
        critic = Critic.open(folder, policy.model.shape.hidden_size, settings.value, microbatches)
    distribute(*learning_modules(policy, critic).values(), precision=out.precision)
    graders = Graders.open(inputs, settings.reward.sources, out.device, out.precision)
    return policy, critic, graders, Sampler.open(policy, critic, settings.rollout, out)


def _learn(
    policy: Policy,
    critic: Critic | None,
    optimizer: torch.optim.Optimizer,
    targets: Targets,
    settings: Updates,
    seed: int,
    step: int,
) -> tuple[dict[str, float], int]:
    """All optimizer steps of a round. Returns the means of their figures, and how many tokens this process read."""
    share = min(1.0, (step + 1) / (settings.warmup + 1))
    totals: dict[str, float] = {}
    names = [e.dialogue.id for e in targets.episodes]
    updates, tokens = 0, 0
    for epoch in range(settings.epochs):
        order = list(range(len(names)))
        random.Random(derive_seed(seed, "minibatch", step, epoch)).shuffle(order)
        cuts = [n * len(order) // settings.minibatches for n in range(settings.minibatches + 1)]
        for start, end in pairwise(cuts):
            figures, read_tokens = accumulate(policy, critic, targets, order[start:end], settings.clip)
            check_finite(figures["loss"], "RL loss", step, names)
            figures["grad_norm"] = update(optimizer, share, settings.gradient_clip)
            check_finite(figures["grad_norm"], "gradient norm", step, names)
            updates, tokens = updates + 1, tokens + read_tokens
            for key, value in figures.items():
                totals[key] = totals.get(key, 0.0) + value
    return {key: value / updates for key, value in totals.items()} | {"lr": share * settings.lr}, tokens
