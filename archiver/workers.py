"""The processes that do the heavy work: a pool that is replaced when one of its workers dies."""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from common import heap, processes
from common.service import Service

log = logging.getLogger(__name__)

Result = TypeVar("Result")


_KEPT_BYTES = 32 << 20


def _start() -> None:
    """Who receives goes first: at a minute's end the workers would take every core from the collector and Redis.

    A worker keeps the memory that it frees: giving it back, and having each page of it cleared again for the next
    minute, was a fifth of its time.
    """
    os.nice(10)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's, which would start threads that nothing here gives work to
    heap.keep(_KEPT_BYTES)


class WorkerLost(OSError):
    """A worker died with the work in hand: doing it again does no harm."""


class Workers:
    """A pool of processes.

    Args:
        service: Whose pool it is; it ends with it.
        count: The number of processes; they start as work comes.
    """

    def __init__(self, service: Service, count: int) -> None:
        self._service = service
        self.count = count
        self._pool = service.processes(count, _start)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Does picklable work in a worker.

        Raises:
            WorkerLost: The worker died; the next call has a new pool.
        """
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except BrokenProcessPool as error:
            if pool is self._pool:
                log.error("a worker died, starting new ones")
                processes.kill_children()  # the others ignore SIGTERM, and would do what is done again by the new ones
                self._pool = self._service.processes(self.count, _start)
            raise WorkerLost("a worker process died") from error
