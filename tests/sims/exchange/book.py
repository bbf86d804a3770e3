"""An order book that lives: its top levels change a little in each slot, as text that is ready to be sent."""

import random

from tests.sims.exchange.symbols import Listing

LEVELS = 20
_KEPT = 24
_QUANTITIES = 512


class Book:
    """The best levels of both sides of one symbol, seeded.

    Attributes:
        bids, asks: Prices in ticks, best first.
        bid_levels, ask_levels: The same levels as JSON texts `["<price>","<quantity>"]`.
        changed_bids, changed_asks: Price in ticks to the level's text, of what the last `step` changed, as in a diff:
            the quantity is 0 where a level was removed.
    """

    def __init__(self, listing: Listing, rng: random.Random) -> None:
        self._listing = listing
        self._random = rng.random
        typical = listing.typical_lots
        lots = [max(1, min(40 * typical, int(typical * rng.lognormvariate(0.0, 1.6)))) for _ in range(_QUANTITIES)]
        self._quantities = [listing.quantity_text(count) for count in lots]
        self._zero = listing.quantity_text(0)
        self._prices: dict[int, str] = {}
        self.bids: list[int] = []
        self.asks: list[int] = []
        self.bid_levels: list[str] = []
        self.ask_levels: list[str] = []
        self.changed_bids: dict[int, str] = {}
        self.changed_asks: dict[int, str] = {}
        self._middle = listing.price
        self._fill(self.bids, self.bid_levels, listing.price, -1)
        self._fill(self.asks, self.ask_levels, listing.price + 1, 1)

    def price_text(self, ticks: int) -> str:
        """A price as text, remembered."""
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) > 20_000:
                self._prices.clear()
            text = self._prices[ticks] = self._listing.price_text(ticks)
        return text

    def best(self) -> tuple[str, str, str, str]:
        """Best bid price and quantity, best ask price and quantity, as texts."""
        bid, ask = self.bid_levels[0].split('"'), self.ask_levels[0].split('"')
        return bid[1], bid[3], ask[1], ask[3]

    def step(self, changes: int) -> bool:
        """Changes that many levels; returns whether the best bid or ask changed."""
        # The hot path of the whole exchange: a third of the time of a frame is spent here.
        rnd, quantities, known = self._random, self._quantities, self._prices
        self.changed_bids.clear()
        self.changed_asks.clear()
        top_changed = False
        for _ in range(changes):
            draw = rnd()
            at = int(draw * rnd() * LEVELS)
            if rnd() < 0.5:
                prices, levels, changed = self.bids, self.bid_levels, self.changed_bids
            else:
                prices, levels, changed = self.asks, self.ask_levels, self.changed_asks
            ticks = prices[at]
            price = known.get(ticks) or self.price_text(ticks)
            changed[ticks] = levels[at] = f'["{price}","{quantities[int(draw * _QUANTITIES)]}"]'
            if not at:
                top_changed = True
        if rnd() < 0.3:
            self._move(up=self._goes_up())
            top_changed = True
        return top_changed

    def _goes_up(self) -> bool:
        """A random walk that returns to where it began, slowly: prices stay in the listing's range for weeks."""
        drift = (self._middle - self.bids[0]) / self._middle
        return self._random() < 0.5 + max(-0.4, min(0.4, 5 * drift))

    def _move(self, *, up: bool) -> None:
        """The market eats the best level of one side; a new level joins behind it and at the front of the other."""
        direction = 1 if up else -1
        ahead, ahead_levels, ahead_changes = self._side(up)
        behind, behind_levels, behind_changes = self._side(not up)
        gone = ahead.pop(0)
        ahead_levels.pop(0)
        ahead_changes[gone] = f'["{self.price_text(gone)}","{self._zero}"]'
        self._fill(ahead, ahead_levels, ahead[-1] + direction, direction)
        front = ahead[0] - direction
        while behind and (behind[0] - front) * direction >= 0:
            behind.pop(0)
            behind_levels.pop(0)
        level = self._level(front)
        behind.insert(0, front)
        behind_levels.insert(0, level)
        behind_changes[front] = level
        del behind[_KEPT:], behind_levels[_KEPT:]

    def _side(self, asks: bool) -> tuple[list[int], list[str], dict[int, str]]:
        if asks:
            return self.asks, self.ask_levels, self.changed_asks
        return self.bids, self.bid_levels, self.changed_bids

    def _level(self, ticks: int) -> str:
        quantity = self._quantities[int(self._random() * _QUANTITIES)]
        return f'["{self.price_text(ticks)}","{quantity}"]'

    def _fill(self, prices: list[int], levels: list[str], ticks: int, direction: int) -> None:
        while len(prices) < _KEPT:
            prices.append(ticks)
            levels.append(self._level(ticks))
            ticks += direction * (1 + int(self._random() ** 2 * 4))
