"""The values of a column as the bytes of a Parquet data page: levels in front, then values in some encoding.

Source: apache/parquet-format, Encodings.md and README.md ("Nested Encoding"). Only what our minute files hold: no null
among values, lists that all have the same length.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from archiver.tables.thrift import varint, zigzag

PLAIN, RLE, DELTA_BINARY_PACKED, BYTE_STREAM_SPLIT = 0, 3, 5, 9
_LEAST, _MOST = 128, 1024
"""Values of a block: a multiple of 128. One block for a usual minute costs as little as five, and less time."""


class Page(NamedTuple):
    """A page that is not compressed yet; `values` counts the nulls and the empty lists, too."""

    content: bytes
    values: int
    encoding: int


@lru_cache(maxsize=1024)
def _run(value: int, count: int) -> bytes:
    """Levels that are all alike, with their length in front."""
    run = varint(count << 1) + bytes((value,))
    return len(run).to_bytes(4, "little") + run


def flat(values: bytes, rows: int, encoding: int) -> Page:
    """A column without nulls."""
    return Page(_run(1, rows) + values, rows, encoding)


def nulls(rows: int) -> Page:
    """A column of nulls."""
    return Page(_run(0, rows), rows, PLAIN)


def lists(values: bytes, rows: int, length: int, encoding: int) -> Page:
    """A column of lists of one length; a list, its place in the row and its element may be null and are not."""
    if not length:
        return Page(_run(0, rows) + _run(1, rows), rows, PLAIN)
    return Page(_list_levels(rows, length) + values, rows * length, encoding)


@lru_cache(maxsize=256)
def _list_levels(rows: int, length: int) -> bytes:
    repeated = np.ones((rows, length), np.uint8)
    repeated[:, 0] = 0
    packed = np.packbits(repeated.reshape(-1), bitorder="little").tobytes()
    repetition = varint(len(packed) << 1 | 1) + packed
    return len(repetition).to_bytes(4, "little") + repetition + _run(3, rows * length)


def split(values: npt.NDArray[np.generic]) -> bytes:
    """BYTE_STREAM_SPLIT: the first byte of every value, then the second of every value, and so on."""
    return np.ascontiguousarray(values.reshape(-1).view(np.uint8).reshape(-1, values.itemsize).T).tobytes()


def differences(values: npt.NDArray[np.int64]) -> bytes:
    """DELTA_BINARY_PACKED: the steps from value to value, each block of them in as many bits as its widest takes.

    At least one value.
    """
    size = min(max(_LEAST, -(-(len(values) - 1) // _LEAST) * _LEAST), _MOST)
    head = varint(size) + b"\1" + varint(len(values)) + zigzag(int(values[0]))
    pieces = [head]
    steps = values[1:] - values[:-1]
    for at in range(0, len(steps), size):
        block = steps[at : at + size]
        least = block.min()
        above = np.zeros(size, np.uint64)
        above[: len(block)] = (block - least).view(np.uint64)
        width = int(above.max()).bit_length()
        pieces += [zigzag(int(least)), bytes((width,))]
        if width:
            bits = np.unpackbits(above.view(np.uint8).reshape(size, 8), axis=1, count=width, bitorder="little")
            pieces.append(np.packbits(bits.reshape(-1), bitorder="little").tobytes())
    return b"".join(pieces)
