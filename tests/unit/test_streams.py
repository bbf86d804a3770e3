"""Names of streams, and what is none."""

import pytest

from common.streams import Stream, unknown


def test_a_key_gives_its_stream_back() -> None:
    """A stream's key reads back, symbols of any script included."""
    for stream in (Stream("um", "depth20", "BTCUSDT"), Stream("spot", "aggTrade", "测试USDT"), unknown("um")):
        assert Stream.from_key(stream.key) == stream


@pytest.mark.parametrize(
    "key",
    [
        "",
        "md:um:depth20",
        "md:um:depth20:",
        "xx:um:depth20:A",
        "md:cm:depth20:A",
        "md:um:depth21:A",
        "md:um:depth20:../A",
        "md:um:depth20:.A",
        "md:um:depth20:a/b",
        "md:um:depth20:a\0b",
    ],
)
def test_what_is_no_stream_is_refused(key: str) -> None:
    """Names with another shape, and symbols that would lead out of the archive, are refused by name."""
    with pytest.raises(ValueError, match=r"name of (a|the) stream"):
        Stream.from_key(key)


def test_the_exchanges_name_is_in_lower_case() -> None:
    """The symbol's part is lower case, the rest as the exchange spells it."""
    assert Stream("um", "markPrice", "BTCUSDT").exchange_name == "btcusdt@markPrice@1s"
