"""Bytes a frame on disk: one minute of many symbols as the house wrote it, and the same minute written otherwise."""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
from pyarrow import parquet

_LEVEL = 3
_DEFLATE = 6


class Sizes(NamedTuple):
    """Bytes a frame."""

    raw: float
    parquet: float
    doubles: float
    deflate: float
    frames: int


class _Book(msgspec.Struct):
    E: int
    T: int
    U: int
    u: int
    pu: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class _Line(msgspec.Struct):
    t: int
    d: _Book


def measure(data: Path, minute: str, symbols: list[str]) -> Sizes:
    """Compares the minute's files of some symbols.

    Args:
        data: The archive.
        minute: `HH-MM`.
        symbols: Those to look at; each has the minute.
    """
    raw = side = doubles = deflated = frames = 0
    decoder = msgspec.json.Decoder(_Line)
    for symbol in symbols:
        (zipped,) = data.glob(f"raw/um/depth20/{symbol}/*/{minute}.zip")
        (typed,) = data.glob(f"parquet/um/depth20/{symbol}/*/{minute}.parquet")
        with zipfile.ZipFile(zipped) as archive:
            content = archive.read(archive.namelist()[0])
        lines = [decoder.decode(line) for line in content.splitlines()]
        frames += len(lines)
        raw += zipped.stat().st_size
        side += typed.stat().st_size
        doubles += _as_doubles(lines)
        deflated += _as_zip(content, zipped.stem)
    return Sizes(raw / frames, side / frames, doubles / frames, deflated / frames, frames)


def _as_doubles(lines: list[_Line]) -> int:
    columns: dict[str, pa.Array] = {"receive_time": pa.array([line.t for line in lines], pa.int64())}
    for name in ("E", "T", "U", "u", "pu"):
        columns[name] = pa.array([getattr(line.d, name) for line in lines], pa.int64())
    for side in ("b", "a"):
        for place, what in enumerate(("price", "quantity")):
            lists = [[float(level[place]) for level in getattr(line.d, side)] for line in lines]
            columns[f"{side}_{what}"] = pa.array(lists, pa.list_(pa.float64()))
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink, compression="zstd", compression_level=_LEVEL)
    return sink.tell()


def _as_zip(content: bytes, name: str) -> int:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=_DEFLATE) as archive:
        archive.writestr(f"{name}.jsonl", content)
    return len(sink.getvalue())
