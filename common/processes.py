"""Worker processes: a pool that logs through its parent, ends with it whatever happens, and leaves signals to it."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection

from common import logs


def start_pool(
    workers: int, outbox: socket.socket, level: str, initializer: Callable[[], None] | None
) -> ProcessPoolExecutor:
    """A pool of spawned processes (a fork would copy uvloop and the locks of other threads).

    Args:
        workers: The number of processes; they start as work comes.
        outbox: Where their log records go.
        level: The level from which they log.
        initializer: Runs first in each; must be importable.
    """
    return ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (outbox, level, initializer)
    )


def stop_pool(pool: ProcessPoolExecutor, patience_s: float = 1.0) -> None:
    """Ends the pool; what still works after `patience_s` seconds is killed."""
    pool.shutdown(wait=False, cancel_futures=True)
    deadline_s = time.monotonic() + patience_s
    while (children := multiprocessing.active_children()) and (left_s := deadline_s - time.monotonic()) > 0:
        connection.wait([child.sentinel for child in children], left_s)
    kill_children()


def kill_children() -> None:
    """Kills each process that this one started through multiprocessing."""
    for child in multiprocessing.active_children():
        logging.getLogger(__name__).warning("killed the worker %s, which was still busy", child.pid)
        child.kill()


def _start_worker(outbox: socket.socket, level: str, initializer: Callable[[], None] | None) -> None:
    # the parent decides when to stop: a Ctrl-C or systemd's SIGTERM reaches every process of the group
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logs.start_in_worker(outbox, level)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    if initializer:
        initializer()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
