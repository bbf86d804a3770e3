"""The folder of an archiver's stage: locked by its owner, its files used again; what the dead left is removed."""

import contextlib
import errno
import fcntl
import os
import shutil
from pathlib import Path


class StageFolder:
    """An archiver's own folder of staged files.

    Args:
        folder: Where. Folders beside it that no living archiver holds are removed.
    """

    def __init__(self, folder: Path) -> None:
        remove_what_the_dead_left(folder.parent)
        self._folder = folder
        self._lock = own(folder)
        self._made = 0
        self._spare: list[Path] = []

    def file(self) -> Path:
        """An empty file, or the name of one that is made when it is written to. No name is given twice."""
        return self._spare.pop() if self._spare else self._name()

    def _name(self) -> Path:
        self._made += 1
        return self._folder / f"{self._made}.jsonl"

    def release(self, path: Path) -> None:
        """A file that nobody reads or writes any more: it is emptied, and used again under another name.

        Where many files were just removed, an ext4 without a journal takes as long to make one as to fill it.
        """
        with contextlib.suppress(FileNotFoundError):  # it was never written to
            os.truncate(path, 0)
            spare = self._name()
            path.rename(spare)
            self._spare.append(spare)

    def close(self) -> None:
        """Removes the folder: what is in it is still in Redis."""
        shutil.rmtree(self._folder)
        os.close(self._lock)


def own(folder: Path) -> int:
    """Makes the folder and locks it; gives the lock.

    Another archiver that starts just now may see it before it is locked, take it for a dead one's and remove it.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except (FileNotFoundError, FileExistsError):
            if folder.exists():
                raise
            continue
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
            if os.fstat(descriptor).st_nlink:  # else it was removed before we had the lock
                _remove(lock.parent)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def _remove(folder: Path) -> None:
    """Removes a folder whose lock we hold, unless its owner has just made it anew."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
