"""Writing minutes: what is staged is united with what the archive holds, and both files take their places.

Guarantees: a file is replaced by a file that holds at least its frames; the raw file comes first and the Parquet is
made from it; doing it again gives the same bytes, or writes nothing. Runs in a process of its own, many minutes at a
time, because the fsyncs of many files cost less together.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import is_
from pathlib import Path
from typing import TYPE_CHECKING

from archiver import derived, lines, members
from archiver.grown import Grown
from archiver.jobs import Job, Written
from archiver.merge import identity_key, unite
from archiver.neighbours import Neighbours, beside
from archiver.summaries import Summary
from common.channels import UNKNOWN
from common.files import Batch, newest_aside, set_aside
from common.frame import Frame, to_staged_line
from common.locks import locked, stripe
from common.paths import Minute, parquet_minute, raw_day, raw_minute

if TYPE_CHECKING:
    from archiver.plain import Plain

log = logging.getLogger(__name__)

_TOGETHER = 64
"""Minutes that are written under one set of locks and fsynced together."""


def write_minutes(data: Path, jobs: Sequence[Job]) -> list[Written]:
    """Writes minutes into the archive; when it returns they are on disk. Jobs for one minute become one.

    Raises:
        ValueError: A staged line is none.
        OSError: The disk is full, say. Minutes of earlier groups may be written; doing it again does no harm.
    """
    staged: dict[Minute, tuple[Path, ...]] = defaultdict(tuple)
    for job in jobs:
        staged[job.minute] += job.staged
    growing = {job.minute for job in jobs if job.grows} - {job.minute for job in jobs if not job.grows}
    ordered = sorted(staged, key=lambda minute: (stripe(minute.stream, minute.day), minute))
    written: list[Written] = []
    for at in range(0, len(ordered), _TOGETHER):
        group = ordered[at : at + _TOGETHER]
        days = {(each.stream, each.day) for minute in group for each in (minute, *beside(minute))}
        with locked(data, days), Batch() as batch:
            writer = _Writer(data, batch, frozenset(group))
            finished = [writer.write(minute, staged[minute], grows=minute in growing) for minute in group]
            batch.commit()
        written += finished
    return written


class _Writer:
    """Writes the minutes of one batch under their temporary names."""

    def __init__(self, data: Path, batch: Batch, group: frozenset[Minute]) -> None:
        self._data = data
        self._batch = batch
        self._neighbours = Neighbours(data, group)

    def write(self, minute: Minute, staged: Iterable[Path], *, grows: bool) -> Written:
        came_content = self._came(minute, staged)
        appended = self._append(minute, came_content, grows=grows)
        if appended is not None:
            return appended
        old_content, archived, corrupt = self._archived(minute)
        plain = None if archived else _plain(minute, came_content)
        if plain is not None and not self._neighbours.near(minute, {plain.connection}, (plain.first_ns, plain.last_ns)):
            return self._write_plain(minute, plain, corrupt, grows=grows)
        came = lines.parse(came_content)
        merged = unite(
            identity_key(minute.stream), came, archived=archived, neighbours=self._near(minute, came, archived)
        )
        self._neighbours.remember(minute, merged.frames)
        if not merged.frames:
            return Written(minute, 0, len(came), merged.doubled, 0, False, 0, 0, corrupt=corrupt)
        if old_content and merged.frames == archived:
            content = old_content
        elif not old_content and _stands(came_content, merged.frames, came):
            content = came_content
        else:
            content = lines.render(merged.frames)
        changed = content != old_content
        crc = members.crc_of(content)
        raw_path = self._data / raw_minute(minute)
        if changed:
            raw_bytes = self._pack(minute, content, Summary.of(merged.frames), crc, grows=grows)
        else:
            raw_bytes = raw_path.stat().st_size
            self._batch.stands(raw_path)  # a writer that was killed after the rename did not make it durable
        side = derived.Side()
        path = self._data / parquet_minute(minute)
        if self._derives(minute, grows=grows):
            kept = None if changed else derived.fresh(path, crc)
            rows = merged.frames if kept else _plain(minute, content) or merged.frames
            side = kept or derived.write(self._batch.temporary(path), minute.stream, rows, crc)
            changed = changed or kept is None
        return Written(
            minute,
            rows=len(merged.frames),
            staged_rows=len(came),
            doubled=merged.doubled,
            mismatched=merged.mismatched,
            changed=changed,
            raw_bytes=raw_bytes,
            parquet_bytes=side.size_bytes,
            rejected=side.rejected,
            corrupt=corrupt,
        )

    def _append(self, minute: Minute, came: bytes, *, grows: bool) -> Written | None:
        """Puts lines, if any, behind those of a minute that grows, if that is all that a union would do; else None."""
        path = self._data / raw_minute(minute)
        grown = Grown.read(path, minute)
        if grown is None:
            return None
        derived_path = self._data / parquet_minute(minute)
        staged_rows = doubled = 0
        side: derived.Side | None = derived.Side()
        rows: Plain | list[Frame] = []
        try:
            if came:
                part = self._part(minute, grown, came)
                if part is None:
                    return None
                grown, staged_rows, doubled = part
            is_longer = staged_rows > doubled
            if self._derives(minute, grows=grows):
                side = None if is_longer else derived.fresh(derived_path, grown.member.crc)
                if side is None:
                    content = grown.lines()
                    rows = _plain(minute, content) or lines.parse(content)
        except ValueError:  # what is damaged is set aside on the longer way
            return None
        self._neighbours.remember_grown(minute, grown)
        if is_longer:
            raw_bytes = self._batch.write(path, members.minute_zip(grown.member, grown.packed))
        else:
            raw_bytes = path.stat().st_size
            self._batch.stands(path)
        changed = is_longer or side is None
        if side is None:
            side = derived.write(self._batch.temporary(derived_path), minute.stream, rows, grown.member.crc)
        return Written(
            minute,
            rows=grown.summary.rows,
            staged_rows=staged_rows,
            doubled=doubled,
            mismatched=0,
            changed=changed,
            raw_bytes=raw_bytes,
            parquet_bytes=side.size_bytes,
            rejected=side.rejected,
            corrupt=newest_aside(path),
        )

    def _part(self, minute: Minute, grown: Grown, came: bytes) -> tuple[Grown, int, int] | None:
        """A minute in parts with lines of its one connection, how many frames these are, and how many of them it had.

        Only the parts that the lines overlap with are looked into: Redis may have taken a batch twice.

        Raises:
            ValueError: A line is none of the archive, or those parts are damaged.
        """
        held, plain = grown.summary, _plain(minute, came)
        frames = [] if plain else lines.parse(came)
        part = plain.summary() if plain else Summary.of(sorted(frames))
        name = part.connection
        if name is None or name != held.connection:
            return None
        kept = grown.before(part.first_ns)
        if not kept or self._neighbours.near(minute, {name}, (part.first_ns, part.last_ns)):
            return None
        rows, doubled, content = part.rows, 0, came
        last_ns = max(held.last_ns, part.last_ns)
        if kept < len(held.parts) or not plain:
            tail = lines.parse(grown.lines(kept))
            merged = unite(identity_key(minute.stream), frames or lines.parse(came), archived=tail)
            if merged.mismatched:
                return None
            content = lines.render(merged.frames)
            rows, doubled = len(merged.frames) - len(tail), merged.doubled
        if rows:
            connections = {name: (held.rows + rows, held.first_ns, last_ns)}
            grown = grown.extend(kept, content, Summary(held.rows + rows, held.first_ns, last_ns, connections))
        return grown, part.rows, doubled

    def _derives(self, minute: Minute, *, grows: bool) -> bool:
        """Whether the Parquet file is written now: parts have none, but one that is there always fits its raw file."""
        if minute.stream.channel == UNKNOWN:
            return False
        return not grows or (self._data / parquet_minute(minute)).exists()

    def _write_plain(self, minute: Minute, plain: "Plain", corrupt: Path | None, *, grows: bool) -> Written:
        self._neighbours.remember(minute, plain)
        crc = members.crc_of(plain.content)
        raw_bytes = self._pack(minute, plain.content, plain.summary(), crc, grows=grows)
        side = derived.Side()
        if self._derives(minute, grows=grows):
            temporary = self._batch.temporary(self._data / parquet_minute(minute))
            side = derived.write(temporary, minute.stream, plain, crc)
        return Written(
            minute,
            rows=len(plain),
            staged_rows=len(plain),
            doubled=0,
            mismatched=0,
            changed=True,
            raw_bytes=raw_bytes,
            parquet_bytes=side.size_bytes,
            rejected=side.rejected,
            corrupt=corrupt,
        )

    def _pack(self, minute: Minute, content: bytes, summary: Summary, crc: int, *, grows: bool) -> int:
        """Writes the raw file; returns its size in bytes."""
        if grows:
            grown = Grown.begin(minute, content, summary)
            member, packed = grown.member, grown.packed
        else:
            member, packed = members.pack(minute, content, summary, crc)
        return self._batch.write(self._data / raw_minute(minute), members.minute_zip(member, packed))

    def _came(self, minute: Minute, staged: Iterable[Path]) -> bytes:
        """The staged lines, without what the day's bundle holds already: who starts anew reads some entries again."""
        content = b"".join([path.read_bytes() for path in staged])
        path = self._data / raw_day(minute.stream, minute.day)
        if not path.exists():
            return content
        try:
            bundled = lines.parse(members.read_member(path, members.member_name(minute)))
        except ValueError:  # it holds no such minute; a damaged bundle is told and mended by the next pass
            return content
        held = set(bundled)
        united = unite(identity_key(minute.stream), lines.parse(content), archived=bundled)
        return b"".join([to_staged_line(frame) + b"\n" for frame in united.frames if frame not in held])

    def _near(self, minute: Minute, came: list[Frame], archived: list[Frame]) -> list[Frame]:
        """What the neighbouring minutes hold near this one's frames, where copies of ours may be."""
        if not came:
            return []
        names = {frame.connection for frame in came} | {frame.connection for frame in archived}
        times = [frame.receive_ns for frame in came]
        return self._neighbours.near(minute, names, (min(times), max(times)))

    def _archived(self, minute: Minute) -> tuple[bytes, list[Frame], Path | None]:
        path = self._data / raw_minute(minute)
        corrupt = newest_aside(path)
        if not path.exists():
            return b"", [], corrupt
        try:
            content = members.read_member(path, members.member_name(minute))
            return content, lines.parse(content), corrupt
        except ValueError as error:
            aside = set_aside(path)
            log.error("a damaged minute file was set aside: %s", error, extra={"file": str(aside)})
            return b"", [], aside


def _plain(minute: Minute, content: bytes) -> "Plain | None":
    """The minute of these lines, if it is plain and of a channel that has a short way for that."""
    if minute.stream.channel != "depth20":
        return None
    from archiver.plain import Plain  # numpy takes 20 MB: only the processes that need it load it

    return Plain.of(content)


def _stands(content: bytes, frames: Sequence[Frame], came: Sequence[Frame]) -> bool:
    """Whether the staged lines are the file's lines as they are: nothing dropped, nothing moved, all of them JSON."""
    same = len(frames) == len(came) and all(map(is_, frames, came))
    return same and b'"b":"' not in content and lines.are_json([frame.payload for frame in frames])
