"""Policy gradients against preference models and rules, with a KL penalty to the starting policy (Bai 2022a section
4.1, Bai 2022b 4.2): PPO with a critic, or leave-one-out among the replies to a prompt.

A round: sample replies from the policy's own distribution, score them, charge lambda * KL to the frozen start,
estimate advantages, and take clipped policy-gradient steps. A preference model that the policy never sees watches for
over-optimisation, and may choose the round that is kept.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import LocalAssistant, check_prompts
from charter.ground.learn.parallel import Work
from charter.ground.learn.step import check_finite, update
from charter.ground.settings.seed import derive_seed
from charter.rooms.rl.actor import Actor
from charter.rooms.rl.drift import DriftMonitor
from charter.rooms.rl.keep import Keeper
from charter.rooms.rl.learning import Targets, accumulate, targets_of
from charter.rooms.rl.ppo import adapt
from charter.rooms.rl.prompts import prompts_of_round, read_round_prompts
from charter.rooms.rl.reward import Reward, check_labels
from charter.rooms.rl.rollout import Episode, all_replies
from charter.rooms.rl.settings import Settings
from charter.rooms.rl.watch import final_metrics, names_of, note_kl_reach, watch


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: a policy's checkpoint; log.jsonl has one line a round, the last of them without an update."""
    prompts = read_round_prompts(inputs)
    heldout = read_round_prompts(inputs, "heldout_prompts", "heldout_harmless")
    check_labels(prompts, heldout, settings)
    note_kl_reach(settings, out)
    actor = Actor(settings, inputs, out)
    check_prompts(LocalAssistant(actor.engine, actor.template), [p.dialogue for p in [*prompts, *heldout]])
    done, extra = actor.saver.load()
    out.log_truncate(done)
    coefficient = float(extra.get("coefficient", settings.kl.coefficient))
    graders = names_of([given.name for given in inputs.many("reward")])
    reward, work = Reward(settings, len(graders), extra.get("reward", {})), Work()
    keeper = Keeper(settings, reward, heldout, out, extra.get("keep", {}))
    monitor = DriftMonitor(settings, out, extra.get("drift", {}))

    with out.progress("ppo", settings.steps, done) as bar:
        for step in range(done, settings.steps + 1):
            with actor.whole():
                chosen = prompts_of_round(prompts, settings.rollout.prompts, out.seed, step)
                episodes = actor.sample(chosen, step)
                actor.score(episodes)
                targets = targets_of(episodes, reward.of(episodes), coefficient, settings, actor)
                if step == 0:
                    actor.check_ratio_one(episodes)
                replies = all_replies(episodes)
                kl = float(targets.kl.sum()) / len(replies)
                stopped = step < settings.steps and 0 < settings.kl.stop_at < kl
                monitor.add(episodes, targets, step)
                last = stopped or monitor.stopped or step == settings.steps
                checked = keeper.check(episodes, step, last, actor)
            last = last or keeper.spent  # the last round measures what comes out and learns nothing
            actor.read = 0
            figures = {} if last else _learn(actor, episodes, targets, settings, step, out.seed)
            seen = watch(episodes, targets, figures | checked | reward.figures(), settings, graders)
            out.log(step=step, **seen, kl_coefficient=coefficient, **work.add(actor.read))
            if last:
                break
            if settings.kl.adaptive_target:
                coefficient = adapt(
                    coefficient, kl, settings.kl.adaptive_target, settings.kl_horizon, len(replies)
                )
            reward.move(episodes)
            state = {"coefficient": coefficient, "reward": reward.state(), "keep": keeper.state()}
            actor.saver.maybe(step + 1, state | {"drift": monitor.state()})
            bar.advance(1, objective=seen["objective"], kl=kl)
    work.say(out)
    monitor.finish()
    keeper.write_product(actor)
    final_metrics(out, {"stopped_on_kl": int(stopped), **keeper.counts(), **monitor.counts()})


def _learn(
    actor: Actor, episodes: list[Episode], targets: Targets, settings: Settings, step: int, seed: int
) -> dict[str, Any]:
    """All optimizer steps of a round; returns the means of what they saw."""
    share = min(1.0, (step + 1) / (settings.warmup + 1))
    totals: dict[str, float] = {}
    names = [e.dialogue.id for e in episodes]
    updates = 0
    for epoch in range(settings.epochs):
        order = list(range(len(episodes)))
        random.Random(derive_seed(seed, "minibatch", step, epoch)).shuffle(order)
        cuts = [n * len(order) // settings.minibatches for n in range(settings.minibatches + 1)]
        for start, end in pairwise(cuts):
            figures = accumulate(actor, episodes, order[start:end], targets, settings)
            check_finite(figures["loss"], "RL loss", step, names)
            figures["grad_norm"] = update(actor.optimizer, share, settings.gradient_clip)
            check_finite(figures["grad_norm"], "gradient norm", step, names)
            updates += 1
            for key, value in figures.items():
                totals[key] = totals.get(key, 0.0) + value
    return {key: value / updates for key, value in totals.items()} | {"lr": share * settings.lr}
