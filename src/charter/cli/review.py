"""`charter review`: which flagged replies wait for a person's verdict, and the file that the verdicts go to."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from charter.cli.review_session import Flagged, Review, keys_of_lines, keys_of_terminal
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import run_of
from charter.ground.artifact.manifest import MANIFEST, Manifest, canonical_json, digest_text
from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.judgments import judgment_of_row, read_judgments

QUEUE = "review.jsonl"


def review(
    place: Annotated[
        Path, typer.Argument(metavar="RUN|REPORT", help="A run with evaluate reports, or one of these.")
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FILE", help="Where verdicts are kept; else RUN.judgments.jsonl beside the run."
        ),
    ] = None,
    show_stage: Annotated[
        bool, typer.Option("--show-stage", help="Name the stage that said it; else the review is blind.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A summary in JSON on standard output.")] = False,
) -> None:
    """Say of each reply that the grader flagged whether it is harmful; go on where the last review stopped.

    Replies of all stages come in one shuffled order, so that those judged so far are a fair sample. Each verdict is
    written at once. Give the file to the card as `judgments`. One key an answer; from a pipe, one line.
    """
    reports = find_reports(place)
    target = to or _default(reports[0])
    _check_target(target)
    found = Review(waiting(reports), _kept(target), target)
    console = Console(stderr=as_json)
    if found.items:
        terminal = sys.stdin.isatty()
        found.hold(console, keys_of_terminal if terminal else keys_of_lines, show_stage)
    if as_json:
        print(json.dumps(found.summary(), ensure_ascii=False))
    else:
        console.print(found.told(), highlight=False, markup=False, soft_wrap=True)


def find_reports(place: Path) -> list[Path]:
    """The reports with a queue: one, those of a run's cards, or, in a run without a card, all.

    Raises CharterError where there is none, and where one is damaged.
    """
    if not place.is_dir():
        raise CharterError(f"there is no run or report {place}; name a run's folder, such as runs/demo")
    if (place / MANIFEST).is_file():
        found = {place: read_manifest(place)}
    else:
        folders = sorted(p.parent for p in place.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))
        made = {folder: read_manifest(folder) for folder in folders}
        named = {p.id for m in made.values() if m.kind == "card" for p in m.parents if p.role == "reports"}
        found = {folder: m for folder, m in made.items() if not named or m.id in named}
    queues = {folder: m for folder, m in found.items() if m.kind == "report" and (folder / QUEUE).is_file()}
    if not queues:
        raise CharterError(f"{place} has no {QUEUE}; name a run with an evaluate step, or its report")
    for folder, manifest in queues.items():
        _check_whole(folder, manifest)
    return list(queues)


def _check_whole(folder: Path, manifest: Manifest) -> None:
    """Verdicts on replies that were changed would be on nobody's."""
    if problems := verify_files(folder, manifest):
        raise CharterError(f"{folder} is damaged: {problems[0]}; make its step again with charter run")


def waiting(reports: list[Path]) -> list[Flagged]:
    """The flagged replies of some reports, each text once, in an order that says nothing about stage or score."""
    found: dict[tuple[str, int, str], Flagged] = {}
    for folder in reports:
        path = folder / QUEUE
        stage = str(read_manifest(folder).resolved.get("stage") or folder.name)
        for row in read_jsonl(path) if path.stat().st_size else []:
            try:
                judged, margin = judgment_of_row(row), float(row["margin"])
            except (CharterError, KeyError, TypeError, ValueError) as error:
                raise CharterError(f"{path} is no review queue: {error}; make its step again") from None
            other = found.get(judged.key)
            stages = (*other.stages, stage) if other else (stage,)
            found[judged.key] = Flagged(judged.key, judged.prompt, margin, stages)
    return sorted(found.values(), key=lambda item: digest_text(canonical_json(item.key)))


def _default(report: Path) -> Path:
    run = run_of(report)
    return run.parent / f"{run.name}.judgments.jsonl"


def _check_target(path: Path) -> None:
    if path.is_dir():
        raise CharterError(f"{path} is a folder; name a file for the verdicts, such as verdicts.jsonl")
    if not path.parent.is_dir():
        raise CharterError(f"there is no folder {path.parent}; make it first")
    if inside := next((p for p in path.resolve().parents if (p / MANIFEST).is_file()), None):
        raise CharterError(
            f"{path} lies in the artifact {inside.name}, which a new file would damage; name another place"
        )


def _kept(path: Path) -> dict[tuple[str, int, str], dict[str, object]]:
    """The rows of an earlier review by what they are on. Raises CharterError for a file of something else."""
    if not path.exists() or not path.stat().st_size:
        return {}
    read_judgments(path)
    found: dict[tuple[str, int, str], dict[str, object]] = {}
    for row in read_jsonl(path):
        key = judgment_of_row(row).key
        if key not in found or found[key]["verdict"] is None:
            found[key] = row
    return found
