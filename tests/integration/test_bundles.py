"""A day becomes one zip and one Parquet file, and whoever is killed at it loses nothing and doubles nothing."""

import itertools
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archiver import bundles, members, tables
from archiver.bundles import bundle_day, days_to_bundle
from archiver.jobs import Job
from archiver.minutes import write_minutes
from common.clock import DAY_NS, SECOND_NS
from common.files import leftovers
from common.frame import Frame
from common.paths import Minute, parquet_day, parquet_minute, raw_day, raw_minute
from common.streams import unknown
from tests.archive import BOOK, DAY_START_NS, archive, archived, book_frames, everything, minute, stage

ROOT = Path(__file__).parents[2]
DAY = minute(0).day


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def day_frames(minutes: int = 4) -> list[Frame]:
    return [frame for number in range(minutes) for frame in book_frames(minute(number), count=10)]


def record(data: Path, minutes: int = 4) -> list[Frame]:
    archive(data, *((minute(number), book_frames(minute(number), count=10)) for number in range(minutes)))
    return day_frames(minutes)


def check_whole(data: Path, frames: list[Frame]) -> None:
    """The bundle holds exactly these frames, in both forms, and nothing else lies around."""
    assert everything(data, BOOK, minute(0)) == frames
    values = tables.payload_values(tables.read(data / parquet_day(BOOK, DAY)), BOOK)
    assert values == [json.loads(frame.payload) for frame in frames]
    found = [path for kind in ("raw", "parquet") for path in (data / kind).rglob("*")]
    assert {path.relative_to(data) for path in found if path.is_file()} == {raw_day(BOOK, DAY), parquet_day(BOOK, DAY)}


def test_a_day_is_bundled_and_its_minutes_go(data: Path) -> None:
    """One member a minute, the bytes as they were; the folders of minutes are gone."""
    frames = record(data)
    minutes = (data / raw_minute(minute(0))).parent
    packed = {}
    for path in minutes.iterdir():
        with path.open("rb") as one:
            packed[path.stem] = members.read_packed(one, members.directory(path).members[0])
    done = bundle_day(data, BOOK, DAY)
    check_whole(data, frames)
    assert (done.minutes, done.rows, done.added, done.late, done.doubled) == (4, 40, 4, 0, 0)
    assert not (data / raw_minute(minute(0))).parent.exists()
    assert not (data / parquet_minute(minute(0))).parent.exists()
    with zipfile.ZipFile(data / raw_day(BOOK, DAY)) as file:
        assert file.testzip() is None
        assert file.namelist() == [f"00-0{number}.jsonl" for number in range(4)]
    with (data / raw_day(BOOK, DAY)).open("rb") as bundle:
        for member in members.directory(data / raw_day(BOOK, DAY)).members:
            assert members.read_packed(bundle, member) == packed[member.name[:5]]


def test_bundling_again_does_nothing(data: Path) -> None:
    """A day without minutes stays as it is."""
    record(data)
    bundle_day(data, BOOK, DAY)
    before = (data / raw_day(BOOK, DAY)).stat()
    assert bundle_day(data, BOOK, DAY).added == 0
    assert (data / raw_day(BOOK, DAY)).stat().st_mtime_ns == before.st_mtime_ns


def test_a_late_minute_is_united_with_the_bundle(data: Path) -> None:
    """A late frame, a copy of another collector and a minute that was not there: each ends up in the bundle once."""
    record(data)
    bundle_day(data, BOOK, DAY)
    late = book_frames(minute(1), count=10, connection="b-1", late_ns=9)
    late.append(late[0]._replace(counter=999_999, payload=late[0].payload.replace(b'"u":', b'"u":9')))
    new = book_frames(minute(7), count=10)
    archive(data, (minute(1), late), (minute(7), new))
    done = bundle_day(data, BOOK, DAY)
    frames = day_frames()
    frames.insert(11, late[-1])
    check_whole(data, frames + new)
    assert (done.added, done.late, done.doubled) == (2, 1, 0)  # the copies were dropped when the minute was written


def test_what_a_bundle_holds_is_not_written_again(data: Path) -> None:
    """Frames of a bundled day that are read again, or their copies, make no minute file; what is new does, alone."""
    frames = book_frames(minute(1), count=10)
    archive(data, (minute(1), frames))
    bundle_day(data, BOOK, DAY)
    archive(data, (minute(1), [*frames[2:5], *book_frames(minute(1), count=10, connection="b-1", late_ns=9)]))
    assert not (data / raw_minute(minute(1))).exists()
    new = frames[0]._replace(counter=999_999, payload=frames[0].payload.replace(b'"u":', b'"u":9'))
    archive(data, (minute(1), [*frames, new]))
    assert archived(data, minute(1)) == [new]
    assert bundle_day(data, BOOK, DAY).rows == 11


def test_a_late_copy_that_came_first_wins(data: Path) -> None:
    """The row of the copy that it replaces leaves the day's Parquet too."""
    record(data, 1)
    bundle_day(data, BOOK, DAY)
    early = book_frames(minute(0), count=10, connection="b-1", late_ns=-9)
    archive(data, (minute(0), early))
    bundle_day(data, BOOK, DAY)
    check_whole(data, early)
    assert set(tables.read(data / parquet_day(BOOK, DAY)).column("connection").to_pylist()) == {"b-1"}


def test_frames_that_parquet_cannot_hold_stop_nothing(data: Path) -> None:
    """They are in the day's zip and not in the day's Parquet."""
    frames = record(data)
    odd = Frame(minute(0).start_ns + 1, "a-1", 1, b"odd")
    archive(data, (minute(0), [odd]))
    assert bundle_day(data, BOOK, DAY).rows == 41
    assert everything(data, BOOK, minute(0)) == sorted([*frames, odd])
    assert tables.read(data / parquet_day(BOOK, DAY)).num_rows == 40


def test_an_unknown_channel_is_bundled_without_parquet(data: Path) -> None:
    """Frames of no known stream have a day's zip only."""
    stream = unknown("um")
    archive(data, (minute(0, stream), [Frame(DAY_START_NS, "a-1", 1, b"1")]))
    assert bundle_day(data, stream, DAY).parquet_bytes == 0
    assert (data / raw_day(stream, DAY)).exists()
    assert not (data / "parquet").exists()


def test_a_damaged_minute_does_not_stop_the_day(data: Path) -> None:
    """It is set aside and reported; the others are bundled."""
    record(data)
    path = data / raw_minute(minute(2))
    path.write_bytes(path.read_bytes()[:-30])
    done = bundle_day(data, BOOK, DAY)
    assert done.corrupt == [path.with_name("00-02.zip.corrupt-1")]
    assert done.corrupt[0].exists()
    assert done.minutes == 3


def test_what_is_whole_in_a_damaged_bundle_is_saved(data: Path) -> None:
    """The damaged bundle is kept beside the new one."""
    record(data)
    bundle_day(data, BOOK, DAY)
    path = data / raw_day(BOOK, DAY)
    broken = bytearray(path.read_bytes())
    broken[100] ^= 0xFF
    path.write_bytes(broken)
    archive(data, (minute(5), book_frames(minute(5), count=10)))
    done = bundle_day(data, BOOK, DAY)
    assert everything(data, BOOK, minute(0)) == day_frames(4)[10:] + book_frames(minute(5), count=10)
    assert [aside.read_bytes() for aside in done.corrupt] == [bytes(broken)]


def test_what_is_read_back_wrong_removes_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk gives back something else than was written, the minutes stay and the bundle is not put in place."""
    frames = record(data)
    digests = itertools.count()
    monkeypatch.setattr(bundles, "_digest", lambda content: b"%d" % next(digests))
    with pytest.raises(OSError, match="not what was written"):
        bundle_day(data, BOOK, DAY)
    assert not (data / raw_day(BOOK, DAY)).exists()
    assert everything(data, BOOK, minute(0)) == frames
    assert list(leftovers(data)) == []


@pytest.mark.parametrize(("after_s", "expected"), [(59.0, [(BOOK, DAY)]), (61.0, [])])
def test_a_day_is_bundled_when_it_is_over(data: Path, after_s: float, expected: list[object]) -> None:
    """One minute after midnight, a grace of less than a minute is over; a day without minutes is left alone."""
    record(data)
    assert days_to_bundle(data, DAY_START_NS + DAY_NS + 60 * SECOND_NS, after_s) == expected
    bundle_day(data, BOOK, DAY)
    assert days_to_bundle(data, DAY_START_NS + 9 * DAY_NS, after_s) == []


def killed_everywhere(tmp_path: Path, data: Path, call: Callable[..., object], *args: Any) -> list[Path]:
    """The data folder after a kill before each change of the disk; the last one came to its end."""
    pickled = tmp_path / "call"
    pickled.write_bytes(pickle.dumps((call, *args)))
    paths = data, tmp_path / "killed", pickled
    command = [sys.executable, "-m", "tests.integration.killed_writer", *map(str, paths)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=100)
    return sorted((tmp_path / "killed").iterdir())


@pytest.mark.parametrize("late", [False, True])
def test_a_kill_at_any_step_of_bundling_loses_nothing(tmp_path: Path, data: Path, late: bool) -> None:
    """After a kill before any change of the disk every frame is there, and the next pass ends with each once."""
    frames = record(data, 2)
    if late:
        bundle_day(data, BOOK, DAY)
        extra = book_frames(minute(1), count=20)
        archive(data, (minute(1), extra), (minute(0), book_frames(minute(0), count=10)))
        frames = sorted({*frames, *extra})
    states = killed_everywhere(tmp_path, data, bundle_day, BOOK, DAY)
    assert len(states) > 12
    for state in states:
        assert set(everything(state, BOOK, minute(0))) == set(frames), state.name
        for stream, day in days_to_bundle(state, DAY_START_NS + 3 * DAY_NS, 60.0):
            bundle_day(state, stream, day)
        check_whole(state, frames)


def test_a_kill_at_any_step_of_writing_keeps_what_was_archived(tmp_path: Path, data: Path) -> None:
    """After a kill each minute's file is the old or the new one, and redelivery ends with each frame once in both."""
    old, new = book_frames(minute(0), count=20)[:10], book_frames(minute(0), count=20)[5:]
    archive(data, (minute(0), old))
    job = Job(minute(0), (stage(tmp_path / "stage", new),))
    other = Job(minute(1), (stage(tmp_path / "stage", book_frames(minute(1), count=10)),))
    states = killed_everywhere(tmp_path, data, write_minutes, [job, other])
    assert len(states) > 8
    whole = sorted({*old, *new})
    for state in states:
        there = everything(state, BOOK, minute(0))
        assert [frame for frame in there if frame.receive_ns < minute(0).end_ns] in (old, whole)
        write_minutes(state, [job, other])
        assert everything(state, BOOK, minute(0)) == whole + book_frames(minute(1), count=10)
        assert rows(state, minute(0)) == len(whole)
        assert rows(state, minute(1)) == 10


def rows(data: Path, of: Minute) -> int:
    return int(tables.read(data / parquet_minute(of)).num_rows)
