"""Day bundles: the minutes of a day that is over become one zip and one Parquet file.

Guarantees: the new files are written, read back, compared with what went in and on disk before a minute is removed; a
minute that comes late is united with the one in the bundle; a kill between any two steps leaves every frame in the
bundle, in a minute file, or in both, and the next pass goes on from there. Raw minutes go last: as long as one is
there, the day is not done.
"""

import errno
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from archiver import derived, layout, lines, members
from archiver.members import CorruptError, Directory, Member
from archiver.merge import identity_key, unite
from archiver.summaries import Summary
from common.channels import UNKNOWN
from common.clock import SECOND_NS
from common.files import Batch, keep_aside, leftovers, set_aside
from common.locks import locked
from common.paths import Minute, day_of, folder, parquet_day, parquet_minute, raw_day
from common.streams import Stream

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Bundled:
    """What became of a day.

    Attributes:
        stream: The day's stream.
        day: UTC.
        minutes: Members in the bundle now.
        rows: Frames in the bundle now.
        added: Minute files that were taken in and removed.
        late: How many of them were united with a member of the bundle.
        doubled: Frames dropped there, because an equal one is kept.
        raw_bytes: Size of the bundle.
        parquet_bytes: Size of the day's Parquet file; 0 where the channel has none.
        corrupt: Damaged files that were set aside; what could be read of them is in the bundle.
    """

    stream: Stream
    day: date
    minutes: int = 0
    rows: int = 0
    added: int = 0
    late: int = 0
    doubled: int = 0
    raw_bytes: int = 0
    parquet_bytes: int = 0
    corrupt: list[Path] = field(default_factory=list)


def days_to_bundle(data: Path, now_ns: int, after_s: float) -> list[tuple[Stream, date]]:
    """The days with minute files that ended more than `after_s` before `now_ns` (wall clock), oldest first."""
    over = day_of(now_ns - int(after_s * SECOND_NS))
    found = [
        (day, stream)
        for stream in layout.streams(data)
        for day in layout.day_folders(data, stream)
        if day < over and _is_open(data, stream, day)
    ]
    return [(stream, day) for day, stream in sorted(found)]


def _is_open(data: Path, stream: Stream, day: date) -> bool:
    """Whether there are minutes, or a folder that the last pass was about to remove."""
    minutes = layout.minute_files(data, stream, day)
    return bool(minutes) or not any((data / folder("raw", stream) / day.isoformat()).iterdir())


def bundle_day(data: Path, stream: Stream, day: date) -> Bundled:
    """Bundles what is there of a day; when it returns the bundle is on disk and the minutes in it are removed.

    Raises:
        OSError: The disk is full, say, or gave back something else than what was written; the minutes stay.
        ValueError: A minute whose CRC is right holds lines that are none of the archive; the minutes stay.
    """
    with locked(data, [(stream, day)]):
        day_pass = _Pass(data, stream, day)
        if day_pass.minutes:
            day_pass.write()
        day_pass.clean()
        return day_pass.bundled


class _Pass:
    def __init__(self, data: Path, stream: Stream, day: date) -> None:
        self.bundled = Bundled(stream, day)
        self.minutes = layout.minute_files(data, stream, day)
        self._data, self._stream, self._day = data, stream, day
        self._raw, self._parquet = data / raw_day(stream, day), data / parquet_day(stream, day)
        self._digests: dict[str, bytes] = {}
        self._done: list[Minute] = []
        self._changed = False
        self._damaged = False

    def write(self) -> None:
        old = self._old()
        with Batch() as batch:
            temporary = batch.temporary(self._raw)
            with temporary.open("wb") as file:
                members.write_zip(file, self._members(old))
            if not self._digests:
                return
            found = self._read_back(temporary)
            if self._stream.channel != UNKNOWN:
                self._write_parquet(batch, temporary, found)
            if not self._changed:
                batch.forget(self._raw)
            elif self._damaged:
                self.bundled.corrupt.append(keep_aside(self._raw))
            self.bundled.raw_bytes = temporary.stat().st_size
            batch.commit()
        self.bundled.minutes = len(found.members)
        self.bundled.rows = sum(self._summary(member).rows for member in found.members)
        self._done = [self._minute(member.name) for member in found.members]

    def clean(self) -> None:
        """Removes the minutes that are in the bundle, the raw ones last, and what killed writers left."""
        for path in (self._raw, self._parquet):
            for leftover in path.parent.glob(f".{path.name}.*.tmp"):
                leftover.unlink(missing_ok=True)
        folders = [self._data / folder(kind, self._stream) / self._day.isoformat() for kind in ("parquet", "raw")]
        for minute in self._done:
            (self._data / parquet_minute(minute)).unlink(missing_ok=True)
        for minute in self._done:
            if minute in self.minutes:
                self.minutes[minute].unlink(missing_ok=True)
                self.bundled.added += 1
        for each in folders:
            if each.is_dir():
                for leftover in leftovers(each):
                    leftover.unlink(missing_ok=True)
                if not any(each.iterdir()):
                    each.rmdir()

    def _members(self, old: Directory | None) -> Iterator[tuple[Member, bytes]]:
        """What the new bundle holds, minute after minute; notes the digest of each content."""
        known = self._known(old.members if old else [])
        for minute in sorted(known.keys() | self.minutes.keys()):
            parts = []
            if minute in known:
                parts.append(self._read(self._raw, minute, known[minute]))
            if minute in self.minutes:
                parts.append(self._read(self.minutes[minute], minute, None))
                self._changed = self._changed or minute not in known
            read = [part for part in parts if part is not None]
            if not read:
                continue
            contents = [content for _, _, content in read]
            member, packed, _ = read[0]
            if len(set(contents)) > 1 or member.summary is None:
                member, packed = self._unite(minute, contents)
                self._changed = True
            else:
                self._note(minute, contents[0])
            yield member, packed

    def _known(self, found: list[Member]) -> dict[Minute, Member]:
        named = {layout.minute_named(self._stream, self._day, each.name.removesuffix(".jsonl")): each for each in found}
        if len(named) < len(found) or None in named:
            log.error("%s: holds members that are no minutes", self._raw)
            self._damaged = self._changed = True
        return {minute: member for minute, member in named.items() if minute is not None}

    def _unite(self, minute: Minute, contents: list[bytes]) -> tuple[Member, bytes]:
        archived, *late = [lines.parse(content) for content in contents]
        merged = unite(identity_key(self._stream), *late, archived=archived)
        content = lines.render(merged.frames)
        self.bundled.late += len(late)
        self.bundled.doubled += merged.doubled
        self._note(minute, content)
        return members.pack(minute, content, Summary.of(merged.frames))

    def _note(self, minute: Minute, content: bytes) -> None:
        self._digests[members.member_name(minute)] = _digest(content)

    def _read(self, path: Path, minute: Minute, member: Member | None) -> tuple[Member, bytes, bytes] | None:
        """A member, its packed bytes and its content; None where it is damaged."""
        try:
            if member is None:
                member = members.directory(path).find(members.member_name(minute))
            if member is None:
                raise CorruptError(f"{path}: holds no {members.member_name(minute)}")
            with path.open("rb") as file:
                packed = members.read_packed(file, member)
            return member, packed, members.unpack(member, packed)
        except CorruptError as error:
            log.error("%s is damaged: %s", path, error)
            if path == self._raw:
                self._damaged = self._changed = True
            else:
                self.bundled.corrupt.append(set_aside(path))
                del self.minutes[minute]
            return None

    def _old(self) -> Directory | None:
        if not self._raw.exists():
            return None
        try:
            return members.directory(self._raw)
        except CorruptError as error:
            log.error("a damaged day bundle is set aside: %s", error)
            self.bundled.corrupt.append(set_aside(self._raw))
            return None

    def _read_back(self, temporary: Path) -> Directory:
        """The directory of the file just written, once each content is found in it as it went in."""
        found = members.directory(temporary)
        with temporary.open("rb") as file:
            for member in found.members:
                content = members.unpack(member, members.read_packed(file, member))
                if self._digests.get(member.name) != _digest(content):
                    raise _differs(f"{temporary}: {member.name} is not what was written")
                if content.count(b"\n") != self._summary(member).rows:
                    raise _differs(f"{temporary}: {member.name} does not hold the frames that it counts")
        if len(found.members) != len(self._digests):
            raise _differs(f"{temporary}: holds {len(found.members)} minutes, not {len(self._digests)}")
        return found

    def _write_parquet(self, batch: Batch, raw: Path, found: Directory) -> None:
        from pyarrow import parquet

        from archiver import tables

        parts: list[Path] = []
        rows = 0
        with raw.open("rb") as file:
            for member in found.members:
                minute = self._minute(member.name)
                path = self._data / parquet_minute(minute)
                side = derived.fresh(path, member.crc)
                if side is None:
                    frames = lines.parse(members.unpack(member, members.read_packed(file, member)))
                    path = batch.scratch(path)
                    side = derived.write(path, self._stream, frames, member.crc)
                parts.append(path)
                rows += side.rows
        temporary = batch.temporary(self._parquet)
        written = tables.write_day(parts, temporary)
        there = parquet.read_metadata(temporary).num_rows
        if not written == there == rows:
            raise _differs(f"{temporary}: {written} rows were written and {there} are there, not {rows}")
        self.bundled.parquet_bytes = temporary.stat().st_size

    def _minute(self, name: str) -> Minute:
        minute = layout.minute_named(self._stream, self._day, name.removesuffix(".jsonl"))
        if minute is None:
            raise CorruptError(f"{self._raw}: {name} is no minute")
        return minute

    def _summary(self, member: Member) -> Summary:
        if member.summary is None:
            raise CorruptError(f"{member.name}: its comment is no summary")
        return member.summary


def _differs(what: str) -> OSError:
    return OSError(errno.EIO, what)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
