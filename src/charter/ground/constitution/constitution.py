"""The constitution: principles as data, and their selection by tag (Bai 2022b, sections 1.2, 3.1 and 4.1).

A critique principle asks for a critique of a reply and then for its revision; a comparison principle asks which of two
replies is better. Tags name the purpose of a principle: harmless, helpful, honest, evasion, preachiness.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

import charter
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.notation import read_yaml

PAPER_COUNT = 16  # principles of each kind in the paper


@dataclass(frozen=True, slots=True)
class CritiquePrinciple:
    """The requests for a reply's critique and then its revision."""

    key: str
    tags: tuple[str, ...]
    critique: str
    revision: str


@dataclass(frozen=True, slots=True)
class ComparisonPrinciple:
    """The question about two replies."""

    key: str
    tags: tuple[str, ...]
    principle: str


Principle = TypeVar("Principle", CritiquePrinciple, ComparisonPrinciple)


@dataclass(frozen=True, slots=True)
class Constitution:
    """A named set of principles; `digest` depends only on its content."""

    name: str
    version: int
    critiques: tuple[CritiquePrinciple, ...]
    comparisons: tuple[ComparisonPrinciple, ...]
    digest: str

    def critique(self, key: str) -> CritiquePrinciple:
        """The critique principle of a key. Raises CharterError naming the keys there are."""
        return _find(self.critiques, key, self.name)

    def comparison(self, key: str) -> ComparisonPrinciple:
        """The comparison principle of a key. Raises CharterError naming the keys there are."""
        return _find(self.comparisons, key, self.name)

    def select_critiques(self, tags: Collection[str] = ()) -> list[CritiquePrinciple]:
        """Critique principles with any of the tags; without tags all. Raises CharterError if there are none."""
        return select_by_tags(self.critiques, tags)


@dataclass(frozen=True, slots=True)
class Check:
    """A summary of a constitution, and warnings."""

    summary: str
    warnings: tuple[str, ...]


def load(path: Path) -> Constitution:
    """Read a constitution. Raises CharterError naming the entry and the field that is wrong."""
    try:
        value = read_yaml(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise CharterError(f"there is no constitution {path}; check the path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CharterError(f"{path} is not YAML: {error}") from None
    if not isinstance(value, dict):
        raise CharterError(f"{path} must hold name, version, critiques and comparisons")
    _only(value, ("name", "version", "critiques", "comparisons"), str(path))
    name, version = value.get("name"), value.get("version", 1)
    if not isinstance(name, str) or not name.strip():
        raise CharterError(f"{path}: name is missing; give the constitution a name")
    if not isinstance(version, int) or isinstance(version, bool):
        raise CharterError(f"{path}: version is {version!r}, expected a whole number")
    critiques = tuple(
        CritiquePrinciple(_key(e, at), _tags(e, at), _line(e, "critique", at), _line(e, "revision", at))
        for at, e in _entries(value, "critiques", ("key", "tags", "critique", "revision"), path)
    )
    comparisons = tuple(
        ComparisonPrinciple(_key(e, at), _tags(e, at), _line(e, "principle", at))
        for at, e in _entries(value, "comparisons", ("key", "tags", "principle"), path)
    )
    for kind, keys in (("critiques", [c.key for c in critiques]), ("comparisons", [c.key for c in comparisons])):
        if repeated := sorted({key for key in keys if keys.count(key) > 1}):
            raise CharterError(f"{path}: {kind} has the key {repeated[0]!r} more than once; keys must differ")
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return Constitution(name, version, critiques, comparisons, hashlib.sha256(canonical.encode()).hexdigest())


@lru_cache(maxsize=1)
def shipped_constitution() -> Constitution:
    """The constitution that comes with charter; shipped worked examples use its keys."""
    return load(Path(str(charter.__file__)).parent / "data" / "constitution.yaml")


def select_by_tags(principles: Sequence[Principle], tags: Collection[str]) -> list[Principle]:
    """Principles with any of the tags; without tags all. Raises CharterError if there are none."""
    matches = [p for p in principles if not tags or set(tags) & set(p.tags)]
    if not matches:
        all_tags = sorted({tag for p in principles for tag in p.tags})
        raise CharterError(f"no principle has a tag of {sorted(tags)}; the tags are {', '.join(all_tags)}")
    return matches


def select_by_axis(principles: Sequence[ComparisonPrinciple], axis: str) -> list[ComparisonPrinciple]:
    """Principles tagged with the axis of a comparison, or all if none is."""
    return [p for p in principles if axis in p.tags] or list(principles)


def check(constitution: Constitution) -> Check:
    """Counts by kind and tag, and warnings about common problems of a set of principles."""
    c = constitution
    warnings = []
    for kind, principles in (("critiques", c.critiques), ("comparisons", c.comparisons)):
        if len(principles) < PAPER_COUNT:
            warnings.append(f"{len(principles)} {kind}, the paper has {PAPER_COUNT}: fewer make less varied labels")
        tags = {tag for p in principles for tag in p.tags}
        warnings += [
            f"no principle of {kind} is tagged {tag}: models trained on such sets turn {trait}"
            for tag, trait in (("evasion", "evasive"), ("preachiness", "preachy"))
            if tag not in tags
        ]
        warnings += [f"{kind}: {p.key} has no tags, so it is never drawn for an axis" for p in principles if not p.tags]
    requests = [(p.key, t) for p in c.critiques for t in (f"critique {p.critique}", f"revision {p.revision}")]
    requests += [(p.key, f"comparison {p.principle}") for p in c.comparisons]
    first: dict[str, str] = {}
    for key, text in requests:
        first_key = first.setdefault(" ".join(text.lower().split()), key)
        if first_key != key:
            warnings.append(f"{key} asks the same as {first_key} ({text.split()[0]})")
    warnings += [
        f"{p.key} is no question: its principle has no question mark" for p in c.comparisons if "?" not in p.principle
    ]
    counts = [
        f"{len(principles)} {kind} ({_by_tag(principles)})"
        for kind, principles in (("critiques", c.critiques), ("comparisons", c.comparisons))
    ]
    summary = f"{c.name} version {c.version}: {', '.join(counts)}; digest {c.digest[:12]}"
    return Check(summary, tuple(warnings))


def _by_tag(principles: Sequence[CritiquePrinciple | ComparisonPrinciple]) -> str:
    tags = [tag for p in principles for tag in p.tags]
    return ", ".join(f"{tag} {tags.count(tag)}" for tag in sorted(set(tags))) or "no tags"


def _find(principles: Sequence[Principle], key: str, name: str) -> Principle:
    for principle in principles:
        if principle.key == key:
            return principle
    keys = ", ".join(p.key for p in principles)
    raise CharterError(f"the constitution {name} has no principle {key!r}; its keys are {keys}")


def _entries(
    value: Mapping[str, Any], kind: str, fields: Collection[str], path: Path
) -> list[tuple[str, dict[str, Any]]]:
    entries = value.get(kind)
    if not isinstance(entries, list) or not entries:
        raise CharterError(f"{path}: {kind} is missing or empty; expected a list of {', '.join(fields)}")
    rows = []
    for number, entry in enumerate(entries, 1):
        at = f"{path}: {kind} entry {number}"
        if not isinstance(entry, dict):
            raise CharterError(f"{at} is {type(entry).__name__}, expected {', '.join(fields)}")
        if isinstance(entry.get("key"), str):
            at += f" ({entry['key']})"
        _only(entry, fields, at)
        rows.append((at, entry))
    return rows


def _only(entry: Mapping[str, Any], fields: Collection[str], at: str) -> None:
    if unknown := sorted(set(map(str, entry)) - set(fields)):
        raise CharterError(f"{at}: unknown field {unknown[0]!r}; the fields are {', '.join(fields)}")


def _key(entry: Mapping[str, Any], at: str) -> str:
    return _line(entry, "key", at)


def _line(entry: Mapping[str, Any], field: str, at: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str) or not value.strip():
        raise CharterError(f"{at}: {field} is missing or no text")
    return " ".join(value.split())


def _tags(entry: Mapping[str, Any], at: str) -> tuple[str, ...]:
    value = entry.get("tags", [])
    if not isinstance(value, list) or not all(isinstance(tag, str) and tag for tag in value):
        raise CharterError(f"{at}: tags must be a list of words")
    return tuple(value)
