"""The end of a run in at most eight lines: how long it took, what changed, where its card is, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from charter.ground.artifact.release import LEAST_DIGITS
from charter.runner.pace import spell_minutes

if TYPE_CHECKING:
    from charter.runner.summary import Change, Summary

ARROWS = {"lower": "↓", "higher": "↑", "zero": "→0"}
MOST_LINES = 8
# metrics named in one line
_MOST = 3


def run_lines(summary: Summary, elapsed: float | None = None) -> list[str]:
    """The lines, without a colour. `elapsed`: the seconds that the command took; else those of the steps' work."""
    lines = [_heading(summary, elapsed)]
    if summary.headlines:
        width = max(len(_name(change)) for change in summary.headlines)
        values = [_values(change) for change in summary.headlines]
        beside = max(map(len, values))
        for change, value in zip(summary.headlines, values, strict=True):
            lines.append(f"  {_name(change):<{width}}  {value:<{beside}}  {change.verdict}".rstrip())
        if summary.stages is not None and summary.stages[0] != summary.stages[1]:
            lines.append(f"  Got worse: {_list_worse(summary.worse)}")
    if summary.card is not None:
        seal = f" (seal {summary.seal[:LEAST_DIGITS]})" if summary.seal else ""
        lines.append(f"  Card: {summary.card.resolve().as_uri()}{seal}")
    ends = [*_talk(summary), f"Next: {_next(summary)}"]
    if len(lines) + len(ends) > MOST_LINES:
        ends = ["   ".join(ends)]
    return lines + [f"  {end}" for end in ends]


def spell_seconds(seconds: float) -> str:
    """'45 s', '23 minutes', '2.5 hours'."""
    return f"{seconds:.0f} s" if seconds < 90 else spell_minutes(seconds / 60)


def _heading(summary: Summary, elapsed: float | None) -> str:
    count = f"{summary.done} of {summary.steps} {'step' if summary.steps == 1 else 'steps'}"
    work = f"{spell_seconds(summary.seconds)} of work"
    took = (
        f"{count} done, {work}" if elapsed is None else f"{count} done in {spell_seconds(elapsed)} ({work})"
    )
    if summary.stages is None:
        return f"{summary.run.name}: {took}"
    first, last = summary.stages
    doubt = f"; the grader is not fit{' (†)' if summary.unfit else ''}" if summary.fit is False else ""
    return f"{summary.run.name}: {took}; {first if first == last else f'{first} → {last}'}{doubt}"


def _name(change: Change) -> str:
    return f"{change.label}{' †' if change.unfit else ''} {ARROWS.get(change.better, '')}".strip()


def _values(change: Change) -> str:
    from charter.ground.reports.number import figure

    final = figure(change.final, change.unit)
    if change.start is None:
        return final
    moved = (
        f" ({figure(change.difference, change.unit, signed=True)})" if change.difference is not None else ""
    )
    return f"{figure(change.start, change.unit)} → {final}{moved}"


def _list_worse(worse: Sequence[Change]) -> str:
    names = "; ".join(change.label for change in worse[:_MOST])
    return (names + (f"; {len(worse) - _MOST} more" if len(worse) > _MOST else "")) or "nothing significantly"


def _talk(summary: Summary) -> list[str]:
    return [] if summary.talk is None else [f"Talk: charter chat {summary.talk}"]


def _next(summary: Summary) -> str:
    """The command that makes sense now."""
    if summary.done < summary.steps:
        return "charter run with the same recipe, which does the rest"
    if summary.compare:
        return f"charter compare {' '.join(map(str, summary.compare))}"
    if summary.talk is not None:
        return f"charter eval {summary.talk}"
    return f"charter show {summary.run}/{summary.last}"
