"""Between the hand and the flight: what Redis does not take goes to disk, and comes back in order.

While Redis keeps up, batches pass by and nothing is written. When it is stuck, all that is not durable is copied to the
spill, and what comes is written behind it, within half a second; when it only takes less than what comes, the flight
stays as it is and the rest goes to disk. From then on every batch queues here until the spill has been read back. What
the disk does not take stays in memory. Files are touched in one thread only, never in the loop.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from common.flight import Batch, Flight
from common.spills import Spills
from common.streams import Stream

log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_S = 0.1
IDLE_TICK_S = 0.25
WRITE_AFTER_S = 0.25
"""A batch that queues is written after so long; with the tick and the fsync that is half a second."""

RETRY_S = 10.0
"""A disk that refused is tried again after so long."""


class Spiller:
    """The queue in front of the flight.

    Args:
        spills: What is on disk; None keeps everything in memory.
        hold_bytes: The bound on what is in memory; above three quarters of it the excess goes to disk.
        flight: What is on its way.
        hold: Called with the bytes by which what is in memory changed.
        register: Called with the streams of an adopted spill before their commands are sent.
    """

    def __init__(
        self,
        spills: Spills | None,
        *,
        hold_bytes: int,
        flight: Flight,
        hold: Callable[[int], None],
        register: Callable[[Iterable[Stream]], None],
    ) -> None:
        self._spills = spills
        self._chunk_bytes = max(1, hold_bytes // 8)
        self._flight = flight
        self._hold = hold
        self._register = register
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spill")

        self._queue: deque[Batch] = deque()
        self._queue_bytes = 0
        self._unread = 0
        self._durable = 0
        self._is_stale = True
        """Whether there may be something to remove."""
        self._alarm = asyncio.Event()
        self._saving = False
        self._retry_s = 0.0
        self._is_writing = False
        self._is_full = False
        self.catches_up = False
        """Whether what came while Redis was away or stuck is not sent yet."""

        self.high_bytes = hold_bytes * 3 // 4
        """So much in flight is a reason for `alarm`."""
        self.queues = spills is not None
        """Whether batches queue here. They do until it is known what there is to adopt."""
        self.heard: dict[str, int] = {}
        """Connection of an adopted spill to the receive time in ns up to which it is in flight; not yet told."""
        self.spilled_bytes = 0
        self.spilled_commands = 0
        self.replayed_commands = 0

    # From the loop.

    def take(self, batch: Batch) -> None:
        """Takes a batch while `queues`."""
        self._queue.append(batch)
        self._queue_bytes += len(batch.packed)
        if self._queue_bytes >= self._chunk_bytes:
            self._flight.hungry.set()

    def alarm(self) -> None:
        """Much is in flight: look now."""
        self._alarm.set()

    def durable(self, number: int) -> None:
        """Every batch up to `number` is durable in Redis."""
        self._durable = number
        self._is_stale = True

    def told(self, heard: dict[str, int]) -> None:
        """Redis was told so much of the connections of adopted spills."""
        self.heard = {name: at_ns for name, at_ns in self.heard.items() if heard.get(name) != at_ns}

    def save(self) -> None:
        """From now on all that is not durable is written to disk, whatever Redis does."""
        self._saving = True
        self.queues = self._spills is not None
        self._flight.hungry.set()

    @property
    def is_saved(self) -> bool:
        """Whether all that is in memory is on disk too."""
        return self._spills is not None and not self._queue and all(batch.on_disk for batch in self._flight)

    # The loop that moves it all.

    async def run(self) -> None:
        """Works until it is cancelled; then the spills are closed, for the next to adopt what is left."""
        spills = self._spills
        if spills is None:
            return
        try:
            await self._adopt(spills)
            while True:
                await self._step(spills)
                await self._pause()
        finally:
            self._thread.submit(spills.close)
            self._thread.shutdown(wait=False)

    async def _pause(self) -> None:
        event, limit_s = (self._flight.hungry, TICK_S) if self.queues else (self._alarm, IDLE_TICK_S)
        event.clear()
        try:
            async with asyncio.timeout(limit_s):
                await event.wait()
        except TimeoutError:
            return

    async def _step(self, spills: Spills) -> None:
        if self._is_stale:
            self._is_stale, durable = False, self._durable
            await self._in_thread(spills, lambda: spills.release(durable))
        pulse = self._flight.pulse()
        if not self.queues:
            if not pulse.is_behind and self._flight.bytes <= self.high_bytes:
                return
            self._queue_up()
        self.catches_up |= pulse.is_stuck
        if pulse.is_behind or self._saving:
            await self._save_flight(spills)
        if not pulse.is_stuck:
            await self._refill(spills)
        if self._is_due():
            await self._write_queue(spills)
        if self._has_room and not (self._queue or self._unread or pulse.is_behind or self._saving):
            self._pass_by()

    @property
    def _has_room(self) -> bool:
        """Whether the flight may take more; the rest of the memory is for the queue."""
        return self._flight.bytes + self._flight.window_bytes <= self.high_bytes

    async def _in_thread(self, spills: Spills, work: Callable[[], T]) -> T:
        try:
            return await self._loop.run_in_executor(self._thread, work)
        finally:
            self.spilled_bytes, self._unread = spills.size, spills.unread
            self._flight.moved.set()

    async def _adopt(self, spills: Spills) -> None:
        try:
            await self._in_thread(spills, spills.adopt)
        except OSError as error:
            log.error("the spills of earlier collectors cannot be read: %s", error)
        if self.spilled_bytes:
            log.info("sending %d bytes that an earlier collector could not send", self.spilled_bytes)

    def _queue_up(self) -> None:
        self.queues = True
        for batch in self._flight.cut(self._flight.window_bytes):
            self.take(batch)

    def _pass_by(self) -> None:
        self.queues = self.catches_up = False
        if self._is_writing:
            log.info("redis takes everything again; %d commands were read back so far", self.replayed_commands)
            self._is_writing = False

    # To disk.

    def _is_due(self) -> bool:
        if not self._queue:
            return False
        waited_s = self._loop.time() - self._queue[0].since_s
        return self._saving or self._queue_bytes >= self._chunk_bytes or waited_s >= WRITE_AFTER_S

    async def _write_queue(self, spills: Spills) -> None:
        for _ in range(await self._write(spills, list(self._queue), read=False)):
            self._unqueue()

    async def _save_flight(self, spills: Spills) -> None:
        unsaved = sorted((batch for batch in self._flight if not batch.on_disk), key=lambda batch: batch.number)
        written = await self._write(spills, unsaved, read=True)
        for batch in unsaved[:written]:
            batch.on_disk = True

    async def _write(self, spills: Spills, batches: Sequence[Batch], *, read: bool) -> int:
        if not batches or self._loop.time() < self._retry_s:
            return 0
        try:
            written = await self._in_thread(spills, lambda: spills.write(batches, read=read))
        except OSError as error:
            if not self._retry_s:
                log.error("the spill cannot be written, keeping what comes in memory: %s", error)
            self._retry_s = self._loop.time() + RETRY_S
            return 0
        self._retry_s = 0.0
        self._is_stale = True
        self.spilled_commands += sum(batch.count for batch in batches[:written])
        if written and not self._is_writing:
            log.warning("redis does not take what comes: it goes to disk first")
            self._is_writing = True
        if written < len(batches) and not self._is_full:
            log.error("the spill is full (%d bytes): what no longer fits in memory is dropped", self.spilled_bytes)
        self._is_full = written < len(batches)
        return written

    # Back.

    def _unqueue(self) -> Batch:
        batch = self._queue.popleft()
        self._queue_bytes -= len(batch.packed)
        self._hold(-len(batch.packed))
        return batch

    async def _refill(self, spills: Spills) -> None:
        flight = self._flight
        while (
            flight.link is not None
            and not flight.refusing
            and flight.waiting_bytes < flight.window_bytes
            and self._has_room
        ):
            if self._unread:
                await self._read_back(spills)
            elif self._queue:
                self._enter(self._unqueue())
            else:
                return

    async def _read_back(self, spills: Spills) -> None:
        now_s = self._loop.time()
        replay = await self._in_thread(spills, lambda: spills.read(self._flight.window_bytes, now_s))
        self._is_stale = True
        self._register(replay.streams)
        for batch in replay.batches:
            self.replayed_commands += batch.count
            self._enter(batch)
        self.heard.update(replay.heard)

    def _enter(self, batch: Batch) -> None:
        self._hold(len(batch.packed))
        self._flight.push(batch)
