"""Frames to a typed table and back, value for value.

A batch takes the fast way as a whole; if one of its frames is unusual the batch is split, by the frames' shapes or in
halves, until the unusual ones stand alone: a single odd frame costs little, a tick-size change splits the minute in
two. What cannot be typed without loss is refused: such a frame stays in the raw file only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from archiver.alike import DIGITS, Alike
from archiver.plain import Plain
from archiver.tables import book, scalars
from archiver.tables.header import Header, header
from archiver.tables.minute_file import Values
from archiver.tables.schema import schema, stream_of
from common.frame import Frame
from common.streams import Stream

_FEW = 8
"""Below this many frames halving costs more than going one by one."""


class Encoded(NamedTuple):
    """The typed form of some frames.

    Attributes:
        table: One row for each frame that is not rejected, in the frames' order.
        rejected: The places of the frames that cannot be typed without loss.
    """

    table: pa.Table
    rejected: list[int]


def encode(stream: Stream, frames: Sequence[Frame]) -> Encoded:
    """Types the frames of one stream.

    Args:
        stream: Where the frames belong.
        frames: Sorted by receive time, connection and counter; the rows keep the order.

    Raises:
        ValueError: The channel has no Parquet.
    """
    encoder = _Encoder(stream)
    encoder.encode(frames, range(len(frames)))
    return Encoded(encoder.table(), sorted(encoder.rejected))


def encode_plain(stream: Stream, plain: Plain) -> dict[str, Values] | None:
    """The columns of a plain minute of depth20, as `encode` has them, but for those that are null throughout.

    None where the frames have to be looked at one by one.
    """
    found = book.encode_alike(header(stream), plain.alike, plain.payload, book.KEYS[stream.market])
    if found is not None:
        found |= {"receive_time": plain.receive_ns, "connection": plain.connection, "counter": plain.counters}
    return found


class _Encoder:
    def __init__(self, stream: Stream) -> None:
        self.schema = schema(stream)
        self._header = header(stream)
        self._keys = book.KEYS[stream.market] if stream.channel == "depth20" else None
        self._batches: list[pa.RecordBatch] = []
        self._places: list[int] = []
        self.rejected: list[int] = []

    def table(self) -> pa.Table:
        """What was encoded, in the order of the frames."""
        rows = pa.Table.from_batches(self._batches, self.schema).combine_chunks()
        order = np.argsort(np.array(self._places, np.int64))
        return rows if (order[1:] > order[:-1]).all() else rows.take(pa.array(order)).combine_chunks()

    def encode(self, frames: Sequence[Frame], places: Sequence[int]) -> None:
        """Types frames that stand at some places of the minute."""
        if not frames:
            return
        batch = self._fast(frames)
        if batch is not None:
            self._batches.append(batch)
            self._places += places
        elif len(frames) > _FEW:
            for some in self._parts(frames):
                self.encode([frames[at] for at in some], [places[at] for at in some])
        else:
            for place, frame in zip(places, frames, strict=True):
                self._slow(frame, place)

    def _parts(self, frames: Sequence[Frame]) -> list[Sequence[int]]:
        """Frames of one shape each, where they have several; else halves."""
        shapes: dict[bytes, list[int]] = {}
        if self._keys is not None:
            for at, frame in enumerate(frames):
                shapes.setdefault(frame.payload.translate(None, DIGITS), []).append(at)
        half = len(frames) // 2
        return list(shapes.values()) if len(shapes) > 1 else [range(half), range(half, len(frames))]

    def _fast(self, frames: Sequence[Frame]) -> pa.RecordBatch | None:
        payloads = [frame.payload for frame in frames]
        found: dict[str, Any] | None
        if self._keys is not None:
            found = self._alike(payloads, self._keys)
        else:
            found = scalars.encode_fast(self._header, payloads)
        if found is None:
            return None
        try:
            return self._batch(frames, found)
        except OverflowError:
            return None

    def _alike(self, payloads: Sequence[bytes], keys: book.Keys) -> dict[str, Any] | None:
        alike = Alike.of(b"\n".join(payloads) + b"\n")
        if alike is None or alike.count != len(payloads):
            return None
        found = book.encode_alike(self._header, alike, slice(0, len(payloads[0])), keys)
        return None if found is None else {name: _column(values, alike.count) for name, values in found.items()}

    def _slow(self, frame: Frame, place: int) -> None:
        try:
            if self._keys is not None:
                values, found = book.encode_slowly(self._header, frame.payload, self._keys)
            else:
                values, found = scalars.encode_slowly(self._header, frame.payload)
            batch = self._batch([frame], {path: [value] for path, value in values.items()} | found)
        except (ValueError, OverflowError):
            self.rejected.append(place)
        else:
            self._batches.append(batch)
            self._places.append(place)

    def _batch(self, frames: Sequence[Frame], found: dict[str, Any]) -> pa.RecordBatch:
        """Adds what each frame has, and nulls for the columns that nothing was found for."""
        found |= {
            "receive_time": [frame.receive_ns for frame in frames],
            "connection": [frame.connection for frame in frames],
            "counter": [frame.counter for frame in frames],
        }
        for path, column in self._header.columns.items():
            if path in found and not column.group:
                found[column.name] = _sides(found.pop(path)) if column.name == "taker_side" else found.pop(path)
        arrays = []
        for field in self.schema:
            values = found.get(field.name)
            if values is None:
                arrays.append(pa.nulls(len(frames), field.type))
            elif isinstance(values, pa.Array):
                arrays.append(values.cast(field.type))
            elif pa.types.is_timestamp(field.type):
                arrays.append(pa.array(values, pa.int64()).cast(field.type))
            else:
                arrays.append(pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _column(values: Values, rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(rows)
    if isinstance(values, str | int):
        return pa.repeat(values, rows)
    if values.ndim == 1:
        return pa.array(values)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * values.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))


def _sides(buyer_is_maker: list[bool]) -> list[str]:
    return ["sell" if maker else "buy" for maker in buyer_is_maker]


def payload_values(table: pa.Table, stream: Stream | None = None) -> list[dict[str, Any]]:
    """Each row's payload as parsed JSON: ids and times as ints, prices as the text that the exchange sent.

    Args:
        table: As `encode` or `read` gives it.
        stream: Whose table it is; by default, as the table's metadata says.

    Raises:
        ValueError: The table is none of the archive.
    """
    stream = stream_of(table.schema) if stream is None else stream
    described = header(stream)
    keys = book.KEYS[stream.market] if stream.channel == "depth20" else None
    times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    for name in times:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table.column(name).cast(pa.int64()))
    return [_payload(row, described, keys) for row in table.to_pylist()]


def _payload(row: dict[str, Any], described: Header, keys: book.Keys | None) -> dict[str, Any]:
    flat: dict[str, Any] = dict(described.constants)
    for path, column in described.columns.items():
        value = row[column.name]
        if value is not None and not column.group:
            flat[path] = value == "sell" if column.name == "taker_side" else value
    flat |= scalars.values_of(row, described) if keys is None else book.values_of(row, keys)
    extra = book.as_json(row["extra"])
    payload: dict[str, Any] = {}
    for path, value in flat.items():
        outer, _, inner = path.partition(".")
        if inner:
            payload.setdefault(outer, {})[inner] = value
        else:
            payload[outer] = value
    for key, value in extra.items():
        if key == described.nested and isinstance(value, dict):
            payload[key] |= value
        else:
            payload[key] = value
    return payload
