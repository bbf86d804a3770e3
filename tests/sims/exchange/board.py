"""What each market lists at the moment, and whether it is traded: what exchangeInfo shows, and which streams flow."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from tests.sims.exchange.names import ROUTES
from tests.sims.exchange.symbols import Listing, listing

TRADING = "TRADING"
HALTED = {"um": "TRADING_HALT", "spot": "HALT"}
DELISTED = {"um": "SETTLING", "spot": "BREAK"}
STATUSES = {
    "um": {"PENDING_TRADING", TRADING, "PRE_DELIVERING", "DELIVERING", "DELIVERED", "PRE_SETTLE", "SETTLING", "CLOSE",
           "TRADING_HALT", "TRADING_CANCEL_ONLY"},
    "spot": {TRADING, "HALT", "BREAK", "CANCEL_ONLY"},
}  # fmt: skip
"""Market to the statuses that a symbol may have (reference 2.2 contractInfo, 4.3 symbolStatus)."""
CONTRACT_TYPES = {
    "PERPETUAL", "CURRENT_QUARTER", "NEXT_QUARTER", "CURRENT_MONTH", "NEXT_MONTH", "PERPETUAL_DELIVERING",
    "TRADIFI_PERPETUAL",
}  # fmt: skip
"""Reference 4.2."""


class Board:
    """The symbols of both markets.

    Attributes:
        on_change: Called with the market when its listings or a status changed.

    Args:
        symbols: What both markets list at first.
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        self.on_change: Callable[[str], None] = lambda market: None
        self._listed: dict[str, dict[str, Listing]] = {
            market: {symbol: listing(market, symbol, rank) for rank, symbol in enumerate(symbols)} for market in ROUTES
        }
        self._gone: set[tuple[str, str]] = set()

    def shown(self, market: str) -> list[Listing]:
        """What exchangeInfo shows."""
        return [one for symbol, one in self._listed[market].items() if (market, symbol) not in self._gone]

    def find(self, market: str, symbol: str) -> Listing | None:
        """A symbol that is listed, or once was."""
        return self._listed[market].get(symbol)

    def trades(self, market: str, symbol: str) -> bool:
        """Whether the symbol is listed and traded."""
        found = self._listed[market].get(symbol)
        return found is not None and found.status == TRADING and (market, symbol) not in self._gone

    def flows(self, market: str, name: str) -> bool:
        """Whether no symbol stands against a stream's data; against one that was never listed nothing does."""
        symbol = name.partition("@")[0].upper()
        return symbol not in self._listed[market] or self.trades(market, symbol)

    def add(self, market: str, symbols: Iterable[str], status: str, contract_type: str, onboard_ms: int) -> None:
        """Lists symbols, or lists them again.

        Raises:
            ValueError: The market has no such status, or there is no such contract type.
        """
        if status not in STATUSES[market]:
            raise ValueError(f"status is {status!r}, and must be one of {', '.join(sorted(STATUSES[market]))}")
        if contract_type not in CONTRACT_TYPES:
            raise ValueError(
                f"contract_type is {contract_type!r}, and must be one of {', '.join(sorted(CONTRACT_TYPES))}"
            )
        listed = self._listed[market]
        for symbol in symbols:
            new = listed.get(symbol) or replace(listing(market, symbol, len(listed)), onboard_ms=onboard_ms)
            listed[symbol] = replace(new, status=status, contract_type=contract_type)
            self._gone.discard((market, symbol))
        self.on_change(market)

    def set_status(self, market: str, symbols: Iterable[str], status: str, *, gone: bool = False) -> None:
        """Changes what exchangeInfo says of symbols; `gone` takes them off it.

        Raises:
            ValueError: A symbol was never listed.
        """
        listed = self._listed[market]
        unknown = [symbol for symbol in symbols if symbol not in listed]
        if unknown:
            raise ValueError(f"{market} does not list {', '.join(unknown)}")
        for symbol in symbols:
            listed[symbol] = replace(listed[symbol], status=status)
            if gone:
                self._gone.add((market, symbol))
        self.on_change(market)
