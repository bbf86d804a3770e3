"""Drives the generator: each symbol has its place in the slot of 100 ms, so frames come evenly, never all at once."""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable

from common.clock import now_ns
from tests.sims.exchange import arrays
from tests.sims.exchange.generator import CHANNELS, SLOT_MS, SymbolFeed
from tests.sims.exchange.streams import ExchangeStream
from tests.sims.exchange.symbols import Listing

_SHORTEST_SLEEP_S = 0.002
_FLOOD_BATCH_FRAMES = 256
_WITHOUT_READERS_S = 0.01


def clock_ms() -> int:
    """The exchange's wall clock in ms; `MASERVER_CLOCK_OFFSET_S` moves it."""
    return now_ns() // 1_000_000


class Generator:
    """Makes the frames of all symbols of both markets.

    Args:
        listings: Market to what it lists.
        seed: Of all that is random.
        rate: How many times faster than the real pace the slots follow one another.
        quiet: Symbols in which almost nothing happens.
    """

    def __init__(
        self,
        listings: dict[str, list[Listing]],
        *,
        seed: int = 1,
        rate: float = 1.0,
        quiet: frozenset[str] = frozenset(),
    ) -> None:
        self._listings = {
            (market, listing.symbol.lower()): listing for market, listed in listings.items() for listing in listed
        }
        self._count = max((len(listed) for listed in listings.values()), default=1) or 1
        self._seed = seed
        self._slot_s = SLOT_MS / 1_000 / rate
        self._quiet = quiet
        self._feeds: dict[tuple[str, str], SymbolFeed] = {}
        self._arrays: arrays.AllMarketFeed | None = None
        self._due: list[tuple[float, int, Callable[[], int]]] = []

    def find(self, stream: ExchangeStream) -> bool:
        """Brings the stream to life if the exchange has it."""
        if stream.market == "um" and stream.name in arrays.CHANNELS:
            if self._arrays is None:
                self._arrays = arrays.AllMarketFeed(self._um_feeds, self._seed, clock_ms, slot_s=self._slot_s)
                self._schedule(self._arrays.slot, 0.0)
            self._arrays.wake(stream)
            return True
        symbol, _, channel = stream.name.partition("@")
        key = (stream.market, symbol)
        if key not in self._listings or channel not in CHANNELS[stream.market]:
            return False
        is_new = key not in self._feeds
        feed = self._feed(key)
        feed.wake(channel, stream)
        if is_new:
            self._schedule(feed.slot, feed.listing.rank % self._count / self._count)
        return True

    def _feed(self, key: tuple[str, str]) -> SymbolFeed:
        feed = self._feeds.get(key)
        if feed is None:
            listing = self._listings[key]
            is_quiet = listing.symbol in self._quiet
            feed = self._feeds[key] = SymbolFeed(
                key[0], listing, self._seed, clock_ms, slot_s=self._slot_s, is_quiet=is_quiet
            )
        return feed

    def _um_feeds(self) -> list[SymbolFeed]:
        for key in self._listings:
            if key[0] == "um" and key not in self._feeds:
                self._schedule(self._feed(key).slot, self._listings[key].rank % self._count / self._count)
        return [feed for (market, _), feed in self._feeds.items() if market == "um"]

    def _schedule(self, slot: Callable[[], int], phase: float) -> None:
        now = time.monotonic()
        begins = (now // self._slot_s + phase) * self._slot_s
        heapq.heappush(self._due, (begins if begins > now else begins + self._slot_s, len(self._due), slot))

    async def run(self, flush: Callable[[], None]) -> None:
        """Makes frames at their pace for ever; `flush` writes them out."""
        while True:
            now = time.monotonic()
            due = self._due
            while due and due[0][0] <= now:
                at, number, slot = due[0]
                slot()
                following = at + self._slot_s
                # After a stop of the process the missed slots are not made up for: who stood still sent nothing.
                heapq.heapreplace(due, (following if following > now - 1.0 else now + self._slot_s, number, slot))
            flush()
            wait_s = due[0][0] - time.monotonic() if due else _WITHOUT_READERS_S
            await asyncio.sleep(min(max(wait_s, _SHORTEST_SLEEP_S), _WITHOUT_READERS_S))

    async def flood(self, flush: Callable[[], None], writable: Callable[[], Awaitable[bool]]) -> None:
        """Makes frames as fast as the slowest subscriber takes them, for ever.

        Args:
            flush: Writes out what was made.
            writable: Returns when no socket is full; False where nobody is connected.
        """
        while True:
            if not self._due or not await writable():
                await asyncio.sleep(_WITHOUT_READERS_S)
                continue
            made = 0
            for _, _, slot in list(self._due):
                made += slot()
                if made >= _FLOOD_BATCH_FRAMES:
                    flush()
                    made = 0
                    await asyncio.sleep(0)
                    await writable()
            flush()
            await asyncio.sleep(0)
