"""What is recorded, counted without reading it: file names, sizes, and the comments of the zips."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from archiver import layout, members
from archiver.summaries import Summary
from common.channels import CHANNELS
from common.clock import SECOND_NS
from common.paths import folder, raw_day
from common.streams import Stream


@dataclass(frozen=True, slots=True)
class Row:
    """One stream's recordings.

    Attributes:
        stream: Market, channel and symbol.
        first: The first minute, `YYYY-MM-DD HH-MM`, UTC.
        last: The last minute.
        frames: How many are there. Late minutes of a day that is bundled count beside the bundle.
        expected: How many there would be from the first to the last frame at the channel's pace; None without a pace.
        raw_bytes: Size of the zips.
        parquet_bytes: Size of the Parquet files.
        unreadable: Files whose directory cannot be read: `verify` says more.
    """

    stream: Stream
    first: str
    last: str
    frames: int
    expected: int | None
    raw_bytes: int
    parquet_bytes: int
    unreadable: int = 0

    @property
    def missing(self) -> int | None:
        """Frames that are not there, by the pace; None without a pace."""
        return None if self.expected is None else max(0, self.expected - self.frames)

    @property
    def frame_bytes(self) -> float:
        """Bytes on disk, raw and Parquet, of one frame."""
        return (self.raw_bytes + self.parquet_bytes) / self.frames if self.frames else 0.0


def collect(data: Path) -> list[Row]:
    """Counts what the archive holds, stream by stream."""
    return [row for stream in layout.streams(data) if (row := _count(data, stream)) is not None]


def _count(data: Path, stream: Stream) -> Row | None:
    named: list[str] = []
    summaries: list[Summary] = []
    unreadable = 0
    files = [(data / raw_day(stream, day), day.isoformat()) for day in layout.bundled_days(data, stream)]
    for day in layout.day_folders(data, stream):
        files += [(path, f"{day} {minute.name}") for minute, path in layout.minute_files(data, stream, day).items()]
    for path, name in files:
        try:
            summary = members.summary(path)
        except FileNotFoundError:
            continue
        except ValueError:
            unreadable += 1
            continue
        if summary is not None:
            summaries.append(summary)
            named += [f"{name} {each}" for each in (summary.first, summary.last)] if summary.first else [name]
    if not summaries and not unreadable:
        return None
    frames = sum(each.rows for each in summaries)
    raw_bytes, parquet_bytes = (_size(data / folder(kind, stream)) for kind in ("raw", "parquet"))
    first, last = (min(named), max(named)) if named else ("", "")
    return Row(stream, first, last, frames, _expected(stream, summaries), raw_bytes, parquet_bytes, unreadable)


def _expected(stream: Stream, summaries: list[Summary]) -> int | None:
    channel = CHANNELS.get(stream.channel)
    if channel is None or channel.pace_s is None or not summaries:
        return None
    lasted_ns = max(each.last_ns for each in summaries) - min(each.first_ns for each in summaries)
    return round(lasted_ns / SECOND_NS / channel.pace_s) + 1


def _size(root: Path) -> int:
    size = 0
    for place, _, names in os.walk(root):
        for name in names:
            try:
                size += os.stat(os.path.join(place, name)).st_size  # noqa: PTH116, PTH118  # Path costs three times that
            except FileNotFoundError:
                continue
    return size


def render(rows: Iterable[Row]) -> Table:
    """The rows as a table for a terminal, with their sum."""
    rows = list(rows)
    table = Table(title="Recorded (UTC)", caption="expected and missing: by the channel's pace; - where it has none")
    for heading in ("market", "channel", "symbol", "first", "last"):
        table.add_column(heading, no_wrap=True)
    for heading in ("frames", "expected", "missing", "raw", "parquet", "bytes a frame"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        counts = (f"{row.frames:,}", _number(row.expected), _number(row.missing))
        sizes = (_bytes(row.raw_bytes), _bytes(row.parquet_bytes), f"{row.frame_bytes:.1f}")
        last = f"{row.last} ({row.unreadable} files unreadable)" if row.unreadable else row.last
        table.add_row(*row.stream, row.first, last, *counts, *sizes)
    if len(rows) > 1:
        frames = sum(row.frames for row in rows)
        raw, parquet = sum(row.raw_bytes for row in rows), sum(row.parquet_bytes for row in rows)
        missing = sum(row.missing or 0 for row in rows)
        table.add_section()
        names = f"{len(rows)} streams", "", "", min(row.first for row in rows), max(row.last for row in rows)
        sizes = _bytes(raw), _bytes(parquet), f"{(raw + parquet) / frames if frames else 0:.1f}"
        table.add_row(*names, f"{frames:,}", "", f"{missing:,}", *sizes)
    return table


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _bytes(size: int) -> str:
    amount, unit = float(size), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
