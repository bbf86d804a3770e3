"""What the workers do: minutes that are over, and days that are; tried again until it works.

A minute that cannot be written waits here and in Redis, and nothing of it is acknowledged. A disk that is full, or a
worker that was killed, is waited out; anything else a worker raises is a fault of ours, and the service ends with it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
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
from common.paths import Minute
from common.streams import Stream

log = logging.getLogger(__name__)

JOB_BUCKETS = 128
JOB_MINUTES = 16
"""Of minutes in parts: their Parquet files are made while lines come, which go first, and wait for a job at most."""
BUSY_BYTES = 512 << 20
"""With so much in the workers' hands nothing more is read."""


@dataclass(slots=True, eq=False)
class _Work:
    """Jobs for one worker, and the buckets whose lines they write; none where only Parquet files are made."""

    jobs: list[Job]
    buckets: list[Bucket]
    backoff: Backoff = field(default_factory=lambda: Backoff(0.5, 10.0))


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
        self._running: dict[asyncio.Task[None], _Work] = {}
        self._lines: deque[_Work] = deque()
        self._minutes: deque[_Work] = deque()
        self._failed: set[_Work] = set()
        self._is_finished = False
        self._bundling: asyncio.Task[None] | None = None
        self._bytes = 0
        self._written: list[Bucket] = []
        self._fault: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        return self._bytes >= BUSY_BYTES

    @property
    def has_lines(self) -> bool:
        """Whether lines wait for a worker, or one has them."""
        return bool(self._lines) or any(work.buckets for work in self._running.values())

    @property
    def is_idle(self) -> bool:
        """Whether all lines are written: none wait, and none failed and are tried again later."""
        return not (self.has_lines or self._failed)

    @property
    def wants_minutes(self) -> bool:
        """Whether the workers can do with more minutes in parts."""
        return not self._minutes

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
        """Has buckets written, shared out so that two workers never wait for the same lock."""
        by_job = {Job(bucket.minute, (bucket.path,), bucket.is_part): bucket for bucket in buckets}
        self._bytes += sum(bucket.size_bytes for bucket in by_job.values())
        for jobs in self._shared(by_job, JOB_BUCKETS):
            self._lines.append(_Work(jobs, [by_job[job] for job in jobs]))
        self._go_on()

    def derive(self, minutes: Iterable[Minute]) -> None:
        """Has the Parquet files of minutes in parts made."""
        jobs = [Job(minute, ()) for minute in minutes]
        self._minutes += [_Work(some, []) for some in self._shared(jobs, JOB_MINUTES)]
        self._go_on()

    def _shared(self, jobs: Iterable[Job], most: int) -> Iterator[list[Job]]:
        for part in share(jobs, self._workers.count):
            for start in range(0, len(part), most):
                yield part[start : start + most]

    def _go_on(self) -> None:
        """Gives the workers what they can begin with: lines first, for Redis keeps them until they are written."""
        while (
            not self._is_finished
            and len(self._running) < self._workers.count
            and (queue := self._lines or self._minutes)
        ):
            work = queue.popleft()
            task = asyncio.create_task(self._write(work), name="write minutes")
            self._running[task] = work
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.pop(task, None)
        if task.cancelled():
            return
        if task.exception() is not None:
            self._fault = task.exception()
        else:
            self._go_on()

    async def _write(self, work: _Work) -> None:
        try:
            done = await self._workers.run(partial(write_minutes, self._data, work.jobs))
        except OSError as error:
            self._counts.failed_writes += 1
            if not work.backoff.tries:
                log.error("cannot write %d minutes, trying again: %s", len(work.jobs), error)
            self._failed.add(work)  # the worker is free meanwhile
            asyncio.get_running_loop().call_later(work.backoff.next(), self._try_again, work)
            return
        self._bytes -= sum(bucket.size_bytes for bucket in work.buckets)
        for one in done:
            self._count(one, is_new=bool(work.buckets))
            self._books.written(one)
        self._written += work.buckets

    def _try_again(self, work: _Work) -> None:
        self._failed.discard(work)
        (self._lines if work.buckets else self._minutes).append(work)
        self._go_on()

    def _count(self, written: Written, *, is_new: bool) -> None:
        counts = self._counts
        if is_new:
            counts.minutes += 1
            counts.raw_bytes += written.raw_bytes
        counts.doubled += written.doubled
        counts.mismatched += written.mismatched
        counts.rejected += written.rejected.count if written.rejected else 0
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
        """Waits until all lines in hand are written; Parquet files that are owed are made after the next start."""
        self._minutes.clear()
        deadline_s = time.monotonic() + within_s
        while (waiting := {*self._running, *filter(None, [self._bundling])}) or not self.is_idle:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or self._fault is not None:
                break
            if waiting:
                await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(min(left_s, 0.1))
        self._is_finished = True
