"""Reading streams on from where the archive is: XRANGE, which leaves nothing pending and costs Redis no record.

Every command touches one key; a poll is a pipeline of one XRANGE a stream, and positions that moved ride on it. How far
was read is known here alone (decision 0005). Reading goes on when Redis is full or cannot write its log.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from common.position import BEGINNING, Place, Position, Positions, id_number, maps, parts
from common.streams import Stream
from common.wire import Link, LinkLost, ReplyError, pack

log = logging.getLogger(__name__)

Entry = tuple[bytes, list[bytes]]
"""The id that Redis gave and the fields, names and values in turn."""

POLL_ENTRIES = 5_000
"""At most so many entries are asked for in one pipeline: its replies are in memory at once."""


@dataclass(slots=True, eq=False)
class _Reading:
    """One stream while it is read.

    Attributes:
        asking: The beginning of its XRANGE, up to the place.
        place: How far it was read.
        is_counted: Whether what was read was compared with what Redis counted.
    """

    stream: Stream
    position: Position
    asking: bytes
    place: Place
    is_counted: bool = False


class Reader:
    """Reads entries of streams, each from where the archive is.

    Args:
        link: The connection; a new one needs a new reader.
        count: At most so many entries of a stream at a time.
        tail_s: What is in files stays in Redis for so long, for live readers.

    Attributes:
        positions: Where the archive is; they are moved with the next read.
    """

    def __init__(self, link: Link, *, count: int, tail_s: float) -> None:
        self._link = link
        self._count = count
        self._asked = pack("+", "COUNT", count).partition(b"\r\n")[2]
        self._readings: dict[Stream, _Reading] = {}
        self.positions = Positions(link, tail_s=tail_s)

    async def start(self, streams: Sequence[Stream]) -> None:
        """Reads these streams from now on, each from its position."""
        await self.positions.start(streams)
        for stream in streams:
            position = self.positions[stream]
            asking = b"*6\r\n" + pack("XRANGE", stream.key).partition(b"\r\n")[2]
            self._readings[stream] = _Reading(stream, position, asking, Place(position.entry_id, 0))

    def stop(self, streams: Sequence[Stream]) -> None:
        """Somebody else reads these now."""
        self.positions.stop(streams)
        for stream in streams:
            self._readings.pop(stream, None)

    async def read(self, streams: Sequence[Stream]) -> AsyncIterator[tuple[Stream, list[Entry]]]:
        """One poll: new entries of each stream, `count` at most, in pipelines of bounded size.

        Raises:
            LinkLost: The connection is gone, or a stream is not the one it was.
            ReplyError: Redis answered with an error that has no place here.
        """
        for part in parts(streams, max(1, POLL_ENTRIES // self._count)):
            readings = [self._readings[stream] for stream in part]
            uncounted = [one for one in readings if not one.is_counted]
            asked = [pack("XINFO", "STREAM", one.stream.key) for one in uncounted] + [*map(self._ask, readings)]
            moves, packed = self.positions.packed()
            replies = await self._link.replies(packed + b"".join(asked), 2 * len(moves) + len(asked))
            found = replies[2 * len(moves) :]
            await self.positions.check(moves, replies[: 2 * len(moves)])
            infos = dict(zip([one.stream for one in uncounted], found, strict=False))
            for one, reply in zip(readings, found[len(infos) :], strict=True):
                entries = self._entries(one, reply)
                if one.stream in infos and len(entries) < self._count:
                    self._compare(one, infos[one.stream], entries)
                if entries:
                    one.place = Place(entries[-1][0], one.place.number + len(entries))
                    yield one.stream, entries

    def _ask(self, one: _Reading) -> bytes:
        """`XRANGE key (place + COUNT n`: packed in parts, for each poll asks each stream."""
        entry_id = one.place.entry_id
        return b"%b$%d\r\n(%b\r\n%b" % (one.asking, len(entry_id) + 1, entry_id, self._asked)

    def _entries(self, one: _Reading, reply: Any) -> list[Entry]:
        if isinstance(reply, ReplyError):
            if reply.code != "WRONGTYPE":
                raise reply
            self.positions.no_stream(one.stream, reply)
            return []
        entries: list[Entry] = reply
        return entries

    # Whether Redis added as many as we read.

    def recount(self) -> None:
        """The next poll compares what was read of each stream with what Redis counted."""
        for one in self._readings.values():
            one.is_counted = False

    def _compare(self, one: _Reading, info: Any, entries: list[Entry]) -> None:
        """Compares with `info`, which Redis said just before it gave `entries`, the stream's last.

        XTRIM or XDEL by somebody else leaves no other trace than entries that were added and cannot be read.
        """
        if isinstance(info, ReplyError):
            return
        (stream,) = maps([info])
        last = id_number(stream[b"last-generated-id"])
        if last < id_number(one.place.entry_id):
            self._read_anew(one)
            return
        later = sum(1 for entry_id, _ in entries if id_number(entry_id) > last)
        read = one.place.number + len(entries) - later
        added, earlier = int(stream[b"entries-added"]), one.position.earlier
        if earlier is not None and added > earlier + read:
            log.error("%d entries of %s were deleted before they were archived", added - earlier - read, one.stream.key)
        one.position.earlier = added - read
        one.is_counted = True

    def _read_anew(self, one: _Reading) -> None:
        """The stream ends before our place in it: it was deleted and made anew, or Redis has an older state."""
        if one.place.number:
            raise LinkLost(f"{one.stream.key} is not the stream it was")
        log.error("%s ends before what is archived of it: reading it from its beginning", one.stream.key)
        one.place = Place(BEGINNING, 0)
        one.position.entry_id, one.position.earlier = BEGINNING, None
