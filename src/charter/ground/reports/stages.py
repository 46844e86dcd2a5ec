"""Reports as stages: those on one model beside each other, and the decoding that drew their replies.

A card shows a model's own decoding first, the protocol's second. A report names it in `decoding`. "own" is that of the
checkpoint's generation_config.json, "protocol" a temperature that is the same for all models. Two of them on one model
are never compared; each has its own tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import MANIFEST, Manifest
from charter.ground.artifact.store import read_manifest
from charter.ground.reports.artifact import Artifact, tasks_of

# The variants of a report on a ladder of models, and of an autonomy audit.
LADDER, AUDIT = "ladder", "audit"
# The role of the model that a room trains further or uses.
POLICY = "policy"
JUDGMENTS = "judgments.jsonl"
OWN, PROTOCOL = "own", "protocol"
SHORT = {"temperature": "T", "top_p": "top-p", "top_k": "top-k"}


def kind_of(report: Artifact) -> str:
    """Whose decoding it is; "" if an older report doesn't say."""
    return str((report.report.get("decoding") or {}).get("kind", ""))


def model_of(report: Artifact) -> str:
    """The id of the model that a report is on, with the way in which it was sampled if not by itself."""
    model = report.report.get("model") or {}
    return " ".join(str(model[key]) for key in ("id", "show") if key in model) or "none"


def words(facts: Mapping[str, Any]) -> str:
    """A decoding in words: "T 0.2, top-p 0.9"; "" if nothing is known of it."""
    settings = ((short, facts[key]) for key, short in SHORT.items() if isinstance(facts.get(key), int | float))
    return ", ".join(f"{short} {value:g}" for short, value in settings)


def heading(stages: Sequence[Artifact]) -> str:
    """How the replies of these stages were drawn, to follow "answered"."""
    by_stage = {stage.label: words(_facts(stage)) or "T unknown" for stage in stages}
    kinds = {kind_of(stage) for stage in stages}
    if len(set(by_stage.values())) > 1:
        listed = "; ".join(f"{label} {decoding}" for label, decoding in by_stage.items())
        return f"at each model's own decoding: {listed}" if kinds == {OWN} else f"at several decodings: {listed}"
    decoding = next(iter(by_stage.values()))
    if kinds == {OWN}:
        return f"at the model's own decoding: {decoding}"
    at = f"at temperature {decoding.removeprefix('T ')}"
    return f"{at}, the protocol" if kinds == {PROTOCOL} else at


def _facts(stage: Artifact) -> Mapping[str, Any]:
    identity = (stage.report.get("identity") or {}).values()
    return stage.report.get("decoding") or next((entry for entry in identity if "temperature" in entry), {})


def on_a_model(manifest: Manifest) -> bool:
    """Whether an artifact is a report with replies of one model; one on a ladder of models, or an audit, is not."""
    return manifest.kind == "report" and manifest.variant not in (LADDER, AUDIT)


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
        subject = "on a ladder of models" if home == "scaling" else "of an audit"
        raise CharterError(f"{wrong.step} is a report {subject}; list it under `{home}`, not `reports`")
    own_reports = [report for report in reports if kind_of(report) == OWN]
    late = {
        model_of(report)
        for report in reports
        if kind_of(report) == PROTOCOL
        and any(model_of(o) == model_of(report) and tasks_of(o) & tasks_of(report) for o in own_reports)
    }
    second = [report for report in reports if kind_of(report) == PROTOCOL and model_of(report) in late]
    stages = join_reports([report for report in reports if report not in second])
    labels = {stage.label for stage in stages}
    second = [replace(s, label=f"{s.label}, {words(s.report['decoding'])}") if s.label in labels else s for s in second]
    return stages, join_reports(second)


def stages_of(card: Path, manifest: Manifest, names: Mapping[str, str], last: bool = False) -> tuple[Artifact, ...]:
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
    return Artifact(manifest.step, place, manifest, str(manifest.resolved.get("stage") or manifest.step), name)


def final_stage(place: Path) -> Artifact:
    """The stage of a report folder, of a card (its last) or of a run directory (the last of its card)."""
    return stages_at(place, last=True)[-1]


def stages_at(place: Path, last: bool = False) -> tuple[Artifact, ...]:
    """The stages of a card, or only its `last`; a report is a stage by itself."""
    if place.is_file():
        place = place.parent
    if not (place / MANIFEST).is_file():
        return _of_run(place, last)
    manifest = read_manifest(place)
    if manifest.kind == "card":
        return (final_of(place, {}),) if last else stages_of(place, manifest, {})
    if manifest.kind != "report":
        raise CharterError(f"{place} is a {manifest.kind}; name a run directory, a card or a report")
    return (as_stage(manifest, place, manifest.step),)


def _of_run(run: Path, last: bool) -> tuple[Artifact, ...]:
    """The stages of a run: those of its newest card, else the one stage that its reports are on."""
    folders = sorted(p.parent for p in run.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))
    manifests = {folder: read_manifest(folder) for folder in folders}
    cards = {folder: m for folder, m in manifests.items() if m.kind == "card"}
    older = {parent.id for m in cards.values() for parent in m.parents}
    newest = [folder for folder, m in cards.items() if m.id not in older]
    if newest:
        return stages_at(_only(run, newest, "cards"), last)
    reports = {folder: m for folder, m in manifests.items() if on_a_model(m)}
    if not reports:
        raise CharterError(f"{run} has neither a card nor a report; run a recipe with an evaluate step")
    return (_join_reports(run, reports),)


def _join_reports(run: Path, reports: Mapping[Path, Manifest]) -> Artifact:
    """The one stage that the reports of a run are on."""
    stages, _ = by_decoding([as_stage(manifest, folder, manifest.step) for folder, manifest in reports.items()])
    if len(stages) != 1:
        _only(run, list(reports), "reports")
    return stages[0]


def _only(run: Path, folders: Sequence[Path], kinds: str) -> Path:
    if len(folders) > 1:
        raise CharterError(
            f"{run} has {len(folders)} {kinds}; name one: {', '.join(str(run / f.name) for f in folders)}"
        )
    return folders[0]
