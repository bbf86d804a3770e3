"""Reads the archive back and says what does not hold: what, where, and what to do about it. Changes nothing.

Safe while everything runs: what a bundling moves away under our hands is looked at again in its new place.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rich.progress import Progress

from archiver import compare, layout, lines, members
from archiver.holes import Silences
from archiver.merge import identity_key, near_ns, unite
from common.channels import UNKNOWN, is_timed
from common.clock import MINUTE_NS, now_ns
from common.files import leftovers
from common.frame import Frame, event_time_ms, filed_ns
from common.ledger import Row
from common.paths import Minute, folder, parquet_day, parquet_minute, raw_day
from common.streams import Stream

log = logging.getLogger(__name__)

_STALE_NS = 10 * MINUTE_NS
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not hold: where, what, and what a person does about it."""

    where: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.advice}"


_LOST = "What it held is gone from here; a second collector's copy or a backup can replace it, or else it stays a gap"
_DERIVE = "Where there is none, the archiver makes it anew when it starts"
_READ_RAW = "The raw bundle holds all frames"
_FRAMES = "This is a fault of Maserver: please report it with the file"


def verify(
    data: Path, day: date | None = None, *, rows: Sequence[Row] = (), progress: Progress | None = None
) -> list[Problem]:
    """Looks at every file, or at those of one day (UTC).

    Args:
        data: The data folder.
        day: Only this day.
        rows: The ledger's rows that hold: a silence that one of them explains is no problem.
        progress: Shows how far it is.
    """
    days = [
        (stream, each)
        for stream in layout.streams(data)
        for each in sorted({*layout.day_folders(data, stream), *layout.bundled_days(data, stream)})
        if day in (None, each)
    ]
    found = list(_files(data, day))
    silences: dict[Stream, Silences] = {}
    task = progress.add_task("verify", total=len(days)) if progress else None
    with progress or nullcontext():
        for stream, each in days:
            if progress and task is not None:
                progress.update(task, description=f"{stream.key} {each}")
            followed = silences.setdefault(stream, Silences(stream, rows))
            found += _Day(data, stream, each, followed).problems()
            if progress and task is not None:
                progress.advance(task)
    return found


def _files(data: Path, day: date | None) -> Iterator[Problem]:
    """What should not be there: unfinished files that nobody writes any more, and damaged ones that were set aside."""
    wanted = day.isoformat() if day else ""
    for kind in ("raw", "parquet"):
        for path in leftovers(data / kind):
            if wanted in str(path) and _age_ns(path) > _STALE_NS:
                what, advice = "unfinished file of a writer that was killed", "The archiver removes it when it starts"
                yield Problem(str(path.relative_to(data)), what, advice)
        for path in sorted((data / kind).rglob("*.corrupt-*")):
            if wanted in str(path):
                what, advice = "a damaged file that was set aside", f"{_LOST}. Then remove it"
                yield Problem(str(path.relative_to(data)), what, advice)


def _age_ns(path: Path) -> int:
    try:
        return now_ns() - path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class _Day:
    """One day of one stream."""

    def __init__(self, data: Path, stream: Stream, day: date, silences: Silences) -> None:
        self._data, self._stream, self._day = data, stream, day
        self._silences = silences
        self._found: list[Problem] = []

    def problems(self) -> list[Problem]:
        for _ in range(_TRIES):
            self._found = []
            try:
                self._look()
            except FileNotFoundError:
                continue
            break
        return self._found

    def _look(self) -> None:
        times: dict[Minute, list[int]] = {}
        tail: list[Frame] = []
        bundle = self._data / raw_day(self._stream, self._day)
        if bundle.exists():
            in_bundle = self._in_bundle(bundle, times)
            self._check_parquet(self._data / parquet_day(self._stream, self._day), in_bundle, _READ_RAW)
            for _ in in_bundle:
                pass
        for minute, path in layout.minute_files(self._data, self._stream, self._day).items():
            frames = self._read(path, minute, None)
            if frames is None:
                continue
            self._check_frames(path, minute, frames, tail)
            tail = _tail(self._stream, frames)
            times.setdefault(minute, []).extend(frame.receive_ns for frame in frames)
            parquet = self._data / parquet_minute(minute)
            if parquet.exists() or _age_ns(path) > _STALE_NS:  # a minute in parts has none until its end
                self._check_parquet(parquet, iter([frames]), _DERIVE)
        for minute in sorted(times):
            for hole in self._silences.after(sorted(times[minute])):
                where = str(folder("raw", self._stream) / self._day.isoformat())
                advice = "The ledger has no row for it: the archiver was not running, or this is a fault of Maserver"
                self._add(where, str(hole), advice)

    def _in_bundle(self, bundle: Path, times: dict[Minute, list[int]]) -> Iterator[list[Frame]]:
        tail: list[Frame] = []
        try:
            held = members.directory(bundle).members
        except ValueError as error:
            self._add(bundle, f"damaged: {error}", _LOST)
            return
        for name, count in Counter(member.name for member in held).items():
            if count > 1:
                self._add(bundle, f"holds {name} {count} times", _FRAMES)
        for member in held:
            minute = layout.minute_named(self._stream, self._day, member.name.removesuffix(".jsonl"))
            if minute is None:
                self._add(bundle, f"holds {member.name}, which is no minute", "Look what put it there")
                continue
            frames = self._read(bundle, minute, member)
            if frames is not None:
                self._check_frames(bundle, minute, frames, tail)
                tail = _tail(self._stream, frames)
                times.setdefault(minute, []).extend(frame.receive_ns for frame in frames)
                yield frames

    def _read(self, path: Path, minute: Minute, member: members.Member | None) -> list[Frame] | None:
        try:
            if member is None:
                content = members.read_member(path, members.member_name(minute))
            else:
                content = members.read_content(path, member)
        except ValueError as error:
            self._add(path, f"damaged: {error}", _LOST)
            return None
        try:
            frames = lines.parse(content)
        except ValueError as error:
            self._add(path, f"{minute.name} has a bad line: {error}", _LOST)
            return None
        summary = member.summary if member else None
        if summary and summary.rows != len(frames):
            self._add(path, f"{minute.name} holds {len(frames)} frames, its comment says {summary.rows}", _FRAMES)
        return frames

    def _check_frames(self, path: Path, minute: Minute, frames: list[Frame], tail: list[Frame]) -> None:
        if any(map(tuple.__gt__, frames, frames[1:])):
            self._add(path, f"{minute.name}: frames are not sorted by receive time, connection, counter", _FRAMES)
        key = identity_key(self._stream)
        doubled = unite(key, frames).doubled
        if frames and tail:
            first_ns = min(frame.receive_ns for frame in frames) - near_ns(self._stream)
            near = [frame for frame in tail if frame.receive_ns >= first_ns]
            if len({frame.connection for frame in (*near, *frames)}) > 1:
                doubled = unite(key, frames, neighbours=near).doubled
        if doubled:
            self._add(path, f"{minute.name}: {doubled} frames are there twice", _FRAMES)
        strays = [frame for frame in frames if self._number(frame) != minute.number]
        if strays:
            self._add(path, f"{minute.name}: {len(strays)} frames belong to another minute", _FRAMES)

    def _number(self, frame: Frame) -> int:
        """The number of the minute that the frame belongs to."""
        timed = is_timed(self._stream.market, self._stream.channel)
        return filed_ns(frame.receive_ns, event_time_ms(frame.payload) if timed else None) // MINUTE_NS

    def _check_parquet(self, path: Path, minutes: Iterator[list[Frame]], advice: str) -> None:
        if self._stream.channel == UNKNOWN:
            return
        if not path.exists():
            self._add(path, "the Parquet file is missing", advice)
            return
        try:
            values, strangers, absent = compare.compare(self._stream, minutes, path)
        except ValueError as error:
            self._add(path, f"the Parquet file is damaged: {error}", advice)
            return
        if values:
            self._add(path, f"{values} rows differ from their raw frames", advice)
        if strangers:
            self._add(path, f"{strangers} rows have no raw frame", advice)
        if absent:
            self._add(path, f"{absent} raw frames have no row", advice)

    def _add(self, path: Path | str, what: str, advice: str) -> None:
        where = path.relative_to(self._data) if isinstance(path, Path) else path
        self._found.append(Problem(str(where), what, advice))


def _tail(stream: Stream, frames: list[Frame]) -> list[Frame]:
    last_ns = max((frame.receive_ns for frame in frames), default=0) - near_ns(stream)
    return [frame for frame in frames if frame.receive_ns >= last_ns]
