"""What gate and collectors say through Redis reads back as it was written, and what nobody writes is refused."""

import hiredis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.gate import (
    EVENTS,
    STATE,
    Decision,
    MarketNow,
    Sample,
    Start,
    SymbolNow,
    Table,
    event_of,
    pack_event,
    pack_sample,
    pack_state,
    sample_of,
    samples_key,
    states_of,
    table_of,
)

NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6))
DECISIONS = st.builds(
    Decision,
    symbol=st.sampled_from(["BTCUSDT", "测试USDT"]),
    median_ms=NUMBERS,
    offset_ms=NUMBERS,
    uncertainty_ms=NUMBERS,
    close_above_ms=st.floats(0, 1e5),
    open_below_ms=st.floats(0, 1e5),
    dwell_s=st.floats(0, 1e5),
    time_ns=st.integers(0, 1 << 62),
    since_ns=st.integers(0, 1 << 62),
    samples=st.integers(0, 1000),
)


def words(packed: bytes) -> list[bytes]:
    """A command as Redis reads it."""
    reader = hiredis.Reader()
    reader.feed(packed)
    found: list[bytes] = reader.gets()
    return found


@given(st.dictionaries(st.text(min_size=1, max_size=12), st.floats(-1e7, 1e7), max_size=20), st.integers(0, 1 << 62))
def test_a_sample_reads_back(latencies_ms: dict[str, float], at_ns: int) -> None:
    """To a microsecond, whatever the symbols are called; the stream is kept short."""
    command = words(pack_sample("um", "host-1", at_ns, latencies_ms))
    assert command[:6] == [b"XADD", samples_key("um").encode(), b"MAXLEN", b"~", b"300", b"*"]
    rounded = {symbol: round(latency_ms, 3) for symbol, latency_ms in latencies_ms.items()}
    assert sample_of(command[6:]) == Sample("host-1", at_ns, rounded)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"c", b"x"],
        [b"c", b"x", b"t", b"soon", b"d", b"{}"],
        [b"c", b"\xff", b"t", b"1", b"d", b"{}"],
        [b"c", b"x", b"t", b"1", b"d", b"[1]"],
        [b"c", b"x", b"t", b"1", b"d", b'{"BTCUSDT": "1"}'],
        [b"c", b"x", b"t", b"1", b"d", b'{"BTCUSDT": NaN}'],
    ],
)
def test_what_is_no_sample_is_refused(fields: list[bytes]) -> None:
    """An entry that no collector writes is a ValueError that shows it."""
    with pytest.raises(ValueError, match="not a latency sample"):
        sample_of(fields)


@given(DECISIONS)
def test_a_decision_reads_back(decision: Decision) -> None:
    """As an event and as a state."""
    event, state = words(pack_event(decision)), words(pack_state(decision))
    assert event[:6] == [b"XADD", EVENTS.encode(), b"MAXLEN", b"~", b"10000", b"*"]
    assert event_of(event[6:]) == decision
    assert state[:2] == [b"HSET", STATE.encode()]
    assert states_of(state[2:]) == {f"{decision.market}:{decision.symbol}": decision}


def test_events_of_other_versions_are_let_be() -> None:
    """A kind that this version does not know is None; what is no event is refused; a state that cannot be read is left
    out; a field that a later version adds is ignored."""
    start = Start(1, "me", "pause", None, 0, 0, "because")
    assert event_of(words(pack_event(start))[6:]) == start
    assert event_of([b"k", b"of tomorrow", b"d", b"{}"]) is None
    for wrong in ([], [b"k", b"start"], [b"k", b"start", b"d", b"{"]):
        with pytest.raises(ValueError, match=r"not an event|truncated"):
            event_of(wrong)
    assert states_of([b"um:X", b"{}", b"um:Y", b"1"]) == {}
    more = msgspec.json.encode(msgspec.structs.asdict(start) | {"new": 1})
    assert event_of([b"k", b"start", b"d", more]) == start


def test_the_table_reads_back() -> None:
    """With what is unknown as None."""
    table = Table(
        1, "flag", {"um": MarketNow(None, 1.5, 3.0, None, 2)}, {"um:BTCUSDT": SymbolNow(None, 0, "none", 2000, 1000)}
    )
    assert table_of(msgspec.json.encode(table)) == table
    with pytest.raises(ValueError, match="Expected"):
        table_of(b"[]")
