"""Fills docs/study.md and the README's table of it: what runs of one recipe with different seeds found.

All of it comes from the cards of the runs.

    python docs/study.py RUN RUN RUN

What the page needs of a run is kept in docs/study/seed-<seed>.json, so that seeds can be run one at a time, on
several machines; without a RUN the page is made again from those files. A change is counted per seed, paired over
prompts as the card does, and then over seeds: mean and Student's interval of the seeds' changes. What an unfit
grader judged is shown and left out of the mean, with the number of seeds that count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from fill import README, Card, between, number_of, read_card, worded

from charter.card.number import Number, figure, judge_of, label
from charter.card.sections import MAIN
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.store import read_manifest

PAGE = Path(__file__).resolve().parent / "study.md"
KEPT = PAGE.parent / "study"
START, END = "<!-- study:start -->", "<!-- study:end -->"
METRICS = (
    "harm_rate",
    "harm_rate_prompts",
    "harm_rate_seen",
    "harm_rate_unseen",
    "harm_rate_reward",
    "unsafe_refusal_rate",
    "lookalike_refusal_rate",
    "lookalike_refusal_rate_seen",
    "lookalike_refusal_rate_unseen",
    "lookalike_harm_rate",
    "refusal_gap",
    "helpful_refusal_rate",
    "helpful_win_rate",
    "helpful_score",
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
    "hhh_policy",
    "bits_per_byte",
    "unsafe_loop_rate",
)
# Student's t at 97.5 % by degrees of freedom
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def over_seeds(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean of the seeds and the ends of its 95 % Student interval; None for fewer than two or more than ten."""
    if len(values) - 1 not in STUDENT:
        return None
    mean = statistics.fmean(values)
    half = STUDENT[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


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
        kept = [n for card in counted(cards, name) if (n := changes[id(card)]) is not None]
        few = "" if len(kept) == len(cards) else f" ({len(kept)} of {len(cards)} seeds)"
        rows.append(f"| {label(name)} | " + " | ".join([*cells, pooled(kept) + few]) + " |")
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
        change = pooled([n for n in changes if n is not None]) if all(changes) else "-"
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
        found = [
            [number_of(card, f"{a['step']}..{b['step']}/{name}") for card in counted(cards, name)]
            for a, b in steps
        ]
        cells = [pooled([n for n in numbers if n is not None]) for numbers in found]
        if set(cells) != {"-"}:
            rows.append(f"| {label(name)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def pooled(changes: Sequence[Number]) -> str:
    """The mean change in words, or a dash where there are too few seeds."""
    found = over_seeds([n.value for n in changes])
    if found is None:
        return "-"
    unit = changes[0].unit
    mean, low, high = (figure(value, unit, True) for value in found)
    verdict = "" if found[1] > 0 or found[2] < 0 else ", not significant"
    return f"{mean} ({low.split()[0]} to {high.split()[0]}){verdict}"


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
        "then the mean of the seeds with Student's 95 % interval.",
        change_table(cards),
        "## Each stage against the one before\n\nMean of the seeds' paired changes with Student's 95 % interval.",
        steps_over_seeds(cards),
        "## Runs",
        origin(cards),
        "## Seed by seed\n\nValues with their 95 % intervals over prompts, then paired changes against the stage "
        "before.",
        *(part for c in cards for part in (f"### Seed {c['seed']}", seed_table(c), steps_table(c))),
    )
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    PAGE.write_text(f"{before}{START}\n" + "\n\n".join(parts) + f"\n{END}{rest.partition(END)[2]}", "utf-8")
    README.write_text(between(README.read_text("utf-8"), "study", summary_table(cards)), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
