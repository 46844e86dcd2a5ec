"""Chooses which round's policy is the product: the last one, or the best by the checks.

A check runs every few rounds and at the end. It reads one reply to each held-out prompt, or, without these, the
replies of the rounds since the last check, and ranks the present policy:

    (-excess, reward)    excess = max(0, harmless refused - bound) + max(0, cut - bound), reward by the held-out model

So rounds within the bounds come first, by reward; if there are none, the round nearest to the bounds is kept. Without
a held-out model the sum of the rules ranks. The best policy is a checkpoint in the step's state, until a better one
replaces it and a resume state includes that; so a resumed run gives the same product.

Source: Gao 2022 (2210.10760): reward by a model that isn't maximised turns down beyond some KL.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import fsync_folder
from charter.ground.artifact.workspace import Workspace
from charter.ground.learn.parallel import world
from charter.ground.learn.product import save_learnt
from charter.ground.model.checkpoint import save_policy
from charter.rooms.rl.policy import Policy
from charter.rooms.rl.prompts import Prompt
from charter.rooms.rl.reward import Graders, Reward
from charter.rooms.rl.rollout import Episode
from charter.rooms.rl.sampler import Sampler
from charter.rooms.rl.settings import Keep


@dataclass(slots=True)
class Tally:
    """Sums over the replies of a check."""

    replies: int = 0
    reward: float = 0.0
    cut: int = 0
    harmless: int = 0
    refused: int = 0

    def add(self, episodes: Sequence[Episode]) -> None:
        """Add replies: their held-out reward, or without a held-out model their rules' reward."""
        for episode in episodes:
            for reply in episode.replies:
                self.replies += 1
                self.reward += reply.rules if reply.heldout is None else reply.heldout
                self.cut += reply.stop == "length"
                self.harmless += episode.prompt.harmless
                self.refused += episode.prompt.harmless and reply.refused

    def figures(self) -> dict[str, float]:
        """Means for the log; `check_refused` only with harmless prompts."""
        shares = {"check_reward": self.reward / self.replies, "check_cut": self.cut / self.replies}
        return shares | ({"check_refused": self.refused / self.harmless} if self.harmless else {})


class Keeper:
    """Checks of a run, and the best policy so far; its state is part of the resume state."""

    def __init__(
        self, settings: Keep, reward: Reward, heldout: Sequence[Prompt], out: Workspace, state: Mapping[str, Any]
    ) -> None:
        self.settings, self.out = settings, out
        self.reward, self.heldout = reward, heldout
        self.tally = Tally(**state.get("tally", {}))
        self.best: int | None = state.get("best")
        self.rank = tuple(state.get("rank", ()))
        self.stale = int(state.get("stale", 0))

    @property
    def out_of_patience(self) -> bool:
        """Whether `patience` checks in a row brought no improvement."""
        return 0 < self.settings.patience <= self.stale

    def check(
        self, policy: Policy, sampler: Sampler, graders: Graders, episodes: Sequence[Episode], step: int, last: bool
    ) -> dict[str, float]:
        """Add a round before the policy learns from it. If a check is due, compare this policy with the best one and
        keep the better. Returns figures for the log."""
        if self.settings.round == "last":
            return {}
        # the start is no candidate
        if not self.heldout and step:
            self.tally.add(episodes)
        if not step or not (last or step % self.settings.every == 0):
            return {}
        if self.heldout:
            answered = sampler.answer_heldout(self.heldout, step)
            graders.score_heldout(answered)
            for episode in answered:
                for reply in episode.replies:
                    reply.rules = self.reward.by_rules(episode.prompt, reply)
            self.tally.add(answered)
        figures, self.tally = self.tally.figures(), Tally()
        rank = self._rank(figures)
        if self.best is None or rank > self.rank:
            self.best, self.rank, self.stale = step, rank, 0
            self._store(step, policy)
        else:
            self.stale += 1
        self._forget()
        return figures | {"kept_round": self.best}

    def _rank(self, figures: Mapping[str, float]) -> tuple[float, float]:
        over = max(0.0, figures.get("check_refused", 0.0) - self.settings.most_refusal)
        over += max(0.0, figures["check_cut"] - self.settings.most_cut)
        return -over, figures["check_reward"]

    def _folder(self, step: int) -> Path:
        return self.out.state / f"best-{step:06d}"

    def _store(self, step: int, policy: Policy) -> None:
        """Write the policy atomically."""
        if not world().leads:
            return
        part = self.out.state / ".best.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            save_policy(policy.model, policy.tokenizer, part)
            for path in part.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            fsync_folder(part)
            shutil.rmtree(self._folder(step), ignore_errors=True)
            part.rename(self._folder(step))
            fsync_folder(self.out.state)
        except OSError as error:
            raise CharterError(
                f"the best policy can't be written to {self.out.state} ({error}); make room on the disk and run again"
            ) from error

    def _forget(self) -> None:
        """Remove policies that are no longer the best, once no resume can start before the best one."""
        saved = max((path.name for path in self.out.state.glob("step-*")), default="step-0")
        for path in self.out.state.glob("best-*"):
            older = self.best is not None and int(path.name.split("-")[1]) < self.best
            if world().leads and older and self.best is not None and int(saved.split("-")[1]) > self.best:
                shutil.rmtree(path, ignore_errors=True)

    def write_product(self, policy: Policy) -> None:
        """Write the product: the best policy if one is kept, else the present one."""
        if self.best is not None:
            if world().leads:
                shutil.copytree(self._folder(self.best), self.out.path, dirs_exist_ok=True)
            return
        save_learnt(policy.model, policy.tokenizer, self.out)

    def counts(self) -> dict[str, int]:
        """Results of the checks, for the metrics."""
        if self.best is None:
            return {}
        return {"kept_round": self.best, "stopped_on_patience": int(self.out_of_patience)}

    def state(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        return {"tally": asdict(self.tally), "best": self.best, "rank": list(self.rank), "stale": self.stale}
