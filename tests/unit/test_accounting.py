"""The simulations' own judgement: no gap without a row, no row without a gap."""

import pytest

from common.clock import SECOND_NS, iso
from common.ledger import Row
from common.session import Cause
from common.streams import Stream
from tests.sims.accounting import Account
from tests.sims.exchange.sent import Sent
from tests.sims.exchange.spans import Span

STREAM = Stream("um", "depth20", "BTCUSDT")
BEGAN_NS = 1_795_000_000 * SECOND_NS


def at(seconds: float) -> int:
    return BEGAN_NS + round(seconds * SECOND_NS)


def row(
    from_s: float,
    to_s: float | None,
    cause: Cause = "disconnect",
    *,
    missing: int | None = 1,
    healed_by: str | None = None,
    stream: Stream = STREAM,
) -> Row:
    to = None if to_s is None else iso(at(to_s))
    return Row(f"{from_s}", 1, *stream, iso(at(from_s)), to, cause, missing, False, healed_by)


def span(connection: int, from_s: float, to_s: float | None) -> Span:
    return Span(connection, at(from_s), None if to_s is None else at(to_s))


def served(*spans: Span, rows: tuple[Row, ...], absent_s: tuple[float, ...] = ()) -> Account:
    """An account of one stream, asked for 100 s after the beginning."""
    return Account(
        rows=list(rows), spans={STREAM: list(spans)}, absent_ns={STREAM: [at(one) for one in absent_s]}, at_ns=at(100)
    )


@pytest.mark.parametrize(
    ("spans", "absent_s", "is_justified"),
    [
        pytest.param((span(1, 0, None),), (), False, id="served-all-the-time"),
        pytest.param((span(1, 0, 10), span(2, 12, None)), (), True, id="nobody-served-within"),
        pytest.param((span(1, 0, 11), span(2, 9, 20), span(3, 15, None)), (), False, id="spans-overlap"),
        pytest.param((span(1, 0, 5), span(2, 8, None)), (), False, id="nobody-served-before-it"),
        pytest.param((span(1, 0, None),), (11.0,), True, id="a-frame-is-missing-within"),
        pytest.param((span(1, 0, None),), (5.0, 20.0), False, id="frames-are-missing-elsewhere"),
        pytest.param((span(1, 11, None),), (), True, id="served-only-since"),
        pytest.param((), (), True, id="never-served"),
    ],
)
def test_a_row_needs_a_gap(spans: tuple[Span, ...], absent_s: tuple[float, ...], is_justified: bool) -> None:
    """A row of 10 to 12 s is justified by a frame missing in it, or by a moment of it when nobody was served."""
    one = row(10, 12)
    assert served(*spans, rows=(one,), absent_s=absent_s).unjustified() == ([] if is_justified else [one])


@pytest.mark.parametrize(
    ("spans", "absent_s", "is_justified"),
    [
        pytest.param((span(1, 0, 10),), (), True, id="nothing-came-again"),
        pytest.param((span(1, 0, 50),), (60.0,), False, id="the-test-ended"),
        pytest.param((span(1, 0, None),), (), False, id="served-to-this-day"),
        pytest.param((span(1, 0, 10), span(2, 20, 50)), (), True, id="nobody-served-for-a-while"),
        pytest.param((span(1, 0, 50),), (30.0,), True, id="a-frame-is-missing"),
    ],
)
def test_an_open_row_is_not_justified_by_the_end_of_the_test(
    spans: tuple[Span, ...], absent_s: tuple[float, ...], is_justified: bool
) -> None:
    """One that is open since 10 s needs a gap before the last moment served, or begins there."""
    one = row(10, None, "halted")
    assert served(*spans, rows=(one,), absent_s=absent_s).unjustified() == ([] if is_justified else [one])


def test_rows_that_are_no_gaps_need_none() -> None:
    """Healed rows, the open stop at the end, and rejected frames are no gaps; marks stand apart."""
    mark = row(3, 4, "gate", missing=0)
    gap = row(5, 6, "gate", missing=2)
    rejected = row(7, 8, "rejected")
    account = served(
        span(1, 0, None),
        rows=(
            row(1, 2, healed_by="ids"),
            mark,
            row(4, 5, "suspend", missing=0),
            gap,
            rejected,
            row(9, None, "maintenance"),
        ),
    )
    assert account.marks() == [mark, account.rows[2]]
    assert account.holding() == [gap, rejected]
    assert account.unjustified() == [gap]


def test_a_good_run_has_an_empty_verdict() -> None:
    """A missing frame in a row with an expected cause, on both sides accounted for, leaves nothing to say."""
    account = served(span(1, 0, 10), span(2, 12, None), rows=(row(10, 12),), absent_s=(11.0,))
    account.missing = {STREAM: [Sent(at(11), b"x" * 8, 0, 0)]}
    assert account.verdict({"disconnect"}) == ""


def test_the_verdict_tells_all_that_is_wrong() -> None:
    """Each fault has its line: doubled, alien, unexplained, unjustified, unexpected cause."""
    account = served(span(1, 0, None), rows=(row(10, 12, "stale"),), absent_s=(20.0,))
    account.missing = {STREAM: [Sent(at(20), b"x" * 8, 0, 0)]}
    account.doubled, account.alien = {STREAM: 2}, {STREAM: 3}
    verdict = account.verdict({"disconnect"})
    for part in (
        "2 frames doubled",
        "3 frames that were never sent",
        "1 unexplained",
        "stale (1 missing): no frame is missing",
        "stale (1 missing): not a cause",
    ):
        assert part in verdict
