"""The prompts of RL: their sources, the probability that each should be refused, and the choice for a round."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from charter.ground.artifact.inputs import Inputs
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue, prompt_of
from charter.ground.text.labels import EVEN, p_refuse
from charter.ground.text.records import read_dialogues

HARMLESS, PROMPTS = "harmless", "prompts"


def label(source: str) -> str:
    """A short name for a prompt source, with the folder, since files may share a name: `shipped:red_team.train` is
    red_team, `./unsafe/prompts.jsonl` is unsafe_prompts."""
    parts = [part for part in source.rsplit(":", 1)[-1].split("/") if part not in ("", ".", "..", "~")]
    return "_".join([*parts[-2:-1], parts[-1].split(".")[0]])


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and the short name of its source; `p_refuse`: probability that it should be refused, None if unknown."""

    dialogue: Dialogue
    source: str
    p_refuse: float | None = None

    @property
    def harmless(self) -> bool:
        """Whether it is labelled as more likely harmless than not."""
        return self.p_refuse is not None and self.p_refuse < EVEN

    @property
    def group(self) -> str:
        """`harmless`, or `prompts` for one that may be refused."""
        return HARMLESS if self.harmless else PROMPTS

    def is_of(self, name: str) -> bool:
        """Whether a name in the settings is that of this prompt's source or group."""
        return name in (self.source, self.group)


def read_round_prompts(inputs: Inputs, prompts: str = PROMPTS, harmless: str = HARMLESS) -> list[Prompt]:
    """All prompts of two roles: those that may be refused, then those that must be answered (p_refuse 0). A row's own
    `p_refuse` overrides its role's. Raises CharterError if it is no probability."""
    return [
        Prompt(prompt_of(d), label(source.name), p_refuse(d, source.name, role_p_refuse))
        for role, role_p_refuse in ((prompts, None), (harmless, 0.0))
        for source in inputs.many(role)
        for d in read_dialogues(source.folder)
    ]


def prompts_of_round(prompts: Sequence[Prompt], count: int, seed: int, step: int) -> list[Prompt]:
    """The prompts of a round: passes over all of them, each shuffled anew. Independent of earlier rounds."""
    orders: dict[int, list[int]] = {}
    round_prompts = []
    for n in range(step * count, (step + 1) * count):
        epoch, at = divmod(n, len(prompts))
        if epoch not in orders:
            orders[epoch] = list(range(len(prompts)))
            random.Random(derive_seed(seed, "prompts", epoch)).shuffle(orders[epoch])
        round_prompts.append(prompts[orders[epoch][at]])
    return round_prompts
