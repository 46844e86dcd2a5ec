"""What a release finds of weights, reports and dates that were changed together with their hashes; and how far a
sign-off on an ancestor carries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from card_world import SETTINGS, finish, make_card, write_rows
from test_card_release import NOW, ask, remake, signed, why

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.lineage import check_seals, seal_of, sealed, walk
from charter.ground.artifact.manifest import Manifest, Timing
from charter.ground.artifact.release import digest_checkpoint
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.release.checkpoint import compute_behind, times
from charter.release.rules import SignOff
from charter.runner.verify import verify

SEALED = {"sealed": True}


def rehash(run: Path, step: str, **changes: Any) -> None:
    """Makes the hashes of a changed artifact anew, as whoever changed it would."""
    manifest = read_manifest(run / step)
    write_manifest(run / step, manifest.model_copy(update={"files": record_files(run / step), **changes}))


def swap(run: Path) -> None:
    """Other weights under the same id."""
    (run / "rl" / "model.safetensors").write_bytes(b"other weights")
    rehash(run, "rl")


def reseal(run: Path, leave: str = "") -> None:
    """Makes the seals of the whole run anew, ancestors first; `leave`: a step that gets none."""
    for step in [manifest.step for manifest, _ in walk(run / "card")]:
        manifest = read_manifest(run / step)
        parents = manifest.parents if step == leave else sealed(run, manifest.parents)
        write_manifest(run / step, manifest.model_copy(update={"parents": parents}))


def better_numbers(run: Path) -> None:
    (run / "eval_3" / "review.jsonl").write_text("")
    rehash(run, "eval_3")


@pytest.mark.parametrize(
    ("change", "words"),
    [(swap, "rl is not what eval_3 was made from"), (better_numbers, "eval_3 is not what card was made from")],
)
def test_what_was_changed_with_its_hashes_is_refused_without_drawing_samples(
    run: Path, change: Callable[[Path], None], words: str
) -> None:
    assert why(ask(run)[1], "sealed") == ""
    change(run)
    assert verify(run, False) == [], "hashes alone don't show it"
    assert why(ask(run)[1], "sealed").startswith(words)


def test_a_report_that_was_made_younger_is_refused(run: Path) -> None:
    rehash(run, "eval_3", timing=Timing(started="2026-11-30T00:00:00Z"))
    assert why(ask(run)[1], "age of eval_3") == "", "its age alone doesn't show it"
    assert why(ask(run)[1], "sealed").startswith("eval_3 is not what card was made from")


def test_a_chain_whose_seals_were_all_made_anew_needs_a_kept_seal(run: Path) -> None:
    kept = seal_of(read_manifest(run / "card"))
    assert why(ask(run, rules={"seal": kept[:12], **SEALED})[1], "sealed") == ""
    swap(run)
    reseal(run)
    assert why(ask(run)[1], "sealed") == "", "that is what hashes can't do"
    assert "by hashes alone" in next(row.words[0] for row in ask(run)[1].rows if row.name == "sealed")
    refused = why(ask(run, rules={"seal": kept[:12]})[1], "sealed")
    assert refused.startswith("the card has the seal ") and kept[:12] in refused
    assert why(ask(run, rules=SEALED)[1], "sealed").startswith("missing: give the seal")
    # --deep is judged by `verify`, whose problems come first
    assert why(ask(run, rules=SEALED | {"deep": True})[1], "sealed") == ""


def test_a_lineage_without_seals_is_named_where_they_are_asked_for(run: Path) -> None:
    manifest = read_manifest(run / "sl")
    bare = [one.model_copy(update={"seal": ""}) for one in manifest.parents]
    write_manifest(run / "sl", manifest.model_copy(update={"parents": bare}))
    reseal(run, leave="sl")
    assert why(ask(run)[1], "sealed") == ""
    assert "sl is of an older charter" in why(ask(run, rules=SEALED)[1], "sealed")
    # an attacker who drops a seal changes what its child was made from
    report = read_manifest(run / "eval_3")
    bare = [one.model_copy(update={"seal": ""}) for one in report.parents]
    write_manifest(run / "eval_3", report.model_copy(update={"parents": bare}))
    assert why(ask(run)[1], "sealed").startswith("eval_3 is not what card was made from")


def test_a_seal_covers_files_ids_dates_of_reports_and_the_seals_above(run: Path) -> None:
    manifest = read_manifest(run / "eval_3")
    seal = seal_of(manifest)
    later = Timing(started=manifest.timing.started, seconds=99.0)
    assert seal_of(manifest.model_copy(update={"timing": later, "command": "other"})) == seal
    changed: list[Manifest] = [
        manifest.model_copy(update=update)
        for update in (
            {"id": "0" * 64},
            {"files": manifest.files[1:]},
            {"timing": Timing(started="2026-12-01")},
            {"parents": manifest.parents[1:]},
        )
    ]
    assert len({seal, *map(seal_of, changed)}) == 5
    rl = read_manifest(run / "rl")
    assert seal_of(rl.model_copy(update={"timing": Timing(started="2026-12-01")})) == seal_of(rl), (
        "a checkpoint that was made again to the byte is the same"
    )
    assert check_seals(run / "card") == ((), ())


def test_evidence_on_other_bytes_under_the_same_id_is_refused(run: Path) -> None:
    (run / "audit").mkdir()
    (run / "audit" / "verdict.txt").write_text("nothing was shown")
    made = finish(run, "audit", "audit", "report", parents=(("policy", "rl"),))
    rules = {"sign_offs": {"release board": {"evidence": True}}}
    one = signed(run, subject="release board", evidence=made.id[:12])
    assert why(ask(run, one, rules=rules)[1], "release board") == ""
    swap(run)
    reseal(run)
    again = signed(run, subject="release board", evidence=made.id[:12])
    refused = why(ask(run, again, rules=rules)[1], "release board")
    assert "rests on audit: rl is not what audit was made from" in refused


# compute


def learnt(run: Path, step: str, parent: str | None, tokens: int) -> None:
    """A step that learnt from so many tokens, in place of one of the run."""
    manifest = read_manifest(run / step)
    toys.policy_folder(run / step)
    counts = run / step / "counts.json"
    kept = json.loads(counts.read_text()) if counts.exists() else {}
    counts.write_text(json.dumps(kept | {"tokens_read": tokens}))
    metrics = [m for m in manifest.metrics if m.name != "tokens_read"]
    metrics.append(metrics[0].model_copy(update={"name": "tokens_read", "value": float(tokens)}))
    rehash(run, step, metrics=metrics)
    assert parent is None or any(one.step == parent for one in manifest.parents)


@pytest.fixture
def grown(run: Path) -> Path:
    """taught, sl and rl learnt from 100, 100 and 500 tokens: 1, 2 and 7 parts."""
    for step, parent, tokens in (("taught", None, 100), ("sl", "taught", 100), ("rl", "sl", 500)):
        learnt(run, step, parent, tokens)
    reseal(run)
    make_card(run, SETTINGS)
    return run


def of(run: Path, step: str) -> SignOff:
    return signed(run, subject="release board", of=digest_checkpoint(run / step)[:12])


@pytest.mark.parametrize(
    ("step", "most", "reason"),
    [
        ("sl", 4, ""),
        ("sl", 3.5, ""),
        ("sl", 3.4, "is of sl: this checkpoint has 3.5 times its compute, 3.4 are allowed"),
        ("taught", 4, "is of taught: this checkpoint has 7 times its compute, 4 are allowed"),
        ("taught", 7, ""),
        ("sl", None, "is of another checkpoint"),
        ("pm_reward", 100, "is of another checkpoint"),
    ],
)
def test_a_sign_off_on_an_ancestor_counts_up_to_a_multiple_of_its_compute(
    grown: Path, step: str, most: float | None, reason: str
) -> None:
    rules = {"sign_offs": {"release board": {"compute": most}}}
    given = why(ask(grown, of(grown, step), rules=rules)[1], "release board")
    assert given == "" if not reason else reason in given


def test_compute_known_of_the_model_before_makes_the_multiple_smaller(grown: Path) -> None:
    behind = compute_behind(read_manifest(grown / "taught"), grown / "taught")
    rules: dict[str, Any] = {"sign_offs": {"release board": {"compute": 4}}, "compute_before": behind}
    # (1 + 7) / (1 + 1) = 4
    assert why(ask(grown, of(grown, "taught"), rules=rules)[1], "release board") == ""
    with pytest.raises(CharterError, match="compute_before"):
        times(1.0, 0.0)


def test_compute_that_is_not_recorded_is_no_reason_to_pass(grown: Path) -> None:
    manifest = read_manifest(grown / "rl")
    rehash(grown, "rl", metrics=[m for m in manifest.metrics if m.name != "tokens_read"])
    rules = {"sign_offs": {"release board": {"compute": 4}}}
    assert "rl doesn't record how many tokens" in why(ask(grown, of(grown, "sl"), rules=rules)[1], "release board")
    write_rows(grown / "rl" / "log.jsonl", [{"step": 0, "tokens_read": 300}, {"step": 1, "tokens_read": 200}])
    assert compute_behind(read_manifest(grown / "rl"), grown / "rl") == pytest.approx(
        3.5 * compute_behind(read_manifest(grown / "sl"), grown / "sl")
    )


def test_the_release_keeps_what_it_was_judged_by(grown: Path, tmp_path: Path) -> None:
    from test_card_release import released

    seal = seal_of(read_manifest(grown / "card"))
    rules = {"seal": seal[:16], "sealed": True, "sign_offs": {"release board": {"compute": 4}}}
    folder = released(grown, of(grown, "sl"), rules=rules)
    assert verify(grown, False) == []
    record = json.loads((folder / "release.json").read_text())
    assert record["rules"]["seal"] == seal[:16] and NOW.isoformat()[:10] in record["made"]
    remake(folder, rules=record["rules"] | {"seal": "0" * 12})
    assert any("may not be released" in line or "release" in line for line in verify(grown, False))
