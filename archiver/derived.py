"""The Parquet file beside a minute's raw file: made from it, and known to be made from it.

The file's footer names the CRC of the raw lines that it was made from. A writer that was killed between the two renames
leaves a Parquet file of fewer frames: the CRC gives it away, and it is written again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.frame import Frame
from common.streams import Stream

if TYPE_CHECKING:
    from archiver.plain import Plain  # numpy, too, only where it is needed

_CRC = b"maserver.raw_crc32"
_REJECTED = b"maserver.rejected"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Frames that the raw file keeps and Parquet cannot hold; receive times in ns."""

    count: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Side:
    """A minute's Parquet file: its size, its rows, and the frames that are not in it."""

    size_bytes: int = 0
    rows: int = 0
    rejected: Rejected | None = None


def write(temporary: Path, stream: Stream, rows: "Sequence[Frame] | Plain", crc: int) -> Side:
    """Writes the Parquet file of frames.

    Args:
        temporary: The name that it has until it is committed.
        stream: The frames' stream; not `unknown`.
        rows: Frames, sorted as they stand in the raw file, or a plain minute of depth20.
        crc: CRC-32 of the raw lines.
    """
    from archiver import tables  # pyarrow takes 60 MB: only the processes that need it load it

    notes = {_CRC: b"%08x" % crc}
    if not isinstance(rows, Sequence):
        values = tables.encode_plain(stream, rows)
        if values is not None:
            return Side(tables.write_plain(stream, len(rows), values, notes, temporary), len(rows))
        rows = rows.frames()
    encoded = tables.encode(stream, rows)
    rejected = None
    if encoded.rejected:
        times = [rows[at].receive_ns for at in encoded.rejected]
        rejected = Rejected(len(times), min(times), max(times))
        notes[_REJECTED] = json.dumps(asdict(rejected)).encode()
    tables.write(encoded.table.replace_schema_metadata({**(encoded.table.schema.metadata or {}), **notes}), temporary)
    return Side(temporary.stat().st_size, encoded.table.num_rows, rejected)


def fresh(path: Path, crc: int) -> Side | None:
    """What is known of a minute's Parquet file; None where it is missing, damaged, or not made from these raw lines."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        footer = parquet.read_metadata(path)
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    notes = footer.metadata or {}
    if notes.get(_CRC) != b"%08x" % crc:
        return None
    rejected = Rejected(**json.loads(notes[_REJECTED])) if _REJECTED in notes else None
    return Side(path.stat().st_size, footer.num_rows, rejected)
