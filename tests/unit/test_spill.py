"""A spill gives back what was written to it, in order, whatever was torn off or damaged, and to one owner only."""

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.spill import Spill, abandoned, create
from common.spill_record import Draft, Found, Record, next_record
from tests.small_disk import filled, small_disk

SEGMENT = 1 << 20


def record(number: int, packed: bytes = b"x" * 50) -> Record:
    return Record(number, number, 1, packed)


def drafts(records: Iterable[Record]) -> list[Draft]:
    """The records as who writes them has them: in parts."""
    return [Draft(one.first, one.last, one.commands, [one.packed[:20], one.packed[20:]]) for one in records]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everything(spill: Spill) -> Iterator[Record]:
    while found := spill.read(1000):
        yield from found


def adopted(root: Path) -> list[Record]:
    """What the spills of dead owners hold; their locks are freed again."""
    found = []
    for spill in abandoned(root, SEGMENT):
        found += list(everything(spill))
        spill.close()
    return found


def test_gives_back_what_was_written_in_order(tmp_path: Path) -> None:
    """Records come back as they were, also while more is written, over many segments."""
    spill = create(tmp_path, "a", 300)
    records = [record(number, os.urandom(number * 7)) for number in range(1, 40)]
    spill.write(drafts(records[:30]))
    found = spill.read(500)
    spill.write(drafts(records[30:]))
    assert [*found, *everything(spill)] == records
    assert spill.unread == 0
    assert len(names(tmp_path / "a")) > 5
    spill.close()


def test_a_record_of_many_parts_is_one_record(tmp_path: Path) -> None:
    """However small the batches are that it is made of."""
    spill = create(tmp_path, "a", SEGMENT)
    spill.write([Draft(1, 3000, 3000, [b"%d," % number for number in range(3000)])])
    assert list(everything(spill)) == [Record(1, 3000, 3000, b"".join(b"%d," % number for number in range(3000)))]
    spill.close()


def test_older_batches_go_in_front(tmp_path: Path) -> None:
    """What is written later and has lower numbers is read first."""
    spill = create(tmp_path, "a", SEGMENT)
    spill.write(drafts([record(7), record(8)]))
    spill.write(drafts([record(3), record(4)]))
    spill.write(drafts([record(9)]))
    spill.close()
    assert [one.first for one in adopted(tmp_path)] == [3, 4, 7, 8, 9]


def test_what_the_writer_has_in_hand_is_not_read_again(tmp_path: Path) -> None:
    """Copies are for whoever adopts the spill; their owner reads only what it let go."""
    spill = create(tmp_path, "a", SEGMENT)
    spill.write(drafts([record(1), record(2)]), read=True)
    spill.write(drafts([record(3)]))
    spill.write(drafts([record(5)]), read=True)
    spill.write(drafts([record(6)]))
    assert [one.first for one in everything(spill)] == [3, 6]
    spill.close()
    assert [one.first for one in adopted(tmp_path)] == [1, 2, 3, 5, 6]


def test_a_segment_goes_when_all_of_it_is_durable(tmp_path: Path) -> None:
    """Nothing is removed before it was read and is durable; at the end the folder is gone too."""
    spill = create(tmp_path, "a", 200)
    spill.write(drafts([record(number) for number in range(1, 8)]))
    files = len(names(tmp_path / "a"))
    spill.release(7)
    assert len(names(tmp_path / "a")) == files
    list(everything(spill))
    spill.release(3)
    assert 1 < len(names(tmp_path / "a")) < files
    spill.release(7)
    assert (names(tmp_path / "a"), spill.size) == (["lock"], 0)
    spill.write(drafts([record(8)]))
    assert list(everything(spill)) == [record(8)]
    spill.release(8)
    spill.close()
    assert names(tmp_path) == []


def test_an_adopted_segment_goes_by_its_readers_numbers(tmp_path: Path) -> None:
    """Who adopts a spill numbers its batches anew, and a segment goes when these are durable."""
    spill = create(tmp_path, "a", SEGMENT)
    spill.write(drafts([record(1000)]))
    spill.close()
    (again,) = abandoned(tmp_path, SEGMENT)
    again.release(5000)
    assert again.size
    list(everything(again))
    again.was_read_up_to(5)
    again.release(4)
    assert again.size
    again.release(5)
    again.close()
    assert names(tmp_path) == []


def test_the_living_are_not_adopted_and_the_dead_only_once(tmp_path: Path) -> None:
    """A spill has one owner: the lock is freed by its death, and who adopts it holds the lock."""
    spill = create(tmp_path, "a", SEGMENT)
    spill.write(drafts([record(1)]))
    assert abandoned(tmp_path, SEGMENT) == []
    spill.close()
    first, second = abandoned(tmp_path, SEGMENT), abandoned(tmp_path, SEGMENT)
    assert ([len(list(everything(one))) for one in first], second) == ([1], [])
    first[0].close()


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    """Without a folder, or with files of others in it, there is nothing to adopt."""
    assert abandoned(tmp_path / "none", SEGMENT) == []
    (tmp_path / "a file").write_text("of another")
    assert abandoned(tmp_path, SEGMENT) == []


@given(cut=st.integers(0, 700), sizes=st.lists(st.integers(0, 120), min_size=1, max_size=6))
def test_any_cut_leaves_a_prefix(cut: int, sizes: list[int]) -> None:
    """Wherever a kill cuts the file off, what comes back is the records before the cut."""
    with TemporaryDirectory() as folder:
        records = [record(number, os.urandom(size)) for number, size in enumerate(sizes, 1)]
        spill = create(Path(folder), "a", SEGMENT)
        spill.write(drafts(records))
        spill.close()
        (file,) = Path(folder, "a").glob("*.batches")
        size = file.stat().st_size
        os.truncate(file, min(cut, size))
        whole = [one for index, one in enumerate(records) if sum(each.size for each in records[: index + 1]) <= cut]
        assert adopted(Path(folder)) == whole


@given(at=st.integers(0, 10_000), damage=st.binary(min_size=1, max_size=200))
def test_damage_costs_only_the_records_it_hits(at: int, damage: bytes) -> None:
    """Bytes overwritten anywhere: every record that they do not touch comes back, and no other does."""
    with TemporaryDirectory() as folder:
        records = [record(number, os.urandom(40 * number)) for number in range(1, 9)]
        spill = create(Path(folder), "a", SEGMENT)
        spill.write(drafts(records))
        spill.close()
        (file,) = Path(folder, "a").glob("*.batches")
        content = bytearray(file.read_bytes())
        at %= len(content)
        damage = damage[: len(content) - at]
        hit = content[at : at + len(damage)] != damage
        content[at : at + len(damage)] = damage
        file.write_bytes(content)
        found = adopted(Path(folder))
        assert found == [one for one in records if one in found]
        starts = [sum(each.size for each in records[:index]) for index in range(8)]
        untouched = [
            one
            for one, start in zip(records, starts, strict=True)
            if not hit or start + one.size <= at or start >= at + len(damage)
        ]
        assert [one for one in untouched if one not in found] == []


def test_damage_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read is said with its bytes: damage in the middle as an error, a torn end as a warning."""
    spill = create(tmp_path, "a", SEGMENT)
    spill.write(drafts([record(number) for number in range(1, 5)]))
    spill.close()
    (file,) = (tmp_path / "a").glob("*.batches")
    content = bytearray(file.read_bytes())
    content[record(1).size + 40] ^= 1
    file.write_bytes(content[:-1])
    (again,) = abandoned(tmp_path, SEGMENT)
    assert [one.first for one in everything(again)] == [1, 3]
    assert again.skipped_bytes == 2 * record(1).size - 1
    again.close()
    assert [entry.levelname for entry in caplog.records] == ["ERROR", "WARNING"]


def test_what_the_disk_gives_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records in front of a place that the disk does not give come back, and so do the segments behind it."""
    spill = create(tmp_path, "a", 3 * record(1).size)
    spill.write(drafts([record(number) for number in range(1, 7)]))

    def failing(descriptor: int, start: int, end: int) -> Found:
        if os.path.samestat(os.fstat(descriptor), bad.stat()) and start > record(1).size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return next_record(descriptor, start, end)

    bad = sorted((tmp_path / "a").glob("*.batches"))[0]
    monkeypatch.setattr("common.spill.next_record", failing)
    assert [one.first for one in everything(spill)] == [1, 2, 4, 5, 6]
    assert spill.skipped_bytes == record(3).size
    spill.close()


def test_a_file_of_another_hides_no_segment(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is no segment is named and left, and the segments beside it are read."""
    spill = create(tmp_path, "a", SEGMENT)
    spill.write(drafts([record(1)]))
    spill.close()
    (tmp_path / "a" / "copy of 1.batches").write_bytes(b"x")
    assert adopted(tmp_path) == [record(1)]
    assert ["copy of 1" in entry.message for entry in caplog.records] == [True]


def test_a_full_disk_takes_all_or_nothing(tmp_path: Path) -> None:
    """A write that fails half way leaves what was there before; with space again it goes on."""
    with small_disk(tmp_path / "disk", 4) as disk:
        spill = create(disk / "spill", "a", SEGMENT)
        spill.write(drafts([record(1), record(2)]))
        size = spill.size
        with filled(disk):
            with pytest.raises(OSError) as refused:  # noqa: PT011 - its errno is looked at
                spill.write(drafts([record(number, b"y" * 100_000) for number in range(3, 9)]))
            assert refused.value.errno == errno.ENOSPC
            assert spill.size == size
        spill.write(drafts([record(number, b"y" * 1000) for number in range(3, 9)]))
        assert [one.first for one in everything(spill)] == list(range(1, 9))
        spill.close()
        assert [one.first for one in adopted(disk / "spill")] == list(range(1, 9))
