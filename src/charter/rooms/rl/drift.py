"""Snapshots of the replies during training, each compared with the first one (`ground/measure/drift.py`).

A snapshot pools the replies of whole rounds until it has `window` replies; at the end half as many are enough. Its
replies and their marks are in samples/drift.jsonl, its figures and alarms in a row of drift.jsonl. An alarm may end
training before the policy learns from that round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.declining import MARKS
from charter.ground.judge.detect import training_digest
from charter.ground.measure.drift import DRIFT, REPLIES, snapshot_row
from charter.ground.measure.metric import VERSION
from charter.rooms.rl.learning import Targets
from charter.rooms.rl.rollout import by_reply
from charter.rooms.rl.settings import Monitor


class DriftMonitor:
    """The first snapshot and the replies pooled since the last one; both are part of the resume state."""

    def __init__(self, settings: Monitor, steps: int, out: Workspace, state: Mapping[str, Any]) -> None:
        self.settings, self.steps, self.out = settings, steps, out
        self.first: list[dict[str, Any]] = state.get("first", [])
        self.pooled: list[dict[str, Any]] = state.get("pooled", [])
        self.snapshots = int(state.get("snapshots", 0))
        self.alarms = int(state.get("alarms", 0))
        self.stopped = False
        for name in (REPLIES, DRIFT):
            out.truncate_jsonl(name, "snapshot", self.snapshots)

    def add(self, targets: Targets, step: int) -> None:
        """Add a round, from which the policy has not learnt yet."""
        if not self.settings.window:
            return
        kl = iter([sum(values) for values in by_reply(targets.kl.tolist(), targets.episodes)])
        self.pooled += [
            {
                "snapshot": self.snapshots,
                "round": step,
                "id": episode.dialogue.id,
                "sample": number,
                "source": episode.prompt.source,
                "group": episode.prompt.group,
                "reply": reply.text,
                "stop": reply.stop,
                "tokens": len(reply.ids),
                "kl": next(kl),
                "reward": reply.score,
                "reward_heldout": reply.heldout,
                **{name: detect(reply.text) for name, detect in MARKS.items()},
            }
            for episode in targets.episodes
            for number, reply in enumerate(episode.replies)
        ]
        if len(self.pooled) >= self.settings.window:
            alarms = self._close()
            self.stopped = self.settings.stop and step < self.steps and bool(alarms & {*self.settings.stop_on})

    def finish(self) -> None:
        """Close the last snapshot at the end of training, if it has at least half of `window` replies."""
        if self.pooled and 2 * len(self.pooled) >= self.settings.window:
            self._close()

    def _close(self) -> set[str]:
        """Make a snapshot of the pooled replies, write it, and return its alarms."""
        self.first = self.first or self.pooled
        row = snapshot_row(self.first, self.pooled, self.settings.level)
        self.out.append_jsonl(REPLIES, self.pooled)
        self.out.append_jsonl(DRIFT, [row | {"version": VERSION, "detectors": training_digest()}])
        alarms = row["alarms"]
        if alarms:
            rounds = " to ".join(str(number) for number in row["rounds"])
            self.out.note(f"{self.out.step}: replies of rounds {rounds} drifted: {', '.join(alarms)}")
        self.snapshots, self.alarms, self.pooled = self.snapshots + 1, self.alarms + len(alarms), []
        return {*alarms}

    def counts(self) -> dict[str, int]:
        """Counts of snapshots and alarms, for the metrics."""
        if not self.settings.window:
            return {}
        counts = {"snapshots": self.snapshots, "drift_alarms": self.alarms}
        return counts | {"stopped_on_drift": int(self.stopped)}

    def state(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        return {"first": self.first, "pooled": self.pooled, "snapshots": self.snapshots, "alarms": self.alarms}
