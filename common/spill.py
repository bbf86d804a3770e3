"""A log of batches on disk: what a collector keeps there while Redis does not take it. Blocking; one thread at a time.

A spill is a folder with a `lock`, flocked by its living owner, and segments named after the first batch in them.
Batches have numbers, and a segment holds a run of them without a gap; so batches that are older than what is already
there go into a segment of their own, and the order of the names is the order of the batches. A segment is removed when
all of it is durable in Redis, and not before. The kernel frees the lock of a process that dies: then the next one
adopts its folder.
"""

import bisect
import fcntl
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.files import fsync
from common.spill_record import Draft, Record, encode, next_record

log = logging.getLogger(__name__)

_LOCK = "lock"
_SUFFIX = ".batches"
_MOST_PARTS = 1000
"""The kernel takes 1,024 at once."""


@dataclass(slots=True, eq=False)
class _Segment:
    """One file.

    Attributes:
        first: The number of its first batch.
        size: Bytes of whole records.
        at: Read up to here, in bytes.
        ends: The number that is durable when all of it is; None while that is not known.
    """

    path: Path
    first: int
    size: int = 0
    at: int = 0
    ends: int | None = None


class Spill:
    """One folder of batches. Made by `create` and `abandoned`."""

    def __init__(self, folder: Path, lock: int, segment_bytes: int) -> None:
        self._folder = folder
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._open: _Segment | None = None
        self._descriptor = -1
        self.skipped_bytes = 0
        """Read and of no use: torn or damaged."""

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self._segments)

    @property
    def unread(self) -> int:
        """Bytes on disk that were not read yet."""
        return sum(segment.size - segment.at for segment in self._segments)

    # Writing.

    def write(self, drafts: Iterable[Draft], *, read: bool = False) -> None:
        """Appends records, oldest first, and returns when they are on disk; all of them, or none.

        Args:
            drafts: Of consecutive numbers, or with gaps.
            read: Whether the writer still has them in hand, so that `read` need not give them.

        Raises:
            OSError: The disk does not take them.
        """
        before = [(segment, segment.size, segment.at, segment.ends) for segment in self._segments]
        try:
            for draft in drafts:
                segment = self._segment_for(draft, read)
                segment.size += _write_all(self._descriptor, encode(draft))
                segment.ends = draft.last
                if read:
                    segment.at = segment.size
            self._sync()
        except OSError:
            self._undo(before)
            raise

    def _segment_for(self, draft: Draft, read: bool) -> _Segment:
        now = self._open
        if (
            now is not None
            and now.ends == draft.first - 1
            and now.size < self._segment_bytes
            and (not read or now.at == now.size)
        ):
            return now
        self._seal()
        path = self._folder / f"{draft.first:016x}{_SUFFIX}"
        self._open = _Segment(path, draft.first)
        bisect.insort(self._segments, self._open, key=lambda segment: segment.first)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        fsync(self._folder)
        return self._open

    def _sync(self) -> None:
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)

    def _seal(self) -> None:
        """Nothing more is written to the open segment."""
        descriptor, self._descriptor, self._open = self._descriptor, -1, None
        if descriptor >= 0:
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def _undo(self, before: list[tuple[_Segment, int, int, int | None]]) -> None:
        """As it was; what cannot be cut off stands after the end and is not read, or is a copy with known numbers."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._open = -1, None
        known = {segment for segment, *_ in before}
        added = [segment for segment in self._segments if segment not in known]
        self._segments = [segment for segment, *_ in before]
        for segment, size, at, ends in before:
            segment.size, segment.at, segment.ends = size, at, ends
        try:
            for segment in added:
                segment.path.unlink(missing_ok=True)
            for segment in self._segments:
                os.truncate(segment.path, segment.size)
        except OSError as error:
            log.warning("%s: cannot be cut back: %s", self._folder, error)

    # Reading.

    def read(self, most_bytes: int) -> list[Record]:
        """The next records, in order, up to about so many bytes; empty when all was read."""
        found: list[Record] = []
        for segment in [each for each in self._segments if each.at < each.size]:
            try:
                self._read(segment, most_bytes - sum(record.size for record in found), found)
            except OSError as error:
                self._give_up(segment, error)
            if sum(record.size for record in found) >= most_bytes:
                break
        return found

    def _read(self, segment: _Segment, room: int, found: list[Record]) -> None:
        """Adds to `found`, so that what was read is there even where the disk then does not give the rest."""
        descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while segment.at < segment.size and room > 0:
                record, segment.at, skipped = next_record(descriptor, segment.at, segment.size)
                if skipped:
                    self._say_skipped(segment, skipped, torn=record is None)
                if record is not None:
                    found.append(record)
                    room -= record.size
        finally:
            os.close(descriptor)

    def _give_up(self, segment: _Segment, error: OSError) -> None:
        """A file that the disk does not give is no reason to keep what comes after it."""
        lost = segment.size - segment.at
        self.skipped_bytes += lost
        log.error("%s: %d bytes cannot be read and are left out: %s", segment.path, lost, error)
        self._segments.remove(segment)
        if segment is self._open:
            os.close(self._descriptor)
            self._descriptor, self._open = -1, None

    def _say_skipped(self, segment: _Segment, skipped: int, *, torn: bool) -> None:
        self.skipped_bytes += skipped
        if torn:
            log.warning("%s: the last %d bytes are torn and are left out", segment.path, skipped)
        else:
            log.error("%s: %d damaged bytes in the middle are left out", segment.path, skipped)

    def was_read_up_to(self, number: int) -> None:
        """What was read of an adopted spill is durable when the reader's batch of this number is."""
        for segment in self._segments:
            if segment.ends is None and segment.at == segment.size:
                segment.ends = number

    # Letting go.

    def release(self, number: int) -> None:
        """Removes the segments of which all is durable, now that every batch up to `number` is."""
        kept = []
        for segment in self._segments:
            if segment.ends is None or segment.ends > number or segment.at < segment.size:
                kept.append(segment)
                continue
            if segment is self._open:
                os.close(self._descriptor)
                self._descriptor, self._open = -1, None
            try:
                segment.path.unlink(missing_ok=True)
            except OSError as error:  # it is sent again by whoever adopts it
                log.warning("%s cannot be removed: %s", segment.path, error)
        self._segments = kept

    def close(self) -> None:
        """Frees the lock; removes the folder where nothing is left in it. What is left is for the next to adopt."""
        try:
            self._seal()
            if not self._segments:
                (self._folder / _LOCK).unlink(missing_ok=True)
                self._folder.rmdir()
        except OSError as error:
            log.warning("%s: cannot be closed well: %s", self._folder, error)
        finally:
            os.close(self._lock)


def create(root: Path, name: str, segment_bytes: int) -> Spill:
    """A new spill, locked before anybody can see it under its name.

    Raises:
        OSError: The disk does not take it.
    """
    root.mkdir(parents=True, exist_ok=True)
    hidden = root / f".{name}"
    hidden.mkdir(exist_ok=True)
    lock = os.open(hidden / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(root / name)
        fsync(root)
    except OSError:
        os.close(lock)
        raise
    return Spill(root / name, lock, segment_bytes)


def abandoned(root: Path, segment_bytes: int) -> list[Spill]:
    """The spills of dead owners, the oldest first; ours from now on, for nobody else gets their locks."""
    if not root.is_dir():
        return []
    found = []
    for folder in sorted(root.iterdir(), key=lambda each: each.name):
        if not folder.name.startswith("."):
            adopted = _adopt(folder, segment_bytes)
            if adopted is not None:
                found.append(adopted)
    return [spill for _, spill in sorted(found, key=lambda pair: pair[0])]


def _adopt(folder: Path, segment_bytes: int) -> tuple[int, Spill] | None:
    """(time of its last change in ns, the spill); None where its owner lives, or somebody else took it."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        log.error("%s cannot be read: %s", folder, error)
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if not os.fstat(lock).st_nlink:  # its last owner was just removing it
        os.close(lock)
        return None
    spill = Spill(folder, lock, segment_bytes)
    changed_ns = 0
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            first, facts = int(path.stem, 16), path.stat()
            if not facts.st_size:
                path.unlink()
                continue
        except (ValueError, OSError) as error:  # one file is no reason to leave the others
            log.error("%s is left out: %s", path, error)
            continue
        changed_ns = max(changed_ns, facts.st_mtime_ns)
        spill._segments.append(_Segment(path, first, facts.st_size))
    return changed_ns, spill


def _write_all(descriptor: int, parts: list[bytes]) -> int:
    """Writes all parts; gives their bytes."""
    if len(parts) > _MOST_PARTS:
        parts = [b"".join(parts)]
    size = sum(map(len, parts))
    written = os.writev(descriptor, parts)
    if written < size:
        rest = memoryview(b"".join(parts))[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    return size
