"""All spills that one collector reads and writes: those of dead collectors that it adopted, and its own after them.

Blocking; one thread at a time. Its batches are numbered in one order: the adopted ones from 1, our own from `OWN_FROM`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from common.flight import Batch
from common.packed import heard
from common.spill import Spill, abandoned, create
from common.spill_record import HEAD_BYTES, Draft
from common.streams import Stream

OWN_FROM = 1 << 48

SEGMENT_BYTES = 16 << 20
RECORD_BYTES = 256 << 10


class Replay(NamedTuple):
    """What was read back.

    Attributes:
        batches: In order; on disk until they are durable.
        heard: Of adopted spills, connection to its last receive time in ns.
        streams: Of adopted spills, where the batches go.
    """

    batches: list[Batch]
    heard: dict[str, int]
    streams: set[Stream]


class Spills:
    """Adopted spills and our own.

    Args:
        root: The folder of all spills of all collectors.
        name: The name of our own, unique for ever.
        bound_bytes: The bound on all of it.
    """

    def __init__(self, root: Path, name: str, bound_bytes: int) -> None:
        self._root = root
        self._name = name
        self._bound_bytes = bound_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max(1, bound_bytes // 16))
        self._adopted: list[Spill] = []
        self._adopted_number = 0
        self._own: Spill | None = None

    def __iter__(self) -> Iterator[Spill]:
        yield from self._adopted
        if self._own is not None:
            yield self._own

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(spill.size for spill in self)

    @property
    def unread(self) -> int:
        """Bytes on disk that are not in flight yet."""
        return sum(spill.unread for spill in self)

    def adopt(self) -> None:
        """Takes the spills of collectors that are dead.

        Raises:
            OSError: The disk does not give them.
        """
        self._adopted = abandoned(self._root, self._segment_bytes)

    def write(self, batches: Sequence[Batch], *, read: bool) -> int:
        """Writes the oldest that fit into the bound; gives how many, all of them on disk.

        Args:
            batches: Our own, in order.
            read: Whether they stay in flight, so that `read` need not give them.

        Raises:
            OSError: The disk does not take them; none was written.
        """
        groups = list(_fitting(batches, self._bound_bytes - self.size))
        if groups:
            if self._own is None:
                self._own = create(self._root, self._name, self._segment_bytes)
            self._own.write(map(_draft, groups), read=read)
        return sum(map(len, groups))

    def read(self, most_bytes: int, now_s: float) -> Replay:
        """The next batches, up to about so many bytes; they came at `now_s` of the loop's clock."""
        spill = next((each for each in self if each.unread), None)
        replay = Replay([], {}, set())
        for record in spill.read(most_bytes) if spill is not None else ():
            number = record.last
            if spill is not self._own:
                self._adopted_number += 1
                number = self._adopted_number
                until, streams = heard(record.packed)
                replay.heard.update(until)
                replay.streams.update(streams)
            replay.batches.append(Batch(record.packed, record.commands, number, now_s, on_disk=True))
        if spill is not None and spill is not self._own:
            spill.was_read_up_to(self._adopted_number)
        return replay

    def release(self, durable: int) -> None:
        """Removes what is durable, now that every batch up to `durable` is."""
        for spill in self:
            spill.release(durable)
        for spill in [each for each in self._adopted if not each.size]:
            self._adopted.remove(spill)
            spill.close()

    def close(self) -> None:
        """Frees the locks. What is left is for the next to adopt."""
        for spill in self:
            spill.close()


def _fitting(batches: Sequence[Batch], room_bytes: int) -> Iterator[Sequence[Batch]]:
    """The oldest batches that fit, in groups of consecutive numbers that each make a record."""
    start = size = 0
    end = len(batches)
    for at, batch in enumerate(batches):
        if at > start and (size >= RECORD_BYTES or batch.number != batches[at - 1].number + 1):
            yield batches[start:at]
            start, size = at, 0
        needed = len(batch.packed) + (HEAD_BYTES if at == start else 0)
        if needed > room_bytes:
            end = at
            break
        room_bytes -= needed
        size += len(batch.packed)
    if end > start:
        yield batches[start:end]


def _draft(group: Sequence[Batch]) -> Draft:
    commands = sum(batch.count for batch in group)
    return Draft(group[0].number, group[-1].number, commands, [batch.packed for batch in group])
