"""What lies in the archive: streams, days and minutes found by their paths (the inverse of `common.paths`)."""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from common.channels import MARKETS, UNKNOWN
from common.clock import MINUTE_NS, SECOND_NS
from common.paths import Minute, folder, raw_day
from common.streams import Stream

_SUFFIX = {"raw": ".zip", "parquet": ".parquet"}


def streams(data: Path, kind: str = "raw") -> list[Stream]:
    """Every stream with a folder in the archive, sorted."""
    root = data / kind
    return sorted(
        Stream(market, channel.name, symbol.name)
        for market in MARKETS
        for channel in _folders(root / market)
        for symbol in _folders(channel)
    )


def day_folders(data: Path, stream: Stream, kind: str = "raw") -> list[date]:
    """The days of a stream that have a folder of minutes, sorted."""
    days = (_day(each.name) for each in _folders(data / folder(kind, stream)))
    return sorted(day for day in days if day is not None)


def bundled_days(data: Path, stream: Stream) -> list[date]:
    """The days of a stream that have a bundle, sorted."""
    days = (_day(each.stem) for each in (data / folder("raw", stream)).glob("*.zip"))
    return sorted(day for day in days if day is not None and (data / raw_day(stream, day)).is_file())


def minute_files(data: Path, stream: Stream, day: date, kind: str = "raw") -> dict[Minute, Path]:
    """The minute files of a stream's day, sorted."""
    found = {}
    for path in sorted((data / folder(kind, stream) / day.isoformat()).glob(f"*{_SUFFIX[kind]}")):
        minute = minute_named(stream, day, path.stem)
        if minute is not None:
            found[minute] = path
    return found


def without_parquet(data: Path, streams: Iterable[Stream]) -> list[Minute]:
    """Minutes with a raw file alone: who wrote them in parts was killed before they were over."""
    return [
        minute
        for stream in streams
        if stream.channel != UNKNOWN
        for day in day_folders(data, stream)
        for name in _names(data, "raw", stream, day) - _names(data, "parquet", stream, day)
        if (minute := minute_named(stream, day, name)) is not None
    ]


def _names(data: Path, kind: str, stream: Stream, day: date) -> set[str]:
    """The names of a day's minutes; a folder has up to 1,440, and there are hundreds of streams."""
    try:
        with os.scandir(data / folder(kind, stream) / day.isoformat()) as found:
            names = [entry.name for entry in found]
    except FileNotFoundError:
        return set()
    return {name.removesuffix(_SUFFIX[kind]) for name in names if name.endswith(_SUFFIX[kind])}


def minute_named(stream: Stream, day: date, name: str) -> Minute | None:
    """The minute of a day by its name `HH-MM`; None where it is no such name."""
    try:
        at = datetime.strptime(f"{day.isoformat()} {name}", "%Y-%m-%d %H-%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    minute = Minute(stream, int(at.timestamp()) * SECOND_NS // MINUTE_NS)
    return minute if minute.name == name else None


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))


def _day(name: str) -> date | None:
    try:
        day = date.fromisoformat(name)
    except ValueError:
        return None
    return day if day.isoformat() == name else None
