"""Verifies a run: hashes, lineage, every metric from its kept rows, and the card made again and compared.

A changed score is found even if all hashes were made again. Then the manifest's metric no longer follows from the
rows, the card's number from the manifest, or the page from the numbers. A changed flag or count is found too: each
room marks replies and counts its rows again (`verify.py` beside its `run.py`). If replies, scores and everything that
follows from them change together, they agree. Only sampling again (`deep`) finds that.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from charter.ground.artifact.curves import last_logged, read_object
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.lineage import find_parent, run_of
from charter.ground.artifact.manifest import MANIFEST, Manifest
from charter.ground.artifact.recount import read_counts, same
from charter.ground.artifact.store import read_manifest, verify_files
from charter.ground.measure.plots import standalone
from charter.ground.measure.reporting import metric_problems, read_reported
from charter.ground.reports.artifact import explain_outdated
from charter.ground.reports.stages import on_a_model
from charter.ground.settings.hub import fetch_input
from charter.ground.settings.problems import first_problem
from charter.ground.settings.sources import resolve_again
from charter.rooms.card.gather import gather
from charter.rooms.card.layout import schema_problems
from charter.rooms.card.page import HTML, JSON
from charter.rooms.card.redrawn import DRAWING, drawing_problem, first_difference, page_problem
from charter.rooms.card.render import make
from charter.rooms.card.settings import ROLES, Settings

SAMPLED_ANEW = 20
# Most lines of one card; a single changed row may move hundreds of numbers.
MOST_LINES = 20
PLOTS = "plots/"
_VERSION = re.compile(r"[0-9]{1,3}(\.[0-9]{1,5}){1,3}[a-z0-9.+]{0,20}")

Recompute = Callable[[Path, Manifest], list[str]]
Regenerate = Callable[[Path, int], list[str]]


def verify(run_dir: Path, deep: bool, recompute: Recompute, regenerate: Regenerate | None = None) -> list[str]:
    """One line for each problem of a run directory or an artifact, and of all its ancestors, also in other runs.

    The room of an artifact provides `recompute(folder, manifest)`. It returns a line for each thing that the room
    wrote and that doesn't follow from its kept rows. If `deep`, the room of each report provides `regenerate(report,
    count)`. It samples at least `count` replies again and returns a line for each that differs. Raises CharterError if
    there is nothing to verify.
    """
    folders = artifacts(run_dir)
    names = {folder: _name(folder, run_of(folders[0])) for folder in folders}
    problems: list[str] = []
    cards, reports = [], []
    others: dict[str, str] = {}
    for folder, name in names.items():
        try:
            manifest = read_manifest(folder)
        except CharterError as error:
            problems.append(str(error))
            continue
        problems += [f"{name}: {line}" for line in artifact_problems(folder, manifest, recompute)]
        if why := explain_outdated(folder, manifest):
            others[name] = why
        if manifest.kind == "card":
            cards.append(folder)
        elif on_a_model(manifest):
            # Other reports have no samples.
            reports.append(folder)
    if not cards:
        problems.append(f"{run_dir} has no card; add a step of the card room to its recipe")
    if others:
        problems.append(
            f"{', '.join(others)}: {next(iter(others.values()))}, so neither their numbers nor the card were "
            "computed again; run the steps again, or verify with the charter that made them"
        )
    for folder in [] if others else cards:
        problems += [f"{names[folder]}: {line}" for line in card_problems(folder)]
    if deep and regenerate is None:
        problems.append("samples were not drawn anew: no function to draw them was given")
    elif deep and regenerate is not None:
        for folder in reports:
            try:
                problems += regenerate(folder, SAMPLED_ANEW)
            except Exception as error:
                # The problems collected so far must not be lost.
                problems.append(f"{names[folder]}: samples can't be drawn anew ({_words(error)})")
    return problems


def artifacts(place: Path) -> list[Path]:
    """Finished artifacts of a run directory, or one artifact (or the one that holds a file), then all their ancestors.
    Each folder is listed once."""
    original, place = place, (place.parent if place.is_file() else place).resolve()
    folders = sorted(p.parent for p in place.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))
    if (place / MANIFEST).is_file():
        folders = [place]
    if not folders:
        raise CharterError(
            f"{original} holds no finished artifact; name a run directory or an artifact in it, and finish a run "
            "with charter run"
        )
    # The list grows during the loop.
    for folder in folders:
        folders += [parent for parent in _parents(folder) if parent not in folders]
    return folders


def _parents(folder: Path) -> list[Path]:
    """The folders of an artifact's parents that exist; `artifact_problems` names the missing ones."""
    folders: dict[Path, None] = {}
    with suppress(CharterError):
        for parent in read_manifest(folder).parents:
            with suppress(CharterError):
                folders[find_parent(run_of(folder), parent)[1].resolve()] = None
    return list(folders)


def _name(folder: Path, home: Path) -> str:
    """A folder relative to a run directory."""
    return folder.name if folder.parent == home else os.path.relpath(folder, home)


def _words(error: Exception) -> str:
    """An error on one line."""
    words = " ".join(str(error).split())
    return words if isinstance(error, CharterError) else f"{type(error).__name__}: {words}"


def artifact_problems(folder: Path, manifest: Manifest, recompute: Recompute) -> list[str]:
    """Problems of one artifact: status, files, parents, metrics, flags, counts, and a report's verdicts on its
    graders.

    The numbers of another version of the measures are not checked.
    """
    problems = [f"is {manifest.status}, not done"] if manifest.status != "done" else []
    try:
        problems += verify_files(folder, manifest)
    except OSError as error:
        problems.append(f"its files can't be read ({_words(error)})")
    for parent in manifest.parents:
        try:
            find_parent(run_of(folder), parent)
        except CharterError as error:
            problems.append(str(error))
    if explain_outdated(folder, manifest):
        return problems
    problems += _id_problems(manifest)
    try:
        problems += source_problems(folder, manifest)
        problems += recompute(folder, manifest)
    except CharterError as error:
        problems.append(str(error))
    except Exception as error:
        # Damaged files can raise any error.
        problems.append(f"its kept rows can't be read ({_words(error)})")
    return problems


def _id_problems(manifest: Manifest) -> Iterator[str]:
    """An artifact's id must follow from its settings, inputs, seed, code, device and precision."""
    listed = [(p.role, p.id) for p in manifest.parents] + [(e.role, e.digest) for e in manifest.external]
    if sorted(listed) != sorted((role, name) for role, names in manifest.inputs.items() for name in names):
        yield "its manifest lists other inputs than its parents and sources"
    elif manifest.derived_id != manifest.id:
        yield "its id does not follow from the settings, inputs, seed, code, device and precision in its manifest"


def source_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Every metric follows from a table, or stands in counts.json or in the last line of the log."""
    others: dict[str, float | None] = dict(read_counts(folder))
    for metric in manifest.metrics:
        if metric.name not in others and (last := last_logged(folder, metric.name)) is not None:
            others[metric.name] = last
    yield from metric_problems(manifest, read_reported(folder), others)


def card_problems(folder: Path) -> list[str]:
    """Makes the card again from its artifacts and compares numbers first, then every file byte by byte."""
    try:
        manifest = read_manifest(folder)
        settings = Settings.model_validate(manifest.resolved)
        inputs, problems = card_inputs(folder, manifest)
        files = make(settings, gather(inputs))
    except ValidationError as error:
        return [f"its settings are not those of a card: {first_problem(error, Settings)}"]
    except Exception as error:
        # Damaged files can raise any error.
        return [f"can't be made again: {_words(error)}"]
    try:
        record = read_object(folder / JSON)
        problems += [f"{JSON} breaks its schema: {line}" for line in schema_problems(record)[:MOST_LINES]]
        problems += list(_number_problems(record["numbers"], json.loads(files[JSON])["numbers"]))
        files[JSON] = _drawn_by(record["drawn_with"]["matplotlib"], files[JSON])
    except CharterError as error:
        return [*problems, str(error)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [*problems, f"{JSON} can't be read ({_words(error)})"]
    problems += list(_file_problems(folder, files))
    problems += [f"{f.path} is not a file of a card" for f in manifest.files if f.path not in files]
    more = len(problems) - MOST_LINES
    return problems if more <= 0 else [*problems[:MOST_LINES], f"and {more} further problems of this card"]


def card_inputs(folder: Path, manifest: Manifest) -> tuple[Inputs, list[str]]:
    """The card's inputs as they were, and what is wrong with them. Raises CharterError if one is missing."""
    run = run_of(folder)
    entries, problems = [], []
    for parent in manifest.parents:
        ancestor, path = find_parent(run, parent)
        entries.append(Input(parent.role, parent.step, ancestor.kind, ancestor.variant, path, parent.step, ancestor.id))
    for outside in manifest.external:
        source = resolve_again(outside, run)
        if source.digest != outside.digest:
            problems.append(f"{outside.ref} ({outside.role}) has changed since the card was made")
        kinds = source.kind, source.variant
        entry = Input(outside.role, outside.ref, *kinds, source.path, outside.ref, outside.digest)
        entries.append(fetch_input(entry, ROLES[outside.role]))
    return Inputs(entries), problems


def _number_problems(recorded: list[dict[str, Any]], recomputed: list[dict[str, Any]]) -> Iterator[str]:
    theirs, ours = ({str(n["key"]): n for n in numbers} for numbers in (recorded, recomputed))
    for key in sorted(theirs.keys() - ours.keys()):
        yield f"{JSON} has {key} = {theirs[key].get('value')}, which nothing in the run gives"
    for key in sorted(ours.keys() - theirs.keys()):
        yield f"{JSON} lacks {key} = {ours[key]['value']}"
    # Changes come last: they follow from the other numbers.
    for key in sorted(theirs.keys() & ours.keys(), key=lambda k: (".." in k, k)):
        for part, value in ours[key].items():
            other = theirs[key].get(part)
            equal = same(value, other) if _numeric(value) and _numeric(other) else value == other
            if not equal:
                yield f"{JSON}: {part} of {key} is {other}; the run gives {value}"


def _numeric(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _drawn_by(version: str, record: str) -> str:
    """The record of a card made again as another version of matplotlib would have it. Raises CharterError for what is
    no version."""
    if not _VERSION.fullmatch(version):
        raise CharterError(f"{JSON} names no version of matplotlib in drawn_with")
    drawn = json.loads(record) | {"drawn_with": {"matplotlib": version}}
    return json.dumps(drawn, indent=1, ensure_ascii=False) + "\n"


def _file_problems(folder: Path, files: dict[str, str]) -> Iterator[str]:
    """Files that differ from those made again. Drawings may be laid out as another version of matplotlib does it."""
    plots = {name: text for name, text in files.items() if name.startswith(PLOTS)}
    drawings = frozenset(one for one in DRAWING.findall(files.get(HTML, "")) if standalone(one) in plots.values())
    for name, content in files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
            continue
        try:
            # read_text would turn a reply's \r into \n.
            stored = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            yield f"{name} can't be read ({_words(error)})"
            continue
        if stored == content:
            continue
        if name in plots:
            problem = drawing_problem(stored, content)
        elif name == HTML:
            problem = page_problem(stored, content, drawings)
        else:
            problem = first_difference(stored, content)
        if problem:
            yield f"{name} is not what the artifacts give: {problem}"
