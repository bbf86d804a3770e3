"""Sleep of the machine and steps of its clock, told apart; pure.

A machine that sleeps stops its monotonic clock but not its boot-time clock; a step moves the wall clock and neither of
them. Both break what receive times say, so both are in the ledger.
"""

from typing import NamedTuple

from common.clock import SECOND_NS

SLEEP_S = 1.0
STEP_S = 0.5
"""NTP slews by half a millisecond a second: what moves faster was stepped."""


class Clocks(NamedTuple):
    """One look at the clocks: wall clock in ns, monotonic in s, and how long the machine has slept since its start."""

    wall_ns: int
    monotonic_s: float
    asleep_s: float


class Jump(NamedTuple):
    """What happened between two looks.

    Attributes:
        slept_s: How long the machine slept.
        stepped_s: By how much the wall clock was stepped; negative where it went back.
        before_ns: The wall clock at the look before.
        after_ns: The wall clock now.
    """

    slept_s: float
    stepped_s: float
    before_ns: int
    after_ns: int


def jump(before: Clocks, now: Clocks) -> Jump | None:
    """The jump between two looks; None where there is none."""
    slept_s = now.asleep_s - before.asleep_s
    passed_s = now.monotonic_s - before.monotonic_s + slept_s
    stepped_s = (now.wall_ns - before.wall_ns) / SECOND_NS - passed_s
    slept_s = slept_s if slept_s >= SLEEP_S else 0.0
    stepped_s = stepped_s if abs(stepped_s) >= STEP_S else 0.0
    return Jump(slept_s, stepped_s, before.wall_ns, now.wall_ns) if slept_s or stepped_s else None
