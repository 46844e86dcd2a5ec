"""Which round's policy is the product: the last one's, or the best that a check has seen.

A check comes every few rounds and at the end. It reads one reply to each held-out prompt, or, without these, the
replies of the rounds since the check before it, and ranks the policy that it stands at:

    (-excess, reward)    excess = max(0, harmless refused - bound) + max(0, cut - bound), reward by the held-out model

So rounds within the bounds come first, by reward; without one, the round nearest to the bounds is kept. Without a
held-out model the sum of the rules ranks. The best policy lies in the step's state as a checkpoint, until a better
one takes its place and a resume state knows of it; then a resumed run comes to the same product.

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
from charter.rooms.rl.graders import Graders
from charter.rooms.rl.policy import Policy
from charter.rooms.rl.prompts import Prompt
from charter.rooms.rl.reward import Reward
from charter.rooms.rl.rollout import Episode
from charter.rooms.rl.sampler import Sampler
from charter.rooms.rl.settings import Keep


@dataclass(slots=True)
class Tally:
    """Sums over the replies that a check goes by."""

    replies: int = 0
    reward: float = 0.0
    cut: int = 0
    harmless: int = 0
    refused: int = 0

    def add(self, episodes: Sequence[Episode]) -> None:
        """Take in replies: their held-out reward, or without one what rules give."""
        for episode in episodes:
            for reply in episode.replies:
                self.replies += 1
                self.reward += reply.rules if reply.heldout is None else reply.heldout
                self.cut += reply.stop == "length"
                self.harmless += episode.asked.harmless
                self.refused += episode.asked.harmless and reply.refused

    def figures(self) -> dict[str, float]:
        """Means for the log; without harmless prompts nothing is said of these."""
        shares = {"check_reward": self.reward / self.replies, "check_cut": self.cut / self.replies}
        return shares | ({"check_refused": self.refused / self.harmless} if self.harmless else {})


class Keeper:
    """Checks of a run, and the best policy so far; what it knows is part of the resume state."""

    def __init__(
        self,
        settings: Keep,
        reward: Reward,
        heldout: Sequence[Prompt],
        out: Workspace,
        kept: Mapping[str, Any],
    ) -> None:
        self.settings, self.out = settings, out
        self.reward, self.heldout = reward, heldout
        self.tally = Tally(**kept.get("tally", {}))
        self.best: int | None = kept.get("best")
        self.rank = tuple(kept.get("rank", ()))
        self.stale = int(kept.get("stale", 0))

    @property
    def spent(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self.settings.patience <= self.stale

    def check(
        self,
        policy: Policy,
        sampler: Sampler,
        graders: Graders,
        episodes: Sequence[Episode],
        step: int,
        last: bool,
    ) -> dict[str, float]:
        """Takes in a round whose policy has not learnt from it yet. When it is time, compares this policy with the best
        one and keeps it if it is better. Returns what the log says of that."""
        if self.settings.round == "last":
            return {}
        if not self.heldout and step:  # the start is no candidate
            self.tally.add(episodes)
        if not step or not (last or step % self.settings.every == 0):
            return {}
        if self.heldout:
            answered = sampler.answer_heldout(self.heldout, step)
            graders.score_heldout(answered)
            for episode in answered:
                for reply in episode.replies:
                    reply.rules = self.reward.by_rules(episode.asked, reply)
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
        """Writes the policy, whole or not at all."""
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
        """Drops policies that are no longer the best, once no resume can begin before the best was found."""
        saved = max((path.name for path in self.out.state.glob("step-*")), default="step-0")
        for path in self.out.state.glob("best-*"):
            older = self.best is not None and int(path.name.split("-")[1]) < self.best
            if world().leads and older and self.best is not None and int(saved.split("-")[1]) > self.best:
                shutil.rmtree(path, ignore_errors=True)

    def write_product(self, policy: Policy) -> None:
        """Writes the policy that comes out: the one kept, else the present one."""
        if self.best is not None:
            if world().leads:
                shutil.copytree(self._folder(self.best), self.out.path, dirs_exist_ok=True)
            return
        save_learnt(policy.model, policy.tokenizer, self.out)

    def counts(self) -> dict[str, int]:
        """What the metrics say of the checks."""
        if self.best is None:
            return {}
        return {"kept_round": self.best, "stopped_on_patience": int(self.spent)}

    def state(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        return {"tally": asdict(self.tally), "best": self.best, "rank": list(self.rank), "stale": self.stale}
