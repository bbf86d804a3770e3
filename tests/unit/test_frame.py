"""A frame survives the line of the archive, whatever its payload holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.frame import Frame, event_time_ms, from_line, is_json_line, new_connection_id, to_line, to_staged_line

frames = st.builds(
    Frame,
    st.integers(0, 2**63 - 1),
    st.from_regex(r"[0-9a-f]{15}-[0-9a-f]{4}", fullmatch=True),
    st.integers(1, 2**40),
    st.binary() | st.sampled_from([b'{"E":1}', b'{ "a" : "\xc3\xa9" }', b'"b"', b"[1,\n2]", b'{"d":"}"}']),
)


@given(frames)
def test_a_line_gives_its_frame_back(frame: Frame) -> None:
    """Reading what was written gives the same frame, byte for byte."""
    assert from_line(to_line(frame)) == frame
    assert from_line(to_staged_line(frame)) == frame
    assert b"\n" not in to_line(frame)


@pytest.mark.parametrize("line", [b"", b"{}", b'{"t":1,"c":"x","n":2,"d":3', b'{"t":1,"c":"x","n":2,"b":"*"}'])
def test_a_line_of_something_else_is_refused(line: bytes) -> None:
    """What is no line of the archive raises, and the error shows it."""
    with pytest.raises(ValueError, match="line of the archive"):
        from_line(line)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"e":"depthUpdate","E":1790526538985,"T":1}', 1790526538985),
        (b'{"e": "kline", "E" : 1790526538985}', 1790526538985),
        (b'{"E":12345678901234567}', 12345678901234567),
        (b'{"lastUpdateId":160,"bids":[]}', None),
        (b'{"e":"E","x":1}', None),
    ],
)
def test_event_time_is_found_where_it_is(payload: bytes, expected: int | None) -> None:
    """The event time is read with and without blanks, in ms and in us, and is None where there is none."""
    assert event_time_ms(payload) == expected


def test_connection_ids_differ() -> None:
    """Two connections opened at the same moment have different ids."""
    assert len({new_connection_id() for _ in range(1000)}) > 990


def test_json_on_one_line_is_told_from_the_rest() -> None:
    """Truncated, binary and broken payloads are no JSON lines; NaN, arrays and blanks follow the JSON rules."""
    assert is_json_line(b'{"a": [1, 2]}')
    assert not any(map(is_json_line, [b'{"a":1', b"\xff", b'{"a":"\xff"}', b'{"a":\n1}', b"", b"nan"]))
