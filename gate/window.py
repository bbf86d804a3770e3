"""The last latencies of one symbol, of which the median is taken. Pure.

One value a second: where two collectors (or two frames of the canary) give one each, the smaller counts, for the
archive keeps the copy that came first.
"""

from collections import deque
from statistics import median

from common.clock import SECOND_NS


class Window:
    """The newest latencies, at most `size`, none older than `fresh_s`."""

    def __init__(self, size: int, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._kept: deque[tuple[float, int, float]] = deque(maxlen=size)

    def add(self, latency_ms: float, at_ns: int, at_s: float) -> None:
        """Takes a value.

        Args:
            latency_ms: Receive time minus event time.
            at_ns: When it was measured, wall clock: which second it is of.
            at_s: The same, monotonic: how old it is.
        """
        second = at_ns // SECOND_NS
        if self._kept and self._kept[-1][1] == second:
            last_s, _, least_ms = self._kept.pop()
            latency_ms, at_s = min(latency_ms, least_ms), max(at_s, last_s)
        self._kept.append((at_s, second, latency_ms))

    def median_ms(self, now_s: float) -> tuple[float | None, int]:
        """The median of what is fresh, and of how many values it is; None of none."""
        while self._kept and now_s - self._kept[0][0] > self._fresh_s:
            self._kept.popleft()
        values = [latency_ms for _, _, latency_ms in self._kept]
        return (median(values) if values else None), len(values)

    def clear(self) -> None:
        self._kept.clear()
