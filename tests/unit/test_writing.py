"""Who writes what, and in which order, when workers are few and some writes fail."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from archiver import layout
from archiver.bookkeeper import Bookkeeper
from archiver.bucket import Bucket
from archiver.workers import Workers
from archiver.writing import JOB_MINUTES, Counts, Writing
from common.paths import Minute, raw_minute
from common.streams import Stream
from tests.archive import BOOK, archived, book_frames, minute, stage

OTHER = Stream("um", "depth20", "ETHUSDT")


class Threads:
    """In place of processes: real work, and what fails is said by the test."""

    count = 2

    def __init__(self) -> None:
        self.done: list[list[Any]] = []
        self.fails: Callable[[Any], bool] = lambda job: False

    async def run(self, work: Any) -> Any:
        _, jobs = work.args
        if any(map(self.fails, jobs)):
            await asyncio.sleep(0)
            raise PermissionError("not yours")
        self.done.append(jobs)
        return await asyncio.to_thread(work)


@pytest.fixture
def workers() -> Threads:
    return Threads()


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def writing(tmp_path: Path, workers: Threads, counts: Counts) -> Writing:
    data = tmp_path / "data"
    data.mkdir()
    return Writing(data, cast(Workers, workers), Bookkeeper(data, dead_after_s=15), counts)


def bucket(folder: Path, of: Minute, *, is_part: bool = False) -> Bucket:
    """A bucket that was taken."""
    path = stage(folder / "stage", book_frames(of))
    return Bucket(of, path, False, 0.0, 0.0, spilled_bytes=path.stat().st_size, is_part=is_part)


def archived_minutes(folder: Path) -> int:
    return len(list((folder / "data" / raw_minute(minute(0))).parent.glob("*.zip")))


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 - files tell no event
            await asyncio.sleep(0.01)


def test_lines_go_before_parquet_files_that_are_owed(tmp_path: Path, writing: Writing, workers: Threads) -> None:
    """Lines wait for the jobs that run, at most; in the end nothing is owed."""
    owed = [minute(number) for number in range(4 * JOB_MINUTES)]

    async def play() -> None:
        writing.submit([bucket(tmp_path, of, is_part=True) for of in owed])
        await until(lambda: writing.is_idle)
        assert len(layout.without_parquet(tmp_path / "data", [BOOK])) == len(owed)
        workers.done.clear()
        writing.derive(owed)
        assert not writing.wants_minutes
        writing.submit([bucket(tmp_path, minute(200))])
        await until(lambda: writing.is_idle and not layout.without_parquet(tmp_path / "data", [BOOK]))
        await writing.finish(10)

    asyncio.run(play())
    assert [bool(jobs[0].staged) for jobs in workers.done].index(True) <= workers.count
    assert len(writing.written()) == len(owed) + 1


def test_what_fails_leaves_the_workers_to_others(
    tmp_path: Path, writing: Writing, workers: Threads, counts: Counts
) -> None:
    """A stream whose folder cannot be written waits for itself; when it can be, it is written."""
    workers.fails = lambda job: job.minute.stream == OTHER

    async def play() -> None:
        for number in range(3):
            writing.submit([bucket(tmp_path, minute(number, OTHER))])
        writing.derive([minute(9, OTHER)])
        await until(lambda: counts.failed_writes >= 4)
        writing.submit([bucket(tmp_path, minute(number)) for number in range(3)])
        await until(lambda: archived_minutes(tmp_path) == 3)
        await until(lambda: not writing.has_lines)
        assert not writing.is_idle
        workers.fails = lambda job: False
        await until(lambda: writing.is_idle)
        await writing.finish(10)

    asyncio.run(play())
    assert len(writing.written()) == 6
    assert archived(tmp_path / "data", minute(1, OTHER)) == book_frames(minute(1, OTHER))


def test_the_end_waits_for_lines_and_leaves_what_is_owed(tmp_path: Path, writing: Writing, workers: Threads) -> None:
    """Lines are written; Parquet files that nobody has begun are for the next start, which finds them."""
    parts = [minute(number) for number in range(4 * JOB_MINUTES)]

    async def play() -> None:
        writing.submit([bucket(tmp_path, of, is_part=True) for of in parts])
        writing.derive(parts)
        await writing.finish(20)
        workers.done.clear()
        writing.submit([bucket(tmp_path, minute(200))])
        await asyncio.sleep(0.1)

    asyncio.run(play())
    assert workers.done == []
    assert len(writing.written()) == len(parts)
    assert len(layout.without_parquet(tmp_path / "data", [BOOK])) >= len(parts) - workers.count * JOB_MINUTES


def test_an_end_that_cannot_be_waited_for(tmp_path: Path, writing: Writing, workers: Threads) -> None:
    """It takes as long as it may; what was not written is not called written, and not tried again behind its back."""
    workers.fails = lambda job: True

    async def play() -> None:
        writing.submit([bucket(tmp_path, minute(1))])
        await writing.finish(0.3)
        workers.fails = lambda job: False
        await asyncio.sleep(1.0)

    asyncio.run(play())
    assert workers.done == []
    assert writing.written() == []
