"""Which stream goes over which connection."""

import pytest

from common.settings import Settings
from ingest.plan import recorded, seats


def test_each_stream_has_its_own_route() -> None:
    """USD-M depth goes to /public, trades and marks to /market; spot has one route; nothing is asked for twice."""
    symbols = {"um": ["BTCUSDT"], "spot": ["BTCUSDT"]}
    found = seats(recorded(["depth20", "aggTrade", "markPrice"], symbols), 200)
    urls = [route.url(Settings()).rpartition("binance.com")[2] for route, _ in found]
    assert [(url, [stream.channel for stream in part]) for url, (_, part) in zip(urls, found, strict=True)] == [
        ("/public/stream", ["depth20"]),
        ("/market/stream", ["aggTrade", "markPrice"]),
        (":9443/stream", ["depth20", "aggTrade"]),
    ]


def test_a_channel_that_a_market_lacks_is_left_out_there() -> None:
    """Spot has no markPrice and no forceOrder."""
    streams = recorded(["depth20", "markPrice", "forceOrder"], {"spot": ["BTCUSDT", "ETHUSDT"]})
    assert {stream.channel for stream in streams} == {"depth20"}


@pytest.mark.parametrize("count", [1, 200, 201, 500, 1000])
def test_limits_are_kept_for_any_number_of_symbols(count: int) -> None:
    """At most 200 streams a connection, parts of nearly the same size, every stream once."""
    symbols = [f"S{number}USDT" for number in range(count)]
    parts = [part for _, part in seats(recorded(["depth20"], {"um": symbols}), 200)]
    sizes = list(map(len, parts))
    assert max(sizes) <= 200
    assert max(sizes) - min(sizes) <= 1
    assert sorted(stream.symbol for part in parts for stream in part) == sorted(symbols)
