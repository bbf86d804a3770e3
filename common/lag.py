"""How late frames come, beyond the way that they always have; pure.

Receive time minus event time is the way from the exchange plus the error of two clocks: both are nearly constant, so
the smallest that was seen lately is the way, and what a frame has more than that is lag. A stall, a slow network and a
machine that slept all show in it; what a lagging connection has not delivered yet is lost when it dies.
"""

WINDOW_S = 300.0


class Way:
    """The shortest way of a market's frames in the last five to ten minutes."""

    __slots__ = ("_before_ns", "_least_ns", "_now_ns", "_since_s")

    def __init__(self) -> None:
        self._now_ns: int | None = None
        self._before_ns: int | None = None
        self._least_ns: int | None = None
        self._since_s = 0.0

    def add(self, delay_ns: int, now_s: float) -> None:
        """Takes one frame's receive time minus its event time, at a monotonic moment."""
        if now_s - self._since_s > WINDOW_S:
            self._before_ns, self._now_ns, self._since_s = self._now_ns, None, now_s
        if self._now_ns is None or delay_ns < self._now_ns:
            self._now_ns = delay_ns
            self._least_ns = delay_ns if self._before_ns is None else min(delay_ns, self._before_ns)

    def lag_ns(self, delay_ns: int) -> int:
        """What a frame's delay has beyond the way, in ns; 0 while no way is known."""
        return 0 if self._least_ns is None else max(0, delay_ns - self._least_ns)

    def forget(self) -> None:
        """The clock was stepped: nothing that was learned holds."""
        self._now_ns = self._before_ns = self._least_ns = None
