"""The log row of a round: reward by source, KL, entropy, length, and signs of over-optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Any

from charter.ground.artifact.curves import last_logged, read_log
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.detect import DETECTORS
from charter.rooms.rl.learning import Targets
from charter.rooms.rl.ppo import explained_variance
from charter.rooms.rl.prompts import label
from charter.rooms.rl.remote import gap_of
from charter.rooms.rl.rollout import all_replies
from charter.rooms.rl.settings import Settings

# of the logarithm of a coefficient: a factor of two
LEAST_REACH = 0.7
FINAL = (
    "sampling_gap",
    "reward",
    "reward_heldout",
    "kl",
    "entropy",
    "clip_fraction",
    "explained_variance",
    "objective",
    "refused_harmless",
    "tokens",
)


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def round_log_row(
    targets: Targets, figures: dict[str, Any], settings: Settings, graders: Sequence[str]
) -> dict[str, Any]:
    """One log line. KL is in nats a reply; entropy in nats a token; rates are shares of the round's replies.

    Reward and refusals are also given by source of the prompts: rising refusals on unsafe prompts are learnt, on
    harmless ones too they are collapse. Several reward models are also given each by name.
    """
    episodes = targets.episodes
    replies = all_replies(episodes)
    row: dict[str, Any] = {
        "reward": _mean([r.score for r in replies]),
        "reward_heldout": _mean([r.heldout for r in replies]),
        "objective": _mean([r.earned for r in replies]),
        "kl": targets.mean_kl,
        "tokens": _mean([len(r.ids) for r in replies]),
        "cut": _mean([r.stop == "length" for r in replies]),
        **{name: _mean([detect(r.text) for r in replies]) for name, detect in DETECTORS.items()},
    }
    if targets.values is not None and targets.returns is not None:
        row["explained_variance"] = explained_variance(targets.values, targets.returns)
    else:
        row["equal_prompts"] = _mean([len({r.earned for r in e.replies}) == 1 for e in episodes])
    if settings.rollout.sampler is not None:
        gap = gap_of(replies)
        row |= {"sampling_gap": gap.mean, "sampling_gap_max": gap.largest}
        row["importance"] = 1.0 if targets.weights is None else float(targets.weights.mean())
    if len(graders) > 1:
        for number, name in enumerate(graders):
            row[f"reward_by_{name}"] = _mean([r.scores.get(number) for r in replies])
    if settings.reward.rules.any:
        row["rules"] = _mean([r.rules for r in replies])
    for source in dict.fromkeys(e.prompt.source for e in episodes):
        source_replies = [r for e in episodes if e.prompt.source == source for r in e.replies]
        row[f"reward_of_{source}"] = _mean([r.score for r in source_replies])
        row[f"refusal_of_{source}"] = _mean([r.refused for r in source_replies])
    if harmless := [r.refused for e in episodes if e.prompt.harmless for r in e.replies]:
        row["refused_harmless"] = _mean(harmless)
    return row | figures


def note_kl_reach(settings: Settings, out: Workspace) -> None:
    """Note if the adaptive lambda can't even double or halve in all rounds."""
    target, reach = settings.kl.adaptive_target, settings.kl_reach
    if target and reach < LEAST_REACH:
        out.note(
            f"{out.step}: kl.adaptive_target {target:g} can change the KL coefficient by a factor of {exp(reach):.2f} "
            f"at most in {settings.steps} rounds; set kl.horizon below {settings.kl_horizon:g} replies, or raise steps"
        )


def final_metrics(out: Workspace, counts: dict[str, int]) -> None:
    """Record figures of the product or of the last update, and counts: whether training ended early, and which round
    was kept."""
    for name in FINAL:
        value = last_logged(out.path, name)
        if value is not None:
            out.metric(name, value)
    counts = {"rounds": sum("loss" in row for row in read_log(out.path)), **counts}
    out.counts(counts)


def names_of(sources: Sequence[str]) -> list[str]:
    """Short names of reward models; their indices if two would share a name."""
    names = [label(source) for source in sources]
    return names if len(set(names)) == len(names) else [str(number) for number in range(len(names))]
