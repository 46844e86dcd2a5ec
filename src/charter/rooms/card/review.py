"""What people say and find: verdicts on the replies that the grader flagged (card section 3.4) and how far they agree;
attempts to get harm out of a model (Ganguli 2022); logs of mitigations.

Verdicts and attempts of simulated people are in rows of their own, marked as simulated. Whoever made an attempt rates
it from 0 to 4. Attempts of one person are not independent, so intervals resample persons. They are computed on ratings
as shares of the scale, so that a model without any success has one too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from charter.ground.artifact.errors import CharterError
from charter.ground.findings.selection import MITIGATIONS
from charter.ground.measure.intervals import interval
from charter.ground.measure.metric import VERSION
from charter.ground.measure.reviews import REVIEWS, by_case, majority_says_harmful
from charter.ground.measure.score import tabulate
from charter.ground.reports.artifact import Artifact
from charter.ground.reports.judges import unfit
from charter.ground.reports.number import COUNT, PLAIN, SHARE, Number
from charter.ground.text.ballot import HARMFUL_FROM
from charter.ground.text.ballot import RATINGS as SCALE
from charter.ground.text.heldout import BENIGN, TWIN
from charter.ground.text.judgments import HARMFUL, HUMAN
from charter.ground.text.votes import RATINGS
from charter.rooms.card.elo import badge
from charter.rooms.card.gather import Run
from charter.rooms.card.samples import HARM_ROWS, REQUEST_ROWS

REVIEW_ROWS = f"samples/{REVIEWS}"
TOP = SCALE[-1]
SEVERAL, ALL = "several models", "all attempts"
# In the report of an evaluate step with a baseline: found attacks there and here.
RETESTS = "retests.jsonl"
Row = dict[str, Any]
Key = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The verdicts of one `source` on one stage. `flagged` counts the samples that the grader flagged, `judged` those
    with a verdict.

    `confirmed` is the share of judged ones that the verdicts call harmful, `missed` the same share of judged samples
    that the grader passed. `harm` is the share of all samples that were confirmed, once every flagged sample has a
    verdict; samples that nobody read count as harmless. `unfit` is the verdict on the grader that flagged.
    """

    stage: str
    source: str
    flagged: Number
    judged: Number
    confirmed: Number | None
    missed: Number | None
    harm: Number | None
    unfit: bool

    @property
    def badge(self) -> str:
        return badge(self.source)


@dataclass(frozen=True, slots=True)
class Reviewing:
    """Counts and agreement of one set of reviews, and the tags of transcripts that most reviewers call harmful, each
    with its count."""

    step: str
    source: str
    numbers: tuple[tuple[str, Number], ...]
    tags: tuple[tuple[str, Number], ...]

    @property
    def badge(self) -> str:
        return badge(self.source)


def summarise_reviews(run: Run) -> tuple[Reviewing, ...]:
    """All sets of reviews that are artifacts."""
    return tuple(_summarise_reviews(artifact, rows) for artifact in run.reviews if (rows := artifact.rows(REVIEW_ROWS)))


def _summarise_reviews(artifact: Artifact, rows: Sequence[Row]) -> Reviewing:
    cases = by_case(rows)
    mean = sum(map(len, cases.values())) / len(cases)
    numbers = [
        ("Transcripts reviewed", artifact.count("reviewed transcripts", len(cases), REVIEW_ROWS)),
        ("Reviewers", artifact.count("reviewers of them", len({r["rater"] for r in rows}), REVIEW_ROWS)),
        ("Reviews of a transcript, mean", artifact.number("reviews of a transcript", mean, REVIEW_ROWS, PLAIN)),
    ]
    numbers += [(n.label, n) for n in artifact.own.values() if n.metric]
    tags = Counter(
        tag
        for reviews in cases.values()
        if majority_says_harmful(reviews)
        for tag in {tag for row in reviews for tag in row["tags"]}
    )
    by_count = sorted(tags.items(), key=lambda item: (-item[1], item[0]))
    tag_counts = tuple((tag, artifact.count(f"confirmed, tagged {tag}", n, REVIEW_ROWS)) for tag, n in by_count)
    return Reviewing(artifact.name, str(rows[0]["source"]), tuple(numbers), tag_counts)


def summarise_verdicts(run: Run) -> tuple[Reviewed, ...]:
    """The verdicts on each stage, by source; empty if there are none.

    Raises CharterError for a verdict on a reply that no report of the card holds.
    """
    reports = (*run.stages, *run.at_protocol)
    files = ((HARM_ROWS, "harm_rate"), (REQUEST_ROWS, "requests_harm_rate"))
    by_stage = [(stage.of(name), file, _judged_rows(stage.of(name), file)) for stage in reports for file, name in files]
    strays = [j for j in run.judgments if not any(j.key in rows for _, _, rows in by_stage)]
    if strays:
        raise CharterError(
            f"{len(strays)} of {len(run.judgments)} judgments are on replies that no report of this card holds, the "
            f"first on sample {strays[0].sample} of {strays[0].id}: fill in the review.jsonl of these reports, or list "
            "the reports that they came from"
        )
    summaries = []
    for stage, file, rows in by_stage:
        for source in sorted({j.source for j in run.judgments}):
            judgments = [j for j in run.judgments if j.source == source and j.verdict is not None]
            verdicts = {j.key: j.verdict == HARMFUL for j in judgments}
            if verdicts.keys() & rows.keys():
                summaries.append(_summarise_stage(run, (stage, file), rows, source, verdicts))
    return tuple(summaries)


def _judged_rows(stage: Artifact, file: str) -> dict[Key, Row]:
    """The replies of a stage that verdicts may be on: those to harmful requests."""
    return {key_of(row): row for row in stage.rows(file) if row.get("origin") not in (BENIGN, TWIN)}


def key_of(row: Row) -> Key:
    """The reply that a verdict is on: prompt, number of the sample, text."""
    return str(row["id"]), int(row["sample"]), str(row["reply"])


def _summarise_stage(
    run: Run, place: tuple[Artifact, str], rows: dict[Key, Row], source: str, verdicts: dict[Key, bool]
) -> Reviewed:
    stage, file = place
    requests = file == REQUEST_ROWS
    flagged = [key for key, row in rows.items() if row["grader"] < row["grader_fixed"]]
    judged = [key for key in flagged if key in verdicts]
    passed = [key for key in verdicts if key in rows.keys() - set(flagged)]

    def number(name: str, value: float, **parts: Any) -> Number:
        sources = (stage.source(file), *run.judged_by.get(source, run.judged_in))
        key = f"{stage.name}/{'requests_' if requests else ''}{name}" + ("" if source == HUMAN else f" ({source})")
        return Number(key, name, value, stage=stage.label, sources=sources, **parts)

    def share(name: str, of: Iterable[Key], hit: Callable[[Key], bool]) -> Number:
        table = tabulate((key[0], float(hit(key)), 1.0) for key in of)
        low, high = interval(table)
        details = {"n": table.n, "clusters": len(table.clusters), "version": VERSION, "unit": SHARE}
        return number(name, table.value, low=low, high=high, **details)

    def called(keys: Sequence[Key], name: str) -> Number | None:
        return share(name, keys, verdicts.__getitem__) if keys else None

    harm = share("harm_rate_judged", rows, lambda key: verdicts.get(key, False))
    return Reviewed(
        f"{stage.label}, requests" if requests else stage.label,
        source,
        number("flagged", len(flagged), unit=COUNT),
        number("flagged_judged", len(judged), unit=COUNT),
        called(judged, "flagged_confirmed"),
        called(passed, "passed_harmful"),
        harm if len(judged) == len(flagged) else None,
        unfit(stage, "harm_rate"),
    )


@dataclass(frozen=True, slots=True)
class Attempted:
    """Attempts on one model: the mean rating of success, the share rated HARMFUL_FROM or more, and how many attempts
    and persons there are."""

    model: str
    mean: Number
    succeeded: Number
    attempts: Number
    persons: Number


@dataclass(frozen=True, slots=True)
class AttemptTable:
    """The attempts of one step by people, or by simulated raters."""

    step: str
    source: str
    rows: tuple[Attempted, ...]

    @property
    def badge(self) -> str:
        return badge(self.source)


def attempts(run: Run) -> tuple[AttemptTable, ...]:
    """A table for each step and kind of rater."""
    tables = []
    for votes in run.votes:
        rows = votes.rows(RATINGS)
        for source in sorted({str(row["source"]) for row in rows}, key=lambda s: (s != HUMAN, s)):
            tables.append(_attempt_table(votes, source, [row for row in rows if row["source"] == source]))
    return tuple(tables)


def by_people(tables: Sequence[AttemptTable]) -> bool:
    """Whether any of the attempts are by people."""
    return any(table.source == HUMAN for table in tables)


def _attempt_table(votes: Artifact, source: str, rows: Sequence[Row]) -> AttemptTable:
    by_model: dict[str, list[Row]] = {}
    for row in rows:
        models = set(row["models"])
        by_model.setdefault(models.pop() if len(models) == 1 else SEVERAL, []).append(row)
    if len(by_model) > 1:
        by_model = dict(sorted(by_model.items())) | {ALL: list(rows)}
    return AttemptTable(votes.name, source, tuple(_attempted(votes, source, *item) for item in by_model.items()))


def _attempted(votes: Artifact, source: str, model: str, rows: Sequence[Row]) -> Attempted:
    def number(name: str, value: float, unit: str, **parts: Any) -> Number:
        key, stage = f"attempts/{source}/{name} of {model}", f"attempts on {model}, {source}"
        return replace(votes.number(key, value, RATINGS, unit, stage=stage, **parts), name=name)

    ratings = tabulate((str(row["rater"]), row["rating"] / TOP, 1.0) for row in rows)
    low, high = interval(ratings)
    ends = {"low": None if low is None else low * TOP, "high": None if high is None else high * TOP}
    details = {"n": len(rows), "version": VERSION}
    hits = tabulate((str(row["rater"]), float(row["rating"] >= HARMFUL_FROM), 1.0) for row in rows)
    first, last = interval(hits)
    return Attempted(
        model,
        number("mean success", ratings.value * TOP, PLAIN, **ends, **details),
        number("succeeded", hits.value, SHARE, low=first, high=last, **details),
        number("attempts", len(rows), COUNT),
        number("persons", len(ratings.clusters), COUNT),
    )


def mitigation_log(run: Run) -> dict[str, Any] | None:
    """What was changed against each finding of an outside red team, and its re-test; None without findings."""
    findings = run.findings
    if findings is None:
        return None
    rows = [
        {key: row[key] for key in ("finding", "date", "changed", "status")}
        | {"artifact": row["artifact"][:12], "retest": (row["retest"] or "")[:12]}
        | {
            when: _pair(findings, row[when], f"{{}} {when}, row {n}", ("harmful replies", "replies"), MITIGATIONS)
            for when in ("before", "after")
        }
        for n, row in enumerate(findings.rows(MITIGATIONS), 1)
    ]
    return {"step": findings.name, "findings": findings.numbers["findings"], "rows": rows}


def retest_log(run: Run) -> dict[str, Any] | None:
    """Attacks that a machine found, on the final stage beside the stage that it is compared with: [successes, samples]
    before and after, and [refusals, samples] of the harmless twins. None if it re-tested none."""
    for report in (run.final, *run.final.beside):
        base = next((p for p in report.manifest.parents if p.role == "baseline"), None)
        if base is None or not (retests := report.rows(RETESTS)):
            continue
        rows = [
            {"finding": str(row["finding"]), "family": str(row["family"])}
            | {
                key: _pair(
                    report,
                    [float(count) for count in row[key]] if isinstance(row[key], list) else None,
                    f"{{}} of attack {n}, {key.replace('_', ' ')}",
                    ("hits", "samples"),
                    RETESTS,
                )
                for key in ("before", "after", "twin_before", "twin_after")
            }
            for n, row in enumerate(retests, 1)
        ]
        model = report.report["model"]
        return {
            "before": next((s.label for s in run.stages if s.manifest.id == base.id), base.step),
            "after": report.label,
            "changed": str(model["name"]),
            "artifact": str(model["id"])[:12],
            "retest": report.manifest.id[:12],
            "rows": rows,
        }
    return None


def _pair(
    artifact: Artifact, counts: Sequence[float] | None, name: str, whats: tuple[str, str], file: str
) -> list[Number] | None:
    """Hits and all of a row; None if it has none."""
    if counts is None:
        return None
    return [artifact.count(name.format(w), count, file) for w, count in zip(whats, counts, strict=True)]
