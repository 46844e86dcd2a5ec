"""Other weights while samples are under way: those go on, and all that begins later is as of the new weights alone."""

import pytest

import toys
from charter.ground.generate.engine import Completion, Engine
from charter.ground.generate.engine_limits import Bounds
from charter.ground.generate.sampling import Sampling
from charter.ground.model.checkpoint import named_tensors

LONG = [5 + n % 300 for n in range(700)]
SAMPLING = Sampling(max_tokens=12)
SERVERS = Bounds(kept=2**22, chunk=64)


def engine(seed: int, bounds: Bounds) -> Engine:
    return Engine(toys.model(seed), toys.tokenizer(), slots=4, bounds=bounds)


def alone(seed: int, prompt: list[int], bounds: Bounds) -> Completion:
    return engine(seed, bounds).generate([prompt], SAMPLING, 1, [7])[0][0]


@pytest.mark.parametrize("bounds", [Bounds(), SERVERS], ids=["rooms", "servers"])
@pytest.mark.parametrize("steps", [1, 8])
def test_what_begins_after_the_change_knows_nothing_of_the_old_weights(bounds: Bounds, steps: int) -> None:
    changed = engine(0, bounds)
    for _ in range(2):  # and is kept, where texts are kept
        changed.generate([LONG], SAMPLING, 1, [7])
    running = changed.submit(LONG[:40], Sampling(max_tokens=30), seed=1)
    changed.submit(LONG, SAMPLING, seed=7)  # partly read when the weights change, for servers
    events = [event for _ in range(steps) for event in changed.step()]
    changed.renew(named_tensors(toys.model(3)))
    again = changed.submit(LONG, SAMPLING, seed=7)
    while not changed.idle:
        events += changed.step()
    done = {event.request: event.completion for event in events if event.done}
    assert len(done) == 3 and len(done[running].ids) <= 30, "no sample is lost"
    expected = alone(3, LONG, bounds)
    assert done[again].ids == expected.ids
    assert done[again].logprobs == pytest.approx(expected.logprobs, abs=1e-5)
    completion = changed.generate([LONG], SAMPLING, 1, [7])[0][0]
    assert completion.ids == expected.ids and completion.ids != alone(0, LONG, bounds).ids


def test_a_prompt_read_in_part_by_the_old_weights_is_read_again() -> None:
    changed = engine(0, SERVERS)
    number = changed.submit(LONG, SAMPLING, seed=7)
    assert not [event for _ in range(5) for event in changed.step()], "700 tokens are read 64 at a time"
    changed.renew(named_tensors(toys.model(3)))
    events = []
    while not changed.idle:
        events += changed.step()
    (done,) = [event.completion for event in events if event.done and event.request == number]
    expected = alone(3, LONG, SERVERS)
    assert done.ids == expected.ids and done.logprobs == pytest.approx(expected.logprobs, abs=1e-5)
