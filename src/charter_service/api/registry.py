"""The served models: names and aliases, lineage, context, and end dates."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import run_of, walk
from charter.ground.artifact.release import Release, untimely
from charter.ground.constitution.constitution import load
from charter.ground.settings.packages import package_of
from charter.ground.settings.problems import suggest
from charter.ground.settings.sources import digest_source, resolve_again
from charter_service.api.config import Model
from charter_service.api.errors import ApiError
from charter_service.api.model_request import Backend, Call
from charter_service.api.renewal import START


@dataclass(frozen=True, slots=True)
class ServedRelease:
    """The release that a model is served under."""

    id: str
    release: Release

    @property
    def facts(self) -> dict[str, str]:
        """Its entry in the registry: id, when it was made and when it expires (UTC)."""
        return {"id": self.id, "made": self.release.made, "expires": self.release.expires}


@dataclass(frozen=True, slots=True)
class Served:
    """A served model. `made_from`: its steps in a run, oldest first, each {step, room, id}; empty for models from
    elsewhere. `constitutions`: those that its lineage was trained under, as `constitutions_of` has them. `digest`
    identifies its weights and settings. `release`: the one that it is served under, if it needs one."""

    model: Model
    backend: Backend
    digest: str
    created: float
    made_from: tuple[dict[str, str], ...] = ()
    constitutions: tuple[dict[str, Any], ...] = ()
    release: ServedRelease | None = None

    @property
    def id(self) -> str:
        """Its name for programs."""
        return self.model.id

    @property
    def fingerprint(self) -> str:
        """The id of its present weights and settings."""
        version = self.backend.version
        return self.digest if version in ("", START) else f"{self.digest} {version}"

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.model.title or self.model.id

    @property
    def context(self) -> int:
        """Tokens of prompt and reply together."""
        return min(self.model.context, self.backend.context)

    @property
    def max_output(self) -> int:
        """Most tokens of a reply."""
        return min(self.model.max_output, self.context)

    def state(self, today: datetime.date) -> str:
        """active, deprecated or retired."""
        if self.model.retires and today >= self.model.retires:
            return "retired"
        if self.model.deprecated and today >= self.model.deprecated:
            return "deprecated"
        return "active"

    def facts(self, today: datetime.date) -> dict[str, Any]:
        """Its registry entry."""
        return {
            "id": self.id,
            "title": self.title,
            "aliases": list(self.model.aliases),
            "context": self.context,
            "max_output": self.max_output,
            "offers": sorted(self.backend.capabilities),
            "decoding": self.backend.decoding.facts if self.backend.decoding.known else None,
            "state": self.state(today),
            "deprecated": self.model.deprecated and self.model.deprecated.isoformat(),
            "retires": self.model.retires and self.model.retires.isoformat(),
            "successor": self.model.successor or None,
            "digest": self.digest,
            "made_from": list(self.made_from),
            "constitutions": [constitution["digest"] for constitution in self.constitutions],
            "knowledge_cutoff": self.model.cutoff and self.model.cutoff.isoformat(),
            "card": self.model.card or None,
            "release": self.release.facts if self.release else None,
            "weights": package.weights if (package := package_of(self.model.source)) else None,
        }


@dataclass
class Registry:
    """The models of a server, in the order of its configuration."""

    served: Sequence[Served]
    _names: dict[str, Served] = field(init=False)

    def __post_init__(self) -> None:
        self._names = {name: model for model in self.served for name in (model.id, *model.model.aliases)}

    def find(self, name: str, call: Call | None = None) -> Served:
        """The model of a name, if the caller may use it. Raises ApiError: unknown (404), retired (404), its release
        expired (404), not for this key (403)."""
        served = self._names.get(name)
        if served is None:
            raise ApiError(404, f"model: {name[:200]}; {suggest(name, self._names)}", param="model")
        if served.state(datetime.datetime.now(datetime.UTC).date()) == "retired":
            instead = f"; use {served.model.successor}" if served.model.successor else ""
            raise ApiError(404, f"model: {name} was retired on {served.model.retires}{instead}", param="model")
        if call is not None and served.release is not None:
            release = served.release.release
            if why := untimely(release, datetime.datetime.now(datetime.UTC)):
                raise ApiError(
                    404, f"model: the release of {name} {why}; the operator must release it again", param="model"
                )
        if call is not None and call.caller.models and served.id not in call.caller.models:
            raise ApiError(403, f"this key may not use the model {served.id}", param="model")
        return served

    def close(self) -> None:
        """Ends all backends."""
        for model in self.served:
            model.backend.close()


def steps_of(folder: Path) -> tuple[dict[str, str], ...]:
    """The steps behind a checkpoint, oldest first; empty if the folder isn't part of a run."""
    try:
        return tuple({"step": manifest.step, "room": manifest.room, "id": manifest.id} for manifest, _ in walk(folder))
    except CharterError:
        return ()


CONSTITUTION = "constitution"  # the role of one in every room that takes one


def constitutions_of(folder: Path) -> tuple[dict[str, Any], ...]:
    """The constitutions behind a checkpoint, each once: digest, name, version and principles. One whose file is gone or
    changed since has only its digest and its reference for a name."""
    try:
        lineage = walk(folder)
    except CharterError:
        return ()
    constitutions = dict[str, dict[str, Any]]()
    for manifest, place in lineage:
        for source in manifest.external:
            if source.role != CONSTITUTION or source.digest in constitutions:
                continue
            facts: dict[str, Any] = {"digest": source.digest, "name": source.ref, "version": None}
            constitutions[source.digest] = facts | {"critiques": [], "comparisons": []}
            try:
                path = resolve_again(source, run_of(place)).path
                if path is None or digest_source(path) != source.digest:
                    continue
                text = load(path)
            except (CharterError, OSError):
                continue
            constitutions[source.digest] = facts | {
                "name": text.name,
                "version": text.version,
                "critiques": [{"critique": pair.critique, "revision": pair.revision} for pair in text.critiques],
                "comparisons": [
                    {"principle": comparison.principle} for comparison in (*text.comparisons, *text.product)
                ],
            }
    return tuple(constitutions.values())
