"""Lessons: pairs measured by programs and pairs written by people, the better reply first, and what each step takes."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from charter.ground.artifact.inputs import Inputs
from charter.ground.constitution.lessons import Lesson, read_measured, read_written
from charter.ground.settings.notation import read_yaml_file
from charter.ground.settings.seed import derive_seed
from charter.ground.settings.sources import shipped_folder
from charter.rooms.labeller.settings import Settings

TWO_PHRASES = 0.3  # share of principles that say it in two phrases
_IRREGULAR = {"is": "be", "has": "have", "does": "do", "goes": "go"}


class Asked(NamedTuple):
    """A principle and the numbers of the lessons that it decides; `hidden`: without the measured traits."""

    principle: str
    lessons: Sequence[int]
    hidden: bool


def read_lessons(inputs: Inputs) -> tuple[list[Lesson], list[Lesson]]:
    """(measured, written) pairs of all sources. Raises CharterError naming the place of a broken row."""
    measured = [lesson for source in inputs.many("lessons") for lesson in read_measured(source.folder)]
    return measured, [lesson for source in inputs.many("written") for lesson in read_written(source.folder)]


def batches(measured: Sequence[Lesson], written: Sequence[Lesson], settings: Settings, seed: int) -> list[list[Asked]]:
    """What each optimizer step takes. A written principle decides its own pair. One of measured lessons decides
    several pairs of its trait and pole, in its own words or, for a share of them, in words of phrases and frames."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number, lesson in enumerate(measured):
        trait = (lesson.kind, lesson.pole) if lesson.kind in phrases()["traits"] else ("", lesson.principle)
        groups.setdefault(trait, []).append(number)
    rng = random.Random(derive_seed(seed, "order"))
    of_written = (round(settings.batch * settings.written_share) if measured else settings.batch) if written else 0
    steps = []
    for _ in range(settings.steps):
        chosen = rng.choices(range(len(written)), k=of_written) if of_written else []
        decides = [(written[n].principle, [len(measured) + n]) for n in chosen]
        for kind, pole in rng.choices(sorted(groups), k=settings.batch - of_written) if groups else []:
            members = groups[kind, pole]
            drawn = rng.sample(members, min(settings.pairs, len(members)))
            phrased = kind and rng.random() < settings.phrased_share
            decides.append((compose(kind, pole, rng) if phrased else measured[drawn[0]].principle, drawn))
        steps.append([Asked(*decided, hidden=rng.random() < settings.hidden_share) for decided in decides])
    return steps


@lru_cache(maxsize=1)
def phrases() -> dict[str, dict[str, Any]]:
    """{frames: {prefer, avoid, prefer_thing, avoid_thing}, traits: {kind: {more, less, thing, lack}}}."""
    return read_yaml_file(shipped_folder() / "principle_phrases.yaml", "phrases of principles", "frames and traits")


def compose(kind: str, pole: str, rng: random.Random) -> str:
    """A principle for or against a trait: a phrase of more of it or of less, or two, in a frame that prefers or avoids
    it."""
    frames, of_trait = phrases()["frames"], phrases()["traits"][kind]
    avoid, noun = rng.random() < 0.5, rng.random() < 0.4
    has_more = (pole == "for") != avoid
    part = ("thing" if has_more else "lack") if noun else ("more" if has_more else "less")
    chosen = rng.sample(of_trait[part], min(len(of_trait[part]), 2 if rng.random() < TWO_PHRASES else 1))
    frame = ("avoid" if avoid else "prefer") + "_thing" * noun
    if not noun and rng.random() < 0.5 and all(base_forms := [base_form(phrase) for phrase in chosen]):
        chosen, frame = base_forms, ("avoid" if avoid else "prefer") + "_to"
    joined = (" or " if avoid else " and ").join(chosen)
    return str(rng.choice(frames[frame]).format(joined))


def base_form(phrase: str) -> str:
    """The phrase with its verb as behind "to"; empty if it begins otherwise than with a verb in the third person."""
    verb, _, rest = phrase.partition(" ")
    if not verb.endswith("s"):
        return ""
    base = _IRREGULAR.get(verb) or re.sub(r"(?<=ch|sh|ss)es$|s$", "", re.sub(r"ies$", "ys", verb))
    return f"{base} {rest}".strip()
