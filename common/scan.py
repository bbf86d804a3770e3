"""The one-line reader: `scan("um", "depth20", "BTCUSDT", "2026-11-21", "2026-11-22")` is a Polars LazyFrame.

A day file is preferred over the minutes that it holds; minutes beside it are late frames and are added, without those
that are in it already. Files are chosen by their names, so an hour of a month opens one file. Rows come in the order of
the files: sorted by receive time inside each; neighbouring minutes, which are filed by exchange time, may interleave.
Polars is needed here only, and only by those who read: no service that records imports this module.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import polars as pl

from common.channels import is_timed
from common.clock import DAY_NS, MINUTE_NS, SECOND_NS
from common.columns import Type, columns
from common.paths import Minute, day_of, folder, parquet_day, parquet_minute
from common.streams import Stream

Instant = datetime | date | str
"""A time (without a zone: UTC); a date is its midnight; a text is ISO-8601: `2026-11-21T03:27`."""

DECIMAL = pl.Decimal(38, 12)

_TYPES: dict[Type, pl.DataType] = {
    "time_ns": pl.Datetime("ns", "UTC"),
    "time_ms": pl.Datetime("ms", "UTC"),
    "int64": pl.Int64(),
    "int16": pl.Int16(),
    "int8": pl.Int8(),
    "float64": pl.Float64(),
    "text": pl.String(),
    "category": pl.String(),
    "bool": pl.Boolean(),
    "list_int64": pl.List(pl.Int64()),
}
_NAMED = ["connection", "counter"]


def schema(market: str, channel: str) -> pl.Schema:
    """The columns that `scan` gives.

    Raises:
        ValueError: There is no such market, or the market has no such channel.
    """
    return pl.Schema({column.name: _TYPES[column.type] for column in columns(market, channel)})


def scan(
    market: str, channel: str, symbol: str, start: Instant, end: Instant, *, data_dir: str | Path = "data"
) -> pl.LazyFrame:
    """The rows of one stream in [start, end).

    Args:
        market: `um` or `spot`.
        channel: For example `depth20`; its columns are in docs/parquet.md.
        symbol: For example `BTCUSDT`.
        start: The first instant: of the exchange's event time; of the receive time in a channel without one.
        end: The first instant that is not included.
        data_dir: The archive.

    Returns:
        The rows, lazily; no rows and all columns if nothing was recorded.

    Raises:
        ValueError: An unknown market or channel, a text that is no time, or an end before the start.
    """
    described = schema(market, channel)
    start_ns, end_ns = _ns(start), _ns(end)
    if end_ns < start_ns:
        raise ValueError(f"the end {end} is before the start {start}")
    stream = Stream(market, channel, symbol)
    inside = _inside(is_timed(market, channel), start_ns, end_ns)
    parts = [
        frame
        for day_start in range(start_ns // DAY_NS * DAY_NS, end_ns, DAY_NS)
        if (frame := _day(Path(data_dir), stream, (day_start, start_ns, end_ns), described, inside)) is not None
    ]
    return pl.concat(parts) if parts else pl.LazyFrame(schema=described)


def _day(
    data: Path, stream: Stream, at: tuple[int, int, int], described: pl.Schema, inside: pl.Expr
) -> pl.LazyFrame | None:
    """The rows of one day; None if it has none."""
    day_start, start_ns, end_ns = at
    bundled = data / parquet_day(stream, day_of(day_start))
    minutes = list(_minutes(data, stream, max(day_start, start_ns), min(day_start + DAY_NS, end_ns)))
    loose = _open(minutes, described).filter(inside) if minutes else None
    if not bundled.exists():
        return loose
    day = _open([bundled], described).filter(inside)
    if loose is None:
        return day
    late = loose.join(day.select(_NAMED), on=_NAMED, how="anti")
    return pl.concat([day, late]).sort("receive_time", *_NAMED)


def _open(files: list[Path], described: pl.Schema) -> pl.LazyFrame:
    return pl.scan_parquet(
        files,
        schema=described,
        glob=False,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(integer_cast="upcast"),  # lists have 32 bits a number where that is enough
    )


def _minutes(data: Path, stream: Stream, start_ns: int, end_ns: int) -> Iterator[Path]:
    """The minute files of one day that may hold rows of the interval."""
    day = data / folder("parquet", stream) / day_of(start_ns).isoformat()
    found = {path.name for path in day.glob("??-??.parquet")}
    for number in range(start_ns // MINUTE_NS, -(-end_ns // MINUTE_NS)):
        path = data / parquet_minute(Minute(stream, number))
        if path.name in found:
            yield path


def _inside(timed: bool, start_ns: int, end_ns: int) -> pl.Expr:
    received = _between("receive_time", start_ns, end_ns)
    if not timed:
        return received
    return _between("exchange_time", start_ns, end_ns) | (pl.col("exchange_time").is_null() & received)


def _between(name: str, start_ns: int, end_ns: int) -> pl.Expr:
    unit: pl.DataType = pl.Datetime("ns", "UTC")
    first, last = start_ns, end_ns
    if name == "exchange_time":  # whole ms: a bound inside one excludes it at the start and includes it at the end
        unit, first, last = pl.Datetime("ms", "UTC"), -(-start_ns // 1_000_000), -(-end_ns // 1_000_000)
    return (pl.col(name) >= pl.lit(first).cast(unit)) & (pl.col(name) < pl.lit(last).cast(unit))


def _ns(at: Instant) -> int:
    """Since 1970.

    Raises:
        ValueError: A text that is no time.
    """
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError as error:
            raise ValueError(f"not an ISO-8601 time: {at!r}") from error
    if not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day, tzinfo=UTC)
    elapsed = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return elapsed // timedelta(microseconds=1) * (SECOND_NS // 1_000_000)


def with_levels(frame: pl.LazyFrame, levels: int = 20, as_: type[float] | type[Decimal] = float) -> pl.LazyFrame:
    """Adds the lists `bid_prices`, `bid_quantities`, `ask_prices` and `ask_quantities` to rows of depth20, best first.

    Args:
        frame: As `scan` gives it.
        levels: How many levels of each side at most.
        as_: `float`, each the float64 nearest to the exchange's decimal, or `Decimal`, exact with 12 decimals.
    """
    return frame.with_columns(prices_of(side, levels, as_) for side in ("bid", "ask")).with_columns(
        quantities_of(side, levels, as_) for side in ("bid", "ask")
    )


def prices_of(side: str, levels: int = 20, as_: type[float] | type[Decimal] = float) -> pl.Expr:
    """The prices of one side (`bid` or `ask`) of depth20, best first, as a list; empty where the side is."""
    best = _units(f"best_{side}_price", "price_decimals")
    gaps = pl.col(f"{side}_price_gaps").list.head(max(levels - 1, 0))
    steps = pl.concat_list(pl.lit(0, pl.Int64), gaps).list.eval(pl.element().cum_sum())
    return _scaled(best - steps if side == "bid" else best + steps, side, "price", levels, as_).alias(f"{side}_prices")


def quantities_of(side: str, levels: int = 20, as_: type[float] | type[Decimal] = float) -> pl.Expr:
    """The quantities of one side (`bid` or `ask`) of depth20, best first, as a list; empty where the side is."""
    best = _units(f"best_{side}_quantity", "quantity_decimals")
    lots = pl.concat_list(best, pl.col(f"deeper_{side}_quantities").list.head(max(levels - 1, 0)))
    return _scaled(lots, side, "quantity", levels, as_).alias(f"{side}_quantities")


def _units(name: str, decimals: str) -> pl.Expr:
    return (pl.col(name) * 10.0 ** pl.col(decimals)).round().cast(pl.Int64)


def _scaled(units: pl.Expr, side: str, group: str, levels: int, as_: type[float] | type[Decimal]) -> pl.Expr:
    """Integers to their decimals."""
    decimals = pl.col(f"{group}_decimals")
    number: pl.DataType = pl.Float64() if as_ is float else DECIMAL
    empty = pl.lit([], pl.List(number))
    is_empty = pl.col(f"best_{side}_price").is_null() | (pl.lit(levels) < 1)
    if as_ is float:
        return pl.when(is_empty).then(empty).otherwise(units / (10.0**decimals))
    exact: Any = pl.when(is_empty).then(empty)
    for scale in range(13):
        unit = pl.lit(Decimal(10**scale)).cast(DECIMAL)
        exact = exact.when(decimals == scale).then(units.list.eval(pl.element().cast(DECIMAL) / unit))
    return cast(pl.Expr, exact.otherwise(pl.lit(None, pl.List(number))))
