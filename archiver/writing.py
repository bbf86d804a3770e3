"""What the workers do: minutes that are over, and days that are; tried again until it works.

A minute that cannot be written waits here and in Redis, and nothing of it is acknowledged. A disk that is full, or a
worker that was killed, is waited out; anything else a worker raises is a fault of ours, and the service ends with it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from archiver.bookkeeper import Bookkeeper
from archiver.bucket import Bucket
from archiver.bundles import bundle_day, days_to_bundle
from archiver.jobs import Job, Written, share
from archiver.minutes import write_minutes
from archiver.workers import Workers
from common.backoff import Backoff
from common.clock import now_ns
from common.streams import Stream

log = logging.getLogger(__name__)

JOB_BUCKETS = 128
JOB_RESTS = 16
"""Of minutes in parts: their Parquet is made while lines come, which go first and wait for a job at most."""
BUSY_BYTES = 512 << 20
"""With so much in the workers' hands nothing more is read."""


@dataclass(slots=True)
class Counts:
    """What `/metrics` shows."""

    frames: int = 0
    minutes: int = 0
    doubled: int = 0
    mismatched: int = 0
    rejected: int = 0
    failed_writes: int = 0
    bundles: int = 0
    polls: int = 0
    staged_bytes: int = 0
    redis_used_bytes: int = 0
    raw_bytes: int = 0
    parquet_bytes: int = 0


class Writing:
    """The work that the workers have.

    Args:
        data: The data folder.
        workers: Who does it.
        books: Gets what the writing found, for the ledger.
        counts: Is counted up.
    """

    def __init__(self, data: Path, workers: Workers, books: Bookkeeper, counts: Counts) -> None:
        self._data = data
        self._workers = workers
        self._books = books
        self._counts = counts
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: deque[tuple[list[Job], list[Bucket]]] = deque()
        self._rests: deque[tuple[list[Job], list[Bucket]]] = deque()
        self._bundling: asyncio.Task[None] | None = None
        self._bytes = 0
        self._written: list[Bucket] = []
        self._fault: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        return self._bytes >= BUSY_BYTES

    @property
    def is_idle(self) -> bool:
        """Whether no minute is being written."""
        return not (self._tasks or self._lines or self._rests)

    @property
    def has_lines(self) -> bool:
        """Whether lines wait to be written, or are."""
        return self._bytes > 0

    def raise_fault(self) -> None:
        """Raises what a worker raised, if it was a fault of ours."""
        if self._fault is not None:
            raise self._fault

    def written(self) -> list[Bucket]:
        """The buckets whose minutes became durable since the last call."""
        written, self._written = self._written, []
        return written

    def keep(self, written: list[Bucket]) -> None:
        """Takes buckets back that could not be acknowledged yet."""
        self._written[:0] = written

    def submit(self, buckets: Iterable[Bucket]) -> None:
        """Has buckets written, shared out so that two workers never wait for the same lock; lines go first."""
        by_job = {_job(bucket): bucket for bucket in buckets}
        self._bytes += sum(bucket.size_bytes for bucket in by_job.values())
        for jobs, queue, most in (
            ([job for job in by_job if job.staged], self._lines, JOB_BUCKETS),
            ([job for job in by_job if not job.staged], self._rests, JOB_RESTS),
        ):
            for part in share(jobs, self._workers.count):
                for start in range(0, len(part), most):
                    some = part[start : start + most]
                    queue.append((some, [by_job[job] for job in some]))
        self._go_on()

    def _go_on(self) -> None:
        """Gives the workers what they can begin with."""
        while len(self._tasks) < self._workers.count and (queue := self._lines or self._rests):
            task = asyncio.create_task(self._write(*queue.popleft()), name="write minutes")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fault = task.exception()
        else:
            self._go_on()

    async def _write(self, jobs: list[Job], buckets: list[Bucket]) -> None:
        size = sum(bucket.size_bytes for bucket in buckets)
        backoff = Backoff(0.5, 10.0)
        try:
            while True:
                try:
                    done = await self._workers.run(partial(write_minutes, self._data, jobs))
                    break
                except OSError as error:
                    self._counts.failed_writes += 1
                    if not backoff.tries:
                        log.error("cannot write %d minutes, trying again: %s", len(jobs), error)
                    await asyncio.sleep(backoff.next())
        finally:
            self._bytes -= size
        for one in done:
            self._count(one)
            self._books.written(one)
        self._written += buckets

    def _count(self, written: Written) -> None:
        counts = self._counts
        counts.minutes += 1
        counts.doubled += written.doubled
        counts.mismatched += written.mismatched
        counts.rejected += written.rejected.count if written.rejected else 0
        counts.raw_bytes += written.raw_bytes
        counts.parquet_bytes += written.parquet_bytes

    def bundle(self, holds: Callable[[Stream], bool], after_s: float) -> None:
        """Has the days of our streams bundled that ended more than `after_s` ago, one after the other."""
        if self._bundling is None:
            self._bundling = asyncio.create_task(self._bundle(holds, after_s), name="bundle days")
            self._bundling.add_done_callback(self._ended)

    async def _bundle(self, holds: Callable[[Stream], bool], after_s: float) -> None:
        try:
            for stream, day in await asyncio.to_thread(days_to_bundle, self._data, now_ns(), after_s):
                if holds(stream):
                    self._books.bundled(await self._workers.run(partial(bundle_day, self._data, stream, day)))
                    self._counts.bundles += 1
                    log.info("%s: the day %s is bundled", stream.key, day)
        except (OSError, ValueError) as error:
            self._counts.failed_writes += 1
            log.error("cannot bundle, trying again later: %s", error)
        finally:
            self._bundling = None

    async def finish(self, within_s: float) -> None:
        """Waits until all lines in hand are written; what is owed beside them is found at the next start."""
        self._rests.clear()
        deadline_s = time.monotonic() + within_s
        while waiting := self._tasks | ({self._bundling} if self._bundling else set()):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or self._fault is not None:
                return
            await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)


def _job(bucket: Bucket) -> Job:
    return Job(bucket.minute, (bucket.path,) if bucket.spilled_bytes else (), bucket.is_part)
