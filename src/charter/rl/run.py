"""PPO against a preference model, with a KL penalty to the starting policy (Bai 2022a section 4.1, Bai 2022b 4.2).

A round: sample replies from the policy's own distribution, score them, charge lambda * KL to the frozen start,
estimate advantages, and take clipped policy-gradient steps. A second preference model that the policy never sees
watches for over-optimisation.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import LocalAssistant, check_prompts
from charter.ground.learn.parallel import Work, full, world
from charter.ground.learn.step import check_finite, update
from charter.ground.model.checkpoint import save_policy
from charter.ground.model.lora import merge_lora
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, prompt_of
from charter.ground.text.records import read_dialogues
from charter.rl.actor import Actor
from charter.rl.learning import Targets, accumulate, targets_of
from charter.rl.ppo import adapt
from charter.rl.rollout import Episode, Reply, all_replies
from charter.rl.settings import Settings
from charter.rl.watch import Scale, final_metrics, watch


def run(settings: Settings, inputs: Inputs, out: Workspace) -> None:
    """Product: the policy's checkpoint; log.jsonl has one line a round, the last of them without an update."""
    prompts = [(prompt_of(d), i.name) for i in inputs.many("prompts") for d in read_dialogues(i.folder)]
    actor = Actor(settings, inputs, out)
    check_prompts(LocalAssistant(actor.engine, actor.template), [prompt for prompt, _ in prompts])
    done, extra = actor.saver.load()
    out.log_truncate(done)
    coefficient = float(extra.get("coefficient", settings.kl.coefficient))
    scale, work = Scale(**extra.get("scale", {})), Work()

    with out.progress("ppo", settings.steps, done) as bar:
        for step in range(done, settings.steps + 1):
            with actor.whole():
                episodes = actor.sample(_prompts(prompts, settings, out.seed, step), step)
                actor.score(episodes)
                replies = all_replies(episodes)
                scale.add([r.score for r in replies])
                scores = [_reward(r, scale, settings) for r in replies]
                targets = targets_of(episodes, scores, coefficient, settings, actor)
                if step == 0:
                    actor.check_ratio_one(episodes)
            kl = float(targets.kl.sum()) / len(replies)
            stopped = step < settings.steps and 0 < settings.kl.stop_at < kl
            last = stopped or step == settings.steps  # this round measures what comes out and learns nothing
            actor.read = 0
            figures = {} if last else _learn(actor, episodes, targets, settings, step, out.seed)
            seen = watch(episodes, targets, figures, settings)
            out.log(step=step, **seen, kl_coefficient=coefficient, **work.add(actor.read))
            if last:
                break
            if settings.kl.adaptive_target:
                coefficient = adapt(
                    coefficient, kl, settings.kl.adaptive_target, settings.kl.horizon, len(replies)
                )
            actor.saver.maybe(step + 1, {"coefficient": coefficient, "scale": scale.state()})
            bar.advance(1, reward=sum(r.score for r in replies) / len(replies), kl=kl)
    work.say(out)
    with full(actor.model) as whole:
        if settings.lora:
            merge_lora(whole)
        if world().leads:
            save_policy(whole, actor.tokenizer, out.path)
    final_metrics(out, stopped)


def _reward(reply: Reply, scale: Scale, settings: Settings) -> float:
    """What a reply earns before the KL penalty; a cut one loses `missing_end`, in the unit of what is earned."""
    score = scale.apply(reply.score) if settings.whiten_scores else reply.score
    return score - (settings.rollout.missing_end if reply.stop == "length" else 0.0)


def _prompts(
    prompts: list[tuple[Dialogue, str]], settings: Settings, seed: int, step: int
) -> list[tuple[Dialogue, str]]:
    """The prompts of a round: passes over all of them, each pass shuffled anew, independent of earlier rounds."""
    wanted = range(step * settings.rollout.prompts, (step + 1) * settings.rollout.prompts)
    orders: dict[int, list[int]] = {}
    chosen = []
    for n in wanted:
        epoch, at = divmod(n, len(prompts))
        if epoch not in orders:
            orders[epoch] = list(range(len(prompts)))
            random.Random(derive_seed(seed, "prompts", epoch)).shuffle(orders[epoch])
        chosen.append(prompts[orders[epoch][at]])
    return chosen


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
            check_finite(figures["loss"], "PPO loss", step, names)
            figures["grad_norm"] = update(actor.optimizer, share, settings.gradient_clip)
            check_finite(figures["grad_norm"], "gradient norm", step, names)
            updates += 1
            for key, value in figures.items():
                totals[key] = totals.get(key, 0.0) + value
    return {key: value / updates for key, value in totals.items()} | {"lr": share * settings.lr}
