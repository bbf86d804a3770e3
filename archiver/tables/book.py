"""depth20 as columns: the levels of a whole minute are parsed at once.

A payload is cut into its header and the text of its levels. Joined, the level texts must be nothing but
`["<digits>.<digits>","<digits>.<digits>"]` (compared without their digits); then one pass parses all their numbers.
A side becomes its best price and quantity, the gaps from price to price (they repeat from frame to frame and so compress
well) and the other quantities.
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
    heads, texts, counts = [], [], []
    skip_first, skip_between = len(first) - 2, len(between) - 2
    for frame in frames:
        payload = frame.payload
        i = payload.find(first)
        j = payload.find(between, i)
        k = payload.find(b'"]]', j + 1)
        if i < 0 or j < 0 or k < 0:
            return None
        heads.append(payload[:i] + payload[k + 3 :])
        texts.append(payload[i + skip_first : j + 2])
        texts.append(payload[j + skip_between : k + 2])
        counts.append(payload.count(b"],[", i, j) + 1)
        counts.append(payload.count(b"],[", j + 4, k) + 1)
    values = header.decode(heads)
    parsed = _parse_levels(b",".join(texts), sum(counts)) if values is not None else None
    if values is None or parsed is None:
        return None
    numbers, decimals, text_decimals = parsed
    is_bid = np.repeat(np.arange(len(counts)) % 2 == 0, counts)
    shares = np.array(counts, np.int64).reshape(-1, 2)
    bids, asks = numbers[is_bid], numbers[~is_bid]
    book = _book(Side(bids[:, 0], bids[:, 1], shares[:, 0]), Side(asks[:, 0], asks[:, 1], shares[:, 1]), decimals, text_decimals)
    return values | book if book is not None else None


def _parse_levels(joined: bytes, levels: int) -> tuple[Integers, tuple[int, int], tuple[int, int]] | None:
    """The numbers of `["<price>","<quantity>"],...` as (levels, 2) integers, their decimals, and those printed."""
    marks = joined[: joined.find(b"]") + 1].translate(None, DIGITS)
    if marks not in _MARKS or joined.translate(None, DIGITS) + b"," != (marks + b",") * levels:
        return None
    characters = np.frombuffer(joined, np.uint8)
    quotes = np.flatnonzero(characters == ord('"')).reshape(levels, 2, 2)
    starts, ends = quotes[:, :, 0] + 1, quotes[:, :, 1]
    points = ends.copy()
    pointed = [n for n, number in enumerate(marks.split(b",")) if b"." in number]
    points[:, pointed] = np.flatnonzero(characters == ord(".")).reshape(levels, len(pointed))
    parsed = parse(characters, starts.ravel(), points.ravel(), ends.ravel(), joined.translate(None, b'[]",.'))
    if parsed is None:
        return None
    numbers, fraction = parsed[0].reshape(levels, 2).copy(), parsed[1].reshape(levels, 2)
    if (fraction != fraction[0]).any():
        return None
    cut = [0, 0]
    for n in (0, 1):
        while cut[n] < fraction[0, n] and (characters[ends[:, n] - 1 - cut[n]] == ord("0")).all():
            cut[n] += 1
        if cut[n]:
            numbers[:, n] //= 10 ** cut[n]
    price, quantity = int(fraction[0, 0]), int(fraction[0, 1])
    return numbers, (price - cut[0], quantity - cut[1]), (price, quantity)


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
    (prices, price_decimals), (quantities, quantity_decimals) = (without_zeros(group.units, group.decimals) for group in groups)
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
    quantities = [round(row[f"best_{name}_quantity"] * 10.0 ** row["quantity_decimals"]), *row[f"deeper_{name}_quantities"]]
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
