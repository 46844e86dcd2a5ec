"""The driver: what many threads ask of one engine is answered as if each had asked alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import toys
from charter.ground.artifact.errors import CharterError
from charter.ground.generate.engine import Engine, Event
from charter.ground.generate.sampling import Sampling
from charter.ground.service.driver import Driver

SAMPLING = Sampling(temperature=1.0, max_tokens=9)


def engine() -> Engine:
    return Engine(toys.model(), toys.tokenizer(), slots=4)


def test_threads_get_what_a_batch_gets() -> None:
    prompts = [toys.tokenizer().encode(text) for text in ("one", "two birds", "three", "four", "five", "six")]
    expected = engine().generate(prompts, SAMPLING, 2, seeds=range(6))
    driver = Driver(engine())
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(driver.ask, prompt, SAMPLING, 2, seed) for seed, prompt in enumerate(prompts)]
        found = [answer.result().result(60) for answer in asked]
    driver.close()
    assert [[c.ids for c in each] for each in found] == [[c.ids for c in each] for each in expected]


def test_a_refused_prompt_spoils_no_other() -> None:
    driver = Driver(engine())
    bad, good = driver.ask([], SAMPLING, 1, 0), driver.ask([5, 6], SAMPLING, 1, 0)
    with pytest.raises(CharterError, match="an empty prompt"):
        bad.result(60)
    assert len(good.result(60)) == 1
    driver.close()


def test_a_failure_reaches_all_who_wait_and_the_next_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    served = engine()
    step, failing = served.step, [True]

    def once(*_: Any) -> list[Event]:
        if failing.pop() if failing else False:
            raise RuntimeError("out of memory")
        return step()

    monkeypatch.setattr(served, "step", once)
    driver = Driver(served)
    with pytest.raises(RuntimeError, match="out of memory"):
        driver.ask([5, 6], SAMPLING, 1, 0).result(60)
    assert driver.ask([5, 6], SAMPLING, 1, 0).result(60)[0].ids
    driver.close()
    assert served.idle


def test_closing_answers_what_was_asked_before() -> None:
    driver = Driver(engine())
    asked = [driver.ask([5, 6, 7 + n], SAMPLING, 1, n) for n in range(9)]
    driver.close()
    assert all(len(answer.result(0)) == 1 for answer in asked)
    driver.close()
