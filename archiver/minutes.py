"""Writing minutes: what is staged is united with what the archive holds, and both files take their places.

Guarantees: a file is replaced by a file that holds at least its frames; the raw file comes first and the Parquet is
made from it; doing it again gives the same bytes, or writes nothing. Runs in a process of its own, many minutes at a
time, because the fsyncs of many files cost less together.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import is_
from pathlib import Path

from archiver import chains, derived, lines, members
from archiver.merge import NEAR_NS, identity_key, unite
from archiver.summaries import Summary
from common.channels import UNKNOWN
from common.files import Batch, newest_aside, set_aside
from common.frame import Frame, to_staged_line
from common.locks import locked, stripe
from common.paths import Minute, parquet_minute, raw_day, raw_minute

log = logging.getLogger(__name__)

_TOGETHER = 64
"""Minutes that are written under one set of locks and fsynced together."""


@dataclass(frozen=True, slots=True)
class Job:
    """A minute to write, and the staged files that hold its lines (`common.frame.to_staged_line`, each with `\\n`)."""

    minute: Minute
    staged: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a job.

    Attributes:
        minute: The job's minute.
        rows: Frames in the minute's raw file now.
        staged_rows: Frames that the job brought.
        doubled: Frames, staged or archived, that were dropped because an equal one is kept.
        mismatched: Frames in the file that share connection and counter, but not the payload, with another.
        changed: Whether a file was written.
        raw_bytes: Size of the raw file.
        parquet_bytes: Size of the Parquet file; 0 where the channel has none.
        payload_bytes: Sum of the payloads in the file.
        last_ns: The last receive time of each connection, copies that were dropped included.
        rejected: Frames that Parquet cannot hold.
        corrupt: Where a damaged raw file was set aside.
        ids: aggTrade: the smallest and the largest id.
        breaks: aggTrade: ids that are missing within a connection.
    """

    minute: Minute
    rows: int
    staged_rows: int
    doubled: int
    mismatched: int
    changed: bool
    raw_bytes: int
    parquet_bytes: int
    payload_bytes: int
    last_ns: dict[str, int]
    rejected: derived.Rejected | None = None
    corrupt: Path | None = None
    ids: tuple[int, int] | None = None
    breaks: list[chains.Break] = field(default_factory=list)


def share(jobs: Iterable[Job], workers: int) -> list[list[Job]]:
    """Splits jobs among workers so that two of them never wait for the same lock (but around midnight)."""
    shares: list[list[Job]] = [[] for _ in range(workers)]
    for job in jobs:
        shares[stripe(job.minute.stream, job.minute.day) % workers].append(job)
    return [each for each in shares if each]


def write_minutes(data: Path, jobs: Sequence[Job]) -> list[Written]:
    """Writes minutes into the archive; when it returns they are on disk. Jobs for one minute become one.

    Raises:
        ValueError: A staged line is none.
        OSError: The disk is full, say. Minutes of earlier groups may be written; doing it again does no harm.
    """
    staged: dict[Minute, tuple[Path, ...]] = defaultdict(tuple)
    for job in jobs:
        staged[job.minute] += job.staged
    ordered = sorted(staged, key=lambda minute: (stripe(minute.stream, minute.day), minute))
    written: list[Written] = []
    for at in range(0, len(ordered), _TOGETHER):
        group = ordered[at : at + _TOGETHER]
        days = {(each.stream, each.day) for minute in group for each in (minute, *_beside(minute))}
        with locked(data, days), Batch() as batch:
            writer = _Writer(data, batch, frozenset(group))
            finished = [writer.write(minute, staged[minute]) for minute in group]
            batch.commit()
        written += finished
    return written


class _Writer:
    """Writes the minutes of one batch under their temporary names, and remembers what neighbours among them share."""

    def __init__(self, data: Path, batch: Batch, group: frozenset[Minute]) -> None:
        self._data = data
        self._batch = batch
        self._group = group
        self._pending: dict[Minute, list[Frame]] = {}

    def write(self, minute: Minute, staged: Iterable[Path]) -> Written:
        came_content = self._came(minute, staged)
        came = lines.parse(came_content)
        old_content, archived, corrupt = self._archived(minute)
        merged = unite(
            identity_key(minute.stream), came, archived=archived, neighbours=self._near(minute, came, archived)
        )
        self._remember(minute, merged.frames)
        if not merged.frames:
            return Written(minute, 0, len(came), merged.doubled, 0, False, 0, 0, 0, {}, corrupt=corrupt)
        if old_content and merged.frames == archived:
            content = old_content
        elif not old_content and _stands(came_content, merged.frames, came):
            content = came_content
        else:
            content = lines.render(merged.frames)
        changed = content != old_content
        raw_path = self._data / raw_minute(minute)
        if changed:
            member, packed = members.pack(minute, content, Summary.of(merged.frames))
            raw_bytes = self._batch.write(raw_path, members.minute_zip(member, packed))
        else:
            raw_bytes = raw_path.stat().st_size
        side = derived.Side()
        if minute.stream.channel != UNKNOWN:
            path = self._data / parquet_minute(minute)
            crc = members.crc_of(content)
            kept = None if changed else derived.fresh(path, crc)
            side = kept or derived.write(self._batch.temporary(path), minute.stream, merged.frames, crc)
            changed = changed or kept is None
        everything = [*archived, *came]
        chain = chains.of(minute.stream, merged.frames, everything)
        return Written(
            minute,
            rows=len(merged.frames),
            staged_rows=len(came),
            doubled=merged.doubled,
            mismatched=merged.mismatched,
            changed=changed,
            raw_bytes=raw_bytes,
            parquet_bytes=side.size_bytes,
            payload_bytes=sum([len(frame.payload) for frame in merged.frames]),
            last_ns=_last_ns(everything),
            rejected=side.rejected,
            corrupt=corrupt,
            ids=chain.ids if chain else None,
            breaks=chain.breaks if chain else [],
        )

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

    def _near(self, minute: Minute, came: list[Frame], archived: list[Frame]) -> list[Frame]:
        """What the neighbouring minutes hold within 5 s of this one's frames, where copies of ours may be."""
        if not came:
            return []
        names = {frame.connection for frame in came} | {frame.connection for frame in archived}
        earliest = min(frame.receive_ns for frame in came) - NEAR_NS
        latest = max(frame.receive_ns for frame in came) + NEAR_NS
        near: list[Frame] = []
        for beside in _beside(minute):
            if beside in self._pending:
                near += self._pending[beside]
                continue
            for path in (self._data / raw_minute(beside), self._data / raw_day(beside.stream, beside.day)):
                near += _read_near(path, beside, names, earliest, latest)
        near = [frame for frame in near if earliest <= frame.receive_ns <= latest]
        return near if len(names.union([frame.connection for frame in near])) > 1 else []

    def _remember(self, minute: Minute, frames: Sequence[Frame]) -> None:
        if frames and not self._group.isdisjoint(_beside(minute)):
            first_ns, last_ns = frames[0].receive_ns + NEAR_NS, frames[-1].receive_ns - NEAR_NS
            self._pending[minute] = [frame for frame in frames if not first_ns < frame.receive_ns < last_ns]


def _beside(minute: Minute) -> tuple[Minute, Minute]:
    return Minute(minute.stream, minute.number - 1), Minute(minute.stream, minute.number + 1)


def _stands(content: bytes, frames: Sequence[Frame], came: Sequence[Frame]) -> bool:
    """Whether the staged lines are the file's lines as they are: nothing dropped, nothing moved, all of them JSON."""
    same = len(frames) == len(came) and all(map(is_, frames, came))
    return same and b'"b":"' not in content and lines.are_json([frame.payload for frame in frames])


def _read_near(path: Path, beside: Minute, names: set[str], earliest: int, latest: int) -> list[Frame]:
    if not path.exists():
        return []
    try:
        member = members.directory(path).find(members.member_name(beside))
        if member is None:
            return []
        summary = member.summary
        if summary is not None:
            if summary.first_ns > latest or summary.last_ns < earliest:
                return []
            if summary.connections is not None and len(names | summary.connections.keys()) == 1:
                return []
        with path.open("rb") as file:
            return lines.parse(members.unpack(member, members.read_packed(file, member)))
    except ValueError as error:
        log.warning("a neighbouring minute cannot be read, copies in it are not seen: %s", error)
        return []


def _last_ns(frames: list[Frame]) -> dict[str, int]:
    last: dict[str, int] = {}
    for receive_ns, connection, _, _ in frames:
        if receive_ns > last.get(connection, 0):
            last[connection] = receive_ns
    return last
