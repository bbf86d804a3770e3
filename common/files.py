"""Files that are there whole or not at all, also after a power cut.

A file is written under a temporary name in its own folder, fsynced, renamed, and the folder fsynced. A `Batch` does
each of these steps for many files before it goes on to the next step: that saves a fsync of the folder for each file,
and the disk gathers the rest. Surprising: a folder that was created needs its own parent fsynced, or it is gone too.
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]+-[0-9a-f]+\.tmp")
_numbers = itertools.count()


class Batch:
    """Files that are written together: `with Batch() as batch: batch.write(...); batch.commit()`.

    Leaving the block without `commit` (a full disk, say) removes what was written. Files take their places in the order
    in which they were added.
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, Path]] = []
        self._folders: set[Path] = set()
        self._scratch: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for temporary in (*self._scratch, *(each for each, _ in self._files)):
            temporary.unlink(missing_ok=True)

    def write(self, path: Path, chunks: Iterable[bytes]) -> int:
        """Writes the content of `path` under a temporary name.

        Returns:
            The bytes written.
        """
        written = 0
        with self.temporary(path).open("wb") as file:
            for chunk in chunks:
                written += file.write(chunk)
        return written

    def temporary(self, path: Path) -> Path:
        """The name under which another writer (Parquet) puts the content of `path`; `commit` expects the file there."""
        temporary = self._name(path)
        self._files.append((temporary, path))
        self._folders.add(path.parent)
        return temporary

    def stands(self, path: Path) -> None:
        """The file is there and stays as it is: its name is on disk too after `commit`, whoever put it there."""
        self._folders.add(path.parent)

    def scratch(self, path: Path) -> Path:
        """A temporary name beside `path` for a file that is only needed until the block is left."""
        scratch = self._name(path)
        self._scratch.append(scratch)
        return scratch

    def forget(self, path: Path) -> None:
        """What was written for `path` is not needed after all: it becomes scratch."""
        self._scratch += [temporary for temporary, place in self._files if place == path]
        self._files = [each for each in self._files if each[1] != path]

    def commit(self) -> None:
        """Puts every file in its place and returns when all of that is on disk."""
        for temporary, _ in self._files:
            fsync(temporary)
        for temporary, path in self._files:
            temporary.replace(path)
        self._files.clear()
        for folder in sorted(self._folders):
            fsync(folder)
        self._folders.clear()

    def _name(self, path: Path) -> Path:
        self._make(path.parent)
        return path.with_name(f".{path.name}.{os.getpid():x}-{next(_numbers):x}.tmp")

    def _make(self, folder: Path) -> None:
        missing = list(itertools.takewhile(lambda each: not each.is_dir(), (folder, *folder.parents)))
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            self._folders.add(each.parent)


def write(path: Path, content: bytes) -> None:
    """Writes one file, whole or not at all, and returns when it is on disk."""
    with Batch() as batch:
        batch.write(path, [content])
        batch.commit()


def fsync(path: Path) -> None:
    """Returns when the file, or the names in the folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Renames a corrupt file to `<name>.corrupt-<n>`, which no reader takes for data, and returns the new path."""
    aside = next(each for each in _asides(path) if not each.exists())
    path.replace(aside)
    fsync(path.parent)
    return aside


def keep_aside(path: Path) -> Path:
    """As `set_aside`, but the file also stays under its own name, until it is replaced."""
    aside = next(each for each in _asides(path) if not each.exists())
    aside.hardlink_to(path)
    fsync(path.parent)
    return aside


def newest_aside(path: Path) -> Path | None:
    """The last file that was set aside from this path; None where there is none."""
    found = list(itertools.takewhile(Path.exists, _asides(path)))
    return found[-1] if found else None


def _asides(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.name}.corrupt-{number}") for number in itertools.count(1))


def is_temporary(name: str) -> bool:
    """Whether a `Batch` writes under such a name: where nobody writes, it is the leftover of a killed writer."""
    return _TEMPORARY.fullmatch(name) is not None


def leftovers(root: Path) -> Iterator[Path]:
    """Every file under `root` with a temporary name. Somebody may be writing it: hold the lock before removing it."""
    for folder, _, names in os.walk(root):
        yield from (Path(folder, name) for name in sorted(names) if is_temporary(name))
