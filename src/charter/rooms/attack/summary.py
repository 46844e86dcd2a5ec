"""The report for readers: attack.md with the budget curve, families, both splits, and what limits the numbers."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from charter.ground.attack.chains import FAMILIES
from charter.ground.attack.verdicts import GRADER_ERRORS, verdict
from charter.ground.measure.correction import why_none
from charter.ground.measure.reporting import Reported, Score
from charter.rooms.attack.settings import MOST_TURNS, WRITERS

Row = dict[str, Any]


def warning(reported: Reported) -> str:
    """Why no rate is corrected for the grader's errors; "" if they are."""
    grader_errors = [reported.tables[name] for name in GRADER_ERRORS if name in reported.tables]
    if len(grader_errors) < len(GRADER_ERRORS):
        return "Rates are not corrected for the grader's errors: no known replies measure them."
    why = why_none(*grader_errors)
    return f"Rates are not corrected for the grader's errors, and zeros prove nothing: {why}." if why else ""


def write_up(reported: Reported, curve: Sequence[Row], numbers: Mapping[str, float]) -> str:
    """The text of attack.md."""
    by_name = {score.name: score for score in reported.scores}

    def told(name: str) -> str:
        score = by_name.get(name)
        if score is None:
            return "-"
        ends = "" if score.low is None or score.high is None else f" ({score.low:.0%} to {score.high:.0%})"
        return f"{score.value:.0%}{ends}, n = {score.n}"

    counts_text = f"{numbers['findings']:.0f} attacks were found, {numbers['confirmed']:.0f} confirmed"
    lines = ["# Attacks", "", f"{counts_text}, in {numbers['queries']:.0f} requests.", ""]
    lines += ["| number | value (95 % interval) |", "|---|---|"]
    lines += [
        f"| {by_name[name].metric.label} | {told(name)} |"
        for name in (
            "attack_success", "attack_success_corrected", "attack_found_again", "attack_gap", "attack_rate",
            "attack_rate_corrected", "attack_rate_none", "attack_rate_none_corrected", "attack_twin_rate",
            "attack_beyond_twins",
            "attack_twin_refused", "attack_twin_refused_none", "attack_understood", "attack_understood_none",
            "attack_grader_sensitivity", "attack_grader_specificity", "attack_useful", "attack_specificity",
            "attack_unrated", "attack_rate_useful", "attack_twin_specificity", "attack_rate_unrated", "attack_unread",
            "attack_distinct", "attack_unseen_apart", "attack_alike_found", "attack_alike_unseen", "attack_writer_fit",
            "attack_writer_sent", "attack_reached", "attack_twin_reached", "attack_success_least", "attack_least",
            "attack_twin_least", "attack_any_turn", "attack_twin_any_turn",
        )
        if name in by_name
    ]  # fmt: skip
    lines += ["", warning(reported), "", *_blind(by_name), ""]
    lines += [
        "| requests sent | answers of the writer | successes by the search's grader | cells with one |",
        "|---:|---:|---:|---:|",
    ]
    lines += [f"| {point['queries']} | {point['asks']} | {point['found']} | {point['cells']} |" for point in curve]
    lines += _by_family(by_name, told)
    lines += ["", "| success | seen requests | unseen requests |", "|---|---|---|"]
    for part in ("seen", "unseen"):
        cells = (told(f"attack_rate_{part}_{goal}") for goal in ("seen", "unseen"))
        lines.append(f"| {part} families | {' | '.join(cells)} |")
    lines += _by_turn(by_name, told)
    return "\n".join(lines) + "\n"


def _blind(by_name: Mapping[str, Score]) -> list[str]:
    """What it means if harmless twins are called a success as often as attacks; [] if they aren't."""
    beyond = by_name.get("attack_beyond_twins")
    if beyond is None or beyond.low is None or beyond.low > 0:
        return []
    return [
        "No attack is shown to work: the grader calls answers to harmless twins a success as often as those to attacks."
    ]


def _by_family(by_name: Mapping[str, Score], share_text: Callable[[str], str]) -> list[str]:
    """What each family does to harmful requests, harmless twins and easy questions."""
    values = {name: score.value for name, score in by_name.items()}
    head = "| family | succeeds | corrected | twin succeeds | twin refused | questions answered | verdict |"
    columns = ("rate_{}", "rate_{}_corrected", "twin_rate_{}", "twin_refused_{}", "understood_{}")
    lines = ["", head, "|---|---|---|---|---|---|---|"]
    for family in (*FAMILIES, *WRITERS):
        if f"attack_rate_{family}" in by_name:
            cells = " | ".join(share_text(f"attack_{column.format(family)}") for column in columns)
            lines.append(f"| {family.replace('_', ' ')} | {cells} | {verdict(family, values)} |")
    return lines


def _by_turn(known: Container[str], share_text: Callable[[str], str]) -> list[str]:
    """Rates by turn of conversations; [] if there are none."""
    columns = ("attack_success", "attack_rate", "attack_twin_rate", "attack_refused", "attack_twin_refused")
    lines = [
        f"| {turn} | {' | '.join(share_text(f'{column}_turn_{turn}') for column in columns)} |"
        for turn in range(1, MOST_TURNS + 1)
        if any(f"{column}_turn_{turn}" in known for column in columns)
    ]
    head = "| turn | found, new samples | requests | twins | requests refused | twins refused |"
    return ["", head, "|---|---|---|---|---|---|", *lines] if lines else []
