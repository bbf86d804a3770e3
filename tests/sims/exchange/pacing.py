"""Drives the generator: each symbol has its place in the slot of 100 ms, so frames come evenly, never all at once."""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable

from tests.sims.exchange import arrays
from tests.sims.exchange.board import Board
from tests.sims.exchange.clocks import Clocks
from tests.sims.exchange.generator import CHANNELS, SLOT_MS, LoopedFeed, SymbolFeed
from tests.sims.exchange.streams import ExchangeStream
from tests.sims.exchange.symbols import Listing

_SHORTEST_SLEEP_S = 0.002
_FLOOD_BATCH_FRAMES = 256
_WITHOUT_READERS_S = 0.01


class Generator:
    """Makes the frames of all symbols of both markets.

    Args:
        board: What the markets list.
        clocks: What time it is there.
        seed: Of all that is random.
        rate: How many times faster than the real pace the slots follow one another.
        quiet: Symbols in which almost nothing happens.
        changes: How many times more levels change in a slot; not where books loop.
        loop: After so many slots each partial book begins anew; 0: never. Nothing is quiet then.
    """

    def __init__(
        self,
        board: Board,
        clocks: Clocks,
        *,
        seed: int = 1,
        rate: float = 1.0,
        quiet: frozenset[str] = frozenset(),
        loop: int = 0,
        changes: int = 1,
    ) -> None:
        self._board = board
        self._clocks = clocks
        self._count = max((len(board.shown(market)) for market in CHANNELS), default=1) or 1
        self._seed = seed
        self._slot_s = SLOT_MS / 1_000 / rate
        self._quiet = quiet
        self._loop = loop
        self._changes = changes
        self._feeds: dict[tuple[str, str], SymbolFeed] = {}
        self._arrays: arrays.AllMarketFeed | None = None
        self._due: list[tuple[float, int, Callable[[], int]]] = []

    def find(self, stream: ExchangeStream) -> bool:
        """Brings the stream to life if the exchange has it."""
        if stream.market == "um" and stream.name in arrays.CHANNELS:
            if self._arrays is None:
                self._arrays = arrays.AllMarketFeed(
                    self._um_feeds, self._seed, self._clocks.reader("um"), slot_s=self._slot_s
                )
                self._schedule(self._arrays.slot, 0.0)
            self._arrays.wake(stream)
            return True
        symbol, _, channel = stream.name.partition("@")
        listing = self._board.find(stream.market, symbol.upper())
        if listing is None or channel not in CHANNELS[stream.market]:
            return False
        self._feed(stream.market, listing).wake(channel, stream)
        return True

    def snapshot(self, market: str, symbol: str, levels: int) -> tuple[int, list[str], list[str]] | None:
        """As `SymbolFeed.snapshot`; None where the market does not list the symbol."""
        listing = self._board.find(market, symbol)
        return self._feed(market, listing).snapshot(levels) if listing else None

    def follow(self, market: str) -> None:
        """Halts the feeds of symbols that are not traded, and lets the others go on."""
        for (found, symbol), feed in self._feeds.items():
            if found == market:
                feed.is_halted = not self._board.trades(market, symbol)

    def _feed(self, market: str, listing: Listing) -> SymbolFeed:
        feed = self._feeds.get((market, listing.symbol))
        if feed is None:
            of = market, listing, self._seed, self._clocks.reader(market)
            if self._loop:
                feed = LoopedFeed(*of, loop=self._loop, slot_s=self._slot_s)
            else:
                is_quiet = listing.symbol in self._quiet
                feed = SymbolFeed(*of, slot_s=self._slot_s, is_quiet=is_quiet, changes=self._changes)
            self._feeds[market, listing.symbol] = feed
            feed.is_halted = not self._board.trades(market, listing.symbol)
            self._schedule(feed.slot, listing.rank % self._count / self._count)
        return feed

    def _um_feeds(self) -> list[SymbolFeed]:
        feeds = [self._feed("um", listing) for listing in self._board.shown("um")]
        return [feed for feed in feeds if not feed.is_halted]

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
