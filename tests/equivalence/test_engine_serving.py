"""The same text alone or among others: together, one after the other, behind kept prompts, in chunks, in any order.

If the likeliest two tokens are closer than 1e-3, either may come (rounding depends on the size of the product),
and what follows is another text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

import toys
from charter.ground.generate.detokenizer import TextPieces
from charter.ground.generate.engine import Completion, Engine
from charter.ground.generate.engine_limits import Bounds
from charter.ground.generate.sampling import Sampling
from charter.ground.model.transformer import Transformer
from charter.ground.text.tokenizer import Tokenizer

CLOSE = 1e-3  # of two log-probabilities
Prompts = list[list[int]]


def make_engine(model: Transformer, tokenizer: Tokenizer, slots: int = 5, **bounds: int) -> Engine:
    return Engine(model, tokenizer, slots, bounds=Bounds(**bounds))


def run(engine: Engine, prompts: Prompts, how: Sampling, order: Sequence[int], apart: int) -> list[Completion]:
    """Submits in an order, `apart` steps between two; checks that what was streamed is the text."""
    number, waiting = dict[int, int](), list(order)
    pieces: dict[int, TextPieces] = {}
    texts = [""] * len(prompts)
    by_place: dict[int, Completion] = {}
    step = 0
    while waiting or not engine.idle:
        while waiting and (apart == 0 or step >= apart * (len(order) - len(waiting))):
            i = waiting.pop(0)
            request = engine.submit(prompts[i], how, seed=i, account=("a", "b", "")[i % 3])
            number[request], pieces[request] = i, TextPieces(engine.tokenizer, how.stops)
        for event in engine.step():
            texts[number[event.request]] += pieces[event.request].add(event.completion)
            if event.done:
                by_place[number[event.request]] = event.completion
        step += 1
    completions = [by_place[i] for i in range(len(prompts))]
    assert texts == [completion.text for completion in completions]
    return completions


def agree(ours: Completion, alone: Completion) -> bool:
    """Whether two greedy samples are one text, or part where two tokens were as likely."""
    for a, b, top in zip(ours.ids, alone.ids, alone.top, strict=False):
        if top[0][1] - top[1][1] < CLOSE:
            return True
        if a != b:
            return False
    return (ours.ids, ours.text, ours.stop) == (alone.ids, alone.text, alone.stop)


def check(
    model: Transformer, tokenizer: Tokenizer, prompts: Prompts, how: Sampling, arrivals: Sequence[int] = (0, 3)
) -> None:
    """Each way of serving, with requests that come `apart` steps after each other."""
    alone = [
        make_engine(model, tokenizer, 1).generate([prompt], how, seeds=[i])[0][0] for i, prompt in enumerate(prompts)
    ]
    order = list(range(len(prompts)))
    random.Random(1).shuffle(order)
    kept, reused = 2**28, 0
    ways = {
        "together": make_engine(model, tokenizer, 12),
        "kept": make_engine(model, tokenizer, kept=kept),
        "kept and in chunks": make_engine(model, tokenizer, kept=kept, chunk=24),
    }
    for name, engine in ways.items():
        for apart in arrivals:
            completions = run(engine, prompts, how, order, apart)
            for i, (ours, theirs) in enumerate(zip(completions, alone, strict=True)):
                same = agree(ours, theirs) if how.temperature == 0 else ours.ids == theirs.ids
                assert same, f"{name}, {apart} steps apart, prompt {i}: {ours.text!r}, alone {theirs.text!r}"
                assert ours.logprobs[0] == pytest.approx(theirs.logprobs[0], abs=1e-4)
        reused += engine.stats.reused
    assert reused > sum(map(len, prompts)) / 2, "prompts that begin alike are read behind what is kept"


GREEDY = Sampling(temperature=0, max_tokens=14, top_logprobs=2)
DRAWN = Sampling(temperature=0.8, top_p=0.95, max_tokens=14)


@pytest.mark.parametrize("how", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_a_toys_text_is_the_same_alone_and_among_others(how: Sampling) -> None:
    chance = random.Random(3)
    stem = chance.choices(range(10, toys.VOCABULARY), k=70)
    lengths = (1, 5, 16, 17, 33, 90, 200, 3, 3, 50, 31, 8)
    prompts = [
        [*(stem if n % 2 else []), *chance.choices(range(10, toys.VOCABULARY), k=length)]
        for n, length in enumerate(lengths)
    ]
    check(toys.model(0), toys.tokenizer(), prompts, how)
