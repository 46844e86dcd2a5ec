"""The flagged replies that wait for a verdict: which reports have some, and the file of the verdicts so far."""

from pathlib import Path

from charter.cli.review_session import Flagged
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import run_of
from charter.ground.artifact.manifest import MANIFEST, Manifest, canonical_json, digest_text
from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.judgments import judgment_of_row, read_judgments

QUEUE = "review.jsonl"


def find_reports(place: Path) -> list[Path]:
    """The reports with a queue: the one named, those of a run's cards, or all of a run without a card.

    Raises CharterError if there is none, and if one is damaged.
    """
    if (place / MANIFEST).is_file():
        manifests = {place: read_manifest(place)}
    else:
        folders = sorted(p.parent for p in place.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))
        all_manifests = {folder: read_manifest(folder) for folder in folders}
        card_reports = {
            p.id for m in all_manifests.values() if m.kind == "card" for p in m.parents if p.role == "reports"
        }
        manifests = {
            folder: m for folder, m in all_manifests.items() if not card_reports or m.id in card_reports
        }
    queues = {
        folder: m for folder, m in manifests.items() if m.kind == "report" and (folder / QUEUE).is_file()
    }
    if not queues:
        raise CharterError(f"{place} has no {QUEUE}; name a run with an evaluate step, or its report")
    for folder, manifest in queues.items():
        _check_whole(folder, manifest)
    return list(queues)


def _check_whole(folder: Path, manifest: Manifest) -> None:
    """Raises CharterError if a report was changed: verdicts would then be on replies that no model wrote."""
    if problems := verify_files(folder, manifest):
        raise CharterError(f"{folder} is damaged: {problems[0]}; run its step again with charter run")


def waiting(reports: list[Path]) -> list[Flagged]:
    """The flagged replies of `reports`, each text once, in an order that tells nothing about stage or score."""
    flagged: dict[tuple[str, int, str], Flagged] = {}
    for folder in reports:
        path = folder / QUEUE
        stage = str(read_manifest(folder).resolved.get("stage") or folder.name)
        for row in read_jsonl(path) if path.stat().st_size else []:
            try:
                judged, margin = judgment_of_row(row), float(row["margin"])
            except (CharterError, KeyError, TypeError, ValueError) as error:
                raise CharterError(f"{path} is not a review queue: {error}; run its step again") from None
            other = flagged.get(judged.key)
            stages = (*other.stages, stage) if other else (stage,)
            flagged[judged.key] = Flagged(judged.key, judged.prompt, margin, stages)
    return sorted(flagged.values(), key=lambda item: digest_text(canonical_json(item.key)))


def default_file(report: Path) -> Path:
    """The file of verdicts beside the run of a report."""
    run = run_of(report)
    return run.parent / f"{run.name}.judgments.jsonl"


def check_target(path: Path) -> None:
    """Raises CharterError if no file of verdicts can be written at a path."""
    if path.is_dir():
        raise CharterError(f"{path} is a folder; name a file for the verdicts, such as verdicts.jsonl")
    if not path.parent.is_dir():
        raise CharterError(f"there is no folder {path.parent}; create it first")
    if inside := next((p for p in path.resolve().parents if (p / MANIFEST).is_file()), None):
        raise CharterError(
            f"{path} lies in the artifact {inside.name}, which a new file would damage; name another place"
        )


def earlier_rows(path: Path) -> dict[tuple[str, int, str], dict[str, object]]:
    """The rows of an earlier review by prompt and reply. Raises CharterError if the file holds something else."""
    if not path.exists() or not path.stat().st_size:
        return {}
    read_judgments(path)
    rows: dict[tuple[str, int, str], dict[str, object]] = {}
    for row in read_jsonl(path):
        key = judgment_of_row(row).key
        if key not in rows or rows[key]["verdict"] is None:
            rows[key] = row
    return rows
