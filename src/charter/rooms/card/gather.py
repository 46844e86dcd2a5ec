"""Collects the artifacts of one card: its stages with their reports, and everything else that it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.lineage import run_of, walk
from charter.ground.artifact.manifest import AUDIT_ELICITATION, MANIFEST, Manifest
from charter.ground.artifact.store import read_manifest
from charter.ground.constitution.constitution import CritiquePrinciple, load
from charter.ground.findings.selection import MITIGATIONS
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.judges import ATTACK
from charter.ground.reports.number import Source
from charter.ground.reports.stages import (
    JUDGMENTS,
    LADDER,
    POLICY,
    as_stage,
    by_decoding,
    final_of,
    join_reports,
    model_of,
)
from charter.ground.settings.purpose import refuse
from charter.ground.text.judgments import Judgment, read_judgments
from charter.ground.text.votes import VOTES

# roles besides the reports; each artifact of ONE has a field of its name
MANY = ("preference", "votes", "acceptable_use", "attacks", "audits", "verdicts")
ONE = ("rl", "transcripts", "comparisons", "scaling", "findings")
# What belongs under a role, and what is wrong with another artifact.
BELONGING: Mapping[str, tuple[Callable[[Artifact], bool], str]] = {
    # comparisons by an AI or from a data set are not votes between models
    "votes": (
        lambda a: (a.path / VOTES).is_file(),
        f"{{step}} has no {VOTES}; list steps of the arena or judge room, or exports of votes, under `votes`",
    ),
    "scaling": (
        lambda a: a.manifest.variant == LADDER,
        "{step} is a report of the {room} room; list a step of the scaling room under `scaling`",
    ),
    "findings": (
        lambda a: (a.path / MITIGATIONS).is_file(),
        f"{{step}} has no {MITIGATIONS}; list a step of the intake room under `findings`",
    ),
    "attacks": (
        lambda a: a.manifest.room == ATTACK,
        "{step} is a step of the {room} room; list steps of the attack room under `attacks`",
    ),
}
Ancestry = dict[str, tuple[Manifest, Path]]


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
        parents = {a.manifest.id: [p.id for p in a.manifest.parents if followed(p.role)] for a in self.lineage}
        reached = [self.final.manifest.id]
        # The list grows during the loop.
        for name in reached:
            reached += [parent for parent in parents.get(name, ()) if parent not in reached]
        return tuple(a for a in self.lineage if a.manifest.id in reached)


def gather(inputs: Inputs) -> Run:
    """Reads all roles. Raises CharterError if a manifest contradicts its kept rows, or if two stages share a name."""
    reports = inputs.many("reports")
    if not reports:
        raise CharterError("a card needs at least one report: list them under `from: {reports: [...]}`, start first")
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
    artifacts = {role: tuple(_artifact(i, names) for i in entries) for role, entries in entries_by_role.items()}
    single = {role: next(iter(artifacts[role]), None) for role in ONE}
    on_models = (*comparators, *second, *stages)
    check_roles(artifacts)
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
        judged_in=tuple(map(_locate, inputs.many("judgments"))),
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
            artifacts_by_id.get(m.id) or Artifact(m.step, path, m, m.step, names[m.id]) for m, path in ancestry.values()
        ),
        **single,
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
        labels = {artifact.label for artifact in named}
        named.append(replace(artifact, label=f"{label}, {artifact.step}" if label in labels else label))
    return tuple(named)


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
        raise CharterError(f"{entry.name} is {manifest.status}, not done; a card is made of finished artifacts")
    if stage:
        refuse(entry.folder, "a card cites the audit of it, and does not publish it as a stage")
        return as_stage(manifest, entry.folder, names[manifest.id])
    return Artifact(manifest.step, entry.folder, manifest, manifest.step, names[manifest.id])


def _constitution(entry: Input | None) -> tuple[dict[str, CritiquePrinciple], dict[str, str]]:
    if entry is None or entry.path is None:
        return {}, {}
    constitution = load(entry.path)
    facts = {"name": constitution.name, "version": str(constitution.version), "digest": entry.id[:12]}
    critiques = (*constitution.critiques, *(p.as_critique() for p in constitution.product))
    return {p.key: p for p in critiques}, facts


def check_labels(stages: Sequence[Artifact]) -> None:
    """Raises CharterError if two stages share a name."""
    labels = [stage.label for stage in stages]
    if duplicate := next((n for n in labels if labels.count(n) > 1), None):
        raise CharterError(
            f"two reports have the stage {duplicate!r}; give each evaluate step its own `stage`; two on one model must "
            "have other tasks"
        )


def check_roles(artifacts: Mapping[str, Sequence[Artifact]]) -> None:
    """Raises CharterError for an artifact under a role that another room makes the artifacts of."""
    for role, (belongs, words) in BELONGING.items():
        if lacking := next((a for a in artifacts[role] if not belongs(a)), None):
            raise CharterError(words.format(step=lacking.step, room=lacking.manifest.room))


def check_verdicts(verdicts: Sequence[Artifact], audits: Sequence[Artifact]) -> None:
    """Raises CharterError for a verdict on an audit that is not among the card's inputs."""
    audit_ids = {audit.manifest.id for audit in audits}
    if lacking := next((v for v in verdicts if not audit_ids & set(v.manifest.inputs.get("report", ()))), None):
        raise CharterError(f"{lacking.step} is a verdict on an audit that this card lacks; list it under `audits`")
