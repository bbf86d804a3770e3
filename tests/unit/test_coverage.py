"""From sessions to the ledger's rows."""

from hypothesis import given
from hypothesis import strategies as st

from archiver.coverage import KEPT_SESSIONS, Coverage, by_pace
from archiver.ids import Ids
from archiver.revisions import explained, withdrawn
from common.clock import SECOND_NS, from_iso
from common.ledger import Row
from common.session import Cause, Closed, Dropped, Event, Marked, Opened
from common.streams import Stream

STREAM = Stream("um", "depth20", "BTCUSDT")
TRADES = Stream("um", "aggTrade", "BTCUSDT")
EVER = float("inf")


def seconds(value: float) -> int:
    return 1_790_000_000 * SECOND_NS + int(value * SECOND_NS)


def coverage(*events: tuple[str, Event]) -> Coverage:
    built = Coverage(STREAM)
    for connection, event in events:
        built.add(connection, event)
    return built


def opened(at: float) -> Opened:
    return Opened(seconds(at))


def closed(at: float, cause: Cause = "disconnect") -> Closed:
    return Closed(seconds(at), cause)


def spans(rows: list[Row]) -> list[tuple[float, float | None, str]]:
    start = seconds(0)
    return [
        ((row.from_ns - start) / SECOND_NS, None if row.to_ns is None else (row.to_ns - start) / SECOND_NS, row.cause)
        for row in rows
    ]


def test_what_is_covered_throughout_has_no_row() -> None:
    """A living session, and two that overlap, leave no gap."""
    assert coverage(("a", opened(0))).rows(EVER) == []
    assert coverage(("a", opened(0)), ("b", opened(5)), ("a", closed(9))).rows(EVER) == []


def test_between_two_sessions_is_a_gap_with_the_first_ones_cause() -> None:
    """The row runs from where the first was last heard to where the second opened."""
    built = coverage(("a", opened(0)), ("a", closed(10, "disconnect")), ("b", opened(12)))
    assert spans(built.rows(EVER)) == [(10, 12, "disconnect")]
    assert built.rows(EVER)[0].frames_missing == by_pace(STREAM, seconds(10), seconds(12)) == 19


def test_sessions_that_one_frame_ends_and_opens_touch() -> None:
    """It came half a millisecond later on the second connection; two are a gap."""
    for apart_s, rows in ((0.0005, 0), (0.002, 1)):
        built = coverage(("a", opened(0)), ("a", closed(10, "stale")), ("b", opened(10 + apart_s)))
        assert len(built.rows(EVER)) == rows


def test_a_gap_after_a_rotation_has_the_cause_of_the_one_that_took_over() -> None:
    """The next connection opened, and nothing ever came on it: the gap begins where the old one ended."""
    built = coverage(("a", opened(0)), ("b", opened(8)), ("a", closed(10, "rotation")), ("b", closed(8, "stale")))
    assert spans(built.rows(EVER)) == [(10, None, "stale")]
    built.add("c", opened(30))
    assert spans(built.rows(EVER)) == [(10, 30, "stale")]
    built = coverage(("a", opened(0)), ("a", closed(5)), ("b", opened(7)), ("b", closed(10, "rotation")))
    assert spans(built.rows(EVER)) == [(5, 7, "disconnect"), (10, None, "rotation")]


def test_after_the_last_session_the_row_is_open_and_keeps_its_id() -> None:
    """An open gap has no end; when a session opens the same row is closed."""
    built = coverage(("a", opened(0)), ("a", closed(10, "maintenance")))
    (before,) = built.rows(EVER)
    built.add("b", opened(60))
    (after,) = built.rows(EVER)
    assert (before.to, before.id) == (None, after.id)
    assert spans([after]) == [(10, 60, "maintenance")]


def test_a_session_that_died_ends_where_it_was_last_heard() -> None:
    """Without a closing event the cause is `crash`, from the last frame on."""
    built = coverage(("a", opened(0)), ("b", opened(30)))
    built.sessions["a", 1].heard(seconds(20))
    assert built.rows(EVER) == []
    built.sessions["a", 1].dead = True
    assert spans(built.rows(EVER)) == [(20, 30, "crash")]


def test_a_twin_that_covers_leaves_no_row() -> None:
    """What one collector missed and the other received is no gap."""
    built = coverage(("a", opened(0)), ("b", opened(1)), ("a", closed(10)), ("c", opened(15)))
    assert built.rows(EVER) == []
    built.add("b", closed(12))
    assert spans(built.rows(EVER)) == [(12, 15, "disconnect")]


def test_dropped_frames_have_a_row_with_their_number() -> None:
    """What was received and not kept is a row of its own inside the session."""
    built = coverage(("a", opened(0)), ("a", Dropped(seconds(3), seconds(4), 7, "redis")))
    assert spans(built.rows(EVER)) == [(3, 4, "redis")]
    assert built.rows(EVER)[0].frames_missing == 7


def test_a_row_that_holds_no_more_is_withdrawn() -> None:
    """A collector that was thought dead and goes on heals its row; a healed row is left alone."""
    built = coverage(("a", opened(0)))
    built.sessions["a", 1].dead = True
    rows = built.rows(EVER)
    built.sessions["a", 1].dead = False
    (healed,) = withdrawn(rows, built.rows(EVER), "resumed")
    assert (healed.healed_by, healed.frames_missing, healed.to) == ("resumed", 0, rows[0].from_)
    assert withdrawn([healed], [], "resumed") == []


def test_a_connection_may_have_several_sessions() -> None:
    """Unsubscribed and subscribed again on one connection, or silent for a while: a row between its two sessions."""
    built = coverage(("a", opened(0)), ("a", closed(10, "gate")), ("a", Opened(seconds(20), 2)))
    assert spans(built.rows(EVER)) == [(10, 20, "gate")]
    built.add("a", Closed(seconds(30), "stale", session=2))
    built.add("a", Opened(seconds(35), 3))
    assert spans(built.rows(EVER)) == [(10, 20, "gate"), (30, 35, "stale")]
    assert len({row.id for row in built.rows(EVER)}) == 2


def test_session_zero_says_why_nothing_is_covered() -> None:
    """A collector that starts while the gate is closed ends the row before and begins one with the right cause."""
    built = coverage(("a", opened(0)), ("a", closed(10, "maintenance")))
    built.add("b", Opened(seconds(20), 0))
    built.add("b", Closed(seconds(20), "gate", session=0))
    assert spans(built.rows(EVER)) == [(10, 20, "maintenance"), (20, None, "gate")]


def test_a_mark_is_a_row_without_missing_frames_that_ends_with_its_connection() -> None:
    """Recorded and marked: no frame is missing; a collector that dies cannot leave the mark open for ever."""
    built = coverage(("a", opened(0)), ("a", Marked(seconds(5), "gate")))
    assert spans(built.rows(EVER)) == [(5, None, "gate")]
    assert built.rows(EVER)[0].frames_missing == 0
    ended = coverage(("a", opened(0)), ("a", Marked(seconds(5), "gate", seconds(7))), ("a", Marked(seconds(5), "gate")))
    assert spans(ended.rows(EVER)) == [(5, 7, "gate")]
    built.add("a", closed(9))
    assert (9, "gate") in [(to, cause) for _, to, cause in spans(built.rows(EVER))]


def trades(*numbers: tuple[int, float]) -> Ids:
    ids = Ids()
    for number, at in numbers:
        ids.add(number, seconds(at), 0.0)
    return ids


def test_ids_count_what_a_gap_lacks() -> None:
    """The frames missing in a gap are those whose ids never came; before the first frame after it nobody knows."""
    built = coverage(("a", opened(0)), ("a", closed(10)), ("b", opened(12)))
    built.stream = TRADES
    built.ids = trades((5, 9))
    assert (built.rows(EVER)[0].frames_missing, built.awaits_ids()) == (None, True)
    built.ids.add(9, seconds(13), 0.0)
    (row,) = built.rows(EVER)
    assert (row.cause, row.frames_missing, built.awaits_ids()) == ("disconnect", 3, False)


def test_a_gap_in_which_ids_prove_that_nothing_is_missing_is_none() -> None:
    """Consecutive ids on both sides of a gap: there is no row."""
    built = coverage(("a", opened(0)), ("a", closed(10, "stale")), ("a", Opened(seconds(40), 2)))
    built.ids = trades((5, 9), (6, 41))
    assert built.rows(EVER) == []


def test_ids_missing_inside_a_session_are_the_exchanges_doing() -> None:
    """A hole that no gap and no drop explains is a row `upstream`, once it is old enough."""
    built = coverage(("a", opened(0)))
    built.ids = trades((5, 9), (8, 9.5))
    assert built.rows(0.0) == []
    (row,) = built.rows(EVER)
    assert (row.cause, row.frames_missing) == ("upstream", 2)
    assert not explained([row], row)
    built.add("a", Dropped(seconds(9.2), seconds(9.3), 2, "redis"))
    (dropped,) = built.rows(EVER)
    assert dropped.cause == "redis"
    assert explained([dropped], row)


def test_a_twin_that_covered_all_the_while_is_remembered_longest() -> None:
    """One collector flaps more often than sessions are kept, its twin covers a day and rotates: still no row."""
    built = coverage(("b", opened(0)), ("c", opened(990)))
    for number in range(2 * KEPT_SESSIONS):
        built.add(f"a{number}", opened(number))
        built.add(f"a{number}", closed(number + 0.5))
    built.add("b", closed(1000, "rotation"))
    built.add("d", opened(1001))
    assert len(built.sessions) <= KEPT_SESSIONS
    assert built.rows(EVER) == []


def test_what_is_kept_of_a_stream_is_bounded() -> None:
    """A clock that is stepped again and again, and a hold that is full again and again, do not fill the memory."""
    built = coverage(("a", opened(0)))
    for number in range(1000):
        built.add("a", Marked(seconds(number), "suspend", seconds(number)))
        built.add("a", Dropped(seconds(number), seconds(number), 1, "overflow"))
    assert len(built.rows(EVER)) == 2 * KEPT_SESSIONS


moments = st.integers(0, 100)


@given(st.lists(st.tuples(st.sampled_from("abcd"), moments, moments), max_size=6), st.randoms())
def test_rows_are_the_complement_of_the_sessions(sessions: list[tuple[str, int, int]], dice: object) -> None:
    """In whatever order, and however often, events come: a moment is in a row or in a session, and never in both."""
    events: list[tuple[str, Event]] = []
    spans_of: dict[str, tuple[int, int]] = {}
    for name, one, other in sessions:
        if name not in spans_of and one != other:
            start, end = sorted((one, other))
            spans_of[name] = start, end
            events += [(name, opened(start)), (name, closed(end))]
    dice.shuffle(events)  # type: ignore[attr-defined]
    found = spans(coverage(*events, *events).rows(EVER))
    if not spans_of:
        assert found == []
        return
    last = max(end for _, end in spans_of.values())
    assert [span for span in found if span[1] is None] == [(last, None, "disconnect")]
    for tenth in range(min(start for start, _ in spans_of.values()) * 10 + 5, last * 10, 10):
        moment = tenth / 10
        covered = any(start < moment < end for start, end in spans_of.values())
        in_row = any(start < moment < (end or 0) for start, end, _ in found)
        assert covered != in_row, moment


def test_moments_are_kept_to_the_nanosecond() -> None:
    """A row's ends survive their text."""
    at = 1_790_000_000_123_456_789
    built = coverage(("a", Opened(at - 5)), ("a", Closed(at, "disconnect")))
    assert from_iso(built.rows(EVER)[0].from_) == at
