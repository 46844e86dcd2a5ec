"""Reports in other formats: finds the reports of a place and writes their files.

Nothing is measured here. Every number comes from a report's manifest, after the kept rows gave the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import MANIFEST, Manifest
from charter.ground.artifact.store import read_manifest
from charter.ground.measure.metric import Measure
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.hub import HUB_NAME, eval_results
from charter.ground.reports.stages import final_stage, on_a_model
from charter.ground.settings.purpose import purpose_of, refuse
from charter.release.every_eval_ever import Publisher, files


def to_every_eval_ever(
    place: Path, publisher: Publisher, measures_of: Callable[[Manifest], Mapping[str, Measure]], harmful: bool = False
) -> dict[str, str]:
    """Path -> content of every report of a place, below the folder of a data store. Raises CharterError.

    `measures_of` says how the rows behind a report's numbers become tables, by metric. It returns nothing if samples
    are left out. Samples with harmful text come along only if `harmful`.
    """
    artifacts = reports(place)
    if publisher.model and len(artifacts) > 1:
        steps = ", ".join(report.step for report in artifacts)
        raise CharterError(f"--model names one model and {place} has {len(artifacts)} reports; name one: {steps}")
    contents: dict[str, str] = {}
    for report in artifacts:
        measures = measures_of(report.manifest)
        published = {n: measure for n, measure in measures.items() if harmful or not is_restricted(report, n)}
        contents |= files(report, publisher, published)
    return contents


def is_restricted(report: Artifact, metric: str) -> bool:
    """Whether rows behind a metric of a report hold harmful text."""
    restricted = set(report.manifest.restricted)
    return metric in report.reported.metrics and any(
        f"samples/{file}" in restricted for file in report.reported.files(metric)
    )


def to_eval_results(place: Path, dataset: str) -> dict[str, str]:
    """Path -> content of the final report of a place and of those beside it, below a model's folder. Raises
    CharterError."""
    if dataset and not HUB_NAME.fullmatch(dataset):
        raise CharterError(f"{dataset!r} is not a data set on the hub; write it as OWNER/NAME")
    # Raises if the place has no report.
    reports(place)
    report = final_stage(place)
    if contents := eval_results(dataset, report):
        return contents
    raise CharterError(
        f"{report.path} uses data from this disk, and the hub's scores must name a data set on the hub: say which "
        "holds it with --dataset OWNER/NAME"
    )


def reports(place: Path) -> list[Artifact]:
    """The reports of a folder: one report, those of a card, or all finished ones of a run directory.

    Raises CharterError if there is none.
    """
    if (place / MANIFEST).is_file():
        manifest = read_manifest(place)
        if manifest.kind == "card":
            parents = [p for p in manifest.parents if p.role == "reports"]
            return [final_stage(find_parent(run_of(place), parent)[1]) for parent in parents]
        if manifest.kind != "report":
            raise CharterError(f"{place} is a {manifest.kind}; name a report, a card or a run")
        refuse(place, "its scores are not exported")
        return [final_stage(place)]
    folders = sorted(p.parent for p in place.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))
    manifests = ((folder, read_manifest(folder)) for folder in folders)
    stages = [final_stage(f) for f, m in manifests if on_a_model(m) and not purpose_of(f)]
    if not stages:
        raise CharterError(f"{place} has no report; name a run with a finished evaluate step, or one report")
    return stages
