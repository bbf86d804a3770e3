"""depth20 as columns: the levels of a whole minute are parsed at once.

A payload is cut into its header and the text of its levels. Joined, the level texts must be nothing but
`["<digits>.<digits>","<digits>.<digits>"]` (compared without their digits); then one pass parses all their numbers.
A side becomes its best price and quantity, the gaps from price to price (they repeat from frame to frame and so
compress well) and the other quantities.
The scale of a minute is the coarsest that holds all its numbers; `*_text_decimals` remember the zeros that were cut.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from archiver.tables.fixed_point import DIGITS, Integers, exact, parse, text, without_zeros
from archiver.tables.header import Header, extra_text
from common.frame import Frame

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


def encode_fast(header: Header, frames: Sequence[Frame], keys: Keys) -> dict[str, Any] | None:
    """The columns of frames of the usual shape, with the same decimals throughout; None if one is unusual."""
    first, between = f',"{keys.bids}":[["'.encode(), f'"]],"{keys.asks}":[["'.encode()
    skip_first, skip_between = len(first) - 2, len(between) - 2
    heads, bid_texts, ask_texts = [], [], []
    for frame in frames:
        payload = frame.payload
        i = payload.find(first)
        j = payload.find(between, i)
        k = payload.find(b'"]]', j + 1)
        if i < 0 or j < 0 or k < 0:
            return None
        heads.append(payload[:i] + payload[k + 3 :])
        bid_texts.append(payload[i + skip_first : j + 2])
        ask_texts.append(payload[j + skip_between : k + 2])
    values = header.decode(heads)
    if values is None:
        return None
    parsed = _parse_levels(bid_texts + ask_texts)
    if parsed is None:
        return None
    prices, quantities, counts, decimals, text_decimals = parsed
    bids, asks = counts[: len(frames)], counts[len(frames) :]
    at = int(bids.sum())
    book = _book(
        Side(prices[:at], quantities[:at], bids), Side(prices[at:], quantities[at:], asks), decimals, text_decimals
    )
    return None if book is None else values | book


class _Levels(NamedTuple):
    prices: Integers
    quantities: Integers
    counts: Integers
    decimals: tuple[int, int]
    text_decimals: tuple[int, int]


def _parse_levels(sides: list[bytes]) -> _Levels | None:
    """The numbers of many sides, each `["<price>","<quantity>"],...`, and how many levels each side has."""
    joined = b",".join(sides)
    marks = joined[: joined.find(b"]") + 1].translate(None, DIGITS)
    skeleton = joined.translate(None, DIGITS)
    levels = (len(skeleton) + 1) // (len(marks) + 1)
    if marks not in _MARKS or skeleton != ((marks + b",") * levels)[:-1]:
        return None
    characters = np.frombuffer(joined, np.uint8)
    quotes = np.flatnonzero(characters == ord('"'))
    borders = np.cumsum(np.fromiter(map(len, sides), np.int64, len(sides)) + 1)
    counts = np.diff(np.searchsorted(quotes, borders) // 4, prepend=0)
    starts, ends = quotes[0::2] + 1, quotes[1::2]
    points = ends.copy()
    fraction = [0, 0]
    for n, number in enumerate(marks.split(b",")):
        if b"." in number:
            # each number has its one point (`marks`): if it is as far from the end as the first, all decimals are alike
            fraction[n] = int(ends[n]) - 1 - joined.index(b".", starts[n])
            points[n::2] -= fraction[n] + 1
            if (characters[points[n::2]] != ord(".")).any():
                return None
    parsed = parse(characters, starts, points, ends, joined.translate(None, b'[]",.'))
    if parsed is None:
        return None
    cut = [0, 0]
    units = []
    for n in (0, 1):
        while cut[n] < fraction[n] and (characters[ends[n::2] - 1 - cut[n]] == ord("0")).all():
            cut[n] += 1
        units.append(parsed[0][n::2] // 10 ** cut[n])
    decimals = fraction[0] - cut[0], fraction[1] - cut[1]
    return _Levels(units[0], units[1], counts, decimals, (fraction[0], fraction[1]))


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
