"""The channels without lists (aggTrade, markPrice, forceOrder, bookTicker, kline_1m) as columns.

The decimals of one group (prices, quantities, ...) share a scale in each row. Where the exchange prints them unlike
each other, the odd ones keep their text in `extra` beside their value.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from archiver.tables.fixed_point import exact, parse_texts, text, without_zeros
from archiver.tables.header import Header, extra_text
from common.columns import Column

_LARGEST = 2**63 - 1


def groups(header: Header) -> dict[str, list[Column]]:
    """The scaled columns of each group."""
    found: dict[str, list[Column]] = {}
    for column in header.columns.values():
        if column.group:
            found.setdefault(column.group, []).append(column)
    return found


def encode_fast(header: Header, payloads: Sequence[bytes]) -> dict[str, Any] | None:
    """The columns of payloads of the usual shape; None if one is unusual."""
    values = header.decode(payloads)
    if values is None:
        return None
    found: dict[str, Any] = {}
    for group, members in groups(header).items():
        decimals = None
        for column in members:
            texts = values.pop(column.key)
            if texts.count(None) == len(texts):
                continue
            parsed = None if None in texts else parse_texts(texts)
            if parsed is None or (decimals is not None and not np.array_equal(decimals, parsed[1])):
                return None
            decimals = parsed[1]
            found[column.name] = pa.array(parsed[0])
            found[column.name.removesuffix("_scaled")] = pa.array(parsed[0] / 10.0**decimals)
        if decimals is not None:
            found[f"{group}_decimals"] = pa.array(decimals.astype(np.int8))
    return found | values


def encode_slowly(header: Header, payload: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """One payload of any shape: the values by key, and its columns.

    Raises:
        ValueError: It cannot be typed without loss.
    """
    loose = header.decode_loosely(payload)
    found: dict[str, Any] = {}
    for group, members in groups(header).items():
        given = {column: loose.values.pop(column.key) for column in members if column.key in loose.values}
        texts: dict[Column, str] = {}
        for column, number in given.items():
            try:
                exact([number])
            except ValueError:
                if column.required:
                    raise
                header.keep(loose.extra, column.key, loose.raw[column.key])
            else:
                texts[column] = number
        if not texts:
            continue
        scaled = exact(list(texts.values()))
        units, decimals = scaled.units, scaled.decimals
        if any(abs(unit) > _LARGEST for unit in units):
            units, decimals = without_zeros(units, decimals)
        if any(abs(unit) > _LARGEST for unit in units):
            raise ValueError("a number does not fit into 64 bits")
        for (column, number), unit in zip(texts.items(), units, strict=True):
            found[column.name] = pa.array([unit], pa.int64())
            found[column.name.removesuffix("_scaled")] = pa.array([unit / 10**decimals])
            if text(unit, decimals) != number:
                header.keep(loose.extra, column.key, loose.raw[column.key])
        found[f"{group}_decimals"] = pa.array([decimals], pa.int8())
    return loose.values, found | {"extra": pa.array([extra_text(loose.extra)], pa.string())}


def values_of(row: dict[str, Any], header: Header) -> dict[str, Any]:
    """The row's decimals as the exchange printed them, by key."""
    found = {}
    for group, members in groups(header).items():
        for column in members:
            unit = row[column.name]
            if unit is not None:
                found[column.key] = text(unit, row[f"{group}_decimals"])
    return found
