"""A long day of an engine: thousands of small requests, cancelled at any time, leave it as it began."""

from __future__ import annotations

import itertools
import random

import pytest

import toys
from charter.ground.generate.chunks import Chunks
from charter.ground.generate.engine import Completion, Engine
from charter.ground.generate.engine_limits import Bounds, Overloaded
from charter.ground.generate.prefix_cache import BLOCK
from charter.ground.generate.sampling import Sampling
from charter.ground.generate.shares import Rests, count_reserved
from charter.ground.model.shape import Shape

REQUESTS = 1500
TINY = Shape(toys.VOCABULARY, 8, 8, 1, 1, 1, 8, 256)


def check(engine: Engine) -> None:
    """What holds between any two steps."""
    busy = engine._busy
    assert len(busy) <= engine.cache.slots <= engine.slots + count_reserved(engine.slots)
    for slot, sample in enumerate(busy):
        held = len(sample.request.prompt) + len(sample.completion.ids) - 1
        assert engine.cache.lengths[slot] == held, "all but the last token is cached"
    assert not any(engine.cache.lengths[len(busy) :]), "free slots are empty"
    assert engine.cache.kv.nbytes <= engine.bounds.memory
    waiting = list(engine._queue)
    assert len({one.number for one in waiting}) == len(engine._queue)
    assert engine._queue.tokens == sum(len(one.prompt) for one in waiting)
    assert all(one.read is not None and one.started < len(one.seeds) for one in engine._ready)
    if isinstance(engine._reader, Chunks):
        assert engine._reader._partly == sum(one.partly is not None for one in waiting)
        if store := engine._reader._kept:
            assert sorted([*store._free, *store._place.values()]) == list(range(store.places))


@pytest.mark.parametrize("served", [True, False])
def test_nothing_is_left_of_thousands_of_requests(served: bool) -> None:
    chance, model = random.Random(7), toys.model(0, TINY)
    cell = 2 * TINY.num_kv_heads * TINY.head_dim * 4
    bounds = Bounds(
        memory=5 * 192 * cell, kept=30 * BLOCK * cell if served else 0, chunk=24 if served else 0, waiting=40, share=0.6
    )
    engine, ticks = Engine(model, toys.tokenizer(), 6, bounds=bounds), itertools.count()
    engine.rests = Rests(lambda: float(next(ticks)))  # a clock by which nobody rests between two steps
    stems = [chance.choices(range(10, 400), k=60) for _ in range(4)]
    open_requests: dict[int, int] = {}
    ended = cancelled = refused = submitted = 0
    while submitted < REQUESTS or not engine.idle:
        while submitted < REQUESTS and chance.random() < 0.7:
            submitted += 1
            stem = chance.choice(stems)[: chance.randrange(61)]
            ids = stem + chance.choices(range(10, 400), k=chance.choice((1, 3, 9, 9, 30, 90)))
            n = chance.choice((1, 1, 1, 2, 9))
            try:
                number = engine.submit(
                    ids,
                    Sampling(max_tokens=chance.randrange(1, 8), stops=("e",) * chance.randrange(2)),
                    n,
                    submitted,
                    account=chance.choice(("", "a", "b")),
                    background=chance.random() < 0.2,
                )
            except Overloaded:
                refused += 1
            else:
                open_requests[number] = n
        for event in engine.step():
            assert event.request in open_requests, "nothing is heard of what was cancelled"
            if event.done:
                ended += 1
                open_requests[event.request] -= 1
                assert isinstance(event.completion, Completion) and event.completion.done
                if not open_requests[event.request]:
                    del open_requests[event.request]
        while open_requests and chance.random() < 0.2:
            number = chance.choice(list(open_requests))
            engine.cancel(number)
            del open_requests[number]
            cancelled += 1
        if submitted % 5 == 0:
            check(engine)
    check(engine)
    assert not open_requests and ended > REQUESTS / 3 and cancelled > 100 and refused > 20
    assert engine.stats.busy == engine.stats.waiting == engine.stats.waiting_tokens == 0
    if isinstance(engine._reader, Chunks):
        assert engine._reader._partly == 0 and 0 < engine.stats.kept_bytes <= engine.bounds.kept
        assert engine.stats.reused > 1000
