"""The columns of the Parquet files: their types, units, and where in the payload each comes from.

Plain data without any library, so that the archiver (pyarrow) and the reader (Polars) share one truth. A decimal of the
exchange is two columns: `<name>`, a float64 for plain use, and `<name>_scaled`, the exact integer, whose number of
decimals stands in its own column of each row, since a tick-size change may fall between any two rows.
Source of the keys: reference/binance-protocol.md sections 2.1 and 2.2.
"""

from dataclasses import dataclass
from typing import Literal

from common.channels import CHANNELS, MARKETS

FORMAT_VERSION = 1
"""Written into each file; raised when a column changes its meaning."""

Type = Literal["time_ns", "time_ms", "int64", "int16", "int8", "float64", "text", "category", "bool", "list_int64"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a Parquet file.

    Attributes:
        name: The column's name.
        type: Its type; `category` is text of few distinct values.
        unit: `ns` and `ms` since 1970 in UTC; `quote` and `base` are the symbol's assets; `-` where there is none.
        meaning: One sentence for the user.
        key: Where the payload has it (`k.t` is `t` inside `k`); empty for a column that is computed.
        group: For a scaled decimal, which `<group>_decimals` column scales it; for such a column itself, its group.
        required: Whether a payload without the key is no frame of this channel.
    """

    name: str
    type: Type
    unit: str
    meaning: str
    key: str = ""
    group: str = ""
    required: bool = False


def _time(name: str, key: str, meaning: str) -> Column:
    return Column(name, "time_ms", "ms", meaning, key)


def _id(name: str, key: str, meaning: str, *, required: bool = True) -> Column:
    return Column(name, "int64", "-", meaning, key, required=required)


def _text(name: str, key: str, meaning: str) -> Column:
    return Column(name, "category", "-", meaning, key)


_UNITS = {"price": "quote", "quantity": "base", "quote": "quote", "rate": "fraction"}


def _scale(group: str) -> str:
    return f"{_UNITS[group]}/10^{group}_decimals"


def _decimal(name: str, key: str, group: str, meaning: str, *, required: bool = True) -> tuple[Column, Column]:
    return (
        Column(name, "float64", _UNITS[group], meaning),
        Column(f"{name}_scaled", "int64", _scale(group), f"`{name}`, exact.", key, group, required),
    )


def _decimals(group: str) -> Column:
    meaning = f"How many decimals the row's {group} integers have."
    return Column(f"{group}_decimals", "int8", "decimals", meaning, group=group)


_RECEIVED = Column("receive_time", "time_ns", "ns", "When the frame arrived here.")
_EVENT = _time("exchange_time", "E", "When the exchange sent it (`E`); null where the payload has no time.")
_CONNECTION = (
    Column("connection", "category", "-", "The connection that the frame arrived on; unique for ever."),
    Column("counter", "int64", "frames", "The frame's place among the frames of its connection, from 1."),
)
_PAIR = _text("pair", "ps", "Pair (`ps`); null in frames before 2026-06.")
_KIND = Column("symbol_type", "int8", "-", "1 USD-M, 2 COIN-M (`st`); null in frames before 2026-06.", "st")
_EXTRA = Column(
    "extra",
    "text",
    "JSON object",
    "What no other column holds: unknown keys, known keys with an unusual value; else null.",
)

_BEST = (
    Column("best_bid_price", "float64", "quote", "Price of the best bid; null if there is no bid."),
    Column("best_bid_quantity", "float64", "base", "Quantity at the best bid."),
    Column("best_ask_price", "float64", "quote", "Price of the best ask; null if there is no ask."),
    Column("best_ask_quantity", "float64", "base", "Quantity at the best ask."),
)
_LEVELS = (
    Column("bid_price_gaps", "list_int64", _scale("price"), "Price steps from each bid down to the next."),
    Column("deeper_bid_quantities", "list_int64", _scale("quantity"), "Quantities of the bids after the best."),
    Column("ask_price_gaps", "list_int64", _scale("price"), "Price steps from each ask up to the next."),
    Column("deeper_ask_quantities", "list_int64", _scale("quantity"), "Quantities of the asks after the best."),
    Column("price_decimals", "int8", "decimals", "How many decimals the row's price integers have."),
    Column("quantity_decimals", "int8", "decimals", "How many decimals the row's quantity integers have."),
    Column("price_text_decimals", "int8", "decimals", "How many decimals the exchange printed its prices with."),
    Column("quantity_text_decimals", "int8", "decimals", "How many decimals the exchange printed its quantities with."),
)
_BOOK_TICKER = (
    *_decimal("best_bid_price", "b", "price", "Price of the best bid."),
    *_decimal("best_bid_quantity", "B", "quantity", "Quantity at the best bid."),
    *_decimal("best_ask_price", "a", "price", "Price of the best ask."),
    *_decimal("best_ask_quantity", "A", "quantity", "Quantity at the best ask."),
    _decimals("price"),
    _decimals("quantity"),
)
_TRADE = (
    _time("trade_time", "T", "When the matching engine made the trade (`T`)."),
    _id("aggregate_id", "a", "The aggregate trade's id (`a`); consecutive."),
    _id("first_trade_id", "f", "First trade in the aggregate (`f`)."),
    _id("last_trade_id", "l", "Last trade in the aggregate (`l`)."),
    *_decimal("price", "p", "price", "Price."),
    *_decimal("quantity", "q", "quantity", "Quantity."),
)
_TAKER = Column(
    "taker_side", "category", "-", "`buy` or `sell`: who crossed the spread (`m` true is `sell`).", "m", required=True
)

_KLINE = (
    _time("open_time", "k.t", "First millisecond of the bar (`t`)."),
    _time("close_time", "k.T", "Last millisecond of the bar (`T`)."),
    _id("first_trade_id", "k.f", "First trade of the bar; -1 if it has none (`f`)."),
    _id("last_trade_id", "k.L", "Last trade of the bar; -1 if it has none (`L`)."),
    *_decimal("open", "k.o", "price", "First price."),
    *_decimal("high", "k.h", "price", "Highest price."),
    *_decimal("low", "k.l", "price", "Lowest price."),
    *_decimal("close", "k.c", "price", "Last price so far."),
    *_decimal("volume", "k.v", "quantity", "Volume."),
    *_decimal("quote_volume", "k.q", "quote", "Volume in the quote asset."),
    *_decimal("taker_buy_volume", "k.V", "quantity", "Volume that takers bought."),
    *_decimal("taker_buy_quote_volume", "k.Q", "quote", "Volume that takers bought, in the quote asset."),
    Column("trade_count", "int64", "trades", "Number of trades (`n`).", "k.n", required=True),
    Column("closed", "bool", "-", "Whether the bar is over (`x`).", "k.x", required=True),
    _decimals("price"),
    _decimals("quantity"),
    _decimals("quote"),
    _text("ignored", "k.B", "A text that the exchange says to ignore (`B`)."),
)

_BODY: dict[tuple[str, str], tuple[Column, ...]] = {
    ("um", "depth20"): (
        _time("transaction_time", "T", "When the matching engine last changed the book (`T`)."),
        *_CONNECTION,
        _id("first_update_id", "U", "First update id since the previous message (`U`)."),
        _id("final_update_id", "u", "Last update id in this snapshot (`u`)."),
        _id("previous_update_id", "pu", "The final update id of the previous message (`pu`)."),
        *_BEST,
        *_LEVELS,
        _PAIR,
        _KIND,
    ),
    ("spot", "depth20"): (
        *_CONNECTION,
        _id("final_update_id", "lastUpdateId", "Last update id in this snapshot (`lastUpdateId`)."),
        *_BEST,
        *_LEVELS,
    ),
    ("um", "bookTicker"): (
        _time("transaction_time", "T", "When the matching engine last changed the book (`T`)."),
        *_CONNECTION,
        _id("update_id", "u", "Update id of the book (`u`)."),
        *_BOOK_TICKER,
        _PAIR,
        _KIND,
    ),
    ("spot", "bookTicker"): (*_CONNECTION, _id("update_id", "u", "Update id of the book (`u`)."), *_BOOK_TICKER),
    ("um", "aggTrade"): (
        *_CONNECTION,
        *_TRADE,
        *_decimal("normal_quantity", "nq", "quantity", "Without RPI orders; null before 2025-12-31.", required=False),
        _TAKER,
        _decimals("price"),
        _decimals("quantity"),
        _KIND,
    ),
    ("spot", "aggTrade"): (
        *_CONNECTION,
        *_TRADE,
        _TAKER,
        Column("best_match", "bool", "-", "A flag that the exchange says to ignore (`M`).", "M"),
        _decimals("price"),
        _decimals("quantity"),
    ),
    ("um", "markPrice"): (
        *_CONNECTION,
        *_decimal("mark_price", "p", "price", "Mark price."),
        *_decimal("mark_price_average", "ap", "price", "Moving average of it; null before 2026-03-16.", required=False),
        *_decimal("index_price", "i", "price", "Index price; null in old frames.", required=False),
        *_decimal("settle_price", "P", "price", "Estimated settle price; null in old frames.", required=False),
        *_decimal("funding_rate", "r", "rate", "Running funding rate; null for delivery contracts.", required=False),
        _time("next_funding_time", "T", "When it is charged; 1970-01-01 for delivery contracts (`T` is 0)."),
        _decimals("price"),
        _decimals("rate"),
        _KIND,
    ),
    ("um", "forceOrder"): (
        *_CONNECTION,
        _time("trade_time", "o.T", "When the order was filled (`T`)."),
        _text("side", "o.S", "`SELL`: a long was liquidated; `BUY`: a short (`S`)."),
        _text("order_type", "o.o", "Order type (`o`)."),
        _text("time_in_force", "o.f", "Time in force (`f`)."),
        _text("order_status", "o.X", "Order status (`X`)."),
        *_decimal("price", "o.p", "price", "Price of the order."),
        *_decimal("average_price", "o.ap", "price", "Average price of its fills."),
        *_decimal("quantity", "o.q", "quantity", "Quantity of the order."),
        *_decimal("last_filled_quantity", "o.l", "quantity", "Quantity of the last fill."),
        *_decimal("filled_quantity", "o.z", "quantity", "Quantity of all its fills."),
        _decimals("price"),
        _decimals("quantity"),
        _text("pair", "o.ps", "Pair (`ps` inside `o`); null in frames before 2026-06."),
        Column("symbol_type", "int8", "-", "1 USD-M, 2 COIN-M (`st` inside `o`); null before 2026-06.", "o.st"),
    ),
    ("um", "kline_1m"): (*_CONNECTION, *_KLINE),
    ("spot", "kline_1m"): (*_CONNECTION, *_KLINE),
}

CONSTANTS: dict[tuple[str, str], dict[str, str | None]] = {
    ("um", "depth20"): {"e": "depthUpdate", "s": None},
    ("spot", "depth20"): {},
    ("um", "bookTicker"): {"e": "bookTicker", "s": None},
    ("spot", "bookTicker"): {"s": None},
    ("um", "aggTrade"): {"e": "aggTrade", "s": None},
    ("spot", "aggTrade"): {"e": "aggTrade", "s": None},
    ("um", "markPrice"): {"e": "markPriceUpdate", "s": None},
    ("um", "forceOrder"): {"e": "forceOrder", "o.s": None},
    ("um", "kline_1m"): {"e": "kline", "s": None, "k.s": None, "k.i": "1m"},
    ("spot", "kline_1m"): {"e": "kline", "s": None, "k.s": None, "k.i": "1m"},
}
"""Keys whose value follows from the stream's name, and so have no column; None stands for the symbol."""


def columns(market: str, channel: str) -> tuple[Column, ...]:
    """The columns of a channel's files, in order.

    Raises:
        ValueError: There is no such market, or the market has no such channel.
    """
    if market not in MARKETS:
        raise ValueError(f"unknown market {market!r}: one of {', '.join(MARKETS)}")
    body = _BODY.get((market, channel))
    if body is None:
        known = ", ".join(name for name in CHANNELS if (market, name) in _BODY)
        raise ValueError(f"unknown channel {channel!r} of market {market!r}: one of {known}")
    return (_RECEIVED, _EVENT, *body, _EXTRA)
