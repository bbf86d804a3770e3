"""One lock per symbol and day, across processes and containers that share the data folder.

The locks are `flock`s on a fixed set of files in `.locks/` that are never renamed or removed: a lock on a file that is
replaced locks nothing. Several days of several symbols share a file; that costs a wait, never a mistake. The kernel
frees the locks of a process that dies.
"""

import fcntl
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path

from common.streams import Stream

FOLDER = ".locks"
LOCKS = 256


def stripe(stream: Stream, day: date) -> int:
    """The number of the lock of a stream's day. Work that is split by it (modulo the workers) never waits."""
    return zlib.crc32("/".join((*stream, day.isoformat())).encode()) % LOCKS


@contextmanager
def locked(data: Path, days: Iterable[tuple[Stream, date]]) -> Iterator[None]:
    """Holds the locks of all these days; waits for them, in one order for everybody, so that nobody waits in a ring."""
    folder = data / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        for number in sorted({stripe(*each) for each in days}):
            descriptor = os.open(folder / f"{number:02x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
