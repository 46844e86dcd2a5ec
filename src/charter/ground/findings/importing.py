"""Files of findings into the log: all of them or none, each once, with the known attack that each resembles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.findings.form import Finding, read_findings
from charter.ground.findings.log import changing
from charter.ground.findings.register import IMPORTED, Register, check_name
from charter.ground.settings.sources import resolve
from charter.ground.text.records import read_dialogues
from charter.ground.text.shingles import Near, Texts

# the shipped sets of attacks
KNOWN = ("shipped:red_team.train", "shipped:red_team.heldout", "shipped:requests.heldout")
NEAR = 0.6  # share of common runs of three words from which a finding is a near duplicate


@dataclass(frozen=True, slots=True)
class New:
    """A finding that isn't kept yet."""

    finding: Finding
    masked: Counter[str]
    near: Near | None


@dataclass(slots=True)
class Checked:
    """What files hold. `copies`: pairs of place and the id of the finding that it repeats."""

    new: list[New] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, Any]:
        """Numbers for a screen: findings, copies, near duplicates, placeholders by kind, errors."""
        masked = sum((new.masked for new in self.new), Counter[str]())
        return {
            "new": len(self.new),
            "copies": len(self.copies),
            "near": sum(new.near is not None for new in self.new),
            "masked": dict(sorted(masked.items())),
            "errors": len(self.faults),
        }


def check_files(paths: Iterable[Path], register: Register, known: Sequence[str] = ()) -> Checked:
    """Checks every row of some files against the form, the findings so far, and known attacks: the shipped sets, and
    `known` references. Raises CharterError if a file or a set can't be read at all."""
    checked = Checked()
    texts, ids = _known_texts(known), dict[str, str]()
    for case in register.cases.values():
        ids[case.finding.fingerprint] = case.id
        texts.add(case.id, case.finding.asked)
    used_ids = set(register.cases)
    for path in paths:
        rows, faults = read_findings(path)
        checked.faults += faults
        for place, finding, masked in rows:
            if (first := ids.get(finding.fingerprint)) is not None:
                checked.copies.append((place, first))
            elif finding.id in used_ids:
                checked.faults.append(f"{place}: the id {finding.id!r} is that of another finding; give a new one")
            else:
                near = texts.nearest(finding.asked)
                checked.new.append(New(finding, masked, near if near and near.share >= NEAR else None))
                ids[finding.fingerprint] = finding.id
                used_ids.add(finding.id)
                texts.add(finding.id, finding.asked)
    return checked


def import_files(paths: Sequence[Path], store: Path, by: str, at: str, known: Sequence[str] = ()) -> Checked:
    """Adds the new findings of some files to the log, if no row is wrong. Raises CharterError as `check_files`."""
    name = check_name(by)
    with changing(store) as log:
        checked = check_files(paths, Register(log.kept.events), known)
        if not checked.faults:
            log.append([_event(new, name, at) for new in checked.new])
    return checked


def _event(new: New, by: str, at: str) -> dict[str, Any]:
    event: dict[str, Any] = {"what": IMPORTED, "by": by, "at": at, "finding": new.finding.row}
    if new.near is not None:
        event["near"] = list(new.near)
    if new.masked:
        event["masked"] = dict(new.masked)
    return event


def _known_texts(references: Sequence[str]) -> Texts:
    texts = Texts()
    for reference in (*KNOWN, *references):
        path = resolve(reference).path
        if path is None:
            raise CharterError(f"{reference} is not on this disk; name a file of attacks")
        for dialogue in read_dialogues(path):
            question = "\n".join(m["content"] for m in dialogue.messages if m["role"] == "user")
            texts.add(f"{reference}/{dialogue.id}", question)
    return texts
