"""What every evaluation of a report shares: the model under test, the graders, the drawn prompts, the sampler."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Inputs
from charter.ground.artifact.manifest import digest_text
from charter.ground.artifact.workspace import Workspace
from charter.ground.generate.assistant import (
    Assistant,
    LocalAssistant,
    check_prompts,
    open_assistant,
    own_decoding,
)
from charter.ground.generate.engine import naming_prompts
from charter.ground.generate.sampling import sampling_at
from charter.ground.judge.detect import DETECTORS
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.model.generation import Decoding
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.ground.text.dialogue import Dialogue
from charter.ground.text.records import read_prompts
from charter.rooms.evaluate.fluency import under_start
from charter.rooms.evaluate.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asking:
    """The model under test and how it is asked, without a judge of its replies; `start` scores how fluent they are."""

    settings: Settings
    inputs: Inputs
    out: Workspace
    assistant: Assistant
    start: LocalAssistant | None = field(default=None, kw_only=True)

    @property
    def template(self) -> str:
        """What words the prompts: the digest of the checkpoint's chat template, or "remote" where a server does it."""
        assistant = self.assistant
        return digest_text(assistant.template.jinja) if isinstance(assistant, LocalAssistant) else "remote"

    @property
    def decoding(self) -> Decoding:
        """How replies are drawn: as the checkpoint says, or as the protocol does."""
        if self.settings.decoding == "own":
            return own_decoding(self.assistant)
        return Decoding(self.settings.temperature)

    def draw(self, rows: Sequence[T], limit: int, what: str) -> list[T]:
        """At most `limit` rows (0: all), the same for every stage: the draw depends on draw_seed alone."""
        if not limit or limit >= len(rows):
            return list(rows)
        rng = random.Random(derive_seed(self.settings.draw_seed, "draw", what))
        return [rows[i] for i in sorted(rng.sample(range(len(rows)), limit))]

    def prompts(self, role: str, limit: int) -> list[Dialogue]:
        """Drawn prompts of a role, without the assistant's reference answers. Raises CharterError for one that is too
        long for the model under test."""
        prompts = self.draw(read_prompts([i.folder for i in self.inputs.many(role)]), limit, role)
        check_prompts(self.assistant, prompts)
        return prompts

    def replies(
        self, what: str, prompts: Sequence[Dialogue], n: int, grade: Callable[[list[dict[str, Any]]], None]
    ) -> list[dict[str, Any]]:
        """n sampled replies a prompt as rows, detectors applied, graded chunk by chunk; resumable."""

        def produce(part: Sequence[Dialogue], _: int) -> list[dict[str, Any]]:
            rows = self.sample(what, part, n)
            grade(rows)
            if self.start is not None:
                under_start(self.start, rows)
            return rows

        return self.out.chunks(what, prompts, self.chunk(n), produce, f"{self.settings.stage}: {what}")

    def chunk(self, n: int) -> int:
        """Prompts of a chunk with n samples each: as many replies whatever n, so that no slot of the engine stays empty
        where they are few."""
        return max(1, self.settings.chunk * self.settings.samples // n)

    def sample(self, what: str, prompts: Sequence[Dialogue], n: int) -> list[dict[str, Any]]:
        """Ungraded rows of a chunk; seeds depend on draw_seed, the evaluation and the prompt's id alone."""
        seeds = [derive_seed(self.settings.draw_seed, what, d.id) for d in prompts]
        sampling = sampling_at(self.decoding, self.settings.max_tokens)
        with naming_prompts(d.id for d in prompts):
            found = self.assistant.reply([list(d.messages) for d in prompts], sampling, n, seeds)
        return [
            {
                "id": d.id,
                "topic": d.topic,
                "unseen": bool(d.meta.get("unseen", False)),
                "sample": k,
                "seed": seed,
                "messages": list(d.messages),
                "prompt": d.messages[-1]["content"],
                "reply": c.text.strip(),
                "stop": c.stop,
                "tokens": len(c.ids) or len(c.text.split()),
                **{name: detect(c.text.strip()) for name, detect in DETECTORS.items()},
            }
            for d, seed, completions in zip(prompts, seeds, found, strict=True)
            for k, c in enumerate(completions)
        ]


@dataclass(frozen=True, slots=True)
class Context(Asking):
    """`reward` is the preference model that RL maximised, shown beside the frozen grader, and `rater` rates harm from 0
    to 4; None where there is none."""

    grader: PreferenceModel
    reward: PreferenceModel | None
    rater: PreferenceModel | None


def graded(
    model: PreferenceModel, rows: Sequence[dict[str, Any]], beside: str = ""
) -> Iterator[tuple[dict[str, Any], float, float]]:
    """(row, score of its reply, score of the reply `beside` to the same prompt; NaN without one).

    Equal texts to one prompt are scored once, so that a tie is a tie whatever the rounding.
    """
    groups = by_prompt(rows)
    texts = [list(dict.fromkeys([*([beside] if beside else []), *(r["reply"] for r in g)])) for g in groups]
    found = model.score([(g[0]["messages"], t) for g, t in zip(groups, texts, strict=True)])
    for group, given, scores in zip(groups, texts, found, strict=True):
        score = dict(zip(given, scores, strict=True))
        for row in group:
            yield row, score[row["reply"]], score.get(beside, math.nan)


def by_prompt(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows of one prompt together, in order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["id"], []).append(row)
    return list(groups.values())


def open_asking(settings: Settings, inputs: Inputs, out: Workspace) -> Asking:
    """Load the model under test alone."""
    return Asking(
        settings, inputs, out, open_assistant(inputs.one("policy"), out.device, precision=out.precision)
    )


def open_context(settings: Settings, inputs: Inputs, out: Workspace) -> Context:
    """Load the model under test and its graders, which must be two: the first is shown as one that RL never
    maximised."""
    reward, rater, start = (inputs.optional(role) for role in ("reward", "rater", "start"))
    if reward is not None and reward.id == inputs.one("grader").id:
        raise CharterError(
            f"grader and reward are one model ({reward.name}): a model can't grade what was trained to please it; give "
            "a grader of other prompts (`pairs.part`), or leave `reward` out where nothing maximised it"
        )
    return Context(
        settings,
        inputs,
        out,
        open_assistant(inputs.one("policy"), out.device, precision=out.precision),
        PreferenceModel.open(inputs.one("grader").folder, out.device, out.precision),
        PreferenceModel.open(reward.folder, out.device, out.precision) if reward else None,
        PreferenceModel.open(rater.folder, out.device, out.precision, "rating") if rater else None,
        start=LocalAssistant.open(checkpoint_folder(start), out.device, precision=out.precision)
        if start
        else None,
    )
