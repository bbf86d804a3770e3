"""The all-market streams of um: arrays and orders of every symbol, COIN-M among them since the merge of 2026-06-30."""

import random
from collections.abc import Callable, Sequence

from tests.sims.exchange import frames
from tests.sims.exchange.generator import SymbolFeed
from tests.sims.exchange.streams import ExchangeStream

CHANNELS = ("!markPrice@arr@1s", "!forceOrder@arr")


class AllMarketFeed:
    """`!markPrice@arr@1s` and `!forceOrder@arr`, with rows of `st` 1 (USD-M) and 2 (COIN-M).

    Args:
        feeds: Gives the feeds of all um symbols.
        seed: Of all that is random in it.
        clock_ms: The wall clock in ms.
        slot_s: Seconds between two slots.
    """

    def __init__(
        self, feeds: Callable[[], Sequence[SymbolFeed]], seed: int, clock_ms: Callable[[], int], *, slot_s: float = 0.1
    ) -> None:
        self._feeds = feeds
        self._rng = random.Random(f"{seed}:all")
        self._clock_ms = clock_ms
        self._force_odds = slot_s / 4
        self._second = clock_ms() // 1_000
        self._marks: ExchangeStream | None = None
        self._forced: ExchangeStream | None = None

    def wake(self, stream: ExchangeStream) -> None:
        """Begins to feed a stream."""
        if stream.name == "!markPrice@arr@1s":
            self._marks = stream
        else:
            self._forced = stream

    def slot(self) -> int:
        """Lives through one slot; returns how many frames it made."""
        at_ms = self._clock_ms()
        made = 0
        if self._marks is not None and at_ms // 1_000 != self._second:
            self._second = at_ms // 1_000
            rows = [feed.mark_price(self._second * 1_000) for feed in self._feeds()]
            prices = ("84551.10000000", "84550.90000000", "84540.12000000", "84560.44130435")
            rows.append(frames.mark_price(self._second * 1_000, "BTCUSD_PERP", prices, "0.00010000", 0, symbol_type=2))
            self._marks.publish(f"[{','.join(rows)}]".encode())
            made += 1
        if self._forced is not None and self._rng.random() < self._force_odds:
            if self._rng.random() < 0.2:
                prices2 = ("84201.3", "84260.1")
                text = frames.force_order(at_ms, at_ms - 300, "BTCUSD_PERP", "SELL", "14", prices2, symbol_type=2)
            else:
                feeds = self._feeds()
                if not feeds:
                    return made
                text = self._rng.choice(feeds).force_order(at_ms)
            self._forced.publish(text.encode())
            made += 1
        return made
