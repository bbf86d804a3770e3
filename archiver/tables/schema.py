"""The Arrow schema of a stream's Parquet files, with units and a format version in its metadata."""

import json
from collections.abc import Collection
from functools import lru_cache

import pyarrow as pa

from common.columns import FORMAT_VERSION, Column, Type, columns
from common.streams import Stream

_TYPES: dict[Type, pa.DataType] = {
    "time_ns": pa.timestamp("ns", "UTC"),
    "time_ms": pa.timestamp("ms", "UTC"),
    "int64": pa.int64(),
    "int16": pa.int16(),
    "int8": pa.int8(),
    "float64": pa.float64(),
    "text": pa.string(),
    "category": pa.string(),
    "bool": pa.bool_(),
    "list_int64": pa.list_(pa.int64()),
}


def arrow_type(column: Column) -> pa.DataType:
    """The column's Arrow type. Text of few values is plain text here: dictionary encoding is the file's business."""
    return _TYPES[column.type]


@lru_cache(maxsize=4096)
def schema(stream: Stream) -> pa.Schema:
    """The schema of the stream's tables.

    The metadata holds `maserver.format`, `maserver.stream` (the Redis key: market, channel and symbol) and
    `maserver.units`, a JSON list of the columns' units in their order (with names it would be a tenth of a minute).

    Raises:
        ValueError: The channel has no Parquet.
    """
    fields = columns(stream.market, stream.channel)
    return pa.schema(
        [pa.field(column.name, arrow_type(column)) for column in fields],
        metadata={
            "maserver.format": str(FORMAT_VERSION),
            "maserver.stream": stream.key,
            "maserver.units": json.dumps([column.unit for column in fields], separators=(",", ":")),
        },
    )


def narrowed(described: pa.Schema, wide: Collection[str]) -> pa.Schema:
    """The same schema with 32 bits a number in all lists but those that need 64: what files hold.

    Who reads widens again: pyarrow by `cast`, Polars by `ScanCastOptions`, DuckDB by itself.
    """
    for at, field in enumerate(described):
        if pa.types.is_list(field.type) and field.name not in wide:
            described = described.set(at, field.with_type(pa.list_(pa.int32())))
    return described


def stream_of(described: pa.Schema) -> Stream:
    """The stream that a table's schema names.

    Raises:
        ValueError: The table is none of the archive, or of a later format.
    """
    metadata = described.metadata or {}
    key, version = metadata.get(b"maserver.stream"), metadata.get(b"maserver.format")
    if key is None or version is None:
        raise ValueError("not a Parquet file of the archive: its metadata names no stream")
    if int(version) > FORMAT_VERSION:
        raise ValueError(f"Parquet format {int(version)} is newer than this program's {FORMAT_VERSION}")
    return Stream.from_key(key.decode())
