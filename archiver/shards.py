"""Which streams an archiver reads: the streams fall into shards, and a shard has one archiver at a time.

A lease is a pending entry: the stream `archiver:shards` holds one entry a shard, and who holds the entry in the group
`owners` holds the shard. Taking one over is XCLAIM with a minimum idle time, which Redis decides atomically, and which
it grants even when it is full (SET would be refused then, and nobody could take over from a dead archiver to drain it).
"""

import logging
from typing import Any
from zlib import crc32

from common.streams import Stream
from common.wire import Link, ReplyError, pack

log = logging.getLogger(__name__)

KEY = "archiver:shards"
OWNERS = "owners"
FREE = "free"
"""Who holds what was given back: no archiver, and no lease of it runs."""

RELEASED_MS = 10**10


def shard_of(stream: Stream, shards: int) -> int:
    """The shard that a stream falls into, from 0 to `shards` - 1."""
    return crc32(stream.key.encode()) % shards


class Shards:
    """The leases of one archiver.

    Args:
        consumer: A name that no other process has.
        shards: How many there shall be; there may be more, from an earlier setting.
        lease_s: Who does not renew for so long loses the shard to whom asks for it.
    """

    def __init__(self, consumer: str, *, shards: int, lease_s: float) -> None:
        self._consumer = consumer
        self._wanted = shards
        self._lease_ms = int(lease_s * 1000)
        self.count = shards
        self.held: frozenset[int] = frozenset()

    def holds(self, stream: Stream) -> bool:
        """Whether this archiver is the one that reads the stream."""
        return shard_of(stream, self.count) in self.held

    async def _prepare(self, link: Link) -> None:
        """Makes sure that the stream of shards, its group and its entries exist."""
        for command in (
            ("XGROUP", "CREATE", KEY, OWNERS, "0", "MKSTREAM"),
            *(("XADD", KEY, f"0-{number + 1}", "shard", number) for number in range(self._wanted)),
        ):
            try:
                await link.call(*command)
            except ReplyError as error:
                if error.code != "BUSYGROUP" and "equal or smaller" not in str(error):
                    raise

    async def tend(self, link: Link) -> None:
        """Renews what is held, takes a fair share of what is free, gives back what is over it. Sets `held`.

        Where Redis was full before there ever was an archiver, and so not even the stream of shards can be made, all is
        read without a lease: somebody has to drain it, and two who read the same do no harm.
        """
        try:
            held = await self._tend(link)
        except ReplyError as error:
            if error.code != "NOGROUP" and "no such key" not in str(error) and not error.passes:
                raise
            try:
                await self._prepare(link)
                held = await self._tend(link)
            except ReplyError as refusal:
                if not refusal.passes:
                    raise
                log.debug("redis takes no writes: %s", refusal)
                held = self.held or frozenset(range(self.count))
        if held != self.held:
            log.info("shards held: %s", sorted(held))
        self.held = held

    async def _tend(self, link: Link) -> frozenset[int]:
        me = self._consumer.encode()
        length, consumers, leases = await self._look(link)
        if length < self._wanted:
            await self._prepare(link)
            length = self._wanted
        self.count = length
        alive = {name for name, idle_ms in consumers if idle_ms < self._lease_ms} - {FREE.encode()} | {me}
        fair = -(-self.count // len(alive))
        mine = [entry for entry, owner, _, _ in leases if owner == me]
        keep, surplus = mine[:fair], mine[fair:]
        if surplus:
            await self._give_back(link, surplus)
        if keep:
            await self._claim(link, keep)
        wanted = fair - len(keep)
        if wanted > 0:
            never_held = await link.call(
                "XREADGROUP", "GROUP", OWNERS, self._consumer, "COUNT", wanted, "STREAMS", KEY, ">"
            )
            keep += [entry for entry, _ in (never_held[0][1] if never_held else ())]
            free = [entry for entry, owner, idle_ms, _ in leases if owner != me and idle_ms >= self._lease_ms]
            for entry in free[: max(0, fair - len(keep))]:
                keep += await self._claim(link, [entry], idle_ms=self._lease_ms)
        else:  # be seen: an archiver that asks for nothing must not count as gone
            await link.call("XREADGROUP", "GROUP", OWNERS, self._consumer, "COUNT", 1, "STREAMS", KEY, "0")
        return frozenset(int(entry.partition(b"-")[2]) - 1 for entry in keep)

    async def _look(self, link: Link) -> tuple[int, list[tuple[bytes, int]], list[Any]]:
        questions = ("XLEN", KEY), ("XINFO", "CONSUMERS", KEY, OWNERS), ("XPENDING", KEY, OWNERS, "-", "+", 1000)
        packed = b"".join(pack(*question) for question in questions)
        length, consumers, leases = await link.replies(packed, 3)
        for reply in (length, consumers, leases):
            if isinstance(reply, ReplyError):
                raise reply
        fields = [dict(zip(one[::2], one[1::2], strict=True)) for one in consumers]
        return length, [(one[b"name"], one[b"idle"]) for one in fields], leases

    async def _claim(self, link: Link, entries: list[bytes], *, idle_ms: int = 0) -> list[bytes]:
        claimed: list[bytes] = await link.call("XCLAIM", KEY, OWNERS, self._consumer, idle_ms, *entries, "JUSTID")
        return claimed

    async def _give_back(self, link: Link, entries: list[bytes]) -> None:
        await link.call("XCLAIM", KEY, OWNERS, FREE, 0, *entries, "IDLE", RELEASED_MS, "JUSTID")

    async def release(self, link: Link) -> None:
        """Gives everything back, so that others need not wait for the lease to run out."""
        try:
            _, _, leases = await self._look(link)
        except ReplyError:  # there never was a lease
            return
        mine = [entry for entry, owner, _, _ in leases if owner == self._consumer.encode()]
        if mine:
            await self._give_back(link, mine)
        await link.call("XGROUP", "DELCONSUMER", KEY, OWNERS, self._consumer)
        self.held = frozenset()
