"""The engine as servers want it: chunks between tokens, kept prompts and replies, turns, the background, bounds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate, count
from typing import Any

import pytest
import torch
from torch import Tensor

import toys
from charter.ground.generate.chunks import PARTLY, Chunks, borders
from charter.ground.generate.engine import Completion, Engine, Event
from charter.ground.generate.engine_limits import Bounds, Overloaded
from charter.ground.generate.prefix_cache import BLOCK
from charter.ground.generate.sampling import Sampling
from charter.ground.generate.shares import SPARED, Rests
from charter.ground.model.transformer import Transformer

GREEDY = Sampling(temperature=0, max_tokens=12)
MANY = 2**22  # bytes to keep


@pytest.fixture(scope="module")
def model() -> Transformer:
    return toys.model(0)


def make_engine(model: Transformer, slots: int = 8, **bounds: Any) -> Engine:
    engine = Engine(model, toys.tokenizer(), slots, bounds=Bounds(**bounds))
    engine.ends = frozenset()
    return engine


def prompt(tokens: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(10, toys.VOCABULARY), k=tokens)


def drain(engine: Engine) -> dict[tuple[int, int], Completion]:
    completions: dict[tuple[int, int], Completion] = {}
    while not engine.idle:
        completions |= {(event.request, event.sample): event.completion for event in engine.step() if event.done}
    return completions


def alone(model: Transformer, ids: Sequence[int], how: Sampling = GREEDY, n: int = 1) -> list[list[int]]:
    return [c.ids for c in make_engine(model).generate([ids], how, n, [0])[0]]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each row that is read, in order."""
    seen: list[int] = []
    real = Transformer._fill

    def spy(self: Transformer, ids_T: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        seen.append(len(ids_T))
        return real(self, ids_T, *rest)

    monkeypatch.setattr(Transformer, "_fill", spy)
    return seen


def test_who_is_written_to_gets_a_token_between_any_two_chunks(model: Transformer, rows: list[int]) -> None:
    engine = make_engine(model, chunk=32)
    running = engine.submit(prompt(5), Sampling(temperature=0, max_tokens=40))
    engine.step()
    long = engine.submit(prompt(300, 1), GREEDY)
    steps: list[list[Event]] = []
    while not any(event.request == long for events in steps for event in events):
        steps.append(engine.step())
    assert rows == [5, *[32] * 9, 12], "nothing is read that is longer than a chunk"
    assert all(events[0].request == running for events in steps) and len(steps) == 10
    completions = drain(engine)
    assert [completions[long, 0].ids] == alone(model, prompt(300, 1))


def test_short_prompts_share_a_chunk(model: Transformer, rows: list[int]) -> None:
    engine = make_engine(model, chunk=32)
    numbers = [engine.submit(prompt(10, seed), GREEDY) for seed in range(4)]
    assert {event.request for event in engine.step()} == set(numbers[:3])
    engine.step()
    assert rows == [30, 10], "what is left of the chunk is less than a piece"
    completions = drain(engine)
    assert [[completions[number, 0].ids] for number in numbers] == [alone(model, prompt(10, s)) for s in range(4)]


def test_the_next_turn_reads_what_is_new_and_the_last_piece_that_was_not_whole(
    model: Transformer, rows: list[int]
) -> None:
    engine = make_engine(model, kept=MANY)
    first = engine.generate([prompt(150)], GREEDY)[0][0]
    assert first.cached == 0
    turn = [*prompt(150), *first.ids, *prompt(20, 1)]  # 182 tokens
    second = engine.generate([turn], GREEDY)[0][0]
    assert second.cached == 128 and rows == [64, 64, 22, 54]
    assert [second.ids] == alone(model, turn)
    assert engine.stats.reused == 128 and engine.stats.read == 204 and engine.stats.kept_bytes > 0


def test_a_reply_is_read_again_so_that_the_next_depends_on_the_words_alone(model: Transformer) -> None:
    """What was written token by token is another bit pattern than what is read."""
    engine = make_engine(model, kept=MANY)
    reply = engine.generate([prompt(64)], Sampling(temperature=0, max_tokens=130))[0][0].ids
    completion = engine.generate([[*prompt(64), *reply, 9]], GREEDY)[0][0]
    assert completion.cached == 64


def test_a_shared_beginning_is_kept_between_requests_and_from_prompts_under_way(
    model: Transformer, rows: list[int]
) -> None:
    engine, system = make_engine(model, kept=MANY), prompt(200)
    engine.submit([*system, *prompt(9, 1)], GREEDY)
    engine.step()
    second = engine.submit([*system, *prompt(9, 2)], GREEDY)
    engine.step()
    assert rows == [64, 64, 64, 17, 17], "the first has not ended and serves already"
    assert drain(engine)[second, 0].cached == 192
    engine.submit([*system, *prompt(9, 1)], GREEDY, account="another")
    engine.step()
    assert rows[5:] == rows[:4], "what one account read is not found by another"


def test_what_is_cancelled_is_kept_too(model: Transformer, rows: list[int]) -> None:
    engine = make_engine(model, kept=MANY, chunk=64)
    half = engine.submit(prompt(200), GREEDY)
    engine.step()
    engine.cancel(half)
    assert engine.idle and rows == [64]
    engine.submit(prompt(200), GREEDY)
    engine.step()
    assert rows == [64, 64] and engine.stats.reused == 64
    assert engine._reader.nbytes == engine.stats.kept_bytes == 64 * engine.cache.token_bytes


def test_pieces_end_where_their_place_says(model: Transformer, rows: list[int]) -> None:
    """However much a step reads, and never longer than it."""
    ends: dict[int, list[int]] = {}
    for chunk in (0, 300, 150, 64):
        engine = make_engine(model, chunk=chunk, kept=MANY)
        rows.clear()
        engine.generate([prompt(1000)], Sampling(temperature=0, max_tokens=1))
        ends[chunk] = list(accumulate(rows))
    assert ends[0] == ends[300] == ends[150] == ends[64] == [*range(64, 1000, 64), 1000]
    long = borders(0, BLOCK, same=True)
    places = (0, 8192, 16320, 16384, 32256, 32768, 65536, 131072)
    assert [long.after(at) - at for at in places] == [64, 64, 64, 128, 128, 256, 512, 1024]
    assert [long.before(at) for at in (63, 64, 4223, 4224, 16511, 16512)] == [0, 64, 4160, 4224, 16384, 16512]
    for at in range(0, 10000, 7):
        assert long.before(at) <= at < long.after(at) == long.before(long.after(at))
    short, least = borders(40, BLOCK, same=True), borders(7, BLOCK, same=True)
    assert short.after(8192) == 8224 and least.after(0) == BLOCK
    assert borders(0, BLOCK, same=False).after(0) == 1024


@pytest.mark.parametrize("bounds", [{"chunk": 40}, {"kept": MANY}, {"kept": MANY, "chunk": 17}])
def test_samples_of_one_prompt_wait_for_slots_and_share_what_was_read(
    model: Transformer, rows: list[int], bounds: dict[str, int]
) -> None:
    how = Sampling(max_tokens=6)
    engine = make_engine(model, 3, **bounds)
    number = engine.submit(prompt(100), how, 7)
    completions = drain(engine)
    assert sum(rows) == 100
    assert [completions[number, k].ids for k in range(7)] == alone(model, prompt(100), how, 7)


def test_a_prompt_that_is_half_read_can_be_cancelled(model: Transformer) -> None:
    engine = make_engine(model, 2, chunk=16)
    long, short = engine.submit(prompt(100), GREEDY, 3), engine.submit(prompt(9, 1), GREEDY)
    engine.step()
    engine.step()
    engine.cancel(long)
    completions = drain(engine)
    assert set(completions) == {(short, 0)} and [completions[short, 0].ids] == alone(model, prompt(9, 1))
    assert isinstance(engine._reader, Chunks) and engine._reader._partly == 0
    assert engine.cache.lengths == [0] * engine.cache.slots


def test_few_long_prompts_are_half_read_at_a_time(model: Transformer) -> None:
    engine = make_engine(model, 16, chunk=8)
    numbers = [engine.submit(prompt(40, seed), GREEDY, account=str(seed)) for seed in range(9)]
    most = 0
    assert isinstance(engine._reader, Chunks)
    for _ in range(50):
        engine.step()
        most = max(most, engine._reader._partly)
    assert most == PARTLY
    completions = drain(engine)
    assert {number for number, _ in completions} <= set(numbers) and engine.idle


def begin_samples(engine: Engine, steps: int = 400) -> list[int]:
    """Requests in the order in which their first token comes."""
    seen: dict[int, None] = {}
    for _ in range(steps):
        if engine.idle:
            break
        seen |= dict.fromkeys(event.request for event in engine.step())
    return list(seen)


@pytest.mark.parametrize("bounds", [{}, {"chunk": 32}])
def test_one_accounts_queue_delays_another_by_one_turn(model: Transformer, bounds: dict[str, int]) -> None:
    engine = make_engine(model, 2, **bounds)
    many = [engine.submit(prompt(12, seed), GREEDY, account="many") for seed in range(40)]
    engine.step()
    few = engine.submit(prompt(12, 99), GREEDY, account="few")
    order = begin_samples(engine)
    assert order.index(few) <= 4 and [one for one in order if one != few] == many


def test_a_rest_that_ends_while_the_queue_is_looked_through_changes_no_order(model: Transformer) -> None:
    engine, looks = make_engine(model, 3), count()
    engine.rests.may = lambda *_: next(looks) % 5 == 4  # type: ignore[method-assign]
    many = [engine.submit(prompt(12, seed), GREEDY, account="many") for seed in range(40)]
    assert begin_samples(engine) == many


def test_a_long_prompt_of_one_account_lets_anothers_short_one_pass(model: Transformer) -> None:
    engine = make_engine(model, 4, chunk=16)
    long = engine.submit(prompt(600), GREEDY, account="long")
    engine.step()
    short = engine.submit(prompt(9, 1), GREEDY, account="short")
    assert begin_samples(engine, 3) == [short]
    assert begin_samples(engine, 10**6)[-1] == long


@pytest.mark.parametrize("bounds", [{}, {"chunk": 32}])
def test_the_background_takes_what_nobody_wants(model: Transformer, bounds: dict[str, int]) -> None:
    engine = make_engine(model, 4, **bounds)
    behind = [engine.submit(prompt(9, seed), GREEDY, background=True) for seed in range(6)]
    assert begin_samples(engine, 1) == behind[:3], "a slot stays free for the next request"
    front = [engine.submit(prompt(9, 10 + seed), GREEDY) for seed in range(3)]
    assert front[0] in begin_samples(engine, 1)
    order = begin_samples(engine, 10**6)
    assert all(order.index(one) < order.index(behind[3]) for one in front)
    assert engine.idle


def test_a_half_read_prompt_in_the_background_makes_way(model: Transformer) -> None:
    engine = make_engine(model, 1, chunk=16)
    behind = engine.submit(prompt(100), GREEDY, background=True)
    engine.step()
    front = engine.submit(prompt(9, 1), GREEDY)
    completions: dict[tuple[int, int], Completion] = {}
    order: list[int] = []
    while not engine.idle:
        for event in engine.step():
            order.append(event.request)
            completions[event.request, event.sample] = event.completion
    assert list(dict.fromkeys(order)) == [front, behind]
    assert [completions[behind, 0].ids] == alone(model, prompt(100))


def test_other_weights_find_nothing_kept(rows: list[int]) -> None:
    changing = toys.model(3)
    engine = make_engine(changing, kept=MANY)
    engine.generate([prompt(70)], GREEDY)
    engine.generate([prompt(70)], GREEDY)
    with torch.no_grad():
        changing.embed.mul_(1.1)
    replies = engine.generate([prompt(70)], GREEDY)
    assert rows == [64, 6, 6, 64, 6]
    assert [replies[0][0].ids] == alone(changing, prompt(70))


def test_too_many_requests_are_refused_and_the_others_served(model: Transformer) -> None:
    engine = make_engine(model, 2, chunk=16, waiting=4)
    taken = [engine.submit(prompt(9, seed), GREEDY, account=str(seed)) for seed in range(6)]
    with pytest.raises(Overloaded, match="6 requests wait already"):
        engine.submit(prompt(9), GREEDY)
    engine.cancel(taken[5])
    taken[5] = engine.submit(prompt(9, 5), GREEDY)
    assert {number for number, _ in drain(engine)} == set(taken)


def test_memory_bounds_what_is_read_in_chunks(model: Transformer) -> None:
    one = make_engine(model).cache.token_bytes
    engine = make_engine(model, 8, chunk=64, kept=MANY, memory=2 * 320 * one)
    inputs = [prompt(20 if seed % 2 else 290, seed) for seed in range(12)]
    numbers = [engine.submit(ids, GREEDY) for ids in inputs]
    completions, most = {}, 0
    while not engine.idle:
        completions |= {event.request: event.completion for event in engine.step() if event.done}
        most = max(most, engine.stats.cache_bytes)
    assert most <= 2 * 320 * one
    assert [[completions[number].ids] for number in numbers] == [alone(model, ids) for ids in inputs]


def test_waiting_requests_hold_only_their_ids(model: Transformer) -> None:
    engine = make_engine(model, 2, chunk=32)
    for seed in range(300):
        engine.submit(prompt(500, seed), GREEDY, account=str(seed % 7))
    for _ in range(8):
        engine.step()
    held = [one for one in engine._queue if one.partly or one.read]
    assert len(held) <= PARTLY and engine.stats.waiting >= 298
    assert engine.stats.waiting_tokens == 500 * len(engine._queue)


def test_an_account_reads_one_piece_a_step_while_another_asks(model: Transformer, rows: list[int]) -> None:
    engine = make_engine(model, 4, chunk=256)
    engine.submit(prompt(600), GREEDY, account="long")
    engine.step()
    assert rows == [64] * 4, "alone it has the whole chunk"
    engine.submit(prompt(9, 1), Sampling(temperature=0, max_tokens=200), account="short")
    engine.step()
    assert rows[4:] == [9], "a short prompt waits for no part of a long one"
    while len(engine._queue):
        before = len(rows)
        engine.step()
        assert rows[before:] in ([], [64], [24])
    assert engine.stats.read == 609


def test_who_reads_rests_as_long_as_it_read_where_another_is_written_to(model: Transformer) -> None:
    now = [0.0]
    engine = make_engine(model, 4, chunk=64)
    engine.rests = Rests(lambda: now[0])
    written, real = (
        engine.submit(prompt(9), Sampling(temperature=0, max_tokens=300), account="b"),
        engine.model.extend,
    )
    engine.step()

    def slow(*args: Any) -> Any:
        now[0] += 0.1
        return real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.model, "extend", slow)
        engine.submit(prompt(200, 1), GREEDY, account="a")
        read = []
        for _ in range(40):
            before = engine.stats.read
            assert written in {event.request for event in engine.step()}
            read.append(engine.stats.read - before)
            now[0] += 0.01
    assert [n for n, tokens in enumerate(read) if tokens] == [0, 10, 20, 30]


def test_long_replies_leave_slots_to_who_holds_few(model: Transformer) -> None:
    engine = make_engine(model, 8, chunk=64)
    for seed in range(20):
        engine.submit(prompt(9, seed), Sampling(temperature=0, max_tokens=300), account="many")
    for _ in range(5):
        engine.step()
    assert engine.stats.busy == 8
    few = engine.submit(prompt(9, 99), GREEDY, account="few")
    assert few in begin_samples(engine, 2)
    more = engine.submit(prompt(9, 98), GREEDY, account="few")
    assert more not in begin_samples(engine, 2), "who holds one of them waits for a slot as others do"
    drain(engine)


def test_memory_leaves_a_slot_to_who_holds_none(model: Transformer) -> None:
    engine = make_engine(model, 8, chunk=64, memory=4 * 320 * make_engine(model).cache.token_bytes)
    for seed in range(9):
        engine.submit(prompt(9, seed), Sampling(temperature=0, max_tokens=300), account="many")
    for _ in range(5):
        engine.step()
    assert engine.stats.busy == 3
    few = engine.submit(prompt(9, 99), GREEDY, account="few")
    assert few in begin_samples(engine, 2)


def test_the_background_mostly_rests_while_others_are_written_to(model: Transformer) -> None:
    engine = make_engine(model, 8, chunk=64)
    behind = {engine.submit(prompt(9, n), Sampling(temperature=0, max_tokens=200), background=True) for n in range(4)}
    for _ in range(3):
        engine.step()
    now, real = [0.0], engine.model.decode
    engine.rests = Rests(lambda: now[0])

    def slow(*args: Any) -> Any:
        now[0] += 0.125
        return real(*args)

    front = engine.submit(prompt(9, 9), Sampling(temperature=0, max_tokens=80))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.model, "decode", slow)
        seen = [{event.request for event in engine.step()} for _ in range(64)]
    assert all(front in one for one in seen)
    assert sum(bool(one & behind) for one in seen) == 64 // SPARED
    ids = {number: one.ids for (number, _), one in drain(engine).items()}
    how = Sampling(temperature=0, max_tokens=200)
    assert [[ids[n]] for n in sorted(behind)] == [alone(model, prompt(9, n), how) for n in range(4)]


def test_a_long_prompt_is_broken_off_where_somebody_new_waits(model: Transformer, rows: list[int]) -> None:
    engine = make_engine(model, 4, chunk=256)
    number = engine.submit(prompt(600), GREEDY, account="long")
    engine.hurry = lambda: len(rows) == 2
    engine.step()
    assert rows == [64, 64] and engine.stats.read == 128
    engine.hurry = bool
    assert drain(engine)[number, 0].ids == alone(model, prompt(600))[0]
    assert engine.stats.read == 600


def test_a_prompt_that_is_broken_off_is_read_and_counted_once(model: Transformer, rows: list[int]) -> None:
    """It stood in the engine's own slot, which is free again."""
    engine = make_engine(model, 4, chunk=512)
    number = engine.submit(prompt(300), GREEDY, account="long")
    engine.hurry = lambda: len(rows) == 2
    engine.step()
    assert rows == [64, 64] and not any(engine.cache.lengths)
    engine.hurry = bool
    ids = drain(engine)[number, 0].ids
    assert rows == [64, 64, 64, 64, 44] and engine.stats.read == 300
    assert [ids] == alone(model, prompt(300), GREEDY)


def test_buffers_beside_the_slots_have_a_bound(model: Transformer) -> None:
    engine = make_engine(model, 4, chunk=64)
    for seed in range(40):
        engine.submit(prompt(400, seed), Sampling(max_tokens=2), n=1 + seed % 3, account=f"a{seed}")
    most = 0
    while not engine.idle:
        engine.hurry = lambda: engine.stats.read % 3 == 0
        engine.step()
        most = max(most, sum(request.partly is not None for request in engine._queue.line(False)))
    assert most <= PARTLY + 3, "prompts of several samples have one each while they are read"


def test_the_last_buffer_is_not_the_backgrounds(model: Transformer) -> None:
    engine = make_engine(model, 8, chunk=64)
    for seed in range(PARTLY + 2):
        engine.submit(prompt(900, seed), GREEDY, account=f"batch {seed}", background=True)
    held = set[int]()
    for _ in range(40):
        engine.step()
        held.add(sum(request.partly is not None for request in engine._queue.line(True)))
    assert max(held) <= PARTLY - 1
    engine.submit(prompt(200, 99), GREEDY, account="front")
    drain(engine)


def test_the_background_goes_on_where_who_waits_cannot_begin(model: Transformer) -> None:
    now = [0.0]
    engine = make_engine(model, 8, chunk=64, memory=320 * make_engine(model).cache.token_bytes)
    engine.rests = Rests(lambda: now[0])
    behind = engine.submit(prompt(9), Sampling(temperature=0, max_tokens=200), background=True)
    engine.step()
    engine.submit(prompt(9, 1), Sampling(temperature=0, max_tokens=200), account="front")
    seen = 0
    for _ in range(100):
        now[0] += 0.01
        seen += behind in {event.request for event in engine.step()}
    assert seen > 90
