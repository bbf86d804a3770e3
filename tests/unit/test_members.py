"""The archive's zips: any program reads them, the same frames give the same bytes, damage is noticed."""

import io
import zipfile
from pathlib import Path

import pytest

from archiver import members
from archiver.members import CorruptError
from archiver.summaries import Summary
from common.frame import Frame, to_line
from common.paths import Minute
from common.streams import Stream

STREAM = Stream("um", "depth20", "BTCUSDT")
NOON = Minute(STREAM, 28_000_000 // 1440 * 1440 + 720)


def minute_frames(minute: Minute, count: int = 50) -> list[Frame]:
    return [Frame(minute.start_ns + n, "c-1", n, b'{"u":%d}' % n) for n in range(1, count + 1)]


def content_of(frames: list[Frame]) -> bytes:
    return b"".join(to_line(frame) + b"\n" for frame in frames)


def write_minute(path: Path, minute: Minute = NOON, count: int = 50) -> bytes:
    frames = minute_frames(minute, count)
    content = content_of(frames)
    path.write_bytes(b"".join(members.minute_zip(*members.pack(minute, content, Summary.of(frames)))))
    return content


def day(count: int) -> list[tuple[members.Member, bytes]]:
    packed = []
    for number in range(count):
        minute = Minute(STREAM, NOON.number + number)
        frames = minute_frames(minute)
        packed.append(members.pack(minute, content_of(frames), Summary.of(frames)))
    return packed


def test_the_standard_library_reads_a_minute(tmp_path: Path) -> None:
    """One member, its CRC right, its time the minute's own, its comment the summary."""
    content = write_minute(tmp_path / "12-00.zip")
    with zipfile.ZipFile(tmp_path / "12-00.zip") as file:
        assert file.testzip() is None
        (info,) = file.infolist()
        assert file.read(info) == content
        assert info.filename == "12-00.jsonl"
        assert info.date_time == (*NOON.day.timetuple()[:3], 12, 0, 0)
        assert b'"rows":50' in info.comment


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    """Writing again gives the same file."""
    write_minute(tmp_path / "a.zip")
    write_minute(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize("limit", [0xFFFFFFFF, 200])
def test_a_bundle_is_read_by_us_and_by_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Members are copied as they are; beyond 4 GB (here: 200 bytes) the file is Zip64."""
    monkeypatch.setattr(members, "_LIMIT", limit)
    packed, path = day(40), tmp_path / "day.zip"
    with path.open("wb") as file:
        members.write_zip(file, packed)
    found = members.directory(path)
    assert [member._replace(offset=0) for member in found.members] == [member for member, _ in packed]
    assert found.summary == members.summary(path)
    assert found.summary is not None
    assert (found.summary.rows, found.summary.minutes) == (2000, 40)
    assert (found.summary.first, found.summary.last) == ("12-00", "12-39")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for member in found.members:
            assert archive.read(member.name) == members.read_member(path, member.name)


def test_zips_of_others_are_read(tmp_path: Path) -> None:
    """Stored and deflated members of another program are read; they have no summary."""
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("12-00.jsonl", b"stored\n", zipfile.ZIP_STORED)
        file.writestr("12-01.jsonl", b"deflated\n", zipfile.ZIP_DEFLATED)
        file.writestr("12-02.jsonl", b"other\n" * 9, zipfile.ZIP_BZIP2)
    assert members.read_member(path, "12-00.jsonl") == b"stored\n"
    assert members.read_member(path, "12-01.jsonl") == b"deflated\n"
    assert members.summary(path) is None
    with pytest.raises(CorruptError, match="not deflate"):
        members.read_member(path, "12-02.jsonl")
    with pytest.raises(CorruptError, match="holds no"):
        members.read_member(path, "12-03.jsonl")


def test_damage_anywhere_is_noticed_or_harmless(tmp_path: Path) -> None:
    """Whatever byte is flipped, and wherever the file is cut: the content comes back whole, or the damage is named."""
    path = tmp_path / "12-00.zip"
    content = write_minute(path, count=3)
    whole = path.read_bytes()
    broken = [whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :] for at in range(len(whole))]
    broken += [whole[:at] for at in range(len(whole))]
    noticed = 0
    for each in broken:
        path.write_bytes(each)
        try:
            assert members.read_member(path, "12-00.jsonl") == content
        except CorruptError:
            noticed += 1
    assert noticed > len(broken) / 2


def test_a_minute_of_too_many_connections_keeps_its_counts() -> None:
    """A zip comment holds 64 KB: the connections are left out, the rows are not."""
    frames = [Frame(n, f"{n:015x}-0000", 1, b"1") for n in range(1, 3000)]
    member, _ = members.pack(NOON, content_of(frames), Summary.of(frames))
    assert len(member.comment) < 65_536
    summary = member.summary
    assert summary is not None
    assert (summary.rows, summary.connections) == (2999, None)


def test_the_summary_counts_each_connection() -> None:
    """Count, first and last receive time of each, and of all."""
    summary = Summary.of([Frame(3, "a", 1, b""), Frame(4, "b", 1, b""), Frame(5, "a", 2, b"")])
    assert summary.connections == {"a": (2, 3, 5), "b": (1, 4, 4)}
    assert (summary.rows, summary.first_ns, summary.last_ns) == (3, 3, 5)


def test_an_empty_bundle_is_a_zip(tmp_path: Path) -> None:
    """A bundle of nothing has no summary and is still readable."""
    file = io.BytesIO()
    members.write_zip(file, [])
    path = tmp_path / "empty.zip"
    path.write_bytes(file.getvalue())
    assert members.directory(path).members == []
    assert members.summary(path) is None


@pytest.mark.parametrize("number", [0, (2**63 - 1) // 60_000_000_000])
def test_years_that_a_zip_cannot_say(tmp_path: Path, number: int) -> None:
    """A minute of 1970 or 2262 is written and read back; its member has the nearest year that a zip has."""
    minute = Minute(STREAM, number)
    content = write_minute(tmp_path / "a.zip", minute)
    assert members.read_member(tmp_path / "a.zip", members.member_name(minute)) == content
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        (info,) = file.infolist()
        assert info.date_time[0] == min(max(minute.day.year, 1980), 2107)
