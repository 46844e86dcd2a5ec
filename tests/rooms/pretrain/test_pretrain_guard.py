"""Spikes by rule, worked by hand: what is one, what comes after several, and that a state brings it all back."""

from __future__ import annotations

import json
import math

import pytest

from charter.rooms.pretrain.guard import Place, Watch, line, ninth_decile
from charter.rooms.pretrain.order import Cursor
from charter.rooms.pretrain.settings import Guard

RULE = Guard(loss_factor=1.5, norm_factor=4.0, history=3, patience=2)
KNOWN = Watch(losses=(2.0, 4.0, 3.0), norms=(1.0, 0.5, 8.0))  # of three the ninth decile is the middle one: 3 and 1


@pytest.mark.parametrize(
    "loss, norm, expected",
    [
        (3.0, 1.0, ""),
        (4.5, 4.0, ""),  # at the bound, not over it
        (4.6, 1.0, "loss 4.6 is over 1.5 times the usual 3"),
        (3.0, 4.1, "gradient norm 4.1 is over 4 times the usual 1"),
        (math.nan, 1.0, "loss is nan"),
        (3.0, math.inf, "gradient norm is inf"),
    ],
)
def test_what_is_a_spike(loss: float, norm: float, expected: str) -> None:
    assert KNOWN.spike(loss, norm, RULE) == expected


def test_a_step_of_the_seldom_kind_of_text_is_none() -> None:
    """Facts that are looked up cost 1.7 nats, prose 3.5, a quarter of the steps: seen in a long-context stage."""
    losses = (1.7, 1.8, 1.6, 3.5) * 8
    assert ninth_decile(losses) == 3.5 and ninth_decile((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)) == 9.0
    watch, rule = Watch(losses, (1.0,) * 32), Guard()
    assert watch.spike(4.0, 1.0, rule) == "" and watch.spike(5.3, 1.0, rule) != ""
    one = Watch((1.7,) * 31 + (3.5,), (1.0,) * 32)
    assert one.spike(3.5, 1.0, rule) != "", "one that was high lifts nothing"


def test_until_the_history_is_full_only_what_is_not_finite_is_a_spike() -> None:
    fresh = Watch(losses=(1.0, 1.0), norms=(1.0, 1.0))
    assert fresh.spike(900.0, 900.0, RULE) == "" and fresh.spike(math.nan, 1.0, RULE) != ""


def test_a_row_of_spikes_is_counted_and_ended_by_a_step_that_is_taken() -> None:
    watch = KNOWN.after_spike(9.0, 1.0, RULE).after_spike(math.nan, 1.0, RULE)
    assert (watch.row, watch.spikes, watch.losses) == (2, 2, (4.0, 3.0, 9.0))
    watch = watch.after_update(5.0, 2.0, RULE)
    assert (watch.row, watch.spikes, watch.losses, watch.norms) == (0, 2, (3.0, 9.0, 5.0), (8.0, 1.0, 2.0))


def test_what_comes_often_becomes_usual() -> None:
    """A stage begins whose texts are of two kinds, where before all were of one."""
    watch, rule = Watch((1.8,) * 32, (0.4,) * 32), Guard()
    taken = []
    for n in range(64):
        loss = 3.7 if n % 4 == 3 else 1.8
        spike = watch.spike(loss, 0.4, rule)
        watch = (watch.after_spike if spike else watch.after_update)(loss, 0.4, rule)
        taken.append(not spike)
    assert taken[:20].count(False) == 5 and all(taken[20:]), "five of 32 reach the ninth decile"


def test_a_place_comes_back_from_the_json_of_a_state() -> None:
    place = Place(7, Cursor(2, 31), 1234, 5.5e9, Watch((0.1, 1 / 3), (math.pi,), 1, 4, 1))
    assert Place.restore(7, json.loads(json.dumps(place.extra()))) == place
    assert Place.restore(0, {}) == Place()


def test_the_line_of_a_step_that_is_no_number_is_still_json() -> None:
    row = line(Place(3, Cursor(1, 2), 50), math.nan, math.inf, 0.5, "loss is nan")
    assert json.loads(json.dumps(row, allow_nan=False)) == {
        "step": 3,
        "tokens": 50,
        "epoch": 1,
        "lr": 0.5,
        "loss": None,
        "grad_norm": None,
        "spike": "loss is nan",
    }
