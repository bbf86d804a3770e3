"""The folder of an archiver's stage: its owner holds a lock, and what the dead left is removed."""

import fcntl
import os
import shutil
from pathlib import Path


def own(folder: Path) -> int:
    """Makes the folder and locks it; gives the lock.

    Another archiver that starts just now may see it before it is locked, take it for a dead one's and remove it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)


def remove_what_the_dead_left(parent: Path) -> None:
    """Removes the folders whose owner lives no more: what is in them is still in Redis."""
    for lock in parent.glob("*/lock"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except FileNotFoundError:  # another archiver that starts removed it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
