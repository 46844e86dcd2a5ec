"""Fills docs/results/constitution.md from runs of recipes/swap.yaml with different seeds.

    python docs/constitution.py RUN RUN RUN
    python docs/constitution.py --check       writes nothing; exit code 1 where the page is out of date

docs/results/constitution/swap-<seed>.json keeps which traits (adherence.py) each reply shows, prompt by prompt, so
seeds can be run one at a time. A share is the mean over prompts; an adherence the mean of a constitution's traits.
Intervals of differences hold what seeds vary and what prompts vary (ground/measure/seeds.py); one seed has prompts
alone. The unit is the prompt: all models answer the same ones.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from adherence import TRAITS
from tables import between, table, write_rows

from charter.ground.artifact.curves import read_objects
from charter.ground.artifact.errors import CharterError
from charter.ground.measure.seeds import Part, over_seeds

RESULTS = Path(__file__).resolve().parent / "results"
KEPT, PAGE = RESULTS / "constitution", RESULTS / "constitution.md"
NULL, START = "plain", "start"
# a constitution without a principle, and the trait that it had
LEFT_OUT = {
    "desk_asks_nothing": ("desk", "asks back"),
    "desk_any_length": ("desk", "short"),
    "tutor_no_example": ("tutor", "example"),
}
# by arm, prompt and trait ("desk: formal"): 1 if the reply shows it, 0 if not
Shown = dict[str, dict[str, dict[str, int]]]


def read_run(run: Path) -> Shown:
    """What the replies of each arm show."""
    shown: Shown = {}
    for folder in sorted(run.glob("replies_*")):
        arm = folder.name.removeprefix("replies_")
        shown[arm] = {}
        for row in read_objects(folder / "transcripts.jsonl"):
            kind = "unsafe" if row["id"].startswith("u") else "harmless"
            marks = {
                f"{name}: {trait}": check(kind, row["draft"])
                for name, checks in TRAITS.items()
                for trait, check in checks.items()
            }
            shown[arm][row["id"]] = {trait: int(mark) for trait, mark in marks.items() if mark is not None}
    if START not in shown or not set(TRAITS) <= shown.keys():
        raise CharterError(f"{run} lacks replies of {', '.join([START, *TRAITS])}; give a finished run of swap.yaml")
    return shown


def keep(run: Path) -> None:
    """Writes what is needed of a run beside the page."""
    seed = json.loads((run / "run.json").read_text("utf-8"))["recipe"]["seed"]
    KEPT.mkdir(exist_ok=True)
    text = json.dumps(read_run(run), separators=(",", ":"))
    (KEPT / f"swap-{seed}.json").write_text(text + "\n", "utf-8")


def share(prompts: dict[str, dict[str, int]], trait: str) -> float:
    """The share of replies that show a trait, among prompts to which it applies."""
    return fmean(marks[trait] for marks in prompts.values() if trait in marks)


def scores(prompts: dict[str, dict[str, int]], name: str) -> dict[str, float]:
    """Adherence to a constitution by prompt: the mean of its traits that apply, each weighing the same on the whole."""
    traits = [f"{name}: {trait}" for trait in TRAITS[name]]
    applies = {trait: sum(trait in marks for marks in prompts.values()) for trait in traits}
    total = len(prompts)
    return {
        key: fmean(marks.get(trait, 0) * total / applies[trait] for trait in traits) for key, marks in prompts.items()
    }


def adherence(prompts: dict[str, dict[str, int]], name: str) -> float:
    """The mean of the shares of a constitution's traits."""
    return fmean(share(prompts, f"{name}: {trait}") for trait in TRAITS[name])


def difference(runs: Sequence[Shown], value: Callable[[Shown], dict[str, float]]) -> str:
    """The mean of a paired value over prompts and seeds in points, with its 95 % interval."""
    by_seed = [value(shown) for shown in runs]
    means = [fmean(by_prompt.values()) for by_prompt in by_seed]
    pooled = np.array([fmean(by_prompt[key] for by_prompt in by_seed) for key in by_seed[0]])
    half = 1.96 * float(pooled.std(ddof=1)) / len(pooled) ** 0.5
    mean = over_seeds(means, Part(half, half))
    low, high = (mean.low, mean.high) if mean else (means[0] - half, means[0] + half)
    return f"{100 * fmean(means):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})".replace("-", "\u2212")


def own_less_others(shown: Shown, name: str) -> dict[str, float]:
    """By prompt: adherence to a constitution of its own model less the mean of those of the other constitutions."""
    own = scores(shown[name], name)
    others = [scores(shown[other], name) for other in (*TRAITS, NULL) if other != name and other in shown]
    return {key: value - fmean(other[key] for other in others) for key, value in own.items()}


def swap_table(runs: Sequence[Shown]) -> str:
    """Adherence of every model to every constitution, and own less others."""
    arms = [arm for arm in (START, *TRAITS, NULL) if all(arm in shown for shown in runs)]
    rows = [
        (
            name,
            *(f"{100 * fmean(adherence(shown[arm], name) for shown in runs):.0f}" for arm in arms),
            difference(runs, lambda shown, name=name: own_less_others(shown, name)),  # type: ignore[misc]
        )
        for name in TRAITS
    ]
    return table(("adherence, % to", *arms, "own less others, points"), rows)


def trait_table(runs: Sequence[Shown]) -> str:
    """The share of every trait in the replies of the start, its own model and the null's, and with it left out."""
    rows = []
    for name, checks in TRAITS.items():
        for trait in checks:
            left = next((arm for arm, out in LEFT_OUT.items() if out == (name, trait)), "")
            cells = [
                f"{100 * fmean(share(shown[arm], f'{name}: {trait}') for shown in runs):.0f}" if arm in runs[0] else "-"
                for arm in (START, NULL, name, left)
            ]
            rows.append((name, trait, *cells))
    return table(("constitution", "trait, % of replies", "start", "null", "own", "principle left out"), rows, left=2)


def fill(check: bool) -> bool:
    """Makes the page again from the kept files; whether it was up to date."""
    files = sorted(KEPT.glob("swap-*.json"))
    runs: list[Shown] = [json.loads(file.read_text("utf-8")) for file in files]
    seeds = [re.sub(r"\D", "", file.stem) for file in files]
    prompts = len(runs[0][START])
    before = page = PAGE.read_text("utf-8")
    origin = (
        f"{len(runs)} run{'s' * (len(runs) > 1)}, seed{'s' * (len(runs) > 1)} {', '.join(seeds)}; {prompts} prompts."
    )
    blocks = {"origin": origin, "swap": swap_table(runs), "traits": trait_table(runs)}
    for name, content in blocks.items():
        page = between(page, name, content)
    if not check:
        PAGE.write_text(page, "utf-8")
        heads = ("seed", "arm", "trait", "share")
        write_rows(
            KEPT / "traits.csv",
            heads,
            (
                (seed, arm, trait, f"{share(shown[arm], trait):.4f}")
                for seed, shown in zip(seeds, runs, strict=True)
                for arm in shown
                for trait in sorted({t for marks in shown[arm].values() for t in marks})
            ),
        )
    return page == before


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    try:
        for run in options.runs:
            keep(run)
        return 0 if fill(options.check) or not options.check else 1
    except CharterError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
