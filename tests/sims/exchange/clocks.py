"""What each market says the time is, which a test can shift; the sent record and the spans keep true time."""

from collections.abc import Callable

from common.clock import SECOND_NS, now_ns
from tests.sims.exchange.names import ROUTES


class Clocks:
    """The clock of each market, as clients see it: in `E`, `T` and REST's `/time`."""

    def __init__(self) -> None:
        self._offsets_ns = dict.fromkeys(ROUTES, 0)

    def shift(self, market: str, offset_s: float) -> None:
        """From now on this market's clock is wrong by `offset_s`; 0 puts it right."""
        self._offsets_ns[market] = round(offset_s * SECOND_NS)

    def now_ns(self, market: str) -> int:
        return now_ns() + self._offsets_ns[market]

    def now_ms(self, market: str) -> int:
        return self.now_ns(market) // 1_000_000

    def offset_ms(self, market: str) -> int:
        return self._offsets_ns[market] // 1_000_000

    def reader(self, market: str) -> Callable[[], int]:
        """A function that tells this market's time in ms."""
        offsets_ns = self._offsets_ns
        return lambda: (now_ns() + offsets_ns[market]) // 1_000_000
