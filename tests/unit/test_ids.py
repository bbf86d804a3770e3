"""Runs of ids, and the holes between them."""

from hypothesis import given
from hypothesis import strategies as st

from archiver.ids import KEPT_RUNS, Hole, Ids

EVER = float("inf")


@given(st.lists(st.integers(1, 60), max_size=60))
def test_holes_are_what_never_came(numbers: list[int]) -> None:
    """In whatever order and however often ids come, the holes are exactly the ids between them that did not."""
    ids = Ids()
    for at, number in enumerate(numbers):
        ids.add(number, at, 0.0)
    lacking = {number for hole in ids.holes(EVER) for number in range(hole.last_id + 1, hole.next_id)}
    assert lacking == set(range(min(numbers, default=0), max(numbers, default=-1))) - set(numbers)
    assert sum(hole.frames for hole in ids.holes(EVER)) == len(lacking)


def test_only_what_changes_a_hole_is_told() -> None:
    """Frames that follow one another, or came before, change nothing."""
    ids = Ids()
    assert ids.add(5, 50, 0.0)
    assert not ids.add(6, 60, 0.0)
    assert not ids.add(5, 61, 0.0)
    assert ids.add(9, 90, 1.0)
    assert list(ids.holes(EVER)) == [Hole(6, 9, 60, 90)]
    assert ids.add(8, 91, 1.0)
    assert list(ids.holes(EVER)) == [Hole(6, 8, 60, 91)]
    assert ids.add(7, 92, 2.0)
    assert list(ids.holes(EVER)) == []


def test_a_young_hole_waits_for_the_twin() -> None:
    """A hole counts when it is older than the moment that is asked for."""
    ids = Ids()
    ids.add(1, 1, 10.0)
    ids.add(5, 2, 20.0)
    assert list(ids.holes(20.0)) == []
    assert len(list(ids.holes(20.1))) == 1


def test_what_an_interval_lacks_is_known_between_two_frames_only() -> None:
    """Before the first frame, or after the last, nobody knows how many there were."""
    ids = Ids()
    ids.add(10, 100, 0.0)
    ids.add(20, 200, 0.0)
    assert ids.missing(120, 180) == 9
    assert ids.missing(50, 180) is None
    assert ids.missing(120, 300) is None
    assert ids.missing(200, 200) == 9


def test_old_runs_are_forgotten() -> None:
    """A stream full of holes needs bounded memory."""
    ids = Ids()
    for number in range(0, 1000, 2):
        ids.add(number, number, 0.0)
    assert len(list(ids.holes(EVER))) == KEPT_RUNS - 1


@given(st.integers(-60_000, 60_000))
def test_a_late_frame_proves_nothing_of_the_time_in_which_it_came(clock_ms: int) -> None:
    """A connection lags by 2 s and ends: what its last frame's receive time says is held against the time at which it
    was sent, also where the two clocks differ by a minute."""
    ids, second = Ids(), 1_000_000_000
    for number, at_s, lag_s in ((1, 10, 0), (2, 20, 2), (9, 40, 0)):
        receive_ns = (1000 + at_s + lag_s) * second
        ids.add(number, receive_ns, 0.0, (1000 + at_s) * 1000 + clock_ms - 50)
    assert ids.missing(1020 * second, 1021 * second) == 6
    assert ids.missing(1012 * second, 1018 * second) == 0
