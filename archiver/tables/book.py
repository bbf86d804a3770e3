"""depth20 as columns: the levels of a whole minute are parsed at once.

That is the way of frames that differ in their digits only, whose levels are nothing but
`["<digits>.<digits>","<digits>.<digits>"]`; any other frame is taken by itself. A side becomes its best price and
quantity, the gaps from price to price (they repeat from frame to frame and so compress well) and the other quantities.
The scale of a minute is the coarsest that holds all its numbers; `*_text_decimals` remember the zeros that were cut.
"""

import json
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from archiver.alike import DIGITS, Alike, Integers
from archiver.tables.fixed_point import exact, text, without_zeros
from archiver.tables.header import Header, extra_text
from archiver.tables.minute_file import Values

_MARKS = (b'[".","."]', b'[".",""]', b'["","."]', b'["",""]')
_LARGEST = 2**61
_EXACT = 2**50
"""Up to this many units a float64 of the decimal, times its scale, rounds to the integer again."""
_LEVELS = msgspec.json.Decoder(list[tuple[str, str]])


class Keys(NamedTuple):
    """Where the two sides are in the payload."""

    bids: str
    asks: str


KEYS = {"um": Keys("b", "a"), "spot": Keys("bids", "asks")}


class Side(NamedTuple):
    """One side of the book of many frames: prices and quantities frame after frame, and each frame's share of them."""

    prices: Integers
    quantities: Integers
    counts: Integers


def _side_columns(name: str, side: Side, sign: int, decimals: tuple[int, int]) -> dict[str, pa.Array] | None:
    """The four columns of one side: the best price and quantity (float64), the gaps and the deeper quantities (lists).

    None if the best price or quantity has too many digits for a float64 to hold it.
    """
    filled = side.counts > 0
    firsts = (np.cumsum(side.counts) - side.counts)[filled]
    found: dict[str, pa.Array] = {}
    for kind, units, scale in (
        ("price", side.prices[firsts], 10.0 ** decimals[0]),
        ("quantity", side.quantities[firsts], 10.0 ** decimals[1]),
    ):
        best = np.zeros(len(side.counts))
        best[filled] = units / scale
        if np.any(np.abs(units) > _EXACT):
            return None
        found[f"best_{name}_{kind}"] = pa.array(best, mask=~filled)
    deeper = np.ones(len(side.prices), np.bool_)
    deeper[firsts] = False
    offsets = pa.array(np.append(0, np.cumsum(np.maximum(side.counts - 1, 0))).astype(np.int32))
    gaps = (np.diff(side.prices, prepend=0) * sign)[deeper]
    found[f"{name}_price_gaps"] = pa.ListArray.from_arrays(offsets, pa.array(gaps))
    found[f"deeper_{name}_quantities"] = pa.ListArray.from_arrays(offsets, pa.array(side.quantities[deeper]))
    return found


def _book(
    bids: Side, asks: Side, decimals: tuple[int, int], text_decimals: tuple[int, int]
) -> dict[str, pa.Array] | None:
    lower, upper = _side_columns("bid", bids, -1, decimals), _side_columns("ask", asks, 1, decimals)
    if lower is None or upper is None:
        return None
    found = lower | upper
    for n, group in enumerate(("price", "quantity")):
        found[f"{group}_decimals"] = pa.array(np.full(len(bids.counts), decimals[n], np.int8))
        found[f"{group}_text_decimals"] = pa.array(np.full(len(bids.counts), text_decimals[n], np.int8))
    return found


def encode_alike(header: Header, alike: Alike, payload: slice, keys: Keys) -> dict[str, Values] | None:
    """The columns of frames that differ in their digits only, and have the same decimals throughout.

    Args:
        header: The stream's.
        alike: Lines that hold a payload each.
        payload: Where it is in the first line.
        keys: Where the sides are.

    Returns:
        The columns but for those that are null throughout; None where the slow way has to look.
    """
    first, between = f',"{keys.bids}":[["'.encode(), f'"]],"{keys.asks}":[["'.encode()
    line = alike.first
    i = line.find(first, payload.start, payload.stop)
    j = line.find(between, i, payload.stop)
    k = line.find(b'"]]', j + 1, payload.stop)
    if i < 0 or j < 0 or k < 0:
        return None
    start, end = i + len(first) - 2, k + 2
    sides = line[start : j + 2], line[j + len(between) - 2 : end]
    levels = _levels(alike, alike.runs(start, end), b",".join(sides))
    values = header.decode_alike(alike, (slice(payload.start, i), slice(end + 1, payload.stop)))
    if levels is None or values is None:
        return None
    bids = sides[0].count(b"[")
    for name, sign, at in (("bid", -1, slice(bids)), ("ask", 1, slice(bids, None))):
        prices, quantities = levels.prices[:, at], levels.quantities[:, at]
        if max(prices[:, 0].max(), quantities[:, 0].max()) > _EXACT:
            return None
        values[f"best_{name}_price"] = prices[:, 0] / 10.0 ** levels.decimals[0]
        values[f"best_{name}_quantity"] = quantities[:, 0] / 10.0 ** levels.decimals[1]
        inner, outer = prices[:, :-1], prices[:, 1:]
        values[f"{name}_price_gaps"] = outer - inner if sign > 0 else inner - outer
        values[f"deeper_{name}_quantities"] = quantities[:, 1:]
    for n, group in enumerate(("price", "quantity")):
        values[f"{group}_decimals"] = levels.decimals[n]
        values[f"{group}_text_decimals"] = levels.text_decimals[n]
    return values


class _Levels(NamedTuple):
    """The numbers of both sides, the bids first; a row for each frame."""

    prices: Integers
    quantities: Integers
    decimals: tuple[int, int]
    text_decimals: tuple[int, int]


def _levels(alike: Alike, runs: range, first: bytes) -> _Levels | None:
    """The numbers of the levels, `["<price>","<quantity>"],...`, whose digits are these runs.

    `first` is the levels' text in the first line.
    """
    marks = first[: first.find(b"]") + 1].translate(None, DIGITS)
    levels = first.count(b"[")
    if marks not in _MARKS or first.translate(None, DIGITS) != b",".join([marks] * levels):
        return None
    points = [b"." in number for number in marks.split(b",")]
    step = 2 + sum(points)
    if len(runs) != levels * step:
        return None
    units, decimals, text_decimals = [], [0, 0], [0, 0]
    at = runs.start
    for n, has_point in enumerate(points):
        fractions = slice(at + 1, runs.stop, step) if has_point else None
        parsed = alike.decimals(slice(at, runs.stop, step), fractions)
        if parsed is None:
            return None
        numbers, text_decimals[n] = parsed
        decimals[n] = text_decimals[n]
        while decimals[n] and not (numbers[0] % 10).any() and not (numbers % 10).any():
            numbers, decimals[n] = numbers // 10, decimals[n] - 1
        units.append(numbers)
        at += 1 + has_point
    return _Levels(units[0], units[1], (decimals[0], decimals[1]), (text_decimals[0], text_decimals[1]))


def encode_slowly(header: Header, payload: bytes, keys: Keys) -> tuple[dict[str, Any], dict[str, Any]]:
    """One frame of any shape: the values by key, and its columns.

    Raises:
        ValueError: It cannot be typed without loss.
    """
    loose = header.decode_loosely(payload, keys)
    if not set(keys) <= loose.raw.keys():
        raise ValueError("a side of the book is missing")
    try:
        sides = [_LEVELS.decode(loose.raw[key]) for key in keys]
    except msgspec.DecodeError as error:
        raise ValueError(f"its levels are unusual: {error}") from error
    groups = [exact([level[n] for side in sides for level in side]) for n in (0, 1)]
    if not all(all(group.plain) for group in groups):
        for key in keys:
            header.keep(loose.extra, key, loose.raw[key])
    prices, price_decimals = without_zeros(groups[0].units, groups[0].decimals)
    quantities, quantity_decimals = without_zeros(groups[1].units, groups[1].decimals)
    if any(abs(unit) > _LARGEST for unit in (*prices, *quantities)):
        raise ValueError("a number does not fit into 64 bits")
    at = len(sides[0])
    bids, asks = (
        Side(np.array(p, np.int64), np.array(q, np.int64), np.array([len(p)]))
        for p, q in ((prices[:at], quantities[:at]), (prices[at:], quantities[at:]))
    )
    book = _book(bids, asks, (price_decimals, quantity_decimals), (groups[0].decimals, groups[1].decimals))
    if book is None:
        raise ValueError("the best price or quantity has more than 15 digits")
    return loose.values, book | {"extra": pa.array([extra_text(loose.extra)], pa.string())}


def _levels_of(row: dict[str, Any], name: str, sign: int) -> list[list[str]]:
    """The side of a row as the exchange sent it, `[["<price>","<quantity>"],...]`, from the row's columns."""
    if row[f"best_{name}_price"] is None:
        return []
    printed = row["price_text_decimals"], row["quantity_text_decimals"]
    price_cut = 10 ** (printed[0] - row["price_decimals"])
    quantity_cut = 10 ** (printed[1] - row["quantity_decimals"])
    price = round(row[f"best_{name}_price"] * 10.0 ** row["price_decimals"])
    best_quantity = round(row[f"best_{name}_quantity"] * 10.0 ** row["quantity_decimals"])
    quantities = [best_quantity, *row[f"deeper_{name}_quantities"]]
    levels = []
    for gap, quantity in zip([0, *row[f"{name}_price_gaps"]], quantities, strict=True):
        price += sign * gap
        levels.append([text(price * price_cut, printed[0]), text(quantity * quantity_cut, printed[1])])
    return levels


def values_of(row: dict[str, Any], keys: Keys) -> dict[str, Any]:
    """Both sides of a row, by key."""
    return {keys.bids: _levels_of(row, "bid", -1), keys.asks: _levels_of(row, "ask", 1)}


def as_json(extra: str | None) -> dict[str, Any]:
    """The `extra` column's value; an empty object for null."""
    return {} if extra is None else json.loads(extra)
