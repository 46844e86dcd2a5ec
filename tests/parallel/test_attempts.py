"""A job that torchrun starts again shares a store with the start before."""

from __future__ import annotations

import pytest
from torch._C._distributed_c10d import TCPStore

from charter.runner.lockstep import FAILED, LOST, of_this_attempt, words_of


def test_what_one_start_left_is_nothing_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TCPStore("127.0.0.1", 0, 1, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    first = of_this_attempt(store)
    assert first.compare_set(FAILED, "", "1 it broke") == b"1 it broke"
    assert words_of(of_this_attempt(store)) == "it broke"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    second = of_this_attempt(store)
    assert words_of(second) == LOST
    assert second.compare_set(FAILED, "", "0 again") == b"0 again"
    assert words_of(first) == "it broke"
