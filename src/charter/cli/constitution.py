"""Commands on constitutions: check, import a published set, and show principles with what they did in a run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from charter.ground.artifact.errors import CharterError
from charter.ground.constitution.constitution import ComparisonPrinciple, CritiquePrinciple, check, load
from charter.ground.constitution.published import read_published
from charter.ground.constitution.record import Record, records
from charter.ground.text.jsonl import read_jsonl
from charter.runner.names import find_step
from charter.terminal.options import Json

File = Annotated[Path, typer.Argument(metavar="FILE", help="A constitution in YAML.")]
NOTHING = "-"


def check_file(file: File) -> None:
    """Check a constitution and summarise it."""
    report = check(load(file))
    print(f"{file}: {report.summary}")
    for warning in report.warnings:
        print(f"  warning: {warning}")


def import_published(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A folder with the JSON files of the paper's 16 + 16 principles, or a Markdown text whose list items "
            "are principles under headings.",
        ),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="OUT", help="The constitution to write, in YAML.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Its name; default: that of SOURCE.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT if it exists.")] = False,
) -> None:
    """Turn a published set of principles into a constitution."""
    if to.exists() and not force:
        raise CharterError(f"{to} exists; give another --to, or --force to overwrite it")
    content = read_published(source, name or source.resolve().stem)
    to.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110), "utf-8")
    check_file(to)


def show(
    file: File,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="A run, whose draws, changes and labels are counted.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a constitution's principles, set by set and group by group, and what each did in a run."""
    constitution = load(file)
    found = records(*_material(find_step(run)[0])) if run else {}
    sets: dict[str, tuple[CritiquePrinciple | ComparisonPrinciple, ...]] = {
        "critiques": constitution.critiques,
        "comparisons": constitution.comparisons,
        "product": constitution.product,
    }
    if as_json:
        rows = [
            {"set": name, "group": p.group, "tags": p.tags, "text": _text(p), **found.get(p.key, Record()).row(p.key)}
            for name, principles in sets.items()
            for p in principles
        ]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    print(f"{constitution.name}, version {constitution.version}")
    for name, principles in sets.items():
        group = ""
        for number, p in enumerate(principles):
            if not number or p.group != group:
                group = p.group
                print(f"\n{name}{f': {group}' if group else ''}")
            print(f"  {p.key} ({', '.join(p.tags) or 'no tags'})\n    {_text(p)}")
            if run:
                print(f"    {_said(found.get(p.key, Record()).row(p.key))}")


def _text(principle: CritiquePrinciple | ComparisonPrinciple) -> str:
    if isinstance(principle, ComparisonPrinciple):
        return principle.principle
    return f"{principle.critique} / {principle.revision}"


def _said(row: dict[str, Any]) -> str:
    def share(value: float | None) -> str:
        return NOTHING if value is None else f"{value:.0%}"

    return (
        f"{row['critiques']} critiques, {share(row['kept'])} of the revisions kept, "
        f"words changed {share(row['changed'])}; {row['labels']} labels, margin {share(row['margin'])}; "
        f"right on {share(row['agreed'])} of {row['known_pairs']} known pairs"
    )


def _material(run: Path) -> tuple[Iterator[Any], Iterator[Any], Iterator[Any]]:
    """Transcripts, comparisons and known pairs of all steps of a run."""
    names = ("transcripts.jsonl", "comparisons.jsonl", "samples/known_pairs.jsonl")
    first, second, third = (
        (row for path in sorted(run.glob(f"*/{name}")) for row in read_jsonl(path)) for name in names
    )
    return first, second, third
