"""A minute that grows part by part: one member for any program, and what follows an old part can be replaced."""

import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from archiver import members
from archiver.grown import MOST_PARTS, Grown
from archiver.members import CorruptError
from archiver.summaries import Summary
from common.frame import Frame
from tests.unit.test_members import NOON, content_of, minute_frames, write_minute


def put(path: Path, grown: Grown) -> None:
    path.write_bytes(b"".join(members.minute_zip(grown.member, grown.packed)))


def read(path: Path) -> Grown:
    return Grown.read(path, NOON) or pytest.fail("it does not grow")


def grow(path: Path, frames: list[Frame], *ends: int) -> None:
    """A minute whose parts end before these frames."""
    put(path, Grown.begin(NOON, content_of(frames[: ends[0]]), Summary.of(frames[: ends[0]])))
    for start, end in pairwise(ends):
        grown = read(path)
        put(path, grown.extend(len(grown.summary.parts), content_of(frames[start:end]), Summary.of(frames[:end])))


def test_any_program_reads_the_parts_as_one_file(tmp_path: Path) -> None:
    """One member, its CRC right; the comment sums the minute up and says where the parts end."""
    path, frames = tmp_path / "12-00.zip", minute_frames(NOON)
    grow(path, frames, 20, 21, 50)
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert file.read("12-00.jsonl") == content_of(frames)
    assert members.read_member(path, "12-00.jsonl") == content_of(frames)
    grown = read(path)
    assert [part.last_ns for part in grown.summary.parts] == [frames[end - 1].receive_ns for end in (20, 21, 50)]
    assert (grown.summary.rows, grown.summary.last_ns) == (50, frames[-1].receive_ns)


def test_the_lines_behind_a_part_are_had_without_those_before(tmp_path: Path) -> None:
    """Parts that ended before a time stay packed; what is behind them is read, its CRC checked."""
    path, frames = tmp_path / "12-00.zip", minute_frames(NOON)
    grow(path, frames, 20, 30, 50)
    grown = read(path)
    kept = [grown.before(frames[at].receive_ns) for at in (0, 19, 20, 29, 30, 49)]
    assert kept == [0, 0, 1, 1, 2, 2]
    assert grown.before(frames[-1].receive_ns + 1) == 3
    assert [grown.lines(count) for count in range(4)] == [content_of(frames[at:]) for at in (0, 20, 30, 50)]


def test_what_follows_a_part_can_be_replaced(tmp_path: Path) -> None:
    """The new lines take its place, and the parts before are the same bytes."""
    path, frames = tmp_path / "12-00.zip", minute_frames(NOON)
    grow(path, frames[:10] + frames[20:], 10, 20, 40)
    before = read(path)
    after = before.extend(1, content_of(frames[10:]), Summary.of(frames))
    put(path, after)
    assert members.read_member(path, "12-00.jsonl") == content_of(frames)
    first = before.summary.parts[0]
    assert after.summary.parts[0] == first
    assert after.packed.startswith(before.packed[: first.packed_bytes])


def test_what_was_packed_as_a_whole_does_not_grow(tmp_path: Path) -> None:
    """Nor does what is missing, what is damaged, and what has as many parts as a comment holds."""
    path, frames = tmp_path / "12-00.zip", minute_frames(NOON, MOST_PARTS)
    assert Grown.read(path, NOON) is None
    write_minute(path)
    assert Grown.read(path, NOON) is None
    path.write_bytes(path.read_bytes()[:40])
    assert Grown.read(path, NOON) is None
    grow(path, frames, *range(1, MOST_PARTS))
    assert Grown.read(path, NOON) is not None
    grow(path, frames, *range(1, MOST_PARTS + 1))
    assert Grown.read(path, NOON) is None
    assert members.read_member(path, "12-00.jsonl") == content_of(frames)


def test_damage_is_found_in_the_part_that_has_it(tmp_path: Path) -> None:
    """Behind a damaged part lines are read, and all of them are not."""
    path, frames = tmp_path / "12-00.zip", minute_frames(NOON)
    grow(path, frames, 25, 50)
    grown = read(path)
    damaged = bytearray(grown.packed)
    damaged[grown.summary.parts[0].packed_bytes // 2] ^= 255
    broken = Grown(grown.member, grown.summary, bytes(damaged))
    assert broken.lines(1) == content_of(frames[25:])
    with pytest.raises(CorruptError):
        broken.lines()
