"""From sessions to the ledger's rows."""

from hypothesis import given
from hypothesis import strategies as st

from archiver.coverage import Coverage, by_pace, withdrawn
from common.clock import SECOND_NS, from_iso
from common.ledger import Row
from common.session import Cause, Closed, Dropped, Event, Opened
from common.streams import Stream

STREAM = Stream("um", "depth20", "BTCUSDT")


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
    assert coverage(("a", opened(0))).rows() == []
    assert coverage(("a", opened(0)), ("b", opened(5)), ("a", closed(9))).rows() == []


def test_between_two_sessions_is_a_gap_with_the_first_ones_cause() -> None:
    """The row runs from where the first was last heard to where the second opened."""
    built = coverage(("a", opened(0)), ("a", closed(10, "disconnect")), ("b", opened(12)))
    assert spans(built.rows()) == [(10, 12, "disconnect")]
    assert built.rows()[0].frames_missing == by_pace(STREAM, seconds(10), seconds(12)) == 19


def test_after_the_last_session_the_row_is_open_and_keeps_its_id() -> None:
    """An open gap has no end; when a session opens the same row is closed."""
    built = coverage(("a", opened(0)), ("a", closed(10, "maintenance")))
    (before,) = built.rows()
    built.add("b", opened(60))
    (after,) = built.rows()
    assert (before.to, before.id) == (None, after.id)
    assert spans([after]) == [(10, 60, "maintenance")]


def test_a_session_that_died_ends_where_it_was_last_heard() -> None:
    """Without a closing event the cause is `crash`, from the last frame on."""
    built = coverage(("a", opened(0)), ("b", opened(30)))
    built.heard("a", seconds(20))
    assert built.rows() == []
    built.sessions["a"].dead = True
    assert spans(built.rows()) == [(20, 30, "crash")]


def test_a_twin_that_covers_leaves_no_row() -> None:
    """What one collector missed and the other received is no gap."""
    built = coverage(("a", opened(0)), ("b", opened(1)), ("a", closed(10)), ("c", opened(15)))
    assert built.rows() == []
    built.add("b", closed(12))
    assert spans(built.rows()) == [(12, 15, "disconnect")]


def test_dropped_frames_have_a_row_with_their_number() -> None:
    """What was received and not kept is a row of its own inside the session."""
    built = coverage(("a", opened(0)), ("a", Dropped(seconds(3), seconds(4), 7, "redis")))
    assert spans(built.rows()) == [(3, 4, "redis")]
    assert built.rows()[0].frames_missing == 7


def test_a_row_that_holds_no_more_is_withdrawn() -> None:
    """A collector that was thought dead and goes on heals its row; a healed row is left alone."""
    built = coverage(("a", opened(0)))
    built.sessions["a"].dead = True
    rows = built.rows()
    built.sessions["a"].dead = False
    (healed,) = withdrawn(rows, built.rows(), "resumed")
    assert (healed.healed_by, healed.frames_missing, healed.to) == ("resumed", 0, rows[0].from_)
    assert withdrawn([healed], [], "resumed") == []


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
    found = spans(coverage(*events, *events).rows())
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
    assert from_iso(built.rows()[0].from_) == at
