"""A pool of which one process was killed: nothing of it goes on beside the new one."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from archiver.workers import WorkerLost, Workers
from common import processes


class Service:
    """Of a service what a pool needs."""

    def __init__(self, outbox: socket.socket) -> None:
        self._outbox = outbox
        self.pools: list[ProcessPoolExecutor] = []

    def processes(self, count: int, initializer: Callable[[], None]) -> ProcessPoolExecutor:
        self.pools.append(processes.start_pool(count, self._outbox, "INFO", initializer))
        return self.pools[-1]


def work(told: Path, seconds: float) -> str:
    """Tells who does it, and takes its time."""
    told.write_text(str(os.getpid()))
    time.sleep(seconds)
    return told.name


def worker(told: Path) -> int:
    """Who does a piece of work, when it was begun."""
    deadline = time.monotonic() + 20
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(told.read_text())


def test_who_works_on_after_another_was_killed_is_killed_too(tmp_path: Path) -> None:
    """Its work is done again by new processes: done by an old one later, it would read what is somebody else's then."""

    async def main(service: Any) -> None:
        workers = Workers(service, 2)
        first, second, queued = (tmp_path / name for name in ("first", "second", "queued"))
        given = [asyncio.create_task(workers.run(partial(work, told, 30.0))) for told in (first, second, queued)]
        killed, other = [await asyncio.to_thread(worker, told) for told in (first, second)]
        os.kill(killed, signal.SIGKILL)
        for one in given:
            with pytest.raises(WorkerLost):
                await one
        assert await workers.run(partial(work, tmp_path / "again", 0.0)) == "again"
        psutil.wait_procs([psutil.Process(pid) for pid in (killed, other) if psutil.pid_exists(pid)], timeout=5)
        assert not psutil.pid_exists(other)
        assert not queued.exists()

    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        service = Service(left)
        try:
            asyncio.run(main(service))
        finally:
            for pool in service.pools:
                processes.stop_pool(pool, 0.0)
