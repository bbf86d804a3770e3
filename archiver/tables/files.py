"""The Parquet files: how a minute is written and read, and how a day is put together from its minutes.

Chosen by measure (docs/parquet.md): times and ids as differences, the gaps of a book in byte streams (each byte of the
integers apart), its quantities plain, with 32 bits a number where all fit, its best prices and quantities plain,
everything that repeats in dictionaries; zstd level 7. A plain minute has a writer of its own, `minute_file`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archiver.tables import minute_file
from archiver.tables.minute_file import Values
from archiver.tables.schema import narrowed, schema, stream_of
from common.columns import Column, columns
from common.streams import Stream

ZSTD_LEVEL = 7
GROUP_ROWS = 18_000
"""Rows in a row group: half an hour of depth20. A reader skips whole groups by their statistics, and a day is put
together in the memory of a few."""

_PRUNED = {
    *("receive_time", "exchange_time", "transaction_time", "trade_time", "open_time", "counter"),
    *("final_update_id", "update_id", "aggregate_id"),
    *("price", "mark_price", "close"),
}
"""The columns that queries filter by; statistics of the others would be a tenth of a minute's file."""

_ORDER = [("receive_time", "ascending"), ("connection", "ascending"), ("counter", "ascending")]


def write(table: pa.Table, path: Path) -> None:
    """Writes a minute's table; the caller makes it durable and renames it."""
    described = narrowed(table.schema, _wide(table))
    with _writer(path, described) as writer:
        writer.write_table(table.cast(described), row_group_size=GROUP_ROWS)


def write_plain(
    stream: Stream, rows: int, values: Mapping[str, Values], notes: Mapping[bytes, bytes], path: Path
) -> int:
    """Writes the table of a plain minute, as `encode_plain` gives it; returns the file's size in bytes."""
    described = schema(stream).metadata
    with path.open("wb") as file:
        return file.write(b"".join(minute_file.render(stream, rows, values, {**described, **notes})))


def read(path: Path) -> pa.Table:
    """Reads a file of the archive, with its metadata.

    Raises:
        ValueError: It is none of the archive, or of a later format.
    """
    with pq.ParquetFile(path) as file:
        table = file.read()
    return table.cast(schema(stream_of(table.schema)))


def write_day(minutes: Sequence[Path], out: Path) -> int:
    """Puts files together into one, sorted by receive time, connection and counter.

    Frames are filed by exchange minute, so the receive times of neighbouring files interleave. Row groups are read in
    the order of their first receive time and only what may still be preceded is carried on: some minutes of rows.

    Args:
        minutes: The minute files, and for a day that was bundled before and got late frames also its day file.
        out: Where to write; the caller makes it durable and renames it.

    Returns:
        How many rows were written: as many as the files hold.

    Raises:
        ValueError: There is no file, or one is none of the archive or of another stream.
        OSError: What was read back is not as much as was read.
    """
    if not minutes:
        raise ValueError("a day needs at least one minute")
    footers = [_footer(place, path) for place, path in enumerate(minutes)]
    described = narrowed(schema(stream_of(pq.read_schema(minutes[0]))), set().union(*(each.wide for each in footers)))
    with _writer(out, described) as writer:
        for table in _in_groups(_in_order(sorted(group for each in footers for group in each.groups), described)):
            writer.write_table(table.combine_chunks(), row_group_size=GROUP_ROWS)
    expected, written = sum(each.rows for each in footers), int(pq.read_metadata(out).num_rows)
    if written != expected:
        raise OSError(f"{out}: {written} of {expected} rows were written")
    return written


class _Group(NamedTuple):
    """A row group of a file: sorted in itself."""

    first_receive_ns: int
    place: int
    path: Path
    number: int


class _Footer(NamedTuple):
    """What a file holds: its rows, its row groups, and the lists that need 64 bits a number."""

    rows: int
    groups: list[_Group]
    wide: set[str]


def _footer(place: int, path: Path) -> _Footer:
    footer = pq.read_metadata(path)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    wide = {
        each.path.partition(".")[0]
        for each in map(footer.schema.column, range(footer.num_columns))
        if each.max_repetition_level and each.physical_type == "INT64"
    }
    found = [
        _Group(group.column(0).statistics.min_raw, place, path, number)
        for number, group in enumerate(groups)
        if group.num_rows
    ]
    return _Footer(footer.num_rows, found, wide)


def _wide(table: pa.Table) -> set[str]:
    """The lists that need 64 bits a number."""
    found = set()
    for field in table.schema:
        if pa.types.is_list(field.type):
            bounds = pc.min_max(pc.list_flatten(table.column(field.name))).as_py()
            if bounds["min"] is not None and not -(2**31) <= bounds["min"] <= bounds["max"] < 2**31:
                found.add(field.name)
    return found


def _in_order(groups: Sequence[_Group], described: pa.Schema) -> Iterator[pa.Table]:
    """Tables that follow one another, from row groups that overlap: what is before every later group is complete.

    The groups are in the order of their first receive times.
    """
    borders = [group.first_receive_ns for group in groups[1:]]
    carried = described.empty_table()
    for group, border in zip_longest(groups, borders):
        with pq.ParquetFile(group.path) as file:
            table = file.read_row_group(group.number)
        if stream_of(table.schema) != stream_of(described):
            raise ValueError(f"{group.path} is of {stream_of(table.schema).key}, not of {stream_of(described).key}")
        carried = pa.concat_tables([carried, table.cast(described)]).sort_by(_ORDER)
        done = carried.num_rows
        if border is not None:
            done = pc.sum(pc.less(carried.column("receive_time").cast(pa.int64()), border)).as_py() or 0
        yield carried.slice(0, done)
        carried = carried.slice(done)


def _in_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, in tables of the size of a row group."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        while rows >= GROUP_ROWS:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, GROUP_ROWS)
            waiting, rows = [joined.slice(GROUP_ROWS)], rows - GROUP_ROWS
    if rows:
        yield pa.concat_tables(waiting)


def _writer(path: Path, described: pa.Schema) -> pq.ParquetWriter:
    stream = stream_of(described)
    fields = columns(stream.market, stream.channel)
    encodings = {_leaf(column): encoding for column in fields if (encoding := _encoding(column, stream.channel))}
    writer = pq.ParquetWriter(
        path,
        described,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        use_dictionary=[column.name for column in fields if _leaf(column) not in encodings and column.type != "bool"],
        column_encoding=encodings,
        write_statistics=[column.name for column in fields if column.name in _PRUNED],
        store_schema=False,
    )
    writer.add_key_value_metadata(described.metadata)
    return writer


def _leaf(column: Column) -> str:
    """What Parquet calls the column that holds the values."""
    return f"{column.name}.list.element" if column.type == "list_int64" else column.name


def _encoding(column: Column, channel: str) -> str | None:
    """None is a dictionary."""
    if column.type == "list_int64":
        return "BYTE_STREAM_SPLIT" if column.name.endswith("_gaps") else "PLAIN"
    if column.type in ("time_ns", "time_ms") or (column.type == "int64" and not column.group):
        return "DELTA_BINARY_PACKED"
    if column.type == "int8" or (column.type == "float64" and channel == "depth20"):
        return "PLAIN"
    return None
