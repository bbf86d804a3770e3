"""The Parquet file of a plain minute of depth20, written byte by byte.

pyarrow takes 2 ms to open and close a file of 23 columns, whatever is in it: with a file a minute and symbol that is as
much as all the rest of typing it. Here the footer's pieces that never change are made once for a kind of file, and its
statistics are left out but for the receive time, which `write_day` sorts by. What is written is plain Parquet (format
2.6): one row group, one page a column, zstd. Source: apache/parquet-format, src/main/thrift/parquet.thrift.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import zstandard

from archiver.tables import pages
from archiver.tables.pages import Page
from archiver.tables.thrift import TRUE, Field, after, binary, i32, i64, listed, struct, zigzag
from common.columns import Column, columns
from common.streams import Stream

Values = npt.NDArray[np.int64] | npt.NDArray[np.float64] | int | str | None
"""A column: a number for each row, a list of numbers for each row (two dimensions), or one value for all rows."""

_MAGIC = b"PAR1"
_INT32, _INT64, _DOUBLE, _BYTE_ARRAY = 1, 2, 5, 6
_OPTIONAL, _REPEATED = 1, 2
_UTF8, _LIST, _INT_8 = 0, 3, 15
_UNCOMPRESSED, _ZSTD = 0, 6


def _timestamp(unit: int) -> Field:
    """The logical type TIMESTAMP, in UTC. The other types have their old name, which is shorter and says the same."""
    return struct([(8, struct([(1, TRUE), (2, struct([(unit, struct([]))]))]))])


_TIMES = {"time_ms": _timestamp(1), "time_ns": _timestamp(3)}

_zstd = zstandard.ZstdCompressor(
    compression_params=zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_GREEDY, window_log=17, hash_log=12, chain_log=12, search_log=3, min_match=5
    )
)
"""Pages are small, and so are these tables: no page waits for large ones to be cleared. Measured on recorded books: a
third less time than level 6 for 2 % more bytes, and better than level 5 in both. The day's file stays, and has level 7.
pyarrow's codec makes a context for each page, which is a fifth of the time."""
_NARROW = 2**31 - 1


_ENCODINGS = {
    encoding: listed([i32(encoding), i32(pages.RLE)])
    for encoding in (pages.PLAIN, pages.DELTA_BINARY_PACKED, pages.BYTE_STREAM_SPLIT)
}


def render(stream: Stream, rows: int, values: Mapping[str, Values], notes: Mapping[bytes, bytes]) -> list[bytes]:
    """The pieces of a file.

    Args:
        stream: The rows' stream.
        rows: How many; at least one.
        values: Of each column that is not null throughout.
        notes: The file's metadata.
    """
    fields = columns(stream.market, stream.channel)
    wide = frozenset(column.name for column in fields if _is_wide(column, values.get(column.name)))
    kind = _kind(stream.market, stream.channel, wide)
    pieces = [_MAGIC]
    chunks = []
    offset, total = len(_MAGIC), 0
    for column, described in zip(fields, kind.chunks, strict=True):
        given = values.get(column.name)
        packed = (
            _array(column, given, column.name in wide) if isinstance(given, np.ndarray) else _same(column, given, rows)
        )
        statistics = _range(given) if column.name == "receive_time" else b""
        chunks.append(described.chunk(packed, offset, statistics))
        pieces += (packed.head, packed.content)
        offset += packed.file_bytes
        total += packed.full_bytes
    group = struct([(1, listed(chunks)), (2, i64(total)), (3, i64(rows))])
    keys = [struct([(1, binary(key)), (2, binary(value))]) for key, value in notes.items()]
    footer = struct([(1, i32(2)), (2, kind.schema), (3, i64(rows)), (4, listed([group])), (5, listed(keys))])
    return [*pieces, footer, len(footer).to_bytes(4, "little"), _MAGIC]


class _Packed(NamedTuple):
    """A page as it stands in the file."""

    head: bytes
    content: bytes
    page: Page
    codec: int

    @property
    def file_bytes(self) -> int:
        return len(self.head) + len(self.content)

    @property
    def full_bytes(self) -> int:
        return len(self.head) + len(self.page.content)


def _pack(page: Page) -> _Packed:
    packed, codec = _zstd.compress(page.content), _ZSTD
    if len(packed) >= len(page.content):
        packed, codec = page.content, _UNCOMPRESSED
    sizes = zigzag(len(page.content)), zigzag(len(packed))
    head = b"".join([_PAGE, sizes[0], _NEXT_I32, sizes[1], _described(page.values, page.encoding)])
    return _Packed(head, packed, page, codec)


_PAGE, _NEXT_I32 = struct([(1, i32(0)), (2, i32(0))])[:3], struct([(1, i32(0))])[:1]
"""What is before and between the two sizes in the head of a page."""


@lru_cache(maxsize=1024)
def _described(values: int, encoding: int) -> bytes:
    """What follows them."""
    described = struct([(1, i32(values)), (2, i32(encoding)), (3, i32(pages.RLE)), (4, i32(pages.RLE))])
    return after(3, 5, described) + b"\0"


@lru_cache(maxsize=4096)
def _same(column: Column, value: float | str | None, rows: int) -> _Packed:
    """A column of which all rows are alike: most of the columns of most minutes."""
    if value is None:
        return _pack(pages.nulls(rows))
    if isinstance(value, str):
        text = value.encode()
        return _pack(pages.flat((len(text).to_bytes(4, "little") + text) * rows, rows, pages.PLAIN))
    return _array(column, np.full(rows, value), False)


def _array(column: Column, values: npt.NDArray[np.int64] | npt.NDArray[np.float64], wide: bool) -> _Packed:
    rows = len(values)
    if values.ndim == 2:
        numbers = values if wide else values.astype(np.int32)
        if column.name.endswith("_gaps"):  # mostly one byte; the quantities repeat from frame to frame, so stay whole
            return _pack(pages.lists(pages.split(numbers), rows, values.shape[1], pages.BYTE_STREAM_SPLIT))
        return _pack(pages.lists(numbers.tobytes(), rows, values.shape[1], pages.PLAIN))
    if column.type == "float64":
        return _pack(pages.flat(values.tobytes(), rows, pages.PLAIN))
    return _pack(pages.flat(pages.differences(values.astype(np.int64, copy=False)), rows, pages.DELTA_BINARY_PACKED))


def _range(values: Values) -> bytes:
    """The statistics of a column of 64 bits, as a field that follows number 9."""
    if not isinstance(values, np.ndarray):
        return b""
    low, high = (binary(int(value).to_bytes(8, "little", signed=True)) for value in (values.min(), values.max()))
    return after(9, 12, struct([(1, high), (2, low)]))


class _Chunk(NamedTuple):
    """The parts of a column's metadata that are the same in each file."""

    type: Field
    path: Field

    def chunk(self, packed: _Packed, offset: int, statistics: bytes) -> Field:
        """The metadata of a page that stands at an offset of the file."""
        head = _chunk_head(self, packed.page.encoding, packed.codec, packed.page.values)
        sizes = zigzag(packed.full_bytes), zigzag(packed.file_bytes), zigzag(offset)
        fields = head, _NEXT_I64, sizes[0], _NEXT_I64, sizes[1], _NEXT_BUT_ONE_I64, sizes[2], statistics, _ENDS
        return Field(head.type, b"".join(fields))


_NEXT_I64, _NEXT_BUT_ONE_I64 = after(5, 6, i64(0))[:1], after(7, 9, i64(0))[:1]
_ENDS = b"\0\0"
"""Of the metadata and of what holds it."""


@lru_cache(maxsize=4096)
def _chunk_head(chunk: _Chunk, encoding: int, codec: int, values: int) -> Field:
    """A column's metadata up to its fifth field."""
    known = [(1, chunk.type), (2, _ENCODINGS[encoding]), (3, chunk.path), (4, i32(codec)), (5, i64(values))]
    whole = struct([(2, i64(0)), (3, struct(known))])
    return Field(whole.type, whole[:-2])


class _Kind(NamedTuple):
    """What the files of a channel have in common."""

    schema: Field
    chunks: Sequence[_Chunk]


@lru_cache(maxsize=64)
def _kind(market: str, channel: str, wide: frozenset[str]) -> _Kind:
    fields = columns(market, channel)
    elements = [struct([(4, binary(b"schema")), (5, i32(len(fields)))])]
    chunks = []
    for column in fields:
        type_ = _physical(column, column.name in wide)
        path = [column.name]
        if column.type == "list_int64":
            path += ["list", "element"]
            elements += [
                struct([(3, i32(_OPTIONAL)), (4, binary(column.name.encode())), (5, i32(1)), (6, i32(_LIST))]),
                struct([(3, i32(_REPEATED)), (4, binary(b"list")), (5, i32(1))]),
            ]
        known = [(1, i32(type_)), (3, i32(_OPTIONAL)), (4, binary(path[-1].encode()))]
        if column.type in _CONVERTED:
            known.append((6, i32(_CONVERTED[column.type])))
        if column.type in _TIMES:
            known.append((10, _TIMES[column.type]))
        elements.append(struct(known))
        chunks.append(_Chunk(i32(type_), listed([binary(each.encode()) for each in path])))
    return _Kind(listed(elements), chunks)


_CONVERTED = {"text": _UTF8, "category": _UTF8, "int8": _INT_8}


def _physical(column: Column, wide: bool) -> int:
    if column.type in ("text", "category"):
        return _BYTE_ARRAY
    if column.type == "float64":
        return _DOUBLE
    return _INT32 if column.type == "int8" or (column.type == "list_int64" and not wide) else _INT64


def _is_wide(column: Column, values: Values) -> bool:
    """Whether a column of lists needs 64 bits a number."""
    if column.type != "list_int64" or not isinstance(values, np.ndarray):
        return False
    return bool(max(values.max(initial=0), -values.min(initial=0)) > _NARROW)
