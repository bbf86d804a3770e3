"""Who is recorded on one market, and who joins and leaves when the exchange lists something else. Pure.

Leaving is believed slowly, for it costs data: a symbol that is missing from a list leaves when the next list lacks it
too, and a list that has lost more than half of what traded is believed when it comes for the third time in a row. A
status that is not `TRADING` is the exchange's own word for this symbol, and believed at once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from common.symbols import Wanted
from ingest.exchange_info import GONE, Listed, Listing

DOUBTS = 2
"""How many lists in a row that lost more than half are not believed."""
FEW = 10
"""Of fewer symbols half may well go at once."""

SOON_S = 15.0
CLOSE_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Changes:
    """What a list changed on one market.

    Attributes:
        market: `um` or `spot`.
        joined: Symbols to record from now on.
        left: Symbols to record no more, each with why: `status SETTLING`, `not listed`.
    """

    market: str
    joined: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.joined or self.left)


class Roster:
    """The symbols of one market.

    Attributes:
        market: `um` or `spot`.
        recorded: Who is recorded, in the order in which they came.
        listing: The last list that was believed; None before the first.
        doubts: How many lists in a row were not believed.
    """

    def __init__(self, market: str, wanted: Wanted) -> None:
        self.market = market
        self.recorded: dict[str, None] = {}
        self.listing: Listing | None = None
        self.doubts = 0
        self._trading = 0
        self._wanted = wanted
        self._names = frozenset(wanted.names)
        self._missing: set[str] = set()
        self._halted_ms: dict[str, int] = {}

    def assume(self, listing: Listing | None, elsewhere: Collection[str] = ()) -> None:
        """Records what is named, and what an older list takes: the exchange cannot be asked.

        Args:
            listing: An older list; None where there is none.
            elsewhere: Names that other markets list: where there is an older list and it lacks them, they are not here.
        """
        rows = listing.symbols if listing else {}
        absent = {name for name, row in rows.items() if row.status == GONE}
        if listing is not None:
            self._trading = listing.trading
            absent |= {name for name in elsewhere if name not in rows}
        taken = (symbol for symbol, row in rows.items() if row.is_trading and self.is_wanted(row))
        self.recorded = dict.fromkeys((*(name for name in self._wanted.names if name not in absent), *taken))

    def take(self, listing: Listing, now_ms: int) -> Changes:
        """Takes a new list; what is recorded already and still trades stays, whatever a pattern says of it now."""
        if self._is_doubtful(listing):
            self.doubts += 1
            self._missing -= listing.symbols.keys()  # what it does list is there
            return Changes(self.market)
        self.doubts = 0
        self.listing, self._trading = listing, listing.trading
        rows = listing.symbols
        left = {
            symbol: f"status {rows[symbol].status or 'unknown'}"
            for symbol in self.recorded
            if symbol in rows and not rows[symbol].is_trading
        }
        self._halted_ms |= dict.fromkeys(left, now_ms)
        missing = {symbol for symbol in self.recorded if symbol not in rows}
        left |= dict.fromkeys(sorted(missing & self._missing), "not listed")
        self._missing = missing - left.keys()
        named = [rows[name] for name in self._wanted.names if name in rows]
        joined = tuple(
            dict.fromkeys(
                row.symbol
                for row in (*named, *rows.values())
                if row.is_trading and row.symbol not in self.recorded and self.is_wanted(row)
            )
        )
        self.recorded = {symbol: None for symbol in (*self.recorded, *joined) if symbol not in left}
        return Changes(self.market, joined, left)

    def is_wanted(self, row: Listed) -> bool:
        """Whether it is named, or taken by a pattern."""
        return row.symbol in self._names or self._wanted.takes(row.symbol, is_dated=row.is_dated)

    def waiting(self) -> list[Listed]:
        """What is wanted and listed, and does not trade."""
        rows = self.listing.symbols.values() if self.listing else ()
        return [row for row in rows if not row.is_trading and self.is_wanted(row)]

    def next_s(self, refresh_s: float, now_ms: int) -> float:
        """When to ask again: sooner where a symbol opens before that, and each 15 s for an hour while one may go on."""
        self._halted_ms = {symbol: at for symbol, at in self._halted_ms.items() if now_ms - at < CLOSE_MS}
        wait_s = refresh_s
        for row in self.waiting():
            opens_ms = row.onboard_ms - now_ms
            if row.symbol in self._halted_ms or -CLOSE_MS < opens_ms <= 0:
                wait_s = min(wait_s, SOON_S)
            elif opens_ms > 0:
                wait_s = min(wait_s, opens_ms / 1000 + 1.0)
        return wait_s

    def _is_doubtful(self, listing: Listing) -> bool:
        return self.doubts < DOUBTS and self._trading >= FEW and listing.trading * 2 < self._trading
