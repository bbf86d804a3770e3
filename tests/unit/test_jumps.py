"""Sleep and clock steps, and how late frames come."""

import pytest

from common.clock import SECOND_NS
from common.lag import WINDOW_S, Way
from ingest.jumps import Clocks, jump

START = Clocks(1_790_000_000 * SECOND_NS, 100.0, 5.0)


def later(wall_s: float, monotonic_s: float, asleep_s: float = 0.0) -> Clocks:
    return Clocks(START.wall_ns + int(wall_s * SECOND_NS), START.monotonic_s + monotonic_s, START.asleep_s + asleep_s)


@pytest.mark.parametrize("passed_s", [0.5, 1.0, 30.0])
def test_time_that_passes_is_no_jump(passed_s: float) -> None:
    """Clocks that go together, a slewed one included."""
    assert jump(START, later(passed_s, passed_s)) is None
    assert jump(START, later(passed_s * 1.0005, passed_s)) is None


def test_a_sleep_is_told_from_a_step() -> None:
    """Asleep, wall and boot-time clock go on and the monotonic one stands; a step moves the wall clock alone."""
    slept = jump(START, later(61, 1, asleep_s=60))
    assert slept is not None
    assert (round(slept.slept_s), slept.stepped_s) == (60, 0)
    for step_s in (3600.0, -2.0):
        stepped = jump(START, later(1 + step_s, 1))
        assert stepped is not None
        assert (stepped.slept_s, round(stepped.stepped_s, 6)) == (0, step_s)
        assert stepped.before_ns == START.wall_ns
    both = jump(START, later(66, 1, asleep_s=60))
    assert both is not None
    assert (round(both.slept_s), round(both.stepped_s)) == (60, 5)


def test_lag_is_what_a_frame_has_beyond_the_way() -> None:
    """Clocks that differ by a minute, and a way of 100 ms, are no lag; two seconds more are."""
    way = Way()
    assert way.lag_ns(5 * SECOND_NS) == 0
    for delay_s in (60.1, 60.2, 60.15):
        way.add(int(delay_s * SECOND_NS), 0.0)
    assert way.lag_ns(int(62.1 * SECOND_NS)) == 2 * SECOND_NS
    assert way.lag_ns(int(59.0 * SECOND_NS)) == 0


def test_an_old_way_is_forgotten() -> None:
    """A way that became longer for good is the way after a while; a stepped clock makes a new one at once."""
    way = Way()
    for minute in range(11):
        way.add((100 if minute < 1 else 3_000) * 1_000_000, minute * WINDOW_S / 5)
    assert way.lag_ns(3_000_000_000) == 2_900_000_000
    for minute in range(11, 20):
        way.add(3_000_000_000, minute * WINDOW_S / 5)
    assert way.lag_ns(3_000_000_000) == 0
    way.forget()
    assert way.lag_ns(10**12) == 0
