"""Deep verification: some of a report's samples are drawn and graded again, and must come out as they were kept.

Whole chunks are redone, as they were first made, so that on the same machine settings the texts are equal to the
letter; which chunks, is drawn anew each time. Called by `charter card verify --deep` through the runner.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.lineage import run_of
from charter.ground.artifact.progress import Progress
from charter.ground.artifact.store import read_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.settings.remake import elsewhere, inputs_again
from charter.ground.settings.sources import is_remote
from charter.ground.text.dialogue import Dialogue
from charter.rooms.evaluate import facts, harmlessness
from charter.rooms.evaluate.context import Asking, Context, open_asking, open_context
from charter.rooms.evaluate.fluency import under_start
from charter.rooms.evaluate.settings import ROLES, Settings

SCORE_TOLERANCE = 1e-3
SCORES = ("grader", "grader_fixed", "reward", "reward_fixed", "harm_rating", "nll_start")
EQUAL = ("stop", "tokens", "facts", "accepted")


@dataclass(frozen=True, slots=True)
class Kept:
    """One set of kept replies: its file, the word of its prompts, the prompts, samples a prompt, how these are drawn,
    and what is added to rows that no model grades."""

    name: str
    word: str
    prompts: Sequence[Dialogue]
    samples: int
    context: Asking
    mark: Callable[[list[dict[str, Any]]], None] | None = None


def regenerate(
    report: Path, count: int, seed: int | None = None, progress: Progress | None = None
) -> list[str]:
    """Redo chunks of a report's replies to unsafe prompts, look-alikes and questions, drawn at random, until `count` of
    each at least (where it has as many) are redone. Returns one line for each that differs in text, length or a score,
    or one that says why none can be compared here and what to run.

    seed: of the draw of chunks; None draws others each time.
    """
    manifest = read_manifest(report)
    settings = Settings.model_validate(manifest.resolved)
    if any(source.role == "policy" and is_remote(source.ref) for source in manifest.external):
        return [f"{report.name}: a server made these samples; it can't be held to make them again"]
    if reason := elsewhere(manifest.environment, run_of(report)):
        return [f"{report.name}: {reason}"]
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        out = Workspace(
            Path(folder),
            step=manifest.step,
            seed=manifest.seed,
            precision=manifest.environment.precision,
            progress=progress,
        )
        if not {"assistant", "facts"} & {*settings.tasks}:
            return []  # a screen's report has no replies
        opened = open_context if "assistant" in settings.tasks else open_asking
        context = opened(settings, inputs_again(report, ROLES), out)
        return [line for kept in _kept(context) for line in _redo(report, kept, count, rng)]


def _kept(context: Asking) -> Iterator[Kept]:
    """The sets of replies that a report keeps."""
    settings = context.settings
    if "assistant" in settings.tasks:
        unsafe, alike = (context.prompts(r, getattr(settings.counts, r)) for r in ("red_team", "lookalikes"))
        yield Kept("harmlessness", "prompt", unsafe, settings.samples, context)
        yield Kept("lookalikes", "look-alike", alike, settings.other_samples, context)
    if "facts" in settings.tasks:
        for role, asked in facts.questions(context).items():
            bounded, mark = facts.bounded(context, role), facts.marked(role, asked)
            yield Kept(role, "question", asked, settings.other_samples, bounded, mark)


def _redo(report: Path, kept: Kept, count: int, rng: random.Random) -> list[str]:
    """Lines of one set: replies too few or too many, and those of the drawn chunks that differ."""
    context, prompts = kept.context, kept.prompts
    rows = {(r["id"], r["sample"]): r for r in read_objects(report / f"samples/{kept.name}.jsonl")}
    scored = any("grader" in row for row in rows.values())  # look-alikes of earlier versions were not
    asked = {(d.id, k) for d in prompts for k in range(kept.samples)}

    def named(key: tuple[str, int]) -> str:
        return f"{report.name}: {kept.word} {key[0]} sample {key[1]}"

    problems = [f"{named(key)} is missing from the kept samples" for key in sorted(asked - rows.keys())]
    problems += [f"{named(key)} is kept and was never asked for" for key in sorted(rows.keys() - asked)]
    chunks = _drawn(prompts, context.chunk(kept.samples), -(-count // kept.samples), rng)
    with context.out.progress(f"{report.name}: {kept.name} again", sum(map(len, chunks))) as bar:
        for part in chunks:
            made = context.sample(kept.name, part, kept.samples)
            if kept.mark is not None:
                kept.mark(made)
            elif scored and isinstance(context, Context):
                harmlessness.grade(context, made)
            if context.start is not None:
                under_start(context.start, made)
            for row in made:
                key = (row["id"], row["sample"])
                problems += [f"{named(key)}{line}" for line in _differences(row, rows.get(key, row))]
            bar.advance(len(part))
    return problems


def _drawn(
    prompts: Sequence[Dialogue], size: int, least: int, rng: random.Random
) -> list[Sequence[Dialogue]]:
    """Chunks in random order, as few as hold `least` prompts."""
    chunks = [prompts[at : at + size] for at in range(0, len(prompts), size)]
    rng.shuffle(chunks)
    found: list[Sequence[Dialogue]] = []
    while chunks and sum(map(len, found)) < least:
        found.append(chunks.pop())
    return found


def _differences(made: dict[str, Any], kept: dict[str, Any]) -> list[str]:
    if made["reply"] != kept["reply"]:
        return [" comes out as another text when it is sampled again"]
    found = [
        f": {key} is {kept.get(key)} in the kept samples and {made.get(key)} when sampled again"
        for key in EQUAL
        if made.get(key) != kept.get(key)
    ]
    for key in SCORES:
        a, b = made.get(key), kept.get(key)
        if isinstance(a, float) and (not isinstance(b, float) or abs(a - b) > SCORE_TOLERANCE):
            found.append(f": {key} is {b} in the kept samples and {a:.4f} when graded again")
    return found
