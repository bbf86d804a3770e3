"""How far the archive is in each stream: the last-delivered-id of the group `archiver`; up to it all is in files.

Who takes a stream over reads from its position. An owner that was stopped beyond its lease and comes back may set it
too, and does no harm: whatever position anybody sets, all up to it is in files; set back, it means reading again.
XGROUP SETID and XTRIM are granted when Redis is full. When it cannot write its log, positions wait here and are sent
again.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.streams import GROUP, STREAMS_SET, Stream
from common.wire import Link, ReplyError, pack, raise_first

log = logging.getLogger(__name__)

BEGINNING = b"0-0"


class Place(NamedTuple):
    """How far into a stream: up to this entry and with it.

    Attributes:
        entry_id: The id that Redis gave.
        number: So many entries were read up to it, since reading began.
    """

    entry_id: bytes
    number: int


@dataclass(slots=True)
class Position:
    """A stream's position, as far as we know.

    Attributes:
        entry_id: All up to this entry is in files.
        earlier: So many entries were added to the stream before reading began; None while that is unknown.
    """

    entry_id: bytes
    earlier: int | None


class Positions:
    """The positions of the streams that this process archives.

    Args:
        link: The connection; a new one needs new positions.
        tail_s: What is in files stays in Redis for so long, for live readers.
    """

    def __init__(self, link: Link, *, tail_s: float) -> None:
        self._link = link
        self._tail_ms = int(tail_s * 1000)
        self._positions: dict[Stream, Position] = {}
        self._moves: dict[Stream, Place] = {}
        self.keeps_tail = True
        """Whether what is in files stays for live readers; else it goes at once, which costs the server more."""
        self._no_streams: set[Stream] = set()
        self._takes_writes = True

    def __getitem__(self, stream: Stream) -> Position:
        return self._positions[stream]

    async def start(self, streams: Sequence[Stream]) -> None:
        """Asks Redis for the positions of these streams; a group that is missing is made."""
        for part in parts(streams, 256):
            packed = b"".join(pack("XINFO", "GROUPS", stream.key) for stream in part)
            for stream, reply in zip(part, await self._link.replies(packed, len(part)), strict=True):
                self._positions[stream] = await self._begin(stream, reply)

    def stop(self, streams: Iterable[Stream]) -> None:
        """Somebody else archives these now, and moves their positions."""
        for stream in streams:
            self._moves.pop(stream, None)
            self._positions.pop(stream, None)

    async def _begin(self, stream: Stream, reply: Any) -> Position:
        if isinstance(reply, ReplyError) and reply.passes:
            raise reply
        group = next((one for one in maps(reply) if one[b"name"] == GROUP.encode()), None)
        if group is None:
            await self._create_group(stream)
            return Position(BEGINNING, None)
        position, earlier = group[b"last-delivered-id"], group[b"entries-read"]
        if group[b"pending"]:
            return Position(await self._before_the_pending(stream), None)
        return Position(position, 0 if position == BEGINNING else earlier)

    async def _before_the_pending(self, stream: Stream) -> bytes:
        """The position before all that XREADGROUP delivered and nobody acknowledged; it is set, and nothing pends.

        An archiver of before decision 0005 left entries so, or somebody's program that read as our group.
        """
        _, oldest, _, holders = await self._link.call("XPENDING", stream.key, GROUP)
        log.warning("%s has pending entries, reading from %s on", stream.key, oldest.decode())
        milliseconds, sequence = id_number(oldest)
        position = b"%d-%d" % ((milliseconds, sequence - 1) if sequence else (milliseconds - 1, 2**64 - 1))
        commands = [pack("XGROUP", "SETID", stream.key, GROUP, position)]
        commands += [pack("XGROUP", "DELCONSUMER", stream.key, GROUP, name) for name, _ in holders]
        raise_first(await self._link.replies(b"".join(commands), len(commands)), but=frozenset({"MISCONF"}))
        return position

    async def _create_group(self, stream: Stream) -> None:
        """A stream and its group, from the stream's beginning; it is no error that it is there."""
        try:
            await self._link.call("XGROUP", "CREATE", stream.key, GROUP, "0", "MKSTREAM")
        except ReplyError as error:
            if error.code == "WRONGTYPE":
                self.no_stream(stream, error)
            elif error.code != "BUSYGROUP" and not error.passes:
                raise

    def no_stream(self, stream: Stream, error: ReplyError) -> None:
        """Says once that a stream's key holds something else."""
        if stream not in self._no_streams:
            log.error("%s is left out, it is no stream: %s", stream.key, error)
        self._no_streams.add(stream)

    # What became durable.

    def move(self, stream: Stream, place: Place) -> None:
        """All up to this place is in files: the position follows with the next read, and older entries go."""
        self._moves[stream] = place

    async def flush(self) -> None:
        """Moves what has not ridden on a read yet."""
        moves, packed = self.packed()
        await self.check(moves, await self._link.replies(packed, 2 * len(moves)))

    def packed(self) -> tuple[dict[Stream, Place], bytes]:
        """What is to be moved, and its commands, two each; `check` takes their replies."""
        moves, self._moves = self._moves, {}
        return moves, b"".join(self._packed(stream, place) for stream, place in moves.items())

    def _packed(self, stream: Stream, place: Place) -> bytes:
        """SETID, and the trim of what no live reader needs: the tail counts in the server's own time.

        ENTRIESREAD makes Redis's `lag` the number of entries that are not in files yet.
        """
        earlier = self._positions[stream].earlier
        counted = () if earlier is None else ("ENTRIESREAD", max(0, earlier + place.number))
        moved = pack("XGROUP", "SETID", stream.key, GROUP, place.entry_id, *counted)
        if not self._tail_ms or not self.keeps_tail:
            return moved + _trim(stream, place.entry_id)
        below_ms = max(0, id_number(place.entry_id)[0] - self._tail_ms)
        return moved + pack("XTRIM", stream.key, "MINID", "~", below_ms)

    async def check(self, moves: dict[Stream, Place], replies: Sequence[Any]) -> None:
        """Takes the replies to `moves`: what Redis cannot write now is kept for the next time, and so is what lacks its
        group.

        Raises:
            ReplyError: Redis answered with an error that has no place here.
        """
        for (stream, place), moved, trimmed in zip(moves.items(), replies[::2], replies[1::2], strict=True):
            if not isinstance(moved, ReplyError):
                self._positions[stream].entry_id = place.entry_id
            elif moved.code == "WRONGTYPE":
                self.no_stream(stream, moved)
                continue
            else:
                self._moves.setdefault(stream, place)
                if moved.code == "NOGROUP" or "requires the key" in str(moved):
                    await self._create_group(stream)
                elif not moved.passes:
                    raise moved
            if isinstance(trimmed, ReplyError) and not trimmed.passes:
                raise trimmed

    async def trim(self, streams: Sequence[Stream]) -> None:
        """Deletes all that is in files, the tail too."""
        for part in parts(streams, 256):
            packed = b"".join(_trim(stream, self._positions[stream].entry_id) for stream in part)
            raise_first(await self._link.replies(packed, len(part)), but=frozenset({"MISCONF", "WRONGTYPE"}))

    async def takes_writes(self) -> bool:
        """Whether Redis can write its log, tried on a command that changes nothing."""
        try:
            await self._link.call("SREM", STREAMS_SET, "")
        except ReplyError as error:
            if error.code != "MISCONF":
                raise
            if self._takes_writes:
                log.warning("redis cannot write its log, what it has is read all the same: %s", error)
            self._takes_writes = False
        else:
            if not self._takes_writes:
                log.info("redis writes its log again")
            self._takes_writes = True
        return self._takes_writes


def parts(streams: Sequence[Stream], size: int) -> Iterator[Sequence[Stream]]:
    """The streams in runs of at most `size`."""
    for start in range(0, len(streams), size):
        yield streams[start : start + size]


def maps(reply: Any) -> Iterable[dict[bytes, Any]]:
    """The maps of an answer of XINFO; none where it is an error: no such key, or no stream."""
    return () if isinstance(reply, ReplyError) else (dict(zip(one[::2], one[1::2], strict=True)) for one in reply)


def id_number(entry_id: bytes) -> tuple[int, int]:
    """An entry's id as numbers, which can be compared: milliseconds, and the entry within them."""
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence or 0)


def _trim(stream: Stream, below_id: bytes) -> bytes:
    return pack("XTRIM", stream.key, "MINID", "=", below_id)
