"""Settings and roles of the prompts room."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pydantic import Field, model_validator

from charter.ground.settings.frozen import Frozen
from charter.ground.settings.room import Estimate, Role, Room, Sizes
from charter.ground.text.heldout import DEV, TEST

ROLES = {
    "unsafe": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "benign": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "labelled": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "apart": Role(kind="dialogues", rows="prompts", many=True, required=False),
    "refusals": Role(kind="dialogues", rows="lessons", required=False),
}


class Split(Frozen):
    """Which prompts are held out: by a hash of their words, so every set and every run splits them equally."""

    part: Literal["train", "dev", "test", "all"] = Field(
        "train", description="the part to make; all: nothing is held out"
    )
    test: int = Field(TEST, ge=2, description="one prompt in this many is in the test part")
    dev: int = Field(DEV, ge=2, description="one in this many of the others is in the dev part, for choosing settings")


class Settings(Frozen):
    """Prompts of several sets, each once and labelled, without held-out ones and those of `apart`."""

    keep: Literal["unsafe", "benign", "all"] = Field("all", description="the labels to make")
    split: Split = Field(Split(), description="how prompts are split")
    limit: int = Field(0, ge=0, description="most prompts of each input, drawn at random; 0 takes all")
    draw_seed: int = Field(0, ge=0, description="seed of that draw")
    most_words: int = Field(60, ge=1, description="longer prompts are dropped")
    by_topic: bool = Field(
        True, description="refusals of the prompt's own topic; false: those of topic `stock`, which fit any request"
    )
    without: tuple[str, ...] = Field((), description="topics whose prompts are dropped")
    overlap: int = Field(
        8, ge=0, description="a common run of this many words makes a prompt a copy of one in `apart`; 0: whole prompts"
    )

    @model_validator(mode="after")
    def _check_overlap(self) -> Settings:
        if self.overlap and self.overlap < 4:
            raise ValueError("overlap below 4 words takes ordinary phrases for copies; use 4 or more, or 0")
        return self


def check(settings: Settings, roles: Collection[str]) -> str:
    """What is wrong with the settings in combination with the filled roles, or ""."""
    sets = {"unsafe", "benign"} if settings.keep == "all" else {settings.keep}
    if not (sets | {"labelled"}) & set(roles):
        return f"there are no sets to make prompts of: name some under {' or '.join(sorted(sets))}, or labelled"
    if "refusals" in roles and settings.keep == "benign":
        return "refusals answer unsafe prompts, but keep: benign makes none; leave the role out, or keep others"
    return ""


def estimate(settings: Settings, sizes: Sizes) -> Estimate:
    """Reading a thousand prompts takes a second. Rows: those expected."""
    rows_read = sum(sizes.rows.get(role, 0) for role in ROLES)
    roles = ("unsafe", "benign", "labelled") if settings.keep == "all" else (settings.keep, "labelled")
    split = settings.split
    shares = {"test": 1 / split.test, "dev": (1 - 1 / split.test) / split.dev, "all": 1.0}
    share = shares.get(split.part, (1 - 1 / split.test) * (1 - 1 / split.dev))
    # of labelled prompts about half have the label
    halves = {"labelled": 0.5 if settings.keep != "all" else 1.0}
    counts = [round(n * share * halves.get(role, 1.0)) for role in roles for n in sizes.each.get(role, ())]
    rows = sum(min(n, settings.limit) if settings.limit else n for n in counts)
    return Estimate(
        minutes=rows_read / 1000 / 60,
        memory_gib=0.2,
        disk_gib=0.001 * rows_read / 1000,
        rows=rows,
        row_tokens=sizes.mean_tokens(*roles),
    )


ROOM = Room(product="dialogues", settings=Settings, roles=ROLES, estimate=estimate, check=check)
