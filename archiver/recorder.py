"""The archiver's loop: lease, read, stage, write, move the durable position.

Whatever is read stays in Redis, after the position, until its files are durable; only then the position moves past it,
and it is trimmed. When the connection to Redis is lost the stage is dropped and all after the position is read again:
Redis is the log.
"""

import asyncio
import logging
import time
from collections import defaultdict
from functools import lru_cache

from archiver import layout
from archiver.bookkeeper import Bookkeeper
from archiver.bucket import Bucket
from archiver.server import Server
from archiver.shards import Shards
from archiver.staging import Stage
from archiver.sweep import sweep
from archiver.workers import Workers
from archiver.writing import Counts, Writing
from common.backoff import Backoff
from common.clock import DAY_NS, now_ns
from common.producer import BEATS
from common.reader import Reader
from common.service import Service
from common.settings import ArchiverSettings
from common.streams import STREAMS_SET, Stream
from common.wire import Link, LinkLost, ReplyError, linked

log = logging.getLogger(__name__)

TEND_S = 2.0
CLOSE_S = 0.5
RECOUNT_S = 60.0
BUNDLE_S = 20.0
TIGHT = 0.9
"""So full a Redis has minutes written in parts whatever it is full of."""

MINUTES_AT_ONCE = 256
"""So many minutes in parts at most are given to the workers at a time."""

ENTRIES_A_READ = 64
"""The pace of polling aims at so many entries of the busiest stream in one read."""


class Recorder:
    """Reads the streams of its shards and writes their minutes."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._service = service
        self._settings: ArchiverSettings = settings.archiver
        self._url = settings.redis_url
        self._data = settings.data_dir
        self._stage = Stage(settings.state_dir / "stage" / service.instance, grace_s=self._settings.grace_s)
        self._books = Bookkeeper(self._data, dead_after_s=self._settings.dead_after_s)
        self._server = Server()
        self._shards = Shards(service.instance, shards=self._settings.shards, lease_s=self._settings.lease_s)
        self._streams: list[Stream] = []
        self._unread: frozenset[Stream] = frozenset()
        self._full_since_s: float | None = None
        self._next_s: dict[str, float] = {}
        self._finding: list[asyncio.Task[None]] = []
        self.counts = Counts()
        self._writing = Writing(self._data, Workers(service, self._settings.workers), self._books, self.counts)

    async def run(self) -> None:
        """Records until the service stops; what is staged then stays in Redis."""
        backoff = Backoff()
        stopping = self._service.stopping
        await asyncio.to_thread(sweep, self._data)
        while not stopping.is_set():
            try:
                async with linked(self._url, name="maserver-archiver") as link:
                    await self._record(link)
            except (LinkLost, ReplyError) as error:
                if isinstance(error, ReplyError) and not error.passes:
                    raise
                if not backoff.tries:
                    log.warning("redis is away: %s", error)
                if not stopping.is_set():
                    await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
        self._stage.close()
        log.info("%d minutes written since the start", self.counts.minutes)

    async def _record(self, link: Link) -> None:
        reader = Reader(link, count=self._settings.read_count, tail_s=self._settings.tail_s)
        self._books.no_judgement(time.monotonic())
        self._give_up(self._streams)
        log.info("reading from redis")
        pause_s = 0.0
        while not self._service.stopping.is_set():
            self._writing.raise_fault()
            now_s = time.monotonic()
            if self._due("tend", now_s, min(TEND_S, self._settings.lease_s / 4)):
                await self._tend(link, reader, now_s)
            most = 0
            if self._may_read():
                most = await self._read(reader, now_s)
            else:
                await reader.positions.flush()
            if self._due("close", now_s, CLOSE_S):
                await self._close_minutes(now_s)
            await self._move(reader)
            self._service.health.beat("redis")
            pause_s = self._pause(most, pause_s)
            await _sleep_or(self._service.stopping, pause_s)
        await self._leave(link, reader)

    def _due(self, what: str, now_s: float, every_s: float) -> bool:
        if now_s < self._next_s.get(what, 0.0):
            return False
        self._next_s[what] = now_s + every_s
        return True

    def _pause(self, most: int, pause_s: float) -> float:
        """The next pause, from the number of entries that the busiest stream gave after this one."""
        least_s = self._settings.poll_min_ms / 1000
        longest_s = min(self._settings.poll_max_ms / 1000, self._settings.lease_s / 4)
        factor = min(2.0, ENTRIES_A_READ / most) if most else 2.0
        return min(longest_s, max(least_s, max(pause_s, least_s) * factor))

    # Whose streams.

    async def _tend(self, link: Link, reader: Reader, now_s: float) -> None:
        await self._shards.tend(link)
        names: list[bytes] = await link.call("SMEMBERS", STREAMS_SET)
        named = {stream for stream in map(_stream, names) if stream is not None and self._shards.holds(stream)}
        # what is no longer named is read on: it was FLUSHALL or DEL, and the stage may be all that is left
        lost = {stream for stream in self._streams if not self._shards.holds(stream)}
        self._give_up(lost)
        reader.stop(sorted(lost))
        gained = sorted(named - set(self._streams))
        if gained:
            await asyncio.to_thread(self._books.take_over, gained)
            await reader.start(gained)
            self._streams += gained
            self._finding.append(asyncio.create_task(self._find_owed(gained), name="find what is owed"))
            self._unread |= set(gained)
        if self._due("recount", now_s, RECOUNT_S):
            reader.recount()
        for task in [task for task in self._finding if task.done()]:
            self._finding.remove(task)
            task.result()
        await self._look_at_redis(link, reader, now_s)

    async def _find_owed(self, streams: list[Stream]) -> None:
        """Minutes in parts that a killed archiver left behind; they are many where somebody removed Parquet files."""
        try:
            found = await asyncio.to_thread(layout.without_parquet, self._data, streams)
        except OSError as error:
            log.error("cannot look for minutes without a Parquet file; the day's bundle will hold them: %s", error)
            return
        held = set(self._streams)
        for minute in found:
            if minute.stream in held:
                self._stage.owe(minute, time.monotonic())
        if found:
            log.info("%d minutes have no Parquet file yet: those that are over get theirs", len(found))

    async def _look_at_redis(self, link: Link, reader: Reader, now_s: float) -> None:
        share = await self._server.share(link)
        await self._server.shorten_log(link, now_s)
        if share > 0.99 or not await reader.positions.takes_writes():
            self._books.no_judgement(now_s)
        else:
            flat = await link.call("HGETALL", BEATS)
            beats = dict(zip(flat[::2], flat[1::2], strict=True))
            self._books.judge(beats, self._stage, self._unread, now_s)
            gone = [name for name, beat in beats.items() if _is_old(beat)]
            if gone:
                await link.call("HDEL", BEATS, *gone)
        self.counts.staged_bytes = self._stage.size_bytes
        reader.positions.keeps_tail = share <= self._settings.redis_memory_fraction
        if not reader.positions.keeps_tail:  # the room is needed for what is not archived yet
            await reader.positions.trim(self._streams)
            share = await self._server.share(link)
        staged, used = self.counts.staged_bytes, self._server.used_bytes
        self.counts.redis_used_bytes = used
        # what is not the stage's doing is not mended by parts, until there is hardly any room
        is_ours = staged > used // 4 or share > TIGHT
        short = (share > self._settings.redis_memory_fraction and is_ours) or staged > self._settings.stage_bytes
        if short and not self._writing.has_lines:
            buckets = self._stage.largest(0.75)
            if buckets:
                log.info(
                    "memory is short (redis %.0f %%, staged %d MB): %d minutes are written in parts",
                    100 * share, staged >> 20, len(buckets),
                )  # fmt: skip
            self._write(buckets, in_parts=True)

    def _give_up(self, streams: "list[Stream] | set[Stream]") -> None:
        for stream in list(streams):
            self._stage.drop(stream)
            self._books.give_up(stream)
            self._streams.remove(stream)

    # Reading.

    def _may_read(self) -> bool:
        return self._full_since_s is None and not self._writing.is_busy

    async def _read(self, reader: Reader, now_s: float) -> int:
        """One poll; gives the number of entries of the busiest stream."""
        most, unread = 0, set()
        async for stream, entries in reader.read(self._streams):
            self._stage.add(stream, entries, now_s)
            self.counts.frames += len(entries)
            most = max(most, len(entries))
            if len(entries) >= self._settings.read_count:
                unread.add(stream)
        self._unread = frozenset(unread)
        self.counts.polls += 1
        if most:
            self._service.health.beat("frames")
        self._books.take(self._stage, now_s)
        self._spill()
        return most

    def _spill(self) -> None:
        try:
            self._stage.spill()
        except OSError as error:
            self._disk_is_full(error)

    def _disk_is_full(self, error: OSError) -> None:
        if self._full_since_s is None:
            log.error("cannot write, waiting until it works again; frames wait in redis: %s", error)
            self._full_since_s = time.monotonic()
        self.counts.failed_writes += 1

    # Writing.

    async def _close_minutes(self, now_s: float) -> None:
        if self._full_since_s is not None:
            try:
                self._stage.spill(0)
            except OSError:
                return
            log.info("the disk takes data again, after %.0f s", now_s - self._full_since_s)
            self._full_since_s = None
        due = self._stage.over(now_s, now_ns(), self._unread)
        self._write(due)
        if self._writing.wants_minutes:
            self._writing.derive(self._stage.owed(now_s, now_ns(), self._unread, most=MINUTES_AT_ONCE))
        if not due and self._writing.is_idle:
            self._service.health.beat("minutes")
        if self._due("bundle", now_s, BUNDLE_S):
            self._writing.bundle(self._shards.holds, self._settings.bundle_after_s)

    def _write(self, buckets: list[Bucket], *, in_parts: bool = False) -> None:
        """Hands buckets over to the workers, unless these have enough to do."""
        if self._writing.is_busy:
            return
        taken = []
        for bucket in buckets:
            try:
                self._stage.take(bucket, in_parts=in_parts)
            except OSError as error:
                self._disk_is_full(error)
                break
            taken.append(bucket)
        self._writing.submit(taken)

    async def _move(self, reader: Reader, *, at_once: bool = False) -> None:
        """What is durable, its rows first, moves its streams' positions with the next read."""
        written = self._writing.written()
        try:
            said = await self._books.settle(at_once=at_once)
        except OSError as error:
            self._disk_is_full(error)
            self._writing.keep(written)
            return
        durable: defaultdict[Stream, list[Bucket | bytes]] = defaultdict(list)
        for bucket in written:
            durable[bucket.minute.stream].append(bucket)
            self._stage.release(bucket)
            self._service.health.beat("minutes")
        for one in said:
            durable[one.stream].append(one.entry_id)
        for stream, what in durable.items():
            place = self._stage.became_durable(stream, what)
            if place is not None:
                reader.positions.move(stream, place)

    async def _leave(self, link: Link, reader: Reader) -> None:
        """Finishes what the workers have, moves the positions, and gives the shards back."""
        await self._writing.finish(self._settings.drain_s * 0.6)
        await self._move(reader, at_once=True)
        await reader.positions.flush()
        self._give_up(self._streams)
        await self._shards.release(link)


@lru_cache(maxsize=16_384)  # and so each name that is none is told once
def _stream(name: bytes) -> Stream | None:
    try:
        return Stream.from_key(name.decode())
    except ValueError as error:
        log.error("a name in %s is left out: %s", STREAMS_SET, error)
        return None


def _is_old(beat: bytes) -> bool:
    """Whether a collector gave this sign more than a week ago."""
    at_ns = beat.rpartition(b" ")[2]
    return not at_ns.isdigit() or now_ns() - int(at_ns) > 7 * DAY_NS


async def _sleep_or(stopping: asyncio.Event, pause_s: float) -> None:
    try:
        async with asyncio.timeout(pause_s):
            await stopping.wait()
    except TimeoutError:
        return
