"""What is read waits in buckets, by minute, until the minute is over."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.bucket import LATE_BUCKET_S, Bucket, is_over
from archiver.staging import KEPT_CONNECTIONS, Stage
from common.clock import MINUTE_NS, SECOND_NS
from common.frame import from_line
from common.paths import Minute
from common.position import Place
from common.reader import Entry
from common.streams import Stream

STREAM = Stream("um", "depth20", "BTCUSDT")
TRADES = Stream("um", "aggTrade", "BTCUSDT")
START_NS = 29_900_000 * MINUTE_NS
GRACE_S = 8.0


def entry(receive_ns: int, payload: bytes, number: int = 1, connection: bytes = b"a", kind: bytes = b"d") -> Entry:
    fields = [b"c", connection, b"t", b"%019d" % receive_ns, b"n", b"%d" % number, kind, payload]
    return b"%d-0" % (receive_ns // 1_000_000), fields


def depth(receive_ns: int, event_ns: int) -> Entry:
    return entry(receive_ns, b'{"e":"depthUpdate","E":%d}' % (event_ns // 1_000_000))


def minutes(stage: Stage, wall_ns: int = START_NS, now_s: float = 0.0) -> list[int]:
    return [bucket.minute.number - 29_900_000 for bucket in stage.over(now_s, wall_ns, frozenset())]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "one", grace_s=GRACE_S)


def test_a_minute_is_over_when_the_stream_has_passed_it(stage: Stage) -> None:
    """Event times past the end and the grace close a minute, whatever the wall clock says."""
    stage.add(STREAM, [depth(START_NS, START_NS + 1)], 0.0)
    stage.add(STREAM, [depth(START_NS + MINUTE_NS, START_NS + MINUTE_NS + 7 * SECOND_NS)], 0.0)
    assert minutes(stage) == []
    stage.add(STREAM, [depth(START_NS + MINUTE_NS, START_NS + MINUTE_NS + 8 * SECOND_NS)], 0.0)
    assert minutes(stage) == [0]


def test_implausible_event_times_move_nothing(stage: Stage) -> None:
    """An event time more than five minutes away is filed by its receive time and closes no minute."""
    stage.add(STREAM, [depth(START_NS, START_NS + 60 * MINUTE_NS), depth(START_NS, START_NS)], 0.0)
    assert minutes(stage) == []
    assert [bucket.minute.number for bucket in stage.largest(1.0)] == [29_900_000]


def bucket(*, late: bool = False, last_s: float = 0.0) -> Bucket:
    return Bucket(Minute(STREAM, 29_900_000), Path("none"), late, 0.0, last_s)


@pytest.mark.parametrize(
    ("late", "caught_up", "now_s", "wall_s", "over"),
    [
        (False, True, 100.0, 69, True),  # nothing followed, and the wall clock is past it
        (False, True, 100.0, 30, False),  # it is that minute now: more will come
        (False, False, 100.0, 3600, False),  # there is more to read
        (False, True, 5.0, 3600, False),  # something came just now
        (False, True, 100.0, -3600, True),  # a frame of the future: its minute is not awaited
        (True, True, 5.0, 3600, False),  # late: gathered for a while
        (True, False, LATE_BUCKET_S, 3600, True),
    ],
)
def test_by_the_wall_clock_only_when_nothing_follows(
    late: bool, caught_up: bool, now_s: float, wall_s: int, over: bool
) -> None:
    """The wall clock closes a minute that is read to its end and quiet; a late one waits, and then is closed."""
    watermark_ns = START_NS + 10 * MINUTE_NS if late else 0
    wall_ns = START_NS + wall_s * SECOND_NS
    found = is_over(
        bucket(late=late),
        watermark_ns=watermark_ns,
        caught_up=caught_up,
        now_s=now_s,
        wall_ns=wall_ns,
        grace_s=GRACE_S,
    )
    assert found is over


def test_a_bucket_holds_its_lines(stage: Stage) -> None:
    """What is staged reads back as it was, newlines and all."""
    payloads = [b'{"E":1}', b'{"a"\n:1}', b"\xff\x00"]
    stage.add(STREAM, [entry(START_NS, payload, number) for number, payload in enumerate(payloads)], 0.0)
    (one,) = stage.largest(1.0)
    stage.take(one)
    assert [from_line(line).payload for line in one.path.read_bytes().splitlines()] == payloads
    assert stage.largest(1.0) == []


def numbered(*minutes_: int) -> list[Entry]:
    """Entries `1-0`, `2-0`, ... that fall into these minutes."""
    at = [START_NS + minute * MINUTE_NS for minute in minutes_]
    return [(b"%d-0" % number, depth(ns, ns)[1]) for number, ns in enumerate(at, 1)]


def taken(stage: Stage, minute: int) -> Bucket:
    (found,) = [one for one in stage.largest(1.0) if one.minute.number == 29_900_000 + minute]
    stage.take(found)
    return found


def test_durable_is_what_comes_before_the_oldest_that_is_not(stage: Stage) -> None:
    """The place moves to just before the first entry of the oldest bucket that is not written, whatever its minute."""
    stage.add(STREAM, numbered(0, 0, 1, 0, 1), 0.0)
    first, second = taken(stage, 0), taken(stage, 1)
    assert stage.became_durable(STREAM, [second]) is None
    assert stage.became_durable(STREAM, [first]) == Place(b"5-0", 5)
    stage.add(STREAM, [(b"6-0", numbered(1)[0][1]), (b"7-0", numbered(2)[0][1])], 0.0)
    assert stage.became_durable(STREAM, [taken(stage, 1)]) == Place(b"6-0", 6)


def test_a_part_that_is_being_written_holds_the_place(stage: Stage) -> None:
    """A bucket that was taken holds the place until it is durable; what came for its minute since, afterwards."""
    stage.add(STREAM, numbered(0, 0, 0), 0.0)
    part = taken(stage, 0)
    stage.add(STREAM, [(b"4-0", numbered(0)[0][1])], 0.0)
    rest = taken(stage, 0)
    assert stage.became_durable(STREAM, [rest]) is None
    assert stage.became_durable(STREAM, [part]) == Place(b"4-0", 4)


def owed(stage: Stage, now_s: float = 0.0, wall_ns: int = START_NS, most: int = 9) -> list[int]:
    return [minute.number - 29_900_000 for minute in stage.owed(now_s, wall_ns, frozenset(), most=most)]


def test_the_parquet_file_of_a_minute_in_parts_is_owed(stage: Stage) -> None:
    """A minute's last lines are a part too; once all lines are durable the file is due, and holds no place."""
    stage.add(STREAM, numbered(0, 0), 0.0)
    (first,) = stage.largest(1.0)
    stage.take(first, in_parts=True)
    later = depth(START_NS + 2 * MINUTE_NS + 1, START_NS + 2 * MINUTE_NS)
    stage.add(STREAM, [(b"3-0", numbered(0)[0][1]), (b"4-0", later[1])], 0.0)
    (second,) = stage.over(0.0, START_NS, frozenset())
    stage.take(second)
    assert (first.is_part, second.is_part) == (True, True)
    assert stage.became_durable(STREAM, [second]) is None
    assert owed(stage) == []
    assert stage.became_durable(STREAM, [first]) == Place(b"3-0", 3)
    assert owed(stage) == [0]
    assert owed(stage) == []


def test_a_frame_that_is_late_for_a_minute_in_parts_is_gathered(stage: Stage) -> None:
    """What comes for it when it is over is written as a whole a minute later, and the Parquet file with it."""
    stage.add(STREAM, numbered(0), 0.0)
    (part,) = stage.largest(1.0)
    stage.take(part, in_parts=True)
    stage.became_durable(STREAM, [part])
    later = depth(START_NS + 2 * MINUTE_NS + 1, START_NS + 2 * MINUTE_NS)
    for at_s in range(50):
        stage.add(STREAM, [(b"2-0", later[1]), (b"3-0", numbered(0)[0][1])], float(at_s))
        assert minutes(stage, now_s=float(at_s)) == []
        assert owed(stage, float(at_s)) == []
    (late,) = [one for one in stage.over(LATE_BUCKET_S, START_NS, frozenset()) if one.minute == part.minute]
    stage.take(late)
    assert not late.is_part
    stage.became_durable(STREAM, [late])
    assert owed(stage, 999.0) == []


def test_minutes_that_were_found_without_their_file_are_owed_when_they_are_over(stage: Stage) -> None:
    """By the wall clock and after the grace, so many at a time; they hold no place."""
    for number in range(3):
        stage.owe(Minute(STREAM, START_NS // MINUTE_NS + number), 0.0)
    past_ns = START_NS + 10 * MINUTE_NS
    assert owed(stage, 1.0, past_ns) == []
    stage.add(STREAM, numbered(4), GRACE_S)
    assert stage.became_durable(STREAM, [taken(stage, 4)]) == Place(b"1-0", 1)
    assert owed(stage, GRACE_S, past_ns, most=1) == [0]
    assert owed(stage, GRACE_S, past_ns) == [1, 2]


def test_an_event_holds_the_place_until_it_is_settled(stage: Stage) -> None:
    """A session event that is not in the archive holds the place as a bucket does."""
    opened = entry(START_NS, b'{"event":"open","at":1}', kind=b"e")
    stage.add(STREAM, [numbered(0)[0], (b"2-0", opened[1])], 0.0)
    assert stage.became_durable(STREAM, [taken(stage, 0)]) == Place(b"1-0", 1)
    (said,) = stage.said
    assert stage.became_durable(STREAM, [said.entry_id]) == Place(b"2-0", 2)


@given(st.lists(st.tuples(st.sampled_from(["read", "take", "written"]), st.integers(0, 2)), max_size=40))
def test_the_place_never_passes_what_is_not_durable(steps: list[tuple[str, int]]) -> None:
    """In whatever order minutes come, are taken and are written, what is up to the place is durable."""
    with TemporaryDirectory() as folder:
        stage = Stage(Path(folder) / "one", grace_s=GRACE_S)
        in_bucket: dict[Bucket, set[int]] = {}
        being_written: list[Bucket] = []
        read, undurable, last = 0, set[int](), 0
        for step, choice in steps:
            if step == "read":
                read += 1
                undurable.add(read)
                stage.add(STREAM, [(b"%d-0" % read, numbered(choice)[0][1])], 0.0)
                (bucket,) = [one for one in stage.largest(1.0) if one.minute.number == 29_900_000 + choice]
                in_bucket.setdefault(bucket, set()).add(read)
            elif step == "take":
                for bucket in [one for one in stage.largest(1.0) if one.minute.number == 29_900_000 + choice]:
                    stage.take(bucket)
                    being_written.append(bucket)
            elif being_written:
                bucket = being_written.pop(choice % len(being_written))
                undurable -= in_bucket[bucket]
                place = stage.became_durable(STREAM, [bucket])
                at = place.number if place else 0
                assert at == min(undurable, default=read + 1) - 1
                assert place is None or place.entry_id == b"%d-0" % at
                assert at >= last
                last = at
        stage.close()


def test_what_was_dropped_moves_nothing(stage: Stage) -> None:
    """A bucket of before a stream was dropped says nothing of what was read since."""
    stage.add(STREAM, numbered(0, 0), 0.0)
    before = taken(stage, 0)
    stage.drop(STREAM)
    assert stage.became_durable(STREAM, [before]) is None
    stage.add(STREAM, numbered(0, 0), 0.0)
    assert stage.became_durable(STREAM, [before]) is None


def test_a_foreign_entry_is_archived_as_it_is(stage: Stage) -> None:
    """Fields that no collector writes, and an event that is none, are kept under the time that Redis gave."""
    stage.add(STREAM, [(b"1794000000000-3", [b"hello", b"world"]), entry(START_NS, b"{}", kind=b"e")], 0.0)
    assert stage.foreign == 2
    stage.spill(0)
    lines = [line for one in stage.largest(1.0) for line in one.path.read_bytes().splitlines()]
    assert {from_line(line).connection for line in lines} == {"foreign"}


def test_connections_of_long_ago_are_forgotten(stage: Stage) -> None:
    """A collector that reconnects all the time does not fill the memory; the newest connections are remembered."""
    for number in range(3 * KEPT_CONNECTIONS):
        stage.add(STREAM, [entry(START_NS + number, b"{}", connection=b"c%d" % number)], 0.0)
    assert len(stage.heard(STREAM)) <= KEPT_CONNECTIONS + 1
    assert stage.heard(STREAM)[f"c{3 * KEPT_CONNECTIONS - 1}"] == START_NS + 3 * KEPT_CONNECTIONS - 1


def trade(number: int, trade_id: int, connection: bytes = b"a") -> Entry:
    body = json.dumps({"e": "aggTrade", "E": 1, "a": trade_id, "s": "BTCUSDT"}, separators=(",", ":")).encode()
    return entry(START_NS + number * SECOND_NS, body, number, connection)


def test_a_jump_of_ids_is_a_hole(stage: Stage) -> None:
    """The ids of all connections together are followed: a jump is a hole until a twin fills it."""
    stage.add(TRADES, [trade(1, 10), trade(2, 11), trade(3, 15), trade(2, 11), trade(4, 16)], 0.0)
    ids = stage.ids(TRADES)
    assert ids is not None
    assert [(one.last_id, one.next_id) for one in ids.holes(1.0)] == [(11, 15)]
    stage.holed.clear()
    stage.add(TRADES, [trade(5, 17)], 0.0)
    assert stage.holed == set()
    stage.add(TRADES, [trade(5, number, b"b") for number in (12, 13, 14)], 0.0)
    assert stage.holed == {TRADES}
    assert list(ids.holes(1.0)) == []


def test_files_are_used_again_when_nobody_reads_them(tmp_path: Path) -> None:
    """A minute that is in the archive, or a stream that somebody else reads, frees its files: they begin empty, and no
    name comes again, for a worker that was given up may still look for it."""
    stage = Stage(tmp_path / "one", grace_s=GRACE_S)
    stage.add(TRADES, [trade(5, 10)], 0.0)
    (first,) = stage.largest(1.0)
    stage.take(first)
    file = first.path.stat().st_ino
    stage.add(TRADES, [trade(6, 11)], 0.0)
    (second,) = stage.largest(1.0)
    stage.release(first)
    assert not first.path.exists()
    stage.add(TRADES, [trade(65, 12)], 0.0)
    third = next(bucket for bucket in stage.largest(1.0) if bucket is not second)
    assert (third.path.stat().st_ino, third.path.read_bytes()) == (file, b"")
    stage.spill(0)
    assert third.path.read_bytes().count(b"\n") == 1
    stage.drop(TRADES)
    stage.add(TRADES, [trade(5, 10)], 0.0)
    (again,) = stage.largest(1.0)
    assert again.path.read_bytes() == b""
    assert again.path not in {first.path, second.path, third.path}
    stage.close()


def test_folders_of_the_dead_are_removed(tmp_path: Path) -> None:
    """A stage removes what killed archivers left, and leaves the living alone."""
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "lock").touch()
    first = Stage(tmp_path / "first", grace_s=1)
    second = Stage(tmp_path / "second", grace_s=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_archivers_that_start_together_keep_their_folders(tmp_path: Path) -> None:
    """None of them takes another's folder, seen just before it is locked, for a dead one's."""
    start = threading.Barrier(5)

    def begin(folder: Path) -> Stage:
        start.wait()
        return Stage(folder, grace_s=1)

    with ThreadPoolExecutor(5) as archivers:
        for number in range(150):
            folders = [tmp_path / f"{number}-{each}" for each in range(5)]
            stages = list(archivers.map(begin, folders))
            assert all((folder / "lock").exists() for folder in folders)
            for stage in stages:
                stage.close()
