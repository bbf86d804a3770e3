"""Health by the age of data: a service is well when each thing that it declared has happened recently enough.

"The port answers" proves nothing; a service that hears nothing is ill. Written by the loop, read by the
HTTP thread.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Age(NamedTuple):
    """How long ago something last happened, and how long it may be, in seconds."""

    what: str
    age_s: float
    limit_s: float

    @property
    def is_stale(self) -> bool:
        return self.age_s > self.limit_s


class Health(Collector):
    """What must happen, and when it last did; also the metric `maserver_data_age_seconds`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: clock: Seconds that never jump."""
        self._clock = clock
        self._limits_s: dict[str, float] = {}
        self._beats_s: dict[str, float] = {}

    def expect(self, what: str, limit_s: float) -> None:
        """Declares that `what` happens at least every `limit_s` seconds, counted from now."""
        if what not in self._limits_s:
            self._beats_s[what] = self._clock()
        self._limits_s[what] = limit_s

    def beat(self, what: str) -> None:
        """Notes that it happened just now. Cheap: one clock reading and one store."""
        self._beats_s[what] = self._clock()

    def forget(self, what: str) -> None:
        """Takes a declaration back: a stream that was closed on purpose cannot be late."""
        self._limits_s.pop(what, None)
        self._beats_s.pop(what, None)

    def ages(self) -> list[Age]:
        """The age of each declared thing, in the order of declaration."""
        now_s = self._clock()
        return [
            Age(what, now_s - self._beats_s.get(what, now_s), limit_s) for what, limit_s in list(self._limits_s.items())
        ]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        ages = GaugeMetricFamily("maserver_data_age_seconds", "Time since it last happened.", labels=["what"])
        limits = GaugeMetricFamily("maserver_data_age_limit_seconds", "Age at which it is stale.", labels=["what"])
        for age in self.ages():
            ages.add_metric([age.what], age.age_s)
            limits.add_metric([age.what], age.limit_s)
        yield ages
        yield limits
