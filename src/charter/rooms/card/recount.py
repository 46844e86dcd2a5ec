"""Flags, verdicts and counts worked out again from what they were made of: replies, scores, rows.

A metric that follows from its rows proves little where a row's flag was changed too. Detectors are run on the kept
replies again, scores compared again, rows counted again; only sampling anew goes behind replies and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.ground.judge.detect import DETECTORS
from charter.ground.judge.fitness import HELPFUL_PAIRS
from charter.ground.judge.marks import alias_told, facts_recalled
from charter.ground.judge.trust import trust
from charter.ground.measure.debias import DEBIAS
from charter.ground.measure.drift import DRIFT
from charter.ground.measure.facts import FACTS, QUIZ
from charter.ground.measure.metrics import HARM, HELP, HHH, LABELS, LOOK, PAIRS
from charter.ground.measure.ratings import RATINGS
from charter.ground.measure.reviews import REVIEWS, by_case, called_harmful
from charter.ground.measure.scaling import SCALING, Ladder
from charter.ground.measure.score import points, ranked_right
from charter.ground.measure.selection import ORIGINS, SELECTED
from charter.ground.measure.selection import REASONS as FILTERED
from charter.ground.measure.selection import REPLIES as ANSWERS
from charter.ground.text.ballot import TAGS, better
from charter.ground.text.judgments import HARMFUL, HARMLESS
from charter.ground.text.votes import RATINGS as ATTEMPTED
from charter.ground.text.votes import VOTES
from charter.rooms.card.artifact import same

Row = Mapping[str, Any]
Rows = Sequence[Row]
SOURCES = (
    TRANSCRIPTS,
    DIALOGUES,
    COMPARISONS,
    KNOWN,
    HELDOUT,
    RATED,
    FAIR,
    REVIEWED,
    JUDGED,
    LADDER,
    ANSWERED,
    TAKEN,
    *_,
) = (
    "transcripts.jsonl",
    "dialogues.jsonl",
    "comparisons.jsonl",
    f"samples/{LABELS}",
    f"samples/{PAIRS}",
    f"samples/{RATINGS}",
    f"samples/{DEBIAS}",
    f"samples/{REVIEWS}",
    "judgments.jsonl",
    f"samples/{SCALING}",
    f"samples/{ANSWERS}",
    f"samples/{SELECTED}",
    DRIFT,
    VOTES,
    ATTEMPTED,
)
REASONS = ("empty", "identical", "truncated", "loop", "marker")  # why critique drops a revision


@dataclass(frozen=True, slots=True)
class Kept:
    """What an artifact keeps: rows by file (those of SOURCES that it has), the counts beside them, its settings."""

    files: Mapping[str, Rows]
    counts: Mapping[str, float]
    settings: Mapping[str, Any]


def _detected(detect: Callable[[str], bool]) -> Callable[[Row], object]:
    return lambda row: detect(row["reply"])


def _ranked(row: Row) -> float:
    return ranked_right(row["p_chosen"], row["chosen_score"], row["rejected_score"])


def _gain(row: Row) -> float | None:
    return None if row["score"] is None else row["score"] - row["mean"]


REPLIES: Mapping[str, Callable[[Row], object]] = {name: _detected(d) for name, d in DETECTORS.items()}
TRIPLES: Mapping[str, Callable[[Row], object]] = {
    "fixed_above_harmful": lambda row: row["fixed"] > row["harmful"],
    "good_above_fixed": lambda row: row["good"] > row["fixed"],
}
# File of kept rows -> flag -> what gives it, from the row alone.
FLAGS: Mapping[str, Mapping[str, Callable[[Row], object]]] = {
    HARM: REPLIES,
    LOOK: REPLIES,
    HELP: REPLIES,
    FACTS: {
        **REPLIES,
        "recalled": lambda row: facts_recalled(row)["recalled"],
        "all_recalled": lambda row: facts_recalled(row)["all_recalled"],
    },
    QUIZ: {**REPLIES, "correct": lambda row: alias_told(row)["correct"]},
    "fitness.jsonl": TRIPLES,
    "fitness_reward.jsonl": TRIPLES,
    PAIRS: {"correct": _ranked},
    HELPFUL_PAIRS: {"correct": _ranked},
    HHH: {"correct": lambda row: points(row["p_correct"], 0.5 if row["mode"] == "policy" else 0.0)},
    LABELS: {"correct": lambda row: points(row["p_correct"], 0.5)},
    DEBIAS: {"kept": lambda row: row["choice"] == row["answer"]},
    SELECTED: {"served": lambda row: row["kept"] > 0, "gain": _gain},
}


def _dropped(kept: Kept, reason: str | None) -> int:
    """Revisions dropped for a reason, or kept."""
    return sum(made["dropped"] == reason for row in kept.files[TRANSCRIPTS] for made in row["rounds"])


def _drafts(kept: Kept, loops: bool) -> Rows:
    """Drafts that loop, or the others that are not empty."""
    loop = DETECTORS["loop"]
    return [r for r in kept.files[TRANSCRIPTS] if loop(r["draft"]) == loops and (loops or r["draft"].strip())]


def _dropping(reason: str) -> Callable[[Kept], float]:
    return lambda kept: _dropped(kept, reason)


def _revisions(kept: Kept) -> int:
    return sum(len(row["rounds"]) for row in kept.files[TRANSCRIPTS])


def _earned(kept: Kept) -> float:
    """What labels weigh by the known pairs: 1 surely above chance (or untested), 0 surely below it."""
    return trust(kept.files[KNOWN], float(kept.settings["chance_weight"]))


def _harmful(kept: Kept) -> int:
    """Reviews that call a reply harmful, by their ratings."""
    return sum(row["rating"] >= kept.settings["harmful_from"] for row in kept.files[REVIEWED])


def _tagged(tag: str) -> Callable[[Kept], float]:
    return lambda kept: sum(tag in row["tags"] for row in kept.files[REVIEWED])


def _votes(winner: str) -> Callable[[Kept], float]:
    return lambda kept: sum(row["winner"] == winner for row in kept.files[VOTES])


def _left(kept: Kept) -> float:
    """Share of decided votes that picked the left reply; on the harmless axis the worse one is picked."""
    decided = [row for row in kept.files[VOTES] if row["winner"] in ("a", "b") and row["left"]]
    picked = sum(bool(better(row["axis"], row["winner"]) == row["left"]) for row in decided)
    return picked / max(1, len(decided))


def _of_replies(start: str, made: Callable[[Rows], float]) -> Callable[[Kept], float]:
    """A count over the replies of one origin; of all where `start` is empty."""
    return lambda kept: made(
        [row for row in kept.files[ANSWERED] if start in ("", row["origin"] + "_")],
    )


def _placed(group: str, refused: bool) -> Callable[[Kept], float]:
    """Replies to a group of prompts at the share that was taken, or those among them that refuse."""

    def count(kept: Kept) -> float:
        rows = (row for row in kept.files[ANSWERED] if row["share"] == kept.counts["share"])
        replies = [row["reply"] for row in rows if row["asked"] == group]
        return sum(map(DETECTORS["refusal"], replies)) if refused else len(replies)

    return count


def _placed_rate(group: str) -> Callable[[Kept], float]:
    """The share of them that refuse."""
    return lambda kept: _placed(group, refused=True)(kept) / max(1, _placed(group, refused=False)(kept))


def _filtered(start: str) -> tuple[tuple[str, Callable[[Kept], float]], ...]:
    """What became of the replies that the select room chose among."""
    counts: dict[str, Callable[[Rows], float]] = {
        "replies": len,
        "passed": lambda rows: sum(row["dropped"] is None for row in rows),
        "kept": lambda rows: sum(row["kept"] for row in rows),
        "passed_share": lambda rows: sum(row["dropped"] is None for row in rows) / max(1, len(rows)),
        "kept_share": lambda rows: sum(row["kept"] for row in rows) / max(1, len(rows)),
    }
    for reason in FILTERED:
        counts[f"dropped_{reason}"] = lambda rows, why=reason: sum(row["dropped"] == why for row in rows)  # type: ignore[misc]
    return tuple((start + name, _of_replies(start, made)) for name, made in counts.items())


def _asked(role: str) -> Callable[[Kept], float]:
    return lambda kept: sum(row["asked"] == role for row in kept.files[TAKEN])


# Room -> (count, what it is recounted from): a count of two sources stands twice.
COUNTED: Mapping[str, tuple[tuple[str, Callable[[Kept], float]], ...]] = {
    "critique": (
        ("prompts", lambda kept: len(kept.files[TRANSCRIPTS])),
        ("samples", lambda kept: len(kept.files[DIALOGUES])),
        ("loop", lambda kept: len(_drafts(kept, loops=True))),
        ("cut", lambda kept: sum(row["stop"] == "length" for row in _drafts(kept, loops=False))),
        ("revisions", _revisions),
        ("kept", lambda kept: _dropped(kept, None)),
        ("kept", lambda kept: len(kept.files[DIALOGUES])),
        ("kept_share", lambda kept: _dropped(kept, None) / max(1, _revisions(kept))),
        *((f"dropped_{reason}", _dropping(reason)) for reason in REASONS),
    ),
    "feedback": (
        ("comparisons", lambda kept: len(kept.files[COMPARISONS])),
        ("pairs", lambda kept: len(kept.files[COMPARISONS]) + kept.counts["dropped_equal"]),
        ("mean_p_chosen", lambda kept: _sum(kept, "p_chosen") / max(1, len(kept.files[COMPARISONS]))),
        ("label_weight", _earned),
        ("label_weight", lambda kept: min(row["weight"] for row in kept.files[COMPARISONS])),
        ("label_weight", lambda kept: max(row["weight"] for row in kept.files[COMPARISONS])),
    ),
    "select": (
        *(counted for start in ("", *(f"{origin}_" for origin in ORIGINS)) for counted in _filtered(start)),
        *((role, _asked(role)) for role in ("prompts", "harmless")),
        ("kept", lambda kept: len(kept.files[DIALOGUES])),
        ("kept", lambda kept: sum(row["kept"] for row in kept.files[TAKEN])),
        ("replies", lambda kept: sum(row["replies"] for row in kept.files[TAKEN])),
    ),
    "merge": (
        *((group, _placed(group, refused=False)) for group in ("prompts", "harmless")),
        *((f"refused_{group}", _placed(group, refused=True)) for group in ("prompts", "harmless")),
        *((f"refused_{group}_rate", _placed_rate(group)) for group in ("prompts", "harmless")),
    ),
    "debias": (
        ("asked", lambda kept: len(kept.files[FAIR])),
        ("kept", lambda kept: sum(row["kept"] for row in kept.files[FAIR])),
        ("taught", lambda kept: sum(row["taught"] for row in kept.files[FAIR])),
        ("taught", lambda kept: len(kept.files[DIALOGUES])),
    ),
    "arena": (
        ("votes", lambda kept: len(kept.files[VOTES])),
        ("pairs", lambda kept: len({row["item"] for row in kept.files[VOTES]})),
        ("raters", lambda kept: len({row["rater"] for row in kept.files[VOTES]})),
        ("comparisons", lambda kept: len(kept.files[COMPARISONS])),
        ("edits", lambda kept: sum(bool(row["meta"].get("edited")) for row in kept.files[COMPARISONS])),
        ("ratings", lambda kept: len(kept.files.get(ATTEMPTED, ()))),
        ("flagged", lambda kept: sum(bool(row["flags"]) for row in kept.files[VOTES])),
        ("unsure", _votes("unsure")),
        ("ties", _votes("tie")),
        ("both_bad", _votes("both_bad")),
        ("left_share", _left),
    ),
    "preference": (("heldout_pairs", lambda kept: len(kept.files[HELDOUT])),),
    "dpo": (("heldout_pairs", lambda kept: len(kept.files.get(HELDOUT, ()))),),
    "rl": (
        ("snapshots", lambda kept: len(kept.files.get(DRIFT, ()))),
        ("drift_alarms", lambda kept: sum(len(row["alarms"]) for row in kept.files.get(DRIFT, ()))),
    ),
    "rating": (("heldout_ratings", lambda kept: len(kept.files[RATED])),),
    "scaling": (
        ("models", lambda kept: len({row["run"] for row in kept.files[LADDER]})),
        ("sizes", lambda kept: len(Ladder.of(kept.files[LADDER]).sizes)),
        ("documents", lambda kept: len({row["id"] for row in kept.files[LADDER]})),
    ),
    "review": (
        ("transcripts", lambda kept: len(by_case(kept.files[REVIEWED]))),
        ("transcripts", lambda kept: len({row["case"] for row in kept.files[JUDGED]})),
        ("judged", lambda kept: len(kept.files[JUDGED])),
        ("harmful", lambda kept: sum(row["verdict"] == HARMFUL for row in kept.files[JUDGED])),
        ("reviews", lambda kept: len(kept.files[REVIEWED])),
        ("reviews_harmful", _harmful),
        ("reviews_harmful", lambda kept: sum(row["harmful"] for row in kept.files[REVIEWED])),
        ("reviewers", lambda kept: len({row["rater"] for row in kept.files[REVIEWED]})),
        *((f"tag {tag}", _tagged(tag)) for tag in TAGS),
    ),
}


def _sum(kept: Kept, key: str) -> float:
    return sum(float(row[key]) for row in kept.files[COMPARISONS])


def verdict_problems(kept: Kept) -> list[str]:
    """A line where a verdict on a reply is not that of most of its reviews."""
    if not {REVIEWED, JUDGED} <= kept.files.keys():
        return []
    reviews = by_case(kept.files[REVIEWED])
    told = (row for row in kept.files[JUDGED] if "case" in row and row["verdict"] is not None)
    for row in told:
        made = HARMFUL if called_harmful(reviews.get(row["case"], ())) else HARMLESS
        if row["verdict"] != made:
            return [
                f"{JUDGED}: sample {row['sample']} of {row['id']} is {row['verdict']}; its reviews say {made}"
            ]
    return []


def flag_problems(file: str, rows: Rows, rule: Callable[[Row], Row] | None = None) -> list[str]:
    """A line for each flag of a file of kept rows that doesn't follow in every row; `rule` gives further flags, such as
    the marks of a task of the battery, from the row alone."""
    wrong: dict[str, list[tuple[Row, object]]] = {}
    for row in rows:
        made = {key: flag(row) for key, flag in FLAGS.get(file, {}).items()} | dict(rule(row) if rule else {})
        for key, value in made.items():
            if not same_values(row[key], value):
                wrong.setdefault(key, []).append((row, value))
    problems = []
    for key, found in wrong.items():
        row, value = found[0]
        name = row.get("pair") or row.get("item") or row["id"]
        sample = f" sample {row['sample']}" if "sample" in row else ""
        more = f", and {len(found) - 1} further rows are alike" if len(found) > 1 else ""
        problems.append(f"samples/{file}: {key} of {name}{sample} is {row[key]}; its row gives {value}{more}")
    return problems


def same_values(kept: object, made: object) -> bool:
    """Whether two values of a row are equal, numbers in them up to rounding."""
    if isinstance(kept, int | float) and isinstance(made, int | float):
        return same(kept, made)
    if isinstance(kept, list) and isinstance(made, list):
        return len(kept) == len(made) and all(map(same_values, kept, made))
    if isinstance(kept, dict) and isinstance(made, dict):
        return kept.keys() == made.keys() and all(same_values(kept[key], made[key]) for key in made)
    return kept == made


def count_problems(room: str, kept: Kept) -> list[str]:
    """A line for each count of an artifact that its rows don't give."""
    problems = []
    for name, count in COUNTED.get(room, ()):
        if name in kept.counts and not same(kept.counts[name], made := float(count(kept))):
            problems.append(f"counts.json: {name} is {kept.counts[name]}; the rows beside it give {made}")
    return problems
