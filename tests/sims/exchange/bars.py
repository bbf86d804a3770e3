"""The one-minute bar of one symbol, as its pushes show it."""

from tests.sims.exchange.symbols import Listing, decimal_text

MINUTE_MS = 60_000


class Bar:
    """A running one-minute bar in integer units; `members` writes it in the order of the wire.

    Attributes:
        start_ms: Its open time.
        is_changed: Whether a trade came since the last push.
    """

    def __init__(self, listing: Listing, start_ms: int, price: int) -> None:
        self._listing = listing
        self.start_ms = start_ms
        self.is_changed = False
        self._first_id = self._last_id = -1
        self._open = self._high = self._low = self._close = price
        self._trades = self._lots = self._taker_lots = self._value = self._taker_value = 0

    def add(self, price: int, lots: int, ids: tuple[int, int], *, taker_buys: bool) -> None:
        """Counts one aggregate trade; price in ticks."""
        if self._first_id < 0:
            self._first_id, self._open, self._high, self._low = ids[0], price, price, price
        self._last_id = ids[1]
        self._close = price
        self._high, self._low = max(self._high, price), min(self._low, price)
        self._trades += ids[1] - ids[0] + 1
        self._lots += lots
        self._value += price * lots
        if taker_buys:
            self._taker_lots += lots
            self._taker_value += price * lots
        self.is_changed = True

    @property
    def close(self) -> int:
        return self._close

    def members(self, *, is_final: bool) -> list[tuple[str, str]]:
        listing = self._listing
        price, quantity = listing.price_text, listing.quantity_text
        return [
            ("t", str(self.start_ms)),
            ("T", str(self.start_ms + MINUTE_MS - 1)),
            ("s", f'"{listing.symbol}"'),
            ("i", '"1m"'),
            ("f", str(self._first_id)),
            ("L", str(self._last_id)),
            ("o", f'"{price(self._open)}"'),
            ("c", f'"{price(self._close)}"'),
            ("h", f'"{price(self._high)}"'),
            ("l", f'"{price(self._low)}"'),
            ("v", f'"{quantity(self._lots)}"'),
            ("n", str(self._trades)),
            ("x", "true" if is_final else "false"),
            ("q", f'"{self._worth(self._value)}"'),
            ("V", f'"{quantity(self._taker_lots)}"'),
            ("Q", f'"{self._worth(self._taker_value)}"'),
            ("B", '"0"'),
        ]

    def _worth(self, value: int) -> str:
        """Price times quantity; spot keeps 8 decimals, um as many as both have together."""
        listing = self._listing
        decimals = listing.price_decimals + listing.quantity_decimals
        units = value * listing.tick * listing.lot
        if decimals > 8:
            return decimal_text(units // 10 ** (decimals - 8), 8)
        return decimal_text(units, decimals)
