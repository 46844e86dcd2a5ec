"""A small model taken to a long window on this machine: pretrained, enlarged by steps, and measured before and after.

Writes the texts, a recipe and its run under --folder; `charter run` does the work, so that a run that was stopped goes
on. Of every source the last fifth is learnt nowhere: loss by position is measured on it, joined to texts of the whole
window, and so is `charter chat --file` with one fact hidden in it. Three curves: the model as it was pretrained, up to
its own window; the same read with enlarged positions, nothing learnt; after the long-context stage.

    python benchmarks/long_context.py --folder runs/long --plan toy            # a smoke run to 16K: nothing is learnt
    nice python benchmarks/long_context.py --folder runs/long --plan small     # to 16K positions
    nice python benchmarks/long_context.py --folder runs/long --plan full      # to 200,000; a quiet machine
    python benchmarks/long_context.py --folder runs/long --plan full --only-page   # the page and plot of a finished run

What a plan takes on a quiet machine of two cores is told by --estimate, from the products and attention that it needs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from charter.ground.artifact.curves import read_objects
from charter.ground.generate.scorer import score_document
from charter.ground.learn.flops import per_token
from charter.ground.measure.intervals import interval
from charter.ground.measure.plots import SERIES, Line, Point, Series, canvas, inline, legend, standalone
from charter.ground.measure.position import (
    BUCKETS,
    MIDDLES,
    bucket_of,
    fit,
    fit_table,
    fitted_exponent,
    loss_of,
    mean_powers,
)
from charter.ground.model.checkpoint import load_policy
from charter.ground.model.rope import enlarge
from charter.ground.model.shape import Shape
from charter.ground.text.facts import question, statement
from charter.rooms.card.long_plots import falling, grid, tokens

SOURCES = ("pepys_diary", "python_peps", "us_presidential_addresses")
LEARNT = 0.8  # of every source; the rest is measured on
FACT = ("granary", "thistle-481")
SECONDS_A_FLOP = 1 / 1.7e11  # of two cores in bfloat16: 1.04e11 a core in attention, measured at 8192 tokens
SHORT = 32  # texts of the first window, which cost next to nothing
STEPS = ("base", "near", "long")  # of pretraining
MEASURED = ("before", "after", "farthest")
DEPTHS = (0, 25, 50, 75, 100)
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A model, its first window and tokens, the stages, and what is measured."""

    layers: int
    width: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int
    context: int
    base_tokens: int
    batch: int  # tokens of a step of the base
    near: tuple[tuple[int, int], ...]  # windows and steps in which looking up is learnt
    far: tuple[tuple[int, int], ...]  # and those that carry it on
    lengths: tuple[int, ...]
    facts: int  # asked in each cell of the grid; one in those of the longest texts, which take the most time
    documents: int  # whose loss is measured
    prompt: int  # tokens that chat is given
    method: str = "base"

    @property
    def window(self) -> int:
        return self.far[-1][0]


PLANS = {
    "toy": Plan(
        2, 64, 2, 1, 32, 1024, 512, 120_000, 4096,
        ((2048, 12),), ((16384, 6),), (512, 2048, 8192, 16384), 1, 2, 12_000,
    ),
    "small": Plan(
        3, 128, 2, 1, 32, 2048, 256, 2_000_000, 8192,
        ((512, 2000), (1024, 300)), ((2048, 200), (4096, 150), (8192, 60), (16384, 30)),
        (256, 512, 1024, 4096, 8192, 16384), 4, 4, 12_000,
    ),
    "full": Plan(
        3, 192, 2, 1, 32, 4096, 256, 6_000_000, 8192,
        ((512, 2500), (1024, 300)),
        ((2048, 200), (4096, 150), (8192, 100), (16384, 80), (32768, 30), (65536, 16), (131_072, 6), (200_000, 4)),
        (256, 1024, 4096, 16384, 65536, 200_000), 4, 3, 100_000,
    ),
}  # fmt: skip


def texts(folder: Path) -> None:
    """Writes what is learnt, a file a source, and what is measured on."""
    data = Path(os.environ["CHARTER_DATA"]) / "pretrain"
    (folder / "learnt").mkdir(parents=True, exist_ok=True)
    far: list[Row] = []
    for name in SOURCES:
        with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        cut = int(LEARNT * len(rows))
        write(folder / "learnt" / f"{name}.jsonl", rows[:cut])
        far += [{"id": f"{name}-{n}", "text": row["text"]} for n, row in enumerate(rows[cut:])]
    write(folder / "far.jsonl", far)


def write(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def recipe(plan: Plan, folder: Path, seed: int) -> Row:
    """The whole run as a recipe."""
    plain = {
        "filters": {"quality": None, "near": 0.0, "scrub": False},
        "languages": {"other_share": None},
        "vocabulary": {"size": plan.vocabulary, "sample_mib": 8, "spare": 0},
        "heldout_share": 0.01,
    }
    sizing = {
        "layers": plan.layers, "width": plan.width, "heads": plan.heads, "key_heads": plan.key_heads,
        "head_size": plan.head_size, "context": plan.context,
    }  # fmt: skip
    quiet = {"heldout": {"every": 100_000, "tokens": 16384, "final_tokens": 200_000}, "samples": {"prompts": []}}
    base = {"tokens": plan.base_tokens, "batch_tokens": min(plan.batch, 16384)}
    # looking up is learnt by many small steps at pretraining's own rates, and only where every text asks for it
    rates = {"matrix_lr": 0.02, "lr": 0.01, "decay": 0.05}
    near = {"stages": stages(plan.near), "method": plan.method, "long": 1.0, "lookups": 1.0}
    further = {"stages": stages(plan.far), "method": plan.method, "long": 0.75, "lookups": 1.0}
    far = str(folder / "far.jsonl")

    def measured(policy: str, lengths: Sequence[int], facts: int, texts: int = 0) -> Row:
        long = {"joined": True, "positions": plan.window, "lengths": list(lengths)}
        change: Row = {"recall": {"form": "text", "limit": facts * len(lengths) * len(DEPTHS)}}
        change |= {"position": {"limit": texts}} if texts else {}
        return {
            "room": "benchmark",
            "from": {"policy": policy, **dict.fromkeys(change, far)},
            "settings": {"tasks": list(change), "long": long, "change": change, "chunk": 8},
        }

    steps = [
        {"name": "corpus", "room": "corpus", "from": {"sources": [str(folder / "learnt")]}, "settings": plain},
        {
            "name": "base", "room": "pretrain", "from": {"corpus": "corpus"},
            "settings": {"sizing": sizing, "learning": base, **quiet},
        },
        {
            "name": "near", "room": "pretrain", "from": {"corpus": "corpus", "policy": "base"},
            "settings": {"learning": {"batch_tokens": 1024, **rates}, "window": near, "save_every": 100, **quiet},
        },
        {
            "name": "long", "room": "pretrain", "from": {"corpus": "corpus", "policy": "near"},
            "settings": {"learning": {"batch_tokens": 2048, **rates}, "window": further, "save_every": 2, **quiet},
        },
        {"name": "before", **measured("base", plan.lengths[:-1], plan.facts, SHORT)},
        {"name": "after", **measured("long", plan.lengths[:-1], plan.facts, plan.documents)},
        {"name": "farthest", **measured("long", plan.lengths[-1:], 1)},
    ]  # fmt: skip
    return {"name": folder.name, "size": "tiny", "seed": seed, "steps": steps}


def stages(windows: Sequence[tuple[int, int]]) -> list[Row]:
    """Windows and steps as the settings have them."""
    return [{"window": window, "steps": steps} for window, steps in windows]


def charter(folder: Path, *words: str) -> str:
    """A command of charter in a process of its own; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "charter", *words], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def stretched(plan: Plan, folder: Path, found: Path) -> None:
    """Nats by bucket of the pretrained model read with enlarged positions, on the documents of `after`."""
    model, tokenizer = load_policy(folder / "runs" / folder.name / "base")
    model.take_positions(enlarge(model.shape, plan.window, plan.method))  # type: ignore[arg-type]
    far = read_objects(folder / "far.jsonl")
    rows: list[Row] = []
    for row in read_objects(folder / "runs" / folder.name / "after/samples/position.jsonl")[:2]:
        first, _, last = row["id"].partition(" to ")
        names = [document["id"] for document in far]
        chosen = far[names.index(first) : names.index(last or first) + 1]
        length = sum(row["tokens"].values()) + 1
        ids = tokenizer.encode_document("\n\n".join(document["text"] for document in chosen))[:length]
        nats: dict[str, float] = {}
        for position, log in enumerate(score_document(model, ids), 1):
            key = str(bucket_of(position))
            nats[key] = nats.get(key, 0.0) - log
        rows.append({"id": row["id"], "nats": nats, "tokens": row["tokens"]})
    write(found, rows)


def asked(plan: Plan, folder: Path) -> Row:
    """A fact hidden in the middle of a long file, asked for through `charter chat --file`; twice, to see what is kept."""
    _, tokenizer = load_policy(folder / "runs" / folder.name / "long")
    far = "\n\n".join(row["text"] for row in read_objects(folder / "far.jsonl"))
    ids = tokenizer.encode(far)[: plan.prompt]
    half = len(ids) // 2
    file = folder / "book.txt"
    parts = tokenizer.decode(ids[:half]), statement(*FACT), tokenizer.decode(ids[half:])
    file.write_text("\n\n".join(parts), encoding="utf-8")
    ask = question(FACT[0])
    began = time.perf_counter()
    said = charter(
        folder, "chat", f"runs/{folder.name}/long", "--file", "book.txt", "--ask", ask, "--ask", ask, "--plain",
        "--json", "--temperature", "0", "--max-tokens", "24", "--device", "cpu",
    )  # fmt: skip
    rows = [json.loads(line) for line in said.splitlines()]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {"asked": rows, "seconds": time.perf_counter() - began, "most_gib_of_any_process": peak}


def estimate(plan: Plan) -> None:
    """What the parts take on a quiet machine, from their floating point operations."""
    shape = Shape(
        plan.vocabulary, plan.width, -(-8 * plan.width // 192) * 64, plan.layers, plan.heads, plan.key_heads,
        plan.head_size, plan.window,
    )  # fmt: skip

    def minutes(count: float, seen: float, passes: float = 3.0) -> float:
        return count * per_token(shape, seen) * passes / 3 * SECONDS_A_FLOP / 60

    parts = {"base": minutes(plan.base_tokens, plan.context / 4)}
    for window, steps in (*plan.near, *plan.far):
        parts[f"long, {window}"] = steps * minutes(max(window, 1024), window / 2)
    parts["loss by position"] = (plan.documents + 2) * minutes(plan.window, plan.window / 2, 1)
    asked = {n: len(DEPTHS) * (plan.facts if n < plan.lengths[-1] else 1) for n in plan.lengths}
    parts["recall"] = sum(count * minutes(n, n / 2, 1) for n, count in asked.items())
    parts["chat"] = minutes(plan.prompt, plan.prompt / 2, 1)
    for name, value in parts.items():
        print(f"{name:>20}  {value:7.1f} min")
    print(f"{'all':>20}  {sum(parts.values()):7.1f} min")


def collect(plan: Plan, folder: Path) -> Row:
    """All numbers of a finished run."""
    run = folder / "runs" / folder.name
    rows = {"before": read_objects(run / "before/samples/position.jsonl")}
    rows["stretched"] = read_objects(folder / "stretched.jsonl")
    rows["after"] = read_objects(run / "after/samples/position.jsonl")
    curves = {name: curve(found) for name, found in rows.items()}
    table = fit_table(fitted_exponent)(rows["after"])
    law = fit(table.sums.sum(axis=0)).tolist()
    asked = {name: read_objects(run / f"{name}/samples/recall.jsonl") for name in MEASURED}
    recall = {"before": cells(asked["before"]), "after": cells(asked["after"] + asked["farthest"])}
    speeds = {name: speed(plan, name, read_objects(run / name / "speed.jsonl")) for name in STEPS}
    minutes = {
        name: json.loads((run / name / "manifest.json").read_text())["timing"] for name in ("corpus", *STEPS, *MEASURED)
    }
    config = json.loads((run / "long/config.json").read_text())
    kept = ("max_position_embeddings", "rope_theta", "rope_scaling", "num_hidden_layers", "hidden_size")
    return {
        "plan": asdict(plan), "curves": curves, "fit": {"c0": law[0], "c": law[1], "a": law[2], "a_interval": interval(table)},
        "recall": recall, "speeds": speeds, "timing": minutes, "config": {key: config[key] for key in kept},
        "chat": json.loads((folder / "chat.json").read_text()), "threads": torch.get_num_threads(),
    }  # fmt: skip


def curve(rows: Sequence[Row]) -> list[Row]:
    """Loss by bucket with its interval over documents."""
    found = []
    for start in BUCKETS:
        table = loss_of(start)(rows)
        if table.n:
            low, high = interval(table)
            found.append({"from": start, "loss": table.value, "low": low, "high": high, "documents": table.n})
    return found


def cells(rows: Sequence[Row]) -> dict[str, list[float]]:
    """ "length/depth" -> [right answers, asked]."""
    found: dict[str, list[float]] = {}
    for row in rows:
        cell = found.setdefault(row["group"], [0.0, 0.0])
        cell[0] += row["correct"]
        cell[1] += 1
    return found


def speed(plan: Plan, name: str, rows: Sequence[Row]) -> list[Row]:
    """Seconds and peak of the steps of each window."""
    learnt = {"base": ((plan.context, len(rows)),), "near": plan.near, "long": plan.far}[name]
    found, at = [], 0
    for window, steps in learnt:
        part = rows[at : at + steps]
        at += steps
        found.append(
            {
                "window": window,
                "steps": len(part),
                "seconds_a_step": sum(r["seconds"] for r in part) / len(part),
                "tokens_a_second": sum(r["tokens_per_second"] for r in part) / len(part),
                "peak_gib": max(r["peak_gib"] for r in part),
            }
        )
    return found


def draw(facts: Row, out: Path) -> None:
    """long_context.svg: the curves; long_context_recall.svg: the grid after."""
    names = {"before": "pretrained", "stretched": "positions enlarged, nothing learnt", "after": "after the stage"}
    there = [start for start in BUCKETS if any(row["from"] == start for row in facts["curves"]["after"])]
    places = [MIDDLES[BUCKETS.index(start)] for start in there]
    series = []
    for colour, (key, name) in zip(SERIES, names.items(), strict=False):
        known = {row["from"]: Point(row["loss"], row["low"], row["high"]) for row in facts["curves"][key]}
        series.append(Series(name, [known.get(start) for start in there], colour, hollow=key == "stretched"))
    law = facts["fit"]
    fitted = (law["c0"] + law["c"] * mean_powers(there, there, law["a"])).tolist()
    drawing, (axes,) = canvas(7.0, 3.6)
    falls = [Line("fit", places, fitted, series[-1].colour)] if law["c"] > 0 else []
    falling(axes, places, series, falls)
    legend(drawing, series, 3)
    svg = inline(drawing, "position", "Loss by position in long documents", "before and after the long-context stage")
    (out / "long_context.svg").write_text(standalone(svg), encoding="utf-8")
    recall = facts["recall"]["after"]
    lengths = sorted({int(key.split("/")[0]) for key in recall})
    drawing, (axes,) = canvas(7.0, 2.8)
    shown = {
        (DEPTHS.index(int(key.split("/")[1])), lengths.index(int(key.split("/")[0]))): (
            right / count, f"{100 * right / count:.0f} %", f"of {count:.0f}",
        )
        for key, (right, count) in recall.items()
    }  # fmt: skip
    grid(axes, [tokens(n) for n in lengths], [f"{depth} %" for depth in DEPTHS], shown)
    svg = inline(drawing, "recall", "Facts found again", "by the length of the text and the depth of the fact in it")
    (out / "long_context_recall.svg").write_text(standalone(svg), encoding="utf-8")


def page(facts: Row) -> str:
    """The tables of docs/results/long_context.md."""
    lines = ["| window | steps | seconds a step | tokens a second | peak memory |", "|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {row['window']:,} | {row['steps']} | {row['seconds_a_step']:.1f} | {row['tokens_a_second']:,.0f} | {row['peak_gib']:.2f} GiB |"
        for name in STEPS
        for row in facts["speeds"][name]
    ]
    by = {name: {row["from"]: row for row in rows} for name, rows in facts["curves"].items()}
    lines += ["", "| positions | pretrained | enlarged, nothing learnt | after the stage |", "|---:|---:|---:|---:|"]
    for start in sorted({s for rows in by.values() for s in rows}):
        shown = [
            f"{by[name][start]['loss']:.3f}" if start in by[name] else "-" for name in ("before", "stretched", "after")
        ]
        lines.append(f"| {start:,} to {2 * start - 1:,} | {' | '.join(shown)} |")
    low, high = facts["fit"]["a_interval"]
    lines += [
        "",
        "Fit after the stage: L(t) = {c0:.2f} + {c:.2f} t^-{a:.2f}".format(**facts["fit"])
        + f" (a: {low:.2f} to {high:.2f})."
        if facts["fit"]["c"] > 0
        else "No power law is fitted after the stage: loss doesn't fall with the position.",
    ]
    for name in ("before", "after"):
        recall = facts["recall"][name]
        lengths = sorted({int(key.split("/")[0]) for key in recall})
        lines += [
            "",
            f"| recall {name}, depth | " + " | ".join(f"{n:,}" for n in lengths) + " |",
            "|---|" + "---:|" * len(lengths),
        ]
        for depth in DEPTHS:
            found = [recall.get(f"{n}/{depth}") for n in lengths]
            lines.append(
                f"| {depth} % | " + " | ".join(f"{r[0]:.0f} of {r[1]:.0f}" if r else "-" for r in found) + " |"
            )
    first, second = facts["chat"]["asked"]
    lines += [
        "",
        f"`charter chat --file`: a prompt of {first['tokens']['prompt']:,} tokens; first token of the reply after "
        f"{first['seconds']['first']:.1f} s, of the second question after {second['seconds']['first']:.1f} s "
        f"({second['tokens']['kept']:,} tokens kept). Asked: {first['question']} Said: {first['reply']!r} (stated: {FACT[1]!r}).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the plan, or tells what it takes."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--folder", type=Path, default=Path("runs/long"))
    options.add_argument("--plan", choices=PLANS, default="small")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--estimate", action="store_true")
    options.add_argument("--only-page", action="store_true")
    given = options.parse_args()
    plan, folder = PLANS[given.plan], given.folder.resolve()
    if given.estimate:
        estimate(plan)
        return
    if not given.only_page:
        texts(folder)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(plan, folder, given.seed), sort_keys=False))
        charter(folder, "run", "recipe.yaml", "--device", "cpu")
        stretched(plan, folder, folder / "stretched.jsonl")
        (folder / "chat.json").write_text(json.dumps(asked(plan, folder)))
    facts = collect(plan, folder)
    (folder / "facts.json").write_text(json.dumps(facts, indent=1))
    draw(facts, folder)
    (folder / "page.md").write_text(page(facts))
    print(page(facts))


if __name__ == "__main__":
    main()
