"""Files are there whole or not at all; the lock of a day belongs to one process at a time."""

import errno
import fcntl
import os
from datetime import date
from pathlib import Path

import pytest

from common import files
from common.files import Batch, is_temporary, leftovers, newest_aside, set_aside
from common.locks import FOLDER, locked, stripe
from common.streams import Stream

STREAM = Stream("um", "depth20", "测试USDT")
DAY = date(2026, 11, 21)


def test_nothing_is_there_before_the_commit(tmp_path: Path) -> None:
    """Until then there are only temporary names, which no reader's pattern matches."""
    path = tmp_path / "deep" / "down" / "12-00.zip"
    with Batch() as batch:
        assert batch.write(path, [b"ab", b"c"]) == 3
        assert not path.exists()
        assert list(path.parent.glob("*.zip")) == []
        assert len(list(leftovers(tmp_path))) == 1
        batch.commit()
        assert path.read_bytes() == b"abc"
    assert list(leftovers(tmp_path)) == []


def test_a_block_left_without_commit_leaves_nothing(tmp_path: Path) -> None:
    """The old file stays as it was, and what was written is removed, scratch too."""
    path = tmp_path / "12-00.zip"
    files.write(path, b"old")
    with pytest.raises(OSError, match="No space"), Batch() as batch:  # noqa: PT012  # the fault is the block's last line
        batch.write(path, [b"new"])
        batch.scratch(path).write_bytes(b"scratch")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_bytes() == b"old"
    assert list(leftovers(tmp_path)) == []


def test_a_failing_fsync_puts_nothing_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files are on disk before the first one is renamed."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="lost"), Batch() as batch:  # noqa: PT012
        batch.write(tmp_path / "a", [b"1"])
        batch.write(tmp_path / "b", [b"2"])
        batch.commit()
    assert list(tmp_path.iterdir()) == []


def test_every_file_and_every_new_folder_is_fsynced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First the files, then the folders of their names, and the parents of folders that were made."""
    seen: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        seen.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()).removeprefix(str(tmp_path)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with Batch() as batch:
        batch.write(tmp_path / "x" / "y" / "a", [b"1"])
        batch.write(tmp_path / "x" / "y" / "b", [b"2"])
        batch.commit()
    assert [is_temporary(Path(name).name) for name in seen] == [True, True, False, False, False]
    assert seen[2:] == ["", "/x", "/x/y"]


def test_files_take_their_places_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw before Parquet: a kill between two renames leaves the earlier ones in place."""
    renamed: list[str] = []
    real = Path.replace

    def note(self: Path, target: Path) -> Path:
        renamed.append(target.name)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", note)
    with Batch() as batch:
        for name in ("c", "a", "b"):
            batch.write(tmp_path / name, [b"1"])
        batch.forget(tmp_path / "a")
        batch.commit()
    assert renamed == ["c", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


def test_damaged_files_are_kept_under_their_own_names(tmp_path: Path) -> None:
    """Each gets the next number; nothing is overwritten."""
    path = tmp_path / "12-00.zip"
    assert newest_aside(path) is None
    for number in (1, 2):
        path.write_bytes(b"%d" % number)
        assert set_aside(path).name == f"12-00.zip.corrupt-{number}"
    assert newest_aside(path) == tmp_path / "12-00.zip.corrupt-2"
    assert (tmp_path / "12-00.zip.corrupt-1").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("name", "expected"), [(".a.zip.1f-0.tmp", True), ("a.zip", False), (".hidden", False), (".a.zip.tmp", False)]
)
def test_temporary_names_are_recognised(name: str, expected: bool) -> None:
    """Only what a batch writes counts as a leftover: other programs' hidden files are left alone."""
    assert is_temporary(name) is expected


def test_the_lock_of_a_day_is_held_and_given_back(tmp_path: Path) -> None:
    """Another descriptor cannot take it meanwhile, and the lock's file stays."""
    file = tmp_path / FOLDER / f"{stripe(STREAM, DAY):02x}"
    with locked(tmp_path, [(STREAM, DAY), (STREAM, DAY)]), file.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_locks_are_taken_in_one_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants several takes them by number: nobody waits in a ring."""
    taken: list[int] = []
    real = fcntl.flock

    def note(descriptor: int, operation: int) -> None:
        taken.append(int(Path(f"/proc/self/fd/{descriptor}").readlink().name, 16))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", note)
    days = [(STREAM, date(2026, 11, number)) for number in range(1, 29)]
    with locked(tmp_path, days), locked(tmp_path / "other", reversed(days)):
        pass
    half = len(taken) // 2
    assert taken[:half] == taken[half:] == sorted({stripe(*day) for day in days})
