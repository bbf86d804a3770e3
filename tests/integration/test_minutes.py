"""Minutes are written once, whole, and in both forms, whatever happened before."""

import gzip
import json
import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from archiver import layout, tables
from archiver.grown import Grown
from archiver.jobs import Job, share
from archiver.minutes import write_minutes
from archiver.sweep import sweep
from common.files import Batch
from common.frame import Frame, event_time_ms
from common.locks import stripe
from common.paths import Minute, parquet_minute, raw_minute
from common.streams import Stream, unknown
from tests.archive import BOOK, SPOT, TRADES, archive, archived, book_frames, book_payload, minute, stage
from tests.small_disk import filled, small_disk

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "derived"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_a_minute_is_written_in_both_forms(data: Path) -> None:
    """Every frame comes back byte for byte from the zip, and value for value from Parquet."""
    of = minute(1)
    frames = book_frames(of)
    (written,) = archive(data, (of, frames))
    assert archived(data, of) == frames
    table = tables.read(data / parquet_minute(of))
    assert tables.payload_values(table, BOOK) == [json.loads(frame.payload) for frame in frames]
    assert (written.rows, written.staged_rows, written.doubled, written.changed) == (60, 60, 0, True)
    assert written.raw_bytes == (data / raw_minute(of)).stat().st_size
    assert written.parquet_bytes == (data / parquet_minute(of)).stat().st_size


def test_redelivery_writes_nothing(data: Path) -> None:
    """The same frames again, or a part of them, leave both files untouched."""
    of = minute(1)
    archive(data, (of, book_frames(of)))
    before = [(data / path(of)).stat().st_ino for path in (raw_minute, parquet_minute)]
    (written,) = archive(data, (of, book_frames(of)[10:20]))
    assert (written.changed, written.doubled, written.rows) == (False, 10, 60)
    assert [(data / path(of)).stat().st_ino for path in (raw_minute, parquet_minute)] == before


def test_what_a_killed_writer_renamed_is_made_durable(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redelivery of all that is there writes no file, but the names in the raw folder are on disk when it returns."""
    of = minute(1)
    archive(data, (of, book_frames(of)))
    seen: list[Path] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    archive(data, (of, book_frames(of)))
    assert seen == [(data / raw_minute(of)).parent]


def test_parts_give_the_same_bytes_as_the_whole(data: Path, tmp_path: Path) -> None:
    """A minute that was written in parts, out of order, is the same two files."""
    of = minute(1)
    frames = book_frames(of)
    for part in (frames[30:], frames[:10], frames[10:30]):
        archive(data, (of, part))
    other = tmp_path / "other" / "data"
    archive(other, (of, frames))
    for path in (raw_minute, parquet_minute):
        assert (data / path(of)).read_bytes() == (other / path(of)).read_bytes()


def damage(path: Path) -> None:
    """Changes a byte of the packed lines."""
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3] ^= 255
    path.write_bytes(damaged)


def finish(data: Path, *minutes: Minute) -> None:
    """What is left to do for minutes in parts when they are over."""
    write_minutes(data, [Job(of, ()) for of in minutes])


@pytest.mark.parametrize("stream", [BOOK, TRADES])
def test_a_minute_grows_part_by_part(data: Path, tmp_path: Path, stream: Stream) -> None:
    """A part is put behind what is there, which stays as it is; the Parquet file is made at the end, of all of it."""
    of = minute(1, stream)
    frames = book_frames(of)
    packed = b""
    for at in range(0, 60, 20):
        (written,) = archive(data, (of, frames[at : at + 20]), grows=True)
        assert (written.rows, written.staged_rows, written.parquet_bytes) == (at + 20, 20, 0)
        assert not (data / parquet_minute(of)).exists()
        grown = Grown.read(data / raw_minute(of), of) or pytest.fail("it does not grow")
        assert grown.packed.startswith(packed[:-2])
        packed = grown.packed
    finish(data, of)
    other = tmp_path / "other" / "data"
    archive(other, (of, frames))
    assert archived(data, of) == frames
    assert (data / parquet_minute(of)).read_bytes() == (other / parquet_minute(of)).read_bytes()


def test_lines_that_end_a_minute_in_parts_bring_its_parquet_file(data: Path) -> None:
    """A job that is no part makes the Parquet file of what was there and what it brings."""
    of = minute(1)
    frames = book_frames(of)
    archive(data, (of, frames[:40]), grows=True)
    (written,) = archive(data, (of, frames[40:]))
    assert written.rows == 60
    assert tables.read(data / parquet_minute(of)).num_rows == 60
    assert archived(data, of) == frames


def test_a_part_that_comes_again_or_out_of_order_is_united(data: Path) -> None:
    """Redelivered frames are dropped, earlier ones put in their place; and the minute can still grow."""
    of = minute(1)
    frames = book_frames(of)
    archive(data, (of, frames[10:30]), grows=True)
    (again,) = archive(data, (of, frames[20:40]), grows=True)
    assert (again.rows, again.doubled) == (40 - 10, 10)
    archive(data, (of, frames[:10]), grows=True)
    assert Grown.read(data / raw_minute(of), of) is not None
    archive(data, (of, frames[40:]), grows=True)
    finish(data, of)
    assert archived(data, of) == frames
    assert tables.read(data / parquet_minute(of)).num_rows == 60


@pytest.mark.parametrize("stream", [BOOK, TRADES])
def test_a_batch_that_redis_took_twice_is_in_parts_once(data: Path, stream: Stream) -> None:
    """Some of it comes in one part, and all of it, in order, in the next: only the part before is looked into."""
    of = minute(1, stream)
    frames = book_frames(of)
    archive(data, (of, frames[:20]), grows=True)
    archive(data, (of, frames[20:30]), grows=True)
    untouched = (Grown.read(data / raw_minute(of), of) or pytest.fail("it does not grow")).summary.parts[0]
    (first,) = archive(data, (of, [*frames[30:33], *frames[36:40]]), grows=True)
    (again,) = archive(data, (of, [*frames[30:40], *frames[30:45]]), grows=True)
    assert (first.rows, first.doubled) == (37, 0)
    assert (again.rows, again.staged_rows, again.doubled) == (45, 25, 25 - 8)
    (nothing,) = archive(data, (of, frames[25:28]), grows=True)
    assert (nothing.rows, nothing.doubled, nothing.changed) == (45, 3, False)
    grown = Grown.read(data / raw_minute(of), of) or pytest.fail("it does not grow")
    assert grown.summary.parts[0] == untouched
    archive(data, (of, frames[45:]), grows=True)
    finish(data, of)
    assert archived(data, of) == frames
    assert tables.read(data / parquet_minute(of)).num_rows == 60


def test_parts_of_two_collectors_hold_each_frame_once(data: Path) -> None:
    """Copies on another connection are found among what is packed already."""
    of = minute(1)
    first, second = book_frames(of), book_frames(of, connection="b-1", late_ns=5)
    for at in range(0, 60, 20):
        archive(data, (of, first[at : at + 20]), grows=True)
        archive(data, (of, second[at : at + 20]), grows=True)
    finish(data, of)
    assert archived(data, of) == first
    assert tables.read(data / parquet_minute(of)).num_rows == 60


def test_a_copy_beside_a_minute_that_grew_is_dropped(data: Path) -> None:
    """The neighbour is written in the same batch as the part, and finds its copy in what was packed before."""
    left, right = minute(1, SPOT), minute(2, SPOT)
    payloads = [b'{"lastUpdateId":%d,"bids":[["1.10","2.0"]],"asks":[["1.20","2.0"]]}' % n for n in range(4)]
    early = [Frame(left.end_ns - 9 + n, "a-1", n, payload) for n, payload in enumerate(payloads)]
    late = [Frame(right.start_ns + 5 + n, "b-1", n, payload) for n, payload in enumerate(payloads)]
    archive(data, (left, early[:2]), grows=True)
    archive(data, (left, early[2:]), (right, late), grows=True)
    assert archived(data, left) == early
    assert not (data / raw_minute(right)).exists()


def test_a_part_keeps_a_parquet_file_that_is_there_true(data: Path) -> None:
    """Where the minute has one, it holds the part's frames too; and what brings nothing writes nothing."""
    of = minute(1)
    frames = book_frames(of)
    archive(data, (of, frames[:40]), grows=True)
    finish(data, of)
    archive(data, (of, frames[40:]), grows=True)
    assert tables.read(data / parquet_minute(of)).num_rows == 60
    before = (data / parquet_minute(of)).stat().st_ino
    (again,) = archive(data, (of, frames[50:]))
    assert (again.changed, again.doubled) == (False, 10)
    assert (data / parquet_minute(of)).stat().st_ino == before


def test_a_damaged_minute_in_parts_is_set_aside(data: Path) -> None:
    """The damage shows when its Parquet file is made; what came since then makes a new one."""
    of = minute(1)
    frames = book_frames(of)
    archive(data, (of, frames[:30]), grows=True)
    damage(data / raw_minute(of))
    (written,) = archive(data, (of, frames[30:]))
    assert written.corrupt is not None
    assert archived(data, of) == frames[30:]
    assert tables.read(data / parquet_minute(of)).num_rows == 30


def test_a_damaged_neighbour_in_parts_stops_nothing(data: Path) -> None:
    """Copies in it are not seen; what else the batch holds is written."""
    left, right = minute(1), minute(2)
    frames = book_frames(left)
    archive(data, (left, frames[:30]), grows=True)
    damage(data / raw_minute(left))
    archive(data, (left, frames[30:]), (right, book_frames(right, connection="b-1")), grows=True)
    assert archived(data, right) == book_frames(right, connection="b-1")
    (written,) = archive(data, (left, frames[58:]))
    assert written.corrupt is not None


def test_minutes_without_parquet_are_found(data: Path) -> None:
    """A minute in parts that nobody finished is known by its files."""
    whole, grown, strange = minute(1), minute(2), minute(3, unknown("um"))
    archive(data, (whole, book_frames(whole)), (strange, book_frames(strange)))
    archive(data, (grown, book_frames(grown)), grows=True)
    assert layout.without_parquet(data, layout.streams(data)) == [grown]
    finish(data, grown)
    assert layout.without_parquet(data, layout.streams(data)) == []


def test_two_collectors_give_each_frame_once(data: Path) -> None:
    """The earlier copy of each is kept; what only one of them has is kept too."""
    of = minute(1)
    first, second = book_frames(of, step=2), book_frames(of, connection="b-1", late_ns=5)
    (written,) = archive(data, (of, second), (of, first))
    assert (written.rows, written.doubled) == (60, 30)
    assert [frame.connection for frame in archived(data, of)] == ["a-1", "b-1"] * 30


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("number", [1, 1439])
def test_a_copy_across_the_border_is_kept_once(data: Path, together: bool, number: int) -> None:
    """Spot frames are filed by receive time: a copy may fall into the next minute, or the next day."""
    left, right = minute(number, SPOT), minute(number + 1, SPOT)
    payload = b'{"lastUpdateId":7,"bids":[["1.10","2.0"]],"asks":[["1.20","2.0"]]}'
    early, late = Frame(left.end_ns - 5, "a-1", 1, payload), Frame(right.start_ns + 5, "b-1", 1, payload)
    after = Frame(right.start_ns + 9, "b-1", 2, payload.replace(b"7", b"8"))
    if together:
        archive(data, (left, [early]), (right, [late, after]))
    else:
        archive(data, (right, [late, after]))
        archive(data, (left, [early]))
    kept = [frame for of in (left, right) if (data / raw_minute(of)).exists() for frame in archived(data, of)]
    assert sorted(frame.payload for frame in kept) == [payload, after.payload]


@pytest.mark.parametrize("together", [True, False])
def test_a_burst_after_a_stall_doubles_nothing(data: Path, together: bool) -> None:
    """One connection delivers as usual, the other all at once, 40 s later and in the next minute."""
    left, right = minute(1, SPOT), minute(2, SPOT)
    first_ns = left.end_ns - 20_000_000_000
    payloads = [b'{"lastUpdateId":%d,"bids":[["1.10","2.0"]],"asks":[["1.20","2.0"]]}' % (n + 1) for n in range(100)]
    live = [Frame(first_ns + n * 100_000_000, "a-1", n + 1, payload) for n, payload in enumerate(payloads)]
    burst = [Frame(first_ns + 40_000_000_000 + n, "b-1", n + 1, payload) for n, payload in enumerate(payloads)]
    if together:
        archive(data, (left, live), (right, burst))
    else:
        archive(data, (left, live))
        archive(data, (right, burst))
    assert archived(data, left) == live
    assert not (data / raw_minute(right)).exists()


def test_a_stale_parquet_file_is_made_again(data: Path) -> None:
    """A writer killed between the two renames leaves a Parquet file of fewer frames: redelivery mends it."""
    of = minute(1)
    archive(data, (of, book_frames(of)[:30]))
    stale = (data / parquet_minute(of)).read_bytes()
    archive(data, (of, book_frames(of)))
    (data / parquet_minute(of)).write_bytes(stale)
    (written,) = archive(data, (of, book_frames(of)))
    assert written.changed
    assert tables.read(data / parquet_minute(of)).num_rows == 60
    (data / parquet_minute(of)).unlink()
    archive(data, (of, []))
    assert tables.read(data / parquet_minute(of)).num_rows == 60


def test_a_damaged_minute_is_set_aside(data: Path) -> None:
    """It is kept under another name and reported, and the minute goes on with what came."""
    of = minute(1)
    archive(data, (of, book_frames(of)))
    path = data / raw_minute(of)
    path.write_bytes(path.read_bytes()[:200])
    (written,) = archive(data, (of, book_frames(of)[:5]))
    assert written.corrupt == path.with_name("00-01.zip.corrupt-1")
    assert written.corrupt.stat().st_size == 200
    assert archived(data, of) == book_frames(of)[:5]


def test_frames_that_parquet_cannot_hold_stay_in_the_raw_file(data: Path) -> None:
    """Text, broken JSON, bytes, another shape: all come back verbatim, and are counted, also after a restart."""
    of = minute(1)
    odd = [b"", b"hello", b'{"E":1', b"\xff\x00\n", b'1,"n":2', b'{"a":\r1}', b'["\xc0\x80"]', b"[" * 5000]
    frames = [Frame(of.start_ns + n, "a-1", n, payload) for n, payload in enumerate(odd, 1)]
    frames += book_frames(of, count=3, connection="b-1", late_ns=100)
    (written,) = archive(data, (of, frames))
    assert archived(data, of) == sorted(frames)
    for line in (data / raw_minute(of)).parent.iterdir():
        assert line.suffix == ".zip"
    assert written.rejected is not None
    assert (written.rejected.count, written.rejected.first_ns) == (len(odd), of.start_ns + 1)
    (again,) = archive(data, (of, frames))
    assert (again.changed, again.rejected) == (False, written.rejected)


def test_frames_of_no_known_stream_have_no_parquet(data: Path) -> None:
    """They are kept raw under `unknown/_`."""
    of = minute(1, unknown("um"))
    (written,) = archive(data, (of, [Frame(of.start_ns, "a-1", 1, b'{"e":"new"}')]))
    assert written.parquet_bytes == 0
    assert not (data / "parquet").exists()
    assert archived(data, of)[0].payload == b'{"e":"new"}'


def test_every_line_is_json_of_one_frame(data: Path) -> None:
    """A payload that closes the line's object and opens another cannot forge a line."""
    of = minute(1, unknown("um"))
    forged = b'{}}\n{"t":1,"c":"x","n":1,"d":{}'
    halves = [b'{"a":[1', b"2]}", b'1},"x":{"y":1', forged]
    archive(data, (of, [Frame(of.start_ns, "a-1", n, payload) for n, payload in enumerate(halves, 1)]))
    assert [frame.payload for frame in archived(data, of)] == halves


def test_a_bad_staged_line_is_an_error(data: Path, tmp_path: Path) -> None:
    """Nothing is written from a stage that is damaged."""
    of = minute(1)
    path = stage(tmp_path / "stage", book_frames(of))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="cut off"):
        write_minutes(data, [Job(of, (path,))])
    assert not (data / raw_minute(of)).exists()


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """Neither half a file nor a temporary one; once there is room, the same call writes."""
    of = minute(1)
    with small_disk(tmp_path / "disk", 4) as disk:
        data = disk / "data"
        archive(data, (of, book_frames(of)[:30]))
        before = (data / raw_minute(of)).read_bytes()
        job = Job(of, (stage(tmp_path / "elsewhere", book_frames(of, count=20_000)),))
        with filled(disk), pytest.raises(OSError, match="space"):
            write_minutes(data, [job])
        assert (data / raw_minute(of)).read_bytes() == before
        assert list(data.rglob("*.tmp")) == []
        (written,) = write_minutes(data, [job])
        assert written.rows >= 20_000


def test_leftovers_are_swept(data: Path) -> None:
    """What a killed writer left goes; the archive and other programs' files stay."""
    of = minute(1)
    archive(data, (of, book_frames(of)))
    batch = Batch()
    batch.write(data / raw_minute(of), [b"half"])
    batch.write(data / raw_minute(of).parent.parent / "2024-10-04.zip", [b"half"])
    stranger = data / raw_minute(of).parent / ".other.tmp"
    stranger.write_bytes(b"")
    assert sweep(data) == 2
    assert stranger.exists()
    assert len(archived(data, of)) == 60


def test_shares_do_not_wait_for_each_other() -> None:
    """Two workers' jobs never want the same lock."""
    jobs = [Job(minute(5, Stream("um", "depth20", f"S{n}")), ()) for n in range(500)]
    shares = share(jobs, 3)
    assert sorted(job.minute for each in shares for job in each) == sorted(job.minute for job in jobs)
    locks = [{stripe(job.minute.stream, job.minute.day) for job in each} for each in shares]
    assert all(a.isdisjoint(b) for a in locks for b in locks if a is not b)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["um_BTCUSDT_20240808", "spot_BTCUSDT_20240808"])
def test_real_books_survive(data: Path, name: str) -> None:
    """A recorded book comes back from both files, frame for frame."""
    if not RECORDINGS.exists():
        pytest.skip("the recordings are not beside the repository")
    (path,) = RECORDINGS.glob(f"{name}*")
    stream = Stream(name.split("_")[0], "depth20", "BTCUSDT")
    parts: dict[Minute, list[Frame]] = {}
    for n, line in enumerate(gzip.decompress(path.read_bytes()).splitlines(), 1):
        match = re.fullmatch(rb'(\d+) \{.*?"data":(.*)\}', line)
        assert match
        receive_ns, payload = int(match[1]), match[2]
        event_ms = event_time_ms(payload)
        at_ns = receive_ns if event_ms is None else event_ms * 1_000_000
        parts.setdefault(Minute(stream, at_ns // 60_000_000_000), []).append(Frame(receive_ns, "a-1", n, payload))
    for written in archive(data, *parts.items()):
        frames = parts[written.minute]
        assert archived(data, written.minute) == frames
        values = tables.payload_values(tables.read(data / parquet_minute(written.minute)), stream)
        assert values == [json.loads(frame.payload) for frame in frames]
        assert written.rejected is None


def test_two_processes_write_the_same_minute(data: Path, tmp_path: Path) -> None:
    """Each holds the lock while it reads and replaces: neither's frames are lost."""
    of = minute(1)
    frames = book_frames(of)
    jobs = [Job(of, (stage(tmp_path / "stage", frames[n::12]),)) for n in range(12)]
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert all(pool.map(write_minutes, [data] * 12, [[job] for job in jobs]))
    assert archived(data, of) == frames


def test_payloads_with_more_keys_stay_verbatim(data: Path) -> None:
    """Blanks, key order and unknown keys are information, and come back."""
    of = minute(1)
    payload = book_payload(1, of.start_ns, extra=', "new" :  {"x":[1, 2]}')
    archive(data, (of, [Frame(of.start_ns, "a-1", 1, payload)]))
    assert archived(data, of)[0].payload == payload
