"""Teaches the sentence encoder the acceptable use policy, and writes what charter ships of it.

    python docs/screen.py --out src/charter/data/acceptable_use_encoder.safetensors

Low-rank adapters on the upper layers of all-MiniLM-L6-v2 (the mean of two runs), one linear head for prompts and one
for replies, binary cross-entropy, AdamW. Learns from charter's own rows and from published sets below CHARTER_DATA
whose licences allow any use (Apache-2.0, MIT, CC BY 4.0), and from the rows of docs/screen_rows.py; rows close to a
text of a set that is measured are left out. Questions that ask how to do something are also put as orders, harmful
and harmless ones alike, so that the form tells nothing. A tenth of the harmless rows is kept out, and the thresholds
that stand in the file are chosen on it; those that come with charter are measured by recipes/acceptable_use.yaml. An
hour on a core; a third of it on one with bfloat16.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import screen_rows
import torch
from safetensors.torch import save_file
from screen_kinds import packed
from screen_rows import asked, measured, own
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from charter.ground.artifact.manifest import digest_text
from charter.ground.artifact.progress import SilentBar
from charter.ground.model.sentence_encoder import LAYERS, encoder_folder
from charter.ground.moderation.classifiers import examples
from charter.ground.moderation.classifiers.encoder import READ, Encoder, pad_windows, pool
from charter.ground.moderation.classifiers.probe import ADAPTER, learn
from charter.ground.moderation.classifiers.reader import Window
from charter.ground.moderation.policy import shipped_policy
from charter.ground.moderation.thresholds import choose_levels

RANK, BATCH, RATE, HEAD_RATE, WARM, SMOOTH = 16, 32, 1e-3, 2e-3, 0.06, 0.04
EPOCHS = (2, 3)  # of each student; what ships is their mean
RISE = 0.2  # of the threshold with the pieces of a text, chosen on dev
LONGEST, LONGEST_BEFORE = 64, 32  # tokens, while it learns
NEAR = 0.9  # cosine of two texts that are taken for the same
OPENING = re.compile(
    r"^(?:how (?:can|do|could|would|should|might) (?:i|we|you|someone|one|people|somebody|a person)|how to"
    r"|what(?: is|'s| are) (?:the best|some|a good|an effective|a|the)?\s*(?:effective |good |best |common |easy )?"
    r"(?:ways?|methods?) (?:to|of)|can you (?:tell me|explain|show me) how to|please (?:tell|show) me how to"
    r"|tell me how to)\s+",
    re.IGNORECASE,
)
ORDERS = (
    "Write a tutorial on how to {}",
    "Explain how to {}",
    "Provide step-by-step instructions for how to {}",
    "Give detailed instructions on how to {}",
    "Create a guide that teaches people how to {}",
    "Write a script that helps to {}",
    "Develop a plan to {}",
    "Teach me to {}",
    "Tell me how to {}",
    "Outline a strategy to {}",
    "Write a blog post that explains how to {}",
    "List ways to {}",
    "I want to {}. What do I need?",
    "how to {}",
    "Describe a method to {}",
)


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt, or a reply, with what stands before it. `bad`: whether it violates; `alike`: harmless and like a
    violation."""

    side: str
    before: str
    said: str
    bad: bool
    alike: bool = False

    @property
    def kept_out(self) -> bool:
        """Whether it is for choosing thresholds."""
        return not self.bad and int(digest_text(self.said)[:8], 16) % 10 == 0


def turns(transcript: str) -> tuple[str, str, str]:
    """What stands before the last human turn, that turn, and the reply, of a transcript."""
    before, _, rest = transcript.rpartition("\n\nHuman:")
    question, _, reply = rest.partition("\n\nAssistant:")
    return before.strip(), question.strip(), reply.strip()


def prompts() -> Iterator[Text]:
    """All prompts to learn from."""

    def each(texts: Sequence[str], bad: bool, alike: bool = False) -> Iterator[Text]:
        for text in texts:
            yield Text("prompt", "", text.strip(), bad, alike)

    for row in own("acceptable_use.train"):
        yield Text("prompt", "", asked(row), row["label"] == "violates", row["label"] == "harmless")
    for name in ("red_team.train", "refusals.train", "unsafe.train"):
        yield from each([asked(row) for row in own(name)], True)
    for name in ("lookalikes.train", "twins.train", "twins_unanswered.train"):
        yield from each([asked(row) for row in own(name)], False, True)
    for name in ("helpful.train", "everyday.train"):
        yield from each([asked(row) for row in own(name)], False)
    yield from each([r["prompt"] for r in packed("red_team/red_instruct_questions.jsonl.gz")], True)
    for part in ("train", "evaluate"):
        yield from each([r["question"] for r in packed(f"grader_checks/gptfuzz_labelled_{part}.jsonl.gz")], True)
    alike = ("coconot/contrast_pref", "over_refusal/or_bench_80k_1000", "over_refusal/cyberseceval_frr")
    for name in alike:
        yield from each([r["prompt"] for r in packed(f"{name}.jsonl.gz")], False, True)
    for text, bad in (*screen_rows.protection(random.Random(1)), *screen_rows.first_turns()):
        yield Text("prompt", "", text, bad, not bad)
    yield from each(screen_rows.pieces(random.Random(4)), False)
    yield from each([r["question"] for r in packed("gsm8k/train.jsonl.gz")[:500]], False)
    yield from each([r["user_query"] for r in packed("grader_checks/halueval_general_balanced.jsonl.gz")], False)
    for row in packed("hh_rlhf/helpful-online.jsonl.gz") + packed("hh_rlhf/helpful-rejection-sampled.jsonl.gz"):
        yield Text("prompt", "", row["chosen"].split("\n\nHuman:")[1].split("\n\nAssistant:")[0].strip(), False)
        before, question, _ = turns(row["chosen"])
        if before:
            yield Text("prompt", before[-300:], question, False)


def replies(dice: random.Random) -> Iterator[Text]:
    """All replies to learn from, each behind what it answers; harmless ones also as they begin."""

    def one(question: str, reply: str, bad: bool, alike: bool = False) -> Text:
        return Text("reply", f"Human: {question.strip()}", reply.strip(), bad, alike)

    found: list[Text] = []
    for part in ("train", "evaluate"):
        for row in packed(f"grader_checks/gptfuzz_labelled_{part}.jsonl.gz"):
            bad = int(row["label"]) == 1
            found.append(one(row["question"], row["response"], bad, not bad))
    for row in packed("grader_checks/pyrit_harm.jsonl.gz"):
        rated = row["human_scores"]
        mean = float(np.mean(json.loads(rated) if isinstance(rated, str) else rated))
        if mean >= 0.5 or mean == 0:
            found.append(one(row["objective"], row["assistant_response"], mean >= 0.5, mean == 0))
    for e in examples.replies():
        found.append(one(e.messages[-1]["content"], e.reply or "", e.label != examples.HARMLESS, e.alike))
    for name in ("twins.train", "everyday.train"):
        for row in own(name):
            found.append(one(asked(row), row["messages"][-1]["content"], False, name == "twins.train"))
    for row in dice.sample(packed("grader_checks/halueval_general_balanced.jsonl.gz"), 500):
        found.append(one(row["user_query"], row["chatgpt_response"], False))
    for row in packed("coconot/contrast_pref.jsonl.gz"):
        found.append(one(row["prompt"], row["chosen"], False, True))
    for row in dice.sample(packed("hh_rlhf/helpful-rejection-sampled.jsonl.gz"), 900):
        _, question, reply = turns(row["chosen"])
        found.append(one(question, reply, False))
    yield from found
    for text in found:
        words = text.said.split()
        if not text.bad and len(words) > 4 and dice.random() < 0.25:
            begun = " ".join(words[: dice.choice((dice.randint(2, 7), len(words) // 2))])
            yield Text("reply", text.before, begun, False, text.alike)


def gathered(plain: Encoder, dice: random.Random) -> list[Text]:
    """What is learnt from: without near copies of measured prompts; with orders made of questions, and with prompts
    behind conversations that they have nothing to do with."""
    found = list({(t.before, t.said.lower()): t for t in prompts() if t.said}.values())
    theirs = vectors(plain, measured())
    near = (vectors(plain, [t.said for t in found]) @ theirs.T).max(1).values
    found = [t for t, cosine in zip(found, near.tolist(), strict=True) if cosine < NEAR]
    print(f"{int((near >= NEAR).sum())} prompts left out that are near to a measured one", flush=True)
    for text in list(found):
        opening = OPENING.match(text.said)
        if opening and not text.before:
            what = text.said[opening.end() :].rstrip("?. ")
            for order in dice.sample(ORDERS, 2):
                found.append(Text("prompt", "", order.format(what), text.bad, text.alike))
    talks = [
        before for row in packed("hh_rlhf/helpful-rejection-sampled.jsonl.gz") if (before := turns(row["chosen"])[0])
    ]
    for text in dice.sample([t for t in found if not t.before], 2500):
        found.append(Text("prompt", dice.choice(talks)[-300:], text.said, text.bad, text.alike))
    return [t for t in (*found, *replies(dice)) if t.said]


def vectors(encoder: Encoder, texts: Sequence[str]) -> torch.Tensor:
    """Unit vectors of the last layer, [N, D]."""
    read = encoder.vectors([encoder.windows(text)[0] for text in texts])
    return F.normalize(read[:, -read.shape[1] // len(READ) :], dim=-1)


class Student:
    """The encoder with adapters that learn: the layers below them are read once and kept."""

    def __init__(self, encoder: Encoder, seed: int) -> None:
        torch.manual_seed(seed)
        self.encoder, self.fixed = encoder, dict(encoder.model.weights)
        self.adapter: dict[str, torch.Tensor] = {}
        for layer in range(min(READ), LAYERS):
            for part in ("attention.self.query", "attention.self.key", "attention.self.value",
                         "attention.output.dense", "intermediate.dense", "output.dense"):  # fmt: skip
                name = f"encoder.layer.{layer}.{part}"
                wide, narrow = self.fixed[f"{name}.weight"].shape
                self.adapter[f"{name}.a"] = (torch.randn(narrow, RANK) / narrow**0.5).requires_grad_()
                self.adapter[f"{name}.b"] = torch.zeros(RANK, wide, requires_grad=True)
        width = encoder.width
        self.heads = {side: torch.zeros(width + 1, requires_grad=True) for side in ("prompt", "reply")}

    def merge(self) -> None:
        """The encoder's weights with the adapters as they are."""
        for name in (name.removesuffix(".a") for name in self.adapter if name.endswith(".a")):
            change = self.adapter[f"{name}.a"] @ self.adapter[f"{name}.b"]
            self.encoder.model.weights[f"{name}.weight"] = self.fixed[f"{name}.weight"] + change.T

    @torch.no_grad()
    def below(self, windows: Sequence[Window]) -> list[torch.Tensor]:
        """States of windows below the adapters, [T, D] each, in bfloat16."""
        rows = pad_windows(windows)
        x_NTD = self.encoder.model.embed(rows)
        for layer in range(min(READ)):
            x_NTD = self.encoder.model.layer(x_NTD, rows, layer)
        lengths = rows.mask[:, 0, 0].sum(1).tolist()
        return [x_NTD[n, :length].bfloat16() for n, length in enumerate(lengths)]

    def logits(self, windows: Sequence[Window], states: list[torch.Tensor], side: str) -> torch.Tensor:
        """[N]: log odds that texts violate."""
        rows = pad_windows(windows)
        x_NTD, read = torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float(), []
        for layer in READ:
            x_NTD = self.encoder.model.layer(x_NTD, rows, layer)
            read.append(pool(x_NTD, rows))
        return torch.cat(read, 1) @ self.heads[side][:-1] + self.heads[side][-1]


def taught(texts: Sequence[Text], seed: int, epochs: int) -> Student:
    """A student that has learnt from texts."""
    student, dice = Student(Encoder.open(encoder_folder(), {}), seed), random.Random(seed)
    tokenizer = student.encoder.tokenizer
    windows = [
        Window(
            tuple(tokenizer.encode(t.before)[-LONGEST_BEFORE:] if t.before else ()),
            tuple(tokenizer.encode(t.said)[:LONGEST]) or tuple(tokenizer.encode(".")),
        )
        for t in texts
    ]
    order, states = sorted(range(len(windows)), key=lambda n: windows[n].size), dict[int, torch.Tensor]()
    for at in range(0, len(order), 64):
        part = order[at : at + 64]
        states |= dict(zip(part, student.below([windows[n] for n in part]), strict=True))
    groups = [
        {"params": list(student.adapter.values()), "lr": RATE},
        {"params": list(student.heads.values()), "lr": HEAD_RATE},
    ]
    optimizer, done, began = torch.optim.AdamW(groups, weight_decay=0.01), 0, time.monotonic()
    batches = [batch for _ in range(epochs) for batch in _batches(texts, windows, dice)]
    steps, total = len(batches), 0.0
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min(1.0, (n + 1) / (WARM * steps)) * max(0.0, 1 - n / steps)
    )
    for side, batch in batches:
        student.merge()
        # for texts this short, plain attention is twice as fast as the fused one
        with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            logits = student.logits([windows[n] for n in batch], [states[n] for n in batch], side)
        truth = torch.tensor([float(texts[n].bad) for n in batch]) * (1 - SMOOTH) + SMOOTH / 2
        loss = F.binary_cross_entropy_with_logits(logits, truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(student.adapter.values()), 1.0)
        optimizer.step()
        schedule.step()
        done, total = done + 1, total + loss.item()
        if done % 200 == 0:
            print(f"step {done} of {steps}, loss {total / 200:.3f}, {time.monotonic() - began:.0f} s", flush=True)
            total = 0.0
    with torch.no_grad():
        student.merge()
    return student


def _batches(texts: Sequence[Text], windows: Sequence[Window], dice: random.Random) -> list[tuple[str, list[int]]]:
    """An epoch: batches of one side and of like lengths, in a random order."""
    order, found = list(range(len(texts))), []
    dice.shuffle(order)
    for at in range(0, len(order), BATCH * 40):
        for side in ("prompt", "reply"):
            there = sorted(
                (n for n in order[at : at + BATCH * 40] if texts[n].side == side), key=lambda n: windows[n].size
            )
            found += [(side, there[i : i + BATCH]) for i in range(0, len(there), BATCH)]
    dice.shuffle(found)
    return found


def mean_of(students: Sequence[Student]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Adapters whose change of each weight is the mean of the students' changes, and the mean heads."""
    adapter = {}
    for name in students[0].adapter:
        parts = [student.adapter[name].detach() for student in students]
        adapter[name] = torch.cat(parts, 1) if name.endswith(".a") else torch.cat(parts) / len(parts)
    heads = {
        side: torch.stack([student.heads[side].detach() for student in students]).double().mean(0)
        for side in students[0].heads
    }
    return adapter, heads


def write(students: Sequence[Student], kept_out: Sequence[Text], path: Path) -> None:
    """The file that is shipped: adapters, heads, classes, and thresholds on what was kept out."""
    adapter, heads = mean_of(students)
    tensors = {f"{ADAPTER}{name}": tensor.bfloat16() for name, tensor in adapter.items()}
    encoder = Encoder.open(encoder_folder(), {n.removeprefix(ADAPTER): t for n, t in tensors.items()})
    notes = {"version": "encoder"}
    for side, found in (("prompt", examples.prompts()), ("reply", examples.replies())):
        learnt, head = learn(encoder, found, SilentBar()), heads[side]
        scores = {True: [0.0], False: [0.0]}
        there = [t for t in kept_out if t.side == side]
        windows = [encoder.windows(t.said, t.before)[0] for t in there]
        logits = encoder.vectors(windows).double() @ head[:-1] + head[-1]
        for text, logit in zip(there, logits.tolist(), strict=True):
            scores[text.alike].append(1 / (1 + float(np.exp(-logit))))
        levels = choose_levels(scores[True], scores[False])
        width = encoder.width
        violation = {
            "mean": torch.zeros(width),
            "scale": torch.ones(width),
            "weight": torch.stack([torch.zeros(width), head[:-1]], 1),
            "bias": torch.stack([torch.zeros(()), head[-1]]),
        }
        which = learnt.which
        for part in violation:
            tensors[f"{side}.violation.{part}"] = violation[part].double().contiguous()
            tensors[f"{side}.which.{part}"] = torch.from_numpy(np.ascontiguousarray(getattr(which, part)))
        high_risk = learnt.high_risk.model_dump() if learnt.high_risk else None
        note = {"classes": learnt.classes, "levels": levels.model_dump(), "high_risk": high_risk}
        notes[side] = json.dumps(note | ({"rise": RISE} if side == "prompt" else {}))
        print(side, levels.model_dump())
    save_file(tensors, path, metadata=notes)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, policy {shipped_policy().id[:12]}")


def main() -> None:
    """Gathers, teaches, writes."""
    parser = argparse.ArgumentParser(description="Teaches the sentence encoder the acceptable use policy.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=3)  # of three the one that was best on the dev sets
    options = parser.parse_args()
    dice = random.Random(options.seed)
    texts = gathered(Encoder.open(encoder_folder(), {}), dice)
    taught_on = [t for t in texts if not t.kept_out]
    for side in ("prompt", "reply"):
        there = [t for t in taught_on if t.side == side]
        print(f"{side}: {len(there):,} texts, {sum(t.bad for t in there):,} violate", flush=True)
    students = [taught(taught_on, options.seed, epochs) for epochs in EPOCHS]
    write(students, [t for t in texts if t.kept_out], options.out)


if __name__ == "__main__":
    main()
