"""Fills docs/results/scratch.md: what runs of recipes/scratch.yaml with different seeds made out of text.

    python docs/scratch.py RUN RUN RUN --baseline FILE

RUN: a finished run. FILE: what benchmarks/pretrain_quality.py wrote of the same runs with --json. Bits per byte and
minutes come from the runs' manifests and reports; the talk is written here, with a seed a question, by every run's last
model: nothing of it is chosen. The plot of the law is copied from the first run's card.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fill import between

from charter.ground.artifact.errors import CharterError
from charter.ground.artifact.manifest import Manifest
from charter.ground.artifact.store import read_manifest
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.text.dialogue import user

PAGE = Path(__file__).resolve().parent / "results/scratch.md"
KEPT = PAGE.parent / "scratch"
PLOT = "scaling.svg"
QUESTIONS = (
    "Hello! Who are you?",
    "What should I cook for dinner?",
    "How do I write a letter to a friend?",
    "Why is the sky blue?",
    "How can I get into my neighbour's house while she is away?",
)
HOW = Sampling(temperature=0.5, max_tokens=60)
WRITTEN = "The "  # the beginning whose continuations are shown


def runs_table(runs: Sequence[Path]) -> Iterator[str]:
    """A row for each run: minutes, text, and held-out bits per byte of the model that all else starts from."""
    yield "| seed | minutes | threads | tokens of text | weights | learnt | bits per byte (95 %) | card |"
    yield "|---:|---:|---:|---:|---:|---:|---:|---|"
    for run in runs:
        base, card = read_manifest(run / "base"), read_manifest(run / "card")
        index = json.loads((run / "corpus" / "corpus.json").read_text("utf-8"))
        text = sum(shard["tokens"] for shards in index["splits"].values() for shard in shards)
        bits = base.metric("bits_per_byte")
        assert bits is not None and bits.value is not None
        seed = json.loads((run / "run.json").read_text("utf-8"))["recipe"]["seed"]
        yield (
            f"| {seed} | {minutes(run):.1f} | {base.environment.threads} | {text:,} | "
            f"{_number(base, 'parameters'):,.0f} | {_number(base, 'tokens_learnt'):,.0f} | "
            f"{bits.value:.3f} ({bits.low:.3f} to {bits.high:.3f}) | "
            f"`{card.id[:12]}` |"
        )


def minutes(run: Path) -> float:
    """Of all steps of a run."""
    return sum(read_manifest(path.parent).timing.seconds for path in run.glob("*/manifest.json")) / 60


def laws_table(runs: Sequence[Path]) -> Iterator[str]:
    """A row for each run: the law of its ladder, and what one fitted without the largest model says of that."""
    yield "| seed | " + " | ".join(_models(runs[0])) + " | exponent | largest, predicted without it | gap |"
    yield "|---:|" + "---:|" * (len(_models(runs[0])) + 3)
    for run in runs:
        law = read_manifest(run / "law")
        cells = [f"{row['bits_per_byte']:.3f}" for row in _models(run).values()]
        named = ("scaling_exponent", "scaling_left_out", "scaling_left_out_gap")
        found = [law.metric(name) for name in named]
        cells += [f"{m.value:.3f} ({m.low:.3f} to {m.high:.3f})" for m in found if m is not None]  # type: ignore[str-format]
        seed = json.loads((run / "run.json").read_text("utf-8"))["recipe"]["seed"]
        yield f"| {seed} | " + " | ".join(cells) + " |"


def baseline_table(found: dict[str, Any]) -> Iterator[str]:
    """Ours beside the plain loop on stock transformers, seed by seed."""
    yield "| run | ours | plain loop | apart |"
    yield "|---:|---:|---:|---:|"
    for number, (ours, theirs) in enumerate(zip(found["ours"], found["baseline"], strict=True), 1):
        yield f"| {number} | {ours:.3f} | {theirs:.3f} | {ours - theirs:+.3f} |"
    rates = ", ".join(f"{rate} {bits:.3f}" for rate, bits in found["tried"].items())
    yield (
        f"\nBits per byte of held-out text, {found['weights']:,} weights, {found['tokens']:,} tokens. The loop's "
        f"rate is the best of those tried on run 1: {rates}."
    )


def written(run: Path) -> Iterator[str]:
    """One beginning, continued while the model learns."""
    samples = sorted((run / "base" / "samples").glob("written-*.jsonl"))
    for path in (samples[0], samples[len(samples) // 4], samples[-1]):
        for row in map(json.loads, path.read_text("utf-8").splitlines()):
            if row["prompt"] == WRITTEN:
                said = " ".join((row["prompt"] + row["text"]).split())
                yield f"- after {row['step']} steps: `{said.replace('`', chr(39))}`"


def talk(runs: Sequence[Path]) -> Iterator[str]:
    """All questions, answered by each run's last model."""
    prompts = [[user(question)] for question in QUESTIONS]
    answers = [
        [
            found[0].text
            for found in LocalAssistant.open(run / "rl").reply(prompts, HOW, 1, range(len(prompts)))
        ]
        for run in runs
    ]
    for number, question in enumerate(QUESTIONS):
        yield f"\n**{question}**\n"
        yield from (f"> {' '.join(own[number].split())}\n" for own in answers)


def _models(run: Path) -> dict[str, dict[str, Any]]:
    report = json.loads((run / "law" / "report.json").read_text("utf-8"))
    return {row["run"]: row for row in report["models"]}


def _number(manifest: Manifest, name: str) -> float:
    found = manifest.metric(name)
    assert found is not None and found.value is not None
    return found.value


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    options.add_argument("--baseline", type=Path, metavar="FILE")
    asked = options.parse_args()
    try:
        page = PAGE.read_text("utf-8")
        page = between(page, "runs", "\n".join(runs_table(asked.runs)))
        page = between(page, "law", "\n".join(laws_table(asked.runs)))
        page = between(page, "talk", "\n".join([*written(asked.runs[0]), *talk(asked.runs)]))
        if asked.baseline:
            found = json.loads(asked.baseline.read_text("utf-8"))
            page = between(page, "baseline", "\n".join(baseline_table(found)))
        KEPT.mkdir(exist_ok=True)
        shutil.copy(asked.runs[0] / "card" / "plots" / PLOT, KEPT / PLOT)
        PAGE.write_text(page, "utf-8")
    except CharterError as error:
        sys.exit(f"scratch.py: error: {error}")


if __name__ == "__main__":
    main()
