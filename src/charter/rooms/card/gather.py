"""Collects the artifacts of one card: its stages with their reports, and everything else that it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.lineage import find_parent, run_of, walk
from charter.ground.artifact.manifest import AUDIT_ELICITATION, MANIFEST, Manifest
from charter.ground.artifact.store import read_manifest
from charter.ground.constitution.constitution import CritiquePrinciple, load
from charter.ground.settings.purpose import refuse
from charter.ground.text.judgments import Judgment, read_judgments
from charter.rooms.card.artifact import Artifact, tasks_of
from charter.rooms.card.decodings import OWN, PROTOCOL, kind_of, model_of, words
from charter.rooms.card.misplaced import (
    AUDIT,
    LADDER,
    check_attacks,
    check_findings,
    check_labels,
    check_scaling,
    check_verdicts,
    check_votes,
)
from charter.rooms.card.number import Source

# The role of the model that a room trains further or uses.
POLICY = "policy"
JUDGMENTS = "judgments.jsonl"
# roles besides the reports; each artifact of ONE has a field of its name
MANY = ("preference", "votes", "acceptable_use", "attacks", "audits", "verdicts")
ONE = ("rl", "transcripts", "comparisons", "scaling", "findings")


@dataclass(frozen=True)
class Run:
    """Everything that one card is made of. `stages` are in order, the start first.

    `judged_in` says where the judgments are, `judged_by` the same by reviewer; `reviews` are those that are artifacts.
    `votes` are sets of votes between models. `base` is the card that this one adds an appendix to, `previous` the
    final stage of another version's card. `screen` is the report on an acceptable use screen, `scaling` the report on
    a ladder of pretrained models, `findings` those of outside red teams. `at_protocol` are reports on the stages'
    models by the protocol's decoding, if the stages use the models' own. `comparators` are models beside the way to
    the final one, such as a helpful-only model. `attacks` are red teaming by machine, called after the stage that was
    attacked, `audits` those of autonomy, likewise, and `verdicts` what people concluded from them.
    """

    stages: tuple[Artifact, ...]
    preferences: tuple[Artifact, ...]
    rl: Artifact | None
    transcripts: Artifact | None
    comparisons: Artifact | None
    judgments: tuple[Judgment, ...]
    judged_in: tuple[Source, ...]
    principles: dict[str, CritiquePrinciple]
    constitution: dict[str, str]
    lineage: tuple[Artifact, ...]
    base: Artifact | None = None
    previous: Artifact | None = None
    votes: tuple[Artifact, ...] = ()
    reviews: tuple[Artifact, ...] = ()
    judged_by: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    at_protocol: tuple[Artifact, ...] = ()
    screen: Artifact | None = None
    scaling: Artifact | None = None
    findings: Artifact | None = None
    comparators: tuple[Artifact, ...] = ()
    attacks: tuple[Artifact, ...] = ()
    audits: tuple[Artifact, ...] = ()
    verdicts: tuple[Artifact, ...] = ()

    @property
    def final(self) -> Artifact:
        return self.stages[-1]

    @property
    def start(self) -> Artifact:
        return self.stages[0]

    @property
    def behind(self) -> tuple[Artifact, ...]:
        """All ancestors of the final report. A model of a scaling ladder is one only if training continues from it."""
        return self._ancestors(lambda role: True)

    @property
    def went_on(self) -> tuple[Artifact, ...]:
        """The final report and the checkpoints that its model was trained from, the report last."""
        return self._ancestors(lambda role: role == POLICY)

    @property
    def from_raw_text(self) -> bool:
        """Whether its model was pretrained from new weights, so that the lineage holds all of its text."""
        begun = [a for a in self.went_on if a.manifest.kind == "checkpoint"]
        return any(not a.manifest.inputs.get(POLICY) for a in begun)

    def _ancestors(self, followed: Callable[[str], bool]) -> tuple[Artifact, ...]:
        """The final report and all artifacts that parents in these roles lead to, ancestors first."""
        parents = {
            a.manifest.id: [p.id for p in a.manifest.parents if followed(p.role)] for a in self.lineage
        }
        reached = [self.final.manifest.id]
        # The list grows during the loop.
        for name in reached:
            reached += [parent for parent in parents.get(name, ()) if parent not in reached]
        return tuple(a for a in self.lineage if a.manifest.id in reached)


def on_a_model(manifest: Manifest) -> bool:
    """Whether an artifact is a report with replies of one model; one on a ladder of models, or an audit, is not."""
    return manifest.kind == "report" and manifest.variant not in (LADDER, AUDIT)


def gather(inputs: Inputs) -> Run:
    """Reads all roles. Raises CharterError if a manifest contradicts its kept rows, or if two stages share a name."""
    reports = inputs.many("reports")
    if not reports:
        raise CharterError(
            "a card needs at least one report: list them under `from: {reports: [...]}`, start first"
        )
    entries_by_role = {role: inputs.many(role) for role in (*MANY, *ONE)}
    entries_by_role["judgments"] = [i for i in inputs.many("judgments") if (i.folder / MANIFEST).is_file()]
    base, previous = inputs.optional("base"), inputs.optional("previous")
    older = base or previous
    others = inputs.many("comparators")
    ancestry = _ancestry([*(i for entries in entries_by_role.values() for i in entries), *others, *reports])
    before = _ancestry([older]) if older else {}
    names = _names({**before, **ancestry}, run_of(reports[-1].folder))
    stages, second = by_decoding([_artifact(i, names, stage=True) for i in reports])
    comparators = join_reports([_artifact(i, names, stage=True) for i in others])
    check_labels((*stages, *second, *comparators))
    principles, constitution = _constitution(inputs.optional("constitution"))
    artifacts = {
        role: tuple(_artifact(i, names) for i in entries) for role, entries in entries_by_role.items()
    }
    one = {role: next(iter(artifacts[role]), None) for role in ONE}
    on_models = (*comparators, *second, *stages)
    check_votes(artifacts["votes"])
    check_scaling(artifacts["scaling"])
    check_findings(artifacts["findings"])
    check_attacks(artifacts["attacks"])
    check_verdicts(artifacts["verdicts"], artifacts["audits"])
    for role in ("attacks", "audits"):
        artifacts[role] = on_models_of(artifacts[role], (*comparators, *stages))
    groups = (*artifacts.values(), *(stage.beside for stage in on_models), on_models)
    artifacts_by_id = {a.manifest.id: a for group in groups for a in group}
    return Run(
        stages=stages,
        at_protocol=second,
        comparators=comparators,
        preferences=artifacts["preference"],
        base=_artifact(base, names) if base else None,
        previous=final_of(older.folder, names) if older else None,
        judgments=tuple(read_judgments(*(i.folder for i in inputs.many("judgments")))),
        judged_in=tuple(_locate(i) for i in inputs.many("judgments")),
        judged_by=_locate_by_reviewer(inputs.many("judgments")),
        votes=artifacts["votes"],
        reviews=artifacts["judgments"],
        attacks=artifacts["attacks"],
        audits=artifacts["audits"],
        verdicts=artifacts["verdicts"],
        screen=next(iter(artifacts["acceptable_use"]), None),
        principles=principles,
        constitution=constitution,
        lineage=tuple(
            artifacts_by_id.get(m.id) or Artifact(m.step, path, m, m.step, names[m.id])
            for m, path in ancestry.values()
        ),
        **one,
    )


def _locate(entry: Input) -> Source:
    """The source of verdicts: an artifact, or a file from outside."""
    if (entry.folder / MANIFEST).is_file():
        return Source(read_manifest(entry.folder).step, entry.id, JUDGMENTS)
    return Source("judgments", entry.id, entry.name)


def _locate_by_reviewer(entries: Sequence[Input]) -> dict[str, tuple[Source, ...]]:
    """The sources of verdicts, by reviewer: people, or simulated reviewers."""
    places: dict[str, tuple[Source, ...]] = {}
    for entry in entries:
        for source in sorted({judgment.source for judgment in read_judgments(entry.folder)}):
            places[source] = (*places.get(source, ()), _locate(entry))
    return places


def on_models_of(artifacts: Sequence[Artifact], stages: Sequence[Artifact]) -> tuple[Artifact, ...]:
    """Artifacts on models, called after the stage of their model; by its step, or theirs if a name is taken."""
    by_model = {model_of(stage): stage.label for stage in stages}
    named: list[Artifact] = []
    for artifact in artifacts:
        models = [p for p in artifact.manifest.parents if p.role == POLICY]
        identity = artifact.manifest.inputs.get(POLICY, ("",))[0]
        label = by_model.get(identity, models[0].step if models else artifact.step)
        label += ", elicited" if artifact.manifest.purpose == AUDIT_ELICITATION else ""
        taken = {one.label for one in named}
        named.append(replace(artifact, label=f"{label}, {artifact.step}" if label in taken else label))
    return tuple(named)


Ancestry = dict[str, tuple[Manifest, Path]]


def _ancestry(entries: Sequence[Input]) -> Ancestry:
    """The artifacts of a card and their ancestors by id, ancestors first."""
    ancestry: Ancestry = {}
    for entry in entries:
        for manifest, path in walk(entry.folder):
            ancestry.setdefault(manifest.id, (manifest, path))
    return ancestry


def _names(ancestry: Ancestry, home: Path) -> dict[str, str]:
    """Id -> name. The first artifact of a step has the step's name; artifacts of the run directory `home` come
    first."""
    names: dict[str, str] = {}
    steps: set[str] = set()
    for manifest, _ in sorted(ancestry.values(), key=lambda entry: run_of(entry[1]) != home):
        names[manifest.id] = manifest.step + (f"@{manifest.id[:8]}" if manifest.step in steps else "")
        steps.add(manifest.step)
    return names


def _artifact(entry: Input, names: dict[str, str], stage: bool = False) -> Artifact:
    manifest = read_manifest(entry.folder)
    if manifest.status != "done":
        raise CharterError(
            f"{entry.name} is {manifest.status}, not done; a card is made of finished artifacts"
        )
    if stage:
        refuse(entry.folder, "a card cites the audit of it, and does not publish it as a stage")
        return as_stage(manifest, entry.folder, names[manifest.id])
    return Artifact(manifest.step, entry.folder, manifest, manifest.step, names[manifest.id])


def join_reports(reports: Sequence[Artifact]) -> tuple[Artifact, ...]:
    """Stages in the order of their first report. A report on other tasks of a stage's model goes beside it."""
    stages: list[Artifact] = []
    for report in reports:
        at = max((i for i, s in enumerate(stages) if model_of(s) == model_of(report)), default=None)
        if at is None or tasks_of(stages[at]) & tasks_of(report):
            stages.append(report)
        else:
            joined = replace(report, label=stages[at].label)
            stages[at] = replace(stages[at], beside=(*stages[at].beside, joined))
    return tuple(stages)


def by_decoding(reports: Sequence[Artifact]) -> tuple[tuple[Artifact, ...], tuple[Artifact, ...]]:
    """Stages, and reports on their models by the protocol's decoding if others are by the models' own.

    If both have the same label, the second says which decoding it is. Raises CharterError for a report on no stage.
    """
    homes = {LADDER: "scaling", AUDIT: "audits"}
    if wrong := next((a for a in reports if a.manifest.variant in homes), None):
        home = homes[str(wrong.manifest.variant)]
        what = "on a ladder of models" if home == "scaling" else "of an audit"
        raise CharterError(f"{wrong.step} is a report {what}; list it under `{home}`, not `reports`")
    own = [report for report in reports if kind_of(report) == OWN]
    late = {
        model_of(report)
        for report in reports
        if kind_of(report) == PROTOCOL
        and any(model_of(o) == model_of(report) and tasks_of(o) & tasks_of(report) for o in own)
    }
    second = [report for report in reports if kind_of(report) == PROTOCOL and model_of(report) in late]
    stages = join_reports([report for report in reports if report not in second])
    labels = {stage.label for stage in stages}
    second = [
        replace(s, label=f"{s.label}, {words(s.report['decoding'])}") if s.label in labels else s
        for s in second
    ]
    return stages, join_reports(second)


def stages_of(
    card: Path, manifest: Manifest, names: Mapping[str, str], last: bool = False
) -> tuple[Artifact, ...]:
    """The stages of a finished card, or only its `last`, with all of its reports on them.

    Raises CharterError if a report is missing. For the `last` alone, only if that report may be on the last stage.
    """
    reports: list[Artifact] = []
    gone: CharterError | None = None
    places: dict[str, int] = {}
    latest = -1
    for place, parent in enumerate(p for p in manifest.parents if p.role == "reports"):
        try:
            report, folder = find_parent(run_of(card), parent)
        except CharterError as error:
            if not last:
                raise
            gone, latest = error, place
        else:
            reports.append(as_stage(report, folder, names.get(report.id, report.step)))
            places[report.id] = place
    stages, second = by_decoding(reports)
    if gone is not None and (not stages or places[stages[-1].manifest.id] < latest or second):
        raise gone
    return stages[-1:] if last else stages


def final_of(card: Path, names: Mapping[str, str]) -> Artifact:
    """The last stage of a finished card. Raises CharterError if it has none."""
    stages = stages_of(card, read_manifest(card), names, last=True)
    if not stages:
        raise CharterError(f"the card {card} names no report")
    return stages[-1]


def as_stage(manifest: Manifest, place: Path, name: str) -> Artifact:
    """A report as a stage of its model. Raises CharterError if it is not finished."""
    if manifest.status != "done":
        raise CharterError(f"{place} is {manifest.status}, not done; finish it with charter run")
    return Artifact(
        manifest.step, place, manifest, str(manifest.resolved.get("stage") or manifest.step), name
    )


def _constitution(entry: Input | None) -> tuple[dict[str, CritiquePrinciple], dict[str, str]]:
    if entry is None or entry.path is None:
        return {}, {}
    constitution = load(entry.path)
    facts = {
        "name": constitution.name,
        "version": str(constitution.version),
        "digest": entry.id[:12],
    }
    return {p.key: p for p in constitution.critiques}, facts
