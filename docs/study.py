"""Fills docs/study.md and the README's table of it: what runs of one recipe with different seeds found.

All of it comes from the cards of the runs.

    python docs/study.py RUN RUN RUN

What the page needs of a run is kept in docs/study/seed-<seed>.json, so that seeds can be run one at a time, on
several machines; without a RUN the page is made again from those files. A change is counted per seed, paired over
prompts as the card does, and then over seeds: mean and interval of the seeds' changes, which holds what seeds vary
(Student's t) and what prompts vary (drawn anew for all seeds at once), see ground/measure/seeds.py. The latter needs
the answers by prompt; for a seed's file without them the page has the former alone and says so. What an unfit grader
judged is shown and left out of the mean, with the number of seeds that count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from fill import README, Card, between, number_of, read_card, worded

from charter.card.number import SHARE, Number, figure, judge_of, label, unit_of
from charter.card.sections import MAIN
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest
from charter.ground.measure.metrics import BY_NAME, GAP, tables
from charter.ground.measure.score import Table, ratio
from charter.ground.measure.seeds import (
    NO_BOUNDS,
    Bounds,
    Mean,
    Part,
    apart,
    over_seeds,
    prompt_part_of_change,
    unseen,
)

PAGE = Path(__file__).resolve().parent / "study.md"
KEPT = PAGE.parent / "study"
START, END = "<!-- study:start -->", "<!-- study:end -->"
METRICS = (
    "harm_rate",
    "harm_rate_prompts",
    "harm_rate_seen",
    "harm_rate_unseen",
    "harm_rate_reward",
    "harm_answered_rate",
    "refused_below_rate",
    "unsafe_refusal_rate",
    "lookalike_refusal_rate",
    "refusal_d_prime",
    "refusal_criterion",
    "lookalike_refusal_rate_seen",
    "lookalike_refusal_rate_unseen",
    "lookalike_harm_rate",
    "refusal_gap",
    "helpful_refusal_rate",
    "helpful_win_rate",
    "helpful_score",
    "facts_recalled",
    "facts_all",
    "exact_answers",
    "hhh_content",
    "hhh_policy",
    "bits_per_byte",
    "unsafe_cut_rate",
    "lookalike_cut_rate",
    "helpful_cut_rate",
    "unsafe_loop_rate",
    "lookalike_loop_rate",
    "helpful_loop_rate",
    "distinct_2",
    "repeated_4grams",
)
SUMMARY = (
    "harm_rate",
    "unsafe_refusal_rate",
    "lookalike_refusal_rate",
    "refusal_gap",
    "helpful_win_rate",
    "hhh_content",
    "bits_per_byte",
    "unsafe_loop_rate",
)
# What two rates make up the refusal gap: of other prompts each.
GAP_OF = ("unsafe_refusal_rate", "lookalike_refusal_rate")
DIGITS = 6  # that are kept of a sum over a prompt's replies


def counted(cards: Sequence[Card], name: str) -> list[Card]:
    """The cards whose number of that name means something: a graded one wants a model that passed the gate."""
    judge = judge_of(name)
    return [c for c in cards if not judge or c[judge]["fit"]]


def stage_table(cards: Sequence[Card]) -> str:
    """Values by stage: the mean over seeds, and every seed's own."""
    stages = cards[0]["stages"]
    rows = ["| | " + " | ".join(s["stage"] for s in stages) + " |", "|---|" + "---:|" * len(stages)]
    for name in METRICS:
        cells = []
        for stage in stages:
            found = [number_of(card, f"{stage['step']}/{name}") for card in cards]
            numbers = [n for n in found if n is not None]
            if not numbers:
                cells.append("-")
                continue
            unit, kept = numbers[0].unit, counted(cards, name)
            means = [number_of(card, f"{stage['step']}/{name}") for card in kept]
            mean = [n.value for n in means if n is not None]
            each = ", ".join(figure(n.value, unit, False) for n in numbers)
            few = "" if len(mean) == len(numbers) else f", {len(mean)} of {len(numbers)} seeds"
            cells.append(
                f"**{figure(statistics.fmean(mean), unit, False)}**{few} ({each})" if mean else f"({each})"
            )
        if set(cells) != {"-"}:
            rows.append(f"| {label(name)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def change_table(cards: Sequence[Card]) -> str:
    """From the first stage to the last: each seed's paired change, then the mean over seeds with its interval."""
    first, last = cards[0]["stages"][0]["step"], cards[0]["stages"][-1]["step"]
    heads = [f"seed {card['seed']}" for card in cards]
    rows = ["| | " + " | ".join([*heads, "over seeds"]) + " |", "|---|" + "---:|" * (len(cards) + 1)]
    for name in METRICS:
        changes = {id(card): number_of(card, f"{first}..{last}/{name}") for card in cards}
        if not any(changes.values()):
            continue
        cells = [worded(changes[id(card)]) for card in cards]
        kept = [card for card in counted(cards, name) if changes[id(card)] is not None]
        mean = worded_mean(kept, first, last, name) + few(kept, cards)
        rows.append(f"| {label(name)} | " + " | ".join([*cells, mean]) + " |")
    return "\n".join(rows)


def summary_table(cards: Sequence[Card]) -> str:
    """For the README: means over the seeds that count, first and last stage, and the mean change."""
    stages = cards[0]["stages"]
    first, last = stages[0], stages[-1]
    rows = [f"| | {first['stage']} | {last['stage']} | mean change | seeds |", "|---|---:|---:|---:|---:|"]
    for name in SUMMARY:
        kept = counted(cards, name)
        ends = [[number_of(c, f"{s['step']}/{name}") for c in kept] for s in (first, last)]
        changes = [number_of(c, f"{first['step']}..{last['step']}/{name}") for c in kept]
        cells = [_mean(numbers) for numbers in ends]
        change = worded_mean(kept, first["step"], last["step"], name) if all(changes) else "-"
        if kept and cells[1] != "-":
            rows.append(
                f"| {label(name)} | {cells[0]} | {cells[1]} | {change} | {len(kept)} of {len(cards)} |"
            )
    return "\n".join(rows)


def _mean(numbers: Sequence[Number | None]) -> str:
    known = [n for n in numbers if n is not None]
    return figure(statistics.fmean(n.value for n in known), known[0].unit) if known else "-"


def seed_table(card: Card) -> str:
    """One seed's values with intervals and n, stage by stage."""
    stages = card["stages"]
    rows = ["| | n | " + " | ".join(s["stage"] for s in stages) + " |", "|---|---:|" + "---:|" * len(stages)]
    for name in METRICS:
        numbers = [number_of(card, f"{stage['step']}/{name}") for stage in stages]
        if any(numbers):
            last = next(n for n in reversed(numbers) if n is not None)
            rows.append(f"| {label(name)} | {last.n:,} | " + " | ".join(map(worded, numbers)) + " |")
    return "\n".join(rows)


def _steps(card: Card) -> tuple[list[tuple[Card, Card]], list[str]]:
    """Each stage with the one before it, and the head of a table with a column for each."""
    steps = list(pairwise(card["stages"]))
    heads = " | ".join(f"{a['stage']} to {b['stage']}" for a, b in steps)
    return steps, [f"| | {heads} |", "|---|" + "---:|" * len(steps)]


def steps_table(card: Card) -> str:
    """One seed's paired changes, each stage against the one before."""
    steps, rows = _steps(card)
    for name in MAIN:
        changes = [number_of(card, f"{a['step']}..{b['step']}/{name}") for a, b in steps]
        if any(changes):
            notes = ["" if n is None or n.significant else ", not significant" for n in changes]
            rows.append(
                f"| {label(name)} | "
                + " | ".join(map("".join, zip(map(worded, changes), notes, strict=True)))
                + " |"
            )
    return "\n".join(rows)


def steps_over_seeds(cards: Sequence[Card]) -> str:
    """Each stage against the one before: the mean over seeds of the paired changes."""
    steps, rows = _steps(cards[0])
    for name in MAIN:
        kept = counted(cards, name)
        cells = [worded_mean(kept, a["step"], b["step"], name) for a, b in steps]
        cells = [cell if cell == "-" else cell + few(kept, cards) for cell in cells]
        if set(cells) != {"-"}:
            rows.append(f"| {label(name)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def bounds_of_change(name: str) -> Bounds:
    """How far a change of a metric can go either way."""
    width = 2.0 if name == GAP.name else 1.0
    return (-width, width) if unit_of(name) == SHARE else NO_BOUNDS


def kept_table(card: Card, step: str, name: str) -> Table | None:
    """A metric's answers by prompt as the file of a seed has kept them; None where it hasn't."""
    found = card.get("answers", {}).get(step, {}).get(name)
    if found is None:
        return None
    clusters = card["prompts"][found["prompts"]]
    return Table(tuple(clusters), np.array([found["num"], found["den"]], np.float64).T, found["n"], ratio)


def prompts_vary(cards: Sequence[Card], first: str, last: str, name: str) -> Part | None:
    """What other prompts would move the mean change from a step to another; None where a file lacks the answers."""
    if name == GAP.name:
        unsafe, look = (prompts_vary(cards, first, last, part) for part in GAP_OF)
        return None if unsafe is None or look is None else apart(unsafe, look)
    sides = [[kept_table(card, step, name) for card in cards] for step in (first, last)]
    before, after = ([table for table in side if table is not None] for side in sides)
    if not cards or len(before) < len(cards) or len(after) < len(cards):
        return None
    return prompt_part_of_change(before, after)


def mean_change(cards: Sequence[Card], first: str, last: str, name: str) -> tuple[Mean, str] | None:
    """The mean of the seeds' changes from a step to another and its unit; None for fewer than two seeds."""
    found = [(card, number_of(card, f"{first}..{last}/{name}")) for card in cards]
    changes = [(card, n, n.value) for card, n in found if n is not None and n.value is not None]
    if not changes:
        return None
    part = prompts_vary([card for card, _, _ in changes], first, last, name)
    numbers = [n for _, n, _ in changes]
    if part is None and unit_of(name) == SHARE and not any(value for _, _, value in changes):
        part = unseen(min(n.clusters or n.n or 0 for n in numbers), change=True)
    mean = over_seeds([value for _, _, value in changes], part, bounds_of_change(name))
    return None if mean is None else (mean, numbers[0].unit)


def worded_mean(cards: Sequence[Card], first: str, last: str, name: str) -> str:
    """The mean change in words, with what its interval leaves out, or a dash where there are too few seeds."""
    found = mean_change(cards, first, last, name)
    if found is None:
        return "-"
    mean, unit = found
    value, low, high = (figure(x, unit, True) for x in (mean.value, mean.low, mean.high))
    verdict = "" if mean.low > 0 or mean.high < 0 else ", not significant"
    alone = "" if mean.prompts else "*"
    return f"{value} ({low.split()[0]} to {high.split()[0]}{alone}){verdict}"


def few(kept: Sequence[Card], cards: Sequence[Card]) -> str:
    """How many seeds a mean is of, where they are not all or under three."""
    return "" if 3 <= len(kept) == len(cards) else f" ({len(kept)} of {len(cards)} seeds)"


def footnote(text: str) -> str:
    """What the mark in a table means, where it stands in one."""
    words = "\\* Of the spread of the seeds alone, too narrow: a seed's file has no answers by prompt."
    return words if "*)" in text else ""


def answers(folders: dict[str, Path]) -> Card:
    """Numerators and denominators of the page's metrics by prompt, of each stage; lists of prompts stand once."""
    lists: dict[tuple[str, ...], str] = {}
    kept: dict[str, dict[str, Card]] = {}
    for step, folder in folders.items():
        of_step = kept.setdefault(step, {})
        for name, table in tables(folder).items():
            if name in {*METRICS, *MAIN} and table.statistic is ratio:
                key = lists.setdefault(table.clusters, f"{BY_NAME[name].file.partition('.')[0]}-{len(lists)}")
                sums = {"num": _rounded(table.num), "den": _rounded(table.den)}
                of_step[name] = {"prompts": key, "n": table.n, **sums}
    return {"prompts": {key: list(clusters) for clusters, key in lists.items()}, "answers": kept}


def _rounded(sums: Sequence[float]) -> list[float]:
    """Sums to DIGITS digits; whole numbers as such."""
    short = (float(f"{value:.{DIGITS}g}") for value in sums)
    return [int(value) if value.is_integer() else value for value in short]


def kept_of(run: Path) -> Card:
    """What the page needs of a finished run: stages, numbers, both graders' verdicts, and where it was made."""
    folder, card = read_card(run)
    made = [read_manifest(path.parent) for path in sorted(run.glob("*/manifest.json"))]
    last = run / card["stages"][-1]["step"]
    report, made_by = json.loads((last / "report.json").read_text("utf-8")), read_manifest(last)
    where = made_by.environment
    steps = {stage["step"] for stage in card["stages"]}
    return {
        "seed": json.loads((run / "run.json").read_text("utf-8"))["recipe"]["seed"],
        "card": read_manifest(folder).id,
        "commit": made_by.source.commit,
        "changed": made_by.source.dirty,
        "minutes": sum(m.timing.seconds for m in made) / 60,
        "machine": f"{where.device}, {where.threads} threads, {where.precision}, torch {where.torch}",
        **{role: {key: report[role][key] for key in ("fit", "why")} for role in ("grader", "reward")},
        "stages": card["stages"],
        **answers({stage["step"]: run / stage["step"] for stage in card["stages"]}),
        # all of the stages and their changes, so that the page can show others without a new run
        "numbers": [n for n in card["numbers"] if set(n["key"].rpartition("/")[0].split("..")) <= steps],
    }


def origin(kept: Sequence[Card]) -> str:
    """One line a run: seed, card, minutes, machine, code, grader."""
    return "\n".join(
        f"- Seed {k['seed']}, card `{k['card'][:12]}`: {k['minutes']:.0f} minutes on {k['machine']}; code "
        f"`{(k['commit'] or 'installed')[:12]}`{' with changes' if k['changed'] else ''}. "
        + " ".join(
            f"The {words} is {'fit' if k[role]['fit'] else 'unfit'}: {k[role]['why']}."
            for role, words in (("grader", "grader"), ("reward", "reward model"))
        )
        for k in kept
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Keeps what is needed of the runs and writes the part of docs/study.md between its markers."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="finished runs of one recipe, one a seed")
    asked = parser.parse_args(arguments)
    try:
        for kept in [kept_of(run) for run in asked.runs]:
            KEPT.mkdir(exist_ok=True)
            (KEPT / f"seed-{kept['seed']}.json").write_text(json.dumps(kept) + "\n", "utf-8")
    except CharterError as error:
        print(f"study: {error}", file=sys.stderr)
        return 1
    cards = [json.loads(path.read_text("utf-8")) for path in sorted(KEPT.glob("seed-*.json"))]
    if not cards:
        print("study: no finished seed; give a run", file=sys.stderr)
        return 1
    parts = (
        "## By stage\n\nMean over seeds in bold, and each seed's own value.",
        stage_table(cards),
        "## From start to the last stage\n\nPaired change and its 95 % interval over prompts, seed by seed; "
        "then the mean of the seeds with its 95 % interval over seeds and prompts.",
        change_table(cards),
        "## Each stage against the one before\n\nMean of the seeds' paired changes with its 95 % interval over seeds "
        "and prompts.",
        steps_over_seeds(cards),
        footnote(change_table(cards) + steps_over_seeds(cards)),
        "## Runs",
        origin(cards),
        "## Seed by seed\n\nValues with their 95 % intervals over prompts, then paired changes against the stage "
        "before.",
        *(part for c in cards for part in (f"### Seed {c['seed']}", seed_table(c), steps_table(c))),
    )
    summary = "\n\n".join(filter(None, (table := summary_table(cards), footnote(table))))
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    content = "\n\n".join(filter(None, parts))
    PAGE.write_text(f"{before}{START}\n{content}\n{END}{rest.partition(END)[2]}", "utf-8")
    README.write_text(between(README.read_text("utf-8"), "study", summary), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
