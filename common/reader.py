"""Reading streams as a member of the consumer group `archiver`: pending first, acknowledged when durable, then trimmed.

Every command touches one key; a poll is a pipeline of one XREADGROUP a stream, and acknowledgements ride on it. A
reader remembers nothing that Redis does not know, but for its place in each stream: when Redis cannot write its log it
refuses XREADGROUP, and then what is there is read with XRANGE, so that it is in the archive before Redis is well again.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from common.streams import GROUP, Stream
from common.wire import Link, ReplyError, pack, raise_first

log = logging.getLogger(__name__)

Entry = tuple[bytes, list[bytes] | None]
"""The id that Redis gave and the fields, names and values in turn; None when the entry was deleted while pending."""

POLL_ENTRIES = 12_000
"""At most so many entries are asked for in one pipeline: its replies are in memory at once."""

GONE_MS = 3_600_000


class GroupReader:
    """Reads entries for one consumer of the group `archiver`.

    Args:
        link: The connection; a new one needs a new reader.
        consumer: A name that no other process has.
        count: At most so many entries of a stream at a time.
    """

    def __init__(self, link: Link, consumer: str, *, count: int) -> None:
        self._link = link
        self._consumer = consumer
        self._count = count
        self._commands: dict[Stream, bytes] = {}
        self._last: dict[Stream, bytes] = {}
        self._acks: list[bytes] = []
        self._no_streams: set[Stream] = set()
        self.peeking = False
        """Redis cannot write its log: entries are looked at, not taken."""

    def acknowledge(self, stream: Stream, packed_ids: bytes, count: int) -> None:
        """Entries of a stream that are durable; `packed_ids` are `count` bulk strings (see `packed_id`)."""
        key = stream.key.encode()
        head = b"*%d\r\n$4\r\nXACK\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
        self._acks.append(head % (count + 3, len(key), key, len(GROUP), GROUP.encode()) + packed_ids)

    async def flush(self) -> None:
        """Sends the acknowledgements that have not ridden on a read yet."""
        acks, self._acks = self._acks, []
        self._check_acks(acks, await self._link.replies(b"".join(acks), len(acks)))

    def _check_acks(self, acks: list[bytes], replies: Sequence[Any]) -> None:
        """Acknowledgements that Redis cannot write now are kept for later."""
        raise_first(replies, but=frozenset({"MISCONF", "NOGROUP"}))
        if any(isinstance(reply, ReplyError) and reply.code == "MISCONF" for reply in replies):
            self._acks[:0] = acks

    async def read(self, streams: Sequence[Stream]) -> AsyncIterator[tuple[Stream, list[Entry]]]:
        """One poll: new entries of each stream, `count` at most, in pipelines of bounded size.

        Raises:
            LinkLost: The connection is gone.
            ReplyError: Redis answered with an error that has no place here.
        """
        if self.peeking and streams:
            await self._try_to_take(streams[0])
        for part in parts(streams, max(1, POLL_ENTRIES // self._count)):
            acks, self._acks = self._acks, []
            command = self._peek if self.peeking else self._take
            packed = b"".join((*acks, *map(command, part)))
            replies = await self._link.replies(packed, len(acks) + len(part))
            self._check_acks(acks, replies[: len(acks)])
            for stream, reply in zip(part, replies[len(acks) :], strict=True):
                entries = await self._entries(stream, reply)
                if entries:
                    self._last[stream] = entries[-1][0]
                    yield stream, entries

    def _take(self, stream: Stream) -> bytes:
        packed = self._commands.get(stream)
        if packed is None:
            packed = self._commands[stream] = pack(
                "XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", self._count, "STREAMS", stream.key, ">"
            )
        return packed

    def _peek(self, stream: Stream) -> bytes:
        after = b"(" + self._last.get(stream, b"0-0")
        return pack("XRANGE", stream.key, after, "+", "COUNT", self._count)

    async def _try_to_take(self, stream: Stream) -> None:
        """Whether Redis writes again is tried on a command that changes nothing."""
        try:
            await self._link.call("XACK", stream.key, GROUP, "0-1")
        except ReplyError as error:
            if error.code != "MISCONF":
                raise
        else:
            log.info("redis writes its log again")
            self.peeking = False

    async def _entries(self, stream: Stream, reply: Any) -> list[Entry]:
        if isinstance(reply, ReplyError):
            if reply.code == "MISCONF":
                if not self.peeking:
                    log.warning("redis cannot write its log, reading without taking: %s", reply)
                self.peeking = True
                return []
            if reply.code == "NOGROUP":
                await self.create_group(stream)
                return []
            if reply.code == "WRONGTYPE":
                self._no_stream(stream, reply)
                return []
            raise reply
        if not reply:
            return []
        entries: list[Entry] = reply if self.peeking else reply[0][1]
        return entries

    def _no_stream(self, stream: Stream, error: ReplyError) -> None:
        if stream not in self._no_streams:
            log.error("%s is left out, it is no stream: %s", stream.key, error)
        self._no_streams.add(stream)

    async def create_group(self, stream: Stream) -> None:
        """A stream and its group, from the stream's beginning; it is no error that it is there."""
        try:
            await self._link.call("XGROUP", "CREATE", stream.key, GROUP, "0", "MKSTREAM")
        except ReplyError as error:
            if error.code != "BUSYGROUP" and not error.passes:
                raise

    async def pending(self, stream: Stream) -> AsyncIterator[list[Entry]]:
        """Everything delivered to anyone and not acknowledged, claimed by this consumer, oldest first.

        For who takes a stream over: its own lost replies and what a dead or stopped archiver had are all in there.
        """
        cursor: bytes = b"0-0"
        while True:
            try:
                reply = await self._link.call(
                    "XAUTOCLAIM", stream.key, GROUP, self._consumer, 0, cursor, "COUNT", self._count
                )
            except ReplyError as error:
                if error.code == "NOGROUP":
                    await self.create_group(stream)
                    return
                if error.code == "WRONGTYPE":
                    self._no_stream(stream, error)
                    return
                if error.code == "MISCONF":
                    self.peeking = True
                    return
                raise
            cursor, entries = reply[0], reply[1]
            if len(reply) > 2 and reply[2]:
                log.error("entries of %s were deleted before they were archived: %s", stream.key, reply[2][:5])
            if entries:
                yield entries
            if cursor == b"0-0":
                break
        await self._forget_the_gone(stream)

    async def _forget_the_gone(self, stream: Stream) -> None:
        """Consumers of archivers that ended long ago and hold nothing are removed: each start makes a new name."""
        for one in await self._link.call("XINFO", "CONSUMERS", stream.key, GROUP):
            fields = dict(zip(one[::2], one[1::2], strict=True))
            if not fields[b"pending"] and fields[b"idle"] > GONE_MS:
                await self._link.call("XGROUP", "DELCONSUMER", stream.key, GROUP, fields[b"name"])

    async def strays(self, streams: Sequence[Stream]) -> list[Stream]:
        """The streams of which another consumer holds entries: it read on after it had lost the lease."""
        found = []
        for part in parts(streams, 256):
            replies = await self._link.replies(b"".join(pack("XPENDING", s.key, GROUP) for s in part), len(part))
            for stream, reply in zip(part, replies, strict=True):
                if isinstance(reply, ReplyError):
                    continue
                holders = {name for name, _ in reply[3] or ()}
                if holders - {self._consumer.encode()}:
                    found.append(stream)
        return found

    async def trim(self, streams: Sequence[Stream], *, tail_s: float) -> None:
        """Deletes what everyone has acknowledged, less a tail for live readers.

        Below the oldest pending entry of any consumer, and below the last one delivered: never by length alone, which
        deletes what nobody has read. Without a tail every entry that can go does, at more cost to the server.
        """
        how = "~" if tail_s else "="
        for part in parts(streams, 256):
            asked = b"".join(pack("XPENDING", s.key, GROUP) + pack("XINFO", "GROUPS", s.key) for s in part)
            replies = await self._link.replies(asked, 2 * len(part))
            trims = []
            for stream, pending, groups in zip(part, replies[::2], replies[1::2], strict=True):
                if isinstance(pending, ReplyError) or isinstance(groups, ReplyError):
                    continue
                below_ms = _needed_from_ms(pending, groups, int(tail_s * 1000))
                if below_ms > 0:
                    trims.append(pack("XTRIM", stream.key, "MINID", how, below_ms))
            raise_first(await self._link.replies(b"".join(trims), len(trims)), but=frozenset({"MISCONF"}))


def packed_id(entry_id: bytes) -> bytes:
    """An entry's id as a bulk string, as `GroupReader.acknowledge` takes it."""
    return b"$%d\r\n%b\r\n" % (len(entry_id), entry_id)


def parts(streams: Sequence[Stream], size: int) -> Iterator[Sequence[Stream]]:
    """The streams in runs of at most `size`."""
    for start in range(0, len(streams), size):
        yield streams[start : start + size]


def _needed_from_ms(pending: list[Any], groups: Iterable[list[Any]], tail_ms: int) -> int:
    """The time of the oldest entry that the group, or a live reader within the tail, still needs; 0 for all of them.

    The tail counts back from the last entry delivered, in the server's own time: no other clock is asked.
    """
    for group in groups:
        fields = dict(zip(group[::2], group[1::2], strict=True))
        if fields[b"name"] == GROUP.encode():
            delivered_ms = _milliseconds(fields[b"last-delivered-id"])
            oldest_ms = _milliseconds(pending[1]) if pending[1] else delivered_ms
            return min(oldest_ms, delivered_ms - tail_ms)
    return 0


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
