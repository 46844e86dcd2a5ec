"""The constitution: principles as data, and their selection by tag (Bai 2022b, sections 1.2, 3.1 and 4.1).

A critique principle asks for a critique of a reply and then for its revision; a comparison principle asks which of two
replies is better. A product set serves both uses, as the constitution that Anthropic published in 2023 does: its
principles stand in groups, and each step draws a group first. Tags name the purpose of a principle: harmless, helpful,
honest, evasion, preachiness.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

import charter
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.notation import read_yaml

PAPER_COUNT = 16  # principles of each kind in the paper
_CHOICE = re.compile(r"\b(choose|pick|prefer|select)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CritiquePrinciple:
    """The requests for a reply's critique and then its revision; `instruction`: the same to whoever has not replied."""

    key: str
    tags: tuple[str, ...]
    critique: str
    revision: str
    group: str = ""
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class ComparisonPrinciple:
    """The question about two replies."""

    key: str
    tags: tuple[str, ...]
    principle: str
    group: str = ""

    def as_critique(self) -> CritiquePrinciple:
        """The same principle as a request for a critique and a revision."""
        return CritiquePrinciple(
            self.key,
            self.tags,
            f"Say where the assistant's last reply falls short of this principle: {self.principle}",
            f"Rewrite the reply so that it would be chosen under this principle: {self.principle}",
            self.group,
            f"Answer so that your reply is the one chosen here: {self.principle}",
        )


Principle = TypeVar("Principle", CritiquePrinciple, ComparisonPrinciple)
# the set that a step draws from: that of its own use (critiques, or comparisons), or the product's
Use = Literal["own", "product"]
FIELDS = ("name", "version", "critiques", "comparisons", "product")


@dataclass(frozen=True, slots=True)
class Constitution:
    """Named sets of principles; `digest` depends only on their content. Each set may be empty, but not all."""

    name: str
    version: int
    critiques: tuple[CritiquePrinciple, ...]
    comparisons: tuple[ComparisonPrinciple, ...]
    product: tuple[ComparisonPrinciple, ...]
    digest: str

    def critique(self, key: str) -> CritiquePrinciple:
        """The critique principle of a key, also of the product set. Raises CharterError naming the keys there are."""
        return _find((*self.critiques, *(p.as_critique() for p in self.product)), key, self.name)

    def comparison(self, key: str) -> ComparisonPrinciple:
        """The comparison principle of a key, also of the product set. Raises CharterError naming the keys there are."""
        return _find((*self.comparisons, *self.product), key, self.name)

    def critiques_of(self, use: Use, tags: Collection[str] = ()) -> list[CritiquePrinciple]:
        """Critique principles of a set with any of the tags; without tags all. Raises CharterError if there are
        none."""
        found = self.critiques if use == "own" else tuple(p.as_critique() for p in self.product)
        return select_by_tags(self._some(found, use, "critiques"), tags)

    def comparisons_of(self, use: Use, tags: Collection[str] = ()) -> list[ComparisonPrinciple]:
        """Comparison principles of a set with any of the tags; without tags all. Raises CharterError if there are
        none."""
        return select_by_tags(self._some(self.comparisons if use == "own" else self.product, use, "comparisons"), tags)

    def _some(self, found: tuple[Principle, ...], use: Use, own: str) -> tuple[Principle, ...]:
        if found:
            return found
        missing, other = (own, "product") if use == "own" else ("product", "own")
        raise CharterError(f"the constitution {self.name} has no {missing}; set principle_set: {other}, or add them")


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
        raise CharterError(f"{path} must hold name, version, and critiques and comparisons, or product")
    _only(value, FIELDS, str(path))
    name, version = value.get("name"), value.get("version", 1)
    if not isinstance(name, str) or not name.strip():
        raise CharterError(f"{path}: name is missing; give the constitution a name")
    if not isinstance(version, int) or isinstance(version, bool):
        raise CharterError(f"{path}: version is {version!r}, expected a whole number")
    critiques = tuple(
        CritiquePrinciple(
            _key(e, at),
            _tags(e, at),
            _line(e, "critique", at),
            _line(e, "revision", at),
            instruction=_line(e, "instruction", at) if "instruction" in e else "",
        )
        for at, e in _entries(value, "critiques", ("key", "tags", "critique", "revision", "instruction"), path)
    )
    comparisons = tuple(
        ComparisonPrinciple(_key(e, at), _tags(e, at), _line(e, "principle", at))
        for at, e in _entries(value, "comparisons", ("key", "tags", "principle"), path)
    )
    product = tuple(
        ComparisonPrinciple(_key(e, at), _tags(e, at), _line(e, "principle", at), _line(e, "group", at))
        for at, e in _entries(value, "product", ("key", "tags", "group", "principle"), path)
    )
    named = {
        "critiques": [p.key for p in critiques] + [p.key for p in product],
        "comparisons": [p.key for p in comparisons] + [p.key for p in product],
    }
    for kind, keys in named.items():
        if repeated := sorted({key for key in keys if keys.count(key) > 1}):
            raise CharterError(f"{path}: {kind} has the key {repeated[0]!r} more than once; keys must differ")
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return Constitution(name, version, critiques, comparisons, product, hashlib.sha256(canonical.encode()).hexdigest())


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


def draw(principles: Sequence[Principle], rng: random.Random, count: int = 1) -> list[Principle]:
    """`count` different principles at random, or all if there are fewer; of a set in groups each draw takes a group
    first, so that a long group weighs no more than a short one."""
    groups = sorted({p.group for p in principles})
    if len(groups) < 2:
        return [rng.choice(principles)] if count == 1 else rng.sample(list(principles), min(count, len(principles)))
    drawn = list[Principle]()
    for _ in range(min(count, len(principles))):
        left = [p for p in principles if p not in drawn]
        group = rng.choice(sorted({p.group for p in left}))
        drawn.append(rng.choice([p for p in left if p.group == group]))
    return drawn


def select_by_axis(principles: Sequence[ComparisonPrinciple], axis: str) -> list[ComparisonPrinciple]:
    """Principles tagged with the axis of a comparison, or all if none is."""
    return [p for p in principles if axis in p.tags] or list(principles)


def check(constitution: Constitution) -> Check:
    """Counts by kind and tag, and warnings about common problems of a set of principles."""
    c = constitution
    warnings = []
    sets: dict[str, tuple[CritiquePrinciple | ComparisonPrinciple, ...]] = {
        "critiques": c.critiques,
        "comparisons": c.comparisons,
        "product": c.product,
    }
    for kind, principles in ((kind, principles) for kind, principles in sets.items() if principles):
        if len(principles) < PAPER_COUNT:
            warnings.append(f"{len(principles)} {kind}, the paper has {PAPER_COUNT}: fewer make less varied labels")
        if kind == "product":  # drawn by groups, not by tags
            continue
        tags = {tag for p in principles for tag in p.tags}
        warnings += [
            f"no principle of {kind} is tagged {tag}: models trained on such sets turn {trait}"
            for tag, trait in (("evasion", "evasive"), ("preachiness", "preachy"))
            if tag not in tags
        ]
        warnings += [f"{kind}: {p.key} has no tags, so it is never drawn for an axis" for p in principles if not p.tags]
    requests = [(p.key, t) for p in c.critiques for t in (f"critique {p.critique}", f"revision {p.revision}")]
    requests += [(p.key, f"comparison {p.principle}") for p in (*c.comparisons, *c.product)]
    first: dict[str, str] = {}
    for key, text in requests:
        first_key = first.setdefault(" ".join(text.lower().split()), key)
        if first_key != key:
            warnings.append(f"{key} asks the same as {first_key} ({text.split()[0]})")
    warnings += [
        f"{p.key} is no question and no choice: its principle has no question mark and no word such as choose"
        for p in (*c.comparisons, *c.product)
        if "?" not in p.principle and not _CHOICE.search(p.principle)
    ]
    counts = [f"{len(principles)} {kind} ({_by_tag(principles)})" for kind, principles in sets.items() if principles]
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
    if entries is None and (kind == "product" or "product" in value):
        return []
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
