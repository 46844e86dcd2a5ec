"""How well two towers read principles: the packaged encoder reads a principle and a reply apart, and a product joins them.

    python benchmarks/two_towers.py LESSONS [--epochs 1] [--seed 0]

    score(p, r) = (A v(p)) . (B v(r))      gap = score of the better reply - score of the other

v: means of the states of layers 1, 3 and 6 over a text's own tokens, each of length 1, and the logarithm of the number
of tokens; a reply is read behind its prompt. A and B are fitted first, on the encoder as it comes, then all of it
learns. LESSONS: a step of the room `principles`, or its comparisons.jsonl. Prints the accuracy on the shipped dev rows,
of kinds that lessons have and of kinds that they don't, beside three trivial rules. Learns 5,000 lessons in a quarter
of an hour on two cores. A cross-encoder of the same encoder and a 135M decoder with a score head stayed at a loss of
log 2 for 130 to 150 steps on the same lessons: neither pole of a principle is better on the whole, only the two together say
which reply is, and the product has that form from the start.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel

from charter.ground.constitution.wording import under_principle
from charter.ground.model.sentence_encoder import CLS, DEFINITION, SEP, encoder_folder
from charter.ground.settings.sources import shipped_folder
from charter.ground.text.dialogue import user
from charter.ground.text.jsonl import read_jsonl
from charter.ground.text.tokenizer import Tokenizer

LAYERS, RANK = (1, 3, 6), 128
LONGEST = {"principle": 60, "prompt": 40, "reply": 130}  # tokens
BATCH, LR, HEAD_LR, WARMUP, LEAST = 16, 1e-4, 3e-4, 20, 0.03
FIT_BATCH, FIT_LR, FIT_PASSES, FITTED_SCALE = 256, 3e-3, 3, 0.5
TAUGHT = "-t-"  # in the ids of dev rows whose kind lessons have
BEFORE_PRINCIPLE = str(under_principle([user("")], "")[0]["content"])


class Lesson(NamedTuple):
    """Two replies to a prompt, of which `better` is better under the principle."""

    id: str
    principle: str
    prompt: str
    better: str
    worse: str


class Towers(nn.Module):
    """One encoder for both sides, and the two matrices of the product."""

    def __init__(self) -> None:
        super().__init__()
        folder = encoder_folder()
        definition = (folder / DEFINITION).read_text("utf-8")
        self.tokenizer = Tokenizer.from_json(definition, eos="[SEP]", pad="[PAD]", unk="[UNK]")
        self.encoder = BertModel.from_pretrained(str(folder), dtype=torch.float32)
        width = len(LAYERS) * self.encoder.config.hidden_size + 1
        self.of_principle, self.of_reply = nn.Linear(width, RANK), nn.Linear(width, RANK, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def principles(self, lessons: Sequence[Lesson]) -> Tensor:
        """v of the principles, [N, V]."""
        return self._read([([CLS], self._cut(lesson.principle, "principle")) for lesson in lessons])

    def differences(self, lessons: Sequence[Lesson]) -> Tensor:
        """v of the better reply less that of the other, [N, V]."""
        replies = [(lesson.prompt, reply) for lesson in lessons for reply in (lesson.better, lesson.worse)]
        read = self._read(
            [([CLS, *self.tokenizer.encode(q)[-LONGEST["prompt"] :], SEP], self._cut(r, "reply")) for q, r in replies]
        ).view(len(lessons), 2, -1)
        return read[:, 0] - read[:, 1]

    def gaps(self, lessons: Sequence[Lesson]) -> Tensor:
        """Scores of the better replies less those of the others, [N]."""
        return (self.of_principle(self.principles(lessons)) * self.of_reply(self.differences(lessons))).sum(1)

    def _cut(self, text: str, part: str) -> list[int]:
        return [*self.tokenizer.encode(text)[: LONGEST[part]], SEP]

    def _read(self, texts: Sequence[tuple[list[int], list[int]]]) -> Tensor:
        """v of each text behind what goes before it."""
        longest = max(len(before) + len(own) for before, own in texts)
        ids, there, part, own_NT1 = (torch.zeros(len(texts), longest, dtype=torch.long) for _ in range(4))
        for n, (before, own) in enumerate(texts):
            start, end = len(before), len(before) + len(own)
            ids[n, :end], there[n, :end] = torch.tensor(before + own), 1
            part[n, start:end], own_NT1[n, start:end] = int(start > 1), 1
        states = self.encoder(ids, there, part, output_hidden_states=True).hidden_states
        weights = own_NT1[..., None].float()
        count = weights.sum(1)
        means = [F.normalize((states[layer] * weights).sum(1) / count, dim=-1) for layer in LAYERS]
        return torch.cat([*means, count.log() / 5], 1)

    @torch.no_grad()
    def fit(self, lessons: Sequence[Lesson]) -> None:
        """Fits A and B to the encoder as it is."""
        parts = [lessons[n : n + 48] for n in range(0, len(lessons), 48)]
        principles, differences = (torch.cat([read(p) for p in parts]) for read in (self.principles, self.differences))
        middle, spread = principles.mean(0), 20 * (differences.std(0) + 1e-6)
        a, b = (nn.Parameter(0.1 * torch.randn(principles.shape[1], RANK)) for _ in range(2))
        optimizer = torch.optim.AdamW([a, b], lr=FIT_LR)
        with torch.enable_grad():
            for _ in range(FIT_PASSES):
                for n in torch.randperm(len(lessons)).split(FIT_BATCH):
                    gaps = 3 * (((principles[n] - middle) @ a) * ((differences[n] / spread) @ b)).sum(1)
                    optimizer.zero_grad()
                    (-F.logsigmoid(gaps).mean()).backward()
                    optimizer.step()
        self.of_principle.weight.copy_(a.T)
        self.of_principle.bias.copy_(-(middle @ a))
        self.of_reply.weight.copy_((3 * FITTED_SCALE * b / spread[:, None]).T)


def read_lessons(place: Path) -> list[Lesson]:
    """Comparisons of the room `principles`."""
    rows = read_jsonl(place / "comparisons.jsonl" if place.is_dir() else place)
    return [
        Lesson(
            row["id"],
            row["messages"][0]["content"].removeprefix(BEFORE_PRINCIPLE),
            row["messages"][-1]["content"],
            row["chosen"],
            row["rejected"],
        )
        for row in rows
    ]


def read_dev() -> list[Lesson]:
    """The shipped dev rows."""
    rows = read_jsonl(shipped_folder() / "principles.dev.jsonl")
    return [
        Lesson(r["id"], r["principle"], r["prompt"], r["replies"][r["better"]], r["replies"][1 - r["better"]])
        for r in rows
    ]


def shares(lessons: Sequence[Lesson], right: Sequence[float]) -> dict[str, tuple[float, int]]:
    """Mean and number of pairs by whether lessons have the kind; each pair stands twice, under two principles."""
    marks = defaultdict[str, list[float]](list)
    for lesson, mark in zip(lessons, right, strict=True):
        marks["taught" if TAUGHT in lesson.id else "never taught"].append(mark)
    return {part: (round(sum(found) / len(found), 3), len(found) // 2) for part, found in marks.items()}


def rules(lesson: Lesson) -> dict[str, float]:
    """Marks of rules that read nothing: the longer reply, the shorter one, more words of the principle."""
    lengths = len(lesson.better), len(lesson.worse)
    principle = set(lesson.principle.lower().split())
    shared = [len(principle & set(reply.lower().split())) for reply in (lesson.better, lesson.worse)]
    return {
        name: 0.5 if a == b else float(a > b)
        for name, (a, b) in {"longer": lengths, "shorter": lengths[::-1], "shared words": tuple(shared)}.items()
    }


@torch.no_grad()
def examine(towers: Towers, lessons: Sequence[Lesson]) -> dict[str, tuple[float, int]]:
    """Accuracy on lessons."""
    parts = [lessons[n : n + 24] for n in range(0, len(lessons), 24)]
    return shares(lessons, [float(gap > 0) for part in parts for gap in towers.gaps(part).tolist()])


def learn(towers: Towers, lessons: list[Lesson], epochs: int, seed: int) -> Iterator[tuple[int, int, float]]:
    """One step after another: its number, the number of all, and its loss."""
    head = [*towers.of_principle.parameters(), *towers.of_reply.parameters()]
    groups = [{"params": towers.encoder.parameters(), "lr": LR}, {"params": head, "lr": HEAD_LR}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    batches = len(lessons) // BATCH
    for epoch in range(epochs):
        order = random.Random(seed + epoch).sample(lessons, len(lessons))
        for batch in range(batches):
            step = epoch * batches + batch
            left = max(LEAST, 1 - step / (epochs * batches))
            optimizer.param_groups[0]["lr"] = LR * min(1, step / WARMUP) * left
            optimizer.param_groups[1]["lr"] = HEAD_LR * left
            loss = -F.logsigmoid(towers.gaps(order[batch * BATCH : (batch + 1) * BATCH])).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
            optimizer.step()
            yield step + 1, epochs * batches, loss.item()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    lessons, dev, towers = read_lessons(arguments.lessons), read_dev(), Towers()
    marks: list[dict[str, Any]] = [rules(lesson) for lesson in dev]
    result: dict[str, Any] = {rule: shares(dev, [mark[rule] for mark in marks]) for rule in marks[0]}
    towers.fit(lessons)
    result["fitted"] = examine(towers, dev)
    for step, steps, loss in learn(towers, lessons, arguments.epochs, arguments.seed):
        if step % 20 == 0:
            print(f"{step}/{steps} loss {loss:.3f}", file=sys.stderr, flush=True)
    result["learnt"] = examine(towers, dev)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
