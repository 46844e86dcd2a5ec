"""The texts that a model was pretrained on: the size of each source, language and licence, and why documents were
dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from charter.ground.artifact.curves import read_object
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.number import Number
from charter.rooms.card.gather import Run

COMPOSITION = "composition.json"
GROUPS = (("source", "Source"), ("language", "Language"), ("licence", "Licence"))
SIZES = ("documents", "heldout", "bytes", "tokens")
# Listed rows of a group, those with most bytes first.
MOST = 12


@dataclass(frozen=True, slots=True)
class Part:
    """Documents learnt from (with repeats) and held out of one source, language or licence, their bytes and tokens."""

    name: str
    numbers: tuple[Number, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """One corpus: its parts by kind with the number of parts that aren't listed, and documents dropped by reason."""

    step: str
    read: Number
    kept: Number
    total: Part
    groups: tuple[tuple[str, tuple[Part, ...], Number | None], ...]
    dropped: tuple[tuple[str, Number], ...]


def corpora(run: Run) -> tuple[Corpus, ...]:
    """The corpora among a card's ancestors."""
    artifacts = (a for a in run.lineage if a.manifest.kind == "corpus" and (a.path / COMPOSITION).is_file())
    return tuple(_corpus(artifact) for artifact in artifacts)


def _corpus(artifact: Artifact) -> Corpus:
    whole: dict[str, Any] = read_object(artifact.path / COMPOSITION)
    by_source = whole["by"]["source"].values()
    groups = []
    for key, title in GROUPS:
        parts = sorted(whole["by"][key].items(), key=lambda part: (-part[1].get("bytes", 0), part[0]))
        rest = artifact.count(f"{key}/others", len(parts) - MOST, COMPOSITION) if len(parts) > MOST else None
        listed = tuple(_part(artifact, f"{key}/{name}", name, sizes) for name, sizes in parts[:MOST])
        groups.append((title, listed, rest))
    return Corpus(
        artifact.name,
        artifact.count("read", sum(source.get("read", 0) for source in by_source), COMPOSITION),
        artifact.count("kept", whole["total"]["unique"], COMPOSITION),
        _part(artifact, "all", "all", whole["total"]),
        tuple(groups),
        tuple(
            (reason.replace("_", " "), artifact.count(f"reason {reason}", count, COMPOSITION))
            for reason, count in sorted(whole["dropped"].items(), key=lambda part: (-part[1], part[0]))
            if count
        ),
    )


def _part(artifact: Artifact, key: str, name: str, sizes: Mapping[str, float]) -> Part:
    numbers = tuple(artifact.count(f"{key}/{size}", sizes.get(size, 0), COMPOSITION) for size in SIZES)
    return Part(name, numbers)
