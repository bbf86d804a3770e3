"""One symbol of one market, slot by slot: its book, its trades, its bar, and the frames of the streams that live.

A stream lives from its first subscription until the exchange ends, whether anybody is still subscribed or not.
"""

import random
from collections.abc import Callable

from tests.sims.exchange import frames
from tests.sims.exchange.bars import MINUTE_MS, Bar
from tests.sims.exchange.book import Book
from tests.sims.exchange.streams import ExchangeStream
from tests.sims.exchange.symbols import Listing

SLOT_MS = 100
FORCE_ORDER_EVERY_S = 20.0
_KLINE_PUSH_MS = {"um": 250, "spot": 2_000}
_FUNDING_MS = 8 * 3_600_000

_DEPTHS = {f"depth{levels}@100ms": levels for levels in (5, 10, 20)} | {"depth@100ms": 0}
CHANNELS = {
    "um": (*_DEPTHS, "bookTicker", "aggTrade", "markPrice@1s", "forceOrder", "kline_1m"),
    "spot": (*_DEPTHS, "bookTicker", "aggTrade", "kline_1m"),
}
"""What follows `<symbol>@` in the names of the streams that the generator has."""


class SymbolFeed:
    """The frames of one symbol. Ids begin at what the clock says, so that they still rise when the exchange restarts.

    Args:
        market: `um` or `spot`.
        listing: The symbol.
        seed: Of all that is random in it.
        clock_ms: The wall clock in ms.
        slot_s: Seconds between two slots; the odds of rare things are reckoned with it.
        is_quiet: Whether nothing happens in 49 of 50 slots, and then nothing is sent.
        changes: How many times more levels change in a slot than in that of a small symbol.

    Attributes:
        is_halted: Whether it is not traded, and makes no frames.
    """

    def __init__(
        self,
        market: str,
        listing: Listing,
        seed: int,
        clock_ms: Callable[[], int],
        *,
        slot_s: float = 0.1,
        is_quiet: bool = False,
        changes: int = 1,
    ) -> None:
        self._market = market
        self._is_um = market == "um"
        self.listing = listing
        self._symbol = listing.symbol
        self._rng = random.Random(f"{seed}:{market}:{listing.symbol}")
        self._random = self._rng.random
        self._book = Book(listing, self._rng)
        self._clock_ms = clock_ms
        self._is_quiet = is_quiet
        self._changes = changes
        self.is_halted = False
        self._trade_odds = min(0.8, 0.1 * 8 / (1 + listing.rank) ** 0.5)
        self._force_odds = slot_s / FORCE_ORDER_EVERY_S
        now_s = clock_ms() // 1_000 - 1_500_000_000
        self._update_id = now_s * (40_000 if self._is_um else 200)
        self._agg_id = now_s * 20
        self._trade_id = now_s * 60
        self._depths: list[tuple[int, ExchangeStream, list[int]]] = []
        self._book_ticker: ExchangeStream | None = None
        self._agg_trade: ExchangeStream | None = None
        self._mark_price: ExchangeStream | None = None
        self._force_order: ExchangeStream | None = None
        self._kline: ExchangeStream | None = None
        self._bar: Bar | None = None
        self._bar_pushed_ms = 0
        self._mark_second = clock_ms() // 1_000
        self._forced_ms = 0
        self._funding = f"0.0000{self._rng.randrange(1000, 9999)}"

    def wake(self, channel: str, stream: ExchangeStream) -> None:
        """Begins to feed a stream; `channel` is one of the market's `CHANNELS`."""
        if channel in _DEPTHS:
            self._depths.append((_DEPTHS[channel], stream, [self._update_id]))
        elif channel == "bookTicker":
            self._book_ticker = stream
        elif channel == "aggTrade":
            self._agg_trade = stream
        elif channel == "markPrice@1s":
            self._mark_price = stream
        elif channel == "forceOrder":
            self._force_order = stream
        else:
            self._kline = stream

    def slot(self) -> int:
        """Lives through one slot; returns how many frames it made."""
        if self.is_halted:
            return 0
        at_ms = self._clock_ms()
        made = 0
        if self._mark_price is not None and at_ms // 1_000 != self._mark_second:
            self._mark_second = at_ms // 1_000
            self._mark_price.publish(self.mark_price(self._mark_second * 1_000).encode())
            made += 1
        if self._kline is not None:
            made += self._turn_bar(at_ms)
        if self._is_quiet and self._random() > 0.02:
            return made
        if self._depths or self._book_ticker is not None:
            made += self._move_book(at_ms)
        if (self._agg_trade is not None or self._kline is not None) and self._random() < self._trade_odds:
            made += self._trade(at_ms)
        if (
            self._force_order is not None
            and self._random() < self._force_odds
            and abs(at_ms - self._forced_ms) >= 1_000
        ):
            self._forced_ms = at_ms
            self._force_order.publish(self.force_order(at_ms).encode())
            made += 1
        return made

    def snapshot(self, levels: int) -> tuple[int, list[str], list[str]]:
        """The last update id, and the best bids and asks of the book then, as JSON texts."""
        return self._update_id, self._book.bid_levels[:levels], self._book.ask_levels[:levels]

    def _move_book(self, at_ms: int) -> int:
        draw = self._random()
        book = self._book
        top_changed = book.step(self._changes * (1 + int(draw * 4)))
        engine_ms = at_ms - 1 - int(draw * 8)
        update_id = self._next_update_id(at_ms, draw)
        for levels, stream, last in self._depths:
            if levels:
                bids, asks = ",".join(book.bid_levels[:levels]), ",".join(book.ask_levels[:levels])
            else:
                bids, asks = ",".join(book.changed_bids.values()), ",".join(book.changed_asks.values())
            previous = last[0]
            last[0] = update_id
            if self._is_um:
                first = min(previous + 1 + int(draw * 90), update_id)
                text = frames.um_depth(at_ms, engine_ms, self._symbol, (first, update_id, previous), bids, asks)
            elif levels:
                text = frames.spot_partial_depth(update_id, bids, asks)
            else:
                text = frames.spot_diff_depth(at_ms, self._symbol, previous + 1, update_id, bids, asks)
            stream.publish(text.encode())
        made = len(self._depths)
        if top_changed and self._book_ticker is not None:
            if self._is_um:
                text = frames.um_book_ticker(at_ms, engine_ms, self._symbol, update_id, book.best())
            else:
                text = frames.spot_book_ticker(self._symbol, update_id, book.best())
            self._book_ticker.publish(text.encode())
            made += 1
        return made

    def _next_update_id(self, at_ms: int, draw: float) -> int:
        """um: follows the clock, as an id that all symbols share does. Spot: rises a little with each change."""
        if self._is_um:
            self._update_id = max(self._update_id + 2, (at_ms - 1_500_000_000_000) * 40 + int(draw * 900))
        else:
            self._update_id += 1 + int(draw * 14)
        return self._update_id

    def _trade(self, at_ms: int) -> int:
        draw = self._random()
        buys = draw < 0.5
        price = self._book.asks[0] if buys else self._book.bids[0]
        lots = 1 + int(self._random() ** 3 * 4 * self.listing.typical_lots)
        first = self._trade_id + 1
        last = self._trade_id = first + (int(draw * 40) if draw < 0.1 else 0)
        if self._bar is not None:
            self._bar.add(price, lots, (first, last), taker_buys=buys)
        if self._agg_trade is None:
            return 0
        self._agg_id += 1
        text, quantity = self._book.price_text(price), self.listing.quantity_text(lots)
        maker = "false" if buys else "true"
        if self._is_um:
            without_rpi = self.listing.quantity_text(lots - lots // 5) if draw > 0.9 else quantity
            payload = frames.um_agg_trade(
                at_ms,
                at_ms - 100 - int(draw * 50),
                self._symbol,
                self._agg_id,
                text,
                (quantity, without_rpi),
                (first, last),
                maker,
            )
        else:
            payload = frames.spot_agg_trade(
                at_ms, at_ms - 1, self._symbol, self._agg_id, text, quantity, (first, last), maker
            )
        self._agg_trade.publish(payload.encode())
        return 1

    def _turn_bar(self, at_ms: int) -> int:
        """Pushes the bar while there is trading, and its final state, `x` true, once when the minute is over."""
        assert self._kline is not None
        start_ms = at_ms - at_ms % MINUTE_MS
        bar = self._bar
        if bar is None:
            self._bar = Bar(self.listing, start_ms, self._book.bids[0])
            return 0
        is_final = bar.start_ms != start_ms
        if not is_final and not (bar.is_changed and abs(at_ms - self._bar_pushed_ms) >= _KLINE_PUSH_MS[self._market]):
            return 0
        bar.is_changed = False
        self._bar_pushed_ms = at_ms
        self._kline.publish(frames.kline(self._market, at_ms, self._symbol, bar.members(is_final=is_final)).encode())
        if is_final:
            self._bar = Bar(self.listing, start_ms, bar.close)
        return 1

    def mark_price(self, second_ms: int) -> str:
        """The payload of one second."""
        units = (self._book.bids[0] + self._book.asks[0]) * self.listing.tick
        scale = 2 * 10.0**self.listing.price_decimals
        mark = units / scale
        index = mark * (1.0005 + 0.0001 * self._random())
        prices = (f"{mark:.8f}", f"{mark * 0.99999:.8f}", f"{index * 0.9999:.8f}", f"{index:.8f}")
        return frames.mark_price(
            second_ms, self._symbol, prices, self._funding, (second_ms // _FUNDING_MS + 1) * _FUNDING_MS
        )

    def force_order(self, at_ms: int) -> str:
        """The payload of a liquidation now."""
        sells = self._random() < 0.5
        best = self._book.bids[0] if sells else self._book.asks[0]
        away = max(1, best // 300)
        order = best - away if sells else best + away
        quantity = self.listing.quantity_text(1 + int(self._random() * self.listing.typical_lots))
        prices = (self.listing.price_text(order), self._book.price_text(best))
        engine_ms = at_ms - 1 - int(self._random() * 900)
        return frames.force_order(at_ms, engine_ms, self._symbol, "SELL" if sells else "BUY", quantity, prices)


class LoopedFeed(SymbolFeed):
    """A feed whose partial book, if it is all that is asked for, goes through its first slots again and again.

    Only times and ids are written anew, which costs a third: for loads as high as can be.
    """

    def __init__(
        self, market: str, listing: Listing, seed: int, clock_ms: Callable[[], int], *, loop: int, slot_s: float = 0.1
    ) -> None:
        super().__init__(market, listing, seed, clock_ms, slot_s=slot_s)
        self._loop = loop
        self._rendered: list[bytes] = []
        self._at = 0

    def _move_book(self, at_ms: int) -> int:
        levels, stream, last = self._depths[0] if self._depths else (0, None, [0])
        if stream is None or not levels or not self._is_um or len(self._depths) > 1 or self._book_ticker is not None:
            return super()._move_book(at_ms)
        if len(self._rendered) < self._loop:
            made = super()._move_book(at_ms)
            bids, asks = ",".join(self._book.bid_levels[:levels]), ",".join(self._book.ask_levels[:levels])
            self._rendered.append(frames.um_depth("%d", "%d", self._symbol, ("%d", "%d", "%d"), bids, asks).encode())
            return made
        self._at = (self._at + 1) % self._loop
        draw = self._random()
        update_id = self._next_update_id(at_ms, draw)
        previous, last[0] = last[0], update_id
        first = min(previous + 1 + int(draw * 90), update_id)
        stream.publish(self._rendered[self._at - 1] % (at_ms, at_ms - 1 - int(draw * 8), first, update_id, previous))
        return 1
