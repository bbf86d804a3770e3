"""From a process's hand into Redis, kept until Redis has it on disk (DESIGN section 4, "Kept until durable").

An accepted XADD is not yet on disk. So a batch is held through three stages, `waiting` to be sent, `sent` and not
answered, `accepted` and not durable, and is let go only when `WAITAOF` on a second connection has covered it. When
either connection is lost, all that is held is sent again from the oldest on: a frame may then stand in the stream
twice, and its identity makes that harmless. What is held is bounded in bytes; `append` says when it is full.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from common.backoff import Backoff
from common.streams import GROUP, STREAMS_SET, Stream
from common.wire import REPLY_TIMEOUT_S, Link, LinkLost, ReplyError, linked, pack, raise_first

log = logging.getLogger(__name__)

BEATS = "ingest:beats"
"""Hash: connection id to `<heard_ns> <now_ns>`: all that it received up to the first is in Redis, and its collector was
alive at the second. Written before each WAITAOF."""

BEATS_KEPT_S = 30 * 86_400
CONFIRM_PAUSE_S = 0.25
WAITAOF_TIMEOUT_MS = 5_000
WINDOW_BYTES = 4 << 20
"""At most so much is on its way to Redis at once; the rest waits here, where it can be counted."""


@dataclass(slots=True, eq=False)
class Batch:
    """Commands that are sent, answered and kept together."""

    packed: bytes
    count: int
    number: int


class Producer:
    """Sends packed commands in order, in batches, and holds each until it is durable.

    Args:
        url: The Redis server.
        flush_s: A command waits at most so long for others to share its batch.
        batch_bytes: A batch of this size is sent at once.
        hold_bytes: The bound on everything held.
        beats: What to write under `BEATS`: everything that was appended until it is called is in Redis then.
    """

    def __init__(
        self, url: str, *, flush_s: float, batch_bytes: int, hold_bytes: int, beats: Callable[[], dict[str, str]]
    ) -> None:
        self._url = url
        self._flush_s = flush_s
        self._batch_bytes = batch_bytes
        self._hold_bytes = hold_bytes
        self._reopening_bytes = hold_bytes * 9 // 10
        self._beats = beats
        self._loop = asyncio.get_running_loop()
        self._streams: list[Stream] = []

        self._open: list[bytes] = []
        self._open_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sealed = 0
        self._waiting: deque[Batch] = deque()
        self._sent: deque[Batch] = deque()
        self._sent_bytes = 0
        self._accepted: deque[Batch] = deque()

        self._link: Link | None = None
        self._refusal: ReplyError | None = None
        self._refused: list[Batch] = []
        self._backoff = Backoff()
        self._moved = asyncio.Event()

        self.held_bytes = 0
        self.full = False
        self.taken = False
        """Whether Redis took what was sent last; when it does not, a full hold is Redis's doing."""
        self.durable = True
        """Whether the server can say that what it took is on disk (Redis 7.2 and later, with its log on)."""
        self.sent_again = 0
        self.accepted_commands = 0
        self.durable_commands = 0

    # The frame path.

    def append(self, packed: bytes, *, always: bool = False) -> bool:
        """Takes one packed command; False when the hold is full and the command was not taken.

        Once full it stays so until a tenth is free, so that what is dropped is one interval and not a comb. `always` is
        for the few small commands that say what was dropped.
        """
        size = len(packed)
        bound = self._reopening_bytes if self.full else self._hold_bytes
        self.full = self.held_bytes + size > bound
        if self.full and not always:
            return False
        self.held_bytes += size
        self._open.append(packed)
        self._open_bytes += size
        if self._open_bytes >= self._batch_bytes:
            self._seal()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._flush_s, self._seal)
        return True

    def has_room(self) -> bool:
        """Whether the hold, once it was full, takes frames again."""
        return self.held_bytes < self._reopening_bytes

    def _seal(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._open:
            return
        self._sealed += 1
        self._waiting.append(Batch(b"".join(self._open), len(self._open), self._sealed))
        self._open = []
        self._open_bytes = 0
        self._send()

    def _send(self) -> None:
        link = self._link
        if link is None or self._refusal is not None:
            return
        waiting = self._waiting
        while waiting and self._sent_bytes < WINDOW_BYTES:
            batch = waiting.popleft()
            self._sent.append(batch)
            self._sent_bytes += len(batch.packed)
            link.send(batch.packed, batch.count, self._answered)
            if self._backoff.tries:  # after a refusal one batch goes first, to see whether Redis takes it
                return

    def _answered(self, replies: list[Any]) -> None:
        batch = self._sent.popleft()
        self._sent_bytes -= len(batch.packed)
        for reply in replies:
            if isinstance(reply, ReplyError):
                self._refusal = self._refusal or reply
                self._refused.append(batch)
                break
        else:
            self._accepted.append(batch)
            self.accepted_commands += batch.count
            if self._refusal is None:
                self._backoff.reset()
                self.taken = True
        if self._refusal is None:
            self._send()
        elif not self._sent:
            self._wait_out_refusal()
        self._moved.set()

    def _wait_out_refusal(self) -> None:
        """All that was on its way is answered, some of it refused: that part goes back to the front, in order."""
        refusal, refused = self._refusal, self._refused
        assert refusal is not None
        if not refusal.passes:
            if self._link is not None:
                self._link.close(refusal)
            return
        self.taken = False
        self.sent_again += sum(batch.count for batch in refused)
        self._waiting.extendleft(reversed(refused))
        self._refused = []
        delay_s = self._backoff.next()
        if self._backoff.tries == 1:
            log.warning("redis refuses what we send, keeping it in hand: %s", refusal)
        self._loop.call_later(delay_s, self._after_refusal)

    def _after_refusal(self) -> None:
        self._refusal = None
        self._send()

    # The connections.

    def register(self, streams: Iterable[Stream]) -> None:
        """Streams that shall be known, with their group, before any command that comes after."""
        self._streams.extend(streams)

    async def run(self) -> None:
        """Keeps two connections to Redis open and everything moving; ends only by cancellation.

        Raises:
            ReplyError: Redis answered with an error that waiting does not mend.
        """
        backoff = Backoff()
        while True:
            try:
                async with (
                    linked(self._url, name="maserver-ingest") as link,
                    linked(self._url, name="maserver-ingest-durable") as durable,
                ):
                    await self._same_server(link, durable)
                    await self._register(link)
                    self._send_all_again(link)
                    if backoff.tries:
                        log.info("redis is back, %d bytes in hand are sent again", self.held_bytes)
                        backoff.reset()
                    await self._confirm(link, durable)
            except LinkLost as error:
                if not backoff.tries:
                    log.warning("redis is away, keeping what comes in hand: %s", error)
            except ReplyError as error:
                if not error.passes:
                    raise
                if not backoff.tries:
                    log.warning("redis does not take writes yet: %s", error)
            finally:
                self._link = None
                self.taken = False
            await asyncio.sleep(backoff.next())

    async def _same_server(self, *links: Link) -> None:
        """A server that was replaced between two connects would confirm what its predecessor lost."""
        runs = {(await link.call("INFO", "server")).split(b"run_id:")[1][:40] for link in links}
        if len(runs) > 1:
            raise LinkLost("Redis was restarted while we connected")

    async def _register(self, link: Link) -> None:
        packed = b"".join(
            pack("SADD", STREAMS_SET, stream.key) + pack("XGROUP", "CREATE", stream.key, GROUP, "0", "MKSTREAM")
            for stream in self._streams
        )
        raise_first(await link.replies(packed, 2 * len(self._streams)), but=frozenset({"BUSYGROUP"}))

    def _send_all_again(self, link: Link) -> None:
        kept = sorted((*self._accepted, *self._sent, *self._refused, *self._waiting), key=lambda batch: batch.number)
        self.sent_again += sum(batch.count for batch in (*self._accepted, *self._sent, *self._refused))
        self._waiting = deque(kept)
        self._accepted.clear()
        self._sent.clear()
        self._refused.clear()
        self._sent_bytes = 0
        self._refusal = None
        self._backoff.reset()
        self._link = link
        self._send()

    async def _confirm(self, link: Link, durable: Link) -> None:
        """Lets go of what Redis has on disk, round by round, while both links live."""
        while True:
            for side in (link, durable):
                if side.lost.done():
                    raise side.lost.result()
            beats = self._beats()
            self._seal()
            mark = self._sealed
            if await self._taken_up_to(mark, link, durable):
                await self._wait_for_disk(mark, beats, durable)
            await asyncio.sleep(CONFIRM_PAUSE_S)

    async def _taken_up_to(self, mark: int, link: Link, durable: Link) -> bool:
        """Waits until Redis has accepted every batch up to `mark`; False when it refuses for a while.

        Raises:
            LinkLost: It answers nothing at all.
        """
        deadline = self._loop.time() + REPLY_TIMEOUT_S
        while (self._waiting and self._waiting[0].number <= mark) or (self._sent and self._sent[0].number <= mark):
            if self._refusal is not None or link.lost.done() or durable.lost.done():
                return False
            if self._loop.time() > deadline:
                raise LinkLost(f"Redis did not answer for {REPLY_TIMEOUT_S:g} s")
            self._moved.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._moved.wait()
            except TimeoutError:
                continue
        return True

    async def _wait_for_disk(self, mark: int, beats: dict[str, str], durable: Link) -> None:
        if not self._accepted and not beats:
            return
        words = [word for beat in (beats or {"-": ""}).items() for word in beat]
        packed = pack("HSET", BEATS, *words)
        # PEXPIRE is taken even by a full Redis: WAITAOF counts only from a write of its own connection.
        packed += pack("PEXPIRE", BEATS, BEATS_KEPT_S * 1000) + pack("WAITAOF", 1, 0, WAITAOF_TIMEOUT_MS)
        beaten, expiring, waited = await durable.replies(packed, 3)
        if isinstance(waited, ReplyError):
            if waited.passes:
                return
            if self.durable:
                log.warning(
                    "redis cannot say what is on disk (it is older than 7.2, or its log is off): "
                    "a crash of redis may lose what it had accepted. %s",
                    waited,
                )
            self.durable = False
        elif isinstance(expiring, ReplyError) or not expiring or waited[0] < 1:
            return
        if isinstance(beaten, ReplyError) and not beaten.passes:
            raise beaten
        while self._accepted and self._accepted[0].number <= mark:
            batch = self._accepted.popleft()
            self.held_bytes -= len(batch.packed)
            self.durable_commands += batch.count
        self._moved.set()

    async def drained(self) -> None:
        """Returns when everything that was appended is durable."""
        while self.held_bytes:
            self._moved.clear()
            await self._moved.wait()
