"""`verify` names what does not hold, and nothing else; `status` counts without reading."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from archiver import commands, lines, members, status, tables
from archiver.bundles import bundle_day
from archiver.holes import Silences
from archiver.summaries import Summary
from archiver.verify import Problem, verify
from common import ledger
from common.clock import SECOND_NS
from common.files import Batch
from common.frame import Frame
from common.paths import Minute, parquet_day, parquet_minute, raw_day, raw_minute
from tests.archive import BOOK, TRADES, archive, book_frames, minute

DAY = minute(0).day


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three minutes of a book and of trades, a frame a second."""
    folder = tmp_path / "data"
    folder.mkdir()
    for stream in (BOOK, TRADES):
        archive(folder, *((minute(n, stream), book_frames(minute(n, stream))) for n in range(3)))
    return folder


def said(data: Path, **more: object) -> str:
    return "\n".join(map(str, verify(data, **more)))  # type: ignore[arg-type]


def rewrite(data: Path, of: Minute, frames: list[Frame]) -> None:
    """Puts a raw file in place that the archiver would not write."""
    member, packed = members.pack(of, lines.render(frames), Summary.of(sorted(frames)))
    (data / raw_minute(of)).write_bytes(b"".join(members.minute_zip(member, packed)))


def test_an_archive_that_holds_has_no_problems(data: Path) -> None:
    """Neither before nor after bundling, nor with frames that Parquet cannot hold."""
    archive(data, (minute(1), [Frame(minute(1).start_ns + 1, "a-1", 1, b"odd")]))
    assert said(data) == ""
    bundle_day(data, BOOK, DAY)
    assert said(data) == ""
    assert said(data, day=DAY) == ""


@pytest.mark.parametrize("bundled", [False, True])
def test_damage_to_the_raw_file_is_named(data: Path, bundled: bool) -> None:
    """A flipped byte in a minute or in a bundle: where it is, and what to do."""
    if bundled:
        bundle_day(data, BOOK, DAY)
    path = data / (raw_day(BOOK, DAY) if bundled else raw_minute(minute(0)))
    broken = bytearray(path.read_bytes())
    broken[200] ^= 0xFF
    path.write_bytes(broken)
    problems = [each for each in verify(data) if "damaged" in each.what]
    assert [each.where for each in problems] == [str(path.relative_to(data))]
    assert "backup" in problems[0].advice


def cut_zip(data: Path) -> None:
    path = data / raw_minute(minute(0))
    path.write_bytes(path.read_bytes()[:50])


def remove_parquet(data: Path) -> None:
    (data / parquet_minute(minute(0))).unlink()
    os.utime(data / raw_minute(minute(0)), (1, 1))


def break_parquet(data: Path) -> None:
    (data / parquet_minute(minute(0))).write_bytes(b"PAR1")


def drop_rows(data: Path) -> None:
    path = data / parquet_minute(minute(0))
    tables.write(tables.read(path).slice(7), path)


def add_rows(data: Path) -> None:
    tables.write(tables.read(data / parquet_minute(minute(0))), data / parquet_minute(minute(0)))
    rewrite(data, minute(0), book_frames(minute(0))[:-2])


def change_a_value(data: Path) -> None:
    frames = book_frames(minute(0))
    frames[3] = frames[3]._replace(payload=frames[3].payload.replace(b"0.696", b"0.697"))
    rewrite(data, minute(0), frames)


def double_a_frame(data: Path) -> None:
    frames = book_frames(minute(0))
    rewrite(data, minute(0), sorted([*frames, frames[4]._replace(connection="b-1")]))


def mix_the_order(data: Path) -> None:
    rewrite(data, minute(0), book_frames(minute(0))[::-1])


def stray_frame(data: Path) -> None:
    of = minute(2)
    rewrite(data, of, [*book_frames(of), book_frames(minute(9))[0]])


def write_nonsense(data: Path) -> None:
    member, packed = members.pack(minute(0), b"nonsense\n", Summary(1, 1, 1))
    (data / raw_minute(minute(0))).write_bytes(b"".join(members.minute_zip(member, packed)))


def leave_half_a_file(data: Path) -> None:
    batch = Batch()
    temporary = batch.temporary(data / raw_minute(minute(0)))
    temporary.write_bytes(b"half")
    os.utime(temporary, (1, 1))


def set_one_aside(data: Path) -> None:
    (data / raw_minute(minute(0))).with_name("00-00.zip.corrupt-1").write_bytes(b"")


def copy_into_the_next_minute(data: Path) -> None:
    frame = book_frames(minute(0))[-1]
    frames = [frame._replace(receive_ns=minute(1).start_ns, connection="b-1"), *book_frames(minute(1))]
    rewrite(data, minute(1), sorted(frames))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (cut_zip, "00-00.zip: damaged: "),
        (remove_parquet, "00-00.parquet: the Parquet file is missing"),
        (break_parquet, "00-00.parquet: the Parquet file is damaged"),
        (drop_rows, "00-00.parquet: 7 raw frames have no row"),
        (add_rows, "00-00.parquet: 2 rows have no raw frame"),
        (change_a_value, "00-00.parquet: 1 rows differ from their raw frames"),
        (double_a_frame, "00-00: 1 frames are there twice"),
        (copy_into_the_next_minute, "00-01: 1 frames are there twice"),
        (mix_the_order, "00-00: frames are not sorted"),
        (stray_frame, "00-02: 1 frames belong to another minute"),
        (write_nonsense, "00-00 has a bad line"),
        (leave_half_a_file, "unfinished file of a writer that was killed"),
        (set_one_aside, "00-00.zip.corrupt-1: a damaged file that was set aside"),
    ],
)
def test_each_fault_is_named(data: Path, fault: Callable[[Path], None], expected: str) -> None:
    """What the archiver would never write is found, with the place."""
    fault(data)
    assert expected in said(data)


def test_a_minute_that_is_written_in_parts_is_no_problem(data: Path) -> None:
    """Its Parquet file is made at its end, so a raw file that was written just now may have none."""
    (data / parquet_minute(minute(0))).unlink()
    assert said(data) == ""


def test_a_day_parquet_that_lacks_rows_is_named(data: Path) -> None:
    """The day's Parquet is compared with the bundle, row for row."""
    bundle_day(data, BOOK, DAY)
    path = data / parquet_day(BOOK, DAY)
    table = tables.read(path)
    tables.write(table.slice(0, 100), path)
    assert f"{path.relative_to(data)}: 80 raw frames have no row" in said(data)


def test_a_hole_needs_a_row(data: Path) -> None:
    """A steady stream's missing minute is a problem, unless the ledger explains it; that of trades is none."""
    for stream in (BOOK, TRADES):
        for path in (raw_minute, parquet_minute):
            (data / path(minute(1, stream))).unlink()
    (problem,) = verify(data)
    assert "nothing for 61.0 s" in problem.what
    from_ns, to_ns = book_frames(minute(0))[-1].receive_ns, minute(2).start_ns
    row = ledger.row(BOOK, from_ns, to_ns, "crash", mark="x", frames_missing=610)
    assert verify(data, rows=[row]) == []
    assert verify(data, day=DAY, rows=[ledger.row(BOOK, from_ns, None, "crash", mark="x", frames_missing=None)]) == []
    half = ledger.row(BOOK, from_ns, to_ns - 30 * SECOND_NS, "crash", mark="x", frames_missing=300)
    assert len(verify(data, rows=[half])) == 1
    assert len(verify(data, rows=[ledger.row(TRADES, from_ns, to_ns, "crash", mark="x", frames_missing=1)])) == 1


def test_silences_are_measured_between_frames() -> None:
    """5 s or three paces are borne; frames a little out of order at the border of minutes end no silence."""
    silences = Silences(BOOK, [])
    assert silences.after([0, 5 * SECOND_NS]) == []
    assert silences.after([4 * SECOND_NS, 9 * SECOND_NS]) == []
    (hole,) = silences.after([15 * SECOND_NS])
    assert (hole.from_ns, hole.to_ns) == (9 * SECOND_NS, 15 * SECOND_NS)


def test_progress_is_shown(data: Path) -> None:
    """One step a day of a stream."""
    progress = Progress(console=Console(quiet=True))
    verify(data, progress=progress)
    assert progress.tasks[0].completed == progress.tasks[0].total == 2


def test_a_problem_reads_as_a_sentence() -> None:
    """Where, what, and what to do."""
    assert str(Problem("raw/x.zip", "damaged", "Do this")) == "raw/x.zip: damaged. Do this"


def test_status_counts_what_is_there(data: Path) -> None:
    """Frames, first and last minute, what the pace would give, and bytes; the same before and after bundling."""
    book, trades = sorted(status.collect(data), key=lambda row: row.stream.channel, reverse=True)
    first, last = f"{DAY} 00-00", f"{DAY} 00-02"
    assert (book.stream, book.first, book.last, book.frames) == (BOOK, first, last, 180)
    assert (book.expected, book.missing) == (1791, 1611)
    assert (trades.frames, trades.expected, trades.missing) == (180, None, None)
    assert book.raw_bytes == sum(path.stat().st_size for path in (data / "raw/um/depth20").rglob("*.zip"))
    assert book.parquet_bytes == sum(path.stat().st_size for path in (data / "parquet/um/depth20").rglob("*.parquet"))
    bundle_day(data, BOOK, DAY)
    archive(data, (minute(9), book_frames(minute(9))))
    (row,) = (each for each in status.collect(data) if each.stream == BOOK)
    assert (row.first, row.last, row.frames) == (first, f"{DAY} 00-09", 240)


def test_status_shows_a_table(data: Path) -> None:
    """A row a stream and their sum; a file that cannot be read is said, not skipped."""
    (data / raw_minute(minute(0))).write_bytes(b"")
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(status.render(status.collect(data)))
    text = console.export_text()
    assert "BTCUSDT" in text
    assert "(1 files unreadable)" in text
    assert "2 streams" in text
    assert status.collect(data / "nowhere") == []


def test_a_day_that_is_none_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """What was wrong, and how a day is written."""
    with pytest.raises(SystemExit) as ended:
        commands.main(["verify", "--date", "2026-13-01"])
    assert ended.value.code == 2
    assert "--date: '2026-13-01' is no day of the calendar, written as 2026-11-29" in capsys.readouterr().err
