"""From what was read to the rows of the ledger, over the restarts of archivers."""

import asyncio
import json
from pathlib import Path

import pytest

from archiver.archived import MOST_MINUTES
from archiver.bookkeeper import KEPT_ROWS, SETTLED_S, Bookkeeper
from archiver.coverage import KEPT_SESSIONS
from archiver.ids import KEPT_RUNS
from archiver.lines import render
from archiver.members import minute_zip, pack
from archiver.staging import Stage
from archiver.summaries import Summary
from common import ledger, session
from common.clock import DAY_NS, SECOND_NS
from common.frame import Frame
from common.ledger import Row
from common.paths import Minute, day_of, raw_minute
from common.session import Closed, Dropped, Event, Opened
from common.streams import Stream

TRADES = Stream("um", "aggTrade", "BTCUSDT")
START_NS = 1_794_000_000 * SECOND_NS


def at(seconds: float) -> int:
    return START_NS + int(seconds * SECOND_NS)


class Archiver:
    """One archiver's books, from its start to its end, on the data folder of all."""

    def __init__(self, data: Path, stage: Path) -> None:
        self.books = Bookkeeper(data, dead_after_s=15)
        self.books.take_over([TRADES])
        self.stage = Stage(stage, grace_s=1)
        self._data = data
        self._read = 0

    def read(self, *what: tuple[float, int | Event], now_s: float = 0.0, connection: bytes = b"a-1") -> None:
        """Reads trades (their ids) and events, each at its time."""
        entries = []
        for seconds, one in what:
            self._read += 1
            if isinstance(one, int):
                kind, body = b"d", json.dumps({"E": 1, "a": one, "m": True}, separators=(",", ":")).encode()
            else:
                kind, body = b"e", session.encode(one)
            fields = [b"c", connection, b"t", b"%d" % at(seconds), b"n", b"%d" % self._read, kind, body]
            entries.append((b"%d-0" % self._read, fields))
        self.stage.add(TRADES, entries, now_s)
        self.books.take(self.stage, now_s)

    def rows(self) -> list[Row]:
        asyncio.run(self.books.settle(at_once=True))
        return ledger.read(self._data)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_ids_tell_what_a_gap_lacks_and_a_successor_keeps_it(data: Path, tmp_path: Path) -> None:
    """The number is counted by the ids, and an archiver that starts later, and knows no ids, does not forget it."""
    first = Archiver(data, tmp_path / "first")
    first.read((0, Opened(at(0))), (1, 10), (2, Closed(at(2), "gate")), (8, Opened(at(8), 2)), (9, 15))
    (row,) = first.rows()
    assert (row.cause, row.frames_missing, row.to_ns) == ("gate", 4, at(8))
    second = Archiver(data, tmp_path / "second")
    second.read((10, 16), (11, Opened(at(0))))
    assert [(each.frames_missing, each.healed_by) for each in second.rows()] == [(4, None)]


def test_a_gap_that_ids_disprove_stays_withdrawn(data: Path, tmp_path: Path) -> None:
    """Silent, doubted, and nothing was missing: the row is taken back, also for an archiver that starts later."""
    first = Archiver(data, tmp_path / "first")
    first.read((0, Opened(at(0))), (1, 10), (30, Closed(at(2), "stale")))
    assert [(row.cause, row.to) for row in first.rows()] == [("stale", None)]
    first.read((40, Opened(at(40), 2)))
    assert [row.healed_by for row in first.rows()] == [None]
    first.read((41, 11))
    assert [(row.frames_missing, row.healed_by) for row in first.rows()] == [(0, "ids")]
    second = Archiver(data, tmp_path / "second")
    second.read((42, 12), (43, Opened(at(40), 2)))
    assert [row.healed_by for row in second.rows()] == ["ids"]


@pytest.mark.parametrize("is_told_before", [True, False])
def test_a_gap_that_is_disproved_at_once_stays_so(is_told_before: bool, data: Path, tmp_path: Path) -> None:
    """The proof comes in the same moment as the gap's end, or as the gap: a later archiver, which knows no ids, does
    not find it again."""
    first = Archiver(data, tmp_path / "first")
    first.read((0, Opened(at(0))), (1, 10), (2, Closed(at(2), "disconnect")))
    if is_told_before:
        assert [row.to for row in first.rows()] == [None]
    first.read((4, Opened(at(4), 2)), (5, 11))
    (row,) = first.rows()
    assert (row.from_ns, row.to_ns, row.frames_missing, row.healed_by) == (at(2), at(4), 0, "ids")
    second = Archiver(data, tmp_path / "second")
    second.read((60, 12), (61, Opened(at(4), 2)))
    assert [each.healed_by for each in second.rows()] == ["ids"]


def test_a_gap_that_is_open_for_weeks_is_closed(data: Path, tmp_path: Path) -> None:
    """Delisted, listed again after more days than are read at the start: the row ends where the new session begins."""
    first = Archiver(data, tmp_path / "first")
    first.read((0, Opened(at(0))), (2, Closed(at(2), "halted")))
    assert [row.to for row in first.rows()] == [None]
    sessions = data / "ledger" / "sessions"
    (file,) = sessions.glob("*")
    file.rename(sessions / f"{day_of(START_NS)}.jsonl")
    for day in range(1, 30):
        (sessions / f"{day_of(START_NS + day * DAY_NS)}.jsonl").write_bytes(b"")
    second = Archiver(data, tmp_path / "second")
    back = 30 * 86_400
    second.read((back, Opened(at(back))), connection=b"b-1")
    assert [(row.cause, row.to_ns) for row in second.rows()] == [("halted", at(back))]


def test_a_hole_waits_for_the_twin(data: Path, tmp_path: Path) -> None:
    """Ids that one connection lacks have no row when another brings them; what nobody brings has one."""
    archiver = Archiver(data, tmp_path / "stage")
    archiver.read((0, Opened(at(0))), (1, 10), (2, 13), now_s=100.0)
    archiver.read((2.5, 11), (2.6, 12), now_s=100.5, connection=b"b-1")
    assert archiver.rows() == []
    archiver.read((3, 20), now_s=200.0)
    archiver.read((4, 21), now_s=200.0 + SETTLED_S + 1)
    (row,) = archiver.rows()
    assert (row.cause, row.frames_missing) == ("upstream", 6)
    archiver.read(*((5, number) for number in range(14, 20)), now_s=210.0, connection=b"b-1")
    assert [each.healed_by for each in archiver.rows()] == ["ids"]


def test_a_cause_that_comes_later_replaces_upstream(data: Path, tmp_path: Path) -> None:
    """A hole is found first, and then a collector that died turns out to be its cause: one row holds."""
    archiver = Archiver(data, tmp_path / "stage")
    archiver.read((0, Opened(at(0))), (1, 10), now_s=1.0)
    archiver.read((9, Opened(at(9))), (9, 15), now_s=1.0, connection=b"b-1")
    assert [row.cause for row in archiver.rows()] == ["upstream"]
    archiver.books.judge({}, archiver.stage, frozenset(), 1.0)
    archiver.books.judge({b"b-1": b"1 1"}, archiver.stage, frozenset(), 30.0)
    holding = [row for row in archiver.rows() if row.healed_by is None]
    assert [(row.cause, row.frames_missing, row.from_ns, row.to_ns) for row in holding] == [("crash", 4, at(1), at(9))]


def test_the_dead_may_have_lived_longer(data: Path, tmp_path: Path) -> None:
    """A killed collector's spill is sent later and its sign says until when it heard: the row begins there.

    So it is also when the archiver that buried it is gone.
    """
    first = Archiver(data, tmp_path / "first")
    first.read((0, Opened(at(0))), (1, 10), (9, Opened(at(9))), connection=b"a-1")
    first.read((20, Opened(at(20))), (20, 90), connection=b"b-1")
    signs = {b"a-1": b"%d 1" % at(10), b"b-1": b"%d 1" % at(20)}
    first.books.judge(signs, first.stage, frozenset(), 1.0)
    first.books.judge(signs | {b"b-1": b"%d 2" % at(21)}, first.stage, frozenset(), 30.0)
    assert [(row.from_ns, row.to_ns) for row in first.rows() if row.cause == "crash"] == [(at(10), at(20))]

    second = Archiver(data, tmp_path / "second")
    signs = {b"a-1": b"%d 9" % at(15), b"b-1": b"%d 9" % at(22)}
    for now_s in (1.0, 2.0, 30.0):
        second.books.judge(signs | {b"b-1": b"%d 9" % at(22 + now_s)}, second.stage, frozenset(), now_s)
    holding = [row for row in second.rows() if row.healed_by is None]
    assert [(row.cause, row.from_ns, row.to_ns) for row in holding] == [("crash", at(15), at(20))]


def test_a_twin_that_was_killed_covers_nothing_for_a_successor(data: Path, tmp_path: Path) -> None:
    """Killed while its twin recorded, it has no row; for an archiver that starts later the gaps after it hold."""
    first = Archiver(data, tmp_path / "first")
    first.read((0, Opened(at(0))), connection=b"a-1")
    first.read((0, Opened(at(0))), (20, Closed(at(20), "gate")), (30, Opened(at(30), 2)), connection=b"b-1")
    signs = {b"a-1": b"%d 1" % at(5), b"b-1": b"%d 1" % at(30)}
    for now_s in (1.0, 30.0):
        first.books.judge(signs | {b"b-1": b"%d 2" % at(30 + now_s)}, first.stage, frozenset(), now_s)
    assert [(row.cause, row.healed_by, row.frames_missing) for row in first.rows()] == [("gate", None, None)]

    second = Archiver(data, tmp_path / "second")
    second.read((30, Opened(at(30), 2)), connection=b"b-1")
    assert [(row.cause, row.healed_by, row.frames_missing) for row in second.rows()] == [("gate", None, None)]
    for now_s in (1.0, 30.0):
        second.books.judge(signs | {b"b-1": b"%d 3" % at(40 + now_s)}, second.stage, frozenset(), now_s)
        assert [(row.cause, row.healed_by, row.frames_missing) for row in second.rows()] == [("gate", None, None)]


def test_a_gap_that_seemed_covered_holds_again(data: Path, tmp_path: Path) -> None:
    """A session that was buried and gives a sign takes its row back; buried again, the row holds again."""
    archiver = Archiver(data, tmp_path / "stage")
    archiver.read((0, Opened(at(0))))
    held = []
    for now_s, sign in ((1.0, b"1"), (30.0, b"1"), (31.0, b"2"), (60.0, b"2")):
        archiver.books.judge({b"a-1": b"%d %b" % (at(5), sign)}, archiver.stage, frozenset(), now_s)
        held.append([row.cause for row in archiver.rows() if row.healed_by is None])
    assert held == [[], ["crash"], [], ["crash"]]


def test_a_hole_that_is_forgotten_is_no_hole_that_was_filled(data: Path, tmp_path: Path) -> None:
    """Only the newest holes are remembered; the rows of the others hold."""
    one = Archiver(data, tmp_path / "one")
    one.read((0, Opened(at(0))), (1, 1))
    for number in range(1, KEPT_RUNS + 20):
        one.read((1 + number, 10 * number), (1.5 + number, 10 * number + 1))
        one.rows()
    rows = one.rows()
    assert [(row.cause, row.healed_by) for row in rows] == [("upstream", None)] * (KEPT_RUNS + 19)
    last = KEPT_RUNS + 19
    one.read(*((last + 2, number) for number in range(10 * (last - 1) + 2, 10 * last)))  # late: the newest is filled
    assert [row.healed_by for row in one.rows()] == [*[None] * (last - 1), "ids"]


def test_a_gap_that_is_forgotten_still_explains_its_hole(data: Path, tmp_path: Path) -> None:
    """More sessions came since than are remembered, without a hole: the ids of then are no new finding."""
    one = Archiver(data, tmp_path / "one")
    one.read((0, Opened(at(0))), (1, 10), (2, Closed(at(2), "disconnect")), (8, Opened(at(8), 2)), (9, 15))
    for number in range(3, KEPT_SESSIONS + 9):
        one.read((9 + number, Opened(at(9 + number), number)))
        one.read((9.5 + number, Closed(at(9.5 + number), "rotation", session=number - 1)), (9.5 + number, 13 + number))
        one.rows()
    assert [(row.cause, row.frames_missing) for row in one.rows()] == [("disconnect", 4)]


def test_rows_that_do_not_change_any_more_are_not_kept_in_memory(data: Path, tmp_path: Path) -> None:
    """Weeks of gaps: all stand in the ledger as they were found, and of each stream some hundreds are in memory."""
    one, gaps = Archiver(data, tmp_path / "one"), 2 * KEPT_ROWS
    for number in range(1, gaps + 1):
        one.read((10 * number, Opened(at(10 * number), number)), (10 * number + 1, 10 * number))
        one.read((10 * number + 2, Closed(at(10 * number + 2), "disconnect", session=number)))
        one.rows()
    rows = one.rows()
    assert [(row.cause, row.frames_missing, row.revision) for row in rows[:-1]] == [("disconnect", 9, 2)] * (gaps - 1)
    assert (rows[-1].to, len(rows)) == (None, gaps)
    assert len(one.books._rows[TRADES]) <= KEPT_ROWS


def test_holes_of_a_burst_are_told_by_ids_not_by_times(data: Path, tmp_path: Path) -> None:
    """What a stall held back comes at one moment, with more holes than are remembered: the newest have their rows."""
    one = Archiver(data, tmp_path / "one")
    one.read((0, Opened(at(0))), (1, 1))
    one.read(*((60, 10 * number) for number in range(1, KEPT_RUNS + 20)))
    assert [row.healed_by for row in one.rows()] == [None] * (KEPT_RUNS - 1)


def test_a_hole_that_nobody_judged_is_not_forgotten(data: Path, tmp_path: Path) -> None:
    """Drops without end come before it is old enough to count: it has its row all the same."""
    one = Archiver(data, tmp_path / "one")
    one.read((0, Opened(at(0))), (1, 1), (2, 5))
    one.read(*((3 + n, Dropped(at(3 + n), at(3 + n), 1, "overflow")) for n in range(KEPT_SESSIONS + 9)))
    assert [row.frames_missing for row in one.rows() if row.cause == "upstream"] == [3]
    assert [row.healed_by for row in one.rows() if row.cause == "upstream"] == [None]


def test_a_row_that_is_told_when_there_are_many_is_taken_back_too(data: Path, tmp_path: Path) -> None:
    """The holes of an archiver with more rows than it keeps are filled late."""
    one, gaps = Archiver(data, tmp_path / "one"), KEPT_ROWS + 9
    for n in range(1, gaps + 1):
        one.read((10 * n, Opened(at(10 * n), n)), (10 * n + 1, n))
        one.read((10 * n + 2, Closed(at(10 * n + 2), "disconnect", session=n)))
        one.rows()
    last = 10 * gaps + 10
    one.read((last, Opened(at(last), gaps + 1)), (last + 1, gaps + 1), (last + 2, gaps + 3))
    assert [row.healed_by for row in one.rows() if row.cause == "upstream"] == [None]
    one.read((last + 3, gaps + 2))
    assert [row.healed_by for row in one.rows() if row.cause == "upstream"] == ["ids"]


def archive(data: Path, *trades: tuple[float, int], exchange_s: float = 0.0) -> None:
    """Writes trades into the archive, each at its time; the exchange's clock is so far ahead."""
    by_minute: dict[int, list[Frame]] = {}
    for seconds, number in trades:
        event_ms = at(seconds + exchange_s) // 1_000_000
        payload = json.dumps({"E": event_ms, "a": number, "m": True}, separators=(",", ":")).encode()
        frames = by_minute.setdefault(event_ms // 60_000, [])
        frames.append(Frame(at(seconds), "a-1", number, payload))
    for minute, frames in ((Minute(TRADES, number), frames) for number, frames in by_minute.items()):
        path = data / raw_minute(minute)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(minute_zip(*pack(minute, render(frames), Summary.of(frames)))))


@pytest.mark.parametrize("is_bundled", [False, True])
def test_what_was_archived_before_the_start_is_no_hole(is_bundled: bool, data: Path, tmp_path: Path) -> None:
    """Redis refused a part of a batch, so copies stand in another order: who starts between them reads 10, 12 and 15,
    while 11 and 13 are in the archive already, and 14 is nowhere."""
    archive(data, (1, 10), (2, 11), (4, 13))  # all of one minute
    if is_bundled:
        (minute,) = (data / "raw").rglob("*.zip")
        minute.rename(minute.parent.with_suffix(".zip"))
    late = Archiver(data, tmp_path / "late")
    late.read((0, Opened(at(0))), (1, 10), (3, 12), (6, 15), (7, 16))
    (row,) = late.rows()
    assert (row.cause, row.frames_missing, row.from_ns, row.to_ns) == ("upstream", 1, at(4), at(6))


@pytest.mark.parametrize("exchange_s", [-150, 150])
def test_the_archive_is_looked_into_by_the_exchanges_clock(exchange_s: float, data: Path, tmp_path: Path) -> None:
    """Frames are filed by it, and ours may be minutes off."""
    archive(data, (1, 10), (2, 11), (3, 12), exchange_s=exchange_s)
    late = Archiver(data, tmp_path / "late")
    late.read((0, Opened(at(0))), (1, 10), (4, 13))
    assert late.rows() == []


def test_a_hole_of_many_hours_is_looked_into_part_by_part(data: Path, tmp_path: Path) -> None:
    """A spill is adopted hours later, while a twin recorded: what is read again is old, and all between is archived."""
    hours = 3 * MOST_MINUTES * 60
    archive(data, *((seconds, seconds // 10) for seconds in range(0, hours, 10)))
    late = Archiver(data, tmp_path / "late")
    late.read((0, Opened(at(0))), (10, 1), (hours, hours // 10))
    for number in range(1, 5):
        rows = late.rows()
        late.read((hours + number, hours // 10 + number))
    assert [row for row in rows if row.healed_by is None] == []


def test_a_hole_since_the_start_is_not_sought(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever came since then was read: a disconnect costs no look into the archive."""
    monkeypatch.setattr("archiver.bookkeeper.now_ns", lambda: at(0))
    archive(data, (400, 11))
    one = Archiver(data, tmp_path / "one")
    one.read((0, Opened(at(0))), (399, 10), (401, 12))
    assert [row.frames_missing for row in one.rows()] == [1]


@pytest.mark.parametrize("damage", [None, "cut off", "a folder"])
def test_a_gap_does_not_lack_what_was_archived_before_the_start(
    damage: str | None, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A frame on its side that is not read again does not count. A minute that cannot be read is named, and proves
    nothing: the books go on."""
    archive(data, (1, 10), (2, 11))
    (minute,) = (data / "raw").rglob("*.zip")
    if damage == "cut off":
        minute.write_bytes(minute.read_bytes()[:-30])
    elif damage == "a folder":
        minute.unlink()
        minute.mkdir()
    late = Archiver(data, tmp_path / "late")
    late.read((0, Opened(at(0))), (1, 10), (2.05, Closed(at(2.05), "disconnect")), (8, Opened(at(8), 2)), (9, 15))
    assert [(row.cause, row.frames_missing) for row in late.rows()] == [("disconnect", 4 if damage else 3)]
    assert bool(damage) == ("ids in it are not seen" in caplog.text)
