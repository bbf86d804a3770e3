"""The rules by which a symbol is opened and closed, and the figures they stand on."""

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.thresholds import BadOverride, Thresholds, ThresholdTable, parse
from gate.judge import Evidence, Flags, judge
from gate.offset import Clock, Measurement, Offsets, measure
from gate.window import Window

THRESHOLDS = Thresholds(close_above_ms=2000, open_below_ms=1000, dwell_s=10)
CLOCK = Clock(offset_ms=0, uncertainty_ms=20)
NEEDED = 5


def judged(
    before: Flags, median_ms: float | None, now_s: float, *, samples: int = 15, clock: Clock | None = CLOCK
) -> Flags:
    raw_ms = median_ms if median_ms is None or clock is None else median_ms - clock.offset_ms
    evidence = Evidence(raw_ms, samples, "own", clock)
    return judge(before, evidence, THRESHOLDS, needed=NEEDED, max_uncertainty_ms=500, now_s=now_s)[0]


OPEN = Flags(True, True)
CLOSED = Flags(False, True)


@pytest.mark.parametrize(
    ("before", "median_ms", "is_open"),
    [
        (OPEN, 2000, True),
        (OPEN, 2001, False),
        (CLOSED, 2001, False),
        (CLOSED, 1000, False),
        (CLOSED, 999, True),
        (OPEN, 999, True),
        (OPEN, 0, True),
    ],
)
def test_closes_above_and_opens_below(before: Flags, median_ms: float, is_open: bool) -> None:
    """Above the upper threshold it closes, below the lower one it opens, and what is in between changes nothing."""
    assert judged(before, median_ms, 100).stream_enable is is_open


@given(st.lists(st.floats(1000, 2000), max_size=50), st.booleans())
def test_nothing_changes_inside_the_band(medians: list[float], is_open: bool) -> None:
    """Whatever the latency does between the two thresholds, the gate stays as it is."""
    flags = Flags(is_open, True)
    for second, median_ms in enumerate(medians):
        flags = judged(flags, median_ms, 100 + second)
        assert flags == Flags(is_open, True)


class Second(NamedTuple):
    median_ms: float | None
    samples: int
    clock: Clock | None


SECONDS = st.builds(
    Second,
    st.one_of(st.none(), st.floats(-10_000, 10_000)),
    st.integers(0, 15),
    st.one_of(st.none(), st.builds(Clock, st.floats(-5000, 5000), st.floats(0, 1000))),
)


@given(st.lists(SECONDS, max_size=80))
def test_dwells(seconds: list[Second]) -> None:
    """However the figures jump, two changes of a symbol lie `dwell_s` apart at least, and each is made on a latency
    that is valid then."""
    flags, changed_s = Flags(), []
    for second, (median_ms, samples, clock) in enumerate(seconds):
        before, flags = flags, judged(flags, median_ms, float(second), samples=samples, clock=clock)
        if flags.stream_enable != before.stream_enable:
            assert flags.latency_valid
            assert samples >= NEEDED
            changed_s.append(second)
    gaps_s = [later - earlier for earlier, later in pairwise(changed_s)]
    assert all(gap_s >= THRESHOLDS.dwell_s for gap_s in gaps_s)


@pytest.mark.parametrize("before", [OPEN, CLOSED])
@pytest.mark.parametrize(
    ("median_ms", "samples", "clock"),
    [
        (9000, 1, CLOCK),
        (None, 0, CLOCK),
        (9000, 15, None),
        (9000, 15, Clock(0, 501)),
        (10, 15, Clock(0, 501)),
    ],
)
def test_what_cannot_be_judged_stays_as_it_is(
    before: Flags, median_ms: float | None, samples: int, clock: Clock | None
) -> None:
    """Too few samples or a clock that is not known make the latency invalid, and change nothing else."""
    flags = judged(before, median_ms, 100, samples=samples, clock=clock)
    assert flags == before._replace(latency_valid=False)


def test_negative_latency_is_a_clock_error() -> None:
    """A latency that is negative by more than the doubt is told as a clock error, and neither closes nor opens; while
    it is one, the tolerance is spared, so that it does not come and go."""
    doubtful = judged(OPEN, -CLOCK.uncertainty_ms - 49, 100)
    assert (doubtful.clock_error, doubtful.latency_valid) == (False, True)
    for before in (OPEN, CLOSED):
        wrong = judged(before, -CLOCK.uncertainty_ms - 51, 100)
        assert (wrong.stream_enable, wrong.latency_valid, wrong.clock_error) == (before.stream_enable, False, True)
        assert judged(wrong, -CLOCK.uncertainty_ms - 1, 101).clock_error
        assert not judged(wrong, -CLOCK.uncertainty_ms + 1, 101).clock_error


def test_a_valid_latency_lasts_on_half_the_samples() -> None:
    """It takes `samples` to become valid and half of them to stay so: a quiet symbol does not flicker."""
    assert not judged(Flags(), 100, 100, samples=4).latency_valid
    assert judged(Flags(), 100, 100, samples=5).latency_valid
    assert judged(OPEN, 100, 100, samples=2).latency_valid
    assert not judged(OPEN, 100, 100, samples=1).latency_valid


def test_the_offset_corrects() -> None:
    """A clock that is 43 s behind the exchange's gives latencies of -43 s, and the gate sees the true ones."""
    clock = Clock(offset_ms=43_000, uncertainty_ms=20)
    evidence = Evidence(-42_800, 15, "own", clock)
    assert evidence.median_ms == 200
    flags, why = judge(OPEN, evidence, THRESHOLDS, needed=5, max_uncertainty_ms=500, now_s=100)
    assert flags == OPEN
    assert why == "the median of 15 samples is 200 ms"


@given(
    st.floats(-100_000, 100_000), st.floats(0, 2000), st.floats(0, 1), st.integers(0, 1 << 60), st.floats(0, 1_000_000)
)
def test_the_true_offset_lies_within_the_doubt(
    offset_ms: float, round_trip_ms: float, share: float, sent_ns: int, sent_s: float
) -> None:
    """However the round trip splits into the way there and the way back, the true offset is within the uncertainty."""
    at_server_ms = sent_ns / 1e6 + offset_ms + share * round_trip_ms
    found = measure(sent_ns, sent_s, sent_s + round_trip_ms / 1000, int(at_server_ms // 1))
    slack_ms = 1e-2 + abs(at_server_ms) * 1e-14
    assert abs(found.offset_ms - offset_ms) <= found.uncertainty_ms(found.at_s) + slack_ms


def test_the_shortest_round_trip_is_remembered() -> None:
    """A slow probe does not spoil what a fast one found, until the clocks may have parted meanwhile."""
    offsets = Offsets()
    assert offsets.best(0) is None
    assert offsets.add(Measurement(0, 10, 40))
    assert offsets.add(Measurement(60, 300, 1000))
    assert offsets.best(60) == pytest.approx(Clock(10, 26.5))
    assert offsets.add(Measurement(3600, 100, 300))
    assert offsets.best(3600) == pytest.approx(Clock(100, 150.5))


def test_a_contradiction_drops_what_was_before() -> None:
    """When a probe excludes what was known, somebody has set a clock: only the new is believed."""
    offsets = Offsets()
    offsets.add(Measurement(0, 10, 40))
    assert not offsets.add(Measurement(60, 5000, 400))
    best = offsets.best(60)
    assert best is not None
    assert best.offset_ms == 5000


SECOND_NS = 1_000_000_000


def test_a_window_is_bounded_and_fresh() -> None:
    """It keeps the newest values, and none that is old."""
    window = Window(3, fresh_s=60)
    assert window.median_ms(0) == (None, 0)
    for second, latency_ms in enumerate([9, 1, 2, 3]):
        window.add(latency_ms, second * SECOND_NS, float(second))
    assert window.median_ms(4) == (2, 3)
    assert window.median_ms(62.5) == (3, 1)
    assert window.median_ms(64) == (None, 0)


def test_of_two_collectors_the_faster_counts() -> None:
    """Two values of one second are one, the smaller: the archive keeps the copy that came first."""
    window = Window(15, fresh_s=60)
    for second in range(4):
        window.add(3000, second * SECOND_NS + 1, second + 0.1)
        window.add(100, second * SECOND_NS + 500_000_000, second + 0.5)
    assert window.median_ms(4) == (100, 4)


def test_thresholds_come_from_the_nearest() -> None:
    """A symbol's override goes over its market's, and that over the defaults, threshold by threshold."""
    table = ThresholdTable(THRESHOLDS, ["um:BTCUSDT open_below_ms=300", "um close_above_ms=1500  dwell_s=20"])
    assert table.of("um", "BTCUSDT") == Thresholds(1500, 300, 20)
    assert table.of("um", "ETHUSDT") == Thresholds(1500, 1000, 20)
    assert table.of("spot", "BTCUSDT") == THRESHOLDS


@given(st.text(max_size=40))
def test_any_text_is_an_override_or_refused(text: str) -> None:
    """No text crashes the parser of overrides."""
    try:
        market, _, values = parse(text)
    except BadOverride:
        return
    assert market in ("um", "spot")
    assert values
