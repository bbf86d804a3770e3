"""The symbols that the exchange lists: prices, ticks and lots that differ as the real ones do."""

import random
from dataclasses import dataclass

# base asset, price of autumn 2026, um price decimals, um tick in units of the last decimal, um quantity decimals,
# spot price decimals that move, spot quantity decimals that move
_KNOWN: tuple[tuple[str, float, int, int, int, int, int], ...] = (
    ("BTC", 84551.1, 2, 10, 3, 2, 5),
    ("ETH", 3120.55, 2, 1, 3, 2, 4),
    ("SOL", 148.72, 4, 100, 2, 2, 3),
    ("BNB", 902.14, 3, 10, 2, 2, 3),
    ("XRP", 2.1834, 4, 1, 1, 4, 1),
    ("DOGE", 0.16218, 6, 10, 0, 5, 0),
    ("ADA", 0.5127, 5, 10, 0, 4, 1),
    ("TRX", 0.28811, 5, 1, 0, 4, 1),
    ("LINK", 14.213, 3, 1, 2, 2, 2),
    ("AVAX", 16.482, 4, 10, 0, 2, 2),
    ("SUI", 1.7211, 6, 100, 1, 4, 1),
    ("LTC", 92.41, 2, 1, 3, 2, 3),
    ("DOT", 2.914, 3, 1, 1, 3, 2),
    ("1000PEPE", 0.0047213, 7, 1, 0, 8, 0),
    ("NEAR", 2.331, 4, 10, 0, 3, 1),
    ("APT", 3.412, 5, 100, 1, 3, 2),
    ("ATOM", 2.774, 3, 1, 2, 3, 2),
    ("UNI", 6.914, 4, 10, 0, 3, 2),
    ("BCH", 511.3, 2, 1, 3, 1, 3),
    ("ETC", 14.871, 3, 1, 2, 2, 2),
)
_QUOTES = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "TRY", "EUR")


@dataclass(frozen=True, slots=True)
class Listing:
    """One symbol of one market.

    Attributes:
        symbol: As on the wire, for instance `BTCUSDT`.
        rank: Its place in the list; the first ones trade most.
        price: Where the random walk begins, in ticks.
        price_decimals: Decimals of a price as text.
        tick: The tick in units of the last decimal of the price.
        quantity_decimals: Decimals of a quantity as text.
        lot: The lot in units of the last decimal of the quantity.
        typical_lots: A usual quantity of a level, in lots.
        status: As exchangeInfo says it.
        contract_type: Of um: `PERPETUAL`, `CURRENT_QUARTER`, `TRADIFI_PERPETUAL` ...
        onboard_ms: When it was listed, in ms since 1970.
    """

    symbol: str
    rank: int
    price: int
    price_decimals: int
    tick: int
    quantity_decimals: int
    lot: int
    typical_lots: int
    status: str = "TRADING"
    contract_type: str = "PERPETUAL"
    onboard_ms: int = 1_567_965_300_000

    @property
    def pair(self) -> str:
        """The symbol without the delivery date of a contract that has one: `BTCUSDT` of `BTCUSDT_261225`."""
        return self.symbol.partition("_")[0]

    @property
    def quote_asset(self) -> str:
        return next((asset for asset in _QUOTES if self.pair.endswith(asset) and self.pair != asset), "USDT")

    @property
    def base_asset(self) -> str:
        return self.pair.removesuffix(self.quote_asset)

    def price_text(self, ticks: int) -> str:
        return decimal_text(ticks * self.tick, self.price_decimals)

    def quantity_text(self, lots: int) -> str:
        return decimal_text(lots * self.lot, self.quantity_decimals)


def decimal_text(units: int, decimals: int) -> str:
    """`units` of the last decimal as a plain decimal text: `decimal_text(1250, 2)` is `12.50`."""
    if not decimals:
        return str(units)
    whole, part = divmod(units, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"


def default_symbols(count: int) -> list[str]:
    """The first `count` symbols: real names first, then `S021USDT` and so on."""
    names = [f"{known[0]}USDT" for known in _KNOWN[:count]]
    return names + [f"S{number:03d}USDT" for number in range(len(names) + 1, count + 1)]


def listings(market: str, symbols: list[str]) -> list[Listing]:
    """How a market lists these symbols; the same names give the same ticks and lots always."""
    return [listing(market, symbol, rank) for rank, symbol in enumerate(symbols)]


def listing(market: str, symbol: str, rank: int) -> Listing:
    """How a market lists one symbol, at this place of its list."""
    known = next((row for row in _KNOWN if f"{row[0]}USDT" == symbol.partition("_")[0]), None)
    if known is None:
        rng = random.Random(f"listing:{symbol}")
        digits = rng.randint(-4, 3)
        price = round(10.0**digits * rng.uniform(1, 9.9), 8)
        decimals = 4 - digits
        known = (
            symbol,
            price,
            decimals,
            rng.choice((1, 1, 10)),
            rng.choice((0, 1, 2)),
            min(decimals, 8),
            rng.choice((1, 2, 3)),
        )
    _, price, um_decimals, um_tick, um_quantity, spot_price, spot_quantity = known
    typical = 5_000.0 / price
    if market == "um":
        lots = round(typical * 10**um_quantity)
        return Listing(
            symbol, rank, round(price * 10**um_decimals / um_tick), um_decimals, um_tick, um_quantity, 1, max(lots, 3)
        )
    lots = round(typical * 10**spot_quantity)
    return Listing(
        symbol,
        rank,
        round(price * 10**spot_price),
        8,
        10 ** (8 - spot_price),
        8,
        10 ** (8 - spot_quantity),
        max(lots, 3),
    )
