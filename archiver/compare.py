"""Parquet against the raw lines that it was made from: row for row, value for value, in bounded memory."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from common.clock import MINUTE_NS
from common.frame import Frame
from common.streams import Stream

_BATCH_ROWS = 2_000
_APART_NS = 10 * MINUTE_NS
"""How far a row may stand from its frame in the order of receive times: minutes are filed by event time."""


class Differences(NamedTuple):
    """What a Parquet file says otherwise than the raw file.

    Attributes:
        values: Rows with another payload than their frame.
        strangers: Rows without a frame.
        absent: Frames without a row, although they can have one.
    """

    values: int
    strangers: int
    absent: int


class Row(NamedTuple):
    """A row: which frame it is, and its payload as JSON values."""

    place: tuple[int, str, int]
    value: dict[str, Any]


def compare(stream: Stream, minutes: Iterable[list[Frame]], path: Path) -> Differences:
    """Compares a Parquet file with frames, given minute after minute.

    Raises:
        ValueError: The Parquet file is damaged, or none of the archive.
    """
    waiting: dict[tuple[int, str, int], list[Frame]] = {}
    coming = iter(minutes)
    loaded_ns = 0
    values = strangers = 0
    absent: list[Frame] = []
    for row in _rows(stream, path):
        while row.place not in waiting and loaded_ns <= row.place[0] + _APART_NS:
            frames = next(coming, None)
            if frames is None:
                break
            absent += _forget(waiting, row.place[0] - _APART_NS)
            loaded_ns = max(loaded_ns, *(frame.receive_ns for frame in frames))
            for frame in frames:
                waiting.setdefault(frame[:3], []).append(frame)
        candidates = waiting.get(row.place)
        if candidates is None:
            strangers += 1
            continue
        match = next((frame for frame in candidates if _same(frame.payload, row.value)), None)
        values += match is None
        candidates.remove(match or candidates[0])
        if not candidates:
            del waiting[row.place]
    for frames in coming:
        absent += frames
    absent += [frame for candidates in waiting.values() for frame in candidates]
    return Differences(values, strangers, _possible(stream, absent))


def _rows(stream: Stream, path: Path) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    from archiver import tables

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                table = pa.Table.from_batches([batch])
                times = table.column("receive_time").cast(pa.int64()).to_pylist()
                others = (table.column(name).to_pylist() for name in ("connection", "counter"))
                places = zip(times, *others, strict=True)
                yield from map(Row, places, tables.payload_values(table, stream))
    except (KeyError, OSError, pa.ArrowException) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: {error}") from error


def _same(payload: bytes, value: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(payload) == value)
    except ValueError:
        return False


def _forget(waiting: dict[tuple[int, str, int], list[Frame]], before_ns: int) -> list[Frame]:
    gone = [place for place in waiting if place[0] < before_ns]
    return [frame for place in gone for frame in waiting.pop(place)]


def _possible(stream: Stream, absent: list[Frame]) -> int:
    """How many of the frames Parquet can hold: the others were refused, and stand in the raw file only."""
    from archiver import tables

    return len(absent) - len(tables.encode(stream, sorted(absent)).rejected) if absent else 0
