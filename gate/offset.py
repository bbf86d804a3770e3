"""How far the exchange's clock is from ours, from the answers to `/time`. Pure.

Source: reference/binance-protocol.md section 7: offset = server time - middle of the round trip, which may be wrong by
half of the round trip (the way there and the way back may differ) and by the rounding of the answer.
"""

from collections import deque
from typing import NamedTuple

ROUNDING_MS = 0.5
"""The answer is in whole ms, cut: the true time lies within 0.5 ms of half a ms later."""

DRIFT_MS_S = 0.1
"""100 ppm: how far two quartz clocks may part in a second. An old measurement is doubted by that much more."""


class Clock(NamedTuple):
    """The exchange's clock minus ours, in ms, and how far that may be off."""

    offset_ms: float
    uncertainty_ms: float


class Measurement(NamedTuple):
    """One round trip.

    Attributes:
        at_s: When, monotonic.
        offset_ms: Exchange's clock minus ours.
        round_trip_ms: Its length, by the monotonic clock.
    """

    at_s: float
    offset_ms: float
    round_trip_ms: float

    def uncertainty_ms(self, now_s: float) -> float:
        """How far the offset may be off by now."""
        return self.round_trip_ms / 2 + ROUNDING_MS + max(0.0, now_s - self.at_s) * DRIFT_MS_S


def measure(sent_ns: int, sent_s: float, came_s: float, server_ms: int) -> Measurement:
    """A round trip's measurement.

    Args:
        sent_ns: Wall clock when it was sent.
        sent_s: The same, monotonic.
        came_s: When the answer was there, monotonic.
        server_ms: What the exchange said, ms since 1970.
    """
    round_trip_ms = (came_s - sent_s) * 1000
    offset_ms = server_ms + ROUNDING_MS - (sent_ns / 1e6 + round_trip_ms / 2)
    return Measurement(came_s, offset_ms, round_trip_ms)


class Offsets:
    """The measurements of one market; the best is the least doubtful, also when it is not the newest.

    So a slow network does not spoil what was known when it was fast.
    """

    KEPT = 16

    def __init__(self) -> None:
        self._kept: deque[Measurement] = deque(maxlen=self.KEPT)

    def add(self, new: Measurement) -> bool:
        """Takes a measurement; false when older ones contradict it and were dropped: a clock was set meanwhile."""
        agreeing = [old for old in self._kept if _agree(old, new)]
        agrees = len(agreeing) == len(self._kept)
        self._kept = deque([*agreeing, new], maxlen=self.KEPT)
        return agrees

    def best(self, now_s: float) -> Clock | None:
        """The clock as it is known best."""
        if not self._kept:
            return None
        best = min(self._kept, key=lambda each: each.uncertainty_ms(now_s))
        return Clock(best.offset_ms, best.uncertainty_ms(now_s))

    @property
    def newest(self) -> Measurement | None:
        return self._kept[-1] if self._kept else None

    def clear(self) -> None:
        """Forgets all: our own clock was set."""
        self._kept.clear()


def _agree(old: Measurement, new: Measurement) -> bool:
    doubt_ms = old.uncertainty_ms(new.at_s) + new.uncertainty_ms(new.at_s)
    return abs(old.offset_ms - new.offset_ms) <= doubt_ms
