"""What a round looked like: reward by source, KL, entropy, length, and the signs of over-optimisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from charter.ground.artifact.curves import read_log
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.detect import DETECTORS, is_refusal
from charter.rl.learning import Targets
from charter.rl.ppo import explained_variance
from charter.rl.remote import gap_of
from charter.rl.rollout import Episode, all_replies
from charter.rl.settings import Settings

FINAL = (
    "sampling_gap",
    "reward",
    "reward_heldout",
    "kl",
    "entropy",
    "clip_fraction",
    "explained_variance",
    "tokens",
)


@dataclass(slots=True)
class Scale:
    """Mean and spread of all scores so far (Welford), so that lambda means the same for any preference model."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, scores: Sequence[float]) -> None:
        """Take in a round's scores."""
        for score in scores:
            self.count += 1
            delta = score - self.mean
            self.mean += delta / self.count
            self.squares += delta * (score - self.mean)

    def apply(self, score: float) -> float:
        """The score in standard deviations from the mean."""
        spread = math.sqrt(self.squares / self.count) if self.count else 0.0
        return (score - self.mean) / spread if spread > 0 else 0.0

    def state(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        return asdict(self)


def label(source: str) -> str:
    """A short name for a prompt source, with the folder that tells files of one name apart: `shipped:red_team.train` is
    red_team, `./unsafe/prompts.jsonl` is unsafe_prompts."""
    parts = [part for part in source.rsplit(":", 1)[-1].split("/") if part not in ("", ".", "..", "~")]
    return "_".join([*parts[-2:-1], parts[-1].split(".")[0]])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def watch(
    episodes: Sequence[Episode], targets: Targets, figures: dict[str, Any], settings: Settings
) -> dict[str, Any]:
    """One log line. KL is in nats a reply; entropy in nats a token; rates are shares of the round's replies.

    Reward and refusals also stand by source of the prompts: refusals that rise on unsafe prompts are learnt, those
    that rise on harmless ones too are collapse.
    """
    replies = all_replies(episodes)
    count = len(replies)
    row: dict[str, Any] = {
        "reward": _mean([r.score for r in replies]),
        "reward_heldout": _mean([r.heldout for r in replies]),
        "kl": float(targets.kl.sum()) / count,
        "explained_variance": explained_variance(targets.values, targets.returns),
        "tokens": _mean([len(r.ids) for r in replies]),
        "cut": _mean([r.stop == "length" for r in replies]),
        **{name: _mean([detect(r.text) for r in replies]) for name, detect in DETECTORS.items()},
    }
    if settings.rollout.sampler is not None:
        gap = gap_of(replies)
        row |= {"sampling_gap": gap.mean, "sampling_gap_max": gap.largest}
        row["importance"] = 1.0 if targets.weights is None else float(targets.weights.mean())
    for source in dict.fromkeys(label(e.source) for e in episodes):
        own = [r for e in episodes if label(e.source) == source for r in e.replies]
        row[f"reward_of_{source}"] = _mean([r.score for r in own])
        row[f"refusal_of_{source}"] = _mean([is_refusal(r.text) for r in own])
    return row | figures


def final_metrics(out: Workspace, stopped: bool) -> None:
    """Figures of the policy that comes out, or of the last update, and whether training ended early on KL."""
    rows = read_log(out.path)
    for name in FINAL:
        found = next((row[name] for row in reversed(rows) if row.get(name) is not None), None)
        if found is not None:
            out.metric(name, found)
    counts = {"rounds": sum("loss" in row for row in rows), "stopped_on_kl": int(stopped)}
    out.write_json("counts.json", counts)
    for name, value in counts.items():
        out.metric(name, value)
