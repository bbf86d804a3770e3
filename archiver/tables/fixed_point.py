"""Decimal texts as scaled integers: a fast way for a whole minute at once, and an exact one for what is unusual.

Both agree: what the fast way does not prove to be plain (`0.10`, never `00.1`, `.1`, `1e-1` or `-1`), it refuses.
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]

DIGITS = b"0123456789"
_POINT, _ZERO = ord("."), ord("0")
_MOST_DIGITS = 18  # any 18 digits fit into 64 bits
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)


class Exact(NamedTuple):
    """Some decimals on one scale.

    Attributes:
        units: The integers; value = unit / 10 ** decimals. Of any size.
        decimals: The scale: the most decimals that any of the texts has.
        plain: Whether `text(unit, decimals)` is the text, character for character.
    """

    units: list[int]
    decimals: int
    plain: list[bool]


def exact(texts: Sequence[str]) -> Exact:
    """Puts decimal texts on one scale, without loss.

    Raises:
        ValueError: One of the texts is not a finite decimal number.
    """
    for given in texts:
        if not _NUMBER.fullmatch(given):
            raise ValueError(f"not a decimal number: {given!r}")
    numbers = [Decimal(given).as_tuple() for given in texts]
    exponents = [int(number.exponent) for number in numbers]
    decimals = max([0, *(-exponent for exponent in exponents)])
    if decimals > 100:
        raise ValueError(f"{decimals} decimals are too many")
    units = []
    for number, exponent in zip(numbers, exponents, strict=True):
        unit = int("".join(map(str, number.digits))) * 10 ** (exponent + decimals)
        units.append(-unit if number.sign else unit)
    return Exact(units, decimals, [text(unit, decimals) == given for unit, given in zip(units, texts, strict=True)])


def text(unit: int, decimals: int) -> str:
    """The decimal as the exchange prints it: `text(2814510, 2)` is `28145.10`."""
    if decimals <= 0:
        return str(unit)
    digits = str(abs(unit)).rjust(decimals + 1, "0")
    return f"{'-' if unit < 0 else ''}{digits[:-decimals]}.{digits[-decimals:]}"


def without_zeros(units: Sequence[int], decimals: int) -> tuple[list[int], int]:
    """The same decimals on the coarsest scale that holds them all: the zeros that all of them end with are cut."""
    shrunk = list(units)
    while decimals > 0 and all(unit % 10 == 0 for unit in shrunk):
        shrunk, decimals = [unit // 10 for unit in shrunk], decimals - 1
    return shrunk, decimals


def parse(
    characters: npt.NDArray[np.uint8], starts: Integers, points: Integers, ends: Integers, digits: bytes
) -> tuple[Integers, Integers] | None:
    """Parses many plain decimals at once.

    Args:
        characters: The text that holds the numbers.
        starts: Where each number starts.
        points: Where its decimal point is; its end where it has none.
        ends: Where each number ends.
        digits: The digits of all numbers, in order, with nothing between them.

    Returns:
        The integers without the points, and how many decimals each has; None if one is not plain or too long.
    """
    whole = points - starts
    fraction = ends - points - 1
    pointless = fraction < 0
    if (whole < 1).any() or (fraction == 0).any() or ((characters[starts] == _ZERO) & (whole > 1)).any():
        return None
    fraction[pointless] = 0
    lengths = whole + fraction
    if lengths.max(initial=0) > _MOST_DIGITS:
        return None
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] != len(digits):
        return None
    buffers: list[Any] = [None, pa.py_buffer(offsets), pa.py_buffer(digits)]
    strings = pa.Array.from_buffers(pa.string(), len(lengths), buffers)
    return strings.cast(pa.int64()).to_numpy(), fraction


def parse_texts(texts: Sequence[str]) -> tuple[Integers, Integers] | None:
    """As `parse`, for a list of texts of which either all have a decimal point or none has."""
    joined = ",".join(texts).encode() + b","
    characters = np.frombuffer(joined, np.uint8)
    ends = np.flatnonzero(characters == ord(","))
    marks = joined.translate(None, DIGITS)
    if marks == b".," * len(texts):
        points = np.flatnonzero(characters == _POINT)
    elif marks == b"," * len(texts):
        points = ends
    else:
        return None
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    return parse(characters, starts, points, ends, joined.translate(None, b".,"))
