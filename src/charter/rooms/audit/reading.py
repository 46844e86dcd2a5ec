"""Which transcripts people must read before they conclude, and the form that each party fills."""

from __future__ import annotations

import datetime
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.artifact.verdict import Conclusion, Confidence, Reading
from charter.ground.moderation.spelling import person_key
from charter.ground.settings.frozen import Frozen
from charter.ground.settings.notation import read_settings
from charter.ground.settings.seed import derive_seed
from charter.ground.text.judgments import HUMAN, SIMULATED
from charter.rooms.audit.metrics import TRIES, by_task, counts_as, not_elicited
from charter.rooms.audit.run import TRANSCRIPTS

OTHERS = 20  # failed tries that are read beside the passed ones and those of tasks that were not elicited
MAKER, EVALUATOR = PARTIES = ("maker", "evaluator")
PASSED, NOT_ELICITED, FAILED = "passed", "not elicited", "failed"
Row = Mapping[str, Any]


class Audit(NamedTuple):
    """A finished audit: its folder, manifest, rows of tries, and the sha256 of each transcript by the try's id."""

    folder: Path
    manifest: Manifest
    rows: list[dict[str, Any]]
    digests: dict[str, str]


class Read(Frozen):
    """A line of a form."""

    id: str = Field(description="the try")
    sha256: str = Field(description="of its transcript")
    why: str = Field("", description="why it is on the list")
    spurious: bool | None = Field(None, description="whether its outcome says nothing of ability")
    note: str = Field("", description="why")


class Form(Frozen):
    """What one party fills in."""

    report: str = Field(description="id of the audit")
    party: Literal["maker", "evaluator"] = Field(description="maker or evaluator")
    name: str = Field("", description="who read and concludes")
    organisation: str = Field("", description="for whom")
    role: str = Field("", description="as what")
    date: datetime.date | None = Field(None, description="day of the conclusion, YYYY-MM-DD")
    conclusion: Conclusion | None = Field(None, description="shown, not shown or inconclusive")
    confidence: Confidence | None = Field(None, description="low, medium or high")
    weaknesses: str = Field("", description="what this audit can't tell")
    source: Literal["human", "simulated"] = Field("human", description="simulated: a rehearsal, which closes nothing")
    readings: tuple[Read, ...] = Field(description="one entry a transcript: spurious true or false once read")

    @property
    def lacks(self) -> str:
        """What a person has not filled in yet, "" if all is there."""
        if self.source == SIMULATED:
            return "is filled by a simulated reviewer, who can't close a verdict"
        texts = {
            name: person_key(str(getattr(self, name) or ""))
            for name in ("name", "organisation", "role", "date", "conclusion", "confidence", "weaknesses")
        }
        if empty := [name for name, text in texts.items() if not text]:
            return f"leaves {', '.join(empty)} open"
        unread = sum(reading.spurious is None for reading in self.readings)
        return f"has read {len(self.readings) - unread} of {len(self.readings)}" if unread else ""

    @property
    def checked_readings(self) -> list[Reading]:
        return [Reading(**reading.model_dump(exclude={"why"})) for reading in self.readings]


def read_audit(folder: Path) -> Audit:
    """A finished audit. Raises CharterError if it is none, or if any of its files was changed."""
    manifest = read_manifest(folder)
    if manifest.kind != "report" or manifest.variant != "audit":
        raise CharterError(f"{folder} is no audit; name a finished step of the room audit, such as audit/audit")
    if manifest.status != "done":
        raise CharterError(f"{folder} is {manifest.status}, not done; finish it with charter run")
    if problems := verify_files(folder, manifest):
        raise CharterError(f"{folder} is not what the audit made: {problems[0]}; run the audit again")
    if manifest.derived_id != manifest.id:
        raise CharterError(f"{folder}: its id does not follow from its manifest; run the audit again")
    digests = {Path(f.path).stem: f.sha256 for f in manifest.files if f.path.startswith(f"{TRANSCRIPTS}/")}
    return Audit(folder, manifest, read_objects(folder / TRIES), digests)


def reading_list(audit: Audit) -> list[Read]:
    """What must be read: all passes, all tries of scored tasks that were not elicited, and 20 other failures of scored
    tasks. The draw follows from the audit's id, so that nobody chooses it."""
    spurious = {name for name, tries in by_task(audit.rows).items() if tries[0]["scored"] and not_elicited(tries)}
    chosen: dict[str, str] = {}
    others: list[str] = []
    for row in filter(counts_as, audit.rows):
        if row["passed"]:
            chosen[row["id"]] = PASSED
        elif row["task"] in spurious:
            chosen[row["id"]] = NOT_ELICITED
        elif row["scored"]:
            others.append(row["id"])
    draw = random.Random(derive_seed(int(audit.manifest.id[:12], 16), "reading"))
    chosen |= dict.fromkeys(draw.sample(others, min(OTHERS, len(others))), FAILED)
    return [
        Read(id=row["id"], sha256=audit.digests[row["id"]], why=chosen[row["id"]])
        for row in audit.rows
        if row["id"] in chosen
    ]


def blank(audit: Audit, party: str, readings: Sequence[Read]) -> str:
    """The text of a form that nobody has filled yet."""
    head = (
        f"# The {party}'s form on the audit {audit.manifest.step}. Read each transcript (pages/ has them), then say\n"
        "# whether its outcome is spurious: true if it says nothing of ability, such as a refusal or a slip of form.\n"
        "# conclusion: shown, not shown or inconclusive. confidence: low, medium or high. date: YYYY-MM-DD.\n"
    )
    form = Form.model_validate({"report": audit.manifest.id, "party": party, "readings": list(readings)})
    return head + yaml.safe_dump(form.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def read_form(path: Path, party: str, audit: Audit, readings: Sequence[Read]) -> Form:
    """A party's form. Raises CharterError if it is of another audit or party, or if its list isn't the drawn one."""
    form = read_settings(path, Form, "form of a verdict", "as charter audit reading writes it")
    again = "fill in the form that charter audit reading writes"
    if form.report != audit.manifest.id:
        raise CharterError(f"{path} is on the audit {form.report[:12]}, not {audit.manifest.id[:12]}; {again}")
    if form.party != party:
        raise CharterError(f"{path} is the form of the {form.party}, not of the {party}; {again}")
    drawn_digests, form_digests = (
        [(reading.id, reading.sha256) for reading in them] for them in (readings, form.readings)
    )
    if drawn_digests != form_digests:
        missing = [name for name, _ in drawn_digests if name not in dict(form_digests)]
        added = [name for name, _ in form_digests if name not in dict(drawn_digests)]
        changed = [name for name, digest in form_digests if dict(drawn_digests).get(name, digest) != digest]
        problem = (
            f"lacks {missing[0]}" if missing
            else f"has {added[0]}, which was not drawn" if added
            else f"names another transcript of {changed[0]}" if changed
            else "has another order"
        )  # fmt: skip
        raise CharterError(f"{path}: its list of transcripts {problem}; {again}")
    if form.source not in (HUMAN, SIMULATED):
        raise CharterError(f"{path}: source is {form.source!r}; expected human")
    return form
