"""When Redis counts as away, stuck or behind."""

from dataclasses import replace

import pytest

from common.pulse import AWAY_S, STUCK_S, Pulse

NOW = 1000.0
WELL = Pulse(NOW, lost_s=None, accepted_s=NOW, covered_s=NOW, unaccepted_s=None, uncovered_s=None)
LONG = NOW - STUCK_S - 0.1


def test_silence_is_no_trouble_while_nothing_waits() -> None:
    """Without anything to take, Redis cannot be stuck."""
    idle = replace(WELL, accepted_s=0.0, covered_s=0.0)
    assert not idle.is_stuck
    assert not idle.is_behind


def test_a_short_loss_of_the_connection_is_no_trouble() -> None:
    """A restart of Redis takes less; after that it is away, and so stuck and behind."""
    assert not replace(WELL, lost_s=NOW - AWAY_S + 0.1).is_behind
    away = replace(WELL, lost_s=NOW - AWAY_S - 0.1)
    assert away.is_away
    assert away.is_stuck
    assert away.is_behind


@pytest.mark.parametrize(("waits", "moved"), [("unaccepted_s", "accepted_s"), ("uncovered_s", "covered_s")])
def test_stuck_is_what_waits_long_and_does_not_move(waits: str, moved: str) -> None:
    """Nothing accepted, or nothing durable, for three seconds in which something waited for it."""
    assert replace(WELL, **{waits: LONG, moved: LONG}).is_stuck
    assert not replace(WELL, **{waits: LONG, moved: NOW - 1}).is_stuck
    assert not replace(WELL, **{waits: NOW - 1, moved: LONG}).is_stuck


def test_slow_is_behind_but_not_stuck() -> None:
    """Redis takes something all the time, and still the oldest waits for long."""
    slow = replace(WELL, unaccepted_s=LONG)
    assert slow.is_behind
    assert not slow.is_stuck
